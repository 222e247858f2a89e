"""Axes of the steps and sequences of x, of outputs and of derivatives.

Legend: T steps, B sequences, m numbers of an input, S outputs (T, or 1 of a sequence).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from gersgorin._validate import finite_tensor
from gersgorin.data.layout import Layout, declared_axis, is_ids
from rhn.errors import InvalidInputError


class Sequences:
    """The axes of x: how its T steps and B sequences lie in one tensor `values`, (T, m), (T, B, m),
    (B, T, m), ids likewise, or the data of a packed sequence.

    Raises InvalidInputError for NaN, one step, or an unknown batch axis.
    """

    def __init__(self, model: Callable, x: Any, batch_axis: int | None):
        self.packed = x if isinstance(x, PackedSequence) else None
        values = finite_tensor("x", x if self.packed is None else self.packed.data)
        self.ids = is_ids(values)
        self.values = values if self.ids or values.is_floating_point() else values.double()
        self._places = None if self.packed is None else places_in(self.packed)
        if self._places is None:
            self.axis = Layout.of(model, values, batch_axis, ids=self.ids).batch
        else:
            self.axis = 1 if batch_axis is None else batch_axis  # of padded outputs
        self.T, self.B = self._sizes()
        if self.T < 2:
            raise InvalidInputError(self._one_step(declared_axis(model) == 1))

    def _sizes(self) -> tuple[int, int]:
        """T and B."""
        shape = self.values.shape
        if self._places is not None:
            return self._places.shape[0], self._places.shape[1]
        if self.axis is None:
            return shape[0], 1
        return shape[1 - self.axis], shape[self.axis]

    def _one_step(self, time_first: bool) -> str:
        """The sentence for x of one step; time_first: whether a layer has batch_first=False."""
        shape = tuple(self.values.shape)
        if self.axis is None or self.B == 1:
            return f"x {shape} has one step: expected at least two"
        said = (
            f"x {shape} is read as one step of {self.B} sequences (axis {self.axis} is the batch)"
        )
        for_steps = f"for {self.B} steps give x.transpose(0, 1)"
        if time_first and self.axis == 1:
            for_steps += ", or write batch_first=True in its layer"
        return f"{said}: {for_steps}; if the model moves the axes, batch_axis={1 - self.axis}"

    @property
    def words(self) -> str:
        """The reading of x: "20 steps of 5 sequences"; "" for one sequence."""
        return f"{self.T} steps of {self.B} sequences" if self.B > 1 else ""

    def present(self, outputs: int) -> Tensor:
        """True for the steps that a sequence has, (T, B); for one output they end together."""
        if self._places is None:
            return torch.ones(self.T, self.B, dtype=torch.bool, device=self.values.device)
        return self._aligned(outputs) > 0

    def by_step(self, slopes: Tensor, outputs: int) -> Tensor:
        """Derivatives (j, ...) in the leaf as (j, T, B, m), 0 where a sequence has no such step."""
        if self._places is not None:
            zero = torch.zeros_like(slopes[:, :1])
            return torch.cat((zero, slopes), 1)[:, self._aligned(outputs)].flatten(3)
        if self.axis == 0:
            slopes = slopes.transpose(1, 2)
        return slopes.reshape(len(slopes), self.T, self.B, -1)

    def by_frame(self, o: Tensor) -> Tensor | None:
        """Outputs as (T, B, ...), or (1, B, ...) for one of a sequence; None if they are neither.

        They may also have time and batch the other way round than x.
        """
        pair = tuple(o.shape[:2])
        if self.axis is None and o.dim() and o.shape[0] == self.T:
            return o.unsqueeze(1)
        as_x = (self.B, self.T) if self.axis == 0 else (self.T, self.B)
        if pair == as_x:
            return o.transpose(0, 1) if self.axis == 0 else o
        if pair == as_x[::-1]:
            return o if self.axis == 0 else o.transpose(0, 1)
        return self._one_each(o)

    def _one_each(self, o: Tensor) -> Tensor | None:
        """One output of each sequence as (1, B, k); None if it is none."""
        if tuple(o.shape) == (self.B,):
            return o.reshape(1, self.B, 1)
        numbers = o.shape[-1] if o.dim() else 1
        fits = self.B == 1 or self.B in o.shape[:-1]
        return o.reshape(1, self.B, -1) if fits and o.numel() == self.B * numbers else None

    def leaf_of(self, ids: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor] | None:
        """(A leaf with the axes of x, these vectors (..., m) as its function); None for ids that
        are not those of x.
        """
        x, vectors = self.values, vectors.detach()
        if torch.equal(ids, x):
            leaf = vectors.clone().requires_grad_()
            return leaf, leaf.clone()
        if x.dim() == 2 and torch.equal(ids, x.T):
            leaf = vectors.transpose(0, 1).clone().requires_grad_()
            return leaf, leaf.transpose(0, 1).clone()
        if self.B == 1 and torch.equal(ids.flatten(), x.flatten()):
            leaf = vectors.reshape(*x.shape, -1).clone().requires_grad_()
            return leaf, leaf.reshape(vectors.shape).clone()
        return None

    def _aligned(self, outputs: int) -> Tensor:
        places = self._places
        assert places is not None
        if outputs > 1:
            return places
        lengths = (places > 0).sum(0).tolist()
        columns = [places[:, b].roll(self.T - n) for b, n in enumerate(lengths)]
        return torch.stack(columns, 1)


def places_in(packed: PackedSequence) -> Tensor:
    """The place, counted from 1, of each step (T, B) in the data of a packed sequence; 0: none."""
    count = torch.arange(1, len(packed.data) + 1, device=packed.data.device)
    return pad_packed_sequence(packed._replace(data=count))[0]
