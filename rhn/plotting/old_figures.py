"""Figures, axes, names, legends and line styles that all plots of results share. This module does
not import torch.

Every `plot_*` draws into given axes and returns them; `compose` makes a figure. Lines of different
colours also differ in dashes or markers.
"""

import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps, rcParams, ticker
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure, SubFigure
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D

from rhn.utils.figures import GREY, SLIDE_HEIGHT, our_style
from rhn.utils.old import folded, highest, sized, time_label, titled

Style = dict[str, Any]  # of lines and areas
CIRCLE = np.exp(1j * np.linspace(0, 2 * np.pi, 181))
DASHED: Style = {"color": "black", "linestyle": (0, (4, 3)), "zorder": 1.5}  # below data
# 7 and 4: the first 28 lines differ from each other
DASHES = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
DECADES = 8  # of a heat map's scale
SPAN = 1.5  # decades of values from which their axis is logarithmic
ZERO_PRODUCT = "the product is zero up to rounding from here"
GROWTH = "gradient (log₁₀)"  # norm of the derivative of state t in state 0
WIDTH = 8.0  # inches, of a figure of several panels
# inches of labels beside panels, and of those above and below, for letters of 9 points
BESIDE, ABOVE = 0.55, 0.45
LEAST = 2.0  # inches of a panel, at letters of 9 points: what does not fit goes into the next row
WIDE = 1.1 * LEAST  # of one with longer labels
PAD, LINE = 0.15, 0.15  # inches between blocks, and of a line of letters of 9 points
OUTSIDE: Style = {"loc": "outside upper left"}  # places of legends: above panels, above axes
INSIDE: Style = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderpad": 0.2}
INSIDE |= {"borderaxespad": 0.2}
SQUEEZED = 0.6  # least part of the panels' height, to fit on a page; less for larger letters
FAR = 4.0  # decades, from which a log axis has ticks only at powers of ten
LINEAR = 0.35  # decades, on which a log axis has ticks of even distance in value
ROUND = (
    (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8),
    (1, 1.5, 2, 3, 5, 7),
    (1, 2, 5),
    (1, 3),
)  # first digits of ticks of a log axis


class Shown(Figure):
    """A figure that a notebook displays as a picture."""

    def _repr_png_(self) -> bytes:
        picture = io.BytesIO()
        with our_style():
            self.savefig(picture, format="png", dpi=100)
        return picture.getvalue()


class ShownAxes(Axes):
    """Axes that a notebook displays as their whole figure, which is also their attribute
    `figure`.
    """

    figure = property(lambda self: self.get_figure(root=True), Axes.set_figure)

    def _repr_png_(self) -> bytes:
        return self.figure._repr_png_()


@dataclass(frozen=True)
class Block:
    """Panels of one kind, in rows that are as wide as the figure. A narrow figure has more rows."""

    draws: Sequence[Callable[[Axes], object]]
    """The functions that draw the panels, one for each."""
    height: float = 1.9
    """Height of a row, in inches."""
    columns: int = 1
    """Largest number of panels in a row, in a figure of the default width."""
    shared: str = ""
    """Axes that all panels share, "x", "y" or "xy": only the outer panels have labels on them."""
    legend: bool = False
    """True for one legend above all panels, if each label has the same style in all panels;
    otherwise each panel has its own legend.
    """
    least: float = LEAST
    """Least width of a panel with its labels in inches, for letters of 9 points."""
    together: int = 1
    """Number of panels that stay side by side if they fit: a row has a multiple of this number."""
    square: bool = False
    """True for rows as high as their panels are wide, instead of `height`."""

    def draw(self, part: SubFigure, width: float) -> "Drawn":
        """Draw the panels into a part of a figure, whose default width is `width` inches."""
        inches, letters = part.figure.get_figwidth(), rcParams["font.size"] / 9
        fitting = max(1, int(inches / (self.least * letters)))
        rows = -(-len(self.draws) // min(math.ceil(self.columns * max(1, inches / width)), fitting))
        columns = -(-len(self.draws) // rows)
        if fitting >= self.together:
            columns += -columns % self.together
            columns -= self.together * (columns > fitting)
            rows = -(-len(self.draws) // columns)
        room = inches / columns
        wider = room / (width / min(self.columns, len(self.draws)))
        high = self.height * float(np.clip(wider, 0.75, 1.1)) * max(1.0, letters)
        if self.square:  # beside and below are labels, above is a title
            high = room + letters * (ABOVE - BESIDE)
        axes = self._axes(part, rows, columns)
        for draw, ax in zip(self.draws, axes, strict=True):
            draw(ax)
            plain_ticks(ax)
            most = 0.88 * room - letters * BESIDE  # labels beside the axes differ in width
            title = folded(ax.get_title("left"), most, rcParams["font.size"])
            ax.set_title(title, loc="left")
        _drop_repeated(axes, columns)
        by_row = [axes[k * columns : (k + 1) * columns] for k in range(rows)]
        lines = sum(max(ax.get_title("left").count("\n") for ax in row) for row in by_row)
        lines += max(ax.get_xlabel().count("\n") for ax in by_row[-1])
        texts = letters * (rows * ABOVE + lines * LINE)
        drawn = Drawn(by_row, PAD + texts, rows * (high - letters * ABOVE))
        if self.legend and consistent(axes):
            drawn.texts += legend_of(part, legend_entries(axes), inches - 0.5, OUTSIDE)
            drawn.unnamed.clear()
        return drawn

    def _axes(self, part: SubFigure, rows: int, columns: int) -> list[Axes]:
        """Make axes for all panels. The last row may have fewer panels than the others."""
        shared = {f"share{axis}": axis in self.shared for axis in "xy"}
        kind = {"axes_class": ShownAxes}
        every = part.subplots(rows, columns, squeeze=False, subplot_kw=kind, **shared).ravel()  # type: ignore[call-overload]
        axes = every[: len(self.draws)].tolist()
        for ax in every[len(self.draws) :]:
            ax.remove()
        for ax in axes[-columns:]:  # above a place without axes too
            ax.tick_params(labelbottom=True)
        return axes


@dataclass
class Drawn:
    """A block that is drawn in its part of a figure."""

    unnamed: list[list[Axes]]
    """Rows of axes whose curves have no legend yet."""
    texts: float
    """Inches of height that titles, labels and legends need."""
    panels: float
    """Inches of height that the panels have if there is enough room."""


def compose(title: str, about: str, *blocks: Block, width: float = WIDTH) -> Shown:
    """Draw blocks of panels below each other into a new figure, in our style.

    title: the result that the figure shows, in a sentence. about: the origin of network and data.
    width: default width in inches, see `our_style`.
    """
    with our_style():
        figure = Shown(figsize=(sized(width), 1), layout="constrained")
        titled(figure, title, about)
        grid = figure.add_gridspec(len(blocks), 1)
        parts = [figure.add_subfigure(grid[k]) for k in range(len(blocks))]
        drawn = [block.draw(part, width) for block, part in zip(blocks, parts, strict=True)]
        _arrange(figure, grid, drawn)
        for block in drawn:
            block.texts += sum(max(map(legend_above, row)) for row in block.unnamed)
        _settle(figure, grid, drawn)
    return figure


def _settle(figure: Figure, grid: GridSpec, drawn: Sequence[Drawn]) -> None:
    """Lay out a figure until nothing moves, at most four times: the layout depends on labels and
    ticks, and these depend on the layout.
    """
    views = {ax: (ax.get_xlim(), ax.get_ylim()) for ax in figure.axes if ax.get_aspect() == 1}
    places = list[tuple[float, ...]]()
    for _ in range(4):
        _arrange(figure, grid, drawn)
        before, places = places, [ax.get_position().bounds for ax in figure.axes]
        if places == before:
            return
        for ax in figure.axes:
            fold_labels(ax)
            fix_number_of_ticks(ax)
        for ax, view in views.items():
            fill_place(ax, *view)


def _arrange(figure: Figure, grid: GridSpec, drawn: Sequence[Drawn]) -> None:
    """Lay out a figure as high as its blocks and titles. If it is slightly higher than its page, it
    is reduced to the page's height; a figure for a slide always has the slide's height unless it
    would be reduced too much.
    """
    lines = 2 + figure.get_suptitle().count("\n") + figure.get_supxlabel().count("\n")
    texts = sum(block.texts for block in drawn) + lines * rcParams["font.size"] / 50
    panels = sum(block.panels for block in drawn)
    share = (highest() - texts) / panels
    if highest() != SLIDE_HEIGHT:
        share = min(1.0, share)
    if share < SQUEEZED / max(1.0, rcParams["font.size"] / 9) ** 2:
        share = 1.0
    grid.set_height_ratios([block.texts + share * block.panels for block in drawn])
    figure.set_figheight(round(texts + share * panels, 9))
    figure.get_layout_engine().execute(figure)  # type: ignore[union-attr]


def fold_labels(ax: Axes) -> None:
    """Fold the labels of axes to their width and height."""
    for axis, pixels in ((ax.xaxis, ax.bbox.width), (ax.yaxis, ax.bbox.height)):
        inches = pixels / ax.figure.dpi
        axis.set_label_text(folded(axis.get_label_text(), inches, rcParams["font.size"]))


def _drop_repeated(axes: Sequence[Axes], columns: int) -> None:
    """Remove labels of axes that the axes at their left, or below, have too."""
    if len({ax.get_xlabel() for ax in axes}) == 1:
        for ax in axes[:-columns]:
            ax.set_xlabel("")
    names = [ax.get_ylabel() for ax in axes]
    for k, ax in enumerate(axes):
        if k % columns and names[k] == names[k - 1]:
            ax.set_ylabel("")


def fill_place(ax: Axes, x: tuple[float, float], y: tuple[float, float]) -> None:
    """Widen the limits x and y of axes with one scale for both directions, so that the axes fill
    their place. Matplotlib's "datalim" would also narrow the limits.
    """
    place, whole = ax.get_position(original=True), ax.get_figure().bbox  # type: ignore[union-attr]
    ratio = whole.width * place.width / (whole.height * place.height)
    half = max(np.ptp(x) / max(ratio, 1), np.ptp(y) * min(ratio, 1)) / 2
    sides = np.array((-half, half))
    ax.set(xlim=np.mean(x) + sides * max(ratio, 1), ylim=np.mean(y) + sides / min(ratio, 1))


def fix_number_of_ticks(ax: Axes) -> None:
    """Set the number of ticks to as many as fit on the axes at their present size. Long numbers
    need width, not height.
    """
    for axis, share in ((ax.xaxis, 0.6), (ax.yaxis, 1)):
        locator, most = axis.get_major_locator(), share * axis.get_tick_space()
        if isinstance(locator, LogTicks):
            if axis is ax.xaxis and has_powers(axis):
                most *= 0.6  # a power of ten is wider than a plain number
            locator.set_params(numticks=max(2, round(most)))
        elif isinstance(locator, ticker.MaxNLocator):
            # one number alone is no scale; matplotlib counts with two lines for each label
            least = round(np.clip(most / 0.6, 1, 3)) if axis is ax.yaxis else min(round(most), 2)
            most = max(round(np.clip(most, 1, 9)), least)
            locator.set_params(nbins=most, min_n_ticks=max(1, least))


def legend_of(owner: Axes | SubFigure, handles: Sequence, inches: float, place: Style) -> float:
    """Give axes or a part of a figure a legend with as many columns as fit. Returns the height of
    the legend in inches.
    """
    size = rcParams["legend.fontsize"]
    labels = [folded(str(handle.get_label()), inches - 3 * size / 72, size) for handle in handles]
    for columns in range(len(handles), 0, -1):
        legend = owner.legend(handles, labels, ncols=columns, **place)
        box, dots = legend.get_window_extent(), legend.figure.dpi
        if box.width <= inches * dots or columns == 1:
            return box.height / dots
        legend.remove()
    return 0.0


def legend_above(ax: Axes) -> float:
    """Add a legend between the title of axes and the axes, if several curves have labels. Returns
    its height in inches.
    """
    handles, labels = ax.get_legend_handles_labels()
    if len(labels) < 2 or ax.get_legend():
        return 0.0
    inches = 0.88 * ax.get_window_extent().width / ax.figure.dpi  # letters vary with the dots
    high = legend_of(ax, handles, inches, INSIDE)
    if title := ax.get_title("left"):
        ax.set_title(title, loc="left", pad=0.7 * rcParams["font.size"] + 72 * high)
    return high


def ink(ax: Axes):
    """Return the colour of the axes' spines: black, or a light colour in a dark style."""
    return ax.spines["bottom"].get_edgecolor()


def plain_ticks(ax: Axes) -> None:
    """Label ticks with plain numbers. Very large or small numbers have their own powers of ten,
    because a common power of ten would overlap the title.
    """
    for axis in (ax.xaxis, ax.yaxis):
        format_, largest = axis.get_major_formatter(), max(np.abs(axis.get_view_interval()))
        if axis.get_scale() == "log":
            axis.set_major_locator(LogTicks(numticks=7))
            axis.set_minor_locator(ticker.NullLocator())
            axis.set_major_formatter(LogLabels())
        elif isinstance(format_, ticker.ScalarFormatter) and not 1e-3 <= largest < 1e5:
            axis.set_major_formatter("{x:.3g}")


def has_powers(axis: Axis) -> bool:
    """True if the labels of a log axis are powers of ten, because some numbers are very small or
    large.
    """
    low, high = sorted(axis.get_view_interval())
    return not (low >= 9e-4 and high <= 1e5)


class LogLabels(ticker.Formatter):
    """A formatter of ticks on a log axis: plain numbers, or powers of ten for all ticks if some are
    very small or large.
    """

    def __call__(self, x: float, pos: int | None = None) -> str:
        if not has_powers(self.axis):  # type: ignore[arg-type]
            return f"{x:g}"
        power = math.floor(math.log10(x) + 1e-9)
        digits = f"{x / 10**power:.2g}"
        return f"$10^{{{power}}}$" if digits == "1" else rf"${digits}\cdot10^{{{power}}}$"


class LogTicks(ticker.LogLocator):
    """A locator of ticks at round numbers on a log axis: at most `numticks` ticks if their spacing
    is even, and more if it is uneven.
    """

    def tick_values(self, vmin: float, vmax: float) -> Sequence[float]:
        (low, high), most = np.log10(sorted((vmin, vmax))), self.numticks or 7
        if high - low < LINEAR:
            even = ticker.MaxNLocator(min(9, int(most)), steps=(1, 2, 5, 10))
            return even.tick_values(vmin, vmax)
        least = (high - low) / (1.4 * most)
        if high - low <= 2:
            least = min(0.47, least)
        for numbers in ROUND if high - low < FAR else ():
            if np.diff(np.log10(numbers), append=1).min() >= least:
                decades = 10.0 ** np.arange(max(np.floor(low), -307), np.ceil(high) + 1)
                return np.outer(decades, numbers).ravel().tolist()
        ticks = np.asarray(super().tick_values(vmin, vmax))
        return ticks[ticks >= np.finfo(float).tiny].tolist()  # powers below are rounded to 0


class WholeTicks(ticker.MaxNLocator):
    """A locator of ticks at whole numbers, even on an axis that contains only one whole number."""

    def __init__(self, most: int = 10):
        super().__init__(most, integer=True)

    def tick_values(self, vmin: float, vmax: float) -> Sequence[float]:
        first, last = np.ceil(vmin), np.floor(vmax)
        ticks = np.array([first] if first == last else super().tick_values(vmin, vmax))
        return ticks[ticks == ticks.round()].tolist()


def isolated_points(values: np.ndarray) -> Style:
    """Return markers for the points of a curve (T,) without a finite neighbour, which have no line.

    >>> isolated_points(np.array([1.0, np.nan, 2.0, 3.0])), isolated_points(np.ones(3))
    ({'marker': '.', 'markevery': [0]}, {})
    """
    known = np.pad(np.isfinite(values), 1)
    isolated = np.flatnonzero(known[1:-1] & ~known[:-2] & ~known[2:]).tolist()
    return {"marker": ".", "markevery": isolated} if isolated else {}


def log_scale(ax: Axes, values: np.ndarray) -> None:
    """Make the value axis logarithmic if positive values span more than `SPAN` decades."""
    values = values[np.isfinite(values)]
    if len(values) and 0 < values.min() < values.max() * 10**-SPAN:
        ax.set_yscale("log")


def over_time(ax: Axes, steps: float, unit: str, ylabel: str) -> Axes:
    """Make the horizontal axis a time axis from 0 to `steps`, and return the axes. Call this
    function after everything is drawn.
    """
    ax.set_xlim(0, steps)
    ax.xaxis.set_major_locator(WholeTicks())
    ax.set(xlabel=time_label(unit), ylabel=ylabel)
    return ax


def draw_growth(log_norm: np.ndarray, unit: str, ax: Axes) -> Axes:
    """Draw the norm of the gradient from each time step back to step 0 on a log scale. `log_norm`
    (T,) is its natural logarithm.
    """
    t = np.arange(len(log_norm) + 1)
    decades = np.r_[0, np.where(np.isfinite(log_norm), log_norm, np.nan) / np.log(10)]
    ax.plot(t, decades, color=ink(ax), linewidth=1.4, **isolated_points(decades))
    ax.axhline(0, **DASHED | {"color": ink(ax)}, linewidth=0.8)
    if (zero := np.isneginf(log_norm)).any():
        ax.text(t[1:][zero][0], 0, ZERO_PRODUCT, color=GREY, va="bottom")
    return over_time(ax, len(log_norm), unit, GROWTH)


def colour_bar(colours: ScalarMappable, label: str, **options) -> Block:
    """Return a block with a colour bar."""

    def draw(ax: Axes) -> None:
        figure = ax.figure.figure
        words = folded(label, figure.get_figwidth() - 0.5, rcParams["font.size"])
        figure.colorbar(colours, cax=ax, orientation="horizontal", label=words, **options)

    return Block([draw], 0.55)


def shade_style(k: int, count: int) -> Style:
    """Return the shade (from dark to light) and dashes of the k-th of `count` lines that have an
    order, such as layers or lengths.
    """
    shade = colormaps["viridis"](0.9 * k / max(1, count - 1))
    return {"color": shade, "linestyle": DASHES[k % len(DASHES)]}


def name_ends(ax: Axes, inches: float) -> None:
    """Write the names of curves beside their ends instead of a legend, if all names fit below each
    other. Call this function when the limits of the axes are known. Figures with a width chosen by
    the user keep their legend, because their panels may become lower.

    inches: height of the axes with their labels.
    """
    if math.isfinite(highest()):
        return
    lines = [line for line in ax.lines if not str(line.get_label()).startswith("_")]
    to_axes = ax.transData + ax.transAxes.inverted()
    ends = []
    for line in lines:
        data = np.column_stack(line.get_data()).astype(float)
        inside = (np.abs(to_axes.transform(data) - 0.5) <= 0.501).all(1)
        ends += data[inside][-1:].tolist()
    points, apart = 72 * (inches - ABOVE), 1.2 * rcParams["legend.fontsize"]
    if len(lines) * apart > points or len(ends) < len(lines) or not lines:
        return
    places = points * to_axes.transform(ends)[:, 1]
    for line, end, at, place in zip(lines, ends, places, spread(places, apart), strict=True):
        style: Style = {"xytext": (4, place - at), "textcoords": "offset points", "va": "center"}
        style["fontsize"] = rcParams["legend.fontsize"]
        ax.annotate(str(line.get_label()), tuple(end), **style)
        line.set_label(f"_{line.get_label()}")


def spread(places: np.ndarray, apart: float) -> np.ndarray:
    """Move numbers as little as possible, without a change of their order, until neighbours are at
    least `apart` from each other.

    >>> spread(np.array([5.0, 0.0, 5.5]), 2.0).tolist()
    [4.25, 0.0, 6.25]
    """
    order = np.argsort(places, kind="stable")
    groups: list[list[float]] = []  # of places that touch
    for place in places[order].tolist():
        groups.append([place])
        while len(groups) > 1:
            low, high = (np.mean(g) for g in groups[-2:])
            if high - low >= apart * (len(groups[-2]) + len(groups[-1])) / 2:
                break
            groups[-2:] = [groups[-2] + groups[-1]]
    moved = [np.mean(g) + apart * (k - (len(g) - 1) / 2) for g in groups for k in range(len(g))]
    found = np.empty(len(places))
    found[order] = moved
    return found


def legend_entries(axes: Iterable[Axes]) -> list:
    """Return handles for a legend of several axes, one for each label."""
    pairs = [pair for ax in axes for pair in zip(*ax.get_legend_handles_labels(), strict=True)]
    first = {label: handle for handle, label in reversed(pairs)}
    return [first[label] for label in dict.fromkeys(label for _, label in pairs)]


def consistent(axes: Iterable[Axes]) -> bool:
    """Return True if in all axes lines with the same label have the same style, and lines with the
    same style have the same label.
    """
    pairs = [pair for ax in axes for pair in zip(*ax.get_legend_handles_labels(), strict=True)]
    styled = {
        (name, (str(h.get_color()), _dashes(h), h.get_marker()))
        for h, name in pairs
        if isinstance(h, Line2D)
    }
    return len({name for name, _ in styled}) == len(styled) == len({style for _, style in styled})


def _dashes(line: Line2D) -> str:
    """Return the line style of a line with its dashes, which `get_linestyle` leaves out."""
    dashes = line._unscaled_dash_pattern  # type: ignore[attr-defined]  # no getter is public
    return f"{line.get_linestyle()} {dashes}"
