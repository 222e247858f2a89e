"""Errors of outputs on held-out examples, relative to the constant predictor.

| kind    | targets                         | error of an example, relative to that of           |
|---------|---------------------------------|----------------------------------------------------|
| classes | class numbers                   | share of wrong classes; the most frequent class    |
| signs   | 0 and 1, one output each        | share on the wrong side; the more frequent side    |
| numbers | as many numbers as outputs      | squared error; the mean                            |
| raw     | any others                      | the user's loss itself                             |

The kind follows from the shapes and from the operations inside the loss, which torch's autograd
graph names. The constant predictor is that of the training examples.

Legend: B examples, K classes.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rhn.errors import InvalidInputError, UsersCodeError
from trainability.data import Data
from trainability.layout import Layout

Loss = Callable[[Any, Tensor], Tensor]
CLASSES, SIGNS, NUMBERS, RAW = "classes", "signs", "numbers", "raw"
MEANINGS = {
    CLASSES: "share of wrong classes / that of the most frequent class",
    SIGNS: "share on the wrong side / that of the more frequent side",
    NUMBERS: "squared error / that of the mean",
    RAW: "your loss",
}
OF_CLASSES = {"LogSoftmax", "NllLoss", "NllLoss2D"}
OF_SIGNS = {"BinaryCrossEntropyWithLogits", "BinaryCrossEntropy"}
OF_NUMBERS = {"MseLoss", "SmoothL1Loss", "HuberLoss"}
OF_LOGITS = {"LogSoftmax", "BinaryCrossEntropyWithLogits"}
VIEWS = {
    *("View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze", "Transpose", "Permute", "T"),
    *("Select", "Slice", "Clone", "Alias", "Expand"),
}
IGNORED = -100  # the class that losses of torch ignore
ROUNDING = 1e-3  # of a slope: that of a loss at its minimum, against one beside it


def operations(loss: Tensor) -> set[str]:
    """Return the names of the operations before a tensor, such as "LogSoftmax"."""
    names, todo, seen = set[str](), [loss.grad_fn], set[Any]()
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            names.add(node.name().split("Backward")[0])
            todo += [after for after, _ in node.next_functions]
    return names


def last_operation(output: Tensor) -> str:
    """Return the last operation of a network that is not a change of shape; "" without one."""
    node = output.grad_fn
    while node is not None and node.name().split("Backward")[0] in VIEWS and node.next_functions:
        node = node.next_functions[0][0]
    return "" if node is None else node.name().split("Backward")[0]


def main_output(output: Any) -> Tensor:
    """Return the output itself, its `logits`, or the first entry of a tuple. Raises
    UsersCodeError.
    """
    output = getattr(output, "logits", output)
    output = output[0] if isinstance(output, tuple | list) else output
    if not isinstance(output, Tensor) or not output.dim():
        raise UsersCodeError(
            f"output of the model: {type(output).__name__}, expected a tensor, or predict= that "
            "returns one"
        )
    return output


def with_main_output(output: Any, z: Tensor) -> Any:
    """Return an output of the model with another tensor in the place of the main one."""
    if isinstance(output, tuple | list):
        return type(output)([z, *output[1:]])
    return z


@dataclass(frozen=True)
class UsersLoss:
    """The user's loss, of targets and main outputs with examples along axis 0."""

    loss_fn: Loss
    layout: Layout

    def __call__(self, output: Any, y: Tensor) -> Tensor:
        """Return the loss of what the model returned."""
        return self.loss_fn(output, self.layout.to_loss(y))

    def at(self, output: Any, z: Tensor, y: Tensor) -> Tensor:
        """Return the loss with z in the place of the main output."""
        return self(with_main_output(output, self.layout.as_output(z)), y)

    def slopes(self, output: Any, z: Tensor, y: Tensor) -> Tensor:
        """Return the gradient of the loss at main outputs z."""
        with torch.enable_grad():
            z = z.detach().clone().requires_grad_()
            return torch.autograd.grad(self.at(output, z.clone(), y), z)[0]


@dataclass(frozen=True)
class Score:
    """How predictions are compared with targets; both have examples along axis 0."""

    kind: str
    classes: int
    """The axis of the classes in outputs."""
    takes_logits: bool
    """True if the user's loss applies a softmax or a sigmoid."""
    last: str
    """The last operation of the user's network."""
    constant: Tensor
    """The constant predictor."""
    targets: Tensor
    """All training targets that the user's loss counts, (n,)."""
    ignored: Tensor | None = None
    """The value of all training targets that the user's loss ignores; None if it ignores none, or
    several values.
    """

    def in_shape(self, output: Tensor, y: Tensor) -> Tensor:
        """Return outputs in the shape of y, or with classes along one more axis."""
        if self.kind != CLASSES:
            return output.reshape(y.shape)
        flat = output.dim() == y.dim() == 2 and len(output) == y.numel()
        return output.reshape(*y.shape, -1) if flat else output

    def guess(self, output: Tensor, y: Tensor, *, logits: bool) -> Tensor:
        """Return the predicted classes, sides or numbers, in the shape of y."""
        output = self.in_shape(output, y)
        if self.kind == CLASSES and output.shape != y.shape:
            return output.argmax(self.classes)
        if self.kind == SIGNS:
            return output > (0.0 if logits else 0.5)
        return output

    def counts(self, y: Tensor) -> Tensor:
        """Return which targets are not the value that the user's loss ignores."""
        return torch.ones_like(y, dtype=torch.bool) if self.ignored is None else y != self.ignored

    def errors(self, guess: Tensor, y: Tensor, mask: Tensor) -> Tensor:
        """Return the error of each example, (B,), not relative."""
        wrong = (guess - y).double().square() if self.kind == NUMBERS else (guess != y).double()
        return torch.where(mask, wrong, 0.0).reshape(len(y), -1).sum(1).cpu()

    def of_constant(self, y: Tensor, mask: Tensor) -> Tensor:
        """Return the error of the constant predictor for each example, (B,)."""
        return self.errors(self.constant.expand(y.shape), y, mask)

    def usual(self, output: Tensor, y: Tensor, last: str) -> Tensor:
        """Return the usual loss of outputs of a network with this last operation, without the
        targets that the user's loss ignores.
        """
        output = self.in_shape(output, y)
        if self.kind == CLASSES:
            z = output.movedim(self.classes, -1).reshape(-1, output.shape[self.classes])
            known = y.long().masked_fill(~self.counts(y), IGNORED)
            return F.nll_loss(log_shares(z, last), known.flatten())
        if self.ignored is not None:
            output, y = output[self.counts(y)], y[self.counts(y)]
        y = y.to(output.dtype)
        if self.kind == NUMBERS:
            return F.mse_loss(output, y)
        if last in ("Sigmoid", "Softmax"):
            return F.binary_cross_entropy(output, y)
        return F.binary_cross_entropy_with_logits(output, y)


def log_shares(z: Tensor, last: str) -> Tensor:
    """Return logarithms of probabilities (..., K) from outputs of a network with this last
    operation.
    """
    return z.clamp_min(torch.finfo(z.dtype).tiny).log() if last == "Softmax" else z.log_softmax(-1)


def score_of(model_call: Callable[[Any], Any], data: Data, loss_fn: Loss, predict: Any) -> Score:
    """Find the kind of targets, those that the loss counts, and the constant predictor. Raises
    InvalidInputError.

    model_call: returns the output of the model for x. predict: None, or a function that returns
    what is compared with y, given the output of the model.
    """
    x, y, _ = data.first_minibatch()
    output = model_call(x)
    main = data.layout.examples_first((predict or main_output)(output))
    loss = UsersLoss(loss_fn, data.layout)
    if predict is None:
        kind, classes, inside = kind_by_loss(loss, output, main, y)
    else:
        kind, classes = kind_by_shape(main, y)
        inside = set[str]()
    takes = bool(inside & OF_LOGITS)
    later = torch.tensor([])
    score = Score(kind, classes, takes, last_operation(main), constant=later, targets=later)
    given = None if predict is not None else loss
    y, mask = counted_targets(score, data, given, output, main.detach())
    constant = constant_predictor(kind, y, mask, main.dtype)
    score = replace(score, constant=constant, targets=y[mask], ignored=ignored_value(y, mask))
    is_perfect = kind != RAW and not score.of_constant(y, mask).any()
    if is_perfect and not data.has_held_out:
        return replace(score, kind=RAW)
    return score


def kind_by_loss(
    loss: UsersLoss, output: Any, main: Tensor, y: Tensor
) -> tuple[str, int, set[str]]:
    """Return the kind of targets, the axis of classes, and the operations inside the loss."""
    z = main.detach().clone().requires_grad_()
    inside = operations(loss.at(output, z.clone(), y))
    if inside & OF_CLASSES:
        classes = axis_of_classes(main, y)
        if classes is not None:
            return CLASSES, classes, inside
        if y.shape == main.shape and is_one_hot(y):
            raise InvalidInputError("y is one-hot: expected class numbers, y.argmax(-1)")
    if main.numel() != y.numel():
        return RAW, -1, inside
    if inside & OF_SIGNS:
        counted = is_steep(loss.slopes(output, torch.full_like(main, 0.5), y))
        sides = y[counted.reshape(y.shape)]
        return (SIGNS if bool(((sides == 0) | (sides == 1)).all()) else RAW), -1, inside
    if inside & OF_NUMBERS or is_least_at_targets(loss, output, main, y):
        return NUMBERS, -1, inside
    return RAW, -1, inside


def kind_by_shape(output: Tensor, y: Tensor) -> tuple[str, int]:
    """Return the kind of targets and the axis of classes for the results of `predict`."""
    if y.is_floating_point():
        return (NUMBERS if output.numel() == y.numel() else RAW), -1
    classes = -1 if output.shape == y.shape else axis_of_classes(output, y)
    return (RAW, -1) if classes is None else (CLASSES, classes)


def counted_targets(
    score: Score, data: Data, loss: UsersLoss | None, output: Any, main: Tensor
) -> tuple[Tensor, Tensor]:
    """Return all training targets, and which of them the loss counts."""
    masks = [
        mask_of(score, loss, output, main, y)[:count]
        for _, y, count in data.train.in_order(data.batch_size)
    ]
    return data.train.y, all_if_none(torch.cat(masks))


def all_if_none(mask: Tensor) -> Tensor:
    """Return a mask of targets, or one of all targets if it has none: a loss without slopes."""
    return mask if mask.any() else torch.ones_like(mask)


def ignored_value(targets: Tensor, mask: Tensor) -> Tensor | None:
    """Return the value of all targets outside a mask; None if there are several, or none, or if
    targets inside have this value, too.
    """
    values = targets[~mask].unique()
    if len(values) != 1 or torch.isin(values, targets[mask]).any():
        return None
    return values[0]


def constant_predictor(kind: str, y: Tensor, mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the constant predictor of those targets that a mask counts."""
    if kind == RAW:
        return torch.zeros(())
    if kind == CLASSES:
        return y[mask].mode().values
    y, counted = columns(y).double(), columns(mask).double()
    mean = (y * counted).sum(0) / counted.sum(0).clamp_min(1)
    return mean > 0.5 if kind == SIGNS else mean.to(dtype)


def columns(y: Tensor) -> Tensor:
    """Return targets as rows of numbers, a column for each output of a frame."""
    return y if y.dim() == 1 else y.flatten(0, -2)


def axis_of_classes(output: Tensor, y: Tensor) -> int | None:
    """Return the axis of the classes in outputs; None if targets are no class numbers."""
    if y.is_floating_point():
        return None
    if output.dim() == y.dim() == 2 and len(output) == y.numel():
        return -1
    for axis in (-1, 1):
        rest = [*output.shape]
        del rest[axis if len(rest) > 1 else 0]
        if rest == [*y.shape]:
            return axis
    return None


def is_least_at_targets(loss: UsersLoss, output: Any, main: Tensor, y: Tensor) -> bool:
    """True if the slope of a loss vanishes if the outputs are the targets, but not beside them. One
    example is tried, since targets of others may be paired with its output: the first one that the
    loss counts.
    """
    if not y.is_floating_point() or not isinstance(output, Tensor):
        return False
    with suppress(RuntimeError, IndexError, ValueError):
        for k in range(len(y)):
            one, target = main[k : k + 1], y[k : k + 1]
            equal = target.reshape(one.shape).to(one.dtype)
            at, beside = (loss.slopes(z, z, target).abs().max() for z in (equal, equal + 1))
            if beside > 0:
                return bool(at <= ROUNDING * beside)
    return False


def is_steep(slope: Tensor) -> Tensor:
    """Return where a loss reads its outputs; it does not where 0 of 0 targets are counted (NaN)."""
    return (slope != 0) & ~slope.isnan()


def is_one_hot(y: Tensor) -> bool:
    """True if each row of targets has a 1 among zeros."""
    return y.dim() > 1 and bool(((y == 0) | (y == 1)).all() and (y.sum(-1) == 1).all())


def mask_of(score: Score, loss: UsersLoss | None, output: Any, main: Tensor, y: Tensor) -> Tensor:
    """Return which targets the user's loss counts, in the shape of y.

    loss: None if `predict` chooses what is compared with y.
    """
    every = torch.ones_like(y, dtype=torch.bool)
    if score.kind == RAW or loss is None:
        return every
    with suppress(RuntimeError, IndexError, ValueError):
        z = torch.full_like(main, 0.5)
        if score.kind == NUMBERS:
            z = (y.reshape(main.shape) + 1).to(main.dtype)
        counted = is_steep(loss.slopes(output, z, y))
        steep = score.in_shape(counted, y)
        return steep.any(score.classes) if score.kind == CLASSES else steep
    return every
