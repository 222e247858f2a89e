"""Registered cells: one row or one decorator gives a cell its name, and words become values of its
options.
"""

import json
import sys

import numpy as np
import pytest
import torch
from tables import for_each
from torch import nn

from gersgorin import temporal_jacobian
from rhn.cells import (
    CELLS,
    DTSRNN,
    LSTM,
    RNN,
    Cell,
    cell_options,
    make_cell,
    read_options,
    register_cell,
    resolve_cell,
)
from rhn.checkpoints import load, save
from rhn.data import Corpus, Piece
from rhn.errors import InvalidInputError
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


class Plain(Cell):
    """The plain RNN as a user writes it: parameters and a step, no more."""

    deep = False

    def __init__(self, m, n, depth=1, *, generator=None, device=None, dtype=None, **common):
        super().__init__(m, n, depth, **common)
        for name, shape in {"weight_ih": (n, m), "weight_hh": (n, n), "bias": (n,)}.items():
            weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
            self.register_parameter(name, weight)
        self.reset_parameters(generator)

    def step(self, x, s):
        return torch.tanh(x @ self.weight_ih.T + s @ self.weight_hh.T + self.bias)


def test_a_cell_with_only_a_step_trains_as_ours_and_has_its_jacobian(tmp_path):
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
    cell = Plain(3, 4, init="gaussian:1", dtype=torch.float64)
    x, s = torch.randn(6, 3, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64)
    W, R, b = (p.detach().numpy() for p in cell.parameters())
    slopes = 1 - np.tanh(x.numpy() @ W.T + s.numpy() @ R.T + b) ** 2
    A = temporal_jacobian(cell, x, s).detach().numpy()
    np.testing.assert_allclose(A, slopes[:, :, None] * R, rtol=0, atol=1e-14)


def test_a_registered_cell_has_its_name_everywhere(tmp_path):
    assert register_cell("mine")(Mine) is Mine
    assert resolve_cell("mine") is Mine and [*CELLS][-1] == "mine"
    assert (
        preset("jsb-depth-1", cell="mine").learning_rate
        == preset("jsb-depth-1", cell=f"{__name__}:Mine").learning_rate
        == 0.01
    )
    model = PolyphonicModel("mine", hidden_size=3, gain=3.0, init=None)
    again = load(save(tmp_path / "m.safetensors", model))
    assert again.cell == "mine" and again.cells[0].gain == 3.0


def test_a_cell_may_be_registered_twice_but_a_name_only_once():
    register_cell("mine")(Mine)
    register_cell("mine")(Mine)
    for name in ("mine", "rhn"):
        with pytest.raises(InvalidInputError, match=f"name is '{name}': expected a new one"):
            register_cell(name)(LSTM)
    with pytest.raises(InvalidInputError, match="name is 'my:cell': expected a new one of a-z"):
        register_cell("my:cell")(LSTM)


def test_make_cell_draws_the_same_weights_as_the_class():
    ours = make_cell("dts-rnn", 3, 4, 2, skip="last", generator=torch.Generator().manual_seed(1))
    twin = DTSRNN(3, 4, 2, skip="last", generator=torch.Generator().manual_seed(1))
    assert ours.config() == twin.config() and torch.equal(ours.weight_hh, twin.weight_hh)


@pytest.mark.parametrize(
    ("cell", "given", "read"),
    [
        ("gru", {"update_bias": "None"}, {"update_bias": None}),
        (
            "dts-rnn",
            {"skip": "last", "nonlinearity": "relu"},
            {"skip": "last", "nonlinearity": "relu"},
        ),
        (
            "rhn",
            {"coupled": "false", "transform_bias": "-3"},
            {"coupled": False, "transform_bias": -3.0},
        ),
        ("torch.nn:RNN", {"nonlinearity": "relu"}, {"nonlinearity": "relu"}),
        (
            f"{__name__}:Mine",
            {"gain": "0.1", "kind": "hard", "forget_bias": "1"},
            {"gain": 0.1, "kind": "hard", "forget_bias": 1},
        ),
    ],
    ids=str,
)
def test_words_become_python_values_and_those_of_our_cells_their_types(cell, given, read):
    found = read_options(cell, given)
    assert found == read and [type(v) for v in found.values()] == [type(v) for v in read.values()]


def test_the_import_of_a_users_cell_leaves_the_search_path_as_it_was(
    tmp_path, own_folder, monkeypatch
):
    for path in (["somewhere", *sys.path], [str(tmp_path), *sys.path]):
        monkeypatch.setattr(sys, "path", list(path))
        resolve_cell("math:pow")
        assert sys.path == path


@for_each("name", CELLS)
def test_every_option_of_our_cells_is_kept_in_files(name):
    found = cell_options(name)
    assert set(found) == set(CELLS[name].options)
    assert {option: getattr(CELLS[name](3, 4), option) for option in found} == found
