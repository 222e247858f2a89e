"""Panels of the complex plane: the unit circle, squares around real numbers, ticks and labels, and
whether a reader can see what is drawn.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import BboxBase

REAL, IMAGINARY, RE, IM = "real part", "imaginary part", "Re", "Im"
EIGENVALUES, CIRCLE = "eigenvalues", "unit circle"
PLANE_TEXTS = (REAL, IMAGINARY, RE, IM, EIGENVALUES, CIRCLE)
SEEN = 0.05  # of the width and height of a panel
ROUND = (1, 2, 3, 4, 5, 10)  # steps of ticks: a panel around 0 has at least three
NEAR = np.geomspace(1e-9, 0.1, 60)  # angles between a point of a circle and the real axis
UPPER_ANGLES = np.sort(np.concatenate([np.linspace(0, np.pi, 91), NEAR, np.pi - NEAR]))


class Square(NamedTuple):
    """A square part of the complex plane around a real number."""

    middle: float
    half: float
    """Half the width."""
    enlarged: bool = False
    """Whether it shows discs or eigenvalues larger than a square around 0 that holds all."""


def circle_points(center: float, radius: float) -> np.ndarray:
    """Points around a circle. They lie close together where the circle meets the real axis, so that
    it is round in any panel around a real number.
    """
    upper = radius * np.exp(1j * UPPER_ANGLES)
    return center + np.concatenate([upper, upper[::-1].conj()])


def draw_circle(ax: Axes) -> None:
    """Draw the unit circle."""
    circle = circle_points(0, 1)
    ax.plot(circle.real, circle.imag, color="black", linestyle=(0, (4, 3)), label=CIRCLE,
            linewidth=0.7 * rcParams["lines.linewidth"])  # fmt: skip


def plane_points(z: np.ndarray) -> np.ndarray:
    """Complex numbers (k,) as points (k, 2)."""
    return np.column_stack([z.real, z.imag])


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
        while len(ticks) > 1 and letters > width * (ticks[1] - ticks[0]) / (high - low):
            ticks = ticks[::2]
        return ticks


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
