"""Figures from records, without torch: spectra in their discs, and over time what the discs suggest beside what the products do.

Every `plot_*` draws into the axes it is given and returns them. Line styles and markers differ where colours do.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gersgorin._outline import discs_outline
from gersgorin.record import SpectrumRecord, shown_steps
from rhn.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, our_style
from rhn.files import atomic_path

CIRCLE = np.exp(1j * np.linspace(0, 2 * np.pi, 181))
DASHED = {"color": "black", "linestyle": (0, (4, 3))}
FRAMES_PER_SECOND = 6  # of an animation
RANGE_STYLE = {"color": PURPLE, "linestyle": (0, (1, 1)), "linewidth": 1.4}
DISC_STYLES = {"row": {"color": BLUE, "linestyle": "-"}, "column": {"color": ORANGE, "linestyle": "--"}}


def plot_spectrum(record: SpectrumRecord, step: int, *, limit: float | None = None, ax: Axes | None = None) -> Axes:
    """Eigenvalues of one step, the outlines of its numerical range and of the unions of the record's discs, and the unit circle.

    Where the spectrum can be is shaded: the union of the discs, or for a record of both the intersection of the two unions.
    """
    ax = ax or Figure(figsize=(4, 4)).subplots()
    limit = limit or spectrum_limit([record])
    x, heights = np.linspace(-limit, limit, 1001), []
    for axis, sets in record.disc_sets.items():
        (centers, radii), style = (part[step] for part in sets), DISC_STYLES[axis]
        for k, polygon in enumerate(discs_outline(centers, radii, 65)):
            label = f"union of the {axis} discs" if k == 0 else None
            ax.plot(polygon.real, polygon.imag, linewidth=1.2, label=label, **style)
        ax.plot(centers, np.zeros_like(centers), "|", color=style["color"], markersize=5, alpha=0.6)
        heights.append(np.sqrt(np.clip(radii**2 - (x[:, None] - centers) ** 2, 0, None).max(1)))
    height = np.min(heights, axis=0)
    color = style["color"] if len(heights) == 1 else GREY
    ax.fill_between(x, -height, height, color=color, alpha=0.10, linewidth=0)
    if not record.leading:
        around = record.range_outline(step)
        ax.plot(around.real, around.imag, **RANGE_STYLE, label="numerical range")
    values = record.eigenvalues[step]
    ax.plot(values.real, values.imag, ".", color=RED, markersize=4, label=record.which_eigenvalues, zorder=4)
    ax.plot(CIRCLE.real, CIRCLE.imag, **DASHED, linewidth=1, label="unit circle", zorder=3)
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    return ax


def magnify_spectrum(record: SpectrumRecord, step: int, ax: Axes) -> None:
    """A crowd of eigenvalues too small to be seen gets a magnifying glass in the panel's upper left corner."""
    values = record.eigenvalues[step]
    values = values[~np.isnan(values)]
    if not len(values):
        return
    middle, spread = (values.real.max() + values.real.min()) / 2, max(np.ptp(values.real), np.ptp(values.imag)) / 2
    width = np.ptp(ax.get_xlim()) / 2
    if spread > width / 6 or spread < 1e-6 * width:
        return
    glass = ax.inset_axes((0.02, 0.62, 0.36, 0.36))
    around = record.range_outline(step)
    glass.plot(around.real, around.imag, **RANGE_STYLE)
    glass.plot(values.real, values.imag, ".", color=RED, markersize=3)
    half = 1.25 * spread
    glass.set(xlim=(middle - half, middle + half), ylim=(-half, half), xticks=[], yticks=[], aspect="equal")
    glass.set_title(f"x{width / half:.0f}", fontsize=7, pad=1)
    for spine in glass.spines.values():
        spine.set(visible=True, color=GREY, linewidth=0.6)
    ax.indicate_inset_zoom(glass, edgecolor=GREY, linewidth=0.6)


def spectrum_limit(records: list[SpectrumRecord]) -> float:
    """Half the width of panels that show every disc and numerical range of the records, and the unit circle, at one scale."""
    edges = [1.0, *(float(record.numerical_radius.max()) for record in records if not record.leading)]
    edges += [float((np.abs(c) + r).max()) for record in records for c, r in record.disc_sets.values()]
    return 1.08 * max(edges)


def plot_suggested(record: SpectrumRecord, ax: Axes | None = None) -> Axes:
    """Over time, what one step's discs suggest: disc centres and right edges, numerical and spectral radius, mean transform gates."""
    ax = ax or Figure(figsize=(8, 2.5)).subplots()
    T = len(record.norm)
    t = np.arange(T + 1)

    def held(values: np.ndarray) -> np.ndarray:  # at the T + 1 ends of the steps: each until the next
        return np.append(values, values[-1:])

    def band(values: np.ndarray, color: str, alpha: float, label: str) -> None:
        low, high = held(values.min(1)), held(values.max(1))
        ax.fill_between(t, low, high, step="post", color=color, alpha=alpha, linewidth=0, label=label)

    def curve(values: np.ndarray, **style) -> None:
        ax.plot(t, held(values), drawstyle="steps-post", **style)

    for axis, (centers, radii) in record.disc_sets.items():
        band(centers + radii, DISC_STYLES[axis]["color"], 0.15, f"right edges of the {axis} discs")
    band(record.row_centers, BLUE, 0.45, "disc centres")
    if not record.leading:
        curve(record.numerical_radius, **RANGE_STYLE, label="numerical radius")
    curve(record.spectral_radius, color=RED, linewidth=1.4, label="spectral radius")
    if record.transform_gate.size:
        curve(record.transform_gate.mean(1), color=GREEN, linewidth=1.2, linestyle="-.", label="mean transform gate")
    ax.axhline(1, **DASHED, linewidth=0.8)
    ax.set(xlim=(0, T), ylabel="value at one step")
    return ax


def plot_products(record: SpectrumRecord, ax: Axes | None = None, *, exponent_axis: bool = True) -> Axes:
    """Over time, what the products do: ||dy[t]/dy[0]|| on a log scale and, on a second axis, the finite-time exponent."""
    ax = ax or Figure(figsize=(8, 2.5)).subplots()
    t, finite = np.arange(1, len(record.norm) + 1), np.isfinite(record.log_norm_product)
    decades = np.where(finite, record.log_norm_product, np.nan) / np.log(10)
    ax.plot(np.r_[0, t], np.r_[0, decades], color="black", linewidth=1.4, label="norm of dy[t]/dy[0]")
    ax.axhline(0, **DASHED, linewidth=0.8)
    ax.set(xlim=(0, len(t)), xlabel=record.time_label, ylabel=r"$\log_{10}\,\|\partial y_t/\partial y_0\|$")
    if not finite.all():
        place = {"xy": (t[~finite][0], 0), "xytext": (0, 4), "textcoords": "offset points"}
        ax.annotate("the product is zero from here", **place, fontsize=8, color=GREY)
    if exponent_axis and finite.any():
        twin = ax.twinx()
        exponent = np.where(finite, record.finite_time_exponent, np.nan)
        dot = "." if len(t) == 1 else None
        twin.plot(t, exponent, "--", color=PURPLE, linewidth=1.2, marker=dot, label="finite-time exponent")
        low, high = np.nanmin(np.r_[exponent, 0]), np.nanmax(np.r_[exponent, 0])
        margin = 0.06 * (high - low) or 1e-3
        twin.set(ylim=(low - margin, high + margin))
        twin.set_ylabel("exponent (1/step)", color=PURPLE)
        twin.tick_params(axis="y", colors=PURPLE)
        twin.spines["right"].set(visible=True, color=PURPLE)
    return ax


def draw_run(record: SpectrumRecord) -> Figure:
    """The default figure: spectra in their discs at a few steps of the run, and under them both stories on one time axis."""
    steps = shown_steps(len(record.norm))
    figure = Figure(figsize=(11, 7.6), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(1.0, 1.15))
    panels = np.atleast_1d(top.subplots(1, len(steps), sharex=True, sharey=True))
    limit = spectrum_limit([record])
    for ax, step in zip(panels, steps, strict=True):
        plot_spectrum(record, step, limit=limit, ax=ax)
        magnify_spectrum(record, step, ax)
        ax.set(title=f"step {step}", xlabel="real part")
    panels[0].set_ylabel("imaginary part")
    handles, labels = panels[0].get_legend_handles_labels()
    top.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    figure.get_layout_engine().set(h_pad=0.08)  # inches, around each panel
    top.suptitle(record.heading, fontsize=11)
    upper, lower = bottom.subplots(2, 1, sharex=True)
    plot_suggested(record, upper).set_title("What single steps suggest", loc="left")
    plot_products(record, lower).set_title("What the products of the steps do", loc="left")
    for ax in (upper, lower):
        for step in steps:  # where the panels above were taken
            ax.axvline(step, color=GREY, linewidth=0.6, linestyle=":", zorder=0)
        legend_right(ax)
    return figure


@our_style()
def save_animation(record: SpectrumRecord, path: Path, *, progress=lambda done, total: None) -> Path:
    """Draw every step of the record into a .gif or .mp4; atomic. Raises OutputError where it cannot be written."""
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.25))
    ax, (upper, lower) = left.subplots(), right.subplots(2, 1, sharex=True)
    limit, T = spectrum_limit([record]), len(record.norm)
    plot_suggested(record, upper)
    plot_products(record, lower, exponent_axis=False)
    now = [a.axvline(0, color="black", linewidth=1) for a in (upper, lower)]

    def draw(step: int):
        ax.clear()
        plot_spectrum(record, step, limit=limit, ax=ax).set_title(f"{record.title}, {record.chorale}, step {step}")
        for line in now:
            line.set_xdata([step, step])

    return write_animation(figure, draw, T, path, progress=progress)


def write_animation(figure: Figure, draw: Callable[[int], None], frames: int, path: Path, *, progress) -> Path:
    """Write draw(0), ..., draw(frames - 1), which change the figure, into a .gif or .mp4; atomic. Raises OutputError."""
    from matplotlib.animation import FFMpegWriter, FuncAnimation, PillowWriter  # only few need them

    moving = FuncAnimation(figure, draw, frames=frames)
    writer = (FFMpegWriter if path.suffix == ".mp4" else PillowWriter)(fps=FRAMES_PER_SECOND)
    with atomic_path(path) as temporary:
        moving.save(str(temporary), writer=writer, dpi=90, progress_callback=progress)
    return path


def legend_right(ax: Axes) -> None:
    """One legend beside the axes, for them and for a second axis drawn over them."""
    shared = [a for a in ax.figure.axes if a.bbox.bounds == ax.bbox.bounds] or [ax]
    pairs = [pair for a in shared for pair in zip(*a.get_legend_handles_labels(), strict=True)]
    ax.legend(*zip(*pairs, strict=True), loc="center left", bbox_to_anchor=(1.09, 0.5))
