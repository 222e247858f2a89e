"""Products of the Jacobians of many steps, their norms and exponents, without over- or underflow.

Spectra of single steps do not compose: [[0, 2], [0, 0]] and its transpose have spectral radius 0
each and a product of radius 4; diag(2, 0) and diag(0, 2) have radius 2 each and the product 0. Over
T steps a gradient grows by at most the norm of dy[T]/dy[0] = A[T-1] ... A[0].

Every factor and every partial product is scaled by powers of two, counted as integers: nothing
overflows, and scaling adds no rounding.

Shapes: A (T, ..., n, n), time first, A[t] = dy[t+1]/dy[t]. Units: logarithms are natural, exponents
are per step. No gradient flows through.
"""

import math
from collections.abc import Callable
from typing import Self

import numpy as np
import torch
from torch import Tensor

from gersgorin.linalg.spectrum import one_thread
from gersgorin.validate import check_square
from rhn.utils.scale import scaled


def jacobian_product(A: Tensor) -> tuple[Tensor, Tensor]:
    """The product of all steps, dy[T]/dy[0] = A[T-1] ... A[0] = P exp(log_scale).

    Args:
        A: (T, ..., n, n). T = 0 gives the empty product, the identity.

    Returns:
        P (..., n, n), its largest modulus of an entry in [1/2, 1), or P = 0; log_scale (...,) real
        and finite, 0 where P = 0. Entries smaller than P's largest by more than the type's range
        are lost.

    Raises:
        InvalidInputError: A is not (T, ..., n, n), not floating point, or holds NaN or infinity.

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


def cumulative_log_norms(A: Tensor) -> Tensor:
    """log ||dy[t+1]/dy[0]||_2 for t = 0..T-1, (T, ...) real; -inf where the product is zero. T = 0
    gives (0, ...).

    Arguments and errors as for `jacobian_product`.

    >>> cumulative_log_norms(torch.tensor([2.0, 0.5, 4.0]).reshape(3, 1, 1)).exp().round(decimals=4)
    tensor([2., 1., 4.])
    """
    check_square(A, steps=0)
    if not len(A):
        return A.real.new_empty(A.shape[:-2])
    product = RunningProduct()
    return torch.stack([product.multiply(step).log_norm() for step in A])


def spectral_norm(P: Tensor) -> Tensor:
    """||P||_2 (...,) of P (..., n, n)."""
    with one_thread():
        return torch.linalg.matrix_norm(P, 2)


class RunningProduct:
    """The product A[t] ... A[0] of Jacobians (..., n, n) that come one by one; keeps none of them.

    >>> product = RunningProduct()
    >>> steps = torch.tensor([2.0, 0.5, 4.0]).reshape(3, 1, 1)
    >>> [round(float(product.multiply(A).log_norm()), 4) for A in steps]
    [0.6931, 0.0, 1.3863]
    """

    P: Tensor
    """As `jacobian_product` returns it, from the first step on; so `log_scale`."""
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
        """log ||A[t] ... A[0]||_2, (...,); norm: of P."""
        return norm(self.P).log() + self.log_scale


def share_from(norms: np.ndarray) -> np.ndarray:
    """Share of a vector's 2-norm in its entries from each place on, (T,); NaN for zeros, and where
    an entry is infinite.

    >>> share_from(np.array([4.0, 0.0, 3.0])).tolist()
    [1.0, 0.6, 0.6]
    """
    with np.errstate(invalid="ignore"):
        rest = np.sqrt(np.cumsum(np.square(norms / norms.max())[::-1])[::-1])
        return rest / rest[0]


def vanishes_at(norms: np.ndarray) -> int | None:
    """The place from which on all numbers are 0 or subnormal; None: there is none.

    >>> vanishes_at(np.array([1.0, 0.0, 2.0, 1e-310, 0.0])), vanishes_at(np.ones(3))
    (3, None)
    """
    last = int(np.flatnonzero(norms >= np.finfo(norms.dtype).tiny).max(initial=-1)) + 1
    return last if last < len(norms) else None


def finite_time_exponent(A: Tensor) -> Tensor:
    """log ||A[T-1] ... A[0]||_2 / T, (...,) real: the worst perturbation's mean growth per step;
    -inf where all vanish.

    Raises:
        InvalidInputError: as `jacobian_product`; or T = 0.

    >>> A = torch.tensor([[0.0, 2.0], [0.0, 0.0]])  # radius 0, yet the product doubles each step
    >>> finite_time_exponent(torch.stack([A, A.T])).exp().round(decimals=4)
    tensor(2.)
    """
    P, log_scale = jacobian_product(check_square(A, steps=1))
    return (spectral_norm(P).log() + log_scale) / len(A)


def half_life(exponent: Tensor | float) -> Tensor:
    """Steps in which a gradient whose norm changes by exp(exponent) per step halves: -log 2 /
    exponent, same shape.

    inf if it does not shrink, see `doubling_time`; 0 for -inf, a zero product.

    >>> half_life(torch.tensor([-math.log(2) / 10, 0.0, math.log(2)]))
    tensor([10., inf, inf])
    """
    exponent = torch.as_tensor(exponent)
    return torch.where(exponent >= 0, torch.inf, -math.log(2) / exponent)


def doubling_time(exponent: Tensor | float) -> Tensor:
    """Steps in which a gradient whose norm changes by exp(exponent) per step doubles: log 2 /
    exponent, same shape; inf if it does not grow.

    >>> doubling_time(torch.tensor([-1.0, 0.0, math.log(2)]))
    tensor([inf, inf, 1.])
    """
    return half_life(-torch.as_tensor(exponent))
