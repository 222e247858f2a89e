"""Minibatches of sequences of unequal length: time-major, padded at the end, with a mask.

T frames, B rows. Padding is wasted work, and each T is one more CUDA graph: so pieces may be grouped by length into a few buckets,
and every batch padded to the length of its bucket.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from rhn.errors import InvalidInputError


@dataclass(frozen=True, eq=False)
class Batch:
    """One minibatch: frames (T, B, keys) float32, mask (T, B) bool, indices (B,) int64.

    The mask is True at real frames, which come first in each column; padding is 0. `indices` are places in the list
    of pieces, -1 for a row that is all padding.
    """

    frames: torch.Tensor
    mask: torch.Tensor
    indices: torch.Tensor


def batches(
    pieces: Sequence[np.ndarray],
    batch_size: int = 32,
    *,
    seed: int | np.random.Generator | None = None,
    buckets: int | None = None,
    pad_rows: bool = False,
) -> list[Batch]:
    """Every piece once, in ceil(len(pieces) / batch_size) batches.

    pieces: arrays (T_i, keys) with T_i >= 1.
    seed: shuffles which pieces share a batch, and the batches; a given seed always gives the same ones. None keeps
    the order of the pieces (within their bucket).
    buckets: how many lengths T may take, chosen by `length_buckets`, each batch the smallest that fits; None pads to a
    batch's longest piece. Pieces are grouped by the length they need; what does not fill a batch moves up into the next
    group, so that the number of batches stays, and at most one is not full.
    pad_rows: fills the batch that is not full up to batch_size with rows of padding alone.

    Raises InvalidInputError for pieces or sizes that make no batch.

    >>> pieces = [np.ones((length, 88)) for length in (3, 9, 4, 8, 2)]
    >>> [tuple(batch.frames.shape) for batch in batches(pieces, 2, buckets=2, pad_rows=True)]
    [(4, 2, 88), (9, 2, 88), (9, 2, 88)]
    """
    lengths = _checked_lengths(pieces, batch_size)
    rng = None if seed is None else np.random.default_rng(seed)
    order = np.arange(len(pieces)) if rng is None else rng.permutation(len(pieces))
    pad_to = np.unique(lengths)
    if buckets is not None:
        pad_to = np.array(length_buckets(lengths, buckets))
        # a stable sort: within a bucket the order stays
        order = order[np.argsort(np.searchsorted(pad_to, lengths[order]), kind="stable")]
    groups = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    if rng is not None:
        groups = [groups[i] for i in rng.permutation(len(groups))]
    return [_batch(pieces, group, pad_to, batch_size if pad_rows else len(group)) for group in groups]


def length_buckets(lengths: Sequence[int], count: int) -> list[int]:
    """At most `count` lengths, ascending: padding every sequence to the next of them adds the fewest frames.

    The optimal cut of the sorted distinct lengths u_1 < ... < u_n, by dynamic programming over cost(i, j) = sum of
    (u_j - length) over the sequences with u_i < length <= u_j. Raises InvalidInputError for no lengths or count < 1.

    >>> length_buckets([3, 9, 4, 8, 2], 2)
    [4, 9]
    """
    if len(lengths) == 0 or min(lengths) < 1 or count < 1:
        raise InvalidInputError(f"expected lengths >= 1 and count >= 1, got {len(lengths)} lengths and count {count}")
    distinct, sizes = np.unique(lengths, return_counts=True)
    if count >= len(distinct):
        return distinct.tolist()

    @functools.cache
    def best(j, k):
        """The least padding of the j shortest lengths in at most k buckets, and those buckets."""
        if j == 0 or k == 0:
            return (0 if j == 0 else float("inf")), ()
        padding = (sizes[:j] * (distinct[j - 1] - distinct[:j]))[::-1].cumsum()[::-1].tolist()  # of lengths i to j - 1
        found = ((best(i, k - 1), padding[i]) for i in range(j))
        return min((least + added, (*buckets, int(distinct[j - 1]))) for (least, buckets), added in found)

    return list(best(len(distinct), count)[1])


def _batch(pieces: Sequence[np.ndarray], group: np.ndarray, pad_to: np.ndarray, rows: int) -> Batch:
    length = pad_to[np.searchsorted(pad_to, max(len(pieces[i]) for i in group))]
    frames = np.zeros((length, rows, np.shape(pieces[0])[1]), np.float32)
    mask = np.zeros((length, rows), bool)
    indices = np.full(rows, -1)
    for row, i in enumerate(group):
        frames[: len(pieces[i]), row] = pieces[i]
        mask[: len(pieces[i]), row] = True
        indices[row] = i
    return Batch(torch.from_numpy(frames), torch.from_numpy(mask), torch.from_numpy(indices))


def _checked_lengths(pieces: Sequence[np.ndarray], batch_size: int) -> np.ndarray:
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
    return np.array([length for length, _ in shapes])
