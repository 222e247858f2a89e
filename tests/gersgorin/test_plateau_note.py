"""The tables behind the note on the plateau: what is written is read again, and groups count what they say."""

import math
from dataclasses import replace

import pytest

from benchmarks.plateau.summary import draw_predictions, summary
from benchmarks.plateau.trials import Prediction, read, write
from rhn.plotting.figures import our_style
from rhn.utils.file_marks import made_with
from tests.readable import readable

LEFT = Prediction("rhn", 4, 0, 0.1, 1e-3, -2.0, 20, 120, 40, 20.0, "left", 0.0, 0.01)
ROWS = [
    LEFT,
    replace(LEFT, trial=1, learning_rate=0.2, observed_epoch=60, predicted_epoch=90.0),
    replace(LEFT, trial=2, learning_rate=0.3, observed_epoch=100, predicted_epoch=200.0),
    replace(LEFT, trial=3, observed_epoch=None, predicted_epoch=100.0),
    replace(LEFT, trial=4, observed_epoch=None, predicted_epoch=math.inf, ended="waiting"),
    replace(LEFT, arch="dt-rnn", depth=6, observed_epoch=None, predicted_epoch=math.inf, ended="waiting"),
]


def test_predictions_are_read_as_they_were_written(tmp_path):
    write(tmp_path / "table.csv", ROWS[::-1])
    assert read(tmp_path / "table.csv") == ROWS


def test_groups_count_hits_misses_and_false_alarms():
    rhn, deep = summary(ROWS)
    assert (rhn.trials, rhn.left, rhn.hits, rhn.missed, rhn.false_alarms) == (5, 3, 2, 1, 1)
    assert (
        rhn.median_ratio == 1.5
        and rhn.rank_correlation == pytest.approx(1)
        and rhn.by_learning_rate == pytest.approx(-1)
    )
    assert (deep.left, deep.false_alarms) == (0, 0) and math.isnan(deep.median_ratio)


def test_the_figure_shows_every_trial_and_can_be_read():
    with our_style():
        figure = draw_predictions(ROWS)
        readable(figure)
    assert "\n6 trials of the small study" in figure.get_suptitle() and made_with() in figure.get_suptitle()
    axes = figure.axes
    assert [ax.get_title() for ax in axes] == ["rhn", "dt-rnn"]
    assert sum(len(line.get_xdata()) for line in axes[0].get_lines() if line.get_linestyle() == "None") == 5
