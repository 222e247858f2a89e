"""A cell of a user's own goes through every command as ours do; where it does not describe itself,
one sentence says so.
"""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import drawn, network, rolls
from tables import for_each

import gersgorin.cli.commands
import optim_study.cli
import rhn.cli.main
from analysis import Lesion, gate_activity, lesion, lesioned
from analysis.cli import main
from analysis.lesion_modes import MODES, lesioned_layers
from analysis.network import places
from rhn.cells import CELLS, RHN, Cell, Gates, Layer, Part, described_layers, resolve_cell
from rhn.checkpoints import load
from rhn.errors import InvalidInputError
from rhn.models import PolyphonicModel

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "own-cell.md"
PIECES = rolls(9, 4, 6)
MORE = """
from rhn.cells import register_cell


@register_cell("mine")
class Mine(MinimalCell):
    options = ("gain",)
    learning_rate = 0.1

    def __init__(self, *sizes, gain: float = 1.0, **common):
        super().__init__(*sizes, **common)
        self.gain = gain


class Broken(Mine):
    def gates(self, x, s):
        return 1 / (x.ndim - 3)

    def step(self, x, s):
        return s
"""


@pytest.fixture(scope="module")
def minimal(tmp_path_factory):
    """The guide's cell, in a folder with it and cells made from it as my_module.py, found by no
    other import path.
    """
    folder, rows = tmp_path_factory.mktemp("own"), dict(CELLS.data)
    blocks = re.findall(r"```python[^\n]*\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    (folder / "my_module.py").write_text(
        next(block for block in blocks if "class MinimalCell" in block) + MORE
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", before := [p for p in sys.path if p not in ("", str(folder))])
        yield resolve_cell("my_module:MinimalCell")
        assert sys.path == before
    sys.modules.pop("my_module")
    CELLS.data = rows


@pytest.fixture(scope="module", params=["my_module:Mine", "mine"])
def trained(request, minimal):
    """The name of a cell with an option, which has been trained for an epoch."""
    words = [
        "--cell",
        request.param,
        "--cell-option",
        "gain=1.5",
        "--hidden-size",
        "4",
        "--epochs",
        "1",
    ]
    assert (
        rhn.cli.main.main(["train", "jsb-depth-1", *words, "--out", stored(request.param)[0]]) == 0
    )
    return request.param


def stored(name: str) -> list[str]:
    """The words for its training; a registered cell needs no --cell."""
    return [f"runs/{name.replace(':', '-')}", *(["--cell", name] if ":" in name else [])]


def test_the_option_is_in_the_configuration_and_in_the_checkpoint(trained):
    folder, *cell = stored(trained)
    config = json.loads(Path(folder, "config.json").read_text())
    assert (
        config["cell"] == trained
        and config["cell_options"] == {"gain": 1.5}
        and config["learning_rate"] == 0.1
    )
    assert load(folder, *cell[1:]).cells[0].gain == 1.5


def test_it_is_watched_and_lesioned(trained, capsys):
    assert rhn.cli.main.main(["evaluate", *stored(trained), "--split", "valid", "--json"]) == 0
    loss = json.loads(capsys.readouterr().out)["nll"]
    assert main(["gates", *stored(trained), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["labels"] == ["1"] and 0 < found["activity"][0][0] < 1
    assert main(["lesion", *stored(trained), "--split", "valid", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["baseline"] == pytest.approx(loss, rel=1e-6)


def test_the_training_is_resumed(trained):
    assert rhn.cli.main.main(["resume", *stored(trained), "--epochs", "2"]) == 0
    assert len(Path(stored(trained)[0], "metrics.jsonl").read_text().splitlines()) == 3


def test_it_is_studied(trained, capsys):
    words = (
        f"run --preset smoke --arch {trained} --cell-option gain=0.5 --trials 1 --epochs 1 "
        "--depth 1"
    ).split()
    folder, *cell = stored(trained)
    assert optim_study.cli.main([*words, "--out", f"{folder}/study"]) == 0
    assert f"{trained}-gain-0.5, depth 1" in capsys.readouterr().out
    best = next(Path(folder, "study").glob("*/best.safetensors"))
    assert load(best, *cell[1:]).cells[0].gain == 0.5


def test_it_is_drawn_new_and_trained(trained, capsys):
    new = ["--cell", trained, "--cell-option", "gain=0.5", "--hidden-size", "4"]
    for words in (new, ["--checkpoint", *stored(trained)]):
        assert (
            gersgorin.cli.commands.main(["plot", *words, "--steps", "4", "--output", "drawn.png"])
            == 0
        )
    names = [line.partition(",")[0] for line in capsys.readouterr().out.splitlines()
             if "4 units" in line]  # fmt: skip
    assert names == ["mine", "mine"]


@pytest.mark.parametrize("trained", ["my_module:Mine"], indirect=True)
def test_what_does_not_work_is_one_sentence(trained, capsys):
    folder, *_ = stored(trained)
    for words, said in {
        ("gates", folder): "is my_module:Mine: expected ",
        ("gates", folder, "--cell", "my_module:Other"): "cell is 'my_module:Other': module",
    }.items():
        assert main([*words]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
    assert main(["gates", folder, "--cell", "my_module:Broken", "--chorale", "0", "1"]) == 2
    sentence, *frames = capsys.readouterr().err.splitlines()
    assert "ZeroDivisionError" in sentence
    assert [frame.split(",")[2] for frame in frames] == [" in gates"]


def test_lesions_of_the_guide_s_cell_are_those_of_the_same_highway(minimal):
    """Its weights, put into an RHN of depth 1, give the same gates and the same losses in every
    mode.
    """
    own, ours = PolyphonicModel(minimal, hidden_size=7, dtype=torch.float64), network("rhn", 1)
    drawn(own, 3)
    cell, highway = own.cells[0], ours.cells[0]
    with torch.no_grad():
        highway.weight_ih.copy_(cell.weight[:, :88])
        highway.weight_hh.copy_(cell.weight[None, :, 88:])
        highway.bias.copy_(cell.bias[None])
    ours.output.load_state_dict(own.output.state_dict())
    assert np.allclose(
        gate_activity(own, PIECES).activity, gate_activity(ours, PIECES).activity, atol=1e-13
    )
    for mode in ("bias", "carry", "blind"):
        found, wanted = (lesion(model, PIECES, mode) for model in (own, ours))
        assert found.loss == pytest.approx(wanted.loss, rel=1e-12), mode


class Silent(Cell):
    """Says nothing of itself."""

    def __init__(
        self, input_size, hidden_size, depth=1, *, generator=None, device=None, dtype=None, **common
    ):
        super().__init__(input_size, hidden_size, depth, **common)
        self.weight = torch.nn.Parameter(
            torch.empty(hidden_size, input_size + hidden_size, device=device, dtype=dtype)
        )
        self.reset_parameters(generator)

    def step(self, x, s):
        return torch.tanh(torch.cat((x.expand(*s.shape[:-1], -1), s), -1) @ self.weight.T)


class ByLayer(Silent):
    """Also runs its layers, each with the same weights of the state."""

    def run_layer(self, layer, x, s, y):
        return super().step(x if layer == 0 else torch.zeros_like(x), s)

    def step(self, x, s):
        for layer in range(self.depth):
            s = self.run_layer(layer, x, s, s)
        return s


def test_a_cell_that_says_nothing_can_be_carried_and_no_more():
    model = PolyphonicModel(Silent, hidden_size=7)
    assert lesion(model, PIECES).mode == "carry" and [
        m for m in MODES if lesioned_layers(places(model), m)
    ] == ["carry"]
    with pytest.raises(InvalidInputError, match=r"gates of Silent is none: expected gates\(x, s\)"):
        gate_activity(model, PIECES)
    with pytest.raises(InvalidInputError, match="mode of Silent is bias: expected carry"):
        lesion(model, PIECES, "bias")


def test_a_deep_cell_needs_to_say_what_one_layer_does():
    with pytest.raises(
        InvalidInputError, match=r"mode of Silent is bias: expected layers\(\) and run_layer\(\)"
    ):
        lesion(PolyphonicModel(Silent, hidden_size=7, depth=2), PIECES)
    model = PolyphonicModel(ByLayer, hidden_size=7, depth=2)
    assert lesion(model, PIECES).label == ("1", "2")
    frozen = lesioned(model, Lesion("carry", (1, 2)))
    assert (frozen(torch.ones(4, 1, 88)) == model.output.bias).all()


@for_each(
    "layers",
    [
        [Layer()],
        [Layer(bias=Part("biases"))] * 2,
        [Layer(recurrent=Part("weight_hh", 7))] * 2,
        [Layer(bias=Part("bias", np.s_[0, :3]))] * 2,
        [Layer(bias=Part("bias", [0]))] * 2,
    ],
)
def test_a_description_that_does_not_fit_the_weights_is_refused(layers):
    class Wrong(RHN):
        def layers(self):
            return layers

    with pytest.raises(InvalidInputError, match=r"Wrong\.layers\(\) .*: expected"):
        described_layers(Wrong(3, 4, 2))


def test_gates_of_a_wrong_shape_are_refused():
    class Wrong(RHN):
        def gates(self, x, s):
            gates = super().gates(x, s)
            return Gates(t=tuple(t[..., :2] for t in gates.t), states=gates.states)

    with pytest.raises(
        InvalidInputError, match=r"gates of Wrong is .*: expected .* with t of 2 layers"
    ):
        gate_activity(Wrong(88, 4, 2), PIECES)


@for_each("key", [*CELLS])
def test_every_cell_of_ours_says_where_its_input_is(key):
    assert described_layers(CELLS[key](3, 4))[0].input
