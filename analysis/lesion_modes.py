"""The modes of lesions: shut gates, skip layers, or remove inputs.

| mode  | a lesioned layer                                                 | needs of a layer |
|-------|------------------------------------------------------------------|------------------|
| bias  | transform gates shut by a bias of -1e4 (the paper's)             | gate, bias       |
| carry | passes the state through exactly, by a loop that skips the layer | `run_layer`      |
| blind | keeps its recurrence, but loses its input product                | input            |

If a cell has a separate carry gate, the mode `bias` opens this gate. The output gate of an LSTM and
the reset gate of a GRU are not changed.

Each cell describes its own layers (`rhn.cells.layers`), and so does a user's cell. The sigmoid of
-1e4 is exactly 0, and that of +1e4 exactly 1. A shut layer with coupled gates therefore returns s +
0 (h - s) = s to the last bit. The one layer of an LSTM (t = i, c = f) or GRU (t = 1 - z) is its
whole recurrence: a lesion freezes the state. `carry` shares no code with `bias`, so that tests can
compare the two.

Because lesions only change parameters, many lesioned networks can be stacked and run as one program
(`analysis.lesions.stacked_nll`). To add a mode, add a row to `MODES`, and its new values of the
parameters to `changes`.

Legend: T steps, B sequences, n units, L layers of a cell. Layers of a network are counted from 1,
through all stacked cells.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from analysis.network import Place, carried, cells_of, open_network, original, places
from analysis.sequences import width_of
from rhn.cells import Cell, Layer, Part
from rhn.errors import InvalidInputError
from rhn.utils.validation import in_short

SHUT = -1e4


@dataclass(frozen=True)
class Lesion:
    """A lesion: a mode, and the lesioned layers, counted from 1 through all stacked cells.

    >>> Lesion("bias", (1, 2))
    Lesion(mode='bias', layers=(1, 2))
    """

    mode: str
    layers: tuple[int, ...]


MODES: dict[str, tuple[str, Callable[[Layer, Cell], bool]]] = {  # (needs in words, test of a layer)
    "bias": (
        "transform gates with biases",
        lambda layer, cell: layer.gate is not None and layer.bias is not None,
    ),
    "carry": (
        "layers that can be run one by one",
        lambda layer, cell: cell.runs_layers and cell.state_size % cell.hidden_size == 0,
    ),
    "blind": ("weights of its input", lambda layer, cell: layer.input is not None),
}


def check_mode(network: nn.Module, mode: str | None) -> str:
    """Return the mode; for None the first one in `MODES` that the network has. Raises
    InvalidInputError for an unknown mode, or a mode that the cells lack.
    """
    if mode is not None and not (isinstance(mode, str) and mode in MODES):
        raise InvalidInputError(
            f"unknown mode {in_short(mode)}, expected one of {', '.join(MODES)}"
        )
    has = [m for m in MODES if lesioned_layers(network, m)]
    mode = mode or next(iter(has), "bias")
    if mode in has:
        return mode
    kinds = ", ".join(sorted({type(cell).__name__ for cell in cells_of(network).values()}))
    instead = (
        f"use {' or '.join(has)}"
        if has
        else "define layers(), and run_layer() where the depth is above 1"
    )
    raise InvalidInputError(
        f"mode {mode!r} needs {MODES[mode][0]}, which {kinds} does not describe: {instead}"
    )


def lesioned_layers(network: nn.Module, mode: str) -> list[int]:
    """Return the layers that a mode can lesion, counted from 1."""
    fits = MODES[mode][1]
    return [k for k, place in enumerate(places(network), start=1) if fits(place.layer, place.cell)]


def prepared(network: nn.Module, mode: str) -> nn.Module:
    """Return the network to which `changes` apply: for `carry` a copy with `Carried` cells,
    otherwise the network itself.
    """
    return carried(copy.deepcopy(network)) if mode == "carry" else network


def changes(network: nn.Module, lesion: Lesion) -> dict[str, Tensor]:
    """Return new values of the parameters that a lesion changes in a `prepared` network, by
    name.
    """
    draft, every = _Draft(network), places(network)
    for number in lesion.layers:
        place = every[number - 1]
        match lesion.mode:
            case "carry":
                draft.carry(place)
            case "blind":
                draft.blocks(place, place.layer.input)[:] = 0
            case "bias":
                draft.shut_gates(place)
    return draft.changed


def lesioned(
    model: nn.Module,
    lesion: Lesion,
    *,
    x: Sequence[np.ndarray] | np.ndarray | None = None,
    batch_axis: int | None = None,
) -> nn.Module:
    """Return a copy of a network with one lesion, in evaluation mode.

    x: frames (T, m), needed to find the cells of a module that has no attribute `input_size`.
    batch_axis: as for `analysis.lesion`.

    Raises InvalidInputError for a mode or layers that the network lacks.

    >>> from rhn import PolyphonicModel
    >>> model = PolyphonicModel("rhn", hidden_size=3, depth=2)
    >>> shut = lesioned(model, Lesion("bias", (2,)))  # the transform gate of the second layer
    >>> shut.cells[0].bias[1].tolist()
    [0.0, 0.0, 0.0, -10000.0, -10000.0, -10000.0]
    """
    network = open_network(model, width_of(model, x), batch_axis=batch_axis)
    mode, layers = check_mode(network, lesion.mode), lesion.layers
    fits = lesioned_layers(network, mode)
    if not (isinstance(layers, tuple) and layers and {*layers} <= {*fits}):
        raise InvalidInputError(
            f"layers is {layers!r}: expected a tuple of some of {fits}, counted from 1"
        )
    network = prepared(network, mode)
    network.load_state_dict(changes(network, lesion), strict=False)
    return original(network)


class _Draft:
    """The parameters that lesions change in a network, each copied before its first change."""

    def __init__(self, network: nn.Module):
        self._tensors = network.state_dict()
        self.changed: dict[str, Tensor] = {}
        """The copies, by name."""

    def _copy(self, name: str) -> Tensor:
        return self.changed.setdefault(name, self._tensors[name].clone())

    def blocks(self, place: Place, part: Part) -> Tensor:
        """Return a part of a layer by block and unit, (G, n, ...), as a view of its copy."""
        weight = self._copy(f"{place.name}.{part.parameter}".removeprefix("."))[part.index]
        return weight.unflatten(0, (-1, place.cell.hidden_size))

    def carry(self, place: Place) -> None:
        """Make a layer of a `Carried` cell pass the state through."""
        self._copy(place.name.removesuffix("cell") + "carried")[place.index] = True

    def shut_gates(self, place: Place) -> None:
        """Set the biases of a layer so that t = 0, and c = 1 in a separate carry gate."""
        gate, bias = place.layer.gate, self.blocks(place, place.layer.bias)
        bias[gate.transform] = (SHUT if gate.opens else -SHUT) - gate.constant
        if gate.carry is not None:
            bias[gate.carry] = -SHUT
