"""The figure of `Spectra`: one step in up to three panels of the complex plane, each of which
enlarges the one before, and below them curves of all steps, and the growth of the product. A narrow
figure has one panel of discs, and the growth.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure

from gersgorin.analyses.complex_plane import IMAGINARY, REAL, Square
from gersgorin.analyses.disc_panels import (
    ALL_STEPS,
    IN_LEGEND,
    JacobianDiscs,
    closer_squares,
    disc_squares,
    discs_of,
    draw_discs,
    whole_square,
)
from rhn.utils.composer import SLIDE, STACKED, fitted, legend_above, legend_beside
from rhn.utils.figures import GREY, figure_width
from rhn.utils.named_curves import TIME, over_steps

MODULUS = "modulus, norm"
LABELS, LARGEST_SIDE, HEADINGS = 0.6, 2.7, 1.3  # inches: of a panel; of all panels
PLANE, CURVE = 1.8, 1.5  # relative heights of the panels in a narrow figure


def draw_spectra(
    part: SubFigure, found: Any, step: int, growth: Mapping[str, np.ndarray], limit: float | None
) -> float:
    """Draw one step of `Spectra`, the curves of all steps, and the growth of the product. Returns
    the height in inches. limit: half the width of the first panel; None: it holds all.
    """
    width, discs = figure_width(part), discs_of(found, step)
    if width < STACKED:
        (square,) = disc_squares([discs], limit)
        return _draw_narrow(part, found, discs, square, step, growth)
    first = whole_square(discs) if limit is None else Square(0.0, limit)
    squares = {f"{TIME} {step}": first, **closer_squares(first, discs)}
    across = min(len(squares), 3 if width <= SLIDE else 2)
    down = -(-len(squares) // across)
    high = down * (LABELS + min(width / across - LABELS, LARGEST_SIDE))
    low = 1.9 + 0.2 * width
    if width > SLIDE:
        planes, times = part.subfigures(1, 2, squeeze=False)[0]
    else:
        ratios = (high, low)
        planes, times = part.subfigures(2, 1, height_ratios=ratios, squeeze=False)[:, 0]
    panels = planes.subplots(down, across, squeeze=False)
    drawn = panels.ravel()[: len(squares)]
    for ax in panels.ravel()[len(squares) :]:
        ax.remove()
    _draw_squares(drawn, found, discs, squares)
    for ax in panels[:, 0]:
        ax.set_ylabel(IMAGINARY)
    legend_above(part, [*drawn], IN_LEGEND)
    each, last = times.subplots(2, 1, sharex=True)
    over_steps(each, found.curves(), found.unit, MODULUS).label_outer()
    over_steps(last, growth, found.unit, found.label)
    for ax, level in ((each, 1), (last, 0)):
        _draw_lines(ax, step, level)
    return HEADINGS + high + low


def _draw_narrow(
    part: SubFigure,
    found: Any,
    discs: JacobianDiscs,
    square: Square,
    step: int,
    growth: Mapping[str, np.ndarray],
) -> float:
    """Draw the discs with a legend beside them, and the growth. Returns the height in inches."""
    above, under = part.subfigures(2, 1, height_ratios=(PLANE, CURVE), squeeze=False)[:, 0]
    ax = above.subplots(1, 1, squeeze=False)[0]
    _draw_squares(ax, found, discs, {f"{TIME} {step}": square})
    ax[0].set_ylabel(IMAGINARY)
    legend_beside(above, [*ax], IN_LEGEND)
    last = under.add_subplot()
    over_steps(last, growth, found.unit, found.label)
    _draw_lines(last, step, 0)
    return fitted(part, 0.6 + PLANE + CURVE)


def _draw_lines(ax: Axes, step: int, level: float) -> None:
    """Draw a line at a level, and one at the step that is shown."""
    ax.axhline(level, color="0.6", linewidth=0.8, zorder=0)
    ax.axvline(step, color=GREY, linestyle=":", linewidth=0.8, zorder=0)


def _draw_squares(
    panels: np.ndarray, found: Any, discs: JacobianDiscs, squares: dict[str, Square]
) -> None:
    """Draw squares into panels, the eigenvalues of all steps in grey; a grey frame in each panel
    is the place of the next one.
    """
    every, last = found.eigenvalues.ravel(), None
    for ax, (title, square) in zip(panels, squares.items(), strict=True):
        ax.plot(every.real, every.imag, ".", color="0.8", rasterized=True, label=ALL_STEPS,
                markersize=0.7 * rcParams["lines.markersize"], zorder=0.5)  # fmt: skip
        draw_discs(ax, discs, square).set(title=title, xlabel=REAL)
        if last is not None:
            middle, half, _ = square
            place = (middle - half, -half, 2 * half, 2 * half)
            last.indicate_inset(place, edgecolor=GREY, linewidth=0.6)
        last = ax
