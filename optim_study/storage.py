"""Store studies and their trials with Optuna, in a journal file or a database. No other module
imports Optuna.

The driver is the only writer. A finished trial is first added as RUNNING, with its number in the
user attribute `trial`, and then marked as COMPLETE. If the answer of a database is lost, the trial
may be added twice; then one copy becomes COMPLETE and the other copy FAIL. If the database cannot
be reached, the driver waits and repeats the write.
"""

import functools
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from optim_study.folder import TrialRecord
from optim_study.protocol import StudyConfig, config_from_protocol, require_same_protocol
from optim_study.results import TrialRow, stored_row
from rhn.errors import DataError, InvalidInputError, OutputError
from rhn.utils.io import check_file, writing
from rhn.utils.old import duration, without_password

optuna.logging.set_verbosity(optuna.logging.ERROR)
_logger = logging.getLogger(__name__)
T = TypeVar("T")

JOURNAL = "journal.log"
POLL_SECONDS = 0.5
CONNECTION = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
}
_PROTOCOL, _TRIALS = "protocol", "trials"  # attributes of a study
_NUMBER, _REASON = "trial", "reason"  # attributes of a trial, beside its `TrialRow.results`
# values a trial: reading 720 trials with 1000 values each takes Optuna 20 s and 1.4 GB
_REPORTS = 50


def _patient(method: Callable[..., T]) -> Callable[..., T]:
    """Decorate an idempotent method of `Storage`: repeat it while the database cannot be reached,
    and turn its failures into OutputError.
    """

    @functools.wraps(method)
    def repeated(self: "Storage", *args) -> T:
        gone = None
        while True:
            try:
                return method(self, *args)
            except OSError as error:
                raise OutputError(
                    f"cannot write {error.filename or JOURNAL}: {error.strerror or error}"
                ) from error
            except (StorageInternalError, SQLAlchemyError) as error:
                gone = gone or self._begin_to_wait(error)
                if time.monotonic() - gone >= self._wait:
                    raise OutputError(_no_answer(error)) from error
            time.sleep(POLL_SECONDS)

    return repeated


def _no_answer(error: Exception) -> str:
    """Describe the failure of a database, with the message of the server."""
    cause = error.__cause__ or error
    words = " ".join(str(getattr(cause, "orig", None) or cause).split())
    return f"the storage does not answer ({words})"


class Storage:
    """An open storage. Every method raises OutputError if the storage fails, or if a database
    cannot be reached for `wait` seconds.
    """

    def __init__(self, connect: Callable[[], BaseStorage], wait: float = 0.0):
        self._wait = wait
        self._studies: dict = {}
        self._connect(connect)

    @_patient
    def _connect(self, connect: Callable[[], BaseStorage]) -> None:
        self._backend = connect()

    def _begin_to_wait(self, error: Exception) -> float:
        """Return the current time; log that the database cannot be reached, if there is time to
        wait.
        """
        if self._wait:
            _logger.warning("%s: waiting up to %s", _no_answer(error), duration(self._wait))
        return time.monotonic()

    @_patient
    def configs(self) -> list[StudyConfig]:
        """Return the configurations of all studies of optim-study, oldest first. Raises DataError
        for a study of another version.
        """
        attributes = [
            self._study(name).user_attrs for name in optuna.get_all_study_names(self._backend)
        ]
        return [
            config_from_protocol(a[_PROTOCOL], trials=a[_TRIALS])
            for a in attributes
            if _PROTOCOL in a and _TRIALS in a
        ]

    @_patient
    def make(self, config: StudyConfig) -> None:
        """Create the study, or extend it to `config.trials`.

        Raises InvalidInputError if the stored study has another protocol or more trials, and
        DataError if another program made it.
        """
        study = optuna.create_study(
            storage=self._backend, study_name=config.name, load_if_exists=True
        )
        attributes, trials = study.user_attrs, study.get_trials(deepcopy=False)
        if _PROTOCOL in attributes:
            # which may be damaged
            config_from_protocol(attributes[_PROTOCOL], trials=config.trials)
            require_same_protocol(config, attributes[_PROTOCOL])
        elif trials:
            raise DataError(
                f"study {config.name} in this storage was not made by optim-study: give "
                "another storage"
            )
        if attributes.get(_TRIALS, 0) > config.trials:
            raise InvalidInputError(
                f"study {config.name} has {attributes[_TRIALS]} trials already, more than "
                f"--trials {config.trials}: "
                "give that total or a larger one"
            )
        for name, value in {_PROTOCOL: config.protocol(), _TRIALS: config.trials}.items():
            if attributes.get(name) != value:
                study.set_user_attr(name, value)

    @_patient
    def rows(self, config: StudyConfig) -> dict[int, TrialRow]:
        """Return the complete trials of a study by number; none if the study does not exist. Raises
        DataError for a damaged trial.
        """
        trials = sorted(self._trials(config.name, TrialState.COMPLETE), key=_number)
        return {
            _number(t): stored_row(config, _number(t), {**t.params, **t.user_attrs}) for t in trials
        }

    @_patient
    def add(self, config: StudyConfig, record: TrialRecord) -> None:
        """Add a finished trial once: first as RUNNING, then marked as COMPLETE."""

        def copies(state: TrialState) -> list[int]:
            return [
                t.number for t in self._trials(config.name, state) if _number(t) == record.row.trial
            ]

        if copies(TrialState.COMPLETE):
            return
        study = self._study(config.name)
        if not copies(TrialState.RUNNING):
            study.add_trial(_trial(config, record.row.trial, record.row.results, record.curve))
        first, *others = copies(TrialState.RUNNING)
        study.tell(first, record.row.loss(config.objective))
        for other in others:
            study.tell(other, state=TrialState.FAIL)

    @_patient
    def give_up(self, config: StudyConfig, number: int, reason: str) -> None:
        """Add a trial that cannot be trained, with the reason."""
        self._study(config.name).add_trial(_trial(config, number, {_REASON: reason}))

    def _trials(self, name: str, state: TrialState) -> list[FrozenTrial]:
        try:
            return self._study(name).get_trials(deepcopy=False, states=(state,))
        except KeyError:  # there is no such study
            return []

    def _study(self, name: str) -> optuna.Study:
        if name not in self._studies:
            self._studies[name] = optuna.load_study(study_name=name, storage=self._backend)
        return self._studies[name]


def open_storage(url: str | None, out: Path, wait: float = 0.0) -> Storage:
    """Open an Optuna database, such as `postgresql://...`. Without `url`, open the journal file in
    the folder of the run, and create it if necessary.

    wait: seconds to wait each time that the database cannot be reached.

    Raises:
        InvalidInputError: the address is malformed, or the driver of the database is missing.
        OutputError: the folder cannot be written, or the server cannot be used.
        DataError: the journal is damaged.
    """
    if url is None:
        with writing(out / JOURNAL), (out / JOURNAL).open("a+b") as file:
            # a kill or a full disk may have torn the last line: nothing could be read after the
            # next one
            file.seek(0)
            file.truncate(sum(len(line) for line in file if line.endswith(b"\n")))
    return open_existing(url, out, wait)


def open_existing(url: str | None, out: Path, wait: float = 0.0) -> Storage:
    """Open the storage of an existing run to read it. Raises InvalidInputError if, without `url`,
    the folder `out` has no journal.
    """
    if url is not None:
        return Storage(lambda: _database(url), wait)
    if not (out / JOURNAL).is_file():
        raise InvalidInputError(
            f"there is no study in {out}: {out / JOURNAL} is missing; give the folder of a run "
            "(--out DIR) "
            "or its database (--storage URL)"
        )
    check_file(out / JOURNAL)
    return Storage(lambda: _journal(out / JOURNAL))


def report_epochs(epochs: int) -> list[int]:
    """Choose the epochs whose losses are stored: about 50, evenly spread, with the first and the
    last.

    >>> report_epochs(1000)[:3], report_epochs(1000)[-1], report_epochs(3)
    ([0, 20, 40], 1000, [0, 1, 2, 3])
    """
    return sorted({round(i * epochs / _REPORTS) for i in range(_REPORTS + 1)})


def _journal(path: Path) -> JournalStorage:
    # The driver has locked the whole folder. Optuna's own lock of a journal would outlive a kill by
    # half a minute.
    no_lock: Any = SimpleNamespace(acquire=lambda: True, release=lambda: None)
    try:
        return JournalStorage(JournalFileBackend(str(path), lock_obj=no_lock))
    except OSError:  # which `_patient` converts
        raise
    except Exception as error:  # Optuna and json raise many kinds
        raise DataError(
            f"{path} is damaged ({type(error).__name__}: {error}): restore it from a copy, or "
            "move it away to start again"
        ) from error


def _database(url: str) -> RDBStorage:
    try:
        address = make_url(url)
    except (SQLAlchemyError, ValueError):
        raise InvalidInputError(
            "the storage cannot be read: expected postgresql://user@host/database"
        ) from None
    # the server's answer would show it, with the end of the password
    if "@" in (address.host or ""):
        raise InvalidInputError(
            "the storage address holds two @: write an @ within the user or the password as %40"
        )
    options: dict[str, Any] = {"pool_pre_ping": True}
    if address.drivername in ("postgres", "postgresql", "postgresql+psycopg"):
        address, options["connect_args"] = address.set(drivername="postgresql+psycopg"), CONNECTION
    try:
        return RDBStorage(address.render_as_string(hide_password=False), engine_kwargs=options)
    except ImportError as error:
        raise InvalidInputError(
            f"the storage {without_password(url)} needs a driver ({error}); for PostgreSQL: "
            "pip install -e '.[postgres]' in a clone"
        ) from None


def _number(trial: FrozenTrial) -> int:
    return trial.user_attrs.get(_NUMBER, trial.number)


def _trial(
    config: StudyConfig, number: int, results: dict, curve: np.ndarray | None = None
) -> FrozenTrial:
    """Make a trial for Optuna: RUNNING if it has a curve, else FAIL."""
    losses = [] if curve is None else curve[:, 0 if config.objective == "train" else 1].tolist()
    parameters = config.parameters(number)
    ranges = {
        "learning_rate": FloatDistribution(*config.learning_rate, log=True),
        "init_std": FloatDistribution(*config.init_std, log=True),
        "transform_bias": CategoricalDistribution(config.transform_bias),
        "init_scheme": CategoricalDistribution(config.init_schemes),
    }
    return create_trial(
        state=TrialState.FAIL if curve is None else TrialState.RUNNING,
        params=parameters,
        distributions={name: ranges[name] for name in parameters},
        user_attrs={_NUMBER: number, **results},
        intermediate_values={
            epoch: losses[epoch]
            for epoch in report_epochs(config.epochs)
            if epoch < len(losses) and math.isfinite(losses[epoch])
        },
    )
