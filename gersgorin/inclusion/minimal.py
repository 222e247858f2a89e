"""Varga's minimal Geršgorin set: the intersection of the row discs of X^-1 A X over all positive diagonal X.

R. Varga, "Geršgorin and His Circles", 2004, chapter 4. It is the least that diagonal scaling can reach, and the set of
all eigenvalues of matrices with A's diagonal and entries at most A's elsewhere, in modulus; so it lies inside Brauer's
ovals. Its columns' set is the same. z is outside exactly if M(z) = diag |z - a_ii| - |A off the diagonal| is a
nonsingular M-matrix, that is, if M(z) x = 1 has a positive solution x (then x scales z out of every disc).
"""

import torch
from torch import Tensor

from gersgorin.inclusion.base import InclusionSet
from gersgorin.spectrum import one_thread

CHUNK = 2**22  # entries of the stack of M(z) held at a time: 32 MiB in float64


class MinimalGersgorin(InclusionSet):
    """The minimal Geršgorin set; a point costs one n x n linear solve.

    >>> A = torch.tensor([[0.0, 8.0], [0.125, 0.0]])  # scaled by x = (8, 1): [[0, 1], [1, 0]]
    >>> MinimalGersgorin(A).contains(torch.tensor([1.0, 1.01]))
    tensor([ True, False])
    """

    def _contains(self, z: Tensor, tol: Tensor) -> Tensor:
        n = self.A.shape[-1]
        unit = torch.where(self.norm > 0, self.norm, 1)[..., None]  # x is then far from overflow
        diagonal = (self._distances(z) - tol[..., None] / n) / unit[..., None]
        off_diagonal = (self.A.abs() + tol[..., None] / n) / unit[..., None]
        off_diagonal = off_diagonal.masked_fill(torch.eye(n, dtype=torch.bool, device=self.A.device), 0)
        with one_thread():
            parts = [
                _is_m_matrix(torch.diag_embed(part) - off_diagonal[..., None, :, :])
                for part in diagonal.split(max(1, CHUNK // n**2), dim=-2)
            ]
        return ~torch.cat(parts, dim=-1)


def _is_m_matrix(M: Tensor) -> Tensor:
    """Whether each M (..., n, n), nowhere positive off its diagonal, is a nonsingular M-matrix: M^-1 1 is positive."""
    x, singular = torch.linalg.solve_ex(M, torch.ones_like(M[..., 0]))
    return (singular == 0) & (x > 0).all(-1)
