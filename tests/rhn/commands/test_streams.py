"""Commands whose streams, folder or user can do less than usual: one sentence or plain output,
never a traceback.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rhn.cli.entry import run_command

ROOT = Path(__file__).resolve().parents[3]
LIGHT = (
    f"{sys.executable} -c 'import sys; from rhn.cli.entry import run_command; "
    "sys.exit(run_command(lambda: print(1)))'"
)


def shell(line: str, cwd=None, **environment) -> subprocess.CompletedProcess:
    """A command line as a user's shell runs it."""
    env = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(
        ["sh", "-c", line], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_device_is_one_sentence():
    done = shell(f"{LIGHT} > /dev/full")
    assert (done.returncode, done.stderr) == (2, "error: the output: No space left on device\n")


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-"])
def test_closed_streams_swallow_the_output(closed):
    done = shell(f"{LIGHT} {closed}")
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(13, "Permission denied", "/there/file"),
        OSError(36, "File name too long", b"/there/file"),
    ],
)
def test_an_error_of_the_machine_is_one_sentence(error, capsys):
    def main():
        raise error

    assert run_command(main) == 2
    assert capsys.readouterr().err == f"error: /there/file: {error.strerror}\n"
