"""The gradient's norm and a step of gradient descent of K stacked models, as their equations say it.

    |g + decay p|  over all parameters p of a model
    p  <-  (1 - shrink) (p - rate scale (g + decay p))

Legend: weights and gradients are tensors (K, ...) by name; rate, scale (K,) in their dtype; taken (K,) bool, False: the model's weights
stay as they are.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

Weights = Mapping[str, Tensor]


def gradient_norm_reference(weights: Weights, gradients: Weights, decay: float = 0.0) -> Tensor:
    """(K,) float64."""
    parts = (sums(_decayed(weights[name], g, decay).square()) for name, g in gradients.items())
    return sum(parts).sqrt()


def descend_reference(
    weights: Weights,
    gradients: Weights,
    rate: Tensor,
    scale: Tensor,
    taken: Tensor,
    *,
    decay: float = 0.0,
    shrink: float = 0.0,
) -> None:
    """Change the weights in place."""
    for name, w in weights.items():
        one_each = (-1, *[1] * (w.dim() - 1))
        step = _decayed(w, gradients[name], decay) * scale.view(one_each) * rate.view(one_each)
        w.sub_(torch.where(taken.view(one_each), step, 0))
        if shrink:
            w.mul_(torch.where(taken, 1 - shrink, 1).to(w.dtype).view(one_each))


def sums(stacked: Tensor) -> Tensor:
    """The sum of each model's numbers, (K, ...) -> (K,) in float64; one by one, so that its bits do not depend on the others."""
    return torch.stack([t.sum(dtype=torch.float64) for t in stacked])


def _decayed(w: Tensor, g: Tensor, decay: float) -> Tensor:
    return g + decay * w if decay else g
