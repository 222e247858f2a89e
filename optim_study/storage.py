"""Mirror studies and their trials with Optuna, in a journal file or a database, for other programs.
The records in the folder are the results; from here a run reads only protocols. No other module
imports Optuna.

The driver is the only writer. A finished trial is first added as RUNNING, with its number in the
user attribute `trial`, and then marked as COMPLETE. If the answer of a database is lost, the trial
may be added twice; then one copy becomes COMPLETE and the other copy FAIL.
"""

import functools
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from json import JSONDecodeError
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from optim_study.config import StudyConfig, config_from_protocol, require_same_protocol
from optim_study.folder import JOURNAL, Record
from rhn.errors import DataError, InvalidInputError, OutputError, first_line
from rhn.utils.io import check_file, writing

optuna.logging.set_verbosity(optuna.logging.ERROR)
_logger = logging.getLogger(__name__)
T = TypeVar("T")

FIRST = b'{"op_code":'  # of each line of a journal
POLL_SECONDS = 0.5
ALIVE = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
}
EXPECTED = "expected postgresql://user@host/database"
_PROTOCOL, _TRIALS = "protocol", "trials"  # attributes of a study
_NUMBER = "trial"  # attribute of a trial, beside its `TrialRow.results`
POINTS = 100  # of a curve, at most


def _patient(method: Callable[..., T]) -> Callable[..., T]:
    """Decorate an idempotent method: repeat it while the database cannot be reached."""

    @functools.wraps(method)
    def repeated(self: "Storage", *args) -> T:
        return _answer(functools.partial(method, self, *args), self._wait)

    return repeated


def _answer(call: Callable[[], T], wait: float) -> T:
    """Return the result of an idempotent call of a storage; raise its errors as ours."""
    end, shown = time.monotonic() + wait, ""
    while True:
        try:
            return call()
        except OSError as error:
            raise OutputError(f"cannot write {JOURNAL}: {first_line(error)}") from error
        except JSONDecodeError as error:
            raise DataError(f"{JOURNAL} is damaged: {first_line(error)}") from error
        except (StorageInternalError, SQLAlchemyError) as error:
            cause = getattr(error.__cause__ or error, "orig", error.__cause__ or error)
            answer = f"the storage does not answer ({' '.join(str(cause).split())})"
            if time.monotonic() >= end:
                raise OutputError(answer) from error
            if not shown:
                _logger.warning(shown := answer)
        time.sleep(POLL_SECONDS)


class Storage:
    """An open storage. Methods raise OutputError if it fails, or is away for `wait` seconds."""

    def __init__(self, connect: Callable[[], BaseStorage], place: str, option: str, wait: float):
        """place: the storage in a message; option: that of the command which names it."""
        self._wait, self._backend = wait, _answer(connect, wait)
        self._place, self._option = place, option

    @_patient
    def configs(self) -> list[StudyConfig]:
        """Return the configurations of all studies of optim-study, oldest first."""
        names = optuna.get_all_study_names(self._backend)
        studies = [optuna.load_study(study_name=name, storage=self._backend) for name in names]
        attributes = [study.user_attrs for study in studies]
        known = [a for a in attributes if _PROTOCOL in a and _TRIALS in a]
        return [config_from_protocol(a[_PROTOCOL], trials=a[_TRIALS]) for a in known]

    def _check(self, config: StudyConfig) -> None:
        """Refuse a study that has another protocol or more trials here, or is another program's."""
        name = config.name
        study = optuna.load_study(study_name=name, storage=self._backend)
        attributes = study.user_attrs
        if _PROTOCOL not in attributes and study.trials:
            raise DataError(f"study {name} in this storage was not made by optim-study")
        stored, least = attributes.get(_PROTOCOL, config.protocol()), attributes.get(_TRIALS, 0)
        config_from_protocol(stored, trials=config.trials)  # it may be damaged
        require_same_protocol(config, stored, self._place, self._option)
        if least > (trials := config.trials):
            raise InvalidInputError(f"trials of {name} is {trials}: expected {least} or more")

    @_patient
    def make(self, configs: Sequence[StudyConfig]) -> None:
        """Create studies, or extend them to their `trials`; first refuse all that cannot be."""
        known = optuna.get_all_study_names(self._backend)
        for config in configs:
            if config.name in known:
                self._check(config)
        how: dict = {"storage": self._backend, "load_if_exists": True}
        for config in configs:
            study = optuna.create_study(study_name=config.name, **how)
            for name, value in {_PROTOCOL: config.protocol(), _TRIALS: config.trials}.items():
                if study.user_attrs.get(name) != value:
                    study.set_user_attr(name, value)

    @_patient
    def add(self, config: StudyConfig, record: Record) -> None:
        """Add a finished trial once: first as RUNNING, then marked as COMPLETE."""
        row = record.row
        ranges = {
            "learning_rate": FloatDistribution(*config.learning_rate, log=True),  # type: ignore[misc]
            "init_std": FloatDistribution(*config.init_std, log=True),
            "transform_bias": CategoricalDistribution(config.transform_bias),
        }
        if "init_schemes" in config.protocol():
            ranges["init_scheme"] = CategoricalDistribution(config.init_schemes)
        settings = asdict(config.settings(row.trial))
        trial = create_trial(
            state=TrialState.RUNNING,
            params={name: settings[name] for name in ranges},
            distributions=ranges,
            user_attrs={_NUMBER: row.trial, **row.results},
            intermediate_values=points_of(record.curve, config),
        )
        study = optuna.load_study(study_name=config.name, storage=self._backend)
        states, copies = (TrialState.COMPLETE, TrialState.RUNNING), list[FrozenTrial]()
        while not copies:
            known = study.get_trials(deepcopy=False, states=states)
            copies = [t for t in known if t.user_attrs.get(_NUMBER, t.number) == row.trial]
            if not copies:
                study.add_trial(trial)
        if any(t.state == TrialState.COMPLETE for t in copies):
            return
        first, *others = (t.number for t in copies)
        study.tell(first, row.loss(config.objective))
        for other in others:
            study.tell(other, state=TrialState.FAIL)


def points_of(curve: np.ndarray, config: StudyConfig) -> dict[int, float]:
    """Return the finite losses of a curve, by the study's objective, at up to `POINTS` epochs. They
    are the same epochs for all trials of the study.
    """
    column = 0 if config.objective == "train" else 1
    step = math.ceil((config.epochs + 1) / POINTS)
    losses = curve[::step, column].tolist()
    return {k * step: loss for k, loss in enumerate(losses) if math.isfinite(loss)}


def open_storage(url: str | None, out: Path, wait: float = 0.0, *, create: bool = True) -> Storage:
    """Open an Optuna database, such as `postgresql://...`, which may be out of reach for `wait`
    seconds; without `url`, the journal file in the folder of the run. Raises InvalidInputError for
    a malformed address or a missing journal, OutputError, and DataError for a damaged journal.
    """
    if url is not None:
        return Storage(lambda: _database(url), "the database", "--storage", wait)
    path = out / JOURNAL
    if not create and not path.is_file():
        raise InvalidInputError(f"run is {out}: expected its folder, with {JOURNAL}")
    _check_journal(path)
    if create:
        with writing(path), path.open("a+b") as file:
            # a kill or a full disk may have torn the last line: nothing after it could be read
            file.seek(0)
            file.truncate(sum(len(line) for line in file if line.endswith(b"\n")))
    return Storage(lambda: _journal(path), str(path), "--out", 0.0)


def _check_journal(path: Path) -> None:
    """Raise DataError if a file, which may be missing, begins with anything but a line of Optuna's
    journal, of which a kill may have left a part.
    """
    if path.exists():
        check_file(path)
        with writing(path), path.open("rb") as file:
            start = file.read(len(FIRST))
        if not FIRST.startswith(start):
            raise DataError(f"{path} is of another format: expected a journal of Optuna")


class _NoLock(JournalFileOpenLock):
    """No lock: the driver has locked the folder, and Optuna's would outlive a kill by half a
    minute.
    """

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


def _journal(path: Path) -> JournalStorage:
    try:
        return JournalStorage(JournalFileBackend(str(path), lock_obj=_NoLock(str(path))))
    except OSError:  # which `_answer` converts
        raise
    except Exception as error:  # Optuna and json raise many kinds
        raise DataError(f"{path} is damaged: {first_line(error)}") from error


def address_of(url: str) -> URL:
    """Return the address of a database. Raises InvalidInputError.

    >>> address_of("postgresql://me@there/trials").host
    'there'
    """
    try:
        address = make_url(url)
    except (SQLAlchemyError, ValueError):
        raise InvalidInputError(f"storage is no address: {EXPECTED}") from None
    # the server's answer would show it, with the end of the password
    if "@" in (address.host or ""):
        raise InvalidInputError(f"storage has two @: {EXPECTED}, with %40 for @ in a password")
    return address


def _database(url: str) -> RDBStorage:
    address = address_of(url)
    options: dict[str, Any] = {"pool_pre_ping": True}
    if address.drivername in ("postgres", "postgresql", "postgresql+psycopg"):
        address, options["connect_args"] = address.set(drivername="postgresql+psycopg"), ALIVE
    try:
        return RDBStorage(address.render_as_string(hide_password=False), engine_kwargs=options)
    except ImportError as error:
        raise InvalidInputError(f"storage is {address!r}: {first_line(error)}") from None
