"""Draw the spectra of a run over time, and the default figure of a run."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.ticker import MaxNLocator

from gersgorin.analyses.spectra import (
    DISC_STYLES,
    RANGE_STYLE,
    Spectra,
    draw_centres,
    draw_points,
    largest_step,
    plot_spectrum,
    spectrum_limit,
)
from gersgorin.plotting.figure import (
    DASHED,
    Shown,
    draw_growth,
    entries,
    ink,
    laid_out,
    legend_below,
    over_time,
    panel,
    plain_numbers,
)
from rhn.utils.figures import BLUE, GREEN, GREY, PURPLE, RED, our_style, titled

CROWDED = 1 / 6  # of a panel's half width; a smaller spectrum is also shown enlarged


def plot_crowd(record: Spectra, step: int, beside: Axes, ax: Axes, around: tuple[float, float]) -> Axes:
    """Draw the eigenvalues and disc centres of a step enlarged; around: the window, see `crowd`."""
    width = np.ptp(beside.get_xlim()) / 2
    middle, half = around
    for axis, (centers, _) in record.disc_sets.items():
        within = np.abs(centers[step] - middle) < half
        draw_centres(centers[step][within], ax, color=DISC_STYLES[axis]["color"])
    draw_points(record, step, ax)
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


@panel(8, 3.4, lambda record: record.heading, columns=3)
def plot_suggested(record: Spectra, ax=None) -> Axes:
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
def plot_products(record: Spectra, ax=None, *, exponent_axis: bool = True) -> Axes:
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


@our_style()
def draw_run(record: Spectra) -> Shown:
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


def draw_step(record: Spectra, size: tuple[float, float], title: str) -> tuple[Shown, SubFigure]:
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
