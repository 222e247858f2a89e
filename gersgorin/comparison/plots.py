"""What an ensemble's numbers say: a table and a sentence or two of medians and of what four of five runs keep to.

Figures of networks side by side, without torch: spectra at one scale and enlarged, and over time a line a network, with a band where
it is of many runs.

Every `plot_*` draws into the axes it is given and returns them. Lines differ in colour and in style.
"""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from gersgorin.analyses.spectra import DISC_WORDS, MEASURES, Spectra
from gersgorin.comparison.runs import BAND, Comparison, quantile
from gersgorin.plotting.figure import Shown, laid_out, own_axes, plain_numbers
from gersgorin.plotting.spectra import (
    DASHED,
    as_list,
    complete,
    crowd,
    folded,
    legend_below,
    line_style,
    plot_crowd,
    plot_spectrum,
    spectrum_limit,
    titled_all,
    told_apart,
    wrapped,
)
from rhn.errors import InvalidInputError
from rhn.figures import GREY, drawable, our_style, time_label
from rhn.wording import counted

COLUMNS = {"median": 0.5, "10 %": BAND[0], "90 %": BAND[1], "least": 0.0, "largest": 1.0}


def ensemble_table(found: Comparison) -> str:
    """Quantity by quantity, the median, band and extremes over the runs: of each run its mean, of exponents that of its last step."""
    lines = [f"{found.title}, {found.along}, {_runs(found)}, {DISC_WORDS[found.discs]}"]
    lines.append(f"{'of each run the mean':<26}" + "".join(f"{name:>11}" for name in COLUMNS))
    rows = {MEASURES[name]: np.nanmean(getattr(found, name), 1) for name in ("spectral_radius", "norm", "reach")}
    rows["exponent at its last step"] = found.last_exponent
    for label, values in rows.items():
        lines.append(f"{label:<26}" + "".join(f"{quantile(values, share):>11.4g}" for share in COLUMNS.values()))
    return "\n".join(lines)


def ensemble_reading(found: Comparison) -> str:
    """Plain sentences: what the products do, what the discs would have allowed, and whether weights or sequences matter more."""
    exponents, R = found.last_exponent, len(found.seed)
    low, median, high = (quantile(exponents, share) for share in (BAND[0], 0.5, BAND[1]))
    reach, radius = (int((np.nanmax(values, 1) > 1).sum()) for values in (found.reach, found.spectral_radius))
    words = [
        f"The gradient's norm {_does(exponents)}: its exponent is {median:.3g} a step in the median{_half_life(median)}, "
        f"{low:.3g} to {high:.3g} in four of five runs.",
        f"The {DISC_WORDS[found.discs]} would allow growth in {reach} of {R} runs, an eigenvalue leaves the unit circle in {radius}.",
    ]
    seeds, sequences = _spread(exponents, found.seed), _spread(exponents, found.sequence)
    if seeds is not None and sequences is not None:
        words.append(
            f"The exponent's standard deviation is {seeds:.2g} between seeds and {sequences:.2g} between sequences "
            "(of the means over the others)."
        )
    return " ".join(words)


def _does(exponents: np.ndarray) -> str:
    growing, R = int((exponents > 0).sum()), len(exponents)
    if 0 < growing < R:
        return f"grows in {growing} of {R} runs and shrinks in the others"
    return f"{'grows' if growing else 'shrinks'}{' in every run' if R > 1 else ''}"


def seeds_of(found: Comparison) -> str:
    """How many networks there are: "5 seeds"."""
    return counted(len(set(found.seed.tolist())), "seed")


def _runs(found: Comparison) -> str:
    steps = sorted(found.steps.tolist())
    lasting = f"{steps[0]} to {steps[-1]} steps" if steps[0] < steps[-1] else counted(steps[0], "step")
    return f"{seeds_of(found)}, {counted(len(steps), 'run')} of {lasting}"


def _half_life(exponent: float) -> str:
    if not np.isfinite(exponent) or abs(exponent) < 1e-6:
        return ""
    return f" (it {'halves' if exponent < 0 else 'doubles'} every {np.log(2) / abs(exponent):.3g} steps)"


def _spread(values: np.ndarray, groups: np.ndarray) -> float | None:
    """Standard deviation of the groups' means; None where there is one group, or a mean is not finite."""
    means = [values[groups == group].mean() for group in dict.fromkeys(groups.tolist())]
    return float(np.std(means, ddof=1)) if len(means) > 1 and np.isfinite(means).all() else None


IN_A_ROW = 4  # panels of spectra, at most
SAID = "the median, and bands that four of five keep to"
DECADES = 1.5  # of values, from which on an axis is logarithmic
PANELS = {  # what each of the panels over time shows, and how its values are written
    "spectral_radius": "spectral radius of a step",
    "reach": "reach of a step's discs from 0",
    "log_norm_product": r"$\log_{10}\,\|\partial y_t/\partial y_0\|$",
    "finite_time_exponent": "exponent (1/step)",
}


@our_style()
def plot_bands(
    ensembles: Comparison | Sequence[Comparison],
    measure: str = "log_norm_product",
    ax: Axes | None = None,
    *,
    labels: Sequence[str] = (),
) -> Axes:
    """A measure over time: the median of one ensemble or of each of several, within the band that four of five of its runs keep to.

    A product that is zero ends its line with a cross: its logarithm is minus infinity from there.

    Args:
        ensembles: see `gersgorin.compare`.
        measure: "spectral_radius", "reach", "log_norm_product" or "finite_time_exponent".
        ax: axes to draw into.
        labels: what a legend calls them; none: in a figure of its own what tells them apart.

    Raises InvalidInputError for another measure.
    """
    ensembles = as_list(ensembles)
    if measure not in PANELS:
        raise InvalidInputError(f"measure is {measure!r}, expected one of {', '.join(PANELS)}")
    named = told_apart([e.title for e in ensembles], [e.about for e in ensembles])
    labels = labels or (named.names if ax is None else ())
    alone, ax = ax is None, own_axes(6, 3.4) if ax is None else ax
    scale = np.log(10) if measure == "log_norm_product" else 1.0
    of_products = measure in ("log_norm_product", "finite_time_exponent")
    for k, ensemble in enumerate(ensembles):
        low, median, high = (ensemble.quantile(measure, share) / scale for share in (BAND[0], 0.5, BAND[1]))
        t = np.arange(len(median)) + of_products  # a product is over t steps, all else is of step t
        if measure == "log_norm_product":  # of no steps: the identity
            t, low, median, high = np.r_[0, t], *(np.r_[0, values] for values in (low, median, high))
        shown, style = np.isfinite(median), line_style(k)
        label = drawable(labels[k]) if k < len(labels) else None
        dot = "." if len(t) == 1 else None
        ax.plot(t[shown], median[shown], linewidth=1.3, marker=dot, label=label, **style)
        if not shown.all() and shown.any():
            ax.plot(t[shown][-1], median[shown][-1], "x", color=style["color"], markersize=6)
        if len(ensemble.seed) > 1:
            floor = np.where(np.isneginf(low), median, low)  # a band has a lower edge where four of five have a product
            ax.fill_between(t[shown], floor[shown], high[shown], color=style["color"], alpha=0.15, linewidth=0)
    ax.axhline(0 if of_products else 1, **DASHED, linewidth=0.8)
    ax.set(xlim=(0, max(e.norm.shape[1] for e in ensembles)), ylabel=PANELS[measure])
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if not of_products and _spans_decades([line.get_ydata() for line in ax.lines]):
        ax.set_yscale("log")
    else:
        plain_numbers(ax)
    if alone:
        ax.set_xlabel(time_label(ensembles[0].unit))
        complete(ax, f"{named.common or 'networks'}, {ensembles[0].along}: {SAID}", named.about)
    return ax


@our_style()
def draw_comparison(records: Spectra | Sequence[Spectra], *, show_discs: bool = False) -> Shown:
    """Networks side by side on one sequence: spectra of its middle step at one scale, enlarged where they are much smaller than it, and
    below them all of them over time."""
    records = as_list(records)
    T, limit = len(records[0].norm), spectrum_limit(records)
    step, named = T // 2, told_apart([record.title for record in records], [record.about for record in records])
    crowded = any(crowd(record.eigenvalues[step], limit) for record in records)
    rows = math.ceil(len(records) / IN_A_ROW)
    columns = math.ceil(len(records) / rows)
    width = max(9.0, 1.0 + 2.6 * columns)
    heights = (rows * (1 + crowded) * (min(2.5, width / columns) + 0.6) + 0.6, 5.2)
    figure = Shown(figsize=(width, sum(heights) + 0.4), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=heights)
    grid = top.subplots(rows * (1 + crowded), columns, squeeze=False)
    for ax in grid[-1 - crowded :, len(records) - columns * (rows - 1) :].flat:  # places that are left over
        ax.set_axis_off()
    for k, (record, name) in enumerate(zip(records, named.names, strict=True)):
        row, column = divmod(k, columns)
        ax, *larger = grid[row * (1 + crowded) : (row + 1) * (1 + crowded), column]
        plot_spectrum(record, step, limit=limit, show_discs=show_discs, ax=ax).set_title(
            _panel_title(record, name, columns)
        )
        for panel in larger:
            plot_crowd(record, step, ax, panel)
        for panel in (ax, *larger):
            panel.set(xlabel="real part", ylabel="imaginary part" if column == 0 else "")
    legend_below(top, grid.flat, columns=8)
    more = ", and enlarged" if crowded else ""
    titled_all(figure, named, f"on {records[0].along}: spectra of step {step} of 0 to {T - 1} at one scale{more}")
    _over_time([Comparison.of_record(record) for record in records], named.names, bottom)
    return laid_out(figure)


@our_style()
def draw_ensembles(ensembles: Comparison | Sequence[Comparison]) -> Shown:
    """Medians and bands over many runs, one colour a kind of network."""
    ensembles = as_list(ensembles)
    named, first = told_apart([e.title for e in ensembles], [e.about for e in ensembles]), ensembles[0]
    figure, several = Shown(figsize=(11, 6.8), layout="constrained"), len(ensembles) > 1
    _over_time(ensembles, named.names if several else [], figure)
    runs = f"{len(first.seed)} runs{' each' * several}: {SAID}" if len(first.seed) > 1 else "1 run"
    titled_all(figure, named, f"on {first.along}, {seeds_of(first)}, {runs}")
    return laid_out(figure)


def _panel_title(record: Spectra, name: str, columns: int) -> str:
    exponent = f"exponent {record.finite_time_exponent[-1]:.3g} a step"
    leading = [record.which_eigenvalues] * bool(record.leading)
    return "\n".join([*filter(None, [wrapped(name, 60 // columns + 12)]), exponent, *leading])


def _spans_decades(several: Sequence[np.ndarray]) -> bool:
    values = np.concatenate([np.asarray(values, dtype=float) for values in several])
    values = values[np.isfinite(values)]
    return bool(len(values) and values.min() > 0 and math.log10(values.max() / values.min()) > DECADES)


def _over_time(ensembles: list[Comparison], names: list[str], figure: Figure | SubFigure) -> None:
    """All measures on one time axis, with one legend beside them, and how many runs there are where they end at different steps."""
    counted = any(len(set(ensemble.steps)) > 1 for ensemble in ensembles)
    grid = figure.subplots(2 + counted, 2, sharex=True, height_ratios=(1, 1, *[0.35] * counted))
    for ax, measure in zip(grid[:2].T.flat, PANELS, strict=True):
        plot_bands(ensembles, measure, ax, labels=names)
    for ax in grid[2:].flat:
        for counts in {tuple(ensemble.runs_at) for ensemble in ensembles}:
            ax.step(np.arange(len(counts)), counts, where="post", color=GREY)
        ax.set(ylim=(0, None), ylabel="runs")
        ax.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    for ax in grid[-1]:
        ax.set_xlabel(time_label(ensembles[0].unit))
    handles, labels = grid[0, 0].get_legend_handles_labels()
    banded = any(len(ensemble.seed) > 1 for ensemble in ensembles)
    if banded:
        handles, labels = [*handles, Patch(color=GREY, alpha=0.3)], [*labels, "four of five runs"]
    crossed = [line for ax in grid.flat for line in ax.lines if line.get_marker() == "x"]
    if crossed:
        handles, labels = [*handles, crossed[0]], [*labels, "the product is zero from here"]
    if handles:
        figure.legend(handles, [folded(label, 26) for label in labels], loc="outside right center", handlelength=3)
