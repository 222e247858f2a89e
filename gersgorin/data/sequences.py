"""The time steps and sequences of x, of outputs and of derivatives, all as (T, B, ...) with time
first.

Legend: T time steps; B sequences; m numbers of an input; S outputs (T, or 1 if there is one output
for each sequence); the leaf is the tensor of inputs that has gradients.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from gersgorin.data.layout import (
    Layout,
    check_batch_axis,
    declared_axis,
    is_ids,
    several_in_words,
)
from gersgorin.validate import finite_tensor
from rhn.errors import InvalidInputError


class Sequences:
    """T steps of B sequences in one tensor `values`: numbers (T, m), (T, B, m) or (B, T, m), ids
    without the axis m, or the data of a packed sequence. `lengths` (B,) are the numbers of steps of
    the sequences; None: all have T.

    Raises InvalidInputError if x has NaN or only one step, or if the axis of the batch is not
    known.
    """

    def __init__(self, model: Callable, x: Any, batch_axis: int | None):
        self.packed = x if isinstance(x, PackedSequence) else None
        values = finite_tensor("x", x if self.packed is None else self.packed.data)
        self.ids = is_ids(values)
        self.values = values if self.ids or values.is_floating_point() else values.double()
        self.lengths: Tensor | None = None
        if self.packed is None:
            self.layout = Layout.of(model, values, batch_axis, ids=self.ids)
            self.T, self.B = self.layout.sizes(values)
        else:
            check_batch_axis(batch_axis)
            self.layout = Layout(1 if batch_axis is None else batch_axis)  # of padded outputs
            self._places = places_in(self.packed)
            self.T, self.B = self._places.shape
            self.lengths = (self._places > 0).sum(0)
        if self.T < 2:
            raise InvalidInputError(self._one_step(declared_axis(model) == 1))

    def _one_step(self, time_first: bool) -> str:
        """The error message for x with one step. time_first: whether a layer has
        batch_first=False.
        """
        shape, axis = tuple(self.values.shape), self.layout.batch
        if axis is None or self.B == 1:
            return f"x {shape} has one step: expected at least two"
        said = f"x {shape} is read as one step of {self.B} sequences (axis {axis} is the batch)"
        for_steps = f"for {self.B} steps give x.transpose(0, 1)"
        if time_first and axis == 1:
            for_steps += ", or write batch_first=True in its layer"
        return f"{said}: {for_steps}; if the model moves the axes, batch_axis={1 - axis}"

    @property
    def longest(self) -> int:
        """Number of steps of the longest sequence, without padding."""
        return self.T if self.lengths is None else int(self.lengths.max())

    @property
    def words(self) -> str:
        """Words for the way in which x is read: "5 sequences of 9 to 20 steps"; "" for one
        sequence.
        """
        if self.B == 1:
            return ""
        lengths = [self.T] if self.lengths is None else self.lengths.tolist()
        return several_in_words(self.B, lengths)

    @property
    def size(self) -> str:
        """The size of x in words: "of 20 x 8", "of 5 x 20 x 8". For packed sequences, the number of
        steps is that of the longest sequence.
        """
        shape = [*self.values.shape]
        if self.packed is not None:
            shape[:1] = [self.T] if self.B == 1 else [self.T, self.B]
        return f"of {' x '.join(map(str, shape))}"

    def present(self, outputs: int) -> Tensor:
        """True for the steps that a sequence has, (T, B). If each sequence has one output, all
        sequences end at the same step.
        """
        steps = torch.arange(self.T, device=self.values.device).unsqueeze(1)
        if self.lengths is None:
            return (steps >= 0).expand(self.T, self.B)
        lengths = self.lengths.to(self.values.device)
        return steps < lengths if outputs > 1 else steps >= self.T - lengths

    def by_step(self, slopes: Tensor, outputs: int) -> Tensor:
        """Derivatives (j, ...) with respect to the leaf as (j, T, B, m); 0 if a sequence has no
        such step.
        """
        if self.packed is None:
            found = self.layout.to_time_first(slopes, lead=1)
            found = found.reshape(len(slopes), self.T, self.B, -1)
        else:
            zero = torch.zeros_like(slopes[:, :1])
            found = torch.cat((zero, slopes), 1)[:, self._places].flatten(3)
        if self.lengths is None:
            return found
        if outputs == 1:
            shifts = (self.T - self.lengths).tolist()
            columns = [found[:, :, b].roll(shift, 1) for b, shift in enumerate(shifts)]
            found = torch.stack(columns, 2)
        return torch.where(self.present(outputs).unsqueeze(2), found, 0)

    def by_frame(self, o: Tensor) -> Tensor | None:
        """Outputs as (T, B, ...), or (1, B, ...) for one output of each sequence; None for other
        shapes.
        """
        layout = self.layout.of_outputs(o, self.T, self.B)
        return self._one_each(o) if layout is None else layout.to_time_first(o)

    def _one_each(self, o: Tensor) -> Tensor | None:
        """One output of each sequence as (1, B, k); None if the outputs are not such."""
        if tuple(o.shape) == (self.B,):
            return o.reshape(1, self.B, 1)
        numbers = o.shape[-1] if o.dim() else 1
        fits = self.B == 1 or self.B in o.shape[:-1]
        return o.reshape(1, self.B, -1) if fits and o.numel() == self.B * numbers else None

    def leaf_of(
        self, ids: Tensor, vectors: Tensor, shift: Tensor | float = 0.0
    ) -> tuple[Tensor, Tensor] | None:
        """Return a leaf with the axes of x, and the vectors (..., m) of the ids as a function of
        this leaf. Returns None if the ids are not those of x.

        shift: numbers that are added to the leaf.
        """
        x, vectors = self.values, vectors.detach()
        if torch.equal(ids, x):
            leaf = vectors.clone().requires_grad_()
            return leaf, leaf + shift
        if x.dim() == 2 and torch.equal(ids, x.T):
            leaf = vectors.transpose(0, 1).clone().requires_grad_()
            return leaf, (leaf + shift).transpose(0, 1)
        if self.B == 1 and torch.equal(ids.flatten(), x.flatten()):
            leaf = vectors.reshape(*x.shape, -1).clone().requires_grad_()
            return leaf, (leaf + shift).reshape(vectors.shape)
        return None

    def steps_of(self, leaf: Tensor) -> Tensor:
        """The time step of each entry of a leaf that has the axes of x; the result broadcasts
        against the leaf.
        """
        if self.packed is not None:
            steps = torch.arange(self.T, device="cpu").repeat_interleave(self.packed.batch_sizes)
            return steps.to(leaf.device).reshape(-1, *[1] * (leaf.dim() - 1))
        time = self.layout.time
        shape = [self.T if axis == time else 1 for axis in range(leaf.dim())]
        return torch.arange(self.T, device=leaf.device).reshape(shape)


def places_in(packed: PackedSequence) -> Tensor:
    """The index, counted from 1, of each step in the data of a packed sequence, (T, B); 0 for
    padding.
    """
    count = torch.arange(1, len(packed.data) + 1, device=packed.data.device)
    return pad_packed_sequence(packed._replace(data=count))[0]
