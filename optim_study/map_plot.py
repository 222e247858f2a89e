"""The map of a study's settings, learning rate against initial standard deviation, and the panels that it shares with the area.

From rows alone: no torch, no optuna.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from optim_study.captions import study_about, study_title, trial_words
from optim_study.plots import LABELS
from optim_study.results import Row, by_network
from rhn.cells.registry import with_depth
from rhn.errors import InvalidInputError
from rhn.plotting.figures import in_inches, legend_columns, set_tooltips, titled
from rhn.training.curves import Objective

MARKERS = "os^Dv"
NO_GATES = "P"  # the symbol of cells without transform gates
PANEL_INCHES = 2.3


def plot_map(
    rows: Sequence[Row], *, loss: Objective = "train", about: str = "", figure: Figure | None = None
) -> Figure:
    """A panel for each network: learning rate against initial standard deviation, the colour the loss, the symbol the initial
    transform bias, diverged trials crossed.

    The colours, the same in all panels, end a little above the median loss: what is worse than most shares the last one.

    about: what the rows do not tell: the study's settings and where the rows come from.

    Raises InvalidInputError where there is no trial.
    """
    figure, panels = network_panels(rows, figure, extra_height=0.9)
    losses = np.array([row.loss(loss) for row in rows])
    colors = Normalize(losses.min(), 1.05 * np.median(losses))
    bins = bias_bins([row.transform_bias for row in rows])
    for (arch, depth), (ax, trials) in panels.items():
        gated = trials[0].transform_bias is not None
        for marker, (low, high) in zip(MARKERS, bins, strict=False) if gated else [(NO_GATES, (None, None))]:
            own = [row for row in trials if low <= row.transform_bias <= high] if gated else trials
            points = _draw_points(ax, own, loss, colors, marker)
        ax.set_title(panel_title(f"{with_depth(arch, depth)}, n = {len(trials)}"), fontsize=9)
    worse = "max" if losses.max() > colors.vmax else "neither"
    label = LABELS[loss] + ("\nthe last colour: worse than most" if worse == "max" else "")
    figure.colorbar(points, ax=figure.axes, extend=worse, label=label)
    if handles := _handles(bins, rows):
        legend_below(figure, handles, title="initial transform bias" if bins else None, title_fontsize=8)
    titled(
        figure, study_title(rows, "the loss by learning rate and initial standard deviation"), study_about(rows, about)
    )
    return figure


def bias_bins(biases: Sequence[float | None], most: int = len(MARKERS)) -> list[tuple[float, float]]:
    """(Lowest, highest) of each symbol's transform biases: the values themselves, or where there are many, bins equally full. None,
    of cells without transform gates, is in no bin.

    >>> bias_bins([0.0, -1.0, -1.0])
    [(-1.0, -1.0), (0.0, 0.0)]
    >>> bias_bins([0, 1, 2, 3], most=2)
    [(0.0, 1.0), (2.0, 3.0)]
    """
    values = np.unique([bias for bias in biases if bias is not None]) + 0.0
    parts = np.array_split(values, min(most, len(values))) if len(values) else []
    return [(float(part[0]), float(part[-1])) for part in parts]


def bias_words(low: float, high: float) -> str:
    """What a legend calls a bin."""
    return f"{low:g}" + (f" to {high:g}" if high > low else "")


def panel_title(words: str) -> str:
    """A panel's title, broken where it is wider than the panel."""
    return in_inches(words, 0.85 * PANEL_INCHES, 9)


def legend_below(figure: Figure, handles: Sequence, **options) -> None:
    """A legend of the whole figure, in as many columns as fit."""
    columns = legend_columns((handle.get_label() for handle in handles), figure.get_figwidth())
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, **options)


def network_panels(
    rows: Sequence[Row], figure: Figure | None = None, *, extra_height: float = 0
) -> tuple[Figure, dict[tuple[str, int], tuple[Axes, list[Row]]]]:
    """A figure with a panel for each network, learning rate against initial standard deviation, and by network its axes and trials.

    Raises InvalidInputError where there is no trial.
    """
    if not rows:
        raise InvalidInputError("there is no complete trial to draw")
    groups = by_network(rows)
    archs, depths = list(dict.fromkeys(arch for arch, _ in groups)), sorted({depth for _, depth in groups})
    size = max(6.0, PANEL_INCHES * len(depths) + 1.4), 2.1 * len(archs) + 0.9 + extra_height
    figure = figure or Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(archs), len(depths), sharex=True, sharey=True, squeeze=False)
    for i, arch in enumerate(archs):
        for j, depth in enumerate(depths):
            axes[i, j].set(xscale="log", yscale="log", visible=(arch, depth) in groups)
    for column in axes.T:
        lowest = [ax for ax in column if ax.get_visible()][-1]
        lowest.set_xlabel("learning rate")
        lowest.tick_params(labelbottom=True)
    figure.supylabel("initial standard deviation of the recurrent weights", fontsize=9)
    return figure, {(a, d): (axes[archs.index(a), depths.index(d)], trials) for (a, d), trials in groups.items()}


def _draw_points(ax: Axes, trials: Sequence[Row], loss: Objective, norm: Normalize, marker: str):
    where = np.array([(row.learning_rate, row.init_std) for row in trials]).reshape(-1, 2).T
    losses, ended = [row.loss(loss) for row in trials], np.array([row.diverged for row in trials], dtype=bool)
    ax.plot(*where[:, ended], "x", color="black", markersize=5, markeredgewidth=0.8)
    style = {"norm": norm, "cmap": "viridis_r", "s": 18, "edgecolor": "0.3", "linewidth": 0.3}
    points = ax.scatter(*where, c=losses, marker=marker, **style)
    set_tooltips(points, (trial_words(row, loss) for row in trials))
    return points


def _handles(bins: Sequence[tuple[float, float]], rows: Sequence[Row]) -> list[Line2D]:
    style = {"linestyle": "", "markersize": 5, "markerfacecolor": "0.8", "markeredgecolor": "0.3"}
    handles = [
        Line2D([], [], marker=marker, label=bias_words(*ends), **style)
        for marker, ends in zip(MARKERS, bins, strict=False)
    ]
    if any(row.transform_bias is None for row in rows):
        label = "no gates" if bins else "a trial, of a cell without gates"
        handles.append(Line2D([], [], marker=NO_GATES, label=label, **style))
    if any(row.diverged for row in rows):
        handles.append(Line2D([], [], marker="x", linestyle="", color="black", label="diverged"))
    return handles
