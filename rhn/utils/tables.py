"""Format numbers and texts for printing, and align the rows of a table."""

import math
import re
from collections.abc import Sequence
from typing import Any

MISSING = "-"
EXPLAINED = "rows explained: "
# control characters but tab and line feed, and those that change the direction of writing
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def formatted(value: Any, form: str = ".4g") -> str:
    """Return a number as text: whole numbers in full, others by a format, `-` for None and NaN.

    >>> formatted(12), formatted(1.23456), formatted(float("nan")), formatted(1.0, ".2f")
    ('12', '1.235', '-', '1.00')
    """
    if value is None:
        return MISSING
    if isinstance(value, bool | int):
        return str(int(value))
    number = float(value)
    return MISSING if math.isnan(number) else format(number, form)


def aligned(rows: Sequence[Sequence[str]], gap: int = 3) -> list[str]:
    """Return rows of cells as lines: the first column begins at the left, all others end at the
    right of their column. Missing cells at the end of a row are empty.

    >>> print("\\n".join(aligned([["change", "error"], ["none", "1.02", "*"]])))
    change   error
    none      1.02   *
    """
    width = max((len(row) for row in rows), default=0)
    full = [[*row, *[""] * (width - len(row))] for row in rows]
    sizes = [max(map(len, column)) for column in zip(*full, strict=True)]
    lines = []
    for first, *others in full:
        cells = [cell.rjust(size) for cell, size in zip(others, sizes[1:], strict=True)]
        lines.append((" " * gap).join([first.ljust(sizes[0]), *cells]).rstrip())
    return lines


def printable(text: str) -> str:
    """Return a text for a terminal, with control characters escaped. Such characters in a user's
    file could move the cursor or change colours. Newlines and tabs are kept.

    >>> print(printable("a \\x1b[31mred\\x1b[0m name"))
    a \\x1b[31mred\\x1b[0m name
    """
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
