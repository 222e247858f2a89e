"""A call is checked once by its row, whose tensors may lie in any memory, or in none."""

import pytest
import torch
from cases import KERNELS
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from rhn import kernels
from rhn.errors import InvalidInputError
from rhn.kernels.compiled import library

CASES = {case.name: case for case in KERNELS}
TRACED = ("highway", "gru")
needs_c = pytest.mark.skipif(
    library() is None, reason="no compiled kernels: no C compiler, or RHN_COMPILED=0"
)


def arguments(name: str = "highway") -> dict:
    return CASES[name].arguments(3, 5, 4, 7, 3, dtype=torch.float32)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda t: t[:0], id="empty"),
        pytest.param(lambda t: None, id="missing"),
        pytest.param(torch.Tensor.tolist, id="a list"),
        pytest.param(torch.Tensor.to_sparse, id="sparse"),
        pytest.param(torch.Tensor.long, id="whole numbers"),
    ],
)
@pytest.mark.parametrize("reference", [False, True])
def test_a_tensor_that_does_not_fit_is_named(change, reference):
    given = arguments()
    for name, t in given.items():
        with pytest.raises(InvalidInputError, match=f"^{name} of the deep transition kernel "):
            kernels.TRANSITION(**given | {name: change(t)}, reference=reference)


def test_a_mask_of_other_units_is_refused():
    with pytest.raises(InvalidInputError, match=r"^state_mask of .* has shape \(1, 5, 6\)"):
        kernels.TRANSITION(**arguments(), state_mask=torch.ones(1, 5, 6))


def test_half_a_gate_block_is_refused():
    shapes = (5, 2, 3), (2, 4), (6, 3), (1, 6, 4), (1, 6)
    with pytest.raises(InvalidInputError, match=r"^R of .* has shape \(1, 6, 4\)"):
        kernels.TRANSITION(*map(torch.zeros, shapes))


VIEWS = {
    "strided": lambda t: torch.stack((t, t + 1), -1)[..., 0],
    "expanded": lambda t: t[:1].expand_as(t),
    "negated": lambda t: torch._neg_view(-t),
}


@needs_c
@pytest.mark.parametrize("view", [*VIEWS, "without memory"])
def test_tensors_and_gradients_may_be_any_view(view):
    case, given, grad = CASES["highway"], arguments(), torch.randn(3, 5, 7)
    if view == "without memory":
        grad = torch._efficientzerotensor(grad.shape)
    else:
        given, grad = {name: VIEWS[view](t) for name, t in given.items()}, VIEWS[view](grad)
    found = []
    for function, plain in ((case.manual, lambda t: t), (case.reference, lambda t: t + 0)):
        leaves = [plain(t).detach().requires_grad_() for t in given.values()]
        states = function(*leaves, **case.options)
        found.append([states.detach(), *torch.autograd.grad(states, leaves, plain(grad))])
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", TRACED)
def test_where_operations_are_recorded_the_record_has_the_result_for_other_inputs(name):
    case, given = CASES[name], arguments(name)
    others = [t * 0.5 for t in given.values()]
    total = lambda f: torch.func.grad(lambda *tensors: f(*tensors, **case.options).square().sum())  # noqa: E731
    record = make_fx(total(case.manual))(*given.values())
    torch.testing.assert_close(
        record(*others), total(case.reference)(*others), rtol=1e-3, atol=1e-5
    )


@needs_c
def test_a_backward_pass_alone_cannot_be_recorded():
    x, *others = arguments().values()
    x.requires_grad_()
    states = kernels.TRANSITION(x, *others)
    with pytest.raises(InvalidInputError, match="trace the forward pass too"):
        make_fx(lambda g: torch.autograd.grad(states, x, g))(torch.ones_like(states))


@pytest.mark.parametrize("name", TRACED)
def test_pretended_tensors_have_pretended_results(name):
    case = CASES[name]
    with FakeTensorMode() as mode:
        fake = [mode.from_tensor(t) for t in arguments(name).values()]
    states = case.manual(*fake, **case.options)
    assert states.shape == case.reference(*arguments(name).values(), **case.options).shape
    meta = [t.to("meta") for t in arguments(name).values()]
    assert case.manual(*meta, **case.options).is_meta
