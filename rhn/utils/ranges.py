"""Numbers with a range, as types: `epochs: Count = 300`. The command line refuses a number outside
of its range, `check_ranges` does so in Python.
"""

from dataclasses import dataclass
from functools import cache
from math import inf
from typing import Annotated, Any, get_type_hints

from cyclopts import Parameter
from cyclopts.parameter import get_parameters

from rhn.errors import InvalidInputError


@dataclass(frozen=True, kw_only=True)
class Range:
    """Bounds of a finite number.

    >>> str(Range(least=0, below=1)), str(Range(above=0, most=9))
    ('0 or more, less than 1', 'a number above 0, at most 9')
    """

    least: float = -inf
    above: float = -inf
    below: float = inf
    most: float = inf

    def __str__(self) -> str:
        words = {
            "{:g} or more": self.least,
            "a number above {:g}": self.above,
            "less than {:g}": self.below,
            "at most {:g}": self.most,
        }
        given = [text.format(bound) for text, bound in words.items() if abs(bound) < inf]
        return ", ".join(given) or "a finite number"

    def __call__(self, hint: Any, value: float | None) -> None:
        """Raise ValueError for a number outside; None is inside. The signature is cyclopts'."""
        if value is None:
            return
        if not (self.least <= value <= self.most and self.above < value < self.below):
            raise ValueError(f"expected {self}")


def within(**bounds: float) -> Parameter:
    """The annotation of a number with these bounds of `Range`."""
    return Parameter(validator=Range(**bounds))


Count = Annotated[int, within(least=1)]
Natural = Annotated[int, within(least=0)]
Positive = Annotated[float, within(above=0)]
NonNegative = Annotated[float, within(least=0)]
Share = Annotated[float, within(least=0, below=1)]


def check_ranges(config: Any) -> None:
    """Raise InvalidInputError, naming the field, for a number of a dataclass outside its range."""
    for name, range_ in _ranges_of(config.__class__):
        value = getattr(config, name)
        try:
            range_(None, value)
        except ValueError as error:
            raise InvalidInputError(f"{name} is {value}, {error}") from None


@cache
def _ranges_of(kind: Any) -> list[tuple[str, Range]]:
    hints = get_type_hints(kind, include_extras=True)
    found: dict[str, Any] = {name: get_parameters(hint)[1] for name, hint in hints.items()}
    return [(name, range_) for name in found for p in found[name] for range_ in p.validator]
