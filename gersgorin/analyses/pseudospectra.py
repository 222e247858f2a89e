"""Pseudospectra: how far a small change of a Jacobian can move its eigenvalues.

z is an eigenvalue of A + E for some complex change E of norm at most eps if and only if
sigma_min(z - A) <= eps (L. Trefethen, M. Embree, "Spectra and Pseudospectra", 2005). The least eps
whose curve reaches the unit circle is the distance to instability (C. Van Loan, 1985). A real
change of a real Jacobian can need a larger norm.

Legend: S time steps that are shown, N entries of a state.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Unpack

import numpy as np
import torch

from gersgorin import checks
from gersgorin.analyses.spectra import NOT_CONVERGED, support_lines
from gersgorin.linalg.numerical_range import support_corners
from gersgorin.linalg.singular_values import distance_to_circle, pseudospectrum
from gersgorin.linalg.spectrum import eigenvalues_or_nan
from gersgorin.linalg.threads import one_thread
from gersgorin.results import StepResult
from gersgorin.run import RunOptions, names_options, open_run
from rhn.utils.progress import reported
from rhn.utils.tables import Block, formatted
from rhn.utils.validation import whole_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.contour import QuadContourSet
    from matplotlib.figure import SubFigure

SIDE, WHOLE = 101, 64  # points of a side, half of them for states of more entries
SMALL_RANGE = 0.25  # half the width of numerical ranges that the grid enlarges
LEVELS = 5  # curves at most
STEP, RADIUS = "time step (from 0)", "spectral radius"
NEAREST = "distance of the nearest eigenvalue to the unit circle"
TO_CIRCLE = "distance to the unit circle (2-norm of a complex change)"
LEAST_AT = "time step of the least distance"
CHANGE = "2-norm of a complex change (log10)"


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Pseudospectra(StepResult):
    """sigma_min(z - A) on a grid of points z around the spectra of a few steps.

    >>> found = pseudospectra(torch.nn.RNN(3, 4), torch.rand(4, 3), side=9)
    >>> found.sigma.shape, found.eigenvalues.shape
    ((4, 9, 9), (4, 4))
    """

    page: ClassVar[str] = "docs/guides/spectra.md"
    item: ClassVar[str] = STEP
    headline: ClassVar[tuple[str, ...]] = (TO_CIRCLE,)
    texts: ClassVar[tuple[str, ...]] = (
        *StepResult.run_texts, STEP, RADIUS, NEAREST, TO_CIRCLE, LEAST_AT, CHANGE, NOT_CONVERGED,
    )  # fmt: skip

    shown: Annotated[np.ndarray, "step"]
    """Indices of the time steps, from 0, (S,)."""
    axis: Annotated[np.ndarray, "imaginary"]
    """Imaginary parts of the points, (side,); their real parts are these numbers plus `middle`."""
    sigma: Annotated[np.ndarray, "step", "imaginary", "real"]
    """sigma_min(z - A) at the points of the grid, (S, side, side)."""
    eigenvalues: Annotated[np.ndarray, "step", "eigenvalue"]
    """Eigenvalues of each step, complex, (S, N), the largest modulus first; NaN at a step where
    they did not converge.
    """
    to_circle: Annotated[np.ndarray, "step"]
    """The least 2-norm of a complex change that moves an eigenvalue onto the unit circle, (S,); NaN
    at a step whose eigenvalues did not converge.
    """
    middle: float
    """Centre of the grid: 0, or the middle of the numerical ranges if these are small."""

    def blocks(self) -> list[Block]:
        """Return a row for each measure, with a column for each step; and the single number."""
        table = self.table()
        single = [LEAST_AT, formatted(table.pop(LEAST_AT))]
        steps = [[STEP, *map(str, table.pop(STEP).tolist())]]
        rows = [[row, *map(formatted, values)] for row, values in table.items()]
        return [Block(rows, heads=steps), Block([single])]

    def table(self) -> dict[str, Any]:
        moduli = np.abs(self.eigenvalues)
        return {
            STEP: self.shown,
            RADIUS: moduli[:, 0],
            NEAREST: np.abs(1 - moduli).min(1),
            TO_CIRCLE: self.to_circle,
            LEAST_AT: int(self.shown[self._nearest]),
        }

    def coordinates(self) -> Mapping[str, Any]:
        return {"step": self.shown, "imaginary": self.axis, "real": self.middle + self.axis}

    def notes(self) -> Mapping[str, int]:
        return {NOT_CONVERGED: int(np.isnan(self.to_circle).sum())}

    @property
    def _nearest(self) -> int:
        """The index of the step of the least distance that is known."""
        return int(np.nan_to_num(self.to_circle, nan=np.inf).argmin())

    @property
    def levels(self) -> np.ndarray:
        """Decimal logarithms of the values of eps whose curves are drawn, ascending over a decade
        or more. The curves are closed within the grid.
        """
        from matplotlib.ticker import MaxNLocator

        away = np.abs(self.axis)
        edge = np.maximum.outer(away, away) == away[-1]
        distance = self.to_circle[self._nearest]
        distance = self.sigma.min() if np.isnan(distance) else distance
        least, high = np.log10(np.maximum([distance, self.sigma[:, edge].min()], 1e-99))
        ticks = MaxNLocator(LEVELS).tick_values(min(high - 1, least), high)
        return ticks[ticks <= high]

    def plot(self, ax: "Axes | None" = None, step: int | None = None) -> "Axes":
        """Draw one step; None: the one of the least distance to the unit circle."""
        from rhn.utils.composer import new_axes  # loads matplotlib

        shown = self.shown.tolist()
        step = shown[self._nearest] if step is None else step
        checks.require(step in shown, "step", step, f"one of {shown}")
        ax = new_axes() if ax is None else ax
        ax.figure.colorbar(self._draw(ax, shown.index(step)), ax=ax, label=CHANGE)
        return ax

    def draw(self, part: "SubFigure") -> float:
        """Draw the steps side by side, two in a row; a slide has one row."""
        from rhn.utils.composer import SLIDE, fitted, legend_above  # loads matplotlib
        from rhn.utils.figures import figure_width

        width = figure_width(part)
        across = len(self.shown) if width > SLIDE else min(2, len(self.shown))
        down = -(-len(self.shown) // across)
        panels = part.subplots(down, across, squeeze=False)
        curves = [self._draw(ax, k) for k, ax in enumerate(panels.flat[: len(self.shown)])]
        for ax in panels.flat[len(self.shown) :]:
            ax.remove()
        bar = part.colorbar(curves[0], ax=panels, label=CHANGE, location="bottom", aspect=30)
        bar.lines[0].set_linewidth(0.9 * 72 * width / max(len(self.levels) - 1, 1))  # no gaps
        legend_above(part, [panels[0, 0]])
        return fitted(part, 1.6 + 0.92 * width * down / across)

    def _draw(self, ax: "Axes", k: int) -> "QuadContourSet":
        """Draw the curves of the k-th step, its eigenvalues and the unit circle."""
        from gersgorin.analyses.complex_plane import EIGENVALUES, IMAGINARY, REAL, draw_circle
        from rhn.utils.figures import RED
        from rhn.utils.named_curves import TIME

        levels, values, half = self.levels, self.eigenvalues[k], self.axis[-1]
        # an eigenvalue on the grid has no logarithm
        heights = np.log10(np.maximum(self.sigma[k], 10 ** (levels[0] - 9)))
        x = self.middle + self.axis
        curves = ax.contour(x, self.axis, heights, levels, cmap="viridis_r",
                            vmin=levels[0] - np.ptp(levels) / 4)  # fmt: skip
        ax.plot(values.real, values.imag, ".", color=RED, label=EIGENVALUES)
        draw_circle(ax)
        ax.set(xlim=(x[0], x[-1]), ylim=(-half, half), aspect="equal")
        ax.set(xlabel=REAL, ylabel=IMAGINARY)
        ax.set_title(f"{TIME} {self.shown[k]}", loc="left")
        ax.label_outer()
        return curves


@names_options(RunOptions)
@torch.no_grad()
@one_thread()
def pseudospectra(
    network: Any,
    x: Any = None,
    s0: Any = None,
    *,
    side: int | None = None,
    steps: Sequence[int] | None = None,
    **how: Unpack[RunOptions],
) -> Pseudospectra:
    """Compute pseudospectra of a few steps of a run, on a grid around the unit circle and the
    numerical ranges.

    Args:
        network, x, s0, state_size, ..., progress: as for `open_run`.
        side: the number of points of a side of the grid, odd; None: 101, or 51 for a state of more
            than 64 entries. The time grows with the square of side and the cube of the entries.
        steps: the time steps, counted from 0; None: four, from the first to the last.

    Raises InvalidInputError.

    >>> found = pseudospectra(lambda x, s: x * s, torch.full((9, 2), 0.75), torch.ones(2))
    >>> found.shown.tolist(), found.to_circle.round(9).tolist()
    ([0, 3, 5, 8], [0.25, 0.25, 0.25, 0.25])
    """
    run = open_run(network, x, s0, **how)
    run.check_memory()
    T, N = len(run), run.state_size
    side = (
        (SIDE if N <= WHOLE else SIDE // 2 + 1) if side is None else whole_number("side", side, 3)
    )
    checks.require(side % 2 == 1, "side", side, "an odd number of at least 3")
    steps = [round(k * (T - 1) / 3) for k in range(4)] if steps is None else steps
    checks.require(isinstance(steps, Iterable), "steps", steps, "a list of time steps")
    shown = sorted({checks.step_of_run(step, T) for step in steps})
    checks.require(len(shown) > 0, "steps", steps, "at least one time step")
    A = torch.cat([run.jacobians(slice(t, t + 1)) for t in shown]).cpu().double()
    checks.are_finite(f"Jacobian of {run.step.name}", A)
    middle, axis = grid_around(A, side)
    points, sigma, to_circle = middle + axis + 1j * axis[:, None], [], []
    values = eigenvalues_or_nan(A)
    with reported(run.progress, "pseudospectra", total=len(A)) as advance:
        for one, known in zip(A, ~values.isnan().any(1), strict=True):
            sigma.append(pseudospectrum(one, points).numpy())
            to_circle.append(distance_to_circle(one) if known else np.nan)
            advance(len(sigma), len(A))
    return Pseudospectra(
        **run.heading,
        shown=np.array(shown),
        axis=axis,
        sigma=np.stack(sigma),
        eigenvalues=values.numpy(),
        to_circle=np.array(to_circle),
        middle=float(middle),
    )


def grid_around(A: torch.Tensor, side: int) -> tuple[float, np.ndarray]:
    """The centre and the axis (side,) of a grid around the numerical ranges of A (S, N, N) and a
    part of the unit circle.
    """
    corners = support_corners(support_lines(A).numpy())
    low, high = corners.real.min(), corners.real.max()
    middle, half = (low + high) / 2, 1.35 * max(high - low, np.ptp(corners.imag)) / 2
    if half > SMALL_RANGE:
        middle, half = 0.0, 1.15 * np.abs(corners).max()
    right = max(half, 1.15 * abs(1 - abs(middle))) * np.linspace(0, 1, side // 2 + 1)
    # mirrors to the last bit: half of the points are then computed
    return middle, np.concatenate([-right[:0:-1], right])
