"""The command and version of this process, for the marks in its files; recognise files with our mark."""

import csv
import shlex
from collections.abc import Sequence
from pathlib import Path

from rhn.utils.wording import without_password
from rhn.version import __version__

_command: list[str] = []
_NAME = b"rhn-toolkit "
_MARKS = dict.fromkeys((".gif", ".mp4", ".npz", ".mid"), _NAME) | {  # a comment
    ".png": b"tEXtSoftware\0" + _NAME,
    ".svg": b"<dc:title>" + _NAME,
    ".pdf": b"/Creator (" + _NAME,
    ".html": b'<meta name="generator" content="' + _NAME,
    ".htm": b'<meta name="generator" content="' + _NAME,
    ".json": b'{"made_with": "' + _NAME,
    ".musicxml": b"<software>" + _NAME,
}


def remember_command(prog: str, words: Sequence[str]) -> None:
    """Remember that this process runs `prog words...`; called before a command runs."""
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
        content = path.read_bytes()
    except OSError:
        return False
    if path.suffix.lower() == ".csv":
        first = content.split(b"\n", 1)[0].decode(errors="replace").strip()
        return bool(columns) and next(csv.reader([first]), []) == list(columns)
    mark = _MARKS.get(path.suffix.lower())
    return mark is not None and mark in content
