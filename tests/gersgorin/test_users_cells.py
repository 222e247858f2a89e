"""A user's own cell that is wrong somewhere: one sentence that names it, and never the end of a
command as if all were well.
"""

import re
import sys

import torch
from tables import for_each

from gersgorin.cli.analysis import main
from rhn.cells import Cell


class Own(Cell):
    deep = False

    def __init__(
        self, input_size, hidden_size, depth=1, *, generator=None, device=None, dtype=None, **common
    ):
        super().__init__(input_size, hidden_size, depth, **common)
        self.weight = torch.nn.Parameter(
            torch.zeros(hidden_size, input_size, device=device, dtype=dtype)
        )

    def step(self, x, s):
        return torch.tanh(s + x @ self.weight.T)


def with_method(name, method):
    """A class of cells with one method of their own."""
    return type("Mine", (Own,), {name: method})


def leave(*arguments, **keywords):
    sys.exit(0)


CASES = {
    "raises": (
        with_method("step", lambda self, x, s: 1 / 0),
        "Mine takes no step .*ZeroDivisionError",
    ),
    "none": (
        with_method("step", lambda self, x, s: None),
        "must return one state of 4 entries.*returns None",
    ),
    "not finite": (
        with_method(
            "jacobian", lambda self, x, s: torch.full((*s.shape, 4), torch.nan, dtype=s.dtype)
        ),
        "NaN",
    ),
    "in place": (
        with_method("step", lambda self, x, s: s + x.add_(1).sum()),
        "in place: expected a new tensor",
    ),
    "NaN": (
        with_method("step", lambda self, x, s: s * torch.nan),
        "a state is NaN or infinite.* change what the step computes",
    ),
    "exits at once": (with_method("__init__", leave), "cannot build .*SystemExit: 0"),
}


@for_each("case", CASES)
def test_what_is_wrong_is_one_sentence(case, tmp_path, own_folder, monkeypatch, capsys):
    cell, said = CASES[case]
    monkeypatch.setattr(sys.modules[__name__], "mine", cell, raising=False)
    assert main(["--cell", f"{__name__}:mine", "--hidden-size", "4", "--steps", "3"]) == 2
    assert re.search(said, capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []


def test_the_users_own_frames_follow_the_sentence(tmp_path, own_folder, monkeypatch, capsys):
    (tmp_path / "failing_cells.py").write_text(
        "from tests_of_users_cells import Own\n"
        "class Raising(Own):\n"
        "    def step(self, x, s):\n"
        "        return self.deeper()\n"
        "    def deeper(self):\n"
        "        return 1 / 0\n"
    )
    monkeypatch.setitem(sys.modules, "tests_of_users_cells", sys.modules[__name__])
    assert main(["--cell", "failing_cells:Raising", "--hidden-size", "4", "--steps", "3"]) == 2
    sentence, *frames = capsys.readouterr().err.splitlines()
    assert sentence.startswith("error: failing_cells:Raising: Raising takes no step ")
    file = tmp_path / "failing_cells.py"
    assert frames == [
        f'  File "{file}", line {n}, in {name}' for n, name in ((4, "step"), (6, "deeper"))
    ]
