"""`check`: facts of a training run, and its error if one part is changed at a time.

found = check(model, x, y, loss_fn, optimizer, steps=1000)
print(found)
found.starred                   # names of the facts and changes with a star
found.facts[0].numbers          # of this run, beside those of every sound run
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from rhn.errors import InvalidInputError
from rhn.utils.progress import Progress, reported
from rhn.utils.validation import number
from trainability.changes import (
    CHANGES,
    IN_TRAINING,
    LONGER,
    NONE,
    ROW_LABELS,
    SINGLE,
    STARRABLE,
    Known,
    parameters_of_loss,
)
from trainability.check_table import Check, Failure, Row
from trainability.door import opened_run
from trainability.facts import (
    FIRST_LOSS,
    LEARNING_RATE,
    OTHERS,
    RANGE,
    Fact,
    fact_of,
    facts,
)
from trainability.races import FIRST, LONGER_STEPS, SEEDS, Race, seconds_of
from trainability.scores import CLASSES, RAW
from trainability.stars import closing
from trainability.training import (
    FAILS,
    raised_by,
    train_run,
    weights_are_finite,
)

FEWEST = 50  # steps of a row, if `seconds` chooses them
DIVISORS = (1, 2, 4, 8)
TIMED = 2  # steps of each row that are timed, after one more
MORE_SEEDS = 2  # of none and of one other row


def failures_of(race: Race) -> tuple[Failure, ...]:
    """Return the rows of a race that raised an error, in the order in which they did."""
    return tuple(Failure(label, error) for label, error in race.failed.items())


def check(
    model: nn.Module,
    x: Any,
    y: Any,
    loss_fn: Callable[[Any, Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    *,
    steps: int = 1000,
    batch_size: int = 32,
    clip_norm: float | None = None,
    scheduler: Any = None,
    predict: Callable[[Any], Tensor] | None = None,
    batch_axis: int = 0,
    shuffle: bool = True,
    validation: tuple[Any, Tensor] | None = None,
    losses: Sequence[float] = (),
    seconds: float | None = None,
    seed: int = 0,
    progress: Progress = None,
) -> Check:
    """Measure facts of a training run, and train it with one part changed at a time.

    All is done in place. At the end everything that was given is as before, bit for bit.

    Args:
        model: module that is trained; it is called as model(x), model(*x) for a tuple, and
            model(**x) for a dictionary whose names `forward` has.
        x: inputs: a tensor (N, ...), a tuple or dictionary of tensors, or a DataLoader of (x, y),
            of which one epoch is read.
        y: targets (N, ...); None for a DataLoader.
        loss_fn: loss_fn(model(x), y) returns one number.
        optimizer: optimiser of the weights.
        steps: optimiser steps of each row.
        batch_size: examples of a minibatch. Smaller ones at the end of an epoch are left out.
        clip_norm: norm at which gradients are clipped; None: no clipping.
        scheduler: scheduler of the learning rate, which steps after each optimiser step.
        predict: function that returns what is compared with y, given the output of the model; None:
            the output, its `logits`, or the first entry of a tuple.
        batch_axis: axis of the examples, 0 or 1.
        shuffle: whether each epoch has a new order. False: the last examples are held out.
        validation: held-out examples (x, y), at least 20; None: a fifth of the examples, 20 to
            1,000. If fewer than 20 can be held out, errors are on the training examples, and no row
            has a star.
        losses: losses of your own loop, to compare with this one.
        seconds: time limit: the largest of steps / 1, 2, 4 and 8 that fits; None: all steps.
        seed: first of three seeds, and seed of the split.
        progress: True to show the optimiser steps that are done and the time left, False to show
            nothing, None to show them in a terminal session or notebook; or a function of (steps
            done, steps in all).

    Raises:
        InvalidInputError: an argument is wrong, the targets of several examples are all equal, x or
            y has NaN, or the model keeps a state between minibatches.
        UsersCodeError: the model or its loss raises an error.

    >>> _ = torch.manual_seed(0)
    >>> x, model = torch.randn(100, 3), nn.Linear(3, 1)
    >>> sgd = torch.optim.SGD(model.parameters(), 1e-2)
    >>> found = check(model, x, x.sum(1, keepdim=True), nn.MSELoss(), sgd, steps=60)
    >>> found.rows[0].label, "ten times the rate" in found.starred
    ('none', True)
    """
    losses = [float(loss) for loss in losses]
    with opened_run(
        model,
        x,
        y,
        loss_fn,
        optimizer,
        steps=steps,
        batch_size=batch_size,
        clip_norm=clip_norm,
        scheduler=scheduler,
        predict=predict,
        batch_axis=batch_axis,
        shuffle=shuffle,
        validation=validation,
        seed=seed,
    ) as own:
        of_loss = parameters_of_loss(loss_fn, model)
        race = own.race(Known(of_loss=of_loss), steps)
        if seconds is not None:
            race = replace(race, steps=steps_within(race, number("seconds", seconds, above=0)))
        with reported(progress, "check") as advance:
            race = race.counted(advance)
            race.expect([(label, 0) for label in (NONE, *CHANGES, LONGER)])
            found, line, rates = measure_none(race, losses)
            rows = rows_of(replace(race, known=known_of(found, of_loss)))
            last = fact_of(FIRST_LOSS, {FIRST_LOSS: (race.other_first_losses(),)})
            return result(race, (*found, last), line, rates, rows)


def steps_within(race: Race, seconds: float) -> int:
    """Return the largest of steps / 1, 2, 4, 8 with which all rows fit into some seconds. Raises
    InvalidInputError if fewer than 50 steps would fit.
    """
    times = dict[str, float]()
    for label in (NONE, *CHANGES):
        run = race.changed(label, race.seed)
        if run is not None:
            train_run(run, 1, race.seed)
            times[label] = seconds_of(lambda run=run: train_run(run, TIMED, race.seed)) / TIMED  # type: ignore[misc]
    of_longer = LONGER_STEPS * times[NONE]
    of_seeds = MORE_SEEDS * (times[NONE] + max(times.values()))
    each = sum(times.values()) + of_longer + of_seeds
    parts = [race.steps // d for d in DIVISORS if race.steps // d >= FEWEST] or [race.steps]
    fitting = [steps for steps in parts if steps * each <= seconds]
    if not fitting:
        least = parts[-1]
        raise InvalidInputError(
            f"seconds is {seconds:g}: expected at least {least * each:.3g} for {least} steps"
        )
    return fitting[0]


def measure_none(
    race: Race, losses: Sequence[float]
) -> tuple[tuple[Fact, ...], str, tuple[float, float]]:
    """Measure all facts but that of rows, and the rows without a change. Return (facts, line of the
    first number that is not finite, learning rates at the first and the last step).
    """
    race.saved.restore()
    run, end = race.run, race.count.done + race.steps
    try:
        found, line, trained = facts(run, race.saved, race.steps, losses, race.seed)
    except FAILS as error:
        raise raised_by("the training", error) from error
    race.count.reach(end)
    race.keep(NONE, 0, run, trained)
    if weights_are_finite(run):
        if run.score.kind != RAW:
            race.remeasure(SINGLE, size=1)
        race.remeasure(IN_TRAINING, training=True)
    first, last = numbers_of(found, LEARNING_RATE) or (0.0, 0.0)
    return found, line, (first, last)


def known_of(found: Sequence[Fact], of_loss: tuple[Tensor, ...]) -> Known:
    """Return what changes need of the facts."""
    others = numbers_of(found, OTHERS)
    mixes = others is not None and others[0] > 0
    low, high = numbers_of(found, RANGE) or (-math.inf, math.inf)
    return Known(mixes, low, high, of_loss)


def numbers_of(found: Sequence[Fact], name: str) -> tuple[float, ...] | None:
    """Return the numbers of a fact; None if it could not be measured."""
    return next(fact.numbers for fact in found if fact.name == name)


def rows_of(race: Race) -> tuple[Row, ...]:
    """Train all other rows, and star those that close the gap on both halves; none without held-out
    examples.
    """
    for label in (*CHANGES, LONGER):
        race.errors(label, 0)
    labels = [label for label in ROW_LABELS if (label, 0) in race.found]
    rivals = [label for label in labels if label != LONGER]
    free = [label for label in labels if label in STARRABLE]
    chosen = closing(race.half(FIRST), free, rivals) if race.run.data.has_held_out else []
    again = [(label, seed) for label in (NONE, *chosen) for seed in SEEDS if chosen]
    race.expect(again)
    for label, seed in again:
        race.errors(label, seed)
    starred = race.closing_with_seeds(chosen, rivals)
    errors = race.half(FIRST).errors
    return tuple(
        Row(label, float(errors[label].mean()), race.errors_of_seeds(label), label in starred)
        for label in labels
    )


def result(
    race: Race,
    found: tuple[Fact, ...],
    line: str,
    rates: tuple[float, float],
    rows: tuple[Row, ...],
) -> Check:
    """Return all that was measured."""
    run, data = race.run, race.run.data
    classes = int(run.score.targets.max()) + 1
    entries = classes if run.score.kind == CLASSES else data.train.y[0].numel()
    return Check(
        examples=data.count,
        distinct=data.distinct,
        held_out=data.held_out,
        time_steps=data.time_steps,
        kind=run.score.kind,
        entries=entries,
        optimizer=type(run.optimizer).__name__,
        rates=rates,
        steps=race.steps,
        facts=found,
        rows=rows,
        line=line,
        failed=len(race.failed),
        failures=failures_of(race),
    )
