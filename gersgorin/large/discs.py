"""Geršgorin's discs from rows of the Jacobian in blocks: each block is summed up and forgotten."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from gersgorin.discs import Discs
from gersgorin.grad_mode import with_gradients
from gersgorin.large.limits import check_room, memory_bound
from gersgorin.large.products import StepJacobian
from gersgorin.stepping import Step
from rhn.errors import InvalidInputError

BLOCK_BYTES = 256 << 20  # larger blocks gain nothing
KEPT = 4  # copies of a block: the rows, their moduli, what is left of the reverse pass


@with_gradients()
def discs_by_blocks(
    cell: nn.Module | Step, x: Tensor, s: Tensor, axis: str = "row", *, memory_limit: float | None = None
) -> Discs:
    """The discs of `gersgorin_discs(temporal_jacobian(cell, x, s), axis)`, without that matrix.

    Args:
        cell, x, s: as for `leading_eigenvalues`, one input (m,) and one state (N,).
        axis: "row" or "column".
        memory_limit: bytes, about, beside the weights, the step itself and some ten vectors of N; half of what is free where None.

    Raises:
        InvalidInputError: as `leading_eigenvalues`; axis is neither word; not even one row is within the limit.

    >>> A = torch.tensor([[1.0, -2.0], [0.5, 3.0]])
    >>> discs_by_blocks(lambda x, s: A @ s, torch.zeros(1), torch.zeros(2)).radii
    tensor([2.0000, 0.5000])
    """
    if axis not in ("row", "column"):
        raise InvalidInputError(f"axis: expected 'row' or 'column', got {axis!r}")
    A = StepJacobian(cell, x, s)
    return both_discs(A, memory_bound(memory_limit, A.like.device.type))[axis == "column"]


def both_discs(A: StepJacobian, bound: int) -> tuple[Discs, Discs]:
    """Row discs and column discs, in one pass over the rows, within a bound of bytes.

    Raises InvalidInputError for a Jacobian that is not finite, or where not even a row is within the bound.
    """
    centers, by_row, by_column = torch.empty_like(A.like), torch.empty_like(A.like), torch.zeros_like(A.like)
    for rows, block in row_blocks(A, bound):
        here = torch.arange(len(block), device=block.device)
        centers[rows] = block[here, here + rows.start]
        block[here, here + rows.start] = 0  # left out, not subtracted: see `gersgorin.discs.off_diagonal_sums`
        moduli = block.abs_()
        by_row[rows] = moduli.sum(1)
        by_column += moduli.sum(0)
    if not torch.isfinite(centers + by_row).all():
        raise InvalidInputError("the Jacobian is NaN or infinite: use smaller weights or another state")
    return Discs(centers, by_row), Discs(centers, by_column)


def row_blocks(A: StepJacobian, bound: int) -> Iterator[tuple[slice, Tensor]]:
    """(which rows, those rows (b, N)) of A, as many at once as fit a bound of bytes; each block may be written over."""
    N, like = A.size, A.like
    row_bytes = A.row_bytes() + KEPT * like.nbytes
    check_room(row_bytes, bound, f"one row of a Jacobian of {N} entries", "raise the memory limit")
    size = max(1, min(N, BLOCK_BYTES // row_bytes, bound // row_bytes))
    for start in range(0, N, size):
        rows = slice(start, min(start + size, N))
        w = like.new_zeros(rows.stop - start, N)
        w.diagonal(start).fill_(1)
        yield rows, A.rows(w).contiguous()


def write(A: StepJacobian, bound: int) -> Tensor:
    """A (N, N), written block by block within a bound of bytes beside the matrix."""
    M = A.like.new_empty(A.size, A.size)
    for rows, block in row_blocks(A, bound):
        M[rows] = block
    return M
