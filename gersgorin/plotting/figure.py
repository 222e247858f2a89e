"""Figures that a notebook shows where they, or axes in them, are a cell's value: with pyplot and without it."""

import io

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rhn.figures import our_style


class Shown(Figure):
    """A figure with a picture of itself."""

    def _repr_png_(self) -> bytes:
        picture = io.BytesIO()
        with our_style():
            self.savefig(picture, format="png", dpi=100)
        return picture.getvalue()


class ShownAxes(Axes):
    """Axes that show the figure they are in."""

    def _repr_png_(self) -> bytes:
        return self.figure.figure._repr_png_()


def own_axes(width: float, height: float) -> ShownAxes:
    """Axes in a figure of their own, inches."""
    return Shown(figsize=(width, height), layout="constrained").add_subplot(axes_class=ShownAxes)


def laid_out(figure: Shown) -> Shown:
    """The figure after a first pass of its layout: panels of a fixed aspect are settled by the second, when it is drawn."""
    figure.get_layout_engine().execute(figure)
    return figure


def ink(ax: Axes):
    """The colour of the axes' own lines: black, or in a user's dark style what can be seen there."""
    return ax.spines["bottom"].get_edgecolor()


def plain_numbers(ax: Axes) -> None:
    """Numbers that are very large or small each with its own power of ten, rather than one power in a corner, where titles are."""
    for axis, (low, high) in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
        if not 1e-3 <= max(abs(low), abs(high)) < 1e5:
            axis.set_major_formatter("{x:.3g}")


def label_axes(ax: Axes, x: str, y: str) -> None:
    """What the axes measure, said once where axes share it: at the left and at the bottom of a grid."""
    place = ax.get_subplotspec()
    shares_x, shares_y = (len(group.get_siblings(ax)) > 1 for group in (ax.get_shared_x_axes(), ax.get_shared_y_axes()))
    if place is None or not shares_x or place.is_last_row():
        ax.set_xlabel(x)
    if place is None or not shares_y or place.is_first_col():
        ax.set_ylabel(y)
