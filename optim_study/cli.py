"""`optim-study`: run the study, look at it, and join it from elsewhere."""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

from optim_study.presets import PRESETS, RunConfig, WorkSettings
from optim_study.protocol import READINGS
from optim_study.results import Row, counts, csv_text, read_csv, stored_rows, table
from optim_study.shares import BELOW, share_table, summary, training_shares
from rhn.command import print_json, run_command
from rhn.engine.curves import Objective
from rhn.errors import InvalidInputError
from rhn.figures import SUFFIXES, save_figure
from rhn.files import check_output
from rhn.options import Arg, Fields, File
from rhn.parsing import Commands, parse

DESCRIPTION = """Are deep recurrences optimisable? Random settings for each architecture and depth, trained as one program.

examples:
  optim-study run --arch rhn --preset smoke --out runs/smoke
  optim-study run --arch all --preset small --jobs 2
  optim-study run --arch dt-rnn --depth 4 --trials 20 --dry-run
  optim-study run --arch all --depth 4 --preset small --init-schemes gaussian scaled orthogonal identity --std-max 1
  optim-study status --out runs/all
  optim-study plot --csv runs/all/trials.csv --kind map --output map.png"""


@dataclass(frozen=True, kw_only=True)
class Run:
    """Run a study for each architecture and depth, or go on with one; finished trials are never run again.

    `optim-study run --preset small --help` shows that preset's values.
    """

    preset: Literal["paper", "small", "smoke"] = "paper"
    """paper: the full protocol; small: the whole study in about 40 minutes with --jobs 2; smoke: a few seconds."""
    std_max: Annotated[float | None, Arg("S")] = None
    """The highest initial standard deviation, instead of the second value of --init-std."""
    dry_run: bool = False
    """Only print what would be run, and how the paper is read where it leaves a choice."""
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
        results = runner.run(config)
        if self.json:
            print_json([asdict(row) for row in results.rows])
        else:
            _print_shares(results.rows, config.objective)
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
class Stored:
    """What the commands that only look share."""

    out: Annotated[Path, Arg("DIR")] = Path("runs/all")
    """Folder of the run."""
    storage: Annotated[str | None, Arg("URL")] = None
    """The run's database (default: the journal file OUT/journal.log)."""

    def rows(self) -> list[Row]:
        """All complete trials."""
        return [row for config, storage in self.studies() for row in stored_rows([config], storage)]

    def studies(self) -> list[tuple]:
        """(configuration, storage) of each study there."""
        from optim_study.shared_study import stored_configs
        from optim_study.storage import open_existing

        storage = open_existing(self.storage, self.out)
        return [(config, storage) for config in stored_configs(storage)]


@dataclass(frozen=True, kw_only=True)
class Status(Stored):
    """How far each study is."""

    json: bool = False
    """Print one JSON list."""

    def run(self) -> None:
        rows = [
            {"study": c.name, "arch": c.label, "depth": c.depth} | asdict(counts(c, storage))
            for c, storage in self.studies()
        ]
        if self.json:
            return print_json(rows)
        lines = [
            (r["study"], f"{r['complete']} of {r['trials']}", r["running"], r["diverged"], _number(r["best"], ".3f"))
            for r in rows
        ]
        print(table(("study", "complete", "running", "diverged", "best"), lines))


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
                rows.append({"study": config.name} | asdict(row) | {"checkpoint": str(path) if path.exists() else None})
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
        print_json([asdict(row) for row in rows]) if self.format == "json" else print(csv_text(rows), end="")


@dataclass(frozen=True, kw_only=True)
class Plot(Stored):
    """Draw the swarm plot, or the map of settings, from a run or from its CSV alone, and print how many trials train."""

    csv: File = None
    """A table of trials (trials.csv, or what export printed) instead of a run's folder."""
    kind: Literal["swarm", "map"] = "swarm"
    """swarm: a column a network; map: learning rate against initial standard deviation, a panel a network."""
    loss: Objective = "train"
    """Which loss, the least of all epochs: train or valid."""
    log: bool = False
    """Log axis for the losses of the swarm plot."""
    below: float = BELOW
    """A trial counts as trained below so many nats a frame."""
    constant: Annotated[float | None, Arg("NLL")] = None
    """Training loss of the best constant output, a line in the swarm plot; where not given the table says it, if it is not an old one
    (11.163 for the rebuilt chorales)."""
    output: Annotated[Path, Arg("FILE")] = Path("swarm.png")
    """Figure to write, .png, .svg or .pdf."""

    def run(self) -> None:
        from optim_study.plots import plot_map, save_swarm

        check_output(self.output, SUFFIXES)
        if self.kind == "map" and (self.log or self.constant is not None):
            raise InvalidInputError(
                "--log and --constant are for the swarm plot: the axes of the map and its colours are logarithmic already"
            )
        rows = self.rows() if self.csv is None else read_csv(self.csv)
        if self.kind == "swarm":
            save_swarm(rows, self.output, loss=self.loss, log=self.log, constant=self.constant)
        else:
            save_figure(self.output, lambda: plot_map(rows, loss=self.loss))
        _print_shares(rows, self.loss, self.below)
        print(f"figure: {self.output}")


COMMANDS = Commands(
    DESCRIPTION,
    {"run": Run, "status": Status, "plot": Plot, "best": Best, "export": Export, "worker": Worker},
)


def main(args: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(lambda: parse(COMMANDS, args, prog="optim-study").run())


def _print_shares(rows: Sequence[Row], loss: Objective, below: float = BELOW) -> None:
    found = training_shares(rows, loss, below)
    print(share_table(found, below), summary(found, below), sep="\n\n", end="\n\n")


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
