"""Networks whose cells run layer by layer, in a plain loop, so that single layers can be skipped.
The mode `carry` of lesions uses them. Only for inference.

Legend: L layers of a cell, N sequences.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from analysis.layers import copied_network, recurrent_modules
from analysis.recorded import recorded_calls
from gersgorin import checks
from rhn.cells import Cell, Layer, Part
from rhn.models.networks import RecurrentModel

SKIPPED = "skipped"


class LayerByLayer(Cell):
    """A cell that runs layer by layer; a layer with `skipped` (L,) True passes the state through
    unchanged, s_l = s_{l-1}.
    """

    def __init__(self, cell: Cell):
        nn.Module.__init__(self)
        self.cell: Cell
        self.skipped: Tensor
        self.add_module("cell", cell)
        for name in ("input_size", "hidden_size", "depth", "batch_first"):
            setattr(self, name, getattr(cell, name))
        device = next(cell.parameters()).device
        self.register_buffer(SKIPPED, torch.zeros(cell.depth, dtype=torch.bool, device=device))

    @property
    def state_size(self) -> int:
        return self.cell.state_size

    def outputs_of(self, s: Tensor) -> Tensor:
        return self.cell.outputs_of(s)

    def step(self, x: Tensor, s: Tensor) -> Tensor:
        y = s
        for index, skipped in enumerate(self.skipped):
            s = torch.where(skipped, s, self.cell.run_layer(index, x, s, y))
        return s

    def layers(self) -> tuple[Layer, ...]:
        return tuple(
            replace(
                layer,
                input=_inner(layer.input),
                recurrent=_inner(layer.recurrent),
                skip=_inner(layer.skip),
                bias=_inner(layer.bias),
            )
            for layer in self.cell.layers()
        )


def _inner(part: Part | None) -> Part | None:
    """Return where some weights of a cell are in its `LayerByLayer`."""
    return part and part._replace(parameter=f"cell.{part.parameter}")


def network_layer_by_layer(network: nn.Module) -> nn.Module:
    """Return a copy of a network with `LayerByLayer` cells; layers of torch.nn stay."""
    copied = copied_network(network)
    for name, module in recurrent_modules(copied).items():
        if isinstance(module, Cell) and not name:
            return LayerByLayer(module)
        if isinstance(module, Cell):
            copied.set_submodule(name, LayerByLayer(module))
    return copied


def check_layer_by_layer(
    network: nn.Module, losses: Callable[[], np.ndarray], prepared: np.ndarray
) -> None:
    """Raise InvalidInputError if the losses (N,) of a network differ from those of its copy that
    runs layer by layer, `prepared`; or if a layer of torch.nn does not start from zeros, which a
    layer with weights of 0 would not keep.
    """
    kinds = recurrent_modules(network)
    if not isinstance(network, RecurrentModel):
        for name, calls in recorded_calls(network, losses).items():
            _, first_states = calls[0]
            zeros = isinstance(kinds[name], Cell) or not first_states.any()
            checks.require(zeros, f"first state of {name}", "not 0", "0, for carry")
    wanted = losses()
    tolerance = torch.finfo(next(network.parameters()).dtype).eps ** 0.5
    same = np.allclose(prepared, wanted, rtol=tolerance, atol=tolerance * np.abs(wanted).max())
    cells = ", ".join(dict.fromkeys(type(module).__name__ for module in kinds.values()))
    expected = f"{wanted.sum()}, that of step"
    checks.require(same, f"loss by run_layer of {cells}", prepared.sum(), expected)
