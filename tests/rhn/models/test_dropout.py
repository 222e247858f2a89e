"""Dropout masks: one draw a row and window, shared by all steps; word types drop as wholes."""

import pytest
import torch
from cases import assert_close
from hypothesis import given
from hypothesis import strategies as st
from tables import for_each

from rhn.cells import CELLS
from rhn.data.text import Vocabulary
from rhn.errors import InvalidInputError
from rhn.models import LanguageModel, PolyphonicModel
from rhn.models.dropout import Dropout, draw_masks, require_masks
from rhn.training.evaluation import evaluate_chorales, score
from rhn.training.monte_carlo import monte_carlo_score
from rhn.training.sampling import generate, sample_chorale


def model(cell="rhn", **options):
    sizes = {"vocabulary_size": 11, "hidden_size": 6, "depth": 2, "layers": 2} | options
    return LanguageModel(cell, dtype=torch.float64, init="uniform:0.5", **sizes)


def draw(dropout, *, seed=0, rows=5, steps=9, of=None):
    tokens = torch.randint(11, (steps, rows), generator=torch.Generator().manual_seed(7))
    return tokens, draw_masks(of or model(), tokens, dropout, torch.Generator().manual_seed(seed))


@given(seed=st.integers(0, 10**6), rate=st.floats(0.05, 0.95))
def test_entries_are_zero_or_one_over_keep_from_the_generator_alone(seed, rate):
    dropout = Dropout(embedding=rate, input=rate, hidden=rate, output=rate, candidate=rate)
    tokens, masks = draw(dropout, seed=seed)
    _, again = draw(dropout, seed=seed)
    leaves, same = (
        [each.embedding, each.output, *(mask for cell in each.cells for mask in cell)]
        for each in (masks, again)
    )
    assert all(map(torch.equal, leaves, same))
    assert all(((m == 0) | ((m * (1 - rate) - 1).abs() < 1e-12)).all() for m in leaves)
    for row, mask in zip(tokens.T, masks.embedding.T, strict=True):
        for word in row.unique():
            assert len(mask[row == word].unique()) == 1, "a word's occurrences share one draw"


def test_the_share_of_zeros_is_the_rate():
    big = LanguageModel("rhn", vocabulary_size=3, hidden_size=500, depth=1)
    dropout = Dropout(input=0.75, hidden=0.25, output=0.6, candidate=0.1)
    _, masks = draw(dropout, rows=400, of=big)
    assert not torch.equal(draw(dropout, rows=400, of=big, seed=1)[1].output, masks.output)
    for m, rate in zip((*masks.cells[0], masks.output), (0.75, 0.25, 0.1, 0.6), strict=True):
        error = (rate * (1 - rate) / m.numel()) ** 0.5
        assert (m == 0).double().mean().item() == pytest.approx(rate, abs=20 * error)


@for_each(
    ("coupled", "gate_masks", "blocks"),
    [(True, "shared", 1), (True, "separate", 2), (False, "separate", 3)],
)
def test_gates_share_masks_or_have_their_own(coupled, gate_masks, blocks):
    dropout = Dropout(input=0.5, hidden=0.5, gate_masks=gate_masks)
    for mask in draw(dropout, of=model(coupled=coupled))[1].cells:
        assert mask.input.shape == mask.state.shape == (blocks, 5, 6)
        assert mask.candidate is None


@for_each("cell", CELLS)
@for_each("tied", [True, False])
@for_each("rate", [0, 0.5])
def test_logits_and_losses_are_the_equation(cell, tied, rate):
    """Embedding, one cell after another, and the output layer, with masks before each."""
    net = model(cell, tied=tied, depth=1)
    dropout = Dropout(embedding=rate, input=rate, hidden=rate, output=rate)
    tokens, masks = draw(dropout, of=net)
    x, starts = net.embedding[tokens], tuple(torch.randn(2, 5, net.cells[0].state_size).double())
    x = x if masks.embedding is None else x * masks.embedding[..., None]
    for k, cell in enumerate(net.cells):
        x, _ = cell(x, starts[k], *masks.cells[k : k + 1])
    y = x if masks.output is None else x * masks.output
    U = net.embedding if tied else net.output_weight
    wanted = torch.einsum("tbn,vn->tbv", y, U) + net.output_bias
    read = net(tokens, starts, masks)
    assert_close(read.logits, wanted, 1e-12, "logits")
    assert torch.equal(read.outputs, x)
    targets = tokens.roll(1, 0)
    nll = torch.nn.functional.cross_entropy(wanted.movedim(-1, 1), targets, reduction="none")
    assert_close(net(tokens, starts, masks, targets).nll, nll, 1e-12, "nll")


class Plain(torch.nn.Module):
    """A user's cell that tells nothing but its state's size, with a dropout of its own."""

    def __init__(self, input_size, hidden_size, depth=1, *, device=None, dtype=None):
        super().__init__()
        self.inner = torch.nn.Linear(input_size, hidden_size, device=device, dtype=dtype)
        self.drop, self.state_size = torch.nn.Dropout(0.5), hidden_size

    def forward(self, x, s=None):
        y = torch.tanh(self.inner(x)).cumsum(0) + (0 if s is None else s)
        return self.drop(y), y[-1]


def test_a_cell_that_knows_no_masks_is_asked_for_nothing_unless_it_is_to_be_masked():
    require_masks(model(Plain), Dropout(embedding=0.5, output=0.5))
    assert draw(Dropout(output=0.5), of=model(Plain))[1].cells == ()
    with pytest.raises(InvalidInputError, match="dropout of Plain is not 0"):
        require_masks(model(Plain), Dropout(hidden=0.5))


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


@for_each("name", MEASURES)
def test_a_model_in_training_mode_is_measured_without_dropout_and_left_in_it(name):
    trained, found = model(Plain), []
    for mode in (True, False):
        torch.manual_seed(0)
        with torch.inference_mode():
            found.append(MEASURES[name](trained.train(mode)))
        assert trained.training == mode
    assert found[0] == found[1]
