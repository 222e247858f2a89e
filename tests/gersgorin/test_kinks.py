"""A Lyapunov spectrum of a run at a kink is marked; smooth maps and networks of ReLUs at other
states are not.
"""

import math

import numpy as np
import pytest
import torch
from tables import for_each
from torch import nn

import gersgorin
from gersgorin.linalg.zeros import kinks_at
from rhn.cells import IRNN

d = torch.float64
MARK = "has a kink"


def drawn(*shape, dtype=d, seed=0):
    return torch.randn(*shape, dtype=d, generator=torch.Generator().manual_seed(seed)).to(dtype)


def told(found):
    return " ".join(found.sentences())


@for_each(
    ("slopes", "s0"),
    [
        ((0.5, 1.5), 0.0),  # autograd's slope at the tie is 1
        ((0.5, 0.25), 0.0),
        ((3.0, 2.0), 0.0),
        ((0.5, 1.5), 1.0),
        ((0.5, 1.5), -1.0),
        ((0.5, 0.5), 0.0),
    ],
)
def test_a_run_is_marked_if_its_slopes_on_two_sides_differ(slopes, s0):
    """For the step s -> max(a s, b s), judged by its values a little above and below the run."""

    def step(s):
        return np.maximum(slopes[0] * s, slopes[1] * s)

    sides, run = [s0 - 1e-30, s0 + 1e-30], s0
    if s0:
        sides = [s0 * (1 - 1e-9), s0 * (1 + 1e-9)]
    first = [side - s0 for side in sides]
    for _ in range(40):
        sides, run = [step(side) for side in sides], step(run)
    growth = [(side - run) / change for side, change in zip(sides, first, strict=True)]
    differ = not math.isclose(*growth, rel_tol=1e-3)
    found = gersgorin.lyapunov(
        lambda x, s: torch.maximum(slopes[0] * s, slopes[1] * s),
        torch.zeros(40, 1, dtype=d),
        s0=torch.tensor([s0], dtype=d),
    )
    assert (MARK in told(found)) == differ
    if differ:
        assert "may grow or shrink" in told(found)
        assert "keeps its size" not in told(found) and "grow along" not in found.finding
        assert "come together" not in told(found)


def test_an_exponent_of_minus_infinity_is_in_doubt_only_at_a_kink():
    """relu(s - 1) has the slope 0 below 1, and at 1 a slope of autograd's choice."""
    x = torch.zeros(30, 1, dtype=d)
    for s0, step in [
        (0.0, lambda x, s: torch.relu(s - 1)),
        (0.0, lambda x, s: 0 * s),
        (1.0, lambda x, s: 1 + torch.relu(s - 1)),
    ]:
        found = gersgorin.lyapunov(step, x, s0=torch.tensor([s0], dtype=d))
        assert np.isneginf(found.exponents).all()
        assert (MARK in told(found)) == (s0 == 1)


def test_a_kink_at_the_single_step_that_takes_an_exponent_to_minus_infinity_is_found():
    def step(x, s):
        return 1 + torch.where(x > 0, torch.relu(s - 1), 0.5 * (s - 1))

    x = torch.zeros(200, 1, dtype=d)
    x[78] = 1
    found = gersgorin.lyapunov(step, x, s0=torch.ones(1, dtype=d), warmup=5)
    assert np.isneginf(found.exponents).all()
    assert found.kinks.tolist() == [78] and "step 78 of the run" in told(found).lower()


class Normalised(nn.Module):
    def __init__(self):
        super().__init__()
        self.state_size, self.cell, self.norm = 8, nn.GRUCell(3, 8), nn.LayerNorm(8)

    def forward(self, x, s):
        return self.norm(self.cell(x, s))


CELLS = {
    "rnn": lambda: nn.RNN(3, 8),
    "two layers": lambda: nn.LSTM(3, 8, 2),
    "gru": lambda: nn.GRU(3, 8),
    "layer norm": Normalised,
    "relu": lambda: nn.RNN(3, 16, nonlinearity="relu"),
    "ours, relu": lambda: IRNN(3, 16),
    "large": lambda: nn.RNN(3, 300, nonlinearity="relu"),
}


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("scale", [1.0, 1e-6, 30.0])
def test_networks_at_states_in_general_position_are_not_marked(name, scale):
    torch.manual_seed(0)
    module = CELLS[name]()
    with torch.no_grad():
        for p in module.parameters():
            p.mul_(min(scale, 3.0))
    found = gersgorin.lyapunov(module, scale * drawn(40, 3), count=2)
    assert found.kinks.tolist() == []


@for_each("dtype", [torch.float32, torch.float64])
def test_smooth_steps_are_not_marked_in_their_own_precision(dtype):
    """Saturated, curved, chaotic, and at rest."""
    W = drawn(5, 5, dtype=dtype)
    for step in (
        lambda x, s: torch.tanh(100 * W @ s + 100),
        lambda x, s: torch.tanh(9 * W @ s),
        lambda x, s: torch.sigmoid(30 * s - 40),
        lambda x, s: 3.9 * s * (1 - s),
        lambda x, s: torch.nn.functional.softplus(W @ s, beta=20) / 9,
        lambda x, s: torch.sin(20 * s),
        lambda x, s: 0.5 * s,
    ):
        s0 = torch.linspace(0.1, 0.4, 5).to(dtype)
        found = gersgorin.lyapunov(step, torch.zeros(50, 1, dtype=dtype), s0=s0)
        assert found.kinks.tolist() == []


@for_each("dtype", [torch.float32, torch.float64])
@for_each("size", [1e-3, 1.0, 1e3])
def test_kinks_are_found_in_every_unit_and_precision(dtype, size):
    """A kink at `size`, beside it by a tenth of it, and in a direction of its own."""

    def jacobian(s):
        return (1 + 0.5 * (s > size) + 0.25 * (s == size)).diag_embed()

    points = torch.tensor([[size, size / 2], [0.9 * size, size / 2]], dtype=dtype)
    sizes = points.abs().amax(1, keepdim=True)
    assert kinks_at(jacobian, points, jacobian(points), sizes).tolist() == [True, False]
