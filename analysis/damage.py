"""The damage of lesions: the numbers, their table, and figure 6 of Zilly et al. (2017). No torch.

damage = loss of the lesioned network - loss of the whole one, in nats a predicted step

Layers are counted from 1 through all stacked cells, units from 1 within their layer.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from analysis.activity import layer_ticks, legend_above
from rhn.utils.figures import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    drawable,
    plain_log_ticks,
    titled,
)
from rhn.utils.result import Result
from rhn.utils.wording import counted

KINDS = {
    "layers": "layer",
    "pairs": "pair",
    "together": "together",
    "units": "unit",
    "controls": "blind",
    "beyond_blind": "beyond blind",
}
NUMBERS = ("loss", "delta", "low", "high")
SHOWN_UNITS = 10  # in the printed table


@dataclass(frozen=True, kw_only=True)
class LesionRow:
    """The loss of one lesioned network, and its difference to the unlesioned one, in nats a predicted step."""

    label: str
    layers: tuple[int, ...]
    """Counted from 1; several if they were lesioned together."""
    unit: int | None
    """Counted from 1; None: the whole layer."""
    loss: float
    delta: float
    low: float
    """The 95 % interval of delta, by paired bootstrap over sequences; NaN for a single sequence."""
    high: float

    def to_dict(self) -> dict:
        """The row in the JSON object of `rhn-analyze lesion --json`."""
        about = {"layer": self.layers[0]} if len(self.layers) == 1 else {"layers": list(self.layers)}
        about |= {} if self.unit is None else {"unit": self.unit}
        return about | {"loss": self.loss, "delta": self.delta, "low": self.low, "high": self.high}


@dataclass(frozen=True, kw_only=True, repr=False)
class LesionTable(Result, kind="lesions"):
    """The loss of a network with each layer lesioned in turn; every tuple of rows in the order of the layers."""

    former = "layers.delta"

    mode: str
    split: str
    baseline: float
    """Loss of the unlesioned network in nats a predicted step."""
    sequences: int
    """Number of sequences."""
    frames: int
    """Number of predicted steps."""
    layers: tuple[LesionRow, ...]
    pairs: tuple[LesionRow, ...] = ()
    together: tuple[LesionRow, ...] = ()
    """The layers of the option `together`, all at once."""
    units: tuple[LesionRow, ...] = ()
    controls: tuple[LesionRow, ...] = ()
    """First layers kept, their input product removed ("blind"); empty if that is the mode itself."""
    beyond_blind: tuple[LesionRow, ...] = ()
    """First layers again, compared with their control instead of the unlesioned network; only for modes that also remove the input."""
    step: str = "frame"
    """The kind of a step: "frame" or "token"."""

    def by_damage(self, kind: str = "layers") -> list[LesionRow]:
        """Rows of one kind, in falling order of damage."""
        return sorted(getattr(self, kind), key=lambda row: -row.delta if math.isfinite(row.delta) else -math.inf)

    def summary(self) -> str:
        """The table that `rhn-analyze lesion` prints: layers by damage, controls, pairs and single units, then `reading`."""
        where = f" on {self.split}" if self.split else ""
        measured = f"{counted(self.sequences, 'sequence')}, {counted(self.frames, f'predicted {self.step}')}"
        lines = [f"lesions ({self.mode}){where}: {measured}, nats a {self.step}"]
        sure = any(math.isfinite(row.low) for row in self.layers)
        lines.append(f"{'lesioned':<20}{'loss':>10}{'damage':>10}" + "   95 % interval" * sure)
        lines.append(f"{'nothing':<20}{self.baseline:>10.4f}")
        lines += [_line(f"layer {row.label}", row) for row in self.by_damage()]
        lines += [_line(f"layer {row.label}: blind", row) for row in self.controls]
        lines += [_line(f"layer {row.label} > blind", row) for row in self.beyond_blind]
        lines += [_line(f"layers {row.label}", row) for row in (*self.together, *self.by_damage("pairs"))]
        lines += [_line(f"layer {row.label}", row) for row in self.by_damage("units")[:SHOWN_UNITS]]
        if len(self.units) > SHOWN_UNITS:
            lines.append(f"... and {len(self.units) - SHOWN_UNITS} more units (--save-data FILE.csv has all)")
        if sure:
            over = f"Intervals are over the {self.sequences} sequences, of this one network"
            lines.append(f"{over}: they do not say how another training would differ.")
        else:
            lines.append("There are no intervals: they are over sequences, and one says nothing about others.")
        return "\n".join([*lines, self.reading()])

    def reading(self) -> str:
        """The numbers in a few sentences."""
        worst, *others = self.by_damage()
        words = f"Lesioning layer {worst.label} costs most, {worst.delta:.3g} nats a {self.step}"
        if others:
            words += f"; any other costs {others[-1].delta:.3g} to {others[0].delta:.3g}"
        unsure = [row.label for row in self.layers if row.low <= 0 <= row.high]
        better = [row.label for row in self.layers if row.high < 0]
        if all(row.low > 0 for row in self.layers):
            words += "; every interval is above 0"
        if unsure:
            words += f"; of layer {', '.join(unsure)} the interval holds 0"
        if better:
            words += f"; without layer {', '.join(better)} the network does better"
        for control, beyond in zip(self.controls, self.beyond_blind, strict=False):
            interval = f" ({beyond.low:+.3g} to {beyond.high:+.3g})" if math.isfinite(beyond.low) else ""
            words += (
                f". Losing its input alone would cost layer {control.label} {control.delta:.3g}: "
                f"its lesion costs {beyond.delta:+.3g}{interval} beyond being blind"
            )
        return words + "."

    def to_dict(self) -> dict:
        """The JSON object of `rhn-analyze lesion --json`; "pairs", "together" and "units" only if they were measured."""
        measured = [kind for kind in ("pairs", "together", "units") if getattr(self, kind)]
        extra = {kind: [row.to_dict() for row in getattr(self, kind)] for kind in measured}
        layers = [row.to_dict() for row in self.layers]
        return {"mode": self.mode, "split": self.split, "baseline": self.baseline, "layers": layers} | extra

    def plot(self, ax=None):
        """Lesioned layer against damage, with intervals (figure 6); returns the Axes."""
        return plot_lesions(self, ax=ax)

    def figure(self) -> Figure:
        """Figure 6, beside it pairs and units if they were measured."""
        return draw_lesions(self)

    def table(self) -> list[dict]:
        """A row for each network; the first one, of kind "unlesioned", is the baseline."""
        whole = LesionRow(label="", layers=(), unit=None, loss=self.baseline, delta=0.0, low=0.0, high=0.0)
        found = [("unlesioned", whole), *((kind, row) for name, kind in KINDS.items() for row in getattr(self, name))]
        return [
            {"kind": kind, "mode": self.mode, "split": self.split, "label": row.label, "unit": row.unit or ""}
            | {name: getattr(row, name) for name in NUMBERS}
            for kind, row in found
        ]

    def _saved(self) -> dict:
        """The columns of each kind of rows by name: "layers.delta"."""
        columns = {
            f"{kind}.{name}": np.array([getattr(row, name) or 0 for row in getattr(self, kind)])
            for kind in KINDS
            for name in LesionRow.__dataclass_fields__
        }
        return vars(self) | dict.fromkeys(KINDS) | columns

    @classmethod
    def _of_file(cls, values: Mapping, read: Callable) -> Self:
        rows, names = {}, [*LesionRow.__dataclass_fields__]
        for kind in (kind for kind in KINDS if f"{kind}.label" in values):  # older files lack later kinds
            columns = [np.asarray(values[f"{kind}.{name}"], float if name in NUMBERS else None) for name in names]
            found = [dict(zip(names, row, strict=True)) for row in zip(*(c.tolist() for c in columns), strict=True)]
            rows[kind] = tuple(
                LesionRow(**r | {"layers": tuple(r["layers"]), "unit": r["unit"] or None}) for r in found
            )
        given = (f.name for f in fields(cls) if f.name in values and f.name not in KINDS)
        return cls(**{name: np.asarray(values[name]).item() for name in given}, **rows)


COLOURS, DASHES = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY), ("-", "--", "-.", ":")
DECADES = 2  # that a symmetric logarithmic axis shows beside its linear part


def plot_lesions(table: LesionTable, ax: Axes | None = None) -> Axes:
    """Draw the damage of each layer's lesion with its 95 % interval, and of layers together; diamonds are the blind controls.

    The axis is logarithmic, or symmetric logarithmic if a damage or an end of an interval is 0 or below.
    """
    ax = ax or Figure(figsize=(5, 3.6), layout="constrained").subplots()
    rows = (*table.layers, *table.together)
    place = {row.layers: x for x, row in enumerate(rows, start=1)}
    _points(rows, list(place.values()), ax, fmt="o", color=BLUE, label=f"lesioned ({table.mode})")
    controls = [row for row in table.controls if row.layers in place]
    if controls:
        words = "layer kept, input removed (blind)"
        _points(
            controls, [place[row.layers] + 0.2 for row in controls], ax, fmt="D", color=ORANGE, label=words, mfc="white"
        )
    _damage_axis(ax.yaxis, [end for row in (*rows, *controls) for end in (row.delta, row.low, row.high)])
    layer_ticks([row.label for row in rows], ax.xaxis)
    ax.set(xlim=(0.5, len(place) + 0.5), xlabel="lesioned layer")
    on = f" on {table.split}" if table.split else ""
    ax.set_ylabel(f"damage{on} (nats a {table.step})\nabove the unlesioned {table.baseline:.4g}")
    legend_above(
        ax, "bars: 95 % intervals" if any(math.isfinite(row.low) for row in rows) else "one sequence: no intervals"
    )
    return ax


def plot_pairs(table: LesionTable, ax: Axes) -> None:
    """Draw the damage of every pair of layers; the diagonal holds single layers."""
    index = {row.layers[0]: k for k, row in enumerate(table.layers)}
    damage = np.full((len(index), len(index)), np.nan)
    for row in (*table.layers, *table.pairs):
        i, j = index[row.layers[0]], index[row.layers[-1]]
        damage[i, j] = damage[j, i] = row.delta
    damage = np.ma.masked_invalid(damage)
    image = ax.imshow(damage, origin="lower", cmap="viridis", vmin=min(0.0, float(damage.filled(0).min())))
    names = [row.label for row in table.layers]
    for axis in (ax.xaxis, ax.yaxis):
        layer_ticks(names, axis, 0)
        axis.set_label_text("layer")
    ax.set_title("two layers; diagonal: one alone", loc="left")
    ax.figure.colorbar(image, ax=ax, label=f"damage (nats a {table.step})")


def plot_units(table: LesionTable, ax: Axes) -> None:
    """Draw the damage of every single unit, within each layer in falling order."""
    for k, row in enumerate(table.layers):
        deltas = sorted((u.delta for u in table.units if u.layers == row.layers), reverse=True)
        style = {"color": COLOURS[k % len(COLOURS)], "linestyle": DASHES[k % len(DASHES)], "linewidth": 1.2}
        ax.plot(np.arange(1, len(deltas) + 1), deltas, label=f"layer {row.label}", **style)
    ax.axhline(0, color=GREY, linewidth=0.8)
    _damage_axis(ax.yaxis, [unit.delta for unit in table.units])
    ax.set_xscale("log")
    ax.set(xlabel="unit, by damage", ylabel=f"damage of one unit (nats a {table.step})")
    plain_log_ticks(ax.xaxis)
    legend_above(ax)


def draw_lesions(table: LesionTable) -> Figure:
    """Draw figure 6, beside it pairs and units if they were measured."""
    extra = [plot for plot, rows in ((plot_pairs, table.pairs), (plot_units, table.units)) if rows]
    tall = 0.2 * math.ceil(len(table.layers) / 4) if table.units else 0.0
    figure = Figure(figsize=(6 + 4.6 * len(extra), 4.4 + tall), layout="constrained")
    measured = f"{counted(table.sequences, 'sequence')}, {counted(table.frames, f'predicted {table.step}')}"
    name = f" of {drawable(table.title)}" if table.title else ""
    titled(figure, f"Lesions ({table.mode}){name}", "; ".join(filter(None, (drawable(table.about), measured))))
    for plot, ax in zip((plot_lesions, *extra), np.atleast_1d(figure.subplots(1, 1 + len(extra))), strict=True):
        plot(table, ax)
    return figure


def _points(rows: Sequence[LesionRow], at: list[float], ax: Axes, **style) -> None:
    damage = np.array([row.delta for row in rows])
    ends = np.array([(row.low, row.high) for row in rows]).reshape(-1, 2)
    errors = np.nan_to_num(np.clip(np.stack((damage - ends[:, 0], ends[:, 1] - damage)), 0, None), posinf=0)
    ax.errorbar(at, damage, yerr=errors, markersize=5, linewidth=1.2, capsize=3, **style)


def _damage_axis(axis: Axis, values: Sequence[float]) -> None:
    """Set a logarithmic axis if all values are above 0, else one that is linear below about a hundredth of the greatest value."""
    finite = np.array([value for value in values if math.isfinite(value)])
    if not finite.size or not finite.any():
        return
    if finite.min() > 0:
        axis.axes.set_yscale("log")
        plain_log_ticks(axis)
        return
    threshold = 10.0 ** (math.floor(math.log10(abs(finite).max())) - DECADES + 1)
    axis.axes.set_yscale("symlog", linthresh=threshold)
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.axes.axhline(0, color=GREY, linewidth=0.8, zorder=0)


def _line(name: str, row: LesionRow) -> str:
    interval = f"   {row.low:+.4f} to {row.high:+.4f}" if math.isfinite(row.low) else ""
    return f"{name:<20}{row.loss:>10.4f}{row.delta:>+10.4f}{interval}"
