"""Losses that broadcast targets (B,) against outputs (B, 1) and losses that only divide by all
targets; the least loss of the targets that are measured.
"""

import pytest
import torch
from torch import nn

from trainability.minibatch import Minibatch
from trainability.probe import Probe
from trainability.race import race_of
from trainability.training import Training
from trainability.verdict import error_on


class Last(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.GRU(2, 8, batch_first=True), nn.Linear(8, 1)

    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1])


def batch(loss_fn, y):
    torch.manual_seed(0)
    model, x = Last(), torch.randn(len(y), 5, 2)
    optimizer = torch.optim.Adam(model.parameters())
    return Minibatch(Training(model, x, y, loss_fn, optimizer, steps=5))


TARGETS = {
    "whole numbers": lambda: (3 + 2 * torch.randn(64)).round(),
    "real numbers": lambda: torch.randn(64) - 20,
}


@pytest.mark.parametrize("loss_fn", [nn.L1Loss(), nn.SmoothL1Loss(), nn.HuberLoss(), nn.MSELoss()])
@pytest.mark.parametrize("kind", TARGETS)
def test_a_loss_of_two_shapes_is_proven_also_if_its_slopes_are_signs(loss_fn, kind):
    torch.manual_seed(1)
    y = TARGETS[kind]()
    with pytest.warns(UserWarning, match="target size"):
        assert batch(loss_fn, y).is_unpaired
    assert not batch(loss_fn, y[:, None]).is_unpaired


def masked_by_value(z, y):  # -1: no target
    counts = y >= 0
    return ((z - y).abs() * counts).sum() / counts.sum()


def correlation(z, y):
    a, b = z - z.mean(), y - y.mean()
    return -(a * b).sum() / (a.norm() * b.norm())


@pytest.mark.parametrize("loss_fn", [masked_by_value, correlation])
def test_a_loss_that_divides_by_all_targets_is_paired(loss_fn):
    torch.manual_seed(1)
    y = torch.randn(64, 1).abs() + 1
    y[::3] = -1 if loss_fn is masked_by_value else 0
    assert not batch(loss_fn, y).is_unpaired


def test_training_examples_are_scored_from_their_own_least_loss():
    """The least Poisson loss is the mean of y - y log y, and lies lower where counts are larger."""
    torch.manual_seed(2)
    y = torch.poisson(torch.full((400, 1), 2.0))
    y[:200] += 6  # the first half, here that of the training
    x = torch.randn(400, 5, 2)
    model, loss_fn = Last(), nn.PoissonNLLLoss()
    optimizer = torch.optim.Adam(model.parameters())
    training = Training(model, x, y, loss_fn, optimizer, steps=5)
    race = race_of(training, Probe(training), 0, lambda doing: None)
    score = race.scores["error"]
    assert score.kind == "loss"
    constant = float(score.constant)
    with torch.no_grad():
        loss = loss_fn(model(x[:100]), y[:100]).double()
    some = y[:100].double()
    least = (some - torch.xlogy(some, some)).mean()
    of_constant = loss_fn(torch.full_like(some, constant), some)
    found = error_on(training, race, [(x[:100], y[:100])])
    assert found == pytest.approx(float((loss - least) / (of_constant - least)), rel=1e-3)
    assert not score.void
