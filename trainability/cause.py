"""`Cause`: one reason why a training does not learn, with the number that shows it."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Cause:
    """One reason why a training does not learn, or learns less than it could."""

    name: str
    """Two or three words: "mixed examples"."""
    part: str
    """The part of the training at fault: "network"."""
    sentence: str
    """What was measured, with the number."""
    remedy: str
    """What to do, with a line to paste if one is enough."""
    sure: bool = False
    """True if nothing can learn so, or the training learns without it in three orders."""
    evidence: dict[str, Any] = field(default_factory=dict)
    """The numbers, by name."""
