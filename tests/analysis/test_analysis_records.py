"""Results keep every digit, print all rows, and show in their figures what they hold."""

from dataclasses import replace

import numpy as np
import pytest
from networks import network, rolls
from readable import readable, without_layout

import gersgorin
from analysis import GateActivity, LesionTable, Refinement, gate_activity, lesion, refinement

ABOUT = {"network": "rhn, depth 2, 3 units", "data": "mine.json", "step": "frame"}
GATES = gate_activity(network(), rolls(6, 9))
LAYERS = refinement(network(depth=2, layers=2), rolls(6, 9, 12))
TABLE = lesion(network(), rolls(6, 9, 12), pairs=True, split="train")


def known_gates() -> GateActivity:
    """Two sequences of two steps and one step, with known numbers."""
    activity = np.array([[0.5, 0.25, 0.75], [0.0, 1.0, 1.0]])
    shares = {"open": (activity > 0.9) * 1.0, "closed": (activity < 0.1) * 1.0}
    names = {"labels": ("1", "2"), "names": ("a", "b"), "split": "test"}
    return GateActivity(**ABOUT, **names, lengths=np.array([2, 1]), activity=activity, **shares)


def known_table() -> LesionTable:
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
    return LesionTable(**ABOUT, **names, **single, **numbers)


def known_refinement() -> Refinement:
    """One cell of two layers on two sequences, with known numbers."""
    return Refinement(
        **ABOUT,
        split="train",
        constant=11.5,
        labels=("before 1", "1", "2"),
        depth=np.array([0, 1, 2]),
        lengths=np.array([10.0, 30.0]),
        loss_sums=np.array([[100.0, 300.0], [50.0, 150.0], [30.0, 50.0]]),
        distance_sums=np.array([[10.0, 30.0], [5.0, 15.0], [0.0, 0.0]]),
    )


def test_the_tables_of_known_results(snapshot):
    assert str(known_gates()) == snapshot
    assert str(known_refinement()) == snapshot
    assert str(known_table()) == snapshot
    assert str(replace(known_table(), step="", frames=0, constant=np.nan, split="")) == snapshot


def test_results_are_read_and_drawn_again_without_the_network(tmp_path):
    for found in (GATES, TABLE, LAYERS, known_gates(), known_table(), known_refinement()):
        again = gersgorin.load(
            gersgorin.load(found.save(tmp_path / "a.json")).save(tmp_path / "a.npz")
        )
        assert type(again) is type(found) and str(again) == str(found)
        assert again.to_dict() == found.to_dict()
    for found in (GATES, TABLE, LAYERS):
        readable(found.figure())


def test_each_sequence_has_a_panel_with_the_curve_of_each_layer():
    for ax, sequence in zip(without_layout(GATES).axes, GATES.sequences, strict=True):
        assert np.array_equal([line.get_ydata() for line in ax.lines], sequence.activity)
    assert len(without_layout(replace(GATES, shown=1)).axes) == 1


def test_the_figure_of_gates_shows_the_first_two_of_many_sequences():
    found = gate_activity(network(), rolls(3, 4, 5, 6))
    for ax, sequence in zip(without_layout(found).axes, found.sequences[:2], strict=True):
        assert np.array_equal([line.get_ydata() for line in ax.lines], sequence.activity)


def test_the_axis_of_one_layer_names_it_once():
    figure = lesion(network("lstm", 1), rolls(6, 9, 12)).figure()
    figure.draw_without_rendering()
    names = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert [name for name in names if name] == ["1"]


def test_figure_six_shows_damage_intervals_and_the_control():
    ax = TABLE.plot()
    layers, blind = ax.containers
    points, _, (intervals,) = layers.lines
    assert points.get_ydata().tolist() == TABLE.delta[:3].tolist()
    ends = zip(TABLE.low[:3], TABLE.high[:3], strict=True)
    for segment, (low, high) in zip(intervals.get_segments(), ends, strict=True):
        assert segment[:, 1] == pytest.approx([low, high])
    assert blind.lines[0].get_ydata().tolist() == [TABLE.of_kind("blind")["1"][1]]
    pairs = next(ax for ax in without_layout(TABLE).axes if ax.images).images[0].get_array()
    found = {label: row[1] for label, row in TABLE.of_kind("pair").items()}
    assert [pairs[0, 1], pairs[2, 0], pairs[1, 2]] == [*found.values()]
    assert pairs.diagonal().tolist() == TABLE.delta[:3].tolist()


def test_a_curve_joins_the_layers_of_one_cell():
    """Left the losses, right the distances, with their intervals."""
    columns = (
        (LAYERS.loss, "loss from", "loss to"),
        (LAYERS.distance, "distance from", "distance to"),
    )
    for ax, (wanted, *ends) in zip(without_layout(LAYERS).axes, columns, strict=True):
        low, high = (LAYERS.table()[end] for end in ends)
        assert len(ax.containers) == 2
        for cell, rows in zip(ax.containers, (range(3), range(3, 6)), strict=True):
            points, _, (intervals,) = cell.lines
            assert points.get_xydata().tolist() == [[row, wanted[row]] for row in rows]
            for segment, row in zip(intervals.get_segments(), rows, strict=True):
                assert segment[:, 1] == pytest.approx([low[row], high[row]], abs=1e-12)
