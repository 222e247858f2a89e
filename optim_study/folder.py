"""The folder of a run. `OUT/.lock` is locked while a driver works, and `OUT/ARCH-depthL` has

    trials/0007.safetensors        the rolling state of trial 7: arrays and curve
    trials/0007-best.safetensors   its best weights, until the driver has compared its value
    trials/0007.json               its record after its end: settings, results and whole curve
    best.safetensors               the model of the best trial so far

Workers write the files of trials, and the driver writes all others. Every file is replaced as a
whole. All contain the fingerprint or the protocol of the study: a folder with a file of another
study, or of another format or version, is refused. A damaged file is renamed, and the trial is
trained again, to the same result.
"""

import json
import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock

from optim_study.config import (
    StudyConfig,
    another_study,
    config_from_protocol,
    fingerprint_of,
    require_same_protocol,
)
from optim_study.results import TRIAL_COLUMNS, VERSIONS, TrialRow, row_of
from rhn.errors import DamagedError, DataError, InvalidInputError, first_line
from rhn.files import read_tensors
from rhn.training.state import LOCK, TrialState, read_state, write_state
from rhn.utils.io import begins_with, read_json, set_aside, write_json, writing

_logger = logging.getLogger(__name__)

JOURNAL = "journal.log"
_CURVE = "study_curve"  # key beside the backend's own arrays
_FINGERPRINT = "study_fingerprint"  # first in a record
_STUDY = "study"  # the protocol
_CHECKPOINT = "rhn"  # header of a checkpoint


class Record(NamedTuple):
    """A finished trial: its row and its curve (epochs + 1, 2), NaN where a loss is not finite."""

    row: TrialRow
    curve: np.ndarray


class StudyFolder:
    """The files of one study. Methods raise OutputError, DataError, and InvalidInputError for a
    file of another study.
    """

    def __init__(self, out: Path, config: StudyConfig):
        self.path, self.config, self._fingerprint = out / config.name, config, config.fingerprint
        self.best, self.trials = self.path / "best.safetensors", self.path / "trials"

    def check(self) -> None:
        """Refuse a folder with a file that is not of this study, and rename damaged files, before a
        run writes anything.
        """
        for path in sorted(self.trials.glob("[0-9]*.json")):
            with _renamed_if_damaged(path):
                read_record(path, self.config)
        models = {self.best, *self.trials.glob("[0-9]*-best.safetensors")}
        for path in sorted(models):
            with _renamed_if_damaged(path):
                self._check_model(path)
        for path in sorted({*self.trials.glob("[0-9]*.safetensors")} - models):
            with _renamed_if_damaged(path):
                self._check_state(path, read_state(path, whole=False))

    def _check_model(self, path: Path) -> None:
        """Raise InvalidInputError if a checkpoint is not of this study."""
        if not path.exists():
            return
        match read_tensors(path, _CHECKPOINT, whole=False)[0]:
            case {"metadata": {"study": dict(protocol)}}:
                require_same_protocol(self.config, protocol, path)
            case _:
                raise DataError(f"{path} is of another format: expected a checkpoint of a study")

    def _check_state(self, path: Path, found: tuple[dict, dict[str, str]] | None) -> None:
        """Raise InvalidInputError if a state is not of this study."""
        if found is None:
            return
        _, about = found
        written, own = about.get(_FINGERPRINT), self._fingerprint
        if written != own and _STUDY in about:
            require_same_protocol(self.config, json.loads(about[_STUDY]), path)
        elif written != own:  # 0.7.0 wrote no protocol
            raise another_study(path, "fingerprint", own, written)

    def load_state(self, number: int) -> TrialState | None:
        """Load the latest state of a trial; None if there is none, or a damaged one."""
        path = self.file(number, ".safetensors")
        with _renamed_if_damaged(path):
            found = read_state(path)
            self._check_state(path, found)
            if found:
                arrays, _ = found
                return TrialState(arrays.pop(_CURVE), arrays)
        return None

    def save_state(self, number: int, state: TrialState) -> None:
        """Save the latest state of a trial."""
        arrays = {**state.arrays, _CURVE: np.asarray(state.curve, dtype=np.float64)}
        about = {_FINGERPRINT: self._fingerprint, "epoch": str(len(state.curve) - 1)}
        about |= {_STUDY: json.dumps(self.config.protocol())}
        write_state(self.file(number, ".safetensors"), arrays, about)

    def epochs(self, numbers: Iterable[int]) -> dict[int, int]:
        """Return the epoch of the saved state of each of these trials that has one."""
        found = {}
        for number in numbers:
            try:
                _, about = read_state(self.file(number, ".safetensors"), whole=False) or ({}, {})
            except DataError:  # a worker reads it again, and says so
                continue
            if about.get(_FINGERPRINT) == self._fingerprint:
                found[number] = int(about["epoch"])
        return found

    def recorded(self) -> set[int]:
        """Return the numbers of the trials that have a record."""
        return {int(path.stem) for path in self.trials.glob("*.json") if path.stem.isdecimal()}

    def load_record(self, number: int) -> Record | None:
        """Load the record of a finished trial; None if there is none, or a damaged one."""
        path = self.file(number, ".json")
        with _renamed_if_damaged(path):
            return read_record(path, self.config)
        return None

    def save_record(self, record: Record) -> None:
        """Save the record of a trial; its model must be saved already."""
        row, about = record.row, self.config.trial(record.row.trial)
        content = {_FINGERPRINT: self._fingerprint, **about, "outcome": row.results}
        content |= {"versions": {name: getattr(row, name) for name in VERSIONS}}
        content |= {"init": self.config.settings(row.trial).init, "curve": record.curve.tolist()}
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


@contextmanager
def _renamed_if_damaged(path: Path) -> Iterator[None]:
    """Return a context that keeps a damaged file under another name, with a warning."""
    try:
        yield
    except DamagedError as error:
        _logger.warning("%s; renamed to %s", error, set_aside(path).name)


def read_record(path: Path, study: StudyConfig | None = None) -> Record | None:
    """Read the record of a finished trial; None if there is none. Raises DamagedError if it is not
    what a worker wrote, DataError if it is of another format or version or cannot be read, and
    InvalidInputError if it is of another study than this one.
    """
    if (content := _content_of(path)) is None:
        return None
    try:
        protocol, settings = content[_STUDY], content["settings"]
        outcome, losses = content["outcome"], content["curve"]
        written, columns = fingerprint_of(protocol), {*settings, *outcome}
    except (KeyError, TypeError):
        expected = "expected study, settings, outcome and curve"
        raise DamagedError(f"{path} is damaged: {expected}") from None
    if written != content[_FINGERPRINT]:
        raise DamagedError(f"{path} is damaged: its fingerprint differs")
    if unknown := sorted(columns.difference(TRIAL_COLUMNS)):
        raise DataError(f"{path} was written by another version: it has {unknown[0]}")
    if study:
        require_same_protocol(study, protocol, path)
    try:
        config = study or config_from_protocol(protocol, trials=1)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    try:
        row = row_of(config, content["trial"], settings, outcome, content.get("versions", {}))
        return Record(row, np.array(losses, dtype=np.float64))
    except (KeyError, TypeError, ValueError, DataError) as error:
        raise DamagedError(f"{path} is damaged: {first_line(error)}") from None


def _content_of(path: Path) -> dict[str, Any] | None:
    """Return the content of a record, None if there is none, with the errors of `read_record`."""
    try:
        content = read_json(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {first_line(error)}") from error
    except ValueError as error:
        if begins_with(path, _FINGERPRINT.encode()):
            raise DamagedError(f"{path} is damaged: {first_line(error)}") from error
        content = None
    if not isinstance(content, dict) or _FINGERPRINT not in content:
        raise DataError(f"{path} is of another format: expected a record of optim-study")
    if _STUDY not in content and "outcome" in content:
        raise DataError(f"{path} was written by version 0.5.0 or before: it has no {_STUDY}")
    return content


def rows_in(out: Path, without: Collection[str] = ()) -> list[TrialRow]:
    """Return the complete trials in the folder of a run, without those of the studies `without`."""
    rows = []
    for path in out.glob("*/trials/[0-9]*.json"):
        if path.parts[-3] not in without:
            try:
                record = read_record(path)
            except DataError as error:
                _logger.warning("%s", error)
                continue
            if record is not None:  # deleted since
                rows.append(record.row)
    return sorted(rows, key=lambda row: (row.arch, row.depth, row.trial))


def the_only_run(home: Path) -> Path:
    """Return the only folder of a run in `home`. Raises InvalidInputError if it has none, or
    several.
    """
    found = [each for each in sorted(home.glob("*")) if _is_run(each)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise InvalidInputError(f"runs is empty: expected the folder of a run, {home}/ has none")
    names = ", ".join(map(str, found))
    raise InvalidInputError(f"runs is empty: expected some of {names}")


def _is_run(folder: Path) -> bool:
    """True for a folder with a journal, or with the files of a study."""
    return (folder / JOURNAL).exists() or any(folder.glob("*/trials"))


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
