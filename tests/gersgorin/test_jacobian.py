"""Closed form, reverse mode, forward mode and central differences are one Jacobian, for every cell
and anything callable.

Of the state, of the input, and of each layer within a step.
"""

import functools

import pytest
import torch
from cases import CELL_CASES, SHALLOW_CASES, assert_close, inputs
from hypothesis import given, settings
from hypothesis import strategies as st
from rounding import assert_within
from tables import for_each
from torch import nn

from gersgorin.run.jacobians import input_jacobian, layer_jacobians, temporal_jacobian, trajectory
from gersgorin.run.run import Run
from rhn.cells import DTSRNN, RHN, from_torch
from rhn.errors import InvalidInputError

every_case = for_each("case", CELL_CASES)
shallow = for_each("case", SHALLOW_CASES)
every_measure = for_each("measure", [input_jacobian, layer_jacobians])


def central_differences(function, v, h=5e-5):
    """d function / d v (..., rows, k) of v (..., k), five points; h is small because relu has a
    kink.
    """
    shifts = h * torch.eye(v.shape[-1], dtype=v.dtype)
    with torch.no_grad():
        at = {k: function(v.unsqueeze(-2) + k * shifts) for k in (-2, -1, 1, 2)}
    return ((8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * h)).transpose(-1, -2)


def stepped(cell, x):
    """The step from states (..., k, N), for `central_differences`."""
    return lambda s: cell.step(x.unsqueeze(-2), s)


def product(layers):
    return functools.reduce(lambda A, J: J @ A, layers)


def assert_jacobian(got, wanted, tolerance, name):
    """Relative to the matrix's own norm, position by position, and to 1e-3 where it is smaller."""
    assert got.shape == wanted.shape, name
    scale = torch.linalg.matrix_norm(wanted).clamp(min=1e-3)
    error = ((got - wanted).abs().amax((-1, -2)) / scale).max().item()
    assert_within(error, tolerance, f"{name}, relative")


@every_case
@for_each(("lead", "saturated"), [((), True), ((4, 7), False)])
def test_analytic_equals_jacrev_jacfwd_and_central_differences(case, lead, saturated):
    cell = case.build(5, 7, saturated=saturated)
    x, s = inputs(cell, *lead)
    A = temporal_jacobian(cell, x, s).detach()
    assert A.shape == (*lead, cell.state_size, cell.state_size) and A.dtype == torch.float64
    for method in ("jacrev", "jacfwd"):
        assert_jacobian(A, temporal_jacobian(cell, x, s, method=method).detach(), 1e-8, method)
    assert_jacobian(A, central_differences(stepped(cell, x), s, 1e-6), 1e-5, "central differences")


@settings(max_examples=40)
@given(
    st.sampled_from(CELL_CASES),
    st.integers(0, 999),
    st.integers(1, 4),
    st.integers(1, 6),
    st.floats(0, 3),
)
def test_any_size_and_state(case, seed, m, n, spread):
    cell = case.build(m, n, seed=seed)
    x, s = inputs(cell, 2, seed=seed, spread=spread)
    assert_jacobian(
        temporal_jacobian(cell, x, s),
        temporal_jacobian(cell, x, s, method="jacrev"),
        1e-8,
        str(case),
    )


@shallow
def test_leading_dimensions_broadcast(case):
    cell = case.build()
    x, _ = inputs(cell, 3, 1)
    _, s = inputs(cell, 4)
    A = temporal_jacobian(cell, x, s)
    assert A.shape[:2] == (3, 4)
    assert_close(A[2, 1], temporal_jacobian(cell, x[2, 0], s[1]), 1e-13, "one pair")
    assert temporal_jacobian(cell, x[:0, 0], s[0]).shape == (0, cell.state_size, cell.state_size)


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.GRUCell, nn.LSTMCell, nn.RNN, nn.GRU, nn.LSTM])
def test_torchs_own_cells_and_their_trajectories(kind):
    """They are those of our cells, whose steps equal torch's
    (`tests/rhn/cells/test_convert.py`).
    """
    theirs = kind(5, 7, dtype=torch.float64)
    ours = from_torch(theirs)
    x, s = inputs(ours, 3)
    A = temporal_jacobian(theirs, x, s).detach()
    assert_jacobian(A, central_differences(stepped(ours, x), s), 1e-6, "central differences")
    states = trajectory(theirs, x.unsqueeze(1))
    assert states.shape == (4, 1, s.shape[-1])
    assert_close(states[3], ours.step(x[2:], states[2]), 1e-12, "the last state")


@every_case
@for_each(("n", "lead"), [(1, ()), (7, (2, 3))])
def test_inputs_and_layers_equal_autograd_and_central_differences(case, n, lead):
    cell = case.build(5, n)
    x, s = inputs(cell, *lead)
    B, layers = input_jacobian(cell, x, s), layer_jacobians(cell, x, s)
    assert B.shape == (*lead, cell.state_size, 5)
    for method in ("jacrev", "jacfwd"):
        assert_close(B, input_jacobian(cell, x, s, method=method), 1e-9, method)
    assert_close(
        B,
        central_differences(lambda x: cell.step(x, s.unsqueeze(-2)), x),
        1e-9,
        "input, differences",
        floor=1e-2,
    )
    state, N, x, y = s, cell.state_size, x.unsqueeze(-2), s.unsqueeze(-2)
    for layer, J in enumerate(layers):
        run = functools.partial(
            lambda layer, v: cell.run_layer(layer, x, v, y if layer else v), layer
        )
        differences = central_differences(run, state)
        assert_close(
            J[..., :N, :N], differences, 1e-9, f"layer {layer + 1}, differences", floor=1e-2
        )
        state = cell.run_layer(layer, x.squeeze(-2), state, s).detach()


@every_case
def test_the_layers_multiply_to_the_temporal_jacobian(case):
    cell = case.build()
    x, s = inputs(cell, 4)
    A, layers = temporal_jacobian(cell, x, s, method="jacrev"), layer_jacobians(cell, x, s)
    assert len(layers) == cell.depth
    assert_close(product(layers), A, 1e-12, "closed form")
    if isinstance(layers, list):
        assert case.key == "dts-rnn"
        assert [J.shape[-2:] for J in layers][:: case.depth - 1] == [
            (14, 7),
            (7, 14),
        ]
    else:
        assert layers.shape == (case.depth, 4, cell.state_size, cell.state_size)


@shallow
@every_measure
def test_broadcasting_and_float32(measure, case):
    cell = case.build()
    x, s = inputs(cell, 3, 1)[0], inputs(cell, 4)[1]
    whole = measure(cell, x, s)
    assert next(iter(whole)).shape[:-2] == ((4,) if measure is input_jacobian else (3, 4))
    for J, coarse in zip(whole, measure(cell.float(), x.float(), s.float()), strict=True):
        assert_close(coarse.detach(), J.detach().float(), 1e-5, "float32", floor=1e-3)


@shallow
@every_measure
def test_closed_forms_can_themselves_be_differentiated(measure, case):
    cell = case.build()
    x, s = inputs(cell)
    names, weights = zip(*cell.named_parameters(), strict=True)
    closed = measure(cell, x, s) if measure is input_jacobian else product(measure(cell, x, s))
    of = input_jacobian if measure is input_jacobian else temporal_jacobian
    sums = (J.square().sum() for J in (closed, of(cell, x, s, method="jacrev")))
    gradients = [
        torch.autograd.grad(total, weights, allow_unused=True, materialize_grads=True)
        for total in sums
    ]
    for name, g, wanted in zip(names, *gradients, strict=True):
        assert_close(g, wanted, 1e-9, name, floor=1e-3)


class Leaky(nn.Linear):
    """A user's module without a closed form."""

    state_size = 4

    def forward(self, x, s):
        return 0.5 * s + torch.tanh(super().forward(x)) * s.sum()


def test_a_users_function_and_module():
    def f(x, s):
        return torch.tanh(2 * s + x.sum())

    x, s = torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 5, dtype=torch.float64)
    slope = torch.diag_embed(2 * (1 - torch.tanh(2 * s + x.sum(-1, keepdim=True)) ** 2))
    for method in (None, "jacrev", "jacfwd"):
        assert_close(temporal_jacobian(f, x, s, method=method), slope, 1e-13, str(method))
        with_output = temporal_jacobian(lambda x, s: (f(x, s)[:2], f(x, s)), x, s, method=method)
        assert_close(with_output, slope, 1e-13, f"of (output, state), {method}")
    module, x, s = Leaky(3, 4), torch.randn(6, 3), torch.randn(6, 4)
    wanted = 0.5 * torch.eye(4) + torch.tanh(nn.Linear.forward(module, x)).unsqueeze(-1).expand(
        6, 4, 4
    )
    assert_close(temporal_jacobian(module, x, s), wanted, 1e-6, "A")
    with pytest.raises(InvalidInputError, match="Leaky has jacrev, jacfwd for jacobian"):
        temporal_jacobian(module, x, s, method="analytic")


def test_a_users_closed_form_is_used():
    class Doubler(nn.Module):
        step = staticmethod(lambda x, s: 2 * s)
        # recognisably not autograd's
        jacobian = staticmethod(lambda x, s: 7 * torch.eye(2).expand(len(s), -1, -1))

    assert torch.equal(
        temporal_jacobian(Doubler(), torch.zeros(1), torch.zeros(2)), 7 * torch.eye(2)
    )


@every_case
def test_a_trajectory_is_s0_and_the_repeated_step(case):
    cell = case.build()
    x, _ = inputs(cell, 6, 3)
    _, s0 = inputs(cell, 3)
    states = trajectory(cell, x, s0)
    assert states.shape == (7, 3, cell.state_size) and torch.equal(states[0], s0)
    for t in range(6):
        assert_close(states[t + 1], cell.step(x[t], states[t]), 1e-12, f"state {t + 1}")
    assert_close(trajectory(cell, x[:, 1], s0[1]), states[:, 1], 1e-12, "unbatched")
    assert not trajectory(cell, x)[0].any()


def test_trajectories_of_functions_modules_and_batch_first_cells():
    assert trajectory(RHN(3, 4, batch_first=True), torch.randn(6, 2, 3)).shape == (7, 2, 4)
    x, s0 = torch.randn(5, 2, 3), torch.randn(2, 4)

    def f(x, s):
        return 0.5 * s + x.sum()

    states = trajectory(f, x, s0)
    assert_close(states[2], 0.5 * states[1] + x[1].sum(-1, keepdim=True), 1e-6, "function")
    assert trajectory(f, x[:, 0], s0[0]).shape == (6, 4)
    assert trajectory(Leaky(3, 4), x).shape == (6, 2, 4)


def test_a_layer_s_gain_holds_the_state_before_the_step_fixed():
    # without input and state every slope is 1
    cell = DTSRNN(3, 5, 3, init="gaussian:0.1", dtype=torch.float64)
    found = Run.of(cell, torch.zeros(2, 3, dtype=torch.float64)).state_gains()
    assert_close(found, torch.linalg.matrix_norm(cell.weight_hh, 2).expand(2, 3), 1e-12, "gains")


OF_TORCH = {nn.RNN: nn.RNNCell, nn.LSTM: nn.LSTMCell, nn.GRU: nn.GRUCell}


def run_of_torchs_cell(cell, x):
    """(The outputs, the 2-norm of d(state)/d(state before) by autograd) of a cell of torch.nn's
    along x (T, m), from zero.
    """

    def step(s, x_t):
        after = cell(x_t, s.chunk(2) if isinstance(cell, nn.LSTMCell) else s)
        return torch.cat(after) if isinstance(after, tuple) else after

    n = cell.hidden_size
    s, outputs, norms = x.new_zeros(n * (1 + isinstance(cell, nn.LSTMCell))), [], []
    for x_t in x:
        A = torch.autograd.functional.jacobian(functools.partial(step, x_t=x_t), s)
        norms.append(torch.linalg.svdvals(A)[0])
        s = step(s, x_t).detach()
        outputs.append(s[:n])
    return torch.stack(outputs), torch.stack(norms)


@for_each("kind", OF_TORCH)
def test_the_gains_of_a_stack_of_torchs_are_those_of_each_layer_by_itself(kind):
    stack, x = kind(3, 5, num_layers=3).double(), torch.randn(4, 3, dtype=torch.float64)
    with torch.no_grad():
        stack.weight_hh_l1.mul_(4)
    run, expected = Run.of(stack, x.unsqueeze(1)), []
    for layer in range(3):
        cell = OF_TORCH[kind](x.shape[1], 5).double()
        cell.load_state_dict(
            {name: getattr(stack, f"{name}_l{layer}") for name in cell.state_dict()}
        )
        x, norms = run_of_torchs_cell(cell, x)
        expected.append(norms)
    assert_close(run.state_gains()[:, 0], torch.stack(expected, 1), 1e-9, "gains")
