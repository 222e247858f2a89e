"""A study that any number of workers share: made by the first to come, claimed from, reported to and completed by all."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from optim_study.locks import Locks, alone
from optim_study.protocol import Settings, StudyConfig, config_from_protocol, require_same_protocol
from optim_study.storage import Storage, StoredTrial
from optim_study.study_folder import Record, StudyFolder
from rhn.errors import DataError, InvalidInputError

_PROTOCOL, _TRIALS = "protocol", "trials"  # attributes of a study in the storage
_REPORTS = 50  # values a trial: reading 720 trials with 1000 values each takes Optuna 20 s and 1.4 GB


@dataclass(frozen=True)
class Claim:
    """A trial whose lock this worker holds."""

    number: int
    trial_id: int
    settings: Settings
    reported: set[int]
    """The epochs whose losses the storage has."""


class SharedStudy:
    """One study as one worker sees it; made by `open_study`."""

    def __init__(self, config: StudyConfig, storage: Storage, locks: Locks, folder: StudyFolder):
        self.config, self.folder = config, folder
        self._storage, self._locks = storage, locks

    def claim(self, limit: int) -> list[Claim]:
        """Takes up to `limit` trials that nobody works on: those of dead workers first, then new ones.

        Raises LocksLostError where the connection that holds the locks was cut meanwhile.
        """
        claims = []
        with self._locks.mutex():
            for trial in sorted(self._unfinished(), key=lambda trial: trial.state == "WAITING"):
                if len(claims) == limit:
                    break
                # The list may be older than the lock: the last holder may have finished the trial between the two.
                if self._locks.try_lock(trial.number) and self._storage.begin(trial):
                    settings = Settings(**trial.parameters)
                    claims.append(Claim(trial.number, trial.id, settings, set(trial.reported)))
        return claims

    def lost(self, claims: Iterable[Claim]) -> set[int]:
        """The claimed trials that are no longer ours: the lock was lost and is another worker's now, or the trial is finished.

        Raises LocksLostError where the connection was cut once more meanwhile, OutputError where the server stays away.
        """
        doubtful = self._locks.lost()
        return {
            claim.number
            for claim in claims
            if claim.number in doubtful
            and not (self._locks.try_lock(claim.number) and self._storage.is_running(claim.trial_id))
        }

    def report(self, claim: Claim, curve: np.ndarray) -> None:
        """Gives the storage the losses of the curve that it lacks: about 50 a trial, the epoch as the step, only finite ones."""
        losses = curve[:, 0 if self.config.objective == "train" else 1].tolist()
        due = [epoch for epoch in report_epochs(self.config.epochs) if epoch < len(losses)]
        new = {e: losses[e] for e in due if e not in claim.reported and math.isfinite(losses[e])}
        self._storage.report(claim.trial_id, new)
        claim.reported.update(new)

    def finish(self, claim: Claim, record: Record, write_best: Callable[[Path, Mapping[str, object]], None]) -> None:
        """Keeps what the trial came to and its model if it is the best so far, and completes it. After a kill in here the next worker
        does the rest."""
        with self._locks.mutex():
            self.folder.offer_best(claim.number, record.outcome.value(self.config.objective), write_best)
        self.folder.save_record(claim.number, record)
        self.complete(claim, record)

    def complete(self, claim: Claim, record: Record) -> None:
        """Tells the storage about a trial whose record is kept. Its rolling state goes first: nobody claims it again."""
        self.folder.delete_state(claim.number)
        self.report(claim, record.curve)
        self._storage.complete(claim.trial_id, record.outcome.value(self.config.objective), asdict(record.outcome))

    def is_finished(self) -> bool:
        """Whether no trial is left to run, here or elsewhere."""
        return not self._unfinished()

    def release(self) -> None:
        """Gives up all claims: others, and the next `claim`, may take them."""
        self._locks.release()

    def close(self) -> None:
        """Gives up all claims for good."""
        self._locks.close()

    def _unfinished(self) -> list[StoredTrial]:
        return self._storage.trials(self.config.name, "WAITING", "RUNNING")


def open_study(config: StudyConfig, out: Path, storage: Storage, *, grown: bool = False) -> SharedStudy:
    """The study of this configuration: created where it is missing, filled up to `config.trials`.

    grown: it may have more trials by now, as another run has extended it.

    Raises:
        InvalidInputError: the study there has another protocol, or more trials than asked for.
        DataError: the study there was not made by this toolkit, or is damaged.
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
    """The configurations of all studies that optim-study made, in the order of their making: how a worker joins without being told.

    Raises DataError where one was made by another version of the toolkit.
    """
    attributes = map(storage.attributes, storage.names())
    return [
        config_from_protocol(a[_PROTOCOL], trials=a[_TRIALS]) for a in attributes if _PROTOCOL in a and _TRIALS in a
    ]


def report_epochs(epochs: int) -> list[int]:
    """The epochs whose losses are reported: about 50, evenly spread, the first and the last among them.

    >>> report_epochs(1000)[:3], report_epochs(1000)[-1], report_epochs(3)
    ([0, 20, 40], 1000, [0, 1, 2, 3])
    """
    return sorted({round(i * epochs / _REPORTS) for i in range(_REPORTS + 1)})


def _make(config: StudyConfig, storage: Storage, grown: bool) -> None:
    storage.create(config.name)
    _require_ours(config, storage, grown)
    _fill(config, storage)


def _require_ours(config: StudyConfig, storage: Storage, grown: bool) -> None:
    """Compares the protocol, or stores it with a study just created."""
    attributes = storage.attributes(config.name)
    if _PROTOCOL in attributes:
        require_same_protocol(config, attributes[_PROTOCOL])
    elif storage.trials(config.name):
        raise DataError(f"study {config.name} in this storage was not made by optim-study: give another storage")
    else:
        storage.set_attribute(config.name, _PROTOCOL, config.protocol())
    if attributes.get(_TRIALS, 0) > config.trials and not grown:
        raise InvalidInputError(
            f"study {config.name} has {attributes[_TRIALS]} trials already, {config.trials} were asked: "
            "give that total or a larger one"
        )


def _fill(config: StudyConfig, storage: Storage) -> None:
    """Checks the trials that are there and adds those that are missing."""
    trials = storage.trials(config.name)
    for trial in trials:
        expected = config.parameters(trial.number)
        if trial.parameters.keys() != expected.keys() or not all(
            _same(trial.parameters[name], value) for name, value in expected.items()
        ):
            raise DataError(
                f"trial {trial.number} of study {config.name} does not have the settings of its number: "
                "something else than optim-study added it; give another storage"
            )
    if storage.attributes(config.name).get(_TRIALS, 0) < config.trials:
        storage.set_attribute(config.name, _TRIALS, config.trials)
    for number in range(len(trials), config.trials):
        storage.add_trial(config, number)


def _same(stored: float | str, expected: float | str) -> bool:
    """Equal words, or numbers: another machine's exp may differ in the last digit."""
    if isinstance(expected, str) or isinstance(stored, str):
        return stored == expected
    return math.isclose(stored, expected, rel_tol=1e-12)
