"""The activity of transform gates as figures, from records alone: no torch. Figure 5(b) of Zilly et al. (2017).

Every `plot_*` draws into the axes it is given and returns them; every `draw_*` makes a whole figure.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.activity import GateActivity, SequenceActivity
from analysis.damage import LesionTable
from analysis.lesion_plots import draw_lesions
from rhn.plotting.figures import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    drawable,
    every_label,
    in_inches,
    legend_columns,
    titled,
)

GATES = LinearSegmentedColormap.from_list("transform gate", ["#ffffff", "#ff0000"])  # gaps show the axes' grey
CLOSED_TO_OPEN = {"below 0.1": "#ffffff", "between": "#ff9999", "above 0.9": "#ff0000"}
GAP = 2  # steps between sequences that share their axes
COLOURS, MARKERS = (BLUE, ORANGE, GREEN, RED), "osD^"
DASHES = ("-", (0, (5, 1)), (0, (1, 1)), (0, (5, 1, 1, 1)), (0, (3, 2)), (0, (1, 2)), (0, (8, 1, 1, 1)), (0, (8, 2)))
LEGEND = {"title_fontsize": 8, "alignment": "left"}
NEAREST_BARS = 3  # points between lines of bars; where they would be nearer they are left out
NARROWEST = 0.5  # points that a step is wide; where it would be narrower, steps are averaged
LONGEST_NAME = 20  # characters of a sequence's name in a legend
TICK_SIZE = 6  # points, of the tokens on a time axis
LONGEST = 12  # characters of a word on a time axis
TIME = {"frame": "quarter notes", "token": "tokens"}
VISIBLE = {"\n": "↵", " ": "␣"}


def plot_gates(
    record: GateActivity, ax: Axes | None = None, *, steps: int = 0, limits: tuple[float, float] | None = None
) -> Axes:
    """Layers x time, thin lines where bars begin; of a single sequence the tokens below, where they fit.

    Several sequences follow one another, with a grey gap between them and their names above. The axis has at least `steps` steps. Of a
    long run each column is the mean of some steps, and bars too near to be told apart are left out.
    limits: the gates that are drawn white and red; None: `GateActivity.limits`.
    """
    ax = ax or Figure(figsize=(9, 1.2 + 0.22 * record.layers), layout="constrained").subplots()
    gap, parts, start = np.full((record.layers, GAP), np.nan), [], 0
    total = sum(s.steps + GAP for s in record.sequences) - GAP
    room = 72 * (ax.figure.figure.get_figwidth() - 2) / max(total, steps)  # points a step
    for s in record.sequences:
        parts += [s.activity, gap]
        for bar in s.bars if len(s.bars) * NEAREST_BARS <= room * s.steps else ():
            ax.axvline(start + bar, color=GREY, linewidth=0.5, alpha=0.6, zorder=2)
        if len(record.sequences) > 1:
            place, name = (start + s.steps / 2, record.layers + 0.55), in_inches(s.name, room * s.steps / 72, 8)
            ax.text(*place, name, ha="center", va="bottom", fontsize=8)
        start += s.steps + GAP
    (low, high), each = limits or record.limits, max(1, round(NARROWEST / room))
    values = averaged(np.concatenate(parts[:-1], 1), each)
    extent = (0, values.shape[1] * each, 0.5, record.layers + 0.5)
    shown = {"cmap": GATES, "vmin": low, "vmax": high, "origin": "lower", "interpolation": "nearest"}
    ax.imshow(values, aspect="auto", extent=extent, **shown)
    _layer_ticks(record.labels, ax)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_facecolor("#eeeeee")  # beyond the end: white is the least gate
    ax.set(xlim=(0, max(total, steps)), xlabel=_time_label(record), ylabel="layer")
    if len(record.sequences) == 1:
        ax.set_title(in_inches(s.name, ax.figure.figure.get_figwidth() - 2, 9), loc="left")
        _token_ticks(s, max(total, steps), ax)
    return ax


def averaged(values: np.ndarray, each: int) -> np.ndarray:
    """Means of so many neighbouring steps, (L, T) to (L, T / each) rounded up; NaN where there is none.

    >>> averaged(np.array([[1.0, 3.0, 5.0]]), 2)
    array([[2., 5.]])
    """
    L, T = values.shape
    padded = np.full((L, -(-T // each), each), np.nan)
    padded.reshape(L, -1)[:, :T] = values
    counts = np.isfinite(padded).sum(-1)
    return np.divide(np.nansum(padded, -1), counts, out=np.full(counts.shape, np.nan), where=counts > 0)


def plot_saturation(record: GateActivity, ax: Axes | None = None) -> Axes:
    """For each layer the shares of gates that are closed, in between and open."""
    ax = ax or Figure(figsize=(4, 0.9 + 0.3 * record.layers), layout="constrained").subplots()
    left, layers = np.zeros(record.layers), np.arange(1, record.layers + 1)
    for share, (name, colour) in zip(record.saturation.T, CLOSED_TO_OPEN.items(), strict=True):
        ax.barh(layers, share, left=left, color=colour, edgecolor=GREY, linewidth=0.5, height=0.75, label=name)
        left = left + share
    ax.set(xlim=(0, 1), ylabel="layer", xlabel="share of gates, over units and time")
    _layer_ticks(record.labels, ax)
    ax.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=3,
        columnspacing=1,
        handlelength=1,
        title=f"{record.gate_name}s",
        **LEGEND,
    )
    return ax


def plot_effective_depth(record: GateActivity, ax: Axes | None = None) -> Axes:
    """Sum of the layers' mean gates over time, a line a sequence (of at most eight)."""
    ax = ax or Figure(figsize=(7, 2.4), layout="constrained").subplots()
    for k, sequence in enumerate(record.sequences[:8]):
        times, style = np.arange(sequence.steps) + 0.5, {"color": COLOURS[k % 4], "linestyle": DASHES[k]}
        name = drawable(
            sequence.name if len(sequence.name) <= LONGEST_NAME else sequence.name[: LONGEST_NAME - 1] + "…"
        )
        ax.step(times, sequence.effective_depth, where="mid", linewidth=1, label=name, **style)
        if sequence.steps == 1:
            ax.plot(times, sequence.effective_depth, MARKERS[k % 4], markersize=4, color=COLOURS[k % 4])
    highest = max(float(np.nan_to_num(sequence.effective_depth).max()) for sequence in record.sequences[:8])
    ax.set(
        ylim=(0, 1.1 * highest or 1),
        xlabel=f"time ({TIME[record.step]})",
        ylabel="effective depth\n(sum of mean gates)",
    )
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    labels = ax.get_legend_handles_labels()[1]
    columns = legend_columns(labels, 0.9 * ax.get_window_extent().width / ax.figure.dpi)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns, columnspacing=1, handlelength=2.4)
    return ax


def draw(record: GateActivity | LesionTable, *, title: str = "", **options) -> Figure:
    """The default figure of a record; title: what network it is; options: `draw_gates`'s."""
    return (draw_gates if isinstance(record, GateActivity) else draw_lesions)(record, title=title, **options)


def draw_gates(record: GateActivity, *, title: str = "", limits: tuple[float, float] | None = None) -> Figure:
    """The default figure: a panel a sequence with a shared colour bar; below, effective depth and the distribution over units.

    limits: as of `plot_gates`, the same in all panels.
    """
    words = max((len(_shown(word)) for s in record.sequences for word in s.symbols.tolist()), default=0)
    S, tall = len(record.sequences), 0.55 + 0.16 * record.layers + 0.05 * words
    figure = Figure(figsize=(9, S * tall + 4), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(S * tall + 1, 3))
    titled(figure, f"{_capital(record.gate_name)}s{f' of {drawable(title)}' if title else ''}", drawable(record.about))
    panels, limits = np.atleast_1d(top.subplots(S, 1)), limits or record.limits
    for ax, sequence in zip(panels, record.sequences, strict=True):
        alone = replace(record, sequences=(sequence,))
        plot_gates(alone, ax, steps=max(s.steps for s in record.sequences), limits=limits)
        ax.set_xlabel(_time_label(record) if ax is panels[-1] else "")
    shrink = min(1.0, 2.2 / (S * tall))
    top.colorbar(
        panels[0].images[0], ax=panels.tolist(), label=f"mean {record.gate_name}\nof a layer's units", shrink=shrink
    )
    left, right = bottom.subplots(1, 2, width_ratios=(1.4, 1))
    plot_effective_depth(record, left)
    plot_saturation(record, right)
    return figure


def _layer_ticks(labels: Sequence[str], ax: Axes) -> None:
    """The layers' labels beside layers 1..L."""
    every = every_label(labels, ax)
    ax.set_yticks(range(1, len(labels) + 1, every), labels[::every])


def _token_ticks(sequence: SequenceActivity, total: int, ax: Axes) -> None:
    """The tokens below a time axis of `total` steps: characters upright, words turned; nothing where they would overlap."""
    inches = ax.figure.figure.get_figwidth() - 2  # without the labels and the colour bar; the axes' may be a subfigure
    shown = [_shown(symbol) for symbol in sequence.symbols.tolist()]
    if not shown or total * 1.1 * TICK_SIZE > 72 * inches:
        return
    turned = 90 if max(map(len, shown)) > 2 else 0
    ax.set_xticks(np.arange(sequence.steps) + 0.5, shown, rotation=turned, fontsize=TICK_SIZE)
    ax.tick_params(axis="x", length=0, pad=1)


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def _shown(symbol: str) -> str:
    """A token on a time axis."""
    text = VISIBLE.get(symbol) or drawable(symbol)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _time_label(record: GateActivity) -> str:
    if record.step == "token":
        return "time (tokens; lines: <eos> or newline)"
    by_score = {s.bars_from_score for s in record.sequences}
    lines = {True: "the score's bars", False: "every 4 quarter notes"}
    return f"time (quarter notes; lines: {' or '.join(lines[k] for k in sorted(by_score, reverse=True))})"
