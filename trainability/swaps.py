"""Swaps: versions of a training run in which one part is replaced by a known good one.

Each swap is a function of a `Training` that returns a changed copy, or None if it does not apply:

    @register_swap("optimizer", "RMSprop 0.001", remedy="Use RMSprop.")
    def rmsprop(training):
        other = training.copy()
        other.optimizer = torch.optim.RMSprop(other.model.parameters(), 1e-3)
        return other

The swaps of a part are listed by the size of the change, the smallest first.
"""

import copy
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torch.utils._pytree import tree_leaves, tree_structure, tree_unflatten

from gersgorin.losses import Loss
from rhn.cells import DTRNN, RHN, Cell
from rhn.errors import USERS_FAULT, InvalidInputError, RhnError
from trainability.autograd import slope_at
from trainability.axes import OutputAxes
from trainability.data import (
    SAMPLE,
    WHOLE,
    Batches,
    Inputs,
    in_double,
    noise_like,
    padded_frames,
    sequence_of,
    with_sequence,
)
from trainability.losses import (
    canonical_loss,
    follows_scale,
    is_binary,
    is_least_at_targets,
    is_mean_of_examples,
    kind_of_loss,
    weighted_loss,
)
from trainability.minibatch import with_pairing
from trainability.not_finite import SCALED_TARGETS
from trainability.probe import Probe
from trainability.race import Version
from trainability.rescaling import rescaling_of
from trainability.scores import TINY, score_of
from trainability.training import Training

PARTS = (
    "inputs",
    "targets",
    "loss",
    "initial weights",
    "optimizer",
    "regularization",
    "order",
    "network",
    "length",
)
"""The parts of a training run, the smallest change first."""
LONGER = 4  # times the steps
CHANCE = 5  # standard deviations that two draws may differ by
GROWTH = 0.25  # of a power of the size of a minibatch: a loss that grows by less is a mean
LEAST_PADDED = 2  # frames at the end of half of the sequences, if these are padded


@dataclass(frozen=True, kw_only=True)
class Swap(Version):
    """A replacement of one part of a training run by a known good one.

    >>> swap = Swap(part="optimizer", what="none", apply=lambda training: None)
    >>> swap.part, swap(None) is None
    ('optimizer', True)
    """

    apply: Callable[[Training], Training | None]

    def __call__(self, training: Training) -> Training | None:
        """Return a changed copy, or None if the swap does not apply."""
        return self.apply(training)


SWAPS: list[Swap] = []
"""All swaps; the table of `check` keeps their order within each part."""


def register_swap(part: str, what: str, **about: Any) -> Callable[[Callable], Callable]:
    """Decorator that adds a replacement of your own, which `check` then tries.

    The decorated function takes a `Training`, and returns a changed copy, or None if the
    replacement does not apply.

    Args:
        part: the part that is replaced, one of `PARTS`.
        what: name of the replacement in the table.
        about: further fields of `Version`, such as remedy="Use RMSprop.": what to do if the
            replacement is enough.

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
    """Return (mean, standard deviation) of each feature of numbers (..., m); the deviation of a
    constant feature is 1.

    >>> scale_of(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
    (tensor([2., 5.]), tensor([1.4142, 1.0000]))
    """
    flat = (values.flatten(0, -2) if values.dim() > 1 else values.unsqueeze(1)).double()
    mean, spread = flat.mean(0), flat.std(0)
    spread = torch.where(spread > TINY * flat.abs().amax(0), spread, 1.0)
    return mean.to(values.dtype), spread.to(values.dtype)


@register_swap(
    "inputs",
    "inputs standardised",
    remedy="Standardise each feature of x: subtract its mean, divide by its standard deviation.",
)
def inputs_standardised(training: Training) -> Training | None:
    """Subtract from each feature of the inputs its mean, and divide by its standard deviation.

    Further inputs that are all 0 or 1, such as masks, are left unchanged.
    """
    leaves = tree_leaves(training.data.sample(SAMPLE)[0])
    scales = [scale_of(v) if is_scaled(v, k) else None for k, v in enumerate(leaves)]
    if not any(scales):
        return None

    def change(x: Inputs) -> Inputs:
        own = zip(tree_leaves(x), scales, strict=True)
        return tree_unflatten(
            [v if scale is None else (v - scale[0]) / scale[1] for v, scale in own],
            tree_structure(x),
        )

    other = training.copy()
    other.change_inputs = change
    return other


def is_scaled(values: Tensor, place: int) -> bool:
    """True if an input can be rescaled: floating point, at least two axes, and no binary mask."""
    return values.is_floating_point() and values.dim() >= 2 and not (place and is_binary(values))


@register_swap(
    "inputs",
    "padding before each sequence",
    remedy="Pad before the sequence, or read the state of its last frame that is no padding: "
    "nn.utils.rnn.pack_padded_sequence.",
)
def padding_before(training: Training) -> Training | None:
    """Move the padding from the end of sequences to their beginning, if a sequence has one output,
    and no output depends on further inputs, such as lengths.
    """
    x, y = training.data.sample(SAMPLE)
    first, axis = sequence_of(x), training.axis
    has_frames = first.dim() >= 3 or (first.dim() == 2 and not first.is_floating_point())
    if not has_frames or y.shape[:2] == first.shape[:2]:
        return None
    pad = first.movedim(axis, 0)[:, -1].mode(0).values
    count = padded_frames(first.movedim(axis, 0), pad)
    if (count >= LEAST_PADDED).float().mean() < 0.5 or len(count.unique()) == 1:
        return None
    probe = Probe(training)
    if not all(probe.is_unread(leaf) for leaf in range(1, len(probe.leaves))):
        return None

    def change(x: Inputs) -> Inputs:
        frames = sequence_of(x).movedim(axis, 0)
        places = torch.arange(frames.shape[1], device=frames.device)
        places = (places - padded_frames(frames, pad)[:, None]) % frames.shape[1]
        moved = frames[torch.arange(len(frames), device=frames.device)[:, None], places]
        return with_sequence(x, moved.movedim(0, axis))

    other = training.copy()
    other.change_inputs = change
    return other


@register_swap(
    "targets",
    "targets standardised",
    remedy=SCALED_TARGETS,
)
def targets_standardised(training: Training) -> Training | None:
    """Train on standardised targets; outputs are scaled back before their error is measured.

    None if outputs are not on the scale of the targets, as for logarithms of rates. Several outputs
    for each target, as of a likelihood, are scaled back if the loss determines how.
    """
    output, y, axes = outputs_for_loss(training)
    every = training.data.targets
    if y.is_floating_point() and not all(map(is_binary, every)) and output.numel() > y.numel():
        return _rescaled(training, output, y)
    if kind_of_loss(output, y, axes, every) != "numbers":
        return None
    if not any(test(training.loss, output, y) for test in (is_least_at_targets, follows_scale)):
        return None
    mean, spread = scale_of(axes.columns(training.data.sample(SAMPLE)[1]))
    other = training.copy()
    other.change_targets = lambda y: ((y - mean) / spread).reshape(y.shape)
    if len(mean) == 1:
        other.restore_outputs = lambda z: z * spread + mean
    else:
        other.restore_outputs = lambda z: (z.reshape(-1, len(mean)) * spread + mean).reshape(
            z.shape
        )
    return other


def _rescaled(training: Training, output: Tensor, y: Tensor) -> Training | None:
    """Return a copy with standardised targets and several outputs for each; None if the loss does
    not determine how outputs are scaled back.
    """
    every = training.data.sample(SAMPLE)[1]
    mean, spread = (float(value) for value in scale_of(every.flatten()))
    rescaling = rescaling_of(training.loss_in_double(), output, (y - mean) / spread)
    if rescaling is None:
        return None
    other = training.copy()
    other.change_targets = lambda y: (y - mean) / spread
    other.restore_outputs = lambda z: rescaling(z, mean, spread)
    return other


PAIRED, USUAL_LOSS = "targets shaped as the outputs", "the usual loss"
EVERY_WEIGHT, NOT_FROZEN = "all weights in the optimiser", "no frozen weights"
OTHER_AXIS = "examples along the other axis"
"""Names of the swaps that repair what a fact proves."""


@register_swap(
    "loss",
    PAIRED,
    remedy="Give y a shape in which the loss compares each target with its own output.",
)
def paired_targets(training: Training) -> Training | None:
    """Give the targets another shape, if the loss broadcasts and then compares each output with
    the target of its own example.
    """
    name = Probe(training).pairing
    return training.with_loss(with_pairing(training.loss, name)) if name else None


def usual_loss(training: Training, probe: Probe | None = None) -> Training | None:
    """Use the loss that fits outputs and targets: cross entropy, binary cross entropy or squared
    error.

    None if the given loss is the usual one, or is least at other outputs than the squared error
    (unless it compares outputs with targets of other examples).

    probe: a minibatch of a training run with the same loss and data; None: one of this run.
    """
    output, y, axes = outputs_for_loss(training)
    every = training.data.targets
    loss_fn = canonical_loss(output, y, axes, every)
    if loss_fn is None or is_same_loss(loss_fn, training.loss, output, y):
        return None
    is_of_numbers = kind_of_loss(output, y, axes, every) == "numbers"
    if is_of_numbers and not is_least_at_targets(training.loss, output, y):
        probe = probe or Probe(training)
        return training.with_loss(loss_fn) if probe.is_unpaired else None
    return training.with_loss(loss_fn)


@register_swap(
    "loss",
    "a mean in place of the sum",
    remedy="Divide the loss by the number of targets that it adds up, or set reduction='mean'. The "
    "sum multiplies gradients by this number, and with them the steps of SGD and the clipping.",
)
def mean_for_sum(training: Training) -> Training | None:
    """Use the usual loss, which is a mean, if the given loss is the sum over examples, frames or
    units instead. Divide any other loss that grows with the size of the minibatch by this size, or
    by its square for a sum over pairs.
    """
    other = usual_loss(training)
    if other is not None and adds_up(training, other):
        return other
    power, axis = growth_of_loss(training)
    loss = training.loss
    return training.with_loss(lambda z, y: loss(z, y) / y.shape[axis] ** power) if power else None


def growth_of_loss(training: Training) -> tuple[int, int]:
    """Return (the power of the minibatch's size with which a loss grows, the axis of the examples
    in targets): 0 for a mean, 1 for a sum over examples, 2 for a sum over pairs of them.

    Compared with half of a minibatch, the slopes in the same outputs are half as large for a mean,
    equally large for a sum, and twice as large for a sum over pairs.
    """
    x, y = training.data.sample(training.data.batch_size)
    output = output_of_copy(training, x)
    axes = training.output_axes(output, x, y)
    batch, targets = axes.batch, axes.targets
    count = y.shape[targets] // 2 if y.dim() else 0
    if batch is None or count < 2 or output.shape[batch] != y.shape[targets]:
        return 0, targets

    def slopes(output: Tensor) -> list[Tensor]:
        parts = ((output.narrow(batch, 0, n), y.narrow(targets, 0, n)) for n in (count, 2 * count))
        return [slope_at(training.loss, *part) for part in parts]

    try:
        one, double = slopes(output + noise_like(output))
    except USERS_FAULT:  # a loss of outputs from 0 to 1
        one, double = slopes(output)
    ratio = float(double.narrow(batch, 0, count).norm() / one.norm().clamp_min(TINY))
    if not (math.isfinite(ratio) and ratio > 0):
        return 0, targets
    return max(0, math.floor(1 + math.log2(ratio) + GROWTH)), targets


@register_swap(
    "loss",
    USUAL_LOSS,
    remedy="Use the loss that belongs to the outputs and targets.",
)
def another_loss(training: Training) -> Training | None:
    """Use the usual loss, if the given loss is neither the usual loss nor its sum."""
    other = usual_loss(training)
    return None if other is None or adds_up(training, other) else other


def adds_up(training: Training, mean: Training) -> bool:
    """True if a loss sums over some axes of the targets over which another loss averages."""
    output, y, _ = outputs_for_loss(training)
    found = slopes_of(training.loss, mean.loss, output, y)
    if found is None:
        return False
    given, own = found
    times = float(given.norm() / own.norm().clamp_min(TINY))
    sizes = [size for size in y.shape if size > 1]
    counts = (math.prod(some) for k in range(len(sizes)) for some in combinations(sizes, k + 1))
    alike = torch.allclose(given, times * own, rtol=1e-6, atol=1e-12)
    return alike and any(math.isclose(times, count, rel_tol=1e-6) for count in counts)


def is_same_loss(one: Loss, other: Loss, output: Tensor, y: Tensor) -> bool:
    """True if two losses have the same gradient with respect to the outputs, in double
    precision.
    """
    found = slopes_of(one, other, output, y)
    return found is not None and torch.allclose(*found, rtol=1e-6, atol=1e-12)


def slopes_of(one: Loss, other: Loss, output: Tensor, y: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return the gradients of two losses with respect to the outputs, in double precision; None if
    a loss does not take double precision.
    """
    try:
        first, second = (slope_at(loss, output.double(), in_double(y)) for loss in (one, other))
    except USERS_FAULT:
        return None
    return first, second


@register_swap(
    "loss",
    "rare classes weighted",
    by="balanced",
    remedy="If rare classes matter to you, weight the classes in the loss, or draw them equally "
    "often: WeightedRandomSampler.",
)
def rare_classes_weighted(training: Training) -> Training | None:
    """Use the usual loss, with each class weighted by the inverse of its share of the targets."""
    output, y, axes = outputs_for_loss(training)
    score = score_of(training.loss, output, [(None, y)], axes, every=training.data.targets)
    balanced = score.balanced([training.data.sample(WHOLE)[1]])
    if balanced is None or balanced.weights is None:
        return None
    return training.with_loss(partial(weighted_loss, weights=balanced.weights, axes=axes))


@register_swap(
    "initial weights",
    "torch's initial weights",
    remedy="Draw initial weights as torch.nn does; a matrix of your own, uniform between "
    "-n**-0.5 and n**-0.5 for n inputs.",
)
def default_weights(training: Training) -> Training:
    """Draw new weights for each layer as torch.nn does, and likewise for matrices of your own
    modules.
    """
    return training.with_default_weights()


@torch.no_grad()
def are_drawn_as_by_default(training: Training) -> bool:
    """True if the weights look like another draw of torch's initial weights: each tensor has the
    root mean square of a fresh draw, as far as its number of entries can tell.
    """
    other = default_weights(training).model.parameters()
    return all(map(_have_one_scale, training.model.parameters(), other))


def _have_one_scale(one: Tensor, other: Tensor) -> bool:
    """True if two draws of a tensor differ in scale by chance only, or are equal constants."""
    sizes = [float(t.detach().double().norm()) for t in (one, other)]
    if min(sizes) == 0:
        return max(sizes) == 0
    # the standard deviation of log(size / other size) for n normal numbers is n**-0.5
    return abs(math.log(sizes[0] / sizes[1])) <= CHANCE / math.sqrt(one.numel())


@register_swap(
    "initial weights",
    "recurrent matrices of norm sqrt(n)",
    remedy="Scale each recurrent matrix W (n, n): W *= n**0.5 / W.norm().",
)
@torch.no_grad()
def norm_kept(training: Training) -> Training | None:
    """Scale each recurrent matrix (n, n) to the Frobenius norm sqrt(n), which is that of a
    rotation.
    """
    other = training.copy()
    found = [*recurrent_matrices(other.model)]
    for W in found:
        W.mul_(math.sqrt(len(W)) / W.norm().clamp_min(TINY))
    return other if found else None


def recurrent_matrices(model: nn.Module) -> Iterator[Tensor]:
    """Yield the recurrent matrices (n, n) of cells of torch.nn and `rhn`, as views."""
    for part in model.modules():
        for weight in recurrent_weights(part):
            if weight.dim() == 2 and len(weight) % weight.shape[1] == 0:
                yield from weight.split(weight.shape[1])


def recurrent_weights(part: nn.Module) -> list[Tensor]:
    """Return the weights of a cell that multiply its state."""
    if isinstance(part, Cell):
        recurrent = [layer.recurrent for layer in part.layers() if layer.recurrent]
        return [getattr(part, weight.parameter)[weight.index] for weight in recurrent]
    if isinstance(part, nn.RNNBase | nn.RNNCellBase):
        return [p for name, p in part.named_parameters() if name.startswith("weight_hh")]
    return []


def _with_groups(training: Training, **settings: float) -> Training | None:
    """Return a copy with other settings in all parameter groups of the optimiser; None if nothing
    changes.
    """
    other, changed = training.copy(), False
    for group in other.optimizer.param_groups:
        for name, value in settings.items():
            changed |= name in group and group[name] != value
            group.update({name: value} if name in group else {})
    return other if changed else None


@register_swap(
    "optimizer",
    "no weight decay",
    remedy="Set weight_decay=0.",
)
def without_decay(training: Training) -> Training | None:
    """Set the weight decay to 0."""
    return _with_groups(training, weight_decay=0.0)


@register_swap(
    "optimizer",
    "a constant learning rate",
    remedy="Leave out the scheduler, or let the learning rate fall later.",
)
def without_schedule(training: Training) -> Training | None:
    """Leave out the scheduler, and use the largest learning rate that it reaches."""
    if training.scheduler is None:
        return None
    other, scheduled = training.copy(), training.copy()
    groups = scheduled.optimizer.param_groups
    rates = [[group["lr"] for group in groups]]
    with warnings.catch_warnings(action="ignore"):  # of a scheduler without steps of the optimiser
        for _ in range(training.steps - 1):
            scheduled.scheduler.step()
            rates.append([group["lr"] for group in groups])
    other.scheduler = None
    for group, own in zip(other.optimizer.param_groups, zip(*rates, strict=True), strict=True):
        group["lr"] = max(own)
    return other


@register_swap(
    "optimizer",
    "no clipping",
    remedy="Leave out the clipping, or allow a larger norm.",
)
def without_clipping(training: Training) -> Training | None:
    """Do not clip gradients."""
    if training.clip_norm is None:
        return None
    other = training.copy()
    other.clip_norm = None
    return other


@register_swap(
    "optimizer",
    "a tenth of the learning rate",
    remedy="Divide the learning rate by 10.",
)
def tenth_of_rate(training: Training) -> Training:
    """Divide the learning rate by ten."""
    return training.with_rates(0.1)


@register_swap(
    "optimizer",
    "ten times the learning rate",
    remedy="Multiply the learning rate by 10.",
)
def ten_times_the_rate(training: Training) -> Training:
    """Multiply the learning rate by ten."""
    return training.with_rates(10.0)


@register_swap(
    "optimizer",
    EVERY_WEIGHT,
    remedy="Make the optimiser from model.parameters(), after the model has its last form.",
)
def every_weight(training: Training) -> Training | None:
    """Add the weights that the optimiser leaves out to its first parameter group, except frozen
    ones.
    """
    other = training.copy()
    left_out = [p for p in without_optimizer(other) if p.requires_grad]
    give(other.optimizer, left_out)
    return other if left_out else None


def without_optimizer(training: Training) -> list[nn.Parameter]:
    """Return the parameters of the network that the optimiser does not have."""
    known = {id(p) for group in training.optimizer.param_groups for p in group["params"]}
    return [p for p in training.model.parameters() if id(p) not in known]


def give(optimizer: torch.optim.Optimizer, weights: list[nn.Parameter]) -> None:
    """Add weights to the first parameter group of an optimiser."""
    group = optimizer.param_groups[0]
    group["params"] = [*group["params"], *weights]


@register_swap(
    "regularization",
    "no dropout",
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
    remedy="Shuffle: DataLoader(..., shuffle=True).",
)
def shuffled(training: Training) -> Training | None:
    """Shuffle the examples of ready-made minibatches, if these always come in the same order."""
    if not isinstance(training.data, Batches) or training.data.shuffles:
        return None
    other = training.copy()
    other.data = training.data.shuffled()
    return other


@register_swap(
    "network",
    NOT_FROZEN,
    remedy="Set requires_grad_(True) for the frozen weights, and give them to the optimiser.",
)
def not_frozen(training: Training) -> Training | None:
    """Let the optimiser train the weights that are frozen."""
    other = training.copy()
    frozen = [p for p in other.model.parameters() if not p.requires_grad]
    missing = {id(p) for p in without_optimizer(other)}
    give(other.optimizer, [p for p in frozen if id(p) in missing])
    for p in frozen:
        p.requires_grad_(True)
    return other if frozen else None


@register_swap(
    "network",
    OTHER_AXIS,
    remedy="Change batch_first of the layers that treat the examples as time steps, or leave out "
    "the transposes around them.",
)
def other_axis(training: Training) -> Training | None:
    """Change batch_first of layers that read the axis of examples as time.

    The network must mix examples before the change (the outputs of one depend on another), and not
    after it. Layers whose batch_first does not fit the inputs are tried first. If the network
    transposes the inputs, the layers are those whose batch_first fits.
    """
    if Probe(training).mixed:
        for axis in (1 - training.axis, training.axis):
            other = training.copy()
            wrong = [p for p in other.model.modules() if batch_first_of(p) is (axis == 0)]
            for part in wrong:
                part.batch_first = axis != 0
            if wrong and runs_as(training, other) and not Probe(other).mixed:
                return other
    return None


def batch_first_of(part: nn.Module) -> bool | None:
    """Return batch_first of a recurrent or attention layer; None for a layer without it."""
    return getattr(part, "batch_first", None)


@register_swap(
    "network",
    "recurrence depth 1",
    remedy="Use one layer between two time steps, or a cell with gates.",
)
def depth_one(training: Training) -> Training | None:
    """Give cells of `rhn` one layer per time step, with the weights of their first layer."""

    def shallow(cell: Cell) -> Cell | None:
        if cell.depth == 1:
            return None
        other = type(cell)(**cell.config() | {"depth": 1})
        for name, p in other.named_parameters():
            p.data.copy_(cell.get_parameter(name)[: len(p)])
        return other

    return with_cells(training, shallow)


@register_swap(
    "network",
    "a carry gate",
    remedy="At this depth of recurrence use a cell that carries its state past its layers, such as "
    "rhn; or recurrence depth 1, or larger initial weights.",
)
def carry_gate(training: Training) -> Training | None:
    """Replace each deep-transition cell by a recurrent highway network."""

    def gated(cell: Cell) -> Cell | None:
        if not isinstance(cell, DTRNN):
            return None
        sizes = cell.input_size, cell.hidden_size, cell.depth
        return RHN(*sizes, init=cell.init, batch_first=cell.batch_first)

    return with_cells(training, gated)


def with_cells(training: Training, change: Callable[[Cell], Cell | None]) -> Training | None:
    """Return a copy with changed cells of `rhn`; None if there are none, or if the copy fails."""
    torch.manual_seed(training.draws)
    model = copy.deepcopy(training.model)
    like = next(model.parameters())
    cells = [(name, part) for name, part in model.named_modules() if isinstance(part, Cell)]
    changed = [(name, new) for name, cell in cells if (new := change(cell)) is not None]
    if not changed or any(not name for name, _ in changed):
        return None
    for name, new in changed:
        model.set_submodule(name, new.to(like))
    return runs_as(training, training.with_model(model))


def runs_as(training: Training, other: Training) -> Training | None:
    """Return the other training run if its outputs have the same shape as the first run's, else
    None.
    """
    x = training.data.sample(SAMPLE)[0]
    try:
        same = output_of_copy(other, x).shape == output_of_copy(training, x).shape
    except RhnError:
        return None
    return other if same else None


def outputs_for_loss(training: Training) -> tuple[Tensor, Tensor, OutputAxes]:
    """Return outputs of training examples, their targets and axes, to which a loss is applied.

    They are a minibatch of the user's size if the loss is no mean over examples, since its time may
    grow much faster than the size. Otherwise they are at most `SAMPLE` examples.
    """

    def outputs(number: int) -> tuple[Tensor, Tensor, OutputAxes]:
        x, y = training.data.sample(number)
        output = output_of_copy(training, x)
        return output, y, training.output_axes(output, x, y)

    found = outputs(training.data.size)
    if training.is_mean is None:
        training.is_mean = is_mean_of_examples(training.loss, *found)
    return outputs(SAMPLE) if training.is_mean else found


@torch.no_grad()
def output_of_copy(training: Training, x: Inputs) -> Tensor:
    """Return the outputs of a copy of the model, in evaluation mode."""
    other = training.copy()
    other.model.eval()
    return other.output(x)
