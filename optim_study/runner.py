"""Run studies: drive their workers, show the progress, and write tables and a figure."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from optim_study.backend import TorchBackend, chorales_of_study
from optim_study.config import RunConfig
from optim_study.driver import Driver, Study
from optim_study.engines import engine_of
from optim_study.folder import StudyFolder, rows_in
from optim_study.plan import Plan, plan, plan_table
from optim_study.results import TrialRow, write_csv
from optim_study.shares import Share, training_shares, write_shares
from optim_study.storage import JOURNAL, address_of, open_storage
from rhn.errors import InvalidInputError, OutputError, RhnError
from rhn.training.interrupts import Interrupted
from rhn.training.state import LOCK, locked
from rhn.utils.figures import save_figure
from rhn.utils.io import check_output
from rhn.utils.old_names import warn
from rhn.utils.progress import Progress, is_asked_for, reported
from rhn.utils.validation import in_short

OUTPUTS = ("trials.csv", "shares.csv", "swarm.png")


@dataclass(frozen=True, kw_only=True)
class Results:
    """The results of a run."""

    rows: list[TrialRow]
    """The complete trials of the run's studies."""
    best: dict[str, Path]
    """The checkpoint of the best model of each study, by its name."""
    trials: list[TrialRow]
    """All complete trials in the folder."""
    shares: list[Share]
    csv: Path
    figure: Path


def run(
    config: RunConfig,
    *,
    progress: Progress = None,
    announce: Callable[[], None] = lambda: None,
    quiet: bool | None = None,
) -> Results:
    """Run every study of the configuration to its end, and return the results. Existing studies
    continue, and finished ones stay unchanged. With several jobs, a script must call this under `if
    __name__ == "__main__":`.

    progress: True to show the plan, the epochs that are done and the time left on stderr, False to
    show nothing, None to show them in a terminal session or notebook; or a function of (epochs
    done, epochs in all). announce: called before a trial starts, if nothing refuses the run. quiet:
    an argument of 0.7.0, which warns.

    Raises InvalidInputError for a study that cannot run or continue, DataError, OutputError,
    RhnError if workers died three times without a save, and Interrupted after Ctrl-C.

    >>> import json, tempfile
    >>> from optim_study import smoke
    >>> splits = {name: [[[60, 64], [62, 65], [60]]] for name in ("train", "valid", "test")}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     data = Path(folder, "tiny.json")
    ...     _ = data.write_text(json.dumps(splits))
    ...     config = smoke(arch=("rnn",), data=data, out=Path(folder, "out"), trials=1, epochs=1)
    ...     len(run(config).rows)
    1
    """
    if quiet is not None:
        warn("optim_study.run(quiet=)")
        progress = not quiet
    if not isinstance(config, RunConfig):
        raise InvalidInputError(f"config is {in_short(config)}: expected a RunConfig")
    _check_files(config.folder)
    if config.storage is not None:
        address_of(config.storage)
    # nodes of a cluster have another current folder
    out, data = config.folder.absolute(), config.data and config.data.absolute()
    with engine_of(config) as engine:
        corpus = chorales_of_study(config.data)
        plans = plan(config, corpus, engine.places)  # may refuse: nothing is written yet
        studies = [Study(p.study, StudyFolder(out, p.study), p.fuse) for p in plans]
        backends = [TorchBackend(data=data, device=place) for place in engine.places]
        with locked(config.folder):
            for study in studies:
                study.folder.check()
            storage = open_storage(config.storage, config.folder, config.wait_storage)
            storage.make([study.config for study in studies])
            if is_asked_for(progress):
                print(plan_table(plans), file=sys.stderr)
            driver = Driver(studies, storage, engine, backends, config.save_seconds)
            try:
                if any(study.left for study in studies):
                    announce()
                with reported(progress, "epochs", *driver.epochs()) as advance:
                    driver.run(advance)
            except KeyboardInterrupt:
                words = f"{config.folder} is saved; run the same command again to continue"
                raise Interrupted(words) from None
            results = _write(studies, config)
    for study in studies:
        for number, reason in study.given_up.items():
            raise RhnError(f"trial {number} of study {study.config.name}: {reason}")
    return results


def dry_run(config: RunConfig) -> list[Plan]:
    """Return the plans of the studies of `run`, without creating anything."""
    with engine_of(config) as engine:
        return plan(config, chorales_of_study(config.data), engine.places)


def _check_files(out: Path) -> None:
    """Refuse a folder that has an output but no run, or where an output cannot be written."""
    place = next(p for p in (out.absolute(), *out.absolute().parents) if p.exists())
    if not place.is_dir():
        raise OutputError(f"cannot write {out}: {place} is no folder")
    for path in (out / name for name in OUTPUTS):
        if out.is_dir():
            check_output(path)
        if path.exists() and not any((out / name).exists() for name in (JOURNAL, LOCK)):
            raise InvalidInputError(f"out is {out}: expected a folder without {path.name}")


def _write(studies: Sequence[Study], config: RunConfig) -> Results:
    """Write the tables and the figure of these studies, in their order, and then of others in the
    folder.
    """
    from optim_study.figures import plot_swarm

    own = [row for study in studies for _, row in sorted(study.rows.items())]
    others = rows_in(config.folder, [study.config.name for study in studies])
    rows = [*own, *others]
    csv, counts, figure = (config.folder / name for name in OUTPUTS)
    shares = training_shares(rows, config.objective) if rows else []
    write_csv(rows, csv)
    write_shares(shares, counts)
    if rows:
        source = config.folder.absolute().name
        save_figure(figure, lambda: plot_swarm(rows, loss=config.objective, source=source))
    best = {study.config.name: study.folder.best for study in studies}
    return Results(rows=own, best=best, trials=rows, shares=shares, csv=csv, figure=figure)
