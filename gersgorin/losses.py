"""Losses of outputs and targets, and what they read.

A loss is a function (output, y) -> a scalar. `FRAME_COSTS` are losses of single frames: the
chorales count a frame, not a key.

Legend: T frames, B sequences, K outputs.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from gersgorin._validate import finite_tensor, users_code
from rhn.errors import InvalidInputError

Loss = Callable[[Tensor, Tensor], Tensor]
"""Of outputs and targets."""


def _bernoulli(outputs: Tensor, targets: Tensor) -> Tensor:
    costs = F.binary_cross_entropy_with_logits(outputs, targets, reduction="none")
    return costs.sum(-1)


def _categorical(outputs: Tensor, ids: Tensor) -> Tensor:
    return -outputs.log_softmax(-1).gather(-1, ids.unsqueeze(-1)).squeeze(-1)


def _squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.mse_loss(outputs, targets, reduction="none").sum(-1) / 2


FRAME_COSTS: dict[str, Loss] = {
    "bernoulli": _bernoulli,
    "categorical": _categorical,
    "squared": _squared,
}
"""The cost (T, B) of each frame of outputs (T, B, K), from targets alike or ids (T, B)."""


def mean_of_frames(name: str) -> Loss:
    """The mean cost of a frame, for a loss of `FRAME_COSTS`."""

    def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
        return FRAME_COSTS[name](outputs, targets).mean()

    return loss_fn


def output_of(output: Any) -> Tensor:
    """The output of a module that returns it alone, as `logits`, or first in a tuple (output,
    state).
    """
    output = getattr(output, "logits", output)
    while isinstance(output, tuple | list) and output:
        output = output[0]
    if not isinstance(output, Tensor):
        raise InvalidInputError(
            f"model(x) returned {type(output).__name__}, expected a tensor or a tuple that "
            "begins with one"
        )
    return output


def numbers_of(name: str, given: Any) -> Tensor:
    """Finite real numbers of a user as a tensor without a graph. Raises InvalidInputError."""
    if not isinstance(given, Tensor):
        with users_code(f"{name} is not an array of numbers"):
            given = np.asarray(given)
    return finite_tensor(name, given).detach()
