"""Temporal Jacobians A[..., i, j] = d s'_i / d s_j of one step s' = f(x, s), and the states along which to take them.

The paper (Zilly et al. 2017, equations 2-3 and 10-15) prints the transpose; the spectrum is the same, row and column discs swap.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import jacfwd, jacrev, vmap

from rhn.cells import from_torch
from rhn.errors import InvalidInputError

METHODS = ("analytic", "jacrev", "jacfwd")
Step = Callable[[Tensor, Tensor], Tensor]


def temporal_jacobian(
    cell: nn.Module | Step, x: Tensor, s: Tensor, *, method: str | None = None, chunk_size: int | None = None
) -> Tensor:
    """d s' / d s of one step, batched over any leading dimensions.

    Args:
        cell: one of our cells, a torch.nn RNN/GRU/LSTM or its *Cell form (converted; an LSTM's state is cat(h, c)), or any callable
            f(x, s) -> s' that takes one input (m,) and one state (n,).
        x: inputs (..., m). s: states (..., n); leading dimensions broadcast.
        method: "analytic" (closed form, the default where the cell has one), "jacrev" (the default otherwise) or "jacfwd".
        chunk_size: how many of the leading positions to work on at once, to bound memory; all where None.

    Returns:
        A (..., n, n) in the dtype of s.

    Raises:
        InvalidInputError: unknown method, no closed form, shapes that do not fit.

    >>> A = temporal_jacobian(lambda x, s: 2 * s.flip(-1), torch.zeros(1), torch.zeros(2))
    >>> A.tolist()
    [[0.0, 2.0], [2.0, 0.0]]
    """
    step, closed_form = _resolve(cell)
    if method is None:
        method = "analytic" if closed_form else "jacrev"
    if method not in METHODS:
        raise InvalidInputError(f"unknown method {method!r}: expected one of {', '.join(METHODS)}")
    if method == "analytic" and closed_form is None:
        raise InvalidInputError(f"{_name(cell)} has no closed-form jacobian(x, s): use method='jacrev' or 'jacfwd'")
    if chunk_size is not None and chunk_size < 1:
        raise InvalidInputError(f"chunk_size must be at least 1, got {chunk_size}")
    lead, rows_x, rows_s = _flatten(x, s)
    _check_step(cell, step, rows_x, rows_s)
    if method == "analytic":
        size = chunk_size or max(1, len(rows_s))
        parts = [closed_form(a, b) for a, b in zip(rows_x.split(size), rows_s.split(size), strict=True)]
        A = parts[0] if len(parts) == 1 else torch.cat(parts)
    else:
        jacobian = {"jacrev": jacrev, "jacfwd": jacfwd}[method](step, argnums=1)
        A = vmap(jacobian, chunk_size=chunk_size)(rows_x, rows_s)
    n = s.shape[-1]
    if not isinstance(A, Tensor) or A.shape[1:] != (n, n):
        raise InvalidInputError(f"{_name(cell)} must return one state of {n} entries, as many as it was given")
    return A.reshape(*lead, *A.shape[-2:])


def trajectory(cell: nn.Module | Step, x: Tensor, s0: Tensor | None = None) -> Tensor:
    """The states (T + 1, B, state_size) of a run over x (T, B, m), s0 first; (T + 1, state_size) for unbatched x (T, m).

    s0 (B, state_size) is zero where None; a bare callable needs it, because it does not tell its state's size.
    Raises InvalidInputError where shapes do not fit.
    """
    cell = _convert(cell)
    unbatched = x.dim() == 2
    if unbatched:
        x, s0 = x.unsqueeze(1), None if s0 is None else s0.unsqueeze(0)
    if x.dim() != 3 or x.shape[0] == 0:
        raise InvalidInputError(f"x has shape {tuple(x.shape)}: expected (T, B, m) or (T, m) with at least one step")
    if s0 is None:
        if not hasattr(cell, "state_size"):
            raise InvalidInputError(f"{_name(cell)} does not tell its state_size: pass s0, (B, state_size)")
        s0 = x.new_zeros(x.shape[1], cell.state_size)
    if hasattr(cell, "check"):
        cell.check(x, s0)
    elif s0.dim() != 2 or len(s0) != x.shape[1]:
        raise InvalidInputError(f"s0 has shape {tuple(s0.shape)}: expected ({x.shape[1]}, state_size)")
    if hasattr(cell, "states"):
        states = torch.cat((s0.unsqueeze(0), cell.states(x, s0)))
    else:
        step, rows = vmap(_resolve(cell)[0]), [s0]
        for x_t in x:
            rows.append(step(x_t, rows[-1]))
        states = torch.stack(rows)
    return states.squeeze(1) if unbatched else states


def norm_bound(cell: nn.Module, state_bound: float = 1.0) -> Tensor:
    """A bound on ||d s'/d s||_2 over all inputs and over all states whose entries are within +-state_bound (0-dim tensor).

    Each cell's own formula stands beside its equation, in `rhn.cells`; for the RNN it is gamma sigma_max(R), gamma = max |f'|
    (Pascanu et al. 2013; Zilly et al. 2017, section 3). Raises InvalidInputError for a cell without one.
    """
    cell = _convert(cell)
    if not hasattr(cell, "norm_bound"):
        raise InvalidInputError(f"{_name(cell)} has no norm_bound(state_bound): give the cell a method of that name")
    if not state_bound >= 0:
        raise InvalidInputError(f"state_bound must be a number of at least 0, got {state_bound}")
    with torch.no_grad():
        return cell.norm_bound(float(state_bound))


def _convert(cell):
    """torch.nn's recurrent modules become our cells (CUDA's own have no vmap rule); everything else stays."""
    return from_torch(cell) if isinstance(cell, nn.RNNBase | nn.RNNCellBase) else cell


def _resolve(cell) -> tuple[Step, Step | None]:
    """(one step, its closed-form Jacobian or None)."""
    cell = _convert(cell)
    if not callable(cell):
        raise InvalidInputError(f"expected a cell or a callable f(x, s), got {_name(cell)}")
    return getattr(cell, "step", cell), getattr(cell, "jacobian", None)


def _flatten(x: Tensor, s: Tensor) -> tuple[torch.Size, Tensor, Tensor]:
    """(leading dimensions, x (N, m), s (N, n))."""
    if not (isinstance(x, Tensor) and isinstance(s, Tensor)):
        raise InvalidInputError(f"x is {type(x).__name__} and s {type(s).__name__}: expected torch tensors")
    if x.dim() == 0 or s.dim() == 0:
        raise InvalidInputError(f"x has shape {tuple(x.shape)} and s {tuple(s.shape)}: expected (..., m) and (..., n)")
    try:
        lead = torch.broadcast_shapes(x.shape[:-1], s.shape[:-1])
    except RuntimeError:
        shapes = f"x {tuple(x.shape)} and s {tuple(s.shape)}"
        raise InvalidInputError(f"the leading dimensions of {shapes} do not broadcast") from None
    return lead, *(v.expand(*lead, v.shape[-1]).reshape(-1, v.shape[-1]) for v in (x, s))


def _check_step(cell, step: Step, x: Tensor, s: Tensor) -> None:
    """A cell that knows its sizes says what does not fit before torch does."""
    owner = getattr(step, "__self__", None)
    sizes = getattr(owner, "input_size", None), getattr(owner, "state_size", None)
    if not isinstance(owner, nn.Module) or None in sizes:
        return
    weight = next(owner.parameters(), s)
    if (x.dtype, s.dtype) != (weight.dtype, weight.dtype):
        raise InvalidInputError(f"x is {x.dtype} and s {s.dtype}, the weights are {weight.dtype}: convert one")
    if (x.shape[-1], s.shape[-1]) != sizes:
        expected = f"{_name(cell)} expects {sizes[0]} inputs and a state of {sizes[1]}"
        raise InvalidInputError(f"x ends in {x.shape[-1]} and s in {s.shape[-1]}: {expected}")


def _name(cell) -> str:
    return type(cell).__name__ if isinstance(cell, nn.Module) else getattr(cell, "__name__", repr(cell))
