"""The paper's claim as numbers: how many random settings train, by architecture and depth, with exact statistics.

    share = #{trials with a loss below `below`} / #trials

`below` is 9.5 nats a frame unless another is asked for. A network that ignores its input reaches 11.16 on the chorales (the constant
output, see `rhn.training.evaluation`), and many trials end there or a little below; at 9.5 a network has begun to follow the music.

Intervals are exact binomial ones (Clopper and Pearson) of 95 %: 0 of 60 means 0 to 6 %. Each architecture is compared with the RHN of
the same depth by Fisher's exact test, two-sided, and the p-values are corrected by Holm's method for all the tests of a table.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from optim_study.results import Row, by_network, table
from rhn.errors import InvalidInputError
from rhn.training.curves import Objective
from rhn.utils.statistics import exact_interval

BELOW = 9.5
COMPARED_WITH = "rhn"


@dataclass(frozen=True, kw_only=True)
class Share:
    """What the trials of one architecture and depth came to. Losses in nats a frame."""

    arch: str
    depth: int
    hidden_size: int
    trials: int
    diverged: int
    best: float
    best_trial: int
    median: float
    below: int
    """Trials with a loss below the threshold."""
    interval: tuple[float, float]
    """Of their share, exact, 95 %."""
    p: float | None = None
    """Fisher's exact test against the RHN of this depth; None where the table has none."""
    p_holm: float | None = None
    """The same, corrected for all tests of the table."""

    @property
    def share(self) -> float:
        return self.below / self.trials


def training_shares(rows: Iterable[Row], loss: Objective = "train", below: float = BELOW) -> list[Share]:
    """A share for each architecture and depth in the table, in the order of `by_network`.

    Raises InvalidInputError where the threshold is no positive number.
    """
    check_threshold(below)
    found = [_share(trials, loss, below) for trials in by_network(rows).values()]
    reference = {share.depth: share for share in found if share.arch == COMPARED_WITH}
    compared = [k for k, s in enumerate(found) if s.depth in reference and s.arch != COMPARED_WITH]
    pairs = [(found[k], reference[found[k].depth]) for k in compared]
    raw = [fisher(*((s.below, s.trials) for s in pair)) for pair in pairs]
    for k, p, corrected in zip(compared, raw, holm(raw), strict=True):
        found[k] = replace(found[k], p=p, p_holm=corrected)
    return found


def check_threshold(below: float) -> None:
    """Raise InvalidInputError where it is no positive number."""
    if not 0 < below < float("inf"):
        raise InvalidInputError(f"the threshold is {below}, expected a loss above 0, in nats a frame")


def fisher(one: tuple[int, int], other: tuple[int, int]) -> float:
    """p of Fisher's exact test, two-sided, for two shares, each (count, trials)."""
    from scipy.stats import fisher_exact

    return float(fisher_exact([[count, trials - count] for count, trials in (one, other)]).pvalue)


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected for having made all these tests (Holm 1979).

    >>> holm([0.04, 0.01, 0.5])
    [0.08, 0.03, 0.5]
    """
    corrected, largest = [0.0] * len(p), 0.0
    for rank, k in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        largest = max(largest, min(1.0, (len(p) - rank) * p[k]))
        corrected[k] = largest
    return corrected


def summary(found: Sequence[Share], below: float = BELOW) -> str:
    """A sentence an architecture, and how the numbers were found.

    >>> summary([])
    ''
    """
    if not found:
        return ""
    lines = [f"Trials below {below:g} nats a frame, in brackets exact 95 % intervals of their share:"]
    for arch in dict.fromkeys(s.arch for s in found):
        lines.append(f"{arch}: {', '.join(_words(s) for s in found if s.arch == arch)}")
    if tests := sum(s.p is not None for s in found):
        lines.append(
            f"p: Fisher's exact test against {COMPARED_WITH}; the table corrects it by Holm for all tests, here {tests}"
        )
    return "\n".join(lines)


def share_table(found: Iterable[Share], below: float = BELOW) -> str:
    """What the studies came to, as text."""

    def line(s: Share) -> tuple:
        name, losses = f"{s.arch}-depth{s.depth}", (f"{s.best:.3f}", f"{s.median:.3f}")
        p = ["" if value is None else f"{value:.1g}" for value in (s.p, s.p_holm)]
        return name, s.hidden_size, s.trials, s.diverged, *losses, s.below, f"{100 * s.share:.0f} %", _interval(s), *p

    counted = (f"below {below:g}", "share", "95 % interval", "p", "p (Holm)")
    return table(("study", "units", "trials", "diverged", "best", "median", *counted), map(line, found))


def _share(trials: list[Row], loss: Objective, below: float) -> Share:
    losses = np.array([row.loss(loss) for row in trials])
    count = int((losses < below).sum())
    return Share(
        arch=trials[0].arch,
        depth=trials[0].depth,
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
