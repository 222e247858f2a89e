"""The damage of lesions: the numbers, their table, and figure 6 of Zilly et al. (2017). Without
torch.

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
from rhn.plotting.figure import Block, Shown, compose
from rhn.utils.figures import BLUE, GREY, ORANGE
from rhn.utils.result import Result, table_rows
from rhn.utils.wording import counted, listed, table

LINES = {
    "layer": "layer {}",
    "blind": "layer {}: blind",
    "beyond blind": "layer {} > blind",
    "blind - beyond": "layer {}: blind - rest",
    "pair": "layers {}",
}
LESIONED = {
    "bias": "gates shut",
    "carry": "layer skipped",
    "mean": "gates held at their means",
    "open": "gates held open",
    "blind": "input removed",
    "skip": "shortcut removed",
}
"""A lesioned layer of each mode in words."""
LESIONS = {
    "bias": "Switching off {}",
    "carry": "Skipping {}",
    "mean": "Holding the gates of {} at their means",
    "open": "Holding open the gates of {}",
    "blind": "Removing the input of {}",
    "skip": "Removing the shortcut of {}",
}
"""The beginning of a sentence about the lesion of each mode."""
LOSSES = {"train": "training loss", "valid": "validation loss", "test": "test loss", "": "loss"}
"""The loss on a split of the data."""
PANEL = 3.2  # inches with labels and colour bar, for letters of 9 points


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class LesionTable(Result, kind="lesions"):
    """The loss of a network with each layer lesioned in turn: one row for each lesioned network.

    Kinds of rows: "layer"; "pair"; "blind", a first layer kept, its input product removed (not if
    that is the mode itself); "beyond blind", a first layer again, compared with its blind control
    (only if the mode also removes the input); "blind - beyond", the difference between these two
    damages.

    >>> from analysis import lesion
    >>> from rhn import PolyphonicModel
    >>> found = lesion(PolyphonicModel("rhn", hidden_size=3, depth=2), [np.ones((5, 88))])
    >>> list(zip(found.row_kind, found.label))
    [('layer', '1'), ('layer', '2'), ('blind', '1'), ('beyond blind', '1'), ('blind - beyond', '1')]
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
    row_kind: tuple[str, ...]
    """Kind of each row."""
    label: tuple[str, ...]
    """Lesioned layers of each row: "1", "1.2" (cell 1, layer 2), "1+3"."""
    loss: np.ndarray
    """Loss of each row's network in nats per predicted step."""
    delta: np.ndarray
    """Damage: the difference from the loss of the unlesioned network."""
    low: np.ndarray
    """Ends of the 95 % interval of delta, by paired bootstrap over sequences; NaN for a single
    sequence, or a loss that is not finite.
    """
    high: np.ndarray

    def rows(self, kind: str = "layer") -> list[dict]:
        """The rows of `table` of one kind."""
        return [row for row in self.table() if row["kind"] == kind]

    def by_damage(self, kind: str = "layer") -> list[dict]:
        """Rows of one kind: losses that are not finite, then the largest change, up or down."""
        return _by_size(self.rows(kind))

    @property
    def measured(self) -> str:
        """The amount of data."""
        return (
            f"{counted(self.sequences, 'sequence')}, "
            f"{counted(self.frames, f'predicted {self.step}')}"
        )

    @property
    def finding(self) -> str:
        """Name the layer whose lesion changes the loss most, beyond the removed input where that is
        known, and its rank; say how much of the change is from the removed input unless that is
        clearly less than half, which layers change more only by the removed input, or if losses
        are not finite.
        """
        whole = {row["label"]: row for row in self.rows()}
        first = self._by_rank[0]
        loss = f"the {LOSSES.get(self.split, f'loss on {self.split}')}"
        if lost := _not_finite(self.rows()):
            each = f"{'layer' if len(lost) == 1 else 'each of layers'} {listed(lost, len(lost))}"
            word = "infinite" if whole[first["label"]]["loss"] == math.inf else "no longer finite"
            return f"{LESIONS[self.mode].format(each)} makes {loss} {word}"
        change = whole[first["label"]]["delta"]
        lesion = LESIONS[self.mode].format(f"layer {first['label']}")
        verb = "lowers" if change < 0 else "raises"
        if apart := [row["label"] for row in self._apart]:
            layers = "layer" if len(apart) == 1 else "layers"
            lesion = f"Apart from {layers} {' and '.join(apart)}, {lesion[0].lower()}{lesion[1:]}"
        by = f"by {abs(change):.3g} nats per {self.step}"
        rank = self._input_part or self._rank
        return ", ".join(filter(None, (f"{lesion} {verb} {loss} {by}", rank)))

    @property
    def _by_rank(self) -> list[dict]:
        """The rows of layers by size, those of first layers beyond the removed input."""
        beyond = {row["label"]: row for row in self.rows("beyond blind")}
        return _by_size([beyond.get(row["label"], row) for row in self.rows()])

    @property
    def _apart(self) -> list[dict]:
        """Rows of first layers that change the loss more than the first by rank, but not beyond
        the removed input; without one that its rank names.
        """
        first, *others = self._by_rank
        whole = {row["label"]: abs(row["delta"]) for row in self.rows()}
        return [
            row
            for row in others
            if row["kind"] == "beyond blind"
            and whole[row["label"]] > whole[first["label"]]
            and f"layer {row['label']} beyond" not in self._rank
        ]

    @property
    def _input_part(self) -> str:
        """The part of the removed input in the largest change: most of it only if the interval is
        clear, else a share; "" if it is clearly the smaller part.
        """
        first = self._by_rank[0]
        if first["kind"] != "beyond blind":
            return ""
        (whole,) = (row["delta"] for row in self.rows() if row["label"] == first["label"])
        low, high = sorted(
            math.copysign(1, whole) * row[end]
            for row in self.rows("blind - beyond")
            if row["label"] == first["label"]
            for end in ("low", "high")
        ) or (math.nan, math.nan)
        share = 100 * (1 - first["delta"] / whole) if whole else 0.0
        if low > 0:
            return "mostly by removing the input"
        uncertain = not high < 0 and 0 < share < 100
        return f"{share:.0f} % of it by removing the input" if uncertain else ""

    @property
    def _rank(self) -> str:
        """The rank of the largest change: above all others if the intervals are apart; "" if there
        is no other.
        """
        first, *others = self._by_rank
        if first["low"] <= 0 <= first["high"]:
            return "which may be chance"
        if not others:
            return ""
        rivals = [row for row in others if not _sizes(first)[0] > _sizes(row)[1]]
        if not rivals:
            cut = first["kind"] == "layer" and any(row["kind"] != "layer" for row in others)
            return f"most of all layers{' beyond the removed input' if cut else ''}"
        cut = " beyond its removed input" if rivals[0]["kind"] != "layer" else ""
        return f"not clearly more than layer {rivals[0]['label']}{cut}"

    def notes(self) -> list[str]:
        """The largest change beyond the removed input, the loss without lesions, and what the
        intervals are over.
        """
        first, notes = self._by_rank[0], []
        if not _not_finite(self.rows()):
            if self._input_part:
                change = f"{first['delta']:+.3g} for layer {first['label']}"
                words = filter(None, (f"Beyond the removed input it is {change}", self._rank))
                notes.append(f"{', '.join(words)}.")
            damage = {row["label"]: row["delta"] for row in self.rows()}
            notes += [
                f"For layer {row['label']} it is {damage[row['label']]:+.3g}, and "
                f"{row['delta']:+.3g}{_ends(row)} beyond the removed input, which is what ranks."
                for row in self._apart
            ]
        known = (
            f"Intervals are over the {self.sequences} sequences of this network: other training "
            "runs may differ more."
        )
        none = "There are no intervals: they need more than one sequence."
        loss = f"{self.baseline:.4g} nats per {self.step}"
        whole = f"Without lesions the loss is {loss}: {self.measured}."
        return [*notes, whole, known if np.isfinite(self.low).any() else none]

    def lines(self) -> Iterator[str]:
        """Layers by damage, controls and pairs."""
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
        """One row for each network; the first one, of kind "unlesioned", is the baseline."""
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
            label=f"lesioned: {LESIONED[self.mode]}",
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
        bars = (
            "bars: 95 % intervals" if np.isfinite(self.low).any() else "one sequence: no intervals"
        )
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
    """Rows whose loss is not finite, then those with the largest change, up or down."""
    return sorted(
        rows, key=lambda row: -abs(row["delta"]) if math.isfinite(row["delta"]) else -math.inf
    )


def _not_finite(rows: Sequence[dict]) -> list[str]:
    """Labels of the rows whose loss is infinite or NaN."""
    return [row["label"] for row in rows if not math.isfinite(row["delta"])]


def _ends(row: dict) -> str:
    """The interval of a row in brackets; "" without one."""
    ends = f" ({row['low']:.3g} to {row['high']:.3g})"
    return ends if math.isfinite(row["low"]) else ""


def _sizes(row: dict) -> tuple[float, float]:
    """The least and the largest change, up or down, in the interval of a row; NaN without one."""
    low, high = row["low"], row["high"]
    return max(low, -high, 0.0), max(abs(low), abs(high))


def plot_pairs(table: LesionTable, ax: Axes) -> None:
    """Draw the damage of every pair of layers; the diagonal holds single layers."""
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
