"""The state of a trial (one training run): its curve, the tensors from which it continues, and
their file.

A curve has the losses after each epoch, (epochs, 2 or more) float64: the training loss first, then
the validation loss. A state file that differs by one bit from what was written is refused.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from filelock import FileLock, Timeout

from rhn.errors import DamagedError, DataError, OutputError
from rhn.files import checksum, read_tensors, write_tensors
from rhn.utils.io import writing

ENTRY = "rhn_state"  # of the header
LOCK = ".lock"
CRC_DIGITS = 8  # of the checksums of versions before 0.6.0
PATIENCE = 0.3  # seconds: a look at the lock holds it for a moment
Objective = Literal["train", "valid"]


@dataclass(frozen=True)
class TrialState:
    """A trial between two steps: its curve, and all else that the training needs, by name."""

    curve: np.ndarray
    arrays: Mapping[str, np.ndarray]


def finite_rows(curve: np.ndarray) -> np.ndarray:
    """Return True for each row of a curve whose losses are finite, (epochs,)."""
    return np.isfinite(curve[:, :2]).all(axis=1)


def diverged(curve: np.ndarray) -> bool:
    """Return True if a loss in the last row of a curve is not finite.

    >>> diverged(np.array([[11.2, 11.3], [np.inf, 11.0]]))
    True
    """
    return not finite_rows(curve)[-1:].all()


def best_epoch(curve: np.ndarray, objective: Objective) -> int:
    """Return the index of the first row of a curve that has the lowest finite loss.

    >>> best_epoch(np.array([[9.0, 8.0], [7.0, 8.5], [7.0, 8.2]]), "train")
    1
    """
    losses = curve[:, 0 if objective == "train" else 1]
    return int(np.where(finite_rows(curve), losses, np.inf).argmin())


def has_ended(curve: np.ndarray, objective: Objective, epochs: int, patience: int | None) -> bool:
    """Return True if a trial has ended: the curve has a row `epochs`, `patience` epochs had no
    better loss, or the trial diverged.
    """
    last = len(curve) - 1
    if last >= epochs or diverged(curve):
        return True
    if patience is None or not len(curve):
        return False
    return last - best_epoch(curve, objective) >= patience


def write_state(path: Path, arrays: Mapping[str, object], texts: Mapping[str, str]) -> None:
    """Write named arrays and texts to a file, atomically. Raises OutputError."""
    import torch

    tensors = {name: torch.from_numpy(np.asarray(a, order="C")) for name, a in arrays.items()}
    write_tensors(path, tensors, ENTRY, {"checksum": _checksum(tensors, texts), "metadata": texts})


def read_state(path: Path, *, whole: bool = True) -> tuple[dict, dict[str, str]] | None:
    """Read the arrays and texts that `write_state` wrote; None if there is no file. With
    whole=False read only the texts, unchecked. Raises DataError for a file of another format or
    version, and its subclass DamagedError if the content is not what was written.
    """
    if not path.exists():
        return None
    header, tensors = read_tensors(path, ENTRY, whole=whole)
    match header:
        case {"checksum": str(written), "metadata": dict(texts)}:
            if len(written) == CRC_DIGITS:
                old = f"{path} was written by version 0.5.0 or before"
                raise DataError(f"{old}: expected 0.6.0 or later")
            if not whole or written == _checksum(tensors, texts):
                return {name: t.numpy() for name, t in tensors.items()}, texts
    raise DamagedError(f"{path} is damaged: its checksum differs")


def _checksum(tensors: Mapping, texts: Mapping[str, str]) -> str:
    shapes = [repr((name, str(t.dtype), tuple(t.shape))) for name, t in sorted(tensors.items())]
    return checksum(tensors, *shapes, repr(sorted(texts.items())))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder, which is created if missing. Raises OutputError."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = FileLock(folder / LOCK).acquire(PATIENCE, poll_interval=0.1)
        except Timeout:
            raise OutputError(f"another process works in {folder}") from None
    with lock:
        yield
