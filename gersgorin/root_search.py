"""Zeros of r(s) = F(s) - s for a smooth map F, from many starts at once.

The zeros are found by Levenberg-Marquardt steps on q = |r|^2 / 2; |r| is called the speed. D.
Sussillo and O. Barak (Neural Computation 25, 2013) minimise q by its gradient. Here the Jacobian J
= dr/ds is known, and each start takes the step d that solves

    (J' J + l |r| 1) d = -J' r

Far from a zero, d is a short step down the slope of q. Near a zero, d is Newton's step, which about
doubles the number of correct digits. A step that does not lower the speed is rejected, and l grows
fourfold; an accepted step divides l by eight. The same steps find minima of q above zero, at which
J' r = 0 with r != 0. Starts are independent of each other; searches that have ended leave the
batch.

Legend: B starts; N entries of a state; P points; r: a `Residual`, (b, N) -> (b, N), with
r.jacobian(s) (b, N, N).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Self

import torch
from torch import Tensor

from gersgorin.points import least_of_each, meeting
from rhn.utils.progress import Advance

FIRST_DAMPING, MOST_DAMPING = 0.1, 1e12
SHARP = 0.1  # of the speed: what a step of Newton's leaves near a point of no eigenvalue 1
FLAT = 1e-7  # |J' r| / |r| at a minimum of the speed
EXACT = 4  # in eps |s|, a speed |F(s) - s| that is rounding of F(s)
SHORTER = 0.9  # of a step of Newton's, the next one at a point of any multiplicity up to 10
ITERATIONS = 200
FAR = 10  # longest edge of the starts that sets the scale, in edges of the settled states, or in 1
BLOCK = 1 << 19  # entries of Jacobians held at once: about what a core's cache holds

# Shares of the scale of a search:
APART = 1e-4  # distance in an entry from which two points are two
MET = 1e-6  # the same for two searches that go on as one, and for an end at the edge of the box
NARROW = 1e-3  # least side of an entry that sets its unit
POLISHED = 0.01  # longest first step of Newton's at the end
STILL = 1e-7  # speed from which Newton's steps follow an end

Map = Callable[[Tensor], Tensor]
Ends = tuple[Tensor, Tensor]
"""States (b, N), and True for those at which the slope of the speed is zero, (b,)."""


@dataclass(frozen=True, eq=False)
class Residual:
    """r(s) = F(s) - s and its Jacobian, with the entries of F and s measured in some units.

    >>> r = Residual(lambda s: s / 2, lambda s: torch.full((len(s), 1, 1), 0.5), torch.ones(1))
    >>> r(torch.ones(1, 1)).item(), r.jacobian(torch.ones(1, 1)).item()
    (-0.5, -0.5)
    """

    step: Map
    """F, (b, N) -> (b, N), for states in units of 1."""
    slopes: Map
    """dF/ds, (b, N) -> (b, N, N)."""
    unit: Tensor
    """Unit of each entry of a state, (N,), above 0."""

    def __call__(self, s: Tensor) -> Tensor:
        return self.step(s * self.unit) / self.unit - s

    def jacobian(self, s: Tensor) -> Tensor:
        """dr/ds, (b, N, N)."""
        identity = torch.eye(s.shape[1], dtype=s.dtype, device=s.device)
        return torch.addcmul(-identity, self.slopes(s * self.unit), self.unit / self.unit[:, None])

    def speed(self, s: Tensor) -> Tensor:
        """The speed |r|_2, (b,)."""
        return self(s).norm(dim=-1)


@dataclass(frozen=True, eq=False)
class ZeroSearch:
    """A search for zeros of r, and minima of the speed |r|, within a box.

    >>> F, slopes = lambda s: s / 2, lambda s: torch.full((len(s), 1, 1), 0.5).double()
    >>> starts = torch.tensor([[1.0], [2.0]]).double()
    >>> ZeroSearch.around(F, slopes, starts, starts, 5, 1e-10).find(starts)[0].tolist()
    [[0.0], [0.0]]
    """

    F: Map
    slopes: Map
    low: Tensor
    """One corner of the box, (N,); `high` is the opposite corner."""
    high: Tensor
    unit: Tensor
    """Unit of each entry of a state at the start of a search, (N,)."""
    scale: Tensor
    """The longest edge of the box of the starts; at most ten times that of the settled states."""
    tolerance: float
    """Largest speed at a zero of a state up to 1, and its largest share of a larger state."""

    @classmethod
    def around(
        cls, F: Map, slopes: Map, starts: Tensor, settled: Tensor, margin: float, tolerance: float
    ) -> Self:
        """A search in a box around starts (B, N) and the states (b, N) in which they settle.

        margin: distance between the box and all these states, as a share of the longest edge of the
        box of the starts, or of 1 if this edge is shorter.
        """
        every, sides = torch.cat((starts, settled)), starts.amax(0) - starts.amin(0)
        longest, ends = sides.max(), settled if len(settled) else starts
        width = torch.where(longest > 0, longest, 1)
        return cls(
            F=F,
            slopes=slopes,
            low=every.amin(0) - margin * longest.clamp(min=1),
            high=every.amax(0) + margin * longest.clamp(min=1),
            unit=(sides / width).clamp(min=NARROW) if longest > 0 else torch.ones_like(sides),
            scale=width.minimum(FAR * (ends.amax(0) - ends.amin(0)).max().clamp(min=1)),
            tolerance=tolerance,
        )

    @property
    def r(self) -> Residual:
        """The residual in units of 1."""
        return Residual(self.F, self.slopes, torch.ones_like(self.unit))

    @property
    def apart(self) -> Tensor:
        """Distance in an entry from which two points are two."""
        return APART * self.scale

    def are_zeros(self, s: Tensor) -> Tensor:
        """True for states (b, N) with a speed within the tolerance, and a step of Newton's that is
        shorter than the distance of two points unless the speed is rounding, (b,).

        Far out, where gates saturate, F(s) - s and its slopes are tiny alike: the speed is within
        every tolerance, but Newton's step leads elsewhere.
        """
        size, speed = s.norm(dim=1), self.r.speed(s)
        zero = speed <= self.tolerance * size.clamp(min=1)
        rows = (zero & (speed > EXACT * torch.finfo(s.dtype).eps * size)).nonzero()[:, 0]
        parts = [newton_steps_are_short(self.r, part, self.apart) for part in blocks(s[rows])]
        return zero.index_copy(0, rows, torch.cat(parts))

    def at_edge(self, s: Tensor) -> Tensor:
        """True for states (b, N) at the edge of the box, (b,)."""
        return (torch.minimum(s - self.low, self.high - s) <= MET * self.scale).any(-1)

    def find(self, s: Tensor, advance: Advance = lambda done, total: None) -> Ends:
        """Search from states (b, N). Searches that meet go on as one, from the slowest of their
        ends, to minima of the speed with all units 1, and to zeros with full precision. advance:
        called with the number of searches that have ended, and of all.
        """
        s, minima = self._follow(s, self.unit, advance)
        numbers = meeting(s, MET * self.scale)
        first = least_of_each(numbers, self.r.speed(s))
        s, minima = s[first], minima[first]
        rows = (minima & (self.r.speed(s) > self.tolerance)).nonzero()[:, 0]
        if len(rows):
            s[rows], minima[rows] = self._follow(s[rows], self.r.unit)
            saddles, beside = slower_beside(self.r, s[rows], self.apart)
            rows = rows[saddles]
        if len(rows):
            s[rows], minima[rows] = self._follow(beside, self.r.unit)
        return self.to_zeros(s)[numbers], minima[numbers]

    def to_zeros(self, s: Tensor) -> Tensor:
        """Follow those of the states (b, N) that nearly stand still to zeros, by Newton's steps."""
        still = (self.r.speed(s) <= STILL * self.scale).nonzero()[:, 0]
        parts = [finished(self.r, part, POLISHED * self.scale) for part in blocks(s[still])]
        return s.index_copy(0, still, torch.cat(parts))

    def _follow(self, s: Tensor, unit: Tensor, advance: Advance = lambda done, total: None) -> Ends:
        """The ends of the searches from states (b, N), block by block, in these units."""
        r, low, high = Residual(self.F, self.slopes, unit), self.low / unit, self.high / unit
        parts, before = list[Ends](), 0
        for part in blocks(s / unit):
            ended = partial(_ended, advance, before, len(s))
            parts.append(search(r, part, low, high, self.tolerance, ended))
            before += len(part)
        ends, minima = (torch.cat(each) for each in zip(*parts, strict=True))
        return ends * unit, minima


def blocks(s: Tensor) -> tuple[Tensor, ...]:
    """Split states (B, N) into parts whose Jacobians fit into a block; one part if B is 0."""
    return s.split(max(1, BLOCK // s.shape[-1] ** 2))


def _ended(advance: Advance, before: int, total: int, ended: int) -> None:
    advance(before + ended, total)


def search(
    r: Residual,
    s: Tensor,
    low: Tensor,
    high: Tensor,
    tolerance: float,
    ended: Callable[[int], None] = lambda count: None,
) -> Ends:
    """Follow finite states (b, N) to minima of q, or until |r(s)|_2 is within the tolerance and at
    most sqrt(eps) of its value at the start. low, high: corners of the box of the search. ended:
    called with the number of states that have ended.

    Near a singular J the search is slow. If a search ended at the tolerance, two searches could end
    at two points near one zero. Every search therefore continues until rounding.
    """
    s, at = s.clone(), r(s)
    speed = at.norm(dim=-1)
    damping = torch.full_like(speed, FIRST_DAMPING)
    half = (torch.finfo(s.dtype).eps ** 0.5 * speed).clamp(max=tolerance)
    enough = half.clone()
    flat = torch.zeros_like(speed, dtype=torch.bool)
    for _ in range(ITERATIONS):
        rows = torch.nonzero((speed > enough) & ~flat & (damping < MOST_DAMPING)).squeeze(1)
        ended(len(s) - len(rows))
        if len(rows) == 0:
            break
        J, before = r.jacobian(s[rows]), speed[rows]
        slope = J.mT @ at[rows].unsqueeze(-1)
        flat[rows] = slope.squeeze(-1).norm(dim=-1) <= FLAT * before
        H = J.mT @ J
        H.diagonal(dim1=-2, dim2=-1).add_((damping[rows] * before).unsqueeze(-1))
        L, failed = torch.linalg.cholesky_ex(H)
        trial = s[rows] - torch.cholesky_solve(slope, L).squeeze(-1)
        there = r(trial)
        after = there.norm(dim=-1)
        inside = ((trial >= low) & (trial <= high)).all(-1)  # False for NaN
        better = (after < before) & inside & (failed == 0)
        halves = better & (after < before / 2)
        flat[rows] |= (before <= tolerance) & ~halves  # only rounding is left
        taken = rows[better]
        enough[taken] = torch.where(after < SHARP * before, half[rows], 0.0)[better]
        s[taken], at[taken], speed[taken] = trial[better], there[better], after[better]
        damping[rows] *= torch.where(better, 1 / 8, 4.0)
    return s, flat


def finished(r: Residual, s: Tensor, near: Tensor) -> Tensor:
    """Follow states (b, N) by Newton's steps. The first step is shorter than `near`, and each step
    is shorter than the one before. A state moves only if the speed |r(s)| is lower at the end.

    These steps are needed near an eigenvalue 1 of F. There, `search` ends early, because it accepts
    a step along a curve of slow states only if the step does not raise the speed.
    """
    trial, length = s.clone(), near.expand(len(s))
    rows = torch.arange(len(s), device=s.device)
    for _ in range(ITERATIONS):
        d, _ = torch.linalg.solve_ex(r.jacobian(trial[rows]), r(trial[rows]))
        shorter = d.norm(dim=-1) < SHORTER * length
        rows, d = rows[shorter], d[shorter]
        if len(rows) == 0:
            break
        trial[rows] -= d
        length = d.norm(dim=-1)
    return torch.where((r.speed(trial) < r.speed(s))[:, None], trial, s)


def newton_steps_are_short(r: Residual, s: Tensor, near: Tensor) -> Tensor:
    """True for states (b, N) from which Newton's step is at most `near` long, (b,), and for those
    without a finite J. If J is singular, the step is the least-squares one.
    """
    J, at = r.jacobian(s), r(s)
    short = torch.linalg.solve_ex(J, at)[0].norm(dim=1) <= near
    short |= ~J.isfinite().flatten(1).all(1)
    rows = (~short).nonzero()[:, 0]
    short[rows] = least_squares_lengths(J[rows], at[rows]) <= near
    return short


def least_squares_lengths(J: Tensor, r: Tensor) -> Tensor:
    """|d| of the shortest d that minimises |J d - r|, (b,), for J (b, N, N) and r (b, N), without
    the directions in which J is 0 up to rounding: J is a difference from the identity.
    """
    left, sizes, _ = torch.linalg.svd(J)
    rounding = J.shape[-1] * torch.finfo(J.dtype).eps * sizes[:, :1].clamp(min=1)
    steps = (left.mT @ r[:, :, None])[..., 0] / sizes
    return torch.where(sizes > rounding, steps, 0).norm(dim=1)


def slower_beside(r: Residual, s: Tensor, distance: Tensor) -> tuple[Tensor, Tensor]:
    """Return (1) True for each of the states (b, N) that is a saddle of the speed and not a
    minimum, (b,); (2) slower states at `distance` from the saddles, along the direction in which r
    changes least.
    """
    along = distance * torch.linalg.svd(r.jacobian(s)).Vh[:, -1]
    sides = torch.stack((s + along, s - along))
    speeds, best = torch.stack([r.speed(each) for each in sides]).min(0)
    saddles = speeds < r.speed(s)
    return saddles, sides[best, range(len(s))][saddles]
