"""The layers of a network's recurrent cells, one by one, as the cells themselves describe and run them (`rhn.cells.layers`).

`Carried` runs a cell layer by layer and lets chosen units pass their state through a layer exactly, s_l = s_{l-1}. It shares no code
with the lesions that only change biases, so that the two check one another.

Legend: T steps, B sequences, n units, L layers of a cell. Layers of a network are counted from 1, through all stacked cells.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rhn.cells import Cell, Layer, described_layers
from rhn.errors import InvalidInputError


@dataclass(frozen=True, eq=False)
class Place:
    """Where one layer of a network is."""

    name: str
    """Of the cell among the network's modules; "" where the network is the cell."""
    cell: Cell
    index: int
    """Of the layer within the cell, from 0."""
    label: str
    """What tables and figures call it: "2", or "1.2" (cell 1, layer 2) in stacked networks."""
    layer: Layer
    """What the cell says of it."""

    def parameter(self, name: str) -> str:
        """A parameter's name in the network."""
        return f"{self.name}.{name}" if self.name else name


def places(model: nn.Module) -> list[Place]:
    """Every layer of every recurrent cell, in the order that the network runs them.

    Raises InvalidInputError where there is none, or a cell describes layers that it does not have.
    """
    cells = [(name, module) for name, module in model.named_modules() if isinstance(module, Cell)]
    if not cells:
        raise InvalidInputError(
            f"{type(model).__name__} holds no recurrent cell of rhn.cells: there are no layers to look at"
        )
    return [
        Place(name, cell, index, f"{k}.{index + 1}" if len(cells) > 1 else str(index + 1), layer)
        for k, (name, cell) in enumerate(cells, start=1)
        for index, layer in enumerate(described_layers(cell))
    ]


def measured_copy(model: nn.Module, device: torch.device | str | None) -> nn.Module:
    """A copy of a network to measure on: in evaluation mode, on a device (None: where the network is)."""
    return copy.deepcopy(model).to(device or next(model.parameters()).device).eval()


class Carried(nn.Module):
    """A cell whose units pass their state through a layer unchanged where the buffer `carried` (L, n) is True.

    Every number of a unit's state is carried, of an LSTM's both. Made for inference: the recurrence is a plain loop.
    """

    def __init__(self, cell: Cell):
        super().__init__()
        self.cell = cell
        like = next(cell.parameters())
        self.register_buffer("carried", torch.zeros(cell.depth, cell.hidden_size, dtype=torch.bool, device=like.device))

    @property
    def state_size(self) -> int:
        """The cell's."""
        return self.cell.state_size

    def forward(self, x: Tensor, s0: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Outputs (T, B, n) and the last state, from x (T, B, m) and a state (B, state_size), zero where None."""
        repeats = self.state_size // self.cell.hidden_size
        s, states = x.new_zeros(x.shape[1], self.state_size) if s0 is None else s0, []
        for x_t in x:
            y = s
            for index, carried in enumerate(self.carried.repeat(1, repeats)):
                s = torch.where(carried, s, self.cell.run_layer(index, x_t, s, y))
            states.append(s)
        return torch.stack(states)[..., : self.cell.hidden_size], s


def with_carried(model: nn.Module) -> nn.Module:
    """A copy of a network whose cells can carry; none does yet."""
    names = {place.name for place in places(model)}
    model = copy.deepcopy(model)
    for name in names:
        model.set_submodule(name, Carried(model.get_submodule(name)))
    return model
