"""The driver of a run: the only writer of the storage. It hands batches of trials to an engine and adds each finished record.

It is stateless as well: what is left to do follows from the storage and the folder. A batch whose worker died is handed out again and
goes on from its last save. If a batch dies three times without a new save, its trials run one by one; a single trial that does so is
given up.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field, replace

from optim_study.engines import Processes, ThisProcess
from optim_study.folder import StudyFolder
from optim_study.protocol import StudyConfig
from optim_study.results import Row, best_row
from optim_study.storage import Storage
from optim_study.worker import Job, OutOfMemory
from rhn.training.state import STOPPING
from rhn.utils.wording import first_line

_logger = logging.getLogger(__name__)

DEATHS = 3  # of a batch without a save between them
LISTEN_SECONDS = 0.2  # interval of looking for new records


@dataclass(frozen=True)
class Batch:
    """Trials of one study for one worker."""

    study: str
    numbers: tuple[int, ...]
    alone: bool = False
    """True for a trial of a batch that died too often."""
    deaths: int = 0
    """Deaths of its workers since the last save."""
    epochs: Mapping[int, int] = field(default_factory=dict)
    """Trial -> epoch of its saved state, when the batch was handed out last."""


@dataclass
class Study:
    """One study of a run, as the driver sees it."""

    config: StudyConfig
    folder: StudyFolder
    fuse: int
    """The most trials of a batch."""
    rows: dict[int, Row] = field(default_factory=dict)
    """The trials in the storage."""
    running: set[int] = field(default_factory=set)
    """The unfinished trials that workers have now."""
    recurrence: str | None = None
    """The implementation of the recurrence of the last finished trial."""
    given_up: dict[int, str] = field(default_factory=dict)
    """Trial -> why this run gave it up."""

    @property
    def is_complete(self) -> bool:
        """True if the storage has every trial."""
        return all(number in self.rows for number in range(self.config.trials))

    def left(self) -> tuple[int, ...]:
        """The unfinished trials, begun ones first."""
        left = [n for n in range(self.config.trials) if n not in self.rows]
        begun = self.folder.epochs(left)
        return tuple(sorted(left, key=lambda n: n not in begun))


class Driver:
    """Works until every trial of the studies is in the storage, or given up."""

    def __init__(
        self,
        studies: Sequence[Study],
        storage: Storage,
        engine: ThisProcess | Processes,
        job: Callable[[Study, Sequence[int], int], Job],
    ):
        """job: from a study, trials and the number of a place of the engine to the job."""
        self.studies = {study.config.name: study for study in studies}
        self._storage, self._engine, self._job = storage, engine, job
        self._places: dict[int, Batch] = {}
        self._futures: dict[Future, int] = {}
        self._looked = 0.0
        for study in studies:
            self._take_stock(study)

    def run(self, watch: Callable[[], None] = lambda: None) -> None:
        """Hand out batches until nothing is left; watch: called several times a second.

        Raises the error of a worker, and KeyboardInterrupt after Ctrl-C, when all have saved.
        """
        self._watch = watch
        self._queue = deque(Batch(name, left) for name, study in self.studies.items() if (left := study.left()))
        try:
            while self._queue or self._places:
                self._hand_out()
                ended, _ = wait(self._futures, LISTEN_SECONDS, FIRST_COMPLETED)
                self._look()
                for future in ended:
                    self._settle(future, self._places.pop(self._futures.pop(future)))
        except BaseException:
            running = [future for future in self._futures if not future.done()]
            if running:
                _logger.warning(STOPPING)
            self._engine.stop(running)
            raise

    def _take_stock(self, study: Study) -> None:
        """Read the finished trials, and add those whose record a killed driver has left."""
        study.folder.make()
        study.rows = self._storage.rows(study.config)
        for number in study.folder.recorded():
            if number < study.config.trials and (number not in study.rows or study.folder.is_unsettled(number)):
                self._add(study, number)

    def _hand_out(self) -> None:
        for place in range(len(self._engine.places)):
            if place not in self._places and self._queue:
                batch = self._next()
                study = self.studies[batch.study]
                study.running.update(batch.numbers)
                self._places[place] = replace(batch, epochs=study.folder.epochs(batch.numbers))
                job = self._job(study, batch.numbers, place)
                self._futures[self._engine.submit(place, job, self._look_sometimes)] = place

    def _next(self) -> Batch:
        """The first of the queue, at most as many trials as its study fuses."""
        batch = self._queue.popleft()
        most = self.studies[batch.study].fuse
        if others := batch.numbers[most:]:
            self._queue.appendleft(replace(batch, numbers=others))
        return replace(batch, numbers=batch.numbers[:most])

    def _look_sometimes(self) -> None:
        if time.monotonic() - self._looked >= LISTEN_SECONDS:
            self._look()

    def _look(self) -> None:
        """Add the running trials that have ended."""
        for study in self.studies.values():
            for number in study.running.intersection(study.folder.recorded() if study.running else ()):
                self._add(study, number)
        self._watch()
        self._looked = time.monotonic()

    def _add(self, study: Study, number: int) -> None:
        record = study.folder.load_record(number)
        if record is None:  # the trial is trained again
            study.folder.remove_record(number)
            return
        self._storage.add(study.config, record)
        study.rows[number] = record.row
        study.folder.settle(number, best=best_row(study.rows.values(), study.config.objective) is record.row)
        study.recurrence = record.recurrence or study.recurrence
        study.running.discard(number)

    def _settle(self, future: Future, batch: Batch) -> None:
        """Go on after the end of a worker's job."""
        study = self.studies[batch.study]
        study.running.difference_update(batch.numbers)
        left = tuple(n for n in batch.numbers if n not in study.rows)
        error = future.exception() or future.result()
        if isinstance(error, self._engine.deaths):
            self._hand_out_again(study, batch, left, error)
            return
        if isinstance(error, OutOfMemory) and len(left) > 1:
            study.fuse = len(left) // 2
            _logger.warning(
                "study %s: too little memory for %d trials, going on with %d", batch.study, len(left), study.fuse
            )
        elif error is not None:
            raise error
        if left:  # too many for the memory, or a record was damaged
            self._queue.appendleft(Batch(batch.study, left))

    def _hand_out_again(self, study: Study, batch: Batch, left: tuple[int, ...], cause: BaseException) -> None:
        if not left:
            return
        saved = left != batch.numbers or study.folder.epochs(left) != batch.epochs
        deaths = 1 if saved else batch.deaths + 1
        cause = first_line(cause)
        _logger.warning("a worker of study %s died (%s): its trials go on from their last save", batch.study, cause)
        if deaths < DEATHS:
            self._queue.appendleft(replace(batch, numbers=left, deaths=deaths))
        elif not batch.alone:
            self._queue.extendleft(Batch(batch.study, (number,), alone=True) for number in reversed(left))
        else:
            reason = study.given_up[left[0]] = f"its worker died {DEATHS} times in a row before it could save ({cause})"
            self._storage.give_up(study.config, left[0], reason)
