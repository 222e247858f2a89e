"""Join several cells to one."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rhn.cells.base import Cell
from rhn.cells.gates import Gates
from rhn.utils.validation import unexpected, whole_number


class StackedCell(Cell):
    """A stack of cells, the lowest first, as one cell with a joint state, one step and its
    Jacobian. The stack adds no weights.

        s = (s_1, ..., s_L)      s_l' = f_l(h_{l-1}', s_l)
        h_0' = x                 h_l = the first n entries of s_l

    The Jacobian is block lower triangular. With B_l = ds_l'/dh_{l-1}', and [.] for the rows of h,

        ds_l'/ds_k = B_l [ds_{l-1}'/ds_k]  for k < l,    ds_l'/dx = B_l [ds_{l-1}'/dx]

    Its eigenvalues are therefore those of all ds_l'/ds_l. The outputs are those of the highest
    cell. Dropout between layers is left out.

    >>> from rhn.cells import LSTM
    >>> stack = StackedCell([LSTM(3, 4), LSTM(4, 5)])
    >>> stack.state_size, stack(torch.zeros(7, 1, 3))[0].shape
    (18, torch.Size([7, 1, 5]))
    """

    deep = False

    def __init__(self, cells: Sequence[Cell], *, batch_first: bool = False):
        if not isinstance(cells, Sequence | nn.ModuleList) or len(cells) == 0:
            raise unexpected("cells", cells, "a list of at least one cell")
        for cell in cells:
            if not isinstance(cell, Cell):
                raise unexpected("a cell of the stack", cell, "a cell of rhn.cells")
        for lower, upper in itertools.pairwise(cells):
            least = most = lower.hidden_size
            whole_number("input_size of the upper cell", upper.input_size, least, most)
        super().__init__(cells[0].input_size, cells[-1].hidden_size, batch_first=batch_first)
        self.cells: Any = nn.ModuleList(cells)
        self.stacked = len(cells)
        self.gate_name, self.carry_name = cells[0].gate_name, cells[0].carry_name
        self.sizes = [cell.state_size for cell in cells]
        if not all(cell.jacobian and cell.input_jacobian for cell in cells):
            vars(self).update(jacobian=None, input_jacobian=None)  # of a cell with only a step

    @property
    def state_size(self) -> int:
        return sum(self.sizes)

    def outputs_of(self, s: Tensor) -> Tensor:
        return s[..., -self.sizes[-1] :][..., : self.hidden_size]

    def step(self, x: Tensor, s: Tensor) -> Tensor:
        return torch.cat([after for *_, after in self._layers(x, s)], -1)

    def states(self, x: Tensor, s0: Tensor) -> Tensor:
        """Compute all states (T, B, N) after s0 (B, N), for x (T, B, m), layer by layer."""
        found, starts = [], s0.expand(x.shape[1], -1).split(self.sizes, -1)
        for cell, start in zip(self.cells, starts, strict=True):
            found.append(cell.states(x, start.contiguous()))
            x = found[-1][..., : cell.hidden_size].contiguous()
        return torch.cat(found, -1)

    def gates(self, x: Tensor, s: Tensor) -> Gates:
        """Return the gates of all layers, the lowest first; empty if a layer has no gates."""
        gates = [cell.gates(x, s) for cell, x, s, _ in self._layers(x, s)]
        if not all(map(len, gates)):
            return Gates()
        parts = ("h", "t", "c", "states")
        return Gates(*(sum((getattr(each, part) for each in gates), ()) for part in parts))

    def jacobian(self, x: Tensor, s: Tensor) -> Tensor:
        rows: list[Tensor] = []
        known = 0  # columns
        for cell, x_l, s_l, _ in self._layers(x, s):
            A = cell.jacobian(x_l, s_l)
            if rows:
                below = rows[-1][..., : cell.input_size, :known]
                A = torch.cat((cell.input_jacobian(x_l, s_l) @ below, A), -1)
            known += cell.state_size
            rows.append(F.pad(A, (0, self.state_size - known)))
        return torch.cat(rows, -2)

    def input_jacobian(self, x: Tensor, s: Tensor) -> Tensor:
        rows: list[Tensor] = []
        for cell, x_l, s_l, _ in self._layers(x, s):
            B = cell.input_jacobian(x_l, s_l)
            rows.append(B @ rows[-1][..., : cell.input_size, :] if rows else B)
        return torch.cat(rows, -2)

    def _layers(self, x: Tensor, s: Tensor) -> Iterator[tuple[Any, Tensor, Tensor, Tensor]]:
        """Yield (cell, its input, its state, its next state) of each layer."""
        for cell, s_l in zip(self.cells, s.split(self.sizes, -1), strict=True):
            after = cell.step(x, s_l)
            yield cell, x, s_l, after
            x = after[..., : cell.hidden_size]
