"""How weights start: the schemes' statistics, gate biases, and that a seed means the same everywhere."""

import pytest
import torch
from cases import SHALLOW_CASES, assert_close
from hypothesis import given
from hypothesis import strategies as st

from rhn.cells import CELLS, GRU, IRNN, LSTM, RHN, Initialization
from rhn.errors import InvalidInputError

shallow = pytest.mark.parametrize("case", SHALLOW_CASES, ids=str)


def seeded(seed=5):
    return torch.Generator().manual_seed(seed)


def weights(cell):
    """All that is drawn by the scheme: without the identity that an IRNN starts from."""
    drawn = {name: p.detach() for name, p in cell.named_parameters() if "bias" not in name}
    if isinstance(cell, IRNN):
        drawn["weight_hh"] = drawn["weight_hh"] - torch.eye(cell.hidden_size)
    return torch.cat([p.flatten() for p in drawn.values()])


@shallow
def test_a_generator_makes_it_reproducible_and_touches_no_other(case):
    before = torch.get_rng_state()
    a, b = (case.plain(generator=seeded()) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    a.reset_parameters(seeded(6))
    assert not torch.equal(weights(a), weights(b))
    a.reset_parameters(seeded())
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


@shallow
def test_without_a_generator_torchs_seed_counts(case):
    def draw():
        torch.manual_seed(11)
        return weights(case.plain())

    assert torch.equal(draw(), draw())


@shallow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_every_dtype_starts_alike_up_to_rounding(case, dtype):
    exact, rounded = case.plain(generator=seeded()), case.plain(generator=seeded(), dtype=dtype)
    for p, q in zip(exact.parameters(), rounded.parameters(), strict=True):
        assert q.dtype == dtype
        assert torch.equal(p.to(dtype), q)


@shallow
def test_uniform_covers_its_interval(case):
    w = weights(case.plain(40, 50, init="uniform:0.5", generator=seeded()))
    assert w.abs().max() <= 0.5
    assert w.abs().max() > 0.49
    assert abs(w.mean()) < 0.02
    assert abs(w.std() - 0.5 / 3**0.5) < 0.01


@shallow
def test_gaussian_has_its_standard_deviation_and_zero_biases(case):
    cell = case.plain(40, 50, init="gaussian:0.3", generator=seeded())
    w = weights(cell)
    assert abs(w.mean()) < 0.015
    assert abs(w.std() - 0.3) < 0.01
    gates = {"RHN": slice(None, 50)}.get(type(cell).__name__, slice(None))
    assert not cell.bias.detach().view(-1, cell.bias.shape[-1])[:, gates].any()


def test_identity_is_added_to_the_candidates_recurrent_matrices():
    I = torch.eye(6, dtype=torch.float64)
    for case in SHALLOW_CASES:
        cell = case.plain(4, 6, init="identity:0")
        n, R = 6, cell.weight_hh.detach()
        if isinstance(cell, LSTM | GRU):
            candidate = R[2 * n : 3 * n].unsqueeze(0)
            others = torch.cat((R[: 2 * n], R[3 * n :]))
        else:
            candidate, others = R[:, :n], R[:, n:]
        assert all(torch.equal(M, I) for M in candidate), str(case)
        assert not others.any(), str(case)
        assert not cell.weight_ih.any()


@pytest.mark.parametrize(("init", "std"), [({}, 1e-3), ({"init": "gaussian:0.01"}, 0.01)], ids=str)
def test_the_irnn_is_that_of_le_et_al(init, std):
    """Rectified linear units, a recurrent matrix near the identity whatever draws the noise, and zero biases."""
    cell = CELLS["irnn"](5, 200, generator=seeded(), **init)
    noise = cell.weight_hh.detach()[0] - torch.eye(200)
    assert abs(noise.std() / std - 1) < 0.05 and not cell.bias.any()
    x, s = torch.randn(5), torch.randn(200)
    z = cell.weight_ih @ x + cell.weight_hh[0] @ s
    assert_close(cell.step(x, s), z.clamp(min=0), 1e-5, "relu")


def test_defaults_are_the_official_codes():
    cell = RHN(20, 30, 3, generator=seeded())
    assert str(cell.init) == "uniform:0.04"
    assert weights(cell).abs().max() <= 0.04
    assert (cell.bias[:, 30:] == -2).all()
    assert cell.bias[:, :30].abs().max() <= 0.04
    assert cell.bias[:, :30].any()


@pytest.mark.parametrize("b", [0.0, -1.0, -3.5, 2.0])
def test_gate_biases(b):
    coupled, uncoupled = RHN(3, 4, 2, transform_bias=b), RHN(3, 4, 2, transform_bias=b, coupled=False)
    assert (coupled.bias[:, 4:] == b).all()
    assert (uncoupled.bias[:, 4:8] == b).all()
    assert (uncoupled.bias[:, 8:] == -b).all(), "the carry bias starts at minus the transform bias"
    lstm, gru = LSTM(3, 4, forget_bias=b), GRU(3, 4, update_bias=b)
    assert (lstm.bias[4:8] == b).all()
    assert (gru.bias[4:8] == b).all()
    for cell in (lstm, gru):
        assert cell.bias[:4].abs().max() <= 0.04
        assert cell.bias[8:].abs().max() <= 0.04


@pytest.mark.parametrize("coupled", [True, False])
def test_without_a_transform_bias_the_gates_biases_are_drawn_as_the_others(coupled):
    cell = RHN(30, 40, 2, coupled=coupled, transform_bias=None, init="uniform:0.3", generator=seeded())
    for block in cell.bias.split(40, -1):
        assert 0.25 < block.abs().max() <= 0.3 and block.unique().numel() == 80
    assert torch.equal(
        cell.weight_hh, RHN(30, 40, 2, coupled=coupled, init="uniform:0.3", generator=seeded()).weight_hh
    )
    assert (RHN(3, 4, coupled=coupled, transform_bias=None, init="uniform,bias:0.5").bias == 0.5).all()


def test_gate_biases_survive_a_reset():
    cell = RHN(3, 4, transform_bias=-7, init="gaussian:1")
    cell.reset_parameters()
    assert (cell.bias[:, 4:] == -7).all()


@given(st.sampled_from(["uniform", "gaussian", "identity"]), st.floats(0, 1e6))
def test_a_scheme_is_its_text(scheme, scale):
    parsed = Initialization.parse(f"{scheme}:{scale!r}")
    assert parsed == Initialization(scheme, scale)
    assert Initialization.parse(str(parsed)) == parsed
    assert Initialization.parse(parsed) is parsed
    assert Initialization.parse("gaussian:") == Initialization("gaussian", 0.01)


WRONG = ["", "xavier", "uniform:-1", "gaussian:nan", "uniform:inf", "gaussian:0.1:2", "Gaussian:1", ":1", "gaussian:x"]


@pytest.mark.parametrize("text", WRONG)
def test_unknown_schemes_are_refused(text):
    with pytest.raises(InvalidInputError, match=r"unknown .*expected gaussian:STD, uniform:A or identity"):
        Initialization.parse(text)
