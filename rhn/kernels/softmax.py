"""Softmax cross-entropy of a linear layer: the equation, and C for K models whose outputs are dropped.

    nll = log sum_v exp z_v - z_target,      z = U (y mask) + b

Shapes: y (T, B, n), U (V, n), b (V,), targets (T, B) int64, the dropout mask (B, n) or None -> nll (T, B) in nats.

All steps share the mask, so in C the units that it drops in a row of the batch are left out of all products of that row.
"""

import torch.nn.functional as F
from torch import Tensor

from rhn.errors import InvalidInputError
from rhn.kernels.autograd import stack_size
from rhn.kernels.compiled import call
from rhn.kernels.compiled.call import LANES, padded

VOCABULARIES = range(1 << 12, 1 << 24)  # smaller ones are faster in torch; places of targets are float32 in C


def softmax_nll_reference(y: Tensor, U: Tensor, b: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
    """-log P(target), (T, B)."""
    y = y if mask is None else y * mask
    logits = F.linear(y, U, b).flatten(0, 1)
    return F.cross_entropy(logits, targets.flatten(), reduction="none").view(targets.shape)


def limit(y, U, b, targets, mask) -> str | None:
    """Why C does not compute a call; None if it does. Without a mask, which lets it leave out units, torch is faster."""
    if mask is None:
        return "nothing is dropped"
    if len(U) not in VOCABULARIES:
        return f"it takes vocabularies of {VOCABULARIES.start} to {VOCABULARIES.stop - 1}"
    return call.limit(y.flatten(0, 1).unsqueeze(0), units=y.shape[-1])


def forward_in_c(y, U, b, targets, mask, *, keep: bool):
    """(nll (K, T, B); scale and e of `softmax.h`); the last two only with `keep`."""
    K, V = stack_size(y, U, b, targets, mask), U.shape[1]
    if targets.numel() and not (targets.min() >= 0 and targets.max() < V):
        raise InvalidInputError(f"targets are from {targets.min()} to {targets.max()}: expected 0 to {V - 1}")
    sizes = _sizes(y, U)
    B, T, rows, tiles = sizes["groups"], sizes["B"], padded(sizes["B"]), sizes["tiles"]
    nll = y.new_empty(K, B, rows)
    scale, e = (y.new_empty(K, B, tiles, *s) if keep else None for s in ((rows,), (T, LANES)))
    inputs = {"y": _by_rows(y), "U": U.contiguous(), "b": b.contiguous(), "mask": mask.contiguous()}
    words = _by_rows(targets.to(y.dtype))
    call.call("rhn_softmax_forward", K, items=B, **sizes, **inputs, targets=words, nll=nll, scale=scale, e=e)
    nll = _by_rows(nll[..., :T])
    return (nll, scale, e) if keep else (nll,)


def backward_in_c(grad, needs, inputs, residuals):
    """Gradients of (y, U, b), each with a leading axis of K."""
    (y, U, _, targets, mask), (scale, e), K = inputs, (r.contiguous() for r in residuals), len(grad)
    sizes, dy = _sizes(y, U), None
    kept = {
        "targets": _by_rows(targets.to(y.dtype)),
        "mask": mask.contiguous(),
        "scale": scale,
        "e": e,
        "grad": _by_rows(grad),
    }
    if needs[0]:
        dy = y.new_empty(K, sizes["groups"], sizes["B"], sizes["n"])
        call.call("rhn_softmax_states", K, items=sizes["groups"], **sizes, **kept, U=U.contiguous(), dy=dy)
        dy = _by_rows(dy)
    dU, db = y.new_empty(K, *U.shape[1:]), y.new_empty(K, U.shape[1])
    call.call("rhn_softmax_weights", K, items=sizes["tiles"], **sizes, **kept, y=_by_rows(y), dU=dU, db=db)
    return dy, dU, db


def _sizes(y: Tensor, U: Tensor) -> dict[str, int]:
    """Sizes as `softmax.h` has them: a row of the batch is a group, whose T steps share a mask."""
    (T, B, n), V = y.shape[1:], U.shape[1]
    return {"groups": B, "B": T, "n": n, "V": V, "tiles": -(-V // LANES)}


def _by_rows(t: Tensor) -> Tensor:
    """(K, T, B, ...) -> (K, B, T, ...), and back."""
    return t.transpose(1, 2).contiguous()
