"""Workers as processes of this machine, started by spawning.

What they tell comes through one pipe each (a queue that all share has a lock, and a worker killed while it writes would take that lock
along).

Ctrl-C: the workers ignore the terminal's and get one from this process, so that nobody gets two; they save at the end of their epoch
and leave. If this process is killed, its workers notice, and do the same.
"""

import logging
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection, resource_tracker

from optim_study.worker_pool import STOPPING, Ended, Job, Told, serve

_logger = logging.getLogger(__name__)


@dataclass(eq=False)
class _Worker:
    number: int
    process: multiprocessing.Process
    pipe: connection.Connection


class Processes:
    """Implements `optim_study.worker_pool.Engine`."""

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

    def wait(self, seconds: float) -> Iterator[tuple[int, Told | Ended]]:
        pipes = {worker.pipe: worker for worker in self._workers}
        for pipe in connection.wait(list(pipes), timeout=seconds):
            worker = pipes[pipe]
            try:
                told = pipe.recv()
            except (EOFError, OSError):  # also in the middle of a message
                told = self._ended(worker)
            yield worker.number, told

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
                    while worker.pipe.recv():  # or it could not write
                        pass
                self._ended(worker)
        except KeyboardInterrupt:
            while self._workers:
                self._workers[-1].process.kill()
                self._ended(self._workers[-1])
            raise

    def close(self) -> None:
        """Once all workers have ended: end what Python started beside them, which otherwise outlives this process by a moment."""
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
    """What a spawned process runs. Its exit code says how it ended: that of `serve`, or 130 after an interrupt."""
    os.setpgid(0, 0)  # the terminal's Ctrl-C goes to our parent alone
    signal.signal(signal.SIGINT, signal.default_int_handler)
    outbox = queue.SimpleQueue()  # a signal's handler may tell something in the middle of a message
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
