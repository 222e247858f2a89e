"""Read files that anybody may have written, and write files atomically.

Reading takes regular files of a limited size: a pipe, a socket or a device would block or never end, and a small archive can claim
any size. Writing goes to a temporary file that replaces the old one, so a reader, a crash or a full disk never leaves half a file.
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
from dataclasses import MISSING, fields
from pathlib import Path

from rhn.errors import DataError, OutputError, RhnError
from rhn.utils.metadata import made_by_us, made_with
from rhn.utils.validation import expected, fits

MOST_TEXT = 2**28  # bytes of a table or of JSON: a million lines
MOST_ARRAYS = 2**32  # bytes that the arrays of a record unpack to
MOST_DIGITS = 300  # of a whole number: floats end there, and of thousands Python makes no number


def require_file(path: str | Path, most: int | None = None) -> Path:
    """The path of a regular file of at most so many bytes; raises DataError for anything else, OSError where nothing is there."""
    path = Path(path)
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        kind = "folder" if stat.S_ISDIR(found.st_mode) else "pipe, a socket or a device"
        raise DataError(f"{path} cannot be read: it is a {kind}, expected a file")
    if most is not None and found.st_size > most:
        raise DataError(f"{path} has {found.st_size} bytes, expected at most {most}")
    return path


def read_text_file(path: str | Path) -> str:
    """The text (UTF-8) of a small file; raises as `require_file`, and ValueError where it is no text."""
    return require_file(path, MOST_TEXT).read_text(encoding="utf-8")


def read_json(path: str | Path):
    """The value in a JSON file; raises as `require_file`, and ValueError, with the reason, where it holds something else."""
    return json_value(read_text_file(path))


def json_value(text: str):
    """The value that a JSON text says; raises ValueError for one that is none, is nested too deeply or holds numbers beyond any use.

    >>> json_value('{"epoch": 1}')
    {'epoch': 1}
    """
    try:
        return json.loads(text, parse_int=_whole_number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _whole_number(word: str) -> int:
    if len(word) > MOST_DIGITS:
        raise ValueError(f"it holds a number of {len(word)} digits, expected at most {MOST_DIGITS}")
    return int(word)


def values_of(kind: type, arrays: Mapping) -> dict:
    """The fields of a dataclass of arrays, texts and numbers, from arrays by their names; those with a default may be missing.

    Raises KeyError for one that is missing, ValueError for a text or a number that is none.
    """
    import numpy as np

    values = {}
    for f in fields(kind):
        if f.name not in arrays and f.default is not MISSING:  # files of before have less
            continue
        values[f.name] = arrays[f.name]
        if f.type is not np.ndarray:
            values[f.name] = value = values[f.name].item()
            if not fits(value, f.type):
                raise ValueError(f"{f.name} is {value!r:.60}, expected {expected(f.type)}")
    return values


@contextlib.contextmanager
def arrays_of(path: str | Path, writer: str) -> Iterator[Mapping]:
    """The arrays of an .npz file; where it cannot be read, or lacks one, DataError says that `writer` writes such files."""
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
    except Exception as error:  # whatever damage makes zipfile, zlib and NumPy raise, the answer is the same
        lacks = isinstance(error, KeyError) and re.search(
            "'?([^' ]+)(?: is not a file in the archive)?", str(error.args[0])
        )
        reason = f"it lacks {lacks[1]}, as files of other versions may" if lacks else str(error) or type(error).__name__
        raise DataError(f"{path} is not a record written by {writer}: {reason}") from error


_MARK = "rhn-partial"  # in the name of every temporary file, and in nobody else's


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`; on leaving without an error it is flushed to disk and renamed over `path`, else removed.

    The temporary keeps the suffix, because many writers choose a format by it. Raises OutputError where the file cannot be written.
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
    """Remove what writers that were killed within `atomic_path` left in a folder. Call it only where no other process writes.

    stem: remove only what is left of files of this name (without its suffix).
    """
    name = ".+" if stem is None else re.escape(stem)
    temporary = re.compile(rf"\.{name}\.{_MARK}-[0-9a-f]{{8}}(\.[^.]+)?", re.DOTALL)
    for left in folder.glob(f".*.{_MARK}-*"):
        if temporary.fullmatch(left.name) and left.is_file():
            with contextlib.suppress(OSError):  # another user's stays, and does no harm
                left.unlink()


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Within, an OSError becomes the OutputError "cannot write PATH: reason"."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def write_record(path: str | Path, values: Mapping) -> None:
    """Write the values of a record as one JSON object that says which version made it, atomically. Raises OutputError."""
    write_json(path, {"made_with": made_with()} | values)


def write_json(path: str | Path, value, *, indent: int | None = None) -> None:
    """Write a value as one JSON text, atomically; what is not finite becomes null. Raises OutputError."""
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
    """The path of a file to be written later; raises OutputError now where its folder is missing or cannot be written to.

    force: whether any file that is there may be written over; otherwise only one that this toolkit made, see `made_by_us`.
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
    """As `check_writable`, of a path that must end in one of these; raises OutputError."""
    if Path(path).suffix.lower() not in suffixes:
        expected = " or ".join(filter(None, (", ".join(suffixes[:-1]), suffixes[-1])))
        raise OutputError(f"cannot write {path}: expected a name ending in {expected}")
    return check_writable(path, force=force, columns=columns)


def _temporary(path: Path) -> Path:
    """A name beside `path` that no other writer has, in this process or another, on this machine or another."""
    return path.with_name(f".{path.stem}.{_MARK}-{secrets.token_hex(4)}{path.suffix}")


def _file(path: str | Path) -> Path:
    """The path, unless what stands there is no file: a rename over /dev/null would take the device away from everybody."""
    path = Path(path)
    with writing(path), contextlib.suppress(FileNotFoundError):
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            kind = "folder" if stat.S_ISDIR(mode) else "device"
            raise OutputError(f"cannot write {path}: it is a {kind}, expected a file")
    return path
