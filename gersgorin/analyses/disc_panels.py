"""Geršgorin's discs of one Jacobian in panels of the complex plane.

    draw_discs         single row discs, unions of row and of column discs, eigenvalues, unit circle
    whole_square       the square around 0 that holds all of them
    closer_squares     the squares that show the discs, and then their eigenvalues, enlarged
    disc_squares       a square for each of several networks

A further panel is drawn if what it holds covers less than half of the panel before. A label is
given to what is seen: lines and areas that extend over `SEEN` of the width and height of their
panel, and points inside it. Legends therefore name nothing that a reader cannot find.

Legend: N entries of a state; k eigenvalues.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from gersgorin.analyses.complex_plane import (
    CIRCLE,
    EIGENVALUES,
    FewTicks,
    Square,
    circle_points,
    draw_circle,
    is_seen,
    plane_points,
)
from gersgorin.growth import ROUNDING
from gersgorin.linalg.disc_unions import discs_outline
from gersgorin.linalg.numerical_range import support_corners
from rhn.utils.figures import BLUE, GREY, ORANGE, PURPLE, RED, SKY
from rhn.utils.named_curves import plain_ticks

MOST, FEW = 64, 32  # entries up to which all discs are drawn; discs that are drawn of more entries
MARGIN = 1.1  # of a square: beyond all that it holds
FACTOR = 2 / MARGIN  # of halves of squares: what covers half of a panel needs no other one
POINTS = 129  # of each arc of an outline
EMPTY = Square(0.0, 0.0)
ROW_DISCS, SOME_ROW_DISCS = "row discs", "row discs ({} largest of {})"
LARGEST = "largest row disc, its radius"
ROW_UNION, COLUMN_UNION = "union of row discs", "union of column discs"
OVERLAP, CENTRES, RANGE = "overlap of both unions", "disc centres", "numerical range"
ALL_STEPS = "eigenvalues of all steps"
CLOSER_DISCS, CLOSER_EIGENVALUES = "discs, enlarged", "eigenvalues, enlarged"
IN_LEGEND = (
    LARGEST, ROW_UNION, COLUMN_UNION, OVERLAP, CENTRES, RANGE, EIGENVALUES, ALL_STEPS, CIRCLE,
)  # fmt: skip
"""The order of a legend, after the row discs."""
DISC_TEXTS = (SOME_ROW_DISCS, ROW_DISCS, *IN_LEGEND, CLOSER_DISCS, CLOSER_EIGENVALUES)


@dataclass(frozen=True, kw_only=True)
class JacobianDiscs:
    """The discs of one Jacobian and its eigenvalues."""

    centers: np.ndarray
    """Centres, (N,), the same for rows and columns."""
    row_radii: np.ndarray
    """Radii of the row discs, (N,)."""
    eigenvalues: np.ndarray
    """(k,) complex."""
    column_radii: np.ndarray | None = None
    """Radii of the column discs, (N,)."""
    corners: np.ndarray | None = None
    """Corners of a polygon around the numerical range, complex."""

    @property
    def radii(self) -> dict[str, np.ndarray]:
        """The radii of rows, and of columns if they are known, by the labels of their unions."""
        columns = {} if self.column_radii is None else {COLUMN_UNION: self.column_radii}
        return {ROW_UNION: self.row_radii, **columns}

    @property
    def known(self) -> bool:
        """Whether all radii are finite and one of them is not 0."""
        every = np.concatenate([self.centers, *self.radii.values()])
        return bool(np.isfinite(every).all() and np.any([*self.radii.values()]))

    @property
    def drawn(self) -> np.ndarray:
        """The entries whose row discs are drawn, the largest first."""
        order = np.argsort(-self.row_radii, kind="stable")
        return order if len(order) <= MOST else order[:FEW]

    @property
    def label(self) -> str:
        """The name of the single row discs in a legend."""
        N, drawn = len(self.centers), len(self.drawn)
        return ROW_DISCS if drawn == N else SOME_ROW_DISCS.format(drawn, N)


def discs_of(found: Any, step: int) -> JacobianDiscs:
    """Return the discs of one step of `Spectra`."""
    return JacobianDiscs(
        centers=found.centers[step],
        row_radii=found.row_radii[step],
        eigenvalues=found.eigenvalues[step],
        column_radii=found.column_radii[step],
        corners=support_corners(found.support[step]),
    )


def whole_square(discs: JacobianDiscs) -> Square:
    """The square around 0 that holds the unit circle and all that is drawn."""
    reaches = [np.abs(discs.centers) + radii for radii in discs.radii.values()]
    corners = [] if discs.corners is None else [np.abs(discs.corners)]
    reach = np.concatenate([*reaches, *corners, np.abs(discs.eigenvalues)])
    return Square(0.0, MARGIN * float(reach[np.isfinite(reach)].max(initial=1)))


def closer_squares(first: Square, discs: JacobianDiscs) -> dict[str, Square]:
    """The squares by the titles of their panels: of the discs, and of their eigenvalues, each if it
    enlarges what covers less than half of the square before.
    """
    found, last = dict[str, Square](), first
    low, high = _ends_of_discs(discs)
    values = discs.eigenvalues
    inside = values[(values.real >= low) & (values.real <= high)]
    for title, square in (
        (CLOSER_DISCS, _square_of_discs(discs, low, high)),
        (CLOSER_EIGENVALUES, _square_of_eigenvalues(inside)),
    ):
        has_room = square.half > ROUNDING * abs(square.middle)
        if has_room and FACTOR * square.half <= last.half:
            found[title] = last = square
    return found


def disc_squares(each: Sequence[JacobianDiscs], limit: float | None = None) -> list[Square]:
    """The square of each of several panels: one that all have in common, or, where what it holds
    covers less than half of that, its own square around 0, or that of its discs. limit: half the
    width of all; None: all have room for the discs of each.
    """
    if limit is not None:
        return [Square(0.0, limit)] * len(each)
    common, found = max(map(whole_square, each)), list[Square]()
    for discs in each:
        own = whole_square(discs)
        first = own if FACTOR * own.half <= common.half else common
        found.append(closer_squares(first, discs).get(CLOSER_DISCS, first))
    return found


def _ends_of_discs(discs: JacobianDiscs) -> tuple[float, float]:
    """The ends of the part of the real axis that is covered by the discs connected with the largest
    row disc. As many eigenvalues as discs are inside. Without discs, the whole axis.
    """
    if not discs.known:
        return -np.inf, np.inf
    largest = np.max([*discs.radii.values()], axis=0)
    lows, highs = discs.centers - largest, discs.centers + largest
    k = discs.drawn[0]
    low, high, before = lows[k], highs[k], None
    while (low, high) != before:
        before = low, high
        touches = (lows <= high) & (highs >= low)
        low, high = lows[touches].min(), highs[touches].max()
    return float(low), float(high)


def _square_of_discs(discs: JacobianDiscs, low: float, high: float) -> Square:
    """The square that holds the discs between two real numbers; of width 0 without any."""
    if not discs.known:
        return EMPTY
    return Square((low + high) / 2, MARGIN * (high - low) / 2, enlarged=True)


def _square_of_eigenvalues(values: np.ndarray) -> Square:
    """The square that holds eigenvalues; of width 0 without any."""
    if not len(values):
        return EMPTY
    low, high = float(values.real.min()), float(values.real.max())
    half = max((high - low) / 2, float(np.abs(values.imag).max()))
    return Square((low + high) / 2, MARGIN * half, enlarged=True)


def draw_discs(ax: Axes, discs: JacobianDiscs, square: Square) -> Axes:
    """Draw discs and eigenvalues in a square of the complex plane, and name what is seen. An
    enlarged square has a grey frame.
    """
    if discs.known:
        _draw_row_discs(ax, discs)
        _draw_unions(ax, discs)
    if discs.corners is not None and np.isfinite(discs.corners).all():
        around = np.append(discs.corners, discs.corners[:1])
        ax.plot(around.real, around.imag, color=PURPLE, linestyle=(0, (1, 1)), label=RANGE)
    _draw_centres(ax, discs.centers)
    draw_circle(ax)
    values = discs.eigenvalues
    ax.plot(values.real, values.imag, ".", color=RED, label=EIGENVALUES, zorder=4)
    middle, half, enlarged = square
    ax.set(xlim=(middle - half, middle + half), ylim=(-half, half), aspect="equal")
    if enlarged:
        ax.spines[:].set(visible=True, color=GREY, linewidth=0.6)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(FewTicks())
    plain_ticks(ax)
    names = (discs.label, *IN_LEGEND)
    for artist in (*ax.lines, *ax.collections):
        if artist.get_label() in names and not is_seen(ax, artist):
            artist.set_label("_not seen")
    return ax


def _draw_row_discs(ax: Axes, discs: JacobianDiscs) -> None:
    """Draw single row discs as thin circles, and the largest one with its centre and radius."""
    drawn = discs.drawn
    circles = [circle_points(discs.centers[k], discs.row_radii[k]) for k in drawn]
    width = rcParams["lines.linewidth"]
    thin = LineCollection([plane_points(circle) for circle in circles], colors=BLUE, alpha=0.5,
                          linewidths=0.35 * width, label=discs.label, zorder=1)  # fmt: skip
    ax.add_collection(thin, autolim=False)
    c, r = discs.centers[drawn[0]], discs.row_radii[drawn[0]]
    ax.plot(*plane_points(circles[0]).T, color=SKY, linewidth=2 * width, label=LARGEST, zorder=1.5)
    ax.plot([c, c], [0, r], "o-", color=SKY, linewidth=width, markevery=[0], zorder=5,
            markerfacecolor="white", markeredgecolor=BLUE, markeredgewidth=0.6 * width,
            markersize=0.8 * rcParams["lines.markersize"])  # fmt: skip


def _draw_unions(ax: Axes, discs: JacobianDiscs) -> None:
    """Draw the outlines of the unions, and shade their overlap."""
    styles = {ROW_UNION: (BLUE, "-"), COLUMN_UNION: (ORANGE, (0, (4, 3)))}
    for name, radii in discs.radii.items():
        color, style = styles[name]
        gap = [complex(np.nan, np.nan)]
        polygons = discs_outline(discs.centers, radii, POINTS)
        path = np.concatenate([part for polygon in polygons for part in (polygon, gap)])
        ax.plot(*plane_points(path).T, color=color, linestyle=style, label=name, zorder=2)
    if discs.column_radii is None:
        return
    both = [*discs.radii.values()]
    ends = np.concatenate([discs.centers - np.max(both, 0), discs.centers + np.max(both, 0)])
    all_of_them = np.linspace(ends.min(), ends.max(), 1001)
    enlarged = np.linspace(*_ends_of_discs(discs), 1001)
    x = np.sort(np.append(all_of_them, enlarged))[:, None]
    distances = [(r, np.minimum(np.abs(x - discs.centers), r)) for r in both]
    height = np.min([(np.sqrt(r - d) * np.sqrt(r + d)).max(1) for r, d in distances], axis=0)
    ax.fill_between(x[:, 0], -height, height, color=GREY, alpha=0.12, linewidth=0,
                    label=OVERLAP, zorder=0)  # fmt: skip


def _draw_centres(ax: Axes, centers: np.ndarray) -> None:
    """Draw the centres at the lower edge."""
    ax.plot(centers, np.zeros(len(centers)), "|", color=BLUE, alpha=0.6, label=CENTRES,
            markersize=2.5 * rcParams["lines.markersize"],
            transform=ax.get_xaxis_transform())  # fmt: skip
