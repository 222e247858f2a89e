"""The figure of `compare`: rows of complex planes with the same limits, and curves for each row.

    wide                                       narrow
    +-------+-------+-------+----------+       +-------+-------+-------+
    | rnn   |       |       | curves   |       | rnn   |       |       |
    +-------+-------+-------+----------+       +-------+-------+-------+
    | rhn 1 | rhn 3 | rhn 5 | curves   |       | rhn 1 | rhn 3 | rhn 5 |
    +-------+-------+-------+----------+       +-------+-------+-------+
                                               | curves of rnn         |
                                               +-----------------------+
                                               | curves of rhn         |
                                               +-----------------------+

Lengths are in inches for letters of 8 points.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure

from gersgorin.analyses.panels import (
    IM,
    RE,
    draw_discs,
    draw_inset,
    figure_width,
    folded,
    half_width,
    is_slide,
    legend_above,
    over_steps,
)
from rhn.utils.figures import PAGE_HEIGHT, SLIDE_HEIGHT

LEFT, CURVES = 0.6, 2.5  # labels at the left; curves with their names
LEAST, SMALL, MOST = 0.85, 0.7, 1.5  # side of a plane beside curves; of any plane
GAP, TEXTS = 0.35, 1.3  # between planes with titles; title and labels
LOW, NAME = 1.2, 0.14  # height of curves; of a line of a name
LETTERS = 5.5  # of a line of a name, for each inch of the figure's width


@dataclass(frozen=True)
class Layout:
    """Places and sizes of the panels."""

    wide: bool
    """True for curves at the right of the planes, False for curves below them."""
    places: list[tuple[int, int]]
    """Line and column of the plane of each network."""
    side: float
    """Side of a plane."""
    across: int
    """Number of panels of curves side by side."""
    down: int
    """Number of lines of such panels."""
    high: float
    """Height of the planes; 0 without planes."""
    low: float
    """Height of the curves; 0 without curves."""

    @property
    def lines(self) -> int:
        """Number of lines of planes."""
        return 1 + max(line for line, _ in self.places)

    @property
    def columns(self) -> int:
        """Number of columns of planes."""
        return 1 + max(column for _, column in self.places)


def grid_of(found: Any, width: float, room: float, slide: bool) -> Layout:
    """Arrange the panels in a figure of this width, without the labels at the left, and at most
    this height, without title and labels. A single row of planes is folded.
    """
    rows, K = found.rows, len(found.curve_panels)
    planes, many = len(found.panels) > K, len(rows) * K
    wide = planes and many > 0 and (slide or width - CURVES * K >= LEAST * len(found.columns))
    beside = K if len(rows) > 1 else 1
    across = max(1, beside if wide else min(many, int(width / CURVES)))
    down = math.ceil(many / across)
    letters = LETTERS * (width + LEFT)
    names = max(
        sum(1 + (len(one.label) + 9) // letters for one in found.networks if one.row == row)
        for row in rows
    )
    low = down * max(LOW, LOW / 2 + NAME * names)
    if wide:
        width -= max(CURVES * across, width / 2 * slide)
    else:
        room -= low
    places, side, gap = _planes(found, width, room)
    lines = 1 + max(line for line, _ in places)
    side = max(SMALL, side)
    return Layout(wide, places, side, across, down, planes * lines * (side + gap), low)


def _planes(found: Any, width: float, room: float) -> tuple[list[tuple[int, int]], float, float]:
    """The places of planes, their side, and the gap between lines."""
    rows, n, columns = found.rows, len(found.networks), found.columns
    if len(rows) > 1:
        places = [(rows.index(one.row), columns.index(one.column or columns[0]))
                  for one in found.networks]  # fmt: skip
        gap = GAP / 3
        return places, min(width / len(columns), room / len(rows) - gap, MOST), gap
    sides = [(min(width / k, room / math.ceil(n / k) - GAP, MOST), k) for k in range(1, n + 1)]
    side, most = max(sides)
    return [divmod(k, most) for k in range(n)], side, GAP


def draw_grid(part: SubFigure, found: Any, step: int | None, half: float | None) -> float:
    """Draw one step of each network and curves for each row; panels of one kind have the same
    limits. Returns the height of the figure in inches.
    """
    letters, slide = rcParams["font.size"] / 8, is_slide(part)
    width, room = figure_width(part) / letters, (SLIDE_HEIGHT if slide else PAGE_HEIGHT) / letters
    layout = grid_of(found, width - LEFT, room - TEXTS, slide)
    above = under = part
    if layout.wide:
        left = LEFT + layout.side * layout.columns
        above, under = part.subfigures(1, 2, width_ratios=(left, width - left), squeeze=False)[0]
    elif layout.high and layout.low:
        ratios = (layout.high, layout.low)
        above, under = part.subfigures(2, 1, height_ratios=ratios, squeeze=False)[:, 0]
    planes = draw_planes(above, layout, found, step, half) if layout.high else []
    curves = draw_all_curves(under, layout, found) if layout.low else []
    legend_above(part, [*planes, *curves])
    high, low = layout.high, layout.low
    return letters * (TEXTS + (max(high, low) if layout.wide else high + low))


def draw_planes(
    part: SubFigure, layout: Layout, found: Any, step: int | None, half: float | None
) -> list[Axes]:
    """Draw one step of each network; only outer panels have labels. Returns their axes."""
    grid, places = part.add_gridspec(layout.lines, layout.columns), layout.places
    steps = [one.first.typical_step if step is None else step for one in found.networks]
    each = [(one, one.first, t) for one, t in zip(found.networks, steps, strict=True)]
    half = half or max(half_width(first, t) for _, first, t in each)
    letters, several, drawn = int(12 * layout.side), len(found.rows) > 1, list[Axes]()
    for place, (one, first, t) in zip(places, each, strict=True):
        ax = part.add_subplot(grid[place])
        draw_inset(draw_discs(ax, first, t, half), first, t, half)
        ax.set_title("" if several else folded(one.label, letters), parse_math=False)
        _label_outer(ax, place, places, one.row)
        drawn.append(ax)
    if several:
        tops = {place[1]: ax for place, ax in zip(places, drawn, strict=True) if place[0] == 0}
        for k, name in enumerate(found.columns):
            ax = tops.get(k) or _empty(part.add_subplot(grid[0, k]))
            ax.set_title(folded(name, letters), parse_math=False)
    return drawn


def _label_outer(ax: Axes, place: tuple[int, int], places: list[tuple[int, int]], row: str) -> None:
    """Label the lowest plane of each column, and the first one of each line."""
    lowest = place[0] == max(line for line, column in places if column == place[1])
    first = place[1] == min(column for line, column in places if line == place[0])
    ax.tick_params(labelbottom=lowest, labelleft=first)
    ax.set_xlabel(RE if lowest else "")
    ax.set_ylabel(f"{row}\n{IM}".strip() if first else "", parse_math=False)


def _empty(ax: Axes) -> Axes:
    """A square panel without axes."""
    ax.set_axis_off()
    ax.set_box_aspect(1)
    return ax


def draw_all_curves(part: SubFigure, layout: Layout, found: Any) -> list[Axes]:
    """Draw the curves of each row; panels of one measure have the same limits. Returns the axes."""
    panels, drawn, letters = found.curve_panels, list[Axes](), 22 if layout.wide else 27
    grid, many = part.add_gridspec(layout.down, layout.across), len(found.rows) * len(panels)
    for k in range(many):
        row, measure = found.rows[k // len(panels)], panels[k % len(panels)]
        ax = part.add_subplot(grid[divmod(k, layout.across)])
        draw_row_curves(ax, {one.label: one for one in found.networks if one.row == row}, measure)
        ax.tick_params(labelbottom=k + layout.across >= many)
        ax.set_xlabel(ax.get_xlabel() if k + layout.across >= many else "")
        title = f"{row}, {measure}" if row and not layout.wide else measure
        named = k < len(panels) or not layout.wide
        ax.set_title(folded(title, letters) if named else "", parse_math=False)
        drawn.append(ax)
    for k in range(len(panels)):
        share_limits(drawn[k :: len(panels)])
    return drawn


def draw_row_curves(ax: Axes, networks: Mapping[str, Any], measure: str) -> Axes:
    """Draw a measure of networks over time: the median of the runs of each, and a band from 10 to
    90 % of them.
    """
    medians = {name: one.curve(measure, 0.5) for name, one in networks.items()}
    bands = {name: (one.curve(measure, 0.1), one.curve(measure, 0.9))
             for name, one in networks.items() if len(one.steps) > 1}  # fmt: skip
    return over_steps(ax, medians, next(iter(networks.values())).first.unit, bands)


def share_limits(axes: Sequence[Axes]) -> None:
    """Give all axes the same limits, which contain those of each."""
    if any(ax.get_yscale() == "log" for ax in axes) and all(ax.dataLim.y0 > 0 for ax in axes):
        for ax in axes:
            ax.set_yscale("log")
    x, y = (np.array([getattr(ax, f"get_{name}lim")() for ax in axes]) for name in "xy")
    for ax in axes:
        ax.set(xlim=(x.min(), x.max()), ylim=(y.min(), y.max()))
