"""Output layers and their losses in mixed precision, against their equations in float64, at awkward sizes."""

import pytest
import torch
from tables import for_each
from torch.func import grad, vmap

from rhn.kernels import softmax, softmax_nll, softmax_nll_reference
from rhn.kernels.bernoulli import output_nll, output_nll_reference

NAMES = ("loss", "y", "W", "b")
FLOOR = 1.5e-3  # of the largest entry; float16 has 2^-11 = 5e-4, and small sums have few numbers to average over
every_loss = pytest.mark.parametrize("loss", ["softmax", "keys"])
every_size = for_each("size", [(1, 1, 1, 2), (3, 2, 5, 7), (4, 5, 33, 129), (35, 20, 64, 1000)])


def arguments(loss, T, B, n, V, K=None):
    """(y, W, b) with a leading K where one is given, and what the loss is told: words, or keys and a mask."""
    g, lead = torch.Generator().manual_seed(T + n), () if K is None else (K,)
    y, W, b = (torch.randn(*lead, *shape, generator=g) for shape in ((T, B, n), (V, n), (V,)))
    if loss in ("softmax", "dropped"):
        targets, mask = torch.randint(V, (T, B), generator=g), 2 * torch.rand(B, n, generator=g).round()
        return (y, W / n**0.5, b), (targets, mask) if loss == "dropped" else (targets,)
    mask = torch.rand(T, B, generator=g).round()
    mask[0, 0] = 1
    return (y, W / n**0.5, b), (torch.rand(T, B, V, generator=g).round(), mask)


def total(loss, reference=False):
    """A number of (y, W, b) and the rest, of the size of a mean."""

    def softmax(*given):
        nll = softmax_nll_reference(*given) if reference else softmax_nll(*given, precision="mixed")
        return (nll * torch.linspace(0.5, 1, nll.numel(), device=nll.device).to(nll).view(nll.shape)).mean()

    def keys(y, W, b, frames, mask):
        if reference:
            return output_nll_reference(y, W, b, frames, mask) / mask.sum()
        return output_nll(y, W, b, frames, mask, precision="mixed") / mask.sum()

    return keys if loss == "keys" else softmax


def results(function, tensors, rest, dtype=torch.float32):
    leaves = [t.to(dtype).requires_grad_() for t in tensors]
    value = function(*leaves, *(t if t.dtype == torch.int64 else t.to(dtype) for t in rest))
    return [value.detach(), *torch.autograd.grad(value, leaves)]


def errors(found, exact):
    return [((a.double() - b).abs().max() / b.abs().max()).item() for a, b in zip(found, exact, strict=True)]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("loss", ["softmax", "dropped", "keys"])
@every_size
def test_errors_are_at_most_twice_those_of_the_equation_under_float16_autocast(loss, size, device):
    def autocast(*tensors):
        with torch.autocast(device, dtype=torch.float16):
            return total(loss, reference=True)(*tensors)

    tensors, rest = ([t.to(device) for t in group] for group in arguments(loss, *size))
    exact = results(total(loss, reference=True), tensors, rest, torch.float64)
    found = results(total(loss), tensors, rest)
    theirs = errors(results(autocast, tensors, rest), exact)
    for name, ours, plain in zip(NAMES, errors(found, exact), theirs, strict=True):
        assert ours <= 2 * plain + FLOOR, f"{name}: error {ours:.1e}, autocast {plain:.1e}"
    assert not torch.equal(found[1], results(total(loss, reference=True), tensors, rest)[1]), "nothing was rounded"


@every_loss
@every_size
def test_stacked_models_equal_single_ones_to_the_bit(loss, size):
    tensors, rest = arguments(loss, *size, K=3)
    run = grad(total(loss), argnums=(0, 1, 2))
    together = vmap(run, in_dims=(0, 0, 0, *[None] * len(rest)))(*tensors, *rest)
    for k in range(3):
        alone = run(*(t[k] for t in tensors), *rest)
        for name, a, b in zip(NAMES[1:], together, alone, strict=True):
            assert torch.equal(a[k], b), f"{name} of model {k}"


@pytest.mark.parametrize("chunk", [1, 7 * 4, 7 * 6])
def test_rows_a_few_at_a_time_are_the_same_rows(chunk, monkeypatch):
    tensors, rest = arguments("softmax", 3, 2, 5, 7)
    whole = results(total("softmax"), tensors, rest)
    monkeypatch.setattr(softmax, "CHUNK", chunk)
    for a, b in zip(results(total("softmax"), tensors, rest), whole, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)


def test_of_all_logits_nothing_is_kept_in_float32():
    tensors, (targets,) = arguments("softmax", 4, 5, 33, 129)
    nll, *kept = softmax.MIXED.forward(*(t.unsqueeze(0) for t in (*tensors, targets)), None, precision="mixed")
    assert nll.shape == (1, 4, 5) and [(t.shape, t.dtype) for t in kept] == [((1, 20, 129), torch.float16)]


def test_a_nearly_sure_prediction_still_learns():
    """p = 1 - 1e-5 would be 1 in float16; its gradient p - 1 is not 0."""
    y, W, b = torch.ones(1, 1, 1), torch.tensor([[11.5], [0.0]]), torch.zeros(2)
    found = grad(lambda b: softmax_nll(y, W, b, torch.tensor([[0]]), precision="mixed").sum())(b)
    exact = 1 / (1 + torch.tensor(11.5).exp())
    torch.testing.assert_close(found, torch.stack([-exact, exact]), rtol=2e-3, atol=0)


@pytest.mark.parametrize("factor", [20.0, 1000.0, 1e6])
def test_gradients_of_a_loss_times_a_factor_are_the_gradients_times_it(factor):
    tensors, rest = arguments("softmax", 3, 2, 5, 7)
    once = results(lambda *given: softmax_nll(*given, precision="mixed").sum(), tensors, rest)
    often = results(lambda *given: factor * softmax_nll(*given, precision="mixed").sum(), tensors, rest)
    for a, b in zip(often, once, strict=True):
        torch.testing.assert_close(a / factor, b, rtol=1e-5, atol=1e-6)
