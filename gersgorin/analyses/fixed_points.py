"""Fixed points of one step under constant input: the states that stay where they are, and the
spectra and modes there.

Zeros of F(s) - s, and minima of its norm, the slow points, are searched from many starts at once
(`gersgorin.linalg.zeros`). The search stays in a box: far outside the states of a run gates
saturate, and the speed falls below every tolerance although nothing stands still there.

Legend: B starts; N entries of a state; P points, fixed before slow ones, those from most starts
first; m inputs.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import product
from numbers import Integral
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves

from gersgorin.analyses.cycles import Iterated
from gersgorin.data.files import is_array
from gersgorin.data.inputs import reads_ids
from gersgorin.figures import crowd
from gersgorin.linalg.spectrum import eigenvalues, one_thread
from gersgorin.linalg.zeros import (
    NEAR,
    Residual,
    blocks,
    finished,
    kinks_at,
    least_of_each,
    meeting,
    norm,
    search,
    slower_beside,
)
from gersgorin.network.find import TORCH_CLASSES, as_step, check_state, is_stepwise
from gersgorin.network.open import REMOVED, DataLike, NetworkLike, open_run
from gersgorin.run.cell import (
    Sizes,
    State,
    Step,
    StepCell,
    as_cell,
    as_taken,
    cell_name,
    checked_sizes,
    first_state,
    flat_state,
    real_view,
    zero_state,
)
from gersgorin.run.run import Progress, Run, silent
from gersgorin.run.slopes import gradient_note
from gersgorin.validate import (
    check_order,
    copy_of_module,
    real_tensor,
    state_tensor,
    uncompiled,
)
from rhn.errors import InvalidInputError
from rhn.plotting.figure import WIDE, Block, complex_plane
from rhn.utils.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, RED
from rhn.utils.keywords import keywords_of
from rhn.utils.ranges import Count, Finite
from rhn.utils.result import Result, table_rows
from rhn.utils.validation import check_room, check_seed, number, whole_number
from rhn.utils.wording import counted, in_short, with_article

STARTS = 50
SEARCHED = 8  # arrays (B, N) that a search holds
# of the largest distance of an eigenvalue from 1: from the unit circle to a neutral one, at most
NEUTRAL = 1e-6
LEAST = 1e-7  # or this far
CURVE = 3  # neutral points that may be of one curve
SLOW = 0.01  # of the median speed at the starts, a minimum of the speed
# of the largest side of the starts' box, a step: on a line of slow points no end is a minimum
STILL = 1e-7
# of the largest side of the starts' box, the least that sets the unit of an entry in the search
NARROW = 1e-3
# steps, at least and at most, after which a search begins from each start once more, and steps in
# memory
SETTLED, LONGEST, AT_ONCE = 200, 10_000, 20
RUN_ON = 1000  # steps that a start whose search failed runs along the map
LONGEST_PERIOD = 256  # of which a search takes minutes
FAR = 100.0  # times as far as the starts lie: not where a network settles
TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-5}
# distance in an entry from which two points are two, of the largest side of the starts' box
APART = 1e-4
MET = 1e-6  # the same, of states that go on as one
LEVEL = 1e-6  # of the width of a figure: a height that shows rounding
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
    """Modes of a small deviation d from a point: after t steps it is right @ (eigenvalues**t *
    (left @ d)).
    """

    eigenvalues: np.ndarray
    """(N,) complex, the largest modulus first."""
    right: np.ndarray
    """(N, N), the directions of the modes, in columns of length 1."""

    @property
    def left(self) -> np.ndarray:
        """(N, N), in rows: the shares of the modes in a deviation. Raises numpy.linalg.LinAlgError
        if they do not span all states.
        """
        if not np.linalg.cond(self.right) < 1 / np.finfo(float).eps:
            raise np.linalg.LinAlgError("the modes do not span all states")
        return np.linalg.inv(self.right)

    def driven(self, weights: Tensor | np.ndarray) -> np.ndarray:
        """Distance that each of m inputs moves the state along each mode, (N, m), for input weights
        (N, m): |left @ weights|.
        """
        return np.abs(self.left @ torch.as_tensor(weights).numpy(force=True))

    def read(self, weights: Tensor | np.ndarray) -> np.ndarray:
        """Strength with which each of k outputs reads each mode, (k, N), for output weights (k, N):
        |weights @ right|.
        """
        if torch.as_tensor(weights).shape[-1:] != (N := len(self.right),):
            raise InvalidInputError(
                f"weights are {tuple(weights.shape)}: expected (k, {N}), 0 for entries that "
                "are not read"
            )
        return np.abs(torch.as_tensor(weights).numpy(force=True) @ self.right)


@dataclass(frozen=True, kw_only=True, repr=False)
class FixedPoints(Result, kind="fixed_points"):
    """Fixed and slow points of one step under constant input, and their spectra; P may be 0.

    >>> x, starts = torch.zeros(1).double(), torch.linspace(-1, 1, 5).double()[:, None]
    >>> found = fixed_points(lambda x, s: torch.tanh(2 * s + x), x, starts=starts)
    >>> sorted(abs(found.states[:, 0]).round(3).tolist()), sorted(found.kinds)
    ([0.0, 0.958, 0.958], ['stable', 'stable', 'unstable'])
    """

    states: np.ndarray
    """(P, N)"""
    residuals: np.ndarray
    """|F(s) - s|_2, (P,)."""
    is_slow: np.ndarray
    """(P,) bool: not fixed, but |F(s) - s| is below 1e-7 of the box, or a minimum up to a hundredth
    of its median at the starts.
    """
    eigenvalues: np.ndarray
    """Of dF/ds at each point, (P, N) complex, the largest modulus first."""
    found_from: np.ndarray
    """Number of starts that led to each point, (P,); 0: only one of the states in which they
    settle did.
    """
    starts: np.ndarray
    """(B, N)"""
    least_residual: float
    """The least |F(s) - s|_2 of all ends of the search."""
    tolerance: float
    """Largest residual of a fixed point."""
    margin: float = 0.5
    """Distance of the search's box from that of the starts and settled states, as a share of the
    largest side of the starts' box.
    """
    input: np.ndarray | None = None
    """The constant input (m,)."""
    trajectory: np.ndarray | None = None
    """States (T + 1, N) of the run whose cell it is."""
    drawn: bool = False
    """True if the starts are random, around the first state of a run that does not move, or whose
    input is constant.
    """
    settled: int = 0
    """Number of distinct states in which the starts settle, from which the search began too."""
    settled_after: int = SETTLED
    """Number of steps from the starts to these: until they rest, from 200 to 10,000."""
    at_edge: int = 0
    """Number of starts whose search failed at the edge of the box: a point may lie outside."""
    kinks: np.ndarray | None = None
    """(P,) bool: the Jacobian jumps there, as that of a ReLU at 0, and its eigenvalues are those of
    one side.
    """
    run_into: int = 0
    """Number of starts whose search failed, and whose states run into a point in 1,000 steps."""
    period: int = 1
    """k, above 1 for points of cycles: F stands for k steps, of which the eigenvalues are."""
    cycle: np.ndarray | None = None
    """The number of the cycle of each point, (P,); None for fixed points."""
    shorter: int = 0
    """Number of starts that led to a point whose period is a divisor of k."""
    jacobians: np.ndarray | None = field(default=None, metadata={"saved": False})
    """dF/ds at each point, (P, N, N); not in files."""

    def modes(self, point: int = 0) -> Modes:
        """The modes of a point. Raises InvalidInputError for points from a file."""
        if self.jacobians is None:
            raise InvalidInputError(
                "points from a file have no Jacobians: search for them again with "
                "gersgorin.fixed_points"
            )
        values, right = np.linalg.eig(self.jacobians[point])
        order = np.argsort(-np.abs(values), kind="stable")
        return Modes(values[order], right[:, order])

    @property
    def box(self) -> str:
        """The box of the search in words."""
        later = f" and of the states {self.settled_after:,} steps later" if self.settled else ""
        wider = self.margin * max(1.0, float(np.ptp(self.starts, axis=0).max()))
        return f"the box of the starts{later}, wider all around by {wider:.3g}"

    @property
    def nothing(self) -> str:
        """A sentence about the least speed of a search that found no point."""
        limits = (
            f"at a fixed point it is {self.tolerance:.3g} at most, at a slow one a "
            "minimum of at most a hundredth of its median"
        )
        return (
            "The least |F(s) - s| that a start led to is "
            f"{self.least_residual:.3g}: {limits} at the starts"
        )

    @property
    def region(self) -> str:
        """A sentence about the box, and how to change it if the search found no point."""
        advice = f": give other starts or a larger margin ({self.margin:g})"
        return f"The search kept to {self.box}{'' if len(self.states) else advice}"

    @property
    def ended_at_edge(self) -> str:
        """Words about the searches that failed at the edge of the box."""
        searches = counted(len(self.starts), "search", "searches")
        return f"{self.at_edge} of {searches} ended at the edge of the region"

    @property
    def lost(self) -> int:
        """Number of starts from which the search failed."""
        return len(self.starts) - int(self.found_from.sum()) - self.shorter

    @property
    def unstable(self) -> np.ndarray:
        """Number of eigenvalues outside the unit circle, (P,)."""
        return (self._beyond > 0).sum(-1)

    @property
    def neutral(self) -> np.ndarray:
        """Number of eigenvalues on it, up to 1e-6 of the largest distance from 1, (P,): there the
        linear part does not decide.
        """
        return (self._beyond == 0).sum(-1)

    @property
    def _beyond(self) -> np.ndarray:
        """|eigenvalue| - 1, (P, N), 0 for neutral ones."""
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
        """-1 / log |eigenvalue|, steps in which a deviation falls to 1/e, (P, N); negative if it
        grows, inf if neutral.
        """
        with np.errstate(divide="ignore"):
            times = -self.period / np.log(np.abs(self.eigenvalues))
        return np.where(self._beyond == 0, np.inf, times)

    @property
    def kinds(self) -> list[str]:
        """A word for each point: "stable", "saddle", "unstable" (in all directions), "neutral"
        (undecided), "kink" (undecided, see `kinks`), with "slow, " before.
        """
        return [
            f"slow, {kind}" if slow else kind
            for kind, slow in zip(self._stability(), self.is_slow.tolist(), strict=True)
        ]

    def _stability(self) -> list[str]:
        """A key of `KINDS` for each point."""
        kinks = np.zeros(len(self.states), bool) if self.kinks is None else self.kinks
        tests = [
            kinks,
            self.unstable == self.eigenvalues.shape[-1],
            self.unstable > 0,
            self.neutral > 0,
        ]
        return np.select(tests, ["kink", "unstable", "saddle", "neutral"], "stable").tolist()

    def notes(self) -> list[str]:
        """The starts that led to no point, the box, and doubts."""
        notes = []
        if self.shorter:
            starts = counted(self.shorter, "start")
            notes.append(f"From {starts} the search led to a point of a shorter period.")
        notes += self._without_a_point()
        if (different := len(np.unique(self.starts, axis=0))) < len(self.starts):
            are = "is" if different == 1 else "are"
            notes.append(f"Of the starts only {different} {are} distinct.")
        if self.settled and (only := int((self.found_from == 0).sum())):
            found = counted(only, "point")
            later = f"{self.settled_after:,} steps later"
            notes.append(f"Only from states {later} the search found {found}.")
        if self.drawn:
            notes.append("The starts are random, around the first state.")
        notes.append(f"{self.region}.")
        at_one = np.abs(self.eigenvalues - 1).min(-1, initial=np.inf) <= self._limit[:, 0]
        if (number := int((at_one & (np.array(self._stability()) == "neutral")).sum())) >= CURVE:
            notes.append(
                f"With an eigenvalue 1, {number} points may lie on one curve of fixed points."
            )
        if number := self.kinds.count("kink"):
            notes.append(
                f"At {counted(number, 'point')} the eigenvalues are those of one side of a kink."
            )
        if self.period == 1 and not len(self.states):
            notes.append(f"{self.nothing}.")
        return notes

    def _without_a_point(self) -> list[str]:
        """Sentences about the starts whose search failed."""
        notes, starts = [], counted(len(self.starts), "start")
        if self.run_into:
            notes.append(
                f"From {self.run_into} of {starts} the state runs into a point by itself, although "
                "the search stopped before."
            )
        if self.lost > self.run_into:
            notes.append(f"The search failed from {self.lost - self.run_into} of {starts}.")
            if self.at_edge and len(self.states):
                notes.append(f"{self.ended_at_edge}: a point may lie outside.")
        return notes

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
        """One row a point."""
        cycles = {} if self.cycle is None else {"cycle": self.cycle}
        return table_rows(
            kind=self.kinds,
            **cycles,
            slow=self.is_slow,
            residual=self.residuals,
            found_from=self.found_from,
            unstable=self.unstable,
            neutral=self.neutral,
            spectral_radius=np.abs(self.eigenvalues[:, 0]),
            growth_time=np.where(self.unstable > 0, -self.time_constants[:, 0], np.inf),
            decay_time=self._slowest,
        )

    @property
    def _slowest(self) -> np.ndarray:
        """Time constants of the slowest modes that do not grow, (P,); NaN if all grow."""
        kept = np.pad(self.time_constants, ((0, 0), (0, 1)), constant_values=np.nan)
        return kept[np.arange(len(kept)), self.unstable]

    def brief(self) -> dict[str, float]:
        """The largest spectral radius, and the number of points of each kind."""
        counts = {kind: float(self.kinds.count(kind)) for kind in dict.fromkeys(self.kinds)}
        return {
            "largest spectral radius": np.abs(self.eigenvalues[:, :1]).max(initial=0.0)
        } | counts

    def _to_dict(self) -> dict:
        """JSON-ready; of each point also its state, and its eigenvalues as [real, imaginary]."""
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
        """Project points onto the two directions in which the starts vary most, with the starts,
        and the run as a line, if these directions have half of their variance.

        Slow points are hollow. The label of an axis has its share of the starts' variance. Strokes
        through, and ellipses around, the first eight points are their modes.
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
                    markersize=6,
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
        """Draw each growing mode of the first eight points, and the slowest other one: a stroke, of
        a complex pair an ellipse.

        The ellipse is the real part of the eigenvector in all phases, through which a deviation
        turns.
        """
        half, shown = STROKE * np.ptp((self.starts - middle) @ axes.T, axis=0).max(), set()
        known = np.isfinite(np.array(self.jacobians, float)).all()  # which None is not
        for k in range(len(self.states[:LISTED]) if known else 0):
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
                    linewidth=0.9,
                    alpha=0.7,
                    zorder=3,
                    label=label,
                )
                shown.add(kind)

    def _draw_spectra(self, ax: Axes) -> None:
        """The eigenvalues at the first eight points, coloured by the kind of point, with the unit
        circle.
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
        complex_plane(ax, max(half, 1.05 * abs(1 - middle)), middle)
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
        """The number of points and their kinds, or of cycles."""
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
        """The points, and their spectra."""
        return [Block([panel, self._draw_spectra], self.height, 2, least=WIDE, legend=True)]


@keywords_of(open_run, removed=REMOVED)
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
    at_least_one: bool = True,
    period: int = 1,
    seed: int = 0,
    progress: Progress = silent,
    **options,
) -> FixedPoints:
    """The fixed points F(s) = s of one step under a constant input, as far as a search from some
    starts finds them, and their spectra.

    Points outside the box of the starts and of the states in which they settle (see `margin`) are
    not found, nor necessarily all within it. Minima of |F(s) - s| above a hundredth of its median
    at the starts are not slow, and not in the result.

    Args:
        network: a cell or step f(x, s) with a constant x and starts, in the dtype of the starts; or
            any network of `gersgorin.open_run`. A function gets x (m,) and its state in the shapes
            of s0, of state_size, or of one start; a module gets batches of one.
        x: the constant input (m,); or a sequence as for `open_run`, whose mean is the input. None:
            zero for a function.
        starts: states to search from, B vectors (B, N), or (B, ...) in the shape of the state, or a
            tuple of such tensors for a state of several; or their number: that many states of the
            run (Sussillo and Barak 2013), evenly spread, and beyond its length random points
            between two of them. If the state never moves, or the input is constant: random states
            around the first one. The search also begins where the starts come in 200 steps, or up
            to 10,000 while a state still drifts.
        hold: every entry of the constant input, in place of the mean of a sequence.
        tolerance: largest |F(s) - s|_2 of a fixed point; None: 1e-10 in float64 and 1e-5 in
            float32.
        margin: that box is wider all around by this share of the largest side of the starts' own
            (at least of 1).
        at_least_one: whether to raise an error if there is none; otherwise the result may hold no
            point.
        period: k above 1 for points of cycles: F stands for k steps, and points of F whose period
            is a divisor of k are left out, as slow ones are. The eigenvalues are the multipliers of
            the cycle. The result may have no points.
        seed: of the random points.
        progress: called with (starts done, starts in all).
        options: further ones of `open_run`.

    Raises:
        InvalidInputError: no start led to a fixed or slow point; shapes that do not fit, a step
            whose state is not one tensor, NaN or infinity, a module's own loop.

    >>> starts = torch.tensor([[-3.0], [0.1], [2.0]]).double()
    >>> points = fixed_points(lambda x, s: torch.tanh(2 * s), starts=starts)
    >>> points.states.round(4).ravel().tolist(), points.kinds
    ([-0.9575, 0.0, 0.9575], ['stable', 'unstable', 'stable'])
    """
    if isinstance(starts, Integral):
        starts = int(starts)
    cell, inputs, starts, names = _searched(network, x, starts, hold, seed, options)
    if starts.dtype not in TOLERANCES or starts.dim() != 2 or not starts.numel():
        got = f"{starts.dtype} of shape {tuple(starts.shape)}"
        raise InvalidInputError(
            "starts: expected a tensor (B, N) of float64 or float32 with at least one entry, "
            f"got {got}"
        )
    tolerance = TOLERANCES[starts.dtype] if tolerance is None else tolerance
    if not (0 < tolerance < math.inf and 0 < margin < math.inf):
        raise InvalidInputError(
            f"tolerance is {in_short(tolerance)}, margin {in_short(margin)}: "
            "expected numbers above 0"
        )
    cell.probe(inputs, starts[0])
    why = "for each state that the search tries, the step runs that many times"
    iterated = Iterated(cell, whole_number("period", period, 1, LONGEST_PERIOD, why=why))
    (settled, steps), ends = _settled(iterated, inputs, starts), [0, -1]
    found = FixedPoints(
        **_points_of(iterated, inputs, starts, settled, tolerance, margin, progress),
        starts=starts.cpu().numpy(),
        settled=len(settled),
        settled_after=steps,
        tolerance=float(tolerance),
        margin=float(margin),
        **names | {"doubt": gradient_note(cell, inputs.expand(2, -1), starts[ends])},
    )
    if at_least_one and period == 1 and not len(found.states):
        raise InvalidInputError(f"{found.finding}. {found.nothing}. {found.region}")
    return found


def _searched(
    network, x, starts: Any, hold: float | None, seed: int, options: dict
) -> tuple[StepCell, Tensor, Tensor, dict]:
    """(cell, constant input (m,), starts, further fields of the result) of the arguments of
    `fixed_points`.
    """
    check_order("fixed_points(network, x)", network=network, x=x)
    said, first = options.get("s0", options.get("state_size")), options.get("s0")
    if not isinstance(starts, int):
        parts = _parts_of(starts)
        first = _first_state(network, parts, vectors=not isinstance(starts, tuple), **options)
        starts = _vectors(parts, None if _has_shapes(network) else first)
        said = starts if said is None else said  # starts say that something steps
    without = x is None and not isinstance(network, nn.Module | Run)
    one = without or _is_constant(network, x, said=said is not None)
    _check_hold(hold, one)
    if not isinstance(starts, int) and one and is_stepwise(network, said=True):
        return _searched_alone(network, x, first, starts)
    sequence = x[None] if one and x is not None else x
    if without:
        sequence = torch.zeros(1, 1).expand(SETTLED, 1)
    if options.get("state_size") is None and not isinstance(network, Run):
        options = options | {"s0": first}
    run = open_run(network, sequence, **options)
    return _searched_along(run, starts, hold, seed, with_input=not without)


def _has_shapes(network: NetworkLike) -> bool:
    """True for what knows the shapes of its state."""
    return isinstance(network, (Run, *TORCH_CLASSES)) or hasattr(network, "step")


def _parts_of(starts: Any) -> list[Tensor]:
    """The tensors (B, ...) of starts."""
    given = starts if isinstance(starts, tuple) else (starts,)
    parts = [state_tensor("starts", part) for part in given]
    if not all(part.dim() > 1 and part.numel() for part in parts):
        raise _starts_error(parts, "a tensor (B, N), or tensors (B, ...), with at least one entry")
    if len({len(part) for part in parts}) > 1:
        raise _starts_error(parts, "tensors (B, ...) of the same number B of states")
    return parts


def _first_state(
    network: NetworkLike,
    parts: list[Tensor],
    s0: State | None = None,
    state_size: Sizes | None = None,
    *,
    vectors: bool,
    **_: Any,
) -> State | None:
    """A state in the shapes that a step has: those of s0, of state_size, or of each start, which a
    module has as a batch of one. None: a step of one vector, or one that says its shapes.

    vectors: whether the starts are one tensor.
    """
    if s0 is not None:
        return check_state(s0)
    if state_size is not None:
        return as_taken(network, zero_state(checked_sizes(state_size), real_view(parts[0]), 1))
    first = tuple(part[:1] for part in parts)
    if not vectors:
        return as_taken(network, first)
    if parts[0].dim() > 2 or parts[0].is_complex():
        return as_taken(network, first[0])
    is_step = isinstance(network, nn.Module) and not _has_shapes(network)
    return first[0] if is_step and first_state(network) is None else None


def _vectors(parts: list[Tensor], first: State | None) -> Tensor:
    """Starts as vectors (B, N); first: a state in the shapes that they must have, None: any."""
    flat = flat_state(parts, rows=len(parts[0]))
    if first is not None:
        wanted = [real_view(part).numel() for part in tree_leaves(first)]
        if [real_view(part[0]).numel() for part in parts] not in (wanted, [sum(wanted)]):
            shapes = " and ".join(str(tuple(part.shape)) for part in tree_leaves(first))
            raise _starts_error(parts, f"(B, {sum(wanted)}), or (B, ...) for states {shapes}")
    return flat


def _starts_error(parts: list[Tensor], expected: str) -> InvalidInputError:
    shapes = " and ".join(str(tuple(part.shape)) for part in parts)
    return InvalidInputError(f"starts: expected {expected}, got {shapes}")


def _check_hold(hold: float | None, one: bool) -> None:
    """Raise InvalidInputError for an input that is no finite number, or to hold in place of a
    sequence if there is none.
    """
    if hold is None:
        return
    number("hold", hold)
    if one:
        raise InvalidInputError(
            f"hold is {hold:g}, in place of the mean of a sequence: give it or a constant "
            "input x (m,)"
        )


def _searched_alone(
    network: nn.Module | Step, x, first: State | None, starts: Tensor
) -> tuple[StepCell, Tensor, Tensor, dict]:
    """The result of `_searched` for a step without a run; first: a state in its shapes."""
    title = {"title": cell_name(network).replace("<lambda>", "f(x, s)")}
    like = starts[0]
    if isinstance(network, nn.Module):
        network = copy_of_module(uncompiled(network)).to(like).eval()
        x = None if x is None else real_tensor("x", x).to(like)
    cell = as_cell(network if first is None else as_step(network, first))
    if x is None:
        return cell, starts.new_zeros(1), starts, title
    x = real_tensor("x", x)
    return cell, x, starts, title | {"input": x.cpu().numpy()}


def _searched_along(
    run: Run, starts: Tensor | int, hold: float | None, seed: int, *, with_input: bool
) -> tuple[StepCell, Tensor, Tensor, dict]:
    """The result of `_searched` for an open run; with_input: whether its network reads an input."""
    cell, x, label = run.cell, run.inputs.mean(0), run.label
    held_at = "constant input" if len(run) == 1 else f"input held at the mean of {label.along}"
    if hold is not None:
        x, held_at = torch.full_like(x, hold), f"input held at {hold:g}"
    fields: dict[str, Any] = {
        "title": f"{label.title}, {held_at}" if with_input else label.title,
        "about": label.about,
        "trajectory": run.states.cpu().numpy(),
    } | run.itself
    if isinstance(starts, int):
        fields["drawn"] = run.rests_from(0) or bool((run.inputs == run.inputs[0]).all())
        starts = _spread(run.require_finite(), starts, seed, drawn=fields["drawn"])
    starts, x = real_tensor("starts", starts).to(run.states), real_tensor("x", x)
    return cell, x, starts, fields | {"input": x.cpu().numpy()}


def _settled(cell: Iterated, x: Tensor, starts: Tensor) -> tuple[Tensor, int]:
    """(The distinct states to which starts come, without those far away, which a search from the
    starts may miss; after how many steps): 200, and as long as one still drifts up to 10,000.
    """
    s, middle, steps = starts, starts.mean(0), 0
    side = (starts - middle).abs().max().clamp(min=1)
    drift = True
    while len(s) and (steps < SETTLED or drift) and steps < LONGEST:
        path = cell.states(x.expand(AT_ONCE, len(s), -1), s)
        drift, steps = _drifts(path, MET * side), steps + AT_ONCE
        s = path[-1][((path[-1] - middle).abs() < FAR * side).all(-1)]  # False for NaN
        s = s[least_of_each(meeting(s, MET * side), torch.zeros_like(s[:, 0])).sort().values]
    none = torch.zeros_like(s[:, 0])
    rows, _ = _points(s, none, none == 0, APART * side, len(s))
    return s[rows], steps


def _drifts(path: Tensor, still: Tensor) -> bool:
    """True if some of the states (T, b, N) moves by more than `still`, and most of its way in one
    direction: what turns or wanders stays in its region.
    """
    moved, way = norm(path[-1] - path[0]), norm(path.diff(dim=0)).sum(0)
    return bool(((moved > still) & (moved > way / 2)).any())


def _points_of(
    cell: Iterated,
    x: Tensor,
    starts: Tensor,
    settled: Tensor,
    tolerance: float,
    margin: float,
    progress: Progress,
) -> dict[str, Any]:
    """Search from the starts and where they settle: the fields of `FixedPoints` about the points,
    fixed before slow ones.
    """

    def step(s: Tensor) -> Tensor:
        return cell.states(x.expand(1, len(s), -1), s)[1]

    def slopes(s: Tensor) -> Tensor:
        return cell.jacobian(x, s)

    r = Residual(step, slopes, torch.ones_like(starts[0]))
    speed_at_starts = r.speed(starts)
    if not torch.isfinite(speed_at_starts).all():
        raise InvalidInputError(
            "the step gives NaN or infinity at a start: expected finite inputs, starts and weights"
        )
    sides = starts.amax(0) - starts.amin(0)
    side, every = sides.max(), torch.cat((starts, settled))
    unit = (sides / side).clamp(min=NARROW) if side > 0 else torch.ones_like(sides)
    wider = margin * side.clamp(min=1)
    search = _Search(r, every.amin(0) - wider, every.amax(0) + wider, side, tolerance)
    ends, flat = search.follow(every, unit, progress)
    numbers = meeting(ends, MET * side)
    one = least_of_each(numbers, r.speed(ends))
    ends, flat = search.finish(ends[one], flat[one])
    others, _ = search.finish(*_on_orbits(cell, x, ends[r.speed(ends) <= tolerance]))
    ends, flat = torch.cat((ends[numbers], others)), F.pad(flat[numbers], (0, len(others)))
    speeds = r.speed(ends)
    width = torch.where(side > 0, side, torch.ones_like(side))
    closed = speeds <= tolerance
    fixed = closed & ~cell.closes_early(x, ends, APART * width)
    slow = ~closed & (
        (flat & (speeds <= SLOW * speed_at_starts.median())) | (speeds <= STILL * side)
    )
    if cell.period > 1:
        slow[:] = False
    some, many = zip(
        *(_points(ends, speeds, group, APART * width, len(starts)) for group in (fixed, slow)),
        strict=True,
    )
    points = torch.cat(some)
    N = starts.shape[1]
    jacobians = ends.new_zeros(0, N, N)
    if len(points):
        jacobians = torch.cat([slopes(part) for part in blocks(ends[points])])
    failed = ~(closed | slow)[: len(starts)]
    arrays = {
        "states": ends[points],
        "residuals": speeds[points],
        "found_from": torch.cat(many),
        "jacobians": jacobians,
        "kinks": kinks_at(slopes, ends[points], jacobians, NEAR * width),
    }
    if cell.period > 1:
        arrays["cycle"] = cell.cycle_of(x, ends[points], APART * width)
    arrays["eigenvalues"] = (
        eigenvalues(jacobians) if len(points) else ends[points].to(torch.complex64)
    )
    return {name: array.cpu().numpy() for name, array in arrays.items()} | {
        "is_slow": np.arange(len(points)) >= len(some[0]),
        "least_residual": float(speeds.min()),
        "run_into": runs_into(cell, x, starts[failed], ends[points], APART * width),
        "period": cell.period,
        "shorter": int((closed & ~fixed)[: len(starts)].sum()),
        "at_edge": int((failed & search.at_edge(ends)[: len(starts)]).sum()),
    }


def _on_orbits(cell: Iterated, x: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """(The other points on the orbits of points, False for each)."""
    others = cell.orbit(x, points)[1:].flatten(0, 1)
    return others, torch.zeros_like(others[:, 0], dtype=torch.bool)


@dataclass(frozen=True, eq=False)
class _Search:
    """A search for points of the speed |r| within a box."""

    r: Residual
    low: Tensor
    """(N,), as `high`, the other corner of the box."""
    high: Tensor
    side: Tensor
    """The largest side of the starts' box."""
    tolerance: float

    def at_edge(self, ends: Tensor) -> Tensor:
        """True for ends (b, N) at the edge of the box, (b,)."""
        return (torch.minimum(ends - self.low, self.high - ends) <= MET * self.side).any(-1)

    def follow(self, s: Tensor, unit: Tensor, progress: Progress = silent) -> tuple[Tensor, Tensor]:
        """(Ends (b, N) of the search from states, with these units (N,) of their entries; whether
        the speed in these units is a minimum there (b,)).
        """
        r, parts = replace(self.r, unit=unit), list[tuple[Tensor, Tensor]]()
        box = {"low": self.low / unit, "high": self.high / unit}
        for part in blocks(s / unit):
            parts.append(search(r, part, **box, tolerance=self.tolerance))
            progress(sum(len(ends) for ends, _ in parts), len(s))
        ends, flat = (torch.cat(each) for each in zip(*parts, strict=True))
        return ends * unit, flat

    def finish(self, ends: Tensor, flat: Tensor) -> tuple[Tensor, Tensor]:
        """(The ends of a search in other units, followed on to minima of |r|, and to zeros in all
        digits; whether the speed is a minimum there).
        """
        if not len(ends):
            return ends, flat
        one = self.r.unit
        if (rows := (flat & (self.r.speed(ends) > self.tolerance)).nonzero()[:, 0]).numel():
            ends[rows], flat[rows] = self.follow(ends[rows], one)
            saddles, beside = slower_beside(self.r, ends[rows], APART * self.side)
            if (rows := rows[saddles]).numel():
                ends[rows], flat[rows] = self.follow(beside, one)
        still = (self.r.speed(ends) <= STILL * self.side).nonzero()[:, 0]
        for rows in blocks(still, ends.shape[1]):
            ends[rows] = finished(self.r, ends[rows], SLOW * self.side)
        return ends, flat


def runs_into(
    cell: StepCell | Iterated, x: Tensor, s: Tensor, points: Tensor, apart: Tensor
) -> int:
    """The number of states (B, N) that come to one of some points and stay there, see `RUN_ON`."""
    if not len(s) or not len(points):
        return 0
    for _ in range(RUN_ON // AT_ONCE):
        path = cell.states(x.expand(AT_ONCE, len(s), -1), s)[1:]
        s = path[-1]
    stays = [((path - point).abs().amax(-1) <= apart).all(0) for point in points]
    return int(torch.stack(stays).any(0).sum())


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
    """The fixed points of a run's cell under a constant input, or its cycles; there may be none.

    Args:
        starts: number of states to search from, spread over the run.
        hold: every entry of the input; None: the mean of the run's.
        margin: of the search's box, see `fixed_points`.
        period: k above 1 for cycles of k steps.
        seed: of the initial weights, and of the starts that are drawn if there are more starts
            than time steps.
    """
    return fixed_points(
        run,
        starts=starts,
        hold=hold,
        margin=margin,
        period=period,
        at_least_one=False,
        seed=seed,
        progress=progress,
    )


def _is_constant(network: NetworkLike, x: DataLike, *, said: bool) -> bool:
    """True if x is one constant input (m,), not a sequence; said: see `is_stepwise`."""
    if isinstance(network, Run) or not is_array(x) or np.ndim(x) > 1:
        return False
    if is_stepwise(network, said=said) or not isinstance(network, nn.Module):
        return True
    return not reads_ids(network, real_tensor("x", x))


def _spread(run: Run, count: int, seed: int, *, drawn: bool) -> Tensor:
    """Evenly spread states of a run; beyond their number also random points between two of them;
    drawn: around the first one.
    """
    seed = check_seed(seed)
    states, generator = run.states, torch.Generator("cpu").manual_seed(seed)
    if count < 1:
        raise InvalidInputError(f"starts is {count}: expected at least 1")
    what = f"a search from {count:,} starts of {states.shape[-1]} entries"
    check_room(SEARCHED * states[0].nbytes * count, what, "give fewer starts", states.device.type)
    if drawn:
        size = count, run.state_size
        noise = torch.randn(size, generator=generator, dtype=torch.float64, device="cpu").to(states)
        noise[0] = 0
        return states[0] + states[0].abs().max().clamp(min=1) * noise
    whole = min(count, len(states))
    some = states[torch.arange(whole, device=states.device) * len(states) // whole]
    more = count - whole
    pairs = torch.randint(len(states), (2, more), generator=generator, device="cpu")
    first, second = pairs.to(states.device)
    share = torch.rand(more, 1, generator=generator, dtype=torch.float64, device="cpu").to(states)
    return torch.cat((some, share * states[first] + (1 - share) * states[second]))


def _points(
    ends: Tensor, speeds: Tensor, group: Tensor, apart: Tensor, starts: int
) -> tuple[Tensor, Tensor]:
    """(rows (P,) of distinct ends in a group, a bool each, how many of the first `starts` led there
    (P,)), those of the most first.

    From the slowest end on, one is new if some entry differs by more than `apart` and half of its
    digits from all earlier ones.
    """
    left = group.nonzero()[:, 0]
    left, found = left[speeds[left].argsort(stable=True)], []
    while len(left):
        distance = (ends[left] - ends[left[0]]).abs().amax(-1)
        rounding = torch.finfo(ends.dtype).eps ** 0.5 * ends[left[0]].abs().max()
        near = distance <= torch.maximum(apart, rounding)
        found.append((-int((left[near] < starts).sum()), int(left[near].min()), int(left[0])))
        left = left[~near]
    table = torch.tensor(sorted(found), dtype=torch.int64, device=ends.device).reshape(-1, 3)
    counts, _, rows = table.T
    return rows, -counts


def _in_words(kind: str, number: int) -> str:
    """Some points of a kind.

    >>> _in_words("stable", 1), _in_words("saddle", 4), _in_words("slow, neutral", 1)
    ('a stable fixed point', '4 saddles', 'a slow, neutral point')
    """
    noun = {"saddle": "saddle", "slow, saddle": "slow saddle"}.get(kind)
    words = noun or f"{kind.replace('kink', 'kinked')} {'' if 'slow' in kind else 'fixed '}point"
    return with_article(words) if number == 1 else counted(number, words)


def _dot(kind: str, slow: bool) -> dict:
    """Colour and marker of a kind of points, hollow for slow ones."""
    color, marker = KINDS[kind]
    return {
        "color": color,
        "marker": marker,
        "markerfacecolor": "none" if slow else color,
        "linestyle": "",
    }


def principal_axes(states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the two directions (2, N) along which states (B, N) vary most, their shares of the variance
    (2,)).

    The larger entries of each direction are positive in sum, so that a picture does not flip from
    run to run.

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
