"""What was measured through a training: a record of NumPy arrays, from which every figure and table is made, without torch.

Legend: M measurements, P positions of the probe sequence, N state entries, L layers of a step, K weights (a layer's apart).
"""

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np

from rhn.errors import DataError
from rhn.files import write_arrays
from rhn.reading import arrays_of, values_of
from rhn.result import Result
from rhn.wording import counted

WRITER = "gersgorin.Recorder(path=FILE.npz) or rhn train --record"
MEASURES = {  # one number a measurement: the mean over positions, layers or weights; and what a table calls it
    "loss": "loss",
    "radius": "spectral radius",
    "bulk": "bulk (trace/n)",
    "reach": "reach of the discs",
    "input_gain": "input gain",
    "state_gain": "state gain a layer",
    "exponent": "finite-time exponent",
    "gate": "transform gates",
    "gradient_norm": "gradient norm",
    "relative_rate": "relative rate",
}


@dataclass(frozen=True, kw_only=True, repr=False)
class Recording(Result):
    """A cell on one probe sequence at M moments of its training; what could not be measured is NaN.

    Spectra are those of the temporal Jacobian of one step, at P positions spread over the probe.
    """

    title: str
    """What a figure calls the cell."""
    every: int
    """Steps of training from one measurement to the next."""
    parameters: np.ndarray
    """Names of the weights, (K,): "cells.0.weight_hh[1]" is the second layer's part of a stacked one."""
    step: np.ndarray
    """Steps of training done, (M,); 0: before training."""
    loss: np.ndarray
    """(M,), as it was given."""
    radius: np.ndarray
    """Largest modulus of an eigenvalue, (M, P)."""
    bulk: np.ndarray
    """Mean eigenvalue, trace / N, (M, P)."""
    reach: np.ndarray
    """How far the row discs reach from 0, (M, P)."""
    input_gain: np.ndarray
    """2-norm of d s'/d x, (M, P)."""
    state_gain: np.ndarray
    """2-norm of d s_l / d s_{l-1} of each layer, (M, P, L)."""
    gate: np.ndarray
    """Mean over the units of each layer's transform gate, (M, P, layers with gates)."""
    exponent: np.ndarray
    """log ||d s[T]/d s[0]|| / T along the probe's first sequence, (M,); T is 32, or its length where that is less."""
    eigenvalues: np.ndarray
    """Complex, (M, N): of one position, in the middle of the probe, the largest modulus first."""
    centers: np.ndarray
    """Centres of the row discs at that position, (M, N)."""
    radii: np.ndarray
    """Their radii, (M, N)."""
    gradient_norm: np.ndarray
    """2-norm of the loss's gradient in each weight, (M, K)."""
    relative_rate: np.ndarray
    """Gradient norm / norm of the weight, (M, K); NaN for a weight that is zero."""
    measuring_seconds: float = 0.0
    """What measuring cost in all."""
    training_seconds: float = 0.0
    """What the rest took meanwhile."""
    probe: str = ""
    """A digest of the probe's numbers; "" where it was not kept."""
    gate_name: str = "transform gate"
    """What the cell's literature calls the gate of `gate`."""
    about: str = ""
    """How the training came to be, for figures: initialisation, biases, seed, data."""

    def __len__(self) -> int:
        return len(self.step)

    @property
    def share(self) -> float:
        """Measuring's seconds / all others."""
        return self.measuring_seconds / max(self.training_seconds, 1e-9)

    def mean(self, name: str) -> np.ndarray:
        """One number a measurement of a row of `MEASURES`, (M,): the mean over whatever else it has; NaN where it has nothing."""
        values = getattr(self, name).reshape(len(self), -1)
        known = np.isfinite(values)
        total, count = np.where(known, values, 0).sum(1), known.sum(1)
        return np.divide(total, count, out=np.full(len(self), np.nan), where=count > 0)

    def until(self, step: int) -> "Recording":
        """What was measured up to this step of training."""
        kept = self.step <= step
        return replace(self, **{name: getattr(self, name)[kept] for name in MOMENTS})

    def moments(self) -> list[dict[str, np.ndarray]]:
        """The arrays of each measurement by name."""
        return [{name: getattr(self, name)[k] for name in MOMENTS} for k in range(len(self))]

    def rows(self) -> list[dict]:
        """One row of numbers a measurement, as `gersgorin-plot --record FILE --json` prints them."""
        columns = {name: self.mean(name).tolist() for name in MEASURES}
        return [
            {"step": int(step)} | {name: values[k] for name, values in columns.items()}
            for k, step in enumerate(self.step)
        ]

    def save(self, path: str | Path) -> Path:
        """Write to .npz, atomically and without pickle. Raises OutputError."""
        return write_arrays(path, asdict(self))

    @classmethod
    def load(cls, path: str | Path) -> "Recording":
        """Read what `save` wrote; raises DataError where the file is something else."""
        with arrays_of(path, WRITER) as arrays:
            values = values_of(cls, arrays)
        if not _fit(values):
            raise DataError(
                f"{path} is not a record written by {WRITER}: its arrays do not fit one another or exceed {LARGEST:g}"
            )
        return cls(**values)


MOMENTS = [f.name for f in fields(Recording) if f.type is np.ndarray and f.name != "parameters"]


LARGEST = 1e100  # beyond anything that float32 measures; the axes of a figure end at 1e308
AXES = {"step": 1, "loss": 1, "exponent": 1, "state_gain": 3, "gate": 3}  # dimensions of the others: 2


def _fit(values: dict) -> bool:
    """Whether these arrays are those of a recording: numbers that can be drawn, of at least one moment, and of as many everywhere."""
    arrays = [values[name] for name in MOMENTS]
    return (
        all(values[name].ndim == AXES.get(name, 2) and values[name].dtype.kind in "fciu" for name in MOMENTS)
        and {len(array) for array in arrays} == {max(1, len(arrays[0]))}
        and len({values[name].shape for name in ("eigenvalues", "centers", "radii")}) == 1
        and all(np.abs(values[name][np.isfinite(values[name])]).max(initial=0) <= LARGEST for name in MOMENTS)
        and {values[name].shape[1:] for name in ("gradient_norm", "relative_rate")} == {values["parameters"].shape}
    )


def recording_table(recording: Recording) -> str:
    """The first and the last measurement and two between, quantity by quantity, in plain text."""
    shown = sorted({round(k * (len(recording) - 1) / 3) for k in range(4)})
    lines = [
        f"{recording.title}, {counted(len(recording), 'measurement')} over {counted(recording.step[-1], 'step')} of training"
    ]
    lines.append(f"{'':<22}" + "".join(f"{f'step {recording.step[k]}':>13}" for k in shown))
    for name, label in (MEASURES | {"gate": f"{recording.gate_name}s"}).items():
        values = recording.mean(name)
        if np.isfinite(values).any():
            lines.append(f"{label:<22}" + "".join(f"{values[k]:>13.4g}" for k in shown))
    seconds = f"{recording.measuring_seconds:.2f} s, {100 * recording.share:.2g} % of the time between measurements"
    return "\n".join([*lines, f"measuring took {seconds}"])
