"""Kernels under vmap and jacrev: a stack is what its models are alone, in one call."""

import pytest
import torch
from cases import FAMILIES, KERNELS, assert_close
from torch.func import grad, jacrev, vmap

from rhn.kernels import compiled

every_family = pytest.mark.parametrize("case", FAMILIES, ids=str)


BITS = [  # the other sizes take the ways of sparse inputs and of large products
    *((case, "C", (3, 32, 9, 13, 3)) for case in KERNELS),
    *((case, "C", (3, 32, 88, 37, 2)) for case in FAMILIES),
    *((case, "Python", (3, 32, 5, 7, 2)) for case in FAMILIES),
    *((case, "Python", (3, 32, 88, 150, 2)) for case in FAMILIES),
]


@pytest.mark.parametrize(("case", "language", "size"), BITS, ids=str)
@pytest.mark.parametrize(
    ("K", "shared", "dim"),
    [(1, (), 0), (2, (), 1), (3, ("R", "W"), 0), (3, ("x", "s0"), -1)],
    ids=str,
)
def test_a_model_has_the_same_bits_alone_in_a_stack_and_on_threads(
    case, language, size, K, shared, dim
):
    """`shared`: arguments of all models; `dim`: the mapped axis of the others."""
    arguments = case.arguments(*size, stack=K, dtype=torch.float32)
    if size[2] == 88:
        arguments["x"] *= torch.rand_like(arguments["x"]) < 0.05
    dims = [None if name in shared else dim for name in arguments]
    arguments = [t[0] if name in shared else t for name, t in arguments.items()]
    moved = [t if d is None else t.movedim(0, d) for t, d in zip(arguments, dims, strict=True)]
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
            gradients, states = vmap(run, in_dims=tuple(dims))(*moved)
        finally:
            torch.set_num_threads(before)
        for k in range(K):
            mine = (t if d is None else t[k] for t, d in zip(arguments, dims, strict=True))
            wanted, alone = run(*mine)
            found = [g[k] for g in gradients]
            assert torch.equal(states[k], alone), f"states of model {k}"
            assert all(map(torch.equal, found, wanted)), f"gradients of model {k}"


@every_family
def test_other_mappings_are_those_of_the_equation(case):
    """Minibatches by models, minibatches of one model, and many gradients of one forward pass,
    whose mapped axis is on the gradient alone.
    """
    arguments = [*case.arguments(2, 2, 3, 5, 2, stack=2).values()]
    single, every, found = [t[0] for t in arguments], tuple(range(len(arguments))), []
    batches = torch.randn_like(arguments[0])
    for function in (case.manual, case.reference):

        def last(*given, function=function):
            return function(*given, **case.options)[-1]

        def of_models(x, last=last):
            f = grad(lambda *given: last(*given).square().sum(), argnums=every)
            own = arguments[2:]
            return vmap(f, in_dims=(None, None, *[0] * len(own)))(x, single[1], *own)

        def of_shared_weights(R, last=last):
            return vmap(lambda x: last(x, *single[1:3], R, *single[4:]))(arguments[0])

        leaves = [t.clone().requires_grad_() for t in (batches, *single[1:])]
        states = vmap(lambda x, last=last, leaves=leaves: last(x, *leaves[1:]))(leaves[0])
        summed = torch.autograd.grad(states.square().sum(), leaves)
        each = jacrev(last, argnums=every)(*single)
        mapped = vmap(jacrev(last, argnums=3))(*arguments)
        jacobian = jacrev(of_shared_weights)(single[3])
        found.append([*vmap(of_models)(batches), *summed, *each, mapped, jacobian])
    for place, (g, h) in enumerate(zip(*found, strict=True)):
        assert_close(g, h, 1e-11, f"result {place}")
