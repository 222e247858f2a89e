"""Figures of the plateau's records."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gersgorin.saddle.sweeps import GateSweep, RateSweep
from rhn.figures import BLUE, GREEN, GREY, ORANGE, RED

COLOURS = (BLUE, GREEN, ORANGE, RED)
NAMES = {"rhn": "RHN", "dt-rnn": "deep transition (DT-RNN)"}


def plot_rate_sweep(sweep: RateSweep, ax: Axes | None = None) -> Axes:
    """Rates against standard deviations, a line a depth, its order written at its end."""
    ax = ax or Figure(figsize=(4, 3.4)).subplots()
    for depth, rates, orders, colour in zip(sweep.depths, sweep.rates, sweep.orders, COLOURS, strict=False):
        ax.plot(sweep.stds, rates, color=colour, linewidth=2, label=f"depth {depth}: slope {_slope(orders):.0f}")
    ax.set(xscale="log", yscale="log", title=NAMES.get(sweep.cell, sweep.cell))
    ax.set(xlabel="standard deviation of the initial weights")
    return ax


def draw_rate_sweeps(sweeps: Sequence[RateSweep]) -> Figure:
    """Several cells side by side at one scale."""
    figure = Figure(figsize=(8, 3.7), layout="constrained")
    axes = figure.subplots(1, len(sweeps), sharey=True)
    for ax, sweep in zip(axes, sweeps, strict=True):
        plot_rate_sweep(sweep, ax).axvspan(1e-8, 1e-2, color=GREY, alpha=0.1, linewidth=0)
        ax.set_ylim(1e-42, 1e2)
        ax.legend(loc="lower right")
        ax.text(1.4e-8, 3, "the paper's search box", color=GREY, fontsize=8)
    axes[0].set_ylabel("relative rate of learning on the plateau")
    return figure


def plot_gate_sweep(sweep: GateSweep, ax: Axes | None = None) -> Axes:
    """Slopes of the output matrix's rate against the transform gates' bias: measured as points, predicted as lines."""
    ax = ax or Figure(figsize=(5.5, 3.6)).subplots()
    for depth, slopes, predicted, colour in zip(sweep.depths, sweep.slopes, sweep.predicted, COLOURS, strict=False):
        ax.plot(sweep.biases, predicted, color=colour, linewidth=1.5)
        ax.plot(sweep.biases, slopes, "o", color=colour, markersize=4, label=f"depth {depth}")
    ax.axvline(sweep.border, color=GREY, linestyle="--", linewidth=1)
    ax.annotate(
        r"$c = t\,\sigma\sqrt{n}$",
        (sweep.border, ax.get_ylim()[1]),
        (-6, -8),
        "data",
        "offset points",
        ha="right",
        color=GREY,
    )
    ax.set(xlabel="bias of the transform gates", ylabel="d log rate / d log standard deviation")
    ax.legend(title="points: measured, lines: predicted", loc="upper left")
    return ax


def draw_gate_sweep(sweep: GateSweep) -> Figure:
    """One panel."""
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    plot_gate_sweep(sweep, figure.subplots())
    return figure


def _slope(orders: np.ndarray) -> float:
    return abs(float(np.nanmedian(orders)))
