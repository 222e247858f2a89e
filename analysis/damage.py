"""What lesions cost a network: numbers, from which figures, tables and files are made without torch.

Legend: layers are counted from 1 through all stacked cells, units from 1 within their layer.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rhn.utils.io import arrays_of, write_arrays, write_csv
from rhn.utils.result import Result

ABOUT = ("mode", "split", "baseline", "sequences", "frames", "step", "about")  # of a LesionTable, beside its rows
KINDS = {
    "layers": "layer",
    "pairs": "pair",
    "together": "together",
    "units": "unit",
    "controls": "blind",
    "beyond_blind": "beyond blind",
}
COLUMNS = ("kind", "mode", "split", "label", "unit", "loss", "delta", "low", "high")  # of a table
ROW = ("label", "layers", "unit", "loss", "delta", "low", "high")


@dataclass(frozen=True, kw_only=True)
class LesionRow:
    """One lesioned network: its loss, and how much worse than the unlesioned one it is, in nats a predicted step."""

    label: str
    layers: tuple[int, ...]
    """Counted from 1; several where they were lesioned together."""
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


@dataclass(frozen=True, kw_only=True, repr=False)
class LesionTable(Result):
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
    together: tuple[LesionRow, ...] = ()
    """The layers that were asked for, all at once."""
    units: tuple[LesionRow, ...] = ()
    controls: tuple[LesionRow, ...] = ()
    """First layers kept, their input product removed ("blind"); empty where that is the mode itself."""
    beyond_blind: tuple[LesionRow, ...] = ()
    """First layers again, delta and its interval counted from their control instead of the unlesioned network; only for modes that
    also take the input away."""
    step: str = "frame"
    """What a step is: "frame" or "token"."""
    about: str = ""
    """How the network and the data came to be, under the figure's title."""

    def by_damage(self, kind: str = "layers") -> list[LesionRow]:
        """Rows of one kind, the most harmful first."""
        return sorted(getattr(self, kind), key=lambda row: -row.delta if math.isfinite(row.delta) else -math.inf)

    def summary(self) -> dict:
        """The JSON object of `rhn-analyze lesion --json`; "pairs", "together" and "units" only where they were asked for."""
        asked = [kind for kind in ("pairs", "together", "units") if getattr(self, kind)]
        extra = {kind: [row.summary() for row in getattr(self, kind)] for kind in asked}
        layers = [row.summary() for row in self.layers]
        return {"mode": self.mode, "split": self.split, "baseline": self.baseline, "layers": layers} | extra

    def plot(self, ax=None):
        """Lesioned layer against damage, with intervals (figure 6); returns the Axes."""
        from analysis.lesion_plots import plot_lesions

        return plot_lesions(self, ax=ax)

    def to_csv(self, path: str | Path) -> Path:
        """A row a lesioned network; the first one, of kind "unlesioned", is the baseline."""
        rows = [("unlesioned", self.mode, self.split, "", "", self.baseline, 0.0, 0.0, 0.0)]
        for rows_of, kind in KINDS.items():
            rows += [
                (kind, self.mode, self.split, r.label, r.unit or "", r.loss, r.delta, r.low, r.high)
                for r in getattr(self, rows_of)
            ]
        return write_csv(path, COLUMNS, rows)

    def save(self, path: str | Path) -> Path:
        """Write to .csv (`to_csv`) or .npz: the same columns as arrays."""
        if Path(path).suffix.lower() == ".csv":
            return self.to_csv(path)
        arrays = {name: np.array(getattr(self, name)) for name in ABOUT}
        for kind in KINDS:
            for f in ROW:
                values = [getattr(r, f) for r in getattr(self, kind)]
                arrays[f"{kind}.{f}"] = np.array([0 if value is None else value for value in values])
        return write_arrays(path, arrays)

    @classmethod
    def load(cls, path: str | Path) -> "LesionTable":
        """Read what `save` wrote as .npz; raises DataError where the file is something else."""
        with arrays_of(path, "rhn-analyze lesion --save-data FILE.npz") as arrays:
            about = {name: arrays[name].item() for name in ABOUT if name in arrays.files or name != "about"}
            kinds = [kind for kind in KINDS if f"{kind}.label" in arrays.files]  # a file may be older than a kind
            rows = {kind: _rows({f: arrays[f"{kind}.{f}"].tolist() for f in ROW}) for kind in kinds}
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
        interval = f" ({beyond.low:+.3g} to {beyond.high:+.3g})" if math.isfinite(beyond.low) else ""
        words += (
            f". Losing its input alone would cost layer {control.label} {control.delta:.3g}: "
            f"its lesion costs {beyond.delta:+.3g}{interval} beyond being blind"
        )
    return words + "."


def _rows(columns: dict[str, list]) -> tuple[LesionRow, ...]:
    rows = (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
    return tuple(LesionRow(**r | {"layers": tuple(r["layers"]), "unit": r["unit"] or None}) for r in rows)
