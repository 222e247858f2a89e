"""Block Geršgorin: whole blocks of rows instead of rows, their norms instead of moduli.

For a partition of the state into blocks, every eigenvalue z satisfies, for at least one block i,

    sigma_min(A_ii - z) <= sum over j != i of ||A_ij||_2

(D. Feingold, R. Varga, "Block diagonally dominant matrices and generalizations of the Gerschgorin circle theorem", 1962; the left
side is 1 / ||(A_ii - z)^-1||_2). Blocks of one row give Geršgorin's row discs; one block of all gives, with tol = eps, the
eps-pseudospectrum. Between them: sharp where the coupling within blocks is strong and that between them weak, as that of h and c of an
LSTM, position and velocity of a coRNN. Where the couplings are alike it may be larger than the discs: a norm counts every direction.

Not by layers: of a step A = F_L ... F_1, the block cyclic matrix of the F_l has the L-th roots of A's eigenvalues as its spectrum,
but its diagonal blocks are zero. Its block set, at the best scaling of the blocks, is the disc |z|^L <= ||F_L||_2 ... ||F_1||_2, and
||A||_2 is never larger.
"""

from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from numbers import Integral

import numpy as np
import torch
from torch import Tensor

from gersgorin._outline import binary_scale
from gersgorin.inclusion.base import InclusionSet
from gersgorin.inclusion.numerical_range import support_function
from gersgorin.normality.resolvent import smallest_singular_values
from gersgorin.spectrum import one_thread
from rhn.errors import InvalidInputError

CHUNK = 2**18  # entries of the stack of A_ii - z held at a time: 4 MiB


class BlockGersgorin(InclusionSet):
    """The block Geršgorin set of a partition; a point costs a singular value decomposition of each block.

    Unlike the other sets it need not hold the diagonal's entries, nor reach down to the real axis.

    Args:
        A: (..., n, n).
        sizes: of the blocks, in the order of the state; they sum up to n. Default: two halves, the (h, c) of an LSTM.

    Raises:
        InvalidInputError: as `InclusionSet`; or the sizes are not whole numbers from 1 that sum up to n.

    >>> A = torch.tensor([[0.0, -1.0, 0.1, 0.0], [1.0, 0.0, 0.0, 0.1], [0.0, 0.0, 3.0, 0.0], [0.0, 0.0, 0.0, 3.0]])
    >>> BlockGersgorin(A).contains(torch.tensor([1j, 1.09j, 1.11j, 0, 3]))  # discs of radius 0.1 around i and -i, and the point 3
    tensor([ True,  True, False, False,  True])
    """

    def __init__(self, A: Tensor, sizes: Sequence[int] | None = None) -> None:
        super().__init__(A)
        n = A.shape[-1]
        if sizes is None:
            sizes = [n] if n == 1 else [n - n // 2, n // 2]
        if not isinstance(sizes, Iterable):
            raise InvalidInputError(f"sizes: expected a list of whole numbers that sum up to {n}, got {sizes!r}")
        sizes = list(sizes)
        if not all(isinstance(s, Integral) and s >= 1 for s in sizes) or sum(sizes) != n:
            raise InvalidInputError(f"sizes: expected whole numbers from 1 that sum up to {n}, got {sizes}")
        self.sizes = tuple(map(int, sizes))
        self._parts = [slice(*ends) for ends in pairwise(accumulate(self.sizes, initial=0))]

    @property
    def reaches(self) -> Tensor:
        """sum over j != i of ||A_ij||_2 for each block i, (..., blocks)."""
        with one_thread():
            norms = [
                [torch.linalg.matrix_norm(self.A[..., i, j], 2) for j in self._parts if j != i] for i in self._parts
            ]
        zero = torch.zeros_like(self.norm)
        return torch.stack([sum(row, start=zero) for row in norms], -1)

    def _contains(self, z: Tensor, tol: Tensor) -> Tensor:
        # a change of each entry by up to tol / n changes a block of p x q by up to tol sqrt(p q) / n
        roots, n = np.sqrt(self.sizes), self.A.shape[-1]
        inside = torch.zeros((), dtype=torch.bool, device=self.A.device)
        for part, reach, root in zip(self._parts, self.reaches.unbind(-1), roots, strict=True):
            distance = _block_distances(self.A[..., part, part], z)
            inside = inside | (distance <= reach[..., None] + tol * (root * roots.sum() / n))
        return inside

    def outline(self, points: int = 65) -> list[np.ndarray]:
        """The boundary as closed polygons, for real and complex matrices, on a grid of (2 points - 1)^2 points.

        Around the set clockwise, around its holes counterclockwise. A component smaller than the grid's mesh is drawn as the disc that
        it holds around an eigenvalue of its block, a point where that block stands alone. Needs contourpy, which comes with matplotlib.
        """
        self._check_outline(points)
        from contourpy import contour_generator  # few need it

        scale = binary_scale(float(self.norm)) if self.norm > 0 else 1.0
        double = torch.complex128 if self.A.is_complex() else torch.float64
        blocks = [self.A[part, part].cpu().to(double) / scale for part in self._parts]
        reaches = (self.reaches.cpu().double() / scale).tolist()
        x, y = _grid(blocks, reaches, points)
        z = torch.from_numpy((x + 1j * y[:, None]).ravel())
        with one_thread():
            heights = [smallest_singular_values(block, z).numpy() - r for block, r in zip(blocks, reaches, strict=True)]
        height = np.min(heights, axis=0).reshape(len(y), len(x))
        curves = [curve[:, 0] + 1j * curve[:, 1] for curve in contour_generator(x, y, height).lines(0.0)]
        for block, reach in zip(blocks, reaches, strict=True):
            for value in torch.linalg.eigvals(block).tolist():
                i, j = np.searchsorted(y, value.imag), np.searchsorted(x, value.real)
                if (height[i - 1 : i + 1, j - 1 : j + 1] > 0).all():
                    curves.append(value + reach * np.exp(-2j * np.pi * np.arange(points + 1) / points))
        curves = [np.append(curve[:-1], curve[0]) for curve in curves]  # equal to the last bit
        return [scale * curve for curve in sorted(curves, key=lambda curve: curve.real.min())]

    def area(self, points: int = 65) -> float:
        """The area of the set, that of its holes left out, as that of the polygons of `outline(points)`."""
        return 0.0 - float(sum((curve[:-1].conj() * curve[1:]).imag.sum() / 2 for curve in self.outline(points)))


def _block_distances(block: Tensor, z: Tensor) -> Tensor:
    """sigma_min(block - z), (..., k), of blocks (..., p, p) at points (..., k)."""
    p = block.shape[-1]
    if p == 1:
        return (z - block[..., 0]).abs()
    identity = torch.eye(p, dtype=block.dtype, device=block.device)
    with one_thread():
        parts = [
            torch.linalg.svdvals(block[..., None, :, :] - part[..., None, None] * identity)[..., -1]
            for part in z.split(max(1, CHUNK // p**2), dim=-1)
        ]
    return torch.cat(parts, -1)


def _grid(blocks: list[Tensor], reaches: list[float], points: int) -> tuple[np.ndarray, np.ndarray]:
    """Axes, (2 points - 1,) each, of a box around the set: a point of it is at most a block's reach from its numerical range."""
    sides = np.max([support_function(b, 4).numpy() + r for b, r in zip(blocks, reaches, strict=True)], axis=0)
    right, top, left, bottom = sides + 0.05 * max(float(np.ptp(sides)), 0.1)
    if not blocks[0].is_complex():
        half = np.linspace(0, top, points)
        return np.linspace(-left, right, 2 * points - 1), np.concatenate(
            [-half[:0:-1], half]
        )  # mirrors to the last bit
    return np.linspace(-left, right, 2 * points - 1), np.linspace(-bottom, top, 2 * points - 1)
