"""The recurrent layers of a network: those of the cells of `rhn.cells` and of torch.nn's RNN, LSTM
and GRU (and their cells of one step) that it holds, in the order in which it declares them. The
gates of a module are computed from the inputs and first states that its layers read.

Legend: T steps, B sequences, m inputs, n units, N entries of a state.
"""

import copy
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gersgorin import checks
from rhn import cells
from rhn.cells import Cell, Layer, Part, described_layers
from rhn.models.networks import RecurrentModel
from rhn.utils.resources import check_device
from rhn.utils.validation import signature_of

RECURRENT = (Cell, nn.RNNBase, nn.RNNCellBase)
SUPPORTED = "a module with cells of rhn.cells or RNN, LSTM, GRU of torch.nn"


@dataclass(frozen=True, eq=False)
class Place:
    """The position of one layer in a network."""

    name: str
    """Name of its module among the network's modules; "" if the network is the module."""
    prefix: str
    """Beginning of the names of its parameters in the network: "" or "name."."""
    module: nn.Module
    index: int
    """Number of the layer within the module, from 0."""
    cell: Cell
    """The cell of the layer; for a module of torch.nn a copy as a cell of `rhn.cells`."""
    layer: Layer
    """Where its weights are in the parameters of the module."""
    label: str
    """Name in tables: "2", "1.2" (cell 1, layer 2) in a network of several cells, and the name of
    the module, as in "rnn.2", in a module of the user's.
    """

    def parameters(self) -> list[str]:
        """Return the names in the network of all weights of a layer of torch.nn."""
        end = "" if isinstance(self.module, nn.RNNCellBase) else f"_l{self.index}"
        return [self.prefix + n for n, _ in self.module.named_parameters() if n.endswith(end)]


def copied_network(model: Any, device: Any = None) -> nn.Module:
    """Return a copy of a network, in evaluation mode, on a device (None: its own). Raises
    InvalidInputError.
    """
    checks.require(isinstance(model, nn.Module), "network", type(model).__name__, SUPPORTED)
    copied = copy.deepcopy(model).eval()
    return copied if device is None else copied.to(check_device(device))


def recurrent_modules(network: nn.Module) -> dict[str, nn.Module]:
    """Return the recurrent modules of a network by name, without those inside of others. Raises
    InvalidInputError if there is none, or a cell has a `forward` of its own.
    """
    found = dict[str, nn.Module]()
    for name, module in network.named_modules():
        inside = any(not outer or name.startswith(f"{outer}.") for outer in found)
        if isinstance(module, RECURRENT) and not inside:
            found[name] = module
    checks.require(bool(found), "network", type(network).__name__, SUPPORTED)
    for module in found.values():
        same = not isinstance(module, Cell) or type(module).forward is Cell.forward
        checks.require(same, f"forward of {type(module).__name__}", "its own", "that of Cell")
    return found


def places(network: nn.Module) -> list[Place]:
    """Return every recurrent layer of a network. Raises InvalidInputError for a layer of torch.nn
    that `from_torch` cannot convert.
    """
    modules, found = recurrent_modules(network), list[Place]()
    ours = isinstance(network, RecurrentModel | Cell)
    for number, (name, module) in enumerate(modules.items(), start=1):
        layers = _layers(module)
        start = "" if not name or (ours and len(modules) == 1) else str(number) if ours else name
        for index, (cell, layer) in enumerate(layers):
            last = str(index + 1) if ours or not name or len(layers) > 1 else ""
            label = ".".join(filter(None, (start, last)))
            dotted = f"{name}.".removeprefix(".")
            found.append(Place(name, dotted, module, index, cell, layer, label))
    return found


def _layers(module: Any) -> list[tuple[Cell, Layer]]:
    """Return the cell of each layer of a recurrent module, and where its weights are."""
    if isinstance(module, Cell):
        return [(module, layer) for layer in described_layers(module)]
    found, count = list[tuple[Cell, Layer]](), getattr(module, "num_layers", 1)
    for k in range(count):
        end = "" if isinstance(module, nn.RNNCellBase) else f"_l{k}"
        cell = cells.from_torch(module, k)
        W, R, b = (Part(f"{name}{end}") for name in ("weight_ih", "weight_hh", "bias_ih"))
        (own,) = described_layers(cell)
        bias = b if module.bias else None
        found.append((cell, Layer(input=W, recurrent=R, bias=bias, gate=own.gate)))
    return found


def gates_of_network(network: Any, inputs: Tensor) -> list[Tensor]:
    """Return the transform gates (T, B, n) of each layer of a network of ours along inputs
    (T, B, m), or ids (T, B), from states of zeros.
    """
    ids, found = getattr(network, "takes_ids", False), list[Tensor]()
    x = F.embedding(inputs, network.embedding) if ids else inputs
    for cell in dict[str, Any](recurrent_modules(network)).values():
        states = _states_and_gates(cell, x, x.new_zeros(x.shape[1], cell.state_size), found)
        x = cell.outputs_of(states)
    return found


def _states_and_gates(cell: Any, x: Tensor, s0: Tensor, found: list[Tensor]) -> Tensor:
    """Run a cell along x (T, B, m), add the transform gates of its layers to a list, and return its
    states (T, B, N).
    """
    states = cell.states(x, s0)
    gates = cell.gates(x, torch.cat((s0.unsqueeze(0), states[:-1]))).t
    kind, shape = type(cell).__name__, (*x.shape[:2], cell.hidden_size)
    wanted = f"gates(x, s) with t of {cell.depth} layers, as of RHN, LSTM and GRU"
    shapes = [tuple(gate.shape) for gate in gates]
    checks.require(shapes == [shape] * cell.depth, f"gates of {kind}", shapes or "none", wanted)
    found.extend(gates)
    return states


def gates_of_module(
    module: nn.Module, x: Tensor, batch_first: bool | None, all_places: Sequence[Place]
) -> list[Tensor]:
    """Return the transform gates (T, 1, n) of each layer of a user's module, while it reads one
    sequence x (T, m).
    """
    calls, gates = recorded_calls(module, partial(in_batch, module, x, batch_first)), list[Tensor]()
    for name in dict.fromkeys(place.name for place in all_places):
        steps = sum(len(read) for read, _ in calls[name])
        checks.require(steps == len(x), f"number of steps that {name} reads", steps, str(len(x)))
        own = dict.fromkeys(place.cell for place in all_places if place.name == name)
        each = [_gates_of_call([*own], *call) for call in calls[name]]
        gates += [torch.cat(parts) for parts in zip(*each, strict=True)]
    return gates


def _gates_of_call(stack: Sequence[Cell], x: Tensor, starts: Tensor) -> list[Tensor]:
    """Return the transform gates (T, 1, n) of the layers of one call; see `recorded_calls`."""
    found, x = list[Tensor](), x.unsqueeze(1)
    for cell, s0 in zip(stack, starts, strict=True):
        x = cell.outputs_of(_states_and_gates(cell, x, s0.unsqueeze(0), found))
    return found


def in_batch(module: nn.Module, x: Tensor, batch_first: bool | None) -> tuple[Any, int]:
    """Return what a module returns for one sequence x (T, m), a batch of one, and the axis of the
    batch: 0 with `batch_first`, else 1. None: the attribute of the module.
    """
    known = [getattr(m, "batch_first", None) for m in (module, *recurrent_modules(module).values())]
    axis = 0 if next((b for b in (batch_first, *known) if b is not None), False) else 1
    return module(x.unsqueeze(axis)), axis


@torch.no_grad()
def check_causal(module: nn.Module, x: Tensor, batch_first: bool | None) -> None:
    """Raise InvalidInputError unless a layer reads each frame of x (T, m) at its time: all but the
    last of what it reads stays if the last frame changes.
    """
    later = torch.cat((x[:-1], 1 - x[-1:]))
    calls, others = (
        recorded_calls(module, partial(in_batch, module, each, batch_first)) for each in (x, later)
    )
    for name in calls:
        one, two = (torch.cat([read for read, _ in each[name]]) for each in (calls, others))
        count, wanted = f"number of steps that {name} reads", str(len(x))
        checks.require(len(one) == len(two), count, f"{len(one)} or {len(two)}", wanted)
        checks.require(len(one) % len(x) == 0, count, len(one), wanted)
        one, two = (rows.unflatten(0, (-1, len(x)))[:, :-1] for rows in (one, two))
        same = torch.allclose(one, two, equal_nan=True)
        checks.require(same, f"input of {name}", "of later frames", "of the frames until its step")


Calls = defaultdict[str, list[tuple[Tensor, Tensor]]]
"""The calls of each recurrent module by its name: what a call reads, and the first states."""


def recorded_calls(network: nn.Module, run: Callable[[], Any]) -> Calls:
    """Return the calls of the recurrent modules during a run with one sequence, by name: what the
    call reads (T, m), and the first states of its layers (layers, N). Raises InvalidInputError for
    a call with several sequences.
    """
    calls: Calls = defaultdict(list)
    hooks = []
    for name, module in recurrent_modules(network).items():

        def record(module: Any, args: tuple, keywords: dict, name: str = name) -> None:
            given = signature_of(module.forward).bind(*args, **keywords).args
            x = given[0].data  # of a packed sequence all rows
            rows, wanted = _sequences_in(module, x), "1, or another batch_first"
            checks.require(rows == 1, f"number of sequences that {name} reads", rows, wanted)
            x = x.reshape(-1, module.input_size).clone()
            calls[name].append((x, _first_states(module, x, *given[1:2])))

        hooks.append(module.register_forward_pre_hook(record, with_kwargs=True))
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def _sequences_in(module: Any, x: Tensor) -> int:
    """Return the number of sequences in the input of a recurrent module."""
    if isinstance(module, nn.RNNCellBase):
        return len(x) if x.dim() == 2 else 1
    axis = 0 if module.batch_first else 1
    return x.shape[axis] if x.dim() == 3 else 1


def _first_states(module: Any, x: Tensor, state: Any = None) -> Tensor:
    """Return the first states (layers, N) of the layers of a recurrent module."""
    sizes = [cell.state_size for cell in dict.fromkeys(cell for cell, _ in _layers(module))]
    if state is None:
        return x.new_zeros(len(sizes), sizes[0])
    parts = state if isinstance(state, tuple) else (state,)
    return torch.cat([part.reshape(len(sizes), -1) for part in parts], -1).clone()
