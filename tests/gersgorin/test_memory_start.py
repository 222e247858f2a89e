"""Half of the units sense, half remember: what this start of a plain recurrence is, sees and
learns.
"""

import copy
import math

import pytest
import torch
from torch import nn

import gersgorin
from gersgorin.checking.reach import measure_reach
from gersgorin.checking.starts import MEMORY, starts
from gersgorin.training.training import Training
from rhn.cells import CELLS, Cell, Layer, Part
from rhn.cells.init import rotations
from rhn.errors import InvalidInputError

FRAMES, UNITS = 60, 18


class Reader(nn.Module):
    """A recurrence whose last output is read."""

    def __init__(self, rnn):
        super().__init__()
        torch.manual_seed(0)
        self.rnn = rnn()
        self.out = nn.LazyLinear(1)

    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1])


class Vectors(Cell):
    """A cell of a user whose units remember only themselves."""

    deep = False
    nonlinearity = "relu"

    def __init__(self, input_size, hidden_size, depth=1, **common):
        super().__init__(input_size, hidden_size, depth, **common)
        self.W = nn.Parameter(torch.empty(hidden_size, input_size))
        self.u = nn.Parameter(torch.empty(hidden_size))
        self.reset_parameters()

    def step(self, x, s):
        return torch.relu(x @ self.W.T + self.u * s)

    def layers(self):
        return (Layer(input=Part("W"), recurrent=Part("u")),)


class Stepped(nn.Module):
    """A cell of torch that the user calls for each frame."""

    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.RNNCell(2, UNITS), nn.Linear(UNITS, 1)

    def forward(self, x):
        h = None
        for frame in x.unbind(1):
            h = self.rnn(frame, h)
        return self.out(h)


def product(frames=FRAMES, examples=256):
    """Multiply the first number of each half, which a mark names."""
    g = torch.Generator().manual_seed(0)
    x = torch.rand(examples, frames, 2, generator=g)
    x[..., 1] = 0
    x[:, [0, frames // 2], 1] = 1
    return x, x[:, [0, frames // 2], 0].prod(1, keepdim=True)


def loop_of(model):
    x, y = product()
    with torch.no_grad():
        model(x)
    return Training(model, x, y, "mse", "adam", learning_rate=2e-3, batch_axis=0)


def ours(name, depth=1):
    return lambda: CELLS[name](
        2, UNITS, depth, batch_first=True, generator=torch.Generator().manual_seed(0)
    )


PLAIN = {
    "RNN of torch": lambda: Reader(lambda: nn.RNN(2, UNITS, batch_first=True)),
    "without biases": lambda: Reader(lambda: nn.RNN(2, UNITS, bias=False, batch_first=True)),
    "two layers": lambda: Reader(lambda: nn.RNN(2, UNITS, 2, batch_first=True)),
    "ReLU": lambda: Reader(lambda: nn.RNN(2, UNITS, nonlinearity="relu", batch_first=True)),
    "two directions": lambda: Reader(
        lambda: nn.RNN(2, UNITS, 2, batch_first=True, bidirectional=True)
    ),
    "RNNCell": Stepped,
    "our RNN": lambda: Reader(ours("rnn")),
    "deep transition": lambda: Reader(ours("dt-rnn", 3)),
    "deep transition with shortcuts": lambda: Reader(ours("dts-rnn", 3)),
}
OTHERS = {
    "GRU": lambda: nn.GRU(2, UNITS, batch_first=True),
    "RHN": ours("rhn", 2),
    "leaky": ours("leaky"),
    "vectors": lambda: Vectors(2, UNITS, batch_first=True),
    "three units": lambda: nn.RNN(2, 3, batch_first=True),
}


def memory_of(model):
    """(Loop, the start, or None)."""
    loop = loop_of(model)
    return loop, next((start for start in starts(loop) if start.words == MEMORY), None)


@pytest.mark.parametrize("build", PLAIN.values(), ids=PLAIN)
def test_the_gradient_sees_all_steps_and_the_lines_give_these_weights(build):
    loop, start = memory_of(build())
    changed, fresh = start.applied(loop.model), copy.deepcopy(loop.model)
    exec(start.code, {"model": fresh, "torch": torch, "nn": nn})
    torch.testing.assert_close(fresh.state_dict(), changed.state_dict(), rtol=0, atol=0)
    reach = measure_reach(loop, changed)
    assert reach.seen == FRAMES and not reach.explodes


@pytest.mark.parametrize("kind", ["RNN of torch", "our RNN"])
def test_its_gradient_is_far_more_even_than_those_of_other_starts(kind):
    loop, memory = memory_of(PLAIN[kind]())
    reaches = {
        start.words: measure_reach(loop, start.applied(loop.model)) for start in starts(loop)
    }
    most = reaches.pop(memory.words).unevenness
    assert all(reach.unevenness > 2 * most for reach in reaches.values()), {
        w: r.unevenness for w, r in reaches.items()
    }


@pytest.mark.parametrize("layer", [0, 1])
def test_half_senses_without_recurrence_and_half_rotates(layer):
    loop, start = memory_of(PLAIN["two layers"]())
    rnn = start.applied(loop.model).rnn
    R, W = (getattr(rnn, f"weight_{kind}_l{layer}").detach() for kind in ("hh", "ih"))
    half = UNITS - UNITS // 4 * 2
    assert not R[:half].any() and not W[half:].any() and W[:half].all(1).all()
    written = R[half:, :half]
    assert abs(written.norm() / (0.4 * math.sqrt((UNITS - half) / FRAMES)) - 1) < 0.3
    z = torch.linalg.eigvals(R[half:, half:])
    angles = z.angle().abs()
    assert (z.abs() - 1).abs().max() < 1e-5
    assert angles.min() > 0.999 * math.pi / FRAMES and abs(angles.max() - math.pi) < 1e-3


def test_angles_are_evenly_spaced_in_their_logarithm():
    angles = torch.linalg.eigvals(rotations(5, 81)).angle().abs().sort().values[::2]
    torch.testing.assert_close(angles[1:] / angles[:-1], torch.full((4,), 3.0, dtype=torch.float64))


def test_later_layers_of_a_deep_transition_pass_the_memory_on():
    loop, start = memory_of(PLAIN["deep transition with shortcuts"]())
    cell = start.applied(loop.model).rnn
    assert (
        torch.equal(cell.weight_hh[1:], torch.eye(UNITS).expand(2, -1, -1))
        and not cell.weight_skip.any()
    )


@pytest.mark.parametrize("build", OTHERS.values(), ids=OTHERS)
def test_other_recurrences_have_no_such_start(build):
    assert memory_of(Reader(build))[1] is None


def test_weights_that_are_not_trained_stay():
    model = PLAIN["RNN of torch"]()
    model.rnn.weight_hh_l0.requires_grad_(False)
    assert memory_of(model)[1] is None


def test_by_name_it_remembers_the_steps_of_the_data():
    cell = CELLS["rnn"](3, UNITS, init="memory:40", generator=torch.Generator().manual_seed(0))
    run = gersgorin.open_run("rnn", torch.rand(40, 3), hidden_size=UNITS, init="memory")
    torch.testing.assert_close(run.cell.module.weight_hh.float(), cell.weight_hh)


def test_by_name_it_is_refused_with_gates():
    with pytest.raises(InvalidInputError, match="expected a tanh or ReLU cell without gates"):
        CELLS["gru"](3, UNITS, init="memory")


def test_a_plain_recurrence_that_is_stuck_learns_from_it_at_a_rate_that_keeps_its_gradient():
    x, y = product(examples=640)
    model = Reader(lambda: nn.RNN(2, 32, batch_first=True))
    model(x)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
    found = gersgorin.cure(model, x, y, "mse", optimizer, steps=400, seconds=600, clip_norm=1.0)
    assert found.outcome == "cured" and found.changes[0] == MEMORY and found.learning_rate < 2e-2
