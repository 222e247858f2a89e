"""Cells by name, and a user's own: its options, its size for a budget, its training, and nothing
that belongs to another equation.
"""

import json
import sys

import numpy as np
import pytest
import torch
from cases import CELL_CASES, assert_close, dropout_mask
from choices import recorded_choices
from tables import for_each
from torch.func import jacrev, vmap

from gersgorin import layer_jacobians, temporal_jacobian
from rhn.cells import (
    CELLS,
    GRU,
    LSTM,
    RNN,
    CellMasks,
    Layer,
    Part,
    cell_options,
    hidden_size_for_budget,
    num_parameters,
    read_options,
    register_cell,
    resolve_cell,
)
from rhn.cells.base import DERIVED, Cell, DeclaredCell
from rhn.checkpoints import load, save
from rhn.data import Corpus, Piece
from rhn.models import PolyphonicModel
from rhn.presets import preset
from rhn.training.run import train


@pytest.fixture(autouse=True)
def rows(monkeypatch):
    """Registrations of a test end with it."""
    monkeypatch.setattr(CELLS, "data", dict(CELLS.data))


class Mine(LSTM):
    options = (*LSTM.options, "gain", "kind")
    learning_rate = 0.01

    def __init__(self, *sizes, gain: float = 2.0, kind="soft", **keywords):
        super().__init__(*sizes, **keywords)
        self.gain, self.kind = gain, kind


class Plain(DeclaredCell):
    """The plain RNN as a user writes it: weights and a step, no more."""

    deep = False

    def shapes(self):
        m, n = self.input_size, self.hidden_size
        return {"weight_ih": (n, m), "weight_hh": (n, n), "bias": (n,)}

    def step(self, x, s):
        return torch.tanh(x @ self.weight_ih.T + s @ self.weight_hh.T + self.bias)


class Joint(Plain):
    """The same with one weight, and the place of its recurrent matrix."""

    def shapes(self):
        return {"weight": (self.hidden_size, self.input_size + self.hidden_size)}

    def layers(self):
        return (Layer(recurrent=Part("weight", np.s_[:, self.input_size :])),)

    def step(self, x, s):
        return torch.tanh(torch.cat((x, s), -1) @ self.weight.T)


def test_a_cell_with_only_a_step_trains_as_ours_takes_input_masks_and_any_scheme(tmp_path):
    rng = np.random.default_rng(0)
    pieces = [
        Piece((rng.random((T, 88)) < 0.05).astype(np.float32), name=str(T), split="train", index=T)
        for T in (5, 7, 7)
    ]
    changes = {"cell": "mine", "hidden_size": 8, "epochs": 4, "learning_rate": 0.5}
    losses = {}
    for kind in (Plain, RNN):
        CELLS["mine"] = kind  # the name decides the random numbers
        config, out = preset("jsb-depth-1", **changes), tmp_path / kind.__name__
        train(config, Corpus(pieces, pieces, pieces, "noise"), out=out, seeds=range(2))
        lines = (out / "seed-1" / "metrics.jsonl").read_text().splitlines()
        losses[kind] = [json.loads(line)["train_nll"] for line in lines]
    assert losses[Plain] == pytest.approx(losses[RNN], rel=1e-5)
    assert losses[Plain][-1] < 0.9 * losses[Plain][0]
    cell, x, mask = Plain(3, 4), torch.randn(5, 2, 3), dropout_mask(1, 2, 3, dtype=torch.float32)
    assert torch.equal(cell(x, dropout=CellMasks(mask))[0], cell(x * mask)[0])
    joint = Joint(4, 6, init="orthogonal", dtype=torch.float64).weight.detach()
    assert_close(joint[:, 4:] @ joint[:, 4:].T, torch.eye(6).double(), 1e-12, "Q Q'")
    assert Plain(4, 60, init="orthogonal").weight_hh.std() > 0.9 / 60**0.5, "scaled"


def test_a_registered_cell_has_its_name_everywhere(tmp_path):
    for _ in range(2):
        assert register_cell("mine")(Mine) is Mine is resolve_cell("mine")
    own = [preset("jsb-depth-1", cell=name) for name in ("mine", f"{__name__}:Mine")]
    assert [config.learning_rate for config in own] == [0.01, 0.01]
    model = PolyphonicModel("mine", hidden_size=3, gain=3.0, init=None)
    again = load(save(tmp_path / "m.safetensors", model))
    assert again.cell == "mine" and again.cells[0].gain == 3.0


@for_each(
    ("cell", "given", "read"),
    [
        ("gru", {"update_bias": "None"}, {"update_bias": None}),
        (
            "rhn",
            {"coupled": "false", "transform_bias": "-3"},
            {"coupled": False, "transform_bias": -3.0},
        ),
        ("torch.nn:RNN", {"nonlinearity": "relu"}, {"nonlinearity": "relu"}),
        (f"{__name__}:Mine", {"gain": "0.1", "forget_bias": "1"}, {"gain": 0.1, "forget_bias": 1}),
    ],
)
def test_words_become_python_values_and_those_of_our_cells_their_types(cell, given, read):
    found = read_options(cell, given)
    assert found == read and [*map(type, found.values())] == [*map(type, read.values())]


def test_the_import_of_a_users_cell_leaves_the_search_path_as_it_was(own_folder, monkeypatch):
    for path in (["somewhere", *sys.path], [str(own_folder), *sys.path]):
        monkeypatch.setattr(sys, "path", list(path))
        resolve_cell("math:pow")
        assert sys.path == path


@for_each("name", CELLS)
def test_every_option_of_our_cells_is_kept_in_files(name):
    found, cell = cell_options(name), CELLS[name](3, 4)
    assert set(found) == set(cell.options)
    assert {option: getattr(cell, option) for option in found} == found


@for_each("case", CELL_CASES)
def test_the_largest_cell_and_output_layer_that_fit_a_budget(case):
    n = hidden_size_for_budget(
        case.key, 5_000, case.depth, input_size=7, output_size=3, **case.options
    )
    whole, more = (num_parameters(case.plain(7, size)) + (size + 1) * 3 for size in (n, n + 1))
    assert whole <= 5_000 < more


@for_each("key", CELLS)
def test_a_subclass_with_another_step_inherits_nothing_from_the_old_one(key):
    def half(self, *given):
        return 0.5 * CELLS[key].step(self, *given)

    cell = type("Half", (CELLS[key],), {"step": half})(3, 4, init="gaussian:1", dtype=torch.float64)
    x, s = (torch.rand(2, size, dtype=torch.float64) for size in (3, cell.state_size))
    wanted = vmap(jacrev(cell.step, argnums=1))(x, s)
    assert_close(temporal_jacobian(cell, x, s), wanted, 1e-12, "jacobian")
    assert_close(layer_jacobians(cell, x, s)[0], wanted, 1e-12, "layers")
    assert_close(cell.states(x[None], s)[0], cell.step(x, s), 1e-12, "states")
    assert not any(callable(getattr(cell, name, None)) for name in DERIVED - {"states"})
    kept, parent = type("Kept", (CELLS[key],), {}), CELLS[key]
    own = type("Own", (parent,), {name: vars(parent).get(name) for name in ("step", "jacobian")})
    assert all(getattr(kept, name, None) is getattr(parent, name, None) for name in DERIVED)
    assert own.jacobian is vars(parent).get("jacobian") and own.states is Cell.states


@for_each("base", [LSTM, GRU])
def test_torch_s_kernels_run_a_cell_alone_but_no_subclass_with_states_of_its_own(base):
    class Still(base):
        def states(self, x, s0, dropout=None):
            return s0.expand(len(x), *s0.shape)

    x, cell = torch.randn(4, 3, 5), base(5, 7)
    with recorded_choices() as choices:
        outputs, last = cell(x, s0 := torch.randn(3, cell.state_size))
        assert choices == []
        stacked, stacked_last = vmap(cell)(x[None], s0[None])
    assert choices == ["fused"]
    torch.testing.assert_close((stacked[0], stacked_last[0]), (outputs, last), rtol=1e-5, atol=1e-6)
    assert torch.equal(Still(5, 7)(x, s0)[1], s0)
