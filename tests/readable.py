"""What makes a figure readable, as a test can say it."""

from itertools import combinations
from unittest.mock import patch

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox

WIDTHS = ["column", *(pytest.param(width, marks=pytest.mark.slow) for width in ("page", "slide"))]
SHORT = 110  # pixels of axes that may have no room for two numbers
TOUCH = 0.5  # pixels that two boxes may share


def readable(figure: Figure, *, least: int = 5) -> None:
    """No text leaves the figure, no two texts overlap, and no legend covers a text that is not its
    own, or a point.

    least: texts that the figure has at least.
    """
    figure = figure.get_figure(root=True)
    texts = drawn_texts(figure)
    assert len(texts) >= least, list(texts)
    for text, box in texts.items():
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, (
            f"{text} is cut off: {box} of {figure.bbox}"
        )
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, (
            f"{text} is cut off: {box} of {figure.bbox}"
        )
        assert text.get_fontsize() >= 6, f"{text} is too small"
    for axis in (axis for ax in figure.axes if ax.axison for axis in (ax.xaxis, ax.yaxis)):
        (low, high), room = (
            sorted(axis.get_view_interval()),
            axis.axes.bbox.size["xy".index(axis.axis_name)],
        )
        places = [place for place in axis.get_majorticklocs() if low <= place <= high]
        if (
            isinstance(axis.get_major_locator(), MaxNLocator)
            and room > SHORT
            and not np.isclose(low, high)
        ):
            assert len(places) != 1, f"one number alone, {places[0]:g}, is no scale"
    for (one, a), (two, b) in combinations(texts.items(), 2):
        assert not overlap(a, b), f"{one} overlaps {two}"
    for legend in figure.findobj(Legend):
        own, box = set(legend.findobj(Text)), legend.get_window_extent()
        for text, other in texts.items():
            assert text in own or not overlap(box, other), f"a legend covers {text}"
        axes = legend.axes
        for points in [] if axes is None else _points(axes):
            # others are not drawn
            points = points[((points >= axes.bbox.min) & (points <= axes.bbox.max)).all(1)]
            inside = (points > box.min + TOUCH).all(1) & (points < box.max - TOUCH).all(1)
            assert not inside.any(), (
                f"a legend covers points of {axes}, at pixels {points[inside][0]}"
            )


def filled(figure: Figure) -> None:
    """No quarter of the figure is empty: at least one in 200 of its pixels is drawn."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = (np.asarray(canvas.buffer_rgba())[..., :3] < 250).any(2)
    for rows in np.array_split(drawn, 2):
        for quarter in np.array_split(rows, 2, axis=1):
            assert quarter.mean() > 0.005, f"a quarter of {figure.get_suptitle()!r} is empty"


def drawn_texts(figure: Figure) -> dict[Text, Bbox]:
    """The texts that a reader sees, and where they stand."""
    seen, draw, figure = [], Text.draw, figure.get_figure(root=True)

    def drawn(text, renderer):
        if text.get_visible() and text.get_text().strip():
            seen.append(text)
        draw(text, renderer)

    with patch.object(Text, "draw", drawn):
        FigureCanvasAgg(figure).draw()
    return {text: text.get_window_extent() for text in seen}  # a layout may have moved them since


def overlap(one: Bbox, two: Bbox) -> bool:
    """Whether two boxes share more than a hair's breadth."""
    return (
        min(one.x1, two.x1) - max(one.x0, two.x0) > TOUCH
        and min(one.y1, two.y1) - max(one.y0, two.y0) > TOUCH
    )


def _points(axes):
    """The points of the axes' lines and dots, (P, 2) in pixels."""
    with np.errstate(invalid="ignore"):
        for line in axes.findobj(Line2D):
            if line.axes is axes and line in axes.lines:
                yield line.get_transform().transform(
                    np.column_stack(line.get_data(orig=False)).astype(float)
                )
        for dots in axes.collections:
            if isinstance(dots, PathCollection):
                yield dots.get_offset_transform().transform(
                    np.ma.filled(dots.get_offsets(), np.nan)
                )
