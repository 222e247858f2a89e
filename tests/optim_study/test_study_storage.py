"""The storage of a study: what Optuna reads, each trial once, and databases that go away."""

import shutil
import threading

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial
from small_studies import assert_exact, config, drive, reference, stock_study
from tables import for_each
from test_study_runs import Eventful

from optim_study.runner import epochs_done
from optim_study.storage import open_storage
from rhn.errors import DataError, InvalidInputError, OutputError

RANGES = {
    "learning_rate": FloatDistribution(1e-4, 1.0, log=True),
    "init_std": FloatDistribution(1e-8, 1e-2, log=True),
    "transform_bias": CategoricalDistribution((0.0, -1.0, -2.0, -3.0)),
}


def test_optuna_reads_a_study_while_it_runs_and_a_larger_total_extends_it(out, storage):
    def look():
        study = stock_study(config(), out, storage)
        assert [trial.state for trial in study.get_trials()] == [TrialState.COMPLETE] * 3
        study.set_user_attr("note", "from a dashboard")

    study = drive(config(trials=3), out, storage)
    assert epochs_done(study) == (sum(row.epochs for row in study.rows.values()),) * 2
    stored = stock_study(config(), out, storage)
    before = stored.get_trials()
    assert stored.direction == optuna.study.StudyDirection.MINIMIZE
    assert before[0].distributions == RANGES
    drive(config(trials=3), out, storage, backend=None)  # nothing is left to train
    drive(config(), out, storage, backend=Eventful(5, look))
    assert_exact(config(), out, storage)
    assert stock_study(config(), out, storage).get_trials()[:3] == before
    with pytest.raises(InvalidInputError, match="trials of rhn-depth2 is 3: expected 8 or more"):
        drive(config(trials=3), out, storage)
    with pytest.raises(InvalidInputError, match="data of rhn-depth2 is other: expected toy"):
        drive(config(data="other"), out, storage)
    assert open_storage(storage, out, create=False).configs() == [config()]


def test_a_study_made_by_something_else_is_refused(server, out):
    study = optuna.create_study(study_name=config().name, storage=server.url)
    study.add_trial(create_trial(value=1.0))
    with pytest.raises(DataError, match="was not made by optim-study"):
        drive(config(), out, server.url)
    assert open_storage(server.url, out, create=False).configs() == []


def test_a_torn_last_line_of_a_journal_is_cut_off_and_a_damaged_one_refused(out, refused):
    drive(config(trials=3), out)
    journal = out / "journal.log"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code": 0, "wor')
    drive(config(), out)
    assert_exact(config(), out)
    damaged = whole + b'{"op_code":77}\n'
    journal.write_bytes(damaged)
    with pytest.raises(DataError, match=f"{journal} is damaged"):
        drive(config(), out)
    assert journal.read_bytes() == damaged
    journal.write_bytes(whole.replace(b'"epochs":24', b'"epochs":"x"'))
    says = "protocol cannot be read: epochs is 'x': expected a whole"
    refused("optim-study status --out", out, says=says)
    journal.write_text("no JSON\n")
    with pytest.raises(DataError, match=r"journal\.log is damaged"):
        drive(config(), out)


# databases


@for_each(
    "url",
    ["x", "postgresql://me:a@cret@b/c", "postgresql://me:cret@127.0.0.1:1/b", "b://me:cret@c/d"],
)
def test_an_address_that_cannot_be_used_is_one_sentence_without_its_password(url, tmp_path):
    with pytest.raises((InvalidInputError, OutputError), match=r"storage (is|has|does)") as refusal:
        open_storage(url, tmp_path)
    assert "cret" not in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_trial_whose_answer_was_lost_is_complete_once(server, out):
    """With an address as users write it."""
    from sqlalchemy import event
    from sqlalchemy.exc import OperationalError

    storage, statements, lost = (
        open_storage(server.url.replace("ql+psycopg", ""), out, 60.0),
        [],
        [],
    )
    storage.make(config(trials=2))

    def lose_the_answer(session):
        if len(lost) < 2 and any("INSERT INTO trials " in said for said in statements):
            lost.append(statements.clear())
            raise OperationalError("COMMIT", {}, Exception("server closed the connection"))

    event.listen(
        storage._backend.engine, "before_cursor_execute", lambda *told: statements.append(told[2])
    )
    event.listen(storage._backend.scoped_session, "after_commit", lose_the_answer)
    for number in range(2):
        storage.add(config(), reference(config(), number)[0])
    assert len(lost) == 2
    trials = stock_study(config(), out, server.url).get_trials(states=[TrialState.COMPLETE])
    assert [trial.user_attrs["trial"] for trial in trials] == [0, 1]


def test_a_run_outlives_cut_connections_and_a_server_that_goes_away(server, out):
    for ending in (server.cut_connections, lambda: server.be_away(server.stop, 1.0)):
        server.empty()
        shutil.rmtree(out, ignore_errors=True)
        drive(config(), out, server.url, backend=Eventful(5, ending), wait=60.0)
        assert_exact(config(), out, server.url)


@pytest.mark.slow
def test_a_server_that_stays_away_ends_a_run_and_the_next_waits_for_it(server, out):
    with pytest.raises(OutputError, match="the storage does not answer"):
        drive(config(), out, server.url, backend=Eventful(5, server.stop), wait=1.0)
    threading.Timer(1.0, server.start).start()
    drive(config(), out, server.url, wait=60.0)
    assert_exact(config(), out, server.url)
