"""The usual loss for outputs and targets, and tests of what a given loss does with them.

    canonical_loss(output, y, axes)        # (binary) cross entropy, or squared error
    compares_numbers(loss_fn, output, y)   # is the loss least where outputs equal the targets?
    one_hot_axis(output, y, axes, loss_fn) # do one-hot targets stand for classes?

Legend: B examples, T frames, K output units.
"""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from gersgorin.losses import Loss
from rhn.errors import USERS_FAULT
from trainability.autograd import graph, operation, slope_at
from trainability.axes import OutputAxes
from trainability.data import noise_like
from trainability.output_range import FREE, OutputRange

EQUAL = 1e-3  # slope at equal outputs and targets, relative to that beside them: rounding


def is_binary(y: Tensor) -> bool:
    """True if all targets are 0 or 1."""
    return bool(((y == 0) | (y == 1)).all())


def kind_of_loss(
    output: Tensor, y: Tensor, axes: OutputAxes, every: list[Tensor] | None = None
) -> str:
    """Return the kind of a `Score`: how outputs are compared with targets.

    every: all targets of the training run, whose values decide; None: y.
    """
    if axes.classes is not None and output.numel() > y.numel():
        return "classes"
    if output.numel() != y.numel():
        return "loss"
    if all(map(is_binary, every or [y])):
        return "bits" if axes.columns(y).shape[1] > 1 and y.is_floating_point() else "signs"
    return "numbers" if y.is_floating_point() else "loss"


def canonical_loss(
    output: Tensor, y: Tensor, axes: OutputAxes, every: list[Tensor] | None = None
) -> Loss | None:
    """Return the usual loss for outputs and targets; None if the shapes do not determine it.

    Outputs count as probabilities if they lie between 0 and 1; outputs of classes must also sum to
    1. every: all targets of the training run; None: y.
    """
    kind = kind_of_loss(output, y, axes, every)
    if kind == "classes":
        return partial(_of_classes, axes=axes)
    if kind in ("signs", "bits"):
        return _of_signs
    if kind == "numbers":
        return _of_numbers
    return None


def _of_classes(output: Tensor, y: Tensor, axes: OutputAxes) -> Tensor:
    logs = log_probabilities(axes.classes_last(output))
    return F.nll_loss(logs.flatten(0, -2), y.flatten().long())


def _of_signs(output: Tensor, y: Tensor) -> Tensor:
    z, y = output.reshape(y.shape), y.to(output.dtype)
    if lie_in_0_to_1(z):
        return F.binary_cross_entropy(z.clamp(1e-7, 1 - 1e-7), y)
    return F.binary_cross_entropy_with_logits(z, y)


def _of_numbers(output: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(output.reshape(y.shape), y.to(output.dtype))


def weighted_loss(output: Tensor, y: Tensor, weights: Tensor, axes: OutputAxes) -> Tensor:
    """Return the usual loss of classes or signs, with class weights (K,)."""
    if axes.classes is None:
        z, target = output.reshape(y.shape), y.to(output.dtype)
        of_each = weights.to(z)[y.long()]
        if lie_in_0_to_1(z):
            return F.binary_cross_entropy(z.clamp(1e-7, 1 - 1e-7), target, of_each)
        return F.binary_cross_entropy_with_logits(z, target, of_each)
    logs = log_probabilities(axes.classes_last(output)).flatten(0, -2)
    return F.nll_loss(logs, y.flatten().long(), weights.to(logs))


def lie_in_0_to_1(z: Tensor) -> bool:
    """True if all outputs lie between 0 and 1, so that they may be probabilities."""
    return bool(z.min() >= 0 and z.max() <= 1)


def is_normalised(z: Tensor, axis: int) -> bool:
    """True for outputs that are not negative and sum to 1 along an axis of more than one entry."""
    if z.shape[axis] < 2:
        return False
    return bool((z >= 0).all()) and torch.allclose(z.sum(axis), z.new_ones(()), atol=1e-3)


def log_probabilities(z: Tensor) -> Tensor:
    """Return logarithms of probabilities (..., K), given probabilities or logits."""
    if is_normalised(z, -1):
        return z.clamp_min(1e-7).log()
    return z.log_softmax(-1)


def takes_logits(loss_fn: Loss, output: Tensor, y: Tensor) -> bool:
    """True if a loss applies a softmax or a sigmoid to the outputs."""
    with torch.enable_grad():
        z = output.detach().clone().requires_grad_()
        names = {operation(node) for node in graph(loss_fn(z.clone(), y))}
    return bool(names & {"LogSoftmax", "BinaryCrossEntropyWithLogits", "LogSigmoid", "Sigmoid"})


def one_hot_axis(output: Tensor, y: Tensor, axes: list[int], loss_fn: Loss) -> int | None:
    """Among some axes, return the axis that holds the classes of one-hot targets; None if the
    targets are not classes.

    The targets are classes if the outputs are a distribution over the classes. This holds if the
    loss takes a softmax of the outputs, or if the outputs are probabilities with sum 1, or their
    logarithms.

    axes: the result of `one_hot_axes`.
    """
    if output.shape != y.shape:
        return None
    for axis in axes:
        given = is_normalised(output, axis) or is_normalised(output.exp(), axis)
        if given or takes_softmax(loss_fn, output, y, axis):
            return axis
    return None


def one_hot_axes(targets: list[Tensor]) -> list[int]:
    """Return the axes, the last one and axis 1, along which all targets are 1.0 once and 0.0
    otherwise.
    """
    dims = {y.dim() for y in targets}
    if len(dims) > 1 or max(dims) < 2:
        return []
    if not all(y.is_floating_point() and is_binary(y) for y in targets):
        return []
    axes = dict.fromkeys((max(dims) - 1, 1))
    return [a for a in axes if all(y.shape[a] > 1 and (y.sum(a) == 1).all() for y in targets)]


def takes_softmax(loss_fn: Loss, output: Tensor, y: Tensor, axis: int) -> bool:
    """True if a loss takes a softmax of the outputs along an axis.

    Such a loss does not change if the same number is added to all outputs of a target, so its
    gradients in these outputs sum to 0.
    """
    try:
        slopes = slope_at(loss_fn, output + noise_like(output), y)
    except USERS_FAULT:  # of a loss that takes outputs of some range only
        return False
    sizes = slopes.abs().sum(axis)
    return bool(sizes.any()) and bool((slopes.sum(axis).abs() <= EQUAL * sizes).all())


def one_hot(classes: Tensor, output: Tensor, axis: int) -> Tensor:
    """Return classes as one-hot targets, in the shape of the outputs.

    >>> one_hot(torch.tensor([2, 0]), torch.zeros(2, 3), 1).tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    return torch.zeros_like(output).scatter_(axis, classes.unsqueeze(axis), 1.0)


def expects_logits(loss_fn: Loss, output: Tensor, y: Tensor) -> bool:
    """True if a loss expects logits: a target of 1 has a lower loss at an output of 3 than at 1."""
    ones = torch.ones_like(y)
    try:
        with torch.no_grad():
            far, near = (float(loss_fn(torch.full_like(output, z), ones)) for z in (3.0, 1.0))
    except USERS_FAULT:  # of a loss that takes probabilities only
        return False
    return far < near


def compares_numbers(loss_fn: Loss, output: Tensor, y: Tensor) -> bool:
    """True if a loss is least where outputs equal the targets, and counts all targets.

    False for soft labels, rates of a Poisson distribution, quantiles, and masked targets.
    """
    try:
        at, above, below = slopes_beside_targets(loss_fn, output, y)
    except USERS_FAULT:  # of a loss that takes outputs of some range only
        return True
    size = max(float(above.abs().max()), float(below.abs().max()))
    counted = bool(((above != 0) | (below != 0)).all())
    return counted and math.isfinite(size) and float(at.abs().max()) <= EQUAL * size


def is_least_at_targets(loss_fn: Loss, output: Tensor, y: Tensor) -> bool:
    """True if a loss has no slope where outputs equal the targets, as the squared error.

    Targets that do not count have no slope anywhere. False for soft labels, rates of a Poisson
    distribution, and quantiles.
    """
    try:
        at, above, below = slopes_beside_targets(loss_fn, output, y)
    except USERS_FAULT:  # of a loss that takes outputs of some range only
        return True
    size = max(float(above.abs().max()), float(below.abs().max()))
    return math.isfinite(size) and float(at.nan_to_num(0.0).abs().max()) <= EQUAL * size


def slopes_beside_targets(
    loss_fn: Loss, output: Tensor, y: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the slopes of a loss in outputs at the targets, above them, and below them."""
    noise = noise_like(y) * max(1.0, float(y.double().std(correction=0)))
    at, above, below = (
        slope_at(loss_fn, (y + sign * noise).reshape(output.shape).to(output), y)
        for sign in (0, 1, -1)
    )
    return at, above, below


def follows_scale(loss_fn: Loss, output: Tensor, y: Tensor) -> bool:
    """True if the slopes of a loss keep their ratios when outputs and targets are scaled and
    shifted alike: outputs are on the scale of the targets.
    """
    z = (y + noise_like(y)).reshape(output.shape).to(output)
    try:
        slopes = [slope_at(loss_fn, a * z + b, a * y + b) for a, b in ((1, 0), (2, 3))]
    except USERS_FAULT:  # of a loss that takes outputs of some range only
        return False
    one, other = (slope / slope.norm() for slope in slopes)
    return torch.allclose(one, other, rtol=EQUAL, atol=EQUAL * float(one.abs().max()))


def enters_loss(loss_fn: Loss, output: Tensor, y: Tensor, classes: int | None) -> Tensor:
    """Return True for each output whose target the loss counts, in the shape of the outputs.

    An output counts if the loss has a nonzero slope in it, at the given outputs or at their mean.
    The second test is needed since the slope at a perfect output may be 0. If one class of a target
    counts, all do.

    classes: the axis of the classes in the outputs.
    """

    def has_slope(z: Tensor) -> Tensor:
        slopes = slope_at(loss_fn, z, y) != 0
        return slopes if classes is None else slopes.any(classes, keepdim=True)

    counts = has_slope(output)
    if not counts.all():
        counts = counts | has_slope(output.mean().expand(output.shape))
    return counts.expand(output.shape)


def scored(loss_fn: Loss, output: Tensor, y: Tensor, axes: OutputAxes) -> Tensor:
    """Return True for each target that is scored, in the shape of y: all time steps up to the last
    that the loss counts.
    """
    every = torch.ones(y.shape, dtype=torch.bool, device=y.device)
    axis = axes.classes
    if y.dim() < 2 or (axis is None and output.shape != y.shape):
        return every
    counts = enters_loss(loss_fn, output, y, axis)
    counts = counts if axis is None else counts.select(axis, 0)
    if counts.all() or not counts.any():
        return every
    frames = 1 - axes.targets
    later = counts.flip(frames).long().cumsum(frames).flip(frames)
    return later > 0


def losses_of_examples(loss_fn: Loss, output: Tensor, y: Tensor, axes: OutputAxes) -> Tensor:
    """Return the losses (B,) of minibatches of one example each."""
    pairs = zip(output.split(1, axes.batch or 0), y.split(1, axes.targets), strict=True)
    return torch.stack([loss_fn(z.clone(), t).reshape(()).double() for z, t in pairs])


def is_mean_of_examples(
    loss_fn: Loss, output: Tensor, y: Tensor, axes: OutputAxes, within: OutputRange = FREE
) -> bool:
    """True if the loss of a minibatch is the mean of the losses of its examples.

    within: the range of the outputs.
    """
    if output.dim() == 0 or y.dim() == 0:
        return False
    try:
        with torch.no_grad():
            for z in (output, within.beside(output, 0.1 * noise_like(output))):
                each = losses_of_examples(loss_fn, z, y, axes)
                whole = loss_fn(z.clone(), y).reshape(()).double()
                if not torch.isclose(each.mean(), whole, rtol=1e-4, atol=1e-8):
                    return False
    except USERS_FAULT:  # of a loss that needs several examples
        return False
    return True
