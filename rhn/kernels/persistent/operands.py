"""Around the persistent kernels: weights and states as operands of tensor cores, and the products before and after the time loop.

Legend in `highway_kernels.py`. Operands are float16; sums are float32. Gradients are multiplied by
`GRADIENT_SCALE` while they are operands, see `rhn.kernels.mixed_precision`.
"""

import torch
from torch import Tensor

from rhn.kernels import mixed_precision
from rhn.kernels.mixed_precision import GRADIENT_SCALE

DTYPES = {"mixed": torch.float16, "float32": torch.float32}
"""The type of operands for each precision; float32 for tests in the interpreter only."""


def padded_weights(R: Tensor, padded: int, dtype: torch.dtype) -> Tensor:
    """R (K or 1, L, G n, n) as (K or 1, L, G, KP, KP), zero where it is padded: forward reads its rows, backward its columns."""
    k, L, gn, n = R.shape
    P = R.new_zeros(k, L, gn // n, padded, padded, dtype=dtype)
    P[..., :n, :n] = R.unflatten(2, (gn // n, n))
    return P


def kept(P: Tensor, K: int) -> Tensor:
    """Padded weights for the backward pass, (K, ...); empty if the models share them."""
    return P if len(P) == K else P.new_empty(K, 0)


def kept_or_padded(P: Tensor, R: Tensor, padded: int, dtype: torch.dtype) -> Tensor:
    """The padded weights that were kept, or again those of R."""
    return P.contiguous() if P.dim() > 2 else padded_weights(R, padded, dtype)


def multiply(a: Tensor, b: Tensor, scale: float = 1.0) -> Tensor:
    """a b / scale in float32, for operands (K, r, k) and (K, k, c)."""
    out = a.new_empty(len(a), a.shape[1], b.shape[2], dtype=torch.float32)
    if a.dtype == torch.float16:
        return mixed_precision.multiply(out, a, b, scale=scale)
    return torch.baddbmm(out, a, b, beta=0.0, alpha=1 / scale, out=out)


def input_product(x: Tensor, W: Tensor, K: int, dtype: torch.dtype) -> Tensor:
    """x W' for all time steps: x (K or 1, T, B, m), W (K or 1, g, m) -> (K, T, B, g)."""
    rows, columns = (t.to(dtype).expand(K, -1, -1) for t in (x.flatten(1, 2), W.transpose(1, 2)))
    return multiply(rows, columns).unflatten(1, x.shape[1:3])


def input_gradients(dz: Tensor, x: Tensor, W: Tensor, needs_x: bool) -> tuple[Tensor | None, Tensor]:
    """(dx or None, dW) from the first layer's operands dz (K, T, R, G, KP): (K, T, B, m) and (K, G n, m)."""
    (T, B), (gn, G) = x.shape[1:3], (W.shape[1], dz.shape[3])
    rows = dz[:, :, :B, :, : gn // G].reshape(len(dz), T * B, gn)
    inputs, W = (t.to(dz.dtype).expand(len(dz), -1, -1) for t in (x.flatten(1, 2), W))
    dx = multiply(rows, W, GRADIENT_SCALE).unflatten(1, (T, B)) if needs_x else None
    return dx, multiply(rows.transpose(1, 2), inputs, GRADIENT_SCALE)


def weight_gradient(dz: Tensor, SH: Tensor, n: int) -> Tensor:
    """dR (K, L, G n, n) from the operands dz (K, L, T, R, G, KP) and states SH (K, L, J, T or T + 1, R, KP), J = 1 or G."""
    (K, L, T, _, G, KP), J = dz.shape, SH.shape[2]
    columns = dz.unflatten(4, (J, G // J)).flatten(0, 1).flatten(1, 2)  # (K L, T R, J, G / J, KP)
    states = SH[:, :, :, :T].flatten(0, 1)
    parts = [
        multiply(columns[:, :, j].flatten(2).transpose(1, 2), states[:, j].flatten(1, 2), GRADIENT_SCALE)
        for j in range(J)
    ]
    product = parts[0] if J == 1 else torch.cat(parts, 1)
    return product.view(K, L, G, KP, KP)[..., :n, :n].reshape(K, L, G * n, n)


def require_gradients(dz: Tensor, batch: int, R: Tensor, grad: Tensor) -> None:
    """Raise InvalidInputError if float16 operands dz (K, L, T, R, G, KP) lost gradients; without them there would be no zeros."""
    given = grad.flatten(1).any(1) & R.flatten(2).any(2).all(1)
    real = dz[:, :, :, :batch, :, : R.shape[-1]].movedim(4, 2)
    mixed_precision.require_gradients(real, 1.0, zero=given.view(-1, 1, 1))


def bias_gradient(dz: Tensor, n: int) -> Tensor:
    """db (K, L, G n) from the operands dz (K, L, T, R, G, KP)."""
    return (dz.sum((2, 3), dtype=torch.float32)[..., :n] / GRADIENT_SCALE).flatten(2)


def model_stride(t: Tensor | None) -> int:
    """Numbers from one model to the next; 0 for what all share, and where there is nothing."""
    return t.stride(0) if t is not None and len(t) > 1 else 0
