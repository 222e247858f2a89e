"""`Recording`: the spectra, gains, gates and gradients of a cell during its training, as `Recorder`
measures them, and their figures.

Every `plot_*` function draws into the given axes and returns them. Bands show the spread over the
positions of the probe.

Legend: M measurements, P positions (time steps of the probe at which single steps are measured), N
entries of a state, L layers of a step, K weights (each layer's counted separately).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from gersgorin.analyses.spectra import draw_discs, extent_of, is_small
from gersgorin.figures import draw_inset
from gersgorin.linalg.discs import gersgorin_discs
from gersgorin.linalg.products import finite_time_exponent
from gersgorin.linalg.spectrum import eigenvalues
from gersgorin.run.run import Run, shown_steps
from rhn.errors import DataError
from rhn.plotting.figure import (
    DASHED,
    DASHES,
    Block,
    Shown,
    Style,
    WholeTicks,
    complex_plane,
    compose,
    isolated_points,
    shade_style,
)
from rhn.training.state import LEFT
from rhn.utils.figures import BLUE, GREEN, ORANGE, PURPLE, RED
from rhn.utils.old import Result, counted, drawable, percent, quantity_line, sized, table_rows

EXPONENT_STEPS = 32  # of each sequence, at most, that are multiplied


def exponent_steps(run: Run) -> int:
    """The number of steps that are multiplied: those that all sequences have, at most 32."""
    return min(EXPONENT_STEPS, run.shared_steps)


class Moment:
    """Time steps of a run at a few positions, with their Jacobians. Each position lies in the next
    sequence in turn, at equally spaced shares of the length of this sequence.
    """

    def __init__(self, run: Run, positions: int):
        T, B = run.inputs.shape[:2]
        P, lengths = min(positions, T), run.lengths or (T,) * B
        steps = [round(k * (lengths[k % B] - 1) / max(1, P - 1)) for k in range(P)]
        self.run = run
        self.where = torch.tensor(steps, device="cpu"), torch.arange(P, device="cpu") % B
        self.A = run.jacobians(self.where)
        self.eigenvalues, self.discs = eigenvalues(self.A, workers=1), gersgorin_discs(self.A)

    @property
    def gates(self) -> Tensor:
        """The mean over the units of each layer's gate, (P, L)."""
        means = [gate.mean(-1) for gate in self.run.gates(self.where).t]
        return torch.stack(means, -1) if means else self.A.new_empty(len(self.A), 0)

    @property
    def exponent(self) -> Tensor:
        """The mean finite-time exponent of the sequences in which a position lies, 0-dim."""
        first = slice(exponent_steps(self.run))
        each = [self.run.jacobians((first, b)) for b in self.where[1].unique().tolist()]
        return torch.stack([*map(finite_time_exponent, each)]).mean()


@dataclass(frozen=True)
class RecordedMeasure:
    """Names of a measure, how it is computed, and how it is drawn. The measured values are in the
    field of `Recording` for this measure. Tables have one number for each measurement: the mean
    over positions, layers or weights.
    """

    label: str
    """Name of the measure in tables and legends, see `Recording.named`."""
    panel: str
    """Title of the panel in which the measure is drawn, see `Recording.named`."""
    of: Callable[[Moment], Tensor] | None = None
    """Function that computes the measure; None: the recorder gets its value."""
    colour: str = ""
    """Colour of the mean; "": the measure has a line for each layer, or for each of the largest
    weights.
    """
    level: float | None = None
    """Level between growth and decay, drawn in the panel."""
    of_loss: bool = False
    """True for the loss and its gradients."""


RECORDED_MEASURES = {
    "loss": RecordedMeasure("loss", "Loss", colour="black", of_loss=True),
    "radius": RecordedMeasure(
        "spectral radius", "Eigenvalues", lambda at: at.eigenvalues[:, 0].abs(), RED, level=1
    ),
    "bulk": RecordedMeasure(
        "mean eigenvalue", "Eigenvalues", lambda at: at.discs.centers.mean(-1), ORANGE
    ),
    "reach": RecordedMeasure(
        "largest modulus in discs",
        "Largest modulus in the row discs",
        lambda at: at.discs.norm,
        BLUE,
    ),
    "exponent": RecordedMeasure(
        "exponent of {steps}",
        "Growth of the gradient per time step (log)",
        lambda at: at.exponent,
        PURPLE,
        level=0,
    ),
    "input_gain": RecordedMeasure(
        "input gain",
        "Input gain ||ds'/dx||",
        lambda at: torch.linalg.matrix_norm(at.run.input_jacobians(at.where), 2),
        GREEN,
    ),
    "state_gain": RecordedMeasure(
        "state gain per layer", "State gain of each layer", lambda at: at.run.state_gains(at.where)
    ),
    "gate": RecordedMeasure("{gate_name}s", "Mean {gate_name} of each layer", lambda at: at.gates),
    "gradient_norm": RecordedMeasure("gradient norm", "Gradient norms", of_loss=True),
    "relative_rate": RecordedMeasure(
        "relative rate", "Relative rates ||dL/dW|| / ||W||", of_loss=True
    ),
}
OF_WEIGHTS = ("gradient_norm", "relative_rate")  # measures, whose panels have one legend


@dataclass(frozen=True, kw_only=True, repr=False)
class Recording(Result, kind="recording"):
    """Measurements of a cell on one probe batch at M moments of its training; NaN if missing.

    At each of P positions, the spectrum is that of the temporal Jacobian d s'/d s of the time step
    there. Each position lies in the next sequence of the probe in turn. The positions are equally
    spaced from the first to the last time step of their sequence.

    >>> import torch
    >>> from gersgorin import Recorder
    >>> found = Recorder(torch.nn.GRU(2, 4), torch.rand(10, 1, 2), positions=3).recording
    >>> found.step.shape, found.radius.shape  # (M,), (M, P)
    ((1,), (1, 3))
    """

    writer = "gersgorin.Recorder(path=FILE.npz) or rhn train --record"

    every: int
    """Optimiser steps from one measurement to the next."""
    parameters: np.ndarray
    """Names of the weights, (K,). If a tensor stacks the weights of all layers, each layer has its
    own name: "cells.0.weight_hh[1]" is the weight of the second layer.
    """
    step: np.ndarray
    """Number of optimiser steps done, (M,); 0: before training."""
    loss: np.ndarray
    """The loss that the recorder was given, (M,)."""
    radius: np.ndarray
    """Largest modulus of an eigenvalue, (M, P)."""
    bulk: np.ndarray
    """Mean eigenvalue, trace / N, (M, P)."""
    reach: np.ndarray
    """The largest modulus in the row discs, (M, P)."""
    input_gain: np.ndarray
    """2-norm of d s'/d x, (M, P)."""
    state_gain: np.ndarray
    """2-norm of d s_l / d s_{l-1} of each layer, (M, P, L). For stacked layers: the 2-norm of the
    derivative of each layer's state with respect to its own state before the step.
    """
    gate: np.ndarray
    """Mean over the units of each layer's transform gate, (M, P, layers with gates)."""
    exponent: np.ndarray
    """log ||d s[T]/d s[0]|| / T, (M,), for T = `exponent_steps`: the mean over the first P
    sequences of the probe.
    """
    eigenvalues: np.ndarray
    """Eigenvalues at the middle position (the third of four): complex, (M, N), the largest modulus
    first.
    """
    centers: np.ndarray
    """Centres of the row discs at the position of `eigenvalues`, (M, N)."""
    radii: np.ndarray
    """Radii of the row discs at the position of `eigenvalues`, (M, N)."""
    gradient_norm: np.ndarray
    """2-norm of the gradient of the loss with respect to each weight, (M, K)."""
    relative_rate: np.ndarray
    """Gradient norm / norm of the weight, (M, K); NaN for a weight that is zero. Tables have the
    mean over all weights but biases.
    """
    measuring_seconds: float = 0.0
    """Time of all measurements, in seconds."""
    training_seconds: float = 0.0
    """All other time up to the last optimiser step, in seconds."""
    probe: str = ""
    """Checksum of the numbers of the probe; "" if it was not stored."""
    loss_of: str = ""
    """"the probe" if loss and gradients are measured on the probe; "" if on the minibatches."""
    constant: float = math.nan
    """The loss of the constant predictor; NaN: not known."""
    gate_name: str = "transform gate"
    """Name of the gate in the cell's literature."""
    exponent_steps: int = EXPONENT_STEPS
    """Number of time steps of `exponent`: 32, or the length of the shortest sequence if that is
    less.
    """

    def __len__(self) -> int:
        return len(self.step)

    @property
    def share(self) -> float:
        """Time of measuring divided by all other time; NaN for a single measurement."""
        if len(self) < 2:
            return math.nan
        return self.measuring_seconds / max(self.training_seconds, 1e-9)

    @property
    def cost(self) -> str:
        """The time of all measurements, and its share of the time of training, in words."""
        times = (
            f"{float(f'{self.share:.2g}'):,.0f} times"
            if self.share > MANY
            else f"{percent(self.share)} of"
        )
        share = "" if math.isnan(self.share) else f", {times} the time of training"
        return f"{self.measuring_seconds:.2f} s{share}"

    def mean(self, name: str) -> np.ndarray:
        """Reduce a measure of `RECORDED_MEASURES` to one number per measurement, (M,): the mean
        over its other axes; NaN for missing values. The mean of relative rates is without biases.
        For gradient norms the number is the norm over all weights.
        """
        kept = (
            ["bias" not in weight for weight in self.parameters]
            if name == "relative_rate"
            else slice(None)
        )
        values = vars(self)[name].reshape(len(self), -1)[:, kept].astype(float)
        known = ~np.isnan(values)  # a zero product has the exponent -inf
        if name == "gradient_norm":
            found = np.sqrt(np.square(values).sum(1, where=known))
        else:
            found = values.sum(1, where=known) / np.maximum(known.sum(1), 1)
        return np.where(known.any(1), found, np.nan)

    def _axes(self) -> dict[str, tuple[str, ...]]:
        return {
            "step": ("step",),
            "loss": ("step",),
            "radius": ("step", "position"),
            "bulk": ("step", "position"),
            "reach": ("step", "position"),
            "input_gain": ("step", "position"),
            "state_gain": ("step", "position", "layer"),
            "gate": ("step", "position", "gate_layer"),
            "exponent": ("step",),
            "eigenvalues": ("step", "eigenvalue"),
            "centers": ("step", "entry"),
            "radii": ("step", "entry"),
            "parameters": ("weight",),
            "gradient_norm": ("step", "weight"),
            "relative_rate": ("step", "weight"),
        }

    def table(self) -> list[dict]:
        """One row of means per measurement, in the order of `RECORDED_MEASURES`."""
        return table_rows(step=self.step, **{name: self.mean(name) for name in RECORDED_MEASURES})

    @property
    def place(self) -> str:
        """The time step of the stored spectrum, which is the middle position: "67 % along a
        sequence of the probe".
        """
        positions = self.radius.shape[1]
        return f"{percent(positions // 2 / max(1, positions - 1))} along a sequence of the probe"

    @property
    def finding(self) -> str:
        """A clause about the loss at the first and the last measurement, or about the last loss and
        that of the constant predictor; without losses, about the change of the spectral radius. If
        the training run diverged, the clause says so instead.
        """
        nothing = f"{counted(self.step[-1], 'optimiser step')} were recorded"
        return next(iter(self._clauses()), nothing)

    def notes(self) -> list[str]:
        """Sentences about the change of the spectral radius, the axes over which means are taken,
        and the number and time of the measurements.
        """
        many = f"{counted(len(self), 'measurement')} over {counted(self.step[-1], 'step')}"
        further = [f"{words}." for words in self._clauses()[1:]]
        places = counted(self.radius.shape[1], "time step")
        means = f"Spectra, gains and gates are means over {places} of the probe"
        return [
            *further,
            f"{means}, relative rates over the weights without biases.",
            f"{many} of the optimiser; measuring took {self.cost}.",
        ]

    def _clauses(self) -> list[str]:
        """A clause if the run diverged, one for the loss, and one for the spectral radius, if they
        are known.
        """
        clauses = {"loss": self._of_loss, "radius": self._of_radius}
        known = {name: np.flatnonzero(np.isfinite(self.mean(name))) for name in clauses}
        told = [clauses[name](at) for name, at in known.items() if len(at) > 1]
        return [*filter(None, [self._of_divergence(known["radius"])]), *told]

    def _of_divergence(self, known: np.ndarray) -> str:
        """A clause if the run diverged after the last measurement in `known`."""
        if not len(known) or known[-1] == len(self) - 1:
            return ""
        first = self.step[known[-1] + 1]
        return f"Weights or states are NaN or infinite at optimiser step {first} and later"

    def _of_loss(self, known: np.ndarray) -> str:
        """A clause for the loss at the measurements `known`. Losses of single minibatches differ by
        chance, so they are named with their optimiser steps, and not as a change.
        """
        losses, steps = self.loss[known], self.step[known]
        compared = _beside(losses[-1], self.constant) if self.constant > 0 else ""
        whose = f"loss of {self.loss_of}" if self.loss_of else "minibatch loss"
        if compared:
            return f"The {whose} at optimiser step {steps[-1]} is {compared}"
        if self.loss_of:
            return f"The {whose} {_change(losses)}"
        first = f"{losses[0]:.3g} at optimiser step {steps[0]}"
        return f"The minibatch loss is {first} and {losses[-1]:.3g} at step {steps[-1]}"

    def _of_radius(self, known: np.ndarray) -> str:
        """A clause for the spectral radius at the measurements `known`."""
        mean = "mean " if self.radius.shape[1] > 1 else ""
        at = "" if known[-1] == len(self) - 1 else f" at optimiser step {self.step[known[-1]]}"
        return f"The {mean}spectral radius {_change(self.mean('radius')[known])}{at}"

    def of(self, name: str) -> str:
        """Words to put after the name of a measure of the loss: " of the probe". For the loss of
        the minibatches and for other measures: "".
        """
        return f" of {self.loss_of}" if self.loss_of and RECORDED_MEASURES[name].of_loss else ""

    def named(self, words: str) -> str:
        """Put the name of the gate and the number of steps into the label or panel title of a
        measure.
        """
        return words.format(gate_name=self.gate_name, steps=counted(self.exponent_steps, "step"))

    def lines(self) -> Iterator[str]:
        """A line for each quantity: its values at the first measurement, two between, and the
        last.
        """
        shown = shown_steps(len(self))
        yield quantity_line("", [f"step {self.step[k]}" for k in shown], width=13)
        for name, measure in RECORDED_MEASURES.items():
            values = self.mean(name)
            if np.isfinite(values).any():
                label = self.named(measure.label) + self.of(name)
                yield quantity_line(label, values[shown], width=13)

    def _to_dict(self) -> dict:
        """The title, the interval and cost of measuring, and one row for each measurement."""
        return {
            "title": self.title,
            "every": self.every,
            "share": self.share,
            "exponent_steps": self.exponent_steps,
            "steps": self.table(),
        }

    def _draw(self, ax: Axes, **_: Any) -> None:
        """Draw spectral radius and mean eigenvalue over the training run."""
        plot_measures(self, ax)

    def _figure(self, step: int | None, limit: float | None) -> Shown:
        """Draw all measurements."""
        return draw_recording(self)

    def validate(self) -> None:
        """Raise ValueError unless all arrays are numbers of the same measurements, at least one."""
        arrays = [vars(self)[name] for name in MOMENTS]
        if any(a.dtype.kind not in "fciu" for a in arrays) or {len(a) for a in arrays} != {
            max(1, len(self))
        }:
            raise ValueError("its arrays do not fit one another")


def _change(values: np.ndarray) -> str:
    """Describe the first and the last of some numbers; only the last if all differ by at most 3 %.

    >>> _change(np.array([61.0, 10.1])), _change(np.array([1.03, 1.05]))
    ('goes from 61 to 10.1', 'stays near 1.05')
    """
    first, last = float(values[0]), float(values[-1])
    near = np.ptp(values) <= NEAR * np.abs(values).max()
    return f"stays near {last:.3g}" if near else f"goes from {first:.3g} to {last:.3g}"


def _beside(loss: float, constant: float) -> str:
    """Compare a loss with that of the constant predictor, in words.

    >>> _beside(9.0, 10.0), _beside(9.9, 10.0)
    ('10 % below the constant predictor', 'at the constant predictor')
    """
    away = 100 * (loss / constant - 1)
    if abs(away) <= 100 * (1 - LEFT):
        return "at the constant predictor"
    side = "below" if away < 0 else "above"
    return f"{abs(away):.2g} % {side} the constant predictor"


MOMENTS = [f.name for f in fields(Recording) if f.type is np.ndarray and f.name != "parameters"]
NEAR = 0.03  # of the largest number: changes up to it are none
MANY = 10  # times the time of training, from which on it is no percentage
MOST_LINES = 8  # of a panel
WIDTH = 9.0  # inches, of a figure
NARROW = 1.6  # inches of a spectrum's panel: four are side by side on a page
FEW = ("loss", "exponent")  # panels below the spectra, but for a page
STEPS = "optimiser step"


def plot_measures(
    recording: Recording, ax: Axes, *, names: Sequence[str] = ("radius", "bulk")
) -> Axes:
    """Draw measures of `RECORDED_MEASURES` over the optimiser steps. A measure is drawn as a line
    for each layer, as a line for each of the largest weights, or as a mean with a band.

    Bands show the spread over the positions of the probe.
    """
    for place, name in enumerate(names):
        if RECORDED_MEASURES[name].colour:
            _draw_mean(recording, name, DASHES[place % len(DASHES)], ax)
        else:
            _draw_lines(recording, name, ax)
    title = RECORDED_MEASURES[names[0]].panel
    ax.xaxis.set_major_locator(WholeTicks(6))
    scale = ", logarithmic" if ax.get_yscale() == "log" else ""
    first = recording.mean(names[0])[0]
    if names[0] == "loss" and not _drawn(recording, "loss")[0] and np.isfinite(first):
        scale += f" ({first:.3g} before training)"
    ax.set(
        xlabel=STEPS,
        title=recording.named(title) + recording.of(names[0]) + scale,
    )
    if len(recording) > 1:
        ax.set_xlim(recording.step[0], recording.step[-1])
    return ax


def _style(values: np.ndarray) -> Style:
    """The style of a curve (M,), with markers if there are few measurements."""
    markers = {"marker": "."} if len(values) < 40 else isolated_points(values)
    return {"linewidth": 1.2, "markersize": 3} | markers


def _draw_mean(recording: Recording, name: str, dashes: Any, ax: Axes) -> None:
    """Draw the mean of a measure, and a band from the least to the largest value over the
    positions.
    """
    values, mean, color = (
        vars(recording)[name],
        recording.mean(name),
        RECORDED_MEASURES[name].colour,
    )
    drawn = _drawn(recording, name)
    style = _style(mean[drawn]) | {"color": color, "linestyle": dashes}
    label = recording.named(RECORDED_MEASURES[name].label)
    ax.plot(recording.step[drawn], mean[drawn], label=label, **style)
    if values.ndim > 1:
        band = values.min(1), values.max(1)
        ax.fill_between(recording.step, *band, color=color, alpha=0.2, linewidth=0)
    least, largest = np.fmin.reduce(mean[drawn]), np.fmax.reduce(mean[drawn])
    if name == "loss" and 0 < 3 * least < largest:
        ax.set_yscale("log", nonpositive="mask")
    if name == "loss" and recording.constant > 0:
        constant = recording.constant
        ax.axhline(constant, **DASHED, linewidth=1, label=f"constant predictor ({constant:.3g})")
        ax.update_datalim([(0, 0.9 * constant), (0, 1.1 * constant)], updatex=False)
        ax.autoscale_view()


def _drawn(recording: Recording, name: str) -> np.ndarray:
    """True for the measurements that a panel shows, (M,). The loss before training would take most
    of the axis; a panel shows it only if there is no other loss.
    """
    later = (recording.step > 0) & np.isfinite(recording.mean(name))
    return recording.step > 0 if name == "loss" and later.any() else recording.step >= 0


def _draw_lines(recording: Recording, name: str, ax: Axes) -> None:
    """Draw a line for each layer, or for each of the largest weights on a logarithmic axis."""
    values = vars(recording)[name]
    if values.ndim > 2:
        lines = {f"layer {layer + 1}": line for layer, line in enumerate(values.mean(1).T)}
    else:
        lines = _of_weights(values, recording.parameters.tolist())
        if lines:
            ax.set_yscale("log")
    for place, (label, line) in enumerate(lines.items()):
        style = _style(line) | shade_style(place, len(lines))
        ax.plot(recording.step, line, label=drawable(label), **style)


def _of_weights(values: np.ndarray, names: list[str]) -> dict[str, np.ndarray]:
    """Positive values by the name of the weight, without biases; if there are many weights, only
    those with the largest values.

    If the model has one cell, the names are without its prefix "cells.0.".

    >>> [*_of_weights(np.ones((1, 2)), ["cells.0.weight[1]", "output.bias"])]
    ['weight[1]']
    >>> [*_of_weights(np.ones((1, 1)), ["cells.1.weight"])]
    ['cells.1.weight']
    """
    stacked = any(name.startswith("cells.1.") for name in names)
    labels = names if stacked else [name.removeprefix("cells.0.") for name in names]
    values = np.where((values > 0) & ["bias" not in label for label in labels], values, np.nan)
    largest = np.nan_to_num(values).max(0)
    shown = np.sort(np.argsort(-largest)[: min(MOST_LINES, np.count_nonzero(largest))])
    return {labels[k]: values[:, k] for k in shown}


def plot_moment(recording: Recording, ax: Axes, *, moment: int = -1) -> Axes:
    """Draw the spectrum and row discs of the middle position at one measurement, and the unit
    circle. The panel has room for the discs of all measurements; a spectrum that is too small for
    the panel is enlarged in an inset.
    """
    values = recording.eigenvalues[moment]
    centers, radii = recording.centers[moment], recording.radii[moment]

    def draw(ax: Axes) -> None:
        draw_discs({"row": (centers, radii)}, ax)
        style: Style = {"color": RED, "markersize": 5, "zorder": 4, "label": "eigenvalues"}
        ax.plot(values.real, values.imag, ".", **style)

    extents = np.abs(recording.centers) + recording.radii
    limit = 1.08 * max(1.0, float(extents.max(where=np.isfinite(extents), initial=0)))
    known = bool(np.isfinite(values).all())
    if known:
        draw(ax)
    complex_plane(ax, limit)
    ends = np.concatenate((centers - radii, centers + radii, values))
    half, middle = extent_of(ends, values.dtype)
    if known and is_small(half, limit):
        draw_inset(draw, half, middle, ax)
    done = int(recording.step[moment])
    when = f"After {counted(done, 'optimiser step')}" if done else "Before training"
    ax.set_title(when)
    return ax


def known_panels(recording: Recording) -> list[tuple[str, ...]]:
    """The panels that have finite numbers. Raises DataError if no panel has."""
    panels: dict[str, tuple[str, ...]] = {}
    for name, measure in RECORDED_MEASURES.items():
        panels[measure.panel] = (*panels.get(measure.panel, ()), name)
    known = [names for names in panels.values() if np.isfinite(recording.mean(names[0])).any()]
    if not known:
        raise DataError(
            "the record holds no finite number: there is nothing to draw, record the run again"
        )
    return known


def draw_recording(recording: Recording) -> Shown:
    """Draw the spectrum at the first and the last measurement, and below it the loss and the growth
    of the gradient. A figure of the size of a page has the spectrum at four measurements, and a
    panel for each quantity.

    Raises DataError if nothing finite was measured.
    """
    known, last = known_panels(recording), len(recording) - 1
    if WIDTH / 2 < sized(WIDTH) < WIDTH:
        moments, panels = shown_steps(last + 1), known
    else:
        moments = sorted({0, last})
        panels = [names for names in known if names[0] in FEW]
    draws = [partial(plot_moment, recording, moment=k) for k in moments]
    above = Block(draws, 2.7, len(draws), "xy", True, NARROW)
    about = _about(recording, panels, [names for names in known if names not in panels])
    return compose(recording.finding, about, above, *_panels_below(recording, panels), width=WIDTH)


def _panels_below(recording: Recording, panels: Sequence[tuple[str, ...]]) -> list[Block]:
    """The panels of measures; those of weights come last and share one legend."""
    weights = [names for names in panels if names[0] in OF_WEIGHTS]
    others = [names for names in panels if names not in weights]
    return [
        Block([partial(_draw_panel, recording, names) for names in part], 1.6, 2, "x", legend)
        for part, legend in ((others, False), (weights, True))
        if part
    ]


def _draw_panel(recording: Recording, names: tuple[str, ...], ax: Axes) -> None:
    """Draw measures that share a panel, and the level between growth and decay."""
    plot_measures(recording, ax, names=names)
    if (level := RECORDED_MEASURES[names[0]].level) is not None:
        ax.axhline(level, **DASHED, linewidth=0.8)


def _about(
    recording: Recording, panels: Sequence[tuple[str, ...]], further: Sequence[tuple[str, ...]]
) -> str:
    """Words about the network, the origin of the training run, the interval between measurements,
    the bands of the panels, and the further panels that the figure leaves out.
    """
    # else measured where epochs end
    exact = not (recording.step[:-1] % max(1, recording.every)).any()
    every = f"{'' if exact else 'about '}every {recording.every} optimiser steps"
    how = f"measured {every}; spectra: {recording.place}"
    if any(RECORDED_MEASURES[n].colour and vars(recording)[n].ndim > 1 for p in panels for n in p):
        how += "; lines: means over the positions, bands: least to largest"
    labels = ", ".join(recording.named(RECORDED_MEASURES[names[0]].label) for names in further)
    more = f"a figure as wide as a page has further panels: {labels}" if labels else ""
    return "; ".join(filter(None, (recording.title, recording.about, how, more)))
