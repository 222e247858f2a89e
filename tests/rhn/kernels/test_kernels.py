"""The fused recurrences are the equations: values, every gradient, any size, to the bit where
promised.
"""

import pytest
import torch
from cases import FAMILIES, KERNELS
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rounding import assert_as_exact, assert_within
from torch.func import hessian, jacfwd, jacrev

from rhn.kernels import compiled

every_family = pytest.mark.parametrize("case", FAMILIES, ids=str)


def results(case, arguments, *, reference=False, needs=()):
    """States, and gradients of a random projection of the states, by name; `needs`: of these
    arguments only.
    """
    leaves = {
        name: t.clone().requires_grad_(name in (needs or arguments))
        for name, t in arguments.items()
    }
    states = (case.reference if reference else case.manual)(*leaves.values(), **case.options)
    g = torch.Generator().manual_seed(9)
    w = torch.randn(states.shape, generator=g, dtype=torch.float64).to(states.dtype)
    wanted = {name: t for name, t in leaves.items() if t.requires_grad}
    gradients = torch.autograd.grad((states * w).sum(), [*wanted.values()])
    return {"states": states.detach(), **dict(zip(wanted, gradients, strict=True))}


def assert_exact(case, arguments, needs=()):
    """States and every gradient are the equation's, computed in float64."""
    wide = {name: t.double() for name, t in arguments.items()}
    ours = results(case, arguments, needs=needs)
    assert all(t.is_contiguous() for name, t in ours.items() if name not in ("states", "x", "s0"))
    assert_as_exact(ours, lambda: results(case, wide, reference=True, needs=needs))


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
    for needs in (("x",), ("s0",), ("R",), ("W", "b")):
        assert_exact(case, case.arguments(3, 2, 4, 5, 2), needs)


SMALL, LARGE = (9, 4, 5, 7, 2), (6, 4, 5, 130, 2)
ROUTES = [
    *((case, SMALL, "C", torch.float32) for case in KERNELS),
    *((case, SMALL, "Python", torch.float32) for case in FAMILIES if case.deep),
    (KERNELS[0], LARGE, "Python", torch.float32),
    *((case, (4, 3, 4, 7, 2), "C", torch.bfloat16) for case in FAMILIES),
    (FAMILIES[0], (4, 3, 4, 7, 2), "C", torch.float16),
]


@pytest.mark.parametrize(("case", "size", "language", "dtype"), ROUTES, ids=str)
def test_other_types_are_as_exact_as_rounding_lets_them_be(case, size, language, dtype):
    with pytest.MonkeyPatch.context() as patch:
        if language == "Python":
            patch.setattr(compiled, "library", lambda: None)
        assert_exact(case, case.arguments(*size, dtype=dtype))


@every_family
def test_second_derivatives_and_forward_mode_say_what_to_do(case):
    arguments = list(case.arguments(2, 2, 2, 3, 2).values())
    s0 = arguments[1].requires_grad_()
    total = lambda f: lambda s: f(arguments[0], s, *arguments[2:], **case.options).square().sum()  # noqa: E731
    (g,) = torch.autograd.grad(total(case.manual)(s0), s0, create_graph=True)
    twice = lambda f: jacrev(jacrev(f))  # noqa: E731
    for derivative in (twice, jacfwd, hessian):
        with pytest.raises(RuntimeError, match='use kernel="reference"'):
            derivative(total(case.manual))(s0.detach())
        assert derivative(total(case.reference))(s0.detach()).any()
    with pytest.raises(RuntimeError, match='no second derivative: use kernel="reference"'):
        g.sum().backward()


@every_family
def test_backward_twice_a_changed_output_and_autocast(case):
    """The saved tensors survive a retained graph and a user who writes into the states; a
    recurrence keeps its own precision.
    """
    given = case.arguments(3, 2, 3, 4, 2, dtype=torch.float32).values()
    arguments = [t.requires_grad_() for t in given]
    states = case.manual(*arguments, **case.options)
    first = torch.autograd.grad(states.sum(), arguments, retain_graph=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(case.manual(*arguments, **case.options), states)
        states.detach().zero_()
        assert all(map(torch.equal, first, torch.autograd.grad(states.sum(), arguments)))


@every_family
def test_an_empty_batch(case):
    found = results(case, case.arguments(3, 0, 3, 4, 2))
    assert found["states"].shape[1] == 0
    assert not any(found[name].any() for name in found if name not in ("x", "s0"))


# ---- tiny weights --------------------------------------------------------------------------------

T, B, M, N = 3, 4, 5, 16
SMALLEST_NORMAL = torch.finfo(torch.float32).tiny


def error(name: str, found: torch.Tensor, exact: torch.Tensor) -> float:
    """The largest error relative to the largest entry of its time step (states, x) or of its layer
    and gate, as long as that is a normal float32.
    """
    if name in ("W", "R", "b", "S"):
        axis = 0 if name == "W" else 1
        found, exact = (t.unflatten(axis, (-1, N)).flatten(0, axis) for t in (found, exact))
    elif name == "s0":
        found, exact = found.unsqueeze(0), exact.unsqueeze(0)
    found, exact = found.flatten(1), exact.flatten(1)
    largest = exact.abs().amax(1)
    known = largest > 1e3 * SMALLEST_NORMAL
    return (
        ((found - exact).abs().amax(1) / largest)[known].nan_to_num(torch.inf).max().item()
        if known.any()
        else 0.0
    )


@pytest.mark.parametrize("language", ["C", "Python"])
@pytest.mark.parametrize("case", [case for case in KERNELS if case.deep], ids=str)
@pytest.mark.parametrize(("depth", "std"), [(2, 1e-8), (4, 1e-6), (6, 1e-4)])
def test_tiny_states_and_their_gradients_survive_in_float32(case, depth, std, language):
    """On the plateau of a deep transition every layer multiplies the state by the size of its
    weights. A kernel whose nonlinearity or operands end at 1e-7 returns zeros there.
    """
    tensors = case.arguments(T, B, M, N, depth, seed=depth)
    tensors["s0"] *= 0
    tensors |= {key: std * tensors[key] for key in ("W", "R", "b", "S") if key in tensors}
    exact, single = (
        results(case, tensors, reference=True),
        {k: t.float() for k, t in tensors.items()},
    )
    with pytest.MonkeyPatch.context() as patch:
        if language == "Python":
            patch.setattr(compiled, "library", lambda: None)
        found = results(case, single)
    errors = {key: error(key, found[key].double(), exact[key]) for key in exact}
    assert_within(max(errors.values()), 1e-4, str(errors))
