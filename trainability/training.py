"""A training run in place: its steps, and its errors on held-out examples.

    run = TrainingRun(model=model, loss_fn=loss_fn, optimizer=optimizer, ...)
    losses = train_run(run, steps=400, seed=0)
    held.errors(run)                        # (E,), with mean 1 for the constant predictor

Rows change a run by `dataclasses.replace`, and its objects in place; a `Snapshot` undoes this.

Legend: E held-out examples, or minibatches of them for a raw loss.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from rhn.errors import InvalidInputError, UsersCodeError
from rhn.utils.validation import signature_of
from trainability.data import Data, Examples, groups_of
from trainability.layout import Layout
from trainability.scores import (
    CLASSES,
    NUMBERS,
    RAW,
    Score,
    UsersLoss,
    all_if_none,
    main_output,
    mask_of,
)
from trainability.snapshot import seed_all

ROUNDINGS = 64  # of the largest output: a sum of some thousand terms in another order
BLOCKS = 8  # minibatches of a raw loss, at least: a standard error needs several numbers

FAILS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError,
         ValueError, UsersCodeError)  # fmt: skip
"""Errors of a model or loss on inputs that it was not written for. What they keep from being
measured is `-`.
"""


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """All parts of a training run. x, y and all that is compared have examples along axis 0."""

    model: nn.Module
    loss_fn: Callable[[Any, Tensor], Tensor]
    optimizer: torch.optim.Optimizer
    scheduler: Any
    data: Data
    score: Score
    clip_norm: float | None = None
    predict: Callable[[Any], Tensor] | None = None
    shuffle: bool = True
    factor: float = 1.0
    """Factor of the learning rate of every step."""
    change_x: Callable[[Any], Any] | None = None
    """What is done to x before the model reads it."""
    shift: Tensor | float = 0.0
    """Of targets: the run is trained on (y - shift) / scale."""
    scale: Tensor | float = 1.0
    usual: bool = False
    """True if the usual loss replaces the user's."""
    last: str = ""
    """The last operation of the model."""
    on_step: Callable[[], None] = lambda: None
    """Called after each step of a training."""

    @property
    def layout(self) -> Layout:
        """Where the user's model and loss want the examples."""
        return self.data.layout

    @property
    def users_loss(self) -> UsersLoss:
        """The user's loss of outputs and targets."""
        return UsersLoss(self.loss_fn, self.layout)

    @property
    def takes_logits(self) -> bool:
        """True if the loss of the run applies a softmax or a sigmoid."""
        if self.usual:
            return self.last not in ("Sigmoid", "Softmax")
        return self.score.takes_logits

    def output(self, x: Any) -> Any:
        """Return what the model returns for x."""
        x = x if self.change_x is None else self.change_x(x)
        return model_output(self.model, self.layout.to_model(x))

    def main(self, output: Any) -> Tensor:
        """Return the part of an output that is compared with y."""
        return self.layout.examples_first((self.predict or main_output)(output))

    def loss(self, output: Any, y: Tensor) -> Tensor:
        """Return the loss of outputs for targets of a minibatch."""
        y = self._scaled(y)
        if self.usual:
            return self.score.usual(self.main(output), y, self.last)
        return self.users_loss(output, y)

    def _scaled(self, y: Tensor) -> Tensor:
        if not isinstance(self.shift, Tensor):
            return y
        scaled = (y - self.shift) / self.scale
        if self.score.ignored is None:
            return scaled
        return torch.where(self.score.counts(y), scaled, y)

    def guess(self, output: Any, y: Tensor) -> Tensor:
        """Return the predictions in the shape of y."""
        guess = self.score.guess(self.main(output), y, logits=self.takes_logits)
        return guess * self.scale + self.shift if self.score.kind == NUMBERS else guess


def model_output(model: nn.Module, x: Any) -> Any:
    """Return the output of a model for x: model(*x) for a tuple. A dictionary is passed by name if
    `forward` has its names, and as one argument otherwise.
    """
    if isinstance(x, Mapping):
        known = signature_of(model.forward).parameters
        named = x.keys() <= known.keys() or any(p.kind is p.VAR_KEYWORD for p in known.values())
        return model(**x) if named else model(x)
    return model(*x) if isinstance(x, tuple) else model(x)


def train_run(
    run: TrainingRun,
    steps: int,
    seed: int,
    *,
    before: Callable[[int, Any, Tensor, Tensor], None] | None = None,
    after: Callable[[int, float], bool] | None = None,
) -> list[float]:
    """Train in place; return the loss of each step, which ends when weights are not finite.

    seed: shuffle seed, and seed of all random states. before: called with (step, x, y, rows) before
    each step, counted from 1. after: called with (step, loss) before the optimiser changes weights;
    returns True if the step has a number that is not finite.
    """
    seed_all(seed)
    if not run.model.training:
        run.model.train()
    losses = list[float]()
    for step, (x, y, rows) in enumerate(run.data.minibatches(seed, shuffle=run.shuffle), 1):
        if step > steps:
            break
        if before is not None:
            before(step, x, y, rows)
        run.optimizer.zero_grad()
        loss = run.loss(run.output(x), y)
        loss.backward()
        if run.clip_norm is not None:
            nn.utils.clip_grad_norm_(run.model.parameters(), run.clip_norm)
        losses.append(loss.item())
        bad = not math.isfinite(losses[-1])
        if after is not None:
            bad = after(step, losses[-1])
        optimizer_step(run)
        if bad and not weights_are_finite(run):
            break
        if run.scheduler is not None:
            run.scheduler.step()
        run.on_step()
    return losses


def weights_are_finite(run: TrainingRun) -> bool:
    """True if all weights of the model and all those that the optimiser trains are finite."""
    held = [p for group in run.optimizer.param_groups for p in group["params"]]
    return all(bool(p.isfinite().all()) for p in [*run.model.parameters(), *held])


def entries_of(t: Tensor) -> Tensor:
    """Return the entries of a tensor; of a sparse one those that it stores."""
    return t.coalesce().values() if t.is_sparse else t


def first_rate(optimizer: torch.optim.Optimizer) -> float:
    """The learning rate of the first parameter group; NaN if the optimiser has none."""
    rate = optimizer.param_groups[0].get("lr")
    return math.nan if rate is None else float(rate)


def optimizer_step(run: TrainingRun) -> None:
    """One step of the optimiser, with all rates multiplied by the factor."""
    if run.factor == 1:
        run.optimizer.step()
        return
    rates = [group["lr"] for group in run.optimizer.param_groups]
    for group in run.optimizer.param_groups:
        group["lr"] = group["lr"] * run.factor
    run.optimizer.step()
    for group, rate in zip(run.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


@dataclass(frozen=True)
class Held:
    """Held-out examples, and the errors of the constant predictor on them."""

    examples: Examples
    size: int
    """Examples of a minibatch."""
    mask: Tensor
    """Targets that the user's loss counts."""
    constant: Tensor = field(default_factory=lambda: torch.ones(1))
    """Errors of the constant predictor, (E,), with mean 1; empty for a raw loss."""
    groups: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.long))
    """The group of equal rows of x to which each error belongs, (E,)."""
    unit: float = 1.0
    """The mean error of the constant predictor, by which all errors are divided."""

    @torch.no_grad()
    def errors(
        self, run: TrainingRun, *, size: int | None = None, training: bool = False
    ) -> Tensor:
        """Return the relative error of each example, (E,); for a raw loss the loss of each
        minibatch.

        size: examples of a minibatch, if not as in training; not of a raw loss. training: whether
        the model is in training mode.
        """
        run.model.train(training)
        if run.score.kind == RAW:
            return self._losses(run)
        found, start = list[Tensor](), 0
        for x, y, count in self.examples.in_order(size or self.size):
            output = run.output(x)
            mask = self.mask[torch.arange(start, start + len(y)) % len(self.mask)]
            each = run.score.errors(run.guess(output, y), y, mask)
            broken = run.main(output).isnan().reshape(len(y), -1).any(1).cpu()
            found.append(torch.where(broken, torch.inf, each)[:count])
            start += count
        return torch.cat(found) / self.unit

    def _losses(self, run: TrainingRun) -> Tensor:
        batches = self.examples.in_order(self.size)
        each = [run.loss(run.output(x), y).double().cpu() for x, y, n in batches if n == self.size]
        losses = torch.stack(each)
        return torch.where(losses.isnan(), torch.inf, losses)


def held_of(run: TrainingRun, examples: Examples) -> Held:
    """Prepare held-out examples: masks by the slopes of the loss, and the constant predictor."""
    score, size, masks = run.score, run.data.batch_size, list[Tensor]()
    groups, _ = groups_of(examples)
    if score.kind == RAW:
        order, size = groups.argsort(stable=True), max(1, min(size, len(examples) // BLOCKS))
        of_minibatches = groups_of_minibatches(groups[order], size)
        nothing = torch.tensor([])
        return Held(examples.part(order), size, nothing, nothing, of_minibatches)
    loss = run.users_loss if run.predict is None else None
    for x, y, count in examples.in_order(size):
        with torch.no_grad():
            output = run.output(x)
        masks.append(mask_of(score, loss, output, run.main(output), y)[:count])
    mask, targets = all_if_none(torch.cat(masks)), examples.y
    if score.kind == CLASSES and not torch.isin(targets[mask], score.targets).any():
        raise InvalidInputError(
            "no held-out class is one that is trained on: expected held-out targets of such a class"
        )
    each = score.of_constant(targets, mask)
    unit = float(each.mean())
    if not unit:
        raise InvalidInputError("the held-out targets are equal: expected targets that differ")
    return Held(examples, size, mask, each / unit, groups, unit)


def groups_of_minibatches(groups: Tensor, size: int) -> Tensor:
    """Return the group to which each minibatch belongs; those that share a group belong to one.

    groups: the groups of examples, in their order.

    >>> groups_of_minibatches(torch.tensor([0, 1, 1, 2, 3, 3, 4]), 2)
    tensor([0, 0, 1])
    """
    batches = groups[: len(groups) // size * size].reshape(-1, size)
    begins = batches[1:, 0] != batches[:-1, -1]
    return torch.cat([begins.new_zeros(1, dtype=torch.long), begins.long().cumsum(0)])


def raised_by(tried: str, error: Exception) -> UsersCodeError:
    """Return the error of the user's code, with the first line of its message."""
    return UsersCodeError(f"{tried} raised {reason_of(error)}")


def reason_of(error: Exception) -> str:
    """Return the class of an error and the first line of its message."""
    first = str(error).split("\n")[0]
    return f"{type(error).__name__}: {first}"


def differs(one: Tensor, other: Tensor) -> Tensor:
    """Return where two tensors differ by more than rounding, as booleans."""
    if not one.is_floating_point():
        return one != other
    one, other = one.nan_to_num(), other.nan_to_num()
    room = ROUNDINGS * torch.finfo(one.dtype).eps * one.abs().amax()
    return (one - other).abs() > room
