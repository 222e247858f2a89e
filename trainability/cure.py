"""`cure`: find initial weights and a learning rate with which a network learns, and confirm them.

    found = cure(model, x, y, loss_fn, optimizer, steps=3000)
    print(found)                       # what helps, and how much
    print(found.code)                  # lines to paste: the optimiser, and the same weights
    model, optimizer = found.model, found.optimizer(found.model.parameters())

`trainability.search` says how it searches.
"""

import copy
import inspect
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.axes import Axes
from torch import Tensor, nn
from torch.optim import Optimizer

from gersgorin._validate import random_numbers_kept, uncompiled, with_gradients
from gersgorin.linalg.spectrum import one_thread
from rhn.errors import InvalidInputError
from rhn.plotting.figure import DASHED, ink, line_style, panels
from rhn.utils.figures import MARKERS
from rhn.utils.keywords import keywords_of
from rhn.utils.result import Result
from rhn.utils.validation import check_seed
from rhn.utils.wording import counted, rounded_up
from trainability.diagnosis import Cause
from trainability.reach import Reach
from trainability.search import Attempt, Change, Search
from trainability.starts import filled
from trainability.training import Training, above_zero, as_training, name_of, times

LARGEST = 1000.0  # error that is printed; larger ones are no number
SHOWN = 4  # rows of the text
COMPILED = "model = model._orig_mod  # which torch.compile wraps: compile it again afterwards"


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
    trials: tuple[Attempt, ...]
    """The training as given, then all others, the best first."""
    chosen: Attempt
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
        error = f"its error on held-out examples is {_number(self.error)} of a constant answer's"
        tried = counted(len([t for t in self.trials[1:] if t.row.measures]), "change")
        if self.outcome == "not searched":
            return f"{name} cannot learn: no initial weights or learning rate can repair that."
        if self.outcome == "none helped":
            return f"None of {tried} helps {name}: {after} {error}."
        orders = "in the one order that was seen"
        if self.outcome != "seen once":
            orders = "also in two other orders"
        if self.changed:
            return f"{name} learns with {self.changes}: {after} {error}, {orders}."
        better = f" None of {tried} does far better." if len(self.trials) > 1 else ""
        return f"{name} trains as it is: {after} {error}, {orders}.{better}"

    @property
    def shown(self) -> list[Attempt]:
        """The training as given, the one that is chosen, and the best of each other start."""
        first = [self.trials[0], self.chosen] if self.changed else [self.trials[0]]
        best: dict[str, Attempt] = {}
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
    """
    above_zero("seconds", seconds)
    check_seed(seed)
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
