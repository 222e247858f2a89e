"""Record the calls of a recurrent cell while its module reads a sequence, and refuse a loop that is
more than the cell's own.

    h = cell(x[t], h)             the run of the cell
    h = norm(cell(x[t], h))       refused: the state changes between two calls
    h = cell(cat(x[t], out(h)))   refused: the input reads the state

The Jacobian of the bare cell is not that of the other two loops. Their step is handed over as f(x,
s) instead.
"""

import inspect
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from gersgorin._validate import random_numbers_kept
from gersgorin.run.cell import state_in
from rhn.errors import InvalidInputError
from rhn.utils.wording import counted

MOVED = 1e-5  # change of the cell's outputs, relative to 1 and to their size


@dataclass
class Call:
    """One call of a cell."""

    x: Any
    """The input argument."""
    state: list
    """Values of the parts of the state argument; empty for a call without a state."""
    output: Any = None
    """The values that the cell returned."""


def watched_calls(
    cell: nn.Module, module: nn.Module, x: Tensor, change: Callable | None = None
) -> list[Call]:
    """Record the calls of a cell while the module reads x; the state of random generators is
    restored.

    change: replaces each tensor of the cell's outputs.
    """
    found: list[Call] = []
    signature = inspect.signature(cell.forward)

    def before(cell, args, kwargs):
        bound = signature.bind(*args, **kwargs)
        given = (*bound.args, *bound.kwargs.values())
        state = tree_leaves(given[1]) if len(given) > 1 and given[1] is not None else []
        found.append(Call(_value(given[0]), [_value(part) for part in state]))

    def after(cell, args, output):
        given = tree_map(change, output) if change else output
        found[-1].output = tree_map(_value, given)
        return given

    # the second one before all other hooks: the cell does not make what they make of its output
    hooks = [
        cell.register_forward_pre_hook(before, with_kwargs=True),
        cell.register_forward_hook(after, prepend=True),
    ]
    usual, dtype = torch.get_default_dtype(), next(cell.parameters(), x).dtype
    try:
        # of a first state torch.zeros(B, n)
        torch.set_default_dtype(dtype if dtype.is_floating_point else usual)
        with random_numbers_kept(x):
            module(x)
    finally:
        torch.set_default_dtype(usual)
        for hook in hooks:
            hook.remove()
    return found


def first_sequence(calls: list[Call]) -> list[Call]:
    """The calls up to the first later one without a state, which begins another sequence."""
    return [*calls[:1], *itertools.takewhile(lambda call: call.state, calls[1:])]


def check_loop(
    cell: nn.Module, module: nn.Module, x: Tensor, calls: list[Call], steps: int
) -> None:
    """Raise InvalidInputError unless a module calls its cell once a frame of x and passes the
    states straight back.

    The inputs of the cell must not depend on its outputs: they stay the same if these change a
    little, up or down.

    Args:
        calls: those of the cell while the module reads x; one alone may read a whole sequence.
        steps: the frames in the first sequence of these calls.
    """
    if len(calls) == 1 and steps > 1:
        return
    wrong, first = "", first_sequence(calls)
    for sign in (1, -1):
        moved = first_sequence(watched_calls(cell, module, x, _mover(sign)))
        pairs = itertools.pairwise(moved)
        if not all(_equal(state_in(one.output, other.state), other.state) for one, other in pairs):
            wrong = "gets another state than the one that it returned"
        elif not _equal([call.x for call in first], [call.x for call in moved]):
            wrong = "gets inputs that depend on its outputs, or on chance"
    several = max(x.shape[: x.dim() - x.is_floating_point()], default=2) > 1
    if steps not in x.shape or (several and steps == 1):
        wrong = f"is called for {counted(steps, 'frame')} of x {tuple(x.shape)}, not once for each"
    if wrong:
        raise InvalidInputError(
            f"the {type(cell).__name__} in the loop of {type(module).__name__} {wrong}: write "
            "the complete step as a function "
            "f(x, s), or as a module with forward(x, state), and give that with its first "
            "state: gersgorin.spectra(f, x, s0)"
        )


def _mover(sign: int) -> Callable:
    """A function that moves all entries of a tensor up or down by a little."""
    generator = torch.Generator().manual_seed(0)

    def moved(part):
        if not isinstance(part, Tensor) or not part.is_floating_point():
            return part
        r = torch.rand(part.shape, generator=generator, dtype=torch.float64, device="cpu")
        size = max(MOVED, torch.finfo(part.dtype).eps ** 0.5)
        return part + (sign * size * r).to(part) * (1 + part.abs())

    return moved


def _value(part):
    return part.detach().clone() if isinstance(part, Tensor) else part


def _equal(a, b) -> bool:
    """True for equal tensors, also with NaN at the same places, for the same objects, and for lists
    of them.
    """
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_equal, a, b))
    both = isinstance(a, Tensor) and isinstance(b, Tensor)
    return torch.equal(a.nan_to_num(), b.nan_to_num()) if both else a is b
