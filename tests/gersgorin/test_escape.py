"""Leaving the plateau: what is predicted from few gradients is what SGD does step by step."""

import math

import numpy as np
import pytest
import torch
from chains import frames, network
from tables import for_each

from gersgorin import plateau
from gersgorin.analyses import escape
from gersgorin.analyses.escape import block, relax
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
    way, observed = plateau(model, x).escape(rate, momentum), sgd(model, x, rate, momentum)
    assert way.ended == "left" and 20 < observed < 4000
    assert way.leaves_after == pytest.approx(observed, rel=0.2)


def test_of_many_steps_few_are_looked_at_and_a_power_law_takes_a_power_of_the_scale():
    ways = [plateau(network("dt-rnn", 3, f"gaussian:{std}"), frames(B=24)).escape(0.1) for std in (1e-5, 1e-7)]
    assert [way.ended for way in ways] == ["left", "left"] and all(len(way.steps) < 200 for way in ways)
    assert 1e4 < ways[0].leaves_after < ways[1].leaves_after / 10


def test_what_stood_still_for_long_and_then_changes_at_once_is_leaving():
    record = plateau(network("dt-rnn", 3, "gaussian:1e-7"), frames(B=24))
    whole, cut = record.escape(0.1), escape.follow(record.objective, 0.1, 0.9, most=100)
    assert cut.ended == "leaving" and cut.loss[-1] > cut.goal and 0.95 < cut.leaves_after / whole.leaves_after < 1.05
    assert escape.follow(record.objective, 0.1, 0.9, most=40).leaves_after == math.inf


def test_small_learning_rates_need_time_in_inverse_proportion():
    record = plateau(network("rhn", 2, "gaussian:1e-2"), frames(B=24))
    assert record.escape_epochs(1e-4) == pytest.approx(10 * record.escape_epochs(1e-3), rel=0.15)
    assert record.escape_epochs(1e-3, batches=7) == pytest.approx(record.escape_epochs(1e-3) / 7)


def test_a_loss_below_zero_is_left_below_its_constant_too():
    def loss(z, t):
        return torch.nn.functional.binary_cross_entropy_with_logits(z, t, reduction="none").sum(-1) - 1000

    way = plateau(network("rhn", 1, "gaussian:1e-3"), frames(B=24), loss).escape(1.0)
    assert way.goal < way.loss[0] and len(way.steps) > 1


def test_zero_weights_never_leave_and_a_trained_network_has_left():
    x = frames(B=24)
    assert plateau(network("rhn", 2, "gaussian:0"), x).escape_epochs(0.1) == math.inf
    model = network("rhn", 1, "gaussian:0.3").double()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        model.nll(x).mean().backward()
        optimizer.step()
    assert plateau(model, x).escape_epochs(0.1) == 0


def test_a_block_is_its_single_steps(monkeypatch):
    """With blocks forbidden every step is SGD's own, so the losses are equal; the model stays as it was."""
    monkeypatch.setattr(escape, "SHORTEST_BLOCK", 10**9)
    model, x = network("dt-rnn", 2, "gaussian:0.1"), frames(B=24)
    before = model.output.bias.clone()
    way = plateau(model, x).escape(0.1)
    assert way.steps[-1] == sgd(model, x, 0.1) and torch.equal(model.output.bias, before)
    assert set(way.norms) == {"cells.0.weight_ih", "cells.0.weight_hh[0]", "cells.0.weight_hh[1]", "output.weight"}


def test_deep_networks_of_tiny_weights_take_a_power_of_the_scale_which_rounding_does_not_hide():
    ways = [plateau(network("dt-rnn", 6, f"gaussian:{std}"), frames(B=24)).escape(0.1) for std in (1e-4, 1e-5)]
    assert all(way.ended in ("left", "leaving") and len(way.steps) < 300 for way in ways)
    assert 1e4 < ways[1].leaves_after / ways[0].leaves_after < 1e6 and ways[0].leaves_after > 1e14


def test_where_the_gradients_run_out_at_rest_it_waits_and_the_slowest_rate_is_followed():
    record = plateau(network("dt-rnn", 6, "gaussian:1e-3"), frames(B=24))
    cut = record.escape(0.1, most=80)
    assert (cut.ended, cut.leaves_after) == ("waiting", math.inf) and cut.steps[-1] > 1000
    assert record.escape(1e-12).leaves_after == pytest.approx(1e9 * record.escape(1e-3).leaves_after, rel=0.2)
    assert record.escape(1e12).leaves_after == math.inf


@for_each("mu", [0.0, 0.5, 0.9])
@for_each("N", [1, 2, 17])
def test_a_block_of_momentum_is_n_steps(N, mu):
    def steps(gradient, v=0.0, total=0.0):
        for j in range(N):
            v = mu * v + gradient(j)
            total += v
        return pytest.approx((total, v), abs=1e-12)

    responses = block(N, mu)
    assert responses.velocity == steps(lambda j: 0.0, v=1.0)
    assert responses.constant == steps(lambda j: 1.0)
    assert responses.ramp == steps(lambda j: j / N)
    error, velocity, rate = torch.tensor([[1.0, 2.0, -3.0], [0.5, 0.0, 1.0], [0.3, 1e-3, 0.0]], dtype=torch.float64)
    response, error_after, velocity_after = relax(error, velocity, rate, N, mu)
    e, v, errors = error.clone(), velocity.clone(), []
    for _ in range(N):
        errors.append(e.numpy().copy())
        v = mu * v + e
        e = e - rate * v
    torch.testing.assert_close((error_after, velocity_after), (e, v))
    total, last = np.zeros(3), np.zeros(3)
    for e in errors:
        last = mu * last + e
        total = total + last
    np.testing.assert_allclose(response.sum, total, rtol=1e-9)
    np.testing.assert_allclose(response.last, last, rtol=1e-9)


@for_each(
    ("arguments", "said"),
    [
        *(((rate,), "learning rate") for rate in (0.0, math.nan, 1e-13, 1e300, None, "a")),
        *(((0.1, momentum), "momentum") for momentum in (1.0, None, "a")),
        *(((0.1, 0.9, batches), "batches") for batches in (0, math.inf, math.nan, None, "a")),
    ],
)
def test_bad_rates_are_one_sentence(arguments, said):
    record = plateau(network("rhn"), frames())
    with pytest.raises(InvalidInputError, match=said):
        record.escape_epochs(*arguments)
    with pytest.raises(InvalidInputError, match="until"):
        record.escape(0.1, until=math.nan)
