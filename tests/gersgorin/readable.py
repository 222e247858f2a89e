"""What makes a figure readable, as a test can say it."""

from itertools import combinations
from unittest.mock import patch

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text


def readable(figure) -> None:
    """No text leaves the figure, and no two texts overlap."""
    boxes, draw = {}, Text.draw

    def drawn(text, renderer):
        if text.get_visible() and text.get_text().strip():
            boxes[text] = text.get_window_extent(renderer)
        draw(text, renderer)

    with patch.object(Text, "draw", drawn):
        FigureCanvasAgg(figure).draw()
    boxes = {text: text.get_window_extent() for text in boxes}  # where they stand in the end
    assert len(boxes) > 30
    for text, box in boxes.items():
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, text
    for (one, a), (two, b) in combinations(boxes.items(), 2):
        inside = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert min(inside) <= 0.5, (one, two)
