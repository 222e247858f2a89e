"""Products of the Jacobians of many steps, their norms and exponents, without over- or underflow.

Spectra of single steps do not compose. [[0, 2], [0, 0]] and its transpose both have the spectral
radius 0, but their product has the radius 4. diag(2, 0) and diag(0, 2) both have the radius 2, but
their product is 0.

Every factor and every partial product is scaled by a power of two, whose exponent is stored as an
integer. Nothing overflows, and scaling adds no rounding.

Shapes: A (T, ..., n, n), time first, with A[t] = ds[t+1]/ds[t] and s[t] the state before step t.
Units: logarithms are natural, exponents are per time step. No gradient flows through.
"""

import math
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor

from gersgorin.linalg.checks import as_numbers, check_square
from gersgorin.linalg.spectrum import one_thread
from rhn.errors import InvalidInputError
from rhn.utils.scale import scaled


def jacobian_product(A: Tensor) -> tuple[Tensor, Tensor]:
    """Multiply the Jacobians of all steps: ds[T]/ds[0] = A[T-1]...A[0] = P exp(log_scale).

    Args:
        A: (T, ..., n, n). T = 0 gives the empty product, the identity.

    Returns:
        (P, log_scale). P (..., n, n) is 0, or its largest entry has a modulus in [1/2, 1).
        log_scale (...,) is real and finite, and 0 if P = 0. Entries that are smaller than the
        largest one by more than the range of the dtype are lost.

    Raises:
        InvalidInputError: A is not (T, ..., n, n), not floating point, or contains NaN or infinity.

    >>> P, log_scale = jacobian_product(torch.full((5000, 1, 1), 32.0))
    >>> float(P), round(float(log_scale / math.log(2)))  # 32^5000 = 2^25000
    (0.5, 25001)
    """
    check_square(A, steps=0)
    if not len(A):
        half = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device) / 2
        return half.expand(A.shape[1:]), A.real.new_full(A.shape[1:-2], math.log(2))
    product = RunningProduct()
    for step in A:
        product.multiply(step)
    return product.P, product.log_scale


def spectral_norm(P: Tensor) -> Tensor:
    """The norms ||P||_2, (...,), of matrices P (..., n, n)."""
    with one_thread():
        return torch.linalg.matrix_norm(P, 2)


class RunningProduct:
    """The product A[t] ... A[0] of Jacobians (..., n, n) that are passed one by one and not stored.

    >>> product = RunningProduct()
    >>> steps = torch.tensor([2.0, 0.5, 4.0]).reshape(3, 1, 1)
    >>> [round(float(product.multiply(A).log_norm()), 4) for A in steps]
    [0.6931, 0.0, 1.3863]
    """

    P: Tensor
    """The scaled product from the first step on. `P` and `log_scale` are as `jacobian_product`
    returns them.
    """
    log_scale: Tensor

    def __init__(self) -> None:
        self._exponent: Tensor | None = None

    def multiply(self, A: Tensor) -> Self:
        """Multiply by the Jacobian of the next step, from the left."""
        A, exponent = scaled(A.detach())
        if self._exponent is not None:
            A, carried = scaled(A @ self.P)
            exponent = self._exponent + exponent + carried
        self.P = A
        self._exponent = torch.where((A == 0).all(-1).all(-1), 0, exponent)
        self.log_scale = self._exponent.to(A.real.dtype) * math.log(2)
        return self

    def log_norm(self, norm: Callable[[Tensor], Tensor] = spectral_norm) -> Tensor:
        """log ||A[t] ... A[0]||_2, (...,). norm: the function that computes the norm of P."""
        return norm(self.P).log() + self.log_scale


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
