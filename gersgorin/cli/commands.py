"""The command `gersgorin`: one dataclass for each subcommand. It names the function that is called,
and its fields are keywords of this function, so a command and Python compute the same numbers. All
subcommands but `plot` are imported when they are called.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Annotated, Any, ClassVar

from gersgorin.cli.options import OWN_OPTIONS, AnalysisOptions
from gersgorin.cli.outputs import OUTPUT_OPTIONS
from rhn.cli.entry import run_command
from rhn.utils.command_line import command_line, run_read


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

    leading: Annotated[int | None, OWN_OPTIONS] = None
    """Number of eigenvalues of largest modulus (default: all; 32 of more than 4,096)."""
    step: Annotated[int | None, OUTPUT_OPTIONS] = None
    """Time step of the discs, from 0 (default: that of the median spectral radius)."""
    limit: Annotated[float | None, OUTPUT_OPTIONS] = None
    """Half the width of the first complex plane (default: all)."""


COMMANDS = command_line(
    "gersgorin",
    """Jacobians of recurrent networks along a sequence.

examples:
  gersgorin plot --cell rhn --depth 5
  gersgorin products --checkpoint runs/mine --json""",
)
COMMANDS.command(PlotCommand, name="plot")
OTHERS = {
    "products": "ProductsCommand",
    "gains": "GainsCommand",
    "gates": "GatesCommand",
    "influence": "InfluenceCommand",
    "fixed-points": "FixedPointsCommand",
    "lyapunov": "LyapunovCommand",
    "pseudospectra": "PseudospectraCommand",
    "compare": "CompareCommand",
    "recording": "RecordingCommand",
    "run": "RunCommand",
}
for name, kind in OTHERS.items():
    COMMANDS.command(f"gersgorin.cli.subcommands:{kind}", name=name)


def run(command: Any) -> None:
    """Run a command, after its words were read."""
    resolve_name(f"gersgorin.cli.{command.work}")(command)  # loads torch


def main(args: Sequence[str] | None = None) -> int:
    """Run the command `gersgorin`; return its exit code."""
    return run_command(lambda: run_read(COMMANDS, args, run))
