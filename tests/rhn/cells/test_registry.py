"""Cells by name, and a user's own: its options, its size for a budget, its training, and nothing
that belongs to another equation.
"""

import math
import sys
from functools import partial
from inspect import Parameter

import numpy as np
import pytest
import torch
from cases import CELL_CASES, assert_close, dropout_mask
from torch import nn

import gersgorin
from gersgorin.kinds import takes
from rhn.cells import (
    CELLS,
    GRU,
    RHN,
    RNN,
    Cell,
    CellMasks,
    Gates,
    Layer,
    Part,
    StackedCell,
    accepts,
    cell_options,
    hidden_size_for_budget,
    num_parameters,
    read_options,
    recurrent_parts,
    register_cell,
    resolve_cell,
)
from rhn.cells.base import DERIVED, DeclaredCell
from rhn.cells.module_layers import layers_in
from rhn.cells.options import parameters_of
from rhn.cells.registry import import_named
from rhn.checkpoints import load, save
from rhn.errors import CheckpointError, InvalidInputError
from rhn.models import PolyphonicModel
from rhn.training.configure import preset


@pytest.fixture(autouse=True)
def rows(monkeypatch):
    """Registrations of a test end with it."""
    monkeypatch.setattr(CELLS, "data", dict(CELLS.data))


class Plain(DeclaredCell):
    """The plain RNN as a user writes it, with an option: weights and a step, no more."""

    deep = False
    options = ("gain",)
    learning_rate = 0.01

    def __init__(self, *sizes, gain: float = 1.0, **keywords):
        super().__init__(*sizes, **keywords)
        self.gain = gain

    def shapes(self):
        m, n = self.input_size, self.hidden_size
        return {"weight_ih": (n, m), "weight_hh": (n, n), "bias": (n,)}

    def step(self, x, s):
        return torch.tanh(self.gain * (x @ self.weight_ih.T + s @ self.weight_hh.T + self.bias))


class Joint(Plain):
    """The same with one weight, and the place of its recurrent matrix."""

    def shapes(self):
        return {"weight": (self.hidden_size, self.input_size + self.hidden_size)}

    def layers(self):
        return (Layer(recurrent=Part("weight", np.s_[:, self.input_size :])),)

    def step(self, x, s):
        return torch.tanh(torch.cat((x, s), -1) @ self.weight.T)


class Independent(Plain):
    """The same with one recurrent weight a unit (IndRNN), which no scheme makes orthogonal."""

    def shapes(self):
        return {"weight": (self.hidden_size, self.input_size), "recurrent": (self.hidden_size,)}

    def layers(self):
        return (Layer(input=Part("weight"), recurrent=Part("recurrent")),)


def test_a_cell_with_only_a_step_takes_input_masks_and_any_scheme():
    cell, x, mask = Plain(3, 4), torch.randn(5, 2, 3), dropout_mask(1, 2, 3, dtype=torch.float32)
    assert torch.equal(cell(x, dropout=CellMasks(mask))[0], cell(x * mask)[0])
    joint = Joint(4, 6, init="orthogonal", dtype=torch.float64).weight.detach()
    assert_close(joint[:, 4:] @ joint[:, 4:].T, torch.eye(6).double(), 1e-12, "Q Q'")
    assert Plain(4, 60, init="orthogonal").weight_hh.std() > 0.9 / 60**0.5, "scaled"
    assert not Plain(4, 6, init="identity:0").weight_hh.any(), "no candidate"
    assert recurrent_parts(Independent(4, 6, init="orthogonal")) == []


def test_a_deep_cell_without_run_layer_runs_as_a_whole_only():
    deep = type("Deep", (Plain,), {"deep": True})
    assert deep(3, 4).runs_layers and not deep(3, 4, 2).runs_layers
    with pytest.raises(NotImplementedError, match="Deep needs run_layer"):
        deep(3, 4, 2).run_layer(0, *torch.zeros(3, 4))


def test_a_registered_cell_has_its_name_everywhere(tmp_path):
    for _ in range(2):
        assert register_cell("mine")(Plain) is Plain is resolve_cell("mine")
    own = [preset("jsb-depth-1", cell=name) for name in ("mine", f"{__name__}:Plain")]
    assert [config.learning_rate for config in own] == [0.01, 0.01]
    model = PolyphonicModel("mine", hidden_size=3, gain=3.0, init=None)
    again = load(save(tmp_path / "m.safetensors", model))
    assert again.cell == "mine" and again.cells[0].gain == 3.0
    assert read_options("mine", {"gain": "0.1"}) == {"gain": 0.1}
    given = {"coupled": "false", "gate_constant": "none"}
    assert read_options("rhn", given) == {"coupled": False, "gate_constant": 0}


class Closed(Plain):
    """A cell that passes no keyword on."""

    def __init__(self, input_size, hidden_size, depth=1, scale=2.0, *rest, leak):
        super().__init__(input_size, hidden_size)


def test_the_options_of_a_users_cell_are_its_own_keywords_and_those_that_it_passes_on():
    def factory(inputs, units, depth=1, scale=2.0, *rest, leak, **others):
        raise AssertionError("no cell is built")

    for name, cell in {"closed": Closed, "factory": factory}.items():
        register_cell(name)(cell)
        assert cell_options(name) == {"scale": 2.0, "leak": Parameter.empty}
    assert accepts(Plain, "kernel") and not accepts(Closed, "kernel")
    assert {*parameters_of(factory)} == {"inputs", "units", "depth", "scale", "leak"}


@pytest.mark.parametrize("case", CELL_CASES, ids=str)
def test_the_largest_cell_and_output_layer_that_fit_a_budget(case):
    sizes = {"input_size": 7, "output_size": 3}
    for n in (1, 16):
        cell = case.plain(7, n)
        whole = sum(p.numel() for p in cell.parameters()) + n * 3 + 3
        assert hidden_size_for_budget(case.key, whole, case.depth, **sizes, **case.options) == n
    assert hidden_size_for_budget(case.key, whole - 1, case.depth, **sizes, **case.options) == 15
    cell.weight_ih.requires_grad_(False)
    assert num_parameters(cell) == whole - 51 - cell.weight_ih.numel()


@pytest.mark.parametrize("key", CELLS)
def test_a_subclass_with_another_step_inherits_nothing_from_the_old_one(key):
    def half(self, *given):
        return 0.5 * CELLS[key].step(self, *given)

    cell = type("Half", (CELLS[key],), {"step": half})(3, 4, init="gaussian:1", dtype=torch.float64)
    x, s = (torch.rand(2, size, dtype=torch.float64) for size in (3, cell.state_size))
    assert_close(cell(torch.stack((x, x)), s)[1], cell.step(x, cell.step(x, s)), 1e-12, "states")
    assert not any(callable(getattr(cell, name, None)) for name in DERIVED - {"states"})


@pytest.mark.parametrize("missing", ["jacobian", "input_jacobian"])
def test_a_stack_has_gates_and_jacobians_only_if_each_of_its_cells_has_them(missing):
    partly = type("Partly", (RNN,), {missing: None})
    stack = StackedCell([GRU(3, 3), partly(3, 4)])
    assert stack.gates(torch.zeros(3), torch.zeros(7)) == Gates()
    assert stack.jacobian is None and stack.input_jacobian is None


def test_a_subclass_keeps_what_it_defines():
    class Still(GRU):
        def states(self, x, s0, dropout=None):
            return s0.expand(len(x), *s0.shape)

    assert torch.equal(Still(5, 7)(torch.randn(4, 3, 5), s0 := torch.randn(3, 7))[1], s0)
    mine = type("Mine", (RHN,), {name: getattr(RHN, name) for name in ("step", "jacobian")})
    assert mine.jacobian is RHN.jacobian


OF_TYPE_CHECKERS = """
def cell(input_size: Size, hidden_size: Size, depth=1, *, leak: Rate = 0.5): ...
class Cell(nn.Module):
    def __init__(self, input_size: Size, hidden_size: Size, depth=1, *, leak: Rate = 0.5): ...
    def forward(self, x: Tensor, s: Tensor) -> Tensor: ...
"""


@pytest.mark.skipif(sys.version_info < (3, 14), reason="a definition evaluates its annotations")
def test_annotations_of_a_users_cell_are_not_evaluated():
    """Since Python 3.14 they may be names that only a type checker imports (PEP 649)."""
    exec(OF_TYPE_CHECKERS, names := {"nn": nn})
    for factory in (names["cell"], names["Cell"], partial(names["cell"], leak=0.1)):
        assert {"input_size", "depth", "leak"} <= parameters_of(factory).keys()
    assert takes(names["Cell"](3, 4), None, None) and not takes(names["cell"], None)


class Foreign(nn.Module):
    """A module whose attributes have names of ours and other meanings."""

    cell, func, options, deep, masks = "gru", None, ["a list"], 0, None

    def __init__(self, inputs, units, depth=1, *, rest=0.5, device=None, dtype=None):
        super().__init__()
        where = {"device": device, "dtype": dtype}
        self.rest, self.share = nn.Linear(inputs, units, **where), rest
        self.R = nn.Parameter(torch.eye(units, **where))

    def layers(self, count):
        raise AssertionError("a method of the user's")

    def forward(self, x, s=None):
        outputs = []
        for x_t in x:
            s = torch.tanh(self.rest(x_t) + (0 if s is None else s @ self.R)) * self.share
            outputs.append(s)
        return torch.stack(outputs), s


def test_attributes_of_another_module_are_its_own(tmp_path):
    name = f"{__name__}:Foreign"
    assert cell_options(name) == {"rest": 0.5} and accepts(Foreign, "rest")
    assert read_options(name, {"rest": "0.25"}) == {"rest": 0.25}
    assert preset("jsb-depth-4", cell=name).depth == 4
    model = PolyphonicModel(name, hidden_size=3, rest=0.25, init=None)
    path = save(tmp_path / "m.safetensors", model)
    again, x = load(path, name), torch.rand(4, 2, 88)
    assert again.config() == model.config() and torch.equal(again(x), model(x))
    ((module, layer),) = layers_in(model.cells[0])
    assert module.get_parameter(layer.recurrent.parameter) is model.cells[0].R
    foreign = Foreign(3, 4)
    for config in ({"rest": 0.5}, nn.Linear(1, 1)):
        foreign.config = config
        with pytest.raises(CheckpointError, match=r"Foreign has no config\(\)"):
            save(tmp_path / "f.safetensors", foreign)


@pytest.mark.parametrize(
    ("module", "wanted", "gate"),
    [
        pytest.param(RHN(3, 4, 2), ["weight_ih weight_hh - bias", "- weight_hh - bias"], (1, True)),
        pytest.param(nn.RNNCell(3, 4), ["weight_ih weight_hh - bias_ih"], None),
        pytest.param(nn.LSTMCell(3, 4), ["weight_ih weight_hh - bias_ih"], (0, True)),
        pytest.param(
            nn.GRU(3, 4, 2, bidirectional=True),
            [
                "weight_ih_l0 weight_hh_l0 - bias_ih_l0",
                "weight_ih_l0_reverse weight_hh_l0_reverse - bias_ih_l0_reverse",
                "- weight_hh_l1 weight_ih_l1 bias_ih_l1",
                "- weight_hh_l1_reverse weight_ih_l1_reverse bias_ih_l1_reverse",
            ],
            (1, False),
        ),
        pytest.param(nn.Linear(3, 4), ["weight - - bias"], None),
        pytest.param(nn.Linear(4, 4), ["- weight - bias"], None),
        pytest.param(nn.Embedding(5, 4), [], None),
        pytest.param(Foreign(3, 4), ["- R - -"], None),
    ],
    ids=repr,
)
def test_the_layers_in_a_module_are_the_names_of_its_weights(module, wanted, gate):
    layers = [layer for _, layer in layers_in(module)]
    parts = [(row.input, row.recurrent, row.skip, row.bias) for row in layers]
    assert [" ".join(part.parameter if part else "-" for part in row) for row in parts] == wanted
    gates = [row.gate and (row.gate.transform, row.gate.opens) for row in layers]
    assert gates == [gate] * len(wanted)


class Named(Cell):
    """A cell with a part named like a bias."""

    deep = False

    def __init__(self, *sizes, generator=None, **common):
        super().__init__(*sizes, init="gaussian:0.5", **common)
        self.bias_of_input = nn.Linear(self.input_size, self.hidden_size)
        self.bias = nn.Parameter(torch.ones(self.hidden_size))
        self.reset_parameters(generator)

    def step(self, x, s):
        return torch.tanh(self.bias_of_input(x) + self.bias + s)


def test_only_the_own_name_of_a_parameter_makes_it_a_bias():
    cell, x = Named(3, 4), torch.rand(6, 3)
    assert cell.bias_of_input.weight.all() and not cell.bias_of_input.bias.any()
    assert not cell.bias.any()
    names = gersgorin.Recorder(cell, x).recording.parameters
    assert names == ("bias", "bias_of_input.weight", "bias_of_input.bias")


def test_the_current_folder_stays_on_the_path_for_a_module_of_its_own_only(own_folder, monkeypatch):
    monkeypatch.setattr("sys.path", [path for path in sys.path if path != str(own_folder)])
    before = [*sys.path]
    assert import_named("math:pi", "number") == math.pi
    with pytest.raises(InvalidInputError, match="No module named 'nowhere'"):
        import_named("nowhere:x", "number")
    assert sys.path == before
    (own_folder / "of_this_folder.py").write_text("number = 3")
    assert import_named("of_this_folder:number", "number") == 3
    assert import_named("math:pi", "number") == math.pi
    assert sys.path == [*before, str(own_folder)]
