"""Every table beside this file has one call or command a row and, indented below it, the sentence
that refuses it. A command begins with `$`. `...` in a sentence stands for what differs between
machines. The names in calls are those of objects.py.
"""

import re
import shlex
from importlib import import_module
from pathlib import Path

import objects
import pytest
from helps import MAINS, complaint, lines_of

from rhn.errors import RhnError

TABLES = sorted(Path(__file__).parent.glob("*.txt"))


def rows(table: Path) -> list[tuple[str, str]]:
    """Calls with their sentences."""
    lines = [line for line in table.read_text().splitlines() if line and line[0] != "#"]
    assert all(line.startswith("    ") == bool(k % 2) for k, line in enumerate(lines)), table
    return list(zip(lines[::2], map(str.strip, lines[1::2]), strict=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The current folder, with the files that commands read."""
    path = tmp_path_factory.mktemp("refusals")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        objects.files()
        yield path


def refusal(call: str, capsys) -> str:
    """The sentence that refuses a call or a command."""
    if not call.startswith("$ "):
        with pytest.raises(RhnError) as error:
            eval(call, vars(objects))
        return f"{type(error.value).__name__}: {error.value}"
    program, *words = shlex.split(call[2:])
    assert import_module(MAINS[program]).main(words) == 2
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    *progress, sentence = [line for line in lines if not line.startswith("  File")]
    assert not printed.out and not any(line.startswith(("error", "Trace")) for line in progress)
    return sentence


@pytest.mark.filterwarnings("ignore:.torch.jit")
@pytest.mark.parametrize(
    ("call", "sentence"), [pytest.param(*row, id=row[0]) for table in TABLES for row in rows(table)]
)
def test_a_wrong_call_is_one_sentence_and_writes_nothing(call, sentence, folder, capsys):
    def written():
        return {path for path in folder.rglob("*") if "__pycache__" not in path.parts}

    before = written()
    said = refusal(call, capsys)
    assert re.fullmatch(re.escape(sentence).replace(r"\.\.\.", ".*"), said), said
    assert written() == before
    if call.startswith("$ "):
        for line in lines_of(call[2:], said):
            assert complaint(line) is None, line
