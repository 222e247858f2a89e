"""Options that commands and Python functions share: which network, which data, where the results
go.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter

from rhn.cells.registry import CELLS
from rhn.utils.ranges import Count, Drawable, Natural, within
from rhn.utils.shared_options import OUTPUT_GROUP, CellOptions, Device, Drawing

CELL = f"{', '.join(CELLS)}, torch.nn:LSTM, or package.module:factory (default rhn)."
NETWORK = Parameter(group=Group("network", sort_key=1))
DATA = Parameter(group=Group("data", sort_key=2))


@dataclass(frozen=True, kw_only=True)
class NewCell:
    """A new cell."""

    depth: Annotated[Count | None, NETWORK] = None
    """Recurrence depth of a new cell (default 1)."""
    hidden_size: Annotated[Count | None, NETWORK] = None
    """Hidden units of a new cell (default 64)."""
    init: Annotated[str | None, NETWORK] = None
    """gaussian:STD, uniform:A, identity, scaled, orthogonal, memory[:STEPS] (default: uniform:0.04
    or the cell's).
    """
    transform_bias: Annotated[float | None, NETWORK] = None
    """Initial bias of the transform gates of an RHN (default -2)."""
    seed: Annotated[int, NETWORK] = 0
    """Seed of the initial weights."""


@dataclass(frozen=True, kw_only=True)
class NewOrTrained(NewCell):
    """A new cell, trained weights, or a module."""

    cell: Annotated[str | None, NETWORK, Parameter(help=CELL)] = None
    cell_options: Annotated[CellOptions, NETWORK] = field(default_factory=dict)
    """An option of the cell, such as leak=0.5. Can be given several times."""
    checkpoint: Annotated[Path | None, NETWORK] = None
    """Trained weights: a file, or the folder of a training run. With --module: its state_dict."""
    module: Annotated[str | None, NETWORK] = None
    """Your module, package.module:factory: a step f(x, s), or a module, whose first recurrent cell
    is analysed.
    """
    submodule: Annotated[str | None, NETWORK] = None
    """Part of --module with the cell, such as encoder.rnn."""

    # without the options of `NetworkOptions`: the first cell, as it says itself
    layer = batch_axis = state_size = gates = None


@dataclass(frozen=True, kw_only=True)
class ModelOptions(NewOrTrained):
    """The network, which may be a step."""

    state_size: Annotated[str | None, NETWORK, Parameter(metavar="N[,N]")] = None  # type: ignore[assignment]
    """Size of the state, if your step has no attribute state_size: 5, or 5,5 for two tensors."""


@dataclass(frozen=True, kw_only=True)
class NetworkOptions(ModelOptions):
    """The network, and one of its cells."""

    layer: Annotated[int | None, NETWORK] = None  # type: ignore[assignment]
    """Which recurrent cell of several, counted from 1. Each layer of a torch.nn module counts
    (default: the first cell, with all its layers).
    """
    batch_axis: Annotated[int | None, NETWORK, within(least=0, most=1)] = None  # type: ignore[assignment]
    """Axis of the batch that --module takes: 0 for (B, T, m), 1 for (T, B, m) (default: by its
    batch_first, or the axis of length 1).
    """
    gates: Annotated[str | None, NETWORK, Parameter(metavar="FUNCTION")] = None  # type: ignore[assignment]
    """Gates of your cell, package.module:function: gates(x, s) returns a tensor, or tensors by
    name. For nn.LSTM, s is the tuple (h, c).
    """


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """The data."""

    chorale: Annotated[str, DATA] = "bwv269"
    """A chorale, by its name (bwv66.6) or its place in a split (test-0)."""
    input: Annotated[Path | None, DATA] = None
    """Your own data: .npy, .npz or .csv, one sequence (T, m) or several (S, T, m). For a language
    model: a text.
    """
    steps: Annotated[Count | None, DATA] = None
    """Read only the first N time steps (default: all; for a text 100)."""
    data: Annotated[Path | None, DATA] = None
    """Original chorales (.json, .pickle) instead of those rebuilt from music21."""


@dataclass(frozen=True, kw_only=True)
class ResultOptions(Drawing):
    """The files of a result, and how it is printed."""

    json: Annotated[bool, OUTPUT_GROUP] = False
    """Print one JSON object instead of text."""
    all: Annotated[bool, OUTPUT_GROUP] = False
    """Print all rows of numbers (default: the first six)."""


@dataclass(frozen=True, kw_only=True)
class OutputOptions(ResultOptions):
    """The same, the device of the work, and what of a run is drawn."""

    step: Annotated[Natural | None, OUTPUT_GROUP, Parameter(name="--draw-step")] = None
    """Time step that the figure draws, counted from 0 (default: the one with the median spectral
    radius, or the middle one in a comparison). The numbers stay the same.
    """
    limit: Annotated[Drawable | None, OUTPUT_GROUP] = None
    """Crop the complex plane at this distance from 0, or end the value axis at this value."""

    @property
    def drawing(self) -> dict[str, Any]:
        """Those of step and limit that are given, as words of the figure of a result."""
        words = {"step": self.step, "limit": self.limit}
        return {name: value for name, value in words.items() if value is not None}

    device: Annotated[Device, OUTPUT_GROUP] = "auto"
    """Device of the Jacobians; eigenvalues are computed on the CPU."""
