"""Several layers of torch.nn's as one cell: the joint state moves, and its Jacobians are, as
torch's own forward has them.
"""

import numpy as np
import pytest
import torch
from tables import for_each
from torch import nn

from gersgorin import gates, input_jacobian, temporal_jacobian, trajectory
from rhn.cells import RNN, StackedCell, from_torch

m, n, B, T, L = 3, 5, 2, 7, 3


def built(kind, **options):
    torch.manual_seed(3)
    return kind(m, n, num_layers=L, dtype=torch.float64, **options)


def in_torchs_parts(s, theirs):
    """A joint state (..., N) as torch's: (L, ..., n), or for an LSTM a pair of such."""
    layers = torch.stack(s.split(s.shape[-1] // L, -1))
    return (
        tuple(part.contiguous() for part in layers.chunk(2, -1))
        if isinstance(theirs, nn.LSTM)
        else layers
    )


def joined(state):
    """And back."""
    return torch.cat([*(torch.cat(state, -1) if isinstance(state, tuple) else state)], -1)


cases = pytest.mark.parametrize(
    ("kind", "options"),
    [(nn.RNN, {}), (nn.RNN, {"nonlinearity": "relu", "bias": False}), (nn.LSTM, {}), (nn.GRU, {})],
    ids=lambda value: getattr(
        value, "__name__", ",".join(value) if isinstance(value, dict) else None
    ),
)


@cases
def test_the_joint_jacobians_are_those_of_torchs_own_forward(kind, options):
    theirs = built(kind, **options).eval()
    stack = from_torch(theirs)
    x, s = torch.randn(m, dtype=torch.float64), torch.randn(stack.state_size, dtype=torch.float64)

    def step(x, s):
        _, state = theirs(x.view(1, m), in_torchs_parts(s, theirs))
        return joined(state)

    wanted_x, wanted_s = torch.autograd.functional.jacobian(step, (x, s))
    for cell in (theirs, stack):
        for method in ("analytic", "jacrev"):
            A, B = (find(cell, x, s, method=method) for find in (temporal_jacobian, input_jacobian))
            assert (A - wanted_s).abs().max() < 1e-10 and (B - wanted_x).abs().max() < 1e-10
    assert (stack.step(x, s) - step(x, s)).abs().max() < 1e-12
    size = stack.state_size // L
    assert all(not A[k * size : (k + 1) * size, (k + 1) * size :].any() for k in range(L)), (
        "upper blocks are zero"
    )


@cases
@for_each("first", [False, True])
def test_a_stack_runs_as_torchs_module_does(kind, options, first):
    theirs = built(kind, **options, batch_first=first, dropout=0.5).eval()
    stack = from_torch(theirs)
    x = torch.randn(*(B, T) if first else (T, B), m, dtype=torch.float64)
    s0 = torch.randn(B, stack.state_size, dtype=torch.float64)
    wanted, state = theirs(x, in_torchs_parts(s0, theirs))
    outputs, last = stack(x, s0)
    assert torch.allclose(outputs, wanted, atol=1e-12) and torch.allclose(
        last, joined(state), atol=1e-12
    )
    layer = from_torch(theirs, 1)
    assert torch.equal(layer.weight_hh.squeeze(), theirs.weight_hh_l1) and layer.input_size == n


def test_its_gates_are_those_of_all_layers():
    theirs = built(nn.LSTM)
    x = torch.randn(T, m, dtype=torch.float64)
    joint, read = gates(theirs, x).mean, x
    for k in range(L):
        layer = from_torch(theirs, k)
        np.testing.assert_allclose(joint[:, [k, L + k]], gates(layer, read).mean, rtol=1e-12)
        read = layer(read)[0].detach()
    assert not len(StackedCell([RNN(m, n), RNN(n, n)]).gates(torch.zeros(m), torch.zeros(2 * n)))
    assert trajectory(theirs, x).shape == (T + 1, 2 * n * L)


def test_a_stack_shows_its_cells():
    assert "(0): GRU(3, 5, " in repr(from_torch(built(nn.GRU)))
