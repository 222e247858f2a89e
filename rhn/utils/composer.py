"""The figures of all packages: a figure with title, footer and panels, panels side by side, and a
legend above them.

    composed(draw, title, size)     a figure in our style; draw(part) adds panels, returns a height
    pair, one_panel                 two panels or one in a part of a figure, and their height
    legend_above, legend_beside     what several panels show, each name once
    new_axes()                      the axes of a new figure, for one plot
"""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.cbook import is_math_text
from matplotlib.figure import Figure, SubFigure
from matplotlib.mathtext import MathTextParser

from rhn.errors import InvalidInputError, first_line
from rhn.utils.figures import (
    GREY,
    PAGE_HEIGHT,
    SIZES,
    SLIDE,
    SLIDE_HEIGHT,
    figure_width,
    inches_of,
    metadata,
    our_style,
)
from rhn.utils.named_curves import fold_label, folded, name_heights, place_names

BESIDE = 21  # letters of a line in a legend beside a panel
STACKED = 5  # inches: no pairs side by side in a narrower figure
PLOT = SIZES["page"], 3.6  # inches, of a single plot
COLUMN_SHAPE = 4 / SIZES["column"]  # height over width that a column has at most for one network


class Shown(Figure):
    """A figure that a notebook displays as a picture, and whose files name their origin."""

    call: str = ""
    """The call that drew it."""

    def savefig(self, fname: Any, **how: Any) -> None:
        """Write the figure to a file, with its origin in the metadata of .png, .svg and .pdf."""
        named = Path(fname).suffix if isinstance(fname, str | Path) else ""
        kind = how.get("format") or named.removeprefix(".") or "png"
        how.setdefault("metadata", metadata(kind.lower(), self.call))
        super().savefig(fname, **how)

    def _repr_png_(self) -> bytes:
        picture = io.BytesIO()
        self.savefig(picture, format="png", dpi=100)
        return picture.getvalue()


def new_axes() -> Axes:
    """Return the axes of a new figure."""
    return Shown(figsize=PLOT, layout="constrained").add_subplot()


def composed(
    draw: Callable[[SubFigure], float],
    title: str,
    size: str | float,
    source: str = "",
    call: str = "",
) -> Shown:
    """Return a new figure in our style, with a title, and a footer that names the source.

    draw: adds the panels and returns the height of the figure in inches. title: may have
    mathematics between two $; numbers stand in its second line. size: "page", "column",
    "slide" or the width in inches. call: the call that draws it, for the metadata of files.
    """
    with our_style(size):
        width, points = inches_of(size), rcParams["font.size"]
        figure = Shown(figsize=(width, SLIDE_HEIGHT), layout="constrained")
        figure.call = call
        figure.get_layout_engine().set(h_pad=points / 180, w_pad=points / 180)  # type: ignore
        whole = figure.add_subfigure(figure.add_gridspec(1, 1)[0])
        left: dict[str, Any] = {"x": 0.01, "ha": "left", "wrap": True}
        heading, _, numbers = checked_math(title).partition("\n")
        figure.suptitle(heading, **left)
        if numbers:
            numbers = numbers.replace(", ", ",\n") if width < STACKED else numbers
            whole.suptitle(numbers, fontsize=points, fontweight="normal", **left)
        if source:
            figure.supxlabel(source, fontsize=rcParams["legend.fontsize"], color=GREY,
                             parse_math=False, **left)  # fmt: skip
        height = draw(whole.add_subfigure(whole.add_gridspec(1, 1)[0]))
        figure.set_figheight(SLIDE_HEIGHT if width > SLIDE else min(height, PAGE_HEIGHT))
        for _ in range(2):  # the places of names depend on heights, and heights on these places
            figure.draw_without_rendering()
            for ax in figure.axes:
                fold_label(ax)
                place_names(ax)
    return figure


def checked_math(text: str) -> str:
    r"""Return a text whose mathematics can be drawn. Raises InvalidInputError.

    >>> checked_math(r"$\lambda$")
    '$\\lambda$'
    """
    try:
        if is_math_text(text):
            MathTextParser("path").parse(text)
    except ValueError as error:
        raise InvalidInputError(f"title is {text!r}: {first_line(error)}") from error
    return text


def fitted(part: SubFigure, height: float) -> float:
    """A height in inches of a figure of one network, at most `COLUMN_SHAPE` in a narrow figure."""
    width = figure_width(part)
    return min(height, COLUMN_SHAPE * width) if width < STACKED else height


def pair(part: SubFigure) -> tuple[Axes, Axes, float]:
    """Two panels, one above the other in a narrow figure, and the height in inches they need."""
    width = figure_width(part)
    if width < STACKED:
        return *part.subplots(2, 1), COLUMN_SHAPE * width
    return *part.subplots(1, 2), 1.4 + 0.4 * width


def one_panel(part: SubFigure, plot: Callable[[Axes], object]) -> float:
    """Draw a plot into one panel. Returns its height in inches."""
    ax = part.add_subplot()
    plot(ax)
    height = max(1.6 + 0.3 * figure_width(part), 1 + name_heights(ax).sum() / 72)
    return fitted(part, height)


def legend_beside(part: SubFigure, axes: list[Axes], order: Sequence[str]) -> None:
    """Write right of a panel of the complex plane what it shows, in lines of few letters."""
    handles = handles_of(axes, order)
    names = [folded(name, BESIDE) for name in handles]
    part.legend(handles.values(), names, loc="outside right upper", borderpad=0.4,
                handlelength=1.4, handletextpad=0.6, labelspacing=0.2)  # fmt: skip


def legend_above(part: SubFigure, axes: list[Axes], order: Sequence[str] = ()) -> None:
    """Write above all panels what those of the complex plane show, each name once.

    order: names that stand last, in this order.
    """
    handles = handles_of(axes, order)
    columns = 2 if figure_width(part) < STACKED else 4
    part.legend(handles.values(), [*handles], loc="outside upper left", borderpad=0.4,
                handlelength=1.4, handletextpad=0.6, columnspacing=0.8, ncols=columns)  # fmt: skip


def handles_of(axes: list[Axes], order: Sequence[str]) -> dict[str, Any]:
    """Return the handles of a legend of several panels by their labels, the ordered ones last."""
    pairs = [pair for ax in axes for pair in zip(*ax.get_legend_handles_labels(), strict=True)]
    handles = {label: handle for handle, label in pairs}
    first = {name: handle for name, handle in handles.items() if name not in order}
    return first | {name: handles[name] for name in order if name in handles}
