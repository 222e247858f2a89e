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
    """Frames through a linear layer, a recurrence and a linear output, batch or time first."""

    def __init__(self, cell, batch_first=False, turned=False):
        super().__init__()
        self.below, self.cell, self.above = nn.Linear(88, n), cell, nn.Linear(n, 88)
        self.batch_first = batch_first
        self.turned = turned

    def forward(self, x):
        x = self.below(x)
        y, _ = self.cell(x.transpose(0, 1)) if self.turned else self.cell(x)
        return self.above(y.transpose(0, 1) if self.turned else y)


class Loop(Net):
    """The same, one step at a time."""

    def forward(self, x):
        s, outputs = None, []
        for x_t in self.below(x):
            torchs = isinstance(self.cell, nn.GRUCell)
            y, s = [self.cell(x_t, s)] * 2 if torchs else self.cell(x_t[None], s)
            outputs.append(y.view(-1, n))
        return self.above(torch.stack(outputs))


class Packed(Net):
    def forward(self, x):
        lengths = [len(x)] * x.shape[1]
        y, _ = self.cell(nn.utils.rnn.pack_padded_sequence(self.below(x), lengths))
        return self.above(nn.utils.rnn.pad_packed_sequence(y)[0])


PLAIN = {
    "gru": drawn(Net(nn.GRU(n, n)).double(), 0),
    "lstm": drawn(Net(nn.LSTM(n, n, num_layers=2)).double(), 7),
    "rhn": drawn(Net(RHN(n, n, 2)).double(), 1),
}
LABELS = {"gru": ["cell"], "lstm": ["cell.1", "cell.2"], "rhn": ["cell.1", "cell.2"]}
LAYOUTS = {
    ("gru", "time first"): PLAIN["gru"],
    ("gru", "batch first"): Net(nn.GRU(n, n, batch_first=True), True),
    ("gru", "batch first inside"): Net(nn.GRU(n, n, batch_first=True), False, True),
    ("gru", "batch first outside"): Net(nn.GRU(n, n), True, True),
    ("gru", "loop"): Loop(nn.GRUCell(n, n)),
    ("gru", "packed"): Packed(nn.GRU(n, n)),
    ("gru", "attributes with names of ours"): Net(nn.GRU(n, n)),
    ("lstm", "time first"): PLAIN["lstm"],
    ("lstm", "batch first outside"): Net(nn.LSTM(n, n, num_layers=2), True, True),
    ("rhn", "time first"): PLAIN["rhn"],
    ("rhn", "batch first"): Net(RHN(n, n, 2, batch_first=True), True),
    ("rhn", "batch first inside"): Net(RHN(n, n, 2, batch_first=True), False, True),
    ("rhn", "loop"): Loop(RHN(n, n, 2)),
}
vars(LAYOUTS["gru", "attributes with names of ours"]).update(order="ba", layout=0, returned=1)
for (kind, layout), module in LAYOUTS.items():  # one network in several layouts
    weights = PLAIN[kind].state_dict()
    if (kind, layout) == ("gru", "loop"):
        weights = {name.removesuffix("_l0"): weight for name, weight in weights.items()}
    module.double().load_state_dict(weights)


def numbers(t) -> np.ndarray:
    return t.detach().double().numpy()


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
    for piece, sequence in zip(PIECES, found.sequences, strict=True):
        x = numbers(plain.below(torch.from_numpy(piece).double()))
        wanted = GATES[kind](plain.cell, x).mean(-1)
        assert np.allclose(sequence.activity, wanted, atol=1e-12)
    places = {label: (0, layer) for layer, label in enumerate(labels)}
    for mode in ("bias", "carry"):
        check_table(lesion(model, PIECES, mode, pairs=True), plain, PIECES, places)
    x, turned = torch.rand(5, 3, 88, dtype=torch.float64), model.batch_first
    cut = lesioned(model, Lesion("carry", (1,)))
    found = cut(x.transpose(0, 1)).transpose(0, 1) if turned else cut(x)
    assert torch.allclose(found, edited(plain, [(0, 0)])(x), atol=1e-10)


class Swapped(nn.Module):
    """Cells that are declared in another order than they run."""

    def __init__(self):
        super().__init__()
        self.upper, self.cell = RHN(n, n), nn.GRU(88, n, batch_first=True)
        self.output = nn.Linear(n, 88)

    def forward(self, x):
        y, _ = self.cell(x.transpose(0, 1))
        return self.output(self.upper(y.transpose(0, 1))[0])


def test_layers_have_the_names_of_their_modules():
    model = drawn(Swapped().double(), 3)
    found = gate_activity(model, PIECES, batch_first=False)
    assert found.labels == ("upper", "cell")
    wanted = gates_of_gru(model.cell, PIECES[0]).mean(-1)
    assert np.allclose(found.sequences[0].activity[1:], wanted, atol=1e-12)
    table = lesion(model, PIECES, "carry", batch_first=False)
    assert table.label[:2] == ("upper", "cell")
    check_table(table, model, PIECES, {"upper": (0, 0), "cell": (1, 0)})


class Twice(Net):
    """One recurrence over the frames, and again over its own outputs."""

    def forward(self, x):
        return self.above(self.cell(self.cell(self.below(x))[0])[0])


def hooked(model):
    model.cell.register_forward_hook(lambda cell, args, output: (output[0] + 1, output[1]))
    return model


@for_each("model", [Twice(nn.GRU(n, n)), hooked(Net(nn.GRU(n, n)))])
def test_a_layer_that_runs_twice_or_has_a_hook_has_lesions(model):
    drawn(model.double(), 4)
    check_table(lesion(model, PIECES), model, PIECES, {"cell": (0, 0)})


def test_a_loss_of_the_user_s_is_called_with_lesioned_copies():
    model = PLAIN["lstm"]
    found = lesion(model, PIECES, loss=lambda copy, piece: nats_of_chorales(copy, [piece])[0])
    wanted = [nats_of_chorales(m, PIECES).mean() for m in (model, edited(model, [(0, 0)]))]
    assert [found.baseline, found.loss[0]] == pytest.approx(wanted, rel=1e-12)
    assert (found.sequences, found.frames, found.step) == (3, 0, "") and np.isnan(found.constant)


class FromALearnedState(Net):
    """A recurrence from a state that is a parameter."""

    def __init__(self, cell):
        super().__init__(cell)
        self.start = nn.Parameter(torch.empty(n))

    def forward(self, x):
        s0 = self.start.expand(1, x.shape[1], n).contiguous()
        return self.above(self.cell(self.below(x), s0)[0])


def test_gates_begin_at_the_state_that_the_module_gives():
    model = drawn(FromALearnedState(nn.GRU(n, n)).double(), 5)
    x = numbers(model.below(torch.from_numpy(PIECES[0]).double()))
    wanted = gates_of_gru(model.cell, x, numbers(model.start))
    found = gate_activity(model, PIECES).sequences[0].activity
    assert np.allclose(found, wanted.mean(-1), atol=1e-12)
    assert lesion(model, PIECES, "bias").loss[0] > 0


class LayerNormed(RHN):
    """A cell whose forward does more than its steps."""

    def forward(self, x):
        return super().forward(F.layer_norm(x, (n,)))


class Changed(Net):
    """The recurrence reads something else than the frames in their order."""

    def __init__(self, change):
        super().__init__(nn.GRU(n, n))
        self.change = change

    def forward(self, x):
        return self.above(self.cell(self.change(self.below(x)))[0])


REFUSED = {
    "number of steps that cell reads is [45]: expected [89]": Changed(lambda x: x[::2]),
    "input of cell is of later frames": Changed(lambda x: x.flip(0)),
    "cannot convert a GRU": Net(nn.GRU(n, n, bidirectional=True)),
    "network is Linear: expected a module with cells": nn.Linear(88, 88),
    "forward of LayerNormed is its own": Net(LayerNormed(n, n)),
    "number of sequences that cell reads is [89]: expected 1, or": Loop(nn.GRUCell(n, n), True),
    "first state of cell is not 0": drawn(FromALearnedState(nn.GRU(n, n)), 5),
}


@for_each(("words", "model"), REFUSED.items())
def test_a_module_without_layers_along_the_frames_is_refused(words, model):
    calls = [partial(lesion, mode="carry")]
    if "first state" not in words:
        calls.append(gate_activity)
    for measure in calls:
        with pytest.raises(InvalidInputError, match=words):
            measure(model, PIECES)
