"""Figures of the plateau's records."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from gersgorin.looks import DASHES, MARKERS, complete, legend_beside
from gersgorin.saddle.sweeps import PIECES, UNITS, GateSweep, RateSweep
from gersgorin.shown import Shown, laid_out, own_axes
from rhn.figures import BLUE, GREEN, GREY, ORANGE, RED, our_style, titled

COLOURS = (BLUE, GREEN, ORANGE, RED)
BOX = 1e-8, 1e-2  # standard deviations that the paper searches
RATE = "relative rate of learning on the plateau"
OPENING = "An RHN whose gates open becomes a deep transition"
PROBED = f"{UNITS} units, seed 1, probed with {PIECES} training chorales"
NAMES = {"rhn": "RHN", "dt-rnn": "deep transition (DT-RNN)"}


@our_style()
def plot_rate_sweep(sweep: RateSweep, ax: Axes | None = None) -> Axes:
    """Rates against standard deviations, a line a depth, its order in the legend."""
    alone, ax = ax is None, own_axes(5, 4.4) if ax is None else ax
    for k, (depth, rates, orders) in enumerate(zip(sweep.depths, sweep.rates, sweep.orders, strict=True)):
        label = f"depth {depth}: slope {_slope(orders):.0f}"
        ax.plot(sweep.stds, rates, label=label, linewidth=2, **_style(k))
    ax.set(xscale="log", yscale="log" if (sweep.rates > 0).any() else "linear", title=NAMES.get(sweep.cell, sweep.cell))
    ax.set(xlabel="standard deviation of the initial weights", ylabel=RATE)
    return complete(ax, "Rates of learning on the plateau", PROBED) if alone else ax


@our_style()
def draw_rate_sweeps(sweeps: Sequence[RateSweep]) -> Shown:
    """Several cells side by side at one scale."""
    figure = Shown(figsize=(2 + 4.6 * len(sweeps), 4.4), layout="constrained")
    axes = figure.subplots(1, len(sweeps), sharey=True, squeeze=False)[0]
    for k, (ax, sweep) in enumerate(zip(axes, sweeps, strict=True)):
        plot_rate_sweep(sweep, ax).axvspan(*BOX, color=GREY, alpha=0.1, linewidth=0, label="the paper's search box")
        ax.set_ylabel(RATE if k == 0 else "")
        legend_beside(ax)
    title = "The smaller the weights of deep transitions, the slower they learn; those of RHNs do not mind"
    titled(figure, title, PROBED)
    return laid_out(figure)


@our_style()
def plot_gate_sweep(sweep: GateSweep, ax: Axes | None = None) -> Axes:
    """Slopes of the output matrix's rate against the transform gates' bias: measured as points, predicted as lines."""
    alone, ax = ax is None, own_axes(6.4, 5) if ax is None else ax
    for k, (depth, slopes, predicted) in enumerate(zip(sweep.depths, sweep.slopes, sweep.predicted, strict=True)):
        style = _style(k)
        ax.plot(sweep.biases, predicted, linewidth=1.5, label=f"depth {depth}, predicted", **style)
        marker, color = MARKERS[k % len(MARKERS)], style["color"]
        ax.plot(sweep.biases, slopes, marker, color=color, markersize=4, label=f"depth {depth}, measured")
    ax.axvline(sweep.border, color=GREY, linestyle="--", linewidth=1, label=r"$c = t\,\sigma\sqrt{n}$")
    ax.set(xlabel="bias of the transform gates", ylabel="d log rate / d log standard deviation")
    return complete(ax, OPENING, f"standard deviation {sweep.std:g}, {PROBED}") if alone else ax


@our_style()
def draw_gate_sweep(sweep: GateSweep) -> Shown:
    """One panel."""
    figure = Shown(figsize=(8.4, 4.4), layout="constrained")
    legend_beside(plot_gate_sweep(sweep, figure.subplots()))
    titled(figure, OPENING, f"standard deviation {sweep.std:g}, {PROBED}")
    return laid_out(figure)


def _style(k: int) -> dict:
    return {"color": COLOURS[k % len(COLOURS)], "linestyle": DASHES[k % len(DASHES)]}


def _slope(orders: np.ndarray) -> float:
    return abs(float(np.nanmedian(orders)))
