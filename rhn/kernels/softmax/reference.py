"""Softmax cross-entropy of a linear layer, as its equation says it.

    nll = log sum_v exp z_v - z_target,      z = U y + b

Shapes: y (T, B, n), U (V, n), b (V,), targets (T, B) int64 -> nll (T, B) in nats.
"""

import torch.nn.functional as F
from torch import Tensor

from rhn.kernels.validation import SOFTMAX


def softmax_nll_reference(y: Tensor, U: Tensor, b: Tensor, targets: Tensor) -> Tensor:
    """-log P(target), (T, B)."""
    y, U, b, targets = SOFTMAX.validate(y, U, b, targets)
    return -F.linear(y, U, b).log_softmax(-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)
