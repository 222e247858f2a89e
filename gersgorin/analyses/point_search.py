"""Search for the fixed and slow points of a map F^k, and measure what holds at them.

Legend: B starts of a round; b states; N entries of a state; P points; k period.
"""

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
SLOW = 0.01  # largest |F(s) - s| at a slow point, of the median at the starts


def spread(run: Run, count: int, seed: int) -> Tensor:
    """The starts (count, N) of a search along a run, as `fixed_points` says."""
    states, generator = run.states, torch.Generator("cpu").manual_seed(seed)
    draw = partial(torch.rand, generator=generator, dtype=torch.float64, device="cpu")
    if bool((run.inputs == run.inputs[0]).all()) or bool((states == states[0]).all()):
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


def found_points(F: IteratedMap, starts: Tensor, margin: float, advance: Advance) -> dict[str, Any]:
    """The fields of `FixedPoints` about the points and the search."""
    settled, steps = F.settled(starts)
    search = ZeroSearch.around(F, F.jacobian, starts, settled, margin, TOLERANCES[starts.dtype])
    at_starts = search.r.speed(starts)
    checks.are_finite(f"step of {F.step.name} at the starts", at_starts[:, None])
    states, minima = _searched(F, search, torch.cat((starts, settled)), advance)
    ends = _classified(F, search, states, minima, SLOW * at_starts.median())
    points = _distinct_points(ends, search.apart, len(starts))
    return {
        **_measured(F, search, points),
        **_counts(search, ends, len(starts)),
        "settled": len(settled),
        "settled_after": steps,
    }


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


def _distinct_points(ends: _Ends, apart: Tensor, starts: int) -> _Found:
    """Those of the ends that differ; `starts` of them are from starts."""
    fixed, from_fixed = distinct(ends.states, ends.speeds, ends.fixed, apart, starts)
    slow, from_slow = distinct(ends.states, ends.speeds, ends.slow, apart, starts)
    rows = torch.cat((fixed, slow))
    return _Found(
        states=ends.states[rows],
        speeds=ends.speeds[rows],
        found_from=torch.cat((from_fixed, from_slow)),
        is_slow=np.arange(len(rows)) >= len(fixed),
    )


def _measured(F: IteratedMap, search: ZeroSearch, points: _Found) -> dict[str, Any]:
    """The fields of `FixedPoints` about the points."""
    s = points.states
    A = torch.cat([F.jacobian(part) for part in root_search.blocks(s)] or [F.jacobian(s)])
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


def _counts(search: ZeroSearch, ends: _Ends, starts: int) -> dict[str, Any]:
    """The fields of `FixedPoints` about the searches from the starts."""
    shorter = ends.closed & ~ends.fixed
    failed = ~(ends.closed | ends.slow)
    failed_at_edge = failed & search.at_edge(ends.states)
    return {
        "least_residual": float(ends.speeds.min()),
        "shorter": int(shorter[:starts].sum()),
        "at_edge": int(failed_at_edge[:starts].sum()),
    }
