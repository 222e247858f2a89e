"""Cells as analyses call them: a step s' = f(x, s), its Jacobians and its gates.

Legend: m inputs; N = state_size entries of a state (n for a cell of n units, 2n for an LSTM); L
layers of a step.
"""

import copy
import functools
import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import jacfwd, jacrev, vjp, vmap
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

import rhn.cells
from gersgorin.run.autodiff import Linearized, dense_derivative, plain_attention, pushed
from gersgorin.run.state import (
    State,
    first_state,
    flat_state,
    parts_of,
    real_view,
    state_in,
    takes,
    torch_state,
)
from gersgorin.validate import check_precision, users_code, with_gradients
from rhn.cells import Cell, Gates
from rhn.cells.registry import TOOLKIT_CELLS
from rhn.errors import InvalidInputError, RhnError
from rhn.utils.old import counted
from rhn.utils.scale import scaled
from rhn.utils.validation import in_short, is_whole_number, kind_of

Step = Callable[[Tensor, Any], Any]
GatesOf = Callable[[Tensor, Any], Any]
"""A function gates(x, s) that returns a tensor, or tensors by name."""
OWN_METHODS = (
    "jacobian",
    "input_jacobian",
    "scaled_jacobian",
    "scaled_input_jacobian",
    "scaled_norm_bound",
    "layer_jacobians",
    "gates",
    "norm_bound",
    "states",
    "initial_state",
    "outputs_of",
    "output_and_state",
)
MOVED = 1e-3  # share of a state by which it moves to see whether a step depends on it
METHODS: dict[str, Callable] = {"jacrev": jacrev, "jacfwd": jacfwd}
# entries of a state up to which Jacobians by autograd are cheaper than products step by step
SMALL = 100
ROUNDED = 1e-6  # how far a gate of 0 or 1 may be outside by rounding


def in_their_precision(gates: GatesOf, given: tuple) -> Any:
    """Call gates(x, s) in the precision of the run, or else in torch's default precision. The
    default precision is needed if the function reads the weights of the user's module, since the
    run measures a float64 copy.
    """
    try:
        return gates(*given)
    except RuntimeError as error:
        if "dtype" not in str(error):
            raise
    single = tree_map(lambda part: part.to(torch.get_default_dtype()), given)
    return gates(*single)


def cell_name(cell) -> str:
    """Name of a cell, a module or a function in titles and messages."""
    if isinstance(cell, StepCell):
        return cell.name
    name = (
        cell._get_name()
        if isinstance(cell, nn.Module)
        else getattr(cell, "__name__", type(cell).__name__)
    )
    return f"{type(cell.__self__).__name__}.{name}" if inspect.ismethod(cell) else name


def own_title(cell) -> str:
    """Title of a user's cell, module or step. The names of the toolkit's cells are only for them.

    >>> def lstm(x, s):
    ...     return s / 2
    >>> own_title(lstm), own_title(lambda x, s: s / 2), own_title(torch.nn.GRU(3, 4))
    ('the function lstm', 'f(x, s)', 'GRU')
    """
    name = cell_name(cell).replace("<lambda>", "f(x, s)")
    kind = cell if inspect.isroutine(cell) else type(cell)
    return kind_of(kind) if name in TOOLKIT_CELLS else name


def size_to_give(cell) -> str:
    """Words for the remedy for a step without a state_size, such as "give state_size=50". The
    number is the hidden_size of the cell if it has one.
    """
    size = getattr(cell, "hidden_size", None)
    known = f"{size} (its hidden_size)" if isinstance(size, int) else ""
    return f"give state_size={known}, the number of entries of its one state tensor"


class StepCell:
    """A cell as analyses call it: a cell of `rhn`, of torch.nn, a user's module with `step`, or a
    function f(x, s). `as_cell` creates it.
    """

    def __init__(self, module: nn.Module | Step):
        self.module, self.name = module, cell_name(module)
        self._step: Step = getattr(module, "step", module)
        depth = getattr(module, "depth", 1)  # of a user's module possibly something else
        self.depth = depth if isinstance(depth, int) else 1
        self.gate_name: str = getattr(module, "gate_name", "transform gate")
        self.carry_name: str = getattr(module, "carry_name", "")
        self.gate_names: tuple[str, ...] = ()
        self.input_size: int | None = getattr(module, "input_size", None)
        self.hidden_size: int | None = getattr(module, "hidden_size", None)
        self._state_size = getattr(module, "state_size", None)
        self._own = {
            name: found for name in OWN_METHODS if callable(found := getattr(module, name, None))
        }

    def step(self, x: Tensor, s: Tensor) -> Tensor:
        """The next state. The cell may return only this state, or (output, next state), and may
        overwrite s.
        """
        after = self._step(x, s.clone())
        return after if isinstance(after, Tensor) else self._state_of(after, s)

    __call__ = step  # functions that take a cell take this one too

    def output_and_state(self, x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Return (the output of one step, the next state). The output is what the cell returns
        beside its state, or else its hidden units, or else the state.
        """
        if "output_and_state" in self._own:
            return self._own["output_and_state"](x, s.clone())
        after = self._step(x, s.clone())
        if not isinstance(after, Tensor):
            return after[0], self._state_of(after, s)
        return self._own.get("outputs_of", _same)(after), after

    def _state_of(self, after: Any, s: Tensor) -> Tensor:
        """The state with the shape of s in what a step returns."""
        return (state_in(after, [s]) or [after])[0]

    @property
    def state_size(self) -> int:
        """N, the state_size. Raises InvalidInputError for a cell without a valid state_size."""
        size = self._state_size
        if is_whole_number(size):
            return int(size)
        said = (
            "has no state_size, and no first state is given"
            if size is None
            else f"has the state_size {size!r:.40}"
        )
        raise InvalidInputError(
            f"{self.name} {said}: {size_to_give(self.module)}; write a step of several tensors "
            "as forward(x, state), or as a function "
            f"f(x, s) with s0{hint_if_no_step(self.module)}"
        )

    @property
    def has_closed_form(self) -> bool:
        """True if the cell computes its own Jacobian, without autograd."""
        return "jacobian" in self._own

    @property
    def has_layers(self) -> bool:
        """True if the Jacobian of each layer is known, because the cell has one layer or a method
        `layer_jacobians`.
        """
        return self.depth == 1 or "layer_jacobians" in self._own

    def probe(self, x: Tensor, s: Tensor) -> None:
        """Check one step from an input (m,) and a state (N,). Raises InvalidInputError unless the
        step returns a new state with the shape of s, and does not compute in half precision.
        """
        check_precision(self.name, x, s)
        sizes = self.input_size, self._state_size
        if (
            isinstance(self.module, nn.Module)
            and None not in sizes
            and (x.shape[-1], s.shape[-1]) != sizes
        ):
            expected = f"{self.name} expects {sizes[0]} inputs and a state of {sizes[1]}"
            raise InvalidInputError(f"x ends in {x.shape[-1]} and s in {s.shape[-1]}: {expected}")
        shapes, rows = getattr(self.module, "state_shapes", ""), getattr(self.module, "rows", False)
        said = (
            f"{self.name} takes no step from an input {(1,) * rows + tuple(x.shape)} and a state "
            f"{shapes or tuple(s.shape)}"
        )
        end = f"x has {counted(x.shape[-1], 'column')}"
        if shapes:
            end += ", its state is like s0, or like state_size"
        try:
            with (
                users_code(said, end),
                torch.inference_mode(False),
                torch.no_grad(),
                torch.random.fork_rng(devices=[]),
            ):
                given = x.clone(), s.clone()  # inference tensors count no versions
                before = [v._version for v in given]
                after, again = self.step(*given), self.step(x.clone(), s.clone())
                beside = self._twice_beside(x, s)
        except RhnError as error:
            if not (hint := hint_if_no_step(self.module)):
                raise
            raise InvalidInputError(f"{error}{hint}") from error
        if [v._version for v in given] != before:
            raise InvalidInputError(
                f"{self.name}: step(x, s) changes its input in place: expected a new tensor"
            )
        self._check_next(after, s)
        self._check_again(after, again)
        self._check_again(*beside)

    def _twice_beside(self, x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """The states after the same step from another state, computed twice: dropout does not show
        in a state of zeros.
        """
        other = s + MOVED * (1 + s.abs())
        try:
            return self.step(x.clone(), other.clone()), self.step(x.clone(), other.clone())
        except RhnError:  # a step that checks its own state
            return s, s

    def _check_again(self, after: Tensor, again: Tensor) -> None:
        """Raise InvalidInputError unless the same step has returned the same state twice."""
        if not torch.allclose(after, again, equal_nan=True):
            raise InvalidInputError(
                f"{self.name} returns two different states from the same input and state: it "
                "draws random numbers (.eval() ends "
                "dropout), or keeps its own state, which belongs into the one that it "
                "takes and returns"
            )

    def _check_next(self, after, s: Tensor) -> None:
        """Raise InvalidInputError unless a step from states s returned one tensor of the same
        shape.
        """
        if not isinstance(after, Tensor) or after.shape != s.shape or not after.is_floating_point():
            got = (
                f"{after.dtype} of shape {tuple(after.shape)}"
                if isinstance(after, Tensor)
                else kind_of(after)
            )
            hint = ""
            if isinstance(after, tuple):
                hint = "; give a state of several tensors as a tuple of them"
            raise InvalidInputError(
                f"{self.name} must return one state of {s.shape[-1]} entries, floating-point "
                "as its argument, or (output, state), "
                f"but returns {got}{hint_if_no_step(self.module) or hint}"
            )

    def first_state(self, x: Tensor) -> Tensor:
        """The state before the first input, (B, N) for x (T, B, m): zero, or the cell's own."""
        s0 = x.new_zeros(x.shape[1], self.state_size)
        return s0 + self._own["initial_state"]().to(s0) if "initial_state" in self._own else s0

    def states(self, x: Tensor, s0: Tensor) -> Tensor:
        """The states (T + 1, B, N) along x (T, B, m), s0 first."""
        if "states" in self._own:
            after = self._own["states"](x, s0)
            self._check_next(after, s0.expand(len(x), *s0.shape))
            return torch.cat((s0.unsqueeze(0), after))
        if len(s0) == 1:  # one row needs no vmap
            step, x, rows = self.step, x[:, 0], [s0[0]]
        else:
            step, rows = self._steps, [s0]
        with self.transformed():
            for x_t in x:
                rows.append(step(x_t, rows[-1]))
                self._check_next(rows[-1], rows[0])
            # what a module keeps has changed by now; a first state of 0 may hide a random factor
            for t in (0, len(x) - 1):
                self._check_again(rows[t + 1], step(x[t], rows[t]))
        return torch.stack(rows).reshape(len(rows), *s0.shape)

    def _steps(self, x: Tensor, s: Tensor) -> Tensor:
        """The next states (R, N) for rows x (R, m) and s (R, N); computed one by one if the step
        cannot be batched.
        """
        try:
            # torch.nn's cells, which have no rule for vmap, are taken apart by a reverse mode
            return vmap(lambda x, s: vjp(functools.partial(self.step, x), s)[0])(x, s)
        except RuntimeError:
            return torch.stack([self.step(*row) for row in zip(x, s, strict=True)])

    def jacobian(self, x: Tensor, s: Tensor, **how) -> Tensor:
        """d s' / d s, (..., N, N); how: see `_derivative`."""
        return self._derivative("jacobian", 1, x, s, **how)

    def input_jacobian(self, x: Tensor, s: Tensor, **how) -> Tensor:
        """d s' / d x, (..., N, m); how: see `_derivative`."""
        return self._derivative("input_jacobian", 0, x, s, **how)

    def scaled(self, name: str, A: Tensor, x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Write Jacobians A (T, N, k), which the method `name` computes at rows of x and s, as M
        2^e. Returns (M, integers e).

        e is 0 if the dtype of A represents a Jacobian in full precision, or if the cell has no
        method for scaled Jacobians.
        """
        e, lost = A.new_zeros(len(A), dtype=torch.long), ~holds(A)
        if lost.any() and f"scaled_{name}" in self._own:
            M, e[lost] = scaled(*self._own[f"scaled_{name}"](x[lost], s[lost]))
            A = A.index_put((lost.nonzero()[:, 0],), M)
        return A, e

    def layer_jacobians(self, x: Tensor, s: Tensor, **how) -> Tensor | list[Tensor]:
        """The Jacobians of the L layers, as one tensor (L, ..., N, N). If the cell has shortcuts,
        they are a list of L matrices instead; see the function `layer_jacobians`.
        """
        if self.depth == 1:
            return self.jacobian(x, s, **how).unsqueeze(0)
        if not self.has_layers:
            raise InvalidInputError(
                f"{self.name} has {self.depth} layers without a method for them: define "
                "layer_jacobians(x, s)"
            )
        matrices = self._closed_form("layer_jacobians", x, s)
        return (
            torch.stack(matrices)
            if {J.shape[-2:] for J in matrices} == {(s.shape[-1], s.shape[-1])}
            else matrices
        )

    def maps(self, x: Tensor, s: Tensor) -> list[list[Callable[[Tensor], Tensor]]]:
        """The maps Q -> J_l Q of the layers, first to last, for each row of x (T, m) and s (T, N).
        Applied one after the other, the maps turn Q (N, k) into A Q. A large cell without a closed
        form has a single map, by autograd without the matrix.
        """
        if s.shape[-1] > SMALL and not self.has_closed_form:
            return [[functools.partial(self._pushed, *row)] for row in zip(x, s, strict=True)]
        if "layer_jacobians" in self._own:
            layers = self.layer_jacobians(x, s)
        else:
            layers = [self.jacobian(x, s, method=None if self.has_closed_form else "jacfwd")]
        return [[J.matmul for J in matrices] for matrices in zip(*layers, strict=True)]

    def gates(self, x: Tensor, s: Tensor) -> Gates:
        """Gates of each layer; empty for a cell without gates."""
        return self._own["gates"](x, s) if "gates" in self._own else Gates()

    def with_gates(self, gates: GatesOf) -> "StepCell":
        """The same cell with the user's function gates(x, s); each gate counts as a layer.
        The names of the gates are known after the first call of `gates`.
        """
        if not callable(gates):
            raise InvalidInputError(
                f"gates is {in_short(gates)}: expected a function of x and s that returns a "
                "tensor, or a dictionary of them by name"
            )
        found = copy.copy(self)
        found._own = self._own | {"gates": functools.partial(found._given_gates, gates)}
        found.gate_name, found.carry_name = "gate", ""
        return found

    def _given_gates(self, gates: GatesOf, x: Tensor, s: Tensor) -> Gates:
        """The gates that the user's function returns at rows of x and s; it gets them in the shapes
        of `_arguments`.
        """
        lead, rows = as_rows(x, s)
        found = list[dict[str, Tensor]]()
        for x_t, s_t in zip(*rows, strict=True):
            with users_code("gates(x, s) fails", "it gets x and s as the step"):
                made = in_their_precision(gates, self._arguments(x_t, s_t))
            found.append(made if isinstance(made, dict) else {"": made})
        names = tuple(found[0])
        gates_of_all = [gate for each in found for gate in each.values()]
        if (
            not names
            or any(tuple(each) != names for each in found)
            or not all(isinstance(gate, Tensor) for gate in gates_of_all)
        ):
            raise InvalidInputError(
                "gates(x, s) must return a tensor, or tensors by the same names at each step"
            )
        self.gate_names = names if names != ("",) else ()
        stacked = [torch.stack([each[k].flatten() for each in found]).to(s) for k in names]
        least, most = min(float(g.min()) for g in stacked), max(float(g.max()) for g in stacked)
        if not -ROUNDED <= least <= most <= 1 + ROUNDED:
            raise InvalidInputError(
                f"gates(x, s) returns numbers from {least:.3g} to {most:.3g}: "
                "expected gates between 0 and 1, such as after a sigmoid"
            )
        return Gates(t=tuple(gate.reshape(*lead, -1) for gate in stacked))

    def _arguments(self, x: Tensor, s: Tensor) -> tuple[Tensor, State]:
        """An input (m,) and a state (N,) in the shapes in which the user's step, or the module of
        torch.nn, takes them.
        """
        module, own = self.module, getattr(self.module, "arguments", None)
        if isinstance(module, Cell) and module.of_torch:
            return x, torch_state(s, layers_in(module), module.hidden_size)
        return own(x, s) if callable(own) else (x, s)

    def norm_bound(self, state_bound: float) -> Tensor:
        """A bound on ||A|| at states with entries within +-state_bound, 0-dim; NaN for a cell
        without a bound.
        """
        if "norm_bound" not in self._own:
            return torch.tensor(torch.nan, device="cpu")
        with torch.no_grad():
            bound = self._own["norm_bound"](state_bound)
        return (
            bound.reshape(())
            if isinstance(bound, Tensor)
            else torch.tensor(float(bound), device="cpu")
        )

    def log_norm_bound(self, state_bound: float) -> float:
        """The natural logarithm of `norm_bound`, even if the bound itself over- or underflows."""
        if "scaled_norm_bound" not in self._own:
            return float(self.norm_bound(state_bound).double().log())
        with torch.no_grad():
            bound, exponent = self._own["scaled_norm_bound"](state_bound)
        return float(bound.double().log()) + float(exponent) * math.log(2)

    @contextmanager
    def transformed(self) -> Iterator[None]:
        """Turn errors of operations that torch cannot batch or differentiate into UsersCodeError.
        Use this context only after the plain step has run without an error.
        """
        said = f"{self.name} cannot be differentiated, or run on several sequences at once"
        with (
            users_code(said, "write its step in torch's own operations, such as torch.tanh"),
            plain_attention(),
        ):
            yield

    def _derivative(
        self, name: str, argument: int, x: Tensor, s: Tensor, *, method: str | None = None
    ) -> Tensor:
        """The derivative of s' with respect to an argument (0: x, 1: s), by the closed form `name`
        or by autograd.
        """
        if method == "analytic" or (method is None and name in self._own):
            (A,) = self._closed_form(name, x, s)
        else:
            lead, rows = as_rows(x, s)
            with self.transformed():
                A = self._by_autograd(method, argument, *rows)
            if argument == 1:
                self._check_zero(A, *rows)
            A = A.reshape(*lead, *A.shape[1:])
        shape = s.shape[-1], (x, s)[argument].shape[-1]
        if not isinstance(A, Tensor) or A.shape[-2:] != shape:
            raise InvalidInputError(
                f"{self.name} must return a Jacobian {shape}, as many rows as its state has entries"
            )
        return A

    def _by_autograd(self, method: str | None, argument: int, x: Tensor, s: Tensor) -> Tensor:
        """The derivatives at rows of x and s: all at once, or one by one if the step cannot be
        batched.
        """
        try:
            A = vmap(METHODS[method or "jacrev"](self.step, argnums=argument))(x, s)
            return A.to(s.dtype)  # forward mode widens tangents of a number times a 0-dim tensor
        except RuntimeError:
            if method == "jacrev":
                raise
        steps = [(lambda v, s=s_t: self.step(v, s)) for s_t in s]
        if argument == 1:
            steps = [functools.partial(self.step, x_t) for x_t in x]
        return torch.stack([*map(dense_derivative, steps, (x, s)[argument])])

    def _check_zero(self, A: Tensor, x: Tensor, s: Tensor) -> None:
        """Raise InvalidInputError if autograd does not connect the steps from rows x (R, m), s (R,
        N) with the states: all derivatives A are exactly zero, although the steps depend on the
        states.
        """
        if A.any() or not A.numel():
            return
        with self.transformed(), with_gradients():
            leaf = s[0].detach().clone().requires_grad_()
            after = self.step(x[0].clone(), leaf)
            if after.requires_grad:
                (slope,) = torch.autograd.grad(after.sum(), leaf, allow_unused=True)
                if slope is not None:
                    return
        with torch.no_grad():
            moved = s + MOVED * (1 + s.abs())
            same = torch.equal(self._steps(x, s), self._steps(x, moved))
        if not same:
            raise InvalidInputError(
                f"the next state of {self.name} depends on the state, but has no gradient in it: "
                "leave out .detach(), .data and torch.no_grad() in the step"
            )

    def _closed_form(self, name: str, x: Tensor, s: Tensor) -> list[Tensor]:
        """The matrices (..., rows, columns) that a method of the cell returns."""
        lead, rows = as_rows(x, s)
        made = self._own[name](*rows)
        matrices = [made] if isinstance(made, Tensor) else made
        return [J.reshape(*lead, *J.shape[1:]) if isinstance(J, Tensor) else J for J in matrices]

    def _pushed(self, x: Tensor, s: Tensor, Q: Tensor) -> Tensor:
        """A Q without the Jacobian, by two reverse passes, or by forward mode if the step writes in
        place.
        """
        with self.transformed():
            step = functools.partial(self.step, x.clone())
            try:
                AQ = Linearized(step, s).push(Q)
            except RuntimeError:
                AQ = pushed(step, s, Q)
        self._check_zero(AQ, x[None], s[None])
        return AQ


def _same(s: Tensor) -> Tensor:
    return s


def flat_step(f: nn.Module | Step, s0: State) -> Step:
    """Convert a step f(x, s) to a step whose state is one real vector. The vector has the tensors
    of the state side by side, of any shape, and each complex number as two real numbers.

    f returns the next state or (output, next state). The function f takes x (1, m) if all tensors
    of the first state s0 are (1, ...), else x (m,).
    """
    parts, tree = tree_flatten(s0)
    shapes, start = [part.shape for part in parts], flat_state(s0)[0]
    batched = all(len(shape) > 1 and shape[0] == 1 for shape in shapes)
    words = " and ".join(str(tuple(shape)) for shape in shapes)

    def arguments(x: Tensor, s: Tensor) -> tuple[Tensor, State]:
        return x.unsqueeze(0) if batched else x, tree_unflatten(parts_of(s, parts), tree)

    def output_and_state(x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        returned = f(*arguments(x, s))
        if any(isinstance(part, np.ndarray) for part in tree_leaves(returned)):
            raise InvalidInputError(
                f"{cell_name(f)} returns an array of NumPy, which has no derivative: expected "
                "tensors, computed by torch"
            )
        after = state_in(returned, parts)
        if after is None:
            raise InvalidInputError(
                f"{cell_name(f)} must return a state like its first one, {words}, or (output, "
                "state)"
            )
        _check_kinds(f, after, parts)
        state = flat_state(after)[0].to(s.dtype)  # layers may compute it in single precision
        alone = len(tree_leaves(returned)) == len(parts)
        return state if alone else real_view(tree_leaves(returned)[0]), state

    def step(x: Tensor, s: Tensor) -> Tensor:
        return output_and_state(x, s)[1]

    size = getattr(f, "hidden_size", None)
    vars(step).update(
        state_size=len(start),
        hidden_size=size,
        initial_state=start.clone,
        state_shapes=words,
        rows=batched,
        arguments=arguments,
        output_and_state=output_and_state,
        wrapped=f,
    )
    step.__name__ = cell_name(f)
    return step


def _check_kinds(f: Any, after: list[Tensor], before: list[Tensor]) -> None:
    """Raise InvalidInputError if a tensor of the state was real and is complex after the step, or
    the reverse.
    """
    for part, first in zip(after, before, strict=True):
        if part.is_complex() != first.is_complex():
            kinds = ("complex", "real") if part.is_complex() else ("real", "complex")
            dtype = ", dtype=torch.cfloat" if part.is_complex() else ""
            raise InvalidInputError(
                f"{cell_name(f)} returns a {kinds[0]} state from a {kinds[1]} one: give its first "
                f"state, such as s0=torch.zeros({', '.join(map(str, first.shape))}{dtype})"
            )


def layers_in(cell: Any) -> int:
    """The number of cells in a stack; 1 for any other cell."""
    return cell.stacked if isinstance(cell, Cell) else 1


def as_rows(*arguments: Tensor) -> tuple[tuple[int, ...], list[Tensor]]:
    """Broadcast vectors (..., n). Returns (their common leading dimensions, the vectors as the rows
    of matrices).
    """
    # torch's own would import its compiler
    lead = np.broadcast_shapes(*(v.shape[:-1] for v in arguments))
    return lead, [v.expand(*lead, v.shape[-1]).reshape(-1, v.shape[-1]) for v in arguments]


def holds(A: Tensor) -> Tensor:
    """Return True, (...,), for matrices (..., N, k) whose largest entry neither overflows nor
    underflows, so that it has full precision.
    """
    largest, kind = A.abs().amax((-2, -1)), torch.finfo(A.dtype)
    return (largest >= kind.tiny / kind.eps) & (largest <= kind.max)


def as_cell(cell: "nn.Module | Step | StepCell") -> StepCell:
    """Convert a cell to a validated `StepCell`. Recurrent modules of torch.nn become cells of
    `rhn`; several layers become a stack of cells.

    Raises InvalidInputError for anything but a function of an input and a state.
    """
    if isinstance(cell, StepCell):
        return cell
    if not callable(cell):
        raise InvalidInputError(f"expected a cell or a callable f(x, s), got {in_short(cell)}")
    if isinstance(getattr(cell, "state_size", None), tuple) and not hasattr(cell, "step"):
        s0 = first_state(cell)
        cell = cell if s0 is None else flat_step(cell, s0)
    # CUDA's own kernels for torch.nn's have no vmap rule
    if isinstance(cell, nn.RNNBase | nn.RNNCellBase):
        cell = converted_cell(cell)
    found = StepCell(cell)
    try:
        signature = inspect.signature(
            found._step.forward if isinstance(found._step, nn.Module) else found._step
        )
        signature.bind(None, None)
    except ValueError:  # a built-in function without a signature
        pass
    except TypeError as error:
        raise InvalidInputError(
            f"{found.name} must take f(x, s), an input and a state, but takes {signature}: "
            f"{error}{hint_if_no_step(cell)}"
        ) from None
    return found


def converted_cell(module: nn.Module, layer: int | None = None) -> Cell:
    """Convert a recurrent module of torch.nn to a cell of `rhn`. Raises InvalidInputError with
    other ways for a module without one.
    """
    try:
        return rhn.cells.from_torch(module, layer)
    except InvalidInputError as error:
        raise InvalidInputError(
            f"{error}; write one time step, of one direction, as a function f(x, s) with s0, or "
            "use gersgorin.influence(module, x), which takes any model"
        ) from error


def hint_if_no_step(module) -> str:
    """The end of an error message, for a network that is not a step, or a module with two steps; ""
    for any other module.
    """
    if not isinstance(module, nn.Module):
        return ""
    if not hasattr(module, "step"):
        return (
            "; for the recurrent cell in a network and its inputs use "
            "gersgorin.extract_cell(module, x)"
        )
    if takes(module, 2) and not takes(module, 1):
        return "; the module has step and forward: if forward(x, state) is the step, rename step"
    return ""
