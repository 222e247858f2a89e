"""Products of float64 matrices with what rounding may have done to them: P = (middle + E) 2^exponent, ||E||_F <= error.

One number bounds the error (N. Higham, "Accuracy and Stability of Numerical Algorithms", 2002, section 3.5). Interval
arithmetic entry by entry would be looser here: |A_T| ... |A_1|, which carries its radii, grows where A_T ... A_1 does
not (the wrapping effect).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gersgorin.certified.norms import norm_above
from gersgorin.certified.rounding import TINY, above, frobenius_above, gamma, scaled


@dataclass(frozen=True)
class Enclosed:
    """A matrix (middle + E) 2^exponent with a bound on E."""

    middle: np.ndarray
    """(m, n), its largest entry in [1/2, 1), or zero."""
    error: float
    """At least ||E||_F, and so ||E||_2."""
    exponent: int = 0

    @property
    def is_zero(self) -> bool:
        """Whether it is the zero matrix for certain."""
        return self.error == 0 and not self.middle.any()

    @cached_property
    def norm(self) -> float:
        """At least ||middle + E||_2; 0 for the zero matrix."""
        if self.is_zero:
            return 0.0
        return float(above(norm_above(self.middle) + self.error, 1))


def exactly(A: np.ndarray) -> Enclosed:
    """A float64 matrix, read as exact."""
    middle, exponent = scaled(A)
    return Enclosed(middle, 0.0 if np.array_equal(np.ldexp(middle, exponent), A) else A.size * TINY, exponent)


def times(A: Enclosed, P: Enclosed) -> Enclosed:
    """A P. With A = a + E and P = p + F, ||A P - fl(a p)||_F is at most

    gamma_n ||a||_F ||p||_F + ||E||_F ||p||_F + (||a||_2 + ||E||_F) ||F||_F.
    """
    n, product = A.middle.shape[1], A.middle @ P.middle
    if A.is_zero or P.is_zero:
        return Enclosed(product, 0.0)
    middle, shift = scaled(product)
    size, of_p = frobenius_above(A.middle), frobenius_above(P.middle)
    rounded = above(gamma(n + 1) * size * of_p, 2) + (n + 2) * product.size * TINY
    carried = A.norm * P.error if P.error else 0.0  # the norm costs more than the product
    error = above(rounded + A.error * of_p + carried, 6)
    return Enclosed(middle, above(_shifted(error, -shift)) + middle.size * TINY, A.exponent + P.exponent + shift)


def product(factors: list[np.ndarray]) -> Enclosed:
    """The product of float64 matrices, the first one rightmost.

    >>> found = product([np.array([[0.0, 2.0], [0.0, 0.0]]), np.array([[0.0, 0.0], [2.0, 0.0]])])
    >>> found.middle * 2.0**found.exponent, found.error < 1e-15
    (array([[0., 0.],
           [0., 4.]]), True)
    """
    whole = exactly(factors[0])
    for factor in factors[1:]:
        whole = times(exactly(factor), whole)
    return whole


def _shifted(value: float, exponent: int) -> float:
    return float(np.ldexp(value, exponent))
