"""Convert the RNN, LSTM and GRU of torch.nn to cells, and join several cells to one.

A cell of torch.nn has two biases, of which ours has the sum. The candidate of a GRU has both; the
inner one is bias_hn.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rhn.cells.base import Cell
from rhn.cells.layers import Gates
from rhn.cells.registry import CELLS, TORCH_CELLS
from rhn.errors import InvalidInputError
from rhn.utils.validation import kind_of, whole_number

OURS = {getattr(nn, name.partition(":")[2]): ours for name, ours in TORCH_CELLS.items()}
"""The name of our version of each class of torch."""


def from_torch(module: nn.Module, layer: int | None = None) -> Cell:
    """Return our cell with a copy of the weights, and the `batch_first`, of a torch.nn RNN, LSTM or
    GRU of one direction, or of an RNN/LSTM/GRUCell. Raises InvalidInputError for other modules.

    layer: the layer to convert, counted from 0. None: all; several layers become a `StackedCell`.

    >>> gru, x = nn.GRU(3, 4), torch.rand(5, 1, 3)
    >>> torch.allclose(from_torch(gru)(x)[0], gru(x)[0], atol=1e-5)
    True
    """
    runs = getattr(type(module), "forward", None)  # a class of a user may inherit torch's
    classes = [theirs for theirs in OURS if isinstance(module, theirs) and runs is theirs.forward]
    ways = getattr(module, "bidirectional", False), getattr(module, "proj_size", 0)
    if not classes or any(ways):
        raise InvalidInputError(
            f"cannot convert {kind_of(module)}: expected torch.nn's RNN, LSTM, GRU or one of their "
            "cells, of one direction and without a projection"
        )
    layers, batch_first = getattr(module, "num_layers", 1), getattr(module, "batch_first", False)
    if layer is None and layers > 1:
        stack = StackedCell([from_torch(module, k) for k in range(layers)], batch_first=batch_first)
        stack.of_torch = True
        return stack
    weights = _weights(module, whole_number("layer", 0 if layer is None else layer, 0, layers - 1))
    W, ours = weights["weight_ih"], OURS[classes[0]]
    own: dict[str, Any] = {"nonlinearity": module.nonlinearity} if ours == "rnn" else {}
    own |= {"batch_first": batch_first, "dtype": W.dtype, "device": "meta"}  # draws no numbers
    cell: Any = CELLS[ours](W.shape[1], module.hidden_size, **own).to_empty(device=W.device)
    cell.of_torch = True
    with torch.no_grad():
        for name, weight in weights.items():
            cell.get_parameter(name).copy_(weight)
    return cell


def _weights(module: nn.Module, layer: int) -> dict[str, Tensor]:
    """Return the weights of our cell by name, computed from one layer of a torch.nn module."""
    end = "" if isinstance(module, nn.RNNCellBase) else f"_l{layer}"
    W, R = (getattr(module, f"weight_{part}{end}") for part in ("ih", "hh"))
    names = [f"bias_{part}{end}" for part in ("ih", "hh")]
    b, q = (getattr(module, name) if module.bias else W.new_zeros(len(W)) for name in names)
    if isinstance(module, nn.GRU | nn.GRUCell):
        n = 2 * module.hidden_size
        bias = torch.cat((b[:n] + q[:n], b[n:]))
        return {"weight_ih": W, "weight_hh": R, "bias": bias, "bias_hn": q[n:]}
    return {"weight_ih": W, "weight_hh": R, "bias": b + q}


@cache
def as_in_torch(name: str) -> Callable[..., Cell]:
    """Return the factory of our version of a torch.nn class, for `--cell torch.nn:LSTM`. Its
    initial weights are uniform within 1 / sqrt(n) as in torch, which has two biases.

    >>> as_in_torch("LSTM")(3, 4)
    LSTM(3, 4, depth=1, init='uniform:0.5', forget_bias=None)
    """
    ours: Any = CELLS[OURS[getattr(nn, name)]]

    def build(input_size, hidden_size, depth=1, *, init=None, **keywords) -> Cell:
        init = init or f"uniform:{whole_number('hidden_size', hidden_size) ** -0.5!r}"
        cell = ours(input_size, hidden_size, depth, init=init, **keywords)
        cell.of_torch = True
        return cell

    vars(build).update(cell=ours, deep=ours.deep)
    build.__name__ = name
    return build


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
        for lower, upper in itertools.pairwise(cells):
            least = most = lower.hidden_size
            whole_number("input_size of the upper cell", upper.input_size, least, most)
        super().__init__(cells[0].input_size, cells[-1].hidden_size, batch_first=batch_first)
        self.cells: Any = nn.ModuleList(cells)
        self.stacked = len(cells)
        self.gate_name, self.carry_name = cells[0].gate_name, cells[0].carry_name
        self.sizes = [cell.state_size for cell in cells]

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
