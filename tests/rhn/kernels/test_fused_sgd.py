"""The update in one pass over the weights is the equation, and torch's own optimiser with its own clipping."""

import pytest
import torch
from cases import assert_close
from torch import nn

from rhn.kernels.compiled.build import library
from rhn.kernels.fused_sgd import gradient_norm, gradient_norm_reference, sgd_step, sgd_step_reference

SHAPES = [(1,), (31,), (32, 1), (5, 7, 3), (4099,)]
ways = pytest.mark.parametrize(
    "where",
    [
        pytest.param("cpu", marks=pytest.mark.skipif(library() is None, reason="no C compiler")),
        pytest.param("cuda", marks=pytest.mark.gpu),
    ],
)


def tensors(K, where, dtype=torch.float32):
    g = torch.Generator().manual_seed(K)
    return [
        {f"p{i}": torch.randn(K, *shape, generator=g).to(where, dtype) for i, shape in enumerate(SHAPES)}
        for _ in range(2)
    ]


@ways
@pytest.mark.parametrize("K", [1, 3])
@pytest.mark.parametrize(("decay", "shrink"), [(0.0, 0.0), (0.1, 0.0), (0.0, 0.2)], ids=["plain", "decay", "shrink"])
def test_one_pass_is_the_equation(where, K, decay, shrink):
    weights, gradients = tensors(K, where)
    wanted = {name: w.double() for name, w in weights.items()}
    exact = {name: g.double() for name, g in gradients.items()}
    gradients["p3"] = gradients["p3"].transpose(1, 2).contiguous().transpose(1, 2)  # as some products leave it
    norm = gradient_norm(weights, gradients, decay)
    torch.testing.assert_close(norm, gradient_norm_reference(wanted, exact, decay), rtol=1e-7, atol=0)
    rate, scale = torch.tensor([0.3, 0.2, 0.1][:K], device=where), torch.tensor([1.0, 0.5, 2.0][:K], device=where)
    sgd_step(weights, gradients, rate, scale, decay=decay, shrink=shrink)
    sgd_step_reference(wanted, exact, rate.double(), scale.double(), decay=decay, shrink=shrink)
    for name, w in weights.items():
        assert_close(w.double(), wanted[name], 1e-6, name)  # of the largest: terms of its size may cancel


@ways
def test_a_model_is_the_same_bits_alone(where):
    together, gradients = tensors(3, where)
    before = {name: w.clone() for name, w in together.items()}
    rate, scale = torch.tensor([0.3, 0.2, 0.1], device=where), torch.tensor([1.0, 0.5, 2.0], device=where)
    norm = gradient_norm(together, gradients)
    sgd_step(together, gradients, rate, scale)
    for k in range(3):
        alone, own = ({name: t[k : k + 1].clone() for name, t in group.items()} for group in (before, gradients))
        assert torch.equal(gradient_norm(alone, own), norm[k : k + 1])
        sgd_step(alone, own, rate[k : k + 1], scale[k : k + 1])
        assert all(torch.equal(w[0], together[name][k]) for name, w in alone.items())


@ways
def test_it_is_torch_s_sgd_with_torch_s_clipping_and_weight_decay(where):
    (weights, gradients), largest, decay = tensors(1, where), 5.0, 0.1
    theirs = [nn.Parameter(w[0].clone()) for w in weights.values()]
    for p, g in zip(theirs, gradients.values(), strict=True):
        p.grad = g[0] + decay * p.detach()
    wanted = nn.utils.clip_grad_norm_(theirs, largest)
    torch.optim.SGD(theirs, lr=0.3).step()
    norm = gradient_norm(weights, gradients, decay)
    assert norm.item() == pytest.approx(wanted.item(), rel=1e-6) and norm.item() > largest
    one = torch.ones(1, device=where)
    sgd_step(weights, gradients, 0.3 * one, (largest / norm).float(), decay=decay)
    for p, w in zip(theirs, weights.values(), strict=True):
        torch.testing.assert_close(w[0], p.detach(), rtol=1e-5, atol=1e-6)


def test_other_numbers_than_float32_go_by_the_equation():
    weights, gradients = tensors(2, "cpu", torch.float64)
    assert torch.equal(gradient_norm(weights, gradients), gradient_norm_reference(weights, gradients))


def test_torch_s_default_number_does_not_matter():
    (weights, gradients), one = tensors(2, "cpu"), torch.ones(2)
    wanted = {name: w.clone() for name, w in weights.items()}
    norm = gradient_norm(weights, gradients, 0.5)
    sgd_step(wanted, gradients, 0.3 * one, one, decay=0.5, shrink=0.1)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(gradient_norm(weights, gradients, 0.5), norm)
        sgd_step(weights, gradients, 0.3 * one, one, decay=0.5, shrink=0.1)
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(w, wanted[name]) for name, w in weights.items())
