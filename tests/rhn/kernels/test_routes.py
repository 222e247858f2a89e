"""A call goes the first way that takes it, alone or in a stack, and its backward goes back on it."""

import pytest
import torch
from torch.func import grad, vmap

from rhn.kernels.ensemble import Kernel, recurrence
from rhn.kernels.routes import Way, routed

WAYS = (1.0, 2.0, 3.0)  # the usual way and two others multiply by these, forward and, with the opposite sign, backward


def times(factor):
    def forward(x, *, least):
        return factor * x, x.clone()

    def backward(dy, needs, inputs, residuals, *, least):
        assert torch.equal(residuals[0], inputs[0])
        return (-factor * dy,)

    return Kernel(f"times {factor}", forward, backward)


def long(x, *, least):
    return x.shape[1] >= least


KERNEL = routed(times(1.0), Way(times(2.0), lambda x, least: long(x, least=2 * least)), Way(times(3.0), long))


@pytest.mark.parametrize(("length", "factor"), [(1, 1.0), (2, 3.0), (3, 3.0), (4, 2.0)])
@pytest.mark.parametrize("stack", [None, 3])
def test_the_first_way_that_takes_a_call_computes_it_in_both_directions(length, factor, stack):
    def total(x):
        y = recurrence(KERNEL, x, least=2)
        return y.sum(), y

    run, x = grad(total, has_aux=True), torch.rand(*([] if stack is None else [stack]), length)
    gradient, y = run(x) if stack is None else vmap(run)(x)
    assert torch.equal(y, factor * x)
    assert torch.equal(gradient, torch.full_like(x, -factor))
