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
from gersgorin.comparison.runs import BANDS, PANELS, Comparison, plot_bands
from gersgorin.plotting.figure import Shown, as_list, entitle, folded, legend_below, names_of, told_apart, wrapped
from gersgorin.plotting.spectra import crowd, plot_crowd, plot_spectrum, spectrum_limit
from rhn.utils.figures import GREY, drawable, our_style, time_label
from rhn.utils.result import Result

IN_A_ROW = 4  # panels of spectra, at most


@our_style()
def draw_comparison(records: Spectra | Sequence[Spectra]) -> Shown:
    """Networks side by side on one sequence: spectra of its middle step at one scale, and below them their measures over time.

    Spectra much smaller than that scale are also enlarged.
    """
    records = as_list(records)
    T, limit = len(records[0].norm), spectrum_limit(records)
    step, named = T // 2, names_of(records)
    crowded = any(crowd(record.eigenvalues[step], limit) for record in records)
    rows = math.ceil(len(records) / IN_A_ROW)
    columns = math.ceil(len(records) / rows)
    width = max(9.0, 1.0 + 2.6 * columns)
    heights = (rows * (1 + crowded) * (min(2.5, width / columns) + 0.6) + 0.6, 5.2)
    figure = Shown(figsize=(width, sum(heights) + 0.4), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=heights)
    grid = top.subplots(rows * (1 + crowded), columns, squeeze=False)
    for ax in grid[-1 - crowded :, len(records) - columns * (rows - 1) :].flat:  # empty places
        ax.set_axis_off()
    for k, (record, name) in enumerate(zip(records, named.names, strict=True)):
        row, column = divmod(k, columns)
        ax, *larger = grid[row * (1 + crowded) : (row + 1) * (1 + crowded), column]
        plot_spectrum(record, step, limit=limit, ax=ax).set_title(_panel_title(record, name, columns))
        for panel in larger:
            plot_crowd(record, step, ax, panel)
        for panel in (ax, *larger):
            panel.set(xlabel="real part", ylabel="imaginary part" if column == 0 else "")
    legend_below(top, grid.flat, columns=8)
    more = ", and enlarged" if crowded else ""
    _over_time([Comparison.of_spectra(record) for record in records], named.names, bottom)
    return entitle(figure, named, f"on {records[0].along}: spectra of step {step} of 0 to {T - 1} at one scale{more}")


@our_style()
def draw_bands(comparisons: Comparison | Sequence[Comparison]) -> Shown:
    """Medians and bands over many runs, one colour for each comparison."""
    comparisons = as_list(comparisons)
    named, first = names_of(comparisons), comparisons[0]
    figure, several = Shown(figsize=(11, 6.8), layout="constrained"), len(comparisons) > 1
    _over_time(comparisons, named.names if several else [], figure)
    runs = f"{len(first.seed)} runs{' each' * several}: {BANDS}" if len(first.seed) > 1 else "1 run"
    return entitle(figure, named, f"on {first.along}, {first.networks}, {runs}")


@our_style()
def draw_results(results: Sequence[Result], titles: Sequence[str], along: str) -> Shown:
    """The plot of each result in its own panel, all with the same limits.

    titles: of the networks; along: the sequence, for the title of the figure.
    """
    named = told_apart(titles, [result.about for result in results])
    columns = math.ceil(len(results) / math.ceil(len(results) / (IN_A_ROW - 1)))
    rows = math.ceil(len(results) / columns)
    figure = Shown(figsize=(max(6.0, 4.2 * columns), 3.6 * rows + 1), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    panels = [result.plot(ax) for result, ax in zip(results, axes, strict=False)]
    for result, ax in zip(results, panels, strict=True):
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            if label == drawable(result.title):  # the panel has a title
                handle.set_label("")
    for ax in axes[len(results) :]:
        ax.set_axis_off()
    for ax, name in zip(panels, named.names, strict=True):
        ax.set_title(wrapped(name, 40))
    for get, change in ((Axes.get_xlim, Axes.set_xlim), (Axes.get_ylim, Axes.set_ylim)):
        ends = np.array([get(ax) for ax in panels])
        if (ends[:, 0] < ends[:, 1]).all():
            for ax in panels:
                change(ax, ends[:, 0].min(), ends[:, 1].max())
    legend_below(figure, panels)
    return entitle(figure, named, f"on {along}")


def _panel_title(record: Spectra, name: str, columns: int) -> str:
    exponent = f"exponent {record.finite_time_exponent[-1]:.3g} a step"
    leading = [record.which_eigenvalues] * bool(record.leading)
    return "\n".join([*filter(None, [wrapped(name, 60 // columns + 12)]), exponent, *leading])


def _over_time(comparisons: list[Comparison], names: list[str], figure: Figure | SubFigure) -> None:
    """All measures on one time axis, with one legend; below them the number of runs if they end at different steps."""
    counted = any(len(set(comparison.steps)) > 1 for comparison in comparisons)
    grid = figure.subplots(2 + counted, 2, sharex=True, height_ratios=(1, 1, *[0.35] * counted))
    for ax, measure in zip(grid[:2].T.flat, PANELS, strict=True):
        plot_bands(comparisons, measure, ax, labels=names)
    for ax in grid[2:].flat:
        for counts in {tuple(comparison.runs_at) for comparison in comparisons}:
            ax.step(np.arange(len(counts)), counts, where="post", color=GREY)
        ax.set(ylim=(0, None), ylabel="runs")
        ax.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    for ax in grid[-1]:
        ax.set_xlabel(time_label(comparisons[0].unit))
    handles, labels = grid[0, 0].get_legend_handles_labels()
    banded = any(len(comparison.seed) > 1 for comparison in comparisons)
    if banded:
        handles, labels = [*handles, Patch(color=GREY, alpha=0.3)], [*labels, "four of five runs"]
    crossed = [line for ax in grid.flat for line in ax.lines if line.get_marker() == "x"]
    if crossed:
        handles, labels = [*handles, crossed[0]], [*labels, "the product is zero from here"]
    if handles:
        figure.legend(handles, [folded(label, 26) for label in labels], loc="outside right center", handlelength=3)
