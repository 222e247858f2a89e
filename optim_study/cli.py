"""`optim-study`: run a study, show its progress, and draw or print its trials."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from optim_study.config import COMMAND_OPTIONS, PRESETS, RunConfig, SharedSettings
from optim_study.folder import progress_of, rows_in, the_only_run
from optim_study.results import TrialRow, csv_text, distinct_trials, read_csv, write_csv
from optim_study.shares import (
    BELOW,
    REGIONS,
    share_block,
    short_table,
    training_shares,
    whole_table,
    write_shares,
)
from rhn.cli.entry import print_json, run_command
from rhn.errors import InvalidInputError
from rhn.training.state import Objective
from rhn.utils.command_line import command_class, command_line, field_options, read_fields, run_read
from rhn.utils.figures import FIGURE_SUFFIXES, inches_of, save_figure
from rhn.utils.io import check_output
from rhn.utils.old_names import INSTEAD, sentence
from rhn.utils.resources import resolve_device
from rhn.utils.tables import Block, aligned, formatted, printable
from rhn.utils.validation import check_fields

DESCRIPTION = """\
Can deep recurrences be optimised? Train random settings of each architecture and depth.

examples:
  optim-study run --arch rhn --preset smoke --out runs/smoke
  optim-study run --arch dt-rnn --depth 4 --trials 20 --dry-run
  optim-study run --preset small --depth 4 --init-std 1e-8 1 --set init_schemes='["orthogonal"]'
  optim-study status runs/all
  optim-study plot runs/all runs/small --kind map --output map.png"""


HOME = Path("runs")  # of runs, by default
Fields: Any = dict if TYPE_CHECKING else field_options(COMMAND_OPTIONS, SharedSettings, RunConfig)


@dataclass(frozen=True, kw_only=True)
class RunCommand:
    """Run a study for each architecture and depth, or continue studies that were stopped. The
    defaults are the paper's study.
    """

    preset: Literal["paper", "small", "smoke"] = "paper"
    """Configuration that the other options change: the paper's protocol in full size; small
    networks; or a few epochs of four trials, to check the installation.
    """
    settings: Fields = field(default_factory=dict)
    dry_run: bool = False
    """Train nothing. Only print the plan, the settings, and for a CPU of this machine the
    estimates.
    """
    whole: bool = False
    """Print all rows of the table."""
    json: bool = False
    """Print the trials (with --dry-run: the plan) as one JSON list instead of text."""

    def run(self) -> None:
        changes = read_fields(self.settings)
        check_fields(RunConfig, changes)
        presets = {name: preset(**changes) for name, preset in PRESETS.items()}
        config = presets[self.preset]
        from optim_study import runner
        from optim_study.plan import plan_table, settings_table

        if self.dry_run:
            plans = runner.dry_run(config)
            if self.json:
                print_json([planned.row() for planned in plans])
                return
            print(plan_table(plans), settings_table(plans[0].study), sep="\n\n")
            print_estimates(config, presets, sys.stdout)
            return
        results = runner.run(config, announce=partial(print_estimates, config, presets, sys.stderr))
        files = [config.folder / name for name in runner.OUTPUTS]
        block = share_block(results.shares, results.trials, config.objective, BELOW)
        if self.json:
            print_rows([asdict(row) for row in results.rows], files)
        else:
            print_rows(table_of(block, self), files)


def table_of(block: Block, command: "RunCommand | Plot") -> str:
    """Return the whole table, or the part of it that is printed."""
    return whole_table(block) if command.whole else short_table(block)


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


@dataclass(frozen=True, kw_only=True)
class StudyFolders:
    """The options of a command that reads folders of runs."""

    runs: tuple[Path, ...] = field(default=(), kw_only=False)
    """Folders of runs (default: the only one in runs/)."""
    out: Annotated[Path | None, Parameter(show=False)] = None
    """Folder of a run, as 0.7.0 read it."""

    def folders(self) -> tuple[Path, ...]:
        """Return the folders to read. Raises InvalidInputError if none is named, and runs/ has not
        exactly one.
        """
        return or_only_run(self.runs) if self.out is None else (*self.runs, self.out)

    def warn_of_out(self, command: str) -> None:
        """Warn of the option of 0.7.0 if it was given; a refusal is one line, so at the end."""
        if self.out is not None:
            option = f"{command} --out"
            print(f"warning: {sentence(option, INSTEAD[option])}", file=sys.stderr)


@command_class
class Status(StudyFolders):
    """Show the progress of each study. Interrupted trials have a saved state, from which the same
    `optim-study run` continues.

    examples:
      optim-study status runs/all
    """

    storage: Annotated[str, Parameter(metavar="URL")] | None = None
    """Database of the run (default: the journal in its folder)."""
    json: bool = False
    """Print the rows as one JSON list instead of a table."""

    def run(self) -> None:
        from optim_study.storage import open_storage  # loads Optuna

        rows = []
        for out in self.folders():
            storage, trials = open_storage(self.storage, out, create=False), rows_in(out)
            for config in storage.configs():
                rows.append({"folder": str(out)} | progress_of(out, config, trials))
        print_rows(rows if self.json else "\n".join(aligned(_lines(rows))))
        self.warn_of_out("optim-study status")


@command_class
class Export(StudyFolders):
    """Print the complete trials of all studies in the folders of runs, one row for each.

    examples:
      optim-study export runs/small > trials.csv
    """

    json: bool = False
    """Print the rows as one JSON list instead of CSV."""

    def run(self) -> None:
        rows = [row for run in self.folders() for row in _rows_of(run)]
        print_rows([asdict(row) for row in rows] if self.json else csv_text(rows).rstrip())
        self.warn_of_out("optim-study export")


@command_class
class Plot:
    """Draw the trials of one or several runs, and print how many of them train.

    examples:
      optim-study plot runs/small
      optim-study plot runs/* --kind map --output map.png trials.csv
      optim-study plot trials.csv --depth 4 6 --json
    """

    runs: tuple[Path, ...] = field(default=(), kw_only=False)
    """Folders of runs, or tables of trials (.csv), to draw in one figure (default: the only run in
    runs/).
    """
    depth: tuple[int, ...] | None = None
    """Draw only the networks with these recurrence depths (default: all)."""
    kind: Literal["swarm", "map"] = "swarm"
    """swarm: the losses of the trials, one column per network. map: learning rate against initial
    standard deviation, one panel per network; filled symbols are trials that trained. The table
    then also counts the trials in the paper's range, outside it, and of each scheme.
    """
    objective: Objective = "train"
    """Judge a trial by its lowest training loss (train) or validation loss (valid)."""
    below: float = BELOW
    """A trial counts as trained if its loss is below this value, in nats per frame."""
    output: tuple[Path, ...] = ()
    """Files to write: a figure (.png, .svg, .pdf), a table of trials (.csv). Default: KIND.png."""
    csv: Path | None = None
    """File for the whole table (.csv)."""
    figure: str = "page"
    """Width of the figure: column, page, slide, or inches."""
    title: str | None = None
    """Title of the figure."""
    whole: bool = False
    """Print all rows of the table."""
    json: bool = False
    """Print the counts of trained trials as one JSON list instead of a table."""

    def run(self) -> None:
        from optim_study.figures import plot_map, plot_swarm  # loads matplotlib

        kinds: dict = {"swarm": (plot_swarm, REGIONS[:1]), "map": (plot_map, REGIONS)}
        draw, regions = kinds[self.kind]
        outputs = self.output or (Path(f"{self.kind}.png"),)
        inches_of(self.figure)
        _check_files(outputs, self.csv)
        runs = or_only_run(self.runs)
        every = [row for run in runs for row in _rows_of(run)]
        rows = distinct_trials(r for r in every if self.depth is None or r.depth in self.depth)
        found = training_shares(rows, self.objective, self.below, regions)
        source = printable(", ".join(run.name for run in runs))
        how: dict = {"size": self.figure, "title": self.title, "source": source}
        how |= {"loss": self.objective, "below": self.below}
        for path in outputs:
            self._write(path, rows, partial(draw, rows, **how))
        if self.csv:
            write_shares(found, self.csv)
        files = filter(None, (self.csv, *outputs))
        block = share_block(found, rows, self.objective, self.below)
        if self.json:
            print_rows([asdict(share) for share in found], files)
        else:
            print_rows(table_of(block, self), files)

    def _write(self, path: Path, rows: Sequence[TrialRow], draw: Callable[[], Any]) -> None:
        """Write a figure, or a table of trials."""
        if path.suffix.lower() == ".csv":
            write_csv(rows, path)
        else:
            save_figure(path, draw, self.figure)


def _check_files(outputs: Iterable[Path], table: Path | None) -> None:
    """Raise OutputError unless figures or trials, and the table, can be written to these files."""
    for path in outputs:
        check_output(path, (*FIGURE_SUFFIXES, ".csv"))
    if table:
        check_output(table, (".csv",))


def or_only_run(runs: tuple[Path, ...]) -> tuple[Path, ...]:
    """Return the runs that are named, else the only one in runs/. Raises InvalidInputError."""
    return runs or (the_only_run(HOME),)


def _lines(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return the cells of a table with these rows, and above them the names of its columns."""
    lines = [[*row] for row in rows[:1]]
    for row in rows:
        lines.append([v if isinstance(v, str) else formatted(v) for v in row.values()])
    return lines


def _rows_of(run: Path) -> list[TrialRow]:
    """Return the trials of a table, or of the folder of a run."""
    if not run.is_dir():
        return read_csv(run)
    if not (rows := rows_in(run)):
        raise InvalidInputError(f"run is {run}: expected a folder with complete trials")
    return rows


COMMANDS = command_line("optim-study", DESCRIPTION)
COMMANDS.command(RunCommand, name="run")
COMMANDS.command(Status, name="status")
COMMANDS.command(Plot, name="plot")
COMMANDS.command(Export, name="export")


def main(args: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(lambda: run_read(COMMANDS, args))
