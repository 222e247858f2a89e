"""The modes of lesions: shut gates, skip layers, or remove inputs.

| mode  | a lesioned layer                                                 | needs of a layer |
|-------|------------------------------------------------------------------|------------------|
| bias  | transform gates shut by a bias of -1e4 (the paper's)             | gate, bias       |
| carry | passes the state through exactly; a check of `bias`              | `run_layer`      |
| blind | keeps its recurrence, but loses its input product; a control     | input            |

The mode `bias` also opens a separate carry gate. The output gate of an LSTM and the reset gate of a
GRU are not changed. The sigmoid of -1e4 is exactly 0, and that of +1e4 exactly 1: a shut layer with
coupled gates returns s + 0 (h - s) = s to the last bit. The one layer of an LSTM (t = i, c = f) or
GRU (t = 1 - z) is its whole recurrence: a lesion freezes the state. `carry` shares no code with
`bias`, so that tests can compare the two: a cell runs in a loop that skips the layer; in a layer of
torch.nn all weights are 0, so that a state of zeros stays.

Layers of a network are counted from 1, in the order in which it declares them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn

from analysis.layers import Place, copied_network, places
from gersgorin import checks
from rhn.cells import Cell, GateBlocks

SHUT = -1e4


@dataclass(frozen=True)
class Lesion:
    """A lesion: a mode, and the lesioned layers, counted from 1 through all stacked cells.

    >>> Lesion("bias", (1, 2))
    Lesion(mode='bias', layers=(1, 2))
    """

    mode: str
    layers: tuple[int, ...]


MODES: dict[str, Callable[[Place], bool]] = {
    "bias": lambda place: place.layer.gate is not None and place.layer.bias is not None,
    "carry": lambda place: (
        place.cell.runs_layers and place.cell.state_size % place.cell.hidden_size == 0
    ),
    "blind": lambda place: place.layer.input is not None,
}
"""For each mode: whether a layer can have the lesion."""


def check_mode(every: Sequence[Place], mode: str | None) -> str:
    """Return the mode; for None the first one in `MODES` that some layer has. Raises
    InvalidInputError for a mode that is unknown, or that no layer can have.
    """
    has = [m for m in MODES if lesioned_layers(every, m)]
    kinds = ", ".join(sorted({type(place.cell).__name__ for place in every}))
    found = next(iter(has), "bias") if mode is None else mode
    wanted = ", ".join(has) or "layers() and run_layer()"
    checks.require(found in has, f"mode of {kinds}", found, wanted)
    return found


def lesioned_layers(every: Sequence[Place], mode: str) -> list[int]:
    """Return the layers that a mode can lesion, counted from 1."""
    return [k for k, place in enumerate(every, start=1) if MODES[mode](place)]


def changes(
    every: Sequence[Place], tensors: Mapping[str, Tensor], lesion: Lesion, *, inner: str = ""
) -> dict[str, Tensor]:
    """Return new values of the tensors that a lesion changes in a network, by name.

    every: the layers of the network. tensors: those of the network, or of its `carried_network`,
    for which `inner` is the place of a cell within its `Carried`.
    """
    changed: dict[str, Tensor] = {}

    def copied(name: str) -> Tensor:
        return changed.setdefault(name, tensors[name].clone())

    for place in (every[number - 1] for number in lesion.layers):
        inside = place.prefix + (inner if isinstance(place.module, Cell) else "")
        match lesion.mode:
            case "blind":
                part: Any = place.layer.input
                copied(inside + part.parameter)[part.index] = 0
            case "bias":
                part, gate = place.layer.bias, cast(GateBlocks, place.layer.gate)
                bias = copied(inside + part.parameter)[part.index]
                bias = bias.unflatten(0, (-1, place.cell.hidden_size))
                bias[gate.transform] = (SHUT if gate.opens else -SHUT) - gate.constant
                if gate.carry is not None:
                    bias[gate.carry] = -SHUT
            case _ if isinstance(place.module, Cell):
                copied(place.prefix + "carried")[place.index] = True
            case _:
                for name in place.parameters():
                    copied(name)[:] = 0
    return changed


def lesioned(model: nn.Module, lesion: Lesion) -> nn.Module:
    """Return a copy of a network with one lesion, in evaluation mode. Raises InvalidInputError for
    a mode or layers that the network lacks.

    >>> from rhn import PolyphonicModel
    >>> model = PolyphonicModel("rhn", hidden_size=3, depth=2)
    >>> shut = lesioned(model, Lesion("bias", (2,)))  # the transform gate of the second layer
    >>> shut.cells[0].bias[1].tolist()
    [0.0, 0.0, 0.0, -10000.0, -10000.0, -10000.0]
    """
    is_lesion = isinstance(lesion, Lesion)
    checks.require(is_lesion, "lesion", checks.kind(lesion), "a Lesion")
    every = places(network := copied_network(model))
    mode, layers = check_mode(every, lesion.mode), lesion.layers
    fits = lesioned_layers(every, mode)
    good = isinstance(layers, tuple) and layers and {*layers} <= {*fits}
    checks.require(bool(good), "layers", layers, f"a tuple of some of {fits}, counted from 1")
    if mode == "carry":
        from analysis.carried import carried_network  # other modes run the cells as they are

        network = carried_network(network)
    changed = changes(every, network.state_dict(), lesion)
    network.load_state_dict(changed, strict=False)
    return network
