"""Read files of any origin, and write files atomically.

Only regular files of a limited size are read: a pipe, a socket or a device would block or never end, and a small archive can claim
any size. Writers write a temporary file that replaces the old one, so a reader, a crash or a full disk never leaves half a file.
Records are tables (.csv), arrays by name (.npz) and JSON without NaN.
"""

import contextlib
import csv
import json
import math
import os
import re
import secrets
import stat
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from rhn.errors import DataError, OutputError, RhnError
from rhn.utils.file_marks import made_by_us, made_with

MOST_TEXT = 2**28  # bytes of a table or of JSON: a million lines
MOST_ARRAYS = 2**32  # bytes that the arrays of a record unpack to


def require_file(path: str | Path, most: int | None = None) -> Path:
    """The path of a regular file of at most `most` bytes; raises DataError for anything else, OSError for a missing file."""
    path = Path(path)
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        kind = "folder" if stat.S_ISDIR(found.st_mode) else "pipe, a socket or a device"
        raise DataError(f"{path} cannot be read: it is a {kind}, expected a file")
    if most is not None and found.st_size > most:
        raise DataError(f"{path} has {found.st_size} bytes, expected at most {most}")
    return path


def read_text_file(path: str | Path) -> str:
    """The text (UTF-8) of a small file; raises as `require_file`, and ValueError for a file that is not UTF-8."""
    return require_file(path, MOST_TEXT).read_text(encoding="utf-8")


def read_json(path: str | Path):
    """The value in a JSON file; raises as `require_file`, and ValueError, with the reason, for a file that is not JSON."""
    try:
        return json.loads(read_text_file(path))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


@contextlib.contextmanager
def arrays_of(path: str | Path, writer: str) -> Iterator[Mapping]:
    """The arrays of an .npz file; raises DataError with the name of the `writer` if it cannot be read or lacks one."""
    import numpy as np

    try:
        if not zipfile.is_zipfile(require_file(path)):
            raise ValueError("it is no whole .npz file")
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > MOST_ARRAYS:
            raise ValueError(f"it unpacks to {size} bytes, expected at most {MOST_ARRAYS}")
        with np.load(path, allow_pickle=False) as arrays:
            yield arrays
    except FileNotFoundError:
        raise DataError(f"{path} does not exist: expected a record written by {writer}") from None
    except RhnError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise many kinds for a damaged file
        lacks = isinstance(error, KeyError) and re.search(
            "'?([^' ]+)(?: is not a file in the archive)?", str(error.args[0])
        )
        reason = f"it lacks {lacks[1]}, as files of other versions may" if lacks else str(error) or type(error).__name__
        raise DataError(f"{path} is not a record written by {writer}: {reason}") from error


_MARK = "rhn-partial"  # in the name of every temporary file


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`; at the end it is flushed to disk and renamed over `path`, after an error removed.

    The temporary keeps the suffix, because many writers choose a format by it. Raises OutputError if the file cannot be written.
    """
    path = _file(path)
    temporary = _temporary(path)
    try:
        with writing(path):
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path, stem: str | None = None) -> None:
    """Remove the temporary files of killed writers from a folder. Call it only while no other process writes there.

    stem: remove only those of files with this name (without its suffix).
    """
    name = ".+" if stem is None else re.escape(stem)
    temporary = re.compile(rf"\.{name}\.{_MARK}-[0-9a-f]{{8}}(\.[^.]+)?", re.DOTALL)
    for left in folder.glob(f".*.{_MARK}-*"):
        if temporary.fullmatch(left.name) and left.is_file():
            with contextlib.suppress(OSError):  # another user's file stays
                left.unlink()


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turn an OSError into the OutputError "cannot write PATH: reason"."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def write_record(path: str | Path, values: Mapping) -> None:
    """Write the values of a record and our version as one JSON object, atomically. Raises OutputError."""
    write_json(path, {"made_with": made_with()} | values)


def write_json(path: str | Path, value, *, indent: int | None = None) -> None:
    """Write a value as one JSON text, atomically; NaN and infinity become null. Raises OutputError."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(finite_json(value), allow_nan=False, indent=indent) + "\n")


def write_csv(path: str | Path, header: Sequence[str], rows: Iterable[Sequence]) -> Path:
    """Write a table, atomically; numbers keep every digit. Raises OutputError."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return Path(path)


def write_arrays(path: str | Path, arrays: Mapping) -> Path:
    """Write arrays by name as .npz, with our version as the archive's comment, atomically. Raises OutputError."""
    import numpy as np

    with atomic_path(path) as temporary:
        with temporary.open("wb") as file:
            np.savez(file, **arrays)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.comment = made_with().encode()
    return Path(path)


def finite_json(value):
    """The value with every NaN and infinity replaced by None, ready for JSON.

    >>> finite_json({"nll": [1.5, float("inf")], "epochs": 3})
    {'nll': [1.5, None], 'epochs': 3}
    """
    if isinstance(value, dict):
        return {key: finite_json(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite_json(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def check_writable(path: str | Path, *, force: bool = True, columns: Sequence[str] = ()) -> Path:
    """Check that a file can be written later, and return its path; raises OutputError for a missing or read-only folder.

    force: overwrite any file; otherwise only one of this toolkit, see `made_by_us`.
    columns: the header of a table to be written.
    """
    path = _file(path)
    if not force and path.exists() and not made_by_us(path, columns):
        raise OutputError(
            f"{path} exists already and was not made by this toolkit: name another file, or write over it with --force"
        )
    if not path.parent.is_dir():
        raise OutputError(f"cannot write {path}: the folder {path.parent} does not exist; create it first")
    probe = _temporary(path)
    try:
        with writing(path):
            probe.open("xb").close()
            if path.exists():
                path.open("ab").close()
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
    return path


def check_output(path: str | Path, suffixes: Sequence[str], *, force: bool = True, columns: Sequence[str] = ()) -> Path:
    """As `check_writable`, for a path with one of these suffixes; raises OutputError."""
    if Path(path).suffix.lower() not in suffixes:
        expected = " or ".join(filter(None, (", ".join(suffixes[:-1]), suffixes[-1])))
        raise OutputError(f"cannot write {path}: expected a name ending in {expected}")
    return check_writable(path, force=force, columns=columns)


def _temporary(path: Path) -> Path:
    """A path beside `path` that no other writer uses, on any machine."""
    return path.with_name(f".{path.stem}.{_MARK}-{secrets.token_hex(4)}{path.suffix}")


def _file(path: str | Path) -> Path:
    """The path, unless it is a folder or a device: a rename over /dev/null would remove the device."""
    path = Path(path)
    with writing(path), contextlib.suppress(FileNotFoundError):
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            kind = "folder" if stat.S_ISDIR(mode) else "device"
            raise OutputError(f"cannot write {path}: it is a {kind}, expected a file")
    return path
