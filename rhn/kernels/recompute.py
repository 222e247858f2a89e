"""Any recurrence s[t] = update(W x[t] + b, s[t-1], weights) as a loop, for K stacked models at once, differentiated by autograd.

For cells whose equation is one function: it is written once, and the same function is the step of one model and that of a stack. The
product with the inputs is made for all time steps together, forward and backward; the rest is repeated, and repeated once more in the
backward pass, of which only the states are kept.

`update(u, s, *weights)` takes u (..., B, G n) and s (..., B, state_size), and multiplies with its weights by `times` (a vector) and
`product` (a matrix), which take the weights of one model, (k,) and (g, k), as well as those of a stack, (K, k) and (K, g, k). Under a
dropout mask the matrices it is given are `Masked`, and `product` masks what enters them.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rhn.kernels import dispatch, validation
from rhn.kernels.autograd import batched_function, stack_size
from rhn.kernels.dispatch import Implementation, Operation
from rhn.kernels.matmul import ALIGNMENT, input_gradient, input_product, weight_gradient

Update = Callable[..., Tensor]


class Masked(NamedTuple):
    """A recurrent matrix (g, k), and the dropout mask (B, k) of what it is multiplied with; or both with a leading axis of K."""

    matrix: Tensor
    mask: Tensor

    def chunk(self, chunks: int, dim: int) -> list["Masked"]:
        """As of a tensor: the gates' blocks of rows, which share the mask."""
        return [Masked(block, self.mask) for block in self.matrix.chunk(chunks, dim)]


def recompute_loop(
    x: Tensor, s0: Tensor, W: Tensor, b: Tensor, *weights: Tensor, update: Update, state_mask: Tensor | None = None
) -> Tensor:
    """States s[1..T] (T, B, state_size); same arguments and values as `recompute_loop_reference`. The mask has no gradient."""
    x, s0, W, b, state_mask = validation.RECOMPUTE_LOOP.validate(x, s0, W, b, state_mask)
    validation.validate_weights(RECOMPUTE_LOOP.name, x, weights)
    if validation.is_traced(x, s0, W, b, *weights, state_mask):
        return recompute_loop_reference(x, s0, W, b, *weights, update=update, state_mask=state_mask)
    return batched_function(RECOMPUTE_LOOP, x, s0, W, b, *weights, state_mask, update=update)


def recompute_loop_reference(
    x: Tensor, s0: Tensor, W: Tensor, b: Tensor, *weights: Tensor, update: Update, state_mask: Tensor | None = None
) -> Tensor:
    """States s[1..T] (T, B, state_size) of one model, for x (T, B, m), s0 (B, state_size), W (G n, m), b (G n,), mask (1, B, k)."""
    x, s, W, b, state_mask = validation.RECOMPUTE_LOOP.validate(x, s0, W, b, state_mask)
    weights = _masked(weights, None if state_mask is None else state_mask.squeeze(0), matrix=2)
    states = []
    for x_t in x:
        s = update(F.linear(x_t, W, b), s, *weights)
        states.append(s)
    return torch.stack(states)


def times(s: Tensor, v: Tensor) -> Tensor:
    """s * v, entry by entry: s (..., k) and v (k,), or s (K, B, k) and v (K, k)."""
    return s * (v if v.dim() == 1 else v.unsqueeze(1))


def plus(s: Tensor, v: Tensor) -> Tensor:
    """s + v, shapes as in `times`."""
    return s + (v if v.dim() == 1 else v.unsqueeze(1))


def product(s: Tensor, R: Tensor | Masked) -> Tensor:
    """R s: s (..., k) and R (g, k), or s (K, B, k) and R (K, g, k); a model's numbers are the same bits alone or in a stack."""
    if isinstance(R, Masked):
        return product(s * R.mask, R.matrix)
    return F.linear(s, R) if R.dim() == 2 else _Product.apply(s, R)


def _forward(x, s0, W, b, *weights_and_mask, update: Update) -> tuple[Tensor]:
    K = stack_size(x, s0, W, b, *weights_and_mask)
    u = input_product(x, W, b, K)
    with torch.no_grad():
        *weights, mask = _of_all(weights_and_mask, K)
        return (_states(u, s0.expand(K, -1, -1), weights, mask, update),)


def _backward(grad, needs, inputs, residuals, *, update: Update) -> tuple[Tensor, ...]:
    """Gradients of (x, s0, W, b, *weights), each with a leading axis of K."""
    (x, s0, W, b, *weights), K = inputs, len(grad)
    *weights, mask = _of_all(weights, K)
    leaves = [t.detach().requires_grad_() for t in (input_product(x, W, b, K), s0.expand(K, -1, -1), *weights)]
    with torch.enable_grad():
        states = _states(*leaves[:2], leaves[2:], mask, update)
    du, ds0, *others = torch.autograd.grad(states, leaves, grad, materialize_grads=True)
    dz = du.flatten(1, 2)
    dx = input_gradient(dz, W, x) if needs[0] else None
    return dx, ds0, weight_gradient(dz, x.flatten(1, 2)), dz.sum(1), *others


def _states(u: Tensor, s: Tensor, weights: list[Tensor], mask: Tensor | None, update: Update) -> Tensor:
    """(K, T, B, state_size)."""
    weights = _masked(weights, None if mask is None else mask.squeeze(1), matrix=3)
    states = []
    for u_t in u.unbind(1):
        s = update(u_t, s, *weights)
        states.append(s)
    return torch.stack(states, 1)


def _of_all(weights, K: int) -> list[Tensor | None]:
    """Weights and a mask, (K or 1, ...) or None, as (K, ...) or None."""
    return [w if w is None else w.expand(K, *w.shape[1:]) for w in weights]


def _masked(weights, mask: Tensor | None, *, matrix: int) -> list[Tensor | Masked]:
    """Those weights that have the dimensions of a matrix with the mask of what enters them."""
    return [w if mask is None or w.dim() < matrix else Masked(w, mask) for w in weights]


class _Product(torch.autograd.Function):
    """A batched product whose results all start where a vector register does: others have other bits, see `rhn.kernels.matmul`."""

    @staticmethod
    def forward(ctx, s, R):
        ctx.save_for_backward(s, R)
        return _bmm(s, R.mT)

    @staticmethod
    def backward(ctx, grad):
        s, R = ctx.saved_tensors
        return _bmm(grad, R), _bmm(grad.mT, s)


def _bmm(a: Tensor, b: Tensor) -> Tensor:
    (K, g, _), k = a.shape, b.shape[-1]
    slots = a.new_empty(K, g * k + -g * k % ALIGNMENT)[:, : g * k].unflatten(1, (g, k))
    return torch.bmm(a, b, out=slots)


RECOMPUTE_LOOP = Operation("recompute", Implementation(dispatch.RECOMPUTE, _forward, _backward))
