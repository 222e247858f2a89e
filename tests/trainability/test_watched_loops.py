"""`watch` counts the facts of a training loop as it stands."""

import numpy as np
import pytest
import torch
from loops import STEPS, facts_of, train

import trainability
from trainability.watching.loop_facts import (
    CALLED,
    FOREIGN,
    MINIBATCHES,
    NOT_FINITE,
    OPTIMISER_STEPS,
    PASSES,
    REUSED,
)
from trainability.watching.loop_result import AFTER_BACKWARD, AT_STEP


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


def test_a_gradient_into_which_numbers_are_written_is_a_new_one():
    weight = torch.nn.Parameter(torch.ones(3))
    sgd = torch.optim.SGD([weight], 0.1)
    with trainability.watch() as seen:
        for _ in range(3):
            weight.square().sum().backward()
            sgd.step()
            weight.grad.mul_(0.5)  # a momentum of the user's own
    assert seen.result().fact(REUSED) == (0, 0)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_counts_with_a_finite_gradient_too(number):
    weight = torch.nn.Parameter(torch.ones(3))
    sgd = torch.optim.SGD([weight], 0.1)
    with trainability.watch() as seen:
        for added in (0.0, number, number):
            sgd.zero_grad()
            (weight.square().sum() + added).backward()
            sgd.step()
    assert seen.result().fact(NOT_FINITE) == (2, 2)
    assert seen.result().starred == (NOT_FINITE,)


def test_a_pass_from_a_vector_has_no_loss_that_could_be_infinite():
    weight = torch.nn.Parameter(torch.ones(3))
    sgd = torch.optim.SGD([weight], 0.1)
    with trainability.watch() as seen:
        weight.square().backward(torch.ones(3))
        sgd.step()
    assert seen.result().fact(NOT_FINITE) == (0, 0)
