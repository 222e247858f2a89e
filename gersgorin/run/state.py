"""The state of a step: one vector, or the tensors that a network of the user has.

    s = flat_state(state)[0]       # tensors of any shape, real or complex -> one real vector
    parts_of(s, like)              # and back

Legend: N entries of a state; B examples; L layers of a torch.nn module.
"""

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from rhn.errors import InvalidInputError
from rhn.utils.validation import check_room, in_short, is_whole_number

State = Tensor | tuple[Tensor, ...]
Sizes = int | tuple[int, ...]
"""The state_size of a step: the number of entries of its state tensor, or of each tensor of a
tuple.
"""


def checked_sizes(state_size: Any) -> Sizes:
    """Return a state_size. Raises InvalidInputError for anything but whole numbers above 0."""
    sizes = state_size if isinstance(state_size, tuple) else (state_size,)
    if not sizes or not all(map(is_whole_number, sizes)):
        raise InvalidInputError(
            f"state_size is {in_short(state_size)}: expected a whole number above 0, or a tuple "
            "of them for a state of several tensors"
        )
    return tuple(map(int, sizes)) if isinstance(state_size, tuple) else int(state_size)


def zero_state(state_size: Sizes, like: Tensor, *lead: int) -> State:
    """A state of zeros (*lead, n), or a tuple of such tensors, with the device and the dtype of
    `like`, real or complex. Raises InvalidInputError if there is too little memory.
    """
    like = like if like.is_floating_point() or like.is_complex() else like.double()
    sizes = state_size if isinstance(state_size, tuple) else (state_size,)
    need, what = like.itemsize * math.prod(lead) * sum(sizes), f"a state of {sum(sizes)}"
    check_room(need, what, "give a smaller state_size", like.device.type)
    zeros = tuple(like.new_zeros(*lead, n) for n in sizes)
    return zeros if isinstance(state_size, tuple) else zeros[0]


def flat_state(state: Any, layers: int = 1, rows: int = 1) -> Tensor:
    """Join the tensors of a state side by side, (B, N), layer by layer. The parts of the first
    layer, such as h and c of an LSTM, come first.

    state: a tensor or tensors (B, ...); (L, B, ...) for several layers.

    >>> state = torch.tensor([[1, 2], [3, 4]]), torch.tensor([[5, 6], [7, 8]])
    >>> flat_state(state, layers=2).tolist()
    [[1, 2, 5, 6, 3, 4, 7, 8]]
    """
    parts = [real_view(part).reshape(layers, rows, -1) for part in tree_leaves(state)]
    return torch.cat(parts, -1).movedim(0, 1).flatten(1)


def parts_of(s: Tensor, like: list[Tensor]) -> list[Tensor]:
    """Split a state (N,) into tensors with the shapes of those in `like`. A tensor is complex if
    the one in `like` is complex.
    """
    found, start = list[Tensor](), 0
    for part in like:
        shape = real_view(part).shape
        # a slice, since autograd refuses to write into a part of a split
        piece = s[start : start + shape.numel()].reshape(shape)
        found.append(torch.complex(*piece.unbind(-1)) if part.is_complex() else piece)
        start += shape.numel()
    return found


def real_view(t: Tensor) -> Tensor:
    """A complex tensor (...,) as real numbers (..., 2); a real tensor unchanged."""
    return torch.view_as_real(t.resolve_conj()) if t.is_complex() else t


def torch_state(s: Tensor, layers: int, units: int) -> State:
    """Convert a state (N,) to the form of a torch.nn module: h (n,), or (h, c) for an LSTM; each is
    (L, n) for several layers.

    >>> torch_state(torch.arange(8), layers=2, units=2)[1].tolist()
    [[2, 3], [6, 7]]
    """
    parts = s.reshape(layers, -1, units).unbind(1)
    parts = tuple(part.squeeze(0) if layers == 1 else part for part in parts)
    return parts if len(parts) > 1 else parts[0]


def takes(module: Callable, arguments: int) -> bool:
    """True if a function, or the forward of a module, takes this number of arguments."""
    try:
        inspect.signature(getattr(module, "forward", module)).bind(*range(arguments))
    except (TypeError, ValueError):
        return False
    return True


def first_state(module: Any) -> State | None:
    """The first state (1, n) of a module with state_size n: its `initial_state()`, or zeros. One
    size gives a tensor, a tuple of sizes a tuple of tensors. Without a valid state_size, the result
    is None.
    """
    size: Any = getattr(module, "state_size", None)
    sizes = size if isinstance(size, tuple) else (size,)
    if not isinstance(module, nn.Module) or not all(map(is_whole_number, sizes)):
        return None
    own: Any = getattr(module, "initial_state", None)
    if own is None or not takes(own, 0):
        return zero_state(size, state_like(module), 1)
    parts = tuple(part.detach().reshape(1, -1) for part in tree_leaves(own()))
    return parts if isinstance(size, tuple) else parts[0]


def state_like(module: nn.Module) -> Tensor:
    """A tensor with the dtype and device of a module's state: its first complex weight or buffer,
    or else its first weight or buffer.
    """
    weights = [*module.parameters(), *module.buffers()]
    return next((w for w in weights if w.is_complex()), [*weights, torch.empty(0)][0])


def as_taken(cell: Any, first: State) -> State:
    """A state (1, ...) as a step takes it: unchanged for a module, without the first axis for a
    function.
    """
    return first if isinstance(cell, nn.Module) else tree_map(lambda part: part[0], first)


def state_in(output: Any, like: list) -> list[Tensor] | None:
    """The tensors of the state in what a step returns: all of it, or the second part of a pair
    (output, state). None if neither has the shapes of `like`.
    """
    is_pair = isinstance(output, tuple | list) and len(output) == 2
    candidates = map(tree_leaves, (output, output[1]) if is_pair else (output,))
    return next(
        (parts for parts in candidates if [*map(np.shape, parts)] == [*map(np.shape, like)]), None
    )
