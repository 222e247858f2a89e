"""Train rows for the same steps, and measure their errors on held-out examples.

    race = race_of(run, saved, known, steps=400, seed=0)
    race.errors("inputs standardised", seed=0)      # a pair (E,): one for each half
    race.half(FIRST)                                # what `trainability.stars` compares

A race is not changed: `dataclasses.replace` makes another one, such as one with other steps. What
has been trained is kept in it, and trained once.

Legend: E held-out examples of a half.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from rhn.utils.progress import Advance
from trainability.changes import KEEPS_FIRST_LOSS, LONGER, NONE, TABLE, Apply, Known
from trainability.scores import RAW
from trainability.snapshot import Snapshot, seed_all
from trainability.stars import Half, closing
from trainability.training import (
    FAILS,
    Held,
    TrainingRun,
    held_of,
    raised_by,
    reason_of,
    train_run,
    weights_are_finite,
)

SEEDS = (0, 1, 2)
LONGER_STEPS = 4  # times those of other rows
FIRST, OTHER = 0, 1  # halves of the held-out examples
OfHalves = tuple[Tensor, Tensor]
"""Errors on the first half of the held-out examples, and on the other one."""


@dataclass
class StepCount:
    """The optimiser steps of a race: those done, and those of all rows that are expected."""

    advance: Advance = lambda done, total: None
    done: int = 0
    expected: int = 0

    def expect(self, steps: int) -> None:
        """Expect further steps."""
        self.expected += steps

    def expect_in_all(self, steps: int) -> None:
        """Expect so many steps after those that are done."""
        self.expected = self.done + steps

    def reach(self, done: int) -> None:
        """Report how many steps are done."""
        self.done = done
        self.advance(done, max(done, self.expected))

    def step(self) -> None:
        """Report one further step."""
        self.reach(self.done + 1)


def of_check() -> dict[str, Apply]:
    """Return the changes of `check`, by label."""
    return {change.label: change.apply for change in TABLE}


@dataclass(frozen=True)
class Race:
    """The rows of a training run."""

    run: TrainingRun
    saved: Snapshot
    known: Known
    steps: int
    seed: int
    """The first of three seeds that follow each other."""
    held: tuple[Held, Held]
    constant: OfHalves
    """Errors of the constant predictor for each half; for a raw loss, of the untrained network."""
    changes: Mapping[str, Apply] = field(default_factory=of_check)
    """The functions that change a run, by label."""
    base: str = NONE
    """The label of the row without a change."""
    count: StepCount = field(default_factory=StepCount)
    found: dict[tuple[str, int], OfHalves] = field(default_factory=dict)
    """Errors on both halves, by label and seed; infinite if weights were not finite in training."""
    first_losses: dict[tuple[str, int], float] = field(default_factory=dict)
    """The losses of first minibatches, by label and seed."""
    failed: dict[str, str] = field(default_factory=dict)
    """The classes and first lines of errors, by the label of the row that raised one."""

    def counted(self, advance: Advance) -> "Race":
        """Return this race with a callback for its steps: advance(done, all expected)."""
        count = StepCount(advance)
        return replace(self, count=count, run=replace(self.run, on_step=count.step))

    def steps_of(self, label: str) -> int:
        """Return the optimiser steps of a row."""
        return self.steps * LONGER_STEPS if label == LONGER else self.steps

    def expect(self, rows: Iterable[tuple[str, int]]) -> None:
        """Count the steps of rows (label, seed) that will be trained."""
        self.count.expect(sum(self.steps_of(row[0]) for row in rows if row not in self.found))

    def remeasure(self, label: str, *, size: int | None = None, training: bool = False) -> None:
        """Measure the run without a change, which has just been trained, in another way."""
        try:
            first, other = (h.errors(self.run, size=size, training=training) for h in self.held)
            self.found[label, 0] = first, other
        except FAILS as error:
            self.failed[label] = reason_of(error)

    def changed(self, label: str, seed: int) -> TrainingRun | None:
        """Put everything back, and return the run of a row; None if the change does not apply."""
        self.saved.restore()
        seed_all(seed)
        if label in (NONE, LONGER):
            return self.run
        try:
            return self.changes[label](self.run, self.known)
        except FAILS as error:
            self.failed[label] = reason_of(error)
            return None

    def errors(self, label: str, seed: int) -> OfHalves | None:
        """Train a row; return its errors, or None if its change does not apply."""
        if (label, seed) not in self.found:
            end = self.count.done + self.steps_of(label)
            self._train(label, seed)
            self.count.reach(end)  # also of a row that does not apply, or has ended early
        return self.found.get((label, seed))

    def _train(self, label: str, seed: int) -> None:
        run = self.changed(label, self.seed + seed)
        if run is None:
            return
        try:
            losses = train_run(run, self.steps_of(label), self.seed + seed)
            self.keep(label, seed, run, losses)
        except FAILS as error:
            if label == self.base:
                raise raised_by("the training", error) from error
            self.failed[label] = reason_of(error)

    def keep(self, label: str, seed: int, run: TrainingRun, losses: Sequence[float]) -> None:
        """Measure the trained run of a row, and keep its errors and its first loss."""
        self.first_losses[label, seed] = losses[0]
        if weights_are_finite(run):
            first, other = (held.errors(run) for held in self.held)
        else:
            first, other = (torch.full_like(each, math.inf) for each in self.constant)
        self.found[label, seed] = first, other

    def error(self, label: str) -> float | None:
        """Return the mean error on the first half, with the first seed."""
        found = self.errors(label, 0)
        return None if found is None else float(found[FIRST].mean())

    def half(self, half: int) -> Half:
        """Return the errors of all rows on the first half, with the first seed, or on the other
        half, on average over those of the three seeds that have been run.
        """
        errors = self.means_of_known_seeds(half, SEEDS if half == OTHER else SEEDS[:1])
        is_raw, groups = self.run.score.kind == RAW, self.held[half].groups
        return Half(errors, self.base, self.constant[half], groups, is_raw)

    def means_of_known_seeds(self, half: int, seeds: Sequence[int]) -> dict[str, Tensor]:
        """Return the errors (E,) of each row on a half, on average over those of some seeds that
        have been run.
        """
        known: dict[str, list[Tensor]] = {}
        for label, seed in self.found:
            if seed in seeds:
                known.setdefault(label, []).append(self.found[label, seed][half])
        return {label: torch.stack(each).mean(0) for label, each in known.items()}

    def closing_with_seeds(self, chosen: Sequence[str], rivals: Sequence[str]) -> list[str]:
        """Return those of some rows that have been run with three seeds, and close the gap on the
        other half.
        """
        repeated = [label for label in chosen if self.errors_of_seeds(label) is not None]
        return closing(self.half(OTHER), repeated, rivals)

    def errors_of_seeds(self, label: str) -> tuple[float, ...] | None:
        """Return the mean errors of a row on the other half with three seeds; None if they were not
        all run.
        """
        known = [self.found[label, seed][OTHER] for seed in SEEDS if (label, seed) in self.found]
        return tuple(float(each.mean()) for each in known) if len(known) == len(SEEDS) else None

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


def race_of(run: TrainingRun, saved: Snapshot, known: Known, steps: int, seed: int) -> Race:
    """Return the race of an untrained run."""
    first, other = (held_of(run, half) for half in run.data.halves)
    if run.score.kind == RAW:
        constant = first.errors(run), other.errors(run)
    else:
        constant = first.constant, other.constant
    return Race(run, saved, known, steps, seed, held=(first, other), constant=constant)


def is_same(one: float, other: float) -> bool:
    """True if two losses are equal to the bit, or both not a number."""
    return one == other or (math.isnan(one) and math.isnan(other))


def seconds_of(work: Callable[[], object]) -> float:
    """Return the time of some work, in seconds."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
