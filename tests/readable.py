"""What a reader sees of a figure or a printed result."""

import re
from itertools import combinations
from unittest.mock import patch

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.transforms import Bbox

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
    for text, box in texts.items():
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, (
            f"{text} is cut off: {box} of {figure.bbox}"
        )
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, (
            f"{text} is cut off: {box} of {figure.bbox}"
        )
        assert text.get_fontsize() >= 7, f"{text} is too small"
    for (one, a), (two, b) in combinations(texts.items(), 2):
        assert not overlap(a, b), f"{one} overlaps {two}"
    for legend in figure.findobj(Legend):
        own, box = set(legend.findobj(Text)), legend.get_window_extent()
        for text, other in texts.items():
            assert text in own or not overlap(box, other), f"a legend covers {text}"


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
