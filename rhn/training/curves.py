"""What the losses of a trial say about it. A curve is (epochs done + 1, 2) float64: training and validation loss after each epoch.

A trial needs no counters beside its curve, so there are none to save, and none that could disagree with it.
"""

from typing import Literal, NamedTuple

import numpy as np

Objective = Literal["train", "valid"]
LEFT = 0.98
"""A training has left its plateau when its loss is below this part of the best constant output's."""


def diverged(curve: np.ndarray) -> bool:
    """Whether the last losses are not finite.

    >>> diverged(np.array([[11.2, 11.3], [np.inf, 11.0]]))
    True
    """
    return not np.isfinite(curve[-1]).all()


def best_epoch(curve: np.ndarray, objective: Objective) -> int:
    """The first epoch with the least loss, among those whose losses are all finite.

    >>> best_epoch(np.array([[9.0, 8.0], [7.0, 8.5], [7.0, 8.2]]), "train")
    1
    """
    losses = np.where(np.isfinite(curve).all(axis=1), curve[:, 0 if objective == "train" else 1], np.inf)
    return int(losses.argmin())


class Kept(NamedTuple):
    """The losses of the weights that are kept, those of the best epoch."""

    epoch: int
    train_nll: float
    valid_nll: float


def kept(curve: np.ndarray, objective: Objective) -> Kept:
    """What the weights that are kept came to.

    >>> kept(np.array([[9.0, 8.0], [7.0, 8.5], [7.0, 8.2]]), "train")
    Kept(epoch=1, train_nll=7.0, valid_nll=8.5)
    """
    epoch = best_epoch(curve, objective)
    return Kept(epoch, *curve[epoch].tolist())


def has_ended(curve: np.ndarray, objective: Objective, *, epochs: int, patience: int) -> bool:
    """Whether a trial is over: all epochs done, `patience` epochs without a better loss, or diverged."""
    epoch = len(curve) - 1
    return epoch >= epochs or diverged(curve) or epoch - best_epoch(curve, objective) >= patience
