"""Draw networks side by side: spectra at one scale, measures over time with their bands, and the plot of any result.

Lines differ in colour and in dashes.
"""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from gersgorin.analyses.spectra import Spectra
from gersgorin.comparison.runs import ABOUT, BANDS, KEPT, PANELS, Comparison, plot_bands
from gersgorin.plotting.figure import (
    Shown,
    as_list,
    entitle,
    folded,
    legend_below,
    names_of,
    wrapped,
)
from gersgorin.plotting.spectra import plot_spectrum, spectrum_limit
from rhn.utils.figures import GREY, drawable, our_style, time_label
from rhn.utils.result import Result

IN_A_ROW = 4  # panels of spectra, at most


@our_style()
def draw_comparison(records: Spectra | Sequence[Spectra]) -> Shown:
    """Networks side by side on one sequence: spectra of its middle step at one scale, and below them their measures over time."""
    records = as_list(records)
    T, limit = len(records[0].norm), spectrum_limit(records)
    step, named = T // 2, names_of(records)
    rows, columns = _grid(len(records), IN_A_ROW)
    width = max(9.0, 1.0 + 2.6 * columns)
    heights = (rows * (min(2.5, width / columns) + 0.6) + 0.6, 5.2)
    figure = Shown(figsize=(width, sum(heights) + 0.4), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=heights)
    axes = _axes(top, rows, columns, len(records))
    for k, (ax, record, name) in enumerate(zip(axes, records, named.names, strict=True)):
        exponent = f"exponent {record.finite_time_exponent[-1]:.3g} a step"
        lines = [wrapped(name, 60 // columns + 12), exponent, *[record.which_eigenvalues] * bool(record.leading)]
        plot_spectrum(record, step, limit=limit, ax=ax).set_title("\n".join(filter(None, lines)))
        ax.set(xlabel="real part", ylabel="imaginary part" if k % columns == 0 else "")
    legend_below(top, axes, columns=8)
    _over_time([_one_run(record) for record in records], named.names, bottom)
    return entitle(figure, named, f"on {records[0].along}: spectra of step {step} of 0 to {T - 1} at one scale")


def _one_run(record: Spectra) -> Comparison:
    """The comparison of the one run of these spectra."""
    tables = {name: getattr(record, name)[None] for name in KEPT}
    about = {name: getattr(record, name) for name in ABOUT}
    return Comparison(sequence=np.array([record.chorale]), seed=np.array([0]), **tables, **about)


@our_style()
def draw_bands(comparisons: Comparison | Sequence[Comparison]) -> Shown:
    """Medians and bands over many runs, one colour for each comparison."""
    comparisons = as_list(comparisons)
    named, first = names_of(comparisons), comparisons[0]
    figure = Shown(figsize=(11, 6.8), layout="constrained")
    _over_time(comparisons, named.names, figure)
    each = " each" * (len(comparisons) > 1)
    runs = f"{len(first.seed)} runs{each}: {BANDS}" if len(first.seed) > 1 else "1 run"
    return entitle(figure, named, f"on {first.along}, {first.networks}, {runs}")


@our_style()
def draw_results(results: Sequence[Result], along: str) -> Shown:
    """The plot of each result in its own panel, all with the same limits; along: the sequence, for the title of the figure."""
    named = names_of(results)
    rows, columns = _grid(len(results), IN_A_ROW - 1)
    figure = Shown(figsize=(max(6.0, 4.2 * columns), 3.6 * rows + 1), layout="constrained")
    panels = [result.plot(ax) for result, ax in zip(results, _axes(figure, rows, columns, len(results)), strict=True)]
    for result, ax, name in zip(results, panels, named.names, strict=True):
        ax.set_title(wrapped(name, 40))
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            if label == drawable(result.title):  # the panel has a title
                handle.set_label("")
    for axis in ("x", "y"):
        ends = np.array([getattr(ax, f"get_{axis}lim")() for ax in panels])
        if (ends[:, 0] < ends[:, 1]).all():
            for ax in panels:
                ax.set(**{f"{axis}lim": (ends[:, 0].min(), ends[:, 1].max())})
    legend_below(figure, panels)
    return entitle(figure, named, f"on {along}")


def _grid(count: int, most: int) -> tuple[int, int]:
    """(Rows, columns) of a few rows of equal length, at most so many panels in each."""
    rows = math.ceil(count / most)
    return rows, math.ceil(count / rows)


def _axes(figure: Figure | SubFigure, rows: int, columns: int, count: int) -> list[Axes]:
    """The first `count` axes of a grid, the others empty."""
    grid = figure.subplots(rows, columns, squeeze=False).flat
    for ax in grid[count:]:
        ax.set_axis_off()
    return list(grid[:count])


def _over_time(comparisons: list[Comparison], names: list[str], figure: Figure | SubFigure) -> None:
    """All measures on one time axis, with one legend; below them the number of runs if they end at different steps."""
    counted = any(len(set(comparison.steps)) > 1 for comparison in comparisons)
    grid = figure.subplots(2 + counted, 2, sharex=True, height_ratios=(1, 1, *[0.35] * counted))
    for ax, measure in zip(grid[:2].T.flat, PANELS, strict=True):
        plot_bands(comparisons, measure, ax, names)
    for ax in grid[2:].flat:
        for counts in {tuple(comparison.runs_at) for comparison in comparisons}:
            ax.step(np.arange(len(counts)), counts, where="post", color=GREY)
        ax.set(ylim=(0, None), ylabel="runs", xlabel=time_label(comparisons[0].unit))
        ax.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    handles, labels = grid[0, 0].get_legend_handles_labels()
    if any(len(comparison.seed) > 1 for comparison in comparisons):
        handles, labels = [*handles, Patch(color=GREY, alpha=0.3)], [*labels, "four of five runs"]
    if crossed := [line for ax in grid.flat for line in ax.lines if line.get_marker() == "x"]:
        handles, labels = [*handles, crossed[0]], [*labels, "the product is zero from here"]
    if handles:
        figure.legend(handles, [folded(label, 26) for label in labels], loc="outside right center", handlelength=3)
