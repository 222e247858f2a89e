"""Lock trials and the journal with locks that die with their holder. No clocks, no heartbeats, no leases.

A killed worker's trials are free at once, because the kernel (or the PostgreSQL server, see `postgres`) drops its locks with it; a slow
worker keeps its locks as long as it lives. One more lock, the mutex, guards creating a study, adding its trials and claiming them.
Start other processes by spawning: a forked child would keep its parent's file locks.
"""

import fcntl
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

from rhn.errors import OutputError
from rhn.utils.io import writing

T = TypeVar("T")
MOST_LOSSES = 10  # of the mutex in a row


class LocksLostError(Exception):
    """A cut connection has dropped the locks of a living worker, which has to claim its trials again."""


class Locks(Protocol):
    """The locks of one study from the view of one worker."""

    def try_lock(self, number: int) -> bool:
        """Take the lock of a trial if nobody holds it, this worker included."""

    def lost(self) -> set[int]:
        """The trials whose locks this worker has lost since the last call."""

    def mutex(self) -> AbstractContextManager[None]:
        """A context in which no other worker creates, seeds or claims. It must not be nested."""

    def release(self) -> None:
        """Release the locks of all trials."""

    def close(self) -> None:
        """Release them and close the connection."""


def alone(locks: Locks, action: Callable[[], T]) -> T:
    """Call an idempotent action within the mutex, again if the mutex was lost. Raises OutputError if it is lost again and again."""
    for _ in range(MOST_LOSSES):
        with suppress(LocksLostError):
            with locks.mutex():
                result = action()
            return result
    raise OutputError(
        "PostgreSQL cuts the connection that holds the locks again and again: give the server's own address, not that of a pooler "
        "such as PgBouncer"
    )


class FileLocks:
    """`flock` on one file a trial, for workers on one host or on a file system with flock across hosts.

    Raises OutputError if the folder cannot be written.
    """

    def __init__(self, folder: Path):
        self._folder = make_folder(folder)
        self._held: dict[int, BinaryIO] = {}

    def try_lock(self, number: int) -> bool:
        file = self._open(f"{number:04d}.lock")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        self._held[number] = file
        return True

    def lost(self) -> set[int]:
        return set()  # the kernel never drops the locks of a living process

    @contextmanager
    def mutex(self) -> Iterator[None]:
        with self._open("mutex.lock") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def release(self) -> None:
        while self._held:
            self._held.popitem()[1].close()

    close = release

    def _open(self, name: str) -> BinaryIO:
        path = self._folder / name
        with writing(path):
            return path.open("ab")  # never deleted: two workers could lock different files of one name


class JournalLock:
    """Lock the journal for one writer; cuts off a torn last line first. Optuna calls it.

    With Optuna's own lock, a symbolic link, everyone waits 30 seconds after a worker was killed inside it; and a last line cut short by
    a kill or a full disk makes the study unloadable after the next append.
    """

    def __init__(self, journal: Path):
        self._journal = journal
        self._held: BinaryIO | None = None

    def acquire(self) -> bool:
        path = self._journal.parent / "locks" / "journal.lock"
        with writing(path):
            file = path.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            cut_torn_line(self._journal)
        except BaseException:
            file.close()
            raise
        self._held = file
        return True

    def release(self) -> None:
        self._held.close()
        self._held = None


def cut_torn_line(path: Path) -> None:
    """Cut the file after its last line break. The caller keeps others from appending."""
    with path.open("r+b") as file:
        if size := file.seek(0, os.SEEK_END):
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                whole = content.rfind(b"\n") + 1
            if whole < size:
                file.truncate(whole)
                os.fsync(file.fileno())


def make_folder(folder: Path) -> Path:
    """Create a folder with its parents and return it. Raises OutputError."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder
