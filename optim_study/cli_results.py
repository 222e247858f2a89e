"""The commands of `optim-study` about an existing run: status, best, export, plot, record."""

import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from optim_study.protocol import StudyConfig
from optim_study.results import (
    By,
    Row,
    best_checkpoint,
    best_row,
    columns_table,
    csv_text,
    protocol_words,
    read_csv,
)
from optim_study.shares import BELOW, REGIONS, WHOLE, Share, check_threshold, share_table, summary, training_shares
from rhn.cli.entry import print_json
from rhn.errors import InvalidInputError
from rhn.training.state import Objective
from rhn.utils.figures import SUFFIXES, figure_name, place, save_figure
from rhn.utils.io import check_output
from rhn.utils.options import Writing, given_flags, option
from rhn.utils.progress import progress_bars

RECORDING = "record.npz"
STATUS_COLUMNS = {
    "study": ("study", ""),
    "optimizer": ("optimizer", ""),
    "complete": ("done", ""),
    "running": ("running", ""),
    "interrupted": ("interrupted", ""),
    "diverged": ("diverged", ""),
    "best": ("best", ".3f"),
}
BEST_COLUMNS = {
    "study": ("study", ""),
    "trial": ("trial", ""),
    "optimizer": ("optimizer", ""),
    "learning rate": ("learning_rate", ".2g"),
    "scheme": ("init_scheme", ""),
    "initial std": ("init_std", ".1g"),
    "transform bias": ("transform_bias", "g"),
    "epoch": ("best_epoch", "d"),
    "train": ("train_nll", ".3f"),
    "valid": ("valid_nll", ".3f"),
    "test": ("test_nll", ".3f"),
    "checkpoint": ("checkpoint", ""),
}


@dataclass(frozen=True, kw_only=True)
class Stored:
    """The storage of an existing run."""

    out: Path = option(Path("runs/all"), "Folder of the run.", metavar="DIR")
    storage: str | None = option(None, "The run's database (default: the journal file OUT/journal.log).", metavar="URL")

    def studies(self) -> list[tuple[StudyConfig, list[Row]]]:
        """Each study with its complete trials."""
        from optim_study.storage import open_existing

        storage = open_existing(self.storage, self.out)
        return [(config, list(storage.rows(config).values())) for config in storage.configs()]

    def rows(self) -> list[Row]:
        """All complete trials."""
        return [row for _, trials in self.studies() for row in trials]


@dataclass(frozen=True, kw_only=True)
class Status(Stored):
    """Show the progress of each study: complete, running, interrupted and diverged trials."""

    json: bool = option(False, "Print one JSON list.")

    def run(self) -> None:
        rows = [self._about(config, trials) for config, trials in self.studies()]
        if self.json:
            return print_json(rows)
        print(columns_table([row | {"done": f"{row['complete']} of {row['trials']}"} for row in rows], STATUS_COLUMNS))
        if any(row["interrupted"] for row in rows):
            print("interrupted: begun, and without a worker now; run the command of the run again to go on")

    def _about(self, config: StudyConfig, trials: list[Row]) -> dict:
        from optim_study.folder import StudyFolder
        from rhn.training.state import is_locked

        complete = {row.trial for row in trials}
        saved = StudyFolder(self.out, config).epochs(n for n in range(config.trials) if n not in complete)
        running = is_locked(self.out)
        return {
            "study": config.name,
            "arch": config.label,
            "depth": config.depth,
            "optimizer": config.optimizer,
            "trials": config.trials,
            "complete": len(complete),
            "running": len(saved) if running else 0,
            "diverged": sum(row.diverged for row in trials),
            "best": min((row.loss(config.objective) for row in trials), default=None),
            "interrupted": 0 if running else len(saved),
        }


@dataclass(frozen=True, kw_only=True)
class Best(Stored):
    """Show the best trial of each study, its settings, the losses of its best weights and its checkpoint."""

    json: bool = option(False, "Print one JSON list.")

    def run(self) -> None:
        rows = []
        for config, trials in self.studies():
            if trials:
                path = best_checkpoint(self.out, config.name)
                values = best_row(trials, config.objective).to_dict()
                rows.append({"study": config.name} | values | {"checkpoint": str(path) if path.exists() else None})
        if self.json:
            return print_json(rows)
        shown = [row | {"checkpoint": row["checkpoint"] or "missing"} for row in rows]
        print(columns_table(shown, BEST_COLUMNS, left=("checkpoint",)))


@dataclass(frozen=True, kw_only=True)
class Export(Stored):
    """Print all complete trials."""

    format: Literal["csv", "json"] = option("csv", "csv, with a header, or json, one list.")

    def run(self) -> None:
        rows = self.rows()
        print_json([row.to_dict() for row in rows]) if self.format == "json" else print(csv_text(rows), end="")


@dataclass(frozen=True, kw_only=True)
class Plot(Stored, Writing):
    """Draw the swarm plot, the map of settings or the learnable area of one or several runs, and count the trials that train.

    examples:
      optim-study plot --out runs/small --by depth
      optim-study plot runs/* --kind map --output map.png
      optim-study plot --csv trials.csv --kind area --json
    """

    runs: tuple[Path, ...] = option((), "Folders of runs, drawn as one.", metavar="DIR", positional=True)
    csv: Path | None = option(
        None, "A table of trials (trials.csv, or the output of export) instead of a run's folder.", metavar="FILE"
    )
    kind: Literal["swarm", "map", "area"] = option(
        "swarm",
        "swarm: a column a network; map: learning rate against initial standard deviation, a "
        "panel a network, the colour the loss; area: the same, the shape the scheme, full if a "
        "trial trained, with the paper's box; it counts by box and by scheme.",
    )
    loss: Objective = option("train", "Which loss, the least of all epochs: train or valid.")
    by: By = option("arch", "Grouping of the columns of the swarm plot: arch (architecture) or depth.")
    log: bool = option(
        False, "Log axis for the losses of the swarm plot (default: if one is far above the best constant output)."
    )
    up_to: float | None = option(
        None,
        "End of the axis of the swarm plot, which counts the trials above (default: all are drawn).",
        metavar="NLL",
    )
    below: float = option(BELOW, "A trial counts as trained below so many nats a frame.")
    constant: float | None = option(
        None,
        "Loss of the best constant output, a line in the swarm plot, and one 10 % below it "
        "(default: the training loss in the trials, 11.163 for the rebuilt chorales; tables "
        "of early versions lack it, and trials have none for validation).",
        metavar="NLL",
    )
    output: Path | None = option(
        None,
        "Figure to write, .png, .svg or .pdf (default: a telling name in the current folder, such as swarm-small-by-depth.png).",
        metavar="FILE",
    )
    json: bool = option(False, "Print the counts as one JSON list.")

    def run(self) -> None:
        self._check()
        output = check_output(self.output or self._name(), SUFFIXES, force=self.force)
        rows, source = self._rows()
        self._draw(rows, source, output)
        self._print(rows)
        print(f"figure: {output}", file=sys.stderr if self.json else sys.stdout)

    def _check(self) -> None:
        if self.kind != "swarm" and (given := given_flags(self, ("by", "log", "up_to", "constant"))):
            raise InvalidInputError(f"{given[0]} is for the swarm plot: leave it out, or give --kind swarm")
        if self.runs and (given := given_flags(self, ("csv", "out", "storage"))):
            raise InvalidInputError(f"{given[0]} names the trials as {self.runs[0]} does: leave one out")
        check_threshold(self.below)

    def _rows(self) -> tuple[list[Row], str]:
        """The trials, and in words where they are from."""
        if self.csv is not None:
            return read_csv(self.csv), f"from {self.csv.name}"
        runs = [replace(self, out=folder, runs=()) for folder in self.runs] or [self]
        studies = [study for run in runs for study in run.studies()]
        return [row for _, trials in studies for row in trials], protocol_words([config for config, _ in studies])

    def _name(self) -> Path:
        """Default file name, unique for each set of options."""
        of_table = self.csv and self.csv.stem != "trials"
        folder = self.csv.parent if self.csv else [*self.runs, self.out][0]
        where = self.csv if of_table else folder.resolve()
        study = where.stem if of_table else where.name
        more = f"and-{len(self.runs) - 1}-more" if len(self.runs) > 1 else None
        values = {name: getattr(self, name) for name in ("by", "up_to", "constant", "below")}
        words = [f"{name.replace('_', '-')}-{_word(v)}" for name, v in values.items() if v != getattr(Plot, name)]
        loss = self.loss if self.loss != Plot.loss else None
        return figure_name(self.kind, study, more, place(where), *words, loss, "log" if self.log else None)

    def _draw(self, rows: list[Row], source: str, output: Path) -> None:
        from optim_study.map_plot import plot_area, plot_map
        from optim_study.swarm_plot import draw_swarm

        draw, names, log = {
            "swarm": (draw_swarm, ("by", "constant", "below", "up_to"), {"log": self.log or None}),
            "map": (plot_map, (), {}),
            "area": (plot_area, ("below",), {}),
        }[self.kind]
        options = {name: getattr(self, name) for name in ("loss", *names)} | log
        save_figure(output, lambda: draw(rows, about=source, **options))

    def _print(self, rows: list[Row]) -> None:
        found = training_shares(rows, self.loss, self.below, REGIONS if self.kind == "area" else (WHOLE,))
        if self.json:
            print_json([asdict(share) | {"share": share.share} for share in found])
        else:
            print_shares(found, self.below, words=self.kind != "area")


@dataclass(frozen=True, kw_only=True)
class Record(Stored):
    """Train the best trial of each study once more, and record its spectra, gains, gates and gradients during the training.

    examples:
      optim-study record --out runs/small --arch rhn --depth 6
      gersgorin recording runs/small/rhn-depth6
    """

    arch: tuple[str, ...] | None = option(None, "Only these architectures.")
    depth: tuple[int, ...] | None = option(None, "Only these recurrence depths.", metavar="L")
    every: int = option(
        50, "Steps of the optimizer from one measurement to the next, each at the end of its epoch.", least=1
    )
    data: Path | None = option(
        None, "The original chorales (.json or .pickle), if the study was trained on them.", metavar="FILE"
    )

    def run(self) -> None:
        best = [
            (config, best_row(rows, config.objective))
            for config, rows in self.studies()
            if rows and self._selects(config)
        ]
        if not best:
            raise InvalidInputError(
                f"{self.out} holds no complete trial of these studies: `optim-study status` shows its progress"
            )
        with progress_bars() as report:
            for config, row in best:
                path = self.out / config.name / RECORDING
                reached = record_trial(config, row, path, self.every, self.data, report(config.name))
                losses = f"best {reached:.3f} (in the study {row.loss(config.objective):.3f})"
                print(f"{config.name}: trial {row.trial}, {losses}: {path}")

    def _selects(self, config: StudyConfig) -> bool:
        return (self.arch is None or config.arch in self.arch) and (self.depth is None or config.depth in self.depth)


def record_trial(
    config: StudyConfig, row: Row, path: Path, every: int, data: Path | None, progress: Callable[[int, int], None]
) -> float:
    """Train a trial again, to the same bits, and record it; returns its best loss. Raises DataError for other data."""
    import numpy as np
    import torch

    from optim_study.backend import TorchBackend, load_corpus
    from rhn.cli.recording import ProbeRecorder, probed
    from rhn.plotting.provenance import words_of_built

    number = row.trial
    training = TorchBackend(data).start(config, {number: config.settings(number)}, {})
    corpus, study = load_corpus(data), f"trial {number} of the study of seed {config.seed}"
    probe = torch.as_tensor(np.asarray(corpus.valid[0])).float()

    def about(model) -> str:
        return "; ".join((words_of_built(model.cells[0]), study, probed(corpus)))

    recorder = ProbeRecorder(every, number, probe, path, loss=lambda model: model.nll(probe).mean(), about=about)
    with closing(recorder):
        recorder.step(training)
        while training.live():
            training.run_epoch()
            recorder.step(training)
            progress(training.epoch, row.epochs)
    curve = training.curve(number)[:, 0 if config.objective == "train" else 1]
    return float(curve[np.isfinite(curve)].min())


def print_shares(found: Sequence[Share], below: float = BELOW, *, words: bool = True) -> None:
    """Print the table of shares, and with `words` a sentence for each architecture."""
    print(share_table(found, below), *([summary(found, below)] if words else []), sep="\n\n", end="\n\n")


def _word(value) -> str:
    """A value in a file name: 12 for 12.0, and different words for different numbers."""
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)
