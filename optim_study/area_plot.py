"""The learnable area as a figure: learning rate against standard deviation, the paper's box inside, the predicted border over it.

From rows alone: no torch, no optuna.
"""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.transforms import offset_copy

from optim_study.area import PAPER
from optim_study.border import BorderPoint
from optim_study.captions import study_about, study_title
from optim_study.map_plot import legend_below, network_panels, panel_title
from optim_study.plots import colors_of
from optim_study.protocol import OF_ONE_SIZE, SCHEMES
from optim_study.results import Row
from optim_study.shares import BELOW
from rhn.cells.registry import with_depth
from rhn.plotting.figures import titled
from rhn.training.curves import Objective

MARKERS = {"gaussian": "o", "scaled": "^", "orthogonal": "D", "identity": "s"}
ASIDE = {"scaled": -3.0, "orthogonal": 3.0}
"""Points upwards: both schemes lie at 1 / sqrt(n), so each is drawn a little aside."""
LINES = {"gaussian": "-", "identity": "--"}


def plot_area(
    rows: Sequence[Row],
    *,
    border: Sequence[BorderPoint] = (),
    loss: Objective = "train",
    below: float = BELOW,
    about: str = "",
    figure: Figure | None = None,
) -> Figure:
    """A panel for each network, a mark for each trial: its shape the scheme, full where the trial learned (a loss below `below`).

    about: what the rows do not tell: the study's settings and where the rows come from.
    border: where leaving the plateau is predicted to take all epochs, a line for each scheme and transform bias.

    Raises InvalidInputError where there is nothing to draw.
    """
    figure, panels = network_panels(rows, figure, extra_height=1.2)
    colors = colors_of(panels)
    for network, (ax, trials) in panels.items():
        learned = [row.loss(loss) < below for row in trials]
        _draw_box(ax)
        _draw_trials(ax, trials, learned, colors[network[0]])
        _draw_border(ax, [point for point in border if (point.arch, point.depth) == network])
        ax.set(**_limits(rows))  # points that are drawn a little aside do not count for the axes' own
        ax.set_title(panel_title(f"{with_depth(*network)}: {sum(learned)} of {len(trials)}"), fontsize=9)
    schemes = {row.init_scheme for row in rows}
    legend_below(figure, _handles(schemes, border, below))
    titled(figure, study_title(rows, "which settings train"), study_about(rows, about))
    return figure


def _limits(rows: Sequence[Row]) -> dict[str, tuple[float, float]]:
    """A little more than the paper's box and all settings take."""
    rates = [*PAPER.learning_rate, *(row.learning_rate for row in rows)]
    deviations = [*PAPER.init_std, *(row.init_std for row in rows)]
    return {"xlim": (min(rates) / 1.6, max(rates) * 1.6), "ylim": (min(deviations) / 2.5, max(deviations) * 4)}


def _draw_box(ax: Axes) -> None:
    (left, right), (bottom, top) = PAPER.learning_rate, PAPER.init_std
    style = {"facecolor": "0.94", "edgecolor": "0.6", "linewidth": 0.8, "zorder": 0.5}
    ax.add_patch(Rectangle((left, bottom), right - left, top - bottom, gid="paper's box", **style))


def _draw_trials(ax: Axes, trials: Sequence[Row], learned: Sequence[bool], color: str) -> None:
    for scheme, marker in MARKERS.items():
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


def _draw_border(ax: Axes, points: Sequence[BorderPoint]) -> None:
    for scheme in SCHEMES:
        for bias in dict.fromkeys(p.transform_bias for p in points if p.init_scheme == scheme):
            line = [p for p in points if (p.init_scheme, p.transform_bias) == (scheme, bias) and p.learning_rate]
            where = [p.learning_rate for p in line], [p.init_std for p in line]
            if scheme in OF_ONE_SIZE:
                style = {"marker": "|", "markersize": 9, "linestyle": ""}
                style["transform"] = offset_copy(ax.transData, ax.figure, y=ASIDE[scheme], units="points")
            else:
                style = {"linestyle": LINES[scheme], "linewidth": 1.1}
            ax.plot(*where, color="black", gid=f"border {scheme}", **style)


def _handles(schemes: set[str], border: Sequence[BorderPoint], below: float) -> list:
    shape = {"linestyle": "", "markersize": 5, "markeredgecolor": "0.3"}
    handles = [
        Line2D([], [], marker=marker, markerfacecolor="none", label=scheme, **shape)
        for scheme, marker in MARKERS.items()
        if scheme in schemes
    ]
    handles.append(Line2D([], [], marker="o", markerfacecolor="0.3", label=f"full: trained (below {below:g})", **shape))
    handles.append(Patch(facecolor="0.94", edgecolor="0.6", label="the paper's box"))
    drawn = {point.init_scheme for point in border if point.learning_rate}
    for scheme, line in LINES.items():
        if scheme in drawn:
            handles.append(Line2D([], [], color="black", linestyle=line, label=f"predicted border, {scheme}"))
    if drawn & set(OF_ONE_SIZE):
        handles.append(
            Line2D(
                [],
                [],
                color="black",
                marker="|",
                linestyle="",
                markersize=9,
                label="predicted border, scaled or orthogonal",
            )
        )
    return handles
