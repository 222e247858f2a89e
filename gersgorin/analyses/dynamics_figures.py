"""The figures of Lyapunov exponents and of fixed points.

    exponents, with margins                     | means over the steps counted
    states along principal axes of the starts   | eigenvalues of all points

Legend: B states, N entries of a state, P points.
"""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.ticker import MaxNLocator

from gersgorin.analyses.panels import IMAGINARY, REAL, draw_circle, figure_width, legend_above
from rhn.utils.figures import BLUE, GREEN, ORANGE, RED

KINDS = {
    "all moduli < 1": (GREEN, "o"),
    "none > 1, some = 1": (BLUE, "s"),
    "some moduli > 1": (ORANGE, "D"),
    "all moduli > 1": (RED, "^"),
}
"""Colours and markers of points; those of slow points are hollow."""
SLOWLY, RUN, STARTED = "slow points", "run", "starts"
AXES = ("principal axis 1 of the starts", "principal axis 2 of the starts")
NUMBER, EXPONENT = "number of the exponent", "exponent (1/step)"
COUNTED, MEANS = "steps counted", "mean of the steps counted (1/step)"
FIGURE_TEXTS = (*KINDS, SLOWLY, RUN, STARTED, *AXES, NUMBER, EXPONENT, COUNTED, MEANS)


def draw_exponents_and_means(part: SubFigure, found: Any) -> float:
    """Draw `LyapunovSpectrum` and the means over the first steps. Returns the height in inches."""
    left, right = part.subplots(1, 2, sharey=True)
    draw_exponents(left, found)
    known = found.curve[:, np.isfinite(found.exponents)]
    right.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    right.plot(found.curve_steps, known, color=BLUE, linewidth=1, alpha=0.7)
    right.set(xlabel=f"{COUNTED} ({found.unit})", ylabel=MEANS)
    return 1.2 + 0.4 * figure_width(part)


def draw_exponents(ax: Axes, found: Any) -> Axes:
    """Draw the exponents against their number, with their margins."""
    known = np.isfinite(found.exponents)
    number, margins = 1 + np.flatnonzero(known), np.nan_to_num(found.margins[known])
    ax.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    ax.errorbar(number, found.exponents[known], margins, fmt="o", color=RED, markersize=3.5,
                capsize=2)  # fmt: skip
    ax.set_xlim(0.5, len(known) + 0.5)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel=NUMBER, ylabel=EXPONENT)
    return ax


def draw_states_and_eigenvalues(part: SubFigure, found: Any) -> float:
    """Draw the states and the eigenvalues of `FixedPoints`. Returns the height in inches."""
    left, right = part.subplots(1, 2)
    draw_states(left, found)
    draw_all_eigenvalues(right, found)
    legend_above(part, [left])
    return 1.6 + 0.45 * figure_width(part)


def draw_states(ax: Axes, found: Any) -> Axes:
    """Draw the points, the starts and the run along the principal axes of the starts."""
    axes, middle = principal_axes(found.starts), found.starts.mean(0)
    ax.plot(*((found.trajectory - middle) @ axes.T).T, color="0.85", linewidth=0.7, label=RUN)
    ax.plot(*((found.starts - middle) @ axes.T).T, ".", color="0.6", markersize=3, label=STARTED)
    _draw_kinds(ax, found, ((found.states - middle) @ axes.T)[:, :, None], 7)
    if found.is_slow.any():
        ax.plot([], [], "o", color="black", markerfacecolor="none", label=SLOWLY)
    ax.set_aspect("equal", adjustable="datalim")
    ax.set(xlabel=AXES[0], ylabel=AXES[1])
    return ax


def draw_all_eigenvalues(ax: Axes, found: Any) -> Axes:
    """Draw the eigenvalues of all points, and the unit circle."""
    draw_circle(ax)
    values = found.eigenvalues
    _draw_kinds(ax, found, np.stack([values.real, values.imag], 1), 6.5)
    ax.set_aspect("equal", adjustable="datalim")
    ax.set(xlabel=REAL, ylabel=IMAGINARY)
    return ax


def _draw_kinds(ax: Axes, found: Any, places: np.ndarray, size: float) -> None:
    """Draw places (P, 2, k) of the points, those of each kind in its colour."""
    every = found.unstable == found.eigenvalues.shape[1]
    kind = np.select([every, found.unstable > 0, found.neutral > 0], [3, 2, 1], 0)
    for k, (name, (colour, marker)) in enumerate(KINDS.items()):
        size -= 1  # equal eigenvalues of two kinds stay visible
        if (kind == k).any():
            ax.plot([], [], marker, color=colour, markersize=size, label=name)
        for rows, inside in ((~found.is_slow, colour), (found.is_slow, "none")):
            drawn = places[rows & (kind == k)].swapaxes(0, 1).reshape(2, -1)
            ax.plot(*drawn, marker, color=colour, markerfacecolor=inside, markersize=size)


def principal_axes(states: np.ndarray) -> np.ndarray:
    """Return the two directions (2, N) along which states (B, N) vary most; the largest
    entry of each is positive, so that figures of two runs have one orientation.

    >>> principal_axes(np.array([[0.0, 2.0], [0.0, -2.0], [1.0, 0.0], [-1.0, 0.0]]))
    array([[0., 1.],
           [1., 0.]])
    """
    N = states.shape[1]
    axes = np.linalg.svd(states - states.mean(0), full_matrices=False)[2]
    axes = np.vstack((axes, np.zeros((2, N))))[:2]
    largest = axes[np.arange(2), np.abs(axes).argmax(1)]
    return axes * np.where(largest < 0, -1.0, 1.0)[:, None] + 0.0
