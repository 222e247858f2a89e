"""The result of `check`: a `Diagnosis`, with its table of parts."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from rhn.plotting.figure import DASHED, ink
from rhn.utils.figures import BLUE, GREY, ORANGE, RED
from rhn.utils.result import Result
from rhn.utils.wording import counted, listed
from trainability.cause import Cause
from trainability.scores import DEAD
from trainability.sentences import shown, write_sentences
from trainability.training import NO_TIME

LEAST, MOST = 1e-4, 1e2  # errors that are drawn
YOURS, IN_GOOD = "yours", "known good"  # trainings in which one part is replaced, or put in
AT_FAULT = "at fault"
KINDS = (
    ("o", BLUE, "your training run, with this part replaced"),
    ("s", ORANGE, "known good training run, with your part"),
)
"""Markers, colours and names of the points of a figure, for both directions of the exchange."""


@dataclass(frozen=True)
class TableRow:
    """A row of the table of `check`: one version of the training run, and its error.

    The known good run has the same data as the user's, and parts that work on most tasks.
    """

    part: str
    """The part that was exchanged; "" for the user's training run, unchanged."""
    what: str
    """The change in words, such as "inputs standardised"."""
    error: float
    """Relative error on held-out examples: 0 is perfect, 1 is the constant predictor."""
    steps: int
    """Optimiser steps that were run: fewer than all if the error was low enough earlier, or if the
    row was not finished.
    """
    standard_error: float
    """Standard error of the difference between the error of this row and the error of the run with
    which the row is compared.
    """
    training: str = YOURS
    """ "yours" if the part was replaced in the user's training run; "known good" if the user's part
    was put into the known good run.
    """
    word: str = ""
    """The finding: "enough", "breaks", "cleared", or "at fault" (enough and breaks); "" if none
    holds. `trainability.verdict` has the rules.
    """
    finished: bool = True
    """False if the time was too short for all steps."""
    curve: tuple[tuple[int, float], ...] = field(default=(), repr=False)
    """Pairs (steps, error), one for each measurement."""
    by: str = "error"
    """The score that `error` is: "error"; "loss"; or "balanced", the error with all classes
    weighted equally.
    """


PartRows = tuple[TableRow | None, TableRow | None]
"""The two rows of a part: one with the part replaced in the user's training run, one with the
user's part in the known good run.
"""


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Diagnosis(Result):
    """Result of `check`: the outcome, the part at fault, the proofs, and the table of all versions
    that were trained.

    >>> own = TableRow("", "your training run, unchanged", 1.0, 50, 0.0)
    >>> scaled = TableRow("inputs", "inputs standardised", 0.1, 50, 0.02, word="at fault")
    >>> found = Diagnosis(outcome="does not learn", error=1.0, part="inputs", rows=(own, scaled))
    >>> found.at_fault.what
    'inputs standardised'
    """

    outcome: str
    """ "learns", "learns little", "does not learn", "diverges" or "undecided"."""
    words: str = ""
    """The outcome in words, as in the first sentence of the result."""
    error: float = math.nan
    """Relative error on held-out examples after the training run: 0 is perfect, 1 is the constant
    predictor.
    """
    lowest: tuple[int, float] | None = None
    """The optimiser step with the lowest relative error, and this error, if the network learns,
    then overfits; else None.
    """
    loss: float = math.nan
    """Relative loss on held-out examples after the training run (1 for the constant predictor); NaN
    if the loss is the error.
    """
    loss_name: str = "loss"
    """The name of `loss` in sentences: "cross entropy" for classes if your own loss is another one,
    otherwise "loss".
    """
    measure: str = ""
    """What the error is if it is that of your own loss, such as "your loss, from its least value 0
    to that of the best constant output, 0.63"; "" for classes and numbers.
    """
    few: str = ""
    """If only few held-out targets determine the error, their number, such as "5 positives"; else
    "".
    """
    known_good: float = math.nan
    """Relative error of the best known good training run, whose parts work on most tasks; NaN if
    none was run.
    """
    known_good_loss: float = math.nan
    """Relative loss of the best known good training run; NaN if the loss is the error."""
    known_good_stopped: int | None = None
    """Step at which the best known good training run ended because the time was up; None if it ran
    all steps, or ended earlier since its error was low.
    """
    learnable: bool = True
    """False if no known good training run is clearly below the constant predictor."""
    by: str = "error"
    """The score of the rows: "error", or "loss" if only the loss shows a gap."""
    steps: int = 0
    """Optimiser steps of the user's training run that were run in the check."""
    of_steps: int = 0
    """Optimiser steps of the user's whole training run."""
    orders: tuple[float, ...] = ()
    """Relative error in each minibatch order that was tried; infinite if the loss was not finite.
    """
    part: str | None = None
    """The part at fault; None if no part is shown to be at fault."""
    causes: tuple[Cause, ...] = ()
    """All findings: proofs first, then results of experiments."""
    facts: tuple[Cause, ...] = ()
    """The proofs, exact facts about one minibatch."""
    remarks: tuple[str, ...] = ()
    """Further sentences about the table."""
    rows: tuple[TableRow, ...] = ()
    """The rows of the table: the user's training run, and all versions of it."""
    left_out: tuple[str, ...] = ()
    """Versions that could not be run, and why."""
    not_measured: tuple[str, ...] = ()
    """Facts that could not be tested, and why."""

    @property
    def measured(self) -> str:
        """The name of the score of the rows: "error", "loss" or "cross entropy"."""
        return "error" if self.by == "error" else self.loss_name

    @property
    def levels(self) -> tuple[float, float]:
        """The error of your training run, and the error of the best known good run, by the score of
        the rows.
        """
        if self.by == "loss":
            return self.loss, self.known_good_loss
        return self.error, self.known_good

    @property
    def verdict(self) -> str:
        """The outcome in one sentence."""
        if not self.rows:
            return f"{self.title} cannot learn unchanged."
        words = f"{self.title} {self.words or self.outcome}"
        if not self.steps:
            return f"{words} before its first step."
        after = counted(self.steps, "step")
        if self.steps < self.of_steps:
            after = f"{self.steps:,} of {counted(self.of_steps, 'step')}"
        if self.outcome == "diverges":
            return f"{words}: its loss is not finite in step {self.steps:,} of {self.of_steps:,}."
        if self.outcome == "undecided" and self.measure and not math.isfinite(self.error):
            return f"{words} after {after}: {self.measure}."
        reached = self._reached(self.error, self.loss)
        scale = "; ".join(filter(None, [self.measure, "1: no better than the constant predictor"]))
        before = ""
        if self.lowest is not None:
            before = f"{shown(self.lowest[1])} at step {self.lowest[0]:,}, "
        return f"{words}: relative error {before}{reached} after {after} ({scale})."

    def _reached(self, error: float, loss: float) -> str:
        """An error with the few targets that determine it, and the loss beside it."""
        few = f" ({self.few} held out)" if self.few else ""
        beside = "" if math.isnan(loss) else f", {self.loss_name} {shown(loss)}"
        return f"{shown(error)}{few}{beside}"

    @property
    def _of_known_good(self) -> str:
        """The sentence on the best known good run."""
        if math.isfinite(self.known_good):
            reached = f"reaches {self._reached(self.known_good, self.known_good_loss)}"
        else:
            reached = "reaches no finite error"
        if self.known_good_stopped is not None:
            steps = counted(self.of_steps, "step")
            reached += f" after {self.known_good_stopped:,} of {steps}, when the time was up"
        if self.learnable or self.levels[1] <= DEAD:
            return f"A known good training run on your data {reached}."
        words = (
            "No known good training run on your data is clearly better than the constant predictor"
        )
        enough = [row.what for row in self.rows if row.training == YOURS and row.word]
        if self.outcome in ("learns", "learns little"):
            return f"{words} (the best {reached}), but your training run is."
        if enough:
            return f"{words} (the best {reached}), but your training run is with {enough[0]}."
        return f"{words}: the best {reached}."

    @property
    def by_part(self) -> dict[str, PartRows]:
        """The rows of each part: (best row with the part replaced, row with the user's part in the
        known good run).
        """
        pairs: dict[str, list[TableRow | None]] = {}
        for row in self.rows:
            if not row.part or row.part in ("everything", "data") or not row.steps:
                continue
            if row.by not in ("error", self.by):  # it is another error than that of the table
                continue
            pair, place = pairs.setdefault(row.part, [None, None]), int(row.training == IN_GOOD)
            best = pair[place]
            if best is None or _rank(row) < _rank(best):
                pair[place] = row
        return {part: (replaced, put) for part, (replaced, put) in pairs.items()}

    def _saved(self) -> dict[str, Any]:
        lists = ("causes", "facts", "rows")
        saved = super()._saved() | {
            name: [asdict(entry) for entry in getattr(self, name)] for name in lists
        }
        saved["notes"] = saved.pop("remarks")
        return saved

    def _cell(self, row: TableRow | None) -> str:
        """A cell of the table: an error, and the number of steps if the row stopped before the
        others.
        """
        if row is None:
            return ""
        if not row.finished:
            return f"no time ({row.steps:,} steps)"
        early = row.steps < self.steps or not math.isfinite(row.error)
        return shown(row.error) + (f" (step {row.steps:,})" if early else "")

    def _lines(self) -> Iterator[str]:
        """Yield the lines of the printed table."""
        unit = "" if self.by == "error" else f"relative {self.measured}"
        yield f"  {unit:<35}{'in your training run':>20}{'in the known good run':>23}"
        for part, (row, put) in self._compared():
            yield self._line(part, row, put)

    def _compared(self) -> Iterator[tuple[str, PartRows]]:
        """Yield (part, its rows), then a pair for each further repair of what is proven."""
        for part, (best, put) in self.by_part.items():
            yield part, (best, put)
            for row in self.repairs:
                if row.part == part and row is not best:
                    yield part, (row, None)

    def _line(self, part: str, row: TableRow | None, put: TableRow | None) -> str:
        """A line of the printed table."""
        named = put if row is None else row
        label = part if named is None else named.what
        if len(label) >= WIDTH:
            label = f"your {part}" if row is None else part
        errors = f"{self._cell(row):>20}{self._cell(put):>23}"
        return f"  {label:<35}{errors}  {_word(row, put)}".rstrip()

    @property
    def repairs(self) -> list[TableRow]:
        """The rows whose replacement repairs a proven fault."""
        names = {cause.repair for cause in self.facts if cause.repair}
        return [row for row in self.rows if row.training == YOURS and row.what in names]

    def sentences(self) -> Iterator[str]:
        """Yield the lines of the printed result: the verdict, the table, the proofs, and what the
        experiments show.
        """
        yield self.verdict
        if not math.isnan(self.known_good):
            yield self._of_known_good
        below = [*self._below_the_table()]
        if self.by_part:
            yield from ("", *self._lines(), *([""] if below else []))
        yield from below

    def _below_the_table(self) -> Iterator[str]:
        """Yield the proofs, and what the experiments show."""
        for cause in self.causes:
            proof = "Proven: " if cause in self.facts else ""
            yield f"{proof}{cause.sentence} {cause.remedy}".rstrip()
        yield from self.remarks
        facts = [words.partition(": ") for words in self.not_measured]
        late = [name for name, _, reason in facts if reason == NO_TIME]
        if late and not any(cause.sure for cause in self.causes):
            yield f"More seconds could prove a cause: no time was left for {listed(late)}."

    def summary(self, *, whole: bool = False) -> str:
        """Return the printed result as text; whole=True adds the table with all rows."""
        return super().summary() if whole else "\n".join(self.sentences())

    def table(self) -> list[dict[str, Any]]:
        """Return all rows as dictionaries, one for each version of the training run."""
        first = ("part", "what", "training", "error", "steps", "finished")
        names = (*first, "standard_error", "word", "by")
        return [{name: getattr(row, name) for name in names} for row in self.rows]

    @property
    def at_fault(self) -> TableRow | None:
        """The row whose replacement repairs the part at fault; None if no part is at fault."""
        shown = (r for r in self.rows if r.word == AT_FAULT and r.training == YOURS)
        return next((row for row in shown if row.part == self.part), None)

    @property
    def finding(self) -> str:
        """The part at fault and the error without the fault; this is the title of the figure."""
        if self.at_fault is None:
            return f"{self.title} {self.words or self.outcome}"
        error = shown(self.at_fault.error)
        few = f" ({self.few} held out)" if self.few and self.by == "error" else ""
        words = f"The fault is in the {self.part}: with {self.at_fault.what}"
        return f"{words} the relative {self.measured} is {error}{few}"

    height = 3.4

    def _draw(self, ax: Axes, **_: Any) -> None:
        """Draw two errors for each part: with your part replaced, and with it in the known good
        run.

        Without such rows, print the sentences in place of a plot.
        """
        if self.by_part:
            self._draw_parts(ax)
        else:
            write_sentences(self, ax)

    def _draw_parts(self, ax: Axes) -> None:
        """Draw two points for each line of the table, one for each direction of the exchange."""
        parts = [*self._compared()][::-1]
        for place, (mark, color, words) in enumerate(KINDS):
            if points := _points(parts, place):
                drawn = [(_drawn(error), k) for error, k in points]
                ax.plot(*np.transpose(drawn), mark, color=color, label=words)
        self._draw_levels(ax)
        self._mark_beyond(parts, ax)
        names = [row.what if row else part for part, (row, _) in parts]
        ax.set_yticks(range(len(parts)), names)
        self._mark(parts, ax)
        ax.set(xlabel=f"relative {self.measured}", xscale="log", ylim=(-0.6, len(parts) - 0.4))

    def _mark_beyond(self, parts: list[tuple[str, PartRows]], ax: Axes) -> None:
        """Empty the markers of errors beyond the limits of the figure, and name them."""
        named = set[str]()
        for place, (mark, color, _) in enumerate(KINDS):
            for error, k in _points(parts, place):
                if words := _beyond(error):
                    (point,) = ax.plot(_drawn(error), k, mark, color=color, mfc=ax.get_facecolor())
                    if words not in named:
                        point.set_label(words)
                    named.add(words)

    def _mark(self, parts: list[tuple[str, PartRows]], ax: Axes) -> None:
        """Mark the part at fault, and parts whose rows had no time."""
        at_left = ax.get_yaxis_transform()
        for k, (label, (_, pair)) in enumerate(zip(ax.get_yticklabels(), parts, strict=True)):
            if pair[0] is not None and pair[0].word == AT_FAULT:
                label.set(color=RED, fontweight="bold")
            if not any(row is not None and row.finished for row in pair):
                ax.text(0.02, k, "no time", va="center", size=8, color=GREY, transform=at_left)

    def _draw_levels(self, ax: Axes) -> None:
        """Draw the errors of the two training runs, and that of the constant predictor."""
        names = "your training run, unchanged", "known good training run"
        for words, error, dashes in zip(names, self.levels, ("-", ":"), strict=True):
            if not math.isnan(error):
                label = ", ".join(filter(None, (words, _beyond(error))))
                style = {"color": ink(ax), "linestyle": dashes, "linewidth": 1, "zorder": 1.5}
                ax.axvline(_drawn(error), label=label, **style)
        ax.axvline(1, **DASHED | {"color": GREY}, linewidth=1, label="constant predictor")


def _points(parts: list[tuple[str, PartRows]], place: int) -> list[tuple[float, int]]:
    """The points (error, number of the part) of one direction of the exchange."""
    rows = [(k, pair[place]) for k, (_, pair) in enumerate(parts)]
    return [(row.error, k) for k, row in rows if row is not None and row.finished]


def _drawn(error: float) -> float:
    """An error within the limits of a figure."""
    return min(max(error, LEAST), MOST) if math.isfinite(error) else MOST


def _beyond(error: float) -> str:
    """Where an error lies beyond the limits of a figure; "" if it lies within."""
    if error < LEAST:
        return f"below {LEAST:g}"
    return "" if error <= MOST else f"above {MOST:g}"


WIDTH = 35  # of the names in the table
RANKS = {AT_FAULT: 0, "enough": 1}  # of words: these rows are shown


def _rank(row: TableRow) -> tuple[int, float]:
    """Sort key: rows with a word first, then rows by error."""
    return RANKS.get(row.word, 3 - row.finished), 0.0 if row.word in RANKS else row.error


def _word(row: TableRow | None, put: TableRow | None) -> str:
    """Return the words at the end of a line of the table."""
    if row is not None and row.word == AT_FAULT:
        return f"<- {AT_FAULT}"
    words = [r.word for r in (row, put) if r is not None and r.word]
    return ", ".join(words)
