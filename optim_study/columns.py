"""What a swarm plot shows, as numbers: its columns in their order, its lines across, and where its axis ends. No matplotlib.

Most of a study's trials stay near the loss of the best constant output or far above it, and what sets architectures apart lies below.
So the axis ends a little above that loss, and what is above is counted instead of drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from optim_study.results import Row, by_network
from optim_study.shares import BELOW, check_threshold
from rhn.errors import InvalidInputError
from rhn.training.curves import Objective

By = Literal["arch", "depth"]
LEARNED = 0.9
"""A loss of this part of the best constant output's, 10 % less, is not its: a network has begun to learn
(`gersgorin.checking.calibration`)."""
HEADROOM = 1.25  # times the constant output's loss: the end of the axis


@dataclass(frozen=True, kw_only=True)
class Column:
    """The trials of one network."""

    arch: str
    depth: int
    trials: int
    shown: tuple[Row, ...]
    """Those that are drawn: their loss is not above the axis."""
    hidden: tuple[Row, ...]
    """The others."""
    median: float
    best: float

    @property
    def above(self) -> int:
        """How many are not drawn."""
        return len(self.hidden)

    @property
    def above_diverged(self) -> int:
        """How many of these diverged."""
        return sum(row.diverged for row in self.hidden)


@dataclass(frozen=True, kw_only=True)
class Swarm:
    """All of a swarm plot; losses in nats a frame."""

    loss: Objective
    by: By
    groups: tuple[tuple[Column, ...], ...]
    """The columns of each architecture, or of each depth."""
    constant: float | None
    """Loss of the best constant output; None: not known."""
    below: float
    """A trial counts as trained below."""
    ceiling: float | None
    """Losses above are counted, not drawn; None: all are drawn."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """Of all groups."""
        return tuple(column for group in self.groups for column in group)

    @property
    def values(self) -> np.ndarray:
        """All losses that are drawn."""
        return np.array([row.loss(self.loss) for column in self.columns for row in column.shown])

    @property
    def without_constant(self) -> str:
        """Why there is no line at the loss of the best constant output; empty where there is one."""
        if self.constant is not None:
            return ""
        why = "trials tell its training loss alone" if self.loss == "valid" else "these trials do not tell it"
        return f"no line at the best constant output: {why}"

    @property
    def levels(self) -> dict[str, tuple[float, str]]:
        """Lines across: their names, each with its loss and what a legend says of it."""
        found = {"below": (self.below, f"counts as trained (below {self.below:g})")}
        if self.constant is not None:
            learned = LEARNED * self.constant
            found = {
                "constant": (self.constant, f"best constant output ({self.constant:.2f})"),
                "learned": (learned, f"10 % below it ({learned:.2f})"),
            } | found
        return found


def swarm(
    rows: Sequence[Row],
    *,
    by: By = "arch",
    loss: Objective = "train",
    constant: float | None = None,
    below: float = BELOW,
    up_to: float | None = None,
) -> Swarm:
    """The columns of these trials.

    constant: loss of the best constant output; None: the training loss that the rows tell, if they tell one.
    up_to: where the axis ends; None: a little above the constant output, or, where that is not known, above the median.

    Raises InvalidInputError where there is no trial, or where the axis would end below all of them.
    """
    if not rows:
        raise InvalidInputError("there is no complete trial to draw")
    check_threshold(below)
    if constant is not None and not 0 < constant < np.inf:
        raise InvalidInputError(f"the loss of the best constant output is {constant}, expected a number above 0")
    if up_to is not None and not up_to > 0:
        raise InvalidInputError(f"the axis ends at {up_to}, expected a loss above 0, or inf to draw all")
    told = {row.constant_nll for row in rows}
    known = told.pop() if len(told) == 1 else None
    ceiling = _ceiling(np.array([row.loss(loss) for row in rows]), constant or known, up_to)
    columns = [_column(*network, trials, loss, ceiling) for network, trials in by_network(rows).items()]
    if by == "depth":
        columns.sort(key=lambda column: column.depth)  # stable: architectures keep their order
    keys = list(dict.fromkeys(getattr(column, by) for column in columns))
    groups = tuple(tuple(column for column in columns if getattr(column, by) == key) for key in keys)
    constant = known if constant is None and loss == "train" else constant
    return Swarm(loss=loss, by=by, groups=groups, constant=constant, below=below, ceiling=ceiling)


def _ceiling(values: np.ndarray, constant: float | None, up_to: float | None) -> float | None:
    """Where the axis ends; None where nothing lies above."""
    end = up_to or float(f"{HEADROOM * (constant or float(np.median(values))):.2g}")
    if values.min() > end:
        if up_to is not None:
            raise InvalidInputError(f"every loss is above {up_to:g}: the least is {values.min():.4g}")
        return None
    return end if values.max() > end else None


def _column(arch: str, depth: int, trials: list[Row], loss: Objective, ceiling: float | None) -> Column:
    losses = np.array([row.loss(loss) for row in trials])
    above = losses > (np.inf if ceiling is None else ceiling)
    return Column(
        arch=arch,
        depth=depth,
        trials=len(trials),
        shown=tuple(row for row, hidden in zip(trials, above, strict=True) if not hidden),
        hidden=tuple(row for row, hidden in zip(trials, above, strict=True) if hidden),
        median=float(np.median(losses)),
        best=float(losses.min()),
    )
