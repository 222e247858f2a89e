"""Reference curves, whole runs, and the one check that every way of running a study must pass."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, nullcontext, suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np
import optuna
from numpy_backend import NumpyBackend, NumpyTrials
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from safetensors import safe_open

from optim_study.config import RunConfig, StudyConfig, config_from_protocol
from optim_study.driver import Driver, Study
from optim_study.engines import Processes, ThisProcess
from optim_study.folder import Record, StudyFolder
from optim_study.ray_engine import ray_tasks
from optim_study.storage import open_storage
from rhn.cli.entry import run_command
from rhn.training.state import locked

NUMPY = NumpyBackend()
MELODIES = Path(__file__).resolve().parents[1] / "numbers/melodies.json"


def wait_for(happened: Callable[[], bool], seconds: float = 120) -> None:
    """Returns as soon as it has happened."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.002)


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
    fuse=3,
    save_seconds=0.0,
    wait=0.0,
) -> Study:
    """A whole run of one study, by default in this process."""
    engine = engine or ThisProcess(["cpu"])
    with locked(out):
        study = Study(config, StudyFolder(out, config), fuse)
        study.folder.check()
        opened = open_storage(storage, out, wait)
        opened.make([config])
        backends = [backend] * len(engine.places)
        Driver([study], opened, engine, backends, save_seconds).run()
    return study


def reference(config: StudyConfig, number: int) -> Record:
    """The record of a trial trained alone, without the engine, in one go."""
    fused = NumpyTrials(config, {number: config.settings(number)}, {})
    while fused.live():
        fused.run_epoch()
    return Record(NUMPY.row(config, fused, number), fused.curve(number))


def save_at(epoch: int, number: int, out: Path, **changes) -> StudyFolder:
    """Save a trial, as a worker does at this epoch."""
    folder = StudyFolder(out, study := config(**changes))
    fused = NumpyTrials(study, {number: study.settings(number)}, {})
    folder.trials.mkdir(parents=True, exist_ok=True)
    while fused.epoch < epoch:
        fused.run_epoch()
    folder.save_state(number, fused.state(number))
    return folder


def stock_study(config: StudyConfig, out: Path, storage: str | None = None) -> optuna.Study:
    """The study as Optuna alone sees it, and so its dashboard."""
    journal = str(out / "journal.log")
    opened = storage or JournalStorage(JournalFileBackend(journal))
    return optuna.load_study(study_name=config.name, storage=opened)


def assert_exact(config: StudyConfig, out: Path, storage: str | None = None) -> None:
    """Every trial COMPLETE exactly once, with the right parameters, values, reports and curves; the
    best model kept; nothing left.
    """
    trials = stock_study(config, out, storage).get_trials()
    assert {trial.state for trial in trials} <= {TrialState.COMPLETE, TrialState.FAIL}
    complete = {t.user_attrs["trial"]: t for t in trials if t.state == TrialState.COMPLETE}
    assert sorted(complete) == list(range(config.trials))
    assert len(complete) == sum(t.state == TrialState.COMPLETE for t in trials)
    folder, rows = StudyFolder(out, config), []
    for number, trial in complete.items():
        row, curve = reference(config, number)
        settings = asdict(config.settings(number))
        assert trial.params == {name: settings[name] for name in trial.distributions}
        assert trial.value == row.loss(config.objective)
        assert trial.user_attrs == row.results | {"trial": number}
        losses = curve[:, ["train", "valid"].index(config.objective)]
        finite = {int(n): losses[n] for n in np.flatnonzero(np.isfinite(losses))}
        assert trial.intermediate_values == finite, "studies here have few epochs: all are points"
        kept = folder.load_record(number)
        assert kept.row == row
        np.testing.assert_array_equal(kept.curve, np.where(np.isfinite(curve), curve, np.nan))
        rows.append(row)
    best = min(rows, key=lambda row: (row.loss(config.objective), row.trial))
    with safe_open(folder.best, framework="numpy") as file:
        assert json.loads(file.metadata()["rhn"])["metadata"]["trial"] == best.trial
        assert np.square(file.get_tensor("weights")).sum() == np.float32(best.test_nll)
    left = [path.name for path in folder.trials.iterdir() if ".damaged-" not in path.name]
    assert sorted(left) == [f"{number:04d}.json" for number in range(config.trials)]


def started(study: StudyConfig, out: Path, storage=None, **options) -> subprocess.Popen:
    """A process with a whole run, see `main`."""
    job = {"protocol": study.protocol(), "trials": study.trials, "out": str(out)}
    words = [sys.executable, __file__, json.dumps({**job, "storage": storage, **options})]
    return subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True)


def main(protocol: dict, trials: int, out: str, storage: str | None, engine=1, **options) -> None:
    """A run in a process of its own. engine: a number of processes, or the address of a Ray
    cluster.
    """
    study, places = config_from_protocol(protocol, trials=trials), nullcontext()
    if isinstance(engine, str):
        places = ray_tasks(RunConfig(engine="ray", address=engine, device="cpu"))
    elif engine > 1:
        places = closing(Processes(["cpu"] * engine))
    with places as found:
        drive(study, Path(out), storage, engine=found, **options)


def finished(process: subprocess.Popen, code: int = 0) -> str:
    """What a process printed to stderr until its end."""
    _, errors = process.communicate(timeout=300)
    assert process.returncode == code, errors
    # a worker that a killed driver was spawning got no job: Python's own traceback
    assert code == -signal.SIGKILL or "Traceback" not in errors, errors
    return errors


def command_of(pid: int) -> bytes:
    """The command line of a process; nothing if it has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def processes_below(pid: int, word: bytes) -> list[int]:
    """The descendants of a process that have this word in their command line."""
    found = []
    with suppress(OSError):  # it has ended since
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (thread / "children").read_text().split()):
                found += [child] * (word in command_of(child)) + processes_below(child, word)
    return found


def workers_of(process: subprocess.Popen) -> list[int]:
    """The spawned workers of a process."""
    return processes_below(process.pid, b"spawn_main")


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(**json.loads(sys.argv[1]))))
