"""Mirror studies and their trials with Optuna, in a journal file or a database, for other programs.
The records in the folder are the results; here a run reads only protocols. No other module imports
Optuna.

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
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from optim_study.folder import TrialRecord
from optim_study.protocol import (
    LATER_FIELDS,
    StudyConfig,
    config_from_protocol,
    require_same_protocol,
)
from rhn.errors import DataError, InvalidInputError, OutputError, first_line
from rhn.utils.io import check_file, writing

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
EXPECTED = "expected postgresql://user@host/database"
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
        end = None
        while True:
            try:
                return method(self, *args)
            except OSError as error:
                raise OutputError(f"cannot write {JOURNAL}: {first_line(error)}") from error
            except (StorageInternalError, SQLAlchemyError) as error:
                cause = error.__cause__ or error
                answer = " ".join(str(getattr(cause, "orig", None) or cause).split())
                if end is None:
                    end = time.monotonic() + self._wait
                    _logger.warning("the storage does not answer (%s)", answer)
                if time.monotonic() >= end:
                    raise OutputError(f"the storage does not answer ({answer})") from error
            time.sleep(POLL_SECONDS)

    return repeated


class Storage:
    """An open storage. Every method raises OutputError if the storage fails, or if a database
    cannot be reached for `wait` seconds.
    """

    def __init__(self, connect: Callable[[], BaseStorage], wait: float = 0.0):
        self._wait = wait
        self._studies: dict[str, optuna.Study] = {}
        self._connect(connect)

    @_patient
    def _connect(self, connect: Callable[[], BaseStorage]) -> None:
        self._backend = connect()

    @_patient
    def configs(self) -> list[StudyConfig]:
        """Return the configurations of all studies of optim-study, oldest first. Raises DataError
        for a study of another version.
        """
        names = optuna.get_all_study_names(self._backend)
        attributes = [self._study(name).user_attrs for name in names]
        return [
            config_from_protocol(a[_PROTOCOL], trials=a[_TRIALS])
            for a in attributes
            if _PROTOCOL in a and _TRIALS in a
        ]

    @_patient
    def check(self, config: StudyConfig) -> None:
        """Raise InvalidInputError if the storage has this study with another protocol or more
        trials, and DataError if another program made it.
        """
        if config.name not in optuna.get_all_study_names(self._backend):
            return
        attributes = self._study(config.name).user_attrs
        if _PROTOCOL not in attributes and self._study(config.name).trials:
            raise DataError(f"study {config.name} in this storage was not made by optim-study")
        stored, least = attributes.get(_PROTOCOL, config.protocol()), attributes.get(_TRIALS, 0)
        config_from_protocol(stored, trials=config.trials)  # it may be damaged
        require_same_protocol(config, stored)
        if least > config.trials:
            raise InvalidInputError(
                f"trials is {config.trials}: expected {least} or more for {config.name}"
            )

    @_patient
    def make(self, config: StudyConfig) -> None:
        """Create the study, or extend it to `config.trials`, after `check`."""
        study = optuna.create_study(
            storage=self._backend, study_name=config.name, load_if_exists=True
        )
        attributes = study.user_attrs
        for name, value in {_PROTOCOL: config.protocol(), _TRIALS: config.trials}.items():
            if attributes.get(name) != value:
                study.set_user_attr(name, value)

    @_patient
    def add(self, config: StudyConfig, record: TrialRecord) -> None:
        """Add a finished trial once: first as RUNNING, then marked as COMPLETE."""
        study, number = self._study(config.name), record.row.trial

        def copies(state: TrialState) -> list[int]:
            trials = study.get_trials(deepcopy=False, states=(state,))
            return [t.number for t in trials if t.user_attrs.get(_NUMBER, t.number) == number]

        if copies(TrialState.COMPLETE):
            return
        if not copies(TrialState.RUNNING):
            study.add_trial(_trial(config, record))
        first, *others = copies(TrialState.RUNNING)
        study.tell(first, record.row.loss(config.objective))
        for other in others:
            study.tell(other, state=TrialState.FAIL)

    @_patient
    def give_up(self, config: StudyConfig, number: int, reason: str) -> None:
        """Add a trial that cannot be trained, with the reason."""
        attributes = {_NUMBER: number, _REASON: reason}
        failed = create_trial(state=TrialState.FAIL, user_attrs=attributes)
        self._study(config.name).add_trial(failed)

    def _study(self, name: str) -> optuna.Study:
        if name not in self._studies:
            self._studies[name] = optuna.load_study(study_name=name, storage=self._backend)
        return self._studies[name]


def open_storage(url: str | None, out: Path, wait: float = 0.0) -> Storage:
    """Open an Optuna database, such as `postgresql://...`. Without `url`, open the journal file in
    the folder of the run, and create it if necessary.

    wait: seconds to wait each time that the database cannot be reached. Raises InvalidInputError
    for a malformed address, OutputError, and DataError for a damaged journal.
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
        raise InvalidInputError(f"out is {out}: expected the folder of a run, with {JOURNAL}")
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
        raise DataError(f"{path} is damaged: {first_line(error)}") from error


def _database(url: str) -> RDBStorage:
    try:
        address = make_url(url)
    except (SQLAlchemyError, ValueError):
        raise InvalidInputError(f"storage is no address: {EXPECTED}") from None
    # the server's answer would show it, with the end of the password
    if "@" in (address.host or ""):
        raise InvalidInputError(f"storage has two @: {EXPECTED}, with %40 for @ in a password")
    options: dict[str, Any] = {"pool_pre_ping": True}
    if address.drivername in ("postgres", "postgresql", "postgresql+psycopg"):
        address, options["connect_args"] = address.set(drivername="postgresql+psycopg"), CONNECTION
    try:
        return RDBStorage(address.render_as_string(hide_password=False), engine_kwargs=options)
    except ImportError as error:
        raise InvalidInputError(f"storage is {address!r}: {first_line(error)}") from None


def _trial(config: StudyConfig, record: TrialRecord) -> FrozenTrial:
    """Make a RUNNING trial for Optuna, with the losses of some epochs."""
    losses = record.curve[:, 0 if config.objective == "train" else 1].tolist()
    ranges = {
        "learning_rate": FloatDistribution(*config.learning_rate, log=True),  # type: ignore[misc]
        "init_std": FloatDistribution(*config.init_std, log=True),
        "transform_bias": CategoricalDistribution(config.transform_bias),
    }
    if config.init_schemes != LATER_FIELDS["init_schemes"]:
        ranges["init_scheme"] = CategoricalDistribution(config.init_schemes)
    settings, epochs = asdict(config.settings(record.row.trial)), report_epochs(config.epochs)
    return create_trial(
        state=TrialState.RUNNING,
        params={name: settings[name] for name in ranges},
        distributions=ranges,
        user_attrs={_NUMBER: record.row.trial, **record.row.results},
        intermediate_values={
            epoch: losses[epoch]
            for epoch in epochs
            if epoch < len(losses) and math.isfinite(losses[epoch])
        },
    )
