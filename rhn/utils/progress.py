"""Show the progress of long work on stderr: what is done, how much there is, and the time left.

    with reported(progress, "spectra") as advance:
        for done, step in enumerate(steps, 1):
            ...
            advance(done, len(steps))

`progress` is what a caller of a long function gives: None, True, False, or a callback. None shows
the progress in commands and in interactive sessions, and nothing in a script. On a terminal and in
a notebook a bar of rich appears after two seconds; elsewhere there is a line each half minute.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

FIRST_SECONDS = 2.0  # before a bar appears
LINE_SECONDS = 30.0  # between lines without a terminal
DRAW_SECONDS = 0.25  # between two looks at the clock
WIDTH = 30  # letters of a bar

Advance = Callable[..., Any]
"""A callback advance(done, total), or advance(done, total, title) to change the title too."""
Progress = Advance | bool | None
"""None, True or False, see above; or a callback, which is called in place of the display."""

_is_shown: ContextVar[bool | None] = ContextVar("is_shown", default=None)


class Work:
    """Work that reports what is done. The rate is that since its start, or since its count last
    fell, as it does when the next part of the work begins.

    >>> now = iter((0.0, 10.0, 10.0))
    >>> task = Work("spectra", clock=lambda: next(now))
    >>> task(2, 8)
    >>> task.line()
    'spectra: 2/8, time left 0:00:30'
    """

    def __init__(
        self,
        title: str,
        done: int = 0,
        total: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.title, self.done, self.total = title, done, total
        self._clock, self._first = clock, done
        self.begun = self._since = self._at = clock()

    def __call__(self, done: int, total: int | None, title: str | None = None) -> None:
        now = self._clock()
        if done < self.done:
            self._first, self._since = done, now
        if done != self.done:
            self._at = now
        self.done, self.total, self.title = done, total, title or self.title

    def seconds_left(self) -> float | None:
        """Return the time left at the rate until the last report; None before there is a rate."""
        if self.total is None or self.done == self._first:
            return None
        rate = (self.done - self._first) / max(self._at - self._since, 1e-9)
        return max(0.0, (self.total - self.done) / rate - (self._clock() - self._at))

    def counts(self) -> tuple[str, str]:
        """Return (done/total, the time left) as texts."""
        left = self.seconds_left()
        of = "-" if self.total is None else str(self.total)
        return f"{self.done}/{of}", "-" if left is None else str(timedelta(seconds=round(left)))

    def line(self) -> str:
        """Return the state as one line."""
        count, left = self.counts()
        return f"{self.title}: {count}, time left {left}"


class Lines:
    """Print a line about the innermost task each half minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock, self._due = clock, clock() + LINE_SECONDS

    def draw(self, tasks: list[Work]) -> None:
        if tasks and self._clock() >= self._due:
            self._due = self._clock() + LINE_SECONDS
            print(tasks[-1].line(), file=sys.stderr, flush=True)

    def close(self) -> None:
        pass


class Bars:
    """Draw a bar of rich for each task that has run for two seconds. show: a function that is
    called with a table, and returns (a function that replaces it, one that removes it).
    """

    def __init__(self, show: Callable, clock: Callable[[], float] = time.monotonic):
        self._show, self._clock = show, clock
        self._shown: tuple[Callable, Callable] | None = None

    def draw(self, tasks: list[Work]) -> None:
        long = [task for task in tasks if self._clock() - task.begun >= FIRST_SECONDS]
        if self._shown:
            self._shown[0](_table(long))
        elif long:
            self._shown = self._show(_table(long))

    def close(self) -> None:
        if self._shown:
            self._shown[1]()


def _table(tasks: list[Work]) -> Any:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 1))
    for task in tasks:
        bar = ProgressBar(task.total, task.done, width=WIDTH)
        table.add_row(Text(task.title), bar, *map(Text, task.counts()))
    return table


def on_terminal(table: Any) -> tuple[Callable, Callable]:
    """Show a table of rich below what the terminal prints; see `Bars`."""
    from rich.console import Console
    from rich.live import Live

    # what a user's code prints into a pipe stays there
    how: Any = {"transient": True, "auto_refresh": False, "redirect_stdout": sys.stdout.isatty()}
    live = Live(table, console=Console(stderr=True), **how)
    live.start(refresh=True)
    return lambda other: live.update(other, refresh=True), live.stop


def in_notebook(table: Any) -> tuple[Callable, Callable]:
    """Show a table of rich below a cell of a notebook; see `Bars`."""
    from IPython.display import display
    from rich.text import Text

    handle = display(table, display_id=True)
    return handle.update, lambda: handle.update(Text(""))


class _Display:
    """All tasks that run now, drawn by a thread of their own, which starts with the first task."""

    def __init__(self):
        self._lock, self._tasks = threading.Lock(), list[Work]()
        self._ended, self._thread = threading.Event(), threading.Thread()

    def add(self, task: Work) -> None:
        with self._lock:
            self._tasks.append(task)
            if len(self._tasks) == 1:
                self._ended = threading.Event()
                args = drawer(), self._ended
                self._thread = threading.Thread(
                    target=self._draw, args=args, daemon=True, name="progress"
                )
                self._thread.start()

    def remove(self, task: Work) -> None:
        with self._lock:
            self._tasks.remove(task)
            if self._tasks:
                return
            self._ended.set()
            thread = self._thread
        thread.join()

    def _draw(self, drawn: Lines | Bars, ended: threading.Event) -> None:
        with contextlib.suppress(OSError, ValueError):  # a broken stderr stops no work
            while not ended.wait(DRAW_SECONDS):
                drawn.draw([*self._tasks])
            drawn.close()


_display = _Display()


def drawer() -> Lines | Bars:
    """Return what draws the progress in this process."""
    if sys.stderr.isatty():
        return Bars(on_terminal)
    if is_interactive() and "ipykernel" in sys.modules:
        return Bars(in_notebook)
    return Lines()


def is_interactive() -> bool:
    """True in a session of Python or IPython, and in a notebook."""
    return hasattr(sys, "ps1")


@contextlib.contextmanager
def shown(value: bool = True) -> Iterator[None]:
    """Return a context in which work without a `progress` of its own is shown, or is not."""
    token = _is_shown.set(value)
    try:
        yield
    finally:
        _is_shown.reset(token)


@contextlib.contextmanager
def reported(
    progress: Progress, title: str, done: int = 0, total: int | None = None
) -> Iterator[Advance]:
    """Return a context that yields advance(done, total), for work with this title.

    done: what was done before, such as the steps of a training run that continues. total: how much
    there is, if it is known before the first report.
    """
    if is_asked_for(progress):
        task = Work(title, done, total)
        _display.add(task)
        try:
            with shown():
                yield task
        finally:
            _display.remove(task)
    else:
        with shown(False):
            yield progress if callable(progress) else _not_shown


def is_asked_for(progress: Progress) -> bool:
    """Return whether the progress of work is shown."""
    if progress is None:
        inherited = _is_shown.get()
        return is_interactive() if inherited is None else inherited
    return progress is True


def _not_shown(done: int, total: int | None, title: str | None = None) -> None:
    pass
