"""Figures have one style, with letters as large as their width lets them be."""

import io
import re
import struct
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import pytest
from cases import others_slow
from PIL import Image

from rhn.errors import InvalidInputError
from rhn.utils.command_line import command_class, command_line, run_read
from rhn.utils.composer import composed, new_axes
from rhn.utils.figures import PROGRAM, inches_of, our_style, save_figure
from rhn.utils.named_curves import COLOURS, colours_of


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


def test_a_figure_is_at_most_forty_inches_wide():
    assert inches_of(40) == 40
    with pytest.raises(
        InvalidInputError, match=r"^figure is 40\.5: expected column, .* 40 inches$"
    ):
        inches_of(40.5)


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


def one_panel():
    """A figure with one panel, drawn by the call simple()."""
    return composed(lambda part: part.add_subplot() and 3.0, "a title", "column", call="simple()")


@command_class
class Draw:
    """A command that draws a figure into three files."""

    folder: str

    def run(self):
        for suffix in (".png", ".svg", ".pdf"):
            save_figure(Path(self.folder) / f"a{suffix}", one_panel)


def origin(path):
    """The texts in the metadata of a file: the program, and what drew the figure."""
    if path.suffix == ".png":
        found = Image.open(path).text
        return found["Software"], found["Description"]
    if path.suffix == ".svg":
        found = {each.tag.split("}")[-1]: each for each in ElementTree.parse(path).iter()}
        return "".join(found["creator"].itertext()).strip(), found["description"].text
    text = path.read_bytes().decode("latin-1").replace("\\", "")
    found = (re.search(rf"/{key} \((.*?)\)\s*[/>]", text) for key in ("Creator", "Subject"))
    return tuple(each[1] for each in found)


@pytest.mark.parametrize("suffix", others_slow([".png", ".svg", ".pdf"], ".png"))
def test_a_file_names_the_version_and_the_call_or_the_command(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    save_figure(path, one_panel)
    first = path.read_bytes()
    assert origin(path) == (PROGRAM, "simple()")
    save_figure(path, one_panel)
    assert path.read_bytes() == first  # no date
    commands = command_line("figures", "draw")
    commands.command(Draw, name="draw")
    run_read(commands, ["draw", "--folder", str(tmp_path)])
    assert origin(path) == (PROGRAM, f"figures draw --folder {tmp_path}")
    one_panel().savefig(path)
    assert origin(path) == (PROGRAM, "simple()")  # after the command


def test_layers_have_the_colours_of_their_numbers_and_others_the_last_ones():
    assert colours_of(["a", "b"]) == {"a": COLOURS[0], "b": COLOURS[1]}
    assert colours_of(["a", "b", "layer 2", "cells[0]", "cells[8]"]) == {
        "a": COLOURS[6],
        "b": COLOURS[5],
        "layer 2": COLOURS[1],
        "cells[0]": COLOURS[0],
        "cells[8]": COLOURS[1],
    }


def test_a_plot_into_new_axes_names_the_version():
    new_axes().figure.savefig(file := io.BytesIO())
    assert Image.open(file).text["Software"] == PROGRAM
    assert "Description" not in Image.open(file).text


@pytest.mark.parametrize(
    ("file", "how"),
    [
        pytest.param("a.svg", {}, id="a suffix"),
        pytest.param("a.png", {"format": "svg"}, id="another format"),
    ],
)
def test_the_metadata_are_those_of_the_format(file, how, tmp_path):
    new_axes().figure.savefig(tmp_path / file, **how)
    assert f"<dc:title>{PROGRAM}" in (tmp_path / file).read_text()
