"""The figure of an `Analysis`, without torch: what single steps and their products do, gains, gates; for a model with a loss its credit
and its rates of learning too.

Every `plot_*` draws into the axes it is given and returns them.
"""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gersgorin.assignment.plots import SCALE, plot_credit
from gersgorin.plots import plot_products, plot_spectrum, plot_suggested, spectrum_limit
from gersgorin.record import shown_steps
from rhn.figures import BLUE, GREEN

if TYPE_CHECKING:
    from gersgorin.overview import Analysis
    from gersgorin.saddle.record import Plateau


def plot_gains(found: "Analysis", ax: Axes | None = None) -> Axes:
    """Gains of the input and of each layer over time."""
    ax = ax or Figure(figsize=(5, 2.5)).subplots()
    ax.plot(found.input_gain, color=GREEN, linestyle="--", label="input")
    for k, color in enumerate(_shades(found.state_gain.shape[1])):
        ax.plot(found.state_gain[:, k], color=color, linewidth=1.2, label=f"layer {k + 1}")
    ax.set(xlim=(0, len(found.input_gain) - 1 or 1), xlabel=found.spectrum.time_label, ylabel="2-norm")
    return ax


def plot_gates(found: "Analysis", ax: Axes | None = None) -> Axes:
    """Each layer's transform gate over time, mean over its units."""
    ax = ax or Figure(figsize=(5, 2.5)).subplots()
    gates = found.spectrum.transform_gate
    for k, color in enumerate(_shades(gates.shape[1])):
        ax.plot(gates[:, k], color=color, linewidth=1.2, label=f"layer {k + 1}")
    ax.set(xlim=(0, len(gates) - 1 or 1), ylim=(0, 1), xlabel=found.spectrum.time_label, ylabel="open")
    return ax


def plot_rates(plateau: "Plateau", ax: Axes | None = None) -> Axes:
    """Relative rates of learning at the constant output, a bar a matrix, on a log scale."""
    ax = ax or Figure(figsize=(5, 2.5)).subplots()
    rates = {name: rate for name, rate in plateau.rates.items() if rate > 0}
    ax.barh(list(rates), list(rates.values()), color=BLUE)
    if rates:
        ends = np.floor(np.log10(min(rates.values()))), np.ceil(np.log10(max(rates.values())) + 1e-9)
        ax.set(xscale="log", xlim=(10 ** ends[0], 10 ** ends[1]))
    ax.invert_yaxis()
    ax.set(xlabel="relative rate ||dL/dW|| / ||W||")
    return ax


def draw_overview(found: "Analysis") -> Figure:
    """Spectra of a few steps, and under them a panel a part of the analysis."""
    record = found.spectrum
    steps, limit = shown_steps(len(record.norm)), spectrum_limit([record])
    panels = {
        "What single steps suggest": lambda ax: plot_suggested(record, ax),
        "What the products of the steps do": lambda ax: plot_products(record, ax, exponent_axis=False),
        "Gains within a step": lambda ax: plot_gains(found, ax),
    }
    if record.transform_gate.size:
        panels["Transform gates"] = lambda ax: plot_gates(found, ax)
    if found.credit is not None:
        panels["Credit: which losses reach which states"] = lambda ax: _credit(found, ax)
    if found.plateau is not None:
        panels["Rates of learning at the constant output"] = lambda ax: plot_rates(found.plateau, ax)
    rows = -(-len(panels) // 2)
    figure = Figure(figsize=(12, 3 + 2.6 * rows), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(3, 2.6 * rows))
    for ax, step in zip(np.atleast_1d(top.subplots(1, len(steps), sharex=True, sharey=True)), steps, strict=True):
        plot_spectrum(record, step, limit=limit, ax=ax).set_title(f"step {step}")
    top.suptitle(found.title, fontsize=11)
    grid = bottom.subplots(rows, 2, squeeze=False)
    for ax, (title, draw) in zip(grid.flat, panels.items(), strict=False):
        draw(ax).set_title(title, loc="left")
        if len(ax.get_legend_handles_labels()[0]) > 1:
            ax.legend(loc="best", fontsize=7)
    for ax in grid.flat[len(panels) :]:
        ax.set_axis_off()
    return figure


def _credit(found: "Analysis", ax: Axes) -> Axes:
    """The heat map with its scale."""
    plot_credit(found.credit, ax).set_aspect("auto")
    ax.figure.colorbar(ax.images[0], ax=ax, label=SCALE, extend="min")
    return ax


def _shades(count: int) -> np.ndarray:
    return colormaps["viridis"](np.linspace(0, 0.9, max(count, 1)))[:count]
