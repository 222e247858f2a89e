"""`check`: its rows and stars, what it prints, gives back and refuses."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from oracles import plain_losses, relative_error
from tables import for_each
from test_snapshot import Normalised, Weighted, flat, randomness
from torch import nn
from training_runs import N, T, other_words, sums
from zoo import LastState

from rhn.errors import InvalidInputError, UsersCodeError
from trainability import checks, races
from trainability.changes import LONGER, NEVER_STARRED, NONE, ROW_LABELS, SINGLE
from trainability.checks import Check, Row, check
from trainability.cures import cure
from trainability.facts import FACTS, Fact
from trainability.races import Race
from trainability.testing import assert_learns

STEPS = 50


def linear(scale=1.0):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(2 * T, 1))
    with torch.no_grad():
        model[1].weight.mul_(scale)
    return model


def checked(model=None, rate=1e-4, steps=STEPS, data=None, loss_fn=None, **how):
    model = model or linear()
    optimizer = torch.optim.SGD(model.parameters(), rate)
    torch.manual_seed(2)
    x, y = data or sums()
    return check(model, x, y, loss_fn or nn.MSELoss(), optimizer, steps=steps, **how)


@pytest.fixture(scope="module")
def slow():
    """A linear network with a rate that is too low."""
    return checked()


def test_the_row_none_is_a_plain_loop_to_the_bit():
    """The first half is read from the documented split: a permutation of the examples by seed 0."""
    found = checked()
    torch.manual_seed(2)
    x, y = sums()
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    held, rest = order[:40], order[40:].sort().values
    model = linear()
    sgd = torch.optim.SGD(model.parameters(), 1e-4)
    plain_losses(model, x[rest], y[rest], nn.MSELoss(), sgd, STEPS)
    with torch.no_grad():
        z = model(x[held[:20]]).double()
    error = relative_error(*(t.numpy() for t in (z, y[held[:20]], y[rest])))
    assert found.rows[0].label == NONE
    assert found.rows[0].error == pytest.approx(error, rel=1e-7)


def test_rows_stand_in_their_order_and_the_controls_have_no_star(slow):
    labels = [row.label for row in slow.rows]
    assert labels == [label for label in ROW_LABELS if label in labels]
    assert not {*slow.starred} & {*NEVER_STARRED}


def test_the_same_arguments_give_the_same_result(slow):
    assert str(checked()) == str(slow)


def test_facts_are_fourteen_and_those_of_a_sound_run_have_no_star(slow):
    assert tuple(fact.name for fact in slow.facts) == FACTS
    assert not any(fact.starred for fact in slow.facts)


def test_all_that_is_printed_are_literals_and_numbers(slow):
    classes = torch.arange(N) % 3
    x = sums()[0]
    for found in (
        slow,
        checked(LastState(3), data=(x, classes), loss_fn=nn.CrossEntropyLoss()),
        checked(rate=1e25),
        checked(data=(x, (classes > 0).float()[:, None]), loss_fn=nn.BCEWithLogitsLoss()),
        checked(data=(x, x[:, :, 0].sum(1, keepdim=True)),
                loss_fn=lambda z, y: torch.maximum(0.9 * (y - z), 0.1 * (z - y)).mean()),
    ):  # fmt: skip
        assert other_words(found) == set()
        assert found.entries == (3 if found.kind == "classes" else 1)


def test_a_check_is_read_back_from_json_and_arrays(slow, tmp_path):
    for name in ("a.json", "a.npz"):
        found = Check.load(slow.save(tmp_path / name))
        assert str(found) == str(slow) and found.facts == slow.facts and found.rows == slow.rows


def test_the_figure_has_a_dot_for_each_row(slow):
    ax = slow.plot()
    assert [text.get_text() for text in ax.get_yticklabels()] == [r.label for r in slow.rows]


class Stopped(Exception):
    pass


CALLS = [itertools.count()]


def whole(stop=None, after=10_000):
    """A run with batch normalisation, a loss with parameters, a schedule and a loader."""
    model = Normalised()
    loss_fn = Weighted(model)

    def loss(z, y):
        if next(CALLS[0]) > after and stop:
            raise stop
        return loss_fn(z, y)

    x, y = sums()
    generator = torch.Generator().manual_seed(3)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(x, y), 32, shuffle=True, generator=generator
    )
    weights = [*model.parameters(), loss_fn.weight]
    optimizer = torch.optim.Adam(weights, 1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 50)
    for _ in range(2):
        optimizer.zero_grad()
        loss_fn(model(x[:32]), y[:32]).backward()
        optimizer.step()
        schedule.step()
    return model, loader, loss, optimizer, schedule, loss_fn, generator


@for_each("stop", [None, Stopped, KeyboardInterrupt])
def test_everything_is_given_back_also_after_an_error_and_ctrl_c(stop, monkeypatch):
    CALLS[0] = itertools.count()
    model, loader, loss, optimizer, schedule, loss_fn, generator = whole(stop, after=200)
    monkeypatch.setattr("trainability.checks.refuse_kept_state", lambda *_: None)
    before = flat((model, loss_fn, optimizer, schedule)), randomness(model), generator.get_state()

    def run():
        check(model, loader, None, loss, optimizer, steps=20, scheduler=schedule)

    if stop is None:
        run()
    else:
        with pytest.raises(stop):
            run()
    after = flat((model, loss_fn, optimizer, schedule)), randomness(model), generator.get_state()
    assert before[:2] == after[:2] and torch.equal(before[2], after[2])


def race(base, error, *, other=None, kind="numbers", constant=1.0, noise=0.0, three=None):
    """A race whose rows have these mean errors on both halves."""
    rows = torch.linspace(-1, 1, 20, dtype=torch.double)
    both = lambda value, extra=0.0: tuple(value + extra * rows for _ in range(2))  # noqa: E731
    found = {(NONE, 0): both(base), ("row", 0): both(error, noise)}
    if other is not None:
        found["other", 0] = both(other)
    for seed in (1, 2):
        found[NONE, seed] = both(base)
        found["row", seed] = both(error if three is None else three, noise)
    self = object.__new__(Race)
    run = SimpleNamespace(score=SimpleNamespace(kind=kind))
    vars(self).update(run=run, found=found, constant=both(constant))
    rivals = [label for label, seed in found if not seed]
    return [bool(self.closing(["row"], half, rivals)) for half in (0, 1)]


def test_a_star_closes_80_percent_of_the_gap():
    assert race(0.95, 0.21, other=0.0) == [False, False]
    assert race(0.95, 0.18, other=0.0) == [True, True]
    assert race(0.95, 0.9) == [False, False]  # the lowest, but half of the error is left


def test_a_star_is_clear_by_two_standard_errors():
    deviation = torch.linspace(-1, 1, 20).std().item() / 20**0.5
    for ratio, starred in ((1.9, False), (2.1, True)):
        assert race(0.95, 0.05, noise=0.9 / (ratio * deviation))[0] is starred


def test_no_star_at_an_error_of_a_tenth_or_less():
    assert race(0.099, 0.0) == [False, False] and race(0.11, 0.0) == [True, True]
    # of a raw loss: at most a tenth of the gap of the untrained network is left
    assert race(0.049, 0.0, kind="raw", constant=0.5) == [False, False]
    assert race(0.051, 0.0, kind="raw", constant=0.5) == [True, True]
    assert race(-0.95, -1.0, kind="raw", constant=0.0) == [False, False]


def test_a_star_needs_three_seeds():
    assert race(0.95, 0.0, three=0.9) == [True, False]


def test_runs_without_a_finite_loss_count_as_the_constant_predictor():
    assert race(float("inf"), 0.1, other=0.0) == [True, True]
    assert race(float("inf"), 0.3, other=0.0) == [False, False]
    assert race(50.0, 3.0, other=0.0) == [False, False]
    assert race(0.95, float("inf"), other=0.0) == [False, False]


def test_paired_errors_are_compared_as_scipy_does():
    from scipy import stats

    a, b = torch.rand(30), torch.rand(30) + 0.1
    found = stats.ttest_rel(b.numpy(), a.numpy()).statistic
    assert races.is_below(a, b) == (found > 2) and not races.is_below(b, a)


def test_four_times_the_steps_is_the_only_row_with_more_steps():
    calls = []

    class Counted(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = linear()

        def forward(self, x):
            calls.append(self.training and torch.is_grad_enabled())
            return self.inner(x)

    found = checked(Counted(), steps=STEPS)
    ours = [row for row in found.rows if row.label not in ("everything", "a GRU of 64 units")]
    trained = len(ours) - 2 + 3 + 2 * (len(found.starred) > 0) + 2 * len(found.starred)
    assert sum(calls) == pytest.approx(trained * STEPS, abs=10)
    assert any(row.label == LONGER for row in ours)


def test_seconds_choose_a_part_of_the_steps(monkeypatch):
    """Of 3 rows of 0.02 s a step: 3 + 6 (none again, and four times the steps) + 2 (seeds)."""
    monkeypatch.setattr(checks, "CHANGES", {"a": None, "b": None})
    monkeypatch.setattr(checks, "train_run", lambda *_: None)
    monkeypatch.setattr(checks, "seconds_of", lambda work: 0.02 * checks.TIMED)
    own = SimpleNamespace(steps=800, seed=0, changed=lambda *_: 1)
    whole = 800 * 11 * 0.02
    for seconds, steps in ((1.01, 800), (0.99, 400), (0.26, 200), (0.126, 100)):
        assert checks.steps_within(own, seconds * whole) == steps
    with pytest.raises(InvalidInputError, match=r"seconds is 20: expected at least 22 for 100"):
        checks.steps_within(own, 20)
    own.steps = 390
    with pytest.raises(InvalidInputError, match=r"expected at least 21.3 for 97 steps$"):
        checks.steps_within(own, 21)  # 48 steps would fit


def test_seconds_are_printed_as_steps():
    assert checked(steps=100, seconds=1e6).steps == 100


def test_rows_whose_loss_is_not_finite_are_counted():
    found = checked(rate=1e25)
    assert found.rows[0].error == np.inf and found.facts[FACTS.index(FACTS[11])].starred
    assert f"note: {Check.texts[-1]}: " in str(found)
    assert not found.facts[1].starred


class OfSeveral(nn.Module):
    """Fails for a single example."""

    def __init__(self):
        super().__init__()
        self.inner = linear()

    def forward(self, x):
        assert len(x) > 1
        return self.inner(x)


def test_a_row_that_fails_is_left_out_and_counted():
    found = checked(OfSeveral())
    assert SINGLE not in {row.label for row in found.rows} and found.failed == 1
    assert f"note: {checks.FAILED}: 1" in str(found)


def test_a_schedule_that_ends_leaves_out_the_longer_row_only():
    def scheduled(steps, function=check):
        model = linear()
        optimizer = torch.optim.SGD(model.parameters(), 1e-4)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=STEPS + 1)
        data = sums()
        return function(model, *data, nn.MSELoss(), optimizer, steps=steps, scheduler=cycle)

    found = scheduled(STEPS)
    assert LONGER not in {row.label for row in found.rows} and found.failed == 1
    for function in (check, cure, assert_learns):
        with pytest.raises(UsersCodeError, match="the training raised ValueError: Tried to step"):
            scheduled(2 * STEPS, function)


def test_a_check_prints_its_facts_and_rows(snapshot):
    found = Check(
        examples=400, distinct=399, held_out=80, time_steps=12, kind="numbers", entries=1,
        optimizer="Adam", rates=(0.01, 0.001), steps=300, line="net.py:24: x / m", failed=0,
        facts=(Fact(FACTS[0], (29,), (0,)), Fact(FACTS[1], (0, 0, 0), (0, 0, 0)),
               Fact(FACTS[7], (-1.5, 30000.0), None), Fact(FACTS[12], None, None)),
        rows=(Row(NONE, 1.016, (1.0, 0.25, 1.0), False), Row(ROW_LABELS[4], 0.02, (0.0,) * 3, True),
              Row(LONGER, float("inf"), None, False)),
    )  # fmt: skip
    assert str(found) == snapshot
    assert found.starred == (ROW_LABELS[4],) and [fact.starred for fact in found.facts][:2] == [
        True,
        False,
    ]
