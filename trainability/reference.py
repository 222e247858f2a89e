"""The known good network: a GRU that reads the same inputs and gives outputs of the same shape.

    model = reference(training, pairs)      # the network in place of `training.model`

It reads standardised numbers, and ids through an embedding. Of several inputs the first with the
outputs' frames is read frame by frame, all others by their states. Examples lie along either axis.
An output for each frame sees later frames too, unless the targets are later inputs.

Legend: B examples, T frames, m numbers of a frame, K outputs.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from trainability.data import Inputs
from trainability.losses import class_axis

UNITS = 64
EMBEDDED = 32  # numbers of an id
SPARE_IDS = 2000  # ids beyond those that were seen


class _Reader(nn.Module):
    """One input as a sequence (B, T, m) of standardised numbers or embedded ids."""

    mean: Tensor
    spread: Tensor

    def __init__(self, seen: Tensor, axis: int, examples: int):
        super().__init__()
        self.axis = axis if seen.dim() > axis and seen.shape[axis] == examples else 0
        self.ids = not seen.is_floating_point()
        self.has_frames = seen.dim() >= 3 or (self.ids and seen.dim() == 2)
        if self.ids:
            self.embedding = nn.Embedding(int(seen.max().clamp_min(0)) + SPARE_IDS, EMBEDDED)
            width = EMBEDDED
        else:
            values = self._as_frames(seen)
            flat = values.flatten(0, 1)
            spread = flat.std(0, unbiased=False)
            self.register_buffer("mean", flat.mean(0))
            self.register_buffer("spread", torch.where(spread > 1e-12, spread, torch.ones(())))
            width = flat.shape[1]
        self.width = width

    def _as_frames(self, x: Tensor) -> Tensor:
        """(B, T, m); numbers (B, T) are a sequence of one number, (B,) a single frame."""
        x = x.movedim(self.axis, 0)
        if self.ids:
            return x if x.dim() == 2 else x.reshape(len(x), -1)
        return x.flatten(2) if x.dim() >= 3 else x.reshape(len(x), -1, 1)

    def forward(self, x: Tensor) -> Tensor:
        frames = self._as_frames(x)
        if self.ids:
            return self.embedding(frames.clamp_min(0))
        return (frames - self.mean) / self.spread


class Reference(nn.Module):
    """A GRU of 64 units over all inputs: an output for each frame, or one from its states.

    Args:
        x: inputs of a minibatch. output: outputs that it should give, of which the shape counts.
        axis: of the examples in x. every: whether there is an output for each frame.
        causal: whether outputs of frames see no later frame.
        final: the last operation, such as a log_softmax over classes.
    """

    def __init__(
        self,
        x: Inputs,
        output: Tensor,
        axis: int,
        *,
        every: bool,
        causal: bool,
        final: Callable[[Tensor], Tensor],
    ):
        super().__init__()
        leaves = tree_leaves(x)
        examples = leaves[0].shape[axis]
        self.every, self.final, self.axis = every, final, axis
        readers = [_Reader(leaf, axis, examples) for leaf in leaves]
        self.readers = nn.ModuleList(readers)
        self.main = self._main(leaves, output) if every else 0
        sides = [k for k in range(len(leaves)) if k != self.main]
        self.sides = nn.ModuleList(nn.GRU(readers[k].width, UNITS, batch_first=True) for k in sides)
        self.side_places = sides
        width = readers[self.main].width + 2 * UNITS * len(sides)
        both = every and not causal
        self.rnn = nn.GRU(width, UNITS, batch_first=True, bidirectional=both)
        self.output_axis = self._output_axis(output, axis, examples)
        rest = list(output.movedim(self.output_axis, 0).shape[1 + every :])
        self.rest = rest
        per_frame = UNITS * (2 if both else 1)
        self.head = nn.Linear(per_frame if every else 2 * UNITS, math.prod(rest))

    def _main(self, leaves: list[Tensor], output: Tensor) -> int:
        """The first input with the frames of the output."""
        fits = (k for k, leaf in enumerate(leaves) if leaf.shape[:2] == output.shape[:2])
        return next(fits, 0)

    def _output_axis(self, output: Tensor, axis: int, examples: int) -> int:
        if self.every:
            return axis
        fits = [a for a in (0, axis) if a < output.dim() and output.shape[a] == examples]
        return fits[0] if fits else 0

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        leaves = [*inputs, *named.values()]
        read = [reader(leaf) for reader, leaf in zip(self.readers, leaves, strict=True)]
        frames = read[self.main]
        for k, rnn in zip(self.side_places, self.sides, strict=True):
            states = rnn(read[k])[0]
            summary = torch.cat([states[:, -1], states.mean(1)], 1)
            wide = summary.unsqueeze(1).expand(-1, frames.shape[1], -1)
            frames = torch.cat([frames, wide], 2)
        states = self.rnn(frames)[0]
        if self.every:
            z = self.head(states)
            z = z.reshape(*z.shape[:2], *self.rest)
        else:
            z = self.head(torch.cat([states[:, -1], states.mean(1)], 1))
            z = z.reshape(len(z), *self.rest)
        return self.final(z.movedim(0, self.output_axis))


def has_output_for_each_frame(x: Inputs, output: Tensor, y: Tensor) -> bool:
    """True if outputs and targets have the examples and frames of an input."""
    leaves = tree_leaves(x)
    has_frames = leaves[0].dim() >= 3 or not leaves[0].is_floating_point()
    alike = (leaf.shape[:2] == output.shape[:2] == y.shape[:2] for leaf in leaves)
    whole = output.dim() > 2 or y.shape == output.shape
    return has_frames and output.dim() >= 2 and whole and any(alike)


def predicts_inputs(x: Inputs, y: Tensor, axis: int) -> bool:
    """True if the targets of a frame are a later frame of the inputs, or part of one."""
    leaves = [leaf for leaf in tree_leaves(x) if leaf.shape[:2] == y.shape[:2]]
    return any(
        _is_later(leaf.movedim(axis, 0), y.movedim(axis, 0), shift)
        for leaf in leaves
        for shift in range(1, min(4, y.shape[1 - axis]))
    )


def _is_later(x: Tensor, y: Tensor, shift: int) -> bool:
    """True if frames y (B, T, ...) are those of x some frames later, in the numbers of both."""
    if x.dim() == y.dim() + 1:
        x = x[..., 0] if y.is_floating_point() else x.argmax(-1)
    later, target = x[:, shift:], y[:, :-shift]
    width = min(later.shape[-1], target.shape[-1]) if later.dim() > 2 else None
    return torch.equal(later[..., :width].to(target.dtype), target[..., :width])


def last_operation(loss_fn: object, output: Tensor, y: Tensor) -> Callable[[Tensor], Tensor]:
    """What a network must end in for a loss: log_softmax, softmax, a sigmoid, or nothing."""
    axis = class_axis(output, y)
    axis = -1 if axis is None else axis
    z = output.detach()
    if isinstance(loss_fn, nn.BCELoss):
        return torch.sigmoid
    if isinstance(loss_fn, nn.NLLLoss) or (output.dim() > 1 and is_normalised(z.exp(), axis)):
        return lambda z: z.log_softmax(axis)
    if output.dim() > 1 and output.shape[axis] > 1 and is_normalised(z, axis):
        return lambda z: z.softmax(axis)
    if bool((z >= 0).all() and (z <= 1).all()) and y.is_floating_point() and _is_share(y):
        return torch.sigmoid
    return lambda z: z


def _is_share(y: Tensor) -> bool:
    return bool((y >= 0).all() and (y <= 1).all())


def is_normalised(z: Tensor, axis: int) -> bool:
    """True for probabilities that sum to 1 along an axis."""
    return bool((z >= 0).all()) and torch.allclose(z.sum(axis), z.new_ones(()), atol=1e-4)
