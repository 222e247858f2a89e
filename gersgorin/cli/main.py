"""The command `gersgorin`, with one subcommand for each question. `gersgorin-plot` is the
subcommand `plot`.
"""

import importlib
import sys

from gersgorin.analyses import ANALYSES
from rhn.cli.entry import run_command
from rhn.errors import InvalidInputError
from rhn.utils.old import nearest
from rhn.version import __version__

COMMANDS = {  # name: (module with main(args, prog), one line)
    "compare": (
        "gersgorin.cli.compare",
        "Compare cells, depths, initialisations, seeds or checkpoints",
    ),
    "run": (
        "gersgorin.cli.saved_run",
        "Write inputs, states, weights and Jacobians along a sequence for NumPy",
    ),
    "recording": ("gersgorin.cli.recorded", "Draw what a Recorder measured during a training run"),
}
EVERY_DAY = ("plot", "compare", "influence", "fixed-points")
SYNONYMS = {
    "analyze": "plot",
    "analyse": "plot",
    "check": "trainability check",
    "cure": "trainability cure",
    "train": "rhn train",
}


def main(args: list[str] | None = None) -> int:
    """Run the subcommand in the arguments; returns its exit code."""
    words = list(map(str, sys.argv[1:] if args is None else args))
    name, rest = (words[0], words[1:]) if words else (None, [])
    if name in COMMANDS:
        return importlib.import_module(COMMANDS[name][0]).main(rest, prog=f"gersgorin {name}")
    row = next((row for row in ANALYSES.values() if row.command == name), None)
    if row is not None:
        from gersgorin.cli.analysis import main_of

        return run_command(lambda: main_of(row, rest, f"gersgorin {name}"))
    return run_command(lambda: _help(name))


def _help(name: str | None) -> None:
    """Print the list of subcommands, or raise InvalidInputError for an unknown one."""
    lines = {command: about for command, (_, about) in COMMANDS.items()}
    lines |= {row.command: row.about for row in ANALYSES.values()}
    if name == "--version":
        print(f"gersgorin {__version__}")
    elif name in ("-h", "--help"):
        _print_commands(lines)
    else:
        raise _no_command(name, lines)


def _print_commands(lines: dict[str, str]) -> None:
    """Print the usage, and all commands with their descriptions; the main commands come first."""
    about = "Spectra, products and gradients of recurrent networks."
    print(f"usage: gersgorin COMMAND [options]\n\n{about}\n")
    further = [command for command in lines if command not in EVERY_DAY]
    for title, chosen in (("Main:", EVERY_DAY), ("Further:", further)):
        print(title, *(f"  {command:<15} {lines[command]}" for command in chosen), sep="\n")
    print("\n`gersgorin COMMAND --help` shows the options and examples of a command.")


def _no_command(name: str | None, lines: dict[str, str]) -> InvalidInputError:
    """The error for an unknown command, with the most similar command, or with all of them."""
    said = "a command is missing" if name is None else f"{name!r} is not a command"
    near = [SYNONYMS[name]] if name in SYNONYMS else nearest(name or "", lines)
    hint = f"; did you mean {near[0]}?" if near else f", expected one of {', '.join(lines)}"
    return InvalidInputError(f"{said}{hint} (see gersgorin --help)")
