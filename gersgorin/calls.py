"""The calls of a recurrent cell while its module reads a sequence, and whether anything happens between them that the cell does not do.

Legend: T frames, B sequences.
"""

import functools
import inspect
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from rhn.errors import InvalidInputError


@dataclass
class Call:
    """One call of a cell."""

    x: Any
    """The input, as the module gave it."""
    state: list
    """The parts of the state that it gave, as they are in the graph; none where it gave no state."""
    before: list
    """Their values."""
    after: Any = None
    """The values of the state that came out."""


def watched_calls(cells: list[nn.Module], module: nn.Module, x: Tensor, begin=None, end=None) -> list[list[Call]]:
    """The calls of each of some cells when the module reads x, up to where a cell begins anew.

    begin(which cell, which call, call): what the cell is to be called with instead. end(which cell, which call, output): what it is to
    give instead. None changes nothing.
    """
    found: list[list[Call]] = [[] for _ in cells]
    signatures = [inspect.signature(cell.forward) for cell in cells]

    def before(k, cell, args, kwargs):
        bound = signatures[k].bind(*args, **kwargs)
        given = (*bound.args, *bound.kwargs.values())
        state = tree_leaves(given[1]) if len(given) > 1 and given[1] is not None else []
        call = Call(given[0], state, [_value(part) for part in state])
        found[k].append(call)
        instead = begin and begin(k, len(found[k]) - 1, call)
        return (instead, {}) if instead else None

    def after(k, cell, args, output):
        state = state_in(cell, output, found[k][-1].state)
        found[k][-1].after = tree_map(_value, state)
        return end and end(k, len(found[k]) - 1, output)

    hooks = []
    for k, cell in enumerate(cells):
        hooks.append(cell.register_forward_pre_hook(functools.partial(before, k), with_kwargs=True))
        # first of all hooks: what others make of the output, the cell does not
        hooks.append(cell.register_forward_hook(functools.partial(after, k), prepend=True))
    try:
        module(x)
    finally:
        for hook in hooks:
            hook.remove()
    return [[*calls[:1], *itertools.takewhile(lambda call: call.state, calls[1:])] for calls in found]


def random_numbers_kept(x: Tensor):
    """A block after which torch's random numbers, also of the device of x, are as they were."""
    return torch.random.fork_rng(devices=[x.device] if x.is_cuda else [])


def first_sequence(calls: list[Call], frames: int) -> list[Call]:
    """The calls up to where, after whole frames, a cell is given its first state anew."""
    for j in range(frames, len(calls), frames):
        first, given, came = calls[0].before, calls[j].before, tree_leaves(calls[j - 1].after)
        anew = (
            all(_equal(a, b) for a, b in zip(first, given, strict=True)) if first else not any(b.any() for b in given)
        )
        if anew and not all(_equal(a, b) for a, b in zip(came, given, strict=False)):
            return calls[:j]
    return calls


def passes_its_state_on(calls: list[Call]) -> bool:
    """Whether each call is given the state that came out of the one before, to the bit."""
    for one, other in itertools.pairwise(calls):
        gave, given = tree_leaves(one.after), other.before
        if len(gave) != len(given) or not all(_equal(a, b) for a, b in zip(gave, given, strict=True)):
            return False
    return True


def reads_what_it_gave(cell: nn.Module, module: nn.Module, x: Tensor, calls: list[Call]) -> bool:
    """Whether what comes out of the cell's first call changes what it reads later."""
    generator = torch.Generator().manual_seed(0)

    def moved(part):
        if not isinstance(part, Tensor) or not part.is_floating_point():
            return part
        return part + torch.rand(part.shape, generator=generator, dtype=torch.float64, device="cpu").to(part)

    with torch.no_grad(), random_numbers_kept(x):
        (again,) = watched_calls(
            [cell], module, x, end=lambda k, j, output: tree_map(moved, output) if j == 0 else None
        )
    return len(again) != len(calls) or not all(_equal(a.x, b.x) for a, b in zip(calls, again, strict=True))


def frames_of(cell: nn.Module, module: nn.Module, calls: list[Call], x: Tensor) -> tuple[int, int | None]:
    """(The frames that x holds, 0 where the calls do not follow them; the axis that they are on, None where two may be it).

    Several calls a frame are seen by what they read: the last frame must change none of the calls before its own. Raises
    InvalidInputError where every frame changes the first call.
    """
    axes = [0, 1] if x.dim() > 2 or (x.dim() == 2 and not x.is_floating_point()) else [0]
    rows = rows_of(cell, calls[1].state)
    axes = [axis for axis in axes if len(axes) == 1 or x.shape[1 - axis] == rows] or axes
    whole, several = next((axis for axis in axes if 1 < x.shape[axis] == len(calls)), None), False
    if whole is not None:
        return len(calls), whole if len(axes) == 1 else None
    calls = first_sequence(calls, 1)  # a module that reads one sequence after the other
    for axis in (*axes, *(axis for axis in range(x.dim()) if axis not in axes and x.shape[axis] == len(calls))):
        frames = x.shape[axis]
        if frames == 1 or len(calls) % frames:
            continue
        changed = _first_changed_by_last_frame(cell, module, calls, x, axis)
        if changed is None or len(calls) - len(calls) // frames <= changed < len(calls):
            return frames, axis if len(axes) == 1 else None
        several = several or changed == 0
    if several:
        kind = type(module).__name__
        raise InvalidInputError(
            f"{kind} calls its {type(cell).__name__} {len(calls)} times, and all of its input acts on the first call: how many calls "
            "belong to a frame cannot be told; write the loop as one rhn.cells.Cell"
        )
    return 0, None


def _first_changed_by_last_frame(
    cell: nn.Module, module: nn.Module, calls: list[Call], x: Tensor, axis: int
) -> int | None:
    """The first call that reads something else when the last entry of x on an axis is another; None where none can be."""
    other, last = x.clone(), x.select(axis, -1)
    other.select(axis, -1).copy_(last + 1 if x.is_floating_point() else torch.where(last == x.max(), x.min(), x.max()))
    if torch.equal(other, x):
        return None
    with torch.no_grad(), random_numbers_kept(x):
        (again,) = watched_calls([cell], module, other)
    pairs = zip(calls, again, strict=False)
    return next((k for k, (one, new) in enumerate(pairs) if not _equal(one.x, new.x)), len(calls))


def state_in(cell: nn.Module, output: Any, like: list) -> Any:
    """The part of a cell's output that is its state: all of it, or the second of two."""
    second = output[1] if isinstance(output, tuple | list) and len(output) > 1 else output
    if not like:
        return output if isinstance(cell, nn.RNNCellBase) else second
    shapes = [getattr(part, "shape", None) for part in tree_leaves(output)]
    return output if shapes == [getattr(part, "shape", None) for part in like] else second


def rows_of(cell: nn.Module, state: list[Tensor]) -> int:
    """B; 1 without a batch."""
    part, layers = state[0], int(isinstance(cell, nn.RNNBase))
    return part.shape[layers] if part.dim() > 1 + layers else 1


def by_rows(cell: nn.Module) -> Callable[[Tensor, int], Tensor]:
    """What makes (..., B, n) of a part of a cell's state behind so many leading dimensions."""
    layers = int(isinstance(cell, nn.RNNBase))

    def flat(part: Tensor, lead: int) -> Tensor:
        if part.dim() == lead + layers + 1:
            part = part.unsqueeze(lead + layers)
        return part.movedim(lead + layers, lead).flatten(lead + 1)

    return flat


def _value(part):
    return part.detach().clone() if isinstance(part, Tensor) else part


def _equal(a, b) -> bool:
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)):
        return a is b
    return a.shape == b.shape and bool(((a == b) | (a.isnan() & b.isnan())).all())
