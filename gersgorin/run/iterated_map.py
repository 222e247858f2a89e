"""The map F^k of a cell under constant input: k steps from a state. Its fixed points are the fixed
points of the step F, and the points of the cycles of F with period k.

Legend: k period; b states; P points of cycles; N entries of a state; m inputs.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gersgorin.linalg.zeros import APART, MET, distinct, least_of_each, meeting, norm
from gersgorin.run.cell import StepCell

SETTLED, LONGEST = 200, 10_000  # steps, at least and at most, in which starts settle
RUN_ON = 1000  # steps that `runs_into` follows a state
AT_ONCE = 20  # steps in memory
FAR = 100.0  # times as far as the starts lie: not where a network settles


@dataclass(frozen=True, eq=False)
class IteratedMap:
    """The map F^k for a constant input x (m,).

    >>> from gersgorin.run.cell import as_cell
    >>> twice = IteratedMap(as_cell(lambda x, s: 3 * s + x), torch.ones(1), 2)
    >>> s = torch.tensor([[1.0], [0.0]])
    >>> twice(s).tolist(), twice.jacobian(s).flatten().tolist()
    ([[13.0], [4.0]], [9.0, 9.0])
    """

    cell: StepCell
    x: Tensor
    period: int = 1

    def __call__(self, s: Tensor) -> Tensor:
        """F^k(s), (b, N)."""
        return self.path(s, 1)[1]

    def path(self, s: Tensor, times: int) -> Tensor:
        """The states s, F^k(s), F^2k(s), ..., (times + 1, b, N)."""
        x = self.x.expand(times * self.period, len(s), -1).contiguous()
        return self.cell.states(x, s)[:: self.period]

    def jacobian(self, s: Tensor) -> Tensor:
        """dF^k/ds, (b, N, N)."""
        first, *others = self.orbit(s)
        A = self.cell.jacobian(self.x, first)
        for now in others:
            A = self.cell.jacobian(self.x, now) @ A
        return A

    def orbit(self, s: Tensor) -> Tensor:
        """The states s, F(s), ..., F^(k-1)(s), (k, b, N)."""
        if self.period == 1 or not len(s):
            return s.expand(self.period, *s.shape)
        return self.cell.states(self.x.expand(self.period - 1, len(s), -1), s)

    def closes_early(self, s: Tensor, apart: Tensor) -> Tensor:
        """True if F^d(s) = s for a divisor d < k of k, up to `apart` in every entry, (b,)."""
        orbit = self.orbit(s)
        divisors = [d for d in range(1, self.period) if self.period % d == 0]
        return ((orbit[divisors] - s).abs() <= apart).all(-1).any(0)

    def cycle_of(self, points: Tensor, apart: Tensor) -> Tensor:
        """The number of the cycle of each point, (P,), from 0 in the order of the points."""
        if not len(points):
            return points.new_zeros(0, dtype=torch.int64)
        gaps = (self.orbit(points)[:, :, None] - points).abs().amax(-1)  # (k, P, P)
        first = (gaps <= apart).any(0).int().argmax(1)  # the first point on the orbit
        return first.unique(return_inverse=True)[1]

    def settled(self, starts: Tensor) -> tuple[Tensor, int]:
        """Return (the distinct states (b, N) that the starts reach, without states far away; the
        number of steps). The number of steps is 200, or up to 10,000 while a state still drifts. A
        search that begins only at the starts may miss points near the states that they reach.
        """
        s, middle, steps = starts, starts.mean(0), 0
        side = (starts - middle).abs().max().clamp(min=1)
        drift = True
        while len(s) and (steps < SETTLED or drift) and steps < LONGEST:
            path = self.path(s, AT_ONCE)
            drift, steps = _drifts(path, MET * side), steps + AT_ONCE
            s = path[-1][((path[-1] - middle).abs() < FAR * side).all(-1)]  # False for NaN
            s = s[least_of_each(meeting(s, MET * side), torch.zeros_like(s[:, 0])).sort().values]
        none = torch.zeros_like(s[:, 0])
        rows, _ = distinct(s, none, none == 0, APART * side, len(s))
        return s[rows], steps

    def runs_into(self, s: Tensor, points: Tensor, apart: Tensor) -> int:
        """How many of the states s, of shape (b, N), reach any of the given points (P, N) within
        `RUN_ON` steps and stay there.
        """
        if not len(s) or not len(points):
            return 0
        for _ in range(RUN_ON // AT_ONCE):
            path = self.path(s, AT_ONCE)[1:]
            s = path[-1]
        stays = [((path - point).abs().amax(-1) <= apart).all(0) for point in points]
        return int(torch.stack(stays).any(0).sum())


def _drifts(path: Tensor, still: Tensor) -> bool:
    """True if one of b states moves along its path (T, b, N) by more than `still`, and mostly in
    one direction. A state that turns or wanders stays in its region.
    """
    moved, way = norm(path[-1] - path[0]), norm(path.diff(dim=0)).sum(0)
    return bool(((moved > still) & (moved > way / 2)).any())
