"""The first state of a module that is called without one: the declared one, or the zeros that it
starts from.

Legend: B rows, m inputs, n units.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gersgorin import checks
from gersgorin.double_precision import in_double, module_runs
from gersgorin.kinds import takes
from rhn.errors import USERS_FAULT
from rhn.utils.torch_private import tree_leaves, tree_map


@torch.no_grad()
def starting_state(module: nn.Module, name: str, x: Tensor, batch_first: bool | None) -> Any:
    """The first state of a module in its own shapes, at x (1, m) or ids (1,).

    The module is called as module(x): with a batch of one, and if it takes none, with x[0]; with
    `batch_first`, with a sequence of one step. A second call then tells the form of its state: the
    whole value that it returns, or the second part of (output, state). Raises InvalidInputError
    unless exactly one form runs, and zeros are where the module starts.
    """
    declared = declared_state(module, x)
    if declared is not None:
        return tree_map(lambda t: t.reshape(1, -1), declared)
    taken = taken_states(module, name, x, batch_first)
    both = f"the first state of {name}, which takes both what it returns and the second part"
    checks.require(len(taken) < 2, "s0", "None", both)
    state_known(name, len(taken) == 1 and taken[0].is_start)
    return taken[0].zeros


class Taken(NamedTuple):
    """A state of zeros that a module takes, and returns in the same shapes."""

    zeros: Any
    is_start: bool
    """True if the module returns the same without a state."""


def taken_states(module: nn.Module, name: str, x: Tensor, batch_first: bool | None) -> list[Taken]:
    """The states that a module takes with a batch of one, or else with none. Raises UsersCodeError
    if it runs with neither.
    """
    inputs = [x, x[0]] if batch_first is None else [x[None]]
    errors = list[BaseException]()
    for each in inputs:
        try:
            with module_runs():
                taken = taken_at(module, each)
        except USERS_FAULT as error:
            errors.append(error)
            continue
        is_batch = each is x
        taken = [one for one in taken if has_rows(tree_leaves(one.zeros)) or not is_batch]
        if taken:
            return taken
    if len(errors) == len(inputs):
        with checks.users_code(f"s0 is None and {name} fails without a state"):
            raise errors[0]
    return []


def taken_at(module: nn.Module, x: Tensor) -> list[Taken]:
    """The states of both forms that a module takes at x."""
    returned, found = module(x), list[Taken]()
    for state_in in (whole_of, second_of):
        try:
            alone = state_in(returned)
            zeros = tree_map(torch.zeros_like, alone)
            after = state_in(module(x, zeros))
        except USERS_FAULT:
            continue
        pairs = [*zip(tree_leaves(after), tree_leaves(alone), strict=False)]
        same_shapes = shapes_of(after) == shapes_of(zeros)
        if same_shapes:
            found.append(Taken(zeros, all(torch.allclose(*pair) for pair in pairs)))
    return found


def whole_of(returned: Any) -> Any:
    """The state in what a module returns, if it returns the state alone."""
    return returned


def second_of(returned: Any) -> Any:
    """The state in what a module returns, if it returns (output, state). Raises TypeError."""
    if not isinstance(returned, tuple | list):
        raise TypeError
    _, state = returned
    return state


def shapes_of(state: Any) -> list[torch.Size]:
    """The shape of each tensor of a state."""
    return [t.shape for t in tree_leaves(state)]


def has_rows(parts: list[Tensor]) -> bool:
    """True if the first axis of all tensors is one row of a batch."""
    return all(t.dim() > 1 and t.shape[0] == 1 for t in parts)


def state_known(name: str, known: bool) -> None:
    """Refuse a network without a first state."""
    checks.require(known, "s0", "None", f"the first state of {name}, or its state_size")


def declared_state(module: Any, x: Tensor) -> Any:
    """The result of `initial_state()`, or zeros of the attribute `state_size`; else None."""
    own: Any = getattr(module, "initial_state", None)
    if takes(own):
        return in_double(tree_map(torch.detach, own()), x.device)
    return zeros_of_size(module, getattr(module, "state_size", None))


def zeros_of_size(module: Any, size: Any) -> Any:
    """The first state of a size; None for the size None. It is complex if a weight is complex."""
    if size is None:
        return None
    weights = [*module.parameters(), *module.buffers()] if isinstance(module, nn.Module) else []
    like = next(
        (t for t in weights if t.is_complex()), [*weights, torch.zeros((), device="cpu")][0]
    )
    zeros = in_double(checks.first_state(None, size), like.device)
    return tree_map(lambda t: t.to(like.dtype), zeros) if like.is_complex() else zeros
