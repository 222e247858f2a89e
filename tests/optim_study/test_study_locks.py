import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import cut_connections, wait_for

from optim_study.locks import FileLocks, LocksLostError
from optim_study.storage import open_storage
from rhn.errors import InvalidInputError, OutputError

pytest.importorskip("psycopg", reason="psycopg is not installed")

from optim_study.postgres import PostgresLocks

HOLDER = """
import sys
from pathlib import Path
from optim_study.locks import FileLocks
from optim_study.postgres import PostgresLocks
place = sys.argv[1]
locks = PostgresLocks(place, "study") if "://" in place else FileLocks(Path(place))
assert locks.try_lock(3)
with locks.mutex():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def place(storage, tmp_path) -> str:
    return storage or str(tmp_path / "locks")


@pytest.fixture
def postgres_locks(postgres) -> Iterator[PostgresLocks]:
    locks = PostgresLocks(postgres, "study")
    yield locks
    locks.close()


@pytest.fixture
def make_locks(place, tmp_path):
    made = []

    def make(study: str = "study"):
        made.append(PostgresLocks(place, study) if "://" in place else FileLocks(tmp_path / "locks" / study))
        return made[-1]

    yield make
    for locks in made:
        locks.close()


def test_one_worker_holds_a_trial_and_may_not_take_it_twice(make_locks):
    ours, theirs = make_locks(), make_locks()
    assert ours.try_lock(3)
    assert not theirs.try_lock(3)
    assert not ours.try_lock(3)
    assert theirs.try_lock(4)
    assert ours.lost() == set()
    ours.release()
    assert theirs.try_lock(3)


def test_studies_do_not_share_locks(make_locks):
    ours, theirs = make_locks("rhn-depth1"), make_locks("rhn-depth2")
    with ours.mutex(), theirs.mutex():
        assert ours.try_lock(0)
        assert theirs.try_lock(0)


def test_a_killed_worker_leaves_no_lock_behind(place, tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, place], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    locks = PostgresLocks(place, "study") if "://" in place else FileLocks(tmp_path / "locks")
    try:
        assert holder.stdout.readline() == "held\n"
        assert not locks.try_lock(3)
        holder.kill()
        holder.wait()
        wait_for(lambda: locks.try_lock(3))  # the server takes a moment to notice
        with locks.mutex():
            pass
    finally:
        holder.kill()
        holder.communicate()
        locks.close()


def test_a_cut_connection_is_noticed_and_its_locks_can_be_taken_again(postgres, postgres_locks):
    ours, theirs = postgres_locks, PostgresLocks(postgres, "study")
    assert ours.try_lock(1)
    assert ours.try_lock(2)
    cut_connections(postgres, "optim-study locks")
    with theirs.mutex():  # connects anew by itself
        assert theirs.try_lock(2)
    assert ours.lost() == {1, 2}
    assert ours.lost() == set()
    assert ours.try_lock(1)
    assert not ours.try_lock(2)
    theirs.close()


def test_a_connection_cut_inside_the_mutex_is_not_taken_for_success(postgres, postgres_locks):
    with pytest.raises(LocksLostError), postgres_locks.mutex():
        cut_connections(postgres, "optim-study locks")


def test_what_went_wrong_inside_the_mutex_is_not_hidden_by_a_connection_cut_as_well(postgres, postgres_locks):
    def fail():
        cut_connections(postgres, "optim-study locks")
        raise OutputError("the disk is full")

    with pytest.raises(OutputError, match="the disk is full"), postgres_locks.mutex():
        fail()


def test_a_lock_freed_behind_our_back_is_noticed(postgres_locks):
    """As PgBouncer's transaction pooling does it: the connection lives, the locks are gone."""
    assert postgres_locks.try_lock(5)
    postgres_locks._connection.execute("SELECT pg_advisory_unlock_all()")
    assert postgres_locks.lost() == {5}


@pytest.mark.parametrize("address", ["me:secret@127.0.0.1:1/db", "me@127.0.0.1:1/db?password=secret"])
def test_a_server_that_cannot_be_reached_is_one_sentence_without_the_password(address):
    with pytest.raises(OutputError, match=r"PostgreSQL at postgresql.psycopg://me@127\.0\.0\.1:1/db cannot") as error:
        PostgresLocks(f"postgresql+psycopg://{address}", "study")
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)


def test_an_address_that_would_show_part_of_a_password_is_refused_without_it():
    for address in ("postgresql://me:se@cret@host/db", "postgresql://me:secret", "host=h password=secret"):
        with pytest.raises(InvalidInputError) as error:
            open_storage(address, Path())
        assert "cret" not in str(error.value)
