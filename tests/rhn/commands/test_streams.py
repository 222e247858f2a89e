"""Commands whose streams, folder or user can do less than usual: one sentence or plain output,
never a traceback.
"""

import os
import subprocess
import sys
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

import analysis.cli
import gersgorin.cli.commands
import optim_study.cli
import rhn.cli.main
import trainability.cli
from rhn.checkpoints import save
from rhn.cli.entry import run_command
from rhn.models import PolyphonicModel

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


SETTINGS = {"learning_rate": 0.1, "init_std": 0.01, "transform_bias": -2.0, "hidden_size": 8}
LOSSES = {"best_train_nll": 9.0, "best_valid_nll": 9.3, "test_nll": 9.4}
MAIN = {
    "gersgorin": gersgorin.cli.commands.main,
    "optim-study": optim_study.cli.main,
    "rhn": rhn.cli.main.main,
    "rhn-analyze": analysis.cli.main,
    "trainability": trainability.cli.main,
}
MADE = "--cell rnn --hidden-size 3"
TRAINING = """
import torch
x, model = torch.randn(100, 3), torch.nn.Linear(3, 1)
sgd = torch.optim.SGD(model.parameters(), 0.1)
parts = dict(model=model, x=x, y=x[:, :1], loss_fn=torch.nn.MSELoss(), optimizer=sgd)
"""


@contextmanager
def without_reader():
    """A stream of text into a pipe whose reader has ended."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", buffering=1) as stream:
        yield stream


@pytest.mark.usefixtures("own_folder")
@pytest.mark.parametrize(
    "command",
    [
        f"gersgorin plot {MADE} --steps 5 --output out.png out.npz",
        f"gersgorin products {MADE} --steps 5 --json --output out.json",
        f"gersgorin run {MADE} --steps 5 --output out.npz",
        "optim-study plot trials.csv --output out.csv",
        "rhn sample model.safetensors --length 1 --output out.mid",
        "rhn report run --output out.csv",
        "rhn-analyze gates model.safetensors --chorale 0 --output out.npz",
        "trainability check training.py:parts --steps 4 --output out.json",
    ],
)
def test_a_command_whose_reader_has_ended_writes_its_files(command):
    save("model.safetensors", PolyphonicModel("gru", hidden_size=3))
    trial = {"arch": "rhn", "depth": 2, "trial": 0, "epochs": 50, "diverged": False}
    optim_study.write_csv([optim_study.TrialRow(**trial, **SETTINGS, **LOSSES)], "trials.csv")
    Path("training.py").write_text(TRAINING)
    Path("run").mkdir()
    Path("run/config.json").write_text("{}")
    Path("run/metrics.jsonl").write_text('{"epoch": 1, "train_nll": 2, "valid_nll": 1}\n')
    program, *words = command.split()
    with (
        without_reader() as out,
        without_reader() as err,
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        assert MAIN[program](words) == 0
    files = words[words.index("--output") + 1 :]
    assert all(Path(file).stat().st_size for file in files)


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
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"error: /there/file: {error.strerror}" and "line " in said[1]
