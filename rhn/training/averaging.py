"""NT-ASGD: once validation stops improving, the weights that count are the mean of all those after that (Merity et al. 2017).

Polyak and Juditsky's averaging, begun by a non-monotone criterion: the first epoch whose loss is above the best of those more than n
epochs before it. Of K stacked models each begins on its own; until then the "average" is the weights as they are.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from rhn.training.ensemble import Ensemble, Weights


class Average:
    """The averaged weights of K models: tensors (K, ...) by name, and how many weights each mean is of."""

    def __init__(self, weights: Weights, count: Tensor, active: Tensor):
        self._weights, self._count, self._active = weights, count, active

    @classmethod
    def of(cls, stack: Ensemble) -> "Average":
        """Nothing is averaged yet."""
        ones = torch.ones(len(stack), device=stack.device, dtype=stack.dtype)
        return cls({name: t.clone() for name, t in stack.weights.items()}, ones, torch.zeros_like(ones))

    def __getitem__(self, places: list[int]) -> "Average":
        return Average({n: t[places] for n, t in self._weights.items()}, self._count[places], self._active[places])

    def stack(self, like: Ensemble) -> Ensemble:
        """The same models with their averaged weights."""
        return Ensemble(like.skeleton, self._weights, like.constants)

    def update(self, stack: Ensemble) -> None:
        """Take the weights after a step into the means."""
        self._count.add_(self._active)
        share = 1 / self._count
        for name, mean in self._weights.items():
            mean.lerp_(stack.weights[name], share.view(-1, *[1] * (mean.dim() - 1)))

    def consider(self, place: int, losses: Sequence[float], patience: int) -> None:
        """Begin averaging a model where its validation losses, one an epoch, say so."""
        if has_stalled(losses, patience):
            self._active[place] = 1

    def arrays(self) -> dict[str, Tensor]:
        """All that changes, by name."""
        named = {f"average.{name}": t for name, t in self._weights.items()}
        return named | {"average_count": self._count, "average_active": self._active}


def has_stalled(losses: Sequence[float], patience: int) -> bool:
    """Whether the last loss is above the least of those more than `patience` epochs before it.

    >>> has_stalled([5.0, 4.0, 4.1, 4.2, 4.3], patience=2), has_stalled([5.0, 4.0, 4.1, 4.2], patience=2)
    (True, False)
    """
    earlier = losses[: -patience - 1]
    return len(earlier) > 0 and losses[-1] > min(earlier)
