"""Gates and lesions of a user's module, whatever its axes and however it calls its cell, by the
textbook equations and by copies that are edited by hand.
"""

import json
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import (
    check_table,
    drawn,
    edited,
    gates_by_loop,
    nats_of_chorales,
    network,
    rolls,
)
from scipy.special import expit
from torch import nn

from analysis import Lesion, gate_activity, lesion, lesioned
from analysis.layers import places
from rhn.cells import RHN
from rhn.errors import InvalidInputError

PIECES = rolls(9, 4, 12)
n = 6


class Net(nn.Module):
    """Frames through a linear layer, a recurrence that is called somehow, and a linear output."""

    def __init__(self, cell, call=lambda cell, x: cell(x)[0], batch_first=False):
        super().__init__()
        self.below, self.cell, self.above = nn.Linear(88, n), cell, nn.Linear(n, 88)
        self.call, self.batch_first = call, batch_first

    def forward(self, x):
        return self.above(self.call(self.cell, self.below(x)))


def turned(cell, x):
    return cell(x.transpose(0, 1))[0].transpose(0, 1)


def loop(cell, x):
    s, outputs = None, []
    for x_t in x:
        y, s = [cell(x_t, s)] * 2 if isinstance(cell, nn.GRUCell) else cell(x_t[None], s)
        outputs.append(y.view(-1, n))
    return torch.stack(outputs)


def packed(cell, x):
    y, _ = cell(nn.utils.rnn.pack_padded_sequence(x, [len(x)] * x.shape[1]))
    return nn.utils.rnn.pad_packed_sequence(y)[0]


def from_a_weight(cell, x):
    """With a first state that is not 0."""
    return cell(x, cell.bias_hh_l0[:n].expand(1, x.shape[1], n).contiguous())[0]


PLAIN = {
    "gru": drawn(Net(nn.GRU(n, n)).double(), 0),
    "lstm": drawn(Net(nn.LSTM(n, n, num_layers=2)).double(), 7),
    "rhn": drawn(Net(RHN(n, n, 2)).double(), 1),
}
LABELS = {"gru": ["cell"], "lstm": ["cell.1", "cell.2"], "rhn": ["cell.1", "cell.2"]}
LAYOUTS = {
    ("gru", "time first"): PLAIN["gru"],
    ("gru", "batch first"): Net(nn.GRU(n, n, batch_first=True), batch_first=True),
    ("gru", "batch first inside"): Net(nn.GRU(n, n, batch_first=True), turned),
    ("gru", "batch first outside"): Net(nn.GRU(n, n), turned, True),
    ("gru", "loop"): Net(nn.GRUCell(n, n), loop),
    ("gru", "packed"): Net(nn.GRU(n, n), packed),
    ("gru", "attributes with names of ours"): Net(nn.GRU(n, n)),
    ("lstm", "time first"): PLAIN["lstm"],
    ("lstm", "batch first outside"): Net(nn.LSTM(n, n, num_layers=2), turned, True),
    ("rhn", "time first"): PLAIN["rhn"],
    ("rhn", "batch first"): Net(RHN(n, n, 2, batch_first=True), batch_first=True),
    ("rhn", "batch first inside"): Net(RHN(n, n, 2, batch_first=True), turned),
    ("rhn", "loop"): Net(RHN(n, n, 2), loop),
}
vars(LAYOUTS["gru", "attributes with names of ours"]).update(order="ba", layout=0, returned=1)
for (kind, layout), module in LAYOUTS.items():  # one network in several layouts
    weights = PLAIN[kind].state_dict()
    if (kind, layout) == ("gru", "loop"):
        weights = {name.removesuffix("_l0"): weight for name, weight in weights.items()}
    module.double().load_state_dict(weights)


def numbers(t) -> np.ndarray:
    return t.detach().double().numpy()


def frames(module, place=0) -> np.ndarray:
    """What the cell of a module reads of a piece."""
    return numbers(module.below(torch.from_numpy(PIECES[place]).double()))


def weights_of(cell, layer=0) -> list[np.ndarray]:
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return [numbers(getattr(cell, f"{name}_l{layer}")) for name in names]


def gates_of_gru(cell, x, h=0) -> np.ndarray:
    """1 - z of every step, (1, T, n)."""
    W, R, b, c = weights_of(cell)
    h, found = np.zeros(n) + h, []
    for x_t in x:
        u, v = W @ x_t + b, R @ h + c
        r, z = expit(u[:n] + v[:n]), expit(u[n : 2 * n] + v[n : 2 * n])
        h = (1 - z) * np.tanh(u[2 * n :] + r * v[2 * n :]) + z * h
        found.append(1 - z)
    return np.array([found])


def gates_of_lstm(cell, x, first=0.0) -> np.ndarray:
    """i of both layers at every step, (2, T, n), from states of this value."""
    found = []
    for layer in (0, 1):
        W, R, b, c = weights_of(cell, layer)
        h, s, gates, outputs = np.full(n, first), np.full(n, first), [], []
        for x_t in x:
            i, f, g, o = (W @ x_t + b + R @ h + c).reshape(4, n)
            s = expit(f) * s + expit(i) * np.tanh(g)
            h = expit(o) * np.tanh(s)
            gates.append(expit(i))
            outputs.append(h)
        found.append(gates)
        x = outputs
    return np.array(found)


GATES = {
    "gru": gates_of_gru,
    "lstm": gates_of_lstm,
    "rhn": lambda cell, x: gates_by_loop([cell], torch.from_numpy(x)),
}


@pytest.mark.parametrize(("kind", "layout"), LAYOUTS)
def test_gates_and_lesions_are_the_same_in_every_layout(kind, layout):
    model, plain, labels = LAYOUTS[kind, layout], PLAIN[kind], LABELS[kind]
    found = gate_activity(model, PIECES)
    assert list(found.labels) == labels
    for place, sequence in enumerate(found.sequences):
        wanted = GATES[kind](plain.cell, frames(plain, place)).mean(-1)
        assert np.allclose(sequence.activity, wanted, atol=1e-12)
    places = {label: (0, layer) for layer, label in enumerate(labels)}
    for mode in ("bias", "carry"):
        check_table(lesion(model, PIECES, mode, pairs=True), plain, PIECES, places)
    x = torch.rand(5, 3, 88, dtype=torch.float64)
    cut = lesioned(model, Lesion("carry", (1,)))
    found = cut(x.transpose(0, 1)).transpose(0, 1) if model.batch_first else cut(x)
    assert torch.allclose(found, edited(plain, [(0, 0)])(x), atol=1e-10)


def test_a_step_of_a_module_is_a_frame_if_it_reads_a_file_of_chorales(tmp_path):
    path = tmp_path / "mine.json"
    piece = [[50, 54], [52], [57, 62]]
    path.write_text(json.dumps({split: [piece] for split in ("train", "valid", "test")}))
    assert gate_activity(PLAIN["gru"], path).step == "frame"
    assert gate_activity(PLAIN["gru"], PIECES).step == ""


def test_layers_have_the_names_of_their_modules():
    """Two cells that are declared in another order than they run."""
    cells = nn.ModuleList([RHN(n, n), nn.GRU(n, n, batch_first=True)])
    model = drawn(Net(cells, lambda cells, x: cells[0](turned(cells[1], x))[0]).double(), 3)
    found = gate_activity(model, PIECES)
    assert found.labels == ("cell.0", "cell.1")
    wanted = gates_of_gru(cells[1], frames(model)).mean(-1)
    assert np.allclose(found.sequences[0].activity[1:], wanted, atol=1e-12)
    places = {"cell.0": (0, 0), "cell.1": (1, 0)}
    check_table(lesion(model, PIECES, "carry", batch_first=False), model, PIECES, places)


def test_a_control_belongs_to_its_layer_and_a_layer_without_the_mode_has_no_row():
    """The first cell has no gates to shut; both read an input, of which `blind` is the control."""
    cells = nn.ModuleList([nn.RNN(n, n), nn.GRU(n, n)])
    model = drawn(Net(cells, lambda cells, x: cells[1](cells[0](x)[0])[0]).double(), 3)
    every = {"cell.0": (0, 0), "cell.1": (1, 0)}
    shut = lesion(model, PIECES, "bias", pairs=True)
    wanted = [("layer", "cell.1"), ("blind", "cell.0"), ("blind", "cell.1")]
    wanted.append(("beyond blind", "cell.1"))
    assert list(zip(shut.row_kind, shut.label, strict=True)) == wanted
    check_table(shut, model, PIECES, every)
    blind = lesion(model, PIECES, "blind", pairs=True)
    wanted = [("layer", "cell.0"), ("layer", "cell.1"), ("pair", "cell.0+cell.1")]
    assert list(zip(blind.row_kind, blind.label, strict=True)) == wanted
    check_table(blind, model, PIECES, every)
    assert lesion(model, PIECES, "blind").row_kind == ("layer", "layer")


@pytest.mark.parametrize(
    ("cell", "mode"),
    [
        pytest.param(nn.GRU(n, n), "bias", id="gates and biases"),
        pytest.param(nn.GRU(n, n, bias=False), "carry", id="no biases"),
        pytest.param(nn.RNN(n, n), "carry", id="no gates"),
    ],
)
def test_the_mode_is_bias_for_layers_with_gates_and_biases_else_carry(cell, mode):
    found = lesion(drawn(Net(cell).double(), 3), PIECES)
    assert found.mode == mode and found.of_kind()["cell"][1] != 0


class Owner(RHN):
    """A cell with a recurrent part of its own."""

    def __init__(self):
        super().__init__(n, n, 2)
        self.part = nn.GRUCell(n, n)


@pytest.mark.parametrize(
    ("model", "labels"),
    [
        pytest.param(RHN(n, n, 2), ["1", "2"], id="cell of ours"),
        pytest.param(network("rhn", 1), ["1"], id="network of a cell of one layer"),
        pytest.param(network("rhn", 2), ["1", "2"], id="network of a cell"),
        pytest.param(network("lstm", 1, layers=2), ["1.1", "2.1"], id="network of two cells"),
        pytest.param(nn.GRU(n, n), ["1"], id="layer of torch.nn"),
        pytest.param(nn.GRU(n, n, num_layers=2), ["1", "2"], id="two layers of torch.nn"),
        pytest.param(Net(nn.GRU(n, n)), ["cell"], id="module with a layer"),
        pytest.param(Net(nn.GRU(n, n, num_layers=2)), ["cell.1", "cell.2"], id="with two layers"),
        pytest.param(Owner(), ["1", "2"], id="cell with a recurrent part"),
        pytest.param(
            nn.ModuleDict({"a": Owner(), "ab": nn.GRUCell(n, n)}),
            ["a.1", "a.2", "ab"],
            id="names that begin alike",
        ),
    ],
)
def test_a_layer_is_named_by_its_number_or_by_its_module(model, labels):
    assert [place.label for place in places(model)] == labels


def hooked(model):
    model.cell.register_forward_hook(lambda cell, args, output: (output[0] + 1, output[1]))
    return model


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(Net(nn.GRU(n, n), lambda cell, x: cell(cell(x)[0])[0]), id="twice"),
        pytest.param(hooked(Net(nn.GRU(n, n))), id="hook"),
    ],
)
def test_a_layer_that_runs_twice_or_has_a_hook_has_lesions(model):
    drawn(model.double(), 4)
    check_table(lesion(model, PIECES), model, PIECES, {"cell": (0, 0)})


def test_a_piece_of_one_frame_changes_no_lesion_of_a_module():
    model = PLAIN["gru"]
    found, wanted = (lesion(model, [*PIECES, *more]) for more in (rolls(1), []))
    assert found.loss.tolist() == wanted.loss.tolist() and found.sequences == len(PIECES)


def test_outputs_may_be_the_first_of_several():
    model = Net(GRU)
    wanted = lesion(model, PIECES).loss
    model.register_forward_hook(lambda module, x, y: [(y, None), 0])
    assert lesion(model, PIECES).loss.tolist() == wanted.tolist()


def test_the_progress_of_a_module_counts_its_copies():
    """The network itself, its layer, the control."""
    shown = []
    lesion(PLAIN["gru"], PIECES, progress=lambda *counts: shown.append(counts))
    assert shown == [(1, 3), (2, 3), (3, 3)]


def test_a_loss_of_the_user_s_is_called_with_lesioned_copies():
    model = PLAIN["lstm"]
    found = lesion(model, PIECES, loss=lambda copy, piece: nats_of_chorales(copy, [piece])[0])
    wanted = [nats_of_chorales(m, PIECES).mean() for m in (model, edited(model, [(0, 0)]))]
    assert [found.baseline, found.loss[0]] == pytest.approx(wanted, rel=1e-12)
    assert (found.sequences, found.frames, found.step) == (3, 0, "") and np.isnan(found.constant)


def from_ones(cell, x):
    """With states of ones."""
    rows, layers = x.shape[1], getattr(cell, "num_layers", 0)
    ones = x.new_ones(layers, rows, n) if layers else x.new_ones(rows, n)
    return cell(x, (ones, ones) if isinstance(cell, nn.LSTM) else ones)[0]


def test_gates_begin_at_the_states_of_all_layers_of_an_lstm():
    model = drawn(Net(nn.LSTM(n, n, num_layers=2), from_ones).double(), 5)
    found = gate_activity(model, PIECES).sequences[0].activity
    wanted = gates_of_lstm(model.cell, frames(model), 1.0)
    assert np.allclose(found, wanted.mean(-1), atol=1e-12)


def test_a_cell_of_ours_is_carried_from_any_first_state():
    model = drawn(Net(RHN(n, n, 2), from_ones).double(), 5)
    places = {"cell.1": (0, 0), "cell.2": (0, 1)}
    check_table(lesion(model, PIECES, "carry"), model, PIECES, places)


def rows(cell, x):
    """As a sequence (T, m)."""
    return cell(x[:, 0])[0].unsqueeze(1)


def steps(cell, x):
    """As T inputs (m,)."""
    s, outputs = None, []
    for x_t in x[:, 0]:
        s = cell(x_t, s)
        outputs.append(s)
    return torch.stack(outputs).unsqueeze(1)


@pytest.mark.parametrize(
    ("cell", "call", "end"),
    [
        pytest.param(nn.GRU(n, n), rows, "", id="rows"),
        pytest.param(nn.GRUCell(n, n), steps, "_l0", id="steps"),
    ],
)
def test_a_layer_may_read_its_sequence_without_an_axis_of_the_batch(cell, call, end):
    model, plain = Net(cell, call).double(), PLAIN["gru"]
    model.load_state_dict({k.removesuffix(end): v for k, v in plain.state_dict().items()})
    found, wanted = (gate_activity(each, PIECES) for each in (model, plain))
    assert np.allclose(found.activity, wanted.activity, atol=1e-12)


def test_a_cell_of_ours_may_be_called_with_all_its_arguments():
    model = Net(RHN(n, n, 2), lambda cell, x: cell(x, None, None)[0]).double()
    model.load_state_dict(PLAIN["rhn"].state_dict())
    found, wanted = (gate_activity(each, PIECES) for each in (model, PLAIN["rhn"]))
    assert np.allclose(found.activity, wanted.activity, atol=1e-12)


class Rereading(Net):
    """A module that reads the frames again if most keys of the last one are played."""

    def forward(self, x):
        if 44 < x[-1].sum() < 88:
            self.cell(self.below(x))
        return super().forward(x)


def test_gates_begin_at_the_state_that_the_module_gives():
    model = drawn(Net(nn.GRU(n, n), from_a_weight).double(), 5)
    wanted = gates_of_gru(model.cell, frames(model), numbers(model.cell.bias_hh_l0[:n]))
    found = gate_activity(model, PIECES).sequences[0].activity
    assert np.allclose(found, wanted.mean(-1), atol=1e-12)
    assert lesion(model, PIECES, "bias").loss[0] > 0


def from_a_unit(cell, x):
    """With a first state of one number that is not 0."""
    return cell(x, torch.eye(1, n).expand(1, x.shape[1], n).contiguous())[0]


class LayerNormed(RHN):
    """A cell whose forward does more than its steps."""

    def forward(self, x):
        return super().forward(F.layer_norm(x, (n,)))


GRU = nn.GRU(n, n)
BOTH = (gate_activity, partial(lesion, mode="carry"))
REFUSED = [
    pytest.param(
        Net(GRU, lambda cell, x: cell(x[::2])[0]),
        "steps that cell reads is 5: expected 9",
        id="half",
    ),
    pytest.param(
        Net(GRU, lambda cell, x: cell(x.flip(0))[0]), "input of cell is of later frames", id="flip"
    ),
    pytest.param(
        Net(GRU, lambda cell, x: cell(x.roll(-1, 0))[0]),
        "input of cell is of later frames",
        id="next frame",
    ),
    pytest.param(Rereading(GRU), "steps that cell reads is 9 or 18: expected 9", id="by content"),
    pytest.param(Net(nn.GRU(n, n, bidirectional=True)), "cannot convert GRU", id="both directions"),
    pytest.param(
        nn.Linear(88, 88), "network is Linear: expected a module with cells", id="no layer"
    ),
    pytest.param(
        Net(LayerNormed(n, n)), "forward of LayerNormed is its own", id="forward of its own"
    ),
    pytest.param(
        Net(nn.GRUCell(n, n), loop, True),
        "number of sequences that cell reads is 9: expected 1, or",
        id="frames as a batch",
    ),
    pytest.param(
        Net(GRU, turned),
        "number of sequences that cell reads is 9: expected 1, or",
        id="frames as a batch of a layer",
    ),
]


@pytest.mark.parametrize(("model", "words"), REFUSED)
def test_a_module_without_layers_along_the_frames_is_refused(model, words):
    for measure in BOTH:
        with pytest.raises(InvalidInputError, match=words):
            measure(model, PIECES)


@pytest.mark.parametrize(
    ("output", "shape"),
    [
        pytest.param(lambda y: y.sum(), r"\(0,\)", id="a number"),
        pytest.param(lambda y: y.sum((1, 2)), r"\(0,\)", id="a number for each frame"),
        pytest.param(lambda y: y.sum(2), r"\(0,\)", id="no axis of keys"),
        pytest.param(lambda y: y.expand(-1, 2, -1), r"\(0,\)", id="two sequences"),
        pytest.param(lambda y: y[..., :87], r"\(8, 87\)", id="87 keys"),
        pytest.param(lambda y: y[:-1], r"\(7, 88\)", id="a frame less"),
        pytest.param(lambda y: [], r"\(0,\)", id="nothing"),
        pytest.param(lambda y: {}, r"\(0,\)", id="a dictionary"),
    ],
)
def test_outputs_that_are_no_logits_of_keys_are_refused(output, shape):
    model = Net(GRU)
    model.register_forward_hook(lambda module, x, y: output(y))
    with pytest.raises(InvalidInputError, match=rf"output of Net is {shape}: expected \(8, 88\)"):
        lesion(model, PIECES)


def test_a_layer_of_torch_that_does_not_start_at_zeros_cannot_be_carried():
    with pytest.raises(InvalidInputError, match="first state of cell is not 0: expected 0"):
        lesion(Net(GRU, from_a_unit), PIECES, "carry")
