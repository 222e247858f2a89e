"""What was measured of a network's gates: numbers, from which figures, tables and files are made without torch.

Legend: L layers (counted from 1, through all stacked cells), T steps of a sequence (frames or tokens), n units (counted from 1 where
they are named).
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rhn.utils.io import arrays_of, write_arrays, write_csv
from rhn.utils.result import OneScreen, Result

COLUMNS = ("sequence", "layer", "step", "activity", "open", "closed")  # of a table
LEAST_SPAN = 0.1  # of mean gates, from one end of a scale of colours to the other


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SequenceActivity(OneScreen):
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


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class GateActivity(Result):
    """The transform gates of a network along some sequences, and how its single units behave over all of them."""

    labels: tuple[str, ...]
    """What the layers are called: "1".."L", or "1.1", "1.2", "2.1", ... in stacked networks."""
    sequences: tuple[SequenceActivity, ...]
    unit_mean: np.ndarray
    """Mean gate of each unit, (L, n)."""
    unit_switching: np.ndarray
    """Mean absolute change of each unit's gate from one step to the next, (L, n) in 0..1; NaN where no sequence has two."""
    gate_name: str = "transform gate"
    """What the cell's literature calls them: an LSTM's are its input gates."""
    about: str = ""
    """How the network and the data came to be, under the figure's title."""

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

    @property
    def limits(self) -> tuple[float, float]:
        """The ends of a scale of colours within 0..1: the least and the greatest mean gate, or where they are nearer than `LEAST_SPAN`,
        so much about their middle, as small differences are not to look like great ones; 0 and 1 where no gate is finite."""
        values = np.concatenate([s.activity for s in self.sequences], axis=1)
        values = values[np.isfinite(values)]
        if not values.size:
            return 0.0, 1.0
        low, high = float(values.min()), float(values.max())
        if high - low >= LEAST_SPAN:
            return low, high
        low = min(max((low + high - LEAST_SPAN) / 2, 0.0), 1.0 - LEAST_SPAN)
        return low, low + LEAST_SPAN

    def most_switching(self, count: int = 5) -> list[tuple[str, int, float]]:
        """(layer's label, unit from 1, mean absolute change a step) of the units that switch most, the first one most of all."""
        order = np.argsort(-self.unit_switching, axis=None, kind="stable")[:count]
        places = [divmod(int(k), self.unit_switching.shape[1]) for k in order]
        return [(self.labels[layer], unit + 1, float(self.unit_switching[layer, unit])) for layer, unit in places]

    def summary(self) -> dict:
        """The JSON object of `rhn-analyze gates --json`."""
        arrays = ("mean_by_layer", "activity")
        sequences = [
            {"name": s.name, "steps": s.steps} | {name: getattr(s, name).tolist() for name in arrays}
            for s in self.sequences
        ]
        return {"layers": self.layers, "sequences": sequences}

    def plot(self, ax=None):
        """Layers x time, white the least gate, red the greatest, several sequences one after another; returns the Axes."""
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
        return write_csv(path, COLUMNS, rows)

    def save(self, path: str | Path) -> Path:
        """Write to .npz, single units and bar lines too (`load` reads it), or to .csv (`to_csv`)."""
        if Path(path).suffix.lower() == ".csv":
            return self.to_csv(path)
        arrays = {
            "labels": np.array(self.labels),
            "about": np.array(self.about),
            "gate_name": np.array(self.gate_name),
            "unit_mean": self.unit_mean,
            "unit_switching": self.unit_switching,
        }
        for i, s in enumerate(self.sequences):
            arrays |= {f"sequence{i}.{name}": np.asarray(value) for name, value in vars(s).items()}
        return write_arrays(path, arrays)

    @classmethod
    def load(cls, path: str | Path) -> "GateActivity":
        """Read what `save` wrote as .npz; raises DataError where the file is something else."""
        with arrays_of(path, "rhn-analyze gates --save-data FILE.npz") as arrays:
            fields, count = SequenceActivity.__dataclass_fields__, sum(n.endswith(".activity") for n in arrays.files)
            values = [{f: arrays[f"sequence{i}.{f}"] for f in fields} for i in range(count)]
            units = {name: arrays[name] for name in ("unit_mean", "unit_switching")}
            labels = tuple(arrays["labels"].tolist())
            told = {name: arrays[name].item() for name in ("about", "gate_name") if name in arrays.files}
        scalars = ("name", "bars_from_score")
        sequences = (SequenceActivity(**{f: v.item() if f in scalars else v for f, v in s.items()}) for s in values)
        return cls(labels=labels, sequences=tuple(sequences), **told, **units)
