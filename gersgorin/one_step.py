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
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import jacfwd, jacrev

from gersgorin import checks
from gersgorin.jacobians import Argument, by_passes, by_transforms
from gersgorin.kinds import has_step
from gersgorin.packing import real_view
from gersgorin.run import step_runs
from gersgorin.step import (
    Step,
    declared_state,
    name_of,
    state_known,
    step_of_cell,
    step_of_function,
)
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
    return _temporal(*_at_rows(cell, x, s), method)


def input_jacobian(cell: Any, x: Tensor, s: Any, *, method: str | None = None) -> Tensor:
    """Compute the Jacobian d s'/d x (..., N, m) of one step s' = f(x, s). Arguments, gradients and
    errors as for `temporal_jacobian`; x must be floating point.

    >>> x, s = torch.tensor([3.0, 5.0]), torch.zeros(1)
    >>> input_jacobian(lambda x, s: s + x[0] * x[1], x, s).tolist()
    [[5.0, 3.0]]
    """
    step, lead, rows, states = _at_rows(cell, x, s)
    floating = rows.is_floating_point()
    checks.require(floating, "x", checks.kind(x), "floating point, which has a derivative")
    return _by_input(step, lead, rows, states, method)


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
        return _temporal(step, lead, x, s, method)[None]
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
        state_known(name_of(cell), s0 is not None)
        s0 = tree_map(lambda t: t.to(x.dtype).flatten().expand(*batch, t.numel()), s0)
    checks.require(len(tree_leaves(s0)) > 0, "s0", "empty", "at least one tensor")
    step, s = _step_at(cell, s0, batch)
    checks.require(s.shape[:-1] == batch, "s0", checks.kind(s), f"{tuple(batch)} states")
    x, s = (x, s) if batch else (x[:, None], s[None])
    _runs(step, x[0], s)
    found = step.states(x, s)
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
    """A tensor with the user's graph, or an array as a tensor; only a state may be complex."""
    value = checks.tensor_of(name, value)
    checks.require(name != "x" or not value.is_complex(), name, "complex", checks.DENSE)
    return value.clone() if value.is_inference() else value


def _step_at(network: Any, s: Any, lead: torch.Size) -> tuple[Step, Tensor]:
    """The step of a network that is not copied, and the states (..., N) as vectors."""
    s = tree_map(lambda part: _tensor("s", part), s)
    if isinstance(network, Cell):
        return _at_state_of_cell(network, s)
    if isinstance(s, Tensor):
        return _at_one_tensor(network, s)
    return _at_several_tensors(network, s, lead)


def _at_state_of_cell(cell: Cell, s: Any) -> tuple[Step, Tensor]:
    joined = torch.cat(tree_leaves(s), -1)
    return step_of_cell(cell, name_of(cell), joined), joined


def _at_one_tensor(network: Any, s: Tensor) -> tuple[Step, Tensor]:
    """A network whose state is one tensor, at states (..., n)."""
    leading = s.dim() - 1
    like = s.new_zeros(s.shape[leading:])
    if _is_module(network) and s.is_complex():
        like = like[None]
    return _step_like(network, like), real_view(s).flatten(leading)


def _at_several_tensors(network: Any, s: Any, lead: torch.Size) -> tuple[Step, Tensor]:
    """A network whose state has several tensors, at states that all begin with the axes `lead`, or
    at one state.
    """
    parts = tree_leaves(s)
    has_lead = all(part.shape[: len(lead)] == lead for part in parts)
    leading = len(lead) if has_lead else 0
    like = tree_map(lambda part: part.new_zeros(part.shape[leading:]), s)
    reads_rows = leading > 0 or parts[0].is_complex()
    if _is_module(network) and reads_rows:
        like = tree_map(lambda part: part[None], like)
    vectors = [real_view(part).flatten(leading) for part in parts]
    return _step_like(network, like), torch.cat(vectors, -1)


def _is_module(network: Any) -> bool:
    """True for a module (x, state), which is none with step(x, s)."""
    return isinstance(network, nn.Module) and not has_step(network)


def _step_like(network: Any, like: Any) -> Step:
    """The step of a network whose state of one row is like these tensors."""
    f = network.step if has_step(network) else network
    cell = network if isinstance(network, nn.Module) else None
    return step_of_function(f, like, name_of(network), cell)


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
        step_runs(step, x[:1], s[:1])


def _temporal(
    step: Step, lead: tuple[int, ...], x: Tensor, s: Tensor, method: str | None
) -> Tensor:
    """ds'/ds (*lead, N, N) at rows of x and s."""
    A = _derivative(step, step.own("jacobian"), x, s, "s", method)
    N = s.shape[1]
    return _checked(f"jacobian of {step.name}", A, (len(s), N, N)).reshape(*lead, N, N)


def _by_input(
    step: Step, lead: tuple[int, ...], x: Tensor, s: Tensor, method: str | None
) -> Tensor:
    """ds'/dx (*lead, N, m) at rows of x and s."""
    A = _derivative(step, step.own("input_jacobian"), x, s, "x", method)
    N, m = s.shape[1], x.shape[1]
    return _checked(f"input_jacobian of {step.name}", A, (len(s), N, m)).reshape(*lead, N, m)


def _derivative(
    step: Step, own: Callable | None, x: Tensor, s: Tensor, argument: Argument, method: str | None
) -> Tensor:
    """A derivative by the closed form `own` of a cell, or by autograd: by torch's transforms, or by
    passes if an operation cannot be batched.
    """
    known = ["analytic", *METHODS] if own else [*METHODS]
    checks.require(method in (None, *known), "method", repr(method), " or ".join(known))
    if own and method in (None, "analytic"):
        shapes = f"x {tuple(x.shape)} and s {tuple(s.shape)}"
        with checks.users_code(f"{step.name} takes no step from {shapes}"):
            return own(x, s)
    try:
        return by_transforms(step, x, s, argument, METHODS[method or "jacrev"])
    except UsersCodeError:
        if method:
            raise
    return by_passes(step, x, s, argument, 0)


def _checked(name: str, A: Tensor, shape: tuple[int, ...]) -> Tensor:
    checks.require(A.shape == shape, name, checks.kind(A), f"{shape}")
    return A
