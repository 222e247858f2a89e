"""Lock trials in PostgreSQL, the storage for many machines.

A lock is a session-level advisory lock, which the server drops at the end of its holder's connection: after a kill at once, after the
loss of a machine when the keepalives fail. A cut connection drops the locks of a living worker too, so a worker asks the server
(`PostgresLocks.lost`) before it saves or reports. The locks need a direct connection: behind PgBouncer's transaction pooling every lock
is lost at once.
"""

import functools
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from zlib import crc32

import psycopg
from sqlalchemy import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from optim_study.locks import LocksLostError
from optim_study.retry import Patience, reason
from rhn.errors import InvalidInputError, OutputError
from rhn.utils.wording import without_password

_logger = logging.getLogger(__name__)

KEEPALIVES = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}  # seconds, seconds, tries
EXPECTED = "expected postgresql://user:password@host:port/database"
_MUTEX = -1  # beside the trial numbers 0, 1, 2, ...


def patience_with(url: str, seconds: float) -> Patience:
    """Patience with the server at `postgresql+psycopg://user:password@host:port/database`.

    Raises InvalidInputError at once for an address that no server can have.
    """
    arguments = _arguments(_address(url))
    try:
        server = psycopg.conninfo.make_conninfo(**arguments).encode()
    except psycopg.Error as error:
        raise InvalidInputError(f"the storage address cannot be used ({reason(error)}), {EXPECTED}") from None
    ping = functools.partial(psycopg.pq.PGconn.ping, server)
    status = ping()
    if status == psycopg.pq.Ping.NO_ATTEMPT:
        words = psycopg.pq.PGconn.connect(server).error_message.decode(errors="replace").strip()
        raise InvalidInputError(f"the storage address cannot be used ({words}), {EXPECTED}")
    named = any(name in arguments or f"PG{name.upper()}" in os.environ for name in ("host", "hostaddr", "service"))
    if status == psycopg.pq.Ping.NO_RESPONSE and not named:
        raise InvalidInputError(f"the storage address names no host, and no server answers on this machine: {EXPECTED}")
    return Patience(seconds, lambda: ping() == psycopg.pq.Ping.OK)


class PostgresLocks:
    """Advisory locks (crc32 of the study's name, trial number) on a separate connection.

    Raises InvalidInputError for a malformed address, OutputError if the server cannot be reached or refuses.
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
        """As `Locks.lost`, after connecting again if the connection was cut. Raises OutputError if the server stays away."""
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
        """As `Locks.mutex`; raises LocksLostError if the connection was cut inside, so that others may have entered."""
        try:
            self._call("pg_advisory_lock", _MUTEX)
        except LocksLostError:
            self._reconnect()
            self._call("pg_advisory_lock", _MUTEX)
        try:
            yield
        except BaseException:
            with suppress(LocksLostError):  # the exception from inside is more helpful
                self._call("pg_advisory_unlock", _MUTEX)
            raise
        if not self._call("pg_advisory_unlock", _MUTEX):
            raise LocksLostError

    def release(self) -> None:
        self._held.clear()
        with suppress(LocksLostError):  # they are free already
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
                "run the same command again when it is back, everything saved so far is kept"
            ) from error

    def _connect(self) -> psycopg.Connection:
        connection = psycopg.connect(**_arguments(self._address), autocommit=True)
        for setting, value in KEEPALIVES.items():
            connection.execute(f"SET tcp_{setting} = {value}")  # the server notices a vanished machine too
        connection.execute("SET statement_timeout = 0")  # waiting for the mutex may take long
        connection.execute("SET lock_timeout = 0")
        return connection


def _arguments(address: URL) -> dict[str, Any]:
    """Keyword arguments of `psycopg.connect`."""
    _, arguments = address.get_dialect()().create_connect_args(address)
    return arguments | {"application_name": "optim-study locks", "connect_timeout": 10, **KEEPALIVES}


def _address(url: str) -> URL:
    try:
        address = make_url(url)
    except (SQLAlchemyError, ValueError):
        raise InvalidInputError(f"the storage address cannot be read, {EXPECTED}") from None
    if "@" in (address.host or ""):  # the server's answer would show it, with the end of the password
        raise InvalidInputError("the storage address holds two @: write an @ within the user or the password as %40")
    given = address.query.get("port", ())
    ports = [given] if isinstance(given, str) else [*given]
    for port in [str(address.port)] * (address.port is not None) + [p for each in ports for p in each.split(",") if p]:
        if not (port.isascii() and port.isdigit() and 1 <= int(port[:9]) <= 65535):
            raise InvalidInputError(f"the storage address has the port {port:.20}: expected a number from 1 to 65535")
    return address
