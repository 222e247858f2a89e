"""No file decides what is imported, and a cell of the user that fails is no success."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rhn.checkpoints import load, read, save
from rhn.cli import entry
from rhn.cli.entry import run_command
from rhn.models import PolyphonicModel


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    """The current folder, whose modules write a file `ran` if they are imported; the path of that
    file.
    """
    (tmp_path / "here").mkdir()
    for name in ("evil", "torch", "msvcrt", "yaml", "optuna", "music21", "rich"):
        canary = (
            f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\ndef cell(): ...\n"
        )
        (tmp_path / "here" / f"{name}.py").write_text(canary)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delitem(sys.modules, "evil", raising=False)
    return tmp_path / "ran"


@pytest.mark.parametrize(
    "base",
    [{"preset": "jsb-depth-1"}, {"preset": "ptb-depth-1"}, {"seeds": [0], "corpus": "ptb"}],
    ids=str,
)
def test_a_configuration_never_decides_what_is_imported(base, hostile, refused, command):
    hostile.unlink(missing_ok=True)
    sys.modules.pop("evil", None)
    Path("config.json").write_text(json.dumps(base | {"cell": "evil:cell"}))
    for line in ("rhn resume .", "rhn train --config config.json --out out"):
        refused(line, says="--cell is not given: expected evil:cell, as in config.json")
        assert not hostile.exists(), line
    command("rhn train --config config.json --cell evil:cell --dry-run")
    assert hostile.exists(), "the proof that this test can fail"


def test_a_checkpoint_never_decides_what_is_imported(prose, trained, hostile, command):
    about = read(trained(prose)).header["metadata"]
    about["train"]["cell"] = "evil:cell"  # beside a model of an RHN
    save("lie.safetensors", load(trained(prose)), **about)
    evaluate = f"rhn evaluate lie.safetensors --data {prose.data}"
    for line in (evaluate, f"{evaluate} --mc 1", "rhn generate lie.safetensors"):
        command(line)
        assert not hostile.exists(), line


SCRIPT = """
from rhn.cli.main import main

for words in ("presets", "train jsb-depth-1 --dry-run", "evaluate missing", "data show jsb"):
    main(words.split())
"""


@pytest.mark.parametrize(
    "program",
    [
        ["-P", "-c", SCRIPT],
        *(["-m", name, "--help"] for name in ("rhn", "gersgorin", "analysis", "optim_study")),
    ],
    ids=["a script", "rhn", "gersgorin", "analysis", "optim_study"],
)
def test_no_module_of_the_current_folder_is_imported(program, hostile):
    run = subprocess.run([sys.executable, *program], capture_output=True, text=True)
    assert "Traceback" not in run.stderr and run.stdout and not hostile.exists(), run.stderr


def leave(*arguments, **keywords):
    sys.exit(0)


def fail(*arguments, **keywords):
    raise ValueError("not today")


@pytest.mark.parametrize("cell", ["leave", "fail"])
def test_a_cell_of_the_user_that_fails_is_no_success(cell, tmp_path, command):
    path = save(tmp_path / "mine.safetensors", PolyphonicModel("rnn", hidden_size=3))
    for line in (f"rhn train jsb-depth-1 --out {tmp_path / 'out'}", f"rhn evaluate {path}"):
        printed = command(f"{line} --cell {__name__}:{cell}")
        sentence, *frames = printed.err.splitlines()
        assert printed.code == 2 and frames[-1].startswith(f'  File "{__file__}", line ')
        assert ("ValueError: not today" if cell == "fail" else "SystemExit") in sentence
    assert run_command(leave) == 2


@pytest.mark.parametrize("folder", entry.OURS + entry.PYTHONS)
def test_a_user_s_file_whose_name_begins_like_a_folder_of_ours_is_named(folder):
    file = f"{folder}_mine.py"  # rhn_mine.py beside rhn/

    def running():
        exec(compile("1 / 0", file, "exec"))

    with pytest.raises(ZeroDivisionError) as error:
        running()
    assert f'  File "{file}", line 1, in <module>' in entry.users_frames(error.value)


def test_a_block_that_fails_at_its_end_after_ctrl_c_is_an_interrupt(capsys):
    def stop():
        try:
            raise KeyboardInterrupt("interrupted: rhn resume one")
        finally:
            raise RuntimeError("a stack is empty")

    assert run_command(stop) == 130
    assert capsys.readouterr().err == "interrupted: rhn resume one\n"


def test_a_file_that_cannot_be_written_after_ctrl_c_is_named(capsys):
    def stop():
        try:
            raise KeyboardInterrupt
        finally:
            raise OSError(28, "No space left on device", "state")

    assert run_command(stop) == 2
    assert capsys.readouterr().err.startswith("error: state: No space left on device\n")
