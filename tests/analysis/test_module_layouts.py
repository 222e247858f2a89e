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
    loop = Loop(nn.GRUCell(n, n), True).double()
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
STEPPING = ("rhn", "a loop of step()")  # its cell is never called
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


@pytest.mark.parametrize(("kind", "layout"), [row for row in EVERY if row != STEPPING])
def test_gates_are_those_of_the_equations_whatever_the_axes(kind, layout):
    found = gate_activity(NETWORKS[kind][layout], PIECES)
    assert found.labels == (("cell",) if kind == "gru" else ("cell.1", "cell.2"))
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
    for number, (loss, *_) in enumerate(found.of_kind().values(), start=1):
        assert loss == pytest.approx(own_loss(kind, without(kind, number)), rel=1e-10)


@every
def test_a_lesioned_copy_is_called_as_the_module_is(kind, layout):
    model = NETWORKS[kind][layout]
    outer_first = "batch first" in layout.split(",")[0] or (kind, layout) == (
        "gru",
        "a loop of steps",
    )
    x = torch.rand(5, 3, 88, dtype=torch.float64)
    cut = lesioned(model, Lesion("carry", (1,)))
    with torch.no_grad():
        found = cut(x.transpose(0, 1)).transpose(0, 1) if outer_first else cut(x)
        wanted = without(kind, 1)(x)
    assert torch.allclose(found, wanted, atol=1e-10)


def test_a_bare_cell_that_is_batch_first_has_the_gates_of_one_that_is_not():
    plain = drawn(nn.LSTM(88, n, num_layers=2).double(), 2)
    turned = nn.LSTM(88, n, num_layers=2, batch_first=True).double()
    turned.load_state_dict(plain.state_dict())
    one, other = gate_activity(plain, PIECES), gate_activity(turned, PIECES)
    assert one.labels == ("1", "2")
    assert np.allclose(one.activity, other.activity, atol=1e-12)
    W, b, c = (numbers(getattr(plain, k)) for k in ("weight_ih_l0", "bias_ih_l0", "bias_hh_l0"))
    first = sigmoid(W[:n] @ PIECES[0][0] + b[:n] + c[:n]).mean()
    assert one.activity[0, 0] == pytest.approx(first, abs=1e-12)


class Swapped(nn.Module):
    """Cells that are declared in another order than they run."""

    def __init__(self):
        super().__init__()
        self.upper, self.lower = RHN(n, n), nn.GRU(88, n, batch_first=True)
        self.output = nn.Linear(n, 88)

    def forward(self, x):
        y, _ = self.lower(x.transpose(0, 1))
        return self.output(self.upper(y.transpose(0, 1))[0])


def test_layers_have_the_names_of_their_modules():
    model = drawn(Swapped().double(), 3)
    found = gate_activity(model, PIECES, batch_first=False)
    assert found.labels == ("upper", "lower")
    W, b, c = (
        numbers(getattr(model.lower, f"{k}_l0")) for k in ("weight_ih", "bias_ih", "bias_hh")
    )
    z = sigmoid((W @ PIECES[0][0] + b + c)[n : 2 * n])
    assert found.activity[1, 0] == pytest.approx((1 - z).mean(), abs=1e-12)
    shut = copy.deepcopy(model)
    with torch.no_grad():
        shut.lower.bias_ih_l0[n : 2 * n] = 1e4
    table = lesion(model, PIECES, "carry", batch_first=False)
    assert table.label[:2] == ("upper", "lower")
    assert table.loss[1] == pytest.approx(own_loss("", shut), rel=1e-10)


class Twice(Net):
    """One recurrence over the frames, and again over its own outputs."""

    def forward(self, x):
        return self.above(self.cell(self.cell(self.below(x))[0])[0])


def test_a_layer_that_runs_twice_has_lesions():
    model = drawn(Twice(nn.GRU(n, n, batch_first=True), True).double(), 4)
    shut = copy.deepcopy(model)
    with torch.no_grad():
        shut.cell.bias_ih_l0[n : 2 * n] = 1e4
    shut.cell.batch_first = False
    assert lesion(model, PIECES).loss[0] == pytest.approx(own_loss("", shut), rel=1e-10)


def test_layers_of_torch_are_lesioned_in_copies_edited_by_hand():
    model = drawn(Net(nn.LSTM(n, n, num_layers=2)).double(), 7)
    cut = copy.deepcopy(model)
    with torch.no_grad():
        for name in ("weight_ih_l1", "weight_hh_l1", "bias_ih_l1", "bias_hh_l1"):
            getattr(cut.cell, name).zero_()
    blind = copy.deepcopy(model)
    blind.cell.weight_ih_l0.data.zero_()
    table = lesion(model, PIECES, "carry", pairs=True)
    assert table.label == ("cell.1", "cell.2", "cell.1+cell.2", *("cell.1", "cell.2") * 2)
    assert table.loss[1] == pytest.approx(own_loss("", cut), rel=1e-12)
    assert table.of_kind("blind")["cell.1"][0] == pytest.approx(own_loss("", blind), rel=1e-12)
    by_bias = lesion(model, PIECES, "bias", pairs=True)
    for column in ("loss", "delta", "low", "high"):
        assert getattr(table, column) == pytest.approx(getattr(by_bias, column), rel=1e-9)


def test_a_loss_of_the_user_s_is_called_with_lesioned_copies():
    torch.manual_seed(0)
    model = nn.LSTM(3, 4, batch_first=True).double()
    data = [(torch.rand(1, 5, 3).double(), k % 2) for k in range(6)]

    def loss(model, pair):
        x, y = pair
        return F.cross_entropy(model(x)[0][:, -1], torch.tensor([y]))

    found = lesion(model, data, loss=loss)
    shut = copy.deepcopy(model)
    with torch.no_grad():
        shut.bias_ih_l0[:4], shut.bias_ih_l0[4:8] = -1e4, 1e4
        wanted = [sum(float(loss(each, pair)) for pair in data) / 6 for each in (model, shut)]
    assert [found.baseline, found.loss[0]] == pytest.approx(wanted, rel=1e-12)
    assert (found.sequences, found.frames, found.step) == (6, 0, "") and np.isnan(found.constant)


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


def test_packed_sequences_and_hooks_are_read():
    plain = drawn(Net(nn.GRU(n, n)).double(), 8)
    packed = same(Packed, nn.GRU(n, n), of=plain)
    wanted, found = (gate_activity(model, PIECES) for model in (plain, packed))
    assert np.allclose(found.activity, wanted.activity, atol=1e-12)
    assert lesion(packed, PIECES).loss == pytest.approx(lesion(plain, PIECES).loss, rel=1e-12)
    more = hooked(copy.deepcopy(plain))
    assert lesion(more, PIECES).baseline == pytest.approx(own_loss("", more), rel=1e-12)


REFUSED = {
    "number of steps that cell reads is [45]: expected [89]": lambda: Halved(nn.GRU(n, n)),
    "input of cell is of later frames": lambda: Reversed(nn.GRU(n, n)),
    "cannot convert a GRU": lambda: Net(nn.GRU(n, n, bidirectional=True)),
    "network is Linear: expected a module with cells": lambda: nn.Linear(88, 88),
    "forward of LayerNormed is its own": lambda: drawn(Net(LayerNormed(n, n)), 6),
    "number of sequences that cell reads is [89]: expected 1, or another batch_first": (
        lambda: Loop(nn.GRUCell(n, n))
    ),
}


@pytest.mark.parametrize("words", REFUSED)
def test_a_module_without_layers_along_the_frames_is_refused(words):
    for measure in (gate_activity, lesion):
        with pytest.raises(InvalidInputError, match=words):
            measure(REFUSED[words](), PIECES)


def test_a_layer_that_is_not_called_has_no_gates_and_no_damage():
    idle = Idle(nn.GRU(n, n))
    with pytest.raises(InvalidInputError, match="number of steps that cell reads is 0: expected 4"):
        gate_activity(idle, PIECES)
    assert lesion(idle, PIECES).delta.tolist() == [0, 0, 0]


def test_carry_from_a_state_that_is_not_zero_is_refused():
    model = drawn(FromALearnedState(nn.GRU(n, n)), 5)
    with pytest.raises(InvalidInputError, match="first state of cell is not 0"):
        lesion(model, PIECES, "carry")
    assert lesion(model, PIECES, "bias").loss[0] > 0


def test_batch_first_is_the_attribute_of_the_module_or_given():
    model = NETWORKS["gru"]["batch first"]
    found = lesion(model, PIECES, batch_first=True).loss
    assert found.tolist() == lesion(model, PIECES).loss.tolist()
    with pytest.raises(InvalidInputError, match="number of sequences that cell reads is 9"):
        gate_activity(model, PIECES, batch_first=False)
