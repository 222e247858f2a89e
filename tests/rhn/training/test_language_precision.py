"""Mixed precision in the training of language models: near float32, weights stay float32, an overflow costs one step."""

import math
from dataclasses import replace

import pytest
import torch

from rhn.errors import DivergedError, InvalidInputError
from rhn.models.dropout import Masks
from rhn.training.build import build_model
from rhn.training.config import LanguageConfig
from rhn.training.ensemble import Ensemble
from rhn.training.evaluation import zero_states
from rhn.training.language import Training
from rhn.training.language_step import training_step
from tests.rhn.texts import finish, small_corpus

CONFIG = LanguageConfig(
    corpus="text", depth=3, hidden_size=32, init="uniform:0.1", batch_size=8, window=10, epochs=2, drop_output=0.1
)
MIXED = replace(CONFIG, precision="mixed")


def test_a_training_in_mixed_precision_follows_the_one_in_float32():
    exact, mixed = (finish(Training(config, small_corpus(train=400), seeds=(0,))) for config in (CONFIG, MIXED))
    for one, other in zip(exact.curve(0), mixed.curve(0), strict=True):
        assert other.train_nll == pytest.approx(one.train_nll, rel=2e-3)  # measured 1e-4
        assert other.valid_nll == pytest.approx(one.valid_nll, rel=2e-3)
    assert exact.curve(0) != mixed.curve(0), "nothing was rounded"
    assert all(t.dtype == torch.float32 for t in mixed.model(0).state_dict().values())


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_cells_without_mixed_precision_say_so(cell):
    with pytest.raises(InvalidInputError, match="precision"):
        build_model(replace(MIXED, cell=cell, depth=1, transform_bias=None), 50)


@pytest.mark.parametrize(("config", "moves"), [(CONFIG, True), (MIXED, False)], ids=["float32", "mixed"])
def test_a_gradient_beyond_float16_leaves_the_weights_as_they_are(config, moves):
    stack = Ensemble.of([build_model(config, 50)])
    stack.weights["output_weight"].mul_(torch.inf)  # stands for anything that makes a gradient overflow
    before = stack.weights["embedding"].clone()
    tokens = torch.randint(50, (6, 3), generator=torch.Generator().manual_seed(0))
    taken = training_step(stack, tokens, zero_states(stack, 3), Masks.none(1), torch.tensor([0.1]), config)
    assert not taken.norm.isfinite()
    assert torch.equal(stack.weights["embedding"], before) != moves


def test_a_training_whose_every_step_overflows_ends_and_says_so():
    training = Training(MIXED, small_corpus(train=400), seeds=(0,))
    training._stack.weights["output_weight"].mul_(1e6)
    with pytest.raises(DivergedError, match="gradient is not finite"):
        finish(training)


def test_a_single_overflow_is_no_divergence():
    training = Training(MIXED, small_corpus(train=400), seeds=(0,))
    training.run_window()
    training._norm[0] = torch.inf
    training.check()
    finish(training)
    assert all(math.isfinite(epoch.gradient_norm) for epoch in training.curve(0))
