"""The recurrent layers of a network: those of the cells of `rhn.cells` and of torch.nn's RNN, LSTM
and GRU (and their cells of one step) that it holds, in the order in which it declares them.
"""

import copy
from dataclasses import dataclass
from typing import Any

from torch import nn

from gersgorin import checks
from rhn import cells
from rhn.cells import Cell, Layer, Part, described_layers
from rhn.models.networks import RecurrentModel
from rhn.utils.resources import check_device

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
    is_ours = isinstance(network, RecurrentModel | Cell)
    for number, (name, module) in enumerate(modules.items(), start=1):
        layers = cells_of_layers(module)
        if is_ours:
            start = str(number) if len(modules) > 1 else ""
        else:
            start = name
        has_numbers = is_ours or not name or len(layers) > 1
        prefix = f"{name}." if name else ""
        for index, (cell, layer) in enumerate(layers):
            last = str(index + 1) if has_numbers else ""
            label = ".".join(filter(None, (start, last)))
            found.append(Place(name, prefix, module, index, cell, layer, label))
    return found


def cells_of_layers(module: Any) -> list[tuple[Cell, Layer]]:
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
