"""Cycles of a step F under a constant input: fixed points of F^k, but of no F^d for a divisor d.

Legend: k period; b states; P points of cycles; N entries of a state; m inputs.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gersgorin.run.cell import StepCell


@dataclass(frozen=True, eq=False)
class Iterated:
    """F^k for an input x (m,), called as a `StepCell` is by a search for fixed points."""

    cell: StepCell
    period: int

    def states(self, x: Tensor, s0: Tensor) -> Tensor:
        """The states (T + 1, b, N) after multiples of k steps; each input of x (T, b, m) is that of
        k steps.
        """
        return self.cell.states(x.repeat_interleave(self.period, 0), s0)[:: self.period]

    def jacobian(self, x: Tensor, s: Tensor) -> Tensor:
        """dF^k/ds, (b, N, N)."""
        first, *others = self.orbit(x, s)
        A = self.cell.jacobian(x, first)
        for now in others:
            A = self.cell.jacobian(x, now) @ A
        return A

    def orbit(self, x: Tensor, s: Tensor) -> Tensor:
        """s, F(s), ..., F^(k-1)(s): (k, b, N)."""
        if self.period == 1 or not len(s):
            return s.expand(self.period, *s.shape)
        return self.cell.states(x.expand(self.period - 1, len(s), -1), s)

    def closes_early(self, x: Tensor, s: Tensor, apart: Tensor) -> Tensor:
        """True if F^d(s) = s for a divisor d < k, up to `apart` in every entry, (b,)."""
        orbit = self.orbit(x, s)
        divisors = [d for d in range(1, self.period) if self.period % d == 0]
        return ((orbit[divisors] - s).abs() <= apart).all(-1).any(0)

    def cycle_of(self, x: Tensor, points: Tensor, apart: Tensor) -> Tensor:
        """The number of the cycle of each point, (P,), from 0 in the order of the points."""
        if not len(points):
            return points.new_zeros(0, dtype=torch.int64)
        gaps = (self.orbit(x, points)[:, :, None] - points).abs().amax(-1)  # (k, P, P)
        first = (gaps <= apart).any(0).int().argmax(1)  # the first point on the orbit
        return first.unique(return_inverse=True)[1]
