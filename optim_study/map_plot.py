"""Maps of a study's settings: learning rate against initial standard deviation, a panel for each network. No torch, no optuna.

`plot_map` shows the losses as colours, `plot_area` the settings that train, with the paper's box.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.transforms import offset_copy

from optim_study.protocol import LEARNING_RATES
from optim_study.results import Network, Row, by_network, optimizers_of, range_words, study_about, study_title
from optim_study.shares import BELOW, DEVIATIONS
from optim_study.swarm_plot import LABELS, colors_of
from rhn.errors import InvalidInputError
from rhn.training.state import Objective
from rhn.utils.figures import in_inches, legend_columns, titled

MARKERS = "os^Dv"
NO_GATES = "P"  # symbol of cells without transform gates
PANEL_INCHES = 2.3
SCHEMES = {
    name: (marker, (name,))
    for name, marker in zip(("gaussian", "scaled", "orthogonal", "identity"), "o^Ds", strict=True)
}
ASIDE = {"scaled": -3.0, "orthogonal": 3.0}
"""Points upwards: both schemes lie at 1 / sqrt(n), so that each is drawn a little aside."""

Symbols = Mapping[str, tuple[str, Sequence]]
"""Label -> (marker, the values of a row's field that it shows)."""


def plot_map(
    rows: Sequence[Row], *, loss: Objective = "train", about: str = "", figure: Figure | None = None
) -> Figure:
    """Draw the losses as colours, the initial transform biases as symbols, and crosses over diverged trials.

    The colours, the same in all panels, end a little above the median loss; all worse losses share the last one.

    about: settings of the study and origin of the rows.

    Raises InvalidInputError without trials.
    """
    figure, panels = network_panels(rows, figure, lambda trials: f", n = {len(trials)}", extra_height=0.9)
    losses = np.array([row.loss(loss) for row in rows])
    colors, symbols = Normalize(losses.min(), 1.05 * np.median(losses)), bias_symbols(rows)
    style = {"norm": colors, "cmap": "viridis_r", "s": 18, "edgecolor": "0.3", "linewidth": 0.3}
    for ax, trials in panels.values():
        crosses = _places([row for row in trials if row.diverged])
        ax.plot(*crosses, "x", color="black", markersize=5, markeredgewidth=0.8)
        for _, marker, own in _of_each(symbols, "transform_bias", trials):
            points = ax.scatter(*_places(own), c=[row.loss(loss) for row in own], marker=marker, **style)
    worse = "max" if losses.max() > colors.vmax else "neither"
    label = LABELS[loss] + ("\nthe last colour: worse than most" if worse == "max" else "")
    figure.colorbar(points, ax=figure.axes, extend=worse, label=label)
    handles = _handles(symbols, markerfacecolor="0.8")
    if any(row.diverged for row in rows):
        handles.append(Line2D([], [], marker="x", linestyle="", color="black", label="diverged"))
    gates = any(row.transform_bias is not None for row in rows)
    _legend_below(figure, handles, title="initial transform bias" if gates else None, title_fontsize=8)
    words = study_title(rows, "the loss by learning rate and initial standard deviation")
    titled(figure, words, study_about(rows, about))
    return figure


def plot_area(
    rows: Sequence[Row],
    *,
    loss: Objective = "train",
    below: float = BELOW,
    about: str = "",
    figure: Figure | None = None,
) -> Figure:
    """Draw the schemes as shapes, full if the trial trained (a loss below `below`), inside and outside the paper's box.

    about: settings of the study and origin of the rows.

    Raises InvalidInputError without trials.
    """

    def counts(trials: Sequence[Row]) -> str:
        return f": {sum(row.loss(loss) < below for row in trials)} of {len(trials)}"

    figure, panels = network_panels(rows, figure, counts, extra_height=1.2)
    colors = colors_of(panels)
    for network, (ax, trials) in panels.items():
        _draw_box(ax, network.optimizer)
        for scheme, marker, own in _of_each(SCHEMES, "init_scheme", trials):
            full = [row.loss(loss) < below for row in own]
            faces = [colors[network.arch] if trained else "none" for trained in full]
            edges = [colors[network.arch] if trained else "0.45" for trained in full]
            style = {"marker": marker, "s": 16, "facecolors": faces, "edgecolors": edges, "linewidths": 0.7}
            place = offset_copy(ax.transData, ax.figure, y=ASIDE.get(scheme, 0), units="points")
            ax.scatter(*_places(own), transform=place, gid=scheme, **style)
        ax.set(**_limits(rows))  # matplotlib ignores points drawn aside
    shapes = {scheme: SCHEMES[scheme] for scheme in SCHEMES if any(row.init_scheme == scheme for row in rows)}
    handles = _handles(shapes, markerfacecolor="none")
    handles += _handles({f"full: trained (below {below:g})": ("o", ())}, markerfacecolor="0.3")
    handles.append(Patch(facecolor="0.94", edgecolor="0.6", label="the paper's box"))
    _legend_below(figure, handles)
    titled(figure, study_title(rows, "which settings train"), study_about(rows, about))
    return figure


def network_panels(
    rows: Sequence[Row], figure: Figure | None, more: Callable[[Sequence[Row]], str], *, extra_height: float
) -> tuple[Figure, dict[Network, tuple[Axes, list[Row]]]]:
    """A figure with a panel for each network, and the axes and trials of each: a line for each optimizer and architecture, a column for
    each depth. Raises InvalidInputError without trials.

    more: the end of a panel's title, from its trials.
    """
    if not rows:
        raise InvalidInputError("there is no complete trial to draw")
    groups = by_network(rows)
    lines = list(dict.fromkeys((network.arch, network.optimizer) for network in groups))
    depths = sorted({network.depth for network in groups})
    size = max(6.0, PANEL_INCHES * len(depths) + 1.4), 2.1 * len(lines) + 0.9 + extra_height
    figure = figure or Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(lines), len(depths), sharex=True, sharey=True, squeeze=False)
    for ax in axes.flat:
        ax.set(xscale="log", yscale="log", visible=False)
    panels = {n: (axes[lines.index((n.arch, n.optimizer)), depths.index(n.depth)], groups[n]) for n in groups}
    several = len(optimizers_of(groups)) > 1
    for network, (ax, trials) in panels.items():
        title = network.title + (f", {network.optimizer}" if several else "") + more(trials)
        ax.set(visible=True)
        ax.set_title(in_inches(title, 0.85 * PANEL_INCHES, 9), fontsize=9)
    for column in axes.T:
        lowest = [ax for ax in column if ax.get_visible()][-1]
        lowest.set_xlabel("learning rate")
        lowest.tick_params(labelbottom=True)
    label = in_inches("initial standard deviation of the recurrent weights", 2.1 * len(lines), 9)
    figure.supylabel(label, fontsize=9)
    return figure, panels


def bias_symbols(rows: Sequence[Row]) -> Symbols:
    """The symbol of each transform bias: single values, or bins of equal counts, and a symbol for cells without gates.

    >>> bias_symbols([])
    {}
    """
    values = sorted({row.transform_bias for row in rows if row.transform_bias is not None})
    bins = np.array_split(values, min(len(MARKERS), len(values))) if values else []
    symbols = {range_words(part): (marker, part) for marker, part in zip(MARKERS, bins, strict=False)}
    if any(row.transform_bias is None for row in rows):
        symbols["no gates" if symbols else "a trial, of a cell without gates"] = NO_GATES, (None,)
    return symbols


def _of_each(symbols: Symbols, name: str, trials: Sequence[Row]) -> Iterator[tuple[str, str, list[Row]]]:
    """(Label, marker, trials) of each symbol that these trials have."""
    for label, (marker, values) in symbols.items():
        if own := [row for row in trials if getattr(row, name) in values]:
            yield label, marker, own


def _places(trials: Sequence[Row]) -> tuple[list[float], list[float]]:
    return [row.learning_rate for row in trials], [row.init_std for row in trials]


def _handles(symbols: Symbols, **face: str) -> list[Line2D]:
    style = {"linestyle": "", "markersize": 5, "markeredgecolor": "0.3", **face}
    return [Line2D([], [], marker=marker, label=label, **style) for label, (marker, _) in symbols.items()]


def _legend_below(figure: Figure, handles: Sequence, **options) -> None:
    """Draw a legend of the whole figure, in as many columns as fit."""
    columns = legend_columns((handle.get_label() for handle in handles), figure.get_figwidth())
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, **options)


def _limits(rows: Sequence[Row]) -> dict[str, tuple[float, float]]:
    """Limits with a margin around the paper's box and all settings."""
    rates = [rate for row in rows for rate in (*LEARNING_RATES[row.optimizer], row.learning_rate)]
    deviations = [*DEVIATIONS, *(row.init_std for row in rows)]
    return {"xlim": (min(rates) / 1.6, max(rates) * 1.6), "ylim": (min(deviations) / 2.5, max(deviations) * 4)}


def _draw_box(ax: Axes, optimizer: str) -> None:
    (left, right), (bottom, top) = LEARNING_RATES[optimizer], DEVIATIONS
    style = {"facecolor": "0.94", "edgecolor": "0.6", "linewidth": 0.8, "zorder": 0.5}
    ax.add_patch(Rectangle((left, bottom), right - left, top - bottom, gid="paper's box", **style))
