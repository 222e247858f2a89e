"""Lyapunov exponents of a run: the mean growth rates of small changes of the state, with standard
errors.

The exponents are the mean growth of an orthonormal frame of k directions, see
`gersgorin.analyses.frames`. The standard errors include the mean of the bounds on rounding.

Legend: T counted time steps (those after the warm-up); N entries of a state; k exponents,
descending; C pieces of the run, which are the points of the convergence curve. Exponents
are natural logarithms per step.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple, Unpack

import numpy as np
import torch

from gersgorin import checks
from gersgorin.analyses.block_errors import block_means, standard_errors
from gersgorin.analyses.frames import growth, layers_of, random_frame
from gersgorin.linalg.threads import one_thread
from gersgorin.results import (
    DIFFERENCE,
    MOVE,
    StepResult,
    largest_move,
    values_or_nan,
)
from gersgorin.run import Run, RunOptions, names_options, open_run, run_states
from gersgorin.smoothness import jumps
from rhn.utils.results import STEP, median_and_ends
from rhn.utils.validation import whole_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

PIECES = 240  # of the run, whose growth is kept: points of the convergence curve, parts of blocks

RUNNING = "exponent"
EXPONENT, MARGIN, BOUND = "exponent (1/step)", "margin (95 %)", "upper bound"
FIRST_HALF, SECOND_HALF = "first half", "second half"
LARGEST, SUM, COUNTED = "largest exponent (1/step)", "sum of the exponents", "steps counted"
DIMENSION_FROM = "Kaplan-Yorke dimension from"
DIMENSION_TO = "Kaplan-Yorke dimension to"
JUMP = "largest jump of the Jacobian"
HIDDEN = "exponents that rounding hides"


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class LyapunovSpectrum(StepResult):
    """The k leading exponents of one run with their standard errors.

    >>> found = lyapunov(lambda x, s: s / 2, torch.zeros(20, 1), torch.ones(1))
    >>> found.exponents.round(4).tolist()  # log(1/2)
    [-0.6931]
    """

    page: ClassVar[str] = "docs/guides/dynamics.md"
    item: ClassVar[str] = "number"
    headline: ClassVar[tuple[str, ...]] = (LARGEST, SUM)
    printed: ClassVar[tuple[str, ...]] = (
        SUM, COUNTED, DIMENSION_FROM, DIMENSION_TO, MOVE, JUMP, DIFFERENCE,
    )  # fmt: skip
    texts: ClassVar[tuple[str, ...]] = (
        *StepResult.run_texts, item, EXPONENT, MARGIN, FIRST_HALF, SECOND_HALF, BOUND, LARGEST,
        SUM, COUNTED, DIMENSION_FROM, DIMENSION_TO, MOVE, JUMP, DIFFERENCE, HIDDEN, RUNNING,
    )  # fmt: skip

    exponents: Annotated[np.ndarray, "exponent"]
    """The exponents, (k,), descending; -inf if a Jacobian maps all directions to 0, and NaN, at the
    end, for those that rounding hides.
    """
    standard_errors: Annotated[np.ndarray, "exponent"]
    """Standard errors, (k,), rounding included: the 95 % interval is the exponent +- two of them,
    for this run only. NaN for fewer than 20 steps.
    """
    halves: Annotated[np.ndarray, "half", "exponent"]
    """The exponents of the first and the second half of the counted steps, (2, k)."""
    curve_steps: Annotated[np.ndarray, "estimate"]
    """Number of steps from which each running estimate is computed, (C,); the last is T."""
    curve: Annotated[np.ndarray, "estimate", "exponent"]
    """Running estimates of the exponents, (C, k), each from the first `curve_steps` counted
    steps.
    """
    lost_below: float
    """Upper bound of each exponent that rounding hides: in a QR decomposition, its growth cannot be
    distinguished from rounding of the direction that grows most. NaN if there is none.
    """
    jumps: Annotated[np.ndarray, "step"]
    """How far the Jacobian jumps at the state before each counted step, (T,): the difference of its
    products with random signs on two sides, over their norm. About 1e-7 for smooth steps.
    """
    state_size: int
    """N, the number of entries of a state."""
    difference: Annotated[np.ndarray, "step"] | None = None
    """How much the Jacobian of each counted step differs from differences, (T,), see
    `gersgorin.smoothness.difference`; None in a result of 0.7.0.
    """
    largest_move: float = math.nan
    """Largest change of an entry of the state in a counted step, over the largest entry of these
    states; 0: the state never moves. NaN in a result of 0.7.0.
    """

    @property
    def margins(self) -> np.ndarray:
        """Half-widths of the 95 % intervals, which are two standard errors, (k,)."""
        return 2 * self.standard_errors

    @property
    def sum(self) -> float:
        """Sum of the k exponents: the mean log growth per step of k-dimensional volumes. NaN if
        rounding hides an exponent.
        """
        return float(self.exponents.sum())

    @property
    def kaplan_yorke(self) -> float:
        """The Kaplan-Yorke dimension of the exponents themselves; NaN if it needs more exponents,
        depends on those that rounding hides, or volumes do not shrink.
        """
        ends = [np.nan_to_num(self.exponents, nan=end, neginf=-math.inf)
                for end in (-math.inf, self.lost_below)]  # fmt: skip
        least, most = map(kaplan_yorke_dimension, ends)
        return least if least == most else math.nan

    @property
    def dimension(self) -> tuple[float, float]:
        """The smallest and largest Kaplan-Yorke dimension of exponents within their margins; NaN if
        it needs more exponents. Margins that are not known are infinite.
        """
        margins = np.nan_to_num(self.margins, nan=math.inf)
        margins = np.where(np.isneginf(self.exponents), 0, margins)
        hidden = np.isnan(self.exponents)
        low = np.where(hidden, -math.inf, self.exponents - margins)
        high = np.where(hidden, self.lost_below, self.exponents + margins)
        high = np.minimum(high, high[0])
        least, most = map(kaplan_yorke_dimension, (low, high))
        is_whole = len(high) == self.state_size
        volumes_may_grow = least >= 0 and math.isnan(most)
        if is_whole and volumes_may_grow:
            return least, len(high)
        return least, most

    def items(self) -> Sequence[int]:
        return range(1, len(self.exponents) + 1)

    def coordinates(self) -> Mapping[str, Any]:
        halves = [FIRST_HALF, SECOND_HALF]
        return {"exponent": [*self.items()], "half": halves, "estimate": self.curve_steps}

    def by_step(self) -> Mapping[str, Sequence[Any]]:
        """Return the running estimate of each exponent by the number of counted steps."""
        each = zip(self.items(), self.curve.T, strict=True)
        estimates = {f"{RUNNING} {number}": curve.tolist() for number, curve in each}
        return {STEP: self.curve_steps.tolist(), **estimates}

    def table(self) -> Mapping[str, Any]:
        hidden = np.isnan(self.exponents)
        first, second = self.halves
        least, most = self.dimension
        return {
            EXPONENT: self.exponents,
            MARGIN: self.margins,
            FIRST_HALF: first,
            SECOND_HALF: second,
            BOUND: np.where(hidden, self.lost_below, math.nan),
            LARGEST: float(self.exponents[0]),
            SUM: self.sum,
            COUNTED: int(self.curve_steps[-1]),
            DIMENSION_FROM: least,
            DIMENSION_TO: most,
            MOVE: self.largest_move,
            JUMP: float(self.jumps.max()),
            DIFFERENCE: median_and_ends(values_or_nan(self.difference, len(self.jumps)))[0],
        }

    def notes(self) -> Mapping[str, int]:
        return {HIDDEN: int(np.isnan(self.exponents).sum())}

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the exponents against their number, with their margins."""
        from gersgorin.analyses.dynamics_figures import draw_exponents  # loads matplotlib
        from rhn.utils.composer import new_axes

        return draw_exponents(new_axes() if ax is None else ax, self)

    def draw(self, part: "SubFigure") -> float:
        from gersgorin.analyses.dynamics_figures import draw_exponents_and_means

        return draw_exponents_and_means(part, self)


@names_options(RunOptions)
@torch.no_grad()
@one_thread()
def lyapunov(
    network: Any,
    x: Any = None,
    s0: Any = None,
    *,
    count: int | None = None,
    warmup: int = 0,
    repeat: int = 1,
    seed: int = 0,
    **how: Unpack[RunOptions],
) -> LyapunovSpectrum:
    """Compute the Lyapunov exponents of a run, as natural logarithms per time step.

    A negative largest exponent means that runs from nearby states come together under this input.
    States that are far apart may stay apart: compare runs from several s0, or `fixed_points`.

    Args:
        network, x, s0, state_size, ..., progress: as for `open_run`.
        count: number k of exponents, at most the N entries of a state; None: all. For k = N the sum
            is exactly the mean of log |det A[t]|.
        warmup: number of steps at the start of the run that are not counted, because the directions
            have not settled yet.
        repeat: how many times the sequence is read, one after the other.
        seed: seed of the first directions.

    Raises InvalidInputError.

    >>> A = torch.tensor([[0.5, 1.0], [0.0, 2.0]], dtype=torch.float64)
    >>> found = lyapunov(lambda x, s: A @ s, torch.zeros(1000, 1), torch.zeros(2).double())
    >>> np.exp(found.exponents).round(2), round(abs(found.sum), 9)
    (array([2. , 0.5]), 0.0)
    """
    run = repeated(open_run(network, x, s0, **how), whole_number("repeat", repeat))
    run.check_memory()
    T, N = len(run), run.state_size
    k = whole_number("count", N if count is None else count, 1, N)
    warmup = whole_number("warmup", warmup, 0, T - 1)
    frame = random_frame(N, k, whole_number("seed", seed, 0), run.states)
    with run.reporting("lyapunov") as reporting:
        logs, gaps = growth(reporting, frame)
    checks.are_finite("growth of small changes", torch.where(logs[0].isneginf(), 0, logs[0]))
    log, most, moved = logs[:, warmup:].cpu().numpy()
    hidden = hidden_directions(log, most)
    pieces = Pieces.of(np.where(hidden, np.nan, log))
    errors = standard_errors(pieces.lengths, pieces.sums)
    errors = np.where(np.isnan(errors), np.nan, np.hypot(errors, rounding_errors(run, moved)))
    order = np.argsort(-pieces.curve[-1], kind="stable")
    beside = [jumps(run.step.rows, *run.at(now), run.states[1:][now]) for now in run.slices()]
    return LyapunovSpectrum(
        **run.heading,
        exponents=pieces.curve[-1, order],
        standard_errors=errors[order],
        halves=block_means(pieces.lengths, pieces.sums, 2)[:, order],
        curve_steps=pieces.steps,
        curve=pieces.curve[:, order],
        lost_below=float(most.mean(0)[hidden].max()) if hidden.any() else math.nan,
        jumps=torch.cat(beside)[warmup:].cpu().double().numpy(),
        state_size=N,
        difference=gaps[warmup:],
        largest_move=largest_move(run.states[warmup:].cpu().numpy()),
    )


class Pieces(NamedTuple):
    """The growth in consecutive pieces of a run, of which there are at most `PIECES`."""

    lengths: np.ndarray
    """Steps of each piece, (C,)."""
    sums: np.ndarray
    """Sums of log |R_ii| over each piece, (C, k)."""

    @classmethod
    def of(cls, log: np.ndarray) -> "Pieces":
        """The pieces of log |R_ii| (T, k)."""
        T = len(log)
        count = min(PIECES, T)
        edges = np.array([round(T * piece / count) for piece in range(count + 1)])
        return cls(np.diff(edges), np.add.reduceat(log, edges[:-1]))

    @property
    def steps(self) -> np.ndarray:
        """Steps up to the end of each piece, (C,)."""
        return self.lengths.cumsum()

    @property
    def curve(self) -> np.ndarray:
        """Mean growth up to the end of each piece, (C, k)."""
        return self.sums.cumsum(0) / self.steps[:, None]


def hidden_directions(log: np.ndarray, most: np.ndarray) -> np.ndarray:
    """True for directions whose growth rounding hides, (k,), and for all after such a one, which
    start from rounding. log, most: log |R_ii| and its upper bound, (T, k).
    """
    is_hidden = (most > log).any(0) & np.isfinite(most).all(0)
    return np.logical_or.accumulate(is_hidden)


def rounding_errors(run: Run, moved: np.ndarray) -> np.ndarray:
    """How far rounding moves each exponent, (k,), from bounds `moved` (T, k) in units of eps; at
    least as far as in the sums of the products with each layer's Jacobian, and inf if the bounds
    are too large for their sum.
    """
    least = layers_of(run) * math.sqrt(run.state_size)
    with np.errstate(over="ignore"):
        mean = moved.mean(0)
    return torch.finfo(run.states.dtype).eps * np.maximum(mean, least)


def repeated(run: Run, times: int) -> Run:
    """The run of the same step along its inputs, read several times."""
    if times == 1:
        return run
    inputs = torch.cat([run.inputs] * times)
    states = run_states(run.step, inputs, run.progress)
    return replace(run, inputs=inputs, states=states)


def kaplan_yorke_dimension(exponents: np.ndarray) -> float:
    """The Kaplan-Yorke dimension j + (l_1 + ... + l_j) / |l_{j+1}| of exponents l_1, l_2, ..., with
    the largest j whose sum l_1 + ... + l_j is not negative (J. Kaplan, J. Yorke 1979).

    0 if the largest exponent is negative: nearby states end on one orbit. NaN if no partial sum is
    negative. The dimension is then not defined if these are all exponents of the state; if they are
    a part, more exponents are needed. NaN also if an exponent is NaN or inf. The order of the
    exponents does not matter.

    >>> round(kaplan_yorke_dimension(np.array([0.906, 0.0, -14.572])), 3)  # Lorenz's attractor
    2.062
    """
    exponents = -np.sort(-np.asarray(exponents, dtype=float))
    if not (exponents < math.inf).all():
        return math.nan
    sums = np.cumsum(exponents)
    negative = np.flatnonzero(sums < 0)
    if len(negative) == 0:
        return math.nan
    j = int(negative[0])
    return j + (float(sums[j - 1]) / abs(float(exponents[j])) if j else 0.0)
