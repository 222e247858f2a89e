"""Draw the spectra of a run over time, and the default figure of a run."""

import numpy as np
from matplotlib.axes import Axes

from gersgorin.analyses.spectra import (
    DISC_STYLES,
    RANGE_STYLE,
    ROUNDING,
    Spectra,
    beside_one,
    draw_centres,
    draw_points,
    largest_step,
    plot_spectrum,
    spectrum_limit,
)
from gersgorin.analyses.steps import gradient_words
from rhn.plotting.figure import (
    DASHED,
    Block,
    Shown,
    Style,
    complex_plane,
    compose,
    draw_growth,
    ink,
    over_time,
    panels,
)
from rhn.utils.figures import BLUE, GREEN, GREY, RED, drawn
from rhn.utils.wording import counted


def plot_crowd(
    record: Spectra, step: int, ax: Axes, half: float, beside: Axes | None = None
) -> Axes:
    """Draw the eigenvalues and disc centres of a step enlarged, and in grey the eigenvalues of all
    steps.

    half: half the width of the panel, see `crowd`; beside: the panel of the whole spectrum, which
    marks the enlarged part.
    """
    (middle, _), centers = crowd(record.eigenvalues), record.row_centers[step]
    others = record.eigenvalues.ravel()
    ax.plot(
        others.real,
        others.imag,
        ".",
        color="0.8",
        markersize=2,
        label="eigenvalues of all steps",
        rasterized=True,
    )
    draw_centres(centers[np.abs(centers - middle) < half], ax)
    draw_points(record, step, ax)
    complex_plane(ax, half, middle)
    if beside:
        ax.spines[:].set(visible=True, color=GREY, linewidth=0.6)
        beside.indicate_inset_zoom(ax, edgecolor=GREY, linewidth=0.6)
        ax.yaxis.tick_right()  # the lines of the zoom are at the left
    return ax


def crowd(eigenvalues: np.ndarray) -> tuple[float, float]:
    """(Centre, half the width) of a square around eigenvalues; (0, 1) if none is finite."""
    values = eigenvalues[np.isfinite(eigenvalues)]
    if not len(values):
        return 0.0, 1.0
    middle = (values.real.max() + values.real.min()) / 2
    spread = max(np.ptp(values.real), np.ptp(values.imag)) / 2
    return middle, 1.35 * spread


@panels(8, 2.6, lambda record: record.heading)
def plot_suggested(record: Spectra, ax=None) -> Axes:
    """Draw properties of single steps over time: disc centres and right edges, numerical and
    spectral radius, mean gates.
    """
    T = len(record.norm)
    t = np.arange(T + 1)

    def held(values: np.ndarray) -> np.ndarray:  # each value until the next step
        return np.append(values, values[-1:])

    def band(values: np.ndarray, color: str, alpha: float, label: str) -> None:
        low, high = held(values.min(1)), held(values.max(1))
        ax.fill_between(
            t, low, high, step="post", color=color, alpha=alpha, linewidth=0, label=label
        )

    def curve(values: np.ndarray, label: str, **style) -> None:
        ax.plot(t, held(values), drawstyle="steps-post", label=label, **style)

    for axis, (centers, radii) in record.disc_sets.items():
        band(centers + radii, DISC_STYLES[axis]["color"], 0.15, f"{axis} disc edges")
    band(record.row_centers, BLUE, 0.45, "disc centres")
    if not record.leading:
        curve(record.numerical_radius, "numerical radius", **RANGE_STYLE)
    curve(record.spectral_radius, "spectral radius", color=RED, linewidth=1.4)
    if record.transform_gate.size:
        gate = record.transform_gate.mean(1)
        curve(gate, record.gate_name, color=GREEN, linewidth=1.2, linestyle="-.")
    ax.axhline(1, **DASHED | {"color": ink(ax)}, linewidth=0.8)
    ax.set_title("What single steps suggest", loc="left")
    return over_time(ax, T, record.unit, "value")


@panels(8, 2.6, lambda record: record.heading)
def plot_products(record: Spectra, ax=None) -> Axes:
    """Draw the products over time: ||dy[t]/dy[0]|| on a log scale."""
    ax.set_title("What the products of the steps do", loc="left")
    return draw_growth(record.log_norm_product, record.unit, ax)


@drawn
def draw_run(record: Spectra) -> Shown:
    """Draw the default figure: the step of largest spectral radius in its discs, and below single
    steps and products over time.
    """
    # at the step that is shown above
    line: Style = {"color": GREY, "linewidth": 0.6, "linestyle": ":", "zorder": 0}
    draws = [
        lambda ax, plot=plot: plot(record, ax).axvline(largest_step(record), **line)
        for plot in OVER_TIME
    ]
    title = f"{record.heading}: {gradient_words(record.log_norm_product)}"
    return compose(title, record.about, step_block(record), Block(draws, shared="x"))


OVER_TIME = (plot_suggested, plot_products)


def step_block(record: Spectra) -> Block:
    """Panels of the step with the largest spectral radius: the whole spectrum in its discs, and the
    eigenvalues enlarged.
    """
    step, panels = largest_step(record), list[Axes]()
    radius, reach = np.fmax.reduce(record.spectral_radius), record.reach[step]
    limit, half = spectrum_limit([record], step), crowd(record.eigenvalues)[1]
    half, limit = max(half, limit / (1000 if half else 10)), max(limit, half)

    def whole(ax: Axes) -> None:
        panels.append(plot_spectrum(record, step, limit=limit, ax=ax))
        allow = "growth" if reach > 1 + ROUNDING else "no growth"
        words = "discs reach {} and allow"
        if record.discs == "both":
            words = "overlap of the discs reaches {} and allows"
        reaches = f": the {words.format(beside_one(reach))} {allow}" if np.isfinite(reach) else ""
        ax.set_title(f"Step {step}{reaches}")

    def enlarged(ax: Axes) -> None:
        plot_crowd(record, step, ax, half, panels[0] if 1.5 * half < limit else None)
        outside = (np.abs(record.eigenvalues[step]) > 1 + ROUNDING).sum()
        within = f"{counted(outside, 'eigenvalue')} outside" if outside else "eigenvalues inside"
        known = "" if np.isnan(radius) else f": {within}, radius {beside_one(radius)}"
        ax.set_title(f"Step {step}, {float(f'{limit / half:.3g}'):,.6g} times larger{known}")

    return Block([whole, enlarged], 3.6, 2, legend=True)
