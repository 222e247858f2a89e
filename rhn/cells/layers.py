"""Describe the weights and gate blocks of each layer of a cell, its gates and its dropout masks.

    s_l = f_l(x, s_{l-1}, y),   s_0 = y the state before the time step, s_L the state after it

Legend: x input, m inputs, n units, G blocks of n rows that are stacked in a weight. A block belongs
to a gate or to the candidate.
"""

import contextlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from types import EllipsisType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rhn import cells
from rhn.errors import InvalidInputError
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


@dataclass(frozen=True)
class Gates:
    """Gates and states of all layers in one time step, as tensors (..., n), one for each layer.

    h is the candidate, t the transform gate, c the carry gate, and states are s_1..s_L. For cells
    without gates all tuples are empty. len() is the number of layers.
    """

    h: tuple[Tensor, ...] = ()
    t: tuple[Tensor, ...] = ()
    c: tuple[Tensor, ...] = ()
    states: tuple[Tensor, ...] = ()

    def __len__(self) -> int:
        return len(self.t)


class CellMasks(NamedTuple):
    """Dropout masks of one cell for one window of B sequences, constants without a gradient. A mask
    that is None drops nothing.

    All time steps and all recurrence layers share a draw (Gal and Ghahramani 2016):

        z_j = W_j (x * input_j) + R_j (s * state_j) + b_j     j is a gate or the candidate
        s'  = (h * candidate) * t + s * c                     candidate: Semeniuta et al. (2016)

    Shapes: input (J, B, m), state (J, B, n), candidate (B, n). Entries are 0 or 1 / keep. With
    J = 1 the blocks share one mask (official TensorFlow code). With J = G each block has its own
    (official Torch7 code; RHN only).
    """

    input: Tensor | None = None
    state: Tensor | None = None
    candidate: Tensor | None = None


TORCH_GATES = {"LSTM": GateBlocks(0, carry=1), "GRU": GateBlocks(1, opens=False)}


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


def layers_in(*modules: nn.Module) -> Iterator[tuple[nn.Module, Layer]]:
    """Yield the layers of cells of this package, of torch, and of the user's own modules.

    >>> [layer.recurrent.parameter for _, layer in layers_in(nn.GRU(2, 3, num_layers=2))]
    ['weight_hh_l0', 'weight_hh_l1']
    """
    for module in modules:
        found: Iterable[Layer] = ()
        if isinstance(module, cells.Cell):
            found = (layer for layer in module.layers() if isinstance(layer, Layer))
        elif isinstance(module, nn.RNNBase | nn.RNNCellBase):
            found = _layers_of_torch(module)
        elif isinstance(module, nn.Linear) or not type(module).__module__.startswith("torch."):
            found = _layers_of_matrices(module)
        yield from ((module, layer) for layer in found)


def _layers_of_matrices(module: nn.Module) -> Iterator[Layer]:
    """Yield a layer for each matrix of a linear layer, or of the user's own module."""
    bias = Part("bias") if isinstance(module, nn.Linear) else None
    for name, p in module.named_parameters(recurse=False):
        if p.dim() == 2:
            square, part = p.shape[0] == p.shape[1], Part(name)
            yield Layer(recurrent=part, bias=bias) if square else Layer(input=part, bias=bias)


def _layers_of_torch(module: nn.Module) -> Iterator[Layer]:
    """Yield the layers of a recurrent module of torch."""
    kind = type(module).__name__
    gate = next((blocks for name, blocks in TORCH_GATES.items() if kind.startswith(name)), None)
    for name, _ in module.named_parameters(recurse=False):
        if name.startswith("weight_hh"):
            end = name.removeprefix("weight_hh")
            first, reads = end in ("", "_l0", "_l0_reverse"), Part(f"weight_ih{end}")
            layer = Layer(recurrent=Part(name), bias=Part(f"bias_ih{end}"), gate=gate)
            yield replace(layer, input=reads) if first else replace(layer, skip=reads)
