"""The figure of `Recording`: planes of several measurements, and curves of what was measured over
the optimiser steps.

A page has four planes, and below them a panel for each measure that is known, two in a line. A
slide has four of these panels; a column has two planes, and the spectral radius.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure

from gersgorin.analyses.complex_plane import IMAGINARY, REAL, Square, label_planes
from gersgorin.analyses.disc_panels import (
    IN_LEGEND,
    JacobianDiscs,
    disc_squares,
    draw_discs,
    whole_square,
)
from rhn.utils.composer import SLIDE, STACKED, fitted, legend_above
from rhn.utils.figures import figure_width
from rhn.utils.named_curves import cut_above, over_steps

# shares of the width: heights of the planes, of a line of panels, of a name of a curve, of what a
# panel has beside names
PLANES, LINE, NAME, BESIDE = 0.3, 0.17, 0.022, 0.088
AROUND = 0.8  # inches: title and legend
NARROW = (1.9, 1.3)  # relative heights in a column: planes, curve
Panel = tuple[str, Mapping[str, np.ndarray]]
"""The title of a panel, and its curves by name."""


def draw_recording(part: SubFigure, found: Any) -> float:
    """Draw the planes and curves of a recording. Returns the height in inches."""
    width, panels = figure_width(part), [*found.panels().items()]
    if width < STACKED:
        above, below = part.subfigures(2, 1, height_ratios=NARROW, squeeze=False)[:, 0]
        draw_moments(above, found, sorted({found.shown[0], found.shown[-1]}))
        found.plot(below.add_subplot())
        return fitted(part, sum(NARROW) + AROUND)
    if width > SLIDE:
        panels = [panel for panel in panels if panel[0] in found.on_slides]
    lines = [panels[k : k + 2] for k in range(0, len(panels), 2)]
    lows = [width * _height(line) for line in lines]
    high = width * PLANES
    if not lines:
        draw_moments(part, found, found.shown)
        return high + AROUND
    above, below = part.subfigures(2, 1, height_ratios=(high, sum(lows)), squeeze=False)[:, 0]
    draw_moments(above, found, found.shown)
    rows = below.subfigures(len(lines), 1, height_ratios=lows, squeeze=False)[:, 0]
    for row, line in zip(rows, lines, strict=True):
        _draw_line(row, found, line)
    return high + sum(lows) + AROUND


def _height(line: Sequence[Panel]) -> float:
    """The height of a line of panels with room for the names of their curves, over the width."""
    most = max(len(curves) for _, curves in line)
    return max(LINE, NAME * most + BESIDE)


def _draw_line(part: SubFigure, found: Any, line: Sequence[Panel]) -> None:
    """Draw one or two panels of curves side by side."""
    axes = part.subplots(1, 2, squeeze=False)[0]
    for ax, (title, curves) in zip(axes, line, strict=False):
        draw_over_training(ax, found, title, curves)
    for ax in axes[len(line) :]:
        ax.remove()


def draw_moments(part: SubFigure, found: Any, moments: Sequence[int] | np.ndarray) -> None:
    """Draw the discs of several measurements side by side."""
    axes = [*part.subplots(1, len(moments), squeeze=False)[0]]
    squares = disc_squares([discs_of_moment(found, moment) for moment in moments])
    for ax, moment, square in zip(axes, moments, squares, strict=True):
        draw_moment(ax, found, moment, square)
    label_planes(axes)
    legend_above(part, axes, IN_LEGEND)


def discs_of_moment(found: Any, moment: int) -> JacobianDiscs:
    """The discs of one measurement."""
    return JacobianDiscs(
        centers=found.centers[moment],
        row_radii=found.radii[moment],
        eigenvalues=found.eigenvalues[moment],
    )


def common_square(found: Any) -> Square:
    """The square around 0 that holds the discs of all measurements."""
    return max(whole_square(discs_of_moment(found, k)) for k in range(len(found)))


def draw_moment(ax: Axes, found: Any, moment: int, square: Square) -> Axes:
    """Draw the discs of one measurement in a square of the complex plane."""
    draw_discs(ax, discs_of_moment(found, moment), square)
    ax.set(xlabel=REAL, ylabel=IMAGINARY)
    ax.set_title(f"{found.item} {found.step[moment]}", loc="left")
    return ax


def draw_over_training(ax: Axes, found: Any, title: str, curves: Mapping[str, np.ndarray]) -> Axes:
    """Draw curves over the optimiser steps, with their names at their ends."""
    over_steps(ax, curves, "")
    later = np.concatenate([curve[1:] for curve in curves.values()])
    later = later[np.isfinite(later)]
    if title == found.cut and len(later):  # the first one may be far above
        cut_above(ax, found.step[0], found.loss[0], later)
    for line in ax.lines:
        line.set(xdata=found.step, marker=".", markersize=3)
    ax.set(xlabel=found.item, xlim=(found.step[0], max(found.step[-1], found.step[0] + 1)))
    ax.set_title(title, loc="left")
    return ax
