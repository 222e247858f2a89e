"""The losses of frames that have a name: the loss of a frame is the sum over its numbers.

Legend: S frames, B sequences, k outputs.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from gersgorin import checks

IGNORED = -100  # a class without a loss, as in torch's cross entropy
Loss = Callable[[Tensor, Tensor], Tensor]
"""A function (outputs, targets) that returns a number for each frame, for each sequence, or one."""
LOSSES = ("bernoulli", "categorical", "squared")


def name_of_loss(of: str | Loss) -> str:
    """Return the name of a loss: one of `LOSSES`, or that of a function. Raises InvalidInputError.

    >>> name_of_loss("squared"), name_of_loss(torch.nn.MSELoss())
    ('squared', 'MSELoss')
    """
    good = of in LOSSES if isinstance(of, str) else callable(of)
    wanted = f"outputs, {', '.join(LOSSES)}, or a function of outputs and y"
    checks.require(good, "of", repr(of), wanted)
    return of if isinstance(of, str) else getattr(of, "__name__", type(of).__name__)


def frame_losses(name: str, z: Tensor, y: Tensor) -> Tensor:
    """Return the losses (S, B) of outputs z (S, B, k).

    name: "bernoulli", y of 0 to 1; "squared", half the sum of squares; both with y like z.
    "categorical", y (S, B, 1) of class ids, of which -100 has the loss 0. Raises InvalidInputError.

    >>> frame_losses("squared", torch.ones(2, 1, 3), torch.zeros(2, 1, 3)).tolist()
    [[1.5], [1.5]]
    """
    shape = (*z.shape[:2], 1) if name == "categorical" else tuple(z.shape)
    checks.require(
        tuple(y.shape) == shape, "y", checks.kind(y), f"{shape} (time, sequence, number)"
    )
    if name == "categorical":
        counts = y != IGNORED
        ids = torch.where(counts, y, 0)
        good = not y.is_floating_point() and bool((ids >= 0).all() and (ids < z.shape[2]).all())
        checks.require(good, "y", checks.kind(y), f"class ids 0 to {z.shape[2] - 1}, or {IGNORED}")
        return (-z.log_softmax(-1).gather(-1, ids.long()) * counts).squeeze(-1)
    if name == "squared":
        return F.mse_loss(z, y.to(z.dtype), reduction="none").sum(-1) / 2
    good = bool((y >= 0).all() and (y <= 1).all())
    checks.require(good, "y", f"{float(y.min()):g} to {float(y.max()):g}", "0 to 1 for bernoulli")
    return F.binary_cross_entropy_with_logits(z, y.to(z.dtype), reduction="none").sum(-1)
