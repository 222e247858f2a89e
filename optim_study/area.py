"""The learnable area: which settings train, in the paper's box and beyond it, and whether that depends on the architecture.

Every setting lies in one region of the box that was searched:

    paper's box       Gaussian weights, learning rate 1e-4 to 1, standard deviation 1e-8 to 1e-2
    larger gaussian   Gaussian weights outside that box (above it, where the study goes up to a standard deviation of 1)
    scaled, orthogonal, identity   by scheme

Shares are counted as in `optim_study.shares`, with the same exact intervals. In each region each architecture is compared with the RHN
of the same depth by Fisher's exact test, two-sided; the p-values are corrected by Holm's method for all tests of the table.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from optim_study.protocol import SCHEMES, SharedSettings
from optim_study.results import Row, by_network, table
from optim_study.shares import BELOW, COMPARED_WITH, check_threshold, fisher, holm
from rhn.training.curves import Objective
from rhn.utils.statistics import exact_interval

PAPER = SharedSettings()
"""The ranges of the paper's box."""
WHOLE, PAPERS_BOX, LARGER = "all settings", "paper's box", "larger gaussian"
REGIONS = (WHOLE, PAPERS_BOX, LARGER, *(scheme for scheme in SCHEMES if scheme != "gaussian"))


@dataclass(frozen=True, kw_only=True)
class Area:
    """How many settings of a region train."""

    arch: str
    depth: int
    region: str
    """One of `REGIONS`."""
    trials: int
    learned: int
    """Trials with a loss below the threshold."""
    interval: tuple[float, float]
    """Of their share, exact, 95 %."""
    best: float
    """The least loss, nats a frame."""
    p: float | None = None
    """Fisher's exact test against the RHN of this depth in this region; None where the table has none."""
    p_holm: float | None = None
    """The same, corrected for all tests of the table."""

    @property
    def share(self) -> float:
        return self.learned / self.trials


def region(row: Row) -> str:
    """The region of a trial's setting, one of `REGIONS` but the first."""
    if row.init_scheme != "gaussian":
        return row.init_scheme
    (slow, fast), (small, large) = PAPER.learning_rate, PAPER.init_std
    inside = slow <= row.learning_rate <= fast and small <= row.init_std <= large
    return PAPERS_BOX if inside else LARGER


def learnable_area(rows: Iterable[Row], loss: Objective = "train", below: float = BELOW) -> list[Area]:
    """For each network the regions that it has trials in, in the order of `REGIONS`.

    Raises InvalidInputError where the threshold is no positive number.
    """
    check_threshold(below)
    found = []
    for (arch, depth), trials in by_network(rows).items():
        for name in REGIONS:
            losses = [row.loss(loss) for row in trials if name in (WHOLE, region(row))]
            if losses:
                learned = sum(value < below for value in losses)
                counted = {"trials": len(losses), "learned": learned, "interval": exact_interval(learned, len(losses))}
                found.append(Area(arch=arch, depth=depth, region=name, best=min(losses), **counted))
    return _compared(found)


def area_table(found: Sequence[Area], below: float = BELOW) -> str:
    """The regions of each network, as text."""

    def line(a: Area) -> tuple:
        interval = "{:.0f} to {:.0f} %".format(*(100 * bound for bound in a.interval))
        p = ["" if value is None else f"{value:.1g}" for value in (a.p, a.p_holm)]
        name = f"{a.arch}-depth{a.depth}, {a.region}"
        return name, a.trials, f"{a.best:.3f}", a.learned, f"{100 * a.share:.0f} %", interval, *p

    counted = (f"below {below:g}", "share", "95 % interval", "p", "p (Holm)")
    return table(("settings of", "trials", "best", *counted), map(line, found))


def _compared(found: list[Area]) -> list[Area]:
    """With the tests against the RHN, those of whole boxes too."""
    reference = {(a.depth, a.region): a for a in found if a.arch == COMPARED_WITH}
    pairs = {
        k: reference[a.depth, a.region]
        for k, a in enumerate(found)
        if a.arch != COMPARED_WITH and (a.depth, a.region) in reference
    }
    p = [fisher(*((a.learned, a.trials) for a in (found[k], rhn))) for k, rhn in pairs.items()]
    for k, raw, corrected in zip(pairs, p, holm(p), strict=True):
        found[k] = replace(found[k], p=raw, p_holm=corrected)
    return found
