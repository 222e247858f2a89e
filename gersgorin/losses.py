"""Losses as functions of outputs and targets, and the numbers that they take.

A loss is a function (output, y) that returns a scalar. `FRAME_COSTS` are the costs of single
frames; the cost of a frame is the sum over its numbers, such as the keys of a chorale.

Legend: T frames, B sequences, K outputs.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rhn.errors import InvalidInputError
from rhn.utils.old import counted
from rhn.utils.validation import in_short, kind_of

IGNORED = -100  # a class without a loss, as of torch's cross entropy
Loss = Callable[[Tensor, Tensor], Tensor]
"""A function (outputs, targets) that returns the loss."""


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
"""Functions that return the cost of each frame, (T, B), for outputs (T, B, K) and targets of the
same shape, or class ids (T, B).
"""


OTHER_NAMES = {"mse": "squared", "cross_entropy": "categorical"}


def name_of_loss(loss: str | Loss) -> str:
    """The name of a loss: its key in `FRAME_COSTS`, or the name of the function. Raises
    InvalidInputError.
    """
    if isinstance(loss, str) and (name := OTHER_NAMES.get(loss, loss)) in FRAME_COSTS:
        return name
    if not callable(loss):
        names = ", ".join(map(repr, (*FRAME_COSTS, *OTHER_NAMES)))
        raise InvalidInputError(
            f"the loss is {in_short(loss)}: expected {names}, or a function of (outputs, y)"
        )
    return getattr(loss, "__name__", type(loss).__name__)


def frame_costs(name: str, z: Tensor, y: Tensor, given: tuple[int, ...]) -> Tensor:
    """The costs (S, B) of outputs z (S, B, K) for the loss of this name. y: targets of the shape of
    z, or class ids (S, B); the id -100 costs 0. given: the shape of the user's targets. Raises
    InvalidInputError if y does not fit.
    """
    name = name_of_loss(name)
    wanted = z.shape[:2] if name == "categorical" else z.shape
    if y.numel() != wanted.numel() or (len(z) > 1 and y.shape[:2] != z.shape[:2]):
        steps, sequences, units = z.shape
        each = "one class" if name == "categorical" else counted(units, "number")
        raise InvalidInputError(
            f"y {given} does not fit the loss {name!r}: expected {each} for each of "
            f"{counted(steps, 'output')} of {counted(sequences, 'sequence')}"
        )
    y = y.reshape(wanted)
    if name == "categorical":
        counts = y != IGNORED
        classes = torch.where(counts, y, 0)
        if y.is_floating_point() or classes.min() < 0 or classes.max() >= z.shape[-1]:
            raise InvalidInputError(
                f"y holds no classes 0 to {z.shape[-1] - 1}: expected those, or {IGNORED}"
            )
        return FRAME_COSTS[name](z, classes.long()) * counts
    outside = (y < 0) | (y > 1)
    if name == "bernoulli" and outside.any():
        raise InvalidInputError(
            f"a target is {y[outside][0]:g}, and the loss 'bernoulli' takes 0 to 1: give such "
            "targets (by default the next frames of x), or another loss, such as 'squared'"
        )
    return FRAME_COSTS[name](z, y.to(z.dtype))


def output_of(output: Any) -> Tensor:
    """Extract the output from what a module returns: the output itself, an object with `logits`, or
    a tuple (output, state).
    """
    output = getattr(output, "logits", output)
    while isinstance(output, tuple | list) and output:
        output = output[0]
    if not isinstance(output, Tensor):
        raise InvalidInputError(
            f"model(x) returned {kind_of(output)}, expected a tensor or a tuple that "
            "begins with one"
        )
    return output
