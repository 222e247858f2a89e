"""One score for all losses: the error of outputs, 0 perfect, 1 the best constant.

    score = score_of(loss_fn, output, pairs, axis)   # how outputs are compared with targets
    score.errors(output, y)                          # (B,), of each example
    score.relative(errors)                           # their mean, relative to the best constant
    score.in_pairs(outputs, targets).below()         # are they below the constant's, in pairs?

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

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gersgorin._validate import with_gradients
from gersgorin.losses import Loss
from rhn.errors import USERS_FAULT

EQUAL = 1e-3  # slope at equal outputs and targets, relative to that beside them: rounding
DEVIATIONS = 2.0  # standard errors by which errors differ
BELOW = 1e-3  # of the constant's loss: more below the least one is no rounding
SETTLED = 1e-3  # of a loss below 0: if a second search gains more, it falls without end
MOST_NATS = 700.0  # whose exponential is finite
BLOCKS = 40  # parts of the frames of a few long sequences
FEW, MINIBATCHES = 512, 16  # examples, and minibatches, to which a constant output is fitted
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


@dataclass(frozen=True)
class PairedErrors:
    """Errors of held-out examples beside those of the best constant, pair by pair.

    >>> found = PairedErrors(torch.full((40,), 0.5), torch.ones(40))
    >>> found.relative, found.below(), found.above(0.4), found.count
    (0.5, True, True, 40)
    """

    errors: Tensor
    """(E,)"""
    constant: Tensor
    """(E,) of the best constant on the same examples."""
    void: bool = False
    """Whether errors are a loss less that of the constant: there is no least one."""

    @property
    def count(self) -> int:
        """E."""
        return len(self.errors)

    @property
    def relative(self) -> float:
        """Mean error relative to that of the constant; infinite if it is not finite."""
        if self.void:
            value = math.exp(min(float((self.errors - self.constant).mean()), MOST_NATS))
        else:
            value = float(self.errors.mean()) / self._size
        return value if math.isfinite(value) else math.inf

    @property
    def _size(self) -> float:
        return 1.0 if self.void else max(float(self.constant.mean()), TINY)

    def difference(self, level: float = 1.0) -> tuple[float, float]:
        """(Mean, standard error) of errors minus `level` times those of the constant, relative to
        the mean error of the constant.
        """
        d = (self.errors - level * self.constant) / self._size
        if not d.isfinite().all():
            return math.inf, 0.0
        return float(d.mean()), float(d.std()) / math.sqrt(len(d)) if len(d) > 1 else math.inf

    def below(self, level: float = 1.0) -> bool:
        """True if errors lie below a share of the constant's by two standard errors."""
        mean, deviation = self.difference(level)
        return mean + DEVIATIONS * deviation < 0

    def above(self, level: float) -> bool:
        """True if errors lie above a share of the constant's by two standard errors; of a void
        score never.
        """
        if self.void:
            return False
        mean, deviation = self.difference(level)
        return mean - DEVIATIONS * deviation > 0


@dataclass
class Score:
    """The error of outputs, comparable across losses, units and outputs; made by `score_of`."""

    kind: str
    """ "classes", "signs", "bits", "numbers", "entropy" or "loss"."""
    axis: int
    """Of the examples in y."""
    loss_fn: Loss
    """Of the training, by which targets are left out and by which a "loss" is scored."""
    constant: Tensor | None = None
    """The best constant: a class, or a number for each unit; of a "loss" an output, of the
    "entropy" logarithms of the shares of the classes."""
    logits: bool = False
    """Whether outputs of signs and bits are logits: the threshold is 0, otherwise 0.5."""
    weights: Tensor | None = None
    """(K,) of the classes; None: all alike."""
    least: float = 0.0
    """The least free loss of a score by the loss; 0 of all others, -inf if there is none."""
    size: float = 1.0
    """Mean error of the constant, above `least`."""
    level: float = 0.0
    """What is subtracted from a loss: `least`, or the loss of the constant if there is none."""
    by_example: bool = True
    """Whether the loss of a minibatch is the mean of those of its examples."""
    blocks: int = 1
    """Parts of the frames of an example that count as an example each: of a few long sequences."""
    void: str = ""
    """Why relative errors of this score are no errors between 0 and 1; "" if they are."""

    def errors(self, output: Tensor, y: Tensor) -> Tensor:
        """Errors (B,) of the examples that have a target; (1,) of a loss that is no mean of theirs.

        Of a few long sequences (B x blocks,).
        """
        output = output.detach()
        if self.kind == "loss":
            return self._losses(output, y) - self.level
        counts = torch.ones_like(y, dtype=torch.bool)
        if self.kind != "numbers":
            counts = scored(self.loss_fn, output, y)
        if self.kind == "entropy":
            return self._means(-self._logs(output, y), counts & (y >= 0))
        return self._of_examples(self.answers(output, y), y, counts)

    def of_constant(self, y: Tensor, output: Tensor | None = None) -> Tensor:
        """Errors of the best constant, for the same examples as `errors` if outputs are given."""
        assert self.constant is not None
        counts = torch.ones_like(y, dtype=torch.bool)
        if self.kind == "loss":
            assert output is not None
            return self._losses(self.constant.expand(output.shape), y) - self.level
        if output is not None and self.kind != "numbers":
            counts = scored(self.loss_fn, output, y)
        constant = self.constant.to(y.device)
        if self.kind == "entropy":
            return self._means(-constant[y.long().clamp(0, len(constant) - 1)], counts & (y >= 0))
        return self._of_examples(constant.expand(y.shape), y, counts)

    def in_pairs(self, outputs: list[Tensor], targets: list[Tensor]) -> PairedErrors:
        """Errors of outputs for minibatches beside those of the constant."""
        pairs = list(zip(outputs, targets, strict=True))
        errors = torch.cat([self.errors(z, y) for z, y in pairs])
        constant = torch.cat([self.of_constant(y, z) for z, y in pairs])
        return PairedErrors(errors, constant, void=self.least == -math.inf)

    def _losses(self, output: Tensor, y: Tensor) -> Tensor:
        """Losses (B,) of the examples; (1,) of the minibatch if it is no mean of them."""
        with torch.no_grad():
            if self.by_example:
                return losses_of_examples(self.loss_fn, output, y, self.axis)
            return self.loss_fn(output.clone(), y).reshape(1).double()

    def _logs(self, output: Tensor, y: Tensor) -> Tensor:
        """Logarithms of the probabilities of the classes y (the shape of y)."""
        axis = class_axis(output, y)
        logs = _log_probabilities(output.movedim(-1 if axis is None else axis, -1)).double()
        return logs.gather(-1, y.long().clamp_min(0).unsqueeze(-1)).squeeze(-1)

    def answers(self, output: Tensor, y: Tensor) -> Tensor:
        """The classes, signs or numbers (the shape of y) that outputs stand for."""
        output = output.detach()
        if self.kind == "classes":
            return output.argmax(class_axis(output, y))
        z = output.reshape(y.shape).double()
        if self.kind == "bits":
            return z.sigmoid() if self.logits else z.clamp(0, 1)
        if self.kind == "signs":
            return (z > (0.0 if self.logits else 0.5)).double()
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
        return self._means(wrong, counts)

    def _means(self, values: Tensor, counts: Tensor) -> Tensor:
        """(B,) means over the targets of an example that count, of those that have one."""
        values = values.masked_fill(~counts, math.nan)
        if values.dim() < 2:
            return values[counts]
        by_row = values.movedim(self.axis, 0)
        parts = by_row.tensor_split(self.blocks, 1) if self.blocks > 1 else (by_row,)
        means = torch.cat([part.flatten(1).nanmean(1) for part in parts])
        has = torch.cat(
            [c.flatten(1).any(1) for c in _split(counts.movedim(self.axis, 0), self.blocks)]
        )
        return means[has]

    def relative(self, errors: Tensor) -> float:
        """Mean error relative to that of the best constant; infinite if it is not finite, or if a
        loss is below its supposed least value.

        Of a loss without a least value exp(loss - loss of the constant): 1 for the constant, 0 for
        a loss that falls without end.
        """
        value = float(errors.mean())
        if not math.isfinite(value):
            return math.inf
        if self.least == -math.inf:
            return math.exp(min(value, MOST_NATS))
        value /= self.size
        if value < -BELOW:
            self.void = "the loss falls below what was found as its least value"
        return max(value, 0.0) if not self.void else math.inf

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


def _split(values: Tensor, blocks: int) -> tuple[Tensor, ...]:
    return values.tensor_split(blocks, 1) if blocks > 1 else (values,)


def losses_of_examples(loss_fn: Loss, output: Tensor, y: Tensor, axis: int) -> Tensor:
    """The losses (B,) of minibatches of one example each."""
    pairs = zip(
        output.split(1, _output_axis(output, y, axis)),
        y.split(1, axis if axis < y.dim() else 0),
        strict=True,
    )
    return torch.stack([loss_fn(z.clone(), t).reshape(()).double() for z, t in pairs])


def _output_axis(output: Tensor, y: Tensor, axis: int) -> int:
    """The axis of the examples in outputs."""
    fits = [a for a in (axis, 0, 1) if a < output.dim() and output.shape[a] == _count(y, axis)]
    return fits[0] if fits else 0


def _count(y: Tensor, axis: int) -> int:
    return y.shape[axis if axis < y.dim() else 0]


def _constants(
    constant: Tensor, output: Tensor, y: Tensor, targets: list[Tensor], axis: int
) -> list[Tensor]:
    """A constant as outputs for each of some targets; output, y: a pair that shows the shapes."""
    place, shapes = _output_axis(output, y, axis), list[list[int]]()
    for other in targets:
        shape = list(output.shape)
        if shape and shape[place] == _count(y, axis):
            shape[place] = _count(other, axis)
        shapes.append(shape)
    return [constant.expand(shape) for shape in shapes]


def is_mean_of_examples(loss_fn: Loss, output: Tensor, y: Tensor, axis: int) -> bool:
    """True if the loss of a minibatch is the mean of the losses of its examples."""
    if output.dim() == 0 or y.dim() == 0:
        return False
    noise = torch.randn(output.shape, generator=torch.Generator().manual_seed(0)).to(output)
    try:
        with torch.no_grad():
            for z in (output, output + 0.1 * noise):
                each = losses_of_examples(loss_fn, z, y, axis)
                whole = loss_fn(z.clone(), y).reshape(()).double()
                if not torch.isclose(each.mean(), whole, rtol=1e-4, atol=1e-8):
                    return False
    except USERS_FAULT:  # of a loss that needs several examples
        return False
    return True


def scores_of(
    loss_fn: Loss,
    output: Tensor,
    pairs: list,
    axis: int,
    trained: list[Tensor] | None = None,
    *,
    in_time: bool = False,
) -> dict[str, Score]:
    """The scores of a training by name.

    "error" is that of `score_of`. "balanced" counts all classes alike, if one has more than half of
    the targets. "loss" is the cross entropy of classes; of all else the loss of the training, if
    it is not the error itself.

    Args:
        loss_fn: of the training. output: for the first of the pairs (x, y), which are held out.
        axis: of the examples in y.
        trained: the targets that are trained on, to which the constant is fitted; None: those of
            the pairs.
        in_time: whether the pairs are a few long sequences.
    """
    first = score_of(loss_fn, output, pairs, axis, trained, in_time=in_time)
    targets = [y for _, y in pairs]
    scores = {"error": first}
    if balanced := first.balanced(targets):
        scores["balanced"] = balanced
    if first.kind == "classes":
        scores["loss"] = _entropy(first, output, targets, trained or targets)
    elif first.kind != "loss" and not _is_error(first, output, targets[0]):
        scores["loss"] = loss_score(loss_fn, output, pairs, axis, trained)
    return scores


def loss_score(
    loss_fn: Loss, output: Tensor, pairs: list, axis: int, trained: list[Tensor] | None = None
) -> Score:
    """The score by the loss itself, also of outputs for which there is another one.

    trained: see `scores_of`.
    """
    targets = [y for _, y in pairs]
    return _by_loss(Score("loss", axis, loss_fn), output, targets, trained or targets)


def _entropy(first: Score, output: Tensor, targets: list[Tensor], trained: list[Tensor]) -> Score:
    """The cross entropy, relative to that of the shares of the classes."""
    axis = class_axis(output, targets[0])
    known = torch.cat([y.flatten() for y in trained])
    shares = torch.bincount(known[known >= 0].long(), minlength=output.shape[axis or -1]).double()
    other = replace(first, kind="entropy", weights=None)
    other.constant = ((shares + 0.5) / (shares + 0.5).sum()).log()
    other.size = max(float(torch.cat([other.of_constant(y) for y in targets]).mean()), TINY)
    return other


def _is_error(score: Score, output: Tensor, y: Tensor) -> bool:
    """True if the loss of each example is its error, but for a factor."""
    if not is_mean_of_examples(score.loss_fn, output, y, score.axis) or score.kind == "signs":
        return False
    noise = torch.randn(output.shape, generator=torch.Generator().manual_seed(0)).to(output)
    errors = score.errors(output + noise, y)
    losses = losses_of_examples(score.loss_fn, output + noise, y, score.axis)
    alike = errors.shape == losses.shape
    return alike and torch.allclose(losses / losses.mean(), errors / errors.mean(), rtol=1e-3)


def score_of(
    loss_fn: Loss,
    output: Tensor,
    pairs: list,
    axis: int,
    trained: list[Tensor] | None = None,
    *,
    in_time: bool = False,
) -> Score:
    """The score for outputs like those of the first pair (x, y).

    trained, in_time: see `scores_of`.
    """
    targets = [y for _, y in pairs]
    kind = kind_of(output, targets[0])
    if kind == "numbers" and not compares_numbers(loss_fn, output, targets[0]):
        kind = "loss"
    score = Score(kind, axis, loss_fn)
    if score.kind == "loss":
        return _by_loss(score, output, targets, trained or targets)
    score.constant = best_constant(score.kind, trained or targets)
    if score.kind in ("signs", "bits"):
        score.logits = expects_logits(loss_fn, output, targets[0])
    if in_time:
        score.blocks = max(1, BLOCKS // max(1, sum(y.shape[axis] for y in targets)))
    score.size = max(float(torch.cat([score.of_constant(y) for y in targets]).mean()), TINY)
    return score


def expects_logits(loss_fn: Loss, output: Tensor, y: Tensor) -> bool:
    """True if a target of 1 has a lower loss at an output of 3 than at 1: so of logits."""
    ones = torch.ones_like(y)
    try:
        with torch.no_grad():
            far, near = (float(loss_fn(torch.full_like(output, z), ones)) for z in (3.0, 1.0))
    except USERS_FAULT:  # of a loss that takes probabilities only
        return False
    return far < near


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


def _by_loss(score: Score, output: Tensor, targets: list[Tensor], trained: list[Tensor]) -> Score:
    """The score by the loss, between the least free one and that of the best constant."""
    loss_fn, axis = score.loss_fn, score.axis
    score.by_example = is_mean_of_examples(loss_fn, output, targets[0], axis)
    few = _few(trained, targets[0], axis)
    score.constant = constant_output(loss_fn, output, targets[0], few, axis)
    alike = [y for y in targets if y.dim() and y.shape[1:] == targets[0].shape[1:]] or targets[:1]
    outputs = _constants(score.constant, output, targets[0], alike, axis)
    pairs = list(zip(outputs, alike, strict=True))
    least = sum(settled_loss(loss_fn, z, y) for z, y in pairs) / len(pairs)
    of_constant = float(torch.cat([score.of_constant(y, z) for z, y in pairs]).mean())
    if math.isfinite(least):
        score.least = score.level = least
        score.size = max(of_constant - least, TINY)
    else:  # it falls without end
        score.least, score.level = -math.inf, of_constant
        score.void = "the loss has no least value"
    return score


@with_gradients()
def settled_loss(loss_fn: Loss, output: Tensor, y: Tensor) -> float:
    """The least loss of free outputs; -inf if it is below 0, and a longer search falls further."""

    def loss(z: Tensor) -> Tensor:
        return loss_fn(z.clone(), y)

    first, z = least(loss, output)
    further = least(loss, z)[0] if z.isfinite().all() else -math.inf
    falls = further < 0 and first - further > SETTLED * abs(first)
    return -math.inf if falls else min(first, further)


def _few(trained: list[Tensor], like: Tensor, axis: int) -> list[Tensor]:
    """Some of the targets that are trained on, of one shape but for the number of examples."""
    own = axis if axis < like.dim() else 0
    some = [y for y in trained if y.dim() == like.dim() and y.dim()]
    some = [
        y.narrow(own, 0, min(FEW, y.shape[own]))
        for y in some
        if y.movedim(own, 0).shape[1:] == like.movedim(own, 0).shape[1:]
    ]
    return some[:MINIBATCHES] or [like]


def constant_output(
    loss_fn: Loss, output: Tensor, y: Tensor, targets: list[Tensor], axis: int
) -> Tensor:
    """The output (1, ..., K) that is the best one for some targets.

    output, y: a pair that shows the shapes. axis: of the examples in y.
    """
    units = _units_axis(output, y)
    start = output.detach()
    start = start.mean([a for a in range(output.dim()) if a != units], keepdim=True)

    def of_all(z: Tensor) -> Tensor:
        constants = _constants(z, output, y, targets, axis)
        losses = [
            loss_fn(c.clone(), y).reshape(()) for c, y in zip(constants, targets, strict=True)
        ]
        return torch.stack(losses).mean()

    with torch.inference_mode(False), torch.enable_grad():
        value, found = least(of_all, start)
    return found if math.isfinite(value) and found.isfinite().all() else start


def _units_axis(output: Tensor, y: Tensor) -> int | None:
    """The axis of the units in outputs; None: they have none."""
    axis = class_axis(output, y)
    return (output.dim() - 1 if axis is None else axis) if output.dim() > 1 else None


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
    units = _units_axis(output, y)
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
