"""Every derivative of a step at rows x (B, m) and s (B, N).

    jacobians             ds'/ds (B, N, N)
    input_jacobians       ds'/dx (B, N, m)
    by_transforms         either one, with gradients to the weights of the step
    with_scale            derivatives that over- or underflow, as M 2^e
    LargeJacobian         products of ds'/ds with vectors, without the matrix

A cell with a closed form uses it. All other steps are differentiated by autograd: rows do not see
each other, so one reverse pass from entry i of the next states gives row i of every Jacobian, and N
batched passes give everything. A step that writes in place, as into a cache, has no reverse pass;
one forward pass for each column takes its place.

Legend: B rows, m inputs, N entries of a state, Q (N, k), W (k, N).
"""

from collections.abc import Callable
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import vmap

from gersgorin import checks
from gersgorin.autodiff import plain_attention, vjps, with_gradients
from gersgorin.step import Step
from rhn.utils.scale import Scaled, out_of_range, scaled

Argument = Literal["x", "s"]
ARGUMENTS: tuple[Argument, ...] = ("x", "s")


def jacobians(step: Step, x: Tensor, s: Tensor, first: int | None = 0) -> Tensor:
    """Return ds'/ds (B, N, N), with A[b, i, j] = ds'_i/ds_j, at rows x (B, m) and s (B, N).

    first: the number of the first row, for messages. Raises NotFiniteError for a derivative by
    autograd that is NaN or infinite; not for `first` None.

    >>> from gersgorin.step import as_step
    >>> step, x = as_step(lambda x, s: 2 * s.flip(-1), torch.zeros(1, 1), torch.zeros(2))
    >>> jacobians(step, x, torch.zeros(1, 2))[0].tolist()
    [[0.0, 2.0], [2.0, 0.0]]
    """
    if own := step.own("jacobian"):
        with torch.no_grad():
            return own(x, s)
    return by_passes(step, x, s, "s", first)


def input_jacobians(step: Step, x: Tensor, s: Tensor, first: int = 0) -> Tensor:
    """Return ds'/dx (B, N, m); for ids, which have no derivative, NaN (B, N, 1). Arguments and
    errors as for `jacobians`.
    """
    if not x.is_floating_point():
        return s.new_full((*s.shape, 1), torch.nan)
    if own := step.own("input_jacobian"):
        with torch.no_grad():
            return own(x, s)
    return by_passes(step, x, s, "x", first)


def by_passes(step: Step, x: Tensor, s: Tensor, argument: Argument, first: int | None) -> Tensor:
    """The derivatives by reverse passes, or by forward passes for a step that writes in place."""
    with checks.users_code(f"{step.name} cannot be differentiated"):
        try:
            A = by_reverse_passes(step, x, s, argument)
        except RuntimeError as error:  # a step that writes in place
            if "numpy" in str(error):  # in a forward pass, NumPy drops derivatives without an error
                raise
            A = by_forward_passes(step, x, s, argument)
    if first is not None:
        checks.are_finite(f"derivative of {step.name}", A, first)
    return A


@with_gradients()
def by_reverse_passes(step: Step, x: Tensor, s: Tensor, argument: Argument) -> Tensor:
    """The derivatives row by row: one batched reverse pass from each entry of the next states."""
    given = {"x": x.detach().clone(), "s": s.detach().clone()}
    leaf = given[argument].requires_grad_()
    after = step.rows(given["x"], given["s"])
    B, N = after.shape
    W = torch.eye(N, dtype=s.dtype, device=s.device)[:, None].expand(N, B, N)
    return vjps(after, [leaf], W)[0].transpose(0, 1).detach()


def by_forward_passes(step: Step, x: Tensor, s: Tensor, argument: Argument) -> Tensor:
    """The derivatives column by column: one forward pass along each entry of the argument."""
    columns = list[Tensor]()
    size = {"x": x, "s": s}[argument].shape[1]
    for e in torch.eye(size, dtype=s.dtype, device=s.device):
        given = {"x": x.clone(), "s": s.clone()}
        with torch.inference_mode(False), forward_ad.dual_level():
            v = given[argument]
            given[argument] = forward_ad.make_dual(v, e.expand_as(v).clone())
            y, tangent = forward_ad.unpack_dual(step.rows(given["x"], given["s"]))
            columns.append(torch.zeros_like(y) if tangent is None else tangent.to(y).detach())
    return torch.stack(columns, -1)


def by_transforms(
    step: Step, x: Tensor, s: Tensor, argument: Argument, transform: Callable
) -> Tensor:
    """The derivatives by `torch.func.jacrev` or `jacfwd` of one row, mapped over the rows, with
    gradients to the weights of the step. Raises UsersCodeError for an operation that cannot be
    batched.
    """

    def of_one(x: Tensor, s: Tensor) -> Tensor:
        return step.rows(x[None], s[None])[0]

    derivative = transform(of_one, argnums=ARGUMENTS.index(argument))
    with plain_attention(), checks.users_code(f"{step.name} cannot be differentiated"):
        return vmap(derivative)(x, s).to(s.dtype)  # forward mode may widen tangents


def with_scale(step: Step, name: str, A: Tensor, x: Tensor, s: Tensor) -> Scaled:
    """Write the derivatives A (B, N, k) that the method `name` of a cell computes at rows x and s
    as M 2^e. The integer e is 0 unless A over- or underflows and the cell has a scaled form.
    """
    lost = out_of_range(A)
    e, own = torch.zeros_like(lost, dtype=torch.long), step.own(f"scaled_{name}")
    if own and lost.any():
        with torch.no_grad():
            M, e[lost] = scaled(*own(x[lost], s[lost]))
        A = A.index_put((lost.nonzero()[:, 0],), M)
    return A, e


class LargeJacobian:
    """The Jacobian A (N, N) of one step at x (m,) and s (N,), by its products only.

    >>> from gersgorin.step import as_step
    >>> step, x = as_step(lambda x, s: 2 * s.flip(-1), torch.zeros(1, 1), torch.zeros(2))
    >>> LargeJacobian(step, x[0], torch.zeros(2)).push(torch.tensor([[1.0], [0.0]])).tolist()
    [[0.0], [2.0]]
    """

    @with_gradients()
    def __init__(self, step: Step, x: Tensor, s: Tensor):
        self._name, self._s = step.name, s.detach().clone().requires_grad_()
        with checks.users_code(f"{step.name} cannot be differentiated"), plain_attention():
            self._after = step.rows(x.clone()[None], self._s[None])[0]

    def pull(self, W: Tensor) -> Tensor:
        """W A, (k, N)."""
        return vjps(self._after, [self._s], W)[0]

    def push(self, Q: Tensor) -> Tensor:
        """A Q, (N, k)."""
        if not self._after.requires_grad:
            return torch.zeros_like(Q)
        with checks.users_code(f"{self._name} has no second derivative"):
            w, pulled = self._reverse_pass
            return vjps(pulled, [w], Q.T)[0].T

    @cached_property
    @with_gradients()
    def _reverse_pass(self) -> tuple[Tensor, Tensor]:
        """(w, A^T w). This is linear in w, so a reverse pass through it is v -> A v."""
        w = torch.zeros_like(self._after, requires_grad=True)
        how = {"create_graph": True, "allow_unused": True, "materialize_grads": True}
        return w, torch.autograd.grad(self._after, self._s, w, **how)[0]

    def push_row(self, v: Tensor) -> Tensor:
        """A v of a vector (1, N), as (1, N)."""
        return self.push(v.T).T.detach()

    def rows(self, now: slice) -> Tensor:
        """The rows `now` of A."""
        W = self._s.new_zeros(now.stop - now.start, len(self._s))
        W.diagonal(now.start).fill_(1)
        return self.pull(W)
