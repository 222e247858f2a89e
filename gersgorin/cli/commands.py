"""The command `gersgorin`: one dataclass for each subcommand. Its fields are keywords of a function
in the catalog, so a command and Python compute the same numbers. The classes of own options are
imported when they are needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any

from gersgorin.catalog import ANALYSES, Analysis
from gersgorin.cli.options import AnalysisOptions
from gersgorin.cli.outputs import CurvesOption
from rhn.cli.entry import run_command
from rhn.utils.command_line import command_line, run_read


def command_of(analysis: Analysis) -> str | type[AnalysisOptions]:
    """The class of the options of an analysis, or its place if the analysis has own options."""
    name = analysis.command.title().replace("-", "") + "Command"
    if not analysis.about:
        return f"gersgorin.cli.subcommands:{name}"
    help_text = f"{analysis.about}\n\nexamples:\n  {analysis.example}\n"
    content = {"analysis": analysis, "__doc__": help_text}
    return dataclass(frozen=True, kw_only=True)(
        type(name, (CurvesOption, AnalysisOptions), content)
    )


COMMANDS = command_line(
    "gersgorin",
    """Jacobians of recurrent networks along a sequence.

examples:
  gersgorin plot --cell rhn --depth 5
  gersgorin products --checkpoint runs/mine --json""",
)
for row in ANALYSES:
    COMMANDS.command(command_of(row), name=row.command)
COMMANDS.command("gersgorin.cli.subcommands:RunCommand", name="run")
COMMANDS.command("gersgorin.cli.subcommands:RecordingCommand", name="recording")
COMMANDS.command("gersgorin.cli.subcommands:KnownValuesCommand", name="known-values")


def run(command: Any) -> int | None:
    """Run a command, after its words were read; returns its exit code, None for 0."""
    return resolve_name(f"gersgorin.cli.{command.work}")(command)  # loads torch


def main(args: Sequence[str] | None = None) -> int:
    """Run the command `gersgorin`; return its exit code."""
    return run_command(lambda: run_read(COMMANDS, args, run))
