"""Records keep every digit, and figures show the record."""

import csv

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from networks import network, rolls

import gersgorin
from analysis import GateActivity, LesionTable, SequenceActivity, gate_activity, lesion
from analysis.activity import plot_gates
from analysis.damage import LesionRow, draw_lesions


@pytest.fixture(scope="module")
def gates() -> GateActivity:
    return gate_activity(network(), rolls(6, 9))


@pytest.fixture(scope="module")
def table():
    return lesion(network(), rolls(6, 9, 12), pairs=True, units=True, split="train")


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_tables_keep_every_digit(gates, table, tmp_path):
    for record in (gates, table):
        rows = rows_of(record.save(tmp_path / "record.csv"))
        assert [{k: str(v) for k, v in row.items()} for row in record.table()] == rows
    assert (rows[0]["kind"], float(rows[0]["loss"])) == ("unlesioned", table.baseline)
    wanted = [*table.layers, *table.pairs, *table.units, *table.controls, *table.beyond_blind]
    assert [row["label"] for row in rows[1:]] == [row.label for row in wanted]


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_records_are_read_by_gersgorin_and_drawn_again_without_the_network(gates, table, suffix, tmp_path):
    for record in (gates, table):
        again = gersgorin.load(record.save(tmp_path / f"record{suffix}"))
        assert type(again) is type(record) and again.table() == record.table() and repr(again) == repr(record)
        again.figure()
    assert [row["layers"] for row in again.to_dict()["pairs"]] == [[1, 2], [1, 3], [2, 3]]
    assert [(r["layer"], r["unit"]) for r in again.to_dict()["units"]][6:8] == [(1, 7), (2, 1)]


def test_records_of_0_3_are_read(gates, table, tmp_path):
    """These had the arrays of each sequence, and the columns of each kind of rows."""
    arrays = {
        name: np.array(getattr(gates, name)) for name in ("labels", "about", "gate_name", "unit_mean", "unit_switching")
    }
    for k, s in enumerate(gates.sequences):
        arrays |= {f"sequence{k}.{name}": np.asarray(value) for name, value in vars(s).items()}
    np.savez(tmp_path / "gates.npz", **arrays)
    arrays = {
        name: getattr(table, name) for name in ("mode", "split", "baseline", "sequences", "frames", "step", "about")
    }
    for kind in ("layers", "pairs", "together", "units", "controls", "beyond_blind"):
        for name in ("label", "layers", "unit", "loss", "delta", "low", "high"):
            arrays[f"{kind}.{name}"] = np.array([getattr(row, name) or 0 for row in getattr(table, kind)])
    np.savez(tmp_path / "lesions.npz", **arrays)
    for record, file in ((gates, "gates.npz"), (table, "lesions.npz")):
        again = gersgorin.load(tmp_path / file)
        assert again.table() == record.table() and again.to_dict() == record.to_dict()


def test_save_draws_a_figure(gates, table, tmp_path):
    for record in (gates, table):
        assert b"<svg" in record.save(tmp_path / "figure.svg").read_bytes()


def activity_of(activity: np.ndarray) -> GateActivity:
    """A record of one sequence with known numbers (L, T)."""
    shares = {"open": (activity > 0.9) * 1.0, "closed": (activity < 0.1) * 1.0}
    sequence = SequenceActivity(name="known", activity=activity, **shares, bars=np.array([]), bars_from_score=False)
    labels = tuple(str(layer) for layer in range(1, len(activity) + 1))
    units = {name: np.ones((len(activity), 1)) for name in ("unit_mean", "unit_switching")}
    return GateActivity(labels=labels, sequences=(sequence,), **units)


def test_known_cells_have_known_colours():
    figure = Figure(figsize=(4, 2), dpi=100)
    ax = plot_gates(activity_of(np.array([[0.0, 1.0, 0.5, 0.0], [1.0, 0.0, 0.0, 0.5]])), figure.subplots())
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())

    def colour(layer, step):
        x, y = ax.transData.transform((step + 0.5, layer))
        return tuple(int(v) for v in pixels[pixels.shape[0] - 1 - round(y), round(x), :3])

    white, red = (255, 255, 255), (255, 0, 0)
    assert (colour(1, 0), colour(1, 1), colour(2, 0), colour(2, 1)) == (white, red, red, white)
    assert colour(1, 2) == pytest.approx((255, 127, 127), abs=1) == colour(2, 3)


@pytest.mark.parametrize(
    ("values", "ends"),
    [((0.4997, 0.5004), (0.45, 0.55)), ((0, 0.01), (0, 0.1)), ((1, 1), (0.9, 1)), ((0.2, 0.7), (0.2, 0.7))],
)
def test_small_differences_of_gates_are_not_stretched_over_all_colours(values, ends):
    record = activity_of(np.array([values, values], float))
    assert record.limits == pytest.approx(ends, abs=1e-4)
    assert (record.limits[0] <= min(values)) and max(values) <= record.limits[1]


def test_sequences_share_an_axes_with_a_gap_and_a_scale(gates):
    ax = gates.plot()
    (image,) = ax.images
    drawn = image.get_array()
    assert image.get_clim() == gates.limits
    assert plot_gates(gates, limits=(0, 1)).images[0].get_clim() == (0, 1)
    assert drawn.shape == (3, 6 + 2 + 9) and drawn.mask[:, 6:8].all()
    assert np.array_equal(drawn[:, :6], gates.sequences[0].activity)
    assert {text.get_text() for text in ax.texts} == {"sequence 1", "sequence 2"}


def test_figure_six_shows_damage_intervals_and_the_control(table):
    ax = table.plot()
    layers, blind = ax.containers
    points, _, (intervals,) = layers.lines
    assert points.get_ydata().tolist() == [row.delta for row in table.layers]
    for segment, row in zip(intervals.get_segments(), table.layers, strict=True):
        assert segment[:, 1] == pytest.approx([row.low, row.high])
    assert blind.lines[0].get_ydata().tolist() == [table.controls[0].delta]
    assert f"above the unlesioned {table.baseline:.4g}" in ax.get_ylabel()
    assert len([ax for ax in draw_lesions(table).axes if ax.get_label() != "<colorbar>"]) == 3


@pytest.mark.parametrize(("low", "scale"), [(1e-3, "log"), (-2.0, "symlog"), (0.0, "symlog")])
def test_damage_stands_on_a_logarithmic_axis_that_reaches_below_0_where_it_must(low, scale):
    rows = [
        LesionRow(label=str(k), layers=(k,), unit=None, loss=9.0, delta=d, low=low, high=d + 1)
        for k, d in ((1, 30), (2, 0.5))
    ]
    table = LesionTable(mode="bias", split="", baseline=8.5, sequences=3, frames=9, layers=tuple(rows))
    ax = table.plot()
    assert ax.get_yscale() == scale and ax.get_ylim()[0] < low and ax.get_ylim()[1] >= 31


def test_a_single_sequence_is_drawn_and_printed_without_an_interval():
    alone = lesion(network(), rolls(9))
    assert all(np.isnan(row.low) for row in alone.layers)
    alone.plot()
    assert "beyond being blind" in alone.reading() and "interval holds" not in alone.reading()
    assert "nan" not in alone.summary() and "no intervals" in alone.summary() and "1 sequence," in alone.summary()


def test_the_table_is_sorted_by_damage_and_names_what_is_beyond_blindness(table):
    lines = table.summary().splitlines()
    order = [line.split()[1] for line in lines if line.startswith("layer ") and "unit" not in line][:3]
    assert order == [row.label for row in sorted(table.layers, key=lambda row: -row.delta)]
    assert any("layer 1: blind" in line for line in lines) and any("layer 1 > blind" in line for line in lines)
    assert "beyond being blind" in lines[-1] and "and 11 more units" in table.summary()
