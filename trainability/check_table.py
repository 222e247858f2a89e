"""The result of `check`: its facts and rows, their table, and its picture."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from rhn.errors import InvalidInputError
from rhn.utils.lazy import import_extra
from rhn.utils.results import EXTRA, ROW, TIME_STEPS, Result
from rhn.utils.tables import MISSING, PRINTED, Block, formatted
from trainability.changes import NONE, ROW_LABELS, TABLE
from trainability.facts import FACTS, PROBES, Fact
from trainability.scores import MEANINGS, RAW

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

OF_Y = {
    "classes": "classes of y",
    "signs": "signs of y",
    "numbers": "numbers of y",
    "raw": "entries of y",
}
ERROR_ON_TRAINING = "error on the training examples"
YOURS, SOUND, ERROR_COLUMN, THREE, STAR = "yours", "sound", "error", "three seeds", "*"
SEED, STARRED = "seed", "star"  # columns of a .csv file
CHANGE, CLOSED = "change", "* closes 80 % of the gap in as many steps"
LINE = "line of the first number that is not finite: "
READ_AS = "read as"
OF_FACTS, OF_ROWS, WITH_STAR = "facts", "changes", "with a star"
FAILED = "rows that raised an error"
DIVERGED = "rows whose error is not finite"
LINE_HEIGHT = 0.2  # inches of a row in the figure
MEANING_OF = {
    **{probe.name: probe.meaning for probe in PROBES},
    **{change.label: change.meaning for change in TABLE},
}


@dataclass(frozen=True)
class Row:
    """One change of a training run."""

    label: str
    error: float
    """On the first half of the held-out examples, or on the training examples if none are held out,
    with the first seed.
    """
    seeds: tuple[float, ...] | None
    """On the other half, with three seeds; None if they were not run."""
    starred: bool


@dataclass(frozen=True)
class Failure:
    """A row of `check`, or a pair of `cure`, that raised an error."""

    label: str
    error: str
    """The class and the first line of the error."""


class ResultOfRows(Result):
    """A result whose numbers are in rows, each an object with the same fields."""

    rows: tuple[Any, ...]

    def records(self) -> list[dict[str, Any]]:
        raise NotImplementedError

    def to_frame(self) -> Any:
        """Return `rows` as a data frame of pandas, with a column for each of their fields."""
        pandas = import_extra("pandas", EXTRA)
        return pandas.DataFrame([asdict(row) for row in self.rows])

    def to_xarray(self) -> Any:
        """Raise InvalidInputError: rows are no arrays."""
        raise InvalidInputError(f"{type(self).__name__} has no arrays: expected to_frame()")


@dataclass(frozen=True, repr=False, eq=False)
class Check(ResultOfRows):
    """Facts and rows of a training run.

    >>> import torch
    >>> from torch import nn
    >>> from trainability import check
    >>> x, model = torch.randn(100, 3), nn.Linear(3, 1)
    >>> sgd = torch.optim.SGD(model.parameters(), 1e-2)
    >>> found = check(model, x, x[:, :1], nn.MSELoss(), sgd, steps=2)
    >>> found.rows[0].label, found.facts[0].name
    ('none', 'other outputs that change with one example')
    """

    page: ClassVar[str] = "docs/guides/check-rows.md"
    texts: ClassVar[tuple[str, ...]] = (
        *FACTS, *ROW_LABELS, *MEANINGS.values(), *OF_Y.values(), YOURS, SOUND, ERROR_COLUMN,
        ERROR_ON_TRAINING, THREE, STAR, CHANGE, CLOSED, LINE, FAILED, DIVERGED, READ_AS, TIME_STEPS,
        OF_FACTS, OF_ROWS, WITH_STAR, *MEANING_OF.values(),
    )  # fmt: skip

    examples: int
    """Rows of x."""
    distinct: int
    """Different rows of x."""
    held_out: int
    """0 if fewer than 20 examples can be held out: errors are on the training examples."""
    time_steps: int
    """Of the first input; 1 without a time axis."""
    kind: str
    """classes, signs, numbers or raw."""
    entries: int
    """Classes, or numbers of an example's y."""
    optimizer: str
    """The class of the optimiser."""
    rates: tuple[float, float]
    """The learning rate at the first and the last step."""
    steps: int
    """Optimiser steps of every row but `four times the steps`."""
    facts: tuple[Fact, ...]
    rows: tuple[Row, ...]
    line: str
    """The line of the user's code with the first number that is not finite; "" if there is none."""
    failed: int
    """The number of rows that raised an error."""
    failures: tuple[Failure, ...] = ()
    """These rows; empty in files of 0.7.0."""

    @property
    def starred(self) -> tuple[str, ...]:
        """The names of the facts and rows with a star."""
        return (*self.starred_facts, *self.starred_rows)

    @property
    def starred_facts(self) -> tuple[str, ...]:
        """The names of the facts that differ from those of every sound run."""
        return tuple(fact.name for fact in self.facts if fact.starred)

    @property
    def starred_rows(self) -> tuple[str, ...]:
        """The labels of the rows that close the gap."""
        return tuple(row.label for row in self.rows if row.starred)

    def title(self) -> list[str]:
        data = f"{self.examples} examples ({self.distinct} distinct), {self.held_out} held out, "
        first, last = map(formatted, self.rates)
        rates = f"{self.optimizer}, rate {first} to {last}, {self.steps} optimiser steps"
        error = ERROR_COLUMN if self.held_out else ERROR_ON_TRAINING
        return [
            f"{data}{READ_AS} {self.time_steps} {TIME_STEPS}; {OF_Y[self.kind]}: {self.entries}",
            f"{error}: {MEANINGS[self.kind]}; {rates}",
            f"{len(self.facts)} {OF_FACTS}, {len(self.starred_facts)} {WITH_STAR}; "
            f"{len(self.rows)} {OF_ROWS}, {len(self.starred_rows)} {WITH_STAR}",
        ]

    def table(self) -> Mapping[str, Any]:
        """Return the numbers of each fact, and the error of each row."""
        return {f.name: f.numbers for f in self.facts} | {r.label: r.error for r in self.rows}

    def records(self) -> list[dict[str, Any]]:
        """Return a line {column: number} for each fact and each row."""
        of_rows = [
            {
                ROW: row.label,
                ERROR_COLUMN: row.error,
                **numbered(SEED, row.seeds),
                STARRED: int(row.starred),
            }
            for row in self.rows
        ]
        return [*map(record_of_fact, self.facts), *of_rows]

    def notes(self) -> Mapping[str, int]:
        not_finite = [row for row in self.rows if not math.isfinite(row.error)]
        return {FAILED: self.failed, DIVERGED: len(not_finite)}

    def blocks(self) -> list[Block]:
        """Return all facts and rows, the meanings of those with a star, and the failures."""
        own = self._as_blocks(self.facts, self.rows)
        return [*own, failures_as_block(FAILED, self.failures)]

    def short(self) -> list[Block]:
        """Return the facts with a star, and `none`, the rows with a star and the first one with
        the lowest error, ten in all; and the meanings.
        """
        lowest = min(self.rows, key=lambda row: row.error, default=None)
        rows = [row for row in self.rows if row.label == NONE or row.starred or row is lowest]
        facts = [fact for fact in self.facts if fact.starred][: PRINTED - len(rows)]
        return self._as_blocks(facts, rows[:PRINTED])

    def _as_blocks(self, facts: Sequence[Fact], rows: Sequence[Row]) -> list[Block]:
        """Some facts and rows, the meanings of all with a star, and the line of the user's code."""
        meanings = [[f"{name}: {MEANING_OF[name]}"] for name in self.starred]
        line = [[f"{LINE}{self.line}"]] if self.line else []
        changes = [self._row_as_text(row) for row in rows]
        return [
            Block([*map(fact_as_text, facts)], heads=[["", YOURS, SOUND]]),
            Block([], feet=line),
            Block(changes, heads=[[CHANGE, ERROR_COLUMN, THREE]], feet=[[CLOSED]]),
            Block([], feet=meanings),
        ]

    def _row_as_text(self, row: Row) -> list[str]:
        error, *seeds = [shown_error(e, self.kind) for e in (row.error, *(row.seeds or ()))]
        return [row.label, error, " ".join(seeds), STAR if row.starred else ""]

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the errors of all rows, and those of three seeds as smaller dots, into these axes or
        new ones.
        """
        from rhn.utils.composer import new_axes  # loads matplotlib

        ax = new_axes() if ax is None else ax
        for k, row in enumerate(self.rows):
            ax.plot(row.error, k, "o", color="C3" if row.starred else "C0")
            ax.plot(row.seeds or (), [k] * len(row.seeds or ()), ".", color="0.5")
        ax.set_yticks(range(len(self.rows)), [row.label for row in self.rows])
        ax.invert_yaxis()
        ax.set_xlabel(MEANINGS[self.kind])
        return ax

    def draw(self, part: "SubFigure") -> float:
        self.plot(part.add_subplot())
        return 1.5 + LINE_HEIGHT * len(self.rows)


def record_of_fact(fact: Fact) -> dict[str, Any]:
    """Return a fact as a line {column: number} of a .csv file."""
    return {
        ROW: fact.name,
        **numbered(YOURS, fact.numbers),
        **numbered(SOUND, fact.sound),
        STARRED: int(fact.starred),
    }


def fact_as_text(fact: Fact) -> list[str]:
    """Return a fact as the cells of a printed row."""
    yours, sound = (
        " ".join(map(formatted, numbers or ())) or MISSING for numbers in (fact.numbers, fact.sound)
    )
    return [fact.name, yours, sound, STAR if fact.starred else ""]


def failures_as_block(title: str, failures: Sequence[Failure]) -> Block:
    """Return a printed table of failures, which are not counted as rows; empty without one."""
    lines = [[each.label, each.error] for each in failures]
    return Block([], feet=[[title], *lines] if lines else [])


def numbered(name: str, numbers: Sequence[float] | None) -> dict[str, float]:
    """Return numbers as columns of a .csv file.

    >>> numbered("seed", (0.5, 0.25))
    {'seed 1': 0.5, 'seed 2': 0.25}
    """
    return {f"{name} {k}": number for k, number in enumerate(numbers or (), 1)}


def shown_error(error: float, kind: str) -> str:
    """Return an error as text: two decimals, or four digits of a raw loss."""
    return formatted(error, ".4g" if kind == RAW or error >= 1000 else ".2f")
