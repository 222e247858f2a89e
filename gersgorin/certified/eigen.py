"""Discs that hold the eigenvalues of a float64 matrix for certain, from float64 arithmetic alone.

Eigenvectors. Let A X be nearly X D, R nearly X^-1, W = A X - X D and E = I - R X. Then X^-1 A X = D + (I - E)^-1 R W,
entry by entry within |R W| + |E (I - E)^-1| |R W| of D. Gersgorin's theorem on its rows gives a disc about each d_i, and
in each connected set of discs as many eigenvalues as discs (S. Miyajima, "Fast enclosure for all eigenvalues in
generalized eigenvalue problems", J. Comput. Appl. Math. 233, 2010). Row i of R is a left eigenvector: the radius grows
with that eigenvalue's own condition.

Schur. Where eigenvectors are nearly dependent (Jordan blocks, Grcar's matrix), A Q = Q T + W with Q nearly unitary gives
Q^-1 A Q = T + F, |F_ij| <= ||W|| / sqrt(1 - ||Q* Q - I||); a diagonal similarity diag(1, d, d^2, ...) shrinks what stands above the
diagonal and blows up F below it. The best d leaves radii near ||W||^(1/k) for a Jordan block of size k, which is how far rounding can
move such eigenvalues.

Discs. Else the row or column discs of A itself. Of what holds, the discs are taken whose largest radius is least.
"""

from collections.abc import Iterator

import numpy as np
import scipy.linalg

from gersgorin.certified.rounding import (
    UNIT,
    above,
    frobenius_above,
    gamma,
    modulus_above,
    product_above,
    product_error,
    row_sum_norm_above,
    sum_above,
)

Circles = tuple[np.ndarray, np.ndarray]
RATIOS = np.geomspace(1e-6, 1, 49)  # of the diagonal similarity


def float64_discs(A: np.ndarray) -> Circles:
    """Centres (n,) complex and radii (n,) of discs whose connected sets hold as many eigenvalues of A (n, n) as discs."""
    found = _by_eigenvectors(A)
    if found is not None and is_isolated(*found).all():
        return found
    others = [*_by_schur(A), *_own_discs(A)]
    return min([found, *others] if found else others, key=lambda circles: circles[1].max())


def is_isolated(centers: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Whether each disc surely touches no other, (n,) bool."""
    return (touching(centers, radii).sum(1) == 1) & np.isfinite(radii)


def touching(centers: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Whether two discs may touch, (n, n) bool, true on the diagonal."""
    distance = np.abs(centers[:, None] - centers) * (1 - 16 * UNIT)  # at most the exact one
    return ~(distance > above(radii[:, None] + radii)) | np.eye(len(centers), dtype=bool)


def _by_eigenvectors(A: np.ndarray) -> Circles | None:
    try:
        values, X = np.linalg.eig(A)
        R = np.linalg.inv(X)
    except np.linalg.LinAlgError:
        return None
    if not np.isfinite(R).all():
        return None
    defect = row_sum_norm_above(above(modulus_above(R @ X - np.eye(len(A))) + product_error(R, X), 4))
    if not defect < 0.5:
        return None
    of_columns = above(2 * gamma(4) * modulus_above(X) * modulus_above(values), 3)
    W = above(modulus_above(A @ X - X * values) + product_error(A, X) + of_columns, 6)
    C = product_above(modulus_above(R), W)
    bound = above(C + above(defect / (1 - defect), 2) * C.max(0), 2)
    radii = sum_above(bound, 1)
    return (values.astype(complex), radii) if np.isfinite(radii).all() else None


def _by_schur(A: np.ndarray) -> Iterator[Circles]:
    try:
        T, Q = scipy.linalg.schur(A, output="complex")
    except np.linalg.LinAlgError:
        return
    conjugate, n = Q.conj().T, len(A)
    defect = frobenius_above(above(modulus_above(conjugate @ Q - np.eye(n)) + product_error(conjugate, Q), 4))
    if not defect < 0.5:
        return
    T = np.triu(T)
    rounded = above(product_error(A, Q) + product_error(Q, T), 1)
    F = above(frobenius_above(above(modulus_above(A @ Q - Q @ T) + rounded, 6)) / np.sqrt(1 - defect), 4)
    moduli = modulus_above(np.triu(T, 1)) + F
    for ratio in RATIOS:
        scale = ratio ** np.arange(n)
        if scale[-1] > 1e-290:
            with np.errstate(over="ignore"):
                radii = sum_above(above(above(moduli, 1) * above(scale / scale[:, None]), 1), 1)
            if np.isfinite(radii).all():
                yield np.diag(T), radii


def _own_discs(A: np.ndarray) -> Iterator[Circles]:
    off_diagonal = modulus_above(A) * ~np.eye(len(A), dtype=bool)
    for axis in (1, 0):
        yield np.diag(A).astype(complex), sum_above(off_diagonal, axis)
