import fcntl
import gc
import itertools
import logging
import os
import signal
import weakref

import pytest
from helpers import assert_exact, config, cut_connections, reference, run_here, stock_study
from hypothesis import given
from hypothesis import strategies as st
from numpy_backend import NumpyBackend, NumpyTrials
from optuna.trial import TrialState

from optim_study.storage import open_storage
from optim_study.study import SharedStudy, open_study
from optim_study.worker import Begun, Claimed, EpochDone, Finished, Saved, next_group
from rhn.utils.interrupts import Interrupted


class Events(list):
    """Collects a worker's events; `at_epoch` does something once, when a fused has reached an epoch."""

    def __init__(self, at_epoch: int | None = None, then=None):
        super().__init__()
        self.at_epoch, self.then = at_epoch, then

    def __call__(self, event):
        self.append(event)
        if isinstance(event, EpochDone) and event.epoch == self.at_epoch:
            self.at_epoch = None
            self.then()

    def of(self, kind):
        return [event for event in self if type(event) is kind]


def states(*place):
    return [trial.state for trial in stock_study(*place).get_trials()]


@pytest.mark.parametrize(("fuse", "objective"), [(1, "train"), (3, "valid"), (8, "train"), (50, "train")])
def test_fusing_changes_no_result(fuse, objective, out):
    run_here(config(objective=objective), out, fuse=fuse, save_epochs=5)
    assert_exact(config(objective=objective), out)


def test_the_study_covers_early_stopping_divergence_and_the_last_epoch():
    """So that every test here that calls `assert_exact` means all three."""
    outcomes = [reference(config(), n).outcome for n in range(8)]
    assert any(outcome.diverged for outcome in outcomes)
    assert any(not outcome.diverged and outcome.epochs < 24 for outcome in outcomes)
    assert any(outcome.epochs == 24 for outcome in outcomes)


def test_a_finished_study_is_left_as_it_is(out):
    run_here(config(), out)
    journal = (out / "journal.log").read_bytes()
    events = Events()
    run_here(config(), out, on_event=events)
    assert events == []
    assert (out / "journal.log").read_bytes() == journal


def test_events_tell_the_whole_story(out):
    events = Events()
    run_here(config(trials=5), out, fuse=2, save_epochs=6, on_event=events)
    assert [tuple(event.epochs) for event in events.of(Claimed)] == [(0, 1), (2, 3), (4,)]
    assert sorted(event.number for event in events.of(Finished)) == list(range(5))
    assert all(event.outcome == reference(config(), event.number).outcome for event in events.of(Finished))
    assert {event.epoch % 6 for event in events.of(Saved)} == {0}
    first = list(itertools.takewhile(lambda event: type(event) is not Claimed, events[1:]))
    epochs = [event.epoch for event in first if type(event) is EpochDone]
    assert epochs == list(range(1, len(epochs) + 1))
    assert {event.study for event in events} == {"rhn-depth2"}


def test_a_worker_says_once_a_study_what_computes_the_recurrence(out):
    class Telling(NumpyBackend):
        def recurrence(self, fused):
            return f"{len(fused.live())} bowls"

    events = Events()
    run_here(config(trials=5), out, fuse=2, on_event=events, backend=Telling())
    assert [event.recurrence for event in events.of(Begun)] == ["2 bowls"]


def test_seconds_decide_only_how_often_is_saved(out):
    events = Events()
    run_here(config(), out, fuse=8, save_seconds=0, on_event=events)
    assert [event.epoch for event in events.of(Saved)] == list(range(1, 24))
    assert_exact(config(), out)


def test_a_trainers_error_frees_its_trials_for_the_next(out):
    def fail():
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        run_here(config(), out, fuse=3, save_epochs=2, on_event=Events(5, fail))
    events = Events()
    run_here(config(), out, fuse=3, on_event=events)
    assert events[0] == Claimed(study="rhn-depth2", epochs={0: 4, 1: 4, 2: 4})
    assert_exact(config(), out)


def test_trials_of_living_workers_are_left_to_them_and_those_of_dead_ones_come_first(out, storage):
    theirs = open_study(config(), out, open_storage(storage, out))
    assert [claim.number for claim in theirs.claim(3)] == [0, 1, 2]
    run_here(config(), out, storage, fuse=2, wait=False)
    assert states(config(), out, storage) == [TrialState.RUNNING] * 3 + [TrialState.COMPLETE] * 5
    theirs.close()
    events = Events()
    run_here(config(trials=10), out, storage, fuse=5, on_event=events)
    assert tuple(events[0].epochs) == (0, 1, 2, 8, 9)
    assert_exact(config(trials=10), out, storage)


def test_a_trial_finished_between_the_look_and_the_lock_is_not_claimed(out, storage, monkeypatch):
    theirs, ours = (open_study(config(), out, open_storage(storage, out)) for _ in range(2))
    (claim,) = theirs.claim(1)
    seen_before = ours._unfinished()
    theirs.finish(claim, reference(config(), 0), lambda path, entries: path.touch())
    theirs.close()
    monkeypatch.setattr(ours, "_unfinished", lambda: seen_before)
    assert [claim.number for claim in ours.claim(3)] == [1, 2, 3]
    ours.close()


def test_models_are_compared_and_written_by_one_worker_at_a_time(out):
    study = open_study(config(), out, open_storage(None, out))
    (claim,) = study.claim(1)

    def write(path, metadata):
        with (out / "locks" / "rhn-depth2" / "mutex.lock").open() as mutex, pytest.raises(BlockingIOError):
            fcntl.flock(mutex, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.touch()

    study.finish(claim, reference(config(), 0), write)
    study.close()


def test_a_trial_that_lacks_only_its_completion_is_not_trained_again(out, monkeypatch):
    monkeypatch.setattr(SharedStudy, "complete", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_here(config(), out)
    monkeypatch.undo()
    events = Events()
    run_here(config(), out, on_event=events)
    assert (events[0].number, events[0].outcome) == (0, reference(config(), 0).outcome)
    assert all(0 not in event.epochs for event in events.of(Claimed))
    assert_exact(config(), out)


def test_laggards_are_brought_level_and_join_the_others(out):
    """As after a kill between the saves of one group: trial 0 at epoch 8, trial 1 at 4, trial 2 not saved at all."""
    study = open_study(config(), out, open_storage(None, out))
    study.claim(3)
    for epoch, number in [(8, 0), (4, 1)]:
        fused = NumpyTrials(config(), {number: config().settings(number)}, {})
        while fused.epoch < epoch:
            fused.run_epoch()
        study.folder.save_state(number, fused.state(number))
    study.close()
    events = Events()
    run_here(config(), out, fuse=3, on_event=events)
    together = [(event.epoch, event.live) for event in events.of(EpochDone)][:12]
    expected = [(e, (2,)) for e in range(1, 5)] + [(e, (1, 2)) for e in range(5, 9)]
    assert [(epoch, tuple(sorted(live))) for epoch, live in together[:8]] == expected
    assert [tuple(sorted(live)) for _, live in together[8:]] == [(0, 1, 2)] * 4
    assert_exact(config(), out)


@given(st.dictionaries(st.integers(0, 99), st.integers(-1, 9), min_size=1))
def test_the_next_group_is_all_that_lag_most_until_they_are_level(epochs):
    numbers, until = next_group(epochs)
    lag = min(epochs.values())
    assert {epochs[n] for n in numbers} == {lag}
    others = [epoch for n, epoch in epochs.items() if n not in numbers]
    assert until == (min(others) if others else None)
    assert until is None or until > lag


def test_a_damaged_state_costs_time_not_exactness(out, caplog):
    with pytest.raises(ZeroDivisionError):
        run_here(config(), out, fuse=3, save_epochs=2, on_event=Events(7, lambda: 1 / 0))
    path = out / "rhn-depth2" / "trials" / "0001.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    events = Events()
    with caplog.at_level(logging.WARNING):
        run_here(config(), out, fuse=3, on_event=events)
    assert events[0].epochs == {0: 6, 1: 0, 2: 6}
    assert "trial 1 starts again from epoch 0" in caplog.text
    assert_exact(config(), out)


def test_a_trial_taken_over_without_its_state_says_so_and_comes_out_the_same(tmp_path, postgres, caplog):
    """Two machines without a shared folder."""
    with pytest.raises(ZeroDivisionError):
        run_here(config(), tmp_path / "here", postgres, save_epochs=2, on_event=Events(7, lambda: 1 / 0))
    with caplog.at_level(logging.WARNING):
        run_here(config(), tmp_path / "there", postgres)
    assert "trial 0 of study rhn-depth2 was begun elsewhere" in caplog.text
    assert_exact(config(), tmp_path / "there", postgres)


def test_ctrl_c_ends_the_epoch_saves_everything_and_says_how_to_go_on(out):
    events = Events(5, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Interrupted, match=r"3 running trials saved in .*rhn-depth2; run the same command again"):
        run_here(config(), out, fuse=3, on_event=events)
    assert events[-1] == Saved(study="rhn-depth2", epoch=5, numbers=(0, 1, 2))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    events = Events()
    run_here(config(), out, fuse=3, on_event=events)
    assert events[0].epochs == {0: 5, 1: 5, 2: 5}
    assert_exact(config(), out)


def test_ctrl_c_while_waiting_for_others_stops_too(out):
    theirs = open_study(config(trials=1), out, open_storage(None, out))
    theirs.claim(1)
    previous = signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(Interrupted, match="run the same command again"):
            run_here(config(trials=1), out, poll_seconds=0.01)
    finally:
        signal.signal(signal.SIGALRM, previous)
        theirs.close()


@pytest.mark.parametrize("application", ["optim-study locks", "%"])
def test_connections_cut_in_the_middle_of_training_lose_nothing(application, out, postgres, caplog):
    """That of the locks, or all."""
    events = Events(5, lambda: cut_connections(postgres, application))
    run_here(config(), out, postgres, fuse=3, save_epochs=3, on_event=events)
    assert "was cut: connecting again" in caplog.text
    assert [tuple(event.epochs) for event in events.of(Claimed)] == [(0, 1, 2), (3, 4, 5), (6, 7)]  # none given up
    assert_exact(config(), out, postgres)


def test_a_trial_whose_lock_went_to_another_worker_is_given_up(out, postgres):
    from optim_study.postgres import PostgresLocks  # which needs psycopg

    theirs = PostgresLocks(postgres, "rhn-depth2")

    def lose_trial_1():
        cut_connections(postgres, "optim-study locks")
        theirs.lost()
        assert theirs.try_lock(1)

    events = Events(5, lose_trial_1)
    run_here(config(), out, postgres, fuse=3, save_epochs=3, wait=False, on_event=events)
    assert events.of(Saved)[1] == Saved(study="rhn-depth2", epoch=6, numbers=(0, 2))
    assert events.of(Claimed)[1].epochs == {0: 6, 2: 6, 3: 0}
    assert states(config(), out, postgres) == [TrialState.COMPLETE, TrialState.RUNNING] + [TrialState.COMPLETE] * 6
    theirs.close()
    events = Events()
    run_here(config(), out, postgres, on_event=events)
    assert events[0].epochs == {1: 3}
    assert_exact(config(), out, postgres)


def test_a_worker_that_comes_late_finds_its_trials_finished_and_goes_on(out, postgres):
    """It lost its locks without noticing, and another worker finished the whole study meanwhile."""

    def another_does_everything():
        cut_connections(postgres, "optim-study locks")
        run_here(config(), out, postgres, fuse=8)

    events = Events(5, another_does_everything)
    run_here(config(), out, postgres, fuse=3, save_epochs=3, on_event=events)
    assert events.of(Finished) == []
    assert_exact(config(), out, postgres)


def test_a_report_or_an_end_that_comes_after_the_trial_was_finished_is_no_error(out, storage):
    theirs = open_study(config(trials=1), out, open_storage(storage, out))
    (claim,) = theirs.claim(1)
    theirs.release()
    run_here(config(trials=1), out, storage)
    record = reference(config(), 0)
    theirs.report(claim, record.curve)
    theirs.finish(claim, record, lambda path, metadata: None)
    theirs.close()
    assert_exact(config(trials=1), out, storage)


def test_a_worker_holds_no_fused_trials_that_are_over(out):
    """The second fused trials of a study need the memory of the first ones."""
    started = []

    class Watching(NumpyBackend):
        def start(self, *arguments):
            assert [each() for each in started] == [None] * len(started)
            started.append(weakref.ref(fused := super().start(*arguments)))
            return fused

    gc.disable()
    try:
        run_here(config(), out, backend=Watching(), fuse=2, save_epochs=5)
    finally:
        gc.enable()
    assert len(started) == 4
