"""Sweep untrained networks: relative gradients on the plateau against weight scale, and against gate bias.

Untrained networks of 32 units on the chorales' 88 keys, probed with the beginnings of 16 training chorales. The slopes are derived in
docs/results/2026-11-20-plateau.md. Near zero weights a layer of an RHN is s -> (c I + t R) s, t = sigmoid(b), c = 1 - t. If R has
n x n independent entries of standard deviation std, the root mean square of its gain is

    gain = sqrt(c^2 + t^2 n std^2)

The input passes L - 1 such layers, so the rate of the output matrix grows as gain^(L - 1): constant if c is larger, std^(L - 1) if
t std sqrt(n) is larger. The border is the gate bias b = -log(std sqrt(n)).
"""

import math

import numpy as np
import torch
from matplotlib.figure import Figure

from gersgorin.analyses.plateau import TENTH, Plateau, plateau
from gersgorin.plotting.figure import DASHES, MARKERS, Shown, laid_out, legend_beside
from rhn.data import chorales
from rhn.models import PolyphonicModel
from rhn.utils.figures import BLUE, GREEN, GREY, ORANGE, RED, our_style, titled

UNITS, PIECES, FRAMES = 32, 16, 24
STYLES = {1: (BLUE, DASHES[0]), 2: (GREEN, DASHES[1]), 4: (ORANGE, DASHES[2]), 6: (RED, DASHES[3])}  # by depth
STDS = tuple(np.logspace(-8, -1, 15))
STD = 1e-3  # of the sweep of biases
BORDER = -math.log(STD * math.sqrt(UNITS))  # bias of equal gains on the transform and carry paths: c = t std sqrt(n)
BOX = 1e-8, 1e-2  # range of standard deviations in the paper's search
PROBED = f"{UNITS} units, seed 1, probed with {PIECES} training chorales"


def measure(cell: str, depth: int, std: float, **options) -> Plateau:
    """The plateau of one network with seed 1 on the beginnings of evenly spaced training chorales."""
    pieces = [piece for piece in chorales().train if len(piece) >= FRAMES]
    probe = [np.asarray(piece)[:FRAMES] for piece in pieces[:: len(pieces) // PIECES][:PIECES]]
    generator = torch.Generator().manual_seed(1)
    given = {"depth": depth, "init": f"gaussian:{float(std)!r}", "generator": generator} | options
    return plateau(PolyphonicModel(cell, hidden_size=UNITS, **given), probe)


def predicted_slope(depth: int, bias: float, std: float = STD, units: int = UNITS) -> float:
    """The mean slope of gain^(L - 1) between a standard deviation and a tenth of it.

    >>> predicted_slope(6, -8.0) < 0.01, predicted_slope(6, 30.0) > 4.99
    (True, True)
    """
    t = 1 / (1 + math.exp(-bias))
    large, small = ((1 - t) ** 2 + t * t * units * s * s for s in (std, TENTH * std))
    return (depth - 1) * 0.5 * math.log(large / small) / -math.log(TENTH)


@our_style()
def draw_rates(depths=tuple(STYLES), stds=STDS) -> Figure:
    """Draw the rate of the fastest matrix against the standard deviation of the weights, a line a depth."""
    figure = Shown(11.2, 4.4)
    axes = figure.subplots(1, 2, sharey=True)
    for ax, (cell, name) in zip(axes, {"dt-rnn": "deep transition (DT-RNN)", "rhn": "RHN"}.items(), strict=True):
        for depth in depths:
            found, (color, dashes) = [measure(cell, depth, std) for std in stds], STYLES[depth]
            label = f"depth {depth}: slope {abs(np.nanmedian([p.order for p in found])):.0f}"
            rates = [p.rates[p.fastest] for p in found]
            ax.plot(stds, rates, label=label, linewidth=2, color=color, linestyle=dashes)
        ax.axvspan(*BOX, color=GREY, alpha=0.1, linewidth=0, label="the paper's search box")
        ax.set(xscale="log", yscale="log", title=name, xlabel="standard deviation of the initial weights")
        legend_beside(ax)
    axes[0].set_ylabel("relative rate of learning on the plateau")
    titled(
        figure, "The smaller the weights of deep transitions, the slower they learn; those of RHNs do not mind", PROBED
    )
    return laid_out(figure)


@our_style()
def draw_gates(depths=tuple(STYLES), biases=tuple(range(-8, 13))) -> Figure:
    """Draw slopes of the output matrix's rate against the bias of the gates: measured as points, predicted as lines."""
    figure = Shown(7, 5.4)
    ax = figure.subplots()
    for depth, marker in zip(depths, MARKERS, strict=False):
        measured = [measure("rhn", depth, STD, transform_bias=b).slopes["output.weight"] for b in biases]
        predicted, (color, dashes) = [predicted_slope(depth, b) for b in biases], STYLES[depth]
        ax.plot(biases, predicted, color=color, linestyle=dashes, label=f"depth {depth}, predicted")
        ax.plot(biases, measured, marker, color=color, markersize=4, label=f"depth {depth}, measured")
    ax.axvline(BORDER, color=GREY, linestyle="--", linewidth=1, label=r"$c = t\,\sigma\sqrt{n}$")
    ax.set(xlabel="bias of the transform gates", ylabel="d log rate / d log standard deviation")
    legend_beside(ax)
    titled(figure, "An RHN whose gates open becomes a deep transition", f"standard deviation {STD:g}, {PROBED}")
    return laid_out(figure)
