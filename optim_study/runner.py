"""Run studies: plan them, drive their workers, show the progress, and write tables and a figure.

optim_study.run(optim_study.smoke(arch=("rhn",), out=Path("runs/smoke")))
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from optim_study.backend import TorchBackend, chorales_of_study
from optim_study.driver import Driver, Study
from optim_study.engines import Processes, ThisProcess
from optim_study.folder import StudyFolder, rows_in
from optim_study.plan import devices, plan, plan_table
from optim_study.presets import RunConfig
from optim_study.protocol import StudyConfig
from optim_study.results import TrialRow, write_csv
from optim_study.shares import SHARE_COLUMNS, Share, training_shares
from optim_study.storage import JOURNAL, Storage, open_storage
from optim_study.worker import Job
from rhn.errors import InvalidInputError, OutputError, RhnError
from rhn.training.interrupts import Interrupted
from rhn.training.state import LOCK, locked
from rhn.utils.figures import save_figure
from rhn.utils.io import check_output, write_rows
from rhn.utils.progress import progress_bars
from rhn.utils.validation import in_short

POLL_SECONDS = 3.0  # interval of reading the saved states for the progress
OUTPUTS = ("trials.csv", "shares.csv", "swarm.png")


@dataclass(frozen=True, kw_only=True)
class Results:
    """The results of a run."""

    rows: list[TrialRow]
    """The complete trials of the run's studies."""
    csv: Path
    """The file of the table of trials, which also has those of other studies in the folder."""
    figure: Path
    """The file of the swarm plot of all trials in the table."""
    best: dict[str, Path]
    """For each study, by its name: the checkpoint of its best model."""
    trials: list[TrialRow]
    """All trials in the table."""
    shares: list[Share]
    """The counts of all trials in the table."""


def run(config: RunConfig, *, quiet: bool = False) -> Results:
    """Run every study of the configuration to its end, and return the results. Existing studies
    continue, and finished ones stay unchanged.

    Plan and progress go to stderr unless `quiet`. With several jobs, `run` spawns processes, so a
    script must call it under `if __name__ == "__main__":`.

    Raises InvalidInputError for a study that cannot run or continue, DataError for damaged data,
    OutputError if something cannot be written, RhnError if workers died three times in a row
    without a save, and Interrupted after Ctrl-C, when everything is saved.

    >>> import json, tempfile
    >>> from optim_study import smoke
    >>> splits = {name: [[[60, 64], [62, 65], [60]]] for name in ("train", "valid", "test")}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     data = Path(folder, "tiny.json")
    ...     _ = data.write_text(json.dumps(splits))
    ...     config = smoke(arch=("rnn",), data=data, out=Path(folder, "out"), trials=1, epochs=1)
    ...     len(run(config, quiet=True).rows)
    1
    """
    if not isinstance(config, RunConfig):
        raise InvalidInputError(f"config is {in_short(config)}: expected a RunConfig")
    _check_files(config.folder)
    with _engine_of(config) as engine:
        planned = config.studies(chorales_of_study(config.data).checksum)
        # before anything is written, because it may refuse
        rows = plan(planned, config, engine.places)
        with locked(config.folder):
            storage = open_storage(config.storage, config.folder, config.wait_storage)
            for study in planned:
                storage.check(study)
            for study in planned:
                storage.make(study)
            studies = _work(planned, rows, config, engine, storage, quiet=quiet)
            results = _write(studies, config)
    for study in studies:
        for number, reason in study.given_up.items():
            raise RhnError(f"trial {number} of study {study.config.name}: {reason}")
    return results


def dry_run(config: RunConfig) -> list[dict]:
    """Return the plan of `run` as rows, without creating anything."""
    studies = config.studies(chorales_of_study(config.data).checksum)
    with _engine_of(config) as engine:
        rows = plan(studies, config, engine.places)
    for row, study in zip(rows, studies, strict=True):
        row["complete"] = len(StudyFolder(config.folder, study).recorded())
    return rows


def _check_files(out: Path) -> None:
    """Raise InvalidInputError if an output is in a folder without a run, and OutputError if one
    cannot be written.
    """
    place = next(p for p in (out.absolute(), *out.absolute().parents) if p.exists())
    if not place.is_dir():
        raise OutputError(f"cannot write {out}: {place} is no folder")
    for path in (out / name for name in OUTPUTS):
        if out.is_dir():
            check_output(path)
        if path.exists() and not any((out / name).exists() for name in (JOURNAL, LOCK)):
            raise InvalidInputError(f"out is {out}: expected a folder without {path.name}")


@contextmanager
def _engine_of(config: RunConfig) -> Iterator:
    """Open the engine that runs the workers, and close it at the end."""
    if config.engine == "ray":
        from optim_study.ray_engine import ray_tasks

        with ray_tasks(config) as engine:
            yield engine
        return
    places = devices(config)
    with closing(Processes(places) if len(places) > 1 else ThisProcess(places[0])) as engine:
        yield engine


def _work(
    planned: Sequence[StudyConfig],
    rows: Sequence[dict],
    config: RunConfig,
    engine,
    storage: Storage,
    *,
    quiet: bool,
) -> list[Study]:
    """Run the studies to their ends."""
    # nodes have another current folder
    out, data = config.folder.absolute(), config.data and config.data.absolute()
    studies = [
        Study(study, StudyFolder(out, study), row["fuse"])
        for study, row in zip(planned, rows, strict=True)
    ]

    def job(study: Study, numbers: Sequence[int], place: int) -> Job:
        backend = TorchBackend(data=data, device=engine.places[place])
        return Job(study.config, tuple(numbers), out, backend, config.save_seconds)

    driver = Driver(studies, storage, engine, job)
    if not quiet:
        done = [row | {"complete": len(s.rows)} for row, s in zip(rows, studies, strict=True)]
        print(plan_table(done), file=sys.stderr)
    try:
        with nullcontext(lambda: None) if quiet else _displayed(studies) as watch:
            driver.run(watch)
    except KeyboardInterrupt:
        complete = sum(len(study.rows) for study in studies)
        trials = sum(study.config.trials for study in studies)
        raise Interrupted(
            f"stopped with {complete} of {trials} trials complete and the running ones saved "
            f"in {config.folder}; run the same command again to continue"
        ) from None
    return studies


@contextmanager
def _displayed(studies: Sequence[Study]) -> Iterator[Callable[[], None]]:
    """Show the progress of these studies; yields the function that updates the display."""
    with progress_bars() as report:
        advance, looked = report("epochs"), 0.0

        def watch() -> None:
            nonlocal looked
            if time.monotonic() - looked >= POLL_SECONDS:
                looked = time.monotonic()
                advance(*map(sum, zip(*map(epochs_done, studies), strict=True)))

        yield watch


def epochs_done(study: Study) -> tuple[int, int]:
    """Return (epochs done, epochs in all) of a study, summed over its trials. For a finished trial,
    "in all" counts the epochs that it needed; for an unfinished trial, the largest number that the
    study allows.
    """
    saved = study.folder.epochs(study.left)
    done = sum(row.epochs for row in study.rows.values()) + sum(saved.values())
    return done, done + len(study.left) * study.config.epochs - sum(saved.values())


def _write(studies: Sequence[Study], config: RunConfig) -> Results:
    """Write the tables and the figure of the trials of these studies, and of others in the folder,
    and return the results.
    """
    from optim_study.swarm_plot import plot_swarm

    own = [row for study in studies for _, row in sorted(study.rows.items())]
    others = rows_in(config.folder, [study.config.name for study in studies])
    rows = sorted([*own, *others], key=lambda row: (row.arch, row.depth, row.trial))
    csv, counts, figure = (config.folder / name for name in OUTPUTS)
    shares = training_shares(rows, config.objective) if rows else []
    write_csv(rows, csv)
    write_rows(counts, SHARE_COLUMNS, [[vars(s)[n] for n in SHARE_COLUMNS] for s in shares])
    if rows:
        source = config.folder.absolute().name
        save_figure(figure, lambda: plot_swarm(rows, loss=config.objective, source=source))
    best = {study.config.name: study.folder.best for study in studies}
    return Results(rows=own, csv=csv, figure=figure, best=best, trials=rows, shares=shares)
