"""Optuna's journal, the storage of one machine: a file of a line a record, of which a damaged one is told by its number."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from optim_study.locks import JournalLock, make_folder
from rhn.errors import DataError, OutputError
from rhn.utils.io import writing

NO_RECORD = (ValueError, LookupError, TypeError, AttributeError, AssertionError, ArithmeticError, RecursionError)
"""What reading or applying a line of a journal raises that nobody of us wrote."""


def open_journal(path: Path) -> JournalStorage:
    """The journal at `path`, made where it is missing.

    Raises OutputError where it cannot be made, DataError where a whole line is no record of a study.
    """
    make_folder(path.parent / "locks")
    with writing(path):
        return _JournalStorage(_Journal(path))


class _JournalStorage(JournalStorage):
    """Optuna's journal, of which a damaged line is told by its number, wherever and whenever it is read."""

    def _sync_with_backend(self) -> None:
        try:
            super()._sync_with_backend()
        except NO_RECORD as error:
            path, line = self._backend.path, self._backend.line
            raise DataError(
                f"{path} is damaged: line {line} is no record of a study ({type(error).__name__}: {error}); restore it from a copy, "
                "or move it away to start the study anew"
            ) from error


class _Journal(JournalFileBackend):
    """Optuna's journal file under a lock of ours, which cuts off a torn last line."""

    def __init__(self, path: Path):
        self.path, self.line, self._lock = path, 0, JournalLock(path)
        self._place = (0, 0)  # lines read, and where in the file they end
        super().__init__(str(path), lock_obj=self._lock)

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """The records of the whole lines from this one on, counted from 0; `line` is the one read last, counted from 1.

        A last line cut short is left to whoever appends next. Raises ValueError for a whole line that is no JSON object.
        """
        first, offset = self._place if self._place[0] <= log_number_from else (0, 0)
        with self._opened() as file:
            file.seek(offset)
            for number, line in enumerate(file, first):
                if not line.endswith(b"\n"):
                    return
                offset += len(line)
                self._place, self.line = (number + 1, offset), number + 1
                if number >= log_number_from:
                    if not isinstance(log := json.loads(line), dict):
                        raise ValueError("expected a JSON object")
                    yield log

    def _opened(self) -> BinaryIO:
        try:
            return self.path.open("rb")
        except OSError as error:
            raise DataError(f"{self.path} cannot be read: {error.strerror or error}") from error

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        try:
            super().append_logs(logs)
        except OSError as error:
            self._lock.acquire()  # cuts off what was written, for readers with the stock backend
            self._lock.release()
            raise OutputError(
                f"cannot write {self.path}: {error.strerror or error}; mend that and run the same command again, "
                "everything saved so far is kept"
            ) from error
