"""Curves over time with their names and last numbers at their ends.

Names are moved apart so that none covers another, and curves less than 3 pixels apart are dashed so
that each of them is seen. A curve of a layer has the colour of this layer in every figure.
"""

import re
import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator

from rhn.utils.figures import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    SMALLEST,
    figure_width,
)
from rhn.utils.tables import formatted

COLOURS = (RED, BLUE, ORANGE, GREEN, PURPLE, SKY, "black")
DASH = 2.5  # widths of a line: so much is seen of each of several curves that coincide
DECADES = 1  # spanned by curves above 0, from which their axis is logarithmic
NARROW = 0.42  # of a figure's width: the longest line of a curve's name
NAME, CURVE, CUT = "name of a curve", "curve", "cut axis"  # ids of these texts and lines
LAYER_NAME = re.compile(r"layer (?P<from_1>\d+)$|\[(?P<from_0>\d+)\]$")
ABOVE = "↑ "  # before the number of a point above a cut axis
TIME, AXIS, BAND = "time step", "time", "10 to 90 % of the runs"
CURVE_TEXTS = (TIME, AXIS, BAND)


def over_steps(
    ax: Axes,
    rows: Mapping[str, np.ndarray],
    unit: str,
    label: str = "",
    bands: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None,
    colours: Mapping[str, str] | None = None,
) -> Axes:
    """Draw one curve for each row (T,) over the time steps, with its name and last number at its
    end, and bands by the names of curves, where both ends are finite. A cross marks a curve that
    ends at -inf. label: that of the vertical axis. colours: by the names of curves; None:
    `colours_of` them.
    """
    every = [np.asarray(row, float) for row in rows.values()]
    colours = colours_of(rows) if colours is None else colours
    for name, row in zip(rows, every, strict=True):
        if bands and name in bands:
            ax.fill_between(np.arange(len(row)), *bands[name], color=colours[name], alpha=0.2,
                            linewidth=0, label=BAND)  # fmt: skip
        _draw_curve(ax, name, row, colours[name])
    known = np.concatenate([[], *(row[np.isfinite(row)] for row in every)])
    if len(known) and known.min() > 0 and known.max() > 10**DECADES * known.min():
        ax.set_yscale("log")
        ax.minorticks_off()
        subs = (1, 3) if known.max() < 100 * known.min() else (1,)
        ax.yaxis.set_major_locator(LogLocator(subs=subs, numticks=5))
        ax.yaxis.set_major_formatter("{x:g}")
    ax.set_xlabel(f"{AXIS} ({unit})", parse_math=False)
    ax.set_ylabel(label)
    ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    ax.margins(x=0.01)
    ax.spines[["top", "right"]].set_visible(False)
    plain_ticks(ax)
    return place_names(ax)


def _draw_curve(ax: Axes, name: str, row: np.ndarray, color: str) -> None:
    """Draw a curve with dots for single numbers, its name, and a cross where it falls to -inf."""
    known = np.isfinite(row)
    around = np.pad(known, 1)
    alone = np.flatnonzero(known & ~around[:-2] & ~around[2:]).tolist()
    ax.plot(np.where(known, row, np.nan), marker=".", markevery=alone, color=color, gid=CURVE)
    if not known.any():
        return
    last = int(np.flatnonzero(known)[-1])
    falls = bool(np.isneginf(row[last + 1 :]).any())
    name_end(ax, name, float(row[last]), color, -np.inf if falls else float(row[last]))
    if falls:
        ax.plot(last, row[last], "x", color=color)


def plain_ticks(ax: Axes) -> None:
    """Write very large and small numbers at their ticks, without a common power of ten."""
    for axis in (ax.xaxis, ax.yaxis):
        largest = float(np.abs(axis.get_view_interval()).max())
        if axis.get_scale() == "linear" and not 1e-3 <= largest < 1e5:
            axis.set_major_formatter("{x:.3g}")


def colours_of(names: Collection[str]) -> dict[str, str]:
    """Return the colours of curves: those of layers by their numbers, the others in turn, beside
    layers from the last colour on.

    >>> colours_of(["input", "layer 2"]) == {"input": COLOURS[-1], "layer 2": COLOURS[1]}
    True
    """
    layers = dict[str, int]()
    for name in names:
        found = LAYER_NAME.search(name)
        if found and found["from_0"]:
            layers[name] = int(found["from_0"])
        elif found:
            layers[name] = int(found["from_1"]) - 1
    others = [name for name in names if name not in layers]
    free = COLOURS[::-1] if layers else COLOURS
    places = {name: free[k % len(free)] for k, name in enumerate(others)}
    return places | {name: COLOURS[layer % len(COLOURS)] for name, layer in layers.items()}


def cut_above(ax: Axes, x: float, first: float, later: Sequence[float] | np.ndarray) -> None:
    """Show the range of the later numbers of a panel, and mark a first one above it at x."""
    low, high = float(np.min(later)), float(np.max(later))
    room = 0.1 * (high - low) + 1e-9
    if not first > high + room:
        return
    ax.set_ylim(low - min(room, abs(low) / 10), high + room)  # above 0 on a logarithmic axis
    ax.annotate(f"{ABOVE}{formatted(first, '.3g')}", (x, 1), (4, 0), textcoords="offset points",
                xycoords=("data", "axes fraction"), va="top", gid=CUT)  # fmt: skip


def name_end(ax: Axes, name: str, y: float, color: str, number: float | None = None) -> None:
    """Write the name of a curve that ends at y right of the axes, and a number; None: y."""
    points = max(SMALLEST, rcParams["font.size"] - 1)
    letters = int(NARROW * figure_width(ax) * 72 / (0.55 * points))
    end = formatted(y if number is None else number, ".3g")
    text = folded(": ".join(filter(None, (name, end))), letters)
    ax.annotate(text, (1, y), (4, 0), xycoords=("axes fraction", "data"), color=color,
                textcoords="offset points", va="center", fontsize=points, gid=NAME,
                annotation_clip=False, parse_math=False)  # fmt: skip


def folded(text: str, letters: int) -> str:
    """Fold a text into lines of at most so many letters, and at least 8."""
    return "\n".join(textwrap.wrap(text, max(letters, 8)))


def fold_label(ax: Axes) -> None:
    """Fold the label of a vertical axis that is longer than the axis."""
    label, height = ax.yaxis.label, ax.bbox.height
    length = label.get_window_extent().height
    if 0 < height < length:
        text = label.get_text().replace("\n", " ")
        label.set_text(folded(text, int(0.9 * len(text) * height / length)))


def names_of(ax: Axes) -> list[Any]:
    """The texts that `name_end` wrote."""
    return [text for text in ax.texts if text.get_gid() == NAME]


def name_heights(ax: Axes) -> np.ndarray:
    """The heights of the names of curves, in points."""
    names = names_of(ax)
    return np.array([1.25 * n.get_fontsize() * (1 + n.get_text().count("\n")) for n in names])


def place_names(ax: Axes) -> Axes:
    """Move the names of curves apart as little as possible, and dash curves that coincide."""
    names = names_of(ax)
    if not names:
        return ax
    ax.autoscale_view()
    lines = [line for line in ax.lines if line.get_gid() == CURVE]
    curves = [ax.transData.transform(line.get_xydata())[:, 1] for line in lines]
    for k, (line, own) in enumerate(zip(lines, curves, strict=True)):
        near = [len(y) == len(own) and np.nan_to_num(np.abs(y - own)).mean() < 3 for y in curves]
        under = sum(near[:k])
        dashes = (0, (DASH * (sum(near) - under), DASH * under))
        line.set_linestyle(dashes if under else "-")
    points = 72 / ax.figure.dpi
    low, top = points * ax.bbox.y0, points * ax.bbox.y1
    ends = np.array([points * ax.transData.transform((0, name.xy[1]))[1] for name in names])
    order = np.argsort(ends, kind="stable")
    heights = name_heights(ax)[order]
    middles = np.cumsum(heights) - heights / 2
    wanted = (ends[order] - middles).clip(low, max(low, top - heights.sum()))
    up = np.maximum.accumulate(wanted)
    down = np.minimum.accumulate(wanted[::-1])[::-1]
    for k, place in zip(order, (up + down) / 2 + middles, strict=True):
        names[k].set_position((4, place - ends[k]))
    return ax
