"""What a cell says of its own layers, so that others can watch a layer or take it out without knowing the cell.

    s_l = f_l(x, s_{l-1}, y)        s_0 = y the state before the step, x its input, s_L the state after it

`Cell.layers()` says where the weights of each layer are, `Cell.run_layer` runs one. All of it may be left out: what a cell does not
say cannot be lesioned that way.

Legend: m inputs, n units, G blocks of n rows that are stacked in a weight (a gate each, or the candidate).
"""

from dataclasses import dataclass
from types import EllipsisType
from typing import TYPE_CHECKING, NamedTuple

from rhn.errors import InvalidInputError
from rhn.kernels.activations import ACTIVATIONS

if TYPE_CHECKING:
    from rhn.cells.base import Cell


class Part(NamedTuple):
    """Some weights of a layer: `parameter[index]` is (G n, columns), or (G n,) for a bias.

    `Part("weight", numpy.s_[:, :m])` is the first m columns, `Part("weight_hh", 2)` the third matrix of a stack.
    """

    parameter: str
    index: int | slice | tuple | EllipsisType = ...


@dataclass(frozen=True)
class GateBlocks:
    """Which blocks are a layer's gates: t = sigmoid(z + constant) of the block `transform`, c likewise of the block `carry`."""

    transform: int
    """Counted from 0, as `carry`."""
    carry: int | None = None
    """None where c = 1 - t."""
    opens: bool = True
    """False where sigmoid(z) is 1 - t, as in a GRU."""
    constant: float = 0.0
    """What the cell adds to the transform gate's z besides its bias."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Where the weights of one layer are; None for what it has not."""

    input: Part | None = None
    """What x is multiplied with."""
    recurrent: Part | None = None
    """What s_{l-1} is multiplied with."""
    skip: Part | None = None
    """What y is multiplied with, in a layer after the first."""
    bias: Part | None = None
    gate: GateBlocks | None = None
    output: str | None = None
    """In a layer without gates the function of s_l = output(z), a name in `rhn.kernels.activations`."""


def described_layers(cell: "Cell") -> tuple[Layer, ...]:
    """`cell.layers()`, checked against its weights; raises InvalidInputError for a description that does not fit them."""
    layers, weights, n = tuple(cell.layers()), dict(cell.named_parameters()), cell.hidden_size
    name = f"{type(cell).__name__}.layers()"
    if len(layers) != cell.depth:
        raise InvalidInputError(f"{name} describes {len(layers)} layers: expected {cell.depth}, the depth")
    for layer in layers:
        blocks = set()
        for part in filter(None, (layer.input, layer.recurrent, layer.skip, layer.bias)):
            if part.parameter not in weights:
                raise InvalidInputError(f"{name} names {part.parameter!r}: expected one of {', '.join(weights)}")
            try:
                rows = len(weights[part.parameter][part.index])
            except (IndexError, TypeError, ValueError) as error:
                raise InvalidInputError(f"{name}: {part} cannot be read: {error}") from error
            if rows == 0 or rows % n:
                raise InvalidInputError(
                    f"{name}: {part} has {rows} rows, expected whole blocks of {n}, the hidden size"
                )
            blocks.add(rows // n)
        if len(blocks) > 1:
            raise InvalidInputError(f"{name}: the parts of a layer have {sorted(blocks)} blocks, expected equally many")
        gates = () if layer.gate is None else filter(lambda k: k is not None, (layer.gate.transform, layer.gate.carry))
        if any(not 0 <= gate < max(blocks, default=0) for gate in gates):
            raise InvalidInputError(
                f"{name}: {layer.gate} is not among {max(blocks, default=0)} blocks, counted from 0"
            )
        if layer.output not in (None, *ACTIVATIONS):
            raise InvalidInputError(
                f"{name}: the output {layer.output!r} is unknown, expected one of {', '.join(ACTIVATIONS)}"
            )
    return layers
