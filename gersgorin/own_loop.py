"""Differentiate the loop of a module that calls its recurrent cell itself and changes states or inputs between the calls.

    h = norm(cell(e, h))          changes the state between two calls
    h = cell(cat(e, out(h)), h)   reads an output of the cell again
    h = cell(e, cell(e, h))       calls the cell several times a frame
    h = h + cell(e, norm(h))      passes the cell something else than the state
    h = h0.expand(B, -1)          starts from a state of its own, such as a parameter

The Jacobian of the bare cell is not that of such a loop. The state of the loop is the state argument of the first call of a frame, or
what that argument is computed from, and one step leads to the first call of the next frame:

    A[t, i, j] = d s[t+1]_i / d s[t]_j      by autograd, through all operations of the module in between

T frames give T - 1 steps: the state after the last frame is never an argument of the cell. A test confirms that these states are the
complete state of the loop: the total derivative d s[T-1] / d s[t] must equal A[T-2] ... A[t].

Legend: T steps (one less than frames), B sequences, m inputs, N entries of the state.
"""

import contextlib
import copy
import functools
import inspect
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from gersgorin._validate import with_gradients
from gersgorin.run import Label, Run
from rhn.errors import USERS_FAULT, InvalidInputError, NotFiniteError, RhnError, UsersCodeError
from rhn.utils.wording import counted


@dataclass
class Call:
    """One call of a cell."""

    x: Any
    """The input argument."""
    state: list
    """The parts of the state argument, as tensors of the graph; empty for a call without a state."""
    before: list
    """Their values."""
    after: Any = None
    """The values of the state that the cell returned."""


def watched_calls(cells: list[nn.Module], module: nn.Module, x: Tensor, begin=None, end=None) -> list[list[Call]]:
    """Record the calls of cells while the module reads x, up to the first later call without a state.

    begin(cell number, call number, call): replacement of the arguments. end(cell number, call number, output): replacement of the
    output. None changes nothing.
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
        # before all other hooks: the cell does not make what they make of its output
        hooks.append(cell.register_forward_hook(functools.partial(after, k), prepend=True))
    try:
        with _default_dtype(next(cells[0].parameters(), x).dtype):
            module(x)
    finally:
        for hook in hooks:
            hook.remove()
    return [[*calls[:1], *itertools.takewhile(lambda call: call.state, calls[1:])] for calls in found]


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


def first_sequence(calls: list[Call], frames: int) -> list[Call]:
    """The calls up to the next one, after whole frames, that has the first state again."""
    for j in range(frames, len(calls), frames):
        first, given, came = calls[0].before, calls[j].before, tree_leaves(calls[j - 1].after)
        anew = (
            all(_equal(a, b) for a, b in zip(first, given, strict=True)) if first else not any(b.any() for b in given)
        )
        if anew and not all(_equal(a, b) for a, b in zip(came, given, strict=False)):
            return calls[:j]
    return calls


def passes_its_state_on(calls: list[Call]) -> bool:
    """True if the state argument of each call equals the state returned by the call before, to the bit."""
    for one, other in itertools.pairwise(calls):
        gave, given = tree_leaves(one.after), other.before
        if len(gave) != len(given) or not all(_equal(a, b) for a, b in zip(gave, given, strict=True)):
            return False
    return True


def reads_what_it_gave(cell: nn.Module, module: nn.Module, x: Tensor, calls: list[Call]) -> bool:
    """True if later inputs of the cell depend on the output of its first call."""
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


class _FirstCall(Exception):
    """The cell was called: the rest of the run is not needed."""


@with_gradients()
def starts_elsewhere(cell: nn.Module, module: nn.Module, x: Tensor, first: Call) -> bool:
    """True if the first state is not zero, or a parameter of the module, which training moves away from zero."""
    if any(part.any() for part in first.before):
        return True
    learned = []

    def begin(k, j, call):
        learned.extend(part.requires_grad for part in call.state)
        raise _FirstCall

    with contextlib.suppress(_FirstCall), random_numbers_kept(x):
        watched_calls([cell], module, x, begin)
    return any(learned)


def frames_of(cell: nn.Module, module: nn.Module, calls: list[Call], x: Tensor) -> tuple[int, int | None]:
    """Return (number of frames in x, 0 if the calls do not follow them; their axis, None if two are possible).

    Several calls a frame are recognised by their inputs: the last frame must change no call before its own. Raises InvalidInputError if
    every frame changes the first call.
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
    """The first call whose input changes with the last entry of x on an axis; None if that entry cannot be changed."""
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
    """Return a function (part of a state, leading dimensions) -> (..., B, n)."""
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


COMPARED = 8  # calls; in a chaotic loop rounding separates later ones
NEW_TENSORS = {
    getattr(owner, name)
    for owner, names in (
        (torch, ("zeros", "ones", "full", "rand", "randn", "tensor", "zeros_like", "ones_like", "full_like")),
        (torch, ("rand_like", "randn_like")),
        (Tensor, ("new_zeros", "new_ones", "new_full", "new_tensor")),
    )
    for name in names
}


class OwnLoop(Run):
    """One run of a module's own loop; analyses read states and Jacobians from it, as from the run of a cell.

    The loop is recorded along this run only, so there is no step from another state. Gates and the norm bound of its cell do not
    describe the loop, so it has none.
    """

    no_step = "follows a module through its own loop, which takes no step from another state: write the loop as a rhn.cells.Cell"
    depth = 1  # the loop is one layer, whatever the cell has

    def __init__(self, cell: nn.Module, nodes: list["_Node"], inputs: list["_Node"], about: str):
        self.cell, self.label, self.about = cell, Label(about=about), about
        self.states = torch.stack([node.value for node in nodes])
        """(T + 1, B, N); of one sequence (T + 1, N)."""
        self.inputs = torch.stack([node.value for node in inputs[: len(nodes) - 1]])
        """Inputs of the cell, (T, B, m), of one sequence (T, m); those of several calls a frame are joined."""
        self._nodes, self._inputs = nodes, inputs
        self._places = torch.arange(len(self) * self.states.shape[1]).reshape(len(self), -1)
        self._again: Callable[[int, int], OwnLoop] | None = None
        """(times, frames left out at the end of the sequence) -> the loop over its repetitions."""

    def sequence(self, row: int) -> "OwnLoop":
        """One of the B sequences."""
        one = copy.copy(self)
        one.states, one.inputs, one._places = self.states[:, row], self.inputs[:, row], self._places[:, row]
        again = self._again
        one._again = again and (lambda times, fewer: again(times, fewer).sequence(row))
        return one

    def until(self, steps: int) -> "OwnLoop":
        """The first steps."""
        some = copy.copy(self)
        some.states, some.inputs, some._places = self.states[: steps + 1], self.inputs[:steps], self._places[:steps]
        again, left_out = self._again, len(self) - steps
        some._again = again and (lambda times, fewer: again(times, left_out + fewer))
        return some

    def repeated(self, times: int) -> "OwnLoop":
        """The loop over several repetitions of the sequence."""
        if times == 1:
            return self
        if self._again is None:
            raise InvalidInputError(
                "the module cannot read its sequence several times: the axis of its frames is ambiguous"
            )
        again = self._again(times, 0)
        again.label = self.label
        return again

    def jacobians(self, at=slice(None)) -> Tensor:
        """A (..., N, N) at an index into the steps (T,), or (T, B)."""
        return self._derivatives(at, lambda t: self._nodes[t])

    def input_jacobians(self, at=slice(None)) -> Tensor:
        """d s[t+1] / d x[t] (..., N, m) of the cell's inputs, at an index as for `jacobians`."""
        return self._derivatives(at, lambda t: self._inputs[t])

    def state_gains(self, at=slice(None)) -> Tensor:
        """||A||_2 (..., 1): the loop is one layer."""
        return torch.linalg.matrix_norm(self.jacobians(at), 2).unsqueeze(-1)

    def starting_at(self, s0: Tensor) -> Run:
        """Raise InvalidInputError: only the module itself sets its first state."""
        raise InvalidInputError("the module's own loop begins where the module does: leave s0 out")

    def any_step(self) -> nn.Module:
        """Raise InvalidInputError: the cell alone is not a step of the loop."""
        raise InvalidInputError(f"this run {self.no_step}")

    def tangent_maps(self) -> Iterator[Callable[[Tensor], Tensor]]:
        """Q -> A[t] Q of one sequence, step by step."""
        for t in range(len(self)):
            yield functools.partial(torch.matmul, self.jacobians(t))

    def _derivatives(self, at, of: Callable[[int], "_Node"]) -> Tensor:
        places = self._places[at]
        B, found = len(self._nodes[0].value), []
        for t, group in itertools.groupby(places.flatten().tolist(), lambda place: place // B):
            J = self._nodes[t + 1].jacobian(of(t))
            found += [J[place % B] for place in group]
        return torch.stack(found).reshape(*places.shape, *found[0].shape)


def followed(cell: nn.Module, module: nn.Module, x: Tensor, others: list[nn.Module]) -> OwnLoop | None:
    """Record the loop around a cell while its module reads x; None if it only passes the cell's states on, from the zero state.

    Args:
        cell: a part of the module, called with an input and a state.
        module: in evaluation mode; it runs a few times.
        x: an input of the module with finite numbers.
        others: further recurrent cells of the module, which may share a loop with this one.

    Raises:
        InvalidInputError: the loop cannot be differentiated, has more state than its cells, mixes sequences, or has no second
            frame.
    """
    names = type(module).__name__, type(cell).__name__
    with torch.no_grad(), random_numbers_kept(x):
        seen = watched_calls([cell, *others], module, x)
    calls = seen[0]
    if len(calls) < 2:
        return None
    if not all(isinstance(v, Tensor) for call in calls for v in (call.x, *call.state)):
        if passes_its_state_on(calls):
            return None
        raise InvalidInputError(f"{names[0]} calls its {names[1]} in a loop with something else than tensors")
    frames, axis = frames_of(cell, module, calls, x)
    passes_on = frames in (0, len(calls)) and passes_its_state_on(calls)
    if passes_on and not reads_what_it_gave(cell, module, x, calls) and not starts_elsewhere(cell, module, x, calls[0]):
        return None
    if any(call.x.numel() != rows_of(cell, call.state) * call.x.shape[-1] for call in calls[1:]):
        raise InvalidInputError(
            f"{names[0]} changes the state of its {names[1]} between calls of several frames: expected one frame a call"
        )
    if frames:
        seen[0] = calls = first_sequence(calls, frames)
    a_frame = len(calls) // frames if frames else 1
    try:
        loop = _differentiated([cell, *others], module, x, seen, a_frame)
    except RhnError:
        raise
    except USERS_FAULT as error:  # errors of a user's module, or of torch at its operations
        raise UsersCodeError(
            f"{names[0]} cannot be followed through its own loop around {names[1]}: {str(error).split('. ')[0]}; "
            "write the loop with new tensors and operations of torch that have gradients"
        ) from error
    if axis is not None:

        def again(times: int, fewer: int) -> OwnLoop:
            return followed(cell, module, torch.cat([x.narrow(axis, 0, x.shape[axis] - fewer)] * times, axis), others)

        loop._again = again
    return loop


class _Node:
    """Tensors in the graph of a run as one array (B, N): a variable of derivatives and a function to differentiate.

    If one of them is computed from another, such as an LSTM's normed h from its c, derivatives by each hold the others fixed.
    """

    def __init__(self, parts: list[tuple[Tensor, Callable[[Tensor, int], Tensor]]]):
        """parts: tensors, each with its function of `by_rows`."""
        self.edges = [get_gradient_edge(part) if part.requires_grad else None for part, _ in parts]
        self._shapes, self._flat = [part.shape for part, _ in parts], [flat for _, flat in parts]
        self._parts = [torch.cat([flat(part, 0)], -1) for part, flat in parts]  # copies: a module may write into them
        self._join()

    def _join(self) -> None:
        self.y = torch.cat(self._parts, -1)
        self.value = self.y.detach()

    @classmethod
    def joint(cls, nodes: list["_Node"]) -> "_Node":
        """Join several nodes."""
        joint = copy.copy(nodes[0])
        for name in ("edges", "_shapes", "_flat", "_parts"):
            setattr(joint, name, [each for node in nodes for each in getattr(node, name)])
        joint._join()
        return joint

    @functools.cached_property
    def twice(self) -> bool:
        """True if two of the tensors are the same one, so that their derivatives cannot be separated."""
        return len({(edge.node, edge.output_nr) for edge in self.edges if edge}) < sum(map(bool, self.edges))

    def jacobian(self, of: "_Node") -> Tensor:
        """d self / d of, (B, N, M), of all sequences at once: they are independent."""
        B, N = self.value.shape
        w = torch.eye(N, dtype=self.value.dtype, device=self.value.device).unsqueeze(1).expand(N, B, N)
        try:
            (pulled,) = self.pull(w, [of])
        except RuntimeError:  # an operation that cannot be batched
            pulled = torch.stack([self.pull(row, [of])[0] for row in w])
        return pulled.movedim(0, 1)

    def pull(self, w: Tensor, of: list["_Node"]) -> list[Tensor]:
        """w^T d self / d each of these nodes: (..., B, M) for w (..., B, N), of which a leading dimension is a batch."""
        edges = [edge for node in of for edge in node.edges if edge is not None]
        found = iter(_gradients(self.y, edges, w))
        return [
            torch.cat(node._apart([None if edge is None else next(found) for edge in node.edges], w), -1) for node in of
        ]

    def reaches(self, before: "_Node") -> bool:
        """True if this node depends on that one in the graph."""
        edges = [edge for edge in before.edges if edge is not None]
        return any(g is not None for g in _gradients(self.y, edges, torch.ones_like(self.value)))

    @functools.cached_property
    def _within(self) -> list[tuple[int, list[int]]]:
        """Pairs (a part, the parts that it is computed from), the latest first."""
        known = [k for k, edge in enumerate(self.edges) if edge is not None]
        made = {
            k: -1 if self.edges[k].node.name().endswith("AccumulateGrad") else self.edges[k].node._sequence_nr()
            for k in known
        }
        found = []
        for k in sorted(known, key=made.get, reverse=True):
            others = [j for j in known if j != k and made[j] < made[k]]
            gradients = _gradients(self._parts[k], [self.edges[j] for j in others], torch.ones_like(self._parts[k]))
            found.append((k, [j for j, g in zip(others, gradients, strict=True) if g is not None]))
        return [(k, others) for k, others in found if others]

    def _apart(self, gradients: list[Tensor | None], w: Tensor) -> list[Tensor]:
        """Gradients by each part (..., B, n) with the others held fixed, from total gradients."""
        lead = w.shape[:-2]
        found = [
            flat(self.value.new_zeros(*lead, *shape) if g is None else g, len(lead))
            for g, shape, flat in zip(gradients, self._shapes, self._flat, strict=True)
        ]
        for k, others in self._within if len(found) > 1 else ():
            through = _gradients(self._parts[k], [self.edges[j] for j in others], found[k])
            for j, g in zip(others, through, strict=True):
                found[j] = found[j] - self._flat[j](g, len(lead))
        return found


def _gradients(y: Tensor, edges: list, w: Tensor) -> tuple[Tensor | None, ...]:
    """w^T dy / d each edge, None where no path leads there; a leading dimension of w (..., B, N) is a batch."""
    if not edges or not y.requires_grad:
        return (None,) * len(edges)
    return torch.autograd.grad(y, edges, w, retain_graph=True, allow_unused=True, is_grads_batched=w.dim() > y.dim())


class _WithGradients(TorchFunctionMode):
    """Make new tensors of a module part of the graph, so that operations on a first state of zeros are differentiated too."""

    def __init__(self):
        super().__init__()
        self._results: dict[tuple, Tensor] = {}  # by their edge in the graph
        self._last = -1  # number of the last state's node

    def __torch_function__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        if not isinstance(found, Tensor) or not found.is_floating_point() or not torch.is_grad_enabled():
            return found
        if function in NEW_TENSORS and not found.requires_grad:
            found = found.requires_grad_().clone()  # no leaf: a module may write into it
        if found.grad_fn is not None:
            self._results[found.grad_fn, found.output_nr] = found
        return found

    def source_of(self, state: Tensor) -> Tensor | None:
        """The nearest tensor of the same shape through which the state depends on everything before: h, if the state is norm(h).

        Edges of the graph, each on another path from the state, are replaced by those that lead to them, the latest first, until one is
        left: all paths pass through its tensor. Only tensors made since the last state are candidates.
        """
        paths, before = {(state.grad_fn, state.output_nr)}, self._last
        if state.grad_fn is None:
            return None
        self._last = state.grad_fn._sequence_nr()
        while paths:
            latest = max(paths, key=lambda edge: edge[0]._sequence_nr())
            if latest[0]._sequence_nr() <= before:
                return None
            paths.remove(latest)
            paths |= {edge for edge in latest[0].next_functions if edge[0] and "AccumulateGrad" not in edge[0].name()}
            source = self._results.get(next(iter(paths))) if len(paths) == 1 else None
            if source is not None and source.shape == state.shape and (source.grad_fn, source.output_nr) in paths:
                return source
        return None


@with_gradients()
def _differentiated(
    cells: list[nn.Module], module: nn.Module, x: Tensor, seen: list[list[Call]], a_frame: int
) -> OwnLoop:
    """Run the module with gradients and return the loop for the first candidate of its state that is complete."""
    frames = len(seen[0]) // a_frame
    sharing = [k for k, calls in enumerate(seen) if calls and len(calls) % frames == 0]
    before: dict[int, list[_Node]] = {k: [] for k in sharing}
    read: dict[int, list[tuple]] = {k: [] for k in sharing}
    after: list[_Node] = []
    sources: list[_Node] = []
    graph = _WithGradients()

    def begin(k: int, j: int, call: Call):
        if k not in sharing or j >= len(seen[k]):
            return None
        instead = None
        if not call.state:
            zeros = tree_map(lambda part: torch.zeros_like(part).requires_grad_().clone(), seen[k][0].after)
            call.state, instead = tree_leaves(zeros), (call.x, zeros)
        for part in call.state:
            if part.is_leaf and part.is_floating_point():
                part.requires_grad_()
        rows = rows_of(cells[k], call.state)
        before[k].append(_Node([(part, by_rows(cells[k])) for part in call.state]))
        read[k].append((call.x, lambda part, lead: part.reshape(*part.shape[:lead], rows, -1)))
        starts = k == 0 and j % a_frame == 0 and len(call.state) == 1
        if starts and (source := graph.source_of(call.state[0])) is not None:
            sources.append(_Node([(source, by_rows(cells[0]))]))
        return instead

    def end(k: int, j: int, output) -> None:
        if k == 0 and j < len(seen[0]) and (j + 1) % a_frame == 0:
            parts = tree_leaves(state_in(cells[0], output, seen[0][-1].state))
            after.append(_Node([(part, by_rows(cells[0])) for part in parts]))

    parameters = [p for p in module.parameters() if not p.requires_grad and p.is_floating_point()]
    try:
        for p in parameters:
            p.requires_grad_()
        given = x.detach().clone().requires_grad_().clone() if x.is_floating_point() else x
        without_cudnn = torch.backends.cudnn.flags(enabled=False)  # its cells have no gradient in evaluation mode
        with random_numbers_kept(x), graph, without_cudnn:
            watched_calls(cells, module, given, begin, end)
    finally:
        for p in parameters:
            p.requires_grad_(False)
    _check_same(module, cells[0], seen[0], before[0])
    names = type(module).__name__, type(cells[0]).__name__
    joint = [_Node.joint([before[k][t * len(seen[k]) // frames] for k in sharing]) for t in range(frames)]
    candidates = [before[0][::a_frame], *[joint] * (len(sharing) > 1), [before[0][0], *after]]
    candidates += [sources] * (len(sources) == frames)
    lags = []
    for nodes in candidates:
        first = next((t for t, node in enumerate(nodes) if not node.twice), len(nodes))
        nodes = _one_sequence(nodes[first:], names)
        lag = _open_lag(nodes, names)
        if lag is None:
            steps = range(first, first + len(nodes) - 1)
            inputs = [_Node(_once(read[0][t * a_frame : (t + 1) * a_frame])) for t in steps]
            return OwnLoop(cells[0], nodes, inputs, _description(len(nodes) - 1, first, frames, a_frame, names[1]))
        lags.append(lag)
    raise InvalidInputError(
        f"{names[0]} has a path around the state of its {names[1]}: the state {counted(lags[0], 'frame')} before acts on it directly; "
        "write the loop as one rhn.cells.Cell with the complete state"
    )


def _description(steps: int, first: int, frames: int, a_frame: int, cell: str) -> str:
    """Description of a loop in figures; first: frames left out at its beginning."""
    calls = f", {a_frame} calls of {cell} each" if a_frame > 1 else ""
    cut = f" of {frames}" if frames > steps + 1 else ""
    why = f" ({counted(first, 'frame')} left out at the start: two parts of the state are one tensor)" if first else ""
    return f"own loop: {counted(steps, 'step')} between {counted(steps + 1, 'frame')}{cut}{calls}{why}"


def _one_sequence(nodes: list[_Node], names: tuple[str, str]) -> list[_Node]:
    """The states up to the next sequence. Raises InvalidInputError if a state does not depend on the one before."""
    if len(nodes) < 2 or any(node.twice for node in nodes):
        raise InvalidInputError(f"{names[0]} passes its {names[1]} one tensor as two parts of its state: pass two")
    for t in range(1, len(nodes)):
        if not nodes[t].reaches(nodes[t - 1]):
            if t > 1 and torch.equal(nodes[t].value, nodes[0].value):
                return nodes[:t]
            raise InvalidInputError(
                f"{names[0]}: the state of its {names[1]} at frame {t} is cut off from the one before: a detach(), no_grad() or "
                "conversion in the loop; leave it out for the analysis"
            )
    return nodes


def _open_lag(nodes: list[_Node], names: tuple[str, str]) -> int | None:
    """None if every path of gradients passes through all states; else the least lag of a path around one, from the last state.

    Raises InvalidInputError if sequences act on one another.
    """
    last, earlier = nodes[-1], nodes[:-1]
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(last.value.shape, generator=generator, dtype=torch.float64, device="cpu").to(last.value)
    alone = w.clone()
    alone[1:] = 0
    if len(w) > 1 and any(after.pull(alone, [node])[0][1:].any() for node, after in itertools.pairwise(nodes)):
        raise InvalidInputError(
            f"{names[0]}: the rows of the batch act on one another in its loop: give one sequence at a time"
        )
    pulled = [*last.pull(w, earlier), w]
    close = torch.finfo(w.dtype).eps ** 0.5
    for t in reversed(range(len(earlier))):
        (through,) = nodes[t + 1].pull(pulled[t + 1], [nodes[t]])
        if (through - pulled[t]).norm() > close * pulled[t].norm() + 1e-4 * close * pulled[t + 1].norm():
            return len(earlier) - t
    return None


def _check_same(module: nn.Module, cell: nn.Module, calls: list[Call], nodes: list[_Node]) -> None:
    """Raise InvalidInputError if the run with gradients, which starts from zeros if no state is given, has other states."""
    for k, (call, node) in enumerate(zip(calls[1:], nodes[1:], strict=False)):
        known = _Node([(part, by_rows(cell)) for part in call.before]).value
        if not torch.isfinite(known).all():
            raise NotFiniteError(
                f"{type(module).__name__}: a state of its {type(cell).__name__} is NaN or infinite: use smaller weights"
            )
        if k < COMPARED and not torch.allclose(known, node.value, rtol=1e-3, atol=1e-5):
            raise InvalidInputError(
                f"{type(module).__name__} has other states when its {type(cell).__name__} starts from a state of zeros, or "
                "when it runs again: pass a first state, and draw no random numbers in evaluation mode"
            )


def _once(read: list[tuple]) -> list[tuple]:
    """The inputs of the calls of a frame, each tensor once."""
    return [pair for k, pair in enumerate(read) if all(pair[0] is not other for other, _ in read[:k])]
