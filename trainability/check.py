"""`check`: find the part of a training at fault, by facts and by swaps of one part at a time."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from gersgorin._validate import (
    random_numbers_kept,
    uncompiled,
    users_code,
    with_gradients,
)
from gersgorin.linalg.spectrum import one_thread
from rhn.errors import InvalidInputError, NotFiniteError, RhnError
from rhn.utils.keywords import keywords_of
from rhn.utils.validation import check_seed
from rhn.utils.wording import first_line
from trainability.data import Pair
from trainability.diagnosis import Cause, Diagnosis, TableRow
from trainability.facts import facts
from trainability.inside import stand_ins
from trainability.losses import Score, score_of
from trainability.own import error_on, of_losses, of_validation, validation_pairs
from trainability.probe import Probe
from trainability.race import GOOD, Race, Row, last_value
from trainability.swaps import PARTS, SAMPLE, SWAPS, WHOLE
from trainability.training import Training, above_zero
from trainability.words import cause_of_data, cause_of_naive, cause_of_row, learned_by_heart

HELPS = 0.7  # of the error as given: a swap that comes to it, or below, helps
MOST_OF_IT = 0.75  # of the largest gain: the smallest change that brings it is named
FOR_GIVEN = 0.3  # of the time, for the training as given
# of the time are over after the swaps, a longer training, and other orders
FOR_SWAPS, FOR_LONGER, FOR_ORDERS = 0.7, 0.8, 0.9
LONGER = 4  # times the steps
SLOWER = 1.5  # times the seconds of a step as given: those of a version of it
OTHER_ORDERS = 2
NEVER_MEANT = "mixed examples", "wrong gradient"
# another network has other weights, its own optimiser and no dropout
REPLACED = {"network": ("network", "initial weights", "optimizer", "regularization")}
CLEAR = 2.0  # times the steps: a forecast that is as far off decides
MOST_ERROR = 10.0  # error that is as good as any larger one


@keywords_of(Training, without=("loading_seconds",))
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
    losses: Sequence[float] = (),
    validation: Any = None,
    name: str | None = None,
    seed: int = 0,
    progress: Callable[[str], None] = lambda doing: None,
    **parts: Any,
) -> Diagnosis:
    """Find the part of a training at fault, by swapping one part at a time for a known good one.

    Facts about one minibatch come first. Then the training runs as it was given; if it does not
    learn well, versions of it with one part changed run on the same minibatches, and all are
    measured by their error on the same held-out examples: 0 is perfect, 1 the best constant answer.
    One order of the minibatches is one order: a training that explodes or does not learn is run in
    two others where time allows, and the middle one of the three counts.

    Args:
        model, x, y, loss_fn, optimizer: of the training, see `Training`; parts: its further
            arguments.
        steps: length of the training.
        seconds: most time of the check.
        losses: of your own run, one a step: compared with those of a plain loop.
        validation: (x, y) or a DataLoader of your validation set, compared with held-out examples
            of the training.
        name: title of the network; None: its class.
        seed: of the order of the minibatches.
        progress: called with a description of each part.

    Returns:
        A `Diagnosis`.

    Raises:
        InvalidInputError or DataError: these parts do not make a training; the message says which.
    """
    above_zero("seconds", seconds)
    check_seed(seed)
    with users_code("losses: expected a number for each step"):
        own = [float(loss) for loss in losses]
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
        like = next(training.model.parameters())
        pairs = [] if validation is None else validation_pairs(validation, like, training.axis)
        left = max(begun + seconds - time.monotonic(), seconds / 2)
        trial = Trial(training, probe, found, left, seed, progress)
        return trial.diagnosis(given, own, pairs)


class Trial:
    """The training as given, and versions of it, run and compared within some time.

    Args:
        training, probe, found: the training, its first minibatch, and the facts about it.
        seconds: most time, from now on.
        seed, progress: of `check`.
    """

    def __init__(
        self,
        training: Training,
        probe: Probe,
        found: list[Cause],
        seconds: float,
        seed: int,
        progress: Callable[[str], None],
    ):
        self.training, self.found = training, found
        self.begun, self.seconds = time.monotonic(), seconds
        pairs = training.data.held_out or [training.data.sample(WHOLE)]
        axis = target_axis(probe)
        score = score_of(training.loss, probe.evaluated(pairs[0][0]), pairs, axis)
        scores = {"error": score}
        if balanced := score.balanced([y for _, y in pairs]):
            scores["balanced"] = balanced
        self.race = Race(scores, pairs, seed=seed, progress=progress)
        self.rows, self.left_out = list[Row](), list[str]()
        self.orders, self.layers = list[Row](), list[Row]()
        self.known = math.inf  # error on examples of the training

    def until(self, share: float) -> float:
        """The moment at which a share of the time is over."""
        return self.begun + share * self.seconds

    def diagnosis(self, given: dict[str, Any], losses: list[float], pairs: list[Pair]) -> Diagnosis:
        """Run everything that the outcome asks for, and say what it shows."""
        base = Row("", "as given", self.training.copy())
        self.race.run_alone(base, self.training.steps, self.until(FOR_GIVEN))
        if base.problem:
            raise InvalidInputError(base.problem)
        if base.training is not None and base.exploded is None:
            sample = self.training.data.sample(SAMPLE)
            self.known = error_on(base.training, self.race, [sample])
        told = of_losses(losses, base) or (of_validation(pairs, base, self.race) if pairs else None)
        if told is None and (base.error > GOOD or base.exploded is not None):
            base = self.run_versions(base)
        elif (naive := last_value(self.race, self.training.axis)) is not None:
            self.rows.append(naive)
        return conclusion(self, base, told, given)

    def run_versions(self, base: Row) -> Row:
        """Race all swaps, then other orders, then layers; returns the order that counts."""
        self.rows, self.left_out = versions(self.training, self.race.scores)
        whole = [row for row in self.rows if row.part == "everything"]
        single = [row for row in self.rows if row.part != "everything"]
        end = self.until(FOR_SWAPS)
        steps = affordable(base, single, end - time.monotonic())
        self.race.run(single, steps, end)
        self.race.run(whole, steps, self.until(FOR_LONGER))
        self.left_out += [
            f"{row.what}: {row.problem or 'no time'}" for row in self.rows if not row.measures
        ]
        self.run_longer(base)
        base = self.run_orders(base)
        best = verdict(self.race, base, self.rows, self.found)
        if best is not None and best.part == "network":
            self.layers = [
                Row("network", f"a stand-in for self.{name}", other)
                for name, other in stand_ins(self.training)
            ]
            self.race.run(self.layers, base.steps or 1, self.until(1.0))
            self.rows += self.layers
        naive = last_value(self.race, self.training.axis)
        self.rows += [naive] if naive else []
        return base

    def run_longer(self, base: Row) -> None:
        """Go on with the training as given, if it has run to its end."""
        if base.exploded is not None or base.steps < self.training.steps:
            return
        longer = replace(base, part="length", what=f"{LONGER} times the steps")
        longer.measures = list(base.measures)
        self.race.run_alone(longer, LONGER * self.training.steps, self.until(FOR_LONGER))
        self.rows.append(longer)

    def run_orders(self, base: Row) -> Row:
        """The training in two other orders where time allows it: the middle one of three."""
        self.orders = [base]
        unfinished = base.steps < self.training.steps
        if base.exploded is None and (unfinished or self.race.beats_constant(base)):
            return base
        left = self.until(FOR_ORDERS) - time.monotonic()
        if base.seconds * OTHER_ORDERS > left:
            return base
        for order in range(1, 1 + OTHER_ORDERS):
            row = Row("", "as given", self.training.copy(), order=order)
            self.race.run_alone(row, self.training.steps, self.until(1.0))
            self.orders.append(row)
        return sorted(self.orders, key=lambda row: (row.exploded is not None, row.error))[1]


def affordable(base: Row, rows: list[Row], seconds: float) -> int:
    """The steps to which rows can race in some seconds; at most those of the given training."""
    each = base.seconds / max(base.steps, 1) * SLOWER
    cost = each * (0.2 * len(rows) + 0.8 * len({row.part for row in rows}))
    return max(1, min(base.steps, int(seconds / max(cost, 1e-9))))


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
            rows.append(Row(swap.part, swap.what, changed, swap.by, swap.late))
    return rows, failed


def target_axis(probe: Probe) -> int:
    """Axis of the examples in the targets."""
    return probe.axis if probe.y.shape[:2] == probe.first.shape[:2] else 0


def helps(race: Race, base: Row, row: Row) -> float:
    """How far a row brings the error down; 0 unless by two standard errors, by a third, and below
    a constant answer's.
    """
    before = base.beside(row)
    if before is None or not race.beats_constant(row):
        return 0.0
    given = before.relative[row.by]
    mean, deviation = race.gain(base, row)
    if not row.error <= HELPS * given or mean < 2 * deviation:
        return 0.0
    return min(given, MOST_ERROR) - row.error


def verdict(race: Race, base: Row, rows: list[Row], found: Sequence[Cause] = ()) -> Row | None:
    """The smallest change that brings most of what the best one does, one that a fact explains
    first; None: no single one helps.
    """
    gains = [(helps(race, base, row), row) for row in rows if row.part != "everything"]
    gains = [(value, row) for value, row in gains if value > 0]
    if not gains:
        return None
    most = max(value for value, _ in gains)
    enough = [row for value, row in gains if value >= MOST_OF_IT * most]
    known = {fact.part for fact in found}
    explained = [row for row in enough if known & {*REPLACED.get(row.part, (row.part,))}]
    return min(explained or enough, key=lambda row: PARTS.index(row.part))


def conclusion(trial: Trial, base: Row, told: Cause | None, given: dict[str, Any]) -> Diagnosis:
    """The outcome, the part and the causes.

    told: what the user's own losses or validation set show.
    """
    race = trial.race
    raced = [row for row in trial.rows if row.training is not None]
    best = verdict(race, base, raced, trial.found)
    all_help = any(row.part == "everything" and helps(race, base, row) for row in raced)
    foreseen = base.forecast if base.steps < trial.training.steps else None
    outcome = outcome_of(
        base,
        learned=race.beats_constant(base),
        better=best is not None or all_help,
        steps=trial.training.steps,
        foreseen=foreseen,
    )
    part: str | None
    if told is not None:
        part, causes = told.part, [told, *trial.found]
    elif outcome == "learns":
        part, causes = doubts(trial, base)
    else:
        part, causes = part_and_causes(trial, base, best, outcome, all_help)
    return Diagnosis(
        **given,
        outcome="learns little" if outcome == "learns" and causes else outcome,
        error=base.error,
        steps=base.steps,
        of_steps=trial.training.steps,
        seconds=base.seconds / max(base.steps, 1) * trial.training.steps,
        forecast=foreseen,
        orders=tuple(row.error if row.exploded is None else math.inf for row in trial.orders),
        part=part,
        causes=tuple(causes),
        facts=tuple(trial.found),
        rows=tuple(table_row(race, base, row) for row in (base, *trial.rows)),
        left_out=tuple(trial.left_out),
    )


def doubts(trial: Trial, base: Row) -> tuple[str | None, list[Cause]]:
    """(The part, causes) of a training that learns, and still is no good; (None, []) as a rule."""
    found, race = trial.found, trial.race
    naive = next((row for row in trial.rows if row.training is None), None)
    if base.error > GOOD and (meant := never_meant(found)):
        return meant.part, [meant, *(cause for cause in found if cause is not meant)]
    if naive is not None and not is_better(race, base, naive):
        causes = [*found, cause_of_naive(base, naive)]
        return causes[0].part, causes
    if base.error > GOOD and (cause := learned_by_heart(base, trial.known)):
        return cause.part, [cause, *found]
    return None, []


def table_row(race: Race, base: Row, row: Row) -> TableRow:
    """A row of the table."""
    curve = tuple((measure.steps, measure.relative[row.by]) for measure in row.measures)
    return TableRow(row.part, row.what, row.error, row.steps, race.gain(base, row)[1], curve)


def never_meant(found: list[Cause]) -> Cause | None:
    """The first fact that is a fault in any network: nobody means it, as one may freeze weights."""
    return next((cause for cause in found if cause.name in NEVER_MEANT), None)


def outcome_of(
    base: Row, *, learned: bool, better: bool, steps: int, foreseen: float | None
) -> str:
    """The outcome of the training as given.

    Args:
        learned: whether its error is below that of a constant answer.
        better: whether some version does far better.
        steps: of the whole training. foreseen: the step at which half is explained, where not all
            steps were run; None: not known.
    """
    if base.exploded is not None:
        return "diverges"
    if base.steps < steps and not learned:
        if foreseen is None or steps / CLEAR < foreseen < steps * CLEAR:
            return "undecided"
        return "learns" if foreseen < steps else "does not learn"
    if not learned:
        return "does not learn"
    return "learns little" if better and base.error > GOOD else "learns"


def is_better(race: Race, base: Row, naive: Row) -> bool:
    """True if a training is below a forecast without weights by two standard errors."""
    mean, deviation = race.gain(naive, base)
    return mean > 2 * deviation


def part_and_causes(
    trial: Trial, base: Row, best: Row | None, outcome: str, all_help: bool
) -> tuple[str | None, list[Cause]]:
    """The part at fault, and the causes: facts that explain what helps, that, and other facts."""
    found = trial.found
    if best is None:
        if found and outcome != "undecided":
            return found[0].part, found
        if all_help or outcome == "undecided" or any(map(trial.race.beats_constant, trial.rows)):
            return None, found
        return "data", [cause_of_data(base, trial.known)]
    # a better version of a training that learns something is no proof of a fault
    sure = len(trial.orders) > 1 and best.error <= GOOD
    at_fault = verdict(trial.race, base, trial.layers)
    cause = replace(cause_of_row(base, best, at_fault), sure=sure)
    replaced = REPLACED.get(best.part, (best.part,))
    explaining = [fact for fact in found if fact.part in replaced]
    others = [fact for fact in found if fact not in explaining]
    causes = [*(replace(fact, sure=True) for fact in explaining), cause, *others]
    return causes[0].part, causes
