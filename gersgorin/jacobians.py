"""Derivatives of a step at many rows, in one batched way.

    jacobians(step, x, s)          ds'/ds (B, N, N)
    input_jacobians(step, x, s)    ds'/dx (B, N, m)
    LargeJacobian(step, x, s)      one large step, as products A Q and W A, without the matrix

A cell with a closed form uses it. All other steps are differentiated by autograd: rows do not see
each other, so one reverse pass from entry i of the next states gives row i of every Jacobian, and N
batched passes give everything. A step that writes in place, as into a cache, has no reverse pass;
one forward pass for each column takes its place.

Legend: B rows, m inputs, N entries of a state, Q (N, k), W (k, N).
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import forward_ad

from gersgorin import door
from gersgorin.autodiff import Linearized, vjps, with_gradients
from gersgorin.step import Step
from rhn.utils.scale import Scaled, out_of_range, scaled


def jacobians(step: Step, x: Tensor, s: Tensor, first: int | None = 0) -> Tensor:
    """Return ds'/ds (B, N, N), with A[b, i, j] = ds'_i/ds_j, at rows x (B, m) and s (B, N).

    first: the number of the first row, for messages. Raises NotFiniteError for a derivative by
    autograd that is NaN or infinite; not for `first` None.

    >>> from gersgorin.step import as_step
    >>> step, x = as_step(lambda x, s: 2 * s.flip(-1), torch.zeros(1, 1), torch.zeros(2))
    >>> jacobians(step, x, torch.zeros(1, 2))[0].tolist()
    [[0.0, 2.0], [2.0, 0.0]]
    """
    own = step.own("jacobian")
    return _closed(own, x, s) if own else _by_autograd(step, x, s, 1, first)


def input_jacobians(step: Step, x: Tensor, s: Tensor, first: int = 0) -> Tensor:
    """Return ds'/dx (B, N, m); for ids, which have no derivative, NaN (B, N, 1). Arguments and
    errors as for `jacobians`.
    """
    if not x.is_floating_point():
        return s.new_full((*s.shape, 1), torch.nan)
    own = step.own("input_jacobian")
    return _closed(own, x, s) if own else _by_autograd(step, x, s, 0, first)


@torch.no_grad()
def _closed(own: Callable, x: Tensor, s: Tensor) -> Tensor:
    return own(x, s)


def _by_autograd(step: Step, x: Tensor, s: Tensor, argument: int, first: int | None) -> Tensor:
    """The derivative with respect to x (0) or s (1)."""
    with door.users_code(f"{step.name} cannot be differentiated"):
        try:
            A = _by_reverse_passes(step, x, s, argument)
        except RuntimeError as error:  # a step that writes in place
            if "numpy" in str(error):  # in a forward pass, NumPy drops derivatives without an error
                raise
            A = _by_forward_passes(step, x, s, argument)
    if first is not None:
        door.are_finite(f"derivative of {step.name}", A, first)
    return A


@with_gradients()
def _by_reverse_passes(step: Step, x: Tensor, s: Tensor, argument: int) -> Tensor:
    given = [x.detach().clone(), s.detach().clone()]
    leaf = given[argument].requires_grad_()
    after = step.rows(*given)
    B, N = after.shape
    W = torch.eye(N, dtype=s.dtype, device=s.device)[:, None].expand(N, B, N)
    return vjps(after, [leaf], W)[0].transpose(0, 1).detach()


def _by_forward_passes(step: Step, x: Tensor, s: Tensor, argument: int) -> Tensor:
    columns = list[Tensor]()
    for e in torch.eye((x, s)[argument].shape[1], dtype=s.dtype, device=s.device):
        given = [x.clone(), s.clone()]
        with torch.inference_mode(False), forward_ad.dual_level():
            v = given[argument]
            given[argument] = forward_ad.make_dual(v, e.expand_as(v).clone())
            y, tangent = forward_ad.unpack_dual(step.rows(*given))
            columns.append(torch.zeros_like(y) if tangent is None else tangent.to(y).detach())
    return torch.stack(columns, -1)


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

    def __init__(self, step: Step, x: Tensor, s: Tensor):
        with door.users_code(f"{step.name} cannot be differentiated"):
            self._A = Linearized(lambda s, x: step.rows(x[None], s[None])[0], s, x)
        self.pull = self._A.pull
        self._name, self._s = step.name, s

    def push(self, Q: Tensor) -> Tensor:
        """A Q, (N, k)."""
        with door.users_code(f"{self._name} has no second derivative"):
            return self._A.push(Q)

    def push_row(self, v: Tensor) -> Tensor:
        """A v of a vector (1, N), as (1, N)."""
        return self.push(v.T).T.detach()

    def rows(self, now: slice) -> Tensor:
        """The rows `now` of A."""
        W = self._s.new_zeros(now.stop - now.start, len(self._s))
        W.diagonal(now.start).fill_(1)
        return self.pull(W)


def central_differences(step: Step, x: Tensor, s: Tensor, v: Tensor) -> Tensor:
    """A v (B, N) by a central difference of the step, at rows x (B, m), s (B, N), v (B, N)."""
    h = torch.finfo(s.dtype).eps ** (1 / 3)
    with torch.no_grad():
        return (step.rows(x, s + h * v) - step.rows(x, s - h * v)) / (2 * h)
