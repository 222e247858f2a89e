"""Brauer's ovals of Cassini: |z - a_ii| |z - a_jj| <= r_i r_j for at least one pair i != j.

A. Brauer, 1947; R. Varga, "Geršgorin and His Circles", 2004, chapter 2. The union lies inside Geršgorin's row discs. A
1 x 1 matrix has no pair: its set is the entry.
"""

import torch
from torch import Tensor

from gersgorin.discs import off_diagonal_sums
from gersgorin.inclusion.base import InclusionSet


class Brauer(InclusionSet):
    """The union of the n (n - 1) / 2 ovals of Cassini of the rows.

    >>> A = torch.tensor([[0.0, 2.0], [0.5, 0.0]])  # one oval, the unit disc
    >>> Brauer(A).contains(torch.tensor([1.0, 1.01]))
    tensor([ True, False])
    """

    def _contains(self, z: Tensor, tol: Tensor) -> Tensor:
        n = self.A.shape[-1]
        radii = off_diagonal_sums(self.A, "row") + tol * (n - 1) / n
        distances = (self._distances(z) - tol[..., None] / n).clamp(min=0)
        # a pair holds z if the product of its two ratios distance / radius is at most 1, so the two smallest decide
        ratios = torch.where(distances > 0, distances / radii[..., None, :], 0)
        smallest = ratios.topk(min(n, 2), dim=-1, largest=False).values
        return (smallest[..., 0] == 0) | ((smallest.prod(-1) <= 1) if n > 1 else False)
