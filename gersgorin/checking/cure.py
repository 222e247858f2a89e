"""Find a start and a training with which a network learns: starts chosen by their gradients, then
real trials.

    found = cure(model, x, y, loss_fn, optimizer, steps=3000)
    print(found.summary())                 what helps and how much
    print(found.code)                      lines to paste: the optimiser, and the same start on your own copy
    model, optimizer = found.model, found.optimizer(found.model.parameters())

The causes that need no trial (`causes`) come first. If one is sure, only the user can mend it, and
nothing is searched; nor if another one in the data, the wiring or the output was found, and the
training stays. Else `gersgorin.checking.search` looks for a start.
"""

import inspect
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import monotonic
from typing import Any, Unpack

import torch
from matplotlib.axes import Axes
from torch import Tensor, nn
from torch.optim import Optimizer

from gersgorin._validate import random_numbers_kept, users_errors, with_gradients
from gersgorin.checking.causes.case import Case
from gersgorin.checking.causes.cause import Cause
from gersgorin.checking.causes.data import scales
from gersgorin.checking.causes.diagnosis import before
from gersgorin.checking.causes.pairing import UNEXPLAINED, explained, mispaired
from gersgorin.checking.reach import Reach
from gersgorin.checking.search import TRAINS, Attempt, Plan, Search
from gersgorin.checking.starts import GIVEN, MEANINGS, NEEDED, OUTPUT_BIAS, Start, filled
from gersgorin.linalg.spectrum import one_thread
from gersgorin.training.losses import Loss
from gersgorin.training.optimizer import times
from gersgorin.training.training import Training, TrainingOptions, check_limits
from rhn.errors import InvalidInputError
from rhn.plotting.figure import DASHED, ink, line_style, panels
from rhn.utils.figures import MARKERS
from rhn.utils.io import finite_json
from rhn.utils.keywords import keywords_of
from rhn.utils.result import FIRST, Result, fitted, rows_of
from rhn.utils.wording import counted, rounded_up, table

STEPS, SECONDS = 3000, 60.0
LEAVES = f"below {TRAINS}"
REPAIRS = (
    "gersgorin.check tries the training without weight decay, dropout or clipping, and "
    "with other scales and fewer layers."
)
OTHERS = "Whether that holds for other examples, gersgorin.check measures."
LEGEND = (
    "loss: mean over the last minibatches, relative to that of the best constant output; "
    f"{LEAVES}: the step from which it is that "
    "low; held-out data are not used"
)
FINDINGS = {  # outcomes in the title of a figure
    "healthy": "trains as it is",
    "cured": "the ringed trial trains, in two orders of the minibatches",
    "seen once": "the ringed trial trains, in the one order of the minibatches that was tried",
    "untested": "the ringed trial is the best guess, and was not run for a whole training",
    "none helped": "no start and no learning rate that was tried trains",
    "not searched": "its causes are none that another start removes",
}
UNTESTED = "# not tested: the search had no time for a whole training with it"
COMPILED = (
    "model = model._orig_mod  # which torch.compile wraps: compile it again after these lines"
)
CLIPPING = "# torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)"


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Cure(Result):
    """Result of `cure`."""

    model: nn.Module
    """A copy of the model that was given, with the start that helps."""
    learning_rate: float
    """Of the first group of parameters whose rate is not 0; with a scheduler its initial_lr."""
    clip_norm: float | None
    """As given."""
    code: str
    """Lines that make the optimiser and change `model` as `self.model` was changed; empty if
    nothing is changed.
    """
    outcome: str
    """ "healthy", "cured", "seen once" (it left, and there was no time, or no other order of
    minibatches, to see it again), "untested", "none helped" (or only worse ones were tried before
    the time ran out) or "not searched" (`causes` that only the user can mend).
    """
    causes: tuple[Cause, ...]
    """In the data, the wiring or the output, found before the search."""
    explained: float | None
    """Share of the targets of left-out examples that a kernel regression explains; None: not
    measured.
    """
    attempts: tuple[Attempt, ...]
    """The longest trial of each start and training, the best first."""
    given: Attempt
    chosen: Attempt
    reach: Reach | None
    """Which steps the gradient of the given start sees; None: not measured."""
    steps: int
    """Length of the training."""
    seconds: float
    """That the search took."""
    needed_seconds: float | None
    """Of a search that decides; None if this one has decided, or if there is one order of
    minibatches.
    """
    loop: Training

    @property
    def changed(self) -> bool:
        """True if anything differs from what was given."""
        return self.chosen.plan != self.given.plan

    def optimizer(self, parameters: Iterable[Tensor]) -> Optimizer:
        """The given optimiser with the learning rate that helps and an empty state, on the
        parameters of a copy of the model.

        Raises InvalidInputError for other parameters.
        """
        theirs, own = list(parameters), dict(self.loop.model.named_parameters())
        if [p.shape for p in theirs] != [p.shape for p in own.values()]:
            raise InvalidInputError(
                "these are not the parameters of a copy of the model: expected "
                "found.model.parameters()"
            )
        return self.loop.copied(
            self.loop.model, dict(zip(own, theirs, strict=True)), self.chosen.plan.factor
        )

    @property
    def verdict(self) -> str:
        """A few sentences: the causes, what the gradient of the given start sees, if it is little,
        and what helps.
        """
        warning = (
            self.reach.warning
            if self.reach and self.given.outcome not in ("leaves", "falls slightly")
            else ""
        )
        data = (
            UNEXPLAINED
            if self.explained == 0 and self.outcome in ("none helped", "untested")
            else ""
        )
        return " ".join(filter(None, (*map(str, self.causes), warning, self._found(), data)))

    def _found(self) -> str:
        """The finding, in a sentence or two."""
        of = (
            f"times the loss of the best constant output after {counted(self.chosen.steps, 'step')}"
        )
        once = f"Seen once; to confirm, {self._enough}." * (self.outcome == "seen once")
        if self.outcome == "not searched":
            own = f" As it is: {self.given.loss:.3g} {of}." * bool(self.given.steps)
            return (
                f"No initial weights or learning rate can repair that, so there was no search.{own}"
            )
        if not self.changed and self.given.leaves:
            own = (
                f"It learns its examples as it is: {self.given.loss:.3g} {of}; nothing is changed."
            )
            return f"{own} {OTHERS} {once}".strip()
        tried = [a.steps for a in self.attempts if a.steps and a.plan != self.given.plan]
        most = " The loss falls slightly as it is: there may be no more to learn." * (
            self.given.outcome == "falls slightly"
        )
        if self.outcome == "none helped":
            up_to, short = (
                f"up to {counted(max(tried, default=0), 'step')}",
                self.needed_seconds is not None,
            )
            where = (
                f"in the steps that there was time for ({up_to})"
                if short
                else f"in trials of {up_to}"
            )
            decide = f" To decide, {self._enough}." * short
            own = f"as it is: {self.given.loss:.3g} {of}. {REPAIRS}{most}"
            return f"None of {counted(len(tried), 'change')} helped, {where}; {own}{decide}"
        if self.outcome == "untested":
            own = f"{counted(self.given.steps, 'step')} of the training as it is"
            more = f" and trials of {counted(len(tried), 'change')}" * bool(tried)
            change = self._change[:1].lower() + self._change[1:]
            return (
                f"The time ran out after {own}{more}.{most} Untested: {change}; to decide, "
                f"{self._enough}."
            )
        before = (
            f"diverged at step {self.given.diverged:.0f}"
            if self.given.diverged < math.inf
            else f"{self.given.loss:.3g}"
        )
        better = f"{self._change}: {self.chosen.loss:.3g} {of}, {before} before."
        if (first := self.chosen.before) is None:
            return f"{better} {OTHERS} {once}".strip()
        again = (
            f"In another order of minibatches: {first.loss:.3g} after "
            f"{counted(first.steps, 'step')}."
        )
        return f"{better} {again} {OTHERS}"

    @property
    def _enough(self) -> str:
        """The seconds that decide, or the order that is missing."""
        if self.needed_seconds is None:
            return "shuffle: the DataLoader gives only one order of minibatches"
        return f"give seconds={rounded_up(self.needed_seconds)}"

    @property
    def _change(self) -> str:
        """The changes as a sentence."""
        *first, last = self.changes
        text = f"{', '.join(first)}, and {last}" if first else last
        return text[:1].upper() + text[1:] + " alone" * (not self.chosen.plan.start.code)

    @property
    def changes(self) -> list[str]:
        """In words; `summary` says what each start is."""
        chosen, scheduler = self.chosen.plan, self.loop.scheduler
        words = [chosen.start.words] if chosen.start.code else []
        if chosen.factor != 1:
            name = (
                "a learning rate"
                if scheduler is None
                else f"an initial_lr (of {type(scheduler).__name__})"
            )
            words.append(f"{name} of {self.learning_rate:.3g}")
        return words

    def table(self) -> list[dict]:
        """One row an attempt, for `pandas.DataFrame`: start, learning rate, steps of its trial,
        outcome, relative loss, step of leaving and of divergence; `summary` prints the best of
        them.
        """
        rate, every = self.loop.learning_rate, self.attempts
        return rows_of(
            start=[a.plan.start.words for a in every],
            learning_rate=[times(rate, a.plan.factor) for a in every],
            steps=[a.steps for a in every],
            outcome=[a.outcome for a in every],
            loss=[a.loss for a in every],
            left=[a.left for a in every],
            diverged=[a.diverged for a in every],
        )

    def _row(self, a: Attempt) -> tuple:
        """Of the table in the summary."""
        start = a.plan.start.words, f"{a.plan.factor * self.loop.learning_rate:.2g}"
        if not a.steps:
            return *start, "-", "-", "not tried"
        ends = f"diverges at {a.diverged:.0f}" if a.diverged < math.inf else "no"
        return *start, a.steps, f"{a.loss:.3g}", f"at {a.left:.0f}" if a.leaves else ends

    @panels(6.4, 3.4, lambda cure: f"{cure.title}: {FINDINGS[cure.outcome]}")
    def plot(self, ax=None) -> Axes:
        """Loss at the end of each trial over its learning rate, a line a start; the cure is
        ringed.
        """
        rate, tried = (
            self.loop.learning_rate,
            [a for a in self.attempts if a.steps and a.loss < math.inf],
        )
        for k, words in enumerate(dict.fromkeys(a.plan.start.words for a in tried)):
            points = sorted(
                (a.plan.factor * rate, a.loss) for a in tried if a.plan.start.words == words
            )
            ax.plot(
                *zip(*points, strict=True),
                marker=MARKERS[k % len(MARKERS)],
                label=words,
                **line_style(k),
            )
        if self.chosen in tried:
            ax.plot(
                self.learning_rate,
                self.chosen.loss,
                "o",
                ms=14,
                mfc="none",
                color=ink(ax),
                label="chosen",
            )
        ax.axhline(
            TRAINS, **DASHED | {"color": ink(ax)}, linewidth=0.8, label=f"trains: below {TRAINS}"
        )
        ax.set(
            xscale="log",
            yscale="log",
            xlabel="learning rate",
            ylabel="loss / that of a constant output",
        )
        return ax

    def to_json(self) -> dict:
        """All numbers for JSON; None if not finite."""
        names = (
            "verdict",
            "outcome",
            "changes",
            "learning_rate",
            "clip_norm",
            "code",
            "seconds",
            "needed_seconds",
        )
        content = {name: getattr(self, name) for name in names} | {
            "causes": [vars(cause) for cause in self.causes]
        }
        return finite_json(content | {"attempts": self.table()})

    _saved = to_json

    def __repr__(self) -> str:
        """The whole summary, so that its code can be pasted."""
        code = self.code.rstrip()
        return f"{self.title}\n{fitted(self.summary(whole=False).removesuffix(code))}{code}"

    def summary(self, *, whole: bool = True) -> str:
        """The verdict, what each change does by itself, the meaning of the starts, and the lines to
        paste.
        """
        every = sorted(self.attempts, key=lambda a: (not a.steps, a.plan != self.given.plan))
        shown = every if whole else every[:FIRST]
        rows = map(self._row, shown)
        lines = [
            self.verdict,
            "",
            table(("start", "rate", "steps", "loss", LEAVES), rows, left=(LEAVES,)),
        ]
        if more := every[len(shown) :]:
            untried = sum(not a.steps for a in more)
            lines.append(
                f"and {len(more)} more" + f", of which {untried} were not tried" * bool(untried)
            )
        lines.append(LEGEND)
        starts = ", ".join(a.plan.start.words for a in shown)
        lines += [f"{name}: {meaning}" for name, meaning in MEANINGS.items() if name in starts]
        if any(a.plan.start.sets_bias for a in shown):
            lines.append(f"Every start except the given weights also sets the {OUTPUT_BIAS}.")
        return "\n".join(lines) + f"\n\n{self.code}".rstrip()


def code_of(loop: Training, plan: Plan) -> str:
    """Lines to paste before a training: the start of a plan, its optimiser, and the norm for
    clipping.
    """
    code = plan.start.code
    lines = [NEEDED, *[COMPILED] * loop.compiled, *_optimizer_lines(loop, plan.factor)]
    if loop.scheduler is not None:
        own_rates = isinstance(
            loop.scheduler, torch.optim.lr_scheduler.OneCycleLR | torch.optim.lr_scheduler.CyclicLR
        )
        with_what = f"its rates times {plan.factor:.6g}" if own_rates else "this optimiser"
        lines.append(f"# then make the scheduler again, with {with_what}")
    if loop.clip_norm is not None:
        lines += [f"clip_norm = {loop.clip_norm:g}  # after each loss.backward():", CLIPPING]
    return "\n".join([*lines, code])  # last: its lines may be many


def _optimizer_lines(loop: Training, factor: float) -> list[str]:
    """Lines that make the optimiser of a plan, or that change the user's own, if it has several
    groups or parts of the model.
    """
    optimizer, trained = (
        loop.optimizer,
        sum(len(group["params"]) for group in loop.optimizer.param_groups),
    )
    simple = len(optimizer.param_groups) == 1 and trained == len(list(loop.model.parameters()))
    if not simple or getattr(torch.optim, type(optimizer).__name__, None) is not type(optimizer):
        return [
            "# learning rates of the groups of your own optimiser",
            filled(f"rates = {[times(rate, factor) for rate in loop.rates]}"),
            "for group, rate in zip(optimizer.param_groups, rates):",
            '    group["lr"] = group["initial_lr"] = rate',
        ]
    usual = {name: p.default for name, p in inspect.signature(type(optimizer)).parameters.items()}
    group = optimizer.param_groups[0]
    others = {
        name: value
        for name, value in group.items()
        if name in usual and name not in ("params", "lr")
    }
    options = {"lr": times(loop.rates[0], factor)} | {
        n: v for n, v in others.items() if v != usual[n]
    }
    given = ", ".join(f"{name}={value!r}" for name, value in options.items())
    made = filled(
        f"optimizer = torch.optim.{type(optimizer).__name__}(model.parameters(), {given})"
    )
    return ["# in place of your own optimizer:", made]


@keywords_of(Training, without=("loading_seconds",))
@users_errors()
@one_thread()
def cure(
    model: nn.Module,
    x: Any,
    y: Any = None,
    loss_fn: str | Loss = "mse",
    optimizer: str | Optimizer = "adam",
    *,
    steps: int = STEPS,
    seconds: float = SECONDS,
    name: str | None = None,
    seed: int = 0,
    progress: Callable[[str], None] = lambda doing: None,
    **parts: Unpack[TrainingOptions],
) -> Cure:
    """Find initial weights (a start) and a learning rate with which the training loss falls below
    0.9 of the best constant output's.

    Only training losses count: held-out data show whether a network memorises its examples.

    Args:
        model, x, y, loss_fn, optimizer, parts, name, seed, progress: as for `gersgorin.check`.
        steps: length of the training.
        seconds: most time of the trials, which usually take about ten trainings, or less; a few
            passes of each start come in addition.

    Returns:
        A `gersgorin.results.Cure`: `model`, `learning_rate`, `clip_norm`, `optimizer(parameters)`,
        `code`, `table()`, `summary()`. What was given is not changed.

    Raises:
        InvalidInputError or DataError: as for `check`.
    """
    begun = monotonic()
    check_limits(steps, seconds, seed)
    if optimizer is None:
        raise InvalidInputError(
            "optimizer is missing: expected cure(model, x, y, loss_fn, optimizer)"
        )
    loop = Training(model, x, y, loss_fn, optimizer, loading_seconds=seconds / 4, **parts)
    title = name or type(model).__name__
    return loop.with_positive_loss(
        lambda loop: _cure_training(loop, title, steps, begun, seconds, seed, progress)
    )


def _cure_training(
    loop: Training,
    title: str,
    steps: int,
    begun: float,
    seconds: float,
    seed: int,
    progress: Callable[[str], None],
) -> Cure:
    """Find the causes that only the user can mend, or else search until some seconds after a moment
    of time.
    """
    with random_numbers_kept(loop.model), with_gradients():
        case = Case(loop, steps)
        found = before(case)[0]
        every, shares = [cause for row, cause in found if not row.risk], dict[int, float]()
        if not any(cause.sure for cause in every):
            shares = explained(case, [])
            every += mispaired(case, shares, [])
        mendable = lambda c: c.name == "constant output" and not c.evidence["one_unit"]  # noqa: E731 - by a start
        causes = tuple(
            sorted(
                (cause for cause in every if not mendable(cause)), key=lambda cause: not cause.sure
            )
        )
        search = (
            None
            if any(cause.sure for cause in causes)
            else Search(loop, steps, begun + seconds, seed, progress)
        )
        given = Attempt(Plan(Start(GIVEN)))
        chosen, outcome = search.run(anything=not causes) if search else (given, "not searched")
        changed = chosen.plan.start.applied(loop.model)
    if outcome in ("none helped", "untested"):
        risks = {cause.name: cause for row, cause in found if row.risk}
        tiny = {name: cause for name, cause in scales(case).items() if name == "input scale"}
        causes += tuple((tiny | risks).values())
    attempts = (search.attempts if search else {}) | {chosen.plan: chosen}
    given = attempts[given.plan]
    others = (a for a in attempts.values() if a.plan != chosen.plan)
    # with more seconds
    decides = search and (search.ran_out or (outcome == "seen once" and not search.one_order))
    code = code_of(loop, chosen.plan) if chosen.plan != given.plan else ""
    return Cure(
        title=title,
        model=changed,
        learning_rate=times(loop.learning_rate, chosen.plan.factor),
        clip_norm=loop.clip_norm,
        code=f"{UNTESTED}\n{code}" if outcome == "untested" and code else code,
        outcome=outcome,
        causes=causes,
        explained=shares.get(0),
        attempts=(
            chosen,
            *sorted(others, key=lambda a: (not a.leaves, a.loss if a.steps else math.inf)),
        ),
        given=given,
        chosen=chosen,
        reach=search.reaches.get(given.plan.start) if search else None,
        steps=steps,
        seconds=monotonic() - begun,
        needed_seconds=search.needed_seconds if search and decides else None,
        loop=loop,
    )
