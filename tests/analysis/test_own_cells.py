"""A cell of a user's own is trained, watched and lesioned as ours are; where it does not describe itself, one sentence says so."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import drawn, network, rolls
from tables import for_each

import rhn.cli.main
from analysis import Lesion, gate_activity, lesion, lesioned
from analysis.cli import main
from analysis.lesion_modes import MODES, lesioned_layers
from rhn.cells import CELLS, RHN, Cell, Gates, Layer, Part, described_layers, resolve_cell
from rhn.checkpoints import load_checkpoint, save_checkpoint
from rhn.errors import InvalidInputError
from rhn.models import PolyphonicModel, with_cell

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "own-cell.md"
PIECES = rolls(9, 4, 6)


class Silent(Cell):
    """Says nothing of itself."""

    def __init__(self, input_size, hidden_size, depth=1, *, generator=None, device=None, dtype=None, **common):
        super().__init__(input_size, hidden_size, depth, **common)
        self.weight = torch.nn.Parameter(torch.empty(hidden_size, input_size + hidden_size, device=device, dtype=dtype))
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


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the guide's cell as my_module.py, found by no other import path."""
    blocks = re.findall(r"```python[^\n]*\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    (tmp_path / "my_module.py").write_text(next(block for block in blocks if "class MinimalCell" in block))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(tmp_path))])
    yield tmp_path
    sys.modules.pop("my_module", None)


def minimal(folder):
    return resolve_cell("my_module:MinimalCell")


def test_readme_s_cell_is_trained_watched_and_lesioned_by_the_commands(folder, capsys):
    named = ("--cell", "my_module:MinimalCell")
    assert rhn.cli.main.main(["train", "jsb-depth-1", *named, "--hidden-size", "8", "--epochs", "2", "--out", "d"]) == 0
    best = "d/best.safetensors"
    assert rhn.cli.main.main(["evaluate", best, *named, "--split", "valid", "--json"]) == 0
    loss = json.loads(capsys.readouterr().out.splitlines()[-1])["nll"]
    assert main(["gates", best, *named, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["labels"] == ["1"] and 0 < found["activity"][0][0] < 1
    for mode in ("bias", "carry", "mean", "open", "blind"):
        assert main(["lesion", best, *named, "--split", "valid", "--mode", mode, "--json", "--force"]) == 0
        assert json.loads(capsys.readouterr().out)["baseline"] == pytest.approx(loss, rel=1e-6)
    for words, said in {
        ("gates", best): "has a cell of the user's own: add --cell my_module:MinimalCell to import it",
        (
            "lesion",
            best,
            *named,
            "--mode",
            "skip",
        ): "'skip' needs shortcuts, which MinimalCell does not describe: use bias",
        ("gates", best, "--cell", "my_module:Other"): "cannot load the cell 'my_module:Other'",
    }.items():
        assert main([*words, "--force"]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1


def test_lesions_of_readme_s_cell_are_those_of_the_same_highway(folder):
    """Its weights, put into an RHN of depth 1, give the same gates and the same losses in every mode."""
    before = list(sys.path)
    own, ours = PolyphonicModel(minimal(folder), hidden_size=7, dtype=torch.float64), network("rhn", 1)
    assert sys.path == before
    drawn(own, 3)
    cell, highway = own.cells[0], ours.cells[0]
    with torch.no_grad():
        highway.weight_ih.copy_(cell.weight[:, :88])
        highway.weight_hh.copy_(cell.weight[None, :, 88:])
        highway.bias.copy_(cell.bias[None])
    ours.output.load_state_dict(own.output.state_dict())
    assert np.allclose(gate_activity(own, PIECES).activity, gate_activity(ours, PIECES).activity, atol=1e-13)
    for mode in ("bias", "carry", "mean", "open", "blind"):
        found, wanted = (lesion(model, PIECES, mode) for model in (own, ours))
        assert found.loss == pytest.approx(wanted.loss, rel=1e-12), mode


def test_a_cell_that_breaks_is_one_sentence(folder, capsys):
    save_checkpoint("m.safetensors", PolyphonicModel(minimal(folder), hidden_size=4))
    with Path("my_module.py").open("a") as file:
        file.write("\n\nclass Broken(MinimalCell):\n    def gates(self, x, s):\n        return 1 / (x.ndim - 3)\n")
        file.write("\n    def step(self, x, s):\n        return s\n")
    sys.modules.pop("my_module")
    for words in (("gates",), ("lesion", "--mode", "mean")):
        assert main([*words, "m.safetensors", "--cell", "my_module:Broken", "--chorales", "0", "1"]) == 2
        error = capsys.readouterr().err
        sentence, *frames = error.splitlines()
        assert "my_module:Broken does not run: ZeroDivisionError" in sentence
        assert [frame.split(",")[2] for frame in frames] == [" in gates"]


def test_a_cell_that_says_nothing_can_be_carried_and_no_more(tmp_path, monkeypatch):
    model = PolyphonicModel(Silent, hidden_size=7)
    assert lesion(model, PIECES).mode == "carry" and [m for m in MODES if lesioned_layers(model, m)] == ["carry"]
    with pytest.raises(InvalidInputError, match=r"Silent has no transform gates.*gates\(x, s\)"):
        gate_activity(model, PIECES)
    with pytest.raises(InvalidInputError, match=r"'bias' needs .* Silent does not describe: use carry"):
        lesion(model, PIECES, "bias")
    monkeypatch.chdir(tmp_path)
    save_checkpoint("silent.safetensors", model)
    again = load_checkpoint("silent.safetensors", factory=with_cell(Silent))
    assert lesion(again, PIECES).table() == lesion(model, PIECES).table()


def test_a_deep_cell_needs_to_say_what_one_layer_does():
    with pytest.raises(InvalidInputError, match=r"Silent does not describe: define layers\(\), and run_layer\(\)"):
        lesion(PolyphonicModel(Silent, hidden_size=7, depth=2), PIECES)
    model = PolyphonicModel(ByLayer, hidden_size=7, depth=2)
    assert lesion(model, PIECES).label == ("1", "2")
    frozen = lesioned(model, Lesion("carry", (1, 2)))
    assert (frozen(torch.ones(4, 1, 88)) == model.output.bias).all()


@for_each(
    ("layers", "words"),
    [
        ([Layer()], "describes 1 layers: expected 2, the depth"),
        ([Layer(bias=Part("biases"))] * 2, "'biases'.* expected a part of weight_ih, weight_hh, bias"),
        ([Layer(recurrent=Part("weight_hh", 7))] * 2, "cannot be read .index 7 is out of bounds"),
        ([Layer(bias=Part("bias", np.s_[0, :3]))] * 2, "expected rows in whole blocks of 4"),
        ([Layer(bias=Part("bias", [0]))] * 2, "is a copy: expected an index of whole numbers and slices"),
    ],
)
def test_a_description_that_does_not_fit_the_weights_is_refused(layers, words):
    class Wrong(RHN):
        def layers(self):
            return layers

    with pytest.raises(InvalidInputError, match=rf"Wrong\.layers\(\).*{words}"):
        described_layers(Wrong(3, 4, 2))


def test_gates_of_a_wrong_shape_are_refused():
    class Wrong(RHN):
        def gates(self, x, s):
            gates = super().gates(x, s)
            return Gates(t=tuple(t[..., :2] for t in gates.t), states=gates.states)

    with pytest.raises(InvalidInputError, match=r"Wrong\.gates returns transform .*expected 2, one a layer"):
        gate_activity(Wrong(88, 4, 2), PIECES)


@for_each("key", [*CELLS])
def test_every_cell_of_ours_describes_itself(key):
    cell = CELLS[key](3, 4)
    (layer,) = described_layers(cell)
    told = {name for name in ("gate", "output") if getattr(layer, name) is not None}
    assert layer.input and len(told) == (key not in ("lru", "slstm", "antisymmetric", "orthogonal", "cornn", "leaky"))
    assert bool(layer.bias) == hasattr(cell, "bias")
    taken_out = hasattr(cell, "weight_hh") and key not in ("antisymmetric", "orthogonal")
    assert bool(layer.recurrent) == taken_out, "what a matrix is computed from cannot be taken out by units"
