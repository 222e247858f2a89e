"""`kernel="newton"`: values and gradients of the loop, alone and stacked, and why a loop computed them."""

import copy
import re

import pytest
import torch
from tables import for_each
from torch.func import functional_call, grad, grad_and_value, stack_module_state, vmap

from rhn.cells import CELLS, Cell, CellMasks, make_cell
from rhn.errors import InvalidInputError
from rhn.kernels.dispatch import recorded_choices
from rhn.kernels.newton_kernel import NEWTON

DOUBLE = torch.float64


def pair(name: str, **options):
    """A cell with the kernel, and the same cell with the loop."""
    depth = 2 if CELLS.rows[name].deep else 1
    generator = torch.Generator().manual_seed(0)
    ours = make_cell(name, 3, 5, depth, init="scaled", kernel="newton", generator=generator, dtype=DOUBLE, **options)
    reference = make_cell(name, 3, 5, depth, init="scaled", kernel="reference", dtype=DOUBLE, **options)
    reference.load_state_dict(ours.state_dict())
    return ours, reference


def gradients(cell, x, s0):
    """Of all weights, the input and the first state, by name."""
    x, s0 = x.clone().requires_grad_(), s0.clone().requires_grad_()
    outputs, last = cell(x, s0)
    weights = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(5), dtype=DOUBLE)
    loss = (outputs * weights).sum() + last.square().sum()
    named = {"x": x, "s0": s0} | dict(cell.named_parameters())
    return outputs, dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))


@for_each("name", CELLS)
def test_values_and_gradients_are_those_of_the_loop(name):
    ours, reference = pair(name)
    x, s0 = torch.randn(40, 2, 3, dtype=DOUBLE), 0.1 * torch.randn(2, ours.state_size, dtype=DOUBLE)
    s0 = s0.abs() + 0.5 if name == "slstm" else s0  # its normaliser is positive
    with recorded_choices() as choices:
        found = gradients(ours, x, s0)
    wanted = gradients(reference, x, s0)
    assert [(c.implementation, c.reason) for c in choices] == [("Newton", None)]
    torch.testing.assert_close(found[0], wanted[0], rtol=0, atol=1e-9)
    for key, gradient in wanted[1].items():
        torch.testing.assert_close(found[1][key], gradient, rtol=1e-8, atol=1e-8, msg=lambda m, key=key: f"{key}: {m}")


def test_a_stack_of_models_has_the_numbers_of_each_alone():
    cells = [make_cell("gru", 3, 5, kernel="newton", dtype=DOUBLE) for _ in range(3)]
    weights, _ = stack_module_state(cells)
    x, s0 = torch.randn(30, 2, 3, dtype=DOUBLE), torch.zeros(2, 5, dtype=DOUBLE)

    def loss(weights, cell=cells[0]):
        return functional_call(cell, weights, (x, s0))[0].square().sum()

    together, values = vmap(grad_and_value(loss))(weights)
    for k, cell in enumerate(cells):
        alone = torch.autograd.grad(cell(x, s0)[0].square().sum(), list(cell.parameters()))
        assert values[k] == cell(x, s0)[0].square().sum()
        for (name, _), gradient in zip(cell.named_parameters(), alone, strict=True):
            torch.testing.assert_close(together[name][k], gradient, rtol=0, atol=1e-12)


def test_inputs_may_differ_between_the_models_of_a_stack():
    cell = make_cell("rnn", 3, 5, kernel="newton", dtype=DOUBLE)
    x = torch.randn(4, 20, 2, 3, dtype=DOUBLE)
    found = vmap(grad(lambda x: cell(x)[0].square().sum()))(x)
    wanted = torch.stack([grad(lambda x: cell(x)[0].square().sum())(each) for each in x])
    torch.testing.assert_close(found, wanted)


def test_a_cell_of_a_user_without_jacobian():
    class Own(Cell):
        deep = False

        def __init__(self, kernel):
            super().__init__(3, 4, kernel=kernel)
            self.weight = torch.nn.Parameter(torch.full((4, 4), 0.2, dtype=DOUBLE))
            self.mix = torch.nn.Parameter(torch.ones(4, 3, dtype=DOUBLE))

        def step(self, x, s):
            return torch.tanh(s @ self.weight.T + x @ self.mix.T)

    x, s0 = torch.randn(30, 2, 3, dtype=DOUBLE), torch.zeros(2, 4, dtype=DOUBLE)
    found, wanted = (gradients(Own(kernel), x, s0) for kernel in ("newton", "reference"))
    torch.testing.assert_close(found[0], wanted[0])
    for key, gradient in wanted[1].items():
        torch.testing.assert_close(found[1][key], gradient)


def test_a_chaotic_cell_ends_in_its_own_loop():
    cell = make_cell("gru", 3, 12, init="gaussian:2", kernel="newton", dtype=DOUBLE)
    x = torch.randn(300, 2, 3, dtype=DOUBLE)
    with torch.no_grad(), recorded_choices() as choices:
        found = cell(x)[0]
        assert torch.equal(found, cell.states(x, x.new_zeros(2, 12)))
    assert "300 of 300 steps were computed in a loop, from step 0 on" in [choice.reason for choice in choices]


def test_layouts_and_padding_are_those_of_other_kernels():
    ours, reference = pair("lstm", batch_first=True)
    x, mask = torch.randn(2, 9, 3, dtype=DOUBLE), torch.arange(9) < torch.tensor([[9], [4]])
    for found, wanted in zip(ours(x, mask=mask), reference(x, mask=mask), strict=True):
        torch.testing.assert_close(found, wanted)


def test_dropout_of_states_needs_the_loop():
    ours, reference = pair("lstm")
    masks = CellMasks(state=torch.full((1, 2, 5), 2.0, dtype=DOUBLE))
    x = torch.randn(9, 2, 3, dtype=DOUBLE)
    torch.testing.assert_close(ours(x, dropout=masks)[0], reference(x, dropout=masks)[0])


def test_a_checkpoint_keeps_the_kernel():
    cell = make_cell("gru", 3, 5, kernel="newton")
    assert cell.config()["kernel"] == "newton" and "kernel='newton'" in repr(copy.deepcopy(cell))


def test_second_derivatives_need_the_reference():
    cell, x = make_cell("rnn", 3, 5, kernel="newton", dtype=DOUBLE), torch.randn(9, 2, 3, dtype=DOUBLE)
    (g,) = torch.autograd.grad(cell(x)[0].square().sum(), cell.weight_hh, create_graph=True)
    with pytest.raises(RuntimeError, match="the fused newton kernel has no second derivative"):
        torch.autograd.grad(g.square().sum(), cell.weight_hh)


def test_an_unknown_kernel_is_refused():
    with pytest.raises(InvalidInputError, match="expected one of 'manual', 'reference', 'newton', 'auto'"):
        make_cell("gru", 3, 5, kernel="cuda")


def test_the_kernel_is_an_operation_of_the_table():
    assert [each.name for each in NEWTON.implementations] == ["Newton"]


def automatic(T: int, n: int = 2, **options):
    """(States of kernel="auto", of the loop, reason against Newton's method)."""
    cell = make_cell("gru", 3, n, kernel="auto", dtype=DOUBLE, init="scaled", **options)
    x = torch.randn(T, 1, 3, dtype=DOUBLE)
    with torch.no_grad(), recorded_choices() as choices:
        found = cell(x)[0]
    reasons = [choice.reason for choice in choices if choice.implementation == "Newton"]
    return found, cell.states(x, x.new_zeros(1, n)).detach(), reasons[-1]


def test_auto_takes_a_long_run_of_a_small_cell_that_forgets():
    found, wanted, reason = automatic(4096)
    assert reason is None
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-9)


@for_each(
    ("T", "n"),
    [(50, 2), (2048, 64)],
)
def test_auto_takes_the_loop_by_shape(T, n):
    found, wanted, reason = automatic(T, n)
    assert torch.equal(found, wanted) and re.fullmatch("3 iterations would take .* times as long as the loop", reason)


def test_auto_takes_the_loop_where_many_iterations_are_expected():
    cell = make_cell("rnn", 3, 4, kernel="auto", dtype=DOUBLE, init="gaussian:2")
    with torch.no_grad(), recorded_choices() as choices:
        cell(torch.randn(8192, 1, 3, dtype=DOUBLE))
    reasons = [choice.reason for choice in choices if choice.implementation == "Newton"]
    assert re.fullmatch(r"\d+ iterations are expected, and would take .* times as long as the loop", reasons[0])


def test_auto_needs_numbers():
    cell = make_cell("gru", 3, 2, kernel="auto", dtype=DOUBLE)
    with recorded_choices() as choices:
        vmap(lambda x: cell(x)[0])(torch.randn(2, 9, 1, 3, dtype=DOUBLE))
    assert choices[0].reason == "a forecast reads numbers, which torch.func hides"


def test_a_batch_without_sequences():
    ours, reference = pair("gru")
    x = torch.zeros(8, 0, 3, dtype=DOUBLE)
    assert ours(x)[0].shape == reference(x)[0].shape == (8, 0, 5)
