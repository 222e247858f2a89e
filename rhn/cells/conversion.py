"""Cells with the weights of modules of torch.nn. These have two biases, of which ours have the sum;
the candidate of a GRU has both, the inner one is bias_hn.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from rhn.cells.base import Cell
from rhn.cells.registry import CELLS, TORCH_CELLS
from rhn.cells.stack import StackedCell
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
    classes = [theirs for theirs in OURS if runs is theirs.forward]
    ways = getattr(module, "bidirectional", False), getattr(module, "proj_size", 0)
    if not classes or any(ways):
        raise InvalidInputError(
            f"cannot convert {kind_of(module)}: expected torch.nn's RNN, LSTM, GRU or one of their "
            "cells, of one direction and without a projection"
        )
    layers, batch_first = getattr(module, "num_layers", 1), getattr(module, "batch_first", False)
    if layer is None and layers > 1:
        parts = [from_torch(module, k) for k in range(layers)]
        stack = StackedCell(parts, batch_first=batch_first)
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

    vars(build)["__wrapped__"] = ours  # its parameters and depth
    build.__name__ = name
    return build
