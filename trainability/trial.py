"""The experiments of `check`: versions of a training run, trained within a time limit."""

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from rhn.errors import USERS_FAULT, InvalidInputError, RhnError
from rhn.utils.wording import counted, first_line, kind_of
from trainability.cause import Cause
from trainability.data import SAMPLE, Pair, count_of, take
from trainability.failures import NOT_FINITE, failed_step
from trainability.known_good import OF_NETWORK, RATES, KnownGood
from trainability.one_by_one import OneByOne, one_by_one
from trainability.padding import note_on_padding
from trainability.per_output import note_on_outputs
from trainability.probe import Probe
from trainability.race import (
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
from trainability.swaps import LONGER, PARTS, SWAPS
from trainability.training import Training
from trainability.verdict import (
    BETTER,
    FAULT,
    Evidence,
    error_on,
    of_averages,
    of_losses,
    of_validation,
)

FINE = 0.05  # error at which a known good training run stops
SHORTEST, LONGEST = 20.0, 600.0  # seconds of a check by default
TIMES, FEWEST = 10, 4  # trainings of the user's network in it: by default, and at least
GOOD_ROWS = 2  # trainings of a known good network in it
OWN = 1 / 2  # of the time, in which the user's training run may run to its end
SEARCH = 1 / 2  # of the time left, for everything replaced, and for all but the network
LAYER = "Look for the error in this layer: what it reads, its axes, states and outputs."
LATER = Version(
    "later frames",
    "a GRU that also sees later frames",
    "If later frames are known when the network is used, let outputs see them. If not, check that "
    "each target belongs to its own frame, y[:, t] to x[:, t], and is not shifted.",
)


class Trial:
    """The user's training run and versions of it, the rows, compared within a time limit.

    Args:
        training, probe, found: the training run, its first minibatch, and the facts about it.
        seed, progress: as for `check`.
        until: deadline of the search for the least loss, on the clock of `time.monotonic`.
    """

    def __init__(
        self,
        training: Training,
        probe: Probe,
        found: list[Cause],
        seed: int,
        progress: Callable[[str], None] | None,
        until: float = math.inf,
    ):
        self.training, self.probe, self.found = training, probe, found
        self.say = progress
        self.few = training.data.too_few
        self.race = race_of(training, probe, seed, progress or (lambda doing: None), until)
        self.held_out = sum(count_of(pair, training.axis) for pair in self.race.pairs)
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
        self.outputs = ""  # sentences if it learns only some of several outputs
        self.validated = math.nan  # error on the user's validation set
        self.end = math.inf  # deadline of the check

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
        spent, now = own if own <= OWN * seconds else 0.0, time.monotonic()
        # a search for the least loss, before this, may have taken all of the time
        self.begun, self.end = begun, max(begun + seconds, now + spent)
        self.steps = affordable(every, self.end - now - spent, FEWEST * own + good - spent)
        self.own_steps = every if spent else self.steps
        self.evidence = Evidence(self.race, self.base, self.steps, every, self.few)
        of_all = "" if self.steps == every else f" of {every:,}"
        own_time = counted(math.ceil(own), "second")
        line = (
            f"a step of your training run took {1000 * yours:.3g} ms just now, so "
            f"{counted(every, 'step')} take about {own_time}; versions of it run for "
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

    def train(self, losses: list[float], pairs: list[Pair]) -> Cause | None:
        """Train every version that the outcome requires.

        Returns the cause of the failure if the user's own losses, the running averages, single
        examples or the validation set reveal one; otherwise None.
        """
        base = self.base
        for steps in sorted({self.steps, self.own_steps}):
            self.race.run(base, steps, self.end, points=OFTEN)
        if base.problem:
            raise InvalidInputError(base.problem)
        self.extend(base.seconds)
        told, evidence = self.observe(losses, pairs), self.evidence
        evidence.fitted = self.fitted
        if base.measures:
            evidence.naive = last_value(self.race, self.training.layout)
        if told is None and base.measures:
            self.run_repairs()
            if not (evidence.learned and base.error <= GOOD):
                self.run_table()
        return told

    def observe(self, losses: Sequence[float] = (), pairs: Sequence[Pair] = ()) -> Cause | None:
        """Measure what the user's training run shows without other versions of it.

        Returns the cause that the user's own losses, running averages or validation set show; None
        if they show none.
        """
        base = self.base
        self.find_failure()
        if base.training is not None and base.exploded is None and base.measures:
            self.fitted = error_on(base.training, self.race, self.training_pairs(), self.end)
            self.padding = note_on_padding(base.training, self.race)
            self.outputs = note_on_outputs(base.training, self.race)
        return self.told_by([*losses], [*pairs])

    def find_failure(self) -> None:
        """Add the cause for a loss that was not finite to the facts. If the first loss was not
        finite, a fact has its cause already.
        """
        base = self.base
        if base.exploded is None or base.training is None:
            return
        known = base.exploded == 1 and any(cause.name == NOT_FINITE for cause in self.found)
        failure = None if known else failed_step(base.training, base.exploded)
        self.found += [failure] if failure is not None else []

    def training_pairs(self) -> list[Pair]:
        """Return training examples in minibatches as large as those of the race, since outputs may
        depend on the size.
        """
        axis = self.training.axis
        pair = self.training.data.sample(SAMPLE)
        count = count_of(pair, axis)
        parts = math.ceil(count / max(count_of(held, axis) for held in self.race.pairs))
        if parts == 1:
            return [pair]
        return [take(pair, rows, axis) for rows in torch.arange(count).tensor_split(parts)]

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
            self.validated = error_on(base.training, self.race, pairs, self.end)
        except RhnError as problem:
            raise InvalidInputError(f"validation: {problem}") from problem
        return of_validation(pairs, self.validated, base, self.race, self.few, self.end)

    def run_repairs(self) -> None:
        """Try the replacements that repair what is proven."""
        repairs = {cause.repair for cause in self.found}
        parts = {swap.part for swap in SWAPS if swap.what in repairs}
        self.run_enough([*parts], lambda version: version.what in repairs)

    def run_table(self) -> None:
        """Train the known good runs, then test what is enough, then what is needed. Without errors
        that can be compared, none is trained.
        """
        evidence = self.evidence
        if evidence.void:
            return
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

    @property
    def not_tried(self) -> list[str]:
        """The parts that may differ from known good ones, and for which no replacement was run."""
        run = {row.part for row in self.evidence.replaced if not row.problem}
        parts = {"network", *self.good.differing, *self.good.without_replacement}
        return sorted(parts - run, key=place_of)

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


def place_of(part: str) -> int:
    """Return the place of a part in a sort that puts the smallest change first."""
    return PARTS.index(part) if part in PARTS else len(PARTS)
