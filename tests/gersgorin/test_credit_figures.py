"""Figures of credit show the record; the command trains, measures and says what truncation
loses.
"""

from dataclasses import replace

import numpy as np
import pytest
from gersgorin.analyses.credit import Credit, draw_credit

from examples.paper import credit as gallery
from rhn.plotting.figure import DECADES
from tests.rhn.pieces import shortest_chorales


@pytest.fixture
def record():
    norms = np.tril(10.0 ** -np.abs(np.subtract.outer(range(4), range(4))) * 50)
    lags = np.array([0.9, 0.3, 0.2, 0.1])
    numbers = {
        "lag_norm": lags,
        "lag_share": lags / lags.sum(),
        "lost": np.array([0.5, 0.2, 0.1, 0.0]),
    }
    return Credit(loss=9.5, norms=norms, gradient_norm=2.0, **numbers)


def test_half_of_the_gradient_is_reached_for_good_by_shares_that_may_be_negative(record):
    assert replace(record, lag_share=np.array([0.125, 0.376, -0.059, 0.558])).half == 3
    assert "parts of different lags cancel" in next(
        replace(record, lost=np.full(4, 2.2)).sentences()
    )


def test_the_heat_map_shows_the_norms_on_eight_decades_with_nothing_above_the_diagonal(record):
    ax = record.plot()
    (image,) = ax.images
    np.testing.assert_array_equal(image.get_array(), record.norms)
    assert np.ma.getmaskarray(image.norm(image.get_array()))[np.triu_indices(4, 1)].all()
    assert (
        image.get_clim() == pytest.approx((10.0 ** (2 - DECADES), 100)) and image.origin == "lower"
    )
    empty = replace(record, norms=np.zeros((4, 4))).plot()
    assert empty.images[0].get_clim() == pytest.approx((10.0**-DECADES, 1))


def test_moments_share_one_scale_and_show_their_own_lags(record):
    figure = draw_credit({"first": record, "later": replace(record, norms=record.norms * 1e3)})
    maps, lags = (
        [ax for ax in figure.axes if ax.images],
        [ax for ax in figure.axes if len(ax.lines) > 1],
    )
    assert [ax.images[0].get_clim() for ax in maps] == [
        pytest.approx((10.0 ** (5 - DECADES), 1e5))
    ] * 2
    assert maps[0].get_title("left") == "first\nloss 9.5 nats a frame" and len(lags) == 2
    for ax in lags:
        assert [*map(list, (line.get_ydata() for line in ax.lines))] == [
            list(record.lag_norm),
            list(record.lost),
        ]


def test_the_gallery_measures_the_network_of_each_epoch(monkeypatch):
    monkeypatch.setattr(gallery, "FRAMES", 5)
    first, last = gallery.measure(shortest_chorales(33), {1: "first", 3: "last"}).items()
    assert (first[0], last[0]) == ("first, epoch 1", "last, epoch 3")
    assert first[1].loss > last[1].loss
    assert first[1].norms.shape == (4, 4)
