"""How far long work is, on stderr: bars that move on a terminal, a line now and then anywhere else; nothing of what is quickly done."""

import contextlib
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator

from rhn.engine.time_left import FIRST_LINE, LINE_SECONDS, duration, lines_of

Advance = Callable[[int, int], None]


@contextlib.contextmanager
def progress_bars() -> Iterator[Callable[[str], Advance]]:
    """report(title) -> callback(done, total): a bar each on a terminal, elsewhere lines about the one at work."""
    if not sys.stderr.isatty():
        with _said_now_and_then() as lines:
            yield lines.task
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bars:

        def report(title: str) -> Advance:
            task = bars.add_task(title, total=None)
            return lambda done, total: bars.update(task, completed=done, total=total)

        yield report


@contextlib.contextmanager
def status_line() -> Iterator[Callable[[str], None]]:
    """say(words): what is being done now; on a terminal one line that goes away, elsewhere a line now and then."""
    if not sys.stderr.isatty():
        with _said_now_and_then() as lines:
            yield lines.task
        return
    from rich.console import Console

    with Console(stderr=True).status("") as status:
        yield status.update


class Lines:
    """What is being done, in words."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._now: _Task | None = None

    def task(self, title: str) -> Advance:
        """Begin something; what is returned says how far it is."""
        task = self._now = _Task(title, self._clock())

        def advance(done: int, total: int) -> None:
            self._now, task.done, task.total = task, done, total

        return advance

    def line(self) -> str | None:
        """How far the task is that was told of last; None before the first.

        >>> lines = Lines(clock=iter([0.0, 30.0]).__next__)
        >>> lines.task("spectra")(100, 400)
        >>> lines.line()
        'spectra: 25 %, about 2 min left'
        """
        return None if self._now is None else self._now.words(self._clock())


class _Task:
    def __init__(self, title: str, begun: float):
        self.title, self.begun, self.done, self.total = title, begun, 0, 0

    def words(self, now: float) -> str:
        share = self.done / self.total if self.total else 0.0
        if not share:
            return f"{self.title}: {duration(now - self.begun)} so far"
        left = (now - self.begun) * (1 / share - 1)
        return f"{self.title}: {math.floor(100 * share)} %" + (f", about {duration(left)} left" if share < 1 else "")


@contextlib.contextmanager
def _said_now_and_then() -> Iterator[Lines]:
    """Within, a line goes to stderr every LINE_SECONDS, also in the middle of a long call; the first one earlier."""
    lines, ended = Lines(), threading.Event()

    def speak() -> None:
        pause = FIRST_LINE
        while not ended.wait(pause):
            if line := lines.line():
                with contextlib.suppress(OSError, ValueError):  # a stderr that takes nothing stops no work
                    print(lines_of(line), file=sys.stderr, flush=True)
            pause = LINE_SECONDS

    speaker = threading.Thread(target=speak, daemon=True, name="progress")
    speaker.start()
    try:
        yield lines
    finally:
        ended.set()
        speaker.join()
