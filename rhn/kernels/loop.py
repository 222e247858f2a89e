"""Any recurrence s[t] = update(W x[t] + b, s[t-1], *weights) as a loop, for K stacked models at
once, differentiated by autograd.

A cell whose equation is one function writes it once: the same function computes a time step of one
model and of K stacked models. The product with the inputs is computed for all time steps together,
forward and backward.

`update(u, s, *weights)` takes u (..., B, G n) and s (..., B, state_size). It multiplies matrices,
(g, k) or (K, g, k), by `product`; vectors, (k,) or (K, B, k), broadcast. With a dropout mask the
matrices are `Masked`: `product` masks the vector that a matrix multiplies.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rhn.kernels.matmul import ALIGNMENT, aligned_bmm

Update = Callable[..., Tensor]


class Masked(NamedTuple):
    """A recurrent matrix (g, k), and the dropout mask (B, k) of the vectors that it multiplies; or
    both with a leading axis of K.
    """

    matrix: Tensor
    mask: Tensor


def reference(
    x: Tensor,
    s0: Tensor,
    W: Tensor,
    b: Tensor,
    state_mask: Tensor | None = None,
    *,
    update: Update,
    graph: list | None = None,
    **weights: Tensor,
) -> Tensor:
    """Compute the states s[1..T] (T, B, state_size) of one model from x (T, B, m), s0 (B,
    state_size), W (G n, m) and b (G n,).

    weights: the vectors (k,) and matrices (g, k) that `update` takes.
    state_mask: the dropout mask (1, B, k) of the vectors that the matrices multiply, without
        gradient, or None.
    graph: an empty list, in which `forward` keeps what the backward pass needs.
    """
    own = [
        w if state_mask is None or w.dim() != 2 else Masked(w, state_mask.squeeze(0))
        for w in weights.values()
    ]
    return _states(update, F.linear(x, W, b), s0, own)


def product(s: Tensor, R: Tensor | Masked) -> Tensor:
    """Return R s for s (..., k) and R (g, k), or for s (K, B, k) and R (K, g, k). A model's numbers
    are the same bits alone or in a stack.
    """
    if isinstance(R, Masked):
        return product(s * R.mask, R.matrix)
    if R.dim() == 2:
        return F.linear(s, R)
    aligned = len(R) == 1 or not any(
        size % ALIGNMENT for size in (s[0].numel(), R[0].numel(), s.shape[1] * R.shape[1])
    )
    return torch.bmm(s, R.mT) if aligned else _Product.apply(s, R)


def _states(update: Update, u: Tensor, s: Tensor, weights: Sequence[Tensor | Masked]) -> Tensor:
    """Return all states after s, for u (..., T, B, G n)."""
    states = itertools.accumulate(u.unbind(-3), lambda s, u_t: update(u_t, s, *weights), initial=s)
    return torch.stack([*states][1:], -3)


def _graph(
    x: Tensor,
    s0: Tensor,
    W: Tensor,
    b: Tensor,
    state_mask: Tensor | None,
    *,
    K: int,
    update: Update,
    **weights: Tensor,
) -> tuple[list[Tensor], Tensor]:
    """Return the leaves of autograd's graph for K models (W x + b for all time steps, s0, weights),
    and the states (K, T, B, state_size) computed from them.
    """
    matrices = [w.dim() == 3 for w in weights.values()]
    own = [
        w.expand(K, -1, -1) if matrix else w.unsqueeze(1).expand(K, x.shape[2], -1)
        for w, matrix in zip(weights.values(), matrices, strict=True)
    ]
    driven = _each(F.linear, K, x, W, b)
    leaves = [
        t.detach().requires_grad_(torch.is_grad_enabled())
        for t in (driven, s0.expand(K, -1, -1), *own)
    ]
    u, s, *own = leaves
    pairs = zip(own, matrices, strict=True)
    masked = [
        Masked(t, state_mask.squeeze(1)) if matrix and state_mask is not None else t
        for t, matrix in pairs
    ]
    return leaves, _states(update, u, s, masked)


def forward(*, graph: list, keep: bool, **call) -> tuple[Tensor]:
    """Return (states (K, T, B, state_size),). With `keep`, `graph` gets their autograd graph for
    the backward pass.
    """
    with torch.set_grad_enabled(keep):
        leaves, states = _graph(**call)
    if keep:
        graph.append((leaves, states))
    return (states.detach(),)


def backward(grad, needs, residuals, *, graph: list, **call) -> dict[str, Tensor | None]:
    """Return the gradients for x, s0, W, b and the weights by name, each with a leading axis of
    K.
    """
    x, W, K = call["x"], call["W"], len(grad)
    leaves, states = graph.pop() if graph else ([], [])
    # a second backward pass, or several gradients of one forward pass, as jacrev takes
    if len(states) != K:
        with torch.enable_grad():
            leaves, states = _graph(**call, K=K)
    du, ds0, *own = torch.autograd.grad(states, leaves, grad, materialize_grads=True)
    dx = _each(torch.matmul, K, du, W) if needs["x"] else None
    dW = _each(lambda dz, x: dz.flatten(0, 1).T @ x.flatten(0, 1), K, du, x)
    names = [*needs][5:]
    own = [
        (g if call[name].dim() == 3 else g.sum(1)).contiguous()
        for name, g in zip(names, own, strict=True)
    ]
    return {"x": dx, "s0": ds0, "W": dW, "b": du.sum((1, 2))} | dict(zip(names, own, strict=True))


class _Product(torch.autograd.Function):
    """A batched product in which every model's result starts on a boundary of 64 bytes. Otherwise
    the bits of small products would differ, see `rhn.kernels.matmul`.
    """

    @staticmethod
    def forward(ctx, s, R):
        ctx.save_for_backward(s, R)
        return aligned_bmm(s, R.mT)

    @staticmethod
    def backward(ctx, grad):
        s, R = ctx.saved_tensors
        return aligned_bmm(grad, R), aligned_bmm(s.mT, grad).mT


def _each(function: Callable[..., Tensor], K: int, *tensors: Tensor) -> Tensor:
    """Call a function for each of K models separately, and stack the results. The tensors are (K or
    1, ...).
    """
    found = [
        function(*one) for one in zip(*(t.expand(K, *t.shape[1:]) for t in tensors), strict=True)
    ]
    return torch.stack(found) if K > 1 else found[0].unsqueeze(0)
