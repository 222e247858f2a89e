"""Search for a start and a learning rate with which a training leaves the loss of the best constant
output: the trials of `cure`.

1. The training as it is. If it leaves that loss with two orders of minibatches, it stays as it is.
If not, and there is something to
   search for, short trials at other learning rates.
2. One backward pass of each start of `gersgorin.checking.starts` shows which steps of a sequence
its gradient sees (`reach.py`). The
   best are those whose gradient is most even over the two halves of a sequence; last come those
   that see less than half, or explode. If sensing and remembering units are among them and the
   given start sees less than half, one whole training comes first, with half the highest learning
   rate at which some steps leave their gradient about as even.
3. Short trials of the three best, each at learning rates of several decades.
4. Whole trainings, one after another: of the best starts at the given rate, if the given one does
not see the first half; then of each
   start at the rate at which its short trials came lowest.
5. Whenever a trial leaves: each part of its change alone, and a tenth of a raised learning rate;
then the simplest change that leaves
   in time, of several the one with the lowest rate, once more, to the end, with other minibatches.
   It is a cure if both leave. If not, the search goes on.

All trials but those with other minibatches see the same ones.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import islice
from time import monotonic

import numpy as np
import torch

from gersgorin.checking.reach import Reach, measure_reach
from gersgorin.checking.starts import CHRONO, GIVEN, MEMORY, OUTPUT_BIAS, Start, starts
from gersgorin.checking.trials import LEFT, WINDOW, Constant, Trial, run_trials
from gersgorin.training.minibatches import same_for_all_seeds
from gersgorin.training.training import Training
from rhn.utils.wording import counted, rounded_up

SIMPLICITY = {GIVEN: 0, OUTPUT_BIAS: 1, CHRONO: 2}  # of the changes of a start; 3: matrices
TRAINS = 0.9  # of the loss of the best constant output: a training that reaches less works
AFTER = 4.0  # times its escape that a trial which has left continues for
# least and largest learning rate, by decades around the given one
RATES = {"SGD": (1e-4, 100.0), "other": (1e-5, 1.0)}
BEST = 3  # starts that are tried
SCREEN = 0.04  # of the steps, for trials of all starts
COST = 9  # times the steps of a whole training that a search takes at most, about
FEWEST = 20  # steps of a trial
STEADY = 1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01  # factors on the learning rate
# that some steps may add to the unevenness of a gradient; looks at it, `WINDOW` steps apart
UNEVEN, LOOKS = 1.0, 3
SLOWER = 3.0  # times the steps of the fastest change after which a simpler one may leave
AS_GOOD = 0.9  # of the way down that the fastest change comes below the constant, for a simpler one


@dataclass(frozen=True)
class Plan:
    """A start with a training."""

    start: Start
    factor: float = 1.0
    """On the learning rates that were given."""


@dataclass(frozen=True)
class Attempt:
    """A plan and its trial."""

    plan: Plan
    trial: Trial = field(default_factory=partial(Trial, 1.0))
    """Without a step: not tried."""
    before: "Attempt | None" = None
    """Of the same plan in another order of minibatches."""

    @property
    def steps(self) -> int:
        """Of the trial."""
        return self.trial.steps

    @property
    def diverged(self) -> float:
        """Step; inf: not seen."""
        return self.trial.diverged

    @cached_property
    def loss(self) -> float:
        """Mean of the last steps, relative to the best constant output; inf if the trial
        diverged.
        """
        last = slice(-max(5, min(WINDOW, self.steps // 4)), None)
        loss = sum(self.trial.losses[last]) / (sum(self.trial.constants[last]) or math.nan)
        return loss if self.diverged == math.inf and math.isfinite(loss) else math.inf

    @cached_property
    def left(self) -> float:
        """Step after which the loss was below `TRAINS` times the constant's, and never again above
        the constant's; inf: not seen.
        """
        window = min(WINDOW, self.steps)
        ratios = self.trial.ratios[window - 1 :]
        steady = max(np.flatnonzero(ratios >= 1), default=-1) + 1
        below = steady + np.flatnonzero(ratios[steady:] < TRAINS)
        return float(below[0] + window) if len(below) else math.inf

    @property
    def leaves(self) -> bool:
        """True if the loss fell clearly below that of a constant and stayed there."""
        return self.left < math.inf and self.diverged == math.inf and self.loss < TRAINS

    @property
    def outcome(self) -> str:
        """ "leaves", "diverges", "falls slightly" (below the constant's, as `gersgorin.check` sees
        it), "stays" or "not tried".
        """
        if not self.steps:
            return "not tried"
        if self.leaves or self.diverged < math.inf:
            return "leaves" if self.leaves else "diverges"
        return "falls slightly" if self.trial.confirmed else "stays"


class Search:
    """The trials that were made, and the choice between them."""

    def __init__(
        self, loop: Training, steps: int, end: float, seed: int, progress: Callable[[str], None]
    ):
        self.loop, self.steps, self.end, self.seed, self.progress = loop, steps, end, seed, progress
        self.constant = Constant(loop)
        self.given = Plan(Start(GIVEN))
        self.attempts = {self.given: Attempt(self.given)}
        self.reaches: dict[Start, Reach | None] = {}
        # with learning rates at which a few steps change what the gradient sees
        self.unsteady: list[Plan] = []
        self.ran_out, self.step_seconds = False, loop.step_seconds
        self.one_order = same_for_all_seeds(loop.data)

    @property
    def needed_seconds(self) -> float:
        """Of a search that decides."""
        return (COST + 2) * self.steps * self.step_seconds

    def run(self, *, anything: bool = True) -> tuple[Attempt, str]:
        """(The choice, the outcome); anything: search if the training does not leave as it is."""
        self.progress(
            f"the training as it is; to decide takes up to {rounded_up(self.needed_seconds)} s here"
        )
        begun = monotonic()
        self._try([self.given], self.steps, seconds=(self.end - begun) / 3, after=math.inf)
        given = self.attempts[self.given]
        if given.steps:
            self.step_seconds = (monotonic() - begun) / given.steps
        if given.leaves:
            if self.one_order or not self._is_whole(again := self._again(given)):
                return given, "seen once"
            if again.leaves:
                return given, "healthy"
            given = self.attempts[self.given] = again
        if not anything:
            return given, "not searched"
        lowest = self._screened([self.given.start])
        if found := self._confirmed():
            return found
        every, own = self._ranked(), self.reaches[self.given.start]
        memory = [start for start in every[:BEST] if start.words == MEMORY]
        first = self._steady(memory[0]) if memory and own and own.blind else []
        found, best = self._whole(first), every[: BEST + len(memory)]
        lowest += [] if found else self._screened(best)
        plans = first + [Plan(start) for start in best if own and own.blind]
        plans += lowest or [Plan(start) for start in every[:1]]
        plans = [plan for plan in plans if plan not in self.unsteady]
        if found := found or self._confirmed() or self._whole(plans):
            return found
        untested = [a for a in map(self._known, plans) if not self._is_whole(a)]
        self.ran_out = bool(untested)
        likely = [a for a in untested if not a.steps or LEFT * a.loss < 1]
        return (likely[0], "untested") if likely else (given, "none helped")

    def _whole(self, plans: list[Plan]) -> tuple[Attempt, str] | None:
        """Whole trainings of plans, until one is confirmed."""
        found = None
        for plan in plans:
            if found is None and not self._is_whole(self._known(plan)):
                rate = self.loop.learning_rate * plan.factor
                self.progress(f"a whole training: {plan.start.words}, learning rate {rate:.3g}")
                self._try([plan], self.steps, after=math.inf)
                found = self._confirmed()
        return found

    def _steady(self, start: Start) -> list[Plan]:
        """The plan with half the highest learning rate at which some steps leave the gradient about
        as even, if there is one.
        """
        self.progress("learning rates that keep the gradient of all lags after some steps")
        for plan in (Plan(start, factor) for factor in STEADY):
            model, batches = start.applied(self.loop.model), self.loop.data.stream(self.seed)
            optimizer = self.loop.copied(
                self.loop.model, dict(model.named_parameters()), plan.factor
            )
            for _ in range(LOOKS):
                for x, y in islice(batches, WINDOW if monotonic() < self.end else 0):
                    self.loop.step(model, optimizer, x, y)
                reach, before = measure_reach(self.loop, model), self.reaches[start]
                if not reach or not before or reach.unevenness > before.unevenness + UNEVEN:
                    self.unsteady.append(plan)
                    break
            else:
                # the highest one is often too high for a whole training
                return [replace(plan, factor=plan.factor / 2)]
        return []

    def _ranked(self) -> list[Start]:
        """All changes of the start, the best first: the most even gradients, then those that are
        blind or explode, then the bias.
        """
        self.progress("the gradient of each start by lag")
        every = list(starts(self.loop))
        self.reaches = {
            start: measure_reach(self.loop, start.applied(self.loop.model)) for start in every
        }

        def rank(start: Start) -> tuple:
            reach, bias = self.reaches[start], start.words == OUTPUT_BIAS
            return (
                (bias, reach.blind or reach.explodes, reach.unevenness)
                if reach is not None
                else (bias,)
            )

        return sorted((start for start in every if start.code), key=rank)

    def _confirmed(self) -> tuple[Attempt, str] | None:
        """The simplest change that leaves in time, also in another order of the minibatches, and
        the outcome; None: there is none.
        """
        while leaving := self._leaving():
            self._try_parts(leaving[0])
            leaving = self._leaving()
            best, far = leaving[0].left, 1 - leaving[0].loss
            near = [a for a in leaving if a.left <= SLOWER * best and 1 - a.loss >= AS_GOOD * far]
            tried = min(near, key=lambda a: (SIMPLICITY.get(a.plan.start.words, 3), a.plan.factor))
            self.progress("the best once more, with other minibatches")
            again = self._again(tried)
            if not self._is_whole(again):
                return tried, "seen once"
            if again.leaves:
                return (
                    (again, "seen once")
                    if self.one_order
                    else (replace(again, before=tried), "cured")
                )
            self.attempts[tried.plan] = again
        return None

    def _again(self, a: Attempt) -> Attempt:
        """The whole training of an attempt with other minibatches, as far as there is time."""
        found = self._try([a.plan], self.steps, after=math.inf, seed=self.seed + 1)
        return found[0] if found else Attempt(a.plan)

    def _is_whole(self, a: Attempt) -> bool:
        return a.steps >= self.steps or a.diverged < math.inf

    def _try_parts(self, a: Attempt) -> None:
        """Trials of a change that leaves without one of its parts, and nearer to the given learning
        rate.
        """
        self.progress("each part of the change alone, and a lower learning rate")
        steps = min(int(AFTER * a.left), self.steps)
        lower = (replace(a.plan, factor=factor) for factor in (1.0, max(1.0, a.plan.factor / 10)))
        not_again = self.given, a.plan, *self.unsteady
        for known in map(self._known, (*lower, replace(a.plan, start=self.given.start))):
            if known.plan not in not_again and known.steps < steps and not self._is_whole(known):
                self._try([known.plan], steps)

    def _screened(self, some: list[Start]) -> list[Plan]:
        """Short trials of starts at learning rates of several decades; the plan of each start whose
        loss comes lowest.
        """
        steps = max(FEWEST, int(SCREEN * self.steps))
        self.progress(f"learning rates, {counted(steps, 'step')} each")
        plans = [
            [plan for f in self._factors() if (plan := Plan(start, f)) != self.given]
            for start in some
        ]
        found = [self._try(each, steps) for each in plans if each]
        return [each[0].plan for each in found if each and each[0].diverged == math.inf]

    def _known(self, plan: Plan) -> Attempt:
        """The longest trial of a plan so far."""
        return self.attempts.get(plan, Attempt(plan))

    def _factors(self) -> list[float]:
        """Decades around the given learning rate."""
        low, high = RATES["SGD" if isinstance(self.loop.optimizer, torch.optim.SGD) else "other"]
        decades = ((k, self.loop.learning_rate * 10.0**k) for k in range(-8, 9))
        return [10.0**k for k, rate in decades if not k or low <= 1.001 * rate <= 1.01 * high]

    def _try(
        self,
        plans: list[Plan],
        steps: int,
        *,
        seconds: float = math.inf,
        after: float = AFTER,
        seed: int | None = None,
    ) -> list[Attempt]:
        """Trials of plans of one start, as many as there is time for, the one with the least loss
        first.

        after: how many times its escape a trial that has left goes on for. Trials with another seed
        are not kept.
        """
        done, time_left = list[Attempt](), self.end - monotonic()
        if time_left > 0:
            trials = run_trials(
                self.loop.changed(model=plans[0].start.applied(self.loop.model)),
                [plan.factor for plan in plans],
                steps=min(steps, self.steps),
                seconds=min(time_left, seconds),
                constant=self.constant,
                after=after,
                seed=self.seed if seed is None else seed,
            )
            done = [
                Attempt(plan, trial)
                for plan, trial in zip(plans, trials, strict=True)
                if trial.steps
            ]
        if seed is None:
            self.attempts = {plan: Attempt(plan) for plan in plans} | self.attempts
            self.attempts |= {a.plan: a for a in done if a.steps >= self._known(a.plan).steps}
        return sorted(done, key=lambda a: a.loss)

    def _leaving(self) -> list[Attempt]:
        """The changes that leave, the fastest first."""
        leaving = [a for a in self.attempts.values() if a.leaves and a.plan != self.given]
        return sorted(leaving, key=lambda a: (a.left, a.loss))
