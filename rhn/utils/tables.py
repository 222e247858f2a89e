"""Format numbers, and align the rows of a printed table.

formatted(0.5613), formatted(None)            "0.5613", "-"
aligned([["none", "1.02"], ...])      lines of equal columns
"""

import math
from collections.abc import Sequence
from typing import Any

MISSING = "-"


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


def all_formatted(values: Sequence[Any] | None, form: str = ".4g") -> str:
    """Return several numbers as text, with spaces between them; `-` if there are none.

    >>> all_formatted((0.0, 1.0)), all_formatted(None)
    ('0 1', '-')
    """
    return " ".join(formatted(value, form) for value in values or ()) or MISSING


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
