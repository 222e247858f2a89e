"""The products of all windows of 1, 2, 4, 8, ... consecutive factors, as the factors come, with memory for log2 of their number.

Windows of 2^k factors begin at multiples of 2^k; the last one may be shorter, and the last level is the product of all. Each is the
product of two windows of the level below, so that its rounding error grows with the norms of those halves, which may be small where the
factors themselves are large.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gersgorin.certified.enclosed import Enclosed, times


@dataclass(frozen=True)
class Window:
    """The product of the factors start, ..., stop - 1."""

    level: int
    """It was to have 2^level factors."""
    start: int
    stop: int
    product: Enclosed


def windows(factors: Iterable[Enclosed]) -> Iterator[Window]:
    """Every window of every level; on one level from left to right, and after its halves.

    >>> import numpy as np
    >>> from gersgorin.certified.enclosed import exactly
    >>> [(w.level, w.start, w.stop) for w in windows(exactly(np.eye(1)) for _ in range(3))]
    [(0, 0, 1), (0, 1, 2), (1, 0, 2), (0, 2, 3), (1, 2, 3), (2, 0, 3)]
    """
    waiting: list[Window | None] = []  # on each level the window that waits for its neighbour
    for index, factor in enumerate(factors):
        window = Window(0, index, index + 1, factor)
        yield window
        for level in range(len(waiting)):
            if waiting[level] is None:
                waiting[level] = window
                break
            window, waiting[level] = _joined(waiting[level], window), None
            yield window
        else:
            waiting.append(window)
    yield from _last_ones(waiting)


def _last_ones(waiting: list[Window | None]) -> Iterator[Window]:
    """The shorter windows at the end: what is left on each level, joined from the right."""
    rest = None
    for level, left in enumerate(waiting):
        if rest is not None:
            rest = Window(level, rest.start, rest.stop, rest.product)
            yield rest
            rest = rest if left is None else _joined(left, rest)
            if left is not None and level == len(waiting) - 1:
                yield rest
        elif left is not None:
            rest = left


def _joined(left: Window, right: Window) -> Window:
    return Window(left.level + 1, left.start, right.stop, times(right.product, left.product))
