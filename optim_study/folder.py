"""The folder of a run, with states and records of trials, the best models, and the lock of the
driver.

The file `OUT/.lock` is locked while a driver works. The folder `OUT/ARCH-depthL` of a study holds

    trials/0007.begun              marks that a worker has begun trial 7
    trials/0007.safetensors        the rolling state of trial 7: arrays and curve
    trials/0007-best.safetensors   its best weights, until the driver has compared its value
    trials/0007.json               its record after its end: settings, results and whole curve
    best.safetensors               the model of the best trial so far

Workers write the files of trials, and the driver writes all others. When a trial has a record, the
driver also removes its first three files. Every file is replaced as a whole. Marks, states and
records contain the fingerprint of the study's protocol: a file of another study is ignored. A
damaged file is ignored, too, and the trial is trained again, to the same result. A file that cannot
be read is an error.
"""

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock

from optim_study.protocol import StudyConfig
from optim_study.results import TrialRow, best_checkpoint, stored_row
from rhn.errors import DamagedError, DataError
from rhn.training.state import LOCK, TrialState, read_state, write_state
from rhn.utils.io import atomic_path, read_json, remove_leftovers, write_json, writing

_logger = logging.getLogger(__name__)

_CURVE = "study_curve"  # key beside the backend's own arrays
_FINGERPRINT = "study_fingerprint"


@dataclass(frozen=True)
class TrialRecord:
    """A finished trial."""

    row: TrialRow
    curve: np.ndarray
    """Losses of each epoch, as in `TrialState`; those that are not finite are NaN."""


class StudyFolder:
    """The files of one study. Methods raise OutputError if a file cannot be written, and DataError
    if a file cannot be read.
    """

    def __init__(self, out: Path, config: StudyConfig):
        self.path, self._config, self._fingerprint = out / config.name, config, config.fingerprint
        self._best, self._trials = best_checkpoint(out, config.name), self.path / "trials"

    def make(self) -> None:
        """Create the folder of the study."""
        with writing(self._trials):
            self._trials.mkdir(parents=True, exist_ok=True)

    def begin(self, numbers: Iterable[int]) -> None:
        """Write a mark that a worker has begun these trials. A kill before the first save is then
        noticed.
        """
        for number in numbers:
            with atomic_path(self._mark_path(number)) as temporary:
                temporary.write_text(self._fingerprint)

    def begun(self, numbers: Iterable[int]) -> set[int]:
        """Among these trials, return those that a worker has begun, with or without a saved
        state.
        """
        numbers = list(numbers)
        return {n for n in numbers if self._is_marked(n)} | self.epochs(numbers).keys()

    def _is_marked(self, number: int) -> bool:
        try:
            return self._mark_path(number).read_text() == self._fingerprint
        except (OSError, ValueError):
            return False

    def load_state(self, number: int) -> TrialState | None:
        """Load the latest state of a trial; None if there is none. A damaged state is logged and
        counts as none.
        """
        path = self._state_path(number)
        try:
            arrays, about = read_state(path) or ({}, {})
        except DamagedError:
            _logger.warning("%s is damaged: trial %d starts again from epoch 0", path, number)
            return None
        return (
            TrialState(arrays.pop(_CURVE), arrays)
            if about.get(_FINGERPRINT) == self._fingerprint
            else None
        )

    def save_state(self, number: int, state: TrialState) -> None:
        """Save the latest state of a trial."""
        arrays = {**state.arrays, _CURVE: np.asarray(state.curve, dtype=np.float64)}
        about = {_FINGERPRINT: self._fingerprint, "epoch": str(state.epoch)}
        write_state(self._state_path(number), arrays, about)

    def epochs(self, numbers: Iterable[int]) -> dict[int, int]:
        """Return a dictionary from trial number to the epoch of the saved state, for those of these
        trials that have one.
        """
        found = {}
        for number in numbers:
            try:
                _, about = read_state(self._state_path(number), whole=False) or ({}, {})
            except DamagedError:  # a worker reads it again, and says so
                continue
            if about.get(_FINGERPRINT) == self._fingerprint:
                found[number] = int(about["epoch"])
        return found

    def recorded(self) -> set[int]:
        """Return the numbers of the trials that have a record."""
        return {int(path.stem) for path in self._trials.glob("*.json") if path.stem.isdecimal()}

    def load_record(self, number: int) -> TrialRecord | None:
        """Load the record of a finished trial; None if there is none. A record that is damaged, or
        of another study, is removed and counts as none.
        """
        path = self._record_path(number)
        try:
            content = read_json(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror or error})") from error
        except ValueError as error:
            self._remove_record(path, number, error)
            return None
        try:
            if content[_FINGERPRINT] != self._fingerprint:
                raise DataError("it belongs to another study")
            losses = [
                [math.nan if loss is None else loss for loss in pair] for pair in content["curve"]
            ]
            row = stored_row(
                self._config, number, self._config.parameters(number) | content["outcome"]
            )
            return TrialRecord(row, np.array(losses, dtype=np.float64).reshape(-1, 2))
        except (ValueError, TypeError, KeyError, DataError) as error:
            self._remove_record(path, number, error)
            return None

    def _remove_record(self, path: Path, number: int, error: Exception) -> None:
        """Remove a record that is damaged, or of another study, with a warning."""
        _logger.warning("%s cannot be used (%s): trial %d is trained again", path, error, number)
        path.unlink(missing_ok=True)

    def save_record(self, number: int, record: TrialRecord) -> None:
        """Save the record of a trial; its model must be saved already."""
        config, outcome = self._config, {"outcome": record.row.results}
        content = {_FINGERPRINT: self._fingerprint, **config.trial(number), **outcome}
        content |= {"init": config.settings(number).init, "curve": record.curve.tolist()}
        write_json(self._record_path(number), content)

    def settle(self, number: int, *, best: bool) -> None:
        """Keep the model of a recorded trial if it is the best so far; remove its other files."""
        model, state = self.model_path(number), self._state_path(number)
        if best and model.exists():
            with writing(self._best):
                model.replace(self._best)
        for path in (model, state, self._mark_path(number)):
            path.unlink(missing_ok=True)

    def tidy(self) -> None:
        """Remove temporary files that killed writers left. Call this only while no other process
        writes here.
        """
        remove_leftovers(self._trials)

    def model_path(self, number: int) -> Path:
        """Return the file of the best weights of a trial that has ended."""
        return self._trials / f"{number:04d}-best.safetensors"

    def _state_path(self, number: int) -> Path:
        return self._trials / f"{number:04d}.safetensors"

    def _mark_path(self, number: int) -> Path:
        return self._trials / f"{number:04d}.begun"

    def _record_path(self, number: int) -> Path:
        return self._trials / f"{number:04d}.json"


def is_locked(folder: Path) -> bool:
    """Return True if a process works in the folder, or if the user may not lock it."""
    try:
        if (folder / LOCK).exists():
            FileLock(folder / LOCK).acquire(blocking=False).lock.release()
    except OSError:  # or its subclass Timeout
        return True
    return False
