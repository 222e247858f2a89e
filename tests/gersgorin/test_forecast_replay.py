"""Forecasts that are replayed from recorded curves use the same trials and rules as forecasts of trainings."""

import math

import numpy as np
import pytest

from benchmarks.calibration.replay import Recording, Replay, forecast_recorded

RATES = 10.0 ** -np.arange(0, 4, 0.5)
STEPS = 1000


def saddle(time: float) -> np.ndarray:
    """A loss whose gap to the constant's, 1, grows exponentially and is LEFT after `time` steps."""
    gap = 0.02 * np.exp(8 * (np.arange(1, STEPS + 1) / time - 1))
    return 1 - gap / (1 + gap)


@pytest.fixture
def recording(tmp_path):
    noise = 1 + 0.1 * np.random.default_rng(0).standard_normal(STEPS)
    losses = np.stack([saddle(20 / rate) for rate in RATES], 1) * noise[:, None]
    path = tmp_path / "adding-rnn-uniform-sgd-0.npz"
    np.savez(path, losses=losses, constants=noise, rates=RATES, constant=1.0, step_seconds=0.001)
    return Recording(path)


@pytest.mark.parametrize("rate", [2, 3, 4, 6])
def test_an_exponential_escape_is_forecast_from_short_trials(recording, rate):
    found, used = forecast_recorded(recording, rate, STEPS)
    left = recording.outcomes[rate].left
    if left == math.inf:
        assert found.probability < 0.1
    else:
        assert left / 1.5 < found.escape_steps < 1.5 * left
        assert found.probability > 0.8
    assert used <= STEPS


def test_an_explosion_soon_after_the_escape_is_found(tmp_path):
    losses = np.repeat(saddle(60)[:, None], 8, 1)
    losses[80:, 4:] = math.nan
    path = tmp_path / "adding-rnn-uniform-sgd-0.npz"
    np.savez(path, losses=losses, constants=np.ones(STEPS), rates=RATES, constant=1.0, step_seconds=0.001)
    found, _ = forecast_recorded(Recording(path), 4, STEPS)
    assert found.escape_steps < found.diverges_at == 81
    assert found.probability < 0.5


def test_a_trial_reads_no_further_than_its_steps(recording):
    run = Replay(recording, 4)
    trials = run("", [1.0, 10.0], (0, 1), steps=[500, 100], budget=120)
    assert run.used == trials.steps.sum() <= 120
    assert np.isnan(trials.losses[trials.steps[0] :, 0]).all()
    assert trials.left[0] == math.inf
