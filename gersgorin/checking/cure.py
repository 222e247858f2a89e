"""Find a start and a training with which a network learns: real trials of the real optimiser, successive halving.

    found = cure(model, x, y, loss_fn, optimizer, steps=3000)
    print(found.summary())                 what helps and how much
    print(found.code)                      lines to paste: the optimiser, clipping, and the same start on your own copy
    model, optimizer = found.model, found.optimizer(found.model.parameters())

Candidates are the starts of `gersgorin.checking.starts`, learning rates of several decades, and clipping. All trials see the same
minibatches; the better ones go on for longer (successive halving; Jamieson and Talwalkar 2016). A network that learns stays as it is.
A change is a cure only if a trial left the loss of the best constant output, and another with other minibatches too if there is time.

The given weights at other learning rates come first, and in a search without time for more they are all that is tried. The choice
prefers them too: the fastest change gives way to the simplest one (learning rate and clipping before the output bias, and this before
new weights) that leaves after at most `SLOWER` times as many steps and leaves at the learning rates beside its own too. If there is
time to repeat both, it must also come down by `AS_GOOD` of what the fastest does below the loss of the constant.
"""

import copy
import inspect
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gersgorin._validate import with_gradients
from gersgorin.checking.loop import BATCH_SIZE, TrainingLoop, check_limits, random_numbers_kept
from gersgorin.checking.starts import IMPORTS, MEANINGS, OUTPUT_BIAS, Start, filled, starts
from gersgorin.checking.trials import WINDOW, Constant, Trials, run_trials
from gersgorin.linalg.spectrum import one_thread
from rhn.errors import InvalidInputError
from rhn.utils.io import finite_json
from rhn.utils.result import Result, fitted, rows_of
from rhn.utils.wording import counted, rounded_up

STEPS, SECONDS = 3000, 60.0
TRAINS = 0.9  # of the loss of the best constant output: a training that reaches less works
AFTER = 4.0  # a trial that has left goes on for so many times its escape
RATES = {"SGD": (1e-4, 100.0), "other": (1e-5, 1.0)}  # least and largest learning rate, by decades around the given one
SCREEN = 0.04  # of the steps, for trials of all starts
ROUNDS = ((0.15, 4), (0.4, 3), (1.0, 2))  # (share of the steps, trials of so many of the best)
CONFIRMED = 2  # most changes that are tried once more
COST = 9  # times the steps of a whole training that a search takes at most, about
FEWEST = 20  # steps of a trial
IN_TIME = 0.8  # of the steps, by which a network that stays as it is has left
LEGEND = (
    f"loss: of the training's last minibatches, relative to a constant output's; leaves: below {TRAINS}; data kept out of the training "
    "are not looked at"
)
BETTER = 0.5  # of the steps after which it left: a change of one that leaves late must be so much faster
SIMPLER = 1.3  # factor on the steps that one change less may cost
UNTRIED = 1.5  # factor on the steps if the next larger learning rate was not tried
AT_THE_EDGE = 3.0  # likewise, if it does not leave
CLIP = 1.0  # norm
SHORT = 0.1  # of the steps, below which a search has no time for new weights
SLOWER = 3.0  # times the steps of the fastest change after which a simpler one may leave
AS_GOOD = 0.9  # of the way down that the fastest change comes below the constant, for a simpler one
SHOWN = 7  # attempts in the summary
NEEDS_X = "# needs x: a minibatch of inputs that begins as those given to cure"
CLIPPING = "# torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)"


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
    def outcome(self) -> str:
        """ "leaves", "diverges", "stays" or "not tried"."""
        if not self.steps:
            return "not tried"
        return "leaves" if self.leaves else "diverges" if self.diverged < math.inf else "stays"

    @property
    def plan(self) -> tuple:
        return self.start.words, self.factor, self.clip_norm


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Cure(Result):
    """Result of `cure`."""

    model: nn.Module
    """A copy of the model that was given, with the start that helps."""
    learning_rate: float
    """Of the first group of parameters; with a scheduler its initial_lr."""
    clip_norm: float | None
    """Largest gradient norm, as in `torch.nn.utils.clip_grad_norm_`; None: no clipping."""
    code: str
    """Lines that make the optimiser and change `model` as `self.model` was changed; empty if nothing is changed."""
    outcome: str
    """ "healthy", "cured" or "none helped"."""
    attempts: tuple[Attempt, ...]
    """The longest trial of each start and training, the best first."""
    given: Attempt
    chosen: Attempt
    fastest: Attempt
    """The change that leaves first; the chosen one may be simpler."""
    confirmed: bool
    """True if a second trial, with other minibatches, left too."""
    steps: int
    """Length of the training."""
    seconds: float
    """That the search took."""
    needed_seconds: float | None
    """Of a search that decides; None if this one had enough time."""
    loop: TrainingLoop

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
        optimizer = self.loop.copied(self.loop.model, dict(zip(own, theirs, strict=True)), self.chosen.factor)
        for group, rate in zip(optimizer.param_groups, self.loop.rates, strict=True):
            group["lr"] = _times(rate, self.chosen.factor)
            group.pop("initial_lr", None)  # which a new scheduler would take
        return optimizer

    @property
    def verdict(self) -> str:
        """One sentence, or two."""
        of = f"of the loss of a constant output after {counted(self.chosen.steps, 'step')}"
        if self.outcome == "healthy":
            return f"It learns as it is: {self.given.loss:.3g} {of}; nothing is changed."
        changes = [a for a in self.attempts if a.plan != self.given.plan]
        if self.outcome == "none helped":
            return self._undecided(changes) if self.needed_seconds else self._none_helped(changes, of)
        again = "" if self.confirmed else ", seen once only for lack of time"
        if not self.chosen.start.code and self.chosen.clip_norm == self.given.clip_norm:
            rate = f"{self.learning_rate:.2g} in place of {self.loop.learning_rate:.2g}"
            best = f"The {self._rate.split(' ', 1)[1]} alone is enough: {rate} gives "
        else:
            best = f"{_sentence(self.changes)}: "
        best += f"{self.chosen.loss:.3g} {of}, {_before(self.given)} before{again}."
        if self.fastest.plan == self.chosen.plan or self.fastest.left >= self.chosen.left:
            return best
        return (
            f"{best} Fastest: {', '.join(self._words(self.fastest))}, which leaves at step {self.fastest.left:.0f} in place of "
            f"{self.chosen.left:.0f}."
        )

    def _undecided(self, changes: list[Attempt]) -> str:
        """The verdict of a search without time."""
        enough = f"nothing is decided: give seconds={rounded_up(self.needed_seconds)}"
        if not self.given.steps:
            return f"The time was up before the first step of a trial; {enough}."
        tried = [a for a in changes if a.steps]
        if not tried:
            return f"The time was up after {_share(self.given.steps, self.steps)} of the training as it is; {enough}."
        longest = _share(max(a.steps for a in tried), self.steps)
        return f"The time was up: {len(tried)} of {counted(len(changes), 'change')} were tried, for at most {longest}; {enough}."

    def _none_helped(self, changes: list[Attempt], of: str) -> str:
        """The verdict of a search that was long enough."""
        longest = max((a.steps for a in changes), default=0)
        return (
            f"None of {counted(len(changes), 'change')} helped, in trials of up to {counted(longest, 'step')}; it stays at "
            f"{self.given.loss:.3g} {of}."
        )

    @property
    def changes(self) -> list[str]:
        """The changes in words; `summary` says what each start is."""
        return self._words(self.chosen)

    @property
    def _rate(self) -> str:
        scheduler = self.loop.scheduler
        return "a learning rate" if scheduler is None else f"an initial_lr (of {type(scheduler).__name__})"

    def _words(self, a: Attempt) -> list[str]:
        words = [a.start.words] if a.start.code else []
        if a.factor != 1:
            words.append(f"{self._rate} of {self.loop.learning_rate * a.factor:.3g}")
        if a.clip_norm != self.given.clip_norm:
            words.append(f"gradients clipped at {a.clip_norm:g}")
        return words

    def table(self) -> list[dict]:
        """One row an attempt, for `pandas.DataFrame`: start, learning rate, clipping, steps of its trial, outcome, relative loss, step
        of leaving and of divergence; `summary` prints the best of them."""
        rate, every = self.loop.learning_rate, self.attempts
        return rows_of(
            start=[a.start.words for a in every],
            learning_rate=[a.factor * rate for a in every],
            clip_norm=[a.clip_norm for a in every],
            steps=[a.steps for a in every],
            outcome=[a.outcome for a in every],
            loss=[a.loss for a in every],
            left=[a.left for a in every],
            diverged=[a.diverged for a in every],
        )

    def to_json(self) -> dict:
        """All numbers for JSON; None if not finite."""
        names = (
            "verdict",
            "outcome",
            "changes",
            "learning_rate",
            "clip_norm",
            "code",
            "confirmed",
            "seconds",
            "needed_seconds",
        )
        return finite_json({name: getattr(self, name) for name in names} | {"attempts": self.table()})

    def __repr__(self) -> str:
        """The whole summary, so that its code can be pasted."""
        code = self.code.rstrip()
        return f"{self.title}\n{fitted(self.summary().removesuffix(code))}{code}"

    def summary(self) -> str:
        """The verdict, what each change does by itself, the meaning of the starts, and the lines to paste."""
        lines = [self.verdict, "", f"{'start':<44}{'rate':>9}{'clip':>6}{'steps':>7}{'loss':>10}  leaves"]
        every = [self.given, *(a for a in self.attempts if a.plan != self.given.plan)]
        every.sort(key=lambda a: not a.steps)
        for a in every[:SHOWN]:
            clip = "-" if a.clip_norm is None else f"{a.clip_norm:g}"
            start = f"{a.start.words:<44}{a.factor * self.loop.learning_rate:>9.2g}{clip:>6}"
            if not a.steps:
                lines.append(f"{start}{'-':>7}{'-':>10}  not tried")
                continue
            ends = f"diverges at {a.diverged:.0f}" if a.diverged < math.inf else "no"
            lines.append(f"{start}{a.steps:>7}{a.loss:>10.3g}  {f'at {a.left:.0f}' if a.leaves else ends}")
        if more := every[SHOWN:]:
            untried = sum(not a.steps for a in more)
            lines.append(f"and {len(more)} more" + f", of which {untried} were not tried" * bool(untried))
        lines.append(LEGEND)
        shown = ", ".join(a.start.words for a in every[:SHOWN])
        lines += [f"{name}: {meaning}" for name, meaning in MEANINGS.items() if name in shown]
        return "\n".join(lines) + f"\n\n{self.code}".rstrip()


def code_of(loop: TrainingLoop, attempt: Attempt) -> str:
    """Lines to paste before a training: the start of an attempt, its optimiser, and the norm for clipping."""
    code = attempt.start.code
    lines = [NEEDS_X] * attempt.start.reads_x
    lines += [*(IMPORTS if code else IMPORTS[:1]), *_optimizer_lines(loop, attempt.factor)]
    if loop.scheduler is not None:
        own_rates = isinstance(loop.scheduler, torch.optim.lr_scheduler.OneCycleLR | torch.optim.lr_scheduler.CyclicLR)
        with_what = f"its rates times {attempt.factor:.6g}" if own_rates else "this optimiser"
        lines.append(f"# then make the scheduler again, with {with_what}")
    if attempt.clip_norm is not None:
        lines += [f"clip_norm = {attempt.clip_norm:g}  # after each loss.backward():", CLIPPING]
    return "\n".join([*lines, code])  # last: its lines may be many


def _optimizer_lines(loop: TrainingLoop, factor: float) -> list[str]:
    """Lines that make the optimiser of an attempt, or that change the user's own, if it has several groups or parts of the model."""
    optimizer, trained = loop.optimizer, sum(len(group["params"]) for group in loop.optimizer.param_groups)
    simple = len(optimizer.param_groups) == 1 and trained == len(list(loop.model.parameters()))
    if not simple or getattr(torch.optim, type(optimizer).__name__, None) is not type(optimizer):
        return [
            "# learning rates of the groups of your own optimiser",
            filled(f"rates = {[_times(rate, factor) for rate in loop.rates]}"),
            "for group, rate in zip(optimizer.param_groups, rates):",
            '    group["lr"] = group["initial_lr"] = rate',
        ]
    usual = {name: p.default for name, p in inspect.signature(type(optimizer)).parameters.items()}
    group = optimizer.param_groups[0]
    others = {name: value for name, value in group.items() if name in usual and name not in ("params", "lr")}
    options = {"lr": _times(loop.rates[0], factor)} | {n: v for n, v in others.items() if v != usual[n]}
    given = ", ".join(f"{name}={value!r}" for name, value in options.items())
    return [filled(f"optimizer = torch.optim.{type(optimizer).__name__}(model.parameters(), {given})")]


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
    clip_norm: float | None = None,
    scheduler: Any = None,
    batch_size: int = BATCH_SIZE,
    batch_axis: int | None = None,
    name: str | None = None,
    seed: int = 0,
    progress: Callable[[str], None] = lambda doing: None,
) -> Cure:
    """Find a start, a learning rate and clipping with which the training loss comes below 0.9 of that of a constant output.

    Only losses of the training count: whether a network learns more than its examples by heart, held-out data show.

    Args:
        model, x, y, loss_fn, optimizer, learning_rate, clip_norm, scheduler, batch_size, batch_axis, name, seed, progress: as for
            `gersgorin.check`.
        steps: length of the training.
        seconds: most time of the search; it usually takes about ten trainings, or less.

    Returns:
        `model`, `learning_rate`, `clip_norm`, `optimizer(parameters)`, `code`, `table()`, `summary()`. What was given is not changed.

    Raises:
        InvalidInputError or DataError: as for `check`.
    """
    begun = monotonic()
    check_limits(steps, seconds, seed)
    training = {
        "learning_rate": learning_rate,
        "clip_norm": clip_norm,
        "scheduler": scheduler,
        "batch_size": batch_size,
    }
    loop = TrainingLoop(model, x, y, loss_fn, optimizer, **training, batch_axis=batch_axis, loading_seconds=seconds / 4)
    search = _Search(loop, steps, begun + seconds, seed, progress)
    with random_numbers_kept(loop.model), with_gradients():
        chosen, outcome = search.run()
        changed = search.model_of(chosen.start)
    attempts = search.attempts | {chosen.plan: max(chosen, search.attempts[chosen.plan], key=lambda a: a.steps)}
    return Cure(
        title=name or type(model).__name__,
        model=changed,
        learning_rate=_times(loop.learning_rate, chosen.factor),
        clip_norm=chosen.clip_norm,
        code=code_of(loop, chosen) if chosen.plan != search.given.plan else "",
        outcome=outcome,
        attempts=tuple(
            sorted(
                attempts.values(),
                key=lambda a: (a.plan != chosen.plan, not a.leaves, a.loss if a.steps else math.inf),
            )
        ),
        given=attempts[search.given.plan],
        chosen=chosen,
        fastest=search.fastest or chosen,
        confirmed=search.confirmed,
        steps=steps,
        seconds=monotonic() - begun,
        needed_seconds=(COST + 2) * steps * search.step_seconds if search.cut and outcome == "none helped" else None,
        loop=loop,
    )


class _Search:
    """The trials that were made, and the choice between them."""

    def __init__(self, loop: TrainingLoop, steps: int, end: float, seed: int, progress: Callable[[str], None]):
        self.loop, self.steps, self.end, self.seed, self.progress = loop, steps, end, seed, progress
        self.constant = Constant(loop)
        self.given = Attempt(Start("given weights"), 1.0, loop.clip_norm)
        self.attempts = {self.given.plan: self.given}
        self.confirmed = self.cut = False
        self.fastest: Attempt | None = None
        self.step_seconds = loop.step_seconds

    def run(self) -> tuple[Attempt, str]:
        """(The choice, the outcome)."""
        self.progress("the training as it is")
        begun = monotonic()
        whole = self._try([self.given], self.steps, seconds=(self.end - begun) / 3, after=math.inf)
        given = whole[0] if whole else self.given
        if given.leaves and given.left <= IN_TIME * self.steps:
            return given, "healthy"
        if not given.steps:
            self.cut = True
            return given, "none helped"
        self.step_seconds = (monotonic() - begun) / given.steps
        affordable = int((self.end - monotonic()) / (COST * self.step_seconds))
        self.cut |= affordable < self.steps
        steps = max(FEWEST, min(self.steps, affordable))
        if affordable < SHORT * self.steps:
            self._try_rates()
        else:
            self._halve(steps)
        if leaving := self._leaving():
            self._vary(leaving[0], steps, alone=True)
            self._vary(min(leaving, key=_simplicity), steps, alone=False)
        helpful = [
            a for a in self._leaving() if not given.leaves or (a.left <= BETTER * given.left and a.loss < given.loss)
        ]
        if not helpful:
            return given, "healthy" if given.leaves else "none helped"
        return self._choice(given, helpful, steps)

    def _choice(self, given: Attempt, helpful: list[Attempt], steps: int) -> tuple[Attempt, str]:
        """(The simplest of the changes that help about as well as the fastest, the outcome); the choice is tried once more."""
        self.fastest = helpful[0]
        near = [a for a in helpful if a.left <= SLOWER * self.fastest.left and self._is_safe(a)]
        simplest = min([self.fastest, *near], key=lambda a: (_simplicity(a), a.clip_norm != given.clip_norm))
        repeated: list[Attempt] = []
        for tried in dict.fromkeys([simplest, *helpful[:CONFIRMED]]):
            if repeated and tried != self.fastest:
                break
            self.progress("the best once more, with other minibatches")
            again = self._try([tried], steps, after=math.inf, seed=self.seed + 1)
            if not again or (again[0].steps < tried.left and again[0].diverged == math.inf):  # no time
                return (repeated or [tried])[0], "cured"
            if again[0].leaves and again[0].loss < given.loss:
                repeated.append(again[0])
                self.confirmed = True
        if not repeated:
            return given, "healthy" if given.leaves else "none helped"
        *simpler, last = repeated
        as_good = [a for a in simpler if 1 - a.loss >= AS_GOOD * (1 - last.loss)]
        return (as_good or [last])[0], "cured"

    def _try_rates(self) -> None:
        """The given weights at other learning rates, one after another, each for half of the time left, the last for all of it."""
        self.progress("other learning rates")
        explodes = self.attempts[self.given.plan].diverged < math.inf
        factors = (0.1, 0.01) if explodes else (10.0, 100.0, 0.1)
        usable = [f for f in factors if f in self._factors()]
        for factor in usable:
            seconds = (self.end - monotonic()) / (1 if factor == usable[-1] else 2)
            if any(a.leaves for a in self._try([self._plan(self.given.start, factor)], self.steps, seconds=seconds)):
                return

    def _halve(self, steps: int) -> None:
        """Successive halving of all changes, until some leave."""
        best = self._screened(max(FEWEST, int(SCREEN * steps)))
        for share, kept in ROUNDS:
            plans = [a for a in best if a.diverged == math.inf][:kept]
            if share == ROUNDS[0][0]:
                plans += [replace(a, factor=_moved(a.factor, by)) for a in best[:2] for by in (1, -1)]
                if self.given.clip_norm is None:
                    plans += [replace(a, factor=_moved(a.factor, 1), clip_norm=CLIP) for a in best[:1]]
            self.progress(f"{counted(len(plans), 'change')}, {counted(int(share * steps), 'step')} each")
            after = AFTER if share < 1 else math.inf
            best = self._try(plans, max(FEWEST, int(share * steps)), after=after)
            if any(a.leaves for a in best):
                return

    def _vary(self, a: Attempt, steps: int, *, alone: bool) -> None:
        """Try the learning rates beside that of a change; alone: and each part of the change by itself."""
        plans = [replace(a, factor=_moved(a.factor, by)) for by in (1, -1)]
        if alone:
            self.progress("each change by itself, and other learning rates")
            given = self.given
            plans += [replace(a, factor=1.0), replace(a, start=given.start), replace(a, clip_norm=given.clip_norm)]
        known = {self.given.plan, *(b.plan for b in self._leaving())}
        plans = {b.plan: b for b in plans if b.plan not in known}
        self._try(list(plans.values()), min(steps, int(AFTER * a.left)))

    def _screened(self, steps: int) -> list[Attempt]:
        """Short trials: given weights and two starts at all learning rates, then the others at those that suited these two."""
        self.progress(f"learning rates, {counted(steps, 'step')} each")
        every = list(starts(self.loop))
        first = [*every[:2], *(s for s in every if s.words == "orthogonal matrices")]
        plans = [[self._plan(s, f) for f in self._factors()] for s in first]
        found = [self._try([a for a in some if a.plan != self.given.plan], steps) for some in plans]
        factors = {_moved(some[0].factor, by) for some in found[1:] or found if some for by in (0, -1)}
        self.progress(f"starts, {counted(steps, 'step')} each")
        others = self._try([self._plan(s, f) for s in every if s not in first for f in sorted(factors)], steps)
        return _best([*(a for some in found for a in some), *others])

    def _plan(self, start: Start, factor: float) -> Attempt:
        return Attempt(start, factor, self.loop.clip_norm)

    def _factors(self) -> list[float]:
        """Decades around the given learning rate."""
        low, high = RATES["SGD" if isinstance(self.loop.optimizer, torch.optim.SGD) else "other"]
        given = self.loop.learning_rate
        return [
            _moved(1.0, k) for k in range(-16, 17, 2) if not k or low <= 1.001 * given * _moved(1.0, k) <= 1.01 * high
        ]

    def _try(
        self,
        plans: list[Attempt],
        steps: int,
        *,
        seconds: float = math.inf,
        after: float = AFTER,
        seed: int | None = None,
    ) -> list[Attempt]:
        """Trials of some plans, as many as there is time for, the best first; those of one start run together.

        after: how many times its escape a trial that has left goes on for. Trials with another seed are not kept.
        """
        done: list[Attempt] = []
        groups: dict[tuple, list[Attempt]] = {}
        for plan in plans:
            groups.setdefault((plan.start, plan.clip_norm), []).append(plan)
        for (start, clip_norm), group in groups.items():
            if (time_left := self.end - monotonic()) <= 0:
                self.cut = True
                if seed is None:
                    self.attempts = {a.plan: a for a in group} | self.attempts
                continue
            steps = min(steps, self.steps)
            loop = copy.copy(self.loop)
            loop.model, loop.clip_norm = self.model_of(start), clip_norm
            loop.optimizer = self.loop.copied(self.loop.model, dict(loop.model.named_parameters()))
            trials = run_trials(
                loop,
                [a.factor for a in group],
                [None] * len(group),
                steps=steps,
                seconds=min(time_left, seconds),
                constant=self.constant,
                after=after,
                seed=self.seed if seed is None else seed,
            )
            self.cut |= trials.timed_out
            done += [_outcome(plan, trials, k) for k, plan in enumerate(group)]
        if seed is None:
            self.attempts |= {a.plan: a for a in done if a.steps >= self.attempts.get(a.plan, a).steps}
        return _best(done)

    def model_of(self, start: Start) -> nn.Module:
        """A copy of the model with a start."""
        return start.applied(self.loop.model, getattr(self.loop.data, "x", None))

    def _leaving(self) -> list[Attempt]:
        """The changes that leave, the best first."""
        leaving = [a for a in self.attempts.values() if a.leaves and a.plan != self.given.plan]
        return sorted(leaving, key=lambda a: (self._cost(a), a.loss))

    def _beside(self, a: Attempt, sign: int) -> list[bool]:
        """Whether the trials at the next larger (sign 1) or smaller (-1) learning rate leave."""
        same = [b for b in self.attempts.values() if (b.start, b.clip_norm) == (a.start, a.clip_norm)]
        return [b.leaves for b in same if 1 < (b.factor / a.factor) ** sign < 4]

    def _is_safe(self, a: Attempt) -> bool:
        """True if both learning rates beside its own leave too, so that it does not stand on an edge."""
        return all(any(self._beside(a, sign)) for sign in (1, -1))

    def _cost(self, a: Attempt) -> float:
        """Steps after which it leaves, more for each change, and more unless the next larger learning rate leaves."""
        changes = (a.start.code != "") + (a.factor != 1) + (a.clip_norm != self.given.clip_norm)
        larger = self._beside(a, 1)
        risk = UNTRIED if not larger else 1.0 if all(larger) else AT_THE_EDGE
        return a.left * SIMPLER**changes * risk


def _best(attempts: list[Attempt]) -> list[Attempt]:
    return sorted(attempts, key=lambda a: a.loss)


def _simplicity(a: Attempt) -> int:
    """0: learning rate and clipping only, 1: the output bias too, 2: other weights."""
    return 0 if not a.start.code else 1 if a.start.words == OUTPUT_BIAS else 2


def _times(rate: float, factor: float) -> float:
    """A learning rate multiplied by a factor, to six digits."""
    return rate if factor == 1 else float(f"{rate * factor:.6g}")


def _share(steps: int, whole: int) -> str:
    return f"{steps:,} of {whole:,} step{'s' * (whole != 1)}"


def _moved(factor: float, halves: int) -> float:
    """A factor that is a power of sqrt(10), times another one; exact, so that plans can be compared."""
    return 10.0 ** ((round(2 * math.log10(factor)) + halves) / 2)


def _outcome(plan: Attempt, trials: Trials, k: int) -> Attempt:
    """What a trial of a plan did."""
    steps = int(trials.steps[k])
    last = slice(steps - max(5, min(WINDOW, steps // 4)), steps)
    diverged = float(trials.diverged[k])
    loss = trials.losses[last, k].sum() / trials.constants[last, k].sum() if steps else math.inf
    window = min(WINDOW, steps)
    ratios = trials.ratios[max(0, window - 1) : steps, k]
    steady = max(np.flatnonzero(ratios >= 1), default=-1) + 1
    below = steady + np.flatnonzero(ratios[steady:] < TRAINS)
    return replace(
        plan,
        steps=steps,
        loss=float(loss) if diverged == math.inf and math.isfinite(loss) else math.inf,
        left=float(below[0] + window) if len(below) else math.inf,
        diverged=diverged,
    )


def _sentence(words: list[str]) -> str:
    text = ", and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
    return text[:1].upper() + text[1:]


def _before(given: Attempt) -> str:
    return f"diverged at step {given.diverged:.0f}" if given.diverged < math.inf else f"{given.loss:.3g}"
