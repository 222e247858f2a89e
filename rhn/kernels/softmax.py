"""Softmax cross-entropy of a linear layer: the reference, the fused version for K models, and that in mixed precision.

    nll = log sum_v exp z_v - z_target,      z = U y + b

Shapes: y (T, B, n), U (V, n), b (V,), targets (T, B) int64 -> nll (T, B) in nats.

With a large vocabulary the rest of a model is small: the fused version overwrites the logits with the probabilities, which are all that
the backward pass needs:  d nll / dz = p - [v = target].

In mixed precision operands are float16, and nothing of the size of all logits is float32. The rows go through the output layer a few at
a time: their logits (rows, V) stay in a GPU's second-level cache. The gradient by the logits without the factor of the loss's own
gradient, p - [v = target], is kept in float16 and multiplied by `GRADIENT_SCALE`: numbers down to 6e-11 survive, and a sure
prediction's p - 1 has all of its 11 bits.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from rhn.kernels import dispatch, mixed_precision, validation
from rhn.kernels.autograd import batched_function, stack_size
from rhn.kernels.dispatch import Implementation, Operation
from rhn.kernels.matmul import input_gradient, input_product, weight_gradient
from rhn.kernels.mixed_precision import GRADIENT_SCALE, half

CHUNK = 1 << 22  # logits of a model at once: 16 MiB of float32


def softmax_nll_reference(y: Tensor, U: Tensor, b: Tensor, targets: Tensor) -> Tensor:
    """-log P(target), (T, B)."""
    y, U, b, targets = validation.SOFTMAX.validate(y, U, b, targets)
    return -F.linear(y, U, b).log_softmax(-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)


def softmax_nll(y: Tensor, U: Tensor, b: Tensor, targets: Tensor, *, precision: str = "float32") -> Tensor:
    """-log P(target), (T, B); same arguments and values as `softmax_nll_reference`."""
    tensors = validation.SOFTMAX.validate(y, U, b, targets)
    validation.validate_precision(precision, y)
    if validation.is_traced(*tensors):
        return softmax_nll_reference(*tensors)
    return batched_function(SOFTMAX, *tensors, precision=precision)


def softmax_nll_forward(y: Tensor, U: Tensor, b: Tensor, targets: Tensor, *, precision: str):
    """(nll (K, T, B), probabilities (K, T, B, V))."""
    K = stack_size(y, U, b, targets)
    z = input_product(y, U, b, K)
    z.sub_(z.amax(-1, keepdim=True))
    picked = z.gather(-1, targets.expand(K, -1, -1).unsqueeze(-1)).squeeze(-1)
    total = z.exp_().sum(-1)
    z.div_(total.unsqueeze(-1))
    return total.log_().sub_(picked), z


def softmax_nll_backward(grad, needs, inputs, residuals, *, precision: str):
    """Gradients of (y, U, b), each with a leading axis of K; the targets have none."""
    (y, U, _, targets), (p,) = inputs, residuals
    dz = p * grad.unsqueeze(-1)
    dz.scatter_add_(-1, targets.expand(len(p), -1, -1).unsqueeze(-1), -grad.unsqueeze(-1))
    dz = dz.flatten(1, 2)
    return (
        input_gradient(dz, U, y) if needs[0] else None,
        weight_gradient(dz, y.flatten(1, 2)),
        dz.sum(1),
    )


def mixed_forward(y: Tensor, U: Tensor, b: Tensor, targets: Tensor, *, precision: str):
    """(nll (K, T, B), gradient in the logits (K, T B, V) in float16)."""
    K, (T, B), V = stack_size(y, U, b, targets), y.shape[1:3], U.shape[1]
    for what, operand in (("the states", y), ("the weights", U)):
        mixed_precision.require_representable(what, operand, 1)
    rows, columns = half(y.flatten(1, 2)).expand(K, -1, -1), half(U).transpose(1, 2).expand(K, -1, -1)
    places, bias = targets.flatten(1, 2).unsqueeze(-1).expand(K, -1, -1), b.unsqueeze(1)
    nll, dz = y.new_empty(K, T * B), y.new_empty(K, T * B, V, dtype=torch.float16)
    step = max(1, CHUNK // V)
    for start in range(0, T * B, step):
        now = slice(start, start + step)
        z = mixed_precision.multiply(y.new_empty(K, rows[:, now].shape[1], V), rows[:, now], columns, bias)
        log_p, place = z.log_softmax(-1), places[:, now]
        nll[:, now] = log_p.gather(-1, place).squeeze(-1).neg_()
        p = log_p.exp_().scatter_add_(-1, place, log_p.new_full((1, 1, 1), -1.0).expand(place.shape))
        torch.mul(p, GRADIENT_SCALE, out=dz[:, now])
    return nll.unflatten(1, (T, B)), dz


def mixed_backward(grad, needs, inputs, residuals, *, precision: str):
    """Gradients of (y, U, b), each with a leading axis of K; the targets have none."""
    (y, U, *_), (d,) = inputs, residuals
    K, N, V = d.shape
    grad = grad.reshape(K, N, 1)
    large = (
        grad.abs().amax((1, 2), keepdim=True).clamp(min=1.0)
    )  # float16 ends at 65504: what exceeds 1 waits for float32
    dz = torch.mul(d, grad / large, out=torch.empty_like(d))
    rows, columns = (half(t).expand(K, -1, -1) for t in (y.flatten(1, 2), U))
    dy = (
        mixed_precision.multiply(y.new_empty(K, N, y.shape[-1]), dz, columns, scale=GRADIENT_SCALE)
        if needs[0]
        else None
    )
    dU = mixed_precision.multiply(y.new_empty(K, V, y.shape[-1]), dz.transpose(1, 2), rows, scale=GRADIENT_SCALE)
    db = dz.sum(1, dtype=torch.float32) / GRADIENT_SCALE
    return None if dy is None else dy.mul_(large).unflatten(1, y.shape[1:3]), dU.mul_(large), db.mul_(large[..., 0])


FUSED = Implementation(dispatch.FUSED, softmax_nll_forward, softmax_nll_backward)
MIXED = Implementation(dispatch.MIXED, mixed_forward, mixed_backward, mixed_precision.supports)
SOFTMAX = Operation("softmax", MIXED, FUSED)
