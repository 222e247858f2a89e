"""Pseudospectra of a few time steps of a run: how far a small change of a Jacobian can move its
eigenvalues.

z is an eigenvalue of A + E for some change E of norm at most eps if and only if sigma_min(z - A) <=
eps. If the curve of a small eps crosses the unit circle, a change of size eps can move an
eigenvalue across the circle, even if all eigenvalues of A lie far inside. The least eps whose curve
reaches the circle is the distance to instability (C. Van Loan, 1985).

Legend: S steps that are shown; N entries of a state; a grid of (side, side) points z in the complex
plane.
"""

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap

from gersgorin.analyses.spectra import ANGLES, SMALL
from gersgorin.analyses.steps import subject_of
from gersgorin.figures import crowd
from gersgorin.linalg.inclusion import support_function
from gersgorin.linalg.outlines import support_corners
from gersgorin.linalg.singular_values import distance_to_circle, pseudospectrum
from gersgorin.linalg.spectrum import eigenvalues, one_thread
from gersgorin.network.open import DataLike, NetworkLike, open_run
from gersgorin.run.run import Progress, shown_steps, silent
from gersgorin.run.state import State
from rhn.errors import InvalidInputError
from rhn.plotting.figure import Block, Shown, colour_bar, complex_plane, compose
from rhn.utils.figures import RED
from rhn.utils.old import Result, counted, keywords_of, table_rows
from rhn.utils.validation import in_short, whole_number

SIDE = 101  # points along a side of the grid
WHOLE = 64  # entries of a state up to which the grid has all of them, half of them beyond
A_MINUTE = 5e10  # operations of decompositions, n^3 a point, on one core
MINUTES = 10  # a grid may take
# without its yellow, invisible on white paper
CURVES = ListedColormap(colormaps["viridis"](np.linspace(0, 0.8, 256)))
LEVELS = 10  # curves at most
SMALL_RANGE = 0.25  # half the width of numerical ranges that the grid enlarges
CHANGE = "norm of a change (log₁₀)"


@dataclass(frozen=True, kw_only=True, repr=False)
class Pseudospectra(Result, kind="pseudospectra"):
    """The smallest singular values sigma_min(z - A) on a grid around the spectra of a few steps of
    one run.

    >>> found = pseudospectra(torch.nn.RNN(3, 4), torch.rand(4, 3), side=9)
    >>> found.sigma.shape, found.eigenvalues.shape
    ((4, 9, 9), (4, 4))
    """

    steps: np.ndarray
    """Indices of the time steps, from 0, (S,)."""
    axis: np.ndarray
    """Imaginary parts of the points of the grid, (side,). Their real parts are these numbers plus
    `middle`.
    """
    sigma: np.ndarray
    """sigma_min(z - A) at the points of the grid, (S, side, side): one row per imaginary part, one
    column per real part.
    """
    eigenvalues: np.ndarray
    """Eigenvalues of each step, complex, (S, N), the largest modulus first."""
    to_circle: np.ndarray
    """The least eps whose pseudospectrum reaches the unit circle, (S,)."""
    middle: float = 0.0
    """Centre of the grid, a real number: 0, or the middle of the numerical ranges if these are
    small, as for Jacobians close to the identity.
    """

    steps_of = staticmethod(shown_steps)

    @property
    def finding(self) -> str:
        """A clause about the least change that moves an eigenvalue onto the unit circle."""
        change = f"A change of norm {self.to_circle.min():.3g} of a step{subject_of(self.title)}"
        return f"{change} puts an eigenvalue on the unit circle"

    @property
    def step_count(self) -> int:
        """One more than the last step shown."""
        return int(self.steps[-1]) + 1

    def drawn_step(self, step: int | None = None) -> int | None:
        """The step to draw. None: a figure shows all steps, and `plot(ax)` shows the step whose
        eigenvalues need the least change to reach the unit circle. Raises InvalidInputError for a
        step without a pseudospectrum.
        """
        if step is not None and step not in self.steps:
            known = ", ".join(map(str, self.steps))
            raise InvalidInputError(f"step is {in_short(step)}: expected one of {known}")
        return step

    def _axes(self) -> dict[str, tuple[str, ...]]:
        return {
            "steps": ("step",),
            "sigma": ("step", "imaginary", "real"),
            "axis": ("imaginary",),
            "eigenvalues": ("step", "eigenvalue"),
            "to_circle": ("step",),
        }

    def table(self) -> list[dict]:
        """One row per step: step, epsilon_to_circle (the least change that moves an eigenvalue onto
        the unit circle), spectrum_to_circle (the distance of the largest eigenvalue from the unit
        circle, negative outside).
        """
        away = 1 - np.abs(self.eigenvalues[:, 0])
        return table_rows(
            step=self.steps, epsilon_to_circle=self.to_circle, spectrum_to_circle=away
        )

    width, marks_step = 8.0, False

    def _draw(self, ax: Axes, *, step: int | None, limit: float | None) -> None:
        """Draw one step, by default the one whose eigenvalues need the least change to reach the
        unit circle.
        """
        k = int(self.to_circle.argmin()) if step is None else [*self.steps].index(step)
        self._draw_step(ax, k, limit).set_title(f"Step {self.steps[k]}, {self.curves}")

    def _figure(self, step: int | None, limit: float | None) -> Shown:
        """Draw all steps, or one, with a colour bar for the curves."""
        steps = [*self.steps]
        chosen = range(len(steps)) if step is None else [steps.index(step)]
        draws = [partial(self._draw_step, k=k, limit=limit) for k in chosen]
        high = max(2.5, 6 / len(draws))
        bar = colour_bar(ScalarMappable(_colours(self.levels), CURVES), CHANGE, ticks=self.levels)
        return compose(
            self.finding, self.origin, Block(draws, high, len(draws), "y", legend=True), bar
        )

    @property
    def curves(self) -> str:
        """The levels of the curves in words, for the title of axes without a colour bar."""
        last, inner = self.levels[:-3:-1]
        return f"curves inwards: {CHANGE} {last:g}, {inner:g}, ..."

    def _draw_step(self, ax: Axes, k: int, limit: float | None = None) -> Axes:
        """Draw the boundaries of the eps-pseudospectra of the k-th step for eps = 10^level, the
        eigenvalues and the unit circle.
        """
        levels, values = self.levels, self.eigenvalues[k]
        # an eigenvalue on the grid has none
        heights = np.log10(np.maximum(self.sigma[k], 10 ** (levels[0] - 9)))
        if (heights >= levels[0]).any():
            ax.contour(
                self.middle + self.axis,
                self.axis,
                heights,
                levels,
                cmap=CURVES,
                norm=_colours(levels),
                linewidths=1,
            )
        ax.plot(values.real, values.imag, ".", color=RED, markersize=4, label="eigenvalues")
        view = (limit, 0.0) if limit else (self.axis[-1], self.middle)
        complex_plane(ax, *view).set_title(f"Step {self.steps[k]}")
        return ax

    @property
    def levels(self) -> np.ndarray:
        """Decimal logarithms of the values of eps whose curves are drawn: ascending in equal round
        steps over a decade or more. The curves are closed within the grid.
        """
        away, least = np.abs(self.axis), self.to_circle.min()
        edge = np.maximum.outer(away, away) == away[-1]
        high = np.nan_to_num(np.log10(self.sigma[:, edge].min()))
        low = min(high - 1, math.log10(least) if least > 0 else high)
        wide = high - low + 1e-9  # often a decade, which rounding must not move below it
        step = next(s for s in (0.1, 0.25, 0.5, 1, 2, 5, 10, 100) if wide / s < LEVELS)
        return step * np.arange(np.ceil(low / step) - 1, np.floor(high / step) + 1)

    def _to_dict(self) -> dict:
        """Numbers for JSON, without those of the grid."""
        return {"grid": self.sigma.shape[1:], "steps": self.table()}


@keywords_of(open_run)
@torch.no_grad()
@one_thread()
def pseudospectra(
    network: NetworkLike,
    x: DataLike = None,
    *,
    s0: State | None = None,
    side: int | None = None,
    progress: Progress = silent,
    **options,
) -> Pseudospectra:
    """Compute the pseudospectra of four steps of a run (of all steps if there are fewer), on a grid
    around the unit circle and the numerical ranges.

    Args:
        network, x, s0, options: as for `gersgorin.open_run`.
        side: number of points along a side of the grid, an odd number (default: 101, or 51 for a
            state of more than 64 entries). The time grows with the square of side and with the cube
            of the state size. With the default side, the time on one core is a quarter of a minute
            for 64 entries and two minutes for 256.
        progress: called with (steps done, steps in all).

    Raises:
        InvalidInputError: side is out of range, the grid would take more than ten minutes, or a
            state or Jacobian is not finite.

    >>> found = pseudospectra(lambda x, s: x * s, torch.full((9, 2), 0.75), s0=torch.ones(2))
    >>> found.steps.tolist(), found.to_circle.round(9).tolist()
    ([0, 3, 5, 8], [0.25, 0.25, 0.25, 0.25])
    """
    if side is not None and (side := whole_number("side", side, 3)) % 2 == 0:
        raise InvalidInputError(f"side is {side}: expected an odd number of at least 3")
    run = open_run(network, x, s0=s0, **options)
    steps = shown_steps(len(run))
    N = run.state_size
    side = side or (SIDE if N <= WHOLE else SIDE // 2 + 1)
    _check_size(N, side, len(steps))
    A = run.jacobians(steps).detach()
    corners = support_corners(
        support_function(A.cpu(), ANGLES if N <= SMALL else ANGLES // 2).double().numpy()
    )
    middle, half = crowd(corners)
    if half > SMALL_RANGE:
        middle, half = 0.0, 1.15 * np.abs(corners).max()
    right = max(half, 1.15 * abs(1 - abs(middle))) * np.linspace(0, 1, side // 2 + 1)
    # mirrors to the last bit: half of the points are then computed
    axis = np.concatenate([-right[:0:-1], right])
    points, sigma, to_circle = middle + axis + 1j * axis[:, None], [], []
    for k, one in enumerate(A):
        sigma.append(pseudospectrum(one, points).numpy())
        to_circle.append(distance_to_circle(one))
        progress(k + 1, len(steps))
    return Pseudospectra(
        title=run.label.heading,
        about=run.label.about,
        steps=np.array(steps),
        axis=axis,
        sigma=np.stack(sigma),
        eigenvalues=eigenvalues(A).cpu().numpy(),
        to_circle=np.array(to_circle),
        middle=float(middle),
        **run.itself,
    )


def _check_size(entries: int, side: int, steps: int) -> None:
    """Raise InvalidInputError for a grid that takes too long. The message has the largest side that
    does not.
    """
    minutes_a_point = steps * entries**3 / A_MINUTE / 2  # only half of the points are computed
    minutes, largest = side**2 * minutes_a_point, math.isqrt(int(MINUTES / minutes_a_point))
    if minutes <= MINUTES:
        return
    odd = largest if largest % 2 else largest - 1
    remedy = f"give a side of at most {odd} (--side {odd})" if odd >= 3 else "use fewer units"
    raise InvalidInputError(
        f"a grid of {side} x {side} points for {counted(steps, 'step')} of {entries:,} state "
        f"entries takes about {minutes:,.0f} minutes on one core: {remedy}"
    )


def _colours(levels: np.ndarray) -> BoundaryNorm:
    """The colours of the curves; each curve lies in the middle of the range of its colour."""
    half = (levels[1] - levels[0]) / 2
    return BoundaryNorm(np.append(levels - half, levels[-1] + half), 256)
