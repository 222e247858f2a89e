"""Geršgorin's discs: regions that hold the eigenvalues of a matrix, from its entries only.

Every eigenvalue lies in the union over i of the discs |z - a_ii| <= r_i, with r_i the sum over j != i of |a_ij| (rows)
or of |a_ji| (columns): S. Geršgorin, 1931; R. Varga, "Geršgorin and His Circles", 2004, theorems 1.1 and 1.6. With
A[i, j] = d y_i[t] / d y_j[t-1], the row discs of A are the column discs of the transpose that Zilly et al. print.

Rounding. A computed eigenvalue is an exact one of some A + E with ||E|| of about eps ||A||. So it lies in the discs of
A + E, which are hardly larger than those of A, whatever A is. How far it is from A's own eigenvalue is another matter: by
up to ||E|| times its condition (`gersgorin.linalg.eigenvalue_conditions`), which is 1 for normal matrices and can be large for
Jacobians of deep or trained cells; in a Jordan block of size k by ||E||^(1/k). To lie inside the discs says nothing of that error.

Shapes: A (..., n, n), centers and radii (..., n), points z (..., k).
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gersgorin._validate import check_finite, check_square
from gersgorin.linalg.outlines import discs_outline, polygon_area
from rhn.errors import InvalidInputError


@dataclass(frozen=True, eq=False)
class Discs:
    """A union of n discs for each matrix of a batch: centers (..., n) real or complex, radii (..., n) real.

    discs[k] are those of a part of the batch, by any index of the leading dimensions.
    """

    centers: Tensor
    radii: Tensor

    def __getitem__(self, index) -> "Discs":
        return Discs(self.centers[index], self.radii[index])

    @property
    def norm(self) -> Tensor:
        """max_i |a_ii| + r_i, (...,): the row-sum norm of A for row discs, the column-sum norm for column discs."""
        return (self.centers.abs() + self.radii).amax(-1)

    @property
    def rightmost(self) -> Tensor:
        """The largest real part of a point of the union, (...,)."""
        return (self.centers.real + self.radii).amax(-1)

    @property
    def inside_unit_circle(self) -> Tensor:
        """The share of discs that lie in the closed unit disc, (...,), between 0 and 1."""
        return (self.centers.abs() + self.radii <= 1).to(self.radii.dtype).mean(-1)

    def contains(self, z: Tensor, tol: float | Tensor | None = None) -> Tensor:
        """True for points in the union of the discs, their radii enlarged by `tol`.

        Args:
            z: (..., k) real or complex, leading dimensions broadcast against the batch; a scalar counts as k = 1.
            tol: absolute, a number or (...,). Default 10 n eps `norm`, which the discs of A + E need (see above):
                eigenvalues of permutations, stochastic matrices and closed gates lie on the boundary. 0: the strict test.

        Returns:
            (..., k) bool. One matrix takes memory for k n numbers.

        >>> gersgorin_discs(torch.tensor([[0.0, 1.0], [1.0, 0.0]])).contains(torch.tensor([1.0, 1j, 1.01]))
        tensor([ True,  True, False])
        """
        z, tol = points_and_tolerance(z, tol, self.centers, self.norm)
        distances = (z[..., None] - self.centers[..., None, :]).abs()
        return (distances <= self.radii[..., None, :] + tol[..., None, None]).any(-1)

    def components(self, tol: float | None = None) -> tuple[tuple[int, ...], ...]:
        """The connected components of the union, for one matrix: the indices of each one's discs.

        A component of k discs holds exactly k eigenvalues (Varga, theorem 1.6). Discs nearer than 2 `tol` (default as
        in `contains`) count as touching, so that the theorem holds for computed eigenvalues too. Components come in the
        order of their smallest index.

        Raises:
            InvalidInputError: the discs of a batch; pick one matrix.

        >>> gersgorin_discs(torch.tensor([[5.0, 1.0, 0.0], [0.0, 1.0, 0.5], [0.0, 1.0, 2.0]])).components()
        ((0,), (1, 2))
        """
        from scipy.sparse.csgraph import connected_components  # loads in half a second, and few need it

        centers, radii = self._of_one_matrix("components")
        tol = float(default_tolerance(self.norm, len(centers), self.norm.dtype)) if tol is None else tol
        touching = np.abs(centers[:, None] - centers) <= radii[:, None] + radii + 2 * tol
        count, label = connected_components(touching, directed=False)
        return tuple(tuple(np.flatnonzero(label == component).tolist()) for component in range(count))

    def outline(self, points: int = 65) -> list[np.ndarray]:
        """The boundary of the union as closed polygons, one for each connected component, from left to right.

        For real centers, the mirrored curve max_i sqrt(r_i^2 - (x - a_ii)^2), whose arcs are found exactly and sampled
        at `points` equal angles each. A disc of radius 0 that stands alone is a polygon of one repeated point.

        Returns:
            Complex vectors, the first point equal to the last. Their chords lie inside the arcs: a whole disc loses
            2 pi^2 / (3 (2 points - 2)^2) of its area, 0.04 % by default.

        Raises:
            InvalidInputError: complex centers, the discs of a batch, or points < 3.
        """
        if points < 3:
            raise InvalidInputError(f"points: expected at least 3 for each arc, got {points}")
        centers, radii = self._of_one_matrix("outline")
        if np.iscomplexobj(centers):
            raise InvalidInputError("outline: expected real centers, got complex ones: the curve would not mirror")
        return discs_outline(centers, radii, points)

    def area(self, points: int = 65) -> float:
        """The area of the union, as that of the polygons of `outline(points)`."""
        return polygon_area(self.outline(points))

    def _of_one_matrix(self, method: str) -> tuple[np.ndarray, np.ndarray]:
        if self.centers.dim() != 1:
            got = tuple(self.centers.shape[:-1])
            raise InvalidInputError(f"{method}: expected one matrix's discs, got a batch {got}; pick one: discs[0]")
        double = torch.promote_types(self.centers.dtype, torch.float64)
        return self.centers.detach().cpu().to(double).numpy(force=True), self.radii.detach().cpu().double().numpy()


def gersgorin_discs(A: Tensor, axis: str = "row") -> Discs:
    """The Geršgorin discs of A (..., n, n): of its rows, or of its columns. Differentiable in A.

    Raises:
        InvalidInputError: A is not square, not floating point, or holds NaN or infinity; axis is neither word.

    >>> gersgorin_discs(torch.tensor([[1.0, -2.0], [0.5, 3.0]])).radii
    tensor([2.0000, 0.5000])
    >>> gersgorin_discs(torch.tensor([[1.0, -2.0], [0.5, 3.0]]), axis="column").radii
    tensor([0.5000, 2.0000])
    """
    check_square(A, finite=False)
    if axis not in ("row", "column"):
        raise InvalidInputError(f"axis: expected 'row' or 'column', got {axis!r}")
    discs = Discs(A.diagonal(dim1=-2, dim2=-1), off_diagonal_sums(A, axis))
    check_finite(A, discs.centers + discs.radii)
    return discs


def off_diagonal_sums(A: Tensor, axis: str) -> Tensor:
    """Sum of |a_ij|, j != i, along each row or column, (..., n).

    The diagonal is left out, not subtracted: near closed gates (A = I + 1e-20) a difference would lose the radius.
    """
    moduli = A.abs()
    moduli.diagonal(dim1=-2, dim2=-1).zero_()
    return moduli.sum(-1 if axis == "row" else -2)


def points_and_tolerance(z: Tensor, tol: float | Tensor | None, centers: Tensor, norm: Tensor) -> tuple[Tensor, Tensor]:
    """The arguments of `contains` as tensors: points (..., k) beside `centers` (..., n), a tolerance (...,)."""
    z = z if isinstance(z, Tensor) else torch.as_tensor(np.asarray(z))  # Python's numbers in their own precision
    z = torch.atleast_1d(z.to(centers.device))
    z = z if z.is_complex() or z.is_floating_point() else z.to(norm.dtype)
    if tol is None:
        tol = default_tolerance(norm, centers.shape[-1], z.dtype)
    return z, torch.as_tensor(tol, dtype=norm.dtype, device=norm.device)


def default_tolerance(norm: Tensor, n: int, dtype: torch.dtype) -> Tensor:
    """10 n eps ||A||: more than rounding adds to any radius (not: moves any eigenvalue); eps of the coarser type."""
    return 10 * n * max(torch.finfo(norm.dtype).eps, torch.finfo(dtype).eps) * norm
