"""The folder of a run. `OUT/.lock` is locked while a driver works, and `OUT/ARCH-depthL` has

    trials/0007.safetensors        the rolling state of trial 7: arrays and curve
    trials/0007-best.safetensors   its best weights, until the driver has compared its value
    trials/0007.json               its record after its end: settings, results and whole curve
    best.safetensors               the model of the best trial so far

Workers write the files of trials, and the driver writes all others. Every file is replaced as a
whole. States and records contain the fingerprint of the study: a file of another study is ignored.
A damaged file is ignored, too, and the trial is trained again, to the same result.
"""

import logging
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from optim_study.config import StudyConfig, config_from_protocol
from optim_study.results import TrialRow, row_of
from rhn.errors import DamagedError, DataError, first_line
from rhn.training.state import LOCK, TrialState, read_state, write_state
from rhn.utils.io import read_json, write_json, writing

_logger = logging.getLogger(__name__)

_CURVE = "study_curve"  # key beside the backend's own arrays
_FINGERPRINT = "study_fingerprint"


class StudyFolder:
    """The files of one study. Methods raise OutputError and DataError."""

    def __init__(self, out: Path, config: StudyConfig):
        self.path, self.config, self._fingerprint = out / config.name, config, config.fingerprint
        self.best, self.trials = self.path / "best.safetensors", self.path / "trials"

    def load_state(self, number: int) -> TrialState | None:
        """Load the latest state of a trial; None if there is none, or a damaged one."""
        path = self.file(number, ".safetensors")
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
        about = {_FINGERPRINT: self._fingerprint, "epoch": str(len(state.curve) - 1)}
        write_state(self.file(number, ".safetensors"), arrays, about)

    def epochs(self, numbers: Iterable[int]) -> dict[int, int]:
        """Return the epoch of the saved state of each of these trials that has one."""
        found = {}
        for number in numbers:
            try:
                _, about = read_state(self.file(number, ".safetensors"), whole=False) or ({}, {})
            except DamagedError:  # a worker reads it again, and says so
                continue
            if about.get(_FINGERPRINT) == self._fingerprint:
                found[number] = int(about["epoch"])
        return found

    def recorded(self) -> set[int]:
        """Return the numbers of the trials that have a record."""
        return {int(path.stem) for path in self.trials.glob("*.json") if path.stem.isdecimal()}

    def load_record(self, number: int) -> TrialRow | None:
        """Load the row of a finished trial from its record; None if there is none. A record that is
        damaged, or of another study, is removed and counts as none.
        """
        path = self.file(number, ".json")
        try:
            return read_record(path, self.config)
        except DamagedError as error:
            _logger.warning("%s: trial %d is trained again", error, number)
            path.unlink(missing_ok=True)
            return None

    def save_record(self, row: TrialRow, curve: np.ndarray) -> None:
        """Save the record of a trial; its model must be saved already."""
        about = self.config.trial(row.trial)
        content = {_FINGERPRINT: self._fingerprint, **about, "outcome": row.results}
        content |= {"init": self.config.settings(row.trial).init, "curve": curve.tolist()}
        write_json(self.file(row.trial, ".json"), content)

    def settle(self, number: int, *, best: bool) -> None:
        """Keep the model of a recorded trial if it is the best so far; remove its other files."""
        model = self.file(number, "-best.safetensors")
        if best and model.exists():
            with writing(self.best):
                model.replace(self.best)
        for path in (model, self.file(number, ".safetensors")):
            path.unlink(missing_ok=True)

    def file(self, number: int, ending: str) -> Path:
        """Return a file of a trial: .safetensors, -best.safetensors or .json."""
        return self.trials / f"{number:04d}{ending}"


def read_record(path: Path, study: StudyConfig | None = None) -> TrialRow | None:
    """Read the row of a finished trial; None if there is none. Raises DataError if it cannot be
    read, and DamagedError if a worker, of the given study, did not write it.
    """
    try:
        content = read_json(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {first_line(error)}") from error
    except ValueError:
        content = {}
    try:
        config = study or config_from_protocol(content["study"], trials=1)
        if content[_FINGERPRINT] == config.fingerprint:
            return row_of(config, content["trial"], content["settings"], content["outcome"])
    except (ValueError, TypeError, KeyError, DataError):
        pass
    raise DamagedError(f"{path} is damaged")


def rows_in(out: Path, without: Collection[str] = ()) -> list[TrialRow]:
    """Return the complete trials in the folder of a run, without those of the studies `without`."""
    rows = []
    for path in out.glob("*/trials/[0-9]*.json"):
        if path.parts[-3] not in without:
            try:
                rows += [row] if (row := read_record(path)) else []
            except DamagedError as error:
                _logger.warning("%s", error)
    return sorted(rows, key=lambda row: (row.arch, row.depth, row.trial))


def progress_of(out: Path, config: StudyConfig, rows: Sequence[TrialRow]) -> dict[str, Any]:
    """Return the progress of a study in the folder of a run with these complete trials."""
    folder, running = StudyFolder(out, config), is_locked(out)
    own = [row for row in rows if row.fingerprint == config.fingerprint]
    saved = len(folder.epochs(set(range(config.trials)).difference(row.trial for row in own)))
    return {
        "study": config.name,
        "optimizer": config.optimizer,
        "trials": config.trials,
        "complete": len(own),
        "running": saved if running else 0,
        "interrupted": 0 if running else saved,
        "diverged": sum(row.diverged for row in own),
        "best": min((row.loss(config.objective) for row in own), default=None),
        "checkpoint": str(folder.best) if folder.best.exists() else None,
    }


def is_locked(folder: Path) -> bool:
    """Return True if a process works in the folder, or if the user may not lock it."""
    try:
        if (folder / LOCK).exists():
            FileLock(folder / LOCK).acquire(blocking=False).lock.release()
    except OSError:  # or its subclass Timeout
        return True
    return False
