"""Dropout masks: one draw a row and window, shared by all steps; word types drop as wholes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rhn.cells import CellMasks
from rhn.data.text import Vocabulary
from rhn.errors import InvalidInputError
from rhn.models import LanguageModel, PolyphonicModel
from rhn.models.dropout import Dropout, Masks, draw_masks, require_masks
from rhn.training.evaluation import evaluate_chorales, score
from rhn.training.monte_carlo import monte_carlo_score
from rhn.training.sampling import generate, sample_chorale


def model(cell="rhn", **options):
    return LanguageModel(
        cell, vocabulary_size=11, hidden_size=6, depth=2, layers=2, dtype=torch.float64, **options
    )


def draw(dropout, *, seed=0, rows=5, steps=9, of=None):
    tokens = torch.randint(11, (steps, rows), generator=torch.Generator().manual_seed(7))
    return tokens, draw_masks(of or model(), tokens, dropout, torch.Generator().manual_seed(seed))


@given(seed=st.integers(0, 10**6), rate=st.floats(0.05, 0.95))
@settings(deadline=None, max_examples=25, derandomize=True)
def test_all_occurrences_of_a_word_in_a_row_share_one_draw(seed, rate):
    tokens, masks = draw(Dropout(embedding=rate), seed=seed, steps=40)
    assert masks.embedding.shape == tokens.shape
    for row in range(tokens.shape[1]):
        for word in tokens[:, row].unique():
            assert len(masks.embedding[tokens[:, row] == word, row].unique()) == 1


@given(rate=st.floats(0.01, 0.99), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=25, derandomize=True)
def test_every_entry_is_zero_or_one_over_keep_and_follows_from_the_generator(rate, seed):
    dropout = Dropout(embedding=rate, input=rate, hidden=rate, output=rate, candidate=rate)
    drawn = [draw(dropout, seed=seed)[1] for _ in range(2)]
    leaves = [
        [masks.embedding, masks.output, *(m for cell in masks.cells for m in cell)]
        for masks in drawn
    ]
    for mask in leaves[0]:
        assert ((mask == 0) | ((mask * (1 - rate) - 1).abs() < 1e-12)).all()
    assert all(map(torch.equal, *leaves))


def test_the_share_of_zeros_is_the_rate():
    big = LanguageModel("rhn", vocabulary_size=3, hidden_size=500, depth=1)
    dropout = Dropout(input=0.75, hidden=0.25, output=0.6, candidate=0.1)
    _, masks = draw(dropout, rows=400, of=big)
    assert not torch.equal(draw(dropout, rows=400, of=big, seed=1)[1].output, masks.output)
    for m, rate in zip((*masks.cells[0], masks.output), (0.75, 0.25, 0.1, 0.6), strict=True):
        error = (rate * (1 - rate) / m.numel()) ** 0.5
        assert (m == 0).double().mean().item() == pytest.approx(rate, abs=20 * error)


def test_gates_share_masks_or_have_their_own():
    for gate_masks, blocks in (("shared", 1), ("separate", 2)):
        _, masks = draw(Dropout(input=0.5, hidden=0.5, gate_masks=gate_masks))
        assert [tuple(c.input.shape) for c in masks.cells] == [(blocks, 5, 6)] * 2
        assert [tuple(c.state.shape) for c in masks.cells] == [(blocks, 5, 6)] * 2
        assert all(c.candidate is None for c in masks.cells)
    uncoupled = model(coupled=False)
    _, masks = draw(Dropout(hidden=0.5, gate_masks="separate"), of=uncoupled)
    assert masks.cells[0].state.shape == (3, 5, 6)
    assert masks.cells[0].input is None


def test_a_masked_word_is_no_input_and_a_masked_output_no_information():
    tokens, net = torch.tensor([[1], [2], [1]]), model()
    zero_word = torch.tensor([[0.0], [1.0], [0.0]], dtype=torch.float64)
    masked = net(tokens, masks=Masks(zero_word, (CellMasks(),) * 2, None))
    with torch.no_grad():
        net.embedding[1] = 0
    assert torch.allclose(net(tokens).outputs, masked.outputs, atol=1e-14)
    blind = net(
        tokens, masks=Masks(None, (CellMasks(),) * 2, torch.zeros(1, 6, dtype=torch.float64))
    )
    assert torch.equal(blind.logits, net.output_bias.expand_as(blind.logits))
    assert torch.equal(blind.outputs, net(tokens).outputs)


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
    with pytest.raises(
        InvalidInputError, match=r"dropout of Plain is not 0: expected 0, or a rhn.cells.Cell"
    ):
        require_masks(model(Plain), Dropout(hidden=0.5))


def composer(training):
    made = PolyphonicModel(
        Plain, hidden_size=4, init="scaled", generator=torch.Generator().manual_seed(0)
    )
    return made.train(training)


TEXT = torch.arange(60).numpy() ** 2 % 11
MEASURES = {
    "score": lambda m: score(m, TEXT).nll,
    "monte carlo": lambda m: monte_carlo_score(m, TEXT, Dropout(), samples=2).nll,
    "generation": lambda m: generate(
        m, Vocabulary("characters", tuple("abcdefghijk")), prompt="a", length=40, temperature=1e-3
    ),
    "chorales": lambda m: evaluate_chorales(composer(m.training), [torch.ones(5, 88).numpy()]).nll,
    "a chorale": lambda m: sample_chorale(composer(m.training), bars=2).tolist(),
}


@pytest.mark.parametrize("name", MEASURES)
def test_a_model_in_training_mode_is_measured_without_dropout_and_left_in_it(name):
    trained = model(Plain)
    with torch.inference_mode():
        found = MEASURES[name](trained)
    assert trained.training
    assert found == MEASURES[name](trained.eval())
