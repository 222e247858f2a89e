"""The fused recurrences are the equations: values, every gradient, any size, to the bit where
promised.
"""

import pytest
import torch
from cases import FAMILIES, KERNELS, assert_close
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rounding import assert_as_exact
from tables import for_each
from torch.func import hessian, jacfwd, jacrev

from rhn.kernels import compiled

every_family = for_each("case", FAMILIES)


def value_and_gradients(function, arguments, needs=None, **options):
    """(states, gradients by name) of a random projection of the states."""
    needs = set(arguments) if needs is None else needs
    leaves = {name: t.clone().requires_grad_(name in needs) for name, t in arguments.items()}
    states = function(*leaves.values(), **options)
    w = torch.randn(
        states.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64
    ).to(states.dtype)
    wanted = [t for t in leaves.values() if t.requires_grad]
    gradients = torch.autograd.grad((states * w).sum(), wanted)
    return states.detach(), dict(
        zip((n for n, t in leaves.items() if t.requires_grad), gradients, strict=True)
    )


def results(function, arguments, options):
    """States and gradients by name."""
    states, gradients = value_and_gradients(function, arguments, **options)
    return {"states": states} | gradients


def assert_same(case, arguments, tolerance=1e-11, needs=None, floor=1e-6):
    states, gradients = value_and_gradients(case.manual, arguments, needs, **case.options)
    states_wanted, wanted = value_and_gradients(case.reference, arguments, needs, **case.options)
    assert_close(states, states_wanted, tolerance, "states", floor=floor)
    for name in wanted:
        assert_close(gradients[name], wanted[name], tolerance, f"gradient of {name}", floor=floor)


def assert_exact(case, arguments):
    """States and every gradient are the equation's, computed in float64."""
    wide = {name: t.double() for name, t in arguments.items()}
    ours = results(case.manual, arguments, case.options)
    assert all(
        t.is_contiguous() for name, t in ours.items() if name in ("W", "R", "b", "S", "q", "v")
    )
    assert_as_exact(ours, lambda: results(case.reference, wide, case.options))


@settings(max_examples=80)
@example(case=KERNELS[0], size=(1, 1, 1, 1, 1), seed=0, saturated=False)
@given(
    case=st.sampled_from(KERNELS),
    size=st.tuples(*[st.integers(1, 6)] * 4, st.integers(1, 4)),
    seed=st.integers(0, 99),
    saturated=st.booleans(),
)
def test_values_and_every_gradient_equal_the_reference_at_any_size(case, size, seed, saturated):
    assert_exact(case, case.arguments(*size, seed=seed, saturated=saturated))


@every_family
def test_gradients_may_be_asked_of_some_arguments_only(case):
    arguments = case.arguments(3, 2, 4, 5, 2)
    for needs in ({"x"}, {"s0"}, {"R"}, {"W", "b"}):
        assert_same(case, arguments, needs=needs & set(arguments) or {"W"})


SMALL, LARGE = (9, 4, 5, 7, 2), (6, 4, 5, 130, 2)
ROUTES = [
    *((case, SMALL, "C") for case in KERNELS),
    *((case, SMALL, "Python") for case in FAMILIES if case.deep),
    (KERNELS[0], LARGE, "Python"),
]


@for_each(("case", "size", "language"), ROUTES)
def test_float32_is_as_exact_as_rounding_lets_it_be(case, size, language, monkeypatch):
    if language == "Python":
        monkeypatch.setattr(compiled, "library", lambda: None)
    assert_exact(case, case.arguments(*size, dtype=torch.float32))


@for_each(
    ("case", "dtype"),
    [*((case, torch.bfloat16) for case in FAMILIES), (FAMILIES[0], torch.float16)],
)
def test_half_precision_is_as_exact_as_rounding_lets_it_be(case, dtype):
    assert_exact(case, case.arguments(4, 3, 4, 7, 2, dtype=dtype))


@every_family
def test_second_derivatives_and_forward_mode_say_what_to_do(case):
    arguments = list(case.arguments(2, 2, 2, 3, 2).values())
    s0 = arguments[1].requires_grad_()
    total = lambda f: lambda s: f(arguments[0], s, *arguments[2:], **case.options).square().sum()  # noqa: E731
    (g,) = torch.autograd.grad(total(case.manual)(s0), s0, create_graph=True)
    with pytest.raises(RuntimeError, match='no second derivative: use kernel="reference"'):
        g.sum().backward()
    with pytest.raises(RuntimeError, match="no second derivative"):
        jacrev(jacrev(total(case.manual)))(s0.detach())
    for forward_mode in (jacfwd, hessian):
        with pytest.raises(RuntimeError, match='no forward mode: use kernel="reference"'):
            forward_mode(total(case.manual))(s0.detach())
    H = hessian(total(case.reference))(s0.detach())
    assert_close(
        H, jacrev(jacrev(total(case.reference)))(s0.detach()), 1e-10, "hessian of the reference"
    )


@every_family
def test_backward_twice_and_a_changed_output(case):
    """The saved tensors survive a retained graph and a user who writes into the states."""
    arguments = [t.requires_grad_() for t in case.arguments(3, 2, 3, 4, 2).values()]
    states = case.manual(*arguments, **case.options)
    first = torch.autograd.grad(states.sum(), arguments, retain_graph=True)
    states.detach().zero_()
    assert all(map(torch.equal, first, torch.autograd.grad(states.sum(), arguments)))


@every_family
def test_an_empty_batch(case):
    states, gradients = value_and_gradients(
        case.manual, case.arguments(3, 0, 3, 4, 2), **case.options
    )
    assert states.shape[1] == 0
    assert not any(gradients[name].any() for name in gradients if name not in ("x", "s0"))


@every_family
def test_autocast_leaves_the_recurrence_in_its_own_precision(case):
    arguments = case.arguments(3, 2, 3, 4, 2, dtype=torch.float32)
    wanted = value_and_gradients(case.manual, arguments, **case.options)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = value_and_gradients(case.manual, arguments, **case.options)
    assert torch.equal(got[0], wanted[0])
    assert all(torch.equal(got[1][name], wanted[1][name]) for name in wanted[1])
