"""Fixed vector norms |S v| in which a run's Jacobians are smaller than in the Euclidean norm, found from the Jacobians themselves.

For any invertible S, ||A_{T-1} ... A_0||_2 <= cond(S) prod_t ||S A_t S^-1||_2, because S^-1 S between the factors is the
identity: one condition number is paid for the whole run, not one a step (R. Horn, C. Johnson, "Matrix Analysis", 2013,
section 5.6). Products of different matrices allow this for any one norm, fixed for the run. Two that are simply found:

diagonal    S of powers of two that balances the mean of |A_t| (E. Osborne, 1960; LAPACK's gebal): nothing is rounded.
quadratic   S^T S = P solves P = I + M^T P M (Lyapunov's equation) for the mean Jacobian M over slightly more than its
            spectral radius: in this norm M is hardly larger than that radius, and steps near the mean are not either.

Rounding: S and an approximate inverse R are float64 matrices, read as exact, with ||R S - I|| and ||S R - I|| <= defect.
Then ||S M S^-1|| <= ||S M R|| / (1 - defect), and cond(S) <= ||S|| ||R|| / (1 - defect).

What bounds the norm of a run's product, given the products of its windows: theorems, each with the products it holds for.

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

Bounds of windows added up along a run, level by level, rounded outwards.

Up to a time t the windows of 2^k factors, and for what is left of t the longest shorter ones that fit, make a bound at every t.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.linalg

from gersgorin.bounds.products import (
    Enclosed,
    Window,
    exactly,
    identity_distance,
    norm_above,
    norm_below,
    smallest_singular_value_below,
    times,
)
from gersgorin.bounds.rounding import TINY, UNIT, above, log_above, log_below, sum_of_logs_above

OVER_THE_RADIUS = (1.01, 1.05, 1.2, 1.5)  # what the mean Jacobian's spectral radius is divided by more than, in trials


@dataclass(frozen=True)
class Weighted:
    """The vector norm |S v|."""

    S: np.ndarray
    R: np.ndarray
    """About S^-1."""
    defect: float
    """At least ||R S - I||_2 and ||S R - I||_2; less than 1."""

    @property
    def log_condition(self) -> float:
        """At least log cond(S)."""
        return log_above(above(above(norm_above(self.S) * norm_above(self.R)) / (1 - self.defect), 2))

    @cached_property
    def _exact(self) -> tuple[Enclosed, Enclosed]:
        return exactly(self.S), exactly(self.R)

    def log_norm(self, M: Enclosed) -> float:
        """At least log ||S M S^-1||_2."""
        S, R = self._exact
        inside = times(times(S, M), R)
        return log_above(above(inside.norm / (1 - self.defect), 2), inside.exponent)


def diagonal_norm(mean_modulus: np.ndarray) -> Weighted | None:
    """The norm that balances the mean of |A_t| (n, n); None where the Euclidean norm does already."""
    scaling = scipy.linalg.matrix_balance(mean_modulus, permute=False, separate=True)[1][0]
    exact = np.isfinite(scaling).all() and (np.frexp(scaling)[0] == 0.5).all()
    if not exact or (scaling == scaling[0]).all():
        return None
    return Weighted(np.diag(1 / scaling), np.diag(scaling), 0.0)  # powers of two: exact


def quadratic_norm(steps: np.ndarray, mean: np.ndarray) -> Weighted | None:
    """Of the norms for a few distances from the mean Jacobian's spectral radius, the best for some of the steps (k, n, n); or None.

    The mean (n, n) is that of the whole run.
    """
    radius = np.abs(np.linalg.eigvals(mean)).max()
    if not radius > 0:
        return None
    found = [norm for factor in OVER_THE_RADIUS if (norm := _lyapunov_norm(mean / (factor * radius))) is not None]
    return min(found, key=lambda norm: _mean_log_norm(norm, steps), default=None)


def _lyapunov_norm(M: np.ndarray) -> Weighted | None:
    """|S v| with S^T S = I + M^T S^T S M, for spectral radius < 1; None where rounding spoils it."""
    try:
        P = scipy.linalg.solve_discrete_lyapunov(M.T, np.eye(len(M)), method="bilinear")
        S = scipy.linalg.cholesky((P + P.T) / 2)
        R = scipy.linalg.solve_triangular(S, np.eye(len(S)))
    except (np.linalg.LinAlgError, ValueError):
        return None
    defect = max(identity_distance(R, S), identity_distance(S, R))
    return Weighted(S, R, float(defect)) if defect < 0.5 else None


def _mean_log_norm(norm: Weighted, steps: np.ndarray) -> float:
    """How the norm does on some steps, roughly (this decides nothing but the choice)."""
    sizes = np.linalg.norm(norm.S @ steps @ norm.R, 2, axis=(1, 2))
    return math.inf if not np.isfinite(sizes).all() else float(np.log(sizes + 1e-300).mean())


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

    >>> from gersgorin.bounds.products import exactly
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


Bounds = tuple[np.ndarray, float]
NOTHING: Bounds = (np.zeros(len(KINDS)), 0.0)


class Ledger:
    """What the windows of each level certify."""

    def __init__(self, norms: tuple[Weighted | None, Weighted | None], *, first: bool = True):
        """`first`: whether the run begins here."""
        self.norms, self.first = norms, first
        self.of_window: dict[tuple[int, int], Bounds] = {}
        self.sums: list[Bounds] = []
        """Of each level's windows so far: logs of the upper bounds (5,), that of the lower one."""

    def add(self, window: Window, known: Bounds | None = None) -> None:
        """Enter a window, after its halves; `known`: its bounds, where they need not be computed."""
        bounds = self.of_window[window.level, window.start] = known or self._bounds(window)
        if window.level == len(self.sums):
            self.sums.append(NOTHING)
        self.sums[window.level] = added(self.sums[window.level], bounds)

    def over_time(self, level: int, T: int) -> list[Bounds]:
        """The bounds at t = 1..T from windows of up to 2^level factors."""
        found, whole, longest = [], NOTHING, 2**level
        for t in range(1, T):
            start = t // longest * longest
            if start == t:
                whole = added(whole, self.of_window[level, start - longest])
            total = whole
            for shorter in reversed(range(level)):
                if t - start >= 2**shorter:
                    total = added(total, self.of_window[shorter, start])
                    start += 2**shorter
            found.append(total)
        return [*found, self.sums[level]]  # its last window may be a shorter one

    def _bounds(self, window: Window) -> Bounds:
        """Those of the product itself, or those of its halves together where these are sharper (rounding)."""
        middle = window.start + 2 ** (window.level - 1) if window.level else window.stop
        if window.level and middle >= window.stop:
            return self.of_window[window.level - 1, window.start]  # carried up as it is
        upper = log_bounds(window.product, self.norms)
        lower = log_below_of(window.product, first=self.first and window.start == 0)
        if window.level:
            halves = added(*(self.of_window[window.level - 1, start] for start in (window.start, middle)))
            upper, lower = np.minimum(upper, halves[0]), max(lower, halves[1])
        return upper, lower


def added(first: Bounds, second: Bounds) -> Bounds:
    """The sum of two logs of bounds, rounded outwards."""
    return sum_of_logs_above(first[0], second[0]), math.nextafter(first[1] + second[1], -math.inf)
