"""Ctrl-C in the first seconds of a command, while libraries are imported: a word and exit code 130,
never a traceback.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENTRIES = [
    "rhn.cli.entry:rhn",
    "gersgorin.cli:gersgorin_plot",
    "analysis.entry:analyze",
    "optim_study.entry:study",
]
PRESSES = "import builtins, os, signal, sys\nsys.argv[1:] = ['plot']\nusual = builtins.__import__\n"
PRESSES += (
    "def pressing(name, *rest, **named):\n    if name == 'cyclopts': "
    "os.kill(os.getpid(), signal.SIGINT)\n"
)
PRESSES += "    return usual(name, *rest, **named)\nbuiltins.__import__ = pressing\n"
MODULES = ["rhn", "gersgorin", "analysis"]


def started(code: str, cwd: Path) -> subprocess.CompletedProcess:
    env = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{cwd}"}
    asked = {
        "cwd": cwd,
        "env": env,
        "capture_output": True,
        "text": True,
        "check": False,
        "timeout": 120,
    }
    return subprocess.run([sys.executable, "-c", code], **asked)


@pytest.mark.parametrize("entry", ENTRIES)
def test_ctrl_c_while_a_command_is_loaded_is_a_word(entry, tmp_path):
    module, _, function = entry.partition(":")
    done = started(
        f"import sys\nfrom {module} import {function}\n{PRESSES}sys.exit({function}())", tmp_path
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_where_ctrl_c_is_ignored_it_stays_so(tmp_path):
    (tmp_path / "command.py").write_text(
        "import os, signal\ndef main():\n    os.kill(os.getpid(), signal.SIGINT)\n    return 7\n"
    )
    ignoring = "import signal, sys\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    assert (
        started(
            f"{ignoring}from rhn.cli.entry import enter\nsys.exit(enter('command'))", tmp_path
        ).returncode
        == 7
    )


def test_help_whose_reader_ends_is_no_error():
    command = [sys.executable, "-m", "optim_study", "run", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
