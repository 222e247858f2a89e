"""The minibatches of a training: which pieces share one is fixed, the order of the batches changes every epoch.

Pieces are sorted by length and cut into batches from the longest down, so that little is padding and the batch that is not full is the
shortest one. Fixed batches are made once, stay on the device, and are few: a CUDA graph belongs to each. Every batch is filled up with
empty rows to a multiple of 32: then no vectorised loop has a remainder that moves with the number of stacked models.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from rhn.data import batches
from rhn.errors import DataError

ROWS = 32
EVALUATION_ROWS = 64  # no update waits between batches, so fewer and larger ones are faster


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
    usable = sorted((piece for piece in pieces if len(piece) > 1), key=len, reverse=True)
    if not usable:
        raise DataError("there is nothing to predict: expected pieces of at least 2 frames")
    rows = -(-batch_size // ROWS) * ROWS
    return [_minibatch(usable[i : i + batch_size], rows, **where) for i in range(0, len(usable), batch_size)]


def evaluation_batches(pieces: Sequence[np.ndarray], **where) -> list[Minibatch]:
    """The batches that losses are measured over, as `training_batches`."""
    return training_batches(pieces, EVALUATION_ROWS, **where)


def predicted_frames(batches: Sequence[Minibatch]) -> int:
    """How many frames the batches predict: all but the first of each piece."""
    return sum(batch.count for batch in batches)


def _minibatch(pieces: Sequence[np.ndarray], rows: int, *, device, dtype) -> Minibatch:
    rows = min(rows, -(-len(pieces) // ROWS) * ROWS)
    (batch,) = batches(pieces, rows, pad_rows=True)
    count = sum(len(piece) - 1 for piece in pieces)
    return Minibatch(batch.frames.to(device, dtype), batch.mask.to(device, dtype), count)
