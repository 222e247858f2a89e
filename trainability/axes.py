"""Find, once for each training run, which axes of its inputs, outputs and targets hold examples,
frames, classes and units.

    axes = OutputAxes.of(output, y, loss_fn, x, layout)   # output (8, 20, 5), classes y (8, 20)
    axes.batch, axes.frames, axes.classes                 # 0, 1, 2: axes of output

The axes of x are those of its `Layout`, which the user gives, or `axes_of_examples` finds. The axes
of outputs follow from shapes; if the shapes fit two choices, the loss decides. Outputs of other
minibatches, and of networks that replace the user's, have the same axes.

Legend: B examples, T frames, K classes or units of an output.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gersgorin.data.layout import Layout, declared_axis
from gersgorin.losses import Loss
from gersgorin.validate import random_numbers_kept
from rhn.errors import USERS_FAULT, InvalidInputError
from trainability.autograd import slope_at
from trainability.data import Inputs, examples_axis, noise_like, sequence_of

SURE = 3.0  # difference of logits between the right class and the others
SOME, LARGE = 64, 2**22  # examples that show if a loss determines classes, and their outputs
ROUNDING = 1e-5  # relative change of a loss over many targets in single precision


@dataclass(frozen=True)
class OutputAxes:
    """The axes of outputs and targets that hold examples, frames, classes and units.

    >>> x, y = torch.zeros(8, 5, 3), torch.zeros(8, 5).long()
    >>> loss_fn = torch.nn.functional.cross_entropy
    >>> axes = OutputAxes.of(torch.zeros(8, 5, 9), y, loss_fn, x, Layout(0))
    >>> axes.batch, axes.frames, axes.classes, axes.targets
    (0, 1, 2, 0)
    >>> axes = OutputAxes.of(torch.zeros(8, 5, 5), y, loss_fn, x, Layout(0))
    >>> axes.batch, axes.frames, axes.classes
    (0, 2, 1)
    """

    batch: int | None
    """Axis of the examples in outputs; None if outputs have no such axis."""
    frames: int | None
    """Axis of the frames in outputs; None if outputs have no frames."""
    classes: int | None
    """Axis of the classes in outputs, for integer targets; None if targets are no classes."""
    units: int | None
    """Axis of the classes in outputs, or their last axis; None if the last axis holds the examples
    or the frames.
    """
    targets: int
    """Axis of the examples in targets."""
    for_each_frame: bool
    """Whether the first two axes of outputs and targets are those of x, examples and frames."""

    @classmethod
    def of(
        cls,
        output: Tensor,
        y: Tensor,
        loss_fn: Loss,
        x: Tensor,
        layout: Layout,
        largest: int = 0,
    ) -> "OutputAxes":
        """Return the axes of outputs for targets y and a loss. x: the sequence. layout: which axes
        of x hold examples and time steps. largest: the largest target of the training run.
        """
        axis, dims = layout.batch or 0, output.dim()
        count, T = x.shape[axis], time_steps(x, layout)
        classes = class_axis(output, y, loss_fn, largest)
        targets = examples_axis(y, x, axis) or 0
        begin_alike = dims > 1 and output.shape[:2] == x.shape[:2] == y.shape[:2]
        for_each_frame = T is not None and begin_alike and classes != 1  # whose frames are last
        units = dims - 1 if classes is None and dims > 1 + for_each_frame else classes
        as_in_targets = targets + (classes is not None and classes <= targets)
        places = [a for a in (as_in_targets, 0, axis, 1) if a < dims and a != classes]
        batch = next((a for a in places if output.shape[a] == count), None)
        others = [a for a in range(dims) if output.shape[a] == T and a != batch]
        frames = _frame_axis(others, units, alone=dims > 2 or output.shape == y.shape)
        return cls(batch, frames, classes, units, targets, for_each_frame)

    def classes_last(self, output: Tensor) -> Tensor:
        """Return outputs as (..., K), a view."""
        return output if self.classes is None else output.movedim(self.classes, -1)

    def mean(self, output: Tensor) -> Tensor:
        """Return the mean (1, ..., K) of outputs over all axes except the units."""
        return output.mean([a for a in range(output.dim()) if a != self.units], keepdim=True)

    def rows(self, output: Tensor) -> Tensor:
        """Return outputs as (N, K), with a row for each output of an example or a frame."""
        rows = output.reshape(-1, 1) if self.units is None else output.movedim(self.units, -1)
        return rows.flatten(0, -2) if rows.dim() > 1 else rows.reshape(1, -1)

    def some_constants(self, output: Tensor) -> list[Tensor]:
        """Return constant outputs (1, ..., K): the mean of outputs, and some of the outputs."""
        rows = self.rows(output)
        shape = [output.shape[a] if a == self.units else 1 for a in range(output.dim())]
        places = {0, len(rows) // 3, 2 * len(rows) // 3, len(rows) - 1}
        return [self.mean(output), *(rows[place].reshape(shape) for place in sorted(places))]

    def shape_of_one(self, y: Tensor) -> torch.Size:
        """Return the shape of the targets of one example."""
        return y.movedim(self.targets, 0).shape[1:]

    def columns(self, y: Tensor) -> Tensor:
        """Return targets as numbers (N, K), with a row for each example, or for each frame of each
        example.
        """
        return y.flatten(0, -2) if y.dim() > 1 + self.for_each_frame else y.reshape(-1, 1)

    def constants(
        self, constant: Tensor, output: Tensor, y: Tensor, targets: list[Tensor]
    ) -> list[Tensor]:
        """Return a constant output for each of some targets, expanded to the shape of the outputs.
        output, y: an output and its targets, from which the shapes are read.
        """
        axis, count = self.batch or 0, y.shape[self.targets] if y.dim() else 1
        shapes = [list(output.shape) for _ in targets]
        for shape, other in zip(shapes, targets, strict=True):
            if count > 1 and shape and shape[axis] % count == 0:  # also of examples and frames
                shape[axis] = shape[axis] // count * other.shape[self.targets]
        return [constant.expand(shape) for shape in shapes]


def time_steps(x: Tensor, layout: Layout) -> int | None:
    """Return T of numbers or ids (B, T, m) or ids (B, T), in either layout; None if x has no
    frames.
    """
    has_frames = x.dim() == 3 or (x.dim() == 2 and not x.is_floating_point())
    return x.shape[layout.time] if has_frames else None


def axes_of_examples(x: Inputs, y: Tensor) -> list[int]:
    """Return the axes of x that may hold the examples.

    With a target for each frame, both of the first two axes are possible. Otherwise an axis is
    possible if it has as many entries as there are targets. If no axis has this size, the first
    axis is returned.

    >>> axes_of_examples(torch.zeros(7, 10, 3), torch.zeros(10, 1))
    [1]
    """
    shape = sequence_of(x).shape[:2]
    if y.shape[:2] == shape and len(shape) == 2:
        return [0, 1]
    return [axis for axis, size in enumerate(shape) if y.shape[:1] == (size,)] or [0]


def check_layers_take_axis_0(model: nn.Module, x: Inputs, y: Tensor) -> None:
    """Raise InvalidInputError if all recurrent layers read the first axis as time.

    Only the user knows whether this is right.
    """
    if declared_axis(model) != 1:
        return
    shapes = f"x {tuple(sequence_of(x).shape)} and y {tuple(y.shape)}"
    raise InvalidInputError(
        f"{shapes}: either of the first two axes may hold the examples, and the recurrent layers "
        "of your model have batch_first=False, which takes (time, examples, ...): give "
        "batch_axis=1 if x is so, batch_axis=0 if its first axis holds the examples"
    )


def _frame_axis(axes: list[int], units: int | None, *, alone: bool) -> int | None:
    """The axis of the frames among axes of their length. The axis of the units is taken only if it
    is the only one, and `alone` is True.
    """
    frames = [axis for axis in axes if axis != units] or (axes if alone else [])
    return frames[0] if frames else None


def class_axis(output: Tensor, y: Tensor, loss_fn: Loss, largest: int = 0) -> int | None:
    """Return the axis of the classes in outputs, for integer targets; None if the shapes do not
    allow classes, `largest`, the largest target, has no output of its own, or the loss does not
    determine the classes, see `determines_classes`.

    The classes lie along the last axis or axis 1. If the shapes fit both, the loss decides. If some
    targets are changed, the gradient changes only in the outputs of these targets, and these
    outputs lie along the axis of the classes.
    """
    if y.is_floating_point() or output.dim() != y.dim() + 1:
        return None
    both = dict.fromkeys((output.dim() - 1, 1))
    fits = [a for a in both if (*output.shape[:a], *output.shape[a + 1 :]) == y.shape]
    fits = [a for a in fits if output.shape[a] > largest]
    fits = [a for a in fits if determines_classes(loss_fn, output, y, a)]
    if len(fits) < 2:
        return fits[0] if fits else None
    some = noise_like(y.double()) > 0
    others = torch.where(some, (y.clamp_min(0) + 1) % output.shape[1], y)
    moved = (slope_at(loss_fn, output, y) - slope_at(loss_fn, output, others)).abs()
    last, first = (float(moved.sum(axis)[~some].sum()) for axis in fits)
    return 1 if first < last / 2 else fits[0]


@torch.no_grad()
def determines_classes(loss_fn: Loss, output: Tensor, y: Tensor, axis: int) -> bool:
    """True if a loss is lower where the largest output is that of the right class than where it is
    that of another class.

    False for a loss that reads only which targets are equal, such as a triplet loss: it does not
    change if classes exchange their outputs. The loss is tested with one-hot outputs, both as
    numbers and as probabilities. A loss that is finite for neither counts as one that determines
    the classes.
    """
    K = output.shape[axis]
    if K < 2 or not output.is_floating_point():
        return True
    if y.dim():
        some = max(2, min(SOME, LARGE // max(1, output[0].numel())))
        output, y = output[:some], y[:some]
    right = torch.zeros_like(output).scatter_(axis, y.clamp_min(0).unsqueeze(axis), 1.0)
    known = False
    for made in (right, SURE * right, (SURE * right).softmax(axis)):
        own, *others = (
            _loss_or_nan(loss_fn, made.roll(shift, axis), y) for shift in (0, 1, K // 2, K - 1)
        )
        known |= math.isfinite(own)
        if all(other > own + ROUNDING * abs(own) for other in others):
            return True
    return not known


def _loss_or_nan(loss_fn: Loss, output: Tensor, y: Tensor) -> float:
    """The loss of outputs, with the same random numbers in each call; NaN if it fails."""
    try:
        with random_numbers_kept(output):
            return float(loss_fn(output.clone(), y))
    except USERS_FAULT:
        return math.nan
