"""Newton's method for all states of a recurrence at once, by scans of log T levels instead of a loop over T steps.

The states are the root of r[t] = f(x[t], s[t-1]) - s[t]. One iteration solves the linear recurrence

    d[t] = J[t] d[t-1] + r[t],  J[t] = df/ds at s[t-1]        s[t] <- s[t] + d[t]

"full" has the whole J (Lim et al., arXiv 2309.12252: DEER), "diagonal" its diagonal only: cheaper iterations, more of them, which
may not converge before step t is exact after t iterations. "trust" damps the full step as Levenberg and Marquardt do: it minimises
|L d - r|^2 + damping |d|^2 with (L d)[t] = d[t] - J[t] d[t-1], which is a Kalman smoother (Gonzalez et al., arXiv 2407.19115: ELK),
solved here in its information form by cyclic reduction; the damping shrinks whenever |r| falls.

A step has converged if its residual, the correction that Newton's method would still make, and the estimated effect of all rounding
up to it are within the tolerance, relative to max(1, |s|). A small residual alone is not enough: along a chaotic run a wrong orbit
has one, too. The guard computes the steps from the first one that has not converged in a loop. If the run amplifies rounding beyond
the tolerance, the whole run is the loop's, because all later steps depend on the last digits of the earlier ones.

Shapes: x (T, ..., m), s0 (..., N), states (T, ..., N), J (T, ..., N, N) or its diagonal (T, ..., N).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

METHODS = ("full", "diagonal", "trust")
TOLERANCES = {torch.float32: 1e-4, torch.float64: 1e-10}
MAX_ITERATIONS = 100
BLOCKS = {"cpu": 1 << 18, "cuda": 1 << 24}  # numbers of Jacobians computed at once; those of a CPU stay in its cache
ROUNDING = 4  # units in the last place that one step may lose
DAMPINGS = 1e-8, 1e8  # of "trust", least and largest

StepFunction = Callable[[Tensor, Tensor], Tensor]
"""f(x (..., m), s (..., N)) -> (..., N), or its Jacobian (..., N, N)."""
Watch = Callable[[Tensor, Tensor], None]
"""Called at each iterate with its states (T, ..., N) and relative residuals (T, ...)."""


@dataclass(frozen=True)
class Solution:
    """The result of `solve`."""

    states: Tensor
    """(T, ..., N)."""
    iterations: int
    """Corrections made."""
    converged: Tensor
    """(T, ...) bool."""
    fallback_from: int | None = None
    """The first step that a loop computed, or None."""


def linear_scan(J: Tensor, b: Tensor) -> Tensor:
    """All d[t] = J[t] d[t-1] + b[t] (T, ..., N) from d[-1] = 0, by an associative scan of log T levels.

    >>> linear_scan(torch.full((3, 1), 2.0), torch.ones(3, 1)).tolist()
    [[1.0], [3.0], [7.0]]
    """
    T = len(b)
    if T == 1:
        return b
    first, second = slice(0, T - T % 2, 2), slice(1, None, 2)
    compose = torch.mul if J.dim() == b.dim() else torch.matmul
    d = torch.empty_like(b)
    d[0] = b[0]
    d[1::2] = linear_scan(compose(J[second], J[first]), _times(J[second], b[first]) + b[second])
    d[2::2] = _times(J[2::2], d[1 : T - 1 : 2]) + b[2::2]
    return d


def damped_correction(J: Tensor, r: Tensor, damping: Tensor) -> Tensor:
    """The d (T, ..., N) that minimises |L d - r|^2 + damping |d|^2, (L d)[t] = d[t] - J[t] d[t-1]; damping (...)."""
    T, N = len(r), r.shape[-1]
    after = torch.cat((J[1:], torch.zeros_like(J[:1])))
    diagonal = after.mT @ after + (1 + damping[..., None, None]) * torch.eye(N, dtype=r.dtype, device=r.device)
    right = r - torch.cat((_times(J[1:].mT, r[1:]), torch.zeros_like(r[:1])))
    return _cyclic_reduction(diagonal, -J, right.unsqueeze(-1))[:T].squeeze(-1)


def _cyclic_reduction(D: Tensor, E: Tensor, g: Tensor) -> Tensor:
    """The d of E[t] d[t-1] + D[t] d[t] + E[t+1]' d[t+1] = g[t], positive definite: eliminate every second unknown, recursively."""
    if len(D) == 1:
        return torch.cholesky_solve(g, torch.linalg.cholesky_ex(D)[0])
    if len(D) % 2 == 0:  # add an unknown that is 0: then every odd one has two neighbours
        one = torch.eye(D.shape[-1], dtype=D.dtype, device=D.device).expand_as(D[:1])
        return _cyclic_reduction(torch.cat((D, one)), *(torch.cat((m, torch.zeros_like(m[:1]))) for m in (E, g)))[:-1]
    none, n = torch.zeros_like(E[:1]), D.shape[-1]
    before, odd, after = torch.cat((none, E[2::2])), E[1::2], torch.cat((E[1::2], none)).mT
    solved = torch.cholesky_solve(torch.cat((before, after, g[::2]), -1), torch.linalg.cholesky_ex(D[::2])[0])
    P, Q, h = solved[..., :n], solved[..., n : 2 * n], solved[..., 2 * n :]
    back = E[2::2].mT
    inner = _cyclic_reduction(
        D[1::2] - odd @ Q[:-1] - back @ P[1:], -odd @ P[:-1], g[1::2] - odd @ h[:-1] - back @ h[1:]
    )
    d = torch.empty_like(g)
    d[1::2] = inner
    nothing = torch.zeros_like(inner[:1])
    d[::2] = h - P @ torch.cat((nothing, inner)) - Q @ torch.cat((inner, nothing))
    return d


@dataclass(frozen=True)
class Recurrence:
    """A recurrence s[t] = f(x[t], s[t-1]) along one input, with its Jacobian."""

    step: StepFunction
    jacobian: StepFunction
    x: Tensor
    s0: Tensor
    run: StepFunction
    """The loop: states (T, ..., N) from x and s0."""

    def __len__(self) -> int:
        return len(self.x)

    def before(self, states: Tensor) -> Tensor:
        """The state before each step, (T, ..., N)."""
        return torch.cat((self.s0.unsqueeze(0), states[:-1]))

    def next(self, states: Tensor) -> Tensor:
        """f(x[t], s[t-1]) for all steps."""
        return self.step(self.x, self.before(states))

    def guess(self) -> Tensor:
        """One step from s0 with each input."""
        return self.step(self.x, self.s0.expand(len(self), *self.s0.shape))

    def blocks(self) -> Iterator[slice]:
        """Consecutive steps, as many as Jacobians fit into memory."""
        size = max(1, BLOCKS.get(self.x.device.type, BLOCKS["cuda"]) // (self.s0.numel() * self.s0.shape[-1]))
        for start in range(0, len(self), size):
            yield slice(start, start + size)

    def jacobians(self, states: Tensor, now: slice = slice(None), *, diagonal: bool = False) -> Tensor:
        """J of some steps, or its diagonal."""
        J = self.jacobian(self.x[now], self.before(states)[now])
        return J.diagonal(dim1=-2, dim2=-1) if diagonal else J

    def correction(self, states: Tensor, b: Tensor, *, diagonal: bool = False) -> Tensor:
        """The solution d of d[t] = J[t] d[t-1] + b[t], block after block of steps."""
        parts, last = [], torch.zeros_like(self.s0)
        for now in self.blocks():
            J, given = self.jacobians(states, now, diagonal=diagonal), b[now]
            given = torch.cat((given[:1] + _times(J[0], last), given[1:]))
            parts.append(linear_scan(J, given))
            last = parts[-1][-1]
        return torch.cat(parts)

    def continued(self, states: Tensor, start: int) -> Tensor:
        """The states with those from `start` on computed by the loop."""
        return torch.cat((states[:start], self.run(self.x[start:], self.before(states)[start])))

    def rounding(self, states: Tensor) -> Tensor:
        """Estimated effect (T, ...) of rounding at all steps up to each, relative."""
        errors = _signs(states) * ROUNDING * torch.finfo(states.dtype).eps * states.abs().clamp(min=1)
        return _relative(self.correction(states, errors), states)


def solve(
    recurrence: Recurrence,
    *,
    tolerance: float,
    method: str = "full",
    guess: Tensor | None = None,
    max_iterations: int = MAX_ITERATIONS,
    guard: bool = True,
    watch: Watch | None = None,
) -> Solution:
    """All states of a recurrence by Newton's method.

    Args:
        tolerance: of each step, relative to max(1, |s|).
        method: "full", "diagonal" or "trust".
        guess: the first iterate (T, ..., N); None: one step from s0 with each input.
        max_iterations: corrections at most.
        guard: compute steps that have not converged in a loop.
    """
    states = recurrence.guess() if guess is None else guess
    diagonal, damping = method == "diagonal", torch.ones_like(states[0, ..., 0]) if method == "trust" else None
    r = recurrence.next(states) - states
    for iteration in range(max_iterations + 1):
        residual = _relative(r, states)
        if watch is not None:
            watch(states, residual)
        small, last = bool((residual <= tolerance).all()), iteration == max_iterations
        if damping is not None and not small and not last:
            states, r, damping = _damped(recurrence, states, r, damping)
            continue
        d = recurrence.correction(states, r, diagonal=diagonal and not (small or last))
        error = _relative(d, states)
        if small or last:
            rounding = recurrence.rounding(states)
            if last or bool(((error <= tolerance) | (rounding > tolerance)).all()):
                break
        states = states + torch.where(torch.isfinite(d).all(-1, keepdim=True), d, r)
        r = recurrence.next(states) - states
    converged = (residual <= tolerance) & (error <= tolerance) & (rounding <= tolerance)
    converged = converged.cummin(0).values
    found = Solution(states, iteration, converged)
    return _guarded(recurrence, found, d, tolerance) if guard and not bool(converged.all()) else found


def _guarded(recurrence: Recurrence, found: Solution, d: Tensor, tolerance: float) -> Solution:
    """The solution with a loop from the first step that has not converged, or from step 0 if rounding grows along the run."""
    start = int(found.converged.reshape(len(recurrence), -1).all(1).long().argmin())
    states = recurrence.continued(torch.cat((found.states[:start] + d[:start], found.states[start:])), start)
    if start and not bool((recurrence.rounding(states) <= tolerance).all()):
        start, states = 0, recurrence.continued(states, 0)
    converged = found.converged.clone()
    converged[start:] = False
    return replace(found, states=states, converged=converged, fallback_from=start)


def _damped(recurrence: Recurrence, states: Tensor, r: Tensor, damping: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The next states, their r and damping, by Levenberg and Marquardt: less of it after a correction that reduces |r|, else more."""
    tried = states + damped_correction(recurrence.jacobians(states), r, damping)
    after = recurrence.next(tried) - tried
    better = after.square().sum((0, -1)) < r.square().sum((0, -1))
    damping = torch.where(better, damping / 10, damping * 10).clamp(*DAMPINGS)
    better = better[..., None]
    return torch.where(better, tried, states), torch.where(better, after, r), damping


def _times(J: Tensor, v: Tensor) -> Tensor:
    """J v: J (..., N, N) or diagonal (..., N), v (..., N)."""
    return J * v if J.dim() == v.dim() else (J @ v.unsqueeze(-1)).squeeze(-1)


def _relative(d: Tensor, states: Tensor) -> Tensor:
    """The largest |d| relative to max(1, |s|) of each step, (T, ...); inf for NaN."""
    size = (d.abs() / states.abs().clamp(min=1)).amax(-1)
    return torch.where(size.isnan(), torch.inf, size)


def _signs(like: Tensor) -> Tensor:
    return torch.randint(2, like.shape, generator=torch.Generator().manual_seed(0)).to(like) * 2 - 1
