"""The progress of a run, in epochs, and a line at the end of each study."""

from helpers import config, drive

from optim_study.driver import Study
from optim_study.folder import StudyFolder
from optim_study.progress import Watch


def test_epochs_are_reported_and_a_finished_study_is_a_line(tmp_path, capsys):
    reported, study = [], Study(config(trials=3, epochs=10), StudyFolder(tmp_path, config(epochs=10)), 2)
    watch = Watch([study], lambda name: lambda *done: reported.append((name, *done)))
    study.running = {0, 1}
    watch()
    assert reported == [("rhn-depth2", 0, 30)] and capsys.readouterr().err == ""
    study.rows = drive(study.config, tmp_path).rows
    study.recurrence = "in C"
    watch()
    watch()
    assert reported[1:] == [("rhn-depth2", 30, 30)]
    best = min(row.best_train_nll for row in study.rows.values())
    said = " ".join(capsys.readouterr().err.split())
    assert said == f"rhn-depth2: 3 of 3 done, 0 diverged, best {best:.3f}, recurrence in C"
