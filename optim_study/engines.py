"""The engines that run the jobs of a study: in this process, in spawned processes, or as tasks of a
Ray cluster (`optim_study.ray_engine`). An engine has

places   the device of each worker
submit   start a job on a free worker; the future has the result of `attempt`, or an exception
deaths   exceptions that mean that the worker died; other exceptions end the run
stop     make the workers save and stop, and wait for them; a second Ctrl-C kills them at once
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from ctypes import c_bool
from dataclasses import dataclass
from typing import ClassVar

import torch

from optim_study.config import RunConfig
from optim_study.work import Job, attempt
from rhn.training.interrupts import deferred_interrupt
from rhn.utils.resources import resolve_device


@contextmanager
def engine_of(config: RunConfig) -> Iterator:
    """Open the engine that runs the workers, on the CPU or on the GPUs in turn, and close it at the
    end.
    """
    if config.engine == "ray":
        from optim_study.ray_engine import ray_tasks

        with ray_tasks(config) as engine:
            yield engine
        return
    places = ["cpu"] * (config.jobs or 1)
    if resolve_device(config.device) != "cpu":
        gpus = torch.cuda.device_count()
        places = [f"cuda:{k % gpus}" for k in range(config.jobs or gpus)]
    if len(places) == 1:
        yield ThisProcess(places)
        return
    with closing(Processes(places)) as engine:
        yield engine


@dataclass
class ThisProcess:
    """Run one job at a time in this process."""

    places: Sequence[str]
    deaths: ClassVar[tuple] = ()

    def submit(self, place: int, job: Job, on_epoch: Callable[[int], None]) -> Future:
        future: Future = Future()
        future.set_result(attempt(job, lambda: False, on_epoch))
        return future

    def stop(self, running: Sequence[Future]) -> None:
        pass


class Processes:
    """Run the jobs of each worker in a spawned process. If one dies, the others go on."""

    deaths = BrokenProcessPool

    def __init__(self, places: Sequence[str]):
        self.places, self._context = places, multiprocessing.get_context("spawn")
        # without a lock, which a killed worker might hold
        self._stopping = self._context.RawValue(c_bool, False)
        self._pools: dict[int, ProcessPoolExecutor] = {}

    def submit(self, place: int, job: Job, on_epoch: Callable[[int], None]) -> Future:
        try:
            with _spawning():
                if place not in self._pools:  # the first starts Python's resource tracker
                    pool = ProcessPoolExecutor(1, self._context, _begin, (self._stopping,))
                    self._pools[place] = pool
                return self._pools[place].submit(_work_in_process, job)
        except BrokenProcessPool:  # it died without a job
            del self._pools[place]
            return self.submit(place, job, on_epoch)

    def stop(self, running: Sequence[Future]) -> None:
        self._stopping.value = True
        try:
            wait(running)
        except KeyboardInterrupt:
            for process in multiprocessing.active_children():
                process.kill()
            raise

    def close(self) -> None:
        for pool in self._pools.values():
            pool.shutdown()


# In a worker's process:

_stopping: list = []
_busy = threading.Lock()


def _begin(stopping) -> None:
    """Prepare a worker: use one thread, the fastest choice for small networks."""
    torch.set_num_threads(1)
    _stopping.append(stopping)
    threading.Thread(target=_follow, daemon=True).start()


def _work_in_process(job: Job) -> BaseException | None:
    with _busy:
        return attempt(job, lambda: _stopping[0].value)


def _follow() -> None:
    """Wait until the driver is gone; then let the job save, and end the process."""
    if driver := multiprocessing.parent_process():
        driver.join()
    _stopping[0].value = True
    with _busy:  # the job is saved
        os._exit(0)


@contextmanager
def _spawning() -> Iterator[None]:
    """Delay Ctrl-C until the end of the block. A process that starts inside never receives Ctrl-C,
    and imports nothing from the current folder before it has our import path.
    """
    path = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    with deferred_interrupt() as interrupt:  # another thread may receive it
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.environ.pop("PYTHONSAFEPATH")
            if path is not None:
                os.environ["PYTHONSAFEPATH"] = path
    if interrupt.pending:
        raise KeyboardInterrupt
