"""Ostrowski's discs: row and column sums mixed, |z - a_ii| <= r_i^alpha c_i^(1 - alpha) for at least one i; Geršgorin's too.

A. Ostrowski, "Über das Nichtverschwinden einer Klasse von Determinanten und die Lokalisierung der charakteristischen
Wurzeln von Matrizen", 1951. alpha = 1 gives Geršgorin's row discs, alpha = 0 his column discs (`gersgorin.gersgorin_discs`
says more of them); between them a disc with an empty row or column shrinks to its center.
"""

import numpy as np
from torch import Tensor

from gersgorin.discs import Discs, off_diagonal_sums
from gersgorin.inclusion.base import InclusionSet
from rhn.errors import InvalidInputError


class Ostrowski(InclusionSet):
    """The union of Ostrowski's discs, 0 <= alpha <= 1.

    >>> import torch
    >>> Ostrowski(torch.tensor([[0.0, 2.0], [0.5, 0.0]])).radii().round(decimals=4)  # sqrt(2 * 0.5)
    tensor([1., 1.])
    """

    def __init__(self, A: Tensor, alpha: float = 0.5) -> None:
        super().__init__(A)
        if not 0 <= alpha <= 1:
            raise InvalidInputError(f"alpha: expected a number from 0 to 1, got {alpha}")
        self.alpha = alpha

    def radii(self, extra: Tensor | float = 0.0) -> Tensor:
        """The radii, (..., n), when every row and column sum is larger by `extra` (broadcast against them)."""
        rows, columns = off_diagonal_sums(self.A, "row") + extra, off_diagonal_sums(self.A, "column") + extra
        return rows**self.alpha * columns ** (1 - self.alpha)

    def _contains(self, z: Tensor, tol: Tensor) -> Tensor:
        n = self.A.shape[-1]
        reach = tol / n + self.radii(tol * (n - 1) / n)
        return (self._distances(z) <= reach[..., None, :]).any(-1)

    def outline(self, points: int = 65) -> list[np.ndarray]:
        """The exact arcs of the union; arguments, result and errors as for `Discs.outline`."""
        return Discs(self.centers, self.radii()).outline(points)
