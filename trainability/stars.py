"""Which rows close the gap: a row that does has a star in `check`, and a pair in `cure`.

    half = Half(errors, base="none", constant=constant, groups=groups, is_raw=False)
    closing(half, labels, rivals)        # those that close the gap of none on this half

The gap lies between the row without a change, the base, and the lowest error of its rivals. A base
that has learned nothing counts as the constant predictor; of a raw loss, as the untrained network.

Legend: E held-out examples of a half.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.special import stdtr, stdtrit
from torch import Tensor

CLOSES = 0.8  # of the gap
LEARNED = 0.1  # error of a run that has learned well; of a raw loss: gap / gap of the untrained
HALVES = 0.5  # of the error of a run that is below the constant predictor
ERRORS = 2.0  # standard errors of a difference, of ten or more observations
RATE_OF_TEN = float(stdtr(9, ERRORS))  # of Student's t: at most 3.8 % are above by chance


@dataclass(frozen=True)
class Half:
    """The errors of rows on one half of the held-out examples."""

    errors: Mapping[str, Tensor]
    """By label, (E,), on average over seeds."""
    base: str
    """The label of the row without a change."""
    constant: Tensor
    """Errors of the constant predictor, (E,); for a raw loss, of the untrained network."""
    groups: Tensor
    """The group of equal examples to which each error belongs, (E,)."""
    is_raw: bool

    def start(self) -> Tensor:
        """Return the errors of the base, or those of the constant predictor if they are lower."""
        base = self.errors[self.base]
        return base if base.mean() <= self.constant.mean() else self.constant  # not for NaN


def closing(half: Half, labels: Sequence[str], rivals: Sequence[str]) -> list[str]:
    """Return those labels whose errors close the gap to the lowest error of the rivals."""
    lowest = min(float(half.errors[label].mean()) for label in rivals)
    closes = closes_raw if half.is_raw else closes_relative
    return [label for label in labels if closes(half, half.errors[label], lowest)]


def closes_relative(half: Half, errors: Tensor, lowest: float) -> bool:
    """Return whether a row closes the gap of a base that has not learned well, and at least halves
    the error of one that is below the constant predictor.
    """
    start = half.start()
    has_learned_well = float(start.mean()) <= LEARNED
    base_learns = is_below(start, half.constant, half.groups)
    halves = float(errors.mean()) <= HALVES * float(start.mean())
    is_much_lower = halves or not base_learns
    return closes_gap(half, errors, lowest) and is_much_lower and not has_learned_well


def closes_raw(half: Half, losses: Tensor, lowest: float) -> bool:
    """Return whether a row closes a gap that is a part of the gap of the untrained network."""
    gap = float(half.start().mean()) - lowest
    gap_of_untrained = float(half.constant.mean()) - lowest
    return closes_gap(half, losses, lowest) and gap > LEARNED * gap_of_untrained


def closes_gap(half: Half, errors: Tensor, lowest: float) -> bool:
    """Return whether errors are below the start, and close most of the gap to the lowest error."""
    start = half.start()
    gap = float(start.mean()) - lowest
    is_better = is_below(errors, start, half.groups)
    return is_better and float(start.mean() - errors.mean()) >= CLOSES * gap


def is_below(low: Tensor, high: Tensor, groups: Tensor) -> bool:
    """True if the mean of paired errors is lower by two standard errors of the difference; by more
    of them if there are fewer than ten observations.

    groups: the group of equal examples to which each error belongs, (E,). The errors of a group are
    averaged first: they are one observation.
    """
    difference = high - low
    sizes = groups.bincount()
    means = difference.new_zeros(len(sizes)).index_add(0, groups, difference) / sizes
    count = len(means)
    if count < 2:
        return False
    errors = max(ERRORS, float(stdtrit(count - 1, RATE_OF_TEN)))
    return float(means.mean()) > errors * float(means.std() / math.sqrt(count))
