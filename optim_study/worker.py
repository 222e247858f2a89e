"""Claim trials, train them as one program, save and report them, until the study has none left.

Any number of workers may work on a study at once, and any of them may be killed at any moment: the next worker to claim a trial goes on
from its saved state, to the same curve. The order is always state first, then reports; at the end best model, record, reports,
completion: another worker can do from the files what a kill has left undone.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from optim_study.backend import Backend, FusedTrials, Outcome
from optim_study.locks import LocksLostError
from optim_study.study import Claim, SharedStudy, TrialRecord
from rhn.training.state import TrialState
from rhn.utils.interrupts import Interrupted, InterruptRequest, deferred_interrupt

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Event:
    """An event in a study."""

    study: str
    """Name of the study."""


@dataclass(frozen=True, kw_only=True)
class Claimed(Event):
    """A worker has claimed trials."""

    epochs: Mapping[int, int]
    """Trial -> its last saved epoch, 0 for a new one."""


@dataclass(frozen=True, kw_only=True)
class Begun(Event):
    """A worker has trained its first fused trials of a study for one epoch."""

    recurrence: str
    """The implementation of the recurrence."""


@dataclass(frozen=True, kw_only=True)
class EpochDone(Event):
    """Fused trials have trained for one epoch."""

    epoch: int
    """Epochs of training done."""
    live: tuple[int, ...]
    """The trials that are still training."""


@dataclass(frozen=True, kw_only=True)
class Saved(Event):
    """A worker has saved trials and reported their losses."""

    epoch: int
    numbers: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Finished(Event):
    """A trial is complete."""

    number: int
    outcome: Outcome


@dataclass(frozen=True, kw_only=True)
class WorkOptions:
    """Options of a worker that change no result."""

    fuse: int = 1
    """Number of trials to claim and train as one program."""
    wait: bool = True
    """Stay until the whole study is finished, to take over from workers that die; otherwise leave when no trial is free."""
    save_seconds: float = 60.0
    """Save all live trials after so many seconds."""
    save_epochs: int | None = None
    """Save also after so many epochs."""
    poll_seconds: float = 1.0
    """Interval between two looks for free trials during a wait."""


def work(
    study: SharedStudy, backend: Backend, options: WorkOptions, on_event: Callable[[Event], None] = lambda event: None
) -> None:
    """Work until the study has no free trial left (with `wait`: until it is finished).

    Raises:
        Interrupted: Ctrl-C; everything is saved.
        OutputError: the disk is full or the storage fails; the study is intact.
    """
    begun = False
    with deferred_interrupt() as interrupt:
        while True:
            if interrupt.pending:
                raise Interrupted(f"study {study.config.name} was stopped; run the same command again to go on")
            try:
                claims = study.claim(options.fuse)
                if claims:
                    batch = _Batch(study, backend, options, on_event, interrupt, begun=begun)
                    batch.run(claims)
                    begun = batch.begun
                elif options.wait and not study.is_finished():
                    time.sleep(options.poll_seconds)
                else:
                    return
            except LocksLostError:
                _logger.warning("study %s: a connection was cut, its trials will be claimed again", study.config.name)
            finally:
                study.release()


@dataclass
class _Batch:
    """The trials that a worker holds at one time."""

    study: SharedStudy
    backend: Backend
    options: WorkOptions
    on_event: Callable[[Event], None]
    interrupt: InterruptRequest
    claims: dict[int, Claim] = field(default_factory=dict)
    """The unfinished ones."""
    states: dict[int, TrialState | None] = field(default_factory=dict)
    """The saved state of each, None for a new one."""
    last_save: float = field(default_factory=time.monotonic)
    begun: bool = False
    """True after the event `Begun`."""

    def run(self, claims: Iterable[Claim]) -> None:
        self._take(claims)
        while self.claims:
            numbers, until = next_group({n: state.epoch if state else -1 for n, state in self.states.items()})
            self._train(numbers, until)

    def _take(self, claims: Iterable[Claim]) -> None:
        """Load the states of claimed trials; complete those with a record."""
        folder = self.study.folder
        for claim in claims:
            record = folder.load_record(claim.number)
            if record:
                self.study.complete(claim, record)
                self._emit(Finished, number=claim.number, outcome=record.outcome)
                continue
            self.claims[claim.number] = claim
            self.states[claim.number] = folder.load_state(claim.number)
            if claim.reported and not self.states[claim.number]:
                _logger.warning(
                    "trial %d of study %s was begun elsewhere and has no usable state in %s: "
                    "it starts again from epoch 0, to the same result",
                    claim.number,
                    self.study.config.name,
                    folder.folder,
                )
        if self.claims:
            self._emit(Claimed, epochs={n: state.epoch if state else 0 for n, state in self.states.items()})

    def _train(self, numbers: list[int], until: int | None) -> None:
        """Train trials of one epoch as one program, to their ends or to the epoch `until`."""
        fused = self.backend.start(
            self.study.config,
            {n: self.claims[n].settings for n in numbers},
            {n: self.states[n] for n in numbers if self.states[n]},
        )
        self._settle(fused, numbers, save=False)
        while fused.live() and fused.epoch != until:
            fused.run_epoch()
            if not self.begun:
                self.begun, recurrence = True, self.backend.recurrence(fused)
                if recurrence:
                    self._emit(Begun, recurrence=recurrence)
            self._emit(EpochDone, epoch=fused.epoch, live=tuple(fused.live()))
            stop = self.interrupt.pending
            by_epochs = self.options.save_epochs and fused.epoch % self.options.save_epochs == 0
            by_time = time.monotonic() - self.last_save >= self.options.save_seconds
            self._settle(fused, numbers, save=stop or by_epochs or by_time)
            if stop and self.claims:
                raise Interrupted(
                    f"study {self.study.config.name} was stopped with its {len(self.claims)} running trials saved in "
                    f"{self.study.folder.folder}; run the same command again to go on"
                )
        self.states.update({n: fused.state(n) for n in fused.live()})

    def _settle(self, fused: FusedTrials, numbers: Iterable[int], *, save: bool) -> None:
        """Finish the trials that have ended and save the others if `save`; skip those that another worker has taken over."""
        live = set(fused.live())
        pending = [n for n in numbers if n in self.claims]
        if live.issuperset(pending) and not save:
            return
        lost = self.study.lost(self.claims.values())
        saved = []
        for number in pending:
            if number in lost:
                continue
            if number not in live:
                self._finish(fused, number)
            elif save or lost:
                self.study.folder.save_state(number, fused.state(number))
                self.study.report(self.claims[number], fused.curve(number))
                saved.append(number)
        if saved:
            self.last_save = time.monotonic()
            self._emit(Saved, epoch=fused.epoch, numbers=tuple(saved))
        if lost:
            raise LocksLostError

    def _finish(self, fused: FusedTrials, number: int) -> None:
        config, claim = self.study.config, self.claims[number]
        record = TrialRecord(self.backend.outcome(config, fused, number), fused.curve(number))
        about = {"study": config.protocol(), "trial": number, "settings": asdict(claim.settings)}

        def write_best(path: Path, mark: Mapping[str, object]) -> None:
            self.backend.write_best(path, fused, number, **about, outcome=asdict(record.outcome), kept=mark)

        self.study.finish(claim, record, write_best)
        del self.claims[number], self.states[number]
        self._emit(Finished, number=number, outcome=record.outcome)

    def _emit(self, event: type[Event], **details) -> None:
        self.on_event(event(study=self.study.config.name, **details))


def next_group(epochs: Mapping[int, int]) -> tuple[list[int], int | None]:
    """Choose the trials at the least epoch, and the next higher epoch, up to which they train.

    >>> next_group({0: 40, 1: 20, 2: 40, 3: 20}), next_group({0: 40, 2: 40})
    (([1, 3], 40), ([0, 2], None))
    """
    least = min(epochs.values())
    ahead = [epoch for epoch in epochs.values() if epoch > least]
    return [number for number, epoch in epochs.items() if epoch == least], min(ahead, default=None)
