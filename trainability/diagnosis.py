"""`Diagnosis`: the outcome of a training, the part at fault, and the rows that show it."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from matplotlib.axes import Axes

from rhn.plotting.figure import panels
from rhn.utils.figures import GREY, RED
from rhn.utils.result import Result
from rhn.utils.wording import counted
from trainability.cause import Cause

OUTCOMES = {name: name for name in ("learns", "learns little", "does not learn", "diverges")} | {
    "undecided": "is undecided"
}
SHOWN = 6  # rows on the screen
LARGEST = 1000.0  # error that is printed; larger ones are no number


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
    """What a check has found."""

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
            return f"{self.title} {OUTCOMES[self.outcome]}: no step can help."
        size = "not a number" if not self.error < LARGEST else f"{self.error:.2f} of a constant's"
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
        """What can be said of a training whose steps were not all run; "" of any other."""
        if self.steps >= self.of_steps or self.outcome != "undecided":
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
        kept = {part for part in ("", self.part, "network", "everything") if part in best}
        others = sorted(best.keys() - kept, key=lambda part: best[part].error)
        kept |= set(others[: SHOWN - len(kept)])
        return [row for part, row in best.items() if part in kept]

    def _saved(self) -> dict[str, Any]:
        lists = ("causes", "facts", "rows")
        saved = super()._saved() | {
            name: [asdict(entry) for entry in getattr(self, name)] for name in lists
        }
        del saved["seconds"]  # of this machine at that moment
        return saved

    def sentences(self) -> Iterator[str]:
        """The verdict, a line for each part, and the first cause with its remedy."""
        yield self.verdict
        if self.outcome != "learns" and self.rows:
            yield ""
            for row in self.shown:
                here = f"   <- the fault is in the {row.part}" if row.part == self.part else ""
                error = f"{row.error:>8.2f}" if row.error < LARGEST else f"{'-':>8}"
                yield f"  {row.what:<36}{error}{here}"
            yield ""
        for cause in self.causes[:1]:
            yield cause.sentence
            yield cause.remedy
        if self.foreseen:
            yield self.foreseen
        if not self.causes and self.facts:
            yield f"Beside it: {self.facts[0].sentence}"

    def summary(self, *, whole: bool = False) -> str:
        """The sentences; whole: and the table."""
        return super().summary() if whole else "\n".join(self.sentences())

    def table(self) -> list[dict[str, Any]]:
        """One row for each version of the training."""
        names = ("part", "what", "error", "steps", "standard_error")
        return [{name: getattr(row, name) for name in names} for row in self.rows]

    @panels(6, 3.4, "error of each version of the training")
    def plot(self, ax: Any = None) -> Axes:
        """Draw the error over the steps, a line a version; the part at fault in colour."""
        for row in self.rows:
            at_fault = bool(row.part) and row.part == self.part
            steps, errors = zip(*row.curve, strict=True) if row.curve else ((), ())
            given = not row.part
            ax.plot(
                steps,
                errors,
                color=RED if at_fault else "black" if given else GREY,
                linewidth=2 if at_fault or given else 1,
                label=row.what if at_fault or given else None,
            )
        ax.axhline(1, color=GREY, linestyle=":", linewidth=1)
        ax.set(xlabel="steps", ylabel="error (1: a constant answer)", ylim=(0, 1.5))
        return ax
