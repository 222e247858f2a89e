"""Workers: they go through the studies in order, in this process or in spawned ones, and stay until every study is complete.

What spawned workers tell comes through one pipe each (a queue that all share has a lock, and a worker killed while it writes would
take that lock along). A worker that dies is started again and goes on where it was; the locks of its trials died with it.

Ctrl-C: the workers ignore the terminal's and get one from this process, so that nobody gets two; they save at the end of their epoch
and leave. If this process is killed, its workers notice, and do the same.
"""

import gc
import logging
import multiprocessing
import os
import queue
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from logging.handlers import QueueHandler
from multiprocessing import connection, resource_tracker
from pathlib import Path

from optim_study.protocol import StudyConfig
from optim_study.shared_study import SharedStudy, open_study
from optim_study.storage import open_storage
from optim_study.trainer import Trainer
from optim_study.worker import Event, Finished, Saved, WorkOptions, work
from rhn.errors import RhnError

_logger = logging.getLogger(__name__)

DEATHS = 3  # in a row, without anything saved between them, after which starting again is given up


@dataclass(frozen=True, kw_only=True)
class Job:
    """What the workers are to do; can be sent to a spawned process."""

    studies: Sequence[StudyConfig]
    fuse: Mapping[str, int]
    """Study -> trials trained as one program."""
    out: Path
    storage: str | None
    trainers: Sequence[Trainer]
    """One for each worker, by its number."""
    options: WorkOptions


def work_through(job: Job, on_event: Callable[[Event], None], worker: int = 0) -> None:
    """What one worker does: first what is to claim, study by study, then a second round that waits for the trials of others.

    Raises what `work` raises.
    """
    storage = open_storage(job.storage, job.out)
    for wait in (False, True):
        for config in job.studies:
            study = open_study(config, job.out, storage)
            try:
                options = replace(job.options, fuse=job.fuse[config.name], wait=wait)
                _work_within_memory(study, job.trainers[worker], options, on_event)
            finally:
                study.close()


def work_in_processes(job: Job, on_event: Callable[[int, Event], None], tick: Callable[[], None]) -> None:
    """A process for each trainer of the job; `on_event` gets the worker's number with every event, `tick` is called once a second.

    Returns when all have left: studies may be unfinished then if somebody interrupted each of them. Raises KeyboardInterrupt after
    Ctrl-C, when the workers have saved and left, and RhnError for what a worker raised on purpose or one that died again and again.
    """
    pool = _Pool(job, on_event)
    try:
        for number in range(len(job.trainers)):
            pool.start(number)
        while pool.workers:
            pool.wait(seconds=1)
            tick()
    except BaseException:
        pool.stop()
        raise


@dataclass(eq=False)
class _Worker:
    number: int
    process: multiprocessing.Process
    pipe: connection.Connection
    deaths: int = 0
    """Of its predecessors, since something was saved last."""
    error: Exception | None = None
    """What it told that it failed with."""


@dataclass
class _Pool:
    job: Job
    on_event: Callable[[int, Event], None]
    workers: list[_Worker] = field(default_factory=list)

    def start(self, number: int, deaths: int = 0) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(
            target=_worker_main, args=(self.job, number, theirs), name=f"worker {number}", daemon=False
        )
        with _off_the_current_folder(), _held_back_interrupts():  # both are inherited
            process.start()
        theirs.close()  # so that the pipe ends with the worker
        self.workers.append(_Worker(number, process, ours, deaths))

    def wait(self, seconds: float) -> None:
        """Hands on what workers tell, for up to so many seconds, and replaces those that died."""
        pipes = {worker.pipe: worker for worker in self.workers}
        for pipe in connection.wait(list(pipes), timeout=seconds):
            worker = pipes[pipe]
            try:
                self._receive(worker, pipe.recv())
            except (EOFError, OSError):  # also in the middle of a message
                self._ended(worker)

    def stop(self) -> None:
        """Asks all workers to save and leave, and waits for them; Ctrl-C meanwhile ends them at once."""
        if self.workers:
            _logger.warning("stopping at the end of this epoch, with everything saved; Ctrl-C again stops at once")
        for worker in self.workers:
            with suppress(ProcessLookupError):
                os.kill(worker.process.pid, signal.SIGINT)
        try:
            for worker in self.workers:
                with suppress(EOFError, OSError):
                    while worker.pipe.recv():  # or it could not write
                        pass
                worker.process.join()
        except KeyboardInterrupt:
            for worker in self.workers:
                worker.process.kill()
                worker.process.join()
            raise

    def _receive(self, worker: _Worker, told: Event | logging.LogRecord | Exception) -> None:
        if isinstance(told, logging.LogRecord):
            logging.getLogger(told.name).handle(told)
        elif isinstance(told, Exception):
            worker.error = told
        else:
            if isinstance(told, Saved | Finished):
                worker.deaths = 0
            self.on_event(worker.number, told)

    def _ended(self, worker: _Worker) -> None:
        worker.pipe.close()
        worker.process.join()
        self.workers.remove(worker)
        code = worker.process.exitcode
        if code in (0, 130):
            return
        if worker.error:
            raise worker.error
        if worker.deaths + 1 >= DEATHS:
            raise RhnError(
                f"a worker died {DEATHS} times in a row ({_cause(code)}) before it could save anything: if memory is short, "
                "use a smaller --fuse or fewer --jobs; the same command goes on, everything saved so far is kept"
            )
        _logger.warning("worker %d died (%s): another one takes its place", worker.number, _cause(code))
        self.start(worker.number, worker.deaths + 1)


def _cause(code: int) -> str:
    try:
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"
    except ValueError:
        return f"signal {-code}"


def _worker_main(job: Job, number: int, pipe: connection.Connection) -> None:
    """What a spawned process runs. Its exit code says how it ended: 0, 130 after an interrupt, 2 after an error that it told."""
    os.setpgid(0, 0)  # the terminal's Ctrl-C goes to our parent alone
    signal.signal(signal.SIGINT, signal.default_int_handler)
    outbox = queue.SimpleQueue()  # a signal's handler may tell something in the middle of a message
    sender = threading.Thread(target=_send, args=(outbox, pipe), daemon=True)
    sender.start()
    forwarding = QueueHandler(outbox)  # the parent prints it above its display
    forwarding.setLevel(logging.WARNING)
    logging.getLogger().addHandler(forwarding)
    _leave_with_parent()
    code = 2
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        import torch

        torch.set_num_threads(1)
        work_through(job, outbox.put, number)
        code = 0
    except KeyboardInterrupt:
        code = 130
    except RhnError as error:
        outbox.put(RhnError(str(error)))
    except Exception:
        outbox.put(RuntimeError(f"a worker failed:\n{traceback.format_exc()}"))
    outbox.put(None)
    sender.join()
    os._exit(code)  # at once: nothing is left to flush, and threads of libraries may hang


def _send(outbox: queue.SimpleQueue, pipe: connection.Connection) -> None:
    """Sends everything to the parent, until None comes."""
    with suppress(OSError):  # when the parent is gone nobody listens, and the work still has to be saved
        while message := outbox.get():
            pipe.send(message)


def _leave_with_parent() -> None:
    """When the parent process ends, for whatever reason, this one gets an interrupt: it saves and leaves."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _off_the_current_folder() -> Iterator[None]:
    """Processes started within import nothing from the current folder before they have this process's import path."""
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
    """A Ctrl-C within arrives afterwards; processes started within begin with theirs held back."""
    resource_tracker.ensure_running()  # starting it would let them through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
