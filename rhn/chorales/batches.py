"""The minibatches of a training: which pieces share one is fixed, the order of the batches changes every epoch.

Pieces are sorted by length and cut into batches from the longest down, so that little is padding and the batch that is not full is the
shortest one. Fixed batches are made once, stay on the device, and are few: a CUDA graph belongs to each. Every batch is filled up with
empty rows to a multiple of 32: then no vectorised loop has a remainder that moves with the number of stacked models.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rhn.data import batches
from rhn.errors import DataError

ROWS = 32
MOST = 2  # times ROWS in a batch that is measured, which needs no memory for gradients
STEP_ROWS = {"cpu": 4.0}
"""What a step of a batch costs beside its rows, in rows: next to nothing in compiled recurrences (measured at 1 to 15 models of 9 to
262 units: epochs take 2 to 8 % less than with batches of 64). Where it is not said a step is launches, and the fewest steps are the
fastest. Fixed, not measured in each run: losses depend on it in their last bits."""


@dataclass(frozen=True, eq=False)
class Minibatch:
    """frames (T, B, keys), mask (T, B), 1 at real frames and 0 elsewhere, in the dtype of the weights; count: predicted frames."""

    frames: Tensor
    mask: Tensor
    count: int


def training_batches(pieces: Sequence[np.ndarray], batch_size: int, **where) -> list[Minibatch]:
    """The batches of an epoch, longest first: ceil(N / batch_size) of them, with rows filled up to a multiple of 32.

    `where` is the device and dtype. Raises DataError where no piece has two frames: there is nothing to predict.
    """
    usable, rows = _longest_first(pieces), -(-batch_size // ROWS) * ROWS
    return [_minibatch(usable[i : i + batch_size], rows, **where) for i in range(0, len(usable), batch_size)]


def evaluation_batches(pieces: Sequence[np.ndarray], *, device: torch.device | str, dtype) -> list[Minibatch]:
    """The batches that losses are measured over, longest first: those of least predicted time on the device; see `STEP_ROWS`."""
    usable, start, found = _longest_first(pieces), 0, []
    for blocks in grouped([len(piece) for piece in usable[::ROWS]], STEP_ROWS.get(torch.device(device).type, 1e6)):
        now = usable[start : start + blocks * ROWS]
        found.append(_minibatch(now, blocks * ROWS, device=device, dtype=dtype))
        start += len(now)
    return found


def grouped(longest: Sequence[int], step_rows: float) -> list[int]:
    """How many neighbouring blocks of 32 rows to put into each batch, so that the sum of longest x (rows + step_rows) is least.

    longest: of each block, falling. By dynamic programming from the shortest.

    >>> grouped([144, 57, 40], 4.0), grouped([129, 76, 65, 61], 4.0), grouped([144, 57, 40], 1e6)
    ([1, 1, 1], [1, 1, 2], [2, 1])
    """
    best: list[tuple[float, list[int]]] = [(0.0, [])]  # of the last blocks, by their number
    for start in range(len(longest) - 1, -1, -1):
        ways = range(1, min(MOST, len(best)) + 1)
        costs = [(longest[start] * (n * ROWS + step_rows) + best[-n][0], [n, *best[-n][1]]) for n in ways]
        best.append(min(costs))
    return best[-1][1]


def predicted_frames(batches: Sequence[Minibatch]) -> int:
    """How many frames the batches predict: all but the first of each piece."""
    return sum(batch.count for batch in batches)


def _longest_first(pieces: Sequence[np.ndarray]) -> list[np.ndarray]:
    usable = sorted((piece for piece in pieces if len(piece) > 1), key=len, reverse=True)
    if not usable:
        raise DataError("there is nothing to predict: expected pieces of at least 2 frames")
    return usable


def _minibatch(pieces: Sequence[np.ndarray], rows: int, *, device, dtype) -> Minibatch:
    rows = min(rows, -(-len(pieces) // ROWS) * ROWS)
    (batch,) = batches(pieces, rows, pad_rows=True)
    count = sum(len(piece) - 1 for piece in pieces)
    return Minibatch(batch.frames.to(device, dtype), batch.mask.to(device, dtype), count)
