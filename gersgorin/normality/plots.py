"""Pseudospectra drawn: curves of equal eps around the spectrum, with the unit circle that an eigenvalue must not pass."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure

from gersgorin.normality.portrait import Pseudospectra
from gersgorin.plots import CIRCLE, DASHED
from rhn.figures import RED

LEVELS = 10  # curves at the most


def plot_pseudospectrum(
    found: Pseudospectra, k: int, *, levels: np.ndarray | None = None, ax: Axes | None = None
) -> Axes:
    """The k-th step shown: the boundaries of its eps-pseudospectra for eps = 10^level, eigenvalues and the unit circle."""
    ax = ax or Figure(figsize=(4, 4)).subplots()
    levels = curve_levels([found]) if levels is None else levels
    with np.errstate(divide="ignore"):
        heights = np.log10(found.sigma[k])
    heights = np.maximum(heights, levels[0] - 9)  # an eigenvalue on the grid has none
    ax.contour(found.axis, found.axis, heights, levels=levels, cmap="viridis", norm=_colours(levels), linewidths=1)
    values = found.eigenvalues[k]
    ax.plot(values.real, values.imag, ".", color=RED, markersize=4, label="eigenvalues")
    ax.plot(CIRCLE.real, CIRCLE.imag, **DASHED, linewidth=1, label="unit circle")
    limit = found.axis[-1]
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    return ax


def curve_levels(several: Sequence[Pseudospectra]) -> np.ndarray:
    """Equally spaced logarithms of eps, of a plain step, that show most of every grid: ascending."""
    with np.errstate(divide="ignore"):
        heights = np.log10(np.concatenate([found.sigma.ravel() for found in several]))
    low, high = np.quantile(heights[np.isfinite(heights)], [0.01, 0.9])
    step = next(s for s in (0.1, 0.25, 0.5, 1, 2, 5, 10, 100) if (high - low) / s < LEVELS)
    return step * np.arange(np.ceil(low / step) - 1, np.floor(high / step) + 2)


def draw_pseudospectra(several: Sequence[Pseudospectra], along: str) -> Figure:
    """A row of panels a cell, a column a step, all with the same curves."""
    columns = len(several[0].steps)
    figure = Figure(figsize=(1.4 + 2.7 * columns, 0.9 + 2.8 * len(several)), layout="constrained")
    grid = figure.subplots(len(several), columns, squeeze=False)
    levels = curve_levels(several)
    for row, found in zip(grid, several, strict=True):
        for k, (ax, step) in enumerate(zip(row, found.steps, strict=True)):
            plot_pseudospectrum(found, k, levels=levels, ax=ax)
            ax.set(title=f"step {step}", xlabel="real part")
        title = f"{found.title}\n" if len(several) > 1 else ""
        row[0].set_ylabel(f"{title}imaginary part")
    bar = figure.colorbar(ScalarMappable(_colours(levels), "viridis"), ax=grid, shrink=0.8, ticks=levels)
    bar.set_label(r"$\log_{10}\,\epsilon$, the norm of a change")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    name = f"{several[0].title}: pseudospectra" if len(several) == 1 else "Pseudospectra"
    figure.suptitle(f"{name} of single steps on {along}", fontsize=11)
    return figure


def _colours(levels: np.ndarray) -> BoundaryNorm:
    """Of the curves, each in the middle of its colour."""
    half = (levels[1] - levels[0]) / 2
    return BoundaryNorm(np.append(levels - half, levels[-1] + half), 256)
