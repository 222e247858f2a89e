"""The figure of `cure`: relative errors by initial weights, optimiser and learning rate.

    ErrorByRate(found.table(), whole=300, changed=True).draw(ax)

A line joins only errors that can be compared: after all steps, of one choice of initial weights and
one optimiser, at learning rates that were tried next to each other.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes

from rhn.plotting.figure import DASHED, Style, ink, line_style
from rhn.utils.figures import GREY, MARKERS
from rhn.utils.wording import counted

TWICE = 2.0  # relative error up to which the axis is to scale, unless a limit is given
MARGIN = 0.08  # of the height of the errors, at both ends of the axis
APART = 0.14  # of a column, between two choices of initial weights
LETTER = 0.6  # width of a letter, in its size
EARLY: Style = {"linestyle": "none", "markersize": 4, "markerfacecolor": "none"}
BEYOND: Style = {"linestyle": "none", "marker": "x", "markersize": 5}
RING: Style = {"linestyle": "none", "markerfacecolor": "none"}


@dataclass(frozen=True)
class ErrorByRate:
    """A figure of the rows of the table of a cure."""

    rows: Sequence[dict[str, Any]]
    """The unchanged training run, then the chosen change if there is one, then other changes."""
    whole: int
    """Number of steps after which errors are compared."""
    changed: bool
    """True if the second row is a chosen change."""
    limit: float | None = None
    """Upper end of the axis; None: chosen from the errors."""

    @cached_property
    def starts(self) -> list[str]:
        """The choices of initial weights."""
        return list(dict.fromkeys(row["start"] for row in self.rows))

    @cached_property
    def columns(self) -> dict[tuple[str, float], int]:
        """The place of each optimiser and learning rate, with a gap between two optimisers."""
        given, *_ = names = list(dict.fromkeys(row["optimizer"] for row in self.rows))
        tried = {(row["optimizer"], row["learning_rate"]) for row in self.rows}
        columns = sorted(tried, key=lambda column: (names.index(column[0]), column[1]))
        return {column: k + (column[0] != given) for k, column in enumerate(columns)}

    @property
    def most(self) -> float:
        """The largest error that is drawn to scale."""
        return TWICE if self.limit is None else self.limit

    @cached_property
    def errors(self) -> np.ndarray:
        """The errors that are drawn to scale, and 1, that of the constant predictor."""
        return np.array([1.0, *(row["error"] for row in self.rows if self.kind(row) != "beyond")])

    @property
    def margin(self) -> float:
        """Height of the margin at the ends of the axis."""
        return MARGIN * max(float(np.ptp(self.errors)), 0.1)

    @property
    def top(self) -> float:
        """The height of errors that are off the scale, near the upper end of the axis."""
        if self.limit is not None:
            return self.limit - self.margin
        return float(self.errors.max()) + 2 * self.margin

    def kind(self, row: dict[str, Any]) -> str:
        """Return "whole" for an error after all steps, "early" for a row that was stopped, "beyond"
        for an error that is off the scale.
        """
        if not row["error"] <= self.most:
            return "beyond"
        return "early" if row["steps"] < self.whole else "whole"

    def column(self, row: dict[str, Any]) -> int:
        """Return the column of a row."""
        return self.columns[row["optimizer"], row["learning_rate"]]

    def place(self, row: dict[str, Any]) -> tuple[float, float]:
        """Return the point of a row. Different initial weights are drawn side by side."""
        middle = (len(self.starts) - 1) / 2
        x = self.column(row) + APART * (self.starts.index(row["start"]) - middle)
        return x, self.top if self.kind(row) == "beyond" else row["error"]

    def points(self, start: str, kind: str) -> np.ndarray:
        """Return the points (2, n) of one kind, for one choice of initial weights."""
        rows = [row for row in self.rows if row["start"] == start and self.kind(row) == kind]
        return np.reshape([self.place(row) for row in rows], (-1, 2)).T

    def line(self, start: str) -> np.ndarray:
        """Return a point (2, columns) for each column, NaN if its error cannot be compared."""
        line = np.full((2, 1 + max(self.columns.values())), math.nan)
        for row in self.rows:
            if row["start"] == start and self.kind(row) == "whole":
                line[:, self.column(row)] = self.place(row)
        return line

    def draw(self, ax: Axes) -> None:
        """Draw all rows into axes."""
        for k, start in enumerate(self.starts):
            style = line_style(k) | {"marker": MARKERS[k % len(MARKERS)]}
            ax.plot(*self.line(start), label=start, **style | {"markersize": 5})
            ax.plot(*self.points(start, "early"), **style | EARLY)
            ax.plot(*self.points(start, "beyond"), **style | BEYOND)
        ax.axhline(1, **DASHED | {"color": ink(ax)}, linewidth=0.8, label="the constant predictor")
        self._name_marks(ax)
        self._ring(ax, self.rows[0], "s", GREY, "your training run, unchanged")
        if self.changed:
            self._ring(ax, self.rows[1], "o", ink(ax), "chosen")
        self._label(ax)

    def _ring(self, ax: Axes, row: dict[str, Any], marker: str, color: Any, words: str) -> None:
        """Draw a ring around the point of a row."""
        ring = {"marker": marker, "color": color, "markersize": 11, "label": words}
        ax.plot(*self.place(row), **RING | ring)

    def _name_marks(self, ax: Axes) -> None:
        """Add the marks of stopped rows and of errors off the scale to the legend."""
        steps = [row["steps"] for row in self.rows if self.kind(row) == "early"]
        if steps:
            first, last = min(steps), max(steps)
            when = f"step {first:,}" if first == last else f"steps {first:,} to {last:,}"
            words = f"open: stopped early, at {when}"
            ax.plot([], [], label=words, **EARLY | {"marker": "o", "color": GREY})
        beyond = [row["error"] for row in self.rows if self.kind(row) == "beyond"]
        if beyond:
            diverged = [not math.isfinite(error) for error in beyond]
            kinds = [] if all(diverged) else [f"above {self.most:g}"]
            kinds += ["diverged"] if any(diverged) else []
            words = f"off the scale: {' or '.join(kinds)}"
            ax.plot([], [], label=words, **BEYOND | {"color": GREY})

    def _label(self, ax: Axes) -> None:
        """Label the axes, and separate two optimisers."""
        names = [f"{rate:.3g}" for _, rate in self.columns]
        ax.set_xticks([*self.columns.values()], names)
        room = ax.bbox.width / ax.figure.dpi / len(names)
        if max(map(len, names)) * LETTER * rcParams["font.size"] / 72 > room:
            ax.tick_params(axis="x", labelrotation=45)
        optimizers = list(dict.fromkeys(optimizer for optimizer, _ in self.columns))
        words = f"learning rate of {optimizers[0]}"
        for other in optimizers[1:]:
            gap = min(k for (name, _), k in self.columns.items() if name == other) - 1
            ax.axvline(gap, color=GREY, linewidth=0.8, linestyle=":")
            words += f" (left) and {other} (right)"
        after = counted(self.whole, "optimiser step")
        ax.set(xlabel=words, ylabel=f"relative error after {after}")
        highest = max(self.place(row)[1] for row in self.rows)
        ax.set_ylim(self.errors.min() - self.margin, max(highest, 1.0) + self.margin / 2)
