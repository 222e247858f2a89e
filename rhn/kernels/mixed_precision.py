"""Precision "mixed": operands rounded to float16 and sums in float32, as tensor cores compute them; everything else stays float32.

    out = addend + half(scale a) half(b) / scale

The scale is a power of two, so that it moves exponents and rounds nothing. Away from CUDA the rounded operands are widened again: the
product of two float16 numbers is exact in float32, so that both ways differ in the order of the sums alone.

float16 ends at 6e-8. Gradients are scaled, so their common size does not matter. Weights, states and gradients that vanish on the way
through the layers raise an error (`require_representable`): a network on a plateau needs them.
"""

import functools
import math

import torch
from torch import Tensor

from rhn.errors import InvalidInputError

PRECISIONS = ("float32", "mixed")
# float16 has its full 11 bits from 6e-5 to 65504 only, and gate gradients are mostly below 1e-2: this moves them to 6e-8 .. 64.
GRADIENT_SCALE = 1024.0
SMALLEST = 2e-5
"""Smallest root mean square of an operand. float16's absolute error of 2^-24 / sqrt(12) is a thousandth of it."""


def supports(*tensors: Tensor, precision: str, **options) -> str | None:
    """Why an implementation for mixed precision does not compute a call; None if it does."""
    return None if precision == "mixed" else f"it is for precision mixed, not {precision}"


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


def require_representable(
    what: str, operand: Tensor, separate: int, *, scale: float = 1.0, zero: Tensor | None = None
) -> None:
    """Raise InvalidInputError if scale times the operand is too small for float16.

    The first `separate` axes (models, layers, gates) are judged one by one. Exact zeros are representable, except where `zero` (bool,
    of these axes) says that a zero is a lost number. Values that cannot be read (while a CUDA graph is captured, in a trace) pass:
    the calls before the capture were checked.
    """
    traced = type(operand) not in (Tensor, torch.nn.Parameter)
    if traced or operand.numel() == 0 or (operand.is_cuda and torch.cuda.is_current_stream_capturing()):
        return
    axes = tuple(range(separate, operand.dim()))
    norms = torch.linalg.vector_norm(operand.detach(), dim=axes, dtype=torch.float64)
    sizes = norms * (scale / math.sqrt(math.prod(operand.shape[separate:])))
    lost = (sizes < SMALLEST) & ((sizes > 0) if zero is None else (sizes > 0) | zero)
    if lost.any():
        raise InvalidInputError(
            f"precision 'mixed' would lose {what} of this network: their root mean square is {sizes[lost].min():.1e}, float16 "
            f"operands need {SMALLEST:g}; use precision 'float32' or larger weights"
        )


def require_operands(x: Tensor, W: Tensor, R: Tensor, states: Tensor, S: Tensor | None = None) -> None:
    """`require_representable` of what a recurrence multiplies.

    x (., T, B, m), W (., G n, m), R (., L, G n, n), states (K, L, T + 1, B, n)
    """
    n = R.shape[-1]
    require_representable("the inputs", x, 1)
    for axis, M in ((1, W), (2, R), (2, S)):
        if M is not None:
            require_representable("the weights", M.unflatten(axis, (-1, n)), axis + 1)
    require_representable("the states", states, 2)


def require_gradients(dz: Tensor, scale: float, zero: Tensor | None = None) -> None:
    """`require_representable` of the gradients of the pre-activations, dz (K, L, G, ...)."""
    require_representable("the gradients", dz, 3, scale=scale, zero=zero)


def rescaled(backward):
    """A kernel's backward pass that works on gradients of one size in precision "mixed": of 2^-8 at most for each model.

    Gradients are linear in `grad`, and the factors are powers of two: only float16's range matters less.
    """

    @functools.wraps(backward)
    def run(grad, needs, inputs, residuals, *, precision, **options):
        if precision != "mixed":
            return backward(grad, needs, inputs, residuals, precision=precision, **options)
        largest = grad.abs().flatten(1).amax(1)
        exponent = torch.where(largest.isfinite(), -8 - torch.frexp(largest).exponent, 0).clamp(max=120)
        factor = torch.ldexp(torch.ones_like(largest), exponent)
        gradients = backward(_times(grad, factor), needs, inputs, residuals, precision=precision, **options)
        return tuple(None if g is None else _times(g, 1 / factor) for g in gradients)

    return run


def _times(t: Tensor, factors: Tensor) -> Tensor:
    return t * factors.view(-1, *[1] * (t.dim() - 1))
