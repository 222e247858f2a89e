"""`optim-study`: run the study, look at it, and join it from elsewhere."""

import sys
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Literal

from rhn.command import print_json, run_command
from rhn.errors import InvalidInputError
from rhn.figures import SUFFIXES
from rhn.files import check_output
from rhn.options import Arg, Device, File, Folder
from rhn.parsing import Commands, parse

from .presets import PRESETS, RunConfig
from .space import Space

DESCRIPTION = """Are deep recurrences optimisable? Random settings for each architecture and depth, trained as one program.

examples:
  optim-study run --arch rhn --preset smoke --out runs/smoke
  optim-study run --arch all --preset small --jobs 2
  optim-study run --arch dt-rnn --depth 4 --trials 20 --dry-run
  optim-study status --out runs/all
  optim-study plot --csv runs/all/trials.csv --kind map --output map.png"""

Range = Annotated[tuple[float, float] | None, Arg("LOW HIGH")]
Url = Annotated[str | None, Arg("URL")]
Fuse = Annotated[Literal["auto"] | int | None, Arg("auto|K")]
Loss = Literal["train", "valid"]


@dataclass(frozen=True, kw_only=True)
class Run:
    """Run a study for each architecture and depth, or go on with one; finished trials are never run again.

    What is not given is the preset's.
    """

    arch: tuple[str, ...] = ("all",)
    """rnn, dt-rnn, dts-rnn, rhn, lstm, gru, or your own as package.module:factory; all: the paper's rhn, dt-rnn, dts-rnn."""
    depth: Annotated[tuple[int, ...] | None, Arg("L")] = None
    """Recurrence depths (the paper's are 1 2 4 6; cells that have none are run at 1)."""
    preset: Literal["paper", "small", "smoke"] = "paper"
    """paper: the full protocol; small: the whole study in about 40 minutes on two cores; smoke: a few seconds."""
    trials: int | None = None
    """Trials of each study: a total, a larger one extends a finished study."""
    epochs: int | None = None
    """At most so many epochs a trial."""
    patience: int | None = None
    """A trial stops after so many epochs without a better loss."""
    budget_scale: float | None = None
    """Factor on the paper's parameter budgets, 150,000 a layer."""
    objective: Loss | None = None
    """Whose best loss is the value of a trial, train or valid."""
    learning_rate: Range = None
    """Range of the learning rate, log-uniform (the paper's: 1e-4 1)."""
    init_std: Range = None
    """Range of the initial standard deviation, log-uniform (the paper's: 1e-8 1e-2)."""
    transform_bias: Annotated[tuple[float, ...] | None, Arg("B")] = None
    """Transform biases to choose from (the paper's: 0 -1 -2 -3)."""
    seed: int | None = None
    """Seed of settings, initial weights and the order of batches."""
    data: File = None
    """The original chorales (.json or .pickle) instead of those rebuilt from music21's scores."""
    out: Folder = None
    """Folder of the run, made where it is missing (default runs/ARCH)."""
    storage: Url = None
    """postgresql+psycopg://... for workers on many machines (default: the journal file OUT/journal.log)."""
    fuse: Fuse = None
    """Trials trained as one program; auto fits it to the device."""
    jobs: int | None = None
    """Worker processes, one thread each; 1 works in this process."""
    save_seconds: float | None = None
    """Save running trials every so many seconds."""
    device: Device = "auto"
    """Where to train."""
    dry_run: bool = False
    """Only print what would be run."""
    json: bool = False
    """Print the trials (with --dry-run: the plan) as one JSON list."""

    def run(self) -> None:
        config = self.config()
        from . import runner
        from .tables import plan_table

        if self.dry_run:
            rows = [planned.row() for planned in runner.dry_run(config)]
            print_json(rows) if self.json else print(plan_table(rows))
            return
        results = runner.run(config)
        if self.json:
            print_json([asdict(row) for row in results.rows])
        else:
            _print_reading(results.rows, config.objective)
            for path in results.best.values():
                print(f"best model: {path}")
        print(f"trials: {results.csv}\nfigure: {results.figure}", file=sys.stderr if self.json else sys.stdout)

    def config(self) -> RunConfig:
        """The preset with what was given."""
        ranges = {f.name: getattr(self, f.name) for f in fields(Space) if getattr(self, f.name) is not None}
        names = {f.name for f in fields(RunConfig)} & {f.name for f in fields(self)}
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        preset = PRESETS[self.preset]
        return preset(**given, space=replace(preset().space, **ranges))


@dataclass(frozen=True, kw_only=True)
class Worker:
    """Join every study of a run, from another process or machine; stays until all are complete."""

    out: Annotated[Path, Arg("DIR")]
    """Folder of the run; shared between machines, or one of this machine's own."""
    storage: Url = None
    """The run's database (default: the journal file OUT/journal.log)."""
    arch: tuple[str, ...] | None = None
    """Only these architectures; a cell of your own is trained only where it is named here."""
    data: File = None
    """The run's data file."""
    fuse: Fuse = None
    """Trials trained as one program; auto fits it to the device."""
    jobs: int | None = None
    """Worker processes, one thread each; 1 works in this process."""
    device: Device = "auto"
    """Where to train."""

    def run(self) -> None:
        from . import runner

        names = ("out", "storage", "data", "fuse", "jobs", "device")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        runner.join(RunConfig(**given), only=self.arch)


@dataclass(frozen=True, kw_only=True)
class _Stored:
    """What the commands that only look share."""

    out: Annotated[Path, Arg("DIR")] = Path("runs/all")
    """Folder of the run."""
    storage: Url = None
    """The run's database (default: the journal file OUT/journal.log)."""


@dataclass(frozen=True, kw_only=True)
class Status(_Stored):
    """How far each study is."""

    json: bool = False
    """Print one JSON list."""

    def run(self) -> None:
        from . import listing
        from .tables import status_table

        storage = listing.open_existing(self.storage, self.out)
        rows = [
            {"study": c.name, "arch": c.arch, "depth": c.depth} | asdict(listing.counts(c, storage))
            for c in listing.configs(storage)
        ]
        print_json(rows) if self.json else print(status_table(rows))


@dataclass(frozen=True, kw_only=True)
class Best(_Stored):
    """The best trial of each study, its settings and its checkpoint."""

    json: bool = False
    """Print one JSON list."""

    def run(self) -> None:
        from . import listing
        from .runner import best_checkpoint
        from .tables import best_table

        storage = listing.open_existing(self.storage, self.out)
        rows = []
        for config in listing.configs(storage):
            trials = listing.rows([config], storage)
            if trials:
                row = min(trials, key=lambda row: (row.loss(config.objective), row.trial))
                path = best_checkpoint(self.out, config.name)
                rows.append({"study": config.name} | asdict(row) | {"checkpoint": str(path) if path.exists() else None})
        print_json(rows) if self.json else print(best_table(rows))


@dataclass(frozen=True, kw_only=True)
class Export(_Stored):
    """Print all complete trials."""

    format: Literal["csv", "json"] = "csv"
    """csv, with a header, or json, one list."""

    def run(self) -> None:
        from .records import csv_text

        rows = _stored_rows(self)
        print_json([asdict(row) for row in rows]) if self.format == "json" else print(csv_text(rows), end="")


@dataclass(frozen=True, kw_only=True)
class Plot(_Stored):
    """Draw the swarm plot, or the map of settings, from a run or from its CSV alone."""

    csv: File = None
    """A table of trials (trials.csv, or what export printed) instead of a run's folder."""
    kind: Literal["swarm", "map"] = "swarm"
    """swarm: a column a network; map: learning rate against initial standard deviation, a panel a network."""
    loss: Loss = "train"
    """Which best loss."""
    log: bool = False
    """Log axis for the losses of the swarm plot."""
    output: Annotated[Path, Arg("FILE")] = Path("swarm.png")
    """Figure to write, .png, .svg or .pdf."""

    def run(self) -> None:
        from .plots import save_map, save_swarm
        from .records import read_csv

        check_output(self.output, SUFFIXES)
        if self.kind == "map" and self.log:
            raise InvalidInputError(
                "--log is for the swarm plot: both axes of the map and its colours are logarithmic already"
            )
        rows = _stored_rows(self) if self.csv is None else read_csv(self.csv)
        if self.kind == "swarm":
            save_swarm(rows, self.output, loss=self.loss, log=self.log)
        else:
            save_map(rows, self.output, loss=self.loss)
        _print_reading(rows, self.loss)
        print(f"figure: {self.output}")


COMMANDS = Commands(
    DESCRIPTION,
    {"run": Run, "status": Status, "plot": Plot, "best": Best, "export": Export, "worker": Worker},
)


def main(args: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(lambda: parse(COMMANDS, args, prog="optim-study").run())


def _stored_rows(options: _Stored) -> list:
    from . import listing

    storage = listing.open_existing(options.storage, options.out)
    return listing.rows(listing.configs(storage), storage)


def _print_reading(rows, loss: Loss) -> None:
    from .reading import read, summary
    from .tables import reading_table

    readings = read(rows, loss)
    print(reading_table(readings))
    print(summary(readings), end="\n\n")


if __name__ == "__main__":
    sys.exit(main())
