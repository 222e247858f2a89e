"""Gates and lesions of a user's module, whatever its axes and however it calls its cell, by the
textbook equations and by copies that are edited by hand.
"""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import drawn, rolls
from torch import nn

from analysis import Lesion, gate_activity, lesion, lesioned
from rhn.cells import RHN
from rhn.errors import InvalidInputError

PIECES = rolls(9, 4, 12)
n = 6


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def numbers(t) -> np.ndarray:
    return t.detach().double().numpy()


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
    """The same, one step at a time, with the batch first."""

    def forward(self, x):
        x, s, outputs = self.below(x), None, torch.zeros(*x.shape[:2], n, dtype=x.dtype)
        for t in range(x.shape[1]):
            s = self.cell(x[:, t], s)
            outputs[:, t] = s[0] if isinstance(s, tuple) else s
        return self.above(outputs)


class OwnLoop(Net):
    """A cell of ours, called for one step of a batch."""

    def forward(self, x):
        s, outputs = None, []
        for x_t in self.below(x):
            y, s = self.cell(x_t.unsqueeze(0), s)
            outputs.append(y)
        return self.above(torch.cat(outputs))


class Stepping(Net):
    """The step of a cell of ours, without its forward."""

    def forward(self, x):
        s = x.new_zeros(x.shape[1], self.cell.state_size)
        outputs = []
        for x_t in self.below(x):
            s = self.cell.step(x_t, s)
            outputs.append(s[:, :n])
        return self.above(torch.stack(outputs))


def same(kind, *args, of: nn.Module):
    """A module with the weights of another."""
    module = kind(*args).double()
    module.load_state_dict(of.state_dict())
    return module


def of_gru() -> dict[str, nn.Module]:
    """One network in several layouts."""
    plain = drawn(Net(nn.GRU(n, n)).double(), 0)
    loop = Loop(nn.GRUCell(n, n)).double()
    names = {name: name.removesuffix("_l0") for name in plain.state_dict()}
    loop.load_state_dict({names[name]: value for name, value in plain.state_dict().items()})
    return {
        "time first": plain,
        "batch first": same(Net, nn.GRU(n, n, batch_first=True), True, of=plain),
        "time first outside, batch first inside": same(
            Net, nn.GRU(n, n, batch_first=True), False, True, of=plain
        ),
        "batch first outside, time first inside": same(Net, nn.GRU(n, n), True, True, of=plain),
        "a loop of steps": loop,
    }


def of_rhn() -> dict[str, nn.Module]:
    plain = drawn(Net(RHN(n, n, 2)).double(), 1)
    turned = same(Net, RHN(n, n, 2, batch_first=True), False, True, of=plain)
    return {
        "time first": plain,
        "batch first": same(Net, RHN(n, n, 2, batch_first=True), True, of=plain),
        "time first outside, batch first inside": turned,
        "a loop of steps": same(OwnLoop, RHN(n, n, 2), of=plain),
        "a loop of step()": same(Stepping, RHN(n, n, 2), of=plain),
    }


NETWORKS = {"gru": of_gru(), "rhn": of_rhn()}
EVERY = [(kind, layout) for kind, found in NETWORKS.items() for layout in found]
every = pytest.mark.parametrize(("kind", "layout"), EVERY)


def own_loss(kind, model=None) -> float:
    """Nats per predicted frame of the time-first network, one piece at a time, by torch."""
    model, total, count = model or NETWORKS[kind]["time first"], 0.0, 0
    for piece in PIECES:
        x = torch.from_numpy(piece).double().unsqueeze(1)
        with torch.no_grad():
            total += F.binary_cross_entropy_with_logits(
                model(x[:-1]), x[1:], reduction="sum"
            ).item()
        count += len(piece) - 1
    return total / count


def gates_of_gru(model, piece) -> np.ndarray:
    """1 - z of every step, (1, T, n)."""
    cell = model.cell
    W, R, b, c = (
        numbers(getattr(cell, f"{name}_l0"))
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    x = numbers(model.below(torch.from_numpy(piece).double()))
    h, found = np.zeros(n), []
    for x_t in x:
        u, v = W @ x_t + b, R @ h + c
        r, z = sigmoid(u[:n] + v[:n]), sigmoid(u[n : 2 * n] + v[n : 2 * n])
        h = (1 - z) * np.tanh(u[2 * n :] + r * v[2 * n :]) + z * h
        found.append(1 - z)
    return np.array([found])


def gates_of_rhn(model, piece) -> np.ndarray:
    """t of each layer at every step, (2, T, n): equations 7 to 9 of the paper, c = 1 - t."""
    cell = model.cell
    W, R, b = (numbers(getattr(cell, name)) for name in ("weight_ih", "weight_hh", "bias"))
    x = numbers(model.below(torch.from_numpy(piece).double()))
    s, found = np.zeros(n), ([], [])
    for x_t in x:
        for layer in (0, 1):
            z = R[layer] @ s + b[layer] + (W @ x_t if layer == 0 else 0)
            t = sigmoid(z[n:])
            s = np.tanh(z[:n]) * t + s * (1 - t)
            found[layer].append(t)
    return np.array(found)


GATES = {"gru": gates_of_gru, "rhn": gates_of_rhn}


@every
def test_gates_are_those_of_the_equations_whatever_the_axes(kind, layout):
    found = gate_activity(NETWORKS[kind][layout], PIECES)
    assert found.labels == (("1",) if kind == "gru" else ("1", "2"))
    for piece, sequence in zip(PIECES, found.sequences, strict=True):
        wanted = GATES[kind](NETWORKS[kind]["time first"], piece)
        assert np.allclose(sequence.activity, wanted.mean(-1), atol=1e-12)
        assert np.allclose(sequence.open, (wanted > 0.9).mean(-1), atol=1e-12)


def without(kind, layer) -> nn.Module:
    """The time-first network with a layer's gate shut, in a copy of its weights."""
    model = copy.deepcopy(NETWORKS[kind]["time first"])
    with torch.no_grad():
        if kind == "gru":
            model.cell.bias_ih_l0[n : 2 * n] = 1e4
        else:
            model.cell.bias[layer - 1, n:] = -1e4
    return model


@every
@pytest.mark.parametrize("mode", ["carry", "bias"])
def test_lesions_are_those_of_an_edited_copy_whatever_the_axes(kind, layout, mode):
    found = lesion(NETWORKS[kind][layout], PIECES, mode)
    assert found.baseline == pytest.approx(own_loss(kind), rel=1e-10)
    for row in found.rows():
        wanted = own_loss(kind, without(kind, int(row["label"])))
        assert row["loss"] == pytest.approx(wanted, rel=1e-10)


@every
def test_a_lesioned_copy_is_called_as_the_module_is(kind, layout):
    model = NETWORKS[kind][layout]
    outer_first = "batch first" in layout.split(",")[0] or (kind, layout) == (
        "gru",
        "a loop of steps",
    )
    x = torch.rand(5, 3, 88, dtype=torch.float64)
    cut = lesioned(model, Lesion("carry", (1,)), x=PIECES)
    with torch.no_grad():
        found = cut(x.transpose(0, 1)).transpose(0, 1) if outer_first else cut(x)
        wanted = without(kind, 1)(x)
    assert torch.allclose(found, wanted, atol=1e-10)


def test_a_bare_cell_that_is_batch_first_has_the_gates_of_one_that_is_not():
    plain = drawn(nn.LSTM(88, n, num_layers=2).double(), 2)
    turned = nn.LSTM(88, n, num_layers=2, batch_first=True).double()
    turned.load_state_dict(plain.state_dict())
    one, other = gate_activity(plain, PIECES), gate_activity(turned, PIECES)
    assert one.labels == ("1.1", "2.1") and one.gate_name == "input gate"
    assert np.allclose(one.activity, other.activity, atol=1e-12)
    W, b, c = (numbers(getattr(plain, k)) for k in ("weight_ih_l0", "bias_ih_l0", "bias_hh_l0"))
    first = sigmoid(W[:n] @ PIECES[0][0] + b[:n] + c[:n]).mean()
    assert one.activity[0, 0] == pytest.approx(first, abs=1e-12)


class Swapped(nn.Module):
    """Cells that are declared in another order than they run."""

    def __init__(self):
        super().__init__()
        self.upper, self.lower = RHN(n, n), nn.GRU(88, n, batch_first=True)
        self.unused = RHN(n, n)
        self.output = nn.Linear(n, 88)

    def forward(self, x):
        y, _ = self.lower(x.transpose(0, 1))
        return self.output(self.upper(y.transpose(0, 1))[0])


def test_cells_are_named_in_the_order_of_running_in_gates_and_in_lesions():
    model = drawn(Swapped().double(), 3)
    found = gate_activity(model, PIECES)
    assert found.labels == ("1.1", "2.1")
    W, b, c = (
        numbers(getattr(model.lower, f"{k}_l0")) for k in ("weight_ih", "bias_ih", "bias_hh")
    )
    z = sigmoid((W @ PIECES[0][0] + b + c)[n : 2 * n])
    assert found.activity[0, 0] == pytest.approx((1 - z).mean(), abs=1e-12)
    shut = copy.deepcopy(model)
    with torch.no_grad():
        shut.lower.bias_ih_l0[n : 2 * n] = 1e4
    table = lesion(model, PIECES, "carry")
    assert table.label[:2] == ("1.1", "2.1")
    assert table.loss[0] == pytest.approx(own_loss("", shut), rel=1e-10)


class Given(nn.Module):
    """The same outputs whatever it reads."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs = outputs

    def forward(self, _):
        return self.outputs


class Twice(Net):
    """One recurrence over the frames, and again over its own outputs."""

    def forward(self, x):
        return self.above(self.cell(self.cell(self.below(x))[0])[0])


def test_a_cell_that_reads_the_sequence_twice_has_gates_of_each_call():
    model = drawn(Twice(nn.GRU(n, n, batch_first=True), True).double(), 4)
    found = gate_activity(model, PIECES)
    assert found.labels == ("1, call 1", "1, call 2") and found.activity.shape == (2, 25)
    once = same(Net, nn.GRU(n, n), of=model)
    assert np.allclose(found.activity[0, :9], gates_of_gru(once, PIECES[0])[0].mean(-1), atol=1e-12)
    again = copy.deepcopy(once)
    x = once.below(torch.from_numpy(PIECES[0]).double())
    first = once.cell(x.unsqueeze(1))[0].squeeze(1)
    again.below = Given(first)
    wanted = gates_of_gru(again, PIECES[0])[0].mean(-1)
    assert np.allclose(found.activity[1, :9], wanted, atol=1e-12)
    table = lesion(model, PIECES, "bias")
    assert table.label == ("1", "1", "1")
    shut = copy.deepcopy(model)
    with torch.no_grad():
        shut.cell.bias_ih_l0[n : 2 * n] = 1e4
    shut.cell.batch_first = False
    assert table.loss[0] == pytest.approx(own_loss("", shut), rel=1e-10)


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
    W, R, b, c = (
        numbers(getattr(model.cell, f"{k}_l0"))
        for k in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    x = numbers(model.below(torch.from_numpy(PIECES[0][:1]).double()))[0]
    z = sigmoid((W @ x + b + R @ numbers(model.start) + c)[n : 2 * n])
    found = gate_activity(model, PIECES)
    assert found.activity[0, 0] == pytest.approx((1 - z).mean(), abs=1e-12)


class LayerNormed(RHN):
    """A cell whose forward does more than its steps."""

    def forward(self, x, s0=None, dropout=None):
        return super().forward(F.layer_norm(x, (n,)), s0)


def hooked(model):
    model.cell.register_forward_hook(lambda cell, args, output: (output[0] + 1, output[1]))
    return model


class Halved(Net):
    def forward(self, x):
        return self.above(self.cell(self.below(x)[::2])[0])


class Reversed(Net):
    def forward(self, x):
        return self.above(self.cell(self.below(x).flip(0))[0].flip(0))


class Idle(Net):
    def forward(self, x):
        return self.above(self.below(x))


class Packed(Net):
    def forward(self, x):
        lengths = [len(x)] * x.shape[1]
        y, _ = self.cell(nn.utils.rnn.pack_padded_sequence(self.below(x), lengths))
        return self.above(nn.utils.rnn.pad_packed_sequence(y)[0])


REFUSED = {
    "GRU in Halved is called 1 time, for steps 3 of 3 sequences: expected one call for all 5": (
        lambda: Halved(nn.GRU(n, n))
    ),
    "GRU in Reversed reads the last frame of x before the last step": (
        lambda: Reversed(nn.GRU(n, n))
    ),
    "Idle does not call its cells": lambda: Idle(nn.GRU(n, n)),
    "the GRU reads packed sequences": lambda: Packed(nn.GRU(n, n)),
    "of one direction and without a projection": lambda: Net(nn.GRU(n, n, bidirectional=True)),
    "Linear holds no recurrent cell of rhn.cells or torch.nn": lambda: nn.Linear(88, 88),
    "Net does not run on x of shape .*: .*expected .T, B, 7.": lambda: Net(nn.GRU(n + 1, n)),
    "Net does not run on x of shape .*: RuntimeError": lambda: Net(nn.GRU(n, n + 1)),
    "Net has other outputs with cells of ours": lambda: hooked(Net(nn.GRU(n, n))),
    "LayerNormed called on a sequence returns another state|mode 'carry' runs LayerNormed": (
        lambda: drawn(Net(LayerNormed(n, n)), 6)
    ),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_has_no_place_on_the_axis_of_time_is_refused(words):
    for measure in (gate_activity, lesion):
        with pytest.raises(InvalidInputError, match=words):
            measure(REFUSED[words](), PIECES, **({"mode": "carry"} if measure is lesion else {}))


def test_an_axis_that_the_cells_contradict_is_refused():
    model = NETWORKS["gru"]["batch first"]
    found = lesion(model, PIECES, batch_axis=0).loss
    assert found.tolist() == lesion(model, PIECES).loss.tolist()
    words = "batch_axis is 1, and the cells of Net step along that axis of x: expected batch_axis=0"
    with pytest.raises(InvalidInputError, match=words):
        gate_activity(model, PIECES, batch_axis=1)
    with pytest.raises(InvalidInputError, match="batch_axis is 2: expected 0 or 1"):
        lesion(model, PIECES, batch_axis=2)
