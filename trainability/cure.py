"""`cure`: find initial weights and a learning rate with which a network learns, and confirm them.

    found = cure(model, x, y, loss_fn, optimizer, steps=3000)
    print(found)                       # what helps, and how much
    print(found.code)                  # lines to paste: the optimiser, and the same weights
    model, optimizer = found.model, found.optimizer(found.model.parameters())

How it searches:

1. Facts about one minibatch. A certain one ends the search: only the user can repair it.
2. The training as given. If it learns well, also in two other orders, it is kept.
3. Initial weights (`trainability.starts`), the best first: those from which the gradient reaches
   the beginning of a sequence most evenly.
4. A race of the best of them at several learning rates, on the same minibatches. After each rung
   the better half goes on: those that learn by their error on held-out examples, those that do not
   yet by the gradient that they have now.
5. The best one as a whole training in two other orders of the minibatches. If it fails there, the
   next one.
"""

import inspect
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from gersgorin._validate import random_numbers_kept, uncompiled, with_gradients
from gersgorin.linalg.spectrum import one_thread
from rhn.errors import InvalidInputError
from rhn.utils.keywords import keywords_of
from rhn.utils.validation import check_seed
from trainability.data import WHOLE, Batches
from trainability.diagnosis import Attempt, Cure
from trainability.facts import facts
from trainability.losses import score_of
from trainability.probe import Probe
from trainability.race import GOOD, UNCHANGED, Race, Row, Version
from trainability.signal import Reach, measure_reach
from trainability.starts import GIVEN, OUTPUT_BIAS, Change, Start, filled, starts
from trainability.training import Training, above_zero, as_training, name_of, times

CHANGED = "trains after the change"  # the outcome of a search that succeeds
HELPS = 0.7  # of the error of a training that learns: a change must come to it
MOST_OF_IT = 0.75  # of the largest gain: the smallest change that brings it is chosen
FOR_GIVEN = 0.3  # of the time, for the training as given
LEARNS = 0.9  # error to which a change must bring a training that learns nothing
BEST = 3  # initial weights in the race, beside the given ones
RUNGS = 6  # of the race: at 1/32, 1/16, ... and all of the steps
SHARE = (1 + (RUNGS - 1) / 2) / 2 ** (RUNGS - 1)  # of a training that a trial costs on average
ADAM = 1e-3, 1e-4, 1e-2, 3e-4, 3e-3  # usual learning rates
AROUND = 1.0, 0.1, 10.0  # factors on the given one
OF_SGD = *AROUND, 0.01, 100.0  # of an optimiser that does not divide by the gradient's size
APART = 1.4  # factor between two learning rates that are both worth a trial
ORDERS = 1, 2  # of the minibatches, beside the first one, in which the best is confirmed
FEWEST = 8  # trials of a race


class Search:
    """The trials that were made, and the choice between them.

    Args:
        training: as given.
        end: moment of time by which the search ends.
        seed: of the order of the minibatches; the next two confirm.
        progress: called with a description of each part.
    """

    def __init__(self, training: Training, end: float, seed: int, progress: Callable[[str], None]):
        self.training, self.end, self.seed, self.progress = training, end, seed, progress
        self.given = Attempt(Change(Start(GIVEN)), Row(UNCHANGED, training.copy()))
        self.trials = [self.given]
        self.reach: Reach | None = None
        self.ran_out, self.needed_seconds = False, 0.0
        self.one_order = isinstance(training.data, Batches) and not training.data.shuffles
        self.probe = Probe(training)
        _ = self.probe.loss  # whatever a model or a loss raises at once names that call
        now = time.monotonic()
        self.causes, _ = facts(self.probe, now + (end - now) / 2)

    def run(self) -> tuple[Attempt, str]:
        """(The choice, the outcome). Raises InvalidInputError if the training cannot run."""
        given = self.given
        if self.causes and self.causes[0].sure:
            return given, "not searched"
        self._prepare()
        self._train_given()
        if given.row.error <= GOOD and (outcome := self._confirmed(given)):
            return given, "without a fault" if outcome == CHANGED else outcome
        self._run_race()
        for trial in self._helping():
            if outcome := self._confirmed(trial):
                return trial, outcome
        if self._learns_as_given and (outcome := self._confirmed(given)):
            return given, "without a fault" if outcome == CHANGED else outcome
        return given, "none helped"

    def _prepare(self) -> None:
        """Choose how outputs are scored."""
        data, loss = self.training.data, self.training.loss
        self.pairs = data.held_out or [data.sample(WHOLE)]
        output = self.probe.evaluated(self.pairs[0][0])
        scores = {"error": score_of(loss, output, self.pairs, self.probe.target_axis)}
        self.race = Race(scores, self.pairs, seed=self.seed, progress=self.progress)

    def _row(self, change: Change, order: int = 0) -> Row:
        """A new row of the race for a change, in an order of the minibatches."""
        words = change.words(self.training)
        return Row(Version(what=words), change.applied(self.training), order)

    def _train_given(self) -> None:
        """The training as given; as many steps as there is time for are those of all others."""
        row, steps, begun = self.given.row, self.training.steps, time.monotonic()
        self.steps = steps
        self._whole(row, begun + FOR_GIVEN * (self.end - begun))
        if row.problem:
            raise InvalidInputError(row.problem)
        self.step_seconds = (time.monotonic() - begun) / max(1, row.steps)
        self.needed_seconds = self.step_seconds * steps / FOR_GIVEN
        if row.exploded is None and row.steps < steps:
            self.steps, self.ran_out = max(1, row.steps), True

    def _whole(self, row: Row, end: float) -> None:
        """A whole training, measured at each rung."""
        self.progress(row.what)
        for goal in rungs(self.steps):
            if row.exploded is None:
                self.race.train(row, goal, end)

    def _changes(self) -> list[Change]:
        """The changes to try: the given and the best other initial weights, the likeliest first."""
        best = [self.given.change.start, *self._ranked_starts()[:BEST]]
        rates = list(changes_of_rate(self.training))
        changes = [Change(start, factor, adam) for factor, adam in rates for start in best]
        return [change for change in changes if change != self.given.change]

    def _ranked_starts(self) -> list[Start]:
        """All other initial weights, those with the most even gradient first.

        Those follow that see less than half of a sequence, and the output bias by itself.
        """
        self.progress("the gradient by lag from each choice of initial weights")
        every = list(starts(self.training))
        reaches = [measure_reach(Change(start).applied(self.training)) for start in every]
        self.reach = reaches[0]
        ranks = [
            (start.words == OUTPUT_BIAS, *rank(reach))
            for start, reach in zip(every, reaches, strict=True)
        ]
        places = sorted(range(1, len(every)), key=ranks.__getitem__)
        return [every[place] for place in places]

    def _run_race(self) -> None:
        """Halve the trials of all changes over the rungs; those that have learned well wait."""
        changes = self._changes()
        needed = (SHARE * len(changes) + len(ORDERS)) / (1 - FOR_GIVEN)
        needed *= self.step_seconds * self.training.steps
        self.needed_seconds = max(self.needed_seconds, needed)
        left = (self.end - time.monotonic()) / (self.step_seconds * self.steps) - len(ORDERS)
        changes = changes[: max(FEWEST, int(left / SHARE))]
        alive = [Attempt(change, self._row(change), k) for k, change in enumerate(changes)]
        self.trials += alive
        for goal in rungs(self.steps):
            for trial in alive:
                if trial.row.error > GOOD:
                    self.progress(trial.row.what)
                    self.race.train(trial.row, goal, self.end)
            if time.monotonic() >= self.end:
                self.ran_out = True
                return
            alive = self._better_half([trial for trial in alive if trial.row.exploded is None])

    def _better_half(self, alive: list[Attempt]) -> list[Attempt]:
        """The better half of some trials, and the best one that keeps the given weights."""
        for trial in alive:
            trial.learns = self.race.beats_constant(trial.row)
            if not trial.learns and trial.row.training is not None:
                trial.reach = measure_reach(trial.row.training)
        alive = sorted(alive, key=rank_of)
        better = alive[: math.ceil(len(alive) / 2)]
        same = [trial for trial in alive if not trial.change.start.code]
        better += [trial for trial in same[:1] if trial not in better]
        for trial in alive:
            if trial not in better:
                trial.row.training, trial.row.stream = None, None  # to free their memory
        return better

    def _helping(self) -> list[Attempt]:
        """The trials that help, the best choice first: of about equal gains the smallest change."""
        found, left = list[Attempt](), [t for t in self.trials[1:] if self._is_sound(t, t.row)]
        while left:
            worst = min(1.0, self.given.row.error)
            most = max(worst - trial.row.error for trial in left)
            near = [trial for trial in left if worst - trial.row.error >= MOST_OF_IT * most]
            found.append(min(near, key=lambda trial: trial.change.size))
            left.remove(found[-1])
        return found

    def _confirmed(self, trial: Attempt) -> str:
        """Train a choice in other orders: CHANGED, "seen once", or "" if it fails there."""
        self._complete(trial)
        if not self._is_sound(trial, trial.row):
            return ""
        for order in () if self.one_order else ORDERS:
            row = self._row(trial.change, order)
            self._whole(row, self.end)
            if row.steps < self.steps and row.exploded is None:
                self.ran_out = True
                return "seen once"
            if not self._is_sound(trial, row):
                self._refuse(trial, row)
                return ""
            trial.others.append(row.error)
        return "seen once" if self.one_order or self.ran_out else CHANGED

    def _complete(self, trial: Attempt) -> None:
        """Bring a trial to the whole length, if there is time."""
        self.progress(f"in other orders: {trial.row.what}")
        if trial.row.steps == self.steps or time.monotonic() >= self.end:
            return
        if trial.row.training is None:  # it was dropped on the way
            trial.row = self._row(trial.change)
        self._whole(trial.row, self.end)

    def _refuse(self, trial: Attempt, failing: Row) -> None:
        """Compare changes with the order in which the training as given fails."""
        if trial is self.given:
            trial.row, trial.others = failing, []

    def _is_sound(self, trial: Attempt, row: Row) -> bool:
        """True if a training learns; if it learns as given, a change must do far better."""
        given = self.given.row
        if row.exploded is not None:
            return False
        if trial is self.given:
            return self.race.beats_constant(row)
        mean, deviation = self.race.difference(given, row)
        enough = HELPS * given.error if self._learns_as_given else LEARNS
        return row.error <= enough and mean >= 2 * deviation

    @property
    def _learns_as_given(self) -> bool:
        return self.race.beats_constant(self.given.row)


def rungs(steps: int, count: int = RUNGS) -> list[int]:
    """The numbers of steps after which rows are compared, the last one all of them.

    >>> rungs(1000, 4), rungs(3, 4)
    ([125, 250, 500, 1000], [1, 3])
    """
    return sorted({max(1, steps >> k) for k in range(count)})


def rank_of(trial: Attempt) -> tuple[float, ...]:
    """For a sort: by error, or by the gradient as long as it learns nothing."""
    if trial.learns:
        return (0, max(trial.row.error, GOOD), *trial.change.size)
    return (1, *rank(trial.reach), trial.place)


def rank(reach: Reach | None) -> tuple[float, ...]:
    """For a sort: gradients that see a sequence first, then the most even ones, by powers of e."""
    if reach is None:
        return (0, 0)
    evenness = reach.unevenness
    return (reach.blind or reach.explodes, round(evenness) if evenness < math.inf else evenness)


def changes_of_rate(training: Training) -> Iterator[tuple[float, float | None]]:
    """Yield (factor on the learning rates, learning rate of Adam in place of the optimiser)."""
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

    Args:
        model, x, y, loss_fn, optimizer: of the training, see `Training`; parts: its further
            arguments. A `Training` in place of the model has all of them.
        steps: length of the training; None: 3000, or that of a `Training`.
        seconds: most time of the search, which takes about seven trainings.
        name: title of the network; None: its class.
        seed: of the order of the minibatches; the next two confirm.
        progress: called with a description of each trial.

    Returns:
        A `Cure`. What was given is not changed.

    Raises:
        InvalidInputError or DataError: these parts do not make a training; the message says which.

    >>> _ = torch.manual_seed(0)
    >>> model, x = nn.Sequential(nn.Flatten(), nn.Linear(6, 1)), torch.randn(200, 2, 3)
    >>> y, sgd = x.sum((1, 2))[:, None], torch.optim.SGD(model.parameters(), 1e-3)
    >>> found = cure(model, x, y, nn.MSELoss(), sgd, steps=60)
    >>> found.outcome, found.before > 0.9 > found.error
    ('trains after the change', True)
    """
    above_zero("seconds", seconds)
    seed = check_seed(seed)
    given_model = model.model if isinstance(model, Training) else model
    begun = time.monotonic()
    training = as_training(
        model, x, y, loss_fn, optimizer, steps=steps, loading_seconds=seconds / 4, **parts
    )
    with random_numbers_kept(training.model):
        search = Search(training, begun + seconds, seed, progress)
        chosen, outcome = search.run()
        changed = chosen.change.applied(training).model
    given, others = search.given, [t for t in search.trials if t is not search.given]
    others.sort(key=lambda t: (t is not chosen, t.row.error))
    code = "" if chosen is given else code_of(training, chosen.change, given_model)
    return Cure(
        title=name or name_of(model),
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
        steps=training.steps,
        seconds=time.monotonic() - begun,
        needed_seconds=search.needed_seconds if search.ran_out else None,
        training=training,
    )


def code_of(training: Training, change: Change, model: nn.Module) -> str:
    """Lines to paste behind the model: initial weights, the optimiser, and the clipping."""
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
    rates = training.rates(change.factor)
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
