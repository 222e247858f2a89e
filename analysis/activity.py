"""The activity of a network's transform gates: the numbers, their table, and figure 5(b) of Zilly et al. (2017). No torch.

Legend: L layers (counted from 1 through all stacked cells), T steps of a sequence (frames or tokens), n units (counted from 1).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rhn.utils.figures import BLUE, GREEN, GREY, ORANGE, RED, drawable, in_inches, legend_columns, titled
from rhn.utils.result import Result

LEAST_SPAN = 0.1  # of mean gates, between the two ends of the colour scale
SHOWN_SEQUENCES = 6  # in the printed table

GATES = LinearSegmentedColormap.from_list("transform gate", ["#ffffff", "#ff0000"])  # gaps show the axes' grey
CLOSED_TO_OPEN = {"below 0.1": "#ffffff", "between": "#ff9999", "above 0.9": "#ff0000"}
GAP = 2  # steps between sequences in one panel
COLOURS, DASHES = (BLUE, ORANGE, GREEN, RED), ("-", "--", "-.", ":")
LINES = [(COLOURS[(k + k // 4) % 4], DASHES[k % 4]) for k in range(8)]  # of sequences
NEAREST_BARS = 3  # points between bar lines; closer ones are left out
MOST_TICKS = 10  # of layers
LONGEST_NAME = 20  # characters of a sequence's name in a legend
TICK_SIZE = 6  # points, of the tokens on a time axis
LONGEST_WORD = 12  # characters of a token on a time axis
VISIBLE = {"\n": "↵", " ": "␣"}


@dataclass(frozen=True, kw_only=True, eq=False)
class SequenceActivity:
    """The transform gates along one sequence."""

    name: str
    activity: np.ndarray
    """Mean over the units of each layer's transform gate, (L, T)."""
    open: np.ndarray
    """Share (0..1) of units whose gate is above 0.9, (L, T)."""
    closed: np.ndarray
    """Share (0..1) of units whose gate is below 0.1, (L, T)."""
    bars: np.ndarray
    """First step of each bar; in a text, the ends of the lines."""
    bars_from_score: bool
    """Whether the bars are those of the score; otherwise every 4 quarter notes."""
    symbols: np.ndarray = field(default_factory=lambda: np.empty(0, str))
    """Names of the tokens of a text, (T,); for chorales (0,)."""

    @property
    def steps(self) -> int:
        """T."""
        return self.activity.shape[1]

    @property
    def mean_by_layer(self) -> np.ndarray:
        """Mean over time and units, (L,)."""
        return self.activity.mean(1)

    @property
    def effective_depth(self) -> np.ndarray:
        """Sum of the layers' mean gates at each step, (T,)."""
        return self.activity.sum(0)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class GateActivity(Result, kind="gates_by_layer"):
    """The transform gates of a network along some sequences, and statistics of its single units over all of them."""

    former = "unit_switching"

    labels: tuple[str, ...]
    """Names of the layers: "1".."L", or "1.1", "1.2", "2.1", ... in stacked networks."""
    sequences: tuple[SequenceActivity, ...]
    unit_mean: np.ndarray
    """Mean gate of each unit, (L, n)."""
    unit_switching: np.ndarray
    """Mean absolute change of each unit's gate from one step to the next, (L, n) in 0..1; NaN if no sequence has two steps."""
    gate_name: str = "transform gate"
    """The word for these gates in the literature of the cell; an LSTM's are its input gates."""

    @property
    def layers(self) -> int:
        """L."""
        return len(self.labels)

    @property
    def step(self) -> str:
        """The kind of a step: "frame" or "token"."""
        return "token" if any(len(s.symbols) for s in self.sequences) else "frame"

    @property
    def mean_by_layer(self) -> np.ndarray:
        """Mean over all steps and units, (L,)."""
        return self.unit_mean.mean(1)

    @property
    def saturation(self) -> np.ndarray:
        """Shares (0..1) of gates closed (below 0.1), in between and open (above 0.9), over all steps and units, (L, 3)."""
        closed, opened = (
            np.concatenate([getattr(s, k) for s in self.sequences], 1).mean(1) for k in ("closed", "open")
        )
        return np.stack((closed, 1 - closed - opened, opened), 1)

    @property
    def limits(self) -> tuple[float, float]:
        """Ends of the colour scale within 0..1: the least and the greatest mean gate, at least `LEAST_SPAN` apart, so that small
        differences do not look large; 0 and 1 if no gate is finite."""
        values = np.concatenate([s.activity for s in self.sequences], axis=1)
        if not np.isfinite(values).any():
            return 0.0, 1.0
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
        if high - low >= LEAST_SPAN:
            return low, high
        low = min(max((low + high - LEAST_SPAN) / 2, 0.0), 1.0 - LEAST_SPAN)
        return low, low + LEAST_SPAN

    def most_switching(self, count: int = 5) -> list[tuple[str, int, float]]:
        """(Layer's label, unit from 1, mean absolute change a step) of the units that switch most, in falling order."""
        order = np.argsort(-self.unit_switching, axis=None, kind="stable")[:count]
        places = [divmod(int(k), self.unit_switching.shape[1]) for k in order]
        return [(self.labels[layer], unit + 1, float(self.unit_switching[layer, unit])) for layer, unit in places]

    def summary(self) -> str:
        """The table that `rhn-analyze gates` prints: a row a layer, then the units that switch most."""
        shown = self.sequences[:SHOWN_SEQUENCES]
        width = max(10, *(len(s.name) + 2 for s in shown))
        heads = f"{'layer':<8}" + "".join(f"{s.name:>{width}}" for s in shown)
        lines = [f"mean {self.gate_name} (0 closed, 1 open)"]
        lines.append(f"{heads}{'all':>8}   {'below 0.1':>9} {'between':>9} {'above 0.9':>9}")
        for l in reversed(range(self.layers)):
            means = "".join(f"{s.mean_by_layer[l]:>{width}.3f}" for s in shown)
            shares = " ".join(f"{share:>9.1%}" for share in self.saturation[l])
            lines.append(f"{self.labels[l]:<8}{means}{self.mean_by_layer[l]:>8.3f}   {shares}")
        depths = "".join(f"{s.effective_depth.mean():>{width}.2f}" for s in shown)
        lines.append(f"{'sum':<8}{depths}{self.mean_by_layer.sum():>8.2f}   (effective depth, mean over time)")
        if math.isfinite(self.most_switching(1)[0][2]):
            units = (f"layer {label} unit {unit} ({change:.2f})" for label, unit, change in self.most_switching(4))
            lines.append(f"switching most (mean change a {self.step}): {', '.join(units)}")
        return "\n".join(lines)

    def table(self) -> list[dict]:
        """A row for each sequence, layer and step: the mean gate, and the shares of units open and closed."""
        return [
            {"sequence": s.name, "layer": label, "step": step}
            | {name: float(getattr(s, name)[l, step]) for name in ("activity", "open", "closed")}
            for s in self.sequences
            for l, label in enumerate(self.labels)
            for step in range(s.steps)
        ]

    def to_dict(self) -> dict:
        """The JSON object of `rhn-analyze gates --json`."""
        arrays = ("mean_by_layer", "activity")
        sequences = [
            {"name": s.name, "steps": s.steps} | {name: getattr(s, name).tolist() for name in arrays}
            for s in self.sequences
        ]
        return {"layers": self.layers, "sequences": sequences}

    def plot(self, ax=None):
        """Layers x time, white the least gate, red the greatest, sequences side by side; returns the Axes."""
        return plot_gates(self, ax=ax)

    def figure(self) -> Figure:
        """A panel a sequence; below, effective depth and the distribution over units."""
        return draw_gates(self)

    def _saved(self) -> dict:
        """The arrays of each sequence by name: "sequence0.activity"."""
        parts = {f"sequence{k}.{name}": value for k, s in enumerate(self.sequences) for name, value in vars(s).items()}
        return vars(self) | {"labels": np.array(self.labels), "sequences": None} | parts

    @classmethod
    def _of_file(cls, values: Mapping, read: Callable) -> Self:
        count = sum(name.endswith(".activity") for name in values)
        found = [
            {name: np.asarray(values[f"sequence{k}.{name}"]) for name in SequenceActivity.__dataclass_fields__}
            for k in range(count)
        ]
        scalars = ("name", "bars_from_score")
        sequences = (SequenceActivity(**{k: v.item() if k in scalars else v for k, v in s.items()}) for s in found)
        texts = {name: str(values[name]) for name in ("title", "about", "gate_name") if name in values}
        units = {name: np.asarray(values[name], float) for name in ("unit_mean", "unit_switching")}
        return cls(labels=tuple(np.asarray(values["labels"]).tolist()), sequences=tuple(sequences), **texts, **units)


def plot_gates(
    record: GateActivity,
    ax: Axes | None = None,
    *,
    sequences: Sequence[SequenceActivity] = (),
    steps: int = 0,
    limits: tuple[float, float] | None = None,
) -> Axes:
    """Draw layers x time with thin lines at the bars; below a single sequence its tokens, if they fit.

    Several sequences follow one another, with a grey gap between them and their names above. Bars too close together are left out.

    sequences: those drawn; default: all.
    steps: least length of the axis.
    limits: the gates that are white and red; None: `GateActivity.limits`.
    """
    sequences = sequences or record.sequences
    ax = ax or Figure(figsize=(9, 1.2 + 0.22 * record.layers), layout="constrained").subplots()
    gap, parts, start = np.full((record.layers, GAP), np.nan), [], 0
    total = max(steps, sum(s.steps + GAP for s in sequences) - GAP)
    inches = ax.figure.figure.get_figwidth() - 2  # without labels and colour bar
    for s in sequences:
        parts += [s.activity, gap]
        for bar in s.bars if len(s.bars) * NEAREST_BARS * total <= 72 * inches * s.steps else ():
            ax.axvline(start + bar, color=GREY, linewidth=0.5, alpha=0.6, zorder=2)
        if len(sequences) > 1:
            place, name = (start + s.steps / 2, record.layers + 0.55), in_inches(s.name, inches * s.steps / total, 8)
            ax.text(*place, name, ha="center", va="bottom", fontsize=8)
        start += s.steps + GAP
    low, high = limits or record.limits
    values = np.concatenate(parts[:-1], 1)
    extent = (0, values.shape[1], 0.5, record.layers + 0.5)
    ax.imshow(values, aspect="auto", extent=extent, cmap=GATES, vmin=low, vmax=high, origin="lower")
    layer_ticks(record.labels, ax.yaxis)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_facecolor("#eeeeee")  # after the end: white is the least gate
    ax.set(xlim=(0, total), xlabel=_time_label(record), ylabel="layer")
    if len(sequences) == 1:
        ax.set_title(in_inches(s.name, inches, 9), loc="left")
        _token_ticks(s, total, ax)
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
    shown = record.sequences[: len(LINES)]
    for sequence, (colour, dashes) in zip(shown, LINES, strict=False):
        label, dot = drawable(_cut(sequence.name, LONGEST_NAME)), "o" if sequence.steps == 1 else ""
        style = {"color": colour, "linestyle": dashes, "linewidth": 1, "marker": dot, "markersize": 4}
        ax.step(np.arange(sequence.steps) + 0.5, sequence.effective_depth, where="mid", label=label, **style)
    highest = max(float(np.nan_to_num(sequence.effective_depth).max()) for sequence in shown)
    unit = {"frame": "quarter notes", "token": "tokens"}[record.step]
    ax.set(ylim=(0, 1.1 * highest or 1), xlabel=f"time ({unit})", ylabel="effective depth\n(sum of mean gates)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_above(ax)


def draw_gates(record: GateActivity, *, limits: tuple[float, float] | None = None) -> Figure:
    """Draw a panel a sequence with a shared colour bar; below, effective depth and the distribution over units.

    limits: as in `plot_gates`, the same for all panels.
    """
    words = max((len(_shown(word)) for s in record.sequences for word in s.symbols.tolist()), default=0)
    S, tall = len(record.sequences), 0.55 + 0.16 * record.layers + 0.05 * words
    figure = Figure(figsize=(9, S * tall + 4), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(S * tall + 1, 3))
    name, title = record.gate_name[:1].upper() + record.gate_name[1:], record.title
    titled(figure, f"{name}s{f' of {drawable(title)}' if title else ''}", drawable(record.about))
    panels, longest = np.atleast_1d(top.subplots(S, 1)), max(s.steps for s in record.sequences)
    for ax, sequence in zip(panels, record.sequences, strict=True):
        plot_gates(record, ax, sequences=(sequence,), steps=longest, limits=limits)
        ax.set_xlabel(_time_label(record) if ax is panels[-1] else "")
    label, shrink = f"mean {record.gate_name}\nof a layer's units", min(1.0, 2.2 / (S * tall))
    top.colorbar(panels[0].images[0], ax=panels.tolist(), label=label, shrink=shrink)
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


def _token_ticks(sequence: SequenceActivity, total: int, ax: Axes) -> None:
    """Write the tokens below a time axis of `total` steps, characters upright, words turned; nothing if they would overlap."""
    inches = ax.figure.figure.get_figwidth() - 2  # without the labels and the colour bar; the axes' may be a subfigure
    shown = [_shown(symbol) for symbol in sequence.symbols.tolist()]
    if not shown or total * 1.1 * TICK_SIZE > 72 * inches:
        return
    turned = 90 if max(map(len, shown)) > 2 else 0
    ax.set_xticks(np.arange(sequence.steps) + 0.5, shown, rotation=turned, fontsize=TICK_SIZE)
    ax.tick_params(axis="x", length=0, pad=1)


def _shown(symbol: str) -> str:
    """A token as a tick label."""
    return _cut(VISIBLE.get(symbol) or drawable(symbol), LONGEST_WORD)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _time_label(record: GateActivity) -> str:
    if record.step == "token":
        return "time (tokens; lines: <eos> or newline)"
    by_score = {s.bars_from_score for s in record.sequences}
    lines = {True: "the score's bars", False: "every 4 quarter notes"}
    return f"time (quarter notes; lines: {' or '.join(lines[k] for k in sorted(by_score, reverse=True))})"
