"""The command `rhn`. A command's module is imported when the command is called."""

from rhn.cli.entry import run_command
from rhn.utils.command_line import command_line, run_read

MODULES = {
    "train": ("Train", "Resume"),
    "trained": ("Evaluate", "Generate", "Sample"),
    "report": ("Report",),
    "info": ("Presets", "Info"),
    "data": ("DATA",),
}
COMMANDS = command_line("rhn", "Train recurrent models on text and chorales, and sample from them.")
for module, commands in MODULES.items():
    for command in commands:
        COMMANDS.command(f"rhn.cli.{module}:{command}", name=command.lower())


def main(args: list[str] | None = None) -> int:
    """Run the command `rhn`, and return its exit code."""
    return run_command(lambda: run_read(COMMANDS, args))
