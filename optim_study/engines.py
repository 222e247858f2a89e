"""Engines run jobs: in this process, or in spawned processes of this machine. `ray_engine` runs them on a Ray cluster.

places   the device of each worker
free     bytes of memory for a worker; None: its share of the free memory of this machine
submit   start a job at a free place; the future has the result of `attempt`, or an exception
deaths   exceptions that mean that the worker died; others end the run
stop     make the workers save and leave, and wait for them; Ctrl-C meanwhile ends them at once
close    end idle workers
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import connection

from optim_study.worker import Job, attempt

STOPPING = "stopping at the end of this epoch, with everything saved; Ctrl-C again stops at once"


class ThisProcess:
    """Runs one job at a time in this process."""

    free = None
    deaths = ()

    def __init__(self, place: str):
        self.places = [place]

    def submit(self, place: int, job: Job, on_epoch: Callable[[], None]) -> Future:
        """Return after the end of the job; calls `on_epoch` after each of its epochs."""
        future = Future()
        future.set_result(attempt(job, lambda: False, on_epoch))
        return future

    def stop(self, running: Sequence[Future]) -> None:
        pass

    def close(self) -> None:
        pass


class Processes:
    """Runs each place's jobs in a spawned process; a worker that dies does not disturb the others."""

    free = None
    deaths = BrokenProcessPool

    def __init__(self, places: Sequence[str]):
        self.places = places
        self._workers: list[_Worker | None] = [None] * len(places)

    def submit(self, place: int, job: Job, on_epoch: Callable[[], None]) -> Future:
        worker = self._workers[place] = self._workers[place] or _Worker()
        try:
            with _spawning():
                return worker.pool.submit(_work_in_process, job)
        except BrokenProcessPool:  # it died without a job
            self._workers[place] = None
            return self.submit(place, job, on_epoch)

    def stop(self, running: Sequence[Future]) -> None:
        try:
            self._tell_all()
            wait(running)
        except KeyboardInterrupt:
            self._tell_all()
            wait(running)
            raise

    def close(self) -> None:
        for worker in filter(None, self._workers):
            worker.pool.shutdown()
            worker.commands.close()

    def _tell_all(self) -> None:
        for worker in filter(None, self._workers):
            with suppress(OSError):  # it is dead
                worker.commands.send(None)


class _Worker:
    """A pool of one process, and a pipe to it: the first message means to save and leave, the second one to leave at once."""

    def __init__(self):
        context = multiprocessing.get_context("spawn")
        theirs, self.commands = context.Pipe(duplex=False)
        self.pool = ProcessPoolExecutor(1, context, _begin, (theirs,))


# In a worker's process:

_stopping = threading.Event()
_busy = threading.Lock()


def _begin(commands: connection.Connection) -> None:
    """Prepare a worker: one thread is the fastest for small networks."""
    import torch

    torch.set_num_threads(1)
    threading.Thread(target=_obey, args=(commands,), daemon=True).start()


def _work_in_process(job: Job) -> BaseException | None:
    with _busy:
        return attempt(job, _stopping.is_set)


def _obey(commands: connection.Connection) -> None:
    """Stop after this epoch at the first message, or when the driver is gone; leave at once at the second one."""
    with suppress(EOFError, OSError):
        commands.recv()
        _stopping.set()
        commands.recv()
        os._exit(130)
    _stopping.set()
    with _busy:  # the job is saved
        os._exit(0)


@contextmanager
def _spawning() -> Iterator[None]:
    """Keep Ctrl-C back until the end. A process started inside never gets it, and imports nothing from the current folder before it has
    our import path."""
    path, pressed, handler = os.environ.get("PYTHONSAFEPATH"), [], signal.getsignal(signal.SIGINT)
    os.environ["PYTHONSAFEPATH"] = "1"
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, lambda *_: pressed.append(True))  # another thread may receive it
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)
        os.environ.pop("PYTHONSAFEPATH")
        if path is not None:
            os.environ["PYTHONSAFEPATH"] = path
    if pressed:
        signal.raise_signal(signal.SIGINT)
