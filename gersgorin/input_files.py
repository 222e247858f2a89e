"""A user's file of numbers as sequences: NumPy's .npy and .npz, or .csv. Nothing in it is ever unpickled.

    .npy   (T,) one input, (T, m), or several sequences (S, T, m)
    .npz   such an array called `x`, or the first one; beside it, as text, `unit` of a step, `names` of the inputs, `name` of the data
    .csv   a row a step, a column an input; a first row of words names them. A first column called time or t, as in "time (s)", is no
           input: it says how long a step is

Legend: S sequences, T steps, m inputs of a step.
"""

import csv
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rhn.engine.memory import free_memory, in_words
from rhn.errors import DataError, InvalidInputError
from rhn.reading import require_file

SUFFIXES = (".npy", ".npz", ".csv")
EXPECTED = "expected numbers of shape (T,), (T, m) or (S, T, m), real ones"
TIME = re.compile(r"(?:time|t)\s*(?:[\[(]\s*(.*?)\s*[\])])?", re.IGNORECASE)
EVEN = 1e-4  # of a step: steps whose lengths differ by less are of one length
ABOUT = ("unit", "names", "name")  # arrays of an .npz file that say what the others are


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """What a file holds."""

    values: np.ndarray
    """float64 (T, m) or (S, T, m), finite."""
    unit: str | None = None
    """Of one step."""
    names: tuple[str, ...] = ()
    """Of the m inputs."""
    name: str | None = None
    """Of the data, where the file says it."""
    whole: bool = False
    """Whether the file holds integers and not other numbers."""


def read_numbers(path: Path) -> Numbers:
    """The sequences of a file.

    Raises DataError for one that is missing, damaged or empty, or holds anything but finite real numbers of such shapes;
    InvalidInputError for another kind of file.
    """
    reader = {".npy": _npy, ".npz": _npz, ".csv": _csv}.get(path.suffix.lower())
    if reader is None:
        raise InvalidInputError(f"{path} is no file of numbers: expected a name ending in {', '.join(SUFFIXES)}")
    try:
        if (size := require_file(path).stat().st_size) > free_memory():
            raise DataError(
                f"{path} has {in_words(size)}, more than the memory that is free: cut it into smaller files"
            )
        found = reader(path)
    except DataError:
        raise
    except Exception as error:  # whatever NumPy makes of a damaged or hostile file
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DataError(f"{path} cannot be read as numbers: {reason}") from error
    if found.names and len(found.names) != found.values.shape[-1]:
        names, m = ", ".join(found.names), found.values.shape[-1]
        raise DataError(f"{path} names {len(found.names)} inputs ({names}), its sequences have {m}: expected as many")
    return found


def _npy(path: Path) -> Numbers:
    with path.open("rb") as file:
        array = np.load(file, allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path} holds several arrays under the name of one: call it .npz")
    return Numbers(values=_sequences(path, array), whole=array.dtype.kind in "iu")


def _npz(path: Path) -> Numbers:
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path} is not a whole .npz file: expected one that numpy.savez wrote")
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > free_memory():
        raise DataError(
            f"{path} unpacks to {in_words(size)}, more than the memory that is free: cut it into smaller files"
        )
    with np.load(path, allow_pickle=False) as arrays:
        data = [key for key in arrays.files if key not in ABOUT]
        if not data:
            raise DataError(f"{path} holds no array of numbers: {EXPECTED}, called x")
        array = arrays["x" if "x" in data else data[0]]
        said = {key: np.asarray(arrays[key]).astype(str).ravel().tolist() for key in ABOUT if key in arrays.files}
    unit, name = (next(iter(said.get(key, [])), None) for key in ("unit", "name"))
    names = tuple(said.get("names", ()))
    return Numbers(values=_sequences(path, array), unit=unit, name=name, names=names, whole=array.dtype.kind in "iu")


def _csv(path: Path) -> Numbers:
    lines = [(k, line) for k, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1) if line.strip()]
    if not lines:
        raise DataError(f"{path} is empty: expected a row a step and a column an input")
    delimiter = _delimiter(lines[0][1])
    if delimiter == ";":  # where a comma may be the decimal point
        lines = [(k, line.replace(",", ".")) for k, line in lines]
    first = _words(lines[0][1], delimiter)
    header = () if all(map(_is_number, first)) else tuple(word.strip("# ") for word in first)
    body = lines[bool(header) :]
    if not body:
        raise DataError(f"{path} holds a row of names and no numbers: expected a row a step")
    try:
        table = np.loadtxt([line for _, line in body], delimiter=delimiter, comments=None, quotechar='"', ndmin=2)
    except ValueError as error:
        raise DataError(f"{path}: {_culprit(body, delimiter, len(first)) or error}") from None
    if table.shape[1] != len(first):
        raise DataError(
            f"{path} names {len(first)} columns and has {table.shape[1]}: expected a row of numbers each step"
        )
    timed = TIME.fullmatch(header[0]) if header else None
    if timed is None:
        return Numbers(values=_sequences(path, table), names=header)
    unit = _unit(path, table[:, 0], timed[1])
    return Numbers(values=_sequences(path, table[:, 1:]), unit=unit, names=header[1:])


def _delimiter(line: str) -> str | None:
    """What stands between the columns: ; or a tab or a comma, else white space (None) where that makes numbers of the first row."""
    found = next((mark for mark in ";\t," if mark in line), None)
    return found or (None if all(map(_is_number, line.split())) else ",")


def _words(line: str, delimiter: str | None) -> list[str]:
    return line.split() if delimiter is None else next(csv.reader([line], delimiter=delimiter))


def _culprit(lines: list[tuple[int, str]], delimiter: str | None, columns: int) -> str | None:
    """What is wrong in the first line that is."""
    for k, line in lines:
        words = _words(line, delimiter)
        if len(words) != columns:
            return f"line {k} has {len(words)} columns, expected {columns} as in the first"
        if bad := [word for word in words if not word.strip() or not _is_number(word)]:
            return f"line {k} has {bad[0]!r:.40} in column {words.index(bad[0]) + 1}, expected a number"
    return None


def _unit(path: Path, times: np.ndarray, unit: str | None) -> str | None:
    """How long a step is, in words: "s", "0.1 s"; None where times tell no one length."""
    lengths = np.diff(times)
    if not np.isfinite(times).all() or (lengths <= 0).any():
        raise DataError(f"{path}: the times in its first column do not increase from row to row: put them in order")
    if len(lengths) == 0 or np.ptp(lengths) > EVEN * lengths.mean():
        return None
    length = f"{lengths.mean():.4g}"
    return unit if length == "1" else f"{length} {unit or 'time units'}"


def _sequences(path: Path, array: np.ndarray) -> np.ndarray:
    """The array as (T, m) or (S, T, m) of float64; raises DataError where it is something else."""
    if array.dtype.kind not in "biuf" or not 1 <= array.ndim <= 3 or array.size == 0:
        raise DataError(f"{path} holds {array.dtype} of shape {array.shape}: {EXPECTED}")
    values = array.astype(np.float64)
    if bad := int((~np.isfinite(values)).sum()):
        raise DataError(f"{path}: {bad} of {values.size} numbers are NaN or infinite, expected finite ones")
    return values[:, None] if values.ndim == 1 else values


def _is_number(word: str) -> bool:
    try:
        float(word.strip() or "nan")
    except ValueError:
        return False
    return True
