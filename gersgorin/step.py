"""`as_step`: any network as one function of rows: x (B, m), s (B, N) -> s' (B, N), rows
independent.

    a cell of rhn.cells           its `step`, and its derivatives in closed form
    torch.nn's RNN, LSTM, GRU     the same cells of rhn.cells, with a copy of the weights
    a function f(x, s)            for one row; many rows by vmap, or one by one
    a module with step(x, s)      the same
    a module (x, state)           rows are its batch; a layer, which has the attribute batch_first,
                                  reads sequences of one step, any other module reads (B, m)

A step returns the next state, or (output, next state). Modules are copied and run in float64,
functions in the precision of their state. s is a state as one vector, see `gersgorin.packing`. The
layers of torch.nn stand one after the other, each with h and c.

Legend: B rows, m inputs, N entries of a state, L layers, n units.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap

from gersgorin import checks
from gersgorin.autodiff import SLOW
from gersgorin.double_precision import copied, in_double, in_module
from gersgorin.first_states import (
    declared_state,
    has_rows,
    starting_state,
    state_known,
    zeros_of_size,
)
from gersgorin.kinds import batch_first_of_step, has_step
from gersgorin.packing import Packing
from rhn.cells import Cell, from_torch, name_of_cell
from rhn.errors import InvalidInputError
from rhn.utils.progress import Advance
from rhn.utils.torch_private import tree_flatten, tree_leaves, tree_map
from rhn.utils.validation import is_whole_number

Rows = Callable[[Tensor, Tensor], Tensor]
AT_ONCE = 1 << 20  # numbers of states that a fused path computes at once: it holds some 20 times
ONE_ARGUMENT = "one tensor, or layer= for a module of several arguments"
OF_MODULES = ("jacobian", "input_jacobian", "layer_jacobians", "norm_bound")
"""The methods beside step(x, s) of a user's module that are used, see docs/guides/inputs.md."""


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Step:
    """A recurrence s[t+1] = f(x[t], s[t]) on rows of vectors.

    >>> step = as_step(lambda x, s: s / 2 + x, torch.ones(3, 1), torch.zeros(1))[0]
    >>> step.rows(torch.ones(2, 1), torch.tensor([[0.0], [4.0]])).flatten().tolist()
    [1.0, 3.0]
    """

    name: str
    rows: Rows
    """x (B, m) or ids (B,), s (B, N) -> s' (B, N)."""
    output: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    """x (1, m), s (1, N) -> (output (k,), s' (1, N)); see `Packing.output_of`."""
    first: Tensor
    """The state before the first step, (N,)."""
    cell: Any = None
    """The object whose methods `jacobian`, `gates`, ... are used; None if it has none."""
    module: nn.Module | None = None
    """The copy of a module without a `cell`."""
    unpack: Callable[[Tensor], Any] | None = None
    """s (N,) -> the state of one row in the user's shapes."""
    title: str = ""
    """The name, and of a cell its depth and units."""

    def own(self, name: str) -> Callable | None:
        """The method of a cell of rhn.cells with this name; of another module with step(x, s) only
        one of `OF_MODULES`. None if it has none.

        >>> as_step(torch.nn.RNN(1, 2), torch.zeros(3, 1))[0].own("gates") is None
        False
        """
        promised = name in OF_MODULES and has_step(self.cell)
        if not isinstance(self.cell, Cell) and not promised:
            return None
        found = getattr(self.cell, name, None)
        return found if callable(found) and not isinstance(found, nn.Module) else None

    def states(self, x: Tensor, s0: Tensor | None = None, advance: Advance | None = None) -> Tensor:
        """Compute the states (T + 1, B, N) along x (T, B, m) or ids (T, B), the first one first: by
        the fused path of a cell of rhn.cells, else step by step. Gradients flow.

        s0: the first states (B, N); None: `first`.
        advance: called with the numbers of steps done and in all.

        Raises InvalidInputError.

        >>> step = as_step(lambda x, s: s / 2 + x, torch.ones(3, 1), torch.zeros(1))[0]
        >>> step.states(torch.ones(3, 1, 1)).flatten().tolist()
        [0.0, 1.0, 1.5, 1.75]
        """
        s0 = self.first.repeat(x.shape[1], 1) if s0 is None else s0
        fused = self._fused if len(x) > 1 else None  # for one step it only costs time
        parts = self._single_states(x, s0) if fused is None else self._many_states(fused, x, s0)
        found, done = [s0[None]], 0
        for part in parts:
            found.append(part)
            done += len(part)
            if advance is not None:
                advance(done, len(x))
        return torch.cat(found)

    def _single_states(self, x: Tensor, s: Tensor) -> Iterator[Tensor]:
        """Yield the states after s, (1, B, N) each."""
        for t, x_t in enumerate(x):
            with checks.users_code(f"{self.name} fails at step {t}"):
                s = self.rows(x_t, s)
            yield s[None]

    @property
    def _fused(self) -> Callable | None:
        """The method `states` of a cell that has one of its own."""
        own = self.own("states")
        is_loop = getattr(own, "__func__", own) is Cell.states
        return None if is_loop else own

    def _many_states(self, fused: Callable, x: Tensor, s: Tensor) -> Iterator[Tensor]:
        """Yield the states after s of many steps at once, (steps, B, N)."""
        for part in x.split(max(1, AT_ONCE // max(1, s.numel()))):
            with checks.users_code(f"{self.name} fails at {len(part)} steps"):
                found = fused(part, s)
            yield found
            s = found[-1]

    @property
    def depth(self) -> int:
        """The number of layers of a cell, or of a stack; the attribute `depth` of another module
        with `layer_jacobians`; 1 if it is unknown.
        """
        if isinstance(self.cell, Cell):
            return max(self.cell.stacked, self.cell.depth)
        depth = getattr(self.cell, "depth", 1) if self.own("layer_jacobians") else 1
        return depth if is_whole_number(depth) else 1


def as_step(
    network: Any,
    x: Any,
    s0: Any = None,
    *,
    state_size: checks.Sizes | None = None,
    batch_first: bool | None = None,
) -> tuple[Step, Tensor]:
    """Convert a network to a `Step`. Returns (the step, x as it reads it).

    network: a cell, a module or a function, as in the table above. x: numbers (T, m), or ids (T,),
    with an axis of length 1 for the batch if `batch_first` is known. s0, state_size: the first
    state in the shapes of the network, or its size; None: that of the network. batch_first: the
    layout of a module; None: its own attribute. Raises InvalidInputError.

    >>> step, x = as_step(torch.nn.LSTM(3, 4, 2), torch.zeros(5, 3))
    >>> step.name, step.depth, step.first.shape, x.dtype
    ('LSTM', 2, torch.Size([16]), torch.float64)
    """
    is_one = not isinstance(x, tuple | dict)
    checks.require(is_one, "x of a step", checks.kind(x), ONE_ARGUMENT)
    batch_first = batch_first_of_step(network) if batch_first is None else batch_first
    x, s0 = checks.sequence(x, batch_first), checks.first_state(s0, state_size)
    if isinstance(network, nn.Module):
        one_direction(network)
        network = copied(network)
        like = next((p for p in network.parameters()), x)
        x = x.to(like.device) if x.dim() == 1 else x.to(like.device, torch.float64)
        if state_size is not None:
            s0 = tree_map(lambda t: t[None], zeros_of_size(network, state_size))
        elif s0 is not None:
            s0 = in_double(s0, like.device)
        step = _of_module(network, x[:1], s0, batch_first)
    else:
        state_known(name_of(network), s0 is not None)
        step = step_of_function(network, s0)
        x = x if x.dim() == 1 else x.to(step.first.dtype)
    return step, x


def layers_as_steps(layers: Iterable[Any], s0: Any) -> tuple[Callable, Tensor, Any]:
    """Make a step of a stack of layers: depth takes the place of time. Returns the arguments (f, x,
    s0) of `open_run`: f(k, s) applies layer k to s, and x (L,) holds the numbers 0 to L - 1.

    layers: L modules or functions s -> s' that keep the shape of s. Modules are copied and run in
    float64 and evaluation mode; functions read float64. s0: what the first layer reads, on the
    device of the layers; it is converted to float64. Raises InvalidInputError.

    >>> from gersgorin import open_run
    >>> twice, plus = (lambda s: 2 * s), (lambda s: s + 1)
    >>> run = open_run(*layers_as_steps([twice, plus, twice], torch.ones(1)))
    >>> run.states.ravel().tolist(), run.jacobians().ravel().tolist()
    ([1.0, 2.0, 3.0, 6.0], [2.0, 1.0, 2.0])
    """
    parts = [
        in_module(copied(layer)) if isinstance(layer, nn.Module) else layer
        for layer in checks.layers_of_stack(layers)
    ]

    def stack(k: Tensor, s: Any) -> Any:
        return parts[int(k)](s)

    s0 = checks.first_state(s0)
    checks.require(s0 is not None, "s0", s0, "what the first layer reads")
    s0 = in_double(s0, tree_leaves(s0)[0].device)
    return stack, torch.arange(len(parts), device="cpu"), s0


def one_direction(module: nn.Module) -> None:
    """Refuse a module that reads a sequence in two directions."""
    both = any(getattr(part, "bidirectional", False) for part in module.modules())
    wanted = "False, for a step from each state to the next"
    checks.require(not both, "bidirectional", both, wanted)


def name_of(network: Any) -> str:
    """The name of a network in titles and messages."""
    if isinstance(network, Cell):
        return name_of_cell(network)
    name = getattr(network, "__name__", type(network).__name__)
    return "f(x, s)" if name == "<lambda>" else name


def _of_module(module: nn.Module, x: Tensor, s0: Any, batch_first: bool | None) -> Step:
    """The step of a copy of a module, at x (1, m) or ids (1,)."""
    name = name_of(module)
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        with suppress(InvalidInputError):  # a projection, or a forward of the user's
            module = from_torch(module).requires_grad_(False)
    if isinstance(module, Cell):
        return _of_cell(module, name, x, s0)
    if has_step(module):
        return _of_vectors(module, name, x, s0)
    s0 = starting_state(module, name, x, batch_first) if s0 is None else s0
    if batch_first is None and not has_rows(tree_leaves(s0)):
        return step_of_function(in_module(module), s0, name)
    return _of_batches(module, name, s0, batch_first)


def _of_cell(cell: Cell, name: str, x: Tensor, s0: Any) -> Step:
    first = x.new_zeros(cell.state_size, dtype=torch.float64)
    if s0 is not None:
        parts = entries(name, tree_leaves(s0), cell.state_size, cell.stacked)
        first = torch.cat([part.reshape(cell.stacked, -1) for part in parts], 1).flatten()

    def unpack(s: Tensor) -> Any:
        if not cell.of_torch:
            return s
        parts = s.reshape(cell.stacked, -1, cell.hidden_size).unbind(1)
        one = [part if cell.stacked > 1 else part[0] for part in parts]
        return tuple(one) if len(one) > 1 else one[0]

    return step_of_cell(cell, name, first, unpack)


def entries(name: str, parts: list[Tensor], count: int, layers: int) -> list[Tensor]:
    """The tensors of a first state with the number of entries that a cell has."""
    total = sum(t.numel() for t in parts)
    good = total == count and not any(t.numel() % layers for t in parts)
    checks.require(good, "s0", f"{total} numbers", f"{count} for {name}")
    return parts


def step_of_cell(
    cell: Cell, name: str, first: Tensor, unpack: Callable[[Tensor], Any] | None = None
) -> Step:
    """The step of a cell itself, which is not copied, from the state `first` (N,)."""

    def output(x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        after = cell.step(x, s)
        return cell.outputs_of(after)[0], after

    title = f"{name}, depth {max(cell.stacked, cell.depth)}, {cell.hidden_size} units"
    return Step(name=name, rows=cell.step, first=first, cell=cell, unpack=unpack, output=output,
                title=title)  # fmt: skip


def _of_vectors(module: Any, name: str, x: Tensor, s0: Any) -> Step:
    """A module of the user's with step(x, s) for vectors x (m,), s (N,)."""
    if s0 is None:
        s0 = declared_state(module, x)
        state_known(name, s0 is not None)
    s0 = tree_map(lambda t: t.flatten(), s0)
    return step_of_function(in_module(module.step), s0, name, module)


def step_of_function(f: Callable, s0: Any, name: str = "", cell: Any = None) -> Step:
    """A step of one row. If all tensors of its state are (1, ...), it reads x as (1, m)."""
    parts, tree = tree_flatten(s0)
    packing = Packing(name or name_of(f), parts, tree)
    row = has_rows(parts)

    def returned(x: Tensor, s: Tensor) -> Any:
        return f(x[None] if row else x, packing.unpack(s))

    def one(x: Tensor, s: Tensor) -> Tensor:
        return packing.next_of(returned(x, s), s)

    def output(x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        found = returned(x[0].clone(), s[0].clone())
        return packing.output_of(found), packing.next_of(found, s[0])[None]

    def rows(x: Tensor, s: Tensor) -> Tensor:
        if len(s) > 1:
            try:
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", SLOW)
                    return vmap(one)(x.clone(), s.clone())
            except Exception:  # an operation that has no rule for many rows
                pass
        return torch.stack([one(x_t.clone(), s_t.clone()) for x_t, s_t in zip(x, s, strict=True)])

    first, name = packing.pack(s0), packing.name
    return Step(name=name, rows=rows, first=first, cell=cell, unpack=packing.unpack, output=output,
                title=name)  # fmt: skip


def _of_batches(module: nn.Module, name: str, s0: Any, batch_first: bool | None) -> Step:
    """A module that reads a batch of rows, as module(x, state)."""

    def read(x: Tensor) -> Tensor:
        if batch_first is None:
            return x
        return x.unsqueeze(1 if batch_first else 0)

    parts, tree = tree_flatten(s0)
    has_layers = [batch_first is not None and t.dim() > 2 for t in parts]  # as (L, B, n)
    axes = [1 if before_rows else 0 for before_rows in has_layers]
    good = all(t.dim() > 1 and t.shape[k] == 1 for t, k in zip(parts, axes, strict=True))
    shapes = " and ".join(str(tuple(t.shape)) for t in parts)
    checks.require(good, "s0", shapes, f"the state of a batch of one for {name}, such as (1, n)")
    packing = Packing(name, parts, tree, axes)

    runs = in_module(module)

    def returned(x: Tensor, s: Tensor) -> Any:
        return runs(read(x).clone(), packing.unpack(s.clone()))

    def rows(x: Tensor, s: Tensor) -> Tensor:
        return packing.next_of(returned(x, s), s)

    def output(x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        found = returned(x, s)
        return packing.output_of(found), packing.next_of(found, s)

    first = packing.pack(s0)[0]
    return Step(name=name, rows=rows, output=output, first=first, module=module, title=name,
                unpack=lambda s: packing.unpack(s[None]))  # fmt: skip
