"""Medians and bands of networks along many sequences: at each step the median and the 10 to 90 %
band of spectra, discs and products.

Figures for networks side by side: spectra at one scale, measures over time with their bands, and
the plot of any result.

Legend: R runs, each of one network along one sequence; T steps of the longest run. Runs can differ
in length: a statistic of step t is over the runs that have this step.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, zip_longest
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from gersgorin.analyses.spectra import AXES, DISC_WORDS, MEASURES, Spectra
from gersgorin.analyses.steps import gradient_words, measured
from gersgorin.linalg.discs import gersgorin_discs
from gersgorin.linalg.spectrum import eigenvalue_conditions, one_thread
from gersgorin.plotting.run_figure import crowd, plot_crowd, plot_spectrum, spectrum_limit
from gersgorin.run.run import Run, silent
from rhn.errors import InvalidInputError
from rhn.plotting.figure import (
    DASHED,
    GROWTH,
    WIDTH,
    Block,
    Shown,
    WholeTicks,
    compose,
    line_style,
    names_of,
    over_time,
    panels,
    title_of,
)
from rhn.utils.figures import GREY, drawable, drawn, sized, time_label
from rhn.utils.result import Result, rows_of
from rhn.utils.wording import counted

# of each step, named as in `Spectra`
KEPT = ("spectral_radius", "norm", "reach", "log_norm_product")
TABULATED = (*KEPT, "finite_time_exponent")
ABOUT = ("cell", "depth", "hidden_size", "title", "along", "unit", "discs", "about")
BAND = (0.1, 0.9)  # quantiles: four of five runs are between
COLUMNS = {"median": 0.5, "10 %": BAND[0], "90 %": BAND[1], "least": 0.0, "largest": 1.0}
BANDS = "medians and 10 to 90 % bands"
IN_A_ROW = 4  # panels of spectra, at most
DECADES = 1.5  # range of values from which an axis is logarithmic
PANELS = {  # measures over time, and the labels of their axes
    "spectral_radius": "Spectral radius of a step",
    "reach": "Farthest point of the discs from 0",
    "log_norm_product": GROWTH.capitalize(),
    "finite_time_exponent": "Exponent (1/step)",
}


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Comparison(Result, kind="comparison"):
    """R runs step by step: arrays (R, T), NaN after the end of a run."""

    cell: str
    depth: int
    hidden_size: int
    along: str
    """The sequences: "chorale bwv269", "20 chorales"."""
    unit: str
    """Of one step: "quarter notes"."""
    discs: str
    """Discs that `reach` is about: "row", "column" or "both"."""
    sequence: np.ndarray
    """Name of the sequence of each run, (R,)."""
    seed: np.ndarray
    """Network of each run, (R,): the seed of its first weights, or its place among the networks."""
    spectral_radius: np.ndarray
    """(R, T)"""
    norm: np.ndarray
    """2-norm of each step's Jacobian, (R, T)."""
    reach: np.ndarray
    """Largest distance of a point of the discs from 0, (R, T)."""
    log_norm_product: np.ndarray
    """log ||dy[t+1]/dy[0]||_2, (R, T)."""

    @property
    def steps(self) -> np.ndarray:
        """Number of steps of each run, (R,)."""
        return (~np.isnan(self.norm)).sum(1)

    @property
    def runs_at(self) -> np.ndarray:
        """Number of runs that have step t, (T,)."""
        return (~np.isnan(self.norm)).sum(0)

    @property
    def finite_time_exponent(self) -> np.ndarray:
        """log ||dy[t+1]/dy[0]||_2 / (t + 1), (R, T)."""
        return self.log_norm_product / np.arange(1, self.norm.shape[1] + 1)

    @property
    def last_exponent(self) -> np.ndarray:
        """Exponent of each run at its last step, (R,)."""
        return self.finite_time_exponent[np.arange(len(self.steps)), self.steps - 1]

    def quantile(self, name: str, share: float) -> np.ndarray:
        """Quantile of a measure of `TABULATED` over the runs at each step, (T,); 0.5 is the median,
        0 and 1 are the extremes.
        """
        return np.array(
            [quantile(column[~np.isnan(column)], share) for column in getattr(self, name).T]
        )

    def table(self) -> list[dict]:
        """One row a step: the number of runs, and for each measure median, band and extremes."""
        shares = {"median": 0.5, "p10": BAND[0], "p90": BAND[1], "min": 0.0, "max": 1.0}
        quantiles = {
            name: {key: self.quantile(name, q) for key, q in shares.items()} for name in TABULATED
        }
        return rows_of(step=range(len(self.runs_at)), runs=self.runs_at, **quantiles)

    def to_dict(self) -> dict[str, Any]:
        """Names, one entry for each run, and the rows of the table."""
        runs = rows_of(
            sequence=self.sequence, seed=self.seed, steps=self.steps, exponent=self.last_exponent
        )
        return {name: vars(self)[name] for name in ABOUT} | {"runs": runs} | self.derived()

    def derived(self) -> dict[str, Any]:
        """The rows of the table, which files in JSON hold too."""
        return {"steps": self.table()}

    def sentences(self) -> Iterator[str]:
        """The number of runs that grow."""
        R = len(self.seed)
        reach, radius = (
            int((np.nanmax(values, 1) > 1).sum()) for values in (self.reach, self.spectral_radius)
        )
        growing, discs = (self.last_exponent > 0).sum(), DISC_WORDS[self.discs]
        yield (
            f"Of {counted(R, 'run')} the gradient's norm grows in {growing}, the {discs} would "
            f"allow growth in {reach}, an eigenvalue "
            f"leaves the unit circle in {radius}."
        )

    def lines(self) -> Iterator[str]:
        """Each quantity's median, band and extremes over the runs."""
        steps, runs = sorted(self.steps.tolist()), counted(len(self.seed), "run")
        lengths = (
            f"{steps[0]} to {steps[-1]} steps"
            if steps[0] < steps[-1]
            else counted(steps[0], "step")
        )
        heads = "".join(f"{name:>11}" for name in COLUMNS)
        yield (
            f"{self.along}, {self.networks}, {runs} of {lengths}, "
            f"{DISC_WORDS[self.discs]}\n{'of each run the mean':<26}{heads}"
        )
        means = {
            MEASURES[name]: np.nanmean(getattr(self, name), 1)
            for name in ("spectral_radius", "norm", "reach")
        }
        for label, values in (means | {"exponent at its last step": self.last_exponent}).items():
            yield f"{label:<26}" + "".join(
                f"{quantile(values, share):>11.4g}" for share in COLUMNS.values()
            )

    @panels(6, 3.0, lambda self: f"{self.title or 'networks'}, {self.along}: {BANDS}")
    def plot(self, ax: Axes) -> Axes:
        """The norm of the products over time: median and band."""
        return plot_bands([self], "log_norm_product", ax)

    def figure(self) -> Shown:
        """All measures: median and band."""
        return draw_bands([self])

    @property
    def networks(self) -> str:
        """The number of networks: "5 seeds"."""
        return counted(len(set(self.seed.tolist())), "seed")


def quantile(values: np.ndarray, share: float) -> float:
    """Linear between the sorted values, as `numpy.quantile`; but half way to minus infinity is
    minus infinity instead of NaN. Of no values it is NaN.

    >>> quantile(np.array([3.0, 1.0, 2.0, 10.0]), 0.5)
    2.5
    >>> quantile(np.array([-np.inf, -np.inf, 0.0]), 0.25)
    -inf
    """
    if not len(values):
        return math.nan
    place = share * (len(values) - 1)
    lower, upper = np.sort(values)[[int(np.floor(place)), int(np.ceil(place))]]
    return float(lower if np.isinf(lower) else lower + place % 1 * (upper - lower))


def compare_runs(
    runs: Iterable[tuple[int, Run]],
    *,
    along: str,
    about: str = "",
    discs: str = "row",
    progress: Callable[[int], None] = lambda done: None,
) -> Comparison:
    """Measure runs, opened one by one, each with the number of its network.

    along, about: all sequences, and the origin of the networks and sequences, in words. Raises
    InvalidInputError if there is no run.
    """
    seeds, labels, found = [], [], []
    for seed, run in runs:
        seeds.append(seed)
        labels.append(run.label)
        found.append(measure_run(run, discs))
        progress(len(found))
    if not found:
        raise InvalidInputError(
            "there is nothing to run: expected at least one network and one sequence"
        )
    fields: dict[str, Any] = {
        "title": labels[0].title,
        "unit": labels[0].unit,
        "cell": labels[0].name,
    }
    fields |= {"depth": run.depth, "hidden_size": run.hidden_size}
    fields |= {"sequence": np.array([label.sequence for label in labels]), "seed": np.array(seeds)}
    steps = {
        name: zip_longest(*(measures[name] for measures in found), fillvalue=math.nan)
        for name in KEPT
    }
    fields |= {name: np.array([*zip(*values, strict=True)]) for name, values in steps.items()}
    return Comparison(along=along, about=about, discs=discs, **fields)


@torch.no_grad()
@one_thread()
def measure_run(run: Run, discs: str) -> dict[str, np.ndarray]:
    """The measures of `KEPT` of a run, (T,) each, with the numbers of `gersgorin.spectra`. Raises
    InvalidInputError as there.
    """

    def measure(A: Tensor) -> dict[str, Tensor]:
        reach = torch.stack([gersgorin_discs(A, axis=axis).norm for axis in AXES[discs]]).amin(0)
        # the solver of `spectra`, for the same last digits
        leading = eigenvalue_conditions(A)[0][:, 0]
        return {"spectral_radius": leading, "norm": torch.linalg.matrix_norm(A, 2), "reach": reach}

    found = measured(run.require_finite(), measure, silent)
    return found | {"spectral_radius": np.abs(found["spectral_radius"])}


def plot_bands(
    comparisons: Sequence[Comparison], measure: str, ax: Axes, names: Sequence[str] = ()
) -> Axes:
    """Draw a measure of `PANELS` over time: the median of each comparison, within the 10 to 90 %
    band of its runs.

    The line of a product that is zero ends with a cross, because its logarithm is minus infinity.
    names: for the legend.
    """
    scale = np.log(10) if measure == "log_norm_product" else 1.0
    of_products = measure in ("log_norm_product", "finite_time_exponent")
    for k, comparison in enumerate(comparisons):
        # beyond, the rest of the runs says little
        far = int((2 * comparison.runs_at >= len(comparison.seed)).sum())
        low, median, high = (
            comparison.quantile(measure, share)[:far] / scale for share in (BAND[0], 0.5, BAND[1])
        )
        t = np.arange(len(median)) + of_products  # a product is over t steps, all else is of step t
        if measure == "log_norm_product":  # of no steps: the identity
            t, low, median, high = (
                np.r_[0, t],
                *(np.r_[0, values] for values in (low, median, high)),
            )
        shown, style = np.isfinite(median), line_style(k)
        label = drawable(names[k]) if names and names[k] else None
        ax.plot(
            t[shown],
            median[shown],
            linewidth=1.3,
            marker="." if len(t) == 1 else None,
            label=label,
            **style,
        )
        if not shown.all() and shown.any():
            ax.plot(
                t[shown][-1],
                median[shown][-1],
                "x",
                color=style["color"],
                label="the product is zero from here",
            )
        if len(comparison.seed) > 1:
            # a band has a lower edge where four of five have a product
            floor = np.where(np.isneginf(low), median, low)
            ax.fill_between(
                t[shown], floor[shown], high[shown], color=style["color"], alpha=0.15, linewidth=0
            )
    values = np.concatenate([np.asarray(line.get_ydata(), float) for line in ax.lines])
    ax.axhline(0 if of_products else 1, **DASHED, linewidth=0.8)
    if not of_products and 0 < values.min(initial=np.inf) < values.max(initial=0) * 10**-DECADES:
        ax.set_yscale("log")
    ax.set_title(PANELS[measure])
    return over_time(ax, max(c.norm.shape[1] for c in comparisons), comparisons[0].unit, "")


@drawn
def draw_comparison(records: Sequence[Spectra]) -> Shown:
    """Networks side by side on one sequence: spectra of its middle step at one scale, enlarged if
    they are small, and measures over time.
    """
    T, (common, same, names) = min(len(record.norm) for record in records), names_of(records)
    limit = spectrum_limit(records, step := T // 2)
    middles, halves = np.abs([crowd(record.eigenvalues) for record in records]).T
    half, circle = halves.max(), 1.05 + middles.max()
    # no part of a unit circle that nearly fits
    half = circle if circle / 2 < half < circle else half

    def whole(record: Spectra, name: str, ax: Axes) -> None:
        plot_spectrum(record, step, limit=limit, ax=ax)
        ax.set_title(
            "\n".join(
                filter(None, (drawable(name), record.which_eigenvalues * bool(record.leading)))
            )
        )

    def enlarged(record: Spectra, name: str, ax: Axes) -> None:
        words = f"{limit / half:.3g} times larger", "" if pairs else drawable(name)
        plot_crowd(record, step, ax, half).set_title(": ".join(filter(None, words)))

    # which has no room for four enlargements
    small, column = bool(0 < half < limit / 2), sized(WIDTH) < WIDTH / 2
    zoomed = small and len(records) <= IN_A_ROW - column
    slide = sized(WIDTH) > 1.5 * WIDTH
    # a network beside its enlargement; on a slide all in a row
    pairs = zoomed and (slide or sized(WIDTH) < WIDTH)
    kinds, of_all = [whole, enlarged][: 1 + zoomed], list(zip(records, names, strict=True))
    rows = [[partial(kind, *each) for each in of_all] for kind in kinds]
    together = [*chain(*zip(*rows, strict=True))]
    if pairs and slide:
        spectra = Block(together, 1.9, len(together), legend=True, least=1.0)
    elif pairs:
        spectra = Block(together, min(1.9, 5.5 / len(records)), 2, legend=True)
    else:
        spectra = Block(
            [*chain(*rows)], min(2.6, 1.5 + sized(9) / 8), min(len(records), IN_A_ROW), legend=True
        )
    runs = []
    for record in records:
        fields = {name: getattr(record, name) for name in ABOUT} | {
            name: getattr(record, name)[None] for name in KEPT
        }
        runs.append(Comparison(sequence=np.array([record.chorale]), seed=np.array([0]), **fields))
    which = f"spectra of step {step} of 0 to {T - 1}" + (
        ", grey: all steps" if zoomed else ", enlarged in a figure of a page" * small
    )
    about = "; ".join(filter(None, (which, same)))
    least = 0.6 if len(records) <= IN_A_ROW else 0.8
    return compose(
        _finding(runs, common, names), about, spectra, *_over_time(runs, names), squeezed=least
    )


@drawn
def draw_bands(comparisons: Sequence[Comparison]) -> Shown:
    """Medians and bands over many runs, one colour for each comparison."""
    common, same, names = names_of(comparisons)
    sizes = "; ".join(
        dict.fromkeys(f"{c.networks}, {counted(len(c.seed), 'run')}" for c in comparisons)
    )
    runs = f"{sizes} of a network: {BANDS}, as far as half of them go"
    about = "; ".join(filter(None, (runs, same)))
    return compose(_finding(comparisons, common, names), about, *_over_time(comparisons, names))


def _finding(comparisons: Sequence[Comparison], network: str, names: Sequence[str]) -> str:
    """The title: how gradients change in up to three networks, or in the extremes of more; of one
    in how many runs they grow.
    """
    if len(comparisons) == 1:
        grow = (comparisons[0].last_exponent > 0).sum()
        words = f"gradients grow in {grow} of {counted(len(comparisons[0].seed), 'run')}"
    else:
        order = np.argsort([quantile(comparison.last_exponent, 0.5) for comparison in comparisons])
        ends = [(order[0], "lowest: "), (order[-1], "highest: ")]
        shown = ends if len(names) >= IN_A_ROW else [(k, "") for k in range(len(names))]
        parts = [f"{_growth(comparisons[k])} ({end}{names[k]})" for k, end in shown]
        words = ", ".join(
            [parts[0], *(part.removeprefix("the gradient's norm ") for part in parts[1:])]
        )
    return title_of(network, f"on {comparisons[0].along} {words}")


def _growth(comparison: Comparison) -> str:
    """The growth of the gradient in words, as far as all runs go."""
    several, shortest = len(set(comparison.steps)) > 1, comparison.steps.min()
    norms = comparison.quantile("log_norm_product", 0.5)[:shortest]
    words = gradient_words(norms) + " in the median" * (len(comparison.seed) > 1)
    return words + f" of the first {counted(shortest, 'step')}" * several


@drawn
def draw_results(results: Sequence[Result], along: str) -> Shown:
    """The plot of each result in its own panel, all with the same limits; along: the sequence, for
    the title of the figure.
    """
    common, same, names = names_of(results)

    def one(result: Result, name: str, ax: Axes) -> None:
        # the title of the figure has the sequence
        words = name.replace(f" on {along}", ""), result.finding
        result.plot(ax).set_title(drawable(": ".join(filter(None, words))))
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            if label.startswith(drawable(result.title)):  # the panel has a title
                handle.set_label("")

    draws = [partial(one, *row) for row in zip(results, names, strict=True)]
    columns = min(len(draws), IN_A_ROW - 1)
    words = results[0].kind.replace("_", " ").replace("lyapunov", "Lyapunov exponents")
    figure = compose(
        title_of(common, f"{words} on {along}"),
        same,
        Block(draws, 3.0, columns, legend=True),
    )
    shown = figure.axes[: len(draws)]
    x, y = (np.array([getattr(ax, f"get_{axis}lim")() for ax in shown]) for axis in "xy")
    for ax in shown:
        ax.set(xlim=(x.min(), x.max()), ylim=(y.min(), y.max()))
    return figure


def _over_time(comparisons: Sequence[Comparison], names: Sequence[str]) -> list[Block]:
    """All measures over time, with one legend; below them the number of runs if they end at
    different steps.
    """

    def measures(measure: str, ax: Axes) -> None:
        plot_bands(comparisons, measure, ax, names)
        if any(len(comparison.seed) > 1 for comparison in comparisons):
            ax.fill_between([], [], color=GREY, alpha=0.3, label="10 to 90 % of the runs")

    def runs(ax: Axes) -> None:
        for counts in {tuple(comparison.runs_at) for comparison in comparisons}:
            ax.step(np.arange(len(counts)), counts, where="post", color=GREY)
        ax.set(
            xlim=(0, len(counts)),
            ylim=(0, None),
            ylabel="runs",
            xlabel=time_label(comparisons[0].unit),
        )
        ax.yaxis.set_major_locator(WholeTicks(3))

    blocks = [Block([partial(measures, name) for name in PANELS], 2.0, 2, "x", legend=True)]
    return blocks + [Block([runs], 0.9)] * any(
        len(set(comparison.steps)) > 1 for comparison in comparisons
    )
