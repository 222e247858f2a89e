"""The network that replaces the user's: a GRU of 64 units with the same inputs and outputs.

The first input that has the time steps of the outputs is read step by step; each other input is
read as a whole, by the final and the mean state of a GRU of its own. Ids are embedded. If a layer
of the user's network is bidirectional, the GRU is too; else the output of a step reads no later
steps.

Legend: B examples, T time steps, m numbers of a step.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from rhn.utils.torch_private import tree_leaves
from trainability.data import example_axis
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

    def __init__(self, seen: Tensor, axis: int):
        super().__init__()
        self.axis = axis
        self.ids = not seen.is_floating_point()
        known = int(seen.long().max().clamp_min(0)) if self.ids else 0
        self.embedding = nn.Embedding(known + 1, EMBEDDED)
        self.width = EMBEDDED if self.ids else self.steps(seen).shape[-1]

    def steps(self, x: Tensor) -> Tensor:
        """Return x as (B, T, m), or ids as (B, T). Numbers (B, T) are T steps of one number."""
        x = x.movedim(self.axis, 0)
        if self.ids:
            return x if x.dim() == 2 else x.reshape(len(x), -1)
        return x.flatten(2) if x.dim() > 2 else x.reshape(len(x), -1, 1)

    def length(self, x: Tensor) -> int:
        """Return T."""
        return self.steps(x).shape[1]

    def forward(self, x: Tensor) -> Tensor:
        x = self.steps(x)
        if self.ids:
            return self.embedding(x.long().clamp(0, self.embedding.num_embeddings - 1))
        return x.to(self.embedding.weight.dtype)


class Reader(nn.Module):
    """A GRU over all inputs, with an output for each step, or one of its final and mean state.

    Args:
        x: all training inputs, from which ids are known.
        batch: inputs of a minibatch.
        output: main output for this minibatch, (B, ...) on the axis of the examples.
        y: its targets.
        score: knows the axes of examples and classes.
        last: the last operation that the loss needs, a key of `LINKS`; "" for none.
        both: True to read the first input in both directions.
    """

    def __init__(
        self, x: Any, batch: Any, output: Tensor, y: Tensor, score: Score, last: str, both: bool
    ):
        super().__init__()
        leaves = tree_leaves(batch)
        first = leaves[0]
        axes = [example_axis(leaf, first, score.axis) for leaf in leaves]
        parts = [InputLayer(seen, axis) for seen, axis in zip(tree_leaves(x), axes, strict=True)]
        self.inputs = nn.ModuleList(parts)
        self.back, self.last = example_axis(output, first, score.axis), last
        self.flat = len(output.movedim(self.back, 0)) != first.shape[score.axis]
        output, self.classes = classes_last(score, output, y, first)
        every = output.dim() > 2 or output.shape == score.first(y, first).shape != (len(y),)
        lengths = [part.length(leaf) for part, leaf in zip(parts, leaves, strict=True)]
        fits = [k for k, length in enumerate(lengths) if every and length == output.shape[1] > 1]
        self.every, self.main = bool(fits), next(iter(fits), 0)
        self.rest = [*output.shape[1 + self.every :]]
        widths = [part.width for part in parts]
        main = widths.pop(self.main)
        self.sides = nn.ModuleList(nn.GRU(width, UNITS, batch_first=True) for width in widths)
        main += 2 * UNITS * len(widths)
        self.rnn = nn.GRU(main, UNITS, batch_first=True, bidirectional=both)
        self.out = nn.Linear((1 + both) * UNITS * (2 - self.every), math.prod(self.rest))

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        leaves = [*inputs, *named.values()]
        read = [part(leaf) for part, leaf in zip(self.inputs, leaves, strict=True)]
        steps = read.pop(self.main)
        for rnn, other in zip(self.sides, read, strict=True):
            whole = summary(rnn(other)[0])
            steps = torch.cat([steps, whole.unsqueeze(1).expand(-1, steps.shape[1], -1)], 2)
        states = self.rnn(steps)[0]
        z = self.out(states if self.every else summary(states))
        z = z.reshape(*z.shape[: 1 + self.every], *self.rest)
        z = LINKS[self.last](z) if self.last else z
        z = z.movedim(-1, self.classes) if self.classes == 1 else z
        return z.flatten(0, 1) if self.flat else z.movedim(0, self.back)


def classes_last(score: Score, output: Tensor, y: Tensor, first: Tensor) -> tuple[Tensor, int]:
    """Return outputs with examples along axis 0 and classes along the last, and their axis."""
    output = score.first(output, first)
    if score.kind != CLASSES or output.dim() < 2:
        return output, -1
    axis = score.classes if output.dim() > 2 else -1
    return score.in_shape(output, score.first(y, first)).movedim(axis, -1), axis


def summary(states: Tensor) -> Tensor:
    """Return the final state of each direction and the mean state, (B, 2 n), of states
    (B, T, n).
    """
    ends = states[:, -1, :UNITS], states[:, 0, UNITS:]
    return torch.cat([*ends, states.mean(1)], 1)
