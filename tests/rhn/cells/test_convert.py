"""Our RNN, LSTM and GRU are torch.nn's, with converted weights, one layer or several as one cell:
outputs, states, gradients and Jacobians of the joint state.
"""

import itertools

import pytest
import torch
from cases import assert_close, randomize
from torch import nn

from gersgorin import input_jacobian, temporal_jacobian
from rhn.cells import from_torch, name_of_cell, resolve_cell
from rhn.cells.conversion import OURS
from rhn.checkpoints import load
from rhn.errors import CheckpointError
from rhn.models import PolyphonicModel

m, n, B, T = 3, 5, 2, 7
DOUBLE = {"dtype": torch.float64}
KINDS = [
    (nn.RNN, {}),
    (nn.RNN, {"nonlinearity": "relu", "bias": False}),
    *itertools.product((nn.LSTM, nn.GRU), ({}, {"bias": False})),
]


def named(value) -> str:
    """The id of a value: the name of a class or function, or the value as text."""
    return getattr(value, "__name__", str(value))


def built(kind, layers=1, **options):
    theirs = kind(m, n, num_layers=layers, **DOUBLE, **options).eval()
    randomize(theirs)
    return theirs


def in_torchs_parts(s, theirs):
    """A joint state (..., N) as torch's: (L, ..., n), or for an LSTM a pair of such."""
    layers = torch.stack(s.split(s.shape[-1] // theirs.num_layers, -1))
    pair = tuple(part.contiguous() for part in layers.chunk(2, -1))
    return pair if isinstance(theirs, nn.LSTM) else layers


def joined(state):
    """And back."""
    return torch.cat([*(torch.cat(state, -1) if isinstance(state, tuple) else state)], -1)


GRADIENTS = {"weight_ih": "weight_ih", "weight_hh": "weight_hh", "bias": "bias_ih"}


@pytest.mark.parametrize(("kind", "options"), KINDS, ids=named)
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize(
    "kernel", ["manual", "reference"]
)  # of one layer, manual is torch's own code
def test_outputs_states_and_gradients_are_torch_s(kind, options, layers, first, kernel):
    theirs = built(kind, layers, batch_first=first, dropout=0.5 * (layers > 1), **options)
    before = torch.get_rng_state()
    ours = from_torch(theirs)
    assert torch.equal(torch.get_rng_state(), before)
    cells = getattr(ours, "cells", [ours])
    for cell in cells:
        cell.kernel = kernel
    x = torch.randn(*(B, T) if first else (T, B), m, requires_grad=True, **DOUBLE)
    s0 = torch.randn(B, ours.state_size, requires_grad=True, **DOUBLE)
    (y, state), (outputs, last) = theirs(x, in_torchs_parts(s0, theirs)), ours(x, s0)
    assert_close(outputs, y, 1e-12, "outputs")
    assert_close(last, joined(state), 1e-12, "last state")
    w, v, starts = torch.randn_like(y), torch.randn_like(last), []
    for found, end in ((outputs, last), (y, joined(state))):
        total = (found * w).sum() + (end * v).sum()
        starts.append(torch.autograd.grad(total, [x, s0], retain_graph=True))
        total.backward()
    for name, found, wanted in zip(("x", "s0"), *starts, strict=True):
        assert_close(found, wanted, 1e-11, f"gradient of {name}")
    inner = {"bias_hn": "bias_hh"} if kind is nn.GRU else {}
    for k, (name, their_name) in itertools.product(range(layers), (GRADIENTS | inner).items()):
        weight = getattr(theirs, f"{their_name}_l{k}", None)
        if weight is not None:  # of the candidate's bias, the last rows
            found = cells[k].get_parameter(name).grad.flatten()
            assert_close(found, weight.grad.flatten()[-len(found) :], 1e-11, f"{name} of {k}")


def assert_loaded_by_name(theirs, ours, folder):
    """The cell that is read from a file of a layer of torch has the weights of ours."""
    torch.save(theirs.state_dict(), folder / "layer.pt")
    again = load(folder / "layer.pt", name := f"torch.nn:{type(theirs).__name__}")
    for cell, before in ((name, True), ("rhn", False)):
        with pytest.raises(CheckpointError, match="is of another format"):
            load(folder / "layer.pt", cell, before_training=before)
    for p, q in zip(again.parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(p, q.float())


@pytest.mark.parametrize(("kind", "options"), KINDS, ids=named)
def test_the_step_the_jacobians_the_gates_and_the_file_of_a_stack(kind, options, tmp_path):
    theirs = built(kind, 3, **options)
    stack = from_torch(theirs)
    assert_loaded_by_name(theirs, stack, tmp_path)
    x, s = torch.randn(m, **DOUBLE), torch.randn(stack.state_size, **DOUBLE)

    def step(x, s):
        return joined(theirs(x.view(1, m), in_torchs_parts(s, theirs))[1])

    of_x, of_s = torch.autograd.functional.jacobian(step, (x, s))
    for cell in (theirs, stack):
        assert_close(temporal_jacobian(cell, x, s), of_s, 1e-10, "state")
        assert_close(input_jacobian(cell, x, s), of_x, 1e-10, "input")
    assert_close(stack.step(x, s), step(x, s), 1e-12, "step")
    gates = stack.gates(x, s)
    for k, before in enumerate(s.chunk(3) if len(gates) else ()):
        layer = from_torch(theirs, k)
        for part in ("h", "t", "c", "states"):
            (wanted,) = getattr(layer.gates(x, before), part)
            assert_close(getattr(gates, part)[k], wanted, 1e-12, f"{part} of layer {k}")
        x = layer.step(x, before)[:n]
    assert len(gates) == (0 if kind is nn.RNN else 3)


@pytest.mark.parametrize("kind", OURS)
@pytest.mark.parametrize("options", [{}, {"bias": False}, {"nonlinearity": "relu"}], ids=named)
def test_torch_s_single_step_cells_files_and_names(kind, options, tmp_path):
    if "nonlinearity" in options and not issubclass(kind, nn.RNNCell):
        return
    theirs = kind(m, n, **options, **DOUBLE)
    randomize(theirs)
    ours = from_torch(theirs)
    assert_loaded_by_name(theirs, ours, tmp_path)
    factory = resolve_cell(f"torch.nn:{kind.__name__}")
    named = factory(m, 100)
    assert str(factory(m, 100, init="gaussian:0.1").init) == "gaussian:0.1"
    assert type(named) is type(ours) and name_of_cell(ours) == OURS[kind]
    built_in = PolyphonicModel(lambda m, n, _, **where: kind(m, n, **where), hidden_size=5)
    assert type(built_in.cells[0]) is type(ours)
    assert all(0.09 < p.abs().max() <= 0.1 for p in named.parameters()), "within 1 / sqrt(n)"
    if isinstance(theirs, nn.RNNCellBase):
        x, s = torch.randn(4, m, **DOUBLE), torch.randn(4, ours.state_size, **DOUBLE)
        pair = isinstance(theirs, nn.LSTMCell)
        wanted = torch.cat(theirs(x, s.chunk(2, -1)), -1) if pair else theirs(x, s)
        assert_close(ours.step(x, s), wanted, 1e-12, "step")
    with torch.no_grad():
        next(theirs.parameters()).zero_()
    assert ours.weight_ih.any(), "weights are copied"
