"""A cell of a user's own goes through every command as ours do; where it does not describe itself,
it is refused.
"""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import others_slow
from networks import drawn, network, rolls

from analysis import Lesion, gate_activity, lesion, lesioned
from analysis.layer_by_layer import SKIPPED
from analysis.lesion_modes import MODES
from rhn.cells import CELLS, DTRNN, RHN, Cell, Gates, Layer, Part, described_layers, resolve_cell
from rhn.checkpoints import load, save
from rhn.errors import InvalidInputError
from rhn.models import PolyphonicModel

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "own-cell.md"
DATA = f"--data {Path(__file__).resolve().parents[1] / 'numbers/melodies.json'}"
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
"""


@pytest.fixture(scope="module")
def minimal(tmp_path_factory):
    """The guide's cell, in a folder with it and a cell made from it as my_module.py, found by no
    other import path.
    """
    folder, rows = tmp_path_factory.mktemp("own"), dict(CELLS.data)
    blocks = re.findall(r"```python[^\n]*\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    (folder / "my_module.py").write_text(
        next(block for block in blocks if "class MinimalCell" in block) + MORE
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(folder))])
        yield resolve_cell("my_module:MinimalCell")
    sys.modules.pop("my_module")
    CELLS.data = rows


@pytest.mark.parametrize("name", others_slow(["my_module:Mine", "mine"], "mine"))
def test_a_cell_goes_through_every_command(name, minimal, command, answer, refused, tmp_path):
    own = {"cell": name} if ":" in name else {}  # a registered cell needs no --cell
    new = f"--cell {name} --cell-option gain=1.5 --hidden-size 4"
    folder = tmp_path / "run"
    run = f"{folder} --cell {name}" if own else str(folder)
    assert command(f"rhn train jsb-depth-1 {new} {DATA} --epochs 1 --out {folder}").code == 0
    config = json.loads((folder / "config.json").read_text())
    assert (config["cell"], config["cell_options"]) == (name, {"gain": 1.5})
    assert config["learning_rate"] == 0.1 and load(folder, **own).cells[0].gain == 1.5

    loss = answer(f"rhn evaluate {run} --split valid")["nll"]
    lesions = answer(f"rhn-analyze lesion {run} --split valid --output a.npz")
    assert lesions["baseline"] == pytest.approx(loss, rel=1e-6)
    gates = answer(f"rhn-analyze gates {run} --output a.npz")
    assert gates["labels"] == ["1"] and 0 < gates["arrays"]["activity"][0][0] < 1
    if own:
        refused("rhn-analyze gates", folder, says="is my_module:Mine: expected ")

    assert command(f"rhn resume {run} --epochs 2").code == 0
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 3
    for given in (new, f"--checkpoint {run}"):
        assert "eigenvalues" in answer(f"gersgorin plot {given} --steps 4 --output a.npz")["arrays"]
    study = f"--preset smoke --arch {name} --cell-option gain=0.5 --trials 1 --epochs 1 --depth 1"
    assert command(f"optim-study run {study} {DATA} --out {folder}/study").code == 0
    (best,) = folder.glob("study/*/best.safetensors")
    assert load(best, **own).cells[0].gain == 0.5


def test_lesions_of_the_guide_s_cell_are_those_of_the_same_highway(minimal, tmp_path):
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
    wanted, found = (gate_activity(model, PIECES).activity for model in (ours, own))
    assert np.allclose(found, wanted, atol=1e-13)
    path = save(tmp_path / "own.safetensors", own)
    read = gate_activity(path, PIECES, cell="my_module:MinimalCell")
    assert np.array_equal(read.activity, found)
    for mode in MODES:
        found, wanted = (lesion(model, PIECES, mode) for model in (own, ours))
        assert found.loss == pytest.approx(wanted.loss, rel=1e-12), mode


class Marked(RHN):
    """A cell with a buffer that has the name of one of ours."""

    def __init__(self, *sizes, **how):
        super().__init__(*sizes, **how)
        self.register_buffer(SKIPPED, torch.ones(3))


@pytest.mark.parametrize("mode", MODES)
def test_a_buffer_named_like_ours_changes_no_lesion(mode):
    own, ours = (PolyphonicModel(kind, hidden_size=5, depth=2) for kind in (Marked, RHN))
    ours.load_state_dict(own.state_dict(), strict=False)
    found, wanted = (lesion(model, PIECES, mode).loss for model in (own, ours))
    assert found.tolist() == wanted.tolist()


class Whole(RHN):
    """A cell that describes its layers, and computes only all together."""

    run_layer = Cell.run_layer


@pytest.mark.parametrize(
    "mode", [pytest.param("bias", id="bias"), pytest.param("blind", id="blind")]
)
def test_a_cell_that_runs_no_single_layer_has_all_lesions_but_carry(mode):
    own, ours = (PolyphonicModel(kind, hidden_size=5, depth=2) for kind in (Whole, RHN))
    ours.load_state_dict(own.state_dict())
    found, wanted = (lesion(model, PIECES, mode).loss for model in (own, ours))
    assert found.tolist() == wanted.tolist()
    with pytest.raises(InvalidInputError, match="mode of Whole is carry: expected bias, blind"):
        lesion(own, PIECES, "carry")


class Silent(DTRNN):
    """Says nothing of itself."""

    layers, run_layer = Cell.layers, Cell.run_layer

    def step(self, x, s):
        for layer in range(self.depth):
            s = DTRNN.run_layer(self, layer, x, s, s)
        return s


def test_a_cell_that_says_nothing_can_be_carried_and_no_more():
    model = PolyphonicModel(Silent, hidden_size=7)
    assert lesion(model, PIECES).mode == "carry"
    frozen = lesioned(model, Lesion("carry", (1,)))
    assert (frozen(torch.ones(4, 1, 88)) == model.output.bias).all()


class OneGate(RHN):
    """A cell that gives the gates of its first layer only."""

    def gates(self, x, s):
        return Gates(t=super().gates(x, s).t[:1])


def described(*layers):
    cell = RHN(3, 4, 2)
    cell.layers = lambda: layers
    return described_layers(cell)


@pytest.mark.parametrize(
    ("measure", "words"),
    [
        pytest.param(
            lambda: gate_activity(network(), [PIECES[0][:0]]), "sequence 0 is", id="no frame"
        ),
        pytest.param(
            lambda: gate_activity(Silent(88, 7), PIECES), "gates of Silent is none", id="gates"
        ),
        pytest.param(
            lambda: gate_activity(OneGate(88, 7, 2), PIECES[1:2]),
            r"gates of OneGate is \[\(4, 1, 7\)\]: expected .* of 2 layers",
            id="gates of one layer",
        ),
        pytest.param(
            lambda: lesion(Silent(88, 88), PIECES, "bias"),
            "mode of Silent is bias: expected carry",
            id="mode",
        ),
        pytest.param(
            lambda: lesion(Silent(88, 88, 2), PIECES),
            r"expected layers\(\) and run_layer\(\)",
            id="no mode",
        ),
    ],
)
def test_a_measure_that_a_cell_does_not_have_is_refused(measure, words):
    with pytest.raises(InvalidInputError, match=words):
        measure()


@pytest.mark.parametrize(
    "layers",
    [
        pytest.param([Layer()], id="one of two"),
        pytest.param([Layer(bias=Part("biases"))] * 2, id="no such parameter"),
        pytest.param([Layer(recurrent=Part("bias", 7))] * 2, id="no such row"),
        pytest.param([Layer(bias=Part("bias", [0]))] * 2, id="list as an index"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(layers):
    with pytest.raises(InvalidInputError, match=r"layers\(\) .*: expected"):
        described(*layers)
