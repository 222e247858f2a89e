"""Sweep untrained networks: relative gradients on the plateau against weight scale, and against
gate bias.

Untrained networks of 32 units on the chorales' 88 keys, probed with the beginnings of 16 training
chorales. The slopes are derived in docs/results/2026-11-20-plateau.md. Near zero weights a layer of
an RHN is s -> (c I + t R) s, t = sigmoid(b), c = 1 - t. If R has n x n independent entries of
standard deviation std, the root mean square of its gain is

    gain = sqrt(c^2 + t^2 n std^2)

The input passes L - 1 such layers, so the rate of the output matrix grows as gain^(L - 1): constant
if c is larger, std^(L - 1) if t std sqrt(n) is larger. The border is the gate bias b = -log(std
sqrt(n)).
"""

import math
from functools import partial

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gersgorin.analyses.plateau import TENTH, Plateau, plateau
from rhn.data import chorales
from rhn.models import PolyphonicModel
from rhn.plotting.figure import DASHES, Block, compose
from rhn.utils.figures import BLUE, GREEN, GREY, MARKERS, ORANGE, RED, drawn

UNITS, PIECES, FRAMES = 32, 16, 24
# by depth
STYLES = {1: (BLUE, DASHES[0]), 2: (GREEN, DASHES[1]), 4: (ORANGE, DASHES[2]), 6: (RED, DASHES[3])}
STDS = tuple(np.logspace(-8, -1, 15))
STD = 1e-3  # of the sweep of biases
# bias of equal gains on the transform and carry paths: c = t std sqrt(n)
BORDER = -math.log(STD * math.sqrt(UNITS))
BOX = 1e-8, 1e-2  # range of standard deviations in the paper's search
PROBED = f"{UNITS} units, seed 1, probed with {PIECES} training chorales"


def measure(cell: str, depth: int, std: float, **options) -> Plateau:
    """The plateau of one network with seed 1 on the beginnings of evenly spaced training
    chorales.
    """
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


@drawn
def draw_rates(depths=tuple(STYLES), stds=STDS) -> Figure:
    """Draw the rate of the fastest matrix against the standard deviation of the weights, a line a
    depth.
    """

    def rates(cell: str, name: str, ax: Axes) -> None:
        for depth in depths:
            found, (color, dashes) = [measure(cell, depth, std) for std in stds], STYLES[depth]
            label = f"depth {depth}: slope {abs(np.nanmedian([p.order for p in found])):.0f}"
            ax.plot(
                stds,
                [p.rates[p.fastest] for p in found],
                label=label,
                linewidth=2,
                color=color,
                linestyle=dashes,
            )
        ax.axvspan(*BOX, color=GREY, alpha=0.1, linewidth=0, label="the paper's search box")
        ax.set(
            xscale="log",
            yscale="log",
            title=name,
            xlabel="standard deviation of the initial weights",
        )
        ax.set(xlim=(stds[0], stds[-1]), ylabel="relative rate of learning on the plateau")

    draws = [partial(rates, "dt-rnn", "deep transition (DT-RNN)"), partial(rates, "rhn", "RHN")]
    title = (
        "The smaller the weights of deep transitions, the slower they learn; those of RHNs "
        "do not mind"
    )
    return compose(title, PROBED, Block(draws, 3.2, 2, "y"), width=9)


@drawn
def draw_gates(depths=tuple(STYLES), biases=tuple(range(-8, 13))) -> Figure:
    """Draw slopes of the output matrix's rate against the bias of the gates: measured as points,
    predicted as lines.
    """

    def slopes(ax: Axes) -> None:
        for depth, marker in zip(depths, MARKERS, strict=False):
            measured = [
                measure("rhn", depth, STD, transform_bias=b).slopes["output.weight"] for b in biases
            ]
            predicted, (color, dashes) = [predicted_slope(depth, b) for b in biases], STYLES[depth]
            ax.plot(biases, predicted, color=color, linestyle=dashes, label=f"depth {depth}")
            ax.plot(biases, measured, marker, color=color, markersize=4)
        ax.axvline(BORDER, color=GREY, linestyle="--", linewidth=1)
        ax.annotate(r" $c = t\,\sigma\sqrt{n}$", (BORDER, ax.get_ylim()[1]), va="top", color=GREY)
        ax.set(xlim=(biases[0], biases[-1]), xlabel="bias of the transform gates")
        ax.set_ylabel("d log rate / d log standard deviation")

    about = f"lines: predicted, points: measured; standard deviation {STD:g}, {PROBED}"
    return compose(
        "An RHN whose gates open becomes a deep transition", about, Block([slopes], 3.6), width=6.5
    )
