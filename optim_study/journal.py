"""The default storage: Optuna's journal file, made to survive kills and full disks.

With the stock lock, a symbolic link, everyone waits 30 seconds after a worker was killed inside it; and with the
stock backend a last line cut short by a kill or a full disk makes the study unloadable as soon as something is
appended to it. So the lock here is a `flock`, gone with its holder, and whoever takes it cuts off an unfinished
last line first.
"""

import fcntl
import os
from pathlib import Path
from typing import Any, BinaryIO

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from rhn.errors import DataError

from .files import clear_write_errors, make_folder


def open_journal(path: Path, lock_path: Path) -> JournalStorage:
    """The journal at `path`, made where it is missing. Other workers open it with the same `lock_path`.

    Raises:
        OutputError: the files cannot be made.
        DataError: the journal has a damaged line that is not its last.
    """
    make_folder(path.parent)
    make_folder(lock_path.parent)
    try:
        with clear_write_errors(path):
            return JournalStorage(_Journal(path, lock_path))
    except ValueError as error:
        raise DataError(
            f"{path} is damaged ({error}): restore it from a copy, or move it away to start the study anew"
        ) from error


class _Journal(JournalFileBackend):
    def __init__(self, path: Path, lock_path: Path):
        self._journal_path = path
        self._journal_lock = _JournalLock(path, lock_path)
        super().__init__(str(path), lock_obj=self._journal_lock)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        with clear_write_errors(self._journal_path):
            try:
                super().append_logs(logs)
            except OSError:
                self._journal_lock.acquire()  # cuts off what was written, for readers with the stock backend
                self._journal_lock.release()
                raise


class _JournalLock:
    """Exclusive among all appenders, and the journal ends with a whole line once it is held. Optuna's lock protocol."""

    def __init__(self, journal: Path, path: Path):
        self._journal = journal
        self._path = path
        self._held: BinaryIO | None = None

    def acquire(self) -> bool:
        file = self._path.open("ab")
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


def cut_torn_line(path: Path, block: int = 4096) -> None:
    """Cuts the file after its last line break. The caller keeps others from appending."""
    with path.open("r+b") as file:
        end = size = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - block)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                end = start + found + 1
                break
            end = start
        if end < size:
            file.truncate(end)
            os.fsync(file.fileno())
