"""Options that commands and Python functions share: which network, which data, where the results go."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from rhn.utils.options import Arg, CellOptions, Device, File, Writing


@dataclass(frozen=True, kw_only=True)
class NewOrTrained:
    """A new cell, trained weights, or a module."""

    group = "network"

    cell: str | None = None
    """{cells}, torch.nn:LSTM, or package.module:factory (default rhn)."""
    depth: int | None = None
    """Recurrence depth of a new cell (default 1)."""
    hidden_size: int | None = None
    """Hidden units of a new cell (default 64)."""
    init: str | None = None
    """gaussian:STD, uniform:A, identity, scaled or orthogonal[:GAIN] (default: uniform:0.04 or the cell's)."""
    transform_bias: float | None = None
    """Initial gate bias of an RHN (default -2)."""
    cell_options: CellOptions = field(default_factory=dict)
    """An option of the cell, such as leak=0.5; repeatable."""
    seed: int = 0
    """Seed of the initial weights."""
    checkpoint: File = None
    """Trained weights: a file or the folder of a run. With --module: its state_dict."""
    module: str | None = None
    """Your module, package.module:factory; its first recurrent cell is analysed."""
    submodule: str | None = None
    """Part of --module with the cell, such as encoder.rnn."""


@dataclass(frozen=True, kw_only=True)
class NetworkOptions(NewOrTrained):
    """The network, and one of its cells."""

    group = "network"

    layer: int | None = None
    """Which of several recurrent cells, counted from 1 (default: the first)."""


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """The data."""

    group = "data"

    chorale: str = "bwv269"
    """A chorale by name (bwv66.6) or place in the split (test-0)."""
    input: File = None
    """Your data instead: .npy, .npz or .csv, (T, m) or S sequences (S, T, m); a text for a language model."""
    steps: int | None = None
    """Read the first N steps (default: all, of a text 100)."""
    data: File = None
    """Original chorales (.json, .pickle) instead of those rebuilt from music21."""


@dataclass(frozen=True, kw_only=True)
class OutputOptions(Writing):
    """The files of the results."""

    group = "output"

    output: Annotated[tuple[Path, ...], Arg("FILE")] = ()
    """Files to write: a figure (.png, .svg, .pdf), numbers (.npz, .json), an animation (.gif, .mp4)."""
    json: bool = False
    """Print one JSON object instead of text."""
    device: Device = "auto"
    """Device of the Jacobians; eigenvalues are computed on the CPU."""
