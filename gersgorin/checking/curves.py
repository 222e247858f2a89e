"""Draw a check of a training: the losses of its trials, and its clocks below them."""

import math
from dataclasses import replace
from typing import Protocol

from matplotlib.axes import Axes

from gersgorin.checking.clocks import Interval, signals
from gersgorin.checking.trials import DIVERGED, Trial
from gersgorin.plotting.figure import DASHED, ink, line_style
from rhn.utils.figures import BLUE, plain_log_ticks


class Drawn(Protocol):
    """The fields of a check that are drawn."""

    steps: int
    learning_rate: float
    losses: tuple[float, ...]
    trials: tuple[Trial, ...]
    escape_steps: float
    interval: Interval
    window: Interval | None


def draw_losses(check: Drawn, ax: Axes) -> None:
    """Loss of each trial relative to a constant output's, a dot at its end; shaded: the interval in which the training leaves."""
    tried = [trial for trial in check.trials if trial.steps]
    for k, trial in enumerate(tried):
        label = f"learning rate {check.learning_rate * trial.factor:.3g}" + ", its own" * (trial.factor == 1)
        ax.plot(range(1, trial.steps + 1), trial.ratios, marker="o", markevery=[-1], label=label, **line_style(k))
    if check.losses and tried:
        n = min(len(check.losses), tried[0].steps)
        own = replace(tried[0], losses=list(check.losses[:n]), constants=tried[0].constants[:n])
        ax.plot(range(1, n + 1), own.ratios, label="your loop", **line_style(len(tried)))
    ax.axhline(1, **DASHED | {"color": ink(ax)}, linewidth=0.8, label="a constant output")
    if math.isfinite(check.escape_steps):
        low, high = (min(max(step, 1), check.steps) for step in check.interval)
        ax.axvspan(low, high, color=BLUE, alpha=0.15, lw=0, label="leaving, with its interval")
    ax.set(xscale="log", yscale="log", xlabel="step", ylabel="loss / that of a constant output")
    window = f"; they leave at learning rates of {check.window[0]:.3g} to {check.window[1]:.3g}" if check.window else ""
    ax.set_title(f"Losses of the trials{window}")
    ax.set_ylim(top=min(ax.get_ylim()[1], DIVERGED * max([1.0, *(trial.ratios[0] for trial in tried)])))
    plain_log_ticks(ax.yaxis)


def draw_clocks(check: Drawn, ax: Axes) -> None:
    """Share of the loss that the outputs explain, and of the gradient that comes from the first half of a sequence; 0 is left out."""
    own = check.trials[0]
    windows = [s for s in signals(own) if s.gain > 0]
    centres = [(s.first + s.last) / 2 for s in windows]
    if windows:
        ax.plot(centres, [s.gain for s in windows], label="explained by the outputs", **line_style(0))
    moving = [k for k, s in enumerate(windows) if s.moves]
    ax.plot(
        [centres[k] for k in moving],
        [windows[k].gain for k in moving],
        "o",
        ms=4,
        color=line_style(0)["color"],
        label="beyond chance",
    )
    reaches = [(max(1, step), reach.far) for step, reach in own.reaches if reach.far > 0]
    ax.plot(
        [step for step, _ in reaches],
        [far for _, far in reaches],
        label="gradient from the first half",
        **line_style(1),
    )
    ax.set(xscale="log", yscale="log", xlabel="step", ylabel="share", title="What moves meanwhile")
    ax.set_ylim(top=2)
    plain_log_ticks(ax.yaxis)
