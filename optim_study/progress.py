"""Measure the progress of a run and bound its time (`Progress`), and show both on stderr as a live table or plain lines.

The cost of one epoch of a trial is proportional to the network's parameters plus 4,300: measured on a CPU with 15 fused trials,
networks of 2,000 to 13,000 parameters follow this within a seventh. (The constant covers the 88 inputs and outputs and the
interpreter.) The time left assumes that no trial stops early, so it is an upper bound.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

from optim_study.plan import Planned
from optim_study.results import Counts
from optim_study.worker import Begun, Claimed, EpochDone, Event, Finished
from rhn.utils.progress import LINE_SECONDS, Speed, duration, lines_of, rate_words
from rhn.utils.wording import counted

LEAST_SECONDS = 1.0  # of a measured speed: events from other machines come in bundles
POLL_SECONDS = 3.0  # interval of looking into the storage for the work of others


@dataclass
class Progress:
    """The state of a run. `counts` come from the storage, speeds and running epochs from the events of our own workers."""

    planned: Sequence[Planned]
    counts: dict[str, Counts]
    jobs: int = 1
    clock: Callable[[], float] = time.monotonic
    _work: dict[int, Speed] = field(default_factory=dict)
    """Worker -> its work a second."""
    _paces: dict[int, tuple[str, Speed]] = field(default_factory=dict)
    """Worker -> its present study, and epochs a second in it."""
    _epochs: dict[str, dict[int, int]] = field(default_factory=dict)
    """Study -> trial -> epochs done, of trials that our workers hold."""

    def event(self, worker: int, event: Event) -> None:
        """Record an event of a worker."""
        epochs = self._epochs.setdefault(event.study, {})
        match event:
            case Claimed():
                epochs.update(event.epochs)
            case EpochDone():
                epochs.update(dict.fromkeys(event.live, event.epoch))
                work = next(p.work for p in self.planned if p.config.name == event.study)
                self._work.setdefault(worker, self._new_speed()).add(len(event.live) * work)
                if self._paces.get(worker, ("",))[0] != event.study:
                    self._paces[worker] = event.study, self._new_speed()
                self._paces[worker][1].add()
            case Finished():
                epochs.pop(event.number, None)

    @property
    def rate(self) -> float | None:
        """Work a second of all our workers together; None before it is measured."""
        mean = _mean(self._work.values())
        return None if mean is None else mean * self.jobs

    def epochs_a_second(self, study: str) -> float | None:
        """Epochs a second of a worker in a study, the mean over its workers; None before it is measured."""
        return _mean(speed for name, speed in self._paces.values() if name == study)

    def _new_speed(self) -> Speed:
        return Speed(self.clock, LEAST_SECONDS)

    def left(self, planned: Planned) -> float:
        """Work left in a study if no trial stops early."""
        counts, running = self.counts[planned.config.name], self._epochs.get(planned.config.name, {})
        trials = counts.trials - counts.complete
        return max(0, trials * planned.config.epochs - sum(running.values())) * planned.work

    def seconds_left(self, planned: Planned | None = None) -> float | None:
        """Upper bound for a study, or for the whole run; None while unknown."""
        if self.rate is None:
            return None
        return sum(map(self.left, [planned] if planned else self.planned)) / self.rate

    @property
    def complete(self) -> int:
        return sum(counts.complete for counts in self.counts.values())

    @property
    def trials(self) -> int:
        return sum(counts.trials for counts in self.counts.values())


def _mean(speeds: Iterable[Speed]) -> float | None:
    """The mean of the measured speeds."""
    rates = [speed.rate for speed in speeds if speed.rate is not None]
    return sum(rates) / len(rates) if rates else None


class Display:
    """Show a progress on stderr; `pool` calls `event` and `tick`, and `poll` reads the storage."""

    def __init__(self, progress: Progress, poll: Callable[[], dict[str, Counts]], *, live: bool, console):
        self._progress, self._poll, self._live, self._console = progress, poll, live, console
        self._polled = self._printed = progress.clock()
        self._estimated = False
        self._lines_due: set[str] = set()
        self._begun: set[str] = set()

    def event(self, worker: int, event: Event) -> None:
        self._progress.event(worker, event)
        if isinstance(event, Begun) and event.study not in self._begun:  # once, from the first worker
            self._begun.add(event.study)
            line = f"{event.study}: recurrence {event.recurrence}"
            self._console.print(lines_of(line), highlight=False, soft_wrap=True)
        if isinstance(event, Finished):
            self._lines_due.add(event.study)
        self.tick()

    def tick(self) -> None:
        """Read the storage and print if it is time."""
        now = self._progress.clock()
        if now - self._polled >= POLL_SECONDS:
            self._progress.counts, self._polled = self._poll(), now
            if not self._live:
                self._print_lines(now)
        if not self._estimated and self._progress.rate is not None:
            self._estimated = True
            self._console.print(lines_of(estimate_line(self._progress)), highlight=False, soft_wrap=True)

    def finish(self) -> None:
        """Print the last lines."""
        self._progress.counts = self._poll()
        if not self._live and self._lines_due:
            self._print_lines(self._progress.clock())

    def _print_lines(self, now: float) -> None:
        if now - self._printed >= LINE_SECONDS and not self._lines_due:
            self._lines_due = {study for study, counts in self._progress.counts.items() if counts.running}
        for planned in self._progress.planned:
            if planned.config.name in self._lines_due:
                self._console.print(study_line(self._progress, planned), highlight=False, soft_wrap=True)
                self._printed = now
        self._lines_due = set()

    def __rich__(self):
        return live_table(self._progress)


@contextmanager
def displayed(progress: Progress, poll: Callable[[], dict[str, Counts]], *, quiet: bool = False) -> Iterator[Display]:
    """Show a live table if stderr is a terminal, else lines now and then; nothing if `quiet`."""
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True, quiet=quiet)
    live = sys.stderr.isatty() and not quiet
    display = Display(progress, poll, live=live, console=console)
    with Live(display, console=console, refresh_per_second=2, transient=True) if live else nullcontext():
        yield display
        display.finish()


def estimate_line(progress: Progress) -> str:
    """The time of the run, measured on its first epochs."""
    return (
        f"{progress.trials - progress.complete} trials should take {duration(progress.seconds_left())} at most here, measured on the "
        f"first epochs of {counted(progress.jobs, 'worker')}; trials that stop early make it shorter"
    )


def study_line(progress: Progress, planned: Planned) -> str:
    """`rhn-depth4: 12 of 60 done, 15 running, 1 diverged, best 7.132`, and below it
    `  5.2 epochs/s; at most 12 min left, 35 min with the other studies`, if others are incomplete."""
    c = progress.counts[planned.config.name]
    best = "" if c.best is None else f", best {c.best:.3f}"
    line = f"{planned.config.name}: {c.complete} of {c.trials} done, {c.running} running, {c.diverged} diverged{best}"
    if progress.rate is None or c.complete == c.trials:
        return line
    left, all_left = progress.seconds_left(planned), progress.seconds_left()
    others = f", {duration(all_left)} with the other studies" if all_left > left else ""
    speed = progress.epochs_a_second(planned.config.name)
    pace = "" if speed is None else f"{rate_words(speed, 'epochs')}; "
    return f"{line}\n  {pace}at most {duration(left)} left{others}"


def live_table(progress: Progress):
    """The live table."""
    from rich.table import Table

    total = progress.seconds_left()
    left = "" if total is None else f", at most {duration(total)} left"
    title = f"{progress.complete} of {progress.trials} trials{left}"
    table = Table("study", title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name in ("done", "running", "diverged", "best", "at most"):
        table.add_column(name, justify="right")
    for planned in progress.planned:
        c, seconds = progress.counts[planned.config.name], progress.seconds_left(planned)
        best, done = "" if c.best is None else f"{c.best:.3f}", c.complete == c.trials
        words = "done" if done else "" if seconds is None else duration(seconds)
        numbers = (f"{c.complete}/{c.trials}", str(c.running), str(c.diverged), best, words)
        table.add_row(planned.config.name, *numbers, style="dim" if done else None)
    return table
