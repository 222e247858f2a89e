"""Losses by name, and one score for all: the error of outputs, 0 perfect, 1 the best constant.

    score = score_of(loss_fn, output, pairs, axis)   # how outputs are compared with targets
    score.errors(output, y)                          # (B,), of each example
    score.relative(errors)                           # their mean, relative to the best constant

| targets                         | error of an example                | best constant      |
|---------------------------------|------------------------------------|--------------------|
| classes                         | share of wrong ones                | the commonest one  |
| 0 and 1, an output each         | share on the wrong side            | the commoner one   |
| several 0 and 1 an example      | squared error of the probability   | the mean of each   |
| numbers, an output each         | mean squared error                 | the mean           |
| all else (CTC, own likelihoods) | the loss, above the least free one | found by L-BFGS    |

Positions behind the end of a sequence, whose outputs do not change the loss, are not scored.

Legend: B examples, T frames, K output units.
"""

import contextlib
import functools
import inspect
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gersgorin._validate import with_gradients
from gersgorin.losses import Loss
from rhn.errors import USERS_FAULT, InvalidInputError
from rhn.utils.wording import in_short

GAUSSIAN = (  # what to do with the loss that takes three arguments
    "it also needs a variance: let the model give the mean and its log, loss_fn=lambda output, y: "
    "loss(output[..., :1], y, output[..., 1:].exp())"
)
POSITIVE = (
    "it takes outputs between 0 and 1, and constant outputs of any value are tried: use a loss of "
    "logits"
)


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
            f"loss_fn is {in_short(loss_fn)}, expected a function (output, y) or one of "
            f"{', '.join(LOSSES)}"
        )
    return LOSSES[loss_fn]


def reads(loss: Any) -> tuple[list[Any], set[str]]:
    """The objects that a loss can read besides its arguments, and the names of attributes that it
    reads, both with those of the functions that it names.
    """
    objects, names, found = [loss], set[str](), set[int]()
    for value in objects:  # grows
        if id(value) in found:
            continue
        found.add(id(value))
        if isinstance(value, functools.partial):
            objects += [value.func, *value.args, *value.keywords.values()]
        elif inspect.ismethod(value):
            objects += [value.__func__, *_parts(value.__self__)]
        elif inspect.isfunction(value):
            with contextlib.suppress(ValueError):  # a name that has no value yet
                named = inspect.getclosurevars(value)
                objects += [*named.nonlocals.values(), *named.globals.values()]
            names.update(value.__code__.co_names)
        elif isinstance(value, list | tuple | dict):
            objects += value.values() if isinstance(value, dict) else value
        elif value is loss:
            objects += [getattr(type(value), "forward", type(value).__call__), *_parts(value)]
    return objects, names


def _parts(owner: Any) -> list[Any]:
    """A module and its parts, or an object and its attributes, but no tensor: its name tells it."""
    if isinstance(owner, nn.Module):
        return [*owner.modules()]
    values = getattr(owner, "__dict__", {}).values()
    return [owner, *(value for value in values if not isinstance(value, Tensor))]


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


EQUAL = 1e-3  # slope at equal outputs and targets, relative to that beside them: rounding
TINY = 1e-12  # of a variance or a share: the constant is right
SEARCH_STEPS = 200  # of L-BFGS, for the best constant output


def class_axis(output: Tensor, y: Tensor) -> int | None:
    """The axis of classes in outputs for integer targets; None if the shapes fit no classes.

    >>> class_axis(torch.zeros(8, 5), torch.zeros(8).long())
    1
    >>> class_axis(torch.zeros(8, 20, 5), torch.zeros(8, 20).long())
    2
    """
    if y.is_floating_point() or output.dim() != y.dim() + 1:
        return None
    if output.shape[:1] == y.shape[:1] and output.shape[2:] == y.shape[1:]:
        return 1
    return output.dim() - 1 if output.shape[:-1] == y.shape else None


def is_binary(y: Tensor) -> bool:
    """True for targets that are all 0 or 1."""
    return bool(((y == 0) | (y == 1)).all())


def scored(loss_fn: Loss, output: Tensor, y: Tensor) -> Tensor:
    """True for each target that is scored (the shape of y): all up to the last that counts.

    A target counts if its outputs have a gradient in the loss.
    """
    every = torch.ones(y.shape, dtype=torch.bool, device=y.device)
    axis = class_axis(output, y)
    if y.dim() < 2 or (axis is None and output.shape != y.shape):
        return every
    with torch.enable_grad():
        z = output.detach().clone().requires_grad_()
        (slope,) = torch.autograd.grad(loss_fn(z.clone(), y), z, materialize_grads=True)
    counts = slope.abs().sum(axis) > 0 if axis is not None else slope != 0
    if counts.all() or not counts.any():
        return every
    frames = 1 if counts.dim() == 2 or axis is not None else counts.dim() - 2
    later = counts.flip(frames).long().cumsum(frames).flip(frames)
    return later > 0


@dataclass
class Score:
    """The error of outputs, comparable across losses, units and outputs; made by `score_of`."""

    kind: str
    """ "classes", "signs", "bits", "numbers" or "loss"."""
    axis: int
    """Of the examples in y."""
    loss_fn: Loss
    """Of the training, by which targets are left out and by which a "loss" is scored."""
    constant: Tensor | None = None
    """The best constant answer: a class, or a number for each unit."""
    logits: bool = False
    """Whether outputs of bits are logits; else they are probabilities."""
    weights: Tensor | None = None
    """(K,) of the classes; None: all alike."""
    least: float = 0.0
    """The least free loss of a score by the loss; 0 of all others."""
    size: float = 1.0
    """Mean error of the constant, above `least`."""

    def errors(self, output: Tensor, y: Tensor) -> Tensor:
        """Errors (B,) of the examples that have a target; (1,) of a score by the loss."""
        if self.kind == "loss":
            with torch.no_grad():
                return (self.loss_fn(output, y) - self.least).reshape(1).double()
        counts = torch.ones_like(y, dtype=torch.bool)
        if self.kind != "numbers":
            counts = scored(self.loss_fn, output, y)
        return self._of_examples(self.answers(output, y), y, counts)

    def answers(self, output: Tensor, y: Tensor) -> Tensor:
        """The classes, signs or numbers (the shape of y) that outputs stand for."""
        output = output.detach()
        if self.kind == "classes":
            return output.argmax(class_axis(output, y))
        z = output.reshape(y.shape).double()
        if self.kind == "bits":
            return z.sigmoid() if self.logits else z.clamp(0, 1)
        if self.kind == "signs":
            between = bool((z >= 0).all() and (z <= 1).all())
            return (z > (0.5 if between else 0.0)).double()
        return z

    def _of_examples(self, answers: Tensor, y: Tensor, counts: Tensor) -> Tensor:
        """(B,) mean errors of answers over the targets of an example that count."""
        if self.kind in ("numbers", "bits"):
            wrong = (answers - y.double()).square()
        else:
            wrong = (answers != y).double()
            counts = counts & (y >= 0)
        if self.weights is not None:
            wrong = wrong * self.weights[y.long().clamp_min(0)]
        wrong = wrong.masked_fill(~counts, math.nan)
        rows = wrong.movedim(self.axis, 0).flatten(1).nanmean(1) if y.dim() > 1 else wrong
        return rows[~rows.isnan()]

    def of_constant(self, y: Tensor) -> Tensor:
        """Errors (B,) of the best constant answer."""
        assert self.constant is not None
        every = torch.ones_like(y, dtype=torch.bool)
        return self._of_examples(self.constant.to(y.device).expand(y.shape), y, every)

    def relative(self, errors: Tensor) -> float:
        """Mean error relative to that of the best constant; infinite if it is not finite."""
        value = float(errors.mean()) / self.size
        return value if math.isfinite(value) else math.inf

    def balanced(self, targets: list[Tensor]) -> "Score | None":
        """The score with all classes alike, if one class has more than half of the targets."""
        if self.kind not in ("classes", "signs"):
            return None
        known = torch.cat([y.flatten() for y in targets]).long()
        shares = torch.bincount(known[known >= 0]).double()
        shares = shares / shares.sum()
        if len(shares) < 2 or shares.max() <= 0.5:
            return None
        weights = torch.where(shares > 0, 1 / (shares * (shares > 0).sum()), 0.0)
        other = replace(self, weights=weights)
        other.size = max(float(torch.cat([other.of_constant(y) for y in targets]).mean()), TINY)
        return other


def score_of(loss_fn: Loss, output: Tensor, pairs: list, axis: int) -> Score:
    """The score for outputs like those of the first pair (x, y), its constant the best on all."""
    targets = [y for _, y in pairs]
    kind = kind_of(output, targets[0])
    if kind == "numbers" and not compares_numbers(loss_fn, output, targets[0]):
        kind = "loss"
    score = Score(kind, axis, loss_fn)
    if score.kind == "loss":
        return _by_loss(score, output, targets)
    score.constant = best_constant(score.kind, targets)
    score.logits = score.kind == "bits" and takes_logits(loss_fn, output, targets[0])
    score.size = max(float(torch.cat([score.of_constant(y) for y in targets]).mean()), TINY)
    return score


def compares_numbers(loss_fn: Loss, output: Tensor, y: Tensor) -> bool:
    """True if a loss has its least value where outputs equal the targets, and counts all of them.

    Not of soft labels, rates of a Poisson distribution, quantiles, or targets that are masked.
    """
    noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(0)).to(y)
    try:
        with torch.enable_grad():
            at, above, below = (
                slope_at(loss_fn, (y + sign * noise).reshape(output.shape).to(output), y)
                for sign in (0, 1, -1)
            )
    except USERS_FAULT:  # of a loss that takes outputs of some range only
        return True
    size = max(float(above.abs().max()), float(below.abs().max()))
    counted = bool(((above != 0) | (below != 0)).all())
    return counted and math.isfinite(size) and float(at.abs().max()) <= EQUAL * size


def slope_at(loss_fn: Loss, output: Tensor, y: Tensor) -> Tensor:
    """The gradient of a loss in outputs."""
    z = output.detach().clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss_fn(z.clone(), y), z, materialize_grads=True)
    return slope


def loss_score(loss_fn: Loss, output: Tensor, pairs: list, axis: int) -> Score:
    """The score by the loss itself, also of outputs for which there is another one."""
    return _by_loss(Score("loss", axis, loss_fn), output, [y for _, y in pairs])


def _by_loss(score: Score, output: Tensor, targets: list[Tensor]) -> Score:
    """The score by the loss, between the least free one and that of the best constant."""
    alike = [y for y in targets if y.shape == targets[0].shape]

    def of_all(z: Tensor, _: Tensor) -> Tensor:
        return torch.stack([score.loss_fn(z.clone(), y).reshape(()) for y in alike]).mean()

    constant = free_loss(of_all, output, alike[0], constant=True)
    least = sum(free_loss(score.loss_fn, output, y) for y in alike) / len(alike)
    if not math.isfinite(least):  # it falls without end
        least = constant - max(abs(constant), 1.0)
    score.least, score.size = least, max(constant - least, TINY)
    return score


def best_constant(kind: str, targets: list[Tensor]) -> Tensor:
    """The commonest class, the commoner sign of each output, or its mean."""
    if kind == "classes":
        known = torch.cat([y.flatten() for y in targets])
        return known[known >= 0].mode().values
    rows = [y.double().flatten(0, -2) if y.dim() > 1 else y.double() for y in targets]
    mean = torch.cat(rows).mean(0)
    return (mean > 0.5).double() if kind == "signs" else mean


def takes_logits(loss_fn: Loss, output: Tensor, y: Tensor) -> bool:
    """True if a loss applies a softmax or a sigmoid to outputs."""
    with torch.enable_grad():
        z = output.detach().clone().requires_grad_()
        names = {operation(node) for node in graph(loss_fn(z.clone(), y))}
    return bool(names & {"LogSoftmax", "BinaryCrossEntropyWithLogits", "LogSigmoid", "Sigmoid"})


def kind_of(output: Tensor, y: Tensor) -> str:
    """The kind of a `Score`, by which outputs are compared with targets."""
    if class_axis(output, y) is not None and output.numel() > y.numel():
        return "classes"
    if output.numel() != y.numel():
        return "loss"
    if is_binary(y):
        return "bits" if y.dim() > 1 and y.shape[-1] > 1 and y.is_floating_point() else "signs"
    return "numbers" if y.is_floating_point() else "loss"


def least(loss: Callable[[Tensor], Tensor], start: Tensor) -> tuple[float, Tensor]:
    """(The least loss that L-BFGS finds from a start, its last point).

    The loss is -inf, and the end not finite, if there is no least value.
    """
    z = start.detach().clone().requires_grad_()
    search = torch.optim.LBFGS([z], max_iter=SEARCH_STEPS, line_search_fn="strong_wolfe")
    found = [math.inf]

    def closure() -> Tensor:
        search.zero_grad()
        value = loss(z).reshape(())
        value.backward()
        found.append(value.item())
        return value

    try:
        search.step(closure)
    except USERS_FAULT:  # an overflow of a loss without a least value
        return -math.inf, torch.full_like(start, math.nan)
    finite = [value for value in found if math.isfinite(value)]
    return (min(finite) if finite else math.nan), z.detach()


def canonical_loss(output: Tensor, y: Tensor) -> Loss | None:
    """The usual loss for outputs and targets; None where the shapes leave it open.

    Outputs between 0 and 1 that sum to 1, or lie between 0 and 1, are taken for probabilities.
    """
    kind = kind_of(output, y)
    if kind == "classes":
        return _of_classes
    if kind in ("signs", "bits"):
        return _of_signs
    if kind == "numbers":
        return _of_numbers
    return None


def _of_classes(output: Tensor, y: Tensor) -> Tensor:
    axis = class_axis(output, y)
    logs = _log_probabilities(output.movedim(-1 if axis is None else axis, -1))
    return F.nll_loss(logs.flatten(0, -2), y.flatten().long())


def _of_signs(output: Tensor, y: Tensor) -> Tensor:
    z, y = output.reshape(y.shape), y.to(output.dtype)
    if z.min() >= 0 and z.max() <= 1:
        return F.binary_cross_entropy(z.clamp(1e-7, 1 - 1e-7), y)
    return F.binary_cross_entropy_with_logits(z, y)


def _of_numbers(output: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(output.reshape(y.shape), y.to(output.dtype))


@with_gradients()
def free_loss(
    loss_fn: Loss,
    output: Tensor,
    y: Tensor,
    final: Callable[[Tensor], Tensor] | None = None,
    *,
    constant: bool = False,
) -> float:
    """The least loss of outputs final(z), with z free or constant over examples and frames.

    final: None for none; the search then begins at the outputs. -inf: there is no least value.
    """
    axis = class_axis(output, y)
    units = (output.dim() - 1 if axis is None else axis) if output.dim() > 1 else None
    start = output.detach() if final is None else torch.zeros_like(output)
    if constant:
        start = start.mean([a for a in range(output.dim()) if a != units], keepdim=True)

    def loss(z: Tensor) -> Tensor:
        whole = z.expand(output.shape).clone()
        return loss_fn(whole if final is None else final(whole), y)

    return least(loss, start)[0]


def weighted_loss(output: Tensor, y: Tensor, weights: Tensor) -> Tensor:
    """The usual loss of classes or signs with weights (K,) of the classes."""
    axis = class_axis(output, y)
    if axis is None:
        z, target = output.reshape(y.shape), y.to(output.dtype)
        of_each = weights.to(z)[y.long()]
        if z.min() >= 0 and z.max() <= 1:
            return F.binary_cross_entropy(z.clamp(1e-7, 1 - 1e-7), target, of_each)
        return F.binary_cross_entropy_with_logits(z, target, of_each)
    logs = _log_probabilities(output.movedim(axis, -1)).flatten(0, -2)
    return F.nll_loss(logs, y.flatten().long(), weights.to(logs))


def _log_probabilities(z: Tensor) -> Tensor:
    """Logarithms of probabilities (..., K), from these or from logits."""
    if z.min() >= 0 and z.max() <= 1 and torch.allclose(z.sum(-1), z.new_ones(()), atol=1e-3):
        return z.clamp_min(1e-7).log()
    return z.log_softmax(-1)


def operation(node: Any) -> str:
    """Name of a node of autograd: "Softmax"."""
    return node.name().rsplit("::", 1)[-1].rstrip("0123456789").removesuffix("Backward")


def graph(tensor: Tensor) -> list[Any]:
    """The nodes of autograd behind a tensor."""
    found, waiting = dict[Any, None](), [tensor.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found:
            found[node] = None
            waiting += [following for following, _ in node.next_functions]
    return list(found)
