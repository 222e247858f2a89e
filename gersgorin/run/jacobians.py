"""Jacobians, states and norm bounds of one step s' = f(x, s), for arguments of the user.

    temporal_jacobian   A[..., i, j] = d s'_i / d s_j
    input_jacobian      B[..., i, j] = d s'_i / d x_j
    layer_jacobians     J_1..J_L, d s_l / d s_{l-1} with s_0 = s and s_L = s': A = J_L ... J_1

The paper (Zilly et al. 2017, equations 2-3 and 10-15) prints the transposed matrices. Their
spectrum is the same; row and column discs are swapped.

Legend: m inputs; N = state_size entries of a state (n for a cell of n units, 2n for an LSTM); L
layers of a step.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gersgorin.run.cell import METHODS, Step, as_cell, flat_step, hint_if_no_step
from gersgorin.run.state import (
    Sizes,
    State,
    as_taken,
    checked_sizes,
    flat_state,
    real_view,
    zero_state,
)
from gersgorin.validate import check_gradients, check_order, real_tensor
from rhn.errors import InvalidInputError
from rhn.utils.old import plain
from rhn.utils.validation import in_short


def _of_vectors(cell: Any, x: Any, s: Any) -> tuple[Any, Any]:
    """Convert a step and its states to real vectors if the states are tuples of tensors or complex
    numbers; leave others unchanged.
    """
    if isinstance(s, tuple):
        return _side_by_side(cell, s, np.shape(x)[:-1])
    if isinstance(s, Tensor) and s.is_complex() and s.numel():
        one = s.reshape(-1, s.shape[-1])[:1]
        return flat_step(cell, as_taken(cell, one)), real_view(s).flatten(-2)
    return cell, s


def _side_by_side(
    cell: Any, state: tuple[Tensor, ...], lead: tuple[int, ...]
) -> tuple[Step, Tensor]:
    """Convert a step of several tensors to a step of one vector, and its states (*lead, ...) to
    vectors (*lead, N). Tensors without these leading dimensions are a single state.
    """
    if any(part.shape[: len(lead)] != lead for part in state):
        return flat_step(cell, state), flat_state(state)[0]
    of_one = isinstance(cell, nn.Module) and all(part.shape[:1] == (1,) for part in state)
    if not lead and (of_one or not isinstance(cell, nn.Module)):
        return flat_step(cell, state), flat_state(state)[0]
    first = tuple(part.reshape(-1, *part.shape[len(lead) :])[:1] for part in state)
    vectors = torch.cat([part.flatten(len(lead)) for part in state], -1)
    return flat_step(cell, as_taken(cell, first)), vectors


def _of_step(name: str, cell: nn.Module | Step, x, s, method: str | None) -> Any:
    """Check the arguments of one of the public functions below, and compute the Jacobians of this
    name.
    """
    check_order("the cell first, then x, then s", cell=cell, x=x, s=s)
    cell, s = _of_vectors(cell, x, s)
    cell, x, s = as_cell(cell), real_tensor("x", x), real_tensor("s", s)
    if torch.is_grad_enabled():
        check_gradients(cell.module)
    if x.dim() == 0 or s.dim() == 0:
        raise InvalidInputError(
            f"x has shape {tuple(x.shape)} and s {tuple(s.shape)}: expected (..., m) and (..., n)"
        )
    if name == "input_jacobian" and not x.is_floating_point():
        raise InvalidInputError(f"x is {x.dtype}: expected floating point, which has a derivative")
    try:
        np.broadcast_shapes(x.shape[:-1], s.shape[:-1])
    except ValueError:
        shapes = f"x {tuple(x.shape)} and s {tuple(s.shape)}"
        raise InvalidInputError(f"the leading dimensions of {shapes} do not broadcast") from None
    layered = name == "layer_jacobians" and cell.depth > 1
    analytic = ["analytic"] if name in cell._own or name == "layer_jacobians" else []
    known = analytic if layered else [*analytic, *METHODS]
    if method is not None and method not in known:
        raise InvalidInputError(
            f"method is {in_short(method)}: {cell.name} has {', '.join(known)} for {name}"
        )
    if x.numel() and s.numel():
        cell.probe(x.reshape(-1, x.shape[-1])[0], s.reshape(-1, s.shape[-1])[0])
    return getattr(cell, name)(x, s, method=method)


def temporal_jacobian(
    cell: nn.Module | Step, x: Tensor, s: Tensor, *, method: str | None = None
) -> Tensor:
    """Compute the Jacobian d s'/d s of one step s' = f(x, s), batched over any leading dimensions.

    Args:
        cell: a cell of `rhn`, an RNN, GRU or LSTM of torch.nn or its *Cell form, or any callable
            f(x, s) that returns s' or (output, s') for one input (m,) and one state (n,). For cells
            of torch.nn, the state of an LSTM is cat(h, c), and the states of several layers are
            joined, the lowest layer first.
        x: inputs (..., m). Leading dimensions of x and s broadcast.
        s: states (..., n), or one state as a tuple of tensors, which are joined side by side. A
            complex state (..., n) counts as 2 n entries: real and imaginary part of each entry in
            turn.
        method: "analytic" (closed form, the default if the cell has one), "jacrev" (the default
            otherwise) or "jacfwd". The closed forms compute derivatives from pre-activations z, to
            a few units in the last place. The other two methods are torch's own. They compute tanh'
            = 1 - h^2, which has no correct digits if tanh is saturated: if |z| is at least 9 in
            float32, or at least 19 in float64.

    Returns:
        The Jacobian A (..., n, n) in the dtype of s, with gradients. For NumPy use
        A.detach().numpy().

    Raises:
        InvalidInputError: the method is unknown, the cell has no closed form, or the shapes do not
            fit.

    >>> A = temporal_jacobian(lambda x, s: 2 * s.flip(-1), torch.zeros(1), torch.zeros(2))
    >>> A.tolist()
    [[0.0, 2.0], [2.0, 0.0]]
    """
    return _of_step("jacobian", cell, x, s, method)


def input_jacobian(
    cell: nn.Module | Step, x: Tensor, s: Tensor, *, method: str | None = None
) -> Tensor:
    """Compute the Jacobian d s'/d x (..., N, m) of one step s' = f(x, s), batched over any leading
    dimensions.

    Arguments, gradients and errors as for `temporal_jacobian`; x must be floating point.

    >>> x, s = torch.tensor([3.0, 5.0]), torch.zeros(1)
    >>> input_jacobian(lambda x, s: s + x[0] * x[1], x, s).tolist()
    [[5.0, 3.0]]
    """
    return _of_step("input_jacobian", cell, x, s, method)


def layer_jacobians(
    cell: nn.Module | Step, x: Tensor, s: Tensor, *, method: str | None = None
) -> Tensor | list[Tensor]:
    """Compute the Jacobians J_1, ..., J_L of the layers within one step. Their product J_L ... J_1
    is the temporal Jacobian.

    A layer passes its state s_l (..., N) to the next layer. In a cell with shortcuts, such as a
    DT(S)-RNN, a later layer also reads s, the state before the step. The layers before that layer
    pass on (s_l, s), because the chain rule needs the two states. The first of these Jacobians is
    (2N, N), the middle ones are (2N, 2N), and the Jacobian of the last layer with a shortcut is (N,
    2N).

    Arguments as for `temporal_jacobian`. If the cell has several layers, its method
    `layer_jacobians(x, s)` computes the matrices. For a cell of one layer, or a callable without a
    `depth`, the one matrix is the temporal Jacobian.

    Returns:
        One tensor (L, ..., N, N), or with shortcuts a list of L matrices (..., rows, columns).

    Raises:
        InvalidInputError: x or s does not fit, as for `temporal_jacobian`; or the cell has several
            layers and no method `layer_jacobians`.

    >>> step = lambda x, s: 2 * s.flip(-1)
    >>> layer_jacobians(step, torch.zeros(1), torch.zeros(2)).tolist()
    [[[0.0, 2.0], [2.0, 0.0]]]
    """
    return _of_step("layer_jacobians", cell, x, s, method)


def trajectory(
    cell: nn.Module | Step,
    x: Tensor,
    s0: State | None = None,
    *,
    state_size: Sizes | None = None,
) -> Tensor:
    """Compute the states of a run along x, s0 first. The shape is (T + 1, B, state_size) for x (T,
    B, m), and (T + 1, state_size) for unbatched x (T, m).

    s0: the first state (B, state_size), or a tuple of tensors (B, ...). None: the cell's
    `initial_state()`, or zero if it has none. A function has no attribute state_size, so it needs
    one of the arguments s0 and state_size. state_size: 5, or (5, 5) for two tensors; the state
    starts at zero. Raises InvalidInputError if shapes do not fit.

    >>> trajectory(lambda x, s: s + x, torch.ones(3, 2), torch.zeros(2)).tolist()
    [[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]
    """
    check_order("trajectory(cell, x, s0)", cell=cell, x=x)
    if s0 is None and state_size is not None:
        x = real_tensor("x", x)
        s0 = zero_state(checked_sizes(state_size), x, *x.shape[1:-1])
    if isinstance(s0, tuple):
        cell, s0 = _side_by_side(cell, s0, np.shape(x)[1:-1])
    cell, x = as_cell(cell), real_tensor("x", x)
    s0 = None if s0 is None else real_tensor("s0", s0)
    unbatched = x.dim() == 2
    if unbatched:
        x, s0 = x.unsqueeze(1), None if s0 is None else s0.unsqueeze(0)
    if x.dim() != 3 or x.shape[0] == 0:
        raise InvalidInputError(
            f"x has shape {tuple(x.shape)}: expected (T, B, m) or (T, m) with at least one step"
        )
    s0 = cell.first_state(x) if s0 is None else s0
    if s0.dim() != 2 or len(s0) != x.shape[1]:
        raise InvalidInputError(
            f"s0 has shape {tuple(s0.shape)}: expected ({x.shape[1]}, state_size)"
        )
    if len(s0):
        cell.probe(x[0, 0], s0[0])
    states = cell.states(x, s0)
    return states.squeeze(1) if unbatched else states


def norm_bound(cell: nn.Module, state_bound: float = 1.0) -> Tensor:
    """Bound ||d s'/d s||_2 over all inputs and over all states with entries within +-state_bound
    (0-dim tensor).

    The formula of the bound is next to the equation of each cell in `rhn.cells`. For the RNN the
    bound is gamma sigma_max(R), with gamma = max |f'| (Pascanu et al. 2013; Zilly et al. 2017,
    section 3). Raises InvalidInputError for a cell without a bound.

    >>> from rhn.cells import RNN
    >>> cell = RNN(3, 2)
    >>> _ = cell.weight_hh.data.copy_(torch.tensor([[0.0, 0.5], [0.25, 0.0]]))
    >>> norm_bound(cell).item()
    0.5
    """
    ours = as_cell(cell)
    if "norm_bound" not in ours._own:
        raise InvalidInputError(
            f"{ours.name} has no norm_bound(state_bound): add that method"
            f"{hint_if_no_step(ours.module)}"
        )
    if isinstance(state_bound, Tensor) and state_bound.numel() == 1:
        state_bound = state_bound.item()
    state_bound = plain(state_bound)
    if not isinstance(state_bound, int | float) or not state_bound >= 0:
        raise InvalidInputError(
            f"state_bound must be a number of at least 0, got {in_short(state_bound)}"
        )
    return ours.norm_bound(float(state_bound))
