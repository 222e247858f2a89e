"""The swarm plot shows every trial at its loss, and nothing else; the map every trial at its
setting.
"""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_trial_results import AREA, PLATEAU, row

from optim_study.figures import plot_map, plot_swarm, swarm
from optim_study.results import by_network


def trials(arch: str, depth: int, count: int) -> list:
    """Half of the losses are tied on the plateau, others far away; those have diverged."""
    rng = np.random.default_rng(depth)
    losses = np.where(rng.random(count) < 0.5, PLATEAU, rng.uniform(0.2, 40, count))
    return [row(arch, depth, n, x, diverged=x > 30) for n, x in enumerate(losses.tolist())]


ROWS = [r for arch, d in product(("rhn", "dt-rnn", "dts-rnn"), (1, 4)) for r in trials(arch, d, 60)]


def test_every_trial_is_a_point_at_its_loss_with_its_median_and_counts():
    axes, groups = plot_swarm(ROWS, size=3.0).axes, by_network(ROWS)
    assert len(axes) == 3, "a row of columns for each architecture"
    columns = [points for ax in axes for points in ax.collections]
    medians = [line for ax in axes for line in ax.lines if line.get_gid() == "median"]
    names = [label.get_text() for ax in axes for label in ax.get_xticklabels()]
    assert {line.get_label() for line in axes[0].lines} >= {
        "threshold (9.5)",
        "constant predictor (11.16)",
    }
    for points, line, name, own in zip(columns, medians, names, groups.values(), strict=True):
        losses, k = [r.best_train_nll for r in own], line.get_xdata().mean()
        offsets = np.asarray(points.get_offsets())
        np.testing.assert_allclose(offsets[:, 1], losses, rtol=1e-9)
        assert (np.abs(offsets[:, 0] - k) <= 0.5).all(), "a column's points stay in it"
        assert line.get_ydata()[0] == np.median(losses)
        below = sum(loss < 9.5 for loss in losses)
        assert f"{below} of 60 best {min(losses):.4g}" in name.replace("\n", " ")
        hollow = [(color == 1).all() for color in points.get_facecolor()]
        assert hollow == [r.diverged for r in own]


@given(st.lists(st.sampled_from([0.0, 1.0, 1.5]) | st.floats(0, 9), max_size=40), st.booleans())
def test_a_swarm_stays_near_the_middle_and_within_its_room(heights, narrow):
    heights, room = np.array(heights), 3.0 if narrow else 50.0
    places = swarm(heights, 1.0, room)
    assert (np.abs(places) <= room).all()
    # a point is in the middle, or as far from it as another point pushes it
    gaps = np.hypot(places[:, None] - places, heights[:, None] - heights)
    np.fill_diagonal(gaps, 9.0)
    nearest = gaps.min(1, initial=9.0)
    assert ((np.abs(places) < 1e-12) | (nearest < 1.0 + 1e-6)).all()
    assert narrow or (nearest > 1 - 1e-6).all(), "no point covers another"


def test_the_map_shows_every_setting_its_scheme_and_whether_it_trained():
    for ax, own in zip(plot_map(AREA).axes, by_network(AREA).values(), strict=True):
        found = [
            (points.get_gid(), len(points.get_facecolors()) > 0, *place)
            for points in ax.collections
            for place in np.asarray(points.get_offsets()).tolist()
        ]
        wanted = [(r.init_scheme, r.best_train_nll < 9.5, r.learning_rate, r.init_std) for r in own]
        assert sorted(found) == sorted(wanted)
        (box,) = ax.patches
        assert box.get_bbox().extents.tolist() == pytest.approx([1e-4, 1e-8, 1, 1e-2])
        (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
        assert all(left < r.learning_rate < right and bottom < r.init_std < top for r in own)
