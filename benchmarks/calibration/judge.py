"""How well a score tells which networks learn: areas under ROC curves with bootstrap intervals, probabilities of parts left out.

A score is higher where learning is more likely. Scores of `SCORES` are computed from what is known before training:

    delay              minus log10(predicted epochs on the plateau / epochs of the training): what the check uses
    learning rate      the obvious baseline
    rhn or shallow     the learning rate where a cell has gates or depth 2 at most, else the lowest of all: what the paper's map shows
    rate               learning rate times the fastest relative rate on the plateau, one product instead of an integral
    input gain         of the last layer
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.calibration.trials import Network
from gersgorin.checking.calibration import Bin, delay_of, isotonic_bins
from rhn.utils.binomial import exact_interval

SHALLOW = 2
GATED = ("rhn", "lstm", "gru")
DRAWS = 2000
LEAST_NETWORKS = 30
"""Of a bin."""
SCORES: dict[str, Callable[[Network], float]] = {
    "delay": lambda n: -delay_of(n.escape_epochs, n.epochs),
    "learning rate": lambda n: math.log10(n.learning_rate),
    "rhn or shallow": lambda n: math.log10(n.learning_rate) if n.arch in GATED or n.depth <= SHALLOW else -99.0,
    "rate": lambda n: math.log10(max(n.learning_rate * n.fastest_rate, 1e-300)),
    "input gain": lambda n: math.log10(max(n.input_gain, 1e-300)),
}


@dataclass(frozen=True, kw_only=True)
class Area:
    """The area under a score's ROC curve, among these networks; NaN where all of them, or none, learned."""

    networks: int
    learned: int
    area: float
    low: float
    high: float

    def __str__(self) -> str:
        return "-" if math.isnan(self.area) else f"{self.area:.2f} ({self.low:.2f} to {self.high:.2f})"


def area_under(scores: Sequence[float], learned: Sequence[bool]) -> float:
    """The share of pairs (learned, did not) that the score puts in the right order; ties count half. NaN without such pairs."""
    from scipy.stats import rankdata

    y = np.asarray(learned, bool)
    ones, zeros = int(y.sum()), int((~y).sum())
    if not ones or not zeros:
        return math.nan
    return float((rankdata(scores)[y].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def area(networks: Sequence[Network], score: str, outcome: Callable[[Network], bool] = lambda n: n.learned) -> Area:
    """With a percentile bootstrap of 95 % over networks."""
    scores = np.array([SCORES[score](n) for n in networks])
    learned = np.array([outcome(n) for n in networks], bool)
    low, high = _interval(_resampled(len(networks), lambda k: area_under(scores[k], learned[k])))
    return Area(
        networks=len(networks), learned=int(learned.sum()), area=area_under(scores, learned), low=low, high=high
    )


def difference(networks: Sequence[Network], first: str, second: str) -> tuple[float, float, float]:
    """Area of the first score less that of the second, with its interval, over the same resampled networks."""
    learned = np.array([n.learned for n in networks], bool)
    a, b = (np.array([SCORES[name](n) for n in networks]) for name in (first, second))

    def both(k) -> float:
        return area_under(a[k], learned[k]) - area_under(b[k], learned[k])

    return both(slice(None)), *_interval(_resampled(len(networks), both))


def within(networks: Sequence[Network], score: str) -> float:
    """The share of right pairs among those of one architecture and depth only: what a score knows beyond the architecture."""
    right = pairs = 0.0
    for group in groups(networks, lambda n: (n.arch, n.depth)).values():
        y = [n.learned for n in group]
        count = sum(y) * (len(y) - sum(y))
        if count:
            right, pairs = right + count * area_under([SCORES[score](n) for n in group], y), pairs + count
    return right / pairs if pairs else math.nan


def fit(networks: Sequence[Network], score: str = "delay") -> tuple[Bin, ...]:
    """Bins of minus the score."""
    return isotonic_bins([-SCORES[score](n) for n in networks], [n.learned for n in networks], LEAST_NETWORKS)


def probabilities(bins: Sequence[Bin], networks: Sequence[Network], score: str = "delay") -> np.ndarray:
    """What the bins say of networks."""
    found = [max((b for b in bins if b.least <= -SCORES[score](n)), key=lambda b: b.least) for n in networks]
    return np.array([b.probability for b in found])


def left_out(networks: Sequence[Network], part: Callable[[Network], object], score: str) -> dict[object, np.ndarray]:
    """For each part, the probabilities of its networks by bins made from all the others."""
    return {
        name: probabilities(fit([n for n in networks if part(n) != name], score), group, score)
        for name, group in groups(networks, part).items()
    }


def brier(probability: np.ndarray, networks: Sequence[Network]) -> float:
    """Mean square of (probability - what happened): 0 is perfect, 0.25 a coin."""
    return float(np.mean((probability - np.array([n.learned for n in networks])) ** 2))


def trusted(learned: int, networks: int, expected: float) -> bool:
    """Whether the expected number of networks that learn is not refuted by how many did: within the exact 95 % interval."""
    low, high = exact_interval(learned, networks)
    return low <= expected / networks <= high


def groups(networks: Sequence[Network], part: Callable[[Network], object]) -> dict:
    """Networks by what `part` gives, in order of appearance."""
    found: dict = {}
    for n in networks:
        found.setdefault(part(n), []).append(n)
    return found


def _resampled(count: int, statistic: Callable[[np.ndarray], float]) -> list[float]:
    rng = np.random.default_rng(0)
    return [statistic(rng.integers(0, count, count)) for _ in range(DRAWS)]


def _interval(values: Sequence[float]) -> tuple[float, float]:
    finite = [v for v in values if not math.isnan(v)]
    return tuple(float(v) for v in np.percentile(finite, [2.5, 97.5])) if finite else (math.nan, math.nan)
