"""Draw spectra in their discs, curves over time, and the default figure of a run; line styles, names and legends for all figures.

Every `plot_*` draws into the given axes, or into a new figure, in our style, and returns the axes. Lines of different colours also
differ in dashes or markers. Titles contain the words that several runs share, legends the others. Nothing here imports torch.
"""

import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Circle
from matplotlib.ticker import MaxNLocator

from gersgorin.linalg.outlines import discs_outline
from gersgorin.plotting.figure import Shown, ink, label_axes, laid_out, own_axes, plain_numbers
from gersgorin.run import shown_steps
from rhn.errors import InvalidInputError
from rhn.plotting.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY, drawable, our_style, time_label, titled
from rhn.utils.result import Result

CIRCLE = np.exp(1j * np.linspace(0, 2 * np.pi, 181))
DASHED = {"color": "black", "linestyle": (0, (4, 3))}
RANGE_STYLE = {"color": PURPLE, "linestyle": (0, (1, 1)), "linewidth": 1.4}
DISC_STYLES = {"row": {"color": BLUE, "linestyle": "-"}, "column": {"color": ORANGE, "linestyle": "--"}}
CROWDED = 1 / 6  # of a panel's half width; a smaller spectrum is also shown enlarged


@our_style()
def plot_spectrum(
    record: Result,
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
        label = None if heights else "disc centres"  # equal for rows and columns
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


def plot_crowd(record: Result, step: int, panel: Axes, ax: Axes, around: tuple[float, float] | None = None) -> Axes:
    """Draw the eigenvalues of a step enlarged if they are crowded in its panel; else hide the axes.

    around: the window, see `crowd`; None: that of this step.
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
    """(Centre, half the width) of a square around eigenvalues that are crowded in a panel of half width `limit`; else None."""
    values = eigenvalues[np.isfinite(eigenvalues)]
    if not len(values):
        return None
    middle, spread = (values.real.max() + values.real.min()) / 2, max(np.ptp(values.real), np.ptp(values.imag)) / 2
    return (middle, 1.25 * spread) if 1e-6 * limit < spread < CROWDED * limit else None


def widest_step(record: Result) -> int:
    """The step with the largest known spectral radius."""
    return int(np.argmax(np.nan_to_num(record.spectral_radius, nan=-1)))


def spectrum_limit(records: list[Result]) -> float:
    """Half the width of panels that contain all discs and numerical ranges of the results, and the unit circle."""
    edges = [np.abs(c) + r for record in records for c, r in record.disc_sets.values()]
    edges += [record.numerical_radius for record in records if not record.leading]
    known = [float(edge[np.isfinite(edge)].max(initial=1)) for edge in edges]
    return 1.08 * max(1.0, *known)


@our_style()
def plot_suggested(record: Result, ax: Axes | None = None) -> Axes:
    """Draw properties of single steps over time: disc centres and right edges, numerical and spectral radius, mean gates."""
    alone, ax = ax is None, own_axes(8, 3.4) if ax is None else ax
    T = len(record.norm)
    t = np.arange(T + 1)

    def held(values: np.ndarray) -> np.ndarray:  # each value until the next step
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
def plot_products(record: Result, ax: Axes | None = None, *, exponent_axis: bool = True) -> Axes:
    """Draw the products over time: ||dy[t]/dy[0]|| on a log scale and, on a second axis, the finite-time exponent."""
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
    """Handles and labels of a legend for axes and their twin."""
    shared = [a for a in ax.figure.axes if a is ax or a in ax.get_shared_x_axes().get_siblings(ax)]
    shared = [a for a in shared if a.get_subplotspec() == ax.get_subplotspec()]
    pairs = [pair for a in shared for pair in zip(*a.get_legend_handles_labels(), strict=True)]
    return [handle for handle, _ in pairs], [label for _, label in pairs]


def _complete(record: Result, ax: Axes) -> Axes:
    """Add title and legend to axes that are the only ones of their figure."""
    handles, labels = entries(ax)
    columns = 2 if ax.figure.get_figwidth() < 6 else 3
    ax.figure.legend(handles, labels, loc="outside lower center", ncols=columns)
    titled(ax.figure, drawable(record.heading), drawable(record.about))
    laid_out(ax.figure)
    return ax


def _shade(discs: list[tuple[np.ndarray, np.ndarray]], ax: Axes) -> None:
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
    look = {"edgecolor": style["color"], "linestyle": style["linestyle"], "linewidth": 0.5}
    alpha = float(np.clip(4 / np.sqrt(len(centers)), 0.12, 0.7))
    circles = [Circle((c, 0), r) for c, r in zip(centers, radii, strict=True)]
    ax.add_collection(PatchCollection(circles, facecolor="none", alpha=alpha, **look), autolim=False)
    ax.plot(
        [], [], color=style["color"], linestyle=style["linestyle"], linewidth=0.5, alpha=max(alpha, 0.5), label=label
    )


COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, "black")
DASHES = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))  # 7 and 4: the first 28 lines differ from each other
HANDLE, LETTERS = 0.7, 14  # of a legend: inches beside a text, letters in an inch
MARKERS = "osD^vPX*"


class Named(NamedTuple):
    """Names of several runs in one figure."""

    common: str
    """The words that their titles share."""
    about: str
    """The words that their descriptions share."""
    names: list[str]
    """The other words of each."""


def as_list(records) -> list:
    """One result or several as a list. Raises InvalidInputError for none."""
    found = list(records) if isinstance(records, Iterable) else [records]
    if not found:
        raise InvalidInputError("there is nothing to draw: expected at least one result")
    return found


def line_style(k: int) -> dict:
    """Colour and dashes of the k-th of several lines."""
    return {"color": COLOURS[k % len(COLOURS)], "linestyle": DASHES[k % len(DASHES)]}


def shade_style(k: int, count: int) -> dict:
    """Shade, from dark to light, and dashes of the k-th of lines that have an order: layers, lengths."""
    return {"color": colormaps["viridis"](0.9 * k / max(1, count - 1)), "linestyle": DASHES[k % len(DASHES)]}


def wrapped(name: str, width: int, lines: int = 3) -> str:
    """Fold a user's name into lines of at most `width` characters, without markup; cut what is too long."""
    return folded(drawable(name), width, lines)


def folded(text: str, width: int, lines: int = 3) -> str:
    """Fold a text of ours, which may contain mathematics."""
    found = textwrap.wrap(text, width)
    if len(found) > lines:
        found[lines - 1 :] = [found[lines - 1][: width - 4].rstrip() + " ..."]
    return "\n".join(found)


def told_apart(titles: Sequence[str], abouts: Sequence[str] = ()) -> Named:
    """Split titles and descriptions into the words that all share and the other words of each.

    All words of a single run are common. Words of the title are not repeated from the description.

    >>> told_apart(["rhn, depth 1, 64 units", "rhn, depth 5, 64 units"], ["seed 0; bwv269", "seed 0; bwv269"])
    Named(common='rhn, 64 units', about='seed 0, bwv269', names=['depth 1', 'depth 5'])
    >>> told_apart(["rhn, depth 5, 64 units", "irnn, 64 units"], ["bias -2, seed 0", "seed 0"])
    Named(common='64 units', about='seed 0', names=['rhn, depth 5, bias -2', 'irnn'])
    >>> told_apart(["rnn, init scaled:1", "rhn: rhn"], ["scaled:1", "rhn/best.safetensors"]).names
    ['rnn, init scaled:1', 'rhn']
    """
    heads = [list(dict.fromkeys(_words(title))) for title in titles]
    tails = [
        [word for word in _words(about) if not {word, f"init {word}", word.removesuffix("/best.safetensors")} & {*head}]
        for head, about in zip(heads, abouts or [""] * len(heads), strict=True)
    ]
    wholes = [head + tail for head, tail in zip(heads, tails, strict=True)]
    shared = [word for word in wholes[0] if all(word in whole for whole in wholes)]
    left = [[word for word in whole if word not in shared] for whole in wholes]
    said = [word for word in tails[0] if word in shared]
    if len(wholes) > 1 and not all(left):
        return Named("", ", ".join(said), [", ".join(head) for head in heads])
    common = [word for word in heads[0] if word in shared]
    return Named(", ".join(common), ", ".join(said), [", ".join(words) for words in left])


def titled_all(figure: Figure, named: Named, what: str) -> None:
    """Set the title of a figure of several runs: the common words and the quantity, then the common description."""
    title = f"{named.common}, {what}" if named.common else what[:1].upper() + what[1:]
    titled(figure, drawable(title), drawable(named.about))


def complete(ax: Axes, title: str, about: str = "", *, columns: int = 2) -> Axes:
    """Add a title and a legend to axes that are the only ones of their figure."""
    legend_below(ax.figure, [ax], columns=columns)
    titled(ax.figure, drawable(title), drawable(about))
    ax.figure.get_layout_engine().set(w_pad=0.08)  # inches, for the labels of a heat map
    laid_out(ax.figure)
    return ax


def legend_beside(ax: Axes, **options) -> None:
    """Add a legend at the right of axes with more than one line."""
    handles, labels = entries(ax)
    if len(labels) > 1:
        place = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5), "handlelength": 3}
        ax.legend(handles, [folded(label, 28, 2) for label in labels], **place | options)


def legend_below(figure: Figure | SubFigure, panels: Iterable[Axes], *, columns: int = 4) -> None:
    """Add one legend of all panels below a figure, in as many columns as fit."""
    pairs = {label: handle for ax in panels for handle, label in zip(*entries(ax), strict=True)}
    if pairs:
        room = figure.bbox.width / figure.figure.dpi
        labels = [folded(label, int((room - 2 * HANDLE) * LETTERS), 2) for label in pairs]
        widths = [HANDLE + max(map(len, label.splitlines())) / LETTERS for label in labels]
        fitting = (n for n in range(min(columns, len(widths)), 1, -1) if _width(widths, n) <= room)
        place = {"loc": "outside lower center", "ncols": next(fitting, 1), "handlelength": 3}
        figure.legend(pairs.values(), labels, **place)


def _width(widths: list[float], columns: int) -> float:
    """Width of a legend with this number of columns, each as wide as its widest entry."""
    return sum(max(part) for part in np.array_split(widths, columns))


def _words(title: str) -> list[str]:
    return [word for word in re.split(r"[,;:] ", title) if word]


WIDE = 45  # characters of small type above a panel
ALIKE = 0.02  # of a panel's half width; smaller differences are invisible


@our_style()
def draw_run(record: Result, *, show_discs: bool = False) -> Shown:
    """Draw the default figure: spectra and discs at a few steps, and below them single steps and products over time.

    Steps with similar panels are drawn once. show_discs: draw each disc too, as a thin circle.
    """
    limit = spectrum_limit([record])
    steps = distinct_steps(record, limit)
    crowded = any(crowd(record.eigenvalues[step], limit) for step in steps)
    heights = (4.1 + 2.6 * (crowded and len(steps) > 2), 4.3)
    figure = Shown(figsize=(11, sum(heights)), layout="constrained")
    titled(figure, drawable(record.heading), drawable(record.about))
    top, bottom = figure.subfigures(2, 1, height_ratios=heights)
    plot_steps(record, steps, limit, crowded, show_discs, top)
    grid = bottom.subplots(2, 2, sharex="col", width_ratios=(1, 0.3))
    for (ax, beside), plot in zip(grid, (plot_suggested, plot_products), strict=True):
        plot(record, ax)
        ax.set_title(ax.get_title(), loc="left")
        ax.set_title("")
        for step in steps:  # the steps of the panels above
            ax.axvline(step, color=GREY, linewidth=0.6, linestyle=":", zorder=0)
        beside.set_axis_off()
        beside.legend(*entries(ax), loc="center left", bbox_to_anchor=(0, 0.5), borderaxespad=0)
    return laid_out(figure)


def distinct_steps(record: Result, limit: float) -> dict[int, str]:
    """Steps to draw in panels of half width `limit`, each with a remark on similar steps."""
    T, near = len(record.norm), ALIKE * limit
    candidates, kept = shown_steps(T), {0: []}
    for step in candidates[1:]:
        like = next((other for other in kept if apart(record, other, step) <= near), None)
        kept.setdefault(step if like is None else like, []).extend([step] * (like is not None))
    if len(kept) > 1 or T == 1:
        return {step: f"like it: {_listed(others)}" if others else "" for step, others in kept.items()}
    distances = [apart(record, 0, step) for step in range(T)]
    farthest = int(np.argmax(distances))
    if distances[farthest] <= near:
        return {0: f"steps 0 to {T - 1} look alike"}
    return {0: f"like it: {_listed(kept[0])}", farthest: "the one that differs most"}


def apart(record: Result, one: int, other: int) -> float:
    """Distance between the panels of two steps: the largest move of an eigenvalue, a disc or the numerical range."""
    a, b = (values[np.isfinite(values)] for values in record.eigenvalues[[one, other]])
    if bool(len(a)) != bool(len(b)):
        return np.inf
    between = np.abs(a[:, None] - b)
    moved = [between.min(0).max(initial=0), between.min(1).max(initial=0)] if len(a) else [0.0]
    for centers, radii in record.disc_sets.values():
        ends = [np.array([(c - r).min(), (c + r).max(), r.max()]) for c, r in zip(centers, radii, strict=True)]
        moved.append(np.abs(ends[one] - ends[other]).max())
    return float(np.nanmax([*moved, np.abs(record.support[one] - record.support[other]).max()]))


def plot_steps(
    record: Result, steps: dict[int, str], limit: float, crowded: bool, show_discs: bool, top: SubFigure
) -> None:
    """Draw a panel per step; crowded eigenvalues are enlarged beside it if there is room, else below."""
    beside = crowded and len(steps) <= 2
    shape = (1, 2 * len(steps)) if beside else (1 + crowded, len(steps))
    grid = top.subplots(*shape, squeeze=False)
    panels, larger = (grid[0, ::2], grid[0, 1::2]) if beside else (grid[0], grid[-1])
    for k, (step, remark) in enumerate(steps.items()):
        ax = plot_spectrum(record, step, limit=limit, show_discs=show_discs, ax=panels[k])
        _entitle(record, step, remark, ax)
        if crowded:
            plot_crowd(record, step, ax, larger[k])
        if beside:
            ax.set_anchor("E")
            larger[k].set_anchor("W")
    for row in grid:
        row[0].set_ylabel("imaginary part")
        for ax in row[1:]:
            ax.set_ylabel("")
    legend_below(top, panels[:1], columns=8)


def _entitle(record: Result, step: int, remark: str, ax: Axes) -> None:
    """Title a panel with its step and, in small type, its numbers."""
    radius, reach, loose = (float(v[step]) for v in (record.spectral_radius, record.reach, record.looseness))
    numbers = f"radius {radius:.3g}, reach {reach:.3g}, looseness {loose:.3g}".replace("nan", "unknown")
    if len(numbers) > WIDE:
        numbers = numbers.replace(", ", ",\n")
    ax.set_title(f"step {step}" + (f" ({remark})" if remark else ""), pad=5 + 9 * len(numbers.splitlines()))
    ax.text(0.5, 1.015, numbers, transform=ax.transAxes, ha="center", va="bottom", fontsize=7, color=GREY)


def _listed(steps: list[int]) -> str:
    """ "28", "28 and 56", "28, 56 and 84"."""
    *most, last = map(str, steps)
    return f"{', '.join(most)} and {last}" if most else last


@our_style()
def plot_layers(
    lines: dict[str, np.ndarray],
    layers: np.ndarray,
    ylabel: str,
    ax: Axes | None = None,
    *,
    unit: str = "steps",
    title: str = "",
    about: str = "",
    limits: tuple[float, float] | None = None,
) -> Axes:
    """Draw named lines (T,) and one line per layer (T, L) over time."""
    alone, ax = ax is None, own_axes(6, 4) if ax is None else ax
    T = len(layers)
    dot = {"marker": "."} if T == 1 else {}
    for name, values in lines.items():
        ax.plot(values, color=GREEN, linestyle="--", label=name, **dot)
    for k, values in enumerate(layers.T):
        ax.plot(values, linewidth=1.3, label=f"layer {k + 1}", **shade_style(k, layers.shape[1]), **dot)
    ax.set(xlim=(0, T - 1 or 1), ylim=limits, xlabel=time_label(unit), ylabel=ylabel)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    plain_numbers(ax)
    return complete(ax, title, about, columns=4) if alone else ax


@our_style()
def plot_growth(
    log_norm: np.ndarray, ax: Axes | None = None, *, unit: str = "steps", title: str = "", about: str = ""
) -> Axes:
    """Draw ||ds[t]/ds[0]|| over time on a log scale, from its natural logarithm (T,)."""
    alone, ax = ax is None, own_axes(6, 4) if ax is None else ax
    t, finite = np.arange(1, len(log_norm) + 1), np.isfinite(log_norm)
    decades = np.where(finite, log_norm, np.nan) / np.log(10)
    ax.plot(np.r_[0, t], np.r_[0, decades], color=ink(ax), linewidth=1.4, label="norm of ds[t]/ds[0]")
    ax.axhline(0, **DASHED | {"color": ink(ax)}, linewidth=0.8)
    ax.set(xlim=(0, len(t)), xlabel=time_label(unit), ylabel=r"$\log_{10}\,\|\partial s_t/\partial s_0\|$")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    plain_numbers(ax)
    if (zero := np.isneginf(log_norm)).any():
        place = {"xy": (t[zero][0], 0), "xytext": (0, 4), "textcoords": "offset points"}
        ax.annotate("the product is zero from here", **place, fontsize=8, color=GREY)
    return complete(ax, title, about) if alone else ax
