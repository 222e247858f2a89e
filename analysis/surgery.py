"""Lesions: what is taken out of a trained network, written as new values of a few of its parameters.

| mode  | a lesioned layer                                                                                  | needs a layer's         |
|-------|---------------------------------------------------------------------------------------------------|-------------------------|
| bias  | transform gates shut by their bias, -1e4 (the paper's); a carry gate of its own opened by +1e4     | gate, bias              |
| carry | passes the state through exactly, by a loop that skips it: no gate is touched                      | `run_layer`             |
| mean  | each unit's transform gate fixed at its mean over the data, c = 1 - mean                           | gate, recurrent, bias   |
|       | each unit's activation fixed at its mean over the data                                             | output, recurrent, bias |
| open  | transform gates opened by their bias, +1e4; a carry gate of its own shut by -1e4                   | gate, bias              |
| blind | keeps its recurrence, but its input product is removed                                             | input                   |
| skip  | keeps its recurrence, but its shortcut from the state before the step is removed                   | skip                    |

What a layer has, its cell says (`rhn.cells.layers`), ours and a user's own alike. A sigmoid of -1e4 is exactly 0 (of +1e4 exactly 1),
so a shut coupled layer is s + 0 (h - s) = s to the last bit. The one layer of an LSTM (t = i, c = f) or GRU (t = 1 - z) is its whole
recurrence: lesioning it freezes the state. `mean` sets the gate's weights to zero and its bias to logit(mean); a mean of exactly 0 or
1 becomes a bias of -1e4 or +1e4.

A `Lesion` of no layers is the unlesioned network. Since only parameters change, many lesions are one stack (`analysis.fused`). A new
mode is a row of `MODES`, and its new values in `changes`.
"""

import copy
import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from analysis.layers import Place, places, with_carried
from rhn.cells import Cell, Layer, Part
from rhn.errors import InvalidInputError
from rhn.kernels.activations import ACTIVATIONS

SHUT = -1e4


@dataclass(frozen=True)
class Lesion:
    """Layers taken out of a network, counted from 1 through all stacked cells; one unit of them (from 1), or all."""

    mode: str
    layers: tuple[int, ...] = ()
    unit: int | None = None


def _shuts(layer: Layer, cell: Cell) -> bool:
    return layer.gate is not None and layer.bias is not None


def _holds(layer: Layer, cell: Cell) -> bool:
    measured = layer.gate or (layer.output and cell.runs_layers and cell.state_size == cell.hidden_size)
    return bool(measured) and layer.recurrent is not None and layer.bias is not None


def _carries(layer: Layer, cell: Cell) -> bool:
    return cell.runs_layers and cell.state_size % cell.hidden_size == 0


MODES: dict[str, tuple[str, Callable[[Layer, Cell], bool]]] = {  # what each needs, and whether a layer has it
    "bias": ("transform gates with biases", _shuts),
    "carry": ("layers that can be run one by one", _carries),
    "mean": ("transform gates, or a nonlinearity, with biases", _holds),
    "open": ("transform gates with biases", _shuts),
    "blind": ("weights of its input", lambda layer, cell: layer.input is not None),
    "skip": ("shortcuts", lambda layer, cell: layer.skip is not None),
}


def check_mode(model: nn.Module, mode: str | None) -> str:
    """The mode, by default the first one that the network has; raises InvalidInputError for one unknown, or not for its cells."""
    if mode is not None and mode not in MODES:
        near = difflib.get_close_matches(str(mode), MODES, 1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InvalidInputError(f"unknown mode {mode!r}{hint} (modes: {', '.join(MODES)})")
    has = [m for m in MODES if lesioned_layers(model, m)]
    mode = mode or next(iter(has), "bias")
    if mode in has:
        return mode
    cells = {type(place.cell) for place in places(model)}
    kinds, silent = ", ".join(sorted(cell.__name__ for cell in cells)), any(c.layers is Cell.layers for c in cells)
    does = "does not describe (its layers() says where they are)" if silent else "has not"
    instead = f"use {' or '.join(has)}" if has else "define layers(), and run_layer() where the depth is above 1"
    raise InvalidInputError(f"mode {mode!r} needs {MODES[mode][0]}, which {kinds} {does}: {instead}")


def lesioned_layers(model: nn.Module, mode: str) -> list[int]:
    """Which layers a mode can lesion, counted from 1."""
    fits = MODES[mode][1]
    return [k for k, place in enumerate(places(model), start=1) if fits(place.layer, place.cell)]


def blinds(model: nn.Module, mode: str) -> bool:
    """Whether a first layer lesioned this way no longer sees its input; a gate held open or at its mean still lets it in."""
    return mode in ("bias", "carry") or (mode == "mean" and all(place.layer.gate is None for place in places(model)))


def prepared(model: nn.Module, mode: str) -> nn.Module:
    """The network that lesions of this mode are changes of: itself, or for `carry` a copy that can carry."""
    return with_carried(model) if mode == "carry" else model


def changes(model: nn.Module, lesion: Lesion, means: Sequence[Tensor] = ()) -> dict[str, Tensor]:
    """The parameters that a lesion changes in a `prepared` network, by name.

    means: for mode "mean", of each layer's units over the data, (n,) each (`analysis.gates.unit_means`).
    """
    tensors, changed = dict(model.named_parameters()) | dict(model.named_buffers()), {}

    def draft(name: str) -> Tensor:
        return changed.setdefault(name, tensors[name].detach().clone())

    every = places(model)
    for number in lesion.layers:
        place = every[number - 1]
        units = slice(None) if lesion.unit is None else slice(lesion.unit - 1, lesion.unit)
        layer, gate = place.layer, place.layer.gate

        def blocks(part: Part, place: Place = place) -> Tensor:
            """The part by block and unit, (G, n, ...), a view of its draft."""
            weight = draft(place.parameter(part.parameter))[part.index]
            return weight.unflatten(0, (-1, place.cell.hidden_size))

        if lesion.mode == "carry":
            draft(place.name.removesuffix("cell") + "carried")[place.index, units] = True
        elif lesion.mode in ("blind", "skip"):
            blocks(layer.input if lesion.mode == "blind" else layer.skip)[:, units] = 0
        elif lesion.mode == "mean":
            mean = means[number - 1].double()[units]
            held = slice(None) if gate is None else [k for k in (gate.transform, gate.carry) if k is not None]
            for part in filter(None, (layer.recurrent, layer.input, layer.skip)):
                blocks(part)[held, units] = 0
            if gate is None:
                z = ACTIVATIONS[layer.output].inverse(mean).nan_to_num(nan=torch.nan, posinf=-SHUT, neginf=SHUT)
                bias = blocks(layer.bias)
                bias[:, units] = z.to(bias)
            else:
                _set_gate(layer, blocks(layer.bias), units, torch.logit(mean).clamp(SHUT, -SHUT))
        else:
            bias = blocks(layer.bias)
            _set_gate(layer, bias, units, bias.new_tensor(SHUT if lesion.mode == "bias" else -SHUT))
    return changed


def lesioned(model: nn.Module, lesion: Lesion, means: Sequence[Tensor] = ()) -> nn.Module:
    """A copy of a network with one lesion; see `changes`."""
    model = copy.deepcopy(prepared(model, lesion.mode))
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    with torch.no_grad():
        for name, value in changes(model, lesion, means).items():
            tensors[name].copy_(value)
    return model


def _set_gate(layer: Layer, bias: Tensor, units: slice, logit: Tensor) -> None:
    """In the biases (G, n) of a layer, set t = sigmoid(logit), (units,) or a number, and c = 1 - t in a carry gate of its own."""
    gate, logit = layer.gate, logit.to(bias)
    bias[gate.transform, units] = (logit if gate.opens else -logit) - gate.constant
    if gate.carry is not None:
        bias[gate.carry, units] = -logit
