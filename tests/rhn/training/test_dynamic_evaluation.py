"""Dynamic evaluation equals the equation as a loop, learns from what it has read, and only from that.

That no token is used before it is scored is shown in test_language_evaluation: the probabilities of all texts add up to one.
"""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cases import randomize

from rhn.data.text import Tokens
from rhn.errors import DataError, InvalidInputError
from rhn.models.language import LanguageModel
from rhn.training import dynamic_evaluation as dynamic
from rhn.training.dynamic_evaluation import EPSILON, dynamic_score
from rhn.training.evaluation import score

V = 5
MODELS = {
    "rhn": {"depth": 2},
    "rhn-stacked-tied": {"layers": 2, "tied": True},
    "lstm": {"cell": "lstm"},
}


@pytest.mark.parametrize("options", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("decay", [0, 0.01, 1], ids="decay{}".format)
def test_it_is_the_equation_as_a_loop(options, decay):
    model, text, train = random_model(**options), random_text(43), random_text(905, seed=9)
    got = dynamic_score(model, text, train, segment=4, learning_rate=1e-3, decay=decay)
    scales = naive_rms(model, train.rows(100)[:], 4)
    assert got.nll == pytest.approx(naive_nll(model, text[:], scales, 4, 1e-3, decay), rel=1e-9)
    assert got.nll != pytest.approx(score(model, text).nll, rel=1e-4)
    assert got.predicted == 42


@pytest.mark.parametrize("segment", [1, 5, 64])
def test_without_a_learning_rate_it_is_the_ordinary_score(segment):
    model, text = random_model(layers=2), random_text(130)
    got = dynamic_score(model, text, random_text(1000), segment=segment, learning_rate=0, decay=0.5)
    assert got.nll == pytest.approx(score(model, text).nll, rel=1e-13)


def test_it_learns_a_text_that_the_model_has_never_seen():
    model, text = random_model(), Tokens(np.arange(600) % V)
    adapted = dynamic_score(model, text, random_text(1000), learning_rate=1e-3, decay=0)
    assert adapted.nll < score(model, text).nll - math.log(2)


def test_a_parameter_that_the_loss_does_not_reach_changes_nothing():
    model, text, train = random_model(), random_text(50), random_text(1000)
    expected = dynamic_score(model, text, train, decay=0)
    model.unused = torch.nn.Parameter(torch.ones(3))
    assert dynamic_score(model, text, train, decay=0) == expected


def test_the_model_given_is_not_changed():
    model = random_model()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    dynamic_score(model, random_text(50), random_text(1000), learning_rate=0.1)
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_the_training_text_may_be_as_short_as_one_segment():
    model, text = random_model(), random_text(50)
    assert math.isfinite(dynamic_score(model, text, random_text(6)).nll)
    with pytest.raises(DataError, match="5 tokens do not fill 1 rows of 6"):
        dynamic_score(model, text, random_text(5))


def test_of_a_long_training_text_the_beginning_of_each_row_is_read(monkeypatch):
    monkeypatch.setattr(dynamic, "SEGMENTS", 3)
    model, text, train = random_model(), random_text(50), random_text(100 * 41)
    beginnings = Tokens(train.rows(100)[:, :16].ravel())
    whole, cut = (dynamic_score(model, text, each, learning_rate=1e-3).nll for each in (train, beginnings))
    assert whole == cut
    monkeypatch.setattr(dynamic, "SEGMENTS", 4)
    assert dynamic_score(model, text, train, learning_rate=1e-3).nll != cut


def test_a_text_of_a_single_symbol_costs_nothing():
    model = LanguageModel(vocabulary_size=1, hidden_size=3)
    text = Tokens(np.zeros(50, np.int64))
    assert dynamic_score(model, text, text).nll == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"segment": 0}, "segment must be a whole number of at least 1, got 0"),
        ({"learning_rate": -1e-3}, "the learning rate is -0.001, expected 0 or more"),
        ({"learning_rate": math.nan}, "the learning rate is nan, expected 0 or more"),
        ({"decay": 1.5}, "the decay is 1.5, expected 0 to 1"),
    ],
)
def test_arguments_out_of_range_are_refused(options, message):
    with pytest.raises(InvalidInputError, match=message):
        dynamic_score(random_model(), random_text(50), random_text(1000), **options)


def random_text(length, seed=4):
    return Tokens(np.random.default_rng(seed).integers(V, size=length))


def random_model(**options):
    model = LanguageModel(vocabulary_size=V, hidden_size=6, dtype=torch.float64, **options)
    randomize(model)
    return model


def naive_segments(model, weights, rows, segment):
    """(summed nll, gradients of the mean by name) of each segment of rows (B, N), with the weights as the caller has them then."""
    columns, states = torch.from_numpy(rows).t(), None
    for start in range(0, len(columns) - 1, segment):
        inputs = columns[start : start + segment + 1]
        leaves = {name: w.detach().clone().requires_grad_() for name, w in weights.items()}
        reading = torch.func.functional_call(model, leaves, (inputs[:-1], states))
        states = tuple(s.detach() for s in reading.states)
        loss = F.nll_loss(reading.logits.log_softmax(-1).flatten(0, 1), inputs[1:].flatten())
        gradients = torch.autograd.grad(loss, leaves.values())
        yield loss.item() * (len(inputs) - 1), dict(zip(leaves, gradients, strict=True))


def naive_rms(model, rows, segment):
    weights = dict(model.named_parameters())
    found = [gradients for _, gradients in naive_segments(model, weights, rows, segment)]
    return {name: torch.stack([gradients[name] ** 2 for gradients in found]).mean(0).sqrt() for name in weights}


def naive_nll(model, text, scales, segment, rate, decay):
    first = {name: p.detach().clone() for name, p in model.named_parameters()}
    weights, total = dict(first), 0.0
    mean = np.mean([r.mean().item() for r in scales.values()])
    for nll, gradients in naive_segments(model, weights, text[None], segment):
        total += nll
        for name, w in list(weights.items()):
            back, divisor = torch.clamp(decay * scales[name] / mean, max=1), scales[name] + EPSILON
            weights[name] = w + back * (first[name] - w) - rate * gradients[name] / divisor
    return total / (len(text) - 1)
