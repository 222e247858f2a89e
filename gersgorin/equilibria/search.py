"""Zeros of r(s) = F(s) - s from many starts at once, by Levenberg-Marquardt steps on the speed q = |r|^2 / 2.

D. Sussillo and O. Barak (Neural Computation 25, 2013) minimise q by its gradient; with the Jacobian J = dF/ds - 1 at hand each
start takes the step d of

    (J' J + l |r| 1) d = -J' r

which far from a zero is a short step down the slope of q, and near one is Newton's: the number of correct digits about doubles. A
step that does not lower the speed is not taken, and l grows fourfold; one that does divides it by eight. Minima of q above zero, where
J' r = 0 with r != 0, are found by the same steps. The search is kept in a box: where gates saturate far outside what a run can reach,
the speed falls below every tolerance, and nothing stands still there.

Shapes: s, r (B, N), J (B, N, N), a row a start. Starts are independent: what one does moves no other.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

FIRST_DAMPING, MOST_DAMPING = 0.1, 1e12
FLAT = 1e-7  # |J' r| / |r|, what a unit step along the slope could take off the speed: below, a minimum is reached


class Ends(NamedTuple):
    """Where the search from each of B starts ended."""

    states: Tensor
    """(B, N)"""
    speeds: Tensor
    """|F(s) - s|_2, (B,)."""
    flat: Tensor
    """Whether q has no slope there any more, (B,) bool."""


def search(
    step: Callable[[Tensor], Tensor],
    jacobian: Callable[[Tensor], Tensor],
    s: Tensor,
    *,
    low: Tensor,
    high: Tensor,
    tolerance: float,
    iterations: int,
) -> Ends:
    """Follow every start until |F(s) - s|_2 <= tolerance, to a minimum of q above that, or for so many iterations.

    Args:
        step: F, (b, N) -> (b, N). jacobian: dF/ds, (b, N) -> (b, N, N). s: the starts (B, N), finite.
        low, high: (N,), the box that a step must not leave.
    """
    s, r = s.clone(), step(s) - s
    speed, damping = _norm(r), s.new_full((len(s),), FIRST_DAMPING)
    flat = torch.zeros(len(s), dtype=torch.bool, device=s.device)
    identity = torch.eye(s.shape[1], dtype=s.dtype, device=s.device)
    for _ in range(iterations):
        rows = torch.nonzero((speed > tolerance) & ~flat & (damping < MOST_DAMPING)).squeeze(1)
        if len(rows) == 0:
            break
        J, residual = jacobian(s[rows]) - identity, r[rows]
        slope = (J.mT @ residual.unsqueeze(-1)).squeeze(-1)
        flat[rows] = _norm(slope) <= FLAT * speed[rows]
        H = J.mT @ J
        H.diagonal(dim1=-2, dim2=-1).add_((damping[rows] * speed[rows]).unsqueeze(-1))
        d, failed = torch.linalg.solve_ex(H, -slope)
        trial = s[rows] + d
        after = step(trial) - trial
        inside = ((trial >= low) & (trial <= high)).all(-1)  # False for NaN
        better = (_norm(after) < speed[rows]) & inside & (failed == 0)
        taken = rows[better]
        s[taken], r[taken], speed[taken] = trial[better], after[better], _norm(after[better])
        damping[rows] *= torch.where(better, 1 / 8, 4.0)
    return Ends(s, speed, flat)


def distinct(states: Tensor, order: Tensor, apart: float) -> tuple[Tensor, Tensor]:
    """(the rows (P,) of distinct states, which of them (B,) each state is).

    Taken in the order given, a state is new if in some entry it differs by more than apart (1 + its largest entry) from all before it.
    """
    which, kept = torch.full((len(states),), -1, device=states.device), []
    for row in order.tolist():
        if which[row] < 0:
            distance = (states - states[row]).abs().amax(-1)
            near = (distance <= apart * (1 + states[row].abs().max())) & (which < 0)
            which[near] = len(kept)
            kept.append(row)
    return torch.tensor(kept, dtype=torch.int64, device=states.device), which


def _norm(v: Tensor) -> Tensor:
    return torch.linalg.vector_norm(v, dim=-1)
