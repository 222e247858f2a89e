"""Draw the spectra of a run over time, and the default figure of a run."""

from collections.abc import Callable

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes

from gersgorin.analyses.growth import beside_one
from gersgorin.analyses.spectra import (
    DISC_STYLES,
    NEAR_ONE,
    RANGE_STYLE,
    Spectra,
    draw_centres,
    draw_points,
    plot_spectrum,
    view,
)
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
)
from rhn.utils.figures import BLUE, GREEN, GREY, RED, our_style
from rhn.utils.old import checked_limit, remove_legends

ENLARGED = 1.5  # the least magnification of a view that is called so
# height and side of an inset, as shares of a panel, and its place at the left or right
ABOVE, SIDE, LEFT, RIGHT = 0.48, 0.38, 0.05, 0.57


def plot_crowd(
    record: Spectra, step: int, ax: Axes, half: float, beside: Axes | None = None
) -> Axes:
    """Draw an enlarged view of the eigenvalues and disc centres of a step, and in grey the
    eigenvalues of all steps.

    half: half the width of the panel, see `crowd`. beside: the panel of the whole spectrum, in
    which the enlarged part is marked.
    """
    (middle, _), centers = crowd(record.eigenvalues), record.row_centers[step]
    others = record.eigenvalues.ravel()
    ax.plot(
        others.real,
        others.imag,
        ".",
        color="0.8",
        markersize=2,
        label=f"{record.which_eigenvalues} of all steps",
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
    """Return (centre, half the width) of a square around eigenvalues; (0, 1) if no eigenvalue is
    finite.
    """
    values = eigenvalues[np.isfinite(eigenvalues)]
    if not len(values):
        return 0.0, 1.0
    middle = (values.real.max() + values.real.min()) / 2
    spread = max(np.ptp(values.real), np.ptp(values.imag)) / 2
    return middle, 1.35 * spread


def plot_suggested(record: Spectra, ax: Axes) -> Axes:
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
    if ax.dataLim.y1 > NEAR_ONE:  # far below, the line would flatten the curves
        ax.axhline(1, **DASHED | {"color": ink(ax)}, linewidth=0.8)
    ax.set_title("What single steps suggest")
    what = "real part, modulus, gate" if record.transform_gate.size else "real part, modulus"
    return over_time(ax, T, record.unit, what)


def plot_products(record: Spectra, ax: Axes) -> Axes:
    """Draw the products over time: ||ds[t]/ds[0]|| on a log scale."""
    ax.set_title("What the products of the steps do")
    return draw_growth(record.log_norm_product, record.unit, ax)


def draw_run(
    record: Spectra,
    *,
    step: int | None = None,
    limit: float | None = None,
    legend: bool = True,
    figure: str | float | None = None,
) -> Shown:
    """Draw the default figure of a run: the eigenvalues and discs of one step, and below them
    measures of single steps and of the products over time.

    step: the step to draw; None: the one with the median spectral radius. limit, legend, figure:
    see `Result.plot`.
    """
    step, limit = record.drawn_step(step), checked_limit(limit)
    # at the step that is shown above
    line: Style = {"color": GREY, "linewidth": 0.6, "linestyle": ":", "zorder": 0}
    draws = [lambda ax, plot=plot: plot(record, ax).axvline(step, **line) for plot in OVER_TIME]
    above = step_block(record, step, limit)
    with our_style(figure):
        drawing = compose(record.finding, record.origin, above, Block(draws, shared="x"))
    if not legend:
        remove_legends(drawing)
    return drawing


def draw_inset(draw: Callable[[Axes], object], half: float, middle: float, ax: Axes) -> None:
    """Draw an inset in a corner of a panel. The inset enlarges a square of the complex plane. The
    width of the square is written above the inset.

    draw: function that draws into the inset. half: half the width of the square. middle: its
    centre, a real number.
    """
    place = LEFT if middle > half else RIGHT  # where it covers neither the set nor its lines
    inset = ax.inset_axes((place, ABOVE, SIDE, SIDE), zorder=6)
    draw(inset)
    inset.set(xlim=(middle - half, middle + half), ylim=(-half, half), aspect="equal")
    inset.set(xticks=[], yticks=[])
    style: Style = {"fontsize": rcParams["xtick.labelsize"], "loc": "center", "pad": 3}
    style["bbox"] = {"facecolor": ax.get_facecolor(), "edgecolor": "none", "pad": 0.5}
    inset.set_title(f"{2 * half:.2g} wide", **style)
    inset.spines[:].set(visible=True, color=GREY, linewidth=0.8)
    ax.indicate_inset_zoom(inset, edgecolor=GREY, linewidth=0.8, alpha=1)


OVER_TIME = (plot_suggested, plot_products)


def step_block(record: Spectra, step: int, limit: float | None = None) -> Block:
    """Two panels of a step: the whole spectrum with its discs, and a view of the eigenvalues of all
    steps, which is mostly larger.
    """
    panels, (width, middle) = list[Axes](), (limit, 0.0) if limit else view(record, step)
    half = crowd(record.eigenvalues)[1]
    half = max(half, width / (1000 if half else 10))

    def whole(ax: Axes) -> None:
        panels.append(plot_spectrum(record, step, limit=limit, ax=ax))
        reach = record.reach[step]
        words = f": largest modulus in the discs {beside_one(reach, record.near)}"
        ax.set_title(f"Step {step}{words if np.isfinite(reach) else ''}")

    def eigenvalues(ax: Axes) -> None:
        centre, enlarged = crowd(record.eigenvalues)[0], ENLARGED * half < width
        inside = half + abs(centre - middle) < width
        plot_crowd(record, step, ax, half, panels[0] if inside and enlarged else None)
        words = f"{record.which_eigenvalues.capitalize()} of all steps"
        ax.set_title(f"Enlarged {magnification(width, half)}" if enlarged else words)

    return Block([whole, eigenvalues], 3.6, 2, legend=True)


def magnification(width: float, half: float) -> str:
    """The ratio of two scales in words.

    >>> magnification(1.5, 0.0025)
    '600 times'
    """
    return f"{float(f'{width / half:.2g}'):,.6g} times"
