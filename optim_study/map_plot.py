"""Maps of a study's settings: learning rate against initial standard deviation, a panel for each network. No torch, no optuna.

`plot_map` shows the losses as colours, `plot_area` the settings that train, with the paper's box.
"""

from collections.abc import Collection, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.transforms import offset_copy

from optim_study.protocol import LEARNING_RATES
from optim_study.results import Network, Row, by_network, optimizers_of, study_about, study_title
from optim_study.shares import BELOW, DEVIATIONS
from optim_study.swarm_plot import LABELS, colors_of
from rhn.errors import InvalidInputError
from rhn.training.state import Objective
from rhn.utils.figures import in_inches, legend_columns, titled

MARKERS = "os^Dv"
NO_GATES = "P"  # symbol of cells without transform gates
PANEL_INCHES = 2.3
SCHEME_MARKERS = {"gaussian": "o", "scaled": "^", "orthogonal": "D", "identity": "s"}
ASIDE = {"scaled": -3.0, "orthogonal": 3.0}
"""Points upwards: both schemes lie at 1 / sqrt(n), so that each is drawn a little aside."""


def plot_map(
    rows: Sequence[Row], *, loss: Objective = "train", about: str = "", figure: Figure | None = None
) -> Figure:
    """Draw the losses as colours, the initial transform biases as symbols, and crosses over diverged trials.

    The colours, the same in all panels, end a little above the median loss; all worse losses share the last one.

    about: settings of the study and origin of the rows.

    Raises InvalidInputError without trials.
    """
    figure, panels = network_panels(rows, figure, extra_height=0.9)
    losses = np.array([row.loss(loss) for row in rows])
    colors = Normalize(losses.min(), 1.05 * np.median(losses))
    bins = bias_bins([row.transform_bias for row in rows])
    for network, (ax, trials) in panels.items():
        gated = trials[0].transform_bias is not None
        for marker, (low, high) in zip(MARKERS, bins, strict=False) if gated else [(NO_GATES, (None, None))]:
            own = [row for row in trials if low <= row.transform_bias <= high] if gated else trials
            points = _draw_losses(ax, own, loss, colors, marker)
        ax.set_title(panel_title(network, panels, f", n = {len(trials)}"), fontsize=9)
    worse = "max" if losses.max() > colors.vmax else "neither"
    label = LABELS[loss] + ("\nthe last colour: worse than most" if worse == "max" else "")
    figure.colorbar(points, ax=figure.axes, extend=worse, label=label)
    if handles := _map_handles(bins, rows):
        legend_below(figure, handles, title="initial transform bias" if bins else None, title_fontsize=8)
    titled(
        figure, study_title(rows, "the loss by learning rate and initial standard deviation"), study_about(rows, about)
    )
    return figure


def bias_bins(biases: Sequence[float | None], most: int = len(MARKERS)) -> list[tuple[float, float]]:
    """(Lowest, highest) transform bias of each symbol: single values, or bins of equal counts. None is in no bin.

    >>> bias_bins([0.0, -1.0, -1.0])
    [(-1.0, -1.0), (0.0, 0.0)]
    >>> bias_bins([0, 1, 2, 3], most=2)
    [(0.0, 1.0), (2.0, 3.0)]
    """
    values = np.unique([bias for bias in biases if bias is not None]) + 0.0
    parts = np.array_split(values, min(most, len(values))) if len(values) else []
    return [(float(part[0]), float(part[-1])) for part in parts]


def bias_words(low: float, high: float) -> str:
    """The label of a bin."""
    return f"{low:g}" + (f" to {high:g}" if high > low else "")


def panel_title(network: Network, every: Collection[Network], more: str) -> str:
    """A title with line breaks that fit the panel, with the optimizer if the figure has several."""
    optimizer = f", {network.optimizer}" if len(optimizers_of(every)) > 1 else ""
    return in_inches(f"{network.title}{optimizer}{more}", 0.85 * PANEL_INCHES, 9)


def legend_below(figure: Figure, handles: Sequence, **options) -> None:
    """Draw a legend of the whole figure, in as many columns as fit."""
    columns = legend_columns((handle.get_label() for handle in handles), figure.get_figwidth())
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, **options)


def network_panels(
    rows: Sequence[Row], figure: Figure | None = None, *, extra_height: float = 0
) -> tuple[Figure, dict[Network, tuple[Axes, list[Row]]]]:
    """A figure with a panel for each network, and the axes and trials of each: a line for each optimizer and architecture, a column for
    each depth. Raises InvalidInputError without trials."""
    if not rows:
        raise InvalidInputError("there is no complete trial to draw")
    groups = by_network(rows)
    lines = list(dict.fromkeys((network.arch, network.optimizer) for network in groups))
    depths = sorted({network.depth for network in groups})
    size = max(6.0, PANEL_INCHES * len(depths) + 1.4), 2.1 * len(lines) + 0.9 + extra_height
    figure = figure or Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(lines), len(depths), sharex=True, sharey=True, squeeze=False)
    places = {
        Network(arch, depth, optimizer): axes[i, j]
        for i, (arch, optimizer) in enumerate(lines)
        for j, depth in enumerate(depths)
    }
    for network, ax in places.items():
        ax.set(xscale="log", yscale="log", visible=network in groups)
    for column in axes.T:
        lowest = [ax for ax in column if ax.get_visible()][-1]
        lowest.set_xlabel("learning rate")
        lowest.tick_params(labelbottom=True)
    label = in_inches("initial standard deviation of the recurrent weights", 2.1 * len(lines), 9)
    figure.supylabel(label, fontsize=9)
    return figure, {network: (places[network], trials) for network, trials in groups.items()}


def _draw_losses(ax: Axes, trials: Sequence[Row], loss: Objective, norm: Normalize, marker: str):
    where = np.array([(row.learning_rate, row.init_std) for row in trials]).reshape(-1, 2).T
    losses, ended = [row.loss(loss) for row in trials], np.array([row.diverged for row in trials], dtype=bool)
    ax.plot(*where[:, ended], "x", color="black", markersize=5, markeredgewidth=0.8)
    style = {"norm": norm, "cmap": "viridis_r", "s": 18, "edgecolor": "0.3", "linewidth": 0.3}
    return ax.scatter(*where, c=losses, marker=marker, **style)


def _map_handles(bins: Sequence[tuple[float, float]], rows: Sequence[Row]) -> list[Line2D]:
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
    figure, panels = network_panels(rows, figure, extra_height=1.2)
    colors = colors_of(panels)
    for network, (ax, trials) in panels.items():
        learned = [row.loss(loss) < below for row in trials]
        _draw_box(ax, network.optimizer)
        _draw_trials(ax, trials, learned, colors[network.arch])
        ax.set(**_limits(rows))  # matplotlib ignores points drawn aside
        ax.set_title(panel_title(network, panels, f": {sum(learned)} of {len(trials)}"), fontsize=9)
    schemes = {row.init_scheme for row in rows}
    legend_below(figure, _area_handles(schemes, below))
    titled(figure, study_title(rows, "which settings train"), study_about(rows, about))
    return figure


def _limits(rows: Sequence[Row]) -> dict[str, tuple[float, float]]:
    """Limits with a margin around the paper's box and all settings."""
    rates = [rate for row in rows for rate in (*LEARNING_RATES[row.optimizer], row.learning_rate)]
    deviations = [*DEVIATIONS, *(row.init_std for row in rows)]
    return {"xlim": (min(rates) / 1.6, max(rates) * 1.6), "ylim": (min(deviations) / 2.5, max(deviations) * 4)}


def _draw_box(ax: Axes, optimizer: str) -> None:
    (left, right), (bottom, top) = LEARNING_RATES[optimizer], DEVIATIONS
    style = {"facecolor": "0.94", "edgecolor": "0.6", "linewidth": 0.8, "zorder": 0.5}
    ax.add_patch(Rectangle((left, bottom), right - left, top - bottom, gid="paper's box", **style))


def _draw_trials(ax: Axes, trials: Sequence[Row], learned: Sequence[bool], color: str) -> None:
    for scheme, marker in SCHEME_MARKERS.items():
        own = [(row, full) for row, full in zip(trials, learned, strict=True) if row.init_scheme == scheme]
        if not own:
            continue
        where = offset_copy(ax.transData, ax.figure, y=ASIDE.get(scheme, 0), units="points")
        ax.scatter(
            [row.learning_rate for row, _ in own],
            [row.init_std for row, _ in own],
            marker=marker,
            s=16,
            facecolors=[color if full else "none" for _, full in own],
            edgecolors=[color if full else "0.45" for _, full in own],
            linewidths=0.7,
            transform=where,
            gid=scheme,
        )


def _area_handles(schemes: set[str], below: float) -> list:
    shape = {"linestyle": "", "markersize": 5, "markeredgecolor": "0.3"}
    handles = [
        Line2D([], [], marker=marker, markerfacecolor="none", label=scheme, **shape)
        for scheme, marker in SCHEME_MARKERS.items()
        if scheme in schemes
    ]
    handles.append(Line2D([], [], marker="o", markerfacecolor="0.3", label=f"full: trained (below {below:g})", **shape))
    handles.append(Patch(facecolor="0.94", edgecolor="0.6", label="the paper's box"))
    return handles
