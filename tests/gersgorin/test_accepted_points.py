"""Which ends of a search are fixed points, which of them are one, and complex starts."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from gersgorin import root_search
from gersgorin.analyses import iterated_map
from gersgorin.analyses.fixed_points import fixed_points
from gersgorin.analyses.lyapunov import lyapunov
from gersgorin.analyses.point_search import _counts, _Ends
from gersgorin.analyses.products import products
from gersgorin.points import distinct, meeting
from gersgorin.root_search import (
    NARROW,
    Residual,
    ZeroSearch,
    least_squares_lengths,
    newton_steps_are_short,
    slower_beside,
)
from gersgorin.root_search import search as search_of_speed
from gersgorin.run import open_run
from gersgorin.step import as_step
from rhn.cells import RNN
from rhn.errors import InvalidInputError
from tests.gersgorin.test_exponents import d, drawn
from tests.gersgorin.test_points_and_cycles import NO_INPUT, grid, search

ZEROS = torch.zeros(4, dtype=d)


@pytest.mark.slow
def test_a_state_from_which_newtons_step_is_long_is_no_fixed_point():
    """Far out the gate of the first unit shuts: |F(s) - s| is below 1e-10, and Newton's step is
    about 1 / 4.
    """

    def step(s):
        return torch.stack((s[0] + (0.5 - s[0]) * torch.sigmoid(-4 * s[0]), s[1] / 2))

    found = search(step, torch.stack((grid(-1, 8, 20), grid(-1, 1, 20)), 1))
    np.testing.assert_allclose(found.states[~found.is_slow], [[0.5, 0]], atol=1e-9)
    shut = found.states[found.is_slow]
    assert (shut[:, 0] > 4).all() and found.residuals.max() < 1e-7


def test_directions_without_a_slope_are_left_out_of_newtons_step():
    """A line of points, along which F does not move a state, beside rounding of 1e-13."""
    starts = drawn(12, 3)
    found = search(lambda s: torch.stack((s[0], s[1] / 2 + 1e-12 * s[0], s[2] / 3)), starts)
    assert len(found.states) == 12 and not found.is_slow.any()


def test_two_points_that_count_as_one_are_nearer_than_the_resolution():
    found = search(lambda s: s + s * s - 1e-8, grid(-1, 1, 40))
    assert len(found.states) == 1 and found.states[0, 0] == pytest.approx(-1e-4)
    assert 2e-4 <= found.table()["resolution of points"] < 3e-4
    apart = search(lambda s: s + s * s - 1e-6, grid(-1, 1, 40))
    assert len(apart.states) == 2 and np.ptp(apart.states) > apart.resolution
    near = search(lambda s: s + s * s - 1e-8, grid(-2e-4, 2e-4, 40), margin=0.001)
    assert len(near.states) == 2 and np.ptp(near.states) > near.resolution


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128], ids=str)
def test_complex_starts_are_states_of_complex_numbers(dtype):
    A = torch.complex(drawn(2, 2), drawn(2, 2, seed=1)) / 4
    b = torch.complex(drawn(2, seed=2), drawn(2, seed=3))
    starts = torch.complex(drawn(7, 2, seed=4), drawn(7, 2, seed=5)).to(dtype)
    found = fixed_points(lambda x, s: A.to(s) @ s + b.to(s), torch.zeros(1), starts=starts)
    wanted = np.linalg.solve(np.eye(2) - A.numpy(), b.numpy())
    atol = 1e-5 if dtype == torch.complex64 else 1e-9
    np.testing.assert_allclose(found.states, [wanted[:, None].view(float).ravel()], atol=atol)
    assert found.starts.shape == (7, 4) and found.found_from.tolist() == [7]


@pytest.mark.parametrize(
    ("network", "s0"),
    [
        pytest.param(lambda x, s: s / 2, ZEROS, id="a function"),
        pytest.param(RNN(1, 4, dtype=d), None, id="a cell"),
    ],
)
def test_complex_starts_of_a_real_state_are_refused(network, s0):
    with pytest.raises(InvalidInputError, match=r"starts is .*expected real numbers"):
        fixed_points(network, NO_INPUT, s0, starts=torch.zeros(3, 2) * 1j)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_detached_share_of_the_slope_is_the_difference(share):
    step = lambda x, s: 0.75 * (share * s + (1 - share) * s.detach()) + x  # noqa: E731
    run = open_run(step, drawn(30, 2), torch.ones(2, dtype=d))
    row = "Jacobian against differences (relative)"
    assert lyapunov(run).table()[row] == pytest.approx(1 - share, rel=1e-6, abs=1e-8)
    np.testing.assert_allclose(products(run).table()[row], 1 - share, rtol=1e-6, atol=1e-8)
    points = fixed_points(step, torch.zeros(2, dtype=d), starts=drawn(9, 2))
    assert points.table()[row] == pytest.approx(1 - share, rel=1e-6, abs=1e-8)


def test_a_search_for_a_multiple_zero_continues_below_the_tolerance():
    """A speed of 1e-10 is reached at 1e-5 from the double zero, where the slope is not yet 0."""
    r = Residual(lambda s: s - s**2, lambda s: (1 - 2 * s)[:, :, None], torch.ones(1, dtype=d))
    starts = torch.linspace(0.1, 0.9, 9, dtype=d)[:, None]
    ends, minima = search_of_speed(r, starts, -starts[-1], starts[-1], 1e-10)
    assert minima.all() and (ends.abs() < 1e-7).all()


@pytest.mark.parametrize(
    ("J", "length"),
    [
        pytest.param([[-0.5, 0.0], [0.0, -0.25]], 4e-3, id="regular"),
        pytest.param([[0.0, 0.0], [0.0, -0.25]], 4e-3, id="singular"),
        pytest.param([[math.inf, 0.0], [0.0, -0.25]], 0.0, id="not finite"),
    ],
)
def test_a_step_of_newtons_is_short_up_to_a_length(J, length):
    """The step from r = (0, 1e-3), whose length along a direction without a slope is 0."""
    r = Residual(
        lambda s: s + torch.tensor([0.0, 1e-3], dtype=d),
        lambda s: torch.tensor([J], dtype=d) + torch.eye(2, dtype=d),
        torch.ones(2, dtype=d),
    )
    s = torch.zeros(1, 2, dtype=d)
    found = [newton_steps_are_short(r, s, torch.tensor(near)).item() for near in (3e-3, 5e-3)]
    assert found == [length <= near for near in (3e-3, 5e-3)]


def test_the_shortest_step_is_that_of_least_squares():
    """Of large and small Jacobians, one of them singular, against NumPy's pseudoinverse."""
    J = torch.randn(3, 4, 4, dtype=d) * torch.tensor([1e-3, 1.0, 1e3], dtype=d)[:, None, None]
    J[1, 3] = J[1, 2]
    r = torch.randn(3, 4, dtype=d)
    wanted = [
        np.linalg.norm(np.linalg.pinv(A, rcond=1e-13) @ b)
        for A, b in zip(J.numpy(), r.numpy(), strict=True)
    ]
    assert np.allclose(least_squares_lengths(J, r), wanted)


def test_a_direction_that_is_rounding_of_the_identity_is_left_out():
    """A singular value of 3 eps, below N eps = 4 eps, and one of 5 eps, above it."""
    eps = torch.finfo(d).eps
    r = torch.tensor([[0.0, 0.0, 0.0, 1.0]], dtype=d)
    for size, length in ((3 * eps, 0.0), (5 * eps, 1 / (5 * eps))):
        J = torch.diag(torch.tensor([0.5, 0.5, 0.5, size], dtype=d))[None]
        assert np.allclose(least_squares_lengths(J, r), length)


@pytest.mark.parametrize(
    ("states", "numbers"),
    [
        pytest.param([0.0, 0.5], [0, 0], id="at the distance"),
        pytest.param([0.0, 0.75], [0, 1], id="beyond it"),
        pytest.param([0.0, 1.0, 0.5], [0, 0, 0], id="a chain"),
        pytest.param([0.0, math.nan, math.nan], [0, 1, 2], id="no numbers"),
    ],
)
def test_states_up_to_a_distance_have_met(states, numbers):
    found = meeting(torch.tensor(states, dtype=d)[:, None], 0.5).tolist()
    pairs = [[found[i] == found[j] for i in range(len(numbers))] for j in range(len(numbers))]
    assert pairs == [[i == j for i in numbers] for j in numbers]


def test_distinct_states_are_farther_apart_than_a_distance_and_than_rounding():
    every, apart = torch.ones(3, dtype=torch.bool), torch.tensor(0.25, dtype=d)
    states = torch.tensor([[0.0, 0.0], [0.25, 0.0], [0.75, 0.0]], dtype=d)
    rows, counts = distinct(states, torch.zeros(3), every, apart, starts=2)
    assert (rows.tolist(), counts.tolist()) == ([0, 2], [2, 0])
    far = torch.tensor([1e9, 0.0], dtype=d)  # one large entry
    rows, counts = distinct(far + 4 * states, torch.zeros(3), every, apart, starts=3)
    assert (rows.tolist(), counts.tolist()) == ([0], [3])


@pytest.mark.parametrize(
    ("F", "states", "steps"),
    [
        pytest.param(lambda s: s / 2, 1, 200, id="a contraction"),
        pytest.param(lambda s: s.roll(1), 3, 200, id="a cycle of three"),
        pytest.param(lambda s: s + 1e-9, 3, 200, id="a drift below the resolution"),
        pytest.param(lambda s: s + 1e-3, 3, 240, id="a drift"),
        pytest.param(lambda s: s * 1e30, 0, 20, id="states that grow beyond all numbers"),
    ],
)
def test_starts_settle_in_200_steps_or_later_if_a_state_drifts(F, states, steps, monkeypatch):
    monkeypatch.setattr(iterated_map, "LONGEST", 240)
    step, x = as_step(lambda x, s: F(s), torch.zeros(1, 1), torch.zeros(3, dtype=d))
    starts = torch.tensor([[1.0, 2.0, 4.0], [2.0, 4.0, 1.0], [4.0, 1.0, 2.0]], dtype=d)
    found, until = iterated_map.IteratedMap(step, x, 1).settled(starts)
    assert (len(found), until) == (states, steps)


@pytest.mark.parametrize(
    ("sides", "units"),
    [
        pytest.param([8.0, 2.0, 0.0], [1.0, 0.25, NARROW], id="an entry that is equal"),
        pytest.param([0.0, 0.0, 0.0], [1.0, 1.0, 1.0], id="equal starts"),
    ],
)
def test_units_of_entries_are_their_sides_and_those_of_equal_starts_are_one(sides, units):
    starts = torch.stack((torch.zeros(3, dtype=d), torch.tensor(sides, dtype=d)))
    found = ZeroSearch.around(abs, abs, starts, starts, 0.5, 1e-9)
    assert found.unit.tolist() == units


@pytest.mark.parametrize(
    ("starts", "settled", "low", "high", "scale"),
    [
        pytest.param([[0, 0], [8, 2]], [[1, 5]], [-4, -4], [12, 9], 8, id="longest edge"),
        pytest.param([[0, 0], [40, 2]], [[1, 0], [4, 0]], [-20, -20], [60, 22], 30, id="settled"),
        pytest.param([[0, 0], [40, 2]], [[1, 0]], [-20, -20], [60, 22], 10, id="settled in one"),
        pytest.param([[0, 0], [40, 2]], [], [-20, -20], [60, 22], 40, id="none has settled"),
        pytest.param([[0, 0], [0.5, 0.25]], [], [-0.5, -0.5], [1, 0.75], 0.5, id="short edges"),
        pytest.param([[3, 3]], [], [2.5, 2.5], [3.5, 3.5], 1, id="one start"),
    ],
)
def test_the_box_and_the_scale_of_a_search_are_those_of_its_starts_and_of_settled_states(
    starts, settled, low, high, scale
):
    starts, settled = (torch.tensor(each, dtype=d).reshape(-1, 2) for each in (starts, settled))
    found = ZeroSearch.around(abs, abs, starts, settled, 0.5, 1e-9)
    assert (found.low.tolist(), found.high.tolist(), found.scale.item()) == (low, high, scale)


@pytest.mark.parametrize("zero", [(-3.5, -3.5), (11.5, 5.5)])
def test_zeros_near_corners_of_a_box_with_units_are_found_in_blocks_of_two(zero, monkeypatch):
    starts, calls = torch.tensor([[0, 0], [8, 2], [4, 1], [2, 0], [1, 1]], dtype=d), []
    zero, slope = torch.tensor(zero, dtype=d), 2 * torch.eye(2, dtype=d)
    search = ZeroSearch.around(
        lambda s: 2 * s - zero, lambda s: slope.expand(len(s), 2, 2), starts, starts, 0.5, 1e-10
    )
    assert search.unit.tolist() == [1, 0.25]
    monkeypatch.setattr(root_search, "BLOCK", 2 * 2**2)
    ends, _ = search.find(starts, lambda *numbers: calls.append(numbers))
    torch.testing.assert_close(ends, zero.expand(5, 2))
    assert calls[0] == (0, 5) and calls == sorted(calls) and calls[-1] == (5, 5)


@pytest.mark.parametrize("high", [5.0, 0.9], ids=["in the box", "at its edge"])
def test_a_step_of_a_search_is_damped_less_after_success_and_more_after_failure(high):
    """A cubic with one zero, and a minimum of its modulus at sqrt(2 / 3)."""
    value, slope = lambda s: s**3 - 2 * s + 2, lambda s: 3 * s**2 - 2
    visited, wanted, s, damping = [], [], 0.0, 0.1
    while len(wanted) < 20:
        speed = abs(value(s))
        trial = s - slope(s) * value(s) / (slope(s) ** 2 + damping * speed)
        wanted.append(trial)
        if trial <= high and abs(value(trial)) < speed:
            s, damping = trial, damping / 8
        else:
            damping *= 4

    def step(s):
        visited.append(s.item())
        return s + value(s)

    r = Residual(step, lambda s: (1 + slope(s))[:, :, None], torch.ones(1, dtype=d))
    low, start, high = (torch.tensor([[each]], dtype=d) for each in (-5.0, 0.0, high))
    ends, minima = search_of_speed(r, start, low[0], high[0], 1e-10)
    assert visited[1:13] == pytest.approx(wanted[:12])
    assert ends.item() == pytest.approx(math.sqrt(2 / 3), rel=1e-6) and minima.item()


@pytest.mark.parametrize("side", [0.5, -0.5])
@pytest.mark.parametrize("bend", [1, -1], ids=["saddle", "minimum"])
def test_beside_a_saddle_of_the_speed_is_a_state_on_its_slower_side(bend, side):
    def step(s):
        x, y = s.T
        return s + torch.stack((1 - bend * (x**2 + 0.2 * side * x**3), y), 1)

    slopes = torch.diag(torch.tensor([1.0, 2.0], dtype=d))[None]  # at 0
    r = Residual(step, lambda s: slopes, torch.ones(2, dtype=d))
    saddles, beside = slower_beside(r, torch.zeros(1, 2, dtype=d), torch.tensor(0.5))
    assert saddles.item() == (bend > 0) and len(beside) == saddles.sum()
    assert not len(beside) or beside[0].tolist() == pytest.approx([side, 0])


def test_a_search_that_ends_at_the_edge_of_the_box_is_no_slow_point(monkeypatch):
    """F(s) - s = exp(-s) falls without a minimum: at the edge it is below a hundredth of its median
    at the starts. The search begins at the three starts and at the states that they reach.
    """
    monkeypatch.setattr(iterated_map, "LONGEST", 240)
    found = search(lambda s: s + torch.exp(-s), grid(-2, 0, 3))
    assert found.settled > 0 and len(found.states) == 0
    assert found.at_edge == 3
    assert found.least_residual < 0.01 * math.e


def test_only_starts_are_counted_and_points_at_the_edge_have_not_failed():
    ends = _Ends(
        states=torch.tensor([0.0, 0.5, 0.0, 0.0, 0.5, 0.0, 0.5], dtype=d)[:, None],
        speeds=torch.tensor([0.5, 0.5, 0.0, 0.25, 0.0, 0.5, 0.0], dtype=d),
        closed=torch.tensor([False, False, True, False, True, False, True]),
        fixed=torch.tensor([False, False, True, False, False, False, False]),
        slow=torch.tensor([False, False, False, True, False, False, False]),
    )
    box = torch.tensor([[0.0], [1.0]], dtype=d)
    within = replace(ZeroSearch.around(abs, abs, box, box, 1.0, 1e-9), low=box[0], high=box[1])
    more = _Ends(*(field[1:2] for field in ends))
    rounds = [(torch.zeros(5, 1, dtype=d), ends), (torch.zeros(1, 1, dtype=d), more)]
    found = _counts(within, rounds)
    assert found == {"least_residual": 0.0, "shorter": 1, "at_edge": 1}


@pytest.mark.parametrize(
    ("rate", "is_slow"),
    [
        pytest.param(1e-9, True, id="nearly stands still"),
        pytest.param(1e-3, False, marks=pytest.mark.slow, id="moves on"),
    ],
)
def test_a_state_that_nearly_stands_still_is_a_slow_point_without_a_minimum(rate, is_slow):
    """F(s) - s is the rate times 1 + s / 4, whose zero is outside of the box."""
    found = search(lambda s: s + rate * (1 + s / 4), grid(0, 1, 5), margin=1.0)
    assert found.is_slow.any() == is_slow
    assert found.is_slow.all()


def test_the_resolution_of_large_states_is_their_rounding(monkeypatch):
    monkeypatch.setattr(iterated_map, "LONGEST", 240)
    for offset, least in ((0.0, 1e-4), (1e9, 1e9 * 2.0**-26)):
        found = search(lambda s, c=offset: c + (s - c) / 2, offset + grid(-1, 1, 5))
        assert len(found.states) == 1
        assert found.resolution == pytest.approx(max(2 * 1e-4, least), rel=1e-6)
    both = search(lambda s: torch.stack((s[0] / 2, 5e8 + s[1] / 2)), drawn(5, 2))
    assert both.resolution == pytest.approx(1e9 * 2.0**-26, rel=1e-6)
    none = search(lambda s: s + 1, grid(0, 1, 5).float())
    assert len(none.states) == 0 and none.resolution == pytest.approx(1e-4)


def test_all_points_of_a_cycle_are_found_from_one_of_them():
    found = search(lambda s: 3.2 * s * (1 - s), torch.tensor([0.51], dtype=d), period=2)
    points = np.roots([3.2**2, -3.2 * 4.2, 4.2])  # of s' = 3.2 s (1 - s) and back
    np.testing.assert_allclose(np.sort(found.states[:, 0]), np.sort(points), atol=1e-9)
    assert found.found_from.tolist() == [1, 0] and found.cycle.tolist() == [0, 0]
