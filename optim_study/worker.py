"""Train a batch of trials as one program: `work(job)` depends only on the job and on the saved
states in its folder.

A worker saves the state of every trial each minute. When a trial ends, the worker saves first its
best weights and then its record. A worker may be killed at any moment: another call with the same
job continues from the states, to the same curves. If two workers train the same trial, for example
after a driver was killed, the worker that ends later writes nothing.
"""

import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from optim_study.backend import TorchBackend
from optim_study.folder import StudyFolder, TrialRecord
from optim_study.protocol import StudyConfig
from rhn.cli.entry import users_frames
from rhn.errors import RhnError, UsersCodeError, is_out_of_memory
from rhn.training.interrupts import Interrupted, deferred_interrupt
from rhn.training.state import TrialState


@dataclass(frozen=True)
class Job:
    """A batch of trials of one study, with all that a worker needs. A job can be pickled."""

    config: StudyConfig
    numbers: tuple[int, ...]
    out: Path
    """The folder of the run."""
    backend: TorchBackend
    save_seconds: float = 60.0
    """Seconds between two saves of all running trials."""

    @property
    def folder(self) -> StudyFolder:
        """The folder of the study."""
        return StudyFolder(self.out, self.config)


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
            return OutOfMemory(
                f"one trial of study {job.config.name} does not fit the memory: {error}"
            )
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
    different epochs, the trials of each epoch are trained as a group.

    stopping: returns True if the work should end before the next epoch.
    on_epoch: called before every epoch.

    Raises:
        Interrupted: after Ctrl-C or `stopping`; everything is saved.
        OutputError: the disk is full; what is saved is intact.
    """
    job.folder.make()
    left = [number for number in job.numbers if job.folder.load_record(number) is None]
    states = {number: job.folder.load_state(number) for number in left}
    epochs = {number: state.epoch if state else -1 for number, state in states.items()}
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
    """Train trials that are at the same epoch as one program."""
    settings = {number: job.config.settings(number) for number in states}
    fused = job.backend.start(
        job.config, settings, {number: state for number, state in states.items() if state}
    )
    left, saved = list(states), time.monotonic()
    while True:
        live = fused.live()
        _finish(job, fused, [number for number in left if number not in live])
        if not live:
            return
        left, stop = live, stopping()
        if stop or time.monotonic() - saved >= job.save_seconds:
            _save(job, fused, live)
            saved = time.monotonic()
        if stop:
            raise Interrupted(
                f"study {job.config.name} was stopped with its {len(live)} running trials saved "
                f"in {job.folder.path}; run the same command again to continue"
            )
        on_epoch()
        fused.run_epoch()


def _save(job: Job, fused, live: Iterable[int]) -> None:
    """Save the states of running trials."""
    for number in sorted(set(live) - job.folder.recorded()):
        job.folder.save_state(number, fused.state(number))


def _finish(job: Job, fused, ended: Iterable[int]) -> None:
    """Write the best weights, and then the record, of each trial that has ended."""
    config, folder = job.config, job.folder
    for number in ended:
        if number in folder.recorded():
            continue
        row = job.backend.row(config, fused, number)
        about = config.trial(number) | {"outcome": row.results}
        job.backend.write_best(folder.model_path(number), fused, number, **about)
        folder.save_record(number, TrialRecord(row, fused.curve(number)))
