"""Kernels under vmap and jacrev: a stack is what its models are alone, in one call."""

import pytest
import torch
from cases import FAMILIES, KERNELS, assert_close
from tables import for_each
from torch.func import grad, grad_and_value, jacrev, vmap

from rhn.kernels import compiled

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


STACKS = [  # (kernel, arguments that the models share, the mapped axis)
    *((case, ("x",), 0) for case in KERNELS),
    *(
        (case, shared, dim)
        for case in FAMILIES
        for shared, dim in (((), 1), ((), -1), (("x", "s0"), 0), (("R", "W"), 0))
    ),
]


@for_each(("case", "shared", "dim"), STACKS)
def test_stacked_models_under_vmap_equal_single_ones(case, shared, dim):
    names, arguments, w = stacked(case)
    arguments = [t[0] if n in shared else t for n, t in zip(names, arguments, strict=True)]
    moved = [t if n in shared else t.movedim(0, dim) for n, t in zip(names, arguments, strict=True)]
    dims, every = tuple(None if n in shared else dim for n in names), tuple(range(len(names)))
    got = vmap(grad_and_value(loss_of(case.manual, w, case.options), argnums=every), in_dims=dims)(
        *moved
    )

    def alone(k):
        mine = [t if n in shared else t[k] for n, t in zip(names, arguments, strict=True)]
        return grad_and_value(loss_of(case.reference, w, case.options), argnums=every)(*mine)

    assert_each(names, got, alone, 3)


BITS = [  # the other sizes take the ways of sparse inputs and of large products
    *((case, "C", (6, 32, 9, 13, 3)) for case in KERNELS),
    *((case, "C", (6, 32, 88, 37, 2)) for case in FAMILIES),
    *((case, "Python", (6, 32, 5, 7, 2)) for case in FAMILIES),
    *((case, "Python", (6, 32, 88, 150, 2)) for case in FAMILIES),
]


@for_each(("case", "language", "size"), BITS)
@for_each(("K", "shared"), [(1, ()), (2, ()), (3, ()), (3, ("x", "s0"))])
def test_a_model_has_the_same_bits_alone_in_a_stack_and_on_threads(case, language, size, K, shared):
    arguments = case.arguments(*size, stack=K, dtype=torch.float32)
    if size[2] == 88:
        arguments["x"] *= torch.rand_like(arguments["x"]) < 0.05
    dims = [None if name in shared else 0 for name in arguments]
    arguments = [t[0] if name in shared else t for name, t in arguments.items()]
    w, every = torch.randn(arguments[1].shape[-2:]), tuple(range(len(arguments)))

    def loss(*arguments):
        states = case.manual(*arguments, **case.options)
        return (states * w).square().sum(), states

    run, before = grad(loss, argnums=every, has_aux=True), torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        if language == "Python":
            patch.setattr(compiled, "library", lambda: None)
        torch.set_num_threads(2 if case.deep and language == "C" else 1)
        try:
            gradients, states = vmap(run, in_dims=tuple(dims))(*arguments)
        finally:
            torch.set_num_threads(before)
        for k in range(K):
            mine = (t if d is None else t[k] for t, d in zip(arguments, dims, strict=True))
            wanted, alone = run(*mine)
            found = [g[k] for g in gradients]
            assert torch.equal(states[k], alone), f"states of model {k}"
            assert all(map(torch.equal, found, wanted)), f"gradients of model {k}"


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
    for name, g, h in zip(
        names, *(torch.autograd.grad((v * w).sum(), leaves) for v in (y, wanted)), strict=True
    ):
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
        assert_each(
            names, got, lambda k, j=j: reference(batches[j], *(t[k] for t in arguments[1:])), 3
        )


@every_family
def test_jacrev_through_time(case):
    """Many gradients of one forward pass: the mapped axis is on the gradient alone."""
    names, arguments, _ = stacked(case, T=2, K=2)
    single, found = [t[0] for t in arguments], []
    for function in (case.manual, case.reference):

        def last(*given, function=function):
            return function(*given, **case.options)[-1]

        def of_shared_weights(R, last=last):
            return vmap(lambda x: last(x, *single[1:3], R, *single[4:]))(arguments[0])

        each = jacrev(last, argnums=tuple(range(len(names))))(*single)
        mapped = vmap(jacrev(last, argnums=3))(*arguments)
        found.append([*each, mapped, jacrev(of_shared_weights)(single[3])])
    for name, g, h in zip([*names, "vmap(jacrev)", "shared weights"], *found, strict=True):
        assert_close(g, h, 1e-11, name)
