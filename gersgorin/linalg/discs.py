"""Geršgorin's discs: regions that hold the eigenvalues of a matrix, from its entries only.

Every eigenvalue lies in the union over i of the discs |z - a_ii| <= r_i, with r_i the sum over j !=
i of |a_ij| (rows) or of |a_ji| (columns): S. Geršgorin, 1931; R. Varga, "Geršgorin and His
Circles", 2004, theorems 1.1 and 1.6. With A[i, j] = d y_i[t] / d y_j[t-1], the row discs of A are
the column discs of the transpose that Zilly et al. print.

Rounding. A computed eigenvalue is an exact one of some A + E with ||E|| of about eps ||A||. So it
lies in the discs of A + E, which are hardly larger than those of A, whatever A is. How far it is
from A's own eigenvalue is another matter: by up to ||E|| times its condition
(`gersgorin.linalg.eigenvalue_conditions`), which is 1 for normal matrices and can be large for
Jacobians of deep or trained cells; in a Jordan block of size k by ||E||^(1/k). To lie inside the
discs says nothing of that error.

`gersgorin.linalg.inclusion` has the discs as sets with outlines.

Shapes: A (..., n, n), centers and radii (..., n).
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gersgorin.validate import check_square
from rhn.errors import InvalidInputError
from rhn.utils.wording import in_short


class Discs(NamedTuple):
    """A union of n discs for each matrix of a batch.

    >>> discs = Discs(torch.tensor([0.0, 3.0]), torch.tensor([1.0, 0.5]))
    >>> discs.contains(torch.tensor([0.5, 2.0, 3.5]))
    tensor([ True, False,  True])
    """

    centers: Tensor
    """(..., n), real or complex."""
    radii: Tensor
    """(..., n), real."""

    @property
    def norm(self) -> Tensor:
        """max_i |a_ii| + r_i, (...,): the row-sum norm of A for row discs, the column-sum norm for
        column discs.
        """
        return (self.centers.abs() + self.radii).amax(-1)

    def contains(self, z: Tensor, tol: float | Tensor | None = None) -> Tensor:
        """True for points in the union of the discs, their radii enlarged by `tol`; arguments as
        for `InclusionSet.contains`.

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
    """Points z (..., k) on the device of a norm (...,), and tol (..., 1), by default 10 n eps norm
    with eps of the coarser type.
    """
    # Python's numbers in their own precision
    z = z if isinstance(z, Tensor) else torch.as_tensor(np.asarray(z))
    z = torch.atleast_1d(z.to(norm.device))
    z = z if z.is_complex() or z.is_floating_point() else z.to(norm.dtype)
    if tol is None:
        tol = 10 * n * max(torch.finfo(t.dtype).eps for t in (norm, z)) * norm
    return z, torch.as_tensor(tol, dtype=norm.dtype, device=norm.device)[..., None]


def gersgorin_discs(A: Tensor, axis: str = "row") -> Discs:
    """The Geršgorin discs of A (..., n, n): of its rows, or of its columns. Differentiable in A.

    Raises:
        InvalidInputError: A is not square, not floating point, or holds NaN or infinity; axis is
            neither word.

    >>> gersgorin_discs(torch.tensor([[1.0, -2.0], [0.5, 3.0]])).radii
    tensor([2.0000, 0.5000])
    >>> gersgorin_discs(torch.tensor([[1.0, -2.0], [0.5, 3.0]]), axis="column").radii
    tensor([0.5000, 2.0000])
    """
    check_square(A)
    if axis not in ("row", "column"):
        raise InvalidInputError(f"axis: expected 'row' or 'column', got {in_short(axis)}")
    return Discs(A.diagonal(dim1=-2, dim2=-1), off_diagonal_sums(A, axis))


def off_diagonal_sums(A: Tensor, axis: str) -> Tensor:
    """Sum of |a_ij|, j != i, along each row or column, (..., n).

    The diagonal is left out, not subtracted: near closed gates (A = I + 1e-20) a difference would
    lose the radius.
    """
    moduli = A.abs()
    moduli.diagonal(dim1=-2, dim2=-1).zero_()
    return moduli.sum(-1 if axis == "row" else -2)
