"""Losses by name or of a user, of frames and of whole outputs, and their best constant outputs.

**Losses of frames**, one number for each (`FrameLoss`); of a training on next frames:

| loss        | cost of a frame                                  | best constant output                       |
|-------------|--------------------------------------------------|--------------------------------------------|
| bernoulli   | -sum over k of log P(target_k), P = sigmoid(z_k) | log odds of each key's share of the frames |
| categorical | -log softmax(z)[target]                          | log of each symbol's share of the frames   |
| squared     | sum over k of (z_k - target_k)^2 / 2             | the mean target                            |
| your own    | loss(outputs, targets)                           | by minimising it over one output           |

All but your own are in nats (the squared loss: of a Gaussian of variance 1, less its constant). A
key that never sounds in the sequences, or a symbol that never occurs, would have log odds of minus
infinity: the share of a key is kept within `CLIP` of 0 and 1, that of a symbol above `CLIP` / K.

**Losses of outputs with targets**: "mse", "cross-entropy" and "bernoulli", means over all numbers,
or a user's (output, y) -> a scalar.

Legend: T frames, B sequences, K outputs; outputs z (T, B, K); targets (T, B, K), or (T, B) int64
for the categorical loss, `PADDING` after the end of a sequence.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gersgorin._validate import users_code, with_gradients
from gersgorin.training.activation import graph, operation
from rhn.errors import USERS_FAULT, InvalidInputError
from rhn.utils.wording import in_short

CLIP = 1e-7
SEARCH_STEPS = 200  # for the best constant output
ENOUGH, EXACT = 1e-6, 1e-12  # accuracy of its loss, on minibatches and on all frames
# in place of targets after the end of a sequence: numbers, ids
PADDING = float(torch.finfo(torch.float32).min), -100
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


def real_frames(targets: Tensor) -> Tensor:
    """True for each frame (T, B) of targets that is no padding."""
    return targets[..., 0] != PADDING[0] if targets.is_floating_point() else targets != PADDING[1]


@dataclass(frozen=True)
class FrameLoss:
    """A loss by name, or a user's own; called with outputs and targets it gives its mean over all
    frames that are no padding.
    """

    name: str
    frames: Loss
    """Cost of every frame, from outputs and targets."""
    constant: Callable[[Tensor, int], Tensor] | None = None
    """Best constant output (K,), from the targets of all real frames (F, K) or (F,), and K; None:
    search for it.
    """
    unit: str = "nats a frame"
    """Of the mean loss."""

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.of_frames(outputs, targets)[real_frames(targets)].mean()

    def of_frames(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The cost of every frame (T, B), 0 at padding."""
        padding = ~real_frames(targets)
        if not padding.any():
            return self.costs(outputs, targets)
        empty = padding.unsqueeze(-1) if targets.is_floating_point() else padding
        costs = self.costs(outputs, targets.masked_fill(empty, 0))
        if costs.stride() == (0, 0):
            raise InvalidInputError(
                f"the loss {self.name} gives one number, which would count the padding of "
                "pieces of unequal lengths: "
                "expected (T, B), or pieces of equal length"
            )
        return costs.masked_fill(padding, 0)

    def costs(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The cost of every frame (T, B); of a loss that gives one number for all, that number at
        every frame.

        Raises InvalidInputError if a user's loss fails or gives something else.
        """
        with users_code(
            f"the loss {self.name} cannot take outputs {tuple(outputs.shape)} and targets "
            f"{tuple(targets.shape)}"
        ):
            costs = self.frames(outputs, targets)
        frames = outputs.shape[:-1]
        if isinstance(costs, Tensor) and costs.dim() == 0:
            return costs.expand(frames)
        if isinstance(costs, Tensor) and costs.shape[:-1] == frames:
            costs = costs.sum(-1)
        if not isinstance(costs, Tensor) or costs.shape != frames:
            got = tuple(costs.shape) if isinstance(costs, Tensor) else type(costs).__name__
            raise InvalidInputError(
                f"the loss {self.name} gives {got}: expected one number, (T, B) or (T, B, K) "
                f"for outputs {tuple(outputs.shape)}"
            )
        return costs


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
    mean_loss: Callable[[Tensor], Tensor], zeros: Tensor, enough: float = ENOUGH
) -> tuple[Tensor, float, float]:
    """(The constant output of the least mean loss, the loss of zeros, the least loss), by a
    quasi-Newton method.

    enough: the search ends with a smaller change, relative to the loss of zeros.
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
        tolerance_change=enough * abs(zero),
        line_search_fn="strong_wolfe",
    )
    with contextlib.suppress(RuntimeError):  # an overflow, if the loss has no least value
        search.step(closure)
    return output.detach(), zero, mean_loss(output).item()


def frame_loss(loss: str | Loss) -> FrameLoss:
    """The loss of a name, or a function (outputs, targets) -> a number, (T, B) or (T, B, K); raises
    InvalidInputError.
    """
    loss = (
        {"mse": "squared", "cross-entropy": "categorical"}.get(loss, loss)
        if isinstance(loss, str)
        else loss
    )
    if isinstance(loss, str) and loss in FRAME_LOSSES:
        return FRAME_LOSSES[loss]
    if callable(loss):
        name = getattr(loss, "__name__", type(loss).__name__)
        return FrameLoss(
            name, loss, unit=f"by the loss {name}" if name.isidentifier() else "by your loss"
        )
    raise InvalidInputError(
        f"unknown loss {in_short(loss)}: expected {', '.join(map(repr, FRAME_LOSSES))}, or a function "
        "loss(outputs, targets)"
    )


def _log_shares(ids: Tensor, K: int) -> Tensor:
    counts = torch.bincount(ids, minlength=K).double()
    return (counts / counts.sum()).clamp_min(CLIP / K).log()


FRAME_LOSSES: dict[str, FrameLoss] = {
    "bernoulli": FrameLoss(
        "bernoulli",
        lambda z, targets: F.binary_cross_entropy_with_logits(z, targets, reduction="none").sum(-1),
        lambda targets, K: targets.mean(0).clamp(CLIP, 1 - CLIP).logit(),
    ),
    "categorical": FrameLoss(
        "categorical",
        lambda z, ids: -z.log_softmax(-1).gather(-1, ids.unsqueeze(-1)).squeeze(-1),
        _log_shares,
        unit="nats a token",
    ),
    "squared": FrameLoss(
        "squared",
        lambda z, targets: (z - targets).square().sum(-1) / 2,
        lambda targets, K: targets.mean(0),
        unit="squared error a frame (halved)",
    ),
}


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
