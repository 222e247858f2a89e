"""How a cell of ours, one of torch.nn's, a user's module or a bare function takes one step, and what is asked of it."""

import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from gersgorin.own_loop import OwnLoop
from gersgorin.watch import recurrent_cells
from rhn.cells import stack_from_torch
from rhn.errors import USERS_FAULT, InvalidInputError, RhnError, UsersCodeError

Step = Callable[[Tensor, Tensor], Tensor]


def converted(cell):
    """torch.nn's recurrent modules as our cells, several layers as a stack (CUDA's own have no vmap rule); all else as it is."""
    if isinstance(cell, OwnLoop):
        raise InvalidInputError(f"{name_of(cell)} {OwnLoop.no_step}")
    return stack_from_torch(cell) if isinstance(cell, nn.RNNBase | nn.RNNCellBase) else cell


def step_of(cell) -> Step:
    """What takes one step; raises InvalidInputError for something that is no function of an input and a state."""
    if not callable(cell):
        raise InvalidInputError(f"expected a cell or a callable f(x, s), got {name_of(cell)}")
    step = getattr(cell, "step", cell)
    try:
        signature = inspect.signature(step.forward if isinstance(step, nn.Module) else step)
    except ValueError:  # a built-in function that does not tell its arguments
        return step
    try:
        signature.bind(None, None)
    except TypeError as error:
        expected = "is to be called as f(x, s), an input and a state"
        raise InvalidInputError(
            f"{name_of(cell)} {expected}, but takes {signature}: {error}{in_a_module(cell)}"
        ) from None
    return step


def in_a_module(cell) -> str:
    """Of a network that has a recurrent cell inside: how to come by that, as the end of a sentence; "" of all else."""
    if not isinstance(cell, nn.Module) or hasattr(cell, "step") or not recurrent_cells(cell):
        return ""
    return "; for the recurrent cell in it, and what that reads, see gersgorin.recurrent_part(module, x)"


def name_of(cell) -> str:
    """What a message calls a cell."""
    return type(cell).__name__ if isinstance(cell, nn.Module | OwnLoop) else getattr(cell, "__name__", repr(cell))


def state_size_of(cell) -> int:
    """The length of a cell's state; raises InvalidInputError for a cell that has no state of one tensor."""
    size = getattr(cell, "state_size", None)
    if isinstance(size, int) and not isinstance(size, bool) and size > 0:
        return size
    said = "does not tell its state_size" if size is None else f"has the state_size {size!r:.40}"
    raise InvalidInputError(
        f"{name_of(cell)} {said}: expected a whole number, the length of one state tensor; several parts of a state are "
        "joined, as an LSTM's torch.cat((h, c), -1)"
    )


def check_sizes(cell, step: Step, x: Tensor, s: Tensor) -> None:
    """Raise InvalidInputError, for a cell that knows its sizes, where x (..., m) or s (..., N) does not fit: before torch does."""
    owner = getattr(step, "__self__", None)
    sizes = getattr(owner, "input_size", None), getattr(owner, "state_size", None)
    if not isinstance(owner, nn.Module) or None in sizes:
        return
    weight = next(owner.parameters(), s)
    if (x.dtype, s.dtype) != (weight.dtype, weight.dtype):
        raise InvalidInputError(f"x is {x.dtype} and s {s.dtype}, the weights are {weight.dtype}: convert one")
    if (x.shape[-1], s.shape[-1]) != sizes:
        expected = f"{name_of(cell)} expects {sizes[0]} inputs and a state of {sizes[1]}"
        raise InvalidInputError(f"x ends in {x.shape[-1]} and s in {s.shape[-1]}: {expected}")


def check_method(cell, name: str, arguments: str) -> None:
    """Raise InvalidInputError where what a cell calls `name` is no method."""
    if not callable(found := getattr(cell, name)):
        raise InvalidInputError(f"{name_of(cell)}: {name} must be a method {name}{arguments}, got {found!r:.40}")


def try_step(cell, step: Step, x: Tensor, s: Tensor) -> None:
    """Take one step from an input (m,) and a state (N,) and see that it gives the next state; raises InvalidInputError."""
    try:
        with torch.inference_mode(False), torch.no_grad(), torch.random.fork_rng(devices=[]):
            given = s.clone()  # inference tensors count no versions
            before = given._version
            after = step(x, given)
            if given._version != before:
                raise InvalidInputError(
                    f"{name_of(cell)}: step(x, s) changes the state it is given in place: expected a new tensor"
                )
    except RhnError as error:
        if not (hint := in_a_module(cell)):
            raise
        raise InvalidInputError(f"{error}{hint}") from error
    except USERS_FAULT as error:  # whatever a user's step raises
        raise UsersCodeError(
            f"{name_of(cell)} takes no step from an input {tuple(x.shape)} and a state {tuple(s.shape)}: "
            f"{type(error).__name__}: {error}{in_a_module(cell)}"
        ) from error
    check_next(cell, after, s)


@contextmanager
def transformed(cell) -> Iterator[None]:
    """Within the block a step is batched or differentiated by torch.func: say so where it does what that cannot follow."""
    try:
        yield
    except RuntimeError as error:
        said = str(error).split(". ")[0].split("\n")[0]
        if not re.search(r"vmap|in-?place|functorch|does not require grad|backward through the graph", str(error)):
            raise
        raise UsersCodeError(
            f"{name_of(cell)} cannot be differentiated, or run on several sequences at once: {said}; write its step with new tensors, "
            "without operations in place and branches on numbers"
        ) from error


def check_next(cell, after, s: Tensor) -> None:
    """Raise InvalidInputError unless a step from s, or several, gave one tensor as large."""
    if not isinstance(after, Tensor) or after.shape != s.shape:
        got = f"a tensor {tuple(after.shape)}" if isinstance(after, Tensor) else type(after).__name__
        raise InvalidInputError(
            f"{name_of(cell)} must return one state of {s.shape[-1]} entries, as many as it was given, but returns {got}"
            f"{in_a_module(cell)}"
        )
    if not after.is_floating_point():
        raise InvalidInputError(
            f"{name_of(cell)}: step(x, s) must return a floating state, as it was given ({s.dtype}), got {after.dtype}"
        )
