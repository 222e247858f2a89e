"""The state of a trial (one training run): its curve, the tensors from which it continues, and
their file.

A curve has the losses after each epoch, (epochs, 2 or more) float64: the training loss first, then
the validation loss. The counters of early stopping follow from it.

A state file is one .safetensors file with a checksum in its header. A file that differs by one bit
from the file that was written is refused, because it would change the results silently. One process
at a time works in a folder with states, and Ctrl-C waits until the states are saved.
"""

import fcntl
import logging
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Literal

import numpy as np

from rhn.errors import DamagedError, OutputError
from rhn.files import checksum, read_tensors, write_tensors
from rhn.utils.io import writing

if TYPE_CHECKING:
    from torch import Tensor

_logger = logging.getLogger(__name__)

ENTRY = "rhn_state"  # of the header
LOCK = ".lock"
STOPPING = "stopping as soon as everything is saved; Ctrl-C again stops at once"
AGAIN = "fix that and run the same command again: everything saved so far is kept"
PAUSES = (0.0, 0.1, 0.1, 0.1)  # seconds before each try: `is_locked` holds the lock for a moment
Objective = Literal["train", "valid"]
LEFT = 0.98
"""A training run has left its plateau if its loss is below this factor times the loss of the best
constant output.
"""


@dataclass(frozen=True)
class TrialState:
    """A trial between two steps, with everything that is needed to resume it."""

    curve: np.ndarray
    """(epochs, 2 or more) float64: the losses after each epoch, see the module."""
    arrays: Mapping[str, np.ndarray]
    """Weights, velocity, best weights and all else that the training needs, by name."""

    @property
    def epoch(self) -> int:
        """Number of complete epochs."""
        return len(self.curve) - 1


def diverged(curve: np.ndarray) -> bool:
    """Return True if a loss in the last row of a curve is not finite.

    >>> diverged(np.array([[11.2, 11.3], [np.inf, 11.0]]))
    True
    """
    return len(curve) > 0 and not np.isfinite(curve[-1, :2]).all()


def best_epoch(curve: np.ndarray, objective: Objective) -> int:
    """Return the index of the first row of a curve that has the lowest finite loss.

    >>> best_epoch(np.array([[9.0, 8.0], [7.0, 8.5], [7.0, 8.2]]), "train")
    1
    """
    losses = curve[:, 0 if objective == "train" else 1]
    return int(np.where(np.isfinite(curve[:, :2]).all(axis=1), losses, np.inf).argmin())


def has_ended(
    curve: np.ndarray,
    objective: Objective,
    *,
    epochs: int,
    patience: int | None,
    first_epoch: int = 0,
) -> bool:
    """Return True if a trial has ended: all epochs are done, `patience` epochs had no better loss,
    or the trial diverged.

    first_epoch: the epoch number of the curve's first row.
    """
    last = len(curve) - 1
    if last + first_epoch >= epochs or diverged(curve):
        return True
    return patience is not None and last >= 0 and last - best_epoch(curve, objective) >= patience


def write_state(
    path: str | Path, arrays: Mapping[str, object], metadata: Mapping[str, str] | None = None
) -> None:
    """Write named arrays (NumPy arrays, or torch tensors on the CPU) and named texts to a file,
    atomically and with their checksum.

    Raises OutputError if the file cannot be written; then an existing file stays as it was.
    """
    import torch

    tensors = {name: torch.from_numpy(np.asarray(a, order="C")) for name, a in arrays.items()}
    texts = dict(metadata or {})
    header = {"checksum": checksum(tensors, *_described(tensors, texts)), "metadata": texts}
    write_tensors(path, tensors, ENTRY, header)


def read_state(
    path: str | Path, *, whole: bool = True
) -> tuple[dict[str, np.ndarray], dict[str, str]] | None:
    """Read the arrays and the metadata that `write_state` wrote; None if there is no file.

    whole: False to read only the metadata; the dictionary of arrays is then empty, and the checksum
    is not compared.

    Raises DataError if the file cannot be read, and its subclass DamagedError if its content is not
    what was written.
    """
    path = Path(path)
    try:
        header, tensors = read_tensors(path, ENTRY, whole=whole)
        arrays = {name: t.numpy() for name, t in tensors.items()}
        match header:
            case {"checksum": str(written), "metadata": dict(texts)}:
                if not whole or written == checksum(tensors, *_described(tensors, texts)):
                    return arrays, texts
        raise DamagedError("its checksum differs")
    except FileNotFoundError:
        return None
    except DamagedError as error:
        raise DamagedError(
            f"{path} is damaged ({error}): put an undamaged copy in its place, or start again in "
            "another folder"
        ) from error


def _described(tensors: Mapping[str, "Tensor"], texts: Mapping[str, str]) -> list[str]:
    """Return the names, types and shapes of the tensors, and the texts. A checksum covers them in
    addition to the tensors' bytes.
    """
    shapes = [repr((name, str(t.dtype), tuple(t.shape))) for name, t in sorted(tensors.items())]
    return [*shapes, repr(sorted(texts.items()))]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder, which is created if it is missing. The lock ends with
    the process that holds it.

    Raises OutputError if the folder cannot be created or written to, or another process works
    there.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("ab")  # does not truncate a file of the user's
    with file:
        if not any(_try_lock(file, fcntl.LOCK_EX, pause) for pause in PAUSES):
            raise OutputError(
                f"another process works in {folder}: wait for its end, or give another --out"
            )
        yield


@contextmanager
def resumable() -> Iterator[None]:
    """Return a context that adds the way to continue to an OutputError, such as a full disk."""
    try:
        yield
    except OutputError as error:
        raise OutputError(f"{error}; {AGAIN}") from error


def is_locked(folder: Path) -> bool:
    """Return True if a process works in the folder and therefore holds the lock of the folder."""
    if not (folder / LOCK).exists():
        return False
    with (folder / LOCK).open("rb") as file:
        return not _try_lock(file, fcntl.LOCK_SH)


def _try_lock(file, kind: int, pause: float = 0.0) -> bool:
    time.sleep(pause)
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Interrupted(KeyboardInterrupt):
    """The user stopped the work, and everything is saved. The message names the command that
    resumes it. Commands end with exit code 130.
    """


@contextmanager
def deferred_interrupt() -> Iterator[SimpleNamespace]:
    """Return a context that sets `pending` and warns at the first Ctrl-C; a second Ctrl-C raises
    KeyboardInterrupt as usual.

    Outside the main thread, or if interrupts are ignored (`nohup`), the handling of Ctrl-C does not
    change.
    """
    request = SimpleNamespace(pending=False)

    def note(signum, frame) -> None:
        if request.pending:
            raise KeyboardInterrupt
        request.pending = True
        _logger.warning(STOPPING)

    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield request
        return
    previous = signal.signal(signal.SIGINT, note)
    try:
        yield request
    finally:
        signal.signal(signal.SIGINT, previous)
