"""Maps of a study's settings: learning rate against initial standard deviation, a panel for each network. No torch, no optuna.

`plot_map` shows the losses as colours, `plot_area` the settings that train, with the paper's box.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from optim_study.protocol import LEARNING_RATES, SCHEMES
from optim_study.results import Network, Row, by_network, range_words, study_about, study_title
from optim_study.shares import BELOW, DEVIATIONS
from optim_study.swarm_plot import LABELS, colors_of
from rhn.errors import InvalidInputError
from rhn.training.state import Objective
from rhn.utils.figures import drawn, in_inches, legend_above, sized, titled

MARKERS = "os^Dv"
NO_GATES = "P"  # symbol of cells without transform gates
PANEL_INCHES = 2.3
Symbols = dict[str, tuple[str, Any]]
"""Label -> (marker, the values of a row's field that it shows)."""
SHAPES: Symbols = {scheme: (marker, (scheme,)) for scheme, marker in zip(SCHEMES, "o^Ds", strict=True)}


@drawn
def plot_map(rows: Sequence[Row], *, loss: Objective = "train", about: str = "") -> Figure:
    """Draw the losses as colours, the initial transform biases as symbols, and crosses over diverged trials.

    The colours, the same in all panels, end a little above the median loss; all worse losses share the last one.

    about: settings of the study and origin of the rows.

    Raises InvalidInputError without trials.
    """
    figure, panels = _panels(rows, lambda trials: f", n = {len(trials)}", extra_height=0.9)
    losses = np.array([row.loss(loss) for row in rows])
    colors, symbols = Normalize(losses.min(), 1.05 * np.median(losses)), bias_symbols(rows)
    style: dict = {"norm": colors, "cmap": "viridis_r", "s": 18, "edgecolor": "0.3", "linewidth": 0.3}
    for ax, trials in panels.values():
        crosses = _places([row for row in trials if row.diverged])
        ax.plot(*crosses, "x", color="black", markersize=5, markeredgewidth=0.8)
        for _, marker, own in _of_each(symbols, "transform_bias", trials):
            points = ax.scatter(*_places(own), c=[row.loss(loss) for row in own], marker=marker, **style)
    worse = losses.max() > colors.vmax
    label = LABELS[loss] + ("\nthe last colour: worse than most" if worse else "")
    figure.colorbar(points, ax=[ax for ax, _ in panels.values()], extend="max" if worse else "neither", label=label)
    handles = _handles(symbols, markerfacecolor="0.8")
    if any(row.diverged for row in rows):
        handles.append(Line2D([], [], marker="x", linestyle="", color="black", label="diverged"))
    gates = any(row.transform_bias is not None for row in rows)
    figure.axes[0].set_title("symbols: the initial transform bias" if gates else "")
    legend_above(figure.axes[0], handles, figure.get_figwidth() - 1)
    words = study_title(rows, "the loss by learning rate and initial standard deviation")
    titled(figure, words, study_about(rows, about))
    return figure


@drawn
def plot_area(rows: Sequence[Row], *, loss: Objective = "train", below: float = BELOW, about: str = "") -> Figure:
    """Draw the schemes as shapes, full if the trial trained (a loss below `below`), inside and outside the paper's box.

    about: settings of the study and origin of the rows.

    Raises InvalidInputError without trials.
    """

    def trained(row: Row) -> bool:
        return row.loss(loss) < below

    figure, panels = _panels(rows, lambda own: f": {sum(map(trained, own))} of {len(own)}", extra_height=1.2)
    colors = colors_of(panels)
    for network, (ax, trials) in panels.items():
        (left, right), (bottom, top) = LEARNING_RATES[network.optimizer], DEVIATIONS
        style: dict = {"facecolor": "0.94", "edgecolor": "0.6", "linewidth": 0.8, "zorder": 0.5}
        ax.add_patch(Rectangle((left, bottom), right - left, top - bottom, gid="paper's box", **style))
        for scheme, marker, own in _of_each(SHAPES, "init_scheme", trials):
            faces = [colors[network.arch] if trained(row) else "none" for row in own]
            edges = [colors[network.arch] if trained(row) else "0.45" for row in own]
            style = {"marker": marker, "s": 16, "facecolors": faces, "edgecolors": edges, "linewidths": 0.7}
            ax.scatter(*_places(own), gid=scheme, **style)
    shapes = {scheme: SHAPES[scheme] for scheme in SHAPES if any(row.init_scheme == scheme for row in rows)}
    handles: list = _handles(shapes, markerfacecolor="none")
    handles += _handles({f"full: trained (below {below:g})": ("o", ())}, markerfacecolor="0.3")
    handles.append(Patch(facecolor="0.94", edgecolor="0.6", label="the paper's box"))
    legend_above(figure.axes[0], handles, figure.get_figwidth() - 1)
    titled(figure, study_title(rows, "which settings train"), study_about(rows, about))
    return figure


def bias_symbols(rows: Sequence[Row]) -> Symbols:
    """The symbol of each transform bias: single values, or bins of equal counts, and a symbol for cells without gates.

    >>> bias_symbols([])
    {}
    """
    values = sorted({row.transform_bias for row in rows if row.transform_bias is not None})
    bins = np.array_split(values, min(len(MARKERS), len(values))) if values else []
    symbols: Symbols = {range_words(part): (marker, part) for marker, part in zip(MARKERS, bins, strict=False)}
    if any(row.transform_bias is None for row in rows):
        symbols["no gates" if symbols else "a trial, of a cell without gates"] = NO_GATES, (None,)
    return symbols


def _panels(
    rows: Sequence[Row], more: Callable[[Sequence[Row]], str], *, extra_height: float
) -> tuple[Figure, dict[Network, tuple[Axes, list[Row]]]]:
    """A figure with a panel for each network, and the axes and trials of each: a line for each optimizer and architecture, a column for
    each depth.

    more: the end of a panel's title, from its trials.
    """
    if not rows:
        raise InvalidInputError("there is no complete trial to draw")
    groups = by_network(rows)
    lines = list(dict.fromkeys((network.arch, network.optimizer) for network in groups))
    depths = sorted({network.depth for network in groups})
    size = max(6.0, PANEL_INCHES * len(depths) + 1.4), 2.1 * len(lines) + 0.9 + extra_height
    figure, panels = Figure(figsize=sized(*size), layout="constrained"), {}
    mosaic: list = [["legend"] * len(depths), *[[f"{line} {depth}" for depth in depths] for line in lines]]
    axes: dict[str, Axes] = figure.subplot_mosaic(
        mosaic, height_ratios=(0.01, *[1] * len(lines)), sharex=True, sharey=True
    )
    for ax in axes.values():
        ax.set(xscale="log", yscale="log", visible=False)
    axes["legend"].set(visible=True)
    axes["legend"].set_axis_off()
    for network, trials in groups.items():
        ax = axes[f"{(network.arch, network.optimizer)} {network.depth}"]
        ax.set_title(in_inches(network.title + more(trials), 0.85 * PANEL_INCHES, 9))
        ax.set(visible=True)
        panels[network] = ax, trials
    for column in zip(*mosaic[1:], strict=True):
        lowest = [axes[name] for name in column if axes[name].get_visible()][-1]
        lowest.set_xlabel("learning rate")
        lowest.tick_params(labelbottom=True)
    label = in_inches("initial standard deviation of the recurrent weights", 2.1 * len(lines), 9)
    figure.supylabel(label, fontsize="medium")
    return figure, panels


def _of_each(symbols: Symbols, name: str, trials: Sequence[Row]) -> Iterator[tuple[str, str, list[Row]]]:
    """(Label, marker, trials) of each symbol that these trials have."""
    for label, (marker, values) in symbols.items():
        if own := [row for row in trials if getattr(row, name) in values]:
            yield label, marker, own


def _places(trials: Sequence[Row]) -> tuple[list[float], list[float]]:
    return [row.learning_rate for row in trials], [row.init_std for row in trials]


def _handles(symbols: Symbols, **face: str) -> list[Line2D]:
    style: dict = {"linestyle": "", "markersize": 5, "markeredgecolor": "0.3", **face}
    return [Line2D([], [], marker=marker, label=label, **style) for label, (marker, _) in symbols.items()]
