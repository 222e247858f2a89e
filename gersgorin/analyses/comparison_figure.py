"""The figure of `compare`: complex planes, and curves over time.

Planes stand in a grid of rows and columns, those of a single row or column side by side. Below
them, on a slide beside those of a grid, stands a panel of curves for each row and measure. Lengths
are in inches for letters of 8 points.
"""

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure

from gersgorin.analyses.complex_plane import IM, RE, label_planes
from gersgorin.analyses.disc_panels import IN_LEGEND, disc_squares, discs_of, draw_discs
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
    grid, many = len(groups) > 1, len(groups) * len(measures)
    beside = figure_width(part) > SLIDE and grid
    room = figure_width(part) / letters / (2 if beside else 1) - LEFT
    across = len(found.columns) if grid else min(len(found.networks), max(1, int(room / LEAST)))
    lines = len(groups) if grid else -(-len(found.networks) // across)
    low = many * (LOW + NAME * max(map(len, groups.values()))) + GAP
    tall = (PAGE_HEIGHT / letters - TEXTS - low) / lines - GAP - NUMBERS
    side = min(MOST, room / across - NUMBERS, tall)
    high = lines * (max(side, SMALL) + GAP + NUMBERS) if len(found.panels) > len(measures) else 0.0
    above = under = part
    if high and many and beside:
        above, under = part.subfigures(1, 2, squeeze=False)[0]
    elif high and many:
        above, under = part.subfigures(2, 1, height_ratios=(high, low), squeeze=False)[:, 0]
    drawn = list[Axes]()
    if high:
        planes = above.subplots(lines, across, squeeze=False)
        drawn += draw_planes(planes, found, step, half, int(12 * side))
    if many:
        drawn += under.subplots(many, 1, sharex=True, squeeze=False)[:, 0].tolist()
    for k, (row, measure) in enumerate(product(groups, measures)):
        ax, first = drawn[k - many], drawn[k % len(measures) - many]
        if ax is not first:
            ax.sharey(first)
        draw_measure(ax, groups[row], measure)
        ax.set_title(", ".join(filter(None, (row, measure))), parse_math=False)
        ax.label_outer()
    legend_above(part, drawn, IN_LEGEND)
    return letters * (TEXTS + high + low)


def draw_planes(
    panels: np.ndarray, found: Any, step: int | None, half: float | None, letters: int
) -> list[Axes]:
    """Draw one step of each network into panels (lines, columns); only outer panels have labels.
    letters: of a line of a title. Returns the axes that are used.
    """
    groups, columns = found.groups, found.columns
    each = [(row, *named) for row, group in groups.items() for named in group.items()]
    steps = [one.first.typical_step if step is None else step for *_, one in each]
    discs = [discs_of(one.first, t) for (*_, one), t in zip(each, steps, strict=True)]
    squares = disc_squares(discs, half)
    for ax in panels.flat:
        ax.set_aspect("equal")
        ax.set_axis_off()
    for k, (row, name, one) in enumerate(each):
        place, top = divmod(k, panels.shape[1]), name
        if len(groups) > 1:
            place, top = ([*groups].index(row), columns.index(one.column or columns[0])), ""
        ax = panels[place]
        ax.set_axis_on()
        draw_discs(ax, discs[k], squares[k]).set_xlabel(RE)
        ax.set_title(folded(top, letters), parse_math=False)
        ax.set_ylabel(f"{row}\n{IM}".strip(), parse_math=False)
    used = [ax for ax in panels.flat if ax.axison]
    label_planes(used)
    for ax, name in zip(panels[0], columns if len(groups) > 1 else (), strict=False):
        ax.set_title(folded(name, letters), parse_math=False)
    return used


def draw_measure(ax: Axes, networks: Mapping[str, Any], measure: str) -> Axes:
    """Draw a measure of networks over time: the median of the runs of each, and a band from 10 to
    90 % of them.
    """
    medians = {name: one.curve(measure, 0.5) for name, one in networks.items()}
    bands = {name: (one.curve(measure, 0.1), one.curve(measure, 0.9))
             for name, one in networks.items() if len(one.steps) > 1}  # fmt: skip
    return over_steps(ax, medians, next(iter(networks.values())).first.unit, bands=bands)
