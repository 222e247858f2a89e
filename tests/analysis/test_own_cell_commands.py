"""Every command takes a cell that a user wrote in a module, by its place and by its registered name, with an option of its own."""

import importlib
import json
import sys
from pathlib import Path

import pytest

import gersgorin.cli.main
import optim_study.cli
import rhn.cli.main
from rhn.cells import CELLS
from rhn.checkpoints import load_model

MODULE = """
import torch
from torch import nn
from rhn.cells import Cell, GateBlocks, Gates, Layer, Part, register_cell


@register_cell("mine")
class Mine(Cell):
    deep = False
    blocks = 2
    options = ("gain",)
    learning_rate = 0.1

    def __init__(
        self, input_size, hidden_size, depth=1, *, gain: float = 1.0, generator=None, device=None, dtype=None, **common
    ):
        super().__init__(input_size, hidden_size, depth, **common)
        self.gain, where = gain, {"device": device, "dtype": dtype}
        self.weight_ih = nn.Parameter(torch.empty(2 * hidden_size, input_size, **where))
        self.weight_hh = nn.Parameter(torch.empty(2 * hidden_size, hidden_size, **where))
        self.bias = nn.Parameter(torch.empty(2 * hidden_size, **where))
        self.reset_parameters(generator)

    def gates(self, x, s):
        h, t = (x @ self.weight_ih.T + s @ self.weight_hh.T + self.bias).chunk(2, -1)
        h, t = torch.tanh(self.gain * h), torch.sigmoid(t)
        return Gates((h,), (t,), (1 - t,), (s + t * (h - s),))

    def step(self, x, s):
        return self.gates(x, s).states[-1]

    def layers(self):
        return (Layer(input=Part("weight_ih"), recurrent=Part("weight_hh"), bias=Part("bias"), gate=GateBlocks(1)),)
"""


@pytest.fixture(scope="module", params=["my_cells:Mine", "mine"])
def trained(request, tmp_path_factory):
    """The name of the cell, in a folder with its module and a training of one epoch."""
    folder, rows = tmp_path_factory.mktemp("own"), dict(CELLS.data)
    (folder / "my_cells.py").write_text(MODULE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        if request.param == "mine":
            importlib.import_module("my_cells")
        words = ["--cell", request.param, "--cell-option", "gain=1.5", "--hidden-size", "4", "--epochs", "1"]
        assert rhn.cli.main.main(["train", "jsb-depth-1", *words, "--out", "run"]) == 0
        yield request.param
    sys.modules.pop("my_cells", None)
    CELLS.data = rows


def own(name: str) -> list[str]:
    """The words by which a checkpoint's cell is named again: a registered cell needs none."""
    return ["--cell", name] if ":" in name else []


def test_the_option_is_in_the_configuration_and_in_the_checkpoint(trained):
    config = json.loads(Path("run/config.json").read_text())
    assert config["cell"] == trained and config["cell_options"] == {"gain": 1.5} and config["learning_rate"] == 0.1
    assert load_model("run", trained if ":" in trained else None).cells[0].gain == 1.5


def test_the_training_is_resumed(trained):
    assert rhn.cli.main.main(["resume", "run", "--epochs", "2", *own(trained)]) == 0
    assert len(Path("run/metrics.jsonl").read_text().splitlines()) == 3


def test_it_is_studied(trained, capsys):
    words = f"run --preset smoke --arch {trained} --cell-option gain=0.5 --trials 1 --epochs 1".split()
    assert optim_study.cli.main([*words, "--depth", "1", "--out", "study"]) == 0
    assert f"{trained}-gain-0.5-depth1" in capsys.readouterr().out
    assert load_model(next(Path("study").glob("*/best.safetensors")), *own(trained)[1:]).cells[0].gain == 0.5


def test_it_is_drawn_new_and_trained(trained, capsys):
    new = ["--cell", trained, "--cell-option", "gain=0.5", "--hidden-size", "4"]
    for words in (new, ["--checkpoint", "run", *own(trained)]):
        assert gersgorin.cli.main.main(["plot", *words, "--steps", "4", "--output", "drawn.png", "--force"]) == 0
    new, old = (line for line in capsys.readouterr().out.splitlines() if "4 units" in line)
    assert new.startswith(f"{trained}, 4 units, gain 0.5") and old.startswith(f"{trained}, 4 units, chorale")
