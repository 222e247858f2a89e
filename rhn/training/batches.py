"""Batches of chorales, and the loss of the constant predictor.

Chorales are sorted by length and cut into batches from the longest down, for little padding. They
are cut once; only the order of the batches changes. Empty rows fill every batch up to a multiple of
32: then no vectorised loop has a remainder that depends on the number of models.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn

from rhn.errors import DataError

CHORALE_ROWS = 32
MOST = 2  # times CHORALE_ROWS in a batch for evaluation, which needs no memory for gradients
# fixed cost of a time step, in units of the cost of a row; losses depend on it in their last bits
STEP_ROWS = {"cpu": 4.0}


@dataclass(frozen=True, eq=False)
class ChoraleBatch:
    """A batch: frames (T, B, keys), and mask (T, B), 1 at real frames, 0 elsewhere. `size` is the
    number of predicted frames.
    """

    frames: Tensor
    mask: Tensor
    size: int

    def inputs(self, model: nn.Module, numbers: Sequence[int]) -> tuple:
        """Return the arguments of a step: this batch, which has its own CUDA graph."""
        return (self,), None


def batches_of(
    pieces: Sequence[np.ndarray], sizes: Iterable[int], *, device, dtype
) -> list[ChoraleBatch]:
    """Cut pieces into batches of these sizes, longest first. Raises DataError if no piece has two
    frames.
    """
    usable = sorted((piece for piece in pieces if len(piece) > 1), key=len, reverse=True)
    if not usable:
        raise DataError("there is nothing to predict: expected pieces of at least 2 frames")
    found, left = list[ChoraleBatch](), iter(usable)
    for size in sizes:
        if not (some := [*islice(left, size)]):
            break
        rows = -(-len(some) // CHORALE_ROWS) * CHORALE_ROWS
        frames = np.zeros((len(some[0]), rows, np.shape(some[0])[1]), np.float32)
        mask = np.zeros(frames.shape[:2], bool)
        for row, piece in enumerate(some):
            frames[: len(piece), row], mask[: len(piece), row] = piece, True
        x, real = (torch.from_numpy(array).to(device, dtype) for array in (frames, mask))
        found.append(ChoraleBatch(x, real, sum(len(piece) - 1 for piece in some)))
    return found


def evaluation_batches(pieces: Sequence[np.ndarray], *, device, dtype) -> list[ChoraleBatch]:
    """Cut pieces into batches for evaluation, longest first, in the least time; see `grouped`."""
    lengths = sorted((len(piece) for piece in pieces if len(piece) > 1), reverse=True)
    blocks = grouped(lengths[::CHORALE_ROWS], STEP_ROWS.get(torch.device(device).type, 1e6))
    sizes = (CHORALE_ROWS * count for count in blocks)
    return batches_of(pieces, sizes, device=device, dtype=dtype)


def grouped(longest: Sequence[int], step_rows: float) -> list[int]:
    """Group neighbouring blocks of 32 rows, whose longest pieces have these numbers of frames, into
    batches by dynamic programming, so that the sum over batches of longest x (rows + step_rows) is
    least. Returns the number of blocks in each batch.

    >>> grouped([144, 57, 40], 4.0), grouped([129, 76, 65, 61], 4.0), grouped([144, 57, 40], 1e6)
    ([1, 1, 1], [1, 1, 2], [2, 1])
    """
    best: list[tuple[float, list[int]]] = [(0.0, [])]  # of the last blocks, by their number
    for frames in reversed(longest):
        costs = []
        for n in range(1, min(MOST, len(best)) + 1):
            cost, rest = best[-n]
            costs.append((frames * (n * CHORALE_ROWS + step_rows) + cost, [n, *rest]))
        best.append(min(costs))
    return best[-1][1]


def constant_output_nll(
    pieces: Sequence[np.ndarray], train: Sequence[np.ndarray] | None = None
) -> float:
    """Return the loss on pieces of the constant predictor with the lowest loss on `train` (None:
    on these pieces), in nats per frame: the sum over keys of -q log p - (1 - q) log(1 - p). p and q
    are the shares of predicted frames in which a key sounds, in `train` and in pieces.
    """
    p, q = (
        torch.from_numpy(np.concatenate([np.asarray(piece)[1:] for piece in each]).mean(0))
        for each in (pieces if train is None else train, pieces)
    )
    return -float((torch.xlogy(q, p) + torch.special.xlog1py(1 - q, -p)).sum())
