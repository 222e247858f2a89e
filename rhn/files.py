"""Writing files so that a reader, a crash or a full disk never meets half of one.

Below, what records are written as: tables (.csv), arrays by name (.npz), JSON without NaN.
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

from rhn.errors import OutputError
from rhn.made import made_by_us, made_with

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
