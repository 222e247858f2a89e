"""The network that replaces the user's: a GRU of 64 units with the same inputs and outputs.

The first input that has the time steps of the outputs is read step by step; each other input is
read as a whole, by the final and the mean state of a GRU of its own. Ids are embedded. If a layer
of the user's network is bidirectional, the GRU is too; else the output of a step reads no later
steps.

Legend: B examples, T time steps, m numbers of a step.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rhn.utils.torch_private import tree_leaves
from trainability.layout import Layout
from trainability.scores import CLASSES, Score

UNITS, EMBEDDED = 64, 32
LINKS: dict[str, Callable[[Tensor], Tensor]] = {
    "Softmax": lambda z: z.softmax(-1),
    "LogSoftmax": lambda z: z.log_softmax(-1),
    "Sigmoid": torch.sigmoid,
    "Softplus": nn.functional.softplus,
    "Exp": torch.exp,
}
"""Last operations that keep outputs in the range that a loss needs."""


class InputLayer(nn.Module):
    """One input as a sequence (B, T, m) of numbers or embedded ids."""

    def __init__(self, seen: Tensor):
        super().__init__()
        self.ids = not seen.is_floating_point()
        known = int(seen.long().max().clamp_min(0)) if self.ids else 0
        self.embedding = nn.Embedding(known + 1, EMBEDDED)
        self.width = EMBEDDED if self.ids else as_steps(seen).shape[-1]

    def forward(self, x: Tensor) -> Tensor:
        x = as_steps(x)
        if self.ids:
            return self.embedding(x.long().clamp(0, self.embedding.num_embeddings - 1))
        return x.to(self.embedding.weight.dtype)


def as_steps(x: Tensor) -> Tensor:
    """Return numbers as (B, T, m), or ids as (B, T). Numbers (B, T) are T steps of one number."""
    if not x.is_floating_point():
        return x.reshape(len(x), -1)
    return x.flatten(2) if x.dim() > 2 else x.reshape(len(x), -1, 1)


@dataclass(frozen=True)
class Interface:
    """What a network reads step by step, and the shape of its outputs."""

    main: int
    """The number of the input that is read step by step."""
    every: bool
    """True for an output of each step of this input, (B, T, ...)."""
    shape: tuple[int, ...]
    """The shape of one output, with classes along the last axis."""
    classes: int
    """The axis of classes in outputs: 1 or the last, -1."""
    flat: bool
    """True if the outputs of all steps are rows (B T, ...)."""

    @classmethod
    def of(cls, x: Any, output: Tensor, y: Tensor, score: Score) -> "Interface":
        """Return the interface of a network with this main output for a minibatch (x, y)."""
        flat = len(output) != len(y)
        output, classes = classes_last(score, output, y)
        is_as_targets = output.shape == y.shape and y.dim() > 1
        may_have_steps = output.dim() > 2 or is_as_targets
        lengths = [as_steps(leaf).shape[1] for leaf in tree_leaves(x)]
        steps = output.shape[1] if may_have_steps else 1
        if steps > 1 and steps in lengths:
            return cls(lengths.index(steps), True, tuple(output.shape[2:]), classes, flat)
        return cls(0, False, tuple(output.shape[1:]), classes, flat)


class Reader(nn.Module):
    """A GRU over all inputs, with an output for each step, or one of its final and mean state.

    Args:
        x: all training inputs, from which ids are known.
        plan: that of the network which is replaced.
        layout: that of the user's inputs and outputs, which are those of the GRU.
        last: the last operation that the loss needs, a key of `LINKS`; "" for none.
        both: True to read the main input in both directions.
    """

    def __init__(self, x: Any, plan: Interface, layout: Layout, *, last: str, both: bool):
        super().__init__()
        self.plan, self.layout, self.last = plan, layout, last
        inputs = [InputLayer(seen) for seen in tree_leaves(x)]
        self.inputs = nn.ModuleList(inputs)

        widths = [each.width for each in inputs]
        main_width = widths.pop(plan.main)
        self.sides = nn.ModuleList(nn.GRU(width, UNITS, batch_first=True) for width in widths)

        main_width += 2 * UNITS * len(widths)  # a final and a mean state of each
        self.rnn = nn.GRU(main_width, UNITS, batch_first=True, bidirectional=both)

        directions = 2 if both else 1
        parts = 1 if plan.every else 2  # the states, or the final and the mean state
        self.out = nn.Linear(directions * parts * UNITS, math.prod(plan.shape))

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        plan = self.plan
        leaves = self.layout.inputs_first([*inputs, *named.values()])
        read = [layer(leaf) for layer, leaf in zip(self.inputs, leaves, strict=True)]
        steps = read.pop(plan.main)
        for rnn, other in zip(self.sides, read, strict=True):
            whole = summary(rnn(other)[0])
            steps = torch.cat([steps, whole.unsqueeze(1).expand(-1, steps.shape[1], -1)], 2)
        states = self.rnn(steps)[0]
        z = self.out(states if plan.every else summary(states))
        z = z.reshape(*z.shape[:-1], *plan.shape)
        z = LINKS[self.last](z) if self.last else z
        z = z.movedim(-1, 1) if plan.classes == 1 else z
        return self.layout.as_output(z.flatten(0, 1) if plan.flat else z)


def classes_last(score: Score, output: Tensor, y: Tensor) -> tuple[Tensor, int]:
    """Return outputs with classes along the last axis, and the axis that they had."""
    if score.kind != CLASSES or output.dim() < 2:
        return output, -1
    return score.in_shape(output, y).movedim(score.classes, -1), score.classes


def summary(states: Tensor) -> Tensor:
    """Return the final state of each direction and the mean state, (B, 2 n), of states
    (B, T, n).
    """
    ends = states[:, -1, :UNITS], states[:, 0, UNITS:]
    return torch.cat([*ends, states.mean(1)], 1)
