"""Scores of language models: of a text in windows and in one piece, and probabilities that add up
to one.
"""

import functools
import itertools
import math

import numpy as np
import pytest
import torch
from cases import randomize
from tables import for_each

from rhn.data.text import in_rows
from rhn.models import LanguageModel
from rhn.models.dropout import Dropout
from rhn.training import evaluation
from rhn.training.ensemble import Ensemble
from rhn.training.evaluation import ensemble_nll, score
from rhn.training.monte_carlo import monte_carlo_score

V = 6
MODELS = {
    "rhn": {"depth": 3},
    "rhn-tied": {"depth": 2, "tied": True},
    "rhn-stacked": {"depth": 2, "layers": 2},
    "lstm": {"cell": "lstm"},
    "lstm-stacked": {"cell": "lstm", "layers": 3},
}
METHODS = {
    "score": score,
    "monte-carlo": functools.partial(
        monte_carlo_score,
        dropout=Dropout(embedding=0.3, input=0.4, hidden=0.5, output=0.2),
        samples=3,
        window=2,
    ),
}


@pytest.mark.parametrize("options", MODELS.values(), ids=MODELS)
@for_each("window", [1, 7, 64])
def test_windows_score_what_one_unbroken_pass_scores(options, window, monkeypatch):
    monkeypatch.setattr(evaluation, "WINDOW", window)
    model, text = random_model(**options), random_text(150)
    log_p = (
        model(torch.from_numpy(text[:-1]).view(-1, 1)).logits.squeeze(1).log_softmax(-1).detach()
    )
    wanted = -log_p.numpy()[np.arange(149), text[1:]].mean()
    assert score(model, text).nll == pytest.approx(wanted, rel=1e-12)


@for_each("temperature", [1e-3, 0.7, 1, 1e3])
def test_a_temperature_divides_the_logits(temperature):
    model, text = random_model(depth=2), random_text(30)
    logits = model(torch.from_numpy(text[:-1]).view(-1, 1)).logits.squeeze(1).detach()
    log_p = (logits / temperature).log_softmax(-1).numpy()
    wanted = -log_p[np.arange(29), text[1:]].mean()
    assert score(model, text, temperature=temperature).nll == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_the_probabilities_of_all_texts_of_a_length_add_up_to_one(method):
    """So no token is used before it is scored, and what is scored is a probability."""
    model = random_model(vocabulary_size=3, depth=2)
    scores = [
        method(model, np.asarray(np.array([0, *rest])))
        for rest in itertools.product(range(3), repeat=4)
    ]
    assert {result.predicted for result in scores} == {4}
    assert sum(math.exp(-4 * result.nll) for result in scores) == pytest.approx(1, rel=1e-12)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["rhn-tied", "rhn-stacked", "lstm"])
def test_a_gpu_scores_alike_with_its_graphs(name):
    options = MODELS[name]
    models, rows = (
        [random_model(seed, **options) for seed in range(3)],
        in_rows(random_text(400), 2),
    )
    wanted, found = (
        ensemble_nll(Ensemble.of(models, device), rows).tolist() for device in ("cpu", "cuda")
    )
    assert found == pytest.approx(wanted, rel=1e-9)


def test_rows_are_scored_each_from_the_zero_state():
    model, text = random_model(depth=2), random_text(103)
    apart = [score(model, np.asarray(row)).nll for row in text[:100].reshape(4, 25)]
    together = score(model, text, batch_size=4)
    assert together.nll == pytest.approx(np.mean(apart), rel=1e-12)
    assert together.predicted == 4 * 24


def random_text(length, symbols=V):
    """All symbols occur, unequally often."""
    draw = np.random.default_rng(3).random(length)
    return np.asarray((symbols * draw**1.5).astype(np.int64))


def random_model(seed=0, *, vocabulary_size=V, **options):
    model = LanguageModel(
        vocabulary_size=vocabulary_size, hidden_size=7, dtype=torch.float64, **options
    )
    randomize(model, seed, gain=2)
    return model


def test_progress_ends_with_all_tokens():
    model, done = LanguageModel("rnn", vocabulary_size=5, hidden_size=3), []
    tokens = np.arange(700) % 5
    score(model, tokens, batch_size=2, progress=lambda *counts: done.append(counts))
    assert done[-1] == (698, 698) and [n for n, _ in done] == sorted(n for n, _ in done)
