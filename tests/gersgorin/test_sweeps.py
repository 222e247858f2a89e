"""What the gallery says of plateaus: slopes of the depth less one in deep transitions, and of an
RHN as its gates open.
"""

import numpy as np
import pytest

from examples.paper.plateau import BORDER, STD, draw_gates, draw_rates, predicted_slope


def test_rates_of_deep_transitions_fall_with_the_scale_and_those_of_rhns_do_not():
    deep, highway = draw_rates((1, 4), (1e-6, 1e-3)).axes
    assert [line.get_label() for line in deep.lines] == ["depth 1: slope 0", "depth 4: slope 3"]
    assert [line.get_label() for line in highway.lines] == ["depth 1: slope 0", "depth 4: slope 0"]
    small, large = deep.lines[1].get_ydata()
    assert large / small == pytest.approx(1e9, rel=0.1)


def test_an_rhn_whose_gates_open_becomes_a_deep_transition_at_the_predicted_bias():
    slopes = [line.get_ydata() for line in draw_gates((1, 4), (-8, 0, 6, 12)).axes[0].lines[:4]]
    for predicted, measured, ends in zip(slopes[::2], slopes[1::2], ([0, 0], [0, 3]), strict=True):
        np.testing.assert_allclose(measured, predicted, atol=0.2)
        np.testing.assert_allclose([measured[0], measured[-1]], ends, atol=0.05)
    assert predicted_slope(4, BORDER, STD / 1e3) == pytest.approx(0, abs=1e-3)
