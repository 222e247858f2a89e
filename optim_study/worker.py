"""Train a batch of trials as one program: `work(job)` depends only on the job and on the saved states in its folder.

It saves the state of every trial each minute and, when a trial ends, its best weights and then its record. It may be killed at any
moment: another call with the same job goes on from the states, to the same curves.
"""

import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from optim_study.backend import TorchBackend
from optim_study.folder import StudyFolder, TrialRecord
from optim_study.protocol import StudyConfig
from rhn.cli.entry import own_cell, users_frames
from rhn.errors import RhnError
from rhn.kernels.table import recorded_choices, recurrence_words
from rhn.training.state import Interrupted, TrialState, deferred_interrupt


@dataclass(frozen=True)
class Job:
    """A batch of trials of one study; can be sent to another process."""

    config: StudyConfig
    numbers: tuple[int, ...]
    out: Path
    """The folder of the run."""
    backend: TorchBackend
    save_seconds: float = 60.0
    """Save all live trials after so many seconds."""


class OutOfMemory(RhnError):
    """The device has too little memory for the batch."""


def attempt(
    job: Job, stopping: Callable[[], bool], on_epoch: Callable[[], None] = lambda: None
) -> BaseException | None:
    """Call `work`; returns its exception, ready to be sent to another process, or None."""
    try:
        with own_cell(job.config.arch):
            work(job, stopping, on_epoch)
    except (RhnError, Interrupted) as error:
        error.frames = users_frames(error)
        return error
    except Exception as error:
        if _is_of_memory(error):
            return OutOfMemory(f"one trial of study {job.config.name} does not fit the memory: {error}")
        return RuntimeError(f"a worker failed:\n{traceback.format_exc()}")
    return None


def work(job: Job, stopping: Callable[[], bool] = lambda: False, on_epoch: Callable[[], None] = lambda: None) -> None:
    """Train the trials of a job that have no record to their ends.

    stopping: True if the work should end after this epoch.
    on_epoch: called after every epoch.

    Raises:
        Interrupted: Ctrl-C, or `stopping`; everything is saved.
        OutputError: the disk is full; what is saved is intact.
    """
    folder = StudyFolder(job.out, job.config)
    folder.make()
    with deferred_interrupt() as interrupt:
        batch = _Batch(job, folder, lambda: interrupt.pending or stopping(), on_epoch)
        batch.run()


@dataclass
class _Batch:
    job: Job
    folder: StudyFolder
    stopping: Callable[[], bool]
    on_epoch: Callable[[], None]
    states: dict[int, TrialState | None] = field(default_factory=dict)
    """Unfinished trial -> its last state, None for a new one."""
    saved: float = field(default_factory=time.monotonic)
    """Time of the last save."""
    recurrence: str | None = None
    """The implementation of the recurrence, known after the first epoch."""

    def run(self) -> None:
        left = [n for n in self.job.numbers if self.folder.load_record(n) is None]
        self.states = {n: self.folder.load_state(n) for n in left}
        while self.states:
            self._train(*next_group({n: state.epoch if state else -1 for n, state in self.states.items()}))

    def _train(self, numbers: list[int], until: int | None) -> None:
        """Train trials of one epoch as one program, to their ends or to the epoch `until`."""
        settings = {n: self.job.config.settings(n) for n in numbers}
        saved = {n: self.states[n] for n in numbers if self.states[n]}
        fused = self.job.backend.start(self.job.config, settings, saved)
        self._finish_ended(fused, numbers)
        while fused.live() and fused.epoch != until:
            with recorded_choices() as choices:
                fused.run_epoch()
            self.recurrence = recurrence_words(choices) if choices else None
            self._finish_ended(fused, numbers)
            stop = self.stopping()
            if stop or time.monotonic() - self.saved >= self.job.save_seconds:
                self._save(fused)
            if stop and self.states:
                raise Interrupted(
                    f"study {self.job.config.name} was stopped with its {len(self.states)} running trials saved in "
                    f"{self.folder.folder}; run the same command again to go on"
                )
            self.on_epoch()
        self.states.update({n: fused.state(n) for n in fused.live()})

    def _save(self, fused) -> None:
        for number in fused.live():
            self.folder.save_state(number, fused.state(number))
        self.saved = time.monotonic()

    def _finish_ended(self, fused, numbers: Iterable[int]) -> None:
        live = set(fused.live())
        for number in numbers:
            if number in self.states and number not in live:
                self._finish(fused, number)

    def _finish(self, fused, number: int) -> None:
        config, backend = self.job.config, self.job.backend
        row, settings = backend.row(config, fused, number), asdict(config.settings(number))
        about = {"study": config.protocol(), "trial": number, "settings": settings, "outcome": row.results}
        backend.write_best(self.folder.model_path(number), fused, number, **about)
        self.folder.save_record(number, TrialRecord(row, fused.curve(number), self.recurrence))
        del self.states[number]


def next_group(epochs: Mapping[int, int]) -> tuple[list[int], int | None]:
    """Choose the trials at the least epoch, and the next higher epoch, up to which they train.

    >>> next_group({0: 40, 1: 20, 2: 40, 3: 20}), next_group({0: 40, 2: 40})
    (([1, 3], 40), ([0, 2], None))
    """
    least = min(epochs.values())
    ahead = [epoch for epoch in epochs.values() if epoch > least]
    return [number for number, epoch in epochs.items() if epoch == least], min(ahead, default=None)


def _is_of_memory(error: Exception) -> bool:
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
    )
