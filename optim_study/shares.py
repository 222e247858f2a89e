"""Count the random settings that train, for each network and each region of the search box, with exact statistics.

    share = #{trials with a loss below `below`} / #trials

`below` is 9.5 nats a frame by default. A network that ignores its input reaches 11.16 on the chorales (the constant output, see
`rhn.training.evaluation`), and many trials end there or a little below; at 9.5 a network has begun to follow the music.

`training_shares` counts each (architecture, depth), with `REGIONS` also each region of its settings:

    paper's box       Gaussian weights, standard deviation 1e-8 to 1e-2, learning rate 1e-4 to 1 (1e-5 to 0.1 if not SGD)
    larger gaussian   Gaussian weights outside that box (above it, if the study goes up to a standard deviation of 1)
    scaled, orthogonal, identity   by scheme

Intervals are exact binomial ones (Clopper and Pearson) of 95 %: 0 of 60 means 0 to 6 %. Each architecture is compared with the RHN of
the same depth and optimizer (and region) by Fisher's exact test, two-sided, and the p-values are corrected by Holm's method for all
tests of a table.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from optim_study.protocol import LEARNING_RATES, SCHEMES, SharedSettings
from optim_study.results import Row, by_network, columns_table
from rhn.errors import InvalidInputError
from rhn.training.state import Objective
from rhn.utils.binomial import exact_interval

BELOW = 9.5
COMPARED_WITH = "rhn"
DEVIATIONS = SharedSettings().init_std
"""The initial standard deviations of the paper's box; its learning rates are `LEARNING_RATES` of the optimizer."""
WHOLE, PAPERS_BOX, LARGER = "all settings", "paper's box", "larger gaussian"
COLUMNS = {
    "study": ("study", ""),
    "optimizer": ("optimizer", ""),
    "units": ("hidden_size", ""),
    "trials": ("trials", ""),
    "diverged": ("diverged", ""),
    "best": ("best", ".3f"),
    "median": ("median", ".3f"),
}
REGIONS = (WHOLE, PAPERS_BOX, LARGER, *(scheme for scheme in SCHEMES if scheme != "gaussian"))


@dataclass(frozen=True, kw_only=True)
class Share:
    """The share of one network's trials that train, of all or in a region of its settings. Losses in nats a frame."""

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
    """Trials with a loss below the threshold."""
    interval: tuple[float, float]
    """Of the share, exact, 95 %."""
    p: float | None = None
    """Fisher's exact test against the RHN of this depth (and region); None without one in the table."""
    p_holm: float | None = None
    """The same, corrected for all tests of the table."""

    @property
    def share(self) -> float:
        return self.below / self.trials


def training_shares(
    rows: Iterable[Row], loss: Objective = "train", below: float = BELOW, regions: Sequence[str] = (WHOLE,)
) -> list[Share]:
    """A share for each network and each of these regions with trials. Raises InvalidInputError for a threshold not above 0."""
    check_threshold(below)
    parts = [
        (name, [row for row in trials if name in (WHOLE, region(row))])
        for trials in by_network(rows).values()
        for name in regions
    ]
    return _compared([_share(trials, name, loss, below) for name, trials in parts if trials])


def region(row: Row) -> str:
    """The region of a trial's setting, one of `REGIONS` but the first."""
    if row.init_scheme != "gaussian":
        return row.init_scheme
    (slow, fast), (small, large) = LEARNING_RATES[row.optimizer], DEVIATIONS
    inside = slow <= row.learning_rate <= fast and small <= row.init_std <= large
    return PAPERS_BOX if inside else LARGER


def check_threshold(below: float) -> None:
    """Raise InvalidInputError for a threshold that is no positive number."""
    if not 0 < below < float("inf"):
        raise InvalidInputError(f"the threshold is {below}, expected a loss above 0, in nats a frame")


def fisher(one: tuple[int, int], other: tuple[int, int]) -> float:
    """p of Fisher's exact test, two-sided, for two shares, each (count, trials)."""
    from scipy.stats import fisher_exact

    return float(fisher_exact([[count, trials - count] for count, trials in (one, other)]).pvalue)


def holm(p: Sequence[float]) -> list[float]:
    """Correct p-values for the number of tests (Holm 1979).

    >>> holm([0.04, 0.01, 0.5])
    [0.08, 0.03, 0.5]
    """
    corrected, largest = [0.0] * len(p), 0.0
    for rank, k in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        largest = max(largest, min(1.0, (len(p) - rank) * p[k]))
        corrected[k] = largest
    return corrected


def summary(found: Sequence[Share], below: float = BELOW) -> str:
    """A sentence for each architecture and optimizer, and the method.

    >>> summary([])
    ''
    """
    if not found:
        return ""
    lines = [f"Trials below {below:g} nats a frame, in brackets exact 95 % intervals of their share:"]
    several = len({s.optimizer for s in found}) > 1
    for arch, optimizer in dict.fromkeys((s.arch, s.optimizer) for s in found):
        shares = [_words(s) for s in found if (s.arch, s.optimizer) == (arch, optimizer)]
        lines.append(f"{arch}{f', {optimizer}' if several else ''}: {', '.join(shares)}")
    if tests := sum(s.p is not None for s in found):
        lines.append(
            f"p: Fisher's exact test against {COMPARED_WITH}; the table corrects it by Holm for all tests, here {tests}"
        )
    return "\n".join(lines)


def share_table(found: Iterable[Share], below: float = BELOW) -> str:
    """The shares as text."""
    count, percent = {f"below {below:g}": ("below", "")}, {"share": ("percent", ""), "95 % interval": ("interval", "")}
    return columns_table(
        map(_line, found), COLUMNS | count | percent | {"p": ("p", ".1g"), "p (Holm)": ("p_holm", ".1g")}
    )


def _line(s: Share) -> dict:
    study = f"{s.arch}-depth{s.depth}" + ("" if s.region == WHOLE else f", {s.region}")
    return vars(s) | {"study": study, "percent": f"{100 * s.share:.0f} %", "interval": _interval(s)}


def _compared(found: list[Share]) -> list[Share]:
    """Add the tests against the RHN of the same depth, optimizer and region."""
    reference = {(s.depth, s.optimizer, s.region): (s.below, s.trials) for s in found if s.arch == COMPARED_WITH}
    others = {
        k: reference.get((s.depth, s.optimizer, s.region)) for k, s in enumerate(found) if s.arch != COMPARED_WITH
    }
    tested = {k: fisher((found[k].below, found[k].trials), other) for k, other in others.items() if other}
    for (k, raw), corrected in zip(tested.items(), holm(list(tested.values())), strict=True):
        found[k] = replace(found[k], p=raw, p_holm=corrected)
    return found


def _share(trials: list[Row], region: str, loss: Objective, below: float) -> Share:
    losses = np.array([row.loss(loss) for row in trials])
    count = int((losses < below).sum())
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
        interval=exact_interval(count, len(trials)),
    )


def _words(share: Share) -> str:
    compared = "" if share.p is None else f"; p = {share.p:.1g}"
    return f"{share.below} of {share.trials} at depth {share.depth} ({_interval(share)}{compared})"


def _interval(share: Share) -> str:
    return "{:.0f} to {:.0f} %".format(*(100 * bound for bound in share.interval))
