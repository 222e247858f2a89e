"""`watch` counts the facts of a training loop as it stands."""

import pytest
from loops import STEPS, facts_of, train

from trainability.watching.loop_facts import (
    CALLED,
    FOREIGN,
    MINIBATCHES,
    PASSES,
    REUSED,
    STEPS_AND_SKIPPED,
)


def test_a_sound_loop_has_no_star():
    found = facts_of(train)
    assert found.starred == ()
    assert found.fact(STEPS_AND_SKIPPED) == (STEPS, 0)
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
