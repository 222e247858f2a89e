"""How often networks like this one learned: the counts that a check's probability is read off.

`calibration.json` is made by `python -m benchmarks.calibration` from the trials of the small study, whose initial networks are rebuilt
and measured as a check measures them. Trials are put in order by one number,

    delay = log10(predicted epochs on the plateau / epochs of the training)

and cut into bins whose shares of trials that learned fall with the delay (isotonic regression; Ayer et al. 1955): no model of two
parameters says more, and every bin keeps its counts. Learned: the best training loss is a tenth below the best constant output's.

A bin's interval is the exact binomial one of 95 % (Clopper and Pearson), its probability (learned + 1/2) / (networks + 1), which is
never 0 or 1 (Jeffreys' prior).
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rhn.errors import DataError
from rhn.statistics import exact_interval

FILE = Path(__file__).with_name("calibration.json")
NEVER = 300.0
"""The delay of a network that stays for ever, so that it is a number."""


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Study networks of one range of delays."""

    least: float
    """Delays from here on; -infinity in the first bin."""
    networks: int
    learned: int

    @property
    def probability(self) -> float:
        return (self.learned + 0.5) / (self.networks + 1)

    @property
    def interval(self) -> tuple[float, float]:
        return exact_interval(self.learned, self.networks)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The bins, what networks they are of, and how well they told of networks that they were not made from."""

    bins: tuple[Bin, ...]
    kinds: tuple[str, ...]
    """Of the networks in the bins: "dt-rnn gaussian"."""
    limits: Mapping[str, tuple[float, float]]
    """Of each quantity, the least and greatest of the networks that were fitted or judged."""
    judged: Mapping[str, Mapping]
    """By kind of network, "dt-rnn scaled": networks, learned, expected (the sum of their probabilities), trusted."""
    made_by: Mapping

    def look_up(self, delay: float) -> Bin:
        """The bin of a delay; raises DataError for none at all."""
        if math.isnan(delay):
            raise DataError("the delay is NaN: expected a number")
        return max((b for b in self.bins if b.least <= min(delay, NEVER)), key=lambda b: b.least)


def delay_of(escape_epochs: float, epochs: float) -> float:
    """log10(escape_epochs / epochs), within +-`NEVER`.

    >>> delay_of(1000, 10), delay_of(math.inf, 10), delay_of(0, 10)
    (2.0, 300.0, -300.0)
    """
    ratio = escape_epochs / epochs
    return min(max(math.log10(ratio) if ratio > 0 else -NEVER, -NEVER), NEVER)


def isotonic_bins(delays: Sequence[float], learned: Sequence[bool], least_networks: int) -> tuple[Bin, ...]:
    """Bins of at least so many networks (as far as there are), whose shares never rise with the delay: pool adjacent violators.

    >>> [(b.networks, b.learned) for b in isotonic_bins([-1, -2, 0, 1, 2], [True, True, False, True, False], 1)]
    [(2, 2), (2, 1), (1, 0)]
    """
    blocks: list[list[float]] = []  # [least delay, networks, learned]
    for delay, success in sorted(zip(delays, map(bool, learned), strict=True)):
        if blocks and blocks[-1][0] == delay:  # equal delays cannot be told apart
            blocks[-1] = [delay, blocks[-1][1] + 1, blocks[-1][2] + success]
        else:
            blocks.append([delay, 1, int(success)])
    pooled: list[list[float]] = []
    for block in blocks:
        pooled.append(block)
        while len(pooled) > 1 and _share(pooled[-1]) >= _share(pooled[-2]):
            _join(pooled, len(pooled) - 2)
    while len(pooled) > 1 and min(b[1] for b in pooled) < least_networks:
        small = min(range(len(pooled)), key=lambda k: pooled[k][1])
        neighbours = [k for k in (small - 1, small + 1) if 0 <= k < len(pooled)]
        _join(pooled, min(small, min(neighbours, key=lambda k: abs(_share(pooled[k]) - _share(pooled[small])))))
    return tuple(
        Bin(least=-math.inf if k == 0 else block[0], networks=int(block[1]), learned=int(block[2]))
        for k, block in enumerate(pooled)
    )


@cache
def load_calibration(path: Path = FILE) -> Calibration:
    """The calibration in a file; raises DataError where it is none."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        bins = tuple(Bin(**b | {"least": -math.inf if b["least"] is None else b["least"]}) for b in stored["bins"])
        limits = {name: (float(low), float(high)) for name, (low, high) in stored["limits"].items()}
        judged, kinds = stored["judged"], tuple(stored["kinds"])
        return Calibration(bins=bins, kinds=kinds, limits=limits, judged=judged, made_by=stored["made_by"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no calibration ({error}): make one with python -m benchmarks.calibration") from None


def _share(block: Sequence[float]) -> float:
    return block[2] / block[1]


def _join(blocks: list[list[float]], first: int) -> None:
    """Make one block of two neighbours."""
    (least, networks, learned), (_, more, more_learned) = blocks[first : first + 2]
    blocks[first : first + 2] = [[least, networks + more, learned + more_learned]]
