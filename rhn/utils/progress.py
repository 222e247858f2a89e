"""Show the progress of long work on stderr: bars in a terminal, else a line each half minute."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

LINE_SECONDS = 30.0  # between lines without a terminal

Advance = Callable[..., None]
"""A callback advance(done, total), or advance(done, total, title) to change the title too."""


@contextlib.contextmanager
def progress_bars() -> Iterator[Callable[[str], Advance]]:
    """Return a context that yields report(title) -> advance. On a terminal each title has a bar;
    elsewhere lines about the current title are printed. Work that ends quickly prints no line.
    """
    if sys.stderr.isatty():
        with _bars() as report:
            yield report
    else:
        yield _lines


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


def _lines(title: str) -> Advance:
    """Return a callback that prints a line now and then."""
    due = time.monotonic() + LINE_SECONDS

    def advance(done: int, total: int | None, other: str | None = None) -> None:
        nonlocal title, due
        title = other or title
        if (now := time.monotonic()) > due:
            due = now + LINE_SECONDS
            with contextlib.suppress(OSError, ValueError):  # a broken stderr stops no work
                print(f"{title}: {done}/{total}", file=sys.stderr, flush=True)

    return advance
