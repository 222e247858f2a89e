"""The interval means what it says."""

import numpy as np
import pytest

from analysis import paired_bootstrap


def test_the_interval_covers_the_true_difference_as_often_as_it_claims(monkeypatch):
    monkeypatch.setattr("analysis.lesions.RESAMPLES", 400)
    rng, covered, trials = np.random.default_rng(0), 0, 200
    for seed in range(trials):
        frames = rng.integers(20, 120, 40).astype(float)
        hard = rng.normal(8, 2, 40)  # how hard a sequence is moves both networks alike
        reference = frames * hard
        worse = frames * (hard + 0.5 + rng.normal(0, 0.4, 40))
        low, high = paired_bootstrap(worse[None], reference, frames, seed=seed)
        covered += low[0] <= 0.5 <= high[0]
    assert 0.89 <= covered / trials <= 0.98


def test_pairing_makes_the_interval_narrow():
    rng = np.random.default_rng(1)
    frames, hard = np.full(50, 60.0), rng.normal(8, 2, 50)
    low, high = paired_bootstrap((frames * (hard + 0.1))[None], frames * hard, frames)
    assert low[0] == pytest.approx(0.1) and high[0] == pytest.approx(0.1)


def test_long_sequences_weigh_by_their_frames():
    frames = np.array([1.0, 999.0])
    low, high = paired_bootstrap(np.array([[100.0, 0.0]]), np.zeros(2), frames)
    assert low[0] == 0 and high[0] == pytest.approx(100)  # both draws the short one


def test_a_single_sequence_has_no_interval():
    low, high = paired_bootstrap(np.ones((2, 1)), np.zeros(1), np.ones(1))
    assert np.isnan(low).all() and np.isnan(high).all()
