"""Format numbers and texts for printing, align the rows of a table, and shorten a table."""

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

MISSING = "-"
EXPLAINED = "rows explained: "
MORE = " more rows: --whole, .csv; explained: "
PRINTED, LISTED = 10, 20  # rows that are printed, at most, and those of a list
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


class Block(NamedTuple):
    """A printed table."""

    rows: Sequence[Sequence[str]]
    heads: Sequence[Sequence[str]] = ()
    """The lines above the rows."""
    feet: Sequence[Sequence[str]] = ()
    """The lines below the rows."""
    is_list: bool = False
    """True for rows of networks, layers, points, lags, or others that have no fixed names."""
    title: str = ""
    """The line above the table."""

    def lines(self, gap: int = 3) -> list[str]:
        """Return the aligned lines."""
        title = [self.title] if self.title else []
        return title + aligned([*self.heads, *self.rows, *self.feet], gap)

    def shortened(self, names: Sequence[str] = ()) -> "Block":
        """Return the first 20 rows of a list, of another table the rows of these names; without
        names the first 20 rows.

        >>> Block([["radius", "0.9"], ["norm", "1.1"]]).shortened(["norm"]).rows
        [['norm', '1.1']]
        """
        if self.is_list or not names:
            return self._replace(rows=self.rows[:LISTED])
        return self._replace(rows=[row for row in self.rows if row[0] in names])


def below_shortened(whole: Sequence[Block], short: Sequence[Block], page: str) -> str:
    """Return the line below shortened tables: how many rows they lack, and the page about them.

    >>> block = Block([["radius", "0.9"], ["norm", "1.1"]])
    >>> below_shortened([block], [block.shortened(["norm"])], "docs/a.md")
    '1 more rows: --whole, .csv; explained: docs/a.md'
    """
    left = sum(len(block.rows) for block in whole) - sum(len(block.rows) for block in short)
    return f"{left}{MORE}{page}"


def printable(text: str) -> str:
    """Return a text for a terminal, with control characters escaped. Such characters in a user's
    file could move the cursor or change colours. Newlines and tabs are kept.

    >>> print(printable("a \\x1b[31mred\\x1b[0m name"))
    a \\x1b[31mred\\x1b[0m name
    """
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
