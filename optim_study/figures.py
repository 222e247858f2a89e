"""The swarm plot (figure 4 of Zilly et al. 2017): the loss of every trial, in one column for each
network; and the map of the settings with which networks train. Needs neither torch nor Optuna.
"""

import textwrap
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogFormatter

from optim_study.config import LEARNING_RATES, PAPERS_STD
from optim_study.results import TrialRow, by_network, constant_of, distinct_trials
from optim_study.shares import BELOW, CONSTANT, PAPERS_RANGE
from rhn.training.state import Objective
from rhn.utils.composer import composed
from rhn.utils.figures import BLUE, GREEN, ORANGE, PURPLE, RED, SKY, call_text, figure_width

LOG_FROM = 3  # times the median loss: from there on the axis is logarithmic
COLORS = {"rhn": BLUE, "dt-rnn": RED, "dts-rnn": GREEN, "rnn": ORANGE, "lstm": PURPLE, "gru": SKY}
MARKERS = {"gaussian": "o", "scaled": "^", "orthogonal": "D", "identity": "s"}
KINDS = {"train": "training", "valid": "validation"}
TITLE, LABEL = "Best {} loss of {} trials", "{} loss (nats per frame)"
TITLE_OF_MAP = "Learning rate and initial standard deviation of {} trials"
THRESHOLD, MEDIAN, DIVERGED, FILLED = "threshold", "median", "diverged", "filled: {} loss below"
RATE, DEVIATION = "learning rate", "initial standard deviation"
# inches for each point of the letters: least width of a column, a row, a panel, and around all
COLUMN, ROW, PANEL, AROUND = 0.09, 0.32, 0.2, 0.13


def plot_swarm(
    rows: Sequence[TrialRow],
    *,
    loss: Objective = "train",
    below: float = BELOW,
    size: str | float = "page",
    title: str | None = None,
    source: str = "",
) -> Figure:
    """Draw the loss of each trial as a point, in one column for each network, with its number of
    trained trials and its lowest loss. The point of a diverged trial is hollow, and a line marks
    the median. Points at the sides of a column may cover each other.

    below: trials with a loss below this value, in nats per frame, count as trained. size: "page",
    "column", "slide" or the width in inches. source: origin of the rows, for the footer.

    >>> from optim_study import read_csv
    >>> plot_swarm(read_csv("trials.csv")).savefig("swarm.png")  # doctest: +SKIP
    """
    rows = distinct_trials(rows)
    columns, constant = by_network(rows), constant_of(rows, loss)
    losses = np.array([row.loss(loss) for row in rows])
    log = losses.min() > 0 and losses.max() > LOG_FROM * np.median(losses)
    levels = _levels(below, constant)

    def draw(part: SubFigure) -> float:
        width, points = figure_width(part), rcParams["font.size"]
        room = width - AROUND * points
        parts = _divided(columns, max(1, int(room / (COLUMN * points))))
        most = max(map(len, parts))
        axes = part.subplots(len(parts), sharey=True, squeeze=False).ravel()
        for ax, names in zip(axes, parts, strict=True):
            for name, level, dashes in levels:
                line: dict = {"linestyle": dashes, "color": "0.25", "linewidth": 1, "zorder": 0}
                ax.axhline(level, label=f"{name} ({level:.4g})", **line)
            _draw_columns(ax, {name: columns[name] for name in names}, loss, below, room / most)
            ax.set(xlim=(-0.5, most - 0.5), ylabel=LABEL.format(KINDS[loss]))
            if log:
                ax.set_yscale("log")
                ax.yaxis.set(major_formatter=LogFormatter(), minor_formatter=LogFormatter())
        _legend_above(part)
        return points * (AROUND + ROW * len(parts))

    title = title or TITLE.format(KINDS[loss], len(rows))
    figure = composed(draw, title, size, source, _call(plot_swarm, loss, below, size))
    for ax in figure.axes:
        _spread(ax)
    return figure


def plot_map(
    rows: Sequence[TrialRow],
    *,
    loss: Objective = "train",
    below: float = BELOW,
    size: str | float = "page",
    title: str | None = None,
    source: str = "",
) -> Figure:
    """Draw the settings of each trial, on a map of learning rate and initial standard deviation.
    The shape of a symbol shows the initialisation scheme. A symbol is filled if the loss of the
    trial is below `below`. A box shows the paper's range. The arguments are those of `plot_swarm`.

    >>> from optim_study import read_csv
    >>> plot_map(read_csv("trials.csv")).savefig("map.png")  # doctest: +SKIP
    """
    rows = distinct_trials(rows)
    panels = by_network(rows)

    def draw(part: SubFigure) -> float:
        width, points = figure_width(part), rcParams["font.size"]
        most, depths = max(1, int(width / (PANEL * points))), len({row.depth for row in rows})
        columns = min(len(panels), depths if 1 < depths <= most else most)
        lines = -(-len(panels) // columns)
        grid = part.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
        for ax in grid.ravel()[len(panels) :]:
            ax.remove()
        for k, (name, trials) in enumerate(panels.items()):
            ax, last = grid.flat[k], k + columns >= len(panels)
            _draw_panel(ax, trials, loss, below)
            ax.set_title(wrapped(name, 0.8 * width / columns, points), parse_math=False)
            ax.set(xlabel=RATE if last else "", ylabel="" if k % columns else DEVIATION)
            ax.tick_params(labelbottom=last)
        _legend_above(part)
        return points * (AROUND + 1.3 * PANEL * lines)

    title = title or TITLE_OF_MAP.format(len(rows))
    return composed(draw, title, size, source, _call(plot_map, loss, below, size))


def _call(plot: Callable, loss: Objective, below: float, size: str | float) -> str:
    """The call that draws a figure, as text."""
    return call_text(plot.__name__, loss=loss, below=below, size=size)


def _legend_above(part: SubFigure) -> None:
    """Write above all panels what they show, each name once."""
    every = part.get_figure(root=True).axes
    pairs = [p for ax in every for p in zip(*ax.get_legend_handles_labels(), strict=True)]
    handles = {label: handle for handle, label in reversed(pairs)}
    columns = max(1, int(figure_width(part) / 2))
    part.legend(handles.values(), handles, loc="outside upper left", ncols=columns)


def _levels(below: float, constant: float | None) -> list[tuple[str, float, str]]:
    """Return the names, losses and dashes of the lines across a swarm."""
    threshold = THRESHOLD, below, ":"
    return [threshold] if constant is None else [threshold, (CONSTANT, constant, "--")]


def wrapped(text: str, inches: float, points: float) -> str:
    """Fold a text into lines of this width."""
    letters = max(6, int(inches * 72 / (0.58 * points)))
    return "\n".join(part for line in text.split("\n") for part in textwrap.wrap(line, letters))


def swarm(heights: np.ndarray, size: float, room: float) -> np.ndarray:
    """Return sideways places (N,) of points of this size at these heights (N,), near to the middle,
    so that no point covers another, and at most `room` from the middle.

    >>> swarm(np.array([0.0, 0.0, 0.0, 5.0]), 1.0, 3.0).tolist()
    [0.0, -1.0, 1.0, 0.0]
    """
    places, near = np.zeros(len(heights)), list[int]()
    for k in np.argsort(heights, kind="stable"):
        near = [j for j in near if heights[k] - heights[j] < size]
        apart = np.sqrt(size**2 - (heights[k] - heights[near]) ** 2)
        tried = np.concatenate([[0.0], places[near] - apart, places[near] + apart])
        tried = tried[np.argsort(np.abs(tried), kind="stable")]
        free = (np.abs(tried[:, None] - places[near]) >= apart * (1 - 1e-9)).all(1)
        places[k] = np.clip(tried[free.argmax()], -room, room)
        near.append(k)
    return places


def _divided(columns: dict[str, list[TrialRow]], most: int) -> list[list[str]]:
    """Divide networks into rows of at most so many: all in one, or each architecture in its own."""
    if len(columns) <= most:
        return [[*columns]]
    groups: dict[tuple, list[str]] = {}
    for name, (first, *_) in columns.items():
        groups.setdefault((first.optimizer, first.arch), []).append(name)
    return [names[k : k + most] for names in groups.values() for k in range(0, len(names), most)]


def _draw_columns(
    ax: Axes, columns: dict[str, list[TrialRow]], loss: Objective, below: float, inches: float
) -> None:
    """Draw columns of this width, with their names and counts below them."""
    words, size = [], (rcParams["font.size"] / 3) ** 2
    line: dict = {"gid": MEDIAN, "label": MEDIAN, "color": "black", "linewidth": 1, "zorder": 0.9}
    for k, (name, trials) in enumerate(columns.items()):
        color, losses = COLORS.get(trials[0].arch, "black"), [row.loss(loss) for row in trials]
        faces = ["white" if row.diverged else color for row in trials]
        ax.scatter([k] * len(trials), losses, size, faces, edgecolors=color, linewidths=0.5)
        if any(row.diverged for row in trials):
            ax.plot([], [], "o", color="black", markerfacecolor="white", label=DIVERGED)
        ax.plot([k - 0.45, k + 0.45], [float(np.median(losses))] * 2, **line)
        counts = f"{sum(v < below for v in losses)} of {len(trials)}\nbest {min(losses):.4g}"
        words.append(wrapped(f"{name}\n{counts}", inches, rcParams["xtick.labelsize"]))
    ax.set_xticks(range(len(words)), words, parse_math=False)


def _spread(ax: Axes) -> None:
    """Move the points of each column apart, now that the size of the axes is known."""
    for points in ax.collections:
        offsets = np.asarray(points.get_offsets())
        pixels = ax.transData.transform(offsets)
        (area,) = points.get_sizes()  # type: ignore[attr-defined]
        size = (area**0.5 + 0.5) * ax.figure.figure.dpi / 72
        unit = ax.transData.transform((1, 1))[0] - ax.transData.transform((0, 1))[0]
        offsets[:, 0] += swarm(pixels[:, 1], size, 0.45 * unit) / unit
        points.set_offsets(offsets)


def _draw_panel(ax: Axes, trials: Sequence[TrialRow], loss: Objective, below: float) -> None:
    """Draw the trials by scheme; those that trained are filled and lie over the others."""
    (left, right), (bottom, top) = LEARNING_RATES["sgd"], PAPERS_STD
    style: dict = {"facecolor": "0.94", "edgecolor": "0.6", "linewidth": 0.8, "zorder": 0.5}
    place = (left, bottom), right - left, top - bottom
    ax.add_patch(Rectangle(*place, label=PAPERS_RANGE, **style))
    color = COLORS.get(trials[0].arch, "black")
    for scheme in dict.fromkeys(row.init_scheme for row in trials):
        ax.plot([], [], MARKERS[scheme], color="0.3", markerfacecolor="none", label=scheme)
    for row in trials:
        if row.loss(loss) < below:
            style = {"facecolors": color, "edgecolors": color, "zorder": 2}
        else:
            style = {"facecolors": "none", "edgecolors": "0.45", "zorder": 1}
        style |= {"marker": MARKERS[row.init_scheme], "gid": row.init_scheme}
        ax.scatter(row.learning_rate, row.init_std, 22, linewidths=0.7, **style)
    ax.plot([], [], "o", color="0.3", label=f"{FILLED.format(KINDS[loss])} {below:g}")
    ax.set(xscale="log", yscale="log")
