"""A race between versions of a training: successive halving on the same minibatches.

    race = Race({"error": score}, pairs)
    race.run_alone(given, steps, end)            # the training as given, until it has learned well
    race.run(rows, steps, end)                   # all others for as many steps

All rows see the same minibatches in the same order and are measured on the same held-out examples
after the same numbers of steps. After each rung the half with the larger errors stops, but for the
best row of each part.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gersgorin._validate import random_numbers_kept
from rhn.errors import RhnError
from rhn.training.ensemble import flushed
from rhn.utils.wording import first_line
from trainability.data import Inputs, Pair, sequence_of
from trainability.losses import Score
from trainability.signal import explained, forecast
from trainability.training import Training

RUNGS = 4  # of a race: at 1/8, 1/4, 1/2 and all of the steps
POINTS = 16  # measurements of the training as given, for the growth of what it explains
GOOD = 0.1  # error of a training that has learned well: it stops


@dataclass(frozen=True)
class Measure:
    """The errors of a row on the held-out examples after some steps."""

    steps: int
    errors: dict[str, Tensor]
    """(E,) of the examples, by the name of a score."""
    relative: dict[str, float]
    """Their means, 1 for the best constant answer."""
    explained: float = math.nan
    """Share of the targets' variance that the outputs explain."""


@dataclass(frozen=True)
class Version:
    """The difference to the training as given."""

    part: str = ""
    """The part that was changed; "" of the training as given."""
    what: str = "as given"
    """The change in words: "inputs standardised"."""
    cause: str = ""
    """The name of the cause if it helps: "input scale"."""
    remedy: str = "Change this part of the training."
    by: str = "error"
    """The score by which it is judged: "balanced" for all classes alike."""
    late: bool = False
    """True if it changes nothing at the begin of a training: it is not stopped early."""


AS_GIVEN = Version()


@dataclass
class Row:
    """One version of a training in a race, and how far it came."""

    version: Version
    training: Training | None
    """Independent of all other rows; it is trained. None: a forecast without weights."""
    order: int = 0
    """Seed of the order of the minibatches, beside that of the race."""
    steps: int = 0
    """Taken so far."""
    measures: list[Measure] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    """Of each step, on its minibatch."""
    exploded: int | None = None
    """The step at which the loss was no longer finite; None: it was."""
    seconds: float = 0.0
    """Of its steps and measurements."""
    problem: str = ""
    """What the training raised; "" as a rule."""
    count: int = 0
    """Held-out targets of each unit, by which the explained share is measured."""
    stream: Iterator[Pair] | None = field(default=None, repr=False)

    @property
    def part(self) -> str:
        """The part that was changed."""
        return self.version.part

    @property
    def what(self) -> str:
        """The change in words."""
        return self.version.what

    @property
    def by(self) -> str:
        """The name of the score by which it is judged."""
        return self.version.by

    @property
    def error(self) -> float:
        """The last relative error; inf of a row that was not measured."""
        return self.measures[-1].relative[self.by] if self.measures else math.inf

    @property
    def forecast(self) -> float | None:
        """The step at which it explains half of the targets, by the growth of what it explains."""
        points = [(measure.steps, measure.explained) for measure in self.measures]
        return forecast(points, self.count)

    def beside(self, other: "Row") -> Measure | None:
        """The measure to which another row is compared: the better of that after as many steps,
        and the last one; None if one of both was not measured.
        """
        if not self.measures or not other.measures:
            return None
        reached = [measure for measure in self.measures if measure.steps <= other.steps]
        both = (reached[-1] if reached else self.measures[0]), self.measures[-1]
        return min(both, key=lambda measure: measure.relative[other.by])


class Race:
    """Versions of a training on the same minibatches, measured on the same held-out examples.

    Args:
        scores: the errors of outputs by name: "error", and "balanced" where it differs.
        pairs: minibatches of held-out examples.
        seed: of the order of the minibatches and of random numbers inside a model.
        progress: called with a description of each part.
    """

    def __init__(
        self,
        scores: dict[str, Score],
        pairs: list[Pair],
        *,
        seed: int = 0,
        progress: Callable[[str], None] = lambda doing: None,
    ):
        self.scores, self.pairs, self.seed, self.progress = scores, pairs, seed, progress

    def run_alone(self, row: Row, steps: int, end: float) -> None:
        """Train a row to its end, often measured; a training that has learned well stops."""
        self.progress(row.what)
        points = {round(steps * k / POINTS) for k in range(1, POINTS + 1)} - {0}
        for goal in sorted(points | set(rungs(steps))):
            self.train(row, goal, end)
            if row.steps < goal or row.exploded is not None or row.error <= GOOD:
                return

    def run(self, rows: list[Row], steps: int, end: float) -> None:
        """Halve rows over the rungs; those that are longer run for longer."""
        alive = [(row, row.training) for row in rows if row.training is not None]
        shortest = min((training.steps for _, training in alive), default=1)
        for goal in rungs(steps):
            for row, training in alive:
                self.progress(row.what)
                self.train(row, max(1, round(goal * training.steps / shortest)), end)
            running = [pair for pair in alive if pair[0].exploded is None and pair[0].error > GOOD]
            alive = survivors(running)
            if time.monotonic() >= end:
                return

    def train(self, row: Row, steps: int, end: float) -> None:
        """Train a row up to a number of steps or a moment of time, and measure it."""
        training = row.training
        begun = time.monotonic()
        if training is None or begun >= end:
            return
        row.stream = row.stream or training.data.stream(self.seed + row.order)
        try:
            with flushed(), random_numbers_kept(training.model):
                torch.manual_seed(self.seed + row.order + row.steps)
                training.model.train()
                while row.steps < steps and row.exploded is None:
                    row.losses.append(training.step(*next(row.stream)))
                    row.steps += 1
                    if not math.isfinite(row.losses[-1]):
                        row.exploded = row.steps
                    if time.monotonic() >= end:
                        break
            self.measure(row, training)
        except RhnError as error:  # of this version: the others go on
            row.problem, row.exploded = first_line(error), row.steps
        row.seconds += time.monotonic() - begun

    def measure(self, row: Row, training: Training) -> None:
        """Measure the errors of a row on the held-out examples."""
        self.add(row, training.answers([x for x, _ in self.pairs]))

    def add(self, row: Row, outputs: list[Tensor]) -> None:
        """Add a measure of the outputs for all held-out examples to a row."""
        targets = [y for _, y in self.pairs]
        errors = {
            name: torch.cat([score.errors(*pair) for pair in zip(outputs, targets, strict=True)])
            for name, score in self.scores.items()
        }
        relative = {name: self.scores[name].relative(values) for name, values in errors.items()}
        share, row.count = explained(outputs, targets)
        row.measures.append(Measure(row.steps, errors, relative, share))

    def beats_constant(self, row: Row) -> bool:
        """True if the error of a row is below the best constant answer's by two standard errors."""
        if not row.measures or row.exploded is not None:
            return False
        errors = row.measures[-1].errors[row.by]
        deviation = float(errors.std()) / math.sqrt(len(errors)) if len(errors) > 1 else 0.0
        return row.error + 2 * deviation / self.scores[row.by].size < 1

    def gain(self, given: Row, row: Row) -> tuple[float, float]:
        """(How far a row is below the training as given, its standard error)."""
        before = given.beside(row)
        if before is None:
            return 0.0, 0.0
        theirs, ours = before.errors[row.by], row.measures[-1].errors[row.by]
        if theirs.shape != ours.shape or not (theirs.isfinite().all() and ours.isfinite().all()):
            return before.relative[row.by] - row.error, 0.0
        d = (theirs - ours) / self.scores[row.by].size
        return float(d.mean()), float(d.std() / math.sqrt(len(d))) if len(d) > 1 else 0.0


def survivors(running: list[tuple[Row, Training]]) -> list[tuple[Row, Training]]:
    """The better half of some rows, the best one of each part, and those that differ late."""
    by_error = sorted(running, key=lambda pair: pair[0].error)
    best = {pair[0].part: pair for pair in reversed(by_error)}
    half = by_error[: math.ceil(len(by_error) / 2)]
    best_or_late = [*best.values(), *(pair for pair in by_error if pair[0].version.late)]
    return [pair for pair in by_error if pair in half or pair in best_or_late]


def rungs(steps: int, count: int = RUNGS) -> list[int]:
    """The numbers of steps after which rows are compared, the last one all of them.

    >>> rungs(1000), rungs(3)
    ([125, 250, 500, 1000], [1, 3])
    """
    return sorted({max(1, steps >> k) for k in range(count)})


LAST_VALUE = Version("data", "the last value repeated", "repeats the last value")


def last_value(race: Race, axis: int) -> Row | None:
    """The row of the numbers of the last frame that lie closest to the targets."""
    score, rows = race.scores["error"], list[Row]()
    numbers = sequence_of(race.pairs[0][0]).shape[-1] if score.kind == "numbers" else 0
    for number in range(numbers):
        outputs = [repeated(x, y, axis, number) for x, y in race.pairs]
        if any(output is None for output in outputs):
            return None
        row = Row(LAST_VALUE, None)
        race.add(row, [output for output in outputs if output is not None])
        rows.append(row)
    best = min(rows, key=lambda row: row.error, default=None)
    # targets that are a frame of the inputs are no forecast
    return best if best is not None and best.error > 0 else None


def repeated(x: Inputs, y: Tensor, axis: int, number: int) -> Tensor | None:
    """Outputs (the shape of y) that repeat the last frame, or one of its numbers; None: no such.

    For targets of each frame the last frame is that of the target's own place.
    """
    first = sequence_of(x)
    if not first.is_floating_point() or first.dim() != 3:
        return None
    each = y.shape[:2] == first.shape[:2]
    frames = first if each else first.select(1 - axis, -1)
    if frames.numel() != y.numel():
        frames = frames[..., number : number + 1]
    return frames.reshape(y.shape) if frames.numel() == y.numel() else None
