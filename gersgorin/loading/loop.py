"""Differentiate the loop of a module that calls its recurrent cell itself, once a frame, and changes states or inputs in between.

    h = norm(cell(e, h))          changes the state between two calls
    h = cell(cat(e, out(h)), h)   reads an output of the cell again
    h = h0.expand(B, -1)          starts from a state of its own, such as a parameter

The Jacobian of the bare cell is not that of such a loop. The state of the loop is the state argument of a call, and one step leads to
the next call:

    A[t, i, j] = d s[t+1]_i / d s[t]_j      by autograd, through all operations of the module in between

T frames give T - 1 steps: the state after the last frame is never an argument of the cell. A test confirms that these states are the
complete state of the loop: the total derivative d s[T-1] / d s[t] must equal A[T-2] ... A[t]. Another one finds inputs that read states
without a gradient: they change if all outputs of the cell change a little, up or down.

Legend: T steps (one less than frames), B sequences, m inputs, N entries of the state.
"""

import contextlib
import copy
import functools
import inspect
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only

from gersgorin._validate import users_code, with_gradients
from gersgorin.autodiff import vjps
from gersgorin.cell import StepCell, as_cell
from gersgorin.run import Label, Run
from rhn.errors import InvalidInputError, NotFiniteError
from rhn.utils.wording import counted

NEW_TENSORS = ("zeros", "ones", "full", "rand", "tensor")  # how names of functions that make tensors begin
MOVED = 1e-5, -1e-5  # relative changes of the cell's outputs
CUT_OFF = "a detach(), no_grad() or conversion in the loop; leave it out for the analysis"
COMPARED = 8  # frames at which inputs that change must have a gradient


@dataclass
class Call:
    """One call of a cell."""

    x: Any
    """The input argument."""
    state: list
    """Values of the parts of the state argument; empty for a call without a state."""
    after: Any = None
    """The values of the state that the cell returned."""


def watched_calls(cell: nn.Module, module: nn.Module, x: Tensor, begin=None, end=None) -> list[Call]:
    """Record the calls of a cell while the module reads x, up to the first later call without a state.

    begin(call number, input, parts of the state): replacement of the arguments. end(output): replacement of the output. None changes
    nothing. torch's random state is restored.
    """
    found: list[Call] = []
    signature = inspect.signature(cell.forward)

    def before(cell, args, kwargs):
        bound = signature.bind(*args, **kwargs)
        given = (*bound.args, *bound.kwargs.values())
        state = tree_leaves(given[1]) if len(given) > 1 and given[1] is not None else []
        found.append(Call(given[0], [_value(part) for part in state]))
        instead = begin and begin(len(found) - 1, given[0], state)
        return (instead, {}) if instead else None

    def after(cell, args, output):
        found[-1].after = tree_map(_value, state_in(cell, output, found[-1].state))
        return end and end(output)

    # the second one before all other hooks: the cell does not make what they make of its output
    hooks = [
        cell.register_forward_pre_hook(before, with_kwargs=True),
        cell.register_forward_hook(after, prepend=True),
    ]
    try:
        with random_numbers_kept(x), _default_dtype(next(cell.parameters(), x).dtype):
            module(x)
    finally:
        for hook in hooks:
            hook.remove()
    return [*found[:1], *itertools.takewhile(lambda call: call.state, found[1:])]


@contextlib.contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Give new tensors without a dtype, such as a first state torch.zeros(B, n), the dtype of the copied weights."""
    usual = torch.get_default_dtype()
    torch.set_default_dtype(dtype if dtype.is_floating_point else usual)
    try:
        yield
    finally:
        torch.set_default_dtype(usual)


def random_numbers_kept(x: Tensor):
    """Context manager that restores torch's random state, also that of the device of x."""
    return torch.random.fork_rng(devices=[x.device] if x.is_cuda else [])


def state_in(cell: nn.Module, output: Any, like: list) -> Any:
    """The part of a cell's output that is its state: all of it, or the second of two."""
    second = output[1] if isinstance(output, tuple | list) and len(output) > 1 else output
    if not like:
        return output if isinstance(cell, nn.RNNCellBase) else second
    gave, given = ([part.shape for part in parts if isinstance(part, Tensor)] for parts in (tree_leaves(output), like))
    return output if gave == given else second


def passes_its_state_on(calls: list[Call]) -> bool:
    """True if the state argument of each call equals the state returned by the call before, to the bit."""
    pairs = [(tree_leaves(one.after), other.state) for one, other in itertools.pairwise(calls)]
    return all(len(gave) == len(given) and all(map(_equal, gave, given)) for gave, given in pairs)


def _value(part):
    return part.detach().clone() if isinstance(part, Tensor) else part


def _equal(a, b) -> bool:
    return torch.equal(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else a is b


@dataclass(frozen=True, kw_only=True, eq=False)
class OwnLoop(Run):
    """One run of a module's own loop; analyses read states and Jacobians from it, as from the run of a cell.

    The loop is recorded along this run only, so there is no step from another state. Gates, layers and the norm bound of its cell do
    not describe the loop, so it has none.
    """

    nodes: list["_Node"]
    """The states in the graph, of all sequences."""
    reads: list["_Node"]
    """The inputs of the cell, likewise."""
    row: int | None = None
    """The sequence; None: all of them."""
    again: Callable[[int, int], "OwnLoop"] | None = None
    """(steps, times) -> the loop over the first steps, so many times; None if the axis of time is not known."""

    own_loop = True

    def sequence(self, row: int) -> "OwnLoop":
        """One of the B sequences."""
        return replace(self, states=self.states[:, row], inputs=self.inputs[:, row], row=row)

    def repeated(self, times: int) -> "OwnLoop":
        """The loop over several repetitions of the sequence."""
        if times == 1:
            return self
        if self.again is None:
            raise InvalidInputError("the axis of time is ambiguous in the module's own loop: repeat x before")
        again = self.again(len(self), times).named(self.label)
        return again if self.row is None else again.sequence(self.row)

    def jacobians(self, at=slice(None)) -> Tensor:
        """A (..., N, N) at an index into the steps (T,), or (T, B)."""
        return self._derivatives(at, self.nodes)

    def input_jacobians(self, at=slice(None)) -> Tensor:
        """d s[t+1] / d x[t] (..., N, m) of the cell's inputs, at an index as for `jacobians`."""
        return self._derivatives(at, self.reads)

    def starting_at(self, s0: Tensor) -> Run:
        """Raise InvalidInputError: only the module itself sets its first state."""
        raise InvalidInputError("the module's own loop begins where the module does: leave s0 out")

    def any_step(self) -> StepCell:
        """Raise InvalidInputError: the step of the cell is not that of the loop."""
        raise InvalidInputError(
            "this run follows a module through its own loop, which takes no step from another state: write the loop as a rhn.cells.Cell"
        )

    def tangent_maps(self) -> Iterator[Callable[[Tensor], Tensor]]:
        """Q -> A[t] Q of one sequence, step by step."""
        for t in range(len(self)):
            yield functools.partial(torch.matmul, self.jacobians(t))

    def _derivatives(self, at, of: list["_Node"]) -> Tensor:
        B, found = len(self.nodes[0].value), []
        places = torch.arange(len(self) * B).reshape(len(self), B)
        places = (places if self.row is None else places[:, self.row])[at]
        for t, group in itertools.groupby(places.flatten().tolist(), lambda place: place // B):
            J = self.nodes[t + 1].jacobian(of[t])
            found += [J[place % B] for place in group]
        return torch.stack(found).reshape(*places.shape, *found[0].shape)


def followed(cell: nn.Module, module: nn.Module, x: Tensor, calls: list[Call]) -> OwnLoop | None:
    """Record the loop around a cell while its module reads x; None if it only passes the cell's states on, from the zero state.

    Args:
        cell: a part of the module, called with an input and a state.
        module: a copy in evaluation mode, whose weights get gradients; it runs three times.
        x: an input of the module with finite numbers.
        calls: those of the cell while the module reads x.

    Raises:
        InvalidInputError: the loop cannot be differentiated, has more state than its cell, mixes sequences, has no second frame, or
            calls the cell several times a frame.
    """
    name, of_cell = names = type(module).__name__, type(cell).__name__
    if len(calls) < 2:
        return None
    passes_on = passes_its_state_on(calls)
    if not all(isinstance(v, Tensor) for call in calls for v in (call.x, *call.state)):
        if passes_on:
            return None
        raise InvalidInputError(f"{name} calls its {of_cell} in a loop with something else than tensors")
    rows = rows_of(cell, calls[1].state[0])
    axes = [axis for axis, n in enumerate(x.shape) if n == len(calls)]
    frames = {n for n in x.shape[: x.dim() - x.is_floating_point()] if 1 < n < len(calls) and n != rows}
    refused = f"{name} does not call its {of_cell} once a frame: write its own loop as a function f(x, s)"
    if not axes and any(len(calls) % n == 0 for n in frames):
        raise InvalidInputError(refused)
    hint = "write the loop with new tensors and operations of torch that have gradients"
    with users_code(f"{name} cannot be followed through its own loop around {of_cell}", hint), with_gradients():
        nodes, reads = _differentiated(cell, module, x, calls)
        moved = _moved(cell, module, x, calls, reads)
        if passes_on and not any(map(torch.any, moved)) and not _is_linked(module, nodes, reads):
            return None
        if any(call.x.numel() != rows * call.x.shape[-1] for call in calls[1:]):
            raise InvalidInputError(refused)
        if not all(torch.isfinite(node.value).all() for node in nodes):
            raise NotFiniteError(f"{name}: a state of its {of_cell} is NaN or infinite: use smaller weights")
        if not torch.allclose(nodes[1].value, _Node(calls[1].state, rows, nodes[1].batch).value, rtol=1e-3, atol=1e-5):
            raise InvalidInputError(f"{name} has other states when it runs again, or from zeros: pass a first state")
        _check_reads(names, nodes, reads, moved)
        loop = _loop(names, cell, nodes, reads)
    skipped = len(calls) - len(loop.states)

    def again(steps: int, times: int) -> OwnLoop:
        longer = torch.cat([x.narrow(axes[0], 0, steps + 1 + skipped)] * times, axes[0])
        return followed(cell, module, longer, watched_calls(cell, module, longer))  # type: ignore[return-value]  # as before

    return replace(loop, again=again) if len(axes) == 1 else loop


def rows_of(cell: nn.Module, part: Tensor) -> int:
    """B of a part of a state; 1 without a batch."""
    layers = int(isinstance(cell, nn.RNNBase))
    return part.shape[layers] if part.dim() > 1 + layers else 1


class _Node:
    """Tensors in the graph of a run as one array (B, N): a variable of derivatives and a function to differentiate."""

    def __init__(self, parts: list[Tensor], rows: int, batch: int = 0):
        """batch: the axis of the B rows in each part that has one."""
        leaves = [part if part.requires_grad else torch.zeros((), requires_grad=True) for part in parts]
        self.edges = [*map(get_gradient_edge, leaves)]
        self._zeros, self._rows, self.batch = [*map(torch.zeros_like, parts)], rows, batch
        self.y = torch.cat([self.by_rows(part) for part in parts], -1)  # a copy: a module may write into the parts
        self.value = self.y.detach()

    @functools.cached_property
    def twice(self) -> bool:
        """True if two of the tensors are the same one, so that their derivatives cannot be separated."""
        return len({(edge.node, edge.output_nr) for edge in self.edges}) < len(self.edges)

    def jacobian(self, *of: "_Node") -> Tensor:
        """d self / d of, (B, N, M), of all sequences at once: they are independent."""
        B, N = self.value.shape
        w = torch.eye(N, dtype=self.value.dtype, device=self.value.device).unsqueeze(1).expand(N, B, N)
        return torch.cat(self.pull(w, of), -1).movedim(0, 1)

    def pull(self, w: Tensor, of: Sequence["_Node"]) -> list[Tensor]:
        """w^T d self / d each of these nodes, (b, B, M) for w (b, B, N)."""
        edges, zeros = [e for node in of for e in node.edges], [zero for node in of for zero in node._zeros]
        found = iter(vjps(self.y, edges, w, zeros))
        return [torch.cat([node.by_rows(next(found), 1) for _ in node.edges], -1) for node in of]

    def by_rows(self, part: Tensor, lead: int = 0) -> Tensor:
        """A part of a state with some leading dimensions as (..., B, n)."""
        shape = (*part.shape[: lead + self.batch], self._rows, -1)
        return part.reshape(shape).movedim(lead + self.batch, lead).flatten(lead + 1)


def _depends(y: Tensor, on: list) -> bool:
    """True if y depends on one of these tensors or edges in the graph."""
    if not on or not y.requires_grad:
        return False
    found = torch.autograd.grad(y, on, torch.ones_like(y), retain_graph=True, allow_unused=True)
    return any(g is not None for g in found)


def _is_linked(module: nn.Module, nodes: list[_Node], reads: list[_Node]) -> bool:
    """True if the graph has more than the cell's steps from zero: an input that depends on a state, or another first state.

    A first state that depends on a parameter counts: training moves it away from zero.
    """
    read = torch.cat([node.y.flatten() for node in reads])
    if nodes[0].value.any() or _depends(read, [edge for node in nodes for edge in node.edges]):
        return True
    return _depends(nodes[0].y, [p for p in module.parameters() if p.requires_grad])


def _moved(cell: nn.Module, module: nn.Module, x: Tensor, calls: list[Call], reads: list[_Node]) -> list[Tensor]:
    """The entries (B, m) of each input of the cell that change with its outputs, whichever way these move: beside a kink only one does.

    Entries that change from run to run anyway, such as NumPy's random numbers, do not count.
    """
    moved = [read.by_rows(call.x).isclose(read.value) for read, call in zip(reads, calls, strict=False)]
    for change in MOVED:
        generator = torch.Generator().manual_seed(0)

        def scaled(part, change=change, generator=generator):
            r = torch.rand(part.shape, generator=generator, dtype=torch.float64, device="cpu")
            return part * (1 + change * r).to(part)

        with torch.no_grad():
            again = watched_calls(cell, module, x, end=functools.partial(tree_map_only, Tensor, scaled))
        rows = zip(moved, reads, calls, again, strict=False)
        moved = [old & (read.by_rows(call.x) != read.by_rows(other.x)) for old, read, call, other in rows]
    return moved


class _NewTensorsInGraph(TorchFunctionMode):
    """Make new tensors of a module part of the graph, so that operations on a first state of zeros are differentiated too."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        new = function.__name__.removeprefix("new_").startswith(NEW_TENSORS) and torch.is_grad_enabled()
        if new and found.is_floating_point() and not found.requires_grad:
            return found.requires_grad_().clone()  # no leaf: a module may write into it
        return found


def _differentiated(cell: nn.Module, module: nn.Module, x: Tensor, seen: list[Call]) -> tuple[list[_Node], list[_Node]]:
    """Run the module again with gradients: the states that its cell is called with, and the inputs."""
    nodes: list[_Node] = []
    reads: list[_Node] = []
    batch = int(isinstance(cell, nn.RNNBase))

    def begin(j: int, x: Tensor, state: list):
        if j >= len(seen):
            return None
        instead = None
        if not state:
            zeros = tree_map(lambda part: torch.zeros_like(part).requires_grad_().clone(), seen[0].after)
            state, instead = tree_leaves(zeros), (x, zeros)
        for part in state:
            if part.is_leaf and part.is_floating_point():
                part.requires_grad_()
        rows = rows_of(cell, state[0])
        nodes.append(_Node(state, rows, batch))
        reads.append(_Node([x], rows))
        return instead

    def end(output):
        """The output with parts of a state that do not depend on each other: an LSTM's h is computed from its c."""
        parts = tree_leaves(state_in(cell, output, seen[-1].state))
        if len(parts) < 2:
            return None
        apart = iter(torch.cat([part.flatten() for part in parts]).split([part.numel() for part in parts]))
        of = {id(part): next(apart).reshape(part.shape) for part in parts}
        return tree_map(lambda part: of.get(id(part), part), output)

    for p in module.parameters():
        p.requires_grad_(p.is_floating_point())
    given = x.detach().clone().requires_grad_().clone() if x.is_floating_point() else x
    without_cudnn = torch.backends.cudnn.flags(enabled=False)  # its cells have no gradient in evaluation mode
    with _NewTensorsInGraph(), without_cudnn:
        watched_calls(cell, module, given, begin, end)
    return nodes, reads


def _loop(names: tuple[str, str], cell: nn.Module, nodes: list[_Node], reads: list[_Node]) -> OwnLoop:
    """The loop, if its state is complete; without frames at its start at which two parts of the state are one tensor."""
    frames, first = len(nodes), next((t for t, node in enumerate(nodes) if not node.twice), len(nodes))
    nodes, reads = nodes[first:], reads[first:-1]
    steps = len(reads)
    if steps < 1 or any(node.twice for node in nodes):
        raise InvalidInputError(f"{names[0]} passes its {names[1]} one tensor as two parts of its state: pass two")
    _check_complete(names, nodes)
    cut = f" of {frames}" if first else ""
    why = f" ({counted(first, 'frame')} left out at the start: two parts of the state are one tensor)" if first else ""
    bare = copy.copy(as_cell(cell))
    bare.depth, bare._own = 1, {}  # its gates, layers and bound are not those of the loop
    return OwnLoop(
        cell=bare,
        inputs=torch.stack([node.value for node in reads]),
        states=torch.stack([node.value for node in nodes]),
        label=Label(loop=f"own loop: {counted(steps, 'step')} between {counted(steps + 1, 'frame')}{cut}{why}"),
        nodes=nodes,
        reads=reads,
    )


def _check_reads(names: tuple[str, str], nodes: list[_Node], reads: list[_Node], moved: list[Tensor]) -> None:
    """Raise InvalidInputError for an input of the cell that changes with earlier states, but has no gradient in them."""
    for t, (read, changed) in enumerate(zip(reads[:COMPARED], moved, strict=False)):
        if changed.any() and (changed & ~read.jacobian(*nodes[: t + 1]).any(-1)).any():
            raise InvalidInputError(
                f"{names[0]}: the input of its {names[1]} at frame {t + 1} is cut off from the states that it reads: {CUT_OFF}"
            )


def _check_complete(names: tuple[str, str], nodes: list[_Node]) -> None:
    """Raise InvalidInputError unless all paths of gradients pass through all states, of each sequence by itself."""
    generator = torch.Generator().manual_seed(0)
    last, earlier, like = nodes[-1], nodes[:-1], nodes[-1].value
    w = torch.randn(1, *like.shape, generator=generator, dtype=torch.float64, device="cpu").to(like)
    alone, close = w.clone(), torch.finfo(w.dtype).eps ** 0.5
    alone[:, 1:] = 0
    pulled = [*last.pull(w, earlier), w]
    for t, (before, after) in reversed([*enumerate(itertools.pairwise(nodes))]):
        if not _depends(after.y, before.edges):
            raise InvalidInputError(
                f"{names[0]}: the state of its {names[1]} at frame {t + 1} is cut off from the one before: {CUT_OFF}"
            )
        if w.shape[1] > 1 and after.pull(alone, [before])[0][:, 1:].any():
            raise InvalidInputError(
                f"{names[0]}: the rows of the batch act on one another in its loop: give one sequence at a time"
            )
        (through,) = after.pull(pulled[t + 1], [before])
        if (through - pulled[t]).norm() > close * pulled[t].norm() + 1e-4 * close * pulled[t + 1].norm():
            lag = counted(len(earlier) - t, "frame")
            raise InvalidInputError(
                f"{names[0]} has a path around the state of its {names[1]}: the state {lag} before acts on it directly; "
                "write the loop as a function f(x, s) of the complete state"
            )
