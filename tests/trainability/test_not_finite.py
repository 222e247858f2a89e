"""Where the first number arises that is not finite: examples, a line of code, a gradient."""

import math
import re

import numpy as np
import pytest
import torch
from tables import for_each
from torch import nn
from torch.nn import functional as F

from trainability.facts import facts
from trainability.failures import failed_step
from trainability.not_finite import failure_of
from trainability.probe import Probe
from trainability.training import Training

N, T = 200, 9
G = torch.Generator().manual_seed(0)
ZEROS = [14, 101, 188]
SALES = torch.rand(N, T, generator=G) + 1
SALES[ZEROS, :2] = 0


class Smoothed(nn.Module):
    """Divides a series by its smoothed level."""

    def __init__(self, guard=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.gru, self.out, self.guard = nn.GRU(1, 8, batch_first=True), nn.Linear(8, 1), guard

    def forward(self, sales):
        levels = torch.stack([sales[:, : t + 1].mean(1) for t in range(sales.shape[1])], 1)
        ratio = sales / (levels + self.guard)
        return self.out(self.gru(ratio.unsqueeze(-1))[0][:, -1])


def training_of(model, x, y, loss="mse", rate=1e-3, **parts):
    return Training(model, x, y, loss, torch.optim.SGD(model.parameters(), rate), **parts)


def test_examples_are_named_by_what_they_share_and_the_line_that_spoils_them():
    y = SALES[:, -1:]
    found, _ = facts(Probe(training_of(Smoothed(), SALES, y)))
    (cause,) = [cause for cause in found if cause.name == "not finite"]
    assert cause.evidence["examples"] == ZEROS and cause.part == "inputs" and cause.sure
    assert "3 of 200 examples (14, 101, 188) are not finite: they begin with 0" in cause.sentence
    assert "ratio = sales / (levels + self.guard)" in cause.sentence
    found, missing = facts(Probe(training_of(Smoothed(guard=1e-3), SALES, y)))
    assert "not finite" not in {cause.name for cause in found} and not missing


def test_examples_of_a_list_of_batches_are_numbered_in_its_order():
    y = SALES[:, -1:]
    batches = [(SALES[k : k + 20], y[k : k + 20]) for k in range(0, N, 20)]
    found, _ = facts(Probe(training_of(Smoothed(), batches, None)))
    (cause,) = [cause for cause in found if cause.name == "not finite"]
    assert cause.evidence["examples"] == ZEROS


def test_the_examples_whose_loss_is_not_finite_are_named():
    def logs(z, y):
        return (z - y.log()).square().mean()

    y = torch.rand(N, 1, generator=G) + 0.1
    y[[3, 77]] = 0
    found, _ = facts(Probe(training_of(Smoothed(guard=1.0), SALES, y, logs)))
    (cause,) = [cause for cause in found if cause.name == "not finite"]
    assert cause.evidence["examples"] == [3, 77]
    assert "they have a target of 0" in cause.sentence and "y.log()" in cause.sentence


def test_a_network_all_of_whose_outputs_are_not_finite_is_at_fault_itself():
    class Root(Smoothed):
        def forward(self, x):
            return (super().forward(x) - 9).sqrt()

    found, _ = facts(Probe(training_of(Root(1.0), SALES, SALES[:, -1:])))
    assert found[0].part == "network" and found[0].sure
    assert "(super().forward(x) - 9).sqrt()" in found[0].remedy


def test_masks_of_infinite_scores_are_no_fault():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.score, self.out = nn.Linear(1, 1), nn.Linear(1, 1)

        def forward(self, x):
            x = x.unsqueeze(-1)
            scores = self.score(x).masked_fill(x == 0, -math.inf)
            return self.out((scores.softmax(1) * x).sum(1))

    found, missing = facts(Probe(training_of(Attention(), SALES, SALES[:, -1:])))
    assert "not finite" not in {cause.name for cause in found} and not missing


def steps_until_it_fails(training, most=200):
    stream = training.data.stream(0)
    for step in range(1, most + 1):
        if not math.isfinite(training.step(*next(stream))):
            return step
    raise AssertionError("it does not fail")


def own_softplus(x):
    return x + torch.log(1 + torch.exp(-x))


def test_the_step_and_the_line_at_which_a_training_fails_are_named():
    class Rate(nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(1))

        def forward(self, x):
            return own_softplus(0 * x[:, :1] + 30 * self.bias)

    def likelihood(mu, y):  # its least loss is at 0, where mu comes to by rounding
        return mu.log().mean()

    training = training_of(Rate(), SALES, SALES[:, -1:], likelihood, rate=0.05)
    step = steps_until_it_fails(training)
    cause = failed_step(training, step)
    assert f"In step {step:,}" in cause.sentence and cause.evidence["step"] == step
    assert "return mu.log().mean()" in cause.sentence or "torch.exp(-x)" in cause.sentence


def test_a_gradient_that_is_not_finite_is_told_from_a_loss():
    class Root(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.zeros(1))

        def forward(self, x):
            return (self.scale * x[:, :1]).abs().sqrt()

    training = training_of(Root(), SALES, SALES[:, -1:] + 1)
    step = steps_until_it_fails(training)
    cause = failed_step(training, step)
    assert "the loss is finite, but the gradient of scale is not" in cause.sentence
    assert cause.part == "network"


def test_outputs_that_grow_without_end_are_told_from_a_division():
    x, y = torch.randn(N, 6, generator=G), torch.randn(N, 1, generator=G)
    training = training_of(nn.Linear(6, 1), x, y, rate=30.0)
    cause = failed_step(training, steps_until_it_fails(training))
    assert "outputs are up to" in cause.sentence and "learning rate" in cause.remedy
    assert cause.part == "optimizer"


@pytest.mark.parametrize("at_step", [False, True])
@pytest.mark.parametrize("loss", ["mse", nn.MSELoss(), lambda z, y: ((z - y) ** 2).mean()])
def test_targets_that_are_too_large_for_single_precision_are_named(loss, at_step):
    """By NumPy: their squares are infinite in single precision, and finite in double precision."""
    x, y = torch.randn(N, 6, generator=G), 1e30 * torch.randn(N, 1, generator=G)
    with np.errstate(over="ignore"):
        assert np.isinf((y.numpy() ** 2).mean()) and np.isfinite((y.double().numpy() ** 2).mean())
    training = training_of(nn.Linear(6, 1), x, y, loss)
    if at_step:
        cause = failed_step(training, steps_until_it_fails(training))
    else:
        (cause,) = (c for c in facts(Probe(training))[0] if c.name == "not finite")
    found = re.search(r"targets are up to (\S+) in size", cause.sentence)
    assert 1e30 < float(found[1]) <= 1.01 * float(y.abs().max())
    assert "too large for float32" in cause.sentence and cause.remedy.startswith(
        "Standardise each output in y"
    )
    assert cause.part == "targets" and " of contextlib.py" not in str(cause)


def test_one_target_that_is_too_large_is_named_by_its_example():
    x, y = torch.randn(N, 6, generator=G), torch.randn(N, 1, generator=G)
    y[77] = 1e30
    found, _ = facts(Probe(training_of(nn.Linear(6, 1), x, y, batch_size=4)))
    (cause,) = (cause for cause in found if cause.name == "not finite")
    assert cause.evidence["examples"] == [77]
    assert "they have a target above" in cause.sentence
    assert "argets are up to 1e+30 in size" in cause.sentence


def test_a_logarithm_of_0_in_a_loss_is_no_overflow():
    x, y = torch.randn(N, 6, generator=G), 1e30 * torch.rand(N, 1, generator=G)

    def logs(z, y):
        return ((0 * z).log() - y.abs().log()).square().mean()

    training = training_of(nn.Linear(6, 1), x, y, logs)
    cause = failed_step(training, steps_until_it_fails(training))
    assert "(0 * z).log()" in cause.sentence and "too large" not in cause.sentence


@for_each("loss", ["mse", F.mse_loss])
def test_an_operation_of_torch_has_no_line_of_the_users(loss):
    """The innermost line outside of torch and of the toolkit is that of this test."""
    x, y = torch.full((N, 6), 3e38), SALES[:, :1]
    model = nn.Sequential(nn.Linear(6, 1))
    nn.init.ones_(model[0].weight)
    assert failure_of(training_of(model, x, y, loss), x, y).operation == "linear in self.0"


def test_a_failed_step_names_its_examples():
    training = training_of(Smoothed(), SALES, SALES[:, -1:], batch_size=16)
    cause = failed_step(training, steps_until_it_fails(training))
    assert set(cause.evidence["examples"]) <= set(ZEROS) and cause.part == "inputs"


def test_a_failed_step_of_sequences_with_time_first_counts_examples_not_frames():
    class Frames(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.out = nn.RNN(2, 3), nn.Linear(3, 2)

        def forward(self, x):
            return self.out(self.rnn(x)[0])

    for count in (1, 5):
        x = torch.full((T, count, 2), 3e38)
        training = training_of(Frames(), x, x, batch_axis=1)
        cause = failed_step(training, steps_until_it_fails(training))
        assert cause.name == "not finite"
        assert set(cause.evidence.get("examples", [])) <= set(range(count))


@pytest.mark.parametrize("loss", ["mse", F.l1_loss])
def test_a_training_that_does_not_fail_has_no_failed_step(loss):
    training = training_of(Smoothed(1.0), SALES, SALES[:, -1:], loss)
    for _, (x, y) in zip(range(5), training.data.stream(0), strict=False):
        training.step(x, y)
    assert failed_step(training, 5) is None
