"""Lyapunov exponents of a run: the mean growth rates of small changes of the state, with standard
errors.

A frame of k directions is multiplied at each step by the Jacobian A[t] = ds[t+1]/ds[t] (G. Benettin
et al., Meccanica 15, 1980). All directions turn to the direction that grows fastest. A QR
decomposition after each step, A[t] Q = Q' R, makes them orthogonal again, and log |R_ii| is the
growth of the i-th direction. The sum over i is exactly the growth of the volume of the frame; for a
full frame (k = N) it is the sum of log |det A[t]|.

If A[t] is the product of the Jacobians of several layers, its rounding moves log |R_ii| by about
eps |longest column of A[t] Q| / |R_ii|, as 60 digits confirm. A step at which this exceeds 1e-11 is
done again, with a QR decomposition after each layer.

Rounding is a change E of A[t] of about eps ||A[t]||_F. To first order it moves the sum of log
|R_ii| over the run by y' E w / R_ii[t]. Let U[t] be the unit upper triangular matrix R[T-1] ...
R[t+1] with each row divided by its diagonal entry. Then y = Q[t+1] u, where u is row i of U[t], and
w = Q[t] c, where c is column i of the inverse of U[t-1]. For k < N, y also has a part outside of
the frame. The standard errors include the mean over the run of eps ||A[t]||_F |y| |w| / |R_ii[t]|,
in which rounding errors of different steps do not cancel. Each block of steps counts as a run.

Legend: T counted time steps (those after the warm-up); N entries of a state; k exponents,
descending; C pieces of the run, which are the points of the convergence curve. Exponents
are natural logarithms per step.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple, Unpack

import numpy as np
import torch
from torch import Tensor

from gersgorin import checks
from gersgorin.analyses.block_errors import block_means, standard_errors
from gersgorin.autodiff import BLOCK
from gersgorin.jacobians import LargeJacobian
from gersgorin.linalg.threads import one_thread
from gersgorin.results import DIFFERENCE, StepResult, listed_blocks, values_or_nan
from gersgorin.run import Run, RunOptions, names_options, open_run, run_states
from gersgorin.smoothness import difference, jumps
from rhn.utils.results import median_and_ends
from rhn.utils.validation import whole_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

Jacobian = Tensor | LargeJacobian

LARGE = 4096  # entries of the largest state whose whole Jacobians are computed
EXACT = 1e-11  # largest error of a log growth that a QR decomposition of a whole step may leave
AT_ONCE = 1 << 17  # entries of triangular matrices that are inverted at once
PIECES = 240  # of the run, whose growth is kept: points of the convergence curve, parts of blocks

EXPONENT, MARGIN, BOUND = "exponent (1/step)", "margin (95 %)", "upper bound"
HALVES = ("first half", "second half")
LARGEST, SUM, COUNTED = "largest exponent (1/step)", "sum of the exponents", "steps counted"
DIMENSION = ("Kaplan-Yorke dimension, from", "Kaplan-Yorke dimension, to")
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
    texts: ClassVar[tuple[str, ...]] = (
        *StepResult.run_texts, item, EXPONENT, MARGIN, *HALVES, BOUND, LARGEST, SUM, COUNTED,
        *DIMENSION, JUMP, DIFFERENCE, HIDDEN,
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
        whole = len(high) == self.state_size
        if whole and len(high) > 1 and -math.inf < self.sum < 0:  # known better than its parts
            high[-1] = min(high[-1], self.sum - high[:-1].sum())
        least, most = map(kaplan_yorke_dimension, (low, high))
        return least, len(high) if whole and least >= 0 and math.isnan(most) else most

    def blocks(self) -> list[list[list[str]]]:
        return listed_blocks(self.item, self.table())

    def table(self) -> Mapping[str, Any]:
        hidden = np.isnan(self.exponents)
        return {
            EXPONENT: self.exponents,
            MARGIN: self.margins,
            **dict(zip(HALVES, self.halves, strict=True)),
            BOUND: np.where(hidden, self.lost_below, math.nan),
            LARGEST: float(self.exponents[0]),
            SUM: self.sum,
            COUNTED: int(self.curve_steps[-1]),
            **dict(zip(DIMENSION, self.dimension, strict=True)),
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
    T -= warmup
    # a direction after a hidden one starts from rounding
    hidden = np.logical_or.accumulate((most > log).any(0) & np.isfinite(most).all(0))
    pieces = min(PIECES, T)
    edges = np.array([round(T * piece / pieces) for piece in range(pieces + 1)])
    sums, lengths = np.add.reduceat(np.where(hidden, np.nan, log), edges[:-1]), np.diff(edges)
    curve = sums.cumsum(0) / edges[1:, None]
    order = np.argsort(-curve[-1], kind="stable")
    layers = run.step.depth if run.step.own("layer_jacobians") else 1
    eps = torch.finfo(run.states.dtype).eps
    rounding = eps * np.maximum(moved.mean(0), layers * math.sqrt(N))
    errors = standard_errors(lengths, sums)
    errors = np.where(np.isnan(errors), np.nan, np.hypot(errors, rounding))
    beside = [jumps(run.step.rows, *run.at(now), run.states[1:][now]) for now in run.slices()]
    return LyapunovSpectrum(
        **run.heading,
        exponents=curve[-1, order],
        standard_errors=errors[order],
        halves=block_means(lengths, sums, 2)[:, order],
        curve_steps=edges[1:],
        curve=curve[:, order],
        lost_below=float(most.mean(0)[hidden].max()) if hidden.any() else math.nan,
        jumps=torch.cat(beside)[warmup:].cpu().double().numpy(),
        state_size=N,
        difference=gaps[warmup:],
    )


def repeated(run: Run, times: int) -> Run:
    """The run of the same step along its inputs, read several times."""
    if times == 1:
        return run
    inputs = torch.cat([run.inputs] * times)
    states = run_states(run.step, inputs, run.progress)
    return replace(run, inputs=inputs, states=states)


def random_frame(N: int, k: int, seed: int, like: Tensor) -> Tensor:
    """k random orthonormal directions (N, k); a larger k adds directions to the same first ones."""
    generator, d = torch.Generator("cpu").manual_seed(seed), torch.float64
    columns = [torch.randn(N, generator=generator, dtype=d, device="cpu") for _ in range(k)]
    return torch.linalg.qr(torch.stack(columns, 1).to(like))[0]


class Factor(NamedTuple):
    """A QR decomposition J Q = Q' R, where J is the product of some Jacobians."""

    jacobians: Sequence[Jacobian]
    """The first one is applied first."""
    before: Tensor
    """Q (N, k)."""
    after: Tensor
    """Q' (N, k)."""
    R: Tensor
    """(k, k)."""

    @property
    def growth(self) -> Tensor:
        """|R_ii|, (k,)."""
        return self.R.diagonal().abs()

    @property
    def longest(self) -> Tensor:
        """Length of the longest column of J Q."""
        return self.R.norm(dim=0).max()

    @property
    def size(self) -> Tensor:
        """||J||_F; if it is not known, ||J Q||_F times the number of Jacobians."""
        first, count = self.jacobians[0], len(self.jacobians)
        if count == 1 and isinstance(first, Tensor):
            return first.norm()
        return count * self.R.norm()


def growth(run: Run, Q: Tensor) -> tuple[Tensor, np.ndarray]:
    """(1) log |R_ii|, its upper bound, and a bound of its error in units of eps, (3, T, k), from
    the QR decomposition after each step, or after each of its factors. The upper bound is larger if
    |R_ii| may be only rounding of the longest column. (2) The differences of the steps, (T,).
    """
    logs, gaps = list[Tensor](), list[np.ndarray]()
    for now, steps in jacobians_of(run):
        factors, at = list[Factor](), list[int]()
        for t, jacobians in enumerate(steps):
            parts = factors_of(jacobians, Q)
            Q = parts[-1].after
            factors += parts
            at += [t] * len(parts)
            run.report(now.start + t + 1)
        of_factors = torch.stack([*logs_of(factors), errors_of(factors)])
        of_steps = of_factors.new_zeros(3, len(steps), Q.shape[1])
        logs.append(of_steps.index_add_(1, torch.tensor(at, device=Q.device), of_factors))
        gaps.append(difference(run.step.rows, *run.at(now), partial(_pushed_rows, steps)))
    return torch.cat(logs, 1), np.concatenate(gaps)


def factors_of(jacobians: Sequence[Jacobian], Q: Tensor) -> list[Factor]:
    """The decomposition of a whole step, or those of its Jacobians if rounding is too large."""
    whole = factored(jacobians, Q)
    most = torch.finfo(Q.dtype).eps * float(whole.longest)
    if len(jacobians) == 1 or most <= EXACT * float(whole.growth.min()):
        return [whole]
    parts = [factored(jacobians[:1], Q)]
    for J in jacobians[1:]:
        parts.append(factored([J], parts[-1].after))
    return parts


def factored(jacobians: Sequence[Jacobian], Q: Tensor) -> Factor:
    """The decomposition of J Q for the product J of some Jacobians."""
    after, R = torch.linalg.qr(pushed(jacobians, Q))
    return Factor(jacobians=jacobians, before=Q, after=after, R=R)


def pushed(jacobians: Sequence[Jacobian], columns: Tensor) -> Tensor:
    """The columns (N, k) after some Jacobians, the first of which is applied first."""
    for J in jacobians:
        columns = J @ columns if isinstance(J, Tensor) else J.push(columns)
    return columns


def _pushed_rows(steps: Sequence[Sequence[Jacobian]], v: Tensor) -> Tensor:
    """A[t] v[t] of each step, (T, N)."""
    return torch.stack([pushed(J, one[:, None])[:, 0] for J, one in zip(steps, v, strict=True)])


def logs_of(factors: Sequence[Factor]) -> tuple[Tensor, Tensor]:
    """log |R_ii| and its upper bound, (F, k) each."""
    eps, N = torch.finfo(factors[0].R.dtype).eps, len(factors[0].before)
    size = torch.stack([factor.growth for factor in factors]).double()
    longest = torch.stack([factor.longest for factor in factors])
    return size.log(), size.maximum(N * eps * longest[:, None]).log()


def errors_of(factors: Sequence[Factor]) -> Tensor:
    """||J||_F |y| |w| / |R_ii| of each decomposition of a block, (F, k), see above; inf if it is
    too large for a number.
    """
    (N, k), F = factors[0].before.shape, len(factors)
    diagonals = torch.stack([factor.R.diagonal() for factor in factors])
    by_row = torch.where(diagonals == 0, 1, diagonals)[:, :, None]
    identity = torch.eye(k, dtype=diagonals.dtype, device=diagonals.device)
    U = torch.cat((identity.new_empty(F, k, k), identity[None]))  # before each one, and at the end
    outside = identity.new_zeros(k, N)  # part of y outside of the frame
    lengths = identity.new_zeros(F, k)
    for number in range(F - 1, -1, -1):
        factor = factors[number]
        lengths[number] = outside.norm(dim=1)
        if k < N and number > 0:
            outside = dual_outside(factor, U[number + 1], outside) / by_row[number]
        torch.matmul(U[number + 1], factor.R, out=U[number]).div_(by_row[number])
    solve = partial(torch.linalg.solve_triangular, B=identity, upper=True, unitriangular=True)
    parts = U[:-1].split(max(1, AT_ONCE // k**2))
    w = torch.cat([solve(part).norm(dim=1) for part in parts])
    y = torch.hypot(U[1:].norm(dim=2), lengths)
    sizes = torch.stack([factor.size for factor in factors])[:, None] / diagonals.abs()
    return (y.double() * w.double() * sizes.double()).nan_to_num(nan=math.inf)


def dual_outside(factor: Factor, U: Tensor, outside: Tensor) -> Tensor:
    """The part of the dual directions (k, N) before a factor that lies outside of its frame, from
    those after it, times |R_ii|.
    """
    y = U @ factor.after.mT + outside
    for J in reversed(factor.jacobians):
        y = y @ J if isinstance(J, Tensor) else J.pull(y)
    return y - y @ factor.before @ factor.before.mT


def jacobians_of(run: Run) -> Iterator[tuple[slice, list[Sequence[Jacobian]]]]:
    """Yield (slice of steps, the Jacobians of each step): those of its layers, if they are known,
    or that of the step.
    """
    step, N = run.step, run.state_size
    layers = step.own("layer_jacobians") if step.depth > 1 else None
    if N > LARGE:
        for t, (x, s) in enumerate(zip(*run.at(), strict=True)):
            yield slice(t, t + 1), [[LargeJacobian(step, x, s)]]
        return
    size = max(1, BLOCK // (N * N * (step.depth if layers else 1)))
    for start in range(0, len(run), size):
        now = slice(start, min(start + size, len(run)))
        J = layers(*run.at(now)) if layers else [run.jacobians(now)]
        yield now, [*zip(*J, strict=True)]


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
