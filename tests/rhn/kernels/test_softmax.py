"""The fused output layer and loss against its equation and torch's cross-entropy: values, every gradient, stacked models."""

import pytest
import torch
from rounding import assert_as_exact, largest
from tables import for_each
from torch.func import grad, vmap

from rhn.errors import InvalidInputError
from rhn.kernels import SOFTMAX
from rhn.kernels.compiled.build import library
from rhn.kernels.dispatch import recorded_choices
from tests.cases import assert_close

SIZES = [(1, 1, 1, 2), (3, 2, 5, 7), (35, 4, 33, 129), (2, 20, 7, 1000)]  # T, B, n, V


def arguments(T, B, n, V, *, K=None, spread=1.0, dtype=torch.float64):
    g, lead = torch.Generator().manual_seed(T + n), () if K is None else (K,)
    y, U, b = (
        (spread * torch.randn(*lead, *shape, generator=g, dtype=torch.float64)).to(dtype)
        for shape in ((T, B, n), (V, n), (V,))
    )
    return y, U, b, torch.randint(V, (T, B), generator=g)


def mask_of(y, rate, *, own=False):
    """Dropout masks (B, n); with `own` (K, B, n), one for each model of y (K, T, B, n)."""
    shape = y[:, 0].shape if own else y[..., 0, :, :].shape[-2:]
    draws = torch.rand(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return None if rate == 0 else ((draws >= rate) / (1 - rate if rate < 1 else 1)).to(y.dtype)


def weighted(function):
    """A number whose gradient weighs every prediction differently."""

    def loss(y, U, b, targets, mask=None):
        nll = function(y, U, b, targets, mask)
        return (nll * torch.arange(1, nll.numel() + 1, dtype=nll.dtype).view(nll.shape)).sum()

    return loss


@pytest.mark.parametrize("size", SIZES, ids=str)
@for_each(("spread", "rate"), [(1.0, 0), (30.0, 0), (1.0, 0.5), (1.0, 1)])
def test_values_and_gradients_are_the_equation_s(size, spread, rate):
    inputs = [*arguments(*size, spread=spread)]
    inputs.append(mask_of(inputs[0], rate))
    assert_close(SOFTMAX(*inputs), SOFTMAX.reference(*inputs), 1e-12, "nll")
    found = grad(weighted(SOFTMAX), argnums=(0, 1, 2))(*inputs)
    wanted = grad(weighted(SOFTMAX.reference), argnums=(0, 1, 2))(*inputs)
    for name, a, b in zip(("y", "U", "b"), found, wanted, strict=True):
        assert_close(a, b, 1e-11, name, floor=1e-10)


def test_gradcheck():
    y, U, b, targets = arguments(2, 3, 4, 5)
    inputs = [t.requires_grad_() for t in (y, U, b)]
    assert torch.autograd.gradcheck(lambda *args: SOFTMAX(*args, targets), inputs)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_stacked_models_share_their_targets(size):
    *inputs, targets = arguments(*size, K=3)
    found = vmap(grad(weighted(SOFTMAX), argnums=(0, 1, 2)), in_dims=(0, 0, 0, None))(*inputs, targets)
    for k in range(3):
        one = grad(weighted(SOFTMAX), argnums=(0, 1, 2))(*(t[k] for t in inputs), targets)
        for name, a, b in zip(("y", "U", "b"), found, one, strict=True):
            assert_close(a[k], b, 1e-12, name, floor=1e-12)


def test_an_embedding_that_is_also_the_output_layer_gets_both_gradients():
    y, U, b, targets = arguments(4, 3, 5, 9)

    def loss(function):
        return grad(lambda U: function(y * U[targets], U, b, targets).sum())(U)

    assert_close(loss(SOFTMAX), loss(SOFTMAX.reference), 1e-12, "embedding")


def test_it_neither_overflows_nor_loses_a_sure_prediction():
    y, U, b = torch.ones(1, 1, 1), torch.tensor([[1e4], [-1e4]]), torch.zeros(2)
    assert SOFTMAX(y, U, b, torch.tensor([[0]])).item() == 0
    assert SOFTMAX(y, U, b, torch.tensor([[1]])).item() == 2e4


def test_large_float32_layers_are_as_exact_as_rounding_lets_them_be():
    y, U, b, targets = arguments(35, 20, 200, 2000, spread=0.2, dtype=torch.float32)
    exact = lambda: {"nll": SOFTMAX.reference(y.double(), U.double(), b.double(), targets)}  # noqa: E731
    assert_as_exact({"nll": SOFTMAX(y, U, b, targets)}, exact)


# ---- in C ----------------------------------------------------------------------------------------------

in_c = pytest.mark.skipif(library() is None, reason="no compiled kernels: no C compiler, or RHN_COMPILED=0")


def nll_and_gradients(function, *inputs):
    gradients = grad(weighted(function), argnums=(0, 1, 2))(*inputs)
    return dict(zip(("nll", "y", "U", "b"), (function(*inputs), *gradients), strict=True))


@in_c
@pytest.mark.parametrize("size", [(1, 1, 1, 1), *SIZES, (5, 13, 64, 65), (70, 1, 7, 64), (35, 20, 200, 70)], ids=str)
@for_each(("spread", "rate"), [(1e-8, 0), (1.0, 0), (30.0, 0), (1e-8, 0.5), (1.0, 0.75), (1.0, 1)])
def test_in_c_values_and_gradients_are_as_exact_as_rounding_lets_them_be(size, spread, rate):
    *inputs, targets = arguments(*size, spread=spread, dtype=torch.float32)
    mask = mask_of(inputs[0], rate)
    with recorded_choices() as choices:
        ours = nll_and_gradients(SOFTMAX, *inputs, targets, mask)
    assert {choice.implementation for choice in choices if choice.reason is None} == {"C"}
    doubles = [None if t is None else t.double() for t in (*inputs, mask)]
    exact = lambda: nll_and_gradients(SOFTMAX.reference, *doubles[:3], targets, doubles[3])  # noqa: E731
    (y, U, _), count = (
        inputs,
        targets.numel(),
    )  # a sure word: log(1 + a little), and 1 - p times the weight, at most `count`
    assert_as_exact(ours, exact, {"nll": 1, "b": count, "U": count * largest(y), "y": count * largest(U)})


@in_c
@pytest.mark.parametrize("rate", [0, 0.5])
def test_in_c_a_model_has_the_same_bits_alone_in_a_stack_and_on_threads(rate):
    *inputs, targets = arguments(7, 11, 33, 300, K=3, dtype=torch.float32)
    f, masks = grad(weighted(SOFTMAX), argnums=(0, 1, 2)), mask_of(inputs[0], rate, own=True)
    given = [(*(t[k] for t in inputs), targets, None if masks is None else masks[k]) for k in range(3)]
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        stacked = vmap(f, in_dims=(0, 0, 0, None, 0 if rate else None))(*inputs, targets, masks)
        threaded = [f(*one) for one in given]
    finally:
        torch.set_num_threads(before)
    for k in range(3):
        alone = f(*given[k])
        assert all(
            torch.equal(s[k], a) and torch.equal(t, a) for s, t, a in zip(stacked, threaded[k], alone, strict=True)
        )


@in_c
def test_in_c_what_is_not_finite_keeps_to_its_row():
    *inputs, targets = arguments(2, 3, 4, 100, dtype=torch.float32)
    inputs[0][0, 1, 2], inputs[0][1, 0, 0] = torch.nan, torch.inf
    finite = SOFTMAX(*inputs, targets).isfinite()
    assert finite.tolist() == [[True, False, True], [False, True, True]]


@in_c
def test_in_c_a_dropped_unit_takes_no_part():
    y, U, b, targets = arguments(2, 3, 4, 100, dtype=torch.float32)
    mask, other = mask_of(y, 0.5), y.clone()
    other[:, mask == 0] = 1e30
    one, same = (nll_and_gradients(SOFTMAX, t, U, b, targets, mask) for t in (y, other))
    assert all(torch.equal(one[name], same[name]) for name in one)


@in_c
def test_in_c_words_that_cannot_occur_are_left_out():
    y, U, b, targets = arguments(2, 3, 4, 130, dtype=torch.float32)
    b[:70] = -torch.inf
    targets = 70 + targets % 60
    torch.testing.assert_close(SOFTMAX(y, U, b, targets), SOFTMAX.reference(y, U, b, targets))


@in_c
@pytest.mark.parametrize("wrong", [-1, 7])
def test_a_target_outside_the_vocabulary_is_refused(wrong):
    y, U, b, targets = arguments(2, 3, 4, 7, dtype=torch.float32)
    targets[1, 2] = wrong
    with pytest.raises(InvalidInputError, match=r"targets are from .* expected 0 to 6"):
        SOFTMAX(y, U, b, targets)
