"""Figures and axes that a notebook displays, with or without pyplot; labels and tick labels of axes."""

import io

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rhn.plotting.figures import our_style


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
        return self.figure.figure._repr_png_()


def own_axes(width: float, height: float) -> ShownAxes:
    """Axes in a new figure of this size in inches."""
    return Shown(figsize=(width, height), layout="constrained").add_subplot(axes_class=ShownAxes)


def laid_out(figure: Shown) -> Shown:
    """Run a first layout pass and return the figure; panels of fixed aspect are correct after the second, when it is drawn."""
    figure.get_layout_engine().execute(figure)
    return figure


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
