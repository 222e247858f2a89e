"""Outputs of sequences as frames; sequences, targets and lengths that do not fit."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from user_modules import Vectors

import gersgorin
from gersgorin import influence, model_map
from gersgorin.model_map import Axes, model_maps
from rhn.cells import make_cell
from rhn.errors import InvalidInputError
from rhn.models import PolyphonicModel

d = torch.float64

FRAMES = {  # name: (axes, shape of outputs, shape of frames; None if refused)
    "one sequence": (Axes(5, 1, None), (5, 3), (5, 1, 3)),
    "one sequence of numbers": (Axes(5, 1, None), (5,), (5, 1, 1)),
    "one sequence of two steps": (Axes(2, 1, None), (2, 3), (2, 1, 3)),
    "one sequence, matrices": (Axes(5, 1, None), (5, 2, 2), (5, 1, 4)),
    "one sequence, batch first": (Axes(5, 1, 0), (1, 5, 3), (5, 1, 3)),
    "one sequence, time first": (Axes(5, 1, 1), (5, 1, 3), (5, 1, 3)),
    "one output": (Axes(5, 1, None), (3,), (1, 1, 3)),
    "one output in a batch": (Axes(5, 1, 0), (1, 3), (1, 1, 3)),
    "one number": (Axes(5, 1, None), (), (1, 1, 1)),
    "one output of as many numbers as steps": (Axes(5, 1, None, one=True), (5,), (1, 1, 5)),
    "other steps": (Axes(5, 1, None), (4, 3), None),
    "batch first": (Axes(5, 2, 0), (2, 5, 3), (5, 2, 3)),
    "time first": (Axes(5, 2, 1), (5, 2, 3), (5, 2, 3)),
    "batch first, numbers": (Axes(5, 2, 0), (2, 5), (5, 2, 1)),
    "an output for each sequence": (Axes(5, 2, 0), (2, 3), (1, 2, 3)),
    "a number for each sequence": (Axes(5, 2, 0), (2,), (1, 2, 1)),
    "as many numbers as steps": (Axes(5, 2, 0, one=True), (2, 5), (1, 2, 5)),
    "states of layers": (Axes(5, 2, 0), (1, 2, 3), (1, 2, 3)),
    "other sequences": (Axes(5, 2, 0), (3, 3), None),
    "an axis too many": (Axes(5, 2, 0), (1, 1, 2, 3), None),
    "other numbers": (Axes(5, 2, 0), (4, 2, 3), None),
}


@pytest.mark.parametrize("name", FRAMES)
def test_frames_have_the_time_first_and_the_numbers_of_their_sequence(name):
    axes, shape, wanted = FRAMES[name]
    o = torch.zeros(shape)
    if wanted is None:
        with pytest.raises(InvalidInputError, match=f"expected 5 steps, or one, of {axes.B}"):
            axes.frames("o", o)
        return
    o = torch.arange(float(o.numel())).reshape(shape)
    found = axes.frames("o", o)
    assert found.shape == wanted
    turned = shape[:2] == (axes.B, axes.T) and wanted[0] == axes.T
    assert torch.equal(found.flatten(), (o.transpose(0, 1) if turned else o).flatten())


def test_derivatives_by_step_have_the_time_before_the_sequences():
    slopes = torch.arange(12.0).reshape(1, 2, 3, 2)
    assert torch.equal(Axes(3, 2, 0).by_step(slopes), slopes.transpose(1, 2))
    assert torch.equal(Axes(2, 3, 1).by_step(slopes), slopes)


@pytest.mark.parametrize(("block", "count"), [(23, 1), (80, 3), (1 << 20, 256)])
def test_as_many_products_are_computed_at_once_as_fit(block, count, monkeypatch):
    monkeypatch.setattr(model_map, "BLOCK", block)
    (found,) = model_maps(nn.GRU(2, 4), torch.rand(6, 2))  # 12 inputs, 24 outputs
    assert found.at_once == count


def test_a_layer_with_a_first_state_is_read_step_by_step():
    layer, x, s0 = nn.GRU(2, 4), torch.rand(5, 2), torch.ones(4)
    (found,) = model_maps(layer, x, s0)
    torch.testing.assert_close(found.outputs[:, 0], gersgorin.open_run(layer, x, s0).states[1:])


def polyphonic(layers):
    sizes = {"hidden_size": 4, "depth": 3, "input_size": 2, "output_size": 2}
    return PolyphonicModel("rhn", layers=layers, **sizes)


@pytest.mark.parametrize(
    ("model", "network", "returned"),
    [
        pytest.param(nn.GRU(2, 4), "GRU, depth 1, 4 units", 2, id="layer"),
        pytest.param(make_cell("rhn", 2, 4, depth=3), "rhn, depth 3, 4 units", 2, id="cell"),
        pytest.param(polyphonic(1), "rhn, depth 3, 4 units", 1, id="model"),
        pytest.param(polyphonic(2), "PolyphonicModel", 1, id="model of two layers"),
        pytest.param(lambda x: 2 * x, "f(x)", 1, id="function"),
    ],
)
def test_a_heading_has_the_names_that_are_given_or_those_of_the_model(model, network, returned):
    numbers = {"steps": 5, "returned": returned}
    (found,) = model_maps(model, torch.rand(5, 2))
    assert found.heading == {"network": network, "data": "x", "unit": "time steps", **numbers}
    (found,) = model_maps(model, torch.rand(5, 2), title="net", data="song", unit="bars")
    assert found.heading == {"network": "net", "data": "song", "unit": "bars", **numbers}


def test_a_function_reads_a_table_in_the_precision_of_its_numbers():
    x = np.ones((3, 1), np.float32)
    (found,) = model_maps(torch.sin, SimpleNamespace(to_numpy=lambda: x))
    assert torch.equal(found.outputs[:, 0], torch.from_numpy(x).sin())


class Sums(nn.Module):
    """Sums of x over its first axis, times a factor."""

    batch_first = True

    def forward(self, x, factor):
        return factor * x.cumsum(0)


def test_one_of_several_arguments_gets_no_axis_of_the_batch():
    x = torch.rand(5, 2, dtype=d)
    (found,) = model_maps(Sums(), (x, torch.tensor(2.0)))
    torch.testing.assert_close(found.outputs[:, 0], 2 * x.cumsum(0))


class Required(nn.Module):
    """A module that requires a state."""

    state_size = 2

    def forward(self, x, s):
        return s / 2 + x


@pytest.mark.parametrize("module", [Required(), Vectors(2, 2)], ids=["forward", "step"])
def test_a_module_that_requires_a_state_is_read_step_by_step(module):
    x = torch.rand(5, 2)
    (found,) = model_maps(module, x)
    torch.testing.assert_close(found.outputs[:, 0], gersgorin.open_run(module, x).states[1:])


def test_a_difference_has_the_precision_of_its_second_order():
    """Its distance, eps^(1/3), leaves errors of 1e-11 by rounding and by curvature."""
    x, slopes = torch.rand(4, 2, dtype=d), torch.rand(4, 2, dtype=d)
    (found,) = model_maps(torch.exp, x)
    wanted = (x.exp() * slopes)[:, None]
    torch.testing.assert_close(found.difference(slopes), wanted, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("at", "other"), [(0, 1), (2, 0)], ids=["the first", "the last"])
def test_one_sequence_that_reads_another_is_refused(at, other):
    def mixes(x):
        return torch.stack([x[:, b] + (x[:, other] if b == at else 0) for b in range(3)], 1)

    x = torch.rand(4, 3, 2, dtype=d)
    assert influence(lambda x: 2 * x, x, batch_first=False).sequences == 3
    with pytest.raises(InvalidInputError, match="a function of other sequences"):
        influence(mixes, x, batch_first=False)


@pytest.mark.parametrize(
    ("x", "how", "said"),
    [
        pytest.param(torch.rand(7), {}, "x is ", id="numbers without rows"),
        pytest.param([], {}, "y is ", id="no sequence"),
        pytest.param([torch.rand(4, 2)], {"lengths": [4]}, "lengths is ", id="lengths of a list"),
        pytest.param(
            [torch.rand(4, 2)], {"of": "squared", "y": torch.rand(1, 4, 2)}, "y is ", id="no list"
        ),
        pytest.param(
            [torch.rand(4, 2)], {"of": "squared", "y": [torch.rand(4, 2)] * 2}, "y is ", id="two y"
        ),
        pytest.param(torch.rand(4, 2, 2), {"lengths": [0, 4]}, "lengths is ", id="no step"),
        pytest.param(torch.rand(4, 2, 2), {"lengths": [4]}, "lengths is ", id="one length"),
        pytest.param(torch.rand(4, 2, 2), {"lengths": [1.0, 4.0]}, "lengths is ", id="no integers"),
    ],
)
def test_sequences_targets_and_lengths_that_do_not_fit_are_refused(x, how, said):
    with pytest.raises(InvalidInputError, match=f"^{said}"):
        influence(lambda x: 2 * x, x, batch_first=False, **how)
