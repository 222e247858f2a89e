"""Figures, axes, names, legends and line styles that all plots of results share. Nothing here
imports torch.

Every `plot_*(result, ax=None)` draws into the given axes, or into a new figure, in our style, and
returns the axes. Lines of different colours also differ in dashes or markers. The title of a figure
has what several results share, legends the rest.
"""

import io
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any

import numpy as np
from matplotlib import colormaps, rcParams, ticker
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.colors import LogNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec, SubplotSpec
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D

from rhn.utils.figures import (
    COLOURS,
    GREY,
    NAMED,
    drawn,
    folded,
    highest,
    our_style,
    sized,
    time_label,
    titled,
)
from rhn.utils.result import Result

Style = dict[str, Any]  # of lines and areas
CIRCLE = np.exp(1j * np.linspace(0, 2 * np.pi, 181))
DASHED: Style = {"color": "black", "linestyle": (0, (4, 3))}
# 7 and 4: the first 28 lines differ from each other
DASHES = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
DECADES = 8  # of a heat map's scale
SPAN = 1.5  # decades of values from which their axis is logarithmic
GROWTH = "gradient (log₁₀)"  # norm of the derivative of state t in state 0
WIDTH = 8.0  # inches, of a figure of several panels
# inches of labels beside panels, and of those above and below, for letters of 9 points
BESIDE, ABOVE = 0.55, 0.45
LEAST = 2.0  # inches of a panel, at letters of 9 points: what does not fit goes into the next row
MOST_DESCRIBED = 4  # results, whose descriptions stand at the foot if they differ
LONGEST = 0.3  # of a panel's width, a name at the end of a curve
LINEAR = 0.35  # decades, on which a log axis has ticks of even distance in value
ROUND = (
    (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8),
    (1, 1.5, 2, 3, 5, 7),
    (1, 2, 5),
    (1, 3),
)  # first digits of ticks of a log axis


class Shown(Figure):
    """A figure with a picture for notebooks."""

    def _repr_png_(self) -> bytes:
        picture = io.BytesIO()
        with our_style():
            self.savefig(picture, format="png", dpi=100)
        return picture.getvalue()


class ShownAxes(Axes):
    """Axes that a notebook displays as their figure."""

    def _repr_png_(self) -> bytes:
        return self.figure.figure._repr_png_()  # type: ignore[attr-defined]  # `compose` makes it a `Shown`


@dataclass(frozen=True)
class Block:
    """Panels of one kind in rows that span the figure; a narrow figure has more rows."""

    draws: Sequence[Callable[[Axes], object]]
    """Draw each panel."""
    height: float = 1.9
    """Of a row, in inches."""
    columns: int = 1
    """Panels in a row, at most, in a figure of its own width."""
    shared: str = ""
    """Axes that all panels share, "x", "y" or "xy": only the outer ones are labelled."""
    legend: bool = False
    """One legend of all panels above them, if a label has one style in all; else each panel names
    its curves at their ends, or in its own legend.
    """
    least: float = LEAST
    """Inches of a panel with its labels, for letters of 9 points."""
    square: bool = False
    """Rows as high as their panels are wide, in place of `height`."""

    def rows(self, width: float, inches: float, more: int) -> tuple[list[list[int]], list[float]]:
        """The panels of each row, and all heights with the legend's, in a figure of these inches
        that is `width` wide by itself, with `more` columns than usual if they fit.
        """
        fitting = max(1, int(inches / (self.least * rcParams["font.size"] / 9)))
        usual = max(self.columns, math.ceil(self.columns * inches / width))
        if self.columns > 1:
            usual += more
        count = -(-len(self.draws) // min(usual, fitting))
        length = -(-len(self.draws) // count)
        rows = [[*range(len(self.draws))][k * length : (k + 1) * length] for k in range(count)]
        wider = inches / len(rows[0]) / (width / min(self.columns, len(self.draws)))
        letters = max(1.0, rcParams["font.size"] / 9)
        height = self.height * float(np.clip(wider, 0.75, 1.1)) * letters
        if self.square:  # beside and below are labels, above is a title
            height = (inches - letters * BESIDE) / length + letters * ABOVE
        heights = [height] * count
        return rows, [0.01, *heights] if self.legend else heights

    def draw(self, figure: Figure, grid: GridSpec, top: int, rows: list[list[int]]) -> list[Axes]:
        """Draw the rows into a grid from this row on, and the legend above them; returns axes whose
        curves have no names yet.
        """
        axes, length = list[Axes](), len(rows[0])
        span = grid.ncols // length  # of all rows: equal lengths mean equal times
        for k, row in enumerate(rows, top + 1 if self.legend else top):
            for place, panel in enumerate(row):
                first = axes[0] if axes else None
                axes.append(
                    self._panel(figure, grid[k, place * span : (place + 1) * span], panel, first)
                )
                self._hide_repeated(axes, place, below=panel + length < len(self.draws))
        if len({ax.get_xlabel() for ax in axes}) == 1:
            for ax in axes[:-length]:  # those below which another stands
                ax.set_xlabel("")
        if not self.legend or not consistent(axes):
            return axes
        above = figure.add_subplot(grid[top, :])
        above.set_axis_off()
        legend_above(above, entries(axes), figure.get_figwidth() - 1)
        return []

    def _panel(self, figure: Figure, spot: SubplotSpec, panel: int, first: Axes | None) -> Axes:
        """Draw a panel into its place in the grid; first: the axes whose limits it may share."""
        shared = {} if first is None else {f"share{axis}": first for axis in self.shared}
        ax = figure.add_subplot(spot, axes_class=ShownAxes, **shared)
        self.draws[panel](ax)
        plain_ticks(ax)
        columns = len(spot.colspan), spot.get_gridspec().ncols
        width = figure.get_figwidth() * columns[0] / columns[1] - rcParams["font.size"] / 12
        ax.set_title(folded(ax.get_title("left"), width, rcParams["font.size"]), loc="left")
        return ax

    def _hide_repeated(self, axes: Sequence[Axes], place: int, *, below: bool) -> None:
        """Remove labels from the last axes that others have, too.

        place: of these axes in their row; below: whether others stand below them.
        """
        ax = axes[-1]
        if "x" in self.shared and below:
            ax.tick_params(labelbottom=False)
        if "y" in self.shared and place:
            ax.tick_params(labelleft=False)
        if place and ax.get_ylabel() == axes[-place - 1].get_ylabel():
            ax.set_ylabel("")


def compose(
    title: str, about: str, *blocks: Block, width: float = WIDTH, squeezed: float = 0.8
) -> Shown:
    """Draw blocks of panels below each other on one grid: all have the same left and right edges.

    title: what the figure shows, in a sentence; about: the origin of network and data; width: in
    inches, see `our_style`; squeezed: least part of the panels' height, to fit on a page; on a
    slide of their height for letters of 9 points.
    """
    inches = sized(width)
    for more in range(3):  # columns, until the rows fit
        parts = [block.rows(width, inches, more) for block in blocks]
        if sum(heights := [height for _, each in parts for height in each]) < highest():
            break
    figure = Shown(figsize=(inches, 1), layout="constrained")
    titled(figure, title, about)
    lines = 2 + figure.get_suptitle().count("\n") + figure.get_supxlabel().count("\n")
    height = sum(heights) + lines * rcParams["font.size"] / 50
    cells = math.lcm(*(len(row) for rows, _ in parts for row in rows))
    grid = figure.add_gridspec(len(heights), cells, height_ratios=heights)
    top, unnamed = 0, list[Axes]()
    for block, (rows, each) in zip(blocks, parts, strict=True):
        unnamed += block.draw(figure, grid, top, rows)
        top += len(each)
    set_height(figure, height, squeezed)
    laid_out(figure)
    for ax in unnamed:
        name_curves(ax)
    set_height(figure, height, squeezed)
    for _ in range(5):  # the layout depends on the labels, and they on the layout
        for ax in laid_out(figure).axes:
            for axis, pixels in ((ax.xaxis, ax.bbox.width), (ax.yaxis, ax.bbox.height)):
                label, room = axis.get_label_text(), pixels / figure.dpi
                axis.set_label_text(folded(label, room, rcParams["font.size"]))
            fix_number_of_ticks(ax)
            fill_place(ax)
    return figure


def set_height(figure: Figure, height: float, squeezed: float) -> None:
    """Make a figure as high as its panels with what stands above them; if they fit in this part of
    it, as its page or slide.
    """
    above, least = _above(figure), squeezed * height / max(1.0, rcParams["font.size"] / 9)
    fits = above + least <= highest()
    figure.set_figheight(min(above + height, highest()) if fits else above + height)


def _above(figure: Figure) -> float:
    """Inches that legends and folded titles above axes take, of each row of the grid the most."""
    rows: dict[int, float] = {}
    for ax in figure.axes:
        legend, place = ax.get_legend(), ax.get_subplotspec()
        high = legend.get_window_extent().height / figure.dpi if legend else 0.0
        high += ax.get_title("left").count("\n") * rcParams["font.size"] / 60
        if place is not None:
            rows[place.rowspan.start] = max(rows.get(place.rowspan.start, 0.0), high)
    return sum(rows.values())


def fill_place(ax: Axes) -> None:
    """Widen the limits of axes with one scale for both directions so that they fill their place;
    "datalim" would narrow them too.
    """
    if ax.get_aspect() != 1:
        return
    place, (width, height) = ax.get_position(original=True), ax.figure.figure.get_size_inches()
    ratio, (x, y) = width * place.width / (height * place.height), (ax.get_xlim(), ax.get_ylim())
    half = max(np.ptp(x) / max(ratio, 1), np.ptp(y) * min(ratio, 1)) / 2
    sides = np.array((-half, half))
    ax.set(xlim=np.mean(x) + sides * max(ratio, 1), ylim=np.mean(y) + sides / min(ratio, 1))


def fix_number_of_ticks(ax: Axes) -> None:
    """Have as many ticks as fit on the present axes: else the layout, which depends on their
    labels, would change them again.
    """
    for axis, share in ((ax.xaxis, 0.6), (ax.yaxis, 1)):  # long numbers are wide, not high
        locator, room = axis.get_major_locator(), axis.get_tick_space()
        if isinstance(locator, LogTicks):
            locator.set_params(numticks=max(2, round(share * room)))
        if isinstance(locator, NamedTicks):
            locator.set_params(nbins=max(2, room))
        if isinstance(locator, ticker.MaxNLocator):
            most = round(np.clip(share * room, 1, 9))
            locator.set_params(nbins=most, min_n_ticks=min(most, 2))  # one number alone is no scale


def panels(
    width: float,
    height: float,
    title: str | Callable[[Any], str] = "",
    columns: int = 2,
    least: float = 1.1 * LEAST,
) -> Callable:
    """Make the `plot` of a result from functions of (result, ax, **options), in our style; into
    given axes draws the first.

    Args:
        width, height: of the figure, and of a row, in inches.
        title: the quantity, which follows the network's name; or a function of the result that
            gives the whole title, such as `finding_of`: the network is then named at the foot.
        columns, least: panels in a row, at most, and inches of each, see `Block`.
    """

    def decorate(*draws: Callable[..., object]) -> Callable[..., Axes]:
        @wraps(draws[0])
        @drawn
        def plot(result: Result, ax: Axes | None = None, **options) -> Axes:
            if ax is not None:
                draws[0](result, ax, **options)
                return ax
            whole, about = title, result.about
            if callable(title):
                whole, about = title(result), "; ".join(filter(None, (result.title, about)))
            else:
                whole = title_of(result.title, title)
            each = [partial(draw, result, **options) for draw in draws]
            block = Block(
                each, height, min(columns, len(draws)), "x" if columns == 1 else "", least=least
            )
            return compose(whole, about, block, width=width).axes[0]

        return plot

    return decorate


def finding_of(result: Result) -> str:
    """The finding of a result, as the title of its figure."""
    return result.finding


def laid_out(figure: Shown) -> Shown:
    """Run a first layout pass and return the figure; panels of fixed aspect are correct after the
    second, when it is drawn.
    """
    figure.get_layout_engine().execute(figure)  # type: ignore[union-attr]  # every `Shown` has one
    return figure


def name_curves(ax: Axes) -> None:
    """Name several curves at their right ends in their colours, or if that takes much room, in a
    legend above the axes.
    """
    handles, labels = ax.get_legend_handles_labels()
    if len(labels) < 2 or ax.get_legend():
        return
    box, points = ax.get_window_extent(), rcParams["legend.fontsize"] * ax.figure.dpi / 72
    gap, names = 1.4 * points / box.height, [label.replace("\n", " ") for label in labels]
    ends = [_right_end(handle, ax) for handle in handles]
    too_long = 0.6 * max(map(len, names)) * points > LONGEST * box.width
    if np.isnan(ends).any() or len(ends) * gap > 1 or too_long:
        legend_above(ax, handles)
        return
    order, least = np.argsort(ends, kind="stable"), gap * (np.arange(len(ends)) + 0.5)
    # in steps of a line: names that overlap are moved up as far as down
    apart = np.sort(ends) - least
    apart = (np.maximum.accumulate(apart) + np.minimum.accumulate(apart[::-1])[::-1]) / 2
    places = least + np.clip(apart, 0, 1 - gap * len(ends))
    style: Style = {
        "xycoords": "axes fraction",
        "xytext": (4, 0),
        "textcoords": "offset points",
        "va": "center",
    }
    style["fontsize"] = rcParams["legend.fontsize"]
    for k, place in zip(order, places, strict=True):
        color = tuple(np.multiply(0.8, to_rgb(_colour(handles[k]))))  # darker, for thin letters
        ax.annotate(names[k], (1, place), color=color, gid=NAMED, **style)


def _colour(handle: Any):
    """The colour of a line or an area."""
    return handle.get_color() if isinstance(handle, Line2D) else handle.get_facecolor()[0][:3]


def legend_above(ax: Axes, handles: Sequence, inches: float | None = None) -> None:
    """Draw a legend between the title of axes and the axes, at their left, in as many columns as
    fit; inches: their width.
    """
    # tick labels may make axes narrower
    width = inches or 0.95 * ax.get_window_extent().width / ax.figure.dpi
    size = rcParams["legend.fontsize"]
    labels = [folded(str(handle.get_label()), width - 3 * size / 72, size) for handle in handles]
    place: dict = {
        "loc": "lower left",
        "bbox_to_anchor": (0, 1),
        "borderpad": 0.2,
        "borderaxespad": 0.2,
    }
    for columns in range(len(handles), 0, -1):
        legend = ax.legend(handles, labels, ncols=columns, **place)
        if (box := legend.get_window_extent()).width <= width * ax.figure.dpi:
            break
    if handles and (title := ax.get_title("left")):
        pad = 0.7 * rcParams["font.size"] + 72 * box.height / ax.figure.dpi
        ax.set_title(title, loc="left", pad=pad)


def _right_end(handle: Any, ax: Axes) -> float:
    """The height at which a line or band reaches the right end of axes, as a part of theirs; NaN if
    it does not.
    """
    paths: Sequence = ()
    if isinstance(handle, Line2D):
        paths = [handle.get_path()]
    elif isinstance(handle, PolyCollection):
        paths = handle.get_paths()
    if not paths:  # a band of NaN has none
        return math.nan
    points = handle.get_transform().transform(paths[0].vertices)
    x, y = ax.transAxes.inverted().transform(points).T
    ends = y[np.isfinite(y) & (x > 0.97)]
    return float(ends.max() + ends.min()) / 2 if len(ends) else math.nan


def ink(ax: Axes):
    """The colour of the axes' spines: black, or a light one in a dark style."""
    return ax.spines["bottom"].get_edgecolor()


def plain_ticks(ax: Axes) -> None:
    """Label ticks with plain numbers, very large or small ones with their own powers of ten: a
    common one would overlap the title.
    """
    for axis in (ax.xaxis, ax.yaxis):
        format_, largest = axis.get_major_formatter(), max(np.abs(axis.get_view_interval()))
        if axis.get_scale() == "log":
            axis.set_major_locator(LogTicks(numticks=7))
            axis.set_minor_locator(ticker.NullLocator())
            axis.set_major_formatter("{x:g}")
        elif isinstance(format_, ticker.ScalarFormatter) and not 1e-3 <= largest < 1e5:
            axis.set_major_formatter("{x:.3g}")


class LogTicks(ticker.LogLocator):
    """At most `numticks` ticks of even spacing on a log axis, and more if they are uneven, at round
    numbers.
    """

    def tick_values(self, vmin: float, vmax: float) -> Sequence[float]:
        (low, high), most = np.log10(sorted((vmin, vmax))), self.numticks or 7
        if high - low < LINEAR:
            even = ticker.MaxNLocator(min(9, int(most)), steps=(1, 2, 5, 10))
            return even.tick_values(vmin, vmax)
        least = (high - low) / (1.4 * most)
        if high - low <= 2:
            least = min(0.47, least)
        for numbers in ROUND:
            if np.diff(np.log10(numbers), append=1).min() >= least:
                decades = 10.0 ** np.arange(np.floor(low), np.ceil(high) + 1)
                return np.outer(decades, numbers).ravel().tolist()
        return super().tick_values(vmin, vmax)


class WholeTicks(ticker.MaxNLocator):
    """Ticks at whole numbers, also on an axis with only one of them."""

    def __init__(self, most: int = 10):
        super().__init__(most, integer=True)

    def tick_values(self, vmin: float, vmax: float) -> Sequence[float]:
        first, last = np.ceil(vmin), np.floor(vmax)
        return [float(first)] if first == last else super().tick_values(vmin, vmax)


class NamedTicks(ticker.FixedLocator):
    """Ticks at places with short names, such as layers: at all of them, or every second, third, ...
    if `nbins` are fewer.
    """


def log_scale(ax: Axes, values: np.ndarray) -> None:
    """Make the value axis logarithmic if positive values span more than `SPAN` decades."""
    values = values[np.isfinite(values)]
    if len(values) and 0 < values.min() < values.max() * 10**-SPAN:
        ax.set_yscale("log")


def over_time(ax: Axes, steps: float, unit: str, ylabel: str) -> Axes:
    """Make the horizontal axis one of time, from 0 to a number of steps, after everything is
    drawn.
    """
    ax.set_xlim(0, steps)
    ax.xaxis.set_major_locator(WholeTicks())
    ax.set(xlabel=time_label(unit), ylabel=ylabel)
    return ax


def draw_growth(log_norm: np.ndarray, unit: str, ax: Axes) -> Axes:
    """Draw the gradient's norm from each step to step 0 on a log scale, from its natural logarithm
    (T,).
    """
    t = np.arange(len(log_norm) + 1)
    decades = np.where(np.isfinite(log_norm), log_norm, np.nan) / np.log(10)
    ax.plot(t, np.r_[0, decades], color=ink(ax), linewidth=1.4)
    ax.axhline(0, **DASHED | {"color": ink(ax)}, linewidth=0.8)
    if (zero := np.isneginf(log_norm)).any():
        ax.text(t[1:][zero][0], 0, "the product is zero from here", color=GREY, va="bottom")
    return over_time(ax, len(log_norm), unit, GROWTH)


def draw_layers(
    layers: np.ndarray, unit: str, ylabel: str, ax: Axes, names: Sequence[str] = ()
) -> Axes:
    """Draw one line for each layer over time, from values (T, L) of single steps; names: of the L
    lines.
    """
    T, L = layers.shape
    for k, values in enumerate(layers.T):
        marker, name = "." if T == 1 else None, names[k] if names else f"layer {k + 1}"
        ax.plot(values, linewidth=1.3, marker=marker, label=name, **shade_style(k, L))
    return over_time(ax, T - 1 or 1, unit, ylabel)


def complex_plane(ax: Axes, limit: float, middle: float = 0.0) -> Axes:
    """Show of the complex plane the square of half width `limit` around a real number, with the
    unit circle if it runs through it.
    """
    if abs(middle) - limit <= 1 <= math.hypot(abs(middle) + limit, limit):
        style = DASHED | {"color": ink(ax), "linewidth": 1, "zorder": 5}  # above a spectrum's dots
        ax.plot(CIRCLE.real, CIRCLE.imag, **style, label="unit circle")
    ax.set(xlim=(middle - limit, middle + limit), ylim=(-limit, limit), aspect="equal")
    ax.set(xlabel="real part", ylabel="imaginary part")
    plain_ticks(ax)
    return ax


def colour_norm(*values: np.ndarray) -> LogNorm:
    """Colours on the eight decades below the largest of some numbers, rounded up to a power of
    ten.
    """
    largest = max(np.nanmax(each, initial=0) for each in values)
    top = 10.0 ** np.ceil(np.log10(largest)) if largest > 0 else 1.0
    return LogNorm(top / 10.0**DECADES, top)


def heat_map(ax: Axes, values: np.ndarray, norm: LogNorm) -> AxesImage:
    """Draw the numbers of all pairs (t2 upwards, t1 to the right), (S, T) of the last S of T steps;
    zeros stay white.
    """
    S, T = values.shape
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(WholeTicks(5))
    extent = (-0.5, T - 0.5, T - S - 0.5, T - 0.5)
    return ax.imshow(
        values, norm=norm, origin="lower", aspect="auto", extent=extent, interpolation="none"
    )


def colour_bar(colours: ScalarMappable, label: str, **options) -> Block:
    """A row with a colour bar."""

    def draw(ax: Axes) -> None:
        ax.set_axis_off()
        bar = ax.inset_axes((0, 0.8, 1, 0.2))
        figure = ax.figure.figure
        words = folded(label, figure.get_figwidth() - 0.5, rcParams["font.size"])
        figure.colorbar(colours, cax=bar, orientation="horizontal", label=words, **options)

    return Block([draw], 0.6)


def line_style(k: int) -> Style:
    """Colour and dashes of the k-th of several lines."""
    return {"color": COLOURS[k % len(COLOURS)], "linestyle": DASHES[k % len(DASHES)]}


def shade_style(k: int, count: int) -> Style:
    """Shade, from dark to light, and dashes of the k-th of lines that have an order: layers,
    lengths.
    """
    shade = colormaps["viridis"](0.9 * k / max(1, count - 1))
    return {"color": shade, "linestyle": DASHES[k % len(DASHES)]}


def entries(axes: Iterable[Axes]) -> list:
    """Handles of a legend for several axes, one for each label."""
    pairs = [pair for ax in axes for pair in zip(*ax.get_legend_handles_labels(), strict=True)]
    first = {label: handle for handle, label in reversed(pairs)}
    return [first[label] for label in dict.fromkeys(label for _, label in pairs)]


def consistent(axes: Iterable[Axes]) -> bool:
    """True if lines of one label have one style in all axes, and lines of one style one label."""
    pairs = [pair for ax in axes for pair in zip(*ax.get_legend_handles_labels(), strict=True)]
    styled = {
        (name, (str(h.get_color()), _dashes(h), h.get_marker()))
        for h, name in pairs
        if isinstance(h, Line2D)
    }
    return len({name for name, _ in styled}) == len(styled) == len({style for _, style in styled})


def _dashes(line: Line2D) -> str:
    """The linestyle of a line with its dashes, which `get_linestyle` leaves out."""
    dashes = line._unscaled_dash_pattern  # type: ignore[attr-defined]  # no getter is public
    return f"{line.get_linestyle()} {dashes}"


def names_of(results: Sequence[Result]) -> tuple[str, str, list[str]]:
    """Names of several results: (the parts of the title that all share, or ""; the description of
    all, or ""; what differs, "" for a result alone).
    """
    titles, abouts = [result.title for result in results], [result.about for result in results]
    about = abouts[0] if len({*abouts}) == 1 else ""
    if len({*titles}) == 1:
        return titles[0], about, [""] * len(titles) if about else abouts
    common, names = apart(titles)
    if not about and all(abouts) and len(results) <= MOST_DESCRIBED:
        about = _described(names, abouts)
    return common, about, names


def apart(titles: Sequence[str]) -> tuple[str, list[str]]:
    """(The parts that all titles share, what is left of each title, its first part if nothing is).

    >>> apart(["rhn, depth 5, 64 units", "rnn, depth 5, 64 units"])
    ('depth 5, 64 units', ['rhn', 'rnn'])
    >>> apart(["before training: rhn, 48 units", "after training: rhn, 48 units"])
    ('rhn, 48 units', ['before training', 'after training'])
    """
    parts = [re.split(r"(?:, |: )(?![^(]*\))", title) for title in titles]
    shared = [part for part in parts[0] if all(part in others for others in parts)]
    left = [[part for part in each if part not in shared] for each in parts]
    names = [", ".join(own or each[:1]) for own, each in zip(left, parts, strict=True)]
    if len({*names}) < len(names):
        return "", [*titles]
    return ", ".join(shared), names


def _described(titles: Sequence[str], abouts: Sequence[str]) -> str:
    """The descriptions of several results in one line: each one's own parts, then the common ones.

    >>> _described(["gru", "rhn"], ["seed 0; bwv269", "seed 1; bwv269"])
    'gru: seed 0; rhn: seed 1; bwv269'
    """
    parts = [about.split("; ") for about in abouts]
    same = [part for part in parts[0] if all(part in others for others in parts)]
    own = [
        f"{title}: {', '.join(part for part in each if part not in same)}"
        for title, each in zip(titles, parts, strict=True)
    ]
    return "; ".join([*own, *same])


def title_of(network: str, what: str) -> str:
    """The title of a figure: the network and the quantity."""
    return f"{network}: {what}" if network and what else network or what[:1].upper() + what[1:]
