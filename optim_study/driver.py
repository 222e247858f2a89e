"""The driver of a run gives batches of trials to an engine and mirrors the record of each finished
trial in the storage; nothing else writes there.

The driver saves no state of its own: the records show which trials are left. If a worker dies,
another worker continues the batch from the last save. After three deaths without a new save, the
trials of the batch run one by one. A single trial is given up after three deaths.
"""

import logging
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field, replace
from typing import Any

from optim_study.backend import TorchBackend
from optim_study.config import StudyConfig
from optim_study.folder import StudyFolder
from optim_study.results import TrialRow
from optim_study.storage import Storage
from optim_study.work import Job, OutOfMemory
from rhn.errors import first_line
from rhn.training.interrupts import STOPPING
from rhn.utils.io import remove_leftovers
from rhn.utils.progress import Advance

_logger = logging.getLogger(__name__)

DEATHS = 3  # of a batch without a save between them
LISTEN_SECONDS = 0.2  # interval of looking for new records
POLL_SECONDS = 3.0  # interval of reading the saved states for the progress


@dataclass
class Study:
    """One study of a run, with the trials that are finished, running and given up, and why. fuse:
    the largest number of trials in a batch.
    """

    config: StudyConfig
    folder: StudyFolder
    fuse: int
    rows: dict[int, TrialRow] = field(default_factory=dict)
    running: set[int] = field(default_factory=set)
    given_up: dict[int, str] = field(default_factory=dict)

    @property
    def left(self) -> list[int]:
        """Numbers of the trials that are not complete."""
        return [number for number in range(self.config.trials) if number not in self.rows]

    def epochs(self) -> tuple[int, int]:
        """Return (epochs done, epochs in all), with all that unfinished trials may need."""
        saved = self.folder.epochs(self.left)
        done = sum(row.epochs for row in self.rows.values()) + sum(saved.values())
        return done, done + len(self.left) * self.config.epochs - sum(saved.values())


@dataclass(frozen=True)
class TrialBatch:
    """Trials of one study for one worker, with the number of deaths of its workers since the last
    save, and the epochs of the saved states when a worker last got the batch.
    """

    study: Study
    numbers: tuple[int, ...]
    deaths: int = 0
    epochs: Mapping[int, int] = field(default_factory=dict)


class Driver:
    """Run trials until each trial of the studies has a record or is given up. backends: those of
    the workers, in the order of the engine's places.
    """

    def __init__(
        self,
        studies: Sequence[Study],
        storage: Storage,
        engine: Any,
        backends: Sequence[TorchBackend],
        save_seconds: float,
    ):
        self._studies, self._storage, self._engine = studies, storage, engine
        self._backends, self._save_seconds = backends, save_seconds
        self._running: dict[Future, tuple[int, TrialBatch]] = {}
        self._looked = self._shown = 0.0
        self._counted = 0  # epochs of this process since the start
        for study in studies:
            self._collect(study, range(study.config.trials))
        self._begun = self.epochs()[0]

    def epochs(self) -> tuple[int, int]:
        """Return (epochs done, epochs in all) of all studies, by their records and saved states."""
        counts = [study.epochs() for study in self._studies]
        return sum(done for done, _ in counts), sum(total for _, total in counts)

    def run(self, advance: Advance | None = None) -> None:
        """Start batches until no trial is left, and call `advance` with the epochs done and those
        in all. Raises the error of a worker, or KeyboardInterrupt after Ctrl-C, when all workers
        have saved.
        """
        self._advance, self._free = advance, list(range(len(self._engine.places)))
        self._queue = deque(TrialBatch(s, tuple(s.left)) for s in self._studies if s.left)
        try:
            while self._queue or self._running:
                while self._queue and self._free:
                    self._hand_out(self._free.pop(0))
                ended, _ = wait(self._running, LISTEN_SECONDS, FIRST_COMPLETED)
                self._look(0)
                for future in ended:
                    place, batch = self._running.pop(future)
                    self._free.append(place)
                    self._settle(batch, future.exception() or future.result())
        except BaseException:
            if running := [future for future in self._running if not future.done()]:
                _logger.warning(STOPPING)
            self._engine.stop(running)
            raise
        for study in self._studies:
            self._collect(study, range(study.config.trials))  # also what killed workers have left
            remove_leftovers(study.folder.trials)

    def _hand_out(self, place: int) -> None:
        """Start the first batch of the queue; trials above the number `fuse` stay in the queue."""
        batch = self._queue.popleft()
        study = batch.study
        numbers, others = batch.numbers[: study.fuse], batch.numbers[study.fuse :]
        if others:
            self._queue.appendleft(replace(batch, numbers=others))
        study.running.update(numbers)
        batch = replace(batch, numbers=numbers, epochs=study.folder.epochs(numbers))
        job = Job(study.folder, numbers, self._backends[place], self._save_seconds)
        future = self._engine.submit(place, job, self._count)
        self._running[future] = place, batch

    def _count(self, epochs: int) -> None:
        """Count epochs that a worker in this process has done, and look for new records."""
        self._counted += epochs
        self._look()

    def _look(self, pause: float = LISTEN_SECONDS) -> None:
        """Collect those running trials that have ended, if the last look was `pause` ago."""
        if time.monotonic() - self._looked < pause:
            return
        for study in self._studies:
            self._collect(study, study.running)
        if self._advance and time.monotonic() - self._shown >= POLL_SECONDS:
            self._shown = time.monotonic()
            saved, total = self.epochs()
            self._advance(max(saved, self._begun + self._counted), total)
        self._looked = time.monotonic()

    def _collect(self, study: Study, numbers: Iterable[int]) -> None:
        """Mirror those of these trials that have ended, keep the best model, and remove their other
        files.
        """
        ended = sorted(study.folder.recorded().intersection(numbers)) if numbers else ()
        for number in ended:
            if number not in study.rows and (record := study.folder.load_record(number)):
                self._storage.add(study.config, record)
                study.rows[number] = record.row
        if study.rows and ended:
            losses = {n: row.loss(study.config.objective) for n, row in study.rows.items()}
            best = min(losses, key=lambda n: (losses[n], n))
            for number in study.rows.keys() & ended:
                study.folder.settle(number, best=number == best)
        study.running -= study.rows.keys()

    def _settle(self, batch: TrialBatch, error: BaseException | None) -> None:
        """Continue after the end of a worker's job."""
        study = batch.study
        study.running.difference_update(batch.numbers)
        left = tuple(number for number in batch.numbers if number not in study.rows)
        if isinstance(error, self._engine.deaths):
            if left:
                self._hand_out_again(batch, left, first_line(error))
            return
        if isinstance(error, OutOfMemory) and len(left) > 1:
            study.fuse = len(left) // 2
            words = "study %s: too little memory for %d trials, continuing with %d"
            _logger.warning(words, study.config.name, len(left), study.fuse)
        elif error is not None:
            raise error
        if left:  # too many for the memory, or a record was damaged
            self._queue.appendleft(TrialBatch(study, left))

    def _hand_out_again(self, batch: TrialBatch, left: tuple[int, ...], cause: str) -> None:
        study, name = batch.study, batch.study.config.name
        saved = left != batch.numbers or study.folder.epochs(left) != batch.epochs
        deaths = 1 if saved else batch.deaths + 1
        _logger.warning("a worker of study %s died (%s)", name, cause)
        if deaths < DEATHS:
            self._queue.appendleft(replace(batch, numbers=left, deaths=deaths))
        elif len(left) > 1:
            self._queue.extendleft(TrialBatch(study, (number,)) for number in reversed(left))
        else:
            study.given_up[left[0]] = f"its worker died {DEATHS} times ({cause})"
