"""Geršgorin's discs: regions of the complex plane that contain the eigenvalues of a matrix,
computed from its entries only.

Every eigenvalue lies in the union of the discs |z - a_ii| <= r_i. The radius r_i is the sum over j
!= i of |a_ij| (row discs) or of |a_ji| (column discs): S. Geršgorin, 1931; R. Varga, "Geršgorin and
His Circles", 2004, theorems 1.1 and 1.6. Here A[i, j] = d s_i[t+1] / d s_j[t]. Zilly et al. print
the transposed matrix, so the row discs of A are the column discs of theirs.

Rounding: a computed eigenvalue is an exact eigenvalue of some A + E with ||E|| of about eps ||A||,
and lies in the discs of A + E, which are hardly larger than those of A. Its distance from the exact
eigenvalue of A can be larger, see `gersgorin.linalg.eigenvalue_conditions`.

Shapes: A (..., n, n), centers and radii (..., n). Points have the unit of the matrix.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gersgorin.linalg.matrices import check_square

# the old path, until 1.1
from gersgorin.linalg.numerical_range import numerical_radius as numerical_radius
from rhn.errors import InvalidInputError
from rhn.utils.validation import in_short


class Discs(NamedTuple):
    """A union of n discs for each matrix of a batch.

    >>> discs = Discs(torch.tensor([0.0, 3.0]), torch.tensor([1.0, 0.5]))
    >>> discs.contains(torch.tensor([0.5, 2.0, 3.5]))
    tensor([ True, False,  True])
    """

    centers: Tensor
    """Centres (..., n), real or complex."""
    radii: Tensor
    """Radii (..., n), real."""

    @property
    def norm(self) -> Tensor:
        """The largest modulus in the discs, max_i |a_ii| + r_i, (...,). For row discs it is the
        row-sum norm of A, for column discs the column-sum norm.
        """
        return (self.centers.abs() + self.radii).amax(-1)

    def contains(self, z: Tensor, tol: float | Tensor | None = None) -> Tensor:
        """Return True for points in the union of the discs, with all radii enlarged by `tol`.
        z: points (..., k), whose leading dimensions broadcast against the batch of A, or a number.
        tol: a number or (...,). The default, 10 n eps `norm`, is more than rounding adds to any
        radius: eigenvalues of permutations and of closed gates lie on the boundary.

        >>> discs = gersgorin_discs(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
        >>> discs.contains(torch.tensor([1.0, 1j, 1.01]))
        tensor([ True,  True, False])
        """
        z, tol = points_and_tolerance(z, tol, self.norm, self.centers.shape[-1])
        distances = (z[..., None] - self.centers[..., None, :]).abs()
        return (distances <= self.radii[..., None, :] + tol[..., None]).any(-1)


def points_and_tolerance(
    z: Tensor, tol: float | Tensor | None, norm: Tensor, n: int
) -> tuple[Tensor, Tensor]:
    """(Points z (..., k) on the device of `norm` (...,), tol (..., 1)). The default of tol is 10 n
    eps norm, with eps of the coarser dtype.
    """
    # Python's numbers in their own precision
    z = z if isinstance(z, Tensor) else torch.as_tensor(np.asarray(z))
    z = torch.atleast_1d(z.to(norm.device))
    z = z if z.is_complex() or z.is_floating_point() else z.to(norm.dtype)
    if tol is None:
        tol = 10 * n * max(torch.finfo(t.dtype).eps for t in (norm, z)) * norm
    return z, torch.as_tensor(tol, dtype=norm.dtype, device=norm.device)[..., None]


def gersgorin_discs(A: Tensor, axis: str = "row") -> Discs:
    """Compute the Geršgorin discs of A (..., n, n): the discs of its rows, or the discs of its
    columns. Differentiable with respect to A.

    Raises InvalidInputError.

    >>> gersgorin_discs(torch.tensor([[1.0, -2.0], [0.5, 3.0]])).radii
    tensor([2.0000, 0.5000])
    >>> gersgorin_discs(torch.tensor([[1.0, -2.0], [0.5, 3.0]]), axis="column").radii
    tensor([0.5000, 2.0000])
    """
    check_square(A)
    if axis not in ("row", "column"):
        raise InvalidInputError(f"axis is {in_short(axis)}: expected 'row' or 'column'")
    return Discs(A.diagonal(dim1=-2, dim2=-1), off_diagonal_sums(A, axis))


def off_diagonal_sums(A: Tensor, axis: str) -> Tensor:
    """Sum of |a_ij|, j != i, along each row or column, (..., n).

    The sum leaves out the diagonal. If the diagonal were subtracted afterwards, rounding would lose
    the radius for nearly closed gates (A = I + 1e-20).
    """
    moduli = A.abs()
    moduli.diagonal(dim1=-2, dim2=-1).mul_(0)
    return moduli.sum(-1 if axis == "row" else -2)
