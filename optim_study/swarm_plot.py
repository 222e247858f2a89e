"""The swarm plot (figure 4 of Zilly et al. 2017): the loss of every trial, in one column for each
network. Needs neither torch nor Optuna.
"""

from collections import Counter
from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from optim_study.results import (
    By,
    StudyNetwork,
    TrialRow,
    by_network,
    constant_of,
    distinct_trials,
    study_about,
)
from optim_study.shares import BELOW, study_title
from rhn.errors import InvalidInputError
from rhn.plotting.old_figures import Block, compose
from rhn.training.state import Objective
from rhn.utils.figures import BLUE, GREEN, ORANGE, PURPLE, RED, SKY, our_style
from rhn.utils.old import drawable, folded, sized

# times the constant predictor's loss: a linear axis would leave little room to what is below
LOG_FROM = 3
COLORS = {"rhn": BLUE, "dt-rnn": RED, "dts-rnn": GREEN, "rnn": ORANGE, "lstm": PURPLE, "gru": SKY}
"""Colours of the architectures; all others are black."""
LABELS = {
    "train": "best training NLL (nats per frame)",
    "valid": "best validation NLL (nats per frame)",
}
DASHES = {"constant": "--", "below": ":"}
# widths of a column: usual, and in a narrow figure with letters of 9 points
COLUMN_INCHES, LEAST_INCHES = 1.3, 0.75
# heights: of a row, of several together, and of each at least
ROW_INCHES, ALL_INCHES, LEAST_ROW = 4.6, 9.5, 2.4
MOST_COLUMNS, MOST_ROWS = 12, 3  # of a row; of rows of one architecture or depth each
MARGINS = 0.6  # inches beside all columns


def plot_swarm(
    rows: Sequence[TrialRow],
    *,
    by: By = "arch",
    loss: Objective = "train",
    below: float = BELOW,
    log: bool | None = None,
    about: str = "",
) -> Figure:
    """Draw the loss of each trial as a point, in one column for each network. The point of a
    diverged trial is hollow, and a black line marks the median of each network.

    Returns a whole figure. Each of its `axes` shows one row of columns. The plot cannot be drawn
    into other axes. If too many trials have the same loss, points at the sides of a column cover
    each other.

    by: order of the columns of each optimizer: by architecture ("arch") or by "depth". below:
    trials with a loss below this value, in nats per frame, count as trained. log: whether the axis
    of losses is logarithmic. None: only if a loss is more than `LOG_FROM` times a reference. The
    reference is the loss of the constant predictor or, if this loss is not known, the median loss.
    about: settings of the study and origin of the rows.

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
    columns = networks_of(rows, by)
    losses = [row.loss(loss) for row in rows]
    constant = constant_of(rows, loss)
    if log is None:
        log = bool(max(losses) > LOG_FROM * (constant or np.median(losses)))
    levels = {"below": (below, f"counts as trained (below {below:g})")}
    if constant is not None:
        levels["constant"] = constant, f"constant predictor ({constant:.2f})"
    together = max(Counter(getattr(network, by) for network in columns).values())
    width, most = _width_of(len(columns), together)
    every, parts = [*columns.items()], np.array_split(range(len(columns)), -(-len(columns) // most))
    height = min(ROW_INCHES, max(LEAST_ROW, ALL_INCHES / len(parts)))

    def row_of(part: np.ndarray, ax: Axes) -> None:
        ax.set_yscale("log" if log and min(losses) > 0 else "linear")
        _draw_columns([every[k] for k in part], loss, below, ax)
        for name, (level, label) in levels.items():
            style: dict = {"color": "0.25", "linewidth": 1, "zorder": 0.8}
            ax.axhline(level, gid=name, label=label, linestyle=DASHES[name], **style)

    block = Block([partial(row_of, part) for part in parts], height, 1, "y", legend=True)
    return compose(study_title(rows, loss, below), study_about(rows, about), block, width=width)


def _width_of(columns: int, together: int) -> tuple[float, int]:
    """Return (width of the figure in inches, largest number of columns in a row). The columns of a
    depth, or of an architecture, stand in one row if they fit; together: the number of these
    columns.
    """
    apart = 8 < columns <= MOST_ROWS * together
    usual = together if apart else MOST_COLUMNS
    width = max(6.0, COLUMN_INCHES * min(columns, usual) + 1)
    with our_style():
        fitting = int((sized(width) - MARGINS) / LEAST_INCHES * 9 / rcParams["font.size"])
    most = min(usual, max(1, fitting))
    return width, most - most % together if most > together else most


def networks_of(rows: Sequence[TrialRow], by: By = "arch") -> dict[StudyNetwork, list[TrialRow]]:
    """Return the trials of each network. Raises InvalidInputError without trials."""
    if not rows:
        raise InvalidInputError("there is no complete trial to draw")
    return by_network(rows, by)


def _draw_columns(
    columns: Sequence[tuple[StudyNetwork, list[TrialRow]]], loss: Objective, below: float, ax: Axes
) -> None:
    """Draw networks side by side. Below each are its name, its number of trained trials and its
    lowest loss.
    """
    inches, names = (ax.figure.figure.get_figwidth() - MARGINS) / len(columns), []
    for k, (network, trials) in enumerate(columns):
        _draw_column(ax, k, trials, loss, COLORS.get(network.arch, "black"))
        losses = [row.loss(loss) for row in trials]
        best, trained = min(losses), sum(value < below for value in losses)
        least = f"best {best:.2f}" if best >= 0.01 else f"best {best:.2g}"
        words = [network.title, f"{trained} of {len(trials)} trained", least]
        size = rcParams["xtick.labelsize"]
        names.append("\n".join(folded(drawable(word), 0.9 * inches, size) for word in words))
    ax.set_xticks(range(len(columns)), names)
    ax.set(xlim=(-0.5, len(columns) - 0.5), ylabel=LABELS[loss])
    ax.grid(axis="y", color="0.92", linewidth=0.6)
    ax.set_axisbelow(True)


def _draw_column(ax: Axes, k: int, trials: Sequence[TrialRow], loss: Objective, color: str) -> None:
    import seaborn

    losses = [row.loss(loss) for row in trials]
    if k % 2:
        ax.axvspan(k - 0.5, k + 0.5, color="0.965", linewidth=0, zorder=0)
    style: dict = {"linewidth": 0.5, "native_scale": True, "warn_thresh": 1, "legend": False}
    size = rcParams["font.size"] / 4.5  # points
    seaborn.swarmplot(x=[k] * len(trials), y=losses, color=color, ax=ax, size=size, **style)
    points = ax.collections[-1]
    points.set_facecolor(["white" if row.diverged else color for row in trials])
    points.set_edgecolor([color] * len(trials))
    if any(row.diverged for row in trials):
        ax.plot([], [], "o", color="black", markerfacecolor="white", markersize=4, label="diverged")
    median = float(np.median(losses))
    line: dict = {"color": "black", "linewidth": 1, "zorder": 0.9}
    line |= {"marker": "<", "markersize": 4, "markevery": [1]}
    ax.plot([k - 0.45, k + 0.42], [median, median], gid="median", label="median", **line)
