"""The swarm plot (figure 4 of Zilly et al. 2017) and the map that shows why, from rows alone: no torch, no optuna.

Every `plot_*` draws into axes or a figure of its own and returns them.
"""

import warnings
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from optim_study.results import Row, by_network
from rhn.engine.curves import Objective
from rhn.errors import InvalidInputError
from rhn.figures import BLUE, GREEN, ORANGE, PURPLE, RED, SKY, our_style, save_figure

COLORS = {"rhn": BLUE, "dt-rnn": RED, "dts-rnn": GREEN, "rnn": ORANGE, "lstm": PURPLE, "gru": SKY}
OTHERS = ("#000000", ORANGE, PURPLE, SKY, "#F0E442")
LABELS = {"train": "best training NLL (nats a frame)", "valid": "best validation NLL (nats a frame)"}
SIZES = np.arange(5, 1.2, -0.25)  # points; rather than smaller ones, a wider figure
DRAWN = 2.6  # smaller points are drawn at this size, so that neighbours overlap by half at most
SMALL_SIZES = np.arange(5, 0.9, -0.25)
COLUMN_INCHES = 1.1


def plot_swarm(
    rows: Sequence[Row],
    *,
    loss: Objective = "train",
    log: bool = False,
    constant: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """A column for each architecture and depth, a point for each trial at its loss, a black tick at the median, a cross over those that
    diverged. Every point has a place of its own, apart from its neighbours; without `ax` the figure is widened if need be.

    constant: loss of the best constant output, a dashed line; None: the training loss that the rows tell, if they tell one.

    Raises InvalidInputError where there is nothing to draw, or, with `ax`, where it is too small for all points.
    """
    groups = _groups(rows)
    if constant is None and loss == "train" and len(told := {row.constant_nll for row in rows}) == 1:
        (constant,) = told
    if ax is not None:
        _draw_swarm(ax, groups, loss, log, constant, SMALL_SIZES)
        return ax
    width = max(4.0, COLUMN_INCHES * len(groups) + 1)
    for factor, sizes in [*((k, SIZES) for k in (1, 1.3, 1.7)), *((k, SMALL_SIZES) for k in (1.7, 3, 5))]:
        with our_style(), suppress(InvalidInputError):
            ax = Figure(figsize=(width * factor, 5.5), layout="constrained").subplots()
            _draw_swarm(ax, groups, loss, log, constant, sizes)
            return ax
    most = max(map(len, groups.values()))
    raise InvalidInputError(f"{most} trials in a column are too many for a swarm plot: draw the map instead")


def plot_map(rows: Sequence[Row], *, loss: Objective = "train", figure: Figure | None = None) -> Figure:
    """A panel for each network: learning rate against initial standard deviation, the colour the loss, diverged trials crossed.

    The colours, the same in all panels, end a little above the median loss: what is worse than most shares the last one.
    """
    figure, panels = network_panels(rows, figure)
    losses = np.array([row.loss(loss) for row in rows])
    colors = Normalize(losses.min(), 1.05 * np.median(losses))
    for (arch, depth), (ax, trials) in panels.items():
        points = _map_panel(ax, trials, loss, colors)
        ax.set_title(f"{arch}, depth {depth}", fontsize=9)
    figure.colorbar(
        points, ax=figure.axes, extend="max" if losses.max() > colors.vmax else "neither", label=LABELS[loss]
    )
    return figure


def network_panels(
    rows: Sequence[Row], figure: Figure | None = None, *, extra_height: float = 0
) -> tuple[Figure, dict[tuple[str, int], tuple[Axes, list[Row]]]]:
    """A figure with a panel for each network, learning rate against initial standard deviation, and by network its axes and trials.

    Raises InvalidInputError where there is no trial.
    """
    groups = _groups(rows)
    archs, depths = list(dict.fromkeys(arch for arch, _ in groups)), sorted({depth for _, depth in groups})
    size = 2.3 * len(depths) + 1.4, 2.1 * len(archs) + 0.7 + extra_height
    figure = figure or Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(archs), len(depths), sharex=True, sharey=True, squeeze=False)
    for i, arch in enumerate(archs):
        for j, depth in enumerate(depths):
            axes[i, j].set(xscale="log", yscale="log", visible=(arch, depth) in groups)
    figure.supxlabel("learning rate", fontsize=9)
    figure.supylabel("initial standard deviation", fontsize=9)
    return figure, {(a, d): (axes[archs.index(a), depths.index(d)], trials) for (a, d), trials in groups.items()}


def save_swarm(
    rows: Sequence[Row], path: Path, *, loss: Objective = "train", log: bool | None = None, **options
) -> None:
    """Writes the swarm plot, with the options of `plot_swarm`; `log` None: a log axis where the worst loss is more than three times
    the best.

    Raises InvalidInputError for nothing to draw, OutputError where the file cannot be written.
    """
    losses = [row.loss(loss) for row in rows]
    log = bool(losses) and max(losses) > 3 * min(losses) if log is None else log
    save_figure(path, lambda: plot_swarm(rows, loss=loss, log=log, **options).figure)


def _groups(rows: Sequence[Row]) -> dict[tuple[str, int], list[Row]]:
    if not rows:
        raise InvalidInputError("there is no complete trial to draw")
    return by_network(rows)


def _draw_swarm(ax: Axes, groups, loss: Objective, log: bool, constant: float | None, sizes: np.ndarray) -> None:
    columns = [[row.loss(loss) for row in trials] for trials in groups.values()]
    colors = colors_of(groups)
    palette = [colors[arch] for arch, _ in groups]
    _prepare_axes(ax, columns + [[constant]] * (constant is not None), loss, log)
    ax.set_xlim(-0.5, len(columns) - 0.5)
    if constant is not None:
        label = f"best constant output ({constant:.2f})"
        ax.axhline(constant, gid="constant", label=label, color="0.35", linewidth=1, linestyle="--", zorder=0.8)
    _label(ax, groups, colors)
    size, points = _largest_points(ax, columns, palette, sizes)
    for collection in points:
        collection.set(sizes=[max(size, DRAWN) ** 2], alpha=1.0 if size >= DRAWN else 0.75)
    _mark(ax, groups, points, columns, size)


def _largest_points(ax: Axes, columns: list[list[float]], palette: list[str], sizes: np.ndarray) -> tuple[float, list]:
    """All points at the largest of the descending `sizes` at which each finds a place: that size, and a collection a column."""

    def all_placed(k: int) -> bool:
        points, found = _place(ax, columns, palette, sizes[k])
        for collection in points:
            collection.remove()
        return found

    largest = bisect_left(range(len(sizes)), True, key=all_placed)
    if largest == len(sizes):
        raise InvalidInputError("the axes are too narrow to draw every point: use a wider figure")
    return float(sizes[largest]), _place(ax, columns, palette, sizes[largest])[0]


def _prepare_axes(ax: Axes, columns: list[list[float]], loss: Objective, log: bool) -> None:
    """Scale and limits come first: where points find room depends on both."""
    values = np.concatenate(columns)
    if log:
        ax.set_yscale("log")
        _plain_log_ticks(ax.yaxis)
        margin = max((values.max() / values.min()) ** 0.05, 1.01)
        ax.set_ylim(values.min() / margin, values.max() * margin)
    else:
        margin = 0.05 * np.ptp(values) or 0.05 * abs(values.max()) or 1.0
        ax.set_ylim(values.min() - margin, values.max() + margin)
    ax.set_ylabel(LABELS[loss])
    ax.grid(axis="y", color="0.92", linewidth=0.6)
    ax.set_axisbelow(True)


def _place(ax: Axes, columns: list[list[float]], palette: list[str], size: float) -> tuple[list, bool]:
    """Draws all points at this size and keeps them where they were put: a collection a column, and whether all found a place."""
    import seaborn

    before, kept = set(ax.collections), {"xlim": ax.get_xlim(), "ylim": ax.get_ylim(), "ylabel": ax.get_ylabel()}
    x, y = np.repeat(np.arange(len(columns)), list(map(len, columns))), np.concatenate(columns)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        style = {"palette": palette, "size": size, "linewidth": 0, "legend": False}
        seaborn.swarmplot(x=x, y=y, hue=x, ax=ax, native_scale=True, warn_thresh=0, **style)
        ax.set(xlabel="recurrence depth", **kept)
        ax.figure.draw_without_rendering()  # seaborn moves the points apart, and complains, when they are drawn
    points = [collection for collection in ax.collections if collection not in before]
    for collection in points:
        vars(collection).pop("draw", None)  # it would move them again whenever the figure is drawn
    return points, not any("cannot be placed" in str(w.message) for w in caught)


def _mark(ax: Axes, groups, collections: list, columns: list[list[float]], size: float) -> None:
    """Medians, and crosses over what diverged."""
    for k, (trials, points) in enumerate(zip(groups.values(), collections, strict=True)):
        middle = np.median(columns[k])
        ax.plot([k + 0.36, k + 0.44], [middle, middle], gid="median", color="black", linewidth=1, zorder=0.9)
        ax.plot(k + 0.44, middle, "<", color="black", markersize=4, zorder=6)
        where = np.asarray(points.get_offsets())[[row.diverged for row in trials]]
        ax.plot(*where.T, "x", color="black", markersize=size + 1.5, markeredgewidth=0.8, zorder=6, gid="diverged")


def _label(ax: Axes, groups, colors: dict[str, str]) -> None:
    archs, depths = zip(*groups, strict=True)
    ax.set_xticks(range(len(groups)), map(str, depths))
    for arch in list(colors)[1:]:
        ax.axvline(archs.index(arch) - 0.5, color="0.8", linewidth=0.8)
    handles = [Line2D([], [], marker="o", linestyle="", color=color, label=arch) for arch, color in colors.items()]
    handles.append(Line2D([], [], color="black", linewidth=1.2, marker="<", markersize=5, label="median"))
    if any(row.diverged for trials in groups.values() for row in trials):
        handles.append(Line2D([], [], marker="x", linestyle="", color="black", label="diverged"))
    handles += [line for line in ax.lines if line.get_gid() == "constant"]
    columns = max(1, int(ax.figure.get_figwidth() / 1.8))
    ax.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=columns)


def _map_panel(ax: Axes, trials: list[Row], loss: Objective, norm: Normalize):
    where = np.array([(row.learning_rate, row.init_std) for row in trials]).reshape(-1, 2).T
    losses, ended = [row.loss(loss) for row in trials], np.array([row.diverged for row in trials], dtype=bool)
    ax.plot(*where[:, ended], "x", color="black", markersize=5, markeredgewidth=0.8)
    return ax.scatter(*where, c=losses, norm=norm, cmap="viridis_r", s=18, edgecolor="0.3", linewidth=0.3)


def colors_of(networks: Iterable[tuple[str, int]]) -> dict[str, str]:
    """Architecture -> colour, for all architectures among these (architecture, depth)."""
    archs = list(dict.fromkeys(arch for arch, _ in networks))
    free = iter([c for c in OTHERS if c not in {COLORS.get(arch) for arch in archs}] * len(archs))
    return {arch: COLORS.get(arch) or next(free) for arch in archs}


def _plain_log_ticks(axis) -> None:
    """7, 8, 9, 10, 20, ... instead of powers of ten: losses span less than a decade."""
    axis.set_major_locator(LogLocator(10, subs=(1, 2, 3, 5, 7)))
    axis.set_minor_locator(LogLocator(10, subs=range(1, 10)))
    axis.set_major_formatter(ScalarFormatter())
    axis.set_minor_formatter(NullFormatter())
