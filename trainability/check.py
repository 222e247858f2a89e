"""`check`: find the part of a training at fault, by facts and by swaps of one part at a time."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import nn

from gersgorin._validate import random_numbers_kept, uncompiled, with_gradients
from gersgorin.linalg.spectrum import one_thread
from gersgorin.training.optimizer import above_zero
from rhn.errors import InvalidInputError, NotFiniteError, RhnError
from rhn.utils.wording import first_line
from trainability.cause import Cause
from trainability.diagnosis import Diagnosis, TableRow
from trainability.facts import facts
from trainability.losses import Score, score_of
from trainability.naive import last_value
from trainability.probe import Probe
from trainability.race import GOOD, Race, Row
from trainability.swaps import PARTS, SWAPS, WHOLE
from trainability.training import Training
from trainability.words import cause_of_naive, cause_of_row

HELPS = 0.7  # of the error as given: a swap that comes to it, or below, helps
MOST_OF_IT = 0.75  # of the largest gain: the smallest change that brings it is named
FOR_GIVEN = 0.3  # of the time, for the training as given
MOST_ERROR = 10.0  # error that is as good as any larger one
LEARNS = 0.95  # error below which a training has learned something


@one_thread()
@with_gradients()
def check(
    model: nn.Module,
    x: Any,
    y: Any = None,
    loss_fn: Any = "mse",
    optimizer: Any = "adam",
    *,
    steps: int = 3000,
    seconds: float = 60.0,
    name: str | None = None,
    seed: int = 0,
    progress: Callable[[str], None] = lambda doing: None,
    **parts: Any,
) -> Diagnosis:
    """Find the part of a training at fault, by swapping one part at a time for a known good one.

    Facts about one minibatch come first. Then the training runs as it was given; if it does not
    learn well, versions of it with one part changed run on the same minibatches, and all are
    measured by their error on the same held-out examples: 0 is perfect, 1 the best constant answer.

    Args:
        model, x, y, loss_fn, optimizer: of the training, see `Training`; parts: its further
            arguments.
        steps: length of the training.
        seconds: most time of the check.
        name: title of the network; None: its class.
        seed: of the order of the minibatches.
        progress: called with a description of each part.

    Returns:
        A `Diagnosis`.

    Raises:
        InvalidInputError or DataError: these parts do not make a training; the message says which.
    """
    above_zero("seconds", seconds)
    begun = time.monotonic()
    title = name or type(uncompiled(model)).__name__
    try:
        training = Training(
            model, x, y, loss_fn, optimizer, steps=steps, loading_seconds=seconds / 4, **parts
        )
    except NotFiniteError as error:
        cause = Cause("not finite", "inputs", f"{error}.", "Drop them, or fill them in.", sure=True)
        return Diagnosis(title=title, outcome="does not learn", part="inputs", causes=(cause,))
    with random_numbers_kept(training.model):
        progress("facts")
        probe = Probe(training)
        _ = probe.loss  # whatever a model or a loss raises at once is a sentence about that call
        found, missing = facts(probe)
        about = f"{type(training.optimizer).__name__}, learning rate {training.learning_rate:.4g}"
        given: dict[str, Any] = {"title": title, "about": about, "not_measured": tuple(missing)}
        if found and found[0].sure:
            return Diagnosis(
                **given, outcome="does not learn", part=found[0].part, causes=tuple(found)
            )
        return _raced(training, probe, found, given, begun + seconds, seed, progress)


def _raced(
    training: Training,
    probe: Probe,
    found: list[Cause],
    given: dict[str, Any],
    end: float,
    seed: int,
    progress: Callable[[str], None],
) -> Diagnosis:
    """Train as given, then with one part changed, and compare."""
    pairs = training.data.held_out or [training.data.sample(WHOLE)]
    score = score_of(training.loss, probe.evaluated(pairs[0][0]), pairs, target_axis(probe))
    scores = {"error": score}
    if balanced := score.balanced([y for _, y in pairs]):
        scores["balanced"] = balanced
    race = Race(scores, pairs, seed=seed, progress=progress)
    base = Row("", "as given", training.copy())
    race.run_alone(base, training.steps, time.monotonic() + FOR_GIVEN * (end - time.monotonic()))
    if base.problem:
        raise InvalidInputError(base.problem)
    rows, left_out = list[Row](), list[str]()
    if base.error > GOOD or base.exploded is not None:
        rows, left_out = versions(training, scores)
        race.run(rows, base.steps or 1, end)
        left_out += [f"{row.what}: no time" for row in rows if not row.measures]
    naive = last_value(race, training.axis)
    rows += [naive] if naive else []
    return _diagnosis(race, base, rows, found, given, left_out)


def versions(training: Training, scores: dict[str, Score]) -> tuple[list[Row], list[str]]:
    """(A row for each swap that applies, sentences about those that fail)."""
    rows, failed = [], []
    for swap in SWAPS:
        if swap.by not in scores:
            continue
        try:
            changed = swap(training)
        except RhnError as error:
            failed.append(f"{swap.what}: {first_line(error)}")
            continue
        if changed is not None:
            rows.append(Row(swap.part, swap.what, changed, swap.by))
    return rows, failed


def target_axis(probe: Probe) -> int:
    """Axis of the examples in the targets."""
    return probe.axis if probe.y.shape[:2] == probe.first.shape[:2] else 0


def helps(race: Race, base: Row, row: Row) -> float:
    """How far a row brings the error down; 0 unless by two standard errors, and by a third."""
    before = base.after(row.steps) or base.after(base.steps)
    if before is None or not row.measures:
        return 0.0
    given = before.relative[row.by]
    mean, deviation = race.gain(base, row)
    if not row.error <= HELPS * given or mean < 2 * deviation:
        return 0.0
    return min(given, MOST_ERROR) - row.error


def verdict(race: Race, base: Row, rows: list[Row]) -> Row | None:
    """The smallest change that brings most of what the best one does; None: no single one helps."""
    gains = [(helps(race, base, row), row) for row in rows if row.part != "everything"]
    gains = [(value, row) for value, row in gains if value > 0]
    if not gains:
        return None
    most = max(value for value, _ in gains)
    enough = [row for value, row in gains if value >= MOST_OF_IT * most]
    return min(enough, key=lambda row: PARTS.index(row.part))


def _diagnosis(
    race: Race,
    base: Row,
    rows: list[Row],
    found: list[Cause],
    given: dict[str, Any],
    left_out: list[str],
) -> Diagnosis:
    """The outcome, the part and the causes."""
    naive = next((row for row in rows if row.training is None), None)
    best = verdict(race, base, [row for row in rows if row.training is not None])
    all_help = any(row.part == "everything" and helps(race, base, row) for row in rows)
    outcome = outcome_of(base, best is not None or all_help)
    part, causes = None, list[Cause]()
    if outcome == "learns" and naive and not is_better(race, base, naive):
        outcome, part = "learns little", naive.part
        causes = [cause_of_naive(base, naive), *found]
    elif outcome != "learns":
        part, causes = part_and_causes(base, best, found, all_help)
    return Diagnosis(
        **given,
        outcome=outcome,
        error=base.error,
        steps=base.steps,
        part=part,
        causes=tuple(causes),
        facts=tuple(found),
        rows=tuple(
            TableRow(
                row.part,
                row.what,
                row.error,
                row.steps,
                race.gain(base, row)[1],
                tuple((measure.steps, measure.relative[row.by]) for measure in row.measures),
            )
            for row in (base, *rows)
        ),
        left_out=tuple(left_out),
    )


def outcome_of(base: Row, better: bool) -> str:
    """The outcome of the training as given; better: whether some version does far better."""
    if base.exploded is not None:
        return "diverges"
    if base.error >= LEARNS:
        return "does not learn"
    return "learns little" if better and base.error > GOOD else "learns"


def is_better(race: Race, base: Row, naive: Row) -> bool:
    """True if a training is below a forecast without weights by two standard errors."""
    mean, deviation = race.gain(naive, base)
    return mean > 2 * deviation


def part_and_causes(
    base: Row, best: Row | None, found: list[Cause], all_help: bool
) -> tuple[str | None, list[Cause]]:
    """The part at fault, and the causes: facts that explain what helps, that, and other facts."""
    if best is None:
        return (found[0].part if found else (None if all_help else "data")), found
    explaining = [replace(cause, sure=True) for cause in found if cause.part == best.part]
    others = [cause for cause in found if cause.part != best.part]
    return best.part, [*explaining, cause_of_row(base, best), *others]
