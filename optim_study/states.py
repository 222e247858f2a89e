"""What a study leaves in its folder `OUT/ARCH-depthL`.

    trials/0007.safetensors   the rolling state of trial 7 while it trains: arrays and curve
    trials/0007.json          its record once it has finished: outcome and whole curve; the rolling state is gone then
    best.safetensors          the best model so far, written by the trainer, marked with its trial and value

Every file is replaced as a whole and names the fingerprint of its study's protocol: leftovers of another study
count as absent. A damaged file counts as absent too, so the trial is trained again, to the same result. Callers
hold the lock of the trial (for the best model: the mutex).
"""

import json
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from rhn.errors import DataError, OutputError
from rhn.files import atomic_path

from .files import make_folder
from .swarm_protocol import Outcome, SavedState

_logger = logging.getLogger(__name__)

_CURVE = "study_curve"  # beside the trainer's own arrays and metadata
_FINGERPRINT, _TRIAL, _VALUE = "study_fingerprint", "study_trial", "study_value"


@dataclass(frozen=True)
class Record:
    """A finished trial."""

    outcome: Outcome
    curve: np.ndarray
    """As in `SavedState`; losses that were not finite are NaN."""


class StudyFolder:
    """The files of one study.

    Raises:
        OutputError: the folder cannot be made; from the methods that write: a file cannot be written.
    """

    def __init__(self, folder: Path, fingerprint: str):
        self.folder = folder
        self._trials = make_folder(folder / "trials")
        self._fingerprint = fingerprint

    def load_state(self, number: int) -> SavedState | None:
        """The rolling state of a trial; None where there is none that can be used (a damaged one is logged)."""
        path = self._state_path(number)
        try:
            if _metadata(path).get(_FINGERPRINT) != self._fingerprint:
                return None
            arrays = _checked_arrays(path)
            return SavedState(arrays.pop(_CURVE), arrays)
        except DataError as error:
            _logger.warning("%s: trial %d starts again from epoch 0", error, number)
            return None

    def save_state(self, number: int, state: SavedState) -> None:
        """Keeps the state, unless a newer one is there: it was written by a worker that took the trial over."""
        path = self._state_path(number)
        if self._saved_epoch(path) > state.epoch:
            return
        arrays = {name: np.asarray(array, order="C") for name, array in state.arrays.items()}
        arrays[_CURVE] = np.ascontiguousarray(state.curve, dtype=np.float64)
        metadata = {_FINGERPRINT: self._fingerprint, "epoch": str(state.epoch), "crc32": _checksum(arrays)}
        with atomic_path(path) as temporary:
            temporary.write_bytes(save(arrays, metadata))

    def delete_state(self, number: int) -> None:
        """Removes the rolling state of a finished trial and what killed writers left of it."""
        for path in [self._state_path(number), *self._trials.glob(f".{number:04d}.*")]:
            path.unlink(missing_ok=True)

    def load_record(self, number: int) -> Record | None:
        """The record of a finished trial; None where there is none that can be used."""
        path = self._record_path(number)
        try:
            content = json.loads(path.read_bytes())
            if content[_FINGERPRINT] != self._fingerprint:
                return None
            curve = [[math.nan if loss is None else loss for loss in losses] for losses in content["curve"]]
            return Record(Outcome(**content["outcome"]), np.array(curve, dtype=np.float64))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            _logger.warning("%s is damaged (%s): it counts as absent", path, error)
            return None

    def save_record(self, number: int, record: Record) -> None:
        """Keeps what a trial came to."""
        curve = [[loss if math.isfinite(loss) else None for loss in losses] for losses in record.curve.tolist()]
        content = {_FINGERPRINT: self._fingerprint, "outcome": asdict(record.outcome), "curve": curve}
        with atomic_path(self._record_path(number)) as temporary:
            temporary.write_text(json.dumps(content, allow_nan=False))

    def offer_best(self, number: int, value: float, write: Callable[[Path, Mapping[str, str]], None]) -> None:
        """Keeps a finished trial's model as `best.safetensors` if its (value, number) is the least so far, so that
        the order of finishing does not matter. `write(path, metadata)` writes the model with these entries in its
        metadata."""
        best = self.best()
        if best is not None and best <= (value, number):
            return
        for left in self.folder.glob(".best.*"):  # by a killed writer
            left.unlink()
        path = self.folder / "best.safetensors"
        try:
            with atomic_path(path) as temporary:
                write(temporary, {_TRIAL: str(number), _VALUE: repr(value), _FINGERPRINT: self._fingerprint})
        except SafetensorError as error:  # how that library tells of a full disk
            raise OutputError(f"cannot write {path}: {error}") from error

    def best(self) -> tuple[float, int] | None:
        """Value and trial of the best model kept so far."""
        try:
            metadata = _metadata(self.folder / "best.safetensors")
            if metadata.get(_FINGERPRINT) == self._fingerprint:
                return float(metadata[_VALUE]), int(metadata[_TRIAL])
        except (DataError, KeyError, ValueError) as error:
            _logger.warning("the best model cannot be read (%s): the next trial to finish replaces it", error)
        return None

    def _saved_epoch(self, path: Path) -> int:
        try:
            metadata = _metadata(path)
            return int(metadata["epoch"]) if metadata.get(_FINGERPRINT) == self._fingerprint else -1
        except (DataError, KeyError, ValueError):
            return -1

    def _state_path(self, number: int) -> Path:
        return self._trials / f"{number:04d}.safetensors"

    def _record_path(self, number: int) -> Path:
        return self._trials / f"{number:04d}.json"


def _metadata(path: Path) -> dict[str, str]:
    """The header's entries; none where there is no file.

    Raises:
        DataError: the file is not whole.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except FileNotFoundError:
        return {}
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} is damaged ({error})") from error


def _checked_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a state file, the curve among them.

    Raises:
        DataError: they are not what was written.
    """
    try:
        arrays, metadata = load_file(path), _metadata(path)
        if metadata["crc32"] != _checksum(arrays) or metadata["epoch"] != str(len(arrays[_CURVE]) - 1):
            raise DataError(f"{path} is damaged (its checksum differs)")
    except (SafetensorError, OSError, KeyError) as error:
        raise DataError(f"{path} is damaged ({error})") from error
    return arrays


def _checksum(arrays: Mapping[str, np.ndarray]) -> str:
    checksum = 0
    for name in sorted(arrays):
        header = f"{name} {arrays[name].dtype} {arrays[name].shape}".encode()
        checksum = crc32(arrays[name].tobytes(), crc32(header, checksum))
    return f"{checksum:08x}"
