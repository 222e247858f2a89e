"""What was measured: records of numbers, from which figures, tables and files are made without torch.

Legend: L layers (counted from 1, through all stacked cells), T steps of a sequence (frames or tokens), n units
(counted from 1 where they are named).
"""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rhn.errors import DataError
from rhn.files import atomic_path

ABOUT = ("mode", "split", "baseline", "sequences", "frames", "step")  # of a LesionTable, beside its rows
KINDS = {"layers": "layer", "pairs": "pair", "units": "unit", "controls": "blind", "beyond_blind": "beyond blind"}
ROW = ("label", "layers", "unit", "loss", "delta", "low", "high")


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
    """Where the bars begin, in steps; in a text, where the lines end."""
    bars_from_score: bool
    """Whether they are the score's; else every 4 quarter notes."""
    symbols: np.ndarray = field(default_factory=lambda: np.empty(0, str))
    """What the tokens of a text are called, (T,); for chorales (0,)."""

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
        """How many layers' worth of gates are open at each step: the sum of their means, (T,)."""
        return self.activity.sum(0)


@dataclass(frozen=True, kw_only=True, eq=False)
class GateActivity:
    """The transform gates of a network along some sequences, and how its single units behave over all of them."""

    labels: tuple[str, ...]
    """What the layers are called: "1".."L", or "1.1", "1.2", "2.1", ... in stacked networks."""
    sequences: tuple[SequenceActivity, ...]
    unit_mean: np.ndarray
    """Mean gate of each unit, (L, n)."""
    unit_switching: np.ndarray
    """Mean absolute change of each unit's gate from one step to the next, (L, n) in 0..1; NaN where no sequence has two."""

    @property
    def layers(self) -> int:
        """L."""
        return len(self.labels)

    @property
    def step(self) -> str:
        """What a step is: "frame" or "token"."""
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

    def most_switching(self, count: int = 5) -> list[tuple[str, int, float]]:
        """(layer's label, unit from 1, mean absolute change a step) of the units that switch most, the first one most of all."""
        order = np.argsort(-self.unit_switching, axis=None, kind="stable")[:count]
        places = [divmod(int(k), self.unit_switching.shape[1]) for k in order]
        return [(self.labels[layer], unit + 1, float(self.unit_switching[layer, unit])) for layer, unit in places]

    def summary(self) -> dict:
        """The JSON object of `rhn-analyze gates --json`."""
        sequences = [
            {
                "name": s.name,
                "steps": s.steps,
                "mean_by_layer": s.mean_by_layer.tolist(),
                "activity": s.activity.tolist(),
            }
            for s in self.sequences
        ]
        return {"layers": self.layers, "sequences": sequences}

    def plot(self, ax=None):
        """Layers x time, white at 0 to red at 1, several sequences one after another; returns the Axes."""
        from analysis.plots import plot_gates

        return plot_gates(self, ax=ax)

    def to_csv(self, path: str | Path) -> Path:
        """A row a sequence, layer and step: the mean gate, and the shares of units open and closed."""
        rows = (
            (s.name, label, step, s.activity[l, step], s.open[l, step], s.closed[l, step])
            for s in self.sequences
            for l, label in enumerate(self.labels)
            for step in range(s.steps)
        )
        return _write_csv(path, ("sequence", "layer", "step", "activity", "open", "closed"), rows)

    def save(self, path: str | Path) -> Path:
        """Write to .npz, single units and bar lines too (`load` reads it), or to .csv (`to_csv`)."""
        if Path(path).suffix.lower() == ".csv":
            return self.to_csv(path)
        arrays = {"labels": np.array(self.labels), "unit_mean": self.unit_mean, "unit_switching": self.unit_switching}
        for i, s in enumerate(self.sequences):
            arrays |= {f"sequence{i}.{name}": np.asarray(value) for name, value in vars(s).items()}
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> "GateActivity":
        """Read what `save` wrote as .npz; raises DataError where the file is something else."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                count = sum(name.endswith(".activity") for name in arrays.files)
                fields = SequenceActivity.__dataclass_fields__
                values = [{f: arrays[f"sequence{i}.{f}"] for f in fields} for i in range(count)]
                units = {name: arrays[name] for name in ("unit_mean", "unit_switching")}
                labels = tuple(arrays["labels"].tolist())
        except (OSError, ValueError, KeyError) as error:
            raise DataError(
                f"{path} is not a record written by rhn-analyze gates --save-data FILE.npz: {error}"
            ) from error
        scalars = ("name", "bars_from_score")
        sequences = (SequenceActivity(**{f: v.item() if f in scalars else v for f, v in s.items()}) for s in values)
        return cls(labels=labels, sequences=tuple(sequences), **units)


@dataclass(frozen=True, kw_only=True)
class LesionRow:
    """One lesioned network: its loss, and how much worse than the unlesioned one it is, in nats a predicted step."""

    label: str
    layers: tuple[int, ...]
    """Counted from 1; two for a pair."""
    unit: int | None
    """Counted from 1; None: the whole layer."""
    loss: float
    delta: float
    low: float
    """The 95 % interval of delta, by paired bootstrap over sequences; NaN where there is only one."""
    high: float

    def summary(self) -> dict:
        """As `rhn-analyze lesion --json` prints it."""
        about = {"layer": self.layers[0]} if len(self.layers) == 1 else {"layers": list(self.layers)}
        about |= {} if self.unit is None else {"unit": self.unit}
        return about | {"loss": self.loss, "delta": self.delta, "low": self.low, "high": self.high}


@dataclass(frozen=True, kw_only=True)
class LesionTable:
    """The loss of a network with each layer lesioned in turn; every tuple of rows in the order of the layers."""

    mode: str
    split: str
    baseline: float
    """Loss of the unlesioned network in nats a predicted step."""
    sequences: int
    """How many were measured."""
    frames: int
    """How many steps were predicted."""
    layers: tuple[LesionRow, ...]
    pairs: tuple[LesionRow, ...] = ()
    units: tuple[LesionRow, ...] = ()
    controls: tuple[LesionRow, ...] = ()
    """First layers kept, their input product removed ("blind"); empty where that is the mode itself."""
    beyond_blind: tuple[LesionRow, ...] = ()
    """First layers again, delta and its interval counted from their control instead of the unlesioned network; only for modes that
    also take the input away."""
    step: str = "frame"
    """What a step is: "frame" or "token"."""

    def by_damage(self, kind: str = "layers") -> list[LesionRow]:
        """Rows of "layers", "pairs" or "units", the most harmful first."""
        return sorted(getattr(self, kind), key=lambda row: -row.delta if math.isfinite(row.delta) else -math.inf)

    def summary(self) -> dict:
        """The JSON object of `rhn-analyze lesion --json`; "pairs" and "units" only where they were asked for."""
        extra = {
            kind: [row.summary() for row in getattr(self, kind)] for kind in ("pairs", "units") if getattr(self, kind)
        }
        layers = [row.summary() for row in self.layers]
        return {"mode": self.mode, "split": self.split, "baseline": self.baseline, "layers": layers} | extra

    def plot(self, ax=None):
        """Lesioned layer against loss with intervals, the unlesioned loss as a dashed line (figure 6); returns the Axes."""
        from analysis.plots import plot_lesions

        return plot_lesions(self, ax=ax)

    def to_csv(self, path: str | Path) -> Path:
        """A row a lesioned network; the first one, of kind "unlesioned", is the baseline."""
        header = ("kind", "mode", "split", "label", "unit", "loss", "delta", "low", "high")
        rows = [("unlesioned", self.mode, self.split, "", "", self.baseline, 0.0, 0.0, 0.0)]
        for rows_of, kind in KINDS.items():
            rows += [
                (kind, self.mode, self.split, r.label, r.unit or "", r.loss, r.delta, r.low, r.high)
                for r in getattr(self, rows_of)
            ]
        return _write_csv(path, header, rows)

    def save(self, path: str | Path) -> Path:
        """Write to .csv (`to_csv`) or .npz: the same columns as arrays."""
        if Path(path).suffix.lower() == ".csv":
            return self.to_csv(path)
        arrays = {name: np.array(getattr(self, name)) for name in ABOUT}
        for kind in KINDS:
            for f in ROW:
                arrays[f"{kind}.{f}"] = np.array(
                    [0 if f == "unit" and r.unit is None else getattr(r, f) for r in getattr(self, kind)]
                )
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> "LesionTable":
        """Read what `save` wrote as .npz; raises DataError where the file is something else."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                about = {name: arrays[name].item() for name in ABOUT}
                rows = {kind: _rows({f: arrays[f"{kind}.{f}"].tolist() for f in ROW}) for kind in KINDS}
        except (OSError, ValueError, KeyError) as error:
            raise DataError(
                f"{path} is not a record written by rhn-analyze lesion --save-data FILE.npz: {error}"
            ) from error
        return cls(**about, **rows)


def reading(table: LesionTable) -> str:
    """A few plain words that read the numbers."""
    worst, *others = table.by_damage()
    words = f"Lesioning layer {worst.label} costs most, {worst.delta:.3g} nats a {table.step}"
    if others:
        words += f"; any other costs {others[-1].delta:.3g} to {others[0].delta:.3g}"
    unsure = [row.label for row in table.layers if row.low <= 0 <= row.high]
    better = [row.label for row in table.layers if row.high < 0]
    if all(row.low > 0 for row in table.layers):
        words += "; every interval is above 0"
    if unsure:
        words += f"; of layer {', '.join(unsure)} the interval holds 0"
    if better:
        words += f"; without layer {', '.join(better)} the network does better"
    for control, beyond in zip(table.controls, table.beyond_blind, strict=False):
        words += (
            f". Losing its input alone would cost layer {control.label} {control.delta:.3g}: "
            f"its lesion costs {beyond.delta:+.3g} ({beyond.low:+.3g} to {beyond.high:+.3g}) beyond being blind"
        )
    return words + "."


def _rows(columns: dict[str, list]) -> tuple[LesionRow, ...]:
    rows = (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
    return tuple(LesionRow(**r | {"layers": tuple(r["layers"]), "unit": r["unit"] or None}) for r in rows)


def _write_csv(path: str | Path, header: Sequence[str], rows) -> Path:
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return Path(path)
