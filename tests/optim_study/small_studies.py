"""Reference curves, whole runs, and the one check that every way of running a study must pass."""

import contextlib
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import optuna
from numpy_backend import NumpyBackend, NumpyTrials
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from safetensors import safe_open

from optim_study.config import StudyConfig
from optim_study.driver import Driver, Study
from optim_study.engines import Job, ThisProcess
from optim_study.folder import StudyFolder
from optim_study.results import TrialRow
from optim_study.storage import open_storage
from rhn.training.state import locked

LOST_SPAWN = re.compile(
    r"Traceback \(most recent call last\):\n(  .*\n)*?  .*multiprocessing/spawn.py.*\n(  .*\n)*"
    r"(EOFError: Ran out of input|_pickle.UnpicklingError: pickle data was truncated)\n"
)
NUMPY = NumpyBackend()
RUN = Path(__file__).parent / "numpy_run.py"


def wait_for(happened: Callable[[], bool], seconds: float = 120) -> None:
    """Returns as soon as it has happened."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.002)


def cut_connections(url: str) -> None:
    """Ends all connections to this database."""
    import psycopg

    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def config(**changes) -> StudyConfig:
    usual = {"arch": "rhn", "depth": 2, "data": "toy", "trials": 8, "epochs": 24, "patience": 14}
    return StudyConfig(**(usual | changes))


def drive(
    config: StudyConfig,
    out: Path,
    storage: str | None = None,
    *,
    backend=NUMPY,
    engine=None,
    fuse: int = 3,
    save_seconds: float = 0.0,
    wait: float = 0.0,
) -> Study:
    """A whole run of one study, by default in this process."""
    engine = engine or ThisProcess("cpu")
    with locked(out):
        opened = open_storage(storage, out, wait)
        opened.check(config)
        opened.make(config)
        study = Study(config, StudyFolder(out, config), fuse)

        def job(study, numbers, place):
            return Job(study.folder, tuple(numbers), backend, save_seconds)

        Driver([study], opened, engine, job).run()
    return study


class TrialRecord(NamedTuple):
    """A finished trial and its losses of each epoch."""

    row: TrialRow
    curve: np.ndarray


def reference(config: StudyConfig, number: int) -> TrialRecord:
    """A trial trained alone, without the engine, in one go."""
    fused = NumpyTrials(config, {number: config.settings(number)}, {})
    while fused.live():
        fused.run_epoch()
    return TrialRecord(NumpyBackend().row(config, fused, number), fused.curve(number))


def stock_storage(storage: str | None, out: Path) -> BaseStorage:
    """As the dashboard and the `optuna` command open it."""
    return (
        RDBStorage(storage)
        if storage
        else JournalStorage(JournalFileBackend(str(out / "journal.log")))
    )


def stock_study(config: StudyConfig, out: Path, storage: str | None = None) -> optuna.Study:
    """The study as Optuna alone sees it."""
    return optuna.load_study(study_name=config.name, storage=stock_storage(storage, out))


def assert_exact(config: StudyConfig, out: Path, storage: str | None = None) -> None:
    """Every trial COMPLETE exactly once, with the right parameters, values, reports and curves; the
    best model kept; nothing left.
    """
    trials = stock_study(config, out, storage).get_trials()
    complete = sorted(
        (t for t in trials if t.state == TrialState.COMPLETE), key=lambda t: t.user_attrs["trial"]
    )
    assert [trial.user_attrs["trial"] for trial in complete] == list(range(config.trials))
    assert {trial.state for trial in trials} <= {TrialState.COMPLETE, TrialState.FAIL}
    folder = StudyFolder(out, config)
    expected = [reference(config, n) for n in range(config.trials)]
    for number, (trial, record) in enumerate(zip(complete, expected, strict=True)):
        settings = asdict(config.settings(number))
        assert trial.params == {name: settings[name] for name in trial.distributions}
        assert trial.value == record.row.loss(config.objective)
        assert trial.user_attrs == record.row.results | {"trial": number}
        assert folder.load_record(number) == record.row
        kept = json.loads(folder.file(number, ".json").read_text())["curve"]
        finite = np.where(np.isfinite(record.curve), record.curve, np.nan)
        np.testing.assert_array_equal(np.array(kept, float), finite)
    rows = (record.row for record in expected)
    best = min(rows, key=lambda row: (row.loss(config.objective), row.trial))
    with safe_open(folder.path / "best.safetensors", framework="numpy") as file:
        assert json.loads(file.metadata()["rhn"])["metadata"]["trial"] == best.trial
        assert np.square(file.get_tensor("weights")).sum() == np.float32(best.test_nll)
    assert [path.name for path in folder.path.rglob("*.safetensors")] == ["best.safetensors"]


def started(
    config: StudyConfig, out: Path, storage: str | None = None, **options
) -> subprocess.Popen:
    """A process with a whole run, see `numpy_run`."""
    job = {
        "protocol": config.protocol(),
        "trials": config.trials,
        "out": str(out),
        "storage": storage,
    } | options
    words = [sys.executable, RUN, json.dumps(job)]
    return subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True)


def finished(process: subprocess.Popen, code: int = 0) -> str:
    """What a process printed to stderr until its end."""
    _, errors = process.communicate(timeout=300)
    assert process.returncode == code, errors
    if code == -signal.SIGKILL:  # a worker that it was spawning got no job: Python's own traceback
        errors = LOST_SPAWN.sub("", errors)
    assert "Traceback" not in errors, errors
    # frames of this folder
    return "\n".join(line for line in errors.splitlines() if not line.startswith("  File"))


def workers_of(process: subprocess.Popen) -> list[int]:
    """The spawned workers of a process."""
    with contextlib.suppress(OSError):
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        return [
            int(pid)
            for pid in children
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
    return []
