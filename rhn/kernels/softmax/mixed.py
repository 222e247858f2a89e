"""The same loss in mixed precision: float16 operands, and of the size of all logits nothing that is float32.

The rows go through the output layer a few at a time: their logits (rows, V) stay in a GPU's second-level cache. What is kept of them
is the gradient in the logits but for the loss's own, p - [v = target], in float16 and multiplied by `GRADIENT_SCALE`: numbers down to
6e-11 survive, and a sure prediction's p - 1 has all of its 11 bits.
"""

import torch
from torch import Tensor

from rhn.kernels import mixed
from rhn.kernels.ensemble import Kernel, stack_size
from rhn.kernels.mixed import GRADIENT_SCALE, half

CHUNK = 1 << 22  # logits of a model at once: 16 MiB of float32


def softmax_nll_forward(y: Tensor, U: Tensor, b: Tensor, targets: Tensor):
    """(nll (K, T, B), gradient in the logits (K, T B, V) in float16)."""
    K, (T, B), V = stack_size(y, U, b, targets), y.shape[1:3], U.shape[1]
    for what, operand in (("the states", y), ("the weights", U)):
        mixed.require_representable(what, operand, 1)
    rows, columns = half(y.flatten(1, 2)).expand(K, -1, -1), half(U).transpose(1, 2).expand(K, -1, -1)
    places, bias = targets.flatten(1, 2).unsqueeze(-1).expand(K, -1, -1), b.unsqueeze(1)
    nll, dz = y.new_empty(K, T * B), y.new_empty(K, T * B, V, dtype=torch.float16)
    step = max(1, CHUNK // V)
    for start in range(0, T * B, step):
        now = slice(start, start + step)
        z = mixed.multiply(y.new_empty(K, rows[:, now].shape[1], V), rows[:, now], columns, bias)
        log_p, place = z.log_softmax(-1), places[:, now]
        nll[:, now] = log_p.gather(-1, place).squeeze(-1).neg_()
        p = log_p.exp_().scatter_add_(-1, place, log_p.new_full((1, 1, 1), -1.0).expand(place.shape))
        torch.mul(p, GRADIENT_SCALE, out=dz[:, now])
    return nll.unflatten(1, (T, B)), dz


def softmax_nll_backward(grad, needs, inputs, residuals):
    """Gradients of (y, U, b), each with a leading axis of K; the targets have none."""
    (y, U, *_), (d,) = inputs, residuals
    K, N, V = d.shape
    grad = grad.reshape(K, N, 1)
    large = (
        grad.abs().amax((1, 2), keepdim=True).clamp(min=1.0)
    )  # float16 ends at 65504: what exceeds 1 waits for float32
    dz = torch.mul(d, grad / large, out=torch.empty_like(d))
    rows, columns = (half(t).expand(K, -1, -1) for t in (y.flatten(1, 2), U))
    dy = mixed.multiply(y.new_empty(K, N, y.shape[-1]), dz, columns, scale=GRADIENT_SCALE) if needs[0] else None
    dU = mixed.multiply(y.new_empty(K, V, y.shape[-1]), dz.transpose(1, 2), rows, scale=GRADIENT_SCALE)
    db = dz.sum(1, dtype=torch.float32) / GRADIENT_SCALE
    return None if dy is None else dy.mul_(large).unflatten(1, y.shape[1:3]), dU.mul_(large), db.mul_(large[..., 0])


SOFTMAX_NLL_MIXED = Kernel("softmax, mixed", softmax_nll_forward, softmax_nll_backward)
