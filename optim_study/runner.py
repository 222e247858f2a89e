"""Run studies: plan, workers, progress, and the table, figure and models at the end.

optim_study.run(optim_study.smoke(arch=("rhn",), out=Path("runs/smoke")))
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from optim_study.backend import TorchBackend, load_corpus
from optim_study.plan import Planned, devices, plan, plan_table
from optim_study.pool import Engine, Job, Processes, work_in, work_through
from optim_study.presets import RunConfig, WorkSettings
from optim_study.progress import Progress, displayed
from optim_study.protocol import StudyConfig
from optim_study.results import HEADERS, Counts, Row, best_checkpoint, counts, stored_rows, write_csv
from optim_study.storage import Storage, open_existing, open_storage
from optim_study.study import open_study, stored_configs
from optim_study.worker import WorkOptions
from rhn.errors import DataError, InvalidInputError
from rhn.utils.file_marks import made_by_us
from rhn.utils.interrupts import Interrupted
from rhn.utils.progress import terminal_columns


@dataclass(frozen=True, kw_only=True)
class Results:
    """The results of a run."""

    rows: list[Row]
    """The complete trials of the run's studies."""
    csv: Path
    """The table of these and of other studies in the same journal."""
    figure: Path
    """The swarm plot of that table."""
    best: dict[str, Path]
    """Study -> checkpoint of its best model."""


def run(config: RunConfig, *, quiet: bool = False) -> Results:
    """Run every study of the configuration to its end, after what exists of it; finished studies stay unchanged.

    Plan and progress go to stderr unless `quiet`. A script with several jobs must call it under `if __name__ == "__main__":`, because
    it spawns processes.

    Raises:
        InvalidInputError: an unknown architecture, an existing study with another protocol or data set, a foreign folder, too little
            memory.
        DataError: the chorales cannot be read, the storage is damaged, or another program has ended a trial.
        OutputError: the folder, the disk or the storage cannot be written.
        Interrupted: Ctrl-C; everything is saved.
    """
    from optim_study.results import protocol_words
    from optim_study.swarm_plot import save_swarm

    studies = config.studies(load_corpus(config.data).checksum)
    _require_own_folder(config.folder)
    out, storage = config.folder, work_on(studies, config, quiet=quiet)
    every = studies if config.storage else stored_configs(storage)  # a database may have other users
    rows = stored_rows(every, storage)
    csv, figure = out / "trials.csv", out / "swarm.png"
    write_csv(rows, csv)
    save_swarm(rows, figure, loss=config.objective, about=protocol_words(every))
    _require_complete(studies, storage)
    names = [study.name for study in studies]
    own = [row for row in rows if f"{row.arch}-depth{row.depth}" in names]
    return Results(rows=own, csv=csv, figure=figure, best={name: best_checkpoint(out, name) for name in names})


def _require_own_folder(out: Path) -> None:
    """Raise InvalidInputError for the folder of a training, or one with a table or figure that no run has written."""
    ours = (out / "journal.log").exists() or any(out.glob("*/trials"))
    if not ours and ((out / "config.json").exists() or any(out.glob("seed-*/metrics.jsonl"))):
        raise InvalidInputError(f"{out} holds a training: give another --out, the folder of a study or a new one")
    files = {"trials.csv": HEADERS, "swarm.png": ((),)}
    if not ours and (found := [name for name in files if (out / name).exists()]):
        raise InvalidInputError(f"{out} holds {' and '.join(found)} but no study: give another --out")
    for name, headers in files.items():
        if (out / name).exists() and not any(made_by_us(out / name, columns) for columns in headers):
            raise InvalidInputError(
                f"{out / name} was not made by this toolkit, and the run would write over it: move it elsewhere"
            )


def dry_run(config: RunConfig) -> list[Planned]:
    """The plan of `run`, which creates nothing."""
    studies = config.studies(load_corpus(config.data).checksum)
    with engine_of(config) as engine:
        return plan(studies, config, engine.places, free=engine.free)


def create(config: RunConfig, *, quiet: bool = False) -> None:
    """Create the studies of the configuration for workers to `join`. Raises the exceptions of `run`."""
    _require_own_folder(config.folder)
    studies = config.studies(load_corpus(config.data).checksum)
    with engine_of(config) as engine:
        _made(studies, config, engine, quiet=quiet)


def join(config: WorkSettings, *, only: Sequence[str] | None = None, quiet: bool = False) -> None:
    """Work on every study in the storage of a run started elsewhere, until all are complete.

    Their protocols come from the storage. A study of a user's own cell is joined only if `only` names its architecture, because a
    storage must not decide which code is imported.

    Raises the exceptions of `run`.
    """
    _require_own_folder(config.folder)
    storage = open_existing(config.storage, config.folder, config.wait_storage)
    studies = [study for study in stored_configs(storage) if only is None or {study.arch, study.label} & set(only)]
    if not studies:
        raise InvalidInputError(
            "there is no study to join in this storage" + ("" if only is None else f" of {', '.join(only)}")
        )
    for study in studies:
        if only is None and ":" in study.arch:
            raise InvalidInputError(
                f"study {study.name} trains a user's own cell: name the architectures to join (--arch {study.arch})"
            )
    work_on(studies, config, storage, quiet=quiet)
    _require_complete(studies, storage)


def work_on(
    studies: list[StudyConfig], config: WorkSettings, storage: Storage | None = None, *, quiet: bool
) -> Storage:
    """Print the plan and work until the studies are complete; returns the storage, opened here if None."""
    with engine_of(config) as engine:
        planned, storage = _made(studies, config, engine, storage, quiet=quiet)
        if all(p.complete >= p.config.trials for p in planned):
            _say("every trial is complete: nothing to do (a larger --trials extends a study)", quiet)
        else:
            _work(planned, config, engine, storage, quiet=quiet)
    return storage


@contextmanager
def engine_of(config: WorkSettings) -> Iterator[Engine]:
    """The engine of the workers, closed at the end."""
    if config.engine == "processes":
        with closing(Processes(devices(config))) as engine:
            yield engine
        return
    from optim_study.ray_pool import ray_tasks

    with ray_tasks(config) as engine:
        yield engine


def _work(planned: Sequence[Planned], config: WorkSettings, engine: Engine, storage: Storage, *, quiet: bool) -> None:
    studies = [p.config for p in planned]

    def poll() -> dict[str, Counts]:
        return {study.name: counts(study, storage) for study in studies}

    data = config.data and config.data.absolute()  # other machines have another current folder
    job = Job(
        studies=studies,
        fuse={p.config.name: p.fuse for p in planned},
        out=config.folder.absolute(),
        storage=config.storage,
        wait_storage=config.wait_storage,
        backends=[TorchBackend(data=data, device=place) for place in engine.places],
        options=WorkOptions(save_seconds=config.save_seconds),
    )
    progress = Progress(planned, poll(), len(engine.places))
    try:
        with displayed(progress, poll, quiet=quiet) as display:
            if config.engine == "processes" and len(engine.places) == 1:
                work_through(job, lambda event: display.event(0, event))
            else:
                work_in(engine, job, display.event, display.tick)
        if _unfinished(studies, storage):  # every worker was stopped
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        raise Interrupted(
            f"stopped with {progress.complete} of {progress.trials} trials complete and the running ones saved in {config.folder}; "
            "run the same command again to go on"
        ) from None


def _unfinished(studies: Sequence[StudyConfig], storage: Storage) -> bool:
    """True if requested trials are incomplete; trials of another run that extends a study meanwhile do not count."""
    return any(t.number < s.trials for s in studies for t in storage.trials(s.name, "WAITING", "RUNNING"))


def _require_complete(studies: Sequence[StudyConfig], storage: Storage) -> None:
    """Raise DataError for trials that another program has ended; Optuna never starts such a trial again."""
    for study in studies:
        ended = [t for t in storage.trials(study.name, "FAIL", "PRUNED") if t.number < study.trials]
        if ended:
            which = ", ".join(f"{trial.number} ({trial.state})" for trial in ended[:5])
            raise DataError(
                f"trials of study {study.name} were ended by another program and cannot run again: {which}"
                f"{' and others' if len(ended) > 5 else ''}; all others are complete; restore the journal or database from a copy, "
                "or start again with another --out"
            )


def _made(
    studies: list[StudyConfig],
    config: WorkSettings,
    engine: Engine,
    storage: Storage | None = None,
    *,
    quiet: bool,
) -> tuple[list[Planned], Storage]:
    """Plan the studies, then create missing ones: nothing is left behind if a network cannot be built or does not fit."""
    planned = plan(studies, config, engine.places, storage, engine.free)
    storage = storage or open_storage(config.storage, config.folder, config.wait_storage)
    for study in studies:
        open_study(study, config.folder, storage).close()
    _say(plan_table([p.row() for p in planned], terminal_columns(120)), quiet)
    return planned, storage


def _say(text: str, quiet: bool) -> None:
    if not quiet:
        print(text, file=sys.stderr, flush=True)
