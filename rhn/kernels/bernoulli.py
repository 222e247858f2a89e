"""The loss of polyphonic music: every key of a frame is a coin of its own, and a frame costs -log of its probability.

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

from rhn.kernels.compiled.call import refusal
from rhn.kernels.compiled.output import OUTPUT
from rhn.kernels.ensemble import recurrence


def frame_nll(logits: Tensor, frames: Tensor, mask: Tensor | None = None) -> Tensor:
    """Negative log-likelihood of each frame, in nats: (..., keys), (..., keys) -> (...); 0 where the mask (...) is False.

    >>> frame_nll(torch.zeros(1, 88), torch.ones(1, 88))  # a fair coin a key: 88 log 2
    tensor([60.9970])
    """
    nll = _FrameNLL.apply(logits, frames)
    return nll if mask is None else nll * mask


def output_nll(y: Tensor, W: Tensor, b: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
    """The sum over all frames of an output layer's losses, in nats, float64: y (T, B, n), W (keys, n), b (keys,), frames (T, B, keys),
    mask (T, B) in y's dtype. Where compiled kernels are used it has first derivatives alone.
    """
    if refusal(y, y.shape[-1]) is None:
        return recurrence(OUTPUT, y, W, b, frames, mask, gradients=torch.is_grad_enabled())
    return output_nll_reference(y, W, b, frames, mask)


def output_nll_reference(y: Tensor, W: Tensor, b: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
    """The same by the book."""
    return frame_nll(F.linear(y, W, b), frames, mask).sum(dtype=torch.float64)


class _FrameNLL(torch.autograd.Function):
    @staticmethod
    def forward(logits, frames):
        factors = 1 - math.frexp(torch.finfo(logits.dtype).tiny)[1]  # of 1/2 that make the smallest normal number
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
            t.unsqueeze(0) if d is None else t.movedim(d, 0) for t, d in zip((logits, frames), in_dims, strict=True)
        )
        return _FrameNLL.apply(logits.expand(info.batch_size, *logits.shape[1:]), frames), 0
