"""Forecasts of recorded trainings: short trials are the beginnings of the recorded curves, so that a forecast costs no training.

    recordings = [Recording(path) for path in sorted(folder.glob("*.npz"))]
    forecast_recorded(recordings[0], 4, steps=1000)      # as `gersgorin.checking.forecast.forecast` at the fifth learning rate

Trials at rates that were not recorded (above the largest) count as diverged at once. Both halves of the data are the same curve here,
so that nothing is said about how well halves agree.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from gersgorin.checking.forecast import EXPONENT, Forecast, decide
from gersgorin.checking.trials import WINDOW, Trials, _Run

SGD = ("sgd", "momentum")


@dataclass(frozen=True)
class Outcome:
    """End of a training, in steps; inf: never."""

    left: float
    known: float
    """Step at which it was sure that it had left."""
    diverged: float
    dips: tuple[tuple[int, int], ...]
    """First and last steps of the windows below the plateau, before it was sure."""


class Recording:
    """The curves of one network and optimiser at several learning rates."""

    def __init__(self, path: Path):
        self.name = path.stem
        self.task, *cell, self.start, self.optimizer, _ = path.stem.split("-")
        self.cell = "-".join(cell)
        with np.load(path) as stored:
            self.losses, self.constants = stored["losses"].astype(float), stored["constants"].astype(float)
            self.rates, self.constant = stored["rates"], float(stored["constant"])
            self.step_seconds = float(stored["step_seconds"])

    @property
    def kind(self) -> str:
        """ "sgd" or "adaptive"."""
        return "sgd" if self.optimizer in SGD else "adaptive"

    @cached_property
    def outcomes(self) -> list[Outcome]:
        """Of each learning rate, over all steps."""
        return [self._outcome(losses) for losses in self.losses.T]

    def _outcome(self, losses: np.ndarray) -> Outcome:
        run, known, dips = _Run(math.inf), math.inf, {}
        for step in range(1, len(losses) + 1):
            run.look(
                losses[max(0, step - WINDOW) : step], self.constants[max(0, step - WINDOW) : step], step, losses[0]
            )
            if run.left < math.inf and known == math.inf:
                known = step
            if known == math.inf and run.below < math.inf:
                dips[run.below] = step
            if run.diverged < math.inf:
                break
        return Outcome(run.left, known, run.diverged, tuple(dips.items()))

    def ratio(self, rate: int, step: int) -> float:
        """Loss after some steps relative to the constant's, means over the steps so far, at most `WINDOW`."""
        rows = slice(max(0, step - WINDOW), step)
        return float(self.losses[rows, rate].sum() / self.constants[rows].sum())

    def leaves(self, rate: int, steps: int) -> bool:
        """True if a training of so many steps leaves and does not diverge."""
        found = self.outcomes[rate]
        return found.left <= steps < found.diverged


class Replay:
    """Runs trials of one recorded training by reading its curves; `used` is the number of steps."""

    def __init__(self, recording: Recording, rate: int):
        self.recording, self.rate, self.used = recording, rate, 0

    def __call__(
        self, doing, factors, parts, *, steps, budget=math.inf, until_first=False, after=1.0, order=0
    ) -> Trials:
        most = np.broadcast_to(np.asarray(steps), (len(factors),))
        columns = [self.rate - round(2 * math.log10(f)) for f in factors]
        ends = np.array([self._end(c, m, after) for c, m in zip(columns, most, strict=True)])
        if until_first:
            ends = np.minimum(ends, ends[0])
        while ends.sum() > budget:  # the longest trials end together
            ends = np.minimum(ends, max(ends.max() - 1, 1))
        self.used += int(ends.sum())
        length = int(ends.max())
        losses = np.full((length, len(columns)), np.nan)
        constants, left, diverged = losses.copy(), np.full(len(columns), np.inf), np.full(len(columns), np.inf)
        for k, (column, end) in enumerate(zip(columns, ends, strict=True)):
            constants[:end, k] = self.recording.constants[:end]
            if not 0 <= column < self.recording.losses.shape[1]:
                diverged[k] = 1.0
                continue
            losses[:end, k] = self.recording.losses[:end, column]
            outcome = self.recording.outcomes[column]
            dip = [first for first, last in outcome.dips if first <= end <= last]
            left[k] = outcome.left if outcome.known <= end else min(dip, default=math.inf)
            diverged[k] = outcome.diverged if outcome.diverged <= end else math.inf
        return Trials(
            np.asarray(factors, float),
            tuple(parts),
            losses,
            constants,
            left,
            diverged,
            self.recording.constant,
            0.0,
            False,
        )

    def _end(self, column: int, most: int, after: float) -> int:
        """Last step of a trial that ends so many times its escape, when this is known, or when it has diverged."""
        if not 0 <= column < self.recording.losses.shape[1]:
            return 1
        outcome = self.recording.outcomes[column]
        ended = max(outcome.known, after * outcome.left)
        return int(min(most, ended, outcome.diverged, len(self.recording.losses)))


def forecast_recorded(
    recording: Recording, rate: int, steps: int, laws: dict[str, tuple[float, float]] = EXPONENT
) -> tuple[Forecast, int]:
    """The forecast at one of the recorded rates, and how many steps its trials took."""
    run = Replay(recording, rate)
    found = decide(run, (0, 1), steps, laws[recording.kind], float(recording.rates[rate]))
    return found, run.used
