"""Each row of the tables beside this file is a wrong call: `CLASS NAME: CALL`. The sentence that
refuses it names the argument. The call may use the names of objects.py. A command begins with `$`,
and its class is `error`.
"""

import re
from pathlib import Path

import objects
import pytest

from rhn.errors import RhnError

ROWS = [
    re.fullmatch(r"(\w+) (.+?): (.+)", row).groups()
    for table in sorted(Path(__file__).parent.glob("*.txt"))
    for row in table.read_text().splitlines()
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The current folder, with the files that the calls read."""
    path = tmp_path_factory.mktemp("refusals")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        objects.files()
        yield path


def written(folder):
    return {path for path in folder.rglob("*") if "__pycache__" not in path.parts}


@pytest.mark.filterwarnings("ignore:.torch.jit")
@pytest.mark.parametrize(("kind", "name", "call"), [pytest.param(*row, id=row[2]) for row in ROWS])
def test_a_wrong_call_is_one_sentence_and_writes_nothing(kind, name, call, folder, command):
    before = written(folder)
    if kind == "error":
        code, out, sentence = command(call.removeprefix("$ "))
        assert (code, out) == (2, "") and sentence.startswith("error: ")
    else:
        with pytest.raises(RhnError) as error:
            eval(call, vars(objects))
        assert type(error.value).__name__ == kind
        sentence = str(error.value)
    assert len(sentence.splitlines()) == 1
    assert re.search(rf"(?<!\w){re.escape(name)}(?!\w)", sentence), sentence
    assert written(folder) == before
