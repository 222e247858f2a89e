"""The locks of a study in PostgreSQL, the storage for many machines.

A trial is held by a session-level advisory lock, which the server drops when the connection of its holder ends: on a kill at once, on
a machine that vanished when the keepalives fail. A cut connection drops the locks of a living worker too, so a worker asks the server
(`PostgresLocks.lost`) before it saves or tells anything. The locks need a direct connection: behind PgBouncer's transaction pooling
every lock is found lost at once.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from zlib import crc32

import psycopg
from sqlalchemy import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from optim_study.locks import LocksLostError
from optim_study.patience import Patience, reason
from rhn.addresses import without_password
from rhn.errors import InvalidInputError, OutputError

_logger = logging.getLogger(__name__)

KEEPALIVES = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}  # seconds, seconds, tries
_MUTEX = -1  # beside the trial numbers 0, 1, 2, ...


def patience_with(url: str, seconds: float) -> Patience:
    """To wait so long in all for the server at `postgresql+psycopg://user:password@host:port/database`; raises InvalidInputError for
    an address that cannot be read."""
    server = psycopg.conninfo.make_conninfo(**_arguments(_address(url))).encode()
    return Patience(seconds, lambda: psycopg.pq.PGconn.ping(server) == psycopg.pq.Ping.OK)


class PostgresLocks:
    """The advisory locks (crc32 of the study's name, trial number) on a connection of their own.

    Raises InvalidInputError for an address that cannot be read, OutputError where the server cannot be reached or refuses.
    """

    def __init__(self, url: str, study: str, patience: Patience | None = None):
        self._address, self._patience = _address(url), patience or patience_with(url, 0)
        self._key = crc32(study.encode()) - 2**31  # advisory locks take two signed 32-bit numbers
        self._held: set[int] = set()
        self._connection = self._connected()

    def try_lock(self, number: int) -> bool:
        if number in self._held or not self._call("pg_try_advisory_lock", number):
            return False  # the server itself lets one session lock twice
        self._held.add(number)
        return True

    def lost(self) -> set[int]:
        """Also connects anew where the connection was cut; raises OutputError where the server stays away."""
        try:
            ours = self._locked_on_server()
        except LocksLostError:
            self._reconnect()
            ours = set()
        lost = self._held - ours
        self._held -= lost
        return lost

    @contextmanager
    def mutex(self) -> Iterator[None]:
        """As `Locks.mutex`; raises LocksLostError where the connection was cut inside, so that others may have come in."""
        try:
            self._call("pg_advisory_lock", _MUTEX)
        except LocksLostError:
            self._reconnect()
            self._call("pg_advisory_lock", _MUTEX)
        try:
            yield
        except BaseException:
            with suppress(LocksLostError):  # what was raised inside says more
                self._call("pg_advisory_unlock", _MUTEX)
            raise
        if not self._call("pg_advisory_unlock", _MUTEX):
            raise LocksLostError

    def release(self) -> None:
        self._held.clear()
        with suppress(LocksLostError):  # then they are free already
            self._query("SELECT pg_advisory_unlock_all()", ())

    def close(self) -> None:
        self._connection.close()

    def _call(self, function: str, number: int) -> Any:
        return self._query(f"SELECT {function}(%s, %s)", (self._key, number))[0][0]

    def _locked_on_server(self) -> set[int]:
        rows = self._query(
            "SELECT objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
            " AND classid::bigint = %s AND objsubid = 2 AND granted",
            (self._key % 2**32,),
        )
        return {number for (number,) in rows}

    def _query(self, statement: str, values: tuple) -> list[tuple]:
        try:
            return self._connection.execute(statement, values).fetchall()
        except psycopg.OperationalError as error:
            self._connection.close()
            raise LocksLostError from error

    def _reconnect(self) -> None:
        _logger.warning("the connection to PostgreSQL at %s was cut: connecting again", self._address.host)
        self._connection.close()
        self._connection = self._connected()

    def _connected(self) -> psycopg.Connection:
        try:
            return self._patience.call(self._connect, psycopg.OperationalError)
        except psycopg.OperationalError as error:
            raise OutputError(
                f"PostgreSQL at {without_password(self._address.render_as_string())} cannot be used: {reason(error)}; "
                "when it is back, the same command goes on from what was saved"
            ) from error

    def _connect(self) -> psycopg.Connection:
        connection = psycopg.connect(**_arguments(self._address), autocommit=True)
        for setting, value in KEEPALIVES.items():
            connection.execute(f"SET tcp_{setting} = {value}")  # the server notices a vanished machine too
        connection.execute("SET statement_timeout = 0")  # waiting for the mutex may take long
        connection.execute("SET lock_timeout = 0")
        return connection


def _arguments(address: URL) -> dict[str, Any]:
    """As psycopg takes them."""
    _, arguments = address.get_dialect()().create_connect_args(address)
    return arguments | {"application_name": "optim-study locks", "connect_timeout": 10, **KEEPALIVES}


def _address(url: str) -> URL:
    try:
        address = make_url(url)
    except (SQLAlchemyError, ValueError):
        raise InvalidInputError(
            "the storage address cannot be read, expected postgresql://user:password@host:port/database"
        ) from None
    if "@" in (address.host or ""):  # which the server's answer would show, with the end of the password
        raise InvalidInputError("the storage address holds two @: write an @ within the user or the password as %40")
    return address
