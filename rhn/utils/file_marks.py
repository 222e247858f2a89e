"""The command and version of this process, for the marks in its files; recognise files with our mark."""

import csv
import shlex
from collections.abc import Sequence
from pathlib import Path

from rhn.utils.wording import without_password
from rhn.version import __version__

_command: list[str] = []
_NAME = b"rhn-toolkit "
_SEARCHED = 2**16  # bytes at each end of a file
_MARKS = {  # bytes near the beginning or the end of our files
    ".png": b"tEXtSoftware\0" + _NAME,
    ".svg": b"<dc:title>" + _NAME,
    ".pdf": b"/Creator (" + _NAME,
    ".gif": _NAME,  # a comment
    ".mp4": _NAME,  # a comment
    ".html": b'<meta name="generator" content="' + _NAME,
    ".htm": b'<meta name="generator" content="' + _NAME,
    ".json": b'{"made_with": "' + _NAME,
    ".npz": _NAME,  # the comment of the archive
    ".mid": _NAME,  # a text event
    ".musicxml": b"<software>" + _NAME,
}


def remember_command(prog: str, words: Sequence[str]) -> None:
    """Remember that this process runs `prog words...`; called by `rhn.cli.parsing.parse`."""
    _command[:] = [*prog.split(), *words]


def command() -> str | None:
    """The command for a shell, without passwords; None if the library was called from other code."""
    shown = shlex.join(without_password(word).encode(errors="backslashreplace").decode() for word in _command)
    return shown or None


def made_with() -> str:
    """ "rhn-toolkit 0.2.0", for titles and metadata."""
    return f"rhn-toolkit {__version__}"


def made_by_us(path: Path, columns: Sequence[str] = ()) -> bool:
    """True if a file has our mark; False for a file that cannot be read.

    columns: the header of our table, for a .csv file, which has no metadata.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_SEARCHED)
            file.seek(max(0, path.stat().st_size - _SEARCHED))
            tail = file.read(_SEARCHED)
    except OSError:
        return False
    if path.suffix.lower() == ".csv":
        first = head.split(b"\n", 1)[0].decode(errors="replace").strip()
        return bool(columns) and next(csv.reader([first]), []) == list(columns)
    mark = _MARKS.get(path.suffix.lower())
    return mark is not None and (mark in head or mark in tail)
