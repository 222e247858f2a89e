"""The map of several steps under a constant input: its states, cycles, and where starts settle."""

import pytest
import torch

from gersgorin.analyses import iterated_map
from gersgorin.analyses.iterated_map import IteratedMap
from gersgorin.analyses.point_search import _distinct_points, _Ends
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
    ("F", "period", "steps"),
    [
        pytest.param(lambda s: s + 1e-3 * (s > 2), 1, 240, id="one of the states drifts"),
        pytest.param(lambda s: -(1 + 1e-4) * s, 2, 240, id="every other state drifts"),
        pytest.param(lambda s: -(1 + 1e-4) * s, 1, 200, id="back and forth"),
        pytest.param(lambda s: s + 1e-6 * (s > 2), 1, 240, id="twenty times its distance"),
        pytest.param(
            lambda s: s + 1e-7 * (s > 2), 1, 200, id="twice its distance, of large starts"
        ),
    ],
)
def test_starts_are_followed_while_one_of_them_drifts(F, period, steps, monkeypatch):
    monkeypatch.setattr(iterated_map, "LONGEST", 240)
    starts = torch.tensor([[-2.0], [0.0], [8.0]], dtype=d)
    found, until = iterated(F, 1, period).settled(starts)
    assert (len(found), until) == (3, steps)


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
