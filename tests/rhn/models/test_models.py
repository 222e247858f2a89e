"""Both models are their equations, start from their generator, survive a checkpoint, and drop what
their dropout masks say.
"""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cases import assert_close, randomize
from hypothesis import given
from hypothesis import strategies as st
from rounding import assert_within, largest
from torch.func import vmap

from rhn.cells import CELLS
from rhn.cells.registry import num_parameters
from rhn.checkpoints import load, save
from rhn.data.text import Vocabulary
from rhn.errors import InvalidInputError
from rhn.kernels.losses import frame_nll
from rhn.models import LanguageModel, PolyphonicModel
from rhn.models.dropout import Dropout, draw_masks, require_masks
from rhn.training.evaluation import evaluate_chorales, score
from rhn.training.monte_carlo import monte_carlo_score
from rhn.training.sampling import generate, sample_chorale
from rhn.utils.threads import deterministic


def frames(T=7, B=3, keys=88, dtype=torch.float64):
    return (torch.rand(T, B, keys) < 0.1).to(dtype)


def model(cell="rhn", dtype=torch.float64, **options):
    made = PolyphonicModel(cell, **{"hidden_size": 6, "dtype": dtype} | options)
    randomize(made)
    return made


class Plain(torch.nn.Module):
    """A user's cell that tells nothing but its state's size, with a dropout of its own, an `init`
    without a generator, and a weight of two names.
    """

    def __init__(self, input_size, hidden_size, depth=1, *, init="", device=None, dtype=None):
        super().__init__()
        self.inner = torch.nn.Linear(input_size, hidden_size, device=device, dtype=dtype)
        self.inner.twin = self.inner.weight
        self.drop, self.state_size = torch.nn.Dropout(0.5), hidden_size

    def forward(self, x, s=None):
        y = torch.tanh(x @ self.inner.twin.T + self.inner.bias).cumsum(0) + (0 if s is None else s)
        return self.drop(y), y[-1]


@pytest.mark.parametrize("cell", [*CELLS, Plain])
def test_the_nll_of_a_frame_is_that_of_its_keys_after_the_frames_before_it(cell):
    m, x = model(cell, layers=2).eval(), frames()
    y, (O, o) = x, (p.detach().numpy() for p in m.output.parameters())
    for each in m.cells:
        y, _ = each(y)
    p = 1 / (1 + np.exp(-(y.detach().numpy() @ O.T + o)))[:-1]
    wanted = -np.log(np.where(x[1:].numpy() == 1, p, 1 - p)).sum(-1)
    np.testing.assert_allclose(m.nll(x).detach().numpy(), wanted, rtol=1e-12)


@pytest.mark.parametrize("keys", [1, 88, 128, 2000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_loss_is_torch_s_cross_entropy_at_any_scale_and_for_any_number_of_keys(keys, dtype):
    """A product of 128 probabilities of 1/2 is below every normal number of float32."""
    for spread, shift in ((0, 0), (0, 30), (0, -30), (1e-3, 0), (1, 0), (30, 0), (1e4, 0)):
        z, x = torch.randn(5, 2, keys, dtype=dtype) * spread + shift, frames(5, 2, keys, dtype)
        wide = z.double(), x.double()
        expected = F.binary_cross_entropy_with_logits(*wide, reduction="none").sum(-1)
        with deterministic():  # denormal numbers are zero while training
            found = frame_nll(z, x)
        # of one key: log(1 + exp(z)) - x z, rounded in any order
        terms = (1 + z.double().abs()).sum(-1)
        assert_within(largest((found - expected) / terms), 8 * torch.finfo(dtype).eps, "loss")


def test_the_loss_has_two_derivatives_and_may_be_mapped():
    x = frames(2, 2, 5)
    z = torch.randn_like(x, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: frame_nll(z, x), z)
    assert torch.autograd.gradgradcheck(lambda z: frame_nll(z, x), z)
    torch.testing.assert_close(vmap(frame_nll, (1, 1))(z, x).T, frame_nll(z, x))
    one = x[:, :1].expand_as(x)
    torch.testing.assert_close(vmap(frame_nll, (1, None))(z, one[:, 0]).T, frame_nll(z, one))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_padding_costs_nothing_and_a_whole_loss_is_the_sum_over_real_frames(dtype):
    m, x = model(dtype=dtype), frames(dtype=dtype)
    mask = torch.arange(7).unsqueeze(1) < torch.tensor([7, 5, 3])
    nll = m.nll(x * mask.unsqueeze(-1), mask)
    assert nll.shape == (6, 3) and (nll[~mask[1:]] == 0).all()
    torch.testing.assert_close(nll[:4, 1], m.nll(x[:5, 1:2])[:, 0])
    real, nll = mask[1:], frame_nll(m(x[:-1]), x[1:]).double()
    for weight, wanted in ((None, nll), (real, nll[real])):
        assert m(x[:-1], x[1:].bool(), weight).item() == pytest.approx(
            wanted.sum().item(), rel=1e-6
        )


def drawn(seed, cell="rhn", init="scaled", **options):
    generator = torch.Generator().manual_seed(seed)
    return PolyphonicModel(cell, hidden_size=50, init=init, generator=generator, **options)


@pytest.mark.parametrize("cell", ["rhn", Plain])
def test_the_generator_alone_decides_the_initial_weights(cell):
    before = torch.get_rng_state()
    a, b, other = (list(drawn(seed, cell).named_parameters()) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before), "the caller's random numbers"
    for (name, p), (_, q), (_, r) in zip(a, b, other, strict=True):
        assert torch.equal(p, q) and ("bias" in name or not torch.equal(p, r)), name


def test_the_output_layers_start_by_the_scheme():
    output = drawn(0, init="scaled:2", output_size=500).output
    assert abs(output.weight.std() * 50**0.5 - 2) < 0.05 and not output.bias.any()
    sizes = {"vocabulary_size": 13, "hidden_size": 6, "transform_bias": -3.0}
    net = LanguageModel("rhn", init="uniform:0.4,bias:0.5", **sizes)
    assert (net.output_bias == 0.5).all() and 0.3 < net.embedding.abs().max() <= 0.4
    assert net.cells[0].bias[0].tolist() == [0.5] * 6 + [-3.0] * 6
    assert LanguageModel("rhn", vocabulary_size=3, hidden_size=6).embedding_size == 3
    small = LanguageModel("rhn", embedding_size=1, device="meta", **sizes)
    assert small.embedding_size == 1 and all(p.is_meta for p in small.parameters())
    tied = LanguageModel("rhn", tied=True, **sizes)
    assert num_parameters(LanguageModel("rhn", **sizes)) - num_parameters(tied) == 13 * 6


@pytest.mark.parametrize("cell", [*CELLS, "torch.nn:LSTM", Plain])
def test_a_checkpoint_gives_the_model_back(cell, tmp_path):
    m, x = model(cell, layers=2, dtype=torch.float32).eval(), frames(dtype=torch.float32)
    path = save(tmp_path / "m.safetensors", m)
    again = (load(path) if isinstance(cell, str) else load(path, cell)).eval()
    assert json.loads(json.dumps(m.config())) == again.config()
    assert torch.equal(again(x), m(x))


# ---- dropout masks: one draw a row and window, shared by all steps -------------------------------

TOKENS = torch.randint(11, (40, 5), generator=torch.Generator().manual_seed(7))


def language_model(cell="rhn", **options):
    sizes = {"vocabulary_size": 11, "hidden_size": 6, "depth": 2, "layers": 2} | options
    return LanguageModel(cell, dtype=torch.float64, init="uniform:0.5", **sizes)


def drawn_masks(net, dropout, seed=0, tokens=TOKENS):
    return draw_masks(net, tokens, dropout, torch.Generator().manual_seed(seed))


@given(
    seed=st.integers(0, 10**6),
    rate=st.floats(0.05, 0.95),
    coupled=st.booleans(),
    gate_masks=st.sampled_from(["shared", "separate"]),
)
def test_entries_are_zero_or_one_over_keep_from_the_generator_alone(
    seed, rate, coupled, gate_masks
):
    rates = dict.fromkeys(("embedding", "input", "hidden", "output", "candidate"), rate)
    net, dropout = language_model(coupled=coupled), Dropout(gate_masks=gate_masks, **rates)
    masks, again = (drawn_masks(net, dropout, seed) for _ in range(2))
    leaves, same = (
        [each.embedding, each.output, *(mask for cell in each.cells for mask in cell)]
        for each in (masks, again)
    )
    assert all(map(torch.equal, leaves, same))
    assert all(((m == 0) | ((m * (1 - rate) - 1).abs() < 1e-12)).all() for m in leaves)
    J = 1 if gate_masks == "shared" else net.cells[0].blocks
    shapes = [(40, 5), (5, 6), *[(J, 5, 6), (J, 5, 6), (5, 6)] * 2]
    assert [tuple(mask.shape) for mask in leaves] == shapes
    for row, mask in zip(TOKENS.T, masks.embedding.T, strict=True):
        for word in row.unique():
            assert len(mask[row == word].unique()) == 1, "a word's occurrences share one draw"


def test_the_share_of_zeros_is_the_rate():
    rates = {"input": 0.75, "hidden": 0.25, "candidate": 0.1, "output": 0.6}
    net, row = LanguageModel("rhn", vocabulary_size=3, hidden_size=500), torch.zeros(9, 400)
    masks, other = (drawn_masks(net, Dropout(**rates), seed, row) for seed in (0, 1))
    assert not torch.equal(masks.output, other.output)
    for m, rate in zip((*masks.cells[0], masks.output), rates.values(), strict=True):
        error = (rate * (1 - rate) / m.numel()) ** 0.5
        assert (m == 0).double().mean().item() == pytest.approx(rate, abs=20 * error)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("rate", [0, 0.5])
def test_logits_and_losses_are_the_equation(cell, tied, rate):
    """Embedding, one cell after another, and the output layer, with masks before each."""
    net = language_model(cell, tied=tied, depth=1)
    dropout = Dropout(embedding=rate, input=rate, hidden=rate, output=rate)
    masks = drawn_masks(net, dropout)
    x, starts = net.embedding[TOKENS], tuple(torch.randn(2, 5, net.cells[0].state_size).double())
    x = x if masks.embedding is None else x * masks.embedding[..., None]
    for k, cell in enumerate(net.cells):
        x, _ = cell(x, starts[k], *masks.cells[k : k + 1])
    y = x if masks.output is None else x * masks.output
    U = net.embedding if tied else net.output_weight
    wanted = torch.einsum("tbn,vn->tbv", y, U) + net.output_bias
    read = net(TOKENS, starts, masks)
    assert_close(read.logits, wanted, 1e-12, "logits")
    assert torch.equal(read.outputs, x)
    targets = TOKENS.roll(1, 0)
    nll = F.cross_entropy(wanted.movedim(-1, 1), targets, reduction="none")
    assert_close(net(TOKENS, starts, masks, targets).nll, nll, 1e-12, "nll")


def test_a_cell_that_knows_no_masks_is_asked_for_nothing_unless_it_is_to_be_masked():
    require_masks(language_model(Plain), Dropout(embedding=0.5, output=0.5))
    assert drawn_masks(language_model(Plain), Dropout(output=0.5)).cells == ()
    with pytest.raises(InvalidInputError, match="dropout of Plain is not 0"):
        require_masks(language_model(Plain), Dropout(hidden=0.5))


def composer(training):
    return PolyphonicModel(Plain, hidden_size=4, init="scaled").train(training)


TEXT, LETTERS = torch.arange(60).numpy() ** 2 % 11, Vocabulary("characters", tuple("abcdefghijk"))
MEASURES = {
    "score": lambda m: score(m, TEXT).nll,
    "monte carlo": lambda m: monte_carlo_score(m, TEXT, Dropout(), samples=2).nll,
    "generation": lambda m: generate(m, LETTERS, prompt="a", length=40, temperature=1e-3),
    "chorales": lambda m: evaluate_chorales(composer(m.training), [torch.ones(5, 88).numpy()]).nll,
    "a chorale": lambda m: sample_chorale(composer(m.training), bars=2).tolist(),
}


@pytest.mark.parametrize("name", MEASURES)
def test_a_model_in_training_mode_is_measured_without_dropout_and_left_in_it(name):
    trained, found = language_model(Plain), []
    for mode in (True, False):
        torch.manual_seed(0)
        with torch.inference_mode():
            found.append(MEASURES[name](trained.train(mode)))
        assert trained.training == mode
    assert found[0] == found[1]


def test_the_configuration_has_the_scheme_and_the_place_of_a_users_cell():
    sizes = {"input_size": 3, "output_size": 3, "hidden_size": 4}
    own = PolyphonicModel(Plain, init=None, **sizes).config()
    assert (own["cell"], own["init"]) == (f"{__name__}:Plain", None)
    for cell, init, wanted in (
        (Plain, "uniform:0.1", "uniform:0.1"),
        ("gru", None, "uniform:0.04"),
    ):
        assert PolyphonicModel(cell, init=init, **sizes).config()["init"] == wanted
