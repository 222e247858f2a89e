"""Search for the fixed and slow points of a map F^k in rounds, and measure what holds at them.

The first round starts at the states of a run, or at given ones, and at the states in which these
settle. Half of the starts of a later round are between two states of the run or two points, half
are around them. The last round is the first one that adds no isolated fixed point.

Legend: B starts of a round; b states; N entries of a state; P points; k period.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gersgorin import checks, root_search
from gersgorin.analyses.iterated_map import IteratedMap
from gersgorin.linalg.spectrum import eigenvalues_or_nan
from gersgorin.points import distinct
from gersgorin.root_search import ZeroSearch
from gersgorin.run import Run
from gersgorin.smoothness import difference, jumps
from rhn.utils.progress import Advance

TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-5}
MOST_ROUNDS = 20
NEAREST = 0.1  # of an edge of the box, the least deviation of starts around a state
SINGULAR = 1e-7  # of its largest singular value, the least one of I - J at an isolated point
SLOW = 0.01  # largest |F(s) - s| at a slow point, of the median at the starts


def spread(run: Run, count: int, seed: int) -> Tensor:
    """The starts (count, N) of a search along a run, as `fixed_points` says."""
    states, generator = run.states, torch.Generator("cpu").manual_seed(seed)
    draw = partial(torch.rand, generator=generator, dtype=torch.float64, device="cpu")
    inputs_change, states_change = (bool(t.diff(dim=0).any()) for t in (run.inputs, states))
    if not (inputs_change and states_change):
        size = count, run.state_size
        noise = torch.randn(size, generator=generator, dtype=torch.float64, device="cpu").to(states)
        noise[0] = 0
        return states[0] + states[0].abs().max().clamp(min=1) * noise
    whole = min(count, len(states))
    some = states[torch.arange(whole, device=states.device) * len(states) // whole]
    pairs = torch.randint(len(states), (2, count - whole), generator=generator, device="cpu")
    first, second = pairs.to(states.device)
    share = draw(count - whole, 1).to(states)
    return torch.cat((some, share * states[first] + (1 - share) * states[second]))


@dataclass(frozen=True, eq=False)
class MoreStarts:
    """Draws the starts of each round after the first one."""

    count: int
    """Number of starts of a round."""
    run: Tensor
    """The states of a run, (T + 1, N)."""
    random: np.random.Generator

    def draw(self, points: Tensor, search: ZeroSearch) -> Tensor:
        """Starts (count, N) in the box of the search: half of them between two states of the run or
        two of these points (P, N), half around one of them.
        """
        pools = [pool for pool in (self.run, points) if len(pool) > 1] or [self.run]
        drawn = list[Tensor]()
        for pool, count in zip(pools, _shares(self.count, len(pools)), strict=True):
            between, around = _shares(count, 2)
            drawn += [self._between(pool, between), self._around(pool, around, search)]
        return torch.cat(drawn).clamp(search.low, search.high)

    def _between(self, pool: Tensor, count: int) -> Tensor:
        """States (count, N) on the lines between random pairs of a pool (b, N)."""
        first, second = (pool[self.random.integers(len(pool), size=count)] for _ in range(2))
        share = torch.from_numpy(self.random.random((count, 1))).to(pool)
        return share * first + (1 - share) * second

    def _around(self, pool: Tensor, count: int, search: ZeroSearch) -> Tensor:
        """States (count, N) around random ones of a pool (b, N). Their deviations are from a tenth
        of the edges of the box to a whole edge.
        """
        middle = pool[self.random.integers(len(pool), size=count)]
        noise = self.random.standard_normal((count, pool.shape[1]))
        noise *= NEAREST ** self.random.random((count, 1))
        return middle + (search.high - search.low) * torch.from_numpy(noise).to(pool)


def _shares(count: int, parts: int) -> list[int]:
    """A count in nearly equal parts, the larger ones first."""
    return [len(part) for part in np.array_split(np.arange(count), parts)]


class _Ends(NamedTuple):
    """The ends of all searches, b; those from the B starts are first."""

    states: Tensor
    """(b, N)."""
    speeds: Tensor
    """|F^k(s) - s|, (b,)."""
    closed: Tensor
    """True for zeros of F^k(s) - s, (b,)."""
    fixed: Tensor
    """True for those of them that have no shorter period, (b,)."""
    slow: Tensor
    """True for slow points, (b,)."""


class _Found(NamedTuple):
    """The P points: the fixed ones first, then the slow ones."""

    states: Tensor
    """(P, N)."""
    speeds: Tensor
    """(P,)."""
    found_from: Tensor
    """Number of starts that led there, (P,)."""
    is_slow: np.ndarray
    """(P,)."""


def found_points(
    F: IteratedMap, starts: Tensor, margin: float, more: MoreStarts | None, advance: Advance
) -> dict[str, Any]:
    """The fields of `FixedPoints` about the points and the search. more: None for one round."""
    settled, steps = F.settled(starts)
    search = ZeroSearch.around(F, F.jacobian, starts, settled, margin, TOLERANCES[starts.dtype])
    at_starts = search.r.speed(starts)
    checks.are_finite(f"step of {F.step.name} at the starts", at_starts[:, None])
    slow_speed = SLOW * at_starts.median()

    def ends_from(states: Tensor, before: int = 0) -> _Ends:
        report = partial(_report, advance, before)
        return _classified(F, search, *_searched(F, search, states, report), slow_speed)

    rounds = [(starts, ends_from(torch.cat((starts, settled))))]
    points = _points_of(rounds, search.apart)
    if more is not None:
        found, known = _isolated(F, points), -1
        while found > known and len(rounds) < MOST_ROUNDS:
            drawn = more.draw(points.states, search)
            before = sum(len(states) for states, _ in rounds) + len(settled)
            rounds.append((drawn, ends_from(drawn, before)))
            points = _points_of(rounds, search.apart)
            found, known = _isolated(F, points), found
    return {
        **_measured(F, search, points),
        **_counts(search, rounds),
        "starts": torch.cat([states for states, _ in rounds]).cpu().numpy(),
        "rounds": len(rounds),
        "settled": len(settled),
        "settled_after": steps,
    }


def _report(advance: Advance, before: int, done: int, total: int) -> None:
    advance(before + done, before + total)


def _isolated(F: IteratedMap, points: _Found) -> int:
    """The number of fixed points at which I - J is regular."""
    fixed, count = points.states[~torch.from_numpy(points.is_slow)], 0
    identity = torch.eye(fixed.shape[1], dtype=fixed.dtype, device=fixed.device)
    for part in root_search.blocks(fixed):
        J = F.jacobian(part)
        checks.are_finite(f"derivative of {F.step.name} at a point", J)
        sizes = torch.linalg.svdvals(identity - J)
        count += int((sizes[:, -1] > SINGULAR * sizes[:, 0]).sum())
    return count


def _searched(
    F: IteratedMap, search: ZeroSearch, states: Tensor, advance: Advance
) -> root_search.Ends:
    """The ends of the searches from states (b, N), and the other points of their cycles."""
    ends, minima = search.find(states, advance)
    if F.period == 1:
        return ends, minima
    orbits = F.along(ends[search.are_zeros(ends)], F.period - 1)[1:].flatten(0, 1)
    no_minima = minima.new_zeros(len(orbits))
    return torch.cat((ends, search.to_zeros(orbits))), torch.cat((minima, no_minima))


def _classified(
    F: IteratedMap, search: ZeroSearch, states: Tensor, minima: Tensor, slow_speed: Tensor
) -> _Ends:
    """The kinds of the ends (b, N) of searches. slow_speed: largest speed of a slow minimum."""
    speeds, closed = search.r.speed(states), search.are_zeros(states)
    slow_minima = minima & (speeds <= slow_speed)
    nearly_stand_still = speeds <= root_search.STILL * search.scale
    slow = (slow_minima | nearly_stand_still) & ~closed
    return _Ends(
        states=states,
        speeds=speeds,
        closed=closed,
        fixed=closed & ~F.closes_early(states, search.apart),
        slow=slow if F.period == 1 else torch.zeros_like(slow),
    )


def _points_of(rounds: list[tuple[Tensor, _Ends]], apart: Tensor) -> _Found:
    """The distinct points of all rounds."""
    from_starts = [_part(ends, slice(len(states))) for states, ends in rounds]
    others = [_part(ends, slice(len(states), None)) for states, ends in rounds]
    count = sum(len(states) for states, _ in rounds)
    return _distinct_points(_joined((*from_starts, *others)), apart, count)


def _part(ends: _Ends, rows: slice) -> _Ends:
    return _Ends(*(field[rows] for field in ends))


def _joined(parts: Iterable[_Ends]) -> _Ends:
    return _Ends(*(torch.cat(fields) for fields in zip(*parts, strict=True)))


def _distinct_points(ends: _Ends, apart: Tensor, starts: int) -> _Found:
    """Those of the ends that differ, fixed points first; `starts` of the ends are from starts. A
    slow end at a fixed point is this point: along a flat curve rounding decides which it is.
    """
    fixed_first = torch.where(ends.fixed, -1 / ends.speeds, ends.speeds)
    rows, counts = distinct(ends.states, fixed_first, ends.fixed | ends.slow, apart, starts)
    is_slow, order = ends.slow[rows].sort(stable=True)
    return _Found(
        states=ends.states[rows[order]],
        speeds=ends.speeds[rows[order]],
        found_from=counts[order],
        is_slow=is_slow.cpu().numpy(),
    )


def _measured(F: IteratedMap, search: ZeroSearch, points: _Found) -> dict[str, Any]:
    """The fields of `FixedPoints` about the points."""
    s = points.states
    A = torch.cat([F.jacobian(part) for part in root_search.blocks(s)])
    checks.are_finite(f"derivative of {F.step.name} at a point", A)
    arrays = {
        "states": s,
        "residuals": points.speeds,
        "found_from": points.found_from,
        "jacobians": A,
        "eigenvalues": eigenvalues_or_nan(A),
        "jumps": jumps(lambda _, s: F(s), s, s, F(s), search.scale),
        "cycle": F.cycle_of(s, search.apart),
    }
    push = partial(torch.einsum, "bij,bj->bi", A)
    largest = s.abs().amax().item() if len(s) else 0.0
    rounding = torch.finfo(s.dtype).eps ** 0.5 * largest
    return {
        **{name: array.cpu().numpy() for name, array in arrays.items()},
        "is_slow": points.is_slow,
        "difference": difference(lambda _, s: F(s), s, s, push),
        "resolution": max(float(search.apart), rounding),
    }


def _counts(search: ZeroSearch, rounds: list[tuple[Tensor, _Ends]]) -> dict[str, Any]:
    """The fields of `FixedPoints` about the searches from the starts."""
    ends = _joined(_part(ends, slice(len(states))) for states, ends in rounds)
    failed = ~(ends.closed | ends.slow)
    return {
        "least_residual": min(float(each.speeds.min()) for _, each in rounds),
        "shorter": int((ends.closed & ~ends.fixed).sum()),
        "at_edge": int((failed & search.at_edge(ends.states)).sum()),
    }
