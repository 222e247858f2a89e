"""Count the random settings that train, for each network and each region of the search box, with exact statistics.

    share = #{trials with a loss below `below`} / #trials

`below` is 9.5 nats a frame by default. A network that ignores its input reaches 11.16 on the chorales (the constant output, see
`rhn.training.evaluation`), and many trials end there or a little below; at 9.5 a network has begun to follow the music.

`training_shares` counts each (architecture, depth), `learnable_area` also each region of its settings:

    paper's box       Gaussian weights, standard deviation 1e-8 to 1e-2, learning rate 1e-4 to 1 (1e-5 to 0.1 if not SGD)
    larger gaussian   Gaussian weights outside that box (above it, if the study goes up to a standard deviation of 1)
    scaled, orthogonal, identity   by scheme

Intervals are exact binomial ones (Clopper and Pearson) of 95 %: 0 of 60 means 0 to 6 %. Each architecture is compared with the RHN of
the same depth and optimizer (and region) by Fisher's exact test, two-sided, and the p-values are corrected by Holm's method for all
tests of a table.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from optim_study.protocol import LEARNING_RATES, SCHEMES, SharedSettings
from optim_study.results import Row, by_network
from rhn.errors import InvalidInputError
from rhn.training.state import Objective
from rhn.utils.binomial import exact_interval
from rhn.utils.wording import table

BELOW = 9.5
COMPARED_WITH = "rhn"
DEVIATIONS = SharedSettings().init_std
"""The initial standard deviations of the paper's box; its learning rates are `LEARNING_RATES` of the optimizer."""
WHOLE, PAPERS_BOX, LARGER = "all settings", "paper's box", "larger gaussian"
REGIONS = (WHOLE, PAPERS_BOX, LARGER, *(scheme for scheme in SCHEMES if scheme != "gaussian"))
HEADER = ("share", "95 % interval", "p", "p (Holm)")


@dataclass(frozen=True, kw_only=True)
class _Counted:
    arch: str
    depth: int
    optimizer: str = "sgd"
    trials: int
    best: float
    """The least loss, nats a frame."""
    interval: tuple[float, float]
    """Of the share, exact, 95 %."""
    p: float | None = None
    """Fisher's exact test against the RHN of this depth (and region); None without one in the table."""
    p_holm: float | None = None
    """The same, corrected for all tests of the table."""


@dataclass(frozen=True, kw_only=True)
class Share(_Counted):
    """The share of one network. Losses in nats a frame."""

    hidden_size: int
    diverged: int
    best_trial: int
    median: float
    below: int
    """Trials with a loss below the threshold."""

    @property
    def share(self) -> float:
        return self.below / self.trials


@dataclass(frozen=True, kw_only=True)
class Area(_Counted):
    """The share of one network in a region of its settings."""

    region: str
    """One of `REGIONS`."""
    learned: int
    """Trials with a loss below the threshold."""

    @property
    def share(self) -> float:
        return self.learned / self.trials


T = TypeVar("T", Share, Area)


def training_shares(rows: Iterable[Row], loss: Objective = "train", below: float = BELOW) -> list[Share]:
    """A share for each network, in the order of `by_network`. Raises InvalidInputError for a threshold not above 0."""
    check_threshold(below)
    found = [_share(trials, loss, below) for trials in by_network(rows).values()]
    return _compared(found, lambda s: (s.depth, s.optimizer), lambda s: s.below)


def learnable_area(rows: Iterable[Row], loss: Objective = "train", below: float = BELOW) -> list[Area]:
    """The regions of each network that have trials, in the order of `REGIONS`. Raises InvalidInputError for a threshold not above 0."""
    check_threshold(below)
    found = []
    for network, trials in by_network(rows).items():
        for name in REGIONS:
            losses = [row.loss(loss) for row in trials if name in (WHOLE, region(row))]
            if losses:
                learned = sum(value < below for value in losses)
                counts = {"trials": len(losses), "learned": learned, "interval": exact_interval(learned, len(losses))}
                found.append(Area(**network._asdict(), region=name, best=min(losses), **counts))
    return _compared(found, lambda a: (a.depth, a.optimizer, a.region), lambda a: a.learned)


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
    heads = ("study", "optimizer", "units", "trials", "diverged", "best", "median", f"below {below:g}", *HEADER)

    def line(s: Share) -> tuple:
        name, losses = f"{s.arch}-depth{s.depth}", (f"{s.best:.3f}", f"{s.median:.3f}")
        return name, s.optimizer, s.hidden_size, s.trials, s.diverged, *losses, s.below, *_counted(s)

    return table(heads, map(line, found))


def area_table(found: Sequence[Area], below: float = BELOW) -> str:
    """The regions of each network as text."""
    heads = ("settings of", "optimizer", "trials", "best", f"below {below:g}", *HEADER)
    lines = [
        (f"{a.arch}-depth{a.depth}, {a.region}", a.optimizer, a.trials, f"{a.best:.3f}", a.learned, *_counted(a))
        for a in found
    ]
    return table(heads, lines)


def _compared(found: list[T], key: Callable[[T], Hashable], count: Callable[[T], int]) -> list[T]:
    """Add the tests against the RHN with the same key."""
    reference = {key(f): f for f in found if f.arch == COMPARED_WITH}
    tested = [k for k, f in enumerate(found) if f.arch != COMPARED_WITH and key(f) in reference]
    p = [fisher(*((count(f), f.trials) for f in (found[k], reference[key(found[k])]))) for k in tested]
    for k, raw, corrected in zip(tested, p, holm(p), strict=True):
        found[k] = replace(found[k], p=raw, p_holm=corrected)
    return found


def _share(trials: list[Row], loss: Objective, below: float) -> Share:
    losses = np.array([row.loss(loss) for row in trials])
    count = int((losses < below).sum())
    return Share(
        **trials[0].network._asdict(),
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


def _counted(found: Share | Area) -> tuple[str, ...]:
    """The columns of `HEADER`."""
    p = ["" if value is None else f"{value:.1g}" for value in (found.p, found.p_holm)]
    return f"{100 * found.share:.0f} %", _interval(found), *p


def _interval(found: Share | Area) -> str:
    return "{:.0f} to {:.0f} %".format(*(100 * bound for bound in found.interval))
