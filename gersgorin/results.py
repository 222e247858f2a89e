"""The base classes of results with a figure and of results along one run, and `load`, which reads
any result from the file that its `save` wrote. This module does not import torch.

Legend: T time steps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from gersgorin.catalog import RESULTS
from rhn.errors import DataError
from rhn.utils.io import check_output, write_rows
from rhn.utils.results import COLUMNS, TABLE_FIELD, Result, content_of, encoded, median_and_ends
from rhn.utils.tables import formatted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

DEPTH, UNITS, STEPS, X = "depth", "units", "steps", "x"
PRODUCT, FROM_FIRST = "product norm (log10)", "from first state"
DIFFERENCE = "Jacobian against differences (relative)"
MOVE = "largest move of the state in a step / its size"
ROW, VALUE = "row", "value"  # columns of a .csv file


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class FigureResult(Result):
    """Numbers of one analysis, their figure, and the files of their table."""

    def records(self) -> list[dict[str, Any]]:
        """Return the whole table as lines {column: number}: a line for each item, or for each row
        with its median, smallest and largest number; and a line for each single number.
        """
        lines = list[dict[str, Any]]()
        if self.item:
            columns = self.listed()
            each = zip(*columns.values(), strict=True)
            lines += [dict(zip(columns, numbers, strict=True)) for numbers in each]
        for row, value in self.table().items():
            if not np.ndim(value):
                lines.append({self.item or ROW: row, VALUE: value})
            elif not self.item:
                ends = zip(COLUMNS, median_and_ends(value), strict=True)
                lines.append({ROW: row, **dict(ends)})
        return lines

    def by_step(self) -> Mapping[str, Sequence[Any]]:
        """Return what goes over steps as columns of equal length, one of which is "step"."""
        return self.listed()

    def csv(self, path: str | Path) -> Path:
        """Write the whole table to a .csv file, one row a line. Raises OutputError."""
        path, lines = check_output(path, (".csv",)), self.records()
        columns = [*dict.fromkeys(column for line in lines for column in line)]
        return write_rows(path, columns, [[line.get(name) for name in columns] for line in lines])

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as `Result.to_dict` does, and the lines of the whole table below
        "table".
        """
        found = super().to_dict()
        return {"result": found["result"], TABLE_FIELD: encoded(self.records())} | found

    def figure(
        self, title: str | None = None, *, size: str | float = "page", source: str = "", **how: Any
    ) -> "Figure":
        """Draw the result in a figure of its own.

        title: may have mathematics between two $; None: network, data, and at most two numbers.
        size: "page", "column", "slide", or the width in inches. source: the footer. how: arguments
        of `draw`.
        """
        from rhn.utils.composer import composed  # loads matplotlib
        from rhn.utils.figures import call_text

        title = self.figure_title().replace("$", r"\$") if title is None else title
        call = call_text(f"{type(self).__name__}.figure", size=size, **how)
        return composed(partial(self.draw, **how), title, size, source, call)

    def figure_title(self) -> str:
        """The usual title of the figure."""
        return "\n".join(self.title())

    def draw(self, part: "SubFigure", *args: Any, **how: Any) -> float:
        """Draw all panels into a part of a figure. Returns the height that they need, in inches."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class StepResult(FigureResult):
    """Numbers along one run of T steps."""

    run_texts: ClassVar[tuple[str, ...]] = (DEPTH, UNITS, STEPS, X, PRODUCT, FROM_FIRST)
    headline: ClassVar[tuple[str, ...]] = ()
    """The rows whose medians stand in the title of a figure, at most two."""
    label: ClassVar[str] = ""
    """The label of the vertical axis of a figure."""

    network: str
    """The network in titles: its name, and of a cell its depth and units."""
    data: str
    """Name of the sequence."""
    unit: str
    """Length of a time step."""
    steps: int
    """T."""

    def title(self) -> list[str]:
        return [f"{self.network}; {self.data}, {self.steps} {self.unit}"]

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the result over the time steps, into these axes or new ones."""
        from rhn.utils.composer import new_axes  # loads matplotlib
        from rhn.utils.named_curves import over_steps

        return over_steps(new_axes() if ax is None else ax, self.curves(), self.unit, self.label)

    def draw(self, part: "SubFigure") -> float:
        from rhn.utils.composer import one_panel  # loads matplotlib

        return one_panel(part, self.plot)

    def figure_title(self) -> str:
        """The network, the data, and at most two numbers under the names of their rows."""
        each, table = list[str](), self.table()
        for row in self.headline:
            number = formatted(median_and_ends(table[row])[0], ".3g")
            each.append(f"{row} {number}" + (f" ({COLUMNS[0]})" if np.ndim(table[row]) else ""))
        return f"{self.network}; {self.data}\n{', '.join(each)}".strip()

    def curves(self) -> dict[str, np.ndarray]:
        """The curves of a figure by their names, from time step 0 on."""
        return {name: row for name, row in self.table().items() if np.ndim(row)}


def listed_blocks(item: str, rows: Mapping[str, Any]) -> list[list[list[str]]]:
    """The printed tables of several items: each array of a table is a column with a row for each
    item. item: the name of an item, over the column of their numbers.
    """
    table = {name: np.asarray(values) for name, values in rows.items()}
    columns = {name: values.tolist() for name, values in table.items() if values.ndim}
    listed = [
        [str(number), *map(formatted, values)]
        for number, values in enumerate(zip(*columns.values(), strict=True), 1)
    ]
    single = [[name, formatted(values.item())] for name, values in table.items()
              if not values.ndim]  # fmt: skip
    return [[[item, *columns], *listed], single]


def largest_move(states: np.ndarray) -> float:
    """The largest change of an entry in one step of states (T + 1, N), over their largest entry; 0
    if the state never moves.

    >>> largest_move(np.array([[0.0, 2.0], [0.5, 2.0], [0.0, 1.0]]))
    0.5
    """
    moves = np.abs(np.diff(states, axis=0)).max()
    return float(moves / np.abs(states).max()) if moves > 0 else 0.0


def values_or_nan(values: np.ndarray | None, count: int) -> np.ndarray:
    """Values (count,) as they are; NaN for None, which results of 0.7.0 have for newer rows."""
    return np.full(count, np.nan) if values is None else values


def load(path: str | Path) -> Any:
    """Read a result from a .json or .npz file that its `save` wrote, including those of `analysis`.
    Raises DataError for any other file.

    >>> import tempfile, torch
    >>> from gersgorin import gains
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = gains(torch.nn.RNN(3, 4), torch.rand(5, 3)).save(f"{folder}/gains.npz")
    ...     print(type(load(file)).__name__)
    Gains
    """
    name, _, _ = content_of(path, "save() of a result")
    if name not in RESULTS:
        raise DataError(f"{path} was written by another version: it has a {name}")
    return getattr(import_module(RESULTS[name]), name).load(path)
