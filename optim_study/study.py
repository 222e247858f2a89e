"""A study at work: trials are claimed from it, reported to it and completed in it.

A trial is RUNNING from its first claim to its end; whether anybody works on it says its lock alone (`locks`). Optuna's
heartbeats and `ask` are not used: heartbeats do not work with ask/tell, and `ask` adds trials when none is left.
"""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from .config import StudyConfig
from .locks import Locks
from .space import Settings
from .states import Record, StudyFolder

_logger = logging.getLogger(__name__)

_REPORTS = 50  # values a trial: reading 720 trials with 1000 values each takes Optuna 20 s and 1.4 GB


@dataclass(frozen=True)
class Claim:
    """A trial whose lock this worker holds."""

    number: int
    trial_id: int
    settings: Settings
    reported: set[int]
    """The epochs whose losses the storage has."""


class Study:
    """One study as one worker sees it. Made by `creation.open_study`; a database's failures come out as they are (see
    `storage.clear_storage_errors`)."""

    def __init__(
        self, config: StudyConfig, study: optuna.Study, backend: BaseStorage, locks: Locks, folder: StudyFolder
    ):
        self.config = config
        self.folder = folder
        self._study = study
        self._backend = backend
        self._locks = locks

    def claim(self, limit: int) -> list[Claim]:
        """Takes up to `limit` trials that nobody works on: those of dead workers first, then new ones.

        Raises:
            LocksLostError: the connection that holds the locks was cut meanwhile.
        """
        claims = []
        with self._locks.mutex():
            for trial in sorted(self._unfinished(), key=lambda trial: trial.state == TrialState.WAITING):
                if len(claims) == limit:
                    break
                if self._locks.try_lock(trial.number) and self._begin(trial._trial_id, trial.state):
                    claims.append(
                        Claim(trial.number, trial._trial_id, Settings(**trial.params), set(trial.intermediate_values))
                    )
        return claims

    def lost(self, claims: Iterable[Claim]) -> set[int]:
        """The claimed trials that are no longer ours: the lock was lost and is another worker's now, or the trial
        is finished.

        Raises:
            LocksLostError: the connection was cut again while the locks were taken again.
            OutputError: the server stays away.
        """
        doubtful = self._locks.lost()
        return {
            claim.number
            for claim in claims
            if claim.number in doubtful
            and not (self._locks.try_lock(claim.number) and self._is_running(claim.trial_id))
        }

    def report(self, claim: Claim, curve: np.ndarray) -> None:
        """Gives the storage the losses of the curve that it lacks: about 50 a trial, the epoch as the step, only finite
        ones."""
        losses = curve[:, 0 if self.config.objective == "train" else 1].tolist()
        due = [epoch for epoch in report_epochs(self.config.epochs) if epoch < len(losses)]
        with _finished_by_another_is_fine(claim):
            for epoch in due:
                if epoch not in claim.reported and math.isfinite(losses[epoch]):
                    self._backend.set_trial_intermediate_value(claim.trial_id, epoch, losses[epoch])
                    claim.reported.add(epoch)

    def finish(self, claim: Claim, record: Record, write_best: Callable[[Path, Mapping[str, str]], None]) -> None:
        """Keeps what the trial came to, its model if it is the best so far, and completes it. After a kill in here
        the next worker does the rest."""
        with self._locks.mutex():
            self.folder.offer_best(claim.number, record.outcome.value(self.config.objective), write_best)
        self.folder.save_record(claim.number, record)
        self.complete(claim, record)

    def complete(self, claim: Claim, record: Record) -> None:
        """Tells the storage about a trial whose record is kept. Its rolling state goes first: nobody claims it again."""
        self.folder.delete_state(claim.number)
        self.report(claim, record.curve)
        with _finished_by_another_is_fine(claim):
            for name, value in asdict(record.outcome).items():
                self._backend.set_trial_user_attr(claim.trial_id, name, value)
            value = record.outcome.value(self.config.objective)
            self._study.tell(claim.number, value, state=TrialState.COMPLETE, skip_if_finished=True)

    def is_finished(self) -> bool:
        """Whether no trial is left to run, here or elsewhere."""
        return not self._unfinished()

    def release(self) -> None:
        """Gives up all claims: others, and the next `claim`, may take them."""
        self._locks.release()

    def close(self) -> None:
        """Gives up all claims for good."""
        self._locks.close()

    def _unfinished(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=(TrialState.WAITING, TrialState.RUNNING))

    def _begin(self, trial_id: int, state: TrialState) -> bool:
        """Whether a trial just locked is still to be done. The list it came from may be older than the lock: its
        last holder may have finished it between the two."""
        if state == TrialState.WAITING:
            return self._backend.set_trial_state_values(trial_id, TrialState.RUNNING)
        return self._is_running(trial_id)

    def _is_running(self, trial_id: int) -> bool:
        return self._backend.get_trial(trial_id).state == TrialState.RUNNING


def report_epochs(epochs: int) -> list[int]:
    """The epochs whose losses are reported: about 50, evenly spread, the first and the last among them.

    >>> report_epochs(1000)[:3], report_epochs(1000)[-1], report_epochs(3)
    ([0, 20, 40], 1000, [0, 1, 2, 3])
    """
    return sorted({round(i * epochs / _REPORTS) for i in range(_REPORTS + 1)})


@contextmanager
def _finished_by_another_is_fine(claim: Claim) -> Iterator[None]:
    """A worker whose lock was lost may come late: the trial is finished then, with the same result."""
    try:
        yield
    except UpdateFinishedTrialError:
        _logger.info("trial %d was finished by another worker", claim.number)
