"""Bad input gets one sentence and exit code 2; no file decides what is imported."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tables import for_each

from rhn.checkpoints import load, read, save
from rhn.cli import main as cli


# MUSIC, PROSE: checkpoints; NOTES, TEXT: their data; RUN: the folder of PROSE; OUT: a free name
@pytest.fixture
def hostile(tmp_path, monkeypatch):
    """The current folder, whose modules write a file `ran` where they are imported; the path of
    that file.
    """
    (tmp_path / "here").mkdir()
    for name in ("evil", "torch", "msvcrt", "yaml", "optuna", "music21", "rich"):
        canary = (
            "from pathlib import "
            f"Path\n\nPath({str(tmp_path / 'ran')!r}).touch()\n\n\ndef cell(): ...\n"
        )
        (tmp_path / "here" / f"{name}.py").write_text(canary)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delitem(sys.modules, "evil", raising=False)
    return tmp_path / "ran"


@pytest.mark.parametrize(
    "base", [{"preset": "jsb-depth-1"}, {"preset": "ptb-depth-1"}, {"seeds": [0], "corpus": "ptb"}]
)
def test_a_file_never_decides_what_is_imported(base, hostile, refused):
    Path("config.json").write_text(json.dumps(base | {"cell": "evil:cell"}))
    for words in (["resume", "."], ["train", "--config", "config.json", "--out", "out"]):
        refused(words, "--cell is not given: expected evil:cell, as in config.json")
        assert not hostile.exists(), words
    cli.main(["train", "--config", "config.json", "--cell", "evil:cell", "--dry-run"])
    assert hostile.exists(), "the canary sings where it is named"


def test_a_checkpoint_never_decides_what_is_imported(prose, trained, hostile):
    about = read(trained(prose)).header["metadata"]
    about["train"]["cell"] = "evil:cell"  # beside a model of an RHN
    save("lie.safetensors", load(trained(prose)), **about)
    evaluate = f"evaluate lie.safetensors --data {prose.data}"
    for words in (evaluate, f"{evaluate} --mc 1", "generate lie.safetensors"):
        cli.main(words.split())
        assert not hostile.exists(), words


SCRIPT = """
from rhn.cli.main import main

for words in ("presets", "train jsb-depth-1 --dry-run", "evaluate missing", "data show jsb"):
    main(words.split())
"""


@for_each(
    "program",
    [
        ["-P", "-c", SCRIPT],
        *(["-m", name, "--help"] for name in ("rhn", "gersgorin", "analysis", "optim_study")),
    ],
)
def test_no_module_of_the_current_folder_is_imported(program, hostile):
    run = subprocess.run([sys.executable, *program], capture_output=True, text=True)
    assert "Traceback" not in run.stderr and run.stdout and not hostile.exists(), run.stderr
