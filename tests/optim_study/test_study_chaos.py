"""Chaos: workers and drivers killed at random moments, a database that stops, a full disk at every write, and a lost node.

    pytest -s -n 0 -m chaos tests/optim_study/test_study_chaos.py     # STUDY_KILLS=100 and STUDY_STOPS=20 by default

Each prints its counts. Every trial must be in the study exactly once, with the bits of an undisturbed run.
"""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import pytest
from helpers import assert_exact, config, drive, finished, started, wait_for, workers_of
from test_study_storage import server  # noqa: F401 - a fixture

from rhn.errors import OutputError
from rhn.training.state import is_locked

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(7200)]
KILLS, STOPS = (int(os.environ.get(name, usual)) for name, usual in (("STUDY_KILLS", 100), ("STUDY_STOPS", 20)))
LONG = config(trials=12, epochs=60, patience=60)


@pytest.fixture(autouse=True)
def _slow_trials(monkeypatch):
    monkeypatch.setenv("STUDY_PAUSE", "0.05")


def report(counts: dict[str, int]) -> None:
    print(
        f"\n{', '.join(f'{count} {name}' for name, count in counts.items())}: {LONG.trials} trials, each once, to the bit"
    )


class Storm:
    """Runs of one study after another, each in a new folder as the one before is finished."""

    kinds = ("drivers", "workers")

    def __init__(self, tmp_path: Path, **options):
        self.tmp_path, self.options, self.rng = tmp_path, {"fuse": 2} | options, random.Random(0)
        self.counts = {f"kills of {kind}": 0 for kind in self.kinds} | {"studies": 0}

    def run(self, kills: int) -> None:
        while self.killed < kills:
            out = self.tmp_path / str(self.counts["studies"])
            process = started(LONG, out, **self.options)
            while self.killed < kills and self._kill(process, out, self.rng.choice(self.kinds)):
                if process.poll() is not None:
                    finished(process, -signal.SIGKILL)
                    process = started(LONG, out, **self.options)
            finished(process)
            assert_exact(LONG, out)
            self.counts["studies"] += 1
        report(self.counts)

    @property
    def killed(self) -> int:
        return sum(self.counts.values()) - self.counts["studies"]

    def _kill(self, process: subprocess.Popen, out: Path, kind: str) -> bool:
        """Kill the driver or one of its workers at a random moment of its life; False if the run came to its end before."""
        victims = {"drivers": lambda: [process.pid], "workers": lambda: self.workers(process)}[kind]
        wait_for(lambda: (is_locked(out) and victims()) or process.poll() is not None)
        with suppress(subprocess.TimeoutExpired):
            process.wait(self.rng.uniform(0, 2))
        if process.poll() is None and (pids := victims()):
            with suppress(ProcessLookupError):
                os.kill(self.rng.choice(pids), signal.SIGKILL)
            if kind == "drivers":
                process.wait()
            self.counts[f"kills of {kind}"] += process.poll() != 0
        return process.poll() in (None, -signal.SIGKILL)

    def workers(self, process: subprocess.Popen) -> list[int]:
        return workers_of(process)


class DriverStorm(Storm):
    kinds = ("drivers",)


@pytest.mark.parametrize(("storm", "engine"), [(DriverStorm, 1), (Storm, 2)])
def test_kills_of_workers_and_drivers(storm, engine, tmp_path):
    storm(tmp_path, engine=engine).run(KILLS)


class RayStorm(Storm):
    def workers(self, process):
        """The tasks of the cluster, which this process has started."""
        return [
            pid for pid in _descendants(os.getpid()) if b"ray::_attempt" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]


def _descendants(pid: int) -> list[int]:
    found = []
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (thread / "children").read_text().split()):
                found += [child, *_descendants(child)]
    return found


@pytest.fixture
def new_cluster(monkeypatch):
    """Makes Ray clusters of one node of two CPUs, whose tasks import what this process does."""
    cluster_utils = pytest.importorskip("ray.cluster_utils", reason="ray is not installed")
    monkeypatch.setenv("PYTHONPATH", ":".join(filter(None, sys.path)))
    with ExitStack() as made:

        def new():
            cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
            made.callback(cluster.shutdown)
            return cluster

        yield new


@pytest.fixture
def cluster(new_cluster):
    return new_cluster()


def test_kills_of_ray_tasks_and_drivers(cluster, tmp_path):
    RayStorm(tmp_path, engine=cluster.address).run(KILLS)


def test_a_lost_ray_node(cluster, tmp_path):
    other = cluster.add_node(num_cpus=2)
    process = started(LONG, tmp_path / "out", engine=cluster.address, fuse=2)
    wait_for(lambda: any(tmp_path.glob("out/*/trials/0*")) or process.poll() is not None)
    cluster.remove_node(other, allow_graceful=False)
    finished(process)
    assert_exact(LONG, tmp_path / "out")
    report({"lost node": 1})


def test_the_lost_node_of_the_driver_ends_the_run_and_the_study_goes_on(new_cluster, tmp_path):
    cluster, out = new_cluster(), tmp_path / "out"
    process = started(LONG, out, engine=cluster.address, fuse=2)
    wait_for(lambda: any(out.glob("*/trials/0*")) or process.poll() is not None)
    cluster.head_node.kill_raylet()
    errors = finished(process, 2)
    assert "the Ray cluster failed" in errors
    cluster.shutdown()
    finished(started(LONG, out, engine=new_cluster().address, fuse=2))
    assert_exact(LONG, out)
    report({"lost node of a driver": 1})


def test_stops_of_postgresql(server, tmp_path):  # noqa: F811
    rng, counts, process = random.Random(0), {"kills": 0, "crashes": 0, "restarts": 0, "studies": 0}, None
    ends = {"kills": server.kill, "crashes": server.stop, "restarts": lambda: server.stop("fast")}
    while sum(counts.values()) - counts["studies"] < STOPS or process:
        study = config(trials=12, epochs=60, patience=60, seed=counts["studies"], options={"run": counts["studies"]})
        out = tmp_path / study.name
        process = process or started(study, out, server.url, wait=60.0)
        wait_for(lambda out=out, process=process: is_locked(out) or process.poll() is not None)
        try:
            process.wait(rng.uniform(0, 6))
        except subprocess.TimeoutExpired:
            kind = rng.choice(list(ends))
            ends[kind]()
            time.sleep(rng.random())
            server.start()
            counts[kind] += 1
            continue
        finished(process)
        assert_exact(study, out, server.url)
        counts["studies"], process = counts["studies"] + 1, None
    report(counts)


def test_two_drivers_of_one_folder(tmp_path):
    refused = 0
    process = started(LONG, tmp_path / "out")
    while process.poll() is None:
        if (tmp_path / "out" / "journal.log").exists():
            other = started(LONG, tmp_path / "out")
            _, errors = other.communicate()
            refused += "another process works in" in errors
            assert other.returncode == (2 if "another process works in" in errors else 0), errors
    finished(process)
    assert_exact(LONG, tmp_path / "out")
    assert refused
    report({"refusals": refused})


def test_a_full_disk_at_every_write(tmp_path, monkeypatch):
    """Each run fails at one more write than the one before: the writes of a run are its fsyncs and its renames."""
    monkeypatch.setenv("STUDY_PAUSE", "0")
    study, at = config(trials=2, epochs=4), 0
    while True:
        out, done = tmp_path / str(at), []

        def full(*files, write, done=done, at=at):
            done.append(None)
            if len(done) == at + 1:
                raise OSError(28, "No space left on device")
            return write(*files)

        with monkeypatch.context() as patch:
            for name in ("fsync", "replace"):
                patch.setattr(os, name, partial(full, write=getattr(os, name)))
            with suppress(OutputError):
                drive(study, out, fuse=2)
        if len(done) <= at:
            break
        drive(study, out, fuse=2)
        assert_exact(study, out)
        at += 1
    assert at > 10
    print(f"\na disk full at each of {at} writes: 2 trials, each once, to the bit")
