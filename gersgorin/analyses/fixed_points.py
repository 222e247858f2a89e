"""Fixed points as numbers, without torch.

Legend: P points, fixed ones first, those that most starts led to before others; N entries of a state; B starts.

Zeros of r(s) = F(s) - s from many starts at once, by Levenberg-Marquardt steps on the speed q = |r|^2 / 2.

D. Sussillo and O. Barak (Neural Computation 25, 2013) minimise q by its gradient; with the Jacobian J = dF/ds - 1 at hand each
start takes the step d of

    (J' J + l |r| 1) d = -J' r

which far from a zero is a short step down the slope of q, and near one is Newton's: the number of correct digits about doubles. A
step that does not lower the speed is not taken, and l grows fourfold; one that does divides it by eight. Minima of q above zero, where
J' r = 0 with r != 0, are found by the same steps. The search is kept in a box: where gates saturate far outside what a run can reach,
the speed falls below every tolerance, and nothing stands still there.

Shapes: s, r (B, N), J (B, N, N), a row a start. Starts are independent: what one does moves no other.

`gersgorin.fixed_points`: from a cell and a constant input to the states that stay where they are.

Fixed points in plain text.

Fixed points drawn from their record: where they lie among the states they were searched from, and their spectra.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from torch import Tensor, nn

from gersgorin._validate import real_tensor
from gersgorin.jacobian import Step, converted, temporal_jacobian, trajectory
from gersgorin.linalg.spectrum import eigenvalues, one_thread
from gersgorin.plotting.figure import Shown, laid_out, own_axes, plain_numbers
from gersgorin.plotting.spectra import CIRCLE, DASHED, as_list, complete, legend_below, titled_all, told_apart, wrapped
from rhn.errors import InvalidInputError
from rhn.figures import BLUE, GREEN, GREY, ORANGE, RED, our_style
from rhn.result import Result
from rhn.wording import counted

NEUTRAL = 1e-6  # how near the unit circle an eigenvalue is called neither stable nor unstable


@dataclass(frozen=True, kw_only=True, repr=False)
class FixedPoints(Result):
    """Where a step under constant input stands still, where it is slow, and its spectrum there; P may be 0."""

    states: np.ndarray
    """(P, N)"""
    residuals: np.ndarray
    """|F(s) - s|_2, (P,)."""
    is_slow: np.ndarray
    """(P,) bool: no fixed point, but a minimum of |F(s) - s| at most a hundredth of what it is at the median start."""
    eigenvalues: np.ndarray
    """Of dF/ds at each point, (P, N) complex, the largest modulus first."""
    found_from: np.ndarray
    """How many starts led to each point, (P,)."""
    starts: np.ndarray
    """(B, N)"""
    least_residual: float
    """The least |F(s) - s|_2 that any start led to."""
    tolerance: float
    """Largest residual of a fixed point."""
    margin: float = 0.5
    """Points were searched for in the box of the starts, wider all around by this share of its largest side (at least of 1)."""
    input: np.ndarray | None = None
    """The constant input (m,)."""
    title: str = ""
    """What a figure calls the cell and its input."""
    about: str = ""
    """How network and sequence came to be, under a figure's title."""

    @property
    def wider(self) -> float:
        """By how much the box that was searched is wider than that of the starts, all around."""
        return self.margin * max(1.0, float(np.ptp(self.starts, axis=0).max()))

    @property
    def lost(self) -> int:
        """How many starts led to no point."""
        return len(self.starts) - int(self.found_from.sum())

    @property
    def unstable(self) -> np.ndarray:
        """How many eigenvalues lie outside the unit circle, (P,)."""
        return (np.abs(self.eigenvalues) > 1 + NEUTRAL).sum(1)

    @property
    def neutral(self) -> np.ndarray:
        """How many lie on it, up to 1e-6, (P,): along those directions the linear part does not decide."""
        return (np.abs(np.abs(self.eigenvalues) - 1) <= NEUTRAL).sum(1)

    @property
    def time_constants(self) -> np.ndarray:
        """-1 / log |eigenvalue| in steps, (P, N): a deviation falls to 1/e in so many; negative where it grows, inf on the circle."""
        with np.errstate(divide="ignore"):
            logs = np.log(np.abs(self.eigenvalues))
            return np.where(logs == 0, np.inf, -1 / logs)

    @property
    def kinds(self) -> list[str]:
        """A word for each point: "stable", "saddle", "unstable" (in all directions), "neutral" (undecided), with "slow, " before."""
        words = []
        for slow, unstable, neutral in zip(self.is_slow, self.unstable, self.neutral, strict=True):
            if unstable:
                word = "unstable" if unstable == self.states.shape[1] else "saddle"
            else:
                word = "neutral" if neutral else "stable"
            words.append("slow, " + word if slow else word)
        return words

    def points(self) -> list[dict]:
        """One row of numbers a point."""
        return [
            {
                "kind": kind,
                "slow": bool(self.is_slow[p]),
                "residual": float(self.residuals[p]),
                "found_from": int(self.found_from[p]),
                "unstable": int(self.unstable[p]),
                "neutral": int(self.neutral[p]),
                "spectral_radius": float(np.abs(self.eigenvalues[p, 0])),
                "slowest_time_constant": float(self.time_constants[p, 0]),
                "state": self.states[p].tolist(),
                "eigenvalues": np.stack((self.eigenvalues[p].real, self.eigenvalues[p].imag), -1).tolist(),
            }
            for p, kind in enumerate(self.kinds)
        ]

    def summary(self) -> dict:
        """JSON-ready."""
        about = {"title": self.title, "starts": len(self.starts), "lost": self.lost}
        about |= {"least_residual": self.least_residual, "tolerance": self.tolerance, "margin": self.margin}
        return about | {"input": None if self.input is None else self.input.tolist(), "points": self.points()}


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
        iterations: at most so many steps of the search (`gersgorin.analyses.fixed_points`) a start.
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


LISTED = 8  # points that are told, and whose spectra are drawn


def fixed_points_table(points: FixedPoints) -> str:
    """A line a point, the first eight of them."""
    fixed, slow = int((~points.is_slow).sum()), int(points.is_slow.sum())
    counts = f"{counted(fixed, 'fixed point')}, {slow} slow"
    lines = [f"{counts}, from {len(points.starts)} starts ({points.lost} led to none): {points.title}".rstrip(": ")]
    if not len(points.states):
        box = f"none was found in the box of the starts, wider all around by {points.wider:.3g}"
        return f"{lines[0]}\n{box}; the least |F(s) - s| that a start led to is {points.least_residual:.3g}"
    lines.append(f"{'':<20}{'starts':>8}{'residual':>11}{'unstable':>10}{'radius':>9}  slowest time constant")
    for row in points.points()[:LISTED]:
        time = row["slowest_time_constant"]
        steps = "never" if math.isinf(time) else f"{abs(time):.4g} steps{' (grows)' * (time < 0)}"
        numbers = f"{row['found_from']:>8}{row['residual']:>11.2g}{row['unstable']:>10}{row['spectral_radius']:>9.4f}"
        lines.append(f"{row['kind']:<20}{numbers}  {steps}")
    if len(points.states) > LISTED:
        lines.append(f"and {len(points.states) - LISTED} more (all of them with --json)")
    return "\n".join(lines)


KINDS = {"stable": (GREEN, "o"), "neutral": (BLUE, "s"), "saddle": (ORANGE, "D"), "unstable": (RED, "^")}


@our_style()
def plot_fixed_points(points: FixedPoints, ax: Axes | None = None) -> Axes:
    """The points over the states the search began from, on the two directions in which those states vary most.

    Slow points are hollow. An axis says what share of the starts' variance lies along it.
    """
    alone, ax = ax is None, own_axes(5, 5) if ax is None else ax
    axes, share = principal_axes(points.starts)
    middle = points.starts.mean(0)
    x, y = ((points.starts - middle) @ axes.T).T
    ax.plot(x, y, ".", color=GREY, markersize=3, alpha=0.6, label="states it was searched from")
    for kind, (color, marker) in KINDS.items():
        for slow in (False, True):
            of_kind = [p for p, name in enumerate(points.kinds) if name == f"{'slow, ' * slow}{kind}"]
            if of_kind:
                x, y = ((points.states[of_kind] - middle) @ axes.T).T
                face = "none" if slow else color
                style = {"color": color, "markerfacecolor": face, "markersize": 7, "zorder": 3}
                ax.plot(x, y, marker, label=f"{kind}{' (slow)' * slow}: {len(of_kind)}", **style)
    if not len(points.states):
        ax.plot([], [], " ", label=f"none was found in their box, wider by {points.wider:.3g}")
    first, second = (
        f"{which} principal axis ({part:.0%} of their variance)"
        for which, part in zip(("first", "second"), share, strict=True)
    )
    ax.set(xlabel=first, ylabel=second, title="among the states they were searched from")
    ax.margins(0.08)
    plain_numbers(ax)
    return (
        complete(ax, f"{points.title}: fixed points" if points.title else "Fixed points", points.about) if alone else ax
    )


@our_style()
def plot_point_spectra(points: FixedPoints, ax: Axes | None = None) -> Axes:
    """The eigenvalues at the first eight points in the complex plane, with the unit circle, coloured by the kind of point."""
    alone, ax = ax is None, own_axes(4.6, 5.2) if ax is None else ax
    ax.plot(CIRCLE.real, CIRCLE.imag, **DASHED, linewidth=1, label="unit circle")
    shown = points.eigenvalues[:LISTED]
    for values, kind, slow in zip(shown, points.kinds, points.is_slow, strict=False):
        color, marker = KINDS[kind.removeprefix("slow, ")]
        style = {"color": color, "markerfacecolor": "none" if slow else color, "markersize": 3.5, "alpha": 0.7}
        label = f"eigenvalues at a {'slow, ' * bool(slow)}{kind.removeprefix('slow, ')} point"
        ax.plot(values.real, values.imag, marker, label=label, **style)
    limit = 1.08 * max(1.0, float(np.abs(shown).max(initial=0)))
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", xlabel="real part", ylabel="imaginary part")
    few = f", first {LISTED} of {len(points.states)}" if len(points.states) > LISTED else ""
    ax.set_title(f"eigenvalues at the points{few}")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(5))
    plain_numbers(ax)
    return (
        complete(ax, f"{points.title}: fixed points" if points.title else "Fixed points", points.about) if alone else ax
    )


@our_style()
def draw_fixed_points(cells: FixedPoints | Sequence[FixedPoints]) -> Shown:
    """The points of one cell or several and the spectra there side by side, a row a cell."""
    cells = as_list(cells)
    named = told_apart([points.title for points in cells], [points.about for points in cells])
    figure = Shown(figsize=(10, 0.6 + 4.6 * len(cells)), layout="constrained")
    rows = np.atleast_1d(figure.subfigures(len(cells), 1))
    for row, points, name in zip(rows, cells, named.names, strict=True):
        panels = row.subplots(1, 2, width_ratios=(1.3, 1))
        plot_fixed_points(points, panels[0])
        plot_point_spectra(points, panels[1])
        legend_below(row, panels, columns=3)
        if name:
            row.suptitle(wrapped(name, 110), fontsize=10)
    titled_all(figure, named, "fixed points and the spectra there")
    return laid_out(figure)


def principal_axes(states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the two directions (2, N) along which states (B, N) vary most, their shares of the variance (2,)).

    The larger entries of each direction are positive in sum, so that a picture does not flip from run to run.

    >>> principal_axes(np.array([[0.0, 2.0], [0.0, -2.0], [1.0, 0.0], [-1.0, 0.0]]))
    (array([[0., 1.],
           [1., 0.]]), array([0.8, 0.2]))
    """
    _, sizes, axes = np.linalg.svd(states - states.mean(0), full_matrices=False)
    axes, power = np.vstack((axes, np.zeros((2, states.shape[1]))))[:2], np.append(sizes**2, [0.0, 0.0])
    largest = axes[np.arange(2), np.abs(axes).argmax(1)]
    axes = axes * np.where(largest < 0, -1.0, 1.0)[:, None]
    return axes + 0.0, power[:2] / (power.sum() or 1.0)
