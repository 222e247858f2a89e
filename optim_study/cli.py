"""`optim-study`: run the study, look at it, and join it from elsewhere."""

if __name__ == "__main__":  # first of all: Ctrl-C is a word during the imports too
    import sys

    from rhn.cli.entry import enter

    sys.exit(enter("optim_study.cli"))

import sys
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Literal

from optim_study.plot_command import Plot, print_shares
from optim_study.presets import PRESETS, RunConfig, WorkSettings
from optim_study.protocol import READINGS
from optim_study.record_command import Record
from optim_study.results import counts, csv_text, stored_rows, table
from optim_study.slurm import Resources, slurm_script
from optim_study.stored import Stored, interrupted
from rhn.cli.common import print_json, run_command
from rhn.cli.parsing import Commands, parse
from rhn.errors import InvalidInputError
from rhn.utils.options import Arg, Fields
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


@dataclass(frozen=True, kw_only=True)
class Run:
    """Run a study for each architecture and depth, or go on with one; finished trials are never run again.

    `optim-study run --preset small --help` shows that preset's values.
    """

    preset: Literal["paper", "small", "smoke"] = "paper"
    """paper: the full protocol; small: the whole study in about ten minutes with --jobs 2; smoke: a few seconds."""
    std_max: Annotated[float | None, Arg("S")] = None
    """The highest initial standard deviation, instead of the second value of --init-std."""
    dry_run: bool = False
    """Only print what would be run, and how the paper is read where it leaves a choice."""
    create: bool = False
    """Only make the studies, for workers to join."""
    json: bool = False
    """Print the trials (with --dry-run: the plan) as one JSON list."""
    settings: Annotated[dict, Fields((RunConfig,), lambda given: PRESETS[given.get("preset", "paper")]())] = field(
        default_factory=dict
    )
    """With the preset's values."""

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
            print_json([row.told() for row in results.rows])
        else:
            print_shares(results.rows, config.objective)
            for path in results.best.values():
                print(f"best model: {path}")
        print(f"trials: {results.csv}\nfigure: {results.figure}", file=sys.stderr if self.json else sys.stdout)

    def config(self) -> RunConfig:
        """The preset with what was given."""
        config = PRESETS[self.preset](**self.settings)
        if self.std_max is None:
            return config
        if "init_std" in self.settings:
            raise InvalidInputError("--std-max cannot be given with --init-std, whose second value it is")
        return replace(config, init_std=(config.init_std[0], self.std_max))


@dataclass(frozen=True, kw_only=True)
class Slurm(Resources):
    """Print a shell script that runs a study on a Slurm cluster: one job that makes it, a job array of workers, one for the results.

    examples:
      optim-study slurm --arch all --workers 8 --gpus 1 --time 12:00:00 --partition gpu --out /shared/study > study.sh
      optim-study slurm --arch rhn --preset small --workers 2 --cpus 16 --memory 16G > study.sh
      bash study.sh
    """

    preset: Literal["paper", "small", "smoke"] = "paper"
    """As of `optim-study run`."""
    settings: Annotated[dict, Fields((RunConfig,), lambda given: PRESETS[given.get("preset", "paper")]())] = field(
        default_factory=dict
    )
    """With the preset's values; --jobs and --device follow from --gpus and --cpus."""

    def run(self) -> None:
        if told := {"jobs", "device"} & self.settings.keys():
            raise InvalidInputError(f"--{min(told)} is said by --gpus and --cpus here: leave it out")
        config = PRESETS[self.preset](**self.settings)
        print(slurm_script(config, self.settings, self, preset=self.preset), end="")
        if config.storage and config.storage != without_password(config.storage):
            print("the password is not in the script, which says where to keep it", file=sys.stderr)


@dataclass(frozen=True, kw_only=True)
class Worker:
    """Join every study of a run, from another process or machine; stays until all are complete."""

    arch: tuple[str, ...] | None = None
    """Only these architectures; a cell of your own is trained only where it is named here."""
    settings: Annotated[dict, Fields((WorkSettings,), lambda given: WorkSettings())] = field(default_factory=dict)
    """--out is the folder of the run: shared between machines, or one of this machine's own."""

    def run(self) -> None:
        from optim_study import runner

        runner.join(WorkSettings(**self.settings), only=self.arch)


@dataclass(frozen=True, kw_only=True)
class Status(Stored):
    """How far each study is: its trials that are complete, worked on now, or begun and left."""

    json: bool = False
    """Print one JSON list."""

    def run(self) -> None:
        rows = [
            {"study": c.name, "arch": c.label, "depth": c.depth}
            | _worked_on(asdict(counts(c, storage)), interrupted(c, storage))
            for c, storage in self.studies()
        ]
        if self.json:
            return print_json(rows)
        states = ("running", "interrupted", "diverged")
        lines = [
            (
                r["study"],
                f"{r['complete']} of {r['trials']}",
                *(r[state] for state in states),
                _number(r["best"], ".3f"),
            )
            for r in rows
        ]
        print(table(("study", "complete", *states, "best"), lines))
        if any(r["interrupted"] for r in rows):
            print("interrupted: begun, and nobody works on them now; the command that began the run goes on")


@dataclass(frozen=True, kw_only=True)
class Best(Stored):
    """The best trial of each study, its settings, the losses of its kept weights and its checkpoint."""

    json: bool = False
    """Print one JSON list."""

    def run(self) -> None:
        from optim_study.runner import best_checkpoint

        rows = []
        for config, storage in self.studies():
            if trials := stored_rows([config], storage):
                row = min(trials, key=lambda row: (row.loss(config.objective), row.trial))
                path = best_checkpoint(self.out, config.name)
                rows.append({"study": config.name} | row.told() | {"checkpoint": str(path) if path.exists() else None})
        if self.json:
            return print_json(rows)
        columns = {
            "learning rate": ("learning_rate", ".2g"),
            "scheme": ("init_scheme", ""),
            "initial std": ("init_std", ".1g"),
            "transform bias": ("transform_bias", "g"),
            "epoch": ("best_epoch", "d"),
            "train": ("train_nll", ".3f"),
            "valid": ("valid_nll", ".3f"),
            "test": ("test_nll", ".3f"),
        }
        lines = []
        for r in rows:
            numbers = [_number(r[name], form) for name, form in columns.values()]
            lines.append([r["study"], r["trial"], *numbers, r["checkpoint"] or "missing"])
        print(table(("study", "trial", *columns, "checkpoint"), lines))


@dataclass(frozen=True, kw_only=True)
class Export(Stored):
    """Print all complete trials."""

    format: Literal["csv", "json"] = "csv"
    """csv, with a header, or json, one list."""

    def run(self) -> None:
        rows = self.rows()
        print_json([row.told() for row in rows]) if self.format == "json" else print(csv_text(rows), end="")


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


def _worked_on(counts: dict, interrupted: int) -> dict:
    """What is begun, in two: what somebody works on, and what nobody does."""
    return counts | {"running": counts["running"] - interrupted, "interrupted": interrupted}


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
