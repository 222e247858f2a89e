"""C computes a call that its limit allows, and its backward pass; the other code of the row the rest."""

import pytest
import torch
from tables import for_each
from torch.func import grad, vmap

from rhn.errors import InvalidInputError
from rhn.kernels.dispatch import Choice, Kernel, recorded_choices


def times(factor):
    """Multiply by a factor, forward and, with the opposite sign, backward."""

    def forward(x, *, least, keep):
        return factor * x, x.clone()

    def backward(dy, needs, inputs, residuals, *, least):
        assert torch.equal(residuals[0], inputs[0].expand_as(residuals[0]))
        return (-factor * dy,)

    return forward, backward


def short(x, *, least):
    return f"it has fewer than {least} entries" if len(x) < least else None


ROW = {"name": "product", "arguments": {"x": "entries"}, "reference": lambda x, least: 1.0 * x, "limit": short}
PRODUCT = Kernel(**ROW, options={"least": 3}, forward=times(3.0)[0], backward=times(3.0)[1], compiled=times(2.0))
ONLY_C = Kernel(**ROW, compiled=times(2.0))


@for_each(("length", "factor"), [(2, 3.0), (3, 2.0)])
@for_each("stack", [None, 3])
def test_what_computes_a_call_also_computes_its_backward_pass(length, factor, stack):
    def total(x):
        y = PRODUCT(x)
        return y.sum(), y

    run, x = grad(total, has_aux=True), torch.rand(*([] if stack is None else [stack]), length)
    gradient, y = run(x) if stack is None else vmap(run)(x)
    assert torch.equal(y, factor * x)
    assert torch.equal(gradient, torch.full_like(x, -factor))


def test_choices_are_recorded_with_reasons():
    def recorded(kernel, length):
        with recorded_choices() as choices:
            kernel(torch.rand(length), least=3)
        return choices

    against = Choice("product", "C", "it has fewer than 3 entries")
    assert recorded(PRODUCT, 3) == [Choice("product", "C", None)]
    assert recorded(PRODUCT, 2) == [against, Choice("product", "fused", None)]
    assert recorded(ONLY_C, 2) == [against], "the reference computes it"
    with recorded_choices() as outer:
        recorded(PRODUCT, 4)
    PRODUCT(torch.rand(4))
    assert outer == [], "an inner context has its own list"


def test_the_reference_is_plain_and_checked_too():
    x = torch.rand(4, requires_grad=True)
    assert torch.equal(torch.autograd.grad(PRODUCT(x, reference=True).sum(), x)[0], torch.ones(4))
    with pytest.raises(InvalidInputError, match="x of the product kernel"):
        PRODUCT(torch.rand(4, 4), reference=True)
