"""The best constant output and the least loss of losses without a formula for either."""

import math

import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from torch import nn

from trainability import Training, assert_learns, check, cure
from trainability.probe import Probe
from trainability.race import race_of

G = torch.Generator().manual_seed(0)
N = 240
X = torch.randn(N, 6, 1, generator=G)


class Last(nn.Module):
    """A GRU whose last state is read."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.gru, self.head = nn.GRU(inputs, 16, batch_first=True), nn.Linear(16, outputs)

    def forward(self, x):
        return self.head(self.gru(x)[0][:, -1])


def mixture(z, y):
    """Negative log-likelihood of a mixture of normal distributions, with K weights, means and
    logarithms of deviations.
    """
    weights, means, logs = z.chunk(3, 1)
    logs = logs.clamp(-4, 4)
    each = weights.log_softmax(1) - logs - 0.5 * ((y - means) * torch.exp(-logs)).square()
    return 0.5 * math.log(2 * math.pi) - each.logsumexp(1).mean()


def training_of(x, y, loss_fn, outputs, steps=40, rate=0.01):
    torch.manual_seed(0)
    model = Last(x.shape[2], outputs)
    return Training(model, x, y, loss_fn, torch.optim.Adam(model.parameters(), rate), steps=steps)


@pytest.mark.parametrize("centres", [(-2.0, 2.0), (-5.0, 0.0, 5.0)])
def test_the_best_constant_of_a_mixture_is_no_saddle_of_equal_components(centres):
    """SciPy finds the best constant from the centres."""
    K = len(centres)
    places = torch.randint(0, K, (N,), generator=G)
    y = (torch.tensor(centres)[places] + 0.15 * torch.randn(N, generator=G))[:, None]
    training = training_of(X, y, mixture, 3 * K)
    score = race_of(training, Probe(training)).scores["error"]
    known = torch.cat([y for _, y in training.data.trained]).double()
    start = torch.tensor([*[0.0] * K, *centres, *[-2.0] * K]).double()
    best = minimize(lambda z: float(mixture(torch.tensor(z)[None], known)), start.numpy())
    ours = float(mixture(score.constant.double(), known))
    assert ours == pytest.approx(best.fun, abs=1e-3)
