"""Products of many matrices without over- or underflow: a tensor times an integer power of two.

Scaling by powers of two adds no rounding. Entries smaller than the largest one by more than the
type's range are lost.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

Scaled = tuple[Tensor, Tensor]
"""M (..., k, l) and integers e (...,), of M 2^e."""


def scaled(M: Tensor, exponent: Tensor | int = 0) -> Scaled:
    """M 2^exponent with a largest modulus of an entry in [1/2, 1), or M = 0 as it is.

    >>> M, e = scaled(torch.tensor([[6.0]]))
    >>> float(M), int(e)
    (0.75, 3)
    """
    largest = M.detach().abs().amax((-2, -1))  # several times as fast as torch's norm
    # 2^-e itself neither overflows nor becomes subnormal
    limit = math.frexp(torch.finfo(largest.dtype).max)[1] - 2
    more = torch.frexp(largest).exponent.long().clamp(-limit, limit)
    return M * torch.exp2(-more.to(largest.dtype))[..., None, None], more + exponent


def unscaled(M: Tensor, exponent: Tensor) -> Tensor:
    """M 2^exponent as one tensor; what is too large or small for its type is inf or 0."""
    half = exponent.div(2, rounding_mode="floor")  # 2^exponent itself may overflow
    for part in (half, exponent - half):
        M = M * torch.exp2(part.to(M.real.dtype))[..., None, None]
    return M


def scaled_matmul(J: Tensor, P: Tensor, exponent: Tensor | int = 0) -> Scaled:
    """J P 2^exponent."""
    P, exponent = scaled(P, exponent)
    J, exponent = scaled(J, exponent)
    return J @ P, exponent


def plus(P: Tensor, exponent: Tensor, S: Tensor) -> Scaled:
    """P 2^exponent + S."""
    P, exponent = scaled(P, exponent)
    top = exponent.clamp(min=0)
    return unscaled(P, exponent - top) + unscaled(S, -top), top


def scaled_product(factors: Iterable[Tensor]) -> Scaled:
    """J_L ... J_1 2^e of factors J_1, J_2, ..., J_L.

    >>> P, e = scaled_product([torch.full((1, 1), 0.5)] * 2000)
    >>> float(P), int(e)
    (0.25, -1998)
    """
    P, *others = factors
    exponent = torch.zeros(P.shape[:-2], dtype=torch.long, device=P.device)
    for J in others:
        P, exponent = scaled_matmul(J, P, exponent)
    return P, exponent


def bound_of(bound: Tensor, exponent: Tensor) -> Tensor:
    """A bound (1, 1) times 2^e as a number, not 0 unless it is 0."""
    found = unscaled(bound, exponent).reshape(())
    return found.clamp(min=torch.finfo(found.dtype).tiny) if bound.any() else found
