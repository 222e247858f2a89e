"""Writing files so that a reader, a crash or a full disk never meets half of one."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from rhn.errors import OutputError


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`; on leaving without an error it is flushed to disk and renamed over `path`, else removed.

    The temporary keeps the suffix, because many writers choose a format by it. Raises OutputError where the file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: str | Path) -> Path:
    """The path of a file to be written later; raises OutputError now where its folder is missing or cannot be written to."""
    path = Path(path)
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder, expected a file")
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
