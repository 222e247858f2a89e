"""A run of a study: batches, saves, interrupts and lost workers change no result."""

import os
import re
import resource
import shutil
import signal
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch
from numpy_backend import NumpyBackend, NumpyTrials
from optuna.trial import TrialState
from small_studies import (
    NUMPY,
    assert_exact,
    config,
    drive,
    reference,
    started,
    stock_study,
    wait_for,
    workers_of,
)
from tables import others_slow

from optim_study import runner
from optim_study.engines import Job, ThisProcess, work
from optim_study.folder import StudyFolder
from optim_study.runner import epochs_done
from rhn.errors import OutputError
from rhn.training.interrupts import Interrupted


class Eventful(NumpyBackend):
    """Does something once, before the trials that train reach an epoch."""

    def __init__(self, epoch: int, then):
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
        self.started.append((tuple(settings), next(iter(saved.values())).epoch if saved else 0))
        return super().start(config, settings, saved)


def test_a_worker_whose_driver_was_killed_adds_nothing_to_a_study_that_another_has_ended(out):
    lost = Eventful(5, lambda: drive(config(), out))
    work(Job(StudyFolder(out, config()), (0, 1, 2), lost, save_seconds=0.0))
    assert_exact(config(), out)


def save_at(epoch: int, number: int, out: Path) -> None:
    """Save a trial, as a worker does at this epoch."""
    folder, fused = (
        StudyFolder(out, config()),
        NumpyTrials(config(), {number: config().settings(number)}, {}),
    )
    folder.make()
    while fused.epoch < epoch:
        fused.run_epoch()
    folder.save_state(number, fused.state(number))


FUSED = (1, "train"), (3, "valid"), (8, "train"), (50, "train")


@pytest.mark.parametrize(
    ("fuse", "objective", "storage"),
    others_slow(
        [(*each, kind) for each in FUSED for kind in ("journal", "postgres")],
        *((1, "train", "journal"), (8, "train", "journal"), (3, "valid", "postgres")),
    ),
    indirect=["storage"],
)
def test_fusing_changes_no_result(fuse, objective, out, storage):
    drive(config(objective=objective), out, storage, fuse=fuse)
    assert_exact(config(objective=objective), out, storage)


def test_the_study_covers_early_stopping_divergence_and_the_last_epoch():
    """So that every test here that calls `assert_exact` means all three."""
    rows = [reference(config(), n).row for n in range(8)]
    assert any(row.diverged for row in rows)
    assert any(not row.diverged and row.epochs < 24 for row in rows)
    assert any(row.epochs == 24 for row in rows)


def test_a_finished_study_is_left_as_it_is_and_a_larger_total_extends_it(out, storage):
    study = drive(config(trials=3), out, storage)
    assert epochs_done(study) == (sum(row.epochs for row in study.rows.values()),) * 2
    before = stock_study(config(), out, storage).get_trials()
    drive(config(trials=3), out, storage, backend=None)
    drive(config(trials=8), out, storage)
    assert_exact(config(trials=8), out, storage)
    assert stock_study(config(), out, storage).get_trials()[:3] == before


def test_a_trial_whose_record_was_not_added_is_not_trained_again(out):
    """Its worker had finished when the driver was killed."""
    work(Job(StudyFolder(out, config()), (1, 2), NUMPY))
    backend = Eventful(0, None)
    drive(config(trials=4), out, backend=backend, fuse=2)
    assert [numbers for numbers, _ in backend.started] == [(0, 3)]
    assert_exact(config(trials=4), out)


def test_a_complete_study_keeps_nothing_that_killed_workers_have_left(out):
    """Half-written files of each trial, also of the best one, and a model written after its trial
    was done.
    """
    study = drive(config(trials=3), out)
    trials = study.folder.path / "trials"
    for number in range(3):
        for name in ("-best.rhn-partial-12345678.safetensors", ".rhn-partial-12345678.json"):
            (trials / f".{number:04d}{name}").write_text("half")
    (trials / "0001-best.safetensors").write_bytes(
        (study.folder.path / "best.safetensors").read_bytes()
    )
    drive(config(trials=4), out)
    kept = {path.name for path in trials.iterdir()}
    assert kept == {f"{number:04d}.json" for number in range(4)}


def test_trials_at_different_epochs_are_trained_one_group_after_the_other(out):
    """As after a kill between the saves of one batch: trial 0 at epoch 8, trial 1 at 4, trial 2 not
    saved at all.
    """
    backend = Eventful(0, None)
    save_at(8, 0, out)
    save_at(4, 1, out)
    drive(config(trials=3), out, backend=backend)
    assert backend.started == [((0,), 8), ((1,), 4), ((2,), 0)]
    assert_exact(config(trials=3), out)


def test_ctrl_c_ends_the_epoch_saves_everything_and_says_how_to_go_on(out):
    backend = Eventful(5, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Interrupted, match=r"3 running trials are saved in .*rhn-depth2"):
        drive(config(), out, backend=backend, save_seconds=1e6)
    assert StudyFolder(out, config()).epochs(range(8)) == {0: 6, 1: 6, 2: 6}
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    drive(config(), out)
    assert_exact(config(), out)


def read_only(out: Path) -> None:
    """Take the right to write in a folder, from root too, who may write everywhere."""
    for folder in (Path(), out, *out.rglob("*/")):
        folder.chmod(0o555)
    os.seteuid(os.getuid() or 65534)


def full(_out: Path) -> None:
    """Let no file grow beyond 1 KB (Python ignores the signal that comes first)."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))


@pytest.mark.parametrize(
    ("harm", "reason"),
    [(shutil.rmtree, "No such file"), (read_only, "Permission denied"), (full, "File too large")],
)
def test_a_disk_that_fails_ends_a_run_and_the_same_run_goes_on_when_it_is_mended(
    harm, reason, own_folder
):
    out = Path("out")  # relative: only its owner may enter what is above
    try:
        with pytest.raises(OutputError, match=rf"cannot write .*{reason}"):
            drive(config(), out, backend=Eventful(5, lambda: harm(out)))
    finally:
        os.seteuid(os.getuid())
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    for folder in (Path(), *Path().rglob("*/")):
        folder.chmod(0o755)
    drive(config(), out)
    assert_exact(config(), out)


# lost workers


class Dying(ThisProcess):
    """Its worker dies while it has one of the `deadly` trials, after it has saved the others."""

    deaths = ConnectionError

    def __init__(self, *deadly: int):
        super().__init__("cpu")
        self.deadly, self.tried = set(deadly), []

    def submit(self, place, job, on_epoch):
        self.tried.append(job.numbers)
        if not self.deadly & set(job.numbers):
            return super().submit(place, job, on_epoch)
        future = Future()
        future.set_exception(ConnectionError("gone"))
        return future


def test_a_deadly_trial_is_found_and_given_up_and_all_others_are_done(out, caplog):
    engine = Dying(4)
    study = drive(config(), out, engine=engine)
    assert engine.tried == [(0, 1, 2), *[(3, 4, 5)] * 3, (3,), *[(4,)] * 3, (5,), (6, 7)]
    assert study.given_up == {4: "its worker died 3 times (gone)"}
    states = {t.user_attrs["trial"]: t.state for t in stock_study(config(), out).get_trials()}
    assert states == dict.fromkeys({*range(8)} - {4}, TrialState.COMPLETE)
    assert drive(config(), out).given_up == {}, "another run tries once more"
    assert_exact(config(), out)


def test_a_failure_that_is_no_death_ends_the_run_and_costs_no_trial(out):
    engine = Dying(4)
    engine.deaths = ()
    with pytest.raises(ConnectionError):
        drive(config(), out, engine=engine)
    drive(config(), out)
    assert {trial.state for trial in stock_study(config(), out).get_trials()} == {
        TrialState.COMPLETE
    }
    assert_exact(config(), out)


def test_deaths_count_only_without_a_save_between_them(out):
    class Saving(Dying):
        def submit(self, place, job, on_epoch):
            if len(self.tried) < 6:
                save_at(len(self.tried) + 1, 0, out)
            else:
                self.deadly = set()
            return super().submit(place, job, on_epoch)

    engine = Saving(0)
    assert drive(config(trials=1), out, engine=engine).given_up == {}
    assert len(engine.tried) == 7
    assert_exact(config(trials=1), out)


class Hungry(NumpyBackend):
    """Has memory for two trials."""

    def start(self, config, settings, saved):
        if len(settings) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return super().start(config, settings, saved)


def test_too_many_fused_trials_are_halved_until_they_fit(out, caplog):
    drive(config(), out, backend=Hungry(), fuse=8)
    assert (
        "for 8 trials, continuing with 4" in caplog.text
        and "for 4 trials, continuing with 2" in caplog.text
    )
    assert_exact(config(), out)


# real processes


@pytest.mark.slow
def test_workers_whose_driver_is_killed_save_and_leave(out):
    long = config(trials=4, epochs=100_000, patience=100_000)
    process = started(long, out, engine=2, fuse=1, save_seconds=1e6)
    wait_for(lambda: len(workers_of(process)) == 2)
    workers = workers_of(process)
    # one waits for the end of the driver
    wait_for(lambda: all(_threads(pid) > 1 for pid in workers))
    process.kill()
    process.communicate()
    wait_for(lambda: not any(map(_threads, workers)))


def _threads(pid: int) -> int:
    """0 for a process that has ended."""
    with suppress(OSError):
        return int(re.search(r"Threads:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])
    return 0


def test_the_share_is_that_of_the_whole_study_also_after_a_restart(monkeypatch):
    seen = []

    @contextmanager
    def bars():
        yield lambda title: lambda done, total: seen.append((title, done, total))

    done = iter([(40, 100), (70, 100), (60, 100), (90, 200)])
    monkeypatch.setattr(runner, "progress_bars", bars)
    monkeypatch.setattr(runner, "epochs_done", lambda study: next(done))
    monkeypatch.setattr(runner, "POLL_SECONDS", 0)
    with runner._progress(["a", "b"], quiet=False) as watch:
        watch(), watch()
    assert seen == [("epochs", 110, 200), ("epochs", 150, 300)]
