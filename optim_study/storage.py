"""Store studies and their trials with Optuna, in a journal file of the output folder or in PostgreSQL. Only this module imports Optuna.

All trials of a study are added up front as WAITING with their parameters, so their numbers 0..N-1 are the index of the settings,
dashboards show "12 of 60", and a study ends when nothing is left to claim. A trial is RUNNING from its first claim to its end; its lock
shows whether a worker has it now (see `locks`). Optuna's `ask` and heartbeats are not used: `ask` adds trials when none is left, and
heartbeats do not work with ask/tell.

The journal is a file with one record a line. A damaged line raises DataError with its number.
"""

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, get_type_hints

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.exceptions import DuplicatedStudyError, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import column, event, func, select, table
from sqlalchemy.exc import SQLAlchemyError

from optim_study.backend import Outcome
from optim_study.locks import FileLocks, JournalLock, Locks, alone, make_folder
from optim_study.protocol import StudyConfig
from optim_study.retry import Patience, reason
from rhn.errors import DataError, InvalidInputError, OutputError
from rhn.utils.io import writing
from rhn.utils.validation import fits

NO_RECORD = (ValueError, LookupError, TypeError, AttributeError, AssertionError, ArithmeticError, RecursionError)
"""Exceptions of Optuna and json at a line of a journal that is no record of ours."""


def open_journal(path: Path) -> JournalStorage:
    """Open the journal at `path`, or create it. Raises OutputError if it cannot be written, DataError for a damaged whole line."""
    make_folder(path.parent / "locks")
    with writing(path):
        return _JournalStorage(_Journal(path))


class _JournalStorage(JournalStorage):
    """Optuna's journal, with the number of a damaged line in its errors."""

    def _sync_with_backend(self) -> None:
        try:
            super()._sync_with_backend()
        except NO_RECORD as error:
            path, line = self._backend.path, self._backend.line
            raise DataError(
                f"{path} is damaged: line {line} is no record of a study ({type(error).__name__}: {error}); restore it from a copy, "
                "or move it away to start the study again"
            ) from error


class _Journal(JournalFileBackend):
    """Optuna's journal file under our own lock, which cuts off a torn last line."""

    def __init__(self, path: Path):
        self.path, self.line, self._lock = path, 0, JournalLock(path)
        self._place = (0, 0)  # number of lines read, and their end in the file
        super().__init__(str(path), lock_obj=self._lock)

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Yield the records of the whole lines from this one on, counted from 0; `line` is the last one read, counted from 1.

        The next writer cuts off an incomplete last line. Raises ValueError for a whole line that is no JSON object.
        """
        first, offset = self._place if self._place[0] <= log_number_from else (0, 0)
        with self._opened() as file:
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

    def _opened(self) -> BinaryIO:
        try:
            return self.path.open("rb")
        except OSError as error:
            raise DataError(f"{self.path} cannot be read: {error.strerror or error}") from error

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        try:
            super().append_logs(logs)
        except OSError as error:
            self._lock.acquire()  # cuts off the torn line, for readers with the stock backend
            self._lock.release()
            raise OutputError(
                f"cannot write {self.path}: {error.strerror or error}; mend that and run the same command again, "
                "everything saved so far is kept"
            ) from error


optuna.logging.set_verbosity(optuna.logging.ERROR)
_logger = logging.getLogger(__name__)
POSTGRES = ("postgres", "postgresql", "postgresql+psycopg")  # as users write it, and the last one as SQLAlchemy does
FAILURES = (StorageInternalError, SQLAlchemyError)
"""Exceptions of a database."""
T = TypeVar("T")


@contextmanager
def clear_errors() -> Iterator[None]:
    """Convert the failures of a database to OutputError."""
    try:
        yield
    except FAILURES as error:
        raise OutputError(
            f"the storage failed: {reason(error)}; mend that and run the same command again, everything saved so far is kept"
        ) from error


def _retried(method: Callable[..., T]) -> Callable[..., T]:
    """Retry a method of `Storage` when a database comes back; every method is idempotent."""

    @wraps(method)
    def patient(self: "Storage", *arguments, **options) -> T:
        with clear_errors():
            return self._patience.call(lambda: method(self, *arguments, **options), *FAILURES)

    return patient


@dataclass(frozen=True, kw_only=True)
class StoredTrial:
    """A trial in the storage."""

    number: int
    id: int
    """Its key in the storage."""
    state: str
    """WAITING, RUNNING or COMPLETE; FAIL or PRUNED if another program has ended it."""
    parameters: Mapping[str, float | str]
    results: Mapping[str, Any]
    """Fields of its `Outcome`, if it is complete."""
    value: float | None
    reported: Mapping[int, float]
    """Epoch -> loss."""


class Storage:
    """An open storage. Every method raises OutputError if the storage fails."""

    def __init__(self, backend: BaseStorage, locks: Callable[[str], Locks], patience: Patience | None = None):
        self._backend, self._patience = backend, patience or Patience()
        self.locks = locks
        """From the name of a study to new locks on its trials, for one worker."""

    @_retried
    def names(self) -> list[str]:
        """All studies, oldest first."""
        return [s.study_name for s in sorted(self._backend.get_all_studies(), key=lambda s: s._study_id)]

    @_retried
    def attributes(self, study: str) -> dict[str, Any]:
        """The attributes of an existing study."""
        return self._backend.get_study_user_attrs(self._key(study))

    @_retried
    def create(self, study: str) -> None:
        """Create an empty study, unless there is one of this name."""
        if self._key(study) is None:
            with suppress(DuplicatedStudyError):  # another worker came first
                self._backend.create_new_study([StudyDirection.MINIMIZE], study)

    @_retried
    def set_attribute(self, study: str, name: str, value: Any) -> None:
        self._backend.set_study_user_attr(self._key(study), name, value)

    @_retried
    def trials(self, study: str, *states: str) -> list[StoredTrial]:
        """The trials of a study, or those in these states; empty without such a study."""
        key = self._key(study)
        wanted = tuple(TrialState[state] for state in states) or None
        found = [] if key is None else self._backend.get_all_trials(key, deepcopy=False, states=wanted)
        return [_stored(trial, study) for trial in found]

    @_retried
    def add_trial(self, config: StudyConfig, number: int) -> None:
        """Add a WAITING trial with this number, unless the number is taken."""
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

    @_retried
    def begin(self, trial: StoredTrial) -> bool:
        """Set a locked trial to RUNNING; False if another worker has finished it since it was listed."""
        if trial.state == "WAITING":
            with _finished_by_another_is_fine(trial.id):
                self._backend.set_trial_state_values(trial.id, TrialState.RUNNING)
        return self.is_running(trial.id)

    @_retried
    def is_running(self, trial: int) -> bool:
        return self._backend.get_trial(trial).state == TrialState.RUNNING

    @_retried
    def report(self, trial: int, losses: Mapping[int, float]) -> None:
        """Store losses by epoch."""
        with _finished_by_another_is_fine(trial):
            for epoch, loss in losses.items():
                self._backend.set_trial_intermediate_value(trial, epoch, loss)

    @_retried
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
    """Convert a trial of Optuna. Raises DataError for values that no study writes."""
    value = trial.values[0] if trial.values else None
    expected = dict.fromkeys(trial.params, float) | {"init_scheme": str} | get_type_hints(Outcome)
    values = {"value": value} | trial.params | trial.user_attrs
    wrong = [name for name, found in values.items() if not fits(found, expected.get(name, float | None))]
    if wrong or (trial.state == TrialState.COMPLETE and value is None):
        name = wrong[0] if wrong else "value"
        raise DataError(
            f"trial {trial.number} of study {study} is damaged: its {name} is {values[name]!r:.60}; restore the journal or database "
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
    """Open the PostgreSQL database at `postgresql://...`, or without `url` the journal `OUT/journal.log`.

    wait: seconds to wait for a database that does not answer, each time.

    Raises:
        InvalidInputError: another kind of storage, a malformed address, or psycopg is missing.
        OutputError: the folder cannot be written, or the server cannot be used.
        DataError: the journal is damaged.
    """
    if url is None:
        return Storage(open_journal(out / "journal.log"), lambda study: FileLocks(out / "locks" / study))
    kind, _, rest = url.partition("://")
    if kind not in POSTGRES:
        shown = re.match(r"[\w+]*", kind)[0]  # the rest may hold a password
        raise InvalidInputError(
            f"a storage of the kind {shown!r} is not supported: leave it out for the journal file "
            f"OUT/journal.log, or give a PostgreSQL database as postgresql://user:password@host:port/database"
        )
    try:
        from optim_study.postgres import KEEPALIVES, PostgresLocks, patience_with
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
    """Open the storage of an existing run. Raises InvalidInputError if OUT has no journal."""
    if url is None and not (out / "journal.log").is_file():
        raise InvalidInputError(
            f"there is no study in {out}: {out / 'journal.log'} is missing; give the folder of a run (--out DIR) "
            "or its database (--storage URL)"
        )
    return open_storage(url, out, wait)


@contextmanager
def _numbered(backend: BaseStorage, study: int, number: int) -> Iterator[None]:
    """Inside, add a trial to a database only if it gets this number.

    The answer to a commit may be lost, and so may the mutex: this check stops a second attempt, even by Optuna itself. The transaction
    holds the row of the study until it commits, so that no other worker comes between.
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
    """The number of a trial is taken."""


@contextmanager
def _finished_by_another_is_fine(trial: int) -> Iterator[None]:
    """Ignore a finished trial: another worker took it over after our lock was lost, with the same result."""
    try:
        yield
    except UpdateFinishedTrialError:
        _logger.info("another worker has finished the trial with the key %d", trial)
