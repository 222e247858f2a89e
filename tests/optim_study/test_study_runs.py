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
from rhn.errors import DataError, OutputError
from rhn.training.interrupts import Interrupted

LONG = config(trials=6, epochs=100_000, patience=100_000)


class Eventful(NumpyBackend):
    """Does something once, before the trials that train reach an epoch."""

    def __init__(self, epoch: int = 0, then=None):
        self.started = []  # the trials and epoch of each start
        backend = self

        class Trials(NumpyTrials):
            def run_epoch(self):
                if self.epoch == epoch and backend.then:
                    action, backend.then = backend.then, None
                    action()
                super().run_epoch()

        self.fused, self.then = Trials, then

    def start(self, config, settings, saved):
        done = len(next(iter(saved.values())).curve) - 1 if saved else 0
        self.started.append((tuple(settings), done))
        return super().start(config, settings, saved)


def save_at(epoch: int, number: int, out: Path, **changes) -> StudyFolder:
    """Save a trial, as a worker does at this epoch."""
    study = config(**changes)
    folder = StudyFolder(out, study)
    fused = NumpyTrials(study, {number: study.settings(number)}, {})
    folder.trials.mkdir(parents=True, exist_ok=True)
    while fused.epoch < epoch:
        fused.run_epoch()
    folder.save_state(number, fused.state(number))
    return folder


@pytest.mark.parametrize(("fuse", "objective"), [(1, "train"), (3, "valid"), (50, "train")])
def test_fusing_changes_no_result(fuse, objective, out, storage):
    drive(config(objective=objective), out, storage, fuse=fuse)
    assert_exact(config(objective=objective), out, storage)


def test_the_study_covers_early_stopping_divergence_and_the_last_epoch():
    """So that every test here that calls `assert_exact` means all three."""
    rows = [reference(config(), n)[0] for n in range(8)]
    assert any(row.diverged for row in rows)
    assert any(not row.diverged and row.epochs < 24 for row in rows)
    assert any(row.epochs == 24 for row in rows)


def test_what_workers_of_a_killed_driver_have_finished_is_not_trained_again(out):
    """A worker adds nothing to a study that another run has ended, either."""
    work(Job(StudyFolder(out, config()), (1, 2), NUMPY))
    backend = Eventful()
    drive(config(trials=4), out, backend=backend, fuse=2)
    assert [numbers for numbers, _ in backend.started] == [(0, 3)]
    lost = Eventful(5, lambda: drive(config(), out))
    work(Job(StudyFolder(out, config()), (4, 5, 6), lost, save_seconds=0.0))
    for name in (".0001-best.rhn-partial-12345678.safetensors", "0001-best.safetensors"):
        (out / "rhn-depth2/trials" / name).write_bytes(b"of a worker that was killed")
    drive(config(), out)
    assert_exact(config(), out)


def test_trials_at_different_epochs_are_trained_one_group_after_the_other(out):
    """As after a kill between the saves of one batch: trial 0 at epoch 8, trial 1 at 4, trial 2 not
    saved at all.
    """
    backend = Eventful()
    save_at(8, 0, out)
    save_at(4, 1, out)
    drive(config(trials=3), out, backend=backend)
    assert backend.started == [((0,), 8), ((1,), 4), ((2,), 0)]
    assert_exact(config(trials=3), out)


def test_ctrl_c_ends_the_epoch_and_saves_everything(out):
    backend = Eventful(5, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Interrupted, match=r"3 running trials are saved in .*rhn-depth2"):
        drive(config(), out, backend=backend, save_seconds=1e6)
    assert StudyFolder(out, config()).epochs(range(8)) == {0: 6, 1: 6, 2: 6}
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    drive(config(), out)
    assert_exact(config(), out)


# files


def test_damaged_states_and_records_and_those_of_another_study_count_as_absent(out):
    path, study = save_at(8, 0, out).file(0, ".safetensors"), config()
    path.write_bytes(path.read_bytes()[:-1])
    folder = save_at(8, 1, out, data="other")
    save_at(8, 2, out).save_record(*reference(study, 2))
    record = folder.file(2, ".json").read_text()
    assert folder.load_record(2) is None and folder.epochs([0, 1]) == {1: 8}
    low = re.sub('"test_nll": [^,}]+', '"test_nll": "low"', record)
    for number, content in enumerate(("", "[]", '{"study_fingerprint": "x"}', low), 2):
        folder.file(number, ".json").write_text(content)
    backend = Eventful()
    drive(study, out, backend=backend, fuse=8)
    assert backend.started == [((2,), 8), ((0, 1, 3, 4, 5, 6, 7), 0)]
    assert_exact(study, out)


def test_what_cannot_be_read_is_an_error_and_not_taken_for_damaged(out):
    folder = StudyFolder(out, config())
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
    """Its worker dies while it has one of the `deadly` trials, after it has saved the others."""

    deaths = ConnectionError

    def __init__(self, *deadly: int):
        super().__init__(["cpu"])
        self.deadly, self.tried = set(deadly), []

    def submit(self, place, job, on_epoch):
        self.tried.append(job.numbers)
        if not self.deadly & set(job.numbers):
            return super().submit(place, job, on_epoch)
        future = Future()
        future.set_exception(ConnectionError("gone"))
        return future


def test_a_deadly_trial_is_found_and_given_up_and_all_others_are_done(out):
    engine = Dying(4)
    study = drive(config(), out, engine=engine)
    assert engine.tried == [(0, 1, 2), *[(3, 4, 5)] * 3, (3,), *[(4,)] * 3, (5,), (6, 7)]
    assert study.given_up == {4: "its worker died 3 times (gone)"}
    states = {t.user_attrs["trial"]: t.state for t in stock_study(config(), out).get_trials()}
    assert states == dict.fromkeys({*range(8)} - {4}, TrialState.COMPLETE)
    engine.deaths = ()  # a failure that is no death ends the run, and costs no trial
    with pytest.raises(ConnectionError):
        drive(config(), out, engine=engine)
    assert drive(config(), out).given_up == {}, "another run tries once more"
    assert_exact(config(), out)


def test_deaths_count_only_without_a_save_between_them(out):
    class Saving(Dying):
        def submit(self, place, job, on_epoch):
            if len(self.tried) in (0, 2, 4):  # after each save, two deaths may follow
                save_at(len(self.tried) + 1, 0, out)
            elif len(self.tried) == 6:
                self.deadly = set()
            return super().submit(place, job, on_epoch)

    engine = Saving(0)
    assert drive(config(trials=1), out, engine=engine).given_up == {}
    assert len(engine.tried) == 7
    assert_exact(config(trials=1), out)


class Hungry(Eventful):
    """Has memory for two trials."""

    def start(self, config, settings, saved):
        started = super().start(config, settings, saved)
        if len(settings) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return started


def test_too_many_fused_trials_are_halved_until_they_fit(out):
    backend = Hungry()
    drive(config(), out, backend=backend, fuse=8)
    assert [len(numbers) for numbers, _ in backend.started] == [8, 4, 2, 2, 2, 2]
    assert_exact(config(), out)


@pytest.mark.slow
def test_workers_whose_driver_is_killed_leave(out):
    process = started(LONG, out, engine=2, fuse=1, save_seconds=1e6)
    wait_for(lambda: len(workers_of(process)) == 2)
    workers = workers_of(process)
    process.kill()
    process.communicate()
    wait_for(lambda: not any(map(command_of, workers)))


# progress


def test_status_counts_running_interrupted_and_complete_trials(out, monkeypatch, answer):
    def status(folder):
        (row,) = answer("optim-study status --out", folder)
        return row, [row[name] for name in ("running", "interrupted", "complete", "trials")]

    monkeypatch.setenv("STUDY_PAUSE", "0.05")
    process, folder = started(LONG, out), StudyFolder(out, LONG)
    wait_for(lambda: len(folder.epochs(range(6))) == 3)
    assert status(out)[1] == [3, 0, 0, 6]
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    row, counts = status(out)
    assert counts == [0, 3, 0, 6] and row["best"] is row["checkpoint"] is None
    rows = drive(config(seed=1), out / "another").rows.values()
    row, counts = status(out / "another")
    assert counts == [0, 0, 8, 8] and row["best"] == min(r.best_train_nll for r in rows)
    assert row["diverged"] == sum(r.diverged for r in rows) > 0
    assert row["checkpoint"] == str(out / "another/rhn-depth2/best.safetensors")


def test_the_epochs_of_a_study_are_those_done_and_all_that_the_others_may_need(out):
    four = config(trials=4, epochs=1000)
    study = Study(four, save_at(9, 2, out, trials=4, epochs=1000), 2)
    study.rows = {n: reference(four, n)[0] for n in range(2)}
    spent = sum(row.epochs for row in study.rows.values())
    assert study.epochs() == (spent + 9, spent + 1000 + 1000)
