"""The figure of one run, without torch: its spectra at a few steps that differ, and under them both stories on one time axis."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure

from gersgorin.looks import legend_below
from gersgorin.plots import (
    crowd,
    entries,
    plot_crowd,
    plot_products,
    plot_spectrum,
    plot_suggested,
    spectrum_limit,
)
from gersgorin.record import SpectrumRecord, shown_steps
from gersgorin.shown import Shown, laid_out
from rhn.figures import GREY, drawable, our_style, titled

WIDE = 45  # characters of small type above a panel
ALIKE = 0.02  # of a panel's half width: what is nearer cannot be told apart


@our_style()
def draw_run(record: SpectrumRecord, *, show_discs: bool = False) -> Shown:
    """The default figure: spectra in their discs at a few steps of the run, and under them both stories on one time axis.

    Of steps whose panels look alike one is drawn. show_discs: each disc too, as a thin circle.
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
        for step in steps:  # where the panels above were taken
            ax.axvline(step, color=GREY, linewidth=0.6, linestyle=":", zorder=0)
        beside.set_axis_off()
        beside.legend(*entries(ax), loc="center left", bbox_to_anchor=(0, 0.5), borderaxespad=0)
    return laid_out(figure)


def distinct_steps(record: SpectrumRecord, limit: float) -> dict[int, str]:
    """Steps to draw in panels that end at `limit`, and what to say of those that look like one of them."""
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


def apart(record: SpectrumRecord, one: int, other: int) -> float:
    """How far apart the panels of two steps are: the most by which a dot, the discs or the numerical range have moved."""
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
    record: SpectrumRecord, steps: dict[int, str], limit: float, crowded: bool, show_discs: bool, top: SubFigure
) -> None:
    """A panel a step; a crowd of eigenvalues is enlarged beside it where there is room, else below."""
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


def _entitle(record: SpectrumRecord, step: int, remark: str, ax: Axes) -> None:
    """The step, and in small type its numbers."""
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
