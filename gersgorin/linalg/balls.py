"""Bounds on norms, singular values and products of float64 matrices, with all rounding counted.

Rounding. In round to nearest an operation is off by at most u = 2^-53 of its result, or in underflow by at most 2^-1022 (which also
covers processors that flush small numbers to zero). A sum of k products, in any order, with or without fused multiply-add, is off
by at most gamma_k = k u / (1 - k u) times the same sum of moduli (N. Higham, "Accuracy and Stability of Numerical Algorithms", 2002,
section 3.1). The matrix products of NumPy's BLAS are such sums; those of Strassen's method would not be. Functions named `..._above`
return at least the exact number, those named `..._below` at most.

Singular values, nearly as close as an SVD computes them. Upper: let V hold approximate right singular vectors, B = M V. Then
||M|| <= ||B|| / sigma_min(V); ||B||^2 is at most the row-sum norm of B^T B, which is nearly diagonal, and
sigma_min(V)^2 >= 1 - ||V^T V - I||. Any V gives a true bound, a good one a close bound (S. Rump, "Verified bounds for singular values",
BIT 51, 2011). Lower: ||M|| >= |M v| / |v| for any v. And sigma_min(M) = 1 / ||M^-1|| >= (1 - a) / ||R|| for an approximate inverse R
with ||I - R M|| <= a < 1.

Products are P = (middle + E) 2^exponent, ||E||_F <= error: one number bounds the error (Higham, section 3.5). Interval arithmetic entry
by entry would be looser: |A_T| ... |A_1|, which carries its radii, grows where A_T ... A_1 does not (the wrapping effect).

Windows are the products of 1, 2, 4, 8, ... consecutive factors. Those of 2^k factors begin at multiples of 2^k; the last one may be
shorter, and the last level is the product of all. Each is the product of two windows of the level below, so that its rounding error
grows with the norms of those halves, which may be small even if the factors are large.

Legend: matrices are float64 or complex128 arrays (..., rows, columns), read as exact; "nonnegative" ones hold moduli and errors.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

UNIT = 2.0**-53
TINY = 2.0**-1022
LOG_2 = math.log(2)


def above(value, operations: int = 1):
    """At least the exact result of `operations` sums, products, quotients or square roots of nonnegative numbers computed as `value`.

    1 / (1 - y) <= 1 + 2 y for y <= 1/2, and three operations more are counted for those done here.
    """
    k = operations + 3
    return value * (1 + 2 * k * UNIT) + k * TINY


def gamma(k: int) -> float:
    """An upper bound on gamma_k, for k up to 2^50."""
    return above(k * UNIT / (1 - k * UNIT), 3)


def product_above(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """At least the exact A @ B, of nonnegative matrices."""
    return above(A @ B, A.shape[-1] + 1)


def sum_above(values: np.ndarray, axis=None):
    """At least the exact sum of nonnegative numbers."""
    count = values.size if axis is None else values.shape[axis]
    return above(values.sum(axis), count)


def modulus_above(A: np.ndarray) -> np.ndarray:
    """At least |a|, entry by entry; exact for real ones."""
    return np.abs(A) if not np.iscomplexobj(A) else above(np.hypot(A.real, A.imag), 4)


def row_sum_norm_above(E: np.ndarray) -> float:
    """At least the row-sum norm of a nonnegative matrix; 0 where it has no entries."""
    return float(sum_above(E, -1).max(initial=0.0))


def frobenius_above(A: np.ndarray) -> float:
    """At least the Frobenius norm."""
    return float(above(math.sqrt(sum_above(above(modulus_above(A) ** 2))), 1))


def product_error(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """A bound on |fl(A B) - A B|, entry by entry.

    Real: gamma_n |A| |B|. Complex: each part is a sum of 2 n real products with moduli of at most |a| |b| together.
    """
    n = A.shape[-1]
    complex_ones = np.iscomplexobj(A) or np.iscomplexobj(B)
    rate = above(1.5 * gamma(2 * n + 2), 1) if complex_ones else gamma(n + 1)
    return above(rate * product_above(modulus_above(A), modulus_above(B)), 1) + 2 * (n + 1) * TINY


def scaled(A: np.ndarray) -> tuple[np.ndarray, int]:
    """A 2^-e and the integer e that brings its largest real or imaginary part into [1/2, 1); e = 0 for zero.

    Exact but for entries that fall below the normal numbers: off by less than TINY each.
    """
    largest = max(np.abs(A.real).max(initial=0.0), np.abs(A.imag).max(initial=0.0))
    e = math.frexp(largest)[1]
    if np.iscomplexobj(A):
        return np.ldexp(A.real, -e) + 1j * np.ldexp(A.imag, -e), e
    return np.ldexp(A, -e), e


def log_above(value: float, exponent: int = 0) -> float:
    """At least log(value 2^exponent), for value >= 0; -inf for 0. The C library's log is trusted to two units in the last place."""
    return _log(value, exponent, 1.0)


def log_below(value: float, exponent: int = 0) -> float:
    """At most log(value 2^exponent), for value >= 0; -inf for 0."""
    return _log(value, exponent, -1.0)


def sum_of_logs_above(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """At least first + second; inf stays, and -inf: the log of a product of zero."""
    with np.errstate(invalid="ignore"):
        total = first + second  # -inf + inf: of a zero and of what says nothing
    total = np.where(np.isneginf(first) | np.isneginf(second), -math.inf, total)
    return np.where(np.isfinite(total), np.nextafter(total, math.inf), total)


def _log(value: float, exponent: int, outwards: float) -> float:
    if value == 0:
        return -math.inf
    first, second = math.log(value), exponent * LOG_2
    return first + second + outwards * 16 * UNIT * (abs(first) + abs(second) + TINY)


def norm_above(M: np.ndarray) -> float:
    """At least ||M||_2; above it by about n^2 roundings, and never above the Frobenius norm's own bound.

    >>> M = np.array([[3.0, 0.0], [4.0, 5.0]])  # singular values sqrt(45) and sqrt(5)
    >>> 0 <= norm_above(M) ** 2 - 45 < 1e-12
    True
    """
    M, exponent = scaled(M)
    if not M.any():
        return 0.0
    M = M.T if M.shape[0] < M.shape[1] else M
    simple = min(frobenius_above(M), _between_the_simple_norms(M))
    try:
        V = np.linalg.eigh(M.T @ M)[1]
        defect = gram_distance(V)
    except np.linalg.LinAlgError:
        defect = math.inf
    if not defect < 0.5:
        return _unscaled(simple + M.size * TINY, exponent)
    B = M @ V
    error = frobenius_above(product_error(M, V))  # of B
    gram = B.T @ B
    squared = row_sum_norm_above(above(np.abs(gram) + product_error(B.T, B)))
    norm = above((above(math.sqrt(squared)) + error) / math.sqrt(1 - above(defect)), 4)
    return _unscaled(min(simple, norm) + M.size * TINY, exponent)


def norm_below(M: np.ndarray) -> float:
    """At most ||M||_2: |M v| / |v| for an approximate leading singular vector v.

    >>> M = np.array([[3.0, 0.0], [4.0, 5.0]])
    >>> 0 <= 45 - norm_below(M) ** 2 < 1e-12
    True
    """
    M, exponent = scaled(M)
    try:
        v = np.linalg.eigh(M.T @ M)[1][:, -1:]
    except np.linalg.LinAlgError:
        return 0.0
    rounded = frobenius_above(product_error(M, v))
    lowest = (np.linalg.norm(M @ v) * (1 - 4 * len(M) * UNIT) - rounded) / frobenius_above(v)
    return _lowered(lowest, M, exponent)


def smallest_singular_value_below(M: np.ndarray) -> float:
    """At most the smallest singular value of M (n, n); 0 where no bound above zero is found, and for m != n.

    >>> 1 - smallest_singular_value_below(np.array([[0.0, -1.0], [1.0, 0.0]])) < 1e-14
    True
    """
    if M.shape[0] != M.shape[1]:
        return 0.0
    M, exponent = scaled(M)
    try:
        R = np.linalg.inv(M)
    except np.linalg.LinAlgError:
        return 0.0
    if not np.isfinite(R).all():
        return 0.0
    defect = identity_distance(R, M)
    size = norm_above(R)
    if not defect < 1 or not math.isfinite(size):
        return 0.0
    return _lowered((1 - defect) / size, M, exponent)


def identity_distance(R: np.ndarray, M: np.ndarray) -> float:
    """At least the 2-norm of R M - I, by its Frobenius norm."""
    return frobenius_above(above(np.abs(R @ M - np.eye(len(R))) + product_error(R, M), 2))


def gram_distance(V: np.ndarray) -> float:
    """At least the 2-norm of V^T V - I, by its row-sum norm."""
    return row_sum_norm_above(above(np.abs(V.T @ V - np.eye(V.shape[1])) + product_error(V.T, V), 2))


def _between_the_simple_norms(M: np.ndarray) -> float:
    """sqrt(||M||_1 ||M||_inf), which is at least ||M||_2."""
    columns, rows = (float(sum_above(np.abs(M), axis).max(initial=0.0)) for axis in (0, 1))
    return float(above(math.sqrt(above(columns * rows)), 1))


def _lowered(value: float, M: np.ndarray, exponent: int) -> float:
    """value 2^exponent, rounded down to 0 or more, less what scaling M may have lost."""
    lowest = float(value) * (1 - 2.0**-50) - M.size * TINY
    try:
        return max(0.0, math.ldexp(lowest * (1 - 2.0**-50), exponent) - TINY)
    except OverflowError:
        return float(np.finfo(float).max)


def _unscaled(norm: float, exponent: int) -> float:
    """norm 2^exponent, rounded up; inf beyond the range of float64."""
    try:
        return math.ldexp(float(above(norm)), exponent) + TINY
    except OverflowError:
        return math.inf


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
        """True for the zero matrix, without an error."""
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
    return Enclosed(middle, above(float(np.ldexp(error, -shift))) + middle.size * TINY, A.exponent + P.exponent + shift)


def window_levels(factors: list[Enclosed]) -> Iterator[list[Enclosed]]:
    """The windows of each level, from the factors to the product of all; the first factor is the rightmost.

    >>> factors = [exactly(np.array([[0.0, 2.0], [0.0, 0.0]])), exactly(np.array([[0.0, 0.0], [2.0, 0.0]]))]
    >>> *_, (whole,) = window_levels(factors)
    >>> whole.middle * 2.0**whole.exponent, whole.error < 1e-15
    (array([[0., 0.],
           [0., 4.]]), True)
    """
    yield factors
    while len(factors) > 1:
        pairs = [factors[start : start + 2] for start in range(0, len(factors), 2)]
        factors = [times(pair[1], pair[0]) if len(pair) > 1 else pair[0] for pair in pairs]
        yield factors
