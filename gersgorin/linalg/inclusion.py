"""Regions of the complex plane that contain all eigenvalues of a matrix: other sets than the discs
of Geršgorin, by formulas of the entries.

    in_ostrowski_discs(A, z, alpha)    |z - a_ii| <= r_i^alpha c_i^(1 - alpha) for at least one i
    in_brauer_ovals(A, z)              |z - a_ii| |z - a_jj| <= r_i r_j for at least one pair i != j
    in_minimal_gersgorin_set(A, z)     in the row discs of X^-1 A X for all positive diagonal X

r_i and c_i are the sums of the moduli off the diagonal in row i and in column i. Ostrowski's discs
are Geršgorin's row discs for alpha = 1, and his column discs for alpha = 0.

Arguments of all three: A (..., n, n), real or complex; z: points (..., k), whose leading dimensions
broadcast against those of A, or a number; tol: a number or (...,). The result is (..., k) bool:
True for points in the set of any matrix whose entries differ from those of A by at most tol / n.
Computed eigenvalues are exact for such a matrix if tol is the default, 10 n eps times the larger of
the row-sum and the column-sum norm. tol = 0 is the strict test.

Sources: A. Ostrowski, "Über das Nichtverschwinden einer Klasse von Determinanten und die
Lokalisierung der charakteristischen Wurzeln von Matrizen", 1951; A. Brauer, 1947; R. Varga,
"Geršgorin and His Circles", 2004, chapters 2 and 4.
"""

import torch
from torch import Tensor

from gersgorin.linalg.discs import off_diagonal_sums, points_and_tolerance
from gersgorin.linalg.matrices import check_square
from gersgorin.linalg.threads import one_thread
from rhn.utils.validation import number

CHUNK = 2**22  # entries of a stack of matrices M(z): 32 MiB in float64


def in_ostrowski_discs(
    A: Tensor, z: Tensor, alpha: float = 0.5, tol: float | Tensor | None = None
) -> Tensor:
    """Return True for points in the union of Ostrowski's discs with the parameter alpha, 0 to 1.
    Raises InvalidInputError.

    >>> A = torch.tensor([[0.0, 2.0], [0.5, 0.0]])  # both radii are sqrt(2 * 0.5)
    >>> in_ostrowski_discs(A, torch.tensor([1.0, 1.01])).tolist()
    [True, False]
    """
    alpha = number("alpha", alpha, least=0, most=1)
    distances, tol = _distances(A, z, tol)
    *_, n = A.shape
    rows, columns = (
        off_diagonal_sums(A, axis)[..., None, :] + tol * (n - 1) / n for axis in ("row", "column")
    )
    return (distances <= tol / n + rows**alpha * columns ** (1 - alpha)).any(-1)


def in_brauer_ovals(A: Tensor, z: Tensor, tol: float | Tensor | None = None) -> Tensor:
    """Return True for points in the union of the n (n - 1) / 2 ovals of Cassini of the rows, which
    lies inside Geršgorin's row discs. The set of a 1 x 1 matrix is its entry. Raises
    InvalidInputError.

    >>> A = torch.tensor([[0.0, 2.0], [0.5, 0.0]])  # one oval, the unit disc
    >>> in_brauer_ovals(A, torch.tensor([1.0, 1.01])).tolist()
    [True, False]
    """
    distances, tol = _distances(A, z, tol)
    *_, n = A.shape
    distances = (distances - tol / n).clamp(min=0)
    radii = off_diagonal_sums(A, "row")[..., None, :] + tol * (n - 1) / n
    # a pair holds z if the product of its two ratios is at most 1: the two smallest ones decide
    ratios = torch.where(distances > 0, distances / radii, 0)
    smallest = ratios.topk(min(n, 2), dim=-1, largest=False).values
    return (smallest[..., 0] == 0) | (smallest.prod(-1) <= 1)


@one_thread()
def in_minimal_gersgorin_set(A: Tensor, z: Tensor, tol: float | Tensor | None = None) -> Tensor:
    """Return True for points in Varga's minimal Geršgorin set, which lies inside Brauer's ovals.
    Each point takes one n x n linear solve. Raises InvalidInputError.

    The set contains exactly the eigenvalues of all matrices with the diagonal of A whose other
    entries have at most the moduli of those of A. A point is outside if and only if M(z) = diag |z
    - a_ii| - |A off the diagonal| is a nonsingular M-matrix: M(z) x = 1 has a positive solution x.
    Scaling by x then moves every disc away from z.

    >>> A = torch.tensor([[0.0, 8.0], [0.125, 0.0]])  # scaled by x = (8, 1): [[0, 1], [1, 0]]
    >>> in_minimal_gersgorin_set(A, torch.tensor([1.0, 1.01])).tolist()
    [True, False]
    """
    distances, tol = _distances(A, z, tol)
    *_, n = A.shape
    # x is then far from overflow
    unit = _norm(A).clamp(min=torch.finfo(A.dtype).tiny)[..., None, None]
    others = (A.abs() + tol / n) / unit
    others = others.masked_fill(torch.eye(n, dtype=torch.bool, device=A.device), 0)
    parts = []
    for part in ((distances - tol / n) / unit).split(max(1, CHUNK // n**2), dim=-2):
        M = torch.diag_embed(part) - others[..., None, :, :]
        x, singular = torch.linalg.solve_ex(M, torch.ones_like(M[..., 0]))
        parts.append((singular != 0) | ~(x > 0).all(-1))
    return torch.cat(parts, dim=-1)


def _norm(A: Tensor) -> Tensor:
    """The larger of the row-sum and the column-sum norm, (...,)."""
    return torch.maximum(A.abs().sum(-1).amax(-1), A.abs().sum(-2).amax(-1))


def _distances(A: Tensor, z: Tensor, tol: float | Tensor | None) -> tuple[Tensor, Tensor]:
    """The distances |z - a_ii|, (..., k, n), and tol (..., 1, 1)."""
    A = check_square(A).detach()
    z, tol = points_and_tolerance(z, tol, _norm(A), A.shape[-1])
    centers = A.diagonal(dim1=-2, dim2=-1)
    return (z[..., None] - centers[..., None, :]).abs(), tol[..., None]
