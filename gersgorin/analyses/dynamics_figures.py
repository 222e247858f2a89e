"""The figures of Lyapunov exponents and of fixed points.

    exponents, with margins                     | means over the steps counted
    states along principal axes of the starts   | eigenvalues of all points

Legend: B states, N entries of a state, P points.
"""

from typing import Any

import numpy as np
from matplotlib import colormaps, rcParams
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import SubFigure
from matplotlib.ticker import MaxNLocator

from gersgorin.analyses.complex_plane import EIGENVALUES, IMAGINARY, REAL, draw_circle
from rhn.utils.composer import legend_above, pair
from rhn.utils.figures import BLUE, GREEN, GREY, ORANGE, RED
from rhn.utils.named_curves import name_end

ALL_BELOW, SOME_AT = "point, all moduli < 1", "point, moduli = 1, none > 1"
SOME_ABOVE, ALL_ABOVE = "point, some moduli > 1", "point, all moduli > 1"
COLOURS_OF_EXPONENTS = colormaps["viridis"]
KINDS = {
    ALL_BELOW: (GREEN, "o"),
    SOME_AT: (BLUE, "s"),
    SOME_ABOVE: (ORANGE, "D"),
    ALL_ABOVE: (RED, "^"),
}
"""Colours and markers of points; those of slow points are hollow."""
SLOWLY, RUN, STARTED, STATES = "slow points", "states of the run", "starts", "states"
AXES = ("principal axis 1 of the starts", "principal axis 2 of the starts")
NUMBER, EXPONENT = "number of the exponent", "exponent (1/step), 95 % margin"
COUNTED, MEANS, ONE = "steps counted", "mean of the steps counted (1/step)", "exponent"
FIGURE_TEXTS = (*KINDS, SLOWLY, RUN, STARTED, STATES, *AXES, NUMBER, EXPONENT, COUNTED, MEANS, ONE)


def draw_exponents_and_means(part: SubFigure, found: Any) -> float:
    """Draw `LyapunovSpectrum` and the means over the first steps. Returns the height in inches."""
    left, right, height = pair(part)
    draw_exponents(left, found)
    known = np.flatnonzero(np.isfinite(found.exponents))
    right.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    colours = COLOURS_OF_EXPONENTS(np.linspace(0, 0.9, max(len(known), 1)))
    for k, colour in zip(known, colours, strict=False):
        right.plot(found.curve_steps, found.curve[:, k], color=colour,
                   linewidth=0.7 * rcParams["lines.linewidth"])  # fmt: skip
    for k in {*known[:1].tolist(), *known[-1:].tolist()}:
        colour = to_hex(colours[np.searchsorted(known, k)])
        name_end(right, f"{ONE} {k + 1}", float(found.exponents[k]), colour)
    right.set(xlabel=COUNTED, ylabel=MEANS)
    return height


def draw_exponents(ax: Axes, found: Any) -> Axes:
    """Draw the exponents against their number, with their margins."""
    known = np.isfinite(found.exponents)
    number = 1 + np.flatnonzero(known)
    ax.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    ax.errorbar(number, found.exponents[known], found.margins[known], fmt=".", color=RED, capsize=2)
    ax.set_xlim(0.5 - 0.03 * len(known), 0.5 + 1.03 * len(known))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.set(xlabel=NUMBER, ylabel=EXPONENT)
    return ax


def draw_states_and_eigenvalues(part: SubFigure, found: Any) -> float:
    """Draw the states and the eigenvalues of `FixedPoints`. Returns the height in inches."""
    left, right, height = pair(part)
    draw_states(left, found).set_title(STATES)
    draw_all_eigenvalues(right, found).set_title(EIGENVALUES)
    legend_above(part, [right, left])
    return height


def draw_states(ax: Axes, found: Any) -> Axes:
    """Draw the points, the starts and the run along the principal axes of the starts."""
    axes, middle = principal_axes(found.starts), found.starts.mean(0)
    ax.plot(*((found.trajectory - middle) @ axes.T).T, color="0.7", label=RUN,
            linewidth=0.6 * rcParams["lines.linewidth"])  # fmt: skip
    ax.plot(*((found.starts - middle) @ axes.T).T, ".", color=GREY, label=STARTED)
    _draw_kinds(ax, found, ((found.states - middle) @ axes.T)[:, :, None], 2)
    if found.is_slow.any():
        ax.plot([], [], "o", color="black", markerfacecolor="none", label=SLOWLY)
    ax.set_aspect("equal", adjustable="datalim")
    ax.set(xlabel=AXES[0], ylabel=AXES[1])
    return ax


def draw_all_eigenvalues(ax: Axes, found: Any) -> Axes:
    """Draw the eigenvalues of all points, and the unit circle."""
    draw_circle(ax)
    values = found.eigenvalues
    _draw_kinds(ax, found, np.stack([values.real, values.imag], 1), 1)
    ax.set_aspect("equal", adjustable="datalim")
    ax.set(xlabel=REAL, ylabel=IMAGINARY)
    return ax


def _draw_kinds(ax: Axes, found: Any, places: np.ndarray, size: float) -> None:
    """Draw places (P, 2, k) of the points, each kind in its colour; size: in usual markers."""
    size *= rcParams["lines.markersize"]
    are_known = ~np.isnan(found.eigenvalues).any(1)
    are_all_above = found.unstable == found.eigenvalues.shape[1]
    rows_of = {
        ALL_ABOVE: are_all_above,
        SOME_ABOVE: (found.unstable > 0) & ~are_all_above,
        SOME_AT: (found.unstable == 0) & (found.neutral > 0),
        ALL_BELOW: are_known & (found.unstable == 0) & (found.neutral == 0),
    }
    for name, (colour, marker) in KINDS.items():
        size *= 0.85  # equal eigenvalues of two kinds stay visible
        if rows_of[name].any():
            ax.plot([], [], marker, color=colour, markersize=size, label=name)
        for rows, inside in ((~found.is_slow, colour), (found.is_slow, "none")):
            drawn = places[rows & rows_of[name]].swapaxes(0, 1).reshape(2, -1)
            edge = colour if inside == "none" else "white"
            ax.plot(*drawn, marker, color=colour, markerfacecolor=inside, markeredgecolor=edge,
                    markersize=size, markeredgewidth=0.1 * size)  # fmt: skip


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
    return axes * np.copysign(1.0, largest)[:, None] + 0.0
