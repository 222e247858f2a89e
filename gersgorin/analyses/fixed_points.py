"""Fixed points of one step F under constant input: the states s with F(s) = s, the cycles of F, and
the eigenvalues and modes there.

Zeros of F(s) - s are searched from many starting states at once, and so are minima of its norm, the
slow points (`gersgorin.root_search`). The search stays in a box: far from the states of a run gates
saturate, and |F(s) - s| falls below every tolerance although the state still moves.

Legend: B starts (starting states); N entries of a state; P points; m inputs; k period; F^k the map
of k steps. Fixed points come before slow points; in each group, the points to which most starts led
come first.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple, Unpack

import numpy as np
import torch
from torch import Tensor, nn

from gersgorin import checks, root_search
from gersgorin.analyses.iterated_map import IteratedMap
from gersgorin.linalg.spectrum import eigenvalues_or_nan
from gersgorin.linalg.threads import one_thread
from gersgorin.packing import real_view
from gersgorin.points import distinct
from gersgorin.results import DIFFERENCE, StepResult, listed_blocks, values_or_nan
from gersgorin.root_search import ZeroSearch
from gersgorin.run import Run, RunOptions, names_options, open_run
from gersgorin.smoothness import difference, jumps
from rhn.utils.progress import Advance, reported
from rhn.utils.results import median_and_ends
from rhn.utils.torch_private import tree_leaves
from rhn.utils.validation import number, whole_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

STARTS = 50
# of the largest distance of an eigenvalue from 1: from the unit circle to a neutral one, at most
NEUTRAL = 1e-6
LEAST = 1e-7  # or this far
LONGEST_PERIOD = 256  # of which a search takes minutes
TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-5}
SLOW = 0.01  # largest |F(s) - s| at a slow point, of the median at the starts

FROM_STARTS, SPEED, IS_SLOW = "from starts", "|F(s) - s|", "slow"
ABOVE, AT, BELOW, RADIUS = "moduli > 1", "= 1", "< 1", "radius"
GROWTH_TIME, DECAY_TIME, JUMP, CYCLE = "growth time", "decay time", "jump", "cycle"
COLUMNS = (
    FROM_STARTS, SPEED, IS_SLOW, ABOVE, AT, BELOW, RADIUS, GROWTH_TIME, DECAY_TIME, JUMP, CYCLE,
)  # fmt: skip
FIXED, SLOWLY = "fixed points of F", "slow points"
RESOLUTION, PERIOD = "resolution of points", "period"
GIVEN, DISTINCT, OUTSIDE = "starts", "distinct starts", "starts outside the run"
REACHED, STEPS_UNTIL = "states that starts reach", "steps of F until then"
LED, SHORTER = "starts that led to a point", "starts that led to a shorter period"
AT_EDGE = "starts that ended at the edge of the box"
ELSEWHERE = "starts that failed elsewhere"
LEAST_SPEED, MARGIN = "least |F(s) - s| of all ends", "margin of the box"
COUNTS = (
    FIXED, SLOWLY, RESOLUTION, DIFFERENCE, PERIOD, GIVEN, DISTINCT, OUTSIDE, REACHED, STEPS_UNTIL,
    LED, SHORTER, AT_EDGE, ELSEWHERE, LEAST_SPEED, MARGIN,
)  # fmt: skip
UNKNOWN = "points whose eigenvalues did not converge"


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class FixedPoints(StepResult):
    """Fixed and slow points of one step under constant input, or the points of its cycles.

    >>> starts = torch.linspace(-1, 1, 5).double()[:, None]
    >>> found = fixed_points(lambda x, s: torch.tanh(2 * s + x), torch.zeros(1), starts=starts)
    >>> sorted(abs(found.states[:, 0]).round(3).tolist()), sorted(found.unstable.tolist())
    ([0.0, 0.958, 0.958], [0, 0, 1])
    """

    page: ClassVar[str] = "docs/guides/dynamics.md"
    item: ClassVar[str] = "point"
    headline: ClassVar[tuple[str, ...]] = (FIXED, SLOWLY)
    texts: ClassVar[tuple[str, ...]] = (*StepResult.run_texts, item, *COLUMNS, *COUNTS, UNKNOWN)

    states: Annotated[np.ndarray, "point", "entry"]
    """The fixed and slow points, (P, N). P may be 0. A complex number of a state is two entries,
    its real and its imaginary part.
    """
    residuals: Annotated[np.ndarray, "point"]
    """|F^k(s) - s|_2 at each point, (P,)."""
    is_slow: Annotated[np.ndarray, "point"]
    """True for slow points, (P,). They are not fixed, but |F(s) - s| is at most 1e-7 of the scale
    of the search, or a local minimum of at most a hundredth of its median at the starts.
    """
    eigenvalues: Annotated[np.ndarray, "point", "eigenvalue"]
    """Eigenvalues of dF^k/ds at each point, (P, N) complex, the largest modulus first; NaN at a
    point where they did not converge.
    """
    found_from: Annotated[np.ndarray, "point"]
    """Number of starts from which the search led to each point, (P,); 0 if the search led to the
    point only from a state that starts reach, or from another point of its cycle.
    """
    jumps: Annotated[np.ndarray, "point"]
    """How far the Jacobian jumps at each point, (P,), see `gersgorin.smoothness.jumps`. At a
    kink the eigenvalues may hold on one side or on none.
    """
    cycle: Annotated[np.ndarray, "point"]
    """The number of the cycle of each point, (P,), counted from 0; for k = 1 that of the point."""
    starts: Annotated[np.ndarray, "start", "entry"]
    """The starts of the search, (B, N)."""
    input: np.ndarray
    """The constant input (m,)."""
    trajectory: Annotated[np.ndarray, "time", "entry"]
    """States of the run, (T + 1, N)."""
    period: int
    """The period k; above 1 for points of cycles."""
    shorter: int
    """Number of starts that led to a point whose period is a divisor of k."""
    at_edge: int
    """Number of starts whose search failed at the edge of the box: a point may lie outside."""
    settled: int
    """Number of distinct states that the starts reach, where the search also begins."""
    settled_after: int
    """Number of steps of F^k from the starts to these states, from 200 to 10,000."""
    least_residual: float
    """Least |F^k(s) - s|_2 at the ends of all searches."""
    margin: float
    """Distance between the box of the search and the box of the starts and settled states, as a
    share of the longest edge of the box of the starts.
    """
    difference: Annotated[np.ndarray, "point"] | None = None
    """How much the Jacobian of F^k differs from differences at each point, (P,), see
    `gersgorin.smoothness.difference`; None in a result of 0.7.0.
    """
    resolution: float = math.nan
    """Points that differ by no more than this in every entry count as one; NaN in a result of
    0.7.0.
    """
    jacobians: Annotated[np.ndarray, "point", "entry", "entry"] | None = None
    """dF^k/ds at each point, (P, N, N); None in a result from a JSON file."""

    def __post_init__(self) -> None:
        if self.states.ndim == 1:  # no points: JSON has no shape (0, N), and no type of no numbers
            nothing = np.empty((0, self.starts.shape[1]))
            arrays = {"states": nothing, "eigenvalues": nothing.astype(complex)}
            for name, array in {**arrays, "is_slow": np.empty(0, bool)}.items():
                object.__setattr__(self, name, array)

    def to_dict(self) -> dict[str, Any]:
        return {name: value for name, value in super().to_dict().items() if name != "jacobians"}

    def modes(self, point: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """The eigenvalues (N,) of one point, counted from 0, the largest modulus first, and the
        directions of its modes, the columns of V (N, N). After t steps of F^k, a small deviation d
        is V (eigenvalues^t * V^-1 d). Raises InvalidInputError without such a point or Jacobian.
        """
        A = np.zeros(0) if self.jacobians is None else self.jacobians
        checks.require(len(A) > 0, "number of Jacobians", len(A), "those of a search with points")
        values, right = np.linalg.eig(A[whole_number("point", point, 0, len(A) - 1)])
        order = np.argsort(-np.abs(values), kind="stable")
        return values[order], right[:, order]

    @property
    def unstable(self) -> np.ndarray:
        """Number of eigenvalues outside the unit circle, for each point, (P,)."""
        return (self._beyond > 0).sum(-1)

    @property
    def neutral(self) -> np.ndarray:
        """Number of eigenvalues on the unit circle, for each point, (P,): at most 1e-7 (2e-6 in
        single precision) from it, or 1e-6 times the largest distance of an eigenvalue from 1.
        """
        return (self._beyond == 0).sum(-1)

    @property
    def _beyond(self) -> np.ndarray:
        """The distances |eigenvalue| - 1, (P, N); 0 for neutral eigenvalues."""
        beyond = np.abs(self.eigenvalues) - 1
        spread = np.abs(self.eigenvalues - 1).max(-1, initial=0, keepdims=True)
        least = max(LEAST, 16 * np.finfo(self.eigenvalues.dtype).eps)
        return np.where(np.abs(beyond) <= np.maximum(least, NEUTRAL * spread), 0, beyond)

    @property
    def time_constants(self) -> np.ndarray:
        """Time constants -k / log |eigenvalue|, (P, N): the number of time steps in which a
        deviation falls to 1/e; negative if it grows, and inf for a neutral eigenvalue.
        """
        with np.errstate(divide="ignore"):
            times = -self.period / np.log(np.abs(self.eigenvalues))
        return np.where(self._beyond == 0, np.inf, times)

    @property
    def growth_time(self) -> np.ndarray:
        """Number of time steps in which the fastest deviation from each point grows by e, (P,); inf
        if none grows, NaN without eigenvalues.
        """
        grows = (self.unstable > 0) | self._unknown
        return np.where(grows, -self.time_constants[:, 0], np.inf)

    @property
    def decay_time(self) -> np.ndarray:
        """Number of time steps in which the slowest deviation from each point that does not grow
        falls to 1/e, (P,); inf for a neutral eigenvalue, NaN if all grow.
        """
        first = self.unstable  # the number of the first eigenvalue that is not outside
        rows = np.flatnonzero(first < self.eigenvalues.shape[1])
        times = np.full(len(first), np.nan, self.time_constants.dtype)
        times[rows] = self.time_constants[rows, first[rows]]
        return times

    @property
    def outside_run(self) -> int:
        """Number of starts that are no states of the run."""
        states_of_run = {state.tobytes() for state in self.trajectory}
        return sum(start.tobytes() not in states_of_run for start in self.starts)

    @property
    def _unknown(self) -> np.ndarray:
        """True for points whose eigenvalues did not converge, (P,)."""
        return np.isnan(self.eigenvalues).any(1)

    def blocks(self) -> list[list[list[str]]]:
        return listed_blocks(self.item, self.table())

    def table(self) -> Mapping[str, Any]:
        P, N = self.eigenvalues.shape
        inside = N - self.unstable - self.neutral
        led = int(self.found_from.sum())
        failed = len(self.starts) - led - self.shorter - self.at_edge
        return {
            FROM_STARTS: self.found_from,
            SPEED: self.residuals,
            IS_SLOW: self.is_slow,
            ABOVE: np.where(self._unknown, np.nan, self.unstable),
            AT: np.where(self._unknown, np.nan, self.neutral),
            BELOW: np.where(self._unknown, np.nan, inside),
            RADIUS: np.abs(self.eigenvalues[:, 0]),
            GROWTH_TIME: self.growth_time,
            DECAY_TIME: self.decay_time,
            JUMP: self.jumps,
            CYCLE: self.cycle + 1,
            FIXED: int((~self.is_slow).sum()),
            SLOWLY: int(self.is_slow.sum()),
            RESOLUTION: self.resolution,
            DIFFERENCE: median_and_ends(values_or_nan(self.difference, P))[0],
            PERIOD: self.period,
            GIVEN: len(self.starts),
            DISTINCT: len(np.unique(self.starts, axis=0)),
            OUTSIDE: self.outside_run,
            REACHED: self.settled,
            STEPS_UNTIL: self.settled_after,
            LED: led,
            SHORTER: self.shorter,
            AT_EDGE: self.at_edge,
            ELSEWHERE: failed,
            LEAST_SPEED: self.least_residual,
            MARGIN: self.margin,
        }

    def notes(self) -> Mapping[str, int]:
        return {UNKNOWN: int(self._unknown.sum())}

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the points, the starts and the run along the principal axes of the starts."""
        from gersgorin.analyses.dynamics_figures import draw_states
        from rhn.utils.composer import new_axes  # loads matplotlib

        return draw_states(new_axes() if ax is None else ax, self)

    def draw(self, part: "SubFigure") -> float:
        from gersgorin.analyses.dynamics_figures import draw_states_and_eigenvalues

        return draw_states_and_eigenvalues(part, self)


@names_options(RunOptions)
@torch.no_grad()
@one_thread()
def fixed_points(
    network: Any,
    x: Any = None,
    s0: Any = None,
    *,
    starts: Any = STARTS,
    period: int = 1,
    margin: float = 0.5,
    seed: int = 0,
    **how: Unpack[RunOptions],
) -> FixedPoints:
    """Search from many starting states for the fixed points F(s) = s of one step under a constant
    input, and compute the eigenvalues at these points.

    The search stays in a box around the starts and the states in which they settle. Points outside
    are not found, and the search may miss points inside.

    Args:
        network, s0, state_size, ..., progress: as for `open_run`; s0 None, for a function: the
            first of the starts.
        x: the constant input (m,), or a sequence as for `open_run`, whose mean is the input.
        starts: the states to search from (B, N), each as one vector, which may be complex if the
            state is; or the number B of states of the run, evenly spread (Sussillo and Barak 2013).
            If the run has fewer states, random points between two of them are added. If the input
            is constant, or the state never moves, the starts are random states around the first
            one. The search also begins at the states that the starts reach in 200 steps, or in up
            to 10,000 if a state still drifts.
        period: number k of steps. If k is above 1, the search is for the points of cycles of k
            steps, F is the map of k steps, and the eigenvalues are the multipliers of the cycle.
            Slow points, and points whose period is a smaller divisor of k, are left out.
        margin: distance, on each side, between the box of the search and the box of the starts and
            settled states, in units of the longest edge of the box of the starts, or of 1 if this
            edge is shorter.
        seed: seed of the random starts.

    Raises InvalidInputError.

    >>> starts = torch.tensor([[-3.0], [0.1], [2.0]]).double()
    >>> found = fixed_points(lambda x, s: torch.tanh(2 * s), torch.zeros(1), starts=starts)
    >>> found.states.round(4).ravel().tolist()
    [-0.9575, 0.0, 0.9575]
    """
    given = None if isinstance(starts, int | np.integer) else checks.numbers("starts", starts)
    if given is not None:
        vectors = given.dim() == 2 and given.dtype in checks.PRECISIONS
        checks.require(vectors, "starts", checks.kind(given), "a number, or float vectors (B, N)")
        known = isinstance(network, nn.Module | Run) or how.get("state_size") is not None
        s0 = given[0] if s0 is None and not known else s0
    one = isinstance(x, Tensor | np.ndarray) and x.ndim == 1
    if one and torch.as_tensor(x).is_floating_point():
        x = x[None]
    run = open_run(network, x, s0, **how)
    run.check_memory()
    period = whole_number("period", period, 1, LONGEST_PERIOD)
    margin, seed = number("margin", margin, above=0), whole_number("seed", seed, 0)
    if given is None:
        given = spread(run, whole_number("starts", starts), seed)
    form, given = checks.kind(given), as_states(given, run)
    good = given.shape[1] == run.state_size
    checks.require(good, "starts", form, f"states of {run.state_size} entries")
    given = given.to(run.states)
    F = IteratedMap(run.step, held(run), period)
    with reported(run.progress, "fixed-points", total=len(given)) as advance:
        points = _points(F, given, margin, advance)
    return FixedPoints(
        **run.heading,
        **points,
        starts=given.cpu().numpy(),
        input=F.x[0].cpu().numpy(),
        trajectory=run.states.cpu().numpy(),
        period=period,
        margin=margin,
    )


def as_states(starts: Tensor, run: Run) -> Tensor:
    """Starts (B, N) as real numbers; complex ones are refused if a tensor of the state is real."""
    if not starts.is_complex():
        return starts
    state = run.states[0] if run.step.unpack is None else run.step.unpack(run.states[0])
    is_complex = all(part.is_complex() for part in tree_leaves(state))
    checks.require(is_complex, "starts", checks.kind(starts), "real numbers, as the state has them")
    return real_view(starts).flatten(1)


def held(run: Run) -> Tensor:
    """The constant input: the mean of the inputs of a run (1, m), or its only id (1,)."""
    x = run.inputs
    if x.is_floating_point():
        return x.mean(0, keepdim=True)
    checks.require(bool((x == x[0]).all()), "x", "a sequence of different ids", "one id, repeated")
    return x[:1]


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


def _points(F: IteratedMap, starts: Tensor, margin: float, advance: Advance) -> dict[str, Any]:
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
