"""`watch` shows the fault of a loop: a star, or a number that its sound neighbour has not."""

import pytest
from faulty_loops import LOOPS

import trainability
from trainability.watching.loop_facts import (
    CALLED,
    CHANGED,
    EVALUATION,
    FOREIGN,
    MINIBATCHES,
    NOT_FINITE,
    OPTIMIZERS,
    PASSES,
    REUSED,
    STATES,
)

STARS = {
    "no_zero_grad": (REUSED, (6, 15)),
    "no_zero_grad_with_momentum": (REUSED, (6, 15)),
    "gradients_of_the_critic_never_zeroed": (REUSED, (2, 15)),
    "optimiser_of_another_model": (FOREIGN, (6,)),
    "loss_not_finite": (NOT_FINITE, (11, 6)),
}
NUMBERS = [
    ("half_of_the_weights", CALLED, (6, 4, 0, 4), (6, 0, 0, 0)),
    ("optimiser_of_another_model", CALLED, (6, 6, 0, 6), (6, 0, 0, 0)),
    ("output_detached", CALLED, (6, 0, 6, 6), (6, 0, 0, 0)),
    ("zero_grad_after_backward", CALLED, (6, 0, 0, 6), (6, 0, 0, 0)),
    ("evaluation_mode_after_the_first_validation", EVALUATION, (12,), (0,)),
    ("one_step_an_epoch", PASSES, (16, 12), (16, 0)),
    ("weights_drawn_again_each_epoch", CHANGED, (6, 3), (0, 0)),
    ("new_optimiser_each_epoch", OPTIMIZERS, (4, 3), (1, 0)),
    ("new_optimiser_each_step", OPTIMIZERS, (16, 15), (1, 0)),
    ("state_lost_between_chunks", STATES, (0, 0), (15, 0)),
    ("one_minibatch_again_and_again", MINIBATCHES, (16, 1, 16), (16, 4, 4)),
]
ROWS = [
    ("schedule_stepped_for_each_minibatch", "rates", 0.01 * 0.5**15, 0.01 * 0.5**3),
    ("zero_grad_after_backward", "at_step", 0.0, None),
    ("clipping_far_too_low", "at_step", 1e-3, None),
]


def facts_of(name, repaired):
    """The result of a loop that is watched."""
    with trainability.watch() as seen:
        LOOPS[name](repaired)
    return seen.result()


@pytest.mark.parametrize("name", LOOPS)
def test_only_the_star_of_the_fault_is_there(name):
    found = facts_of(name, repaired=False)
    if name in STARS:
        fact, numbers = STARS[name]
        assert found.starred == (fact,)
        assert found.fact(fact) == numbers
    else:
        assert found.starred == ()


@pytest.mark.parametrize("name", LOOPS)
def test_a_repaired_loop_has_no_star(name):
    assert facts_of(name, repaired=True).starred == ()


@pytest.mark.parametrize(("name", "fact", "as_written", "as_repaired"), NUMBERS)
def test_a_number_tells_a_fault_from_its_repair(name, fact, as_written, as_repaired):
    assert facts_of(name, repaired=False).fact(fact) == as_written
    assert facts_of(name, repaired=True).fact(fact) == as_repaired


@pytest.mark.parametrize(("name", "column", "as_written", "as_repaired"), ROWS)
def test_a_row_of_the_optimiser_tells_a_fault(name, column, as_written, as_repaired):
    """Of the last step. Without a number of its own the repaired loop has the norm that backward
    left.
    """
    for repaired, expected in ((False, as_written), (True, as_repaired)):
        row = facts_of(name, repaired).optimizers[0]
        if expected is None:
            expected = row.after_backward[-1]
        assert getattr(row, column)[-1] == pytest.approx(expected, rel=1e-5)
