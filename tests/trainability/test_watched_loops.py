"""`watch` counts the facts of a training loop as it stands."""

import numpy as np
import pytest
import torch
from loops import STEPS, SignSteps, facts_of, train

import trainability
from trainability.watching.loop_facts import (
    CALLED,
    FOREIGN,
    LOSSES,
    MINIBATCHES,
    NOT_FINITE,
    OPTIMISER_STEPS,
    PASSES,
    REUSED,
)
from trainability.watching.loop_result import (
    AFTER_BACKWARD,
    AT_STEP,
    FIRST_RATE,
    LAST_RATE,
    OptimizerRow,
)


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


def test_a_loop_that_leaves_gradients_alone_has_equal_norms_after_backward_and_at_the_step():
    row = facts_of(train, epochs=12).optimizers[0]
    numbers = row.numbers()
    assert row.steps > 100 and np.isnan(row.after_backward).any()
    assert numbers[AFTER_BACKWARD] == numbers[AT_STEP]


def test_norms_are_medians_over_the_steps_with_both():
    nan, rates = np.nan, np.ones(5)
    after, at_step = np.array([nan, 1.0, 2.0, 7.0, nan]), np.array([9.0, 0.1, 0.3, nan, nan])
    numbers = OptimizerRow("SGD", 2, 5, after, at_step, rates).numbers()
    assert numbers[AFTER_BACKWARD] == 1.5
    assert numbers[AT_STEP] == 0.2


def test_a_gradient_into_which_numbers_are_written_is_a_new_one():
    weight = torch.nn.Parameter(torch.ones(3))
    sgd = torch.optim.SGD([weight], 0.1)
    with trainability.watch() as seen:
        for _ in range(3):
            weight.square().sum().backward()
            sgd.step()
            weight.grad.mul_(0.5)  # a momentum of the user's own
    assert seen.result().fact(REUSED) == (0, 0)


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


def test_a_pass_that_does_not_begin_from_a_loss_is_finite():
    weight = torch.nn.Parameter(torch.ones(3))
    sgd = torch.optim.SGD([weight], 0.1)
    with trainability.watch() as seen:
        for _ in range(3):
            sgd.zero_grad()
            weight.square().backward(torch.ones(3))
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
