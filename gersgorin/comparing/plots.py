"""Figures of networks side by side, without torch: spectra at one scale, and over time a line a network, with a band where it is of
many runs.

Every `plot_*` draws into the axes it is given and returns them. Lines differ in colour and in style.
"""

import math
import re
import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from gersgorin.comparing.record import BAND, Ensemble
from gersgorin.comparing.words import seeds_of
from gersgorin.plots import DASHED, magnify_spectrum, plot_spectrum, spectrum_limit
from gersgorin.record import SpectrumRecord, time_label
from rhn.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY, drawable

IN_A_ROW = 5  # panels of spectra, at most
COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, "black")
DASHES = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))  # 7 and 4: the first 28 lines differ from each other
LETTERS = 10  # of a figure's title in an inch
PANELS = {  # what each of the panels over time shows, and how its values are written
    "spectral_radius": "spectral radius of a step",
    "reach": "reach of a step's discs from 0",
    "log_norm_product": r"$\log_{10}\,\|\partial y_t/\partial y_0\|$",
    "finite_time_exponent": "exponent (1/step)",
}


def plot_bands(
    ensembles: Sequence[Ensemble], measure: str, ax: Axes | None = None, *, labels: Sequence[str] = ()
) -> Axes:
    """A measure over time: the median of each ensemble, within the band that four of five of its runs keep to.

    A product that is zero ends its line with a cross: its logarithm is minus infinity from there.
    """
    ax = ax or Figure(figsize=(6, 2.5)).subplots()
    scale = np.log(10) if measure == "log_norm_product" else 1.0
    of_products = measure in ("log_norm_product", "finite_time_exponent")
    for k, ensemble in enumerate(ensembles):
        low, median, high = (ensemble.quantile(measure, share) / scale for share in (BAND[0], 0.5, BAND[1]))
        t = np.arange(len(median)) + of_products  # a product is over t steps, all else is of step t
        if measure == "log_norm_product":  # of no steps: the identity
            t, low, median, high = np.r_[0, t], *(np.r_[0, values] for values in (low, median, high))
        shown, label = np.isfinite(median), labels[k] if k < len(labels) else None
        color, dashes = COLOURS[k % len(COLOURS)], DASHES[k % len(DASHES)]
        dot = "." if len(t) == 1 else None
        ax.plot(t[shown], median[shown], color=color, linestyle=dashes, linewidth=1.3, marker=dot, label=label)
        if not shown.all() and shown.any():
            ax.plot(t[shown][-1], median[shown][-1], "x", color=color, markersize=6)
        if len(ensemble.seed) > 1:
            floor = np.where(np.isneginf(low), median, low)  # a band has a lower edge where four of five have a product
            ax.fill_between(t[shown], floor[shown], high[shown], color=color, alpha=0.15, linewidth=0)
    ax.axhline(0 if of_products else 1, **DASHED, linewidth=0.8)
    ax.set(xlim=(0, max(e.norm.shape[1] for e in ensembles)), ylabel=PANELS[measure])
    return ax


def draw_comparison(records: list[SpectrumRecord], *, show_discs: bool = False) -> Figure:
    """Networks side by side on one sequence: spectra of its middle step at one scale, and below them all of them over time."""
    step = len(records[0].norm) // 2
    common, names = told_apart([record.title for record in records])
    rows = math.ceil(len(records) / IN_A_ROW)
    columns = math.ceil(len(records) / rows)
    width = max(9.0, 1.0 + 2.6 * columns)
    titles = [
        f"{wrapped(name, columns)}\nexponent {record.finite_time_exponent[-1]:.3g} a step"
        for name, record in zip(names, records, strict=True)
    ]
    if len({record.which_eigenvalues for record in records}) > 1:  # what one legend cannot say
        titles = [f"{title}\n{record.which_eigenvalues}" for title, record in zip(titles, records, strict=True)]
    heights = (rows * (min(3.4, width / columns) + 0.4) + 0.8, 5.2)
    figure = Figure(figsize=(width, sum(heights)), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.08)  # inches, around each panel
    top, bottom = figure.subfigures(2, 1, height_ratios=heights)
    grid = top.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    limit = spectrum_limit(records)
    for ax, record, title in zip(grid.flat, records, titles, strict=False):
        plot_spectrum(record, step, limit=limit, show_discs=show_discs, ax=ax)
        magnify_spectrum(record, step, ax)
        ax.set_title(title, pad=10)  # above what the magnifying glass says
    for ax in grid.flat[len(records) :]:
        ax.set_axis_off()
    for ax in grid[:, 0]:
        ax.set_ylabel("imaginary part")
    for k in range(columns):
        lowest = grid[(len(records) - 1 - k) // columns, k]
        lowest.set_xlabel("real part")
        lowest.tick_params(labelbottom=True)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    top.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    where = f"on {records[0].along}, spectra at step {step} of {len(records[0].norm)}"
    _title(figure, common, where)
    _over_time([Ensemble.of_record(record) for record in records], names, bottom)
    figure.get_layout_engine().execute(
        figure
    )  # and again when it is drawn: once does not settle panels of a fixed aspect
    return figure


def draw_ensembles(ensembles: list[Ensemble]) -> Figure:
    """Medians and bands over many runs, one colour a kind of network."""
    common, names = told_apart([ensemble.title for ensemble in ensembles])
    figure = Figure(figsize=(11, 6.4), layout="constrained")
    _over_time(ensembles, names if len(ensembles) > 1 else [], figure)
    first = ensembles[0]
    each = " each" * (len(ensembles) > 1)
    about = f"on {first.along}, {seeds_of(first)}: median and middle {BAND[1] - BAND[0]:.0%} of {len(first.seed)} runs{each}"
    _title(figure, common, about)
    return figure


def told_apart(titles: Sequence[str]) -> tuple[str, list[str]]:
    """What titles have in common, and what is left of each. Alone, all of a title is common.

    >>> told_apart(["rhn, depth 1, 64 units", "rhn, depth 5, 64 units"])
    ('rhn, 64 units', ['depth 1', 'depth 5'])
    >>> told_apart(["rhn, depth 5, 64 units", "rnn, 64 units"])
    ('64 units', ['rhn, depth 5', 'rnn'])
    """
    parts = [re.split(r", |: ", drawable(title)) for title in titles]
    shared = [word for word in parts[0] if all(word in words for words in parts)]
    left = [", ".join(word for word in words if word not in shared) for words in parts]
    if len(titles) > 1 and not all(left):
        return "", [", ".join(words) for words in parts]
    return ", ".join(shared), left


def wrapped(name: str, columns: int) -> str:
    """A title in lines that fit a panel; what is too long for three lines loses its end."""
    lines = textwrap.wrap(name, 60 // columns + 12)
    return "\n".join(
        lines[:2] + [textwrap.shorten(" ".join(lines[2:]), 60 // columns + 12, placeholder=" ...")] * (len(lines) > 2)
    )


def _title(figure: Figure, common: str, where: str) -> None:
    """The figure's title, in lines as wide as it."""
    words = ", ".join(filter(None, (common, drawable(where if common else where[0].upper() + where[1:]))))
    figure.suptitle(textwrap.fill(words, int(LETTERS * figure.get_figwidth())), fontsize=11)


def _over_time(ensembles: list[Ensemble], names: list[str], figure: Figure | SubFigure) -> None:
    """All measures on one time axis, with one legend beside them, and how many runs there are where they end at different steps."""
    counted = any(len(set(ensemble.steps)) > 1 for ensemble in ensembles)
    grid = figure.subplots(2 + counted, 2, sharex=True, height_ratios=(1, 1, *[0.35] * counted))
    for ax, measure in zip(grid[:2].T.flat, PANELS, strict=True):
        plot_bands(ensembles, measure, ax, labels=names)
    for ax in grid[2:].flat:
        for counts in {tuple(ensemble.runs_at) for ensemble in ensembles}:
            ax.step(np.arange(len(counts)), counts, where="post", color=GREY)
        ax.set(ylim=(0, None), ylabel="runs")
    for ax in grid[-1]:
        ax.set_xlabel(time_label(ensembles[0].unit))
    handles, labels = grid[0, 0].get_legend_handles_labels()
    crossed = [line for ax in grid.flat for line in ax.lines if line.get_marker() == "x"]
    if crossed:
        handles, labels = [*handles, crossed[0]], [*labels, "zero from here"]
    if handles:
        figure.legend(handles, [wrapped(label, 3) for label in labels], loc="outside right center", handlelength=3)
