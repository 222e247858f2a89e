"""Zeros of r(s) = F(s) - s for a smooth map F, from many starts at once.

By Levenberg-Marquardt steps on the speed q = |r|^2 / 2. D. Sussillo and O. Barak (Neural
Computation 25, 2013) minimise q by its gradient. Here the Jacobian J = dr/ds is known, and each
start takes the step d of

    (J' J + l |r| 1) d = -J' r

which far from a zero is a short step down the slope of q, and near one is Newton's: the number of
correct digits about doubles. A step that does not lower the speed is rejected, and l grows
fourfold; an accepted step divides it by eight. The same steps find minima of q above zero, where J'
r = 0 with r != 0. Starts are independent of each other; those that have ended leave the batch.

Legend: B starts; N entries of a state; r: a `Residual`, (b, N) -> (b, N), with r.jacobian(s) (b, N,
N).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

FIRST_DAMPING, MOST_DAMPING = 0.1, 1e12
SHARP = 0.1  # of the speed: what a step of Newton's leaves near a point of no eigenvalue 1
FLAT = 1e-7  # |J' r| / |r| at a minimum of the speed
SHORTER = 0.9  # of a step of Newton's, the next one at a point of any multiplicity up to 10
# of the box, a step beside a point; of the Jacobian there, a jump that is no rounding
NEAR, JUMP = 1e-6, 1e-6
ITERATIONS = 200
BLOCK = 1 << 19  # entries of Jacobians held at once: about what a core's cache holds

Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Residual:
    """r(s) = F(s) - s with F and s in some units of their entries, and its Jacobian."""

    step: Map
    """F, (b, N) -> (b, N), of states in units of 1."""
    slopes: Map
    """dF/ds, (b, N) -> (b, N, N)."""
    unit: Tensor
    """(N,), above 0."""

    def __call__(self, s: Tensor) -> Tensor:
        return self.step(s * self.unit) / self.unit - s

    def jacobian(self, s: Tensor) -> Tensor:
        """dr/ds, (b, N, N)."""
        identity = torch.eye(s.shape[1], dtype=s.dtype, device=s.device)
        return torch.addcmul(-identity, self.slopes(s * self.unit), self.unit / self.unit[:, None])

    def speed(self, s: Tensor) -> Tensor:
        """|r|_2, (b,)."""
        return norm(self(s))


def blocks(rows: Tensor, N: int | None = None) -> tuple[Tensor, ...]:
    """States (B, N), or rows (B,) of states of N entries, in parts whose Jacobians fit into a
    block.
    """
    return rows.split(max(1, BLOCK // (N or rows.shape[-1]) ** 2)) if len(rows) else ()


def search(
    r: Residual, s: Tensor, *, low: Tensor, high: Tensor, tolerance: float
) -> tuple[Tensor, Tensor]:
    """Follow every start to a minimum of q, or until |r(s)|_2 is within the tolerance and has lost
    half of its digits.

    Where J is singular, steps become slow, and a search that ended there would find two points
    beside one: it goes on to rounding.

    Args:
        s: the starts (B, N), finite.
        low, high: (N,), corners of the box of the search.

    Returns:
        The states (B, N) at the ends, and whether the slope of q is zero there (B,).
    """
    s, at = s.clone(), r(s)
    speed, damping = norm(at), s.new_full((len(s),), FIRST_DAMPING)
    half = (torch.finfo(s.dtype).eps ** 0.5 * speed).clamp(max=tolerance)
    enough = half.clone()
    flat = torch.zeros(len(s), dtype=torch.bool, device=s.device)
    for _ in range(ITERATIONS):
        rows = torch.nonzero((speed > enough) & ~flat & (damping < MOST_DAMPING)).squeeze(1)
        if len(rows) == 0:
            break
        J, before = r.jacobian(s[rows]), speed[rows]
        slope = J.mT @ at[rows].unsqueeze(-1)
        flat[rows] = norm(slope.squeeze(-1)) <= FLAT * before
        H = J.mT @ J
        H.diagonal(dim1=-2, dim2=-1).add_((damping[rows] * before).unsqueeze(-1))
        L, failed = torch.linalg.cholesky_ex(H)
        trial = s[rows] - torch.cholesky_solve(slope, L).squeeze(-1)
        there = r(trial)
        after = norm(there)
        inside = ((trial >= low) & (trial <= high)).all(-1)  # False for NaN
        better = (after < before) & inside & (failed == 0)
        # only rounding is left
        flat[rows] |= (before <= tolerance) & ~(better & (after < before / 2))
        taken = rows[better]
        enough[taken] = torch.where(after < SHARP * before, half[rows], 0.0)[better]
        s[taken], at[taken], speed[taken] = trial[better], there[better], after[better]
        damping[rows] *= torch.where(better, 1 / 8, 4.0)
    return s, flat


def finished(r: Residual, s: Tensor, near: Tensor) -> Tensor:
    """States (b, N) after Newton's steps, the first shorter than `near` and each shorter than the
    last, if the speed |r(s)| falls.

    Beside an eigenvalue 1 of F the search ends early: a step along a curve of slow states is
    accepted only if it raises no speed.
    """
    trial, length = s.clone(), near.expand(len(s))
    rows = torch.arange(len(s), device=s.device)
    for _ in range(ITERATIONS):
        d, _ = torch.linalg.solve_ex(r.jacobian(trial[rows]), r(trial[rows]))
        shorter = norm(d) < SHORTER * length
        rows, d = rows[shorter], d[shorter]
        if len(rows) == 0:
            break
        trial[rows] -= d
        length = norm(d)
    return torch.where((r.speed(trial) < r.speed(s))[:, None], trial, s)


def slower_beside(r: Residual, s: Tensor, distance: Tensor) -> tuple[Tensor, Tensor]:
    """(True for those of the states (b, N) that are saddles of the speed, no minima (b,); slower
    states beside these).

    Beside means: at a distance along the direction in which r changes least.
    """
    along = distance * torch.linalg.svd(r.jacobian(s)).Vh[:, -1]
    sides = torch.stack((s + along, s - along))
    speeds, best = torch.stack([r.speed(each) for each in sides]).min(0)
    saddles = speeds < r.speed(s)
    return saddles, sides[best, range(len(s))][saddles]


def meeting(s: Tensor, near: Tensor | float) -> Tensor:
    """A number for each of the states (B, N), from 0 on: the same for states that lie within `near`
    of each other in every entry, one by one along a line.

    States are compared with the next one along a random direction only, so that some that have met
    may have two numbers.

    >>> meeting(torch.tensor([[0.0], [3.0], [0.1], [0.2]]), 0.15).tolist()
    [0, 1, 0, 0]
    """
    generator = torch.Generator("cpu").manual_seed(0)
    direction = torch.randn(s.shape[1], generator=generator, dtype=torch.float64, device="cpu")
    order = (s @ direction.to(s)).argsort()
    apart = ~((s[order[1:]] - s[order[:-1]]).abs().amax(-1) <= near)  # True for NaN
    numbers = torch.zeros_like(order)
    numbers[order[1:]] = apart.cumsum(0)
    return numbers


def least_of_each(numbers: Tensor, key: Tensor) -> Tensor:
    """The row of each number, from 0 on, with the least key; the first of equal ones.

    >>> least_of_each(torch.tensor([1, 0, 1, 0]), torch.tensor([5.0, 2.0, 3.0, 4.0])).tolist()
    [1, 2]
    """
    order = key.argsort(stable=True)
    order, sizes = order[numbers[order].argsort(stable=True)], numbers.bincount()
    return order[sizes.cumsum(0) - sizes]


def kinks_at(
    jacobian: Callable[[Tensor], Tensor], points: Tensor, at: Tensor, near: Tensor | float
) -> Tensor:
    """(P,) bool: whether the Jacobian jumps at a point; if it is smooth, a hundredth of a distance
    changes it less.
    """
    if not len(points):
        return torch.zeros(0, dtype=torch.bool)
    generator = torch.Generator("cpu").manual_seed(0)
    noise = torch.randn(points.shape, generator=generator, dtype=torch.float64, device="cpu")

    def change(distance: Tensor | float) -> Tensor:
        both = [
            (jacobian(points + sign * distance * noise.to(points)) - at).abs().amax((-2, -1))
            for sign in (1, -1)
        ]
        return torch.maximum(*both)

    jump = change(near)
    return (change(near / 100) > jump / 2) & (jump > JUMP * at.abs().amax((-2, -1)))


def norm(v: Tensor) -> Tensor:
    """|v|_2 of vectors, (...,)."""
    return torch.linalg.vector_norm(v, dim=-1)
