"""Spectra and Geršgorin discs of every time step of a run, and norms of the products of its
Jacobians.

`spectra` measures whole Jacobians. For a large state it computes only the k leading eigenvalues.
The method depends on the memory:

    one matrix fits the memory    each step's Jacobian is written by blocks of rows, measured,
                                  multiplied into the product and dropped
    it does not fit               products with vectors for eigenvalues and norms, blocks of rows
                                  for discs

Legend: T time steps, counted from 0; m inputs; N entries of a state; s[t] the state before step t;
k eigenvalues; L layers with a gate.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from gersgorin.analyses.growth import (
    beside_one,
    direction,
    gradient_words,
    growth_over_all,
    lives,
    number_of_log,
    rate_of,
    side_of_circle,
    tolerance,
)
from gersgorin.analyses.steps import join_steps, measured, of_units, subject_of
from gersgorin.linalg.discs import gersgorin_discs
from gersgorin.linalg.inclusion import support_function
from gersgorin.linalg.outlines import discs_outline, overlap_ends, support_corners
from gersgorin.linalg.products import RunningProduct
from gersgorin.linalg.spectrum import departure_from_normality, eigenvalue_conditions, one_thread
from gersgorin.network.open import DataLike, NetworkLike, open_run
from gersgorin.run.run import Progress, Run, shown_steps, silent
from gersgorin.run.state import State
from gersgorin.validate import with_gradients
from rhn.errors import InvalidInputError, NotConvergedError
from rhn.plotting.figure import Block, Style, complex_plane
from rhn.utils.figures import BLUE, GREY, ORANGE, PURPLE, RED
from rhn.utils.old import (
    Result,
    capitalised,
    counted,
    keywords_of,
    percent,
    quantity_line,
    sentence,
    table_rows,
)
from rhn.utils.validation import in_short, whole_number

DISC_WORDS = {
    "row": "row discs",
    "column": "column discs",
    "both": "row and column discs where they overlap",
}
AXES = {"row": ("row",), "column": ("column",), "both": ("row", "column")}
MEASURES = {  # one number per step, and what a table calls it
    "spectral_radius": "spectral radius",
    "numerical_radius": "numerical radius (bound)",
    "norm": "2-norm",
    "departure_from_normality": "departure from normality",
    "eigenvalue_condition": "eigenvalue condition",
    "reach": "largest modulus in discs",
    "looseness": "tightness ratio of discs",
    "rightmost_disc": "rightmost disc edge",
    "discs_inside_unit_circle": "discs inside unit circle",
    "finite_time_exponent": "finite-time exponent",
}
# measures that a factor does not change
WITHOUT_SCALE = ("eigenvalue_condition", "departure_from_normality")
# come first
TELLING = ("spectral_radius", "norm", "reach", "discs_inside_unit_circle", "finite_time_exponent")
SMALL = 256  # entries of a state, up to which what is costly takes but a moment
# support lines of a numerical range, of which a quarter is solved for; half as many where a state
# is not small
ANGLES = 32
# entries of a state up to which all eigenvalues are computed, and the number of a larger one
WHOLE, COUNT = 4096, 32
POINT = 1e-9  # relative size of what is drawn as one point
# of the unit circle's radius: what rounding must be able to move before the words speak of it
ROUNDING_SHOWN = 1e-3

# times as wide as what is drawn: a panel in which it cannot be seen
SMALLEST = 20
NEAR_ONE = 0.2  # of a measure, from which a line at 1 is drawn beside it

DiscAxes = tuple[np.ndarray, np.ndarray]  # centres and radii, (N,) each
RANGE_STYLE: Style = {"color": PURPLE, "linestyle": (0, (1, 1)), "linewidth": 1.4}
DISC_STYLES: dict[str, Style] = {
    "row": {"color": BLUE, "linestyle": "-"},
    "column": {"color": ORANGE, "linestyle": "--"},
}


@dataclass(frozen=True, kw_only=True, repr=False)
class Spectra(Result, kind="spectra"):
    """Spectra and discs of the Jacobian ds[t+1]/ds[t] of every step t = 0..T-1, and norms of the
    product of the Jacobians of steps 0 to t.

    >>> found = spectra(torch.nn.RNN(3, 4), torch.rand(8, 3))
    >>> found.eigenvalues.shape, found.spectral_radius.shape
    ((8, 4), (8,))
    """

    cell: str
    depth: int
    hidden_size: int
    sequence: str
    """Name of the sequence, such as "bwv269", or the name of a file."""
    eigenvalues: np.ndarray
    """Eigenvalues, complex, (T, N), the largest modulus first. For a large state only the leading
    eigenvalues, (T, k); NaN at a step where not all of them converged.
    """
    eigenvalue_condition: np.ndarray
    """The largest condition number of an eigenvalue of each step, (T,), at least 1. Rounding moves
    that eigenvalue by about eps * norm * condition.
    """
    row_centers: np.ndarray
    """Centres of the row discs of each step, (T, N)."""
    row_radii: np.ndarray
    """Radii of the row discs of each step, (T, N)."""
    column_centers: np.ndarray
    """Centres of the column discs of each step, (T, N)."""
    column_radii: np.ndarray
    """Radii of the column discs of each step, (T, N)."""
    norm: np.ndarray
    """2-norm of each step's Jacobian, (T,)."""
    support: np.ndarray
    """Support function of each step's numerical range: how far the range extends in directions at
    equal angles around a full turn, (T, angles); see `range_outline`.
    """
    departure_from_normality: np.ndarray
    """Henrici's departure from normality, relative to the Frobenius norm, (T,): 0 if the Jacobian
    is normal, 1 if it is nilpotent.
    """
    norm_bound: np.ndarray
    """A bound on `norm` over all inputs, and over all states whose entries are at most as large as
    the largest entry of a state of this run, 0-dim. NaN if the cell has no bound.
    """
    log_norm_product: np.ndarray
    """Log norm of the product of the first t + 1 Jacobians, log ||ds[t+1]/ds[0]||_2, (T,). The log
    norm is known even at steps whose other measures are NaN because the Jacobian over- or
    underflows.
    """
    transform_gate: np.ndarray
    """Mean over the units of each layer's transform gate, (T, L)."""
    reads: str = "chorale"
    """Kind of the sequence: "chorale", "text" or "sequence"."""
    unit: str = "steps"
    """Length of one time step: "quarter notes", "tokens", "0.1 s"; "steps" if unknown."""
    discs: str = "row"
    """The discs in numbers, texts and figures: "row", "column", or "both" (the spectrum lies in
    both unions).
    """
    gate_name: str = "transform gate"
    """Name of the gate in the cell's literature: for an LSTM the input gate."""
    log_norm_bound: float = math.nan
    """Natural logarithm of `norm_bound`, even if the bound itself over- or underflows."""
    leading: int | None = None
    """Number k of leading eigenvalues that were computed; None: all. If it is given, `support`,
    `eigenvalue_condition`, `departure_from_normality` and `norm_bound` are NaN.
    """

    @property
    def along(self) -> str:
        """The sequence with its kind: "chorale bwv269"."""
        return f"{self.reads} {self.sequence}"

    @property
    def which_eigenvalues(self) -> str:
        """Words for the eigenvalues in sentences: "eigenvalues" or, for example, "the 32 leading
        eigenvalues".
        """
        return (
            f"the {counted(self.leading, 'leading eigenvalue')}" if self.leading else "eigenvalues"
        )

    @property
    def heading(self) -> str:
        """Title of a figure: "rhn, 830 units on chorale bwv269, the 32 leading eigenvalues of
        830".
        """
        more = f", {self.which_eigenvalues} of {self.row_centers.shape[1]}" if self.leading else ""
        return f"{self.title} on {self.along}{more}"

    @property
    def spectral_radius(self) -> np.ndarray:
        """Largest modulus of an eigenvalue, (T,)."""
        return np.abs(self.eigenvalues[:, 0])

    @property
    def numerical_radius(self) -> np.ndarray:
        """An upper bound on the largest modulus in the numerical range of each step, (T,). The
        bound is at most 0.5 % too large (2 % for N > 256).
        """
        return np.minimum(np.abs(support_corners(self.support)).max(1), self.norm)

    def range_outline(self, step: int) -> np.ndarray:
        """The corners of the polygon around the numerical range of a step, as complex numbers. The
        last corner equals the first.
        """
        corners = support_corners(self.support[step])
        return np.append(corners, corners[:1])

    @property
    def disc_sets(self) -> dict[str, DiscAxes]:
        """(Centres, radii) of the chosen discs, (T, N) each, by their kind: {"row": ...},
        {"column": ...} or both.
        """
        return {
            axis: (getattr(self, f"{axis}_centers"), getattr(self, f"{axis}_radii"))
            for axis in AXES[self.discs]
        }

    @cached_property
    def _ends(self) -> tuple[np.ndarray, np.ndarray]:
        if self.discs == "both":
            steps = zip(
                self.row_centers,
                self.row_radii,
                self.column_centers,
                self.column_radii,
                strict=True,
            )
            reach, right = np.array([overlap_ends(*step) for step in steps]).T
            return reach, right
        ((centers, radii),) = self.disc_sets.values()
        return (np.abs(centers) + radii).max(1), (centers + radii).max(1)

    @property
    def rightmost_disc(self) -> np.ndarray:
        """Right edge of the rightmost disc, max(centre + radius), (T,); with row and column discs,
        the right edge of the overlap of the two unions.
        """
        return self._ends[1]

    @property
    def reach(self) -> np.ndarray:
        """Largest modulus in the discs, max(|centre| + radius), (T,); with row and column discs,
        the largest modulus in the overlap of the two unions.
        """
        return self._ends[0]

    @property
    def looseness(self) -> np.ndarray:
        """Tightness ratio `reach` / `spectral_radius`, (T,), at least 1 up to rounding; inf if only
        the radius is 0, NaN if `reach` is 0 too.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.maximum(self.reach / self.spectral_radius, 1)

    @property
    def discs_inside_unit_circle(self) -> np.ndarray:
        """Share (0 to 1) of the discs that lie inside the unit circle and do not touch it, (T,);
        with row and column discs, the larger of the two shares. NaN if the discs are not known.
        """
        ends = [np.abs(c) + r - 1 for c, r in self.disc_sets.values()]
        shares = [(direction(end, self.near) < 0).mean(1) for end in ends]
        return np.where(np.isnan(ends).any((0, 2)), np.nan, np.max(shares, axis=0))

    @property
    def finite_time_exponent(self) -> np.ndarray:
        """Mean growth rate per step of the perturbation that grows most, up to each step: log
        ||ds[t+1]/ds[0]||_2 / (t + 1), (T,).
        """
        return self.log_norm_product / np.arange(1, len(self.norm) + 1)

    @property
    def half_life(self) -> float:
        """Number of time steps in which the gradient halves, averaged over the run; inf if the
        gradient does not shrink, up to rounding.
        """
        return lives(rate_of(self.log_norm_product), self.near)[0]

    @property
    def doubling_time(self) -> float:
        """Number of time steps in which the gradient doubles, averaged over the run; inf if the
        gradient does not grow, up to rounding.
        """
        return lives(rate_of(self.log_norm_product), self.near)[1]

    @property
    def near(self) -> float:
        """Largest distance from the unit circle, and largest rate of growth, that rounding may
        cause.
        """
        return tolerance(self.eigenvalues.dtype)

    @property
    def step_count(self) -> int:
        """T, the number of time steps."""
        return len(self.norm)

    def drawn_step(self, step: int | None = None) -> int:
        """The step that a figure draws; None: the one with the median spectral radius."""
        found = super().drawn_step(step)
        return typical_step(self) if found is None else found

    @property
    def finding(self) -> str:
        """A clause about the half-life or doubling time of the gradient."""
        words = gradient_words(self.log_norm_product, subject_of(self.title))
        return capitalised(words)

    def notes(self) -> list[str]:
        """Sentences about steps without numbers, the growth over the run, the places of eigenvalues
        and discs, and doubts about these results.
        """
        return [
            *filter(None, [sentence(self._lost())]),
            *growth_over_all(self.log_norm_product, self.unit),
            sentence(self._of_eigenvalues(), self._not_converged(), self._moved()),
            sentence(self._of_discs()),
        ]

    @property
    def _lost_steps(self) -> int:
        return int(np.isnan(self.norm).sum())

    def _lost(self) -> str:
        """A clause of the notes; "" if there is nothing to state. The next functions return the
        same.
        """
        if not self._lost_steps:
            return ""
        steps = counted(self._lost_steps, "step")
        return (
            f"the Jacobians of {steps} are too small or large for a number: only their products "
            "are known"
        )

    def _not_converged(self) -> str:
        missing = int(np.isnan(self.eigenvalues).any(1).sum()) - self._lost_steps
        if not missing:
            return ""
        return f"{self.which_eigenvalues} did not converge at {counted(missing, 'step')}"

    def _moved(self) -> str:
        if self._moved_by_rounding() <= ROUNDING_SHOWN:
            return ""
        return f"rounding alone may move an eigenvalue by more than {ROUNDING_SHOWN:g}"

    def _moved_by_rounding(self) -> float:
        """The distance by which rounding may move an eigenvalue of the step with the worst
        condition: to first order, but for two eigenvalues that nearly agree by the square root of a
        perturbation. An infinite condition counts as 1 / eps, above which it is not known.
        """
        if self.leading:
            return 0.0
        step = int(np.nanargmax(self.eigenvalue_condition))
        values = self.eigenvalues[step]
        eps = float(np.finfo(values.dtype).eps)
        condition = min(float(self.eigenvalue_condition[step]), 1 / eps)
        perturbation = float(eps * self.norm[step])
        apart = np.abs(values[:, None] - values) + np.diag(np.full(len(values), np.inf))
        gap = float(apart.min())
        if not gap > 0:
            return math.sqrt(perturbation) if condition == 1 / eps else 0.0
        return min(condition * perturbation, math.sqrt(condition * gap * perturbation))

    def _of_eigenvalues(self) -> str:
        """A clause about the eigenvalues and the unit circle."""
        radius = float(np.fmax.reduce(self.spectral_radius))
        if math.isnan(radius):
            return "no eigenvalue is known"
        outside = np.count_nonzero(direction(np.abs(self.eigenvalues) - 1, self.near) > 0)
        if outside:
            share = outside / np.count_nonzero(np.isfinite(self.eigenvalues))
            which = self.which_eigenvalues if self.leading else "the eigenvalues"
            return f"{percent(share)} of {which} lie outside the unit circle"
        side = side_of_circle(radius, self.near)
        return f"the largest eigenvalue lies {beside_one(radius, self.near)} from 0, {side}"

    def _of_discs(self) -> str:
        """A clause about the discs and the unit circle."""
        reach = float(np.fmax.reduce(self.reach))
        discs = DISC_WORDS[self.discs]
        if not math.isfinite(reach):
            return f"the {discs} are not known"
        side = side_of_circle(reach, self.near)
        return f"the largest modulus in the {discs} is {beside_one(reach, self.near)}, {side}"

    def lines(self) -> Iterator[str]:
        """Lines of text, one for each quantity: the values at a few steps, and the mean over all
        steps.
        """
        T = len(self.norm)
        steps = shown_steps(T)
        which = f"; {self.which_eigenvalues} of {self.row_centers.shape[1]}" if self.leading else ""
        heads = quantity_line("", [*(f"step {t}" for t in steps), "mean"])
        yield f"{self.along}, {counted(T, 'step')}, {DISC_WORDS[self.discs]}{which}\n{heads}"
        for name, label in sorted(MEASURES.items(), key=lambda row: row[0] not in TELLING):
            values = getattr(self, name)
            if np.isnan(values).all():  # not measured, or known at no step
                continue
            mean = [] if name == "finite_time_exponent" else [np.nanmean(values)]
            share = name == "discs_inside_unit_circle"
            cells = (_shown(value, share=share) for value in [*values[steps], *mean])
            yield quantity_line(label, cells)
        if not self.leading:
            yield self._of_the_bound()
        if math.isfinite(self.doubling_time):
            yield quantity_line("doubling time of gradients", [self.doubling_time], "steps")
        else:
            yield quantity_line("half-life of gradients", [self.half_life], "steps")

    def _of_the_bound(self) -> str:
        """The line of the bound on the norm."""
        label = "bound on the 2-norm"
        if np.isnan(self.norm_bound):
            return quantity_line(label, ["none"], "the cell has no norm_bound")
        scope = "for any input and any state within this run's range"
        known = math.isfinite(self.log_norm_bound)
        bound = number_of_log(self.log_norm_bound) if known else float(self.norm_bound)
        return quantity_line(label, [bound], scope)

    def _axes(self) -> dict[str, tuple[str, ...]]:
        return {
            "eigenvalues": ("step", "eigenvalue"),
            "eigenvalue_condition": ("step",),
            "row_centers": ("step", "entry"),
            "row_radii": ("step", "entry"),
            "column_centers": ("step", "entry"),
            "column_radii": ("step", "entry"),
            "norm": ("step",),
            "support": ("step", "angle"),
            "departure_from_normality": ("step",),
            "norm_bound": (),
            "log_norm_product": ("step",),
            "transform_gate": ("step", "layer"),
        }

    def table(self) -> list[dict]:
        """One row of numbers per step."""
        columns = {name: getattr(self, name) for name in ("log_norm_product", *MEASURES)}
        T = len(self.norm)
        return table_rows(step=range(T), norm_bound=np.full(T, self.norm_bound), **columns)

    width, height, marks_step = 5.0, 4.6, False

    @property
    def origin(self) -> str:
        """The network, the sequence and their origin in words."""
        return "; ".join(filter(None, (self.heading, self.about)))

    def _draw(self, ax: Axes, *, step: int | None, limit: float | None) -> None:
        """Draw eigenvalues, discs and numerical range of a step, by default the one with the median
        spectral radius.
        """
        plot_spectrum(self, step, limit=limit, ax=ax)

    def _blocks(self, panel: Callable[[Axes], object]) -> list[Block]:
        """Panels of one step."""
        return [Block([panel], self.height, legend=True)]

    def _to_dict(self) -> dict:
        """The names, and one row per step. `save` writes the eigenvalues and discs too."""
        about = {
            name: getattr(self, name)
            for name in ("cell", "depth", "hidden_size", "sequence", "unit", "discs")
        }
        about |= {"leading_eigenvalues": self.leading} if self.leading else {}
        return about | {"steps": self.table()}

    def derived(self) -> dict:
        """The rows of `table`, for files."""
        return {"steps": self.table()}


def plot_spectrum(
    record: Spectra,
    step: int | None = None,
    *,
    limit: float | None = None,
    ax: Axes,
) -> Axes:
    """Draw the eigenvalues of one time step, the outlines of its numerical range and of the unions
    of its discs, and the unit circle.

    The inclusion set is shaded: the union of the discs, or with row and column discs the
    intersection of the two unions.

    Args:
        record: see `gersgorin.spectra`.
        step: counted from 0; None: the one with the median spectral radius.
        limit: half the width of the panel, which is centred at 0. None: the panel contains all that
            is drawn of the step. It also contains the unit circle, unless the circle is more than
            20 times wider.
        ax: axes to draw into.

    Raises InvalidInputError for a step outside the run.
    """
    step = record.drawn_step(step)
    draw_set(record, step, ax)
    complex_plane(ax, *((limit, 0.0) if limit else view(record, step)))
    ax.set_title(f"Step {step}")
    return ax


def draw_set(record: Spectra, step: int, ax: Axes) -> None:
    """Draw the discs of a step with their centres, its numerical range and its eigenvalues."""
    draw_discs(
        {axis: (centers[step], radii[step]) for axis, (centers, radii) in record.disc_sets.items()},
        ax,
    )
    draw_centres(record.row_centers[step], ax, label="disc centres")
    draw_points(
        record, step, ax, range_label="numerical range", label=record.which_eigenvalues, zorder=4
    )


def extent(record: Spectra, step: int) -> tuple[float, float]:
    """Return (half the width, centre) of the bounding box of all that is drawn of a step. Half the
    width is 0 if everything lies at one point, up to rounding; both numbers are 0 if nothing is
    finite.
    """
    ends = [c[step] + sign * r[step] for c, r in record.disc_sets.values() for sign in (-1, 1)]
    values = np.concatenate([*ends, record.eigenvalues[step]])
    if not record.leading:
        values = np.append(values, record.range_outline(step))
    return extent_of(values, record.eigenvalues.dtype)


def extent_of(values: np.ndarray, dtype: np.dtype) -> tuple[float, float]:
    """Return (half the width, centre) of the bounding box of points, by the rules of `extent`.
    dtype: the dtype of the matrix from which the points were computed.
    """
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 0.0
    left, right = float(values.real.min()), float(values.real.max())
    half = max((right - left) / 2, float(np.abs(values.imag).max()))
    if half <= tolerance(dtype, POINT) * float(np.abs(values).max()):
        half = 0.0
    return 1.08 * half, (left + right) / 2


def is_small(half: float, limit: float) -> bool:
    """True if a spectrum of half-width `half` is too small to see in a panel of half-width
    `limit`.
    """
    return 0 < SMALLEST * half < limit


def view(record: Spectra, step: int) -> tuple[float, float]:
    """Return (half the width, centre) of the panel of a step. The panel is a square around 0 that
    contains the unit circle, or only the bounding box of the step if this box is small.
    """
    half, middle = extent(record, step)
    limit = spectrum_limit([record], step)
    return (half, middle) if is_small(half, limit) else (limit, 0.0)


def draw_centres(centers: np.ndarray, ax: Axes, label: str | None = None) -> None:
    """Mark the real centres of discs by strokes at the lower edge, where they hide no eigenvalue.
    Row and column discs have the same centres.
    """
    style: Style = {"color": BLUE, "markersize": 12, "alpha": 0.6}
    style |= {"transform": ax.get_xaxis_transform()}  # the lower half of a stroke is clipped
    ax.plot(centers, np.zeros_like(centers), "|", label=label, **style)


def draw_points(
    record: Spectra, step: int, ax: Axes, *, range_label: str | None = None, **style
) -> None:
    """Draw the eigenvalues of a step and the outline of its numerical range."""
    if not record.leading:
        around = record.range_outline(step)
        ax.plot(around.real, around.imag, **RANGE_STYLE, label=range_label)
    values = record.eigenvalues[step]
    ax.plot(values.real, values.imag, ".", color=RED, markersize=5, **style)


def draw_discs(discs: dict[str, DiscAxes], ax: Axes) -> None:
    """Draw the outlines of the unions of "row" and "column" discs, and shade their intersection.
    Nothing is drawn if a number is not finite.
    """
    if not np.isfinite([*discs.values()]).all():
        return
    for axis, (centers, radii) in discs.items():
        for k, polygon in enumerate(discs_outline(centers, radii, 65)):
            label = f"union of the {axis} discs" if k == 0 else None
            ax.plot(polygon.real, polygon.imag, linewidth=1.2, label=label, **DISC_STYLES[axis])
    each = discs.values()
    x = np.linspace(max((c - r).min() for c, r in each), min((c + r).max() for c, r in each), 1001)[
        :, None
    ]
    distances = [(r, np.minimum(np.abs(x - c), r)) for c, r in each]
    height = np.min([(np.sqrt(r - d) * np.sqrt(r + d)).max(1) for r, d in distances], axis=0)
    color = GREY if len(discs) > 1 else ax.lines[0].get_color()
    ax.fill_between(x[:, 0], -height, height, color=color, alpha=0.10, linewidth=0)


def _shown(value: float, *, share: bool) -> float | str:
    """A number as text for the lines; share: write it in percent."""
    if math.isnan(value):
        return "-"
    return f"{100 * value:.3g} %" if share else value


def spectrum_limit(records: Sequence[Spectra], steps: int | slice = slice(None)) -> float:
    """Return half the width of panels that contain the unit circle, and the discs and numerical
    ranges of all results at these steps.
    """
    edges = [(np.abs(c) + r)[steps] for record in records for c, r in record.disc_sets.values()]
    edges += [record.numerical_radius[steps] for record in records if not record.leading]
    known = [float(edge[np.isfinite(edge)].max(initial=1)) for edge in edges]
    return 1.08 * max(1.0, *known)


def typical_step(record: Spectra) -> int:
    """The step with the median spectral radius (the lower one if there are two); 0 if no radius is
    known.
    """
    known = np.flatnonzero(~np.isnan(record.spectral_radius))
    by_radius = known[np.argsort(record.spectral_radius[known], kind="stable")]
    return int(by_radius[(len(known) - 1) // 2]) if len(known) else 0


@with_gradients()
@torch.no_grad()
# two threads on small matrices gain little on an idle machine and lose much on a busy one
@keywords_of(open_run)
@one_thread()
def spectra(
    network: NetworkLike,
    x: DataLike = None,
    *,
    s0: State | None = None,
    discs: Literal["row", "column", "both"] = "row",
    leading: int | None = None,
    progress: Progress = silent,
    **options,
) -> Spectra:
    """Measure spectra, discs and norms of the Jacobian of every time step of a run, and norms of
    the Jacobian products. The network is not changed.

    Args:
        network, x, s0, options: as for `gersgorin.open_run`.
        discs: the discs that numbers, sentences and figures use: those of the rows, those of the
            columns, or the overlap of both unions.
        leading: compute only this number of eigenvalues, those of largest modulus, for large
            states. None: all, or 32 for a state of more than 4,096 entries.
        progress: called with (steps done, steps in all).

    Raises:
        InvalidInputError, DataError, CheckpointError: the network or the data do not exist, cannot
            be read, or do not fit each other; a state or Jacobian is not finite; or an argument is
            out of range.

    >>> from rhn.cells import RHN
    >>> found = spectra(RHN(3, 8, 2), torch.rand(20, 3))
    >>> found.eigenvalues.shape, found.title
    ((20, 8), 'rhn, depth 2, 8 units')
    """
    if discs not in DISC_WORDS:
        raise InvalidInputError(
            f"discs is {in_short(discs)}, expected one of {', '.join(DISC_WORDS)}"
        )
    run = open_run(network, x, s0=s0, **options)
    label = run.label
    if leading is not None:
        leading = whole_number("leading", leading, 1, run.state_size)
    elif run.state_size > WHOLE:
        leading = COUNT
    if leading is None:
        found = measured(run, _of_matrices, progress, WITHOUT_SCALE)
        bound, log_bound = run.norm_bound().cpu().numpy(), _log_bound(run)
    else:
        found, bound, log_bound = _by_operators(run, leading, progress), np.array(np.nan), math.nan
    numbers: dict[str, Any] = found | run.itself
    return Spectra(
        cell=label.name,
        depth=run.depth,
        hidden_size=run.hidden_size,
        sequence=label.sequence,
        reads=label.reads,
        unit=label.unit,
        title=label.title or label.name,
        about=label.about,
        discs=discs,
        gate_name=run.cell.gate_name,
        transform_gate=of_units(run.gates().t, run),
        norm_bound=bound,
        log_norm_bound=log_bound,
        leading=leading,
        **numbers,
    )


def _log_bound(run: Run) -> float:
    """The natural logarithm of the bound on the norm of every Jacobian."""
    return run.cell.log_norm_bound(float(run.states[:-1].abs().max()))


def _of_matrices(A: Tensor) -> dict[str, Tensor]:
    """The measures of whole Jacobians (steps, N, N), as `Spectra` names them."""
    # which refuse what is not finite
    discs = _of_discs(gersgorin_discs(A), gersgorin_discs(A, axis="column"))
    values, conditions = eigenvalue_conditions(A)
    return discs | {
        "eigenvalues": values,
        "eigenvalue_condition": conditions.amax(-1),
        "norm": torch.linalg.matrix_norm(A, 2),
        "support": support_function(A.cpu(), ANGLES if A.shape[-1] <= SMALL else ANGLES // 2),
        "departure_from_normality": departure_from_normality(A, values, relative=True),
    }


def _of_discs(rows: tuple[Tensor, Tensor], columns: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    return {
        "row_centers": rows[0],
        "row_radii": rows[1],
        "column_centers": columns[0],
        "column_radii": columns[1],
    }


def _by_operators(run: Run, k: int, progress: Progress) -> dict[str, np.ndarray]:
    """Measure the k leading eigenvalues, discs, norms and products; measures of whole matrices are
    NaN.

    If matrices fit the memory, only the Jacobian of the current step is kept. Otherwise the
    Jacobians of all steps are kept as operators.

    Raises:
        InvalidInputError: k is out of range.
        NotConvergedError: a norm did not converge.
    """
    from gersgorin.run.operators import (  # SciPy's part for it loads in a fifth of a second
        StepOperator,
        is_written,
        log_norms,
    )

    written = is_written(run.states[0])
    product, operators, logs = RunningProduct(), list[StepOperator](), list[float]()
    parts, exponents = [], []
    for t, (x, s) in enumerate(zip(run.inputs, run.states[:-1], strict=True)):
        A, exponent = _scaled_operator(run, x, s)
        parts.append(_of_operator(A, k, s.dtype, exponent))
        exponents.append(exponent)
        if written:
            logs.append(float(product.multiply(A.matrix).log_norm(_norm_of_matrix)))
        else:
            operators.append(A)
        progress(t + 1, len(run))
    logs = logs if written else [*log_norms(operators)]
    whole = np.array(logs) + np.cumsum(exponents) * math.log(2)
    return join_steps(parts) | {"log_norm_product": whole}


def _norm_of_matrix(P: Tensor) -> Tensor:
    """The norm ||P||_2, from products with vectors."""
    from gersgorin.run.operators import StepOperator

    return torch.tensor(StepOperator.of_matrix(P).norm(), dtype=torch.float64, device=P.device)


def _of_operator(A: Any, k: int, dtype: torch.dtype, exponent: int) -> dict[str, np.ndarray]:
    """The measures (1, ...) of the Jacobian A 2^exponent of a step, with A as a `StepOperator`. NaN
    for measures of whole matrices, for eigenvalues unless all k converged, and for all measures if
    the exponent is not 0.
    """
    try:
        values = A.eigenvalues(k)
    except NotConvergedError:  # those that did need not be the largest
        values = torch.full((k,), torch.nan, dtype=torch.promote_types(dtype, torch.complex32))
    norm = torch.tensor(A.norm(), dtype=torch.float64, device="cpu")
    found = _of_discs(*A.discs()) | {"eigenvalues": values, "norm": norm}
    if exponent:
        found = {name: torch.full_like(each, torch.nan) for name, each in found.items()}
    known = {name: each.cpu().numpy()[None] for name, each in found.items()}
    unknown = np.full(1, np.nan)
    return known | {
        "support": np.full((1, 4), np.nan),
        "eigenvalue_condition": unknown,
        "departure_from_normality": unknown,
    }


def _scaled_operator(run: Run, x: Tensor, s: Tensor) -> tuple[Any, int]:
    """(M as a `StepOperator`, an integer e) for the Jacobian M 2^e of a step; e is 0 unless the
    Jacobian over- or underflows.

    Raises InvalidInputError if the Jacobian of a large state over- or underflows.
    """
    from gersgorin.run.operators import StepOperator

    A = StepOperator.of_step(run.cell, x, s)
    if A.matrix is not None:
        M, e = run.cell.scaled("jacobian", A.matrix[None], x[None], s[None])
        return (StepOperator.of_matrix(M[0]), int(e)) if e else (A, 0)
    kind = torch.finfo(s.dtype)
    if run.depth > 1 and A.norm() < kind.tiny / kind.eps:
        raise InvalidInputError(
            f"the Jacobian of a step of {run.depth} layers is too small for a number: use fewer "
            "layers or units"
        )
    return A, 0
