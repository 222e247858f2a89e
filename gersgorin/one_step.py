"""Jacobians, states and norm bounds of one step s' = f(x, s), for arguments of the user.

    trajectory          states (T + 1, ..., N) along x (T, ..., m)
    temporal_jacobian   A[..., i, j] = d s'_i / d s_j
    input_jacobian      B[..., i, j] = d s'_i / d x_j
    layer_jacobians     J_1..J_L, d s_l / d s_{l-1} with s_0 = s and s_L = s': A = J_L ... J_1
    norm_bound          a bound on ||A||_2 over all inputs

The cell is not copied: it computes in its own precision, and gradients reach its weights. The paper
(Zilly et al. 2017, equations 2-3 and 10-15) prints the transposed matrices, whose spectrum is the
same, and whose row discs are our column discs.

Legend: m inputs; N entries of a state; L layers of a step.
"""

from collections.abc import Callable
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import jacfwd, jacrev, vmap

from gersgorin import checks
from gersgorin.autodiff import plain_attention
from gersgorin.linalg.matrices import not_dense_real
from gersgorin.run import input_jacobians, jacobians
from gersgorin.step import Step, declared_state, name_of, real_view, step_of_cell, step_of_function
from rhn.cells import Cell, from_torch
from rhn.errors import InvalidInputError, UsersCodeError
from rhn.utils.torch_private import tree_leaves, tree_map
from rhn.utils.validation import number

METHODS: dict[str, Callable] = {"jacrev": jacrev, "jacfwd": jacfwd}


def temporal_jacobian(cell: Any, x: Tensor, s: Any, *, method: str | None = None) -> Tensor:
    """Compute the Jacobian d s'/d s of one step s' = f(x, s), batched over any leading dimensions.

    Args:
        cell: a cell of `rhn`, an RNN, GRU or LSTM of torch.nn or its *Cell form, a module with
            step(x, s), or a function or module f(x, s) that returns s' or (output, s') for one
            input (m,) and one state (n,). The state of an LSTM is cat(h, c); those of several
            layers are joined, the lowest layer first.
        x: inputs (..., m). Leading dimensions of x and s broadcast.
        s: states (..., n), or a tuple of tensors, which are joined side by side. A complex state
            (..., n) counts as 2 n entries: real and imaginary part of each entry in turn.
        method: "analytic" (closed form, the default if the cell has one), "jacrev" (the default
            otherwise) or "jacfwd". Torch's two compute tanh' = 1 - h^2, which has no correct digits
            if the pre-activation is above 9 in float32, or 19 in float64; closed forms have them.

    Returns the Jacobian A (..., N, N) in the dtype of s, with gradients. A path without a gradient,
    such as `.detach()`, counts as 0. Raises InvalidInputError if the cell does not have the method,
    or the shapes do not fit.

    >>> A = temporal_jacobian(lambda x, s: 2 * s.flip(-1), torch.zeros(1), torch.zeros(2))
    >>> A.tolist()
    [[0.0, 2.0], [2.0, 0.0]]
    """
    return _derivative("jacobian", *_at_rows(cell, x, s), method)


def input_jacobian(cell: Any, x: Tensor, s: Any, *, method: str | None = None) -> Tensor:
    """Compute the Jacobian d s'/d x (..., N, m) of one step s' = f(x, s). Arguments, gradients and
    errors as for `temporal_jacobian`; x must be floating point.

    >>> x, s = torch.tensor([3.0, 5.0]), torch.zeros(1)
    >>> input_jacobian(lambda x, s: s + x[0] * x[1], x, s).tolist()
    [[5.0, 3.0]]
    """
    given = _at_rows(cell, x, s)
    floating = given[2].is_floating_point()
    checks.require(floating, "x", checks.kind(x), "floating point, which has a derivative")
    return _derivative("input_jacobian", *given, method)


def layer_jacobians(
    cell: Any, x: Tensor, s: Any, *, method: str | None = None
) -> Tensor | list[Tensor]:
    """Compute the Jacobians J_1, ..., J_L of the layers within one step. Their product J_L ... J_1
    is the temporal Jacobian, which is the only one for L = 1.

    A layer passes its state s_l (..., N) to the next layer. In a cell with shortcuts, such as a
    DT(S)-RNN, a later layer also reads s, the state before the step; the layers before it pass on
    (s_l, s). The first of these Jacobians is then (2N, N), the middle ones are (2N, 2N), and the
    Jacobian of the last layer with a shortcut is (N, 2N).

    Arguments and errors as for `temporal_jacobian`. A cell of several layers needs a method
    `layer_jacobians(x, s)`. Returns one tensor (L, ..., N, N), or with shortcuts a list of L
    matrices (..., rows, columns).

    >>> step = lambda x, s: 2 * s.flip(-1)
    >>> layer_jacobians(step, torch.zeros(1), torch.zeros(2)).tolist()
    [[[0.0, 2.0], [2.0, 0.0]]]
    """
    step, lead, x, s = _at_rows(cell, x, s)
    own, cell = step.own("layer_jacobians"), step.cell
    depth = cell.depth if isinstance(cell, Cell) else step.depth
    if depth == 1:
        return _derivative("jacobian", step, lead, x, s, method)[None]
    if own is None or method not in (None, "analytic"):
        wanted = "analytic, its own layer_jacobians(x, s)"
        raise InvalidInputError(f"method for {depth} layers of {step.name}: expected {wanted}")
    matrices = [J.reshape(*lead, *J.shape[1:]) for J in own(x, s)]
    return torch.stack(matrices) if len({J.shape for J in matrices}) == 1 else matrices


def trajectory(
    cell: Any, x: Tensor, s0: Any = None, *, state_size: checks.Sizes | None = None
) -> Tensor:
    """Compute the states (T + 1, B, N) of runs along x (T, B, m), s0 first; (T + 1, N) for x (T,
    m).

    s0: the first states (B, N), or a tuple of tensors (B, ...). None: zeros of `state_size`, 5 or
    (5, 5) for two tensors; without it the cell's `initial_state()`, or zeros of its own state_size.
    Raises InvalidInputError if shapes do not fit, or the state is unknown.

    >>> trajectory(lambda x, s: s + x, torch.ones(3, 2), torch.zeros(2)).tolist()
    [[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]
    """
    cell, x = _converted(cell), _tensor("x", x)
    good = x.dim() in (2, 3) and len(x) > 0
    checks.require(good, "x", checks.kind(x), "inputs (T, B, m) or (T, m) of at least one step")
    batch = x.shape[1:-1]
    if s0 is None:
        zeros = checks.first_state(None, state_size)
        s0 = declared_state(cell, x) if zeros is None else zeros
        checks.state_known(name_of(cell), s0 is not None)
        s0 = tree_map(lambda t: t.to(x.dtype).flatten().expand(*batch, t.numel()), s0)
    checks.require(len(tree_leaves(s0)) > 0, "s0", "empty", "at least one tensor")
    step, s = _step_at(cell, s0, batch)
    checks.require(s.shape[:-1] == batch, "s0", checks.kind(s), f"{tuple(batch)} states")
    x, s = (x, s) if batch else (x[:, None], s[None])
    _runs(step, x[0], s)
    if own := step.own("states"):
        found = torch.cat((s[None], own(x, s)))
    else:
        found = torch.stack([*accumulate(x, lambda s, x_t: step.rows(x_t, s), initial=s)])
    return found if batch else found[:, 0]


@torch.no_grad()
def norm_bound(cell: nn.Module, state_bound: float = 1.0) -> Tensor:
    """Bound ||d s'/d s||_2 over all inputs and over all states with entries within +-state_bound
    (0-dim tensor), by the formula next to the equation of each cell in `rhn.cells`. Raises
    InvalidInputError for a cell without a bound.

    >>> from rhn.cells import RNN
    >>> cell = RNN(3, 2)
    >>> _ = cell.weight_hh.data.copy_(torch.tensor([[0.0, 0.5], [0.25, 0.0]]))
    >>> norm_bound(cell).item()
    0.5
    """
    cell = _converted(cell)
    own = getattr(cell, "norm_bound", None)
    if not callable(own):
        raise InvalidInputError(f"norm_bound of {name_of(cell)} is {own}: expected a method")
    bound = own(number("state_bound", state_bound, least=0))
    return torch.as_tensor(bound).reshape(())


def _converted(network: Any) -> Any:
    """A network, with modules of torch.nn as cells of rhn."""
    network = checks.a_network(network)
    of_torch = isinstance(network, nn.RNNBase | nn.RNNCellBase)
    return from_torch(network) if of_torch else network


def _tensor(name: str, value: Any) -> Tensor:
    """A tensor with the user's graph, or NumPy's array as a tensor."""
    value = torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray) else value
    form = not_dense_real(value) if isinstance(value, Tensor) else checks.kind(value)
    is_complex_state = isinstance(value, Tensor) and form == "complex" and name != "x"
    checks.require(
        form is None or is_complex_state, name, form, "a dense tensor or array of numbers"
    )
    return value.clone() if value.is_inference() else value


def _step_at(network: Any, s: Any, lead: torch.Size) -> tuple[Step, Tensor]:
    """The step of a network that is not copied, and the states (..., N) as vectors."""
    s = tree_map(lambda part: _tensor("s", part), s)
    parts, name = tree_leaves(s), name_of(network)
    if isinstance(network, Cell):
        s = torch.cat(parts, -1)
        return step_of_cell(network, name, s), s
    k = len(lead) if all(part.shape[: len(lead)] == lead for part in parts) else 0
    k = s.dim() - 1 if isinstance(s, Tensor) else k
    module = isinstance(network, nn.Module) and not checks.has_step(network)
    several = k > 0 and not isinstance(s, Tensor)
    row = (1,) if module and (several or parts[0].is_complex()) else ()
    like = tree_map(lambda part: part.new_zeros(*row, *part.shape[k:]), s)
    f = network.step if checks.has_step(network) else network
    step = step_of_function(f, like, name, network if isinstance(network, nn.Module) else None)
    return step, torch.cat([real_view(part).flatten(k) for part in parts], -1)


def _at_rows(network: Any, x: Any, s: Any) -> tuple[Step, tuple[int, ...], Tensor, Tensor]:
    """The step, the common leading dimensions of x and s, and these as rows (B, m), (B, N)."""
    x = _tensor("x", x)
    checks.require(len(tree_leaves(s)) > 0, "s", "empty", "at least one tensor")
    step, s = _step_at(_converted(network), s, x.shape[:-1])
    vectors = all(v.dim() > 0 and v.shape[-1] > 0 for v in (x, s))
    checks.require(vectors, "x, s", f"{checks.kind(x)}, {checks.kind(s)}", "vectors")
    try:  # torch's own would import its compiler
        lead = np.broadcast_shapes(x.shape[:-1], s.shape[:-1])
    except ValueError:
        said = f"{tuple(x.shape[:-1])} and {tuple(s.shape[:-1])}"
        raise InvalidInputError(f"leading dimensions of x and s: {said} do not fit") from None
    x, s = (v.expand(*lead, v.shape[-1]).reshape(-1, v.shape[-1]) for v in (x, s))
    _runs(step, x, s)
    return step, lead, x, s


@torch.no_grad()
def _runs(step: Step, x: Tensor, s: Tensor) -> None:
    """Check the step of a user at the first one of rows x (B, m) and s (B, N)."""
    good = s.dtype in (torch.float32, torch.float64)
    checks.require(good, "s", checks.kind(s), "numbers in float32 or float64")
    if len(s) and not isinstance(step.cell, Cell):
        checks.step_runs(step.name, step.rows, x[:1], s[:1])


def _derivative(
    name: str, step: Step, lead: tuple[int, ...], x: Tensor, s: Tensor, method: str | None
) -> Tensor:
    """The Jacobians `name` at rows of x and s, by the method of the cell or by autograd."""
    own, at_s = step.own(name), name == "jacobian"
    known = [*(["analytic"] if own else []), *METHODS]
    checks.require(method in (None, *known), "method", repr(method), " or ".join(known))
    if own and method in (None, "analytic"):
        shapes = f"x {tuple(x.shape)} and s {tuple(s.shape)}"
        with checks.users_code(f"{step.name} takes no step from {shapes}"):
            A = own(x, s)
    else:
        A = _by_autograd(step, x, s, at_s, method)
    shape = len(s), s.shape[1], (x, s)[at_s].shape[1]
    checks.require(A.shape == shape, f"{name} of {step.name}", checks.kind(A), f"{shape}")
    return A.reshape(*lead, *shape[1:])


def _by_autograd(step: Step, x: Tensor, s: Tensor, at_s: bool, method: str | None) -> Tensor:
    """The derivatives by torch's transforms, or row by row if an operation cannot be batched."""
    of_one = METHODS[method or "jacrev"](
        lambda x, s: step.rows(x[None], s[None])[0], argnums=int(at_s)
    )
    try:
        with plain_attention(), checks.users_code(f"{step.name} cannot be differentiated"):
            return vmap(of_one)(x, s).to(s.dtype)  # forward mode may widen tangents
    except UsersCodeError:
        if method:
            raise
    return (jacobians if at_s else input_jacobians)(step, x, s)
