"""Run studies: plan them, drive their workers, show the progress, and write tables and a figure."""

import math
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from optim_study.backend import TorchBackend, chorales_of_study, memory, meta_model
from optim_study.config import RunConfig, StudyConfig
from optim_study.driver import Driver, Study
from optim_study.engines import engine_of
from optim_study.folder import StudyFolder, rows_in
from optim_study.results import TrialRow, write_csv
from optim_study.shares import SHARE_COLUMNS, Share, training_shares
from optim_study.storage import JOURNAL, address_of, open_storage
from rhn.cells.registry import num_parameters
from rhn.errors import InvalidInputError, OutputError, RhnError
from rhn.training.interrupts import Interrupted
from rhn.training.state import LOCK, locked
from rhn.utils.figures import save_figure
from rhn.utils.io import check_output, write_rows
from rhn.utils.progress import Progress, is_asked_for, reported
from rhn.utils.resources import free_memory
from rhn.utils.tables import aligned
from rhn.utils.validation import in_short

OUTPUTS = ("trials.csv", "shares.csv", "swarm.png")
# measured: 30 are 3 to 10 % faster in small networks, but two workers end less evenly
LARGEST_ON_CPU = 15
SHARE = 0.6  # of the free memory
PLAN_COLUMNS = ("study", "device", "hidden_size", "parameters", "trials", "complete", "fuse")


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
    config: RunConfig, *, progress: Progress = None, announce: Callable[[], None] = lambda: None
) -> Results:
    """Run every study of the configuration to its end, and return the results. Existing studies
    continue, and finished ones stay unchanged. With several jobs, a script must call this under `if
    __name__ == "__main__":`.

    progress: True to show the plan, the epochs that are done and the time left on stderr, False to
    show nothing, None to show them in a terminal session or notebook; or a function of (epochs
    done, epochs in all). announce: called before a trial starts, if nothing refuses the run.

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
    if not isinstance(config, RunConfig):
        raise InvalidInputError(f"config is {in_short(config)}: expected a RunConfig")
    _check_files(config.folder)
    if config.storage is not None:
        address_of(config.storage)
    # nodes of a cluster have another current folder
    out, data = config.folder.absolute(), config.data and config.data.absolute()
    with engine_of(config) as engine:
        planned, rows = plan(config, engine.places)  # may refuse: nothing is written yet
        pairs = zip(planned, rows, strict=True)
        studies = [Study(each, StudyFolder(out, each), row["fuse"]) for each, row in pairs]
        backends = [TorchBackend(data=data, device=place) for place in engine.places]
        with locked(config.folder):
            for study in studies:
                study.folder.check()
            storage = open_storage(config.storage, config.folder, config.wait_storage)
            storage.make(planned)
            if is_asked_for(progress):
                print(plan_table(rows), file=sys.stderr)
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


def dry_run(config: RunConfig) -> list[dict]:
    """Return the plan of `run` as rows, without creating anything."""
    with engine_of(config) as engine:
        return plan(config, engine.places)[1]


def plan(config: RunConfig, places: Sequence[str]) -> tuple[list[StudyConfig], list[dict]]:
    """Plan a run for workers on the devices `places`. Returns the studies, and for each a row with
    `PLAN_COLUMNS`, the memory of a worker in bytes, and the settings. Raises InvalidInputError if a
    network does not fit the memory; that of Ray's nodes is not known.
    """
    device, free, rows = places[0].partition(":")[0], math.inf, []
    if config.engine != "ray":
        free = free_memory(device) / max(Counter(places).values())
    corpus = chorales_of_study(config.data)
    steps, studies = max(map(len, corpus.train)), config.studies(corpus.checksum)
    complete = Counter(row.fingerprint for row in rows_in(config.folder))
    for study in studies:
        model = meta_model(study)
        need = memory(study, model, device, steps)
        k = fused(study, need, asked=config.fuse, jobs=len(places), device=device, free=free)
        planned = {
            "study": study.name,
            "device": " ".join(dict.fromkeys(places)),
            "hidden_size": model.hidden_size,
            "parameters": num_parameters(model),
            "complete": complete[study.fingerprint],
            "fuse": k,
            "memory": need(k),
        }
        rows.append(planned | asdict(study))
    return studies, rows


def fused(
    study: StudyConfig,
    need: Callable[[int], int],
    asked: int | None,
    jobs: int,
    device: str,
    free: float,
) -> int:
    """Return the number of trials to train as one program: `asked`, or if that is None the largest
    number that fits. On a CPU the trials of a worker are split into at least two groups, so that
    workers end at about the same time. On a GPU all trials of a worker run together.

    need: the function that `memory` returns. free: the memory of one worker in bytes.
    """
    if asked is not None:
        k = min(asked, study.trials)
    else:
        most = most_fused(study.trials, jobs, device)
        k = max((k for k in range(1, most + 1) if need(k) <= SHARE * free), default=1)
    if need(k) > free:
        words = f"fuse is {k} for {study.name}, {need(k) / 2**30:.1f} GiB a worker"
        raise InvalidInputError(f"{words}: expected at most {free / 2**30:.1f} GiB")
    return k


def most_fused(trials: int, jobs: int, device: str) -> int:
    """Return the largest number of trials that train as one program, whatever the memory."""
    groups, largest = (jobs, trials) if device == "cuda" else (2 * jobs, LARGEST_ON_CPU)
    return min(largest, -(-trials // groups))


def plan_table(rows: Sequence[dict]) -> str:
    """Format rows of `plan` as a table."""
    head = [name.replace("_", " ") for name in PLAN_COLUMNS]
    return "\n".join(aligned([head, *([str(row[n]) for n in PLAN_COLUMNS] for row in rows)]))


def settings_table(rows: Sequence[dict]) -> str:
    """Format the settings that the rows of a plan share as a table."""
    names = [f.name for f in fields(StudyConfig) if f.name not in ("arch", "depth", "options")]
    values = {n: v if isinstance(v := rows[0][n], tuple) else (v,) for n in names}
    return "\n".join(aligned([[n, " ".join(map(str, v))] for n, v in values.items()]))


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
    write_rows(counts, SHARE_COLUMNS, [vars(share).values() for share in shares])
    if rows:
        source = config.folder.absolute().name
        save_figure(figure, lambda: plot_swarm(rows, loss=config.objective, source=source))
    best = {study.config.name: study.folder.best for study in studies}
    return Results(rows=own, best=best, trials=rows, shares=shares, csv=csv, figure=figure)
