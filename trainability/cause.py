"""Causes: what `check` and `cure` found, with its remedy."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Cause:
    """One reason why a training run does not learn, or learns less than it could."""

    name: str
    """Name of the cause in two or three words, such as "mixed examples"."""
    part: str
    """The part of the training run that the cause concerns, such as "network"."""
    sentence: str
    """The measurement in words, with numbers."""
    remedy: str
    """The repair, with a line to paste if one line is enough."""
    sure: bool = False
    """True for a proof that the training run cannot learn, and for an experiment with the same
    result in three minibatch orders.
    """
    evidence: dict[str, Any] = field(default_factory=dict)
    """The measured numbers, by name."""
    curable: bool = False
    """True if other initial weights may repair the fault, since the proof holds only for the
    present weights.
    """
    repair: str = ""
    """Name of the replacement in the table that repairs the fault (`TableRow.what`); "" if none
    does.
    """
