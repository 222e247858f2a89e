"""Plot the bounds of a run's products: over time beside the measured norm, and each kind by the window's length."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from gersgorin.bounds.gradient import NormBounds
from gersgorin.looks import as_list, complete, legend_beside, shade_style, titled_all, told_apart, wrapped
from gersgorin.plots import DASHED
from gersgorin.record import time_label
from gersgorin.shown import Shown, laid_out, own_axes, plain_numbers
from rhn.figures import BLUE, GREEN, GREY, ORANGE, our_style

KIND_STYLES = {
    "norm": {"color": BLUE, "marker": "o"},
    "diagonal norm": {"color": ORANGE, "marker": "s", "linestyle": "--"},
    "quadratic norm": {"color": GREEN, "marker": "D", "linestyle": "--"},
}
SHOWN = 6  # window lengths in one panel over time


@our_style()
def plot_bounds_over_time(bounds: NormBounds, ax: Axes | None = None) -> Axes:
    """Upper and lower bounds on the norm of dy[t]/dy[0] from windows of several lengths, and the norm measured."""
    alone, ax = ax is None, own_axes(7, 5) if ax is None else ax
    T, decade = bounds.steps, np.log(10)
    chosen = sorted({round(k) for k in np.linspace(0, len(bounds.lengths) - 1, SHOWN)})
    for k, w in enumerate(chosen):
        t, upper = _ends(bounds.best[w])
        style, label = shade_style(k, len(chosen)), f"at most: {bounds.lengths[w]}"
        ax.plot(t, upper / decade, linewidth=1.2, label=label, **style)
    step = next(w for w in chosen if bounds.window_steps[w])
    t, lower = _ends(bounds.lower[step])
    if len(t) > 1:
        style, label = {"color": GREY, "linewidth": 2.2, "alpha": 0.6}, f"at least: {bounds.lengths[step]}"
        ax.plot(t, lower / decade, label=label, **style)
    t, log_norm = _ends(bounds.log_norm)
    ax.plot(t, log_norm / decade, color="black", linewidth=1.6, label="measured")
    ax.axhline(0, **DASHED, linewidth=0.8)
    shown = np.r_[
        0, bounds.log_norm[np.isfinite(bounds.log_norm)], bounds.best[chosen][np.isfinite(bounds.best[chosen])]
    ]
    ax.set(ylim=_around(shown / decade))  # the lower bound may leave by far
    ax.set(xlim=(0, T), xlabel=time_label(bounds.unit), ylabel=r"$\log_{10}\,\|\partial y_t/\partial y_0\|$")
    ax.set_title("bounds by windows of several lengths")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    plain_numbers(ax)
    return _complete(bounds, ax) if alone else ax


@our_style()
def plot_bounds_by_window(bounds: NormBounds, ax: Axes | None = None) -> Axes:
    """Each kind of upper bound on the exponent over the whole run, against the length of the windows."""
    alone, ax = ax is None, own_axes(7, 5) if ax is None else ax
    places = np.arange(len(bounds.lengths))
    for kind, values in zip(bounds.kinds, bounds.upper[:, :, -1] / bounds.steps, strict=True):
        finite = np.isfinite(values)
        if finite.any():
            ax.plot(places[finite], values[finite], linewidth=1.2, markersize=4, label=kind, **KIND_STYLES[kind])
    ax.axhline(bounds.measured_exponent, color="black", linewidth=1.6, label="measured")
    ax.axhline(0, **DASHED, linewidth=0.8, label="neither grows nor vanishes")
    ends = bounds.upper[:, :, -1] / bounds.steps
    ax.set(ylim=_around(np.r_[0, bounds.measured_exponent, ends[np.isfinite(ends)]]))
    ax.set_xticks(places, bounds.lengths, rotation=90)
    ax.set(xlabel="windows of", ylabel="bound on the exponent (1/step)", title="how long a window it takes")
    plain_numbers(ax)
    return _complete(bounds, ax) if alone else ax


@our_style()
def draw_bounds(runs: NormBounds | Sequence[NormBounds], along: str = "") -> Shown:
    """A row a network, of one or several: its bounds over time, and how long a window they take; along: what was read."""
    runs = as_list(runs)
    named = told_apart([bounds.title for bounds in runs], [bounds.about for bounds in runs])
    figure = Shown(figsize=(13.5, 0.8 + 3.6 * len(runs)), layout="constrained")
    for pair, bounds, name in zip(figure.subplots(len(runs), 2, squeeze=False), runs, named.names, strict=True):
        for ax, plot in zip(pair, (plot_bounds_over_time, plot_bounds_by_window), strict=True):
            plot(bounds, ax)
            ax.set_title("\n".join(filter(None, (wrapped(name, 60), ax.get_title()))))
            legend_beside(ax)
    titled_all(figure, named, _what(runs[0], f" on {along}" if along else ""))
    return laid_out(figure)


def _what(bounds: NormBounds, along: str = "") -> str:
    products = f"bounds of the products of the {bounds.dtype} Jacobians as computed{along}"
    return f"{products}; the rounding of the Jacobians themselves is not covered"


def _complete(bounds: NormBounds, ax: Axes) -> Axes:
    return complete(ax, wrapped(f"{bounds.title}: {_what(bounds)}", 90), bounds.about, columns=3)


def _around(values: np.ndarray) -> tuple[float, float]:
    finite = values[np.isfinite(values)] if np.isfinite(values).any() else np.zeros(1)
    margin = 0.08 * float(np.ptp(finite)) or 1.0
    return float(finite.min()) - margin, float(finite.max()) + margin


def _ends(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Times and values where there are any, from 0 at time 0."""
    known = np.flatnonzero(np.isfinite(values))
    return np.r_[0, known + 1], np.r_[0.0, values[known]]
