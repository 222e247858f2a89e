"""Reference curves, worker processes, and the one check that every way of running a study must pass."""

import contextlib
import itertools
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import optuna
from numpy_backend import NumpyBackend, NumpyTrials
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from safetensors import safe_open

from optim_study.protocol import StudyConfig
from optim_study.storage import open_storage
from optim_study.study import StudyFolder, TrialRecord, open_study, report_epochs
from optim_study.worker import WorkOptions, work

NUMPY = NumpyBackend()
WORKER = Path(__file__).parent / "numpy_worker.py"


def wait_for(happened: Callable[[], bool], seconds: float = 120) -> None:
    """Returns as soon as it has happened."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.002)


def cut_connections(url: str, application: str = "%") -> None:
    """Ends all connections to this database, or those of `PostgresLocks` ("optim-study locks") alone."""
    import psycopg

    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name LIKE %s"
            " AND datname = current_database() AND pid <> pg_backend_pid()",
            (application,),
        )


@contextlib.contextmanager
def file_size_limit(size: int):
    """Within, no file of this process can grow beyond `size` bytes: a full disk (Python ignores the signal that comes first)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def config(**changes) -> StudyConfig:
    return StudyConfig(
        **({"arch": "rhn", "depth": 2, "data": "toy", "trials": 8, "epochs": 24, "patience": 14} | changes)
    )


def run_here(
    config: StudyConfig,
    out: Path,
    storage: str | None = None,
    backend=NUMPY,
    on_event=lambda event: None,
    **options,
):
    """A whole worker in this process."""
    study = open_study(config, out, open_storage(storage, out))
    try:
        work(study, backend, WorkOptions(**options), on_event)
    finally:
        study.close()


def reference(config: StudyConfig, number: int) -> TrialRecord:
    """A trial trained alone, without the engine, in one go."""
    fused = NumpyTrials(config, {number: config.settings(number)}, {})
    while fused.live():
        fused.run_epoch()
    return TrialRecord(NumpyBackend().outcome(config, fused, number), fused.curve(number))


def stock_storage(storage: str | None, out: Path) -> BaseStorage:
    """As the dashboard and the `optuna` command open it."""
    return RDBStorage(storage) if storage else JournalStorage(JournalFileBackend(str(out / "journal.log")))


def stock_study(config: StudyConfig, out: Path, storage: str | None = None) -> optuna.Study:
    """The study as Optuna alone sees it."""
    return optuna.load_study(study_name=config.name, storage=stock_storage(storage, out))


def assert_exact(config: StudyConfig, out: Path, storage: str | None = None) -> None:
    """Exactly the asked trials, all COMPLETE, with the right parameters, values, reports and curves; the best model
    kept; no rolling state left."""
    trials = stock_study(config, out, storage).get_trials()
    assert [trial.number for trial in trials] == list(range(config.trials))
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    folder = StudyFolder(out / config.name, config.fingerprint)
    expected = [reference(config, n) for n in range(config.trials)]
    for trial, record in zip(trials, expected, strict=True):
        assert trial.params == config.parameters(trial.number)
        assert trial.value == record.outcome.value(config.objective)
        assert trial.user_attrs == asdict(record.outcome)
        kept = folder.load_record(trial.number)
        assert kept.outcome == record.outcome
        finite = np.where(np.isfinite(record.curve), record.curve, np.nan)
        np.testing.assert_array_equal(kept.curve, finite)
        losses = finite[:, 0 if config.objective == "train" else 1]
        due = [e for e in report_epochs(config.epochs) if e < len(losses) and np.isfinite(losses[e])]
        assert trial.intermediate_values == {e: losses[e] for e in due}
    best = min((record.outcome.value(config.objective), n) for n, record in enumerate(expected))
    assert folder.best() == best
    with safe_open(out / config.name / "best.safetensors", framework="numpy") as file:
        assert np.square(file.get_tensor("weights")).sum() == np.float32(expected[best[1]].outcome.test_nll)
    left = sorted(path.name for path in (out / config.name).rglob("*.*") if path.name != "best.safetensors")
    assert [name for name in left if ".safetensors" in name] == []


@dataclass
class Job:
    """What a worker process is to do, and the processes that do it."""

    config: StudyConfig
    out: Path
    storage: str | None = None
    options: dict = field(default_factory=lambda: {"fuse": 3, "save_epochs": 4, "poll_seconds": 0.05})
    wait_storage: float = 0.0
    workers: list[subprocess.Popen] = field(default_factory=list)

    def start(self, *, stop_at: int | None = None, file_limit: int | None = None) -> subprocess.Popen:
        job = {
            "protocol": self.config.protocol(),
            "trials": self.config.trials,
            "out": str(self.out),
            "storage": self.storage,
            "wait_storage": self.wait_storage,
            "options": self.options,
            "progress": str(self.progress),
            "stop_at": stop_at,
            "file_limit": file_limit,
        }
        self.out.mkdir(exist_ok=True)
        self.progress.touch()
        worker = subprocess.Popen([sys.executable, WORKER, json.dumps(job)], stderr=subprocess.PIPE, text=True)
        self.workers.append(worker)
        return worker

    @property
    def progress(self) -> Path:
        return self.out / "progress"

    def lines(self) -> list[list[str]]:
        """The whole lines of the progress file: process, event, epoch, trials."""
        return [line.split(" ") for line in self.progress.read_text().rpartition("\n")[0].splitlines()]

    def wait_for_lines(self, count: int) -> None:
        """Waits for more progress, or until nobody is left to make any."""
        wait_for(lambda: len(self.lines()) >= count or all(worker.poll() is not None for worker in self.workers))

    def finish(self) -> None:
        """Waits until all workers have ended, without an error."""
        for worker in self.workers:
            _, errors = worker.communicate(timeout=120)
            assert worker.returncode in (0, -9), errors

    def kill_all(self) -> None:
        for worker in self.workers:
            with contextlib.suppress(ProcessLookupError):
                worker.kill()
            worker.communicate()

    def assert_one_worker_a_trial(self) -> None:
        """No trial was trained by a worker after another had taken it over."""
        told = [
            (trial, process)
            for process, event, _, trials in self.lines()
            if event == "epoch"
            for trial in trials.split(",")
        ]
        for trial in {trial for trial, _ in told if trial}:
            holders = [process for process, _ in itertools.groupby(p for t, p in told if t == trial)]
            assert len(set(holders)) == len(holders), f"trial {trial} was trained by {holders} in turns"
