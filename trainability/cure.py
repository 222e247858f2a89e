"""`cure`: find initial weights and a learning rate with which a network learns, and confirm them.

    found = cure(model, x, y, loss_fn, optimizer, steps=3000)
    print(found)                       # what helps, and how much
    print(found.code)                  # lines to paste: the same initial weights and learning rate
    model, optimizer = found.model, found.optimizer(found.model.parameters())

1. Facts about one minibatch are measured. A proof that the run cannot learn ends the search,
   unless other initial weights may repair the fault.
2. The user's training run is trained. If this run learns well in three minibatch orders, it is
   kept.
3. Initial weights (`trainability.candidates`) are ranked. The best are those with which the
   gradient reaches the beginning of a sequence most evenly.
4. The best initial weights race at several learning rates. A race has rungs: numbers of steps after
   which only the better half of the candidates is trained further. Candidates that learn are
   compared by their error on held-out examples, the others by their gradient. If no candidate
   helps, the candidates that stopped early are trained to the end while time is left.
5. The best candidate is trained for all steps in three minibatch orders, at its learning rate and
   at a third of it. A training run succeeds in an order if its median error over the last quarter
   of the steps is low. The lower rate is chosen unless its error is clearly higher. If the run
   fails in an order, the next candidate is tried.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from gersgorin.linalg.spectrum import one_thread
from gersgorin.validate import random_numbers_kept, uncompiled, with_gradients
from rhn.errors import InvalidInputError
from rhn.utils.keywords import keywords_of
from rhn.utils.validation import check_seed, number
from trainability.candidates import GIVEN, OUTPUT_BIAS, Change, Start, filled, starts_of
from trainability.cure_result import Attempt, Cure
from trainability.data import Batches
from trainability.facts import facts
from trainability.given_loss import broadcasting_unwarned
from trainability.optimizers import scaled_rate
from trainability.probe import Probe
from trainability.race import (
    CLEAR,
    GOOD,
    OFTEN,
    ORDERS,
    UNCHANGED,
    Row,
    affordable,
    race_of,
    seconds_of_step,
)
from trainability.signal import Reach, measure_reach
from trainability.training import Training, as_training, name_of

CHANGED = "trains after the change"  # the outcome of a search that succeeds
SOUND = "without a fault"
IN_SOME = "trains in some orders"
UNDECIDED = "undecided"  # the time was up before all changes had run as far as the training
HELPS = 0.7  # of the error of a training run that learns: a change must come to it
LEARNS = 0.9  # error to which a change must bring a training run that learns nothing
BEST = 3  # initial weights in the race, beside the given ones; choices that are confirmed
RUNGS = 6  # of the race: at 1/32, 1/16, ... and all of the steps
# of a rung, at least: three times the memory of momentum 0.9, which an optimiser fills first
LEAST = 30
SEEN = 0.01  # in a relative error: the last digit that is printed
ADAM = 1e-3, 1e-4, 1e-2, 3e-4, 3e-3  # usual learning rates
AROUND = 1.0, 0.1, 10.0  # factors on the given one
OF_SGD = *AROUND, 0.01, 100.0  # of an optimiser that does not divide by the gradient's size
APART = 1.4  # factor between two learning rates that are both worth an attempt
LOWER = 1 / 3  # of the chosen learning rate, which is tried against it
FEWEST = 8  # attempts in a race
CONFIRM = 2 * len(ORDERS) - 1  # trainings that confirm a choice, and a lower rate


class Search:
    """A search over initial weights and learning rates: its attempts, and the choice between them.

    Args:
        training: the user's training run.
        end: deadline of the search, on the clock of `time.monotonic`.
        seed: shuffle seed of the minibatches; the next two seeds confirm.
        progress: function that is called with a description of each stage.
    """

    def __init__(self, training: Training, end: float, seed: int, progress: Callable[[str], None]):
        self.training, self.end, self.steps = training, end, training.steps
        self.seed, self.progress = seed, progress
        self.reach: Reach | None = None
        self.ran_out, self.needed_trainings = False, 0.0
        self.refused = ""  # the reason why errors are not compared
        self.probe = Probe(training)
        _ = self.probe.loss  # whatever a model or a loss raises at once names that call
        now = time.monotonic()
        self.causes, _ = facts(self.probe, now + (end - now) / 2)
        data = training.data
        one_order = isinstance(data, Batches) and not data.shuffles
        self.orders = ORDERS[:1] if one_order else ORDERS
        self.attempts = dict[str, Attempt]()
        self.given = self._attempt(Change(Start(GIVEN)))
        self.untrained = Row(UNCHANGED, training.copy())

    def run(self) -> tuple[Attempt, str]:
        """Return (the chosen attempt, the outcome). Raises InvalidInputError if the training run
        fails.
        """
        given, tried = self.given, list[Attempt]()
        if any(cause.sure and not cause.curable for cause in self.causes):
            return given, "not searched"
        self.race = race_of(self.training, self.probe, self.seed, self.progress)
        self.refused = self.race.scores["error"].refused
        if self.refused:
            return given, UNDECIDED
        self._plan()
        self.race.train(self.untrained, 0, math.inf)
        self._finish(given)
        if given.row.problem:
            raise InvalidInputError(given.row.problem)
        if given.error <= GOOD and self._confirm(given):
            return given, self._outcome(given)
        self._run_race()
        self._run_dropped()
        for attempt in self._helping()[:BEST]:
            tried.append(self._better_rate(attempt))
            if self._lasts(tried[-1]):
                return tried[-1], self._outcome(tried[-1])
        if self._share(given)[0] and self._confirm(given):
            return given, self._outcome(given)
        best = max(tried, key=self._share, default=given)
        if 2 * self._share(best)[0] > len(self.orders):
            return best, IN_SOME
        return given, UNDECIDED if self.ran_out else "none helped"

    def _outcome(self, attempt: Attempt) -> str:
        """Return the outcome for a chosen attempt that learns in every minibatch order that was
        tried.
        """
        if self.steps < self.training.steps or len(attempt.rows) < len(ORDERS):
            return "not confirmed"
        return SOUND if attempt is self.given else CHANGED

    def needed_seconds(self, given: float, outcome: str) -> float | None:
        """Return the time that a search would need to decide, at the speed of this search; None if
        this search has decided.

        given: the time limit of this search. The result is longer than this limit by at least the
        time of three whole training runs.
        """
        if not self.ran_out or outcome in (SOUND, CHANGED):
            return None
        rows = [row for attempt in self.attempts.values() for row in attempt.rows]
        taken, steps = sum(row.seconds for row in rows), sum(row.steps for row in rows)
        whole = max(self.step_seconds, taken / max(steps, 1)) * self.training.steps
        return max(self.needed_trainings * whole, given + len(ORDERS) * whole)

    def _attempt(self, change: Change) -> Attempt:
        """Return the attempt of a change, with its row in the first minibatch order."""
        words = change.words(self.training)
        if words not in self.attempts:
            version = replace(UNCHANGED, what=words)
            row = Row(version, change.applied(self.training), make=change.applied)
            self.attempts[words] = Attempt(change, [row])
        return self.attempts[words]

    # ---- the race --------------------------------------------------------------------------------

    def _plan(self) -> None:
        """Measure the time of a step, and choose the number of steps, the same for all rows, to fit
        the time.
        """
        self.rates = [*changes_of_rate(self.training)]
        left = self.end - time.monotonic()
        step, every = seconds_of_step(self.training.copy(), self.steps, left / 8), self.steps
        share = share_of(rungs(every))
        needed = step * every * (1 + share * FEWEST + CONFIRM)
        self.needed_trainings = 1 + share * len(self.rates) * (1 + BEST) + CONFIRM
        self.steps = affordable(every, self.end - time.monotonic(), needed)
        self.step_seconds, self.ran_out = step, self.steps < every

    def _finish(self, attempt: Attempt) -> None:
        """Train the last row of an attempt to the end of all steps."""
        row = attempt.rows[-1]
        if row.training is None:  # it was dropped on the way
            row = attempt.rows[-1] = row.again(self.training, row.order)
        self.race.run(row, self.steps, self.end, points=OFTEN)
        self.ran_out |= not row.done

    def _starts(self) -> list[Start]:
        """Return the user's initial weights and the best others: those with the most even gradient.

        Initial weights whose gradient sees less than half of a sequence come later. A change of
        only the output bias comes last.
        """
        self.progress("the gradient by lag from each choice of initial weights")
        given, *others = starts_of(self.training)
        ranks = dict[str, tuple]()
        for start in (given, *others):
            reach = measure_reach(Change(start).applied(self.training))
            ranks[start.words] = start.words == OUTPUT_BIAS, *rank(reach)
            self.reach = reach if start is given else self.reach
        return [given, *sorted(others, key=lambda start: ranks[start.words])[:BEST]]

    def _run_race(self) -> None:
        """Train the attempts, and drop the worse half after each rung; those that have learned well
        pause.
        """
        starts = self._starts()
        changes = [Change(start, *rate) for rate in self.rates for start in starts]
        left = (self.end - time.monotonic()) / (self.step_seconds * self.steps) - CONFIRM
        goals = rungs(self.steps)
        number = max(FEWEST, int(left / share_of(goals)))
        alive = [self._attempt(change) for change in changes[: 1 + number]]
        alive.remove(self.given)
        for goal in goals:
            for row in (attempt.row for attempt in alive if not attempt.row.done):
                self.race.run(row, self.steps, self.end, GOOD, pause=goal, points=OFTEN)
            if time.monotonic() >= self.end:
                self.ran_out = True
                return
            alive = self._better_half([a for a in alive if a.row.exploded is None])

    def _run_dropped(self) -> None:
        """Train the attempts that stopped early to the end, by increasing error, until one helps.
        Only then all attempts can be compared with the user's training run.
        """
        stopped = [a for a in self.attempts.values() if a.row.exploded is None]
        stopped = [a for a in stopped if a.row.steps < self.steps]
        for attempt in sorted(stopped, key=lambda attempt: attempt.row.error):
            if self._helping():
                break
            if time.monotonic() >= self.end:
                self.ran_out = True
                break
            self._finish(attempt)
            attempt.row.training, attempt.row.stream = None, None

    def _better_half(self, alive: list[Attempt]) -> list[Attempt]:
        """Return the better half of some attempts, and the best attempt with the user's initial
        weights.
        """
        alive = sorted(alive, key=self._rank)
        better = alive[: math.ceil(len(alive) / 2)]
        same = [attempt for attempt in alive if attempt.change.start.words == GIVEN]
        better += [attempt for attempt in same[:1] if attempt not in better]
        for attempt in alive:
            if attempt not in better:
                attempt.row.training, attempt.row.stream = None, None  # to free their memory
        return better

    def _rank(self, attempt: Attempt) -> tuple[float, ...]:
        """Sort key: by error for attempts that learn, then by gradient for those that learn nothing
        yet.
        """
        row = attempt.row
        if row.training is None or self.race.beats_constant(row):
            return (0, max(row.error, GOOD), *attempt.change.size)
        return (1, *rank(measure_reach(row.training)))

    # ---- the choice ------------------------------------------------------------------------------

    @property
    def base(self) -> Row:
        """The user's training run, in the minibatch order with the highest final error."""
        return max((row.lasting for row in self.given.rows), key=lambda row: row.error)

    def _is_low(self, attempt: Attempt, row: Row) -> bool:
        """True if a row learns; if the user's training run learns too, a change of it must do far
        better.
        """
        base, row = self.base, row.lasting
        if attempt is self.given:
            return self._learns(row)
        most = (HELPS if self._learns(base) else LEARNS) * min(1, base.error)
        mean, deviation = self.race.difference(base, row)
        return row.error <= most and mean >= CLEAR * deviation

    def _learns(self, row: Row) -> bool:
        """True if a row of the user's training run is clearly better than the constant predictor,
        and also than the network before this run unless its error is low.
        """
        gain, deviation = self.race.difference(self.untrained, row)
        gains = row.error <= GOOD or gain >= max(CLEAR * deviation, SEEN)
        return self.race.beats_constant(row) and gains

    def _helping(self) -> list[Attempt]:
        """Return the attempts that help, the best choice first.

        The best choice is the smallest change that has learned well, or whose error is not
        clearly above the lowest error.
        """
        _, *others = self.attempts.values()
        found, left = list[Attempt](), [a for a in others if self._is_low(a, a.row)]
        while left:
            best = min(left, key=lambda attempt: attempt.error)
            near = [a for a in left if a.error <= GOOD or not self._is_above(a, best)]
            found.append(min(near, key=lambda attempt: attempt.change.size))
            left.remove(found[-1])
        return found

    def _is_above(self, attempt: Attempt, other: Attempt) -> bool:
        """True if the error of an attempt is clearly above that of another one, over the minibatch
        orders in which both were tried.
        """
        theirs = {row.order: row.lasting for row in other.rows}
        pairs = [(row.lasting, theirs[row.order]) for row in attempt.rows if row.order in theirs]
        found = [self.race.difference(*pair) for pair in pairs]
        mean, deviation = sum(d for d, _ in found), math.hypot(*(error for _, error in found))
        return mean > CLEAR * deviation

    def _better_rate(self, attempt: Attempt) -> Attempt:
        """Return an attempt, or the same attempt at a third of its learning rate.

        The one that learns in more minibatch orders is returned, or that keeps its gain in more. If
        they are equal, the lower rate is returned, unless its error is clearly higher.
        """
        both = [attempt, self._attempt(attempt.change.slower(LOWER))]
        for each in both:
            self._confirm(each)
        slower = both[1]
        if self._share(slower) != self._share(attempt):
            return max(both, key=self._share)
        return attempt if self._is_above(slower, attempt) else slower

    def _confirm(self, attempt: Attempt) -> bool:
        """Train an attempt for all steps in every minibatch order; return whether it learns
        in all.
        """
        self._finish(attempt)
        for order in self.orders[len(attempt.rows) :]:
            if time.monotonic() >= self.end:
                self.ran_out = True
                break
            attempt.rows.append(attempt.row.again(self.training, order))
            self._finish(attempt)
        attempt.rows = [row for row in attempt.rows if row.done] or attempt.rows[:1]
        return self._lasts(attempt)

    def _share(self, attempt: Attempt) -> tuple[int, int]:
        """Return (number of minibatch orders in which an attempt learns by the end, number in which
        it keeps its gain).
        """
        low = [row for row in attempt.rows if row.done and self._is_low(attempt, row)]
        return len(low), attempt.stays

    def _lasts(self, attempt: Attempt) -> bool:
        """True if an attempt learns by the end, in every minibatch order for which there
        was time.
        """
        return self._share(attempt)[0] == len(attempt.rows)


def rungs(steps: int) -> list[int]:
    """Return the rungs of a race: the numbers of steps after which it drops half of its attempts.
    The last rung is all steps.

    >>> rungs(3200), rungs(100), rungs(7)
    ([100, 200, 400, 800, 1600, 3200], [30, 50, 100], [7])
    """
    return sorted({max(min(LEAST, steps), steps >> k) for k in range(RUNGS)})


def share_of(rungs: list[int]) -> float:
    """Return the share of a whole training run that an attempt takes on average in a race over
    rungs.

    >>> share_of([100]), share_of([50, 100])
    (1.0, 0.75)
    """
    gaps = (goal - before for before, goal in pairwise([0, *rungs]))
    return sum(gap / 2**k for k, gap in enumerate(gaps)) / rungs[-1]


def rank(reach: Reach | None) -> tuple[float, ...]:
    """Return a sort key for a gradient; the best gradient has the least key.

    Gradients that reach more than half of a sequence and do not explode come first. Within each
    group, more even gradients come first; unevenness is rounded to powers of e.
    """
    if reach is None:
        return (0, 0)
    evenness = reach.unevenness
    return (reach.blind or reach.explodes, round(evenness) if evenness < math.inf else evenness)


def changes_of_rate(training: Training) -> Iterator[tuple[float, float | None]]:
    """Yield pairs: a factor on the learning rates, and the learning rate of Adam in place of the
    optimiser (None: the optimiser stays).
    """
    given = training.learning_rate
    if isinstance(training.optimizer, torch.optim.SGD):
        yield from ((factor, None) for factor in OF_SGD)
        yield from ((1.0, rate) for rate in ADAM[::2])
        return
    rates = list[float]()
    for rate in (given, *ADAM, *(scaled_rate(given, factor) for factor in AROUND)):
        if all(max(rate / known, known / rate) >= APART for known in rates):
            rates.append(rate)
    yield from ((rate / given, None) for rate in rates)


COMPILED = "model = model._orig_mod  # which torch.compile wraps: compile it again afterwards"


@keywords_of(Training, without=("loading_seconds",))
@one_thread()
@with_gradients()
def cure(
    model: nn.Module | Training,
    x: Any = None,
    y: Any = None,
    loss_fn: Any = "mse",
    optimizer: Any = "adam",
    *,
    steps: int | None = None,
    seconds: float = 60.0,
    name: str | None = None,
    seed: int = 0,
    progress: Callable[[str], None] = lambda doing: None,
    **parts: Any,
) -> Cure:
    """Find initial weights and a learning rate with which a network learns.

    Candidates are trained on copies, side by side; the best is repeated in three minibatch orders.

    Args:
        model, x, y, loss_fn, optimizer, parts: the arguments of `Training`. Or pass a `Training` in
            place of the model, and leave the others out.
        steps: number of optimiser steps; None: 3000, or that of a `Training`.
        seconds: time limit of the search, in seconds. A search takes about ten training runs.
        name: name of the network in the result; None: its class.
        seed: shuffle seed of the minibatches; the next two seeds confirm the result.
        progress: function that is called with a description of each stage.

    Returns:
        A `Cure`. Nothing that you pass is changed.

    Raises:
        InvalidInputError or DataError: a part is invalid or does not fit the others.

    >>> _ = torch.manual_seed(0)
    >>> model, x = nn.Sequential(nn.Flatten(), nn.Linear(6, 1)), torch.randn(200, 2, 3)
    >>> y, sgd = x.sum((1, 2))[:, None], torch.optim.SGD(model.parameters(), 1e-3)
    >>> found = cure(model, x, y, nn.MSELoss(), sgd, steps=60)
    >>> found.outcome, found.before > 0.9 > found.error
    ('trains after the change', True)
    """
    number("seconds", seconds, above=0)
    seed = check_seed(seed)
    given_model = model.model if isinstance(model, Training) else model
    begun = time.monotonic()
    training = as_training(
        model, x, y, loss_fn, optimizer, steps=steps, loading_seconds=seconds / 4, **parts
    )
    with random_numbers_kept(training.model), broadcasting_unwarned():
        search = Search(training, begun + seconds, seed, progress)
        chosen, outcome = search.run()
        changed = chosen.change.applied(training).model
    given, *others = search.attempts.values()
    others.sort(key=lambda t: (t is not chosen, t.error))
    code = "" if chosen is given else code_of(training, chosen.change, given_model)
    return Cure(
        title=name or name_of(model),
        outcome=outcome,
        model=changed,
        learning_rate=chosen.change.rate(training),
        clip_norm=training.clip_norm,
        start=chosen.change.start.words,
        code=code,
        error=chosen.error,
        before=search.base.error,
        causes=tuple(search.causes),
        trials=(given, *others),
        chosen=chosen,
        reach=search.reach,
        steps=training.steps,
        seconds=time.monotonic() - begun,
        needed_seconds=search.needed_seconds(seconds, outcome),
        refused=search.refused,
        training=training,
    )


def code_of(training: Training, change: Change, model: nn.Module) -> str:
    """Return the lines to paste after the line that creates the optimiser: initial weights,
    learning rates, and clipping.
    """
    lines = [COMPILED] if uncompiled(model) is not model else []
    lines += change.start.code.splitlines()
    if change.adam is not None:
        lines += [
            "import torch",
            f"optimizer = torch.optim.Adam(model.parameters(), lr={change.adam:g})",
        ]
    else:
        lines += [
            filled(f"rates = {training.rates(change.factor)}"),
            "for group, rate in zip(optimizer.param_groups, rates):",
            '    group["lr"] = group["initial_lr"] = rate',
        ]
        if training.scheduler is not None:
            lines.append("# then make the scheduler again, with its largest rates scaled alike")
    if training.clip_norm is not None:
        lines += [
            "# after each loss.backward():",
            f"# torch.nn.utils.clip_grad_norm_(model.parameters(), {training.clip_norm:g})",
        ]
    return "".join(f"{line}\n" for line in lines)
