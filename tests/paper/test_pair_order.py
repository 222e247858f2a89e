"""The share of ordered pairs against plain loops over pairs and SciPy's Mann-Whitney statistic."""

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from paper.pair_order import pair_order, resampled, same_network, two_networks

SIZES = {"a": 9, "b": 6, "c": 5}
NETWORKS = [name for name, size in SIZES.items() for _ in range(size)]
RNG = np.random.default_rng(3)
TRAINS = np.array([k % 3 == 0 for k in range(len(NETWORKS))])
VALUES = {
    "distinct": RNG.normal(size=len(NETWORKS)) + TRAINS,
    "tied": RNG.integers(0, 3, size=len(NETWORKS)).astype(float),
}
KINDS = [
    pytest.param(same_network, True, id="within"),
    pytest.param(two_networks, False, id="between"),
]


def score(first: float, second: float) -> float:
    if first == second:
        return 0.5
    return 1.0 if first > second else 0.0


def by_loop(values, trains, networks, is_within) -> tuple[float, int]:
    """The share in order and the number of pairs."""
    scores = [
        score(values[i], values[j])
        for i in range(len(values))
        for j in range(len(values))
        if trains[i] and not trains[j] and (networks[i] == networks[j]) == is_within
    ]
    return (float(np.mean(scores)) if scores else np.nan), len(scores)


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize(("chosen", "is_within"), KINDS)
def test_the_share_is_that_of_a_loop_over_pairs(values, chosen, is_within):
    found = pair_order(values, TRAINS, NETWORKS, chosen)
    auc, pairs = by_loop(values, TRAINS, NETWORKS, is_within)
    assert found.auc == pytest.approx(auc) and found.pairs == pairs


def test_in_one_network_it_is_the_statistic_of_mann_and_whitney():
    values = VALUES["tied"]
    found = pair_order(values, TRAINS, ["one"] * len(values))
    statistic = mannwhitneyu(values[TRAINS], values[~TRAINS]).statistic
    assert found.auc == pytest.approx(statistic / found.pairs)


@pytest.mark.parametrize(("chosen", "is_within"), KINDS)
def test_the_interval_is_that_of_trials_drawn_again(chosen, is_within):
    values, shares = VALUES["distinct"], []
    for times in resampled(NETWORKS):
        again = np.repeat(np.arange(len(values)), times.astype(int))
        networks = [NETWORKS[k] for k in again]
        shares.append(by_loop(values[again], TRAINS[again], networks, is_within)[0])
    found = pair_order(values, TRAINS, NETWORKS, chosen)
    assert (found.low, found.high) == pytest.approx(np.nanpercentile(shares, [2.5, 97.5]))
    assert found.low < found.auc < found.high


def test_each_network_keeps_its_number_of_trials():
    times, of = resampled(NETWORKS, count=50), np.array(NETWORKS)
    for name, size in SIZES.items():
        assert (times[:, of == name].sum(1) == size).all()
    assert times.std() > 0


def test_trials_without_a_value_are_left_out():
    values = VALUES["distinct"].copy()
    values[:9] = np.nan  # network a
    found = pair_order(values, TRAINS, NETWORKS, two_networks)
    kept = slice(9, None)
    auc, pairs = by_loop(values[kept], TRAINS[kept], NETWORKS[kept], False)
    assert found.auc == pytest.approx(auc) and found.pairs == pairs


def test_without_pairs_there_is_no_share():
    found = pair_order(VALUES["tied"], np.zeros(len(NETWORKS), dtype=bool), NETWORKS)
    assert np.isnan(found[:3]).all() and found.pairs == 0


def test_an_interval_needs_pairs_in_half_of_the_resamples():
    """A network of two trials has both in half of the draws."""
    values, trains = np.array([2.0, 1.0]), np.array([True, False])
    both = (resampled(["a", "a"]) > 0).all(1).mean()
    found = pair_order(values, trains, ["a", "a"])
    assert both < 0.5 and found.auc == 1 and np.isnan([found.low, found.high]).all()
