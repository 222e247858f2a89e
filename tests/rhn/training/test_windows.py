"""Windows of an epoch over a text, and the configuration that asks for them."""

from hypothesis import given, settings
from hypothesis import strategies as st

from rhn.training.language import epoch_windows


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
