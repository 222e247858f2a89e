"""Look at the results of studies: `optim-study status`, `export` and `plot`."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from optim_study.cli import print_rows
from optim_study.folder import progress_of, rows_in
from optim_study.results import TrialRow, csv_text, distinct_trials, read_csv, write_csv
from optim_study.shares import BELOW, REGIONS, share_table, training_shares
from rhn.errors import InvalidInputError
from rhn.training.state import Objective
from rhn.utils.command_line import command_class
from rhn.utils.figures import FIGURE_SUFFIXES, inches_of, save_figure
from rhn.utils.io import check_output
from rhn.utils.tables import aligned, formatted, printable


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
        from optim_study.storage import open_storage  # loads Optuna

        storage, trials = open_storage(self.storage, self.out, create=False), rows_in(self.out)
        rows = [progress_of(self.out, config, trials) for config in storage.configs()]
        cells = [[v if isinstance(v, str) else formatted(v) for v in r.values()] for r in rows]
        print_rows(rows if self.json else "\n".join(aligned([[*row] for row in rows[:1]] + cells)))


@dataclass(frozen=True, kw_only=True)
class Export:
    """Print the complete trials of all studies in the folder of a run, one row for each."""

    out: Path = Path("runs/all")
    """Folder of the run."""
    json: bool = False
    """Print the rows as one JSON list instead of CSV."""

    def run(self) -> None:
        rows = _rows_of(self.out)
        print_rows([asdict(row) for row in rows] if self.json else csv_text(rows).rstrip())


@command_class
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
    """swarm: the losses of the trials, one column per network. map: learning rate against initial
    standard deviation, one panel per network; filled symbols are trials that trained, and the table
    has the counts in the paper's range, outside it, and of each scheme too.
    """
    objective: Objective = "train"
    """Judge a trial by its lowest training loss (train) or validation loss (valid)."""
    below: float = BELOW
    """A trial counts as trained if its loss is below this value, in nats per frame."""
    output: tuple[Path, ...] = ()
    """Files to write: a figure (.png, .svg, .pdf), a table of trials (.csv). Default: KIND.png."""
    figure: str = "page"
    """Width of the figure: column, page, slide, or inches."""
    title: str | None = None
    """Title of the figure."""
    json: bool = False
    """Print the counts of trained trials as one JSON list instead of a table."""

    def run(self) -> None:
        from optim_study.figures import plot_map, plot_swarm  # loads matplotlib

        kinds: dict = {"swarm": (plot_swarm, REGIONS[:1]), "map": (plot_map, REGIONS)}
        draw, regions = kinds[self.kind]
        outputs = self.output or (Path(f"{self.kind}.png"),)
        inches_of(self.figure)
        for path in outputs:
            check_output(path, (*FIGURE_SUFFIXES, ".csv"))
        every = [row for run in self.runs for row in _rows_of(run)]
        rows = distinct_trials(r for r in every if self.depth is None or r.depth in self.depth)
        found = training_shares(rows, self.objective, self.below, regions)
        source = printable(", ".join(run.name for run in self.runs))
        how: dict = {"size": self.figure, "title": self.title, "source": source}
        how |= {"loss": self.objective, "below": self.below}
        for path in outputs:
            if path.suffix.lower() == ".csv":
                write_csv(rows, path)
            else:
                save_figure(path, lambda: draw(rows, **how), self.figure)
        table = share_table(found, rows, self.objective, self.below)
        print_rows([asdict(share) for share in found] if self.json else table, outputs)


def _rows_of(run: Path) -> list[TrialRow]:
    """Return the trials of a table, or of the folder of a run."""
    if not run.is_dir():
        return read_csv(run)
    if not (rows := rows_in(run)):
        raise InvalidInputError(f"run is {run}: expected a folder with complete trials")
    return rows
