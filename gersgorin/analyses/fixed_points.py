"""Fixed points of one step F under constant input: the states s with F(s) = s, and the spectra and
modes there.

Zeros of F(s) - s are searched from many starting states at once, and so are minima of its norm, the
slow points (`gersgorin.linalg.zeros`). The norm is called the speed. The search stays in a box: far
from the states of a run gates saturate, and the speed falls below every tolerance although the
state still moves.

Legend: B starts (starting states); N entries of a state; P points; m inputs; F^k a
`gersgorin.run.iterated_map.IteratedMap`, k = 1 for fixed points. Fixed points come before slow
points; in each group, the points to which most starts led come first.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from gersgorin.analyses.search_input import search_input
from gersgorin.figures import crowd
from gersgorin.linalg.spectrum import eigenvalues, one_thread
from gersgorin.linalg.zeros import (
    APART,
    Ends,
    ZeroSearch,
    distinct,
    jacobians_at,
    jumps_at,
    kinks_at,
)
from gersgorin.network.open import DataLike, NetworkLike, open_run
from gersgorin.run.iterated_map import SETTLED, IteratedMap
from gersgorin.run.run import Progress, Run, silent
from gersgorin.run.slopes import gradient_note
from gersgorin.run.state import State
from gersgorin.validate import as_numbers
from rhn.errors import InvalidInputError, NotFiniteError
from rhn.plotting.figure import WIDE, Block, complex_plane
from rhn.utils.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, RED
from rhn.utils.old import Count, Finite, Result, counted, keywords_of, sentence, table_rows
from rhn.utils.validation import in_short, number, whole_number, with_article

STARTS = 50
# of the largest distance of an eigenvalue from 1: from the unit circle to a neutral one, at most
NEUTRAL = 1e-6
LEAST = 1e-7  # or this far
CURVE = 3  # neutral points that may be of one curve
LONGEST_PERIOD = 256  # of which a search takes minutes
TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-5}
LEVEL = 1e-6  # a size of a figure that shows only rounding
SINGLE = 0.1  # half the width of a figure of one eigenvalue
STROKE = 0.08  # half the length of a mode in the figure, of the starts' range
FLAT = 0.5  # least share of the starts' variance in a plane, in which a run is no tangle
LISTED = 8  # points in the figure of spectra
KINDS = {
    "stable": (GREEN, "o"),
    "neutral": (BLUE, "s"),
    "saddle": (ORANGE, "D"),
    "unstable": (RED, "^"),
    "kink": (PURPLE, "P"),
}


@dataclass(frozen=True)
class Modes:
    """Modes of a small deviation d from a point. After t steps the deviation is right @
    (eigenvalues**t * (left @ d)).
    """

    eigenvalues: np.ndarray
    """Eigenvalues, complex, (N,), the largest modulus first."""
    right: np.ndarray
    """Directions of the modes, (N, N): columns of length 1."""

    @property
    def left(self) -> np.ndarray:
        """The matrix (N, N) that gives the shares of the modes in a deviation: the inverse of
        `right`. Raises numpy.linalg.LinAlgError if the modes do not span all states.
        """
        if not np.linalg.cond(self.right) < 1 / np.finfo(float).eps:
            raise np.linalg.LinAlgError("the modes do not span all states")
        return np.linalg.inv(self.right)

    def driven(self, weights: Tensor | np.ndarray) -> np.ndarray:
        """How far each of m inputs moves the state along each mode, (N, m): |left @ weights| for
        input weights (N, m). Raises InvalidInputError for another shape.
        """
        weights, N = as_numbers("weights", weights), len(self.right)
        if weights.dim() != 2 or len(weights) != N:
            raise InvalidInputError(
                f"weights are {tuple(weights.shape)}: expected ({N}, m), a row for each entry of "
                "the state"
            )
        return np.abs(self.left @ weights.numpy(force=True))

    def read(self, weights: Tensor | np.ndarray) -> np.ndarray:
        """How strongly each of k outputs reads each mode, (k, N): |weights @ right| for output
        weights (k, N), with 0 for entries that are not read. Raises InvalidInputError for another
        shape.
        """
        weights, N = as_numbers("weights", weights), len(self.right)
        if weights.dim() != 2 or weights.shape[1] != N:
            raise InvalidInputError(
                f"weights are {tuple(weights.shape)}: expected (k, {N}), a column for each entry "
                "of the state"
            )
        return np.abs(weights.numpy(force=True) @ self.right)


@dataclass(frozen=True, kw_only=True, repr=False)
class FixedPoints(Result, kind="fixed_points"):
    """Fixed and slow points of one step under constant input, and their spectra. The number P of
    points may be 0.

    >>> x, starts = torch.zeros(1).double(), torch.linspace(-1, 1, 5).double()[:, None]
    >>> found = fixed_points(lambda x, s: torch.tanh(2 * s + x), x, starts=starts)
    >>> sorted(abs(found.states[:, 0]).round(3).tolist()), sorted(found.kinds)
    ([0.0, 0.958, 0.958], ['stable', 'stable', 'unstable'])
    """

    states: np.ndarray
    """The fixed and slow points, (P, N)."""
    residuals: np.ndarray
    """Residual |F(s) - s|_2 at each point, (P,)."""
    is_slow: np.ndarray
    """True for slow points, (P,). These points are not fixed, but |F(s) - s| is at most 1e-7 of the
    longest edge of the box of the starts; or |F(s) - s| is a local minimum that is at most a
    hundredth of the median of |F(s) - s| at the starts.
    """
    eigenvalues: np.ndarray
    """Eigenvalues of dF/ds at each point, (P, N) complex, the largest modulus first."""
    found_from: np.ndarray
    """Number of starts from which the search led to each point, (P,); 0 if the search led to the
    point only from states in which runs from the starts settle.
    """
    starts: np.ndarray
    """The starts of the search, (B, N)."""
    least_residual: float
    """Least |F(s) - s|_2 at the ends of all searches."""
    tolerance: float
    """Largest residual of a fixed point."""
    margin: float = 0.5
    """Distance between the box of the search and the box of the starts and settled states, as a
    share of the longest edge of the box of the starts.
    """
    input: np.ndarray | None = None
    """The constant input (m,)."""
    trajectory: np.ndarray | None = None
    """States (T + 1, N) of the run of this cell; None: there is no run."""
    drawn: bool = False
    """True if the starts are random states around the first state of the run, because its state
    does not move or its input is constant.
    """
    of_run: bool = False
    """True if the starts are states of the run, or lie between two of these."""
    settled: int = 0
    """Number of distinct states in which the starts settle. The search also begins at these
    states.
    """
    settled_after: int = SETTLED
    """Number of time steps from the starts to the settled states, from 200 to 10,000."""
    at_edge: int = 0
    """Number of starts whose search failed at the edge of the box. A point may then lie outside the
    box.
    """
    kinks: np.ndarray
    """True for points at which the Jacobian jumps, as that of a ReLU does at 0, (P,). The
    eigenvalues may then hold on one side of the kink or on none, so a small change of the state may
    grow or shrink.
    """
    run_into: int = 0
    """Number of starts whose search failed, but from which 1,000 time steps of the cell lead to a
    point.
    """
    period: int = 1
    """The period k; above 1 for points of cycles. F and the eigenvalues belong to the map of k
    steps.
    """
    cycle: np.ndarray | None = None
    """The number of the cycle of each point, (P,); None for fixed points."""
    shorter: int = 0
    """Number of starts from which the search led to a point whose period is a divisor of k."""
    jacobians: np.ndarray | None = field(default=None, metadata={"saved": False})
    """dF/ds at each point, (P, N, N). Files do not contain it."""

    def modes(self, point: int = 0) -> Modes:
        """The modes of one point. point: number of the point, counted from 0. Raises
        InvalidInputError if there is no such point, or if the points were loaded from a file.
        """
        if self.jacobians is None:
            raise InvalidInputError(
                "points from a file have no Jacobians: search for them again with "
                "gersgorin.fixed_points"
            )
        if not (P := len(self.states)):
            raise InvalidInputError("the search found no point, so there are no modes")
        has = f"there {'is' if P == 1 else 'are'} {counted(P, 'point')}"
        point = whole_number("point", point, 0, P - 1, has)
        values, right = np.linalg.eig(self.jacobians[point])
        order = np.argsort(-np.abs(values), kind="stable")
        return Modes(values[order], right[:, order])

    @property
    def box(self) -> str:
        """The box of the search in words."""
        later = f" and of the states {self.settled_after:,} steps later" if self.settled else ""
        side = max(1.0, float(np.ptp(self.starts, axis=0).max()))
        of = f" ({self.margin:g} of the starts' longest edge)" if side > 1 else ""
        return f"the box of the starts{later}, wider all around by {self.margin * side:.3g}{of}"

    @property
    def ended_at_edge(self) -> str:
        """A phrase about the number of searches that failed at the edge of the box."""
        searches = counted(len(self.starts), "search", "searches")
        return f"{self.at_edge} of {searches} ended at the edge of the region"

    @property
    def lost(self) -> int:
        """Number of starts from which the search failed."""
        return len(self.starts) - int(self.found_from.sum()) - self.shorter

    @property
    def unstable(self) -> np.ndarray:
        """Number of eigenvalues outside the unit circle, for each point, (P,)."""
        return (self._beyond > 0).sum(-1)

    @property
    def neutral(self) -> np.ndarray:
        """Number of eigenvalues on the unit circle, for each point, (P,). For such an eigenvalue,
        the linear part of the step does not decide whether a deviation grows.

        An eigenvalue counts as on the circle if its distance from the circle is at most 1e-7 (2e-6
        in single precision), or at most 1e-6 times the largest distance of any eigenvalue from 1.
        """
        return (self._beyond == 0).sum(-1)

    @property
    def _beyond(self) -> np.ndarray:
        """The distances |eigenvalue| - 1, (P, N); 0 for neutral eigenvalues."""
        beyond = np.abs(self.eigenvalues) - 1
        return np.where(np.abs(beyond) <= self._limit, 0, beyond)

    @property
    def _limit(self) -> np.ndarray:
        """Largest distance of a neutral eigenvalue from the unit circle, (P, 1)."""
        least = max(LEAST, 16 * np.finfo(self.eigenvalues.dtype).eps)
        return np.maximum(
            least, NEUTRAL * np.abs(self.eigenvalues - 1).max(-1, initial=0, keepdims=True)
        )

    @property
    def time_constants(self) -> np.ndarray:
        """Time constants -k / log |eigenvalue|, (P, N): the number of time steps in which a
        deviation falls to 1/e. The constant is negative if the deviation grows, and inf for a
        neutral eigenvalue.
        """
        with np.errstate(divide="ignore"):
            times = -self.period / np.log(np.abs(self.eigenvalues))
        return np.where(self._beyond == 0, np.inf, times)

    @property
    def kinds(self) -> list[str]:
        """The kind of each point: "stable", "saddle", "unstable" (in all directions), "neutral"
        (undecided) or "kink" (undecided, see `kinks`). The kind of a slow point begins with "slow,
        ".
        """
        return [
            f"slow, {kind}" if slow else kind
            for kind, slow in zip(self._stability(), self.is_slow.tolist(), strict=True)
        ]

    def _stability(self) -> list[str]:
        """The key in `KINDS` of each point."""
        tests = [
            self.kinks,
            self.unstable == self.eigenvalues.shape[-1],
            self.unstable > 0,
            self.neutral > 0,
        ]
        return np.select(tests, ["kink", "unstable", "saddle", "neutral"], "stable").tolist()

    def notes(self) -> list[str]:
        """Sentences about the searches that failed, the starts, the box, doubts about the points,
        and, without a point, the least speed.
        """
        sentences = [
            sentence(self._failed(), self._run_into(), self._shorter()),
            sentence(self._drawn(), self._distinct()),
            sentence(self._region(), self._edge()),
            sentence(self._neutral(), self._curve()),
            sentence(self._kinks()),
            sentence(self._nothing()),
        ]
        return [*filter(None, sentences)]

    def _failed(self) -> str:
        """A clause of the notes; "" if there is nothing to state. The next functions return the
        same.
        """
        failed, starts = self.lost - self.run_into, counted(len(self.starts), "start")
        return f"the search failed from {failed} of {starts}" if failed > 0 else ""

    def _run_into(self) -> str:
        starts = f"{self.run_into} of {counted(len(self.starts), 'start')}"
        into = f"from {starts} repeated steps reach a point, although the search stopped before"
        return into if self.run_into else ""

    def _shorter(self) -> str:
        starts = counted(self.shorter, "start")
        led = f"from {starts} the search led to a point of a shorter period"
        return led if self.shorter else ""

    def _drawn(self) -> str:
        return "the starts are random, around the first state" if self.drawn else ""

    def _distinct(self) -> str:
        different, count = len(np.unique(self.starts, axis=0)), len(self.starts)
        are = "is" if different == 1 else "are"
        states = 0 if self.trajectory is None or not self.of_run else len(self.trajectory)
        what, where = "starts", ""
        if count > states > 0:
            what = f"{count} starts"
            where = f"; these are the {states} states of the run, and points between two of them"
        elif states:
            what = f"{count} states of the run from which the search starts"
        return f"only {different} of the {what} {are} distinct{where}" if different < count else ""

    def _region(self) -> str:
        """A clause about the box, with advice to change it if the search found no point."""
        advice = f": give other starts or a larger margin ({self.margin:g})"
        return f"the search kept to {self.box}{'' if len(self.states) else advice}"

    def _edge(self) -> str:
        lost = self.at_edge and self.lost > self.run_into and len(self.states)
        return f"{self.ended_at_edge}: a point may lie outside" if lost else ""

    def _neutral(self) -> str:
        """A clause about the distance of neutral eigenvalues from the unit circle."""
        if not (neutral := self._limit[(self.neutral > 0) & ~self.kinks].tolist()):
            return ""
        limit = max(neutral)[0]
        return (
            f"a neutral eigenvalue lies up to {limit:.2g} from the unit circle: its mode takes "
            f"{self.period / limit:.2g} steps or more to change by a factor of e"
        )

    def _curve(self) -> str:
        at_one = np.abs(self.eigenvalues - 1).min(-1, initial=np.inf) <= self._limit[:, 0]
        number = int((at_one & (np.array(self._stability()) == "neutral")).sum())
        curve = f"with an eigenvalue 1, {number} points may lie on one curve of fixed points"
        return curve if number >= CURVE else ""

    def _kinks(self) -> str:
        points = counted(number := self.kinds.count("kink"), "point")
        kinks = (
            f"at {points} the step has a kink or a jump: the eigenvalues there may hold on one "
            "side or on none, and a small change of the state may grow or shrink"
        )
        return kinks if number else ""

    def _nothing(self) -> str:
        """A clause about the least speed that a search reached, if there is no point."""
        if len(self.states) or self.period > 1:
            return ""
        limits = (
            f"at a fixed point it is {self.tolerance:.3g} at most, at a slow one a "
            "minimum of at most a hundredth of its median"
        )
        return (
            "the least |F(s) - s| reached from any start is "
            f"{self.least_residual:.3g}: {limits} at the starts"
        )

    def _axes(self) -> dict[str, tuple[str, ...]]:
        return {
            "states": ("point", "entry"),
            "residuals": ("point",),
            "is_slow": ("point",),
            "eigenvalues": ("point", "eigenvalue"),
            "found_from": ("point",),
            "kinks": ("point",),
            "cycle": ("point",),
            "jacobians": ("point", "entry", "entry_before"),
            "starts": ("start", "entry"),
            "input": ("number",),
            "trajectory": ("time", "entry"),
        }

    def table(self) -> list[dict]:
        """One row per point. Counts of modes, and times of growth and decay, are NaN at a kink."""
        growth = np.where(self.unstable > 0, -self.time_constants[:, 0], np.inf)
        cycles = {} if self.cycle is None else {"cycle": self.cycle}
        return table_rows(
            kind=self.kinds,
            **cycles,
            slow=self.is_slow,
            residual=self.residuals,
            found_from=self.found_from,
            unstable=self._but_at_kinks(self.unstable),
            neutral=self._but_at_kinks(self.neutral),
            spectral_radius=np.abs(self.eigenvalues[:, 0]),
            growth_time=self._but_at_kinks(growth),
            decay_time=self._but_at_kinks(self._slowest),
        )

    def _but_at_kinks(self, values: np.ndarray) -> list:
        """One number per point, NaN at a kink."""
        rows = zip(values.tolist(), self.kinks, strict=True)
        return [math.nan if kink else value for value, kink in rows]

    @property
    def _slowest(self) -> np.ndarray:
        """Time constant of the slowest mode of each point that does not grow, (P,); NaN if all
        modes grow.
        """
        kept = np.pad(self.time_constants, ((0, 0), (0, 1)), constant_values=np.nan)
        return kept[np.arange(len(kept)), self.unstable]

    def brief(self) -> dict[str, float]:
        """The largest spectral radius, and the number of points of each kind."""
        counts = {kind: float(self.kinds.count(kind)) for kind in dict.fromkeys(self.kinds)}
        return {
            "largest spectral radius": np.abs(self.eigenvalues[:, :1]).max(initial=0.0)
        } | counts

    def _to_dict(self) -> dict:
        """Numbers for JSON: the table, and for each point its state and its eigenvalues as [real,
        imaginary].
        """
        spectra = np.stack((self.eigenvalues.real, self.eigenvalues.imag), -1)
        arrays = zip(self.table(), self.states.tolist(), spectra.tolist(), strict=True)
        return {
            "title": self.title,
            "doubt": self.doubt,
            "starts": len(self.starts),
            "lost": self.lost,
            "at_edge": self.at_edge,
            "least_residual": self.least_residual,
            "tolerance": self.tolerance,
            "margin": self.margin,
            "period": self.period,
            "shorter": self.shorter,
            "input": None if self.input is None else self.input.tolist(),
            "points": [
                row | {"state": state, "eigenvalues": values} for row, state, values in arrays
            ],
        }

    def _draw(self, ax: Axes, **_: Any) -> None:
        """Draw the points, projected onto the two directions in which the starts vary most. If
        these two directions have at least half of the variance, the starts and the run are drawn
        too.

        Slow points are hollow. The label of an axis contains its share of the variance of the
        starts. Strokes and ellipses show the modes of the first eight points.
        """
        axes, share = principal_axes(self.starts)
        middle, kinds = self.starts.mean(0), np.array(self._stability())
        flat = share.sum() >= FLAT
        if flat and self.trajectory is not None:
            ax.plot(
                *((self.trajectory - middle) @ axes.T).T,
                color="0.9",
                linewidth=0.6,
                zorder=1,
                label="the run",
            )
        if flat:
            starts = ((self.starts - middle) @ axes.T).T
            ax.plot(*starts, ".", color=GREY, markersize=3, alpha=0.6, label="starts of the search")
        self._draw_modes(ax, axes, middle)
        for kind, slow in product(KINDS, (False, True)):
            states = self.states[(kinds == kind) & (self.is_slow == slow)]
            if len(states):
                label = f"slow, {kind} point" if slow else f"{kind} point"
                ax.plot(
                    *((states - middle) @ axes.T).T,
                    label=label,
                    markersize=4.5,
                    zorder=4,
                    **_dot(kind, slow),
                )
        x, y = (f"principal axis {k} ({part:.0%})" for k, part in enumerate(share, 1))
        ax.set(
            xlabel=x,
            ylabel=y,
            title="States, along the principal axes of the starts",
        )
        ax.margins(0.08)
        (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
        if high - low < LEVEL * (right - left):  # only rounding is seen
            ax.set_ylim((low + high - right + left) / 2, (low + high + right - left) / 2)

    def _draw_modes(self, ax: Axes, axes: np.ndarray, middle: np.ndarray) -> None:
        """Draw the growing modes of the first eight points, and the slowest of the other modes: as
        a stroke, or as an ellipse for a complex pair. Points at a kink have no modes.

        The ellipse is the real part of the eigenvector in all phases; a deviation turns along it.
        """
        half, shown = STROKE * np.ptp((self.starts - middle) @ axes.T, axis=0).max(), set()
        known = np.isfinite(np.array(self.jacobians, float)).all()  # which None is not
        for k in np.flatnonzero(~self.kinks[:LISTED]).tolist() if known else ():
            modes = self.modes(k)
            for j in range(min(self.unstable[k] + 1, len(modes.eigenvalues))):
                kind, color = (
                    ("growing mode", RED)
                    if j < self.unstable[k]
                    else ("slowest decaying mode", GREEN)
                )
                if self._beyond[k, j] == 0:
                    kind, color = "neutral mode", BLUE
                phases = np.pi * (
                    np.linspace(0, 2, 60) if modes.eigenvalues[j].imag else np.arange(2)
                )
                curve = (
                    self.states[k] + half * np.outer(np.exp(1j * phases), modes.right[:, j]).real
                )
                label = None if kind in shown else kind
                ax.plot(
                    *((curve - middle) @ axes.T).T,
                    color=color,
                    linewidth=1.4,
                    alpha=0.7,
                    zorder=3,
                    label=label,
                )
                shown.add(kind)

    def _draw_spectra(self, ax: Axes) -> None:
        """Draw the eigenvalues at the first eight points, coloured by the kind of point, and the
        unit circle.
        """
        shown, kinds = self.eigenvalues[:LISTED], self.kinds
        if not len(shown):
            ax.text(
                *(0.5, 0.5, "no point was found"),
                ha="center",
                va="center",
                transform=ax.transAxes,
                color=GREY,
            )
        middle, half = crowd(shown)
        limit = max(half, 1.05 * abs(1 - middle))
        complex_plane(ax, limit if limit > LEVEL else SINGLE, middle)
        for k, (values, kind, slow) in enumerate(
            zip(shown, self._stability(), self.is_slow, strict=False)
        ):
            label = None if kinds[k] in kinds[:k] else f"{kinds[k]} point"
            ax.plot(
                values.real, values.imag, label=label, markersize=3.5, alpha=0.7, **_dot(kind, slow)
            )
        few = f", first {LISTED} of {len(self.states)}" if len(self.states) > LISTED else ""
        ax.set_title(f"Eigenvalues at the points{few}")

    @property
    def finding(self) -> str:
        """A clause about the number of points and their kinds, or about the number of cycles."""
        if not len(self.states):
            what = "fixed point" if self.cycle is None else f"cycle of period {self.period}"
            return f"The search found no {what}" + (
                f": {self.ended_at_edge}" if self.at_edge else ""
            )
        if self.cycle is not None:
            cycles = counted(len(np.unique(self.cycle)), "cycle")
            points = counted(len(self.states), "point")
            return f"The search found {cycles} of period {self.period}, of {points}"
        numbers = {kind: self.kinds.count(kind) for kind in self.kinds}
        *others, last = [_in_words(*each) for each in numbers.items()]
        return f"The search found {' and '.join(filter(None, (', '.join(others), last)))}"

    width, height = 8.0, 4.0

    def _blocks(self, panel: Callable[[Axes], object]) -> list[Block]:
        """Panels of the points and of their spectra."""
        return [Block([panel, self._draw_spectra], self.height, 2, least=WIDE, legend=True)]


@keywords_of(open_run)
@torch.no_grad()
@one_thread()
def fixed_points(
    network: NetworkLike,
    x: DataLike = None,
    *,
    starts: State | np.ndarray | int = STARTS,
    hold: float | None = None,
    tolerance: float | None = None,
    margin: float = 0.5,
    period: int = 1,
    seed: int = 0,
    progress: Progress = silent,
    **options,
) -> FixedPoints:
    """Search from many starting states for the fixed points F(s) = s of one step under a constant
    input, and compute the spectra at these points.

    The search stays in a box around the starts and around the states at which the network settles
    from these starts (see `margin`). Points outside the box are not found, and the search may miss
    points inside it. A minimum of |F(s) - s| is a slow point if it is at most a hundredth of the
    median of |F(s) - s| at the starts. If no point is found, the result has no points, and its
    sentences describe the search.

    Args:
        network: any network that `gersgorin.open_run` takes. If the starts are tensors and x is
            constant, the network can also be a cell or step f(x, s), which then runs in the dtype
            of the starts. A function gets x (m,), and a state with the shapes of s0, of state_size
            or of one start. A module gets batches of one.
        x: the constant input (m,). x can also be a sequence as for `open_run`; the constant input
            is then its mean. None: zero for a function.
        starts: the states to search from: B vectors (B, N), or (B, ...) in the shape of the state,
            or a tuple of such tensors for a state of several tensors. A number selects that many
            states of the run, evenly spread (Sussillo and Barak 2013). If the run has fewer states,
            random points between two of its states are added. If the state never moves, or if the
            input is constant, the starts are random states around the first state. The search also
            begins at the states that the starts reach in 200 time steps, or in up to 10,000 time
            steps if a state still drifts.
        hold: value of every entry of the constant input; None: the mean of the sequence.
        tolerance: largest |F(s) - s|_2 of a fixed point; None: 1e-10 in float64 and 1e-5 in
            float32.
        margin: distance, on each side, between the box of the search and the bounding box of the
            starts and settled states. The unit is the longest edge of the bounding box of the
            starts, or 1 if this edge is shorter.
        period: number k of steps. If k is above 1, the search is for the points of cycles of k
            steps, F is the map of k steps, and the eigenvalues are the multipliers of the cycle.
            Slow points are then left out, and so are points whose period is a smaller divisor of k.
        seed: seed of the random starts.
        progress: called with (starts done, starts in all).
        options: further arguments of `open_run`.

    Raises:
        InvalidInputError: shapes do not fit; the state of the step is not one tensor; a number is
            NaN or infinite; or a module has a loop of its own around its cell.

    >>> starts = torch.tensor([[-3.0], [0.1], [2.0]]).double()
    >>> points = fixed_points(lambda x, s: torch.tanh(2 * s), starts=starts)
    >>> points.states.round(4).ravel().tolist(), points.kinds
    ([-0.9575, 0.0, 0.9575], ['stable', 'unstable', 'stable'])
    """
    given = search_input(network, x, starts, hold, seed, options)
    cell, inputs, starts = given.cell, given.x, given.starts
    if starts.dtype not in TOLERANCES or starts.dim() != 2 or not starts.numel():
        got = f"{starts.dtype} of shape {tuple(starts.shape)}"
        raise InvalidInputError(
            "starts: expected a tensor (B, N) of float64 or float32 with at least one entry, "
            f"got {got}"
        )
    tolerance = TOLERANCES[starts.dtype] if tolerance is None else tolerance
    tolerance, margin = number("tolerance", tolerance, above=0), number("margin", margin, above=0)
    cell.probe(inputs, starts[0])
    why = "for each state that the search tries, the step runs that many times"
    F = IteratedMap(cell, inputs, whole_number("period", period, 1, LONGEST_PERIOD, why=why))
    settled, steps = F.settled(starts)
    doubt, ends = given.fields.get("doubt", ""), starts[[0, -1]]
    return FixedPoints(
        **_points_of(F, starts, settled, tolerance, margin, progress),
        starts=starts.cpu().numpy(),
        settled=len(settled),
        settled_after=steps,
        tolerance=float(tolerance),
        margin=float(margin),
        **given.fields | {"doubt": doubt or gradient_note(cell, inputs.expand(2, -1), ends)},
    )


def _points_of(
    F: IteratedMap,
    starts: Tensor,
    settled: Tensor,
    tolerance: float,
    margin: float,
    progress: Progress,
) -> dict[str, Any]:
    """Search from the starts and from the states in which they settle. Returns the fields of
    `FixedPoints` about the points; fixed points come before slow points.
    """
    search = ZeroSearch.around(F, F.jacobian, starts, settled, margin, tolerance)
    speed_at_starts = search.r.speed(starts)
    if not torch.isfinite(speed_at_starts).all():
        raise InvalidInputError(
            "the step gives NaN or infinity at a start: expected finite inputs, starts and weights"
        )
    ends = _ends(F, search, torch.cat((starts, settled)), progress)
    speeds, apart = search.r.speed(ends.states), APART * search.width
    closed = speeds <= tolerance
    fixed = closed & ~F.closes_early(ends.states, apart)
    slow = search.are_slow(ends, speeds, speed_at_starts.median()) & ~closed & (F.period == 1)
    some, from_some = distinct(ends.states, speeds, fixed, apart, len(starts))
    others, from_others = distinct(ends.states, speeds, slow, apart, len(starts))
    rows = torch.cat((some, others))
    points, failed = ends.states[rows], ~(closed | slow)[: len(starts)]
    jacobians = jacobians_at(F.jacobian, points)
    if not torch.isfinite(jacobians).all():
        place = points[~torch.isfinite(jacobians).flatten(1).all(1)][0]
        raise NotFiniteError(
            "the derivative of the step is NaN or infinite at the point "
            f"{in_short(place.tolist())} that the search found, such as that of sqrt at 0: change "
            "the step there, or give other starts"
        )
    arrays = {
        "states": points,
        "residuals": speeds[rows],
        "found_from": torch.cat((from_some, from_others)),
        "jacobians": jacobians,
        "eigenvalues": eigenvalues(jacobians),
        "kinks": kinks_at(F.jacobian, points, jacobians, search.width)
        | jumps_at(F, points, search.width),
    }
    if F.period > 1:
        arrays["cycle"] = F.cycle_of(points, apart)
    return {name: array.cpu().numpy() for name, array in arrays.items()} | {
        "is_slow": np.arange(len(rows)) >= len(some),
        "least_residual": float(speeds.min()),
        "run_into": F.runs_into(starts[failed], points, apart),
        "period": F.period,
        "shorter": int((closed & ~fixed)[: len(starts)].sum()),
        "at_edge": int((failed & search.at_edge(ends.states)[: len(starts)]).sum()),
    }


def _ends(F: IteratedMap, search: ZeroSearch, s: Tensor, progress: Progress) -> Ends:
    """The ends of the search from some states, to full precision, and the other points on their
    orbits.
    """
    ends = search.find(s, search.unit, progress)
    numbers, first = search.meeting(ends)
    met = search.polish(ends[first])
    closed = met.states[search.r.speed(met.states) <= search.tolerance]
    orbits = F.orbit(closed)[1:].flatten(0, 1)
    return met[numbers].with_zeros(search.to_zeros(orbits))


def of_run(
    run: Run,
    *,
    starts: int = STARTS,
    hold: Finite | None = None,
    margin: float = 0.5,
    period: Count = 1,
    seed: int = 0,
    progress: Progress = silent,
) -> FixedPoints:
    """Search for the fixed points, or the cycles, of a run's cell under a constant input. There may
    be none.

    Args:
        starts: number of states of the run to search from, evenly spread.
        hold: value of every entry of the input; None: the mean of the run's inputs.
        margin: share by which the box of the search is wider than that of the starts, see
            `fixed_points`.
        period: k above 1 for cycles of k steps.
        seed: seed of the initial weights, and of the random starts that are added if there are more
            starts than time steps.
    """
    return fixed_points(
        run,
        starts=starts,
        hold=hold,
        margin=margin,
        period=period,
        seed=seed,
        progress=progress,
    )


def _in_words(kind: str, number: int) -> str:
    """A number of points of one kind in words.

    >>> _in_words("stable", 1), _in_words("saddle", 4), _in_words("slow, neutral", 1)
    ('a stable fixed point', '4 saddles', 'a slow, neutral point')
    """
    noun = {"saddle": "saddle", "slow, saddle": "slow saddle"}.get(kind)
    words = noun or f"{kind.replace('kink', 'kinked')} {'' if 'slow' in kind else 'fixed '}point"
    return with_article(words) if number == 1 else counted(number, words)


def _dot(kind: str, slow: bool) -> dict:
    """Colour and marker of a kind of points; hollow for slow points."""
    color, marker = KINDS[kind]
    return {
        "color": color,
        "marker": marker,
        "markerfacecolor": "none" if slow else color,
        "linestyle": "",
    }


def principal_axes(states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the two directions (2, N) along which states (B, N) vary most, and the share of the
    variance along each, (2,).

    The sign of a direction is chosen so that the sum of its larger entries is positive. Figures of
    two runs then have the same orientation.

    >>> principal_axes(np.array([[0.0, 2.0], [0.0, -2.0], [1.0, 0.0], [-1.0, 0.0]]))
    (array([[0., 1.],
           [1., 0.]]), array([0.8, 0.2]))
    """
    _, sizes, axes = np.linalg.svd(states - states.mean(0), full_matrices=False)
    axes = np.vstack((axes, np.zeros((2, states.shape[1]))))[:2]
    power = np.append(sizes**2, [0.0, 0.0])
    largest = axes[np.arange(2), np.abs(axes).argmax(1)]
    axes = axes * np.where(largest < 0, -1.0, 1.0)[:, None]
    return axes + 0.0, power[:2] / (power.sum() or 1.0)
