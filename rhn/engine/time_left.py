"""How fast a training goes and how long it still takes, told from its first epochs."""

import os
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass, field

SETTLED = 3  # units after which a speed counts
FIRST_LINE = 5.0  # seconds after which long work speaks where there is no terminal
LINE_SECONDS = 30.0  # and again so often


@dataclass
class Speed:
    """Units done a second since the first was done: that one also loads, allocates and compiles."""

    clock: Callable[[], float] = time.monotonic
    _first: tuple[float, float] | None = field(default=None, init=False)
    _last: tuple[float, float] = field(default=(0.0, 0.0), init=False)

    def reached(self, units: float) -> None:
        """So many units are done now."""
        self._last = (self.clock(), units)
        self._first = self._first or self._last

    @property
    def rate(self) -> float | None:
        """Units a second; None before `SETTLED` of them were timed."""
        if self._first is None:
            return None
        seconds, units = (last - first for last, first in zip(self._last, self._first, strict=True))
        return units / seconds if units >= SETTLED and seconds > 0 else None

    def left(self, units: float) -> float | None:
        """Seconds that so many units more take; None while unknown."""
        return None if self.rate is None else units / self.rate


def lines_of(text: str) -> str:
    """The text in lines of 80 characters at most, fewer where the terminal of stderr has fewer; all but the first indented."""
    return textwrap.fill(text, terminal_columns(), subsequent_indent="  ")


def terminal_columns(most: int = 80) -> int:
    """How many characters stderr's terminal shows in a line; `most` where it is none, or shows more."""
    try:
        return min(most, os.get_terminal_size(sys.stderr.fileno()).columns) or most
    except (AttributeError, OSError, ValueError):  # no terminal, or a stream without a file
        return most


def duration(seconds: float) -> str:
    """
    >>> duration(42), duration(60 * 38), duration(3600 * 5.25), duration(86400 * 3), duration(86400 * 1400)
    ('42 s', '38 min', '5.2 h', '3 days', '4 years')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    days = seconds / 86400
    return f"{days:.0f} days" if days < 2 * 365 else f"{days / 365:.0f} years"


def rate_words(rate: float, unit: str) -> str:
    """
    >>> rate_words(123.4, "windows"), rate_words(0.31, "epochs")
    ('123 windows/s', '0.31 epochs/s')
    """
    return f"{rate:,.0f} {unit}/s" if rate >= 100 else f"{rate:.2g} {unit}/s"
