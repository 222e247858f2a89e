"""Write files atomically, by a temporary file that replaces the old one; read JSON and arrays."""

import contextlib
import csv
import json
import math
import os
import stat
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from platformdirs import user_cache_path

from rhn.errors import (
    DamagedError,
    DataError,
    InvalidInputError,
    OutputError,
    RhnError,
    first_line,
    unreadable,
)
from rhn.utils.resources import check_room
from rhn.utils.validation import in_short, unexpected

SUFFIXES = (".json", ".npz")  # of results
RESULT_FIELD, RESULT_ARRAY = b'"result":', b"result.npy"  # first in their files
MARKED = 100  # bytes at the start of a file, among which it has its mark
COPIES = 2  # of a file's content in memory, at least: as it is read, and as numbers


def cache_folder() -> Path:
    """Return the user's cache folder, which may not exist yet."""
    return user_cache_path("rhn", appauthor=False)


def read_json(path: str | Path):
    """Read and return the value in a JSON file. Raises OSError, DataError (see `check_file`), or
    ValueError if the content is not JSON.
    """
    check_file(Path(path))
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def read_config(file: Path) -> dict:
    """Read the JSON object in a file. Raises InvalidInputError."""
    try:
        content = read_json(file)
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"{file} is not a configuration: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise unexpected(str(file), content, "a JSON object")
    return content


def as_path(path: str | Path) -> Path:
    """Return a path. Raises InvalidInputError; also for "", for `Path` the current folder."""
    if not isinstance(path, str | os.PathLike) or path == "":
        raise InvalidInputError(f"expected the path of a file, got {in_short(path)}")
    return Path(path)


def check_file(path: Path) -> None:
    """Raise DataError unless a path is a regular file whose content fits into the free memory.
    Raises OSError if the file does not exist.
    """
    size, mode = path.stat().st_size, path.stat().st_mode
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a device or a pipe"
        raise DataError(f"{path} is {kind}: expected a file")
    with contextlib.suppress(Exception), zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    check_room(COPIES * size, str(path), "cut it into smaller files")


@contextlib.contextmanager
def arrays_of(path: str | Path, writer: str) -> Iterator[Mapping]:
    """Return a context that yields the arrays of an .npz file, by name. Raises DataError, with the
    name of the `writer`, if the file cannot be read or an array is missing.
    """
    import numpy as np

    path = as_path(path)
    try:
        check_file(path)
        with np.load(path, allow_pickle=False) as arrays:
            yield arrays
    except RhnError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise many kinds for a damaged file
        reason = first_line(error)
        if not isinstance(error, LookupError | MemoryError) and begins_with(path, RESULT_ARRAY):
            raise DamagedError(f"{path} is damaged: {reason}") from error
        said = f"{path} is not a record written by {writer}: {reason}"
        raise DataError(unreadable(path, error, said)) from error


def begins_with(path: Path, mark: bytes) -> bool:
    """Return True if a file that cannot be read is ours: `mark` stands at its start, or the file
    is empty. Such a file is damaged, any other is of another format.
    """
    if not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(MARKED)
    return not start or mark in start


_MARK = "rhn-partial"  # in the name of every temporary file


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Return a context that yields a temporary path beside `path`, with its suffix. At the end the
    file is flushed to disk and renamed to `path`, or removed after an error. Raises OutputError.
    """
    path = _file(path)
    temporary = path.with_name(f".{path.stem}.{_MARK}-{os.urandom(4).hex()}{path.suffix}")
    try:
        with writing(path):
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of killed processes from a folder, where no process writes."""
    for left in folder.glob(f".*.{_MARK}-*"):
        with contextlib.suppress(OSError):  # another user's file stays
            left.unlink()


def set_aside(path: Path) -> Path:
    """Rename a damaged file to a new name beside it, and return that name. Raises OutputError."""
    kept = path.with_name(f"{path.name}.damaged-{os.urandom(4).hex()}")
    with writing(path), contextlib.suppress(FileNotFoundError):  # another process was faster
        path.rename(kept)
    return kept


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Return a context that turns an OSError into the OutputError "cannot write PATH: reason"."""
    try:
        yield
    except (OSError, RecursionError) as error:  # of a path with a thousand folders
        raise OutputError(f"cannot write {path}: {first_line(error)}") from error


def write_json(path: str | Path, value, *, indent: int | None = None) -> None:
    """Write a value as JSON, atomically. NaN and infinity become null. Raises OutputError."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(finite_json(value), allow_nan=False, indent=indent) + "\n")


def write_rows(path: str | Path, header: Sequence[str], rows: Iterable[Iterable]) -> Path:
    """Write a table as a .csv file, atomically. Numbers keep every digit. Raises OutputError."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return Path(path)


def write_arrays(path: str | Path, arrays: Mapping) -> Path:
    """Write named arrays to an .npz file, atomically. Raises OutputError."""
    import numpy as np

    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)
    return Path(path)


def finite_json(value):
    """Return a value in which every NaN and infinity is replaced by None, ready for JSON.

    >>> finite_json({"nll": [1.5, float("inf")], "epochs": 3})
    {'nll': [1.5, None], 'epochs': 3}
    """
    if isinstance(value, dict):
        return {key: finite_json(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite_json(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def check_result(path: str | Path, suffixes: Sequence[str] = SUFFIXES) -> Path:
    """Check a path that a command was given for numbers, as `check_output` does, and refuse a file
    that a training run or a study has written there, other than a table.
    """
    path = check_output(path, suffixes)
    of_training = path.name in ("config.json", "record.npz") and any(
        (folder / "state.safetensors").exists() for folder in (path.parent, path.parent.parent)
    )
    of_study = path.parent.name == "trials" and path.suffix == ".json" and path.stem.isdecimal()
    if path.exists() and (of_training or of_study):
        raise OutputError(f"cannot write {path}: it is a file of a run, expected another name")
    return path


def check_output(path: str | Path, suffixes: Sequence[str] = ()) -> Path:
    """Return a path, and raise OutputError unless a file can be written there. suffixes: the
    allowed ones; if empty, all are allowed.
    """
    path = _file(path)
    if suffixes and path.suffix.lower() not in suffixes:
        raise OutputError(f"cannot write {path}: expected a name ending in {' or '.join(suffixes)}")
    if not path.parent.is_dir():
        raise OutputError(f"cannot write {path}: {path.parent} is no folder")
    with writing(path):
        if path.exists():
            path.open("ab").close()
        # whether permissions, name and disk allow a file
        start = f".{path.stem}.{_MARK}-"
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=start, suffix=path.suffix) as file:
            file.write(b"\0")
    return path


def _file(path: str | Path) -> Path:
    """Return the path; refuse a folder or a device: a rename over /dev/null would remove it."""
    path = as_path(path)
    with writing(path):
        if path.exists() and not path.is_file():
            raise OutputError(f"cannot write {path}: it is a folder or a device, expected a file")
    return path
