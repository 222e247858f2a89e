"""Options that commands and Python functions share: which network, which data, where the results
go.
"""

from dataclasses import dataclass
from pathlib import Path

from cyclopts import Group, Parameter

from rhn.cells.registry import CELLS
from rhn.utils.options import Device, Drawing, option

NETWORK = Parameter(group=Group("network", sort_key=1))


@dataclass(frozen=True, kw_only=True)
class NewOrTrained:
    """A new cell, trained weights, or a module."""

    group = "network"

    cell: str | None = option(
        None, f"{', '.join(CELLS)}, torch.nn:LSTM, or package.module:factory (default rhn)."
    )
    depth: int | None = option(None, "Recurrence depth of a new cell (default 1).", least=1)
    hidden_size: int | None = option(None, "Hidden units of a new cell (default 64).", least=1)
    init: str | None = option(
        None,
        "gaussian:STD, uniform:A, identity, scaled, orthogonal, memory[:STEPS] (default: "
        "uniform:0.04 or the cell's).",
    )
    transform_bias: float | None = option(None, "Initial gate bias of an RHN (default -2).")
    cell_options: dict = option(
        {}, "An option of the cell, such as leak=0.5; repeatable.", flag="--cell-option"
    )
    seed: int = option(0, "Seed of the initial weights.")
    checkpoint: Path | None = option(
        None,
        "Trained weights: a file or the folder of a run. With --module: its state_dict.",
        metavar="FILE",
    )
    module: str | None = option(
        None,
        "Your module, package.module:factory: a step (not for influence), "
        "or its first recurrent cell.",
    )
    submodule: str | None = option(None, "Part of --module with the cell, such as encoder.rnn.")

    # without the options of `NetworkOptions`: the first cell, as it says itself
    layer = batch_axis = state_size = gates = None


@dataclass(frozen=True, kw_only=True)
class NetworkOptions(NewOrTrained):
    """The network, and one of its cells."""

    group = "network"

    layer: int | None = option(
        None, "Which of several recurrent cells, counted from 1 (default: the first)."
    )  # type: ignore[assignment]
    batch_axis: int | None = option(  # type: ignore[assignment]
        None,
        "Axis of the batch in --input as --module takes it: 0 for (B, T, m), 1 for (T, B, m) "
        "(default: by its batch_first, or the axis of length 1).",
        least=0,
        most=1,
    )
    state_size: str | None = option(  # type: ignore[assignment]
        None,
        "Entries of the state of your step, if it does not say it: 5, or 5,5 of two tensors.",
        metavar="N[,N]",
    )
    gates: str | None = option(  # type: ignore[assignment]
        None,
        "Gates of your cell, package.module:function: gates(x, s) returns a tensor, or tensors "
        "by name.",
        metavar="FUNCTION",
    )


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
