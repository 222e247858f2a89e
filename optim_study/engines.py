"""Workers, and the engines that run them in this process or in spawned processes of this machine.

`work(job)` trains a batch of trials as one program. It depends only on the job and on the saved
states in its folder, and may be killed at any moment: another call continues to the same curves. If
two workers train the same trial, the worker that ends later writes nothing. An engine has

places   the device of each worker
submit   start a job on a free worker; the future has the result of `attempt`, or an exception
deaths   exceptions that mean that the worker died; other exceptions end the run
stop     make the workers save and stop, and wait for them; a second Ctrl-C kills them at once
"""

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from operator import itemgetter

from optim_study.backend import TorchBackend
from optim_study.folder import StudyFolder
from rhn.cli.entry import users_frames
from rhn.errors import RhnError, UsersCodeError, is_out_of_memory
from rhn.training.interrupts import Interrupted, deferred_interrupt
from rhn.training.state import TrialState


@dataclass(frozen=True)
class Job:
    """A batch of trials of one study; all that a worker needs."""

    folder: StudyFolder
    numbers: tuple[int, ...]
    backend: TorchBackend
    save_seconds: float = 60.0


class OutOfMemory(RhnError):
    """The device does not have enough memory for the batch."""


def attempt(
    job: Job, stopping: Callable[[], bool], on_epoch: Callable[[], None] = lambda: None
) -> BaseException | None:
    """Call `work`, and return its exception, or None. The exception can be pickled."""
    try:
        work(job, stopping, on_epoch)
    except (RhnError, Interrupted) as error:
        vars(error).update(frames=users_frames(error))
        return error
    except (Exception, SystemExit) as error:
        if is_out_of_memory(error):
            return OutOfMemory(f"{job.folder.path.name} does not fit the memory: {error}")
        if frames := users_frames(error):
            failed = UsersCodeError(f"{type(error).__name__}: {error}")
            vars(failed).update(frames=frames)
            return failed
        return RuntimeError(f"a worker failed:\n{traceback.format_exc()}")
    return None


def work(
    job: Job,
    stopping: Callable[[], bool] = lambda: False,
    on_epoch: Callable[[], None] = lambda: None,
) -> None:
    """Train the trials of a job that have no record yet. If a kill during a save has left trials at
    different epochs, the trials of each epoch are trained as a group. If `stopping` returns True
    before an epoch, or after Ctrl-C, everything is saved and Interrupted raised.
    """
    job.folder.make()
    left = [number for number in job.numbers if job.folder.load_record(number) is None]
    states = {number: job.folder.load_state(number) for number in left}
    epochs = {number: len(state.curve) - 1 if state else -1 for number, state in states.items()}
    with deferred_interrupt() as interrupt:
        for epoch in sorted(set(epochs.values()), reverse=True):
            group = {number: states[number] for number in left if epochs[number] == epoch}
            _train(job, group, lambda: interrupt.pending or stopping(), on_epoch)


def _train(
    job: Job,
    states: Mapping[int, TrialState | None],
    stopping: Callable[[], bool],
    on_epoch: Callable[[], None],
) -> None:
    """Train trials that are at the same epoch as one program. Of those that end without a record
    write the best weights, and then the record.
    """
    config, found = job.folder.config, dict(filter(itemgetter(1), states.items()))
    settings = {number: config.settings(number) for number in states}
    fused = job.backend.start(config, settings, found)
    left, saved = set(states), time.monotonic()
    while True:
        live = set(fused.live())
        for number in sorted(left - live - job.folder.recorded()):
            row = job.backend.row(config, fused, number)
            about = config.trial(number) | {"outcome": row.results}
            file = job.folder.file(number, "-best.safetensors")
            job.backend.write_best(file, fused, number, **about)
            job.folder.save_record(row, fused.curve(number))
        if not live:
            return
        left, stop = live, stopping()
        if stop or time.monotonic() - saved >= job.save_seconds:
            for number in sorted(live - job.folder.recorded()):
                job.folder.save_state(number, fused.state(number))
            saved = time.monotonic()
        if stop:
            raise Interrupted(f"{len(live)} running trials are saved in {job.folder.path}")
        on_epoch()
        fused.run_epoch()


@dataclass(frozen=True)
class ThisProcess:
    """Run one job at a time in this process."""

    places: Sequence[str]
    deaths: tuple = ()

    def submit(self, place: int, job: Job, on_epoch: Callable[[], None]) -> Future:
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
        self._stopping = self._context.RawValue("b", 0)
        self._pools: dict[int, ProcessPoolExecutor] = {}

    def submit(self, place: int, job: Job, on_epoch: Callable[[], None]) -> Future:
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
        self._stopping.value = 1
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
    import torch

    torch.set_num_threads(1)
    _stopping.append(stopping)
    threading.Thread(target=_follow, daemon=True).start()


def _work_in_process(job: Job) -> BaseException | None:
    with _busy:
        return attempt(job, lambda: bool(_stopping[0].value))


def _follow() -> None:
    """Wait until the driver is gone; then let the job save, and end the process."""
    if driver := multiprocessing.parent_process():
        driver.join()
    _stopping[0].value = 1
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
