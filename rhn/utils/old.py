"""What only older code uses; a later version deletes this file."""

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from rhn.utils.tables import printable

# user:password@host, whatever the password holds: up to the last @ before a question mark, else up
# to the first one
PASSWORD = re.compile(r"(?<=://)([^:/@?\s]*):(?:[^?\s]*|[^@\s]*)@")
NAMES = 26  # columns of a terminal for the name of a quantity
OTHER_WORDS = {  # of other libraries
    "criterion": "loss_fn",
    "epochs": "steps",
    "iterations": "steps",
    "units": "hidden_size",
}
OPTION = re.compile(r"(?<=[?&])(?:ssl)?password=[^&\s]*&?")


def counted(count: int, what: str, several: str | None = None) -> str:
    """Format a number with its unit. `several` is the plural, if it is not formed by -s.

    >>> counted(1, "step"), counted(1500, "step"), counted(2, "batch", "batches")
    ('1 step', '1,500 steps', '2 batches')
    """
    return f"{count:,} {what if count == 1 else several or f'{what}s'}"


def percent(share: float) -> str:
    """Format a share in percent, with two significant digits; with more if a share below 1 would
    be 100 %.

    >>> percent(0.123), percent(0.0004), percent(0.997), percent(1), percent(-0.0)
    ('12 %', '0.04 %', '99.7 %', '100 %', '0 %')
    """
    shown = (float(f"{100 * share + 0:.{digits}g}") for digits in (2, 3, 4, 5, 6))  # + 0: no -0
    return f"{next((each for each in shown if each != 100 or share >= 1), 100 * share):g} %"


def nearest(word: str, names: Iterable[str], most: int = 1) -> list[str]:
    """Return at most `most` of the names that a word probably means. A name qualifies if the word
    is its name in another library, its initials or its beginning, or has similar letters.

    >>> nearest("lr", ["--cell", "--learning-rate"]), nearest("epohcs", ["cell", "epochs"])
    (['--learning-rate'], ['epochs'])
    >>> nearest("lx", ["--cell", "--learning-rate"])
    []
    """
    by_words = {"-".join(words): name for name in names if (words := _words_in(name))}
    words = _words_in(word)
    key, letters = "-".join(words), "".join(words)
    other = "-".join(_words_in(OTHER_WORDS.get(letters, "")))
    found = [other] if other in by_words else [k for k in by_words if _abbreviates(letters, k)]
    return [by_words[k] for k in (found or get_close_matches(key, by_words, most))[:most]]


def _words_in(name: str) -> list[str]:
    """Split the name of a Python variable or an option into its words, in small letters."""
    return re.findall(r"[^\s_-]+", name.lower())


def _abbreviates(letters: str, words: str) -> bool:
    """Return True if `letters` are the initials or the beginning of `words`, which have hyphens
    between them.
    """
    initials = "".join(word[0] for word in words.split("-"))
    starts = words.replace("-", "").startswith(letters)
    return bool(letters) and (starts or letters == initials)


def table(
    header: Sequence[str],
    rows: Iterable[Sequence],
    *,
    left: Collection[str] = (),
    drop: Sequence[str] = (),
    width: float = math.inf,
) -> str:
    """Format a table in plain text. The first column is aligned left, all others right.

    left: further columns to align left.
    drop: columns to drop, one after the other, until the lines fit `width` characters.

    >>> print(table(("study", "best"), [("rhn-depth1", 8.4)]))
    study       best
    rhn-depth1   8.4
    """
    columns: list[list[str]] = []
    drop = list(drop)
    lines = [[printable(str(cell)) for cell in line] for line in (header, *rows)]
    for cells in zip(*lines, strict=True):
        size, name = max(map(len, cells)), cells[0]
        align = str.ljust if not columns or name in left else str.rjust
        columns.append([align(cell, size) for cell in cells])
    while drop and sum(len(column[0]) for column in columns) + 2 * (len(columns) - 1) > width:
        name = drop.pop(0)
        columns = [column for column in columns if column[0].strip() != name]
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))


def quantity_line(
    name: str, cells: Iterable[float | str], note: str = "", *, width: int = 11
) -> str:
    """Format the line of a quantity: its name, its numbers in columns of `width` characters, and a
    note.

    >>> print(quantity_line("", ["mean"]) + "\\n" + quantity_line("half-life", [1.25], "steps"))
                                     mean
    half-life                        1.25  steps
    """
    shown = (cell if isinstance(cell, str) else f"{cell:.4g}" for cell in cells)
    line = f"{name:<{NAMES}}" + "".join(f"{cell:>{width}}" for cell in shown)
    return f"{line}  {note}" if note else line


def rows_table(
    rows: Iterable[Mapping[str, Any]],
    columns: Sequence[str] = (),
    number: str = ".4g",
) -> str:
    """Format rows, each a dictionary by column name, as a table of all columns or of `columns`.
    None becomes an empty cell.

    number: the format of floats.

    >>> print(rows_table([{"layer": 1, "gain": 0.25}, {"layer": 2, "gain": None}]))
    layer  gain
    1      0.25
    2
    """
    rows = [*rows]
    columns = columns or [*rows[0]]

    def cell(value: Any) -> str:
        return "" if value is None else format(value, number if isinstance(value, float) else "")

    lines = [[cell(row[name]) for name in columns] for row in rows]
    return table(columns, lines)


def without_password(address: str) -> str:
    """Remove the password from the address of a database. A connection by this address still works
    if ~/.pgpass or PGPASSWORD has the password.

    >>> without_password("postgresql://me:secret@host:5432/study?password=secret&sslmode=require")
    'postgresql://me@host:5432/study?sslmode=require'
    """
    return OPTION.sub("", PASSWORD.sub(r"\1@", address)).rstrip("?&")


def capitalised(words: str) -> str:
    """Capitalise the first letter of a text; all other letters stay.

    >>> capitalised("the RHN trains")
    'The RHN trains'
    """
    return words[:1].upper() + words[1:]


def sentence(*clauses: str) -> str:
    """Join the clauses that are not empty to one sentence; "" if all are empty.

    >>> sentence("", "the sum is 2", "the mean is 1"), sentence("")
    ('The sum is 2; the mean is 1.', '')
    """
    words = "; ".join(filter(None, clauses))
    return f"{capitalised(words)}." if words else ""
