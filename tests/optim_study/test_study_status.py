"""What `optim-study status` says after a kill, and the time left of a running study."""

import json
import os
import signal

import pytest
from small_studies import config, drive, reference, started, wait_for

from optim_study import cli
from optim_study.driver import Study
from optim_study.folder import StudyFolder
from optim_study.runner import epochs_done
from rhn.training.state import TrialState

LONG = config(trials=6, epochs=100_000, patience=100_000)


@pytest.fixture
def status(tmp_path, capsys):
    """status(): (the rows, the text) about the run in out/."""

    def run():
        words = ["status", "--out", str(tmp_path / "out")]
        assert cli.main([*words, "--json"]) == 0
        rows = json.loads(capsys.readouterr().out)
        assert cli.main(words) == 0
        return rows, " ".join(capsys.readouterr().out.split())

    return run


def killed(out, monkeypatch, happened, **options) -> None:
    """Kill a run with three trials in a batch as soon as something has happened."""
    monkeypatch.setenv("STUDY_PAUSE", "0.05")
    process = started(LONG, out, **options)
    wait_for(happened)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_trials_that_were_killed_before_their_first_save_are_named_as_lost(
    tmp_path, monkeypatch, status
):
    out, folder = tmp_path / "out", StudyFolder(tmp_path / "out", LONG)

    def begun() -> bool:
        return len(folder.begun(range(LONG.trials))) == 3

    killed(out, monkeypatch, begun, save_seconds=1e6)
    (row,), text = status()
    assert (row["running"], row["interrupted"], row["unsaved"]) == (0, 3, 3)
    assert "stopped without a record: 3 interrupted trials had no save yet" in text


def test_trials_that_were_saved_are_interrupted_and_not_lost(tmp_path, monkeypatch, status):
    out, folder = tmp_path / "out", StudyFolder(tmp_path / "out", LONG)
    killed(out, monkeypatch, lambda: len(folder.epochs(range(LONG.trials))) == 3)
    (row,), text = status()
    assert (row["interrupted"], row["unsaved"]) == (3, 0)
    assert "stopped without a record" not in text and "continue from the last save" in text


def test_a_finished_study_has_no_marks(tmp_path, status):
    out = tmp_path / "out"
    drive(config(), out)
    (row,), text = status()
    assert (row["running"], row["interrupted"], row["unsaved"]) == (0, 0, 0)
    assert not list(out.rglob("*.begun")) and "interrupted:" not in text


def test_a_mark_of_another_study_does_not_count(tmp_path):
    folder = StudyFolder(tmp_path, config())
    folder.make()
    folder.begin([1, 3])
    assert folder.begun(range(5)) == {1, 3}
    assert StudyFolder(tmp_path, config(data="other")).begun(range(5)) == set()


def test_the_time_left_is_that_of_the_steps_and_not_of_finished_networks(tmp_path):
    """Two trials of four stopped after a few of 1000 epochs: they say nothing about the others."""
    four = config(trials=4, epochs=1000, patience=5)
    study = Study(four, StudyFolder(tmp_path, four), 2)
    study.folder.make()
    study.rows = {n: reference(four, n).row for n in range(2)}
    spent = sum(row.epochs for row in study.rows.values())
    state = reference(config(epochs=40, patience=1000), 5)
    study.folder.save_state(2, TrialState(state.curve, {}))
    saved = len(state.curve) - 1
    done, total = epochs_done(study)
    assert (done, total) == (spent + saved, spent + 1000 + 1000)
    assert spent + saved < 0.1 * total, "finished networks count with the epochs that they had"
