"""The door to Optuna: studies and their trials, in a journal file of the output folder or in PostgreSQL. No other module imports it,
but for `journal`.

All trials of a study are added up front as WAITING with their parameters, so their numbers 0..N-1 are the index of the settings,
dashboards show "12 of 60", and a study ends when nothing is left to claim. A trial is RUNNING from its first claim to its end;
whether anybody works on it now is known from its lock (see `locks`). Optuna's `ask` and heartbeats are not used: `ask` adds trials
when none is left, and heartbeats do not work with ask/tell.
"""

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.exceptions import DuplicatedStudyError, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import column, event, func, select, table
from sqlalchemy.exc import SQLAlchemyError

from optim_study.journal import open_journal
from optim_study.locks import FileLocks, Locks, alone
from optim_study.patience import Patience, reason
from optim_study.protocol import StudyConfig
from optim_study.trainer import Outcome
from rhn.errors import DataError, InvalidInputError, OutputError
from rhn.utils.validation import fits

optuna.logging.set_verbosity(optuna.logging.ERROR)
_logger = logging.getLogger(__name__)
POSTGRES = ("postgres", "postgresql", "postgresql+psycopg")  # as users write it, and the last one as SQLAlchemy does
FAILURES = (StorageInternalError, SQLAlchemyError)
"""What a database fails with."""
T = TypeVar("T")


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turns a database's failures into one sentence."""
    try:
        yield
    except FAILURES as error:
        raise OutputError(
            f"the storage failed: {reason(error)}; mend that and run the same command again, everything saved so far is kept"
        ) from error


def _asked(method: Callable[..., T]) -> Callable[..., T]:
    """A method of `Storage`, done again when a database that was away is back: each comes to the same done twice."""

    @wraps(method)
    def patient(self: "Storage", *arguments, **options) -> T:
        with clear_errors():
            return self._patience.call(lambda: method(self, *arguments, **options), *FAILURES)

    return patient


@dataclass(frozen=True, kw_only=True)
class StoredTrial:
    """A trial as the storage has it."""

    number: int
    id: int
    """Its key in the storage."""
    state: str
    """WAITING, RUNNING or COMPLETE; FAIL or PRUNED where something else has ended it."""
    parameters: Mapping[str, float | str]
    results: Mapping[str, Any]
    """Fields of its `Outcome`, once it is complete."""
    value: float | None
    reported: Mapping[int, float]
    """Epoch -> loss."""


class Storage:
    """An open storage. Every method raises OutputError where the storage fails."""

    def __init__(self, backend: BaseStorage, locks: Callable[[str], Locks], patience: Patience | None = None):
        self._backend, self._patience = backend, patience or Patience()
        self.locks = locks
        """Study name -> fresh locks on its trials, for one worker."""

    @_asked
    def names(self) -> list[str]:
        """All studies, in the order of their making."""
        return [s.study_name for s in sorted(self._backend.get_all_studies(), key=lambda s: s._study_id)]

    @_asked
    def attributes(self, study: str) -> dict[str, Any]:
        """What was stored with a study that is there."""
        return self._backend.get_study_user_attrs(self._key(study))

    @_asked
    def create(self, study: str) -> None:
        """An empty study, where there is none of this name."""
        if self._key(study) is None:
            with suppress(DuplicatedStudyError):  # another worker came first
                self._backend.create_new_study([StudyDirection.MINIMIZE], study)

    @_asked
    def set_attribute(self, study: str, name: str, value: Any) -> None:
        self._backend.set_study_user_attr(self._key(study), name, value)

    @_asked
    def trials(self, study: str, *states: str) -> list[StoredTrial]:
        """The trials of a study, or those in these states; none where there is no such study."""
        key = self._key(study)
        wanted = tuple(TrialState[state] for state in states) or None
        found = [] if key is None else self._backend.get_all_trials(key, deepcopy=False, states=wanted)
        return [_stored(trial, study) for trial in found]

    @_asked
    def add_trial(self, config: StudyConfig, number: int) -> None:
        """One more WAITING trial, which gets this number; where that is taken already, none."""
        ranges = {
            "learning_rate": FloatDistribution(*config.learning_rate, log=True),
            "init_std": FloatDistribution(*config.init_std, log=True),
            "transform_bias": CategoricalDistribution(config.transform_bias),
        }
        parameters = config.parameters(number)
        if "init_scheme" in parameters:
            ranges["init_scheme"] = CategoricalDistribution(config.init_schemes)
        trial = create_trial(state=TrialState.WAITING, params=parameters, distributions=ranges)
        study = self._key(config.name)
        with _numbered(self._backend, study, number):
            self._backend.create_new_trial(study, template_trial=trial)

    @_asked
    def begin(self, trial: StoredTrial) -> bool:
        """Whether a trial that this worker holds, looked up as WAITING or RUNNING, is still to be done; it is RUNNING then."""
        if trial.state == "WAITING":
            with _finished_by_another_is_fine(trial.id):
                self._backend.set_trial_state_values(trial.id, TrialState.RUNNING)
        return self.is_running(trial.id)

    @_asked
    def is_running(self, trial: int) -> bool:
        return self._backend.get_trial(trial).state == TrialState.RUNNING

    @_asked
    def report(self, trial: int, losses: Mapping[int, float]) -> None:
        """Losses by epoch."""
        with _finished_by_another_is_fine(trial):
            for epoch, loss in losses.items():
                self._backend.set_trial_intermediate_value(trial, epoch, loss)

    @_asked
    def complete(self, trial: int, value: float, results: Mapping[str, Any]) -> None:
        with _finished_by_another_is_fine(trial):
            for name, result in results.items():
                self._backend.set_trial_user_attr(trial, name, result)
            self._backend.set_trial_state_values(trial, TrialState.COMPLETE, [value])

    def _key(self, study: str) -> int | None:
        try:
            return self._backend.get_study_id_from_name(study)
        except KeyError:
            return None


def _stored(trial: FrozenTrial, study: str) -> StoredTrial:
    """A trial of Optuna's as ours; raises DataError where what it holds is not what a study writes."""
    value = trial.values[0] if trial.values else None
    expected = dict.fromkeys(trial.params, float) | {"init_scheme": str} | get_type_hints(Outcome)
    told = {"value": value} | trial.params | trial.user_attrs
    wrong = [name for name, said in told.items() if not fits(said, expected.get(name, float | None))]
    if wrong or (trial.state == TrialState.COMPLETE and value is None):
        name = wrong[0] if wrong else "value"
        raise DataError(
            f"trial {trial.number} of study {study} is damaged: its {name} is {told[name]!r:.60}; restore the journal or database "
            "from a copy"
        )
    return StoredTrial(
        number=trial.number,
        id=trial._trial_id,
        state=trial.state.name,
        parameters=trial.params,
        results=trial.user_attrs,
        value=value,
        reported=trial.intermediate_values,
    )


def open_storage(url: str | None, out: Path, wait: float = 0.0) -> Storage:
    """The journal `OUT/journal.log` where `url` is None, else the PostgreSQL database at `postgresql://...`.

    wait: seconds to wait in all, each time, for a database that does not answer.

    Raises:
        InvalidInputError: another kind of storage, an address that cannot be read, or psycopg is missing.
        OutputError: the folder cannot be written, or the server cannot be used.
        DataError: the journal is damaged.
    """
    if url is None:
        return Storage(open_journal(out / "journal.log"), lambda study: FileLocks(out / "locks" / study))
    kind, _, rest = url.partition("://")
    if kind not in POSTGRES:
        shown = re.match(r"[\w+]*", kind)[0]  # what comes after may hold a password
        raise InvalidInputError(
            f"a storage of the kind {shown!r} is not supported: leave it out for the journal file "
            f"OUT/journal.log, or give a PostgreSQL database as postgresql://user:password@host:port/database"
        )
    try:
        from optim_study.postgres_locks import KEEPALIVES, PostgresLocks, patience_with
    except ImportError:
        raise InvalidInputError(
            "a PostgreSQL storage needs psycopg: install it with `pip install 'rhn-toolkit[postgres]'`"
        ) from None
    url = f"{POSTGRES[-1]}://{rest}"
    patience = patience_with(url, wait)

    def opened() -> RDBStorage:
        return RDBStorage(url, engine_kwargs={"pool_pre_ping": True, "connect_args": KEEPALIVES})

    locks = PostgresLocks(url, "optim-study tables", patience)
    try:
        with clear_errors():  # several workers that make the tables at once would crash
            backend = alone(locks, lambda: patience.call(opened, *FAILURES))
    finally:
        locks.close()
    return Storage(backend, lambda study: PostgresLocks(url, study, patience), patience)


def open_existing(url: str | None, out: Path, wait: float = 0.0) -> Storage:
    """The storage of a run that was started; raises InvalidInputError where OUT has no journal."""
    if url is None and not (out / "journal.log").is_file():
        raise InvalidInputError(
            f"there is no study in {out}: {out / 'journal.log'} is missing; give the folder of a run (--out DIR) "
            "or its database (--storage URL)"
        )
    return open_storage(url, out, wait)


@contextmanager
def _numbered(backend: BaseStorage, study: int, number: int) -> Iterator[None]:
    """Within, a trial is added to a database only if it gets this number.

    The answer to a commit may be lost, and so may the mutex: whoever adds the trial again, be it Optuna itself, is stopped here. It
    holds the row of the study until it commits, so that nobody comes between.
    """
    if not isinstance(backend, RDBStorage):
        yield
        return

    def check(session) -> None:
        if (
            session.scalar(select(func.count()).select_from(table("trials")).where(column("study_id") == study))
            != number + 1
        ):
            raise _TakenError

    event.listen(backend.scoped_session, "before_commit", check)
    try:
        with suppress(_TakenError):
            yield
    finally:
        event.remove(backend.scoped_session, "before_commit", check)


class _TakenError(Exception):
    """The number of a trial is another's."""


@contextmanager
def _finished_by_another_is_fine(trial: int) -> Iterator[None]:
    """A worker whose lock was lost may come late: the trial is finished then, with the same result."""
    try:
        yield
    except UpdateFinishedTrialError:
        _logger.info("the trial with the key %d was finished by another worker", trial)
