"""The loop of a module that calls its recurrent cell itself: the states that go into the cell, and the derivatives from frame to frame.

    h = norm(cell(e, h))          something is done to the state between two calls
    h = cell(cat(e, out(h)), h)   what came out is read again
    h = cell(e, cell(e, h))       several calls a frame

The Jacobian of the bare cell is not that of such a loop. Its state is what goes into the first call of a frame, and one step leads to
the first call of the next frame:

    A[t, i, j] = d s[t+1]_i / d s[t]_j      by autograd, through everything that the module does in between

T frames give T - 1 steps: the state after the last frame never goes into the cell. The states are seen to be all that the loop
carries: d s[T-1] / d s[t], which passes through no other state, must be A[T-2] ... A[t].

Legend: T steps (one less than frames), B sequences, m inputs, N entries of the state.
"""

import copy
import functools
import itertools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from gersgorin.calls import (
    Call,
    by_rows,
    first_sequence,
    frames_of,
    passes_its_state_on,
    random_numbers_kept,
    reads_what_it_gave,
    rows_of,
    state_in,
    watched_calls,
)
from gersgorin.grad_mode import with_gradients
from rhn.cells import Gates
from rhn.errors import USERS_FAULT, InvalidInputError, RhnError, UsersCodeError
from rhn.wording import counted

COMPARED = 8  # calls: a chaotic loop may go apart by rounding after more
NEW_TENSORS = {
    getattr(owner, name)
    for owner, names in (
        (torch, ("zeros", "ones", "full", "rand", "randn", "tensor", "zeros_like", "ones_like", "full_like")),
        (torch, ("rand_like", "randn_like")),
        (Tensor, ("new_zeros", "new_ones", "new_full", "new_tensor")),
    )
    for name in names
}


class OwnLoop:
    """One run of a module's own loop; analyses read states and Jacobians from it, as from the run of a cell.

    It knows the loop only along this run: there is no step that could be taken from another state.
    """

    no_step = "follows a module through its own loop, which takes no step from another state: write the loop as a rhn.cells.Cell"
    depth = 1

    def __init__(self, cell: nn.Module, nodes: list["_Node"], inputs: list["_Node"], about: str):
        self.cell, self.about = cell, about
        self.states = torch.stack([node.value for node in nodes])
        """(T + 1, B, N); of one sequence (T + 1, N)."""
        self.inputs = torch.stack([node.value for node in inputs[: len(nodes) - 1]])
        """What the cell reads, (T, B, m), of one sequence (T, m); of several calls a frame one after the other."""
        self._nodes, self._inputs = nodes, inputs
        self._places = torch.arange(len(self) * self.states.shape[1]).reshape(len(self), -1)
        self._again: Callable[[int], OwnLoop] | None = None

    def __len__(self) -> int:
        return len(self.states) - 1

    @property
    def state_size(self) -> int:
        """N."""
        return self.states.shape[-1]

    @property
    def hidden_size(self) -> int:
        """Units of the cell."""
        return getattr(self.cell, "hidden_size", self.state_size)

    @property
    def gate_name(self) -> str:
        """What the cell's literature calls its gate."""
        return getattr(self.cell, "gate_name", "transform gate")

    def sequence(self, row: int) -> "OwnLoop":
        """One of the B sequences alone."""
        one = copy.copy(self)
        one.states, one.inputs, one._places = self.states[:, row], self.inputs[:, row], self._places[:, row]
        again = self._again
        one._again = again and (lambda times: again(times).sequence(row))
        return one

    def until(self, steps: int) -> "OwnLoop":
        """The first steps alone."""
        some = copy.copy(self)
        some.states, some.inputs, some._places = self.states[: steps + 1], self.inputs[:steps], self._places[:steps]
        return some

    def repeated(self, times: int) -> "OwnLoop":
        """The loop when the module reads the sequence so often, one after the other."""
        if times == 1:
            return self
        if self._again is None:
            raise InvalidInputError("the module cannot read its sequence several times: its frames are not told apart")
        return self._again(times)

    def jacobians(self, at=slice(None)) -> Tensor:
        """A (..., N, N) at an index into the steps (T,), or (T, B)."""
        return self._derivatives(at, lambda t: self._nodes[t])

    def input_jacobians(self, at=slice(None)) -> Tensor:
        """d s[t+1] / d x[t] (..., N, m) likewise, of what the cell reads."""
        return self._derivatives(at, lambda t: self._inputs[t])

    def state_gains(self, at=slice(None)) -> Tensor:
        """||A||_2 (..., 1): the loop is one layer."""
        return torch.linalg.matrix_norm(self.jacobians(at), 2).unsqueeze(-1)

    def gates(self, at=slice(None)) -> Gates:
        """None are told: those of the cell are not all that is done to the state."""
        return Gates()

    def norm_bound(self) -> Tensor:
        """NaN: a cell's bound does not hold for the loop around it."""
        return torch.tensor(torch.nan)

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
    """The own loop around a cell when its module reads x; None where nothing happens between its calls that the cell does not do.

    Args:
        cell: a part of the module, called with an input and a state.
        module: in evaluation mode; it is run a few times.
        x: what the module takes, with finite numbers.
        others: further recurrent cells in the module, which may share a loop with this one.

    Raises:
        InvalidInputError: the loop cannot be differentiated, carries more from frame to frame than states of cells, mixes sequences, or
            has no second frame.
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
        raise InvalidInputError(f"{names[0]} gives its {names[1]} something else than tensors in a loop of its own")
    frames, axis = frames_of(cell, module, calls, x)
    if frames in (0, len(calls)) and passes_its_state_on(calls) and not reads_what_it_gave(cell, module, x, calls):
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
    except USERS_FAULT as error:  # whatever a user's module, or torch on its operations, raises
        raise UsersCodeError(
            f"{names[0]} cannot be followed through its own loop around {names[1]}: {str(error).split('. ')[0]}; "
            "write the loop with new tensors and operations of torch that have gradients"
        ) from error
    if axis is not None:
        loop._again = lambda times: followed(cell, module, torch.cat([x] * times, axis), others)
    return loop


class _Node:
    """Tensors in the graph of a run, as one array (B, N) that can be differentiated, and differentiated by.

    Where one of them follows from another, as an LSTM's normed h from its c, derivatives by each hold the others fixed.
    """

    def __init__(self, parts: list[tuple[Tensor, Callable[[Tensor, int], Tensor]]]):
        """parts: each with what makes (..., B, n) of it, behind so many leading dimensions."""
        self.edges = [get_gradient_edge(part) if part.requires_grad else None for part, _ in parts]
        self._shapes, self._flat = [part.shape for part, _ in parts], [flat for _, flat in parts]
        self._parts = [
            torch.cat([flat(part, 0)], -1) for part, flat in parts
        ]  # as they are now: a module may write into them
        self._join()

    def _join(self) -> None:
        self.y = torch.cat(self._parts, -1)
        self.value = self.y.detach()

    @classmethod
    def joint(cls, nodes: list["_Node"]) -> "_Node":
        """Several nodes as one."""
        joint = copy.copy(nodes[0])
        for name in ("edges", "_shapes", "_flat", "_parts"):
            setattr(joint, name, [each for node in nodes for each in getattr(node, name)])
        joint._join()
        return joint

    @functools.cached_property
    def twice(self) -> bool:
        """Whether two of the tensors are one, so that no derivative tells them apart."""
        return len({(edge.node, edge.output_nr) for edge in self.edges if edge}) < sum(map(bool, self.edges))

    def jacobian(self, of: "_Node") -> Tensor:
        """d self / d of, (B, N, M): all sequences at once, because none acts on another."""
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
        """Whether a gradient goes from here back to that node."""
        edges = [edge for edge in before.edges if edge is not None]
        return any(g is not None for g in _gradients(self.y, edges, torch.ones_like(self.value)))

    @functools.cached_property
    def _within(self) -> list[tuple[int, list[int]]]:
        """(A part, the parts that it follows from), the latest first."""
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
        """Gradients by each part (..., B, n), with the others held fixed, from those that go through the others too."""
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
    """New tensors of a module are part of the graph: what it does to a first state of zeros before its cell is called counts too."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        if (
            function in NEW_TENSORS
            and found.is_floating_point()
            and not found.requires_grad
            and torch.is_grad_enabled()
        ):
            return found.requires_grad_().clone()  # no leaf: a module may write into it
        return found


@with_gradients()
def _differentiated(
    cells: list[nn.Module], module: nn.Module, x: Tensor, seen: list[list[Call]], a_frame: int
) -> OwnLoop:
    """The run once more, with its graph, from the first candidate for its state that closes."""
    frames = len(seen[0]) // a_frame
    sharing = [k for k, calls in enumerate(seen) if calls and len(calls) % frames == 0]
    before: dict[int, list[_Node]] = {k: [] for k in sharing}
    read: dict[int, list[tuple]] = {k: [] for k in sharing}
    after: list[_Node] = []

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
        without_cudnn = torch.backends.cudnn.flags(enabled=False)  # whose cells have no gradient in evaluation mode
        with random_numbers_kept(x), _WithGradients(), without_cudnn:
            watched_calls(cells, module, given, begin, end)
    finally:
        for p in parameters:
            p.requires_grad_(False)
    _check_same(module, cells[0], seen[0], before[0])
    names = type(module).__name__, type(cells[0]).__name__
    joint = [_Node.joint([before[k][t * len(seen[k]) // frames] for k in sharing]) for t in range(frames)]
    candidates = [before[0][::a_frame], joint, [before[0][0], *after]]
    lags = []
    for nodes in candidates[:: 1 if len(sharing) > 1 else 2]:
        first = next((t for t, node in enumerate(nodes) if not node.twice), len(nodes))
        nodes = _one_sequence(nodes[first:], names)
        lag = _open_lag(nodes, names)
        if lag is None:
            steps = range(first, first + len(nodes) - 1)
            inputs = [_Node(_once(read[0][t * a_frame : (t + 1) * a_frame])) for t in steps]
            return OwnLoop(cells[0], nodes, inputs, _told(len(nodes) - 1, frames, a_frame, names[1]))
        lags.append(lag)
    raise InvalidInputError(
        f"{names[0]} has a path around the state of its {names[1]}: the state {counted(lags[0], 'frame')} before acts on it directly; "
        "write the loop as one rhn.cells.Cell, whose state is all that it carries from frame to frame"
    )


def _told(steps: int, frames: int, a_frame: int, cell: str) -> str:
    """What figures say of a loop."""
    calls = f", {a_frame} calls of {cell} each" if a_frame > 1 else ""
    return f"own loop: {counted(steps, 'step')} between {counted(frames, 'frame')}{calls}"


def _one_sequence(nodes: list[_Node], names: tuple[str, str]) -> list[_Node]:
    """The states up to where the loop begins anew; raises InvalidInputError where one is cut off from the one before."""
    if len(nodes) < 2 or any(node.twice for node in nodes):
        raise InvalidInputError(f"{names[0]} gives its {names[1]} one tensor as two parts of its state: give it two")
    for t in range(1, len(nodes)):
        if not nodes[t].reaches(nodes[t - 1]):
            if t > 1 and torch.equal(nodes[t].value, nodes[0].value):
                return nodes[:t]
            raise InvalidInputError(
                f"{names[0]}: the state of its {names[1]} at frame {t} is cut off from the one before: a detach(), no_grad() or "
                "conversion in the loop; leave it out while the loop is looked at"
            )
    return nodes


def _open_lag(nodes: list[_Node], names: tuple[str, str]) -> int | None:
    """None where all gradients pass through every state; else the least lag of a path around one, counted from the last state.

    Raises InvalidInputError where sequences act on one another.
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
    """Raise InvalidInputError where the run with gradients, from states of zeros where none is given, went another way."""
    for k, (call, node) in enumerate(zip(calls[1:], nodes[1:], strict=False)):
        known = _Node([(part, by_rows(cell)) for part in call.before]).value
        if not torch.isfinite(known).all():
            raise InvalidInputError(
                f"{type(module).__name__}: a state of its {type(cell).__name__} is NaN or infinite: use smaller weights"
            )
        if k < COMPARED and not torch.allclose(known, node.value, rtol=1e-3, atol=1e-5):
            raise InvalidInputError(
                f"{type(module).__name__} runs through other states when its {type(cell).__name__} is given a first state of zeros, or "
                "when it runs again: give a first state, and draw no random numbers in evaluation mode"
            )


def _once(read: list[tuple]) -> list[tuple]:
    """What the calls of a frame read, without what they read again."""
    return [pair for k, pair in enumerate(read) if all(pair[0] is not other for other, _ in read[:k])]
