"""Results: a `Diagnosis`, with the part at fault and the rows that show it, and a `Cure`."""

import math
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from matplotlib.axes import Axes
from torch import Tensor, nn
from torch.optim import Optimizer

from rhn.errors import InvalidInputError
from rhn.plotting.figure import DASHED, finding_of, ink, line_style, panels
from rhn.utils.figures import GREY, MARKERS, RED
from rhn.utils.result import Result, fitted
from rhn.utils.wording import counted, rounded_up
from trainability.race import Row
from trainability.signal import Reach
from trainability.starts import Change
from trainability.training import Training, copy_of_optimizer


@dataclass(frozen=True)
class Cause:
    """One reason why a training does not learn, or learns less than it could."""

    name: str
    """Two or three words: "mixed examples"."""
    part: str
    """The part of the training at fault: "network"."""
    sentence: str
    """What was measured, with the number."""
    remedy: str
    """What to do, with a line to paste if one is enough."""
    sure: bool = False
    """Certain: nothing can learn so, or the training learns without it in three orders."""
    evidence: dict[str, Any] = field(default_factory=dict)
    """The numbers, by name."""


OUTCOMES = {name: name for name in ("learns", "learns little", "does not learn", "diverges")} | {
    "undecided": "is undecided"
}
SHOWN = 6  # rows on the screen
SHOWN_TRIALS = 4  # of a search
LARGEST = 1000.0  # error that is printed; larger ones are no number
LEAST = 1e-4  # error that is drawn


@dataclass(frozen=True)
class TableRow:
    """One version of the training, and how far it came."""

    part: str
    """The part that was changed; "" of the training as given."""
    what: str
    """The change in words: "inputs standardised"."""
    error: float
    """On held-out examples: 0 perfect, 1 the best constant answer."""
    steps: int
    standard_error: float
    """Of the difference to the training as given."""
    curve: tuple[tuple[int, float], ...] = field(default=(), repr=False)
    """(steps, error) at each measurement."""


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Diagnosis(Result):
    """Result of `check`.

    >>> given = TableRow("", "as given", 1.0, 50, 0.0)
    >>> scaled = TableRow("inputs", "inputs standardised", 0.1, 50, 0.02)
    >>> shown = {"part": "inputs", "swap": "inputs standardised", "rows": (given, scaled)}
    >>> found = Diagnosis(outcome="does not learn", error=1.0, **shown)
    >>> found.at_fault.what
    'inputs standardised'
    """

    outcome: str
    """ "learns", "learns little", "does not learn", "diverges" or "undecided"."""
    error: float = math.nan
    """On held-out examples after the training: 0 perfect, 1 a constant answer."""
    steps: int = 0
    """Of the training as given that were run."""
    of_steps: int = 0
    """Of the whole training."""
    seconds: float = 0.0
    """That the whole training takes, by those steps."""
    forecast: float | None = None
    """Step at which it explains half of the targets, where not all steps were run; None: it cannot
    be told."""
    orders: tuple[float, ...] = ()
    """Errors in each order of the minibatches that was tried; infinite: it exploded."""
    part: str | None = None
    """The part at fault; None: not known, or none."""
    swap: str = ""
    """The smallest change of this part that brings the error down: "inputs standardised"."""
    causes: tuple[Cause, ...] = ()
    """The first one explains the fault; empty for a training that learns."""
    facts: tuple[Cause, ...] = ()
    """What was found on one minibatch, also of a training that learns."""
    rows: tuple[TableRow, ...] = ()
    """The training as given, and every version of it."""
    left_out: tuple[str, ...] = ()
    """Versions that were not run, and why."""
    not_measured: tuple[str, ...] = ()
    """Facts that could not be measured, and why."""

    @property
    def verdict(self) -> str:
        """The outcome in one sentence."""
        if not self.rows:
            return f"{self.title} cannot learn as it is."
        if not self.steps:
            return f"{self.title} is undecided: the time was up before its first step."
        size = "not a number" if not self.error < LARGEST else f"{self.error:.2f} of a constant's"
        if self.outcome == "does not learn" and round(self.error, 2) < 1:
            size += ", which may be chance"
        after = counted(self.steps, "step")
        if self.steps < self.of_steps:
            after = f"{self.steps:,} of {counted(self.of_steps, 'step')}"
        orders = f" ({len(self.orders)} orders were tried)" if len(self.orders) > 1 else ""
        return (
            f"{self.title} {OUTCOMES[self.outcome]}: after {after} its error on held-out examples "
            f"is {size}{orders}."
        )

    @property
    def foreseen(self) -> str:
        """The forecast for a training whose steps were not all run; "" for any other."""
        if self.outcome != "undecided" or not 0 < self.steps < self.of_steps:
            return ""
        words = f"All its steps take about {counted(math.ceil(self.seconds), 'second')}"
        if self.forecast is None:
            return f"{words}; nothing grows yet by which its end could be told."
        if math.isinf(self.forecast):
            return f"{words}; what it explains of the targets does not grow."
        step = counted(round(self.forecast), "step")
        return f"{words}; by its growth it explains half of the targets after about {step}."

    @property
    def shown(self) -> list[TableRow]:
        """The training as given, and the best version of each part, six rows at most."""
        best: dict[str, TableRow] = {}
        for row in self.rows:
            if row.part not in best or row.error < best[row.part].error:
                best[row.part] = row
        if self.at_fault is not None:
            best[self.at_fault.part] = self.at_fault
        kept = {part for part in ("", self.part, "network", "everything") if part in best}
        others = sorted(best.keys() - kept, key=lambda part: best[part].error)
        most = SHOWN - 2 if self.foreseen else SHOWN
        kept |= set(others[: max(0, most - len(kept))])
        return [row for part, row in best.items() if part in kept]

    def _saved(self) -> dict[str, Any]:
        lists = ("causes", "facts", "rows")
        saved = super()._saved() | {
            name: [asdict(entry) for entry in getattr(self, name)] for name in lists
        }
        del saved["seconds"]  # of this machine at that moment
        return saved

    def _line(self, row: TableRow) -> str:
        """A row on the screen."""
        here = f"   <- the fault is in the {row.part}" if row == self.at_fault else ""
        error = f"{row.error:>8.2f}" if row.error < LARGEST else f"{'-':>8}"
        return f"  {row.what:<36}{error}{here}"

    def sentences(self) -> Iterator[str]:
        """The verdict, a line for each part, and the first cause with its remedy."""
        yield self.verdict
        if self.outcome != "learns" and self.steps:
            yield from ("", *map(self._line, self.shown), "")
        for cause in self.causes[:1]:
            yield cause.sentence + (" This is certain." if cause.sure and self.steps else "")
            yield cause.remedy
        if self.foreseen:
            yield self.foreseen
        elif self.rows and not self.causes and self.outcome in ("does not learn", "diverges"):
            yield "No single part clearly brings the error down by 30 %: look at several."
        if not self.causes and self.facts:
            yield f"Beside it: {self.facts[0].sentence}"

    def summary(self, *, whole: bool = False) -> str:
        """The sentences; whole: and the table."""
        return super().summary() if whole else "\n".join(self.sentences())

    def table(self) -> list[dict[str, Any]]:
        """One row for each version of the training."""
        names = ("part", "what", "error", "steps", "standard_error")
        return [{name: getattr(row, name) for name in names} for row in self.rows]

    @property
    def at_fault(self) -> TableRow | None:
        """The version that shows the part at fault; None if none does."""
        return next((row for row in self.rows if self.swap and row.what == self.swap), None)

    @property
    def finding(self) -> str:
        """The change that brings the error down, with the numbers, for the title of a figure."""
        row = self.at_fault
        if row is None:
            return f"{self.title} {OUTCOMES[self.outcome]}"
        falls = f"from {self.error:.2f} to" if self.error < LARGEST else "to"
        return f"With {row.what} the error falls {falls} {row.error:.2f}"

    @panels(6, 3.4, finding_of)
    def plot(self, ax: Any = None) -> Axes:
        """Draw the error over the steps: as given, the version that shows the fault, others grey.

        The limits are those of the first two. Without a training it is the first cause in words.
        """
        if any(row.curve for row in self.rows):
            self._draw_curves(ax)
        else:
            words = textwrap.fill(" ".join(filter(None, self.sentences())), 40)
            ax.text(0.5, 0.5, words, ha="center", va="center", size=8, transform=ax.transAxes)
            ax.set_axis_off()
        return ax

    def _draw_curves(self, ax: Axes) -> None:
        """Draw a curve for each row, with the names of two."""
        best = self.at_fault
        named = [row for row in self.rows if row.curve and (row is best or not row.part)]
        for row in self.rows:
            if row not in named and row.curve:
                ax.plot(*zip(*row.curve, strict=True), color=GREY, linewidth=0.7, alpha=0.6)
        for row in named:
            color, words = (RED, row.what) if row is best else (ink(ax), "as given")
            ax.plot(*zip(*row.curve, strict=True), color=color, marker="o", markersize=3)
            style: dict[str, Any] = {"textcoords": "offset points", "va": "center", "color": color}
            ax.annotate(words, row.curve[-1], (6, 0), annotation_clip=False, **style)
        points = [point for row in named for point in row.curve if point[1] < LARGEST]
        if points:
            steps, errors = zip(*points, strict=True)
            ax.set_xlim(0, max(steps))
            ax.set_ylim(max(min(*errors, 0.5) / 1.5, LEAST), max(*errors, 1.0) * 1.5)
        ax.axhline(1, **DASHED | {"color": ink(ax)}, linewidth=0.8)
        ax.set(xlabel="steps", ylabel="error (1: a constant answer)", yscale="log")


@dataclass
class Attempt:
    """A change, its row in the race, and its errors in other orders of the minibatches."""

    change: Change
    row: Row
    place: int = 0
    """In the order of initial weights and rates before the race."""
    reach: Reach | None = None
    """Of the gradient at its weights now."""
    learns: bool = False
    """True if its error is clearly below a constant answer's."""
    others: list[float] = field(default_factory=list)
    """Errors in other orders."""


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Cure(Result):
    """Result of `cure`.

    >>> from trainability import cure
    >>> _ = torch.manual_seed(0)
    >>> model, x = nn.Sequential(nn.Flatten(), nn.Linear(6, 1)), torch.randn(200, 2, 3)
    >>> y, sgd = x.sum((1, 2))[:, None], torch.optim.SGD(model.parameters(), 0.1)
    >>> found = cure(model, x, y, nn.MSELoss(), sgd, steps=60)
    >>> found.outcome, found.code, [*found.table()[0]][:3]
    ('without a fault', '', ['start', 'optimizer', 'learning_rate'])
    """

    outcome: str
    """ "without a fault" (it trains as it is), "trains after the change", "seen once" (in one order
    of the minibatches: there was no time, or no other order), "none helped" or "not searched" (only
    the user can fix the cause).
    """
    model: nn.Module
    """A copy of the model that was given, with initial weights that help."""
    learning_rate: float
    """With a scheduler its initial_lr."""
    clip_norm: float | None
    """As given."""
    start: str
    """The initial weights in words: "orthogonal matrices"."""
    code: str
    """Lines that make the optimiser and change `model` as `self.model` was changed; "" for none."""
    error: float
    """Of the chosen training on held-out examples: 0 perfect, 1 a constant answer."""
    before: float
    """Of the training as given."""
    causes: tuple[Cause, ...]
    """Facts about one minibatch, certain ones first."""
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
        memo: dict[int, Any] = {id(p): q for p, q in zip(own, theirs, strict=True)}
        fresh = copy_of_optimizer(self.training.optimizer, memo)
        rates = self.training.rates(self.chosen.change.factor)
        for group, rate in zip(fresh.param_groups, rates, strict=True):
            group["lr"] = rate
            group.pop("initial_lr", None)  # which a new scheduler would take
        return fresh

    @property
    def verdict(self) -> str:
        """The result in a sentence or two."""
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
        """The training as given, the one that is chosen, and the best of other initial weights."""
        first = [self.trials[0], self.chosen] if self.changed else [self.trials[0]]
        best: dict[str, Attempt] = {}
        for trial in self.trials[1:]:
            if trial.row.measures and trial is not self.chosen:
                best.setdefault(trial.change.start.words, trial)
        return [*first, *best.values()][:SHOWN_TRIALS]

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
        if self.reach and self.reach.warning and self.outcome != "without a fault":
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
        return fitted(self.summary(whole=False))

    def table(self) -> list[dict[str, Any]]:
        """One row a trial: initial weights, optimiser, steps, error, errors in other orders."""
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

    @panels(6.4, 3.4, "error by initial weights and learning rate")
    def plot(self, ax: Any = None) -> Axes:
        """Draw the last error of each trial over its learning rate, by initial weights."""
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
