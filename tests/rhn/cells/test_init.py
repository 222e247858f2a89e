"""How weights start: the schemes' statistics, gate biases, and that a seed means the same
everywhere.
"""

import numpy
import pytest
import torch
from cases import SHALLOW_CASES, assert_close
from hypothesis import given
from hypothesis import strategies as st
from tables import for_each
from torch import nn

from rhn.cells import CELLS, GRU, IRNN, LSTM, RHN, Cell, Initialization, Layer, Part
from rhn.cells.init import DEFAULT_SCALE, haar
from rhn.checkpoints import load, save
from rhn.errors import InvalidInputError
from rhn.models import PolyphonicModel

shallow = for_each("case", SHALLOW_CASES)


def own_weights(case):
    """Names of what a cell starts in a way of its own, whatever the scheme: what is there where the
    scheme says zero.
    """
    cell = case.plain(init="gaussian:0")
    named = {} if cell.starts_at_identity else dict(cell.named_parameters())
    return {name for name, p in named.items() if "bias" not in name and p.any()}


def is_square(case):
    """Whether its recurrent weights are n x n matrices that the scheme draws."""
    R = getattr(case.plain(5, 7), "weight_hh", torch.empty(0))
    return R.dim() > 1 and R.shape[-1] == 7 and not own_weights(case)


square = for_each("case", [case for case in SHALLOW_CASES if is_square(case)])


def seeded(seed=5):
    return torch.Generator().manual_seed(seed)


def weights(cell, without=()):
    """All that is drawn by the scheme: without the identity that an IRNN starts from."""
    drawn = {
        name: p.detach()
        for name, p in cell.named_parameters()
        if "bias" not in name and name not in without
    }
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
def test_every_dtype_starts_alike_up_to_rounding(case):
    exact = case.plain(generator=seeded())
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        rounded = case.plain(generator=seeded(), dtype=dtype)
        for p, q in zip(exact.parameters(), rounded.parameters(), strict=True):
            assert q.dtype == dtype
            assert torch.equal(p.to(dtype), q)


@shallow
def test_gaussian_has_its_standard_deviation_and_zero_biases(case):
    cell = case.plain(40, 50, init="gaussian:0.3", generator=seeded())
    w = weights(cell, own_weights(case))
    error = 0.3 / len(w) ** 0.5
    assert abs(w.mean()) < 6 * error and abs(w.std() - 0.3) < 6 * error
    gates = {"RHN": slice(None, 50)}.get(type(cell).__name__, slice(None))
    if hasattr(cell, "bias"):
        assert not cell.bias.detach().view(-1, cell.bias.shape[-1])[:, gates].any()


def test_identity_is_added_to_the_candidates_recurrent_matrices():
    I = torch.eye(6, dtype=torch.float64)
    for case in filter(is_square, SHALLOW_CASES):
        cell = case.plain(4, 6, init="identity:0")
        place = {LSTM: 2, GRU: 2}.get(type(cell), 0)
        blocks = [*cell.weight_hh.detach().unflatten(-2, (-1, 6)).movedim(-3, 0)]
        assert (blocks.pop(place) == I).all(), str(case)
        assert not any(block.any() for block in blocks), str(case)
        assert not cell.weight_ih.any()


@pytest.mark.parametrize(("init", "std"), [({}, 1e-3), ({"init": "gaussian:0.01"}, 0.01)], ids=str)
def test_the_irnn_is_that_of_le_et_al(init, std):
    """Rectified linear units, a recurrent matrix near the identity whatever draws the noise, and
    zero biases.
    """
    cell = CELLS["irnn"](5, 200, generator=seeded(), **init)
    noise = cell.weight_hh.detach()[0] - torch.eye(200)
    assert abs(noise.std() / std - 1) < 0.05 and not cell.bias.any()
    x, s = torch.randn(5), torch.randn(200)
    z = cell.weight_ih @ x + cell.weight_hh[0] @ s
    assert_close(cell.step(x, s), z.clamp(min=0), 1e-5, "relu")


def recurrent_blocks(cell):
    """All recurrent n x n matrices (K, n, n), found by their shapes."""
    names = [name for name, _ in cell.named_parameters() if name in ("weight_hh", "weight_skip")]
    return torch.cat(
        [
            getattr(cell, name).detach().reshape(-1, cell.hidden_size, cell.hidden_size)
            for name in names
        ]
    )


@square
def test_scaled_weights_have_the_standard_deviation_of_their_columns(case):
    cell = case.plain(400, 50, init="scaled:2", generator=seeded())
    assert abs(cell.weight_ih.std() * 400**0.5 - 2) < 0.05
    assert (
        abs(recurrent_blocks(cell).std() * 50**0.5 - 2) < 0.08
        and abs(recurrent_blocks(cell).mean()) < 0.02
    )
    assert not cell.bias[..., :50].any()


@square
def test_orthogonal_matrices_are_and_the_other_weights_are_the_scaled_ones(case):
    cell, scaled = (
        case.plain(40, 9, init=f"{s}:1.5", generator=seeded(), dtype=torch.float64)
        for s in ("orthogonal", "scaled")
    )
    Q = recurrent_blocks(cell) / 1.5
    assert_close(Q @ Q.mT, torch.eye(9, dtype=torch.float64).expand_as(Q), 1e-12, "Q Q'")
    assert torch.equal(cell.weight_ih, scaled.weight_ih) and torch.equal(cell.bias, scaled.bias)
    R = Q.mT @ recurrent_blocks(scaled)
    assert R.tril(-1).abs().max() < 1e-12 and R.diagonal(dim1=-2, dim2=-1).min() > 0, (
        "the factors of the scaled matrices"
    )


def test_orthogonal_matrices_are_uniform():
    """Haar: tr Q has mean 0 and variance 1 at every n; without the rule of signs the diagonal would
    lean to one side.
    """
    Q = haar(torch.randn(20_000, 3, 3, generator=seeded(), dtype=torch.float64))
    trace = Q.diagonal(dim1=-2, dim2=-1).sum(-1)
    assert abs(trace.mean()) < 0.03 and abs(trace.var() - 1) < 0.04
    assert abs(Q.mean(0)).max() < 0.02 and abs(Q.square().mean(0) - 1 / 3).max() < 0.01


class Told(Cell):
    """A user's cell that says which columns of its one weight are recurrent."""

    def __init__(
        self,
        input_size,
        hidden_size,
        depth=1,
        *,
        says=True,
        generator=None,
        device=None,
        dtype=None,
        **common,
    ):
        super().__init__(input_size, hidden_size, depth, **common)
        self.weight = nn.Parameter(
            torch.empty(hidden_size, input_size + hidden_size, dtype=dtype, device=device)
        )
        self.says = says
        self.reset_parameters(generator)

    def layers(self):
        return (
            (Layer(recurrent=Part("weight", numpy.s_[:, self.input_size :])),)
            if self.says
            else super().layers()
        )

    def step(self, x, s):
        return torch.tanh(torch.cat((x, s), -1) @ self.weight.T)


def test_a_users_cell_says_where_its_recurrent_matrix_is_or_starts_scaled():
    told, untold = (
        Told(
            4, 6, says=says, init="orthogonal", generator=seeded(), dtype=torch.float64
        ).weight.detach()
        for says in (True, False)
    )
    assert_close(told[:, 4:] @ told[:, 4:].T, torch.eye(6, dtype=torch.float64), 1e-12, "Q Q'")
    assert torch.equal(told[:, :4], untold[:, :4]) and abs(untold.std() * 10**0.5 - 1) < 0.3
    given = {"hidden_size": 6, "input_size": 4, "init": "orthogonal", "dtype": torch.float64}
    drawn = PolyphonicModel(Told, generator=seeded(), **given).cells[0].weight
    assert torch.equal(drawn, told)


def test_a_users_cell_that_takes_no_init_keeps_its_own_weights():
    def own(m, n, depth, device=None, dtype=None):
        return Told(m, n, depth, init="gaussian:2", device=device, dtype=dtype)

    first, again, other = (
        PolyphonicModel(own, hidden_size=20, generator=seeded(seed)).cells[0].weight
        for seed in (5, 5, 6)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert abs(first.std() - 2) < 0.2


@pytest.mark.parametrize("scheme", ["scaled", "orthogonal:0.5"])
def test_a_models_output_layer_is_scaled_and_its_file_tells_the_scheme(scheme, tmp_path):
    model = PolyphonicModel(
        "rhn", hidden_size=30, depth=2, output_size=500, init=scheme, generator=seeded()
    )
    assert abs(model.output.weight.std() * 30**0.5 - Initialization.parse(scheme).scale) < 0.03
    assert not model.output.bias.any()
    save(tmp_path / "model.safetensors", model)
    assert load(tmp_path / "model.safetensors").init == model.init == Initialization.parse(scheme)


def test_defaults_are_the_official_codes():
    cell = RHN(20, 30, 3, generator=seeded())
    assert str(cell.init) == "uniform:0.04"
    assert weights(cell).abs().max() <= 0.04
    assert (cell.bias[:, 30:] == -2).all()
    assert cell.bias[:, :30].abs().max() <= 0.04
    assert cell.bias[:, :30].any()


@for_each("b", [0.0, -3.5])
def test_gate_biases(b):
    coupled, uncoupled = (
        RHN(3, 4, 2, transform_bias=b),
        RHN(3, 4, 2, transform_bias=b, coupled=False),
    )
    coupled.reset_parameters()
    assert (coupled.bias[:, 4:] == b).all()
    assert (uncoupled.bias[:, 4:8] == b).all()
    assert (uncoupled.bias[:, 8:] == -b).all(), "the carry bias starts at minus the transform bias"


@for_each(
    ("build", "option", "block"),
    [(LSTM, "forget_bias", 1), (GRU, "update_bias", 1)],
)
def test_a_gates_bias_starts_where_it_is_told_to(build, option, block):
    told, untold = (build(3, 4, init="gaussian:1", **given) for given in ({option: -1.5}, {}))
    assert (told.bias.chunk(told.blocks)[block] == -1.5).all() and not untold.bias.any()
    assert told.bias.count_nonzero() == 4 and told.config()[option] == -1.5


@pytest.mark.parametrize("coupled", [True, False])
def test_without_a_transform_bias_the_gates_biases_are_drawn_as_the_others(coupled):
    cell = RHN(
        30, 40, 2, coupled=coupled, transform_bias=None, init="uniform:0.3", generator=seeded()
    )
    for block in cell.bias.split(40, -1):
        assert 0.25 < block.abs().max() <= 0.3 and block.unique().numel() == 80
    assert torch.equal(
        cell.weight_hh,
        RHN(30, 40, 2, coupled=coupled, init="uniform:0.3", generator=seeded()).weight_hh,
    )
    assert (
        RHN(3, 4, coupled=coupled, transform_bias=None, init="uniform,bias:0.5").bias == 0.5
    ).all()


SCALES = {scheme: st.floats(0, 1e6) for scheme in DEFAULT_SCALE} | {
    "memory": st.integers(1, 10**6).map(float)
}


@given(st.one_of(st.tuples(st.just(scheme), scales) for scheme, scales in SCALES.items()))
def test_a_scheme_is_its_text(drawn):
    scheme, scale = drawn
    parsed = Initialization.parse(f"{scheme}:{scale!r}")
    assert parsed == Initialization(scheme, scale)
    assert Initialization.parse(str(parsed)) == parsed
    assert Initialization.parse(parsed) is parsed
    assert Initialization.parse(scheme) == Initialization(scheme, DEFAULT_SCALE[scheme])


@for_each(
    ("scheme", "scale"),
    [
        ("foo", -1),
        ("gaussian", -1),
        ("memory", 0.5),
        ("gaussian", float("nan")),
        ("gaussian", "wide"),
        ("uniform", 1e300),
    ],
)
def test_a_scheme_that_is_none_is_refused_as_its_text_is(scheme, scale):
    words = f"init is '{scheme}:.*': expected uniform"
    with pytest.raises(InvalidInputError, match=words):
        Initialization(scheme, scale)
    with pytest.raises(InvalidInputError, match=words):
        Initialization.parse(f"{scheme}:{scale}")
