"""Reading files that anybody may have written: regular ones alone, of a size that fits, JSON and arrays without surprises.

A pipe, a socket or a device would be waited on for ever or never end; a small archive can claim any size.
"""

import contextlib
import json
import re
import stat
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from pathlib import Path

from rhn.errors import DataError, RhnError
from rhn.fields import expected, fits

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
