"""Options that commands and Python functions share: which network, which data, where the results
go.
"""

from dataclasses import dataclass
from pathlib import Path

from rhn.cells.registry import CELLS
from rhn.utils.options import Device, Drawing, option


@dataclass(frozen=True, kw_only=True)
class NewCell:
    """A new cell."""

    group = "network"

    depth: int | None = option(None, "Recurrence depth of a new cell (default 1).", least=1)
    hidden_size: int | None = option(None, "Hidden units of a new cell (default 64).", least=1)
    init: str | None = option(
        None,
        "gaussian:STD, uniform:A, identity, scaled, orthogonal, memory[:STEPS] (default: "
        "uniform:0.04 or the cell's).",
    )
    transform_bias: float | None = option(None, "Initial gate bias of an RHN (default -2).")
    seed: int = option(0, "Seed of the initial weights.")


@dataclass(frozen=True, kw_only=True)
class NewOrTrained(NewCell):
    """A new cell, trained weights, or a module."""

    group = "network"

    cell: str | None = option(
        None, f"{', '.join(CELLS)}, torch.nn:LSTM, or package.module:factory (default rhn)."
    )
    cell_options: dict = option(
        {}, "An option of the cell, such as leak=0.5; repeatable.", flag="--cell-option"
    )
    checkpoint: Path | None = option(
        None,
        "Trained weights: a file or the folder of a run. With --module: its state_dict.",
        metavar="FILE",
    )
    module: str | None = option(
        None,
        "Your module, package.module:factory: a step (not for memory, credit), "
        "or its first recurrent cell.",
    )
    submodule: str | None = option(None, "Part of --module with the cell, such as encoder.rnn.")

    layer = None  # the first cell, without the option of `NetworkOptions`


@dataclass(frozen=True, kw_only=True)
class NetworkOptions(NewOrTrained):
    """The network, and one of its cells."""

    group = "network"

    layer: int | None = option(
        None, "Which of several recurrent cells, counted from 1 (default: the first)."
    )  # type: ignore[assignment]


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """The data."""

    group = "data"

    chorale: str = option("bwv269", "A chorale by name (bwv66.6) or place in the split (test-0).")
    input: Path | None = option(
        None,
        "Your data instead: .npy, .npz or .csv, (T, m) or S sequences (S, T, m); a text for a "
        "language model.",
        metavar="FILE",
    )
    steps: int | None = option(
        None, "Read the first N steps (default: all, of a text 100).", least=1
    )
    data: Path | None = option(
        None,
        "Original chorales (.json, .pickle) instead of those rebuilt from music21.",
        metavar="FILE",
    )


@dataclass(frozen=True, kw_only=True)
class ResultOptions(Drawing):
    """The files of a result, and how it is printed."""

    group = "output"

    json: bool = option(False, "Print one JSON object instead of text.")
    all: bool = option(False, "Print all rows of numbers (default: the first six).")


@dataclass(frozen=True, kw_only=True)
class OutputOptions(ResultOptions):
    """The same, and the device of the work."""

    group = "output"

    device: Device = option("auto", "Device of the Jacobians; eigenvalues are computed on the CPU.")
