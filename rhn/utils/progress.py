"""Show the progress of long work and its remaining time on stderr.

A terminal shows bars; elsewhere a line is printed every half minute. Work that ends quickly prints
nothing.
"""

import contextlib
import math
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator

FIRST_LINE = 5.0  # seconds until the first line without a terminal
LINE_SECONDS = 30.0  # between further lines
LUMP = 1 / 3  # of the work: larger pieces do not tell how fast it goes
LINE_WIDTH = 80  # of these lines, as there is no terminal


def duration(seconds: float) -> str:
    """Format a duration, such as "38 min".

    >>> duration(42), duration(60 * 38), duration(3600 * 5.25)
    ('42 s', '38 min', '5.2 h')
    >>> duration(86400 * 3), duration(86400 * 1400)
    ('3 days', '4 years')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    days = seconds / 86400
    return f"{days:.0f} days" if days < 2 * 365 else f"{days / 365:.0f} years"


Advance = Callable[..., None]
"""A callback advance(done, total), or advance(done, total, title) to change the title too."""


@contextlib.contextmanager
def progress_bars() -> Iterator[Callable[[str], Advance]]:
    """Return a context that yields report(title) -> callback(done, total). On a terminal each title
    has a bar; elsewhere lines about the current title are printed.
    """
    if not sys.stderr.isatty():
        with _periodic_lines() as report:
            yield report
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bars:

        def report(title: str) -> Advance:
            task, begun = bars.add_task(title, total=None), False

            def advance(done: int, total: int | None, title: str | None = None) -> None:
                nonlocal begun
                # what was done before the first report does not count as speed
                update = bars.update if begun else bars.reset
                update(task, completed=done, total=total, description=title)
                begun = begun or done > 0

            return advance

        yield report


class Pace:
    """The reports of a task, from which the time left is estimated.

    The time until the first report may contain the time of setting up, so it does not count. Work
    that arrives in large pieces, such as networks that are trained together, gets no estimate: a
    report just before or after such a piece would give a time that is wrong by a large factor.

    >>> pace = Pace()
    >>> for seconds, done in [(7.0, 5), (8.0, 6), (9.0, 7), (10.0, 8)]:
    ...     pace.add(seconds, done)
    >>> pace.left(10.0, total=20), pace.left(10.5, total=20)
    (12.0, 11.5)
    """

    def __init__(self) -> None:
        self._first = self._last = (0.0, 0)  # seconds, pieces done
        self._largest = 0  # of the pieces after the first report

    def add(self, seconds: float, done: int) -> None:
        """Note that `done` pieces were done after these seconds."""
        before = self._last[1]
        if done == before:
            return
        if not before or done < before:
            self._first, self._largest = (seconds, done), 0
        else:
            self._largest = max(self._largest, done - before)
        self._last = seconds, done

    def left(self, seconds: float, total: int) -> float | None:
        """Estimate the seconds left; None if the reports do not tell."""
        (begun, before), (reported, done) = self._first, self._last
        if not 0 < self._largest <= LUMP * (done - before):
            return None
        left = (reported - begun) / (done - before) * (total - done) - (seconds - reported)
        return left if left > 0 else None


def line_of(
    title: str, seconds: float, done: int, total: int | None, left: float | None = None
) -> str:
    """Format a line about a task: its share done, and the time so far or the time left.

    >>> line_of("spectra", 30.0, 100, 400, left=90.0), line_of("spectra", 30.0, 0, None)
    ('spectra: 25 %, about 2 min left', 'spectra: 30 s so far')
    >>> line_of("spectra", 5.0, 1, 4000)
    'spectra: 0 %'
    """
    if not (done and total):
        return f"{title}: {duration(seconds)} so far"
    share = f"{title}: {math.floor(100 * done / total)} %"
    return share if left is None else f"{share}, about {duration(left)} left"


@contextlib.contextmanager
def _periodic_lines() -> Iterator[Callable[[str], Advance]]:
    """Return a context that prints a line to stderr every LINE_SECONDS about the task that reported
    last, also during a long call. The first line is printed earlier.
    """
    current: list = []  # title, time of its begin, done, total, pace
    ended = threading.Event()

    def report(title: str) -> Advance:
        begun, pace = time.monotonic(), Pace()

        def advance(done: int, total: int | None, other: str | None = None) -> None:
            nonlocal title
            title = other or title
            pace.add(time.monotonic() - begun, done)
            current[:] = title, begun, done, total, pace

        advance(0, 0)
        return advance

    def print_lines() -> None:
        pause = FIRST_LINE
        while not ended.wait(pause):
            if current:
                title, begun, done, total, pace = current
                seconds = time.monotonic() - begun
                left = pace.left(seconds, total) if total else None
                with contextlib.suppress(OSError, ValueError):  # a broken stderr stops no work
                    line = line_of(title, seconds, done, total, left)
                    lines = textwrap.fill(line, LINE_WIDTH, subsequent_indent="  ")
                    print(lines, file=sys.stderr, flush=True)
            pause = LINE_SECONDS

    printer = threading.Thread(target=print_lines, daemon=True, name="progress")
    printer.start()
    try:
        yield report
    finally:
        ended.set()
        printer.join()
