"""An influence that is not the slope of the outputs has a doubt; that of a healthy network, with
its kinks, its rounding and its chaos, has none.
"""

import pytest
import torch
from tables import for_each
from test_gradient_note import Spike
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import gersgorin
from rhn.errors import InvalidInputError

NOTE = "The gradient of the outputs is not their slope"
X = torch.randn(2, 15, 3, generator=torch.Generator().manual_seed(0))
IDS = torch.randint(9, (2, 15), generator=torch.Generator().manual_seed(0))


class Loop(nn.Module):
    """A GRU cell in a loop that hands the state on by a function."""

    def __init__(self, hand_on=torch.clone, embed=torch.clone):
        super().__init__()
        self.cell, self.hand_on, self.embed = nn.GRUCell(3, 8), hand_on, embed

    def forward(self, x):
        x = self.embed(x)
        h, outputs = x.new_zeros(len(x), 8), []
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], self.hand_on(h))
            outputs.append(h)
        return torch.stack(outputs, 1)


class LastOnly(Loop):
    def forward(self, x):
        return super().forward(x)[:, -1]


class Spikes(nn.Module):
    """Leaky units that fire."""

    def __init__(self, fire=Spike.apply):
        super().__init__()
        self.read, self.fire = nn.Linear(3, 8), fire

    def forward(self, x):
        v, outputs = x.new_zeros(len(x), 8), []
        for t in range(x.shape[1]):
            v = 0.9 * v + self.read(x[:, t])
            z = self.fire(v - 0.3)
            v = v * (1 - z)
            outputs.append(z)
        return torch.stack(outputs, 1)


def detached(h):
    return h.detach()


def partly(h):
    return torch.cat((h[:, :4], h[:, 4:].detach()), 1)


def without_gradient(h):
    with torch.no_grad():
        return h * 1


@for_each(
    ("name", "model", "x"),
    (
        ("detached", Loop(detached), X),
        ("partly detached", Loop(partly), X),
        ("no_grad", Loop(without_gradient), X),
        ("one output", LastOnly(detached), X),
        ("ids", Loop(detached, nn.Embedding(9, 3)), IDS),
        ("one sequence", Loop(detached), X[:1]),
        ("spikes", Spikes(), X),
    ),
)
def test_a_gradient_that_is_not_the_slope_gets_a_doubt(name, model, x):
    found = gersgorin.influence(model, x, batch_axis=0)
    assert found.doubt.startswith(NOTE)
    assert found.doubt in found.sentences()


def test_the_doubt_names_central_differences():
    """Of a detached sum the gradient behind its step is 0, and the slope 0.9 + 0.9^2 + ..."""

    def leaky(x, s):
        return 0.9 * s.detach() + x

    found = gersgorin.influence(leaky, torch.ones(12, 1).double(), s0=torch.zeros(1).double())
    assert found.doubt.startswith(f"{NOTE} (in one direction it is 0 % of the slope)")


def scaled(module, factor):
    for p in module.parameters():
        p.data *= factor
    return module


class Single(nn.Module):
    """Runs in single precision inside."""

    def __init__(self):
        super().__init__()
        self.weights = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))

    def forward(self, x):
        return torch.tanh((x.float() @ self.weights + 1).cumsum(1)).to(x.dtype)


class SinglePrecision(Single):
    def forward(self, x):
        return torch.tanh((x @ self.weights).cumsum(1))


class FindsPadding(nn.Module):
    """Reads up to the last frame that is not 0."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(3, 8, batch_first=True)

    def forward(self, x):
        lengths = (x != 0).any(-1).long().cumsum(1).argmax(1).cpu() + 1
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=x.shape[1])[
            0
        ]


class KeepsItsState(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.state = nn.GRU(3, 8, batch_first=True), None

    def forward(self, x):
        outputs, state = self.rnn(x, self.state)
        self.state = state.detach()
        return outputs


class Convolution(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(3, 8, 3), nn.ReLU(), nn.MaxPool1d(3, 1), nn.BatchNorm1d(8), nn.Dropout()
        )

    def forward(self, x):
        return self.layers(nn.functional.pad(x.transpose(1, 2), (4, 0))).transpose(1, 2)


PADDED = X.clone()
PADDED[1, 5:] = 0
HEALTHY = {
    "RNN": (lambda: nn.RNN(3, 8, batch_first=True), X),
    "ReLU": (lambda: nn.RNN(3, 8, nonlinearity="relu", batch_first=True), X),
    "ReLU at its kink": (
        lambda: nn.RNN(3, 8, nonlinearity="relu", bias=False, batch_first=True),
        X * (X > 0),
    ),
    "LSTM": (lambda: nn.LSTM(3, 8, num_layers=2, dropout=0.5, batch_first=True), X),
    "both directions": (lambda: nn.LSTM(3, 8, bidirectional=True, batch_first=True), X),
    "projected": (lambda: nn.LSTM(3, 8, proj_size=2, batch_first=True), X),
    "GRU cell": (Loop, X),
    "saturated": (lambda: scaled(nn.LSTM(3, 8, batch_first=True), 30), X),
    "chaotic": (lambda: scaled(nn.RNN(3, 64, batch_first=True), 30), X.repeat(1, 8, 1)),
    "attention": (lambda: nn.TransformerEncoderLayer(3, 1, 8, batch_first=True), X),
    "convolution": (Convolution, X),
    "single inside": (Single, X),
    "single precision": (SinglePrecision, X),
    "finds padding": (FindsPadding, PADDED),
    "keeps its state": (KeepsItsState, X),
    "one output": (LastOnly, X),
    "ids": (lambda: Loop(embed=nn.Embedding(9, 3)), IDS),
    "sigmoid spikes": (lambda: Spikes(torch.sigmoid), X),
    "zeros": (lambda: nn.GRU(3, 8, batch_first=True), 0 * X),
    "large": (lambda: nn.GRU(3, 8, batch_first=True), 1e3 * X),
}


@for_each("name", HEALTHY)
def test_a_healthy_network_gets_none(name):
    make, x = HEALTHY[name]
    for seed in range(3):
        torch.manual_seed(seed)
        assert gersgorin.influence(make(), x, batch_axis=0, probes=2).doubt == "", seed


def test_targets_and_their_loss_change_nothing():
    y = torch.zeros(2, 15, 8)
    for model, wrong in ((Loop(), False), (Loop(detached), True)):
        found = gersgorin.influence(model, X, of="squared", y=y, batch_axis=0)
        assert bool(found.doubt) == wrong


def test_packed_sequences_are_compared():
    class Packed(nn.Module):
        def __init__(self, hand_on):
            super().__init__()
            self.loop = Loop(hand_on)

        def forward(self, packed):
            return self.loop(pad_packed_sequence(packed, batch_first=True)[0])

    x = pack_padded_sequence(X, torch.tensor([15, 9]), batch_first=True)
    for hand_on, wrong in ((torch.clone, False), (detached, True)):
        assert bool(gersgorin.influence(Packed(hand_on), x, batch_axis=0).doubt) == wrong


def test_a_loop_that_takes_the_other_axis_for_time_has_a_doubt():
    """Each output is then that of a sequence of one step."""
    x = X[:1].transpose(0, 1)
    for axis, also in ((None, ""), (1, " with batch_axis=0 (--batch-axis 0)")):
        found = gersgorin.influence(Loop(), x, batch_axis=axis)
        assert found.doubt == (
            "Axis 0 of x (15, 1, 3) counts as time. If it holds the sequences for Loop, give "
            f"x.transpose(0, 1){also}."
        )
    assert gersgorin.influence(Loop(), x.transpose(0, 1)).doubt == ""
    assert gersgorin.influence(lambda x: x.square(), x, batch_axis=1).doubt == ""


def test_ids_that_no_embedding_has_are_named():
    model = Loop(embed=nn.Embedding(5, 3))
    for measure in (gersgorin.influence, gersgorin.spectra):
        with pytest.raises(InvalidInputError, match=r"ids from 0 to 8: expected ids from 0 to 4$"):
            measure(model, torch.arange(9)[None])


class Truncated(nn.Module):
    """Detaches its state every k steps."""

    def __init__(self, k):
        super().__init__()
        torch.manual_seed(0)
        self.cell, self.read, self.k = nn.GRUCell(2, 8), nn.Linear(8, 1), k

    def forward(self, x):
        h, outputs = x.new_zeros(len(x), 8), []
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h.detach() if t and t % self.k == 0 else h)
            outputs.append(self.read(h))
        return torch.stack(outputs, 1)


def last_loss(o, y):
    return (o[:, -1, 0] - y) ** 2


@for_each("k", (4, 8, 20, 47, 99))
def test_a_truncated_loop_has_a_doubt_about_its_last_output_and_loss(k):
    """Plain central differences of the loss are not 0 where the gradient is."""
    x = torch.randn(1, 48, 2, generator=torch.Generator().manual_seed(0)).double()
    model, y = Truncated(k), torch.ones(1).double()
    plain = Truncated(k).double()
    v = torch.zeros_like(x)
    v[0, 47 - 47 % k - 1] = 1e-5  # the last input before the cut
    slope = (last_loss(plain(x + v), y) - last_loss(plain(x - v), y)).item()
    assert abs(slope) > 1e-9
    for options in ({}, {"of": last_loss, "y": y}):
        found = gersgorin.influence(model, x, **options)
        assert bool(found.doubt) == (k < 48), options
    if k == 47:
        assert "of the last loss in the input of step 46 is 0, but its slope" in found.doubt


def test_outputs_that_depend_on_few_inputs_have_none():
    x = torch.randn(1, 20, 2, generator=torch.Generator().manual_seed(0)).double()
    assert gersgorin.influence(lambda x: x[:, -1] * x[:, -3], x, batch_axis=0).doubt == ""
    saturated = gersgorin.influence(lambda x: torch.tanh(1e3 * (x + 5)).cumsum(1), x, batch_axis=0)
    assert saturated.doubt == ""
    rounded = gersgorin.influence(lambda x: x.cumsum(1) + x.cumsum(1).round(), x, batch_axis=0)
    assert "is 0" not in rounded.doubt


class Noisy(Loop):
    def forward(self, x):
        return super().forward(nn.functional.dropout(x, 0.5, True))


def test_a_model_that_draws_random_numbers_has_a_doubt():
    doubt = gersgorin.influence(Noisy(), X, batch_axis=0).doubt
    assert doubt == "Noisy draws random numbers as it runs: these numbers are of one draw."
    assert gersgorin.influence(KeepsItsState(), X, batch_axis=0).doubt == ""


@for_each("axis", (0, 1))
def test_a_memoryless_network_has_none_about_the_axis(axis):
    """With the axes swapped its outputs depend on no other step either."""
    x = X[:1].transpose(0, axis)
    for model in (torch.sin, nn.Sequential(nn.Linear(3, 4), nn.Tanh())):
        assert gersgorin.influence(model, x).doubt == ""
    assert "Axis 1 of x (1, 15, 3)" in gersgorin.influence(lambda x: x.cumsum(0), X[:1]).doubt
