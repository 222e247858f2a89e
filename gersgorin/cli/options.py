"""Options that commands share: the network, the data, and the files for results."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter

from rhn.cells.registry import CELLS
from rhn.utils.old import (
    OUTPUT_GROUP,
    CellOptions,
    Count,
    Device,
    Drawable,
    Drawing,
    Natural,
    within,
)

CELL = f"New cell: {', '.join(CELLS)}, torch.nn:LSTM, or package.module:factory (default rhn)."
NETWORK = Parameter(group=Group("network", sort_key=1))
DATA = Parameter(group=Group("data", sort_key=2))


@dataclass(frozen=True, kw_only=True)
class NewCell:
    """Options of a new cell."""

    depth: Annotated[Count | None, NETWORK] = None
    """Recurrence depth of a new cell: its number of layers within one time step (default 1)."""
    hidden_size: Annotated[Count | None, NETWORK] = None
    """Hidden units of a new cell (default 64)."""
    init: Annotated[str | None, NETWORK] = None
    """Initial weights of a new cell, with the default of each number in brackets: gaussian[:STD]
    (0.01), uniform[:A] (0.04), identity[:STD] (0.001), scaled[:GAIN] (1), orthogonal[:GAIN] (1),
    memory[:STEPS]. Default: the cell's own initialisation if it has one, else uniform:0.04.
    """
    transform_bias: Annotated[float | None, NETWORK] = None
    """Initial bias of the transform gates of an RHN (default -2)."""
    seed: Annotated[int, NETWORK] = 0
    """Seed of the initial weights."""


@dataclass(frozen=True, kw_only=True)
class NewOrTrained(NewCell):
    """Options of the network: a new cell, trained weights, or a module."""

    cell: Annotated[str | None, NETWORK, Parameter(help=CELL)] = None
    cell_options: Annotated[CellOptions, NETWORK] = field(default_factory=dict)
    """An option of the new cell, such as skip=last. Can be given several times."""
    checkpoint: Annotated[Path | None, NETWORK] = None
    """Trained weights: a file, or the folder of a training run. If --module is given, or if --cell
    is a layer of torch such as torch.nn:LSTM: a file with the state_dict.
    """
    module: Annotated[str | None, NETWORK] = None
    """Your own network, package.module:factory. The factory returns a step f(x, s) or a torch
    module. In a module the first recurrent cell is analysed (by `influence`: the whole module).
    """
    submodule: Annotated[str | None, NETWORK] = None
    """Name of a part of --module, such as encoder.rnn. The first recurrent cell in this part is
    analysed (by `influence`: the outputs of the part). Default: the whole module.
    """

    # without the options of `NetworkOptions`: the first cell, as it says itself
    layer = batch_axis = state_size = gates = None


@dataclass(frozen=True, kw_only=True)
class ModelOptions(NewOrTrained):
    """Options of the network, which may be a step."""

    state_size: Annotated[str | None, NETWORK, Parameter(metavar="N[,N]")] = None  # type: ignore[assignment]
    """Number of entries of the state of your step f(x, s): 5, or 5,5 for a state of two tensors.
    Needed only if the step has no attribute state_size.
    """


@dataclass(frozen=True, kw_only=True)
class BatchAxisOption:
    """The layout of the input of the user's module."""

    batch_axis: Annotated[int | None, NETWORK, within(least=0, most=1)] = None
    """Axis of the batch in the input of --module: 0 for (batch, time, features), 1 for (time,
    batch, features). Default: taken from batch_first of a layer of the module, or else the axis
    along which the module keeps sequences apart.
    """


@dataclass(frozen=True, kw_only=True)
class NetworkOptions(BatchAxisOption, ModelOptions):
    """Options of the network, and the choice of one of its cells."""

    layer: Annotated[int | None, NETWORK] = None  # type: ignore[assignment]
    """Number of the recurrent cell to analyse, counted from 1, if the network has several. In a
    stacked nn.RNN, nn.LSTM or nn.GRU each layer has its own number. Default: the first cell; if it
    is stacked, all its layers.
    """
    gates: Annotated[str | None, NETWORK, Parameter(metavar="FUNCTION")] = None  # type: ignore[assignment]
    """Your function that computes the gates of the cell, package.module:function. It is called as
    gates(x, s) with an input and a state; for nn.LSTM, s is (h, c). It returns a tensor, or a
    dictionary of tensors by name. Default: the gates that are known for the cell, if any.
    """


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Options of the data."""

    chorale: Annotated[str | None, DATA] = None
    """The chorale that the network reads, by its name (bwv66.6) or its number in a split (test-0).
    Default: bwv269, or test-0 if the file of --data has no names.
    """
    input: Annotated[Path | None, DATA] = None
    """File with your own data, to use instead of a chorale: .npy, .npz or .csv with one sequence
    (T, m) or S sequences (S, T, m). T counts time steps, m the numbers of a step. For a language
    model: a text file.
    """
    steps: Annotated[Count | None, DATA] = None
    """Read only the first N time steps of the sequence (default: all; for a text 100)."""
    data: Annotated[Path | None, DATA] = None
    """File with the original chorales (.json, .pickle). Default: the file on which the network was
    trained, or else the chorales rebuilt from music21's scores.
    """


@dataclass(frozen=True, kw_only=True)
class ResultOptions(Drawing):
    """Options of the files of a result, and of its printed form."""

    json: Annotated[bool, OUTPUT_GROUP] = False
    """Print one JSON object instead of text."""
    all: Annotated[bool, OUTPUT_GROUP] = False
    """Print all rows of the table of numbers (default: only the first six)."""


@dataclass(frozen=True, kw_only=True)
class OutputOptions(ResultOptions):
    """The options of a result, the device, and the part of a run that is drawn."""

    step: Annotated[Natural | None, OUTPUT_GROUP, Parameter(name="--draw-step")] = None
    """Time step that the figure draws or marks, counted from 0. Default: for spectra the step with
    the median spectral radius, or the middle step if several networks are compared; for
    pseudospectra all steps, or for each compared network the one with the least epsilon_to_circle;
    for other results all steps. The option does not change the printed numbers.
    """
    limit: Annotated[Drawable | None, OUTPUT_GROUP] = None
    """Where the figure ends: in figures of the complex plane the distance from 0, in other figures
    the largest value on the value axis (default: chosen to fit the data).
    """

    @property
    def drawing(self) -> dict[str, Any]:
        """The options --draw-step and --limit, if given, as arguments for the figure of a
        result.
        """
        words = {"step": self.step, "limit": self.limit}
        return {name: value for name, value in words.items() if value is not None}

    device: Annotated[Device, OUTPUT_GROUP] = "auto"
    """Device that computes the Jacobians; auto: a GPU if there is one, else the CPU. Eigenvalues
    are always computed on the CPU.
    """
