"""Commands whose streams, folder or user can do less than usual: one sentence or plain output, never a traceback."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib
import pytest

from rhn.cli.common import run_command
from rhn.utils.figures import STYLE, our_style

ROOT = Path(__file__).resolve().parents[3]
LIGHT = (
    f"{sys.executable} -c 'import sys; from rhn.cli.common import run_command; sys.exit(run_command(lambda: print(1)))'"
)


def shell(line: str, cwd=None, **environment) -> subprocess.CompletedProcess:
    """A command line as a user's shell runs it."""
    env = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(["sh", "-c", line], cwd=cwd, env=env, capture_output=True, text=True, check=False)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_device_is_one_sentence():
    done = shell(f"{LIGHT} > /dev/full")
    assert (done.returncode, done.stderr) == (2, "error: the output: No space left on device\n")


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-"])
def test_closed_streams_swallow_the_output(closed):
    done = shell(f"{LIGHT} {closed}")
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


def test_a_terminal_without_the_letters_gets_question_marks():
    done = shell(f"{sys.executable} -m gersgorin --help", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert "Ger?gorin" in done.stdout


@pytest.mark.parametrize(
    "error",
    [PermissionError(13, "Permission denied", "/there/file"), OSError(36, "File name too long", b"/there/file")],
)
def test_an_error_of_the_machine_is_one_sentence(error, capsys):
    def main():
        raise error

    assert run_command(main) == 2
    assert capsys.readouterr().err == f"error: /there/file: {error.strerror}\n"


UNREADABLE = {
    "data": "-m rhn data show text --data locked/file.json",
    "run": "-m rhn evaluate locked/inner",
    "curves": "-m rhn report locked/inner",
    "checkpoint": "-m gersgorin plot --checkpoint locked/file.safetensors",
    "study": "-m optim_study status --out locked/inner",
    "figure to write": "-m gersgorin plot --output locked/figure.png",
    "run to write": "-m rhn train jsb-depth-1 --out locked/inner",
}


MORE = ("run", "curves", "figure to write")  # read and write as others do


@pytest.fixture(scope="module")
def ordinary() -> str:
    """What makes a command line an ordinary user's: nothing, or for root, who may read everything, another user."""
    if os.geteuid():
        return ""
    become = "setpriv --reuid=65534 --regid=65534 --clear-groups "
    if not shutil.which("setpriv"):
        pytest.skip("root reads everything, and there is no setpriv to become somebody else")
    if shell(f"{become}{sys.executable} -c 'import rhn'").returncode:
        pytest.skip("an ordinary user cannot read this installation")
    return become


@pytest.mark.parametrize(
    "words",
    [pytest.param(words, marks=[pytest.mark.slow] * (name in MORE)) for name, words in UNREADABLE.items()],
    ids=UNREADABLE,
)
def test_a_file_without_permission_is_one_sentence(words, ordinary):
    with tempfile.TemporaryDirectory() as home:  # tmp_path lies in a folder that is the tester's alone
        locked = Path(home) / "locked"
        (locked / "inner").mkdir(parents=True)
        for name in ("file.json", "file.safetensors", "inner/config.json"):
            (locked / name).write_text("{}")
        Path(home).chmod(0o777)
        locked.chmod(0)
        done = shell(f"{ordinary}{sys.executable} {words}", cwd=home, HOME=home)
        locked.chmod(0o700)
    assert done.returncode == 2, done.stderr
    assert re.search("^error: .*ermission denied", done.stderr, re.MULTILINE), done.stderr
    assert "Traceback" not in done.stderr


def test_figures_are_ours_whatever_a_matplotlibrc_says():
    with matplotlib.rc_context({"text.usetex": True, "font.size": 40}), our_style():
        assert not matplotlib.rcParams["text.usetex"]
        assert {name: matplotlib.rcParams[name] for name in STYLE} == STYLE
    assert matplotlib.rcParams["font.size"] != 40
