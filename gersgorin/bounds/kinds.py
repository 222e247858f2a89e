"""What bounds the norm of a run's product, given the products of its windows, and the sum of these bounds along the run.

For M_1, ..., M_k with dy_T/dy_0 = M_k ... M_1, windows of any lengths:

norm               ||M_k ... M_1|| <= prod ||M_i||, in the 2-norm.
diagonal,          <= cond(S) prod ||S M_i S^-1||, for any invertible S, because S^-1 S between the factors is the identity: one
quadratic norm     condition number is paid for the whole run, not one a window (R. Horn, C. Johnson, "Matrix Analysis", 2013,
                   section 5.6). Products of different matrices allow this for any one norm, fixed for the run.
and from below     ||M_k ... M_1|| >= sigma_min(M_k) ... sigma_min(M_2) ||M_1||: it cannot vanish faster than that.

The fixed norms |S v| are found from the Jacobians themselves:

diagonal    S of powers of two that balances the mean of |A_t| (E. Osborne, 1960; LAPACK's gebal): nothing is rounded.
quadratic   S^T S = P solves P = I + M^T P M (Lyapunov's equation) for the mean Jacobian M over slightly more than its
            spectral radius: in this norm M is hardly larger than that radius, and steps near the mean are not either.

Rounding: S and an approximate inverse R are float64 matrices, read as exact, with ||R S - I|| and ||S R - I|| <= defect.
Then ||S M S^-1|| <= ||S M R|| / (1 - defect), and cond(S) <= ||S|| ||R|| / (1 - defect).

A product that is exactly zero counts as one rounding unit, 2^-53 or 2^-24, because a Jacobian may be zero only by rounding or by
underflow. No upper bound is minus infinity.

Numerical radii (||M|| <= 2 w(M)) and logarithmic norms (G. Dahlquist, 1958) bound products too, but never better than the norm.
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
from gersgorin.bounds.rounding import UNIT, above, log_above, log_below, sum_of_logs_above

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


KINDS = ("norm", "diagonal norm", "quadratic norm")


def log_bounds(M: Enclosed, norms: tuple[Weighted | None, Weighted | None], unit: float) -> np.ndarray:
    """For each of the KINDS at least the log of a window's factor, (3,); inf where it says nothing of this matrix.

    `norms`: the diagonal and the quadratic one, or None. Their condition numbers are to be added once a run.
    `unit`: what zero counts as.
    """
    if M.is_zero:
        return np.array([log_above(unit), *(math.inf if norm is None else log_above(unit) for norm in norms)])
    found = [log_above(M.norm, M.exponent)]
    found += [norm.log_norm(M) if norm is not None and _fits(norm, M) else math.inf for norm in norms]
    return np.array(found)


def log_below_of(M: Enclosed, *, first: bool) -> float:
    """At most the log of the norm of a run's first window, or of the smallest singular value of a later one; -inf for 0."""
    size = norm_below(M.middle) if first else smallest_singular_value_below(M.middle)
    return log_below(max(0.0, (size - M.error) * (1 - 4 * UNIT)), M.exponent)


def _fits(norm: Weighted, M: Enclosed) -> bool:
    return M.middle.shape == norm.S.shape


Bounds = tuple[np.ndarray, float]
NOTHING: Bounds = (np.zeros(len(KINDS)), 0.0)


class Ledger:
    """The bounds that the windows of each level give."""

    def __init__(self, norms: tuple[Weighted | None, Weighted | None], unit: float, *, first: bool = True):
        """`unit`: what a product of zero counts as. `first`: whether the run begins here."""
        self.norms, self.unit, self.first = norms, unit, first
        self.of_window: dict[tuple[int, int], Bounds] = {}
        self.sums: list[Bounds] = []
        """Of each level's windows so far: logs of the upper bounds (3,), that of the lower one."""

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
        upper = log_bounds(window.product, self.norms, self.unit)
        lower = log_below_of(window.product, first=self.first and window.start == 0)
        if window.level:
            halves = added(*(self.of_window[window.level - 1, start] for start in (window.start, middle)))
            upper, lower = np.minimum(upper, halves[0]), max(lower, halves[1])
        return upper, lower


def added(first: Bounds, second: Bounds) -> Bounds:
    """The sum of two logs of bounds, rounded outwards."""
    return sum_of_logs_above(first[0], second[0]), math.nextafter(first[1] + second[1], -math.inf)
