"""A run of a study: batches, saves, interrupts, lost workers, damaged files and databases that go
away change no result, and each trial is in the storage once.
"""

import os
import re
import signal
import threading
from concurrent.futures import Future
from contextlib import closing, suppress
from functools import partial
from itertools import count
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
import torch
from numpy_backend import NumpyBackend, NumpyTrials, OneThread
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState, create_trial
from small_studies import (
    NUMPY,
    assert_exact,
    command_of,
    config,
    drive,
    reference,
    save_at,
    started,
    stock_study,
    wait_for,
    workers_of,
)
from sqlalchemy.exc import OperationalError

from optim_study.driver import Driver, Study
from optim_study.engines import Processes, ThisProcess
from optim_study.folder import StudyFolder, rows_in
from optim_study.storage import Storage, open_storage, points_of
from optim_study.work import Job, OutOfMemory, work
from rhn.errors import DataError, InvalidInputError, OutputError, RhnError
from rhn.training.interrupts import Interrupted
from rhn.training.state import LOCK, locked

LONG = config(trials=6, epochs=100_000, patience=100_000, seed=26)  # low rates: none diverges


class Eventful(NumpyBackend):
    """Calls a function with the trials that train, before each of their epochs."""

    def __init__(self, before=lambda trials: None):
        self.started = []  # the trials and epoch of each start

        class Trials(NumpyTrials):
            def run_epoch(self):
                before(self)
                super().run_epoch()

        self.fused = Trials

    def start(self, config, settings, saved):
        done = len(next(iter(saved.values())).curve) - 1 if saved else 0
        self.started.append((tuple(settings), done))
        return super().start(config, settings, saved)


@pytest.mark.parametrize(("fuse", "objective"), [(1, "train"), (3, "valid"), (50, "train")])
def test_fusing_changes_no_result(fuse, objective, tmp_path, storage):
    rows = drive(config(objective=objective), tmp_path, storage, fuse=fuse).rows.values()
    assert_exact(config(objective=objective), tmp_path, storage)
    ends = {"diverged" if row.diverged else row.epochs < 24 for row in rows}
    assert ends == {"diverged", True, False}, "by divergence, early and at the last epoch"


def test_two_processes_of_one_thread_have_the_results_of_one(tmp_path):
    with closing(Processes(["cpu", "cpu"])) as engine:
        drive(config(), tmp_path, backend=OneThread(), engine=engine)
    assert_exact(config(), tmp_path)


def test_a_worker_adds_nothing_to_a_study_that_another_run_has_ended(tmp_path):
    late = Eventful(lambda trials: trials.epoch == 5 and drive(config(), tmp_path))
    work(Job(StudyFolder(tmp_path, config()), (4, 5, 6), late, save_seconds=0.0))
    assert_exact(config(), tmp_path)


def test_a_worker_saves_when_the_seconds_between_two_saves_are_over(tmp_path, monkeypatch):
    """A clock that moves by five seconds at each look: one an epoch, and one after a save."""
    clock = SimpleNamespace(monotonic=partial(next, count(100.0, 5.0)))
    monkeypatch.setattr("optim_study.work.time", clock)
    folder, saved = StudyFolder(tmp_path, config(epochs=6)), []
    backend = Eventful(lambda trials: saved.append(folder.epochs([0]).get(0)))
    work(Job(folder, (0,), backend, save_seconds=10.0))
    assert saved == [None, 1, 1, 3, 3, 5]


def test_ctrl_c_ends_the_epoch_and_saves_everything(tmp_path):
    backend = Eventful(lambda trials: trials.epoch == 5 and os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Interrupted, match=r"3 running trials are saved in .*rhn-depth2"):
        drive(config(), tmp_path, backend=backend, save_seconds=1e6)
    assert StudyFolder(tmp_path, config()).epochs(range(8)) == {0: 6, 1: 6, 2: 6}
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    drive(config(), tmp_path)
    assert_exact(config(), tmp_path)


# files


def test_damaged_files_are_renamed_and_their_trials_are_trained_again(tmp_path):
    """After kills, also between two saves, of workers that had finished trials 6 and 7."""
    folder, study = save_at(8, 0, tmp_path), config()
    state, model = folder.file(0, ".safetensors"), folder.file(1, "-best.safetensors")
    NUMPY.write_best(model, NumpyTrials(study, {1: study.settings(1)}, {}), 1, **study.trial(1))
    damaged = {path: path.read_bytes()[:-1] for path in (state, model)}
    save_at(8, 2, tmp_path).save_record(reference(study, 2))
    save_at(4, 3, tmp_path)
    save_at(0, 4, tmp_path)
    record = folder.file(2, ".json").read_text()
    assert folder.epochs([0, 1, 2]) == {0: 8, 2: 8}
    low = re.sub('"test_nll": [^,}]+', '"test_nll": "low"', record)
    other = record.replace('"epochs": 24', '"epochs": 25')
    for number, content in enumerate(("", record[:-9], low, other), 2):
        damaged[folder.file(number, ".json")] = content.encode()
    for path, content in damaged.items():
        path.write_bytes(content)
    work(Job(folder, (6, 7), NUMPY))
    (folder.trials / ".0001-best.rhn-partial-12345678.safetensors").write_bytes(b"half")
    backend = Eventful()
    drive(study, tmp_path, backend=backend, fuse=8)
    assert backend.started == [((2,), 8), ((3,), 4), ((4,), 0), ((0, 1, 5), 0)]
    assert_exact(study, tmp_path)
    for path, content in damaged.items():
        (kept,) = folder.trials.glob(f"{path.name}.damaged-*")
        assert kept.read_bytes() == content


def test_a_record_that_is_damaged_while_the_run_goes_on_costs_its_trial_and_no_more(
    tmp_path, monkeypatch
):
    study, save, saved = config(), StudyFolder.save_record, []

    def save_and_damage_the_first(folder, record):
        save(folder, record)
        saved.append(record.row.trial)
        if len(saved) == 1:
            path = folder.file(record.row.trial, ".json")
            path.write_text(path.read_text()[:-9])

    monkeypatch.setattr(StudyFolder, "save_record", save_and_damage_the_first)
    drive(study, tmp_path, fuse=1)
    assert_exact(study, tmp_path)
    assert saved == [0, 0, *range(1, 8)]


def test_a_state_of_another_study_and_a_file_without_a_number_are_of_no_trial(tmp_path):
    folder = save_at(8, 1, tmp_path)
    (folder.trials / "notes.json").write_text("{}")
    assert folder.recorded() == set() and folder.epochs([1, 2]) == {1: 8}
    assert StudyFolder(tmp_path, config(epochs=25)).epochs([1, 2]) == {}


def test_what_cannot_be_read_is_an_error_and_not_taken_for_damaged(tmp_path):
    folder = StudyFolder(tmp_path, config())
    for ending, load in ((".safetensors", folder.load_state), (".json", folder.load_record)):
        folder.file(7, ending).mkdir(parents=True)  # which root cannot read either
        with pytest.raises(DataError, match=r"is a folder|cannot be read"):
            load(7)


def test_a_disk_full_at_any_write_ends_a_run_and_the_same_run_goes_on_later(tmp_path, monkeypatch):
    """The writes of a run are its fsyncs and its renames."""
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


class Died(RhnError):
    """As if the worker had died."""


def test_a_deadly_trial_is_given_up_and_all_others_are_done(tmp_path):
    def die(trials):
        job = len(backend.started)
        # a death after a new save is the first one
        if 4 in trials.live() or (job < 5 and trials.epoch == (job + 1) // 2):
            raise Died("gone")

    engine, backend = ThisProcess(["cpu"]), Eventful(die)
    engine.deaths = Died
    study = drive(config(), tmp_path, backend=backend, engine=engine)
    tried = [*[(0, 1, 2)] * 5, *[(3, 4, 5)] * 3, (3,), *[(4,)] * 3, (5,), (6, 7)]
    assert [numbers for numbers, _ in backend.started] == tried
    assert study.given_up == {4: "its worker died 3 times (gone)"}
    assert sorted(study.rows) == [0, 1, 2, 3, 5, 6, 7]
    with pytest.raises(Died):  # a failure that is no death ends the run, and costs no trial
        drive(config(), tmp_path, backend=backend)
    assert drive(config(), tmp_path).given_up == {}, "another run tries once more"
    assert_exact(config(), tmp_path)


def test_deaths_are_counted_from_the_last_trial_that_ended(tmp_path):
    """Without saves: the third death comes after the end of a trial, and is the first one again."""

    def die(trials):
        job = len(backend.started)
        if job < 3 or (job == 3 and len(trials.live()) < 3):
            raise Died("gone")

    engine, backend = ThisProcess(["cpu"]), Eventful(die)
    engine.deaths, study = Died, config(trials=3)
    drive(study, tmp_path, backend=backend, engine=engine, save_seconds=1e6)
    assert_exact(study, tmp_path)
    *first, last = (numbers for numbers, _ in backend.started)
    assert first == [(0, 1, 2)] * 3 and len(last) == 2


class LastWords(ThisProcess):
    """An engine whose worker dies after each job."""

    deaths = Died

    def submit(self, place, job, on_epoch):
        super().submit(place, job, on_epoch)
        died = Future()
        died.set_exception(Died("gone"))
        return died


def test_a_worker_that_dies_after_its_last_record_has_left_nothing_to_do(tmp_path, caplog):
    backend = Eventful()
    drive(config(), tmp_path, backend=backend, engine=LastWords(["cpu"]))
    assert_exact(config(), tmp_path)
    assert len(backend.started) == 3 and caplog.messages == []


def test_one_trial_that_does_not_fit_ends_the_run(tmp_path, caplog):
    def full(trials):
        raise torch.OutOfMemoryError("out of memory")

    backend = Eventful(full)
    with pytest.raises(OutOfMemory):
        drive(config(trials=3), tmp_path, backend=backend, engine=ThisProcess(["cpu"] * 2))
    assert [len(numbers) for numbers, _ in backend.started] == [3, 1, 1]
    words = "study rhn-depth2: too little memory for 3 trials, continuing with 1"
    assert caplog.messages == [words], "no worker is left that could save"


def test_two_trials_that_do_not_fit_together_run_one_by_one(tmp_path):
    def full(trials):
        if len(trials.live()) > 1:
            raise torch.OutOfMemoryError("out of memory")

    backend = Eventful(full)
    drive(config(trials=2), tmp_path, backend=backend, fuse=2)
    assert [len(numbers) for numbers, _ in backend.started] == [2, 1, 1]
    assert_exact(config(trials=2), tmp_path)


def test_too_many_fused_trials_are_halved_until_they_fit(tmp_path):
    def full(trials):
        if len(trials.live()) > 2:
            raise torch.OutOfMemoryError("out of memory")

    backend = Eventful(full)
    drive(config(), tmp_path, backend=backend, fuse=8)
    assert [len(numbers) for numbers, _ in backend.started] == [8, 4, 2, 2, 2, 2]
    assert_exact(config(), tmp_path)


def test_status_counts_trials(tmp_path, answer):
    def status(folder):
        (row,) = answer("optim-study status", folder)
        return row, [row[name] for name in ("running", "interrupted", "complete", "trials")]

    with locked(tmp_path / "stopped"):
        open_storage(None, tmp_path / "stopped").make([config()])
        for number in range(6):
            save_at(4, number, tmp_path / "stopped")
        assert status(tmp_path / "stopped")[1] == [6, 0, 0, 8]
    row, counts = status(tmp_path / "stopped")
    assert counts == [0, 6, 0, 8] and row["best"] is row["checkpoint"] is None
    rows = drive(config(seed=1), tmp_path / "another").rows.values()
    lock = tmp_path / "another" / LOCK
    lock.unlink()  # as of a copied folder
    row, counts = status(tmp_path / "another")
    assert not lock.exists()
    assert counts == [0, 0, 8, 8] and row["best"] == min(r.best_train_nll for r in rows)
    assert row["diverged"] == sum(r.diverged for r in rows) > 0
    assert row["checkpoint"] == str(tmp_path / "another/rhn-depth2/best.safetensors")


def test_a_record_that_is_gone_when_it_is_read_is_left_out(tmp_path):
    folder = save_at(0, 0, tmp_path)
    folder.save_record(reference(config(), 0))
    (folder.trials / "0001.json").symlink_to("gone")
    assert [row.trial for row in rows_in(tmp_path)] == [0]


@pytest.mark.slow
def test_workers_of_a_killed_driver_leave(tmp_path, monkeypatch, answer):
    monkeypatch.setenv("STUDY_PAUSE", "0.05")
    process, folder = started(LONG, tmp_path, engine=2), StudyFolder(tmp_path, LONG)
    wait_for(lambda: len(folder.epochs(range(6))) == 6)
    (before,) = answer("optim-study status", tmp_path)
    workers = workers_of(process)
    process.kill()
    process.communicate()
    wait_for(lambda: not any(map(command_of, workers)))
    (after,) = answer("optim-study status", tmp_path)
    assert (before["running"], after["interrupted"]) == (6, 6)


def test_the_epochs_of_a_study_are_those_done_and_all_that_the_others_may_need(tmp_path):
    four = config(trials=4, epochs=1000)
    study = Study(four, save_at(9, 2, tmp_path, trials=4, epochs=1000), 2)
    study.rows = {n: reference(four, n).row for n in range(2)}
    spent = sum(row.epochs for row in study.rows.values())
    assert study.epochs() == (spent + 9, spent + 1000 + 1000)


@pytest.mark.parametrize("save_seconds", [0.0, 1e6], ids=["saved at each epoch", "not saved"])
@pytest.mark.parametrize("saved", [0, 9], ids=["from the start", "from a saved state"])
def test_every_epoch_of_a_run_is_counted_once(saved, save_seconds, tmp_path, monkeypatch):
    """With a clock by which each look is late enough to be shown."""
    clock = SimpleNamespace(monotonic=partial(next, count(100.0, 10.0)))
    monkeypatch.setattr("optim_study.driver.time", clock)
    study, shown = config(trials=3), []
    if saved:
        save_at(saved, 0, tmp_path, trials=3)
    with locked(tmp_path):
        storage = open_storage(None, tmp_path)
        storage.make([study])
        one = Study(study, StudyFolder(tmp_path, study), 1)
        driver = Driver([one], storage, ThisProcess(["cpu"]), [NUMPY], save_seconds)
        driver.run(lambda done, total: shown.append((done, total)))
    epochs = sum(row.epochs for row in one.rows.values())
    done = [each for each, _ in shown]
    assert done == sorted(done) and {*done} == {*range(saved, epochs + 1)}
    assert shown[0][1] == 3 * 24 and shown[-1] == (epochs, epochs)


def test_optuna_reads_a_study_while_it_runs_and_a_larger_total_extends_it(tmp_path, storage):
    def look():
        study = stock_study(config(), tmp_path, storage)
        assert {trial.state for trial in study.get_trials()} == {TrialState.COMPLETE}
        study.set_user_attr("note", "from a dashboard")

    drive(config(trials=3), tmp_path, storage)
    before = (stored := stock_study(config(), tmp_path, storage)).get_trials()
    assert stored.direction == optuna.study.StudyDirection.MINIMIZE
    ranges = {k: getattr(v, "choices", v) for k, v in before[0].distributions.items()}
    assert ranges.pop("transform_bias") == (0.0, -1.0, -2.0, -3.0)
    ends = {k: (v.low, v.high, v.log) for k, v in ranges.items()}
    assert ends == {"learning_rate": (1e-4, 1.0, True), "init_std": (1e-8, 1e-2, True)}
    drive(config(trials=3), tmp_path, storage, engine=SimpleNamespace(places=["cpu"]))  # no jobs
    looking = Eventful(lambda trials: trials.epoch == 5 and look())
    drive(config(), tmp_path, storage, backend=looking)
    assert_exact(config(), tmp_path, storage)
    assert stock_study(config(), tmp_path, storage).get_trials()[:3] == before
    with pytest.raises(InvalidInputError, match="trials of rhn-depth2 is 3: expected 8 or more"):
        drive(config(trials=3), tmp_path, storage)
    with pytest.raises(
        InvalidInputError, match="data is other here and toy there; expected another --"
    ):
        drive(config(data="other"), tmp_path, storage)
    other = optuna.create_study(study_name=config(depth=4).name, storage=stored._storage)
    other.add_trial(create_trial(value=1.0))
    with pytest.raises(DataError, match="was not made by optim-study"):
        drive(config(depth=4), tmp_path, storage)
    assert open_storage(storage, tmp_path, create=False).configs() == [config()]


@pytest.mark.parametrize(
    ("epochs", "every"), [(1, 1), (99, 1), (100, 2), (199, 2), (200, 3), (1000, 11)]
)
def test_a_curve_in_the_storage_has_at_most_100_points_at_equal_epochs(epochs, every):
    curve = np.column_stack([np.arange(epochs + 1.0), -np.arange(epochs + 1.0)])
    wanted = {n: -float(n) for n in range(epochs + 1) if n % every == 0}
    valid = config(epochs=epochs, objective="valid")
    assert points_of(curve, valid) == wanted and len(wanted) <= 100
    assert points_of(curve[:1], config(epochs=epochs)) == {0: 0.0}


def test_losses_that_are_not_finite_are_no_points_of_a_curve():
    curve = np.array([[3.0, 1.0], [np.nan, 1.0], [2.0, np.inf], [np.inf, 1.0]])
    assert points_of(curve, config()) == {0: 3.0, 2: 2.0}
    assert points_of(np.full((1, 2), np.nan), config()) == {}


def test_a_study_that_was_created_and_no_more_is_continued(tmp_path):
    """A kill after the creation of a study leaves it without its protocol."""
    out = tmp_path / "out"
    out.mkdir()
    storage = open_storage(None, out)
    made = optuna.create_study(study_name=config().name, storage=storage._backend)
    assert storage.configs() == []
    made.set_user_attr("protocol", config().protocol())
    assert storage.configs() == []
    other = optuna.create_study(study_name="another program's", storage=storage._backend)
    other.set_user_attr("trials", 3)
    assert storage.configs() == []
    drive(config(), out)
    assert_exact(config(), out)
    assert open_storage(None, out).configs() == [config()]


def test_a_trial_that_is_complete_is_not_added_again_beside_a_copy_that_runs(tmp_path):
    """A kill may come between the end of one copy and that of the other."""
    study, record = config(trials=2), reference(config(trials=2), 1)
    storage = open_storage(None, tmp_path)
    storage.make([study])
    storage.add(study, record)
    stored = stock_study(study, tmp_path)
    stored.add_trial(create_trial(state=TrialState.RUNNING, user_attrs={"trial": 1}))
    before = stored.get_trials()
    storage.add(study, record)
    assert stock_study(study, tmp_path).get_trials() == before
    assert [trial.state.name for trial in before] == ["COMPLETE", "RUNNING"]


class Away:
    """A storage that cannot be reached a number of times, and a clock that moves in its naps."""

    def __init__(self, times, error):
        self.times, self.error, self.now, self.tries = times, error, 5.0, 0

    def __call__(self):
        self.tries += 1
        if self.tries <= self.times:
            raise self.error
        return "connected"

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        assert self.tries < 100
        self.now += seconds


def caused(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        pytest.param(StorageInternalError("gone"), "gone", id="error"),
        pytest.param(
            caused(StorageInternalError("gone"), ValueError("no\n  route")), "no route", id="cause"
        ),
        pytest.param(
            caused(StorageInternalError("gone"), OperationalError("SELECT", {}, OSError("full"))),
            "full",
            id="cause of a database",
        ),
        pytest.param(OperationalError("SELECT", {}, OSError("shut")), "shut", id="database"),
    ],
)
def test_a_storage_that_does_not_answer_is_waited_for(error, reason, monkeypatch, caplog):
    """It is tried every half of a second, until the time is over."""
    says = f"the storage does not answer ({reason})"
    for times, wait in ((3, 2.0), (4, 2.0)):
        away = Away(times, error)
        monkeypatch.setattr("optim_study.storage.time", away)
        Storage(away, "the database", "--storage", wait)
        assert away.tries == times + 1
        assert [message.startswith(says[:-1]) for message in caplog.messages] == [True]
        caplog.clear()
    for times, wait, tries in ((5, 2.0, 5), (1, 0.0, 1)):
        away = Away(times, error)
        monkeypatch.setattr("optim_study.storage.time", away)
        with pytest.raises(OutputError, match=re.escape(says[:-1])):
            Storage(away, "the database", "--storage", wait)
        assert away.tries == tries
        caplog.clear()


def test_trials_of_several_schemes_have_their_scheme_in_the_storage(tmp_path):
    study = config(trials=4, init_schemes=("scaled", "orthogonal"))
    drive(study, tmp_path)
    trials = stock_study(study, tmp_path).get_trials()
    schemes = {t.user_attrs["trial"]: t.params["init_scheme"] for t in trials}
    assert schemes == {n: study.settings(n).init_scheme for n in range(4)}
    assert set(schemes.values()) == {"scaled", "orthogonal"}


def test_a_torn_last_line_of_a_journal_is_cut_off_and_a_damaged_one_refused(tmp_path, refused):
    drive(config(trials=3), tmp_path)
    journal = tmp_path / "journal.log"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code": 0, "wor')
    drive(config(), tmp_path)
    assert_exact(config(), tmp_path)
    damaged = whole + b'{"op_code":77}\n'
    journal.write_bytes(damaged)
    with pytest.raises(DataError, match=f"{journal} is damaged"):
        drive(config(), tmp_path)
    assert journal.read_bytes() == damaged
    journal.write_bytes(whole.replace(b'"epochs":24', b'"epochs":"x"'))
    says = "protocol cannot be read: epochs is 'x': expected a whole"
    refused("optim-study status", tmp_path, says=says)
    journal.write_text("no JSON\n")
    with pytest.raises(DataError, match=r"journal\.log is of another format"):
        drive(config(), tmp_path)


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("x", id="no address"),
        pytest.param("postgresql://me:a@cret@b/c", id="two @"),
        pytest.param("postgresql://me:cret@127.0.0.1:1/b", id="no server"),
        pytest.param("b://me:cret@c/d", id="database"),
    ],
)
def test_an_address_that_cannot_be_used_is_one_sentence_without_its_password(url, tmp_path):
    with pytest.raises((InvalidInputError, OutputError), match=r"storage (is|has|does)") as refusal:
        open_storage(url, tmp_path)
    assert "cret" not in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_trial_whose_answer_was_lost_is_complete_once(server, tmp_path, monkeypatch):
    """With an address as users write it."""
    storage = open_storage(server.url.replace("ql+psycopg", ""), tmp_path, 60.0)
    storage.make([config(trials=2)])
    lost, create = [], storage._backend._create_new_trial

    def lose_the_answer(*about):
        if len(lost) == 2:
            return create(*about)
        lost.append([create(*about), create(*about)])  # added twice, too
        raise StorageInternalError("server closed the connection")

    monkeypatch.setattr(storage._backend, "_create_new_trial", lose_the_answer)
    for number in range(2):
        storage.add(config(), reference(config(), number))
    trials = stock_study(config(), tmp_path, server.url).get_trials()
    found = sorted((trial.user_attrs["trial"], trial.state.name) for trial in trials)
    assert found == [(0, "COMPLETE"), (0, "FAIL"), (1, "COMPLETE"), (1, "FAIL")]


def test_a_run_outlives_cut_connections_and_a_server_that_goes_away(server, tmp_path):
    endings = [server.cut_connections, lambda: server.be_away(server.stop, 1.0)]
    backend = Eventful(lambda trials: trials.epoch == 5 and endings and endings.pop()())
    drive(config(), tmp_path, server.url, backend=backend, wait=60.0)
    assert_exact(config(), tmp_path, server.url)
    assert not endings


@pytest.mark.slow
def test_a_server_that_stays_away_ends_a_run_and_the_next_waits_for_it(server, tmp_path):
    backend = Eventful(lambda trials: trials.epoch == 5 and server.stop())
    with pytest.raises(OutputError, match="the storage does not answer"):
        drive(config(), tmp_path, server.url, backend=backend, wait=1.0)
    threading.Timer(1.0, server.start).start()
    drive(config(), tmp_path, server.url, wait=60.0)
    assert_exact(config(), tmp_path, server.url)
