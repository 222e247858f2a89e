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
from rhn.training.language import training_step
from rhn.training.optimizers import SGD
from rhn.training.trainer import Trials
from tests.rhn.texts import finish, small_corpus, text_trainer

CONFIG = LanguageConfig(
    corpus="text", depth=3, hidden_size=32, init="uniform:0.1", batch_size=8, window=10, epochs=2, drop_output=0.1
)
MIXED = replace(CONFIG, precision="mixed")


def test_a_training_in_mixed_precision_follows_the_one_in_float32():
    exact, mixed = (finish(text_trainer(config, small_corpus(train=400))) for config in (CONFIG, MIXED))
    for one, other in zip(exact.curve(0), mixed.curve(0), strict=True):
        assert other[:2] == pytest.approx(one[:2], rel=2e-3)  # measured 1e-4
    assert (exact.curve(0) != mixed.curve(0)).any(), "nothing was rounded"
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
    trials = Trials([0], stack, torch.tensor([0.1]), {}, {})
    taken = training_step(trials, SGD(), tokens, zero_states(stack, 3), Masks.none(1), config)
    assert not taken.norm.isfinite()
    assert torch.equal(stack.weights["embedding"], before) != moves


def test_a_training_whose_every_step_overflows_ends_and_says_so():
    training = text_trainer(MIXED, small_corpus(train=400))
    training._trials.ensemble.weights["output_weight"].mul_(1e6)
    with pytest.raises(DivergedError, match="gradient is not finite"):
        finish(training)


def test_a_single_overflow_is_no_divergence():
    training = text_trainer(MIXED, small_corpus(train=400))
    training.run_step()
    training._log[0, :, 1] = torch.inf
    training.check()
    finish(training)
    assert all(map(math.isfinite, training.curve(0)[:, 3]))
