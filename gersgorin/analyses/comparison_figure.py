"""The figure of `compare`: complex planes, and curves over time.

Planes stand in a grid of rows and columns, those of a single row or column side by side. Below
them, in a wide figure beside those of a grid, stands a panel of curves for each row and measure.
The panels of a measure have common limits if each covers half of these. A name has the colour of
its curves. Lengths are in inches for letters of 8 points.
"""

import math
from collections.abc import Mapping
from itertools import product
from typing import Any, NamedTuple

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
from rhn.utils.composer import STACKED, legend_above
from rhn.utils.figures import PAGE_HEIGHT, figure_width
from rhn.utils.named_curves import colours_of, folded, over_steps

LEFT, LEAST, SMALL, MOST = 0.5, 1.5, 0.4, 1.9  # labels; side of a plane beside others, of any
TITLES, TEXTS = 0.4, 1.2  # of planes; title and legend of the figure
NUMBERS, GAP = 0.35, 0.1  # beside and below a plane; between planes of a grid
LOW, NAME = 0.6, 0.14  # height of curves beside their names; of a name
BESIDE = 0.36  # of the width: curves beside planes


def draw_grid(
    part: SubFigure, found: Any, measures: list[str], step: int | None, half: float | None
) -> float:
    """Draw one step of each network, and measures of each row of a grid, or of all networks.
    Returns the height of the figure in inches.
    """
    size = _sizes(found, measures, figure_width(part))
    above = under = part
    shows_planes = size.high > 0
    has_both = shows_planes and len(measures) > 0
    if has_both and size.is_beside:
        widths = (1 - BESIDE, BESIDE)
        above, under = part.subfigures(1, 2, width_ratios=widths, squeeze=False)[0]
    elif has_both:
        ratios = (size.high, size.low)
        above, under = part.subfigures(2, 1, height_ratios=ratios, squeeze=False)[:, 0]
    drawn, colours = list[Axes](), colours_of_networks(found)
    if shows_planes:
        planes = above.subplots(size.lines, size.across, squeeze=False)
        drawn += draw_planes(planes, found, step, half, int(12 * size.side))
    if has_both:
        _colour_titles(drawn, colours)
    if measures:
        drawn += _draw_curves(under, found, measures, colours)
    legend_above(part, drawn, IN_LEGEND)
    return size.height


class _Sizes(NamedTuple):
    """The panels of a figure. Lengths are in inches for letters of 8 points, but the height."""

    is_beside: bool
    """Whether curves stand beside planes."""
    lines: int
    """Of planes."""
    across: int
    """Planes in a line."""
    side: float
    """Of a plane."""
    high: float
    """Height of all planes; 0 without any."""
    low: float
    """Height of all curves."""
    height: float
    """Height of the figure in inches."""


def _sizes(found: Any, measures: list[str], width: float) -> _Sizes:
    """Return the sizes of the panels in a figure of a width in inches."""
    groups, letters = found.groups, rcParams["font.size"] / 8
    is_grid = len(groups) > 1
    is_beside = is_grid and width >= STACKED and len(measures) > 0
    share = 1 - BESIDE if is_beside else 1.0
    room = share * width / letters - LEFT
    if is_grid:
        across, lines = len(found.columns), len(groups)
        between, heads = NUMBERS + GAP, TITLES
    else:
        across = min(len(found.networks), max(1, int(room / LEAST)))
        lines = math.ceil(len(found.networks) / across)
        between, heads = NUMBERS + TITLES, 0.0
    names = max(map(len, groups.values()))
    low = len(groups) * len(measures) * (LOW + NAME * names) + TITLES
    left = PAGE_HEIGHT / letters - TEXTS - heads - (0.0 if is_beside else low)
    side = max(SMALL, min(MOST, room / across - NUMBERS, left / lines - between))
    high = lines * (side + between) + heads if "discs" in found.panels else 0.0
    tall = max(high, low) if is_beside else high + low
    return _Sizes(
        is_beside=is_beside,
        lines=lines,
        across=across,
        side=side,
        high=high,
        low=low,
        height=letters * (TEXTS + tall),
    )


def colours_of_networks(found: Any) -> dict[str, str]:
    """Return the colour of each name of a curve, by its column in a grid, or by its place."""
    groups = found.groups
    names = found.columns if len(groups) > 1 else [*groups[""]]
    return colours_of([*dict.fromkeys([*names, *(n for group in groups.values() for n in group)])])


def _colour_titles(planes: list[Axes], colours: Mapping[str, str]) -> None:
    """Give the titles of planes the colours of their curves."""
    for ax in planes:
        title = ax.get_title("left")
        ax.set_title(title, color=colours.get(title.replace("\n", " "), "black"))


def _draw_curves(
    part: SubFigure, found: Any, measures: list[str], colours: Mapping[str, str]
) -> list[Axes]:
    """Draw measures of each row of a grid, or of all networks, in panels one above the other."""
    curves = [*product(found.groups.items(), measures)]
    axes = part.subplots(len(curves), 1, sharex=True, squeeze=False)[:, 0].tolist()
    for ax, ((row, group), measure) in zip(axes, curves, strict=True):
        draw_measure(ax, group, measure, colours)
        ax.set_title(", ".join(filter(None, (row, measure))), parse_math=False)
        ax.label_outer()
    for k in range(len(measures)):
        _share_limits(axes[k :: len(measures)])
    return axes


def _share_limits(axes: list[Axes]) -> None:
    """Give panels common limits if the numbers of each cover half of these."""
    ends = np.array([ax.dataLim.intervaly for ax in axes])
    common = ends.max() - ends.min()
    if (2 * np.ptp(ends, axis=1) >= common).all():
        for ax in axes[1:]:
            ax.sharey(axes[0])


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


def draw_measure(
    ax: Axes,
    networks: Mapping[str, Any],
    measure: str,
    colours: Mapping[str, str] | None = None,
) -> Axes:
    """Draw a measure of networks over time: the median of the runs of each, and a band from 10 to
    90 % of them.
    """
    medians = {name: one.curve(measure, 0.5) for name, one in networks.items()}
    bands = {name: (one.curve(measure, 0.1), one.curve(measure, 0.9))
             for name, one in networks.items() if len(one.steps) > 1}  # fmt: skip
    units = dict.fromkeys(one.summarised.unit for one in networks.values())
    return over_steps(ax, medians, ", ".join(units), bands=bands, colours=colours)
