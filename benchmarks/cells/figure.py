"""The comparison as one figure: a row a cell, a panel a measure."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.cells.networks import Network
from benchmarks.cells.studies import Study
from benchmarks.cells.summary import MOMENTS, of, ranked
from gersgorin.data import chorales_origin
from rhn.plotting.figures import BLUE, GREEN, GREY, ORANGE, titled

COLORS = dict(zip(MOMENTS, (ORANGE, GREEN, BLUE), strict=True))
MARKERS = dict(zip(MOMENTS, "D^o", strict=True))
SHIFTS = dict(zip(MOMENTS, (-0.25, 0.0, 0.25), strict=True))
PANELS = {  # measure: (title, scale, options of the scale)
    "radius": ("spectral radius, mean", "linear", {}),
    "bulk": ("mean eigenvalue\n(trace / N)", "linear", {}),
    "exponent": ("finite-time exponent\n(1 / quarter note)", "symlog", {"linthresh": 0.1}),
    "input_gain": ("input gain\n(2-norm of ds'/dx, mean)", "log", {}),
    "looseness": ("discs' reach /\nspectral radius, median", "log", {}),
}
VANISHED = -100.0  # where an exponent of minus infinity is drawn
MOST = 14.0  # where a larger loss is drawn


def draw(studies: Mapping[str, Study], networks: Mapping[str, Sequence[Network]], title: str) -> Figure:
    """Rows in the order of the mean loss over seeds."""
    cells = ranked(studies, networks)
    figure = Figure(figsize=(15, 1.8 + 0.34 * len(cells)), layout="constrained")
    axes = figure.subplots(1, 2 + len(PANELS), sharey=True, width_ratios=[2, 1] + [1.2] * len(PANELS))
    plot_losses(studies, networks, axes[0])
    plot_shares([studies[cell] for cell in cells], axes[1])
    for ax, name in zip(axes[2:], PANELS, strict=True):
        plot_measure([networks[cell] for cell in cells], name, ax)
    axes[0].set_yticks(range(len(cells)), [_label(networks[cell]) for cell in cells])
    axes[0].set_ylim(len(cells) - 0.5, -0.5)
    for ax in axes:
        ax.hlines(
            np.arange(1, len(cells)) - 0.5,
            0,
            1,
            transform=ax.get_yaxis_transform(),
            color="0.92",
            linewidth=0.8,
            zorder=0,
        )
        ax.tick_params(axis="y", length=0)
    points = {
        "a random setting of the study": ("0.6", "o", 3),
        "a seed of the best setting, before training": (ORANGE, MARKERS["initial"], 5),
        "a seed of the usual start (1 / sqrt(inputs)), untrained": (GREEN, MARKERS["usual"], 5),
        "a seed of the best setting, trained": (BLUE, MARKERS["trained"], 5),
    }
    handles = [
        Line2D([], [], color=c, marker=marker, linestyle="", markersize=size, label=w)
        for w, (c, marker, size) in points.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    titled(figure, title, f"random search of 60 settings a cell, at most 120 epochs, seed 0; {chorales_origin()}")
    figure.get_layout_engine().set(wspace=0.03)
    return figure


def plot_losses(studies: Mapping[str, Study], networks: Mapping[str, Sequence[Network]], ax: Axes) -> Axes:
    """The training losses of all settings, and of the best one's seeds; dashed, the best constant output."""
    for place, cell in enumerate(ranked(studies, networks)):
        losses = [min(row.best_train_nll, MOST) for row in studies[cell].rows]
        ax.plot(losses, [place + SHIFTS["initial"]] * len(losses), "o", color="0.6", markersize=2.5, markeredgewidth=0)
        seeds = [min(network.train_nll, MOST) for network in of(networks[cell], "trained")]
        ax.plot(
            seeds, [place + SHIFTS["trained"]] * len(seeds), "o", color=BLUE, markersize=4, markeredgewidth=0, alpha=0.7
        )
    constant = next(iter(studies.values())).rows[0].constant_nll
    if constant is not None:
        ax.axvline(constant, color=GREY, linestyle="--", linewidth=0.8)
    ax.set_xticks(range(8, 15, 2), ["8", "10", "12", "≥ 14"])
    ax.set(title="best training loss (nats a frame)\ndashed: the best constant output")
    return ax


def plot_shares(studies: Sequence[Study], ax: Axes) -> Axes:
    """Shares of the settings that left the plateau, with exact intervals of 95 %."""
    for place, study in enumerate(studies):
        share, low, high = study.share
        ax.plot([low, high], [place, place], color=GREY, linewidth=1.2)
        ax.plot(share, place, "o", color=GREY, markersize=4)
    ax.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    ax.set(xlim=(-0.03, 1.03), title="settings that left\nthe plateau (95 %)")
    return ax


def plot_measure(networks: Sequence[Sequence[Network]], name: str, ax: Axes) -> Axes:
    """One measure of `PANELS`, a row for each cell's networks, before and after training."""
    title, scale, options = PANELS[name]
    for moment in MOMENTS:
        points = [
            (getattr(n, name), place + SHIFTS[moment]) for place, each in enumerate(networks) for n in of(each, moment)
        ]
        x, y = np.array(points).T
        shown = np.maximum(x, VANISHED) if name == "exponent" else x
        ax.plot(shown, y, MARKERS[moment], color=COLORS[moment], markersize=4, markeredgewidth=0, alpha=0.7)
    ax.set_xscale(scale, **options)
    if name == "exponent":
        ax.set_xticks([VANISHED, -10, -1, -0.1, 0.1], ["-∞", "-10", "-1", "-0.1", "0.1"])
        ax.minorticks_off()
    neutral: dict[str, Callable[[], object]] = {
        "radius": lambda: ax.axvline(1, **_thin),
        "exponent": lambda: ax.axvline(0, **_thin),
    }
    neutral.get(name, lambda: None)()
    ax.set_title(title)
    return ax


_thin = {"color": GREY, "linewidth": 0.8, "linestyle": ":"}


def _label(networks: Sequence[Network]) -> str:
    return f"{networks[0].cell}, {networks[0].hidden_size} units"
