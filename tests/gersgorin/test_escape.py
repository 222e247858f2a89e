"""Leaving the plateau: the time of few gradients is that of SGD step by step."""

import math

import pytest
import torch
from chains import frames, network
from tables import for_each

from gersgorin import plateau
from gersgorin.objective import Objective
from rhn.errors import InvalidInputError


def sgd(model, x, learning_rate, momentum=0.9, most=4000):
    """Steps until the loss is below 0.98 of the constant output's."""
    objective = Objective(model, x)
    goal, weights = 0.98 * objective.best_constant()[1], list(objective.parameters.values())
    optimizer = torch.optim.SGD(weights, lr=learning_rate, momentum=momentum)
    for step in range(most):
        optimizer.zero_grad()
        loss = objective.mean_loss()
        if loss.item() < goal:
            return step
        loss.backward()
        optimizer.step()
    return math.inf


CASES = [
    ("dt-rnn", 1, 1e-4, 0.1, 0.9),
    ("dt-rnn", 2, 3e-2, 0.3, 0.9),
    ("dts-rnn", 3, 0.03, 0.1, 0.9),
    ("rhn", 1, 1e-3, 1.0, 0.9),
    ("rhn", 4, 1e-5, 1.0, 0.9),
    ("lstm", 1, 1e-3, 1.0, 0.5),
    ("gru", 1, 1e-6, 1.0, 0.0),
]


@for_each(("cell", "depth", "std", "rate", "momentum"), CASES)
def test_the_steps_to_leave_are_those_of_sgd(cell, depth, std, rate, momentum):
    model, x = network(cell, depth, f"gaussian:{std}"), frames(B=24)
    before = model.output.bias.clone()
    predicted, observed = plateau(model, x).escape(rate, momentum), sgd(model, x, rate, momentum)
    assert 20 < observed < 4000 and predicted == pytest.approx(observed, rel=0.2)
    assert torch.equal(model.output.bias, before)


def test_a_flat_plateau_takes_a_power_of_the_scale():
    steps = [plateau(network("dt-rnn", 3, f"gaussian:{std}"), frames(B=24)).escape(0.1) for std in (1e-4, 1e-5)]
    assert 1e6 < steps[0] < steps[1] / 50 < math.inf


def test_zero_weights_never_leave_and_a_trained_network_has_left():
    x = frames(B=24)
    assert plateau(network("rhn", 2, "gaussian:0"), x).escape(0.1) == math.inf
    model = network("rhn", 1, "gaussian:0.3").double()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        model.nll(x).mean().backward()
        optimizer.step()
    assert plateau(model, x).escape(0.1) == 0


def test_a_loss_below_zero_is_left_below_its_constant_too():
    def loss(z, t):
        return torch.nn.functional.binary_cross_entropy_with_logits(z, t, reduction="none").sum(-1) - 1000

    assert plateau(network("rhn", 1, "gaussian:1e-3"), frames(B=24), loss).escape(1.0) > 0


@pytest.mark.parametrize("arguments", [(0.0,), (math.nan,), (0.1, 1.0)])
def test_bad_rates_are_one_sentence(arguments):
    with pytest.raises(InvalidInputError, match="learning rate"):
        plateau(network("rhn"), frames()).escape(*arguments)
