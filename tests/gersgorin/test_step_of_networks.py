"""Any network as one step of rows: recorded states and Jacobians, forms of networks and inputs,
and refusals.
"""

import itertools
import math

import numpy as np
import pytest
import torch
from oracles import close
from torch import nn
from user_modules import Layered, OnlyStep, Vectors, WithState

from gersgorin.jacobians import LargeJacobian, jacobians
from gersgorin.linalg import jacobian_product
from gersgorin.run import Run, open_run
from gersgorin.smoothness import difference
from gersgorin.step import as_step
from rhn.cells import StackedCell, make_cell
from rhn.errors import InvalidInputError, NotFiniteError
from tests.numbers.record import M, N, T, X, filled, pair

NAMES = {"title": "net", "data": "x", "unit": "time steps"}


class OneRow(nn.Module):
    """(x, s) -> s of one row, with a new tensor of zeros at every step."""

    def __init__(self):
        super().__init__()
        self.W, self.B = nn.Linear(N, N), nn.Linear(M, N)

    def forward(self, x, s):
        return torch.tanh(self.W(torch.cat([s[:2], torch.zeros(1), s[3:]])) + self.B(x))


LSTM = filled(nn.LSTM(M, N))
LOSSY = filled(nn.LSTM(M, 5, 2, proj_size=2))
MODULES = {
    "module of two tensors": filled(WithState(M, N)),
    "time first": filled(Layered(M, N)),
    "batch first": filled(Layered(M, N, batch_first=True)),
    "step of vectors": filled(Vectors(M, N)),
    "cell with only a step": filled(OnlyStep(M, N)),
    "stack of such cells": filled(StackedCell([OnlyStep(M, N), OnlyStep(N, N)])),
    "projection": LOSSY,
    "module of one row": filled(OneRow()),
    "torch.nn cell": filled(nn.GRUCell(M, N)),
    "function": lambda x, s: torch.sigmoid(s.flip(0) * x.sum()),
}


STATES = {"function": torch.rand(4).double(), "module of two tensors": (torch.zeros(1, N),) * 2,
          "module of one row": torch.ones(N)}  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_jacobians_are_central_differences(name):
    how = {"s0": STATES[name]} if name in STATES else {}
    run = open_run(MODULES[name], X, **how)
    A, (x, s) = run.jacobians(), run.at()
    assert (difference(run.step.rows, x, s, lambda v: (A @ v[..., None])[..., 0]) < 1e-7).all()
    one = run.states[0]
    for x_t in x:  # by hand, one row at a time
        one = run.step.rows(x_t[None], one[None])[0]
    close(one, run.states[-1])


def test_layers_of_torch_stand_one_after_the_other():
    lstm = filled(nn.LSTM(M, 4, 2))
    h, c = torch.rand(2, 2, 1, 4, dtype=torch.float64)
    _, (h1, c1) = lstm(X[:, None], (h, c))
    run = open_run(lstm, X, (h, c))
    close(run.states[-1], torch.cat([h1[0, 0], c1[0, 0], h1[1, 0], c1[1, 0]]).detach())


@pytest.mark.parametrize("batch_first", [True, False])
def test_the_rows_of_a_state_of_two_axes_are_its_first_axis(batch_first):
    W = torch.rand(N, N).double()

    class OneState(nn.Module):
        def forward(self, x, s):
            return x, torch.tanh(s @ W) + x.reshape(len(s), M).sum(1, keepdim=True)

    run = open_run(OneState(), X, torch.ones(1, N), batch_first=batch_first)
    wanted = torch.autograd.functional.jacobian(lambda s: torch.tanh(s @ W), run.states[3])
    assert torch.allclose(run.jacobians()[3], wanted)


FORMS = {  # of one sequence X (T, m)
    "tensor": lambda axis: X,
    "array": lambda axis: X.numpy(),
    "batch of one": lambda axis: X.unsqueeze(axis),
    "array of one": lambda axis: X.unsqueeze(axis).numpy(),
}


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_one_sequence_has_the_same_states(batch_first, form):
    layer = filled(Layered(M, N, batch_first))
    x = FORMS[form](0 if batch_first else 1)
    close(open_run(layer, x).states, open_run(layer, X).states)


@pytest.mark.parametrize("batch_first", [True, False])
def test_the_layout_is_what_batch_first_says(batch_first):
    layer = filled(Layered(M, N, batch_first))
    batch = X[None] if batch_first else X[:, None]
    run = open_run(layer, batch)
    close(run.states[-1], layer(batch)[1].flatten().detach())
    with pytest.raises(InvalidInputError, match=r"expected one sequence of numbers \(T, m\)"):
        open_run(layer, X[:, None] if batch_first else X[None])


def test_ids_are_read_by_an_embedding():
    layer, ids = filled(Layered(M, N, ids=True)), torch.arange(12) % 7
    run = open_run(layer, ids, torch.zeros(2, 1, N))
    close(run.states[-1], layer(ids[:, None])[1].flatten().detach())
    close(open_run(layer, ids).states, run.states)  # of the layer inside
    assert run.jacobians().shape == (12, 2 * N, 2 * N)
    assert run.input_jacobians().shape == (12, 2 * N, 1) and run.input_jacobians().isnan().all()


def test_nothing_of_the_user_changes():
    layer = Layered(M, N).train().half()
    before = {name: t.clone() for name, t in layer.state_dict().items()}
    generator = torch.get_rng_state()
    with torch.inference_mode():
        open_run(layer, X.half(), torch.zeros(2, 1, N)).jacobians()
    assert layer.training and all(p.requires_grad and p.grad is None for p in layer.parameters())
    assert all(torch.equal(t, before[name]) for name, t in layer.state_dict().items())
    assert torch.equal(generator, torch.get_rng_state())
    assert torch.get_default_dtype() == torch.float32


def test_a_large_state_is_measured_by_products():
    step, x = as_step(LOSSY, X)
    s = open_run(LOSSY, X).states[3]
    A = jacobians(step, x[3:4], s[None])[0]
    products, Q = LargeJacobian(step, x[3], s), torch.rand(len(s), 2, dtype=torch.float64)
    close(products.push(Q).detach(), A @ Q)
    close(products.pull(Q.T), Q.T @ A)
    close(products.rows(slice(2, 5)), A[2:5])


def test_a_deep_cell_keeps_a_jacobian_that_underflows():
    cell = filled(make_cell("rhn", M, 4, depth=1500))
    step, x = as_step(cell, X[:1])
    run = Run(step=step, inputs=x, states=torch.zeros(2, 4).double(), **NAMES)
    ((_, A, e),) = run.blocks()
    P, log_scale = jacobian_product(torch.stack(cell.layer_jacobians(x[0], step.first)))
    close(float(e) * math.log(2) + A[0].norm().log(), log_scale + P.norm().log())
    assert e < -1000


def detached(x, s):
    return torch.sqrt(s * 0) + x[:1]


def mixing(x, state):
    return state - state.mean(0, keepdim=True) + x[..., :1]


class Mixing(nn.Module):
    def forward(self, x, state):
        return mixing(x, state)


class Numbered(nn.Module):
    """Multiplies each row by its number: a state of zeros does not show it."""

    def forward(self, x, state):
        return state * torch.arange(1.0, len(state) + 1).to(state)[:, None]


class Keeping(nn.Module):
    kept = 0.0

    def forward(self, x, state):
        self.kept = self.kept + 1
        return torch.tanh(state * self.kept)


def shared_noise(size):
    """A step with a random number of NumPy, which all rows of one batched call share."""
    rng = np.random.default_rng(0)
    return lambda x, s: torch.tanh(s) * (1 + size * rng.standard_normal())


def counting():
    """A step that changes at every second call."""
    calls = itertools.count()
    return lambda x, s: torch.tanh(s) * (1 + 0.1 * (next(calls) % 2))


ONE, S0 = torch.zeros(1, N), torch.zeros(N)
REFUSED = {
    "NaN in x": lambda: open_run(LSTM, X.log()),
    "text": lambda: open_run(LSTM, "bwv269"),
    "empty": lambda: open_run(LSTM, X[:0]),
    "sparse": lambda: open_run(LSTM, X.to_sparse()),
    "complex x": lambda: open_run(LSTM, X * 1j),
    "floating-point vector": lambda: open_run(LSTM, X[:, 0]),
    "no tensor": lambda: open_run(lambda x, s: s, X, ()),
    "state of a batch": lambda: open_run(MODULES["time first"], X, torch.zeros(2, 3, N)),
    "parts of other sizes": lambda: open_run(nn.GRU(M, 4, 2), X, (torch.zeros(3), torch.zeros(5))),
    "another state back": lambda: open_run(lambda x, s: s[:2], X, S0),
    "numpy back": lambda: open_run(lambda x, s: s.numpy(), X, S0),
    "an error": lambda: open_run(lambda x, s: s @ x, X, S0),
    "NaN in weights": lambda: open_run(filled(nn.GRU(M, N)).to(torch.float64).apply(
        lambda part: part.bias_hh_l0.data.fill_(torch.nan)), X),
    "a sequence beside a run": lambda: open_run(open_run(LSTM, X), X),
    "no start at zero": lambda: open_run(Starting(), X),
    "rows that mix": lambda: open_run(Mixing(), X, ONE),
    "rows that have a number": lambda: open_run(Numbered(), X, ONE),
    "kept state": lambda: open_run(Keeping(), X, ONE + 1),
    "random numbers": lambda: open_run(lambda x, s: s + torch.rand(N), X, S0),
    "random numbers of zeros": lambda: open_run(lambda x, s: s * torch.rand(N), X, S0),
    "random numbers that all rows share": lambda: open_run(shared_noise(0.1), X, S0.double()),
    "another number at each call": lambda: open_run(counting(), X, S0.double()),
}  # fmt: skip


class Starting(nn.Module):
    """Starts from zeros and ones."""

    def forward(self, x, state=None):
        h, c = (torch.zeros(1, N), torch.ones(1, N)) if state is None else state
        return x, (torch.tanh(h + x[:, :1]), torch.tanh(c))


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_is_one_sentence(name):
    with pytest.raises(InvalidInputError) as raised:
        REFUSED[name]()
    text = str(raised.value)
    assert "\n" not in text and text.count(": ") >= 1 and ". " not in text.rstrip("."), text
    assert "expected" in text or "Error" in text


@pytest.mark.parametrize(
    ("returned", "named"),
    [
        pytest.param(1.0, "float", id="a number"),
        pytest.param((torch.zeros(2), 0.5), r"torch\.float32 of shape \(2,\) and float", id="pair"),
        pytest.param((), "", id="nothing"),
        pytest.param(torch.zeros(2), r"torch\.float32 of shape \(2,\)", id="too short a state"),
    ],
)
def test_a_step_that_returns_no_tensor_of_the_state_is_refused_by_what_it_returns(returned, named):
    message = rf"^what .* returns is {named}: expected a state torch\.float32 of shape \({N},\)"
    with pytest.raises(InvalidInputError, match=message):
        open_run(lambda x, s: returned, X, S0)
    with pytest.raises(InvalidInputError, match=r"^what .* returns is torch.* and float: expected"):
        open_run(lambda x, s: (s[0], 0.5), X, (S0, S0))


class Rounded(nn.Module):
    """Adds a number to the rows of a batch, but not to a single one."""

    def __init__(self, size):
        super().__init__()
        self.size = size

    def forward(self, x, state):
        return torch.tanh(state) + self.size * (len(state) > 1)


def test_rows_of_a_batch_may_differ_from_single_steps_by_rounding_of_float32():
    assert len(open_run(Rounded(1e-6), X, ONE + 1)) == T
    with pytest.raises(InvalidInputError, match="rows are independent"):
        open_run(Rounded(1e-4), X, ONE + 1)


def test_each_state_of_a_batch_is_of_one_row():
    for rows in ((1, 3), (3, 1), (3, 3)):
        s0 = torch.zeros(2, rows[0], 2), torch.zeros(2, rows[1], 5)
        named = rf"\(2, {rows[0]}, 2\) and \(2, {rows[1]}, 5\)"
        with pytest.raises(InvalidInputError, match=f"^s0 is {named}: expected the state of a "):
            open_run(LOSSY, X, s0)


@pytest.mark.parametrize(
    ("size", "is_rounding"), [pytest.param(1e-12, True, id="rounding"), (1e-6, False)]
)
def test_two_calls_of_one_batch_may_differ_by_rounding_of_float64(size, is_rounding):
    step, s0 = shared_noise(size), S0.double() + 1
    if is_rounding:
        assert len(open_run(step, X, s0)) == T
        return
    with pytest.raises(InvalidInputError, match="another one at a second call"):
        open_run(step, X, s0)


@pytest.mark.parametrize(
    "size",
    [
        pytest.param((), id="no size"),
        pytest.param((4, 2.5), id="no whole number"),
        pytest.param((4, 0), id="0"),
        pytest.param(-1, id="negative"),
        pytest.param("4", id="text"),
    ],
)
def test_a_state_size_that_is_no_whole_number_is_refused(size):
    with pytest.raises(
        InvalidInputError, match=r"^state_size is .*: expected a whole number above"
    ):
        open_run(pair, X, state_size=size)


class RandomStart(nn.Module):
    """A layer whose first state is drawn at each call."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(M, N, batch_first=True)

    def forward(self, x):
        return self.rnn(x, torch.randn(1, len(x), N))[0]


def test_a_random_first_state_is_not_refused():
    one, other = (open_run(RandomStart(), X[None]) for _ in range(2))
    assert len(one) == T and not torch.equal(one.states[0], other.states[0])


def test_a_function_is_named_by_its_name():
    assert open_run(pair, X, state_size=(4, 2)).heading["network"] == "pair"
    assert open_run(lambda x, s: s, X, S0).heading["network"] == "f(x, s)"
    one_row = MODULES["module of one row"]
    assert open_run(one_row, X, STATES["module of one row"]).heading["network"] == "OneRow"


def test_a_state_without_an_axis_of_rows_is_none_of_a_batch():
    with pytest.raises(InvalidInputError, match=r"^s0 is \(1,\): expected the state of a batch of"):
        open_run(MODULES["time first"], X, torch.zeros(1))


def test_a_part_in_two_directions_is_refused():
    module = Layered(M, N)
    module.rnn = nn.GRU(M, N, bidirectional=True)
    with pytest.raises(InvalidInputError, match=r"^bidirectional is True"):
        open_run(module, X, torch.zeros(2, 1, N))


def test_a_part_of_a_cell_is_no_method_of_this_name():
    cell = OnlyStep(M, N)
    cell.norm_bound, cell.gates = nn.Linear(M, N), 0.5
    step, _ = as_step(cell, X)
    owned = [step.own(name) for name in ("norm_bound", "gates", "step")]
    assert owned == [None, None, step.cell.step]


def test_a_cell_that_returns_no_tensor_is_refused():
    class Wrapped(OnlyStep):
        def step(self, x, s):
            return (super().step(x, s),)

    with pytest.raises(InvalidInputError, match=r"^next state of Wrapped is tuple: expected torch"):
        open_run(Wrapped(M, N), X)


def test_own_methods_of_a_users_step_are_the_documented_ones():
    class Methods(Vectors):
        def norm_bound(self, size):
            return size

        gates = norm_bound

    step, _ = as_step(Methods(M, N), X)
    assert (step.own("norm_bound"), step.own("gates")) == (step.cell.norm_bound, None)
    assert as_step(lambda x, s: s, X, S0)[0].own("jacobian") is None


def test_a_run_is_returned_as_it_is_or_with_another_progress():
    run = open_run(lambda x, s: s, X, S0, progress=False)
    assert open_run(run) is run
    assert (open_run(run, progress=print).progress, run.progress) == (print, False)


def test_states_of_several_tensors_and_of_state_size():
    found = open_run(pair, X, (torch.zeros(4).double(), torch.zeros(2).double()))
    close(open_run(pair, X, state_size=(4, 2)).states, found.states)
    assert found.states.shape == (T + 1, N) and len(found) == T
    vectors = MODULES["step of vectors"]
    same = open_run(vectors.step, X, torch.zeros(N).double())
    close(open_run(vectors, X).states, same.states)


@pytest.mark.parametrize("count", [4, 12])
def test_a_state_of_more_or_fewer_numbers_than_the_cell_has_is_refused(count):
    said = rf"^s0 is {count} numbers: expected 8 for LSTM$"
    with pytest.raises(InvalidInputError, match=said):
        open_run(torch.nn.LSTM(3, 4), torch.rand(5, 3), torch.zeros(count))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        pytest.param(3, "int", id="a number"),
        pytest.param(nn.GRU, "the class GRU", id="a class"),
    ],
)
def test_what_is_no_network_is_refused_by_its_kind(given, said):
    with pytest.raises(InvalidInputError, match=f"^network is {said}: expected a module or"):
        open_run(given, X)


@pytest.mark.parametrize(
    ("s0", "said"),
    [
        pytest.param((), "empty", id="no tensor"),
        pytest.param(torch.zeros(2, dtype=torch.float16), "torch.float16", id="half precision"),
    ],
)
def test_a_first_state_of_another_type_is_refused_by_its_types(s0, said):
    with pytest.raises(InvalidInputError, match=f"^s0 is {said}: expected tensors in float32"):
        open_run(lambda x, s: s, X, s0)


def test_one_weight_that_is_not_finite_is_refused_by_its_name():
    layer = torch.nn.GRU(3, 4)
    layer.weight_hh_l0.data[2, 1] = torch.nan
    with pytest.raises(NotFiniteError, match=r"^weights of GRU are NaN .* in weight_hh_l0"):
        open_run(layer, torch.rand(5, 3))
