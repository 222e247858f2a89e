"""`compare`: recorded numbers, quantiles by NumPy, one table and its files, and the grid."""

import csv
import itertools
import json
import math
import re
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given as drawn_from
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib import rc_context
from readable import without_layout

from gersgorin.analyses.compare import (
    COLUMNS,
    PANELS,
    ComparedNetwork,
    Comparison,
    compare,
    quantiles,
)
from gersgorin.analyses.comparison_figure import _sizes, colours_of_networks
from gersgorin.analyses.spectra import spectra
from gersgorin.run import open_run
from rhn.cells import RNN, make_cell
from rhn.errors import InvalidInputError
from rhn.utils.named_curves import colours_of, names_of
from rhn.utils.tables import MORE
from tests.numbers.record import X, cell, filled

MEASURES = ("spectral_radius", "norm", "reach", "log_norm_product")


def networks(count):
    return [filled(make_cell("rhn", 3, 6, depth=2), seed) for seed in range(count)]


@drawn_from(arrays(float, (5, 3), elements=st.floats(-9, 9) | st.just(np.nan)), st.floats(0, 1))
def test_quantiles_are_those_of_numpy(values, share):
    with warnings.catch_warnings(action="ignore"):  # of columns of NaN
        np.testing.assert_allclose(
            quantiles(values, share), np.nanquantile(values, share, 0), atol=1e-12
        )


@pytest.mark.parametrize(
    ("values", "share", "wanted"),
    [
        ([-math.inf, 1, 2], 0.25, -math.inf),
        ([-math.inf, 1, 2], 0.5, 1),
        ([1, 2, math.inf], 0.75, math.inf),
        ([1, math.inf, math.inf], 0.75, math.inf),
        ([-math.inf, math.inf], 0.5, -math.inf),
        ([math.nan, 3], 0.9, 3),
    ],
    ids=str,
)
def test_quantiles_beside_an_infinite_number_are_infinite(values, share, wanted):
    assert quantiles(np.array(values)[:, None], share).tolist() == [wanted]


def test_bands_are_quantiles_over_the_runs_that_have_the_step():
    seeds, sequences = networks(3), [X[:4], X[:7], X[:5]]
    found = compare({"rhn": seeds}, sequences).network("rhn")
    alone = [spectra(seed, x) for seed in seeds for x in sequences]
    assert found.steps.tolist() == [4, 7, 5] * 3 and found.runs_at.tolist() == [9] * 4 + [6, 3, 3]
    for name in MEASURES:
        for t in range(7):
            own = "row_reach" if name == "reach" else name
            values = [getattr(one, own)[t] for one in alone if one.steps > t]
            for share in (0.1, 0.5, 0.9):
                got = quantiles(getattr(found, name), share)[t]
                assert got == pytest.approx(np.quantile(values, share), rel=1e-12)
    curve = found.curve("log10 ||ds[t]/ds[0]||", 0.5)  # of 5 steps, which 6 of 9 runs have
    assert len(curve) == 6 and curve[0] == 0
    wanted = np.median([one.log_norm_product[4] for one in alone if one.steps > 4])
    assert curve[5] == pytest.approx(wanted / math.log(10))


def test_a_curve_ends_at_the_last_step_that_half_of_the_runs_have():
    curve = "log10 ||ds[t]/ds[0]||"
    half = compare({"rhn": networks(1)}, [X[:3], X[:5]]).network("rhn")
    assert len(half.curve("spectral radius", 0.5)) == 5 and len(half.curve(curve, 0.5)) == 6
    third = compare({"rhn": networks(1)}, [X[:3], X[:5], X[:1]]).network("rhn")
    assert len(third.curve("spectral radius", 0.5)) == 3 and len(third.curve(curve, 0.5)) == 4


def test_a_table_of_runs_of_unequal_lengths_has_the_numbers_of_each_to_its_own_end():
    seeds, sequences = networks(2), [X[:7], X[:1], X[:4]]
    found = compare({"rhn": seeds}, sequences)
    alone = [spectra(seed, x).table() for seed in seeds for x in sequences]
    numbers = found.network("rhn").numbers()
    for name in COLUMNS[1:]:
        assert numbers[name] == pytest.approx([np.median(table[name]) for table in alone])
    for share in (0.1, 0.5, 0.9):
        wanted = np.quantile([np.median(table["2-norm"]) for table in alone], share)
        assert found.table(share)["2-norm"] == pytest.approx(wanted, rel=1e-12)
    rates = [table["growth rate of ||ds[t]/ds[0]|| (1/step)"] for table in alone]
    assert found.network("rhn").last_exponent.tolist() == pytest.approx(rates)


def test_measures_of_all_networks_are_arrays_with_nan_where_one_has_no_run_or_step():
    found = compare({"rhn": networks(2), "rnn": cell("rnn")[0]}, [X[:7], X[:2]]).variables()
    axes, norms = found["norm"]
    lengths = [[7, 2, 7, 2], [7, 2, 0, 0]]
    assert axes == ("network", "run", "step") and norms.shape == (2, 4, 7)
    assert (~np.isnan(norms)).sum(-1).tolist() == found["steps"][1].tolist() == lengths
    assert found["steps"][0] == axes[:2]
    np.testing.assert_allclose(norms[1, 1, :2], spectra(cell("rnn")[0], X[:2]).norm)


def test_notes_count_steps_of_runs_and_not_the_space_after_a_shorter_one():
    found = compare({"rhn": networks(2), "rnn": cell("rnn")[0]}, [X[:7], X[:2]])
    assert [*found.notes().values()] == [0, 0, 0]
    one, other = found.networks
    one.spectral_radius[0, 3] = one.spectral_radius[1, 1] = one.norm[2, 4] = np.nan
    for measure in MEASURES:  # a step whose Jacobian is out of range has no number at all
        getattr(other, measure)[0, 6] = np.nan
    assert [*found.notes().values()] == [2, 1, 1]


@pytest.mark.parametrize(
    "form", [pytest.param(torch.stack, id="tensor"), pytest.param(np.stack, id="array")]
)
def test_a_batch_and_a_bare_network_are_a_list_of_runs_of_one_network(form):
    (network,), sequences = networks(1), [X[:7], X[1:8], X[2:9]]
    found, listed = compare(network, form(sequences)), compare({"rhn": [network]}, sequences)
    assert [one.name for one in found.networks] == [spectra(network, X).network]
    for name in MEASURES:
        np.testing.assert_array_equal(
            getattr(found.networks[0], name), getattr(listed.network("rhn"), name)
        )
    assert found.table()["runs"].tolist() == [3]


def test_a_batch_of_one_is_one_run_with_either_axis_of_the_batch():
    layer = filled(torch.nn.RNN(3, 4))
    for x in (X[:, None], X[None]):
        found = compare(layer, x).networks[0]
        np.testing.assert_array_equal(found.norm, spectra(layer, X).norm[None])


def test_two_networks_at_one_place_of_the_grid_are_refused():
    rnn = cell("rnn")[0]
    compare({("a", ""): rnn, ("b", 1): rnn}, X[:2])
    for places in ([("a", ""), ("a", 1)], [("a", 1), ("a", "1")], ["b", ("", "b")]):
        named = re.escape(", ".join(map(str, places)))
        message = f"^networks is {named}: expected one network at each place"
        with pytest.raises(InvalidInputError, match=message):
            compare(dict.fromkeys(places, rnn), X[:2])
    with pytest.raises(InvalidInputError, match=r"^networks is empty: expected one network at "):
        compare({}, X[:2])


@pytest.mark.parametrize("panels", [[], ["discs", "plane"]], ids=str)
def test_panels_without_a_name_of_the_list_are_refused(panels):
    with pytest.raises(InvalidInputError, match="expected a list of discs, radius, reach, norm"):
        compare({"rnn": cell("rnn")[0]}, X[:2], panels=panels)


def test_a_row_of_the_table_has_the_numbers_of_the_network_alone(tmp_path):
    given = {
        ("rnn", ""): cell("rnn")[0],
        ("rhn", 1): cell("rhn")[0],
        ("rhn", 3): cell("rhn", "3")[0],
    }
    found = compare(given, X)
    for place, values in zip(given, zip(*found.table().values(), strict=True), strict=True):
        alone = spectra(given[place], X)
        rows = alone.table()
        wanted = [np.median(rows[name]) for name in COLUMNS[1:]]
        assert values == pytest.approx((1, *wanted), rel=1e-12)
        np.testing.assert_array_equal(found[place].eigenvalues, alone.eigenvalues)
    with found.csv(tmp_path / "table.csv").open(newline="") as file:
        table = [*csv.DictReader(file)]
    assert [row["network"] for row in table] == ["rnn", "rhn, 1", "rhn, 3"]
    for name in COLUMNS[1:]:
        for words in ("", ", 10 %", ", 90 %"):
            numbers = [float(row[name + words] or "nan") for row in table]
            np.testing.assert_allclose(numbers, found.table()[name], rtol=1e-15)
    lines = str(found).splitlines()
    assert len([line for line in lines if re.match(r"(rnn|rhn, \d) ", line)]) == 3


def test_several_runs_have_a_table_of_medians_and_one_for_each_end_of_the_band(tmp_path):
    seeds = networks(2)
    found = compare({"rhn": seeds, "rnn": cell("rnn")[0]}, X)
    radii = [np.median(spectra(seed, X).spectral_radius) for seed in seeds]
    with found.csv(tmp_path / "table.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    printed = [line.split() for line in str(found).splitlines() if line.startswith("rhn ")]
    for words, share, line in zip(("", ", 10 %", ", 90 %"), (0.5, 0.1, 0.9), printed, strict=True):
        wanted = pytest.approx(np.quantile(radii, share), rel=1e-12)
        assert found.table(share)["spectral radius"][0] == wanted
        assert float(row[f"spectral radius{words}"]) == wanted
        assert float(line[2]) == pytest.approx(found.table(share)[COLUMNS[1]][0], rel=1e-3)
    assert found.table()["runs"].tolist() == [2, 1] and row["runs"] == "2"
    assert "runs, 10 %" not in row, "a network has one number of runs"
    lines = str(found).splitlines()
    heads = [before for before, line in itertools.pairwise(lines) if line[:4] == "rhn "]
    assert [head.partition("  ")[0] for head in heads] == ["median", "10 %", "90 %"]


def test_a_product_of_0_is_the_low_end_of_a_band():
    dead = RNN(3, 6, nonlinearity="relu", dtype=torch.float64)
    torch.nn.init.constant_(dead.bias, -100.0)
    found = compare({"a": [*networks(2), dead, dead]}, X).network("a")
    low, median, high = (found.curve("log10 ||ds[t]/ds[0]||", q)[-1] for q in (0.1, 0.5, 0.9))
    assert low == median == -np.inf < high < np.inf


def test_a_comparison_is_saved_and_read_back(tmp_path):
    found = compare({("rhn", 2): networks(2), "f": cell("rnn")[0]}, [X, X[:5]], panels=["norm"])
    again = Comparison.load(found.save(tmp_path / "a.npz"))
    assert str(again) == str(found) and again.panels == ("norm",)
    for name in (*MEASURES, "steps"):
        one, other = (getattr(each.network(("rhn", 2)), name) for each in (again, found))
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(again["f"].eigenvalues, found["f"].eigenvalues)


def test_a_json_file_of_a_comparison_has_its_table_and_no_numbers_of_steps(tmp_path):
    found = compare({("rhn", 2): networks(2), "f": cell("rnn")[0]}, [X, X[:5]])
    found.networks[0].norm[1, 0] = np.nan
    path = found.save(tmp_path / "a.json")
    written = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert path.stat().st_size < 8_000 and not {*MEASURES, "first"} & {*written["networks"][0]}
    assert written["table"] == found.records()
    again = Comparison.load(path)
    for one in (again, Comparison.load(again.save(tmp_path / "b.json"))):
        assert str(one) == str(found) and one.notes() == found.notes()
        for share in (0.1, 0.5, 0.9):
            for row, numbers in found.table(share).items():
                np.testing.assert_array_equal(one.table(share)[row], numbers)
    for call in (again.figure, again.plot, again.to_xarray, again.by_step, lambda: again["f"]):
        with pytest.raises(InvalidInputError, match="has no numbers of steps: expected one from"):
            call()


def test_runs_are_compared_as_they_are_and_progress_is_counted():
    step = open_run(lambda x, s: s / 2 + x, torch.zeros(9, 1), torch.zeros(1), unit="days")
    done = []
    found = compare({"half": step, "rnn": open_run(*cell("rnn")[:2])},
                    progress=lambda *counts: done.append(counts))  # fmt: skip
    assert found["half"].norm.tolist() == [0.5] * 9 and found["rnn"].steps == len(X)
    assert done == [(1, 2), (2, 2)]
    assert without_layout(found).axes[-1].get_xlabel() == "time (days, time steps)"


def test_all_printed_words_are_literals_or_names():
    found = compare({("mine", 1): networks(2), ("mine", 2): cell("rnn")[0]}, X, data="bwv269")
    texts = [word for text in found.texts for word in text.split()]
    known = {*texts, "mine,", "bwv269,", "x;", "note:", *MORE.split(), found.page}
    words = {word.rstrip(";,") for word in str(found).split()}
    assert {w for w in words if not re.fullmatch(r"-?[\d.]+(e-?\d+)?|inf|-", w)} <= {
        word.rstrip(";,") for word in known
    }


def place_of(ax):
    """The centre of axes in the figure."""
    box = ax.get_position()
    return ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)


def planes_of(figure):
    return [ax for ax in figure.axes if ax.axison and ax.get_aspect() == 1]


def test_the_grid_has_a_row_for_each_cell_and_a_column_for_each_depth():
    cells = {("rnn", ""): "rnn", ("rhn", 1): "rhn 1", ("rhn", 3): "rhn 3"}
    found = compare({place: cell(*name.split())[0] for place, name in cells.items()}, X)
    figure = found.figure()
    figure.draw_without_rendering()
    rnn, one, three = planes_of(figure)
    for ax, network in zip((rnn, one, three), found.networks, strict=True):
        dots = next(line for line in ax.lines if line.get_label() == "eigenvalues")
        step = network.first.typical_step
        np.testing.assert_array_equal(dots.get_xdata(), network.first.eigenvalues[step].real)
    (x_rnn, y_rnn), (x_one, y_one), (x_three, y_three) = map(place_of, (rnn, one, three))
    assert pytest.approx((x_one, y_one)) == (x_rnn, y_three) and x_one < x_three and y_rnn > y_one
    curves = [ax for ax in figure.axes if ax.axison and ax.get_aspect() != 1]
    assert len(curves) == 2
    wanted = [found["rhn", depth].log_norm_product / math.log(10) for depth in (1, 3)]
    for line, values in zip(curves[1].lines, wanted, strict=True):
        np.testing.assert_allclose(line.get_ydata()[1:], values, rtol=1e-12)


def multiples(factors):
    """Steps that multiply a state by the factor at each place."""
    return {place: lambda x, s, factor=factor: factor * s for place, factor in factors.items()}


@pytest.mark.parametrize(
    ("second", "are_common"),
    [pytest.param(0.4, True, id="more than half"), pytest.param(0.6, False, id="less than half")],
)
def test_panels_of_curves_have_common_limits_if_each_covers_half_of_them(second, are_common):
    factors = {("a", 1): 0.2, ("a", 2): 0.5, ("b", 1): second, ("b", 2): 0.9}
    figure = without_layout(compare(multiples(factors), torch.zeros(9, 1), s0=torch.ones(1)))
    one, two = [ax for ax in figure.axes if ax.axison and ax.get_aspect() != 1]
    assert (one.get_ylim() == two.get_ylim()) is are_common


NAMES = [("", str(k)) for k in range(5)]
GRID = [(row, column) for row in "ab" for column in "xy"]
TALL = [(str(row), column) for row in range(20) for column in "xy"]


@pytest.mark.parametrize(
    ("places", "panels", "width", "points", "wanted"),
    [
        pytest.param(NAMES[:3], "discs norm", 6.75, 8,
                     (False, 1, 3, 5.2 / 3, 7.45 / 3, 1.42, 7.45 / 3 + 2.62), id="side by side"),
        pytest.param(NAMES[:3], "discs norm", 6.75, 10,
                     (False, 1, 3, 3.85 / 3, 6.1 / 3, 1.42, 7.625 / 3 + 3.275), id="large letters"),
        pytest.param(NAMES[:2], "discs", 6.75, 8, (False, 1, 2, 1.9, 2.65, 0.4, 4.25), id="two"),
        pytest.param(NAMES, "discs norm", 5.0, 10,
                     (False, 3, 2, 2.05 / 3, 4.3, 1.7, 9.0), id="as high as a page"),
        pytest.param(NAMES[:2], "discs", 2.0, 10,
                     (False, 2, 1, 0.75, 3.0, 0.4, 5.75), id="one above the other"),
        pytest.param(GRID, "discs norm", 6.75, 8,
                     (True, 2, 2, 1.56, 4.42, 2.16, 5.62), id="a grid beside its curves"),
        pytest.param(GRID, "discs norm", 5.0, 8,
                     (True, 2, 2, 1.0, 3.3, 2.16, 4.5), id="the narrowest of them"),
        pytest.param(GRID[:3], "discs norm", 3.25, 8,
                     (False, 2, 2, 1.025, 3.35, 2.16, 6.71), id="a grid above its curves"),
        pytest.param(GRID, "discs", 6.75, 8,
                     (False, 2, 2, 1.9, 5.1, 0.4, 6.7), id="a grid without curves"),
        pytest.param(GRID, "norm radius", 6.75, 8,
                     (True, 2, 2, 1.56, 0.0, 3.92, 5.12), id="only curves"),
        pytest.param(TALL[:14], "discs norm", 6.75, 8,
                     (True, 7, 2, 7.4 / 7 - 0.45, 7.8, 6.56, 9.0), id="a grid of a whole page"),
        pytest.param(TALL, "discs norm", 6.75, 8,
                     (True, 20, 2, 0.4, 17.4, 18.0, 19.2), id="planes as small as can be"),
    ],
)  # fmt: skip
def test_planes_are_as_large_as_the_width_and_the_page_have_room_for(
    places, panels, width, points, wanted
):
    each = [ComparedNetwork(row=row, column=name, steps=np.ones(1)) for row, name in places]
    found = Comparison(networks=tuple(each), panels=tuple(panels.split()))
    with rc_context({"font.size": points}):
        assert _sizes(found, [*{*found.panels} - {"discs"}], width) == pytest.approx(wanted)


def test_a_name_has_the_colour_of_its_curves_in_every_panel():
    factors = {("a", 1): 0.2, ("a", 2): 0.5, ("b", 2): 0.9}
    figure = without_layout(compare(multiples(factors), torch.zeros(9, 1), s0=torch.ones(1)))
    planes, curves = planes_of(figure), [ax for ax in figure.axes if ax.get_aspect() != 1]
    titles = {t.get_text(): t.get_color() for ax in planes for t in [ax._left_title]}
    ends = [(t.get_text()[0], t.get_color()) for ax in curves for t in names_of(ax)]
    assert len(ends) == 3 and all(titles[name] == color for name, color in ends)


def test_networks_of_one_row_or_column_are_one_group():
    rnn = cell("rnn")[0]
    for places, wanted in (
        ([("a", 1), ("a", 2)], {"": ["1", "2"]}),
        ([("a", 1), ("b", 1)], {"": ["a", "b"]}),
        ([("a", ""), ("b", "")], {"": ["a", "b"]}),
        (["a", "b"], {"": ["a", "b"]}),
        (["a"], {"": ["a"]}),
        ([("a", 1), ("b", 2)], {"a": ["1"], "b": ["2"]}),
    ):
        found = compare(dict.fromkeys(places, rnn), X[:2])
        assert {row: [*group] for row, group in found.groups.items()} == wanted
        if len(wanted) == 1:
            assert colours_of_networks(found) == colours_of(wanted[""])


@pytest.mark.parametrize("panels", [("discs",), ("product", "norm"), tuple(PANELS)], ids=str)
def test_panels_are_chosen_by_name(panels):
    found = compare({"a": networks(2), "b": cell("rnn")[0]}, X, panels=panels)
    figure = without_layout(found, limit=3.0, step=2)
    planes = planes_of(figure)
    assert len(planes) == 2 * ("discs" in panels)
    for ax, name in zip(planes, "ab", strict=False):
        assert ax.get_xlim() == (-3, 3)
        dots = next(line for line in ax.lines if line.get_label() == "eigenvalues")
        np.testing.assert_array_equal(dots.get_xdata(), found[name].eigenvalues[2].real)
    assert len(figure.axes) == len(planes) + sum(panel != "discs" for panel in panels)
