"""Where studies live: a journal file in the output folder, or PostgreSQL for many machines. Others are refused.

The choice decides the locks as well: files beside the journal, or the server's own.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage
from sqlalchemy.exc import SQLAlchemyError

from rhn.errors import InvalidInputError, OutputError

from .journal import open_journal
from .locks import FileLocks, Locks

_POSTGRES = "postgresql+psycopg://"


@dataclass(frozen=True)
class Storage:
    """An open storage and the locks that go with it."""

    backend: BaseStorage
    """Optuna's side: give it to `optuna.load_study`."""
    locks: Callable[[str], Locks]
    """Study name -> fresh locks on its trials, for one worker."""


def open_storage(url: str | None, out: Path) -> Storage:
    """The journal `OUT/journal.log` where `url` is None, else the PostgreSQL database at `postgresql+psycopg://...`.

    Raises:
        InvalidInputError: another kind of storage, an address that cannot be read, or psycopg is missing.
        OutputError: the folder cannot be written, or the server cannot be used.
        DataError: the journal is damaged.
    """
    if url is None:
        locks = out / "locks"
        return Storage(
            open_journal(out / "journal.log", locks / "journal.lock"), lambda study: FileLocks(locks / study)
        )
    if not url.startswith(_POSTGRES):
        raise InvalidInputError(
            f"a storage of the kind {url.partition(':')[0]!r} is not supported: leave it out for the journal file "
            f"OUT/journal.log, or give a PostgreSQL database as {_POSTGRES}user:password@host:port/database"
        )
    try:
        from .postgres import PostgresLocks, open_postgres
    except ImportError:
        raise InvalidInputError(
            "a PostgreSQL storage needs psycopg: install it with `pip install 'rhn-toolkit[postgres]'`"
        ) from None
    return Storage(open_postgres(url), lambda study: PostgresLocks(url, study))


@contextmanager
def clear_storage_errors() -> Iterator[None]:
    """Turns a database's failures into one sentence."""
    try:
        yield
    except (StorageInternalError, SQLAlchemyError) as error:
        cause = error.__cause__ or error
        reason = " ".join(str(getattr(cause, "orig", None) or cause).split())
        raise OutputError(
            f"the storage failed: {reason}; mend that and run the same command again, everything saved so far is kept"
        ) from error
