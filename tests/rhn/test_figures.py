"""Figures have one style, with letters as large as their width lets them be."""

import struct

import matplotlib
import pytest

from rhn.utils.composer import new_axes
from rhn.utils.figures import our_style


@pytest.mark.parametrize(
    ("size", "points", "small", "dots"),
    [
        pytest.param("column", 7, 7, 160, id="column"),
        pytest.param(4.875, 7.5, 7, 160, id="one and a half columns"),
        pytest.param(6.5, 8, 7, 160, id="two columns"),
        pytest.param(12, 9, 8, 160, id="wide"),
        pytest.param(12.5, 16, 15, 144, id="more than 12 inches"),
        pytest.param("slide", 16, 15, 144, id="slide"),
        pytest.param(2, 7, 7, 160, id="small"),
        pytest.param(None, 9, 8, 160, id="no size"),
    ],
)
def test_letters_grow_with_the_width_and_the_user_s_style_is_put_back(size, points, small, dots):
    with matplotlib.rc_context({"font.size": 31.0, "axes.grid": True}):
        with our_style(size):
            ours = matplotlib.rcParams
            assert ours["font.size"] == ours["axes.titlesize"] == points
            assert ours["legend.fontsize"] == ours["xtick.labelsize"] == small
            assert (ours["figure.titlesize"], ours["savefig.dpi"]) == (points + 1, dots)
            assert (ours["lines.linewidth"], ours["lines.markersize"]) == (points / 6, points / 2)
            assert not ours["axes.grid"]
        assert matplotlib.rcParams["font.size"] == 31 and matplotlib.rcParams["axes.grid"]


def test_figures_inside_others_have_the_outer_width():
    with our_style("slide"), our_style():
        assert matplotlib.rcParams["font.size"] == 16
    with our_style("slide"), our_style("column"):
        assert matplotlib.rcParams["font.size"] == 7


def test_a_notebook_shows_a_hundred_points_an_inch():
    picture = new_axes().figure
    picture.set_size_inches(3, 2)
    width, height = struct.unpack(">II", picture._repr_png_()[16:24])  # of the header of a PNG
    assert (width, height) == (300, 200)
