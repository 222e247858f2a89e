"""Draw spectra in their discs, curves over time, and the default figure of a run."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import SubFigure
from matplotlib.patches import Circle
from matplotlib.ticker import MaxNLocator

from gersgorin.linalg.outlines import discs_outline
from gersgorin.plotting.figure import (
    DASHED,
    Shown,
    Style,
    complete,
    complex_plane,
    entries,
    ink,
    laid_out,
    legend_below,
    over_time,
    own_axes,
    panel,
    plain_numbers,
    shade_style,
)
from rhn.errors import InvalidInputError
from rhn.utils.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, drawable, our_style, titled

if TYPE_CHECKING:
    from gersgorin.analyses.spectra import Spectra

Discs = tuple[np.ndarray, np.ndarray]  # centres and radii, (N,) each
RANGE_STYLE: Style = {"color": PURPLE, "linestyle": (0, (1, 1)), "linewidth": 1.4}
DISC_STYLES: dict[str, Style] = {
    "row": {"color": BLUE, "linestyle": "-"},
    "column": {"color": ORANGE, "linestyle": "--"},
}
CROWDED = 1 / 6  # of a panel's half width; a smaller spectrum is also shown enlarged


@our_style()
def plot_spectrum(
    record: "Spectra",
    step: int | None = None,
    *,
    limit: float | None = None,
    show_discs: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Draw the eigenvalues of one step, the outlines of its numerical range and of the unions of discs, and the unit circle.

    The inclusion set is shaded: the union of the discs, or with row and column discs the intersection of the two unions.

    Args:
        record: see `gersgorin.spectra`.
        step: counted from 0; None: the one with the largest spectral radius.
        limit: half the width of the panel, around 0; None: large enough for all steps.
        show_discs: draw each disc too, as a thin circle.
        ax: axes to draw into.

    Raises InvalidInputError for a step outside the run.
    """
    T = len(record.norm)
    step = largest_step(record) if step is None else step
    if not 0 <= step < T:
        raise InvalidInputError(f"step is {step}: the record has steps 0 to {T - 1}")
    alone, ax = ax is None, own_axes(4.6, 5.4) if ax is None else ax
    drawn: list[Discs] = []
    for axis, sets in record.disc_sets.items():
        (centers, radii), style = (part[step] for part in sets), DISC_STYLES[axis]
        if not np.isfinite(centers + radii).all():
            continue
        for k, polygon in enumerate(discs_outline(centers, radii, 65)):
            label = f"union of the {axis} discs" if k == 0 else None
            ax.plot(polygon.real, polygon.imag, linewidth=1.2, label=label, **style)
        named = None if drawn else "disc centres"  # equal for rows and columns
        _draw_centres(centers, ax, color=style["color"], label=named)
        if show_discs:
            _draw_discs(centers, radii, style, f"each {axis} disc", ax)
        drawn.append((centers, radii))
    _shade(drawn, ax)
    _draw_points(record, step, ax, range_label="numerical range", label=record.which_eigenvalues, zorder=4)
    complex_plane(ax, limit or spectrum_limit([record]))
    ax.set_title(f"step {step}" if alone else f"{drawable(record.title)}, step {step}")
    return complete(ax, record.heading, record.about) if alone else ax


def _draw_centres(centers: np.ndarray, ax: Axes, **style) -> None:
    """Mark the centres of discs, which are real."""
    ax.plot(centers, np.zeros_like(centers), "|", markersize=9, markeredgewidth=1.2, alpha=0.6, **style)


def _draw_points(record: "Spectra", step: int, ax: Axes, *, range_label: str | None = None, **style) -> None:
    """Draw the eigenvalues of a step and the outline of its numerical range."""
    if not record.leading:
        around = record.range_outline(step)
        ax.plot(around.real, around.imag, **RANGE_STYLE, label=range_label)
    values = record.eigenvalues[step]
    ax.plot(values.real, values.imag, ".", color=RED, markersize=4, **style)


def _shade(discs: list[Discs], ax: Axes) -> None:
    """Shade the intersection of the unions of discs."""
    if not discs:
        return
    ends = max((c - r).min() for c, r in discs), min((c + r).max() for c, r in discs)
    x = np.linspace(*ends, 1001)[:, None]
    distances = [(r, np.minimum(np.abs(x - c), r)) for c, r in discs]
    height = np.min([(np.sqrt(r - d) * np.sqrt(r + d)).max(1) for r, d in distances], axis=0)
    color = GREY if len(discs) > 1 else ax.lines[0].get_color()
    ax.fill_between(x[:, 0], -height, height, color=color, alpha=0.10, linewidth=0)


def _draw_discs(centers: np.ndarray, radii: np.ndarray, style: dict, label: str, ax: Axes) -> None:
    """Draw thin circles, fainter if there are many."""
    alpha = float(np.clip(4 / np.sqrt(len(centers)), 0.12, 0.7))
    circles = [Circle((c, 0), r) for c, r in zip(centers, radii, strict=True)]
    look = {"edgecolor": style["color"], "linestyle": style["linestyle"], "facecolor": "none", "linewidth": 0.5}
    ax.add_collection(PatchCollection(circles, alpha=alpha, **look), autolim=False)
    ax.plot([], [], **style, linewidth=0.5, alpha=max(alpha, 0.5), label=label)


def plot_crowd(record: "Spectra", step: int, beside: Axes, ax: Axes, around: tuple[float, float]) -> Axes:
    """Draw the eigenvalues and disc centres of a step enlarged; around: the window, see `crowd`."""
    width = np.ptp(beside.get_xlim()) / 2
    middle, half = around
    for axis, (centers, _) in record.disc_sets.items():
        within = np.abs(centers[step] - middle) < half
        _draw_centres(centers[step][within], ax, color=DISC_STYLES[axis]["color"])
    _draw_points(record, step, ax)
    arc = np.exp(1j * np.arcsin(min(1, half)) * np.linspace(-1, 1, 201))  # of the unit circle, as high as the window
    for side in (arc, -arc):
        ax.plot(side.real, side.imag, **DASHED | {"color": ink(ax)}, linewidth=1, zorder=5)
    ax.set(xlim=(middle - half, middle + half), ylim=(-half, half), aspect="equal")
    larger = f"{float(f'{width / half:.3g}'):,.6g} times larger"
    ax.set(xlabel="real part", ylabel="imaginary part", title=larger)
    for ruler in (ax.xaxis, ax.yaxis):
        ruler.set_major_locator(MaxNLocator(4, min_n_ticks=2))
    plain_numbers(ax)
    ax.spines[:].set(visible=True, color=GREY, linewidth=0.6)
    beside.indicate_inset_zoom(ax, edgecolor=GREY, linewidth=0.6)
    return ax


def crowd(eigenvalues: np.ndarray, limit: float) -> tuple[float, float] | None:
    """(Centre, half the width) of a square around eigenvalues that are crowded in a panel of half width `limit`; else None."""
    values = eigenvalues[np.isfinite(eigenvalues)]
    if not len(values):
        return None
    middle, spread = (values.real.max() + values.real.min()) / 2, max(np.ptp(values.real), np.ptp(values.imag)) / 2
    return (middle, 1.25 * spread) if 1e-6 * limit < spread < CROWDED * limit else None


def spectrum_limit(records: list["Spectra"]) -> float:
    """Half the width of panels that contain all discs and numerical ranges of the results, and the unit circle."""
    edges = [np.abs(c) + r for record in records for c, r in record.disc_sets.values()]
    edges += [record.numerical_radius for record in records if not record.leading]
    known = [float(edge[np.isfinite(edge)].max(initial=1)) for edge in edges]
    return 1.08 * max(1.0, *known)


@panel(8, 3.4, lambda record: record.heading, columns=3)
def plot_suggested(record: "Spectra", ax=None) -> Axes:
    """Draw properties of single steps over time: disc centres and right edges, numerical and spectral radius, mean gates."""
    T = len(record.norm)
    t = np.arange(T + 1)

    def held(values: np.ndarray) -> np.ndarray:  # each value until the next step
        return np.append(values, values[-1:])

    def band(values: np.ndarray, color: str, alpha: float, label: str) -> None:
        low, high = held(values.min(1)), held(values.max(1))
        label = f"{label} (min to max)"
        ax.fill_between(t, low, high, step="post", color=color, alpha=alpha, linewidth=0, label=label)

    def curve(values: np.ndarray, label: str, **style) -> None:
        ax.plot(t, held(values), drawstyle="steps-post", label=label, **style)

    for axis, (centers, radii) in record.disc_sets.items():
        band(centers + radii, DISC_STYLES[axis]["color"], 0.15, f"right edges of the {axis} discs")
    band(record.row_centers, BLUE, 0.45, "disc centres")
    if not record.leading:
        curve(record.numerical_radius, "numerical radius", **RANGE_STYLE)
    curve(record.spectral_radius, "spectral radius", color=RED, linewidth=1.4)
    if record.transform_gate.size:
        mean = record.transform_gate.mean(1)
        curve(mean, f"mean {record.gate_name}", color=GREEN, linewidth=1.2, linestyle="-.")
    ax.axhline(1, **DASHED | {"color": ink(ax)}, linewidth=0.8)
    ax.set_title("What single steps suggest")
    return over_time(ax, T, record.unit, "value at one step")


@panel(8, 3.4, lambda record: record.heading, columns=3)
def plot_products(record: "Spectra", ax=None, *, exponent_axis: bool = True) -> Axes:
    """Draw the products over time: ||dy[t]/dy[0]|| on a log scale and, on a second axis, the finite-time exponent."""
    draw_growth(record.log_norm_product, "y", record.unit, ax)
    ax.set_title("What the products of the steps do")
    finite = np.isfinite(record.log_norm_product)
    if exponent_axis and finite.any():
        twin = ax.twinx()
        exponent = np.where(finite, record.finite_time_exponent, np.nan)
        style = {"color": PURPLE, "linewidth": 1.2, "marker": "." if len(exponent) == 1 else None}
        twin.plot(np.arange(1, len(exponent) + 1), exponent, "--", label="finite-time exponent", **style)
        low, high = np.nanmin(np.r_[exponent, 0]), np.nanmax(np.r_[exponent, 0])
        margin = 0.06 * (high - low) or 1e-3
        twin.set(ylim=(low - margin, high + margin))
        twin.set_ylabel("exponent (1/step)", color=PURPLE)
        twin.tick_params(axis="y", colors=PURPLE)
        twin.spines["right"].set(visible=True, color=PURPLE)
    return ax


def draw_growth(log_norm: np.ndarray, state: str, unit: str, ax: Axes) -> Axes:
    """Draw the norm of d state[t] / d state[0] over time on a log scale, from its natural logarithm (T,)."""
    t, decades = np.arange(len(log_norm) + 1), np.where(np.isfinite(log_norm), log_norm, np.nan) / np.log(10)
    ax.plot(t, np.r_[0, decades], color=ink(ax), linewidth=1.4, label=f"norm of d{state}[t]/d{state}[0]")
    ax.axhline(0, **DASHED | {"color": ink(ax)}, linewidth=0.8)
    if (zero := np.isneginf(log_norm)).any():
        place, words, apart = (t[1:][zero][0], 0), "the product is zero from here", "offset points"
        ax.annotate(words, place, xytext=(0, 4), textcoords=apart, fontsize=8, color=GREY)
    return over_time(ax, len(log_norm), unit, rf"$\log_{{10}}\,\|\partial {state}_t/\partial {state}_0\|$")


def draw_layers(layers: np.ndarray, unit: str, ylabel: str, ax: Axes) -> Axes:
    """Draw one line for each layer over time, from values (T, L) of single steps."""
    T, L = layers.shape
    for k, values in enumerate(layers.T):
        marker = "." if T == 1 else None
        ax.plot(values, linewidth=1.3, marker=marker, label=f"layer {k + 1}", **shade_style(k, L))
    return over_time(ax, T - 1 or 1, unit, ylabel)


@our_style()
def draw_run(record: "Spectra") -> Shown:
    """Draw the default figure: the step of largest spectral radius in its discs, and below single steps and products over time."""
    figure, bottom = draw_step(record, (11, 4.3), record.heading)
    grid = bottom.subplots(2, 2, sharex="col", width_ratios=(1, 0.3))
    for (ax, beside), plot in zip(grid, (plot_suggested, plot_products), strict=True):
        title_at_left(plot(record, ax))
        ax.axvline(largest_step(record), color=GREY, linewidth=0.6, linestyle=":", zorder=0)  # of the panel above
        beside.set_axis_off()
        beside.legend(*entries(ax), loc="center left", bbox_to_anchor=(0, 0.5), borderaxespad=0)
    return laid_out(figure)


def title_at_left(ax: Axes, title: str | None = None) -> None:
    """Move the title of axes to the left, or replace it by another one there."""
    ax.set_title(title or ax.get_title(), loc="left")
    ax.set_title("")


def draw_step(record: "Spectra", size: tuple[float, float], title: str) -> tuple[Shown, SubFigure]:
    """Return a figure with the step of largest spectral radius, beside it its crowded eigenvalues enlarged, and the free part below.

    size: width, and height of the free part, in inches.
    """
    step, limit = largest_step(record), spectrum_limit([record])
    around = crowd(record.eigenvalues[step], limit)
    width, height = size
    figure = Shown(width, 4.7 + height)
    titled(figure, title, record.about)
    top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=(4.7, height)).flat
    ax, *larger = top.subplots(1, 2 if around else 1, squeeze=False)[0]
    radius = f"{record.spectral_radius[step]:.3g}".replace("nan", "unknown")
    plot_spectrum(record, step, limit=limit, ax=ax).set_title(f"step {step}: spectral radius {radius}, the largest")
    if around:
        plot_crowd(record, step, ax, larger[0], around).set(ylabel="", anchor="W")
        ax.set_anchor("E")
    legend_below(top, [ax], columns=8)
    return figure, bottom


def largest_step(record: "Spectra") -> int:
    """The step of largest spectral radius among those where it is known; 0 if it is nowhere."""
    return int(np.argmax(np.nan_to_num(record.spectral_radius, nan=-1)))
