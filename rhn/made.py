"""What a file of results says of how it was made: the command of this process, and the version."""

import shlex
from collections.abc import Sequence

from rhn.addresses import without_password
from rhn.version import __version__

_command: list[str] = []


def remember_command(prog: str, words: Sequence[str]) -> None:
    """This process now runs `prog words...`; `rhn.parsing.parse` says so."""
    _command[:] = [*prog.split(), *words]


def command() -> str | None:
    """The command as it can be pasted into a shell, passwords left out; None where the library was called from other code."""
    shown = shlex.join(without_password(word).encode(errors="backslashreplace").decode() for word in _command)
    return shown or None


def made_with() -> str:
    """ "rhn-toolkit 0.2.0", for titles and metadata."""
    return f"rhn-toolkit {__version__}"
