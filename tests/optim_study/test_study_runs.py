"""A run of a study: batches, saves, interrupts, lost workers and damaged files change no result."""

import os
import re
import signal
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path

import pytest
import torch
from numpy_backend import NumpyBackend, NumpyTrials
from optuna.trial import TrialState
from small_studies import (
    NUMPY,
    assert_exact,
    command_of,
    config,
    drive,
    reference,
    started,
    stock_study,
    wait_for,
    workers_of,
)

from optim_study.driver import Study
from optim_study.engines import Job, ThisProcess, work
from optim_study.folder import StudyFolder
from optim_study.runner import epochs_done
from rhn.errors import DataError, OutputError
from rhn.training.interrupts import Interrupted

LONG = config(trials=6, epochs=100_000, patience=100_000)


class Eventful(NumpyBackend):
    """Calls a function with the trials that train before they leave this epoch."""

    def __init__(self, epoch: int | None = None, then=None):
        self.started = []  # the trials and epoch of each start

        class Trials(NumpyTrials):
            def run_epoch(self):
                if self.epoch == epoch:
                    then(self)
                super().run_epoch()

        self.fused = Trials

    def start(self, config, settings, saved):
        self.started.append((tuple(settings), next(iter(saved.values())).epoch if saved else 0))
        return super().start(config, settings, saved)


def save_at(epoch: int, number: int, out: Path, **changes) -> StudyFolder:
    """Save a trial, as a worker does at this epoch."""
    study = config(**changes)
    folder = StudyFolder(out, study)
    fused = NumpyTrials(study, {number: study.settings(number)}, {})
    folder.make()
    while fused.epoch < epoch:
        fused.run_epoch()
    folder.save_state(number, fused.state(number))
    return folder


@pytest.mark.parametrize(("fuse", "objective"), [(1, "train"), (3, "valid"), (50, "train")])
def test_fusing_changes_no_result(fuse, objective, tmp_path, storage):
    rows = drive(config(objective=objective), tmp_path, storage, fuse=fuse).rows.values()
    assert_exact(config(objective=objective), tmp_path, storage)
    ends = {"diverged" if row.diverged else row.epochs < 24 for row in rows}
    assert ends == {"diverged", True, False}, "by divergence, early and at the last epoch"


def test_what_workers_of_a_killed_driver_have_finished_is_not_trained_again(tmp_path):
    """A worker adds nothing to a study that another run has ended, either."""
    work(Job(StudyFolder(tmp_path, config()), (1, 2), NUMPY))
    backend = Eventful()
    drive(config(trials=4), tmp_path, backend=backend, fuse=2)
    assert [numbers for numbers, _ in backend.started] == [(0, 3)]
    lost = Eventful(5, lambda _: drive(config(), tmp_path))
    work(Job(StudyFolder(tmp_path, config()), (4, 5, 6), lost, save_seconds=0.0))
    for name in (".0001-best.rhn-partial-12345678.safetensors", "0001-best.safetensors"):
        (tmp_path / "rhn-depth2/trials" / name).write_bytes(b"of a worker that was killed")
    drive(config(), tmp_path)
    assert_exact(config(), tmp_path)


def test_ctrl_c_ends_the_epoch_and_saves_everything(tmp_path):
    backend = Eventful(5, lambda _: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Interrupted, match=r"3 running trials are saved in .*rhn-depth2"):
        drive(config(), tmp_path, backend=backend, save_seconds=1e6)
    assert StudyFolder(tmp_path, config()).epochs(range(8)) == {0: 6, 1: 6, 2: 6}
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    drive(config(), tmp_path)
    assert_exact(config(), tmp_path)


# files


def test_damaged_states_and_records_and_those_of_another_study_count_as_absent(tmp_path):
    """Trials that a kill between two saves has left at different epochs are trained in groups."""
    path, study = save_at(8, 0, tmp_path).file(0, ".safetensors"), config()
    path.write_bytes(path.read_bytes()[:-1])
    folder = save_at(8, 1, tmp_path, data="other")
    save_at(8, 2, tmp_path).save_record(*reference(study, 2))
    save_at(4, 3, tmp_path)
    record = folder.file(2, ".json").read_text()
    assert folder.load_record(2) is None and folder.epochs([0, 1]) == {1: 8}
    low = re.sub('"test_nll": [^,}]+', '"test_nll": "low"', record)
    for number, content in enumerate(("", "[]", '{"study_fingerprint": "x"}', low), 2):
        folder.file(number, ".json").write_text(content)
    backend = Eventful()
    drive(study, tmp_path, backend=backend, fuse=8)
    assert backend.started == [((2,), 8), ((3,), 4), ((0, 1, 4, 5, 6, 7), 0)]
    assert_exact(study, tmp_path)


def test_what_cannot_be_read_is_an_error_and_not_taken_for_damaged(tmp_path):
    folder = StudyFolder(tmp_path, config())
    for ending, load in ((".safetensors", folder.load_state), (".json", folder.load_record)):
        folder.file(7, ending).mkdir(parents=True)  # which root cannot read either
        with pytest.raises(DataError, match=r"is a folder|cannot be read"):
            load(7)


def test_a_disk_full_at_any_write_ends_a_run_and_the_same_run_goes_on_later(tmp_path, monkeypatch):
    """The writes of a run are its fsyncs and its renames; each run fails at one more than the one
    before.
    """
    study = config(trials=2, epochs=4)
    for at in count():
        out, writes = tmp_path / str(at), count()

        def full(*files, write, writes=writes, at=at):
            if next(writes) == at:
                raise OSError(28, "No space left on device")
            return write(*files)

        with monkeypatch.context() as patch, suppress(OutputError):
            for name in ("fsync", "replace"):
                patch.setattr(os, name, partial(full, write=getattr(os, name)))
            drive(study, out, fuse=2)
        drive(study, out, fuse=2)
        assert_exact(study, out)
        if next(writes) <= at:
            break
    assert at > 10


# lost workers


class Dying(ThisProcess):
    """Its worker dies if so, by the trials of the job and the number of jobs until now."""

    deaths = ConnectionError

    def __init__(self, dies):
        super().__init__("cpu")
        self.dies, self.tried = dies, []

    def submit(self, place, job, on_epoch):
        self.tried.append(job.numbers)
        if not self.dies(job.numbers, len(self.tried)):
            return super().submit(place, job, on_epoch)
        future = Future()
        future.set_exception(ConnectionError("gone"))
        return future


def test_a_deadly_trial_is_found_and_given_up_and_all_others_are_done(tmp_path):
    engine = Dying(lambda numbers, _: 4 in numbers)
    study = drive(config(), tmp_path, engine=engine)
    assert engine.tried == [(0, 1, 2), *[(3, 4, 5)] * 3, (3,), *[(4,)] * 3, (5,), (6, 7)]
    assert study.given_up == {4: "its worker died 3 times (gone)"}
    states = {t.user_attrs["trial"]: t.state for t in stock_study(config(), tmp_path).get_trials()}
    assert states == dict.fromkeys({*range(8)} - {4}, TrialState.COMPLETE)
    engine.deaths = ()  # a failure that is no death ends the run, and costs no trial
    with pytest.raises(ConnectionError):
        drive(config(), tmp_path, engine=engine)
    assert drive(config(), tmp_path).given_up == {}, "another run tries once more"
    assert_exact(config(), tmp_path)


def test_deaths_count_only_without_a_save_between_them(tmp_path):
    def dies(numbers, job):
        if job in (1, 3, 5):  # after each save, two deaths may follow
            save_at(job, 0, tmp_path)
        return job < 7

    engine = Dying(dies)
    assert drive(config(trials=1), tmp_path, engine=engine).given_up == {}
    assert len(engine.tried) == 7
    assert_exact(config(trials=1), tmp_path)


def test_too_many_fused_trials_are_halved_until_they_fit(tmp_path):
    def full(trials):
        if len(trials.live()) > 2:
            raise torch.OutOfMemoryError("out of memory")

    backend = Eventful(0, full)
    drive(config(), tmp_path, backend=backend, fuse=8)
    assert [len(numbers) for numbers, _ in backend.started] == [8, 4, 2, 2, 2, 2]
    assert_exact(config(), tmp_path)


# progress


def test_status_counts_trials_and_workers_whose_driver_is_killed_leave(
    tmp_path, monkeypatch, answer
):
    def status(folder):
        (row,) = answer("optim-study status --out", folder)
        return row, [row[name] for name in ("running", "interrupted", "complete", "trials")]

    monkeypatch.setenv("STUDY_PAUSE", "0.05")
    process, folder = started(LONG, tmp_path, engine=2), StudyFolder(tmp_path, LONG)
    wait_for(lambda: len(folder.epochs(range(6))) == 6)
    assert status(tmp_path)[1] == [6, 0, 0, 6]
    workers = workers_of(process)
    process.kill()
    process.communicate()
    wait_for(lambda: not any(map(command_of, workers)))
    row, counts = status(tmp_path)
    assert counts == [0, 6, 0, 6] and row["best"] is row["checkpoint"] is None
    rows = drive(config(seed=1), tmp_path / "another").rows.values()
    row, counts = status(tmp_path / "another")
    assert counts == [0, 0, 8, 8] and row["best"] == min(r.best_train_nll for r in rows)
    assert row["diverged"] == sum(r.diverged for r in rows) > 0
    assert row["checkpoint"] == str(tmp_path / "another/rhn-depth2/best.safetensors")


def test_the_epochs_of_a_study_are_those_done_and_all_that_the_others_may_need(tmp_path):
    four = config(trials=4, epochs=1000)
    study = Study(four, save_at(9, 2, tmp_path, trials=4, epochs=1000), 2)
    study.rows = {n: reference(four, n)[0] for n in range(2)}
    spent = sum(row.epochs for row in study.rows.values())
    assert epochs_done(study) == (spent + 9, spent + 1000 + 1000)
