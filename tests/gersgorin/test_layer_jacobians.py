"""Within a step: closed forms are autograd's and central differences, and the layers multiply to the temporal Jacobian."""

import functools

import pytest
import torch
from cases import CELL_CASES, SHALLOW_CASES, assert_close, inputs
from tables import for_each

from gersgorin import input_jacobian, layer_jacobians, temporal_jacobian
from rhn.cells import RHN, Cell
from rhn.errors import InvalidInputError

every_case = for_each("case", CELL_CASES)
every_measure = for_each("measure", [input_jacobian, layer_jacobians])


def central_differences(function, v, h=5e-5):
    """d function / d v (..., rows, k) of v (..., k), five points; h is small because relu has a kink."""
    shifts = h * torch.eye(v.shape[-1], dtype=v.dtype)
    with torch.no_grad():
        at = {k: function(v.unsqueeze(-2) + k * shifts) for k in (-2, -1, 1, 2)}
    return ((8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * h)).transpose(-1, -2)


def product(layers):
    return functools.reduce(lambda A, J: J @ A, layers)


def same(got, wanted, tolerance, name):
    """Tensors, or lists of them."""
    for k, (a, b) in enumerate(zip(got, wanted, strict=True)):
        assert_close(a.detach(), b.detach(), tolerance, f"{name} {k}", floor=1e-3)


@every_case
@for_each(("n", "lead"), [(1, ()), (7, (2, 3))])
def test_closed_forms_equal_autograd_and_central_differences(case, n, lead):
    cell = case.build(5, n)
    x, s = inputs(cell, *lead)
    B, layers = input_jacobian(cell, x, s), layer_jacobians(cell, x, s)
    assert B.shape == (*lead, cell.state_size, 5)
    for method in ("jacrev", "jacfwd"):
        assert_close(B, input_jacobian(cell, x, s, method=method), 1e-9, method)
    assert_close(
        B, central_differences(lambda x: cell.step(x, s.unsqueeze(-2)), x), 1e-9, "input, differences", floor=1e-2
    )
    state, N, x, y = s, cell.state_size, x.unsqueeze(-2), s.unsqueeze(-2)
    for layer, J in enumerate(layers):
        run = functools.partial(lambda layer, v: cell.run_layer(layer, x, v, y if layer else v), layer)
        differences = central_differences(run, state)
        assert_close(J[..., :N, :N], differences, 1e-9, f"layer {layer + 1}, differences", floor=1e-2)
        state = cell.run_layer(layer, x.squeeze(-2), state, s).detach()


@every_case
def test_the_layers_multiply_to_the_temporal_jacobian(case):
    cell = case.build()
    x, s = inputs(cell, 4)
    A, layers = temporal_jacobian(cell, x, s, method="jacrev"), layer_jacobians(cell, x, s)
    assert len(layers) == cell.depth
    assert_close(product(layers), A, 1e-12, "closed form")
    if isinstance(layers, list):
        assert case.key == "dts-rnn" and [J.shape[-2:] for J in layers][:: case.depth - 1] == [(14, 7), (7, 14)]
    else:
        assert layers.shape == (case.depth, 4, cell.state_size, cell.state_size)


@for_each("case", SHALLOW_CASES)
def test_the_chain_rule_from_an_input_to_a_later_state(case):
    """dy[3]/dx[1] = A[3] A[2] B[1]."""
    cell = case.build()
    x, _ = inputs(cell, 3)
    s = [torch.zeros(cell.state_size, dtype=x.dtype)]
    for x_t in x:
        s.append(cell.step(x_t, s[-1]))
    steps = [temporal_jacobian(cell, x[t], s[t]) for t in (1, 2)]
    wanted = torch.func.jacrev(lambda x: cell(x)[1])(x)[:, 0]
    assert_close(product([input_jacobian(cell, x[0], s[0]), *steps]), wanted, 1e-12, "dy[3]/dx[1]")


@pytest.mark.parametrize("coupled", [True, False])
def test_closed_gates_carry_the_state_through_every_layer_and_let_no_input_in(coupled):
    cell = RHN(3, 6, 5, coupled=coupled, transform_bias=-80.0, dtype=torch.float64)
    x, s = inputs(cell, 4)
    I = torch.eye(6, dtype=x.dtype).expand(5, 4, 6, 6)
    assert_close(layer_jacobians(cell, x, s).detach(), I, 1e-14, "layers")
    assert input_jacobian(cell, x, s).abs().max() < 1e-30


@for_each("case", SHALLOW_CASES)
@every_measure
def test_chunks_broadcasting_and_float32(measure, case):
    cell = case.build()
    x, s = inputs(cell, 3, 1)[0], inputs(cell, 4)[1]
    whole = measure(cell, x, s)
    same(measure(cell, x, s, chunk_size=5), whole, 1e-14, "chunks")
    assert next(iter(whole)).shape[:-2] == ((4,) if measure is input_jacobian else (3, 4))
    same(measure(cell.float(), x.float(), s.float()), [J.float() for J in whole], 1e-5, "float32")


@for_each("case", SHALLOW_CASES)
@every_measure
def test_closed_forms_can_themselves_be_differentiated(measure, case):
    cell = case.build()
    x, s = inputs(cell)
    names, weights = zip(*cell.named_parameters(), strict=True)
    closed = measure(cell, x, s) if measure is input_jacobian else product(measure(cell, x, s))
    of = input_jacobian if measure is input_jacobian else temporal_jacobian
    sums = (J.square().sum() for J in (closed, of(cell, x, s, method="jacrev")))
    gradients = [torch.autograd.grad(total, weights, allow_unused=True, materialize_grads=True) for total in sums]
    for name, g, wanted in zip(names, *gradients, strict=True):
        assert_close(g, wanted, 1e-9, name, floor=1e-3)


class Silent(Cell):
    def step(self, x, s):
        return s


@for_each(
    ("call", "message"),
    [
        (lambda c, x, s: input_jacobian(c, x[:, :2], s), "x ends in 2 and s in 4: RHN expects 3 inputs"),
        (lambda c, x, s: input_jacobian(lambda x, s: s, x.long(), s), "x is torch.int64: expected floating point"),
        (
            lambda c, x, s: input_jacobian(lambda x, s: s, x, s, method="analytic"),
            "has jacrev, jacfwd for input_jacobian",
        ),
        (lambda c, x, s: input_jacobian(torch.nn.Linear(3, 4), x, s), r"Linear must take f\(x, s\)"),
        (
            lambda c, x, s: layer_jacobians(Silent(3, 4, 2), x, s),
            "Silent has 2 layers without a method for them",
        ),
    ],
)
def test_what_does_not_fit_is_said(call, message):
    with pytest.raises(InvalidInputError, match=message):
        call(RHN(3, 4, 2), torch.randn(6, 3), torch.randn(6, 4))
