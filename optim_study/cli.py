"""`optim-study`: run a study, join one from another machine, and look at its results."""

import sys
from dataclasses import dataclass, replace
from typing import Literal

from optim_study.cli_results import Best, Export, Plot, Record, Status, print_shares
from optim_study.presets import PRESETS, RunConfig, WorkSettings
from optim_study.protocol import READINGS
from optim_study.slurm import Resources, slurm_script
from rhn.cli.entry import print_json, run_command
from rhn.errors import InvalidInputError
from rhn.utils.options import Commands, configuration, option, parse
from rhn.utils.wording import without_password

DESCRIPTION = """Are deep recurrences optimisable? Random settings for each architecture and depth, trained as one program.

examples:
  optim-study run --arch rhn --preset smoke --out runs/smoke
  optim-study run --arch all --preset small --jobs 2
  optim-study run --arch dt-rnn --depth 4 --trials 20 --dry-run
  optim-study run --arch all --depth 4 --preset small --init-schemes gaussian scaled orthogonal identity --std-max 1
  optim-study status --out runs/all
  optim-study slurm --arch all --workers 8 --gpus 1 --out /shared/study > study.sh
  optim-study plot --csv runs/all/trials.csv --kind map --output map.png"""

Preset = Literal["paper", "small", "smoke"]


@dataclass(frozen=True, kw_only=True)
class Configured:
    """The configuration of a run."""

    preset: Preset = option(
        "paper",
        "paper: the full protocol; small: the whole study in about ten minutes with --jobs 2; smoke: a few seconds.",
    )
    skip: Literal["all", "last"] = option(
        "all",
        "The shortcuts of dts-rnn: to every layer from the second, or only to the last, as --cell-option skip=last.",
    )
    settings: dict = configuration(
        (RunConfig,), lambda given: PRESETS[given.get("preset", "paper")](), "With the preset's values."
    )

    @property
    def given(self) -> dict:
        """The settings that differ from the preset."""
        options = ({} if self.skip == "all" else {"skip": self.skip}) | self.settings.get("cell_options", {})
        return self.settings | ({"cell_options": options} if options else {})


@dataclass(frozen=True, kw_only=True)
class Run(Configured):
    """Run a study for each architecture and depth, or go on with one; finished trials never run again.

    `optim-study run --preset small --help` shows that preset's values.
    """

    std_max: float | None = option(
        None, "The highest initial standard deviation, instead of the second value of --init-std.", metavar="S"
    )
    dry_run: bool = option(False, "Only print the plan, and our reading of the paper where it leaves a choice.")
    create: bool = option(False, "Only create the studies, for workers to join.")
    json: bool = option(False, "Print the trials (with --dry-run: the plan) as one JSON list.")

    def run(self) -> None:
        config = self.config()
        from optim_study import runner
        from optim_study.plan import plan_table

        if self.dry_run:
            rows = [planned.row() for planned in runner.dry_run(config)]
            print_json(rows) if self.json else print(plan_table(rows), READINGS, sep="\n\n")
            return
        if self.create:
            runner.create(config)
            return
        results = runner.run(config)
        if self.json:
            print_json([row.to_dict() for row in results.rows])
        else:
            print_shares(results.rows, config.objective)
            for path in results.best.values():
                print(f"best model: {path}")
        print(f"trials: {results.csv}\nfigure: {results.figure}", file=sys.stderr if self.json else sys.stdout)

    def config(self) -> RunConfig:
        """The preset with the given settings."""
        config = PRESETS[self.preset](**self.given)
        if self.std_max is None:
            return config
        if "init_std" in self.settings:
            raise InvalidInputError("--std-max cannot be given with --init-std, whose second value it is")
        return replace(config, init_std=(config.init_std[0], self.std_max))


@dataclass(frozen=True, kw_only=True)
class Slurm(Resources, Configured):
    """Print a shell script that runs a study on a Slurm cluster: a job that creates it, a job array of workers, a job for the results.

    --jobs and --device follow from --gpus and --cpus.

    examples:
      optim-study slurm --arch all --workers 8 --gpus 1 --time 12:00:00 --partition gpu --out /shared/study > study.sh
      optim-study slurm --arch rhn --preset small --workers 2 --cpus 16 --memory 16G > study.sh
      bash study.sh
    """

    def run(self) -> None:
        if given := {"jobs", "device"} & self.settings.keys():
            raise InvalidInputError(f"--{min(given)} follows from --gpus and --cpus here: leave it out")
        config = PRESETS[self.preset](**self.given)
        print(slurm_script(config, self.given, self, preset=self.preset), end="")
        if config.storage and config.storage != without_password(config.storage):
            print("the script is without the password; its comments show where to store it", file=sys.stderr)


@dataclass(frozen=True, kw_only=True)
class Worker:
    """Join every study of a run, from another process or machine, until all are complete."""

    arch: tuple[str, ...] | None = option(None, "Only these architectures; required for a cell of your own.")
    settings: dict = configuration(
        (WorkSettings,),
        lambda given: WorkSettings(),
        "--out is the folder of the run: shared between machines, or a separate one on each machine.",
    )

    def run(self) -> None:
        from optim_study import runner

        runner.join(WorkSettings(**self.settings), only=self.arch)


COMMANDS = Commands(
    DESCRIPTION,
    {
        "run": Run,
        "status": Status,
        "plot": Plot,
        "best": Best,
        "export": Export,
        "record": Record,
        "worker": Worker,
        "slurm": Slurm,
    },
)


def main(args: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(lambda: parse(COMMANDS, args, prog="optim-study").run())
