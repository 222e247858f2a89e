"""Products of the Jacobians of many steps, their norms, and the half-life of a norm, without over-
or underflow.

Spectra of single steps do not compose. [[0, 2], [0, 0]] and its transpose both have the spectral
radius 0, but their product has the radius 4. diag(2, 0) and diag(0, 2) both have the radius 2, but
their product is 0.

Every factor and every partial product is scaled by a power of two, whose exponent is stored as an
integer. Nothing overflows, and scaling adds no rounding.

Shapes: a product of A (T, ..., n, n), time first, with A[t] = ds[t+1]/ds[t] and s[t] the state
before step t. Logarithms are natural, exponents are per time step. No gradient flows through a
product.
"""

import math

import torch
from torch import Tensor

from gersgorin.linalg.matrices import as_numbers, check_square
from rhn.errors import InvalidInputError
from rhn.utils.scale import Scaled, scaled


def jacobian_product(A: Tensor) -> tuple[Tensor, Tensor]:
    """Multiply the Jacobians of all steps: ds[T]/ds[0] = A[T-1]...A[0] = P exp(log_scale).

    Args:
        A: (T, ..., n, n). T = 0 gives the empty product, the identity.

    Returns:
        (P, log_scale). P (..., n, n) is 0, or its largest entry has a modulus in [1/2, 1).
        log_scale (...,) is real and finite, and 0 if P = 0. Entries that are smaller than the
        largest one by more than the range of the dtype are lost.

    Raises InvalidInputError.

    >>> P, log_scale = jacobian_product(torch.full((5000, 1, 1), 32.0))
    >>> float(P), round(float(log_scale / math.log(2)))  # 32^5000 = 2^25000
    (0.5, 25001)
    """
    check_square(A, steps=0)
    if not len(A):
        half = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device) / 2
        return half.expand(A.shape[1:]), A.real.new_full(A.shape[1:-2], math.log(2))
    P, exponent = running_products(A)
    return P[-1], exponent[-1].to(P.real.dtype) * math.log(2)


def running_products(A: Tensor, exponent: Tensor | int = 0, before: Scaled | None = None) -> Scaled:
    """Multiply by the Jacobians A 2^exponent (steps, ..., n, n) of the next steps, from the left.
    Returns the product after each step, scaled: P (steps, ..., n, n), and integers e (steps, ...),
    0 if P = 0.

    before: the last of the products of the steps before; None: there are none.

    >>> P, e = running_products(torch.tensor([2.0, 0.5, 4.0]).reshape(3, 1, 1))
    >>> (P[:, 0, 0] * 2.0**e).tolist()
    [2.0, 1.0, 4.0]
    """
    found = list[Scaled]()
    for M, e in zip(*scaled(A.detach(), exponent), strict=True):
        if before is not None:
            M, e = scaled(M @ before[0], before[1] + e)
        before = M, e
        found.append(before)
    P, exponents = map(torch.stack, zip(*found, strict=True))
    return P, exponents


def log_norms(P: Tensor, exponent: Tensor) -> Tensor:
    """log ||P 2^exponent||_2 of matrices P (..., n, n), (...,)."""
    return torch.linalg.matrix_norm(P, 2).log() + exponent.to(P.dtype) * math.log(2)


def half_life(exponent: Tensor | float) -> Tensor:
    """Number of steps in which a norm halves that changes by the factor exp(exponent) per step:
    -log 2 / exponent, with the shape of exponent; inf if it does not shrink, 0 for the exponent
    -inf of a zero product. Raises InvalidInputError for complex numbers.

    >>> half_life(torch.tensor([-math.log(2) / 10, 0.0, math.log(2)]))
    tensor([10., inf, inf])
    """
    exponent = as_numbers("exponent", exponent)
    if exponent.is_complex():
        raise InvalidInputError("exponent is complex: expected real numbers")
    return torch.where(exponent >= 0, torch.inf, -math.log(2) / exponent)


def doubling_time(exponent: Tensor | float) -> Tensor:
    """Number of steps in which a norm doubles that changes by the factor exp(exponent) per step:
    log 2 / exponent, with the shape of exponent; inf if it does not grow.

    >>> doubling_time(torch.tensor([-1.0, 0.0, math.log(2)]))
    tensor([inf, inf, 1.])
    """
    return half_life(-as_numbers("exponent", exponent))
