"""Medians and bands of a network over many runs: at each time step, the median and the 10 to 90 %
band of measures of spectra, discs and products.

Legend: R runs, each of one network along one sequence; T steps of the longest run; s[t] the state
before step t. Runs can differ in length: a statistic at step t is over the runs that have this
step.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from torch import Tensor

from gersgorin.analyses.growth import (
    TWICE,
    ZERO,
    Growth,
    compared_words,
    direction,
    gradient_words,
    is_steady,
    rate_words,
    tolerance,
)
from gersgorin.analyses.spectra import AXES, DISC_WORDS, MEASURES, NEAR_ONE, Spectra
from gersgorin.analyses.steps import measured, subject_of
from gersgorin.linalg.discs import gersgorin_discs
from gersgorin.linalg.spectrum import eigenvalue_conditions, one_thread
from gersgorin.run.run import Run, silent
from rhn.errors import InvalidInputError
from rhn.plotting.figure import (
    DASHED,
    GROWTH,
    ZERO_PRODUCT,
    Block,
    Shown,
    WholeTicks,
    compose,
    isolated_points,
    line_style,
    log_scale,
    over_time,
)
from rhn.utils.figures import GREY
from rhn.utils.old import (
    Result,
    capitalised,
    counted,
    drawable,
    mark_step,
    quantity_line,
    set_limit,
    table_rows,
    time_label,
)

# of each step, named as in `Spectra`
KEPT = ("spectral_radius", "norm", "reach", "log_norm_product")
TABULATED = (*KEPT, "finite_time_exponent")
ABOUT = ("cell", "depth", "hidden_size", "title", "along", "unit", "discs", "about")
BAND = (0.1, 0.9)  # quantiles: four of five runs are between
QUANTILES = {"median": 0.5, "10 %": BAND[0], "90 %": BAND[1], "least": 0.0, "largest": 1.0}
SAME = "each seed gives the same weights, as in a factory that sets the seed itself"
BANDS = "medians and 10 to 90 % bands"
PANELS = {  # measures over time, and the labels of their axes
    "log_norm_product": GROWTH.capitalize(),
    "spectral_radius": "Spectral radius",
    "reach": "Discs: largest modulus",
}


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Comparison(Result, kind="comparison"):
    """Measures of R runs at each step: arrays (R, T), NaN after the end of a run.

    >>> import torch
    >>> from gersgorin import compare
    >>> from rhn.cells import RNN
    >>> bands = compare([RNN(3, 4)], list(torch.rand(2, 6, 3)), over="sequences")
    >>> bands[0].spectral_radius.shape  # (R, T)
    (2, 6)
    """

    cell: str
    depth: int
    hidden_size: int
    along: str
    """The sequences: "chorale bwv269", "20 chorales"."""
    unit: str
    """Length of one time step: "quarter notes"."""
    discs: str
    """Kind of the discs in `reach`: "row", "column" or "both"."""
    sequence: np.ndarray
    """Name of the sequence of each run, (R,)."""
    seed: np.ndarray
    """Network of each run, (R,): the seed of its initial weights, or its index in the list of
    networks, from 0.
    """
    spectral_radius: np.ndarray
    """Largest modulus of an eigenvalue of each step's Jacobian, (R, T)."""
    norm: np.ndarray
    """2-norm of each step's Jacobian, (R, T)."""
    reach: np.ndarray
    """Largest modulus in the discs of each step, (R, T)."""
    log_norm_product: np.ndarray
    """Log norm of the product of the first t + 1 Jacobians, log ||ds[t+1]/ds[0]||_2, (R, T)."""

    @property
    def _known(self) -> np.ndarray:
        """True for the steps that a run has, (R, T): the steps at which one of its measures is a
        number.
        """
        return ~np.all([np.isnan(getattr(self, name)) for name in KEPT], axis=0)

    @property
    def steps(self) -> np.ndarray:
        """Number of steps of each run, (R,)."""
        return self._known.sum(1)

    @property
    def runs_at(self) -> np.ndarray:
        """Number of runs that have step t, (T,)."""
        return self._known.sum(0)

    @property
    def half_of_runs(self) -> int:
        """The number of steps that at least half of the runs have."""
        return int((2 * self.runs_at >= len(self.seed)).sum())

    @property
    def finite_time_exponent(self) -> np.ndarray:
        """Mean growth rate of each run up to each step: log ||ds[t+1]/ds[0]||_2 / (t + 1), (R,
        T).
        """
        return self.log_norm_product / np.arange(1, self.norm.shape[1] + 1)

    @property
    def last_exponent(self) -> np.ndarray:
        """Finite-time exponent of each run at its last step, (R,)."""
        return self.finite_time_exponent[np.arange(len(self.steps)), self.steps - 1]

    def quantile(self, name: str, share: float) -> np.ndarray:
        """Quantile over the runs at each step, (T,), for a measure of `TABULATED`. share: the
        quantile, from 0 (least value) over 0.5 (median) to 1 (largest value).
        """
        return quantiles(getattr(self, name), share)

    @property
    def step_count(self) -> int:
        """T, the number of steps of the longest run."""
        return self.norm.shape[1]

    def _axes(self) -> dict[str, tuple[str, ...]]:
        runs = next(
            (name for name in ("seed", "sequence") if len({*vars(self)[name]}) == len(self.seed)),
            "run",
        )
        of_runs = {"seed": (runs,), "sequence": (runs,)}
        return of_runs | dict.fromkeys(KEPT, (runs, "step"))

    def table(self) -> list[dict]:
        """One row per step: the number of runs, and for each measure its median, band and extremes
        over these runs.
        """
        shares = {"median": 0.5, "p10": BAND[0], "p90": BAND[1], "min": 0.0, "max": 1.0}
        quantiles = {
            name: {key: self.quantile(name, q) for key, q in shares.items()} for name in TABULATED
        }
        return table_rows(step=range(len(self.runs_at)), runs=self.runs_at, **quantiles)

    def _to_dict(self) -> dict[str, Any]:
        """The names, an entry for each run, and the rows of the table."""
        runs = table_rows(
            sequence=self.sequence, seed=self.seed, steps=self.steps, exponent=self.last_exponent
        )
        return {name: vars(self)[name] for name in ABOUT} | {"runs": runs} | self.derived()

    def derived(self) -> dict[str, Any]:
        """The rows of the table, for .json files."""
        return {"steps": self.table()}

    @property
    def near(self) -> float:
        """Largest distance from the unit circle, and largest rate of growth, that rounding may
        cause.
        """
        return tolerance(self.spectral_radius.dtype)

    @property
    def rate(self) -> float:
        """The median of `last_exponent`."""
        return float(np.median(self.last_exponent))

    @property
    def finding(self) -> str:
        """A clause about the half-life or doubling time of the gradient at the median rate of the
        runs. In each run the gradient grows, shrinks or keeps its norm. If the runs differ in this,
        the clause states in how many runs the gradient grows, or, if it grows in none, in how many
        it shrinks.
        """
        subject = subject_of(self.title)
        gradient = f"The gradient{subject}"
        if len(self.seed) == 1:
            return capitalised(gradient_words(self._of_only_run, subject))
        if self._disagreement:
            return f"{gradient} {self._disagreement} runs"
        steady = is_steady(self.log_norm_product, self.near)
        words = rate_words(self.rate, self.near, steady=steady)
        return f"{gradient} {words} in the median"

    @property
    def growth(self) -> Growth:
        """The growth of the gradient, in words for a title about several networks."""
        if len(self.seed) == 1:
            return Growth.of(self._of_only_run)
        ends = self.last_exponent * self.steps
        even = 2 * int((np.abs(ends) <= TWICE).sum()) > len(ends)
        return Growth(self.rate, even, median=True, disagree=self._disagreement)

    @property
    def _of_only_run(self) -> np.ndarray:
        """`log_norm_product` of a single run, without NaN after its end."""
        return self.log_norm_product[0, : self.steps[0]]

    @property
    def _disagreement(self) -> str:
        """In how many runs the gradient grows, or else shrinks, or else is zero at the end, if the
        runs differ in this: "grows in 1 of 5". "" if they do not.
        """
        ways, R = direction(self.last_exponent, self.near), len(self.seed)
        zero = int(np.isneginf(self.last_exponent).sum())
        if len({*ways.tolist()}) == 1:
            return f"is {ZERO} at the end of {zero} of {R}" if 0 < zero < R else ""
        grows, shrinks = int((ways > 0).sum()), int((ways < 0).sum())
        return f"grows in {grows} of {R}" if grows else f"shrinks in {shrinks} of {R}"

    def notes(self) -> list[str]:
        """Sentences about the number of runs in which the gradient grows, the discs allow growth,
        or an eigenvalue leaves the unit circle.
        """
        R, notes = counted(len(self.seed), "run"), []
        counts = {} if self._disagreement else {"The gradient grows": self.last_exponent[:, None]}
        for words, values in (
            *counts.items(),
            (f"The {DISC_WORDS[self.discs]} allow growth", self.reach - 1),
            ("An eigenvalue leaves the unit circle", self.spectral_radius - 1),
        ):
            count = int((direction(values, self.near) > 0).any(1).sum())
            notes.append(f"{words} in {count} of {R}.")
        return notes

    def lines(self) -> Iterator[str]:
        """A line for each quantity: its median, band and extremes over the runs."""
        steps, runs = sorted(self.steps.tolist()), counted(len(self.seed), "run")
        lengths = (
            f"{steps[0]} to {steps[-1]} steps"
            if steps[0] < steps[-1]
            else counted(steps[0], "step")
        )
        heads = quantity_line("of each run the mean", QUANTILES)
        discs = DISC_WORDS[self.discs]
        yield f"{self.along}, {self.networks}, {runs} of {lengths}, {discs}\n{heads}"
        means = {
            MEASURES[name]: pd.DataFrame(getattr(self, name)).mean(axis=1).to_numpy()
            for name in ("spectral_radius", "norm", "reach")
        }
        for label, values in (means | {"exponent at its last step": self.last_exponent}).items():
            cells = (quantiles(values[:, None], share)[0] for share in QUANTILES.values())
            yield quantity_line(label, cells)

    def _draw(self, ax: Axes, **_: Any) -> None:
        """Draw the norm of the products over time: median and band."""
        plot_bands([self], "log_norm_product", ax)

    def _figure(self, step: int | None, limit: float | None) -> Shown:
        """Draw all measures: median and band."""
        about = "; ".join(filter(None, (f"{self.title} on {self.along}", self.about)))
        return draw_bands([self], [""], about, step=step, limit=limit)

    @property
    def networks(self) -> str:
        """The number of networks in words: "5 seeds"."""
        return counted(len(set(self.seed.tolist())), "seed")


def of_spectra(record: Spectra) -> Comparison:
    """Convert the spectra of one run to a `Comparison` that contains only this run."""
    names = {name: getattr(record, name) for name in ABOUT}
    arrays = {name: getattr(record, name)[None] for name in KEPT}
    return Comparison(sequence=np.array([record.sequence]), seed=np.array([0]), **names, **arrays)


def quantiles(values: np.ndarray, share: float) -> np.ndarray:
    """Quantile of each column over the rows that have a number, by linear interpolation. If the
    interpolation is between -inf and a finite value, the quantile is -inf.

    >>> quantiles(np.array([[3.0, 0.0], [1.0, -np.inf], [2.0, np.nan]]), 0.5).tolist()
    [2.0, -inf]
    """
    frame = pd.DataFrame(values)
    with np.errstate(invalid="ignore"):
        found = frame.quantile(share)
    return found.fillna(-np.inf).where(frame.notna().any()).to_numpy()


def compare_runs(
    runs: Iterable[tuple[int, Run]],
    *,
    along: str,
    about: str = "",
    discs: str = "row",
    progress: Callable[[str, int], None] = lambda title, done: None,
) -> Comparison:
    """Measure runs, and return their `Comparison`. The runs are pairs (number of the network, run),
    and are opened one by one.

    along: words for all sequences. about: words for the origin of the networks and sequences.
    Raises InvalidInputError if there is no run.
    """
    seeds, labels, found = [], [], []
    for seed, run in runs:
        seeds.append(seed)
        labels.append(run.label)
        found.append(measure_run(run, discs))
        progress(labels[0].title, len(found))
    if not found:
        raise InvalidInputError(
            "there is nothing to run: expected at least one network and one sequence"
        )
    first = labels[0]
    arrays = {  # NaN after the end of a run
        name: pd.DataFrame([dict(enumerate(one[name])) for one in found]).to_numpy(
            found[0][name].dtype
        )
        for name in KEPT
    }
    return Comparison(
        title=first.title,
        about=about,
        unit=first.unit,
        cell=first.name,
        depth=run.depth,
        hidden_size=run.hidden_size,
        along=along,
        discs=discs,
        sequence=np.array([label.sequence for label in labels]),
        seed=np.array(seeds),
        doubt=_equal_networks(np.array(seeds), arrays),
        **arrays,
    )


def _equal_networks(seeds: np.ndarray, arrays: Mapping[str, np.ndarray]) -> str:
    """A sentence if all networks have the same numbers; "" if they differ, or for one network."""
    networks = np.unique(seeds)
    same = all(
        np.array_equal(values[seeds == seed], values[seeds == networks[0]], equal_nan=True)
        for values in arrays.values()
        for seed in networks
    )
    return (
        f"The runs of all {len(networks)} seeds are equal: {SAME}."
        if same and len(networks) > 1
        else ""
    )


@torch.no_grad()
@one_thread()
def measure_run(run: Run, discs: str) -> dict[str, np.ndarray]:
    """Return the measures of `KEPT` for one run, (T,) each, computed by `gersgorin.spectra`. Raises
    InvalidInputError as `spectra` does.
    """

    def measure(A: Tensor) -> dict[str, Tensor]:
        reach = torch.stack([gersgorin_discs(A, axis=axis).norm for axis in AXES[discs]]).amin(0)
        # the solver of `spectra`, for the same last digits
        leading = eigenvalue_conditions(A)[0][:, 0]
        return {"spectral_radius": leading, "norm": torch.linalg.matrix_norm(A, 2), "reach": reach}

    found = measured(run, measure, silent)
    return found | {"spectral_radius": np.abs(found["spectral_radius"])}


def plot_bands(
    comparisons: Sequence[Comparison], measure: str, ax: Axes, names: Sequence[str] = ()
) -> Axes:
    """Draw a measure of `PANELS` over time: for each comparison the median and the 10 to 90 % band
    of its runs.

    names: the names of the comparisons in the legend.
    """
    of_products = measure == "log_norm_product"
    for k, comparison in enumerate(comparisons):
        label = drawable(names[k]) if names and names[k] else None
        _plot_band(comparison, measure, ax, label=label, **line_style(k))
    values = np.concatenate([np.asarray(line.get_ydata(), float) for line in ax.lines])
    if of_products:
        ax.axhline(0, **DASHED, linewidth=0.8)
    elif values.max(initial=0) > NEAR_ONE:  # far below, the line would flatten the curves
        ax.axhline(1, **DASHED, linewidth=0.8)
    log_scale(ax, values if not of_products else np.empty(0))
    if not of_products and ax.get_yscale() == "linear":
        ax.set_ylim(bottom=0)
    ax.set_title(PANELS[measure])
    steps = max(1, *(c.half_of_runs for c in comparisons))  # none if all numbers are NaN
    return over_time(ax, steps, comparisons[0].unit, "")


def _plot_band(comparison: Comparison, measure: str, ax: Axes, **style) -> None:
    """Draw the median and the band of a comparison, up to the last step that half of its runs have.

    If a product becomes zero, its line ends with a cross, because its logarithm is minus infinity.
    """
    of_products = measure == "log_norm_product"
    far = comparison.half_of_runs
    shares = (BAND[0], 0.5, BAND[1])
    low, median, high = (comparison.quantile(measure, share)[:far] for share in shares)
    t = np.arange(far)
    if of_products:  # in decades, from the identity, the product of no steps
        low, median, high = (np.r_[0, log / np.log(10)] for log in (low, median, high))
        t = np.arange(far + 1)
    shown = np.isfinite(median)
    points = isolated_points(median[shown])
    ax.plot(t[shown], median[shown], linewidth=1.3, **style | points)
    if shown.any() and not shown.all():
        end = t[shown][-1], median[shown][-1]
        ax.plot(*end, "x", color=style["color"], label=ZERO_PRODUCT)
    if len(comparison.seed) > 1:
        # a band has a lower edge where four of five have a product
        floor = np.where(np.isneginf(low), median, low)
        band = {"color": style["color"], "alpha": 0.15, "linewidth": 0}
        ax.fill_between(t[shown], floor[shown], high[shown], **band)


def draw_bands(
    comparisons: Sequence[Comparison],
    names: Sequence[str],
    about: str,
    *,
    step: int | None = None,
    limit: float | None = None,
) -> Shown:
    """Draw medians and bands over many runs, one colour for each comparison.

    names, about: a label for each comparison, and the footer. step: a time step to mark; None: no
    mark. limit: the largest value on the axis of the gradient.
    """
    sizes = [f"{c.networks}, {counted(len(c.seed), 'run')}" for c in comparisons]
    each = [f"{name}: {size}" for name, size in zip(names, sizes, strict=True)]
    each = each if len({*sizes}) > 1 else [f"{sizes[0]} of a network"]
    if len(comparisons) == 1:
        title, names = comparisons[0].finding, [""]
    else:
        title = last_longest(comparisons, names)
    about = "; ".join(filter(None, (about, *each, BANDS)))
    return compose(title, about, *over_time_blocks(comparisons, names, step=step, limit=limit))


def last_longest(comparisons: Sequence[Comparison], names: Sequence[str]) -> str:
    """A title about several networks, which names the network whose gradient shrinks least, or
    grows most.
    """
    near = max(comparison.near for comparison in comparisons)
    return compared_words([comparison.growth for comparison in comparisons], names, near)


def over_time_blocks(
    comparisons: Sequence[Comparison],
    names: Sequence[str],
    *,
    step: int | None = None,
    limit: float | None = None,
    height: float = 2.2,
) -> list[Block]:
    """Panels of all measures over time, with one legend. Below them is the number of runs, if runs
    end at different steps.
    """
    several = any(len(comparison.seed) > 1 for comparison in comparisons)

    def measures(measure: str, ax: Axes) -> None:
        plot_bands(comparisons, measure, ax, names)
        if several:
            ax.fill_between([], [], color=GREY, alpha=0.3, label="10 to 90 % of the runs")
        if step is not None:
            mark_step(ax, step)
        if limit is not None and measure == "log_norm_product":
            set_limit(ax, limit)

    draws = [partial(measures, name) for name in PANELS]
    blocks = [Block(draws, height, len(PANELS), "x", legend=True)]
    if any(len({*comparison.steps.tolist()}) > 1 for comparison in comparisons):
        blocks.append(Block([partial(_plot_counts, comparisons)], 0.9))
    return blocks


def _plot_counts(comparisons: Sequence[Comparison], ax: Axes) -> None:
    """Draw the number of runs that have each step, in the colours of the other panels if it is not
    the same for all comparisons.
    """
    several = len({tuple(comparison.runs_at) for comparison in comparisons}) > 1
    for k, comparison in enumerate(comparisons if several else comparisons[:1]):
        counts, style = comparison.runs_at, line_style(k) if several else {"color": GREY}
        ax.step(np.arange(len(counts)), counts, where="post", **style)
    along, draws = (len({*vars(comparisons[0])[name]}) > 1 for name in ("sequence", "seed"))
    runs = "sequences × seeds" if along and draws else "sequences" if along else "seeds"
    ax.set(ylim=(0, None), ylabel=runs, xlabel=time_label(comparisons[0].unit))
    ax.set_xlim(0, max(comparison.step_count for comparison in comparisons))
    ax.yaxis.set_major_locator(WholeTicks(3))
