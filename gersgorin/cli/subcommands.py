"""The subcommands of `gersgorin` with options of their own, each a dataclass."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from cyclopts import Parameter

from gersgorin.catalog import BY_COMMAND
from gersgorin.cli.options import (
    NETWORK,
    OWN_OPTIONS,
    AnalysisOptions,
    DataOptions,
    NetworkOptions,
    NewCell,
    ReadingOptions,
    Seeded,
)
from gersgorin.cli.outputs import OUTPUT_OPTIONS, CurvesOption, DeviceOption, OutputOptions
from rhn.utils.command_line import Device, command_class
from rhn.utils.seed_folders import SEED_HELP, with_seed


@dataclass(frozen=True, kw_only=True)
class PlotCommand(CurvesOption, AnalysisOptions):
    """Eigenvalues, Geršgorin discs and norms of the Jacobian of each step, and of their products.

    examples:
      gersgorin plot --cell rhn --depth 5
      gersgorin plot --checkpoint runs/mine --output trained.pdf trained.npz
      gersgorin plot --module models.py:Net --checkpoint net.pt --input x.npy
    """

    analysis = BY_COMMAND["plot"]
    drawn: ClassVar[tuple[str, ...]] = ("step", "limit")

    leading: Annotated[int | None, OWN_OPTIONS] = None
    """Number of eigenvalues of largest modulus (default: all; 32 of more than 4,096)."""
    step: Annotated[int | None, OUTPUT_OPTIONS] = None
    """Time step of the discs, from 0 (default: that of the median spectral radius)."""
    limit: Annotated[float | None, OUTPUT_OPTIONS] = None
    """Half the width of the first complex plane (default: all)."""


@dataclass(frozen=True, kw_only=True)
class GatesCommand(CurvesOption, AnalysisOptions):
    """Mean of each gate at every step.

    examples:
      gersgorin gates --checkpoint runs/mine
      gersgorin gates --module models.py:step --state-size 16 --of models.py:gates
    """

    analysis = BY_COMMAND["gates"]

    of: Annotated[str | None, OWN_OPTIONS] = None
    """Your function gates(x, s) as FILE.py:NAME (default: the gates of the cell)."""

    def keywords(self) -> dict[str, Any]:
        from gersgorin.cli.networks import imported  # loads torch

        return {} if self.of is None else {"of": imported(self.of)}


@dataclass(frozen=True, kw_only=True)
class InfluenceCommand(AnalysisOptions):
    """How strongly each output of a network, or a loss, depends on the inputs.

    examples:
      gersgorin influence --cell lstm --hidden-size 32
      gersgorin influence --checkpoint runs/mine --of bernoulli
    """

    analysis = BY_COMMAND["influence"]
    reads: ClassVar[str] = "model"

    of: Annotated[str | None, OWN_OPTIONS] = None
    """outputs (default), or a loss of the next step: bernoulli, categorical, squared."""
    feature: Annotated[int | None, OWN_OPTIONS] = None
    """Number of one input, from 0 (default: all)."""
    probes: Annotated[int | None, OWN_OPTIONS] = None
    """Random vectors of an estimate; 0: exact (default: exact up to 16,384 numbers in all outputs,
    or 16 in each; else 16 vectors).
    """


@dataclass(frozen=True, kw_only=True)
class TruncationCommand(AnalysisOptions):
    """Errors of truncated backpropagation by the length of its window.

    The loss is that of predicting the next step.

    examples:
      gersgorin truncation --checkpoint runs/mine
      gersgorin truncation --module models.py:Net --input x.npy --loss-fn squared
    """

    analysis = BY_COMMAND["truncation"]
    reads: ClassVar[str] = "model"

    loss_fn: Annotated[str | None, OWN_OPTIONS] = None
    """bernoulli, categorical or squared (default: that of the checkpoint)."""
    # a step has no weights of a layer
    state_size: Annotated[tuple[int, ...], Parameter(parse=False)] = ()
    s0: Annotated[tuple[str, ...], Parameter(parse=False)] = ()


@dataclass(frozen=True, kw_only=True)
class FixedPointsCommand(AnalysisOptions):
    """Fixed points of the step under the mean of the sequence, or cycles, and their spectra.

    examples:
      gersgorin fixed-points --cell rhn --depth 5
    """

    analysis = BY_COMMAND["fixed-points"]

    starts: Annotated[int | None, OWN_OPTIONS] = None
    """Number of states from which each round of the search starts (default: 100)."""
    period: Annotated[int | None, OWN_OPTIONS] = None
    """Steps of the cycles to search for (default: 1, fixed points)."""
    margin: Annotated[float | None, OWN_OPTIONS] = None
    """Width of the search around the starts and the states that they reach, in units of the longest
    extent of the starts, or of 1 if it is shorter (default: 0.5).
    """


@dataclass(frozen=True, kw_only=True)
class LyapunovCommand(CurvesOption, AnalysisOptions):
    """Leading Lyapunov exponents.

    examples:
      gersgorin lyapunov --cell rhn --depth 5 --repeat 10
    """

    analysis = BY_COMMAND["lyapunov"]

    count: Annotated[int | None, OWN_OPTIONS] = None
    """Number of exponents (default: all)."""
    warmup: Annotated[int | None, OWN_OPTIONS] = None
    """First steps that are not counted (default: 0)."""
    repeat: Annotated[int | None, OWN_OPTIONS] = None
    """Number of times that the sequence is read in a row (default: 1)."""


@dataclass(frozen=True, kw_only=True)
class PseudospectraCommand(AnalysisOptions):
    """Pseudospectra of a few steps.

    examples:
      gersgorin pseudospectra --cell rhn --depth 5
    """

    analysis = BY_COMMAND["pseudospectra"]

    side: Annotated[int | None, OWN_OPTIONS] = None
    """Points of a side of the grid, odd (default: 101; 51 for more than 64 entries)."""


@dataclass(frozen=True, kw_only=True)
class SeveralCells:
    """Options of several new cells: one for each combination of values."""

    cell: Annotated[tuple[str, ...], NETWORK] = ()
    """New cells, as in the other commands."""
    depth: Annotated[tuple[int, ...], NETWORK] = ()
    """Depths of the new cells that have depths (default: 1)."""
    hidden_size: Annotated[tuple[int, ...], NETWORK] = ()
    """Units of the new cells (default: 64)."""
    init: Annotated[tuple[str, ...], NETWORK] = ()
    """Initial weights of the new cells, such as gaussian:0.1 (default: uniform:0.04 or its own)."""
    transform_bias: Annotated[tuple[float, ...], NETWORK] = ()
    """Initial biases of the transform gates of an RHN (default: -2)."""


@command_class
class CompareCommand(
    DeviceOption,
    CurvesOption,
    OutputOptions,
    DataOptions,
    Seeded,
    ReadingOptions,
    NewCell,
    SeveralCells,
):
    """Compare networks along a sequence; with several seeds or sequences medians and 10 to 90 %.

    examples:
      gersgorin compare --cell rnn dt-rnn dts-rnn rhn --depth 1 3 5 10
      gersgorin compare --cell rhn --depth 5 --transform-bias -4 0
      gersgorin compare --cell rhn lstm --seeds 5
      gersgorin compare runs/depth6 --before-training --output trained.pdf
    """

    work: ClassVar[str] = "comparison:compare_networks"
    analysis = BY_COMMAND["compare"]
    drawn: ClassVar[tuple[str, ...]] = ("step", "limit")

    networks: Annotated[tuple[str, ...], NETWORK] = field(default=(), kw_only=False)
    """Trained weights (files or folders of training runs), and modules as FILE.py:NAME."""
    before_training: Annotated[bool, NETWORK] = False
    """Also show trained networks before their training."""
    seeds: Annotated[int, NETWORK] = 1
    """Number of seeds of new weights, from --seed on."""
    panels: Annotated[tuple[str, ...], OUTPUT_OPTIONS] = ()
    """Panels of the figure: discs, radius, reach, norm, product."""
    step: Annotated[int | None, OUTPUT_OPTIONS] = None
    """Time step of the discs, from 0 (default: the typical step of each network)."""
    limit: Annotated[float | None, OUTPUT_OPTIONS] = None
    """Half the width of all complex planes (default: as the discs need)."""

    @property
    def name(self) -> str:
        return self.analysis.function


@command_class
class RecordingCommand(OutputOptions):
    """Show what a Recorder, or `rhn train --record N`, measured during a training run.

    examples:
      gersgorin recording runs/depth6
    """

    work: ClassVar[str] = "work:show_recording"

    checkpoint: Path = field(kw_only=False)
    """The file of the recording, or the folder of the training run."""
    seed: Annotated[int | None, Parameter(help=SEED_HELP)] = None

    @property
    def name(self) -> str:
        return "recording"


@dataclass(frozen=True, kw_only=True)
class RunCommand(DataOptions, NetworkOptions):
    """Write inputs (T, m), states (T + 1, N) and weights of a run to a file for NumPy.

    examples:
      gersgorin run --cell rhn --depth 5 --output run.npz --jacobians
    """

    work: ClassVar[str] = "work:save_run"

    output: Annotated[Path, OUTPUT_OPTIONS] = Path("run.npz")
    """The .npz file."""
    jacobians: Annotated[bool, OUTPUT_OPTIONS] = False
    """Also write the Jacobians (T, N, N)."""
    device: Annotated[Device, OUTPUT_OPTIONS] = "auto"
    """Device on which the network runs; auto: a GPU if there is one, else the CPU."""

    def of_seed(self, name: str) -> Self:
        """The command with the name of the file of one of several seeds."""
        return replace(self, output=with_seed(self.output, name))


@dataclass(frozen=True, kw_only=True)
class KnownValuesCommand:
    """Compare numbers that are known with those that this machine measures.

    The exit code is 1 if a difference is above its allowance.

    examples:
      gersgorin known-values
    """

    work: ClassVar[str] = "work:show_known_values"
