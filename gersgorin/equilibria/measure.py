"""`gersgorin.fixed_points`: from a cell and a constant input to the states that stay where they are."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from gersgorin._validate import real_tensor
from gersgorin.equilibria.record import FixedPoints
from gersgorin.equilibria.search import Ends, distinct, search
from gersgorin.jacobian import temporal_jacobian, trajectory
from gersgorin.spectrum import eigenvalues, one_thread
from gersgorin.stepping import Step, converted
from rhn.errors import InvalidInputError
from rhn.wording import counted

BLOCK = 1 << 18  # entries of Jacobians held at once: about what a core's cache holds
SLOW = 0.01  # of the median speed at the starts
TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-5}


@torch.no_grad()
@one_thread()
def fixed_points(
    cell: nn.Module | Step | Callable[[Tensor], Tensor],
    x: Tensor | None,
    starts: Tensor,
    *,
    tolerance: float | None = None,
    apart: float = 1e-4,
    iterations: int = 200,
    margin: float = 0.5,
    at_least_one: bool = True,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> FixedPoints:
    """The fixed points F(s) = s of one step under a constant input that a search from these starts leads to, and their spectra.

    Points outside the box of the starts (see `margin`) are not found, nor need all within it be.

    Args:
        cell: as for `temporal_jacobian`; with x = None a map f(s) -> s' that has no input.
        x: the constant input (m,).
        starts: states (B, N) to search from; those of a `trajectory` are usual (Sussillo and Barak 2013). Their dtype is worked in.
        tolerance: a fixed point has |F(s) - s|_2 at most this; 1e-10 in float64 and 1e-5 in float32 where None.
        apart: points are one where no entry differs by more than this times 1 + the largest entry.
        iterations: at most so many steps of the search (`gersgorin.equilibria.search`) a start.
        margin: the search stays in the box of the starts, wider by this share of its largest side (at least of 1) all around.
        at_least_one: whether it is an error that none was found; otherwise the record may hold no point.
        progress: called with (starts done, starts in all).

    Raises:
        InvalidInputError: no start led to a fixed or slow point (the message tells box and least speed); shapes that do not fit, a step
            whose state is no tensor, NaN or infinity.

    >>> points = fixed_points(lambda s: torch.tanh(2 * s), None, torch.tensor([[-3.0], [0.1], [2.0]]).double())
    >>> points.states.round(4).ravel().tolist(), points.kinds
    ([-0.9575, 0.0, 0.9575], ['stable', 'unstable', 'stable'])
    """
    starts = real_tensor("starts", starts)
    given = x = None if x is None else real_tensor("x", x)
    cell, x = _with_input(cell, x, starts)
    tolerance = _check(x, starts, tolerance, iterations, apart=apart, margin=margin)
    step = lambda s: trajectory(cell, x.expand(1, len(s), -1), s)[1]  # noqa: E731
    jacobian = lambda s: temporal_jacobian(cell, x, s)  # noqa: E731
    speed_at_starts = torch.linalg.vector_norm(step(starts) - starts, dim=-1)
    if not torch.isfinite(speed_at_starts).all():
        raise InvalidInputError(
            "the step gives NaN or infinity at a start: expected finite states; use smaller weights"
        )
    size, wider = max(1, BLOCK // starts.shape[1] ** 2), margin * (starts.amax(0) - starts.amin(0)).max().clamp(min=1)
    limits = {
        "low": starts.amin(0) - wider,
        "high": starts.amax(0) + wider,
        "tolerance": tolerance,
        "iterations": iterations,
    }
    ends = _searched(lambda part: search(step, jacobian, part, **limits), starts, size, progress)
    fixed = ends.speeds <= tolerance
    slow = ~fixed & ends.flat & (ends.speeds <= SLOW * speed_at_starts.median())
    if at_least_one and not (fixed | slow).any():
        raise _none_found(ends, float(wider), margin, iterations, tolerance)
    states, speeds, counts = zip(*(_points(ends, group, apart) for group in (fixed, slow)), strict=True)
    points = torch.cat(states)
    spectra = (
        [eigenvalues(jacobian(part)) for part in points.split(size)] if len(points) else [points.to(torch.complex64)]
    )
    return FixedPoints(
        states=points.cpu().numpy(),
        residuals=torch.cat(speeds).cpu().numpy(),
        is_slow=np.arange(len(points)) >= len(states[0]),
        eigenvalues=torch.cat(spectra).cpu().numpy(),
        found_from=torch.cat(counts).cpu().numpy(),
        starts=starts.cpu().numpy(),
        least_residual=float(ends.speeds.min()),
        tolerance=tolerance,
        margin=float(margin),
        input=None if given is None else given.cpu().numpy(),
    )


def _none_found(ends: Ends, wider: float, margin: float, iterations: int, tolerance: float) -> InvalidInputError:
    return InvalidInputError(
        f"no fixed point was found in the box of the starts, wider all around by {wider:.3g} (margin = {margin:g}): the least "
        f"|F(s) - s| that {counted(len(ends.speeds), 'start')} led to in {counted(iterations, 'iteration')} is "
        f"{float(ends.speeds.min()):.3g}, expected {tolerance:g}; give other starts, a larger margin or a larger tolerance"
    )


def _searched(
    search: Callable[[Tensor], Ends], starts: Tensor, size: int, progress: Callable[[int, int], None]
) -> Ends:
    """Where the searches from all starts (B, N) end, so many at once."""
    parts = []
    for part in starts.split(size):
        parts.append(search(part))
        progress(sum(len(done.speeds) for done in parts), len(starts))
    return Ends(*(torch.cat(each) for each in zip(*parts, strict=True)))


def _points(ends: Ends, group: Tensor, apart: float) -> tuple[Tensor, Tensor, Tensor]:
    """(states (P, N), speeds (P,), starts that led there (P,)) of a group (B,) bool of ends, those of the most starts first."""
    s, speeds = ends.states[group], ends.speeds[group]
    kept, which = distinct(s, speeds.argsort(stable=True), apart)
    counts = torch.bincount(which, minlength=len(kept))
    earliest = [int((which == p).int().argmax()) for p in range(len(kept))]
    order = sorted(range(len(kept)), key=lambda p: (-int(counts[p]), earliest[p]))
    return s[kept[order]], speeds[kept[order]], counts[order]


def _with_input(cell, x: Tensor | None, starts: Tensor) -> tuple[nn.Module | Step, Tensor]:
    """A step of an input and a state, also of a map that has no input."""
    if x is not None:
        return converted(cell), x
    if not callable(cell):
        raise InvalidInputError(f"without x, expected a callable f(s), got {type(cell).__name__}")
    return (lambda x, s: cell(s)), starts.new_zeros(1)


def _check(x: Tensor, starts: Tensor, tolerance: float | None, iterations: int, **positive: float) -> float:
    """The tolerance, the default one where None."""
    for name, given, dims, layout in (("x", x, 1, "(m,)"), ("starts", starts, 2, "(B, N)")):
        if given.dim() != dims or given.numel() == 0:
            shape = tuple(given.shape)
            raise InvalidInputError(f"{name}: expected a tensor {layout} with at least one entry, got shape {shape}")
        if bad := int((~torch.isfinite(given)).sum()):
            raise InvalidInputError(
                f"{name}: {bad} of {given.numel()} numbers are NaN or infinite, expected finite ones"
            )
    if starts.dtype not in TOLERANCES:
        raise InvalidInputError(f"starts are {starts.dtype}: expected torch.float64 or torch.float32")
    tolerance = TOLERANCES[starts.dtype] if tolerance is None else tolerance
    if type(iterations) is not int or iterations < 1:
        raise InvalidInputError(f"iterations is {iterations!r}: expected a whole number of at least 1")
    for name, value in {"tolerance": tolerance, **positive}.items():
        if not (isinstance(value, int | float) and 0 < value < float("inf")):
            raise InvalidInputError(f"{name} is {value!r}: expected a number above 0")
    return float(tolerance)
