"""Zeros of r(s) = F(s) - s for a smooth map F, from many starts at once.

By Levenberg-Marquardt steps on the speed q = |r|^2 / 2. D. Sussillo and O. Barak (Neural
Computation 25, 2013) minimise q by its gradient. Here the Jacobian J = dF/ds - 1 is known, and each
start takes the step d of

    (J' J + l |r| 1) d = -J' r

which far from a zero is a short step down the slope of q, and near one is Newton's: the number of
correct digits about doubles. A step that does not lower the speed is rejected, and l grows
fourfold; an accepted step divides it by eight. The same steps find minima of q above zero, where J'
r = 0 with r != 0. Starts are independent of each other.

Legend: B starts; N entries of a state; step: F, (b, N) -> (b, N); jacobian: dF/ds, (b, N) -> (b, N,
N).
"""

from collections.abc import Callable

import torch
from torch import Tensor

FIRST_DAMPING, MOST_DAMPING = 0.1, 1e12
SHARP = 0.1  # of the speed: what a step of Newton's leaves near a point of no eigenvalue 1
FLAT = 1e-7  # |J' r| / |r| at a minimum of the speed
SHORTER = 0.9  # of a step of Newton's, the next one at a point of any multiplicity up to 10
# of the box, a step beside a point; of the Jacobian there, a jump that is no rounding
NEAR, JUMP = 1e-6, 1e-6
ITERATIONS = 200


def search(
    step: Callable[[Tensor], Tensor],
    jacobian: Callable[[Tensor], Tensor],
    s: Tensor,
    *,
    low: Tensor,
    high: Tensor,
    tolerance: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Follow every start to a minimum of q, or until |F(s) - s|_2 is within the tolerance and has
    lost half of its digits.

    Where an eigenvalue is 1, steps become slow, and a search that ended there would find two points
    beside one: it goes on to rounding.

    Args:
        step: F, (b, N) -> (b, N). jacobian: dF/ds, (b, N) -> (b, N, N). s: the starts (B, N),
            finite.
        low, high: (N,), corners of the box of the search.

    Returns:
        The states (B, N) at the ends, |F(s) - s|_2 there (B,), and whether the slope of q is zero
        (B,).
    """
    s, r = s.clone(), step(s) - s
    speed, damping = norm(r), s.new_full((len(s),), FIRST_DAMPING)
    half = (torch.finfo(s.dtype).eps ** 0.5 * speed).clamp(max=tolerance)
    enough = half.clone()
    flat = torch.zeros(len(s), dtype=torch.bool, device=s.device)
    identity = torch.eye(s.shape[1], dtype=s.dtype, device=s.device)
    for _ in range(ITERATIONS):
        rows = torch.nonzero((speed > enough) & ~flat & (damping < MOST_DAMPING)).squeeze(1)
        if len(rows) == 0:
            break
        J, residual = jacobian(s[rows]) - identity, r[rows]
        slope = (J.mT @ residual.unsqueeze(-1)).squeeze(-1)
        flat[rows] = norm(slope) <= FLAT * speed[rows]
        H = J.mT @ J
        H.diagonal(dim1=-2, dim2=-1).add_((damping[rows] * speed[rows]).unsqueeze(-1))
        d, failed = torch.linalg.solve_ex(H, -slope)
        trial = s[rows] + d
        after = step(trial) - trial
        inside = ((trial >= low) & (trial <= high)).all(-1)  # False for NaN
        better = (norm(after) < speed[rows]) & inside & (failed == 0)
        # only rounding is left
        flat[rows] |= (speed[rows] <= tolerance) & ~(better & (norm(after) < speed[rows] / 2))
        taken = rows[better]
        enough[taken] = torch.where(norm(after[better]) < SHARP * speed[taken], half[taken], 0.0)
        s[taken], r[taken], speed[taken] = trial[better], after[better], norm(after[better])
        damping[rows] *= torch.where(better, 1 / 8, 4.0)
    return s, speed, flat


def finished(step, jacobian, s: Tensor, near: Tensor) -> Tensor:
    """States (b, N) after Newton's steps, the first shorter than `near` and each shorter than the
    last, if the speed |F(s) - s| falls.

    Beside an eigenvalue 1 the search ends early: a step along a curve of slow states is accepted
    only if it raises no speed.
    """
    identity = torch.eye(s.shape[1], dtype=s.dtype, device=s.device)
    trial, length = s, near.expand(len(s))
    for _ in range(ITERATIONS):
        d, _ = torch.linalg.solve_ex(identity - jacobian(trial), step(trial) - trial)
        shorter = norm(d) < SHORTER * length
        if not shorter.any():
            break
        trial = torch.where(shorter[:, None], trial + d, trial)
        length = torch.where(shorter, norm(d), 0)
    return torch.where((norm(step(trial) - trial) < norm(step(s) - s))[:, None], trial, s)


def slower_beside(step, jacobian, s: Tensor, distance: Tensor) -> tuple[Tensor, Tensor]:
    """(True for those of the states (b, N) that are saddles of the speed, no minima (b,); slower
    states beside these).

    Beside means: at a distance along the direction in which F(s) - s changes least.
    """
    identity = torch.eye(s.shape[1], dtype=s.dtype, device=s.device)
    along = distance * torch.linalg.svd(jacobian(s) - identity).Vh[:, -1]
    sides = torch.stack((s + along, s - along))
    speeds, best = torch.stack([norm(step(each) - each) for each in sides]).min(0)
    saddles = speeds < norm(step(s) - s)
    return saddles, sides[best, range(len(s))][saddles]


def kinks_at(
    jacobian: Callable[[Tensor], Tensor], points: Tensor, at: Tensor, near: Tensor | float
) -> Tensor:
    """(P,) bool: whether the Jacobian jumps at a point; if it is smooth, a hundredth of a distance
    changes it less.
    """
    if not len(points):
        return torch.zeros(0, dtype=torch.bool)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(points.shape, generator=generator, dtype=torch.float64).to(points)

    def change(distance: Tensor | float) -> Tensor:
        both = [
            (jacobian(points + sign * distance * noise) - at).abs().amax((-2, -1))
            for sign in (1, -1)
        ]
        return torch.maximum(*both)

    jump = change(near)
    return (change(near / 100) > jump / 2) & (jump > JUMP * at.abs().amax((-2, -1)))


def norm(v: Tensor) -> Tensor:
    """|v|_2 of vectors, (...,)."""
    return torch.linalg.vector_norm(v, dim=-1)
