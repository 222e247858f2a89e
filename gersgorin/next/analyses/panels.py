"""Panels of results: curves over time with their names at their ends, and the complex plane.

    +-----------------+-----------------+
    | discs of a step | its eigenvalues |      complex plane
    +-----------------+-----------------+
    | radius, reach of the discs, norms |      each step
    +-----------------------------------+
    | log10 ||ds[t]/ds[0]||             |
    +-----------------------------------+

Colours: Okabe and Ito.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gersgorin.next.linalg.discs import discs_outline
from gersgorin.next.linalg.ranges import support_corners
from rhn.utils.tables import formatted

BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, GREY = "#CC79A7", "0.5"
COLOURS = (RED, BLUE, ORANGE, GREEN, PURPLE, "#56B4E9", "black")
LETTERS = 8.5  # points
APART = 0.09  # of a panel's height: least distance of two names
DECADES = 2  # spanned by curves above 0, from which their axis is logarithmic
REAL, IMAGINARY, TIME = "real part", "imaginary part", "time step"
DRAWN = {
    "row discs": BLUE,
    "column discs": ORANGE,
    "overlap of both": GREY,
    "numerical range": PURPLE,
    "eigenvalues": RED,
    "unit circle": "black",
}
PANEL_TEXTS = (REAL, IMAGINARY, TIME, *DRAWN)
"""The words of all panels, without the names of rows."""


def new_axes() -> Axes:
    """Return the axes of a new figure."""
    return Figure(figsize=(7.5, 4), layout="constrained").add_subplot()


def over_steps(ax: Axes, rows: Mapping[str, np.ndarray], unit: str) -> Axes:
    """Draw one curve for each row (T,) over the time steps, with its name at its end."""
    ends, every = [], [np.asarray(row, float) for row in rows.values()]
    for k, (name, row) in enumerate(zip(rows, every, strict=True)):
        colour = COLOURS[k % len(COLOURS)]
        ax.plot(np.where(np.isfinite(row), row, np.nan), color=colour, linewidth=1.3)
        ends.append((name, row, colour))
    known = np.concatenate([row[np.isfinite(row)] for row in every])
    if len(known) and known.min() > 0 and known.max() > 10**DECADES * known.min():
        ax.set_yscale("log")
    ax.set_xlabel(f"{TIME} ({unit})", fontsize=LETTERS)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.spines[["top", "right"]].set_visible(False)
    name_ends(ax, [end for end in ends if np.isfinite(end[1]).any()])
    return ax


def name_ends(ax: Axes, ends: list[tuple[str, np.ndarray, str]]) -> None:
    """Write names of curves right of the axes, at the height of their last finite value, moved
    apart as little as possible.
    """
    low, high = ax.get_ylim()
    to = math.log if ax.get_yscale() == "log" else float
    last = [to(row[np.isfinite(row)][-1]) for _, row, _ in ends]
    order = np.argsort(last)
    wanted = (np.array(last)[order] - to(low)) / (to(high) - to(low))
    least = np.arange(len(ends)) * APART
    up = np.maximum.accumulate(wanted - least) + least
    down = np.minimum.accumulate((wanted - least)[::-1])[::-1] + least
    for k, y in zip(order, (up + down) / 2, strict=True):
        name, row, colour = ends[k]
        text = f"{name} {formatted(row[np.isfinite(row)][-1], '.3g')}"
        ax.annotate(text, (1.01, y), xycoords="axes fraction", color=colour, fontsize=LETTERS,
                    va="center", annotation_clip=False)  # fmt: skip


def draw_discs(ax: Axes, found: Any, step: int, half: float | None = None) -> Axes:
    """Draw the unions of the row and column discs, the numerical range and the eigenvalues of one
    step, and the unit circle. half: half the width of the panel, around the eigenvalues; None: all.
    """
    c, values = found.centers[step], found.eigenvalues[step]
    radii = (found.row_radii[step], found.column_radii[step])
    reach = 0.0
    if np.isfinite(c).all():
        reach = max(float((np.abs(c) + r).max()) for r in radii)
        for r, colour, line in zip(radii, (BLUE, ORANGE), ("-", "--"), strict=True):
            for polygon in discs_outline(c, r, 65) if reach else ():
                ax.plot(polygon.real, polygon.imag, color=colour, linestyle=line, linewidth=1.2)
        x = np.linspace(-reach, reach, 1001)[:, None]
        heights = [np.sqrt(np.clip((r - x + c) * (r + x - c), 0, None)).max(1) for r in radii]
        low = np.minimum(*heights)
        ax.fill_between(x[:, 0], -low, low, color=GREY, alpha=0.12, linewidth=0)
    around = support_corners(found.support[step])
    ax.fill(around.real, around.imag, color=PURPLE, alpha=0.2, linewidth=0)
    circle = np.exp(1j * np.linspace(0, 2 * np.pi, 361))
    ax.plot(circle.real, circle.imag, color="black", linestyle=":", linewidth=1)
    ax.plot(values.real, values.imag, ".", color=RED, markersize=4)
    known, middle = values[np.isfinite(values)], 0.0
    if half is None:
        half = 1.1 * max(1.0, reach)
    elif len(known):
        middle = (known.real.min() + known.real.max()) / 2
    ax.set(xlim=(middle - half, middle + half), ylim=(-half, half), aspect="equal")
    ax.set_title(f"{TIME} {step}", loc="left", fontsize=10)
    ax.set_xlabel(REAL, fontsize=LETTERS)
    ax.set_ylabel(IMAGINARY, fontsize=LETTERS)
    return ax


def name_discs(ax: Axes) -> Axes:
    """Write what `draw_discs` draws right of the axes, in its colours."""
    for k, (name, colour) in enumerate(DRAWN.items()):
        ax.annotate(name, (1.03, 0.97 - 0.06 * k), xycoords="axes fraction", va="top",
                    color=colour, fontsize=LETTERS, annotation_clip=False)  # fmt: skip
    return ax


def figure_of_spectra(
    found: Any, step: int, title: str, growth: Mapping[str, np.ndarray]
) -> Figure:
    """Draw one step of `Spectra`, all its steps, and the growth of the product."""
    figure = Figure(figsize=(8.2, 9), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1, 1.1), squeeze=False)[:, 0]
    whole, near = above.subplots(1, 2)
    known = np.nan_to_num(found.eigenvalues[step])
    half = max(np.ptp(known.real) / 2, np.abs(known.imag).max()) or float(np.abs(known).max())
    draw_discs(whole, found, step)
    name_discs(draw_discs(near, found, step, 1.2 * half or 0.1))
    each, last = below.subplots(2, 1, height_ratios=(1.4, 1))
    each.axhline(1, color="0.6", zorder=0)
    over_steps(each, found.curves(), found.unit)
    over_steps(last, growth, found.unit)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    return figure
