"""Records keep every digit, and figures show the record and can be read, whatever the network and
the sequence.
"""

import csv
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from networks import network, rolls
from readable import WIDTHS, filled, readable, whole_title
from tables import others_slow

from analysis import GateActivity, LesionTable, gate_activity, lesion
from rhn.errors import DataError
from rhn.utils.figures import our_style

WITHOUT_LAYOUT = pytest.mark.usefixtures("unarranged")


@pytest.fixture(scope="module")
def gates() -> GateActivity:
    return gate_activity(network(), rolls(6, 9))


@pytest.fixture(scope="module")
def table():
    return lesion(network(), rolls(6, 9, 12), pairs=True, split="train")


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_tables_keep_every_digit(gates, table, tmp_path):
    for record in (gates, table):
        rows = rows_of(record.save(tmp_path / "record.csv"))
        assert [{k: str(v) for k, v in row.items()} for row in record.table()] == rows
    assert (rows[0]["kind"], float(rows[0]["loss"])) == ("unlesioned", table.baseline)
    assert [row["label"] for row in rows[1:]] == ["1", "2", "3", "1+2", "1+3", "2+3", "1", "1"]


def test_records_are_read_and_drawn_again_without_the_network(gates, table, tmp_path):
    for record in (gates, table):
        again = type(record).load(record.save(tmp_path / "record.npz"))
        assert (
            type(again) is type(record)
            and again.table() == record.table()
            and again.summary() == record.summary()
        )
        again.figure()
        assert b"<svg" in again.save(tmp_path / "figure.svg").read_bytes()


def test_a_file_of_a_mode_that_is_gone_is_refused_by_its_name(table, tmp_path):
    path = replace(table, mode="mean").save(tmp_path / "old.npz")
    with pytest.raises(DataError, match="mode is mean: expected one of bias, carry, blind"):
        LesionTable.load(path)


def activity_of(activity: np.ndarray) -> GateActivity:
    """A record of one sequence with known numbers (L, T)."""
    shares = {"open": (activity > 0.9) * 1.0, "closed": (activity < 0.1) * 1.0}
    labels = tuple(str(layer) for layer in range(1, len(activity) + 1))
    lengths = np.array([activity.shape[1]])
    return GateActivity(
        labels=labels, names=("known",), lengths=lengths, activity=activity, **shares
    )


def test_gates_in_own_axes_have_their_own_time(gates):
    figure = Figure(figsize=(4, 2))
    ax = gates.plot(figure.subplots())
    assert ax.get_xlim() == (0, 6) and len(figure.axes) == 1


@WITHOUT_LAYOUT
def test_sequences_share_a_scale_in_panels_of_their_own(gates):
    panels = [ax for ax in gates.figure().axes if ax.get_title(loc="left")]
    for ax, sequence in zip(panels, gates.sequences, strict=True):
        assert np.array_equal(curves(ax), sequence.activity)
        assert ax.get_xlim() == (0, 9) and ax.get_ylim() == panels[0].get_ylim()
        assert ax.get_ylim()[0] == 0 and ax.get_ylim()[1] >= gates.activity.max()
        assert ax.get_title(loc="left") == sequence.names[0]


def curves(ax) -> np.ndarray:
    """The values of the lines of layers."""
    return np.array([line.get_ydata() for line in ax.lines if "layer" in line.get_label()])


@WITHOUT_LAYOUT
def test_a_figure_of_gates_says_only_what_it_shows():
    found = replace(gate_activity(network(), rolls(6, 9, 4000)), shown=2)
    assert found.plot().get_xlim() == (0, 9), "the pieces that are shown"
    assert [
        replace(found, shown=n).figure().axes[n - 1].get_xlabel().count("a line") for n in (2, 3)
    ] == [1, 0]
    one = found.activity * np.linspace(0.2, 1, found.layers)[:, None]
    assert "most in layer" in replace(found, activity=one).figure().get_suptitle()
    same = replace(found, activity=np.full_like(found.activity, 0.119))
    assert same.figure().get_suptitle() == "The transform gates are 12 % open on average"


@WITHOUT_LAYOUT
def test_figure_six_shows_damage_intervals_and_the_control(table):
    ax = table.plot()
    layers, blind = ax.containers
    points, _, (intervals,) = layers.lines
    assert points.get_ydata().tolist() == table.delta[:3].tolist()
    for segment, row in zip(intervals.get_segments(), table.rows(), strict=True):
        assert segment[:, 1] == pytest.approx([row["low"], row["high"]])
    assert blind.lines[0].get_ydata().tolist() == [table.rows("blind")[0]["delta"]]
    assert f"above the unlesioned {table.baseline:.4g}" in ax.get_ylabel()
    pairs = next(ax for ax in table.figure().axes if ax.images).images[0].get_array()
    found = {row["label"]: row["delta"] for row in table.table()}
    assert [pairs[0, 1], pairs[2, 0], pairs[1, 2]] == [
        found[label] for label in ("1+2", "1+3", "2+3")
    ]


def table_of(delta, low, high, sequences=3, baseline=8.5) -> LesionTable:
    """A table of single layers with these numbers."""
    delta = np.array(delta)
    about = {"mode": "bias", "split": "", "sequences": sequences, "frames": 9}
    labels = tuple(str(k + 1) for k in range(len(delta)))
    numbers = {"loss": baseline + delta, "delta": delta}
    ends = {"low": np.array(low, float), "high": np.array(high, float)}
    kinds = ("layer",) * len(delta)
    return LesionTable(**about, baseline=baseline, row_kind=kinds, label=labels, **numbers, **ends)


def with_input(table: LesionTable, **rows: tuple[float, float, float]) -> LesionTable:
    """The table with these rows (damage, low, high) about the removed input of layer 1."""
    rows = {kind.replace("_", " "): row for kind, row in rows.items()}
    more = dict(zip(("delta", "low", "high"), np.transpose([*rows.values()]), strict=True))
    more["loss"] = table.baseline + more["delta"]
    numbers = {name: np.append(getattr(table, name), values) for name, values in more.items()}
    kinds = (*table.row_kind, *rows)
    return replace(table, row_kind=kinds, label=(*table.label, *"1" * len(rows)), **numbers)


NONE = [np.nan, np.nan]
ONE_SEQUENCE = table_of([0.5, -0.6], NONE, NONE, sequences=1)
FIRST_BY_ITS_INPUT = with_input(
    table_of([1.79, 0.12], [1.6, 0.1], [1.9, 0.14]),
    blind=(1.78, 1.6, 1.9),
    beyond_blind=(0.01, -0.04, 0.06),
)
"""Layer 1 has the largest damage, all of it by the removed input."""
RANKED = [
    (FIRST_BY_ITS_INPUT, "1 raises the loss by 1.79 nats per frame, more than any other layer"),
    (
        table_of([0.5, -99.0], [0.4, -101.0], [0.6, -97.0]),
        "2 lowers the loss by 99 nats per frame, more than any other layer",
    ),
    (
        table_of([0.5, 0.48], [0.4, 0.3], [0.6, 0.6]),
        "1 raises the loss by 0.5 nats per frame, not clearly more than layer 2",
    ),
    (
        table_of([0.5, -0.08], [0.2, -0.4], [0.8, 0.3]),
        "1 raises the loss by 0.5 nats per frame, not clearly more than layer 2",
    ),
    (
        table_of([0.033, -0.028], [0.029, -0.032], [0.037, -0.023]),
        "1 raises the loss by 0.033 nats per frame, more than any other layer",
    ),
    (
        table_of([0.5, -0.6], [0.4, -1.3], [0.7, 0.1]),
        "1 raises the loss by 0.5 nats per frame; the larger change by layer 2 may be chance",
    ),
    (
        table_of([-0.9, 0.5, 0.8], [-2, 0.4, -0.1], [0.3, 0.7, 1.7]),
        "2 raises the loss by 0.5 nats per frame; the larger changes by layers 1, 3 may be chance",
    ),
    (table_of([0.5], [0.4], [0.6]), "1 raises the loss by 0.5 nats per frame"),
    (
        table_of([0.5, np.inf], [0.4, np.nan], [0.6, np.nan]),
        "2 makes the loss infinite",
    ),
    (
        table_of([np.nan, 0.5, np.inf], [np.nan, 0.4, np.nan], [np.nan, 0.6, np.nan]),
        "layers 1, 3 makes the loss no longer finite",
    ),
]


@WITHOUT_LAYOUT
@pytest.mark.parametrize(("table", "words"), RANKED)
def test_the_sentence_leads_with_the_largest_damage_whose_interval_excludes_0(table, words):
    begin = "Switching off each of" if words.startswith("layers") else "Switching off layer"
    assert table.finding == f"{begin} {words}"
    assert whole_title(table.figure()).startswith(f"{begin} {words}")


@pytest.mark.parametrize(("low", "high"), [([-0.1, -2.0], [0.3, 0.1]), ([0.0, -1.0], [0.2, 0.0])])
def test_without_an_interval_that_excludes_0_no_layer_is_named(low, high):
    found = with_input(table_of([0.1, -0.9], low, high), blind=(1, 0, 2), beyond_blind=(-1, -2, 0))
    assert found.finding == "No layer's lesion changes the loss clearly"
    assert found.notes()[0].startswith("Without lesions the loss is")


@pytest.mark.parametrize("seed", range(20))
def test_a_sentence_about_damage_agrees_with_its_row_by_a_loop(seed):
    rng = np.random.default_rng(seed)
    delta, margin = rng.normal(size=5), rng.exponential(size=5)
    blind, beyond = ((x, x - 0.1, x + 0.1) for x in rng.normal(size=2))
    table = table_of(delta, delta - margin, delta + margin)
    size, best = 0.0, None
    for k in range(5):
        if not delta[k] - margin[k] <= 0 <= delta[k] + margin[k] and abs(delta[k]) > size:
            size, best = abs(delta[k]), k
    finding = with_input(table, blind=blind, beyond_blind=beyond).finding
    verb = "no change" if best is None else ("raises" if delta[best] > 0 else "lowers")
    words = f"Switching off layer {(best or 0) + 1} {verb} the loss by {size:.3g} nats per frame"
    assert finding.startswith("No layer's lesion" if best is None else words)


def test_what_is_beyond_the_removed_input_is_a_sentence_with_its_interval():
    assert FIRST_BY_ITS_INPUT.notes()[:2] == [
        "Removing only the input of layer 1 changes the loss by +1.78 (1.6 to 1.9).",
        "Beyond the removed input, the lesion of layer 1 changes the loss by +0.01 (-0.04 to "
        "0.06).",
    ]


def test_the_input_of_a_layer_that_does_not_lead_is_in_the_table_only():
    second = table_of([0.12, 1.79], [0.1, 1.6], [0.14, 1.9])
    found = with_input(second, blind=(9, 8, 10), beyond_blind=(-9, -10, -8))
    assert found.finding.startswith("Switching off layer 2 raises the loss by 1.79")
    assert not any("input" in note for note in found.notes())


def test_one_sequence_has_a_sentence_about_itself():
    assert ONE_SEQUENCE.finding == (
        "On this one sequence, switching off layer 2 changes the loss most, by -0.6 nats per frame"
    )
    alone = table_of([0.5], NONE[:1], NONE[:1], sequences=1)
    assert alone.finding == (
        "On this one sequence, switching off layer 1 changes the loss by +0.5 nats per frame"
    )
    nothing = table_of([0.0, 0.0], NONE, NONE, sequences=1)
    assert nothing.finding == "No layer's lesion changes the loss clearly"
    found = with_input(alone, blind=(0.4, *NONE), beyond_blind=(0.1, *NONE))
    assert found.notes()[0].endswith("changes the loss by +0.4.")


@WITHOUT_LAYOUT
def test_table_and_figure_tell_the_number_of_sequences():
    found = table_of([0.5, 0.6], [0.4, 0.5], [0.6, 0.7], sequences=3)
    assert found.plot().get_title("left") == "bars: 95 % intervals over 3 sequences"
    assert "Intervals are over the 3 sequences" in found.notes()[-1]


@WITHOUT_LAYOUT
def test_an_infinite_loss_is_the_worst():
    found = table_of([0.5, np.inf, -0.7], [0.4, np.nan, -0.8], [0.6, np.nan, -0.6])
    assert [row["label"] for row in found.by_damage()] == ["2", "3", "1"]
    assert re.search(r"\nlayer 2 +inf +\+inf +- +-\n", found.summary())
    assert "not finite: layer 2" in found.plot().get_title("left").replace("\n", " ")


def test_a_lesion_that_makes_the_loss_infinite_is_found():
    """The weights of the output overflow as soon as the state of layer 1 is not replaced by 0."""
    model = network("rhn", 2, {"transform_bias": -2.0}, dtype=torch.float32)
    cell = model.cells[0]
    with torch.no_grad():
        cell.bias[1, 7:] = 1e4  # open
        cell.weight_hh[1, :7] = cell.bias[1, :7] = 0
        model.output.weight.fill_(3e38)
    found = lesion(model, rolls(6, 9))
    assert not np.isfinite(found.delta[1]) and np.isnan(found.low[1])
    assert found.finding.startswith("Switching off layer 2 makes the loss")


@WITHOUT_LAYOUT
@pytest.mark.parametrize("low", [1e-3, -2.0])
def test_damage_stands_on_a_linear_axis_with_0_and_the_largest(low):
    ax = table_of([30.0, 0.5], [low, low], [31.0, 1.5]).plot()
    assert ax.get_yscale() == "linear"
    assert ax.get_ylim()[0] <= min(low, 0) and ax.get_ylim()[1] >= 31


@WITHOUT_LAYOUT
def test_a_single_sequence_is_drawn_and_printed_without_an_interval():
    alone = lesion(network(), rolls(9))
    assert np.isnan(alone.low).all()
    alone.plot()
    assert (
        "nan" not in alone.summary()
        and "no intervals" in alone.summary()
        and "1 sequence," in alone.summary()
    )


def test_the_table_is_sorted_by_damage_and_names_what_is_beyond_blindness(table):
    lines = table.summary().splitlines()
    order = [line.split()[1] for line in lines if re.match(r"layer \d  ", line)]
    assert order == [
        row["label"] for row in sorted(table.rows(), key=lambda row: -abs(row["delta"]))
    ]
    assert any("layer 1: blind" in line for line in lines) and any(
        "layer 1 > blind" in line for line in lines
    )


LONG = "a name of forty characters, $signs$ and 字"
TITLE = "RHN, 2 cells, depth 10, 830 units (a-run-with-a-long-name, seed-12)"
ABOUT = (
    "a-run/best.safetensors: gaussian:0.008342, transform bias -2, training seed 0, trial 11, "
    "epoch 40; train split of chorales"
)


GATES = {
    "one layer, one step": lambda: activity_of(np.array([[0.3]])),
    "10 layers": lambda: gate_activity(network(depth=10, hidden_size=3), rolls(60, 39, 5, 80)),
    "a long run": lambda: gate_activity(network(), rolls(4000)),
    "no finite gate": lambda: activity_of(np.full((3, 50), np.nan)),
}


def lesions(*lengths, depth=3, **asked):
    return replace(
        lesion(network(depth=depth, hidden_size=3), rolls(*lengths), split="train", **asked),
        about=ABOUT,
    )


def times(table, factor):
    """The table with every damage so much greater."""
    return replace(
        table, **{name: abs(getattr(table, name)) * factor for name in ("delta", "low", "high")}
    )


LESIONS = {
    "one layer, one sequence": lambda: lesions(9, depth=1),
    "all measured": lambda: lesions(6, 9, 12, pairs=True),
    "20 layers": lambda: lesions(6, 9, depth=20, pairs=True),
    "huge": lambda: times(lesions(6, 9), 1e9),
    "no finite damage": lambda: times(lesions(6, 9), np.nan),
}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("record", others_slow(GATES | LESIONS, "10 layers", "20 layers"))
def test_a_record_can_be_read(record, width):
    with our_style(width):
        found = (GATES | LESIONS)[record]()
        names = (
            {"names": tuple(f"{k} {LONG}" for k, _ in enumerate(found.names))}
            if record in GATES
            else {}
        )
        readable(figure := replace(found, **names, title=TITLE, about=ABOUT).figure())
        if record in ("10 layers", "a long run", "all measured"):
            filled(figure)
        readable(found.plot().get_figure(root=True))
