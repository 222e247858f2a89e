"""Which layer of a network is at fault? Put a known good one in the place of each.

    for name, other in stand_ins(training):      # ("attention", a training with a GRU in its place)
        ...

A linear layer is replaced by one with a hidden layer, that reads each position by itself; any other
layer by a GRU that reads the same tensors and gives outputs of the same shape.
"""

import copy
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from rhn.errors import USERS_FAULT
from trainability.reference import Reference
from trainability.swaps import SAMPLE, with_model
from trainability.training import Training, same

HIDDEN = 64  # units inside a stand-in of a linear layer


class StandIn(nn.Module):
    """A known good layer in place of another one, for the same inputs and outputs.

    Args:
        layer: that is replaced. inputs: tensors that it got. output: what it gave.
        axis: of the examples in both.
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
        every = first.dim() >= 3 and first.shape[:2] == read[0].shape[:2]
        self.reader = Reference(read, first, axis, every=every, causal=True, final=same)
        self.used = len(read)

    def forward(self, *inputs: Tensor) -> Any:
        output = self.reader(*inputs[: self.used])
        if not self.recurrent:
            return output
        last = output.select(1 - self.axis, -1)
        state = self.state_like
        hidden = state_of(last, state[0] if isinstance(state, tuple) else state)
        return output, ((hidden, torch.zeros_like(hidden)) if isinstance(state, tuple) else hidden)


def state_of(last: Tensor, like: Tensor) -> Tensor:
    """A last state (layers x directions, B, H) from the last outputs (B, directions x H)."""
    parts = last.reshape(len(last), -1, like.shape[-1]).movedim(1, 0)
    return parts.repeat(math.ceil(len(like) / len(parts)), 1, 1)[: len(like)]


def stand_ins(training: Training) -> Iterator[tuple[str, Training]]:
    """(Name of a layer, the training with a stand-in for it), for each that can be exchanged."""
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
            model.set_submodule(name, StandIn(layer, inputs, output, axis).to(first.device))
            other = with_model(training, model)
            other.output(x)
        except USERS_FAULT:  # the network uses more of the layer than its outputs
            continue
        yield name, other


def axis_of(x: Tensor, output: Tensor, count: int, usual: int) -> int | None:
    """The axis of `count` examples in inputs and outputs of a layer; None: they have none."""
    for axis in (usual, 1 - usual):
        if all(axis < t.dim() and t.shape[axis] == count for t in (x, output)):
            return axis
    return None


def layers_of(model: nn.Module) -> dict[str, nn.Module]:
    """The layers with weights that a network names; inside a single one, those of that.

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
    """(Inputs, output) of each layer that is called once, with tensors in order."""
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
    """True if a layer reads tensors, and gives one, or one and a state."""
    first = output[0] if isinstance(output, tuple) and len(output) == 2 else output
    return isinstance(args[0], Tensor) and isinstance(first, Tensor)
