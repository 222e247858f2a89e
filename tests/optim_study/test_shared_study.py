import re
import sys

import optuna
import pytest
from helpers import assert_exact, config, run_here, stock_storage, stock_study
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from optim_study.cli_results import interrupted
from optim_study.storage import Storage, open_storage
from optim_study.study import open_study, stored_configs
from rhn.errors import DataError, InvalidInputError, OutputError


def opened(config, out, storage=None):
    open_study(config, out, open_storage(storage, out)).close()
    return stock_study(config, out, storage)


def test_all_trials_are_there_from_the_beginning_with_their_parameters(out, storage):
    study = opened(config(trials=12), out, storage)
    assert study.direction == optuna.study.StudyDirection.MINIMIZE
    trials = study.get_trials()
    assert [trial.state for trial in trials] == [TrialState.WAITING] * 12
    assert [trial.params for trial in trials] == [config().parameters(n) for n in range(12)]
    assert trials[0].distributions == {
        "learning_rate": FloatDistribution(1e-4, 1.0, log=True),
        "init_std": FloatDistribution(1e-8, 1e-2, log=True),
        "transform_bias": CategoricalDistribution((0.0, -1.0, -2.0, -3.0)),
    }


def test_a_larger_total_extends_a_finished_study(out, storage):
    run_here(config(trials=3), out, storage)
    before = stock_study(config(), out, storage).get_trials()
    run_here(config(trials=8), out, storage, fuse=3)
    assert_exact(config(trials=8), out, storage)
    after = stock_study(config(), out, storage).get_trials()
    assert after[:3] == before


def test_creation_cut_short_is_completed_by_the_next_to_come(out, monkeypatch):
    monkeypatch.setattr(Storage, "add_trial", raising_after(3, Storage.add_trial))
    with pytest.raises(KeyboardInterrupt):
        opened(config(), out)
    monkeypatch.undo()
    assert stored_configs(open_storage(None, out)) == [config()]
    run_here(config(), out)
    assert_exact(config(), out)


def raising_after(calls, function):
    left = iter(range(calls))

    def limited(*arguments):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return function(*arguments)

    return limited


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "other", "trials": 20}, r"rhn-depth2 cannot go on .*: data \"other\" here, \"toy\" in the study;"),
        ({"trials": 3}, "has 8 trials already, more than --trials 3: give that total or a larger one"),
    ],
)
def test_another_protocol_or_a_smaller_total_is_refused_and_changes_nothing(changes, message, out, storage):
    study = opened(config(), out, storage)
    with pytest.raises(InvalidInputError, match=message):
        opened(config(**changes), out, storage)
    assert len(study.get_trials()) == 8


def test_a_study_made_by_something_else_is_refused(out):
    storage = open_storage(None, out)
    study = optuna.create_study(study_name=config().name, storage=stock_storage(None, out))
    study.add_trial(optuna.trial.create_trial(value=1.0))
    with pytest.raises(DataError, match="was not made by optim-study"):
        open_study(config(), out, storage)
    assert stored_configs(storage) == []


def test_a_trial_added_by_something_else_is_refused(out):
    opened(config(), out).ask()  # pops 0
    study = opened(config(), out)
    study.add_trial(optuna.trial.create_trial(value=1.0))
    with pytest.raises(DataError, match="trial 8 of study rhn-depth2 does not have the settings of its number"):
        opened(config(), out)


def test_a_worker_can_join_without_being_told_the_protocol(out, storage):
    original = config(seed=5, epochs=7, options={"skip": "last"})
    opened(original, out, storage)
    assert stored_configs(open_storage(storage, out)) == [original]


@pytest.mark.parametrize("url", ["mysql://me:secret@host/db", "postgresqlx://host/db", "journal.log"])
def test_other_storages_are_refused_with_the_two_that_are_not(url, out):
    with pytest.raises(InvalidInputError, match=r"OUT/journal\.log.*postgresql://") as refusal:
        open_storage(url, out)
    assert "secret" not in str(refusal.value) and not out.exists()
    with pytest.raises(InvalidInputError, match="cannot be read, expected postgresql"):
        open_storage("postgresql+psycopg://host:port/db", out)


@pytest.mark.parametrize(
    ("rest", "reason"),
    [
        ("127.0.0.1/db?colour=red", 'invalid connection option "colour"'),
        ("127.0.0.1:1/db?sslmode=maybe", "maybe"),
        ("host:99999999/db", "port 99999999"),
        ("host:0/db", "port 0"),
        ("host/db?port=65536", "port 65536"),
        ("me:secret@:5432/db", "names no host"),
    ],
)
def test_an_address_that_no_server_can_have_is_refused_without_a_wait(rest, reason, out, monkeypatch):
    for name in ("PGHOST", "PGHOSTADDR", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("optim_study.retry._sleep", lambda seconds: pytest.fail("it waits"))
    with pytest.raises(InvalidInputError, match=re.escape(reason)) as refusal:
        open_storage(f"postgresql://{rest}", out, wait=300)
    assert "secret" not in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize("kind", ["postgres", "postgresql", "postgresql+psycopg"])
def test_an_address_is_taken_as_users_write_it(kind, postgres, out):
    address = f"{kind}://{postgres.partition('://')[2]}"
    open_study(config(), out, open_storage(address, out)).close()
    assert [c.name for c in stored_configs(open_storage(postgres, out))] == [config().name]


def test_without_psycopg_the_sentence_names_the_extra(out, monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.delitem(sys.modules, "optim_study.postgres", raising=False)
    with pytest.raises(InvalidInputError, match=r"rhn-toolkit\[postgres\]"):
        open_storage("postgresql+psycopg://host/db", out)


def test_a_database_that_does_not_exist_is_one_sentence(postgres, out):
    with pytest.raises(OutputError, match=r'database "absent" does not exist') as error:
        open_storage(postgres.replace("/study", "/absent", 1), out)
    assert "\n" not in str(error.value)


def test_an_output_folder_that_is_a_file_is_one_sentence(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        open_storage(None, tmp_path / "out")


def test_a_begun_trial_is_interrupted_when_nobody_holds_it(out, storage):
    opened(config(), out, storage)
    looking = open_storage(storage, out)
    assert interrupted(config(), looking) == 0
    study = open_study(config(), out, open_storage(storage, out))
    assert len(study.claim(3)) == 3
    assert interrupted(config(), looking) == 0
    study.close()
    assert interrupted(config(), looking) == 3
    again = open_study(config(), out, open_storage(storage, out))
    assert [claim.number for claim in again.claim(4)] == [0, 1, 2, 3], "looking keeps no lock"
    again.close()
