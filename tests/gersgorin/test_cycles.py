"""Cycles of maps against known ones: the logistic map's by bisection, Hénon's from a polynomial, a
network's by running it.
"""

import json

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from tables import for_each

import gersgorin
from gersgorin import fixed_points
from gersgorin.cli.main import main
from rhn.cells import RNN

d = torch.float64


def logistic(rate):
    return lambda x, s: rate * s * (1 - s)


def cycles_by_bisection(rate, period):
    """(Points of this period in [0, 1], multipliers) of the logistic map, from the changes of sign
    of f^k(s) - s on a fine grid.
    """

    def iterated(s, k):
        for _ in range(k):
            s = rate * s * (1 - s)
        return s

    grid = np.linspace(1e-4, 1, 100_003)
    signs = np.sign(iterated(grid, period) - grid)
    ends = [(grid[k], grid[k + 1]) for k in np.flatnonzero(signs[1:] != signs[:-1])]
    points = np.array(
        [brentq(lambda s: iterated(s, period) - s, *each, xtol=1e-15) for each in ends]
    )
    for k in range(1, period):
        if period % k == 0:
            points = points[np.abs(iterated(points, k) - points) > 1e-6]
    slopes = [rate * (1 - 2 * iterated(points, k)) for k in range(period)]
    return points, np.prod(slopes, axis=0)


@for_each(
    ("rate", "period", "number"), [(3.2, 2, 2), (3.5, 4, 4), (3.9, 3, 6), (3.9, 2, 2), (3.9, 4, 4)]
)
def test_cycles_of_the_logistic_map_are_those_that_bisection_finds(rate, period, number):
    starts = torch.linspace(0.01, 0.99, 200, dtype=d)[:, None]
    found = fixed_points(logistic(rate), starts=starts, period=period)
    points, multipliers = cycles_by_bisection(rate, period)
    assert len(points) == number == len(found.states)
    order = found.states[:, 0].argsort()
    np.testing.assert_allclose(found.states[order, 0], points, atol=1e-8)
    np.testing.assert_allclose(found.eigenvalues[order, 0].real, multipliers, rtol=1e-5, atol=1e-6)
    assert found.kinds == ["stable" if abs(m) < 1 else "unstable" for m in found.eigenvalues[:, 0]]
    sizes = np.bincount(found.cycle)
    assert sizes.tolist() == [period] * (number // period)
    for cycle in range(len(sizes)):  # a point leads to one of the same cycle
        on = found.states[found.cycle == cycle, 0]
        np.testing.assert_allclose(np.sort(rate * on * (1 - on)), np.sort(on), atol=1e-8)


def test_a_cycle_of_henons_map_has_its_known_points_and_multipliers():
    a, b = 1.4, 0.3

    def henon(x, s):
        x, y = s.unbind(-1)
        return torch.stack((1 - a * x**2 + y, b * x), -1)

    starts = torch.tensor(np.random.default_rng(0).uniform(-1.5, 1.5, (200, 2)))
    found = fixed_points(henon, starts=starts, period=2)
    # its two x are the roots of a^2 x^2 - a (1 - b) x + (1 - b)^2 - a
    xs = np.roots([a**2, -a * (1 - b), (1 - b) ** 2 - a])
    wanted = np.array([[xs[0], b * xs[1]], [xs[1], b * xs[0]]])
    order = found.states[:, 0].argsort()[::-1]
    np.testing.assert_allclose(found.states[order], wanted[wanted[:, 0].argsort()[::-1]], atol=1e-9)
    A, B = ([[-2 * a * x, 1], [b, 0]] for x in xs)
    multipliers = np.sort_complex(np.linalg.eigvals(np.array(B) @ A))
    for values in found.eigenvalues:
        np.testing.assert_allclose(np.sort_complex(values), multipliers, atol=1e-9)
    assert found.kinds == ["saddle", "saddle"] and found.finding.endswith(
        "1 cycle of period 2, of 2 points"
    )


def test_points_of_a_shorter_period_are_no_cycles_and_their_starts_are_not_lost():
    found = fixed_points(
        logistic(3.2), starts=torch.linspace(0.1, 0.9, 50).double()[:, None], period=4
    )
    assert len(found.states) == 0
    assert found.shorter + found.lost == 50 and found.shorter > 40
    led = f"rom {found.shorter} starts the search led to a point of a shorter period."
    assert led in found.notes()[0]


def test_a_network_with_an_input_has_cycles_too():
    rnn = torch.nn.RNN(1, 2, dtype=d)
    with torch.no_grad():
        for p in rnn.parameters():
            p.zero_()
        rnn.weight_hh_l0.copy_(torch.tensor([[0.0, 3.0], [-3.0, 0.0]]))  # quarter turns
    starts = torch.randn(60, 2, dtype=d, generator=torch.Generator().manual_seed(0))
    found = fixed_points(rnn, torch.zeros(1, dtype=d), starts=starts, period=4)
    s = torch.tensor(found.states)
    stable = s[np.array(found.kinds) == "stable"]
    assert len(stable) == 4  # corners of a square
    with torch.no_grad():
        after = rnn(torch.zeros(4, 4, 1, dtype=d), stable[None])[1][0]
    np.testing.assert_allclose(after, stable, atol=1e-9)
    # a deviation along the slower mode of the cycle falls by the multiplier in four steps
    modulus = np.abs(found.eigenvalues[:, 0])
    np.testing.assert_allclose(found.time_constants[:, 0], -4 / np.log(modulus))


def test_a_saved_result_has_its_cycles(tmp_path):
    starts = torch.linspace(0.01, 0.99, 50, dtype=d)[:, None]
    found = fixed_points(logistic(3.5), starts=starts, period=4)
    found.save(tmp_path / "cycles.npz")
    again = gersgorin.load(tmp_path / "cycles.npz")
    assert again.period == 4 and again.cycle.tolist() == found.cycle.tolist() == [0] * 4
    assert again.finding == found.finding


def test_the_command_searches_for_cycles(own_folder, capsys):
    network = ["--cell", "rnn", "--init", "gaussian:1", "--hidden-size", "8", "--steps", "12"]
    words = [*network, "--hold", "0", "--seed", "3", "--starts", "40", "--period", "2", "--json"]
    assert main(["fixed-points", *words]) == 0
    found = json.loads(capsys.readouterr().out)["fixed_points"]
    assert found["period"] == 2 and len(found["points"]) >= 2
    cell = RNN(88, 8, init="gaussian:1", generator=torch.Generator().manual_seed(3), dtype=d)
    W = cell.weight_hh.detach().numpy().reshape(8, 8)
    for point in found["points"]:
        s = np.array(point["state"])
        once = np.tanh(W @ s)
        np.testing.assert_allclose(np.tanh(W @ once), s, atol=1e-9)
        assert np.abs(once - s).max() > 0.01
        J = ((1 - s**2)[:, None] * W) @ ((1 - once**2)[:, None] * W)
        wanted = np.abs(np.linalg.eigvals(J)).max()
        assert point["spectral_radius"] == pytest.approx(wanted, rel=1e-8)


def test_a_search_without_cycles_speaks_of_no_fixed_point():
    found = fixed_points(lambda x, s: s / 2, starts=torch.ones(3, 1).double(), period=2)
    assert found.finding == "The search found no cycle of period 2"
    assert "fixed point" not in found.summary()
