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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Unpack

import numpy as np
import torch
from torch import Tensor, nn

from gersgorin import checks
from gersgorin.analyses.iterated_map import IteratedMap
from gersgorin.analyses.point_search import MoreStarts, found_points, spread
from gersgorin.linalg.threads import one_thread
from gersgorin.packing import real_view
from gersgorin.results import (
    DIFFERENCE,
    MOVE,
    StepResult,
    largest_move,
    values_or_nan,
)
from gersgorin.run import Run, RunOptions, names_options, open_run
from rhn.utils.progress import reported
from rhn.utils.result_files import ARRAYS_FIELD
from rhn.utils.results import median_and_ends
from rhn.utils.torch_private import tree_leaves
from rhn.utils.validation import number, whole_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

STARTS = 100  # of a round
# of the largest distance of an eigenvalue from 1: from the unit circle to a neutral one, at most
NEUTRAL = 1e-6
LEAST = 1e-7  # or this far
LONGEST_PERIOD = 256  # of which a search takes minutes

FROM_STARTS, SPEED, IS_SLOW = "from starts", "|F(s) - s|", "slow"
ABOVE, AT, BELOW, RADIUS = "moduli > 1", "= 1", "< 1", "radius"
GROWTH_TIME, DECAY_TIME, JUMP, CYCLE = "growth time", "decay time", "jump", "cycle"
COLUMNS = (
    FROM_STARTS, SPEED, IS_SLOW, ABOVE, AT, BELOW, RADIUS, GROWTH_TIME, DECAY_TIME, JUMP, CYCLE,
)  # fmt: skip
FIXED, SLOWLY = "fixed points of F", "slow points"
RESOLUTION, PERIOD = "resolution of points", "period"
GIVEN, DISTINCT, OUTSIDE = "starts", "distinct starts", "starts outside the run"
ROUNDS, SIGNS = "rounds", "sum of signs of det(I - J) over all points"
REACHED, STEPS_UNTIL = "states that starts reach", "steps of F until then"
LED, SHORTER = "starts that led to a point", "starts that led to a shorter period"
AT_EDGE = "starts that ended at the edge of the box"
ELSEWHERE = "starts that failed elsewhere"
LEAST_SPEED, MARGIN = "least |F(s) - s| of all ends", "margin of the box"
COUNTS = (
    FIXED, SLOWLY, RESOLUTION, DIFFERENCE, SIGNS, PERIOD, ROUNDS, GIVEN, DISTINCT, OUTSIDE,
    REACHED, STEPS_UNTIL, LED, SHORTER, AT_EDGE, ELSEWHERE, LEAST_SPEED, MARGIN, MOVE,
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
    printed: ClassVar[tuple[str, ...]] = (
        FIXED, SLOWLY, DIFFERENCE, SIGNS, ROUNDS, GIVEN, AT_EDGE, LEAST_SPEED, MOVE,
    )  # fmt: skip
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
    """Distance between the box of the search and the box of the starts and settled states, in units
    of the longest edge of the box of the starts, or of 1 if it is shorter.
    """
    difference: Annotated[np.ndarray, "point"] | None = None
    """How much the Jacobian of F^k differs from differences at each point, (P,), see
    `gersgorin.smoothness.difference`; None in a result of 0.7.0.
    """
    resolution: float = math.nan
    """Points that differ by no more than this in every entry count as one; NaN in a result of
    0.7.0.
    """
    rounds: int = 1
    """Number of rounds of the search."""
    jacobians: Annotated[np.ndarray, "point", "entry", "entry before"] | None = None
    """dF^k/ds at each point, (P, N, N); None in a result from a JSON file."""

    def __post_init__(self) -> None:
        if self.states.ndim == 1:  # no points: JSON has no shape (0, N), and no type of no numbers
            nothing = np.empty((0, self.starts.shape[1]))
            arrays = {"states": nothing, "eigenvalues": nothing.astype(complex)}
            for name, array in {**arrays, "is_slow": np.empty(0, bool)}.items():
                object.__setattr__(self, name, array)

    def to_dict(self) -> dict[str, Any]:
        found = super().to_dict()
        found[ARRAYS_FIELD].pop("jacobians", None)
        return found

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
        return np.where(np.abs(beyond) <= self._rounding, 0, beyond)

    @property
    def _rounding(self) -> np.ndarray:
        """Distances from a value that are rounding at each point, (P, 1)."""
        least = max(LEAST, 16 * float(np.finfo(self.eigenvalues.dtype).eps))
        largest = np.abs(self.eigenvalues - 1).max(-1, keepdims=True)
        return np.maximum(least, NEUTRAL * largest)

    @property
    def sum_of_signs(self) -> float:
        """The sum of the signs of det(I - J) over all fixed points, J = dF/ds. It is 1 if F maps a
        box into its inside and no point is missing; 1 proves nothing. NaN for cycles, with slow
        points, and if an eigenvalue of a point is 1 or unknown.
        """
        is_one = np.abs(self.eigenvalues - 1) <= self._rounding
        if self.period > 1 or self.is_slow.any() or is_one.any() or self._unknown.any():
            return math.nan
        real = self.eigenvalues.imag == 0  # the others are pairs, of which the product is above 0
        return float(np.where(real, np.sign(1 - self.eigenvalues.real), 1).prod(-1).sum())

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

    def items(self) -> Sequence[int]:
        return range(1, len(self.states) + 1)

    def coordinates(self) -> Mapping[str, Any]:
        return {"point": [*self.items()]}

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
            SIGNS: self.sum_of_signs,
            PERIOD: self.period,
            ROUNDS: self.rounds,
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
            MOVE: largest_move(self.trajectory),
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
            one. For a number, the search goes on in rounds of B starts, half of them between two
            states of the run or two points found, half around these, until a round adds no isolated
            fixed point, and for at most 20 rounds. The search also begins at the states that the
            starts of the first round reach in 200 steps, or in up to 10,000 if a state still
            drifts.
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
    more = None
    if given is None:
        given = spread(run, whole_number("starts", starts), seed)
        more = MoreStarts(len(given), run.states.unique(dim=0), np.random.default_rng(seed))
    form, given = checks.kind(given), as_states(given, run)
    good = given.shape[1] == run.state_size
    checks.require(good, "starts", form, f"states of {run.state_size} entries")
    given = given.to(run.states)
    F = IteratedMap(run.step, held(run), period)
    with reported(run.progress, "fixed-points", total=len(given)) as advance:
        points = found_points(F, given, margin, more, advance)
    return FixedPoints(
        **run.heading,
        **points,
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
    ids = x.unique()
    checks.require(len(ids) == 1, "x", "a sequence of different ids", "one id, repeated")
    return ids
