"""What a reader sees of a figure or a printed result."""

import re
from itertools import combinations
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from rhn.utils.figures import SIZES, our_style
from rhn.utils.results import COLUMNS, NOTE
from rhn.utils.tables import EXPLAINED, MISSING, MORE

WIDTHS = ["column", *(pytest.param(width, marks=pytest.mark.slow) for width in ("page", "slide"))]
TOUCH = 0.5  # pixels that two boxes may share


def readable(figure: Figure, *, least: int = 5) -> None:
    """No text leaves the figure, no two texts overlap, and no legend covers a text that is not its
    own.

    least: texts that the figure has at least.
    """
    figure = figure.get_figure(root=True)
    texts = drawn_texts(figure)
    assert len(texts) >= least, list(texts)
    assert [str(text) for text in cut_off(figure, texts)] == []
    assert [str(text) for text in texts if text.get_fontsize() < 7] == []
    assert [f"{one} overlaps {two}" for one, two in overlapping(texts)] == []
    for legend in figure.findobj(Legend):
        own, box = set(legend.findobj(Text)), legend.get_window_extent()
        for text, other in texts.items():
            assert text in own or not overlap(box, other), f"a legend covers {text}"


def without_layout(result: Any, size: str = "page", **how: Any) -> Figure:
    """The panels of a result in a figure of this width: quicker than `figure`, at the same
    limits.
    """
    with our_style(size):
        figure = Figure(figsize=(SIZES[size], 5))
        result.draw(figure.add_subfigure(figure.add_gridspec(1, 1)[0]), **how)
    return figure


def cut_off(figure: Figure, texts: dict[Text, Bbox]) -> list[Text]:
    """The texts that leave the figure."""
    whole = figure.bbox
    return [
        text
        for text, box in texts.items()
        if not (whole.x0 <= box.x0 and box.x1 <= whole.x1)
        or not (whole.y0 <= box.y0 and box.y1 <= whole.y1)
    ]


def overlapping(texts: dict[Text, Bbox]) -> list[tuple[Text, Text]]:
    """The pairs of texts that overlap."""
    every = combinations(texts.items(), 2)
    return [(one, two) for (one, a), (two, b) in every if overlap(a, b)]


class Measured(NamedTuple):
    """What a ruler finds in a figure."""

    width: float
    """Inches."""
    height: float
    letters: float
    """Points of the smallest letters."""
    area: float
    """The least `covered` of all panels."""
    overlaps: int
    """Pairs of texts that overlap."""
    cut: int
    """Texts that leave the figure."""


def measured(figure: Figure) -> Measured:
    """Measure a figure."""
    texts = drawn_texts(figure)
    return Measured(
        *map(float, figure.get_size_inches()),
        letters=min(text.get_fontsize() for text in texts),
        area=min(covered(ax) for ax in panels_of(figure)),
        overlaps=len(overlapping(texts)),
        cut=len(cut_off(figure, texts)),
    )


def panels_of(figure: Figure) -> list[Axes]:
    """The panels with numbers: without colour bars and empty places."""
    return [ax for ax in figure.axes if ax.axison and ax.get_label() != "<colorbar>"]


def covered(ax: Axes) -> float:
    """The share of the width or of the height of a panel, the larger one, that the box around what
    is drawn at numbers of both axes covers. The figure has been drawn.
    """
    boxes = [box for artist in (*ax.lines, *ax.collections, *ax.images, *ax.patches)
             if (box := box_of(ax, artist)) is not None]  # fmt: skip
    if not boxes:
        return 0.0
    corners = np.concatenate(boxes).clip(ax.bbox.min, ax.bbox.max)
    return float((np.ptp(corners, axis=0) / ax.bbox.size).max())


def box_of(ax: Axes, artist: Any) -> np.ndarray | None:
    """Two corners (2, 2) of an artist in pixels; None for one that spans the panel by itself."""
    if artist in ax.lines and artist.get_transform() != ax.transData:
        return None
    if artist in ax.lines:
        points = ax.transData.transform(artist.get_xydata())
        points = points[np.isfinite(points).all(1)]
        return np.stack([points.min(0), points.max(0)]) if len(points) else None
    if artist in ax.collections:
        box = artist.get_datalim(ax.transData)
        return ax.transData.transform(box.get_points()) if np.isfinite(box.extents).all() else None
    return artist.get_window_extent().get_points()


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


def words_in(figure):
    """All texts of a figure."""
    figure.canvas.draw()
    drawn = [t.get_text() for t in figure.findobj(Text) if t.get_visible()]
    return [text.replace("$\\mathdefault", "").replace("−", "-") for text in drawn]


def other_words(text, found, more=()):
    """Words of a text that are no numbers and no literals of the class of a result."""
    own = (
        *more,
        f"({COLUMNS[0]})",
        found.page,
        found.data,
        found.network.split(", depth")[0],
        EXPLAINED,
        MORE,
        NOTE,
        *COLUMNS,
    )
    for literal in sorted((*found.texts, *own), key=len, reverse=True):
        text = text.replace(literal, " ")
    text = re.sub(r"-?\b(inf|nan|\d[\d.]*(e[+-]?\d+)?)\b", " ", text)
    return {*text.split()} - {MISSING, ";", ",", ":"}
