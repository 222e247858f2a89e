"""What `optim-study status` says after a kill, and the time left of a running study."""

import json
import os
import signal

from small_studies import config, drive, reference, started, wait_for

from optim_study import cli
from optim_study.driver import Study
from optim_study.folder import StudyFolder
from optim_study.runner import epochs_done
from rhn.training.state import TrialState

LONG = config(trials=6, epochs=100_000, patience=100_000)


def status(out, capsys) -> dict:
    """The row about the only study in a folder; the printed table has the same numbers."""
    assert cli.main(["status", "--out", str(out), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert cli.main(["status", "--out", str(out)]) == 0
    names, line = (text.split() for text in capsys.readouterr().out.splitlines())
    shown = {name: "-" if row[name] is None else row[name] for name in names}
    assert [str(value)[:5] for value in shown.values()] == [word[:5] for word in line]
    return row


def test_trials_that_were_saved_before_a_kill_are_interrupted(tmp_path, monkeypatch, capsys):
    out, folder = tmp_path / "out", StudyFolder(tmp_path / "out", LONG)
    monkeypatch.setenv("STUDY_PAUSE", "0.05")
    process = started(LONG, out)
    wait_for(lambda: len(folder.epochs(range(LONG.trials))) == 3)
    assert status(out, capsys)["running"] == 3
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    row = status(out, capsys)
    assert (row["running"], row["interrupted"], row["complete"]) == (0, 3, 0)
    assert row["best"] is row["checkpoint"] is None


def test_a_finished_study_has_a_checkpoint(tmp_path, capsys):
    study = drive(config(), tmp_path / "out")
    row = status(tmp_path / "out", capsys)
    assert (row["running"], row["interrupted"], row["complete"]) == (0, 0, 8)
    assert row["best"] == min(r.best_train_nll for r in study.rows.values())
    assert row["checkpoint"] == str(tmp_path / "out/rhn-depth2/best.safetensors")


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
