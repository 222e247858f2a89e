"""Figures from records, without torch: gate activity as figure 5(b) and lesions as figure 6 of Zilly et al. (2017).

Every `plot_*` draws into the axes it is given and returns them; every `draw_*` makes a whole figure.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from analysis.activity import GateActivity, SequenceActivity
from analysis.damage import LesionTable
from rhn.figures import BLUE, GREY, ORANGE, drawable

GATES = LinearSegmentedColormap.from_list("transform gate", ["#ffffff", "#ff0000"])  # gaps show the axes' grey
CLOSED_TO_OPEN = {"below 0.1": "#ffffff", "between": "#ff9999", "above 0.9": "#ff0000"}
GAP = 2  # steps between sequences that share their axes
TICK_SIZE = 6  # points, of the tokens on a time axis
LONGEST = 12  # characters of a word on a time axis
TIME = {"frame": "quarter notes", "token": "tokens"}
VISIBLE = {"\n": "↵", " ": "␣"}


def plot_gates(record: GateActivity, ax: Axes | None = None, *, steps: int = 0) -> Axes:
    """Layers x time, thin lines where bars begin; of a single sequence the tokens below, where they fit.

    Several sequences follow one another, with a grey gap between them and their names above. The axis has at least `steps` steps.
    """
    ax = ax or Figure(figsize=(9, 0.9 + 0.22 * record.layers), layout="constrained").subplots()
    gap, parts, start = np.full((record.layers, GAP), np.nan), [], 0
    for s in record.sequences:
        parts += [s.activity, gap]
        for bar in s.bars:
            ax.axvline(start + bar, color=GREY, linewidth=0.5, alpha=0.6, zorder=2)
        if len(record.sequences) > 1:
            place = start + s.steps / 2, record.layers + 0.55
            ax.text(*place, drawable(s.name), ha="center", va="bottom", fontsize=8)
        start += s.steps + GAP
    total, shown = start - GAP, {"cmap": GATES, "vmin": 0, "vmax": 1, "origin": "lower", "interpolation": "nearest"}
    extent = (0, total, 0.5, record.layers + 0.5)
    ax.imshow(np.concatenate(parts[:-1], 1), aspect="auto", extent=extent, **shown)
    _layer_ticks(record.labels, ax)
    ax.set_facecolor("#eeeeee")  # beyond the end: white is a closed gate
    ax.set(xlim=(0, max(total, steps)), xlabel=_time_label(record), ylabel="layer")
    if len(record.sequences) == 1:
        ax.set_title(drawable(s.name), loc="left")
        _token_ticks(s, max(total, steps), ax)
    return ax


def plot_saturation(record: GateActivity, ax: Axes | None = None) -> Axes:
    """For each layer the shares of gates that are closed, in between and open."""
    ax = ax or Figure(figsize=(4, 0.9 + 0.3 * record.layers), layout="constrained").subplots()
    left, layers = np.zeros(record.layers), np.arange(1, record.layers + 1)
    for share, (name, colour) in zip(record.saturation.T, CLOSED_TO_OPEN.items(), strict=True):
        ax.barh(layers, share, left=left, color=colour, edgecolor=GREY, linewidth=0.5, height=0.75, label=name)
        left = left + share
    ax.set(xlim=(0, 1), ylabel="layer", xlabel="share of gates, over units and time")
    _layer_ticks(record.labels, ax)
    ax.set_title("transform gates", loc="left")
    ax.legend(loc="lower left", bbox_to_anchor=(0.35, 1.0), ncols=3, columnspacing=1, handlelength=1)
    return ax


def plot_effective_depth(record: GateActivity, ax: Axes | None = None) -> Axes:
    """Sum of the layers' mean gates over time, a line a sequence."""
    ax = ax or Figure(figsize=(7, 2.2), layout="constrained").subplots()
    for sequence in record.sequences[:8]:
        times = np.arange(sequence.steps) + 0.5
        ax.step(times, sequence.effective_depth, where="mid", linewidth=1, label=drawable(sequence.name))
    highest = max(sequence.effective_depth.max() for sequence in record.sequences[:8])
    ax.set(ylim=(0, 1.1 * highest or 1), xlabel=f"time ({TIME[record.step]})", ylabel="sum of mean gates")
    ax.set_title("effective depth", loc="left")
    tight = {"columnspacing": 0.8, "handlelength": 0.8, "handletextpad": 0.4}
    ax.legend(loc="lower right", bbox_to_anchor=(1.02, 1.0), ncols=4, **tight)
    return ax


def draw(record: GateActivity | LesionTable, *, title: str = "") -> Figure:
    """The default figure of a record."""
    return (draw_gates if isinstance(record, GateActivity) else draw_lesions)(record, title=title)


def draw_gates(record: GateActivity, *, title: str = "") -> Figure:
    """The default figure: a panel a sequence with a shared colour bar; below, effective depth and the distribution over units."""
    words = max((len(_shown(word)) for s in record.sequences for word in s.symbols.tolist()), default=0)
    S, tall = len(record.sequences), 0.55 + 0.16 * record.layers + 0.05 * words
    figure = Figure(figsize=(9, S * tall + 2.8), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(S * tall + 0.4, 2.4))
    panels = np.atleast_1d(top.subplots(S, 1))
    for ax, sequence in zip(panels, record.sequences, strict=True):
        plot_gates(replace(record, sequences=(sequence,)), ax, steps=max(s.steps for s in record.sequences))
        ax.set_xlabel(_time_label(record) if ax is panels[-1] else "")
        ax.spines[["top", "right"]].set_visible(False)
    shrink = min(1.0, 2.2 / (S * tall))
    top.colorbar(panels[0].images[0], ax=panels.tolist(), label="mean transform gate", shrink=shrink)
    if title:
        top.suptitle(drawable(title), fontsize=11)
    left, right = bottom.subplots(1, 2, width_ratios=(1.6, 1))
    plot_effective_depth(record, left)
    plot_saturation(record, right)
    return figure


def plot_lesions(table: LesionTable, ax: Axes | None = None) -> Axes:
    """Loss with each layer lesioned, with the interval of its damage; dashed the unlesioned loss; diamonds the blind controls."""
    ax = ax or Figure(figsize=(5, 3.4), layout="constrained").subplots()
    place = {row.layers: x for x, row in enumerate(table.layers, start=1)}
    _points(table, table.layers, list(place.values()), ax, fmt="o", color=BLUE, label=f"lesioned ({table.mode})")
    controls = [row for row in table.controls if row.layers in place]
    if controls:
        at, words = [place[row.layers] + 0.2 for row in controls], "layer kept, input removed (blind)"
        _points(table, controls, at, ax, fmt="D", color=ORANGE, label=words, mfc="white")
    ax.axhline(table.baseline, color="black", linewidth=1, linestyle=(0, (4, 3)), label="unlesioned", zorder=0)
    ax.set_xticks(list(place.values()), [row.label for row in table.layers])
    ax.set(xlim=(0.5, len(place) + 0.5), xlabel="lesioned layer")
    ax.set_ylabel(f"loss{f' on {table.split}' if table.split else ''} (nats a {table.step})")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend()
    return ax


def plot_pairs(table: LesionTable, ax: Axes | None = None) -> Axes:
    """Damage of every pair of layers; on the diagonal that of the layer alone."""
    ax = ax or Figure(figsize=(4, 3.4), layout="constrained").subplots()
    index = {row.layers[0]: k for k, row in enumerate(table.layers)}
    damage = np.full((len(index), len(index)), np.nan)
    for row in (*table.layers, *table.pairs):
        i, j = index[row.layers[0]], index[row.layers[-1]]
        damage[i, j] = damage[j, i] = row.delta
    image = ax.imshow(damage, origin="lower", cmap="viridis", vmin=min(0.0, np.nanmin(damage)))
    names = [row.label for row in table.layers]
    every = _every(names, ax, across=True)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_ticks(range(0, len(names), every), names[::every])
        axis.set_label_text("layer")
    ax.set_title(f"damage of two layers (nats a {table.step})", loc="left")
    ax.figure.colorbar(image, ax=ax)
    return ax


def plot_units(table: LesionTable, ax: Axes | None = None) -> Axes:
    """Damage of every single unit, within each layer the most harmful first."""
    ax = ax or Figure(figsize=(5, 3.4), layout="constrained").subplots()
    for row in table.layers:
        deltas = sorted((u.delta for u in table.units if u.layers == row.layers), reverse=True)
        ax.plot(np.arange(1, len(deltas) + 1), deltas, linewidth=1.2, label=f"layer {row.label}")
    ax.axhline(0, color="black", linewidth=1, linestyle=(0, (4, 3)))
    ax.set(xscale="log", xlabel="unit, by damage", ylabel=f"damage of one unit (nats a {table.step})")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(ncols=math.ceil(len(table.layers) / 8))
    return ax


def draw_lesions(table: LesionTable, *, title: str = "") -> Figure:
    """The default figure: figure 6, beside it pairs and units where they were measured."""
    extra = [plot for plot, rows in ((plot_pairs, table.pairs), (plot_units, table.units)) if rows]
    figure = Figure(figsize=(5.2 + 4.6 * len(extra), 3.6), layout="constrained")
    for plot, ax in zip((plot_lesions, *extra), np.atleast_1d(figure.subplots(1, 1 + len(extra))), strict=True):
        plot(table, ax)
    if title:
        figure.suptitle(drawable(title), fontsize=11)
    return figure


def _layer_ticks(labels: Sequence[str], ax: Axes) -> None:
    """The layers' labels beside layers 1..L."""
    every = _every(labels, ax)
    ax.set_yticks(range(1, len(labels) + 1, every), labels[::every])


def _every(labels: Sequence[str], ax: Axes, *, across: bool = False) -> int:
    """1 where an axes' height has room for all labels, 2 where for every second one, ...; `across`: written side by side."""
    size = ax.yaxis.label.get_fontsize() * (0.75 * max(map(len, labels)) if across else 1)
    return math.ceil(size * len(labels) * ax.figure.dpi / 72 / ax.get_window_extent().height)


def _token_ticks(sequence: SequenceActivity, total: int, ax: Axes) -> None:
    """The tokens below a time axis of `total` steps: characters upright, words turned; nothing where they would overlap."""
    inches = ax.figure.figure.get_figwidth() - 2  # without the labels and the colour bar; the axes' may be a subfigure
    shown = [_shown(symbol) for symbol in sequence.symbols.tolist()]
    if not shown or total * 1.1 * TICK_SIZE > 72 * inches:
        return
    turned = 90 if max(map(len, shown)) > 2 else 0
    ax.set_xticks(np.arange(sequence.steps) + 0.5, shown, rotation=turned, fontsize=TICK_SIZE)
    ax.tick_params(axis="x", length=0, pad=1)


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


def _points(table: LesionTable, rows, at: list[float], ax: Axes, **style) -> None:
    """Losses with the intervals of their damage, put on the unlesioned loss."""
    loss = np.array([row.loss for row in rows])
    ends = np.array([(row.low, row.high) for row in rows]).reshape(-1, 2) + table.baseline
    errors = np.nan_to_num(np.clip(np.stack((loss - ends[:, 0], ends[:, 1] - loss)), 0, None))
    ax.errorbar(at, loss, yerr=errors, markersize=5, linewidth=1.2, capsize=3, **style)
