"""The output layer and its loss against the equation: values, every gradient, stacked models, in
torch and in C.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from rounding import assert_as_exact, largest
from torch.func import grad, vmap

from rhn.errors import InvalidInputError
from rhn.kernels import SOFTMAX, compiled, losses
from rhn.kernels.compiled import library
from rhn.kernels.kernel import Kernel

# T, B, n, V
SIZES = [
    (1, 1, 1, 1),
    (3, 2, 5, 7),
    (35, 4, 33, 129),
    (2, 20, 7, 1000),
    (5, 13, 64, 65),
    (70, 1, 7, 64),
]
in_c = pytest.mark.skipif(
    library() is None, reason="no compiled kernels: no C compiler, or RHN_COMPILED=0"
)


@contextmanager
def recorded_choices() -> Iterator[list[str]]:
    """The code of each call within the context: "C", "fused", or "reference"."""
    choices, choose = [], Kernel._choose

    def chosen(kernel, **call):
        code = choose(kernel, **call)
        choices.append("reference" if code is None else "C" if code is kernel.compiled else "fused")
        return code

    with patch.object(Kernel, "_choose", chosen):
        yield choices


@pytest.fixture
def any_vocabulary(monkeypatch):
    """C computes small vocabularies too."""
    monkeypatch.setattr(losses, "VOCABULARIES", range(1, 1 << 24))


def book(y, U, b, targets, mask):
    """-log P(target) by the equation."""
    z = F.linear(y if mask is None else y * mask, U, b)
    return z.logsumexp(-1) - z.gather(-1, targets.unsqueeze(-1)).squeeze(-1)


def arguments(T, B, n, V, *, rate=0.5, K=None, spread=1.0, dtype=torch.float32):
    """(y, U, b, targets, mask)."""
    g, lead = torch.Generator().manual_seed(T + n), () if K is None else (K,)
    draw = lambda *shape: spread * torch.randn(*lead, *shape, generator=g, dtype=torch.float64)  # noqa: E731
    y, U, b = (t.to(dtype) for t in (draw(T, B, n), draw(V, n), draw(V)))
    kept = torch.rand(*lead, B, n, generator=g) >= rate
    mask = (kept / (1 - rate if rate < 1 else 1)).to(dtype) if rate else None
    return y, U, b, torch.randint(V, (T, B), generator=g), mask


def results(function, y, U, b, targets, mask):
    """Values and gradients of a number that weighs every prediction differently."""

    def loss(y, U, b):
        nll = function(y, U, b, targets, mask)
        return (nll * torch.arange(1, nll.numel() + 1, dtype=nll.dtype).view(nll.shape)).sum()

    gradients = grad(loss, argnums=(0, 1, 2))(y, U, b)
    return dict(
        zip(("nll", "y", "U", "b"), (function(y, U, b, targets, mask), *gradients), strict=True)
    )


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(
    ("spread", "rate", "way"),
    [
        (1.0, 0, "torch"),
        (30.0, 0, "torch"),
        *((s, r, "C") for s in (1e-8, 1.0, 30.0) for r in (0.5, 1)),
    ],
)
def test_values_and_gradients_are_as_exact_as_rounding_lets_them_be(
    size, spread, rate, way, any_vocabulary
):
    if way == "C" and library() is None:
        return
    y, U, b, targets, mask = arguments(*size, rate=rate, spread=spread)
    with recorded_choices() as choices:
        ours = results(SOFTMAX, y, U, b, targets, mask)
    assert all((choice == "C") == (way == "C") for choice in choices)
    wide = [None if t is None else t.double() for t in (y, U, b, mask)]
    # a sure word: log(1 + a little), and 1 - p times the weight, at most `count`
    count = targets.numel()
    sizes = {"nll": 1, "b": count, "U": count * largest(y), "y": count * largest(U)}
    assert_as_exact(ours, lambda: results(book, *wide[:3], targets, wide[3]), sizes)


@pytest.mark.parametrize("rate", [0, 0.5])
def test_a_model_has_the_same_bits_alone_in_a_stack_and_on_threads(rate, any_vocabulary):
    *inputs, targets, masks = arguments(7, 11, 33, 300, K=3, rate=rate)
    own, before = 0 if rate else None, torch.get_num_threads()
    run = lambda *given: results(SOFTMAX, *given[:3], targets, *given[3:])  # noqa: E731
    torch.set_num_threads(2 if rate else 1)
    try:
        stacked = vmap(run, in_dims=(0, 0, 0, own))(*inputs, masks)
    finally:
        torch.set_num_threads(before)
    for k in range(3):
        alone = vmap(run, in_dims=(0, 0, 0, own))(
            *(t[k : k + 1] for t in inputs), masks[k : k + 1] if rate else None
        )
        assert all(torch.equal(stacked[name][k], alone[name][0]) for name in alone)


@pytest.mark.parametrize(
    ("T", "B", "n", "V", "drops", "wanted"),
    [
        pytest.param(2, 1, 64, 4096, True, True, id="64 units, 4096 words"),
        pytest.param(2, 1, 64, 4095, True, False, id="fewer words"),
        pytest.param(2, 1, 64, (1 << 24) - 1, True, True, id="the most words"),
        pytest.param(2, 1, 64, 1 << 24, True, False, id="more words than float32 counts"),
        pytest.param(2, 1, 64, 4096, False, False, id="no dropout"),
        pytest.param(16, 2, 1000, 4096, True, True, id="1000 units, 32 predictions"),
        pytest.param(16, 2, 1001, 4096, True, False, id="more units"),
        pytest.param(31, 1, 1000, 4096, True, False, id="fewer predictions"),
    ],
)
def test_c_computes_a_softmax_of_these_sizes(T, B, n, V, drops, wanted, monkeypatch):
    monkeypatch.setattr(compiled, "library", object)
    y, U, mask = torch.zeros(T, B, n), torch.zeros(1, n).expand(V, n), torch.ones(B, n)
    assert losses.softmax_supports(y, U, mask if drops else None) == wanted


@pytest.mark.parametrize(
    ("units", "rows", "wanted"), [(64, 1, True), (65, 32, False), (64, 0, False)]
)
def test_c_computes_an_output_layer_of_these_sizes(units, rows, wanted, monkeypatch):
    monkeypatch.setattr(compiled, "library", object)
    assert losses.output_supports(torch.zeros(2, rows, units)) == wanted


@in_c
def test_in_c_what_is_not_finite_keeps_to_its_row_and_a_dropped_unit_takes_no_part(any_vocabulary):
    y, U, b, targets, mask = arguments(2, 3, 4, 100)
    mask[:, 0], wrong = 2.0, y.clone()
    wrong[0, 1, 0], wrong[1, 0, 0] = torch.nan, torch.inf
    assert SOFTMAX(wrong, U, b, targets, mask).isfinite().tolist() == [
        [True, False, True],
        [False, True, True],
    ]
    other = torch.where(mask == 0, 1e30, y)
    one, same = (results(SOFTMAX, t, U, b, targets, mask) for t in (y, other))
    assert all(torch.equal(one[name], same[name]) for name in one)


@in_c
def test_in_c_words_that_cannot_occur_are_left_out(any_vocabulary):
    y, U, b, targets, mask = arguments(2, 3, 4, 130)
    b[:70] = -torch.inf
    targets = 70 + targets % 60
    torch.testing.assert_close(SOFTMAX(y, U, b, targets, mask), book(y, U, b, targets, mask))


@in_c
@pytest.mark.parametrize("wrong", [-1, 7])
def test_a_target_outside_the_vocabulary_is_refused(wrong, any_vocabulary):
    y, U, b, targets, mask = arguments(2, 3, 4, 7)
    targets[1, 2] = wrong
    with pytest.raises(InvalidInputError, match=r"targets are from .* expected 0 to 6"):
        SOFTMAX(y, U, b, targets, mask)
