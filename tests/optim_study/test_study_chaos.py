"""Chaos: workers and drivers killed at random moments, a database that stops, and a lost node.

    pytest -s -n 0 -m chaos tests/optim_study/test_study_chaos.py

By default STUDY_KILLS=100 and STUDY_STOPS=20. Each prints its counts. Every trial must be in the
study exactly once, with the bits of an undisturbed run.
"""

import os
import random
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from small_studies import (
    assert_exact,
    config,
    finished,
    processes_below,
    started,
    wait_for,
    workers_of,
)

from optim_study.folder import is_locked

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(7200)]
KILLS = int(os.environ.get("STUDY_KILLS", 100))
STOPS = int(os.environ.get("STUDY_STOPS", 20))
LONG = config(trials=12, epochs=60, patience=60)


@pytest.fixture(autouse=True)
def _slow_trials(monkeypatch):
    monkeypatch.setenv("STUDY_PAUSE", "0.05")


def storm(
    tmp_path: Path, harms, count: int, storage: str | None = None, seconds: float = 2, **options
) -> None:
    """Runs of one study after another, until so many harms have been done to them at random
    moments.

    harms: name -> function of the process of a run that does it; returns False if there was nothing
    to harm yet.
    """
    rng, counts, studies, process = random.Random(0), dict.fromkeys(harms, 0), 0, None
    next_harm = rng.choice(list(harms))
    while sum(counts.values()) < count or process:
        study, out = replace(LONG, seed=studies, options={"run": studies}), tmp_path / str(studies)
        process = process or started(study, out, storage, **options)
        with suppress(subprocess.TimeoutExpired):
            process.wait(rng.uniform(0, seconds))
        if process.returncode == -signal.SIGKILL:
            finished(process, -signal.SIGKILL)
            process = started(study, out, storage, **options)
        elif process.returncode is not None:
            finished(process)
            assert_exact(study, out, storage)
            studies, process = studies + 1, None
        elif is_locked(out) and sum(counts.values()) < count and harms[next_harm](process):
            counts[next_harm] += 1
            next_harm = rng.choice(list(harms))
    print(f"\n{counts} in {studies} studies of {LONG.trials} trials, each once, to the bit")


def killed(pids: list[int]) -> bool:
    """Kill one of these processes, if there are any."""
    with suppress(IndexError, ProcessLookupError):
        os.kill(random.choice(pids), signal.SIGKILL)
        return True
    return False


KILL_DRIVER = {"kills of drivers": lambda process: killed([process.pid])}
KILL_WORKER = {"kills of workers": lambda process: killed(workers_of(process))}
KILL_TASK = {"kills of Ray tasks": lambda _: killed(processes_below(os.getpid(), b"ray::_attempt"))}


@pytest.mark.parametrize(("engine", "harms"), [(1, KILL_DRIVER), (2, KILL_DRIVER | KILL_WORKER)])
def test_kills_of_drivers_and_workers(engine, harms, tmp_path):
    storm(tmp_path, harms, KILLS, engine=engine, fuse=2)


def test_stops_of_postgresql(server, tmp_path):
    ends = {"crashes": server.stop, "restarts": lambda: server.stop("fast")}
    harms = {
        name: lambda _, end=end: server.be_away(end, random.random()) for name, end in ends.items()
    }
    storm(tmp_path, harms, STOPS, server.url, seconds=6, wait=60.0)


@pytest.fixture
def cluster(monkeypatch):
    """A Ray cluster of one node of two CPUs, whose tasks import what this process does."""
    cluster_utils = pytest.importorskip("ray.cluster_utils", reason="ray is not installed")
    monkeypatch.setenv("PYTHONPATH", ":".join(filter(None, sys.path)))
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    yield cluster
    cluster.shutdown()


def test_kills_of_ray_tasks_and_drivers(cluster, tmp_path):
    harms = KILL_DRIVER | KILL_TASK
    storm(tmp_path, harms, KILLS, seconds=6, engine=cluster.address, fuse=2)


@pytest.mark.parametrize("of_the_driver", [False, True])
def test_a_lost_ray_node(of_the_driver, cluster, tmp_path):
    """A run goes on without a node; without that of its driver it ends, and can be continued."""
    out, other = tmp_path / "out", cluster.add_node(num_cpus=2)
    process = started(LONG, out, engine=cluster.address, fuse=2)
    wait_for(lambda: any(out.glob("*/trials/0*")) or process.poll() is not None)
    if of_the_driver:
        cluster.head_node.kill_raylet()
        assert "the Ray cluster failed" in finished(process, 2)
        process = started(LONG, out)
    else:
        cluster.remove_node(other, allow_graceful=False)
    finished(process)
    assert_exact(LONG, out)
