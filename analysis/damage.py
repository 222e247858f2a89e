"""The damage of lesions: the numbers, their table, and figure 6 of Zilly et al. (2017). Does not
need torch.

damage = loss of the lesioned network - loss of the whole one, in nats per predicted step

Layers are counted from 1 through all stacked cells.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from analysis.activity import layer_ticks
from rhn.plotting.old_figures import Block, Shown, compose
from rhn.utils.figures import BLUE, GREY, ORANGE
from rhn.utils.old import Result, counted, listed, table, table_rows

LINES = {
    "layer": "layer {}",
    "blind": "layer {}: blind",
    "beyond blind": "layer {} > blind",
    "pair": "layers {}",
}
LESIONED = {
    "bias": "{gate}s shut",
    "carry": "layer skipped",
    "blind": "input removed",
}
"""For each mode: what is done to a lesioned layer, in words."""
LESIONS = {
    "bias": "Switching off {layer}",
    "carry": "Skipping {layer}",
    "blind": "Removing the input of {layer}",
}
"""For each mode: the beginning of a sentence about its lesion."""
LOSSES = {"train": "training loss", "valid": "validation loss", "test": "test loss", "": "loss"}
"""For each split of the data: the name of the loss on this split."""
PANEL = 3.2  # inches with labels and colour bar, for letters of 9 points


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class LesionTable(Result, kind="lesions"):
    """The losses of a network whose layers are lesioned in turn. The table has one row for each
    lesioned network.

    Kinds of rows:

    - "layer": one layer is lesioned.
    - "pair": two layers are lesioned.
    - "blind": a control. A first layer is kept, and its input product is removed. The mode "blind"
      has no such rows.
    - "beyond blind": the lesion of a first layer, compared with its control.

    >>> from analysis import lesion
    >>> from rhn import PolyphonicModel
    >>> found = lesion(PolyphonicModel("rhn", hidden_size=3, depth=2), [np.ones((5, 88))])
    >>> list(zip(found.row_kind, found.label))
    [('layer', '1'), ('layer', '2'), ('blind', '1'), ('beyond blind', '1')]
    """

    mode: str
    split: str
    baseline: float
    """Loss of the unlesioned network in nats per predicted step."""
    sequences: int
    """Number of sequences."""
    frames: int
    """Number of predicted steps."""
    step: str = "frame"
    """The kind of a step: "frame" or "token"."""
    gate_name: str = "transform gate"
    """Usual name of the transform gates of this cell: for an LSTM the input gate."""
    row_kind: tuple[str, ...]
    """Kind of each row."""
    label: tuple[str, ...]
    """Lesioned layers of each row, such as "1", "1.2" (cell 1, layer 2) or "1+3" (a pair)."""
    loss: np.ndarray
    """Loss of each row's network in nats per predicted step."""
    delta: np.ndarray
    """Damage of each row: the difference in loss from the unlesioned network, or for "beyond blind"
    from the control.
    """
    low: np.ndarray
    """Lower end of the 95 % interval of `delta` over sequences (`analysis.paired_interval`); `high`
    is the upper end. NaN for a single sequence, or a loss that is not finite.
    """
    high: np.ndarray

    def validate(self) -> None:
        if self.mode not in LESIONS:
            raise ValueError(f"mode is {self.mode}: expected one of {', '.join(LESIONS)}")

    def rows(self, kind: str = "layer") -> list[dict]:
        """Return the rows of `table` of one kind."""
        return [row for row in self.table() if row["kind"] == kind]

    def by_damage(self, kind: str = "layer") -> list[dict]:
        """Return the rows of one kind, sorted by the size of the change of the loss, up or down;
        the largest change comes first. Rows with a loss that is not finite come before all others.
        """
        return _by_size(self.rows(kind))

    @property
    def measured(self) -> str:
        """The amount of data in words."""
        return (
            f"{counted(self.sequences, 'sequence')}, "
            f"{counted(self.frames, f'predicted {self.step}')}"
        )

    @property
    def finding(self) -> str:
        """A sentence about the layer with the largest damage, up or down, among those whose 95 %
        interval excludes 0. The sentence also says whether this damage is clearly the largest.

        If no interval excludes 0, no lesion changes the loss clearly. With one sequence there are
        no intervals, and the sentence is about this sequence. If some losses are not finite, the
        sentence names their layers instead.
        """
        loss = f"the {LOSSES.get(self.split, f'loss on {self.split}')}"
        named = self._named
        if lost := _not_finite(self.rows()):
            each = f"{'layer' if len(lost) == 1 else 'each of layers'} {listed(lost, len(lost))}"
            worst = self.by_damage()[0]["loss"]
            word = "infinite" if worst == math.inf else "no longer finite"
            return f"{self._lesion(each)} makes {loss} {word}"
        if named is None:
            return f"No layer's lesion changes {loss} clearly"
        lesion, change = self._lesion(f"layer {named['label']}"), named["delta"]
        if not self._intervals:
            lesion = f"On this one sequence, {lesion[0].lower()}{lesion[1:]} changes {loss}"
            most = " most," if len(self.rows()) > 1 else ""
            return f"{lesion}{most} by {change:+.3g} nats per {self.step}"
        lesion = f"{lesion} {'lowers' if change < 0 else 'raises'} {loss}"
        return f"{lesion} by {abs(change):.3g} nats per {self.step}{self._rank(named)}"

    def _lesion(self, layer: str) -> str:
        """The beginning of a sentence about the lesion of a layer."""
        return LESIONS[self.mode].format(layer=layer)

    @property
    def _intervals(self) -> bool:
        return bool(np.isfinite(self.low).any())

    @property
    def _named(self) -> dict | None:
        """The row of the layer that `finding` names: the largest damage whose interval excludes 0,
        or with one sequence the largest damage. None if there is none, or if some losses are not
        finite.
        """
        rows = self.by_damage()
        if _not_finite(rows):
            return None
        if self._intervals:
            return next((row for row in rows if _sizes(row)[0] > 0), None)
        return rows[0] if rows[0]["delta"] else None

    def _rank(self, named: dict) -> str:
        """Words about the rank of the layer that `finding` names. The layer is "more than any other
        layer" if its interval lies above the intervals of all other layers. The words are "" if
        there is no other layer.
        """
        rows = self.by_damage()
        place = rows.index(named)
        if place > 0:
            changes = "change by layer" if place == 1 else "changes by layers"
            larger = listed([row["label"] for row in rows[:place]])
            return f"; the larger {changes} {larger} may be chance"
        others = rows[1:]
        sign = math.copysign(1, named["delta"])  # others may change the loss the other way
        for row in others:
            if not _sizes(named)[0] > max(sign * row["low"], sign * row["high"]):
                return f", not clearly more than layer {row['label']}"
        return ", more than any other layer" if others else ""

    def notes(self) -> list[str]:
        """Return sentences about the removed input of the named layer, the loss without lesions,
        and the number of sequences from which the intervals are computed.
        """
        known = (
            f"Intervals are over the {self.sequences} sequences of this network: other training "
            "runs may differ more."
        )
        none = "There are no intervals: they need more than one sequence."
        loss = f"{self.baseline:.4g} nats per {self.step}"
        whole = f"Without lesions the loss is {loss}: {self.measured}."
        return [*self._of_the_input, whole, known if self._intervals else none]

    @property
    def _of_the_input(self) -> list[str]:
        """Sentences about the damage of removing only the input of the layer that `finding` names,
        and about the damage of its lesion beyond that.
        """
        label = self._named["label"] if self._named else ""
        rows = [*self.rows("blind"), *self.rows("beyond blind")]
        parts = [row for row in rows if row["label"] == label and math.isfinite(row["delta"])]
        if len(parts) < 2:
            return []
        blind, beyond = (f"{row['delta']:+.3g}{_ends(row)}" for row in parts)
        return [
            f"Removing only the input of layer {label} changes the loss by {blind}.",
            f"Beyond the removed input, the lesion of layer {label} changes the loss by {beyond}.",
        ]

    def lines(self) -> Iterator[str]:
        """Yield the lines of a table: layers by damage, then controls, then pairs."""
        rows = [
            (
                name.format(row["label"]),
                f"{row['loss']:.4f}",
                *(f"{row[key]:+.4f}" for key in ("delta", "low", "high")),
            )
            for kind, name in LINES.items()
            for row in self.by_damage(kind)
        ]
        heads = ("lesioned", "loss", "damage", "95 % from", "to")
        yield from table(heads, rows).replace("+nan", "   -").split("\n")

    def table(self) -> list[dict]:
        """Return one row for each network; the first row, of kind "unlesioned", is the baseline."""
        whole = {"loss": self.baseline, "delta": 0.0, "low": 0.0, "high": 0.0}
        numbers = {name: [value, *getattr(self, name).tolist()] for name, value in whole.items()}
        rows = table_rows(
            kind=("unlesioned", *self.row_kind), label=("none", *self.label), **numbers
        )
        return [{"kind": "", "mode": self.mode, "split": self.split} | row for row in rows]

    def _draw(self, ax: Axes, **_: Any) -> None:
        """Draw the damage of each layer's lesion with its 95 % interval (figure 6); diamonds are
        the blind controls.

        The axis is linear and shows 0.
        """
        rows = self.rows()
        place = {row["label"]: x for x, row in enumerate(rows, start=1)}
        controls = [row for row in self.rows("blind") if row["label"] in place]
        _points(
            rows,
            list(place.values()),
            ax,
            fmt="o",
            color=BLUE,
            label=f"lesioned: {LESIONED[self.mode].format(gate=self.gate_name)}",
        )
        if controls:
            beside = [place[row["label"]] + 0.2 for row in controls]
            _points(
                controls,
                beside,
                ax,
                fmt="D",
                color=ORANGE,
                label="layer kept, input removed (blind)",
                mfc="white",
            )
        ax.axhline(0, color=GREY, linewidth=0.8, zorder=0)
        layer_ticks(list(place), ax.xaxis)
        on = f" on {self.split}" if self.split else ""
        ax.set_ylabel(
            f"damage{on} (nats per {self.step})\nabove the unlesioned {self.baseline:.4g}"
        )
        ax.set(xlim=(0.5, len(place) + 0.5), xlabel="lesioned layer")
        over = f"bars: 95 % intervals over {self.sequences} sequences"
        bars = over if self._intervals else "one sequence: no intervals"
        if lost := _not_finite(rows):
            bars += f"; not finite: layer {listed(lost)}"
        ax.set_title(bars, loc="left")

    def _figure(self, step: int | None, limit: float | None) -> Shown:
        """Draw figure 6, and beside it the pairs if they were measured."""
        draws: list = [self._draw, partial(plot_pairs, self)][: 1 + ("pair" in self.row_kind)]
        about = f"{self.origin}; {self.measured}" if self.origin else self.measured
        panels = Block(draws, 3.6, len(draws), least=PANEL)
        return compose(self.finding, about, panels, width=1 + 4 * len(draws))


def _by_size(rows: Sequence[dict]) -> list[dict]:
    """Sort rows: first those whose loss is not finite, then the largest changes, up or down."""
    return sorted(
        rows, key=lambda row: -abs(row["delta"]) if math.isfinite(row["delta"]) else -math.inf
    )


def _not_finite(rows: Sequence[dict]) -> list[str]:
    """Return the labels of the rows whose loss is infinite or NaN."""
    return [row["label"] for row in rows if not math.isfinite(row["delta"])]


def _ends(row: dict) -> str:
    """Return the interval of a row in brackets; "" if the row has none."""
    ends = f" ({row['low']:.3g} to {row['high']:.3g})"
    return ends if math.isfinite(row["low"]) else ""


def _sizes(row: dict) -> tuple[float, float]:
    """Return the smallest and the largest change, up or down, in the interval of a row; NaN if the
    row has no interval.
    """
    low, high = row["low"], row["high"]
    return max(low, -high, 0.0), max(abs(low), abs(high))


def plot_pairs(table: LesionTable, ax: Axes) -> None:
    """Draw the damage of every pair of layers as an image; the diagonal has that of single
    layers.
    """
    alone = table.rows()
    damage = np.diag([row["delta"] for row in alone])
    for (i, j), row in zip(
        itertools.combinations(range(len(alone)), 2), table.rows("pair"), strict=True
    ):
        damage[i, j] = damage[j, i] = row["delta"]
    damage = np.ma.masked_invalid(damage)
    image = ax.imshow(
        damage,
        origin="lower",
        aspect="auto",
        cmap="viridis",
        vmin=min(0.0, float(damage.filled(0).min())),
    )
    for axis in (ax.xaxis, ax.yaxis):
        layer_ticks([row["label"] for row in alone], axis, 0)
        axis.set_label_text("layer")
    ax.set_title("two layers; diagonal: one layer", loc="left")
    ax.figure.colorbar(image, ax=ax, aspect=40, label=f"damage (nats per {table.step})")


def _points(rows: Sequence[dict], at: list[float], ax: Axes, **style) -> None:
    damage, *ends = (np.array([row[name] for row in rows]) for name in ("delta", "low", "high"))
    errors = np.nan_to_num(
        np.clip(np.stack((damage - ends[0], ends[1] - damage)), 0, None), posinf=0
    )
    ax.errorbar(at, damage, yerr=errors, markersize=5, linewidth=1.2, capsize=3, **style)
