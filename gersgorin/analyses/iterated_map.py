"""The map F^k of k steps under a constant input: its states, Jacobian and cycles, and the states in
which starts settle.

Legend: b states; N entries of a state; P points; k period.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gersgorin import root_search
from gersgorin.jacobians import jacobians
from gersgorin.points import distinct, least_of_each, meeting
from gersgorin.step import Step

SETTLED, LONGEST = 200, 10_000  # steps, at least and at most, in which starts settle
AT_ONCE = 20  # steps between two looks at the states that settle


@dataclass(frozen=True, eq=False)
class IteratedMap:
    """The map F^k of a step for a constant input x (1, m), or id (1,).

    >>> from gersgorin.step import as_step
    >>> step, x = as_step(lambda x, s: 3 * s + x, torch.ones(1, 1), torch.zeros(1))
    >>> twice, s = IteratedMap(step, x, 2), torch.tensor([[1.0], [0.0]])
    >>> twice(s).tolist(), twice.jacobian(s).flatten().tolist()
    ([[13.0], [4.0]], [9.0, 9.0])
    """

    step: Step
    x: Tensor
    period: int

    def along(self, s: Tensor, steps: int) -> Tensor:
        """The states s, F(s), F(F(s)), ..., (steps + 1, b, N)."""
        if len(s) == 0:
            return s.expand(steps + 1, *s.shape)
        return self.step.states(self.x.expand(steps, len(s), *self.x.shape[1:]), s)

    def __call__(self, s: Tensor) -> Tensor:
        """F^k(s), (b, N)."""
        return self.along(s, self.period)[-1]

    def jacobian(self, s: Tensor) -> Tensor:
        """dF^k/ds, (b, N, N)."""
        A = torch.eye(s.shape[1], dtype=s.dtype, device=s.device).expand(len(s), -1, -1)
        for now in self.along(s, self.period - 1) if len(s) else ():
            A = jacobians(self.step, self.x.expand(len(s), *self.x.shape[1:]), now, None) @ A
        return A

    def closes_early(self, s: Tensor, apart: Tensor) -> Tensor:
        """True if F^d(s) = s for a divisor d < k of k, up to `apart` in every entry, (b,)."""
        orbit = self.along(s, self.period - 1)
        divisors = [d for d in range(1, self.period) if self.period % d == 0]
        return ((orbit[divisors] - s).abs() <= apart).all(-1).any(0)

    def cycle_of(self, points: Tensor, apart: Tensor) -> Tensor:
        """The number of the cycle of each point, (P,), from 0 in the order of the points."""
        gaps = (self.along(points, self.period - 1)[:, :, None] - points).abs().amax(-1)
        first = (gaps <= apart).any(0).int()  # (P, P)
        return first.argmax(1).unique(return_inverse=True)[1] if len(points) else first.sum(1)

    def settled(self, starts: Tensor) -> tuple[Tensor, int]:
        """The distinct finite states (b, N) that the starts reach, and the number of steps: 200, or
        up to 10,000 while a state still drifts.
        """
        s, steps, drift = starts, 0, True
        side = (starts - starts.mean(0)).abs().max().clamp(min=1)
        near = root_search.MET * side
        while len(s) and (steps < SETTLED or drift) and steps < LONGEST:
            path = self.along(s, AT_ONCE * self.period)[:: self.period]
            drift, steps = _drifts(path, near), steps + AT_ONCE
            s = path[-1][path[-1].norm(dim=-1).isfinite()]
            first = least_of_each(meeting(s, near), torch.zeros_like(s[:, 0]))
            s = s[first.sort().values]
        none = torch.zeros_like(s[:, 0])
        return s[distinct(s, none, none == 0, root_search.APART * side, len(s))[0]], steps


def _drifts(path: Tensor, still: Tensor) -> bool:
    """True if one of b states moves along its path (T, b, N) by over `still`, mostly one way."""
    moved, way = (path[-1] - path[0]).norm(dim=-1), path.diff(dim=0).norm(dim=-1).sum(0)
    return bool(((moved > still) & (moved > way / 2)).any())
