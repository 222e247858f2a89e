"""Inclusion sets: regions of the complex plane that contain the spectrum of a matrix, by formulas
of its entries.

Ostrowski          |z - a_ii| <= r_i^alpha c_i^(1 - alpha) for at least one i; alpha = 1 and 0 are
                   Geršgorin's row and column discs
Brauer             ovals of Cassini, |z - a_ii| |z - a_jj| <= r_i r_j for at least one pair i != j
MinimalGersgorin   the intersection of the row discs of X^-1 A X over all positive diagonal X
NumericalRange     {x* A x : |x| = 1}, enclosed by support lines

r_i and c_i are the sums of the moduli off the diagonal in row i and in column i. Each class names
its source. To add a set, write a class that defines `_contains`, and add a row to `INCLUSION_SETS`,
from which the tests take it. Outline and area are then computed by bisection.
"""

import cmath
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

from gersgorin.linalg.discs import off_diagonal_sums, points_and_tolerance
from gersgorin.linalg.outlines import (
    binary_scale,
    discs_outline,
    polygon_area,
    sampled_outline,
    support_corners,
)
from gersgorin.linalg.products import spectral_norm
from gersgorin.linalg.spectrum import one_thread
from gersgorin.validate import check_square
from rhn.errors import InvalidInputError
from rhn.utils.scale import scaled, unscaled
from rhn.utils.validation import number, whole_number

MOST_ANGLES = 2**20  # the polygon then exceeds a disc by less than the rounding of its support


class InclusionSet(ABC):
    """A set that contains every eigenvalue of a real matrix, for each matrix of A (..., n, n). No
    gradient flows through.

    Attributes:
        A: the matrices, (..., n, n).
        centers: the diagonals of the matrices, (..., n); these points belong to every set.
        norm: the larger of the row-sum and the column-sum norm, (...,); every set lies in the disc
            |z| <= norm.

    Raises:
        InvalidInputError: A is not square, not real and floating point, or contains NaN or
            infinity.

    >>> A = torch.tensor([[0.0, 2.0], [0.5, 0.0]])
    >>> INCLUSION_SETS["brauer"](A).contains(torch.tensor([1.0, 3.0]))
    tensor([ True, False])
    """

    def __init__(self, A: Tensor) -> None:
        self.A = check_square(A).detach()
        if A.is_complex():
            raise InvalidInputError(f"A: expected real matrices, got {A.dtype}")
        self.centers = self.A.diagonal(dim1=-2, dim2=-1)
        moduli = self.A.abs()
        self.norm = torch.maximum(moduli.sum(-1).amax(-1), moduli.sum(-2).amax(-1))

    def contains(self, z: Tensor, tol: float | Tensor | None = None) -> Tensor:
        """Return True for points in the set of any matrix whose entries differ from the entries of
        A by at most `tol` / n.

        Computed eigenvalues are exact eigenvalues of such a matrix (see `gersgorin.linalg.discs`).
        For discs, each radius is enlarged by `tol`.

        Args:
            z: points (..., k), real or complex; the leading dimensions broadcast against the batch
                of A. A scalar counts as k = 1.
            tol: absolute tolerance, a number or (...,); 0 is the strict test. The default is 10 n
                eps `norm`, which is more than rounding adds to any radius. A tolerance is needed
                because the eigenvalues of permutations, stochastic matrices and closed gates lie on
                the boundary.

        Returns:
            (..., k) bool.
        """
        return self._contains(*points_and_tolerance(z, tol, self.norm, self.A.shape[-1]))

    @abstractmethod
    def _contains(self, z: Tensor, tol: Tensor) -> Tensor:
        """The same as `contains`, for a tensor z (..., k) and a tol that broadcasts against z."""

    def outline(self, points: int = 65) -> list[np.ndarray]:
        """Compute the boundary of the set (`tol` = 0) as closed polygons, one for each component,
        from left to right.

        The boundary is found by bisection, unless the docstring of a class names another method.
        Bisection works because above each point x of the real axis, a set is empty or an interval
        that begins at the axis. Each component is sampled at `points` values of x. Features
        narrower than the distance between two samples are blurred, and components closer than this
        distance may be joined.

        Returns:
            Complex vectors, in which the last point equals the first.

        Raises:
            InvalidInputError: A is a batch of several matrices, or points < 3.
        """
        if self.A.dim() != 2:
            raise InvalidInputError(
                f"outline: expected one matrix (n, n), got a batch {tuple(self.A.shape)}; pick one"
            )
        if points < 3:
            raise InvalidInputError(f"points: expected at least 3, got {points}")
        return self._outline(points)

    def _outline(self, points: int) -> list[np.ndarray]:
        """The same as `outline`, for one matrix; here by bisection."""
        scale = binary_scale(float(self.norm))
        strict = torch.zeros(1, dtype=torch.float64, device=self.A.device)

        def inside(z: np.ndarray) -> np.ndarray:
            points = torch.as_tensor(scale * z, device=self.A.device)
            return self._contains(points, strict).cpu().numpy()

        centers = self.centers.cpu().double().numpy() / scale
        return [scale * polygon for polygon in sampled_outline(inside, centers, points)]

    def area(self, points: int = 65) -> float:
        """The area of the set, as that of the polygons of `outline(points)`."""
        return polygon_area(self.outline(points))

    def _distances(self, z: Tensor) -> Tensor:
        """The distances |z - a_ii|, (..., k, n)."""
        return (z[..., None] - self.centers[..., None, :]).abs()


class Brauer(InclusionSet):
    """The union of the n (n - 1) / 2 ovals of Cassini of the rows.

    Source: A. Brauer, 1947; R. Varga, "Geršgorin and His Circles", 2004, chapter 2. The union lies
    inside Geršgorin's row discs. A 1 x 1 matrix has no pair of rows; its set is its entry.

    >>> A = torch.tensor([[0.0, 2.0], [0.5, 0.0]])  # one oval, the unit disc
    >>> Brauer(A).contains(torch.tensor([1.0, 1.01]))
    tensor([ True, False])
    """

    def _contains(self, z: Tensor, tol: Tensor) -> Tensor:
        n = self.A.shape[-1]
        radii = off_diagonal_sums(self.A, "row") + tol * (n - 1) / n
        distances = (self._distances(z) - tol[..., None] / n).clamp(min=0)
        # a pair holds z if the product of its two ratios distance / radius is at most 1, so the two
        # smallest decide
        ratios = torch.where(distances > 0, distances / radii[..., None, :], 0)
        smallest = ratios.topk(min(n, 2), dim=-1, largest=False).values
        return (smallest[..., 0] == 0) | ((smallest.prod(-1) <= 1) if n > 1 else False)


CHUNK = 2**22  # entries of the stack of M(z) held at a time: 32 MiB in float64


class MinimalGersgorin(InclusionSet):
    """Varga's minimal Geršgorin set. The test of one point takes one n x n linear solve.

    Source: R. Varga, "Geršgorin and His Circles", 2004, chapter 4. The set is the intersection of
    the row discs over all positive diagonal scalings of A. The same set contains exactly the
    eigenvalues of all matrices that have the diagonal of A, and whose other entries are at most as
    large in modulus as those of A. The set therefore lies inside Brauer's ovals. The columns have
    the same set. A point z is outside if and only if M(z) = diag |z - a_ii| - |A off the diagonal|
    is a nonsingular M-matrix, that is, if M(z) x = 1 has a positive solution x. Scaling by x then
    moves every disc away from z.

    >>> A = torch.tensor([[0.0, 8.0], [0.125, 0.0]])  # scaled by x = (8, 1): [[0, 1], [1, 0]]
    >>> MinimalGersgorin(A).contains(torch.tensor([1.0, 1.01]))
    tensor([ True, False])
    """

    def _contains(self, z: Tensor, tol: Tensor) -> Tensor:
        n = self.A.shape[-1]
        unit = torch.where(self.norm > 0, self.norm, 1)[..., None]  # x is then far from overflow
        diagonal = (self._distances(z) - tol[..., None] / n) / unit[..., None]
        off_diagonal = (self.A.abs() + tol[..., None] / n) / unit[..., None]
        off_diagonal = off_diagonal.masked_fill(
            torch.eye(n, dtype=torch.bool, device=self.A.device), 0
        )
        parts = []
        with one_thread():
            for part in diagonal.split(max(1, CHUNK // n**2), dim=-2):
                M = torch.diag_embed(part) - off_diagonal[..., None, :, :]
                x, singular = torch.linalg.solve_ex(M, torch.ones_like(M[..., 0]))
                parts.append((singular != 0) | ~(x > 0).all(-1))
        return torch.cat(parts, dim=-1)


class Ostrowski(InclusionSet):
    """The union of Ostrowski's discs for a parameter alpha, 0 <= alpha <= 1.

    Source: A. Ostrowski, "Über das Nichtverschwinden einer Klasse von Determinanten und die
    Lokalisierung der charakteristischen Wurzeln von Matrizen", 1951. For 0 < alpha < 1, a disc
    shrinks to its centre if its row or column is zero off the diagonal.

    >>> import torch
    >>> Ostrowski(torch.tensor([[0.0, 2.0], [0.5, 0.0]])).radii().round(decimals=4)  # sqrt(2 * 0.5)
    tensor([1., 1.])
    """

    def __init__(self, A: Tensor, alpha: float = 0.5) -> None:
        super().__init__(A)
        self.alpha = number("alpha", alpha, least=0, most=1)

    def radii(self, extra: Tensor | float = 0.0) -> Tensor:
        """The radii of the discs, (..., n), if every row sum and column sum is increased by
        `extra`, which broadcasts against the sums.
        """
        rows = off_diagonal_sums(self.A, "row") + extra
        columns = off_diagonal_sums(self.A, "column") + extra
        return rows**self.alpha * columns ** (1 - self.alpha)

    def _contains(self, z: Tensor, tol: Tensor) -> Tensor:
        n = self.A.shape[-1]
        reach = tol / n + self.radii(tol * (n - 1) / n)
        return (self._distances(z) <= reach[..., None, :]).any(-1)

    def _outline(self, points: int) -> list[np.ndarray]:
        """The exact arcs of the union, with `points` points on each. An isolated disc of radius 0
        is a polygon of one repeated point.

        The chords lie inside the arcs. A whole disc loses the share 2 pi^2 / (3 (2 points - 2)^2)
        of its area, 0.04 % by default.
        """
        centers, radii = (part.cpu().double().numpy() for part in (self.centers, self.radii()))
        return discs_outline(centers, radii, points)


class NumericalRange(InclusionSet):
    """The numerical range, enclosed by a polygon of `angles` support lines. Computing the polygon
    takes angles / 4 Hermitian eigenproblems.

    For each angle t the range lies in the half-plane Re(e^-it z) <= h(t), where h(t) is the largest
    eigenvalue of the Hermitian part of e^-it A (R. Horn, C. Johnson, "Topics in Matrix Analysis",
    1991, chapter 1). The intersection of these half-planes is a polygon that contains the range,
    and thus the spectrum. The range is convex; for a normal matrix it is the convex hull of the
    spectrum. For dense random matrices the discs are far too large, but the range is close to the
    spectrum: at n = 64 its area is a fortieth of that of the discs.

    If the range is a disc, the area of the polygon is larger by the share pi^2 / (3 angles^2): 0.02
    % by default.

    Raises:
        InvalidInputError: as for `InclusionSet`; or angles is odd, less than 4 or more than 2^20.

    >>> A = torch.tensor([[0.0, 2.0], [0.0, 0.0]])  # its range is the unit disc
    >>> NumericalRange(A).contains(torch.tensor([1.0, 1.01, 0.999j]))
    tensor([ True, False,  True])
    """

    def __init__(self, A: Tensor, angles: int = 128) -> None:
        super().__init__(A)
        angles = whole_number("angles", angles, 4, MOST_ANGLES)
        if angles % 2:
            raise InvalidInputError(f"angles is {angles}: expected an even number")
        self.angles = torch.arange(angles, dtype=self.norm.dtype, device=A.device) * (
            2 * torch.pi / angles
        )

    @cached_property
    def support(self) -> Tensor:
        """The support function h(t) of the numerical range at each angle t, (..., angles), real."""
        with one_thread():
            return support_function(self.A, len(self.angles))

    def _contains(self, z: Tensor, tol: Tensor) -> Tensor:
        along = (z[..., None] * torch.exp(-1j * self.angles)).real
        return (along <= self.support[..., None, :] + tol[..., None]).all(-1)

    def _outline(self, points: int) -> list[np.ndarray]:
        """The corners of the polygon of 2 (points - 1) support lines; the first corner is also the
        last.
        """
        angles = 2 * (points - 1)
        around = self if angles == len(self.angles) else NumericalRange(self.A, angles)
        corners = support_corners(around.support.cpu().double().numpy())
        return [np.append(corners, corners[:1])]


def numerical_radius(A: Tensor, angles: int = 128) -> Tensor:
    """Compute an upper bound on the largest modulus in the numerical range, (...,): the modulus of
    the farthest corner of the polygon of support lines.

    The numerical radius r(A) satisfies rho(A) <= r(A) <= ||A||_2 <= 2 r(A), and r(A^k) <= r(A)^k
    (Horn and Johnson, see `NumericalRange`). The norm of A^k is therefore at most 2 r(A)^k,
    whatever the eigenvectors are. The bound is at most r(A) / cos(pi / angles), which is 3e-4 too
    large by default, and never above ||A||_2.

    Raises:
        InvalidInputError: as for `NumericalRange`.

    >>> numerical_radius(torch.tensor([[0.0, 2.0], [0.0, 0.0]]))  # its range is the unit disc
    tensor(1.0003)
    """
    M, exponent = scaled(NumericalRange(A, angles).A)  # else the square of a norm overflows
    norm = spectral_norm(M)
    support = NumericalRange(M, angles).support.cpu().double().numpy()
    farthest = torch.as_tensor(np.abs(support_corners(support)).max(-1), device=norm.device)
    found = torch.minimum(farthest.to(norm), norm)
    return unscaled(found[..., None, None], exponent)[..., 0, 0]


def support_function(A: Tensor, angles: int) -> Tensor:
    """The support function h at `angles` equally spaced angles t of a full turn, from 0 on, (...,
    angles), for real matrices A (..., n, n) that have been checked.

    h(t + pi) is minus the least eigenvalue at t, and the range is symmetric about the real axis.
    Eigenvalues at a quarter of the angles are therefore enough.
    """
    half, solved, parts = angles // 2, angles // 4 + 1, []
    for k in range(solved):
        B = A * cmath.exp(-2j * cmath.pi * k / angles) if k else A
        parts.append(torch.linalg.eigvalsh((B + B.mH) / 2)[..., [-1, 0]])
    largest, least = torch.stack(parts, -1).unbind(-2)
    below = -least[..., : half + 1 - solved].flip(-1)  # h(pi - t) = h(pi + t)
    upper = torch.cat([largest, below], -1)  # t = 0 ... pi
    return torch.cat([upper, upper[..., 1:-1].flip(-1)], -1)


INCLUSION_SETS: dict[str, Callable[..., InclusionSet]] = {
    "gersgorin-row": partial(Ostrowski, alpha=1),
    "gersgorin-column": partial(Ostrowski, alpha=0),
    "ostrowski": Ostrowski,
    "brauer": Brauer,
    "minimal": MinimalGersgorin,
    "numerical-range": NumericalRange,
}
"""The inclusion sets: from the name of each to the function of A that returns it."""
