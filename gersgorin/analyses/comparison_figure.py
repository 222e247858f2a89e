"""The figure of `compare`: complex planes, and curves over time.

Planes stand in a grid of rows and columns, those of a single row or column side by side. Below
them, on a slide beside those of a grid, stands a panel of curves for each row and measure. Lengths
are in inches for letters of 8 points.
"""

import math
from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure

from gersgorin.analyses.complex_plane import IM, RE, label_planes
from gersgorin.analyses.disc_panels import (
    IN_LEGEND,
    JacobianDiscs,
    disc_squares,
    discs_of,
    draw_discs,
)
from rhn.utils.composer import SLIDE, legend_above
from rhn.utils.figures import PAGE_HEIGHT, figure_width
from rhn.utils.named_curves import folded, over_steps

LEFT, LEAST, SMALL, MOST = 0.5, 1.5, 0.4, 1.9  # labels; side of a plane beside others, of any
GAP, TEXTS = 0.4, 1.2  # between planes with titles; title and legend
NUMBERS = 0.35  # beside and below a plane
LOW, NAME = 0.6, 0.14  # height of curves beside their names; of a name


def draw_grid(
    part: SubFigure, found: Any, measures: list[str], step: int | None, half: float | None
) -> float:
    """Draw one step of each network, and measures of each row of a grid, or of all networks.
    Returns the height of the figure in inches.
    """
    groups, letters = found.groups, rcParams["font.size"] / 8
    is_grid, shows_planes = len(groups) > 1, "discs" in found.panels
    curves = [*product(groups, measures)]
    is_beside = is_grid and figure_width(part) > SLIDE
    room = figure_width(part) / letters / (2 if is_beside else 1) - LEFT
    if is_grid:
        across, lines = len(found.columns), len(groups)
    else:
        across = min(len(found.networks), max(1, int(room / LEAST)))
        lines = math.ceil(len(found.networks) / across)
    low = len(curves) * (LOW + NAME * max(map(len, groups.values()))) + GAP
    tall = (PAGE_HEIGHT / letters - TEXTS - low) / lines - GAP - NUMBERS
    side = min(MOST, room / across - NUMBERS, tall)
    high = lines * (max(side, SMALL) + GAP + NUMBERS) if shows_planes else 0.0
    above = under = part
    has_both = shows_planes and len(curves) > 0
    if has_both and is_beside:
        above, under = part.subfigures(1, 2, squeeze=False)[0]
    elif has_both:
        above, under = part.subfigures(2, 1, height_ratios=(high, low), squeeze=False)[:, 0]
    drawn = list[Axes]()
    if shows_planes:
        planes = above.subplots(lines, across, squeeze=False)
        drawn += draw_planes(planes, found, step, half, int(12 * side))
    if curves:
        axes = under.subplots(len(curves), 1, sharex=True, squeeze=False)[:, 0].tolist()
        for ax, (row, measure) in zip(axes, curves, strict=True):
            first = axes[measures.index(measure)]  # that of the first row
            if ax is not first:
                ax.sharey(first)
            draw_measure(ax, groups[row], measure)
            ax.set_title(", ".join(filter(None, (row, measure))), parse_math=False)
            ax.label_outer()
        drawn += axes
    legend_above(part, drawn, IN_LEGEND)
    return letters * (TEXTS + high + low)


def draw_planes(
    panels: np.ndarray, found: Any, step: int | None, half: float | None, letters: int
) -> list[Axes]:
    """Draw one step of each network into panels (lines, columns); only outer panels have labels.
    letters: of a line of a title. Returns the axes that are used.
    """
    groups, columns = found.groups, found.columns
    rows, is_grid = [*groups], len(groups) > 1
    each = [(row, name, one) for row, group in groups.items() for name, one in group.items()]
    discs = [_discs_shown(one.spectra, step) for _, _, one in each]
    squares = disc_squares(discs, half)
    for ax in panels.flat:
        ax.set_aspect("equal")
        ax.set_axis_off()
    for k, (row, name, one) in enumerate(each):
        if is_grid:
            place, title = (rows.index(row), columns.index(one.column or columns[0])), ""
        else:
            place, title = divmod(k, panels.shape[1]), name
        ax = panels[place]
        ax.set_axis_on()
        draw_discs(ax, discs[k], squares[k]).set_xlabel(RE)
        ax.set_title(folded(title, letters), parse_math=False)
        ax.set_ylabel(f"{row}\n{IM}".strip(), parse_math=False)
    used = [ax for ax in panels.flat if ax.axison]
    label_planes(used)
    if is_grid:
        for ax, name in zip(panels[0], columns, strict=True):
            ax.set_title(folded(name, letters), parse_math=False)
    return used


def _discs_shown(found: Any, step: int | None) -> JacobianDiscs:
    """The discs of a step of `Spectra`; None: the typical one."""
    return discs_of(found, found.typical_step if step is None else step)


def draw_measure(ax: Axes, networks: Mapping[str, Any], measure: str) -> Axes:
    """Draw a measure of networks over time: the median of the runs of each, and a band from 10 to
    90 % of them.
    """
    medians = {name: one.curve(measure, 0.5) for name, one in networks.items()}
    bands = {name: (one.curve(measure, 0.1), one.curve(measure, 0.9))
             for name, one in networks.items() if len(one.steps) > 1}  # fmt: skip
    return over_steps(ax, medians, next(iter(networks.values())).summarised.unit, bands=bands)
