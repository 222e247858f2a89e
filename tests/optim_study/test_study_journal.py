import errno
import subprocess
import sys
import time

import pytest
from helpers import file_size_limit
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection

from optim_study import locks
from optim_study.locks import cut_torn_line
from optim_study.storage import open_journal
from rhn.errors import DataError, OutputError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out" / "journal.log"


def open_at(path):
    return open_journal(path, path.parent / "locks" / "journal.lock")


def create(storage, name):
    return storage.create_new_study([StudyDirection.MINIMIZE], name)


def names_by_stock_backend(path):
    return [study.study_name for study in JournalStorage(JournalFileBackend(str(path))).get_all_studies()]


@pytest.mark.parametrize("torn", [b'{"op_code": 0, "wor', b"\0" * 5000, b'{"op_code": 0}'])
def test_a_torn_last_line_is_cut_off_before_anything_is_appended(path, torn):
    create(open_at(path), "one")
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    storage = open_at(path)
    assert [study.study_name for study in storage.get_all_studies()] == ["one"]
    create(storage, "two")
    assert path.read_bytes().startswith(whole)
    assert names_by_stock_backend(path) == ["one", "two"]


@pytest.mark.parametrize(
    ("content", "kept"),
    [(b"", b""), (b"torn", b""), (b"a\nb\n", b"a\nb\n"), (b"a\nb", b"a\n"), (b"\n" + b"x" * 99, b"\n")],
)
@pytest.mark.parametrize("block", [1, 3, 4096])
def test_cutting_keeps_whole_lines_whatever_the_block(tmp_path, content, kept, block):
    file = tmp_path / "file"
    file.write_bytes(content)
    cut_torn_line(file, block)
    assert file.read_bytes() == kept


def test_a_full_disk_is_one_clear_sentence_and_leaves_the_journal_loadable(path):
    storage = open_at(path)
    create(storage, "one")
    with (
        file_size_limit(path.stat().st_size + 20),
        pytest.raises(OutputError, match=f"cannot write {path}: .*same command again") as error,
    ):
        create(storage, "two")
    assert error.value.__cause__.errno == errno.EFBIG
    assert path.read_bytes().endswith(b"\n")
    assert names_by_stock_backend(path) == ["one"]
    create(storage, "three")
    assert names_by_stock_backend(path) == ["one", "three"]


def test_a_worker_killed_while_it_held_the_lock_delays_nobody(path):
    """The stock lock makes everyone wait 30 seconds."""
    storage = open_at(path)
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from optim_study.locks import JournalLock\n"
            "JournalLock(Path(sys.argv[1]), Path(sys.argv[2])).acquire(); print('held', flush=True); sys.stdin.read()",
            str(path),
            str(path.parent / "locks" / "journal.lock"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout.readline() == b"held\n"
    holder.kill()
    holder.communicate()
    begun = time.monotonic()
    create(storage, "one")
    assert time.monotonic() - begun < 10


def test_the_dashboards_lock_is_left_alone(path):
    """Optuna's stock lock is a symbolic link beside the journal: a file of ours there would block it."""
    create(open_at(path), "one")
    assert not path.with_name("journal.log.lock").exists()
    stock = JournalStorage(JournalFileBackend(str(path)))
    create(stock, "two")
    assert [study.study_name for study in open_at(path).get_all_studies()] == ["one", "two"]


def test_damage_that_is_not_at_the_end_is_said_not_repaired(path):
    create(open_at(path), "one")
    content = b'{"op_code": 0, "wor\n' + path.read_bytes()
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"{path} is damaged"):
        open_at(path)
    assert path.read_bytes() == content


def test_an_interrupt_while_the_lock_is_taken_gives_it_back(path, monkeypatch):
    storage = open_at(path)

    def interrupt(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(locks, "cut_torn_line", interrupt)
        with pytest.raises(KeyboardInterrupt):
            create(storage, "one")
    create(storage, "two")
    assert names_by_stock_backend(path) == ["two"]
