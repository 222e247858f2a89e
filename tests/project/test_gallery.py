"""Each picture of the gallery can be read in three sizes, and fills its panels."""

import re
from pathlib import Path

import pytest
from cases import others_slow
from matplotlib.figure import Figure

from rhn.utils.figures import PAGE_HEIGHT, SIZES, SLIDE_HEIGHT
from tests.gallery import OF_MANY, PICTURES
from tests.readable import WIDTHS, covered, measured, panels_of, readable

PAGE = Path(__file__).resolve().parents[2] / "docs" / "gallery.md"
QUICK = "rhn-depth5", "truncation", "lyapunov", "recording", "gates", "lesions"
COLUMN_HEIGHT = 4


def test_every_picture_of_the_gallery_is_measured():
    shown = re.findall(r"!\[.*?\]\((.*)\)", PAGE.read_text())
    assert {Path(file).stem for file in shown} == {*PICTURES}


@pytest.mark.parametrize("size", WIDTHS)
@pytest.mark.parametrize("name", others_slow(PICTURES, *QUICK))
def test_a_picture_can_be_read_and_fills_its_panels(name, size):
    figure = PICTURES[name](size)
    readable(figure)
    found = measured(figure)
    highest = {"page": PAGE_HEIGHT, "slide": SLIDE_HEIGHT, "column": COLUMN_HEIGHT}
    highest["column"] = PAGE_HEIGHT if name in OF_MANY else COLUMN_HEIGHT
    assert found.width == SIZES[size] and found.height <= highest[size] and found.letters >= 7
    assert found.area >= 0.5


@pytest.mark.parametrize(
    ("width", "share"), [pytest.param(4, 0.4, id="points"), pytest.param(9, 0.9, id="more points")]
)
def test_a_box_round_the_data_is_measured_without_lines_across_the_panel(width, share):
    figure = Figure()
    ax = figure.add_subplot(xlim=(0, 10), ylim=(0, 10))
    ax.plot([0, width], [1, 2])
    ax.scatter([1, 2], [1, 3])
    ax.axhline(5)
    figure.draw_without_rendering()
    assert covered(ax) == pytest.approx(share) and panels_of(figure) == [ax]
