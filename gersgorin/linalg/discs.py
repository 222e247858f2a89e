"""Regions of the complex plane that contain the eigenvalues of a matrix: Geršgorin's discs,
computed from its entries only, and the numerical range {x* A x : |x| = 1}, by its support lines.

Every eigenvalue lies in the union of the discs |z - a_ii| <= r_i. The radius r_i is the sum over j
!= i of |a_ij| (row discs) or of |a_ji| (column discs): S. Geršgorin, 1931; R. Varga, "Geršgorin and
His Circles", 2004, theorems 1.1 and 1.6. Here A[i, j] = d s_i[t+1] / d s_j[t]. Zilly et al. print
the transposed matrix, so the row discs of A are the column discs of theirs.

Rounding: a computed eigenvalue is an exact eigenvalue of some A + E with ||E|| of about eps ||A||,
and lies in the discs of A + E, which are hardly larger than those of A. Its distance from the exact
eigenvalue of A can be larger, see `gersgorin.linalg.eigenvalue_conditions`.

Discs of a real matrix have real centres, so their union is {x + iy: |y| <= h(x)}. Its outline is a
list of closed polygons, one for each connected component, from left to right: complex vectors in
which the last point equals the first.

For each angle t the range lies in the half-plane Re(e^-it z) <= h(t), where h(t) is the largest
eigenvalue of the Hermitian part of e^-it A (R. Horn, C. Johnson, "Topics in Matrix Analysis", 1991,
chapter 1). The range is convex; for a normal matrix it is the convex hull of the spectrum.

Shapes: A (..., n, n), centers and radii (..., n). Points have the unit of the matrix.
"""

import cmath
import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gersgorin.linalg.spectrum import check_square, one_thread
from rhn.errors import InvalidInputError
from rhn.utils.scale import scaled, unscaled
from rhn.utils.validation import in_short, whole_number

MOST_ANGLES = 2**20  # the polygon then exceeds a disc by less than the rounding of its support


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
    check_square(A, entries=False)
    if axis not in ("row", "column"):
        raise InvalidInputError(f"axis is {in_short(axis)}: expected 'row' or 'column'")
    radii = off_diagonal_sums(A, axis)
    if not math.isfinite(radii.sum().item()):
        check_square(A)
    return Discs(A.diagonal(dim1=-2, dim2=-1), radii)


def off_diagonal_sums(A: Tensor, axis: str) -> Tensor:
    """Sum of |a_ij|, j != i, along each row or column, (..., n).

    The sum leaves out the diagonal. If the diagonal were subtracted afterwards, rounding would lose
    the radius for nearly closed gates (A = I + 1e-20). A diagonal that is not finite makes the sum
    NaN.
    """
    moduli = A.abs()
    moduli.diagonal(dim1=-2, dim2=-1).mul_(0)
    return moduli.sum(-1 if axis == "row" else -2)


def overlap_ends(
    centers: np.ndarray, radii: np.ndarray, others: np.ndarray, their_radii: np.ndarray
) -> tuple[float, float]:
    """Return (largest |z|, largest real part) of the overlap of two unions of n discs with real
    centres; all arguments are (n,). The result is exact, and the time grows with n^2.

    On a circle, |z|^2 = r^2 - c^2 + 2 c x is linear in x. In the overlap of two discs it is
    therefore largest at an end of the overlap, or where the two circles cross.

    >>> overlap_ends(np.array([0.0]), np.array([5.0]), np.array([3.0, 9.0]), np.array([1.0, 1.0]))
    (4.0, 4.0)
    """
    farthest = max((np.abs(centers) + radii).max(), (np.abs(others) + their_radii).max())
    size = math.ldexp(1.0, math.frexp(farthest)[1] - 1)
    c, r, d, s = centers[:, None] / size, radii[:, None] / size, others / size, their_radii / size
    low, high = np.maximum(c - r, d - s), np.minimum(c + r, d + s)
    with np.errstate(divide="ignore", invalid="ignore"):
        cross = np.nan_to_num(((s - d) * (s + d) - (r - c) * (r + c)) / (2 * (c - d)))
    meet = low <= high
    squares = [
        np.minimum((r - c) * (r + c) + 2 * c * x, (s - d) * (s + d) + 2 * d * x)
        for x in (low, high, cross.clip(low, high))
    ]
    far = math.sqrt(max(np.max(squares, axis=0, where=meet, initial=0.0).max(), 0.0))
    return far * size, float(high[meet].max(initial=-np.inf)) * size


def discs_outline(centers: np.ndarray, radii: np.ndarray, points: int) -> list[np.ndarray]:
    """The outline of a union of discs with real centres, with `points` points on each exposed arc
    at equal angles.

    Since max_i r_i^2 - (x - c_i)^2 = -x^2 + max_i (2 c_i x + r_i^2 - c_i^2), the exposed arcs are
    the upper envelope of n lines (a power diagram on the axis). The envelope is found in one pass
    over the centres in ascending order.

    >>> around, = discs_outline(np.array([0.0]), np.array([1.0]), 3)
    >>> around.round(6).tolist()
    [(-1+0j), 1j, (1+0j), (1-0j), -1j, (-1-0j), (-1+0j)]
    """
    # squares then neither overflow nor underflow
    scale = math.ldexp(1.0, math.frexp((np.abs(centers) + radii).max())[1] - 1)
    envelope = _upper_envelope(centers / scale, radii / scale)
    ends = [start for _, _, start in envelope[1:]] + [np.inf]
    curves: list[list[np.ndarray]] = []
    reached_end = False
    for (c, r, start), end in zip(envelope, ends, strict=True):
        # relative to the center: a radius may be below its rounding
        low, high = max(start - c, -r), min(end - c, r)
        if low <= high:
            if not reached_end:  # where two arcs meet, neither is below the axis
                curves.append([])
            curves[-1].append(scale * _arc(c, r, low, high, points))
        reached_end = low <= high and end - c <= r
    uppers = [np.concatenate(arcs) for arcs in curves]
    return [np.concatenate([upper, upper[::-1].conj(), upper[:1]]) for upper in uppers]


def _upper_envelope(centers: np.ndarray, radii: np.ndarray) -> list[tuple[float, float, float]]:
    """(Centre, radius, first x) of each disc that is the highest somewhere, from left to right."""
    # centers that differ by less than the least number are equal here
    order = np.lexsort((radii, centers))
    envelope: list[tuple[float, float, float]] = []
    for c, r in zip(centers[order].tolist(), radii[order].tolist(), strict=True):
        while envelope:
            c0, r0, start0 = envelope[-1]
            # where the squared heights are equal; of equal centers the last has the largest radius
            # and hides the others
            start = (c0 + c) / 2 + (r0 - r) * (r0 + r) / (c - c0) / 2 if c > c0 else -np.inf
            if start > start0:
                break
            envelope.pop()
        else:
            start = -np.inf
        envelope.append((c, r, start))
    return envelope


def _arc(center: float, radius: float, low: float, high: float, points: int) -> np.ndarray:
    """The part of an upper half circle with low <= x - center <= high; a point for radius 0."""
    if radius == 0:
        return np.array([center + 0j])
    start, stop = np.arccos(np.clip([low / radius, high / radius], -1, 1))
    angles = np.linspace(start, stop, points)
    return center + radius * (np.cos(angles) + 1j * np.sin(angles))


def support_function(A: Tensor, angles: int) -> Tensor:
    """The support function h at `angles` equally spaced angles t of a full turn, from 0 on, (...,
    angles), for real matrices A (..., n, n) that have been checked.

    h(t + pi) is minus the least eigenvalue at t, and the range is symmetric about the real axis.
    Eigenvalues at a quarter of the angles are therefore enough.

    >>> support_function(torch.tensor([[0.0, 2.0], [0.0, 0.0]]), 4)  # its range is the unit disc
    tensor([1., 1., 1., 1.])
    """
    half, solved, parts = angles // 2, angles // 4 + 1, []
    for k in range(solved):
        B = A * cmath.exp(-2j * cmath.pi * k / angles) if k else A
        parts.append(torch.linalg.eigvalsh((B + B.mH) / 2)[..., [-1, 0]])
    largest, least = torch.stack(parts, -1).unbind(-2)
    below = -least[..., : half + 1 - solved].flip(-1)  # h(pi - t) = h(pi + t)
    upper = torch.cat([largest, below], -1)  # t = 0 ... pi
    return torch.cat([upper, upper[..., 1:-1].flip(-1)], -1)


def support_corners(support: np.ndarray) -> np.ndarray:
    """The intersections of neighbouring lines Re(e^-it z) = h(t), for angles t in equal steps of a
    full turn. The argument h and the result are (..., angles).

    >>> support_corners(np.ones(4)).round(6).tolist()
    [(1+1j), (-1+1j), (-1-1j), (1-1j)]
    """
    angles = support.shape[-1]
    step = 2 * np.pi / angles
    sideways = (np.roll(support, -1, -1) - support * np.cos(step)) / np.sin(step)
    return (support + 1j * sideways) * np.exp(1j * step * np.arange(angles))


@one_thread()
def numerical_radius(A: Tensor, angles: int = 128) -> Tensor:
    """Compute an upper bound on the largest modulus in the numerical range of real matrices A (...,
    n, n), (...,): the modulus of the farthest corner of the polygon of support lines.

    The numerical radius r(A) satisfies rho(A) <= r(A) <= ||A||_2 <= 2 r(A), and r(A^k) <= r(A)^k.
    The norm of A^k is therefore at most 2 r(A)^k, whatever the eigenvectors are. The bound is at
    most r(A) / cos(pi / angles), which is 3e-4 too large by default, and never above ||A||_2.

    Raises InvalidInputError.

    >>> numerical_radius(torch.tensor([[0.0, 2.0], [0.0, 0.0]]))  # its range is the unit disc
    tensor(1.0003)
    """
    if check_square(A).is_complex():
        raise InvalidInputError(f"A is {A.dtype}: expected real matrices")
    if whole_number("angles", angles, 4, MOST_ANGLES) % 2:
        raise InvalidInputError(f"angles is {angles}: expected an even number")
    M, exponent = scaled(A.detach())  # else the square of a norm overflows
    norm = torch.linalg.matrix_norm(M, 2)
    corners = support_corners(support_function(M, angles).cpu().double().numpy())
    farthest = torch.as_tensor(np.abs(corners).max(-1), device=norm.device)
    found = torch.minimum(farthest.to(norm), norm)
    return unscaled(found[..., None, None], exponent)[..., 0, 0]
