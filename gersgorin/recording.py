"""Hold and draw the spectra, gains, gates and gradients of a cell through its training, as `Recorder` measures them.

Every `plot_*` draws into the axes it is given and returns them. Bands show the spread over the positions of the probe.

Legend: M measurements, P positions of the probe sequence, N state entries, L layers of a step, K weights (a layer's apart).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from gersgorin.linalg.outlines import discs_outline
from gersgorin.plotting.animation import Film
from gersgorin.plotting.figure import (
    DASHED,
    DASHES,
    Shown,
    complex_plane,
    label_axes,
    laid_out,
    legend_below,
    legend_beside,
    panel,
    plain_numbers,
    shade_style,
)
from gersgorin.run import shown_steps
from rhn.errors import DataError
from rhn.utils.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, drawable, our_style, titled
from rhn.utils.result import Result, rows_of
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

    def table(self) -> list[dict]:
        """One row of means a measurement, in the order of `MEASURES`."""
        return rows_of(step=self.step, **{name: self.mean(name) for name in MEASURES})

    def summary(self) -> str:
        """The first and the last measurement and two between, quantity by quantity, and the time that measuring took."""
        shown = shown_steps(len(self))
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
        return draw_recording(self).axes[0] if ax is None else plot_measures(self, ax)

    def validate(self) -> None:
        """Raise ValueError unless all arrays are numbers of the same measurements, at least one."""
        arrays = [getattr(self, name) for name in MOMENTS]
        if any(a.dtype.kind not in "fciu" for a in arrays) or {len(a) for a in arrays} != {max(1, len(self))}:
            raise ValueError("its arrays do not fit one another")


MOMENTS = [f.name for f in fields(Recording) if f.type is np.ndarray and f.name != "parameters"]
MOST_LINES = 8  # of a panel
STEPS = "steps of training"
COLOURS = {"loss": "black", "radius": RED, "bulk": ORANGE, "reach": BLUE, "exponent": PURPLE, "input_gain": GREEN}
LEVELS = {"radius": 1, "exponent": 0}  # between growth and decay


def _heading(recording: Recording) -> str:
    return f"{recording.title}, through training"


@panel(6, 4, _heading)
def plot_measures(recording: Recording, ax: Axes, *, names: Sequence[str] = ("radius", "bulk")) -> Axes:
    """Draw measures of `MEASURES`: their means over the positions of the probe, and their spread as bands."""
    for k, name in enumerate(names):
        values, style = getattr(recording, name), {"color": COLOURS[name], "linestyle": DASHES[k % len(DASHES)]}
        ax.plot(recording.step, recording.mean(name), label=MEASURES[name], **style, **_dots(recording))
        if values.ndim > 1:
            band = {"alpha": 0.2, "linewidth": 0, "label": f"{MEASURES[name]}, min to max over the probe"}
            ax.fill_between(recording.step, values.min(1), values.max(1), color=COLOURS[name], **band)
    known = recording.loss[np.isfinite(recording.loss)]
    if "loss" in names and 0 < 3 * known.min(initial=np.inf) < known.max(initial=0):
        _log_axis(ax)
    return _over_training(ax)


@panel(6, 4, _heading)
def plot_layers(recording: Recording, ax: Axes, *, name: str = "state_gain") -> Axes:
    """Draw a line a layer of "state_gain" or "gate", means over the positions of the probe."""
    values = getattr(recording, name).mean(1)
    for k, layer in enumerate(values.T):
        ax.plot(recording.step, layer, label=f"layer {k + 1}", **shade_style(k, values.shape[1]), **_dots(recording))
    return _over_training(ax)


@panel(6, 4, _heading)
def plot_weights(recording: Recording, ax: Axes, *, name: str = "gradient_norm") -> Axes:
    """Draw a line a matrix of "gradient_norm" or "relative_rate" on a log scale, of many those with the largest values."""
    values, labels = getattr(recording, name), _short_names(recording.parameters.tolist())
    values = np.where((values > 0) & ["bias" not in label for label in labels], values, np.nan)
    largest = np.nan_to_num(values).max(0)
    shown = np.sort(np.argsort(-largest)[: min(MOST_LINES, np.count_nonzero(largest))])
    for place, k in enumerate(shown):
        style = shade_style(place, len(shown))
        ax.plot(recording.step, values[:, k], label=drawable(labels[k]), **style, **_dots(recording))
    if len(shown):
        _log_axis(ax)
    return _over_training(ax)


@panel(4.6, 5.2, lambda recording: f"{recording.title}: one step in the middle of the probe")
def plot_moment(recording: Recording, ax: Axes, *, moment: int = -1) -> Axes:
    """Draw spectrum and row discs in the middle of the probe at one measurement, and the unit circle."""
    radius = max(1.0, float(np.nan_to_num(np.abs(recording.eigenvalues)).max()))
    reaches = np.abs(recording.centers) + recording.radii
    limit = 1.08 * max(
        radius, min(float(np.nan_to_num(reaches).max()), 2 * radius)
    )  # of all moments, and discs not much larger
    values, reach = recording.eigenvalues[moment], float(reaches[moment].max())
    if np.isfinite(values).all():
        for j, polygon in enumerate(discs_outline(recording.centers[moment], recording.radii[moment], 65)):
            label = "union of the row discs" if j == 0 else None
            ax.plot(polygon.real, polygon.imag, color=BLUE, linewidth=1.2, label=label)
            ax.fill(polygon.real, polygon.imag, color=BLUE, alpha=0.1, linewidth=0)
        ax.plot(values.real, values.imag, ".", color=RED, markersize=4, zorder=4, label="eigenvalues")
    complex_plane(ax, limit)
    ax.set_title(f"step {recording.step[moment]}" + f", discs reach {reach:.3g}" * (limit < reach < np.inf))
    return ax


@our_style()
def draw_recording(recording: Recording) -> Shown:
    """Draw the spectrum at four moments, and below a panel for each measured quantity over the steps of training.

    Raises DataError if nothing finite was measured.
    """
    panels = _panels(recording)
    if not panels:
        raise DataError("the record holds no finite number: there is nothing to draw, record the training anew")
    rows = -(-len(panels) // 2)
    heights = (4.2, 2 * rows)
    figure = Shown(figsize=(12, sum(heights)), layout="constrained")
    titled(figure, drawable(_heading(recording)), _about(recording))
    top, bottom = figure.subfigures(2, 1, height_ratios=heights)
    moments = shown_steps(len(recording))
    places = top.subplots(1, len(moments), sharex=True, sharey=True, squeeze=False)[0]
    for ax, moment in zip(places, moments, strict=True):
        plot_moment(recording, ax, moment=moment)
    legend_below(top, places)
    top.suptitle("Eigenvalues and discs of one step, in the middle of the probe", fontsize=9)
    grid = bottom.subplots(rows, 2, sharex=True, squeeze=False)
    for ax, (title, draw) in zip(grid.flat, panels.items(), strict=False):
        draw(ax)
        ax.set_title(title, loc="left")
        legend_beside(ax, fontsize=7)
    for ax in grid.flat[len(panels) :]:
        ax.set_axis_off()
    if rows > 1 and len(panels) % 2:  # an empty place, below the last panel of its column
        grid[-2, 1].set_xlabel(STEPS)
        grid[-2, 1].tick_params(labelbottom=True)
    return laid_out(figure)


def moving_recording(recording: Recording) -> Film:
    """The spectra of the measurements as a film, beside spectral radius and bulk."""
    figure = Shown(figsize=(10.5, 5), layout="constrained")
    titled(figure, drawable(_heading(recording)), _about(recording))
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.25))
    ax, beside = left.subplots(), right.subplots()
    plot_measures(recording, beside).set_ylabel("value of one step")
    now = beside.axvline(recording.step[0], color=GREY, linewidth=1)

    def draw(moment: int) -> None:
        ax.clear()
        plot_moment(recording, ax, moment=moment)
        now.set_xdata([recording.step[moment]] * 2)

    draw(int(np.argmax(np.isfinite(recording.eigenvalues).all(1))))  # a measurement with everything, for the legend
    legend_below(left, [ax], columns=3)
    legend_below(right, [beside], columns=2)
    return Film(figure, draw, len(recording))


def _panels(recording: Recording) -> dict[str, Callable[[Axes], Axes]]:
    """A function that draws by title, for every quantity with finite values."""

    def measures(*names: str) -> Callable[[Axes], Axes]:
        def draw(ax: Axes) -> Axes:
            plot_measures(recording, ax, names=names)
            if names[0] in LEVELS:
                ax.axhline(LEVELS[names[0]], **DASHED, linewidth=0.8)
            return ax

        return draw

    panels = {
        "loss": ("Loss", measures("loss")),
        "radius": ("Spectral radius, and the bulk of the spectrum", measures("radius", "bulk")),
        "reach": ("Reach of the row discs", measures("reach")),
        "exponent": ("Finite-time exponent (1/step)", measures("exponent")),
        "input_gain": ("Input gain ||ds'/dx||", measures("input_gain")),
        "state_gain": ("State gain of each layer", partial(plot_layers, recording)),
        "gate": (f"Mean {recording.gate_name} of each layer", partial(plot_layers, recording, name="gate")),
        "gradient_norm": ("Gradient norms", partial(plot_weights, recording)),
        "relative_rate": ("Relative rates ||dL/dW|| / ||W||", partial(plot_weights, recording, name="relative_rate")),
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


def _over_training(ax: Axes) -> Axes:
    """Set ticks to whole steps and plain numbers, and label the steps."""
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if ax.get_yscale() == "linear":
        plain_numbers(ax)
    label_axes(ax, STEPS, "")
    return ax


def _about(recording: Recording) -> str:
    """The origin of the training, and the interval of measuring."""
    exact = not (
        recording.step[:-1] % max(1, recording.every)
    ).any()  # the last is often that at the end of the training
    every = f"{'' if exact else 'about '}every {recording.every} steps"  # where epochs end
    how = f"measured {every} of training, at {counted(recording.radius.shape[1], 'position')} of the probe"
    return drawable("; ".join(filter(None, (recording.about, how))))


def _short_names(names: list[str]) -> list[str]:
    """Names without the prefix that cells of models of one layer share.

    >>> _short_names(["cells.0.bias[1]", "output.weight"]), _short_names(["cells.0.bias", "cells.1.bias"])
    (['bias[1]', 'output.weight'], ['cells.0.bias', 'cells.1.bias'])
    """
    stacked = any(name.startswith("cells.1.") for name in names)
    return names if stacked else [name.removeprefix("cells.0.") for name in names]
