"""Bounds on the norms of Jacobians are never exceeded, and each of their terms is reached."""

import math

import pytest
import torch
from cases import CELL_CASES, randomize
from hypothesis import given, settings
from hypothesis import strategies as st

from rhn.cells import CELLS, RHN

d = torch.float64


@settings(max_examples=100)
@given(st.sampled_from(CELL_CASES), st.integers(0, 10**6), st.sampled_from([0.01, 0.3, 1, 30]),
       st.sampled_from([0, 1, 12]), st.sampled_from([0, 0.3, 1, 7]),
       st.sampled_from([0, 1, 30]))  # fmt: skip
def test_the_norm_bound_is_never_exceeded(case, seed, gain, bias, beta, spread):
    """Random weights of every size, gates open, closed and between, states inside, at zero and at
    the corners.
    """
    cell, g = case.plain(3, 4), torch.Generator().manual_seed(seed)
    randomize(cell, seed, gain=gain)
    with torch.no_grad():
        for name, p in cell.named_parameters():
            if "bias" in name:
                p.copy_(bias * torch.randn(p.shape, generator=g, dtype=d))
        x = spread * torch.randn(60, 3, generator=g, dtype=d)
        s = 2 * torch.rand(60, cell.state_size, generator=g, dtype=d) - 1
        s[:20], s[20] = s[:20].sign(), 0
        worst = torch.linalg.matrix_norm(cell.jacobian(x, beta * s), 2).max().item()
    bound = cell.norm_bound(beta)
    assert worst <= bound.item() * (1 + 1e-12) and bound.shape == ()


OPEN, HALF, SHUT = 40.0, 0.0, -40.0  # pre-activations of a gate at 1, 1/2, 0
Q = 1e5  # a weight beside which all others are small
# term of the bound: (cell, options, recurrent weights, inner bias q, pre-activations, state)
REACHED = {
    "RHN H": ("rhn", {}, (Q, 0), 0, (0, OPEN), (0,)),
    "RHN H, sigmoid": ("rhn", {"activation": "sigmoid"}, (Q, 0), 0, (0, OPEN), (0,)),
    "RHN T": ("rhn", {}, (0, Q), 0, (OPEN, HALF), (-0.8,)),
    "uncoupled H": ("rhn", {"coupled": False}, (Q, 0, 0), 0, (0, OPEN, OPEN), (0,)),
    "uncoupled T": ("rhn", {"coupled": False}, (0, Q, 0), 0, (OPEN, HALF, OPEN), (0,)),
    "uncoupled C": ("rhn", {"coupled": False}, (0, 0, Q), 0, (OPEN, OPEN, HALF), (0.8,)),
    "RHN that copies": ("rhn", {}, (0, 0), 0, (0, SHUT), (0,)),
    "uncoupled that copies": ("rhn", {"coupled": False}, (0, 0, 0), 0, (0, SHUT, OPEN), (0,)),
    "LSTM i": ("lstm", {}, (Q, 0, 0, 0), 0, (HALF, OPEN, OPEN, OPEN), (0, -0.5)),
    "LSTM f": ("lstm", {}, (0, Q, 0, 0), 0, (OPEN, HALF, math.atanh(-0.4), OPEN), (0, 0.8)),
    "LSTM g": ("lstm", {}, (0, 0, Q, 0), 0, (OPEN, OPEN, 0, OPEN), (0, 0)),
    "LSTM o": ("lstm", {}, (0, 0, 0, Q), 0, (OPEN, OPEN, OPEN, HALF), (0, 20.0)),
    "GRU z": ("gru", {}, (0, Q, 0), 0, (OPEN, HALF, OPEN), (-0.8,)),
    "GRU n": ("gru", {}, (0, 0, Q), 0, (OPEN, SHUT, 0), (0,)),
    "GRU r by q": ("gru", {}, (Q, 0, 0), 3.0, (HALF, SHUT, 0), (0,)),
    "GRU r by R_n": ("gru", {}, (Q, 0, 100.0), 0, (HALF, SHUT, 0), (0.8,)),
    "RNN": ("rnn", {}, (Q,), 0, (0,), (0,)),
    "relu": ("irnn", {}, (Q,), 0, (1,), (0,)),
}


@pytest.mark.parametrize("term", REACHED)
def test_every_term_of_a_bound_is_reached(term):
    """n = 1: one weight is large, and the gates are such that its term counts fully."""
    key, options, R, q, z, s = REACHED[term]
    cell = CELLS[key](len(z), 1, dtype=d, **options)
    s, R = torch.tensor(s, dtype=d), torch.tensor(R, dtype=d)
    recurrent = R * s[0]
    with torch.no_grad():
        for p in cell.parameters():
            p.zero_()
        cell.weight_ih.copy_(torch.eye(len(z)))
        cell.weight_hh.copy_(R.view(cell.weight_hh.shape))
        if key == "gru":
            cell.bias_hn.fill_(q)
            recurrent[2] = torch.sigmoid(torch.tensor(float(z[0]))) * (recurrent[2] + q)
        reached = cell.jacobian(torch.tensor(z, dtype=d) - recurrent, s).norm().item()
    bound = cell.norm_bound(s.abs().max()).item()
    assert 0.99 * bound < reached <= bound * (1 + 1e-12)


@pytest.mark.parametrize(
    ("key", "depth", "options", "norms", "beta", "wanted"),
    [
        pytest.param("rhn", 2, {}, (0.75, 4), 0.5, 2.75 * 3.25, id="coupled"),
        pytest.param("rhn", 2, {}, (0.75, 4), 2.0, 4.25 * 4.25, id="coupled, large states"),
        pytest.param("rhn", 1, {"activation": "sigmoid"}, (3, 4), 0.5, 2.75, id="sigmoid"),
        pytest.param("rhn", 2, {"coupled": False}, (1, 4, 8), 0.5, 4 * 6, id="uncoupled"),
        pytest.param("lstm", 1, {}, (4, 8, 5, 8), 0.5, 12, id="LSTM"),
        pytest.param("gru", 1, {}, (2, 4, 0.5), 0.5, 2.75, id="GRU"),
        pytest.param("dt-rnn", 3, {}, (3,), 0.5, 27, id="deep transition"),
        pytest.param("dts-rnn", 3, {}, (3,), 0.5, 31, id="all shortcuts"),
        pytest.param("dts-rnn", 3, {"skip": "last"}, (3,), 0.5, 28, id="last shortcut"),
    ],
)
def test_bounds_that_were_worked_out_by_hand(key, depth, options, norms, beta, wanted):
    """Blocks of these norms, shortcuts of norm 1. Of the GRU, w = 0.5 * 0.7 + 0.15 = 0.5."""
    cell = CELLS[key](1, 2, depth, dtype=d, **options)
    of_norm_1 = torch.tensor([[0.6, 0.8], [0, 0]], dtype=d)
    weights = {
        "weight_hh": torch.cat([norm * of_norm_1 for norm in norms]),
        "weight_skip": of_norm_1,
        "bias_hn": torch.tensor([-0.15, 0], dtype=d),
    }
    with torch.no_grad():
        for name, p in cell.named_parameters():
            p.copy_(weights.get(name, torch.zeros(())))
    assert cell.norm_bound(beta).item() == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize(("beta", "depth"), [(0.5, 2), (2.0, 2), (0.5, 4)])
def test_each_layer_without_coupling_may_add_one_to_the_state(beta, depth):
    """All gates but the last are open, so that the last layer reads the state beta + L - 1."""
    cell = RHN(1, 1, depth, coupled=False, dtype=d)
    with torch.no_grad():
        for p in cell.parameters():
            p.zero_()
        cell.bias[:-1] = OPEN
        cell.bias[-1] = torch.tensor([OPEN, OPEN, -Q * (beta + depth - 1)])  # its c is 1/2
        cell.weight_hh[-1, 2] = Q
        state = torch.full((1,), beta, dtype=d)
        reached = cell.jacobian(torch.zeros(1, dtype=d), state).norm().item()
    bound = cell.norm_bound(beta).item()
    assert 0.99 * bound < reached <= bound * (1 + 1e-12)


@pytest.mark.parametrize("activation", ["relu", "linear"])
def test_no_number_bounds_a_highway_whose_candidate_grows_with_the_input(activation):
    for coupled in (True, False):
        assert math.isinf(RHN(1, 1, coupled=coupled, activation=activation).norm_bound(0))
