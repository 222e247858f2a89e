"""Figures of results: panels hold all that is drawn, names do not overlap, nothing is cut off."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from cases import others_slow
from matplotlib.figure import Figure
from readable import overlap, readable

from gersgorin.analyses.compare import compare
from gersgorin.analyses.gains import gains
from gersgorin.analyses.gates import gates
from gersgorin.analyses.products import products
from gersgorin.analyses.spectra import spectra
from rhn.cells import make_cell
from rhn.errors import InvalidInputError
from rhn.utils.composer import new_axes
from rhn.utils.figures import SIZES, SLIDE_HEIGHT
from rhn.utils.named_curves import CUT, colours_of, cut_above, names_of, over_steps, place_names
from tests.numbers.record import S, W, X, cell, filled

LSTM = filled(torch.nn.LSTM(3, 4, 2))
SOURCE = "runs/a_run_with_a_long_name/best.safetensors, seed 4294967295, epoch 17"
LONG = "a_run_with_$a_name_of_forty_characters_ä"


def grid():
    cells = {
        ("rnn", ""): "rnn",
        **{(k, d): f"{k} {d}" for k in ("dt-rnn", "rhn") for d in (1, 3, 5)},
    }
    return compare({place: cell(*name.split())[0] for place, name in cells.items()}, X)


def without_numbers(found):
    arrays = {name: value for name, value in vars(found).items() if isinstance(value, np.ndarray)}
    return replace(found, **{name: np.full_like(each, np.nan) for name, each in arrays.items()})


FIGURES = {
    ("spectra", "slide"): lambda: spectra(LSTM, X, title=LONG, unit="0.1 s"),
    ("spectra of one unit and step", "column"): lambda: spectra(torch.nn.RNN(3, 1), X[:1]),
    ("spectra of tiny steps", "page"): lambda: spectra(lambda x, s: 1e-60 * W @ s, X, S),
    ("spectra without numbers", "page"): lambda: without_numbers(spectra(LSTM, X)),
    ("leading eigenvalues", "column"): lambda: spectra(LSTM, X, leading=2),
    ("products", "column"): lambda: products(LSTM, X),
    ("gains", "slide"): lambda: gains(LSTM, X),
    ("ten gates", "column"): lambda: gates(make_cell("rhn", 3, 4, depth=10), X),
    ("grid", "page"): grid,
    ("grid", "column"): grid,
    ("grid", "slide"): grid,
    ("bands", "page"): lambda: compare(
        {"a": [LSTM, filled(torch.nn.LSTM(3, 4), 2)], LONG: LSTM}, [X, X[:9]],
        panels=("discs", "product", "radius"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "size"),
    others_slow(
        FIGURES,
        ("spectra", "slide"),
        ("grid", "column"),
        ("ten gates", "column"),
        ("products", "column"),
    ),
)
def test_a_figure_can_be_read(name, size):
    figure = FIGURES[name, size]().figure(size=size, source=SOURCE)
    readable(figure)
    assert figure.get_figwidth() == SIZES[size] and figure.get_supxlabel() == SOURCE
    assert (
        figure.get_figheight() == SLIDE_HEIGHT
        if size == "slide"
        else 2 < figure.get_figheight() <= 9
    )
    for ax in figure.axes:
        boxes = [name.get_window_extent() for name in names_of(ax)]
        assert not any(overlap(a, b) for k, a in enumerate(boxes) for b in boxes[:k])


def drawn(ax, *names):
    """The points of lines with these labels."""
    lines = [line for line in ax.lines if line.get_label() in names]
    return np.concatenate([line.get_xdata() + 1j * line.get_ydata() for line in lines])


def test_the_panel_of_a_step_holds_all_that_is_drawn():
    found = spectra(LSTM, X)
    ax = found.plot(step=3)
    unions = "union of row discs", "union of column discs"
    points = drawn(ax, *unions, "numerical range", "unit circle", "eigenvalues")
    points = points[~np.isnan(points)]  # between polygons
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    assert left <= points.real.min() <= points.real.max() <= right
    assert low <= points.imag.min() <= points.imag.max() <= high and -low == high
    for name, radii in zip(unions, (found.row_radii, found.column_radii), strict=True):
        outline, c = drawn(ax, name).real, found.centers[3]
        ends = (c - radii[3]).min(), (c + radii[3]).max()
        assert (np.nanmin(outline), np.nanmax(outline)) == pytest.approx(ends)
    shaded = next(each for each in ax.collections if each.get_label() == "overlap of both unions")
    x, y = shaded.get_paths()[0].vertices.T
    reach, rightmost = found.overlap[:, 3]
    assert 0 < x[y > 0].max() <= rightmost and 0.99 * reach < np.hypot(x, y)[y > 0].max() <= reach
    assert found.plot(limit=0.5).get_xlim() == (-0.5, 0.5)


def test_each_panel_has_the_eigenvalues_of_the_step_and_of_all_steps():
    found = spectra(LSTM, X)
    *planes, each, growth = found.figure(step=3).axes
    for ax in planes:
        np.testing.assert_array_equal(drawn(ax, "eigenvalues"), found.eigenvalues[3])
        every = drawn(ax, "eigenvalues of all steps")
        np.testing.assert_array_equal(every, found.eigenvalues.ravel())
    assert [line.get_xdata()[0] for line in (each.lines[-1], growth.lines[-1])] == [3, 3]


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_names_stand_at_the_ends_of_their_curves_and_in_their_order(scale):
    ends = np.array([5.0, 1.0, 5.01, 900.0 if scale == "log" else 9.0])
    ax = Figure(figsize=(6, 3)).add_subplot()
    over_steps(ax, {f"curve {k}": np.array([1.0, end]) for k, end in enumerate(ends)}, "days", "m")
    ax.get_figure().canvas.draw()
    assert ax.get_yscale() == scale and ax.get_xlabel() == "time (days)"
    assert ax.get_ylabel() == "m"
    middles = np.array([np.mean(name.get_window_extent().intervaly) for name in names_of(ax)])
    assert (np.argsort(middles) == np.argsort(ends)).all()
    places = ax.transData.transform(np.column_stack([np.ones(4), ends]))[:, 1]
    assert np.abs(middles - places).max() < 14  # pixels: a name is 14 high
    assert [name.get_text() for name in names_of(ax)][:2] == ["curve 0: 5", "curve 1: 1"]


def test_a_layer_has_one_colour_in_all_figures():
    found = (
        gains(make_cell("rhn", 3, 4, depth=3), X.float()),
        gates(make_cell("rhn", 3, 4, depth=3, coupled=False), X.float()),
    )
    colours = [
        {t.get_text().split(":")[0]: t.get_color() for t in names_of(one.plot())} for one in found
    ]
    of_gains, of_gates = colours
    layers = [of_gains[f"layer {k}"] for k in (1, 2, 3)]
    for name in ("transform gate", "carry gate"):
        assert [of_gates[f"{name}, layer {k}"] for k in (1, 2, 3)] == layers
    assert len({*of_gains.values()}) == 4
    weights = colours_of(["cells.0.weight_ih", "cells.0.weight_hh[1]"])
    assert weights["cells.0.weight_hh[1]"] == layers[1] != weights["cells.0.weight_ih"]


def test_curves_are_dashed_where_the_last_layout_cannot_tell_them_apart():
    ax = Figure(figsize=(6, 3)).add_subplot()
    over_steps(ax, {"a": np.array([0.0, 0.001]), "b": np.array([0.0, 0.0])}, "", "")
    styles = [line.get_linestyle() for line in ax.lines]
    ax.set_ylim(0, 1)
    dashed = [line.get_linestyle() for line in place_names(ax).lines]
    assert (styles, dashed) == (["-", "-"], ["-", "--"])
    ax.set_ylim(auto=True)
    assert [line.get_linestyle() for line in place_names(ax).lines] == ["-", "-"]


@pytest.mark.parametrize(
    ("first", "is_cut"), [pytest.param(60.0, True, id="above"), pytest.param(2.5, False, id="near")]
)
def test_a_first_number_above_the_others_is_marked(first, is_cut):
    ax = Figure().add_subplot()
    over_steps(ax, {"loss": np.array([first, 1.0, 2.5, 0.5])}, "", "")
    cut_above(ax, 0, first, [1.0, 2.5, 0.5])
    marks = [text.get_text() for text in ax.texts if text.get_gid() == CUT]
    assert marks == (["↑ 60"] if is_cut else [])
    assert (ax.get_ylim()[1] < 3) and ax.get_ylim()[0] < 0.5


def test_a_title_of_the_user_s_has_mathematics_and_a_name_does_not():
    found = gains(torch.nn.RNN(3, 4), X.float(), title="$\\lambda$ and $x$")
    for title, shown in ((None, r"\$\lambda\$"), (r"radius $\lambda$", r"radius $\lambda$")):
        figure = found.figure(title)
        assert figure.get_suptitle().startswith(shown)
        readable(figure, least=2)
    with pytest.raises(InvalidInputError, match="title is"):
        found.figure(r"$\nothing$")


def test_a_curve_that_ends_at_minus_infinity_has_a_cross_and_a_single_point_a_dot():
    ax = Figure().add_subplot()
    rows = {"zero": np.array([2.0, 1.0, -math.inf]), "one": np.array([math.nan, 3.0, math.nan])}
    over_steps(ax, rows, "steps")
    first, cross, second = ax.lines
    assert cross.get_marker() == "x" and (*cross.get_xdata(), *cross.get_ydata()) == (1, 1)
    assert first.get_markevery() == [] and second.get_markevery() == [1]
    assert [name.get_text() for name in names_of(ax)] == ["zero: -inf", "one: 3"]


def test_a_band_is_drawn_where_both_ends_are_finite():
    row, high = np.array([0.0, -1.0, -2.0]), np.array([0.0, 0.0, 1.0])
    bands = {"a": (np.array([0.0, -2.0, -np.inf]), high)}
    ax = over_steps(new_axes(), {"a": row}, "steps", bands=bands)
    (band,) = ax.collections
    (area,) = band.get_paths()
    assert {tuple(point) for point in area.vertices.tolist()} == {(0, 0), (1, -2), (1, 0)}
