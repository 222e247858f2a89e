"""Workers: they go through the studies in order, in this process or in an engine's, and stay until every study is complete.

An engine starts workers somewhere and hands on what they tell: processes of this machine (`process_pool`), tasks on the nodes of a Ray
cluster (`ray_pool`). A worker that dies is started again and goes on where it was; the locks of its trials died with it.
"""

import gc
import logging
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from logging.handlers import QueueHandler
from pathlib import Path
from typing import Protocol

from optim_study.protocol import StudyConfig
from optim_study.shared_study import SharedStudy, open_study
from optim_study.storage import open_storage
from optim_study.trainer import Trainer
from optim_study.worker import Event, Finished, Saved, WorkOptions, work
from rhn.errors import RhnError
from rhn.utils.user_code import own_cell, users_frames

_logger = logging.getLogger(__name__)

DEATHS = 3  # in a row, without anything saved between them, after which starting again is given up
STOPPING = "stopping at the end of this epoch, with everything saved; Ctrl-C again stops at once"


@dataclass(frozen=True, kw_only=True)
class Job:
    """What the workers are to do; can be sent to a spawned process."""

    studies: Sequence[StudyConfig]
    fuse: Mapping[str, int]
    """Study -> trials trained as one program."""
    out: Path
    storage: str | None = field(repr=False)  # may hold a password
    trainers: Sequence[Trainer]
    """One for each worker, by its number."""
    options: WorkOptions
    wait_storage: float = 0.0
    """Seconds to wait for a database that does not answer."""


Told = Event | logging.LogRecord | Exception
"""What a worker tells; an exception is what it failed with."""


@dataclass(frozen=True)
class Ended:
    """A worker is gone."""

    cause: str | None = None
    """What it died of; None where it left by itself: all was done, it was asked to, or it told what it failed with."""


class Engine(Protocol):
    """Where workers run."""

    places: Sequence[str]
    """The device of each worker."""
    free: float | None
    """Bytes of memory for a worker; None: its share of what is free here."""

    def start(self, job: Job, number: int) -> None:
        """Start the worker of this number, which runs `serve`."""

    def wait(self, seconds: float) -> Iterable[tuple[int, Told | Ended]]:
        """What the workers tell, by number, for up to so many seconds; of each its end comes last."""

    def stop(self) -> None:
        """Ask all workers to save and leave, and wait for them; Ctrl-C meanwhile ends them at once and is raised."""


def work_through(job: Job, on_event: Callable[[Event], None], worker: int = 0) -> None:
    """What one worker does: first what is to claim, study by study, then a second round that waits for the trials of others.

    Raises what `work` raises.
    """
    storage = open_storage(job.storage, job.out, job.wait_storage)
    for wait in (False, True):
        for config in job.studies:
            study = open_study(config, job.out, storage, grown=True)
            try:
                options = replace(job.options, fuse=job.fuse[config.name], wait=wait)
                with own_cell(config.arch):
                    _work_within_memory(study, job.trainers[worker], options, on_event)
            finally:
                study.close()


def work_in(engine: Engine, job: Job, on_event: Callable[[int, Event], None], tick: Callable[[], None]) -> None:
    """A worker of the engine for each trainer of the job; `on_event` gets the worker's number with every event, `tick` is called once
    a second.

    Returns when all have left: studies may be unfinished then if somebody interrupted each of them. Raises KeyboardInterrupt after
    Ctrl-C, when the workers have saved and left, and RhnError for what a worker raised on purpose or one that died again and again.
    """
    pool = _Pool(engine, job, on_event)
    try:
        for number in range(len(job.trainers)):
            engine.start(job, number)
            pool.deaths[number] = 0
        while pool.deaths:
            for number, told in engine.wait(seconds=1):
                pool.hear(number, told)
            tick()
    except BaseException:
        engine.stop()
        raise


def serve(job: Job, number: int, tell: Callable[[Told], None]) -> int:
    """What a worker does in a process that an engine started; its exit code: 0, or 2 after an error that it told."""
    forwarding = _Forwarding(tell)
    forwarding.setLevel(logging.WARNING)
    logging.getLogger().addHandler(forwarding)
    try:
        import torch

        torch.set_num_threads(1)
        work_through(job, tell, number)
        return 0
    except RhnError as error:
        told = RhnError(str(error))
        told.frames = users_frames(error)
        tell(told)
    except SystemExit as leaving:  # out of a user's cell
        tell(RuntimeError(f"a worker was left by sys.exit({leaving.code!r})"))
    except Exception:
        tell(RuntimeError(f"a worker failed:\n{traceback.format_exc()}"))
    finally:
        logging.getLogger().removeHandler(forwarding)
    return 2


class _Forwarding(QueueHandler):
    """Log records go where all goes that a worker tells: the display shows them above its table."""

    def enqueue(self, record: logging.LogRecord) -> None:
        self.queue(record)


@dataclass
class _Pool:
    engine: Engine
    job: Job
    on_event: Callable[[int, Event], None]
    deaths: dict[int, int] = field(default_factory=dict)
    """Worker at work -> deaths of its predecessors since something was saved last."""
    errors: dict[int, Exception] = field(default_factory=dict)

    def hear(self, number: int, told: Told | Ended) -> None:
        if isinstance(told, Ended):
            self._replace(number, told.cause)
        elif isinstance(told, logging.LogRecord):
            logging.getLogger(told.name).handle(told)
        elif isinstance(told, Exception):
            self.errors[number] = told
        else:
            if isinstance(told, Saved | Finished):
                self.deaths[number] = 0
            self.on_event(number, told)

    def _replace(self, number: int, cause: str | None) -> None:
        deaths = self.deaths.pop(number) + 1
        if number in self.errors:
            raise self.errors[number]
        if cause is None:
            return
        if deaths >= DEATHS:
            raise RhnError(
                f"a worker died {DEATHS} times in a row ({cause}) before it could save anything: if memory is short, "
                "use a smaller --fuse or fewer --jobs; the same command goes on, everything saved so far is kept"
            )
        _logger.warning("worker %d died (%s): another one takes its place", number, cause)
        self.engine.start(self.job, number)
        self.deaths[number] = deaths


def _work_within_memory(
    study: SharedStudy, trainer: Trainer, options: WorkOptions, on_event: Callable[[Event], None]
) -> None:
    """`work`, with half as many trials at once whenever the device has too little memory for them."""
    import torch

    while True:
        try:
            work(study, trainer, options, on_event)
            return
        except (MemoryError, RuntimeError) as error:
            of_memory = isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
            if not of_memory or options.fuse == 1:
                raise
        _logger.warning(
            "study %s: too little memory for %d fused trials, going on with %d",
            study.config.name,
            options.fuse,
            options.fuse // 2,
        )
        options = replace(options, fuse=options.fuse // 2)
        gc.collect()
        torch.cuda.empty_cache()  # does nothing where no GPU was used
