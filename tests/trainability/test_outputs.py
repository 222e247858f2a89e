"""Outputs of any shape: facts and scores are measured, or the error is the user's own."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from trainability.facts import FACTS, facts
from trainability.probe import Probe
from trainability.scores import scores_of
from trainability.training import Training

B, T, K = 96, 6, 4
G = torch.Generator().manual_seed(0)
X = torch.randn(B, T, 3, generator=G)


@dataclass
class Prediction:
    mean: torch.Tensor
    spread: torch.Tensor


class Net(nn.Module):
    """A GRU whose outputs have some shape."""

    def __init__(self, shape, kind="tensor"):
        super().__init__()
        torch.manual_seed(0)
        self.rnn, self.out = nn.GRU(3, 8, batch_first=True), nn.Linear(8, K)
        self.shape, self.kind = shape, kind

    def forward(self, x):
        z = self.out(self.rnn(x)[0])
        z = {
            "()": lambda: z.mean(),
            "(B,)": lambda: z[:, -1, 0],
            "(B, 1)": lambda: z[:, -1, :1],
            "(B, K)": lambda: z[:, -1],
            "(B, T)": lambda: z[..., 0],
            "(B, T, K)": lambda: z,
        }[self.shape]()
        if self.kind == "tuple":
            return z, z.exp()
        return Prediction(z, z.exp()) if self.kind == "dataclass" else z


TARGETS = {
    "()": torch.randn(B, generator=G),
    "(B,)": torch.randn(B, generator=G),
    "(B, 1)": torch.randn(B, 1, generator=G),
    "(B, K)": torch.randint(K, (B,), generator=G),
    "(B, T)": torch.randn(B, T, generator=G),
    "(B, T, K)": torch.randint(K, (B, T), generator=G),
}


def loss_of(shape):
    if shape == "()":
        return lambda z, y: (z - y.mean()).square()
    if shape.endswith("K)"):
        return lambda z, y: nn.functional.cross_entropy(z.flatten(0, -2), y.flatten())
    return nn.MSELoss()


@pytest.mark.parametrize("kind", ["tensor", "tuple", "dataclass"])
@pytest.mark.parametrize("shape", TARGETS)
def test_facts_and_scores_of_outputs_of_any_shape(shape, kind):
    model = Net(shape, kind)
    adam = torch.optim.Adam(model.parameters(), 1e-3)
    options = {"predict": lambda out: out.mean} if kind == "dataclass" else {}
    training = Training(model, X, TARGETS[shape], loss_of(shape), adam, **options)
    probe = Probe(training)
    found, missing = facts(probe)
    assert not missing and len(FACTS) > 10
    assert not {cause.name for cause in found} - ({"unpaired loss"} if shape == "()" else set())
    pairs, data = training.data.held_out, training.data
    targets = [y for _, y in data.trained]
    output = probe.evaluated(pairs[0][0])
    for score in scores_of(training.loss, output, pairs, probe.axes, targets).values():
        outputs = training.answers([x for x, _ in pairs])
        paired = score.in_pairs(outputs, [y for _, y in pairs])
        assert paired.relative >= 0 and paired.count >= 1
        if shape != "()":
            assert paired.count == sum(len(y) for _, y in pairs) == B // 4


def test_a_loss_that_draws_random_numbers_or_needs_several_examples_has_a_score():
    def pairs_of(z, y):
        return ((z[1:] - z[:-1]) - (y[1:] - y[:-1])).square().mean()

    def noisy(z, y):
        return (z + 0.01 * torch.randn_like(z) - y).abs().mean()

    model = Net("(B, 1)")
    for loss in (pairs_of, noisy):
        training = Training(model, X, TARGETS["(B, 1)"], loss, "sgd", learning_rate=1e-3)
        probe, pairs = Probe(training), training.data.held_out
        output = probe.evaluated(pairs[0][0])
        for score in scores_of(training.loss, output, pairs, probe.axes).values():
            outputs = training.answers([x for x, _ in pairs])
            assert score.in_pairs(outputs, [y for _, y in pairs]).relative >= 0
        assert not facts(probe)[1]
