"""Public functions of single steps: recorded numbers, central differences, torch's two modes, and
bounds under attack.
"""

import functools
import math

import pytest
import torch
from cases import CELL_CASES, SHALLOW_CASES, assert_close, inputs
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import close
from torch import nn
from torch.func import jacrev

from gersgorin.one_step import (
    METHODS,
    input_jacobian,
    layer_jacobians,
    norm_bound,
    temporal_jacobian,
    trajectory,
)
from gersgorin.run import open_run
from rhn.cells import DTRNN, DTSRNN, RHN, RNN
from rhn.errors import InvalidInputError
from tests.gersgorin.test_step_of_networks import (
    MODULES,
    STATES,
)
from tests.numbers.record import M, N, X, pair

d = torch.float64
WAYS = ("analytic", "jacrev", "jacfwd")


def central_differences(function, v, h=5e-5):
    """d function / d v (..., rows, k) of v (..., k), five points; h is small because relu has a
    kink.
    """
    shifts = h * torch.eye(v.shape[-1], dtype=v.dtype)
    with torch.no_grad():
        at = {k: function(v.unsqueeze(-2) + k * shifts) for k in (-2, -1, 1, 2)}
    return ((8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * h)).transpose(-1, -2)


@pytest.mark.parametrize("case", CELL_CASES, ids=str)
def test_all_jacobians_are_central_differences_and_have_leading_dimensions(case):
    cell = case.build()
    (x, _), (_, s) = inputs(cell, 3, 1), inputs(cell, 4)
    A, B, layers = (f(cell, x, s) for f in (temporal_jacobian, input_jacobian, layer_jacobians))
    n, y = cell.state_size, s.unsqueeze(-2)
    assert A.shape == (3, 4, n, n) and B.shape == (3, 4, n, 5) and len(layers) == cell.depth
    x = x.expand(3, 4, 5)
    wanted = central_differences(lambda s: cell.step(x.unsqueeze(-2), s), s.expand(3, 4, n))
    assert_close(A, wanted, 1e-7, "state", floor=1e-2)
    wanted = central_differences(lambda x: cell.step(x, y), x)
    assert_close(B, wanted, 1e-9, "input", floor=1e-2)
    for way in WAYS[1:]:
        assert_close(A, temporal_jacobian(cell, x, s, method=way), 1e-8, way)
        assert_close(B, input_jacobian(cell, x, s, method=way), 1e-8, way)
    assert_close(functools.reduce(lambda P, J: J @ P, layers), A, 1e-12, "product of layers")
    state = s.expand(3, 4, n)
    for k, J in enumerate(layers):  # a first layer reads the state before the step
        run = functools.partial(
            lambda k, v: cell.run_layer(k, x.unsqueeze(-2), v, y if k else v), k
        )
        wanted = central_differences(run, state)
        assert_close(J[..., :n, :n], wanted, 1e-7, f"layer {k + 1}", floor=1e-2)
        state = cell.run_layer(k, x, state, s).detach()


@settings(max_examples=40)
@given(st.sampled_from(CELL_CASES), st.integers(0, 999), st.integers(1, 4), st.integers(1, 6),
       st.floats(0, 3), st.booleans())  # fmt: skip
def test_closed_forms_are_reverse_mode_at_any_size_and_state(case, seed, m, n, spread, saturated):
    cell = case.build(m, n, seed=seed, saturated=saturated)
    x, s = inputs(cell, 2, seed=seed, spread=spread)
    wanted = temporal_jacobian(cell, x, s, method="jacrev")
    scale = torch.linalg.matrix_norm(wanted).clamp(min=1e-3)
    error = (temporal_jacobian(cell, x, s) - wanted).abs().amax((-1, -2)) / scale
    assert error.max().item() <= 1e-8
    assert temporal_jacobian(cell, x[:0], s[0]).shape == (0, cell.state_size, cell.state_size)


@pytest.mark.parametrize("case", SHALLOW_CASES, ids=str)
def test_closed_forms_have_gradients_and_round_in_float32(case):
    cell = case.build()
    x, s = inputs(cell)
    weights = [*cell.parameters()]
    for measure in (temporal_jacobian, input_jacobian):
        sums = (measure(cell, x, s, method=way).square().sum() for way in (None, "jacrev"))
        both = [torch.autograd.grad(each, weights, materialize_grads=True) for each in sums]
        for g, wanted in zip(*both, strict=True):
            assert_close(g, wanted, 1e-9, "gradient", floor=1e-3)
    with torch.inference_mode():
        assert torch.equal(temporal_jacobian(cell, x, s), temporal_jacobian(cell, x, s).detach())
    A = temporal_jacobian(cell, x, s).detach().float()
    coarse = temporal_jacobian(cell.float(), x.float(), s.float()).detach()
    assert_close(coarse, A, 1e-5, "float32", floor=1e-3)


@pytest.mark.parametrize(
    ("method", "slope"),
    [(None, 4 * math.exp(-50)), ("analytic", 4 * math.exp(-50)), ("jacrev", 0), ("jacfwd", 0)],
)
def test_only_a_closed_form_has_the_slope_of_a_saturated_tanh(method, slope):
    cell = RNN(1, 1, dtype=d)
    torch.nn.init.ones_(cell.weight_hh)
    torch.nn.init.constant_(cell.bias, 25)
    x = s = torch.zeros(1, dtype=d)
    assert temporal_jacobian(cell, x, s, method=method).item() == pytest.approx(slope)


class TwoTensors(nn.Module):
    """A method step(x, s) of two vectors."""

    W = torch.tensor([[0.0, 2.0], [3.0, 0.0]])

    def step(self, x, s):
        h, a = s
        return self.W @ h + x, 2 * a


def test_a_method_reads_several_vectors_without_an_axis_of_rows():
    s = torch.zeros(5, 2), torch.zeros(5, 1)
    wanted = torch.block_diag(TwoTensors.W, torch.tensor(2.0))
    assert torch.equal(
        temporal_jacobian(TwoTensors(), torch.zeros(5, 1), s), wanted.expand(5, 3, 3)
    )


class TurnAndGrow(nn.Module):
    """A module that reads rows: two complex numbers that turn, and a real one that grows."""

    def forward(self, x, state):
        a, b = state
        return 1j * a + x.sum(1, keepdim=True), 2 * b


def test_a_module_reads_several_complex_vectors_as_a_row():
    s = torch.zeros(2, dtype=torch.complex128), torch.zeros(1, dtype=d)
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=d)
    found = temporal_jacobian(TurnAndGrow(), torch.zeros(3, dtype=d), s)
    assert torch.equal(found, torch.block_diag(turn, turn, torch.tensor(2, dtype=d)))


def test_a_trajectory_may_have_one_step():
    found = trajectory(lambda x, s: s + x, torch.ones(1, 2), torch.zeros(2))
    assert found.tolist() == [[0, 0], [1, 1]]


@pytest.mark.parametrize("method", METHODS)
def test_a_mode_of_torch_is_the_named_one(method, monkeypatch):
    used, mode = [], METHODS[method]
    monkeypatch.setitem(METHODS, method, lambda *f, **how: used.append(method) or mode(*f, **how))
    temporal_jacobian(lambda x, s: 2 * s, torch.zeros(1), torch.zeros(2), method=method)
    assert used == [method]


def test_no_rows_have_no_jacobians():
    found = temporal_jacobian(lambda x, s: 2 * s, torch.zeros(0, 1), torch.zeros(0, 2))
    assert found.shape == (0, 2, 2)


@pytest.mark.parametrize("kind", [RHN, DTRNN])
def test_a_partial_product_may_leave_the_range_and_come_back(kind):
    """R of the layers is tiny, tiny and large; sizes that are powers of two round nothing."""
    torch.manual_seed(0)
    cell = kind(M, N, 3, dtype=d, init="gaussian:0.3")
    x, s = torch.zeros(2, M, dtype=d), torch.zeros(2, N, dtype=d)
    with torch.no_grad():
        cell.bias.zero_()
        if kind is RHN:  # open gates: J = R_H, at states of 0
            cell.weight_hh[:, N:] = 0
            cell.bias[:, N:] = 800
    for measure in (temporal_jacobian, input_jacobian):
        wanted = measure(cell, x, s).detach()
        sizes = (-900, -900, 900) if measure is temporal_jacobian else (0, -900, 800)
        weights = cell.weight_hh.detach().clone()
        with torch.no_grad():
            cell.weight_hh.copy_(torch.ldexp(weights, torch.tensor(sizes)[:, None, None]))
        got = torch.ldexp(measure(cell, x, s).detach(), torch.tensor(-sum(sizes)))
        torch.testing.assert_close(got, wanted, rtol=1e-12, atol=0)
        with torch.no_grad():
            cell.weight_hh.copy_(weights)


LAYERS = ("projection", "time first", "batch first")  # they read sequences


@pytest.mark.parametrize("name", [name for name in MODULES if name not in LAYERS])
def test_jacobians_and_states_of_any_network_are_those_of_its_run(name):
    network = MODULES[name]
    how = {"s0": STATES[name]} if name in STATES else {}
    run = open_run(network, X, **how)
    x, s = run.at()
    if name == "module of two tensors":
        s = s.split(N, 1)
        how = {"s0": tuple(t.double() for t in how["s0"])}
    close(temporal_jacobian(network, x, s).detach(), run.jacobians())
    close(input_jacobian(network, x, s).detach(), run.input_jacobians())
    if name != "module of one row":
        close(trajectory(network, x, **how).detach(), run.states)


def test_states_of_several_tensors_are_joined():
    h, a = torch.rand(4, dtype=d), torch.rand(2, dtype=d)
    exact = jacrev(lambda s: torch.cat(pair(X[0], s.split((4, 2)))))(torch.cat((h, a)))
    torch.testing.assert_close(temporal_jacobian(pair, X[0], (h, a)), exact)
    many = temporal_jacobian(pair, X[0].expand(3, M), (h.expand(3, 4), a.expand(3, 2)))
    torch.testing.assert_close(many, exact.expand(3, 6, 6))
    one_state = temporal_jacobian(pair, X[:4], (h, a))  # as many inputs as entries of h
    torch.testing.assert_close(
        one_state, torch.stack([temporal_jacobian(pair, x, (h, a)) for x in X[:4]])
    )
    states = trajectory(pair, X[:5, None].expand(5, 2, M), state_size=(4, 2))
    assert states.shape == (6, 2, 6)
    close(states[:, 1], open_run(pair, X[:5], state_size=(4, 2)).states)
    lstm = nn.LSTM(M, N).double()
    h, c = torch.rand(2, 3, N, dtype=d)
    joined = temporal_jacobian(lstm, X[:3], torch.cat((h, c), -1))
    assert torch.equal(temporal_jacobian(lstm, X[:3], (h, c)), joined)


def test_the_jacobian_of_a_complex_state_is_that_of_its_real_view():
    rate, x = torch.tensor([0.5 + 0.4j, -0.3 + 0.7j]), torch.rand(4, 2, dtype=d)
    s = torch.complex(*torch.randn(2, 4, 2, dtype=d))
    A = torch.diag(rate).to(s)
    found = temporal_jacobian(lambda x, s: A @ s + s.conj() ** 2 / 2 + x, x, s)
    for k in range(4):
        for j in range(2):  # dz s is (a, -b; b, a), w conj(ds) is (p, q; q, -p)
            (a, b), w = torch.view_as_real(rate)[j].tolist(), s[k, j].conj()
            p, q = w.real.item(), w.imag.item()
            wanted = torch.tensor([[a + p, q - b], [b + q, a - p]], dtype=d)
            torch.testing.assert_close(found[k, 2 * j : 2 * j + 2, 2 * j : 2 * j + 2], wanted)
    assert found.count_nonzero() == 4 * 8


def test_a_step_may_branch_on_numbers_and_return_an_output():
    x, s = torch.zeros(2, M).double(), torch.tensor([[1.0, 2.0], [-1.0, 2.0]]).double()
    found = temporal_jacobian(lambda x, s: (x, 3 * s) if s[0] > 0 else (x, -s), x, s)
    assert found.tolist() == [[[3, 0], [0, 3]], [[-1, 0], [0, -1]]]


@pytest.mark.parametrize("case", CELL_CASES, ids=str)
def test_a_trajectory_is_the_repeated_step(case):
    cell = case.build()
    (x, _), (_, s0) = inputs(cell, 6, 3), inputs(cell, 3)
    states = trajectory(cell, x, s0)
    assert states.shape == (7, 3, cell.state_size) and torch.equal(states[0], s0)
    for t in range(6):
        assert_close(states[t + 1], cell.step(x[t], states[t]), 1e-12, f"state {t + 1}")
    assert_close(trajectory(cell, x[:, 1], s0[1]), states[:, 1], 1e-12, "one sequence")
    assert not trajectory(cell, x)[0].any()


class Batched(nn.Module):
    """A module that reads a batch: states of two axes, as a pair."""

    def forward(self, x, state):
        h, c = state
        return torch.tanh(torch.cat((c, x), 1)[:, :2] * h), h.sum(1, keepdim=True) + c


@pytest.mark.parametrize("lead", [(5,), (2, 3)], ids=["rows", "rows of rows"])
def test_a_module_gets_each_of_several_states_as_a_batch_of_one(lead):
    x, h, c = (torch.rand(*lead, size, dtype=d) for size in (M, 2, 2))
    found = temporal_jacobian(Batched(), x, (h, c))
    joined, module = torch.cat((h, c), -1).flatten(0, -2), Batched()

    def one(x, s):
        return torch.cat(module(x[None], (s[None, :2], s[None, 2:])), 1)[0]

    wanted = [jacrev(one, 1)(x_t, s) for x_t, s in zip(x.flatten(0, -2), joined, strict=True)]
    assert_close(found, torch.stack(wanted).unflatten(0, lead), 1e-12, "jacobians")


def test_a_bound_of_a_cell_is_a_number_for_states_up_to_a_size():
    cell = RHN(M, N, 2)
    bound = norm_bound(cell, 2.5)
    assert bound.shape == () and not bound.requires_grad
    assert bound > norm_bound(cell) > norm_bound(cell, 0)
    torch.testing.assert_close(bound, cell.norm_bound(2.5).detach())
    torch.testing.assert_close(norm_bound(cell), cell.norm_bound(1.0).detach())
    with pytest.raises(InvalidInputError, match="state_bound is -1: expected"):
        norm_bound(cell, -1)


@pytest.mark.parametrize(
    ("x", "s"),
    [
        pytest.param(torch.zeros(5, 0), torch.zeros(5, 3), id="x"),
        pytest.param(torch.tensor(0.0), torch.zeros(5, 3), id="a number"),
        pytest.param(torch.zeros(5, 2), torch.zeros(5, 0), id="s"),
    ],
)
def test_rows_without_numbers_are_no_vectors(x, s):
    with pytest.raises(InvalidInputError, match=r"x, s is .* expected vectors"):
        temporal_jacobian(lambda x, s: s, x, s)


def test_jacobians_of_layers_of_one_shape_are_one_tensor():
    x, s = torch.rand(2, 3, 1), torch.rand(2, 3, 4)
    assert layer_jacobians(RHN(1, 4, 2), x, s).shape == (2, 2, 3, 4, 4)
    shortcuts = layer_jacobians(DTSRNN(1, 4, 3), x, s)
    assert [J.shape[-2:] for J in shortcuts] == [(8, 4), (8, 8), (4, 8)]
    assert all(J.shape[:2] == (2, 3) for J in shortcuts)
