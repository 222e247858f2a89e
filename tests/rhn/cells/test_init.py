"""How weights start: the schemes' statistics, gate biases, and that a seed means the same
everywhere.
"""

import copy
import itertools
from dataclasses import replace

import pytest
import torch
from cases import SHALLOW_CASES, assert_close
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn

from rhn.cells import CELLS, RHN, GateBlocks, Initialization, Layer, Part
from rhn.cells.init import DEFAULT_SCALE
from rhn.cells.memory_init import remember
from rhn.errors import InvalidInputError

shallow = pytest.mark.parametrize("case", SHALLOW_CASES, ids=str)


def seeded(seed=5):
    return torch.Generator().manual_seed(seed)


def same(a, b):
    return all(map(torch.equal, a.parameters(), b.parameters()))


@shallow
def test_a_seed_gives_the_same_weights_in_every_type_and_place(case):
    before = torch.get_rng_state()
    cell, other = (case.plain(3, 4, generator=seeded(seed)) for seed in (5, 6))
    assert str(cell.init) == ("identity:0.001" if case.key == "irnn" else "uniform:0.04")
    assert not torch.equal(cell.weight_ih, other.weight_ih)
    other.reset_parameters(seeded())
    assert same(cell, other)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        rounded = case.plain(3, 4, generator=seeded(), dtype=dtype)
        assert same(case.plain(3, 4, generator=seeded()).to(dtype), rounded)
    real = case.plain(3, 4, device="meta").to_empty(device="cpu")
    real.reset_parameters(seeded())
    assert same(cell, real)
    huge = case.plain(10, 10**5, device="meta")
    assert all(p.is_meta for p in huge.parameters())
    assert torch.equal(torch.get_rng_state(), before)


SPREAD = {  # the standard deviation of a weight, and of a bias, with this number of columns
    "uniform:0.3": (lambda columns: 0.3 / 3**0.5, 0.3 / 3**0.5),
    "gaussian:0.3": (lambda columns: 0.3, 0),
    "identity:0.01": (lambda columns: 0.01, 0),
    "scaled:2": (lambda columns: 2 / columns**0.5, 0),
}


def without_identity(case, scheme, name, weight):
    """A weight less the identity in its candidate's recurrent blocks."""
    near = scheme.startswith("identity") or (case.key == "irnn" and scheme != "scaled:2")
    if near and name == "weight_hh":
        block = {"lstm": 2, "gru": 2}.get(case.key, 0)
        weight.unflatten(-2, (-1, 50))[..., block, :, :] -= torch.eye(50)
    return weight


@pytest.mark.parametrize(("case", "scheme"), [*itertools.product(SHALLOW_CASES, SPREAD)], ids=str)
def test_weights_have_the_mean_and_the_spread_of_their_scheme(case, scheme):
    cell = case.plain(40, 50, init=scheme, generator=seeded())
    of_weights, of_biases = SPREAD[scheme]
    for name, p in cell.named_parameters():
        w = without_identity(case, scheme, name, p.detach().clone())
        if name == "bias" and case.key == "rhn":
            w = w[:, :50]  # the others are the gates'
        std = of_biases if "bias" in name else of_weights(w.shape[-1])
        error = std / w.numel() ** 0.5
        assert abs(w.mean()) <= 6 * error and abs(w.std() - std) <= 6 * error, name
        assert scheme != "uniform:0.3" or w.abs().max() <= 0.3


@shallow
def test_orthogonal_matrices_are_factors_of_the_scaled_ones(case):
    """With positive numbers on the diagonals of the other factors, which makes them uniform (Haar)
    among all orthogonal matrices.
    """
    cell, scaled = (
        case.plain(40, 9, init=f"{scheme}:1.5", generator=seeded())
        for scheme in ("orthogonal", "scaled")
    )
    for (name, p), q in zip(cell.named_parameters(), scaled.parameters(), strict=True):
        if name not in ("weight_hh", "weight_skip"):
            assert torch.equal(p, q)
            continue
        Q, S = p.detach().reshape(-1, 9, 9) / 1.5, q.detach().reshape(-1, 9, 9)
        assert_close(Q @ Q.mT, torch.eye(9, dtype=Q.dtype).expand_as(Q), 1e-12, "Q Q'")
        R = Q.mT @ S
        assert R.tril(-1).abs().max() < 1e-12 and R.diagonal(dim1=-2, dim2=-1).min() > 0


@pytest.mark.parametrize(
    ("key", "option", "block", "default"),
    [("rhn", "transform_bias", 1, -2), ("lstm", "forget_bias", 1, 0), ("gru", "update_bias", 1, 0)],
)
def test_a_gate_s_bias_starts_where_it_is_told_to_or_as_the_others(key, option, block, default):
    def biases(init, **options):
        cell = CELLS[key](3, 4, init=init, **options)
        return cell.bias.detach().view(-1, cell.blocks, 4)[:, block], cell.bias

    for told, wanted in (({}, default), ({option: -1.5}, -1.5)):
        gate, every = biases("gaussian:1", **told)
        assert (gate == wanted).all() and every.count_nonzero() == (4 if wanted else 0)
    _, every = biases("uniform,bias:0.5", **{option: None})
    assert (every == 0.5).all()
    uncoupled = RHN(3, 4, 2, transform_bias=-3.5, coupled=False, init="gaussian:1")
    assert uncoupled.bias.view(2, 3, 4).unique(dim=-1).tolist() == [[[0], [-3.5], [3.5]]] * 2


@pytest.mark.parametrize("n", [4, 15], ids=["one plane", "three planes, an odd number of units"])
@pytest.mark.parametrize("steps", [1, 100])
def test_memory_keeps_half_of_the_units_for_the_past(n, steps):
    """The angles of the planes are pi / T^(k / (K - 1)): from pi to pi / T."""
    how = {"init": f"memory:{steps}", "generator": seeded(), "dtype": torch.float64}
    cell = CELLS["dts-rnn"](3, n, 2, **how)
    W, (R, later), skip = (p.detach() for p in [*cell.parameters()][:3])
    planes, T = n // 4, max(2, steps)
    sense = n - 2 * planes
    assert W[:sense].all() and not W[sense:].any() and not R[:sense].any() and not skip.any()
    assert torch.equal(later, torch.eye(n, dtype=torch.float64))
    angles = torch.linalg.eigvals(R[sense:, sense:]).log()
    assert angles.real.abs().max() < 1e-12
    wanted = sorted(2 * [torch.pi / T ** (k / max(1, planes - 1)) for k in range(planes)])
    assert_close(angles.imag.abs().sort().values, torch.tensor(wanted).double(), 1e-6, "angles")
    written = R[sense:, :sense]
    std = 0.4 / (T * sense) ** 0.5
    assert 0.6 * std < written.square().mean().sqrt() < 1.5 * std


SENSES = Layer(input=Part("weight_ih_l0"), recurrent=Part("weight_hh_l0"))


@pytest.mark.parametrize(
    ("module", "layers"),
    [
        pytest.param(nn.RNN(3, 3), [SENSES], id="three units"),
        pytest.param(nn.GRU(3, 8), [SENSES], id="not plain"),
        pytest.param(nn.RNN(3, 8), [], id="no layer"),
        pytest.param(nn.RNN(3, 8), [SENSES, Layer()], id="a layer without recurrence"),
        pytest.param(nn.RNN(3, 8), [replace(SENSES, gate=GateBlocks(0))], id="a gate"),
        pytest.param(nn.RNN(3, 8), [Layer(recurrent=Part("bias_hh_l0"))], id="a number a unit"),
        pytest.param(
            type("Tanh", (nn.Linear,), {"nonlinearity": "tanh"})(8, 8),
            [Layer(recurrent=Part("weight"))],
            id="no number of units",
        ),
    ],
)
def test_memory_leaves_any_other_module_as_it_is(module, layers):
    before = copy.deepcopy(module)
    assert not remember(module, layers, 100, None)
    assert same(before, module)


SCALES = {scheme: st.floats(0, 1e6) for scheme in DEFAULT_SCALE} | {
    "memory": st.integers(1, 10**6).map(float)
}


@example(("uniform", 1e6), 1e6)
@given(
    st.one_of(st.tuples(st.just(scheme), scales) for scheme, scales in SCALES.items()),
    st.none() | st.floats(-1e6, 1e6),
)
def test_a_scheme_is_its_text(drawn, bias):
    scheme, scale = drawn
    text = f"{scheme}:{scale!r}" + ("" if bias is None else f",bias:{bias!r}")
    parsed = Initialization.parse(text)
    assert parsed == Initialization(scheme, scale, bias)
    assert Initialization.parse(str(parsed)) == parsed
    assert Initialization.parse(scheme) == Initialization(scheme, DEFAULT_SCALE[scheme])


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("uniform:1.1e6", id="too large a scale"),
        pytest.param("gaussian:-0.1", id="a negative scale"),
        pytest.param("memory:0.5", id="half a time step"),
        pytest.param("memory:0", id="no time step"),
        pytest.param("memory:2.5", id="no whole number of time steps"),
        pytest.param("uniform,bias:1.1e6", id="too large a bias"),
        pytest.param("uniform,bias:-1.1e6", id="too large a negative bias"),
        pytest.param("uniform,bias:nan", id="a bias that is no number"),
        pytest.param("uniform:nan", id="a scale that is no number"),
        pytest.param("normal:1", id="an unknown scheme"),
        pytest.param("uniform:1:2", id="two scales"),
    ],
)
def test_a_text_of_no_scheme_is_refused(text):
    with pytest.raises(InvalidInputError, match=r"^init is '.*': expected uniform\[:A\], gaussian"):
        Initialization.parse(text)
