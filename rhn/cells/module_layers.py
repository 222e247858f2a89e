"""Describe the layers of any module: cells of this package, modules of torch, the user's own."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from torch import nn

from rhn.cells.base import Cell
from rhn.cells.layers import GateBlocks, Layer, Part

TORCH_GATES = {"LSTM": GateBlocks(0, carry=1), "GRU": GateBlocks(1, opens=False)}


def layers_in(*modules: nn.Module) -> Iterator[tuple[nn.Module, Layer]]:
    """Yield the layers of cells of this package, of torch, and of the user's own modules.

    >>> [layer.recurrent.parameter for _, layer in layers_in(nn.GRU(2, 3, num_layers=2))]
    ['weight_hh_l0', 'weight_hh_l1']
    """
    for module in modules:
        found: Iterable[Layer] = ()
        if isinstance(module, Cell):
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
