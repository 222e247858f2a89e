"""The hand-derived recurrences are the equations: values, every gradient, any size, alone or stacked, to the bit where promised."""

import pytest
import torch
from cases import KERNELS, SHALLOW_CASES, assert_close, inputs
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import functional_call, grad, grad_and_value, hessian, jacfwd, jacrev, stack_module_state, vmap

from rhn.cells import CELLS
from rhn.kernels import highway, packed
from rhn.kernels.compiled import call
from rhn.kernels.ensemble import Kernel, stack_size
from rhn.kernels.highway import manual as highway_manual

SIZES = [(1, 1, 1, 1, 1), (5, 3, 4, 7, 1), (1, 2, 3, 5, 2), (4, 1, 2, 7, 5), (3, 3, 1, 4, 10)]  # T, B, m, n, L
FLOOR = {False: 1e-6, True: 1e-3}  # 1 - h^2 of a saturated h is rounded absolutely, in whatever order it is taken


@pytest.fixture(params=["compiled", "in Python"])
def code(request, monkeypatch):
    """Both ways to run a small float32 recurrence on a CPU; where nothing can be compiled they are one."""
    if request.param == "in Python":
        monkeypatch.setattr(call, "library", lambda: None)


every_kernel = pytest.mark.parametrize("case", KERNELS, ids=str)


def value_and_gradients(function, arguments, needs=None, **options):
    """(states, gradients by name) of a random projection of the states."""
    needs = set(arguments) if needs is None else needs
    leaves = {name: t.clone().requires_grad_(name in needs) for name, t in arguments.items()}
    states = function(*leaves.values(), **options)
    w = torch.randn(states.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64).to(states.dtype)
    wanted = [t for t in leaves.values() if t.requires_grad]
    gradients = torch.autograd.grad((states * w).sum(), wanted)
    return states.detach(), dict(zip((n for n, t in leaves.items() if t.requires_grad), gradients, strict=True))


def assert_same(case, arguments, tolerance=1e-11, needs=None, floor=1e-6):
    states, gradients = value_and_gradients(case.manual, arguments, needs, **case.options)
    states_wanted, wanted = value_and_gradients(case.reference, arguments, needs, **case.options)
    assert_close(states, states_wanted, tolerance, "states", floor=floor)
    for name in wanted:
        assert_close(gradients[name], wanted[name], tolerance, f"gradient of {name}", floor=floor)


@every_kernel
@pytest.mark.parametrize("saturated", [False, True], ids=["", "saturated"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_values_and_every_gradient_equal_the_reference(case, size, saturated):
    assert_same(case, case.arguments(*size, saturated=saturated), floor=FLOOR[saturated])


@every_kernel
@settings(max_examples=15)
@given(size=st.tuples(*[st.integers(1, 6)] * 4, st.integers(1, 4)), seed=st.integers(0, 99), saturated=st.booleans())
def test_any_size_equals_the_reference(case, size, seed, saturated):
    assert_same(case, case.arguments(*size, seed=seed, saturated=saturated), floor=FLOOR[saturated])


@every_kernel
@pytest.mark.parametrize("needs", [("x",), ("s0",), ("R",), ("W", "b")], ids=str)
def test_gradients_may_be_asked_of_some_arguments_only(case, needs):
    arguments = case.arguments(3, 2, 4, 5, 2)
    assert_same(case, arguments, needs=set(needs) & set(arguments) or {"W"})


@every_kernel
def test_gradcheck(case):
    arguments = [t.requires_grad_() for t in case.arguments(2, 2, 2, 3, 2).values()]
    assert torch.autograd.gradcheck(lambda *a: case.manual(*a, **case.options), arguments)


@pytest.mark.parametrize("coupled", [True, False])
@pytest.mark.parametrize("steps", [1, 3, 4, 7])
def test_the_highway_backward_in_blocks_of_time_changes_no_bit(monkeypatch, coupled, steps):
    """Local derivatives are computed for a block of steps at once; a block must not overwrite what the one after it left."""
    case = next(c for c in KERNELS if c.options == {"coupled": coupled})
    T, B, m, n, L = 7, 3, 4, 5, 2
    arguments = case.arguments(T, B, m, n, L)
    _, whole = value_and_gradients(case.manual, arguments, **case.options)
    monkeypatch.setattr(highway_manual, "BLOCK", steps * L * B * n)
    _, blocked = value_and_gradients(case.manual, arguments, **case.options)
    for name in whole:
        assert torch.equal(whole[name], blocked[name]), name
    assert_same(case, arguments)


def test_a_real_size_equals_the_reference(code):
    """As the study runs it (n = 215, batch 32), long enough for several blocks of the backward."""
    case = KERNELS[0]
    arguments = case.arguments(60, 32, 88, 215, 1, dtype=torch.float32)
    assert 2 * highway_manual.BLOCK < 60 * 32 * 215
    assert_same(case, arguments, tolerance=1e-4)


@every_kernel
@pytest.mark.parametrize("route", ["small", "packed", "packed off"])
def test_float32_is_as_exact_as_the_reference_in_float32(case, route, monkeypatch, code):
    """Against float64: at most three times the reference's own float32 error, plus a floor of a few roundings."""
    if route == "packed off":
        monkeypatch.setattr(packed, "_OPERATORS", None)
    size = (9, 4, 5, 7, 2) if route == "small" else (6, 4, 5, 130, 2)
    calls = []
    if packed._OPERATORS is not None:
        monkeypatch.setattr(packed, "_OPERATORS", tuple(_counted(o, calls) for o in packed._OPERATORS))
    exact = case.arguments(*size)
    single = {name: t.float() for name, t in exact.items()}
    exact = {name: t.double() for name, t in single.items()}
    states, gradients = value_and_gradients(case.reference, exact, **case.options)
    theirs = value_and_gradients(case.reference, single, **case.options)
    ours = value_and_gradients(case.manual, single, **case.options)
    assert bool(calls) == (case.packs and route == "packed" and packed._OPERATORS is not None)
    pairs = {"states": (ours[0], theirs[0], states)}
    pairs |= {name: (ours[1][name], theirs[1][name], gradients[name]) for name in gradients}
    for name, (mine, reference, truth) in pairs.items():
        scale = truth.abs().max().item()
        allowed = 3 * (reference.double() - truth).abs().max().item() + 1e-6 * scale
        error = (mine.double() - truth).abs().max().item()
        assert error <= allowed, f"{name}: error {error:.1e}, allowed {allowed:.1e}"


def _counted(operator, calls):
    def call(*arguments):
        calls.append(operator)
        return operator(*arguments)

    call.binary = operator
    return call


@every_kernel
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_runs_and_stays_near_float32(case, dtype):
    arguments = case.arguments(4, 3, 4, 7, 2, dtype=dtype)
    states, gradients = value_and_gradients(case.manual, arguments, **case.options)
    wide = {name: t.float() for name, t in arguments.items()}
    states_wanted, wanted = value_and_gradients(case.reference, wide, **case.options)
    assert_close(states.float(), states_wanted, 0.05, "states")
    for name in wanted:
        assert_close(gradients[name].float(), wanted[name], 0.1, name)


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


@every_kernel
@pytest.mark.parametrize("shared", [(), ("x",), ("x", "s0"), ("R", "W")], ids=str)
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


@every_kernel
@pytest.mark.parametrize("dim", [1, -1])
def test_the_mapped_axis_may_be_anywhere(case, dim):
    names, arguments, w = stacked(case)
    every = tuple(range(len(names)))
    moved = [t.movedim(0, dim) for t in arguments]
    f = grad_and_value(loss_of(case.manual, w, case.options), argnums=every)
    assert_each(names, vmap(f, in_dims=dim)(*moved), lambda k: f(*(t[k] for t in arguments)), 3)


@every_kernel
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


@every_kernel
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


@every_kernel
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


@every_kernel
def test_a_stack_is_one_kernel_call_forward_and_one_backward(case, monkeypatch):
    module, attribute = case.find_kernel()
    kernel, calls = getattr(module, attribute), []

    def forward(*tensors, **options):
        calls.append(("forward", stack_size(*tensors)))
        return kernel.forward(*tensors, **options)

    def backward(gradient, *rest, **options):
        calls.append(("backward", gradient.shape[0]))
        return kernel.backward(gradient, *rest, **options)

    monkeypatch.setattr(module, attribute, Kernel(kernel.name, forward, backward))
    names, arguments, w = stacked(case, K=6)
    f = grad(lambda *a: (case.manual(*a, **case.options) * w).square().sum(), argnums=2)
    vmap(f, in_dims=(None, *[0] * (len(names) - 1)))(arguments[0][0], *arguments[1:])
    assert calls == [("forward", 6), ("backward", 6)]


BIT_CASES = [c for c in SHALLOW_CASES if c.depth == 2 or not CELLS[c.key].deep]


@pytest.mark.parametrize("case", BIT_CASES, ids=str)
@pytest.mark.parametrize(("m", "n", "T"), [(5, 7, 9), (88, 37, 20), (88, 150, 9)], ids=str)
def test_a_model_trained_in_a_stack_equals_itself_alone_to_the_bit(case, m, n, T, code):
    """float32, one thread, 32 rows (of which a last batch masks 27): loss and every gradient, for K = 1, 2, 5, 6."""
    assert torch.get_num_threads() == 1
    cells = [case.build(m, n, seed=k, dtype=torch.float32) for k in range(6)]
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
    for K in (1, 2, 5, 6):
        stack = {name: p.detach() for name, p in stack_module_state(cells[:K])[0].items()}
        gradients, values = vmap(grad_and_value(loss))(stack)
        for k in range(K):
            assert torch.equal(values[k], alone[k][0]), f"loss of model {k} of {K}"
            for name in gradients:
                assert torch.equal(gradients[name][k], alone[k][1][name]), f"gradient of {name}, model {k} of {K}"


@every_kernel
def test_second_derivatives_and_forward_mode_say_what_to_do(case):
    arguments = list(case.arguments(2, 2, 2, 3, 2).values())
    s0 = arguments[1].requires_grad_()
    total = lambda f: lambda s: f(arguments[0], s, *arguments[2:], **case.options).square().sum()  # noqa: E731
    (g,) = torch.autograd.grad(total(case.manual)(s0), s0, create_graph=True)
    with pytest.raises(RuntimeError, match='no second derivative: build the cell with kernel="reference"'):
        g.sum().backward()
    with pytest.raises(RuntimeError, match="no second derivative"):
        jacrev(jacrev(total(case.manual)))(s0.detach())
    for forward_mode in (jacfwd, hessian):
        with pytest.raises(RuntimeError, match='no forward mode: build the cell with kernel="reference"'):
            forward_mode(total(case.manual))(s0.detach())
    H = hessian(total(case.reference))(s0.detach())
    assert_close(H, jacrev(jacrev(total(case.reference)))(s0.detach()), 1e-10, "hessian of the reference")


@every_kernel
def test_backward_twice_and_a_changed_output(case):
    """The saved tensors survive a retained graph and a user who writes into the states."""
    arguments = [t.requires_grad_() for t in case.arguments(3, 2, 3, 4, 2).values()]
    states = case.manual(*arguments, **case.options)
    first = torch.autograd.grad(states.sum(), arguments, retain_graph=True)
    states.detach().zero_()
    assert all(map(torch.equal, first, torch.autograd.grad(states.sum(), arguments)))


@every_kernel
def test_gradients_are_contiguous_and_shaped_as_their_tensors(case, code):
    arguments = case.arguments(3, 2, 3, 7, 3, dtype=torch.float32)
    for name, g in value_and_gradients(case.manual, arguments, **case.options)[1].items():
        assert g.shape == arguments[name].shape and g.is_contiguous(), name


@every_kernel
def test_strided_arguments(case):
    arguments = case.arguments(3, 4, 5, 6, 2)
    strided = {n: t.transpose(0, 1).contiguous().transpose(0, 1) if t.dim() > 1 else t for n, t in arguments.items()}
    assert not strided["x"].is_contiguous()
    assert_same(case, strided)


@every_kernel
def test_an_empty_batch(case):
    states, gradients = value_and_gradients(case.manual, case.arguments(3, 0, 3, 4, 2), **case.options)
    assert states.shape[1] == 0
    assert not any(gradients[name].any() for name in gradients if name not in ("x", "s0"))


@every_kernel
def test_autocast_leaves_the_recurrence_in_its_own_precision(case):
    arguments = case.arguments(3, 2, 3, 4, 2, dtype=torch.float32)
    wanted = value_and_gradients(case.manual, arguments, **case.options)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = value_and_gradients(case.manual, arguments, **case.options)
    assert torch.equal(got[0], wanted[0])
    assert all(torch.equal(got[1][name], wanted[1][name]) for name in wanted[1])


def test_a_product_outside_the_functions_never_uses_the_packed_operators(monkeypatch):
    """torch.func.grad through them is silently zero, so `step` and the reference must not meet them."""

    def forbidden(*_):
        raise AssertionError("packed product outside an autograd.Function")

    monkeypatch.setattr(packed, "_OPERATORS", (forbidden, forbidden, forbidden))
    for case in SHALLOW_CASES:
        cell = case.build(5, 150, dtype=torch.float32, kernel="reference")
        x, s = inputs(cell, 4)
        cell.step(x, s)
        cell(x.unsqueeze(0), s)
    with pytest.raises(AssertionError, match="packed product"):
        highway(*map(torch.zeros, ((1, 4, 5), (4, 150), (300, 5), (1, 300, 150), (1, 300))))
