"""Upper bounds on what float64 arithmetic computes: every number that leaves this file is at least the exact one.

In round to nearest an operation is off by at most u = 2^-53 of its result, or where it underflows by at most 2^-1022 (which also
covers processors told to flush small numbers to zero). A sum of k products, in any order, with or without fused multiply-add, is off
by at most gamma_k = k u / (1 - k u) times the same sum of moduli (N. Higham, "Accuracy and Stability of Numerical Algorithms", 2002,
section 3.1). The matrix products of NumPy's BLAS are such sums; those of Strassen's method would not be.

Legend: matrices are float64 or complex128 arrays (..., rows, columns); "nonnegative" ones hold moduli and errors.
"""

import math

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
