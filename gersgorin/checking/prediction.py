"""Result of a check of a training: verdict, trials, figure and JSON.

Legend: K trials.
"""

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes

from gersgorin.checking.verdict import lines_of_gains
from gersgorin.plotting.figure import ink, panel
from rhn.plotting.figures import BLUE, GREEN, GREY, RED
from rhn.utils.io import finite_json
from rhn.utils.result import Result, rows_of

if TYPE_CHECKING:
    from gersgorin.checking.forecast import Forecast
    from gersgorin.checking.gains import Gains

EDGE = 1.1  # ratio of a learning rate that fails to the end of the window beside it
DOUBT = (
    0.1  # probability of leaving, and its complement, from which a check that ran out of time leaves the outcome open
)
HUGE = 1e7  # steps; from here on written as a power of ten
CONSTANT = "the loss of a constant output"


@dataclass(frozen=True, kw_only=True, repr=False)
class TrainingCheck(Result):
    """Result of `check` for a training: `verdict` is three sentences, `summary()` a page, `to_json()` the output of --json."""

    name: str
    optimizer: str
    """Class of the optimiser: "Adam"."""
    learning_rate: float
    """Of its first group of parameters."""
    steps: int
    """Length of the training."""
    steps_per_epoch: int
    constant_loss: float
    """Mean loss of the best constant output."""
    first_loss: float
    """Loss of a minibatch before training."""
    forecast: "Forecast"
    order: float | None = None
    """Of the plateau, see `gersgorin.plateau`; None: not measured."""
    rates: dict[str, float] = field(default_factory=dict)
    """||dL/dW|| / ||W|| at the constant output, by matrix; empty if not measured."""
    cells: "tuple[Gains, ...]" = ()
    """Gains, exponents and saturation, one for each cell that can be measured."""
    left_out: tuple[str, ...] = ()
    """Parts of the check and of the data that were left out, in words."""

    def __post_init__(self):
        given = self.forecast
        interval = (min(given.interval[0], given.escape_steps), max(given.interval[1], given.escape_steps))
        object.__setattr__(self, "forecast", replace(given, interval=interval))
        object.__setattr__(self, "forecast", replace(self.forecast, window=self._window()))

    @property
    def escape_steps(self) -> float:
        """Steps until the mean loss is below that of the best constant output; infinity if it never is."""
        return self.forecast.escape_steps

    @property
    def interval(self) -> tuple[float, float]:
        """Of `escape_steps`, from disjoint halves of the data."""
        return self.forecast.interval

    @property
    def diverges_at(self) -> float:
        """Step at which the loss explodes; infinity if it does not."""
        return self.forecast.diverges_at

    @property
    def window(self) -> tuple[float, float] | None:
        """(Least, greatest) learning rate that leaves within the training and does not diverge; None: there is none."""
        return self.forecast.window

    @property
    def probability(self) -> float:
        """Of leaving within the training without divergence."""
        return self.forecast.probability

    @property
    def escape_epochs(self) -> float:
        return self.escape_steps / self.steps_per_epoch

    @property
    def outcome(self) -> str:
        """One of "leaves", "stays", "explodes", "leaves, then explodes" and "may leave".

        It may leave if time and probability differ, or if the time was up too early.
        """
        leaves, explodes = self.escape_steps <= self.steps, self.diverges_at <= self.steps
        if explodes and self.probability < 0.5:
            return "leaves, then explodes" if self.escape_steps <= self.diverges_at else "explodes"
        if self.forecast.cut is not None and DOUBT <= self.probability <= 1 - DOUBT:
            return "may leave"
        if leaves and not explodes and self.probability >= 0.5:
            return "leaves"
        return "stays" if not leaves and self.probability < 0.5 else "may leave"

    def _window(self) -> tuple[float, float] | None:
        """The window of the forecast, with the learning rate of the training inside if it leaves, outside if it does not."""
        window, rate = self.forecast.window, self.learning_rate
        if self.outcome == "leaves":
            return min(rate, *(window or ())) if window else rate, max(rate, *window) if window else rate
        if window is None or self.outcome == "may leave" or not window[0] <= rate <= window[1]:
            return window
        low, high = (rate * EDGE, window[1]) if self.outcome == "stays" else (window[0], rate / EDGE)
        return (low, high) if low <= high else None

    @property
    def sentences(self) -> tuple[str, str, str]:
        """Outcome, time, and window of learning rates."""
        return self._what(), self._when(), self._where()

    @property
    def verdict(self) -> str:
        return " ".join(self.sentences)

    @property
    def _steps(self) -> str:
        return f"{self.steps:,} step{'s' * (self.steps > 1)}"

    def _what(self) -> str:
        n, p = self._steps, _probability(self.probability)
        words = {
            "leaves": f"leaves {CONSTANT} within its {n} (probability {p})",
            "stays": f"stays at {CONSTANT} for all of its {n} (probability of leaving {p})",
            "explodes": f"explodes before it leaves {CONSTANT}, within its {n} (probability of leaving {p})",
            "leaves, then explodes": f"leaves {CONSTANT}, then explodes within its {n} (probability of no explosion {p})",
            "may leave": f"may leave {CONSTANT} within its {n}, or not (probability of leaving {p})",
        }
        return (
            f"Under {self.optimizer} at a learning rate of {self.learning_rate:.4g}, {self.name} {words[self.outcome]}."
        )

    def _when(self) -> str:
        first = self.diverges_at < self.escape_steps  # what comes later is of no interest
        escape = "" if first else self._escape()
        explodes = f"explodes at about step {self._in_steps(self.diverges_at)}"
        if self.outcome == "may leave" or self.diverges_at > self.steps:
            explodes = explodes.replace("explodes", "may explode")
        parts = (
            [f"its loss {explodes}"] if first else [escape] + [f"its loss {explodes}"] * math.isfinite(self.diverges_at)
        )
        words = ", and ".join(parts)
        disagree = "" if self.forecast.halves_agree else "; the two halves of the data disagree"
        early = "; the time was up, more seconds decide" if self.forecast.cut and self.outcome == "may leave" else ""
        return f"{words[0].upper()}{words[1:]}{disagree}{early}."

    def _escape(self) -> str:
        """The time of the escape with its interval."""
        low, high = map(self._in_steps, self.interval)
        if math.isinf(self.escape_steps):
            return "no escape is in sight" + f" (at the earliest after about {low} steps)" * (low != high)
        between = "" if low == high else f" ({low} {'or' if high == 'never' else 'to'} {high})"
        verb = "leaves" if self.outcome.startswith("leaves") else "would leave"
        return f"it {verb} after about {self._in_steps(self.escape_steps)} steps{between}"

    def _where(self) -> str:
        n, tried = self._steps, self.table()
        above = self.learning_rate if self.window is None else self.window[1]
        exploded = [row for row in tried if row["diverged"] < math.inf and row["learning_rate"] > above]
        then = "no higher one was seen to explode"
        if exploded:
            then = f"at {exploded[0]['learning_rate']:.3g} the loss explodes at step {exploded[0]['diverged']:,.0f}"
        if self.window is None:
            low, high = tried[0]["learning_rate"], tried[-1]["learning_rate"]
            seen = "was seen" if self.outcome == "may leave" else "is forecast"
            return f"No learning rate from {low:.3g} to {high:.3g} {seen} to leave within {n}{f'; {then}' * bool(exploded)}."
        low, high = (f"{rate:.3g}" for rate in self.window)
        rates = (
            f"Learning rates from {low} to {high} leave" if low != high else f"Of the learning rates only {low} leaves"
        )
        return f"{rates} within {n}; {then}."

    def summary(self) -> str:
        """The three sentences, then the numbers behind them."""
        epochs = f"{self._steps} of minibatches, {self.steps / self.steps_per_epoch:.3g} epochs"
        rows = {
            "training": f"{self.optimizer}, learning rate {self.learning_rate:.4g}, {epochs}",
            "plateau": f"{self.constant_loss:.4g}, the loss of the best constant output; it starts at {self.first_loss:.4g}",
            "outcome": self.outcome,
            "leaves after": self._in_steps(self.escape_steps),
            "interval": " to ".join(map(self._in_steps, self.interval)),
            "explodes at": self._in_steps(self.diverges_at),
            "window": "none" if self.window is None else f"{self.window[0]:.3g} to {self.window[1]:.3g}",
            "probability": _probability(self.probability),
        }
        if self.order is not None and math.isfinite(self.order):
            rows["order"] = f"{round(self.order, 1) + 0:g}"
        if self.rates:
            rows["rates"] = ", ".join(f"{name} {rate:.1e}" for name, rate in self.rates.items())
        if self.left_out:
            rows["left out"] = "; ".join(self.left_out)
        lines = [
            *self.sentences,
            "",
            *(f"{name:<15}{words}" for name, words in rows.items()),
            *lines_of_gains(self.cells),
        ]
        lines += ["", "trials"]
        for row in self.table():
            ends = [
                f"{verb} at step {row[key]:,.0f}"
                for key, verb in (("left", "leaves"), ("diverged", "explodes"))
                if row[key] < math.inf
            ]
            end = ", ".join(ends) or f"neither in {row['steps']:,} step{'s' * (row['steps'] != 1)}"
            lines.append(f"  learning rate {row['learning_rate']:<10.3g} {end}")
        return "\n".join(lines)

    def table(self) -> list[dict]:
        """One row for each trial, by learning rate: its steps, and those at which it left and diverged; infinity: not seen."""
        trials = self.forecast.trials
        columns = {"steps": trials.steps, "left": trials.left, "diverged": trials.diverged}
        return sorted(
            rows_of(learning_rate=self.learning_rate * trials.factors, **columns), key=lambda row: row["learning_rate"]
        )

    def plot(self, ax=None):
        """Outcome of each trial over its learning rate and its steps, with the window and the forecast."""
        return plot_training_check(self, ax)

    def to_json(self) -> dict:
        """All numbers for JSON; None if not finite. `interval` is that of `escape_steps`."""
        names = (
            "verdict",
            "outcome",
            "probability",
            "interval",
            "escape_steps",
            "escape_epochs",
            "diverges_at",
            "window",
            "optimizer",
        )
        names += (
            "learning_rate",
            "steps",
            "steps_per_epoch",
            "name",
            "constant_loss",
            "first_loss",
            "order",
            "rates",
            "left_out",
        )
        content = {name: getattr(self, name) for name in names}
        content |= {
            "halves_agree": self.forecast.halves_agree,
            "trials": self.table(),
            "cells": [cell.to_dict() for cell in self.cells],
        }
        return finite_json(content)

    def _in_steps(self, step: float) -> str:
        """A step in words, rounded unless that changes its order relative to the length of the training."""
        if not math.isfinite(step):
            return "never"
        if step >= HUGE:
            return f"10^{round(math.log10(step))}"
        rounded = max(1, round(float(f"{step:.3g}")))
        exact = (rounded <= self.steps) != (step <= self.steps)
        return f"{step:,.7g}" if exact else f"{rounded:,}"


def _probability(p: float) -> str:
    """
    >>> _probability(0.999), _probability(0.42)
    ('over 0.99', '0.42')
    """
    return "over 0.99" if p > 0.99 else "below 0.01" if p < 0.01 else f"{p:.2f}"


@panel(6.4, 4.2, lambda check: f"{check.name} under {check.optimizer}: {check.outcome}")
def plot_training_check(check: TrainingCheck, ax: Axes | None = None) -> Axes:
    """Learning rates across, steps upwards, both on log scales; a line is a trial, its marker how it ended."""
    ax.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="step")
    kinds = {
        "leaves": (GREEN, "o", "left"),
        "explodes": (RED, "X", "diverged"),
        "neither yet": (GREY, "^", "steps"),
    }
    if check.window is not None:
        ax.axvspan(check.window[0] / EDGE, check.window[1] * EDGE, color=GREEN, alpha=0.12, lw=0, label="window")
    for name, (colour, marker, key) in kinds.items():
        points = []
        for row in check.table():
            ended = min(row["left"], row["diverged"]) < math.inf
            if (key == "steps") != ended and row[key] < math.inf:
                points.append((row["learning_rate"], max(row[key], 1)))
        if points:
            x, y = np.array(points).T
            ax.vlines(x, 1, y, color=colour, lw=0.8, alpha=0.5)
            ax.plot(x, y, marker, color=colour, label=f"trial: {name}", ms=6)
    ax.axvline(check.learning_rate, color=BLUE, lw=0.9, ls=(0, (1, 2)), label="its learning rate")
    ax.axhline(check.steps, color=ink(ax), lw=0.9, ls=(0, (4, 3)), label="length of the training")
    if math.isfinite(check.escape_steps):
        low, high = (min(max(step, 1), 10 * check.steps) for step in check.interval)
        ax.vlines(check.learning_rate, low, high, color=BLUE, lw=3, alpha=0.5)
        ax.plot(
            check.learning_rate,
            max(check.escape_steps, 1),
            "D",
            color=BLUE,
            mfc="none",
            ms=9,
            label="forecast of leaving",
        )
    ax.margins(x=0.12)
    ax.set_ylim(1, None)
    return ax
