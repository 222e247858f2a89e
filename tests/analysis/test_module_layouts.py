"""Gates and lesions of a user's module, whatever its axes and however it calls its cell, by the
textbook equations and by copies that are edited by hand.
"""

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import check_table, drawn, edited, gates_by_loop, nats_of_chorales, rolls
from scipy.special import expit
from tables import for_each
from torch import nn

from analysis import Lesion, gate_activity, lesion, lesioned
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


def gates_of_lstm(cell, x) -> np.ndarray:
    """i of both layers at every step, (2, T, n)."""
    found = []
    for layer in (0, 1):
        W, R, b, c = weights_of(cell, layer)
        h, s, gates, outputs = np.zeros(n), np.zeros(n), [], []
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


def hooked(model):
    model.cell.register_forward_hook(lambda cell, args, output: (output[0] + 1, output[1]))
    return model


@for_each(
    "model", [Net(nn.GRU(n, n), lambda cell, x: cell(cell(x)[0])[0]), hooked(Net(nn.GRU(n, n)))]
)
def test_a_layer_that_runs_twice_or_has_a_hook_has_lesions(model):
    drawn(model.double(), 4)
    check_table(lesion(model, PIECES), model, PIECES, {"cell": (0, 0)})


def test_a_loss_of_the_user_s_is_called_with_lesioned_copies():
    model = PLAIN["lstm"]
    found = lesion(model, PIECES, loss=lambda copy, piece: nats_of_chorales(copy, [piece])[0])
    wanted = [nats_of_chorales(m, PIECES).mean() for m in (model, edited(model, [(0, 0)]))]
    assert [found.baseline, found.loss[0]] == pytest.approx(wanted, rel=1e-12)
    assert (found.sequences, found.frames, found.step) == (3, 0, "") and np.isnan(found.constant)


def test_gates_begin_at_the_state_that_the_module_gives():
    model = drawn(Net(nn.GRU(n, n), from_a_weight).double(), 5)
    wanted = gates_of_gru(model.cell, frames(model), numbers(model.cell.bias_hh_l0[:n]))
    found = gate_activity(model, PIECES).sequences[0].activity
    assert np.allclose(found, wanted.mean(-1), atol=1e-12)
    assert lesion(model, PIECES, "bias").loss[0] > 0


class LayerNormed(RHN):
    """A cell whose forward does more than its steps."""

    def forward(self, x):
        return super().forward(F.layer_norm(x, (n,)))


GRU = nn.GRU(n, n)
REFUSED = {
    "number of steps that cell reads is [45]: expected [89]": Net(
        GRU, lambda cell, x: cell(x[::2])[0]
    ),
    "input of cell is of later frames": Net(GRU, lambda cell, x: cell(x.flip(0))[0]),
    "cannot convert GRU": Net(nn.GRU(n, n, bidirectional=True)),
    "network is Linear: expected a module with cells": nn.Linear(88, 88),
    "forward of LayerNormed is its own": Net(LayerNormed(n, n)),
    "number of sequences that cell reads is [89]: expected 1, or": Net(
        nn.GRUCell(n, n), loop, True
    ),
    "first state of cell is not 0": Net(GRU, from_a_weight),
}


@for_each(("words", "model"), REFUSED.items())
def test_a_module_without_layers_along_the_frames_is_refused(words, model):
    calls = [partial(lesion, mode="carry")]
    if "first state" not in words:
        calls.append(gate_activity)
    for measure in calls:
        with pytest.raises(InvalidInputError, match=words):
            measure(model, PIECES)
