"""Fixed vector norms |S v| in which a run's Jacobians are smaller than in the Euclidean norm, found from the Jacobians themselves.

For any invertible S, ||A_{T-1} ... A_0||_2 <= cond(S) prod_t ||S A_t S^-1||_2, because S^-1 S between the factors is the
identity: one condition number is paid for the whole run, not one a step (R. Horn, C. Johnson, "Matrix Analysis", 2013,
section 5.6). Products of different matrices allow this for any one norm, fixed for the run. Two that are simply found:

diagonal    S of powers of two that balances the mean of |A_t| (E. Osborne, 1960; LAPACK's gebal): nothing is rounded.
quadratic   S^T S = P solves P = I + M^T P M (Lyapunov's equation) for the mean Jacobian M over slightly more than its
            spectral radius: in this norm M is hardly larger than that radius, and steps near the mean are not either.

Rounding: S and an approximate inverse R are float64 matrices, read as exact, with ||R S - I|| and ||S R - I|| <= defect.
Then ||S M S^-1|| <= ||S M R|| / (1 - defect), and cond(S) <= ||S|| ||R|| / (1 - defect).
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.linalg

from gersgorin.certified.enclosed import Enclosed, exactly, times
from gersgorin.certified.norms import identity_distance, norm_above
from gersgorin.certified.rounding import above, log_above

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
