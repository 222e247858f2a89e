"""The facts of a training loop as a result: a table with meanings, a figure, and files."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np

from rhn.utils.lazy import import_extra
from rhn.utils.results import EXTRA, ROW, Result
from rhn.utils.tables import Block, formatted
from trainability.check_table import SOUND, STAR, YOURS, fact_as_text, record_of_fact
from trainability.facts import Fact
from trainability.watching.loop_facts import LOOP_FACTS, LOOP_MEANINGS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

OPTIMIZER, TENSORS, STEPS = "optimiser", "tensors", "steps"
AFTER_BACKWARD, AT_STEP = "gradient norm after backward", "gradient norm at step"
FIRST_RATE, LAST_RATE = "first rate", "last rate"
LOSS, RATE = "loss", "learning rate"
PASS, OPTIMIZER_STEP = "backward pass", "step of the optimiser"
DRAWN = 3  # optimisers in the figure: two curves each
HEIGHT = 6.0  # inches of the figure


@dataclass(frozen=True)
class OptimizerRow:
    """The steps of an optimiser, and of later ones of the same class and tensors."""

    name: str
    """The class."""
    tensors: int
    steps: int
    after_backward: np.ndarray
    """Norm of the gradient after the last backward pass before each step, (steps,). NaN: it was not
    read, as at the first step.
    """
    at_step: np.ndarray
    """Norm of the gradient that each step used, (steps,)."""
    rates: np.ndarray
    """Learning rate of the first parameter group, (steps,). NaN: the optimiser has none."""

    def numbers(self) -> dict[str, float]:
        """Return the numbers of the printed row. Norms are medians over the steps with both."""
        has_both = ~(np.isnan(self.after_backward) | np.isnan(self.at_step))
        return {
            TENSORS: self.tensors,
            STEPS: self.steps,
            AFTER_BACKWARD: median(self.after_backward[has_both]),
            AT_STEP: median(self.at_step[has_both]),
            FIRST_RATE: float(self.rates[0]),
            LAST_RATE: float(self.rates[-1]),
        }


@dataclass(frozen=True, repr=False, eq=False)
class LoopResult(Result):
    """Facts of a training loop, and norms and rates of its optimisers.

    >>> found = LoopResult(facts=(), optimizers=(), losses=np.array([2.0, 1.0]))
    >>> found.starred
    ()
    """

    page: ClassVar[str] = "docs/guides/watch.md"
    texts: ClassVar[tuple[str, ...]] = (
        *(fact.name for fact in LOOP_FACTS), *LOOP_MEANINGS.values(), YOURS, SOUND, STAR,
        OPTIMIZER, TENSORS, STEPS, AFTER_BACKWARD, AT_STEP, FIRST_RATE, LAST_RATE, LOSS, RATE,
        PASS, OPTIMIZER_STEP,
    )  # fmt: skip

    facts: tuple[Fact, ...]
    optimizers: tuple[OptimizerRow, ...]
    losses: Annotated[np.ndarray, "backward pass"]
    """The loss from which each backward pass began; NaN if it began from other tensors."""

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

    def blocks(self) -> list[Block]:
        """Return the facts, the optimisers, and the meanings of the facts with a star."""
        heads = [[OPTIMIZER, *row.numbers()] for row in self.optimizers[:1]]
        rows = [[row.name, *map(formatted, row.numbers().values())] for row in self.optimizers]
        meanings = [[f"{name}: {LOOP_MEANINGS[name]}"] for name in self.starred]
        return [
            Block([*map(fact_as_text, self.facts)], heads=[["", YOURS, SOUND]]),
            Block(rows, heads, is_list=True),
            Block([], feet=meanings),
        ]

    def records(self) -> list[dict[str, Any]]:
        """Return a line {column: number} for each fact and each optimiser."""
        of_optimizers = [{ROW: row.name, **row.numbers()} for row in self.optimizers]
        return [*map(record_of_fact, self.facts), *of_optimizers]

    def to_frame(self) -> Any:
        """Return the optimisers as a data frame of pandas, a row for each."""
        pandas = import_extra("pandas", EXTRA)
        index = pandas.Index([row.name for row in self.optimizers], name=OPTIMIZER)
        return pandas.DataFrame([row.numbers() for row in self.optimizers], index)

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the loss over backward passes into these axes or new ones."""
        from rhn.utils.composer import new_axes  # loads matplotlib

        ax = new_axes() if ax is None else ax
        return _over(ax, {LOSS: self.losses}, PASS)

    def draw(self, part: "SubFigure") -> float:
        """Draw the loss, the norms of the gradient and the rates one above the other."""
        loss, norm, rate = part.subplots(3)
        norms, rates = dict[str, np.ndarray](), dict[str, np.ndarray]()
        for k, row in enumerate(self.optimizers[:DRAWN], 1):
            norms[f"{row.name} {k}, {AFTER_BACKWARD}"] = row.after_backward
            norms[f"{row.name} {k}, {AT_STEP}"] = row.at_step
            rates[f"{row.name} {k}, {RATE}"] = row.rates
        self.plot(loss)
        _over(norm, norms, OPTIMIZER_STEP)
        _over(rate, rates, OPTIMIZER_STEP)
        return HEIGHT


def _over(ax: "Axes", curves: Mapping[str, np.ndarray], unit: str) -> "Axes":
    """Draw curves with their names at their ends."""
    from rhn.utils.named_curves import over_steps  # loads matplotlib

    over_steps(ax, curves, unit)
    ax.set_xlabel(unit)
    return ax


def median(values: np.ndarray) -> float:
    """Return the median of numbers without NaN; NaN if there is none."""
    known = values[~np.isnan(values)]
    return float(np.median(known)) if known.size else float("nan")
