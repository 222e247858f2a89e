"""How an epoch goes through a text: B rows side by side, window after window, each from the state where the last one ended.

A window of T steps has T + 1 tokens, its last one being the next one's first: T are predicted.
"""

import functools
import zlib

import numpy as np
import torch
from torch import Tensor

from rhn.data.text import Tokens
from rhn.errors import DataError

SHORTEST = 5
HALF = 0.05  # share of windows of half the length, in those that vary (Merity et al. 2017)


def epoch_windows(columns: int, window: int, *, vary: bool = False, epoch: int = 1) -> list[tuple[int, int]]:
    """(first step, steps) of each window of an epoch over rows of so many tokens.

    Fixed: as many whole windows as fit, the official code's rule. Varying: their lengths are normal around `window` with a standard
    deviation of 5, in one of 20 around half of it; another draw each epoch, the same for every seed.

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
    """How many windows an epoch has, see `epoch_windows`."""
    return len(epoch_windows(columns, window, vary=vary, epoch=epoch))


def training_rows(tokens: Tokens, batch_size: int, window: int) -> Tokens:
    """The text as (B, N // B); raises DataError where not even one window fits."""
    if len(tokens) // batch_size <= window:
        raise DataError(
            f"{len(tokens)} tokens do not fill {batch_size} rows of {window + 1}: "
            f"take a longer text, a smaller batch than {batch_size} or a shorter window than {window}"
        )
    return tokens.rows(batch_size)


def window_of(rows: Tokens, start: int, steps: int, device: torch.device | str = "cpu") -> Tensor:
    """The tokens (T + 1, B) int64 of a window of rows (B, N // B)."""
    return torch.from_numpy(np.ascontiguousarray(rows[:, start : start + steps + 1].T)).to(device)
