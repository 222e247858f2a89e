"""`check`: find the part of a training at fault, by facts and by swaps of one part at a time."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from gersgorin._validate import (
    random_numbers_kept,
    users_code,
    with_gradients,
)
from gersgorin.linalg.spectrum import one_thread
from rhn.errors import USERS_FAULT, InvalidInputError, NotFiniteError, RhnError
from rhn.utils.keywords import keywords_of
from rhn.utils.validation import check_seed
from rhn.utils.wording import first_line, kind_of
from trainability.data import SAMPLE, WHOLE, Pair
from trainability.diagnosis import Cause, Diagnosis, TableRow
from trainability.facts import facts
from trainability.losses import Score, score_of
from trainability.probe import Probe
from trainability.race import AS_GIVEN, GOOD, Race, Row, Version, last_value
from trainability.reference import stand_ins
from trainability.swaps import SWAPS
from trainability.training import Training, above_zero, as_training, name_of
from trainability.verdict import (
    REPLACED,
    cause_of_data,
    cause_of_naive,
    cause_of_row,
    error_on,
    helps,
    is_better,
    learned_by_heart,
    never_meant,
    of_losses,
    of_validation,
    outcome_of,
    validation_pairs,
    verdict,
)

FOR_GIVEN = 0.3  # of the time, for the training as given
# of the time are over after the swaps, a longer training, and other orders
FOR_SWAPS, FOR_LONGER, FOR_ORDERS = 0.7, 0.8, 0.9
LONGER = 4  # times the steps
SLOWER = 1.5  # times the seconds of a step as given: those of a version of it
OTHER_ORDERS = 2
LONGER_RUN = Version("length", f"{LONGER} times the steps", "too few steps", "Train longer.")


@keywords_of(Training, without=("loading_seconds",))
@one_thread()
@with_gradients()
def check(
    model: nn.Module | Training,
    x: Any = None,
    y: Any = None,
    loss_fn: Any = "mse",
    optimizer: Any = "adam",
    *,
    steps: int | None = None,
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
            arguments. A `Training` in place of the model has all of them.
        steps: length of the training; None: 3000, or that of a `Training`.
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

    >>> import torch
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(24, 1))
    >>> x, y = torch.randn(80, 8, 3), torch.randn(80, 1)
    >>> optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.1)  # none of its weights
    >>> found = check(model, x, y, nn.MSELoss(), optimizer, steps=20)
    >>> found.causes[0].name, found.part
    ('untrained weights', 'optimizer')
    """
    above_zero("seconds", seconds)
    seed = check_seed(seed)
    with users_code("losses: expected a number for each step"):
        own = [float(loss) for loss in losses]
    begun = time.monotonic()
    title = name or name_of(model)
    try:
        training = as_training(
            model, x, y, loss_fn, optimizer, steps=steps, loading_seconds=seconds / 4, **parts
        )
    except NotFiniteError as error:
        own_loss = callable(loss_fn) and not getattr(loss_fn, "__module__", "").startswith("torch")
        if own_loss and error.of == "y":
            raise InvalidInputError(
                f"{error}: if your loss leaves them out, fill them in, and give the mask as a "
                "further number of y"
            ) from error
        cause = Cause("not finite", "inputs", f"{error}.", "Drop them, or fill them in.", sure=True)
        return Diagnosis(title=title, outcome="does not learn", part="inputs", causes=(cause,))
    with random_numbers_kept(training.model):
        progress("facts")
        probe = Probe(training)
        _ = probe.loss  # whatever a model or a loss raises at once is a sentence about that call
        found, missing = facts(probe, begun + seconds / 2)
        about = f"{type(training.optimizer).__name__}, learning rate {training.learning_rate:.4g}"
        given: dict[str, Any] = {"title": title, "about": about, "not_measured": tuple(missing)}
        if found and found[0].sure:
            return Diagnosis(
                **given, outcome="does not learn", part=found[0].part, causes=tuple(found)
            )
        like = next(training.model.parameters())
        pairs = [] if validation is None else validation_pairs(validation, like, training.axis)
        left = max(begun + seconds - time.monotonic(), seconds / 10)
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
        base = Row(AS_GIVEN, self.training.copy())
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
        return self.conclusion(base, told, given)

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
                Row(Version("network", f"a stand-in for self.{name}"), other)
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
        longer = replace(base, version=LONGER_RUN)
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
            row = Row(AS_GIVEN, self.training.copy(), order)
            self.race.run_alone(row, self.training.steps, self.until(1.0))
            self.orders.append(row)
        return sorted(self.orders, key=lambda row: (row.exploded is not None, row.error))[1]

    def conclusion(self, base: Row, told: Cause | None, given: dict[str, Any]) -> Diagnosis:
        """The outcome, the part and the causes.

        told: what the user's own losses or validation set show.
        """
        race = self.race
        raced = [row for row in self.rows if row.training is not None]
        best = verdict(race, base, raced, self.found)
        shown = self.layer_at_fault(base, best) or best
        all_help = any(row.part == "everything" and helps(race, base, row) for row in raced)
        foreseen = base.forecast if base.steps < self.training.steps else None
        outcome = outcome_of(
            base,
            learned=race.beats_constant(base),
            better=best is not None or all_help,
            steps=self.training.steps,
            foreseen=foreseen,
        )
        part: str | None
        if told is not None:
            part, causes = told.part, [told, *self.found]
        elif outcome == "learns":
            part, causes = self.doubts(base)
        else:
            part, causes = self.part_and_causes(base, best, outcome, all_help)
        if outcome == "learns" and causes:
            outcome = "learns little"
        elif outcome == "undecided" and any(cause.sure for cause in causes):
            outcome = "does not learn"
        return Diagnosis(
            **given,
            outcome=outcome,
            error=base.error,
            steps=base.steps,
            of_steps=self.training.steps,
            seconds=base.seconds / max(base.steps, 1) * self.training.steps,
            forecast=foreseen,
            orders=tuple(row.error if row.exploded is None else math.inf for row in self.orders),
            part=part,
            swap=shown.what if shown is not None and shown.part == part else "",
            causes=tuple(causes),
            facts=tuple(self.found),
            rows=tuple(table_row(race, base, row) for row in (base, *self.rows)),
            left_out=tuple(self.left_out),
        )

    def layer_at_fault(self, base: Row, best: Row | None) -> Row | None:
        """The stand-in for one layer that does as well as the best version; None: none does."""
        if best is None or not self.layers:
            return None
        row = verdict(self.race, base, [*self.layers, best])
        return None if row is best else row

    def doubts(self, base: Row) -> tuple[str | None, list[Cause]]:
        """(The part, causes) of a training that learns, and still is no good; else (None, [])."""
        found, race = self.found, self.race
        naive = next((row for row in self.rows if row.training is None), None)
        if base.error > GOOD and (meant := never_meant(found)):
            return meant.part, sorted(found, key=lambda cause: cause is not meant)
        if naive is not None and not is_better(race, base, naive):
            causes = [*found, cause_of_naive(base, naive)]
            return causes[0].part, causes
        if base.error > GOOD and (cause := learned_by_heart(base, self.known)):
            return cause.part, [cause, *found]
        return None, []

    def part_and_causes(
        self, base: Row, best: Row | None, outcome: str, all_help: bool
    ) -> tuple[str | None, list[Cause]]:
        """The part at fault, and the causes: facts that explain what helps come first."""
        found = self.found
        if best is None:
            if meant := never_meant(found):
                return meant.part, sorted(found, key=lambda cause: cause is not meant)
            if found and outcome != "undecided":
                return found[0].part, found
            if all_help or outcome == "undecided" or any(map(self.race.beats_constant, self.rows)):
                return None, found
            return "data", [cause_of_data(base, self.known)]
        # a better version of a training that learns something is no proof of a fault
        sure = len(self.orders) > 1 and best.error <= GOOD
        layer = self.layer_at_fault(base, best)
        cause = replace(cause_of_row(base, best, layer), sure=sure)
        replaced = REPLACED.get(best.part, (best.part,))
        explaining = [fact for fact in found if fact.part in replaced]
        others = [fact for fact in found if fact not in explaining]
        causes = [*(replace(fact, sure=True) for fact in explaining), cause, *others]
        return causes[0].part, causes


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
        except (RhnError, *USERS_FAULT) as error:  # of a swap that somebody has registered
            failed.append(f"{swap.what}: {first_line(error)}")
            continue
        if isinstance(changed, Training):
            rows.append(Row(swap, changed))
        elif changed is not None:
            kind = kind_of(changed)
            failed.append(f"{swap.what}: it returned {kind}, expected a Training or None")
    return rows, failed


def target_axis(probe: Probe) -> int:
    """Axis of the examples in the targets."""
    return probe.axis if probe.y.shape[:2] == probe.first.shape[:2] else 0


def table_row(race: Race, base: Row, row: Row) -> TableRow:
    """A row of the table."""
    curve = tuple((measure.steps, measure.relative[row.by]) for measure in row.measures)
    return TableRow(row.part, row.what, row.error, row.steps, race.gain(base, row)[1], curve)
