"""The figures of one run show the record, and can be read whatever was measured: no text is cut off
or lies on another.
"""

from dataclasses import replace

import matplotlib
import numpy as np
import pytest
import torch
from linear_steps import of_matrices
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from gersgorin.analyses.spectra import spectra, spectrum_limit
from gersgorin.figures import (
    draw_run,
    plot_products,
    plot_spectrum,
    plot_suggested,
)
from gersgorin.run.run import Label, Run, shown_steps
from rhn.cells import RHN, RNN
from rhn.errors import RhnError
from rhn.plotting.figure import complex_plane
from tests.readable import alone, drawn_texts, readable, whole_title

WITHOUT_LAYOUT = pytest.mark.usefixtures("unarranged")

LABEL = Label(
    name="cell",
    sequence="a-file-with-a-name-of-forty-characters.csv",
    reads="sequence",
    unit="0.1 s",
)
LONG = "my_package.with_long_names:MyVeryOwnRecurrentCell, depth 10, 1024 units"
ABOUT = (
    "gaussian:0.05, transform bias -2, seed 4294967295; train-217 of the chorales in "
    "the-original-file-of-chorales.pickle"
)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def measured(kind, *sizes, T: int, discs: str = "row", **about):
    cell = kind(5, *sizes, init="gaussian:0.6", dtype=torch.float64, generator=seeded(1))
    x = torch.rand(T, 5, dtype=torch.float64, generator=seeded(2))
    return spectra(Run.of(cell, x, label=replace(LABEL, **about)), discs=discs)


@pytest.fixture(scope="module")
def records():
    return {
        "usual": measured(RHN, 8, 2, T=9, discs="both"),
        "one unit": measured(RNN, 1, T=9),
        "deep, long names": measured(RHN, 6, 10, T=12, discs="both", title=LONG, data=ABOUT),
        "huge": of_matrices(
            1e150 * torch.rand(4, 6, 6, dtype=torch.float64, generator=seeded(3)), "huge"
        ),
        "tiny": of_matrices(1e-150 * torch.eye(6, dtype=torch.float64).expand(5, 6, 6), "tiny"),
        "zero": of_matrices(torch.zeros(5, 6, 6, dtype=torch.float64), "$zero$ _{ 字"),
    }


def line(ax, label):
    return next(drawn for drawn in ax.lines if drawn.get_label() == label)


@WITHOUT_LAYOUT
@pytest.mark.parametrize("discs", ["row", "column", "both"])
def test_panels_and_bands_show_the_discs_the_record_speaks_of_and_no_others(records, discs):
    record = replace(records["usual"], discs=discs)
    ax, over_time = alone(plot_spectrum, record, 4), alone(plot_suggested, record)
    drawn = line(ax, "eigenvalues")
    assert np.array_equal(drawn.get_xdata() + 1j * drawn.get_ydata(), record.eigenvalues[4])
    bands = {band.get_label(): band for band in over_time.collections}
    for axis in ("row", "column"):
        union, edges = f"union of the {axis} discs", f"{axis} disc edges"
        assert (
            (union in [drawn.get_label() for drawn in ax.lines])
            == (edges in bands)
            == (discs in (axis, "both"))
        )
        centers, radii = getattr(record, f"{axis}_centers"), getattr(record, f"{axis}_radii")
        if edges in bands:
            outline, ends = (
                line(ax, union).get_xdata(),
                ((centers - radii)[4].min(), (centers + radii)[4].max()),
            )
            assert (outline.min(), outline.max()) == pytest.approx(ends)
            assert bands[edges].get_datalim(over_time.transData).ymax == pytest.approx(
                (centers + radii).max()
            )
            assert (centers + radii).max() < spectrum_limit([records["one unit"], record])
    x, y = ax.collections[0].get_paths()[0].vertices.T  # shaded: where the spectrum can be
    assert 0 < x[y > 0].max() <= record.rightmost_disc[4] and 0 < y.max() <= record.reach[4]


@WITHOUT_LAYOUT
def test_time_axes_show_radii_and_products(records):
    record = records["usual"]
    suggested, drawn = alone(plot_suggested, record), alone(plot_products, record).lines[0]
    for name in ("spectral radius", "numerical radius"):
        assert np.array_equal(
            line(suggested, name).get_ydata()[:-1], getattr(record, name.replace(" ", "_"))
        )
    assert np.array_equal(drawn.get_xdata(), np.arange(10))
    assert np.allclose(drawn.get_ydata()[1:] * np.log(10), record.log_norm_product)


@WITHOUT_LAYOUT
def test_panels_hold_the_numerical_range(records):
    drawn = line(alone(plot_spectrum, records["usual"], 4), "numerical range")
    assert np.array_equal(
        drawn.get_xdata() + 1j * drawn.get_ydata(), records["usual"].range_outline(4)
    )
    # rows reach 1, the range reaches (1 + sqrt 9) / 2
    column = torch.zeros(9, 9).index_fill(1, torch.tensor([0]), 1.0)
    assert spectrum_limit([of_matrices(column[None], "column")]) > 2


def test_shown_steps_hold_the_first_and_the_last():
    assert [shown_steps(T) for T in (1, 2, 3, 100)] == [[0], [0, 1], [0, 1, 2], [0, 33, 66, 99]]


SLOW = ("usual", "one unit", "tiny", "zero")


@pytest.mark.parametrize(
    "name",
    ["deep, long names", "huge", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)],
)
def test_every_figure_of_a_run_is_readable(records, name):
    record = records[name]
    readable(draw_run(record))
    for plot in (plot_spectrum, plot_suggested, plot_products):
        readable(alone(plot, record).figure.figure)


@WITHOUT_LAYOUT
def test_the_title_tells_what_is_shown_and_how_it_was_made(records):
    title = whole_title(draw_run(records["deep, long names"]))
    assert all(words in title for words in (LONG, LABEL.sequence, ABOUT, "rhn-toolkit"))


@WITHOUT_LAYOUT
def test_the_upper_panel_has_the_step_and_the_reach_of_its_discs(records):
    record = records["usual"]
    step = record.drawn_step(None)
    title = " ".join(draw_run(record).axes[0].get_title("left").split())
    assert title == f"Step {step}: largest modulus in the discs {record.reach[step]:.3g}"


@WITHOUT_LAYOUT
def test_the_unit_circle_is_below_the_dots(records):
    order = {
        line.get_label(): line.get_zorder()
        for line in alone(plot_spectrum, records["usual"], 4).lines
    }
    assert order["unit circle"] < order["eigenvalues"]


@pytest.mark.parametrize("values", [[0.5, 0.9, -0.95], [0.5, 0.501, 0.52], [0.8, -0.6]])
@WITHOUT_LAYOUT
def test_a_panel_is_called_enlarged_only_if_it_is(values):
    matrices = torch.tensor(values, dtype=torch.float64).diag().repeat(9, 1, 1)
    whole, view = draw_run(of_matrices(matrices, "diagonal")).figure.axes[:2]
    ratio = np.ptp(whole.get_xlim()) / np.ptp(view.get_xlim())
    words, *number = view.get_title("left").split(" ")[:2]
    assert (words == "Enlarged") == (ratio > 1.5)
    if words == "Enlarged":
        assert float(number[0]) == pytest.approx(ratio, rel=0.05)
    else:
        assert view.get_title("left") == "Eigenvalues of all steps"


@pytest.mark.parametrize(
    ("limit", "middle"), [(0.5, 0.0), (2.0, 0.0), (0.1, 1.0), (0.1, 0.8), (0.2, -3.0), (0.5, -1.4)]
)
def test_a_panel_has_the_unit_circle_or_says_on_which_side_it_lies(limit, middle):
    side = np.linspace(-limit, limit, 201)
    distance = np.abs(middle + side[:, None] + 1j * side)
    words = {(True, False): "inside", (False, True): "outside"}.get(
        (distance.max() < 1, distance.min() > 1)
    )
    ax = complex_plane(Figure().subplots(), limit, middle)
    assert bool(ax.lines) == (words is None)
    note = f" ({words} the unit circle)" if words else ""
    assert ax.get_xlabel() == f"real part{note}"


@WITHOUT_LAYOUT
def test_in_a_notebook_axes_show_their_figure(records):
    for shown in (alone(plot_spectrum, records["usual"]), draw_run(records["usual"])):
        assert shown._repr_png_().startswith(b"\x89PNG")


@WITHOUT_LAYOUT
def test_a_step_that_is_not_there_is_refused(records):
    with pytest.raises(RhnError, match="step is 9: expected 0 to 8"):
        alone(plot_spectrum, records["usual"], 9)


def test_a_users_axes_keep_their_look_and_lines_are_seen_on_them(records):
    with matplotlib.rc_context({"font.size": 13}):
        matplotlib.style.use("dark_background")
        size = matplotlib.rcParams["font.size"]
        for plot in (plot_spectrum, plot_products):
            ax = Figure().subplots()
            assert plot(records["usual"], ax=ax) is ax
            assert ax.get_title()
            assert ax.get_xlabel()
            assert ax.get_ylabel()
            colors = {to_hex(line.get_color()) for line in ax.lines}
            assert "#ffffff" in colors and "#000000" not in colors
            assert matplotlib.rcParams["font.size"] == size and ax.xaxis.label.get_size() == size


def test_numbers_of_any_size_stand_at_their_ticks_not_a_power_of_ten_in_a_corner(records):
    figure = draw_run(records["huge"])
    drawn_texts(figure)
    corners = [
        axis.get_offset_text().get_text()
        for ax in figure.findobj(Axes)
        for axis in (ax.xaxis, ax.yaxis)
    ]
    assert len(corners) >= 8 and not any(corners)
