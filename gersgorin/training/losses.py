"""Losses by name or of a user, and their best constant outputs.

Of outputs with targets a loss is "mse", "cross-entropy" or "bernoulli", means over all numbers, or
a user's (output, y) -> a scalar. `FRAME_COSTS` are losses of single frames: the chorales count a
frame, not a key.

Legend: T frames, B sequences, K outputs.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gersgorin._validate import with_gradients
from gersgorin.training.activation import graph, operation
from rhn.errors import USERS_FAULT, InvalidInputError
from rhn.utils.wording import in_short

SEARCH_STEPS = 200  # for the best constant output
ENOUGH = 1e-6  # accuracy of its loss
Loss = Callable[[Tensor, Tensor], Tensor]
"""Of outputs and targets."""
GAUSSIAN = (  # what to do with the loss that takes three arguments
    "it also needs a variance: let the model give the mean and its log, loss_fn=lambda output, y: "
    "loss(output[..., :1], y, output[..., 1:].exp())"
)
POSITIVE = (
    "it takes outputs between 0 and 1, and constant outputs of any value are tried: use a loss of "
    "logits"
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
    if not isinstance(loss_fn, str) or loss_fn not in LOSSES:
        raise InvalidInputError(
            f"loss_fn is {in_short(loss_fn)}, expected a function (output, y) or one of {', '.join(LOSSES)}"
        )
    return LOSSES[loss_fn]


def misfit(loss: Loss, output: Tensor, y: Tensor) -> str:
    """The fault of an output or of targets that a loss has refused; "" if it is not known.

    The loss is called with zeros as targets: with numbers in the shape of the output, and with
    classes, which lack one of its axes. Of those that it takes, the most similar are compared.
    """
    if isinstance(loss, nn.GaussianNLLLoss):
        return GAUSSIAN
    output, shape = output.detach(), tuple(output.shape)
    tried = [torch.zeros_like(output)]
    tried += [output.select(axis, 0).long() * 0 for axis in {1, len(shape) - 1} if axis > 0]
    taken = [zeros for zeros in tried if _takes(loss, output, zeros)]
    if not taken:
        return POSITIVE if _takes(loss, output.nan_to_num().sigmoid(), y) else ""
    like = max(taken, key=lambda zeros: _similarity(zeros, y))
    if like.shape != y.shape and len(shape) > 2 and shape[:-1] == y.shape:
        return (
            "if its targets are classes, give loss_fn='cross-entropy', which takes the classes last"
        )
    wanted = f"y of shape {tuple(like.shape)}"
    if like.is_floating_point():
        faults = [f"expected {wanted}, as the output"] if like.shape != y.shape else []
        faults += [] if y.is_floating_point() else [f"y is {_dtype(y)}: give y.float()"]
        return "; ".join(faults)
    count = output.numel() // max(1, like.numel())
    return "; ".join(_faults_of_classes(y, like, count, getattr(loss, "ignore_index", -100)))


def _takes(loss: Loss, output: Tensor, y: Tensor) -> bool:
    """True if a loss raises nothing, and does not broadcast."""
    try:
        with warnings.catch_warnings(action="error", category=UserWarning):
            loss(output, y)
    except USERS_FAULT:
        return False
    return True


def _similarity(zeros: Tensor, y: Tensor) -> tuple[bool, bool, bool]:
    return (
        zeros.shape == y.shape,
        zeros.numel() == y.numel(),
        zeros.is_floating_point() == y.is_floating_point(),
    )


def _faults_of_classes(y: Tensor, like: Tensor, count: int, ignored: int) -> Iterator[str]:
    """The faults of targets in the place of classes 0 to count - 1 of some shape."""
    if y.shape != like.shape:
        yield f"expected classes, y of shape {tuple(like.shape)}"
    if y.is_floating_point():
        yield f"y is {_dtype(y)} and the loss takes classes, whole numbers: give y.long()"
    classes = y[y != ignored]
    least, largest = classes.aminmax() if len(classes) else (0, 0)
    least, largest = int(least), int(largest)
    if least < 0 or largest >= count:
        yield f"y holds classes {least} to {largest}, the output has {count}: 0 to {count - 1}"


def _dtype(y: Tensor) -> str:
    return str(y.dtype).removeprefix("torch.")


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
