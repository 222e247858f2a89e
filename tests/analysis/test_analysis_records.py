"""Results keep every digit, print all rows under literal names, and show in their figures what they
hold.
"""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from networks import network, rolls
from readable import readable

import gersgorin
from analysis import GateActivity, LesionTable, gate_activity, lesion

SIZES = ["column", *(pytest.param(size, marks=pytest.mark.slow) for size in ("page", "slide"))]
ABOUT = {"network": "rhn, depth 2, 3 units", "data": "mine.json", "step": "frame"}


@pytest.fixture(scope="module")
def gates() -> GateActivity:
    return gate_activity(network(), rolls(6, 9))


@pytest.fixture(scope="module")
def table() -> LesionTable:
    return lesion(network(), rolls(6, 9, 12), pairs=True, split="train")


def known_gates() -> GateActivity:
    """Two sequences of two steps and one step, with known numbers."""
    activity = np.array([[0.5, 0.25, 0.75], [0.0, 1.0, 0.5]])
    shares = {"open": (activity > 0.9) * 1.0, "closed": (activity < 0.1) * 1.0}
    names = {"labels": ("1", "2"), "names": ("a", "b"), "split": "test"}
    return GateActivity(**ABOUT, **names, lengths=np.array([2, 1]), activity=activity, **shares)


def known_table(**changes) -> LesionTable:
    """Two layers, their pair and a control, with known numbers."""
    numbers = {
        "loss": np.array([10.0, np.inf, 12.5, 9.0, 10.0]),
        "delta": np.array([2.0, np.inf, 4.5, 1.0, 1.0]),
        "low": np.array([1.0, np.nan, 4.0, 0.5, 0.25]),
        "high": np.array([3.0, np.nan, 5.0, 1.5, 1.75]),
    }
    kinds = ("layer", "layer", "pair", "blind", "beyond blind")
    names = {"row_kind": kinds, "label": ("1", "2", "1+2", "1", "1"), "split": "train"}
    single = {"mode": "bias", "baseline": 8.0, "constant": 11.5, "sequences": 3, "frames": 1200}
    return LesionTable(**{**ABOUT, **names, **single, **numbers, **changes})


GATES = """\
rhn, depth 2, 3 units

data                         mine.json
split                             test
sequences                            2
frames (of a text: tokens)           3

layer          mean   share below 0.1   share above 0.9
1               0.5                 0                 0
2               0.5           0.33333           0.33333
sum of means      1
rows explained: docs/guides/gates-lesions.md"""
LESIONS = """\
rhn, depth 2, 3 units

data                                           mine.json
split                                              train
sequences                                              3
frames (of a text: tokens)                          1200
mode                                                bias
constant predictor (best on these sequences)        11.5

lesioned   loss   damage   95 % from   95 % to   beyond blind   beyond blind from   beyond blind to
none          8        0           0         0              -                   -                 -
1            10        2           1         3              1                0.25              1.75
2           inf      inf           -         -              -                   -                 -
1+2        12.5      4.5           4         5              -                   -                 -
rows explained: docs/guides/gates-lesions.md"""


def test_the_tables_of_known_results():
    assert str(known_gates()) == GATES and str(known_table()) == LESIONS
    users = str(known_table(step="", frames=0, constant=np.nan, split=""))
    for row in ("split", "frames (of a text: tokens)", "constant predictor (best on"):
        assert next(line for line in users.splitlines() if row in line).endswith(" -")


def test_a_table_has_all_layers_and_pairs_in_order(table):
    assert [row[0] for row in table.rows()] == ["none", "1", "2", "3", "1+2", "1+3", "2+3"]
    assert len(str(lesion(network(depth=10), rolls(9), "carry")).splitlines()) == 8 + 2 + 11 + 1


def test_every_printed_text_is_a_literal(gates, table):
    for found in (gates, table):
        left = str(found)
        known = (*found.texts, found.network, found.page, "rows explained:", "train", "bias", "x")
        for text in sorted(known, key=len, reverse=True):
            left = left.replace(text, " ")
        for word in left.replace("+", " ").split():
            assert word == "-" or isinstance(float(word), float)


def test_the_page_explains_every_row(gates, table):
    page = (Path(__file__).parents[2] / gates.page).read_text()
    for word in (*gates.columns, *gates.header(), *table.columns, *table.header(), "sum of means"):
        assert word.partition(" (")[0] in page, word


def test_csv_keeps_every_digit(gates, table, tmp_path):
    for found in (gates, table):
        with found.csv(tmp_path / "a.csv").open(newline="") as file:
            head, *rows = csv.reader(file)
        assert head == [found.item, *found.columns]
        assert rows == [[str(value) for value in row] for row in found.rows()]


@pytest.mark.parametrize("suffix", [".json", ".npz"])
def test_results_are_read_and_drawn_again_without_the_network(gates, table, tmp_path, suffix):
    for found in (gates, table):
        again = gersgorin.load(found.save(tmp_path / f"a{suffix}"))
        assert type(again) is type(found) and str(again) == str(found)
        assert again.to_dict() == found.to_dict()
        again.figure()


def test_each_sequence_has_a_panel_with_the_curve_of_each_layer(gates):
    axes = gates.figure().axes
    for ax, sequence in zip(axes, gates.sequences, strict=True):
        assert np.array_equal([line.get_ydata() for line in ax.lines], sequence.activity)
        assert ax.get_title(loc="left") == sequence.names[0] and ax.get_ylim()[0] == 0
    assert len(replace(gates, shown=1).figure().axes) == 1


def test_figure_six_shows_damage_intervals_and_the_control(table):
    ax = table.plot()
    layers, blind = ax.containers
    points, _, (intervals,) = layers.lines
    assert points.get_ydata().tolist() == table.delta[:3].tolist()
    ends = zip(table.low[:3], table.high[:3], strict=True)
    for segment, (low, high) in zip(intervals.get_segments(), ends, strict=True):
        assert segment[:, 1] == pytest.approx([low, high])
    assert blind.lines[0].get_ydata().tolist() == [table.of_kind("blind")["1"][1]]
    figure = table.figure()
    pairs = next(ax for ax in figure.axes if ax.images).images[0].get_array()
    found = {label: row[1] for label, row in table.of_kind("pair").items()}
    assert [pairs[0, 1], pairs[2, 0], pairs[1, 2]] == [*found.values()]
    assert pairs.diagonal().tolist() == table.delta[:3].tolist()


def test_a_lesion_that_makes_the_loss_infinite_is_a_row():
    """The weights of the output overflow as soon as the state of layer 1 is not replaced by 0."""
    import torch

    model = network("rhn", 2, {"transform_bias": -2.0}, dtype=torch.float32)
    cell = model.cells[0]
    with torch.no_grad():
        cell.bias[1, 7:] = 1e4  # open
        cell.weight_hh[1, :7] = cell.bias[1, :7] = 0
        model.output.weight.fill_(3e38)
    found = lesion(model, rolls(6, 9))
    assert not np.isfinite(found.delta[1]) and np.isnan(found.low[1])


RESULTS = {
    "gates of 10 layers": lambda: gate_activity(network(depth=10), rolls(60, 39, 5)),
    "gates of a long run": lambda: gate_activity(network(), rolls(4000)),
    "one layer, one sequence": lambda: lesion(network(depth=1), rolls(9)),
    "pairs": lambda: lesion(network(), rolls(6, 9, 12), pairs=True),
    "20 layers": lambda: lesion(network(depth=20, hidden_size=3), rolls(6, 9)),
    "infinite": known_table,
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", RESULTS)
def test_a_figure_can_be_read(name, size):
    readable(RESULTS[name]().figure(size=size, source="runs/a-run-with-a-long-name"))
