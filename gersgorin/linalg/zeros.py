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

A `ZeroSearch` begins at many starts at once, and joins searches that meet. `distinct` lists the
points at which the searches end.

Legend: B starts; N entries of a state; P points; r: a `Residual`, (b, N) -> (b, N), with
r.jacobian(s) (b, N, N).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

FIRST_DAMPING, MOST_DAMPING = 0.1, 1e12
SHARP = 0.1  # of the speed: what a step of Newton's leaves near a point of no eigenvalue 1
FLAT = 1e-7  # |J' r| / |r| at a minimum of the speed
SHORTER = 0.9  # of a step of Newton's, the next one at a point of any multiplicity up to 10
# of the size of states, a step beside a point; of the Jacobian there, a jump that is no rounding
NEAR = 1e-6
ROUNDINGS = 1000  # that a step beside a point, and a jump, exceed
ITERATIONS = 200
BLOCK = 1 << 19  # entries of Jacobians held at once: about what a core's cache holds

# Shares of the longest edge of the starts' box:
APART = 1e-4  # distance in an entry from which two points are two
MET = 1e-6  # the same for two searches that go on as one, and for an end at the edge of the box
NARROW = 1e-3  # least side of an entry that sets its unit
POLISHED = 0.01  # longest first step of Newton's at the end
STILL = 1e-7  # speed of a slow point that is no minimum, as none is on a line of slow points
SLOW = 0.01  # largest speed at a minimum that is a slow point, of the median at the starts

Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Residual:
    """r(s) = F(s) - s and its Jacobian, with the entries of F and s measured in some units."""

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
        return norm(self(s))


def blocks(rows: Tensor, N: int | None = None) -> tuple[Tensor, ...]:
    """Split states (B, N), or row numbers (B,) of states of N entries, into parts whose Jacobians
    fit into a block.
    """
    return rows.split(max(1, BLOCK // (N or rows.shape[-1]) ** 2)) if len(rows) else ()


def search(
    r: Residual, s: Tensor, *, low: Tensor, high: Tensor, tolerance: float
) -> tuple[Tensor, Tensor]:
    """Follow every start to a minimum of q, or until |r(s)|_2 is within the tolerance and at most
    sqrt(eps) of its value at the start.

    Near a singular J the search is slow. If a search ended at the tolerance, two searches could end
    at two points near one zero. Every search therefore continues until rounding.

    Args:
        s: the starts (B, N), finite.
        low, high: corners of the box of the search, (N,).

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
    """Follow states (b, N) by Newton's steps. The first step is shorter than `near`, and each step
    is shorter than the one before. A state moves only if the speed |r(s)| is lower at the end.

    These steps are needed near an eigenvalue 1 of F. There, `search` ends early, because it accepts
    a step along a curve of slow states only if the step does not raise the speed.
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
    """Return two results: True for each of the states (b, N) that is a saddle of the speed and not
    a minimum, (b,); and slower states next to the saddles.

    The slower states lie at `distance` along the direction in which r changes least.
    """
    along = distance * torch.linalg.svd(r.jacobian(s)).Vh[:, -1]
    sides = torch.stack((s + along, s - along))
    speeds, best = torch.stack([r.speed(each) for each in sides]).min(0)
    saddles = speeds < r.speed(s)
    return saddles, sides[best, range(len(s))][saddles]


@dataclass(frozen=True, eq=False)
class Ends:
    """States (b, N) at which searches ended."""

    states: Tensor
    are_minima: Tensor
    """True for states at which the slope of the speed |r| is zero, (b,)."""

    def __getitem__(self, rows: Tensor) -> "Ends":
        return Ends(self.states[rows], self.are_minima[rows])

    def with_zeros(self, zeros: Tensor) -> "Ends":
        """Append zeros of r, (b, N), to these ends."""
        none = torch.zeros(len(zeros), dtype=torch.bool, device=zeros.device)
        return Ends(torch.cat((self.states, zeros)), torch.cat((self.are_minima, none)))

    def replaced(self, rows: Tensor, ends: "Ends") -> "Ends":
        """The same ends, with some rows replaced."""
        states = self.states.index_copy(0, rows, ends.states)
        return Ends(states, self.are_minima.index_copy(0, rows, ends.are_minima))


@dataclass(frozen=True, eq=False)
class ZeroSearch:
    """A search for zeros of r, and minima of the speed |r|, within a box; `around` creates it."""

    r: Residual
    starts: Tensor
    """The starts, (B, N)."""
    low: Tensor
    """One corner of the box, (N,); `high` is the opposite corner."""
    high: Tensor
    tolerance: float
    """Largest speed at a zero."""

    @classmethod
    def around(
        cls, F: Map, slopes: Map, starts: Tensor, more: Tensor, margin: float, tolerance: float
    ) -> "ZeroSearch":
        """A search for fixed points of F in a box around `starts` and `more` states.

        margin: distance between the box of the search and the bounding box of all these states, as
        a share of the longest edge of the box of the starts, or of 1 if this edge is shorter.
        """
        r, every = Residual(F, slopes, torch.ones_like(starts[0])), torch.cat((starts, more))
        wider = margin * (starts.amax(0) - starts.amin(0)).max().clamp(min=1)
        return cls(r, starts, every.amin(0) - wider, every.amax(0) + wider, tolerance)

    @cached_property
    def sides(self) -> Tensor:
        """Sides of the box of the starts, (N,)."""
        return self.starts.amax(0) - self.starts.amin(0)

    @cached_property
    def side(self) -> Tensor:
        """The longest edge of the box of the starts."""
        return self.sides.max()

    @cached_property
    def width(self) -> Tensor:
        """The longest edge of the box of the starts; 1 if all starts are the same."""
        return torch.where(self.side > 0, self.side, torch.ones_like(self.side))

    @property
    def unit(self) -> Tensor:
        """Unit of each entry of a state in `find`, (N,)."""
        if self.side > 0:
            return (self.sides / self.side).clamp(min=NARROW)
        return torch.ones_like(self.sides)

    def at_edge(self, s: Tensor) -> Tensor:
        """True for states (b, N) at the edge of the box, (b,)."""
        return (torch.minimum(s - self.low, self.high - s) <= MET * self.side).any(-1)

    def are_slow(self, ends: Ends, speeds: Tensor, typical: Tensor) -> Tensor:
        """Return True, (b,), for minima with a speed of at most `SLOW` times `typical`, and for
        other states with a speed of at most `STILL` times `side`. typical: the median speed at the
        starts.
        """
        return (ends.are_minima & (speeds <= SLOW * typical)) | (speeds <= STILL * self.side)

    def find(
        self, s: Tensor, unit: Tensor, progress: Callable[[int, int], object] = lambda *_: None
    ) -> Ends:
        """Search from states (b, N), and return the states at which the searches end. unit: the
        units of the entries of a state, (N,).

        progress: called with (searches done, searches in all).
        """
        r, parts = replace(self.r, unit=unit), list[tuple[Tensor, Tensor]]()
        box = {"low": self.low / unit, "high": self.high / unit}
        for part in blocks(s / unit):
            parts.append(search(r, part, **box, tolerance=self.tolerance))
            progress(sum(len(ends) for ends, _ in parts), len(s))
        ends, minima = (torch.cat(each) for each in zip(*parts, strict=True))
        return Ends(ends * unit, minima)

    def meeting(self, ends: Ends) -> tuple[Tensor, Tensor]:
        """Return (1) a label for each of b end points, (b,), equal for end points that coincide;
        (2) for each label the row of its slowest end point.
        """
        numbers = meeting(ends.states, MET * self.side)
        return numbers, least_of_each(numbers, self.r.speed(ends.states))

    def polish(self, ends: Ends) -> Ends:
        """Follow ends to minima of the speed with all units 1, and to zeros with full precision."""
        if not len(ends.states):
            return ends
        ends = self._to_minima(ends)
        return Ends(self.to_zeros(ends.states), ends.are_minima)

    def to_zeros(self, s: Tensor) -> Tensor:
        """Among the states (b, N), follow those with a speed of at most `STILL` times `side` to
        zeros with full precision.
        """
        if not len(s):
            return s
        still, near = (self.r.speed(s) <= STILL * self.side).nonzero()[:, 0], POLISHED * self.side
        parts = [finished(self.r, part, near) for part in blocks(s[still])]
        return s.index_copy(0, still, torch.cat(parts)) if parts else s

    def _to_minima(self, ends: Ends) -> Ends:
        """Follow ends to minima of the speed; at a saddle of the speed, continue next to it."""
        rows = (ends.are_minima & (self.r.speed(ends.states) > self.tolerance)).nonzero()[:, 0]
        if not len(rows):
            return ends
        ends = ends.replaced(rows, self.find(ends.states[rows], self.r.unit))
        saddles, beside = slower_beside(self.r, ends.states[rows], APART * self.side)
        if not len(beside):
            return ends
        return ends.replaced(rows[saddles], self.find(beside, self.r.unit))


def meeting(s: Tensor, near: Tensor | float) -> Tensor:
    """Return a number for each of the states (B, N), counted from 0. Two states have the same
    number if a chain of states connects them, each within `near` of the next in every entry.

    Each state is compared only with the next one along a random direction, so states that have met
    may get different numbers.

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
    """Return for each label, counted from 0, the row that has the smallest key among the rows with
    this label; the first of them if several have this key.

    >>> least_of_each(torch.tensor([1, 0, 1, 0]), torch.tensor([5.0, 2.0, 3.0, 4.0])).tolist()
    [1, 2]
    """
    order = key.argsort(stable=True)
    order, sizes = order[numbers[order].argsort(stable=True)], numbers.bincount()
    return order[sizes.cumsum(0) - sizes]


def distinct(
    s: Tensor, speeds: Tensor, group: Tensor, apart: Tensor, starts: int
) -> tuple[Tensor, Tensor]:
    """Find the distinct states among those states (B, N) for which `group` (B,) is True. Returns
    their rows (P,), and for each of them how many of the first `starts` states lie there, (P,). The
    states with the largest counts come first.

    States are visited from the slowest on. A state is new if it differs from each earlier one, in
    some entry, by more than `apart` and by more than sqrt(eps) times the largest entry.

    >>> s, speeds = torch.tensor([[1.0], [0.0], [1.1], [9.0]]), torch.zeros(4)
    >>> distinct(s, speeds, s[:, 0] < 9, torch.tensor(0.2), 4)
    (tensor([0, 1]), tensor([2, 1]))
    """
    left = group.nonzero()[:, 0]
    left, found = left[speeds[left].argsort(stable=True)], []
    while len(left):
        distance = (s[left] - s[left[0]]).abs().amax(-1)
        rounding = torch.finfo(s.dtype).eps ** 0.5 * s[left[0]].abs().max()
        near = distance <= torch.maximum(apart, rounding)
        found.append((-int((left[near] < starts).sum()), int(left[near].min()), int(left[0])))
        left = left[~near]
    table = torch.tensor(sorted(found), dtype=torch.int64, device=s.device).reshape(-1, 3)
    counts, _, rows = table.T
    return rows, -counts


def jacobians_at(slopes: Map, s: Tensor) -> Tensor:
    """dF/ds, (P, N, N), at states (P, N), computed a block at a time."""
    parts = [slopes(part) for part in blocks(s)]
    return torch.cat(parts) if parts else s.new_zeros(0, s.shape[1], s.shape[1])


def kinks_at(slopes: Map, points: Tensor, at: Tensor, size: Tensor) -> Tensor:
    """True for points (P, N) at which the Jacobian jumps, (P,). A smooth Jacobian changes less over
    a hundredth of a distance than over the whole.

    slopes: the Jacobians at points, or their products with a few vectors, (P, N, k). at: those at
    the given points. size: size of the states, 0-dim or (P, 1).

    >>> points, one = torch.tensor([[0.0], [1.0]]), torch.ones(())
    >>> kinks_at(slopes := lambda s: (s > 0).float()[..., None], points, slopes(points), one)
    tensor([ True, False])
    """
    if not len(points):
        return torch.zeros(0, dtype=torch.bool)
    generator = torch.Generator("cpu").manual_seed(0)
    noise = torch.randn(points.shape, generator=generator, dtype=torch.float64, device="cpu")
    rounding = ROUNDINGS * torch.finfo(points.dtype).eps
    least = max(NEAR, rounding)

    def change(distance: Tensor) -> Tensor:
        both = [
            (slopes(points + sign * distance * noise.to(points)) - at).abs().amax((-2, -1))
            for sign in (1, -1)
        ]
        return torch.maximum(*both)

    jump = change(least * size)
    clear = jump > least * at.abs().amax((-2, -1)) + rounding
    return clear & (change(least * size / 100) > jump / 2)


def jumps_at(F: Map, points: Tensor, size: Tensor) -> Tensor:
    """True for points (P, N) at which the map F itself jumps, (P,), see `kinks_at`."""
    if not len(points):
        return torch.zeros(0, dtype=torch.bool)
    return kinks_at(lambda s: F(s)[..., None], points, F(points)[..., None], size)


def norm(v: Tensor) -> Tensor:
    """|v|_2 of vectors, (...,)."""
    return torch.linalg.vector_norm(v, dim=-1)
