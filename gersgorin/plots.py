"""Figures from records, without torch: spectra in their discs, and over time what the discs suggest beside what the products do.

Every `plot_*` draws into the axes it is given, or a figure of its own, in our style, and returns the axes. Line styles and markers
differ where colours do.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.patches import Circle
from matplotlib.ticker import MaxNLocator

from gersgorin._outline import discs_outline
from gersgorin.record import SpectrumRecord
from gersgorin.shown import ink, label_axes, laid_out, own_axes, plain_numbers
from rhn.errors import InvalidInputError
from rhn.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, drawable, our_style, titled

CIRCLE = np.exp(1j * np.linspace(0, 2 * np.pi, 181))
DASHED = {"color": "black", "linestyle": (0, (4, 3))}
RANGE_STYLE = {"color": PURPLE, "linestyle": (0, (1, 1)), "linewidth": 1.4}
DISC_STYLES = {"row": {"color": BLUE, "linestyle": "-"}, "column": {"color": ORANGE, "linestyle": "--"}}
CROWDED = 1 / 6  # of a panel's half width: a spectrum within less is shown enlarged too


@our_style()
def plot_spectrum(
    record: SpectrumRecord,
    step: int | None = None,
    *,
    limit: float | None = None,
    show_discs: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Eigenvalues of one step, the outlines of its numerical range and of the unions of the record's discs, and the unit circle.

    Where the spectrum can be is shaded: the union of the discs, or for a record of both the intersection of the two unions.

    Args:
        record: see `gersgorin.measure`.
        step: counted from 0; None: that with the largest spectral radius.
        limit: half the width of the panel, around 0; None: so that the panel of every step has room in it.
        show_discs: each disc too, as a thin circle.
        ax: axes to draw into.

    Raises InvalidInputError for a step that the record does not have.
    """
    T = len(record.norm)
    step = widest_step(record) if step is None else step
    if not 0 <= step < T:
        raise InvalidInputError(f"step is {step}: the record has steps 0 to {T - 1}")
    alone, ax = ax is None, own_axes(4.6, 5.4) if ax is None else ax
    limit = limit or spectrum_limit([record])
    heights = []
    for axis, sets in record.disc_sets.items():
        (centers, radii), style = (part[step] for part in sets), DISC_STYLES[axis]
        if not np.isfinite(centers + radii).all():
            continue
        for k, polygon in enumerate(discs_outline(centers, radii, 65)):
            label = f"union of the {axis} discs" if k == 0 else None
            ax.plot(polygon.real, polygon.imag, linewidth=1.2, label=label, **style)
        label = None if heights else "disc centres"  # of rows and columns the same
        ax.plot(centers, np.zeros_like(centers), "|", color=style["color"], markersize=5, alpha=0.6, label=label)
        if show_discs:
            _draw_discs(centers, radii, style, f"each {axis} disc", ax)
        heights.append((centers, radii))
    _shade(heights, ax)
    if not record.leading:
        around = record.range_outline(step)
        ax.plot(around.real, around.imag, **RANGE_STYLE, label="numerical range")
    values = record.eigenvalues[step]
    ax.plot(values.real, values.imag, ".", color=RED, markersize=4, label=record.which_eigenvalues, zorder=4)
    ax.plot(
        CIRCLE.real, CIRCLE.imag, **DASHED | {"color": ink(ax)}, linewidth=1, label="unit circle", zorder=5
    )  # above the dots
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    label_axes(ax, "real part", "imaginary part")
    plain_numbers(ax)
    if alone:
        ax.set_title(f"step {step}")
        _complete(record, ax)
    else:
        ax.set_title(f"{drawable(record.title)}, step {step}")
    return ax


def plot_crowd(
    record: SpectrumRecord, step: int, panel: Axes, ax: Axes, around: tuple[float, float] | None = None
) -> Axes:
    """The eigenvalues of a step, where they are a crowd in its panel, enlarged; of no crowd an empty place is left.

    around: the window, as `crowd` finds it; None: that of this step.
    """
    width = np.ptp(panel.get_xlim()) / 2
    around = around or crowd(record.eigenvalues[step], width)
    if around is None:
        ax.set_axis_off()
        return ax
    if not record.leading:
        edge = record.range_outline(step)
        ax.plot(edge.real, edge.imag, **RANGE_STYLE)
    values, (middle, half) = record.eigenvalues[step], around
    ax.plot(values.real, values.imag, ".", color=RED, markersize=4)
    arc = np.exp(1j * np.arcsin(min(1, half)) * np.linspace(-1, 1, 201))  # of the unit circle, as high as the window
    for side in (arc, -arc):
        ax.plot(side.real, side.imag, **DASHED | {"color": ink(ax)}, linewidth=1, zorder=5)
    limits = {"xlim": (middle - half, middle + half), "ylim": (-half, half)}
    ax.set(**limits, aspect="equal", xlabel="real part", title=f"{float(f'{width / half:.3g}'):,.6g} times larger")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(4, min_n_ticks=2))
    plain_numbers(ax)
    ax.spines[:].set(visible=True, color=GREY, linewidth=0.6)
    panel.indicate_inset_zoom(ax, edgecolor=GREY, linewidth=0.6)
    return ax


def crowd(eigenvalues: np.ndarray, limit: float) -> tuple[float, float] | None:
    """(Middle, half the width) of a square around eigenvalues that are a crowd in a panel that ends at `limit`; None of others."""
    values = eigenvalues[np.isfinite(eigenvalues)]
    if not len(values):
        return None
    middle, spread = (values.real.max() + values.real.min()) / 2, max(np.ptp(values.real), np.ptp(values.imag)) / 2
    return (middle, 1.25 * spread) if 1e-6 * limit < spread < CROWDED * limit else None


def widest_step(record: SpectrumRecord) -> int:
    """The step with the largest spectral radius, of those where it is known."""
    return int(np.argmax(np.nan_to_num(record.spectral_radius, nan=-1)))


def spectrum_limit(records: list[SpectrumRecord]) -> float:
    """Half the width of panels that show every disc and numerical range of the records, and the unit circle, at one scale."""
    edges = [np.abs(c) + r for record in records for c, r in record.disc_sets.values()]
    edges += [record.numerical_radius for record in records if not record.leading]
    known = [float(edge[np.isfinite(edge)].max(initial=1)) for edge in edges]
    return 1.08 * max(1.0, *known)


@our_style()
def plot_suggested(record: SpectrumRecord, ax: Axes | None = None) -> Axes:
    """Over time, what one step's discs suggest: disc centres and right edges, numerical and spectral radius, mean transform gates."""
    alone, ax = ax is None, own_axes(8, 3.4) if ax is None else ax
    T = len(record.norm)
    t = np.arange(T + 1)

    def held(values: np.ndarray) -> np.ndarray:  # at the T + 1 ends of the steps: each until the next
        return np.append(values, values[-1:])

    def band(values: np.ndarray, color: str, alpha: float, label: str) -> None:
        low, high = held(values.min(1)), held(values.max(1))
        label = f"{label} (min to max)"
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
        curve(
            record.transform_gate.mean(1), color=GREEN, linewidth=1.2, linestyle="-.", label=f"mean {record.gate_name}"
        )
    ax.axhline(1, **DASHED | {"color": ink(ax)}, linewidth=0.8)
    ax.set(xlim=(0, T), title="What single steps suggest")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    label_axes(ax, record.time_label, "value at one step")
    plain_numbers(ax)
    return _complete(record, ax) if alone else ax


@our_style()
def plot_products(record: SpectrumRecord, ax: Axes | None = None, *, exponent_axis: bool = True) -> Axes:
    """Over time, what the products do: ||dy[t]/dy[0]|| on a log scale and, on a second axis, the finite-time exponent."""
    alone, ax = ax is None, own_axes(8, 3.4) if ax is None else ax
    t, finite = np.arange(1, len(record.norm) + 1), np.isfinite(record.log_norm_product)
    decades = np.where(finite, record.log_norm_product, np.nan) / np.log(10)
    ax.plot(np.r_[0, t], np.r_[0, decades], color=ink(ax), linewidth=1.4, label="norm of dy[t]/dy[0]")
    ax.axhline(0, **DASHED | {"color": ink(ax)}, linewidth=0.8)
    ax.set(xlim=(0, len(t)), title="What the products of the steps do")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    label_axes(ax, record.time_label, r"$\log_{10}\,\|\partial y_t/\partial y_0\|$")
    plain_numbers(ax)
    if (zero := np.isneginf(record.log_norm_product)).any():
        place = {"xy": (t[zero][0], 0), "xytext": (0, 4), "textcoords": "offset points"}
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
    return _complete(record, ax) if alone else ax


def entries(ax: Axes) -> tuple[list, list]:
    """Handles and labels of a legend for axes and a second axis drawn over them."""
    shared = [a for a in ax.figure.axes if a is ax or a in ax.get_shared_x_axes().get_siblings(ax)]
    shared = [a for a in shared if a.get_subplotspec() == ax.get_subplotspec()]
    pairs = [pair for a in shared for pair in zip(*a.get_legend_handles_labels(), strict=True)]
    return [handle for handle, _ in pairs], [label for _, label in pairs]


def _complete(record: SpectrumRecord, ax: Axes) -> Axes:
    """Axes that are a figure of their own: its title, and a legend below."""
    handles, labels = entries(ax)
    columns = 2 if ax.figure.get_figwidth() < 6 else 3
    ax.figure.legend(handles, labels, loc="outside lower center", ncols=columns)
    titled(ax.figure, drawable(record.heading), drawable(record.about))
    laid_out(ax.figure)
    return ax


def _shade(discs: list[tuple[np.ndarray, np.ndarray]], ax: Axes) -> None:
    """Where every one of the unions of discs is."""
    if not discs:
        return
    ends = max((c - r).min() for c, r in discs), min((c + r).max() for c, r in discs)
    x = np.linspace(*ends, 1001)[:, None]
    distances = [(r, np.minimum(np.abs(x - c), r)) for c, r in discs]
    height = np.min([(np.sqrt(r - d) * np.sqrt(r + d)).max(1) for r, d in distances], axis=0)
    color = GREY if len(discs) > 1 else ax.lines[0].get_color()
    ax.fill_between(x[:, 0], -height, height, color=color, alpha=0.10, linewidth=0)


def _draw_discs(centers: np.ndarray, radii: np.ndarray, style: dict, label: str, ax: Axes) -> None:
    """Thin circles, the more of them the fainter."""
    look = {"edgecolor": style["color"], "linestyle": style["linestyle"], "linewidth": 0.5}
    alpha = float(np.clip(4 / np.sqrt(len(centers)), 0.12, 0.7))
    circles = [Circle((c, 0), r) for c, r in zip(centers, radii, strict=True)]
    ax.add_collection(PatchCollection(circles, facecolor="none", alpha=alpha, **look), autolim=False)
    ax.plot(
        [], [], color=style["color"], linestyle=style["linestyle"], linewidth=0.5, alpha=max(alpha, 0.5), label=label
    )
