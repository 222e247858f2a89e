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
KNOWN = 0.01  # share of the work, from which on its time is known
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
            task = bars.add_task(title, total=None)
            return lambda done, total, title=None: bars.update(
                task, completed=done, total=total, description=title
            )

        yield report


def line_of(
    title: str,
    seconds: float,
    done: int,
    total: int | None,
    first: tuple[float, int] = (0.0, 0),
) -> str:
    """Format a line about a task: its share done, and the time so far or the time left.

    first: seconds until the first report, and what was done by then. These seconds may contain the
    time of setting up, so the time left is estimated from the pieces after the first report.

    >>> line_of("spectra", 30.0, 100, 400), line_of("spectra", 30.0, 0, None)
    ('spectra: 25 %, about 2 min left', 'spectra: 30 s so far')
    >>> line_of("spectra", 5.0, 1, 4000)
    'spectra: 0 %'
    >>> line_of("training", 12.0, 10, 20, first=(7.0, 5))
    'training: 50 %, about 10 s left'
    """
    if not (done and total):
        return f"{title}: {duration(seconds)} so far"
    share = f"{title}: {math.floor(100 * done / total)} %"
    begun, before = first
    if not (KNOWN * total <= done < total and done > before):
        return share
    left = (seconds - begun) / (done - before) * (total - done)
    return f"{share}, about {duration(left)} left"


@contextlib.contextmanager
def _periodic_lines() -> Iterator[Callable[[str], Advance]]:
    """Return a context that prints a line to stderr every LINE_SECONDS about the task that reported
    last, also during a long call. The first line is printed earlier.
    """
    current: list = []  # title, time of its begin, done, total, first report
    ended = threading.Event()

    def report(title: str) -> Advance:
        begun = time.monotonic()
        first = (0.0, 0)

        def advance(done: int, total: int | None, other: str | None = None) -> None:
            nonlocal title, first
            title = other or title
            if done and not first[1]:
                first = time.monotonic() - begun, done
            current[:] = title, begun, done, total, first

        advance(0, 0)
        return advance

    def print_lines() -> None:
        pause = FIRST_LINE
        while not ended.wait(pause):
            if current:
                title, begun, *share = current
                with contextlib.suppress(OSError, ValueError):  # a broken stderr stops no work
                    line = line_of(title, time.monotonic() - begun, *share)
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
