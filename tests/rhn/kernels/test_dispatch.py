"""The first implementation that supports a call computes it, and its backward pass."""

import torch
from tables import for_each
from torch.func import grad, vmap

from rhn.kernels.autograd import batched_function
from rhn.kernels.dispatch import Choice, Implementation, Operation, choose, recorded_choices


def times(factor, supports=lambda x, least: None):
    """Multiply by a factor, forward and, with the opposite sign, backward."""

    def forward(x, *, least):
        return factor * x, x.clone()

    def backward(dy, needs, inputs, residuals, *, least):
        assert torch.equal(residuals[0], inputs[0].expand_as(residuals[0]))
        return (-factor * dy,)

    return Implementation(f"times {factor}", forward, backward, supports)


def short(x, *, least):
    return f"it has fewer than {least} entries" if x.shape[1] < least else None


OPERATION = Operation("product", times(2.0, lambda x, least: short(x, least=2 * least)), times(3.0, short), times(1.0))


@for_each(("length", "factor"), [(1, 1.0), (2, 3.0), (3, 3.0), (4, 2.0)])
@for_each("stack", [None, 3])
def test_the_first_that_supports_a_call_computes_both_directions(length, factor, stack):
    def total(x):
        y = batched_function(OPERATION, x, least=2)
        return y.sum(), y

    run, x = grad(total, has_aux=True), torch.rand(*([] if stack is None else [stack]), length)
    gradient, y = run(x) if stack is None else vmap(run)(x)
    assert torch.equal(y, factor * x)
    assert torch.equal(gradient, torch.full_like(x, -factor))


def test_choices_are_recorded_with_reasons():
    def recorded(length):
        with recorded_choices() as choices:
            batched_function(OPERATION, torch.rand(length), least=2)
        return choices

    assert recorded(4) == [Choice("product", "times 2.0", None)]
    assert recorded(3) == [
        Choice("product", "times 2.0", "it has fewer than 4 entries"),
        Choice("product", "times 3.0", None),
    ]
    with recorded_choices() as outer:
        recorded(4)
    batched_function(OPERATION, torch.rand(4), least=2)
    assert outer == [], "an inner context has its own list"


def test_without_a_supporting_implementation_nothing_is_chosen():
    operation, x = Operation("product", times(3.0, short)), torch.rand(1, 1)
    assert choose(operation, x, least=2) is None
