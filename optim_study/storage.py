"""The door to Optuna: studies and their trials, in a journal file of the output folder or in PostgreSQL. No other module imports it.

All trials of a study are added up front as WAITING with their parameters, so their numbers 0..N-1 are the index of the settings,
dashboards show "12 of 60", and a study ends when nothing is left to claim. A trial is RUNNING from its first claim to its end;
whether anybody works on it now is known from its lock (see `locks`). Optuna's `ask` and heartbeats are not used: `ask` adds trials
when none is left, and heartbeats do not work with ask/tell.
"""

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from optim_study.locks import FileLocks, JournalLock, Locks, make_folder
from optim_study.protocol import StudyConfig
from optim_study.trainer import Outcome
from rhn.errors import DataError, InvalidInputError, OutputError
from rhn.fields import fits
from rhn.files import writing

optuna.logging.set_verbosity(optuna.logging.WARNING)
_logger = logging.getLogger(__name__)
POSTGRES = ("postgres", "postgresql", "postgresql+psycopg")  # as users write it, and the last one as SQLAlchemy does
NO_RECORD = (ValueError, LookupError, TypeError, AttributeError, AssertionError, ArithmeticError, RecursionError)
"""What reading or applying a line of a journal raises that nobody of us wrote."""


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turns a database's failures into one sentence."""
    try:
        yield
    except (StorageInternalError, SQLAlchemyError) as error:
        cause = error.__cause__ or error
        reason = " ".join(str(getattr(cause, "orig", None) or cause).split())
        raise OutputError(
            f"the storage failed: {reason}; mend that and run the same command again, everything saved so far is kept"
        ) from error


@dataclass(frozen=True, kw_only=True)
class StoredTrial:
    """A trial as the storage has it."""

    number: int
    id: int
    """Its key in the storage."""
    state: str
    """WAITING, RUNNING or COMPLETE."""
    parameters: Mapping[str, float | str]
    results: Mapping[str, Any]
    """Fields of its `Outcome`, once it is complete."""
    value: float | None
    reported: Mapping[int, float]
    """Epoch -> loss."""


class Storage:
    """An open storage. Every method raises OutputError where the storage fails."""

    def __init__(self, backend: BaseStorage, locks: Callable[[str], Locks]):
        self._backend = backend
        self.locks = locks
        """Study name -> fresh locks on its trials, for one worker."""

    @clear_errors()
    def names(self) -> list[str]:
        """All studies, in the order of their making."""
        return [s.study_name for s in sorted(self._backend.get_all_studies(), key=lambda s: s._study_id)]

    @clear_errors()
    def attributes(self, study: str) -> dict[str, Any]:
        """What was stored with a study that is there."""
        return self._backend.get_study_user_attrs(self._key(study))

    @clear_errors()
    def create(self, study: str) -> None:
        """An empty study, where there is none of this name."""
        if self._key(study) is None:
            self._backend.create_new_study([StudyDirection.MINIMIZE], study)

    @clear_errors()
    def set_attribute(self, study: str, name: str, value: Any) -> None:
        self._backend.set_study_user_attr(self._key(study), name, value)

    @clear_errors()
    def trials(self, study: str, *states: str) -> list[StoredTrial]:
        """The trials of a study, or those in these states; none where there is no such study."""
        key = self._key(study)
        wanted = tuple(TrialState[state] for state in states) or None
        found = [] if key is None else self._backend.get_all_trials(key, deepcopy=False, states=wanted)
        return [_stored(trial, study) for trial in found]

    @clear_errors()
    def add_trial(self, config: StudyConfig, number: int) -> None:
        """One more WAITING trial, which gets this number."""
        ranges = {
            "learning_rate": FloatDistribution(*config.learning_rate, log=True),
            "init_std": FloatDistribution(*config.init_std, log=True),
            "transform_bias": CategoricalDistribution(config.transform_bias),
        }
        parameters = config.parameters(number)
        if "init_scheme" in parameters:
            ranges["init_scheme"] = CategoricalDistribution(config.init_schemes)
        trial = create_trial(state=TrialState.WAITING, params=parameters, distributions=ranges)
        self._backend.create_new_trial(self._key(config.name), template_trial=trial)

    @clear_errors()
    def begin(self, trial: StoredTrial) -> bool:
        """Whether a trial looked up as WAITING or RUNNING is still to be done; it is RUNNING then."""
        if trial.state == "WAITING":
            return self._backend.set_trial_state_values(trial.id, TrialState.RUNNING)
        return self.is_running(trial.id)

    @clear_errors()
    def is_running(self, trial: int) -> bool:
        return self._backend.get_trial(trial).state == TrialState.RUNNING

    @clear_errors()
    def report(self, trial: int, losses: Mapping[int, float]) -> None:
        """Losses by epoch."""
        with _finished_by_another_is_fine(trial):
            for epoch, loss in losses.items():
                self._backend.set_trial_intermediate_value(trial, epoch, loss)

    @clear_errors()
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


def open_storage(url: str | None, out: Path) -> Storage:
    """The journal `OUT/journal.log` where `url` is None, else the PostgreSQL database at `postgresql://...`.

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
        from optim_study.postgres_locks import KEEPALIVES, PostgresLocks, table_making
    except ImportError:
        raise InvalidInputError(
            "a PostgreSQL storage needs psycopg: install it with `pip install 'rhn-toolkit[postgres]'`"
        ) from None
    url = f"{POSTGRES[-1]}://{rest}"
    with table_making(url):  # several workers that make the tables at once would crash
        backend = RDBStorage(url, engine_kwargs={"pool_pre_ping": True, "connect_args": KEEPALIVES})
    return Storage(backend, lambda study: PostgresLocks(url, study))


def open_existing(url: str | None, out: Path) -> Storage:
    """The storage of a run that was started; raises InvalidInputError where OUT has no journal."""
    if url is None and not (out / "journal.log").is_file():
        raise InvalidInputError(
            f"there is no study in {out}: {out / 'journal.log'} is missing; give the folder of a run (--out DIR) "
            "or its database (--storage URL)"
        )
    return open_storage(url, out)


def open_journal(path: Path) -> JournalStorage:
    """The journal at `path`, made where it is missing.

    Raises OutputError where it cannot be made, DataError where a whole line is no record of a study.
    """
    make_folder(path.parent / "locks")
    with writing(path):
        return _JournalStorage(_Journal(path))


class _JournalStorage(JournalStorage):
    """Optuna's journal, of which a damaged line is told by its number, wherever and whenever it is read."""

    def _sync_with_backend(self) -> None:
        try:
            super()._sync_with_backend()
        except NO_RECORD as error:
            path, line = self._backend.path, self._backend.line
            raise DataError(
                f"{path} is damaged: line {line} is no record of a study ({type(error).__name__}: {error}); restore it from a copy, "
                "or move it away to start the study anew"
            ) from error


class _Journal(JournalFileBackend):
    """Optuna's journal file under a lock of ours, which cuts off a torn last line."""

    def __init__(self, path: Path):
        self.path, self.line, self._lock = path, 0, JournalLock(path)
        self._place = (0, 0)  # lines read, and where in the file they end
        super().__init__(str(path), lock_obj=self._lock)

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """The records of the whole lines from this one on, counted from 0; `line` is the one read last, counted from 1.

        A last line cut short is left to whoever appends next. Raises ValueError for a whole line that is no JSON object.
        """
        first, offset = self._place if self._place[0] <= log_number_from else (0, 0)
        with self.path.open("rb") as file:
            file.seek(offset)
            for number, line in enumerate(file, first):
                if not line.endswith(b"\n"):
                    return
                offset += len(line)
                self._place, self.line = (number + 1, offset), number + 1
                if number >= log_number_from:
                    if not isinstance(log := json.loads(line), dict):
                        raise ValueError("expected a JSON object")
                    yield log

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        try:
            super().append_logs(logs)
        except OSError as error:
            self._lock.acquire()  # cuts off what was written, for readers with the stock backend
            self._lock.release()
            raise OutputError(
                f"cannot write {self.path}: {error.strerror or error}; mend that and run the same command again, "
                "everything saved so far is kept"
            ) from error


@contextmanager
def _finished_by_another_is_fine(trial: int) -> Iterator[None]:
    """A worker whose lock was lost may come late: the trial is finished then, with the same result."""
    try:
        yield
    except UpdateFinishedTrialError:
        _logger.info("the trial with the key %d was finished by another worker", trial)
