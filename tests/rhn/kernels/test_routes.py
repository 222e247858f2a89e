"""A call goes the first way that takes it, alone or in a stack, and its backward goes back on it or on the usual way."""

import warnings

import pytest
import torch
from torch.func import grad, jacrev, vmap

from rhn.kernels.ensemble import Kernel, recurrence
from rhn.kernels.routes import LaunchError, Way, routed
from rhn.kernels.told import listening

WAYS = (1.0, 2.0, 3.0)  # the usual way and two others multiply by these, forward and, with the opposite sign, backward


def times(factor):
    def forward(x, *, least):
        return factor * x, x.clone()

    def backward(dy, needs, inputs, residuals, *, least):
        assert torch.equal(residuals[0], inputs[0].expand_as(residuals[0]))
        return (-factor * dy,)

    return Kernel(f"times {factor}", forward, backward)


def short(x, *, least):
    return f"it has fewer than {least} entries" if x.shape[1] < least else None


KERNEL = routed(
    times(1.0), Way(times(2.0), lambda x, least: short(x, least=2 * least), "twos"), Way(times(3.0), short, "threes")
)


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


def test_who_listens_is_told_who_refused_and_who_took_the_call():
    def heard(length):
        with listening() as told:
            recurrence(KERNEL, torch.rand(length), least=2)
        return told

    assert heard(4) == [("twos", None), ("hand-derived", None)]
    assert heard(3) == [("twos", "it has fewer than 4 entries"), ("threes", None), ("hand-derived", None)]
    assert [name for name, refusal in heard(1) if refusal is None] == ["hand-derived"]
    with listening() as outer:
        heard(4)
    recurrence(KERNEL, torch.rand(4), least=2)
    assert outer == [], "each hears what happens within it alone"


def failing(direction):
    """A kernel that multiplies by 2 and whose launches fail in one direction."""
    kernel = times(2.0)

    def fail(*arguments, **options):
        raise LaunchError("no shared memory")

    return kernel._replace(**{direction: fail})


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("stack", [None, 3])
def test_a_failed_launch_is_computed_by_the_usual_kernel_with_one_warning_for_the_whole_process(direction, stack):
    kernel = routed(times(1.0), Way(failing(direction), lambda x, least: None))
    run = jacrev(lambda x: recurrence(kernel, x, least=1))
    run, x = run if stack is None else vmap(run), torch.rand(*([] if stack is None else [stack]), 2)
    with pytest.warns(
        UserWarning, match=r"times 2.0 kernel is left for the hand-derived one: no shared memory"
    ) as caught:
        jacobian = run(x)
    assert len(caught) == 1
    assert torch.equal(jacobian, -torch.eye(2).expand_as(jacobian)), "the usual kernel's backward, forward or not"
    with warnings.catch_warnings(), listening() as told:
        warnings.simplefilter("error")
        assert torch.equal(recurrence(kernel, torch.ones(2), least=1), torch.ones(2))
    assert told == [("persistent", "no shared memory"), ("hand-derived", None)]


def test_other_errors_of_a_kernel_are_not_hidden():
    def fail(*arguments, **options):
        raise ValueError("a bug")

    kernel = routed(times(1.0), Way(times(2.0)._replace(forward=fail), lambda x, least: None))
    with pytest.raises(ValueError, match="a bug"):
        recurrence(kernel, torch.ones(2), least=1)
