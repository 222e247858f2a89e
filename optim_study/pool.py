"""Start and supervise workers: the loop of a worker over all studies, and spawned processes of this machine.

`ray_pool` starts them on a Ray cluster.

A worker goes through the studies in order and stays until every study is complete. A worker that dies is started again: the locks of
its trials died with it.

Processes of this machine are spawned. Each sends its messages through a pipe of its own, because a common queue has a lock, which a
killed worker would keep. Ctrl-C: the workers ignore the terminal's and get one from this process, so that nobody gets two; they save at
the end of their epoch and leave. If this process is killed, its workers notice it and do the same.
"""

import gc
import logging
import multiprocessing
import os
import queue
import signal
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from logging.handlers import QueueHandler
from multiprocessing import connection, resource_tracker
from pathlib import Path
from typing import Protocol

from optim_study.backend import Backend
from optim_study.protocol import StudyConfig
from optim_study.storage import open_storage
from optim_study.study import SharedStudy, open_study
from optim_study.worker import Event, Finished, Saved, WorkOptions, work
from rhn.errors import RhnError
from rhn.utils.user_code import own_cell, users_frames

_logger = logging.getLogger(__name__)

DEATHS = 3  # of a worker in a row without a save between them; then the run ends
STOPPING = "stopping at the end of this epoch, with everything saved; Ctrl-C again stops at once"


@dataclass(frozen=True, kw_only=True)
class Job:
    """The work of a run, for spawned processes."""

    studies: Sequence[StudyConfig]
    fuse: Mapping[str, int]
    """Study -> trials trained as one program."""
    out: Path
    storage: str | None = field(repr=False)  # may hold a password
    backends: Sequence[Backend]
    """One for each worker."""
    options: WorkOptions
    wait_storage: float = 0.0
    """Seconds to wait for a database that does not answer."""


Message = Event | logging.LogRecord | Exception
"""A message of a worker; an exception is its failure."""


@dataclass(frozen=True)
class Ended:
    """The end of a worker."""

    cause: str | None = None
    """Cause of its death; None if it left by itself."""


class Engine(Protocol):
    """A place where workers run."""

    places: Sequence[str]
    """The device of each worker."""
    free: float | None
    """Bytes of memory for a worker; None: its share of the free memory of this machine."""

    def start(self, job: Job, number: int) -> None:
        """Start the worker of this number, which runs `serve`."""

    def wait(self, seconds: float) -> Iterable[tuple[int, Message | Ended]]:
        """Yield (number of the worker, message) for at most `seconds`; `Ended` is the last message of a worker."""

    def stop(self) -> None:
        """Make all workers save and leave, and wait for them; Ctrl-C meanwhile ends them at once and is raised."""


def work_through(job: Job, on_event: Callable[[Event], None], worker: int = 0) -> None:
    """Work as one worker: claim trials study by study, then go through the studies again and wait for the trials of others.

    Raises the exceptions of `work`.
    """
    storage = open_storage(job.storage, job.out, job.wait_storage)
    for wait in (False, True):
        for config in job.studies:
            study = open_study(config, job.out, storage, grown=True)
            try:
                options = replace(job.options, fuse=job.fuse[config.name], wait=wait)
                with own_cell(config.arch):
                    _work_within_memory(study, job.backends[worker], options, on_event)
            finally:
                study.close()


def work_in(engine: Engine, job: Job, on_event: Callable[[int, Event], None], tick: Callable[[], None]) -> None:
    """Start a worker of the engine for each backend of the job, and return when all have left.

    Studies may be unfinished then, if somebody interrupted each worker. Raises KeyboardInterrupt after Ctrl-C, when the workers have
    saved and left, and RhnError for the error of a worker, or if one dies again and again.

    on_event: called with the number of the worker and the event.
    tick: called once a second.
    """
    pool = _Pool(engine, job, on_event)
    try:
        for number in range(len(job.backends)):
            engine.start(job, number)
            pool.deaths[number] = 0
        while pool.deaths:
            for number, message in engine.wait(seconds=1):
                pool.receive(number, message)
            tick()
    except BaseException:
        engine.stop()
        raise


def serve(job: Job, number: int, send: Callable[[Message], None]) -> int:
    """Run a worker in a process of an engine; returns its exit code: 0, or 2 after it sent an error."""
    forwarding = _Forwarding(send)
    forwarding.setLevel(logging.WARNING)
    logging.getLogger().addHandler(forwarding)
    try:
        import torch

        torch.set_num_threads(1)
        work_through(job, send, number)
        return 0
    except RhnError as error:
        message = RhnError(str(error))
        message.frames = users_frames(error)
        send(message)
    except SystemExit as leaving:  # from a user's cell
        send(RuntimeError(f"a worker was left by sys.exit({leaving.code!r})"))
    except Exception:
        send(RuntimeError(f"a worker failed:\n{traceback.format_exc()}"))
    finally:
        logging.getLogger().removeHandler(forwarding)
    return 2


class _Forwarding(QueueHandler):
    """Send log records as messages: the display shows them above its table."""

    def enqueue(self, record: logging.LogRecord) -> None:
        self.queue(record)


@dataclass
class _Pool:
    engine: Engine
    job: Job
    on_event: Callable[[int, Event], None]
    deaths: dict[int, int] = field(default_factory=dict)
    """Living worker -> deaths of its predecessors since the last save."""
    errors: dict[int, Exception] = field(default_factory=dict)

    def receive(self, number: int, message: Message | Ended) -> None:
        if isinstance(message, Ended):
            self._replace(number, message.cause)
        elif isinstance(message, logging.LogRecord):
            logging.getLogger(message.name).handle(message)
        elif isinstance(message, Exception):
            self.errors[number] = message
        else:
            if isinstance(message, Saved | Finished):
                self.deaths[number] = 0
            self.on_event(number, message)

    def _replace(self, number: int, cause: str | None) -> None:
        deaths = self.deaths.pop(number) + 1
        if number in self.errors:
            raise self.errors[number]
        if cause is None:
            return
        if deaths >= DEATHS:
            raise RhnError(
                f"a worker died {DEATHS} times in a row ({cause}) before it could save: if memory is short, use a smaller "
                "--fuse or fewer --jobs; run the same command again to go on, everything saved so far is kept"
            )
        _logger.warning("worker %d died (%s): another one takes its place", number, cause)
        self.engine.start(self.job, number)
        self.deaths[number] = deaths


def _work_within_memory(
    study: SharedStudy, backend: Backend, options: WorkOptions, on_event: Callable[[Event], None]
) -> None:
    """Work with half as many fused trials whenever the device runs out of memory."""
    import torch

    while True:
        try:
            work(study, backend, options, on_event)
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
        torch.cuda.empty_cache()  # does nothing without a GPU


@dataclass(eq=False)
class _Worker:
    number: int
    process: multiprocessing.Process
    pipe: connection.Connection


class Processes:
    """Spawned processes of this machine; implements `Engine`."""

    free = None

    def __init__(self, places: Sequence[str]):
        self.places = places
        self._workers: list[_Worker] = []
        self._started_tracker = getattr(resource_tracker._resource_tracker, "_fd", None) is None

    def start(self, job: Job, number: int) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(
            target=_worker_main, args=(job, number, theirs), name=f"worker {number}", daemon=False
        )
        with _off_the_current_folder(), _held_back_interrupts():  # both are inherited
            process.start()
        theirs.close()  # so that the pipe ends with the worker
        self._workers.append(_Worker(number, process, ours))

    def wait(self, seconds: float) -> Iterator[tuple[int, Message | Ended]]:
        pipes = {worker.pipe: worker for worker in self._workers}
        for pipe in connection.wait(list(pipes), timeout=seconds):
            worker = pipes[pipe]
            try:
                message = pipe.recv()
            except (EOFError, OSError):  # also in the middle of a message
                message = self._ended(worker)
            yield worker.number, message

    def stop(self) -> None:
        if self._workers:
            _logger.warning(STOPPING)
        for worker in self._workers:
            with suppress(ProcessLookupError):
                os.kill(worker.process.pid, signal.SIGINT)
        try:
            while self._workers:
                worker = self._workers[-1]
                with suppress(EOFError, OSError):
                    while worker.pipe.recv():  # a full pipe would block it
                        pass
                self._ended(worker)
        except KeyboardInterrupt:
            while self._workers:
                self._workers[-1].process.kill()
                self._ended(self._workers[-1])
            raise

    def close(self) -> None:
        """End Python's resource tracker after the last worker; otherwise it outlives this process by a moment."""
        tracker = resource_tracker._resource_tracker  # its `_stop` has no public name
        if self._started_tracker and not self._workers and hasattr(tracker, "_stop"):
            tracker._stop()

    def _ended(self, worker: _Worker) -> Ended:
        worker.pipe.close()
        worker.process.join()
        self._workers.remove(worker)
        code = worker.process.exitcode
        return Ended() if code in (0, 130) else Ended(_cause(code))


def _cause(code: int) -> str:
    try:
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"
    except ValueError:
        return f"signal {-code}"


def _worker_main(job: Job, number: int, pipe: connection.Connection) -> None:
    """The main function of a spawned process; exits with the code of `serve`, or 130 after an interrupt."""
    os.setpgid(0, 0)  # only our parent gets the terminal's Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)
    outbox = queue.SimpleQueue()  # a signal handler may send a message during another
    sender = threading.Thread(target=_send, args=(outbox, pipe), daemon=True)
    sender.start()
    _leave_with_parent()
    code = 2
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        code = serve(job, number, outbox.put)
    except KeyboardInterrupt:
        code = 130
    outbox.put(None)
    sender.join()
    os._exit(code)  # at once: nothing is left to flush, and threads of libraries may hang


def _send(outbox: queue.SimpleQueue, pipe: connection.Connection) -> None:
    """Send everything to the parent, until None comes."""
    with suppress(OSError):  # without a parent nobody listens, and the worker still has to save
        while message := outbox.get():
            pipe.send(message)


def _leave_with_parent() -> None:
    """Interrupt this process when its parent ends, so that it saves and leaves."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _off_the_current_folder() -> Iterator[None]:
    """Keep processes started inside from importing modules of the current folder before they get this process's import path."""
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        os.environ.pop("PYTHONSAFEPATH")
        if before is not None:
            os.environ["PYTHONSAFEPATH"] = before


@contextmanager
def _held_back_interrupts() -> Iterator[None]:
    """Delay a Ctrl-C until the end; processes started inside begin with Ctrl-C blocked."""
    resource_tracker.ensure_running()  # its start would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
