"""Record the calls of a recurrent cell while its module reads a sequence, and check in the same
pass that the loop of the module does nothing but call the cell.

    h = cell(x[t], h)             accepted: these calls are the run of the cell
    h = norm(cell(x[t], h))       refused: the state changes between two calls
    h = cell(cat(x[t], out(h)))   refused: the input reads the state

In the last two loops the Jacobian of one step is not that of the cell. Users of such a loop must
pass the whole step as f(x, s) instead.

During the pass each output of the cell is a leaf of autograd. Derivatives then show how the next
input and the next state depend on the output, even through `detach` and `no_grad`, which cut
gradients but not the dependence.
"""

import inspect
import itertools
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from gersgorin.data.inputs import Input, call
from gersgorin.run.state import state_in
from gersgorin.validate import like_weights, random_numbers_kept, users_code, with_gradients
from rhn.errors import InvalidInputError
from rhn.utils.old import counted

DETACHING = (torch.detach, Tensor.detach, Tensor.data.__get__)  # type: ignore[attr-defined]


@dataclass
class TracedCall:
    """One call of a cell. Its tensors have gradients with respect to the outputs of earlier
    calls.
    """

    x: Any
    """The input argument."""
    state: list
    """The tensors of the state argument; empty for a call without a state."""
    output: Any = None
    """What the cell returned, with its tensors as leaves."""


class Undetached(TorchFunctionMode):
    """Context in which gradients pass through `detach`, `.data` and `no_grad`. The attribute `used`
    is True if one of them was called.
    """

    used = False

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.used |= func in (*DETACHING, torch._C._set_grad_enabled)
        if func in DETACHING:
            return args[0]
        if func is Tensor.numpy:
            return args[0].detach().numpy()
        try:
            with torch.enable_grad():
                return func(*args, **(kwargs or {}))
        except RuntimeError:  # out= and some operations in place have no gradient
            with torch.no_grad():
                return func(*args, **(kwargs or {}))


def recorded_calls(
    cell: nn.Module, module: nn.Module, x: Input, undetached: Undetached | None = None
) -> list[TracedCall]:
    """Record the calls of a cell while the module, which is a copy, reads x. The states of random
    generators are restored.

    undetached: the context in which the module reads x; None: gradients pass only as the module
    lets them.
    """
    found: list[TracedCall] = []
    signature = inspect.signature(cell.forward)

    def before(cell, args, kwargs):
        bound = signature.bind(*args, **kwargs)
        given = (*bound.args, *bound.kwargs.values())
        state = tree_leaves(given[1]) if len(given) > 1 and given[1] is not None else []
        found.append(TracedCall(_kept(given[0]), [_kept(part) for part in state]))

    def after(cell, args, output):
        found[-1].output = tree_map(_leaf, output)
        return tree_map(_kept, found[-1].output)

    # the second one before all other hooks: the cell does not make what they make of its output
    hooks = [
        cell.register_forward_pre_hook(before, with_kwargs=True),
        cell.register_forward_hook(after, prepend=True),
    ]
    module.requires_grad_(False)
    with _default_dtype_of(cell), with_gradients(), undetached or nullcontext():
        try:
            with random_numbers_kept(next(module.parameters(), torch.empty(0))):
                call(module, x)
        finally:
            for hook in hooks:
                hook.remove()
    return found


@contextmanager
def _default_dtype_of(cell: nn.Module) -> Iterator[None]:
    """Context in which new tensors, such as torch.zeros(B, n), have the precision of the cell's
    weights.
    """
    usual = torch.get_default_dtype()
    like = like_weights(cell)
    torch.set_default_dtype(usual if like is None else like.dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(usual)


def _kept(part: Any) -> Any:
    """A copy of a tensor, which later changes in place do not affect."""
    return part.clone() if isinstance(part, Tensor) else part


def _leaf(part: Any) -> Any:
    if not isinstance(part, Tensor):
        return part
    with torch._C.DisableTorchFunction():  # a detach that is none of the module's
        value = part.detach().clone()
    return value.requires_grad_() if value.is_floating_point() or value.is_complex() else value


def first_sequence(calls: list[TracedCall]) -> list[TracedCall]:
    """The calls of the first sequence. A later call without a state begins another sequence."""
    return [*calls[:1], *itertools.takewhile(lambda call: call.state, calls[1:])]


def check_loop(cell: nn.Module, module: nn.Module, calls: list[TracedCall]) -> None:
    """Raise InvalidInputError unless the module passes the states of its cell back unchanged, and
    inputs that do not depend on the outputs of the cell.

    calls: the recorded calls of the first sequence. A single call may read a whole sequence.
    """
    said = f"the loop of {type(module).__name__} cannot be differentiated"
    with with_gradients(), users_code(said, "it changes a tensor in place"):
        if not all(map(_returns_state, calls, calls[1:])):
            raise own_step(cell, module, "returns neither its next state nor (output, state)")
        if not _passes_states_on(calls):
            raise own_step(cell, module, "gets another state than the one that it returned")
        if _reads_outputs(calls):
            raise own_step(cell, module, "gets inputs that depend on its outputs")


def own_step(cell: nn.Module, module: nn.Module, wrong: str) -> InvalidInputError:
    """The error for a loop that does more than call its cell."""
    return InvalidInputError(
        f"the {type(cell).__name__} in the loop of {type(module).__name__} {wrong}: write the "
        "complete step as a function f(x, s), or as a module with forward(x, state), and give "
        "that with its first state: gersgorin.spectra(f, x, s0=s0)"
    )


def doubt_of_loop(calls: list[TracedCall]) -> str:
    """A sentence about a doubt, or "". There is a doubt if a state passes from one call of the cell
    to the next, and the gradient of the module's loop in between is not the identity.
    """
    kinds = [*map(_kind, _passed_on(first_sequence(calls)) or ())]
    numbers = {word: kinds.count(word) for word in ("cut", "changed")}
    found = [f"is {word} at {number}" for word, number in numbers.items() if number]
    if not found:
        return ""
    passes = counted(len(kinds), "pass", "passes")
    return (
        f"The gradient of this loop is not its slope: it {' and '.join(found)} of the {passes} of "
        "the state from one call of the cell to the next. These numbers are of the same loop with "
        "its whole gradient."
    )


def _passes_states_on(calls: list[TracedCall]) -> bool:
    """True if each call gets the state that the call before returned: the numbers are equal, and
    the derivative is the identity.
    """
    passed = _passed_on(calls)
    return passed is not None and all(_kind(slopes) == "whole" for slopes in passed)


Slopes = list[tuple[Tensor | None, Tensor]]
"""For each tensor of a returned state, two results. The first is the gradient, with respect to this
tensor, of a weighted sum of all states that calls get. The second is the weights of the tensor that
the next call gets.
"""


def _passed_on(calls: list[TracedCall]) -> list[Slopes] | None:
    """The slopes for each two successive calls; None if a call gets other numbers than the call
    before returned.
    """
    passed = [_parts_passed(*each) for each in itertools.pairwise(calls)]
    if None in passed:
        return None
    given, returned = [], []
    for parts in itertools.chain(*filter(None, passed)):
        given.append(parts[0])
        returned.append(parts[1])
    weights = _weights(given)
    # copies of the numbers, made outside torch or without gradient, have no slope
    known = [pair for pair in zip(given, weights, strict=True) if pair[0].requires_grad]
    slopes = _slopes([part for part, _ in known], returned, [w for _, w in known])
    found = zip(slopes, weights, strict=True)
    return [[*itertools.islice(found, len(parts or ()))] for parts in passed]


def _returns_state(one: TracedCall, other: TracedCall) -> bool:
    """True if a call returns a state in the shapes of that which the next call gets."""
    return not other.state or state_in(one.output, other.state) is not None


def _parts_passed(one: TracedCall, other: TracedCall) -> list[tuple[Tensor, Tensor]] | None:
    """Pairs (tensor of the state that a call gets, tensor that the call before returned), for
    tensors that can have gradients; None if their numbers differ.
    """
    parts = state_in(one.output, other.state) or []
    if len(parts) != len(other.state) or not all(map(_equal, parts, other.state)):
        return None
    return [pair for pair in zip(other.state, parts, strict=True) if pair[1].requires_grad]


def _kind(slopes: Slopes) -> str:
    """ "whole" if the slopes are those of the identity, "cut" if there are none or all are 0, else
    "changed".
    """
    if all(slope is not None and torch.equal(slope, w) for slope, w in slopes):
        return "whole"
    return "changed" if any(slope is not None and slope.any() for slope, _ in slopes) else "cut"


def _reads_outputs(calls: list[TracedCall]) -> bool:
    """True if an input of the cell depends on one of its outputs."""
    inputs = [part for call in calls for part in tree_leaves(call.x) if _differentiable(part)]
    outputs = [part for call in calls for part in tree_leaves(call.output) if _differentiable(part)]
    slopes = _slopes(inputs, outputs, _weights(inputs))
    return any(bool((slope != 0).any()) for slope in slopes if slope is not None)


def _slopes(of: list[Tensor], leaves: list[Tensor], weights: list[Tensor]) -> list[Tensor | None]:
    """The gradients of weighted sums with respect to leaves; None if there is no dependence."""
    if not of or not leaves:
        return [None] * len(leaves)
    return [*torch.autograd.grad(of, leaves, weights, retain_graph=True, allow_unused=True)]


def _weights(parts: list[Tensor]) -> list[Tensor]:
    """Positive random numbers as weights, so that no derivatives cancel by symmetry."""
    how: dict[str, Any] = {"generator": torch.Generator().manual_seed(0), "dtype": torch.float64}
    return [torch.rand(part.shape, **how).to(part) + 0.5 for part in parts]


def _differentiable(part: Any) -> bool:
    return isinstance(part, Tensor) and part.requires_grad


def _equal(a: Any, b: Any) -> bool:
    """True if two tensors are equal, also with NaN at the same places, or if two other values are
    the same object.
    """
    both = isinstance(a, Tensor) and isinstance(b, Tensor)
    return torch.equal(*(t.detach().nan_to_num() for t in (a, b))) if both else a is b
