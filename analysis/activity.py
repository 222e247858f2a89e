"""The activity of a network's transform gates: the numbers, their table, and figure 5(b) of Zilly
et al. (2017). Does not need torch.

Legend: L layers (counted from 1 through all stacked cells), S sequences, T steps of a sequence
(frames or tokens), N steps of all sequences one after another.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Self

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis

from rhn.data.vocabulary import EOS
from rhn.plotting.old_figures import (
    Block,
    Shown,
    WholeTicks,
    compose,
    isolated_points,
    name_ends,
    shade_style,
)
from rhn.utils.figures import GREY
from rhn.utils.old import Result, counted, drawable, percent, table

HEIGHT = 1.7  # inches of a panel
BAR = 4  # quarter notes between the lines of a chorale

NEAREST_BARS = 3  # points between bar lines; closer ones are left out
TICK_SIZE = 6  # points, of the tokens on a time axis
LONGEST_WORD = 12  # characters of a token on a time axis
VISIBLE = {"\n": "↵", " ": "␣"}
TIME = {
    "frame": ("quarter notes", "a line every 4"),
    "token": ("tokens", "lines: <eos> or newline"),
}


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class GateActivity(Result, kind="gates_by_layer"):
    """The transform gates of each layer of a network, at each step of some sequences.

    >>> from analysis import gate_activity
    >>> from rhn import PolyphonicModel
    >>> found = gate_activity(PolyphonicModel("rhn", hidden_size=3, depth=2), np.ones((4, 88)))
    >>> found.activity.shape, found.labels  # (layers, frames)
    ((2, 4), ('1', '2'))
    """

    labels: tuple[str, ...]
    """Names of the layers: "1".."L", or "1.1", "1.2", "2.1", ... in stacked networks."""
    names: tuple[str, ...]
    """Names of the sequences."""
    lengths: np.ndarray
    """Number of steps of each sequence, (S,)."""
    activity: np.ndarray
    """Mean transform gate of each layer over its units, at each step, (L, N)."""
    open: np.ndarray
    """Share (0..1) of the units of each layer whose gate is above 0.9, at each step, (L, N)."""
    closed: np.ndarray
    """Share (0..1) of the units of each layer whose gate is below 0.1, at each step, (L, N)."""
    symbols: np.ndarray = field(default_factory=lambda: np.empty(0, str))
    """Token at each step of a text, (N,); empty for chorales, (0,)."""
    gate_name: str = "transform gate"
    """Usual name of the transform gates of this cell: for an LSTM the input gate."""
    coupled: bool = True
    """True if each layer replaces the share t of the state. If so, the sum of t over the layers is
    the effective depth.
    """
    shown: int = 2
    """Number of sequences, counted from the first, that the figure and the printed table show.
    Means are over all sequences.
    """

    @property
    def layers(self) -> int:
        """Number of layers, L."""
        return len(self.labels)

    @property
    def step(self) -> str:
        """The kind of a step: "frame" or "token"."""
        return "token" if len(self.symbols) else "frame"

    @property
    def sequences(self) -> list[Self]:
        """The gates of each sequence, as separate results."""
        parts = [
            np.s_[..., end - T : end]
            for end, T in zip(np.cumsum(self.lengths), self.lengths, strict=True)
        ]
        arrays = ("activity", "open", "closed", "symbols")
        return [
            replace(
                self,
                names=(name,),
                lengths=T,
                **{array: getattr(self, array)[part] for array in arrays},
            )
            for name, part, T in zip(
                self.names, parts, np.split(self.lengths, len(parts)), strict=True
            )
        ]

    @property
    def steps(self) -> int:
        """Number of steps of all sequences, N."""
        return self.activity.shape[1]

    @property
    def mean_by_layer(self) -> np.ndarray:
        """Mean gate of each layer over all steps and units, (L,)."""
        return self.activity.mean(1)

    @property
    def effective_depth(self) -> np.ndarray:
        """Sum of the mean gates of the layers at each step, (N,). If `coupled`, this is the
        effective number of layers.
        """
        return self.activity.sum(0)

    @property
    def bars(self) -> np.ndarray:
        """Steps to mark by lines: every fourth quarter note of a chorale, or the ends of lines of a
        text.
        """
        if len(self.symbols):
            return np.flatnonzero(np.isin(self.symbols, (EOS, "\n"))) + 1
        return np.arange(0, self.steps, BAR)

    @property
    def saturation(self) -> np.ndarray:
        """Shares (0..1) of the gates of each layer that are closed (below 0.1), in between, and
        open (above 0.9), over all steps and units, (L, 3).
        """
        closed, opened = self.closed.mean(1), self.open.mean(1)
        return np.stack((closed, 1 - closed - opened, opened), 1)

    @property
    def finding(self) -> str:
        """A sentence with the mean of the gates. The sentence also names the layer with the largest
        mean, if this mean is more than a tenth above the others.
        """
        means = self.mean_by_layer
        words = f"The {self.gate_name}s are {percent(means.mean())} open on average"
        most = int(means.argmax())
        clear = self.layers > 1 and means[most] > 1.1 * np.delete(means, most).max()
        return f"{words}, most in layer {self.labels[most]}" if clear else words

    def notes(self) -> list[str]:
        """Return sentences about the effective depth, if gates are coupled, and the amount of
        data.
        """
        where = self.names[0] if len(self.names) == 1 else counted(len(self.names), "sequence")
        words = f"Means over {where}, {counted(self.steps, self.step)}"
        if len(self.names) > self.shown:
            words += f"; the first {self.shown} are shown"
        depth = f"The effective depth is {float(self.mean_by_layer.sum()):.3g} layers."
        return [depth, f"{words}."] if self.coupled else [f"{words}."]

    def lines(self) -> Iterator[str]:
        """Yield the lines of a table, which has one row for each layer. If gates are coupled, one
        more row has the effective depth (mean over time) of each sequence.
        """
        shown, whole = self.sequences[: self.shown], self.mean_by_layer
        rows = []
        for l, (label, shares) in enumerate(zip(self.labels, self.saturation, strict=True)):
            means = [*(s.mean_by_layer[l] for s in shown), whole[l]]
            rows.append((label, *map("{:.3f}".format, means), *map("{:.1%}".format, shares)))
        rows = rows[::-1]
        if self.coupled:
            depths = [*(s.effective_depth.mean() for s in shown), whole.sum()]
            rows.append(("sum", *map("{:.2f}".format, depths), "", "", ""))
        heads = ("layer", *(s.names[0] for s in shown), "all", "below 0.1", "between", "above 0.9")
        yield from table(heads, rows).split("\n")

    def table(self) -> list[dict]:
        """Return a row for each sequence, layer and step: the mean gate, and the shares of units
        whose gate is open and closed.
        """
        return [
            {"sequence": s.names[0], "layer": label, "step": step}
            | {name: float(getattr(s, name)[l, step]) for name in ("activity", "open", "closed")}
            for s in self.sequences
            for l, label in enumerate(self.labels)
            for step in range(s.steps)
        ]

    def _draw(self, ax: Axes, **_: Any) -> None:
        """Draw the mean gate of each layer over time, along the first sequence, one line for each
        layer.

        Thin lines mark the bars, and the tokens of a text are below the axis; both only if they
        fit.
        """
        self._draw_sequence(ax, k=0, steps=int(self.lengths[0]))

    def _draw_sequence(self, ax: Axes, *, k: int, steps: int) -> None:
        """Draw the k-th sequence on a time axis of `steps` steps."""
        sequence = self.sequences[k]
        points = 72 * (ax.figure.figure.get_figwidth() - 2)  # without labels and colour bar
        for l, (label, gate) in enumerate(zip(self.labels, sequence.activity, strict=True)):
            style = shade_style(l, self.layers) | isolated_points(gate)
            ax.plot(np.arange(sequence.steps) + 0.5, gate, label=f"layer {label}", **style)
        fit = len(sequence.bars) * NEAREST_BARS * steps <= points * sequence.steps
        for bar in sequence.bars if fit else ():
            ax.axvline(bar, color=GREY, linewidth=0.5, alpha=0.6, zorder=2)
        ax.xaxis.set_major_locator(WholeTicks())
        largest = self.activity.max(where=np.isfinite(self.activity), initial=0)
        ax.set(
            xlim=(0, steps),
            ylim=(0, 1.05 * largest or 1),
            xlabel=f"time ({'; '.join(TIME[self.step][: 1 + fit])})",
            ylabel=f"mean {self.gate_name}",
        )
        ax.set_title(drawable(sequence.names[0]), loc="left")
        if len(sequence.symbols) and steps * 1.1 * TICK_SIZE <= points:
            shown = [_shown(symbol) for symbol in sequence.symbols.tolist()]
            turned = 90 if max(map(len, shown)) > 2 else 0
            ax.set_xticks(np.arange(len(shown)) + 0.5, shown, rotation=turned, fontsize=TICK_SIZE)
            ax.tick_params(axis="x", length=0, pad=1)

    def _figure(self, step: int | None, limit: float | None) -> Shown:
        """Draw one panel for each shown sequence. The names of layers are at the ends of the
        curves, or in a legend.
        """

        def panel(k: int, ax: Axes) -> None:
            self._draw_sequence(ax, k=k, steps=steps)
            if self.layers > 1:
                name_ends(ax, HEIGHT)

        count = min(len(self.names), self.shown)
        words = 0.5 if self.step == "token" else 0.0  # inches of tokens below
        steps = int(self.lengths[:count].max())
        draws = [partial(panel, k) for k in range(count)]
        panels = Block(draws, HEIGHT + words, legend=True)
        shown = f"shown: the first {count}" if count < len(self.names) else ""
        about = "; ".join(filter(None, (self.title, self.about, shown)))
        return compose(self.finding, about, panels)


def layer_ticks(labels: Sequence[str], axis: Axis, first: int = 1) -> None:
    """Label an axis with the names of as many layers as fit. first: position of the first layer."""
    named = dict(enumerate(labels, first))
    axis.set_major_locator(WholeTicks())
    axis.set_major_formatter(lambda place, _: named.get(round(place), ""))


def _shown(symbol: str) -> str:
    """Return a token as a tick label."""
    text = VISIBLE.get(symbol) or drawable(symbol)
    return text if len(text) <= LONGEST_WORD else text[: LONGEST_WORD - 1] + "…"
