"""Count the random settings with which each network trains, in each region of the settings, with
exact intervals and tests.

    share = #{trials with a loss below `below`} / #trials

Intervals are exact binomial intervals of 95 % (Clopper and Pearson): 0 of 60 trials give 0 to 6 %.
Fisher's exact test, two-sided, compares each architecture with the RHN of the same depth, protocol
and region. Holm's method corrects for all tests of a table. Tests of regions with the same trials
count as one test.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from optim_study.config import LEARNING_RATES, PAPERS_STD, SCHEMES
from optim_study.results import ALIKE, TrialRow, by_network, constant_of, distinct_trials
from rhn.training.state import Objective
from rhn.utils.tables import EXPLAINED, aligned, formatted
from rhn.utils.validation import number, unexpected

BELOW = 9.5  # nats per frame; the constant predictor has 11.16 on the chorales
COMPARED_WITH = "rhn"
ALL_TRIALS, PAPERS_RANGE, OUTSIDE = "all settings", "paper's range", "outside the paper's range"
REGIONS = (ALL_TRIALS, PAPERS_RANGE, OUTSIDE, *SCHEMES[1:])
"""Sets of trials: all, Gaussian weights in or outside the paper's range, and other schemes."""
CONSTANT, PAGE = "constant predictor", "docs/guides/study.md"
_COMPARED = set(ALIKE) - {"arch", "hidden_size", "transform_biases"}  # equal columns


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
    diverged: int
    best: float
    median: float
    below: int
    share: float
    low: float
    high: float
    p: float | None = None
    """None if the table has no RHN of the same depth, protocol and region."""
    p_holm: float | None = None


SHARE_COLUMNS = tuple(field.name for field in fields(Share))


def training_shares(
    rows: Iterable[TrialRow],
    loss: Objective = "train",
    below: float = BELOW,
    regions: Sequence[str] = (ALL_TRIALS,),
) -> list[Share]:
    """Compute the share of trials that train, for each network and each region in `regions` that
    has trials. A trial trains if its loss is below `below`, in nats per frame. Raises
    InvalidInputError without trials, for another loss or region, or if `below` is not a finite
    number.

    >>> from optim_study import read_csv
    >>> training_shares(read_csv("docs/results/small-study.csv"))[0].below  # doctest: +SKIP
    7
    """
    from scipy.stats import binomtest  # loads in a second

    below, found, parts = number("below", below), list[Share](), list[list[TrialRow]]()
    for name in regions:
        if name not in REGIONS:
            raise unexpected("region", name, ", ".join(REGIONS))
    for network, trials in by_network(distinct_trials(rows)).items():
        for name in regions:
            if own := [row for row in trials if name in (ALL_TRIALS, region(row))]:
                losses = np.array([row.loss(loss) for row in own])
                count = int((losses < below).sum())
                interval = binomtest(count, len(own)).proportion_ci()
                share = Share(
                    network=network,
                    region=name,
                    hidden_size=own[0].hidden_size,
                    trials=len(own),
                    diverged=sum(row.diverged for row in own),
                    best=float(losses.min()),
                    median=float(np.median(losses)),
                    below=count,
                    share=count / len(own),
                    low=float(interval.low),
                    high=float(interval.high),
                )
                found.append(share)
                parts.append(own)
    return _compared(found, parts)


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
    corrected, largest = [0.0] * len(p), 0.0
    ascending = sorted(range(len(p)), key=p.__getitem__)
    for rank, k in enumerate(ascending):
        largest = max(largest, min(1.0, (len(p) - rank) * p[k]))
        corrected[k] = largest
    return corrected


def share_table(
    found: Sequence[Share], rows: Sequence[TrialRow], loss: Objective, below: float
) -> str:
    """Format the shares as a table, with the loss of the constant predictor of these trials."""
    head = [name.replace("_", " ") for name in SHARE_COLUMNS]
    head[SHARE_COLUMNS.index("below")] += f" {below:g}"
    numbers = [[getattr(share, name) for name in SHARE_COLUMNS[2:]] for share in found]
    lines = [[s.network, s.region, *map(formatted, n)] for s, n in zip(found, numbers, strict=True)]
    constant = [formatted(constant_of(rows, loss) if n == "best" else None) for n in SHARE_COLUMNS]
    return "\n".join([*aligned([head, *lines, [CONSTANT, *constant[1:]]], 2), EXPLAINED + PAGE])


def _compared(found: list[Share], parts: Sequence[list[TrialRow]]) -> list[Share]:
    """Add the tests against RHNs to the shares of these trials."""
    from scipy.stats import fisher_exact

    firsts = [trials[0] for trials in parts]
    places = [
        (share.region, *(getattr(row, name) for name in _COMPARED))
        for share, row in zip(found, firsts, strict=True)
    ]
    rhns = {places[k]: k for k, row in enumerate(firsts) if row.arch == COMPARED_WITH}
    pairs, tests = {}, {}
    for k, share in enumerate(found):
        rhn = rhns.get(places[k])
        if rhn is not None and firsts[k].arch != COMPARED_WITH:
            counts = [[s.below, s.trials - s.below] for s in (share, found[rhn])]
            pairs[k] = tuple(parts[k]), tuple(parts[rhn])
            tests[pairs[k]] = float(fisher_exact(counts).pvalue)
    corrected = dict(zip(tests, holm(list(tests.values())), strict=True))
    for k, pair in pairs.items():
        found[k] = replace(found[k], p=tests[pair], p_holm=corrected[pair])
    return found
