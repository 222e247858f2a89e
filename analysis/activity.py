"""The activity of a network's transform gates: the numbers, their table, and figure 5(b) of Zilly et al. (2017). No torch.

Legend: L layers (counted from 1 through all stacked cells), S sequences, T steps of a sequence (frames or tokens), N steps of all
sequences one after another.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gersgorin.plotting.figure import line_style, own_axes
from rhn.data.vocabulary import EOS
from rhn.utils.figures import GREY, drawable, in_inches, legend_columns, titled
from rhn.utils.result import Result

LEAST_SPAN = 0.1  # of mean gates, between the two ends of the colour scale
SHOWN_SEQUENCES = 6  # in the printed table
BAR = 4  # quarter notes between the lines of a chorale

GATES = LinearSegmentedColormap.from_list("transform gate", ["#ffffff", "#ff0000"])
CLOSED_TO_OPEN = {"below 0.1": "#ffffff", "between": "#ff9999", "above 0.9": "#ff0000"}
MOST_LINES = 8  # of sequences
NEAREST_BARS = 3  # points between bar lines; closer ones are left out
MOST_TICKS = 10  # of layers
LONGEST_NAME = 20  # characters of a sequence's name in a legend
TICK_SIZE = 6  # points, of the tokens on a time axis
LONGEST_WORD = 12  # characters of a token on a time axis
VISIBLE = {"\n": "↵", " ": "␣"}
TIME = {"frame": "time (quarter notes; a line every 4)", "token": "time (tokens; lines: <eos> or newline)"}


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class GateActivity(Result, kind="gates_by_layer"):
    """The transform gates of a network along some sequences."""

    labels: tuple[str, ...]
    """Names of the layers: "1".."L", or "1.1", "1.2", "2.1", ... in stacked networks."""
    names: tuple[str, ...]
    """Names of the sequences."""
    lengths: np.ndarray
    """Steps of each sequence, (S,)."""
    activity: np.ndarray
    """Mean over the units of each layer's transform gate, (L, N)."""
    open: np.ndarray
    """Share (0..1) of units whose gate is above 0.9, (L, N)."""
    closed: np.ndarray
    """Share (0..1) of units whose gate is below 0.1, (L, N)."""
    symbols: np.ndarray = field(default_factory=lambda: np.empty(0, str))
    """Names of the tokens of texts, (N,); for chorales (0,)."""
    gate_name: str = "transform gate"
    """The word for these gates in the literature of the cell; an LSTM's are its input gates."""

    @property
    def layers(self) -> int:
        """L."""
        return len(self.labels)

    @property
    def step(self) -> str:
        """The kind of a step: "frame" or "token"."""
        return "token" if len(self.symbols) else "frame"

    @property
    def sequences(self) -> list[Self]:
        """Each sequence by itself."""
        parts = [np.s_[..., end - T : end] for end, T in zip(np.cumsum(self.lengths), self.lengths, strict=True)]
        arrays = ("activity", "open", "closed", "symbols")
        return [
            replace(self, names=(name,), lengths=T, **{array: getattr(self, array)[part] for array in arrays})
            for name, part, T in zip(self.names, parts, np.split(self.lengths, len(parts)), strict=True)
        ]

    @property
    def steps(self) -> int:
        """N."""
        return self.activity.shape[1]

    @property
    def mean_by_layer(self) -> np.ndarray:
        """Mean over all steps and units, (L,)."""
        return self.activity.mean(1)

    @property
    def effective_depth(self) -> np.ndarray:
        """Sum of the layers' mean gates at each step, (N,)."""
        return self.activity.sum(0)

    @property
    def bars(self) -> np.ndarray:
        """Every fourth quarter note of a chorale; in texts, the ends of the lines."""
        if len(self.symbols):
            return np.flatnonzero(np.isin(self.symbols, (EOS, "\n"))) + 1
        return np.arange(0, self.steps, BAR)

    @property
    def saturation(self) -> np.ndarray:
        """Shares (0..1) of gates closed (below 0.1), in between and open (above 0.9), over all steps and units, (L, 3)."""
        closed, opened = self.closed.mean(1), self.open.mean(1)
        return np.stack((closed, 1 - closed - opened, opened), 1)

    @property
    def limits(self) -> tuple[float, float]:
        """Ends of the colour scale within 0..1: the least and the greatest mean gate, at least `LEAST_SPAN` apart, so that small
        differences do not look large; 0 and 1 if no gate is finite."""
        if not np.isfinite(self.activity).any():
            return 0.0, 1.0
        low, high = float(np.nanmin(self.activity)), float(np.nanmax(self.activity))
        if high - low >= LEAST_SPAN:
            return low, high
        low = min(max((low + high - LEAST_SPAN) / 2, 0.0), 1.0 - LEAST_SPAN)
        return low, low + LEAST_SPAN

    def sentences(self) -> Iterator[str]:
        """The table that `rhn-analyze gates` prints: a row a layer."""
        shown = self.sequences[:SHOWN_SEQUENCES]
        width = max(10, *(len(s.names[0]) + 2 for s in shown))
        heads = f"{'layer':<8}" + "".join(f"{s.names[0]:>{width}}" for s in shown)
        yield f"mean {self.gate_name} (0 closed, 1 open)"
        yield f"{heads}{'all':>8}   {'below 0.1':>9} {'between':>9} {'above 0.9':>9}"
        for l in reversed(range(self.layers)):
            means = "".join(f"{s.mean_by_layer[l]:>{width}.3f}" for s in shown)
            shares = " ".join(f"{share:>9.1%}" for share in self.saturation[l])
            yield f"{self.labels[l]:<8}{means}{self.mean_by_layer[l]:>8.3f}   {shares}"
        depths = "".join(f"{s.effective_depth.mean():>{width}.2f}" for s in shown)
        yield f"{'sum':<8}{depths}{self.mean_by_layer.sum():>8.2f}   (effective depth, mean over time)"

    def table(self) -> list[dict]:
        """A row for each sequence, layer and step: the mean gate, and the shares of units open and closed."""
        return [
            {"sequence": s.names[0], "layer": label, "step": step}
            | {name: float(getattr(s, name)[l, step]) for name in ("activity", "open", "closed")}
            for s in self.sequences
            for l, label in enumerate(self.labels)
            for step in range(s.steps)
        ]

    def plot(self, ax=None, k: int = 0):
        """Layers x time of the k-th sequence, white the least gate, red the greatest; returns the Axes."""
        return plot_gates(self, self.sequences[k], own_axes(9, 1.2 + 0.22 * self.layers) if ax is None else ax)

    def figure(self) -> Figure:
        """A panel a sequence; below, effective depth and the distribution over units."""
        return draw_gates(self)


def plot_gates(record: GateActivity, sequence: GateActivity, ax: Axes, limits: tuple[float, float] = ()) -> Axes:
    """Draw layers x time with thin lines at the bars, and the tokens of a text; both only if they fit.

    limits: the gates that are white and red; default: `GateActivity.limits`.
    """
    low, high = limits or record.limits
    steps, points = (
        int(record.lengths.max()),
        72 * (ax.figure.figure.get_figwidth() - 2),
    )  # without labels and colour bar
    extent = (0, sequence.steps, 0.5, record.layers + 0.5)
    ax.imshow(sequence.activity, aspect="auto", extent=extent, cmap=GATES, vmin=low, vmax=high, origin="lower")
    for bar in sequence.bars if len(sequence.bars) * NEAREST_BARS * steps <= points * sequence.steps else ():
        ax.axvline(bar, color=GREY, linewidth=0.5, alpha=0.6, zorder=2)
    layer_ticks(record.labels, ax.yaxis)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_facecolor("#eeeeee")  # after the end: white is the least gate
    ax.set(xlim=(0, steps), xlabel=TIME[record.step], ylabel="layer")
    ax.set_title(in_inches(sequence.names[0], points / 72, 9), loc="left")
    if len(sequence.symbols) and steps * 1.1 * TICK_SIZE <= points:
        shown = [_shown(symbol) for symbol in sequence.symbols.tolist()]
        turned = 90 if max(map(len, shown)) > 2 else 0
        ax.set_xticks(np.arange(len(shown)) + 0.5, shown, rotation=turned, fontsize=TICK_SIZE)
        ax.tick_params(axis="x", length=0, pad=1)
    return ax


def plot_saturation(record: GateActivity, ax: Axes) -> None:
    """Draw for each layer the shares of gates that are closed, in between and open."""
    left, layers = np.zeros(record.layers), np.arange(1, record.layers + 1)
    for share, (name, colour) in zip(record.saturation.T, CLOSED_TO_OPEN.items(), strict=True):
        ax.barh(layers, share, left=left, color=colour, edgecolor=GREY, linewidth=0.5, height=0.75, label=name)
        left = left + share
    ax.set(xlim=(0, 1), ylabel="layer", xlabel="share of gates, over units and time")
    layer_ticks(record.labels, ax.yaxis)
    legend_above(ax, f"{record.gate_name}s")


def plot_effective_depth(record: GateActivity, ax: Axes) -> None:
    """Draw the sum of the layers' mean gates over time, a line for each sequence, at most eight."""
    shown = record.sequences[:MOST_LINES]
    for k, sequence in enumerate(shown):
        label, dot = drawable(_cut(sequence.names[0], LONGEST_NAME)), "o" if sequence.steps == 1 else ""
        style = line_style(k) | {"linewidth": 1, "marker": dot, "markersize": 4}
        ax.step(np.arange(sequence.steps) + 0.5, sequence.effective_depth, where="mid", label=label, **style)
    highest = max(float(np.nan_to_num(sequence.effective_depth).max()) for sequence in shown)
    unit = {"frame": "quarter notes", "token": "tokens"}[record.step]
    ax.set(ylim=(0, 1.1 * highest or 1), xlabel=f"time ({unit})", ylabel="effective depth\n(sum of mean gates)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_above(ax)


def draw_gates(record: GateActivity, *, limits: tuple[float, float] = ()) -> Figure:
    """Draw a panel a sequence with a shared colour bar; below, effective depth and the distribution over units.

    limits: as in `plot_gates`, the same for all panels.
    """
    sequences, words = record.sequences, max((len(_shown(word)) for word in record.symbols.tolist()), default=0)
    height = len(sequences) * (0.55 + 0.16 * record.layers + 0.05 * words)
    figure = Figure(figsize=(9, height + 4), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(height + 1, 3))
    name, title = record.gate_name[:1].upper() + record.gate_name[1:], record.title
    titled(figure, f"{name}s{f' of {drawable(title)}' if title else ''}", drawable(record.about))
    panels = np.atleast_1d(top.subplots(len(sequences), 1))
    for ax, sequence in zip(panels, sequences, strict=True):
        plot_gates(record, sequence, ax, limits)
        if ax is not panels[-1]:
            ax.set_xlabel("")
    label = f"mean {record.gate_name}\nof a layer's units"
    top.colorbar(panels[0].images[0], ax=panels.tolist(), label=label, shrink=min(1.0, 2.2 / height))
    left, right = bottom.subplots(1, 2, width_ratios=(1.4, 1))
    plot_effective_depth(record, left)
    plot_saturation(record, right)
    return figure


def layer_ticks(labels: Sequence[str], axis: Axis, first: int = 1) -> None:
    """Label an axis with layers, or with some of them if they are many."""
    every = math.ceil(len(labels) / MOST_TICKS)
    axis.set_ticks(range(first, first + len(labels), every), [label.replace("+", "+\n") for label in labels[::every]])


def legend_above(ax: Axes, title: str | None = None) -> None:
    """Draw the legend above the axes, in as many columns as fit."""
    handles, labels = ax.get_legend_handles_labels()
    columns = legend_columns(labels, 0.9 * ax.get_window_extent().width / ax.figure.dpi)
    words = {"title": title, "title_fontsize": 8, "alignment": "left"}
    ax.legend(handles, labels, loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, **words)


def _shown(symbol: str) -> str:
    """A token as a tick label."""
    return _cut(VISIBLE.get(symbol) or drawable(symbol), LONGEST_WORD)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
