"""The command `rhn`."""

from rhn.cli.data import Get, Show
from rhn.cli.entry import run_command
from rhn.cli.info import Info, Presets
from rhn.cli.report import Report
from rhn.cli.train import Resume, Train
from rhn.cli.trained import Evaluate, Generate, Sample
from rhn.utils.command_line import command_line, run_read

COMMANDS = command_line("rhn", "Train recurrent models on text and chorales, and sample from them.")
DATA = command_line("data", "Download a data set, or show its content.")
for command in (Train, Resume, Evaluate, Generate, Sample, Report, Presets, Info):
    COMMANDS.command(command, name=command.__name__.lower())
DATA.command(Get, name="get")
DATA.command(Show, name="show")
COMMANDS.command(DATA)


def main(args: list[str] | None = None) -> int:
    """Run the command `rhn`, and return its exit code."""
    return run_command(lambda: run_read(COMMANDS, args))
