"""`watch` counts the facts of a training loop as it stands."""

import numpy as np
import pytest
import torch
from loops import STEPS, SignSteps, facts_of, train
from torch import nn

import trainability
from trainability.watching.loop_facts import (
    CALLED,
    CHANGED,
    EVALUATION,
    FOREIGN,
    LOSSES,
    MINIBATCHES,
    NOT_FINITE,
    OPTIMISER_STEPS,
    OPTIMIZERS,
    PASSES,
    REUSED,
    STATES,
)
from trainability.watching.loop_result import (
    AFTER_BACKWARD,
    AT_STEP,
    FIRST_RATE,
    LAST_RATE,
    LoopResult,
    OptimizerRow,
)
from trainability.watching.steps import is_power_of_two, is_read


def test_a_sound_loop_has_no_star():
    found = facts_of(train)
    assert found.starred == ()
    assert found.fact(OPTIMISER_STEPS) == (STEPS,)
    assert found.fact(PASSES) == (STEPS, 0)
    assert found.fact(CALLED) == (6, 0, 0, 0)
    assert found.fact(MINIBATCHES) == (STEPS, STEPS, 1)


@pytest.mark.parametrize(
    ("fault", "name", "numbers"),
    [
        ("no zero_grad", REUSED, (6, STEPS - 1)),
        ("weights of another model", FOREIGN, (6,)),
    ],
)
def test_a_fault_has_its_star(fault, name, numbers):
    found = facts_of(train, fault)
    assert found.starred == (name,)
    assert found.fact(name) == numbers


def steps_of(make, loss_of, *, count=3, x=None):
    """The facts of steps of a layer, of which the first tensor is trained. loss_of: the loss of
    the layer and its outputs.
    """
    torch.manual_seed(0)
    layer = make()
    sgd = torch.optim.SGD([next(layer.parameters())], 0.1)
    x = torch.ones(4, 3) if x is None else x
    with trainability.watch() as seen:
        for _ in range(count):
            sgd.zero_grad()
            loss_of(layer, layer(x)).backward()
            sgd.step()
    return seen.result()


def test_a_loop_that_leaves_gradients_alone_has_equal_norms_after_backward_and_at_the_step():
    """They are read at steps 2 to 101 of 120, and at step 111."""
    found = steps_of(lambda: nn.Linear(3, 1), lambda layer, z: z.mean(), count=120)
    (row,) = found.optimizers
    unread = np.flatnonzero(np.isnan(row.after_backward))
    assert unread.tolist() == [0, *range(101, 110), *range(111, 120)]
    numbers = row.numbers()
    assert numbers[AFTER_BACKWARD] == numbers[AT_STEP] == pytest.approx(3**0.5)
    first, last = found.fact(LOSSES)  # each is 0.3 less than the one before; of 12 and of 12
    assert first - last == pytest.approx(0.3 * 108, rel=1e-4)


def test_norms_are_medians_over_the_steps_with_both():
    nan, rates = np.nan, np.array([5.0, 4.0, 3.0, 2.0, 1.0])
    after, at_step = np.array([nan, 1.0, 2.0, 7.0, nan]), np.array([9.0, 0.1, 0.3, nan, nan])
    row = OptimizerRow("SGD", 2, 5, after, at_step, rates)
    numbers = row.numbers()
    assert (numbers[AFTER_BACKWARD], numbers[AT_STEP]) == (1.5, 0.2)
    assert (numbers[FIRST_RATE], numbers[LAST_RATE]) == (5.0, 1.0)
    table = LoopResult(facts=(), optimizers=(row, row), losses=np.ones(5)).whole()
    assert table.count(AFTER_BACKWARD) == 1 and table.count("SGD") == 2


def test_a_gradient_into_which_numbers_are_written_is_a_new_one():
    weight = torch.nn.Parameter(torch.ones(3))
    sgd = torch.optim.SGD([weight], 0.1)
    with trainability.watch() as seen:
        for _ in range(3):
            weight.square().sum().backward()
            sgd.step()
            weight.grad.mul_(0.5)  # a momentum of the user's own
    assert seen.result().fact(REUSED) == (0, 0)


def changed_between_steps(shapes, change, steps=3):
    """The fact of weights of these shapes that are changed after each step."""
    weights = [torch.nn.Parameter(torch.ones(shape)) for shape in shapes]
    sgd = torch.optim.SGD(weights, 0.1)
    with trainability.watch() as seen:
        for _ in range(steps):
            sgd.zero_grad()
            sum(weight.sum() for weight in weights).backward()
            sgd.step()
            change(weights)
    return seen.result().fact(CHANGED)


SMALL, LARGE = (3,), (257, 256)


@pytest.mark.parametrize(
    ("shapes", "changed"),
    [
        pytest.param([SMALL], [0], id="the only one"),
        pytest.param([SMALL, SMALL, SMALL], [1, 2], id="two of three"),
        pytest.param([SMALL, LARGE], [0], id="small beside large"),
        pytest.param([SMALL, LARGE, LARGE], [2], id="one of two large"),
        pytest.param([LARGE, SMALL], [], id="none"),
    ],
)
def test_weights_that_are_changed_between_steps_are_counted(shapes, changed):
    def negate(weights):
        for k in changed:
            weights[k].data.neg_()

    assert changed_between_steps(shapes, negate) == (len(changed), 2 if changed else 0)


@pytest.mark.parametrize(
    ("change", "count"),
    [
        pytest.param(lambda weights: weights[0].data.neg_(), 101, id="by data"),
        pytest.param(lambda weights: weights[0].detach().neg_(), 119, id="in place"),
    ],
)
def test_changes_by_data_are_seen_at_the_first_100_steps_and_each_tenth_one(change, count):
    """Of 119 changes: 1 to 100, and 110."""
    assert changed_between_steps([SMALL], change, steps=120) == (1, count)


@pytest.mark.parametrize(
    ("use", "numbers"),
    [
        pytest.param(lambda layer, z: layer(z), (3, 3), id="with its graph"),
        pytest.param(lambda layer, z: layer(z.detach()), (3, 0), id="detached"),
        pytest.param(lambda layer, z: layer(z.clone()), (0, 0), id="a copy"),
        pytest.param(lambda layer, z: nn.Tanh()(z), (0, 0), id="by a module without weights"),
        pytest.param(torch.no_grad()(lambda layer, z: layer(z)), (0, 0), id="without gradients"),
    ],
)
def test_calls_that_get_an_output_from_before_the_last_pass_are_counted(use, numbers):
    layer = nn.Linear(3, 3)
    with trainability.watch() as seen:
        for _ in range(3):
            z = layer(torch.ones(2, 3))
            z.sum().backward()
            use(layer, z)
    assert seen.result().fact(STATES) == numbers
    assert seen.result().fact(PASSES) == (3, 3)


@pytest.mark.parametrize(
    ("detached", "numbers"), [((0, 1), (3, 0)), ((0,), (3, 3)), ((1,), (3, 3)), ((), (3, 3))]
)
def test_one_part_of_a_state_that_has_its_graph_counts(detached, numbers):
    layer = nn.LSTMCell(3, 3)
    with trainability.watch() as seen:
        for _ in range(3):
            state = layer(torch.ones(2, 3))
            state[0].sum().backward()
            layer(
                torch.ones(2, 3), [s.detach() if k in detached else s for k, s in enumerate(state)]
            )
    assert seen.result().fact(STATES) == numbers


def test_an_input_that_is_returned_as_it_was_is_no_output():
    """Beside a sparse output, which has no memory of its own."""

    class Passing(nn.Linear):
        def forward(self, x):
            z = super().forward(x)
            return z, x, z.detach().to_sparse()

    found = steps_of(lambda: Passing(3, 1), lambda layer, made: made[0].sum())
    assert found.fact(STATES) == (0, 0)


@pytest.mark.parametrize(
    ("part", "count"),
    [
        pytest.param(lambda: nn.Dropout(0.5).eval(), 3, id="dropout"),
        pytest.param(lambda: nn.Dropout(0.5), 0, id="dropout in training mode"),
        pytest.param(lambda: nn.Dropout(0.0).eval(), 0, id="dropout of 0"),
        pytest.param(lambda: nn.BatchNorm1d(3).eval(), 3, id="batch normalisation"),
        pytest.param(
            lambda: nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(3).eval()), 3, id="one of two"
        ),
        pytest.param(lambda: nn.LayerNorm(3).eval(), 0, id="layer normalisation"),
        pytest.param(lambda: nn.GRU(3, 3, 2, dropout=0.5).eval(), 3, id="dropout of a GRU"),
        pytest.param(lambda: nn.GRU(3, 3, 2).eval(), 0, id="GRU without dropout"),
    ],
)
def test_calls_with_a_part_in_evaluation_mode_are_counted(part, count):
    found = steps_of(
        lambda: nn.Sequential(nn.Linear(3, 3), part()),
        lambda layer, z: (z if isinstance(z, torch.Tensor) else z[0]).square().sum(),
    )
    assert found.fact(EVALUATION) == (count,)


def test_a_part_that_is_gone_is_in_no_mode():
    def replaced(layer, z):
        layer[1] = nn.Identity()
        return z.square().sum()

    found = steps_of(lambda: nn.Sequential(nn.Linear(3, 1), nn.Dropout(0.5).eval()), replaced)
    assert found.fact(EVALUATION) == (1,)


@pytest.mark.parametrize(
    ("minibatches", "numbers"),
    [
        pytest.param([torch.ones(2), torch.ones(2), torch.zeros(2)], (3, 2, 2), id="numbers"),
        pytest.param([torch.ones(4), torch.ones(2, 2)], (2, 2, 1), id="two shapes"),
        pytest.param([{"x": [torch.ones(2)]}, torch.ones(2)], (2, 1, 2), id="nested"),
        pytest.param([torch.ones(2), torch.ones(2).to_sparse()], None, id="sparse"),
        pytest.param([torch.ones(2), torch.ones(2, device="meta")], None, id="on meta"),
        pytest.param([torch.ones(2), "text"], None, id="no tensor"),
        pytest.param([], None, id="none"),
    ],
)
def test_minibatches_are_counted_by_content(minibatches, numbers):
    """Those of validation, which are read without gradients, count nowhere."""
    weight = nn.Parameter(torch.ones(3))
    with trainability.watch() as seen:
        for _ in torch.utils.data.DataLoader(minibatches, batch_size=None):
            weight.sum().backward()
            with torch.no_grad():
                list(torch.utils.data.DataLoader([torch.ones(5)], batch_size=None))
    assert seen.result().fact(MINIBATCHES) == numbers


def test_a_loop_ends_at_the_first_call_after_the_step_of_its_last_pass():
    layer, x = nn.Linear(3, 1), torch.ones(2, 3)
    sgd = torch.optim.SGD(layer.parameters(), 0.1)
    with trainability.watch(passes=2) as seen:
        for _ in range(5):
            layer(x).sum().backward()
            layer(x)
            sgd.step()
            sgd.zero_grad()
    assert seen.result().fact(PASSES) == (2, 0)
    assert seen.result().fact(OPTIMISER_STEPS) == (2,)


def test_weights_that_were_called_are_not_foreign_when_their_module_is_gone():
    """Before the first step, and without gradients of their own."""
    frozen, weight = nn.Linear(3, 3).requires_grad_(False), nn.Parameter(torch.ones(3))
    sgd = torch.optim.SGD([*frozen.parameters(), weight], 0.1)
    with trainability.watch() as seen:
        frozen(weight).sum().backward()
        del frozen
        sgd.step()
    assert seen.result().fact(FOREIGN) == (0,)


def test_as_many_other_weights_in_an_optimiser_are_no_changed_ones():
    """The weights in whose place they are have gone."""
    weights = [nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))]
    sgd = torch.optim.SGD(weights, 0.1)
    with trainability.watch() as seen:
        for _ in range(3):
            sum(weight.sum() for weight in weights).backward()
            sgd.step()
            sgd.zero_grad()
            weights[0] = sgd.param_groups[0]["params"][0] = nn.Parameter(torch.zeros(3))
    assert seen.result().fact(CHANGED) == (0, 0)


def test_an_optimiser_that_steps_inside_the_step_of_another_one_loses_no_state():
    weight = nn.Parameter(torch.ones(3))
    outer, inner = torch.optim.SGD([weight], 0.1), torch.optim.Adam([weight], 0.1)
    outer.register_step_pre_hook(lambda *_: inner.step())
    with trainability.watch() as seen:
        weight.sum().backward()
        outer.step()
    assert seen.result().fact(OPTIMIZERS) == (2, 0)


def test_only_the_last_minibatch_of_an_iterator_that_is_gone_is_trained_on():
    weight = nn.Parameter(torch.ones(3))
    with trainability.watch() as seen:
        for _ in range(2):
            iterator = iter(torch.utils.data.DataLoader(torch.arange(5), batch_size=None))
            next(iterator)
            next(iterator)
            del iterator
            weight.sum().backward()
    assert seen.result().fact(MINIBATCHES) == (2, 1, 2)


def test_all_is_read_at_the_first_100_steps_and_each_tenth_one():
    assert [n for n in range(131) if is_read(n)] == [*range(101), 110, 120, 130]
    assert [n for n in range(1, 40) if is_power_of_two(n)] == [1, 2, 4, 8, 16, 32]


def test_an_iterator_at_the_address_of_one_that_is_gone_is_another_one():
    """Each round trains on one minibatch of three, and reads three others without a pass."""
    weight, numbers, places = nn.Parameter(torch.ones(3)), torch.arange(6.0)[:, None], []
    training, other = (
        torch.utils.data.DataLoader(half, batch_size=None) for half in numbers.split(3)
    )
    with trainability.watch() as seen:
        for _ in range(10):
            iterator = iter(training)
            places.append(id(iterator))
            next(iterator)
            weight.sum().backward()
            del iterator
            iterator = iter(other)
            places.append(id(iterator))
            assert len(list(iterator)) == 3
            del iterator
    pairs = zip(places[::2], places[1::2], strict=True)
    assert any(one == next_one for one, next_one in pairs), "no address is used again"
    assert seen.result().fact(MINIBATCHES) == (10, 1, 10)


@pytest.mark.parametrize("fused", [False, True])
def test_a_scaler_hides_neither_losses_nor_the_steps_that_it_skips(fused):
    """The loss is 3, and infinite at two of six steps; one loss is halved after it is scaled."""
    weight = nn.Parameter(torch.ones(3))
    adam = torch.optim.Adam([weight], 0.0, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    with trainability.watch() as seen:
        for factor, after in [(1, 1), (np.inf, 1), (1, 1), (np.inf, 1), (1, 0.5), (1, 1)]:
            adam.zero_grad()
            (scaler.scale((factor * weight).sum()) * after).backward()
            scaler.step(adam)
            scaler.update()
    found = seen.result()
    assert found.losses.tolist() == [3, np.inf, 3, np.inf, 1.5, 3]
    norms = found.optimizers[0].after_backward / 3**0.5
    np.testing.assert_allclose(norms, [np.nan, 1, 0.5, 1], rtol=1e-6)
    assert found.fact(OPTIMISER_STEPS) == (4,)


def test_a_loop_without_numbers_has_those_facts_that_need_none():
    found = steps_of(
        lambda: nn.Linear(3, 1, device="meta"),
        lambda layer, z: z.sum(),
        x=torch.ones(4, 3, device="meta"),
    )
    assert found.starred == () and found.fact(OPTIMISER_STEPS) == (3,)
    assert found.fact(CALLED) == (2, 1, 2, 2) and found.fact(LOSSES) is None


def test_tiny_gradients_are_used_again_as_others():
    """Their squares are 0 in single precision; two of three numbers have none."""
    weight = nn.Parameter(torch.ones(3))
    sgd = torch.optim.SGD([weight], 0.1)
    with trainability.watch() as seen:
        for _ in range(3):
            (1e-30 * weight[0]).backward()
            sgd.step()
    assert seen.result().fact(REUSED) == (1, 2)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_counts_though_its_gradient_is_finite(value):
    weight = torch.nn.Parameter(torch.ones(3))
    sgd = torch.optim.SGD([weight], 0.1)
    added = [0.0, 0.0, value, 0.0, 0.0, value]
    with trainability.watch() as seen:
        for number in added:
            sgd.zero_grad()
            (weight.sum() + number).backward()
            sgd.step()
    found = seen.result()
    assert found.fact(NOT_FINITE) == (2, 3)
    assert found.fact(LOSSES) == pytest.approx((3.0, 1.8))  # 0.3 less at each step


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(lambda z: z.backward(torch.ones(3)), id="three numbers"),
        pytest.param(
            lambda z: torch.autograd.backward(torch.autograd.graph.get_gradient_edge(z.sum())),
            id="an edge of the graph",
        ),
    ],
)
def test_a_pass_that_does_not_begin_from_a_loss_is_finite(start):
    weight = torch.nn.Parameter(torch.ones(3))
    sgd = torch.optim.SGD([weight], 0.1)
    with trainability.watch() as seen:
        for _ in range(3):
            sgd.zero_grad()
            start(weight.square())
            sgd.step()
    found = seen.result()
    assert found.fact(NOT_FINITE) == (0, 0)
    assert found.fact(LOSSES) is None and np.isnan(found.losses).all()


def test_losses_of_opposite_infinities_do_not_stop_a_loop():
    weight = torch.nn.Parameter(torch.ones(3))
    with trainability.watch() as seen:
        torch.autograd.backward([weight.sum() + np.inf, weight.sum() - np.inf])
    assert np.isnan(seen.result().losses).all()


@pytest.mark.parametrize("defaults", [{}, {"lr": None}], ids=["no rate", "None"])
def test_an_optimiser_without_a_rate_has_its_other_numbers(defaults):
    found = facts_of(train, optimizer=lambda weights, rate: SignSteps(weights, **defaults))
    row = found.optimizers[0]
    assert row.steps == STEPS and np.isnan(row.rates).all()
    numbers = row.numbers()
    assert np.isnan([numbers[FIRST_RATE], numbers[LAST_RATE]]).all()
    assert str(found).splitlines()[-2].split()[-2:] == ["-", "-"]


def test_a_loop_that_ends_inside_the_first_step_has_no_row_of_an_optimiser_and_no_star():
    image = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.LBFGS([image])

    def closure():
        optimizer.zero_grad()
        loss = (image - 1).square().sum() ** 2
        loss.backward()
        return loss

    with trainability.watch(passes=2) as seen:
        optimizer.step(closure)
    found = seen.result()
    assert found.fact(OPTIMISER_STEPS) == (0,) and found.fact(PASSES) == (2, 0)
    assert found.optimizers == () and found.starred == ()
    assert f"{OPTIMISER_STEPS} " in str(found)


def test_a_module_at_the_address_of_one_that_is_gone_is_another_one():
    places, x = set(), torch.ones(2, 3)
    with trainability.watch() as seen:
        for _ in range(20):
            layer = torch.nn.Linear(3, 1)
            places.add(id(layer))
            layer(x).sum().backward()
            del layer
    assert len(places) < 20, "no address is used again"
    assert seen.result().fact(CALLED) == (40, 40, 0, 40)
