"""A call is checked once by its row; C computes it if the limit allows, and its backward pass; the
other code of the row the rest.
"""

import pytest
import torch
from cases import KERNELS
from choices import recorded_choices
from tables import for_each
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call, grad, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from rhn import kernels
from rhn.cells import RHN
from rhn.errors import InvalidInputError
from rhn.kernels.compiled import library
from rhn.kernels.table import Kernel

CASES = {case.name: case for case in KERNELS}
TRACED = ("highway", "gru")
needs_c = pytest.mark.skipif(
    library() is None, reason="no compiled kernels: no C compiler, or RHN_COMPILED=0"
)


def arguments(name: str = "highway") -> dict:
    return CASES[name].arguments(3, 5, 4, 7, 3, dtype=torch.float32)


# ---- which code computes -------------------------------------------------------------------------


def times(factor):
    """Multiply by a factor, forward and, with the opposite sign, backward."""

    def forward(x, *, K, least, keep):
        return factor * x, x.clone()

    def backward(dy, needs, residuals, *, x, least):
        assert torch.equal(residuals[0], x.expand_as(residuals[0]))
        return {"x": -factor * dy}

    return forward, backward


def long(x, *, least):
    return len(x) >= least


ROW = {
    "name": "product",
    "arguments": {"x": "entries"},
    "reference": lambda x, least: 1.0 * x,
    "supports": long,
}
PRODUCT = Kernel(**ROW, options={"least": 3}, fused=times(3.0), compiled=times(2.0))
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


def test_what_no_code_computes_is_computed_by_the_equation():
    with recorded_choices() as choices:
        ONLY_C(torch.rand(2), least=3)
    assert choices == ["reference"]


def test_the_reference_is_plain_and_checked_too():
    x = torch.rand(4, requires_grad=True)
    assert torch.equal(torch.autograd.grad(PRODUCT(x, reference=True).sum(), x)[0], torch.ones(4))
    with pytest.raises(InvalidInputError, match="x of the product kernel"):
        PRODUCT(torch.rand(4, 4), reference=True)


# ---- the check -----------------------------------------------------------------------------------


@for_each(
    ("name", "change", "match"),
    [
        ("x", lambda t: t[..., :3], r"\(3, 5, 3\): expected \(T, B, 4\)"),
        ("W", lambda t: t[:13], r"\(13, 4\): expected \(2\*7, m\)"),
        ("R", lambda t: t[..., :6], "expected"),
        ("s0", lambda t: t[:3], "expected"),
        ("b", lambda t: t[:2], "expected"),
        ("x", lambda t: t[:0], "expected"),
        ("W", torch.Tensor.double, "float64"),
        ("b", torch.Tensor.to_sparse, "dense"),
        ("b", lambda t: t.to("meta"), "meta"),
        ("s0", torch.Tensor.tolist, "expected a tensor"),
        ("b", lambda t: None, "is None"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named_with_what_was_expected(name, change, match):
    given = arguments()
    for reference in (False, True):
        with pytest.raises(
            InvalidInputError, match=f"{name} of the deep transition kernel .*{match}"
        ):
            kernels.TRANSITION(*(given | {name: change(given[name])}).values(), reference=reference)


def test_optional_tensors_are_checked_too():
    with pytest.raises(InvalidInputError, match="expected"):
        kernels.TRANSITION(*arguments().values(), candidate_mask=torch.ones(4, 7))


def test_the_targets_of_a_softmax_are_whole_numbers():
    y, U, b = torch.zeros(2, 3, 4), torch.zeros(5, 4), torch.zeros(5)
    assert kernels.SOFTMAX(y, U, b, torch.zeros(2, 3, dtype=torch.int64)).shape == (2, 3)
    with pytest.raises(InvalidInputError, match="targets of the softmax kernel is torch"):
        kernels.SOFTMAX(y, U, b, torch.zeros(2, 3))


@for_each("other", [{"hidden_size": 70}, {"input_size": 40}])
def test_weights_of_another_cell_are_refused_also_under_vmap(other):
    cell = RHN(4, 7, depth=5)
    weights = dict(RHN(**{"input_size": 4, "hidden_size": 7} | other, depth=5).named_parameters())
    x, stack = torch.randn(3, 5, 4), {k: p.expand(2, *p.shape) for k, p in weights.items()}
    with pytest.raises(InvalidInputError, match="expected"):
        vmap(lambda w: functional_call(cell, w, (x,)))(stack)


# ---- tensors in other memory, and without any ----------------------------------------------------

VIEWS = {
    "strided": lambda t: torch.stack((t, t + 1), -1)[..., 0],
    "expanded": lambda t: t[:1].expand_as(t),
    "negated": lambda t: torch.complex(torch.zeros_like(t), -t).conj().imag,
}


@for_each("view", VIEWS)
def test_a_view_is_as_good_as_its_values(view):
    case, given = CASES["highway"], {key: VIEWS[view](t) for key, t in arguments("highway").items()}
    found, same = (
        case.manual(*tensors, **case.options)
        for tensors in (given.values(), [t + 0 for t in given.values()])
    )
    torch.testing.assert_close(found, same, rtol=1e-4, atol=1e-5)


@needs_c
@for_each("view", [*VIEWS, "without memory"])
def test_a_gradient_may_be_any_view(view):
    grad, case = torch.randn(3, 5, 7), CASES["highway"]
    grad = torch._efficientzerotensor(grad.shape) if view == "without memory" else VIEWS[view](grad)
    results = []
    for function, given in ((case.manual, grad), (case.reference, grad + 0)):
        leaves = [t.clone().requires_grad_() for t in arguments().values()]
        results.append(torch.autograd.grad(function(*leaves, **case.options), leaves, given))
    torch.testing.assert_close(*results, rtol=1e-3, atol=1e-5)


@for_each("name", TRACED)
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


@for_each("name", TRACED)
def test_pretended_tensors_have_pretended_results(name):
    case = CASES[name]
    with FakeTensorMode() as mode:
        fake = [mode.from_tensor(t) for t in arguments(name).values()]
    states = case.manual(*fake, **case.options)
    assert states.shape == case.reference(*arguments(name).values(), **case.options).shape
    meta = [t.to("meta") for t in arguments(name).values()]
    assert case.manual(*meta, **case.options).is_meta
