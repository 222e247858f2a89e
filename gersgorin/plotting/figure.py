"""Figures, axes, names, legends and line styles that all plots of results share. Nothing here imports torch.

Every `plot_*(result, ax=None)` draws into the given axes, or into a new figure, in our style, and returns the axes. Lines of different
colours also differ in dashes or markers. The title of a figure has what several results share, legends the rest.
"""

import io
import textwrap
from collections.abc import Callable, Iterable, Sequence
from functools import partial, wraps
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from rhn.errors import InvalidInputError
from rhn.utils.figures import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    drawable,
    legend_columns,
    our_style,
    time_label,
    titled,
)
from rhn.utils.result import Result

Style = dict[str, Any]  # of lines and areas
CIRCLE = np.exp(1j * np.linspace(0, 2 * np.pi, 181))
DASHED: Style = {"color": "black", "linestyle": (0, (4, 3))}
COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, "black")
DASHES = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))  # 7 and 4: the first 28 lines differ from each other
MARKERS = "osD^vPX*"
DECADES = 8  # of a heat map's scale


class Shown(Figure):
    """A figure in constrained layout with a picture for notebooks."""

    def __init__(self, width: float, height: float):
        super().__init__(figsize=(width, height), layout="constrained")

    def _repr_png_(self) -> bytes:
        picture = io.BytesIO()
        with our_style():
            self.savefig(picture, format="png", dpi=100)
        return picture.getvalue()


class ShownAxes(Axes):
    """Axes that a notebook displays as their figure."""

    def _repr_png_(self) -> bytes:
        return self.figure.figure._repr_png_()  # type: ignore[attr-defined]  # `own_axes` makes it a `Shown`


def own_axes(width: float, height: float) -> Axes:
    """Axes in a new figure of this size in inches."""
    return Shown(width, height).add_subplot(axes_class=ShownAxes)


def first_axes(figure: Figure | SubFigure, rows: int, columns: int, count: int) -> list[Axes]:
    """The first `count` axes of a grid, the others empty."""
    grid = figure.subplots(rows, columns, squeeze=False).flat
    for ax in grid[count:]:
        ax.set_axis_off()
    return list(grid[:count])


def panels(
    *draws: Callable[..., object],
    size: tuple[float, float],
    title: str | Callable[[Any], str] = "",
    widths: Sequence[float] | None = None,
    columns: int = 2,
    below: bool = False,
) -> Callable[..., Axes]:
    """The `plot` of a result that functions of (result, ax, **options) draw side by side in our style; into given axes draws the first.

    Args:
        size: of the figure with all of them, in inches.
        title: the quantity, which follows the network's name; or a function of the result that gives the whole title.
        widths: of the panels, relative to each other.
        columns: of the legend below a single panel, at most.
        below: one panel below the other, with one horizontal axis.
    """

    @wraps(draws[0])
    @our_style()
    def plot(result: Result, ax: Axes | None = None, **options) -> Axes:
        if ax is not None:
            draws[0](result, ax, **options)
            return ax
        whole = title_of(result.title, title) if isinstance(title, str) else title(result)
        figure, shown = Shown(*size), {"axes_class": ShownAxes}
        shape = (len(draws), 1) if below else (1, len(draws))
        axes = figure.subplots(*shape, squeeze=False, sharex=below, width_ratios=widths, subplot_kw=shown).flat
        for draw, place in zip(draws, axes, strict=True):
            draw(result, place, **options)
            if len(draws) > 1:
                legend_beside(place)
        if len(draws) == 1:
            return complete(axes[0], whole, result.about, columns)
        titled(figure, whole, result.about)
        return laid_out(figure).axes[0]

    return plot


def panel(width: float, height: float, title: str | Callable[[Any], str] = "", *, columns: int = 2) -> Callable:
    """Decorate a plot(result, ax, **options): without axes it draws into a figure with title and legend, see `panels`."""
    return partial(panels, size=(width, height), title=title, columns=columns)


def laid_out(figure: Shown) -> Shown:
    """Run a first layout pass and return the figure; panels of fixed aspect are correct after the second, when it is drawn."""
    figure.get_layout_engine().execute(figure)  # type: ignore[union-attr]  # every `Shown` has one
    return figure


def complete(ax: Axes, title: str, about: str = "", columns: int = 2) -> Axes:
    """Add a title and a legend to axes that are the only ones of their figure."""
    figure = ax.figure.figure
    legend_below(figure, [ax], columns=columns)
    titled(figure, title, about)
    figure.set_layout_engine("constrained", w_pad=0.08)  # inches, for the labels of a heat map
    laid_out(figure)  # type: ignore[arg-type]  # `own_axes` makes it a `Shown`
    return ax


def ink(ax: Axes):
    """The colour of the axes' spines: black, or a light one in a dark style."""
    return ax.spines["bottom"].get_edgecolor()


def plain_numbers(ax: Axes) -> None:
    """Write very large or small tick labels with their own powers of ten, because a common power would overlap the title."""
    for axis, (low, high) in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
        if not 1e-3 <= max(abs(low), abs(high)) < 1e5:
            axis.set_major_formatter("{x:.3g}")


def label_axes(ax: Axes, x: str, y: str) -> None:
    """Label axes; shared axes of a grid only at its left and bottom."""
    place = ax.get_subplotspec()
    shares_x, shares_y = (len(group.get_siblings(ax)) > 1 for group in (ax.get_shared_x_axes(), ax.get_shared_y_axes()))
    if place is None or not shares_x or place.is_last_row():
        ax.set_xlabel(x)
    if place is None or not shares_y or place.is_first_col():
        ax.set_ylabel(y)


def over_time(ax: Axes, steps: float, unit: str, ylabel: str) -> Axes:
    """Make the horizontal axis one of time, from 0 to a number of steps, after everything is drawn."""
    ax.set_xlim(0, steps)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    label_axes(ax, time_label(unit), ylabel)
    plain_numbers(ax)
    return ax


def draw_growth(log_norm: np.ndarray, state: str, unit: str, ax: Axes) -> Axes:
    """Draw the norm of d state[t] / d state[0] over time on a log scale, from its natural logarithm (T,)."""
    t, decades = np.arange(len(log_norm) + 1), np.where(np.isfinite(log_norm), log_norm, np.nan) / np.log(10)
    ax.plot(t, np.r_[0, decades], color=ink(ax), linewidth=1.4, label=f"norm of d{state}[t]/d{state}[0]")
    ax.axhline(0, **DASHED | {"color": ink(ax)}, linewidth=0.8)
    if (zero := np.isneginf(log_norm)).any():
        place, words, apart = (t[1:][zero][0], 0), "the product is zero from here", "offset points"
        ax.annotate(words, place, xytext=(0, 4), textcoords=apart, fontsize=8, color=GREY)
    return over_time(ax, len(log_norm), unit, rf"$\log_{{10}}\,\|\partial {state}_t/\partial {state}_0\|$")


def draw_layers(layers: np.ndarray, unit: str, ylabel: str, ax: Axes) -> Axes:
    """Draw one line for each layer over time, from values (T, L) of single steps."""
    T, L = layers.shape
    for k, values in enumerate(layers.T):
        marker = "." if T == 1 else None
        ax.plot(values, linewidth=1.3, marker=marker, label=f"layer {k + 1}", **shade_style(k, L))
    return over_time(ax, T - 1 or 1, unit, ylabel)


def complex_plane(ax: Axes, limit: float) -> Axes:
    """Show the unit circle, and of the complex plane the square of half width `limit` around 0."""
    # above the dots of a spectrum
    ax.plot(CIRCLE.real, CIRCLE.imag, **DASHED | {"color": ink(ax)}, linewidth=1, label="unit circle", zorder=5)
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    label_axes(ax, "real part", "imaginary part")
    plain_numbers(ax)
    return ax


def top_decade(values: np.ndarray) -> float:
    """The largest log10 of some numbers, rounded up to a whole decade; 0 for zeros."""
    largest = float(np.nanmax(values))
    return float(np.ceil(np.log10(largest))) if largest > 0 else 0.0


def heat_map(ax: Axes, values: np.ndarray, top: float, **look) -> AxesImage:
    """Draw log10 of the numbers of all pairs (t2 upwards, t1 to the right) on eight decades below `top`; zeros stay white."""
    logs = np.log10(values, out=np.full_like(values, np.nan), where=values > 0)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(5, integer=True))
    return ax.imshow(logs, origin="lower", vmin=top - DECADES, vmax=top, interpolation="none", **look)


def line_style(k: int) -> Style:
    """Colour and dashes of the k-th of several lines."""
    return {"color": COLOURS[k % len(COLOURS)], "linestyle": DASHES[k % len(DASHES)]}


def shade_style(k: int, count: int) -> Style:
    """Shade, from dark to light, and dashes of the k-th of lines that have an order: layers, lengths."""
    return {"color": colormaps["viridis"](0.9 * k / max(1, count - 1)), "linestyle": DASHES[k % len(DASHES)]}


def entries(ax: Axes) -> tuple[list, list]:
    """Handles and labels of a legend for axes and their twin."""
    shared = [a for a in ax.figure.axes if a is ax or a in ax.get_shared_x_axes().get_siblings(ax)]
    shared = [a for a in shared if a.get_subplotspec() == ax.get_subplotspec()]
    pairs = [pair for a in shared for pair in zip(*a.get_legend_handles_labels(), strict=True)]
    return [handle for handle, _ in pairs], [label for _, label in pairs]


def legend_beside(ax: Axes, **options) -> None:
    """Add a legend at the right of axes with more than one line."""
    handles, labels = entries(ax)
    if len(labels) > 1:
        names, place = [folded(label, 28, 2) for label in labels], (1.01, 0.5)
        ax.legend(handles, names, loc="center left", bbox_to_anchor=place, handlelength=3, **options)


def legend_below(figure: Figure | SubFigure, panels: Iterable[Axes], *, columns: int = 4) -> None:
    """Add one legend of all panels below a figure, in as many columns as fit."""
    pairs = {label: handle for ax in panels for handle, label in zip(*entries(ax), strict=True)}
    if pairs:
        room = figure.bbox.width / figure.figure.dpi
        labels = [folded(label, int(14 * room) - 20, 2) for label in pairs]
        fitting = legend_columns([max(label.split("\n"), key=len) for label in labels], room, size=9)
        columns = min(columns, fitting)
        figure.legend(pairs.values(), labels, loc="outside lower center", ncols=columns, handlelength=3)


class Named(NamedTuple):
    """Names of several runs in one figure."""

    common: str
    """Their title if they have the same one, else ""."""
    about: str
    """Their description if they have the same one, else ""."""
    names: list[str]
    """What differs; "" for a result alone."""


def as_list(results) -> list:
    """One result or several as a list. Raises InvalidInputError for none."""
    found = list(results) if isinstance(results, Iterable) else [results]
    if not found:
        raise InvalidInputError("there is nothing to draw: expected at least one result")
    return found


def names_of(results: Sequence[Result]) -> Named:
    """The names of several results: their titles, or their descriptions if they have one title."""
    titles, abouts = [result.title for result in results], [result.about for result in results]
    about = abouts[0] if len({*abouts}) == 1 else ""
    if len({*titles}) > 1:
        return Named("", about, titles)
    return Named(titles[0], about, [""] * len(titles) if about else abouts)


def title_of(network: str, what: str) -> str:
    """The title of a figure: the network and the quantity."""
    return f"{network}, {what}" if network and what else network or what[:1].upper() + what[1:]


def entitle(figure: Shown, named: Named, what: str) -> Shown:
    """Finish a figure of one or several results: title and layout."""
    titled(figure, title_of(named.common, what), named.about)
    return laid_out(figure)


def wrapped(name: str, width: int, lines: int = 3) -> str:
    """Fold a user's name into lines of at most `width` characters, without markup; cut what is too long."""
    return folded(drawable(name), width, lines)


def folded(text: str, width: int, lines: int = 3) -> str:
    """Fold a text of ours, which may contain mathematics."""
    found = textwrap.wrap(text, width)
    if len(found) > lines:
        found[lines - 1 :] = [found[lines - 1][: width - 4].rstrip() + " ..."]
    return "\n".join(found)
