"""Losses of an output layer, in nats: for polyphonic music, and softmax cross-entropy. Each has its
equation, and code in C for K stacked models.

Music: the keys of a frame are independent, and the loss of a frame is -log of its probability,

    nll = sum over keys k of  softplus(z_k) - x_k z_k
    z = W y + b the logits, x the keys that sound (0 or 1)

With softplus(z) = max(z, 0) - log sigmoid(|z|), the 88 logarithms of a frame become one logarithm
of a product. Each factor is at least 1/2, so in float32 a product of 126 factors cannot underflow.

Softmax: nll = log sum_v exp z_v - z_target, z = U (y mask) + b, with targets (T, B) int64. All time
steps share the dropout mask, so in C the units that it drops in a row are left out of all products.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from rhn.errors import InvalidInputError
from rhn.kernels import compiled
from rhn.kernels.compiled import LANES, lanes, padded, rows
from rhn.kernels.kernel import Kernel
from rhn.kernels.matmul import Mask, masked

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
        pairs = zip((logits, frames), in_dims, strict=True)
        logits, frames = (t[None] if d is None else t.movedim(d, 0) for t, d in pairs)
        return _FrameNLL.apply(logits.expand(info.batch_size, *logits.shape[1:]), frames), 0


def output_reference(y: Tensor, W: Tensor, b: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
    """Compute an output layer's loss, summed over all frames, in nats, float64."""
    return frame_nll(F.linear(y, W, b), frames, mask).sum(dtype=torch.float64)


def output_supports(y: Tensor, **others: Tensor) -> bool:
    """Return True if C computes a call. From about 100 units on, torch's products are faster."""
    units = y.shape[-1]
    return units <= compiled.SMALL and compiled.supports(y, units=units)


def output_forward_in_c(y, W, b, frames, mask, *, K: int, keep: bool):
    """Return the summed losses (K,) float64, and with `keep` also their gradients for y (K, T, n,
    rows), W and b: a loss is one number, so they are known except for a factor.
    """
    (T, B, n), keys = y.shape[1:], W.shape[1]
    totals, filled = y.new_empty(K, dtype=torch.float64), padded(B)
    shapes = {"dy": (T, n, filled), "dW": (keys, n), "db": (keys,)}
    found: dict = {name: y.new_empty(K, *shape) if keep else None for name, shape in shapes.items()}
    given = {"y": lanes(y), "W": W, "b": b, "frames": lanes(frames)}
    given |= {"mask": F.pad(mask, (0, filled - B)), "totals": totals}
    compiled.call_c("rhn_bernoulli", K, T=T, B=B, n=n, keys=keys, **given, **found)
    return (totals, *found.values()) if keep else (totals,)


def output_backward_in_c(grad: Tensor, needs, residuals, *, y, **others):
    """Return the gradients for y, W and b by name, each with a leading axis of K."""
    factor, (dy, dW, db) = grad.to(y.dtype).view(-1, 1), residuals
    dy = rows(dy * factor[..., None, None], y.shape[2]) if needs["y"] else None
    return {"y": dy, "W": dW * factor[..., None], "b": db * factor}


def softmax_reference(y: Tensor, U: Tensor, b: Tensor, targets: Tensor, mask: Mask) -> Tensor:
    """Compute -log P(target) (T, B), in nats."""
    logits = F.linear(masked(y, mask), U, b).flatten(0, 1)
    return F.cross_entropy(logits, targets.flatten(), reduction="none").view(targets.shape)


def softmax_supports(y, U, mask, **others) -> bool:
    """Return True if C computes a call; it is faster only with a dropout mask."""
    drops = mask is not None and len(U) in VOCABULARIES
    return drops and compiled.supports(y.flatten(0, 1).unsqueeze(0), units=y.shape[-1])


def softmax_forward_in_c(y, U, b, targets, mask, *, K: int, keep: bool):
    """Return (nll (K, T, B), scale and e of `softmax.h`); the last two only with `keep`."""
    low, high, V = targets.min().item(), targets.max().item(), U.shape[1]
    if low < 0 or high >= V:
        raise InvalidInputError(f"targets are from {low} to {high}: expected 0 to {V - 1}")
    call = _softmax_call(y, U, targets, mask)
    T, B, tiles = call["B"], call["groups"], call["tiles"]
    nll = y.new_empty(K, B, padded(T))
    scale = y.new_empty(K, B, tiles, padded(T)) if keep else None
    e = y.new_empty(K, B, tiles, T, LANES) if keep else None
    compiled.call_c("rhn_softmax_forward", K, items=B, **call, b=b, nll=nll, scale=scale, e=e)
    nll = _by_rows(nll[..., :T])
    return (nll, scale, e) if keep else (nll,)


def softmax_backward_in_c(grad, needs, residuals, *, y, U, b, targets, mask):
    """Return the gradients for y, U and b by name, each with a leading axis of K."""
    (scale, e), K, dy = residuals, len(grad), None
    call = _softmax_call(y, U, targets, mask) | {"scale": scale, "e": e, "grad": _by_rows(grad)}
    if needs["y"]:
        dy = y.new_empty(K, *call["y"].shape[1:])
        compiled.call_c("rhn_softmax_states", K, items=call["groups"], **call, dy=dy)
        dy = _by_rows(dy)
    dU, db = y.new_empty(K, *U.shape[1:]), y.new_empty(K, U.shape[1])
    compiled.call_c("rhn_softmax_weights", K, items=call["tiles"], **call, dU=dU, db=db)
    return {"y": dy, "U": dU, "b": db}


def _softmax_call(y: Tensor, U: Tensor, targets: Tensor, mask: Mask) -> dict:
    """Return the arguments of all functions of `softmax.h`: a row of the batch is a group."""
    (T, B, n), V = y.shape[1:], U.shape[1]
    sizes = {"groups": B, "B": T, "n": n, "V": V, "tiles": -(-V // LANES)}
    by_rows = {"y": _by_rows(y), "targets": _by_rows(targets.to(y.dtype))}
    return {**sizes, **by_rows, "U": U, "mask": mask}


def _by_rows(t: Tensor) -> Tensor:
    """Swap the axes of time and batch."""
    return t.transpose(1, 2).contiguous()


SOFTMAX = Kernel(
    name="softmax",
    arguments={"y": "T B n", "U": "V n", "b": "V", "targets": "T B", "mask?": "B n"},
    reference=softmax_reference,
    compiled=(softmax_forward_in_c, softmax_backward_in_c),
    supports=softmax_supports,
)
OUTPUT = Kernel(
    name="output and loss",
    arguments={"y": "T B n", "W": "keys n", "b": "keys", "frames": "T B keys", "mask": "T B"},
    reference=output_reference,
    compiled=(output_forward_in_c, output_backward_in_c),
    supports=output_supports,
)
