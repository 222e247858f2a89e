"""Lesions: what is taken out of a trained network, written as new values of a few of its parameters.

| mode  | a lesioned layer                                                                                   | cells          |
|-------|----------------------------------------------------------------------------------------------------|----------------|
| bias  | transform gates shut by their bias, -1e4 (the paper's); a carry gate of its own opened by +1e4      | gated          |
| carry | passes the state through exactly, by a loop that skips it: no gate is touched                       | all            |
| mean  | each unit's transform gate fixed at its mean over the data, c = 1 - mean                            | gated          |
|       | each unit's activation fixed at its mean over the data                                              | DT-RNN, DTS    |
| open  | transform gates opened by their bias, +1e4; a carry gate of its own shut by -1e4                    | gated          |
| blind | keeps its recurrence, but its input product is removed; first layers only, no other sees the input  | all            |
| skip  | keeps its recurrence, but its shortcut from the state before the step is removed                    | DTS            |

A sigmoid of -1e4 is exactly 0 (of +1e4 exactly 1), so a shut coupled layer is s + 0 (h - s) = s to the last bit. "Gated" are the RHN,
and in highway terms the LSTM (t = i, c = f) and the GRU (t = 1 - z), whose one layer is the whole recurrence: lesioning it freezes the
state. `mean` sets the gate's weights to zero and its bias to logit(mean); a mean of exactly 0 or 1 becomes a bias of -1e4 or +1e4.

A `Lesion` of no layers is the unlesioned network. Since only parameters change, many lesions are one stack (`analysis.fused`). A new
mode is a row here: its name in `MODES`, the layers that have it in `lesioned_layers`, its new values in `changes`.
"""

import copy
import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from analysis.layers import Place, first_shortcut, places, with_carried
from rhn.cells import DTRNN, DTSRNN, GRU, LSTM, RHN, Cell
from rhn.errors import InvalidInputError

MODES = ("bias", "carry", "mean", "open", "blind", "skip")
SHUT = -1e4


@dataclass(frozen=True)
class Lesion:
    """Layers taken out of a network, counted from 1 through all stacked cells; one unit of them (from 1), or all."""

    mode: str
    layers: tuple[int, ...] = ()
    unit: int | None = None


@dataclass(frozen=True)
class _Gate:
    """Where a cell's gates are among the blocks of its weights; sigmoid(z of block `transform`) is t, or 1 - t where sign is -1."""

    transform: int
    sign: int = 1
    carry: int | None = None


def check_mode(model: nn.Module, mode: str | None) -> str:
    """The mode, by default the first one that the network has; raises InvalidInputError for one unknown, or not for its cells."""
    if mode is not None and mode not in MODES:
        near = difflib.get_close_matches(str(mode), MODES, 1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InvalidInputError(f"unknown mode {mode!r}{hint} (modes: {', '.join(MODES)})")
    has = [m for m in MODES if lesioned_layers(model, m)]
    if mode is None:
        return has[0]
    if mode not in has:
        kinds = ", ".join(sorted({type(place.cell).__name__ for place in places(model)}))
        lacks = "shortcuts" if mode == "skip" else "transform gates"
        raise InvalidInputError(f"mode {mode!r} needs {lacks}, which {kinds} has not: use {' or '.join(has)}")
    return mode


def lesioned_layers(model: nn.Module, mode: str) -> list[int]:
    """Which layers a mode can lesion, counted from 1."""
    able = {
        "carry": lambda place: True,
        "blind": lambda place: place.layer == 0 and hasattr(place.cell, "weight_ih"),
        "skip": lambda place: isinstance(place.cell, DTSRNN) and place.layer >= first_shortcut(place.cell),
        "mean": lambda place: _gate(place.cell) is not None or isinstance(place.cell, DTRNN),
    }.get(mode, lambda place: _gate(place.cell) is not None)
    return [number for number, place in enumerate(places(model), start=1) if able(place)]


def blinds(model: nn.Module, mode: str) -> bool:
    """Whether a first layer lesioned this way no longer sees its input; a gate held open or at its mean still lets it in."""
    return mode in ("bias", "carry") or (
        mode == "mean" and all(isinstance(place.cell, DTRNN) for place in places(model))
    )


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
        if lesion.mode == "carry":
            draft(place.name.removesuffix("cell") + "carried")[place.layer, units] = True
        elif lesion.mode == "blind":
            _blocks(place, draft(place.parameter("weight_ih")))[:, units] = 0
        elif lesion.mode == "skip":
            draft(place.parameter("weight_skip"))[place.layer - first_shortcut(place.cell), units] = 0
        elif lesion.mode == "mean" and isinstance(place.cell, DTRNN):
            _hold_activation(place, draft, units, means[number - 1])
        elif lesion.mode == "mean":
            _hold_gate(place, draft, units, means[number - 1])
        else:
            _set_gate(place, draft, units, torch.tensor(SHUT if lesion.mode == "bias" else -SHUT))
    return changed


def lesioned(model: nn.Module, lesion: Lesion, means: Sequence[Tensor] = ()) -> nn.Module:
    """A copy of a network with one lesion; see `changes`."""
    model = copy.deepcopy(prepared(model, lesion.mode))
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    with torch.no_grad():
        for name, value in changes(model, lesion, means).items():
            tensors[name].copy_(value)
    return model


def _gate(cell: Cell) -> _Gate | None:
    if isinstance(cell, RHN):
        return _Gate(1) if cell.coupled else _Gate(1, carry=2)
    if isinstance(cell, LSTM):
        return _Gate(0, carry=1)
    return _Gate(1, sign=-1) if isinstance(cell, GRU) else None


def _blocks(place: Place, weight_ih: Tensor) -> Tensor:
    """The rows (G n, m) of an input weight by block and unit: (G, n, m), a view."""
    return weight_ih.unflatten(0, (-1, place.cell.hidden_size))


def _layer(place: Place, t: Tensor, *columns: int) -> Tensor:
    """A layer's part of a recurrent weight (L, G n, columns) or bias (L, G n), L left out where it is 1: (G, n, ...), a view."""
    return t.view(place.cell.depth, -1, place.cell.hidden_size, *columns)[place.layer]


def _set_gate(place: Place, draft, units: slice, logit: Tensor) -> None:
    """Transform bias so that t = sigmoid(logit), (units,) or a number, and c = 1 - t in a carry gate of its own."""
    gate, bias = _gate(place.cell), _layer(place, draft(place.parameter("bias")))
    bias[gate.transform, units] = gate.sign * logit.to(bias)
    if gate.carry is not None:
        bias[gate.carry, units] = -logit.to(bias)


def _hold_gate(place: Place, draft, units: slice, mean: Tensor) -> None:
    gate = _gate(place.cell)
    for block in (gate.transform, gate.carry):
        if block is not None:
            _layer(place, draft(place.parameter("weight_hh")), place.cell.hidden_size)[block, units] = 0
            if place.layer == 0:
                _blocks(place, draft(place.parameter("weight_ih")))[block, units] = 0
    _set_gate(place, draft, units, torch.logit(mean.double())[units].clamp(SHUT, -SHUT))


def _hold_activation(place: Place, draft, units: slice, mean: Tensor) -> None:
    cell, mean = place.cell, mean.double()[units]
    draft(place.parameter("weight_hh"))[place.layer, units] = 0
    if place.layer == 0:
        draft(place.parameter("weight_ih"))[units] = 0
    if place.layer >= first_shortcut(cell):
        draft(place.parameter("weight_skip"))[place.layer - first_shortcut(cell), units] = 0
    bias = draft(place.parameter("bias"))
    bias[place.layer, units] = (mean if cell.nonlinearity == "relu" else torch.atanh(mean).clamp(SHUT, -SHUT)).to(bias)
