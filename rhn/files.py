"""Files .safetensors with a JSON header, for checkpoints and states."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from rhn.errors import (
    DamagedError,
    DataError,
    InvalidInputError,
    OutputError,
    first_line,
    is_out_of_memory,
    unreadable,
)
from rhn.utils.io import atomic_path, begins_with, check_file

if TYPE_CHECKING:  # help of commands needs no torch
    from torch import Tensor


def write_tensors(
    path: str | Path, tensors: Mapping[str, "Tensor"], entry: str, header: Mapping
) -> None:
    """Write named CPU tensors, and a header of JSON values under the name `entry`, to a file,
    atomically. Raises TypeError or ValueError for a header that is not JSON, InvalidInputError for
    a path that is not UTF-8, and OutputError.
    """
    from safetensors.torch import save as content_of

    check_encoding(path)
    text = json.dumps(header, allow_nan=False)
    # copies: the format refuses two names for one memory
    own = {name: t.contiguous().clone() for name, t in tensors.items()}
    try:
        # one entry: safetensors writes several in any order
        content = content_of(own, {entry: text})
    except (RuntimeError, KeyError, ValueError) as error:  # a type that the format lacks
        raise OutputError(f"cannot write {path}: {first_line(error)}") from error
    # the library's own save_file would leave a file that only its owner can read
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def read_tensors(path: Path, entry: str, *, whole: bool = True) -> tuple[Any, dict[str, "Tensor"]]:
    """Read the header `entry` of a file and, if `whole`, its tensors by name. Raises DataError for
    a file without this entry, DamagedError for an incomplete file that begins with it, and
    InvalidInputError for a path that is not UTF-8.
    """
    check_encoding(path)
    try:
        check_file(path)
        path.open("rb").close()  # safe_open calls a file missing that may not be read
        with safe_open(path, framework="pt", device="cpu") as file:
            header = json.loads((file.metadata() or {}).get(entry, "null"))
            if header is None:
                raise _foreign(path, entry)
            tensors = {name: file.get_tensor(name) for name in file.keys()} if whole else {}  # noqa: SIM118 (a file, not a dict)
    except (OSError, MemoryError) as error:
        said = unreadable(path, error, f"{path} cannot be read: {first_line(error)}")
        raise DataError(said) from error
    except (SafetensorError, ValueError, RuntimeError, RecursionError) as error:
        if is_out_of_memory(error):
            raise DataError(f"there is not enough memory for {path}") from error
        if begins_with(path, f'{{"{entry}":'.encode()):
            raise DamagedError(f"{path} is damaged: {first_line(error)}") from error
        raise _foreign(path, entry) from error
    return header, tensors


def check_encoding(path: str | Path) -> None:
    """Raise InvalidInputError for a path in an encoding that safetensors does not read."""
    try:
        os.fsencode(path).decode()
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"path is {str(path)!r}: expected UTF-8") from error


def _foreign(path: Path, entry: str) -> DataError:
    return DataError(f"{path} is of another format: expected .safetensors with the entry {entry}")


def checksum(tensors: Mapping[str, "Tensor"], *texts: str) -> str:
    """Return the BLAKE2 hash of the names and bytes of all tensors, and of `texts`, as 32
    hexadecimal digits.
    """
    import torch

    found = hashlib.blake2b(digest_size=16)
    for name, t in sorted(tensors.items()):
        found.update(name.encode())
        found.update(t.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    for text in texts:
        found.update(text.encode())
    return found.hexdigest()
