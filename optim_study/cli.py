"""`optim-study`: run a study and look at its results."""

import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict, get_type_hints

from cyclopts import Parameter
from docstring_parser import parse_from_object

from optim_study.presets import PRESETS, RunConfig
from optim_study.protocol import SharedSettings, StudyConfig
from optim_study.results import TrialRow, csv_text, distinct_trials, read_csv, write_csv
from optim_study.shares import ALL_TRIALS, BELOW, REGIONS, share_table, training_shares
from rhn.cli.entry import print_json, run_command
from rhn.errors import InvalidInputError
from rhn.training.state import Objective
from rhn.utils.command_line import command_line, run_read
from rhn.utils.figures import FIGURE_SUFFIXES, save_figure
from rhn.utils.io import check_output
from rhn.utils.tables import aligned, formatted, printable

DESCRIPTION = """\
Can deep recurrences be optimised? Train random settings of each architecture and depth.

examples:
  optim-study run --arch rhn --preset smoke --out runs/smoke
  optim-study run --arch dt-rnn --depth 4 --trials 20 --dry-run
  optim-study run --preset small --depth 4 --init-schemes gaussian orthogonal --init-std 1e-8 1
  optim-study status --out runs/all
  optim-study plot runs/all runs/small --kind map --output map.png"""
STATUS = ("study", "optimizer", "trials", "complete", "running", "interrupted", "diverged", "best")


def _fields() -> Any:
    """Return the type of a dictionary of the fields of `RunConfig`, with their docstrings."""
    hints = get_type_hints(RunConfig, include_extras=True)
    for kind in (SharedSettings, RunConfig):
        for p in parse_from_object(kind).params:
            hints[p.arg_name] = Annotated[hints[p.arg_name], Parameter(help=p.description)]
    option = Parameter(name="--cell-option", metavar="NAME=VALUE", consume_multiple=False)
    about = hints["cell_options"].__metadata__
    hints["cell_options"] = Annotated[(tuple[str, ...], option, *about)]
    return Annotated[TypedDict("Fields", hints, total=False), Parameter(name="*")]  # type: ignore[operator]


Fields: Any = dict if TYPE_CHECKING else _fields()


@dataclass(frozen=True, kw_only=True)
class RunCommand:
    """Run a study for each architecture and depth, or continue studies that were stopped. A
    finished trial never runs again. The defaults are the paper's study.
    """

    preset: Literal["paper", "small", "smoke"] = "paper"
    """Configuration that the other options change. paper: the paper's protocol in full size. small:
    the whole study with small networks, which takes at least ten minutes with --jobs 2. smoke:
    a few seconds, to check the installation, too short to learn anything.
    """
    settings: Fields = field(default_factory=dict)
    dry_run: bool = False
    """Train nothing. Only print the plan and the settings."""
    json: bool = False
    """Print the trials (with --dry-run: the plan) as one JSON list instead of text."""

    def config(self) -> RunConfig:
        """Return the preset, changed by the options that were given."""
        changes = dict(self.settings)
        if words := changes.get("cell_options"):
            pairs = [word.partition("=") for word in words]
            changes["cell_options"] = {name.replace("-", "_"): value for name, _, value in pairs}
        return PRESETS[self.preset](**changes)

    def run(self) -> None:
        config = self.config()
        from optim_study import runner
        from optim_study.plan import plan_table, settings_table

        if self.dry_run:
            rows = runner.dry_run(config)
            if self.json:
                print_json(rows)
            else:
                print(plan_table(rows), settings_table(rows), sep="\n\n")
            return
        results = runner.run(config)
        if self.json:
            print_json([asdict(row) for row in results.rows])
        else:
            print(share_table(results.shares, results.trials, config.objective, BELOW))
        stream = sys.stderr if self.json else sys.stdout
        print(*(f"file: {config.folder / name}" for name in runner.OUTPUTS), sep="\n", file=stream)


@dataclass(frozen=True, kw_only=True)
class Status:
    """Show the progress of each study. Interrupted trials have a saved state, from which the same
    command continues.
    """

    out: Path = Path("runs/all")
    """Folder of the run."""
    storage: Annotated[str, Parameter(metavar="URL")] | None = None
    """Database of the run (default: the journal in its folder)."""
    json: bool = False
    """Print the rows as one JSON list instead of a table."""

    def run(self) -> None:
        from optim_study.folder import rows_in
        from optim_study.storage import open_existing

        configs = open_existing(self.storage, self.out).configs()
        trials = rows_in(self.out)
        rows = [
            self._about(config, [row for row in trials if row.fingerprint == config.fingerprint])
            for config in configs
        ]
        if self.json:
            print_json(rows)
            return
        lines = [[_cell(row[name]) for name in (*STATUS, "checkpoint")] for row in rows]
        print(*aligned([(*STATUS, "checkpoint"), *lines]), sep="\n")

    def _about(self, config: StudyConfig, trials: list[TrialRow]) -> dict:
        from optim_study.folder import StudyFolder, is_locked

        folder, running = StudyFolder(self.out, config), is_locked(self.out)
        left = set(range(config.trials)).difference(row.trial for row in trials)
        saved = len(folder.epochs(left))
        return {
            "study": config.name,
            "arch": config.label,
            "depth": config.depth,
            "optimizer": config.optimizer,
            "trials": config.trials,
            "complete": len(trials),
            "running": saved if running else 0,
            "interrupted": 0 if running else saved,
            "diverged": sum(row.diverged for row in trials),
            "best": min((row.loss(config.objective) for row in trials), default=None),
            "checkpoint": str(folder.best) if folder.best.exists() else None,
        }


@dataclass(frozen=True, kw_only=True)
class Export:
    """Print the complete trials of all studies in the folder of a run, one row for each."""

    out: Path = Path("runs/all")
    """Folder of the run."""
    format: Literal["csv", "json"] = "csv"
    """Format of the output. csv: a table with a header line. json: one list."""

    def run(self) -> None:
        rows = _rows_of(self.out)
        if self.format == "json":
            print_json([asdict(row) for row in rows])
        else:
            print(csv_text(rows), end="")


@dataclass(frozen=True, kw_only=True)
class Plot:
    """Draw the trials of one or several runs, and print how many of them train.

    examples:
      optim-study plot runs/small
      optim-study plot runs/* --kind map --output map.png trials.csv
      optim-study plot trials.csv --depth 4 6 --json
    """

    runs: tuple[Path, ...] = field(default=(Path("runs/all"),), kw_only=False)
    """Folders of runs, or tables of trials (.csv), to draw in one figure."""
    depth: tuple[int, ...] | None = None
    """Draw only the networks with these recurrence depths (default: all)."""
    kind: Literal["swarm", "map"] = "swarm"
    """Kind of the figure. swarm: the losses of the trials, one column per network. map: learning
    rate against initial standard deviation, one panel per network. Its filled symbols are the
    trials that trained, their shapes are the initialisation schemes, and a box is the range
    searched in the paper. With map, the table has the counts in each range and scheme too.
    """
    loss: Objective = "train"
    """Judge a trial by its lowest training loss (train) or validation loss (valid) of all epochs.
    """
    below: float = BELOW
    """A trial counts as trained if its loss is below this value, in nats per frame."""
    output: tuple[Path, ...] = ()
    """Files to write: a figure (.png, .svg, .pdf) and a table of its trials (.csv). Default: the
    figure swarm.png or map.png.
    """
    figure: str = "page"
    """Width of the figure: column, page, slide, or inches."""
    title: str | None = None
    """Title of the figure."""
    json: bool = False
    """Print the counts of trained trials as one JSON list instead of a table."""

    def run(self) -> None:
        from optim_study.map_plot import plot_map
        from optim_study.swarm_plot import plot_swarm

        outputs = self.output or (Path(f"{self.kind}.png"),)
        for path in outputs:
            check_output(path, (*FIGURE_SUFFIXES, ".csv"))
        every = [row for run in self.runs for row in _rows_of(run)]
        rows = distinct_trials(r for r in every if self.depth is None or r.depth in self.depth)
        regions = REGIONS if self.kind == "map" else (ALL_TRIALS,)
        found = training_shares(rows, self.loss, self.below, regions)
        draw = plot_map if self.kind == "map" else plot_swarm
        source = printable(", ".join(run.name for run in self.runs))
        how: dict = {"loss": self.loss, "below": self.below, "size": self.figure}
        how |= {"title": self.title, "source": source}
        for path in outputs:
            if path.suffix.lower() == ".csv":
                write_csv(rows, path)
            else:
                save_figure(path, lambda: draw(rows, **how), self.figure)
        if self.json:
            print_json([asdict(share) for share in found])
        else:
            print(share_table(found, rows, self.loss, self.below))
        stream = sys.stderr if self.json else sys.stdout
        print(*(f"file: {path}" for path in outputs), sep="\n", file=stream)


def _rows_of(run: Path) -> list[TrialRow]:
    """Return the trials of a table, or of the folder of a run."""
    from optim_study.folder import rows_in

    if not run.is_dir():
        return read_csv(run)
    if not (rows := rows_in(run)):
        raise InvalidInputError(f"runs is {run}: expected the folder of a run with complete trials")
    return rows


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else formatted(value)


COMMANDS = command_line("optim-study", DESCRIPTION)
COMMANDS.command(RunCommand, name="run")
for command in (Status, Plot, Export):
    COMMANDS.command(command, name=command.__name__.lower())


def main(args: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(lambda: run_read(COMMANDS, args))
