"""Files of figures."""

import pytest
from matplotlib.figure import Figure

from rhn.utils import figures


def simple() -> Figure:
    figure = Figure()
    figure.suptitle("What is shown")
    figure.subplots().plot([1, 2], label="a line")
    return figure


@pytest.mark.parametrize("suffix", figures.FIGURE_SUFFIXES)
def test_a_figure_has_the_same_bytes_on_another_day(tmp_path, monkeypatch, suffix):
    one, other = tmp_path / f"one{suffix}", tmp_path / f"other{suffix}"
    for path, seconds in ((one, "0"), (other, "1000000")):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", seconds)
        figures.save_figure(path, simple)
    assert one.read_bytes() == other.read_bytes()
