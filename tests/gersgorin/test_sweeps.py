"""What the gallery says of plateaus: slopes of the depth less one in deep transitions, and of an RHN as its gates open."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from gersgorin.paper.plateau_sweeps import draw_rate_sweeps, plot_gate_sweep, predicted_slope, sweep_gates, sweep_rates
from rhn.utils.figures import BLUE, GREEN


def test_rates_of_deep_transitions_fall_with_the_scale_and_those_of_rhns_do_not():
    deep, highway = (sweep_rates(cell, (1, 4), (1e-6, 1e-3)) for cell in ("dt-rnn", "rhn"))
    np.testing.assert_allclose(deep.orders, [[0, 0], [3, 3]], atol=0.05)
    np.testing.assert_allclose(highway.orders, 0, atol=0.05)
    assert deep.rates[1, 1] / deep.rates[1, 0] == pytest.approx(1e9, rel=0.1)
    figure = draw_rate_sweeps([deep, highway])
    lines = figure.axes[0].get_lines()
    assert [to_hex(line.get_color()).upper() for line in lines] == [BLUE, GREEN]
    assert list(lines[1].get_ydata()) == list(deep.rates[1]) and lines[1].get_label() == "depth 4: slope 3"


def test_an_rhn_whose_gates_open_becomes_a_deep_transition_where_it_is_predicted_to():
    sweep = sweep_gates((1, 4), (-8.0, 0.0, 6.0, 12.0))
    np.testing.assert_allclose(sweep.slopes, sweep.predicted, atol=0.2)
    np.testing.assert_allclose(sweep.slopes[:, [0, -1]], [[0, 0], [0, 3]], atol=0.05)
    assert predicted_slope(4, sweep.border, sweep.std / 1e3) == pytest.approx(0, abs=1e-3)
    ax = plot_gate_sweep(sweep)
    points = [line for line in ax.get_lines() if line.get_linestyle() == "None"]
    assert [list(line.get_ydata()) for line in points] == sweep.slopes.tolist()
