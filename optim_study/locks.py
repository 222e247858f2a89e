"""Locks that die with their holder: who works on a trial, and who may append to the journal. No clocks, no heartbeats, no leases.

A killed worker's trials are free at once, because the kernel (or the PostgreSQL server, see `postgres_locks`) drops its locks with
it; a worker that is only slow keeps its own for as long as it lives. One more such lock, the mutex, guards creating a study, adding
its trials and claiming them. Start other processes by spawning: a forked child would keep its parent's file locks.
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
MOST_LOSSES = 10  # of the mutex, one after another


class LocksLostError(Exception):
    """Some locks are gone though their holder lives: their connection was cut. What they guarded is claimed anew."""


class Locks(Protocol):
    """The locks of one study, as one worker sees them."""

    def try_lock(self, number: int) -> bool:
        """Takes the lock of a trial if nobody holds it, this worker included."""

    def lost(self) -> set[int]:
        """The trials locked by this worker and no longer so, each told once."""

    def mutex(self) -> AbstractContextManager[None]:
        """A context in which no other worker creates, seeds or claims. Not to be nested."""

    def release(self) -> None:
        """Gives the locks of all trials back."""

    def close(self) -> None:
        """Gives them back for good."""


def alone(locks: Locks, action: Callable[[], T]) -> T:
    """What the action returns, done within the mutex; done anew where that was lost meanwhile, so it has to be one that may be.

    Raises OutputError where it is lost again and again.
    """
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
    """`flock` on one file a trial: for workers that share a host, or a file system that carries flock across hosts.

    Raises OutputError where the folder cannot be made or written.
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
        return set()  # the kernel takes nothing back from a living process

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
            return path.open("ab")  # lock files are never deleted: two workers could lock different files of one name


class JournalLock:
    """Held by one appender at a time; once it is held, the journal ends with a whole line. Optuna calls it.

    With Optuna's own lock, a symbolic link, everyone waits 30 seconds after a worker was killed inside it; and a last line cut
    short by a kill or a full disk makes the study unloadable as soon as something is appended to it.
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
    """Cuts the file after its last line break. The caller keeps others from appending."""
    with path.open("r+b") as file:
        if size := file.seek(0, os.SEEK_END):
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                whole = content.rfind(b"\n") + 1
            if whole < size:
                file.truncate(whole)
                os.fsync(file.fileno())


def make_folder(folder: Path) -> Path:
    """The folder, made with its parents where it was missing; raises OutputError where it cannot be made."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder
