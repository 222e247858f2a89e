"""The progress of a run, in epochs, and a line at the end of each study."""

from helpers import config, drive

from optim_study.driver import Study
from optim_study.folder import StudyFolder
from optim_study.progress import displayed, epochs_done


def test_epochs_are_counted_and_a_finished_study_is_a_line(tmp_path, capsys):
    study = Study(config(trials=3, epochs=10), StudyFolder(tmp_path, config(epochs=10)), 2)
    assert epochs_done(study) == (0, 30)
    with displayed([study]) as watch:
        watch()
        study.rows, study.recurrence = drive(study.config, tmp_path).rows, "in C"
        watch()
        watch()
    assert epochs_done(study) == (30, 30)
    best = min(row.best_train_nll for row in study.rows.values())
    said = " ".join(capsys.readouterr().err.split())
    assert said.count(f"rhn-depth2: 3 of 3 done, 0 diverged, best {best:.3f}, recurrence in C") == 1
