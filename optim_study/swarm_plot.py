"""The swarm plot (figure 4 of Zilly et al. 2017): the loss of every trial, in one column for each
network. Needs neither torch nor Optuna.
"""

import textwrap
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import LogFormatter

from optim_study.results import TrialRow, by_network, constant_of, distinct_trials
from optim_study.shares import BELOW, CONSTANT
from rhn.training.state import Objective
from rhn.utils.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY, inches_of, our_style

# times the constant predictor's loss: a linear axis would leave little room to what is below
LOG_FROM = 3
COLORS = {"rhn": BLUE, "dt-rnn": RED, "dts-rnn": GREEN, "rnn": ORANGE, "lstm": PURPLE, "gru": SKY}
"""Colours of the architectures; all others are black."""
LABELS = {"train": "training loss (nats per frame)", "valid": "validation loss (nats per frame)"}
TITLES = {
    "train": "Best training loss of {} trials",
    "valid": "Best validation loss of {} trials",
}
THRESHOLD, MEDIAN, DIVERGED = "threshold", "median", "diverged"
# inches for each point of the letters: width of a column at least, height of a row of columns, and
# title and legend above, the axis beside
COLUMN, ROW, AROUND = 0.09, 0.32, 0.12


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
    the median. If too many trials have the same loss, points at the sides of a column cover each
    other.

    below: trials with a loss below this value, in nats per frame, count as trained. size: "page",
    "column", "slide" or the width in inches. source: origin of the rows, for the footer.

    Raises InvalidInputError without trials.

    >>> from optim_study import TrialRow
    >>> settings = {"learning_rate": 0.1, "init_std": 0.01, "transform_bias": -2.0}
    >>> losses = {"best_train_nll": 9.0, "best_valid_nll": 9.3, "test_nll": 9.4}
    >>> network = {"arch": "rhn", "depth": 2, "hidden_size": 8}
    >>> row = TrialRow(trial=0, epochs=50, diverged=False, **network, **settings, **losses)
    >>> isinstance(plot_swarm([row]), Figure)
    True
    """
    rows = distinct_trials(rows)
    columns, constant = by_network(rows), constant_of(rows, loss)
    losses = np.array([row.loss(loss) for row in rows])
    log = losses.min() > 0 and losses.max() > LOG_FROM * (constant or float(np.median(losses)))
    levels = {f"{THRESHOLD} ({below:g})": (below, ":")}
    if constant is not None:
        levels[f"{CONSTANT} ({constant:.2f})"] = constant, "--"

    def draw(figure: SubFigure, width: float) -> float:
        points = rcParams["font.size"]
        width -= AROUND * points
        parts = divided(columns, max(1, int(width / (COLUMN * points))))
        most = max(map(len, parts))
        axes = figure.subplots(len(parts), sharey=True, squeeze=False).ravel()
        for ax, names in zip(axes, parts, strict=True):
            for name, (level, dashes) in levels.items():
                ax.axhline(level, label=name, linestyle=dashes, color="0.25", linewidth=1, zorder=0)
            for k, name in enumerate(names):
                _draw_column(ax, k, columns[name], loss)
            words = [_column_name(name, columns[name], loss, below) for name in names]
            fold_ticks(ax, words, width / most)
            ax.set(xlim=(-0.5, most - 0.5), ylabel=LABELS[loss])
            if log:
                ax.set_yscale("log")
                ax.yaxis.set(major_formatter=LogFormatter(), minor_formatter=LogFormatter())
        return points * (AROUND + ROW * len(parts))

    figure = study_figure(draw, TITLES[loss].format(len(rows)), size, title, source)
    for ax in figure.axes:
        _spread(ax)
    return figure


def study_figure(
    draw: Callable[[SubFigure, float], float],
    heading: str,
    size: str | float,
    title: str | None,
    source: str,
) -> Figure:
    """Return a figure in our style, with its layout: a heading or the user's title, a legend of all
    panels, and a footer that names the source. draw: adds the panels to a figure of this width in
    inches, and returns its height.
    """
    with our_style(size):
        width, points = inches_of(size), rcParams["font.size"]
        figure = Figure((width, width), layout="constrained")
        part = figure.add_subfigure(figure.add_gridspec(1, 1)[0])
        figure.set_figheight(draw(part, width))
        place: dict = {"x": 0.01, "ha": "left", "parse_math": False}
        figure.suptitle(wrapped(heading if title is None else title, width, points), **place)
        if source:
            figure.supxlabel(
                wrapped(source, width, points), fontsize=points - 1, color=GREY, **place
            )
        pairs = [p for ax in figure.axes for p in zip(*ax.get_legend_handles_labels(), strict=True)]
        handles = {label: handle for handle, label in reversed(pairs)}
        columns = max(1, int(width / 2))
        part.legend(handles.values(), handles, loc="outside upper left", ncols=columns)
        figure.draw_without_rendering()
    return figure


def wrapped(text: str, inches: float, points: float) -> str:
    """Fold a text into lines of this width."""
    return "\n".join(textwrap.wrap(text, max(6, int(inches * 72 / (0.58 * points)))))


def fold_ticks(ax: Axes, names: Sequence[str], inches: float) -> None:
    """Write names below the columns of this width, in lines that fit."""
    points = rcParams["xtick.labelsize"]
    lines = ["\n".join(wrapped(part, inches, points) for part in n.split("\n")) for n in names]
    ax.set_xticks(range(len(names)), lines, parse_math=False)


def divided(columns: dict[str, list[TrialRow]], most: int) -> list[list[str]]:
    """Divide networks into rows of at most so many: all in one, or each architecture in its own."""
    if len(columns) <= most:
        return [[*columns]]
    groups: dict[tuple, list[str]] = {}
    for name, trials in columns.items():
        groups.setdefault((trials[0].optimizer, trials[0].arch), []).append(name)
    return [names[k : k + most] for names in groups.values() for k in range(0, len(names), most)]


def swarm(heights: np.ndarray, size: float, room: float) -> np.ndarray:
    """Return sideways places (N,) of points of this size at these heights (N,): as near to the
    middle as possible, so that no point covers another, and at most `room` from the middle.

    >>> swarm(np.array([0.0, 0.0, 5.0]), 1.0, 3.0).tolist()
    [0.0, -1.0, 0.0]
    """
    places = np.zeros(len(heights))
    done: list[int] = []
    for k in np.argsort(heights, kind="stable"):
        near = [j for j in done if heights[k] - heights[j] < size]
        apart = np.sqrt(size**2 - (heights[k] - heights[near]) ** 2)
        tried = np.concatenate([[0.0], places[near] - apart, places[near] + apart])
        tried = tried[np.argsort(np.abs(tried), kind="stable")]
        free = (np.abs(tried[:, None] - places[near]) >= apart * (1 - 1e-9)).all(1)
        places[k] = np.clip(tried[free.argmax()], -room, room)
        done = [*near, k]
    return places


def _draw_column(ax: Axes, k: int, trials: Sequence[TrialRow], loss: Objective) -> None:
    color = COLORS.get(trials[0].arch, "black")
    losses = [row.loss(loss) for row in trials]
    faces = ["white" if row.diverged else color for row in trials]
    size = (rcParams["font.size"] / 3) ** 2
    ax.scatter([k] * len(trials), losses, size, faces, edgecolors=color, linewidths=0.5)
    if any(row.diverged for row in trials):
        ax.plot([], [], "o", color="black", markerfacecolor="white", label=DIVERGED)
    median: dict = {"gid": MEDIAN, "label": MEDIAN, "color": "black", "linewidth": 1, "zorder": 0.9}
    ax.plot([k - 0.45, k + 0.45], [float(np.median(losses))] * 2, **median)


def _column_name(name: str, trials: Sequence[TrialRow], loss: Objective, below: float) -> str:
    losses = [row.loss(loss) for row in trials]
    trained = sum(value < below for value in losses)
    return f"{name}\n{trained} of {len(trials)}\nbest {min(losses):.4g}"


def _spread(ax: Axes) -> None:
    """Move the points of each column apart, now that the size of the axes is known."""
    for points in ax.collections:
        offsets = np.asarray(points.get_offsets())
        pixels = ax.transData.transform(offsets)
        size = (points.get_sizes()[0] ** 0.5 + 0.5) * ax.figure.figure.dpi / 72
        unit = ax.transData.transform((1, 1))[0] - ax.transData.transform((0, 1))[0]
        offsets[:, 0] += swarm(pixels[:, 1], size, 0.45 * unit) / unit
        points.set_offsets(offsets)
