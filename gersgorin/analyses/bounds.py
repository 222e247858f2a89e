"""Bound the norm of the product of a run's Jacobians, from products of windows of 1, 2, 4, ... layers and steps.

For M_1, ..., M_k with dy_T/dy_0 = M_k ... M_1, windows of any lengths:

norm               ||M_k ... M_1|| <= prod ||M_i||, in the 2-norm.
diagonal,          <= cond(S) prod ||S M_i S^-1||, for any invertible S, because S^-1 S between the factors is the identity: the run
quadratic norm     pays for one condition number, not one a window (R. Horn, C. Johnson, "Matrix Analysis", 2013, section 5.6).
                   For products of different matrices, S must be the same along the run.
from below         ||M_k ... M_1|| >= sigma_min(M_k) ... sigma_min(M_2) ||M_1||: it cannot vanish faster than that.

The norms |S v| come from the Jacobians themselves:

diagonal    S of powers of two that balances the mean of |A_t| (E. Osborne, 1960; LAPACK's gebal): nothing is rounded.
quadratic   S^T S = P solves P = I + M^T P M (Lyapunov's equation), M the mean Jacobian divided by slightly more than its
            spectral radius: in this norm M is hardly larger than that radius, and steps near the mean are not either.

The bounds hold for the Jacobians as computed, in float64 or float32. A product a b of float64 matrices is rounded by at most
n u ||a||_F ||b||_F, u = 2^-53 (N. Higham, "Accuracy and Stability of Numerical Algorithms", 2002, section 3.5). Each window carries the
sum of its factors' roundings, which is added to its norm, so that no bound falls below what rounding leaves. The last digits of a
bound are not certain. The rounding of the states and of the entries of the Jacobians is not covered: `python -m
benchmarks.bounds_in_digits` measures it in 60 digits.

A product that is exactly zero counts as one rounding unit, 2^-53 or 2^-24, because a Jacobian may be zero only by rounding or by
underflow. No upper bound is minus infinity.

Numerical radii (||M|| <= 2 w(M)) and logarithmic norms (G. Dahlquist, 1958) bound products too, but never better than the norm.

Legend: T steps; W window lengths, the shortest first. Logarithms are natural.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from itertools import accumulate
from pathlib import Path

import numpy as np
import scipy.linalg
import torch
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from torch import Tensor, nn

from gersgorin.cell import Step
from gersgorin.linalg.spectrum import one_thread
from gersgorin.plotting.figure import (
    DASHED,
    Shown,
    as_list,
    draw_rows,
    legend_beside,
    over_time,
    panel,
    plain_numbers,
    shade_style,
    title_of,
)
from gersgorin.resolve import run_of_network
from gersgorin.run import Progress, Run, silent
from rhn.errors import InvalidInputError
from rhn.utils.figures import BLUE, GREEN, GREY, ORANGE, our_style
from rhn.utils.memory import check_room
from rhn.utils.result import Result, rows_of
from rhn.utils.wording import counted

KINDS = ("norm", "diagonal norm", "quadratic norm")
UNIT = 2.0**-53  # the rounding of a float64 operation
SAMPLES = 16  # steps on which the quadratic norms are compared
OVER_THE_RADIUS = (1.01, 1.05, 1.2, 1.5)  # trials: M is the mean Jacobian over its spectral radius times this


@dataclass(frozen=True)
class Window:
    """The product of the Jacobians of a window, (matrix + E) 2^exponent, without overflow."""

    matrix: np.ndarray
    """(m, n), its largest entry in [1/2, 1), or zero."""
    rounding: float
    """About the largest ||E||_F; 0 of one Jacobian, which is read as exact."""
    exponent: int = 0

    @property
    def is_zero(self) -> bool:
        """True for the zero matrix, without rounding."""
        return self.rounding == 0 and not self.matrix.any()

    @cached_property
    def norm(self) -> float:
        """||matrix||_2 and the rounding."""
        return float(np.linalg.norm(self.matrix, 2)) + self.rounding

    @property
    def log_norm(self) -> float:
        """Natural logarithm of the norm of the product; -inf of zero."""
        return _log(self.norm, self.exponent)

    def log_below(self, *, first: bool) -> float:
        """Log of the least norm of a run's first window, or of the smallest singular value of a later one; -inf if it may be zero."""
        values = np.linalg.svd(self.matrix, compute_uv=False)
        size = values[0] if first else values[-1] if self.matrix.shape[0] == self.matrix.shape[1] else 0.0
        return _log(max(0.0, size - len(values) * UNIT * values[0] - self.rounding), self.exponent)


def window_of(A: np.ndarray, rounding: float = 0.0) -> Window:
    """A float64 matrix as a window."""
    exponent = int(np.frexp(np.abs(A).max(initial=0.0))[1])
    return Window(np.ldexp(A, -exponent), math.ldexp(rounding, -exponent), exponent)


def times(A: Window, P: Window) -> Window:
    """The product A P: its rounding, and those of A and P times the other's norm."""
    n, norm = A.matrix.shape[1], np.linalg.norm
    rounding = 0.0
    if not (A.is_zero or P.is_zero):
        of_product = n * UNIT * norm(A.matrix) * norm(P.matrix)
        rounding = float(of_product + A.rounding * norm(P.matrix) + (A.norm * P.rounding if P.rounding else 0.0))
    found = window_of(A.matrix @ P.matrix, rounding)
    return replace(found, exponent=found.exponent + A.exponent + P.exponent)


def window_levels(factors: list[Window]) -> Iterator[list[Window]]:
    """The windows of 1, 2, 4, ... factors, up to the product of all; the first factor is the rightmost.

    Those of 2^k factors begin at multiples of 2^k; the last one may be shorter. Each is the product of two of the level below.

    >>> *_, (whole,) = window_levels([window_of(np.array([[0.0, 2.0], [0.0, 0.0]])), window_of(np.array([[0.0, 0.0], [2.0, 0.0]]))])
    >>> whole.matrix * 2.0**whole.exponent
    array([[0., 0.],
           [0., 4.]])
    """
    yield factors
    while len(factors) > 1:
        pairs = [factors[start : start + 2] for start in range(0, len(factors), 2)]
        factors = [times(pair[1], pair[0]) if len(pair) > 1 else pair[0] for pair in pairs]
        yield factors


def _log(value: float, exponent: int = 0) -> float:
    return math.log(value) + exponent * math.log(2) if value else -math.inf


@dataclass(frozen=True)
class Weighted:
    """The vector norm |S v|."""

    S: np.ndarray
    R: np.ndarray
    """About S^-1."""
    defect: float
    """About the largest ||R S - I||_2; less than 1. Then ||S M S^-1|| <= ||S M R|| / (1 - defect)."""

    @property
    def log_condition(self) -> float:
        """log cond(S)."""
        return _log(float(np.linalg.norm(self.S, 2) * np.linalg.norm(self.R, 2))) - math.log1p(-self.defect)

    @cached_property
    def _windows(self) -> tuple[Window, Window]:
        return window_of(self.S), window_of(self.R)

    def log_norm(self, M: Window) -> float:
        """log ||S M S^-1||_2."""
        S, R = self._windows
        return times(times(S, M), R).log_norm - math.log1p(-self.defect)


def diagonal_norm(mean_modulus: np.ndarray) -> Weighted | None:
    """The norm that balances the mean of |A_t| (n, n); None if it is the Euclidean one."""
    scaling = scipy.linalg.matrix_balance(mean_modulus, permute=False, separate=True)[1][0]
    exact = np.isfinite(scaling).all() and (np.frexp(scaling)[0] == 0.5).all()
    if not exact or (scaling == scaling[0]).all():
        return None
    return Weighted(np.diag(1 / scaling), np.diag(scaling), 0.0)  # powers of two: exact


def quadratic_norm(steps: np.ndarray, mean: np.ndarray) -> Weighted | None:
    """The best norm for some of the steps (k, n, n), over trials with the mean (n, n) of the whole run; None if there is none."""
    radius = np.abs(np.linalg.eigvals(mean)).max()
    if not radius > 0:
        return None
    found = [norm for factor in OVER_THE_RADIUS if (norm := _lyapunov_norm(mean / (factor * radius))) is not None]
    return min(found, key=lambda norm: _mean_log_norm(norm, steps), default=None)


def _lyapunov_norm(M: np.ndarray) -> Weighted | None:
    """|S v| with S^T S = I + M^T S^T S M, for spectral radius < 1; None if rounding makes S nearly singular."""
    try:
        P = scipy.linalg.solve_discrete_lyapunov(M.T, np.eye(len(M)), method="bilinear")
        S = scipy.linalg.cholesky((P + P.T) / 2)
        R = scipy.linalg.solve_triangular(S, np.eye(len(S)))
    except (np.linalg.LinAlgError, ValueError):
        return None
    defect = float(np.linalg.norm(R @ S - np.eye(len(S))) + len(S) * UNIT * np.linalg.norm(R) * np.linalg.norm(S))
    return Weighted(S, R, defect) if defect < 0.5 else None


def _mean_log_norm(norm: Weighted, steps: np.ndarray) -> float:
    """Mean log norm of some steps; approximate, because it only ranks the trials."""
    sizes = np.linalg.norm(norm.S @ steps @ norm.R, 2, axis=(1, 2))
    return math.inf if not np.isfinite(sizes).all() else float(np.log(sizes + 1e-300).mean())


def log_bounds(M: Window, norms: tuple[Weighted | None, Weighted | None], unit: float) -> np.ndarray:
    """Upper bounds on the log of a window's norm in each of the KINDS, (3,); inf for a kind that bounds nothing here.

    norms: the diagonal and the quadratic one, or None; their condition numbers are added once a run. unit: the value of a zero product.
    """
    if M.is_zero:
        return np.array([_log(unit), *(math.inf if norm is None else _log(unit) for norm in norms)])
    fits = [norm is not None and norm.S.shape == M.matrix.shape for norm in norms]
    others = [norm.log_norm(M) if fit else math.inf for norm, fit in zip(norms, fits, strict=True)]
    return np.array([M.log_norm, *others])


Bounds = tuple[np.ndarray, float]
NOTHING: Bounds = (np.zeros(len(KINDS)), 0.0)


class WindowBounds:
    """Bounds of the products of all windows of some factors."""

    def __init__(
        self,
        factors: list[Window],
        norms: tuple[Weighted | None, Weighted | None],
        unit: float,
        *,
        first: bool = True,
        known: list[Bounds] | None = None,
    ):
        """unit: the value of a zero product. first: whether the run begins here. known: the bounds of the factors, if computed."""
        self.norms, self.unit, self.first = norms, unit, first
        self.levels: list[list[Bounds]] = []
        """For each level the bounds of its windows: logs of the upper ones (3,), log of the lower one."""
        for products in window_levels(factors):
            if known is None or self.levels:
                known = [self._bounds(product, k) for k, product in enumerate(products)]
            self.levels.append(known)
        (self.product,) = products

    @property
    def sums(self) -> list[Bounds]:
        """For each level the sums over its windows."""
        return [reduce(added, level, NOTHING) for level in self.levels]

    def over_time(self, level: int) -> list[Bounds]:
        """The bounds at t = 1..T from windows of up to 2^level factors."""
        found, whole = [], NOTHING
        for t in range(1, len(self.levels[0])):
            full, rest = divmod(t, 2**level)
            if rest == 0:
                whole = added(whole, self.levels[level][full - 1])
            total, start = whole, t - rest
            for shorter in reversed(range(level)):
                if t - start >= 2**shorter:
                    total = added(total, self.levels[shorter][start // 2**shorter])
                    start += 2**shorter
            found.append(total)
        return [*found, self.sums[level]]  # its last window may be a shorter one

    def _bounds(self, product: Window, k: int) -> Bounds:
        """The bounds of the k-th window of the next level, or the sums of those of its halves if rounding makes them sharper."""
        halves = self.levels[-1][2 * k : 2 * k + 2] if self.levels else []
        if len(halves) == 1:
            return halves[0]  # the same window as on the level below
        upper = log_bounds(product, self.norms, self.unit)
        lower = product.log_below(first=self.first and k == 0)
        if halves:
            total = added(*halves)
            upper, lower = np.minimum(upper, total[0]), max(lower, total[1])
        return upper, lower


def added(first: Bounds, second: Bounds) -> Bounds:
    """The sum of two logs of bounds."""
    return first[0] + second[0], first[1] + second[1]


@dataclass(frozen=True, kw_only=True, repr=False)
class NormBounds(Result, kind="bounds"):
    """Bounds on log ||dy[t]/dy[0]||_2, t = 1..T, of the products of the Jacobians as computed.

    The rounding of these products is counted up to the last digits, that of the Jacobians themselves is not covered.
    """

    lengths: tuple[str, ...]
    """The window lengths as texts, (W,): "1 layer", "2 layers", "1 step", ..., "85 steps"."""
    window_steps: np.ndarray
    """The same in steps, (W,); 0 for windows of layers within a step."""
    upper: np.ndarray
    """(kinds, W, T), at time t from windows of up to that length; inf for a kind that bounds nothing."""
    lower: np.ndarray
    """(W, T); -inf if none is known: the product may be zero."""
    log_norm: np.ndarray
    """The measured log ||dy[t]/dy[0]||_2 in plain float64, (T,); -inf if the product as computed is zero."""
    log_condition: dict[str, float]
    """log cond(S) of each fixed norm, which the bound of a run contains once; without the norms that do not exist."""
    kinds: tuple[str, ...] = KINDS
    dtype: str = "float64"
    """Of the Jacobians."""
    unit: str = "steps"
    """Of one step, for the axis of time."""

    @property
    def steps(self) -> int:
        """T."""
        return len(self.log_norm)

    @property
    def scope(self) -> str:
        """The matrices that the bounds are theorems about, in one sentence."""
        return (
            f"Bounds of the products of the {self.dtype} Jacobians as computed; "
            "the rounding of the Jacobians themselves is not covered"
        )

    @property
    def best(self) -> np.ndarray:
        """The smallest upper bound of any kind, (W, T)."""
        return self.upper.min(0)

    @property
    def exponent(self) -> np.ndarray:
        """Upper bounds on the exponent of the whole run for each window length, (W,), per step."""
        return self.best[:, -1] / self.steps

    @property
    def lower_exponent(self) -> np.ndarray:
        """Lower bounds on the exponent of the whole run, (W,), per step."""
        return self.lower[:, -1] / self.steps

    @property
    def measured_exponent(self) -> float:
        """log ||dy[T]/dy[0]||_2 / T."""
        return float(self.log_norm[-1] / self.steps)

    @property
    def half_life(self) -> np.ndarray:
        """Upper bounds on the half-life, (W,), in steps on average over the run; inf for a bound that does not shrink."""
        return np.array([_half_life(exponent) for exponent in self.exponent])

    @property
    def binding(self) -> list[str]:
        """The kind of the smallest bound for each window length, (W,)."""
        return [self.kinds[k] for k in self.upper[:, :, -1].argmin(0)]

    @property
    def sufficient(self) -> int | None:
        """The first window length whose bound shrinks over the run; None if there is none."""
        found = np.flatnonzero(self.exponent < 0)
        return int(found[0]) if len(found) else None

    def table(self) -> list[dict]:
        """One row for each window length: bounds on exponent and half-life, and the exponent from each kind."""
        by_kind = (self.upper[:, :, -1] / self.steps).T.tolist()
        return rows_of(
            window=self.lengths,
            window_steps=self.window_steps,
            exponent_bound=self.exponent,
            half_life_bound=self.half_life,
            above_measured=self.exponent - self.measured_exponent,
            lower_exponent=self.lower_exponent,
            bound=self.binding,
            exponents=[dict(zip(self.kinds, row, strict=True)) for row in by_kind],
        )

    def to_dict(self) -> dict:
        """The numbers over the whole run; those of every step are in the file that `save` writes."""
        return {
            "about": f"{self.scope}.",
            "measured_exponent": self.measured_exponent,
            "measured_half_life": _half_life(self.measured_exponent),
            "sufficient_window": None if self.sufficient is None else self.lengths[self.sufficient],
            "log_condition": self.log_condition,
            "windows": self.table(),
        }

    def summary(self) -> str:
        """The table of exponents and half-lives by window length, and a sentence that reads it."""
        lines = [f"{'windows of':<14}{'exponent <=':>13}{'half-life <=':>13}{'exponent >=':>13}   by"]
        for row in self.table():
            numbers = (row["exponent_bound"], row["half_life_bound"], row["lower_exponent"])
            lines.append(f"{row['window']:<14}" + "".join(_cell(v) for v in numbers) + f"   {row['bound']}")
        measured = self.measured_exponent
        lines.append(f"{'measured':<14}{_cell(measured)}{_cell(_half_life(measured))}")
        return "\n".join([*lines, f"{self.scope}.", self.sentence()])

    def sentence(self) -> str:
        """A sentence: the shortest windows that bound the gradient below its start, or that none do."""
        T, measured, w = self.steps, self.measured_exponent, self.sufficient
        over = f"over {counted(T, 'step')}"
        if np.isneginf(measured):
            return (
                f"The product as computed is zero {over}. A zero Jacobian may be a rounded one and counts as one rounding unit: "
                f"the norm is at most e^{self.best[-1, -1]:.3g}."
            )
        if w is not None:
            return (
                f"Bounded: {over} the gradient halves, on average, at least every {self.half_life[w]:.3g} steps, by windows of "
                f"{self.lengths[w]} ({self.binding[w]}); measured {_half_life(measured):.3g}, by the longest windows "
                f"{self.half_life[-1]:.3g}."
            )
        if self.lower_exponent.max() >= 0:
            return f"Bounded: {over} the gradient does not vanish; its measured exponent is {measured:.3g} a step."
        if measured < 0:
            return f"No window bounds the gradient below its start {over}: rounding leaves it open."
        return f"No window bounds the gradient below its start {over}; its measured exponent is {measured:.3g} a step."

    def plot(self, ax: Axes | None = None) -> Axes:
        """The bounds over time; without axes also each kind by window length, in a second panel."""
        return draw_bounds(self).axes[0] if ax is None else plot_bounds_over_time(self, ax)


def _cell(value: float) -> str:
    return f"{'-' if np.isneginf(value) else format(value, '.4g'):>13}"


def _half_life(exponent: float) -> float:
    return -math.log(2) / exponent if exponent < 0 else math.inf


Steps = Callable[[], Iterator[list[np.ndarray]]]


def bounds(
    network: "str | Path | nn.Module | Step | Run" = "rhn",
    x: "str | Path | Tensor | np.ndarray | None" = None,
    s0: Tensor | None = None,
    *,
    layers: bool = True,
    progress: Progress = silent,
    **options,
) -> NormBounds:
    """Bounds on ||dy_t/dy_0|| along a run, from windows of 1, 2, 4, ... layers and steps, of the Jacobians as computed.

    Args:
        network, x, options: as for `gersgorin.open_run`; a cell, or a step f(x, s), with inputs x (T, m) is used as it is.
        s0: the first state (n,) of a cell; zero if None, which a bare step does not allow.
        layers: also windows of the layers within a step, for a cell that has the Jacobians of its layers.
        progress: called with (steps done, steps in all).

    Raises:
        InvalidInputError: shapes do not fit, or a state or Jacobian is not finite.

    >>> half = bounds(lambda x, s: 0.5 * s.flip(-1), torch.zeros(4, 1).double(), torch.ones(2).double())
    >>> half.lengths, half.half_life.round(6), half.lower_exponent.round(6)
    (('1 step', '2 steps', '4 steps'), array([1., 1., 1.]), array([-0.693147, -0.693147, -0.693147]))
    """
    return of_run(run_of_network(network, x, s0, **options), layers, progress=progress)


@torch.no_grad()
@one_thread()
def of_run(run: Run, layers: bool = True, *, progress: Progress = silent) -> NormBounds:
    """Bounds on the norms of the Jacobian products along a run.

    Args:
        layers: also windows of the layers within a step.

    Raises:
        InvalidInputError: a state or Jacobian is not finite, or the products of all windows do not fit into memory.
    """
    s = run.require_finite().states[:-1]
    need = 8 * run.state_size**2 * 2 * len(run)  # a level of windows while the next one is computed
    check_room(need, f"the products over {len(run):,} steps", "use fewer steps or a smaller network")
    by_layers = layers and run.has_layers

    def steps() -> Iterator[list[np.ndarray]]:
        layered = (run.layer_jacobians(now) for now in run.slices(run.depth))
        for found in layered if by_layers else ([A] for _, A in run.blocks()):
            yield from zip(*(J.double().cpu().numpy() for J in found), strict=True)

    return bounds_of(steps, len(run), dtype=f"{s.dtype}".rpartition(".")[2], progress=progress, **run.labels)


def bounds_of(
    steps: Steps, T: int, *, dtype: str = "float64", progress: Progress = silent, **labels: str
) -> NormBounds:
    """The bounds of T steps; `steps()` yields the layer Jacobians of each step from the first on, the first layer first.

    dtype: of the Jacobians; a zero product counts as its rounding unit. labels: title, unit and about of the result.

    Raises InvalidInputError for entries that are NaN or infinite.
    """
    norms, zero = _fixed_norms(steps, T), float(torch.finfo(getattr(torch, dtype)).eps) / 2
    within, products, log_norm, product = [], [], np.empty(T), None
    for t, layers in enumerate(steps()):
        inside = WindowBounds([window_of(J) for J in layers], norms, zero, first=t == 0)
        within.append(inside.sums)
        products.append(inside.product)
        product = inside.product if product is None else times(inside.product, product)
        log_norm[t] = _log(float(np.linalg.norm(product.matrix, 2)), product.exponent)
        progress(t + 1, T)
    along = WindowBounds(products, norms, zero, known=[sums[-1] for sums in within])
    lengths, upper, lower = _over_time(within, along)
    constants = [0.0, *(norm.log_condition if norm else 0.0 for norm in norms)]
    return NormBounds(
        lengths=tuple(counted(n, of) for n, of in lengths),
        window_steps=np.array([n if of == "step" else 0 for n, of in lengths]),
        upper=upper + np.array(constants)[:, None, None],
        lower=lower,
        log_norm=log_norm,
        dtype=dtype,
        log_condition={kind: norm.log_condition for kind, norm in zip(KINDS[1:], norms, strict=True) if norm},
        **labels,
    )


def _over_time(within: list[list[Bounds]], along: WindowBounds) -> tuple[list[tuple[int, str]], np.ndarray, np.ndarray]:
    """The window lengths, and the bounds (kinds, W, T) and (W, T) at the ends of the steps.

    within: of each step the sums over its layers' windows, for each level.
    """
    T, layered, levels = len(within), len(within[0]) - 1, len(along.levels)
    lengths = [(2**k, "layer") for k in range(layered)] + [(min(2**k, T), "step") for k in range(levels)]
    rows = [list(accumulate((sums[k] for sums in within), added)) for k in range(layered)]
    rows += [along.over_time(k) for k in range(levels)]
    upper = np.array([[bounds[0] for bounds in row] for row in rows])
    return lengths, upper.transpose(2, 0, 1), np.array([[bounds[1] for bounds in row] for row in rows])


def _fixed_norms(steps: Steps, T: int) -> tuple[Weighted | None, Weighted | None]:
    """A diagonal and a quadratic norm for the whole run, or None. Raises InvalidInputError for entries that are not finite."""
    mean, modulus, samples = 0.0, 0.0, []
    for t, layers in enumerate(steps()):
        if not all(np.isfinite(J).all() for J in layers):
            raise InvalidInputError(f"the Jacobian of step {t} holds NaN or infinity: no bound exists")
        A = reduce(lambda P, J: J @ P, layers)
        mean, modulus = mean + A / T, modulus + np.abs(A) / T
        if t % max(1, -(-T // SAMPLES)) == 0:
            samples.append(A)
    if not np.isfinite(modulus).all() or not modulus.any():
        return None, None
    return diagonal_norm(modulus), quadratic_norm(np.stack(samples), mean)


KIND_STYLES = {
    "norm": {"color": BLUE, "marker": "o"},
    "diagonal norm": {"color": ORANGE, "marker": "s", "linestyle": "--"},
    "quadratic norm": {"color": GREEN, "marker": "D", "linestyle": "--"},
}
SHOWN = 6  # window lengths in one panel over time


def _what(bounds: NormBounds) -> str:
    return bounds.scope[:1].lower() + bounds.scope[1:]


def _title(bounds: NormBounds) -> str:
    return title_of(bounds.title, _what(bounds))


@panel(7, 5, _title, columns=3)
def plot_bounds_over_time(bounds: NormBounds, ax: Axes | None = None) -> Axes:
    """Upper and lower bounds on the norm of dy[t]/dy[0] from windows of several lengths, and the measured norm."""
    decade = np.log(10)
    chosen = sorted({round(k) for k in np.linspace(0, len(bounds.lengths) - 1, SHOWN)})
    shown = [np.zeros(1), bounds.log_norm / decade, *bounds.best[chosen] / decade]
    for k, w in enumerate(chosen):
        _draw_known(bounds.best[w] / decade, ax, f"at most: {bounds.lengths[w]}", **shade_style(k, len(chosen)))
    step = next(w for w in chosen if bounds.window_steps[w])
    if np.isfinite(bounds.lower[step]).any():
        style = {"color": GREY, "linewidth": 2.2, "alpha": 0.6}
        _draw_known(bounds.lower[step] / decade, ax, f"at least: {bounds.lengths[step]}", **style)
    _draw_known(bounds.log_norm / decade, ax, "measured", color="black", linewidth=1.6)
    ax.axhline(0, **DASHED, linewidth=0.8)
    ax.set(ylim=_around(np.concatenate(shown)), title="bounds by windows of several lengths")  # the lower one may leave
    return over_time(ax, bounds.steps, bounds.unit, r"$\log_{10}\,\|\partial y_t/\partial y_0\|$")


def _draw_known(values: np.ndarray, ax: Axes, label: str, **style) -> None:
    """Draw the finite values over time, from 0 at time 0."""
    known = np.flatnonzero(np.isfinite(values))
    ax.plot(np.r_[0, known + 1], np.r_[0.0, values[known]], label=label, **{"linewidth": 1.2} | style)


@panel(7, 5, _title, columns=3)
def plot_bounds_by_window(bounds: NormBounds, ax: Axes | None = None) -> Axes:
    """Each kind of upper bound on the exponent over the whole run, against the length of the windows."""
    places, ends = np.arange(len(bounds.lengths)), bounds.upper[:, :, -1] / bounds.steps
    for kind, values in zip(bounds.kinds, ends, strict=True):
        finite = np.isfinite(values)
        if finite.any():
            ax.plot(places[finite], values[finite], linewidth=1.2, markersize=4, label=kind, **KIND_STYLES[kind])
    ax.axhline(bounds.measured_exponent, color="black", linewidth=1.6, label="measured")
    ax.axhline(0, **DASHED, linewidth=0.8, label="neither grows nor vanishes")
    ax.set_ylim(_around(np.r_[0, bounds.measured_exponent, ends.ravel()]))
    ax.set_xticks(places, bounds.lengths, rotation=90)
    ax.set(xlabel="windows of", ylabel="bound on the exponent (1/step)", title="how long a window it takes")
    plain_numbers(ax)
    return ax


@our_style()
def draw_bounds(runs: NormBounds | Sequence[NormBounds]) -> Shown:
    """The bounds over time, and by window length; of several networks a row each."""

    def draw(bounds: NormBounds, row: SubFigure) -> None:
        for ax, plot in zip(row.subplots(1, 2), (plot_bounds_over_time, plot_bounds_by_window), strict=True):
            legend_beside(plot(bounds, ax))

    runs = as_list(runs)
    return draw_rows(runs, draw, _what(runs[0]), (13.5, 4.4))


def _around(values: np.ndarray) -> tuple[float, float]:
    """Limits of an axis that shows the finite ones of some values."""
    finite = values[np.isfinite(values)] if np.isfinite(values).any() else np.zeros(1)
    margin = 0.08 * float(np.ptp(finite)) or 1.0
    return float(finite.min()) - margin, float(finite.max()) + margin
