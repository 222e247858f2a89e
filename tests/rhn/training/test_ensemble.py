"""Models of equal shape as one program, against plain loops over the models."""

import pytest
import torch
from torch import nn

from rhn.training import ensemble
from rhn.training.ensemble import Ensemble, part_size, step_bytes, sums

K = 3


class Gain(nn.Module):
    """A trained weight, one that is held, a buffer, and a factor 2 while it is trained."""

    def __init__(self, k):
        super().__init__()
        self.weight = nn.Parameter(torch.full((2,), 1.0 + k))
        self.held = nn.Parameter(torch.full((), 10.0 * k), requires_grad=False)
        self.register_buffer("offset", torch.full((), 100.0 * k))

    def forward(self, x):
        scale = 2 if self.training else 1
        return scale * (self.weight * x).sum(-1) + self.held + self.offset


MODELS = [Gain(k) for k in range(K)]
X = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 7.0]])
OWN = {"y": torch.arange(1.0, K + 1)}


def test_trained_weights_are_apart_from_what_is_held():
    found = Ensemble.of(MODELS)
    assert {name: t.shape for name, t in found.weights.items()} == {"weight": (K, 2)}
    assert {name: t.tolist() for name, t in found.constants.items()} == {
        "held": [0.0, 10.0, 20.0],
        "offset": [0.0, 100.0, 200.0],
    }
    some = found[[2, 0]]
    assert len(found) == K and len(some) == 2
    assert some.weights["weight"][:, 0].tolist() == [3.0, 1.0]
    assert some.constants["held"].tolist() == [20.0, 0.0]


def test_a_function_reads_what_is_shared_and_its_own_slice_first():
    found = Ensemble.of(MODELS)
    for model in MODELS:
        model.eval()
    wanted = torch.stack([model(X) for model in MODELS])
    assert torch.equal(found.map(lambda model, x: model(x), X), wanted)
    by_own = found.map(lambda model, own, x: model(own["y"] * x), X, own=OWN)
    each = zip(MODELS, OWN["y"], strict=True)
    assert torch.equal(by_own, torch.stack([model(y * X) for model, y in each]))


@pytest.mark.parametrize("has_aux", [False, True])
def test_gradients_are_those_of_each_model_in_training(has_aux):
    def loss(model, own, x):
        total = (own["y"] * model(x)).sum()
        return (total, total.detach()) if has_aux else total

    found = Ensemble.of(MODELS).gradients(loss, X, own=OWN, has_aux=has_aux)
    slopes, totals = found if has_aux else (found, None)
    assert list(slopes) == ["weight"]
    for k, (model, y) in enumerate(zip(MODELS, OWN["y"], strict=True)):
        total = (y * model.train()(X)).sum()
        (slope,) = torch.autograd.grad(total, model.weight)
        assert torch.equal(slopes["weight"][k], slope)
        assert totals is None or totals[k] == total


def test_numbers_of_each_model_are_summed_in_float64():
    numbers = torch.tensor([[2.0**25, 1.0, 1.0], [1.0, 2.0, 3.0]])
    assert sums(numbers).tolist() == [2**25 + 2, 6]


@pytest.mark.parametrize(
    ("cache", "memory", "device", "size"),
    [
        pytest.param(4 * 30, 1 << 30, "cpu", 1, id="one model in the cache"),
        pytest.param(4 * 90, 1 << 30, "cpu", 3, id="three models in the cache"),
        pytest.param(4 * 89, 1 << 30, "cpu", 2, id="nearly three"),
        pytest.param(1, 1 << 30, "cpu", 1, id="less than one"),
        pytest.param(4 * 90, 3 * 5 * 4 * 5 * 7 - 1, "cpu", 2, id="nearly three in the memory"),
        pytest.param(4 * 30, 1 << 30, "meta", None, id="no CPU"),
    ],
)
def test_as_many_models_share_a_pass_as_fit_the_cache_and_the_memory(
    cache, memory, device, size, monkeypatch
):
    """A model of 5 x 5 weights and 5 biases, at 7 positions: a copy has 5 numbers a position."""
    monkeypatch.setattr(ensemble, "CACHE_BYTES", cache)
    monkeypatch.setattr(ensemble, "PART_BYTES", memory)
    model = nn.Linear(5, 5)
    assert step_bytes(model, 7) == 5 * 4 * 5 * 7
    assert repr(part_size(model, 7, torch.device(device))) == repr(size)
