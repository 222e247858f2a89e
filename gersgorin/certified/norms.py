"""Rigorous bounds on the largest and the smallest singular value of a matrix, close to what an SVD computes.

Upper. Let V hold approximate right singular vectors, B = M V. Then ||M|| <= ||B|| / sigma_min(V); ||B||^2 is at most the row-sum norm
of B^T B, which is nearly diagonal, and sigma_min(V)^2 >= 1 - ||V^T V - I||. Any V gives a true bound, a good one a close bound
(S. Rump, "Verified bounds for singular values", BIT 51, 2011).

Lower. ||M|| >= |M v| / |v| for any v. And sigma_min(M) = 1 / ||M^-1|| >= (1 - a) / ||R|| for an approximate inverse R
with ||I - R M|| <= a < 1.

Legend: M (m, n) float64, read as exact.
"""

import math

import numpy as np

from gersgorin.certified.rounding import (
    TINY,
    UNIT,
    above,
    frobenius_above,
    product_error,
    row_sum_norm_above,
    scaled,
    sum_above,
)


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
    """At most the smallest singular value of M (n, n); 0 where none above zero can be certified, and for m != n.

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
