"""The compiled recurrences are the equations, whatever the size; each model's bits are its own."""

import math
from types import SimpleNamespace

import pytest
import torch
from cases import KERNELS
from rounding import assert_as_exact
from test_kernels import assert_exact
from torch.func import grad_and_value, vmap

from rhn.kernels import OUTPUT, compiled
from rhn.kernels.compiled import library

pytestmark = pytest.mark.skipif(
    library() is None, reason="no compiled kernels: no C compiler, or RHN_COMPILED=0"
)

COMPILED = [
    case
    for case in KERNELS
    # the others stay in Python
    if case.deep and (case.options.get("activation") is None or "transition" in case.name)
]
SIZES = [  # (T, B, m, n, L), saturated
    ((1, 1, 1, 1, 1), False),
    ((2, 5, 3, 1, 6), True),
    ((3, 33, 5, 75, 1), True),
    ((8, 64, 88, 29, 4), False),
]
every_kernel = pytest.mark.parametrize("case", COMPILED, ids=str)


@pytest.fixture
def calls(monkeypatch):
    """The names of the compiled functions that are called."""
    names, original = [], compiled.call_c

    def counted(name, *rest, **arguments):
        names.append(name)
        return original(name, *rest, **arguments)

    monkeypatch.setattr(compiled, "call_c", counted)
    return names


@every_kernel
@pytest.mark.parametrize(("size", "saturated"), SIZES, ids=str)
def test_values_and_every_gradient_are_as_exact_as_the_reference(case, size, saturated, calls):
    calls.clear()
    single = case.arguments(*size, saturated=saturated, dtype=torch.float32)
    if size[2] == 88:  # frames of music: the other sizes take the way of dense inputs
        single["x"] *= torch.rand_like(single["x"]) < 0.05
    assert_exact(case, single)
    assert len(calls) == 2


def stack_of(case):
    arguments = case.arguments(6, 32, 9, 13, 3, stack=3, dtype=torch.float32)
    w, every = torch.randn(6, 32, 13), tuple(range(len(arguments)))
    return arguments, grad_and_value(
        lambda *a: (case.manual(*a, **case.options) * w).square().sum(), argnums=every
    )


def flat(result):
    gradients, value = result
    return [value, *gradients]


@pytest.mark.parametrize(
    "case",
    [case for case in COMPILED if "relu" not in case.name and "last" not in case.name],
    ids=str,
)
@pytest.mark.parametrize(("keys", "bad"), [(1.0, math.inf), (0.1, math.nan)])
def test_what_is_not_finite_spreads_as_in_the_equation_and_not_to_other_models(case, keys, bad):
    """Also from and to a weight whose input is zero throughout: 0 times it is NaN."""
    arguments, f = stack_of(case)
    arguments["x"] *= torch.rand_like(arguments["x"]) < keys
    arguments["x"][:, :, :, 2] = 0
    whole = flat(vmap(f)(*arguments.values()))
    arguments["W"][1, 4, 2] = bad
    broken = flat(vmap(f)(*arguments.values()))
    for name, a, b in zip(("value", *arguments), whole, broken, strict=True):
        assert torch.equal(a[[0, 2]], b[[0, 2]]), name
        assert not b[1].isfinite().all(), name
        if name == "W":
            assert not b[1, 4, 2].isfinite()


@pytest.mark.parametrize("units", [1, 8])
def test_tanh_keeps_its_relative_precision_down_to_the_smallest_numbers(units):
    """Networks start at weights of 1e-8: what reaches the state then must not drown in
    roundings.
    """
    x = torch.cat(
        [torch.logspace(-37, 1.5, 200), -torch.logspace(-37, 1.5, 200), torch.zeros(1)]
    ).view(-1, 1, 1)
    case = next(c for c in COMPILED if c.name == "deep-transition")
    W, zeros = torch.ones(units, 1), torch.zeros
    y = case.manual(x, zeros(1, units), W, zeros(1, units, units), zeros(1, units))
    torch.testing.assert_close(y.double(), torch.tanh(x.double()).expand_as(y), rtol=3e-7, atol=0)


@pytest.mark.parametrize(
    ("size", "scale"),
    [((1, 1, 1, 1), 40.0), ((5, 33, 7, 88), 0.3), ((3, 32, 29, 130), 40.0), ((2, 64, 3, 300), 0.3)],
    ids=str,
)
def test_the_output_with_its_loss_is_as_exact_as_the_reference(size, scale, calls):
    T, B, n, keys = size
    y, W, b = torch.randn(T, B, n), scale * torch.randn(keys, n), torch.randn(keys)
    frames, mask = (torch.rand(T, B, keys) < 0.3).float(), (torch.rand(T, B) < 0.7).float()

    def results(function, dtype):
        leaves = [t.to(dtype).requires_grad_() for t in (y, W, b)]
        total = function(*leaves, frames.to(dtype), mask.to(dtype))
        gradients = torch.autograd.grad(1.7 * total, leaves)
        return dict(zip(("total", "y", "W", "b"), (total.detach(), *gradients), strict=True))

    ours = results(OUTPUT, torch.float32)
    assert_as_exact(ours, lambda: results(OUTPUT.reference, torch.float64))
    assert calls == ["rhn_bernoulli"]
    with torch.no_grad():
        assert OUTPUT(y, W, b, frames, mask).item() == pytest.approx(ours["total"].item(), rel=1e-6)


def test_a_stack_of_outputs_has_the_bits_of_each_and_bad_ones_keep_to_themselves():
    y, W, b = torch.randn(3, 4, 32, 7), torch.randn(3, 88, 7), torch.randn(3, 88)
    frames, mask = (torch.rand(4, 32, 88) < 0.1).float(), torch.ones(4, 32)
    W[1, 5, 3] = math.nan
    f = grad_and_value(OUTPUT, argnums=(0, 1, 2))
    stacked = flat(vmap(f, in_dims=(0, 0, 0, None, None))(y, W, b, frames, mask))
    for k in (0, 2):
        assert all(
            map(torch.equal, (t[k] for t in stacked), flat(f(y[k], W[k], b[k], frames, mask)))
        )
    assert stacked[0].isfinite().tolist() == [True, False, True]


def test_threads_treat_denormal_numbers_as_the_thread_that_calls():
    case = COMPILED[0]
    arguments = case.arguments(2, 3, 3, 5, 2, stack=2, dtype=torch.float32)
    arguments["W"], arguments["b"] = 1e-40 * arguments["W"], 0 * arguments["b"]
    arguments["s0"], arguments["R"] = 0 * arguments["s0"], 0 * arguments["R"]
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for flushed in (True, False):
            torch.set_flush_denormal(flushed)
            states = vmap(lambda *tensors: case.manual(*tensors, **case.options))(
                *arguments.values()
            )
            torch.set_flush_denormal(False)
            assert [(model != 0).any().item() for model in states] == [not flushed] * 2
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("B", "m", "units", "layers", "wanted"),
    [
        pytest.param(1, 256, 64, 1, True, id="64 units, any batch"),
        pytest.param(1, 257, 64, 1, False, id="an input of more than four times the units"),
        pytest.param(1, 128, 7, 1, True, id="an input of 128 numbers"),
        pytest.param(1, 129, 7, 1, False, id="an input of more beside few units"),
        pytest.param(1, 768, 64, 3, True, id="an input of four times the units of three layers"),
        pytest.param(1, 769, 64, 3, False, id="a wider one"),
        pytest.param(1, 88, 65, 1, False, id="more units, one row"),
        pytest.param(32, 88, 1000, 1, True, id="1000 units, 32 rows"),
        pytest.param(32, 88, 1001, 1, False, id="1001 units, 32 rows"),
        pytest.param(16, 88, 500, 1, True, id="500 units, 16 rows"),
        pytest.param(16, 88, 501, 1, False, id="501 units, 16 rows"),
        pytest.param(0, 88, 64, 1, False, id="no row"),
    ],
)
def test_c_computes_calls_of_these_sizes(B, m, units, layers, wanted, monkeypatch):
    monkeypatch.setattr(compiled, "library", lambda: SimpleNamespace())
    assert compiled.supports(torch.zeros(2, B, m), units=units, layers=layers) == wanted
    meta = torch.zeros(2, B, m, device="meta")
    assert not compiled.supports(meta, units=units, layers=layers)
    monkeypatch.setattr(compiled, "library", lambda: None)
    assert not compiled.supports(torch.zeros(2, B, m), units=units, layers=layers)
