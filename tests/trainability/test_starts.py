"""The lines of a start give the network that is tried; what its gradient sees is known."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

import trainability.starts
from rhn.cells import CELLS, Cell, Layer, Part
from rhn.models import PolyphonicModel
from trainability.candidates import MEMORY, Change, starts_of
from trainability.signal import Reach, measure_reach
from trainability.training import Training

UNITS, FRAMES = 12, 60


class Reader(nn.Module):
    """A recurrence, examples first, with an output of the last frame."""

    def __init__(self, kind=nn.LSTM, inputs=3, outputs=2, **options):
        super().__init__()
        self.rnn = kind(inputs, UNITS, batch_first=True, **options)
        self.out = nn.Linear(UNITS * (1 + getattr(self.rnn, "bidirectional", False)), outputs)

    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1])


class OwnLoop(nn.Module):
    """A loop over a cell of torch, with an encoder."""

    def __init__(self, kind=nn.GRUCell, outputs=2):
        super().__init__()
        self.encode, self.cell = nn.Linear(3, 5), kind(5, UNITS)
        self.out = nn.Linear(UNITS, outputs)

    def forward(self, x):
        h = x.new_zeros(len(x), UNITS)
        for frame in x.unbind(1):
            h = self.cell(self.encode(frame), h)
        return self.out(h)


class OwnCell(nn.Module):
    """A recurrence written with parameters of its own."""

    def __init__(self):
        super().__init__()
        self.R, self.W = (
            nn.Parameter(torch.zeros(UNITS, UNITS)),
            nn.Parameter(torch.zeros(UNITS, 3)),
        )
        self.out = nn.Linear(UNITS, 2)

    def forward(self, x):
        h = x.new_zeros(len(x), UNITS)
        for frame in x.unbind(1):
            h = torch.tanh(frame @ self.W.T + h @ self.R.T)
        return self.out(h)


class Vectors(Cell):
    """A cell of a user whose units remember only themselves."""

    deep = False
    nonlinearity = "relu"

    def __init__(self, input_size, hidden_size, depth=1, batch_first=True, **common):
        super().__init__(input_size, hidden_size, depth, batch_first=batch_first, **common)
        self.W = nn.Parameter(torch.empty(hidden_size, input_size))
        self.u = nn.Parameter(torch.empty(hidden_size))
        self.reset_parameters()

    def step(self, x, s):
        return torch.relu(x @ self.W.T + self.u * s)

    def layers(self):
        return (Layer(input=Part("W"), recurrent=Part("u")),)


class Polyphonic(nn.Module):
    """A cell of ours, with an output of the last frame."""

    def __init__(self, cell="dt-rnn", depth=1, init="gaussian:1e-4"):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        sizes = {"hidden_size": UNITS, "depth": depth, "input_size": 3, "output_size": 2}
        self.model = PolyphonicModel(cell, **sizes, init=init, generator=generator)

    def forward(self, x):
        return self.model(x.transpose(0, 1))[-1]


class Words(nn.Module):
    """An embedding of symbols, then an LSTM that reads it packed."""

    def __init__(self, sparse=False):
        super().__init__()
        self.table = nn.Embedding(3, 5, padding_idx=2, sparse=sparse)
        self.rnn, self.out = nn.LSTM(5, UNITS, batch_first=True), nn.Linear(UNITS, 2)
        with torch.no_grad():
            self.table.weight.mul_(1e-4)

    def forward(self, x):
        lengths = torch.full((len(x),), x.shape[1])
        words = self.table(x.argmax(-1))
        packed = nn.utils.rnn.pack_padded_sequence(words, lengths, batch_first=True)
        return self.out(self.rnn(packed)[1][0][-1])


def parametrised():
    model = Reader(nn.RNN)
    nn.utils.parametrizations.orthogonal(model.rnn, "weight_hh_l0")
    return model


def recall(frames=6, examples=128):
    """Remember which of two symbols was read first."""
    generator = torch.Generator().manual_seed(0)
    symbols = torch.randint(0, 2, (examples,), generator=generator)
    x = torch.zeros(examples, frames, 3)
    x[range(examples), 0, symbols] = 1
    x[:, 1:, 2] = 1
    return x, symbols


def made(build):
    torch.manual_seed(0)
    return build()


def training_of(model, frames=6, optimizer="adam"):
    rate = {"learning_rate": 1e-3} if optimizer == "adam" else {}
    return Training(model, *recall(frames), "cross-entropy", optimizer, batch_axis=0, **rate)


def named(training):
    return {start.words: start for start in starts_of(training)}


def applied(start, training):
    """A copy of the model with these initial weights."""
    return Change(start).applied(training).model


MODELS = {
    "LSTM of two layers": lambda: Reader(num_layers=2),
    "bidirectional GRU": lambda: nn.Sequential(nn.Flatten(2), Reader(nn.GRU, bidirectional=True)),
    "own loop": OwnLoop,
    "own cell": OwnCell,
    "deep transition": lambda: Polyphonic(depth=3),
    "RHN": lambda: Polyphonic("rhn", depth=2),
    "a normalisation": lambda: nn.Sequential(Reader(), nn.BatchNorm1d(2), nn.Linear(2, 2)),
    "a parametrisation": parametrised,
    "an embedding": Words,
    "no recurrence": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(18, 7), nn.Tanh(), nn.Linear(7, 2)
    ),
}


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_the_lines_of_every_start_give_the_network_that_is_tried(build):
    model = made(build)
    training = training_of(model)
    every = list(starts_of(training))
    assert len(every) >= 3
    for start in every[1:]:
        tried, fresh = applied(start, training), copy.deepcopy(model)
        exec(start.code, {"model": fresh})
        torch.testing.assert_close(fresh.state_dict(), tried.state_dict(), rtol=0, atol=0)
        same = zip(fresh.parameters(), model.parameters(), strict=True)
        assert not all(torch.equal(p, q) for p, q in same), start.words


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_a_start_begins_at_the_best_constant_output(build):
    training = training_of(made(build))
    x, y = training.data.sample(128)
    best = (y.bincount() / len(y)).log()
    for words, start in named(training).items():
        if "output.bias" in start.code or "out.bias" in start.code:
            mean = applied(start, training)(x).mean(0).log_softmax(0)
            torch.testing.assert_close(mean, best, rtol=0, atol=2e-3, msg=words)


@pytest.mark.parametrize(("kind", "blocks", "memory"), [(nn.LSTM, 4, 1), (nn.GRU, 3, 1)])
def test_gates_follow_the_layouts_of_torch(kind, blocks, memory):
    training = training_of(made(lambda: Reader(kind)), frames=9)
    found = named(training)
    plain = applied(found["orthogonal matrices"], training).rnn
    chrono = applied(found["orthogonal matrices, chrono gates"], training).rnn
    bias = plain.bias_ih_l0.view(blocks, UNITS)
    assert (bias[memory] == 1).all() and not plain.bias_hh_l0.any()
    assert not bias[[k for k in range(blocks) if k != memory]].any()
    for block in plain.weight_hh_l0.split(UNITS):
        torch.testing.assert_close(block @ block.T, torch.eye(UNITS), rtol=0, atol=1e-5)
    long = chrono.bias_ih_l0.view(blocks, UNITS)[memory]
    assert (long >= 0).all() and (long <= np.log(8) + 1e-6).all()
    if kind is nn.LSTM:
        assert torch.equal(chrono.bias_ih_l0[:UNITS], -long)


def test_closed_transform_gates_keep_memories():
    training = training_of(Polyphonic("rhn"))
    model = applied(named(training)["orthogonal matrices"], training)
    assert (model.model.cells[0].bias[:, UNITS:] == -1).all()


@pytest.mark.parametrize("shared", [False, True])
def test_embeddings_are_drawn_without_their_padding_and_a_matrix_behind_reads_no_data(shared):
    model = made(lambda: Words(sparse=not shared))
    if shared:
        model.out = nn.Linear(5, 3)
        model.out.weight, model.rnn = model.table.weight, nn.LSTM(5, 5, batch_first=True)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    training = training_of(model, optimizer=optimizer)
    drawn = applied(named(training)["matrices of 1/sqrt(n)"], training)
    table = drawn.table.weight
    assert 0.5 < table[:2].std() / (5**-0.5 if shared else 1) < 1.5 and not table[2].any()
    assert drawn.rnn.weight_ih_l0.std().item() == pytest.approx(5**-0.5, rel=0.1)


def test_frozen_and_unused_parameters_stay_and_shared_ones_stay_shared():
    model = made(lambda: Reader(nn.RNN, num_layers=2))
    model.rnn.weight_hh_l1 = model.rnn.weight_hh_l0
    model.rnn.weight_ih_l0.requires_grad_(False)
    moved = [p for name, p in model.named_parameters() if name != "out.weight"]
    training = training_of(model, optimizer=torch.optim.Adam(moved, lr=1e-3))
    for start in list(starts_of(training))[2:]:
        changed = applied(start, training)
        assert torch.equal(changed.rnn.weight_ih_l0, model.rnn.weight_ih_l0)
        assert torch.equal(changed.out.weight, model.out.weight)
        assert changed.rnn.weight_hh_l1 is changed.rnn.weight_hh_l0


def test_a_start_is_one_call_on_any_model():
    model = made(lambda: Reader(nn.RNN))
    trainability.starts.orthogonal_(model)
    W = model.rnn.weight_hh_l0.detach()
    torch.testing.assert_close(W @ W.T, torch.eye(UNITS), rtol=0, atol=1e-5)
    assert 0.3 < model.rnn.weight_ih_l0.std() * 3**0.5 < 1.7 and not model.rnn.bias_ih_l0.any()


# Half of the units sense, half remember


def ours(name, depth=1):
    def build(inputs, units, batch_first):
        generator = torch.Generator().manual_seed(0)
        return CELLS[name](inputs, units, depth, batch_first=batch_first, generator=generator)

    return build


PLAIN = {
    "RNN of torch": lambda: Reader(nn.RNN),
    "without biases": lambda: Reader(nn.RNN, bias=False),
    "two layers": lambda: Reader(nn.RNN, num_layers=2),
    "ReLU": lambda: Reader(nn.RNN, nonlinearity="relu"),
    "two directions": lambda: Reader(nn.RNN, num_layers=2, bidirectional=True),
    "RNNCell": lambda: OwnLoop(nn.RNNCell),
    "our RNN": lambda: Reader(ours("rnn")),
    "deep transition": lambda: Reader(ours("dt-rnn", 3)),
    "deep transition with shortcuts": lambda: Reader(ours("dts-rnn", 3)),
}
OTHERS = {
    "GRU": lambda: Reader(nn.GRU),
    "RHN": lambda: Reader(ours("rhn", 2)),
    "vectors": lambda: Reader(Vectors),
}


@pytest.mark.parametrize("build", PLAIN.values(), ids=PLAIN)
def test_from_sensing_and_remembering_units_the_gradient_sees_all_steps(build):
    training = training_of(made(build), FRAMES)
    reach = measure_reach(Change(named(training)[MEMORY]).applied(training))
    assert reach.seen == FRAMES and not reach.explodes


@pytest.mark.parametrize("build", OTHERS.values(), ids=OTHERS)
def test_other_recurrences_have_no_such_start(build):
    assert MEMORY not in named(training_of(made(build), FRAMES))


def test_half_senses_without_recurrence_and_half_rotates():
    training = training_of(made(PLAIN["RNN of torch"]), FRAMES)
    rnn = applied(named(training)[MEMORY], training).rnn
    R, W = rnn.weight_hh_l0.detach(), rnn.weight_ih_l0.detach()
    half = UNITS - UNITS // 4 * 2
    assert not R[:half].any() and not W[half:].any() and W[:half].all(1).all()
    z = torch.linalg.eigvals(R[half:, half:])
    angles = z.angle().abs()
    assert (z.abs() - 1).abs().max() < 1e-5
    assert angles.min() > 0.999 * math.pi / FRAMES and abs(angles.max() - math.pi) < 1e-3


def test_later_layers_of_a_deep_transition_pass_the_memory_on():
    training = training_of(made(PLAIN["deep transition with shortcuts"]), FRAMES)
    cell = applied(named(training)[MEMORY], training).rnn
    assert torch.equal(cell.weight_hh[1:], torch.eye(UNITS).expand(2, -1, -1))
    assert not cell.weight_skip.any()


# What the gradient sees


class Leaky(nn.Module):
    """h[t] = r h[t-1] + w x[t]; the output is the last state, or every state."""

    def __init__(self, r, last=True, turned=False):
        super().__init__()
        self.r, self.last, self.turned = r, last, turned
        self.w, self.out = nn.Parameter(torch.ones(1)), nn.Linear(1, 1)

    def forward(self, x):
        x.mul_(2)  # in place
        h, states = x.new_zeros(len(x), 1), []
        for frame in x.unbind(1):
            h = self.r * h + self.w * frame
            states.append(h)
        outputs = self.out(h if self.last else torch.stack(states, 1))
        return outputs.transpose(1, 2) if self.turned else outputs


def reach_of(model, loss="mse", frames=12):
    x = torch.randn(64, frames, 1, generator=torch.Generator().manual_seed(0))
    y = x.sum(1) if model.last else x.cumsum(1)
    y = y.transpose(1, 2) if model.turned else y
    training = Training(model, x, y, loss, "adam", learning_rate=1e-3, batch_axis=0)
    return measure_reach(training)


@pytest.mark.parametrize("kind", [{}, {"last": False}, {"last": False, "turned": True}])
@pytest.mark.parametrize("r", [0.3, 0.9])
def test_the_gradient_of_a_leaky_sum_falls_as_its_leak(r, kind):
    found = reach_of(made(lambda: Leaky(r, **kind)))
    assert found.norms / found.norms[0] == pytest.approx(r ** np.arange(12), rel=1e-4)
    assert found.blind == (r == 0.3) and not found.explodes


def test_the_last_frame_with_a_loss_counts():
    def early(output, y):
        return (output[:, :8] - y[:, :8]).square().mean()

    assert reach_of(Leaky(0.9, last=False), early).frames == 8


def test_symbols_are_seen_through_their_embedding():
    class Ids(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.net = nn.Embedding(5, 3), Reader(nn.GRU, outputs=5)

        def forward(self, x):
            return self.net(self.table(x))

    x = torch.randint(0, 5, (64, 12), generator=torch.Generator().manual_seed(0))
    model, parts = made(Ids), {"learning_rate": 1e-3, "batch_axis": 0}
    found = measure_reach(Training(model, x, x[:, -1], "cross-entropy", "adam", **parts))
    assert found.frames == 12 and (np.diff(found.norms[:4]) < 0).all()


def test_blindness_and_explosions_are_sentences():
    blind = Reach(np.array([1.0, 0.5, *[0.0] * 8]))
    assert "comes only from the last 2 of 10 steps" in blind.warning
    assert "explodes towards earlier steps" in Reach(10.0 ** np.arange(10)).warning
    assert not Reach(np.ones(10)).warning
    assert Reach(np.array([1.0, 0.0])).unevenness == np.inf
    assert Reach(np.ones(10)).unevenness == pytest.approx(0)


def test_what_has_no_steps_has_no_reach():
    x = torch.randn(64, 5, generator=torch.Generator().manual_seed(0))
    parts = {"learning_rate": 1e-3, "batch_axis": 0}
    training = Training(nn.Linear(5, 1), x, x[:, :1], "mse", "adam", **parts)
    assert measure_reach(training) is None
