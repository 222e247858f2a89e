"""How several outputs for one target change with its unit, for likelihoods in known forms."""

import math

import pytest
import torch
from torch import distributions, nn
from torch.nn import functional as F

from trainability.rescaling import rescaling_of
from trainability.swaps import targets_standardised
from trainability.training import Training

N = 64
G = torch.Generator().manual_seed(0)
Y = torch.randn(N, 1, generator=G)
Z = 0.2 * torch.randn(N, 6, generator=G)
POSITIVE = 0.5 + 0.1 * torch.rand(N, 2, generator=G)
MEAN, SPREAD = 5000.0, 300.0


def gauss(z, y):
    return F.gaussian_nll_loss(z[..., :1], y, z[..., 1:].exp())


def of_deviation(z, y):
    return -distributions.Normal(z[:, :1], z[:, 1:]).log_prob(y).mean()


def mixture(z, y):
    of_each = distributions.Normal(z[:, 2:4], z[:, 4:]).log_prob(y)
    return -torch.logsumexp(z[:, :2] + of_each, 1).mean()


def student(z, y):
    return -distributions.StudentT(z[:, 2:].exp() + 1, z[:, :1], z[:, 1:2].exp()).log_prob(y).mean()


def quantiles(z, y):
    shares = torch.tensor([0.1, 0.5, 0.9], dtype=z.dtype)
    return torch.maximum(shares * (y - z), (shares - 1) * (y - z)).mean()


def softplus(z, y):
    return of_deviation(torch.cat((z[:, :1], F.softplus(z[:, 1:])), 1), y)


def levels(z, y):
    return F.binary_cross_entropy_with_logits(z, (y > torch.tensor([-1.0, 1.0])).to(z))


def moved(z):
    """Means, in another unit."""
    return z * SPREAD + MEAN


LOG = math.log(SPREAD)
# outputs for standardised targets, and for the raw ones by the formula of each density
CASES = {
    "a mean and a log of a variance": (
        gauss,
        Z[:, :2],
        lambda z: (moved(z[:, :1]), z[:, 1:] + 2 * LOG),
    ),
    "a mean and a deviation": (
        of_deviation,
        torch.cat((Z[:, :1], POSITIVE[:, :1]), 1),
        lambda z: (moved(z[:, :1]), z[:, 1:] * SPREAD),
    ),
    "a mixture": (
        mixture,
        torch.cat((Z[:, :2].log_softmax(1), Z[:, 2:4], POSITIVE), 1),
        lambda z: (z[:, :2], moved(z[:, 2:4]), z[:, 4:] * SPREAD),
    ),
    "Student's t": (student, Z[:, :3], lambda z: (moved(z[:, :1]), z[:, 1:2] + LOG, z[:, 2:])),
    "quantiles": (quantiles, Z[:, :3], lambda z: (moved(z),)),
}


@pytest.mark.parametrize("name", CASES)
def test_outputs_are_scaled_back_as_the_density_says(name):
    loss_fn, z, expected = CASES[name]
    raw = rescaling_of(loss_fn, z, Y)(z.double(), MEAN, SPREAD)
    assert torch.allclose(raw, torch.cat(expected(z.double()), 1), rtol=1e-5)


@pytest.mark.parametrize("loss_fn", [softplus, levels])
def test_a_loss_with_a_unit_of_its_own_determines_no_scale(loss_fn):
    assert rescaling_of(loss_fn, Z[:, :2], Y) is None


def test_a_likelihood_of_raw_targets_learns_by_standardised_ones():
    """As a plain loop: relative squared error of the mean, in the raw unit."""
    x = torch.randn(400, 3, generator=G)
    y = MEAN + SPREAD * x.sum(1, keepdim=True)
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    adam = torch.optim.Adam(model.parameters(), 0.05)
    training = Training(model, x, y, gauss, adam)
    errors = []
    for run in (training, targets_standardised(training)):
        for _, pair in zip(range(100), run.data.stream(0), strict=False):
            run.step(*pair)
        mean = run.answers([x])[0][:, :1]
        errors.append(float((mean - y).square().mean() / y.var(correction=0)))
    own = torch.optim.Adam(model.parameters(), 0.05)
    for _, (inputs, targets) in zip(range(100), training.data.stream(0), strict=False):
        own.zero_grad()
        gauss(model(inputs), (targets - MEAN) / SPREAD).backward()
        own.step()
    mean = model(x).detach()[:, :1] * SPREAD + MEAN
    own_error = float((mean - y).square().mean() / y.var(correction=0))
    assert max(own_error, errors[1]) < 0.1 < 10 < errors[0]
