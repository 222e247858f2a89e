"""Products of many matrices without overflow or underflow. Each product is stored as a tensor times
an integer power of two.

Scaling by powers of two adds no rounding error. Entries that are smaller than the largest entry by
more than the type's range are lost.
"""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

Scaled = tuple[Tensor, Tensor]
"""A pair of M (..., k, l) and integers e (...,), which stands for M 2^e."""


def scaled(M: Tensor, exponent: Tensor | int = 0) -> Scaled:
    """Return M 2^exponent as (M', e), scaled so that the largest modulus of an entry of M' is in
    [1/2, 1). The exponent of M = 0 is 0.

    >>> M, e = scaled(torch.tensor([[6.0]]))
    >>> float(M), int(e)
    (0.75, 3)
    """
    largest = M.detach().abs().amax((-2, -1))  # several times as fast as torch's norm
    # 2^-e itself neither overflows nor becomes subnormal
    limit = math.frexp(torch.finfo(largest.dtype).max)[1] - 2
    more = torch.frexp(largest).exponent.long().clamp(-limit, limit)
    M = M * torch.exp2(-more.to(largest.dtype))[..., None, None]
    return M, torch.where(largest == 0, 0, more + exponent)


def unscaled(M: Tensor, exponent: Tensor) -> Tensor:
    """Return M 2^exponent as one tensor. Entries that are too large or too small for its type
    become inf or 0.
    """
    half = exponent.div(2, rounding_mode="floor")  # 2^exponent itself may overflow
    for part in (half, exponent - half):
        M = M * torch.exp2(part.to(M.real.dtype))[..., None, None]
    return M


def scaled_matmul(J: Tensor, P: Tensor, exponent: Tensor | int = 0) -> Scaled:
    """Return the matrix product J P 2^exponent, scaled."""
    P, exponent = scaled(P, exponent)
    J, exponent = scaled(J, exponent)
    return J @ P, exponent


def plus(P: Tensor, exponent: Tensor, S: Tensor) -> Scaled:
    """Return the sum P 2^exponent + S, scaled."""
    P, exponent = scaled(P, exponent)
    top = exponent.clamp(min=0)
    return unscaled(P, exponent - top) + unscaled(S, -top), top


def scaled_product(factors: Iterable[Tensor]) -> Scaled:
    """Return the product J_L ... J_1 of factors J_1, J_2, ..., J_L, scaled.

    >>> P, e = scaled_product([torch.full((1, 1), 0.5)] * 2000)
    >>> float(P), int(e)
    (0.25, -1998)
    """
    P, *others = factors
    exponent = torch.zeros(P.shape[:-2], dtype=torch.long, device=P.device)
    for J in others:
        P, exponent = scaled_matmul(J, P, exponent)
    return P, exponent


def out_of_range(M: Tensor) -> Tensor:
    """Return True, (...,), for matrices M (..., k, l) that over- or underflow: the largest modulus
    of an entry is infinite, NaN, or so small that its last digits may be lost.

    >>> out_of_range(torch.tensor([[[1.0, 0.0]], [[1e-40, 0.0]]])).tolist()
    [False, True]
    """
    M, kind = M.detach(), torch.finfo(M.dtype)
    largest = torch.maximum(M.amax((-2, -1)), -M.amin((-2, -1)))  # without a copy for the moduli
    return ~((largest >= kind.tiny / kind.eps) & (largest <= kind.max))


def any_out_of_range(M: Tensor) -> bool:
    """Return True if one of the matrices M (..., k, l) is `out_of_range`. Usually no second look is
    needed: the sum is finite only if all entries are, and first rows have large enough entries.

    >>> any_out_of_range(torch.tensor([[0.0], [1.0]])), any_out_of_range(torch.zeros(1, 1))
    (False, True)
    """
    M, kind = M.detach(), torch.finfo(M.dtype)
    in_first_rows = M[..., :1, :].abs().amax((-2, -1))
    all_large_enough = bool((in_first_rows >= kind.tiny / kind.eps).all())
    if all_large_enough and bool(M.sum().isfinite()):
        return False
    return bool(out_of_range(M).any())


def product(factors: Callable[[], Iterable[Tensor]]) -> Tensor:
    """Return the product J_L ... J_1 of the factors J_1, J_2, ..., J_L that a function yields. If a
    partial product over- or underflows, they are multiplied again in scaled form.

    >>> sizes = (1e-30, 1e-30, 1e30, 1e30)
    >>> round(float(product(lambda: [torch.full((1, 1), size) for size in sizes])), 4)
    1.0
    """
    others = iter(factors())
    P = next(others)
    for J in others:
        P = J @ P
        if any_out_of_range(P):
            return unscaled(*scaled_product(factors()))
    return P


def bound_of(bound: Tensor, exponent: Tensor) -> Tensor:
    """Return a bound (1, 1) times 2^exponent as a number. A positive bound never underflows to
    0.
    """
    found = unscaled(bound, exponent).reshape(())
    least = torch.finfo(found.dtype).tiny
    return torch.where(bound.reshape(()) == 0, found, found.clamp(min=least))
