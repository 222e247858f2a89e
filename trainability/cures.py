"""`cure`: race initial weights and learning rates of a training run.

    found = cure(model, x, y, loss_fn, optimizer, steps=1000)
    found.best.weights, found.best.rate         # "orthogonal", 0.1
    found.apply(model)                          # draw these weights

All pairs train for an eighth of the steps, the better half for a quarter, and so on. The best pair
and yours are repeated with three seeds on other held-out examples.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from rhn.cells.init import chrono_, orthogonal_, remembering_
from rhn.errors import InvalidInputError
from rhn.utils.results import Result
from rhn.utils.tables import formatted
from trainability.changes import Known, initial_weights
from trainability.checks import ERROR_COLUMN, STAR, THREE, Row, opened_run, seeds_of, shown_error
from trainability.races import SEEDS, Race
from trainability.scores import MEANINGS
from trainability.training import TrainingRun

YOURS, TORCH, ORTHOGONAL, CHRONO = "yours", "torch's", "orthogonal", "chrono gates"
BOTH, REMEMBERING = "orthogonal, chrono gates", "remembering"
RATES = (0.1, 0.3, 1.0, 3.0, 10.0)
"""Factors of the learning rates: two to a decade."""
RUNGS = (8, 4, 2, 1)
WEIGHTS, RATE, STEPS = "initial weights", "rate x", "steps"
CLOSED = "* closes 80 % of the gap to the lowest error"
Pair = tuple[str, float]


def orthogonal_chrono(model: nn.Module, steps: int) -> int:
    """Rotations, and gates for memories of up to `steps` time steps."""
    return orthogonal_(model) and chrono_(model, steps)


DRAWS: dict[str, Callable[[nn.Module, int], int]] = {
    ORTHOGONAL: lambda model, steps: orthogonal_(model),
    CHRONO: chrono_,
    BOTH: orthogonal_chrono,
    REMEMBERING: remembering_,
}
"""Functions of `rhn.cells.init` by the label of their weights; they return 0 if they do not
apply.
"""
LABELS = (YOURS, TORCH, *DRAWS)


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
class Cure(Result):
    """Pairs of initial weights and learning rates, the best first.

    >>> best = Candidate("orthogonal", 3.0, 100, 0.02, None, True)
    >>> Cure(kind="numbers", time_steps=20, rows=(best,)).best.rate
    3.0
    """

    page: ClassVar[str] = "docs/guides/cure.md"
    texts: ClassVar[tuple[str, ...]] = (
        *LABELS, *MEANINGS.values(), WEIGHTS, RATE, STEPS, ERROR_COLUMN, THREE, STAR, CLOSED,
    )  # fmt: skip

    kind: str
    """classes, signs, numbers or raw."""
    time_steps: int
    """Of the first input."""
    rows: tuple[Candidate, ...]

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
        return {f"{row.weights}, {RATE} {row.rate:g}": row.error for row in self.rows}

    def blocks(self) -> list[list[list[str]]]:
        rows = [[WEIGHTS, RATE, STEPS, ERROR_COLUMN, THREE]]
        for row in self.rows:
            errors = [shown_error(e, self.kind) for e in (row.error, *(row.seeds or ()))]
            numbers = [formatted(row.rate), formatted(row.steps), errors[0], " ".join(errors[1:])]
            rows.append([row.weights, *numbers, STAR * row.starred])
        return [[*rows, [CLOSED]]]


def draw_weights(model: nn.Module, weights: str, steps: int) -> bool:
    """Draw initial weights by their label; return whether they apply to the model.

    steps: time steps of a sequence.
    """
    if weights == TORCH:
        initial_weights(model)
    return weights not in DRAWS or DRAWS[weights](model, steps) > 0


def with_pair(run: TrainingRun, known: Known, *, pair: Pair, steps: int) -> TrainingRun | None:
    """Return a run with other initial weights and rates; None if the weights do not apply."""
    return replace(run, factor=pair[1]) if draw_weights(run.model, pair[0], steps) else None


def cure(
    model: nn.Module,
    x: Any,
    y: Any,
    loss_fn: Callable[[Any, Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    *,
    steps: int = 1000,
    **how: Any,
) -> Cure:
    """Find initial weights and a factor of the learning rate with which a training run learns.

    Everything that is given is restored at the end, as by `check`.

    Args:
        model, x, y, loss_fn, optimizer: as for `check`.
        steps: optimiser steps of the last round; at least 8.
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
    with opened_run(model, x, y, loss_fn, optimizer, steps=steps, **how) as own:
        if steps < RUNGS[0]:
            raise InvalidInputError(f"steps is {steps}: expected at least {RUNGS[0]}")
        race = own.race(Known(False, -torch.inf, torch.inf), steps)
        count = own.run.data.time_steps
        rows = halved(race, steps, count)
        return Cure(kind=own.run.score.kind, time_steps=count, rows=tuple(rows))


def halved(race: Race, steps: int, time_steps: int) -> list[Candidate]:
    """Race all pairs by successive halving; return them, the best first."""
    pairs = {f"{weights}, {RATE} {rate:g}": (weights, rate) for weights in LABELS for rate in RATES}
    race.changes = {
        label: partial(with_pair, pair=pair, steps=time_steps) for label, pair in pairs.items()
    }
    race.base = f"{YOURS}, {RATE} 1"
    left, out = [*pairs], list[Candidate]()
    for rung in RUNGS:
        race.steps = steps // rung
        race.found.clear()
        if rung == RUNGS[-1]:
            race.errors(race.base, 0)  # it raises an error of yours, if there is one
        ranked = sorted((e, label) for label in left if (e := race.error(label)) is not None)
        keep = len(ranked) if rung == 1 else -(-len(ranked) // 2)
        left, lost = [label for _, label in ranked[:keep]], ranked[keep:]
        out = [*(Candidate(*pairs[n], race.steps, e, None, False) for e, n in lost), *out]
    best = finals(race, left, pairs)
    known = {(row.weights, row.rate) for row in best}  # yours may have been dropped before
    return [*best, *(row for row in out if (row.weights, row.rate) not in known)]


def finals(race: Race, left: list[str], pairs: Mapping[str, Pair]) -> list[Candidate]:
    """Repeat the best pair and yours with three seeds."""
    names = sorted({*left, race.base}, key=lambda label: (race.error(label), label))
    for label in (names[0], race.base):
        for seed in SEEDS:
            race.errors(label, seed)
    starred = [s for s in race.closing(names[:1], 0, names) if race.closing([s], 1, names)]
    rows = [Row(n, race.error(n) or 0.0, seeds_of(race, n), n in starred) for n in names]
    return [Candidate(*pairs[r.label], race.steps, r.error, r.seeds, r.starred) for r in rows]
