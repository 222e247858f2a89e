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

Legend: T counted time steps (those after the warm-up); N entries of a state; k exponents,
descending; C pieces of the run, which are the points of the convergence curve. Exponents
are natural logarithms per step.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from gersgorin import door
from gersgorin.analyses.block_errors import block_means, standard_errors
from gersgorin.autodiff import BLOCK
from gersgorin.large_jacobian import LargeJacobian
from gersgorin.linalg.spectrum import one_thread
from gersgorin.results import StepResult, listed_blocks
from gersgorin.run import Run, jumps, open_run, run_states
from rhn.utils.validation import whole_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

Map = Callable[[Tensor], Tensor]

LARGE = 4096  # entries of the largest state whose whole Jacobians are computed
EXACT = 1e-11  # largest error of a log growth that a QR decomposition of a whole step may leave
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
        *DIMENSION, JUMP, HIDDEN,
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
        }

    def notes(self) -> Mapping[str, int]:
        return {HIDDEN: int(np.isnan(self.exponents).sum())}

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the exponents against their number, with their margins."""
        from gersgorin.analyses.dynamics_figures import draw_exponents  # loads matplotlib
        from gersgorin.analyses.panels import new_axes

        return draw_exponents(new_axes() if ax is None else ax, self)

    def draw(self, part: "SubFigure") -> float:
        from gersgorin.analyses.dynamics_figures import draw_exponents_and_means

        return draw_exponents_and_means(part, self)


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
    **how: Any,
) -> LyapunovSpectrum:
    """Compute the Lyapunov exponents of a run, as natural logarithms per time step.

    A negative largest exponent means that runs from nearby states come together under this input.
    States that are far apart may stay apart: compare runs from several s0, or `fixed_points`.

    Args:
        network, x, s0, how: as for `open_run`.
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
    T, N = len(run), run.state_size
    k = whole_number("count", N if count is None else count, 1, N)
    warmup = whole_number("warmup", warmup, 0, T - 1)
    frame = random_frame(N, k, whole_number("seed", seed, 0), run.states)
    with run.reporting("lyapunov") as reporting:
        logs = growth(reporting, frame)
    door.are_finite("growth of small changes", torch.where(logs[0].isneginf(), 0, logs[0]))
    log, most = logs[:, warmup:].cpu().numpy()
    T -= warmup
    # a direction after a hidden one starts from rounding
    hidden = np.logical_or.accumulate((most > log).any(0) & np.isfinite(most).all(0))
    pieces = min(PIECES, T)
    edges = np.array([round(T * piece / pieces) for piece in range(pieces + 1)])
    sums, lengths = np.add.reduceat(np.where(hidden, np.nan, log), edges[:-1]), np.diff(edges)
    curve = sums.cumsum(0) / edges[1:, None]
    order = np.argsort(-curve[-1], kind="stable")
    layers = run.step.depth if run.step.own("layer_jacobians") else 1
    rounding = layers * torch.finfo(run.states.dtype).eps * math.sqrt(N)
    beside = [jumps(run.step.rows, *run.at(now), run.states[1:][now]) for now in run.slices()]
    return LyapunovSpectrum(
        **run.heading,
        exponents=curve[-1, order],
        standard_errors=np.hypot(standard_errors(lengths, sums), rounding)[order],
        halves=block_means(lengths, sums, 2)[:, order],
        curve_steps=edges[1:],
        curve=curve[:, order],
        lost_below=float(most.mean(0)[hidden].max()) if hidden.any() else math.nan,
        jumps=torch.cat(beside)[warmup:].cpu().double().numpy(),
        state_size=N,
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


def growth(run: Run, Q: Tensor) -> Tensor:
    """log |R_ii| and its upper bound, (2, T, k), from the QR decomposition after each step, or
    after each of its factors. The bound is larger if |R_ii| may be only rounding of the longest
    column.
    """
    eps = torch.finfo(Q.dtype).eps
    sizes, longest, at = list[Tensor](), list[Tensor](), list[int]()
    for t, maps in enumerate(maps_of(run)):
        parts = [_factored(reduce(lambda columns, J: J(columns), maps, Q))]
        _, size, most = parts[0]
        if len(maps) > 1 and not eps * float(most) <= EXACT * float(size.min()):
            parts = [_factored(maps[0](Q))]
            for J in maps[1:]:
                parts.append(_factored(J(parts[-1][0])))
        Q = parts[-1][0]
        sizes += [size for _, size, _ in parts]
        longest += [most for *_, most in parts]
        at += [t] * len(parts)
        run.report(t + 1)
    size = torch.stack(sizes).double()
    bound = size.maximum(len(Q) * eps * torch.stack(longest)[:, None])
    logs = torch.stack([size, bound]).log()
    return logs.new_zeros(2, t + 1, logs.shape[-1]).index_add_(1, logs.new_tensor(at).long(), logs)


def _factored(columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The factor Q, |R_ii| (k,), and the length of the longest column."""
    Q, R = torch.linalg.qr(columns)
    return Q, R.diagonal().abs(), R.norm(dim=0).max()


def maps_of(run: Run) -> Iterator[Sequence[Map]]:
    """Yield the maps Q -> J Q of each step: of its layers, if they are known, or of the step."""
    step, N = run.step, run.state_size
    layers = step.own("layer_jacobians") if step.depth > 1 else None
    if N > LARGE:
        yield from ([LargeJacobian(step, x, s).push] for x, s in zip(*run.at(), strict=True))
        return
    size = max(1, BLOCK // (N * N * (step.depth if layers else 1)))
    for start in range(0, len(run), size):
        now = slice(start, min(start + size, len(run)))
        J = layers(*run.at(now)) if layers else [run.jacobians(now)]
        yield from ([A.matmul for A in matrices] for matrices in zip(*J, strict=True))


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
