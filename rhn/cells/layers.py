"""Describe the weights and gate blocks of each layer of a cell, so that analyses can read or change
these weights.

    s_l = f_l(x, s_{l-1}, y)

Here s_0 = y is the state before the time step, x is the step's input, and s_L is the state after
it.

`Cell.layers()` describes the weights of each layer, and `Cell.run_layer` runs one layer. Both are
optional; a lesion needs a description of the parts that it changes.

Legend: m inputs, n units, G blocks of n rows that are stacked in a weight. A block belongs to a
gate or to the candidate.
"""

from dataclasses import dataclass
from types import EllipsisType
from typing import Any, NamedTuple

from torch import Tensor

from rhn.errors import InvalidInputError


class Part(NamedTuple):
    """Some weights of a layer: `parameter[index]` has the shape (G n, columns), or (G n,) for a
    bias.

    `Part("weight", numpy.s_[:, :m])` is the first m columns; `Part("weight_hh", 2)` is the third
    matrix of a stack.
    """

    parameter: str
    index: int | slice | tuple | EllipsisType = ...  # type: ignore[assignment]  # hides tuple.index


@dataclass(frozen=True)
class GateBlocks:
    """The blocks of a layer that are gates: t = sigmoid(z + constant) with z of the block
    `transform`, and c = sigmoid(z) with z of the block `carry`.
    """

    transform: int
    """Index of the transform gate's block, counted from 0."""
    carry: int | None = None
    """Index of the carry gate's block, counted from 0; None if c = 1 - t."""
    opens: bool = True
    """False if sigmoid(z) is 1 - t, as in a GRU."""
    constant: float = 0.0
    """A constant that the cell adds to the z of the transform gate in addition to its bias."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """The weights of one layer; None for weights that it does not have."""

    input: Part | None = None
    """The matrix that multiplies x."""
    recurrent: Part | None = None
    """The matrix that multiplies s_{l-1}."""
    skip: Part | None = None
    """The matrix that multiplies y, in a layer after the first."""
    bias: Part | None = None
    gate: GateBlocks | None = None


@dataclass(frozen=True)
class Gates:
    """Gates and states of all layers in one time step, as tensors (..., n). Entry l - 1 of each
    tuple belongs to layer l.

    h is the candidate, t the transform gate, c the carry gate, and states are s_1..s_L. For cells
    without gates all tuples are empty. len() is the number of layers.
    """

    h: tuple[Tensor, ...] = ()
    t: tuple[Tensor, ...] = ()
    c: tuple[Tensor, ...] = ()
    states: tuple[Tensor, ...] = ()

    def __len__(self) -> int:
        return len(self.t)


def described_layers(cell: Any) -> tuple[Layer, ...]:
    """Return `cell.layers()`, compared with the cell's weights. Raises InvalidInputError for a
    description that does not fit the weights.
    """
    layers, where, n = tuple(cell.layers()), f"{type(cell).__name__}.layers()", cell.hidden_size
    if len(layers) != cell.depth:
        raise InvalidInputError(
            f"{where} describes {len(layers)} layers: expected {cell.depth}, the depth"
        )
    weights = dict(cell.named_parameters())
    for part in (
        part
        for layer in layers
        for part in (layer.input, layer.recurrent, layer.skip, layer.bias)
        if part
    ):
        try:
            rows = weights[part.parameter][part.index]
        except (LookupError, TypeError, ValueError) as error:
            given = ", ".join(weights)
            raise InvalidInputError(
                f"{where}: {part} cannot be read ({error}): expected a part of {given}"
            ) from error
        if (
            rows.untyped_storage().data_ptr()
            != weights[part.parameter].untyped_storage().data_ptr()
        ):
            raise InvalidInputError(
                f"{where}: {part} is a copy: expected an index of whole numbers and slices"
            )
        if not rows.dim() or not len(rows) or len(rows) % n:
            raise InvalidInputError(
                f"{where}: {part} has shape {tuple(rows.shape)}, expected rows in whole blocks "
                f"of {n}, the hidden size"
            )
    return layers


def recurrent_parts(cell: Any) -> tuple[Part, ...]:
    """Return the weights (G n, n) that multiply a state, shortcuts included, as far as
    `cell.layers()` describes them; errors as for `described_layers`.
    """
    weights = dict(cell.named_parameters())
    parts = (
        part
        for layer in described_layers(cell)
        for part in (layer.recurrent, layer.skip)
        if part is not None
    )
    return tuple(p for p in parts if weights[p.parameter][p.index].shape[1:] == (cell.hidden_size,))
