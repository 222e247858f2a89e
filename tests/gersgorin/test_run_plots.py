"""The figures of one run can be read: whatever was measured, no text is cut off or lies on another."""

from dataclasses import replace

import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from examples.paper.claims import of_matrices
from gersgorin.analyses.spectra import spectra
from gersgorin.plotting.animation import moving_run, save_animation
from gersgorin.plotting.spectra import (
    draw_run,
    plot_products,
    plot_spectrum,
    plot_suggested,
)
from gersgorin.run import Label, Run
from rhn.cells import RHN, RNN
from rhn.errors import RhnError
from rhn.utils.figures import our_style
from tests.readable import drawn_texts, readable

LABEL = Label(name="cell", sequence="a-file-with-a-name-of-forty-characters.csv", reads="sequence", unit="0.1 s")
LONG = "my_package.with_long_names:MyVeryOwnRecurrentCell, depth 10, 1024 units"
ABOUT = "gaussian:0.05, transform bias -2, seed 4294967295; train-217 of the chorales in the-original-file-of-chorales.pickle"


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def measured(cell, T: int, discs: str = "row", **about):
    x = torch.rand(T, 5, dtype=torch.float64, generator=seeded(2))
    return spectra(Run.of(cell, x, label=replace(LABEL, **about)), discs=discs)


def cell(kind, *sizes, init="gaussian:0.6"):
    return kind(5, *sizes, init=init, dtype=torch.float64, generator=seeded(1))


@pytest.fixture(scope="module")
def records():
    usual = measured(cell(RHN, 8, 2), 30, discs="both")
    return {
        "usual": usual,
        "one unit": measured(cell(RNN, 1), 9),
        "deep, long names": measured(cell(RHN, 6, 10), 12, discs="both", title=LONG, data=ABOUT),
        "huge": of_matrices(1e150 * torch.rand(4, 6, 6, dtype=torch.float64, generator=seeded(3)), "huge"),
        "tiny": of_matrices(1e-150 * torch.eye(6, dtype=torch.float64).expand(5, 6, 6), "tiny"),
        "zero": of_matrices(torch.zeros(5, 6, 6, dtype=torch.float64), "$zero$ _{ 字"),
    }


SLOW = ("usual", "one unit", "tiny", "zero")


@pytest.mark.parametrize(
    "name", ["deep, long names", "huge", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
)
def test_every_figure_of_a_run_is_readable(records, name):
    record = records[name]
    readable(draw_run(record))
    for plot in (plot_spectrum, plot_suggested, plot_products):
        readable(plot(record).figure)
    with our_style():
        film = moving_run(record)
        film.draw(film.count - 1)
        readable(film.figure)


def test_the_title_tells_what_is_shown_and_how_it_was_made(records):
    title = " ".join(draw_run(records["deep, long names"]).get_suptitle().split())
    assert all(words in title for words in (LONG, LABEL.sequence, ABOUT, "rhn-toolkit"))
    assert title == " ".join(moving_run(records["deep, long names"]).figure.get_suptitle().split())


def test_each_disc_can_be_drawn_and_the_unit_circle_is_above_the_dots(records):
    record = records["usual"]
    ax = plot_spectrum(record, 4, show_discs=True)
    circles = [path.vertices for drawn in ax.collections[:-1] for path in drawn.get_paths()]
    edges = [vertices[:, 0].max() for vertices in circles]
    expected = [*(record.row_centers + record.row_radii)[4], *(record.column_centers + record.column_radii)[4]]
    assert edges == pytest.approx(expected)
    order = {line.get_label(): line.get_zorder() for line in ax.lines}
    assert order["unit circle"] > order["eigenvalues"] and {"each row disc", "each column disc"} <= set(order)


def test_in_a_notebook_axes_show_their_figure(records):
    for shown in (plot_spectrum(records["usual"]), draw_run(records["usual"])):
        assert shown._repr_png_().startswith(b"\x89PNG")


@pytest.mark.slow
def test_of_a_long_run_an_animation_has_240_moments(records, tmp_path):
    frames = []
    record = records["one unit"]
    save_animation(record, tmp_path / "moving.gif", progress=lambda done, total: frames.append((done, total)))
    assert frames[-1] == (9, 9)
    long = measured(cell(RNN, 1), 500)
    assert len(moving_run(long).moments) == 240


@pytest.mark.parametrize(("name", "said"), [("a.png", "expected a name ending in"), ("none/a.gif", "none")])
def test_an_animation_that_cannot_be_written_is_refused(records, tmp_path, name, said):
    with pytest.raises(RhnError, match=said):
        save_animation(records["one unit"], tmp_path / name)


def test_a_step_that_is_not_there_is_refused(records):
    with pytest.raises(RhnError, match="steps 0 to 29"):
        plot_spectrum(records["usual"], 30)


def test_a_users_axes_keep_their_look_and_lines_are_seen_on_them(records):
    import matplotlib

    with matplotlib.rc_context({"font.size": 13}):
        matplotlib.style.use("dark_background")
        size = matplotlib.rcParams["font.size"]
        for plot in (plot_spectrum, plot_products):
            ax = Figure().subplots()
            assert plot(records["usual"], ax=ax) is ax and ax.get_title() and ax.get_xlabel() and ax.get_ylabel()
            colors = {to_hex(line.get_color()) for line in ax.lines}
            assert "#ffffff" in colors and "#000000" not in colors
            assert matplotlib.rcParams["font.size"] == size and ax.xaxis.label.get_size() == size


def test_numbers_of_any_size_stand_at_their_ticks_not_a_power_of_ten_in_a_corner(records):
    figure = draw_run(records["huge"])
    drawn_texts(figure)
    corners = [axis.get_offset_text().get_text() for ax in figure.findobj(Axes) for axis in (ax.xaxis, ax.yaxis)]
    assert len(corners) >= 12 and not any(corners)
