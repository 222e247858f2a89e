"""The figure of `compare`: rows of complex planes with the same limits, and curves for each row.

beside                                     below, in narrow figures
+-------+-------+-------+----------+       +-------+-------+-------+
| rnn   |       |       | curves   |       | rnn   |       |       |
+-------+-------+-------+----------+       +-------+-------+-------+
| rhn 1 | rhn 3 | rhn 5 | curves   |       | rhn 1 | rhn 3 | rhn 5 |
+-------+-------+-------+----------+       +-------+-------+-------+
                                           | curves of rnn         |
                                           +-----------------------+
                                           | curves of rhn         |
                                           +-----------------------+
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure

from gersgorin.next.analyses.panels import (
    IMAGINARY,
    REAL,
    draw_discs,
    draw_inset,
    half_width,
    is_slide,
    legend_above,
    over_steps,
    width_of,
)
from rhn.utils.figures import SLIDE_HEIGHT

if TYPE_CHECKING:
    from gersgorin.next.analyses.compare import ComparedNetwork, Comparison

# inches for letters of 8 points
LEFT, CURVES = 0.7, 2.5  # labels at the left; curves with their names
LEAST, USUAL = 0.85, 1.5  # a plane: the least one beside curves; one of a row that is folded
GAP, TEXTS, LOW = 0.35, 1.3, 1.6  # between planes; title and labels; curves below planes


@dataclass(frozen=True)
class Layout:
    """The axes of a figure."""

    planes: list[Axes]
    """One for each network."""
    places: list[tuple[int, int]]
    """Row and column of each plane."""
    curves: list[Axes]
    """One for each row and panel; the panels of a row follow each other."""
    across: int
    """Number of curves side by side."""
    height: float
    """Inches of the figure, for letters of 8 points."""


def draw_grid(part: SubFigure, found: "Comparison", step: int | None, half: float | None) -> float:
    """Draw one step of each network and curves for each row; panels of one kind have the same
    limits. Returns the height of the figure in inches.
    """
    letters, panels = rcParams["font.size"] / 8, found.curve_panels
    width = width_of(part) / letters - LEFT
    side = (width - CURVES * len(panels)) / len(found.columns)
    if is_slide(part):
        side = min(side, (SLIDE_HEIGHT / letters - TEXTS) / len(found.rows) - GAP)
    wide = 0 < len(panels) < len(found.panels) and side >= LEAST
    layout = _beside(part, found, side, width) if wide else _below(part, found, width)
    draw_planes(layout, found, step, half)
    for k, ax in enumerate(layout.curves):
        row, measure = found.rows[k // len(panels)], panels[k % len(panels)]
        draw_curves(ax, {one.label: one for one in found.networks if one.row == row}, measure)
        ax.set_title(f"{row}, {measure}" if row else measure, parse_math=False)
        if k + layout.across < len(layout.curves):
            ax.set_xlabel("")
    for k in range(len(panels)):
        share_limits(layout.curves[k :: len(panels)])
    legend_above(part, layout.planes)
    return letters * layout.height


def _places(found: "Comparison", columns: int) -> list[tuple[int, int]]:
    """Row and column of the plane of each network; a single row is folded."""
    if len(found.rows) == 1:
        return [divmod(k, columns) for k in range(len(found.networks))]
    return [(found.rows.index(one.row), found.columns.index(one.column or found.columns[0]))
            for one in found.networks]  # fmt: skip


def _beside(part: SubFigure, found: "Comparison", side: float, width: float) -> Layout:
    """Planes of this side, and curves at their right."""
    R, C, K = len(found.rows), len(found.columns), len(found.curve_panels)
    side = min(side, 2 * USUAL)
    grid = part.add_gridspec(R, C + K, width_ratios=[side] * C + [(width - side * C) / K] * K)
    places = _places(found, C)
    planes = [part.add_subplot(grid[place]) for place in places]
    curves = [part.add_subplot(grid[i, C + k]) for i in range(R) for k in range(K)]
    return Layout(planes, places, curves, K, R * (side + GAP) + TEXTS)


def _below(part: SubFigure, found: "Comparison", width: float) -> Layout:
    """Planes, and curves below them; only one of both if the comparison has no other panels."""
    C, many = len(found.columns), len(found.rows) * len(found.curve_panels)
    C = C if len(found.rows) > 1 else min(C, max(1, int(width / USUAL)))
    places, side = _places(found, C), min(width / C, 2 * USUAL)
    across = max(1, min(many, int(width / CURVES)))
    R, down = 1 + max(i for i, _ in places), math.ceil(many / across)
    if len(found.panels) == len(found.curve_panels):
        places, R = [], 0
    heights = [R * (side + GAP), down * LOW]
    above, under = part.subfigures(2, 1, height_ratios=heights) if R and down else (part, part)
    grid = above.add_gridspec(max(R, 1), C)
    planes = [above.add_subplot(grid[place]) for place in places]
    grid = under.add_gridspec(max(down, 1), across)
    curves = [under.add_subplot(grid[divmod(k, across)]) for k in range(many)]
    return Layout(planes, places, curves, across, sum(heights) + TEXTS)


def draw_planes(layout: Layout, found: "Comparison", step: int | None, half: float | None) -> None:
    """Draw one step of each network; only outer panels have labels."""
    steps = [one.first.typical_step if step is None else step for one in found.networks]
    each = [(one, one.first, t) for one, t in zip(found.networks, steps, strict=True)]
    half = half or max(half_width(first, t) for _, first, t in each)
    for ax, (i, j), (one, first, t) in zip(layout.planes, layout.places, each, strict=False):
        draw_discs(ax, first, t, half)
        draw_inset(ax, first, t, half)
        column = [a for a, b in layout.places if b == j]
        first_in_row = j == min(b for a, b in layout.places if a == i)
        ax.tick_params(labelbottom=i == max(column), labelleft=first_in_row)
        ax.set_xlabel(REAL if i == max(column) else "")
        ax.set_ylabel(f"{one.row}\n{IMAGINARY}".strip() if first_in_row else "", parse_math=False)
        if len(found.rows) == 1:
            ax.set_title(one.label, parse_math=False)
        elif i == min(column):
            ax.set_title(found.columns[j], parse_math=False)


def draw_curves(ax: Axes, networks: Mapping[str, "ComparedNetwork"], measure: str) -> Axes:
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
