"""The compiled output layer with its loss as a kernel, see `rhn.kernels.ensemble`: `bernoulli.h` beside this file.

A loss is one number, so its gradients are known but for a factor when it is: they are computed with it, and nothing of the size of
the logits is ever kept.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from rhn.kernels.compiled.call import call, lanes, padded, rows
from rhn.kernels.ensemble import Kernel, stack_size


def output_forward(y, W, b, frames, mask, *, gradients: bool):
    """(totals (K,) float64, and where they are wanted their gradients in y (K, T, n, rows), W and b)."""
    K, (T, B, n), keys = stack_size(y, W, b, frames, mask), y.shape[1:], W.shape[1]
    totals, filled = y.new_empty(K, dtype=torch.float64), padded(B)
    out = [y.new_empty(K, *shape) for shape in ((T, n, filled), (keys, n), (keys,))] if gradients else [None] * 3
    inputs = {"y": lanes(y), "W": W.contiguous(), "b": b.contiguous(), "frames": lanes(frames)}
    inputs["mask"] = F.pad(mask, (0, filled - B)).contiguous()
    dy, dW, db = out
    call("rhn_bernoulli", K, T=T, B=B, n=n, keys=keys, **inputs, dy=dy, dW=dW, db=db, totals=totals)
    return (totals, *out) if gradients else (totals,)


def output_backward(grad: Tensor, needs, inputs, residuals, *, gradients: bool):
    """Gradients of (y, W, b), each with a leading axis of K."""
    factor = grad.to(inputs[0].dtype)
    dy, dW, db = (
        t * factor.view(-1, *[1] * (t.dim() - 1)) if need else None for t, need in zip(residuals, needs, strict=False)
    )
    return None if dy is None else rows(dy, inputs[0].shape[2]), dW, db


OUTPUT = Kernel("output and loss", output_forward, output_backward)
