"""Train rows for the same steps, and compare their errors on held-out examples.

    race = Race(run, saved, known, steps=400, seed=0)
    race.errors("inputs standardised", seed=0)      # a pair (E,): one for each half
    race.closing(labels, half=0, rivals=labels)     # those that close the gap of none

Legend: E held-out examples of a half.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

import torch
from scipy.special import stdtr, stdtrit
from torch import Tensor

from rhn.utils.progress import Advance
from trainability.changes import CHANGES, KEEPS_FIRST_LOSS, LONGER, NONE, Change, Known
from trainability.scores import RAW
from trainability.snapshot import Snapshot, seed_all
from trainability.training import (
    FAILS,
    Held,
    TrainingRun,
    held_of,
    raised_by,
    train_run,
    weights_are_finite,
)

CLOSES = 0.8  # of the gap
LEARNED = 0.1  # error of a run that has learned well; of a raw loss: gap / gap of the untrained
HALVES = 0.5  # of the error of a run that is below the constant predictor
ERRORS = 2.0  # standard errors of a difference, of ten or more observations
RATE_OF_TEN = float(stdtr(9, ERRORS))  # of Student's t: at most 3.8 % are above by chance
SEEDS = (0, 1, 2)
Pair = tuple[Tensor, Tensor]


@dataclass
class Race:
    """The rows of a training run."""

    run: TrainingRun
    saved: Snapshot
    known: Known
    steps: int
    seed: int = 0
    """The first of three seeds that follow each other."""
    held: tuple[Held, ...] = ()
    constant: tuple[Tensor, ...] = ()
    """Errors of the constant predictor for each half; for a raw loss, of the untrained network."""
    found: dict[tuple[str, int], Pair] = field(default_factory=dict)
    """Errors on both halves, by label and seed; infinite if weights were not finite in training."""
    first_losses: dict[tuple[str, int], float] = field(default_factory=dict)
    """The losses of first minibatches, by label and seed."""
    failed: set[str] = field(default_factory=set)
    """Rows that raised an error."""
    changes: Mapping[str, Change] = field(default_factory=CHANGES.copy)
    """The changes, by label."""
    base: str = NONE
    """The label of the row without a change."""
    advance: Advance = lambda done, total: None
    """Called with (optimiser steps done, steps of all expected rows)."""
    done: int = 0
    expected: int = 0

    def __post_init__(self) -> None:
        self.run = replace(self.run, on_step=lambda: self.report(self.done + 1))
        self.held = tuple(held_of(self.run, half) for half in self.run.data.halves)
        raw = self.run.score.kind == RAW
        self.constant = self.measured(self.run) if raw else tuple(h.constant for h in self.held)

    def report(self, done: int) -> None:
        """Report how many optimiser steps are done."""
        self.done = done
        self.advance(done, max(done, self.expected))

    def steps_of(self, label: str) -> int:
        """Return the optimiser steps of a row."""
        return self.steps * (4 if label == LONGER else 1)

    def expect(self, rows: Iterable[tuple[str, int]]) -> None:
        """Count the steps of rows (label, seed) that will be trained."""
        self.expected += sum(self.steps_of(row[0]) for row in rows if row not in self.found)

    def measured(self, run: TrainingRun) -> Pair:
        """Return the errors of a run on both halves."""
        first, other = (held.errors(run) for held in self.held)
        return first, other

    def remeasure(self, label: str, *, size: int | None = None, training: bool = False) -> None:
        """Measure the run without a change, which has just been trained, in another way."""
        with suppress(*FAILS):
            first, other = (h.errors(self.run, size=size, training=training) for h in self.held)
            self.found[label, 0] = first, other
            return
        self.failed.add(label)

    def broken(self) -> Pair:
        """Return the errors of a run whose weights are not finite."""
        first, other = (torch.full_like(each, math.inf) for each in self.constant)
        return first, other

    def changed(self, label: str, seed: int) -> TrainingRun | None:
        """Put everything back, and return the run of a row; None if the change does not apply."""
        self.saved.restore()
        seed_all(seed)
        if label in (NONE, LONGER):
            return self.run
        try:
            return self.changes[label](self.run, self.known)
        except FAILS:
            self.failed.add(label)
            return None

    def errors(self, label: str, seed: int) -> Pair | None:
        """Train a row; return its errors, or None if its change does not apply."""
        if (label, seed) not in self.found:
            end = self.done + self.steps_of(label)
            self.train(label, seed)
            self.report(end)  # also of a row that does not apply, or has ended early
        return self.found.get((label, seed))

    def train(self, label: str, seed: int) -> None:
        """Train a row, and measure it."""
        run = self.changed(label, self.seed + seed)
        if run is None:
            return
        try:
            losses = train_run(run, self.steps_of(label), self.seed + seed)
            self.first_losses[label, seed] = losses[0]
            finite = weights_are_finite(run)
            self.found[label, seed] = self.measured(run) if finite else self.broken()
        except FAILS as error:
            if label == self.base:
                raise raised_by("the training", error) from error
            self.failed.add(label)

    def other_first_losses(self) -> int:
        """Return how many rows that leave network, data, loss and first weights have another first
        loss than none.
        """
        none = {seed: loss for (label, seed), loss in self.first_losses.items() if label == NONE}
        others = {
            label
            for (label, seed), loss in self.first_losses.items()
            if label in KEEPS_FIRST_LOSS and seed in none and not is_same(loss, none[seed])
        }
        return len(others)

    def error(self, label: str) -> float | None:
        """Return the mean error on the first half, with the first seed."""
        found = self.errors(label, 0)
        return None if found is None else float(found[0].mean())

    def mean(self, label: str, half: int, seeds: tuple[int, ...]) -> Tensor:
        """Return the errors of a row on a half, averaged over seeds that have been run."""
        known = [self.found[label, s][half] for s in seeds if (label, s) in self.found]
        return torch.stack(known).mean(0)

    def closing(self, labels: list[str], half: int, rivals: list[str]) -> list[str]:
        """Return those rows that close the gap between none and the lowest error of the rivals, on
        the first half with the first seed, or on the other half with three seeds.
        """
        seeds = SEEDS if half else SEEDS[:1]
        lowest = min(float(self.mean(label, half, seeds).mean()) for label in rivals)
        return [label for label in labels if self.closes(label, half, seeds, lowest)]

    def closes(self, label: str, half: int, seeds: tuple[int, ...], lowest: float) -> bool:
        """Return whether a row closes most of the gap between none and the lowest error."""
        base, error = (self.mean(each, half, seeds) for each in (self.base, label))
        constant = self.constant[half]
        if not base.mean() <= constant.mean():
            base = constant  # a run that has learned nothing counts as the constant predictor
        gap, groups = float(base.mean()) - lowest, self.held[half].groups
        below = is_below(error, base, groups)
        closes = below and float(base.mean() - error.mean()) >= CLOSES * gap
        if self.run.score.kind == RAW:
            return closes and gap > LEARNED * (float(constant.mean()) - lowest)
        learns = is_below(base, constant, groups)
        halved = not learns or float(error.mean()) <= HALVES * float(base.mean())
        return closes and halved and float(base.mean()) > LEARNED


def is_below(low: Tensor, high: Tensor, groups: Tensor) -> bool:
    """True if the mean of paired errors is lower by two standard errors of the difference; by more
    of them if there are fewer than ten observations.

    groups: the group of equal examples to which each error belongs, (E,). The errors of a group are
    averaged first: they are one observation.
    """
    difference = high - low
    sizes = groups.bincount()
    means = difference.new_zeros(len(sizes)).index_add(0, groups, difference) / sizes
    count = len(means)
    if count < 2:
        return False
    errors = max(ERRORS, float(stdtrit(count - 1, RATE_OF_TEN)))
    return float(means.mean()) > errors * float(means.std() / math.sqrt(count))


def is_same(one: float, other: float) -> bool:
    """True if two losses are equal to the bit, or both not a number."""
    return one == other or (math.isnan(one) and math.isnan(other))


def seconds_of(work: Callable[[], object]) -> float:
    """Return the time of some work, in seconds."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
