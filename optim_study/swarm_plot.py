"""The swarm plot (figure 4 of Zilly et al. 2017), first as numbers (`swarm`), then drawn. No torch, no optuna.

Every trial is drawn, on a log axis if one lies far above the loss of the best constant output. With `up_to` the axis ends there, and
trials above it are counted instead of drawn.

Every `plot_*` draws into given axes and returns them; every `draw_*` makes a whole figure.
"""

import warnings
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

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
    save_figure,
    titled,
)

LEARNED = 0.9
"""A network with a loss of this part of the best constant output's has begun to learn (`gersgorin.checking.calibration`)."""
LOG_FROM = 3  # times the constant output's loss: a linear axis would leave little room to what is below


@dataclass(frozen=True, kw_only=True)
class Column:
    """The trials of one network."""

    network: Network
    trials: int
    shown: tuple[Row, ...]
    """The trials in the figure: their loss is not above the axis."""
    hidden: tuple[Row, ...]
    """The others."""
    median: float
    best: float

    @property
    def above(self) -> int:
        """Number of hidden trials."""
        return len(self.hidden)

    @property
    def above_diverged(self) -> int:
        """Number of hidden trials that diverged."""
        return sum(row.diverged for row in self.hidden)


@dataclass(frozen=True, kw_only=True)
class Swarm:
    """The numbers of a swarm plot; losses in nats a frame."""

    loss: Objective
    by: By
    groups: tuple[tuple[Column, ...], ...]
    """The columns of each architecture, or of each depth, of one optimizer."""
    constant: float | None
    """Loss of the best constant output; None if unknown."""
    below: float
    """Trials with a lower loss count as trained."""
    ceiling: float | None
    """Losses above it are counted, not drawn; None: all are drawn."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """Of all groups."""
        return tuple(column for group in self.groups for column in group)

    @property
    def values(self) -> np.ndarray:
        """All losses in the figure."""
        return np.array([row.loss(self.loss) for column in self.columns for row in column.shown])

    @property
    def without_constant(self) -> str:
        """The reason why the best constant output has no line; empty if it has one."""
        if self.constant is not None:
            return ""
        why = "trials contain only its training loss" if self.loss == "valid" else "these trials do not contain it"
        return f"no line at the best constant output: {why}"

    @property
    def levels(self) -> dict[str, tuple[float, str]]:
        """Horizontal lines: name -> (loss, label)."""
        found = {"below": (self.below, f"counts as trained (below {self.below:g})")}
        if self.constant is not None:
            learned = LEARNED * self.constant
            found = {
                "constant": (self.constant, f"best constant output ({self.constant:.2f})"),
                "learned": (learned, f"10 % below it ({learned:.2f})"),
            } | found
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
    if up_to is not None and not up_to > 0:
        raise InvalidInputError(f"the axis ends at {up_to}, expected a loss above 0, or inf to draw all")
    constants = {row.constant_nll for row in rows}
    known = constants.pop() if len(constants) == 1 else None
    losses = [row.loss(loss) for row in rows]
    if up_to is not None and min(losses) > up_to:
        raise InvalidInputError(f"every loss is above {up_to:g}: the least is {min(losses):.4g}")
    ceiling = up_to if up_to is not None and max(losses) > up_to else None
    columns = [_column(network, trials, loss, ceiling) for network, trials in by_network(rows).items()]
    optimizers = optimizers_of(column.network for column in columns)
    if by == "depth":  # stable: architectures keep their order
        columns.sort(key=lambda column: (optimizers.index(column.network.optimizer), column.network.depth))
    groups = tuple(
        tuple(group) for _, group in groupby(columns, lambda c: (c.network.optimizer, getattr(c.network, by)))
    )
    constant = known if constant is None and loss == "train" else constant
    return Swarm(loss=loss, by=by, groups=groups, constant=constant, below=below, ceiling=ceiling)


def _column(network: Network, trials: list[Row], loss: Objective, ceiling: float | None) -> Column:
    losses = np.array([row.loss(loss) for row in trials])
    above = losses > (np.inf if ceiling is None else ceiling)
    return Column(
        network=network,
        trials=len(trials),
        shown=tuple(row for row, hidden in zip(trials, above, strict=True) if not hidden),
        hidden=tuple(row for row, hidden in zip(trials, above, strict=True) if hidden),
        median=float(np.median(losses)),
        best=float(losses.min()),
    )


COLORS = {"rhn": BLUE, "dt-rnn": RED, "dts-rnn": GREEN, "rnn": ORANGE, "lstm": PURPLE, "gru": SKY}
OTHERS = ("#000000", ORANGE, PURPLE, SKY, "#7F6A2E", GREY)
LABELS = {"train": "best training NLL (nats a frame)", "valid": "best validation NLL (nats a frame)"}
DASHES = {"constant": "--", "learned": "-.", "below": ":"}
SIZES = np.arange(5, 1.2, -0.25)  # points; below the least size the figure is widened
DRAWN = 2.6  # points; least visible size, at which neighbours overlap by half at most
SMALL_SIZES = np.arange(5, 0.9, -0.25)
COLUMN_INCHES, ROW_INCHES = 1.1, 4.6
MOST_COLUMNS = 12  # of a row, unless a single group has more
SMALL = 7  # points, of numbers within the axes
LINE = 1.35  # height of a line of text, times its font size


def plot_swarm(rows: Sequence[Row], *, log: bool = False, ax: Axes | None = None, **options) -> Axes:
    """Draw a column for each architecture and depth: a point for each trial, a black line at the median, crosses over diverged trials.

    No point covers another; without `ax` the figure is widened if necessary.

    options: of `swarm`: `by`, `loss`, `constant`, `below`, `up_to`.

    Raises InvalidInputError without trials, or if `ax` is too small for all points.
    """
    found = swarm(rows, **options)
    if ax is None:
        return _roomy([found.groups], found, log).axes[0]
    _draw_row(ax, found.groups, found, log, SMALL_SIZES)
    return ax


def draw_swarm(rows: Sequence[Row], *, log: bool | None = None, about: str = "", **options) -> Figure:
    """Draw the default figure: groups of columns in rows of at most 12 columns, and a title.

    log: a log axis; None: if a loss in the figure is more than `LOG_FROM` times that of the best constant output, or the median.
    about: settings of the study and origin of the rows.
    options: as in `plot_swarm`.
    """
    found = swarm(rows, **options)
    middle = found.constant or np.median(found.values)
    log = bool(found.values.max() > LOG_FROM * middle) if log is None else log
    words = "every trial's loss, by " + {"arch": "architecture", "depth": "recurrence depth"}[found.by]
    about = "; ".join(filter(None, (about, found.without_constant)))
    return _roomy(_rows(found.groups), found, log, (study_title(rows, words), study_about(rows, about)))


def save_swarm(rows: Sequence[Row], path: Path, **options) -> None:
    """Save `draw_swarm` to a file. Raises OutputError."""
    save_figure(path, lambda: draw_swarm(rows, **options))


def colors_of(networks: Iterable[Network]) -> dict[str, str]:
    """Colours of all architectures among these networks."""
    archs = list(dict.fromkeys(network.arch for network in networks))
    free = iter([c for c in OTHERS if c not in {COLORS.get(arch) for arch in archs}] * len(archs))
    return {arch: COLORS.get(arch) or next(free) for arch in archs}


def _rows(groups: Sequence[tuple[Column, ...]], most: int = MOST_COLUMNS) -> list[list[tuple[Column, ...]]]:
    """Distribute groups over the fewest rows of at most `most` columns, of about equal length."""
    rows = _packed(groups, most)
    shortest = next(k for k in range(1, most + 1) if len(_packed(groups, k)) == len(rows))
    return _packed(groups, shortest)


def _packed(groups: Sequence[tuple[Column, ...]], most: int) -> list[list[tuple[Column, ...]]]:
    rows: list[list[tuple[Column, ...]]] = [[]]
    for group in groups:
        if rows[-1] and sum(map(len, rows[-1])) + len(group) > most:
            rows.append([])
        rows[-1].append(group)
    return rows


def _roomy(rows: Sequence[Sequence[tuple[Column, ...]]], found: Swarm, log: bool, title: tuple[str, str] | None = None):
    """The figure at the least width with room for every point."""
    columns = max(sum(map(len, row)) for row in rows)
    width, height = max(6.0, COLUMN_INCHES * columns + 1), ROW_INCHES * len(rows) + 0.9
    for factor, sizes in [*((k, SIZES) for k in (1, 1.3, 1.7)), *((k, SMALL_SIZES) for k in (1.7, 3, 5))]:
        with our_style(), suppress(InvalidInputError):
            figure = Figure(figsize=(width * factor, height), layout="constrained")
            if title:
                titled(figure, *title)
            axes = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
            for ax, row in zip(axes, rows, strict=True):
                _prepare(ax, row, found, log, legend=ax is axes[0])
                ax.set_xlabel(ax.get_xlabel() if ax is axes[-1] else "")
            for ax, row in zip(axes, rows, strict=True):
                _draw_points(ax, row, found, sizes)
            return figure
    most = max(len(column.shown) for column in found.columns)
    raise InvalidInputError(f"{most} trials in a column are too many for a swarm plot: draw the map instead")


def _draw_row(ax: Axes, groups, found: Swarm, log: bool, sizes: np.ndarray) -> None:
    _prepare(ax, groups, found, log, legend=True)
    _draw_points(ax, groups, found, sizes)


def _prepare(ax: Axes, groups: Sequence[tuple[Column, ...]], found: Swarm, log: bool, *, legend: bool) -> None:
    """Draw all but the points, whose places depend on the axes' scale, limits and size."""
    count = sum(map(len, groups))
    ax.set(xlim=(-0.5, count - 0.5), ylabel=LABELS[found.loss])
    for k in range(1, count, 2):
        ax.axvspan(k - 0.5, k + 0.5, color="0.965", linewidth=0, zorder=0)
    for name, (level, label) in found.levels.items():
        style = {"linestyle": DASHES[name], "color": "0.25", "linewidth": 1, "zorder": 0.8}
        ax.axhline(level, gid=name, label=label, **style)
    if legend:
        _legend(ax, found)
    _name_columns(ax, groups, found)
    ax.figure.draw_without_rendering()  # a layout gives the axes their size
    _limits(ax, groups, found, log)
    ax.grid(axis="y", color="0.92", linewidth=0.6)
    ax.set_axisbelow(True)


def _name_columns(ax: Axes, groups: Sequence[tuple[Column, ...]], found: Swarm) -> None:
    """Label each column with its name and number of trials, each group with its architecture or depth, and its optimizer if there are
    several."""
    inches, size = ax.get_window_extent().width / ax.figure.dpi / sum(map(len, groups)), 8
    inner = [str(c.network.depth) if found.by == "arch" else c.network.arch for group in groups for c in group]
    inner = [in_inches(name, 0.85 * inches, size) for name in inner]
    lines = max(name.count("\n") for name in inner)
    columns = [column for group in groups for column in group]
    names = [f"{name}\nn = {c.trials}" for name, c in zip(inner, columns, strict=True)]
    ax.set_xticks(range(len(names)), names, fontsize=size)
    ends = np.cumsum([0, *map(len, groups)])
    for end in ends[1:-1]:
        ax.axvline(end - 0.5, color="0.6", linewidth=0.8)
    first = [group[0].network for group in groups]
    outer = [network.arch if found.by == "arch" else f"depth {network.depth}" for network in first]
    if len(optimizers_of(column.network for column in found.columns)) > 1:
        outer = [f"{name}, {network.optimizer}" for name, network in zip(outer, first, strict=True)]
    outer = [in_inches(n, 0.85 * inches * len(g), 9) for n, g in zip(outer, groups, strict=True)]
    ax.xaxis.remove_overlapping_locs = False  # a group's middle may be a column's
    ax.set_xticks((ends[:-1] + ends[1:] - 1) / 2, outer, minor=True, fontsize=9, fontweight="bold")
    ax.tick_params(axis="x", which="minor", length=0, pad=6 + LINE * size * (2 + lines))
    kind = (
        "recurrence depth, and below architecture" if found.by == "arch" else "architecture, and below recurrence depth"
    )
    ax.set_xlabel(f"{kind} (n: trials; at the lowest point: its loss)")


def _legend(ax: Axes, found: Swarm) -> None:
    handles = []
    if any(_median_is_drawn(column, found) for column in found.columns):
        handles.append(Line2D([], [], color="black", linewidth=1.2, marker="<", markersize=5, label="median"))
    if any(row.diverged for column in found.columns for row in column.shown):
        handles.append(Line2D([], [], marker="x", linestyle="", color="black", label="diverged"))
    handles += [line for line in ax.lines if line.get_gid() in DASHES]
    if found.ceiling is not None:
        handles.append(Patch(facecolor="0.88", label=f"above {found.ceiling:g}: counted, not drawn (×: diverged)"))
    columns = legend_columns((handle.get_label() for handle in handles), ax.figure.get_figwidth() - 1)
    ax.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=columns)


def _limits(ax: Axes, groups, found: Swarm, log: bool) -> None:
    """Limit the axis to the points, with room for the best losses below them and a strip for the hidden trials above."""
    inches = ax.get_window_extent().height / ax.figure.dpi
    values = np.append(found.values, [level for level, _ in found.levels.values()])
    low, high = float(values.min()), float(found.ceiling or values.max())
    to, back = (np.log, np.exp) if log and low > 0 else (np.asarray, np.asarray)
    below = min(0.2, 2 * LINE * SMALL / 72 / inches)
    crossed = any(column.above_diverged for column in found.columns)
    above = 0.03 if found.ceiling is None else min(0.3, ((3 if crossed else 2) * LINE * SMALL + 4) / 72 / inches)
    span = float(to(high) - to(low)) or 0.1 * abs(float(to(high))) or 1.0
    unit = span / (1 - above - below)
    ax.set_yscale("log" if to is np.log else "linear")
    ax.set_ylim(float(back(to(low) - below * unit)), float(back(to(low) - below * unit + unit)))
    if to is np.log:
        plain_log_ticks(ax.yaxis)
    ax.set_yticks([tick for tick in ax.get_yticks() if back(to(low) - below * unit) <= tick <= high])
    if found.ceiling is None:
        return
    ax.axhspan(found.ceiling, ax.get_ylim()[1], facecolor="0.88", linewidth=0, zorder=0.5)
    for k, column in enumerate(column for group in groups for column in group):
        if column.above:
            crosses = f"\n{column.above_diverged} ×" if column.above_diverged else ""
            style = {"ha": "center", "va": "top", "fontsize": SMALL, "linespacing": 1.1, "gid": "above"}
            ax.annotate(f"{column.above}\nabove{crosses}", (k, 1), (0, -2), ax.get_xaxis_transform(),
                        textcoords="offset points", **style)  # fmt: skip


def _draw_points(ax: Axes, groups: Sequence[tuple[Column, ...]], found: Swarm, sizes: np.ndarray) -> None:
    columns = [column for group in groups for column in group]
    values = [[row.loss(found.loss) for row in column.shown] for column in columns]
    colors = colors_of(column.network for column in found.columns)
    palette = [colors[column.network.arch] for column, own in zip(columns, values, strict=True) if own]
    size, points = _largest_points(ax, values, palette, sizes)
    for collection in points:
        collection.set(sizes=[max(size, DRAWN) ** 2], alpha=1.0 if size >= DRAWN else 0.75)
    places = iter(points)
    for k, (column, own) in enumerate(zip(columns, values, strict=True)):
        if own:
            _mark(ax, k, column, next(places), found, size)


def _largest_points(ax: Axes, columns: list[list[float]], palette: list[str], sizes: np.ndarray) -> tuple[float, list]:
    """Place all points at the largest possible of the descending `sizes`: that size, and a collection for each column."""

    def all_placed(k: int) -> bool:
        points, found = _place(ax, columns, palette, sizes[k])
        for collection in points:
            collection.remove()
        return found

    if not palette:
        return float(sizes[0]), []
    largest = bisect_left(range(len(sizes)), True, key=all_placed)
    if largest == len(sizes):
        raise InvalidInputError("the axes are too narrow to draw every point: use a wider figure")
    return float(sizes[largest]), _place(ax, columns, palette, sizes[largest])[0]


def _place(ax: Axes, columns: list[list[float]], palette: list[str], size: float) -> tuple[list, bool]:
    """Draw all points at this size: a collection for each column with fixed places, and whether all points have one."""
    import seaborn

    kept = {"xlim": ax.get_xlim(), "ylim": ax.get_ylim(), "xlabel": ax.get_xlabel(), "ylabel": ax.get_ylabel()}
    before = set(ax.collections)
    x, y = np.repeat(np.arange(len(columns)), list(map(len, columns))), np.concatenate(columns)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        style = {"palette": palette, "size": size, "linewidth": 0, "legend": False}
        seaborn.swarmplot(x=x, y=y, hue=x, ax=ax, native_scale=True, warn_thresh=0, **style)
        ax.set(**kept)
        ax.figure.draw_without_rendering()  # seaborn moves the points apart, or warns, during drawing
    points = [collection for collection in ax.collections if collection not in before]
    for collection in points:
        vars(collection).pop("draw", None)  # it would move them again at every drawing
    return points, not any("cannot be placed" in str(w.message) for w in caught)


def _mark(ax: Axes, k: int, column: Column, points, found: Swarm, size: float) -> None:
    """Draw the median across the column, the best loss below its lowest point, crosses over diverged trials."""
    if _median_is_drawn(column, found):
        ax.plot([k - 0.45, k + 0.4], [column.median] * 2, gid="median", color="black", linewidth=1, zorder=0.9)
        ax.plot(k + 0.42, column.median, "<", color="black", markersize=4, zorder=6)
    style = {"ha": "center", "va": "top", "fontsize": SMALL, "gid": "best", "zorder": 7, "textcoords": "offset points"}
    paper = {"facecolor": "white", "alpha": 0.7, "pad": 0.5, "linewidth": 0}
    ax.annotate(
        f"{column.best:{'.2f' if column.best >= 0.01 else '.2g'}}",
        (k, column.best),
        (0, -0.5 * size - 3),
        bbox=paper,
        **style,
    )
    where = np.asarray(points.get_offsets())[[row.diverged for row in column.shown]]
    ax.plot(*where.T, "x", color="black", markersize=size + 1.5, markeredgewidth=0.8, zorder=6, gid="diverged")


def _median_is_drawn(column: Column, found: Swarm) -> bool:
    return found.ceiling is None or column.median <= found.ceiling
