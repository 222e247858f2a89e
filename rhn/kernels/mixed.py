"""Precision "mixed": operands rounded to float16 and sums in float32, as tensor cores compute them; everything else stays float32.

    out = addend + half(scale a) half(b) / scale

The scale is a power of two, so that it moves exponents and rounds nothing. Away from CUDA the rounded operands are widened again: the
product of two float16 numbers is exact in float32, so that both ways differ in the order of the sums alone.

float16 ends at 6e-8: weights that start at 1e-8 vanish. Precision "tf32" has float32's range and 11 bits, as tensor cores read them, in
the persistent kernels (`rhn.kernels.persistent`); wherever those do not run it is float32.
"""

import torch
from torch import Tensor

PRECISIONS = ("float32", "mixed", "tf32")
# float16 has its full 11 bits from 6e-5 to 65504 only, and gate gradients are mostly below 1e-2: this moves them to 6e-8 .. 64.
GRADIENT_SCALE = 1024.0


def half(t: Tensor, scale: float = 1.0) -> Tensor:
    """scale t in float16."""
    return torch.mul(t, scale, out=torch.empty_like(t, dtype=torch.float16))


def multiply(out: Tensor, a: Tensor, b: Tensor, addend: Tensor | None = None, scale: float = 1.0) -> Tensor:
    """Write addend + a b / scale to out (K, r, c), float32: a (K, r, k) and b (K, k, c) float16, addend broadcast or out itself."""
    if addend is not None and addend is not out:
        out.copy_(addend)
    factors = {"beta": 0.0 if addend is None else 1.0, "alpha": 1 / scale}
    if not out.is_cuda:
        return torch.baddbmm(out, a.float(), b.float(), **factors, out=out)
    # torch up to 2.13 at least adds to what `out` holds and ignores the first argument: give it both as one
    return torch.baddbmm(out, a, b, out_dtype=torch.float32, **factors, out=out)
