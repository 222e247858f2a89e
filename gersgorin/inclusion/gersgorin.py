"""Geršgorin's discs as inclusion sets: |z - a_ii| <= r_i for at least one i (S. Geršgorin, 1931)."""

from torch import Tensor

from gersgorin.discs import off_diagonal_sums
from gersgorin.inclusion.base import DiscUnion


class GersgorinRow(DiscUnion):
    """The union of the row discs, r_i the sum over j != i of |a_ij|.

    >>> import torch
    >>> row = GersgorinRow(torch.tensor([[0.0, 2.0], [0.5, 0.0]]))  # eigenvalues +-1
    >>> row.contains(torch.tensor([1.0, 2.0, 2.1]))
    tensor([ True,  True, False])
    """

    axis = "row"

    def radii(self, extra: Tensor | float = 0.0) -> Tensor:
        return off_diagonal_sums(self.A, self.axis) + extra


class GersgorinColumn(GersgorinRow):
    """The union of the column discs, r_i the sum over j != i of |a_ji|."""

    axis = "column"
