"""The state of a training between epochs: what a trial has become, and the file that keeps it for a resume.

A state file is one .safetensors file with a checksum in its header. A state that is not what was written, be it by one bit, is refused:
it would change the results without a word.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from rhn.errors import DamagedError, DataError
from rhn.utils.io import atomic_path, require_file

ENTRY = "rhn_state"  # of the header, the only one, as safetensors writes several in any order: JSON of checksum and metadata


@dataclass(frozen=True)
class TrialState:
    """A trial at the end of an epoch: all that a resume needs."""

    curve: np.ndarray
    """(epochs done + 1, 2) float64: training and validation loss after 0, 1, ... epochs."""
    arrays: Mapping[str, np.ndarray]
    """Weights, velocity, best weights and whatever else the training needs, by name."""

    @property
    def epoch(self) -> int:
        """Epochs of training done."""
        return len(self.curve) - 1


def write_state(path: str | Path, arrays: Mapping[str, object], metadata: Mapping[str, str] | None = None) -> None:
    """Write arrays by name (NumPy's, or torch tensors on the CPU) and texts by name, atomically and with their checksum.

    Raises OutputError where the file cannot be written; an existing one stays as it was.
    """
    plain = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    header = {"checksum": _checksum(plain, metadata or {}), "metadata": dict(metadata or {})}
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(plain, {ENTRY: json.dumps(header)}))


def read_state(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]] | None:
    """(arrays, metadata) as `write_state` was given them; None where there is no file.

    Raises DataError where the file cannot be read, and its child DamagedError where it is not what was written.
    """
    return _read(Path(path), whole=True)


def read_state_metadata(path: str | Path) -> dict[str, str] | None:
    """The texts in a state's header, without looking at its arrays; None where there is no file. Raises as `read_state`."""
    found = _read(Path(path), whole=False)
    return found and found[1]


def _read(path: Path, *, whole: bool) -> tuple[dict[str, np.ndarray], dict[str, str]] | None:
    try:
        require_file(path).open("rb").close()
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {})[ENTRY])
            arrays = {name: file.get_tensor(name) for name in file.keys()} if whole else {}  # noqa: SIM118 (a file, not a dict)
        checksum, metadata = header["checksum"], dict(header["metadata"])
        if whole and checksum != _checksum(arrays, metadata):
            raise _damaged(path, "its checksum differs")
        return arrays, metadata
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{path} cannot be read ({reason}): see that it is a file that you may read") from error
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise _damaged(path, "or an older version wrote it" if isinstance(error, KeyError) else str(error)) from error


def _checksum(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> str:
    """CRC-32 over every text, and over every array's name, type, shape and bytes."""
    checksum = crc32(repr(sorted(metadata.items())).encode())
    for name, array in sorted(arrays.items()):
        checksum = crc32(repr((name, array.dtype.str, array.shape)).encode(), checksum)
        checksum = crc32(np.ascontiguousarray(array), checksum)
    return f"{checksum:08x}"


def _damaged(path: Path, reason: str) -> DamagedError:
    return DamagedError(f"{path} is damaged ({reason}): put an undamaged copy in its place, or begin again without it")
