"""Modules that are called without a first state: the form of the state that a second call tells,
batches of one and of none, and refusals.
"""

import pytest
import torch
from oracles import close
from torch import nn
from user_modules import Diagonal, Vectors, WithState

from gersgorin.first_states import has_rows
from gersgorin.kinds import is_recurrent, is_step, required
from gersgorin.run import open_run
from gersgorin.smoothness import difference
from rhn.errors import InvalidInputError
from tests.numbers.record import M, N, X, filled


class MinGRU(nn.Module):
    """minGRU (Feng et al. 2024), whose gate and candidate read no state; it returns h alone."""

    def __init__(self):
        super().__init__()
        self.gate, self.candidate = nn.Linear(M, N), nn.Linear(M, N)

    def forward(self, x, h=None):
        h = x.new_zeros(len(x), N) if h is None else h
        z = torch.sigmoid(self.gate(x))
        return (1 - z) * h + z * self.candidate(x)


class EchoState(nn.Module):
    """An echo state network with feedback of its output y; it returns (y, (h, y))."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        sizes = {"inner": (N, N), "read": (M, N), "back": (2, N), "out": (N, 2)}
        for name, size in sizes.items():
            self.register_buffer(name, torch.randn(size, generator=generator) / 3)

    def forward(self, x, state=None):
        h, y = (x.new_zeros(len(x), N), x.new_zeros(len(x), 2)) if state is None else state
        h = torch.tanh(h @ self.inner + x @ self.read + y @ self.back)
        y = h @ self.out
        return y, (h, y)


class Pair(nn.Module):
    """An LSTM cell that returns (h, c)."""

    def __init__(self):
        super().__init__()
        self.gates = nn.Linear(M + N, 4 * N)

    def forward(self, x, state=None):
        h, c = (x.new_zeros(len(x), N),) * 2 if state is None else state
        i, f, g, o = self.gates(torch.cat((x, h), 1)).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c


class WithOutput(nn.Module):
    """A cell that returns (output, h), whose sizes are equal."""

    def __init__(self):
        super().__init__()
        self.cell, self.out = nn.Linear(M + N, N), nn.Linear(N, N)

    def forward(self, x, h=None):
        h = x.new_zeros(len(x), N) if h is None else h
        h = torch.tanh(self.cell(torch.cat((x, h), 1)))
        return self.out(h), h


class OneRow(nn.Module):
    """A cell that reads x (m,), and returns h (n,)."""

    def __init__(self, units=N):
        super().__init__()
        self.w, self.B = nn.Parameter(torch.empty(units)), nn.Parameter(torch.empty(units, M))

    def forward(self, x, h=None):
        h = x.new_zeros(len(self.w)) if h is None else h
        return torch.tanh(self.w * h + self.B @ x)


class OneRowWithOutput(OneRow):
    """The same with an output."""

    def forward(self, x, h=None):
        h = super().forward(x, h)
        return h.sum(), h


ROW, NO_ROW = (1, N), (N,)
FORMS = [
    pytest.param(MinGRU(), torch.zeros(ROW), id="h"),
    pytest.param(Pair(), (torch.zeros(ROW), torch.zeros(ROW)), id="(h, c)"),
    pytest.param(WithOutput(), torch.zeros(ROW), id="(output, h)"),
    pytest.param(EchoState(), (torch.zeros(ROW), torch.zeros(1, 2)), id="(output, (h, y))"),
    pytest.param(OneRow(), torch.zeros(NO_ROW), id="h of one row"),
    pytest.param(OneRow(2), torch.zeros(2), id="h of one row, two units"),
    pytest.param(OneRowWithOutput(), torch.zeros(NO_ROW), id="(output, h) of one row"),
]


@pytest.mark.parametrize(("module", "zeros"), FORMS)
def test_a_cell_that_runs_without_a_state_starts_from_zeros_of_its_form(module, zeros):
    module = filled(module)
    run = open_run(module, X)
    known = open_run(module, X, zeros)
    close(run.states, known.states)
    assert (run.states[0] == 0).all()
    A, (x, s) = run.jacobians(), run.at()
    assert (difference(run.step.rows, x, s, lambda v: (A @ v[..., None])[..., 0]) < 1e-7).all()


def test_a_complex_weight_after_a_real_one_makes_zeros_complex():
    module = Diagonal(M)
    module.B = nn.Parameter(module.B.detach().real.clone())
    assert open_run(module, X).states.shape == (len(X) + 1, 2 * 2)


@pytest.mark.parametrize(
    ("shapes", "wanted"),
    [
        pytest.param([(1, N), (1, 2, N)], True, id="one row each"),
        pytest.param([(1, N), (2, N)], False, id="two rows"),
        pytest.param([(1, N), (1,)], False, id="no axis of rows"),
    ],
)
def test_a_state_of_one_row_has_it_as_the_first_axis_of_each_tensor(shapes, wanted):
    assert has_rows([torch.zeros(shape) for shape in shapes]) is wanted


class Sized(WithState):
    """A module (x, state) of known size."""

    state_size = N, N


class Reads(Vectors):
    """A step that also reads inputs without a state."""

    def forward(self, x):
        return self.B(x)


class Unsized(Reads):
    """The same of unknown size."""

    def __init__(self, inputs, units):
        super().__init__(inputs, units)
        del self.state_size


class NeedsState(WithState):
    """Requires its state."""

    def forward(self, x, state):
        return super().forward(x, state)


@pytest.mark.parametrize(
    ("network", "has_state", "wanted"),
    [
        pytest.param(torch.add, False, True, id="function"),
        pytest.param(nn.GRU(M, N), False, True, id="layer"),
        pytest.param(Vectors(M, N), False, True, id="method"),
        pytest.param(NeedsState(M, N), False, True, id="required state"),
        pytest.param(Unsized(M, N), False, True, id="method beside forward"),
        pytest.param(OneRow(), False, True, id="optional state, no layer inside"),
        pytest.param(WithState(M, N), False, False, id="optional state, a layer inside"),
        pytest.param(WithState(M, N), True, True, id="optional state that is given"),
        pytest.param(nn.Sequential(nn.GRU(M, N)), True, False, id="no state"),
    ],
)
def test_a_step_takes_a_state_that_is_given_or_needed(network, has_state, wanted):
    assert is_step(network, has_state) is wanted


@pytest.mark.parametrize(
    ("module", "wanted"),
    [
        pytest.param(nn.GRUCell(M, N), True, id="of torch"),
        pytest.param(Reads(M, N), True, id="step of known size"),
        pytest.param(Sized(M, N), True, id="module of known size"),
        pytest.param(WithState(M, N), False, id="module of unknown size"),
        pytest.param(nn.Linear(M, N), False, id="no state"),
    ],
)
def test_a_layer_is_of_a_library_or_a_step_of_known_size(module, wanted):
    assert is_recurrent(module) is wanted


def test_a_first_state_that_asks_for_an_argument_is_not_declared():
    class Asks(Vectors):
        def initial_state(self, rows):
            return torch.ones(rows, N)

    assert not open_run(Asks(M, N), X).states[0].any()


def test_a_row_of_one_number_is_no_batch_if_the_state_has_no_axis_of_the_batch():
    """A matrix (n, 1) also multiplies x (1, 1), but the result has no row of a batch."""
    cell, x = OneRow(), torch.ones(7, 1)
    cell.B = nn.Parameter(torch.empty(N, 1))
    run = open_run(filled(cell), x)
    assert run.state_size == N
    close(run.states, open_run(cell, x, torch.zeros(N)).states)


class EitherForm(nn.Module):
    """Takes what it returns, and also its second part, as its state."""

    def forward(self, x, state=None):
        h = x.new_zeros(len(x), N) if state is None else state
        h = h[1] if isinstance(h, tuple) else h
        h = torch.tanh(h + x.sum(1, keepdim=True))
        return h, h


class FromOnes(nn.Module):
    """Starts from ones."""

    def forward(self, x, h=None):
        h = x.new_ones(len(x), N) if h is None else h
        return torch.tanh(h + x[:, :1])


class NoState(nn.Module):
    """Returns no state."""

    def forward(self, x, state=None):
        return x.sum(1) if state is None else x[:, :0]


class Growing(nn.Module):
    """Returns the last number of x once, and once more for each number of its state."""

    def forward(self, x, state=None):
        more = 0 if state is None else state.shape[1]
        return x[:, -1:].repeat(1, 1 + more)


class Needs(nn.Module):
    """Has no first state of its own."""

    def forward(self, x, h):
        return torch.tanh(h + x[:, :1])


NONE = "^s0 is None: expected the first state of"


@pytest.mark.parametrize(
    ("module", "said"),
    [
        pytest.param(EitherForm(), f"{NONE} EitherForm, which takes both", id="both forms run"),
        pytest.param(FromOnes(), f"{NONE} FromOnes, or its state_size$", id="no start from zeros"),
        pytest.param(NoState(), f"{NONE} NoState, or its state_size$", id="no form runs"),
        pytest.param(Growing(), f"{NONE} Growing, or its state_size$", id="a state that grows"),
        pytest.param(Needs(), "^s0 is None and Needs fails without a state: TypeError", id="needs"),
    ],
)
def test_a_first_state_that_a_second_call_does_not_tell_is_refused(module, said):
    with pytest.raises(InvalidInputError, match=said):
        open_run(module, X)


class Timed(nn.Module):
    """A cell that requires the time between two steps."""

    def forward(self, x, h, time, *more, scale=1.0, **others):
        return torch.tanh(h + time * scale * x[:, :1])


@pytest.mark.parametrize("s0", [pytest.param(None, id="no s0"), pytest.param(ROW, id="s0")])
def test_a_third_argument_that_a_cell_requires_is_named(s0):
    s0 = None if s0 is None else torch.zeros(s0)
    said = "^what Timed requires is x, h, time: expected x and a state; give the rest in a step"
    with pytest.raises(InvalidInputError, match=said):
        open_run(Timed(), X, s0)
    run = open_run(lambda x, h: Timed()(x, h, 0.5), X, torch.zeros(1, N, dtype=torch.float64))
    close(run.states[1], torch.tanh(0.5 * X[0, :1]).expand(N))


class OfThree(nn.Module):
    """A model with a layer, which requires three arguments."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(M, N)

    def forward(self, x, scale, shift):
        return self.rnn(scale * x + shift)[0]


def test_a_model_of_three_arguments_is_measured_at_its_layer():
    model, x = filled(OfThree()), X[:, None]
    run = open_run(model, (x, torch.tensor(2.0), torch.tensor(1.0)))
    close(run.inputs, 2 * X + 1)


def test_a_built_in_forward_requires_no_known_arguments():
    module = nn.Module()
    module.forward = dict  # has no signature
    assert required(module) == []
