"""The base class of results along one run, and `load`, which reads any result from the file that
its `save` wrote. This module does not import torch.

Legend: T time steps.
"""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from gersgorin.catalog import RESULTS
from rhn.errors import DataError
from rhn.utils.result_files import content_of
from rhn.utils.results import COLUMNS, TIME_STEPS, Result, median_and_ends
from rhn.utils.tables import formatted

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DEPTH, UNITS, X = "depth", "units", "x"
UP_TO = "up to"  # the number of steps of sequences that may differ in length
PRODUCT, FROM_FIRST = "product norm (log10)", "from first state"
DIFFERENCE = "Jacobian against differences (relative)"
MOVE = "largest move of the state in a step / its size"


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class StepResult(Result):
    """Numbers along one run of T steps."""

    run_texts: ClassVar[tuple[str, ...]] = (DEPTH, UNITS, TIME_STEPS, X, PRODUCT, FROM_FIRST)
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
