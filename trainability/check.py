"""`check`: find the part of a training run at fault, by exchanging parts with a known good run.

1. Facts about one minibatch are measured: exact statements, which are proofs.
2. The user's training run is trained unchanged, to its end if this takes at most half of the time
   limit.
3. Known good runs are trained: with everything replaced, and with everything but the network. Each
   of the two takes at most half of the time that is left.
4. Enough? Each known good part is put into the user's run. These runs advance side by side, in
   rounds of an eighth of the steps. After each round, the user's part is put into the known good
   run if its replacement was enough: it closes most of the gap between the errors of the two runs.
   If this breaks the known good run, the two runs are repeated in two other minibatch orders.
   Outputs that see later frames are tried if nothing else is enough.
5. Needed? All other parts of the user are put into the known good run, side by side.
"""

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn

from gersgorin.linalg.spectrum import one_thread
from gersgorin.validate import (
    random_numbers_kept,
    users_code,
    with_gradients,
)
from rhn.errors import USERS_FAULT, InvalidInputError, NotFiniteError, RhnError
from rhn.utils.keywords import keywords_of
from rhn.utils.validation import check_seed, number
from rhn.utils.wording import counted, first_line, kind_of, listed
from trainability.candidates import DEFAULT
from trainability.data import SAMPLE, Pair, count_of
from trainability.diagnosis import IN_GOOD, YOURS, Cause, Diagnosis, TableRow, shown
from trainability.facts import facts
from trainability.failures import failed_step
from trainability.given_loss import broadcasting_unwarned
from trainability.known_good import OF_NETWORK, RATES, KnownGood
from trainability.one_by_one import OneByOne, one_by_one
from trainability.padding import note_on_padding
from trainability.probe import Probe
from trainability.race import (
    CLEAR,
    DEAD,
    GOOD,
    OFTEN,
    ORDERS,
    POINTS,
    UNCHANGED,
    Row,
    Version,
    affordable,
    last_value,
    race_of,
    seconds_of_step,
)
from trainability.reference import stand_ins
from trainability.swaps import LONGER, PARTS, SWAPS, are_drawn_as_by_default
from trainability.training import Training, as_training, name_of
from trainability.verdict import (
    BETTER,
    FAULT,
    Evidence,
    error_on,
    of_averages,
    of_losses,
    of_validation,
    rule_of,
    validation_pairs,
)

FINE = 0.05  # error at which a known good training run stops
SHORTEST, LONGEST = 20.0, 600.0  # seconds of a check by default
TIMES, FEWEST = 10, 4  # trainings of the user's network in it: by default, and at least
GOOD_ROWS = 2  # trainings of a known good network in it
OWN = 1 / 2  # of the time, in which the user's training run may run to its end
SEARCH = 1 / 2  # of the time left, for everything replaced, and for all but the network


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
    seconds: float | None = None,
    losses: Sequence[float] = (),
    validation: Any = None,
    name: str | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
    **parts: Any,
) -> Diagnosis:
    """Find the part of a training run that keeps the network from learning.

    First your training run is trained unchanged. Then known good runs are trained, in which all
    parts are replaced by parts that work on most tasks. Then one known good part at a time is put
    into your run, to see if this is enough. One of your parts at a time is put into the known good
    run, to see if this breaks it. A part is at fault if its replacement is enough, and the part
    breaks the known good run. All runs are trained on copies and on the same minibatches. The score
    is the relative error on the same held-out examples: 0 is perfect, 1 is the constant predictor
    (the best output that is the same for all inputs).

    Args:
        model, x, y, loss_fn, optimizer, parts: the arguments of `Training`. Or pass a `Training` in
            place of the model, and leave the others out.
        steps: number of optimiser steps; None: 3000, or that of a `Training`.
        seconds: time limit of the check, in seconds. If the limit is too short for all steps, all
            versions of the training run stop at the same smaller number of steps. None: the time of
            ten of your training runs and two known good ones, between 20 seconds and ten minutes.
        losses: losses of your own loop, one per optimiser step. They are compared with the losses
            of a plain loop: forward, backward, clipping, optimiser step, scheduler step.
        validation: your validation set, (x, y) or a DataLoader. An error on it far above the error
            on held-out examples shows that the two sets differ. If none are held out, an error far
            above that on training examples shows overfitting.
        name: name of the network in the result; None: its class.
        seed: shuffle seed of the minibatches.
        progress: function that is called with a description of each stage; None: only the estimated
            time is printed, to stderr.

    Returns:
        A `Diagnosis`.

    Raises:
        InvalidInputError or DataError: a part is invalid or does not fit the others; the message
        says which.

    >>> import torch
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(24, 1))
    >>> x, y = torch.randn(80, 8, 3), torch.randn(80, 1)
    >>> optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.1)  # none of its weights
    >>> found = check(model, x, y, nn.MSELoss(), optimizer, steps=20)
    >>> found.causes[0].name, found.part
    ('untrained weights', 'optimizer')
    """
    if seconds is not None:
        number("seconds", seconds, above=0)
    seed = check_seed(seed)
    with users_code("losses: expected a number for each step"):
        own = [float(loss) for loss in losses]
    begun, most = time.monotonic(), seconds or LONGEST
    title = name or name_of(model)
    try:
        training = as_training(
            model, x, y, loss_fn, optimizer, steps=steps, loading_seconds=most / 4, **parts
        )
    except NotFiniteError as error:
        return of_data_not_finite(title, loss_fn, error)
    with random_numbers_kept(training.model), broadcasting_unwarned():
        (progress or (lambda doing: None))("facts")
        probe = Probe(training)
        _ = probe.loss  # whatever a model or a loss raises at once is a sentence about that call
        found, missing = facts(probe, begun + most / 4)
        about = f"{type(training.optimizer).__name__}, learning rate {training.learning_rate:.4g}"
        given: dict[str, Any] = {
            "title": title,
            "about": about,
            "not_measured": tuple(missing),
        }
        if still := next(filter(moves_nothing, found), None):
            causes = (still, *(cause for cause in found if cause is not still))
            dead: dict[str, Any] = {"outcome": "does not learn", "part": still.part}
            return Diagnosis(**given, **dead, causes=causes, facts=causes)
        like = next(training.model.parameters())
        pairs = [] if validation is None else validation_pairs(validation, like, training.axis)
        pairs = training.with_classes(pairs)
        trial = Trial(training, probe, found, seed, progress)
        trial.plan(begun, seconds)
        return trial.diagnosis(given, own, pairs)


def of_data_not_finite(title: str, loss_fn: Any, error: NotFiniteError) -> Diagnosis:
    """Return the result for inputs or targets that are not finite.

    Raises InvalidInputError for targets if the loss is the user's own, since it may leave them out.
    """
    own_loss = callable(loss_fn) and not getattr(loss_fn, "__module__", "").startswith("torch")
    if own_loss and error.of == "y":
        raise InvalidInputError(
            f"{error}: if your loss leaves them out, fill them in, and give the mask as a "
            "further number of y"
        ) from error
    cause = Cause("not finite", "inputs", f"{error}.", "Drop them, or fill them in.", sure=True)
    return Diagnosis(
        title=title, outcome="does not learn", part="inputs", causes=(cause,), facts=(cause,)
    )


def moves_nothing(cause: Cause) -> bool:
    """Return True for the proof that no weight changes. No version then needs to be trained."""
    return cause.name == "no gradient" or (cause.sure and cause.evidence.get("share") == 1)


class Trial:
    """The user's training run and versions of it, the rows, compared within a time limit.

    Args:
        training, probe, found: the training run, its first minibatch, and the facts about it.
        seed, progress: as for `check`.
    """

    def __init__(
        self,
        training: Training,
        probe: Probe,
        found: list[Cause],
        seed: int,
        progress: Callable[[str], None] | None,
    ):
        self.training, self.probe, self.found = training, probe, found
        self.say = progress
        self.few = training.data.too_few
        self.held_out = sum(count_of(pair, training.axis) for pair in training.data.held_out)
        self.race = race_of(training, probe, seed, progress or (lambda doing: None))
        self.base = Row(UNCHANGED, training.copy())
        self.good = KnownGood(training, probe)
        self.rate, self.kept = RATES[0], tuple[str, ...]()  # of the known good training run
        self.left_out, self.notes = list[str](), list[str]()
        self.goods, self.layers = list[Row](), list[Row]()  # known good training runs; stand-ins
        self.orders, self.confirmed = list[Row](), list[Row]()
        self.others = dict[int, Row]()  # the user's training run in other orders
        self.fitted = math.nan  # error on examples of the training
        self.one_by_one: OneByOne | None = None  # if outputs depend on their minibatch
        self.padding = ""  # a sentence if it learns only to tell padding from the rest
        self.validated = math.nan  # error on the user's validation set

    # ---- time ------------------------------------------------------------------------------------

    def plan(self, begun: float, seconds: float | None) -> None:
        """Measure the time of a step, choose the number of steps of all rows, and print the
        estimated time.
        """
        every = self.training.steps
        most = (begun + (seconds or LONGEST) - time.monotonic()) / 8
        yours = seconds_of_step(self.training.copy(), every, most)
        try:
            goods = seconds_of_step(self.good.with_parts(rate=RATES[0]), every, most)
        except (RhnError, *USERS_FAULT):  # its rows say why
            goods = yours
        own, good = every * yours, GOOD_ROWS * every * goods
        self.usual = seconds is None
        if seconds is None:
            begun = time.monotonic()
            seconds = min(LONGEST, max(SHORTEST, TIMES * own + good))
        spent = own if own <= OWN * seconds else 0.0
        self.steps = affordable(every, seconds - spent, FEWEST * own + good - spent)
        self.own_steps = every if spent else self.steps
        self.begun, self.end = begun, begun + seconds
        self.evidence = Evidence(self.race, self.base, self.steps, every, self.few)
        of_all = "" if self.steps == every else f" of {every:,}"
        own_time = counted(round(yours * every), "second")
        line = (
            f"your training run takes about {own_time}; versions of it run for "
            f"{self.steps:,}{of_all} steps each, together at most {seconds:.0f} seconds"
        )
        if self.say is None:
            print(line, file=sys.stderr, flush=True)
        else:
            self.say(line)

    def extend(self, seconds: float) -> None:
        """Move the deadline, if the user gave none and the training run took longer than
        estimated.
        """
        if self.usual:
            self.end = max(self.end, self.begun + min(LONGEST, TIMES * seconds))

    def run(
        self,
        row: Row,
        good: float | None = None,
        pause: int | None = None,
        end: float | None = None,
    ) -> Row:
        """Train a row until all its steps are done, its error is low enough, it pauses, or the time
        is up.

        good: error at which the row stops; None: the goal of the check. pause: number of steps
        after which it pauses. end: deadline; None: that of the check.
        """
        goal = self.evidence.goal if good is None else good
        until = self.end if end is None else end
        self.race.run(row, self.steps, until, goal, by=self.evidence.by, pause=pause)
        return row

    def run_together(self, rows: list[Row], after: Callable[[], None] = lambda: None) -> None:
        """Train rows side by side, in rounds of an eighth of the steps; call `after` after each
        round.
        """
        for k in range(1, POINTS + 1):
            for row in rows:
                if not row.done:
                    self.run(row, pause=math.ceil(self.steps * k / POINTS))
            after()

    @property
    def end_of_search(self) -> float:
        """The deadline of a search for a known good training run that starts now."""
        now = time.monotonic()
        return now + SEARCH * (self.end - now)

    def row(self, version: Version, make: Callable[[], Any]) -> Row | None:
        """Return a row of the table for a changed training run; None if the change does not apply,
        or fails.
        """
        try:
            changed = make()
        except (RhnError, *USERS_FAULT) as error:  # of a network, or of a swap that is not ours
            self.left_out.append(f"{version.what}: {first_line(error)}")
            return None
        if isinstance(changed, Training):
            return Row(version, changed)
        if changed is not None:
            words = f"it returned {kind_of(changed)}, expected a Training or None"
            self.left_out.append(f"{version.what}: {words}")
        return None

    # ---- the table -------------------------------------------------------------------------------

    def diagnosis(self, given: dict[str, Any], losses: list[float], pairs: list[Pair]) -> Diagnosis:
        """Train every version that the outcome requires, and return the result."""
        base = self.base
        for steps in sorted({self.steps, self.own_steps}):
            self.race.run(base, steps, self.end, points=OFTEN)
        if base.problem:
            raise InvalidInputError(base.problem)
        self.extend(base.seconds)
        if base.exploded is not None and base.training is not None:
            failure = failed_step(base.training, base.exploded)
            self.found += [failure] if failure is not None else []
        if base.training is not None and base.exploded is None and base.measures:
            self.fitted = error_on(base.training, self.race, [self.training.data.sample(SAMPLE)])
            self.padding = note_on_padding(base.training, self.race)
        told = self.told_by(losses, pairs)
        evidence = self.evidence
        if base.measures:
            evidence.naive = last_value(self.race, self.training.layout)
        if told is None and base.measures:
            self.run_repairs()
            if not (evidence.learned and base.error <= GOOD):
                self.run_table()
        return self.conclusion(told, given)

    def told_by(self, losses: list[float], pairs: list[Pair]) -> Cause | None:
        """Return the cause shown by the losses of the user's own loop, by running averages, by the
        size of minibatches, or by a validation set; None if they show none.
        """
        if losses and (cause := of_losses(losses, self.base, self.probe.constant_loss)):
            return cause
        base = self.base
        if cause := of_averages(base, self.race):
            return cause
        self.one_by_one = one_by_one(base, self.race)
        if self.one_by_one and (cause := self.one_by_one.cause()):
            return cause
        if not pairs or base.training is None or not base.measures:
            return None
        try:
            self.validated = error_on(base.training, self.race, pairs)
        except RhnError as problem:
            raise InvalidInputError(f"validation: {problem}") from problem
        return of_validation(pairs, self.validated, base, self.race, self.few)

    def run_repairs(self) -> None:
        """Try the replacements that repair what is proven."""
        repairs = {cause.repair for cause in self.found}
        parts = {swap.part for swap in SWAPS if swap.what in repairs}
        self.run_enough([*parts], lambda version: version.what in repairs)

    def run_table(self) -> None:
        """Train the known good runs, then test what is enough, then what is needed."""
        evidence = self.evidence
        self.find_known_good()
        if evidence.learned and not (evidence.lags or evidence.good_comes_to(BETTER)):
            self.run_enough(PARTS, lambda swap: swap.by != "error")  # it is another goal
            return
        self.run_enough(PARTS)
        self.go_on_searching()
        if any(row.part == "network" for row in evidence.at_fault):
            self.run_layers()
        if self.may_show_fault:
            self.run_needed(["network", *self.good.differing])
            self.show_faults()
        if not evidence.enough:  # the larger changes
            self.run_enough([LATER.part])
        if not (evidence.enough or evidence.exploded or evidence.learned):
            self.run_longer()

    @property
    def may_show_fault(self) -> bool:
        """True if a part may be at fault, since a known good training run is far better."""
        evidence = self.evidence
        far = not evidence.learned or evidence.good_comes_to(FAULT)
        return far and evidence.learnable and bool(evidence.gap)

    def show_faults(self) -> None:
        """Test whether parts are at fault for which a replacement is enough: put the user's part
        into the known good training run, then repeat both runs in other minibatch orders.
        """
        if not self.may_show_fault:
            return
        self.run_needed([*dict.fromkeys(row.part for row in self.evidence.enough)])
        if self.evidence.learned and self.evidence.breaking:
            self.run_longer()
        while (row := self.next_fault()) is not None and self.has_time_for_orders(row):
            self.confirm(row)

    def known_good(self, part: str, what: str, *keep: str, rates: Sequence[float]) -> Iterator[Row]:
        """Yield known good training runs that keep some of the user's parts, at several learning
        rates of Adam.
        """
        for rate in rates:
            version = Version(part, f"{what}, Adam {rate:g}")
            row = self.row(version, partial(self.good.with_parts, *keep, rate=rate))
            if row is not None:
                row.rate = rate
                self.goods.append(row)
                yield row

    def best_of(self, rows: Iterator[Row], goal: float, well: float, end: float) -> Row | None:
        """Return the best of some rows; None if no row has ended before the deadline.

        The first row is trained to its end. If it has not learned well, all other rows are trained
        for a quarter of the steps. The best of them is trained to its end if it is better than the
        first row was after as many steps.

        goal: error at which a row stops. well: largest error of a row that has learned well. end:
        deadline.
        """
        tried, quarter = list[Row](), math.ceil(self.steps / 4)
        for row in rows:
            tried.append(self.run(row, goal, quarter if tried else None, end))
            if row.done and row.error <= well:
                return row
        if tried:
            first, *others = tried
            leading = min(others, key=lambda row: row.error, default=first)
            if leading.error < first.at(quarter).error:
                self.run(leading, goal, end=end)
        ended = [row for row in tried if row.done]
        return min(ended, key=lambda row: row.error, default=None)

    def find_known_good(self) -> None:
        """Train runs with everything replaced, then with everything but the user's network.

        The network first keeps the user's weights and dropout. If the run does not learn, it gets
        torch's weights and no dropout.
        """
        evidence = self.evidence
        tried = self.known_good("everything", "everything replaced", rates=RATES)
        every = self.best_of(tried, FINE, GOOD, self.end_of_search)
        if every is not None:
            evidence.take(every)
        self.rate = every.rate if every else RATES[0]
        rates = sorted(RATES, key=lambda rate: rate != self.rate)
        goal = evidence.goal if every is not None and every.error <= GOOD else FINE
        end = self.end_of_search
        for keep, what in (
            (("network", *OF_NETWORK), "your network"),
            (("network",), "your network with torch's weights"),
        ):
            tried = self.known_good("network", what, *keep, rates=rates)
            row = self.best_of(tried, goal, goal, end)
            if row is None:
                continue
            evidence.take(row)
            self.keep_network(row)
            if evidence.cleared("network") or (evidence.learnable and not evidence.gap):
                self.rate, self.kept = row.rate, keep
                return

    def keep_network(self, row: Row) -> None:
        """Store a row of the user's network among known good parts, if this row is better than the
        stored row.
        """
        known = self.evidence.kept.get("network")
        if row.done and (known is None or not known.done or row.error < known.error):
            self.evidence.kept["network"] = row

    def go_on_searching(self) -> None:
        """If no known good training run learns, continue those that stopped before their end."""
        evidence = self.evidence
        for row in self.goods:
            if not evidence.learnable and not row.done and self.run(row, FINE).done:
                evidence.take(row)
                self.rate = row.rate

    def run_needed(self, parts: Sequence[str]) -> None:
        """Put some of the user's parts, one at a time, into the known good training run. Parts that
        were tested before are left out.
        """
        evidence, rows = self.evidence, list[Row]()
        for part in parts:
            if part == "network":
                self.run_network()
            elif part in evidence.kept or part not in self.good.differing:
                continue
            elif part in self.kept:
                evidence.kept[part] = evidence.kept["network"]
            elif self.kept or part not in OF_NETWORK:
                make = partial(self.good.with_parts, *self.kept, part, rate=self.rate)
                row = self.row(Version(part, f"your {part}"), make)
                if row is not None:
                    evidence.kept[part] = row
                    rows.append(row)
        self.run_together(rows)

    def run_network(self) -> None:
        """Train the user's network among known good parts at all learning rates, until one works.

        If there is no time for a rate, the network is not shown to break anything.
        """
        evidence = self.evidence
        for row in self.goods:
            if row.part == "network" and not (row.done or evidence.cleared("network")):
                self.keep_network(self.run(row))
                if not row.done:
                    evidence.kept["network"] = row
                    return

    def run_enough(
        self, parts: Sequence[str], which: Callable[[Version], bool] = lambda version: True
    ) -> None:
        """Replace each of some parts in the user's training run, by the changes that `which`
        selects.
        """
        evidence = self.evidence
        rows = [row for part in parts for row in self.replacements(part, which)]
        places = {swap.what: k for k, swap in enumerate(SWAPS)}
        evidence.replaced += rows
        evidence.replaced.sort(
            key=lambda row: (place_of(row.part), places.get(row.what, len(SWAPS)))
        )
        self.run_together(rows, self.show_faults)

    def replacements(self, part: str, which: Callable[[Version], bool]) -> Iterator[Row]:
        """Yield rows in which a part is replaced, by the changes that `which` selects and that are
        not run yet.
        """
        known = [row.version for row in self.evidence.replaced]
        for version, make in self.changes_of(part):
            if version in known or not which(version):
                continue
            if (row := self.row(version, partial(make, self.training))) is not None:
                row.make = make
                yield row

    def changes_of(self, part: str) -> list[tuple[Version, Callable[[Training], Any]]]:
        """Return all replacements of a part: its swaps, and the known good optimiser or network."""
        makes: list[tuple[Version, Callable[[Training], Any]]] = [
            (swap, swap) for swap in SWAPS if swap.part == part and swap.by in self.race.scores
        ]
        if part == "optimizer":
            words = f"Adam {self.rate:g}, clipping 1"
            remedy = f"Use Adam at {self.rate:g}, with gradients clipped at norm 1."
            makes.insert(
                0, (Version(part, words, remedy), partial(Training.with_adam, rate=self.rate))
            )
        if part == "network":
            makes.insert(0, (self.good.network, self.good.with_network))
        if part == LATER.part and self.good.every and self.good.causal and not self.good.forecasts:
            makes.append((LATER, partial(self.good.with_network, causal=False)))
        return makes

    def next_fault(self) -> Row | None:
        """Return a change whose fault was tested in only one minibatch order so far; None if all
        faults are confirmed.
        """
        faults = self.evidence.at_fault
        return next((row for row in faults if row not in self.confirmed), None)

    def has_time_for_orders(self, row: Row) -> bool:
        """True if there is time to repeat a change that shows a fault in the other minibatch
        orders.
        """
        needed = len(ORDERS[1:]) * (self.base.seconds + row.seconds)
        return row.make is not None and time.monotonic() + needed <= self.end

    def confirm(self, row: Row) -> None:
        """Repeat the user's training run, and a change that shows a fault, in two other minibatch
        orders.

        What the change replaces gets new weights. A change that is not enough in one of these
        orders is refused. If there is no time for all steps, the change is neither confirmed nor
        refused.
        """
        evidence, orders = self.evidence, [self.base]
        for order in ORDERS[1:]:
            own = self.unchanged(order)
            again = self.run(row.again(self.training, order))
            if not (own.done and again.done):
                return
            orders.append(own)
            if not replace(evidence, base=own).is_enough(again):
                evidence.refused.append(row)
                return
        self.orders = orders
        self.confirmed.append(row)

    def unchanged(self, order: int) -> Row:
        """Return the user's training run in another minibatch order."""
        if order not in self.others:
            self.others[order] = self.run(self.base.again(self.training, order), -math.inf)
        return self.others[order]

    def run_layers(self) -> None:
        """Replace single layers of the network, one at a time."""
        for name, other in stand_ins(self.training):
            self.layers.append(Row(Version("network", f"self.{name} replaced", LAYER), other))
        self.run_together(self.layers)

    def run_longer(self) -> None:
        """Train the user's run for more steps, if there is time for them."""
        base, evidence = self.base, self.evidence
        has_time = time.monotonic() + (LONGER - 1) * base.seconds <= self.end
        if base.training is None or evidence.longer or not (evidence.whole and has_time):
            return
        version = Version("length", f"{LONGER} times the steps", "Train longer.")
        longer = Row(version, base.training, steps=base.steps, stream=base.stream)
        longer.measures, longer.losses = [*base.measures], [*base.losses]
        self.race.run(longer, LONGER * self.steps, self.end, evidence.goal, by=evidence.by)
        evidence.replaced.append(longer)
        evidence.longer = longer

    # ---- what it shows ---------------------------------------------------------------------------

    def conclusion(self, told: Cause | None, given: dict[str, Any]) -> Diagnosis:
        """Return the result: outcome, part, causes and rows.

        told: the cause that the user's own losses, running averages or validation set show; None:
        none.
        """
        base, evidence = self.base, self.evidence
        rule = rule_of(evidence)
        where = WHERE.get(told.name, "") if told is not None else ""
        seen = [told] if told is not None else [*self.experiments()]
        if told is not None:
            part: str | None = told.part
        else:
            part = next((row.part for row in evidence.at_fault), None)
        good, has_loss = evidence.good, "loss" in evidence.names
        is_cut = good is not None and good.steps == evidence.steps < evidence.of_steps
        return Diagnosis(
            **given,
            outcome=rule.outcome,
            words=rule.words + where,
            error=base.error,
            loss=base.value("loss") if has_loss else math.nan,
            loss_name=self.race.scores["loss"].name if has_loss else "loss",
            few=self.race.few,
            known_good=math.nan if good is None else good.error,
            known_good_loss=math.nan if good is None or not has_loss else good.value("loss"),
            known_good_stopped=evidence.steps if is_cut else None,
            learnable=evidence.learnable,
            by=evidence.by,
            steps=base.steps,
            of_steps=self.training.steps,
            seconds=base.seconds / max(base.steps, 1) * self.training.steps,
            forecast=base.forecast if base.steps < self.training.steps else None,
            orders=tuple(row.error for row in self.orders),
            part=part,
            causes=(*self.found, *seen),
            facts=tuple(self.found),
            remarks=() if told is not None else tuple(notes_of(self)),
            rows=tuple(self.table_rows()),
            left_out=tuple(self.left_out),
        )

    def table_rows(self) -> Iterator[TableRow]:
        """Yield all rows: the user's training run, known good runs, the user's parts in the known
        good run, and the replacements.
        """
        evidence = self.evidence
        yield self.table_row(self.base, YOURS, "")
        for row in self.goods:
            if evidence.kept.get("network") is not row:
                row = replace(row, version=replace(row.version, part="everything"))
                yield self.table_row(row, IN_GOOD, "")
        for part in sorted(evidence.kept, key=lambda part: (part != "network", place_of(part))):
            row = evidence.kept[part]
            what = row.what if part == row.part else f"your {part}"
            row = replace(row, version=Version(part, what))
            yield self.table_row(row, IN_GOOD, evidence.word_of_kept(part))
        for row in (*evidence.replaced, *self.layers):
            yield self.table_row(row, YOURS, evidence.word_of(row))
        if evidence.naive is not None:
            yield self.table_row(evidence.naive, YOURS, "")

    def table_row(self, row: Row, training: str, word: str) -> TableRow:
        """Return a row of the table for a trained row."""
        by = self.evidence.by if row.by == "error" else row.by
        other = self.evidence.good if training == IN_GOOD else self.evidence.beside(row, by)
        deviation = 0.0
        if other is not None and row.measures and row not in (self.base, other):
            deviation = self.race.difference(other, row, by)[1]
        return TableRow(
            row.part,
            row.what,
            row.value(by),
            row.steps,
            deviation,
            training,
            word,
            finished=row.done or row.training is None,
            curve=tuple((measure.steps, measure.relative[by]) for measure in row.measures),
            by=by,
        )

    def experiments(self) -> Iterator[Cause]:
        """Yield what the rows show: the parts at fault, other changes that are enough, and changes
        that are better.
        """
        evidence = self.evidence
        enough = evidence.enough
        at_fault = {row.part: self.cause_of_fault(row) for row in evidence.at_fault}
        yield from at_fault.values()
        for row in enough:
            if row.part not in at_fault:
                by = evidence.race.scores[evidence.by].name
                reached = f"relative {by} {shown(evidence.shown(row))}"
                # a known good network standardises its inputs
                alone = "" if row.version == self.good.network else " by itself"
                said = f"Enough{alone}: {row.what}, {reached}."
                yield Cause("enough", row.part, said, self.remedy_of(row))
        better = [row for row in evidence.better if not enough or row is evidence.naive]
        for row in better[:1]:
            said = f"Better: {row.what}, {shown(self.base.error)} to {row.error:.2f}."
            yield Cause("better", row.part, said, self.remedy_of(row))
        for row in evidence.by_other_scores:
            before, after = shown(self.base.value(row.by)), shown(row.error)
            own = f"{shown(self.base.error)} to {shown(row.value('error'))}"
            said = (
                f"All classes alike: with {row.what} the relative error of the classes goes from "
                f"{before} to {after}, and that of all examples from {own}."
            )
            yield Cause("all classes alike", row.part, said, row.version.remedy)

    def remedy_of(self, row: Row) -> str:
        """Return what to do about a row that helps. Another draw of the user's own weights is no
        repair.
        """
        if row.what == DEFAULT and are_drawn_as_by_default(self.training):
            return ANOTHER_DRAW
        return row.version.remedy

    def cause_of_fault(self, row: Row) -> Cause:
        """Return the cause for a part at fault: its replacement is enough, and the user's part
        breaks the known good run.
        """
        evidence, part = self.evidence, row.part
        kept = evidence.kept[part]
        good = "" if evidence.good is None else f"from {shown(evidence.shown(evidence.good))} "
        reached, broken = evidence.shown(row), evidence.shown(kept)
        seen = "Confirmed in three minibatch orders." if row in self.confirmed else ONE_ORDER
        said = (
            f"The fault is in the {part}: with {row.what} your training run reaches "
            f"{shown(reached)}, and with your {part} the known good run goes {good}to "
            f"{shown(broken)}. {seen}"
        )
        remedy = self.remedy_of(row)
        if row.version == self.good.network:
            remedy = f"{LOOK} {remedy}"
        numbers = {"enough": reached, "needed": broken}
        return Cause(part, part, said, remedy, sure=row in self.confirmed, evidence=numbers)


WHERE = {"own loop": " in a plain loop", "running averages": " in evaluation mode"}
"""Words added to the outcome if the user's losses or running averages show a cause, by its name."""
ANOTHER_DRAW = (
    "Your initial weights are drawn like these: the result depends on the draw. Train with several "
    "seeds."
)
ONE_ORDER = "Seen in one minibatch order."
LAYER = "Look for the error in this layer: what it reads, its axes, states and outputs."
LOOK = "Look for the error in the network: its layers, axes, states and outputs."
LATER = Version(
    "later frames",
    "a GRU that also sees later frames",
    "If later frames are known when the network is used, let outputs see them. If not, check that "
    "each target belongs to its own frame, y[:, t] to x[:, t], and is not shifted.",
)


def notes_of(trial: Trial) -> Iterator[str]:
    """Yield sentences about the table that are no causes."""
    evidence = trial.evidence
    if evidence.learned and trial.padding:
        yield trial.padding
    if trial.one_by_one is not None and trial.one_by_one.sentence:
        yield trial.one_by_one.sentence
    for row in filter(evidence.is_enough, trial.layers):
        yield f"With only {row.what}: {evidence.shown(row):.2f}."
    yield from notes_on_fit(trial)
    if evidence.breaking and not evidence.at_fault:
        yield note_on_steps(evidence)
    unfinished = [row.what for row in evidence.tried if not row.done]
    if evidence.tried and not evidence.learned:
        yield from notes_on_parts(trial, all_done=not unfinished)
    yield from notes_on_time(trial, unfinished)


def note_on_steps(evidence: Evidence) -> str:
    """Return the sentence for a training run that learns, and may only need more steps."""
    longer, no_part = evidence.longer, "No part is called at fault"
    if longer is None or not longer.done:
        steps = LONGER * evidence.steps
        return f"{no_part} before your training run has run to step {steps:,}: give more seconds."
    reached = f"reaches {shown(evidence.shown(longer))} at step {longer.steps:,}"
    return f"{no_part}: your training run {reached}."


def notes_on_time(trial: Trial, unfinished: list[str]) -> Iterator[str]:
    """Yield how the verdict could change with more time; nothing if it could not.

    unfinished: the names of the rows for which the time was too short.
    """
    evidence = trial.evidence
    if trial.next_fault() is not None:
        if not trial.confirmed:
            yield "More seconds could confirm this in two further minibatch orders."
        return
    gain = gain_of_time(trial)
    if gain and unfinished:
        yield f"More seconds could {gain}: no time was left for {listed(unfinished)}."
    elif gain and not evidence.whole:
        yield f"More seconds could {gain}: the changes ran to step {evidence.steps:,}."


def gain_of_time(trial: Trial) -> str:
    """Return what more time could show beyond the verdict; "" if nothing, or if other sentences
    state it.
    """
    evidence = trial.evidence
    if evidence.breaking or evidence.few or not evidence.tried:
        return ""
    if not evidence.learned:
        named = "a part at fault" if trial.may_show_fault else "a change that is enough"
        return f"show {named}" if evidence.whole else ""
    if rule_of(evidence).outcome == "learns little":
        return "show a part at fault" if trial.may_show_fault else ""
    may_halve = evidence.base.error > GOOD or evidence.lags
    return "show a change that halves the error" if may_halve else ""


def notes_on_parts(trial: Trial, *, all_done: bool) -> Iterator[str]:
    """Yield which parts are cleared, and why no part is shown to be at fault."""
    evidence = trial.evidence
    enough = {row.part for row in evidence.enough}
    if cleared := [part for part in evidence.kept if evidence.cleared(part) and part not in enough]:
        yield f"Cleared: your {listed(cleared)}."
    if not evidence.enough and all_done and (words := not_enough(trial)):
        yield words
    for row in evidence.refused:
        yield f"Not enough in another minibatch order: {row.what}."
    if not (evidence.whole or evidence.few):
        before = shown(evidence.shown(evidence.before))
        yield (
            f"The changes ran to step {evidence.steps:,}, where the error of your training run is "
            f"{before}. No part is called at fault before they run to the end: give more seconds."
        )


def not_enough(trial: Trial) -> str:
    """Return the sentence for a table in which no row is enough; "" if nothing follows from it."""
    evidence, data = trial.evidence, trial.training.data
    if evidence.came_near:
        return ""
    broken = [part for part in evidence.kept if evidence.breaks(part)]
    if evidence.gap and len(broken) > 1:
        return f"No single part is enough: your {listed(broken)} together."
    if evidence.gap:
        if evidence.refused:
            return ""
        if nearest := evidence.nearest:
            share = 100 * evidence.closed(nearest)
            return f"Nearly enough: {nearest.what} closes {share:.0f} % of the gap, 80 % is enough."
        return "No single part is enough: several act together."
    tried = (*trial.goods, *evidence.replaced)
    if evidence.few or any(row.error < DEAD for row in tried):
        return ""
    count = counted(sum(count_of(pair, data.axis) for pair in data.trained), "example")
    return f"No replacement learns these targets from {count} in {counted(trial.steps, 'step')}."


def notes_on_fit(trial: Trial) -> Iterator[str]:
    """Yield sentences on the error on training examples, such as overfitting."""
    base, fitted = trial.base, trial.fitted
    if words := trial.evidence.void:
        yield f"Errors are not compared: {words}."
    if "loss" in trial.evidence.names and (words := trial.race.scores["loss"].note):
        yield words
    if trial.evidence.few:
        yield f"These are errors on training examples: {trial.few}."
        if fitted <= BETTER * trial.validated and trial.validated > GOOD:
            yield f"Overfitting: relative error {shown(trial.validated)} on your validation set."
        return
    if trial.evidence.void:
        return
    if fitted <= BETTER * base.error and base.error > GOOD:
        lowest = base.lowest
        mean, deviation = trial.race.difference(base, lowest)
        said = f"Overfitting: relative error {fitted:.2f} on training examples"
        if mean > CLEAR * deviation:
            reached = f"{shown(lowest.error)} at step {lowest.steps:,}"
            said += f"; its lowest error was {reached}: stop there"
        yield f"{said}."
    elif base.measures and rule_of(trial.evidence).outcome == "undecided":
        held = counted(trial.held_out, "held-out example")
        yield f"Undecided by {held}; on training examples the error is {fitted:.2f}."


def place_of(part: str) -> int:
    """Return the place of a part in a sort that puts the smallest change first."""
    return PARTS.index(part) if part in PARTS else len(PARTS)
