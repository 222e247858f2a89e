"""Show the progress of long work on stderr: bars in a terminal, else a line each half minute."""

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator

FIRST_LINE = 5.0  # seconds until the first line without a terminal
LINE_SECONDS = 30.0  # between further lines

Advance = Callable[..., None]
"""A callback advance(done, total), or advance(done, total, title) to change the title too."""


@contextlib.contextmanager
def progress_bars() -> Iterator[Callable[[str], Advance]]:
    """Return a context that yields report(title) -> advance. On a terminal each title has a bar;
    elsewhere lines about the current title are printed. Work that ends quickly prints no line.
    """
    with _bars() if sys.stderr.isatty() else _lines() as report:
        yield report


@contextlib.contextmanager
def _bars() -> Iterator[Callable[[str], Advance]]:
    """Return a context that shows bars of rich."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:

        def report(title: str) -> Advance:
            task = bars.add_task(title, total=None)

            def advance(done: int, total: int | None, title: str | None = None) -> None:
                bars.update(task, completed=done, total=total, description=title)

            return advance

        yield report


@contextlib.contextmanager
def _lines() -> Iterator[Callable[[str], Advance]]:
    """Return a context that prints a line about the task that reported last, now and then."""
    current: list[str] = []
    ended = threading.Event()

    def report(title: str) -> Advance:
        def advance(done: int, total: int | None, other: str | None = None) -> None:
            nonlocal title
            title = other or title
            current[:] = [f"{title}: {done}/{total}" if total else title]

        advance(0, None)
        return advance

    def print_lines() -> None:
        pause = FIRST_LINE
        while not ended.wait(pause):
            for line in current:
                with contextlib.suppress(OSError, ValueError):  # a broken stderr stops no work
                    print(line, file=sys.stderr, flush=True)
            pause = LINE_SECONDS

    printer = threading.Thread(target=print_lines, daemon=True, name="progress")
    printer.start()
    try:
        yield report
    finally:
        ended.set()
        printer.join()
