"""Geršgorin's discs of one Jacobian in panels of the complex plane.

    draw_discs         single row discs, unions of row and of column discs, eigenvalues, unit circle
    whole_square       the square around 0 that holds all of them
    closer_squares     the squares that show the discs, and then their eigenvalues, enlarged
    disc_squares       a square for each of several networks
    draw_spectra       the figure of `Spectra`: up to three such panels, and curves over time

A further panel is drawn if it enlarges what it holds at least `FACTOR` times. A label is given to
what is seen: lines and areas that extend over `SEEN` of the width and height of their panel, and
points inside it. Legends therefore name nothing that a reader cannot find.

Legend: N entries of a state; k eigenvalues.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import SubFigure
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import BboxBase

from gersgorin.analyses.panels import (
    CIRCLE,
    EIGENVALUES,
    IMAGINARY,
    MODULUS,
    REAL,
    SLIDE,
    STACKED,
    TIME,
    circle_points,
    draw_circle,
    figure_width,
    legend_above,
    over_steps,
    plain_ticks,
)
from gersgorin.linalg.disc_unions import discs_outline
from gersgorin.linalg.numerical_range import support_corners
from gersgorin.results import ROUNDING
from rhn.utils.figures import BLUE, GREY, ORANGE, PURPLE, RED, SKY

MOST, FEW = 64, 32  # entries up to which all discs are drawn; discs that are drawn of more entries
FACTOR = 2  # a panel that enlarges less adds nothing
SEEN = 0.05  # of the width and height of a panel
MARGIN = 1.1  # of a square: beyond all that it holds
POINTS = 129  # of each arc of an outline
LABELS, LARGEST_SIDE, HEADINGS = 0.6, 2.7, 1.3  # inches: of a panel; of all panels
ROUND = (1, 2, 3, 4, 5, 10)  # steps of ticks: a panel around 0 has at least three
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


class Square(NamedTuple):
    """A square part of the complex plane around a real number."""

    middle: float
    half: float
    """Half the width."""
    enlarged: bool = False
    """Whether it shows discs or eigenvalues larger than a square around 0 that holds all."""


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


class FewTicks(MaxNLocator):
    """At most four intervals, and fewer in a panel without room for the numbers side by side."""

    def __init__(self) -> None:
        super().__init__(4, steps=ROUND)
        numbers = FontProperties(size=rcParams["xtick.labelsize"])
        self.letter = 0.65 * numbers.get_size_in_points() / 72  # inches

    def __call__(self) -> Any:
        axis: Any = self.axis
        low, high = sorted(axis.get_view_interval())
        ticks = np.asarray(super().__call__())
        ticks = ticks[(ticks >= low) & (ticks <= high)]
        if axis is axis.axes.yaxis:
            return ticks
        width = axis.axes.bbox.width / axis.axes.figure.dpi / self.letter
        letters = 1 + max(map(len, axis.get_major_formatter().format_ticks(ticks)), default=0)
        while len(ticks) > 2 and letters > width * (ticks[1] - ticks[0]) / (high - low):
            ticks = ticks[::2]
        return ticks


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
    enlarges what it holds at least `FACTOR` times beside the square before.
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
    """The square of each of several panels: one that all have in common, or that of its own discs
    if it enlarges them at least `FACTOR` times. limit: half the width of all; None: all have room
    for the discs of each.
    """
    if limit is not None:
        return [Square(0.0, limit)] * len(each)
    common = max(map(whole_square, each))
    return [closer_squares(common, discs).get(CLOSER_DISCS, common) for discs in each]


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
        return Square(0.0, 0.0)
    return Square((low + high) / 2, MARGIN * (high - low) / 2, enlarged=True)


def _square_of_eigenvalues(values: np.ndarray) -> Square:
    """The square that holds eigenvalues; of width 0 without any."""
    if not len(values):
        return Square(0.0, 0.0)
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


def plane_points(z: np.ndarray) -> np.ndarray:
    """Complex numbers (k,) as points (k, 2)."""
    return np.column_stack([z.real, z.imag])


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


def is_seen(ax: Axes, artist: Any) -> bool:
    """Whether one can see an artist inside its panel: a point, or a line or an area that extends
    over `SEEN` of the width and of the height.
    """
    box, transform = ax.bbox, artist.get_transform()
    low, high = np.asarray(box.min), np.asarray(box.max)
    if isinstance(artist, PolyCollection):
        areas = [transform.transform_path(path) for path in artist.get_paths()]
        return _extend([area.clip_to_bbox(box) for area in areas], box)
    if isinstance(artist, LineCollection):
        lines = artist.get_paths()
        return _extend([path.cleaned(transform, clip=box.extents) for path in lines], box)
    points = transform.transform(artist.get_xydata())
    if artist.get_linestyle() == "None":
        inside = (points >= low - 0.5) & (points <= high + 0.5)  # pixels of rounding
        return bool(inside.all(1).any())
    return _extend([Path(points).cleaned(remove_nans=True, clip=box.extents)], box)


def _extend(paths: list[Path], box: BboxBase) -> bool:
    """Whether paths in pixels extend over `SEEN` of the width and of the height of a box."""
    polygons = [polygon for path in paths for polygon in path.to_polygons(closed_only=False)]
    if not polygons:
        return False
    points = np.concatenate(polygons).clip(box.min, box.max)
    width, height = np.ptp(points, axis=0) / box.size
    return bool(width >= SEEN and height >= SEEN)


def label_planes(axes: Sequence[Axes]) -> None:
    """Leave the labels of axes only at the outer panels, and the numbers too if all have the same
    limits.
    """
    limits = {(*ax.get_xlim(), *ax.get_ylim()) for ax in axes}
    for ax in axes:
        place: Any = ax.get_subplotspec()
        if len(limits) == 1:
            ax.label_outer()
        if not place.is_first_col():
            ax.set_ylabel("")
        if not place.is_last_row():
            ax.set_xlabel("")


def draw_spectra(
    part: SubFigure, found: Any, step: int, growth: Mapping[str, np.ndarray], limit: float | None
) -> float:
    """Draw one step of `Spectra`, the curves of all steps, and the growth of the product. Returns
    the height in inches. limit: half the width of the first panel; None: it holds all.
    """
    width, discs = figure_width(part), discs_of(found, step)
    first = whole_square(discs) if limit is None else Square(0.0, limit)
    squares = {f"{TIME} {step}": first, **closer_squares(first, discs)}
    across = min(len(squares), 3 if STACKED <= width <= SLIDE else 2)
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
        ax.axhline(level, color="0.6", linewidth=0.8, zorder=0)
        ax.axvline(step, color=GREY, linestyle=":", linewidth=0.8, zorder=0)
    return HEADINGS + high + low


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
