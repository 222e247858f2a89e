"""Figures of trainings, without torch: curves over epochs, and perplexity by depth as in figure 5(a) of Zilly et al. (2017).

Every `plot_*` draws into the axes it is given and returns them; every `draw_*` makes a whole figure.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FormatStrFormatter, LogFormatter, MaxNLocator

from rhn.cell_names import CELL_NAMES
from rhn.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY, drawable
from rhn.published import PTB_BY_DEPTH, PTB_WORDS
from rhn.report import Curves, DepthPoint, sizes

COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY)
MARKERS = "osD^vP*"
LABELS = {"perplexity": "perplexity", "bits_per_character": "bits a character", "nll": "nats a frame"}
PUBLISHED = {"rhn": "valid", "rhn, tied": "valid_tied"}  # the paper's series, and where `DepthRow` has them
# our cells of one layer a step: `Cell.deep` says which they are, but needs torch
WITHOUT_DEPTH = {*CELL_NAMES} - {"dt-rnn", "dts-rnn", "rhn"}


def plot_curves(curves: Sequence[Curves], ax: Axes | None = None) -> Axes:
    """Training (dashed) and validation (solid) over epochs, a colour a training; a point at the best epoch."""
    ax = ax or Figure(figsize=(6, 3.4), layout="constrained").subplots()
    for k, c in enumerate(curves):
        colour = COLOURS[k % len(COLOURS)]
        ax.plot(c.epochs, c.train, linestyle="--", linewidth=1, color=colour, alpha=0.7)
        ax.plot(c.epochs, c.valid, linewidth=1.4, color=colour, label=drawable(c.name))
        ax.plot(*c.best, "o", color=colour, markersize=4)
    measure = curves[0].measure
    ax.set(xlabel="epoch", ylabel=LABELS[measure])
    if measure == "perplexity":  # of the first epochs it is many times that of the last
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        ax.yaxis.set_minor_formatter(LogFormatter(labelOnlyBase=False, minor_thresholds=(2, 0.5)))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_title("validation (solid), training with dropout (dashed)", loc="left")
    ax.legend()
    return ax


def plot_learning_rate(curves: Sequence[Curves], ax: Axes | None = None) -> Axes:
    """The learning rate over epochs."""
    ax = ax or Figure(figsize=(6, 1.6), layout="constrained").subplots()
    for k, c in enumerate(curves):
        if c.learning_rate is not None:
            ax.plot(c.epochs, c.learning_rate, linewidth=1.2, color=COLOURS[k % len(COLOURS)], label=drawable(c.name))
    ax.set(xlabel="epoch", ylabel="learning rate", yscale="log")
    return ax


def draw_curves(curves: Sequence[Curves]) -> Figure:
    """Losses, and below them the learning rate where it is known."""
    if all(c.learning_rate is None for c in curves):
        figure = Figure(figsize=(6, 3.4), layout="constrained")
        plot_curves(curves, figure.subplots())
        return figure
    figure = Figure(figsize=(6, 4.8), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    plot_curves(curves, top).set_xlabel("")
    plot_learning_rate(curves, bottom)
    return figure


def plot_depth(points: Sequence[DepthPoint], ax: Axes | None = None) -> Axes:
    """Best validation perplexity by depth: points are seeds, lines their means; cells without depth are horizontal."""
    ax = ax or Figure(figsize=(4.5, 3.4), layout="constrained").subplots()
    series: dict[str, list[DepthPoint]] = {}
    for p in points:
        series.setdefault(_series(p), []).append(p)
    places, legend = list(dict.fromkeys([*PUBLISHED, *series])), []  # the paper's series keep their colours
    for label, members in series.items():
        k = places.index(label)
        colour, marker = COLOURS[k % len(COLOURS)], MARKERS[k % len(MARKERS)]
        means = [float(np.mean(p.valid)) for p in members]
        if members[0].cell in WITHOUT_DEPTH:
            for mean in means:
                words = f"{drawable(label)} ({mean:.1f})"
                legend.append(ax.axhline(mean, linestyle=":", linewidth=1.2, color=colour, label=words))
            continue
        line = {"color": colour, "linewidth": 1.2, "linestyle": "-" if len(members) > 1 else "none"}
        ax.plot([p.depth for p in members], means, **line)
        for p in members:
            ax.plot([p.depth] * len(p.valid), p.valid, marker, markersize=4, color=colour)
        legend.append(Line2D([], [], marker=marker, markersize=4, label=drawable(label), **line))
    _depth_axis(ax, max(p.depth for p in points))
    ax.set_title(f"trained here\n{sizes(points)}", loc="left")
    ax.legend(handles=legend)
    return ax


def plot_published(ax: Axes | None = None) -> Axes:
    """The paper's validation perplexity by depth."""
    ax = ax or Figure(figsize=(4.5, 3.4), layout="constrained").subplots()
    depths = [row.depth for row in PTB_BY_DEPTH]
    for k, (label, name) in enumerate(PUBLISHED.items()):
        values = [getattr(row, name) for row in PTB_BY_DEPTH]
        ax.plot(depths, values, f"{MARKERS[k]}-", color=COLOURS[k], linewidth=1.2, markersize=4, label=label)
    _depth_axis(ax, max(depths))
    units = sorted(row.units for row in PTB_BY_DEPTH)
    ax.set_title(f"Zilly et al. (2017)\n{units[0]:,} to {units[-1]:,} units, {PTB_WORDS:,} words", loc="left")
    ax.legend()
    return ax


def draw_depth(points: Sequence[DepthPoint]) -> Figure:
    """Figure 5(a) of these trainings, beside the paper's: equal heights are equal changes relative to a panel's lowest perplexity."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    axes = plot_depth(points, left), plot_published(right)
    drawn = [np.concatenate([np.asarray(line.get_ydata(), float) for line in ax.lines]) for ax in axes]
    span = max(values.max() / values.min() for values in drawn)
    margin = 0.05 * (span - 1)
    for ax, values in zip(axes, drawn, strict=True):
        ax.set_ylim(values.min() * (1 - margin), values.min() * (span + margin))
    words = f"each vertical axis spans 0 to {100 * (span - 1):.0f} % above the lowest value in its panel"
    figure.supxlabel(words, fontsize=8)
    return figure


def _series(point: DepthPoint) -> str:
    layers = f", {point.layers} layers" if point.layers > 1 else ""
    return f"{point.cell}{', tied' if point.tied else ''}{layers}"


def _depth_axis(ax: Axes, deepest: int) -> None:
    ax.set(xlabel="recurrence depth", ylabel="best validation perplexity", xlim=(0.5, max(deepest, 2) + 0.5))
    ax.set_xticks(range(1, max(deepest, 2) + 1))
