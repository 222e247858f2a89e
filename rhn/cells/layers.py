"""Describe the weights and gate blocks of each layer of a cell.

    s_l = f_l(x, s_{l-1}, y),   s_0 = y the state before the time step, s_L the state after it

Legend: x input, m inputs, n units, G blocks of n rows that are stacked in a weight. A block belongs
to a gate or to the candidate.
"""

import contextlib
import itertools
from dataclasses import dataclass
from types import EllipsisType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from rhn.errors import InvalidInputError
from rhn.utils.old_names import moved
from rhn.utils.validation import whole_number


class Part(NamedTuple):
    """Some weights of a layer: `parameter[index]`, (G n, columns), or (G n,) for a bias.
    `Part("weight", numpy.s_[:, :m])` is the first m columns.
    """

    parameter: str
    index: int | slice | tuple | EllipsisType = ...  # type: ignore[assignment]  # hides tuple.index


@dataclass(frozen=True)
class GateBlocks:
    """The blocks of a layer that are gates, counted from 0: t = sigmoid(z + constant) with z of the
    block `transform`, and c = sigmoid(z) with z of the block `carry`; None if c = 1 - t. opens is
    False if sigmoid(z) is 1 - t, as in a GRU.
    """

    transform: int
    carry: int | None = None
    opens: bool = True
    constant: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Layer:
    """The weights of one layer; None for weights that it does not have. input multiplies x,
    recurrent multiplies s_{l-1}, and skip, in a layer after the first, multiplies y.
    """

    input: Part | None = None
    recurrent: Part | None = None
    skip: Part | None = None
    bias: Part | None = None
    gate: GateBlocks | None = None


def described_layers(cell: Any) -> tuple[Layer, ...]:
    """Return `cell.layers()`. Raises InvalidInputError if it does not fit the cell's weights.

    >>> from rhn.cells import RNN
    >>> described_layers(RNN(3, 4))[0].recurrent
    Part(parameter='weight_hh', index=0)
    """
    layers, where, n = tuple(cell.layers()), f"{type(cell).__name__}.layers()", cell.hidden_size
    whole_number(f"the number of {where}", len(layers), cell.depth, cell.depth)
    weights, nothing = dict(cell.named_parameters()), torch.empty(0)
    every = [(layer.input, layer.recurrent, layer.skip, layer.bias) for layer in layers]
    for part in filter(None, itertools.chain(*every)):
        weight, rows = weights.get(part.parameter, nothing), nothing
        with contextlib.suppress(LookupError, TypeError, ValueError):
            rows = weight[part.index]
        places = {t.untyped_storage().data_ptr() for t in (rows, weight)}  # two for a copy
        if len(places) > 1 or rows.dim() == 0 or len(rows) == 0 or len(rows) % n:
            wanted = f"whole numbers and slices, with rows in blocks of {n}, of {[*weights]}"
            raise InvalidInputError(f"{where} has {part}: expected {wanted}")
    return layers


def recurrent_parts(cell: Any) -> list[Part]:
    """Return the matrices (G n, n) of `described_layers` that multiply a state."""
    layers, weights = described_layers(cell), dict(cell.named_parameters())
    parts = [part for layer in layers for part in (layer.recurrent, layer.skip) if part]
    return [p for p in parts if weights[p.parameter][p.index].shape[1:] == (cell.hidden_size,)]


if not TYPE_CHECKING:
    __getattr__ = moved(__name__)
