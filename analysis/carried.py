"""Cells that run layer by layer, for the lesion `carry`."""

import torch
from torch import Tensor, nn

from analysis.layers import copied_network, recurrent_modules
from rhn.cells import Cell

INNER = "cell."  # the beginning of the names of the parameters of a cell within its `Carried`


class Carried(Cell):
    """A cell that runs layer by layer; a layer with `carried` (L,) True passes the state through
    unchanged, s_l = s_{l-1}. Only for inference: the recurrence is a plain loop.
    """

    def __init__(self, cell: Cell):
        nn.Module.__init__(self)
        self.cell: Cell
        self.carried: Tensor
        self.add_module("cell", cell)
        for name in ("input_size", "hidden_size", "depth", "batch_first"):
            setattr(self, name, getattr(cell, name))
        device = next(cell.parameters()).device
        self.register_buffer("carried", torch.zeros(cell.depth, dtype=torch.bool, device=device))

    @property
    def state_size(self) -> int:
        return self.cell.state_size

    def outputs_of(self, s: Tensor) -> Tensor:
        return self.cell.outputs_of(s)

    def step(self, x: Tensor, s: Tensor) -> Tensor:
        y = s
        for index, carried in enumerate(self.carried):
            s = torch.where(carried, s, self.cell.run_layer(index, x, s, y))
        return s


def carried_network(network: nn.Module) -> nn.Module:
    """Return a copy of a network with `Carried` cells; layers of torch.nn stay."""
    copied = copied_network(network)
    for name, module in recurrent_modules(copied).items():
        if isinstance(module, Cell) and not name:
            return Carried(module)
        if isinstance(module, Cell):
            copied.set_submodule(name, Carried(module))
    return copied
