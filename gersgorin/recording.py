"""`Recording`: spectra, gains, gates and gradients of a network at several moments of its training,
as `Recorder` measures them.

Legend: M measurements, P positions (time steps of the probe at which single steps are measured), N
entries of a state, L layers, G gates, K weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np

from rhn.utils.io import arrays_of
from rhn.utils.results import Result
from rhn.utils.tables import Block, formatted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

STEP, LOSS, RADIUS = "optimiser step", "loss", "spectral radius"
MEASURES = {
    "loss": LOSS,
    "radius": RADIUS,
    "bulk": "mean eigenvalue",
    "reach": "largest modulus in the row discs",
    "exponent": "growth rate of ||ds[t]/ds[0]|| (1/time step)",
    "input_gain": "input gain ||ds'/dx||_2",
    "state_gain": "layer gain",
    "gate": "mean gate",
    "gradient_norm": "2-norm of the gradient",
    "relative_rate": "2-norm of the gradient / 2-norm of the weight",
}
"""The rows of the table by the names of their arrays."""
IN_WHOLE = "bulk", "input_gain"
"""The measures that are not printed unless the whole table is."""
FEW = tuple(MEASURES[name] for name in ("loss", "radius", "exponent", "gradient_norm"))
CONSTANT = "loss of the constant predictor"
MANY, EVERY = "measurements", "optimiser steps between measurements, as asked"
POSITIONS, MULTIPLIED = "measured time steps of the probe", "time steps of the growth rate"
LOST = "measurements without a spectral radius at a time step"
NO_GRADIENT = "measurements after the first without a gradient norm"
LAYER, OF_WEIGHTS = "layer", ("gradient_norm", "relative_rate")
SHOWN, MOST = 4, 8  # measurements in a table; weights of a panel
WRITER = "gersgorin.Recorder(path=FILE.npz) or rhn train --record"

PerMoment = Annotated[np.ndarray, "measurement"]
PerPosition = Annotated[np.ndarray, "measurement", "position"]
PerEntry = Annotated[np.ndarray, "measurement", "entry"]
PerWeight = Annotated[np.ndarray, "measurement", "weight"]


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Recording(Result):
    """Measurements of a network on one probe at M moments of its training; NaN if unknown.

    >>> import torch
    >>> from gersgorin.recorder import Recorder
    >>> found = Recorder(torch.nn.GRU(2, 4), torch.rand(10, 2), positions=3).recording
    >>> found.step.shape, found.radius.shape  # (M,), (M, P)
    ((1,), (1, 3))
    """

    page: ClassVar[str] = "docs/guides/recorder.md"
    item: ClassVar[str] = STEP
    printed: ClassVar[tuple[str, ...]] = (
        *(row for name, row in MEASURES.items() if name not in IN_WHOLE), CONSTANT, POSITIONS,
    )  # fmt: skip
    texts: ClassVar[tuple[str, ...]] = (
        STEP, *MEASURES.values(), CONSTANT, MANY, EVERY, POSITIONS, MULTIPLIED, LOST, NO_GRADIENT,
        LAYER,
    )  # fmt: skip

    on_slides: ClassVar[tuple[str, ...]] = FEW
    """The panels of a figure that is a slide."""
    cut: ClassVar[str] = LOSS
    """The panel whose first number may be far above the others."""

    network: str
    """The network in titles: its name, and of a cell its depth and units."""
    data: str
    """Name of the probe."""
    every: int
    """Optimiser steps from one measurement to the next, as asked for."""
    probe: str
    """Checksum of the numbers of the probe."""
    parameters: tuple[str, ...]
    """Names of the weights, (K,); of each layer in a stack: "cells.0.weight_hh[1]"."""
    exponent_steps: int
    """Number of time steps of `exponent`: 32, or the length of the shortest sequence."""
    constant: float | None
    """The loss of the constant predictor; None: unknown."""
    step: PerMoment
    """Number of optimiser steps done, (M,); 0: before training."""
    loss: PerMoment
    """The loss that the recorder was given, (M,)."""
    radius: PerPosition
    """Largest modulus of an eigenvalue, (M, P)."""
    bulk: PerPosition
    """Mean eigenvalue, trace / N, (M, P)."""
    reach: PerPosition
    """Largest modulus in the row discs, (M, P)."""
    input_gain: PerPosition
    """||ds'/dx||_2, (M, P); NaN for ids."""
    state_gain: Annotated[np.ndarray, "measurement", "position", "layer"]
    """||ds_l/ds_{l-1}||_2 of each layer, (M, P, L), see `gersgorin.analyses.gains.Gains.layers`."""
    gate: Annotated[np.ndarray, "measurement", "position", "gate"]
    """Mean over the units of each layer's transform, input or 1 - update gate, (M, P, G); G = 0
    without known gates.
    """
    exponent: PerMoment
    """log ||ds[T]/ds[0]||_2 / T, (M,), for T = `exponent_steps`: the mean over the sequences."""
    eigenvalues: Annotated[np.ndarray, "measurement", "eigenvalue"]
    """Eigenvalues at the middle position (the third of four), (M, N), the largest modulus first."""
    centers: PerEntry
    """Centres of the row discs at the middle position, (M, N)."""
    radii: PerEntry
    """Radii of the row discs at the middle position, (M, N)."""
    gradient_norm: PerWeight
    """2-norm of the gradient of the loss with respect to each weight, (M, K)."""
    relative_rate: PerWeight
    """Gradient norm / norm of the weight, (M, K); NaN for a weight that is zero."""

    def __len__(self) -> int:
        return len(self.step)

    def mean(self, name: str) -> np.ndarray:
        """Reduce an array of `MEASURES` to one number for each measurement, (M,): the mean over its
        other axes, for relative rates without biases; for gradient norms the norm over all weights.
        NaN is left out.
        """
        values = getattr(self, name).reshape(len(self), -1)
        if name == "relative_rate":
            values = values[:, ["bias" not in weight for weight in self.parameters]]
        known = ~np.isnan(values)
        if name == "gradient_norm":
            found = np.sqrt(np.square(values).sum(1, where=known))
        else:
            found = values.sum(1, where=known) / np.maximum(known.sum(1), 1)
        return np.where(known.any(1), found, np.nan)

    def title(self) -> list[str]:
        return [f"{self.network}; {self.data}"]

    def table(self) -> Mapping[str, Any]:
        return {
            STEP: self.step,
            **{row: self.mean(name) for name, row in MEASURES.items()},
            CONSTANT: self.constant,
            MANY: len(self),
            EVERY: self.every,
            POSITIONS: self.radius.shape[1],
            MULTIPLIED: self.exponent_steps,
        }

    def coordinates(self) -> Mapping[str, Any]:
        numbers = {"layer": self.state_gain, "gate": self.gate}
        return {
            "step": ("measurement", self.step),
            "weight": [*self.parameters],
            **{axis: np.arange(1, array.shape[2] + 1) for axis, array in numbers.items()},
        }

    def notes(self) -> Mapping[str, int]:
        unknown = np.isnan(self.gradient_norm).all(1)
        lost = np.isnan(self.radius).any(1)
        return {LOST: int(lost.sum()), NO_GRADIENT: int(unknown[1:].sum())}

    def blocks(self) -> list[Block]:
        """Return a row for each measure, four measurements side by side; and the single numbers."""
        *_, single = super().blocks()
        groups = np.split(np.arange(len(self)), range(SHOWN, len(self), SHOWN))
        return [*map(self._side_by_side, groups), single]

    def short(self) -> list[Block]:
        """Return the rows that `printed` names of four measurements, from the first to the last."""
        *_, single = self.blocks()
        first = self._side_by_side(self.shown)
        return [first.shortened(self.printed), single.shortened(self.printed)]

    def _side_by_side(self, moments: np.ndarray) -> Block:
        """The measures of some measurements, a column for each."""
        steps, *rows = [
            [row, *map(formatted, value[moments].tolist())]
            for row, value in self.table().items()
            if np.ndim(value)
        ]
        return Block(rows, heads=[steps])

    @property
    def shown(self) -> np.ndarray:
        """Indices of at most four measurements, from the first to the last."""
        return np.unique(np.linspace(0, len(self) - 1, SHOWN).round().astype(int))

    def panels(self) -> dict[str, dict[str, np.ndarray]]:
        """The curves (M,) of each panel of a figure by their names, by the row of the panel."""
        found = dict[str, dict[str, np.ndarray]]()
        for name, row in MEASURES.items():
            values = getattr(self, name)
            if name in OF_WEIGHTS:
                size = np.nan_to_num(values).max(0) * ["bias" not in w for w in self.parameters]
                largest = sorted(np.argsort(-size, kind="stable")[:MOST])
                found[row] = {self.parameters[k]: values[:, k] for k in largest if size[k]}
            elif values.ndim > 2:
                layers = enumerate(values.mean(1).T, 1)
                found[row] = {f"{LAYER} {k}": layer for k, layer in layers}
            else:
                found[row] = {"": self.mean(name)}
        found[LOSS][CONSTANT] = np.full(len(self), self.constant or np.nan)
        known = found.items()
        return {row: curves for row, curves in known if np.isfinite([*curves.values()]).any()}

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the spectral radius over the optimiser steps."""
        from gersgorin.analyses.recording_figure import draw_over_training  # loads matplotlib
        from rhn.utils.composer import new_axes

        ax = new_axes() if ax is None else ax
        return draw_over_training(ax, self, RADIUS, {"": self.mean("radius")})

    def plot_moment(self, ax: "Axes | None" = None, moment: int = -1) -> "Axes":
        """Draw the eigenvalues and row discs of the middle position at one measurement. The axes
        have room for the discs of all measurements.
        """
        from gersgorin.analyses.recording_figure import common_square, draw_moment
        from rhn.utils.composer import new_axes

        return draw_moment(new_axes() if ax is None else ax, self, moment, common_square(self))

    def draw(self, part: "SubFigure") -> float:
        """Draw the spectra of four measurements, and a panel for each quantity that is known; a
        slide has four of these, a column the first and last measurement and the spectral radius.
        Returns the height that they need, in inches.
        """
        from gersgorin.analyses.recording_figure import draw_recording  # loads matplotlib

        return draw_recording(part, self)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a recording from a file of `save`, or of version 0.6.0. Raises DataError."""
        if Path(path).suffix.lower() != ".npz":
            return super().load(path)
        with arrays_of(path, WRITER) as stored:
            if "kind" not in stored:
                return super().load(path)
            arrays = {f.name: stored[f.name] for f in fields(cls) if f.name in stored}
            fixed = {name: arrays[name].item() for name in ("every", "probe", "exponent_steps")}
            fixed |= {"network": str(stored["title"]), "data": str(stored["about"])}
            fixed["parameters"] = tuple(arrays["parameters"].tolist())
            fixed["constant"] = None if np.isnan(arrays["constant"]) else float(arrays["constant"])
            return cls(**arrays | fixed)


ARRAYS = ("step", *MEASURES, "eigenvalues", "centers", "radii")
"""The names of the arrays, whose first axis are the measurements."""
