"""Losses of an output layer, in nats: for polyphonic music, and softmax cross-entropy. Each has its
equation, and code in C for K stacked models.

Music: the keys of a frame are independent, and the loss of a frame is -log of its probability,

    nll = sum over keys k of  softplus(z_k) - x_k z_k
    z = W y + b the logits, x the keys that sound (0 or 1)

This is written as one autograd Function, because in small networks the 88 keys are most of the
work. With softplus(z) = max(z, 0) - log sigmoid(|z|), the 88 logarithms of a frame become one
logarithm of a product. Each factor is at least 1/2, so in float32 a product of 126 factors cannot
underflow; frames of more keys take one logarithm for each 126 keys. The derivative sigmoid(z) - x
needs no intermediate result. The Function works on stacked models (vmap). Its backward consists of
ordinary operations, so higher derivatives work too.

Softmax: nll = log sum_v exp z_v - z_target, z = U (y mask) + b, with targets (T, B) int64 and a
dropout mask (B, n) or None. All time steps share the mask, so in C the units that it drops in a row
of the batch are left out of all products of that row.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from rhn.errors import InvalidInputError
from rhn.kernels import compiled
from rhn.kernels.compiled import LANES, lanes, padded, rows

# sizes: smaller ones are faster in torch; places of targets are float32 in C
VOCABULARIES = range(1 << 12, 1 << 24)


def frame_nll(logits: Tensor, frames: Tensor, mask: Tensor | None = None) -> Tensor:
    """Compute the negative log-likelihood of each frame, in nats: logits (..., keys), frames (...,
    keys) -> (...). The result is 0 where the mask (...) is False.

    >>> frame_nll(torch.zeros(1, 88), torch.ones(1, 88))  # a fair coin a key: 88 log 2
    tensor([60.9970])
    """
    nll = _FrameNLL.apply(logits, frames)
    return nll if mask is None else nll * mask


class _FrameNLL(torch.autograd.Function):
    @staticmethod
    def forward(logits, frames):
        # the number of factors 1/2 in the smallest normal number
        factors = 1 - math.frexp(torch.finfo(logits.dtype).tiny)[1]
        certainties = torch.abs(logits).sigmoid_().split(factors, -1)
        nll = torch.relu(logits).addcmul_(logits, frames, value=-1).sum(-1)
        for part in certainties:
            nll.sub_(part.prod(-1).log_())
        return nll

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, grad):
        logits, frames = ctx.saved_tensors
        return (torch.sigmoid(logits) - frames) * grad.unsqueeze(-1), None

    @staticmethod
    def vmap(info, in_dims, logits, frames):
        logits, frames = (
            t.unsqueeze(0) if d is None else t.movedim(d, 0)
            for t, d in zip((logits, frames), in_dims, strict=True)
        )
        return _FrameNLL.apply(logits.expand(info.batch_size, *logits.shape[1:]), frames), 0


def output_reference(y: Tensor, W: Tensor, b: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
    """Compute an output layer's loss, summed over all frames, in nats, float64: y (T, B, n), W
    (keys, n), b (keys,), frames (T, B, keys), mask (T, B) in y's dtype.
    """
    return frame_nll(F.linear(y, W, b), frames, mask).sum(dtype=torch.float64)


def output_limit(y: Tensor, **others: Tensor) -> str | None:
    """Return the reason why C does not compute a call; None if it does. For about 100 units and
    more, torch's products are faster.
    """
    units = y.shape[-1]
    if units > compiled.SMALL:
        return f"{units} units are too many for it"
    return compiled.limit(y, units=units)


def output_forward_in_c(y, W, b, frames, mask, *, K: int, keep: bool):
    """Return the summed losses (K,) float64, and with `keep` also their gradients for y (K, T, n,
    rows), W and b.

    A loss is one number, so its gradients are known except for a factor. The gradients are computed
    together with the loss, and no logits are kept.
    """
    (T, B, n), keys = y.shape[1:], W.shape[1]
    totals, filled = y.new_empty(K, dtype=torch.float64), padded(B)
    shapes = (T, n, filled), (keys, n), (keys,)
    dy, dW, db = (y.new_empty(K, *shape) if keep else None for shape in shapes)
    call: dict = {"T": T, "B": B, "n": n, "keys": keys}
    call |= {"y": lanes(y), "W": W, "b": b, "frames": lanes(frames)}
    call |= {"mask": F.pad(mask, (0, filled - B)), "dy": dy, "dW": dW, "db": db, "totals": totals}
    compiled.call_c("rhn_bernoulli", K, **call)
    return (totals, dy, dW, db) if keep else (totals,)


def output_backward_in_c(grad: Tensor, needs, residuals, *, y, **others):
    """Return the gradients for y, W and b by name, each with a leading axis of K."""
    given = {name: t for (name, t) in zip(("y", "W", "b"), residuals, strict=True) if needs[name]}
    factor = grad.to(y.dtype)
    found = {name: t * factor.view(-1, *[1] * (t.dim() - 1)) for name, t in given.items()}
    if "y" in found:
        found["y"] = rows(found["y"], y.shape[2])
    return found


def softmax_reference(
    y: Tensor, U: Tensor, b: Tensor, targets: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Compute -log P(target) (T, B), in nats."""
    y = y if mask is None else y * mask
    logits = F.linear(y, U, b).flatten(0, 1)
    return F.cross_entropy(logits, targets.flatten(), reduction="none").view(targets.shape)


def softmax_limit(y, U, mask, **others) -> str | None:
    """Return the reason why C does not compute a call; None if it does. C is faster only with a
    dropout mask, because it leaves out the dropped units.
    """
    if mask is None:
        return "nothing is dropped"
    if len(U) not in VOCABULARIES:
        return f"it takes vocabularies of {VOCABULARIES.start} to {VOCABULARIES.stop - 1}"
    return compiled.limit(y.flatten(0, 1).unsqueeze(0), units=y.shape[-1])


def softmax_forward_in_c(y, U, b, targets, mask, *, K: int, keep: bool):
    """Return (nll (K, T, B), scale and e of `softmax.h`); the last two only with `keep`."""
    V = U.shape[1]
    if targets.numel() and not (targets.min() >= 0 and targets.max() < V):
        raise InvalidInputError(
            f"targets are from {targets.min()} to {targets.max()}: expected 0 to {V - 1}"
        )
    sizes = _softmax_sizes(y, U)
    B, T, filled, tiles = sizes["groups"], sizes["B"], padded(sizes["B"]), sizes["tiles"]
    nll = y.new_empty(K, B, filled)
    scale, e = (y.new_empty(K, B, tiles, *s) if keep else None for s in ((filled,), (T, LANES)))
    inputs = {
        "y": _by_rows(y),
        "U": U,
        "b": b,
        "mask": mask,
        "targets": _by_rows(targets.to(y.dtype)),
    }
    compiled.call_c("rhn_softmax_forward", K, items=B, **sizes, **inputs, nll=nll, scale=scale, e=e)
    nll = _by_rows(nll[..., :T])
    return (nll, scale, e) if keep else (nll,)


def softmax_backward_in_c(grad, needs, residuals, *, y, U, b, targets, mask):
    """Return the gradients for y, U and b by name, each with a leading axis of K."""
    (scale, e), K = residuals, len(grad)
    sizes, dy = _softmax_sizes(y, U), None
    kept = {
        "targets": _by_rows(targets.to(y.dtype)),
        "mask": mask,
        "scale": scale,
        "e": e,
        "grad": _by_rows(grad),
    }
    if needs["y"]:
        dy = y.new_empty(K, sizes["groups"], sizes["B"], sizes["n"])
        compiled.call_c("rhn_softmax_states", K, items=sizes["groups"], **sizes, **kept, U=U, dy=dy)
        dy = _by_rows(dy)
    dU, db = y.new_empty(K, *U.shape[1:]), y.new_empty(K, U.shape[1])
    compiled.call_c(
        "rhn_softmax_weights", K, items=sizes["tiles"], **sizes, **kept, y=_by_rows(y), dU=dU, db=db
    )
    return {"y": dy, "U": dU, "b": db}


def _softmax_sizes(y: Tensor, U: Tensor) -> dict[str, int]:
    """Return the sizes in the names of `softmax.h`: a row of the batch is a group, whose T time
    steps share a mask.
    """
    (T, B, n), V = y.shape[1:], U.shape[1]
    return {"groups": B, "B": T, "n": n, "V": V, "tiles": -(-V // LANES)}


def _by_rows(t: Tensor) -> Tensor:
    """Swap the axes of time and batch: (K, T, B, ...) -> (K, B, T, ...), and back."""
    return t.transpose(1, 2).contiguous()
