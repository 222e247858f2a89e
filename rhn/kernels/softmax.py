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

from rhn.errors import InvalidInputError
from rhn.kernels import dispatch, mixed_precision, validation
from rhn.kernels.autograd import batched_function, stack_size
from rhn.kernels.compiled.call import LANES, call, in_c, lanes, padded, rows, supports
from rhn.kernels.dispatch import Implementation, Operation
from rhn.kernels.matmul import input_gradient, input_product, weight_gradient
from rhn.kernels.mixed_precision import GRADIENT_SCALE, half

LARGEST_VOCABULARY = 1 << 24  # places of targets are float32 in C
WORDS = 64  # of a work item, as in `softmax.h`
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
    return batched_function(SOFTMAX, *tensors, precision=precision, keep=torch.is_grad_enabled())


def softmax_nll_forward(y: Tensor, U: Tensor, b: Tensor, targets: Tensor, *, precision: str, keep: bool = True):
    """(nll (K, T, B), probabilities (K, T, B, V))."""
    K = stack_size(y, U, b, targets)
    z = input_product(y, U, b, K)
    z.sub_(z.amax(-1, keepdim=True))
    picked = z.gather(-1, targets.expand(K, -1, -1).unsqueeze(-1)).squeeze(-1)
    total = z.exp_().sum(-1)
    z.div_(total.unsqueeze(-1))
    return total.log_().sub_(picked), z


def softmax_nll_backward(grad, needs, inputs, residuals, *, precision: str, keep: bool = True):
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


def mixed_forward(y: Tensor, U: Tensor, b: Tensor, targets: Tensor, *, precision: str, keep: bool = True):
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


def mixed_backward(grad, needs, inputs, residuals, *, precision: str, keep: bool = True):
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


def supports_c(y: Tensor, U: Tensor, b: Tensor, targets: Tensor, *, precision: str, keep: bool) -> str | None:
    """Why the C version does not compute a call; None if it does."""
    n, V = y.shape[-1], U.shape[1]
    if V >= LARGEST_VOCABULARY:
        return f"a vocabulary of {V} is too large for it"
    return supports(
        y.flatten(1, 2).unsqueeze(1), n, unusual=None if precision == "float32" else f"precision {precision}"
    )


def forward_in_c(y: Tensor, U: Tensor, b: Tensor, targets: Tensor, *, precision: str, keep: bool):
    """(nll (K, T, B); the targets, scale and e of `softmax.h`); the last ones only with `keep`."""
    K, (T, B, n), V = stack_size(y, U, b, targets), y.shape[1:], U.shape[1]
    if targets.numel() and not (targets.min() >= 0 and targets.max() < V):
        raise InvalidInputError(f"targets are from {targets.min()} to {targets.max()}: expected 0 to {V - 1}")
    filled = padded(T * B)
    places = F.pad(targets.flatten(1).to(y.dtype), (0, filled - T * B), value=-1.0)
    nll, blocks, tiles = y.new_empty(K, filled), filled // LANES, -(-V // WORDS)
    e, scale = (y.new_empty(K, blocks, size, LANES) if keep else None for size in (V, tiles))
    inputs = {"y": lanes(y.flatten(1, 2)), "U": U.contiguous(), "b": b.contiguous(), "targets": places}
    sizes, results = {"B": T * B, "n": n, "V": V, "tiles": tiles}, {"nll": nll, "scale": scale, "e": e}
    call("rhn_softmax_forward", K, items=blocks, **sizes, **inputs, **results)
    nll = nll[:, : T * B].unflatten(1, (T, B))
    kept = (places.expand(K, -1), scale, e) if keep else ()
    return nll.clone(), *kept


def backward_in_c(grad, needs, inputs, residuals, *, precision: str, keep: bool):
    """Gradients of (y, U, b), each with a leading axis of K; the targets have none."""
    (y, U, *_), (places, scale, e) = inputs, (r.contiguous() for r in residuals)
    K, (T, B, n), V = len(grad), y.shape[1:], U.shape[1]
    given = F.pad(grad.flatten(1), (0, padded(T * B) - T * B)).contiguous()
    tiles = scale.shape[2]
    shared = {"B": T * B, "n": n, "V": V, "tiles": tiles, "targets": places, "scale": scale, "e": e, "grad": given}
    dy = y.new_empty(K, n, padded(T * B)) if needs[0] else None
    if dy is not None:
        call("rhn_softmax_states", K, items=e.shape[1], **shared, U=U.contiguous(), dy=dy)
        dy = rows(dy, T * B).unflatten(1, (T, B)).contiguous()
    dU, db = y.new_empty(K, V, n), y.new_empty(K, V)
    padded_y = F.pad(y.flatten(1, 2), (0, padded(n) - n, 0, padded(T * B) - T * B)).contiguous()
    call("rhn_softmax_weights", K, items=tiles, **shared, width=padded(n), y=padded_y, dU=dU, db=db)
    return dy, dU, db


FUSED = Implementation(dispatch.FUSED, softmax_nll_forward, softmax_nll_backward)
MIXED = Implementation(dispatch.MIXED, mixed_forward, mixed_backward, mixed_precision.supports)
C = in_c(forward_in_c, backward_in_c, supports_c)
SOFTMAX = Operation("softmax", MIXED, C, FUSED)
