"""The map of several steps under a constant input: its states, cycles, and where starts settle."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from gersgorin.analyses import iterated_map
from gersgorin.analyses.iterated_map import IteratedMap
from gersgorin.analyses.point_search import (
    MoreStarts,
    _classified,
    _distinct_points,
    _Ends,
    _Found,
    _isolated,
)
from gersgorin.root_search import ZeroSearch
from gersgorin.step import as_step

d = torch.float64
QUARTER = torch.tensor(0.25, dtype=d)


def iterated(F, size, period):
    """The map F^period of a step that reads no input."""
    step, x = as_step(lambda x, s: F(s), torch.zeros(1, 1), torch.zeros(size, dtype=d))
    return IteratedMap(step, x, period)


def rolled(s):
    return s.roll(1)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_states_along_a_map_are_those_of_a_plain_loop(count):
    twice = iterated(lambda s: rolled(s) / 2, 2, 2)
    s = torch.arange(2.0 * count, dtype=d).reshape(count, 2)
    wanted = torch.stack([s, s.flip(1) / 2, s / 4, s.flip(1) / 8])
    assert torch.equal(twice.along(s, 3), wanted)
    assert torch.equal(twice(s), wanted[2])
    assert torch.equal(twice.jacobian(s), torch.eye(2, dtype=d).expand(count, 2, 2) / 4)


@pytest.mark.parametrize(
    ("state", "period", "closes"),
    [
        pytest.param([1, 1, 1, 1], 3, True, id="a point, in three steps"),
        pytest.param([1, 1, 1, 1], 4, True, id="a point, in four steps"),
        pytest.param([1, 2, 1, 2], 4, True, id="a cycle of two, in four steps"),
        pytest.param([1, 2, 1, 2], 2, False, id="a cycle of two, in two steps"),
        pytest.param([1, 2, 1, 3], 4, False, id="a cycle of four, of which half returns"),
        pytest.param([1, 1.25, 1, 1.25], 2, True, id="up to a distance"),
        pytest.param([1, 1.5, 1, 1.5], 2, False, id="beyond it"),
    ],
)
def test_a_cycle_closes_early_after_a_divisor_of_the_steps(state, period, closes):
    s = torch.tensor([state], dtype=d)
    assert iterated(rolled, 4, period).closes_early(s, QUARTER).tolist() == [closes]


def test_cycles_are_numbered_in_the_order_of_their_points():
    """Points that differ in one entry only, and one that is at the distance of its cycle."""
    points = torch.tensor([[0, 1], [0, 2], [1.25, 0], [2, 0], [3, 3]], dtype=d)
    swapped = iterated(rolled, 2, 2)
    assert swapped.cycle_of(points, QUARTER).tolist() == [0, 1, 0, 1, 2]
    assert swapped.cycle_of(points[[3, 0, 4]], QUARTER).tolist() == [0, 1, 2]
    assert swapped.cycle_of(points[:0], QUARTER).shape == (0,)


@pytest.mark.parametrize(
    ("F", "size", "period", "steps"),
    [
        pytest.param(lambda s: s + 1e-3 * (s > 2), 1, 1, 240, id="one of the states drifts"),
        pytest.param(lambda s: -(1 + 1e-4) * s, 1, 2, 240, id="every other state drifts"),
        pytest.param(lambda s: -(1 + 1e-4) * s, 1, 1, 200, id="back and forth"),
        pytest.param(lambda s: s + 3.1e-7 * (s > 2), 1, 1, 240, id="by 1e-6 of the largest side"),
        pytest.param(lambda s: s + 2.9e-7 * (s > 2), 1, 1, 200, id="by less"),
        pytest.param(lambda s: s + 5.5e-8 * (s > 0.2), 0.1, 1, 240, id="by 1e-6, of small starts"),
        pytest.param(lambda s: s + 4.5e-8 * (s > 0.2), 0.1, 1, 200, id="by less, of small starts"),
    ],
)
def test_starts_are_followed_while_one_of_them_drifts(F, size, period, steps, monkeypatch):
    """Looks are 20 steps apart; a side is the largest distance from the mean, 6, or 1."""
    monkeypatch.setattr(iterated_map, "LONGEST", 240)
    starts = size * torch.tensor([[-2.0], [0.0], [8.0]], dtype=d)
    found, until = iterated(F, 1, period).settled(starts)
    assert until == steps
    for _ in range(period * steps):
        starts = F(starts)
    torch.testing.assert_close(found.sort(0)[0], starts.sort(0)[0], rtol=1e-12, atol=0)


@pytest.mark.parametrize(("apart", "count"), [(5e-4, 3), (7e-4, 4)])
def test_states_that_settle_within_a_share_of_the_side_are_one(apart, count):
    """1e-4 of the side 6."""
    starts = torch.tensor([[-2.0], [0.0], [8.0], [8.0 + apart]], dtype=d)
    assert len(iterated(lambda s: 1 * s, 1, 1).settled(starts)[0]) == count


@pytest.mark.parametrize(
    ("paths", "still", "drifts"),
    [
        pytest.param([[0, 0, 3]], 2, True, id="beyond the distance"),
        pytest.param([[0, 0, 3]], 3, False, id="at the distance"),
        pytest.param([[1, 4, 3]], 1, False, id="half of the way"),
        pytest.param([[1, 5, 4]], 1, True, id="more than half of it"),
        pytest.param([[0, 0, 3], [5, 5, 5]], 2, True, id="one of two states"),
        pytest.param([[0, 9, 3], [5, 5, 6]], 2, False, id="one far, and another one way"),
    ],
)
def test_a_state_drifts_if_it_moves_mostly_one_way(paths, still, drifts):
    path = torch.tensor(paths, dtype=d).T[:, :, None]
    assert iterated_map._drifts(path, torch.tensor(still)) == drifts


def test_fixed_points_are_before_slow_ones_and_are_counted_from_starts_only():
    kinds = ["fixed", "slow", "fixed", "other", "slow", "fixed"]
    is_fixed, is_slow = (
        torch.tensor([kind == name for kind in kinds]) for name in ("fixed", "slow")
    )
    ends = _Ends(
        states=torch.tensor([3.0, 5.0, 3.125, 7.0, 6.0, 4.0], dtype=d)[:, None],
        speeds=torch.tensor([0.25, 0.5, 0.125, 0.0, 0.75, 0.0], dtype=d),
        closed=is_fixed,
        fixed=is_fixed,
        slow=is_slow,
    )
    found = _distinct_points(ends, QUARTER, starts=3)
    assert found.states[:, 0].tolist() == [3.125, 4.0, 5.0, 6.0]
    assert found.speeds.tolist() == [0.125, 0.0, 0.5, 0.75]
    assert found.found_from.tolist() == [2, 0, 1, 0]
    assert found.is_slow.tolist() == [False, False, True, True]


def test_a_slow_end_at_a_fixed_point_is_this_point():
    is_fixed = torch.tensor([False, True, False, True])
    ends = _Ends(
        states=torch.tensor([1.0, 1.125, 9.0, 1.25], dtype=d)[:, None],
        speeds=torch.tensor([0.0, 0.5, 0.125, 0.25], dtype=d),
        closed=is_fixed,
        fixed=is_fixed,
        slow=~is_fixed,
    )
    found = _distinct_points(ends, QUARTER, starts=4)
    assert found.states[:, 0].tolist() == [1.25, 9.0]
    assert found.found_from.tolist() == [3, 1] and found.is_slow.tolist() == [False, True]


def box_around(F, slope, low, high, tolerance):
    """A search for zeros of F(s) - s, whose box has the given corners."""
    corners = torch.tensor([[low], [high]], dtype=d)
    return ZeroSearch.around(F, lambda s: slope(s)[:, :, None], corners, corners, 1e-3, tolerance)


def test_only_states_that_nearly_stand_still_are_followed_to_zeros():
    """The speed |s| / 2 at two states, and the limit of a search on a scale of 1e7."""
    search = box_around(lambda s: s / 2, lambda s: 0 * s + 0.5, 0.0, 1e7, 1e-10)
    found = search.to_zeros(torch.tensor([[1.5], [2.5]], dtype=d))
    assert found.flatten().tolist() == [0.0, 2.5]


def test_searches_that_have_met_end_at_one_state_and_others_at_their_own():
    """Two minima of the speed above 0, at -1 and 1, and a zero at 3."""

    def speed(s):
        return torch.where(s < 2, 0.5 + (s * s - 1) ** 2, 2 * (3 - s))

    def slope(s):
        return 1 + torch.where(s < 2, 4 * s * (s * s - 1), -2 + 0 * s)

    search = box_around(lambda s: s + speed(s), slope, -4.0, 4.0, 1e-10)
    starts = torch.tensor([[-1.5], [1.25], [-1.25], [2.5], [0.0]], dtype=d)
    ends, minima = search.find(starts)
    wanted = torch.tensor([-1.0, 1.0, -1.0, 3.0], dtype=d)
    torch.testing.assert_close(ends[:4, 0], wanted, atol=1e-6, rtol=0)
    assert minima[:3].all()
    assert abs(ends[4, 0].abs() - 1) < 1e-6  # 0 is a saddle of the speed: it goes on to a side


@pytest.mark.parametrize(
    ("period", "slow"),
    [
        pytest.param(1, [False, True, False, False, True, False], id="points"),
        pytest.param(2, [False] * 6, id="cycles"),
    ],
)
def test_slow_points_are_minima_below_a_speed_and_states_that_nearly_stand_still(period, slow):
    """The speed of 2 s is |s|. The scale is 1, of which 1e-7 stands nearly still."""
    F = iterated(lambda s: 2 * s, 1, period)
    states = torch.tensor([0.0, 0.5, 0.75, 0.25, 1e-7, 2e-7], dtype=d)[:, None] / (2**period - 1)
    is_minimum = torch.tensor([False, True, True, False, False, False])
    corners = torch.tensor([[0.0], [1.0]], dtype=d)
    search = ZeroSearch.around(F, F.jacobian, corners, corners, 1e-3, 1e-10)
    found = _classified(F, search, states, is_minimum, torch.tensor(0.5, dtype=d))
    assert found.slow.tolist() == slow
    assert found.closed.tolist() == [True] + [False] * 5
    assert found.fixed.tolist() == [period == 1] + [False] * 5


def test_isolated_points_are_those_of_a_regular_difference_from_the_identity():
    """At a point s of s - s^2 / 2, the singular values of I - J are the entries of s."""
    points = [[1, 2e-7], [1, 5e-8], [1e-3, 2e-10], [1e-3, 5e-11], [0, 0], [1, 1]]
    states = torch.tensor(points, dtype=d)
    is_slow = np.array([False] * 5 + [True])
    none = torch.zeros(6)
    found = _Found(states=states, speeds=none, found_from=none, is_slow=is_slow)
    assert _isolated(iterated(lambda s: s - s**2 / 2, 2, 1), found) == 2


def test_later_starts_are_between_two_states_and_around_one_of_a_run_and_of_points():
    """The run lies on a line with the sum 4 of the first two entries, the points on one with 8.
    Around a state, the median of |z| 10^-u for normal z and uniform u is 0.194.
    """
    low = torch.tensor([-1e3, 2e3, 0.0], dtype=d)
    high = torch.tensor([1e3, 6e3, 8e3], dtype=d)
    middle = (low + high) / 2
    run = middle + torch.tensor([[0.0, 4.0, 1.0], [4.0, 0.0, 1.0]], dtype=d)
    points = middle + torch.tensor([[0.0, 8.0, 1.0], [8.0, 0.0, 1.0]], dtype=d)
    more = MoreStarts(4002, run, np.random.default_rng(0))
    drawn = more.draw(points, SimpleNamespace(low=low, high=high)) - middle
    of_run, around_run, of_points, around_points = drawn.split([1001, 1000, 1001, 1000])
    for between, total in ((of_run, 4.0), (of_points, 8.0)):
        torch.testing.assert_close(between[:, :2].sum(1), torch.full((1001,), total, dtype=d))
        assert between.min() == 0 and between.max() == total
        is_inside = (between > 0).all(1)
        assert 0.45 < is_inside.double().mean() < 0.55, "the others are twice the same state"
    for around in (around_run, around_points):
        deviations = around.abs() / (high - low)
        assert deviations.median().item() == pytest.approx(0.194, rel=0.1)
        assert deviations.max() == 0.5, "at the edge of the box"
    alone = more.draw(points[:1], SimpleNamespace(low=low, high=high)) - middle
    torch.testing.assert_close(alone[:2001, :2].sum(1), torch.full((2001,), 4.0, dtype=d))
