"""What lesions cost as figures, from records alone: no torch. Figure 6 of Zilly et al. (2017), drawn as damage.

damage = loss of the lesioned network - loss of the whole one, in nats a predicted step
"""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, SymmetricalLogLocator

from analysis.damage import LesionRow, LesionTable
from rhn.plotting.figures import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    STEPS,
    drawable,
    enclosing,
    every_label,
    legend_columns,
    log_ends,
    plain_log_ticks,
    titled,
)

COLOURS, DASHES = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY), ("-", "--", "-.", ":")
DECADES = 2  # that a symmetric logarithmic axis shows beside its linear part


def plot_lesions(table: LesionTable, ax: Axes | None = None) -> Axes:
    """Damage of each layer's lesion with its 95 % interval, and of layers together; diamonds the blind controls.

    The axis is logarithmic; where a damage or an end of an interval is not above 0, linear about 0.
    """
    ax = ax or Figure(figsize=(5, 3.6), layout="constrained").subplots()
    rows = (*table.layers, *table.together)
    place = {row.layers: x for x, row in enumerate(rows, start=1)}
    _points(rows, list(place.values()), ax, fmt="o", color=BLUE, label=f"lesioned ({table.mode})")
    controls = [row for row in table.controls if row.layers in place]
    if controls:
        words = "layer kept, input removed (blind)"
        _points(
            controls, [place[row.layers] + 0.2 for row in controls], ax, fmt="D", color=ORANGE, label=words, mfc="white"
        )
    _damage_axis(ax.yaxis, [end for row in (*rows, *controls) for end in (row.delta, row.low, row.high)])
    every = every_label([row.label for row in rows], ax, across=True)
    ax.set_xticks(list(place.values())[::every], [row.label for row in rows][::every])
    ax.set(xlim=(0.5, len(place) + 0.5), xlabel="lesioned layer")
    on = f" on {table.split}" if table.split else ""
    ax.set_ylabel(f"damage{on} (nats a {table.step})\nabove the unlesioned {table.baseline:.4g}")
    _legend_above(
        ax, "bars: 95 % intervals" if any(math.isfinite(row.low) for row in rows) else "one sequence: no intervals"
    )
    return ax


def plot_pairs(table: LesionTable, ax: Axes | None = None) -> Axes:
    """Damage of every pair of layers; on the diagonal that of the layer alone."""
    ax = ax or Figure(figsize=(4, 3.4), layout="constrained").subplots()
    index = {row.layers[0]: k for k, row in enumerate(table.layers)}
    damage = np.full((len(index), len(index)), np.nan)
    for row in (*table.layers, *table.pairs):
        i, j = index[row.layers[0]], index[row.layers[-1]]
        damage[i, j] = damage[j, i] = row.delta
    damage = np.ma.masked_invalid(damage)
    image = ax.imshow(damage, origin="lower", cmap="viridis", vmin=min(0.0, float(damage.filled(0).min())))
    names = [row.label for row in table.layers]
    every = every_label(names, ax, across=True)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_ticks(range(0, len(names), every), names[::every])
        axis.set_label_text("layer")
    ax.set_title("two layers; diagonal: one alone", loc="left")
    ax.figure.colorbar(image, ax=ax, label=f"damage (nats a {table.step})")
    return ax


def plot_units(table: LesionTable, ax: Axes | None = None) -> Axes:
    """Damage of every single unit, within each layer the most harmful first."""
    ax = ax or Figure(figsize=(5, 3.4), layout="constrained").subplots()
    for k, row in enumerate(table.layers):
        deltas = sorted((u.delta for u in table.units if u.layers == row.layers), reverse=True)
        style = {
            "color": COLOURS[k % len(COLOURS)],
            "linestyle": DASHES[k % len(DASHES)],
            "linewidth": 1.2,
        }
        ax.plot(np.arange(1, len(deltas) + 1), deltas, label=f"layer {row.label}", **style)
    ax.axhline(0, color=GREY, linewidth=0.8)
    _damage_axis(ax.yaxis, [unit.delta for unit in table.units])
    ax.set_xscale("log")
    ax.set(xlabel="unit, by damage", ylabel=f"damage of one unit (nats a {table.step})")
    plain_log_ticks(ax.xaxis)
    _legend_above(ax)
    return ax


def draw_lesions(table: LesionTable, *, title: str = "") -> Figure:
    """The default figure: figure 6, beside it pairs and units where they were measured.

    title: what network it is; how it and its data came to be is in the record (`LesionTable.about`).
    """
    extra = [plot for plot, rows in ((plot_pairs, table.pairs), (plot_units, table.units)) if rows]
    tall = 0.2 * math.ceil(len(table.layers) / 4) if table.units else 0.0
    figure = Figure(figsize=(6 + 4.6 * len(extra), 4.4 + tall), layout="constrained")
    titled(figure, f"Lesions ({table.mode}){f' of {drawable(title)}' if title else ''}", _about(table))
    for plot, ax in zip((plot_lesions, *extra), np.atleast_1d(figure.subplots(1, 1 + len(extra))), strict=True):
        plot(table, ax)
    return figure


def _about(table: LesionTable) -> str:
    measured = (
        f"{table.sequences:,} sequence{'' if table.sequences == 1 else 's'}, {table.frames:,} predicted {table.step}s"
    )
    return "; ".join(filter(None, (drawable(table.about), measured)))


def _points(rows: Sequence[LesionRow], at: list[float], ax: Axes, **style) -> None:
    """Damage with its intervals."""
    damage = np.array([row.delta for row in rows])
    ends = np.array([(row.low, row.high) for row in rows]).reshape(-1, 2)
    errors = np.nan_to_num(np.clip(np.stack((damage - ends[:, 0], ends[:, 1] - damage)), 0, None), posinf=0)
    ax.errorbar(at, damage, yerr=errors, markersize=5, linewidth=1.2, capsize=3, **style)


def _damage_axis(axis, values: Sequence[float]) -> None:
    """Logarithmic where all is above 0, else linear from about a hundredth of the greatest value down to 0 and below."""
    finite = np.array([value for value in values if math.isfinite(value)])
    if not finite.size or not finite.any():
        return
    low, high = float(finite.min()), float(finite.max())
    if low > 0:
        axis.axes.set_yscale("log")
        axis.axes.set_ylim(*log_ends(low, high))
        plain_log_ticks(axis)
        return
    threshold = 10.0 ** (math.floor(math.log10(max(high, -low))) - DECADES + 1)
    axis.axes.set_yscale("symlog", linthresh=threshold)
    axis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=threshold, subs=STEPS))
    top, bottom = (
        enclosing(threshold, max(threshold, 1.05 * size))[1] if size > 0.1 * threshold else 0.3 * threshold
        for size in (high, -low)
    )
    axis.axes.set_ylim(-bottom, top)
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
    axis.axes.axhline(0, color=GREY, linewidth=0.8, zorder=0)


def _legend_above(ax: Axes, title: str | None = None) -> None:
    handles, labels = ax.get_legend_handles_labels()
    columns = legend_columns(labels, ax.get_window_extent().width / ax.figure.dpi)
    ax.legend(
        handles,
        labels,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=columns,
        title=title,
        title_fontsize=8,
        alignment="left",
    )
