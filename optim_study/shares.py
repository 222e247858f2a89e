"""Count the random settings with which each network trains, in each region of the settings, with
exact intervals and tests.

    share = #{trials with a loss below `below`} / #trials

Intervals are exact binomial intervals of 95 % (Clopper and Pearson): 0 of 60 trials give 0 to 6 %.
Fisher's exact test, two-sided, compares all trials of an architecture with those of the RHN of the
same depth and protocol. Holm's method corrects for all tests of a table, whose number is in its
header.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import accumulate
from pathlib import Path

import numpy as np

from optim_study.config import LEARNING_RATES, PAPERS_STD, SCHEMES
from optim_study.results import (
    ALIKE,
    TrialRow,
    by_network,
    constant_of,
    distinct_trials,
    values_of,
)
from rhn.training.state import Objective
from rhn.utils.io import write_rows
from rhn.utils.tables import EXPLAINED, Block, below_shortened, formatted
from rhn.utils.validation import number, unexpected

BELOW = 9.5  # nats per frame; the constant predictor has 11.16 on the chorales
COMPARED_WITH = "rhn"
ALL_TRIALS, PAPERS_RANGE, OUTSIDE = "all settings", "paper's range", "outside the paper's range"
REGIONS = (ALL_TRIALS, PAPERS_RANGE, OUTSIDE, *SCHEMES[1:])
"""Sets of trials: all, Gaussian weights in or outside the paper's range, and other schemes."""
HEADER = "Holm over {} tests against {}"
CONSTANT, PAGE = "constant predictor", "docs/guides/study.md"
GAP = 2  # between columns
_COMPARED = sorted(set(ALIKE) - {"arch", "hidden_size", "transform_biases"})  # equal columns


@dataclass(frozen=True, kw_only=True)
class Share:
    """The share of a network's trials that train, in a region of the settings; a row of the printed
    table. Losses are in nats per frame.

    >>> losses = {"best": 9.2, "median": 11.1, "below": 11, "share": 11 / 60, "low": 0.1}
    >>> counts = {"hidden_size": 8, "trials": 60, "diverged": 2, "high": 0.3}
    >>> Share(network="rhn, depth 6", region="all settings", **losses, **counts).p is None
    True
    """

    network: str
    region: str
    hidden_size: int
    trials: int
    seeds: str | None = None
    """Seeds of their studies; None in a table of trials without seeds."""
    diverged: int
    best: float
    median: float
    below: int
    share: float
    low: float
    high: float
    p: float | None = None
    """None for a region, and unless the table has one RHN of the same depth and protocol."""
    p_holm: float | None = None


SHARE_COLUMNS = tuple(field.name for field in fields(Share))


def training_shares(
    rows: Iterable[TrialRow],
    loss: Objective = "train",
    below: float = BELOW,
    regions: Sequence[str] = (ALL_TRIALS,),
) -> list[Share]:
    """Compute the share of trials that train, for each network and each region in `regions` that
    has trials. Beside "all settings", a region with all trials of a network is left out. A trial
    trains if its loss is below `below`, in nats per frame. Only the region "all settings" is tested
    against the RHN. Raises InvalidInputError without trials, for another loss or region, or if
    `below` is not a finite number.

    >>> from optim_study import read_csv
    >>> training_shares(read_csv("docs/results/small-study.csv"))[0].below  # doctest: +SKIP
    7
    """
    below = number("below", below)
    for name in regions:
        if name not in REGIONS:
            raise unexpected("region", name, ", ".join(REGIONS))
    networks = by_network(distinct_trials(rows))
    found = list[Share]()
    for network, trials in networks.items():
        for name, own in _by_region(trials, regions).items():
            found.append(_share(network, name, own, loss, below))
    firsts = {network: trials[0] for network, trials in networks.items()}
    return _with_tests(found, firsts)


def _by_region(trials: Sequence[TrialRow], regions: Sequence[str]) -> dict[str, list[TrialRow]]:
    """Group the trials of a network by region; no region has those of all settings again."""
    groups = {}
    for name in regions:
        own = [row for row in trials if name in (ALL_TRIALS, region(row))]
        has_all = name != ALL_TRIALS and len(own) == len(trials)
        is_repeated = has_all and ALL_TRIALS in regions
        if own and not is_repeated:
            groups[name] = own
    return groups


def _share(
    network: str, name: str, trials: Sequence[TrialRow], loss: Objective, below: float
) -> Share:
    """Count those of these trials, of one region, that train."""
    from scipy.stats import binomtest  # loads in a second

    losses = np.array([row.loss(loss) for row in trials])
    count = int((losses < below).sum())
    interval = binomtest(count, len(trials)).proportion_ci()
    seeds = sorted({row.seed for row in trials if row.seed is not None})
    return Share(
        network=network,
        region=name,
        hidden_size=trials[0].hidden_size,
        trials=len(trials),
        seeds=" ".join(map(str, seeds)) or None,
        diverged=sum(row.diverged for row in trials),
        best=float(losses.min()),
        median=float(np.median(losses)),
        below=count,
        share=count / len(trials),
        low=float(interval.low),
        high=float(interval.high),
    )


def region(row: TrialRow) -> str:
    """Return the region of a trial's settings: one of `REGIONS`, except "all settings"."""
    if row.init_scheme != "gaussian":
        return row.init_scheme
    (slow, fast), (small, large) = LEARNING_RATES["sgd"], PAPERS_STD
    inside = slow <= row.learning_rate <= fast and small <= row.init_std <= large
    return PAPERS_RANGE if inside else OUTSIDE


def holm(p: Sequence[float]) -> list[float]:
    """Return p-values that are corrected for the number of tests (Holm 1979).

    >>> holm([0.04, 0.01, 0.5])
    [0.08, 0.03, 0.5]
    """
    ascending = sorted(range(len(p)), key=p.__getitem__)
    alone = [min(1.0, (len(p) - rank) * p[k]) for rank, k in enumerate(ascending)]
    corrected = dict(zip(ascending, accumulate(alone, max), strict=True))
    return [corrected[k] for k in range(len(p))]


def share_block(
    found: Sequence[Share], rows: Sequence[TrialRow], loss: Objective, below: float
) -> Block:
    """Return the shares as a printed table, with the number of its tests, and the loss of the
    constant predictor of the training data of these trials.
    """
    tests = sum(share.p is not None for share in found)
    heads = {name: name.replace("_", " ") for name in SHARE_COLUMNS}
    heads |= {"below": f"below {below:g}", "low": "share from", "high": "share to"}
    last = dict.fromkeys(SHARE_COLUMNS) | {"best": constant_of(rows, loss), "network": CONSTANT}
    *lines, constant = [
        [v if isinstance(v, str) else formatted(v) for v in cells.values()]
        for cells in (*map(vars, found), last)
    ]
    title = HEADER.format(tests, COMPARED_WITH)
    return Block(lines, heads=[[*heads.values()]], feet=[constant], is_list=True, title=title)


def whole_table(block: Block) -> str:
    """Return the table of `share_block` as text."""
    return "\n".join([*block.lines(GAP), EXPLAINED + PAGE])


def short_table(block: Block) -> str:
    """Return the first rows of the table of `share_block` as text."""
    short = block.shortened()
    return "\n".join([*short.lines(GAP), below_shortened([block], [short], PAGE)])


def write_shares(found: Iterable[Share], path: Path) -> None:
    """Write the shares to a .csv file, one a line. Raises OutputError."""
    write_rows(path, SHARE_COLUMNS, [vars(share).values() for share in found])


def _with_tests(found: Sequence[Share], firsts: Mapping[str, TrialRow]) -> list[Share]:
    """Add the tests against RHNs to the shares of all trials. firsts: a trial of each network."""
    tests = _tests({s.network: s for s in found if s.region == ALL_TRIALS}, firsts)
    corrected = dict(zip(tests, holm([*tests.values()]), strict=True))
    shares = []
    for share in found:
        is_tested = share.region == ALL_TRIALS and share.network in tests
        if is_tested:
            p, p_holm = tests[share.network], corrected[share.network]
            share = replace(share, p=p, p_holm=p_holm)
        shares.append(share)
    return shares


def _tests(of_all: Mapping[str, Share], firsts: Mapping[str, TrialRow]) -> dict[str, float]:
    """Return the p-values of the networks that have one RHN of the same depth and protocol."""
    from scipy.stats import fisher_exact

    protocols = {network: values_of(firsts[network], _COMPARED) for network in of_all}
    rhns: dict[tuple, list[Share]] = {protocol: [] for protocol in protocols.values()}
    for network, share in of_all.items():
        if firsts[network].arch == COMPARED_WITH:
            rhns[protocols[network]].append(share)
    tests = {}
    for network, share in of_all.items():
        others = rhns[protocols[network]]
        if len(others) == 1 and firsts[network].arch != COMPARED_WITH:
            counts = [[s.below, s.trials - s.below] for s in (share, *others)]
            tests[network] = float(fisher_exact(counts).pvalue)
    return tests
