"""AUC of a measure: the share of pairs (a trial that trains, a trial that does not) in which the
trial that trains has the larger value. A tie counts as half a pair. 0.5: the measure says nothing.

Pairs are of one network, or of two networks. Intervals of 95 % are percentiles of a bootstrap,
which draws trials again within each network.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES = 2000
LOW, HIGH = 2.5, 97.5  # percentiles


class Order(NamedTuple):
    """A share of pairs in order, its interval, and the number of pairs; NaN without pairs."""

    auc: float
    low: float
    high: float
    pairs: int


Chosen = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Which pairs count, from the networks (P, 1) and (1, Q) of trials that train and that do not."""


def same_network(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Choose pairs of one network."""
    return first == second


def two_networks(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Choose pairs of two networks."""
    return first != second


def resampled(networks: Sequence[str], count: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Draw how often each trial stands in each of `count` resamples, (count, trials). Each network
    keeps its number of trials.
    """
    generator, of = np.random.default_rng(seed), np.asarray(networks)
    times = np.zeros((count, len(of)))
    for network in dict.fromkeys(networks):
        own = np.flatnonzero(of == network)
        times[:, own] = generator.multinomial(len(own), np.full(len(own), 1 / len(own)), count)
    return times


def pair_order(
    values: np.ndarray, trains: np.ndarray, networks: Sequence[str], chosen: Chosen = same_network
) -> Order:
    """Return the AUC of values (trials,) with its interval. Trials whose value is NaN are left out.
    An interval is NaN if half of the resamples have no pair.
    """
    known = ~np.isnan(values)
    first, second = np.flatnonzero(known & trains), np.flatnonzero(known & ~trains)
    of = np.asarray(networks)
    counts = chosen(of[first, None], of[None, second])
    difference = values[first, None] - values[None, second]
    in_order = counts * np.heaviside(difference, 0.5)
    pairs = int(counts.sum())
    if not pairs:
        return Order(np.nan, np.nan, np.nan, 0)
    times = resampled(networks)
    of_first, of_second = times[:, first], times[:, second]
    all_pairs = ((of_first @ counts) * of_second).sum(1)
    right = ((of_first @ in_order) * of_second).sum(1)
    has_pairs = all_pairs > 0
    if has_pairs.mean() < 0.5:
        return Order(in_order.sum() / pairs, np.nan, np.nan, pairs)
    low, high = np.percentile(right[has_pairs] / all_pairs[has_pairs], [LOW, HIGH])
    return Order(in_order.sum() / pairs, float(low), float(high), pairs)
