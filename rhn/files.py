"""Writing files so that a reader, a crash or a full disk never meets half of one."""

import contextlib
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from rhn.errors import OutputError

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}(\.[^.]+)?", re.DOTALL)  # the names that `atomic_path` gives, and no others


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`; on leaving without an error it is flushed to disk and renamed over `path`, else removed.

    The temporary keeps the suffix, because many writers choose a format by it. Raises OutputError where the file cannot be written.
    """
    path = _file(path)
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")  # two writers never share it
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what writers that were killed within `atomic_path` left in a folder; only for one that nobody else writes to."""
    for left in folder.glob(".*"):
        if _TEMPORARY.fullmatch(left.name) and left.is_file():
            with contextlib.suppress(OSError):  # another user's stays, and does no harm
                left.unlink()


def check_writable(path: str | Path) -> Path:
    """The path of a file to be written later; raises OutputError now where its folder is missing or cannot be written to."""
    path = _file(path)
    if not path.parent.is_dir():
        raise OutputError(f"cannot write {path}: the folder {path.parent} does not exist; create it first")
    probe = path.with_name(f".{path.name}.{os.getpid()}.probe")
    try:
        with probe.open("xb"):
            pass
        if path.exists():
            with path.open("ab"):
                pass
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
    return path


def _file(path: str | Path) -> Path:
    """The path, unless what stands there is no file: a rename over /dev/null would take the device away from everybody."""
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return path
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    if not stat.S_ISREG(mode):
        kind = "folder" if stat.S_ISDIR(mode) else "device"
        raise OutputError(f"cannot write {path}: it is a {kind}, expected a file")
    return path
