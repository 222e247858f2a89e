"""`optim-study`, whose other commands are in `optim_study.looks`: run a study."""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from optim_study.config import PRESETS, RunConfig, SharedSettings
from optim_study.shares import BELOW, share_table
from rhn.cli.entry import print_json, run_command
from rhn.errors import InvalidInputError, first_line
from rhn.utils.command_line import command_line, field_options, read_fields, run_read
from rhn.utils.resources import resolve_device

DESCRIPTION = """\
Can deep recurrences be optimised? Train random settings of each architecture and depth.

examples:
  optim-study run --arch rhn --preset smoke --out runs/smoke
  optim-study run --arch dt-rnn --depth 4 --trials 20 --dry-run
  optim-study run --preset small --depth 4 --init-std 1e-8 1 --set init_schemes='["orthogonal"]'
  optim-study status --out runs/all
  optim-study plot runs/all runs/small --kind map --output map.png"""


OWN_OPTIONS = (
    "arch", "depth", "cell_options", "trials", "epochs", "patience", "objective", "optimizer",
    "learning_rate", "init_std", "transform_bias", "seed", "data", "out", "storage", "fuse", "jobs",
    "engine", "device",
)  # fmt: skip
"""The fields of configurations that are options of their own; --set gives the others."""
Fields: Any = dict if TYPE_CHECKING else field_options(OWN_OPTIONS, SharedSettings, RunConfig)


@dataclass(frozen=True, kw_only=True)
class RunCommand:
    """Run a study for each architecture and depth, or continue studies that were stopped. The
    defaults are the paper's study.
    """

    preset: Literal["paper", "small", "smoke"] = "paper"
    """Configuration that the other options change: the paper's protocol in full size; small
    networks, at least ten minutes with --jobs 2; or seconds, too short to learn anything.
    """
    settings: Fields = field(default_factory=dict)
    dry_run: bool = False
    """Train nothing. Only print the plan, the settings, and on a CPU the estimates."""
    json: bool = False
    """Print the trials (with --dry-run: the plan) as one JSON list instead of text."""

    def run(self) -> None:
        changes = read_fields(self.settings)
        try:
            presets = {name: preset(**changes) for name, preset in PRESETS.items()}
        except TypeError as error:  # an unknown field
            raise InvalidInputError(first_line(error).replace(".__init__()", "")) from error
        config = presets[self.preset]
        from optim_study import runner

        if self.dry_run:
            plan = runner.dry_run(config)
            if self.json:
                print_json(plan)
                return
            print(runner.plan_table(plan), runner.settings_table(plan), sep="\n\n")
            print_estimates(config, presets, sys.stdout)
            return
        results = runner.run(config, announce=partial(print_estimates, config, presets, sys.stderr))
        table = share_table(results.shares, results.trials, config.objective, BELOW)
        rows = [asdict(row) for row in results.rows]
        print_rows(rows if self.json else table, (config.folder / name for name in runner.OUTPUTS))


def print_estimates(config: RunConfig, presets: Mapping[str, RunConfig], file: Any) -> None:
    """Print the table of estimates; none on a GPU, and with Ray, whose nodes are not known."""
    from optim_study.backend import chorales_of_study
    from optim_study.estimates import estimate_table, estimates

    if config.engine == "ray" or resolve_device(config.device) != "cpu":
        return
    found = estimates(presets, chorales_of_study(config.data))
    print("", estimate_table(found), sep="\n", file=file, flush=True)


def print_rows(shown: str | list[dict], files: Iterable[Path] = ()) -> None:
    """Print a table, or rows as JSON, and the names of the files that were written."""
    if isinstance(shown, str):
        print(shown)
    else:
        print_json(shown)
    for path in files:
        print(f"file: {path}", file=sys.stdout if isinstance(shown, str) else sys.stderr)


COMMANDS = command_line("optim-study", DESCRIPTION)
COMMANDS.command(RunCommand, name="run")
for command in ("Status", "Plot", "Export"):
    COMMANDS.command(f"optim_study.looks:{command}", name=command.lower())


def main(args: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(lambda: run_read(COMMANDS, args))
