"""Softmax cross-entropy of a linear layer: the reference, and the fused version for K models.

    nll = log sum_v exp z_v - z_target,      z = U (y mask) + b

Shapes: y (T, B, n), U (V, n), b (V,), targets (T, B) int64, the dropout mask (B, n) or None -> nll (T, B) in nats.

With a large vocabulary the rest of a model is small: the fused version overwrites the logits with the probabilities, which are all that
the backward pass needs:  d nll / dz = p - [v = target].

All steps share the mask, so in C the units that it drops in a row of the batch are left out of all products of that row.
"""

import torch.nn.functional as F
from torch import Tensor

from rhn.errors import InvalidInputError
from rhn.kernels.autograd import stack_size
from rhn.kernels.compiled import call
from rhn.kernels.compiled.call import LANES, padded
from rhn.kernels.matmul import input_gradient, input_product, weight_gradient

LARGEST_VOCABULARY = 1 << 24  # places of targets are float32 in C


def softmax_nll_reference(y: Tensor, U: Tensor, b: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
    """-log P(target), (T, B)."""
    y = y if mask is None else y * mask
    return -F.linear(y, U, b).log_softmax(-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)


def softmax_nll_forward(y, U, b, targets, mask, *, keep: bool):
    """(nll (K, T, B), probabilities (K, T, B, V))."""
    K = stack_size(y, U, b, targets, mask)
    z = input_product(_masked(y, mask), U, b, K)
    z.sub_(z.amax(-1, keepdim=True))
    picked = z.gather(-1, targets.expand(K, -1, -1).unsqueeze(-1)).squeeze(-1)
    total = z.exp_().sum(-1)
    z.div_(total.unsqueeze(-1))
    return total.log_().sub_(picked), z


def softmax_nll_backward(grad, needs, inputs, residuals):
    """Gradients of (y, U, b), each with a leading axis of K."""
    (y, U, _, targets, mask), (p,) = inputs, residuals
    dz = p * grad.unsqueeze(-1)
    dz.scatter_add_(-1, targets.expand(len(p), -1, -1).unsqueeze(-1), -grad.unsqueeze(-1))
    dz = dz.flatten(1, 2)
    y = _masked(y, mask)
    dy = _masked(input_gradient(dz, U, y), mask) if needs[0] else None
    return dy, weight_gradient(dz, y.flatten(1, 2)), dz.sum(1)


def limit(y, U, b, targets, mask) -> str | None:
    """Why the C version does not compute a call; None if it does."""
    V = len(U)
    if V >= LARGEST_VOCABULARY:
        return f"a vocabulary of {V} is too large for it"
    return call.limit(y.flatten(0, 1).unsqueeze(0), units=y.shape[-1])


def forward_in_c(y, U, b, targets, mask, *, keep: bool):
    """(nll (K, T, B); scale and e of `softmax.h`); the last two only with `keep`."""
    K, V = stack_size(y, U, b, targets, mask), U.shape[1]
    if targets.numel() and not (targets.min() >= 0 and targets.max() < V):
        raise InvalidInputError(f"targets are from {targets.min()} to {targets.max()}: expected 0 to {V - 1}")
    inputs, sizes = _in_groups(y, U, targets, mask)
    groups, rows, tiles = sizes["groups"], padded(sizes["B"]), sizes["tiles"]
    nll = y.new_empty(K, groups, rows)
    scale, e = (y.new_empty(K, groups, tiles, *s) if keep else None for s in ((rows,), (sizes["B"], LANES)))
    call.call("rhn_softmax_forward", K, items=groups, **sizes, **inputs, b=b.contiguous(), nll=nll, scale=scale, e=e)
    nll = _from_groups(nll[..., : sizes["B"]], y, mask)
    return (nll, scale, e) if keep else (nll,)


def backward_in_c(grad, needs, inputs, residuals):
    """Gradients of (y, U, b), each with a leading axis of K."""
    (y, U, _, targets, mask), (scale, e), K = inputs, (r.contiguous() for r in residuals), len(grad)
    inputs, sizes = _in_groups(y, U, targets, mask)
    shared = {"targets": inputs["targets"], "mask": inputs["mask"], "scale": scale, "e": e, "grad": _groups(grad, mask)}
    y_grouped, dy = inputs["y"], None
    if needs[0]:
        dy = y.new_empty(K, *y_grouped.shape[1:])
        call.call("rhn_softmax_states", K, items=sizes["groups"], **sizes, **shared, U=inputs["U"], dy=dy)
        dy = _from_groups(dy, y, mask)
    dU, db = y.new_empty(K, *U.shape[1:]), y.new_empty(K, U.shape[1])
    call.call("rhn_softmax_weights", K, items=sizes["tiles"], **sizes, **shared, y=y_grouped, dU=dU, db=db)
    return dy, dU, db


def _in_groups(y: Tensor, U: Tensor, targets: Tensor, mask: Tensor | None) -> tuple[dict, dict[str, int]]:
    """Tensors and sizes as `softmax.h` takes them."""
    grouped, V = _groups(y, mask), U.shape[1]
    sizes = {"groups": grouped.shape[1], "B": grouped.shape[2], "n": y.shape[-1], "V": V, "tiles": -(-V // LANES)}
    mask_given = None if mask is None else mask.contiguous()
    return {"y": grouped, "U": U.contiguous(), "targets": _groups(targets.to(y.dtype), mask), "mask": mask_given}, sizes


def _groups(t: Tensor, mask: Tensor | None) -> Tensor:
    """(K, T, B, ...) -> (K, groups, rows, ...): the rows that share a mask; without one 32 in a group, zeros in those that fill up."""
    if mask is not None:
        return t.transpose(1, 2).contiguous()
    flat = t.flatten(1, 2)
    filled = padded(flat.shape[1]) - flat.shape[1]
    return F.pad(flat, (*[0] * (2 * flat.dim() - 4), 0, filled)).unflatten(1, (-1, LANES)).contiguous()


def _from_groups(t: Tensor, like: Tensor, mask: Tensor | None) -> Tensor:
    """The inverse of `_groups`, for the steps and rows of a tensor (K, T, B, ...)."""
    if mask is not None:
        return t.transpose(1, 2).contiguous()
    T, B = like.shape[1:3]
    return t.flatten(1, 2)[:, : T * B].unflatten(1, (T, B)).contiguous()


def _masked(t: Tensor, mask: Tensor | None) -> Tensor:
    """Tensors (K, T, B, n) times masks (K, B, n)."""
    return t if mask is None else t * mask.unsqueeze(1)
