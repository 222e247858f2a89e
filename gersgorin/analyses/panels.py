"""Pictures of results: curves over time with their names at their ends, legends, and figures.

Every `draw_*` draws into given axes and returns them; `composed` makes a figure. Curves less than 3
pixels apart are dashed so that each of them is seen.
"""

import io
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import LogLocator, MaxNLocator

from rhn.utils.figures import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    SLIDE_HEIGHT,
    SMALLEST,
    inches_of,
    our_style,
)
from rhn.utils.tables import formatted

COLOURS = (RED, BLUE, ORANGE, GREEN, PURPLE, SKY, "black")
DASH = 2.5  # widths of a line: so much is seen of each of several curves that coincide
DECADES = 1  # spanned by curves above 0, from which their axis is logarithmic
STACKED, SLIDE = 5, 12  # inches: no pairs side by side in a narrower figure; a slide is wider
NARROW = 0.42  # of a figure's width: the longest line of a curve's name
NAME, CURVE = "name of a curve", "curve"  # ids of these texts and lines
REAL, IMAGINARY, TIME = "real part", "imaginary part", "time step"
EIGENVALUES, CIRCLE = "eigenvalues", "unit circle"
MODULUS, RE, IM, BAND = "modulus, norm", "Re", "Im", "10 to 90 % of the runs"
PANEL_TEXTS = (REAL, IMAGINARY, TIME, EIGENVALUES, CIRCLE, MODULUS, RE, IM, BAND)
"""The words of all panels, without the names of rows."""


class Shown(Figure):
    """A figure that a notebook displays as a picture."""

    def _repr_png_(self) -> bytes:
        picture = io.BytesIO()
        self.savefig(picture, format="png", dpi=100)
        return picture.getvalue()


def new_axes() -> Axes:
    """Return the axes of a new figure."""
    return Shown(figsize=(6.75, 3.6), layout="constrained").add_subplot()


def figure_width(part: SubFigure | Axes) -> float:
    """The width of the whole figure, in inches."""
    return float(part.get_figure(root=True).get_figwidth())  # type: ignore[union-attr]


def composed(
    draw: Callable[[SubFigure], float], title: str, size: str | float, source: str = ""
) -> Shown:
    """Return a new figure in our style, with a title, and a footer that names the source.

    draw: adds the panels and returns the height of the figure in inches. size: "page", "column",
    "slide" or the width in inches.
    """
    with our_style(size):
        width, points = inches_of(size), rcParams["font.size"]
        figure = Shown(figsize=(width, SLIDE_HEIGHT), layout="constrained")
        figure.get_layout_engine().set(h_pad=points / 180, w_pad=points / 180)  # type: ignore
        whole = figure.add_subfigure(figure.add_gridspec(1, 1)[0])
        left: dict[str, Any] = {"x": 0.01, "ha": "left", "wrap": True, "parse_math": False}
        heading, _, numbers = title.partition("\n")
        figure.suptitle(heading, **left)
        if numbers:
            numbers = numbers.replace(", ", ",\n") if width < STACKED else numbers
            whole.suptitle(numbers, fontsize=points, fontweight="normal", **left)
        if source:
            figure.supxlabel(source, fontsize=rcParams["legend.fontsize"], color=GREY, **left)
        height = draw(whole.add_subfigure(whole.add_gridspec(1, 1)[0]))
        figure.set_figheight(SLIDE_HEIGHT if width > SLIDE else height)
        for _ in range(2):  # the places of names depend on heights, and heights on these places
            figure.draw_without_rendering()
            for ax in figure.axes:
                place_names(ax)
    return figure


def pair(part: SubFigure) -> tuple[Axes, Axes, float]:
    """Two panels, one above the other in a narrow figure, and the height in inches they need."""
    width = figure_width(part)
    if width < STACKED:
        return *part.subplots(2, 1), 1 + 1.5 * width
    return *part.subplots(1, 2), 1.4 + 0.4 * width


def one_panel(part: SubFigure, plot: Callable[[Axes], object]) -> float:
    """Draw a plot into one panel. Returns its height in inches."""
    ax = part.add_subplot()
    plot(ax)
    return max(1.6 + 0.3 * figure_width(part), 1 + name_heights(ax).sum() / 72)


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
    ax.set_xlabel(f"{TIME} ({unit})", parse_math=False)
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


def circle_points(center: float, radius: float, start: float = 0.0) -> np.ndarray:
    """Points around a circle from an angle on. They lie close together where the circle meets the
    real axis, so that it is round in any panel around a real number.
    """
    near = np.geomspace(1e-9, 0.1, 60)
    angles = np.concatenate([np.linspace(0, 2 * np.pi, 181), near, np.pi - near, np.pi + near,
                             2 * np.pi - near])  # fmt: skip
    angles = np.sort((angles - start) % (2 * np.pi))
    return center + radius * np.exp(1j * (start + np.append(angles, 2 * np.pi)))


def draw_circle(ax: Axes) -> None:
    """Draw the unit circle."""
    circle = circle_points(0, 1)
    ax.plot(circle.real, circle.imag, color="black", linestyle=(0, (4, 3)), label=CIRCLE,
            linewidth=0.7 * rcParams["lines.linewidth"])  # fmt: skip


def legend_above(part: SubFigure, axes: list[Axes], order: Sequence[str] = ()) -> None:
    """Write above all panels what those of the complex plane show, each name once.

    order: names that stand last, in this order.
    """
    pairs = [pair for ax in axes for pair in zip(*ax.get_legend_handles_labels(), strict=True)]
    handles = {label: handle for handle, label in pairs}
    names = [name for name in handles if name not in order]
    names += [name for name in order if name in handles]
    columns = 2 if figure_width(part) < STACKED else 4
    part.legend([handles[name] for name in names], names, loc="outside upper left", borderpad=0.4,
                handlelength=1.4, handletextpad=0.6, columnspacing=0.8, ncols=columns)  # fmt: skip
