"""A study that any number of workers share: claims, reports and results in the storage, states and models in its folder.

The first worker creates the study; every worker claims trials, reports their losses and completes them. The folder `OUT/ARCH-depthL`
holds

    trials/0007.safetensors   the rolling state of trial 7 during its training: arrays and curve
    trials/0007.json          its record after its end: outcome and whole curve; the rolling state is deleted then
    best.safetensors          the best model so far, written by the backend, marked with its trial and value

Files are replaced as a whole and contain the fingerprint of the study's protocol: files of another study count as absent. A damaged
file counts as absent too, so the trial is trained again, to the same result; an unreadable file is an error. Callers hold the lock of
the trial (for the best model: the mutex).
"""

import json
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from optim_study.backend import Outcome
from optim_study.locks import Locks, alone, make_folder
from optim_study.protocol import Settings, StudyConfig, config_from_protocol, require_same_protocol
from optim_study.storage import Storage, StoredTrial
from rhn.errors import DamagedError, DataError, InvalidInputError
from rhn.training.state import TrialState, read_state, read_state_metadata, write_state
from rhn.utils.io import read_json, remove_leftovers, write_json
from rhn.utils.validation import check_fields

_logger = logging.getLogger(__name__)

_CURVE = "study_curve"  # key beside the backend's own arrays
_FINGERPRINT = "study_fingerprint"
_PROTOCOL, _TRIALS = "protocol", "trials"  # attributes of a study in the storage
_REPORTS = 50  # values a trial: reading 720 trials with 1000 values each takes Optuna 20 s and 1.4 GB


@dataclass(frozen=True)
class TrialRecord:
    """A finished trial."""

    outcome: Outcome
    curve: np.ndarray
    """As in `TrialState`; losses that are not finite are NaN."""


class StudyFolder:
    """The files of one study. Methods raise OutputError if a file cannot be written, DataError if one cannot be read."""

    def __init__(self, folder: Path, fingerprint: str):
        self.folder, self._fingerprint = folder, fingerprint
        self._trials = make_folder(folder / "trials")

    def load_state(self, number: int) -> TrialState | None:
        """The rolling state of a trial, or None; a damaged one is logged."""
        try:
            found = read_state(self._state_path(number))
        except DamagedError:
            _logger.warning("%s is damaged: trial %d starts again from epoch 0", self._state_path(number), number)
            return None
        if found is None or found[1].get(_FINGERPRINT) != self._fingerprint:
            return None
        arrays, _ = found
        return TrialState(arrays.pop(_CURVE), arrays)

    def save_state(self, number: int, state: TrialState) -> None:
        """Save the state, unless another worker that took the trial over has saved a newer one."""
        path, newest = self._state_path(number), -1
        with suppress(DamagedError, KeyError, ValueError):
            saved = read_state_metadata(path) or {}
            newest = int(saved["epoch"]) if saved[_FINGERPRINT] == self._fingerprint else -1
        if newest <= state.epoch:
            arrays = {**state.arrays, _CURVE: np.asarray(state.curve, dtype=np.float64)}
            write_state(path, arrays, {_FINGERPRINT: self._fingerprint, "epoch": str(state.epoch)})

    def delete_state(self, number: int) -> None:
        """Delete the rolling state of a finished trial, with temporary files of killed writers."""
        path = self._state_path(number)
        path.unlink(missing_ok=True)
        remove_leftovers(path.parent, path.stem)

    def load_record(self, number: int) -> TrialRecord | None:
        """The record of a finished trial, or None; a damaged one is logged."""
        path = self._record_path(number)
        try:
            content = read_json(path)
            if content[_FINGERPRINT] != self._fingerprint:
                return None
            losses = [[math.nan if loss is None else loss for loss in pair] for pair in content["curve"]]
            outcome, curve = Outcome(**content["outcome"]), np.array(losses, dtype=np.float64)
            check_fields(outcome)
            if curve.ndim != 2 or curve.shape[1] != 2:
                raise ValueError(f"its curve has shape {curve.shape}, expected (epochs + 1, 2)")
            return TrialRecord(outcome, curve)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unreadable(path, error) from error
        except (ValueError, TypeError, KeyError) as error:
            _logger.warning("%s is damaged (%s): it counts as absent", path, error)
            return None

    def save_record(self, number: int, record: TrialRecord) -> None:
        """Save the outcome and the curve of a trial."""
        content = {"outcome": asdict(record.outcome), "curve": record.curve.tolist()}
        write_json(self._record_path(number), {_FINGERPRINT: self._fingerprint, **content})

    def offer_best(self, number: int, value: float, write: Callable[[Path, Mapping[str, object]], None]) -> None:
        """Save a finished trial's model as `best.safetensors` if its (value, number) is the least so far, in any order of finishing.

        write(path, mark): writes the model atomically, with the mark as the entry `kept` of its metadata.
        """
        best = self.best()
        if best is None or (value, number) < best:
            remove_leftovers(self.folder, "best")
            mark = {"fingerprint": self._fingerprint, "value": value, "trial": number}
            write(self.folder / "best.safetensors", mark)

    def best(self) -> tuple[float, int] | None:
        """Value and trial of the best model so far."""
        path = self.folder / "best.safetensors"
        try:
            path.open("rb").close()
            with safe_open(path, framework="numpy") as file:
                mark = json.loads(file.metadata()["rhn"])["metadata"]["kept"]
            return (mark["value"], mark["trial"]) if mark["fingerprint"] == self._fingerprint else None
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unreadable(path, error) from error
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            _logger.warning("%s is damaged (%s): the next trial to finish replaces it", path, error)
            return None

    def _state_path(self, number: int) -> Path:
        return self._trials / f"{number:04d}.safetensors"

    def _record_path(self, number: int) -> Path:
        return self._trials / f"{number:04d}.json"


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path} cannot be read ({error.strerror or error}): expected a file with read permission")


@dataclass(frozen=True)
class Claim:
    """A trial whose lock this worker holds."""

    number: int
    trial_id: int
    settings: Settings
    reported: set[int]
    """The epochs whose losses are in the storage."""


class SharedStudy:
    """One study from the view of one worker; made by `open_study`."""

    def __init__(self, config: StudyConfig, storage: Storage, locks: Locks, folder: StudyFolder):
        self.config, self.folder = config, folder
        self._storage, self._locks = storage, locks

    def claim(self, limit: int) -> list[Claim]:
        """Claim up to `limit` trials without a worker: those of dead workers first, then new ones.

        Raises LocksLostError if the connection that holds the locks was cut meanwhile.
        """
        claims = []
        with self._locks.mutex():
            for trial in sorted(self._unfinished(), key=lambda trial: trial.state == "WAITING"):
                if len(claims) == limit:
                    break
                # The list may be older than the lock: its last holder may have finished the trial between the two.
                if self._locks.try_lock(trial.number) and self._storage.begin(trial):
                    settings = Settings(**trial.parameters)
                    claims.append(Claim(trial.number, trial.id, settings, set(trial.reported)))
        return claims

    def lost(self, claims: Iterable[Claim]) -> set[int]:
        """The claimed trials that another worker has taken over or finished after our lock was lost.

        Raises LocksLostError if the connection was cut once more, OutputError if the server stays away.
        """
        doubtful = self._locks.lost()
        return {
            claim.number
            for claim in claims
            if claim.number in doubtful
            and not (self._locks.try_lock(claim.number) and self._storage.is_running(claim.trial_id))
        }

    def report(self, claim: Claim, curve: np.ndarray) -> None:
        """Report the losses of the curve that the storage lacks: about 50 a trial, at their epochs, only finite ones."""
        losses = curve[:, 0 if self.config.objective == "train" else 1].tolist()
        due = [epoch for epoch in report_epochs(self.config.epochs) if epoch < len(losses)]
        new = {e: losses[e] for e in due if e not in claim.reported and math.isfinite(losses[e])}
        self._storage.report(claim.trial_id, new)
        claim.reported.update(new)

    def finish(
        self, claim: Claim, record: TrialRecord, write_best: Callable[[Path, Mapping[str, object]], None]
    ) -> None:
        """Save the record, and the model if it is the best so far; complete the trial. The next worker can finish it after a kill."""
        with self._locks.mutex():
            self.folder.offer_best(claim.number, record.outcome.value(self.config.objective), write_best)
        self.folder.save_record(claim.number, record)
        self.complete(claim, record)

    def complete(self, claim: Claim, record: TrialRecord) -> None:
        """Complete a trial with a saved record in the storage. Its rolling state is deleted first: no worker claims the trial again."""
        self.folder.delete_state(claim.number)
        self.report(claim, record.curve)
        self._storage.complete(claim.trial_id, record.outcome.value(self.config.objective), asdict(record.outcome))

    def is_finished(self) -> bool:
        """True if every trial is complete."""
        return not self._unfinished()

    def release(self) -> None:
        """Give up all claims; any worker may take them."""
        self._locks.release()

    def close(self) -> None:
        """Give up all claims and close the locks."""
        self._locks.close()

    def _unfinished(self) -> list[StoredTrial]:
        return self._storage.trials(self.config.name, "WAITING", "RUNNING")


def open_study(config: StudyConfig, out: Path, storage: Storage, *, grown: bool = False) -> SharedStudy:
    """Open the study of this configuration, after creating it and adding trials up to `config.trials` if necessary.

    grown: accept a study with more trials, because another run has extended it.

    Raises:
        InvalidInputError: the existing study has another protocol, or more trials.
        DataError: the existing study is damaged or of another program.
        OutputError: the storage or the folder cannot be written.
    """
    locks = storage.locks(config.name)
    try:
        alone(locks, lambda: _make(config, storage, grown))
        return SharedStudy(config, storage, locks, StudyFolder(out / config.name, config.fingerprint))
    except BaseException:
        locks.close()
        raise


def stored_configs(storage: Storage) -> list[StudyConfig]:
    """The configurations of all studies of optim-study in a storage, oldest first; a worker joins with them.

    Raises DataError for a study of another version of the toolkit.
    """
    attributes = map(storage.attributes, storage.names())
    return [
        config_from_protocol(a[_PROTOCOL], trials=a[_TRIALS]) for a in attributes if _PROTOCOL in a and _TRIALS in a
    ]


def report_epochs(epochs: int) -> list[int]:
    """The epochs with a reported loss: about 50, evenly spread, with the first and the last.

    >>> report_epochs(1000)[:3], report_epochs(1000)[-1], report_epochs(3)
    ([0, 20, 40], 1000, [0, 1, 2, 3])
    """
    return sorted({round(i * epochs / _REPORTS) for i in range(_REPORTS + 1)})


def _make(config: StudyConfig, storage: Storage, grown: bool) -> None:
    storage.create(config.name)
    _require_ours(config, storage, grown)
    _fill(config, storage)


def _require_ours(config: StudyConfig, storage: Storage, grown: bool) -> None:
    """Compare the protocol, or store it with a new study."""
    attributes = storage.attributes(config.name)
    if _PROTOCOL in attributes:
        require_same_protocol(config, attributes[_PROTOCOL])
    elif storage.trials(config.name):
        raise DataError(f"study {config.name} in this storage was not made by optim-study: give another storage")
    else:
        storage.set_attribute(config.name, _PROTOCOL, config.protocol())
    if attributes.get(_TRIALS, 0) > config.trials and not grown:
        raise InvalidInputError(
            f"study {config.name} has {attributes[_TRIALS]} trials already, more than --trials {config.trials}: "
            "give that total or a larger one"
        )


def _fill(config: StudyConfig, storage: Storage) -> None:
    """Check the existing trials and add the missing ones."""
    trials = storage.trials(config.name)
    for trial in trials:
        expected = config.parameters(trial.number)
        if trial.parameters.keys() != expected.keys() or not all(
            _same(trial.parameters[name], value) for name, value in expected.items()
        ):
            raise DataError(
                f"trial {trial.number} of study {config.name} does not have the settings of its number: "
                "another program added it; give another storage"
            )
    if storage.attributes(config.name).get(_TRIALS, 0) < config.trials:
        storage.set_attribute(config.name, _TRIALS, config.trials)
    for number in range(len(trials), config.trials):
        storage.add_trial(config, number)


def _same(stored: float | str, expected: float | str) -> bool:
    """Compare texts exactly, numbers up to the last digits, in which exp differs between machines."""
    if isinstance(expected, str) or isinstance(stored, str):
        return stored == expected
    return math.isclose(stored, expected, rel_tol=1e-12)
