"""Options that commands share: the network and the data. This module does not import torch, so that
`--help` is fast.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar

from cyclopts import Group, Parameter

from gersgorin.catalog import Analysis
from gersgorin.cli.outputs import CurvesOption, DeviceOption, OutputOptions

NETWORK = Parameter(group=Group("network", sort_key=1))
DATA = Parameter(group=Group("data", sort_key=2))
OWN_OPTIONS = Parameter(group=Group("numbers", sort_key=0))


@dataclass(frozen=True, kw_only=True)
class OneCell:
    """Options of the kind of one cell."""

    cell: Annotated[str | None, NETWORK] = None
    """New cell: rnn, irnn, dt-rnn, dts-rnn, rhn (default), lstm, gru, torch.nn:LSTM, or your own as
    package.module:factory, also for a --checkpoint that has it.
    """
    depth: Annotated[int | None, NETWORK] = None
    """Layers of a new cell within one time step (default: 1)."""
    hidden_size: Annotated[int | None, NETWORK] = None
    """Units of a new cell (default: 64)."""
    init: Annotated[str | None, NETWORK] = None
    """Initial weights of a new cell, such as gaussian:0.1 (default: uniform:0.04 or its own)."""
    transform_bias: Annotated[float | None, NETWORK] = None
    """Initial bias of the transform gates of an RHN (default: -2)."""


@dataclass(frozen=True, kw_only=True)
class NewCell:
    """The options that all new cells of a command share."""

    cell_option: Annotated[tuple[str, ...], NETWORK, Parameter(metavar="NAME=VALUE")] = ()
    """Options of the new cell, such as skip=last."""


@dataclass(frozen=True, kw_only=True)
class NetworkFiles:
    """Options of the files of a network."""

    checkpoint: Annotated[Path | None, NETWORK] = None
    """Trained weights: a file, or the folder of a training run. With --module: its state_dict."""
    module: Annotated[str | None, NETWORK] = None
    """Your module or step f(x, s), or a class or factory without arguments, as FILE.py:NAME."""


@dataclass(frozen=True, kw_only=True)
class ReadingOptions:
    """Options of a module or step that reads a sequence."""

    layer: Annotated[str | None, NETWORK] = None
    """Name of the recurrent layer of the module, such as encoder.rnn (default: its only one)."""
    state_size: Annotated[tuple[int, ...], NETWORK] = ()
    """Entries of the state of your step, or of each of its tensors, such as 16 16."""
    s0: Annotated[tuple[str, ...], NETWORK, Parameter(metavar="FLOAT...|FILE")] = ()
    """Numbers of the first state, such as 1 1 20, or a file of them (default: its own, or 0)."""
    batch_first: Annotated[bool | None, NETWORK] = None
    """The module reads (B, T, m); =no: (T, B, m) (default: the attribute of the module)."""


@dataclass(frozen=True, kw_only=True)
class Seeded:
    """The option of random numbers."""

    seed: Annotated[int | None, NETWORK] = None
    """Seed of new weights, and of random vectors, starts and directions (default: 0). Of a folder
    with several seeds: the one to read (default: all).
    """


@dataclass(frozen=True, kw_only=True)
class NetworkOptions(Seeded, ReadingOptions, NetworkFiles, NewCell, OneCell):
    """Options of one network: a new cell, trained weights, or a module."""

    lists: ClassVar[dict[str, str]] = dict.fromkeys(
        ("--cell", "--depth", "--hidden-size", "--init", "--transform-bias"),
        "one value; `gersgorin compare` takes several",
    )
    """What is expected of options of one value, when several are given."""


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Options of the sequence."""

    chorale: Annotated[str | None, DATA] = None
    """Chorale that the network reads, such as bwv66.6 or test-0 (default: bwv269, else test-0)."""
    data: Annotated[Path | None, DATA] = None
    """File of chorales (.json, .pickle) (default: that of the checkpoint, else of music21)."""
    input: Annotated[Path | None, DATA] = None
    """File of your own sequence (.npy, .npz, .csv); for a language model a text."""
    steps: Annotated[int | None, DATA] = None
    """Read only the first steps (default: all; of a text 100)."""


@dataclass(frozen=True, kw_only=True)
class AnalysisOptions(DeviceOption, OutputOptions, DataOptions, NetworkOptions):
    """Options of a command that calls one function with one network."""

    work: ClassVar[str] = "work:run_analysis"
    """The function of `gersgorin.cli` that runs the command, as module:name."""
    analysis: ClassVar[Analysis]
    """The row of the command in the catalog."""
    reads: ClassVar[str] = "run"
    """What the function takes first: "run", or "model" for a whole model and all sequences."""

    @property
    def name(self) -> str:
        return self.analysis.function.replace("_", "-")

    def keywords(self) -> dict[str, Any]:
        """The arguments of the function, beside network and sequence."""
        of_all = (*fields(AnalysisOptions), *fields(CurvesOption))
        shared = {field.name for field in of_all}
        own = {field.name for field in fields(self)} - shared - {*self.drawn}
        return given_options(self, own)


def given_options(options: Any, names: Iterable[str]) -> dict[str, Any]:
    """The options of these names that are given; others keep the default of a function."""
    values = {name: getattr(options, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}
