"""`rhn`: train a model of chorales or of text, evaluate it, let it compose or write."""

from typing import Any

from rhn.cli.entry import own_cell, run_command
from rhn.utils.command_line import command_line, run_read

COMMANDS = command_line(
    "rhn",
    "Train recurrent models of text and of chorales, evaluate them, and let them write and compose."
    """

examples:
  rhn data get ptb
  rhn train ptb-sota --out runs/sota
  rhn evaluate runs/sota --split test
  rhn generate runs/sota --prompt "the company"
  rhn train jsb-depth-6 --out runs/depth6
  rhn sample runs/depth6 --output chorale.mid""",
)
DATA = command_line("data", "Fetch a data set, or see what one holds.")
for path in (
    "train:Train",
    "train:Resume",
    "trained:Evaluate",
    "trained:Generate",
    "trained:Sample",
    "report:Report",
    "info:Presets",
    "info:Info",
):
    COMMANDS.command(f"rhn.cli.{path}", name=path.partition(":")[2].lower())
for name in ("Get", "Show"):
    DATA.command(f"rhn.cli.data:{name}", name=name.lower())
COMMANDS.command(DATA)


def main(args: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(lambda: run_read(COMMANDS, args, _run))


def _run(command: Any) -> None:
    # the cell of a trained network; a training guards its own
    with own_cell(getattr(command, "cell", None)):
        command.run()
