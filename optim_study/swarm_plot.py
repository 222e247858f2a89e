"""The swarm plot (figure 4 of Zilly et al. 2017), first as numbers (`swarm`), then drawn. No torch, no optuna.

Every trial is drawn, on a log axis if one lies far above the loss of the best constant output. With `up_to` the axis ends there, and
trials above it are counted instead of drawn.

`plot_swarm` draws into given axes and returns them; `draw_swarm` makes a whole figure.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from optim_study.results import By, Network, Row, by_network, optimizers_of, study_about, study_title
from optim_study.shares import BELOW, check_threshold
from rhn.errors import InvalidInputError
from rhn.training.state import Objective
from rhn.utils.figures import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    in_inches,
    legend_columns,
    our_style,
    plain_log_ticks,
    titled,
)

LEARNED = 0.9
"""A network with a loss of this part of the best constant output's has begun to learn."""
LOG_FROM = 3  # times the constant output's loss: a linear axis would leave little room to what is below


@dataclass(frozen=True, kw_only=True)
class Swarm:
    """The numbers of a swarm plot; losses in nats a frame."""

    loss: Objective
    by: By
    groups: tuple[dict[Network, list[Row]], ...]
    """The columns of each architecture, or of each depth, of one optimizer: the trials of a network."""
    constant: float | None
    """Loss of the best constant output; None if unknown."""
    below: float
    """Trials with a lower loss count as trained."""
    ceiling: float
    """Losses above it are counted, not drawn; infinity: all are drawn."""

    @property
    def columns(self) -> dict[Network, list[Row]]:
        """Of all groups."""
        return {network: trials for group in self.groups for network, trials in group.items()}

    @property
    def shown(self) -> list[Row]:
        """The trials in the figure: their loss is not above the axis."""
        return self.below_the_end(row for trials in self.columns.values() for row in trials)

    def below_the_end(self, trials: Iterable[Row]) -> list[Row]:
        """Those of these trials that the axis has."""
        return [row for row in trials if row.loss(self.loss) <= self.ceiling]

    @property
    def levels(self) -> dict[str, tuple[float, str]]:
        """Horizontal lines: name -> (loss, label)."""
        found = {"below": (self.below, f"counts as trained (below {self.below:g})")}
        if self.constant is not None:
            learned = LEARNED * self.constant
            found["constant"] = self.constant, f"best constant output ({self.constant:.2f})"
            found["learned"] = learned, f"10 % below it ({learned:.2f})"
        return found


def swarm(
    rows: Sequence[Row],
    *,
    by: By = "arch",
    loss: Objective = "train",
    constant: float | None = None,
    below: float = BELOW,
    up_to: float | None = None,
) -> Swarm:
    """The columns of these trials.

    constant: loss of the best constant output; None: that of the rows, if all have the same.
    up_to: end of the axis; None: all trials are drawn.

    Raises InvalidInputError without trials, or if the axis would end below all of them.
    """
    if not rows:
        raise InvalidInputError("there is no complete trial to draw")
    check_threshold(below)
    if constant is not None and not 0 < constant < np.inf:
        raise InvalidInputError(f"the loss of the best constant output is {constant}, expected a number above 0")
    losses = [row.loss(loss) for row in rows]
    if up_to is not None and min(losses) > up_to:
        raise InvalidInputError(f"every loss is above {up_to:g}: the least is {min(losses):.4g}")
    ceiling = up_to if up_to is not None and max(losses) > up_to else np.inf
    if constant is None and loss == "train" and len(constants := {row.constant_nll for row in rows}) == 1:
        (constant,) = constants
    return Swarm(loss=loss, by=by, groups=_groups(rows, by), constant=constant, below=below, ceiling=ceiling)


def _groups(rows: Sequence[Row], by: By) -> tuple[dict[Network, list[Row]], ...]:
    columns = list(by_network(rows).items())
    optimizers = optimizers_of(network for network, _ in columns)
    if by == "depth":  # stable: architectures keep their order
        columns.sort(key=lambda column: (optimizers.index(column[0].optimizer), column[0].depth))
    grouped = groupby(columns, lambda column: (column[0].optimizer, getattr(column[0], by)))
    return tuple(dict(group) for _, group in grouped)


COLORS = {"rhn": BLUE, "dt-rnn": RED, "dts-rnn": GREEN, "rnn": ORANGE, "lstm": PURPLE, "gru": SKY}
OTHERS = ("#000000", ORANGE, PURPLE, SKY, "#7F6A2E", GREY)
LABELS = {"train": "best training NLL (nats a frame)", "valid": "best validation NLL (nats a frame)"}
DASHES = {"constant": "--", "learned": "-.", "below": ":"}
SIZE = 2  # points, of a trial
COLUMN_INCHES, ROW_INCHES = 1.3, 4.6
MOST_COLUMNS = 12  # of a row, unless a single group has more
BELOW_POINTS, ABOVE_POINTS, COUNTS = (
    0.09,
    0.04,
    0.13,
)  # parts of the axis: for the best losses, and for the hidden trials
SMALL = 7  # points, of numbers within the axes
LINE = 1.35  # height of a line of text, times its font size


def plot_swarm(rows: Sequence[Row], *, log: bool = False, ax: Axes | None = None, **options) -> Axes:
    """Draw a column for each architecture and depth: a point for each trial, hollow if it diverged, and a black line at the median.

    Where too many trials have one loss, points at the sides of a column cover each other.

    options: of `swarm`: `by`, `loss`, `constant`, `below`, `up_to`.

    Raises InvalidInputError without trials.
    """
    found = swarm(rows, **options)
    if ax is None:
        return _figure([found.groups], found, log).axes[0]
    _draw(ax, found.groups, found, log)
    _legend(ax, found)
    return ax


def draw_swarm(rows: Sequence[Row], *, log: bool | None = None, about: str = "", **options) -> Figure:
    """Draw the default figure: groups of columns in rows of at most 12 columns, and a title.

    log: a log axis; None: if a loss in the figure is more than `LOG_FROM` times that of the best constant output, or the median.
    about: settings of the study and origin of the rows.
    options: as in `plot_swarm`.
    """
    found = swarm(rows, **options)
    losses = [row.loss(found.loss) for row in found.shown]
    log = bool(max(losses) > LOG_FROM * (found.constant or np.median(losses))) if log is None else log
    words = "every trial's loss, by " + {"arch": "architecture", "depth": "recurrence depth"}[found.by]
    return _figure(_rows(found.groups), found, log, (study_title(rows, words), study_about(rows, about)))


def colors_of(networks: Iterable[Network]) -> dict[str, str]:
    """Colours of all architectures among these networks."""
    archs = list(dict.fromkeys(network.arch for network in networks))
    free = iter([c for c in OTHERS if c not in {COLORS.get(arch) for arch in archs}] * len(archs))
    return {arch: COLORS.get(arch) or next(free) for arch in archs}


def _rows(groups: Sequence[dict]) -> list[list[dict]]:
    rows: list[list[dict]] = [[]]
    for group in groups:
        if rows[-1] and sum(map(len, rows[-1])) + len(group) > MOST_COLUMNS:
            rows.append([])
        rows[-1].append(group)
    return rows


def _figure(rows: Sequence[Sequence[dict]], found: Swarm, log: bool, title: tuple[str, str] | None = None) -> Figure:
    most = max(sum(map(len, row)) for row in rows)
    size = max(6.0, COLUMN_INCHES * most + 1), ROW_INCHES * len(rows) + 0.9
    with our_style():
        figure = Figure(figsize=size, layout="constrained")
        if title:
            titled(figure, *title)
        axes = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
        for ax, row in zip(axes, rows, strict=True):
            _draw(ax, row, found, log)
            ax.set_xlabel(ax.get_xlabel() if ax is axes[-1] else "")
        _legend(axes[0], found)
    return figure


def _draw(ax: Axes, groups: Sequence[dict[Network, list[Row]]], found: Swarm, log: bool) -> None:
    columns = [column for group in groups for column in group.items()]
    colors = colors_of(found.columns)
    _limits(ax, found, log)
    for k in range(1, len(columns), 2):
        ax.axvspan(k - 0.5, k + 0.5, color="0.965", linewidth=0, zorder=0)
    for name, (level, label) in found.levels.items():
        ax.axhline(level, gid=name, label=label, linestyle=DASHES[name], color="0.25", linewidth=1, zorder=0.8)
    for k, (network, trials) in enumerate(columns):
        _draw_column(ax, k, trials, found, colors[network.arch])
    _name_columns(ax, groups, found)
    ax.set(xlim=(-0.5, len(columns) - 0.5), ylabel=LABELS[found.loss])
    ax.grid(axis="y", color="0.92", linewidth=0.6)
    ax.set_axisbelow(True)


def _limits(ax: Axes, found: Swarm, log: bool) -> None:
    """Limit the axis to the points, with room for the best losses below them and for the numbers of hidden trials above."""
    values = [row.loss(found.loss) for row in found.shown] + [level for level, _ in found.levels.values()]
    ends = found.ceiling < np.inf
    low, high = min(values), found.ceiling if ends else max(values)
    to, back = (np.log, np.exp) if log and low > 0 else (np.asarray, np.asarray)
    span = float(to(high) - to(low)) or 0.1 * abs(float(to(high))) or 1.0
    above = COUNTS if ends else ABOVE_POINTS
    ax.set_yscale("log" if to is np.log else "linear")
    ax.set_ylim(float(back(to(low) - BELOW_POINTS * span)), float(back(to(high) + above * span)))
    if to is np.log:
        plain_log_ticks(ax.yaxis)
    ax.set_yticks([tick for tick in ax.get_yticks() if ax.get_ylim()[0] <= tick <= high])
    if ends:
        ax.axhspan(found.ceiling, ax.get_ylim()[1], facecolor="0.88", linewidth=0, zorder=0.5, gid="hidden")


def _draw_column(ax: Axes, k: int, trials: Sequence[Row], found: Swarm, color: str) -> None:
    import seaborn

    losses, shown = [row.loss(found.loss) for row in trials], found.below_the_end(trials)
    offset = {"textcoords": "offset points", "ha": "center", "va": "top", "fontsize": SMALL}
    if shown:
        style = {"size": SIZE, "linewidth": 0.5, "native_scale": True, "warn_thresh": 1, "legend": False}
        seaborn.swarmplot(x=[k] * len(shown), y=[row.loss(found.loss) for row in shown], color=color, ax=ax, **style)
        points = ax.collections[-1]
        points.set_facecolor(["white" if row.diverged else color for row in shown])
        points.set_edgecolor([color] * len(shown))
        words = f"{min(losses):{'.2f' if min(losses) >= 0.01 else '.2g'}}"
        ax.annotate(words, (k, min(losses)), (0, -SIZE), gid="best", zorder=7, **offset)
    if (median := float(np.median(losses))) <= found.ceiling:
        ax.plot([k - 0.45, k + 0.4], [median] * 2, gid="median", color="black", linewidth=1, zorder=0.9)
        ax.plot(k + 0.42, median, "<", color="black", markersize=4, zorder=6)
    if hidden := len(trials) - len(shown):
        ax.annotate(f"{hidden}\nabove", (k, 1), (0, -2), ax.get_xaxis_transform(), gid="above", **offset)


def _name_columns(ax: Axes, groups: Sequence[dict[Network, list[Row]]], found: Swarm) -> None:
    """Label each column with its name and number of trials, each group with its architecture or depth, and its optimizer if there are
    several."""
    columns, size = [column for group in groups for column in group.items()], 8
    inches, of_arch = ax.figure.get_figwidth() / (len(columns) + 1), found.by == "arch"
    inner = [str(n.depth) if of_arch else in_inches(n.arch, 0.85 * inches, size) for n, _ in columns]
    names = [f"{name}\nn = {len(trials)}" for name, (_, trials) in zip(inner, columns, strict=True)]
    ax.set_xticks(range(len(columns)), names, fontsize=size)
    ends = np.cumsum([0, *map(len, groups)])
    for end in ends[1:-1]:
        ax.axvline(end - 0.5, color="0.6", linewidth=0.8)
    several = len(optimizers_of(found.columns)) > 1
    outer = []
    for group in groups:
        network = next(iter(group))
        name = network.arch if of_arch else f"depth {network.depth}"
        outer.append(in_inches(f"{name}, {network.optimizer}" if several else name, 0.85 * inches * len(group), 9))
    ax.xaxis.remove_overlapping_locs = False  # a group's middle may be a column's
    ax.set_xticks((ends[:-1] + ends[1:] - 1) / 2, outer, minor=True, fontsize=9, fontweight="bold")
    lines = 2 + max(name.count("\n") for name in inner)
    ax.tick_params(axis="x", which="minor", length=0, pad=6 + LINE * size * lines)
    kinds = ("recurrence depth", "architecture") if of_arch else ("architecture", "recurrence depth")
    ax.set_xlabel("{}, and below {} (n: trials; at the lowest point: its loss)".format(*kinds))


def _legend(ax: Axes, found: Swarm) -> None:
    handles = []
    if any(line.get_gid() == "median" for other in ax.figure.axes for line in other.lines):
        handles.append(Line2D([], [], color="black", linewidth=1.2, marker="<", markersize=5, label="median"))
    if any(row.diverged for row in found.shown):
        hollow = {"markerfacecolor": "white", "markersize": 4}
        handles.append(Line2D([], [], marker="o", linestyle="", color="black", label="diverged", **hollow))
    handles += [line for line in ax.lines if line.get_gid() in DASHES]
    if found.ceiling < np.inf:
        handles.append(Patch(facecolor="0.88", label=f"above {found.ceiling:g}: counted, not drawn"))
    columns = legend_columns((handle.get_label() for handle in handles), ax.figure.get_figwidth() - 1)
    ax.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=columns)
