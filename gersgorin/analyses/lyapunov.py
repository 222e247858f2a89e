"""Lyapunov exponents of a run: the mean growth rates of small changes of the state, with standard
errors.

A frame of k directions is multiplied at each step by the Jacobian A[t] = ds[t+1]/ds[t] (G. Benettin
et al., Meccanica 15, 1980). All directions turn to the direction that grows fastest. A QR
decomposition after each step, A[t] Q = Q' R, makes them orthogonal again, and log |R_ii| is the
growth of the i-th direction. The sum over i is exactly the growth of the volume of the frame; for a
full frame (k = N) it is the sum of log |det A[t]|.

The standard errors of one run are computed from the scatter of the means of consecutive blocks. The
blocks are not independent. If b blocks have the standard deviation d, and each has the correlation
r with the next, the standard error of their mean is

    d sqrt(s / b),   s = (1 + r) / (1 - r).

This is the error of b / s independent blocks. The formula is exact for an autoregression. With few
blocks the estimate of r is too low by about (1 + 3 r) / b (M. Kendall, Biometrika 41, 1954), which
is added. Student's quantile for b / s - 1 degrees of freedom corrects for the estimate of d. Large
blocks capture a long memory; small blocks are more numerous. A short run therefore uses two numbers
of blocks and takes the larger error.

Directions that have not yet turned to the directions of the exponents grow too slowly, most of all
at the start of the run. The scatter of blocks does not show this bias. The error is therefore at
least half of the difference between the two halves of the run. This is the change of the exponent
if the first half is left out.

The coverage was measured on runs of 20 to 400 steps. Two standard errors cover the exponent in at
least 93 % of the runs for products of random matrices, a driven tanh network and Henon's map. If
the growth of successive steps has a correlation of 0.9, two standard errors cover the exponent in
88 % of the runs of 20 steps, and in 93 % of the runs of 40 and more steps. For a leaky network that
forgets 20 % per step, two standard errors cover the exponent in 77 to 89 % of the runs of 20 and 40
steps. If steps are independent, the standard errors are 1.4 times too large, and 1.7 times in short
runs.

Legend: T counted time steps (those after the warm-up); N entries of a state; k exponents,
descending; C pieces of the run, which are the points of the convergence curve; b blocks. Exponents
are natural logarithms per step.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from scipy.special import stdtrit
from torch import Tensor

from gersgorin.analyses.growth import PLACES, SAME, direction, rate_words
from gersgorin.analyses.steps import subject_of
from gersgorin.linalg.spectrum import one_thread
from gersgorin.linalg.zeros import kinks_at
from gersgorin.network.open import DataLike, NetworkLike, open_run
from gersgorin.run.run import ROUNDING, Progress, Run, Tangent, no_derivative, silent
from gersgorin.run.state import State
from rhn.errors import RhnError
from rhn.plotting.figure import (
    DASHED,
    WIDE,
    Block,
    Style,
    WholeTicks,
    isolated_points,
    name_ends,
    shade_style,
)
from rhn.utils.figures import COLOURS
from rhn.utils.old import (
    MARKERS,
    NonNegative,
    Result,
    counted,
    drawable,
    keywords_of,
    sentence,
    table_rows,
    time_label,
)
from rhn.utils.validation import LARGEST_FLOAT, check_room, check_seed, number, whole_number

DEFAULT_COUNT = 10  # exponents of the command
PIECES = 240  # of the run, whose growth is kept: points of the convergence curve, parts of blocks
BLOCKS = 20, 10  # numbers of blocks for standard errors
LEAST_STEPS = 20  # of a run with standard errors
LONG = 100  # steps from which 20 blocks are long enough
SETTLED = 200  # steps from which a run that wanders is not called a transient
# least drift, in standard errors: an exponent that has settled changes by more in one of a hundred
# runs; and as a share of the exponent
DRIFT, DRIFT_SHARE = 5.0, 0.01
CURVES = 8  # of one run in the convergence figure
RATE = "exponent (1/step)"
# times as far in the second half of a run: it diverges; an angle that turns evenly goes twice as
# far
DIVERGES = 3.0
FOLDS = 5.0  # times by e that small changes grow along a run, at least, that shows chaos
LONGEST_CYCLE = 16
TESTED = 4  # steps all along a run, and at its end, that are tested for kinks
SHRINKS = -1e-300  # the largest exponent that shrinks, where its error leaves the sign open
QUANTILE = 0.975  # of Student's distribution, for intervals of 95 %
LEAST_FREEDOM = 1.5  # degrees of freedom of a standard error, at least


@dataclass(frozen=True, kw_only=True, repr=False)
class LyapunovSpectrum(Result, kind="lyapunov"):
    """The k leading exponents of one run with their standard errors.

    >>> found = lyapunov(lambda x, s: s / 2, torch.zeros(20, 1), s0=torch.ones(1))
    >>> found.exponents.round(4).tolist()  # log(1/2)
    [-0.6931]
    """

    exponents: np.ndarray
    """The exponents, (k,), descending; -inf if a Jacobian maps all directions to 0, and NaN, at the
    end, for one that rounding hides, see `lost`.
    """
    standard_errors: np.ndarray
    """Standard errors, (k,): the 95 % interval is the exponent +- two standard errors, for this run
    only, rounding included. NaN for fewer than 20 steps. A short run has few independent blocks.
    Student's factor then makes the error larger, perhaps larger than the spread of the growth of
    single steps.
    """
    curve_steps: np.ndarray
    """Number of steps from which each running estimate is computed, (C,); the last is T."""
    curve: np.ndarray
    """Running estimates of the exponents, (C, k), each from the first `curve_steps` counted
    steps.
    """
    state_size: int
    """N, the number of entries of a state."""
    warmup: int
    """Number of steps before the first counted one."""
    still: bool = False
    """True if the state does not move in the last half of the run."""
    drift: float = 0.0
    """Change of the largest exponent from the first half of the run to the second; 0 if the change
    is small or may be scatter, see `drift_of`.
    """
    unit: str = "steps"
    """Length of one time step."""
    diverges: bool = False
    """True if the largest modulus of an entry of the state is more than three times as large in the
    second half of the counted steps as in the first half.
    """
    wanders: bool = True
    """False if the state moves steadily away from 0, or repeats a cycle of at most 16 steps in the
    second half of the counted steps; else True.
    """
    lost_below: float = math.nan
    """Upper bound of each exponent that rounding hides; NaN if there is none."""
    precision: float = float(np.finfo(float).eps)
    """Relative rounding of a number of the run: 2.2e-16 in float64, 1.2e-7 in float32."""
    kinks: np.ndarray
    """Numbers of the time steps, of a few that were tested, at which the Jacobian jumps, as that of
    a ReLU does at 0, (j,). The exponents may then hold on one side of the kink or on none.
    """

    @property
    def margins(self) -> np.ndarray:
        """Half-widths of the 95 % intervals, which are two standard errors, (k,); infinite if the
        errors are not known, and 0 for an exponent of -inf.
        """
        errors = np.where(np.isinf(self.exponents), 0.0, self.standard_errors)
        return 2 * np.nan_to_num(errors, nan=np.inf)

    @property
    def lost(self) -> int:
        """Number of exponents that rounding hides. In a QR decomposition, the growth of their
        directions cannot be distinguished from rounding of the direction that grows most.
        """
        return int(np.isnan(self.exponents).sum())

    @property
    def steps(self) -> int:
        """T, the number of counted time steps."""
        return int(self.curve_steps[-1])

    @property
    def complete(self) -> bool:
        """True if k = N. If so, `sum` is the mean of log |det A[t]|."""
        return len(self.exponents) == self.state_size

    @property
    def sum(self) -> float:
        """Sum of the k exponents: the mean log growth per step of k-dimensional volumes. NaN if
        rounding hides an exponent.
        """
        return float(self.exponents.sum())

    @property
    def kaplan_yorke(self) -> float:
        """The Kaplan-Yorke dimension; NaN if it is not defined (see `undefined`), needs more
        exponents or depends on those that rounding hides.
        """
        if self.undefined:
            return math.nan
        least, most = (
            kaplan_yorke_dimension(np.nan_to_num(self.exponents, nan=hidden, neginf=-math.inf))
            for hidden in (-math.inf, self.lost_below)
        )
        return least if least == most else math.nan

    @property
    def repels(self) -> bool:
        """True if the run rests at a point from which small changes grow."""
        return self.still and float(self.exponents[0]) > 0 and not len(self.kinks)

    @property
    def undefined(self) -> str:
        """The reason why there is no Kaplan-Yorke dimension; "" if there may be one."""
        if len(self.kinks):
            return "the run visits a kink"
        if self.repels:
            return "the fixed point is no attractor"
        if self.diverges:
            return (
                f"the state has not settled, and goes more than {DIVERGES:g} times as far in the "
                "second half of the run"
            )
        # the sum of all is known better than its parts
        error = self.margins[0] if len(self.exponents) == 1 else 0.0
        if self.complete and not self.lost and direction(self.sum - error, self.near) >= 0:
            return "volumes of states do not shrink"
        return ""

    @property
    def near(self) -> float:
        """Rate of growth that rounding may cause."""
        return max(SAME, PLACES * self.precision)

    @property
    def dimension(self) -> str:
        """The Kaplan-Yorke dimension in words, such as "2.06". If the integer part is uncertain
        within two standard errors, or rounding hides what it depends on: "between 0 and 1"; "" if
        it is not known.
        """
        if self.undefined:
            return ""
        hidden = np.isnan(self.exponents)
        low = np.where(hidden, -math.inf, self.exponents - self.margins)
        high = np.where(hidden, self.lost_below, self.exponents + self.margins)
        high = np.minimum(high, high[0])  # none is larger than the first
        ends = np.where((low <= 0) & (high >= 0), np.minimum(low, SHRINKS), low), high
        # which is known better: volumes shrink
        if self.complete and len(high) > 1 and -math.inf < self.sum < 0:
            ends[1][-1] = min(high[-1], self.sum - high[:-1].sum())
        least, most = (kaplan_yorke_dimension(end) for end in ends)
        if self.complete and math.isnan(most):
            most = len(self.exponents)
        if math.isnan(most):
            return ""
        return (
            f"between {least:.4g} and {most:.4g}"
            if int(least) < int(most) or math.isnan(self.kaplan_yorke)
            else f"{self.kaplan_yorke:.4g}"
        )

    @property
    def finding(self) -> str:
        """A clause about the largest exponent, and whether it shows chaos.

        The exponent shows chaos if four conditions hold: the exponent is larger than its margin;
        the run has 200 steps, and is long compared with 1 / exponent; the state wanders without
        coming to rest; and the state does not diverge. A shorter run may still be on its way to a
        cycle.
        """
        largest, error = float(self.exponents[0]), self.margins[0]
        number = _shown(largest, error)
        if math.isnan(largest):
            number = f"below {self._bound}"
        words = f"largest Lyapunov exponent{subject_of(self.title)} is {number} per step"
        if len(self.kinks) or not largest - error > self.near:
            return f"The {words}"
        long = self.steps >= SETTLED and self.steps * largest >= FOLDS
        chaotic = long and self.wanders and not self.still and not self.diverges
        return f"{'Chaotic' if chaotic else 'Small changes grow along this run'}: the {words}"

    def notes(self) -> list[str]:
        """Sentences about the error and drift of the largest exponent, the growth of a small
        change, rest of the state, the sum and the dimension, and lost directions.
        """
        sentences = [
            sentence(self._error(), self._drift()),
            sentence(f"a small change of the state {self._change()}"),
            sentence(self._rest()),
            sentence(self._sum(), self._dimension()),
            sentence(self._hidden()),
            sentence(self._kinks()),
        ]
        return [*filter(None, sentences)]

    @property
    def _bound(self) -> str:
        """The bound of the exponents that rounding hides, rounded up."""
        return f"{np.ceil(10 * self.lost_below) / 10:g}"

    def _change(self) -> str:
        """The predicate of a small change of the state: it grows, shrinks, may do either within the
        error, or keeps its size.
        """
        largest, error = float(self.exponents[0]), self.margins[0]
        if math.isnan(largest):
            return "may grow or shrink" if self.lost_below > 0 else "shrinks"
        if len(self.kinks):
            return "may grow or shrink"
        if math.isinf(largest):
            return "is mapped to 0 by the derivatives"
        ends = direction(np.array([largest - error, largest + error]), self.near)
        if ends[0] != ends[1]:
            return "may grow or shrink"
        if not ends[0]:
            return "keeps its size"
        near = ": states near this run come together" if ends[0] < 0 else ""
        return f"{rate_words(largest, self.near)}{near}"

    def _error(self) -> str:
        """A clause about the standard error of the largest exponent."""
        if math.isinf(self.exponents[0]):
            return (
                "the product of the Jacobians becomes exactly 0; if only the first steps do that, "
                "warmup= leaves them out"
            )
        if math.isnan(self.exponents[0]):
            return ""
        if math.isnan(self.standard_errors[0]):
            return "the run is too short to tell how exact the exponent is"
        return f"the 95 % interval around the exponent is +- {self.margins[0]:.2g}"

    def _drift(self) -> str:
        change = f"the exponent changes by {self.drift:+.2g} from the first half of the run"
        return f"{change} to the second: run more steps" if self.drift else ""

    def _rest(self) -> str:
        if self.repels:
            return (
                "the state rests at a fixed point that is no attractor: give another first state, "
                "s0= in Python or --start-noise 1 of the command"
            )
        return "the state comes to rest" if self.still else ""

    def _sum(self) -> str:
        """A clause about the sum, if there are several exponents."""
        those = "all" if self.complete else f"the {len(self.exponents)} largest"
        words = f"the sum of {those} exponents is {self.sum:.4g}"
        return words if len(self.exponents) > 1 and not self.lost else ""

    def _dimension(self) -> str:
        if self.repels:
            return ""
        dimension = f"is {self.dimension}" if self.dimension else "needs more exponents"
        if self.undefined:
            dimension = f"is not defined: {self.undefined}"
        return f"the Kaplan-Yorke dimension {dimension}"

    def _hidden(self) -> str:
        """A clause about the exponents that rounding hides."""
        each = "each of which" if self.lost > 1 else "which"
        words = f"rounding hides {counted(self.lost, 'exponent')}, {each} is below"
        return f"{words} {self._bound} per step" if self.lost else ""

    def _kinks(self) -> str:
        """A clause about kinks on the run, and what to do if only the first step has one."""
        if not len(self.kinks):
            return ""
        first = int(self.kinks[0])
        only = len(self.kinks) == 1 and first == self.warmup and self.exponents[0] > -math.inf
        return (
            f"step {first} of the run has a kink: the exponents may hold on one side or on "
            f"none{'; warmup= leaves out the first steps' if only else ''}"
        )

    def _axes(self) -> dict[str, tuple[str, ...]]:
        return {
            "exponents": ("exponent",),
            "standard_errors": ("exponent",),
            "curve_steps": ("estimate",),
            "curve": ("estimate", "exponent"),
            "kinks": ("kink",),
        }

    def table(self) -> list[dict]:
        """One row per exponent: its number, the exponent, margin_95 (two standard errors)."""
        numbers = range(1, 1 + len(self.exponents))
        return table_rows(
            number=numbers, exponent=self.exponents, margin_95=2 * self.standard_errors
        )

    def _draw(self, ax: Axes, **_: Any) -> None:
        """Draw the exponents against their number, with bars of two standard errors, without lost
        directions.

        Several runs in the same axes have different colours and markers.
        """
        i, finite = len(ax.containers), np.isfinite(self.exponents)
        number = 1 + np.arange(len(finite))
        style: Style = {"color": COLOURS[i % len(COLOURS)], "fmt": MARKERS[i % len(MARKERS)]}
        errors = np.nan_to_num(2 * self.standard_errors[finite])
        dimension = f"dimension {self.dimension}" if self.dimension not in ("", "0") else ""
        label = ", ".join(filter(None, (self.title, dimension, self._not_drawn)))
        ax.errorbar(
            number[finite],
            self.exponents[finite],
            errors,
            label=drawable(label) or "one run",
            markersize=3.5,
            capsize=2,
            **style,
        )
        ax.axhline(0, **DASHED, linewidth=0.8)
        bars = "" if np.isnan(self.standard_errors).all() else ", with 95 % intervals"
        title = f"Mean growth rates{bars}"
        if self._not_drawn and not i:  # the legend tells several runs apart
            title = f"{title}, {self._not_drawn}"
        ax.set(xlabel="number of the exponent", ylabel=RATE, title=title)
        ax.set_xlim(0.5, max(0.5 + len(finite), ax.get_xlim()[1] if i else 0))
        ax.xaxis.set_major_locator(WholeTicks())

    @property
    def _not_drawn(self) -> str:
        """The number of exponents that a panel cannot show, in words: "2 exponents are -inf"."""
        infinite = int(np.isneginf(self.exponents).sum())
        verb = "is" if infinite == 1 else "are"
        words = f"{counted(infinite, 'exponent')} {verb} -inf" if infinite else ""
        hidden = f"hidden by rounding: {self.lost}" if self.lost else ""
        return ", ".join(filter(None, (words, hidden)))

    def _draw_convergence(self, ax: Axes) -> None:
        """Draw running estimates against the number of counted steps: those of the first eight
        exponents that have finite ones.
        """
        finite = np.isfinite(self.curve)
        shown = np.flatnonzero(finite.any(axis=0))[:CURVES]
        for k, i in enumerate(shown):
            values = np.where(finite[:, i], self.curve[:, i], np.nan)
            ax.plot(
                self.curve_steps,
                values,
                linewidth=1.3,
                label=f"exponent {i + 1}",
                **shade_style(k, len(shown)) | isolated_points(values),
            )
        ax.axhline(0, **DASHED, linewidth=0.8)
        ax.set(xlabel=time_label(self.unit, "steps counted"), ylabel=RATE)
        ax.set_title("Running means over the steps counted")
        ax.set_xlim(0, self.steps)
        ax.xaxis.set_major_locator(WholeTicks())
        name_ends(ax, self.height)

    width = 8.0

    def _blocks(self, panel: Callable[[Axes], object]) -> list[Block]:
        """Panels of the exponents and of their running estimates."""
        return [Block([panel, self._draw_convergence], self.height, 2, least=WIDE)]

    def derived(self) -> dict:
        """Numbers that are computed from the exponents."""
        numbers = {
            name: getattr(self, name)
            for name in ("steps", "complete", "sum", "kaplan_yorke", "dimension")
        }
        curve = {"steps": self.curve_steps.tolist(), "exponents": self.curve.tolist()}
        return numbers | {"curve": curve}


@keywords_of(open_run)
@torch.no_grad()
@one_thread()
def lyapunov(
    network: NetworkLike,
    x: DataLike = None,
    *,
    count: int | None = None,
    s0: State | None = None,
    warmup: int = 0,
    seed: int = 0,
    progress: Progress = silent,
    **options,
) -> LyapunovSpectrum:
    """Compute the Lyapunov exponents of a run, as natural logarithms per time step.

    A negative largest exponent means that runs from nearby states come together under this input.
    States that are far apart may stay apart if there are several attractors. To find out, compare
    runs from several s0, or search with `gersgorin.fixed_points`.

    Args:
        network: a cell, a step f(x, s), or any network that `gersgorin.open_run` takes. A cell is
            copied to float64; a function runs in its own dtype. For an LSTM the state is (h, c) as
            one vector.
        x: inputs (T, m), or data as for `open_run`.
        count: number k of exponents, at most the N entries of a state; None: all. For k = N the sum
            is exactly the mean of log |det A[t]|.
        s0: the first state, a tensor or a tuple of tensors; None: zero, for a cell that has a
            state_size.
        warmup: number of steps at the start of the run that are not counted, because the directions
            have not settled yet.
        seed: seed of the first directions.
        progress: called with (steps done, steps in all).
        options: further arguments of `open_run`.

    Raises:
        InvalidInputError: an argument is out of range, shapes do not fit, or a state is NaN or
            infinite.

    >>> A = torch.tensor([[0.5, 1.0], [0.0, 2.0]], dtype=torch.float64)
    >>> s0, x = torch.zeros(2, dtype=torch.float64), torch.zeros(1000, 1)
    >>> spectrum = lyapunov(lambda x, s: A @ s, x, s0=s0)
    >>> np.exp(spectrum.exponents).round(2), round(abs(spectrum.sum), 9)
    (array([2. , 0.5]), 0.0)
    """
    run = open_run(network, x, s0=s0, **options)
    T, N = len(run), run.state_size
    k = whole_number("count", N if count is None else count, 1, N, f"the state has {N} entries")
    warmup = whole_number(
        "warmup", warmup, 0, T - 1, f"the run has {T} steps, and at least one is to be counted"
    )
    seed = check_seed(seed)
    Q, measured = random_frame(N, k, torch.Generator().manual_seed(seed), run.states), []
    for t, logs in enumerate(growth(run.tangent_maps(), Q)):
        if t >= warmup:
            measured.append(logs)
            progress(t + 1, T)
    log, most = (torch.stack(each).cpu().numpy() for each in zip(*measured, strict=True))
    hidden = (most > log).any(0) & np.isfinite(most).all(0)
    ends = warmup + np.isneginf(log).argmax(0)[np.isneginf(log).any(0)]
    pieces = min(PIECES, T - warmup)
    edges = np.array([round((T - warmup) * piece / pieces) for piece in range(pieces + 1)])
    sums = np.add.reduceat(np.where(hidden, np.nan, log), edges[:-1])
    curve = sums.cumsum(0) / edges[1:, None]
    order = np.argsort(-curve[-1], kind="stable")
    layers, eps = run.depth if run.cell.has_layers else 1, torch.finfo(run.states.dtype).eps
    scatter, rounding = standard_errors(np.diff(edges), sums), layers * eps * math.sqrt(N)
    far, half = run.states[warmup + 1 :].abs(), (T - warmup) // 2
    return LyapunovSpectrum(
        exponents=curve[-1, order],
        standard_errors=np.hypot(scatter, rounding)[order],
        diverges=half > 0 and bool(far[half:].max() > DIVERGES * far[:half].max()),
        wanders=wanders(run.states[warmup:]),
        lost_below=float(most.mean(0)[hidden].max(initial=-math.inf)) if hidden.any() else math.nan,
        precision=eps,
        curve_steps=edges[1:],
        curve=curve[:, order],
        state_size=N,
        warmup=warmup,
        still=run.rests_from(T // 2),
        drift=drift_of(np.diff(edges), sums[:, order[:1]]),
        kinks=kinks_along(run, [*steps_for_kinks(warmup, T), *ends.tolist()]),
        **run.label.of_result,
        **run.itself,
    )


def steps_for_kinks(warmup: int, T: int) -> list[int]:
    """A few counted steps, from the first to the last, and the last ones in a row, which a cycle of
    states visits one after the other.

    >>> steps_for_kinks(10, 101)
    [10, 40, 70, 97, 98, 99, 100]
    """
    spread = np.linspace(warmup, T - 1, TESTED).astype(int).tolist()
    return sorted({*spread, *range(max(warmup, T - TESTED), T)})


def kinks_along(run: Run, steps: Iterable[int]) -> np.ndarray:
    """Those of some time steps at which the Jacobian of the step jumps, (j,). The Jacobian is
    known by its products with two directions.
    """
    at = sorted({*steps})
    x, states = run.inputs[at], run.states[:-1][at]
    Q = random_frame(
        run.state_size, min(2, run.state_size), torch.Generator().manual_seed(0), states
    )

    def slopes(s: Tensor) -> Tensor:
        return torch.stack(
            [reduce(lambda V, layer: layer(V), maps, Q) for maps in run.cell.maps(x, s)]
        )

    size = states.abs().amax(1, keepdim=True)
    size = torch.where(size > 0, size, run.states[1:][at].abs().amax(1, keepdim=True))
    try:
        found = kinks_at(slopes, states, slopes(states), torch.where(size > 0, size, 1))
    except RhnError:  # the step refuses a state beside the run
        return np.zeros(0, int)
    return np.array(at)[found.cpu().numpy()]


def wanders(states: Tensor) -> bool:
    """Return False if states (T + 1, N) move steadily away from 0, or repeat a short cycle in their
    second half; else True.

    >>> times = torch.arange(40.0)[:, None]
    >>> wanders(1.1**times), wanders(times % 3), wanders(torch.sin(times**2))
    (False, False, True)
    """
    if (torch.linalg.vector_norm(states, dim=1).diff() >= 0).all():
        return False
    half = states[len(states) // 2 :]
    near = ROUNDING * half.abs().max()
    periods = range(1, min(LONGEST_CYCLE, len(half) // 2) + 1)
    return all((half[p:] - half[:-p]).abs().max() > near for p in periods)


def of_run(
    run: Run,
    *,
    count: int | None = None,
    repeat: int = 10,
    start_noise: NonNegative = 0.0,
    seed: int = 0,
    progress: Progress = silent,
) -> LyapunovSpectrum:
    """Compute the leading Lyapunov exponents of a run whose sequence is read several times.

    Args:
        count: number of exponents (default: 10, or all if the state has fewer than 10 entries).
        repeat: how many times the sequence is read. If it is read more than once, the first reading
            does not count for the exponents.
        start_noise: standard deviation of random numbers that are added to the first state.
        seed: seed of the initial weights, of the random numbers of start_noise and of the first
            directions.
    """
    if number("start_noise", start_noise, least=0, most=LARGEST_FLOAT):
        noise = torch.randn(
            run.state_size,
            generator=torch.Generator().manual_seed(seed),
            dtype=torch.float64,
            device="cpu",
        )
        run = run.starting_at(run.states[0] + start_noise * noise.to(run.states))
    T, N = len(run), run.state_size
    repeat = whole_number("repeat", repeat, 1, why="it is how often the sequence is read")
    need = 8 * repeat * T * (N + run.inputs.shape[-1])
    check_room(
        need,
        f"a run of {repeat * T:,} steps",
        "repeat the sequence fewer times",
        run.states.device.type,
    )
    count, warmup = min(DEFAULT_COUNT, N) if count is None else count, T if repeat > 1 else 0
    long = run.repeated(repeat)
    if repeat > 1:
        reads = f"{repeat} readings of {run.label.reads}"
        long.named(replace(run.label, reads=reads)).require_finite()
    found = lyapunov(long, count=count, warmup=warmup, seed=seed, progress=progress)
    return replace(found, title=f"{found.title}{f', read {repeat} times' if repeat > 1 else ''}")


def _shown(exponent: float, error: float) -> str:
    """An exponent as text, with as many decimals as its error has when written with two digits, and
    with at most four digits.

    >>> _shown(0.031234, 0.11), _shown(-0.33671, 0.0042), _shown(-0.33671, 0.0)
    ('0.03', '-0.3367', '-0.3367')
    """
    if 0 < error < math.inf and math.isfinite(exponent):
        exponent = round(exponent, max(0, 1 - math.floor(math.log10(error))))
    return f"{exponent:.4g}"


def random_frame(N: int, k: int, generator: torch.Generator, like: Tensor) -> Tensor:
    """Return k random orthonormal directions (N, k). A larger k adds further directions; the first
    ones stay the same.
    """
    columns = [
        torch.randn(N, generator=generator, dtype=torch.float64, device="cpu") for _ in range(k)
    ]
    return torch.linalg.qr(torch.stack(columns, 1).to(like))[0]


def growth(steps: Iterable[Sequence[Tangent]], Q: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield log |R_ii| and its upper bound, (k,) each, for each step, from the QR decompositions
    after each of the maps of this step. The bound is larger if |R_ii| may be only rounding of the
    longest column. Raises NotFiniteError for a step whose derivative is NaN or infinite.
    """
    rounding = len(Q) * torch.finfo(Q.dtype).eps
    for t, maps in enumerate(steps):
        log, most = torch.zeros(2, Q.shape[1], dtype=torch.float64, device=Q.device)
        for layer in maps:
            columns = layer(Q)
            Q, R = torch.linalg.qr(columns)
            size = R.diagonal().abs()
            log += size.log()
            most += size.maximum(rounding * columns.norm(dim=0).max()).log()
        if log.isnan().any():
            raise no_derivative(t)
        yield log, most


def standard_errors(lengths: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """Standard errors of the exponents, (k,), from the number of steps (C,) and the growth (C, k)
    of consecutive pieces of the run. The 95 % interval is +- two of them.

    The errors are at least half of the difference between the two halves of the run, and NaN for
    fewer than 20 steps.
    """
    if lengths.sum() < LEAST_STEPS:
        return np.full(sums.shape[1], np.nan)
    scatter = [
        _of_blocks(_means(lengths, sums, b))
        for b in (BLOCKS if lengths.sum() < LONG else BLOCKS[:1])
    ]
    first, second = _means(lengths, sums, 2)
    with np.errstate(invalid="ignore"):
        return np.max([*scatter, np.abs(second - first) / 2], axis=0)


def drift_of(lengths: np.ndarray, growth: np.ndarray) -> float:
    """Change of the mean growth from the first half of a run to the second, from the growth (C, 1)
    of pieces.

    The result is 0 for a short run, and if the change is small compared with the mean or with the
    scatter around a straight line.
    """
    if lengths.sum() < LONG or not np.isfinite(growth).all():
        return 0.0
    from scipy.signal import detrend  # loads in a fifth of a second

    scatter = _of_blocks(detrend(_means(lengths, growth, BLOCKS[0]), axis=0)).item()
    change = np.diff(_means(lengths, growth, 2), axis=0).item()
    least = max(DRIFT * scatter, DRIFT_SHARE * abs(growth.sum()) / lengths.sum(), SAME)
    return change if abs(change) > least else 0.0


def _means(lengths: np.ndarray, sums: np.ndarray, blocks: int) -> np.ndarray:
    """Mean growth of consecutive blocks of (nearly) equal length, (b, k)."""
    pieces = np.array_split(np.arange(len(lengths)), blocks)
    return np.array([sums[piece].sum(0) / lengths[piece].sum() for piece in pieces])


def _of_blocks(means: np.ndarray) -> np.ndarray:
    """Standard errors (k,) from the means (b, k) of blocks; NaN if a mean is infinite."""
    b = len(means)
    with np.errstate(invalid="ignore", divide="ignore"):
        rest = means - means.mean(0)
        squares = (rest * rest).sum(0)
        r = np.where(squares > 0, (rest[1:] * rest[:-1]).sum(0) / squares, 0)
        r = np.clip(r + (1 + 3 * r) / b, 0, 1 - 2 / b)
        s = (1 + r) / (1 - r)
        student = stdtrit(np.maximum(b / s - 1, LEAST_FREEDOM), QUANTILE) / 2
        return np.sqrt(squares / (b - 1) * s / b) * student


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
