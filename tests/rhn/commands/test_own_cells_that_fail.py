"""A cell of the user's own that raises or leaves, in the commands: exit code 2 and its own frames,
never a success.
"""

import sys

import pytest

from rhn import cells
from rhn.checkpoints import save
from rhn.cli.entry import run_command, users_frames
from rhn.cli.main import main
from rhn.models import PolyphonicModel


def leave(*arguments, **keywords):
    sys.exit(0)


def fail(*arguments, **keywords):
    raise ValueError("not today")


class Leaving(cells.RNN):
    forward = leave


@pytest.mark.parametrize("cell", ["leave", "fail", "Leaving"])
@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_a_failing_cell_is_refused(command, cell, tmp_path, capsys):
    path = save(tmp_path / "mine.safetensors", PolyphonicModel("rnn", hidden_size=3))
    where = {"train": ["jsb-depth-1", "--out", str(tmp_path / "out")], "evaluate": [str(path)]}[
        command
    ]
    assert main([command, *where, "--cell", f"{__name__}:{cell}"]) == 2
    sentence, *frames = capsys.readouterr().err.splitlines()
    assert ("ValueError: not today" if cell == "fail" else "SystemExit") in sentence
    assert frames[-1].startswith(f'  File "{__file__}", line ')


def test_files_of_libraries_of_another_environment_are_not_the_users():
    scope, file = (
        {"fail": fail},
        "/elsewhere/lib/python3.12/site-packages/torch/utils/_contextlib.py",
    )
    exec(compile("def call(): fail()", file, "exec"), scope)
    with pytest.raises(ValueError, match="not today") as caught:
        scope["call"]()
    frames = users_frames(caught.value)
    assert frames and all(f'"{__file__}"' in frame for frame in frames)


def test_an_exit_in_a_users_code_is_no_success(capsys):
    assert run_command(leave) == 2
    assert "error: SystemExit: 0" in capsys.readouterr().err
    assert main(["--help"]) == 0
