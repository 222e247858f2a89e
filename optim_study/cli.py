"""`optim-study`: run a study and look at its results."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from optim_study.cli_results import Export, Plot, Status
from optim_study.presets import PRESETS, RunConfig
from optim_study.protocol import READINGS
from optim_study.shares import share_table, training_shares
from rhn.cli.entry import print_json, run_command
from rhn.utils.command_line import command_line
from rhn.utils.old import Configured, print_help, run_read, settings_type

DESCRIPTION = """\
Can deep recurrences be optimised? Train random settings of each architecture and depth.

examples:
  optim-study run --arch rhn --preset smoke --out runs/smoke
  optim-study run --arch all --preset small --jobs 2
  optim-study run --arch dt-rnn --depth 4 --trials 20 --dry-run
  optim-study run --preset small --depth 4 --init-schemes gaussian orthogonal --init-std 1e-8 1
  optim-study status --out runs/all
  optim-study plot runs/all runs/small --kind map --output map.png"""


if TYPE_CHECKING:
    Settings = dict
else:
    Settings = settings_type(RunConfig)


@dataclass(frozen=True, kw_only=True)
class RunCommand(Configured):
    """Run a study for each architecture and depth, or continue studies that were stopped. A
    finished trial never runs again.

    `optim-study run --preset small --help` shows the values of the preset small.
    """

    preset: Literal["paper", "small", "smoke"] = "paper"
    """Configuration that the other options change. paper: the paper's protocol in full size. small:
    the whole study with small networks, which takes at least ten minutes with --jobs 2. smoke:
    a few seconds, to check the installation, too short to learn anything.
    """
    settings: Settings = field(default_factory=dict)
    dry_run: bool = False
    """Train nothing. Only print the plan, the protocol, and our choices on points that the paper
    leaves open.
    """
    json: bool = False
    """Print the trials (with --dry-run: the plan) as one JSON list instead of text."""

    def run(self) -> None:
        if self.help:
            print_help("optim-study run", RunCommand, self.config())
            return
        config = self.config()
        from optim_study import runner
        from optim_study.plan import plan_table, protocol_text

        if self.dry_run:
            rows = runner.dry_run(config)
            if self.json:
                print_json(rows)
            else:
                print(plan_table(rows), protocol_text(rows), READINGS, sep="\n\n")
            return
        results = runner.run(config)
        if self.json:
            print_json([row.to_dict() for row in results.rows])
        else:
            found = training_shares(results.rows, config.objective)
            print(share_table(found, loss=config.objective), end="\n\n")
            _print_best(results.best.values())
        print(
            f"trials: {results.csv}\nfigure: {results.figure}",
            file=sys.stderr if self.json else sys.stdout,
        )

    def config(self) -> RunConfig:
        """Return the preset, changed by the options that were given."""
        return PRESETS[self.preset](**self.settings)


def _print_best(paths: Iterable[Path]) -> None:
    """Print the file of each best model, or why it cannot be used."""
    from rhn.checkpoints import read
    from rhn.errors import CheckpointError

    for path in paths:
        try:
            print(f"best model: {read(path).path}")
        except CheckpointError as error:
            print(f"no best model: {error}")
            print("Finished trials do not run again: train them in another folder, --out")


COMMANDS = command_line("optim-study", DESCRIPTION)
COMMANDS.command(RunCommand, name="run")
for command in (Status, Plot, Export):
    COMMANDS.command(command, name=command.__name__.lower())


def main(args: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(lambda: run_read(COMMANDS, args))
