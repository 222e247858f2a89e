"""The figure of an `Analysis`, without torch: what single steps and their products do, gains, gates; for a model with a loss its credit
and its rates of learning too.

Every `plot_*` draws into the axes it is given and returns them.
"""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from gersgorin.assignment.plots import SCALE, plot_credit
from gersgorin.looks import complete, legend_beside, shade_style, wrapped
from gersgorin.plots import crowd, plot_products, plot_suggested, spectrum_limit
from gersgorin.run_plots import distinct_steps, plot_steps
from gersgorin.shown import Shown, laid_out, own_axes, plain_numbers
from rhn.figures import BLUE, GREEN, drawable, our_style, titled

if TYPE_CHECKING:
    from gersgorin.overview import Analysis
    from gersgorin.saddle.record import Plateau


@our_style()
def plot_gains(found: "Analysis", ax: Axes | None = None) -> Axes:
    """Gains of the input and of each layer over time."""
    alone, ax = ax is None, own_axes(6, 4) if ax is None else ax
    dot = {"marker": "."} if len(found.input_gain) == 1 else {}
    ax.plot(found.input_gain, color=GREEN, linestyle="--", label="input", **dot)
    _plot_layers(found.state_gain, ax)
    ax.set(xlim=(0, len(found.input_gain) - 1 or 1), xlabel=found.spectrum.time_label, ylabel="2-norm")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _finished(found, ax, alone)


@our_style()
def plot_gates(found: "Analysis", ax: Axes | None = None) -> Axes:
    """Each layer's transform gate over time, mean over its units."""
    alone, ax = ax is None, own_axes(6, 4) if ax is None else ax
    gates = found.spectrum.transform_gate
    _plot_layers(gates, ax)
    ax.set(xlim=(0, len(gates) - 1 or 1), ylim=(0, 1), xlabel=found.spectrum.time_label, ylabel="open (0 to 1)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _finished(found, ax, alone)


@our_style()
def plot_rates(plateau: "Plateau", ax: Axes | None = None) -> Axes:
    """Relative rates of learning at the constant output, a bar a matrix, on a log scale."""
    alone, ax = ax is None, own_axes(6, 4) if ax is None else ax
    rates = {name: rate for name, rate in plateau.rates.items() if rate > 0}
    ax.barh([wrapped(name, 30, 2) for name in rates], list(rates.values()), color=BLUE)
    if rates:
        ends = np.floor(np.log10(min(rates.values()))), np.ceil(np.log10(max(rates.values())) + 1e-9)
        ax.set(xscale="log", xlim=(10 ** ends[0], 10 ** ends[1]))
    ax.invert_yaxis()
    ax.set(xlabel="relative rate ||dL/dW|| / ||W||")
    return complete(ax, "Rates of learning at the constant output") if alone else ax


@our_style()
def draw_overview(found: "Analysis") -> Shown:
    """Spectra of a few steps, and under them a panel a part of the analysis."""
    record = found.spectrum
    panels = {
        "What single steps suggest": lambda ax: plot_suggested(record, ax),
        "What the products of the steps do": lambda ax: plot_products(record, ax, exponent_axis=False),
        "Gains within a step": lambda ax: plot_gains(found, ax),
    }
    if record.transform_gate.size:
        panels[f"{record.gate_name[:1].upper()}{record.gate_name[1:]}s"] = lambda ax: plot_gates(found, ax)
    if found.credit is not None:
        panels["Credit: which losses reach which states"] = lambda ax: _credit(found, ax)
    if found.plateau is not None:
        panels["Rates of learning at the constant output"] = lambda ax: plot_rates(found.plateau, ax)
    rows = -(-len(panels) // 2)
    limit = spectrum_limit([record])
    steps = distinct_steps(record, limit)
    crowded = any(crowd(record.eigenvalues[step], limit) for step in steps)
    heights = (3.8 + 2.6 * (crowded and len(steps) > 2), 2.7 * rows)
    figure = Shown(figsize=(13, sum(heights)), layout="constrained")
    titled(figure, drawable(found.title), drawable(record.about))
    top, bottom = figure.subfigures(2, 1, height_ratios=heights)
    plot_steps(record, steps, limit, crowded, False, top)
    grid = bottom.subplots(rows, 2, squeeze=False)
    for ax, (title, draw) in zip(grid.flat, panels.items(), strict=False):
        draw(ax)
        ax.set_title("")
        ax.set_title(title, loc="left")
        legend_beside(ax, fontsize=7)
    for ax in grid.flat[len(panels) :]:
        ax.set_axis_off()
    return laid_out(figure)


def _credit(found: "Analysis", ax: Axes) -> Axes:
    """The heat map with its scale."""
    plot_credit(found.credit, ax).set_aspect("auto")
    ax.figure.colorbar(ax.images[0], ax=ax, label=SCALE, extend="min")
    return ax


def _plot_layers(values: np.ndarray, ax: Axes) -> None:
    """(T, L): a line a layer."""
    dot = {"marker": "."} if len(values) == 1 else {}
    for k, layer in enumerate(values.T):
        ax.plot(layer, linewidth=1.3, label=f"layer {k + 1}", **shade_style(k, values.shape[1]), **dot)


def _finished(found: "Analysis", ax: Axes, alone: bool) -> Axes:
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    plain_numbers(ax)
    return complete(ax, found.title, found.spectrum.about, columns=4) if alone else ax
