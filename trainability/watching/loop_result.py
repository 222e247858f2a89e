"""The facts of a training loop as a result: a table with meanings, a figure, and files."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np

from rhn.utils.lazy import import_extra
from rhn.utils.results import EXTRA, Result
from rhn.utils.tables import MISSING, formatted
from trainability.facts import Fact
from trainability.watching.loop_facts import LOOP_FACTS, LOOP_MEANINGS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

YOURS, SOUND, STAR = "yours", "sound", "*"
OPTIMISER, TENSORS, STEPS = "optimiser", "tensors", "steps"
AFTER_BACKWARD = "norm of gradient after backward"
AT_STEP = "at the step"
FIRST_RATE, LAST_RATE = "first rate", "last rate"
LOSS, PASS, OPTIMISER_STEP = "loss", "backward pass", "step of the optimiser"
NORM, RATE = "norm of the gradient", "learning rate"


@dataclass(frozen=True)
class OptimizerRow:
    """The steps of an optimiser, and of later ones of the same tensors."""

    name: str
    """The class of the first one."""
    tensors: int
    steps: int
    after_backward: np.ndarray
    """Norm of the gradient after the last backward pass before each step, (steps,). It is NaN at
    the first step.
    """
    at_step: np.ndarray
    """Norm of the gradient that each step used, (steps,)."""
    rates: np.ndarray
    """Learning rate of the first parameter group, (steps,)."""

    def numbers(self) -> dict[str, float]:
        """Return the numbers of the printed row: medians of the norms, first and last rate."""
        return {
            TENSORS: self.tensors,
            STEPS: self.steps,
            AFTER_BACKWARD: median(self.after_backward),
            AT_STEP: median(self.at_step),
            FIRST_RATE: float(self.rates[0]),
            LAST_RATE: float(self.rates[-1]),
        }


@dataclass(frozen=True, repr=False, eq=False)
class LoopResult(Result):
    """Facts of a training loop.

    >>> found = LoopResult(facts=(), optimizers=(), losses=np.array([2.0, 1.0]))
    >>> found.starred
    ()
    """

    page: ClassVar[str] = "docs/guides/watch.md"
    texts: ClassVar[tuple[str, ...]] = (
        *(fact.name for fact in LOOP_FACTS), *LOOP_MEANINGS.values(), YOURS, SOUND, STAR,
        OPTIMISER, TENSORS, STEPS, AFTER_BACKWARD, AT_STEP, FIRST_RATE, LAST_RATE, LOSS, PASS,
        OPTIMISER_STEP, NORM, RATE,
    )  # fmt: skip

    facts: tuple[Fact, ...]
    optimizers: tuple[OptimizerRow, ...]
    losses: Annotated[np.ndarray, "backward pass"]
    """The number from which each backward pass began; NaN for several."""

    @property
    def starred(self) -> tuple[str, ...]:
        """The names of the facts that differ from those of every sound loop."""
        return tuple(fact.name for fact in self.facts if fact.starred)

    def fact(self, name: str) -> tuple[float, ...] | None:
        """Return the numbers of a fact; None if they could not be counted."""
        return next(fact.numbers for fact in self.facts if fact.name == name)

    def table(self) -> Mapping[str, Any]:
        """Return the numbers of each fact."""
        return {fact.name: fact.numbers for fact in self.facts}

    def blocks(self) -> list[list[list[str]]]:
        facts = [["", YOURS, SOUND], *map(_cells, self.facts)]
        meanings = [[f"{name}: {LOOP_MEANINGS[name]}"] for name in self.starred]
        blocks = [facts, self._optimizers_as_text(), meanings]
        return [block for block in blocks if block]

    def _optimizers_as_text(self) -> list[list[str]]:
        if not self.optimizers:
            return []
        rows = [[row.name, *map(formatted, row.numbers().values())] for row in self.optimizers]
        return [[OPTIMISER, *self.optimizers[0].numbers()], *rows]

    def to_frame(self) -> Any:
        """Return the rows of the optimisers as a data frame of pandas."""
        pandas = import_extra("pandas", EXTRA)
        return pandas.DataFrame([{OPTIMISER: row.name, **row.numbers()} for row in self.optimizers])

    def plot(self) -> "Figure":
        """Draw the loss over backward passes, and norms of the gradient and rates over steps."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6.75, 5.0), layout="constrained")
        loss, norm, rate = figure.subplots(3)
        loss.plot(self.losses)
        for row in self.optimizers:
            norm.plot(row.after_backward, label=AFTER_BACKWARD)
            norm.plot(row.at_step, label=AT_STEP)
            rate.plot(row.rates, label=row.name)
        loss.set(ylabel=LOSS, xlabel=PASS)
        norm.set(ylabel=NORM)
        rate.set(ylabel=RATE, xlabel=OPTIMISER_STEP)
        return figure


def _cells(fact: Fact) -> list[str]:
    shown = (map(formatted, numbers or ()) for numbers in (fact.numbers, fact.sound))
    pair = (" ".join(words) or MISSING for words in shown)
    return [fact.name, *pair, STAR if fact.starred else ""]


def median(values: np.ndarray) -> float:
    """Return the median of numbers without NaN; NaN if there is none."""
    known = values[~np.isnan(values)]
    return float(np.median(known)) if known.size else float("nan")
