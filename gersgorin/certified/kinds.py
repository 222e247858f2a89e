"""What bounds the norm of a run's product, given the products of its windows: theorems, each with the products it holds for.

For M_1, ..., M_k with dy_T/dy_0 = M_k ... M_1, windows of any lengths:

norm               ||M_k ... M_1|| <= prod ||M_i||, in the 2-norm.
diagonal,          <= cond(S) prod ||S M_i S^-1||, S fixed for the run (`weights.py`); holds for products of different
quadratic norm     matrices as the norm does.
numerical radius   <= prod 2 w(M_i), w(M) = max |x* M x| over |x| = 1, because ||M|| <= 2 w(M). Never below the norms: the
                   power inequality w(M^k) <= w(M)^k (C. Berger, 1965), which would spare all factors 2 but one, holds for
                   powers of one matrix, not for products of different ones. It says what a run would do that stayed at
                   one step: ||A^k|| <= 2 w(A)^k.
logarithmic norm   <= prod sqrt(1 + 2 mu(B_i) + ||B_i||^2), B_i = M_i - I and mu(B) the largest eigenvalue of (B + B^T) / 2
                   (G. Dahlquist, 1958): ||I + B||^2 is at most the largest eigenvalue of I + B + B^T plus ||B||^2. Never
                   below the norms either: it parts a residual step s' = s + h f into its flow (h mu, which can be
                   negative) and what the step's size adds (h^2).

and from below     ||M_k ... M_1|| >= sigma_min(M_k) ... sigma_min(M_2) ||M_1||: it cannot vanish faster than that.

w(M) is taken from above as (||M|| + sqrt(||M^2||)) / 2 (F. Kittaneh, Studia Math. 158, 2003).
"""

import math

import numpy as np

from gersgorin.certified.enclosed import Enclosed, times
from gersgorin.certified.norms import norm_above, norm_below, smallest_singular_value_below
from gersgorin.certified.rounding import TINY, UNIT, above, log_above, log_below
from gersgorin.certified.weights import Weighted

KINDS = ("norm", "diagonal norm", "quadratic norm", "numerical radius", "logarithmic norm")


def log_bounds(M: Enclosed, norms: tuple[Weighted | None, Weighted | None]) -> np.ndarray:
    """For each of the KINDS at least the log of a window's factor, (5,); inf where it says nothing of this matrix.

    `norms`: the diagonal and the quadratic one, or None. Their condition numbers are to be added once a run.
    """
    square = M.middle.shape[0] == M.middle.shape[1]
    found = [log_above(M.norm, M.exponent)]
    found += [norm.log_norm(M) if norm is not None and _fits(norm, M) else math.inf for norm in norms]
    found += [_log_numerical_radius(M), _log_of_flow(M)] if square else [math.inf, math.inf]
    return np.array(found)


def log_below_of(M: Enclosed, *, first: bool) -> float:
    """At most the log of the norm of a run's first window, or of the smallest singular value of a later one; -inf for 0."""
    size = norm_below(M.middle) if first else smallest_singular_value_below(M.middle)
    return log_below(max(0.0, (size - M.error) * (1 - 4 * UNIT)), M.exponent)


def numerical_radius_above(M: Enclosed) -> float:
    """At least w = max |x* M x| over |x| = 1; for normal matrices close to it, never above the norm.

    >>> from gersgorin.certified.enclosed import exactly
    >>> w = numerical_radius_above(exactly(np.array([[0.0, 2.0], [0.0, 0.0]])))  # its norm is 2, its spectral radius 0
    >>> 0 <= w - 1 < 1e-7
    True
    """
    log_radius = _log_numerical_radius(M) - math.log(2)
    with np.errstate(over="ignore"):
        return float(above(np.exp(log_radius + 1e-15 * (1 + abs(log_radius))), 8))


def _fits(norm: Weighted, M: Enclosed) -> bool:
    return M.middle.shape == norm.S.shape


def _log_numerical_radius(M: Enclosed) -> float:
    """At least log 2 w(M)."""
    square = times(M, M)
    root = above(math.sqrt(above(math.ldexp(square.norm, square.exponent - 2 * M.exponent))), 1)
    return log_above(above(M.norm + min(root, M.norm)), M.exponent)  # w <= ||M|| too


def _log_of_flow(M: Enclosed) -> float:
    """At least log sqrt(1 + 2 mu(M - I) + ||M - I||^2); inf where 2^exponent leaves the range in which I can be taken off."""
    if abs(M.exponent) > 500:
        return math.inf
    A = np.ldexp(M.middle, M.exponent)
    lost = above(math.ldexp(M.error, M.exponent)) + A.size * TINY
    B = A - np.eye(len(A))
    far = above(
        norm_above(B) + above(4 * UNIT * (1 + math.ldexp(M.norm, M.exponent)) * len(A), 6) + lost, 2
    )  # >= ||M - I||
    H = (B + B.T) / 2
    # mu + far is the norm of the positive semidefinite H + far I
    shifted = norm_above(H + far * np.eye(len(A)))
    rounded = above(8 * UNIT * (far + 1) * len(A) + lost, 8)  # of B, H and the shift: n times the largest entry's
    mu = (shifted + rounded) * (1 + 4 * UNIT) - far
    squared = (1 + 2 * mu) + far * far
    squared = max(0.0, squared) + 32 * UNIT * (1 + far) ** 2
    return log_above(math.sqrt(squared))
