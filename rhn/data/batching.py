"""Minibatches of sequences of unequal length: time-major, padded at the end, with a mask. T frames, B rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from rhn.errors import InvalidInputError


@dataclass(frozen=True, eq=False)
class Batch:
    """One minibatch: frames (T, B, keys) float32, mask (T, B) bool, indices (B,) int64.

    The mask is True at real frames, which come first in each column; padding is 0. `indices` are places in the list
    of pieces, -1 for a row of padding.
    """

    frames: torch.Tensor
    mask: torch.Tensor
    indices: torch.Tensor


def batches(
    pieces: Sequence[np.ndarray],
    batch_size: int = 32,
    *,
    seed: int | np.random.Generator | None = None,
    pad_rows: bool = False,
) -> list[Batch]:
    """Put every piece once into ceil(len(pieces) / batch_size) batches, each padded to its longest piece.

    pieces: arrays (T_i, keys) with T_i >= 1.
    seed: shuffles the pieces; the same seed always gives the same batches. None keeps the order of the pieces.
    pad_rows: fills the last batch up to batch_size with rows of padding.

    Raises InvalidInputError for pieces or sizes that make no batch.

    >>> pieces = [np.ones((length, 88)) for length in (3, 9, 4, 8, 2)]
    >>> [tuple(batch.frames.shape) for batch in batches(pieces, 2, pad_rows=True)]
    [(9, 2, 88), (8, 2, 88), (2, 2, 88)]
    """
    _check(pieces, batch_size)
    order = np.arange(len(pieces)) if seed is None else np.random.default_rng(seed).permutation(len(pieces))
    groups = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return [_batch(pieces, group, batch_size if pad_rows else len(group)) for group in groups]


def _batch(pieces: Sequence[np.ndarray], group: np.ndarray, rows: int) -> Batch:
    length = max(len(pieces[i]) for i in group)
    frames = np.zeros((length, rows, np.shape(pieces[0])[1]), np.float32)
    mask = np.zeros((length, rows), bool)
    indices = np.full(rows, -1)
    for row, i in enumerate(group):
        frames[: len(pieces[i]), row] = pieces[i]
        mask[: len(pieces[i]), row] = True
        indices[row] = i
    return Batch(torch.from_numpy(frames), torch.from_numpy(mask), torch.from_numpy(indices))


def _check(pieces: Sequence[np.ndarray], batch_size: int) -> None:
    if batch_size < 1 or len(pieces) == 0:
        raise InvalidInputError(
            f"expected pieces and batch_size >= 1, got {len(pieces)} pieces and batch_size {batch_size}"
        )
    shapes = [np.shape(piece) for piece in pieces]
    for i, shape in enumerate(shapes):
        if len(shape) != 2 or shape[0] < 1 or shape[1] != shapes[0][1]:
            raise InvalidInputError(
                f"piece {i} has shape {shape}, expected (T, keys) with T >= 1 and the same keys in all"
            )
