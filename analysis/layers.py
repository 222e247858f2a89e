"""The recurrent cells of a network, layer by layer in plain operations: the equations again, apart from the fast kernels.

    s_l = f_l(x, s_{l-1}, y)        s_0 = y the state before the step, x its input (only f_1 uses it), y for shortcuts

`Carried` runs a cell this way and lets chosen units pass their state through a layer exactly, s_l = s_{l-1}. It shares no code with the
lesions that only change biases, so that the two check one another.

Legend: T steps, B sequences, n units, L layers of a cell. Layers of a network are counted from 1, through all stacked cells.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rhn.cells import DTRNN, RHN, Cell
from rhn.errors import InvalidInputError
from rhn.kernels.highway.reference import highway_layer
from rhn.kernels.transition.reference import NONLINEARITIES

Layer = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Place:
    """Where one layer of a network is."""

    name: str
    """Of the cell among the network's modules; "" where the network is the cell."""
    cell: Cell
    layer: int
    """Within the cell, from 0."""
    label: str
    """What tables and figures call it: "2", or "1.2" (cell 1, layer 2) in stacked networks."""

    def parameter(self, name: str) -> str:
        """A parameter's name in the network."""
        return f"{self.name}.{name}" if self.name else name


def places(model: nn.Module) -> list[Place]:
    """Every layer of every recurrent cell, in the order that the network runs them; raises InvalidInputError where there is none."""
    cells = [(name, module) for name, module in model.named_modules() if isinstance(module, Cell)]
    if not cells:
        raise InvalidInputError(
            f"{type(model).__name__} holds no recurrent cell of rhn.cells: there are no layers to look at"
        )
    return [
        Place(name, cell, layer, f"{k}.{layer + 1}" if len(cells) > 1 else str(layer + 1))
        for k, (name, cell) in enumerate(cells, start=1)
        for layer in range(cell.depth)
    ]


def measured_copy(model: nn.Module, device: torch.device | str | None) -> nn.Module:
    """A copy of a network to measure on: in evaluation mode, on a device (None: where the network is)."""
    return copy.deepcopy(model).to(device or next(model.parameters()).device).eval()


def layers_of(cell: Cell) -> list[Layer]:
    """f_1..f_L of a cell, for any leading dimensions; raises InvalidInputError for a deep cell that is none of ours."""
    if isinstance(cell, RHN):
        return [_highway(cell, layer) for layer in range(cell.depth)]
    if isinstance(cell, DTRNN):
        return [_transition(cell, layer) for layer in range(cell.depth)]
    if cell.depth > 1:
        raise InvalidInputError(
            f"the layers of a {type(cell).__name__} are not known here: expected one of ours, or depth 1"
        )
    return [lambda x, s, y: cell.step(x, s)]


def first_shortcut(cell: Cell) -> int:
    """The first layer, from 0, with a shortcut from the state before the step; the cell's depth where none has one."""
    return cell.depth - len(getattr(cell, "weight_skip", ()))


class Carried(nn.Module):
    """A cell whose units pass their state through a layer unchanged where the buffer `carried` (L, n) is True.

    An LSTM's units carry both of their numbers. Made for inference: the recurrence is a plain loop.
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
        layers, repeats = layers_of(self.cell), self.state_size // self.cell.hidden_size
        s, states = x.new_zeros(x.shape[1], self.state_size) if s0 is None else s0, []
        for x_t in x:
            y = s
            for layer, carried in zip(layers, self.carried.repeat(1, repeats), strict=True):
                s = torch.where(carried, s, layer(x_t, s, y))
            states.append(s)
        return torch.stack(states)[..., : self.cell.hidden_size], s


def with_carried(model: nn.Module) -> nn.Module:
    """A copy of a network whose cells can carry; none does yet."""
    for place in places(model):
        layers_of(place.cell)
    model = copy.deepcopy(model)
    for name in {place.name for place in places(model)}:
        model.set_submodule(name, Carried(model.get_submodule(name)))
    return model


def _highway(cell: RHN, layer: int) -> Layer:
    def f(x: Tensor, s: Tensor, y: Tensor) -> Tensor:
        z = F.linear(s, cell.weight_hh[layer], cell.biases()[layer])
        return highway_layer(
            z + F.linear(x, cell.weight_ih) if layer == 0 else z, s, cell.coupled, activation=cell.activation
        )[0]

    return f


def _transition(cell: DTRNN, layer: int) -> Layer:
    def f(x: Tensor, s: Tensor, y: Tensor) -> Tensor:
        z = F.linear(s, cell.weight_hh[layer], cell.bias[layer])
        if layer == 0:
            z = z + F.linear(x, cell.weight_ih)
        if layer >= first_shortcut(cell):
            z = z + F.linear(y, cell.weight_skip[layer - first_shortcut(cell)])
        return NONLINEARITIES[cell.nonlinearity](z)

    return f
