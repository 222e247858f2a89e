"""The command `gersgorin`: one dataclass for each subcommand. It names the function that is called,
and its fields are keywords of this function, so a command and Python compute the same numbers.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from cyclopts import Group, Parameter

from gersgorin.next.cli.options import (
    OUTPUT,
    AnalysisOptions,
    DataOptions,
    Device,
    NetworkOptions,
)
from rhn.cli.entry import run_command
from rhn.utils.command_line import command_line, run_read

OWN = Parameter(group=Group("numbers", sort_key=0))


@dataclass(frozen=True, kw_only=True)
class PlotCommand(AnalysisOptions):
    """Eigenvalues, Geršgorin discs and norms of the Jacobian of each step, and of their products.

    examples:
      gersgorin plot --cell rhn --depth 5
      gersgorin plot --checkpoint runs/mine --output trained.pdf trained.npz
      gersgorin plot --module models.py:Net --checkpoint net.pt --input x.npy
    """

    function: ClassVar[str] = "analyses.spectra:spectra"
    drawn: ClassVar[tuple[str, ...]] = ("step", "limit")

    leading: Annotated[int | None, OWN] = None
    """Number of eigenvalues of largest modulus (default: all; 32 of more than 4,096)."""
    step: Annotated[int | None, OUTPUT] = None
    """Time step of the discs, from 0 (default: that of the median spectral radius)."""
    limit: Annotated[float | None, OUTPUT] = None
    """Largest distance from 0 in the complex plane (default: all)."""


@dataclass(frozen=True, kw_only=True)
class ProductsCommand(AnalysisOptions):
    """Norms of the Jacobian products, from the first state and to the last one.

    examples:
      gersgorin products --cell lstm --hidden-size 32 --json
    """

    function: ClassVar[str] = "analyses.products:products"


@dataclass(frozen=True, kw_only=True)
class GainsCommand(AnalysisOptions):
    """Norms of the Jacobians of the input and of each layer.

    examples:
      gersgorin gains --cell rhn --depth 5
    """

    function: ClassVar[str] = "analyses.gains:gains"


@dataclass(frozen=True, kw_only=True)
class GatesCommand(AnalysisOptions):
    """Mean of each gate at every step.

    examples:
      gersgorin gates --checkpoint runs/mine
      gersgorin gates --module models.py:step --state-size 16 --of models.py:gates
    """

    function: ClassVar[str] = "analyses.gates:gates"

    of: Annotated[str | None, OWN] = None
    """Your function gates(x, s) as FILE.py:NAME (default: the gates of the cell)."""

    def keywords(self) -> dict[str, Any]:
        from gersgorin.next.cli.networks import imported  # loads torch

        return {} if self.of is None else {"of": imported(self.of)}


@dataclass(frozen=True, kw_only=True)
class RunCommand(DataOptions, NetworkOptions):
    """Write inputs (T, m), states (T + 1, N), weights and Jacobians of a run to a file for NumPy.

    examples:
      gersgorin run --cell rhn --depth 5 --output run.npz --jacobians
    """

    output: Annotated[Path, OUTPUT] = Path("run.npz")
    """The .npz file."""
    jacobians: Annotated[bool, OUTPUT] = False
    """Also write the Jacobians (T, N, N)."""
    device: Annotated[Device, OUTPUT] = "auto"
    """Device on which the network runs; auto: a GPU if there is one, else the CPU."""


COMMANDS = command_line(
    "gersgorin",
    """Jacobians of recurrent networks along a sequence.

examples:
  gersgorin plot --cell rhn --depth 5
  gersgorin products --checkpoint runs/mine --json""",
)
TABLE: dict[str, type] = {
    "plot": PlotCommand,
    "products": ProductsCommand,
    "gains": GainsCommand,
    "gates": GatesCommand,
    "run": RunCommand,
}
for name, command in TABLE.items():
    COMMANDS.command(command, name=name)


def run(command: Any) -> None:
    """Run a command, after its words were read."""
    from gersgorin.next.cli import work  # loads torch

    work.save_run(command) if isinstance(command, RunCommand) else work.run_analysis(command)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command `gersgorin`; return its exit code."""
    return run_command(lambda: run_read(COMMANDS, args, run))


def plot() -> int:
    """Run the command `gersgorin-plot`, which is `gersgorin plot`; return its exit code."""
    return main(["plot", *sys.argv[1:]])
