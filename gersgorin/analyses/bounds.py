"""Bound the norm of the product of a run's Jacobians, from products of windows of 1, 2, 4, ...
layers and steps.

For M_1, ..., M_k with dy_T/dy_0 = M_k ... M_1, windows of any lengths:

norm               ||M_k ... M_1|| <= prod ||M_i||, in the 2-norm.
diagonal,          <= cond(S) prod ||S M_i S^-1||, for any invertible S, because S^-1 S between the factors is the identity: the run
quadratic norm     pays for one condition number, not one a window (R. Horn, C. Johnson, "Matrix Analysis", 2013, section 5.6).
                   For products of different matrices, S must be the same along the run.
from below         ||M_k ... M_1|| >= sigma_min(M_k) ... sigma_min(M_2) ||M_1||: it cannot vanish faster than that.

The norms |S v| come from the Jacobians themselves:

diagonal    S of powers of two that balances the mean of |A_t| (E. Osborne, 1960; LAPACK's gebal).
quadratic   S^T S = P solves P = I + M^T P M (Lyapunov's equation), M the mean Jacobian divided by slightly more than its
            spectral radius: in this norm M is hardly larger than that radius, and steps near the
            mean are not either.

The bounds hold for the Jacobians as computed, in float64 or float32, but for their last digits:
each window carries how far rounding moved its product (N. Higham, "Accuracy and Stability of
Numerical Algorithms", 2002, section 3.5). The rounding of the states and of the entries of the
Jacobians is not covered (docs/guides/bounds.md compares with 60 digits). A product that is exactly
zero counts as one rounding unit, 2^-53 or 2^-24, because a Jacobian may be zero only by rounding or
by underflow.

Legend: T steps; W window lengths, the shortest first. Logarithms are natural.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import numpy as np
import scipy.linalg
import torch
from matplotlib.axes import Axes

from gersgorin.linalg.spectrum import one_thread
from gersgorin.loading.open import Data, Network, open_run
from gersgorin.run.cell import State
from gersgorin.run.run import Progress, silent
from rhn.errors import InvalidInputError
from rhn.plotting.figure import DASHED, GROWTH, Style, over_time, panels, shade_style
from rhn.utils.figures import BLUE, GREEN, GREY, ORANGE
from rhn.utils.keywords import keywords_of
from rhn.utils.result import Result, rows_of
from rhn.utils.validation import check_room
from rhn.utils.wording import counted, table

KINDS = ("norm", "diagonal norm", "quadratic norm")
STYLES: tuple[Style, ...] = (
    {"color": BLUE, "marker": "o"},
    {"color": ORANGE, "marker": "s", "linestyle": "--"},
    {"color": GREEN, "marker": "D", "linestyle": "--"},
)
UNIT = 2.0**-53  # the rounding of a float64 operation
SAMPLES = 16  # steps on which the quadratic norms are compared
# trials: M is the mean Jacobian over its spectral radius times this
OVER_THE_RADIUS = (1.01, 1.05, 1.2, 1.5)
SHOWN = 6  # window lengths in the panel over time

Steps = Iterable[list[np.ndarray]]
"""The Jacobians of the layers of each step, the first layer first."""


@dataclass(frozen=True)
class Product:
    """The matrix (A + E) 2^exponent, without overflow; ||E||_F is about `rounding` at most."""

    A: np.ndarray
    rounding: float = 0.0
    exponent: int = 0

    @classmethod
    def of(cls, A: np.ndarray, rounding: float = 0.0, exponent: int = 0) -> "Product":
        """With a largest entry of A in [1/2, 1)."""
        shift = int(np.frexp(np.abs(A).max(initial=0.0))[1])
        return cls(np.ldexp(A, -shift), math.ldexp(rounding, -shift), exponent + shift)

    def __matmul__(self, other: "Product") -> "Product":
        sizes = np.linalg.norm(self.A), np.linalg.norm(other.A)
        rounding = (
            len(other.A) * UNIT * sizes[0] * sizes[1]
            + self.rounding * sizes[1]
            + self.norm * other.rounding
        )
        return Product.of(self.A @ other.A, float(rounding), self.exponent + other.exponent)

    @property
    def norm(self) -> float:
        """||A||_2 and the rounding; 0 only of a product with a factor of zero."""
        return float(np.linalg.norm(self.A, 2)) + self.rounding

    def log(self, size: float) -> float:
        """log(size 2^exponent)."""
        return _log(size) + self.exponent * math.log(2)


def _log(value: float) -> float:
    return math.log(value) if value else -math.inf


@dataclass(frozen=True)
class Weighted:
    """The vector norm |S v|; R is about S^-1, and ||R S - I||_2 at most the defect."""

    S: np.ndarray
    R: np.ndarray
    defect: float

    @classmethod
    def of(cls, S: np.ndarray) -> "Weighted | None":
        """None if S is nearly singular."""
        R, norm = scipy.linalg.solve_triangular(S, np.eye(len(S))), np.linalg.norm
        defect = float(norm(R @ S - np.eye(len(S))) + len(S) * UNIT * norm(R) * norm(S))
        return cls(S, R, defect) if defect < 0.5 else None

    @property
    def log_condition(self) -> float:
        """log cond(S)."""
        return _log(float(np.linalg.norm(self.S, 2) * np.linalg.norm(self.R, 2))) - math.log1p(
            -self.defect
        )

    def log_norm(self, M: Product) -> float:
        """log ||S M S^-1||_2, at most log ||S M R||_2 - log(1 - defect); inf if M maps no states to
        states.
        """
        if self.S.shape != M.A.shape:
            return math.inf
        found = Product.of(self.S) @ M @ Product.of(self.R)
        return found.log(found.norm) - math.log1p(-self.defect)


def diagonal_norm(mean_modulus: np.ndarray) -> Weighted | None:
    """The norm that balances the mean of |A_t| (n, n); None if it is the Euclidean one."""
    scaling = scipy.linalg.matrix_balance(mean_modulus, permute=False, separate=True)[1][0]
    known = np.isfinite(scaling).all() and (scaling != scaling[0]).any()
    return Weighted.of(np.diag(1 / scaling)) if known else None


def quadratic_norm(steps: np.ndarray, mean: np.ndarray) -> Weighted | None:
    """The best norm for some of the steps (k, n, n), over trials with the mean (n, n) of the whole
    run; None if there is none.
    """

    def size(norm: Weighted) -> float:  # approximate, because it only ranks the trials
        sizes = np.linalg.norm(norm.S @ steps @ norm.R, 2, axis=(1, 2))
        return math.inf if not np.isfinite(sizes).all() else float(np.log(sizes + 1e-300).mean())

    radius = np.abs(np.linalg.eigvals(mean)).max()
    trials = [_lyapunov_norm(mean / (factor * radius)) for factor in OVER_THE_RADIUS if radius > 0]
    return min(filter(None, trials), key=size, default=None)


def _lyapunov_norm(M: np.ndarray) -> Weighted | None:
    """|S v| with S^T S = I + M^T S^T S M, for spectral radius < 1; None if rounding makes S nearly
    singular.
    """
    try:
        P = scipy.linalg.solve_discrete_lyapunov(M.T, np.eye(len(M)), method="bilinear")
        return Weighted.of(scipy.linalg.cholesky((P + P.T) / 2))
    except (np.linalg.LinAlgError, ValueError):
        return None


class Window(NamedTuple):
    """A window's product, and bounds on the log of its norm."""

    product: Product
    bounds: np.ndarray
    """From above in each of the KINDS, without the condition numbers, inf for one that bounds
    nothing; and minus the one from below.
    """


class Bounding(NamedTuple):
    """Bounds of windows in fixed norms; zero: the norm that a product of zero counts as."""

    norms: tuple[Weighted | None, Weighted | None]
    zero: float

    def window(self, M: Product, halves: Sequence[Window] = (), *, first: bool) -> Window:
        """The bounds of a product, or the sums of those of its halves if rounding makes them
        sharper; first: the run begins with it.
        """
        upper = np.array(
            [M.log(M.norm), *(norm.log_norm(M) if norm else math.inf for norm in self.norms)]
        )
        upper[upper == -math.inf] = math.log(self.zero)
        sizes = np.linalg.svd(M.A, compute_uv=False)
        least = sizes[0] if first else sizes[-1] if M.A.shape[0] == M.A.shape[1] else 0.0
        lower = M.log(max(0.0, least - len(sizes) * UNIT * sizes[0] - M.rounding))
        bounds = np.array([*upper, -lower])
        return Window(
            M, np.minimum(bounds, halves[0].bounds + halves[1].bounds) if halves else bounds
        )

    def levels(self, windows: list[Window], *, first: bool) -> list[list[Window]]:
        """The windows of 1, 2, 4, ... factors, up to all; those of 2^k begin at multiples of 2^k,
        the last one may be shorter.
        """
        found = [windows]
        while len(windows) > 1:
            pairs = [windows[k : k + 2] for k in range(0, len(windows), 2)]
            windows = [
                self.window(pair[1].product @ pair[0].product, pair, first=first and k == 0)
                if pair[1:]
                else pair[0]
                for k, pair in enumerate(pairs)
            ]
            found.append(windows)
        return found


def _over_time(levels: list[list[Window]], level: int) -> np.ndarray:
    """The bounds at t = 1..T from windows of up to 2^level steps: the last of them is the longest
    that ends at t.
    """
    T = len(levels[0])
    found = np.zeros((T + 1, len(KINDS) + 1))
    for t in range(1, T + 1):
        k = level if t == T else min(level, (t & -t).bit_length() - 1)
        number = (t - 1) >> k
        found[t] = found[number << k] + levels[k][number].bounds
    return found[1:]


@dataclass(frozen=True, kw_only=True, repr=False)
class NormBounds(Result, kind="bounds"):
    """Bounds on log ||dy[t]/dy[0]||_2, t = 1..T, of the products of the Jacobians as computed.

    The rounding of these products is counted up to the last digits, that of the Jacobians
    themselves is not covered.
    """

    lengths: tuple[str, ...]
    """The window lengths as texts, (W,): "1 layer", "2 layers", "1 step", ..., "85 steps"."""
    window_steps: np.ndarray
    """The same in steps, (W,); 0 for windows of layers within a step."""
    upper: np.ndarray
    """(kinds, W, T), at time t from windows of up to that length; inf for a kind that bounds
    nothing.
    """
    lower: np.ndarray
    """(W, T); -inf if none is known: the product may be zero."""
    log_norm: np.ndarray
    """The measured log ||dy[t]/dy[0]||_2 in plain float64, (T,); -inf if the product as computed is
    zero.
    """
    log_condition: dict[str, float]
    """log cond(S) of each fixed norm, which the bound of a run contains once; without the norms
    that do not exist.
    """
    kinds: tuple[str, ...] = KINDS
    dtype: str = "float64"
    """Of the Jacobians."""
    unit: str = "steps"
    """Of one step, for the axis of time."""

    def brief(self) -> dict[str, float]:
        """The sharpest bounds on the exponent of the whole run, and what was measured."""
        bounds = {
            "lower_exponent": self.lower_exponent.max(),
            "exponent_bound": self.exponent.min(),
        }
        return bounds | {
            "measured_exponent": self.measured_exponent,
            "half_life_bound": self.half_life[self.exponent.argmin()],
        }

    @property
    def steps(self) -> int:
        """T."""
        return len(self.log_norm)

    @property
    def scope(self) -> str:
        """The matrices that the bounds are theorems about, in one sentence."""
        of = f"Bounds of the products of the {self.dtype} Jacobians as computed"
        return f"{of}; the rounding of the Jacobians themselves is not covered"

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
        """Upper bounds on the half-life, (W,), in steps on average over the run; inf for a bound
        that does not shrink.
        """
        return np.array([_half_life(exponent) for exponent in self.exponent])

    @property
    def binding(self) -> list[str]:
        """The kind of the smallest bound for each window length, (W,)."""
        return [self.kinds[k] for k in self.upper[:, :, -1].argmin(0)]

    @property
    def sufficient(self) -> int | None:
        """The first window length whose bound shrinks over the run; None if there is none."""
        return next(iter(np.flatnonzero(self.exponent < 0).tolist()), None)

    def table(self) -> list[dict]:
        """One row for each window length: bounds on exponent and half-life, and the exponent from
        each kind.
        """
        by_kind = self.upper[:, :, -1] / self.steps
        return rows_of(
            window=self.lengths,
            window_steps=self.window_steps,
            exponent_bound=self.exponent,
            half_life_bound=self.half_life,
            above_measured=self.exponent - self.measured_exponent,
            lower_exponent=self.lower_exponent,
            bound=self.binding,
            exponent=dict(zip(self.kinds, by_kind, strict=True)),
        )

    def to_dict(self) -> dict:
        """The numbers over the whole run; those of every step are in the file that `save`
        writes.
        """
        return {
            "about": f"{self.scope}.",
            "measured_exponent": self.measured_exponent,
            "measured_half_life": _half_life(self.measured_exponent),
            "sufficient_window": None if self.sufficient is None else self.lengths[self.sufficient],
            "log_condition": self.log_condition,
            "windows": self.table(),
        }

    def lines(self) -> Iterator[str]:
        """The measured exponent, and bounds on exponents and half-lives by window length."""
        measured = {"window": "measured", "exponent_bound": self.measured_exponent, "bound": ""}
        measured["half_life_bound"] = _half_life(self.measured_exponent)
        rows = []
        for row in [measured, *self.table()]:
            values = [
                row.get(key, math.nan)
                for key in ("exponent_bound", "half_life_bound", "lower_exponent")
            ]
            cells = (
                "-" if value == -math.inf else f"{value:.4g}".replace("nan", "") for value in values
            )
            rows.append((row["window"], *cells, row["bound"]))
        names = ("windows of", "exponent <=", "half-life <=", "exponent >=", "by")
        yield from table(names, rows, left=("by",)).split("\n")

    def sentences(self) -> Iterator[str]:
        """The shortest windows that bound the gradient below its start, or that none do; and the
        matrices that the bounds are about.
        """
        over, measured, w = (
            f"over {counted(self.steps, 'step')}",
            self.measured_exponent,
            self.sufficient,
        )
        if measured == -math.inf:
            yield (
                f"The product as computed is zero {over}. A zero Jacobian may be a rounded one "
                "and counts as one rounding unit: "
                f"the norm is at most e^{self.best[-1, -1]:.3g}."
            )
        elif w is not None:
            yield (
                f"Bounded: {over} the gradient halves, on average, at least every "
                f"{self.half_life[w]:.4g} steps, by windows of "
                f"{self.lengths[w]} ({self.binding[w]}); measured {_half_life(measured):.4g}, "
                "by the longest windows "
                f"{self.half_life[-1]:.4g}."
            )
        elif self.lower_exponent.max() >= 0:
            yield (
                f"Bounded: {over} the gradient does not vanish; its measured exponent is "
                f"{measured:.3g} a step."
            )
        else:
            why = (
                ": rounding leaves it open."
                if measured < 0
                else f"; its measured exponent is {measured:.3g} a step."
            )
            yield f"No window proves that the gradient shrinks {over}{why}"
        yield f"{self.scope}."

    def draw(self, ax: Axes) -> Axes:
        """Upper and lower bounds on the norm of dy[t]/dy[0] from windows of several lengths, and
        the measured norm.
        """
        decade = np.log(10)
        chosen = sorted({round(k) for k in np.linspace(0, len(self.lengths) - 1, SHOWN)})
        for k, w in enumerate(chosen):
            _draw_known(
                self.best[w] / decade,
                ax,
                f"at most: {self.lengths[w]}",
                **shade_style(k, len(chosen)),
            )
        step = next(w for w in chosen if self.window_steps[w])
        if np.isfinite(self.lower[step]).any():
            style = {"color": GREY, "linewidth": 2.2, "alpha": 0.6}
            _draw_known(self.lower[step] / decade, ax, f"at least: {self.lengths[step]}", **style)
        _draw_known(self.log_norm / decade, ax, "measured", color="black", linewidth=1.6)
        ax.axhline(0, **DASHED, linewidth=0.8)
        shown = np.concatenate([np.zeros(1), self.log_norm / decade, *self.best[chosen] / decade])
        # the lower one may leave
        ax.set(ylim=_around(shown), title="Bounds by windows of several lengths")
        return over_time(ax, self.steps, self.unit, GROWTH)

    def draw_by_window(self, ax: Axes) -> None:
        """Each kind of upper bound on the exponent over the whole run, against the length of the
        windows.
        """
        places, ends = np.arange(len(self.lengths)), self.upper[:, :, -1] / self.steps
        for kind, values, style in zip(self.kinds, ends, STYLES, strict=True):
            finite = np.isfinite(values)
            if finite.any():
                ax.plot(
                    places[finite], values[finite], linewidth=1.2, markersize=4, label=kind, **style
                )
        ax.axhline(self.measured_exponent, color="black", linewidth=1.6, label="measured")
        ax.axhline(0, **DASHED, linewidth=0.8, label="neither grows nor vanishes")
        ax.set_ylim(_around(np.r_[0, self.measured_exponent, ends.ravel()]))
        ax.set_xticks(places, self.lengths, rotation=90)
        ax.set(
            xlabel="windows of",
            ylabel="bound on the exponent (1/step)",
            title="How long a window it takes",
        )

    @property
    def finding(self) -> str:
        """The shortest window that proves a decay, if one does."""
        if (w := self.sufficient) is None:
            return "no window proves that the gradient decays"
        return f"windows of {self.lengths[w]} prove that the gradient decays"

    plot = panels(8, 3.4)(draw, draw_by_window)


def _half_life(exponent: float) -> float:
    return -math.log(2) / exponent if exponent < 0 else math.inf


@keywords_of(open_run)
@torch.no_grad()
@one_thread()
def bounds(
    network: Network = "rhn",
    x: Data = None,
    s0: State | None = None,
    *,
    layers: bool = True,
    progress: Progress = silent,
    **options,
) -> NormBounds:
    """Bounds on ||dy_t/dy_0|| along a run, from windows of 1, 2, 4, ... layers and steps, of the
    Jacobians as computed.

    Args:
        network, x, s0, options: as for `gersgorin.open_run`.
        layers: also windows of the layers within a step.
        progress: called with (steps done, steps in all).

    Raises:
        InvalidInputError: shapes do not fit, a state or Jacobian is not finite, or the products do
            not fit into memory.

    >>> half = bounds(lambda x, s: 0.5 * s.flip(-1), torch.zeros(4, 1).double(), torch.ones(2).double())
    >>> half.lengths, half.half_life.round(6), half.lower_exponent.round(6)
    (('1 step', '2 steps', '4 steps'), array([1., 1., 1.]), array([-0.693147, -0.693147,
    -0.693147]))
    """
    run = open_run(network, x, s0, **options)
    dtype = run.require_finite().states.dtype
    need = 8 * run.state_size**2 * 2 * len(run)  # a level of windows while the next one is computed
    check_room(
        need, f"the products over {len(run):,} steps", "use fewer steps or a smaller network"
    )

    def steps() -> Iterator[list[np.ndarray]]:
        layered = (run.layer_jacobians(now) for now in run.slices(run.depth))
        for found in (
            layered
            if layers and run.depth > 1 and run.cell.has_layers
            else ([A] for _, A in run.blocks())
        ):
            yield from zip(*(J.double().cpu().numpy() for J in found), strict=True)

    norms = _fixed_norms(steps(), len(run))
    bounding = Bounding(norms, torch.finfo(dtype).eps / 2)
    lengths, found, log_norm = _windows(steps(), len(run), bounding, progress)
    constants = [0.0, *(norm.log_condition if norm else 0.0 for norm in norms)]
    return NormBounds(
        lengths=tuple(counted(n, of) for n, of in lengths),
        window_steps=np.array([n if of == "step" else 0 for n, of in lengths]),
        upper=(found[..., :-1] + constants).transpose(2, 0, 1),
        lower=-found[..., -1],
        log_norm=log_norm,
        dtype=f"{dtype}".removeprefix("torch."),
        log_condition={
            kind: norm.log_condition for kind, norm in zip(KINDS[1:], norms, strict=True) if norm
        },
        **run.labels,
    )


def _fixed_norms(steps: Steps, T: int) -> tuple[Weighted | None, Weighted | None]:
    """A diagonal and a quadratic norm for the whole run, or None. Raises InvalidInputError for
    entries that are not finite.
    """
    mean, modulus, samples = np.zeros(()), np.zeros(()), []
    for t, layers in enumerate(steps):
        if not all(np.isfinite(J).all() for J in layers):
            raise InvalidInputError(
                f"the Jacobian of step {t} holds NaN or infinity: no bound exists"
            )
        A = reduce(lambda P, J: J @ P, layers)
        mean, modulus = mean + A / T, modulus + np.abs(A) / T
        if t % max(1, -(-T // SAMPLES)) == 0:
            samples.append(A)
    if not np.isfinite(modulus).all() or not modulus.any():
        return None, None
    return diagonal_norm(modulus), quadratic_norm(np.stack(samples), mean)


def _windows(
    steps: Steps, T: int, bounding: Bounding, progress: Progress
) -> tuple[list[tuple[int, str]], np.ndarray, np.ndarray]:
    """Lengths of windows, in layers or steps, their bounds on the run at t = 1..T (W, T, kinds +
    1), and the measured log norm (T,).
    """
    within, whole, log_norm, product = [], [], np.empty(T), None
    for t, layers in enumerate(steps):
        factors = [bounding.window(Product.of(J), first=t == k == 0) for k, J in enumerate(layers)]
        *shorter, (step,) = bounding.levels(factors, first=t == 0)
        within.append([sum(window.bounds for window in level) for level in shorter])
        whole.append(step)
        product = step.product if product is None else step.product @ product
        log_norm[t] = product.log(float(np.linalg.norm(product.A, 2)))
        progress(t + 1, T)
    levels = bounding.levels(whole, first=True)
    rows = [np.cumsum(level, axis=0) for level in zip(*within, strict=True)]
    lengths = [(2**k, "layer") for k in range(len(rows))] + [
        (min(2**k, T), "step") for k in range(len(levels))
    ]
    return (
        lengths,
        np.stack([*rows, *(_over_time(levels, k) for k in range(len(levels)))]),
        log_norm,
    )


def _draw_known(values: np.ndarray, ax: Axes, label: str, **style) -> None:
    """Draw the finite values over time, from 0 at time 0."""
    known = np.flatnonzero(np.isfinite(values))
    ax.plot(
        np.r_[0, known + 1], np.r_[0.0, values[known]], label=label, **{"linewidth": 1.2} | style
    )


def _around(values: np.ndarray) -> tuple[float, float]:
    """Limits of an axis that shows the finite ones of some values."""
    finite = values[np.isfinite(values)] if np.isfinite(values).any() else np.zeros(1)
    margin = 0.08 * float(np.ptp(finite)) or 1.0
    return float(finite.min()) - margin, float(finite.max()) + margin
