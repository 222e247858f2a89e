"""`trainability watch` runs a script as `python` does, and prints the facts of its loop."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from trainability import LoopResult
from trainability.watching.loop_facts import OPTIMISER_STEPS, PASSES, REUSED

SCRIPT = """
import argparse, sys, torch
from torch import nn
import beside
parser = argparse.ArgumentParser()
parser.add_argument("--passes", type=int, default=8)
parser.add_argument("--ending", default="pass")
options = parser.parse_args()
model = nn.Linear(3, 1)
sgd = torch.optim.SGD(model.parameters(), 0.1)
if __name__ == "__main__":
    for _ in range(options.passes):
        model(torch.ones(2, 3)).sum().backward()
        sgd.step()
    print("at the end", sys.argv, sys.path[0], beside.A)
    exec(options.ending)
"""


@pytest.fixture
def script(own_folder):
    """A folder with a script, and a module that it imports."""
    folder = own_folder / "code"
    folder.mkdir()
    (folder / "train.py").write_text(SCRIPT)
    (folder / "beside.py").write_text("A = 3\n")
    yield folder / "train.py"
    sys.modules.pop("beside", None)


def test_a_script_runs_as_with_python(script, command):
    argv, path = list(sys.argv), list(sys.path)
    found = command("trainability watch", script, "--passes", 5)
    words = [str(script), "--passes", "5"]
    assert found.code == 0
    assert f"at the end {words} {script.parent} 3\n" in found.out
    assert found.out.index("at the end") < found.out.index(REUSED)
    assert (sys.argv, sys.path) == (argv, path)


@pytest.mark.parametrize(
    ("program", "folder"),
    [
        pytest.param("", "", id="typed"),
        pytest.param("/bin/trainability", "/bin", id="command"),
        pytest.param("/bin/trainability", "/other", id="without a folder of its own"),
    ],
)
def test_the_folder_of_a_script_replaces_that_of_the_program(
    script, command, monkeypatch, program, folder
):
    real = str(Path(folder).resolve()) if folder else ""
    monkeypatch.setattr(sys, "argv", [program])
    monkeypatch.setattr(sys, "path", [real, *sys.path])
    found = command("trainability watch", script, "--ending", "print('places', sys.path[:2])")
    behind = real if folder == "/other" else sys.path[1]
    assert f"places {[str(script.parent), behind]}\n" in found.out
    assert sys.path[0] == real


def test_a_module_runs_as_with_python_m(script, command, monkeypatch):
    monkeypatch.chdir(script.parent)
    found = command("trainability watch -m train --passes 5")
    assert f"at the end {[str(script), '--passes', '5']} {script.parent} 3\n" in found.out


def test_options_before_the_script_are_those_of_the_command(script, command):
    found = command("trainability watch --passes 3 --output a.json --csv a.csv", script)
    assert found.code == 0 and "at the end" not in found.out
    stored = LoopResult.load("a.json")
    assert stored.fact(OPTIMISER_STEPS) == (3,) and stored.fact(PASSES) == (3, 0)
    assert stored.fact(REUSED) == (2, 2)
    assert str(stored) in found.out


@pytest.mark.parametrize(
    ("ending", "code", "says"),
    [
        ("sys.exit(3)", 3, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit('no data')", 1, "no data\n"),
        ("raise ValueError('odd')", 1, "ValueError: odd\n"),
        ("raise KeyboardInterrupt", 130, ""),
    ],
)
def test_every_end_of_a_script_prints_the_table_and_has_the_code_of_python(
    script, command, ending, code, says
):
    found = command("trainability watch", script, "--ending", ending)
    assert found.code == code and found.err.endswith(says)
    assert REUSED in found.out


@pytest.mark.parametrize(
    "change",
    [
        "sys.stdout.close()",
        "sys.stdout = None",
        "sys.stdout = open('log.txt', 'w'); sys.stdout.close()",
        "import io; sys.stdout = io.StringIO()",
        "sys.stderr = open('log.txt', 'w'); sys.stderr.close()",
    ],
)
def test_the_table_is_printed_after_a_script_that_changes_its_streams(script, command, change):
    found = command("trainability watch", script, "--ending", change)
    assert found.code == 0
    assert REUSED in found.out


@pytest.mark.slow
def test_the_table_follows_the_text_of_a_script_that_takes_the_buffer(script):
    take = "import io; sys.stdout = io.TextIOWrapper(sys.stdout.detach()); print('in the buffer')"
    words = [sys.executable, "-m", "trainability", "watch", str(script), "--ending", take]
    out = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert out.index("in the buffer") < out.index(REUSED)


def test_files_are_written_where_the_command_was_called(script, command):
    change = "import os; os.chdir('/')"
    found = command("trainability watch --output a.json --csv a.csv", script, "--ending", change)
    assert found.code == 0
    assert {"a.json", "a.csv"} <= {path.name for path in script.parents[1].iterdir()}


def test_the_traceback_of_an_error_has_only_calls_of_the_script(script, command):
    found = command("trainability watch", script, "--ending", "raise ValueError('odd')")
    calls = [line for line in found.err.splitlines() if line.startswith("  File ")]
    assert [call.split('"')[1] for call in calls] == [str(script), "<string>"]
    unknown = command("trainability watch -m nowhere")
    assert (unknown.code, unknown.err) == (1, "ImportError: No module named nowhere\n")


def test_a_script_that_does_not_exist_is_refused(command, own_folder):
    found = command("trainability watch --passes 3 none.py")
    assert found.code == 2 and found.err.startswith("error: SCRIPT is none.py: expected a file")


def test_a_result_is_read_from_files(script, command):
    command("trainability watch --output a.json --output a.npz --output a.png", script)
    one, other = LoopResult.load("a.json"), LoopResult.load("a.npz")
    assert str(one) == str(other)
    np.testing.assert_array_equal(one.losses, other.losses)
    np.testing.assert_array_equal(one.optimizers[0].at_step, other.optimizers[0].at_step)
    assert (script.parents[1] / "a.png").stat().st_size > 1000
