"""Enclose the eigenvalues of a matrix in discs that hold them in spite of rounding.

>>> found = verified_eigenvalues([[2.0, 1.0], [0.0, 3.0]])
>>> sorted(found.centers.real.round(12).tolist()), bool(found.radii.max() < 1e-13), found.clusters.tolist()
([2.0, 3.0], True, [1, 1])

The discs are theorems about the float64 matrix A, its entries read as exact. The rounding of these entries is not covered.

Eigenvectors. Let A X be nearly X D, R nearly X^-1, W = A X - X D and E = I - R X. Then X^-1 A X = D + (I - E)^-1 R W,
entry by entry within |R W| + |E (I - E)^-1| |R W| of D. Gersgorin's theorem on its rows gives a disc about each d_i, and
in each connected set of discs as many eigenvalues as discs (S. Miyajima, "Fast enclosure for all eigenvalues in
generalized eigenvalue problems", J. Comput. Appl. Math. 233, 2010). Row i of R is a left eigenvector: the radius grows
with that eigenvalue's own condition.

Schur. If eigenvectors are nearly dependent (Jordan blocks, Grcar's matrix), A Q = Q T + W with Q nearly unitary gives
Q^-1 A Q = T + F, |F_ij| <= ||W|| / sqrt(1 - ||Q* Q - I||); a diagonal similarity diag(1, d, d^2, ...) shrinks the entries above the
diagonal and enlarges F below it. The best d leaves radii near ||W||^(1/k) for a Jordan block of size k, which is how far rounding can
move such eigenvalues.

Otherwise the row or column discs of A itself. The result is the set of discs whose largest radius is least.

python-flint (optional: `pip install rhn-toolkit[verified]`) gives the same discs in ball arithmetic of any precision (Arb,
F. Johansson), for matrices where float64 leaves clusters. It is 80 to 100 times slower.
"""

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.linalg
import torch
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from gersgorin._validate import check_square
from gersgorin.linalg.balls import (
    UNIT,
    above,
    frobenius_above,
    gamma,
    modulus_above,
    product_above,
    product_error,
    row_sum_norm_above,
    scaled,
    sum_above,
)
from gersgorin.linalg.discs import Discs, gersgorin_discs
from rhn.errors import InvalidInputError
from rhn.utils.result import OneScreen

Circles = tuple[np.ndarray, np.ndarray]
RATIOS = np.geomspace(1e-6, 1, 49)  # d of the diagonal similarity
PRECISIONS = (64, 128, 256, 512)  # bits
LARGEST = 128  # rows: beyond, flint takes minutes a matrix
METHODS = ("float64", "flint")


def float64_discs(A: np.ndarray) -> Circles:
    """Centres (n,) complex and radii (n,) of discs whose connected sets hold as many eigenvalues of A (n, n) as discs."""
    found = _by_eigenvectors(A)
    if found is not None and is_isolated(*found).all():
        return found
    others = [*_by_schur(A), *_own_discs(A)]
    return min([found, *others] if found else others, key=lambda circles: circles[1].max())


def is_isolated(centers: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """True for each disc that touches no other for certain, (n,)."""
    return (touching(centers, radii).sum(1) == 1) & np.isfinite(radii)


def touching(centers: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """True for two discs that may touch, (n, n); true on the diagonal."""
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


def has_flint() -> bool:
    """True if python-flint is installed."""
    return importlib.util.find_spec("flint") is not None


def flint_discs(A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres (n,) complex and radii (n,) as `float64_discs` gives them, each disc isolated if the eigenvalues are simple.

    Multiple eigenvalues, which no precision separates, have equal discs; radii are inf if these do not exist either.

    Raises:
        InvalidInputError: python-flint is not installed.
    """
    if not has_flint():
        raise InvalidInputError("python-flint is not installed: pip install python-flint, or use method='float64'")
    import flint

    exact = flint.acb_mat([[complex(value) for value in row] for row in A])
    before = flint.ctx.prec
    try:
        for flint.ctx.prec in PRECISIONS:
            try:
                return _discs(exact.eig())
            except ValueError:  # not isolated at this precision
                continue
        try:
            return _discs(exact.eig(multiple=True))
        except ValueError:
            return np.diag(A).astype(complex), np.full(len(A), np.inf)
    finally:
        flint.ctx.prec = before


def _discs(balls) -> tuple[np.ndarray, np.ndarray]:
    """Arb's boxes as discs about float64 centres, rounded outwards."""
    import flint

    centers = [complex(float(z.real.mid()), float(z.imag.mid())) for z in balls]
    far = [float((z - flint.acb(c)).abs_upper()) for z, c in zip(balls, centers, strict=True)]
    return np.array(centers), np.nan_to_num(above(np.array(far), 4), nan=np.inf)


@dataclass(frozen=True, kw_only=True, repr=False)
class VerifiedEigenvalues(OneScreen):
    """n discs; each connected set of k discs holds exactly k eigenvalues, counted with their multiplicity."""

    centers: np.ndarray
    """(n,) complex."""
    radii: np.ndarray
    """(n,), rounded up; inf without a disc."""
    component: np.ndarray
    """(n,) the number of the connected set that each disc is in, 0, 1, ..."""
    method: str
    """Arithmetic of the discs: "float64" or "flint"."""

    @property
    def clusters(self) -> np.ndarray:
        """Number of eigenvalues in the connected set of each disc, (n,): 1 for an isolated disc."""
        return np.bincount(self.component)[self.component]

    @property
    def none_outside(self) -> bool:
        """True if no eigenvalue lies outside the unit circle for certain."""
        return bool((above(modulus_above(self.centers) + self.radii) <= 1).all())

    @property
    def outside(self) -> int:
        """Number of eigenvalues that lie outside the unit circle for certain."""
        nearest = np.abs(self.centers) * (1 - 16 * UNIT) - above(self.radii, 2)
        beyond = np.array([(nearest[self.component == k] > 1).all() for k in range(self.component.max() + 1)])
        return int(beyond[self.component].sum())


def verified_eigenvalues(
    A: Tensor | np.ndarray, *, method: Literal["float64", "flint"] | None = None
) -> VerifiedEigenvalues:
    """Discs that hold the eigenvalues of the matrix as given for certain: its entries are read as exact.

    Args:
        A: (n, n) real or complex, a tensor, an array or rows of numbers.
        method: "float64" (`float64_discs`), "flint" (python-flint, in the precision that it takes), or None: float64, and if that
            leaves clusters, python-flint is installed and n is at most 128, also flint.

    Raises:
        InvalidInputError: A is no square matrix of finite numbers, method is another word, or flint is not installed.
    """
    if method not in (None, *METHODS):
        raise InvalidInputError(f"unknown method {method!r}: expected one of {', '.join(METHODS)}")
    matrix = _exact(A)
    small, exponent = scaled(matrix)
    if not np.array_equal(np.ldexp(small.real, exponent) + 1j * np.ldexp(small.imag, exponent), matrix):
        small, exponent = matrix, 0  # entries that differ by more than float64's range are not scaled
    circles = flint_discs(small) if method == "flint" else float64_discs(small)
    if method is None and has_flint() and len(small) <= LARGEST and not is_isolated(*circles).all():
        by_flint = flint_discs(small)
        if by_flint[1].max() < circles[1].max():
            circles, method = by_flint, "flint"
    centers, radii = circles
    centers = np.ldexp(centers.real, exponent) + 1j * np.ldexp(centers.imag, exponent)
    radii = above(np.ldexp(radii, exponent), 4)
    _, component = connected_components(touching(centers, radii), directed=False)
    return VerifiedEigenvalues(centers=centers, radii=radii, component=component, method=method or "float64")


def verified_discs(A: Tensor, axis: str = "row") -> Discs:
    """Gersgorin's discs of the matrices A (..., n, n) as given, in float64 with radii rounded up: at least the exact sums.

    The radii are at most a few roundings larger, the centres exact. Arguments and errors as for `gersgorin.gersgorin_discs`.

    >>> discs = verified_discs(torch.tensor([[1.0, 0.1, 0.2], [0.0, 2.0, 0.0], [0.0, 0.0, 3.0]], dtype=torch.float64))
    >>> 0 <= discs.radii[0] - (0.1 + 0.2) < 1e-14
    tensor(True)
    """
    check_square(A)
    discs = gersgorin_discs(A.detach().to(torch.complex128 if A.is_complex() else torch.float64), axis)
    return Discs(discs.centers, above(discs.radii, A.shape[-1] + 4))


def _exact(A) -> np.ndarray:
    """A as a float64 or complex128 matrix of equal values."""
    if not isinstance(A, Tensor):
        try:
            A = torch.as_tensor(np.asarray(A))
        except (TypeError, ValueError) as error:
            raise InvalidInputError(f"A: expected a matrix of numbers: {error}") from error
        A = A if A.is_floating_point() or A.is_complex() else A.double()
    check_square(A)
    if A.dim() != 2:
        raise InvalidInputError(f"A: expected one matrix (n, n), got shape {tuple(A.shape)}: take one of them")
    return A.detach().cpu().to(torch.complex128 if A.is_complex() else torch.float64).numpy(force=True)
