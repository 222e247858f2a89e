"""Jacobians of one step s' = f(x, s): of the whole step, of its input, of each layer in it; and the states along which to take them.

    temporal_jacobian   A[..., i, j] = d s'_i / d s_j
    input_jacobian      B[..., i, j] = d s'_i / d x_j
    layer_jacobians     J_1..J_L, d s_l / d s_{l-1} with s_0 = s and s_L = s', so that A = J_L ... J_1

The paper (Zilly et al. 2017, equations 2-3 and 10-15) prints the transposes; the spectrum is the same, row and column discs swap.
Legend: m inputs, N = state_size (n units, an LSTM's state has 2n), L layers.
"""

import functools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import jacfwd, jacrev, vmap

from gersgorin._validate import check_gradients, real_tensor
from gersgorin.grad_mode import with_gradients
from gersgorin.stepping import (
    Step,
    check_method,
    check_next,
    check_sizes,
    converted,
    in_a_module,
    name_of,
    state_size_of,
    step_of,
    transformed,
    try_step,
)
from rhn.cells import Cell
from rhn.errors import InvalidInputError

METHODS = ("analytic", "jacrev", "jacfwd")


def temporal_jacobian(
    cell: nn.Module | Step, x: Tensor, s: Tensor, *, method: str | None = None, chunk_size: int | None = None
) -> Tensor:
    """d s' / d s of one step, batched over any leading dimensions.

    Args:
        cell: one of our cells, a torch.nn RNN/GRU/LSTM or its *Cell form (converted; an LSTM's state is cat(h, c), that of several
            layers theirs one after the other, the lowest first), or any callable f(x, s) -> s' of one input (m,), one state (n,).
        x: inputs (..., m). s: states (..., n); leading dimensions broadcast.
        method: "analytic" (closed form, the default where the cell has one), "jacrev" (the default otherwise) or "jacfwd".
            The closed forms take derivatives from pre-activations, to a few units in the last place. The other two are torch's own,
            whose tanh' = 1 - h^2 has no digits left where tanh is saturated, from |z| = 9 on in float32 and 19 in float64.
        chunk_size: how many of the leading positions to work on at once, to bound memory; all where None.

    Returns:
        A (..., n, n) in the dtype of s.

    Raises:
        InvalidInputError: unknown method, no closed form, shapes that do not fit.

    >>> A = temporal_jacobian(lambda x, s: 2 * s.flip(-1), torch.zeros(1), torch.zeros(2))
    >>> A.tolist()
    [[0.0, 2.0], [2.0, 0.0]]
    """
    by_autograd = lambda step, jacobian: lambda x, s: [jacobian(step, argnums=1)(x, s)]  # noqa: E731
    x, s = real_tensor("x", x), real_tensor("s", s)
    (A,) = _matrices(cell, x, s, "jacobian", by_autograd, method, chunk_size)
    return _of_shape(A, cell, s, columns=s.shape[-1])


def input_jacobian(
    cell: nn.Module | Step, x: Tensor, s: Tensor, *, method: str | None = None, chunk_size: int | None = None
) -> Tensor:
    """d s' / d x of one step (..., N, m), batched over any leading dimensions: how strongly the input reaches the state.

    Arguments and errors as for `temporal_jacobian`; x must be floating point.

    >>> input_jacobian(lambda x, s: s + x[0] * x[1], torch.tensor([3.0, 5.0]), torch.zeros(1)).tolist()
    [[5.0, 3.0]]
    """
    x, s = real_tensor("x", x), real_tensor("s", s)
    if not x.is_floating_point():
        raise InvalidInputError(f"x is {x.dtype}: expected floating point, what a derivative can be taken of")
    by_autograd = lambda step, jacobian: lambda x, s: [jacobian(step, argnums=0)(x, s)]  # noqa: E731
    (B,) = _matrices(cell, x, s, "input_jacobian", by_autograd, method, chunk_size)
    return _of_shape(B, cell, s, columns=x.shape[-1])


def layer_jacobians(
    cell: nn.Module | Step, x: Tensor, s: Tensor, *, method: str | None = None, chunk_size: int | None = None
) -> Tensor | list[Tensor]:
    """The Jacobian of each layer within one step, first layer first; J_L ... J_1 is the temporal Jacobian.

    What a layer hands to the next is its state s_l (..., N). Where a later layer also reads s, the state before the step (the
    shortcuts of a DT(S)-RNN), it hands on both, (s_l, s): the first of these Jacobians is then (2N, N), those between (2N, 2N) and
    that of the last layer with a shortcut (N, 2N). Without s beside it the chain rule would not close.

    Arguments and errors as for `temporal_jacobian`. Closed form: the cell's `layer_jacobians(x, s)`; autograd asks its `run_layer`.
    What has one layer, as any callable without a `depth`, gives its temporal Jacobian.

    Returns:
        One tensor (L, ..., N, N), or with shortcuts a list of L matrices (..., rows, columns).

    Raises:
        InvalidInputError: also for a cell of several layers that does not say what each of them does.

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
    """ds_l/ds_{l-1} of each layer alone, (L, ..., N, N), with the state before the step held fixed where a layer also reads that.

    Without shortcuts these are the `layer_jacobians`; arguments and errors as there.
    """
    N = s.shape[-1]
    return torch.stack([J[..., :N, :N] for J in layer_jacobians(cell, x, s)])


def state_gains(cell: nn.Module | Step, x: Tensor, s: Tensor) -> Tensor:
    """||ds_l/ds_{l-1}||_2 of each layer alone, (..., L); see `partial_jacobians`."""
    return torch.linalg.matrix_norm(partial_jacobians(cell, x, s), 2).movedim(0, -1)


def trajectory(cell: nn.Module | Step, x: Tensor, s0: Tensor | None = None) -> Tensor:
    """The states (T + 1, B, state_size) of a run over x (T, B, m), s0 first; (T + 1, state_size) for unbatched x (T, m).

    s0 (B, state_size) is zero where None; a bare callable needs it, because it does not tell its state's size.
    Raises InvalidInputError where shapes do not fit.
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
            step_of(cell)  # a whole network is no step, whatever the state
            said = f"{name_of(cell)} does not tell its state_size: pass s0, (B, state_size)"
            raise InvalidInputError(said + in_a_module(cell))
        s0 = x.new_zeros(x.shape[1], state_size_of(cell))
    if hasattr(cell, "check"):
        cell.check(x, s0)
    elif s0.dim() != 2 or len(s0) != x.shape[1]:
        raise InvalidInputError(f"s0 has shape {tuple(s0.shape)}: expected ({x.shape[1]}, state_size)")
    if hasattr(cell, "states"):
        if type(cell).states is Cell.states and len(s0):  # which repeats a user's step
            try_step(cell, cell.step, x[0, 0], s0[0])
        after = cell.states(x, s0)
        check_next(cell, after, s0.expand(len(x), *s0.shape))
        states = torch.cat((s0.unsqueeze(0), after))
    else:
        step, one = step_of(cell), len(s0) == 1  # one row goes without the cost of vmap
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
    """A bound on ||d s'/d s||_2 over all inputs and over all states whose entries are within +-state_bound (0-dim tensor).

    Each cell's own formula stands beside its equation, in `rhn.cells`; for the RNN it is gamma sigma_max(R), gamma = max |f'|
    (Pascanu et al. 2013; Zilly et al. 2017, section 3). Raises InvalidInputError for a cell without one.
    """
    cell = converted(cell)
    if not hasattr(cell, "norm_bound"):
        said = f"{name_of(cell)} has no norm_bound(state_bound): give the cell a method of that name"
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


def _matrices(cell, x: Tensor, s: Tensor, name: str, by_autograd, method: str | None, chunk_size: int | None) -> list:
    """The matrices (..., rows, columns) that a cell's closed form called `name` gives, one or a list of them; or
    by_autograd(step, jacrev or jacfwd), a function of one x (m,) and one s (N,) that gives a list of them."""
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


def _of_shape(A, cell, s: Tensor, columns: int) -> Tensor:
    """A (..., N, columns), checked: a user's step may return anything."""
    N = s.shape[-1]
    if not isinstance(A, Tensor) or A.shape[-2:] != (N, columns):
        raise InvalidInputError(f"{name_of(cell)} must return one state of {N} entries, as many as it was given")
    return A


def _layerwise(cell, jacobian: Callable, x: Tensor, s: Tensor) -> Callable[[Tensor, Tensor], list[Tensor]]:
    """A function of one x (m,) and one s (N,) that gives the layers' Jacobians, from what `run_layer` does."""
    if not getattr(cell, "runs_layers", hasattr(cell, "run_layer")):
        raise InvalidInputError(
            f"{name_of(cell)} does not say what one of its {cell.depth} layers does: "
            "define run_layer(layer, x, s, y) or layer_jacobians(x, s)"
        )
    last = _last_shortcut(cell, x, s)

    def run(layer: int, x: Tensor, s: Tensor, v: Tensor) -> Tensor:
        """What a layer makes of v: its state, or up to the last shortcut (state, s)."""
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
    """The last layer, counted from 0, that reads the state before the step besides the one it is given; 0 where none does."""
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
