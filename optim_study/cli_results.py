"""The commands of `optim-study` about an existing run: status, export, plot."""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from optim_study import results
from optim_study.protocol import SharedSettings, StudyConfig
from optim_study.results import (
    By,
    TrialRow,
    columns_table,
    csv_text,
    distinct_trials,
    protocol_words,
    read_csv,
)
from optim_study.shares import ALL_TRIALS, BELOW, REGIONS, share_table, training_shares
from rhn.cli.entry import print_json
from rhn.errors import InvalidInputError
from rhn.training.state import Objective
from rhn.utils.old import (
    OUTPUT_GROUP,
    Drawable,
    Drawing,
    Outputs,
    counted,
    figure_name,
    flag,
    given_flags,
    place,
    real_path,
)

STATUS = ("study", "optimizer", "trials", "complete", "running", "interrupted", "diverged", "best")


@dataclass(frozen=True, kw_only=True)
class Stored:
    """The storage of an existing run."""

    out: Path = Path("runs/all")
    """Folder of the run."""
    storage: Annotated[str | None, Parameter(metavar="URL")] = None
    """Database with the results of the run (default: the journal file OUT/journal.log)."""

    def studies(self) -> list[tuple[StudyConfig, list[TrialRow]]]:
        """Return each study with its complete trials."""
        from optim_study.storage import open_existing

        storage = open_existing(self.storage, self.out)
        return [(config, list(storage.rows(config).values())) for config in storage.configs()]

    def rows(self) -> list[TrialRow]:
        """All complete trials."""
        return [row for _, trials in self.studies() for row in trials]


@dataclass(frozen=True, kw_only=True)
class Status(Stored):
    """Show the progress of each study: the numbers of complete, running, interrupted and diverged
    trials.
    """

    json: bool = False
    """Print the rows as one JSON list instead of a table."""

    def run(self) -> None:
        rows = [self._about(config, trials) for config, trials in self.studies()]
        if self.json:
            return print_json(rows)
        print(columns_table(rows, STATUS))
        if any(row["interrupted"] for row in rows):
            print(
                "interrupted: started, but no worker trains it now; run the same command again "
                "to continue from the last save"
            )
        if unsaved := sum(row["unsaved"] for row in rows):
            print(
                f"stopped without a record: {counted(unsaved, 'interrupted trial')} had no save "
                "yet, so what was trained is lost; the same command starts them again with the "
                "same settings"
            )

    def _about(self, config: StudyConfig, trials: list[TrialRow]) -> dict:
        from optim_study.folder import StudyFolder, is_locked

        left = set(range(config.trials)).difference(row.trial for row in trials)
        folder, running = StudyFolder(self.out, config), is_locked(self.out)
        begun, saved = folder.begun(left), folder.epochs(left)
        return {
            "study": config.name,
            "arch": config.label,
            "depth": config.depth,
            "optimizer": config.optimizer,
            "trials": config.trials,
            "complete": len(trials),
            "running": len(begun) if running else 0,
            "diverged": sum(row.diverged for row in trials),
            "best": min((row.loss(config.objective) for row in trials), default=None),
            "interrupted": 0 if running else len(begun),
            "unsaved": 0 if running else len(begun - saved.keys()),
        }


@dataclass(frozen=True, kw_only=True)
class Export(Stored):
    """Print the complete trials of all studies, one row for each."""

    format: Literal["csv", "json"] = "csv"
    """Format of the output. csv: a table with a header line. json: one list."""

    def run(self) -> None:
        rows = self.rows()
        if self.format == "json":
            print_json([row.to_dict() for row in rows])
        else:
            print(csv_text(rows), end="")


@dataclass(frozen=True, kw_only=True)
class Plot(Stored, Drawing):
    """Draw the trials of one or several runs, and print how many of them train. The figure is a
    swarm plot, a map of the settings, or the region of settings with which networks train.

    examples:
      optim-study plot --out runs/small --by depth
      optim-study plot runs/* --kind map --output map.png trials.csv
      optim-study plot --csv trials.csv --kind area --json
    """

    runs: tuple[Path, ...] = field(default=(), kw_only=False)
    """Folders of the runs to draw in one figure (default: only the folder of --out)."""
    depth: tuple[int, ...] | None = None
    """Draw only the networks with these recurrence depths (default: all)."""
    csv: Path | None = None
    """Read the trials from this table (trials.csv, or the output of export), not from a folder."""
    kind: Literal["swarm", "map", "area"] = "swarm"
    """Kind of the figure. swarm: the losses of the trials, one column per network. map: learning
    rate against initial standard deviation, one panel per network, coloured by loss. area: a map
    whose filled symbols are the trials that trained. The shape of a symbol shows the initialisation
    scheme, and a box shows the range searched in the paper. For area, the command also prints how
    many trials trained in each range and scheme.
    """
    loss: Objective = "train"
    """Judge a trial by its lowest training loss (train) or validation loss (valid) of all epochs.
    """
    by: By = "arch"
    """Group the columns of the swarm plot by architecture (arch) or by depth."""
    log: bool = False
    """Draw the losses of the swarm plot on a log axis. Default: only if a loss is more than three
    times the loss of the constant predictor.
    """
    below: Drawable = BELOW
    """A trial counts as trained if its loss is below this value, in nats per frame."""
    output: Annotated[tuple[Path, ...], OUTPUT_GROUP] = ()
    """Files to write: a figure (.png, .svg, .pdf) and a table of its trials (.csv)."""
    json: bool = False
    """Print the counts of trained trials as one JSON list instead of a table."""

    def run(self) -> None:
        if self.kind != "swarm" and (given := given_flags(self, ("by", "log"))):
            raise InvalidInputError(
                f"{given[0]} is for the swarm plot: leave it out, or give --kind swarm"
            )
        if self.runs and (given := given_flags(self, ("csv", "out", "storage"))):
            raise InvalidInputError(
                f"{given[0]} names the trials as {self.runs[0]} does: leave one out"
            )
        outputs = Outputs.of(self, self._name(), (".csv",))
        rows, about = self._rows()
        rows = self._of_depth(rows)
        # first: two protocols of one network are refused before anything is written
        found = training_shares(
            rows, self.loss, self.below, REGIONS if self.kind == "area" else (ALL_TRIALS,)
        )
        outputs.write(lambda: self._draw(rows, about), lambda path: results.write_csv(rows, path))
        if self.json:
            print_json([asdict(share) | {"share": share.share} for share in found])
        else:
            constant = results.constant_of(rows, self.loss)
            table = share_table(found, self.below, loss=self.loss, constant=constant)
            print(table, end="\n\n")
        print(outputs, file=sys.stderr if self.json else sys.stdout)

    def _of_depth(self, rows: list[TrialRow]) -> list[TrialRow]:
        """Return the trials with the chosen depths. Raises InvalidInputError if all trials have
        others.
        """
        depths = sorted({row.depth for row in rows})
        if not self.depth or not rows:
            return rows
        if not set(depths) & set(self.depth):
            raise InvalidInputError(
                f"no complete trial has --depth {' '.join(map(str, self.depth))}: give one or more "
                f"of {', '.join(map(str, depths))}"
            )
        return [row for row in rows if row.depth in self.depth]

    def _rows(self) -> tuple[list[TrialRow], str]:
        """Return the trials, and their origin in words."""
        if self.csv is not None:
            return distinct_trials(read_csv(self.csv)), f"from {self.csv.name}"
        rows, configs = list[TrialRow](), list[StudyConfig]()
        for run in [replace(self, out=folder, runs=()) for folder in self.runs] or [self]:
            for config, trials in run.studies():
                rows.extend(trials)
                configs.append(config)
                if not trials:
                    print(config.name, "has no complete trial and is not drawn", file=sys.stderr)
        rows, about = distinct_trials(rows), protocol_words(configs)
        whole = sum(
            {c.fingerprint: c.trials for c in sorted(configs, key=attrgetter("trials"))}.values()
        )
        if different := _different(configs):
            print(
                unlike := f"the studies differ in {' and '.join(different)}",
                file=sys.stderr,
            )
            about = f"{about}; {unlike}"
        if len(rows) >= whole:
            return rows, about
        print(unfinished := f"{len(rows)} of {whole:,} trials so far", file=sys.stderr)
        return rows, "; ".join(filter(None, (unfinished, about)))

    def _name(self) -> Path:
        """Return the default file name, unique for each set of options."""
        source = self.csv or real_path([*self.runs, self.out][0])
        source = real_path(source).parent if source.name == "trials.csv" else source
        more = f"and-{len(self.runs) - 1}-more" if len(self.runs) > 1 else None
        values = {name: getattr(self, name) for name in ("depth", "by", "loss", "log", "below")}
        words = [
            f"{name.replace('_', '-')}-{value}"
            for name, value in values.items()
            if value != getattr(Plot, name)
        ]
        return figure_name(
            self.kind,
            source.stem if self.csv == source else source.name,
            more,
            place(source),
            *words,
        )

    def _draw(self, rows: list[TrialRow], about: str):
        from optim_study.map_plot import plot_area, plot_map
        from optim_study.swarm_plot import plot_swarm

        if self.kind == "map":
            return plot_map(rows, loss=self.loss, about=about)
        if self.kind == "area":
            return plot_area(rows, loss=self.loss, below=self.below, about=about)
        axis: dict = {"by": self.by, "log": self.log or None}
        return plot_swarm(rows, loss=self.loss, below=self.below, about=about, **axis)


def _different(configs: Sequence[StudyConfig]) -> list[str]:
    """Return the settings, as options, that differ between studies of the same optimizer; the
    number of trials does not count.
    """
    names = [f.name for f in fields(SharedSettings)[1:]]
    values = {
        name: {(config.optimizer, vars(config)[name]) for config in configs} for name in names
    }
    return [
        flag(name)
        for name, found in values.items()
        if len(found) > len({c.optimizer for c in configs})
    ]
