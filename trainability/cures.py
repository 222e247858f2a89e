"""`cure`: race initial weights and learning rates of a training run.

    found = cure(model, x, y, loss_fn, optimizer, steps=1000)
    found.best.weights, found.best.rate         # "orthogonal", 0.1
    found.apply(model)                          # draw these weights

All pairs train for an eighth of the steps, the better half for a quarter, and so on. The best pair
and yours are repeated with three seeds on other held-out examples.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor, nn

from rhn.errors import InvalidInputError
from rhn.utils.progress import Progress, reported
from rhn.utils.tables import PRINTED, Block, formatted
from trainability.changes import Known
from trainability.check_table import (
    CLOSED,
    ERROR_COLUMN,
    SEED,
    STAR,
    STARRED,
    THREE,
    Failure,
    ResultOfRows,
    failures_as_block,
    numbered,
    shown_error,
)
from trainability.checks import failures_of
from trainability.door import TrainingOptions, opened_run, refuse_few, refuse_unknown
from trainability.initial_weights import chrono_, orthogonal_, remembering_, reset_
from trainability.races import FIRST, SEEDS, Race
from trainability.scores import MEANINGS
from trainability.stars import closing
from trainability.training import TrainingRun

YOURS, TORCH, ORTHOGONAL, CHRONO = "yours", "torch's", "orthogonal", "chrono gates"
BOTH, REMEMBERING = "orthogonal, chrono gates", "remembering"
RATES = (0.1, 0.3, 1.0, 3.0, 10.0)
"""Factors of the learning rates: two to a decade."""
RUNGS = (8, 4, 2, 1)
WEIGHTS, FACTOR, STEPS = "initial weights", "rate x", "steps"
FAILED = "pairs that raised an error"
Pair = tuple[str, float]
"""The label of initial weights, and a factor of the rate."""


def orthogonal_chrono(model: nn.Module, steps: int) -> int:
    """Orthogonal matrices, and gates for memories of up to `steps` time steps."""
    return orthogonal_(model) and chrono_(model, steps)


DRAWS: dict[str, Callable[[nn.Module, int], int]] = {
    ORTHOGONAL: lambda model, steps: orthogonal_(model),
    CHRONO: chrono_,
    BOTH: orthogonal_chrono,
    REMEMBERING: remembering_,
}
"""Functions by the label of their weights; they return 0 if they do not apply."""
LABELS = (YOURS, TORCH, *DRAWS)
PAIRS = {f"{weights}, {FACTOR} {rate:g}": (weights, rate) for weights in LABELS for rate in RATES}
"""All pairs of weights and a factor of the rate, by their labels."""
BASE = f"{YOURS}, {FACTOR} 1"


@dataclass(frozen=True)
class Candidate:
    """Initial weights and a learning rate."""

    weights: str
    rate: float
    """Factor of your learning rates."""
    steps: int
    """Optimiser steps after which the error was measured last."""
    error: float
    """On the first half of the held-out examples, with the first seed."""
    seeds: tuple[float, ...] | None
    """On the other half, with three seeds; None if they were not run."""
    starred: bool
    """True if the pair closes 80 % of the gap between yours and the lowest error."""


@dataclass(frozen=True, repr=False, eq=False)
class Cure(ResultOfRows):
    """Pairs of initial weights and learning rates, the best first.

    >>> best = Candidate("orthogonal", 3.0, 100, 0.02, None, True)
    >>> Cure(kind="numbers", time_steps=20, rows=(best,)).best.rate
    3.0
    """

    page: ClassVar[str] = "docs/guides/cure.md"
    texts: ClassVar[tuple[str, ...]] = (
        *LABELS, *MEANINGS.values(), WEIGHTS, FACTOR, STEPS, ERROR_COLUMN, THREE, STAR, CLOSED,
        FAILED,
    )  # fmt: skip

    kind: str
    """classes, signs, numbers or raw."""
    time_steps: int
    """Of the first input."""
    rows: tuple[Candidate, ...]
    failed: int = 0
    """The number of pairs that raised an error."""
    failures: tuple[Failure, ...] = ()
    """These pairs; empty in files of 0.7.0."""

    @property
    def best(self) -> Candidate:
        """The pair with the lowest error after all steps."""
        return self.rows[0]

    def apply(self, model: nn.Module) -> None:
        """Draw the best initial weights in place, from torch's random state. Multiply your learning
        rates by `best.rate` yourself.
        """
        draw_weights(model, self.best.weights, self.time_steps)

    def title(self) -> list[str]:
        return [f"error: {MEANINGS[self.kind]}"]

    def table(self) -> Mapping[str, Any]:
        """Return the error of each pair, the best first."""
        return {f"{row.weights}, {FACTOR} {row.rate:g}": row.error for row in self.rows}

    def records(self) -> list[dict[str, Any]]:
        """Return a line {column: number} for each pair."""
        return [
            {
                WEIGHTS: row.weights,
                FACTOR: row.rate,
                STEPS: row.steps,
                ERROR_COLUMN: row.error,
                **numbered(SEED, row.seeds),
                STARRED: int(row.starred),
            }
            for row in self.rows
        ]

    def notes(self) -> Mapping[str, int]:
        return {FAILED: self.failed}

    def blocks(self) -> list[Block]:
        """Return all pairs, the best first, and the failures."""
        heads, rows = [[WEIGHTS, FACTOR, STEPS, ERROR_COLUMN, THREE]], list[list[str]]()
        for row in self.rows:
            errors = [shown_error(e, self.kind) for e in (row.error, *(row.seeds or ()))]
            numbers = [formatted(row.rate), formatted(row.steps), errors[0], " ".join(errors[1:])]
            rows.append([row.weights, *numbers, STAR if row.starred else ""])
        pairs = Block(rows, heads=heads, feet=[[CLOSED]])
        return [pairs, failures_as_block(FAILED, self.failures)]

    def short(self) -> list[Block]:
        """Return the ten best pairs."""
        pairs, _ = self.blocks()
        return [pairs._replace(rows=pairs.rows[:PRINTED])]


def draw_weights(model: nn.Module, weights: str, steps: int) -> bool:
    """Draw initial weights by their label; return whether they apply to the model.

    steps: time steps of a sequence.
    """
    if weights == TORCH:
        reset_(model)
    return weights not in DRAWS or DRAWS[weights](model, steps) > 0


def with_pair(run: TrainingRun, known: Known, *, pair: Pair, steps: int) -> TrainingRun | None:
    """Return a run with other initial weights and rates; None if the weights do not apply."""
    weights, factor = pair
    return replace(run, factor=factor) if draw_weights(run.model, weights, steps) else None


def cure(
    model: nn.Module,
    x: Any,
    y: Any,
    loss_fn: Callable[[Any, Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    *,
    steps: int = 1000,
    progress: Progress = None,
    **how: Unpack[TrainingOptions],
) -> Cure:
    """Find initial weights and a factor of the learning rate with which a training run learns.

    Everything that is given is restored at the end, as by `check`.

    Args:
        model, x, y, loss_fn, optimizer: as for `check`.
        steps: optimiser steps of the last round; at least 8.
        progress: as for `check`.
        how: batch_size, clip_norm, scheduler, predict, batch_axis, shuffle, validation and seed of
            `check`.

    Raises InvalidInputError, as `check` does.

    >>> _ = torch.manual_seed(0)
    >>> x, model = torch.randn(100, 3), nn.Linear(3, 1)
    >>> sgd = torch.optim.SGD(model.parameters(), 1e-2)
    >>> found = cure(model, x, x.sum(1, keepdim=True), nn.MSELoss(), sgd, steps=40)
    >>> found.best.rate
    10.0
    """
    refuse_unknown("cure", how)
    with opened_run(model, x, y, loss_fn, optimizer, steps=steps, **how) as own:
        refuse_few(own.run.data)
        if steps < RUNGS[0]:
            raise InvalidInputError(f"steps is {steps}: expected at least {RUNGS[0]}")
        count = own.run.data.time_steps
        with reported(progress, "cure") as advance:
            race = pairs_of(own.race(Known(), steps), count).counted(advance)
            rows = halved(race)
        return Cure(
            kind=own.run.score.kind,
            time_steps=count,
            rows=tuple(rows),
            failed=len(race.failed),
            failures=failures_of(race),
        )


def pairs_of(race: Race, time_steps: int) -> Race:
    """Return the race of all pairs of initial weights and rates, with yours as its base."""
    changes = {
        label: partial(with_pair, pair=pair, steps=time_steps) for label, pair in PAIRS.items()
    }
    return replace(race, changes=changes, base=BASE)


def halved(race: Race) -> list[Candidate]:
    """Race all pairs by successive halving; return them, the best first."""
    left, out = [*PAIRS], list[Candidate]()
    for place, divisor in enumerate(RUNGS):
        rung = replace(race, steps=race.steps // divisor, found={})
        rung.count.expect_in_all(
            steps_of_rounds(len(left), [race.steps // d for d in RUNGS[place:]])
        )
        errors = dict[str, float]()
        for label in left:
            error = rung.error(label)
            if error is not None:
                errors[label] = error
        ranked = sorted(errors, key=lambda label: (errors[label], label))
        keep = len(ranked) if divisor == 1 else math.ceil(len(ranked) / 2)
        left, lost = ranked[:keep], ranked[keep:]
        dropped = [Candidate(*PAIRS[n], rung.steps, errors[n], None, False) for n in lost]
        out = [*dropped, *out]
    best = finals(rung, left)
    known = {(row.weights, row.rate) for row in best}  # yours may have been dropped before
    return [*best, *(row for row in out if (row.weights, row.rate) not in known)]


def steps_of_rounds(count: int, steps: Sequence[int]) -> int:
    """Return the optimiser steps of rounds of so many steps, the first with `count` pairs, each
    further one with half of them.

    >>> steps_of_rounds(5, [10, 20, 40])  # 5, 3 and 2 pairs
    190
    """
    return sum(-(-count // 2**k) * each for k, each in enumerate(steps))


def finals(race: Race, left: list[str]) -> list[Candidate]:
    """Repeat the best pair and yours with three seeds."""
    race.errors(BASE, 0)
    errors = race.half(FIRST).errors
    means = {label: float(errors[label].mean()) for label in {*left, BASE}}
    names = sorted(means, key=lambda label: (means[label], label))
    again = [(label, seed) for label in (names[0], BASE) for seed in SEEDS]
    race.expect(again)
    for label, seed in again:
        race.errors(label, seed)
    chosen = closing(race.half(FIRST), names[:1], names)
    starred = race.closing_with_seeds(chosen, names)
    return [
        Candidate(*PAIRS[n], race.steps, means[n], race.errors_of_seeds(n), n in starred)
        for n in names
    ]
