"""Streams that end, are closed or full, and Ctrl-C while a command is loaded: a word and an exit
code, never a traceback.
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PYTHON = shlex.quote(sys.executable)
LIGHT = (
    f"{PYTHON} -c 'import sys; from rhn.cli.entry import run_command; "
    "sys.exit(run_command(lambda: print(1)))'"
)


def shell(line: str, cwd=None) -> subprocess.CompletedProcess:
    """A command line as a user's shell runs it."""
    env = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{cwd}"}
    return subprocess.run(["sh", "-c", line], cwd=cwd, env=env, capture_output=True, text=True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_device_is_one_sentence():
    done = shell(f"{LIGHT} > /dev/full")
    assert (done.returncode, done.stderr) == (2, "error: the output: No space left on device\n")


FAILS = """
import sys
from rhn.cli.entry import run_command
from rhn.errors import OutputError


def main():
    print(1)
    raise OutputError("cannot write a.json: no space")


sys.exit(run_command(main))
"""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_an_error_after_text_on_a_full_device_is_one_sentence(tmp_path):
    (tmp_path / "fails.py").write_text(FAILS)
    done = shell(f"PYTHONUNBUFFERED= {PYTHON} fails.py > /dev/full", tmp_path)
    sentence, place = done.stderr.splitlines()
    assert (done.returncode, sentence) == (2, "error: cannot write a.json: no space")
    assert "fails.py" in place


PRESSES = """
import builtins, os, signal, sys
from {module} import {function}

usual = builtins.__import__


def pressing(name, *rest, **named):
    if name == "cyclopts":
        os.kill(os.getpid(), signal.SIGINT)
    return usual(name, *rest, **named)


builtins.__import__ = pressing
sys.argv[1:] = ["plot"]
sys.exit({function}())
"""


@pytest.mark.parametrize(
    ("module", "function"),
    [("rhn.cli.entry", "rhn"), ("gersgorin.cli", "gersgorin_plot"), ("analysis.entry", "analyze")],
)
def test_ctrl_c_while_a_command_is_loaded_is_a_word(module, function, tmp_path):
    (tmp_path / "press.py").write_text(PRESSES.format(module=module, function=function))
    done = shell(f"{PYTHON} press.py", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


DROPS = """
import os, signal

try:
    os.kill(os.getpid(), signal.SIGINT)
    range(2)
except BaseException:
    whole = False
"""


def test_ctrl_c_that_an_import_drops_ends_a_command(tmp_path):
    """As torch, when it loads NumPy: the command would go on with half a module."""
    (tmp_path / "drops.py").write_text(DROPS)
    main = "def main():\n    import drops\n\n    print(drops.whole)\n"
    (tmp_path / "mine.py").write_text(main)
    code = "import sys; from rhn.cli.entry import enter; sys.exit(enter('mine'))"
    done = shell(f'{PYTHON} -c "{code}"', tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")
