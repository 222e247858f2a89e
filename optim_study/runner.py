"""Run studies: plan them, drive their workers, show the progress, and write a table and a figure.

optim_study.run(optim_study.smoke(arch=("rhn",), out=Path("runs/smoke")))
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from optim_study.backend import TorchBackend, chorales_of_study
from optim_study.driver import Driver, Study
from optim_study.engines import Processes, ThisProcess
from optim_study.folder import StudyFolder
from optim_study.plan import devices, plan, plan_table
from optim_study.presets import RunConfig
from optim_study.protocol import StudyConfig
from optim_study.results import TrialRow, best_checkpoint, protocol_words, write_csv
from optim_study.storage import JOURNAL, Storage, open_existing, open_storage
from optim_study.worker import Job
from rhn.errors import InvalidInputError, RhnError
from rhn.training.interrupts import Interrupted
from rhn.training.state import LOCK, locked
from rhn.utils.figures import save_figure
from rhn.utils.io import check_output
from rhn.utils.old import check_folder
from rhn.utils.progress import Advance, progress_bars
from rhn.utils.validation import in_short

POLL_SECONDS = 3.0  # interval of reading the saved states for the progress


@dataclass(frozen=True, kw_only=True)
class Results:
    """The results of a run."""

    rows: list[TrialRow]
    """The complete trials of the run's studies."""
    csv: Path
    """The file of the table of these trials, which also has the trials of other studies in the same
    journal.
    """
    figure: Path
    """The file of the swarm plot of all trials in the table."""
    best: dict[str, Path]
    """For each study, by its name: the checkpoint of its best model."""


def run(config: RunConfig, *, quiet: bool = False) -> Results:
    """Run every study of the configuration to its end, and return the results. Existing studies
    continue, and finished ones stay unchanged.

    Plan and progress go to stderr unless `quiet`. With several jobs, `run` spawns processes, so a
    script must call it under `if __name__ == "__main__":`.

    Raises:
        InvalidInputError: an unknown architecture; an existing study with another protocol or data
            set; a table or figure in the folder that no run wrote; or too little memory.
        DataError: the chorales cannot be read, or the storage is damaged.
        OutputError: the folder, the disk or the storage cannot be written, or another run works in
            the folder.
        RhnError: the workers of a trial died three times in a row without a save.
        Interrupted: Ctrl-C; everything is saved.

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
        raise InvalidInputError(
            f"config is {in_short(config)}: expected a RunConfig, such as optim_study.smoke()"
        )
    csv, figure = _own_files(check_folder(config.folder))
    with _engine_of(config) as engine:
        planned = config.studies(chorales_of_study(config.data).checksum)
        # before anything is written, because it may refuse
        rows = plan(planned, config, engine.places)
        with locked(config.folder):
            storage = open_storage(config.storage, config.folder, config.wait_storage)
            for study in planned:
                storage.make(study)
            studies = _work(planned, rows, config, engine, storage, quiet=quiet)
            _write(storage, planned if config.storage else storage.configs(), config, csv, figure)
    _require_complete(studies)
    return Results(
        rows=[row for study in studies for _, row in sorted(study.rows.items())],
        csv=csv,
        figure=figure,
        best={study.name: best_checkpoint(config.folder, study.name) for study in planned},
    )


def dry_run(config: RunConfig) -> list[dict]:
    """Return the plan of `run` as rows, without creating anything."""
    studies = config.studies(chorales_of_study(config.data).checksum)
    with _engine_of(config) as engine:
        rows = plan(studies, config, engine.places)
    if config.storage or (config.folder / JOURNAL).is_file():
        storage = open_existing(config.storage, config.folder)
        rows = [
            row | {"complete": len(storage.rows(study))}
            for row, study in zip(rows, studies, strict=True)
        ]
    return rows


def _own_files(out: Path) -> tuple[Path, Path]:
    """Return the files of table and figure. Raises InvalidInputError if one exists in a folder
    without a run, and OutputError if one could not be written.
    """
    paths = out / "trials.csv", out / "swarm.png"
    for path in paths:
        if path.parent.is_dir():
            check_output(path)
        if path.exists() and not any((out / name).exists() for name in (JOURNAL, LOCK)):
            raise InvalidInputError(
                f"{path} was not written by a run: move it, or give another --out"
            )
    return paths


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
        _print_plan(rows, studies)
    try:
        if quiet:
            driver.run()
        else:
            with _displayed(studies) as watch:
                driver.run(watch)
    except KeyboardInterrupt:
        complete = sum(len(study.rows) for study in studies)
        trials = sum(study.config.trials for study in studies)
        raise Interrupted(
            f"stopped with {complete} of {trials} trials complete and the running ones saved "
            f"in {config.folder}; run the same command again to continue"
        ) from None
    return studies


def _print_plan(rows: Sequence[dict], studies: Sequence[Study]) -> None:
    """Print the plan, and how many trials are complete already."""
    done = [row | {"complete": len(s.rows)} for row, s in zip(rows, studies, strict=True)]
    print(plan_table(done), file=sys.stderr)
    if all(study.is_complete for study in studies):
        words = "every trial is complete: nothing to do (a larger --trials extends a study)"
        print(words, file=sys.stderr)


@contextmanager
def _displayed(studies: Sequence[Study]) -> Iterator[Callable[[], None]]:
    """Show the progress of these studies; yields the function that updates the display."""
    with progress_bars() as report:
        bars: dict[str, Advance] = {}  # by study
        looked = 0.0

        def watch() -> None:
            nonlocal looked
            if time.monotonic() - looked < POLL_SECONDS:
                return
            looked = time.monotonic()
            for study in studies:
                if study.running:
                    (done, total), name = epochs_done(study), study.config.name
                    if name not in bars:
                        bars[name] = report(name)
                    bars[name](done, total)

        yield watch


def epochs_done(study: Study) -> tuple[int, int]:
    """Return (epochs done, epochs in all) of a study, summed over its trials. For a finished trial,
    "in all" counts the epochs that it needed; for an unfinished trial, the largest number that the
    study allows.
    """
    saved = study.folder.epochs(study.left)
    done = sum(row.epochs for row in study.rows.values()) + sum(saved.values())
    return done, done + len(study.left) * study.config.epochs - sum(saved.values())


def _require_complete(studies: Sequence[Study]) -> None:
    """Raise RhnError for trials that were given up."""
    lost = [
        f"trial {n} of study {s.config.name}: {reason}"
        for s in studies
        for n, reason in s.given_up.items()
    ]
    if lost:
        raise RhnError(
            f"{'; '.join(lost[:5])}{' and others' if len(lost) > 5 else ''}; all others are "
            "complete; if memory is short, use fewer "
            "--jobs; run the same command again to try once more"
        )


def _write(
    storage: Storage, configs: Sequence[StudyConfig], config: RunConfig, csv: Path, figure: Path
) -> None:
    """Write the table and the figure of these studies."""
    from optim_study.swarm_plot import plot_swarm

    rows = [row for c in configs for row in storage.rows(c).values()]
    write_csv(rows, csv)
    if rows:
        save_figure(
            figure, lambda: plot_swarm(rows, loss=config.objective, about=protocol_words(configs))
        )
