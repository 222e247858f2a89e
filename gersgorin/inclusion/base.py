"""What all inclusion sets share: a region of the complex plane, made from a matrix's entries, that holds its spectrum.

A new set is one file with one class and one row in `INCLUSION_SETS`; the row enrols it in the tests. The class derives
from `InclusionSet` and says which points belong (`_contains`); outline and area follow from that by bisection.
"""

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor

from gersgorin._outline import binary_scale, polygon_area, sampled_outline
from gersgorin._validate import check_square
from gersgorin.discs import points_and_tolerance
from rhn.errors import InvalidInputError


class InclusionSet(ABC):
    """A set that holds every eigenvalue of each matrix of A (..., n, n), real or complex. No gradient flows through.

    Attributes:
        A: the matrices, (..., n, n).
        centers: their diagonals, (..., n); they belong to every set but that of blocks.
        norm: the larger of row-sum and column-sum norm, (...,); every set lies in the disc |z| <= norm.

    Raises:
        InvalidInputError: A is not square, not floating point, or holds NaN or infinity.
    """

    def __init__(self, A: Tensor) -> None:
        self.A = check_square(A).detach()
        self.centers = self.A.diagonal(dim1=-2, dim2=-1)
        moduli = self.A.abs()
        self.norm = torch.maximum(moduli.sum(-1).amax(-1), moduli.sum(-2).amax(-1))

    def contains(self, z: Tensor, tol: float | Tensor | None = None) -> Tensor:
        """Whether points belong to the set of some matrix whose entries differ from A's by at most `tol` / n.

        Computed eigenvalues are those of such a matrix (see `gersgorin.discs`). For the discs it enlarges each radius by `tol`.

        Args:
            z: (..., k) real or complex, leading dimensions broadcast against the batch; a scalar counts as k = 1.
            tol: absolute, a number or (...,); default 10 n eps `norm`; 0 is the strict test.

        Returns:
            (..., k) bool.
        """
        z, tol = points_and_tolerance(z, tol, self.centers, self.norm)
        return self._contains(z, tol[..., None])

    @abstractmethod
    def _contains(self, z: Tensor, tol: Tensor) -> Tensor:
        """As `contains`, for a tensor z (..., k) and a tol that broadcasts against it."""

    def outline(self, points: int = 65) -> list[np.ndarray]:
        """The boundary of the set (`tol` = 0) as closed polygons, one for each component, from left to right.

        Here for real matrices, by bisection: above each x of the axis their sets are an interval that starts there, or
        empty. Takes `points` x-values a component, so narrower features blur, and components that near may be joined.

        Returns:
            Complex vectors, the first point equal to the last.

        Raises:
            InvalidInputError: a complex matrix, a batch, or points < 3.
        """
        self._check_outline(points)
        if self.A.is_complex():
            raise InvalidInputError(f"outline: expected a real matrix, got {self.A.dtype}: the curve would not mirror")
        scale = binary_scale(float(self.norm))
        strict = torch.zeros(1, dtype=torch.float64, device=self.A.device)

        def inside(z: np.ndarray) -> np.ndarray:
            return self._contains(torch.as_tensor(scale * z, device=self.A.device), strict).cpu().numpy()

        centers = self.centers.cpu().double().numpy() / scale
        return [scale * polygon for polygon in sampled_outline(inside, centers, points)]

    def area(self, points: int = 65) -> float:
        """The area of the set, as that of the polygons of `outline(points)`."""
        return polygon_area(self.outline(points))

    def _check_outline(self, points: int) -> None:
        if self.A.dim() != 2:
            raise InvalidInputError(f"outline: expected one matrix (n, n), got a batch {tuple(self.A.shape)}; pick one")
        if points < 3:
            raise InvalidInputError(f"points: expected at least 3, got {points}")

    def _distances(self, z: Tensor) -> Tensor:
        """|z - a_ii|, (..., k, n)."""
        return (z[..., None] - self.centers[..., None, :]).abs()
