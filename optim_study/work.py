"""Train a batch of trials of one study as one program, in a worker.

`work(job)` depends only on the job and on the saved states in its folder, and may be killed at any
moment: another call continues to the same curves. If two workers train the same trial, the worker
that ends later writes nothing.
"""

import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from optim_study.backend import TorchBackend
from optim_study.folder import Record, StudyFolder
from rhn.cli.entry import users_frames
from rhn.errors import RhnError, UsersCodeError, is_out_of_memory
from rhn.training.interrupts import Interrupted, deferred_interrupt
from rhn.training.state import TrialState
from rhn.training.trainer import Trainer
from rhn.utils.io import writing


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
    job: Job, stopping: Callable[[], bool], on_epoch: Callable[[int], None] = lambda count: None
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
    on_epoch: Callable[[int], None] = lambda count: None,
) -> None:
    """Train the trials of a job that have no record yet. If a kill during a save has left trials at
    different epochs, the trials of each epoch are trained as a group. If `stopping` returns True
    before an epoch, or after Ctrl-C, everything is saved and Interrupted raised.
    """
    with writing(job.folder.trials):
        job.folder.trials.mkdir(parents=True, exist_ok=True)
    left = [number for number in job.numbers if job.folder.load_record(number) is None]
    states = {number: job.folder.load_state(number) for number in left}
    # of their curves, with a row for the weights before training
    lengths = {number: len(state.curve) if state else 0 for number, state in states.items()}
    with deferred_interrupt() as interrupt:
        for length in sorted(set(lengths.values()), reverse=True):
            group = {number: states[number] for number in left if lengths[number] == length}
            _train(job, group, lambda: interrupt.pending or stopping(), on_epoch)


def _train(
    job: Job,
    states: Mapping[int, TrialState | None],
    stopping: Callable[[], bool],
    on_epoch: Callable[[int], None],
) -> None:
    """Train trials that are at the same epoch as one program, and call `on_epoch` with the number
    of trials that did an epoch.
    """
    config = job.folder.config
    found = {number: state for number, state in states.items() if state is not None}
    settings = {number: config.settings(number) for number in states}
    fused = job.backend.start(config, settings, found)
    left, saved, epochs = set(states), time.monotonic(), 0
    while True:
        on_epoch(epochs)
        live = set(fused.live())
        for number in sorted(left - live - job.folder.recorded()):
            _record(job, fused, number)
        if not live:
            return
        left, stop = live, stopping()
        is_time_to_save = time.monotonic() - saved >= job.save_seconds
        if stop or is_time_to_save:
            _save(job, fused, live)
            saved = time.monotonic()
        if stop:
            raise Interrupted(f"{len(live)} running trials are saved in {job.folder.path}")
        fused.run_epoch()
        epochs = len(live)


def _save(job: Job, fused: Trainer, live: set[int]) -> None:
    """Save the states of these trials, but of those that another worker has ended."""
    for number in sorted(live - job.folder.recorded()):
        job.folder.save_state(number, fused.state(number))


def _record(job: Job, fused: Trainer, number: int) -> None:
    """Write the best weights of a trial that has ended, and then its record."""
    config = job.folder.config
    row = job.backend.row(config, fused, number)
    about = config.trial(number) | {"outcome": row.results}
    file = job.folder.file(number, "-best.safetensors")
    job.backend.write_best(file, fused, number, **about)
    job.folder.save_record(Record(row, fused.curve(number)))
