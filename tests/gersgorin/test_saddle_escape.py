"""Escape times of the flow, and their power."""

import math

import pytest

from examples.paper.saddle import escape_time, exponent


def test_the_exponent_is_that_of_a_power_of_the_two_smallest_scales():
    times = {eps: 7 * eps**-2 for eps in (0.1, 0.01, 0.001)} | {1e-4: math.inf}
    assert exponent(times) == pytest.approx(2)


@pytest.mark.parametrize(("depth", "power"), [(1, 0), (2, 1)])
def test_the_matrices_of_a_deep_transition_escape_by_the_law(depth, power):
    """An integral of dw/dt = w^(r - 1) with r = depth + 1: eps^-(r - 2), log 1/eps for r = 2."""
    times = {eps: escape_time("dt-rnn", depth, eps, 0, biases=False) for eps in (0.01, 0.003)}
    found = exponent(times)
    if power:
        assert found == pytest.approx(power, abs=0.02)
    else:
        assert 0 < found < 0.3
