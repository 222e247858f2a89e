"""Bounds of windows added up along a run, level by level, rounded outwards.

Up to a time t the windows of 2^k factors, and for what is left of t the longest shorter ones that fit, make a bound at every t.
"""

import math

import numpy as np

from gersgorin.certified.kinds import KINDS, log_below_of, log_bounds
from gersgorin.certified.rounding import sum_of_logs_above
from gersgorin.certified.weights import Weighted
from gersgorin.certified.windows import Window

Bounds = tuple[np.ndarray, float]
NOTHING: Bounds = (np.zeros(len(KINDS)), 0.0)


class Ledger:
    """What the windows of each level certify."""

    def __init__(self, norms: tuple[Weighted | None, Weighted | None], *, first: bool = True):
        """`first`: whether the run begins here."""
        self.norms, self.first = norms, first
        self.of_window: dict[tuple[int, int], Bounds] = {}
        self.sums: list[Bounds] = []
        """Of each level's windows so far: logs of the upper bounds (5,), that of the lower one."""

    def add(self, window: Window, known: Bounds | None = None) -> None:
        """Enter a window, after its halves; `known`: its bounds, where they need not be computed."""
        bounds = self.of_window[window.level, window.start] = known or self._bounds(window)
        if window.level == len(self.sums):
            self.sums.append(NOTHING)
        self.sums[window.level] = added(self.sums[window.level], bounds)

    def over_time(self, level: int, T: int) -> list[Bounds]:
        """The bounds at t = 1..T from windows of up to 2^level factors."""
        found, whole, longest = [], NOTHING, 2**level
        for t in range(1, T):
            start = t // longest * longest
            if start == t:
                whole = added(whole, self.of_window[level, start - longest])
            total = whole
            for shorter in reversed(range(level)):
                if t - start >= 2**shorter:
                    total = added(total, self.of_window[shorter, start])
                    start += 2**shorter
            found.append(total)
        return [*found, self.sums[level]]  # its last window may be a shorter one

    def _bounds(self, window: Window) -> Bounds:
        """Those of the product itself, or those of its halves together where these are sharper (rounding)."""
        middle = window.start + 2 ** (window.level - 1) if window.level else window.stop
        if window.level and middle >= window.stop:
            return self.of_window[window.level - 1, window.start]  # carried up as it is
        upper = log_bounds(window.product, self.norms)
        lower = log_below_of(window.product, first=self.first and window.start == 0)
        if window.level:
            halves = added(*(self.of_window[window.level - 1, start] for start in (window.start, middle)))
            upper, lower = np.minimum(upper, halves[0]), max(lower, halves[1])
        return upper, lower


def added(first: Bounds, second: Bounds) -> Bounds:
    """The sum of two logs of bounds, rounded outwards."""
    return sum_of_logs_above(first[0], second[0]), math.nextafter(first[1] + second[1], -math.inf)
