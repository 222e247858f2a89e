"""`rhn`: train a model of chorales or of text, evaluate it, let it compose or write."""

if __name__ == "__main__":  # first of all: Ctrl-C is a word during the imports too
    import sys

    from rhn.entry import enter

    sys.exit(enter("rhn.cli"))

import sys

from rhn.command import own_cell, run_command
from rhn.commands.data import Get, Show
from rhn.commands.evaluate import Evaluate
from rhn.commands.generate import Generate
from rhn.commands.info import Info
from rhn.commands.presets import Presets
from rhn.commands.report import Report
from rhn.commands.resume import Resume
from rhn.commands.sample import Sample
from rhn.commands.train import Train
from rhn.parsing import Commands, parse

COMMANDS = Commands(
    """Train recurrent models of text and of chorales, evaluate them, and let them write and compose.

examples:
  rhn data get ptb
  rhn train ptb-sota --out runs/sota
  rhn evaluate runs/sota --split test
  rhn generate runs/sota --prompt "the company"
  rhn train jsb-depth-6 --out runs/depth6
  rhn sample runs/depth6 --output chorale.mid""",
    {
        "train": Train,
        "resume": Resume,
        "evaluate": Evaluate,
        "generate": Generate,
        "sample": Sample,
        "report": Report,
        "presets": Presets,
        "info": Info,
        "data": Commands("Fetch a data set, or see what one holds.", {"get": Get, "show": Show}),
    },
)


def main(args: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(lambda: _run(args))


def _run(args: list[str] | None) -> None:
    command = parse(COMMANDS, args, prog="rhn")
    with own_cell(
        getattr(command, "cell", None)
    ):  # of a trained network; a training itself guards the cell of its configuration
        command.run()
