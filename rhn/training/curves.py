"""Read a curve: the losses of a trial after each epoch, (epochs, 2 or more) float64, training loss first, then validation loss.

The counters of early stopping follow from the curve, so a state has only the curve.
"""

from typing import Literal

import numpy as np

Objective = Literal["train", "valid"]
LEFT = 0.98
"""A training has left its plateau if its loss is below this factor times that of the best constant output."""


def diverged(curve: np.ndarray) -> bool:
    """Whether the last losses are not finite.

    >>> diverged(np.array([[11.2, 11.3], [np.inf, 11.0]]))
    True
    """
    return len(curve) > 0 and not np.isfinite(curve[-1, :2]).all()


def best_epoch(curve: np.ndarray, objective: Objective) -> int:
    """The first row with the least loss, among rows with finite losses.

    >>> best_epoch(np.array([[9.0, 8.0], [7.0, 8.5], [7.0, 8.2]]), "train")
    1
    """
    losses = curve[:, 0 if objective == "train" else 1]
    return int(np.where(np.isfinite(curve[:, :2]).all(axis=1), losses, np.inf).argmin())


def has_ended(
    curve: np.ndarray, objective: Objective, *, epochs: int, patience: int | None, first_epoch: int = 0
) -> bool:
    """Whether a trial is over: all epochs done, `patience` epochs without a better loss, or diverged.

    first_epoch: of the first row.
    """
    last = len(curve) - 1
    if last + first_epoch >= epochs or diverged(curve):
        return True
    return patience is not None and last >= 0 and last - best_epoch(curve, objective) >= patience
