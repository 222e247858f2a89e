"""Sweep untrained networks: relative gradients on the plateau against weight scale, and against gate bias.

Untrained networks of 32 units on the chorales' 88 keys, probed with the beginnings of 16 training chorales. The slopes are derived in
docs/results/2026-11-20-plateau.md. Near zero weights a layer of an RHN is s -> (c I + t R) s, t = sigmoid(b), c = 1 - t. If R has
n x n independent entries of standard deviation std, the root mean square of its gain is

    gain = sqrt(c^2 + t^2 n std^2)

The input passes L - 1 such layers, so the rate of the output matrix grows as gain^(L - 1): constant if c is larger, std^(L - 1) if
t std sqrt(n) is larger. The border is the gate bias b = -log(std sqrt(n)).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes

from gersgorin.analyses.plateau import TENTH, Plateau, plateau
from gersgorin.plotting.figure import DASHES, MARKERS, Shown, laid_out, legend_beside, panel
from rhn.data import chorales
from rhn.models import PolyphonicModel
from rhn.utils.figures import BLUE, GREEN, GREY, ORANGE, RED, our_style, titled
from rhn.utils.result import Result

UNITS, PIECES, FRAMES = 32, 16, 24
DEPTHS = (1, 2, 4, 6)
BIASES = tuple(float(b) for b in range(-8, 13))
CROSSING_STD = 1e-3
PROBED = f"{UNITS} units, seed 1, probed with {PIECES} training chorales"


@dataclass(frozen=True, repr=False)
class RateSweep(Result):
    """Rates of the fastest matrix and orders of the plateau, (depths, stds) each."""

    cell: str
    depths: tuple[int, ...]
    stds: np.ndarray
    rates: np.ndarray
    orders: np.ndarray


@dataclass(frozen=True, repr=False)
class GateSweep(Result):
    """Slope and rate of the output matrix of RHNs against the bias of the transform gates, (depths, biases)."""

    depths: tuple[int, ...]
    biases: np.ndarray
    std: float
    slopes: np.ndarray
    predicted: np.ndarray
    """The slopes predicted by the gain."""
    rates: np.ndarray

    @property
    def border(self) -> float:
        """The bias of equal gains on the transform and carry paths: c = t std sqrt(n)."""
        return -math.log(self.std * math.sqrt(UNITS))


def sweep_rates(cell: str, depths: Sequence[int] = DEPTHS, stds: Sequence[float] | None = None) -> RateSweep:
    """Rates against the standard deviation of Gaussian weights, by default from 1e-8 to 1e-1."""
    stds = np.logspace(-8, -1, 15) if stds is None else np.array(stds)
    measured = [[measure(cell, depth, std) for std in stds] for depth in depths]
    rates, orders = np.array([[(p.rates[p.fastest], p.order) for p in row] for row in measured]).transpose(2, 0, 1)
    return RateSweep(cell, tuple(depths), stds, rates, orders, about=PROBED)


def sweep_gates(depths: Sequence[int] = DEPTHS, biases: Sequence[float] = BIASES) -> GateSweep:
    """Measured and predicted slopes of RHNs against the gate bias."""
    measured = [[measure("rhn", depth, CROSSING_STD, transform_bias=b) for b in biases] for depth in depths]
    predicted = [[predicted_slope(depth, b, CROSSING_STD) for b in biases] for depth in depths]
    output = [[(p.slopes["output.weight"], p.rates["output.weight"]) for p in row] for row in measured]
    slopes, rates = np.array(output).transpose(2, 0, 1)
    about = f"standard deviation {CROSSING_STD:g}, {PROBED}"
    return GateSweep(tuple(depths), np.array(biases), CROSSING_STD, slopes, np.array(predicted), rates, about=about)


def predicted_slope(depth: int, bias: float, std: float, units: int = UNITS) -> float:
    """The mean slope of gain^(L - 1) between a standard deviation and a tenth of it.

    >>> predicted_slope(6, -8.0, 1e-3) < 0.01, predicted_slope(6, 30.0, 1e-3) > 4.99
    (True, True)
    """
    t = 1 / (1 + math.exp(-bias))

    def log_gain(s: float) -> float:
        return 0.5 * math.log((1 - t) ** 2 + t * t * units * s * s)

    return (depth - 1) * (log_gain(std) - log_gain(TENTH * std)) / -math.log(TENTH)


def measure(cell: str, depth: int, std: float, **options) -> Plateau:
    """The plateau of one network with seed 1."""
    generator = torch.Generator().manual_seed(1)
    scheme = "identity" if cell == "irnn" else "gaussian"
    model = PolyphonicModel(
        cell, hidden_size=UNITS, depth=depth, init=f"{scheme}:{float(std)!r}", generator=generator, **options
    )
    return plateau(model, probe())


def probe() -> list[np.ndarray]:
    """The beginnings of evenly spaced training chorales."""
    pieces = [piece for piece in chorales(progress=False).train if len(piece) >= FRAMES]
    return [np.asarray(piece)[:FRAMES] for piece in pieces[:: len(pieces) // PIECES][:PIECES]]


COLOURS = (BLUE, GREEN, ORANGE, RED)
BOX = 1e-8, 1e-2  # range of standard deviations in the paper's search
RATE = "relative rate of learning on the plateau"
NAMES = {"rhn": "RHN", "dt-rnn": "deep transition (DT-RNN)"}


@panel(5, 4.4, "rates of learning on the plateau")
def plot_rate_sweep(sweep: RateSweep, ax: Axes | None = None) -> Axes:
    """Draw rates against standard deviations, a line per depth, with the order in the legend."""
    for k, (depth, rates, orders) in enumerate(zip(sweep.depths, sweep.rates, sweep.orders, strict=True)):
        label = f"depth {depth}: slope {_slope(orders):.0f}"
        ax.plot(sweep.stds, rates, label=label, linewidth=2, **_style(k))
    ax.set(xscale="log", yscale="log" if (sweep.rates > 0).any() else "linear", title=NAMES.get(sweep.cell, sweep.cell))
    ax.set(xlabel="standard deviation of the initial weights", ylabel=RATE)
    return ax


@our_style()
def draw_rate_sweeps(sweeps: Sequence[RateSweep]) -> Shown:
    """Draw several cells side by side at one scale."""
    figure = Shown(figsize=(2 + 4.6 * len(sweeps), 4.4), layout="constrained")
    axes = figure.subplots(1, len(sweeps), sharey=True, squeeze=False)[0]
    for k, (ax, sweep) in enumerate(zip(axes, sweeps, strict=True)):
        plot_rate_sweep(sweep, ax).axvspan(*BOX, color=GREY, alpha=0.1, linewidth=0, label="the paper's search box")
        ax.set_ylabel(RATE if k == 0 else "")
        legend_beside(ax)
    title = "The smaller the weights of deep transitions, the slower they learn; those of RHNs do not mind"
    titled(figure, title, PROBED)
    return laid_out(figure)


@panel(7, 5.4, "an RHN whose gates open becomes a deep transition")
def plot_gate_sweep(sweep: GateSweep, ax: Axes | None = None) -> Axes:
    """Draw slopes of the output matrix's rate against the gate bias: measured as points, predicted as lines."""
    for k, (depth, slopes, predicted) in enumerate(zip(sweep.depths, sweep.slopes, sweep.predicted, strict=True)):
        style = _style(k)
        ax.plot(sweep.biases, predicted, linewidth=1.5, label=f"depth {depth}, predicted", **style)
        marker, color = MARKERS[k % len(MARKERS)], style["color"]
        ax.plot(sweep.biases, slopes, marker, color=color, markersize=4, label=f"depth {depth}, measured")
    ax.axvline(sweep.border, color=GREY, linestyle="--", linewidth=1, label=r"$c = t\,\sigma\sqrt{n}$")
    ax.set(xlabel="bias of the transform gates", ylabel="d log rate / d log standard deviation")
    return ax


def _style(k: int) -> dict:
    return {"color": COLOURS[k % len(COLOURS)], "linestyle": DASHES[k % len(DASHES)]}


def _slope(orders: np.ndarray) -> float:
    return abs(float(np.nanmedian(orders)))
