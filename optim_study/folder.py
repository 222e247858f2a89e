"""The folder of a run, with states and records of trials, the best models, and the lock of the
driver.

The file `OUT/.lock` is locked while a driver works. The folder `OUT/ARCH-depthL` of a study holds

    trials/0007.safetensors        the rolling state of trial 7: arrays and curve
    trials/0007-best.safetensors   its best weights, until the driver has compared its value
    trials/0007.json               its record after its end: settings, results and whole curve
    best.safetensors               the model of the best trial so far

Workers write the files of trials, and the driver writes all others. When a trial has a record, the
driver also removes its first two files. Every file is replaced as a whole. States and records
contain the fingerprint of the study's protocol: a file of another study is ignored. A damaged file
is ignored, too, and the trial is trained again, to the same result. A file that cannot be read is
an error.
"""

import logging
import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock

from optim_study.protocol import StudyConfig, config_from_protocol
from optim_study.results import TrialRow, row_of
from rhn.errors import DamagedError, DataError, first_line
from rhn.training.state import LOCK, TrialState, read_state, write_state
from rhn.utils.io import read_json, remove_leftovers, write_json, writing

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
        self.best, self._trials = self.path / "best.safetensors", self.path / "trials"

    def make(self) -> None:
        """Create the folder of the study."""
        with writing(self._trials):
            self._trials.mkdir(parents=True, exist_ok=True)

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
        if about.get(_FINGERPRINT) != self._fingerprint:
            return None
        return TrialState(arrays.pop(_CURVE), arrays)

    def save_state(self, number: int, state: TrialState) -> None:
        """Save the latest state of a trial."""
        arrays = {**state.arrays, _CURVE: np.asarray(state.curve, dtype=np.float64)}
        about = {_FINGERPRINT: self._fingerprint, "epoch": str(state.epoch)}
        write_state(self._state_path(number), arrays, about)

    def epochs(self, numbers: Iterable[int]) -> dict[int, int]:
        """Return the epoch of the saved state of each of these trials that has one."""
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
        path = self._trials / f"{number:04d}.json"
        try:
            record = read_record(path)
            if record is None or record.row.fingerprint == self._fingerprint:
                return record
            reason = "it is of another study"
        except DamagedError as error:
            reason = str(error)
        _logger.warning("%s: trial %d is trained again: %s", path, number, reason)
        path.unlink(missing_ok=True)
        return None

    def save_record(self, number: int, record: TrialRecord) -> None:
        """Save the record of a trial; its model must be saved already."""
        config, outcome = self._config, {"outcome": record.row.results}
        content = {_FINGERPRINT: self._fingerprint, **config.trial(number), **outcome}
        content |= {"init": config.settings(number).init, "curve": record.curve.tolist()}
        write_json(self._trials / f"{number:04d}.json", content)

    def settle(self, number: int, *, best: bool) -> None:
        """Keep the model of a recorded trial if it is the best so far; remove its other files."""
        model = self.model_path(number)
        if best and model.exists():
            with writing(self.best):
                model.replace(self.best)
        for path in (model, self._state_path(number)):
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


def read_record(path: Path) -> TrialRecord | None:
    """Read the record of a finished trial, with its row; None if there is no file. Raises DataError
    if it cannot be read, and DamagedError if its content is not what a worker wrote.
    """
    try:
        content = read_json(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {first_line(error)}") from error
    except ValueError as error:
        raise DamagedError(f"{path} is damaged: {first_line(error)}") from error
    try:
        config = config_from_protocol(content["study"], trials=1)
        if content[_FINGERPRINT] != config.fingerprint:
            raise DataError("its fingerprint differs")
        row = row_of(config, content["trial"], content["settings"], content["outcome"])
        losses = [
            [math.nan if each is None else each for each in pair] for pair in content["curve"]
        ]
        return TrialRecord(row, np.array(losses, dtype=np.float64).reshape(-1, 2))
    except (ValueError, TypeError, KeyError, DataError) as error:
        raise DamagedError(f"{path} is damaged: {first_line(error)}") from error


def rows_in(out: Path, without: Collection[str] = ()) -> list[TrialRow]:
    """Return the complete trials in the folder of a run, from their records.

    without: names of studies that are left out.
    """
    rows = []
    for path in out.glob("*/trials/*.json"):
        if path.stem.isdecimal() and path.parts[-3] not in without:
            try:
                record = read_record(path)
                rows += [record.row] if record else []
            except DamagedError as error:
                _logger.warning("%s", error)
    return sorted(rows, key=lambda row: (row.arch, row.depth, row.trial))


def is_locked(folder: Path) -> bool:
    """Return True if a process works in the folder, or if the user may not lock it."""
    try:
        if (folder / LOCK).exists():
            FileLock(folder / LOCK).acquire(blocking=False).lock.release()
    except OSError:  # or its subclass Timeout
        return True
    return False
