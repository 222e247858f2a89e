"""How far a run is and how long it will take: numbers first, then lines and a table."""

import itertools
import re
from io import StringIO

import pytest
from helpers import config, reference
from rich.console import Console

from optim_study.plan import Planned
from optim_study.progress import Display, Progress, estimate_line, study_line
from optim_study.results import Counts
from optim_study.worker import Begun, Claimed, EpochDone, Finished
from rhn.utils.progress import duration


def planned_study(arch="rhn", depth=4, parameters=5700, epochs=100):
    study = config(arch=arch, depth=depth, trials=10, epochs=epochs)
    return Planned(config=study, hidden_size=9, parameters=parameters, complete=0, fuse=5, memory=1)


def test_epochs_told_in_one_bundle_say_nothing_of_the_speed():
    ticks = itertools.count()
    progress = Progress([planned_study()], {}, clock=lambda: 1e-6 * next(ticks))
    for epoch in range(1, 9):
        progress.event(0, EpochDone(study="rhn-depth4", epoch=epoch, live=(0, 1)))
    assert progress.rate is None and progress.epochs_a_second("rhn-depth4") is None


def test_the_time_left_follows_from_the_first_epochs():
    now = [0.0]
    one, two = planned_study(), planned_study("dt-rnn", parameters=15_700)
    none = Counts(trials=10, complete=0, running=0, diverged=0, best=None)
    progress = Progress([one, two], {p.config.name: none for p in (one, two)}, jobs=2, clock=lambda: now[0])
    name = one.config.name
    progress.event(0, Claimed(study=name, epochs=dict.fromkeys(range(5), 0)))
    for epoch in range(1, 5):
        now[0] += 2.0
        assert progress.seconds_left() is None
        progress.event(0, EpochDone(study=name, epoch=epoch, live=(0, 1, 2, 3, 4)))
    # 5 trials x 10,000 units in 2 s, two workers; one: 10 x 100 - 5 x 4 trial-epochs, two: 10 x 100 of twice the cost
    assert progress.rate == pytest.approx(2 * 5 * 10_000 / 2)
    assert progress.seconds_left(one) == pytest.approx(980 * 10_000 / 50_000)
    assert progress.seconds_left() == pytest.approx((980 + 2000) * 10_000 / 50_000)
    assert "20 trials should take 10 min at most here" in estimate_line(progress)
    progress.event(0, Finished(study=name, number=0, outcome=reference(one.config, 0).outcome))
    progress.counts[name] = Counts(trials=10, complete=1, running=4, diverged=1, best=7.12345)
    assert study_line(progress, one) == (
        "rhn-depth4: 1 of 10 done, 4 running, 1 diverged, best 7.123\n"
        f"  0.5 epochs/s; at most {duration((900 - 16) / 5)} left, {duration((884 + 2000) / 5)} with the other studies"
    )


def test_trials_that_all_end_with_the_epoch_tell_no_speed():
    now, one = [0.0], planned_study(epochs=1)
    progress = Progress(
        [one], {one.config.name: Counts(trials=10, complete=0, running=0, diverged=0, best=None)}, clock=lambda: now[0]
    )
    for _ in range(9):
        now[0] += 2.0
        progress.event(0, EpochDone(study=one.config.name, epoch=1, live=()))
    assert progress.rate is None and progress.seconds_left() is None


def test_without_a_terminal_a_finished_trial_is_a_line_and_the_table_shows_every_study():
    now = [0.0]
    one = planned_study()
    state = {one.config.name: Counts(trials=10, complete=0, running=5, diverged=0, best=None)}
    progress, console = Progress([one], dict(state), clock=lambda: now[0]), Console(file=StringIO(), width=100)
    display = Display(progress, lambda: dict(state), live=False, console=console)
    display.tick()
    assert console.file.getvalue() == ""
    state[one.config.name] = Counts(trials=10, complete=1, running=4, diverged=0, best=7.5)
    now[0] += 5
    display.event(0, Finished(study=one.config.name, number=0, outcome=reference(one.config, 0).outcome))
    assert console.file.getvalue() == "rhn-depth4: 1 of 10 done, 4 running, 0 diverged, best 7.500\n"
    now[0] += 61
    display.tick()
    assert console.file.getvalue().count("\n") == 2, "a line a minute where nothing finishes"
    for worker in range(2):
        display.event(worker, Begun(study=one.config.name, recurrence=f"compiled {worker} " * 12))
    assert console.file.getvalue().count("rhn-depth4: recurrence compiled") == 1
    assert max(map(len, console.file.getvalue().splitlines())) <= 80
    console.print(display)
    assert re.search(r"rhn-depth4 +1/10 +4 +0 +7.500", console.file.getvalue())
