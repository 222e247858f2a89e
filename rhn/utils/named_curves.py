"""Curves over time with their names and last numbers at their ends.

Names are moved apart so that none covers another, and curves less than 3 pixels apart are dashed so
that each of them is seen.
"""

import textwrap
from collections.abc import Mapping
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
NAME, CURVE = "name of a curve", "curve"  # ids of these texts and lines
TIME, AXIS, BAND = "time step", "time", "10 to 90 % of the runs"
CURVE_TEXTS = (TIME, AXIS, BAND)


def over_steps(
    ax: Axes,
    rows: Mapping[str, np.ndarray],
    unit: str,
    label: str = "",
    bands: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None,
) -> Axes:
    """Draw one curve for each row (T,) over the time steps, with its name and last number at its
    end, and bands by the names of curves. A cross marks a curve that ends at -inf. label: that of
    the vertical axis.
    """
    every = [np.asarray(row, float) for row in rows.values()]
    for k, (name, row) in enumerate(zip(rows, every, strict=True)):
        style: dict[str, Any] = {"color": COLOURS[k % len(COLOURS)], "gid": CURVE}
        known = np.isfinite(row)
        around = np.pad(known, 1)
        alone = np.flatnonzero(known & ~around[:-2] & ~around[2:]).tolist()
        ax.plot(np.where(known, row, np.nan), marker=".", markevery=alone, **style)
        if bands and name in bands:
            low, high = bands[name]
            low = np.where(np.isneginf(low), row, low)
            ax.fill_between(np.arange(len(row)), low, high, where=known, alpha=0.2, linewidth=0,
                            color=style["color"], label=BAND)  # fmt: skip
        if known.any():
            last = int(np.flatnonzero(known)[-1])
            name_end(ax, name, float(row[last]), style["color"])
            if np.isneginf(row[last + 1 :]).any():
                ax.plot(last, row[last], "x", color=style["color"])
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


def plain_ticks(ax: Axes) -> None:
    """Write very large and small numbers at their ticks, without a common power of ten."""
    for axis in (ax.xaxis, ax.yaxis):
        largest = float(np.abs(axis.get_view_interval()).max())
        if axis.get_scale() == "linear" and not 1e-3 <= largest < 1e5:
            axis.set_major_formatter("{x:.3g}")


def name_end(ax: Axes, name: str, y: float, color: str) -> None:
    """Write the name of a curve that ends at y, and y, right of the axes."""
    points = max(SMALLEST, rcParams["font.size"] - 1)
    letters = int(NARROW * figure_width(ax) * 72 / (0.55 * points))
    text = folded(": ".join(filter(None, (name, formatted(y, ".3g")))), letters)
    ax.annotate(text, (1, y), (4, 0), xycoords=("axes fraction", "data"), color=color,
                textcoords="offset points", va="center", fontsize=points, gid=NAME,
                annotation_clip=False, parse_math=False)  # fmt: skip


def folded(text: str, letters: int) -> str:
    """Fold a text into lines of at most so many letters, and at least 8."""
    return "\n".join(textwrap.wrap(text, max(letters, 8)))


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
        if under := sum(near[:k]):
            line.set_linestyle((0, (DASH * (sum(near) - under), DASH * under)))
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
