"""Nothing is lost: real worker processes, killed, stopped, interrupted, starved of disk; the study comes out exact each time."""

import os
import random
import signal

import optuna
import pytest
from helpers import Job, assert_exact, config, cut_connections, run_here, stock_storage, stock_study, wait_for
from optuna.trial import TrialState

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")
LONG = {"trials": 15, "epochs": 48, "patience": 30}
CHAOS = {"trials": 60, "epochs": 150, "patience": 100}
CHAOTIC = [pytest.mark.chaos, pytest.mark.timeout(1800)]


class CrashPoint:
    """Counts the lasting steps of a worker (a write is on disk, a file gets its name, the database is asked something), and
    kills it before one of them."""

    def __init__(self, monkeypatch, step: int | None = None):
        self.steps, self._step = 0, step
        for place, name in [(os, "fsync"), (os, "replace"), (psycopg.Cursor, "execute")]:
            monkeypatch.setattr(place, name, self._counted(getattr(place, name)))

    def _counted(self, function):
        def counted(*arguments, **keywords):
            if self.steps == self._step:
                os.kill(os.getpid(), signal.SIGKILL)
            self.steps += 1
            return function(*arguments, **keywords)

        return counted


def run_killed_at(step: int, monkeypatch, *arguments, **options) -> None:
    """`run_here` in a forked child (it holds no lock yet) that dies before its lasting step of that number."""
    child = os.fork()
    if child == 0:
        CrashPoint(monkeypatch, step)
        run_here(*arguments, **options)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the child was to be killed"


@pytest.mark.slow
def test_killed_before_each_write_in_turn(tmp_path, monkeypatch):
    tiny = config(trials=2, epochs=4)
    with monkeypatch.context() as patch:
        counter = CrashPoint(patch)
        run_here(tiny, tmp_path / "whole", fuse=2, save_epochs=2)
    assert counter.steps > 40
    for step in range(counter.steps):
        out = tmp_path / str(step)
        run_killed_at(step, monkeypatch, tiny, out, fuse=2, save_epochs=2)
        run_here(tiny, out, fuse=2, save_epochs=2)
        assert_exact(tiny, out)


@pytest.mark.parametrize("points", [pytest.param(5, marks=pytest.mark.slow), pytest.param(50, marks=CHAOTIC)])
def test_killed_before_statements_to_the_database_all_along(tmp_path, monkeypatch, empty_database, points):
    tiny = config(trials=2, epochs=4)
    with monkeypatch.context() as patch:
        counter = CrashPoint(patch)
        run_here(tiny, tmp_path / "whole", empty_database(), fuse=2, save_epochs=2)
    steps = counter.steps - 10  # the first run of a process asks the database a little more than the next
    for step in range(0, steps, steps // points):
        out, database = tmp_path / str(step), empty_database()
        run_killed_at(step, monkeypatch, tiny, out, database, fuse=2, save_epochs=2)
        run_here(tiny, out, database, fuse=2, save_epochs=2)
        assert_exact(tiny, out, database)


@pytest.mark.parametrize("storage", ["journal", pytest.param("postgres", marks=pytest.mark.slow)], indirect=True)
@pytest.mark.parametrize(
    ("changes", "workers", "kills"),
    [(LONG, 2, 3), *(pytest.param(CHAOS | {"seed": k}, 4, 20, marks=CHAOTIC) for k in range(3))],
)
def test_workers_killed_on_progress_lose_nothing(start_job, storage, changes, workers, kills):
    job = start_job(config(**changes), storage)
    rng = random.Random(job.config.seed)
    for _ in range(workers):
        job.start()
    for _ in range(kills):
        job.wait_for_lines(len(job.lines()) + rng.randint(1, 40))
        alive = [worker for worker in job.workers if worker.poll() is None]
        assert alive, "the study was finished before all kills were made"
        rng.choice(alive).kill()
        job.start()
    job.finish()
    assert_exact(job.config, job.out, storage)
    job.assert_one_worker_a_trial()


def started_and_stopped(job: Job, at_epoch: int):
    """A worker that has stopped itself in the middle of an epoch."""
    worker = job.start(stop_at=at_epoch)
    os.waitid(os.P_PID, worker.pid, os.WSTOPPED | os.WNOWAIT)
    return worker


def test_two_workers_at_once_share_the_work(start_job, postgres):
    job = start_job(config(), postgres)
    workers = [started_and_stopped(job, at_epoch=0) for _ in range(2)]
    for worker in workers:
        worker.send_signal(signal.SIGCONT)
    job.finish()
    assert_exact(job.config, job.out, postgres)
    job.assert_one_worker_a_trial()
    assert len({process for process, event, *_ in job.lines() if event == "finished"}) == 2


def test_workers_that_start_on_an_empty_storage_at_once_make_one_study(start_job, storage):
    job = start_job(config(), storage, wait=False)
    for _ in range(3):
        job.start()
    job.finish()
    assert_exact(job.config, job.out, storage)


def test_a_slow_worker_keeps_its_trials_and_does_not_crash_at_the_end(start_job):
    job = start_job(config())
    slow = started_and_stopped(job, at_epoch=5)
    other = job.start()
    study = stock_study(job.config, job.out)
    wait_for(lambda: [t.state for t in study.get_trials()[3:]] == [TrialState.COMPLETE] * 5)
    assert other.poll() is None, "it waits for the last trials, ready to take them over"
    assert [t.state for t in study.get_trials()[:3]] == [TrialState.RUNNING] * 3
    slow.send_signal(signal.SIGCONT)
    job.finish()
    assert_exact(job.config, job.out)
    job.assert_one_worker_a_trial()


def test_a_slow_worker_whose_connection_was_cut_finds_its_trials_done_and_ends_well(start_job, postgres):
    job = start_job(config(), postgres)
    slow = started_and_stopped(job, at_epoch=5)
    cut_connections(postgres, "optim-study locks")
    other = job.start()
    assert other.wait(timeout=120) == 0
    assert_exact(job.config, job.out, postgres)
    slow.send_signal(signal.SIGCONT)
    job.finish()
    assert_exact(job.config, job.out, postgres)


def test_a_full_disk_is_one_sentence_and_the_study_goes_on_when_there_is_room(start_job):
    job = start_job(config(**LONG))
    for limit in (1_000, 9_000, 20_000):
        worker = job.start(file_limit=limit)
        _, errors = worker.communicate(timeout=60)
        assert worker.returncode == 2
        said = [line for line in errors.splitlines() if not line.startswith("[I ")]
        assert len(said) == 1
        assert said[0].startswith(f"cannot write {job.out / 'journal.log'}: File too large; ")
        assert (job.out / "journal.log").read_bytes().endswith(b"\n")
        optuna.get_all_study_names(stock_storage(None, job.out))
    job.workers.clear()
    job.start()
    job.finish()
    assert_exact(job.config, job.out)
