"""Figures of a training from its `Recording`, without torch: a panel a quantity over the steps of training, and the moving spectrum.

Every `plot_*` draws into the axes it is given and returns them. Bands show the spread over the positions of the probe.
"""

from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gersgorin._outline import discs_outline
from gersgorin.animation import write_animation
from gersgorin.plots import CIRCLE, DASHED
from gersgorin.recording import MEASURES, Recording
from rhn.errors import DataError
from rhn.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, our_style

MOST_FRAMES = 240  # of an animation
MOST_LINES = 8  # of a panel


def plot_measures(recording: Recording, names: dict[str, str], ax: Axes | None = None) -> Axes:
    """Measures by name (see `MEASURES`) in these colours: their means over the probe's positions, and their spread as bands."""
    ax = ax or Figure(figsize=(5, 2.5)).subplots()
    for name, color in names.items():
        values = getattr(recording, name)
        ax.plot(recording.step, recording.mean(name), color=color, label=MEASURES[name], **_dots(recording))
        if values.ndim > 1:
            ax.fill_between(recording.step, values.min(1), values.max(1), color=color, alpha=0.2, linewidth=0)
    return ax


def plot_layers(recording: Recording, name: str, ax: Axes | None = None) -> Axes:
    """A line a layer of "state_gain" or "gate", means over the probe's positions."""
    ax = ax or Figure(figsize=(5, 2.5)).subplots()
    values = getattr(recording, name).mean(1)
    for k, color in enumerate(_shades(values.shape[1])):
        ax.plot(recording.step, values[:, k], color=color, label=f"layer {k + 1}", **_dots(recording))
    return ax


def plot_weights(recording: Recording, name: str, ax: Axes | None = None) -> Axes:
    """A line a weight of "gradient_norm" or "relative_rate", on a log scale: of matrices, and of many those with the largest values."""
    ax = ax or Figure(figsize=(5, 2.5)).subplots()
    values, labels = getattr(recording, name), _short_names(recording.parameters.tolist())
    values = np.where((values > 0) & ["bias" not in label for label in labels], values, np.nan)
    largest = np.nan_to_num(values).max(0)
    shown = np.sort(np.argsort(-largest)[: min(MOST_LINES, np.count_nonzero(largest))])
    for k, color in zip(shown, _shades(len(shown)), strict=True):
        ax.plot(recording.step, values[:, k], color=color, label=labels[k], **_dots(recording))
    ax.set_yscale("log")
    return ax


def plot_moment(recording: Recording, k: int, ax: Axes | None = None, *, limit: float | None = None) -> Axes:
    """Spectrum and row discs in the middle of the probe at the k-th measurement, and the unit circle."""
    ax = ax or Figure(figsize=(4, 4)).subplots()
    values, limit = recording.eigenvalues[k], limit or moment_limit(recording)
    if np.isfinite(values).all():
        for polygon in discs_outline(recording.centers[k], recording.radii[k], 65):
            ax.plot(polygon.real, polygon.imag, color=BLUE, linewidth=1.2)
            ax.fill(polygon.real, polygon.imag, color=BLUE, alpha=0.1, linewidth=0)
        ax.plot(values.real, values.imag, ".", color=RED, markersize=4, zorder=4)
        reach = float((np.abs(recording.centers[k]) + recording.radii[k]).max())
        if reach > limit:
            ax.text(0.03, 0.95, f"discs reach {reach:.3g}", transform=ax.transAxes, fontsize=8)
    ax.plot(CIRCLE.real, CIRCLE.imag, **DASHED, linewidth=0.8, zorder=3)
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", title=f"step {recording.step[k]}")
    return ax


def moment_limit(recording: Recording) -> float:
    """Half the width of panels that show the unit circle, every spectrum of the recording, and discs that are not much larger."""
    radius = max(1.0, float(np.nan_to_num(np.abs(recording.eigenvalues)).max()))
    reach = float(np.nan_to_num(np.abs(recording.centers) + recording.radii).max())
    return 1.08 * max(radius, min(reach, 2 * radius))


def draw_recording(recording: Recording) -> Figure:
    """The spectrum at four moments, and under it a panel a quantity over the steps of training, those that were measured.

    Raises DataError where nothing was.
    """
    panels = _panels(recording)
    if not panels:
        raise DataError("the record holds no finite number: there is nothing to draw, record the training anew")
    figure = Figure(figsize=(11, 11), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(1, 2.6))
    moments = sorted({round(k * (len(recording) - 1) / 3) for k in range(4)})
    for ax, k in zip(np.atleast_1d(top.subplots(1, len(moments), sharex=True, sharey=True)), moments, strict=True):
        plot_moment(recording, k, ax)
    top.suptitle(f"{recording.title}: eigenvalues and discs of one step, in the middle of the probe", fontsize=11)
    grid = bottom.subplots(-(-len(panels) // 2), 2, sharex=True, squeeze=False)
    for ax, (title, draw) in zip(grid.flat, panels.items(), strict=False):
        draw(ax)
        ax.set_title(title, loc="left")
        if len(ax.get_legend_handles_labels()[0]) > 1:
            ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=7)
    for ax in grid.flat[len(panels) :]:
        ax.set_axis_off()
    for column, ax in enumerate(grid[-1]):
        last = ax if len(panels) > (len(grid) - 1) * 2 + column else grid[-2, column]
        last.set_xlabel("steps of training")
        last.tick_params(labelbottom=True)
    return figure


@our_style()
def save_recording_animation(recording: Recording, path: Path, *, progress=lambda done, total: None) -> Path:
    """The spectrum moving through the training, beside its radius and bulk, into a .gif or .mp4; atomic. Raises OutputError."""
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.25))
    plot_measures(recording, {"radius": RED, "bulk": ORANGE}, right)
    right.legend(loc="best")
    right.set(xlabel="steps of training", title=recording.title)
    now = right.axvline(recording.step[0], color=GREY, linewidth=1)
    moments = np.unique(np.linspace(0, len(recording) - 1, min(len(recording), MOST_FRAMES)).round().astype(int))

    def draw(frame: int) -> None:
        left.clear()
        plot_moment(recording, moments[frame], left)
        now.set_xdata([recording.step[moments[frame]]] * 2)

    return write_animation(figure, draw, len(moments), path, progress=progress)


def _panels(recording: Recording) -> dict:
    """What to draw under which title: every quantity of which anything is known."""

    def radius(ax: Axes) -> None:
        plot_measures(recording, {"radius": RED, "bulk": ORANGE}, ax).axhline(1, **DASHED, linewidth=0.8)

    def exponent(ax: Axes) -> None:
        plot_measures(recording, {"exponent": PURPLE}, ax).axhline(0, **DASHED, linewidth=0.8)

    def loss(ax: Axes) -> None:
        plot_measures(recording, {"loss": "black"}, ax)
        known = recording.loss[np.isfinite(recording.loss)]
        if 0 < 3 * known.min() < known.max():
            ax.set_yscale("log")
            ax.yaxis.set_major_formatter("{x:g}")
            ax.yaxis.set_minor_formatter("{x:g}")
            ax.tick_params(which="minor", labelsize=6)

    panels = {
        "loss": ("Loss", loss),
        "radius": ("Spectral radius, and the bulk of the spectrum", radius),
        "reach": ("Reach of the row discs", lambda ax: plot_measures(recording, {"reach": BLUE}, ax)),
        "exponent": ("Finite-time exponent (1/step)", exponent),
        "input_gain": ("Input gain ||ds'/dx||", lambda ax: plot_measures(recording, {"input_gain": GREEN}, ax)),
        "state_gain": ("State gain of each layer", lambda ax: plot_layers(recording, "state_gain", ax)),
        "gate": ("Mean transform gate of each layer", lambda ax: plot_layers(recording, "gate", ax)),
        "gradient_norm": ("Gradient norms", lambda ax: plot_weights(recording, "gradient_norm", ax)),
        "relative_rate": ("Relative rates ||dL/dW|| / ||W||", lambda ax: plot_weights(recording, "relative_rate", ax)),
    }
    return {title: draw for name, (title, draw) in panels.items() if np.isfinite(recording.mean(name)).any()}


def _dots(recording: Recording) -> dict:
    """A line, with dots where measurements are few."""
    return {"linewidth": 1.2, "marker": "." if len(recording) < 40 else None, "markersize": 3}


def _shades(count: int) -> np.ndarray:
    return colormaps["viridis"](np.linspace(0, 0.9, max(count, 1)))[:count]


def _short_names(names: list[str]) -> list[str]:
    """Names without the beginning that cells of a lone layer of our models share.

    >>> _short_names(["cells.0.bias[1]", "output.weight"]), _short_names(["cells.0.bias", "cells.1.bias"])
    (['bias[1]', 'output.weight'], ['cells.0.bias', 'cells.1.bias'])
    """
    stacked = any(name.startswith("cells.1.") for name in names)
    return names if stacked else [name.removeprefix("cells.0.") for name in names]
