"""Verified eigenvalues: a disc for each, in which it lies for certain, whatever rounding did.

>>> found = verified_eigenvalues([[2.0, 1.0], [0.0, 3.0]])
>>> sorted(found.centers.real.round(12).tolist()), bool(found.radii.max() < 1e-13), found.clusters.tolist()
([2.0, 3.0], True, [1, 1])
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from gersgorin._validate import check_square
from gersgorin.certified.arb import LARGEST, flint_discs, has_flint
from gersgorin.certified.eigen import float64_discs, is_isolated, touching
from gersgorin.certified.rounding import UNIT, above, modulus_above, scaled
from gersgorin.discs import Discs, gersgorin_discs
from rhn.errors import InvalidInputError
from rhn.result import Result

METHODS = ("float64", "flint")


@dataclass(frozen=True, kw_only=True, repr=False)
class VerifiedEigenvalues(Result):
    """n discs; each connected set of k discs holds exactly k eigenvalues, counted with their multiplicity."""

    centers: np.ndarray
    """(n,) complex."""
    radii: np.ndarray
    """(n,), rounded up; inf where no disc was found."""
    component: np.ndarray
    """(n,) the number of the connected set that each disc is in, 0, 1, ..."""
    method: str
    """What found them: "float64" or "flint"."""

    @property
    def clusters(self) -> np.ndarray:
        """How many eigenvalues the set of each disc holds, (n,): 1 for an isolated disc."""
        return np.bincount(self.component)[self.component]

    @property
    def none_outside(self) -> bool:
        """Whether for certain no eigenvalue lies outside the unit circle."""
        return bool((above(modulus_above(self.centers) + self.radii) <= 1).all())

    @property
    def outside(self) -> int:
        """How many eigenvalues lie outside the unit circle for certain."""
        nearest = np.abs(self.centers) * (1 - 16 * UNIT) - above(self.radii, 2)
        beyond = np.array([(nearest[self.component == k] > 1).all() for k in range(self.component.max() + 1)])
        return int(beyond[self.component].sum())


def verified_eigenvalues(
    A: Tensor | np.ndarray, *, method: Literal["float64", "flint"] | None = None
) -> VerifiedEigenvalues:
    """Discs that hold the eigenvalues of one matrix for certain; its entries are read as exact.

    Args:
        A: (n, n) real or complex, a tensor, an array or rows of numbers.
        method: "float64" (`certified.eigen`), "flint" (python-flint, at the precision it takes), or None: float64, and flint where that
            leaves clusters, python-flint is installed and n is at most 128.

    Raises:
        InvalidInputError: A is no square matrix of finite numbers, method is another word, python-flint is asked for and not installed.
    """
    if method not in (None, *METHODS):
        raise InvalidInputError(f"unknown method {method!r}: expected one of {', '.join(METHODS)}")
    matrix = _exact(A)
    small, exponent = scaled(matrix)
    if not np.array_equal(np.ldexp(small.real, exponent) + 1j * np.ldexp(small.imag, exponent), matrix):
        small, exponent = matrix, 0  # entries that differ by more than float64's range: as they are
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
    """Gersgorin's discs of A (..., n, n) in float64 with radii rounded up: at least the exact sums, at most a few roundings more.

    The centres are exact. Arguments and errors as for `gersgorin.gersgorin_discs`.

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
