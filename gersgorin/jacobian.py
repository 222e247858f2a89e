"""Jacobians of one step s' = f(x, s) of a cell, a torch.nn module or a function; states of a run; validation of cells.

    temporal_jacobian   A[..., i, j] = d s'_i / d s_j
    input_jacobian      B[..., i, j] = d s'_i / d x_j
    layer_jacobians     J_1..J_L, d s_l / d s_{l-1} with s_0 = s and s_L = s', so that A = J_L ... J_1

The paper (Zilly et al. 2017, equations 2-3 and 10-15) prints the transposes; the spectrum is the same, row and column discs swap.
Legend: m inputs, N = state_size (n units, an LSTM's state has 2n), L layers.
"""

import functools
import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import jacfwd, jacrev, vmap

from gersgorin._validate import check_gradients, real_tensor, with_gradients
from gersgorin.own_loop import OwnLoop
from gersgorin.parts import TORCH_CELLS, recurrent_cells
from rhn.cells import Cell, stack_from_torch
from rhn.errors import USERS_FAULT, InvalidInputError, RhnError, UsersCodeError

Step = Callable[[Tensor, Tensor], Tensor]


def converted(cell):
    """Convert torch.nn's recurrent modules to our cells, several layers to a stack (CUDA's own have no vmap rule)."""
    if isinstance(cell, OwnLoop):
        raise InvalidInputError(f"{name_of(cell)} {OwnLoop.no_step}")
    return stack_from_torch(cell) if isinstance(cell, nn.RNNBase | nn.RNNCellBase) else cell


def step_of(cell) -> Step:
    """The step function of a cell. Raises InvalidInputError for anything but a function of an input and a state."""
    if not callable(cell):
        raise InvalidInputError(f"expected a cell or a callable f(x, s), got {name_of(cell)}")
    step = getattr(cell, "step", cell)
    try:
        signature = inspect.signature(step.forward if isinstance(step, nn.Module) else step)
    except ValueError:  # a built-in function without a signature
        return step
    try:
        signature.bind(None, None)
    except TypeError as error:
        expected = "must take f(x, s), an input and a state"
        raise InvalidInputError(
            f"{name_of(cell)} {expected}, but takes {signature}: {error}{in_a_module(cell)}"
        ) from None
    return step


def is_step(network) -> bool:
    """True for a cell or a function, which is called step by step; False for a module that reads whole sequences."""
    if not isinstance(network, nn.Module) or isinstance(network, TORCH_CELLS):
        return callable(network)
    with suppress(InvalidInputError):
        return bool(step_of(network)) and not in_a_module(network)
    return False


def in_a_module(cell) -> str:
    """Hint at `extract_cell` for a network with a recurrent cell inside, as the end of a sentence; else ""."""
    if not isinstance(cell, nn.Module) or hasattr(cell, "step") or not recurrent_cells(cell):
        return ""
    return "; for the recurrent cell in it and its inputs use gersgorin.extract_cell(module, x)"


def name_of(cell) -> str:
    """Name of a cell in messages."""
    return type(cell).__name__ if isinstance(cell, nn.Module | OwnLoop) else getattr(cell, "__name__", repr(cell))


def state_size_of(cell) -> int:
    """The length of a cell's state. Raises InvalidInputError for a cell whose state is not one tensor."""
    size = getattr(cell, "state_size", None)
    if isinstance(size, int) and not isinstance(size, bool) and size > 0:
        return size
    said = "has no state_size, and no first state is given" if size is None else f"has the state_size {size!r:.40}"
    raise InvalidInputError(
        f"{name_of(cell)} {said}: expected a whole number, the length of one state tensor; join several parts of a state, "
        f"such as an LSTM's, by torch.cat((h, c), -1){in_a_module(cell)}"
    )


def check_sizes(cell, step: Step, x: Tensor, s: Tensor) -> None:
    """Raise InvalidInputError if x (..., m) or s (..., N) does not fit a cell with known sizes."""
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
    """Raise InvalidInputError if the attribute `name` of a cell is no method."""
    if not callable(found := getattr(cell, name)):
        raise InvalidInputError(f"{name_of(cell)}: {name} must be a method {name}{arguments}, got {found!r:.40}")


def try_step(cell, step: Step, x: Tensor, s: Tensor) -> None:
    """Take one step from an input (m,) and a state (N,) and validate the next state. Raises InvalidInputError."""
    try:
        with torch.inference_mode(False), torch.no_grad(), torch.random.fork_rng(devices=[]):
            given = x.clone(), s.clone()  # inference tensors count no versions
            before = [v._version for v in given]
            after = step(*given)
            for name, v, version in zip(("input", "state"), given, before, strict=True):
                if v._version != version:
                    raise InvalidInputError(
                        f"{name_of(cell)}: step(x, s) changes its {name} in place: expected a new tensor"
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
    """Turn errors of torch.func at operations that it cannot batch or differentiate into UsersCodeError."""
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
    """Raise InvalidInputError unless a step from states s returned one tensor of the same shape."""
    if not isinstance(after, Tensor) or after.shape != s.shape:
        got = f"a tensor {tuple(after.shape)}" if isinstance(after, Tensor) else type(after).__name__
        raise InvalidInputError(
            f"{name_of(cell)} must return one state of {s.shape[-1]} entries, as many as its argument has, but returns {got}"
            f"{in_a_module(cell)}"
        )
    if not after.is_floating_point():
        raise InvalidInputError(
            f"{name_of(cell)}: step(x, s) must return a floating state, as its argument ({s.dtype}), got {after.dtype}"
        )


METHODS = ("analytic", "jacrev", "jacfwd")


def temporal_jacobian(
    cell: nn.Module | Step, x: Tensor, s: Tensor, *, method: str | None = None, chunk_size: int | None = None
) -> Tensor:
    """d s' / d s of one step, batched over any leading dimensions.

    Args:
        cell: one of our cells, a torch.nn RNN/GRU/LSTM or its *Cell form (converted; an LSTM's state is cat(h, c), that of several
            layers is joined, the lowest first), or any callable f(x, s) -> s' of one input (m,), one state (n,).
        x: inputs (..., m). s: states (..., n); leading dimensions broadcast.
        method: "analytic" (closed form, the default if the cell has one), "jacrev" (the default otherwise) or "jacfwd".
            The closed forms take derivatives from pre-activations, to a few units in the last place. The other two are torch's own;
            their tanh' = 1 - h^2 has no digits left if tanh is saturated, from |z| = 9 on in float32 and 19 in float64.
        chunk_size: leading positions per batch, to bound memory; None: all at once.

    Returns:
        A (..., n, n) in the dtype of s.

    Raises:
        InvalidInputError: unknown method, no closed form, shapes that do not fit.

    >>> A = temporal_jacobian(lambda x, s: 2 * s.flip(-1), torch.zeros(1), torch.zeros(2))
    >>> A.tolist()
    [[0.0, 2.0], [2.0, 0.0]]
    """
    return _derivative(cell, real_tensor("x", x), real_tensor("s", s), "jacobian", 1, method, chunk_size)


def input_jacobian(
    cell: nn.Module | Step, x: Tensor, s: Tensor, *, method: str | None = None, chunk_size: int | None = None
) -> Tensor:
    """d s' / d x of one step (..., N, m), batched over any leading dimensions.

    Arguments and errors as for `temporal_jacobian`; x must be floating point.

    >>> input_jacobian(lambda x, s: s + x[0] * x[1], torch.tensor([3.0, 5.0]), torch.zeros(1)).tolist()
    [[5.0, 3.0]]
    """
    x, s = real_tensor("x", x), real_tensor("s", s)
    if not x.is_floating_point():
        raise InvalidInputError(f"x is {x.dtype}: expected floating point, which has a derivative")
    return _derivative(cell, x, s, "input_jacobian", 0, method, chunk_size)


def layer_jacobians(
    cell: nn.Module | Step, x: Tensor, s: Tensor, *, method: str | None = None, chunk_size: int | None = None
) -> Tensor | list[Tensor]:
    """The Jacobian of each layer within one step, first layer first; J_L ... J_1 is the temporal Jacobian.

    A layer passes its state s_l (..., N) to the next. If a later layer also reads s, the state before the step (the shortcuts of a
    DT(S)-RNN), it passes both, (s_l, s): the first of these Jacobians is then (2N, N), those between (2N, 2N) and that of the last
    layer with a shortcut (N, 2N). Without s the chain rule would not close.

    Arguments and errors as for `temporal_jacobian`. Closed form: the cell's `layer_jacobians(x, s)`; autograd uses its `run_layer`.
    A cell of one layer, or a callable without a `depth`, gives its temporal Jacobian.

    Returns:
        One tensor (L, ..., N, N), or with shortcuts a list of L matrices (..., rows, columns).

    Raises:
        InvalidInputError: also for a cell of several layers without `run_layer` and `layer_jacobians`.

    >>> step = lambda x, s: 2 * s.flip(-1)
    >>> layer_jacobians(step, torch.zeros(1), torch.zeros(2)).tolist()
    [[[0.0, 2.0], [2.0, 0.0]]]
    """
    cell, x, s = converted(cell), real_tensor("x", x), real_tensor("s", s)
    depth = getattr(cell, "depth", 1)
    if depth == 1:
        return temporal_jacobian(cell, x, s, method=method, chunk_size=chunk_size).unsqueeze(0)
    by_autograd = lambda step, jacobian: _layerwise(cell, jacobian, x, s)  # noqa: E731
    matrices = _matrices(cell, x, s, "layer_jacobians", by_autograd, method, chunk_size)
    shapes = [tuple(J.shape[-2:]) for J in matrices]
    N = s.shape[-1]
    inner = [rows for rows, _ in shapes[:-1]]
    if len(shapes) != depth or shapes != list(zip([*inner, N], [N, *inner], strict=True)):
        raise InvalidInputError(
            f"{name_of(cell)} gives layer Jacobians of shapes {shapes}: expected {depth} whose product is ({N}, {N})"
        )
    return torch.stack(matrices) if set(shapes) == {(N, N)} else matrices


def partial_jacobians(cell: nn.Module | Step, x: Tensor, s: Tensor) -> Tensor:
    """ds_l/ds_{l-1} of each layer, (L, ..., N, N); the state before the step is held fixed if a layer also reads it.

    Without shortcuts these are the `layer_jacobians`; arguments and errors as there.
    """
    N = s.shape[-1]
    return torch.stack([J[..., :N, :N] for J in layer_jacobians(cell, x, s)])


def state_gains(cell: nn.Module | Step, x: Tensor, s: Tensor) -> Tensor:
    """||ds_l/ds_{l-1}||_2 of each layer, (..., L); see `partial_jacobians`."""
    return torch.linalg.matrix_norm(partial_jacobians(cell, x, s), 2).movedim(0, -1)


def trajectory(cell: nn.Module | Step, x: Tensor, s0: Tensor | None = None) -> Tensor:
    """The states (T + 1, B, state_size) of a run over x (T, B, m), s0 first; (T + 1, state_size) for unbatched x (T, m).

    s0 (B, state_size): None for the cell's `initial_state()`, zero if it has none; required for a bare callable, which has no
    state_size.
    Raises InvalidInputError if shapes do not fit.
    """
    cell, x = converted(cell), real_tensor("x", x)
    s0 = None if s0 is None else real_tensor("s0", s0)
    unbatched = x.dim() == 2
    if unbatched:
        x, s0 = x.unsqueeze(1), None if s0 is None else s0.unsqueeze(0)
    if x.dim() != 3 or x.shape[0] == 0:
        raise InvalidInputError(f"x has shape {tuple(x.shape)}: expected (T, B, m) or (T, m) with at least one step")
    if s0 is None:
        if not hasattr(cell, "state_size"):
            step_of(cell)  # raises for a whole network
        s0 = x.new_zeros(x.shape[1], state_size_of(cell))
        if hasattr(cell, "initial_state"):
            s0 = s0 + cell.initial_state().to(s0)
    if hasattr(cell, "check"):
        cell.check(x, s0)
    elif s0.dim() != 2 or len(s0) != x.shape[1]:
        raise InvalidInputError(f"s0 has shape {tuple(s0.shape)}: expected ({x.shape[1]}, state_size)")
    if hasattr(cell, "states"):
        if type(cell).states is Cell.states and len(s0):  # which repeats the user's step
            try_step(cell, cell.step, x[0, 0], s0[0])
        after = cell.states(x, s0)
        check_next(cell, after, s0.expand(len(x), *s0.shape))
        states = torch.cat((s0.unsqueeze(0), after))
    else:
        step, one = step_of(cell), len(s0) == 1  # one row needs no vmap
        if len(s0):
            try_step(cell, step, x[0, 0], s0[0])
        step, x, rows = (step, x[:, 0], [s0[0]]) if one else (vmap(step), x, [s0])
        with transformed(cell):
            for x_t in x:
                rows.append(step(x_t, rows[-1]))
                check_next(cell, rows[-1], rows[0])
        states = torch.stack(rows).reshape(len(rows), *s0.shape)
    return states.squeeze(1) if unbatched else states


def norm_bound(cell: nn.Module, state_bound: float = 1.0) -> Tensor:
    """Bound ||d s'/d s||_2 over all inputs and over all states with entries within +-state_bound (0-dim tensor).

    The formula of each cell is beside its equation in `rhn.cells`; for the RNN it is gamma sigma_max(R), gamma = max |f'|
    (Pascanu et al. 2013; Zilly et al. 2017, section 3). Raises InvalidInputError for a cell without one.
    """
    cell = converted(cell)
    if getattr(cell, "norm_bound", None) is None:
        said = f"{name_of(cell)} has no norm_bound(state_bound): add that method to the cell"
        raise InvalidInputError(said + in_a_module(cell))
    if isinstance(state_bound, Tensor) and state_bound.numel() == 1:
        state_bound = state_bound.item()
    if not isinstance(state_bound, int | float) or not state_bound >= 0:
        raise InvalidInputError(f"state_bound must be a number of at least 0, got {state_bound!r:.40}")
    check_method(cell, "norm_bound", "(state_bound)")
    with torch.no_grad():
        bound = cell.norm_bound(float(state_bound))
    if not isinstance(bound, Tensor | float | int) or (isinstance(bound, Tensor) and bound.numel() != 1):
        got = f"a tensor {tuple(bound.shape)}" if isinstance(bound, Tensor) else type(bound).__name__
        raise InvalidInputError(f"{name_of(cell)}: norm_bound(state_bound) must return one number, got {got}")
    return bound.reshape(()) if isinstance(bound, Tensor) else torch.tensor(bound)


def _derivative(
    cell, x: Tensor, s: Tensor, name: str, argument: int, method: str | None, chunk_size: int | None
) -> Tensor:
    """ds' / dx (argument 0) or ds' / ds (argument 1), (..., N, columns), by the closed form `name` or by autograd."""
    by_autograd = lambda step, jacobian: lambda x, s: [jacobian(step, argnums=argument)(x, s)]  # noqa: E731
    (A,), N = _matrices(cell, x, s, name, by_autograd, method, chunk_size), s.shape[-1]
    if not isinstance(A, Tensor) or A.shape[-2:] != (
        N,
        (x, s)[argument].shape[-1],
    ):  # a user's step may return anything
        raise InvalidInputError(f"{name_of(cell)} must return one state of {N} entries, as many as its argument has")
    return A


def _matrices(cell, x: Tensor, s: Tensor, name: str, by_autograd, method: str | None, chunk_size: int | None) -> list:
    """The matrices (..., rows, columns) of a cell's closed form `name`, or by autograd.

    by_autograd(step, jacrev or jacfwd) returns a function of one x (m,) and one s (N,).
    """
    cell = converted(cell)
    if torch.is_grad_enabled():
        check_gradients(cell)
    step, closed_form = step_of(cell), getattr(cell, name, None)
    if closed_form is not None:
        check_method(cell, name, "(x, s)")
    if method is None:
        method = "analytic" if closed_form else "jacrev"
    if method not in METHODS:
        raise InvalidInputError(f"unknown method {method!r}: expected one of {', '.join(METHODS)}")
    if method == "analytic" and closed_form is None:
        raise InvalidInputError(f"{name_of(cell)} has no closed-form {name}(x, s): use method='jacrev' or 'jacfwd'")
    if chunk_size is not None and (type(chunk_size) is not int or chunk_size < 1):
        raise InvalidInputError(f"chunk_size must be a whole number of at least 1, got {chunk_size!r}")
    lead, rows_x, rows_s = _flatten(x, s)
    check_sizes(cell, step, rows_x, rows_s)
    if method == "analytic":
        size = chunk_size or max(1, len(rows_s))
        chunks = zip(rows_x.split(size), rows_s.split(size), strict=True)
        parts = [[J] if isinstance(J, Tensor) else J for J in (closed_form(*chunk) for chunk in chunks)]
        matrices = parts[0] if len(parts) == 1 else [torch.cat(each) for each in zip(*parts, strict=True)]
    else:
        if len(rows_s):
            try_step(cell, step, rows_x[0], rows_s[0])
        jacobian = {"jacrev": jacrev, "jacfwd": jacfwd}[method]
        with transformed(cell):
            matrices = vmap(by_autograd(step, jacobian), chunk_size=chunk_size)(rows_x, rows_s)
    return [J.reshape(*lead, *J.shape[1:]) if isinstance(J, Tensor) else J for J in matrices]


def _layerwise(cell, jacobian: Callable, x: Tensor, s: Tensor) -> Callable[[Tensor, Tensor], list[Tensor]]:
    """A function of one x (m,) and one s (N,) that returns the layers' Jacobians, from `run_layer`."""
    if not getattr(cell, "runs_layers", hasattr(cell, "run_layer")):
        raise InvalidInputError(
            f"{name_of(cell)} has {cell.depth} layers without a method for one of them: "
            "define run_layer(layer, x, s, y) or layer_jacobians(x, s)"
        )
    last = _last_shortcut(cell, x, s)

    def run(layer: int, x: Tensor, s: Tensor, v: Tensor) -> Tensor:
        """Output of a layer for v: its state, or up to the last shortcut (state, s)."""
        y = v[-len(s) :] if layer <= last else s
        out = step_of(cell)(x, v) if cell.depth == 1 else cell.run_layer(layer, x, v[: len(s)], y)
        return torch.cat((out, y)) if layer < last else out

    def matrices(x: Tensor, s: Tensor) -> list[Tensor]:
        v, found = s, []
        for layer in range(cell.depth):
            of_v = functools.partial(run, layer, x, s)
            found.append(jacobian(of_v)(v))
            v = of_v(v)
        return found

    return matrices


def _last_shortcut(cell, x: Tensor, s: Tensor) -> int:
    """The last layer, counted from 0, that reads the state before the step besides its own input; 0 if none does."""
    with with_gradients():
        x, s = x.new_zeros(x.shape[-1]), s.new_zeros(s.shape[-1])
        y = s.clone().requires_grad_()
        for layer in reversed(range(1, cell.depth)):
            out = cell.run_layer(layer, x, s, y)
            if out.requires_grad and torch.autograd.grad(out.sum(), y, allow_unused=True)[0] is not None:
                return layer
    return 0


def _flatten(x: Tensor, s: Tensor) -> tuple[tuple[int, ...], Tensor, Tensor]:
    """(leading dimensions, x (N, m), s (N, n))."""
    if x.dim() == 0 or s.dim() == 0:
        raise InvalidInputError(f"x has shape {tuple(x.shape)} and s {tuple(s.shape)}: expected (..., m) and (..., n)")
    try:
        lead = np.broadcast_shapes(x.shape[:-1], s.shape[:-1])  # torch's own would import its compiler
    except ValueError:
        shapes = f"x {tuple(x.shape)} and s {tuple(s.shape)}"
        raise InvalidInputError(f"the leading dimensions of {shapes} do not broadcast") from None
    return lead, *(v.expand(*lead, v.shape[-1]).reshape(-1, v.shape[-1]) for v in (x, s))
