"""The figure of `compare`: rows of complex planes with the same limits, and curves for each row.

    page, column                     slide
    +-------+-------+-------+        +-------+-------+-------+---------------+
    | rnn   |       |       |        | rnn   |       |       | curves of rnn |
    +-------+-------+-------+        +-------+-------+-------+---------------+
    | rhn 1 | rhn 3 | rhn 5 |        | rhn 1 | rhn 3 | rhn 5 | curves of rhn |
    +-------+-------+-------+        +-------+-------+-------+---------------+
    | curves of rnn         |
    +-----------------------+        A single row of planes is folded.
    | curves of rhn         |
    +-----------------------+

Lengths are in inches for letters of 8 points.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure

from gersgorin.analyses.panels import (
    IM,
    RE,
    draw_discs,
    figure_width,
    folded,
    half_width,
    is_slide,
    legend_above,
    over_steps,
)
from gersgorin.analyses.step_result import GROWTH
from rhn.utils.figures import PAGE_HEIGHT

SIDES = (0.7, 1.5)  # least and largest side of a plane
GAP, TEXTS = 0.4, 1.3  # between planes with titles; title and labels
CURVES, LOW, NAME = 2.8, 0.7, 0.14  # width of curves; their height beside names; of a name


def draw_grid(part: SubFigure, found: Any, step: int | None, half: float | None) -> float:
    """Draw one step of each network and curves for each row; panels of one kind have the same
    limits. Returns the height of the figure in inches.
    """
    letters, slide, rows = rcParams["font.size"] / 8, is_slide(part), found.rows
    width, n = figure_width(part) / letters, len(found.networks)
    room = width / 2 if slide else width
    across = len(found.columns) if len(rows) > 1 else min(n, max(1, int(room / SIDES[1])))
    lines = max(len(rows), -(-n // across))
    beside = 1 if slide else min(len(rows), max(1, int(width / CURVES)))
    down = -(-len(rows) // beside)
    low = down * (
        LOW + NAME * (2 + max(sum(one.row == row for one in found.networks) for row in rows))
    )
    side = min(SIDES[1], room / across, (PAGE_HEIGHT / letters - TEXTS - low) / lines - GAP)
    high = lines * (max(side, SIDES[0]) + GAP)
    if slide:
        above, under = part.subfigures(1, 2, squeeze=False)[0]
    else:
        above, under = part.subfigures(2, 1, height_ratios=(high, low), squeeze=False)[:, 0]
    planes = above.subplots(lines, across, squeeze=False)
    drawn = draw_planes(planes, found, step, half, int(12 * side))
    curves = under.subplots(down, beside, squeeze=False)
    legend_above(part, [*drawn, *draw_all_curves(curves, found)])
    return letters * (TEXTS + high + low)


def draw_planes(
    panels: np.ndarray, found: Any, step: int | None, half: float | None, letters: int
) -> list[Axes]:
    """Draw one step of each network into panels (lines, columns); only outer panels have labels.
    letters: of a line of a title. Returns the axes that are used.
    """
    places = places_of(found, panels.shape[1])
    drawn = [panels[place] for place in places]
    shown = [(one.first, one.first.typical_step if step is None else step)
             for one in found.networks]  # fmt: skip
    half = half or max(half_width(*one) for one in shown)
    for ax in panels.flat:
        ax.set_axis_off()
    for ax, place, one, (first, t) in zip(drawn, places, found.networks, shown, strict=True):
        ax.set_axis_on()
        draw_discs(ax, first, t, half)
        ax.set_ylabel(IM if place[1] else f"{one.row}\n{IM}".strip(), parse_math=False)
        ax.set_xlabel(RE)
        ax.label_outer()
    titled, titles = drawn, [one.label for one in found.networks]
    if len(found.rows) > 1:
        titled, titles = panels[0], found.columns
    for ax, title in zip(titled, titles, strict=True):
        ax.set_title(folded(title, letters), parse_math=False)
    return drawn


def places_of(found: Any, across: int) -> list[tuple[int, int]]:
    """(Line, column) of the plane of each network; a single row is folded."""
    rows, columns, networks = found.rows, found.columns, found.networks
    if len(rows) == 1:
        return [divmod(k, across) for k in range(len(networks))]
    return [(rows.index(one.row), columns.index(one.column or columns[0])) for one in networks]


def draw_all_curves(panels: np.ndarray, found: Any) -> list[Axes]:
    """Draw the growth of each row into panels with the same limits. Returns the axes."""
    axes = list(panels.flat)
    for ax, row in zip(axes, found.rows, strict=False):
        draw_growth(ax, {one.label: one for one in found.networks if one.row == row})
        ax.set_title(folded(f"{row}, {GROWTH}" if row else GROWTH, 27), parse_math=False)
    drawn = axes[: len(found.rows)]
    for ax in axes[len(drawn) :]:
        ax.remove()
    x, y = (np.array([getattr(ax, f"get_{name}lim")() for ax in drawn]) for name in "xy")
    for ax in drawn:
        ax.set(xlim=(x.min(), x.max()), ylim=(y.min(), y.max()))
    return drawn


def draw_growth(ax: Axes, networks: Mapping[str, Any]) -> Axes:
    """Draw the growth of networks over time: the median of the runs of each, and a band from 10 to
    90 % of them.
    """
    medians = {name: one.growth(0.5) for name, one in networks.items()}
    bands = {name: (one.growth(0.1), one.growth(0.9))
             for name, one in networks.items() if len(one.steps) > 1}  # fmt: skip
    return over_steps(ax, medians, next(iter(networks.values())).first.unit, bands)
