"""Hold and draw the spectra, gains, gates and gradients of a cell through its training, as `Recorder` measures them. Without torch.

Every `plot_*` draws into the axes it is given and returns them. Bands show the spread over the positions of the probe.

Legend: M measurements, P positions of the probe sequence, N state entries, L layers of a step, K weights (a layer's apart).
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from gersgorin.linalg.outlines import discs_outline
from gersgorin.plotting.animation import write_animation
from gersgorin.plotting.figure import (
    CIRCLE,
    DASHED,
    DASHES,
    Shown,
    complete,
    laid_out,
    legend_below,
    legend_beside,
    own_axes,
    plain_numbers,
    shade_style,
)
from rhn.errors import DataError
from rhn.utils.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, drawable, our_style, titled
from rhn.utils.result import Result
from rhn.utils.wording import counted

MEASURES = {  # one number a measurement: the mean over positions, layers or weights; and what a table calls it
    "loss": "loss",
    "radius": "spectral radius",
    "bulk": "bulk (trace/n)",
    "reach": "reach of the discs",
    "input_gain": "input gain",
    "state_gain": "state gain a layer",
    "exponent": "finite-time exponent",
    "gate": "transform gates",
    "gradient_norm": "gradient norm",
    "relative_rate": "relative rate",
}


@dataclass(frozen=True, kw_only=True, repr=False)
class Recording(Result, kind="recording"):
    """A cell on one probe sequence at M moments of its training; missing measurements are NaN.

    Spectra are those of the temporal Jacobian of one step, at P positions spread over the probe.
    """

    writer = "gersgorin.Recorder(path=FILE.npz) or rhn train --record"

    every: int
    """Steps of training from one measurement to the next."""
    parameters: np.ndarray
    """Names of the weights, (K,): "cells.0.weight_hh[1]" is the second layer's part of a stacked one."""
    step: np.ndarray
    """Steps of training done, (M,); 0: before training."""
    loss: np.ndarray
    """(M,), as it was given."""
    radius: np.ndarray
    """Largest modulus of an eigenvalue, (M, P)."""
    bulk: np.ndarray
    """Mean eigenvalue, trace / N, (M, P)."""
    reach: np.ndarray
    """How far the row discs reach from 0, (M, P)."""
    input_gain: np.ndarray
    """2-norm of d s'/d x, (M, P)."""
    state_gain: np.ndarray
    """2-norm of d s_l / d s_{l-1} of each layer, (M, P, L)."""
    gate: np.ndarray
    """Mean over the units of each layer's transform gate, (M, P, layers with gates)."""
    exponent: np.ndarray
    """log ||d s[T]/d s[0]|| / T along the probe's first sequence, (M,); T is 32, or its length where that is less."""
    eigenvalues: np.ndarray = field(metadata={"complex": True})
    """Complex, (M, N): of one position, in the middle of the probe, the largest modulus first."""
    centers: np.ndarray
    """Centres of the row discs at that position, (M, N)."""
    radii: np.ndarray
    """Their radii, (M, N)."""
    gradient_norm: np.ndarray
    """2-norm of the loss's gradient in each weight, (M, K)."""
    relative_rate: np.ndarray
    """Gradient norm / norm of the weight, (M, K); NaN for a weight that is zero."""
    measuring_seconds: float = 0.0
    """Time of all measurements."""
    training_seconds: float = 0.0
    """All other time meanwhile."""
    probe: str = ""
    """A digest of the probe's numbers; "" if it was not kept."""
    gate_name: str = "transform gate"
    """Name of the gate of `gate` in the cell's literature."""

    def __len__(self) -> int:
        return len(self.step)

    @property
    def share(self) -> float:
        """Measuring's seconds / all others."""
        return self.measuring_seconds / max(self.training_seconds, 1e-9)

    def mean(self, name: str) -> np.ndarray:
        """One number a measurement of a row of `MEASURES`, (M,): the mean over whatever else it has; NaN where it has nothing."""
        values = getattr(self, name).reshape(len(self), -1)
        known = np.isfinite(values)
        total, count = np.where(known, values, 0).sum(1), known.sum(1)
        return np.divide(total, count, out=np.full(len(self), np.nan), where=count > 0)

    def until(self, step: int) -> "Recording":
        """The measurements up to this step of training."""
        kept = self.step <= step
        return replace(self, **{name: getattr(self, name)[kept] for name in MOMENTS})

    def moments(self) -> list[dict[str, np.ndarray]]:
        """The arrays of each measurement by name."""
        return [{name: getattr(self, name)[k] for name in MOMENTS} for k in range(len(self))]

    def table(self) -> list[dict]:
        """One row of means a measurement, in the order of `MEASURES`."""
        columns = {name: self.mean(name).tolist() for name in MEASURES}
        return [
            {"step": int(step)} | {name: values[k] for name, values in columns.items()}
            for k, step in enumerate(self.step)
        ]

    def summary(self) -> str:
        """The first and the last measurement and two between, quantity by quantity, and the time that measuring took."""
        shown = sorted({round(k * (len(self) - 1) / 3) for k in range(4)})
        measured = f"{counted(len(self), 'measurement')} over {counted(self.step[-1], 'step')} of training"
        lines = [f"{self.title}, {measured}", f"{'':<22}" + "".join(f"{f'step {self.step[k]}':>13}" for k in shown)]
        for name, label in (MEASURES | {"gate": f"{self.gate_name}s"}).items():
            values = self.mean(name)
            if np.isfinite(values).any():
                lines.append(f"{label:<22}" + "".join(f"{values[k]:>13.4g}" for k in shown))
        seconds = f"{self.measuring_seconds:.2f} s, {100 * self.share:.2g} % of the time between measurements"
        return "\n".join([*lines, f"measuring took {seconds}"])

    def to_dict(self) -> dict:
        """The title, the interval and cost of measuring, and one row a measurement."""
        return {"title": self.title, "every": self.every, "share": self.share, "steps": self.table()}

    def plot(self, ax=None):
        """Spectral radius and bulk over the training; without axes a figure of all measurements."""
        return draw_recording(self).axes[0] if ax is None else plot_measures(self, {"radius": RED, "bulk": ORANGE}, ax)

    def validate(self) -> None:
        """Raise ValueError unless all arrays are numbers that can be drawn, of the same measurements."""
        if not _fit(vars(self)):
            raise ValueError(f"its arrays do not fit one another or exceed {LARGEST:g}")


MOMENTS = [f.name for f in fields(Recording) if f.type is np.ndarray and f.name != "parameters"]
LARGEST = 1e100  # beyond any measurement in float32; the axes of a figure end at 1e308
AXES = {"step": 1, "loss": 1, "exponent": 1, "state_gain": 3, "gate": 3}  # dimensions of the others: 2


def _fit(values: dict) -> bool:
    """True for arrays of a recording: numbers that can be drawn, of the same measurements, at least one."""
    arrays = [values[name] for name in MOMENTS]
    return (
        all(values[name].ndim == AXES.get(name, 2) and values[name].dtype.kind in "fciu" for name in MOMENTS)
        and {len(array) for array in arrays} == {max(1, len(arrays[0]))}
        and len({values[name].shape for name in ("eigenvalues", "centers", "radii")}) == 1
        and all(np.abs(values[name][np.isfinite(values[name])]).max(initial=0) <= LARGEST for name in MOMENTS)
        and {values[name].shape[1:] for name in ("gradient_norm", "relative_rate")} == {values["parameters"].shape}
    )


MOST_FRAMES = 240  # of an animation
MOST_LINES = 8  # of a panel
STEPS = "steps of training"


@our_style()
def plot_measures(recording: Recording, names: dict[str, str], ax: Axes | None = None) -> Axes:
    """Measures by name (see `MEASURES`) in these colours: their means over the probe's positions, and their spread as bands."""
    alone, ax = ax is None, own_axes(6, 4) if ax is None else ax
    for k, (name, color) in enumerate(names.items()):
        values, style = getattr(recording, name), {"color": color, "linestyle": DASHES[k % len(DASHES)]}
        ax.plot(recording.step, recording.mean(name), label=MEASURES[name], **style, **_dots(recording))
        if values.ndim > 1:
            label = f"{MEASURES[name]}, min to max over the probe"
            ax.fill_between(
                recording.step, values.min(1), values.max(1), color=color, alpha=0.2, linewidth=0, label=label
            )
    return _finished(recording, ax, alone)


@our_style()
def plot_layers(recording: Recording, name: str, ax: Axes | None = None) -> Axes:
    """A line a layer of "state_gain" or "gate", means over the probe's positions."""
    alone, ax = ax is None, own_axes(6, 4) if ax is None else ax
    values = getattr(recording, name).mean(1)
    for k, layer in enumerate(values.T):
        ax.plot(recording.step, layer, label=f"layer {k + 1}", **shade_style(k, values.shape[1]), **_dots(recording))
    return _finished(recording, ax, alone)


@our_style()
def plot_weights(recording: Recording, name: str, ax: Axes | None = None) -> Axes:
    """A line a weight of "gradient_norm" or "relative_rate", on a log scale: of matrices, and of many those with the largest values."""
    alone, ax = ax is None, own_axes(6, 4) if ax is None else ax
    values, labels = getattr(recording, name), _short_names(recording.parameters.tolist())
    values = np.where((values > 0) & ["bias" not in label for label in labels], values, np.nan)
    largest = np.nan_to_num(values).max(0)
    shown = np.sort(np.argsort(-largest)[: min(MOST_LINES, np.count_nonzero(largest))])
    for place, k in enumerate(shown):
        style = shade_style(place, len(shown))
        ax.plot(recording.step, values[:, k], label=drawable(labels[k]), **style, **_dots(recording))
    if len(shown):
        _log_axis(ax)
    return _finished(recording, ax, alone)


@our_style()
def plot_moment(recording: Recording, k: int, ax: Axes | None = None, *, limit: float | None = None) -> Axes:
    """Spectrum and row discs in the middle of the probe at the k-th measurement, and the unit circle."""
    alone, ax = ax is None, own_axes(4.6, 5.2) if ax is None else ax
    values, limit = recording.eigenvalues[k], limit or moment_limit(recording)
    if np.isfinite(values).all():
        for j, polygon in enumerate(discs_outline(recording.centers[k], recording.radii[k], 65)):
            label = "union of the row discs" if j == 0 else None
            ax.plot(polygon.real, polygon.imag, color=BLUE, linewidth=1.2, label=label)
            ax.fill(polygon.real, polygon.imag, color=BLUE, alpha=0.1, linewidth=0)
        ax.plot(values.real, values.imag, ".", color=RED, markersize=4, zorder=4, label="eigenvalues")
    ax.plot(CIRCLE.real, CIRCLE.imag, **DASHED, linewidth=0.8, zorder=5, label="unit circle")
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    ax.set(xlabel="real part", ylabel="imaginary part")
    reach = float((np.abs(recording.centers[k]) + recording.radii[k]).max())
    ax.set_title(f"step {recording.step[k]}" + f", discs reach {reach:.3g}" * (limit < reach < np.inf))
    plain_numbers(ax)
    return complete(ax, f"{recording.title}: one step in the middle of the probe", _about(recording)) if alone else ax


def moment_limit(recording: Recording) -> float:
    """Half the width of panels that show the unit circle, every spectrum of the recording, and discs that are not much larger."""
    radius = max(1.0, float(np.nan_to_num(np.abs(recording.eigenvalues)).max()))
    reach = float(np.nan_to_num(np.abs(recording.centers) + recording.radii).max())
    return 1.08 * max(radius, min(reach, 2 * radius))


@our_style()
def draw_recording(recording: Recording) -> Shown:
    """The spectrum at four moments, and under it a panel a quantity over the steps of training, those that were measured.

    Raises DataError where nothing was.
    """
    panels = _panels(recording)
    if not panels:
        raise DataError("the record holds no finite number: there is nothing to draw, record the training anew")
    rows = -(-len(panels) // 2)
    heights = (4.2, 2 * rows)
    figure = Shown(figsize=(12, sum(heights)), layout="constrained")
    titled(figure, drawable(f"{recording.title}, through training"), _about(recording))
    top, bottom = figure.subfigures(2, 1, height_ratios=heights)
    moments = sorted({round(k * (len(recording) - 1) / 3) for k in range(4)})
    places = top.subplots(1, len(moments), sharex=True, sharey=True, squeeze=False)[0]
    for ax, k in zip(places, moments, strict=True):
        plot_moment(recording, k, ax).label_outer()
    legend_below(top, places)
    top.suptitle("Eigenvalues and discs of one step, in the middle of the probe", fontsize=9)
    grid = bottom.subplots(rows, 2, sharex=True, squeeze=False)
    for ax, (title, draw) in zip(grid.flat, panels.items(), strict=False):
        draw(ax)
        ax.set_title(title, loc="left")
        legend_beside(ax, fontsize=7)
    for ax in grid.flat[len(panels) :]:
        ax.set_axis_off()
    for column in range(min(2, len(panels))):
        last = grid[(len(panels) - 1 - column) // 2, column]
        last.set_xlabel(STEPS)
        last.tick_params(labelbottom=True)
    return laid_out(figure)


@our_style()
def save_recording_animation(recording: Recording, path: Path, *, progress=lambda done, total: None) -> Path:
    """The spectrum moving through the training, beside its radius and bulk, into a .gif or .mp4; atomic. Raises OutputError."""
    figure, draw, frames = moving_recording(recording)
    return write_animation(figure, draw, frames, path, progress=progress)


def moving_recording(recording: Recording) -> tuple[Shown, Callable[[int], None], int]:
    """(A figure, draw(frame), which changes it, how many frames there are): spectra of the measurements, beside radius and bulk."""
    figure = Shown(figsize=(10.5, 5), layout="constrained")
    titled(figure, drawable(f"{recording.title}, through training"), _about(recording))
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.25))
    ax, beside = left.subplots(), right.subplots()
    plot_measures(recording, {"radius": RED, "bulk": ORANGE}, beside)
    beside.set(xlabel=STEPS, ylabel="value of one step")
    now = beside.axvline(recording.step[0], color=GREY, linewidth=1)
    moments = np.unique(np.linspace(0, len(recording) - 1, min(len(recording), MOST_FRAMES)).round().astype(int))
    known = np.isfinite(recording.eigenvalues).all(1)

    def draw(frame: int) -> None:
        ax.clear()
        k = int(moments[frame])
        plot_moment(recording, k, ax)
        now.set_xdata([recording.step[k]] * 2)

    draw(int(np.argmax(known[moments])))  # for the legend: a measurement with everything
    legend_below(left, [ax], columns=3)
    legend_below(right, [beside], columns=2)
    draw(0)
    return laid_out(figure), draw, len(moments)


def _panels(recording: Recording) -> dict:
    """A function that draws by title, for every quantity with finite values."""

    def radius(ax: Axes) -> None:
        plot_measures(recording, {"radius": RED, "bulk": ORANGE}, ax).axhline(1, **DASHED, linewidth=0.8)

    def exponent(ax: Axes) -> None:
        plot_measures(recording, {"exponent": PURPLE}, ax).axhline(0, **DASHED, linewidth=0.8)

    def loss(ax: Axes) -> None:
        plot_measures(recording, {"loss": "black"}, ax)
        known = recording.loss[np.isfinite(recording.loss)]
        if 0 < 3 * known.min() < known.max():
            _log_axis(ax)

    panels = {
        "loss": ("Loss", loss),
        "radius": ("Spectral radius, and the bulk of the spectrum", radius),
        "reach": ("Reach of the row discs", lambda ax: plot_measures(recording, {"reach": BLUE}, ax)),
        "exponent": ("Finite-time exponent (1/step)", exponent),
        "input_gain": ("Input gain ||ds'/dx||", lambda ax: plot_measures(recording, {"input_gain": GREEN}, ax)),
        "state_gain": ("State gain of each layer", lambda ax: plot_layers(recording, "state_gain", ax)),
        "gate": (f"Mean {recording.gate_name} of each layer", lambda ax: plot_layers(recording, "gate", ax)),
        "gradient_norm": ("Gradient norms", lambda ax: plot_weights(recording, "gradient_norm", ax)),
        "relative_rate": ("Relative rates ||dL/dW|| / ||W||", lambda ax: plot_weights(recording, "relative_rate", ax)),
    }
    return {title: draw for name, (title, draw) in panels.items() if np.isfinite(recording.mean(name)).any()}


def _dots(recording: Recording) -> dict:
    """A line, with dots where measurements are few."""
    return {"linewidth": 1.2, "marker": "." if len(recording) < 40 else None, "markersize": 3}


def _log_axis(ax: Axes) -> None:
    """A logarithmic axis with a few numbers, also within a decade; over many decades only their powers of 10."""
    ax.set_yscale("log")
    bottom, top = ax.get_ylim()
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if top < 100 * bottom else (1,), numticks=6))
    ax.yaxis.set_major_formatter("{x:.3g}")
    ax.yaxis.set_minor_formatter(NullFormatter())


def _finished(recording: Recording, ax: Axes, alone: bool) -> Axes:
    """Set ticks to whole steps and plain numbers; for a separate figure also title, labels and legend."""
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if ax.get_yscale() == "linear":
        plain_numbers(ax)
    if not alone:
        return ax
    ax.set(xlabel=STEPS, ylabel="mean over the probe")
    return complete(ax, f"{recording.title}, through training", _about(recording))


def _about(recording: Recording) -> str:
    """The origin of the training, and the interval of measuring."""
    positions = recording.radius.shape[1]
    exact = not (
        recording.step[:-1] % max(1, recording.every)
    ).any()  # the last is often that at the end of the training
    every = f"every {recording.every} steps" if exact else f"about every {recording.every} steps"  # where epochs end
    how = f"measured {every} of training, at {counted(positions, 'position')} of the probe"
    return drawable("; ".join(filter(None, (recording.about, how))))


def _short_names(names: list[str]) -> list[str]:
    """Names without the prefix that cells of models of one layer share.

    >>> _short_names(["cells.0.bias[1]", "output.weight"]), _short_names(["cells.0.bias", "cells.1.bias"])
    (['bias[1]', 'output.weight'], ['cells.0.bias', 'cells.1.bias'])
    """
    stacked = any(name.startswith("cells.1.") for name in names)
    return names if stacked else [name.removeprefix("cells.0.") for name in names]
