import json
import subprocess
import sys
import time

import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from tables import for_each

from optim_study import locks
from optim_study.cli import main
from optim_study.storage import open_journal
from rhn.errors import DataError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out" / "journal.log"


def create(storage, name):
    return storage.create_new_study([StudyDirection.MINIMIZE], name)


def names_by_stock_backend(path):
    return [study.study_name for study in JournalStorage(JournalFileBackend(str(path))).get_all_studies()]


@pytest.mark.parametrize(
    ("before", "torn"),
    [
        ([], b'{"op_code": 0, "wor'),
        *((["one"], torn) for torn in (b"", b'{"op_code": 0, "wor', b"\0" * 5000, b'{"op_code": 0}')),
    ],
)
def test_a_torn_last_line_is_cut_off_before_anything_is_appended(path, torn, before):
    storage = open_journal(path)
    for name in before:
        create(storage, name)
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    storage = open_journal(path)
    assert [study.study_name for study in storage.get_all_studies()] == before
    create(storage, "two")
    assert path.read_bytes().startswith(whole)
    assert names_by_stock_backend(path) == [*before, "two"]


def test_a_worker_killed_while_it_held_the_lock_delays_nobody(path):
    """The stock lock makes everyone wait 30 seconds."""
    storage = open_journal(path)
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from optim_study.locks import JournalLock\n"
            "JournalLock(Path(sys.argv[1])).acquire(); print('held', flush=True); sys.stdin.read()",
            str(path),
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
    create(open_journal(path), "one")
    assert not path.with_name("journal.log.lock").exists()
    stock = JournalStorage(JournalFileBackend(str(path)))
    create(stock, "two")
    assert [study.study_name for study in open_journal(path).get_all_studies()] == ["one", "two"]


def test_damage_that_is_not_at_the_end_is_said_not_repaired(path):
    create(open_journal(path), "one")
    content = b'{"op_code": 0, "wor\n' + path.read_bytes()
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"{path} is damaged"):
        open_journal(path)
    assert path.read_bytes() == content


def test_an_interrupt_while_the_lock_is_taken_gives_it_back(path, monkeypatch):
    storage = open_journal(path)

    def interrupt(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(locks, "cut_torn_line", interrupt)
        with pytest.raises(KeyboardInterrupt):
            create(storage, "one")
    create(storage, "two")
    assert names_by_stock_backend(path) == ["two"]


@pytest.mark.parametrize(
    "line",
    [b"garbage\n", b"5\n", b"[" * 5000 + b"\n", b'{"op_code":77}\n', b'{"op_code":4}\n', b"\xff\xfe\n"],
    ids=["text", "number", "deep", "operation", "fields", "bytes"],
)
@pytest.mark.parametrize("last", [True, False])
def test_a_whole_line_that_is_no_record_is_told_by_its_number(path, line, last):
    storage = open_journal(path)
    create(storage, "one")
    written = path.read_bytes()
    path.write_bytes(written + line + (b"" if last else written.replace(b"one", b"two")))
    with pytest.raises(DataError, match=rf"line {len(written.splitlines()) + 1} is no record"):
        open_journal(path)
    path.write_bytes(written)
    storage = open_journal(path)
    path.write_bytes(written + line)
    with pytest.raises(DataError, match="is no record"):
        create(storage, "two")


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> str:
    """The journal of a study of one trial."""
    out = tmp_path_factory.mktemp("study")
    assert main(["run", "--preset", "smoke", "--arch", "rnn", "--depth", "1", "--trials", "1", "--out", str(out)]) == 0
    return (out / "journal.log").read_text()


@for_each(
    ("damage", "said"),
    [
        ({"protocol": 5}, "protocol"),
        ({"protocol.options": None}, "protocol"),
        ({"protocol.learning_rate": [1]}, "protocol"),
        ({"protocol.data": 5}, "protocol"),
        ({"trials": 10**7}, "100000 or fewer"),
        ({"best_epoch": "NaN"}, "best_epoch is 'NaN'"),
        ({"test_nll": "x"}, "test_nll is 'x'"),
        ({"value": "x"}, "value is 'x'"),
        ({"value": None}, "value is None"),
        ({"learning_rate": [1]}, "learning_rate is"),
    ],
)
def test_values_that_no_study_writes_are_told(damage, said, study, tmp_path, capsys):
    records = [json.loads(line) for line in study.splitlines()]
    (name, value), *_ = damage.items()
    first, _, rest = name.partition(".")
    changed = 0
    for record in records:
        for part in (
            record.get("user_attr"),
            record.get("params"),
            {"value": record} if record.get("values") else None,
        ):
            if part and first in part:
                changed += 1
                if name == "value":
                    record["values"] = None if value is None else [value]
                elif rest:
                    part[first][rest] = value
                else:
                    part[first] = value
    assert changed
    (tmp_path / "journal.log").write_text("".join(json.dumps(record) + "\n" for record in records))
    for command in ("status", "best", "export"):
        capsys.readouterr()
        assert main([command, "--out", str(tmp_path)]) == 2
        assert said in capsys.readouterr().err
