"""Kernels under vmap and jacrev: a stack is what its models are alone, in one call."""

import pytest
import torch
from cases import FAMILIES, KERNELS, SHALLOW_CASES, assert_close
from tables import for_each
from torch.func import functional_call, grad, grad_and_value, jacrev, stack_module_state, vmap

from rhn.kernels import dispatch
from rhn.kernels.autograd import Code, batched_function, stack_size
from rhn.kernels.compiled import build

every_family = for_each("case", FAMILIES)


def loss_of(function, w, options):
    return lambda *arguments: (function(*arguments, **options) * w).sum()


def stacked(case, T=3, B=2, m=3, n=5, L=2, K=3):
    """(names, stacked arguments, projection)."""
    arguments = case.arguments(T, B, m, n, L, stack=K)
    state = arguments["s0"].shape[-1]
    return list(arguments), list(arguments.values()), torch.randn(T, B, state, dtype=torch.float64)


def assert_each(names, got, wanted_of, K):
    """Gradients and value of each model k equal `wanted_of(k)`."""
    gradients, values = got
    for k in range(K):
        wanted, value = wanted_of(k)
        assert_close(values[k], value, 1e-11, f"value of model {k}")
        for name, g, w in zip(names, gradients, wanted, strict=True):
            assert_close(g[k], w, 1e-11, f"gradient of {name}, model {k}")


STACKS = [  # (kernel, arguments that the models share)
    *((case, ("x",)) for case in KERNELS),
    *((case, shared) for case in FAMILIES for shared in ((), ("x", "s0"), ("R", "W"))),
]


@for_each(("case", "shared"), STACKS)
def test_stacked_models_under_vmap_equal_single_ones(case, shared):
    names, arguments, w = stacked(case)
    arguments = [t[0] if n in shared else t for n, t in zip(names, arguments, strict=True)]
    dims = tuple(None if n in shared else 0 for n in names)
    every = tuple(range(len(names)))
    got = vmap(grad_and_value(loss_of(case.manual, w, case.options), argnums=every), in_dims=dims)(*arguments)

    def alone(k):
        mine = [t if n in shared else t[k] for n, t in zip(names, arguments, strict=True)]
        return grad_and_value(loss_of(case.reference, w, case.options), argnums=every)(*mine)

    assert_each(names, got, alone, 3)


@every_family
def test_the_mapped_axis_may_be_anywhere(case):
    names, arguments, w = stacked(case)
    every = tuple(range(len(names)))
    f = grad_and_value(loss_of(case.manual, w, case.options), argnums=every)
    for dim in (1, -1):
        moved = [t.movedim(0, dim) for t in arguments]
        assert_each(names, vmap(f, in_dims=dim)(*moved), lambda k: f(*(t[k] for t in arguments)), 3)


@every_family
def test_shared_weights_get_the_sum_of_the_gradients(case):
    """autograd outside vmap: one model, K minibatches."""
    names, arguments, _ = stacked(case)
    single = [t[0].clone().requires_grad_() for t in arguments]
    x = arguments[0].clone().requires_grad_()
    leaves = [x, *single[1:]]
    y = vmap(lambda x: case.manual(x, *single[1:], **case.options))(x)
    wanted = torch.stack([case.reference(x_k, *single[1:], **case.options) for x_k in x])
    w = torch.randn_like(y)
    for name, g, h in zip(names, *(torch.autograd.grad((v * w).sum(), leaves) for v in (y, wanted)), strict=True):
        assert_close(g, h, 1e-11, name)


@every_family
def test_nested_vmap(case):
    """Minibatches (outer) by models (inner)."""
    names, arguments, w = stacked(case)
    every = tuple(range(len(names)))
    batches = torch.randn(2, *arguments[0].shape[1:], dtype=torch.float64)
    f = grad_and_value(loss_of(case.manual, w, case.options), argnums=every)
    inner = lambda x: vmap(f, in_dims=(None, *[0] * (len(names) - 1)))(x, *arguments[1:])  # noqa: E731
    gradients, values = vmap(inner)(batches)
    reference = grad_and_value(loss_of(case.reference, w, case.options), argnums=every)
    for j in range(2):
        got = [g[j] for g in gradients], values[j]
        assert_each(names, got, lambda k, j=j: reference(batches[j], *(t[k] for t in arguments[1:])), 3)


@every_family
def test_jacrev_through_time(case):
    """Many gradients of one forward pass: the mapped axis is on the gradient alone."""
    names, arguments, _ = stacked(case, T=2, K=2)
    every = tuple(range(len(names)))
    single = [t[0] for t in arguments]
    last = lambda f: lambda *a: f(*a, **case.options)[-1]  # noqa: E731
    got, wanted = (jacrev(last(f), argnums=every)(*single) for f in (case.manual, case.reference))
    for name, g, h in zip(names, got, wanted, strict=True):
        assert_close(g, h, 1e-11, name)
    shared = lambda f: jacrev(lambda R: vmap(lambda x: last(f)(x, *single[1:3], R, *single[4:]))(arguments[0]))  # noqa: E731
    assert_close(shared(case.manual)(single[3]), shared(case.reference)(single[3]), 1e-11, "weights shared by a stack")
    both = vmap(jacrev(last(case.manual), argnums=3))(*arguments)
    assert_close(both[1], jacrev(last(case.reference), argnums=3)(*(t[1] for t in arguments)), 1e-11, "vmap(jacrev)")


@pytest.mark.parametrize("case", FAMILIES, ids=str)
def test_a_stack_is_one_kernel_call_forward_and_one_backward(case, monkeypatch):
    calls = []

    def counted(code, *tensors, **options):
        def forward(*tensors, **options):
            calls.append(("forward", stack_size(*tensors)))
            return code.forward(*tensors, **options)

        def backward(gradient, *rest, **options):
            calls.append(("backward", gradient.shape[0]))
            return code.backward(gradient, *rest, **options)

        return batched_function(Code(code.name, forward, backward), *tensors, **options)

    monkeypatch.setattr(dispatch, "batched_function", counted)
    names, arguments, w = stacked(case, K=6)
    f = grad(lambda *a: (case.manual(*a, **case.options) * w).square().sum(), argnums=2)
    vmap(f, in_dims=(None, *[0] * (len(names) - 1)))(arguments[0][0], *arguments[1:])
    assert calls == [("forward", 6), ("backward", 6)]


# Sizes of the C kernels (and of what has none), of the same in Python, and of packed weights: a cell of each family of kernels.
PACKED = ("rhn", "dts-rnn", "lstm", "gru", "cornn")
BIT_CASES = [
    *((case, 88, 37, 20, "compiled") for case in SHALLOW_CASES if case.key in (*PACKED, "rnn", "mgu", "mingru", "lru")),
    *((case, 5, 7, 9, "in Python") for case in SHALLOW_CASES if case.depth == 2),
    *((case, 88, 150, 9, "packed") for case in SHALLOW_CASES if case.key in PACKED),
]


@pytest.mark.parametrize(("case", "m", "n", "T", "route"), BIT_CASES, ids=str)
def test_a_model_trained_in_a_stack_equals_itself_alone_to_the_bit(case, m, n, T, route, monkeypatch):
    """float32, one thread, 32 rows (of which a last batch masks 27): loss and every gradient, for K = 1, 2, 5."""
    assert torch.get_num_threads() == 1
    if route == "in Python":
        monkeypatch.setattr(build, "library", lambda: None)
    cells = [case.build(m, n, seed=k, dtype=torch.float32) for k in range(5)]
    x = (torch.rand(T, 32, m) < 0.05).float() if m == 88 else torch.randn(T, 32, m)
    w = torch.randn(T, 32, n)
    rows = 5 if n == 37 else 32
    mask = torch.arange(T)[:, None] < torch.where(torch.arange(32) < rows, torch.randint(1, T + 1, (32,)), 0)

    def loss(parameters):
        return (functional_call(cells[0], parameters, (x,), {"mask": mask})[0] * w).square().sum()

    alone = []
    for cell in cells:
        value = (cell(x, mask=mask)[0] * w).square().sum()
        names, parameters = zip(*cell.named_parameters(), strict=True)
        alone.append((value, dict(zip(names, torch.autograd.grad(value, parameters), strict=True))))
    for K in (1, 2, 5):
        stack = {name: p.detach() for name, p in stack_module_state(cells[:K])[0].items()}
        gradients, values = vmap(grad_and_value(loss))(stack)
        for k in range(K):
            assert torch.equal(values[k], alone[k][0]), f"loss of model {k} of {K}"
            for name in gradients:
                assert torch.equal(gradients[name][k], alone[k][1][name]), f"gradient of {name}, model {k} of {K}"
