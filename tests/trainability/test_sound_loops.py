"""`watch` has no star for a loop without a fault, of whatever kind, and counts what is in it."""

from functools import cache

import pytest
import torch
from sound_loops_of_several import LOOPS
from torch.optim.optimizer import register_optimizer_step_post_hook

import trainability
from trainability.watching.loop_facts import (
    CALLED,
    CHANGED,
    EVALUATION,
    MINIBATCHES,
    OPTIMISER_STEPS,
    OPTIMIZERS,
    PASSES,
    STATES,
)

NUMBERS = [
    ("plain", CALLED, (6, 0, 0, 0)),
    ("plain", MINIBATCHES, (16, 16, 1)),
    ("accumulation", OPTIMISER_STEPS, (4,)),
    ("accumulation", PASSES, (16, 12)),
    ("validation_in_evaluation_mode", EVALUATION, (0,)),
    ("head_alone", CALLED, (6, 4, 0, 4)),
    ("frozen_batch_norm", EVALUATION, (16,)),
    ("frozen_critic_in_evaluation_mode", EVALUATION, (0,)),
    ("dqn_with_target_network", EVALUATION, (0,)),
    ("updates_by_hand", OPTIMISER_STEPS, (0,)),
    ("updates_by_hand", CALLED, (6, 6, 0, 0)),
    ("averaged_weights", CHANGED, (0, 0)),
    ("averaged_model_of_torch", CHANGED, (0, 0)),
    ("step_inside_the_backward_pass", OPTIMISER_STEPS, (96,)),
    ("step_inside_the_backward_pass", OPTIMIZERS, (6, 0)),
    ("state_carried_over_chunks", STATES, (11, 0)),
    ("recomputed_activations", STATES, (3, 0)),
    ("encoder_and_decoder", STATES, (0, 0)),
    ("two_optimisers_of_the_same_weights", OPTIMIZERS, (2, 0)),
    ("two_optimisers_of_the_same_weights", CHANGED, (0, 0)),
    ("new_sgd_each_epoch", OPTIMIZERS, (4, 0)),
    ("one_part_after_the_other", OPTIMIZERS, (2, 0)),
    ("dqn_with_target_network", CALLED, (4, 0, 0, 0)),
    ("head_alone", EVALUATION, (0,)),
    ("two_threads", OPTIMISER_STEPS, (16,)),
    ("weights_freed_one_after_the_other", CALLED, (6, 0, 0, 0)),
    ("lbfgs", PASSES, (25, 0)),
    ("sac_with_a_bare_parameter", OPTIMIZERS, (3, 0)),
]


def weights_of_steps(loop):
    """The sums of the weights after each step, and the random numbers that follow."""
    sums = []

    def read(optimizer, args, kwargs):
        tensors = (p for group in optimizer.param_groups for p in group["params"])
        sums.append([p.detach().double().sum().item() for p in tensors])

    torch.manual_seed(0)
    handle = register_optimizer_step_post_hook(read)
    try:
        loop()
    finally:
        handle.remove()
    return sums, torch.rand(3).tolist()


@cache
def watched(name):
    """The weights and random numbers of a loop that is watched, and the result."""
    with trainability.watch() as seen:
        numbers = weights_of_steps(LOOPS[name])
    return numbers, seen.result()


@pytest.mark.parametrize("name", LOOPS)
def test_a_sound_loop_has_no_star(name):
    assert watched(name)[1].starred == ()


@pytest.mark.parametrize("name", LOOPS)
def test_watching_changes_no_number_of_a_loop(name):
    assert watched(name)[0] == weights_of_steps(LOOPS[name])


@pytest.mark.parametrize(("name", "fact", "numbers"), NUMBERS)
def test_events_of_a_sound_loop_are_counted(name, fact, numbers):
    assert watched(name)[1].fact(fact) == numbers


def test_steps_that_a_scaler_skips_are_counted():
    (steps,) = watched("grad_scaler")[1].fact(OPTIMISER_STEPS)
    assert 0 < steps < 16
