"""A forecast of a training is right where the answer is known, and keeps to its time."""

import math

import pytest
import torch
from torch import nn

from gersgorin.checking import forecast as module
from gersgorin.checking import trials as trials_module
from gersgorin.checking.forecast import forecast
from gersgorin.checking.trials import Trial, run_trials
from gersgorin.training.training import Training


class Clock:
    """Time that passes only in forward passes."""

    def __init__(self, monkeypatch, step: float):
        self.now, self.step = 0.0, step
        for place in (module, trials_module):
            monkeypatch.setattr(place.time, "monotonic", lambda: self.now)


class Slow(nn.Linear):
    clock = None

    def forward(self, x):
        if self.clock is not None:
            self.clock.now += self.clock.step
        return super().forward(x)


class Product(nn.Module):
    """Two weights and a bias: x u v + b, which leaves the saddle at u = v = 0 exponentially, at the
    rate of the learning rate.
    """

    def __init__(self, size: float):
        super().__init__()
        self.u, self.v = nn.Parameter(torch.tensor(size)), nn.Parameter(torch.tensor(size))

    def forward(self, x):
        return x * self.u * self.v


def saddle(size=1e-3, learning_rate=0.05, count=256, **options):
    x = torch.randn(count, 1, generator=torch.Generator().manual_seed(0))
    model = Product(size)
    return Training(model, x, x, "mse", "sgd", learning_rate=learning_rate, batch_axis=0, **options)


def escape_from_saddle(loop, steps=20_000):
    return run_trials(loop, [1.0], steps=steps, seconds=600, seed=3)[0].left


@pytest.mark.parametrize("learning_rate", [0.1, 0.01, 0.005])
def test_the_escape_from_a_saddle_is_within_a_third_of_the_training(learning_rate):
    loop = saddle(learning_rate=learning_rate)
    found = forecast(loop, steps=3000, seconds=60)
    own = escape_from_saddle(loop)
    assert own / 1.5 < found.escape_steps < 1.5 * own
    assert found.interval[0] < found.escape_steps < found.interval[1]
    assert found.probability > 0.8


def test_a_training_that_takes_longer_than_it_lasts_stays():
    found = forecast(saddle(learning_rate=1e-5), steps=1000, seconds=60)
    assert found.escape_steps == math.inf
    assert found.probability < 0.1


class Late(nn.Linear):
    """Gives zeros for its first 1,200 steps of training, so that nothing forecasts its escape."""

    calls, clock, gain = 0, None, 1.0

    def forward(self, x):
        self.calls += torch.is_grad_enabled()
        self.clock.now += self.clock.step
        return super().forward(x) * self.gain * float(self.calls > 1200)


@pytest.mark.parametrize("seconds", [60, 3])
def test_the_training_is_run_if_nothing_else_decides_and_the_time_allows(monkeypatch, seconds):
    Late.clock = clock = Clock(monkeypatch, 0.003)
    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    loop = Training(Late(2, 1), x, x[:, :1], "mse", "adam", learning_rate=1e-2, batch_axis=0)
    begun = clock.now
    found = forecast(loop, steps=2000, seconds=seconds)
    assert clock.now - begun <= seconds
    assert (found.escape_steps < 2000) == (seconds == 60)


@pytest.mark.parametrize("gain", [1e9, 1e30])
def test_a_late_explosion_is_found_and_one_that_ends_is_none(monkeypatch, gain):
    Late.clock = Clock(monkeypatch, 0.003)
    monkeypatch.setattr(Late, "gain", gain)
    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    loop = Training(Late(2, 1), x, x[:, :1], "mse", "adam", learning_rate=1e-2, batch_axis=0)
    found = forecast(loop, steps=2000, seconds=60)
    if gain < 1e10:
        assert found.diverges_at == math.inf and 1300 < found.escape_steps < 2000
        return
    assert 1200 <= found.diverges_at < 1300
    assert found.escape_steps == math.inf
    assert found.probability < 0.1


def test_a_loss_that_comes_back_has_not_left_for_sure():
    for first, escape in ((1.0, 32), (0.5, 0)):  # a trained network is below from the first step on
        fell = Trial(1.0, [first] + [0.5] * 39 + [1.0] * 40, [1.0] * 80, left=32)
        assert fell.ratios[-1] == 1 and not fell.confirmed
        found = module._read(fell, 80, False)
        assert found[0] == escape and found[2] == module.HALF


@pytest.mark.parametrize("rate", [8.0, 8e4])
def test_a_rate_that_is_too_high_diverges(rate):
    found = forecast(saddle(size=0.3, learning_rate=rate), steps=400, seconds=60)
    assert found.diverges_at < 400
    assert found.probability < 0.1


@pytest.mark.parametrize("step", [0.01, 0.5, 3.0])
def test_a_slow_model_is_cut_at_the_time_limit(monkeypatch, step):
    clock = Clock(monkeypatch, step)
    model = Slow(2, 1)
    loop = Training(
        model,
        torch.randn(64, 2),
        torch.randn(64, 1),
        "mse",
        "adam",
        learning_rate=1e-6,
        batch_axis=0,
    )
    Slow.clock = clock
    try:
        found = forecast(loop, steps=1000, seconds=20.0)
    finally:
        Slow.clock = None
    assert clock.now <= 20.0
    assert found.cut == (step != 0.01)


def test_a_huge_loss_does_not_change_later_means():
    losses = [1.0] * 500
    losses[200] = 1e18
    ratios = Trial(1.0, losses, [1.0] * 500).ratios
    assert len(ratios) == 500 and (ratios[300:] == 1).all() and (ratios[:200] == 1).all()


def warmed_up(learning_rate, over, **options):
    """The saddle with a learning rate that changes, in proportion to `over(step)`."""
    loop = saddle(learning_rate=learning_rate, **options)
    model = loop.model
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, over)
    return Training(
        model, loop.data.x, loop.data.y, "mse", optimizer, scheduler=scheduler, batch_axis=0
    )


@pytest.mark.parametrize("over", [lambda step: 0.99**step, lambda step: min(1.0, step / 1000)])
def test_a_training_whose_rate_changes_is_followed_to_its_end(over):
    loop = warmed_up(0.01, over)
    own = escape_from_saddle(loop, steps=2000)
    found = forecast(loop, steps=2000, seconds=600)
    assert (own < math.inf) == (over(0) == 0)  # the warm-up leaves, the decay does not
    assert found.escape_steps == pytest.approx(own, rel=0.1)
    assert (found.probability > 0.9) == (own < math.inf)


def test_without_time_a_training_whose_rate_changes_is_open(monkeypatch):
    clock = Clock(monkeypatch, 0.01)
    monkeypatch.setattr(Slow, "clock", clock)
    x = torch.randn(400, 1, generator=torch.Generator().manual_seed(0))
    model = Slow(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1000)
    loop = Training(model, x, x, "mse", optimizer, scheduler=scheduler)
    begun = clock.now
    found = forecast(loop, steps=3000, seconds=10)
    assert clock.now - begun <= 10 and found.cut
    assert (found.probability, found.escape_steps, found.interval[1]) == (0.5, math.inf, math.inf)


def test_a_late_explosion_of_a_training_whose_rate_grows_is_found():
    loop = warmed_up(1.0, lambda step: 0.02 if step < 400 else 20.0, size=0.3)
    found = forecast(loop, steps=600, seconds=600)
    assert 400 <= found.diverges_at < 500 and found.probability < 0.5
