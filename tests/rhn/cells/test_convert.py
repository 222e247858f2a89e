"""Our RNN, LSTM and GRU are torch.nn's, with converted weights, one layer or several as one cell:
outputs, states, gradients and Jacobians of the joint state.
"""

import itertools

import torch
from cases import assert_close, randomize
from tables import for_each
from torch import nn

from gersgorin import gates, input_jacobian, temporal_jacobian
from rhn.cells import GRU, RNN, StackedCell, from_torch, resolve_cell
from rhn.cells.convert import OURS
from rhn.checkpoints import load, save
from rhn.models import PolyphonicModel

m, n, B, T = 3, 5, 2, 7
DOUBLE = {"dtype": torch.float64}
KINDS = [
    (nn.RNN, {}),
    (nn.RNN, {"nonlinearity": "relu", "bias": False}),
    *itertools.product((nn.LSTM, nn.GRU), ({}, {"bias": False})),
]


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


def by_our_names(gradients, theirs):
    """Gradients of torch's weights by name, as those of our cells' weights, in their order."""
    for k in range(theirs.num_layers):
        W, R = gradients[f"weight_ih_l{k}"], gradients[f"weight_hh_l{k}"]
        yield from (W, R.unsqueeze(0) if isinstance(theirs, nn.RNN) else R)
        b = gradients.get(f"bias_ih_l{k}")
        yield b if b is None or not isinstance(theirs, nn.RNN) else b.unsqueeze(0)
        if isinstance(theirs, nn.GRU):
            yield None if b is None else gradients[f"bias_hh_l{k}"][2 * n :]


@for_each(("kind", "options"), KINDS)
@for_each("layers", [1, 3])
@for_each("first", [False, True])
def test_outputs_states_and_gradients_are_torch_s(kind, options, layers, first):
    theirs = built(kind, layers, batch_first=first, dropout=0.5 * (layers > 1), **options)
    before = torch.get_rng_state()
    ours = from_torch(theirs)
    assert torch.equal(torch.get_rng_state(), before)
    x = torch.randn(*(B, T) if first else (T, B), m, requires_grad=True, **DOUBLE)
    s0 = torch.randn(B, ours.state_size, requires_grad=True, **DOUBLE)
    y, state = theirs(x, in_torchs_parts(s0, theirs))
    w, v = torch.randn_like(y), torch.randn_like(joined(state))
    names, weights = zip(*theirs.named_parameters(), strict=True)

    def gradients(outputs, last, weights):
        return torch.autograd.grad((outputs * w).sum() + (last * v).sum(), [x, s0, *weights])

    of_x, of_s0, *rest = gradients(y, joined(state), weights)
    wanted = [of_x, of_s0, *by_our_names(dict(zip(names, rest, strict=True)), theirs)]
    for kernel in ("manual", "reference"):  # of one layer, manual is torch's own code
        for cell in getattr(ours, "cells", [ours]):
            cell.kernel = kernel
        outputs, last = ours(x, s0)
        assert_close(outputs, y, 1e-12, f"{kernel}, outputs")
        assert_close(last, joined(state), 1e-12, f"{kernel}, last state")
        for k, g in enumerate(gradients(outputs, last, ours.parameters())):
            if wanted[k] is not None:
                assert_close(g, wanted[k], 1e-11, f"{kernel}, gradient {k}")


@for_each(("kind", "options"), KINDS)
def test_the_joint_jacobians_are_those_of_torchs_own_forward(kind, options):
    theirs = built(kind, 3, **options)
    stack = from_torch(theirs)
    x, s = torch.randn(m, **DOUBLE), torch.randn(stack.state_size, **DOUBLE)

    def step(x, s):
        return joined(theirs(x.view(1, m), in_torchs_parts(s, theirs))[1])

    of_x, of_s = torch.autograd.functional.jacobian(step, (x, s))
    for cell in (theirs, stack):
        for method in ("analytic", "jacrev"):
            assert_close(temporal_jacobian(cell, x, s, method=method), of_s, 1e-10, "state")
            assert_close(input_jacobian(cell, x, s, method=method), of_x, 1e-10, "input")
    assert_close(stack.step(x, s), step(x, s), 1e-12, "step")


def test_the_gates_of_a_stack_are_those_of_all_layers():
    theirs, x = built(nn.LSTM, 3), torch.randn(T, m, **DOUBLE)
    joint, read = torch.from_numpy(gates(theirs, x).mean), x
    for k in range(3):
        layer = from_torch(theirs, k)
        alone = torch.from_numpy(gates(layer, read).mean)
        assert_close(joint[:, [k, 3 + k]], alone, 1e-12, f"layer {k}")
        read = layer(read)[0].detach()
    assert not len(StackedCell([RNN(m, n), RNN(n, n)]).gates(torch.zeros(m), torch.zeros(2 * n)))


@for_each("kind", OURS)
@for_each("options", [{}, {"bias": False}, {"nonlinearity": "relu"}])
def test_torch_s_single_step_cells_and_names(kind, options):
    if "nonlinearity" in options and not issubclass(kind, nn.RNNCell):
        return
    theirs = kind(m, n, **options, **DOUBLE)
    randomize(theirs)
    ours = from_torch(theirs)
    named = resolve_cell(f"torch.nn:{kind.__name__}")(m, 100)
    assert type(named) is type(ours) is OURS[kind]
    assert all(0.09 < p.abs().max() <= 0.1 for p in named.parameters()), "within 1 / sqrt(n)"
    if isinstance(theirs, nn.RNNCellBase):
        x, s = torch.randn(4, m, **DOUBLE), torch.randn(4, ours.state_size, **DOUBLE)
        pair = isinstance(theirs, nn.LSTMCell)
        wanted = torch.cat(theirs(x, s.chunk(2, -1)), -1) if pair else theirs(x, s)
        assert_close(ours.step(x, s), wanted, 1e-12, "step")
    with torch.no_grad():
        next(theirs.parameters()).zero_()
    assert ours.weight_ih.any(), "weights are copied"


def test_a_network_of_torch_s_cell_is_saved_and_loaded_by_its_name(tmp_path):
    model, x = PolyphonicModel("torch.nn:LSTM", hidden_size=5), torch.rand(4, 2, 88)
    again = load(save(tmp_path / "m.safetensors", model))
    assert again.cell == "torch.nn:LSTM" and torch.equal(again(x), model(x))
    theirs = PolyphonicModel(lambda m, n, depth, **where: nn.GRU(m, n, **where), hidden_size=5)
    assert type(theirs.cells[0]) is GRU
