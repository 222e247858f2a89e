"""Find a start and a training with which a network learns: real trials of the real optimiser, successive halving.

    found = cure(model, x, y, loss_fn, optimizer, steps=3000)
    print(found.summary())                 what helps and how much
    print(found.code)                      lines to paste: the same start on your own copy
    model, optimizer = found.model, found.optimizer(found.model.parameters())

Candidates are the starts of `gersgorin.checking.starts`, learning rates of several decades, and clipping. All trials see the same
minibatches; the better ones go on for longer (successive halving; Jamieson and Talwalkar 2016). A network that learns stays as it is.
A change is a cure only if two trials with different minibatches left the loss of the best constant output.
"""

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gersgorin._validate import with_gradients
from gersgorin.checking.loop import BATCH_SIZE, TrainingLoop, random_numbers_kept
from gersgorin.checking.starts import Start, starts
from gersgorin.checking.trials import WINDOW, Constant, Trials, run_trials
from gersgorin.linalg.spectrum import one_thread
from rhn.errors import InvalidInputError
from rhn.utils.io import finite_json
from rhn.utils.result import Result, rows_of
from rhn.utils.wording import counted

STEPS, SECONDS = 3000, 60.0
TRAINS = 0.9  # of the loss of the best constant output: a training that reaches less works
AFTER = 4.0  # a trial that has left goes on for so many times its escape
RATES = {
    True: (1e-4, 100.0),
    False: (1e-5, 1.0),
}  # learning rates that are tried (True: SGD), by decades around the given one
HALF = math.sqrt(10)  # between two learning rates of the second round
SCREEN = 0.04  # of the steps, for trials of all starts
ROUNDS = ((0.15, 4), (0.4, 3), (1.0, 2))  # (share of the steps, trials of so many of the best)
CONFIRMED = 2  # most changes that are tried once more
COST = 9  # times the steps of a whole training that a search takes at most, about
FEWEST = 20  # steps of a trial
IN_TIME = 0.8  # of the steps, by which a network that stays as it is has left
BETTER = 0.5  # of the steps after which it left: a change of one that leaves late must be so much faster
SIMPLER = 1.3  # factor on the steps that one change less may cost
UNTRIED, AT_THE_EDGE = (
    1.5,
    3.0,
)  # factors on the steps if the next larger learning rate was not tried, or does not leave
CLIP = 1.0  # norm


@dataclass(frozen=True)
class Attempt:
    """One trial of a start with a training."""

    start: Start
    factor: float
    """On the learning rates that were given."""
    clip_norm: float | None
    steps: int = 0
    """Steps of the trial."""
    loss: float = math.nan
    """Mean of the last steps, relative to the best constant output; inf if the trial diverged."""
    left: float = math.inf
    """Step after which the loss was below `TRAINS` times the constant's, and never again above the constant's; inf: not seen."""
    diverged: float = math.inf
    """Step; inf: not seen."""

    @property
    def leaves(self) -> bool:
        """True if the loss fell clearly below that of a constant and stayed there."""
        return self.left < math.inf and self.diverged == math.inf and self.loss < TRAINS

    @property
    def plan(self) -> tuple:
        return self.start.words, self.factor, self.clip_norm


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Cure(Result):
    """Result of `cure`."""

    model: nn.Module = field(repr=False)
    """A copy of the model that was given, with the start that helps."""
    learning_rate: float
    """Of the first group of parameters."""
    clip_norm: float | None
    """Largest gradient norm, as in `torch.nn.utils.clip_grad_norm_`; None: no clipping."""
    code: str
    """Lines that change `model` as `self.model` was changed; empty if it was not."""
    outcome: str
    """ "healthy", "cured" or "none helped"."""
    attempts: tuple[Attempt, ...]
    """The longest trial of each start and training, the best first."""
    given: Attempt
    chosen: Attempt
    confirmed: bool
    """True if a second trial, with other minibatches, left too."""
    seconds: float
    """That the search took."""
    loop: TrainingLoop = field(repr=False)

    @property
    def changed(self) -> bool:
        """True if anything differs from what was given."""
        return self.chosen.plan != self.given.plan

    def optimizer(self, parameters: Iterable[Tensor]) -> Optimizer:
        """The given optimiser with the learning rate that helps and an empty state, on the parameters of a copy of the model.

        Raises InvalidInputError for other parameters.
        """
        theirs, own = list(parameters), dict(self.loop.model.named_parameters())
        if [p.shape for p in theirs] != [p.shape for p in own.values()]:
            raise InvalidInputError(
                "these are not the parameters of a copy of the model: expected found.model.parameters()"
            )
        return self.loop.copied(self.loop.model, dict(zip(own, theirs, strict=True)), self.chosen.factor)

    @property
    def verdict(self) -> str:
        """One sentence."""
        of = f"of the loss of a constant output after {counted(self.chosen.steps, 'step')}"
        if self.outcome == "healthy":
            return f"It learns as it is: {self.given.loss:.3g} {of}; nothing is changed."
        if self.outcome == "none helped":
            return f"None of {counted(len(self.attempts), 'change')} helped; the best reached {self.attempts[0].loss:.3g} {of}."
        again = "" if self.confirmed else ", seen once only for lack of time"
        return f"{_sentence(self.changes)}: {self.chosen.loss:.3g} {of}, {_before(self.given)} before{again}."

    @property
    def changes(self) -> list[str]:
        """The changes in words."""
        words = [self.chosen.start.words] if self.chosen.start.code else []
        if self.chosen.factor != 1:
            words.append(f"a learning rate of {self.learning_rate:.3g}")
        if self.chosen.clip_norm != self.given.clip_norm:
            words.append(f"gradients clipped at {self.chosen.clip_norm:g}")
        return words

    def table(self) -> list[dict]:
        """One row an attempt: start, learning rate, clipping, steps of its trial, relative loss, step of leaving and of divergence."""
        rate, every = self.loop.learning_rate, self.attempts
        return rows_of(
            start=[a.start.words for a in every],
            learning_rate=[a.factor * rate for a in every],
            clip_norm=[a.clip_norm for a in every],
            steps=[a.steps for a in every],
            loss=[a.loss for a in every],
            left=[a.left for a in every],
            diverged=[a.diverged for a in every],
        )

    def to_json(self) -> dict:
        """All numbers for JSON; None if not finite."""
        names = ("verdict", "outcome", "changes", "learning_rate", "clip_norm", "code", "confirmed", "seconds")
        return finite_json({name: getattr(self, name) for name in names} | {"attempts": self.table()})

    def summary(self) -> str:
        """The verdict, what each change does by itself, and the lines to paste."""
        lines = [self.verdict, "", f"{'start':<44}{'rate':>9}{'clip':>6}{'steps':>7}{'loss':>8}  leaves"]
        shown = [self.given, *(a for a in self.attempts if a.plan != self.given.plan)][:SHOWN]
        for a in shown:
            clip = "-" if a.clip_norm is None else f"{a.clip_norm:g}"
            ends = f"diverges at {a.diverged:.0f}" if a.diverged < math.inf else "no"
            ends = f"at {a.left:.0f}" if a.leaves else ends
            rate = a.factor * self.loop.learning_rate
            lines.append(f"{a.start.words:<44}{rate:>9.2g}{clip:>6}{a.steps:>7}{a.loss:>8.3g}  {ends}")
        if self.code:
            lines += ["", *self.code.splitlines()]
        if self.chosen.factor != 1:
            lines.append(f"# learning rate {self.learning_rate:.3g}, not {self.loop.learning_rate:.3g}")
        if self.chosen.clip_norm != self.given.clip_norm:
            lines.append(f"# before each step: nn.utils.clip_grad_norm_(model.parameters(), {self.chosen.clip_norm:g})")
        return "\n".join(lines)


SHOWN = 12  # attempts in the summary


@one_thread()
def cure(
    model: nn.Module,
    x: Any,
    y: Any = None,
    loss_fn: str | Callable[[Any, Tensor], Tensor] = "mse",
    optimizer: str | Optimizer = "adam",
    *,
    steps: int = STEPS,
    seconds: float = SECONDS,
    learning_rate: float | None = None,
    batch_size: int = BATCH_SIZE,
    batch_axis: int | None = None,
    clip_norm: float | None = None,
    scheduler: Any = None,
    seed: int = 0,
    name: str | None = None,
    progress: Callable[[str], None] = lambda doing: None,
) -> Cure:
    """Find a start, a learning rate and clipping with which a network leaves the loss of a constant output.

    Args:
        model, x, y, loss_fn, optimizer, learning_rate, batch_size, batch_axis, clip_norm, scheduler: as for `gersgorin.check`.
        steps: length of the training.
        seconds: most time of the search; it usually takes about ten trainings, or less.
        seed: of the order of the minibatches.
        name: title of the network; None: derived from the model.
        progress: called with a description of each part.

    Returns:
        `model`, `learning_rate`, `clip_norm`, `optimizer(parameters)`, `code`, `table()`, `summary()`. What was given is not changed.

    Raises:
        InvalidInputError or DataError: as for `check`.
    """
    begun = monotonic()
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise InvalidInputError(f"steps is {steps!r}, expected a whole number of at least 1")
    if not 0 < seconds < math.inf:
        raise InvalidInputError(f"seconds is {seconds!r}, expected a number above 0")
    loop = TrainingLoop(
        model,
        x,
        y,
        loss_fn,
        optimizer,
        learning_rate=learning_rate,
        batch_size=batch_size,
        batch_axis=batch_axis,
        clip_norm=clip_norm,
        scheduler=scheduler,
    )
    search = _Search(loop, steps, begun + seconds, seed, progress)
    with random_numbers_kept(loop.model), with_gradients():
        chosen, outcome = search.run()
        changed = search.model_of(chosen.start)
    return Cure(
        title=name or type(model).__name__,
        model=changed,
        learning_rate=loop.learning_rate * chosen.factor,
        clip_norm=chosen.clip_norm,
        code=chosen.start.code,
        outcome=outcome,
        attempts=tuple(sorted(search.attempts.values(), key=lambda a: (a.plan != chosen.plan, not a.leaves, a.loss))),
        given=search.attempts[search.given.plan],
        chosen=chosen,
        confirmed=search.confirmed,
        seconds=monotonic() - begun,
        loop=loop,
    )


class _Search:
    """The trials that were made, and the choice between them."""

    def __init__(self, loop: TrainingLoop, steps: int, end: float, seed: int, progress: Callable[[str], None]):
        self.loop, self.steps, self.end, self.seed, self.progress = loop, steps, end, seed, progress
        self.constant = Constant(loop)
        self.given = Attempt(Start("given weights"), 1.0, loop.clip_norm)
        self.attempts = {self.given.plan: self.given}
        self.confirmed = False

    def run(self) -> tuple[Attempt, str]:
        """(The choice, the outcome)."""
        self.progress("the training as it is")
        begun = monotonic()
        given = next(
            iter(self.tried([self.given], self.steps, seconds=(self.end - begun) / 3, after=math.inf)), self.given
        )
        if given.leaves and given.left <= IN_TIME * self.steps:
            return given, "healthy"
        of_a_step = (monotonic() - begun) / max(1, given.steps)
        steps = max(FEWEST, min(self.steps, int((self.end - monotonic()) / (COST * of_a_step))))
        best = self._screened(max(FEWEST, int(SCREEN * steps)))
        for share, kept in ROUNDS:
            plans = [a for a in best if a.diverged == math.inf][:kept]
            if share == ROUNDS[0][0]:
                plans += self._near(best[:2])
            self.progress(f"{counted(len(plans), 'change')}, {counted(int(share * steps), 'step')} each")
            after = AFTER if share < 1 else math.inf
            best = self._best(self.tried(plans, max(FEWEST, int(share * steps)), after=after))
            if any(a.leaves for a in best):
                break
        leaving = self._leaving()
        if leaving:
            self.progress("each change by itself, and other learning rates")
            best = leaving[0]
            more = [replace(best, factor=best.factor * by) for by in (HALF, 1 / HALF)]
            more += [
                replace(best, start=self.given.start),
                replace(best, factor=1.0),
                replace(best, clip_norm=self.given.clip_norm),
            ]
            known = {self.given.plan, *(a.plan for a in leaving)}
            more = {a.plan: a for a in more if a.plan not in known}
            self.tried(list(more.values()), min(steps, int(AFTER * best.left)), after=AFTER)
            leaving = [a for a in self._leaving() if self._helps(a, given)]
        for chosen in leaving[:CONFIRMED]:
            self.progress("the best once more, with other minibatches")
            again = self.tried([chosen], steps, after=math.inf, seed=self.seed + 1)
            if not again:
                return chosen, "cured"
            if again[0].leaves and again[0].loss < given.loss:
                self.confirmed = True
                return again[0], "cured"
        return given, "healthy" if given.leaves else "none helped"

    def _screened(self, steps: int) -> list[Attempt]:
        """Short trials: two starts at all learning rates, then the others at the learning rates that suited these."""
        self.progress(f"learning rates, {counted(steps, 'step')} each")
        every = list(starts(self.loop))
        first = [every[0] if len(every) == 1 else every[1], *(s for s in every if s.words == "orthogonal matrices")]
        best = [self._best(self.tried([self._plan(s, f) for f in self._factors()], steps)) for s in first]
        factors = {a.factor * by for found in best for a in found[:1] for by in (1.0, 1 / HALF)}
        self.progress(f"starts, {counted(steps, 'step')} each")
        others = self.tried([self._plan(s, f) for s in every if s not in first for f in sorted(factors)], steps)
        return self._best([*(a for found in best for a in found), *others])

    def _plan(self, start: Start, factor: float) -> Attempt:
        return Attempt(start, factor, self.loop.clip_norm)

    def tried(
        self,
        plans: list[Attempt],
        steps: int,
        *,
        seconds: float = math.inf,
        after: float = AFTER,
        seed: int | None = None,
    ) -> list[Attempt]:
        """Trials of some plans, as many as there is time for; those of one start together.

        after: how many times its escape a trial that has left goes on for. With another seed they are not kept.
        """
        done = []
        groups: dict[tuple, list[Attempt]] = {}
        for plan in plans:
            groups.setdefault((plan.start, plan.clip_norm), []).append(plan)
        for (start, clip_norm), group in groups.items():
            if (left := self.end - monotonic()) <= 0:
                break
            loop = copy.copy(self.loop)
            loop.model = self.model_of(start)
            loop.optimizer = self.loop.copied(self.loop.model, dict(loop.model.named_parameters()))
            loop.clip_norm = clip_norm
            trials = run_trials(
                loop,
                [a.factor for a in group],
                [None] * len(group),
                steps=steps,
                seconds=min(left, seconds),
                constant=self.constant,
                after=after,
                seed=self.seed if seed is None else seed,
            )
            done += [_outcome(plan, trials, k) for k, plan in enumerate(group)]
        if seed is None:
            self.attempts |= {a.plan: a for a in done}
        return done

    def model_of(self, start: Start) -> nn.Module:
        """A copy of the model with a start."""
        return start.applied(self.loop.model, getattr(self.loop.data, "x", None))

    def _factors(self) -> list[float]:
        """Decades around the given learning rate."""
        given = self.loop.learning_rate
        low, high = RATES[isinstance(self.loop.optimizer, torch.optim.SGD)]
        return [10.0**k for k in range(-8, 9) if k == 0 or low <= 1.001 * given * 10.0**k <= 1.01 * high]

    def _near(self, best: list[Attempt]) -> list[Attempt]:
        """Learning rates between those of the first round, and clipping with a larger one."""
        near = [replace(a, factor=a.factor * by) for a in best for by in (HALF, 1 / HALF)]
        if self.given.clip_norm is None:
            near += [replace(a, factor=a.factor * HALF, clip_norm=CLIP) for a in best[:1]]
        return near

    def _best(self, attempts: list[Attempt]) -> list[Attempt]:
        return sorted(attempts, key=lambda a: a.loss)

    def _leaving(self) -> list[Attempt]:
        """The changes that leave, the best first."""
        leaving = [a for a in self.attempts.values() if a.leaves and a.plan != self.given.plan]
        return sorted(leaving, key=lambda a: (self._cost(a), a.loss))

    def _cost(self, a: Attempt) -> float:
        """Steps after which it leaves, more for each change, and more if the next larger learning rate does not leave."""
        changes = (a.start.code != "") + (a.factor != 1) + (a.clip_norm != self.given.clip_norm)
        same = [b for b in self.attempts.values() if (b.start, b.clip_norm) == (a.start, a.clip_norm)]
        larger = [b.leaves for b in same if 1 < b.factor / a.factor < 4]
        risk = UNTRIED if not larger else 1.0 if all(larger) else AT_THE_EDGE
        return a.left * SIMPLER**changes * risk

    def _helps(self, a: Attempt, given: Attempt) -> bool:
        """True if a change does what the given training does not."""
        return not given.leaves or (a.left <= BETTER * given.left and a.loss < given.loss)


def _outcome(plan: Attempt, trials: Trials, k: int) -> Attempt:
    """What a trial of a plan did."""
    steps = int(trials.steps[k])
    last = slice(steps - max(5, min(WINDOW, steps // 4)), steps)
    diverged = float(trials.diverged[k])
    loss = trials.losses[last, k].sum() / trials.constants[last, k].sum() if steps else math.inf
    ratios = trials.ratios[WINDOW - 1 : steps, k]
    steady = max(np.flatnonzero(ratios >= 1), default=-1) + 1
    below = steady + np.flatnonzero(ratios[steady:] < TRAINS)
    return replace(
        plan,
        steps=steps,
        loss=float(loss) if diverged == math.inf and math.isfinite(loss) else math.inf,
        left=float(below[0] + WINDOW) if len(below) else math.inf,
        diverged=diverged,
    )


def _sentence(words: list[str]) -> str:
    text = ", and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
    return text[:1].upper() + text[1:]


def _before(given: Attempt) -> str:
    return f"diverged at step {given.diverged:.0f}" if given.diverged < math.inf else f"{given.loss:.3g}"
