"""norm_bound bounds the 2-norm of a cell's Jacobian over all inputs and all states within a bound:
attacked from all sides.
"""

import math

import pytest
import torch
from cases import CELL_CASES, SHALLOW_CASES, randomize
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import for_each

from gersgorin.run.jacobians import norm_bound, temporal_jacobian
from rhn.cells import CELLS, RHN

BOUNDS = (0.0, 0.3, 1.0, 7.0)
ROUNDING = 1 + 1e-12


def has_bound(case):
    """Whether the candidate state is bounded; where it grows with the input no number bounds the
    Jacobian over all inputs.
    """
    return math.isfinite(norm_bound(case.plain(3, 4)))


def norms(cell, x, s):
    return torch.linalg.matrix_norm(temporal_jacobian(cell, x, s), 2)


@settings(max_examples=150)
@given(
    case=st.sampled_from(CELL_CASES),
    seed=st.integers(0, 10**6),
    gain=st.sampled_from([0.01, 0.3, 1.0, 3.0, 30.0]),
    bias=st.sampled_from([0.0, 1.0, 12.0]),
    state_bound=st.sampled_from(BOUNDS),
    spread=st.sampled_from([0.0, 1.0, 30.0]),
)
def test_never_exceeded(case, seed, gain, bias, state_bound, spread):
    """Random weights of every size, gates open, closed and between, states inside, at zero and at
    the corners.
    """
    cell = case.plain(3, 4)
    randomize(cell, seed, gain=gain)
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in cell.named_parameters():
            if "bias" in name:
                p.copy_(bias * torch.randn(p.shape, generator=g, dtype=p.dtype))
        x = spread * torch.randn(60, 3, generator=g, dtype=torch.float64)
        s = 2 * torch.rand(60, cell.state_size, generator=g, dtype=torch.float64) - 1
        s[:20] = s[:20].sign()
        s[20] = 0
        worst = norms(cell, x, state_bound * s).max().item()
    assert worst <= norm_bound(cell, state_bound).item() * ROUNDING


def other_equation(case):
    """Whether the bound is another one than that of the other cases of the cell: by layers, gates
    and shortcuts.
    """
    return "nonlinearity" not in case.options and (
        case.depth > 1 or case.key not in ("dt-rnn", "dts-rnn", "rhn")
    )


@pytest.mark.parametrize(
    ("case", "state_bound"),
    [
        (case, (0.3, 1.0, 7.0)[k % 3])
        for k, case in enumerate(c for c in CELL_CASES if has_bound(c) and other_equation(c))
    ],
    ids=str,
)
def test_not_even_by_ascent_on_weights_inputs_and_states(case, state_bound):
    """Adam on log(norm / bound), with enough inputs to set every first gate freely."""
    n, copies = 3, 12
    cell = case.plain(4 * n, n)
    randomize(cell)
    x = torch.randn(copies, 4 * n, dtype=torch.float64, requires_grad=True)
    u = torch.randn(copies, cell.state_size, dtype=torch.float64, requires_grad=True)
    optimiser, best = torch.optim.Adam([x, u, *cell.parameters()], lr=0.1), 0.0
    for _ in range(40):
        ratio = norms(cell, x, state_bound * torch.tanh(u)) / cell.norm_bound(state_bound)
        best = max(best, ratio.max().item())
        optimiser.zero_grad()
        (-torch.log(ratio.clamp(min=1e-12))).sum().backward()
        optimiser.step()
    assert best <= ROUNDING
    assert best > 0.02, "an ascent that climbs nowhere proves nothing"


OPEN, HALF, SHUT = 40.0, 0.0, -40.0  # pre-activations of a gate at 1, 1/2, 0
Q = 1e5  # a weight beside which all else vanishes
# term of the bound: (cell, options, recurrent weights, inner bias q, pre-activations, state)
REACHED = {
    "RHN H": ("rhn", {}, (Q, 0), 0, (0, OPEN), (0,)),
    "RHN H, sigmoid": ("rhn", {"activation": "sigmoid"}, (Q, 0), 0, (0, OPEN), (0,)),
    "RHN T": ("rhn", {}, (0, Q), 0, (OPEN, HALF), (-0.8,)),
    "uncoupled H": ("rhn", {"coupled": False}, (Q, 0, 0), 0, (0, OPEN, OPEN), (0,)),
    "uncoupled T": ("rhn", {"coupled": False}, (0, Q, 0), 0, (OPEN, HALF, OPEN), (0,)),
    "uncoupled C": ("rhn", {"coupled": False}, (0, 0, Q), 0, (OPEN, OPEN, HALF), (0.8,)),
    "LSTM i": ("lstm", {}, (Q, 0, 0, 0), 0, (HALF, OPEN, OPEN, OPEN), (0, -0.5)),
    "LSTM f": ("lstm", {}, (0, Q, 0, 0), 0, (OPEN, HALF, math.atanh(-0.4), OPEN), (0, 0.8)),
    "LSTM g": ("lstm", {}, (0, 0, Q, 0), 0, (OPEN, OPEN, 0, OPEN), (0, 0)),
    "LSTM o": ("lstm", {}, (0, 0, 0, Q), 0, (OPEN, OPEN, OPEN, HALF), (0, 20.0)),
    "GRU z": ("gru", {}, (0, Q, 0), 0, (OPEN, HALF, OPEN), (-0.8,)),
    "GRU n": ("gru", {}, (0, 0, Q), 0, (OPEN, SHUT, 0), (0,)),
    "GRU r by q": ("gru", {}, (Q, 0, 0), 3.0, (HALF, SHUT, 0), (0,)),
    "GRU r by R_n": ("gru", {}, (Q, 0, 100.0), 0, (HALF, SHUT, 0), (0.8,)),
}


@for_each("term", REACHED)
def test_every_term_of_a_gated_bound_is_reached(term):
    """n = 1: let one weight outweigh the others and set the gates so that its term counts fully; no
    factor is wasted.
    """
    key, options, R, q, z, s = REACHED[term]
    cell = CELLS[key](len(z), 1, dtype=torch.float64, **options)
    s, R = torch.tensor(s, dtype=torch.float64), torch.tensor(R, dtype=torch.float64)
    recurrent = R * s[0]
    with torch.no_grad():
        for p in cell.parameters():
            p.zero_()
        cell.weight_ih.copy_(torch.eye(len(z)))
        cell.weight_hh.copy_(R.view(cell.weight_hh.shape))
        if key == "gru":
            cell.bias_hn.fill_(q)
            r = torch.sigmoid(torch.tensor(float(z[0])))
            recurrent[2] = r * (recurrent[2] + q)
        x = torch.tensor(z, dtype=torch.float64) - recurrent
        reached = norms(cell, x, s).item()
    bound = norm_bound(cell, s.abs().max()).item()
    assert 0.99 * bound < reached <= bound * ROUNDING


@for_each("key", ["rnn", "irnn", "dt-rnn", "dts-rnn"])
@for_each("nonlinearity", ["tanh", "relu"])
def test_the_plain_rnns_bound_is_its_largest_singular_value(key, nonlinearity):
    """gamma sigma_max(R) with gamma = 1 (Pascanu et al. 2013), reached where the pre-activation is
    zero (tanh), positive (relu).
    """
    cell = CELLS[key](3, 6, nonlinearity=nonlinearity, dtype=torch.float64)
    randomize(cell)
    sigma = torch.linalg.svdvals(cell.weight_hh[0])[0].item()
    for state_bound in BOUNDS:
        assert norm_bound(cell, state_bound).item() == pytest.approx(sigma, rel=1e-14)
    with torch.no_grad():
        cell.bias.fill_(0.0 if nonlinearity == "tanh" else 1.0)
    assert norms(cell, *torch.zeros(9).double().split((3, 6))).item() == pytest.approx(
        sigma, rel=1e-12
    )


@pytest.mark.parametrize("activation", ["relu", "linear"])
@pytest.mark.parametrize("coupled", [True, False])
def test_no_number_bounds_a_highway_whose_candidate_grows_with_the_input(activation, coupled):
    """With R_H = 0 and half-open gates the slope is that of the gate times h, which is the
    input.
    """
    cell = RHN(1, 1, coupled=coupled, activation=activation, dtype=torch.float64)
    with torch.no_grad():
        for p in cell.parameters():
            p.zero_()
        cell.weight_ih[0], cell.weight_hh[0, 1] = 1, 4
    assert math.isinf(norm_bound(cell)) and math.isinf(norm_bound(cell, 0))
    x = torch.tensor([[0.0], [10.0], [1000.0]], dtype=torch.float64)
    slopes = temporal_jacobian(cell, x, torch.zeros(1, dtype=torch.float64)).flatten()
    assert slopes.tolist() == pytest.approx([0.5, 10.5, 1000.5])


@for_each("case", SHALLOW_CASES)
def test_grows_with_the_states_bound_and_differs_by_rounding_in_float32(case):
    cell = case.build()
    values = [norm_bound(cell, b) for b in BOUNDS]
    assert values == sorted(values) and values[0].shape == () and not values[0].requires_grad
    single = norm_bound(cell.float())
    assert single.dtype == torch.float32
    assert single.item() == pytest.approx(values[BOUNDS.index(1.0)].item(), rel=1e-5)
