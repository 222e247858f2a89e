"""`Cause`: one reason why a network does not learn, with the number that shows it and the line that
mends it.
"""

from dataclasses import dataclass, field
from typing import Any

from rhn.errors import InvalidInputError

CUT = "some repairs of the training, which may show its cause: the time ran out"
BELOW = "falls below that of the best constant output"  # of a loss


@dataclass(frozen=True)
class Cause:
    """One reason why a training does not learn, or learns nothing of use."""

    name: str
    """Two or three words: "softmax twice"."""
    sentence: str
    """What was measured, with the number."""
    remedy: str
    """What to do, with a line to paste if one is enough."""
    evidence: dict[str, Any] = field(default_factory=dict)
    """The numbers, by name."""
    sure: bool = False
    """True if it alone prevents learning: nothing can learn so, or the training stays and a
    repaired one was seen to leave.
    """

    def __str__(self) -> str:
        return f"{self.sentence} {self.remedy}"


class PreventedError(InvalidInputError):
    """No step of this training can be taken, or none can help; `cause` says why."""

    def __init__(self, cause: Cause):
        super().__init__(str(cause))
        self.cause = cause


def prevented(name: str, sentence: str, remedy: str, **evidence: Any) -> PreventedError:
    """The error of a sure cause."""
    return PreventedError(Cause(name, sentence, remedy, evidence, sure=True))


def listed(names: list[str], most: int = 3) -> str:
    """
    >>> listed(["a", "b", "c", "d"])
    'a, b, c and 1 more'
    """
    more = f" and {len(names) - most} more" * (len(names) > most)
    return ", ".join(names[:most]) + more


def digits(value: float, number: int = 3) -> str:
    """
    >>> digits(1.0), digits(0.08014), digits(332.0)
    ('1.00', '0.0801', '332')
    """
    return f"{value:#.{number}g}".rstrip(".")
