"""What windows certify, drawn: bounds over time beside the measured norm, and each kind of bound by the window's length."""

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gersgorin.certified.record import CertifiedBounds
from gersgorin.record import time_label
from rhn.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, RED

KIND_STYLES = {
    "norm": {"color": BLUE, "marker": "o"},
    "diagonal norm": {"color": ORANGE, "marker": "s", "linestyle": "--"},
    "quadratic norm": {"color": GREEN, "marker": "D", "linestyle": "--"},
    "numerical radius": {"color": PURPLE, "marker": "v", "linestyle": ":"},
    "logarithmic norm": {"color": RED, "marker": "^", "linestyle": ":"},
}
SHOWN = 6  # window lengths in one panel over time


def plot_bounds_over_time(bounds: CertifiedBounds, ax: Axes | None = None) -> Axes:
    """Certified upper and lower bounds on the norm of dy[t]/dy[0] from windows of several lengths, and the norm measured."""
    ax = ax or Figure(figsize=(8, 3.5)).subplots()
    T, decade = bounds.steps, np.log(10)
    chosen = sorted({round(k) for k in np.linspace(0, len(bounds.lengths) - 1, SHOWN)})
    colors = colormaps["viridis"](np.linspace(0.0, 0.85, len(chosen)))
    for w, color in zip(chosen, colors, strict=True):
        t, upper = _ends(bounds.best[w])
        ax.plot(t, upper / decade, color=color, linewidth=1.1, label=f"at most: {bounds.lengths[w]}")
    step = next(w for w in chosen if bounds.window_steps[w])
    t, lower = _ends(bounds.lower[step])
    if len(t) > 1:
        ax.plot(t, lower / decade, color=GREY, linestyle=":", linewidth=1.1, label=f"at least: {bounds.lengths[step]}")
    t, log_norm = _ends(bounds.log_norm)
    ax.plot(t, log_norm / decade, color="black", linewidth=1.6, label="measured")
    ax.axhline(0, color="black", linestyle=(0, (4, 3)), linewidth=0.8)
    shown = np.r_[
        0, bounds.log_norm[np.isfinite(bounds.log_norm)], bounds.best[chosen][np.isfinite(bounds.best[chosen])]
    ]
    ax.set(ylim=_around(shown / decade))  # the lower bound may leave by far
    ax.set(xlim=(0, T), xlabel=time_label(bounds.unit), ylabel=r"$\log_{10}\,\|\partial y_t/\partial y_0\|$")
    return ax


def plot_bounds_by_window(bounds: CertifiedBounds, ax: Axes | None = None) -> Axes:
    """The exponent over the whole run that each kind of bound certifies, against the length of the windows."""
    ax = ax or Figure(figsize=(8, 3.5)).subplots()
    places = np.arange(len(bounds.lengths))
    for kind, values in zip(bounds.kinds, bounds.upper[:, :, -1] / bounds.steps, strict=True):
        finite = np.isfinite(values)
        if finite.any():
            ax.plot(places[finite], values[finite], linewidth=1.2, markersize=4, label=kind, **KIND_STYLES[kind])
    ax.axhline(bounds.measured_exponent, color="black", linewidth=1.6, label="measured")
    ax.axhline(0, color="black", linestyle=(0, (4, 3)), linewidth=0.8, label="neither grows nor vanishes")
    ends = bounds.upper[:3, :, -1] / bounds.steps
    ax.set(ylim=_around(np.r_[0, bounds.measured_exponent, ends[np.isfinite(ends)]]))  # the others may leave by far
    ax.set_xticks(places, bounds.lengths, rotation=35, ha="right")
    ax.set(xlabel="windows of", ylabel="certified exponent (1/step)")
    return ax


def draw_bounds(runs: list[CertifiedBounds], along: str) -> Figure:
    """A row a network: its bounds over time, and how long a window they take."""
    figure = Figure(figsize=(13.5, 0.6 + 3.4 * len(runs)), layout="constrained")
    for (left, right), bounds in zip(figure.subplots(len(runs), 2, squeeze=False), runs, strict=True):
        plot_bounds_over_time(bounds, left).set_title(f"{bounds.title}: what windows certify", loc="left")
        plot_bounds_by_window(bounds, right).set_title("How long a window it takes", loc="left")
        for ax in (left, right):
            ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.suptitle(f"Certified bounds of the gradient on {along}, rounding counted in", fontsize=11)
    return figure


def _around(values: np.ndarray) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    margin = 0.08 * float(np.ptp(finite)) or 1.0
    return float(finite.min()) - margin, float(finite.max()) + margin


def _ends(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Times and values where there are any, from 0 at time 0."""
    known = np.flatnonzero(np.isfinite(values))
    return np.r_[0, known + 1], np.r_[0.0, values[known]]
