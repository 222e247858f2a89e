"""The pseudospectra of a few steps of a run on one grid, as numbers: what `gersgorin-plot --pseudospectra` draws and tells.

sigma_min(z - A) <= eps: some change of A of norm eps has the eigenvalue z. Where the curve of a small eps passes the unit circle,
so can an eigenvalue, however far inside the spectrum is; that eps is the distance to instability (C. Van Loan, 1985).

Legend: S steps shown, N state entries, a grid of (side, side) points.

Pseudospectra drawn: curves of equal eps around the spectrum, with the unit circle that an eigenvalue must not pass.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.ticker import MaxNLocator
from torch import Tensor, nn

from gersgorin.analyses.spectra import Spectra
from gersgorin.cell_run import run_of
from gersgorin.linalg.pseudospectra import pseudospectrum
from gersgorin.own_loop import OwnLoop
from gersgorin.plotting.figure import Shown, laid_out, own_axes, plain_numbers
from gersgorin.plotting.spectra import CIRCLE, DASHED, complete, legend_below, titled_all, told_apart, wrapped
from gersgorin.run import shown_steps
from rhn.figures import RED, our_style
from rhn.result import Result

SIDE, SMALL = 101, 128  # points along a side of the grid for states that are small, half of them for others
CIRCLE_POINTS = 181  # on the upper half of the unit circle


@dataclass(frozen=True, eq=False, repr=False)
class Pseudospectra(Result):
    """sigma_min(z - A) around the spectra of a few steps of one run."""

    title: str
    steps: np.ndarray
    """Which steps, (S,)."""
    axis: np.ndarray
    """Real parts, and imaginary parts, of the grid, (side,)."""
    sigma: np.ndarray
    """(S, side, side): a row an imaginary part, a column a real part."""
    eigenvalues: np.ndarray
    """Complex, (S, N), the largest modulus first."""
    to_circle: np.ndarray
    """The least eps whose pseudospectrum reaches the unit circle, (S,), from points on it: never too small, but for rounding."""
    about: str = ""
    """How network and sequence came to be, under a figure's title."""

    def summary(self) -> dict:
        """A JSON object of the numbers that tell; the grid is drawn."""
        spectra = 1 - np.abs(self.eigenvalues[:, 0])
        rows = zip(self.steps.tolist(), self.to_circle.tolist(), spectra.tolist(), strict=True)
        names = ("step", "epsilon_to_circle", "spectrum_to_circle")
        return {"grid": self.sigma.shape[1:], "steps": [dict(zip(names, row, strict=True)) for row in rows]}


@torch.no_grad()
def measure_pseudospectra(
    cell: nn.Module | OwnLoop,
    x: Tensor,
    record: Spectra,
    *,
    side: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Pseudospectra:
    """The pseudospectra at the shown steps of a cell's run over x (T, m), of which `record` holds the spectra.

    The grid holds the unit circle and the numerical range of every shown step; `side` points, an odd number, by default 101,
    or 51 where the state has more than 128 entries. `progress` is called with (steps done, steps in all).
    """
    steps = shown_steps(len(x))
    A = run_of(cell, x).jacobians(steps)
    side = side or (SIDE if A.shape[-1] <= SMALL else SIDE // 2 + 1)
    half = 1.15 * max(1, float(record.numerical_radius[steps].max())) * np.linspace(0, 1, side // 2 + 1)
    axis = np.concatenate([-half[:0:-1], half])  # mirrors to the last bit: half of the points are then computed
    circle = np.exp(1j * np.linspace(0, np.pi, CIRCLE_POINTS))
    points = np.concatenate([(axis + 1j * axis[:, None]).ravel(), circle])
    found = []
    for k, one in enumerate(A):
        found.append(pseudospectrum(one, points).numpy())
        progress(k + 1, len(steps))
    sigma, on_circle = np.split(np.stack(found), [side**2], axis=1)
    grid = sigma.reshape(len(steps), side, side)
    values, to_circle = record.eigenvalues[steps], on_circle.min(1)
    return Pseudospectra(record.title, np.array(steps), axis, grid, values, to_circle, record.about)


def pseudospectra_table(found: Pseudospectra) -> str:
    """What the table of a run says of it: how small a change of a step moves an eigenvalue onto the unit circle."""
    lines = []
    for step, eps, values in zip(found.steps, found.to_circle, found.eigenvalues, strict=True):
        away = 1 - abs(values[0])
        where = f"{away:.3g} inside it" if away > 0 else f"{-away:.3g} outside"
        lines.append(
            f"step {step:<5} a change of norm {eps:.3g} puts an eigenvalue on the unit circle; the largest is {where}"
        )
    return "\n".join(["pseudospectra", *lines])


CURVES = ListedColormap(
    colormaps["viridis"](np.linspace(0, 0.8, 256))
)  # without its yellow, which white paper swallows
LEVELS = 10  # curves at the most
CHANGE = r"$\log_{10}\,\epsilon$, the norm of a change"


@our_style()
def plot_pseudospectrum(
    found: Pseudospectra, k: int, *, levels: np.ndarray | None = None, ax: Axes | None = None
) -> Axes:
    """The k-th step shown: the boundaries of its eps-pseudospectra for eps = 10^level, eigenvalues and the unit circle."""
    alone, ax = ax is None, own_axes(5.6, 5.4) if ax is None else ax
    levels = curve_levels([found]) if levels is None else levels
    with np.errstate(divide="ignore"):
        heights = np.log10(found.sigma[k])
    heights = np.maximum(heights, levels[0] - 9)  # an eigenvalue on the grid has none
    if (heights >= levels[0]).any():
        ax.contour(found.axis, found.axis, heights, levels=levels, cmap=CURVES, norm=_colours(levels), linewidths=1)
    values = found.eigenvalues[k]
    ax.plot(values.real, values.imag, ".", color=RED, markersize=4, label="eigenvalues")
    ax.plot(CIRCLE.real, CIRCLE.imag, **DASHED, linewidth=1, label="unit circle")
    limit = found.axis[-1]
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", title=f"step {found.steps[k]}")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(5))
    plain_numbers(ax)
    if alone:
        ax.set(xlabel="real part", ylabel="imaginary part")
        ax.figure.colorbar(ScalarMappable(_colours(levels), CURVES), ax=ax, ticks=levels, label=CHANGE)
        complete(ax, f"{found.title}: pseudospectra of one step", found.about)
    return ax


def curve_levels(several: Sequence[Pseudospectra]) -> np.ndarray:
    """Equally spaced logarithms of eps, of a plain step, that show most of every grid: ascending."""
    with np.errstate(divide="ignore"):
        heights = np.log10(np.concatenate([found.sigma.ravel() for found in several]))
    known = heights[np.isfinite(heights)]
    low, high = np.quantile(known, [0.01, 0.9]) if len(known) else (-1.0, 0.0)
    step = next(s for s in (0.1, 0.25, 0.5, 1, 2, 5, 10, 100) if (high - low) / s < LEVELS)
    return step * np.arange(np.ceil(low / step) - 1, np.floor(high / step) + 2)


@our_style()
def draw_pseudospectra(several: Sequence[Pseudospectra], along: str) -> Shown:
    """A row of panels a cell, a column a step, all with the same curves."""
    columns = max(len(found.steps) for found in several)
    named = told_apart([found.title for found in several], [found.about for found in several])
    figure = Shown(figsize=(max(6.0, 1.6 + 2.7 * columns), 1.4 + 2.9 * len(several)), layout="constrained")
    grid = figure.subplots(len(several), columns, squeeze=False)
    levels = curve_levels(several)
    for row, found, name in zip(grid, several, named.names, strict=True):
        for k, ax in enumerate(row[: len(found.steps)]):
            plot_pseudospectrum(found, k, levels=levels, ax=ax)
            ax.set_xlabel("real part")
        row[0].set_ylabel("\n".join(filter(None, (wrapped(name, 26, 2), "imaginary part"))))
    bar = figure.colorbar(
        ScalarMappable(_colours(levels), CURVES), ax=grid, shrink=0.8 / len(several) ** 0.5, ticks=levels
    )
    bar.set_label(CHANGE)
    legend_below(figure, grid[0, :1])
    titled_all(figure, named, f"pseudospectra of single steps on {along}")
    return laid_out(figure)


def _colours(levels: np.ndarray) -> BoundaryNorm:
    """Of the curves, each in the middle of its colour."""
    half = (levels[1] - levels[0]) / 2
    return BoundaryNorm(np.append(levels - half, levels[-1] + half), 256)
