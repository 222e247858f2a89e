"""Cells one above the other as one: the joint state of all of them, one step of the whole stack, its Jacobian.

    s = (s_1, ..., s_L);   s_l' = f_l(h_{l-1}', s_l),   h_0' = x,   h_l = the first n entries of s_l

A layer reads what the one below has made in the same step, so the Jacobian is block lower triangular. With A_l = ds_l'/ds_l and
B_l = ds_l'/dh_{l-1}' of the layers alone, and [.] the rows of h,

    ds_l'/ds_l = A_l,      ds_l'/ds_k = B_l [ds_{l-1}'/ds_k]  for k < l,      ds_l'/dx = B_l [ds_{l-1}'/dx]

so its spectrum is that of all A_l together: what stacking adds is in the norms and in the discs. Dropout between layers, which torch.nn
has in training alone, is left out.

Legend: L layers, m inputs, n hidden units of a layer, N_l entries of its state (2n for an LSTM), N their sum.
"""

import itertools
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from rhn.cells.base import Cell, Gates
from rhn.cells.convert import from_torch, layer_from_torch
from rhn.errors import InvalidInputError


class Stack(Cell):
    """Cells of ours as one, the lowest first; it holds the same cells, and no weights of its own.

    Its outputs are those of the highest. Raises InvalidInputError where a cell does not read what the one below gives.

    >>> from rhn.cells import LSTM
    >>> stack = Stack([LSTM(3, 4), LSTM(4, 5)])
    >>> stack.state_size, stack(torch.zeros(7, 1, 3))[0].shape
    (18, torch.Size([7, 1, 5]))
    """

    deep = False

    def __init__(self, cells: Sequence[Cell], *, batch_first: bool = False):
        for lower, upper in itertools.pairwise(cells):
            if lower.hidden_size != upper.input_size:
                given = f"a {type(upper).__name__} of {upper.input_size} inputs on one of {lower.hidden_size} units"
                raise InvalidInputError(f"cannot stack {given}: expected as many")
        super().__init__(cells[0].input_size, cells[-1].hidden_size, batch_first=batch_first)
        self.cells = nn.ModuleList(cells)
        self.gate_name = cells[0].gate_name
        self.sizes = [cell.state_size for cell in cells]

    @property
    def state_size(self) -> int:
        """N."""
        return sum(self.sizes)

    def outputs_of(self, s: Tensor) -> Tensor:
        """The outputs (..., n) of the highest layer in states (..., N)."""
        return s[..., -self.sizes[-1] :][..., : self.hidden_size]

    def step(self, x: Tensor, s: Tensor) -> Tensor:
        return torch.cat([after for *_, after in self._layers(x, s)], -1)

    def states(self, x: Tensor, s0: Tensor, dropout=None) -> Tensor:
        """All states (T, B, N) after s0 (B, N), for x (T, B, m), layer by layer."""
        self.check_call(x, s0)
        found = []
        for cell, start in zip(self.cells, s0.expand(x.shape[1], -1).split(self.sizes, -1), strict=True):
            found.append(cell.states(x, start.contiguous()))
            x = found[-1][..., : cell.hidden_size].contiguous()
        return torch.cat(found, -1)

    def gates(self, x: Tensor, s: Tensor) -> Gates:
        """The gates of all layers, the lowest first; empty where one has none."""
        gates = [cell.gates(x, s) for cell, x, s, _ in self._layers(x, s)]
        if not all(map(len, gates)):
            return Gates()
        return Gates(*(sum((getattr(each, part) for each in gates), ()) for part in ("h", "t", "c", "states")))

    def jacobian(self, x: Tensor, s: Tensor) -> Tensor:
        """ds'/ds (..., N, N), see above."""
        rows, before = [], 0
        for cell, x_l, s_l, _ in self._layers(x, s):
            own = cell.jacobian(x_l, s_l)
            after = own.new_zeros(*own.shape[:-1], sum(self.sizes) - before - cell.state_size)
            below = [cell.input_jacobian(x_l, s_l) @ rows[-1][..., : cell.input_size, :before]] if rows else []
            rows.append(torch.cat([*below, own, after], -1))
            before += cell.state_size
        return torch.cat(rows, -2)

    def input_jacobian(self, x: Tensor, s: Tensor) -> Tensor:
        """ds'/dx (..., N, m), see above."""
        rows = []
        for cell, x_l, s_l, _ in self._layers(x, s):
            B = cell.input_jacobian(x_l, s_l)
            rows.append(B @ rows[-1][..., : cell.input_size, :] if rows else B)
        return torch.cat(rows, -2)

    def config(self) -> dict:
        """Raises InvalidInputError: a stack has no file of its own."""
        raise InvalidInputError("a Stack is a view of several cells: save each of them, or the model that they are in")

    def _layers(self, x: Tensor, s: Tensor) -> Iterator[tuple[Cell, Tensor, Tensor, Tensor]]:
        """(Cell, what it reads, its state, its next state) of each layer."""
        for cell, s_l in zip(self.cells, s.split(self.sizes, -1), strict=True):
            after = cell.step(x, s_l)
            yield cell, x, s_l, after
            x = after[..., : cell.hidden_size]


def stack_from_torch(module: nn.Module) -> Cell:
    """As `from_torch`, and torch.nn's RNN, LSTM or GRU of several layers as one `Stack`: its joint state.

    Raises InvalidInputError for other modules, two directions or projections.
    """
    layers = getattr(module, "num_layers", 1)
    if layers == 1:
        return from_torch(module)
    return Stack([layer_from_torch(module, k) for k in range(layers)], batch_first=module.batch_first)
