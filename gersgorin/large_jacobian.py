"""The Jacobian of one step of a large state, by its products with vectors, without the matrix.

Legend: m inputs, N entries of a state, Q (N, k), W (k, N).
"""

from functools import cached_property

import torch
from torch import Tensor

from gersgorin import checks
from gersgorin.autodiff import plain_attention, vjps, with_gradients
from gersgorin.step import Step


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
