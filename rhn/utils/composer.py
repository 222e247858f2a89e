"""The figures of all packages: a figure with title, footer and panels, panels side by side, and a
legend above them.

    composed(draw, title, size)     a figure in our style; draw(part) adds panels, returns a height
    pair, one_panel                 two panels or one in a part of a figure, and their height
    legend_above                    what several panels show, each name once
    new_axes()                      the axes of a new figure, for one plot
"""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from rhn.utils.figures import GREY, SLIDE_HEIGHT, figure_width, inches_of, metadata, our_style
from rhn.utils.named_curves import name_heights, place_names

STACKED, SLIDE = 5, 12  # inches: no pairs side by side in a narrower figure; a slide is wider


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
    return Shown(figsize=(6.75, 3.6), layout="constrained").add_subplot()


def composed(
    draw: Callable[[SubFigure], float],
    title: str,
    size: str | float,
    source: str = "",
    call: str = "",
) -> Shown:
    """Return a new figure in our style, with a title, and a footer that names the source.

    draw: adds the panels and returns the height of the figure in inches. size: "page", "column",
    "slide" or the width in inches. call: the call that draws it, for the metadata of files.
    """
    with our_style(size):
        width, points = inches_of(size), rcParams["font.size"]
        figure = Shown(figsize=(width, SLIDE_HEIGHT), layout="constrained")
        figure.call = call
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
