"""`cure`: find initial weights and a learning rate with which a network learns, and confirm them.

    found = cure(model, x, y, loss_fn, optimizer, steps=3000)
    print(found)                       # what helps, and how much
    print(found.code)                  # lines to paste: the optimiser, and the same weights
    model, optimizer = found.model, found.optimizer(found.model.parameters())

1. Facts about one minibatch. A sure one ends the search: only the user can mend it.
2. The training as given. If it learns well, also in two other orders, it stays.
3. Starts (`trainability.starts`), the best first: those from which the gradient reaches the
   beginning of a sequence most evenly (`trainability.reach`).
4. A race of the best starts at several learning rates, on the same minibatches. After each rung the
   better half goes on: those that learn by their error on held-out examples, those that do not yet
   by the gradient that they have now.
5. The best one as a whole training in two other orders of the minibatches.
"""

import copy
import inspect
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from matplotlib.axes import Axes
from torch import Tensor, nn
from torch.optim import Optimizer

from gersgorin._validate import random_numbers_kept, uncompiled, with_gradients
from gersgorin.linalg.spectrum import one_thread
from gersgorin.training.optimizer import above_zero, times
from rhn.errors import InvalidInputError
from rhn.plotting.figure import DASHED, ink, line_style, panels
from rhn.utils.figures import MARKERS
from rhn.utils.result import Result
from rhn.utils.wording import counted, rounded_up
from trainability.cause import Cause
from trainability.check import helps, target_axis
from trainability.data import Batches
from trainability.facts import facts
from trainability.losses import Score, score_of
from trainability.probe import Probe
from trainability.race import GOOD, Race, Row
from trainability.reach import Reach, measure_reach
from trainability.starts import CHRONO, DEFAULT, GIVEN, OUTPUT_BIAS, Start, filled, starts
from trainability.swaps import WHOLE
from trainability.training import Training

TRAINS = 0.9  # error below which a training learns something
BEST = 3  # starts in the race, beside the given one
RUNGS = 6  # of the race: at 1/32, 1/16, ... and all of the steps
ADAM = 1e-3, 1e-4, 1e-2, 3e-4, 3e-3  # usual learning rates
AROUND = (
    1.0,
    0.1,
    10.0,
)  # factors on the given one, of optimisers that divide by the gradient's size
OF_SGD = *AROUND, 0.01, 100.0
APART = 1.4  # factor between two learning rates that are both worth a trial
ORDERS = 2  # other ones, in which the best is confirmed
FOR_GIVEN = 0.3  # of the time, for the training as given
FEWEST = 8  # trials of a race
MOST_OF_IT = 0.75  # of the largest gain: the smallest change that brings it is taken
SIMPLICITY = {GIVEN: 0, OUTPUT_BIAS: 1, DEFAULT: 1, CHRONO: 2}  # of starts; 3: matrices
LARGEST = 1000.0  # error that is printed; larger ones are no number
SHOWN = 4  # rows of the text
COMPILED = "model = model._orig_mod  # which torch.compile wraps: compile it again afterwards"


class ScaledScheduler:
    """A scheduler whose learning rates are multiplied by a factor; any kind of scheduler."""

    def __init__(self, scheduler: Any, optimizer: Optimizer, factor: float):
        self.scheduler, self.optimizer, self.factor = scheduler, optimizer, factor

    def step(self) -> None:
        """Step the scheduler at its own rates, then multiply them again."""
        for group in self.optimizer.param_groups:
            group["lr"] /= self.factor
        self.scheduler.step()
        for group in self.optimizer.param_groups:
            group["lr"] *= self.factor


@dataclass(frozen=True)
class Change:
    """A start and a learning rate."""

    start: Start
    factor: float = 1.0
    """On the learning rates that were given."""
    adam: float | None = None
    """Learning rate of Adam in place of the given optimiser; None: the given one."""

    def applied(self, training: Training) -> Training:
        """A changed copy of a training."""
        other = training.copy()
        self.start.apply(other.model)
        if self.adam is not None:
            other.optimizer = torch.optim.Adam(other.model.parameters(), self.adam)
            other.scheduler = None
        elif self.factor != 1:
            for group in other.optimizer.param_groups:
                group["lr"] = times(group["lr"], self.factor)
            if other.scheduler is not None:
                other.scheduler = ScaledScheduler(other.scheduler, other.optimizer, self.factor)
        return other

    def rate(self, training: Training) -> float:
        """The learning rate; with a scheduler that to which it is relative."""
        return self.adam or times(training.learning_rate, self.factor)

    def words(self, training: Training) -> str:
        """In words: "orthogonal matrices, learning rate 0.01"."""
        parts = [self.start.words] if self.start.code else []
        if self.adam is not None:
            parts.append(f"Adam {self.adam:.3g}")
        elif self.factor != 1:
            parts.append(f"learning rate {self.rate(training):.3g}")
        return ", ".join(parts) or "as given"

    @property
    def size(self) -> tuple[float, ...]:
        """How much it changes, for the choice of the smallest change."""
        return (
            SIMPLICITY.get(self.start.words, 3),
            self.adam is not None,
            abs(math.log(self.factor)),
        )


@dataclass
class Trial:
    """A change, its row in the race, and its errors in other orders of the minibatches."""

    change: Change
    row: Row
    place: int = 0
    """In the order of the starts and rates before the race."""
    reach: Reach | None = None
    """Of the gradient at its weights now."""
    others: list[float] = field(default_factory=list)
    """Errors in other orders."""


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Cure(Result):
    """Result of `cure`."""

    outcome: str
    """ "healthy" (it trains as it is), "cured", "seen once" (in one order of the minibatches: there
    was no time, or no other order), "none helped" or "not searched" (a cause that only the user can
    mend).
    """
    model: nn.Module
    """A copy of the model that was given, with the start that helps."""
    learning_rate: float
    """With a scheduler its initial_lr."""
    clip_norm: float | None
    """As given."""
    start: str
    """In words: "orthogonal matrices"."""
    code: str
    """Lines that make the optimiser and change `model` as `self.model` was changed; "" for none."""
    error: float
    """Of the chosen training on held-out examples: 0 perfect, 1 a constant answer."""
    before: float
    """Of the training as given."""
    causes: tuple[Cause, ...]
    """Facts about one minibatch, the surest first."""
    trials: tuple[Trial, ...]
    """The training as given, then all others, the best first."""
    chosen: Trial
    reach: Reach | None
    """Of the gradient at the given weights; None: not measured."""
    steps: int
    """Length of the training."""
    seconds: float
    """That the search took."""
    needed_seconds: float | None
    """Of a search that decides; None if this one has."""
    training: Training

    @property
    def changed(self) -> bool:
        """True if anything differs from what was given."""
        return self.chosen is not self.trials[0]

    @property
    def changes(self) -> str:
        """In words: "orthogonal matrices, learning rate 0.01"; "" for none."""
        return self.chosen.change.words(self.training) if self.changed else ""

    def optimizer(self, parameters: Iterable[Tensor]) -> Optimizer:
        """The optimiser that helps, with an empty state, on the parameters of a copy of the model.

        Raises InvalidInputError for other parameters.
        """
        theirs, own = list(parameters), list(self.training.model.parameters())
        if [p.shape for p in theirs] != [p.shape for p in own]:
            raise InvalidInputError(
                "these are not the parameters of a copy of the model: expected "
                "found.model.parameters()"
            )
        if self.chosen.change.adam is not None:
            return torch.optim.Adam(theirs, self.chosen.change.adam)
        given = self.training.optimizer
        memo: dict[int, Any] = {id(p): q for p, q in zip(own, theirs, strict=True)}
        memo[id(given.state)] = defaultdict(dict)
        fresh = copy.deepcopy(given, memo)
        for name in vars(given).keys() - vars(fresh).keys() - {"step"}:  # as of L-BFGS
            setattr(fresh, name, copy.deepcopy(getattr(given, name), memo))
        rates = rates_of(self.training, self.chosen.change.factor)
        for group, rate in zip(fresh.param_groups, rates, strict=True):
            group["lr"] = rate
            group.pop("initial_lr", None)  # which a new scheduler would take
        return fresh

    @property
    def verdict(self) -> str:
        """What was found, in a sentence or two."""
        name, after = self.title, f"after {counted(self.chosen.row.steps, 'step')}"
        was = f"its error on held-out examples is {_number(self.before)} of a constant answer's"
        if self.outcome == "not searched":
            return f"{name} cannot learn: no initial weights or learning rate can repair that."
        if self.outcome == "healthy":
            return f"{name} trains as it is: {after} {was}, also in two other orders."
        if not self.changed and self.outcome == "seen once":
            return f"{name} trains as it is: {after} {was}, in the one order that was seen."
        if not self.changed:
            tried = [t for t in self.trials[1:] if t.row.measures]
            return f"None of {counted(len(tried), 'change')} helps {name}: {after} {was}."
        orders = ", also in two other orders" if self.outcome == "cured" else ""
        return (
            f"{name} learns with {self.changes}: {after} its error on held-out examples is "
            f"{_number(self.error)} of a constant answer's{orders}."
        )

    @property
    def shown(self) -> list[Trial]:
        """The training as given, the one that is chosen, and the best of each other start."""
        first = [self.trials[0], self.chosen] if self.changed else [self.trials[0]]
        best: dict[str, Trial] = {}
        for trial in self.trials[1:]:
            if trial.row.measures and trial is not self.chosen:
                best.setdefault(trial.change.start.words, trial)
        return [*first, *best.values()][:SHOWN]

    def sentences(self) -> Iterator[str]:
        """The verdict, the best trials, the causes, and how to go on; at most twelve lines."""
        yield self.verdict
        if self.trials[0].row.measures:
            yield ""
            for trial in self.shown:
                words = trial.change.words(self.training)
                errors = " ".join(f"{_number(e):>6}" for e in (trial.row.error, *trial.others))
                yield f"  {words:<60}{errors}"
            yield ""
        for cause in self.causes[:1]:
            yield f"{cause.sentence} {cause.remedy}"
        if self.reach and self.reach.warning and self.outcome != "healthy":
            yield self.reach.warning
        if self.changed and self.chosen.change.start.code:
            yield f"{self.chosen.change.start.meaning}."
        if self.needed_seconds is not None:
            yield f"To decide, give seconds={rounded_up(self.needed_seconds)}."
        elif self.outcome == "seen once":
            yield "The DataLoader gives one order of minibatches: shuffle it to confirm."
        if self.code:
            yield "found.code has the lines to paste behind the model."

    def summary(self, *, whole: bool = True) -> str:
        """The sentences; whole: with the lines to paste."""
        code = f"\n\n{self.code}".rstrip() if whole else ""
        return "\n".join(self.sentences()) + code

    def __repr__(self) -> str:
        return self.summary(whole=False)

    def table(self) -> list[dict[str, Any]]:
        """One row for each trial: start, optimiser, steps, error, and errors in other orders."""
        given = type(self.training.optimizer).__name__
        return [
            {
                "start": trial.change.start.words,
                "optimizer": given if trial.change.adam is None else "Adam",
                "learning_rate": trial.change.rate(self.training),
                "steps": trial.row.steps,
                "error": trial.row.error,
                "other_orders": " ".join(f"{error:.3g}" for error in trial.others),
            }
            for trial in self.trials
        ]

    def _saved(self) -> dict[str, Any]:
        names = ("title", "outcome", "changes", "start", "learning_rate", "clip_norm", "code")
        numbers = ("error", "before", "steps", "seconds", "needed_seconds", "verdict")
        saved = {name: getattr(self, name) for name in (*names, *numbers)}
        causes = [vars(cause) for cause in self.causes]
        return saved | {"causes": causes, "trials": self.table()}

    @panels(6.4, 3.4, "error of each start and learning rate")
    def plot(self, ax: Any = None) -> Axes:
        """Draw the error at the end of each trial over its learning rate, a line a start."""
        tried = [t for t in self.trials if t.row.error < LARGEST]
        for k, words in enumerate(dict.fromkeys(t.change.start.words for t in tried)):
            own = [t for t in tried if t.change.start.words == words]
            points = sorted((t.change.rate(self.training), t.row.error) for t in own)
            rates, errors = zip(*points, strict=True)
            mark = MARKERS[k % len(MARKERS)]
            ax.plot(rates, errors, marker=mark, label=words, **line_style(k))
        if self.changed:
            ringed = {"mfc": "none", "color": ink(ax), "label": "chosen"}
            ax.plot(self.learning_rate, self.error, "o", ms=14, **ringed)
        ax.axhline(1, **DASHED | {"color": ink(ax)}, linewidth=0.8, label="a constant answer")
        ax.set(xscale="log", xlabel="learning rate", ylabel="error (1: a constant answer)")
        return ax


def _number(error: float) -> str:
    """An error in a sentence."""
    return f"{error:.2f}" if error < LARGEST else "not a number"


def rates_of(training: Training, factor: float) -> list[float]:
    """The learning rates of the groups times a factor; with a scheduler those of its begin."""
    groups = training.optimizer.param_groups
    return [times(float(g.get("initial_lr") or g.get("lr", 0.0)), factor) for g in groups]


@one_thread()
@with_gradients()
def cure(
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
) -> Cure:
    """Find initial weights and a learning rate with which a network learns.

    Args:
        model, x, y, loss_fn, optimizer: of the training, see `Training`; parts: its further
            arguments.
        steps: length of the training.
        seconds: most time of the search, which takes about seven trainings.
        name: title of the network; None: its class.
        seed: of the order of the minibatches; the next two confirm.
        progress: called with a description of each trial.

    Returns:
        A `Cure`. What was given is not changed.

    Raises:
        InvalidInputError or DataError: these parts do not make a training; the message says which.
    """
    above_zero("seconds", seconds)
    begun = time.monotonic()
    training = Training(
        model, x, y, loss_fn, optimizer, steps=steps, loading_seconds=seconds / 4, **parts
    )
    with random_numbers_kept(training.model):
        search = Search(training, begun + seconds, seed, progress)
        chosen, outcome = search.run()
        changed = chosen.change.applied(training).model
    given, others = search.given, [t for t in search.trials if t is not search.given]
    others.sort(
        key=lambda t: (t is not chosen, -t.row.steps if t.row.error > GOOD else 0, t.row.error)
    )
    code = "" if chosen is given else code_of(training, chosen.change, model)
    return Cure(
        title=name or type(uncompiled(model)).__name__,
        outcome=outcome,
        model=changed,
        learning_rate=chosen.change.rate(training),
        clip_norm=training.clip_norm,
        start=chosen.change.start.words,
        code=code,
        error=chosen.row.error,
        before=given.row.error,
        causes=tuple(search.causes),
        trials=(given, *others),
        chosen=chosen,
        reach=search.reach,
        steps=steps,
        seconds=time.monotonic() - begun,
        needed_seconds=search.needed_seconds if search.ran_out else None,
        training=training,
    )


class Search:
    """The trials that were made, and the choice between them."""

    def __init__(self, training: Training, end: float, seed: int, progress: Callable[[str], None]):
        self.training, self.end, self.seed, self.progress = training, end, seed, progress
        self.given = Trial(Change(Start(GIVEN)), Row("", "as given", training.copy()))
        self.trials = [self.given]
        self.reach: Reach | None = None
        self.ran_out = False
        self.needed_seconds = 0.0
        self.one_order = isinstance(training.data, Batches) and not training.data.shuffles
        progress("facts")
        probe = Probe(training)
        _ = probe.loss  # whatever a model or a loss raises at once is a sentence about that call
        self.causes, _ = facts(probe)
        self.pairs = training.data.held_out or [training.data.sample(WHOLE)]
        if not self.is_hopeless:
            output = probe.evaluated(self.pairs[0][0])
            self.score = score_of(training.loss, output, self.pairs, target_axis(probe))
            self.race = self._race_in(seed)

    @property
    def is_hopeless(self) -> bool:
        """True if nothing can learn so, whatever the weights and the learning rate are."""
        return bool(self.causes) and self.causes[0].sure

    def _race_in(self, seed: int) -> Race:
        """A race in an order of the minibatches."""
        return Race({"error": self.score}, self.pairs, seed=seed, progress=self.progress)

    @property
    def late(self) -> bool:
        """True if the time is over."""
        return time.monotonic() >= self.end

    def run(self) -> tuple[Trial, str]:
        """(The choice, the outcome)."""
        given, steps = self.given, self.training.steps
        if self.is_hopeless:
            return given, "not searched"
        begun = time.monotonic()
        self._whole(self.race, given.row, steps, begun + FOR_GIVEN * (self.end - begun))
        if given.row.problem:
            raise InvalidInputError(given.row.problem)
        length = given.row.steps
        self.ran_out = length < steps and given.row.exploded is None
        step_seconds = (time.monotonic() - begun) / length
        whole, per_trial = step_seconds * steps, _share_of_a_trial()
        learns = given.row.exploded is None and given.row.error < TRAINS
        if learns and given.row.error <= GOOD and (said := self._confirmed(given, steps)):
            return given, "healthy" if said == "cured" else said
        changes = self._changes()
        self.needed_seconds = whole * (1 + per_trial * len(changes) + ORDERS) / (1 - FOR_GIVEN)
        length = steps if given.row.exploded is not None else length
        left = (self.end - time.monotonic()) / (step_seconds * length) - ORDERS
        self._run_race(changes[: max(FEWEST, int(left / per_trial))], length)
        for trial in self._helping():
            if said := self._confirmed(trial, length):
                return trial, said
        if learns and (said := self._confirmed(given, steps)):
            return given, "healthy" if said == "cured" else said
        return given, "none helped"

    def _row(self, change: Change) -> Row:
        """A new row of a race for a change."""
        return Row("", change.words(self.training), change.applied(self.training))

    def _whole(self, race: Race, row: Row, steps: int, end: float) -> None:
        """A whole training, measured at each rung."""
        self.progress(row.what)
        for goal in rungs(steps):
            if row.exploded is None:
                race.train(row, goal, end)

    def _changes(self) -> list[Change]:
        """The changes to try: the given start and the best others, the likeliest first."""
        every = self._ranked_starts()
        best = [self.given.change.start, *every[:BEST]]
        of_rates = list(_changes_of_rate(self.training))
        changes = [Change(start, factor, adam) for factor, adam in of_rates for start in best]
        return [change for change in changes if change != self.given.change]

    def _ranked_starts(self) -> list[Start]:
        """All starts but the given one, that with the most even gradient first.

        Those follow that see less than half of a sequence, and the output bias by itself.
        """
        self.progress("the gradient of each start by lag")
        ranked = []
        for place, start in enumerate(starts(self.training)):
            reach = measure_reach(Change(start).applied(self.training))
            if start.code:
                ranked.append(((start.words == OUTPUT_BIAS, *_rank(reach), place), start))
            else:
                self.reach = reach
        return [start for _, start in sorted(ranked, key=_first)]

    def _run_race(self, changes: list[Change], steps: int) -> None:
        """Halve the trials of changes over the rungs; those that have learned well wait."""
        for place, change in enumerate(changes):
            self.trials.append(Trial(change, self._row(change), place))
        alive = [trial for trial in self.trials if trial is not self.given]
        for goal in rungs(steps):
            for trial in alive:
                if trial.row.exploded is None and trial.row.error > GOOD:
                    self.progress(trial.row.what)
                    self.race.train(trial.row, goal, self.end)
            if self.late:
                self.ran_out = True
                return
            alive = self._better_half(alive, goal)

    def _better_half(self, alive: list[Trial], goal: int) -> list[Trial]:
        """The better half of some trials, and the best one that keeps the given weights."""
        alive = [trial for trial in alive if trial.row.exploded is None]
        for trial in alive:
            if trial.row.steps == goal and trial.row.training is not None:
                learned = learns(self.score, trial.row, self.pairs)
                trial.reach = None if learned else measure_reach(trial.row.training)
        alive.sort(key=self._rank)
        better = alive[: math.ceil(len(alive) / 2)]
        same = [trial for trial in alive if not trial.change.start.code]
        better += [trial for trial in same[:1] if trial not in better]
        for trial in alive:
            if trial not in better:
                trial.row.training, trial.row.stream = None, None  # frees its memory
        return better

    def _rank(self, trial: Trial) -> tuple[float, ...]:
        """For a sort: by error, or by the gradient while it learns nothing."""
        if learns(self.score, trial.row, self.pairs):
            return (0, max(trial.row.error, GOOD), *trial.change.size)
        return (1, *_rank(trial.reach), trial.place)

    def _helping(self) -> list[Trial]:
        """The trials that help, the best choice first: of about equal gains the smallest change."""
        gains = [
            (helps(self.race, self.given.row, trial.row), trial)
            for trial in self.trials
            if trial is not self.given and trial.row.exploded is None
        ]
        found, left = list[Trial](), [pair for pair in gains if pair[0] > 0]
        while left:
            most = max(gain for gain, _ in left)
            near = [pair for pair in left if pair[0] >= MOST_OF_IT * most]
            best = min(near, key=lambda pair: pair[1].change.size)
            found.append(best[1])
            left.remove(best)
        return found

    def _confirmed(self, trial: Trial, steps: int) -> str:
        """Train a choice in other orders: "cured", "seen once", or "" if it fails again."""
        self.progress(f"in other orders: {trial.row.what}")
        if trial.row.steps < steps and trial.row.exploded is None:
            if trial.row.training is None:  # it was dropped
                trial.row = self._row(trial.change)
            self._whole(self.race, trial.row, steps, self.end)
        if not self._is_sound(trial, trial.row):
            return ""
        for order in range(0 if self.one_order else ORDERS):
            row = self._row(trial.change)
            self._whole(self._race_in(self.seed + 1 + order), row, steps, self.end)
            if row.steps < steps and row.exploded is None:
                self.ran_out = True
                return "seen once"
            trial.others.append(row.error)
            if not self._is_sound(trial, row):
                return ""
        return "seen once" if self.one_order else "cured"

    def _is_sound(self, trial: Trial, row: Row) -> bool:
        """True if a training learns: as given below a constant answer, a change far better."""
        if row.exploded is not None:
            return False
        if trial is self.given:
            return row.error < TRAINS
        return helps(self.race, self.given.row, row) > 0


def rungs(steps: int) -> list[int]:
    """The numbers of steps after which trials are compared.

    >>> rungs(640)
    [20, 40, 80, 160, 320, 640]
    """
    return sorted({max(1, steps >> k) for k in range(RUNGS)})


def _share_of_a_trial() -> float:
    """The steps of a race for each of its trials, in trainings."""
    return (1 + (RUNGS - 1) / 2) / 2 ** (RUNGS - 1)


def _first(pair: tuple) -> Any:
    return pair[0]


def _rank(reach: Reach | None) -> tuple[float, ...]:
    """For a sort: gradients that see a sequence first, then the most even ones, by powers of e."""
    if reach is None:
        return (0, 0)
    unevenness = reach.unevenness
    return (
        reach.blind or reach.explodes,
        unevenness if math.isinf(unevenness) else round(unevenness),
    )


def _changes_of_rate(training: Training) -> Iterator[tuple[float, float | None]]:
    """Yield (factor on the learning rates, learning rate of Adam in their place)."""
    given = training.learning_rate
    if isinstance(training.optimizer, torch.optim.SGD):
        yield from ((factor, None) for factor in OF_SGD)
        yield from ((1.0, rate) for rate in ADAM[::2])
        return
    rates = list[float]()
    for rate in (given, *ADAM, *(times(given, factor) for factor in AROUND)):
        if all(max(rate / known, known / rate) >= APART for known in rates):
            rates.append(rate)
    yield from ((rate / given, None) for rate in rates)


def learns(score: Score, row: Row, pairs: list) -> bool:
    """True if the error of a row is below a constant answer's by two standard errors."""
    if not row.measures:
        return False
    errors = row.measures[-1].errors["error"]
    if score.constant is None:
        constant = torch.full_like(errors, score.size)
    else:
        constant = torch.cat([score.of_constant(y) for _, y in pairs])
    if constant.shape != errors.shape:
        constant = constant.mean().expand(errors.shape)
    d = (constant - errors) / score.size
    if len(d) < 2 or not torch.isfinite(d).all():
        return False
    return float(d.mean()) > 2 * float(d.std()) / math.sqrt(len(d))


def code_of(training: Training, change: Change, model: nn.Module) -> str:
    """Lines to paste behind the model: its start, the optimiser, and the clipping."""
    lines = [COMPILED] if uncompiled(model) is not model else []
    lines += [change.start.code.rstrip()] if change.start.code else []
    lines += _lines_of_optimizer(training, change)
    if training.scheduler is not None and change.adam is None:
        lines.append("# then make the scheduler again, with its own largest rates scaled alike")
    if training.clip_norm is not None:
        lines += [
            "# after each loss.backward():",
            f"# torch.nn.utils.clip_grad_norm_(model.parameters(), {training.clip_norm:g})",
        ]
    return "\n".join(lines) + "\n"


def _lines_of_optimizer(training: Training, change: Change) -> list[str]:
    """Lines that make the optimiser, or that change the rates of one with several groups."""
    optimizer, model = training.optimizer, training.model
    if change.adam is not None:
        made = f"optimizer = _torch.optim.Adam(model.parameters(), lr={change.adam:g})"
        return ["import torch as _torch", "# in place of your own optimizer:", made]
    rates = rates_of(training, change.factor)
    kind, held = type(optimizer), sum(len(g["params"]) for g in optimizer.param_groups)
    simple = len(optimizer.param_groups) == 1 and held == len(list(model.parameters()))
    if not simple or getattr(torch.optim, kind.__name__, None) is not kind:
        return [
            "# learning rates of the groups of your own optimizer",
            filled(f"_rates = {rates}"),
            "for _group, _rate in zip(optimizer.param_groups, _rates):",
            '    _group["lr"] = _group["initial_lr"] = _rate',
        ]
    usual = {name: p.default for name, p in inspect.signature(kind).parameters.items()}
    options: dict[str, Any] = {"lr": rates[0]}
    for name, value in optimizer.param_groups[0].items():
        if name in usual and name not in ("params", "lr") and value != usual[name]:
            options[name] = value
    given = ", ".join(f"{name}={value!r}" for name, value in options.items())
    made = filled(f"optimizer = _torch.optim.{kind.__name__}(model.parameters(), {given})")
    return ["import torch as _torch", "# in place of your own optimizer:", made]
