"""Count the random settings with which each network trains, in each region of the settings, with
exact intervals and tests.

    share = #{trials with a loss below `below`} / #trials

On the chorales, the best network that ignores its input (the constant predictor) has 11.16 nats per
frame. Many trials end there or a little below. At 9.5, the default of `below`, a network has begun
to follow the music. `REGIONS` are all settings, and these parts of them:

    paper's box       Gaussian weights, standard deviation 1e-8 to 1e-2, learning rate 1e-4 to 1
                      (1e-5 to 0.1 if not SGD)
    outside it        Gaussian weights of another standard deviation, or another learning rate
    scaled, orthogonal, identity   initial weights of this scheme

Intervals are exact binomial intervals of 95 % (Clopper and Pearson): 0 of 60 trials give 0 to 6 %.
Fisher's exact test, two-sided, compares each architecture with the RHN of the same depth, optimizer
and region. Holm's method corrects for all tests of a table. Tests of regions with the same trials
count as one test.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np

from optim_study.protocol import LEARNING_RATES, SCHEMES, SharedSettings
from optim_study.results import TrialRow, by_network, columns_table, distinct_trials
from rhn.cells.registry import TOOLKIT_CELLS
from rhn.training.state import Objective
from rhn.utils.old import capitalised, counted
from rhn.utils.validation import number

BELOW = 9.5
SIGNIFICANT = 0.05  # p below which one architecture trains more often than another
COMPARED_WITH = "rhn"
STD_RANGE = SharedSettings().init_std
"""The range of initial standard deviations in the paper's box. The range of learning rates in this
box is that of `LEARNING_RATES` for the optimizer.
"""
ALL_TRIALS, PAPERS_BOX, OUTSIDE = "all settings", "paper's box", "outside the paper's box"
SHARE_COLUMNS = (
    "study",
    "optimizer",
    "hidden_size",
    "trials",
    "diverged",
    "best",
    "median",
    "below",
    "share",
    "interval",
    "p",
    "p_holm",
)
REGIONS = (ALL_TRIALS, PAPERS_BOX, OUTSIDE, *(scheme for scheme in SCHEMES if scheme != "gaussian"))
"""Names of the sets of trials whose shares are counted: all trials, and parts of them by
settings.
"""


@dataclass(frozen=True, kw_only=True)
class Share:
    """The share of one network's trials that train, among all its trials or among the trials in one
    region of the settings. Losses are in nats per frame.

    >>> network = {"arch": "rhn", "depth": 6, "optimizer": "sgd", "hidden_size": 8}
    >>> losses = {"best": 9.2, "best_trial": 3, "median": 11.1, "below": 11}
    >>> counts = {"region": ALL_TRIALS, "trials": 60, "diverged": 2}
    >>> found = Share(**network, **losses, **counts, interval=(0.1, 0.3))
    >>> round(found.share, 2)
    0.18
    """

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
    interval: tuple[float, float]
    """Exact 95 % interval of the share."""
    p: float | None = None
    """p-value of Fisher's exact test against the RHN of the same depth, optimizer and region; None
    if the table has no such RHN.
    """
    p_holm: float | None = None
    """The p-value, corrected for all tests of the table."""

    @property
    def share(self) -> float:
        return self.below / self.trials


def training_shares(
    rows: Iterable[TrialRow],
    loss: Objective = "train",
    below: float = BELOW,
    regions: Sequence[str] = (ALL_TRIALS,),
) -> list[Share]:
    """Compute the share of trials that train, for each network and each region in `regions` that
    has trials. A trial trains if its loss is below `below`, in nats per frame.

    Raises InvalidInputError if a row is not a trial, or `below` is not a finite number.

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
        (name, [row for row in trials if name in (ALL_TRIALS, region(row))])
        for trials in by_network(distinct_trials(rows)).values()
        for name in regions
    ]
    parts = [(name, trials) for name, trials in parts if trials]
    return _compared(
        [_share(trials, name, loss, below) for name, trials in parts],
        [trials for _, trials in parts],
    )


def region(row: TrialRow) -> str:
    """Return the region of a trial's settings: one of `REGIONS`, except "all settings"."""
    if row.init_scheme != "gaussian":
        return row.init_scheme
    return PAPERS_BOX if in_range(row) else OUTSIDE


def holm(p: Sequence[float]) -> list[float]:
    """Return p-values that are corrected for the number of tests (Holm 1979).

    >>> holm([0.04, 0.01, 0.5])
    [0.08, 0.03, 0.5]
    """
    order = sorted(range(len(p)), key=p.__getitem__)
    corrected = accumulate((min(1.0, (len(p) - rank) * p[k]) for rank, k in enumerate(order)), max)
    return [value for _, value in sorted(zip(order, corrected, strict=True))]


def study_title(
    rows: Sequence[TrialRow], loss: Objective, below: float, regions: Sequence[str] = (ALL_TRIALS,)
) -> str:
    """Make the title of a figure from the tests of its table, which has these regions. The title
    says at which depths the RHN trains more often, or less often, than other architectures. If no
    test is clear, the title says how many trials trained, and the smallest corrected p-value if
    there is one.
    """
    found = training_shares(rows, loss, below, regions)
    found = [share for share in found if share.region == ALL_TRIALS]
    trained, p = sum(s.below for s in found), [s.p_holm for s in found if s.p_holm is not None]
    every = f"{trained:,} of {counted(len(rows), 'random setting')} train"
    if not (trained and p):
        return every
    if min(p) >= SIGNIFICANT:
        least = f"{min(p):.4g}"
        equal = "=" if len(p) == 1 or least == "1" else "≥"  # none is above 1
        none = "no architecture is shown to train more often than the RHN, or less often"
        return f"{every}; {none} (corrected p {equal} {least})"
    words = "; ".join(_verdicts(found))
    return capitalised(words)


def _verdicts(found: Sequence[Share]) -> list[str]:
    """Return clauses about the clear tests: for each direction, the clause that is true at the most
    depths.
    """
    places: dict[tuple[bool, str], list[str]] = {}
    one = len({share.optimizer for share in found}) == 1
    for rhn in (share for share in found if share.arch == COMPARED_WITH):
        for key in _verdicts_at(rhn, found):
            place = f"{rhn.depth}" if one else f"{rhn.depth} ({rhn.optimizer})"
            places.setdefault(key, []).append(place)
    longest = {
        side: max((key for key in places if key[0] is side), key=lambda key: len(places[key]))
        for side, _ in places
    }
    return [f"at {_depths(places[key])} {key[1]}" for key in longest.values()]


def _verdicts_at(rhn: Share, found: Sequence[Share]) -> Iterator[tuple[bool, str]]:
    """Yield (True if others train more often than this RHN, a clause about its clear tests)."""
    tests = [s for s in found if s.p_holm is not None and _place(s) == _place(rhn)]
    clear = [s for s in tests if s.p_holm is not None and s.p_holm < SIGNIFICANT]
    if more := [s for s in clear if s.share > rhn.share]:
        verb = "trains" if len(more) == 1 else "train"
        yield True, f"{_listed(more)} {verb} more often than {_named(COMPARED_WITH)}"
    if less := [s for s in clear if s.share < rhn.share]:
        yield False, _behind(less, all_others=len(less) == len(tests))


def _behind(less: Sequence[Share], *, all_others: bool) -> str:
    """Say that the RHN trains more often than these architectures at its depth; all_others: the
    depth has no other architectures.
    """
    if all_others and not any(share.below for share in less):
        return f"only {_named(COMPARED_WITH)} trains"
    if all_others and len(less) > 1:
        return f"{_named(COMPARED_WITH)} trains most often"
    return f"{_named(COMPARED_WITH)} trains more often than {_listed(less)}"


def _listed(found: Sequence[Share]) -> str:
    return " and ".join(_named(share.arch) for share in found)


def _depths(places: Sequence[str]) -> str:
    """Return depths as words for a sentence.

    >>> _depths(["2"]), _depths(["2", "4", "6"])
    ('depth 2', 'depths 2, 4 and 6')
    """
    *others, last = places
    return f"depths {', '.join(others)} and {last}" if others else f"depth {last}"


def _place(share: Share) -> tuple[int, str, str]:
    """Return what must be equal for two shares to be compared: depth, optimizer and region."""
    return share.depth, share.optimizer, share.region


def area_title(rows: Sequence[TrialRow], loss: Objective, below: float) -> str:
    """Make the title of a map of settings. The title names the architectures that train only with
    settings outside the range of the paper, and counts these settings. If there is no such
    architecture, the title is that of `study_title`.
    """
    inside = _trained([row for row in rows if in_range(row)], loss, below)
    every = _trained(rows, loss, below)
    only = [arch for arch in every if every[arch][0] and arch in inside and not inside[arch][0]]
    if not only:
        return study_title(rows, loss, below, REGIONS)
    count, n = (sum(every[arch][k] for arch in only) for k in (0, 1))
    verb = "trains" if len(only) == 1 else "train"
    words = f"{' and '.join(map(_named, only))} {verb} only outside the range searched in the paper"
    return f"{capitalised(words)} ({count} of {n:,} settings)"


def in_range(row: TrialRow) -> bool:
    """Return True if learning rate and standard deviation of a trial are in the paper's ranges."""
    (slow, fast), (small, large) = LEARNING_RATES[row.optimizer], STD_RANGE
    return slow <= row.learning_rate <= fast and small <= row.init_std <= large


def _trained(rows: Iterable[TrialRow], loss: Objective, below: float) -> dict[str, tuple[int, int]]:
    """{architecture: (trials that trained, trials)}."""
    found: dict[str, tuple[int, int]] = {}
    for row in rows:
        count, n = found.get(row.arch, (0, 0))
        found[row.arch] = count + (row.loss(loss) < below), n + 1
    return found


def _named(arch: str) -> str:
    """Return the name of an architecture for a sentence."""
    return f"the {arch.upper()}" if arch in TOOLKIT_CELLS else arch


def share_table(
    found: Sequence[Share],
    below: float = BELOW,
    *,
    loss: Objective = "train",
    constant: float | None = None,
) -> str:
    """Format the shares as a table, each with its interval. loss: which loss was compared with
    `below`. constant: loss of the constant predictor.
    """
    words = {"train": "training", "valid": "validation"}[loss]
    said = (
        f"below: trials whose lowest {words} loss is below {below:g} nats per frame, which count "
        "as trained. Each share has an exact 95 % interval."
    )
    if constant is not None and below > constant:
        said += (
            f" The constant predictor, which ignores its input, has {constant:.2f}: it counts as "
            "trained too."
        )
    return f"{said}\n\n{columns_table(share_rows(found), SHARE_COLUMNS)}"


def share_rows(found: Sequence[Share]) -> list[dict]:
    """Return the shares as rows of a table, each with its interval."""
    return [{name: _line(s)[name] for name in SHARE_COLUMNS} for s in found]


def _line(s: Share) -> dict:
    study = f"{s.arch}-depth{s.depth}" + ("" if s.region == ALL_TRIALS else f", {s.region}")
    interval = "{:.0f} to {:.0f} %".format(*(100 * bound for bound in s.interval))
    return vars(s) | {"study": study, "share": f"{100 * s.share:.3g} %", "interval": interval}


def _compared(found: list[Share], parts: Sequence[list[TrialRow]]) -> list[Share]:
    """Add the tests against the RHN of the same depth, optimizer and region to the shares. parts:
    the trials of each share.
    """
    from scipy.stats import fisher_exact

    places = {_place(s): k for k, s in enumerate(found) if s.arch == COMPARED_WITH}
    pairs, tests = {}, {}
    for k, share in enumerate(found):
        place = places.get(_place(share))
        if place is not None and share.arch != COMPARED_WITH:
            counts = [[s.below, s.trials - s.below] for s in (share, found[place])]
            pairs[k] = tuple(parts[k]), tuple(parts[place])
            tests[pairs[k]] = float(fisher_exact(counts).pvalue)
    corrected = dict(zip(tests, holm(list(tests.values())), strict=True))
    for k, pair in pairs.items():
        found[k] = replace(found[k], p=tests[pair], p_holm=corrected[pair])
    return found


def _share(trials: list[TrialRow], region: str, loss: Objective, below: float) -> Share:
    from scipy.stats import binomtest  # loads in a second

    losses = np.array([row.loss(loss) for row in trials])
    count = int((losses < below).sum())
    interval = binomtest(count, len(trials)).proportion_ci()
    return Share(
        **trials[0].network._asdict(),
        region=region,
        hidden_size=trials[0].hidden_size,
        trials=len(trials),
        diverged=sum(row.diverged for row in trials),
        best=float(losses.min()),
        best_trial=trials[int(losses.argmin())].trial,
        median=float(np.median(losses)),
        below=count,
        interval=(float(interval.low), float(interval.high)),
    )
