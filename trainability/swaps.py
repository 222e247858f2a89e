"""Swaps: versions of a training in which one part is a known good one.

Each is a function of a `Training` that returns a changed copy, or None where it does not apply:

    @register_swap("optimizer", "RMSprop 0.001", cause="optimizer", remedy="Use RMSprop.")
    def rmsprop(training):
        other = training.copy()
        other.optimizer = torch.optim.RMSprop(other.model.parameters(), 1e-3)
        return other

The smallest change comes first: where several help alike, the first one is named.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from gersgorin.losses import Loss
from rhn.errors import USERS_FAULT, InvalidInputError
from trainability.data import SAMPLE, WHOLE, Batches, Inputs, in_double, sequence_of, with_sequence
from trainability.losses import canonical_loss, is_binary, kind_of, score_of, weighted_loss
from trainability.race import Version
from trainability.reference import (
    Reference,
    has_output_for_each_frame,
    last_operation,
    predicts_inputs,
)
from trainability.training import Training

PARTS = (
    "inputs",
    "targets",
    "loss",
    "initial weights",
    "optimizer",
    "regularization",
    "order",
    "length",
    "network",
    "everything",
)
"""The parts of a training, the smallest change first."""
RATE = 1e-3  # of Adam


@dataclass(frozen=True, kw_only=True)
class Swap(Version):
    """A change of one part of a training to a known good one.

    >>> swap = Swap(part="optimizer", what="none", apply=lambda training: None)
    >>> swap.part, swap(None) is None
    ('optimizer', True)
    """

    apply: Callable[[Training], Training | None]

    def __call__(self, training: Training) -> Training | None:
        """A changed copy, or None where the swap does not apply."""
        return self.apply(training)


SWAPS: list[Swap] = []
"""All swaps, in the order of the table."""


def register_swap(part: str, what: str, **about: Any) -> Callable[[Callable], Callable]:
    """Decorator that adds a swap: a function of a training that returns a changed copy or None.

    Args:
        part: one of `PARTS`. what: the change in words, for the table.
        about: cause and remedy of the diagnosis if it helps, and further fields of `Version`.

    Raises:
        InvalidInputError: an unknown part.

    >>> @register_swap("optimizer", "RMSprop 0.001")
    ... def rmsprop(training):
    ...     other = training.copy()
    ...     other.optimizer = torch.optim.RMSprop(other.model.parameters(), lr=1e-3)
    ...     return other
    >>> SWAPS.pop().what  # so that later checks do not try it
    'RMSprop 0.001'
    """
    if part not in PARTS:
        raise InvalidInputError(f"part is {part!r}, expected one of {', '.join(PARTS)}")

    def register(apply: Callable[[Training], Training | None]) -> Callable:
        SWAPS.append(Swap(part=part, what=what, apply=apply, **about))
        return apply

    return register


def scale_of(values: Tensor) -> tuple[Tensor, Tensor]:
    """(Mean, standard deviation) of each feature of numbers (..., m); 1 for a constant one.

    >>> scale_of(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
    (tensor([2., 5.]), tensor([1.4142, 1.0000]))
    """
    flat = values.flatten(0, -2) if values.dim() > 1 else values.unsqueeze(1)
    mean, spread = flat.double().mean(0), flat.double().std(0)
    spread = torch.where(spread > 1e-12, spread, 1.0)
    return mean.to(values.dtype), spread.to(values.dtype)


@register_swap(
    "inputs",
    "inputs standardised",
    cause="input scale",
    remedy="Standardise: x = (x - x.mean((0, 1))) / x.std((0, 1)).",
)
def inputs_standardised(training: Training) -> Training | None:
    """Subtract the mean of each feature of the sequence, and divide by its standard deviation."""
    x = sequence_of(training.data.sample(SAMPLE)[0])
    if not x.is_floating_point() or x.dim() < 2:
        return None
    mean, spread = scale_of(x)
    other = training.copy()
    other.change_inputs = lambda x: with_sequence(x, (sequence_of(x) - mean) / spread)
    return other


@register_swap(
    "targets",
    "targets standardised",
    cause="target scale",
    remedy="Standardise: y = (y - y.mean()) / y.std(), and undo it after predicting.",
)
def targets_standardised(training: Training) -> Training | None:
    """Train on standardised targets; outputs are scaled back before they are scored."""
    x, y = training.data.sample(SAMPLE)
    output = output_of_copy(training, x)
    if kind_of(output, y) != "numbers" or is_binary(y):
        return None
    mean, spread = scale_of(y)
    other = training.copy()
    other.change_targets = lambda y: ((y - mean) / spread).reshape(y.shape)
    if len(mean) == 1:
        other.restore_outputs = lambda z: z * spread + mean
    else:
        other.restore_outputs = lambda z: (z.reshape(-1, len(mean)) * spread + mean).reshape(
            z.shape
        )
    return other


@register_swap(
    "loss",
    "the usual loss",
    cause="loss",
    remedy="Use the loss that belongs to the outputs and targets.",
)
def usual_loss(training: Training) -> Training | None:
    """The loss that belongs to outputs and targets: cross entropy, binary, or squared error."""
    x, y = training.data.sample(SAMPLE)
    output = output_of_copy(training, x)
    loss_fn = canonical_loss(output, y)
    if loss_fn is None or is_same_loss(loss_fn, training.loss, output, y):
        return None
    return training.with_loss(loss_fn)


def is_same_loss(one: Loss, other: Loss, output: Tensor, y: Tensor) -> bool:
    """True if two losses have the same gradient in the outputs, in double precision."""
    slopes = []
    for loss in (one, other):
        z = output.double().requires_grad_()
        try:
            with torch.enable_grad():
                (slope,) = torch.autograd.grad(loss(z.clone(), in_double(y)), z)
        except USERS_FAULT:  # of a loss that takes no double precision
            return False
        slopes.append(slope)
    return torch.allclose(slopes[0], slopes[1], rtol=1e-6, atol=1e-12)


@register_swap(
    "loss",
    "rare classes weighted",
    by="balanced",
    cause="class imbalance",
    remedy="Weight the classes in the loss, or draw them equally often: WeightedRandomSampler.",
)
def rare_classes_weighted(training: Training) -> Training | None:
    """The usual loss with each class in inverse proportion to its share of the targets."""
    x, y = training.data.sample(WHOLE)
    output = output_of_copy(training, x)
    score = score_of(training.loss, output, [(x, y)], 0).balanced([y])
    if score is None or score.weights is None:
        return None
    return training.with_loss(partial(weighted_loss, weights=score.weights))


@register_swap(
    "initial weights",
    "torch's initial weights",
    cause="initial weights",
    remedy="Leave the layers the weights that torch.nn gives them.",
)
def default_weights(training: Training) -> Training:
    """Draw the weights of each layer again as torch.nn does, and own matrices likewise."""
    return training.with_default_weights()


def _with_groups(training: Training, **settings: float) -> Training | None:
    """A copy with other settings of all groups of the optimiser; None if nothing changes."""
    other, changed = training.copy(), False
    for group in other.optimizer.param_groups:
        for name, value in settings.items():
            changed |= name in group and group[name] != value
            group.update({name: value} if name in group else {})
    return other if changed else None


@register_swap(
    "optimizer",
    "no weight decay",
    cause="weight decay",
    remedy="Set weight_decay=0.",
)
def without_decay(training: Training) -> Training | None:
    """Set the weight decay to 0."""
    return _with_groups(training, weight_decay=0.0)


@register_swap(
    "optimizer",
    "a constant learning rate",
    late=True,
    cause="schedule",
    remedy="Leave out the scheduler, or let it fall later.",
)
def without_schedule(training: Training) -> Training | None:
    """Leave out the schedule: the rate to which it is relative."""
    if training.scheduler is None:
        return None
    other = training.copy()
    other.scheduler = None
    for group in other.optimizer.param_groups:
        group["lr"] = group.get("initial_lr", group["lr"])
    return other


@register_swap(
    "optimizer",
    "no clipping",
    cause="clip_norm too small",
    remedy="Leave out the clipping, or allow a larger norm.",
)
def without_clipping(training: Training) -> Training | None:
    """Leave out the clipping of gradients."""
    if training.clip_norm is None:
        return None
    other = training.copy()
    other.clip_norm = None
    return other


def _with_rate(training: Training, factor: float) -> Training | None:
    """A copy with all learning rates multiplied, also those of the schedule."""
    other = training.copy()
    for group in other.optimizer.param_groups:
        group["lr"] = group["lr"] * factor
        if "initial_lr" in group:
            group["initial_lr"] = group["initial_lr"] * factor
    if other.scheduler is not None:
        other.scheduler.base_lrs = [rate * factor for rate in other.scheduler.base_lrs]
    return other


@register_swap(
    "optimizer",
    "a tenth of the learning rate",
    cause="learning rate too high",
    remedy="Divide the learning rate by 10.",
)
def tenth_of_rate(training: Training) -> Training | None:
    """Divide the learning rate by ten."""
    return _with_rate(training, 0.1)


@register_swap(
    "optimizer",
    "ten times the learning rate",
    cause="learning rate too low",
    remedy="Multiply the learning rate by 10.",
)
def ten_times_the_rate(training: Training) -> Training | None:
    """Multiply the learning rate by ten."""
    return _with_rate(training, 10.0)


@register_swap(
    "optimizer",
    f"Adam {RATE:g}, clipping 1",
    cause="optimizer",
    remedy="Use Adam at 0.001 on all weights, with gradients clipped at norm 1.",
)
def adam(training: Training) -> Training:
    """Adam on all weights, with clipping at 1, without schedule and decay."""
    other = training.copy()
    other.model.requires_grad_(True)
    other.optimizer = torch.optim.Adam(other.model.parameters(), RATE)
    other.scheduler, other.clip_norm = None, 1.0
    return other


@register_swap(
    "regularization",
    "no dropout",
    cause="dropout",
    remedy="Lower the dropout.",
)
def without_dropout(training: Training) -> Training | None:
    """Set every dropout of torch.nn to 0."""
    other, found = training.copy(), False
    for part in other.model.modules():
        if isinstance(part, _DropoutNd) and part.p:
            part.p, found = 0.0, True
        if isinstance(part, nn.RNNBase) and part.dropout:
            part.dropout, found = 0.0, True
    return other if found else None


@register_swap(
    "order",
    "shuffled minibatches",
    cause="sorted data",
    remedy="Shuffle: DataLoader(..., shuffle=True).",
)
def shuffled(training: Training) -> Training | None:
    """Shuffle the examples of ready-made minibatches that come in one order."""
    if not isinstance(training.data, Batches) or training.data.shuffles:
        return None
    other = training.copy()
    other.data = training.data.shuffled()
    return other


@register_swap(
    "network",
    "a GRU in place of the network",
    cause="network",
    remedy="Look for the error in the network: its layers, axes, states and outputs.",
)
def reference_network(training: Training) -> Training | None:
    """Another network that reads the same inputs, under the same kind of optimiser."""
    x, y = training.data.sample(SAMPLE)
    output = output_of_copy(training, x)
    return training.with_model(reference_for(training, x, output, y))


def reference_for(
    training: Training, x: Inputs, output: Tensor, y: Tensor, *, final: Callable | None = None
) -> nn.Module:
    """A reference network for inputs, outputs and targets of a training."""
    torch.manual_seed(5)
    every = has_output_for_each_frame(x, output, y)
    model = Reference(
        x,
        output,
        training.axis,
        every=every,
        causal=every and predicts_inputs(x, y, training.axis),
        final=final or last_operation(training._loss, output, y),
    )
    return model.to(output)


@register_swap(
    "everything",
    "everything",
)
def everything(training: Training) -> Training | None:
    """A GRU on standardised inputs and targets, with the usual loss and Adam."""
    x, y = training.data.sample(SAMPLE)
    output = output_of_copy(training, x)
    usual = canonical_loss(output, y)
    base = targets_standardised(training) or training.copy()
    final = None if usual is None else lambda z: z
    base.model = reference_for(training, x, output, y, final=final)
    base = base if usual is None else base.with_loss(usual)
    base.model.requires_grad_(True)
    base.optimizer = torch.optim.Adam(base.model.parameters(), 3e-3)
    base.scheduler, base.clip_norm = None, 1.0
    if isinstance(base.data, Batches) and not base.data.shuffles:
        base.data = base.data.shuffled()
    return base


@torch.no_grad()
def output_of_copy(training: Training, x: Inputs) -> Tensor:
    """Outputs of a copy of the model, in evaluation mode."""
    other = training.copy()
    other.model.eval()
    return other.output(x)
