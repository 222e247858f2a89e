"""Losses by name or of a user, and their best constant outputs.

Of outputs with targets a loss is "mse", "cross-entropy" or "bernoulli", means over all numbers, or
a user's (output, y) -> a scalar. `FRAME_COSTS` are losses of single frames: the chorales count a
frame, not a key.

Legend: T frames, B sequences, K outputs.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gersgorin._validate import with_gradients
from gersgorin.training.activation import graph, operation
from rhn.errors import InvalidInputError

SEARCH_STEPS = 200  # for the best constant output
ENOUGH = 1e-6  # accuracy of its loss
Loss = Callable[[Tensor, Tensor], Tensor]
"""Of outputs and targets."""
GAUSSIAN = (  # what to do with the loss that takes three arguments
    "it also needs a variance: let the model give the mean and its log, loss_fn=lambda output, y: "
    "loss(output[..., :1], y, output[..., 1:].exp())"
)


class NegativeLossError(InvalidInputError):
    """A mean loss below 0, of which no share can be taken; `loss` is its value, `constant` that of
    the best constant output.
    """

    def __init__(self, loss: float, constant: float):
        super().__init__(f"the loss is {loss:.3g}, expected one of at least 0")
        self.loss, self.constant = loss, constant
        self.causes: tuple = ()  # that were found before


@with_gradients()
def least_constant(
    mean_loss: Callable[[Tensor], Tensor], zeros: Tensor
) -> tuple[Tensor, float, float]:
    """(The constant output of the least mean loss, the loss of zeros, the least loss), by a
    quasi-Newton method.
    """
    output = zeros.clone().requires_grad_()

    def closure() -> Tensor:
        search.zero_grad()
        loss = mean_loss(output)
        loss.backward()
        return loss

    zero = mean_loss(output).item()
    search = torch.optim.LBFGS(
        [output],
        max_iter=SEARCH_STEPS,
        tolerance_change=ENOUGH * abs(zero),
        line_search_fn="strong_wolfe",
    )
    with contextlib.suppress(RuntimeError):  # an overflow, if the loss has no least value
        search.step(closure)
    return output.detach(), zero, mean_loss(output).item()


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


def _shaped(y: Tensor, shape: torch.Size) -> Tensor:
    """Targets of a named loss in a shape that differs only in axes of length 1. Raises
    InvalidInputError for another one.
    """
    if [n for n in y.shape if n != 1] != [n for n in shape if n != 1]:
        raise InvalidInputError(
            f"in a minibatch, the loss needs y of shape {tuple(shape)}, and y has "
            f"{tuple(y.shape)}: give one target for each output"
        )
    return y.reshape(shape)


LOSSES = {
    "mse": lambda output, y: F.mse_loss(output, _shaped(y, output.shape).to(output.dtype)),
    "cross-entropy": lambda output, y: F.cross_entropy(
        output.flatten(0, -2), _shaped(y, output.shape[:-1]).flatten().long()
    ),
    "bernoulli": lambda output, y: F.binary_cross_entropy_with_logits(
        output, _shaped(y, output.shape).to(output.dtype)
    ),
}


def target_loss(loss_fn: Any) -> Loss:
    """The loss of a name, or a function (output, y) -> a scalar. Raises InvalidInputError."""
    if isinstance(loss_fn, type) and issubclass(loss_fn, nn.Module):
        name = f"nn.{loss_fn.__name__}" if hasattr(nn, loss_fn.__name__) else loss_fn.__name__
        raise InvalidInputError(f"loss_fn is the class {loss_fn.__name__}: did you mean {name}()?")
    if callable(loss_fn):
        return loss_fn
    if loss_fn not in LOSSES:
        raise InvalidInputError(
            f"loss_fn is {loss_fn!r}, expected a function (output, y) or one of {', '.join(LOSSES)}"
        )
    return LOSSES[loss_fn]


def short_of_frames(loss: Tensor) -> tuple[str, str] | None:
    """(How many examples of a CTC loss have fewer frames than it needs, what to do); None: no
    example, or another loss.
    """
    for node in graph(loss):
        if operation(node) == "CtcLoss":
            lengths, rows = [int(n) for n in node._saved_target_lengths], node._saved_targets
            rows = rows if rows.dim() == 2 else rows.split(lengths)
            labels = [row[:n] for row, n in zip(rows, lengths, strict=True)]
            needed = [len(row) + int((row[1:] == row[:-1]).sum()) for row in labels]
            both = [
                (int(n), need)
                for n, need in zip(node._saved_input_lengths, needed, strict=True)
                if n < need
            ]
            if both:
                return (
                    "The CTC loss needs a frame for each label, and one between equal labels: "
                    f"{len(both)} of {len(needed)} examples "
                    f"have fewer, the first {both[0][0]} instead of {both[0][1]}. Their loss "
                    "is infinite.",
                    "Give the network more frames (a smaller stride or pooling), or leave "
                    "these examples out: zero_infinity=True.",
                )
    return None
