"""Draw trainings, without torch: curves over epochs, and perplexity by depth as in figure 5(a) of Zilly et al. (2017).

Every `plot_*` draws into the axes it is given and returns them; every `draw_*` makes a whole figure.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from rhn.cells.registry import lacking
from rhn.plotting.provenance import shared
from rhn.plotting.runs import Curves, sizes
from rhn.presets import PTB_BY_DEPTH, PTB_WORDS
from rhn.utils.figures import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    drawable,
    in_inches,
    legend_columns,
    plain_log_ticks,
    titled,
)
from rhn.utils.wording import counted

COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY)
MARKERS = "osD^vP*"
NAME_INCHES = 2.2  # of a name in a legend
LABELS = {"perplexity": "perplexity", "bits_per_character": "bits a character", "nll": "nats a frame"}
PUBLISHED = {"rhn": "valid", "rhn, tied": "valid_tied"}  # the paper's series, and their fields of `DepthRow`


def plot_curves(curves: Sequence[Curves], ax: Axes | None = None) -> Axes:
    """Training (dashed) and validation (solid) over epochs on a logarithmic axis, a symbol a training, large at its best epoch.

    Losses before training, at epoch 0, are drawn only if there are no others: they would take most of the axis.
    """
    ax = ax or Figure(figsize=(8, _height(curves)), layout="constrained").subplots()
    handles = [Line2D([], [], color=GREY, linewidth=1.4, label="validation; large symbol: its best epoch")]
    handles.append(Line2D([], [], color=GREY, linewidth=1, linestyle="--", label="training, with its dropout"))
    networks = {c.network for c in curves}
    for k, c in enumerate(curves):
        drawn = c.epochs >= min(1, c.epochs[-1])
        colour, marker = COLOURS[k % len(COLOURS)], MARKERS[k % len(MARKERS)]
        dot = "." if drawn.sum() == 1 else ""  # a line needs two epochs
        ax.plot(c.epochs[drawn], c.train[drawn], linestyle="--", linewidth=1, color=colour, alpha=0.7, marker=dot,
                label=f"{c.name}, training")  # fmt: skip
        few = {"marker": marker, "markersize": 3, "markevery": max(1, int(drawn.sum()) // 8)}
        ax.plot(c.epochs[drawn], c.valid[drawn], linewidth=1.4, color=colour, label=f"{c.name}, validation", **few)
        ax.plot(*c.best, marker, color=colour, markersize=7)
        epoch, best = c.best
        names = [c.name, c.network] if len(networks) > 1 and c.network else [c.name]
        label = "\n".join([*(in_inches(name, NAME_INCHES, 8) for name in names), f"{best:.4g} at epoch {epoch}"])
        handles.append(Line2D([], [], color=colour, linewidth=1.4, marker=marker, markersize=5, label=label))
    ax.set(xlabel="epoch", ylabel=LABELS[curves[0].measure])
    if min(np.nanmin(np.append(c.train, c.valid)) for c in curves) > 0:
        ax.set_yscale("log")
        plain_log_ticks(ax.yaxis)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(1, 1))
    return ax


def plot_learning_rate(curves: Sequence[Curves], ax: Axes | None = None) -> Axes:
    """The learning rate over epochs."""
    ax = ax or Figure(figsize=(6, 1.8), layout="constrained").subplots()
    for k, c in enumerate(curves):
        if c.learning_rate is not None:
            dot = "." if len(c.epochs) == 1 else ""
            ax.plot(c.epochs, c.learning_rate, linewidth=1.2, color=COLOURS[k % len(COLOURS)], marker=dot)
    ax.set(xlabel="epoch", ylabel="learning rate", yscale="log")
    plain_log_ticks(ax.yaxis)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return ax


def draw_curves(curves: Sequence[Curves]) -> Figure:
    """Losses and, below them, the learning rate if it changes; the title has the facts that the trainings share."""
    rates = any(c.learning_rate is not None for c in curves)
    figure = Figure(figsize=(8, _height(curves) + 1.6 * rates), layout="constrained")
    networks = list(dict.fromkeys(c.network for c in curves))
    what = networks[0] if len(networks) == 1 and networks[0] else counted(len(curves), "training")
    titled(figure, f"Training curves: {drawable(what)}", drawable(shared([c.facts for c in curves])))
    if not rates:
        plot_curves(curves, figure.subplots())
        return figure
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    plot_curves(curves, top).set_xlabel("")
    plot_learning_rate(curves, bottom)
    return figure


def _height(curves: Sequence[Curves]) -> float:
    """Inches for the legend, at least those of a figure."""
    several = len({c.network for c in curves}) > 1
    lines = sum(2 + len(c.name) // 24 + several * (1 + len(c.network) // 24) for c in curves)
    return max(4.0, 1.6 + 0.16 * (lines + 2))


def plot_depth(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Best validation perplexity by depth: points are seeds, lines their means; cells without depth are horizontal.

    table: from `rhn.plotting.runs.read_depth`.
    """
    ax = ax or Figure(figsize=(4.5, 3.4), layout="constrained").subplots()
    series = table.groupby(_series(table), sort=False)
    labels, legend = list(dict.fromkeys([*PUBLISHED, *series.groups])), []  # the paper's series keep their colours
    for label, members in series:
        k = labels.index(label)
        colour, marker = COLOURS[k % len(COLOURS)], MARKERS[k % len(MARKERS)]
        means = members.groupby(["run", "depth"], sort=False).valid_perplexity.mean()
        if "depth" in lacking(members.cell.iloc[0]):
            for mean in means:
                words = f"{in_inches(label, NAME_INCHES, 8)} ({mean:.1f})"
                legend.append(ax.axhline(mean, linestyle=":", linewidth=1.2, color=colour, label=words))
            continue
        line = {"color": colour, "linewidth": 1.2, "linestyle": "-" if len(means) > 1 else "none"}
        ax.plot(means.index.get_level_values("depth"), means, **line)
        ax.plot(members.depth, members.valid_perplexity, marker, markersize=4, color=colour)
        legend.append(Line2D([], [], marker=marker, markersize=4, label=in_inches(label, NAME_INCHES, 8), **line))
    _depth_axis(ax, table.depth.max())
    ax.set_title(f"trained here: {sizes(table)}", loc="left", wrap=True)
    _legend_below(ax, legend)
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
    ax.set_title(f"Zilly et al. (2017): {units[0]:,} to {units[-1]:,} units, {PTB_WORDS:,} words", loc="left")
    _legend_below(ax, ax.get_legend_handles_labels()[0])
    return ax


def draw_depth(table: pd.DataFrame) -> Figure:
    """Figure 5(a) of these trainings, beside the paper's: equal heights are equal changes relative to a panel's lowest perplexity."""
    across = ["depth" in lacking(cell) and run for cell, run in zip(table.cell, table.run, strict=True)]
    entries = len({*zip(_series(table), across, strict=True)})
    figure = Figure(figsize=(10, 4.4 + 0.2 * entries), layout="constrained")
    about = f"Penn Treebank; at most {counted(table.epochs.max(), 'epoch')}; trained here: symbols are seeds, lines their means"
    titled(figure, "Best validation perplexity by recurrence depth", about)
    left, right = figure.subplots(1, 2)
    axes = plot_depth(table, left), plot_published(right)
    drawn = [np.concatenate([np.asarray(line.get_ydata(), float) for line in ax.lines]) for ax in axes]
    span = max(values.max() / values.min() for values in drawn)
    margin = 0.05 * (span - 1)
    for ax, values in zip(axes, drawn, strict=True):
        ax.set_ylim(values.min() * (1 - margin), values.min() * (span + margin))
    words = f"each vertical axis spans 0 to {100 * (span - 1):.0f} % above the lowest value in its panel"
    figure.supxlabel(words, fontsize=8)
    return figure


def _legend_below(ax: Axes, handles: Sequence) -> None:
    columns = legend_columns((handle.get_label() for handle in handles), ax.get_window_extent().width / ax.figure.dpi)
    ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=columns)


def _series(table: pd.DataFrame) -> list[str]:
    """The label of the series of each row."""
    rows = table[["cell", "tied", "layers"]].itertuples(index=False)
    return [
        f"{cell}{', tied' if tied else ''}{f', {layers} layers' if layers > 1 else ''}" for cell, tied, layers in rows
    ]


def _depth_axis(ax: Axes, deepest: int) -> None:
    ax.set(xlabel="recurrence depth", ylabel="best validation perplexity", xlim=(0.5, max(deepest, 2) + 0.5))
    ax.set_xticks(range(1, max(deepest, 2) + 1))
