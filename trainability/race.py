"""A race between versions of a training run, on the same minibatches and the same held-out
examples.

    race = Race({"error": score}, pairs)
    race.run(row, steps, end, good=0.05)         # to its end, or until its error is good enough
    race.difference(one, other)                  # (mean, standard error) of paired errors
    race.run(row.again(training, 1), steps, end) # once more in another minibatch order
    row.lasting.error                            # the median of the last quarter of its steps

A row is one version of the training run. All rows of a minibatch order see the same minibatches,
and are measured after the same steps.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from statistics import median

import torch
from torch import Tensor

from gersgorin.data.layout import Layout
from gersgorin.losses import Loss
from gersgorin.validate import random_numbers_kept
from rhn.errors import InvalidInputError, RhnError
from rhn.training.ensemble import flushed
from rhn.utils.wording import first_line
from trainability.axes import OutputAxes
from trainability.data import WHOLE, Data, Inputs, Pair, count_of, in_minibatches, sequence_of
from trainability.losses import is_mean_of_examples
from trainability.probe import Probe
from trainability.scores import (
    DEVIATIONS,
    NO_LOWER,
    TINY,
    PairedErrors,
    Score,
    kind_of_score,
    once_below,
    scores_of,
    take_lower_constant,
)
from trainability.training import Training

POINTS, OFTEN = 8, 16  # measurements of a row, and of one whose growth is followed
GOOD = 0.1  # error of a training run that has learned well
ORDERS = 0, 1, 2  # minibatch orders in which a result is confirmed
ROUNDINGS = 16  # times the relative rounding: outputs that differ by less are equal
TIMED = 5  # steps by which the time of a step is measured
CLEAR = DEVIATIONS  # standard errors that a difference needs to count


@dataclass(frozen=True)
class Measure:
    """The errors of a row on the held-out examples, after some optimiser steps."""

    steps: int
    pairs: dict[str, PairedErrors]
    """For each score by name: errors of the examples, beside those of the constant predictor."""
    relative: dict[str, float]
    """For each score by name: the relative error, 1 for the constant predictor."""
    equal: bool = False
    """True if the outputs are equal for all examples and time steps, up to rounding."""


@dataclass(frozen=True)
class Version:
    """A change of the user's training run, with its name, its remedy and the score that
    judges it.
    """

    part: str = ""
    """The part that was changed; "" for the user's training run, unchanged."""
    what: str = "your training run, unchanged"
    """The change in words, such as "inputs standardised"."""
    remedy: str = "Change this part of the training."
    """What to do if the change helps; "" if nothing follows from the change."""
    by: str = "error"
    """The score by which the version is judged; "balanced" weights all classes equally."""


UNCHANGED = Version()


@dataclass(eq=False)
class Row:
    """A version of a training run in a race, and its errors so far."""

    version: Version
    training: Training | None
    """The training run of this row, independent of all other rows. None: a forecast without a
    network, such as the last value repeated.
    """
    order: int = 0
    """Number of the minibatch order; it is added to the seed of the race."""
    steps: int = 0
    """Optimiser steps taken so far."""
    measures: list[Measure] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    """The loss at each step, on the minibatch of the step."""
    exploded: int | None = None
    """The step at which the loss was not finite; None if all losses were finite."""
    seconds: float = 0.0
    """Time taken by the steps and measurements, in seconds."""
    problem: str = ""
    """The first line of the error that the training run raised; "" if it raised none."""
    done: bool = False
    """True if the row has run to its end, was good enough, or has exploded."""
    rate: float = math.nan
    """Learning rate of the known good optimiser, if the row has one."""
    make: "Callable[[Training], Training | None] | None" = field(default=None, repr=False)
    """Function that makes the change again, for another minibatch order."""
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
        """The name of the score by which the row is judged."""
        return self.version.by

    @property
    def error(self) -> float:
        """The last relative error; infinite if the row has exploded, or was not measured."""
        return self.value(self.by)

    def value(self, name: str) -> float:
        """Return the last relative error by the score `name`."""
        if self.exploded is not None or not self.measures:
            return math.inf
        return self.measures[-1].relative[name]

    def at(self, steps: int) -> "Row":
        """Return the same row as it was after fewer steps."""
        if self.steps <= steps:
            return self
        measures = [measure for measure in self.measures if measure.steps <= steps]
        exploded = None if self.exploded is None or self.exploded > steps else self.exploded
        return replace(self, measures=measures, steps=steps, exploded=exploded)

    @property
    def lowest(self) -> "Row":
        """The same row, at the number of steps with the lowest error."""
        return self.at(min(self.measures, key=lambda measure: measure.relative[self.by]).steps)

    @property
    def lasting(self) -> "Row":
        """The same row, with the median of its errors in the last quarter of its steps."""
        late = [measure for measure in self.measures if 4 * measure.steps >= 3 * self.steps]
        late.sort(key=lambda measure: measure.relative[self.by])
        return replace(self, measures=late[len(late) // 2 :][:1])

    @property
    def reached(self) -> tuple[int, bool]:
        """Two values: the number of steps after which half of the gain over the constant predictor
        was first reached, and True if this gain was kept from then on.
        """
        half = (1 + self.lasting.error) / 2
        kept = [measure.relative[self.by] <= half for measure in self.measures]
        if half >= 1 or True not in kept:
            return self.steps, False
        first = kept.index(True)
        return self.measures[first].steps, all(kept[first:])

    def again(self, training: Training, order: int) -> "Row":
        """Return this version of a training run in another minibatch order.

        The replacement gets newly drawn weights.
        """
        other = training.copy()
        other.draws += order
        return Row(self.version, (self.make or Training.copy)(other), order, make=self.make)


class Race:
    """Versions of a training run on the same minibatches, measured on the same held-out examples.

    Args:
        scores: how errors are measured, by name: "error", "loss", and "balanced" if it differs.
        pairs: minibatches of held-out examples.
        few: if only few held-out targets determine the error, the number of these targets in words;
            else "".
        seed: seed of the minibatch order, and of random numbers inside a model.
        progress: function that is called with a description of each row.
    """

    def __init__(
        self,
        scores: dict[str, Score],
        pairs: list[Pair],
        *,
        few: str = "",
        seed: int = 0,
        progress: Callable[[str], None] = lambda doing: None,
    ):
        self.scores, self.pairs, self.few = scores, pairs, few
        self.seed, self.progress = seed, progress
        self.measures = list[Measure]()  # of all rows

    def run(
        self,
        row: Row,
        steps: int,
        end: float,
        good: float = -math.inf,
        *,
        by: str = "error",
        pause: int | None = None,
        points: int = POINTS,
    ) -> None:
        """Train a row to a number of steps, or until its error is good enough.

        good: the error at which the row stops, by the score `by`. pause: number of steps after
        which the row waits; another call continues it. points: number of measurements.
        """
        self.progress(row.what)
        until = steps if pause is None else pause
        goals = {math.ceil(steps * k / points) for k in range(1, points + 1)} | {until}
        for goal in sorted(point for point in goals if row.steps < point <= until):
            self.train(row, goal, end)
            if row.steps < goal or row.exploded is not None or row.value(by) <= good:
                break
        row.done = row.steps >= steps or row.exploded is not None or row.value(by) <= good

    def train(self, row: Row, steps: int, end: float) -> None:
        """Train the version in a row up to a number of optimiser steps or the deadline `end`, and
        measure its error."""
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
        outputs = training.answers([x for x, _ in self.pairs])
        self.lower_constants(outputs)
        self.add(row, outputs, equal=are_equal(outputs, self.scores["error"].axes))

    def add(self, row: Row, outputs: list[Tensor], *, equal: bool = False) -> None:
        """Add to a row the measurement of its outputs for all held-out examples. equal: whether all
        outputs are equal.
        """
        targets = [y for _, y in self.pairs]
        pairs = {name: score.in_pairs(outputs, targets) for name, score in self.scores.items()}
        relative = {name: paired.relative for name, paired in pairs.items()}
        row.measures.append(Measure(row.steps, pairs, relative, equal))
        self.measures.append(row.measures[-1])

    def lower_constants(self, outputs: list[Tensor]) -> None:
        """If outputs of a network give a constant with a lower loss than the constant predictor
        has, take it as the constant predictor, also for the measurements so far.
        """
        targets = [y for _, y in self.pairs]
        for name, score in self.scores.items():
            if take_lower_constant(score, outputs, targets):
                now = score.in_pairs(outputs, targets)
                for measure in self.measures:
                    changed = replace(
                        measure.pairs[name], constant=now.constant, closest=now.closest
                    )
                    measure.pairs[name] = changed
                    measure.relative[name] = changed.relative

    def beats_constant(self, row: Row, name: str = "") -> bool:
        """True if the errors of a row are clearly below those of the constant predictor, compared
        example by example.
        """
        if row.exploded is not None or not row.measures:
            return False
        last = row.measures[-1]
        return not last.equal and last.pairs[name or row.by].below()

    def beat_constant(self, row: Row, name: str = "") -> bool:
        """True if the errors of a row were clearly below those of the constant predictor after some
        of its steps, though perhaps not after the last.
        """
        pairs = [m.pairs[name or row.by] for m in row.measures if not m.equal]
        return row.exploded is None and bool(pairs) and once_below(pairs)

    def difference(self, one: Row, other: Row, name: str = "") -> tuple[float, float]:
        """Return how far the error of `other` lies below that of `one`, and the standard error of
        this difference.

        The errors are compared example by example. An error of `one` above 1 counts as that of the
        constant predictor.
        """
        name = name or other.by
        if not other.measures or other.exploded is not None:
            return -1.0, 0.0
        ours = other.measures[-1].pairs[name]
        theirs = ours.constant
        if one.exploded is None and one.measures and one.measures[-1].relative[name] < 1:
            theirs = one.measures[-1].pairs[name].errors
        return paired(theirs, ours.errors, ours.size)


def race_of(
    training: Training,
    probe: Probe,
    seed: int = 0,
    progress: Callable[[str], None] = lambda doing: None,
    until: float = math.inf,
) -> Race:
    """Return the race of versions of a training run, measured on its held-out examples.

    If too few examples are held out, the race measures on training examples. A loss that is no mean
    over examples is measured in minibatches of the user's size, if there are enough examples. If
    the loss pairs outputs with wrong targets, errors are measured with the repaired loss. Raises
    InvalidInputError if there is nothing to learn. until: see `scores_of`.
    """
    data, few = training.data, bool(training.data.too_few)
    pairs = [data.sample(WHOLE)] if few else data.held_out
    name, loss_fn = probe.repaired_loss or ("your loss", training.loss)
    if is_scored_by_minibatch(training, probe, loss_fn):
        pairs = in_minibatches(pairs, data.size, data.axis)
        name += note_on_size(pairs, data)
    scores = scores_of(
        loss_fn,
        probe.evaluated(pairs[0][0]),
        pairs,
        probe.axes,
        [y for _, y in data.trained],
        in_time=data.in_time and not few,
        within=probe.output_range,
        every=data.targets,
        measures=name,
        until=until,
    )
    y = pairs[0][1]
    if all(bool((each == y.flatten()[0]).all()) for each in data.targets):
        constant = scores["error"].of_constant(probe.evaluated(pairs[0][0]), y)
        if scores["error"].void == NO_LOWER or float(constant.mean()) <= TINY:
            raise InvalidInputError(
                f"there is nothing to learn: all targets are {y.flatten()[0].item():.4g}, and a "
                "constant output is perfect; look where the targets are computed"
            )
    targets = [] if few else [y for _, y in pairs]
    outputs = [probe.evaluated(x) for x, _ in pairs[: len(targets)]]
    return Race(
        scores, pairs, few=scores["error"].few(outputs, targets), seed=seed, progress=progress
    )


def is_scored_by_minibatch(training: Training, probe: Probe, loss_fn: Loss) -> bool:
    """True if errors are measured by a loss that is no mean over the examples of a minibatch."""
    given = loss_fn, probe.before, probe.y, probe.axes
    if kind_of_score(*given, training.data.targets) != "loss":
        return False
    return not is_mean_of_examples(*given, probe.output_range)


def note_on_size(pairs: list[Pair], data: Data) -> str:
    """Return the size of minibatches in words, if it is not that of the user; else ""."""
    sizes = {count_of(pair, data.axis) for pair in pairs}
    if sizes == {data.size}:
        return ""
    several = " to ".join(map(str, dict.fromkeys((min(sizes), max(sizes)))))
    return f" in minibatches of {several} examples"


def are_equal(outputs: list[Tensor], axes: OutputAxes) -> bool:
    """True if outputs are equal for all examples and time steps, up to rounding."""
    rows = torch.cat([axes.rows(output) for output in outputs])
    if not rows.is_floating_point() or len(rows) < 2:
        return False
    rounding = ROUNDINGS * torch.finfo(rows.dtype).eps * rows.abs().amax(0)
    return bool((rows.amax(0) - rows.amin(0) <= rounding).all())


def seconds_of_step(training: Training, steps: int, most: float = math.inf) -> float:
    """Return the median time of a few steps of a training run in seconds, without the first step.

    most: after these seconds, no further step is measured.
    """
    training.model.train()
    times, stream = list[float](), training.data.stream(0)
    with flushed():
        for x, y in islice(stream, 1 + min(TIMED, steps)):
            begun = time.monotonic()
            training.step(x, y)
            times.append(time.monotonic() - begun)
            if sum(times) > most:
                break
    return median(times[1:] or times)


def affordable(steps: int, seconds: float, needed: float) -> int:
    """Return the number of steps that each row may run in some seconds, if running all steps takes
    `needed` seconds.

    >>> affordable(1000, 30.0, 60.0), affordable(1000, 90.0, 60.0)
    (500, 1000)
    """
    return max(1, min(steps, int(steps * seconds / max(needed, 1e-9))))


def paired(theirs: Tensor, ours: Tensor, size: float) -> tuple[float, float]:
    """Return the mean over examples of the difference of two errors, and the standard error of this
    mean.
    """
    if theirs.shape != ours.shape:
        return (float(theirs.mean()) - float(ours.mean())) / size, 0.0
    d = (theirs - ours) / size
    if not d.isfinite().all():
        return -1.0, 0.0
    return float(d.mean()), float(d.std()) / math.sqrt(len(d)) if len(d) > 1 else math.inf


LAST_VALUE = Version(
    "data", "the last value repeated", "Let the network predict the change from the last value."
)


def last_value(race: Race, layout: Layout) -> Row | None:
    """Return the row whose outputs repeat one number of the last frame, the number that is closest
    to the targets; None if there is none.
    """
    score, rows = race.scores["error"], list[Row]()
    numbers = sequence_of(race.pairs[0][0]).shape[-1] if score.kind == "numbers" else 0
    for number in range(numbers):
        outputs = [repeated(x, y, layout, number) for x, y in race.pairs]
        if any(output is None for output in outputs):
            return None
        row = Row(LAST_VALUE, None)
        with suppress(RhnError):  # a loss that takes outputs of some range only
            race.add(row, [output for output in outputs if output is not None])
            rows.append(row)
    best = min(rows, key=lambda row: row.error, default=None)
    # targets that are a frame of the inputs are no forecast
    return best if best is not None and best.error > 0 else None


def repeated(x: Inputs, y: Tensor, layout: Layout, number: int) -> Tensor | None:
    """Return outputs in the shape of y that repeat the last frame, or one number of it; None if the
    shapes do not fit.

    If each frame has a target, each output repeats the input of its own frame.
    """
    first = sequence_of(x)
    if not first.is_floating_point() or first.dim() != 3:
        return None
    each = y.shape[:2] == first.shape[:2]
    frames = first if each else first.select(layout.time, -1)
    if frames.numel() != y.numel():
        frames = frames[..., number : number + 1]
    return frames.reshape(y.shape) if frames.numel() == y.numel() else None
