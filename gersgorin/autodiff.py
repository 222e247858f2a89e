"""Products with Jacobians by autograd: many at once, or one by one if an operation cannot be
batched.

    vjps(y, v, W)          W dy/dv      reverse passes through the graph of y, one for each row of W
    Linearized(f, v)       A = df/dv    a graph that is kept: W A, A Q and A itself

A reverse pass w -> A^T w is linear in w. A reverse pass through this pass is therefore v -> A v, so
`vjps` and `Linearized` need no forward mode.

Legend: y (N,) = f(v), v (M,), W (b, N), Q (M, k).
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor
from torch.func import vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

BLOCK = 1 << 22  # numbers of derivatives computed at once
# beginning of torch's warning for an operation that it repeats row by row
SLOW = "There is a performance drop"


def vjps(y: Tensor, inputs: Sequence[Tensor], w: Tensor) -> list[Tensor]:
    """Vector-Jacobian products w[j] dy/d(input) for each input and weights w (b, *y.shape): tensors
    (b, *input.shape), zero if y does not depend on the input.

    The graph is kept.

    >>> v = torch.ones(2, requires_grad=True)
    >>> vjps(3 * v, [v], torch.eye(2))[0].tolist()
    [[3.0, 0.0], [0.0, 3.0]]
    """
    how = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
    pull = partial(torch.autograd.grad, y, inputs, **how)
    if not inputs or not y.requires_grad:
        return [torch.zeros_like(v).expand(len(w), *v.shape) for v in inputs]
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", SLOW)
            return [*vmap(pull)(w)]
    except RuntimeError:  # an operation that cannot be batched
        return [*map(torch.stack, zip(*map(pull, w), strict=True))]


@contextmanager
def with_gradients() -> Iterator[None]:
    """Context manager and decorator that turns gradients on; the caller's mode is restored
    afterwards. Tensors created in inference mode cannot have gradients even here; their clones can.

    >>> with torch.no_grad(), with_gradients():
    ...     torch.is_grad_enabled()
    True
    """
    with torch.inference_mode(False), torch.enable_grad():
        yield


@contextmanager
def plain_attention() -> Iterator[None]:
    """Compute attention in plain operations: fused kernels have no second derivatives."""
    with sdpa_kernel(SDPBackend.MATH):
        yield


class Linearized:
    """The derivative A = df/dv of a function f(v, x) at one point, known by its products."""

    def __init__(self, f: Callable[..., Tensor], v: Tensor, *x: Tensor):
        with with_gradients(), plain_attention():
            self._v = v.detach().clone().requires_grad_()
            self.y = f(self._v, *(each.clone() for each in x))
        self._pulled: Tensor | None = None

    def pull(self, W: Tensor) -> Tensor:
        """W A, (b, M)."""
        return vjps(self.y, [self._v], W)[0]

    def push(self, Q: Tensor) -> Tensor:
        """A Q, (N, k). Raises RuntimeError for a function without a second derivative."""
        if not self.y.requires_grad:
            return Q.new_zeros(len(self.y), Q.shape[1])
        if self._pulled is None:
            with with_gradients():
                self._w = torch.zeros_like(self.y, requires_grad=True)
                how = {"create_graph": True, "allow_unused": True, "materialize_grads": True}
                (self._pulled,) = torch.autograd.grad(self.y, self._v, self._w, **how)
        return vjps(self._pulled, [self._w], Q.T)[0].T

    def matrix(self) -> Tensor:
        """A, (N, M)."""
        return self.pull(torch.eye(len(self.y), dtype=self.y.dtype, device=self.y.device))
