"""Windows of an epoch over a text, and the configuration that asks for them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import for_each

from rhn.errors import InvalidInputError
from rhn.presets import preset
from rhn.training.language import epoch_windows
from tests.rhn.texts import SMALL


@given(columns=st.integers(2, 400), window=st.integers(1, 50))
@settings(deadline=None, derandomize=True)
def test_fixed_windows_follow_each_other_and_leave_less_than_one(columns, window):
    windows = epoch_windows(columns, window)
    assert [start for start, _ in windows] == [k * window for k in range(len(windows))]
    assert 0 <= columns - 1 - len(windows) * window < window


@given(columns=st.integers(10, 2000), window=st.integers(5, 50), epoch=st.integers(1, 9))
@settings(deadline=None, derandomize=True)
def test_varying_windows_cover_the_text_without_gaps(columns, window, epoch):
    windows = epoch_windows(columns, window, vary=True, epoch=epoch)
    end = 0
    for start, steps in windows:
        assert start == end
        assert 5 <= steps <= 2 * window
        end += steps
    assert 0 <= columns - 1 - end < 5


def test_varying_windows_differ_from_epoch_to_epoch_around_their_mean():
    lengths = [n for epoch in range(20) for _, n in epoch_windows(3000, 35, vary=True, epoch=epoch)]
    assert epoch_windows(3000, 35, vary=True, epoch=1) != epoch_windows(3000, 35, vary=True, epoch=2)
    assert np.mean(lengths) == pytest.approx(0.95 * 35 + 0.05 * 17.5, abs=0.7)


@for_each(
    "wrong",
    [
        {"gate_masks": "Separate"},
        {"corpus": "foo"},
        {"window": 10.5},
        {"depth": 0},
        {"learning_rate": float("nan")},
        {"learning_rate": 0.0},
        {"momentum": 1.0},
        {"epsilon": 1e-50},  # zero in float32
        {"weight_decay": -0.1},
        {"reset_probability": 1.1},
        {"seed": 10**30},
        {"seed": -1},
        {"epochs": True},
        {"tied": True, "embedding_size": 3},
        {"init_std": float("inf")},
    ],
)
def test_a_value_that_a_configuration_cannot_have_is_refused(wrong):
    with pytest.raises(InvalidInputError, match=next(reversed(wrong))):
        replace(preset("jsb-depth-1") if "init_std" in wrong else SMALL, **wrong)
