"""`check`: its rows and stars, what it prints, gives back and refuses."""

import itertools
import sys
import warnings
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from loops import SignSteps
from oracles import plain_losses, relative_error
from scipy.sparse.csgraph import connected_components
from test_snapshot import Normalised, Weighted, flat, randomness
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler, TensorDataset
from training_runs import N, T, other_words, prepared, run_of, sums
from user_modules import EachState, LastState

from rhn.errors import InvalidInputError, UsersCodeError
from rhn.utils.tables import PRINTED
from trainability import check_table, checks, races, stars
from trainability.changes import (
    CHANGES,
    EVERYTHING,
    IN_TRAINING,
    KEEPS_FIRST_LOSS,
    LONGER,
    NONE,
    ROW_LABELS,
    SINGLE,
    STARRABLE,
    TEN,
    TENTH,
    Known,
)
from trainability.check_table import Check, Row
from trainability.checks import check
from trainability.cures import Candidate, Cure, cure
from trainability.facts import FACTS, FINITE, FIRST_LOSS, LOOP, OF_Y, OTHERS, READ, WEIGHTS, Fact
from trainability.races import race_of
from trainability.snapshot import restored
from trainability.stars import Half, closing
from trainability.testing import assert_learns
from trainability.training import held_of, train_run

STEPS = 16


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


@pytest.mark.parametrize(
    ("count", "out"),
    [
        pytest.param(200, 40, id="5 x 32 training examples"),
        pytest.param(187, 37, id="4 x 32 and 22 training examples, halves of 18 and 19"),
        pytest.param(50, 20, id="30 training examples, fewer than a minibatch"),
    ],
)
def test_the_row_none_is_a_plain_loop_to_the_bit(count, out):
    """The first half is read from the documented split: a permutation of the examples by seed 0."""
    torch.manual_seed(2)
    x, y = sums(count)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    held, rest = order[:out], order[out:].sort().values
    found = checked(data=(x, y), batch_size=32)
    model = linear()
    sgd = torch.optim.SGD(model.parameters(), 1e-4)
    plain_losses(model, x[rest], y[rest], nn.MSELoss(), sgd, STEPS, size=min(32, len(rest)))
    first = held[: out // 2]
    with torch.no_grad():
        z = model(x[first]).double()
    error = relative_error(*(t.numpy() for t in (z, y[first], y[rest])))
    assert (found.examples, found.held_out, found.rows[0].label) == (count, out, NONE)
    assert found.rows[0].error == pytest.approx(error, rel=1e-7)


def test_a_loader_with_a_batch_sampler_has_the_rows_of_its_tensors_in_order():
    """187 examples: 11 x 16 and 11."""
    x, y = sums(187)
    batches = BatchSampler(SequentialSampler(x), 16, drop_last=False)
    loader = DataLoader(TensorDataset(x, y), batch_sampler=batches)
    found = checked(data=(loader, None), steps=12)
    wanted = checked(data=(x, y), steps=12, shuffle=False, batch_size=16)
    assert found.rows == wanted.rows


def test_rows_stand_in_their_order_and_the_controls_have_no_star(slow):
    labels = [row.label for row in slow.rows]
    assert labels == [label for label in ROW_LABELS if label in labels]
    assert {*slow.starred_rows} <= {*STARRABLE}


@pytest.mark.parametrize("defaults", [{}, {"lr": None}], ids=["no rate", "None"])
def test_a_run_without_a_learning_rate_has_all_rows_but_those_of_other_rates(defaults):
    model = linear()
    torch.manual_seed(2)
    x, y = sums()
    found = check(model, x, y, nn.MSELoss(), SignSteps(model.parameters(), **defaults), steps=STEPS)
    assert np.isnan(found.rates).all()
    labels = {row.label for row in found.rows}
    assert NONE in labels and not labels & {TENTH, TEN} and found.failures == ()


def test_the_same_arguments_give_the_same_result(slow):
    assert str(checked()) == str(slow)


def test_facts_are_the_same_and_those_of_a_sound_run_have_no_star(slow):
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
        checked(data=(x, x[:, :, 0].sum(1, keepdim=True)), loss_fn=pinball),
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


@pytest.mark.parametrize(
    "stop",
    [
        pytest.param(None, id="no error"),
        pytest.param(Stopped, id="an error"),
        pytest.param(KeyboardInterrupt, id="Ctrl-C"),
    ],
)
def test_everything_is_given_back_also_after_an_error_and_ctrl_c(stop, monkeypatch):
    CALLS[0] = itertools.count()
    model, loader, loss, optimizer, schedule, loss_fn, generator = whole(stop, after=100)
    monkeypatch.setattr("trainability.door.refuse_kept_state", lambda *_: None)
    before = flat((model, loss_fn, optimizer, schedule)), randomness(model), generator.get_state()

    def run():
        check(model, loader, None, loss, optimizer, steps=10, scheduler=schedule)

    if stop is None:
        run()
    else:
        with pytest.raises(stop):
            run()
    after = flat((model, loss_fn, optimizer, schedule)), randomness(model), generator.get_state()
    assert before[:2] == after[:2] and torch.equal(before[2], after[2])


GRU, ADAM, SHUFFLED = "a GRU of 64 units", "Adam 0.003, clip 1", "shuffled"


def rows_of(known, **how):
    """The rows of a race with these errors, by label."""
    race = prepared(known, **how)
    race.errors(NONE, 0)
    return {row.label: row for row in checks.rows_of(race)}


def starred(none, row, other=None, **how):
    """Whether a row has a star, beside none and one that cannot have one."""
    rows = rows_of({NONE: none, GRU: row, EVERYTHING: none if other is None else other}, **how)
    found = {label for label, each in rows.items() if each.starred}
    assert found <= {GRU}
    return bool(found)


def test_a_star_closes_80_percent_of_the_gap():
    assert not starred(0.95, 0.21, other=0.0)
    assert starred(0.95, 0.18, other=0.0)
    assert starred(0.75, 0.25, other=0.125)  # 80 % of 5 / 8
    assert not starred(0.75, 0.265625, other=0.125)
    assert not starred(0.4, 0.3, other=0.0, kind="raw", constant=0.5)
    assert not starred(0.5, 0.45, kind="raw", constant=1.5)  # a gap of 0.05 of 1.05
    assert starred(0.6, 0.45, kind="raw", constant=1.5)  # of 0.15
    assert not starred(0.95, 0.9)  # the lowest, but half of the error is left
    assert starred(0.5, 0.25) and not starred(0.5, 0.265625)
    assert not starred(0.5, 0.12, other=0.0)  # of the gap of none, not of the constant predictor


def test_a_row_with_the_errors_of_none_has_no_star():
    assert not starred(1.0, 1.0) and not starred(0.5, 0.5) and not starred(0.5, 0.75)
    assert not starred(0.5, 0.5, kind="raw")


def test_half_of_the_error_may_be_left_if_none_has_learned_nothing():
    """At the constant predictor or above it, 80 % of the gap suffice."""
    for none in (1.0, 1.5, float("inf")):
        assert starred(none, 0.7, other=0.65)
    assert not starred(0.95, 0.7, other=0.65)
    assert starred(0.95, 0.7, other=0.65, kind="raw")  # of a raw loss, always


def test_none_with_an_error_of_just_a_tenth_has_no_rival():
    """Two examples, whose mean error is exact."""
    for error, starred in ((0.1, []), (0.10001, [GRU])):
        none = torch.full((2,), error, dtype=torch.double)
        errors = {NONE: none, GRU: 0 * none}
        half = Half(errors, NONE, torch.ones_like(none), torch.arange(2), is_raw=False)
        assert closing(half, [GRU], [GRU]) == starred


def test_none_that_errs_as_the_constant_predictor_is_compared_by_its_own_errors():
    """Of examples: the differences from none are all 0.2, those from the constant are not."""
    none = torch.tensor([0.5, 1.5], dtype=torch.double).repeat(10)
    constant, groups = torch.ones_like(none), torch.arange(20)
    errors = {NONE: none, GRU: none - 0.2}
    assert closing(Half(errors, NONE, constant, groups, is_raw=False), [GRU], [GRU]) == [GRU]
    errors[NONE] = constant
    assert closing(Half(errors, NONE, constant, groups, is_raw=False), [GRU], [GRU]) == []


@pytest.mark.parametrize("row", [LONGER, EVERYTHING, IN_TRAINING, SINGLE])
def test_rows_that_are_no_change_of_one_part_have_no_star(row):
    rows = rows_of({NONE: 0.95, row: 0.0, GRU: 0.9})
    assert not any(each.starred for each in rows.values())


def test_more_steps_are_no_rival_of_a_change():
    """The gap is that to the lowest error of as many steps, on both halves."""
    rows = rows_of({NONE: 0.95, GRU: 0.4, EVERYTHING: 0.4, LONGER: 0.0})
    assert rows[GRU].starred
    assert not rows_of({NONE: 0.95, GRU: 0.4, EVERYTHING: 0.0})[GRU].starred


def test_the_lowest_error_of_the_other_half_is_one_of_its_own():
    """There the control is better, so that the row closes too little of the gap."""
    known = {NONE: 0.95, GRU: (0.1, (0.4,) * 3), EVERYTHING: (0.1, (0.0,) * 3)}
    assert not rows_of(known)[GRU].starred
    assert rows_of(known | {EVERYTHING: (0.1, (0.4,) * 3)})[GRU].starred


def test_every_row_that_closes_the_gap_has_a_star():
    rows = rows_of({NONE: 0.95, GRU: 0.05, ADAM: 0.06, SHUFFLED: 0.5})
    assert [label for label, row in rows.items() if row.starred] == [GRU, ADAM]


def test_rows_that_close_the_gap_and_none_are_repeated():
    rows = rows_of({NONE: 0.95, GRU: (0.1, (0.2, 0.3, 0.4)), ADAM: 0.9})
    seeds = {label: row.seeds for label, row in rows.items()}
    assert seeds == {NONE: (0.95,) * 3, GRU: pytest.approx((0.2, 0.3, 0.4)), ADAM: None}
    rows = rows_of({NONE: 0.95, GRU: 0.9, ADAM: 0.9})
    assert {row.seeds for row in rows.values()} == {None}


def test_the_errors_of_three_seeds_are_averaged():
    """Of none and of the row, each with its own seeds."""
    none, gru = (0.95, (0.9, 0.9, 0.6)), (0.0, (0.0, 0.0, 0.9))
    assert starred(none, gru, other=0.25)  # 0.8 and 0.3: 0.5 of 0.55
    assert not starred((0.95, (0.9, 0.4, 0.4)), gru, other=0.25)  # 0.57 and 0.3: more than half


def test_a_star_is_clear_by_two_standard_errors():
    deviation = torch.linspace(-1, 1, 20).std().item() / 20**0.5
    for ratio, clear in ((1.9, False), (2.1, True)):
        assert starred(0.95, 0.05, noise=0.9 / (ratio * deviation)) is clear


def test_equal_examples_are_one_observation_of_a_star():
    """Of 20 errors, the standard error is that of the means of 10 pairs of equal examples."""
    pairs = torch.arange(20) // 2
    means = torch.linspace(-1, 1, 20).reshape(10, 2).mean(1)
    deviation = means.std().item() / 10**0.5
    for ratio, clear in ((1.9, False), (2.1, True)):
        noise = 0.9 / (ratio * deviation)
        assert starred(0.95, 0.05, noise=noise, groups=pairs) is clear
        assert starred(0.95, 0.05, noise=noise)  # of 20 different examples


def test_no_star_at_an_error_of_a_tenth_or_less():
    assert not starred(0.099, 0.0) and starred(0.11, 0.0)
    # of a raw loss: at most a tenth of the gap of the untrained network is left
    assert not starred(0.0625, 0.0, kind="raw", constant=0.625)
    assert not starred(0.049, 0.0, kind="raw", constant=0.5)
    assert starred(0.051, 0.0, kind="raw", constant=0.5)
    assert not starred(-0.95, -1.0, kind="raw", constant=0.0)


BAD, GOOD = (0.9, 0.9, 0.9), (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("row", "has_star"),
    [
        pytest.param((0.0, GOOD), True, id="both halves"),
        pytest.param((0.0, BAD), False, id="first half only"),
        pytest.param((0.9, GOOD), False, id="other half only"),
        pytest.param((0.0, (0.0, 0.9, 0.9)), False, id="first seed only"),
        pytest.param((0.0, (0.0, 0.0, None)), False, id="a seed that raises"),
    ],
)
def test_a_star_holds_on_the_first_half_and_with_three_seeds_on_the_other(row, has_star):
    assert starred(0.95, row) is has_star


def test_runs_without_finite_weights_count_as_the_constant_predictor():
    assert starred(float("inf"), 0.1, other=0.0)
    assert not starred(float("inf"), 0.3, other=0.0)
    assert not starred(50.0, 3.0, other=0.0)
    assert not starred(0.95, float("inf"), other=0.0)


def test_paired_errors_are_compared_as_scipy_does():
    from scipy import stats

    a = torch.rand(30)
    for distance in (0.09, 0.11, 0.13, 0.15):
        b = torch.rand(30) + distance
        found = stats.ttest_rel(b.numpy(), a.numpy()).statistic
        every = torch.arange(30)
        assert stars.is_below(a, b, every) == (found > 2) and not stars.is_below(b, a, every)


@pytest.mark.parametrize("count", [2, 3, 4, 10])
def test_differences_by_chance_are_as_rare_with_few_groups_as_with_ten(count):
    """Of 20 errors in groups of equal examples; at factor 2, 3.8 % of ten are above."""
    groups = torch.arange(20) * count // 20
    draws = [torch.randn(2, count)[:, groups] for _ in range(3000)]
    wrong = sum(stars.is_below(low, high, groups) for low, high in draws) / len(draws)
    assert wrong == pytest.approx(0.038, abs=0.012)


def test_errors_that_are_equal_are_not_below():
    equal = torch.rand(20)
    assert not stars.is_below(equal, equal, torch.arange(20))


def test_the_deviation_of_differences_is_that_of_a_sample():
    """Ten differences 1 + d and 1 - d have the standard error d / 3: 2 of it at d = 3 / 2."""
    signs = torch.tensor([1.0, -1.0]).repeat(5)
    for deviation, below in ((1.49, True), (1.51, False), (1.55, False)):
        high = 1 + deviation * signs
        assert stars.is_below(torch.zeros(10), high, torch.arange(10)) is below


def test_one_group_has_no_standard_error():
    low, high = torch.zeros(20), torch.ones(20)
    assert stars.is_below(low, high, torch.arange(20) // 10)
    with warnings.catch_warnings(action="error"):  # torch warns of a deviation of one number
        assert not stars.is_below(low, high, torch.zeros(20, dtype=torch.long))


def test_the_groups_of_errors_are_those_of_equal_rows_of_x():
    x, y = sums(20)
    run = run_of(linear(), x.repeat_interleave(5, 0), y.repeat_interleave(5, 0), nn.MSELoss())
    held = held_of(run, run.data.halves[0])
    first = run.data.halves[0].x
    same = (first[:, None] == first).flatten(2).all(2)
    assert torch.equal(held.groups[:, None] == held.groups, same) and not same.all()


def pinball(z, y):
    return torch.maximum(0.9 * (y - z), 0.1 * (z - y)).mean()


@pytest.mark.parametrize("apart", [False, True], ids=["held out", "validation in random order"])
def test_minibatches_of_a_raw_loss_that_share_an_example_are_one_group(apart):
    x, y = (t.repeat_interleave(5, 0) for t in sums(40))
    how = {"validation": (x[:40], y[:40])} if apart else {}
    run = run_of(linear(), x, y, pinball, **how)
    held = held_of(run, run.data.halves[0])
    assert len(held.errors(run)) == len(held.groups) == 10 and held.size == 2
    rows = held.examples.x.reshape(10, 1, 2, 1, -1)
    shared = (rows == rows.reshape(1, 10, 1, 2, -1)).all(-1).any(-1).any(-1)
    count, groups = connected_components(shared.numpy())
    assert 1 < count < 10
    same = groups[:, None] == groups
    np.testing.assert_array_equal(held.groups[:, None] == held.groups, same)


def test_minibatches_of_a_raw_loss_of_different_examples_are_groups_of_their_own():
    run = run_of(linear(), *sums(), pinball)
    half = run.data.halves[0]
    held = held_of(run, half)
    assert held.groups.tolist() == [*range(10)] and torch.equal(held.examples.x, half.x)


def test_steps_that_are_done_are_counted_from_one():
    """Of none and all changes for 3 steps, and of four times the steps; rows may be repeated."""
    done = []
    checked(steps=3, progress=lambda *steps: done.append(steps))
    whole = 3 * (1 + len(CHANGES)) + 12
    assert done[:3] == [(1, whole), (2, whole), (3, whole)] and done == sorted(done)
    assert done[-1][0] == done[-1][1] >= whole


def test_rows_that_are_not_trained_yet_are_expected():
    race = prepared({NONE: 0.9})
    race.errors(NONE, 0)
    race.expect([(NONE, 0), (NONE, 1), (GRU, 0), (LONGER, 0)])
    assert race.count.expected == 0 + 1 + 1 + 4


def test_the_gap_of_a_raw_loss_is_that_of_the_untrained_network():
    """Of each half, in minibatches of 2; else that of the mean of the training targets."""
    model, (x, y) = linear(), sums()
    raw, squared = (run_of(model, x, y, loss_fn) for loss_fn in (pinball, nn.MSELoss()))
    for half in (0, 1):
        pair = (race_of(run, None, Known(), 1, 0) for run in (raw, squared))
        of_raw, of_squared = (race.constant[half] for race in pair)
        x, y = raw.data.halves[half].x, raw.data.halves[half].y
        with torch.no_grad():
            losses = [pinball(model(x[k : k + 2]), y[k : k + 2]) for k in range(0, 20, 2)]
        np.testing.assert_allclose(of_raw, torch.stack(losses), rtol=1e-5)
        errors = (y[:, 0] - raw.data.train.y.mean()).double().square()
        np.testing.assert_allclose(of_squared, errors / errors.mean(), rtol=1e-5)


class Centred(nn.Module):
    """Subtracts the mean over examples."""

    def forward(self, z):
        return z - z.mean(0)


class Small(nn.Module):
    """Fails for large numbers."""

    def forward(self, z):
        assert z.abs().max() < 100
        return z


class Different(nn.Module):
    """Fails for two equal examples."""

    def forward(self, z):
        assert len(z.unique()) == len(z)
        return z


@pytest.mark.parametrize(
    ("end", "known"),
    [
        pytest.param(nn.Sigmoid(), (False, 0.0, 1.0), id="range of outputs"),
        pytest.param(Centred(), (True, -np.inf, np.inf), id="other examples"),
        pytest.param(Small(), (False, -np.inf, np.inf), id="no range measured"),
        pytest.param(Different(), (False, -np.inf, np.inf), id="no equal examples measured"),
    ],
)
def test_rows_know_what_the_facts_have_measured(end, known):
    model = nn.Sequential(linear(), end)
    run = run_of(model, *sums(), nn.MSELoss(), batch_size=10)
    with restored(model, run.optimizer) as saved:
        found, _, _ = checks.measure_none(race_of(run, saved, Known(), 2, 0), ())
    of_facts = checks.known_of(found, ())
    assert (of_facts.mixes, of_facts.low, of_facts.high) == known


@pytest.mark.parametrize(
    ("loss_fn", "labels"),
    [
        pytest.param(nn.MSELoss(), {NONE, SINGLE, IN_TRAINING}, id="numbers"),
        pytest.param(pinball, {NONE, IN_TRAINING}, id="raw"),
    ],
)
def test_the_run_without_a_change_is_measured_in_three_ways(loss_fn, labels):
    """A raw loss, which may compare examples, is not measured of a single one."""
    run = run_of(linear(), *sums(), loss_fn)
    with restored(run.model, run.optimizer) as saved:
        race = race_of(run, saved, Known(), 2, 0)
        checks.measure_none(race, ())
    assert race.found.keys() == {(label, 0) for label in labels}


def test_the_rates_are_those_of_the_first_and_the_last_step():
    model = linear()
    sgd = torch.optim.SGD(model.parameters(), 0.5)
    schedule = torch.optim.lr_scheduler.ExponentialLR(sgd, 0.5)
    run = run_of(model, *sums(), nn.MSELoss(), sgd, scheduler=schedule)
    with restored(model, sgd, schedule) as saved:
        race = race_of(run, saved, Known(), 3, 0)
        assert checks.measure_none(race, ())[2] == (0.5, 0.125)


def test_four_times_the_steps_is_the_only_row_with_more_steps(monkeypatch):
    """A rate that is too low: only ten times the rate closes the gap, and is repeated with none."""
    asked, done, changed = [], {}, races.Race.changed

    def of_label(race, label, seed):
        asked.append((label, seed))
        return changed(race, label, seed)

    def trained(run, steps, seed):
        done[asked[-1]] = steps
        return train_run(run, steps, seed)

    monkeypatch.setattr(races.Race, "changed", of_label)
    monkeypatch.setattr(races, "train_run", trained)
    found = checked(rate=2e-3, steps=50)
    assert found.starred_rows == (TEN,)
    assert done == {
        (EVERYTHING, 0): 50,
        (GRU, 0): 50,
        (ADAM, 0): 50,
        ("inputs standardised", 0): 50,
        ("targets standardised", 0): 50,
        (TENTH, 0): 50,
        (TEN, 0): 50,
        ("torch's initial weights", 0): 50,
        (LONGER, 0): 200,
        (NONE, 1): 50,
        (NONE, 2): 50,
        (TEN, 1): 50,
        (TEN, 2): 50,
    }


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
    own.changed = lambda label, seed: None if label == "b" else 1  # 2 + 6 + 2
    for seconds, steps in ((1.01, 800), (0.99, 400)):
        assert checks.steps_within(own, seconds * 800 * 10 * 0.02) == steps
    own.changed = lambda *_: 1
    own.steps = 40  # no part of it has 50 steps
    assert checks.steps_within(own, 40 * 11 * 0.02 + 0.01) == 40
    monkeypatch.setattr(checks, "seconds_of", lambda work: 0.25 * checks.TIMED)
    own.steps = 800
    assert checks.steps_within(own, 800 * 11 * 0.25) == 800
    own.steps = 400  # an eighth of it has 50 steps
    assert checks.steps_within(own, 50 * 11 * 0.25) == 50
    monkeypatch.setattr(checks, "seconds_of", lambda work: 0.02 * checks.TIMED)
    own.steps = 390
    with pytest.raises(InvalidInputError, match=r"expected at least 21.3 for 97 steps$"):
        checks.steps_within(own, 21)  # 48 steps would fit


def test_the_slowest_row_is_repeated_in_the_time_of_a_check(monkeypatch):
    """A step of none takes 1/4 s, of others 3/4 and 1/2 s: 1.5 + 6 x 1/4 + 2 x 3/4 = 4.5 s."""
    monkeypatch.setattr(checks, "CHANGES", {"a": None, "b": None})
    monkeypatch.setattr(checks, "train_run", lambda *_: None)
    own = SimpleNamespace(steps=800, seed=0, changed=lambda *_: 1)
    for seconds, steps in ((3600, 800), (3599, 400)):
        times = iter((0.25, 0.75, 0.5))
        monkeypatch.setattr(checks, "seconds_of", lambda _, times=times: next(times) * checks.TIMED)
        assert checks.steps_within(own, seconds) == steps


def first_losses(found):
    return next(fact for fact in found.facts if fact.name == FIRST_LOSS)


def of_calls(calls):
    """A loss that grows with the number of its calls, which cannot be given back."""
    return lambda z, y: (z - y).square().mean() * (1 + 0.001 * next(calls))


def test_rows_with_another_first_loss_are_counted():
    """A loss counts its calls in an iterator, so that each row has another loss than none."""
    found = checked(loss_fn=of_calls(itertools.count()), steps=2)
    labels = {row.label for row in found.rows}
    fact = first_losses(found)
    assert fact.numbers == (len(labels & {*KEEPS_FIRST_LOSS}),) == (4,) and fact.starred


@pytest.mark.parametrize(
    "how",
    [
        pytest.param({}, id="sound"),
        pytest.param({"shuffle": False}, id="examples in order"),
        pytest.param({"clip_norm": 0.1}, id="clipped"),
        pytest.param({"rate": 1e25, "steps": 50}, id="weights that diverge"),
        pytest.param({"model": nn.Sequential(linear(), nn.Dropout(0.5))}, id="dropout"),
    ],
)
def test_rows_of_sound_runs_have_the_first_loss_of_none(how):
    fact = first_losses(checked(**{"steps": 2} | how))
    assert (fact.numbers, fact.starred) == ((0,), False)


def test_changes_of_network_data_loss_or_weights_have_another_first_loss():
    """Rows that are not marked differ from none in a run in which each has something to change."""
    torch.manual_seed(5)  # the row of torch's weights draws from seed 0
    model = nn.Sequential(LastState(), nn.Dropout(0.5))
    x, y = sums()
    sgd = torch.optim.SGD(model.parameters(), 0.1, weight_decay=0.1)
    run = run_of(model, 5 + 3 * x, 5 + 3 * y, nn.L1Loss(), sgd, shuffle=False)
    with restored(model, sgd) as saved:
        race = race_of(run, saved, Known(True, 0.0, 1.0), 1, 0)
        for label in (NONE, *CHANGES, LONGER):
            race.errors(label, 0)
    assert not race.failed
    losses = {label: loss for (label, _), loss in race.first_losses.items()}
    same = {label for label, loss in losses.items() if loss == losses[NONE]} - {NONE}
    assert same == {*KEEPS_FIRST_LOSS} & {*losses} and len(losses) >= 13


def test_losses_that_are_both_not_a_number_are_the_same():
    losses = {(NONE, 0): np.nan, (ADAM, 0): np.nan, (LONGER, 0): 1.0, (GRU, 0): 1.0}
    race = replace(prepared({}), first_losses=losses)
    assert race.other_first_losses() == 1
    losses |= {(NONE, 1): 1.0, (ADAM, 1): 2.0, (LONGER, 2): 3.0}
    assert race.other_first_losses() == 2  # Adam with its second seed
    losses = {(NONE, 0): 1.0, (ADAM, 0): np.nan, (LONGER, 0): 1.0}
    assert replace(race, first_losses=losses).other_first_losses() == 1


def test_the_number_of_classes_does_not_count_the_one_that_is_ignored():
    y = torch.arange(N * T).reshape(N, T) % 3
    y[:, 4:] = 255

    def loss_fn(z, y):
        return nn.functional.cross_entropy(z.transpose(1, 2), y, ignore_index=255)

    found = checked(EachState(3), data=(sums()[0], y), loss_fn=loss_fn, steps=2)
    assert (found.kind, found.entries, found.failed) == ("classes", 3, 0)


def divided(z, y):
    """The squared error over the targets that are not 9; 0 / 0 if there are none."""
    counted = (y != 9).to(z)
    return ((z - y).square() * counted).sum() / counted.sum()


class Unscaled(torch.optim.SGD):
    """Leaves steps out whose gradient is not finite, as the scaler of mixed precision does."""

    def step(self, closure=None):
        grads = [p.grad for group in self.param_groups for p in group["params"]]
        if all(grad.isfinite().all() for grad in grads if grad is not None):
            super().step()


def test_rows_go_on_after_a_loss_that_is_not_finite():
    """Minibatches of 2, of which every fourth has only targets that the loss ignores."""
    torch.manual_seed(2)
    x, y = sums()
    y[torch.arange(N) % 2 == 0] = 9
    model = linear()
    plain = torch.optim.SGD(model.parameters(), 0.01)
    broken = check(model, x, y, divided, plain, steps=60, batch_size=2)
    going = check(model, x, y, divided, Unscaled(model.parameters(), 0.01), steps=60, batch_size=2)
    of_broken, of_going = (
        next(fact.numbers for fact in found.facts if fact.name == FINITE)
        for found in (broken, going)
    )
    assert of_broken[0] == 1 and of_broken[1:] == of_going[1:] and 6 < of_going[0] < 24
    assert broken.rows[0].error == np.inf and going.rows[0].error < 0.9
    assert broken.line == going.line != ""


CALLED = 0


def of_a_global(z, y):
    """A loss that grows with the number of its calls, which is a variable of this file."""
    global CALLED
    CALLED += 1
    return (z - y).square().mean() * (1 + 0.001 * CALLED)


def test_rows_have_the_same_loss_if_it_counts_its_calls_in_a_global():
    fact = first_losses(checked(loss_fn=of_a_global))
    assert (fact.numbers, fact.starred, CALLED) == ((0,), False, 0)


def test_sequences_of_one_step():
    found = checked(LastState(), data=sums(steps=1), steps=8)
    facts = {fact.name: fact.numbers for fact in found.facts}
    assert found.time_steps == 1 and facts[READ] == (1,) and not found.failed


@pytest.mark.parametrize(("each", "steps"), [(0.0, 100), (1.0, 50)], ids=["short", "long"])
def test_seconds_choose_the_steps_of_a_check(each, steps, monkeypatch):
    """A step takes no time; or a second, and all rows as many seconds as there are."""
    monkeypatch.setattr(checks, "seconds_of", lambda work: each * checks.TIMED)
    assert checked(steps=100, seconds=50 * 20 * each + 1).steps == steps


def test_rows_whose_weights_are_not_finite_are_counted():
    found = checked(rate=1e25)
    facts = {fact.name: fact for fact in found.facts}
    assert found.rows[0].error == np.inf and facts[FINITE].starred
    assert not {SINGLE, IN_TRAINING} & {row.label for row in found.rows}
    assert "note: rows whose error is not finite: " in str(found)
    assert not facts[WEIGHTS].starred


def test_a_raw_loss_of_minus_infinity_is_not_finite(slow):
    row = replace(slow.rows[0], error=-np.inf)
    assert replace(slow, rows=(row,)).notes()["rows whose error is not finite"] == 1


class Hiding(nn.Module):
    """Returns 0 for an output that is not finite."""

    def __init__(self):
        super().__init__()
        self.inner = linear()

    def forward(self, x):
        return self.inner(x).nan_to_num(0.0, 0.0, 0.0)


def test_weights_that_are_not_finite_have_an_infinite_error_also_if_outputs_are_finite():
    rows = {row.label: row.error for row in checked(Hiding(), rate=1e25).rows}
    assert rows[NONE] == rows["ten times the rate"] == rows[LONGER] == np.inf
    assert np.isfinite(rows[ADAM])


class OfSeveral(nn.Module):
    """Fails for a single example."""

    def __init__(self):
        super().__init__()
        self.inner = linear()

    def forward(self, x):
        if len(x) == 1:
            raise ValueError("one example\nof several")
        return self.inner(x)


def test_a_row_that_fails_is_left_out_and_counted():
    """And shown with the first line of its error."""
    found = checked(OfSeveral())
    assert SINGLE not in {row.label for row in found.rows} and found.failed == 1
    assert found.failures == (check_table.Failure(SINGLE, "ValueError: one example"),)
    text = found.whole()
    assert f"note: {check_table.FAILED}: 1" in str(found)
    assert [line.split() for line in text.splitlines()].count(
        [*SINGLE.split(), "ValueError:", "one", "example"]
    ) == 1


def test_a_schedule_that_ends_leaves_out_the_longer_row_only():
    def scheduled(steps, function=check):
        model = linear()
        optimizer = torch.optim.SGD(model.parameters(), 1e-4)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=STEPS + 1)
        data = sums()
        return function(model, *data, nn.MSELoss(), optimizer, steps=steps, scheduler=cycle)

    found = scheduled(STEPS)
    assert LONGER not in {row.label for row in found.rows}
    assert [each.label for each in found.failures] == [LONGER]
    for function in (check, cure, assert_learns):
        with pytest.raises(UsersCodeError, match="the training raised ValueError: Tried to step"):
            scheduled(2 * STEPS, function)


def test_a_check_prints_its_facts_and_rows(snapshot):
    found = Check(
        examples=400, distinct=399, held_out=80, time_steps=12, kind="numbers", entries=1,
        optimizer="Adam", rates=(0.01, 0.001), steps=300, line="net.py:24: x / m", failed=0,
        facts=(Fact(OTHERS, (29,), (0,)), Fact(WEIGHTS, (0, 0, 0), (0, 0, 0)),
               Fact(OF_Y, (-1.5, 30000.0), None), Fact(LOOP, None, None)),
        rows=(Row(NONE, 1.016, (1.0, 0.25, 1.0), False), Row(ROW_LABELS[4], 0.02, (0.0,) * 3, True),
              Row(LONGER, float("inf"), None, False)),
    )  # fmt: skip
    assert str(found) == snapshot
    assert found.whole() == snapshot
    assert found.starred_facts == (OTHERS,) and found.starred_rows == (ROW_LABELS[4],)
    assert found.starred == (OTHERS, ROW_LABELS[4])


@pytest.mark.parametrize(
    ("facts", "starred", "printed"),
    [
        pytest.param(1, (), (1, [0, 4]), id="none and the lowest"),
        pytest.param(1, (3, 5), (1, [0, 3, 4, 5]), id="rows with a star"),
        pytest.param(1, (4,), (1, [0, 4]), id="the lowest has a star"),
        pytest.param(9, (3,), (7, [0, 3, 4]), id="ten in all"),
    ],
)
def test_a_check_prints_its_stars_none_and_the_lowest_row(facts, starred, printed):
    errors = [1.0, 0.9, 0.5, 0.4, 0.25, 0.75, float("inf")]
    rows = [Row(ROW_LABELS[k], error, None, k in starred) for k, error in enumerate(errors)]
    found = replace(
        OF_CHECK,
        facts=tuple(Fact(name, (k,), (k % 2 * k,)) for k, name in enumerate(FACTS[: 2 * facts], 1)),
        rows=tuple(rows),
    )
    assert len(found.starred_facts) == facts and len(found.starred_rows) == len(starred)
    of_facts, _, of_rows, _ = found.short()
    count, places = printed
    assert [row[0] for row in of_facts.rows] == [*found.starred_facts[:count]]
    assert [row[0] for row in of_rows.rows] == [ROW_LABELS[k] for k in places]
    left = 2 * facts + len(errors) - count - len(places)
    assert f"\n{left} more rows: " in str(found)


def test_of_rows_with_equal_errors_a_check_prints_the_first_and_no_fact_is_left_out():
    """Many rows of a sound classifier have no wrong class."""
    rows = tuple(Row(label, 0.0, None, False) for label in ROW_LABELS[: PRINTED + 2])
    of_facts, _, of_rows, _ = replace(OF_CHECK, rows=rows).short()
    assert [row[0] for row in of_facts.rows] == [OTHERS]
    assert [row[0] for row in of_rows.rows] == [NONE]


ROWS = (Row(NONE, 0.9, (0.9, 0.8, 1.0), False), Row(LONGER, 0.5, None, False))
PAIRS = (Candidate("yours", 1.0, 8, 0.9, (0.9, 0.8, 1.0), False),)
OF_CHECK = Check(
    examples=4, distinct=4, held_out=2, time_steps=1, kind="numbers", entries=1, optimizer="SGD",
    rates=(0.1, 0.1), steps=8, line="", failed=0, rows=ROWS, facts=(Fact(OTHERS, (2,), (0,)),),
)  # fmt: skip
OF_CURE = Cure(kind="numbers", time_steps=1, rows=PAIRS)


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(OF_CHECK, id="check"),
        pytest.param(OF_CURE, id="cure"),
    ],
)
def test_a_data_frame_has_a_row_for_each_row_and_a_column_for_each_of_its_fields(
    found, monkeypatch
):
    """A stand-in for pandas, which is optional, returns what it gets."""
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=list))
    frame = found.to_frame()
    assert len(frame) == len(found.rows)
    for line, row in zip(frame, found.rows, strict=True):
        assert line == {field.name: getattr(row, field.name) for field in fields(row)}
    with pytest.raises(InvalidInputError, match=r"has no arrays: expected to_frame\(\)"):
        found.to_xarray()


@pytest.mark.parametrize(
    ("found", "lines"),
    [
        pytest.param(
            OF_CHECK,
            [
                "row,yours 1,sound 1,star,error,seed 1,seed 2,seed 3",
                f"{OTHERS},2,0,1,,,,",
                f"{NONE},,,0,0.9,0.9,0.8,1.0",
                f"{LONGER},,,0,0.5,,,",
            ],
            id="check",
        ),
        pytest.param(
            OF_CURE,
            [
                "initial weights,rate x,steps,error,seed 1,seed 2,seed 3,star",
                "yours,1.0,8,0.9,0.9,0.8,1.0,0",
            ],
            id="cure",
        ),
    ],
)
def test_a_csv_file_has_a_line_for_each_fact_and_row(found, lines, tmp_path):
    assert found.csv(tmp_path / "found.csv").read_text().splitlines() == lines
    assert len(found.to_dict()["table"]) == len(lines) - 1


def test_a_check_is_drawn_with_a_line_for_each_row_and_a_cure_has_no_picture():
    figure = OF_CHECK.figure()
    (ax,) = figure.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == [row.label for row in ROWS]
    for draw in (OF_CURE.plot, OF_CURE.figure):
        with pytest.raises(InvalidInputError, match=r"^Cure has no picture: expected its table$"):
            draw()


@pytest.mark.parametrize("name", [pytest.param(name, id=name) for name in check_table.MEANING_OF])
def test_the_meaning_of_a_fact_or_row_is_a_sentence_of_its_paragraph_on_the_page(name):
    page = (Path(__file__).parents[2] / Check.page).read_text()
    paragraph = page.partition(f"### {name}\n")[2].partition("\n#")[0]
    assert check_table.MEANING_OF[name] in " ".join(paragraph.split())


def test_the_meanings_of_those_with_a_star_are_printed_and_of_no_others():
    model = nn.Sequential(linear(), nn.BatchNorm1d(1))
    found = checked(model, rate=2e-3, steps=50)
    assert found.starred_facts
    for text in (str(found), found.whole()):
        shown = {name for name, meaning in check_table.MEANING_OF.items() if meaning in text}
        assert shown == {*found.starred}


def test_as_many_steps_as_are_done_are_expected_at_least():
    reported = []
    count = races.StepCount(lambda *steps: reported.append(steps))
    count.expect(3)
    count.reach(2)
    count.reach(5)
    assert reported == [(2, 3), (5, 5)]
