"""Pseudospectra drawn: curves of equal eps around the spectrum, with the unit circle that an eigenvalue must not pass."""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.ticker import MaxNLocator

from gersgorin.looks import complete, legend_below, titled_all, told_apart, wrapped
from gersgorin.normality.portrait import Pseudospectra
from gersgorin.plots import CIRCLE, DASHED
from gersgorin.shown import Shown, laid_out, own_axes, plain_numbers
from rhn.figures import RED, our_style

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
