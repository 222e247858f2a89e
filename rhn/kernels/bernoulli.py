"""The loss of polyphonic music: the keys of a frame are independent, and a frame costs -log of its probability.

    nll = sum over keys k of  softplus(z_k) - x_k z_k,        z the logits, x the keys that sound (0 or 1)

In nats a frame. Written as one Function, because next to small networks 88 keys are most of the work: with
softplus(z) = max(z, 0) - log sigmoid(|z|) the 88 logarithms of a frame become one, of a product. Each factor is at least 1/2, so in
float32 a product of 126 cannot underflow; frames of more keys take a logarithm for each 126. The derivative sigmoid(z) - x needs no
intermediate result. It works on stacked models (vmap), and its derivative, of ordinary operations, has derivatives too.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from rhn.kernels.autograd import stack_size
from rhn.kernels.compiled import call
from rhn.kernels.compiled.call import lanes, padded, rows


def frame_nll(logits: Tensor, frames: Tensor, mask: Tensor | None = None) -> Tensor:
    """Negative log-likelihood of each frame, in nats: (..., keys), (..., keys) -> (...); 0 where the mask (...) is False.

    >>> frame_nll(torch.zeros(1, 88), torch.ones(1, 88))  # a fair coin a key: 88 log 2
    tensor([60.9970])
    """
    nll = _FrameNLL.apply(logits, frames)
    return nll if mask is None else nll * mask


def output_nll_reference(y: Tensor, W: Tensor, b: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
    """The sum over all frames of an output layer's losses, in nats, float64: y (T, B, n), W (keys, n), b (keys,), frames (T, B, keys),
    mask (T, B) in y's dtype.
    """
    return frame_nll(F.linear(y, W, b), frames, mask).sum(dtype=torch.float64)


def forward_in_c(y, W, b, frames, mask, *, keep: bool):
    """(totals (K,) float64, and with `keep` their gradients by y (K, T, n, rows), W and b).

    A loss is one number, so its gradients are known but for a factor: they are computed with it, and no logits are kept.
    """
    K, (T, B, n), keys = stack_size(y, W, b, frames, mask), y.shape[1:], W.shape[1]
    totals, filled = y.new_empty(K, dtype=torch.float64), padded(B)
    out = [y.new_empty(K, *shape) for shape in ((T, n, filled), (keys, n), (keys,))] if keep else [None] * 3
    inputs = {"y": lanes(y), "W": W.contiguous(), "b": b.contiguous(), "frames": lanes(frames)}
    inputs["mask"] = F.pad(mask, (0, filled - B)).contiguous()
    dy, dW, db = out
    call.call("rhn_bernoulli", K, T=T, B=B, n=n, keys=keys, **inputs, dy=dy, dW=dW, db=db, totals=totals)
    return (totals, *out) if keep else (totals,)


def backward_in_c(grad: Tensor, needs, inputs, residuals):
    """Gradients of (y, W, b), each with a leading axis of K."""
    factor = grad.to(inputs[0].dtype)
    dy, dW, db = (
        t * factor.view(-1, *[1] * (t.dim() - 1)) if need else None for t, need in zip(residuals, needs, strict=False)
    )
    return None if dy is None else rows(dy, inputs[0].shape[2]), dW, db


def limit(y: Tensor, *tensors: Tensor) -> str | None:
    """Why C does not compute a call; None if it does. From about 100 units on, the products of torch are faster."""
    units = y.shape[-1]
    return f"{units} units are too many for it" if units > call.SMALL else call.limit(y, units=units)


def _nll(logits: Tensor, frames: Tensor) -> Tensor:
    factors = 1 - math.frexp(torch.finfo(logits.dtype).tiny)[1]  # of 1/2 that make the smallest normal number
    certainties = torch.abs(logits).sigmoid_().split(factors, -1)
    nll = torch.relu(logits).addcmul_(logits, frames, value=-1).sum(-1)
    for part in certainties:
        nll.sub_(part.prod(-1).log_())
    return nll


class _FrameNLL(torch.autograd.Function):
    @staticmethod
    def forward(logits, frames):
        return _nll(logits, frames)

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
            t.unsqueeze(0) if d is None else t.movedim(d, 0) for t, d in zip((logits, frames), in_dims, strict=True)
        )
        return _FrameNLL.apply(logits.expand(info.batch_size, *logits.shape[1:]), frames), 0
