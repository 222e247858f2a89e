"""The known good network, and known good layers that replace single layers of a network.

    model = Reference(x, output, axis, ...)      # a GRU that reads x, with outputs of this shape
    for name, other in stand_ins(training):      # ("attention", a run with a GRU in its place)
        ...

The known good network standardises the numbers that it reads, and reads ids through an embedding.
If there are several inputs, the first that has the frames of the outputs is read frame by frame.
Each other input is read as a whole, by final and mean states. Examples may lie along either axis.
The output for a frame depends on later frames only if this is so in the user's network, and if no
target is a later input.

The known good layer for a linear layer is a network with a hidden layer, which reads each time step
separately. Any other layer is replaced by a GRU that reads the same tensors.

Legend: B examples, T frames, m numbers of a frame, K outputs.
"""

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from gersgorin.data.layout import Layout
from gersgorin.losses import Loss
from rhn.errors import USERS_FAULT
from trainability.axes import OutputAxes
from trainability.data import SAMPLE, Inputs, with_sequence
from trainability.losses import expects_logits, is_normalised, lie_in_0_to_1
from trainability.training import Training, same

UNITS = 64
HIDDEN = 64  # units inside a stand-in of a linear layer
EMBEDDED = 32  # numbers of an id
SPARE_IDS = 2000  # ids beyond those that were seen


class _Reader(nn.Module):
    """One input as a sequence (B, T, m) of standardised numbers or embedded ids."""

    mean: Tensor
    spread: Tensor

    def __init__(self, seen: Tensor, axis: int, examples: int, *, standardise: bool):
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
            spread = torch.where(spread > 1e-12, spread, torch.ones(()))
            self.register_buffer("mean", flat.mean(0) * standardise)
            self.register_buffer("spread", spread if standardise else torch.ones_like(spread))
            width = flat.shape[1]
        self.width = width

    def _as_frames(self, x: Tensor) -> Tensor:
        """Return x as (B, T, m). Numbers (B, T) are T frames of one number; (B,) is a
        single frame.
        """
        x = x.movedim(self.axis, 0)
        if self.ids:
            return x if x.dim() == 2 else x.reshape(len(x), -1)
        return x.flatten(2) if x.dim() >= 3 else x.reshape(len(x), -1, 1)

    def forward(self, x: Tensor) -> Tensor:
        frames = self._as_frames(x)
        if self.ids:
            return self.embedding(frames.clamp_min(0))
        return ((frames - self.mean) / self.spread).to(self.mean.dtype)


class Reference(nn.Module):
    """A GRU of 64 units over all inputs, with an output for each frame, or one output from its
    states.

    Args:
        x: inputs of a minibatch.
        output: outputs for this minibatch, from which the shape is read.
        axis, output_axis: axis of the examples in x, and in outputs.
        main: place of the input that has the frames of the outputs, see `input_of_frames`; None:
            one output per example.
        causal: whether the output for a frame reads no later frames.
        final: the last operation, such as a log_softmax over classes.
        standardise: whether numbers are standardised by the minibatch's means and deviations.
    """

    def __init__(
        self,
        x: Inputs,
        output: Tensor,
        axis: int,
        *,
        output_axis: int,
        main: int | None,
        causal: bool,
        final: Callable[[Tensor], Tensor],
        standardise: bool = True,
    ):
        super().__init__()
        leaves = tree_leaves(x)
        examples = leaves[0].shape[axis]
        every = main is not None
        self.every, self.final, self.axis = every, final, axis
        readers = [_Reader(leaf, axis, examples, standardise=standardise) for leaf in leaves]
        self.readers = nn.ModuleList(readers)
        self.main = main or 0
        sides = [k for k in range(len(leaves)) if k != self.main]
        self.sides = nn.ModuleList(nn.GRU(readers[k].width, UNITS, batch_first=True) for k in sides)
        self.side_places = sides
        width = readers[self.main].width + 2 * UNITS * len(sides)
        both = every and not causal
        self.rnn = nn.GRU(width, UNITS, batch_first=True, bidirectional=both)
        self.output_axis = output_axis
        rest = list(output.movedim(output_axis, 0).shape[1 + every :])
        self.rest = rest
        per_frame = UNITS * (2 if both else 1)
        self.head = nn.Linear(per_frame if every else 2 * UNITS, math.prod(rest))

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


def input_of_frames(x: Inputs, output: Tensor, y: Tensor, axes: OutputAxes) -> int | None:
    """Return the index of the first input that has the examples and frames of outputs and targets.

    For an encoder and a decoder, the result is the second input. None if outputs have no frames.
    """
    leaves = tree_leaves(x)
    has_frames = leaves[0].dim() >= 3 or not leaves[0].is_floating_point()
    whole = output.dim() > 2 or (output.dim() == 2 and y.shape == output.shape)
    if not has_frames or not whole or axes.classes == 1:  # then frames are last
        return None
    alike = (leaf.shape[:2] == output.shape[:2] == y.shape[:2] for leaf in leaves)
    return next((k for k, same in enumerate(alike) if same), None)


@torch.no_grad()
def is_causal(training: Training, x: Inputs) -> bool:
    """True if no output for the first half of the frames changes with frames of the second half.

    Outputs must have one entry per frame. The network gets torch's weights, since weights of 0
    would hide a change.
    """
    first, frames = tree_leaves(x)[0], training.layout.time
    half = (first.shape[frames] + 1) // 2
    late = (torch.arange(first.shape[frames]) >= half).to(first.device)
    late = late.reshape([-1 if a == frames else 1 for a in range(first.dim())])

    def outputs(x: Inputs) -> Tensor:
        other = training.with_default_weights()
        other.model.eval()
        return other.output(x).narrow(frames, 0, half)

    changed = torch.where(late, first.roll(1, training.axis), first)
    return torch.equal(outputs(x), outputs(with_sequence(x, changed)))


def predicts_inputs(x: Inputs, y: Tensor, layout: Layout) -> bool:
    """True if the targets of a frame are a later frame of an input, or part of one."""
    return any(shift for _, shift in places_of_targets(x, y, layout))


def places_of_targets(x: Inputs, y: Tensor, layout: Layout) -> list[tuple[int, int]]:
    """Return (index of an input, least shift) for each input that contains the targets of a frame
    `shift` frames later. A shift is 0 to 3 frames, and shorter than the frames that are compared:
    those of a reversed short sequence are no later ones.

    >>> x = torch.tensor([[3, 1, 4, 1, 5, 9]])
    >>> places_of_targets(x[:, :-1], x[:, 1:], Layout(0))
    [(0, 1)]
    """
    found = []
    for k, leaf in enumerate(tree_leaves(x)):
        if leaf.shape[:2] == y.shape[:2]:
            pair = layout.to_time_first(leaf), layout.to_time_first(y)
            shifts = range(min(4, (y.shape[layout.time] + 1) // 2))
            found += [(k, shift) for shift in shifts if _is_later(*pair, shift)][:1]
    return found


def _is_later(x: Tensor, y: Tensor, shift: int) -> bool:
    """True if frames y (T, B, ...) equal those of x `shift` frames later, in the numbers that both
    have.
    """
    if x.dim() == y.dim() + 1:
        x = x[..., 0] if y.is_floating_point() else x.argmax(-1)
    later, target = x[shift:], y[: len(y) - shift]
    width = min(later.shape[-1], target.shape[-1]) if later.dim() > 2 else None
    return torch.equal(later[..., :width].to(target.dtype), target[..., :width])


def last_operation(
    loss_fn: Loss, output: Tensor, y: Tensor, axes: OutputAxes
) -> Callable[[Tensor], Tensor]:
    """Return the last operation that a loss needs: log_softmax, softmax, a sigmoid, or none."""
    axis = -1 if axes.classes is None else axes.classes
    z = output.detach()
    if isinstance(loss_fn, nn.BCELoss) and axes.classes is None:
        return torch.sigmoid
    if isinstance(loss_fn, nn.NLLLoss) or (output.dim() > 1 and is_normalised(z.exp(), axis)):
        return lambda z: z.log_softmax(axis)
    if output.dim() > 1 and is_normalised(z, axis):
        return lambda z: z.softmax(axis)
    is_share = y.is_floating_point() and lie_in_0_to_1(y)
    if lie_in_0_to_1(z) and is_share and not expects_logits(loss_fn, output, y):
        return torch.sigmoid
    return lambda z: z


class StandIn(nn.Module):
    """A known good layer that replaces a layer of the user's network, for the same inputs and
    outputs.

    Args:
        layer: the layer that is replaced.
        inputs, output: tensors that this layer read, and its output for them.
        axis: axis of the examples in both.
    """

    def __init__(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Any, axis: int):
        super().__init__()
        self.state_like: Any = output[1] if isinstance(layer, nn.RNNBase) else None
        self.axis, self.recurrent = axis, isinstance(layer, nn.RNNBase)
        first = output[0] if self.recurrent else output
        if isinstance(layer, nn.Linear):
            self.reader: nn.Module = nn.Sequential(
                nn.Linear(layer.in_features, HIDDEN),
                nn.Tanh(),
                nn.Linear(HIDDEN, layer.out_features),
            )
            self.used = 1
            return
        read = inputs[:1] if self.recurrent else inputs
        main = 0 if first.dim() >= 3 and first.shape[:2] == read[0].shape[:2] else None
        self.reader = Reference(
            read, first, axis, output_axis=axis, main=main, causal=True, final=same
        )
        self.used = len(read)

    def forward(self, *inputs: Tensor) -> Any:
        output = self.reader(*inputs[: self.used])
        if not self.recurrent:
            return output
        last = output.select(Layout(self.axis).time, -1)
        state = self.state_like
        hidden = last_state(last, state[0] if isinstance(state, tuple) else state)
        return output, ((hidden, torch.zeros_like(hidden)) if isinstance(state, tuple) else hidden)


def last_state(last: Tensor, like: Tensor) -> Tensor:
    """Return a last state (layers x directions, B, H), made from the last outputs (B, directions x
    H).
    """
    parts = last.reshape(len(last), -1, like.shape[-1]).movedim(1, 0)
    return parts.repeat(math.ceil(len(like) / len(parts)), 1, 1)[: len(like)]


def stand_ins(training: Training) -> Iterator[tuple[str, Training]]:
    """Yield (name of a layer, the training run with a known good layer in its place), for each
    layer that can be replaced.
    """
    x, _ = training.data.sample(SAMPLE)
    calls = calls_of_layers(training, x)
    count = next(iter(torch.utils._pytree.tree_leaves(x))).shape[training.axis]
    for name, (inputs, output) in calls.items():
        layer = training.model.get_submodule(name)
        first = output[0] if isinstance(output, tuple) else output
        axis = axis_of(inputs[0], first, count, training.axis)
        if axis is None:
            continue
        torch.manual_seed(5)
        model = copy.deepcopy(training.model)
        try:
            model.set_submodule(name, StandIn(layer, inputs, output, axis).to(first))
            other = training.with_model(model)
            other.output(x)
        except USERS_FAULT:  # the network uses more of the layer than its outputs
            continue
        yield name, other


def axis_of(x: Tensor, output: Tensor, count: int, usual: int) -> int | None:
    """Return the axis with `count` examples in inputs and outputs of a layer; None if there is
    none.
    """
    for axis in (usual, 1 - usual):
        if all(axis < t.dim() and t.shape[axis] == count for t in (x, output)):
            return axis
    return None


def layers_of(model: nn.Module) -> dict[str, nn.Module]:
    """Return the layers with weights of a network, by name; if the network has a single part, the
    layers inside it.

    >>> list(layers_of(nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))))
    ['0', '2']
    """
    layers = dict(model.named_children())
    while len(layers) == 1 and not isinstance(next(iter(layers.values())), nn.RNNBase):
        ((name, only),) = layers.items()
        inner = {f"{name}.{key}": part for key, part in only.named_children()}
        if not inner:
            break
        layers = inner
    return {
        name: layer
        for name, layer in layers.items()
        if next(layer.parameters(), None) is not None and not isinstance(layer, nn.Embedding)
    }


def calls_of_layers(training: Training, x: Any) -> dict[str, tuple[tuple[Tensor, ...], Any]]:
    """For each layer that is called once, with tensors as positional arguments, return (inputs,
    output).
    """
    other = training.copy()
    calls: dict[str, list] = {}
    handles = [
        layer.register_forward_hook(
            lambda _, args, kwargs, output, name=name: calls.setdefault(name, []).append(
                (args, kwargs, output)
            ),
            with_kwargs=True,
        )
        for name, layer in layers_of(other.model).items()
    ]
    with torch.no_grad():
        other.output(x)
    for handle in handles:
        handle.remove()
    return {
        name: (tuple(a.detach() for a in args if isinstance(a, Tensor)), output)
        for name, ((args, kwargs, output), *more) in calls.items()
        if not more and not kwargs and args and is_exchangeable(args, output)
    }


def is_exchangeable(args: tuple, output: Any) -> bool:
    """True if a layer reads tensors, and returns one tensor, or one tensor and a state."""
    first = output[0] if isinstance(output, tuple) and len(output) == 2 else output
    return isinstance(args[0], Tensor) and isinstance(first, Tensor)
