"""Count the random settings with which each network trains, in each region of the settings, with
exact intervals and tests.

    share = #{trials with a loss below `below`} / #trials

On the chorales, the best network that ignores its input (the constant predictor) has 11.16 nats per
frame. Many trials end there or a little below. At 9.5, the default of `below`, a network has begun
to follow the music. `REGIONS` are all settings, and these parts of them:

    paper's range     Gaussian weights, standard deviation 1e-8 to 1e-2, learning rate 1e-4 to 1
                      (1e-5 to 0.1 if not SGD)
    outside it        Gaussian weights of another standard deviation, or another learning rate
    scaled, orthogonal, identity   initial weights of this scheme

Intervals are exact binomial intervals of 95 % (Clopper and Pearson): 0 of 60 trials give 0 to 6 %.
Fisher's exact test, two-sided, compares each architecture with the RHN of the same depth, protocol
and region. Holm's method corrects for all tests of a table. Tests of regions with the same trials
count as one test.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np

from optim_study.protocol import LEARNING_RATES, PAPERS_STD, SCHEMES
from optim_study.results import ALIKE, TrialRow, by_network, constant_of, distinct_trials
from rhn.training.state import Objective
from rhn.utils.results import EXPLAINED
from rhn.utils.tables import aligned, formatted
from rhn.utils.validation import number

BELOW = 9.5
COMPARED_WITH = "rhn"
ALL_TRIALS, PAPERS_RANGE, OUTSIDE = "all settings", "paper's range", "outside the paper's range"
REGIONS = (
    ALL_TRIALS,
    PAPERS_RANGE,
    OUTSIDE,
    *(scheme for scheme in SCHEMES if scheme != "gaussian"),
)
"""Names of the sets of trials whose shares are counted: all trials, and parts of them by
settings.
"""
SHARE_COLUMNS = (
    "network",
    "region",
    "hidden_size",
    "trials",
    "diverged",
    "best",
    "median",
    "below",
    "share",
    "low",
    "high",
    "p",
    "p_holm",
)
CONSTANT, PAGE = "constant predictor", "docs/guides/study.md"
_COMPARED = [
    name for name in ALIKE if name not in ("arch", "hidden_size", "transform_biases")
]  # columns that are equal in two networks that are compared


@dataclass(frozen=True, kw_only=True)
class Share:
    """The share of one network's trials that train, among all its trials or among the trials in one
    region of the settings. Losses are in nats per frame.

    >>> network = {"network": "rhn, depth 6", "arch": "rhn", "depth": 6, "optimizer": "sgd"}
    >>> losses = {"best": 9.2, "best_trial": 3, "median": 11.1, "below": 11}
    >>> counts = {"region": ALL_TRIALS, "hidden_size": 8, "trials": 60, "diverged": 2}
    >>> found = Share(**network, **losses, **counts, share=11 / 60, low=0.1, high=0.3)
    >>> round(found.share, 2)
    0.18
    """

    network: str
    """Name of the network in tables and figures."""
    arch: str
    depth: int
    optimizer: str
    region: str
    """One of `REGIONS`."""
    hidden_size: int
    trials: int
    diverged: int
    best: float
    best_trial: int
    median: float
    below: int
    """Number of trials with a loss below the threshold."""
    share: float
    low: float
    """Lower end of the exact 95 % interval of the share; `high` is the upper end."""
    high: float
    p: float | None = None
    """p-value of Fisher's exact test against the RHN of the same depth, protocol and region; None
    if the table has no such RHN.
    """
    p_holm: float | None = None
    """The p-value, corrected for all tests of the table."""


def training_shares(
    rows: Iterable[TrialRow],
    loss: Objective = "train",
    below: float = BELOW,
    regions: Sequence[str] = (ALL_TRIALS,),
) -> list[Share]:
    """Compute the share of trials that train, for each network and each region in `regions` that
    has trials. A trial trains if its loss is below `below`, in nats per frame.

    Raises InvalidInputError without trials, or if `below` is not a finite number.

    >>> settings = {"learning_rate": 0.1, "init_std": 0.01, "transform_bias": -2.0}
    >>> losses = {"best_train_nll": 9.0, "best_valid_nll": 9.3, "test_nll": 9.4}
    >>> network = {"arch": "rhn", "depth": 2, "hidden_size": 8}
    >>> row = TrialRow(trial=0, epochs=50, diverged=False, **network, **settings, **losses)
    >>> (found,) = training_shares([row])
    >>> found.below, found.trials, found.share
    (1, 1, 1.0)
    """
    below = number("below", below)
    parts = [
        (network, name, [row for row in trials if name in (ALL_TRIALS, region(row))])
        for network, trials in by_network(distinct_trials(rows)).items()
        for name in regions
    ]
    parts = [part for part in parts if part[2]]
    found = [_share(network, name, trials, loss, below) for network, name, trials in parts]
    return _compared(found, [trials for _, _, trials in parts])


def region(row: TrialRow) -> str:
    """Return the region of a trial's settings: one of `REGIONS`, except "all settings"."""
    if row.init_scheme != "gaussian":
        return row.init_scheme
    (slow, fast), (small, large) = LEARNING_RATES[row.optimizer], PAPERS_STD
    inside = slow <= row.learning_rate <= fast and small <= row.init_std <= large
    return PAPERS_RANGE if inside else OUTSIDE


def holm(p: Sequence[float]) -> list[float]:
    """Return p-values that are corrected for the number of tests (Holm 1979).

    >>> holm([0.04, 0.01, 0.5])
    [0.08, 0.03, 0.5]
    """
    order = sorted(range(len(p)), key=p.__getitem__)
    corrected = accumulate((min(1.0, (len(p) - rank) * p[k]) for rank, k in enumerate(order)), max)
    return [value for _, value in sorted(zip(order, corrected, strict=True))]


def share_table(
    found: Sequence[Share], rows: Sequence[TrialRow], loss: Objective, below: float
) -> str:
    """Format the shares as a table, with the loss of the constant predictor of these trials."""
    head = [name.replace("_", " ") for name in SHARE_COLUMNS]
    head[SHARE_COLUMNS.index("below")] += f" {below:g}"
    lines = [[_cell(getattr(share, name)) for name in SHARE_COLUMNS] for share in found]
    constant = dict.fromkeys(SHARE_COLUMNS) | {"best": constant_of(rows, loss)}
    last = [CONSTANT, *map(formatted, [*constant.values()][1:])]
    return "\n".join([*aligned([head, *lines, last], 2), f"{EXPLAINED}{PAGE}"])


def _cell(value: str | float | None) -> str:
    return value if isinstance(value, str) else formatted(value)


def _share(
    network: str, region: str, trials: list[TrialRow], loss: Objective, below: float
) -> Share:
    from scipy.stats import binomtest  # loads in a second

    losses = np.array([row.loss(loss) for row in trials])
    count, first = int((losses < below).sum()), trials[0]
    interval = binomtest(count, len(trials)).proportion_ci()
    return Share(
        network=network,
        arch=first.arch,
        depth=first.depth,
        optimizer=first.optimizer,
        region=region,
        hidden_size=first.hidden_size,
        trials=len(trials),
        diverged=sum(row.diverged for row in trials),
        best=float(losses.min()),
        best_trial=trials[int(losses.argmin())].trial,
        median=float(np.median(losses)),
        below=count,
        share=count / len(trials),
        low=float(interval.low),
        high=float(interval.high),
    )


def _compared(found: list[Share], parts: Sequence[list[TrialRow]]) -> list[Share]:
    """Add the tests against the RHN of the same depth, protocol and region to the shares. parts:
    the trials of each share.
    """
    from scipy.stats import fisher_exact

    places = [
        (share.region, *(getattr(trials[0], name) for name in _COMPARED))
        for share, trials in zip(found, parts, strict=True)
    ]
    rhns = {place: k for k, place in enumerate(places) if found[k].arch == COMPARED_WITH}
    pairs, tests = {}, {}
    for k, share in enumerate(found):
        rhn = rhns.get(places[k])
        if rhn is not None and share.arch != COMPARED_WITH:
            counts = [[s.below, s.trials - s.below] for s in (share, found[rhn])]
            pairs[k] = tuple(parts[k]), tuple(parts[rhn])
            tests[pairs[k]] = float(fisher_exact(counts).pvalue)
    corrected = dict(zip(tests, holm(list(tests.values())), strict=True))
    for k, pair in pairs.items():
        found[k] = replace(found[k], p=tests[pair], p_holm=corrected[pair])
    return found
