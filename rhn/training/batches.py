"""Batches: minibatches of chorales, and windows of a text.

Chorales are sorted by length and cut into batches from the longest down: there is little padding, and only the shortest batch is not
full. The batches are the same in every epoch, their order changes. They are made once and stay on the device; a CUDA graph belongs to
each. Empty rows fill every batch up to a multiple of 32: then no vectorised loop has a remainder that depends on the number of
models.

A text is read as B rows side by side, window after window, each from the state at the end of the previous one. A window of T steps has
T + 1 tokens, of which the last T are predicted; its last token is the first one of the next window.
"""

import functools
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rhn.data import batches
from rhn.data.text import Tokens
from rhn.errors import DataError

ROWS = 32
MOST = 2  # times ROWS in a batch for evaluation, which needs no memory for gradients
STEP_ROWS = {"cpu": 4.0}
"""Cost of a step beside its rows, in rows, by device: small for compiled recurrences (measured at 1 to 15 models of 9 to 262 units:
epochs take 2 to 8 % less than with batches of 64). On other devices kernel launches dominate, and the fewest steps are the fastest.
A constant, because losses depend on it in their last bits."""
SHORTEST = 5  # steps of a window of random length
HALF = 0.05  # share of windows of half the length, if lengths vary (Merity et al. 2017)


@dataclass(frozen=True, eq=False)
class Minibatch:
    """frames (T, B, keys), mask (T, B), 1 at real frames and 0 elsewhere, in the dtype of the weights; count: predicted frames."""

    frames: Tensor
    mask: Tensor
    count: int


def training_batches(pieces: Sequence[np.ndarray], batch_size: int, **where) -> list[Minibatch]:
    """Cut pieces into ceil(N / batch_size) batches, longest first, with rows filled up to a multiple of 32.

    where: device and dtype. Raises DataError if no piece has two frames: there is nothing to predict.
    """
    usable, rows = _longest_first(pieces), -(-batch_size // ROWS) * ROWS
    return [_minibatch(usable[i : i + batch_size], rows, **where) for i in range(0, len(usable), batch_size)]


def evaluation_batches(pieces: Sequence[np.ndarray], *, device: torch.device | str, dtype) -> list[Minibatch]:
    """Cut pieces into batches for evaluation, longest first, with the least predicted time on the device; see `STEP_ROWS`."""
    usable, start, found = _longest_first(pieces), 0, []
    for blocks in grouped([len(piece) for piece in usable[::ROWS]], STEP_ROWS.get(torch.device(device).type, 1e6)):
        now = usable[start : start + blocks * ROWS]
        found.append(_minibatch(now, blocks * ROWS, device=device, dtype=dtype))
        start += len(now)
    return found


def grouped(longest: Sequence[int], step_rows: float) -> list[int]:
    """Group neighbouring blocks of 32 rows so that the sum of longest x (rows + step_rows) is least, by dynamic programming.

    longest: frames of the longest piece of each block, falling. Returns the number of blocks in each batch.

    >>> grouped([144, 57, 40], 4.0), grouped([129, 76, 65, 61], 4.0), grouped([144, 57, 40], 1e6)
    ([1, 1, 1], [1, 1, 2], [2, 1])
    """
    best: list[tuple[float, list[int]]] = [(0.0, [])]  # of the last blocks, by their number
    for start in range(len(longest) - 1, -1, -1):
        sizes = range(1, min(MOST, len(best)) + 1)
        costs = [(longest[start] * (n * ROWS + step_rows) + best[-n][0], [n, *best[-n][1]]) for n in sizes]
        best.append(min(costs))
    return best[-1][1]


def predicted_frames(batches: Sequence[Minibatch]) -> int:
    """Number of frames that the batches predict: all but the first of each piece."""
    return sum(batch.count for batch in batches)


def epoch_windows(columns: int, window: int, *, vary: bool = False, epoch: int = 1) -> list[tuple[int, int]]:
    """(first step, steps) of each window of an epoch over rows of `columns` tokens.

    Fixed length: as many whole windows as fit, as in the official code. Varying length: normal around `window` with a standard
    deviation of 5, one of 20 windows around half of it; drawn anew each epoch, equally for every seed.

    >>> epoch_windows(11, 5)
    [(0, 5), (5, 5)]
    """
    steps = columns - 1
    if not vary:
        return [(start, window) for start in range(0, steps - window + 1, window)]
    rng = np.random.default_rng([epoch, zlib.crc32(b"windows")])
    windows, start = [], 0
    while steps - start >= SHORTEST:
        centre = window / 2 if rng.random() < HALF else window
        length = int(np.clip(rng.normal(centre, 5), SHORTEST, 2 * window))
        windows.append((start, min(length, steps - start)))
        start += length
    return windows


@functools.cache
def window_count(columns: int, window: int, vary: bool, epoch: int) -> int:
    """Number of windows of an epoch, see `epoch_windows`."""
    return len(epoch_windows(columns, window, vary=vary, epoch=epoch))


def training_rows(tokens: Tokens, batch_size: int, window: int) -> Tokens:
    """The text as (B, N // B); raises DataError if not even one window fits."""
    if len(tokens) // batch_size <= window:
        raise DataError(
            f"{len(tokens)} tokens do not fill {batch_size} rows of {window + 1}: "
            f"take a longer text, a smaller batch than {batch_size} or a shorter window than {window}"
        )
    return tokens.rows(batch_size)


def window_of(rows: Tokens, start: int, steps: int, device: torch.device | str = "cpu") -> Tensor:
    """The tokens (T + 1, B) int64 of a window of rows (B, N // B)."""
    return torch.from_numpy(np.ascontiguousarray(rows[:, start : start + steps + 1].T)).to(device)


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
