"""The share of the loss that outputs explain is what its definition says, and a forecast from it is
right where the growth is known.
"""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from torch import nn

from gersgorin.checking.clocks import MOVES, expected, motion, signal, signals
from gersgorin.checking.reach import Reach
from gersgorin.checking.trials import Constant, Trial, run_trials
from gersgorin.training.training import Training

N, K = 4000, 3


class Fixed(nn.Module):
    """Gives its input as its output, and has one weight."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return x * self.weight


def read(z, y, loss):
    """(The signal of some outputs, the constant output, its loss): all examples as one minibatch,
    and the weight stays.
    """
    loop = Training(Fixed(), z, y, loss, "sgd", learning_rate=1e-12, batch_size=500, batch_axis=0)
    constant = Constant(loop)
    (trial,) = run_trials(loop, [1.0], steps=N // 500, seconds=600, constant=constant)
    return signal(trial, 0, trial.steps), constant


def numbers(correlation, size, g):
    """Targets (N, 1) and outputs that are correlated with them."""
    y = torch.randn(N, 1, generator=g)
    noise = torch.randn(N, 1, generator=g)
    return size * (correlation * y + math.sqrt(1 - correlation**2) * noise), 3 + 2 * y


@pytest.mark.parametrize("size", [10.0, 1e3])
def test_of_squared_errors_and_large_outputs_it_is_the_squared_correlation(size):
    z, y = numbers(0.3, size, torch.Generator().manual_seed(0))
    known = np.corrcoef(z.flatten(), y.flatten())[0, 1] ** 2
    assert read(z, y, "mse")[0].gain == pytest.approx(known, rel=0.02)


@pytest.mark.parametrize("size", [1e-8, 1e-3, 0.1])
def test_of_small_outputs_it_is_what_they_take_off_the_loss_of_the_constant(size):
    z, y = (t.double() for t in numbers(0.3, size, torch.Generator().manual_seed(1)))
    found, _ = read(z.float(), y.float(), "mse")
    output = z - z.mean() + y.mean()
    known = 1 - F.mse_loss(output, y) / F.mse_loss(y.mean().expand_as(y), y)
    assert found.gain == pytest.approx(known.item(), rel=0.02)


@pytest.mark.parametrize("size", [1e-4, 0.05, 0.3])
def test_of_classes_it_is_what_the_best_shrinking_gains(size):
    g = torch.Generator().manual_seed(2)
    y = torch.randint(0, K, (N,), generator=g)
    z = size * (0.3 * F.one_hot(y, K) + torch.randn(N, K, generator=g))
    found, constant = read(z, y, "cross-entropy")
    d, c = (z - z.mean(0)).double(), constant.output.double()
    least = minimize_scalar(
        lambda a: F.cross_entropy(c + a * d, y).item(), bounds=(0, 1), method="bounded"
    ).fun
    known = 1 - least / F.cross_entropy(c.expand(N, K), y).item()
    assert found.gain == pytest.approx(known, rel=0.05)


def test_outputs_that_have_nothing_to_do_with_the_targets_rarely_move():
    moves = 0
    for seed in range(40):
        g = torch.Generator().manual_seed(seed)
        moves += (
            read(torch.randn(N, 1, generator=g), torch.randn(N, 1, generator=g), "mse")[0].errors
            > MOVES
        )
    assert moves <= 2  # a normal one: 1 of 700; few minibatches: some more


def test_a_loss_without_second_derivatives_has_a_signal():
    z, y = numbers(0.5, 0.1, torch.Generator().manual_seed(3))
    assert read(z, y, F.l1_loss)[0].moves


def test_minibatches_of_one_output_have_none():
    loop = Training(
        nn.Linear(2, 1),
        torch.randn(9, 2),
        torch.randn(9, 1),
        "mse",
        "adam",
        learning_rate=0.1,
        batch_size=1,
    )
    (trial,) = run_trials(loop, [1.0], steps=200, seconds=600)
    assert signals(trial) == [] and motion(trial) == ""
    assert expected(trial, 400)[0] == math.inf


def growing(gain_of, steps, noise=0.05, seed=0):
    """A trial whose gain at each step is known, with noise of its slopes."""
    noises = noise * np.random.default_rng(seed).standard_normal(steps)
    slopes = [gain_of(step) for step in range(steps)] + noises
    return Trial(
        1.0,
        [1.0] * steps,
        [1.0] * steps,
        slopes=list(slopes),
        powers=[1e-9] * steps,
        curvatures=[2.0],
    )


def test_exponential_growth_is_seen_ahead():
    trial = growing(lambda step: 1e-4 * math.exp(step / 200), 800, noise=0.003)
    escape, (low, high), probability = expected(trial, 8000)
    known = 200 * math.log(0.05 / 1e-4)
    assert known / 1.2 < escape < known * 1.2 and low < known < high
    assert probability > 0.8
    assert "more" not in motion(trial) and "steps 533 to 800" in motion(trial)


def test_a_signal_that_does_not_grow_makes_an_escape_unlikely():
    assert expected(growing(lambda step: 5e-3, 1500, noise=0.003), 2000)[2] < 0.1


def test_if_nothing_moves_it_is_open_and_the_less_is_left_the_less_likely():
    trial = growing(lambda step: 0.0, 300)
    chances = [expected(trial, steps)[2] for steps in (301, 600, 3000, 10**5)]
    assert chances == sorted(set(chances)) and chances[0] < 0.01 and 0.1 < chances[-1] < 0.5
    assert expected(growing(lambda step: 0.0, 90), 1000)[2] == 0.5
    assert "no more of the loss than chance" in motion(trial)


def test_motion_tells_the_reach_from_the_first_reading_to_the_last():
    trial = growing(lambda step: 0.0, 300)
    for step, far in ((0, 1e-20), (300, 1e-3)):
        trial.reaches.append((step, Reach(np.array([1.0, 1.0, 0.0, far]))))
    assert motion(trial).endswith(
        "the gradient in the first half of the sequences, as a share of the whole, went from "
        "7e-21 to 0.0007 in 300 steps."
    )


def test_the_clocks_of_a_trial_change_nothing_in_its_training():
    x = torch.randn(64, 5, 2, generator=torch.Generator().manual_seed(0))
    y = x[:, 0, :1].clone()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(10, 1))
    loop = Training(model, x, y, "mse", "adam", learning_rate=0.01, batch_axis=0)
    looks = []

    def look(model, trial):
        looks.append(trial.steps)
        return trial.steps >= 40

    plain, watched = (
        run_trials(loop, [1.0], steps=60, seconds=600, interval=interval, read=look)[0]
        for interval in (None, 20)
    )
    assert looks == [20, 40] and watched.steps == 40 and not watched.cut
    assert watched.losses == plain.losses[:40]


def test_a_loss_far_above_the_constant_s_is_not_on_its_way_out():
    trial = growing(lambda step: 1e-4 * math.exp(step / 200), 800, noise=0.003)
    trial.losses = [2.0] * 800
    assert expected(trial, 8000)[0] == math.inf and expected(trial, 8000)[2] == 0.5


def test_outputs_that_lead_away_from_the_targets_explain_nothing():
    z, y = numbers(0.5, 10.0, torch.Generator().manual_seed(5))
    found = read(-z, y, "mse")[0]
    assert found.gain == 0 and found.errors < -MOVES


def test_a_share_above_one_is_refused():
    found = signal(growing(lambda step: 5.0, 200), 0, 200)
    assert (
        math.isnan(found.gain) and not found.moves and motion(growing(lambda step: 5.0, 200)) == ""
    )


def test_a_loss_may_change_its_output_in_place():
    z, y = numbers(0.3, 0.1, torch.Generator().manual_seed(4))
    plain, in_place = (
        read(z, y, loss)[0]
        for loss in (F.mse_loss, lambda output, y: output.sub_(y).square().mean())
    )
    assert in_place.gain == pytest.approx(plain.gain, rel=1e-3)
