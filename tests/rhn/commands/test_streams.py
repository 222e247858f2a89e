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


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no folder here that nobody can write")
def test_a_home_that_cannot_be_written_is_one_sentence_for_all_caches(tmp_path):
    """Our caches, matplotlib's, and those of processes that the command starts."""
    drawing = (
        f"{sys.executable} -c 'import os, subprocess, sys\n"
        "from rhn.cli.entry import run_command\n"
        "def main():\n"
        "    from rhn.kernels.compiled import missing\n"
        "    from rhn.data.jsb import chorales\n"
        "    import matplotlib\n"
        "    matplotlib.get_cachedir(), missing(), chorales()\n"
        '    child = "from rhn.utils import cache; cache.replace_unwritable_cache()"\n'
        '    subprocess.run([sys.executable, "-c", child], check=True)\n'
        "sys.exit(run_command(main))'"
    )
    keep = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        ["sh", "-c", drawing],
        env=keep | {"HOME": "/proc/nobody"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, *others = done.stderr.splitlines()
    assert first.startswith("The cache folder /proc/nobody/.cache/rhn cannot be written (")
    assert others == ["Rebuilding the chorales from music21's scores, once ..."]
    assert not list(tmp_path.iterdir())  # the temporary cache went with its process
